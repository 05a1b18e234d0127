"""The faster ways through a training step compute what the plain one does."""

import shutil

import pytest
import torch

from resnetctl.data.batches.batch import Batch
from resnetctl.engine import bench
from resnetctl.engine.trainer import Trainer
from resnetctl.recipe import Override, load_recipe

CPU = torch.device("cpu")


def recipe(**values):
    given = {"model.arch": "resnet18", "train.precision": "fp32", "train.global_batch": 4, "train.epochs": 10}
    given |= {key.replace("__", "."): value for key, value in values.items()}
    return load_recipe("small", overrides=[Override(k, v, "test") for k, v in given.items()])


def batches(*sizes):
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        images = torch.randint(0, 256, (4, size, size, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
        yield Batch(images, torch.arange(4), torch.zeros(0, dtype=torch.int64))


def losses(trainer, *sizes):
    found, given = [], batches(*sizes)
    for _ in sizes:
        trainer.step(0, given, 1, 0.01)
        found.append(trainer.take(trainer.loss_sum, 1))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcc"), reason="torch.compile needs a C compiler")
def test_compiled_once_for_each_resolution():
    from torch._dynamo.utils import counters

    made = recipe(data__train_size_start=32, data__train_size=64, data__train_size_ramp=[0.5, 0.5])
    plain, compiled = Trainer(made, 10, CPU, torch.float32), Trainer(made, 10, CPU, torch.float32)
    counters.clear()
    compiled.compile()
    sizes = (32, 32, 64, 64, 32)
    assert losses(compiled, *sizes) == pytest.approx(losses(plain, *sizes), rel=1e-3)
    assert counters["stats"]["unique_graphs"] == 2


def test_more_resolutions_than_torch_compiles_by_default():
    made = recipe(data__train_size_start=32, data__train_size=640, data__train_size_ramp=[0.0, 1.0], train__epochs=40)
    trainer = Trainer(made, 10, CPU, torch.float32)
    before = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = 8  # torch's default
    try:
        trainer.compile()
        assert torch._dynamo.config.recompile_limit >= 20
    finally:
        torch._dynamo.config.recompile_limit = before


def test_steps_do_not_depend_on_how_often_they_were_run():
    made = recipe(train__precision="bf16")
    first, second = (losses(Trainer(made, 10, CPU, torch.bfloat16), 64, 32, 64) for _ in range(2))
    assert first == second


@pytest.mark.gpu
def test_the_gpu_computes_what_the_cpu_does():
    made = recipe()
    there = losses(Trainer(made, 10, torch.device("cuda"), torch.float32), 64, 32, 64)
    assert there == pytest.approx(losses(Trainer(made, 10, CPU, torch.float32), 64, 32, 64), rel=1e-2)


@pytest.mark.gpu
def test_a_compiled_step_on_the_gpu_computes_what_a_plain_one_does():
    """With BlurPool, which is a convolution in the plain one and a sum of shifted images in the compiled one."""
    made = recipe(model__blurpool=True, data__train_size_start=32, data__train_size=64)
    plain, compiled = (Trainer(made, 10, torch.device("cuda"), torch.float32) for _ in range(2))
    compiled.compile()
    compiled.rehearse(4, 64)
    assert losses(compiled, 32, 64, 32) == pytest.approx(losses(plain, 32, 64, 32), rel=1e-2)


@pytest.mark.gpu
def test_a_step_on_the_gpu_never_waits_for_it():
    trainer = Trainer(recipe(train__precision="bf16"), 10, torch.device("cuda"), torch.bfloat16)
    losses(trainer, 64)
    given = (Batch(b.images.pin_memory(), b.labels.pin_memory(), b.unreadable) for b in batches(64, 64))
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(0, given, 2, 0.01)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_the_rates_of_a_gpu_are_told():
    found = bench.measure_model(recipe(train__precision="bf16"), 10, device=torch.device("cuda"), seconds=1.0)
    print(f"{torch.cuda.get_device_name()}: {found}")
    assert found.memory_bytes
    assert found.rate.median < found.bound
