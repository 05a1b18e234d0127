"""Devices and arithmetic: chosen where they exist, named where they do not."""

import hashlib
import os
import platform
import resource
import sysconfig
from pathlib import Path

import pytest
import torch

from resnetctl.data.batches.batch import Batch
from resnetctl.engine.device import (
    KINDS,
    PRECISION_NAMES,
    available,
    choose_device,
    choose_precision,
    compile_or_why_not,
    keep_freed_memory,
    out_of_memory,
    rank_device,
    set_deterministic,
    synchronise,
)
from resnetctl.engine.trainer import Trainer
from resnetctl.errors import ResnetctlError, UsageError
from resnetctl.recipe import Override, load_recipe
from tests.process import call

CPU = torch.device("cpu")
MISSING = [kind for kind in ("cuda", "xpu", "mps") if kind not in available()]


def test_the_cpu_is_always_there_and_the_last_choice():
    assert available()[-1] == "cpu"
    assert choose_device("cpu") == CPU
    assert choose_device("cpu:0").type == "cpu"
    assert choose_device("auto").type == available()[0]
    synchronise(choose_device("auto"))


@pytest.mark.parametrize(
    "name", ["", "cpu:", "cuda:", "cuda:x", "cuda:-1", "cuda:1.5", "cuda:0:0", "gpu", "CPU", "cuda:٣"]
)
def test_what_is_no_device_is_named(name):
    with pytest.raises(UsageError, match="unknown device") as caught:
        choose_device(name)
    assert all(kind in caught.value.hint for kind in KINDS)


def test_a_misspelt_device_gets_a_guess():
    with pytest.raises(UsageError, match="did you mean cuda"):
        choose_device("cud")


@pytest.mark.parametrize("kind", MISSING)
def test_a_device_that_this_machine_has_not(kind):
    for name in (kind, f"{kind}:3"):
        with pytest.raises(UsageError, match=f"torch finds no {kind} device") as caught:
            choose_device(name)
        assert "--device auto" in caught.value.hint


@pytest.mark.parametrize("name", ["cpu:1", "cpu:00001", *[f"{k}:{10**6}" for k in available() if k != "mps"]])
def test_a_number_too_high(name):
    with pytest.raises(UsageError, match="this machine has"):
        choose_device(name)


def test_ranks_share_the_cpu_alone():
    assert rank_device("cpu", 3, 4) == CPU
    assert rank_device("cpu", 0, 1) == CPU
    with pytest.raises(UsageError, match="several ranks cannot share"):
        rank_device("cpu:0", 1, 2)


def test_precisions():
    assert choose_precision("fp32", CPU) is torch.float32
    assert choose_precision("bf16", CPU) is torch.bfloat16
    assert choose_precision("fp16", torch.device("cuda")) is torch.float16
    assert choose_precision("auto", CPU) in (torch.bfloat16, torch.float32)
    assert choose_precision("auto", torch.device("mps")) is torch.float32
    with pytest.raises(UsageError, match="fp16 needs a CUDA device") as caught:
        choose_precision("fp16", CPU)
    assert "train.precision=bf16" in caught.value.hint
    assert set(PRECISION_NAMES.values()) == {"bf16", "fp16", "fp32"}


def test_automatic_bf16_on_the_cpu_follows_the_hardware():
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fast = "avx512_bf16" in flags or "amx_tile" in flags
    assert (choose_precision("auto", CPU) is torch.bfloat16) == fast


def test_compiling_needs_a_compiler(tmp_path, monkeypatch):
    cuda = torch.device("cuda")
    assert compile_or_why_not("off", cuda) == ""
    assert compile_or_why_not("auto", CPU) == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "gcc" in compile_or_why_not("auto", cuda)
    with pytest.raises(UsageError, match="no C compiler") as caught:
        compile_or_why_not("on", cuda)
    assert "train.compile=off" in caught.value.hint
    (tmp_path / "gcc").touch(0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert "python3-dev" in compile_or_why_not("auto", cuda)
    (tmp_path / "Python.h").touch()
    assert compile_or_why_not("auto", cuda) is None
    assert compile_or_why_not("on", CPU) is None


def test_a_real_failed_allocation_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 46)
    error = out_of_memory(caught.value, 64, 256, 224)
    assert isinstance(error, ResnetctlError)
    assert "64 images of 224 pixels" in error.message


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), KeyError("x"), OSError(28, os.strerror(28))])
def test_other_errors_are_not_taken_for_it(error):
    assert out_of_memory(error, 64, 256, 224) is None


@pytest.mark.parametrize(("micro", "share", "fits"), [(64, 256, 32), (48, 96, 24), (45, 90, 18), (7, 7, 1), (2, 2, 1)])
def test_the_hint_names_a_batch_that_divides(micro, share, fits):
    assert share % fits == 0
    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError()):
        hint = out_of_memory(error, micro, share, 224).hint
        assert f"train.micro_batch={fits} " in hint
        assert "--resume" in hint
    assert "smaller model" in out_of_memory(MemoryError(), 1, share, 224).hint


def page_faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(64 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def count_page_faults() -> None:
    before = page_faults()
    keep_freed_memory(CPU)
    print(before, min(page_faults() for _ in range(8)))  # the first ones still ask for more


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no mallopt")
def test_a_step_on_the_cpu_uses_the_memory_of_the_step_before():
    """In a process of its own: the setting stays."""
    before, after = map(int, call(count_page_faults).stdout.split())
    assert after < before / 10


def test_deterministic_algorithms_are_set_for_a_recipe_that_asks_and_taken_back():
    def recipe(*wishes: Override):
        return load_recipe("small", overrides=[Override("model.arch", "resnet18", "test"), *wishes])

    try:
        Trainer(recipe(Override("train.deterministic", True, "test")), 2, CPU, torch.float32)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        Trainer(recipe(), 2, CPU, torch.float32)
        assert not torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.deterministic
    finally:
        set_deterministic(False)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def twenty_steps() -> None:
    """Print a hash of what twenty deterministic steps on a GPU leave."""
    recipe = load_recipe("small", overrides=[Override("train.deterministic", True, "test")])
    trainer = Trainer(recipe, 10, torch.device("cuda"), torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 64, 64), dtype=torch.uint8, generator=generator)
    batch = Batch(images, torch.randint(0, 10, (64,), generator=generator), torch.zeros(0, dtype=torch.int64))
    for _ in range(20):
        trainer.step(iter([batch]), 1, 0.1)
    digest = hashlib.sha256()
    for tensor in trainer.tensors().values():
        digest.update(tensor.float().cpu().numpy().tobytes())
    print(digest.hexdigest())


@pytest.mark.gpu
def test_steps_on_a_gpu_have_the_same_bits_where_the_recipe_asks_for_it():
    """A step that has no deterministic algorithm would raise RuntimeError."""
    first, second = call(twenty_steps), call(twenty_steps)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
