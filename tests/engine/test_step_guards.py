"""What makes a step slow on a GPU, and can be seen without one: waiting for values, and compiling again."""

import json
from functools import partial
from itertools import count

import pytest
import torch
from torch._dynamo.utils import counters

from resnetctl.data.batches.batch import Batch
from resnetctl.distributed.group import ALONE
from resnetctl.engine.trainer import Trainer
from resnetctl.recipe import Override, load_recipe
from tests.operations import Operations
from tests.process import call

CPU = torch.device("cpu")
WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::item", "aten::is_nonzero", "aten::equal"}
BATCH = 4


def trainer(name: str, precision: torch.dtype = torch.bfloat16, **values: object) -> Trainer:
    given = {"model.arch": "resnet18", "train.global_batch": BATCH} | {
        key.replace("__", "."): value for key, value in values.items()
    }
    return Trainer(load_recipe(name, overrides=[Override(k, v, "test") for k, v in given.items()]), 10, CPU, precision)


def batches(size: int, *, erased: bool = False):
    generator = torch.Generator().manual_seed(0)
    for _ in count():
        pixels = torch.randint(0, 256, (BATCH, size, size, 3), dtype=torch.uint8, generator=generator)
        boxes = torch.tensor([[2, 3, 9, 8]] * BATCH) if erased else torch.empty((0, 4), dtype=torch.int64)
        yield Batch(pixels.permute(0, 3, 1, 2), torch.arange(BATCH), torch.empty(0, dtype=torch.int64), boxes)


RECIPES = {
    "cross-entropy": ("small", {}),
    "smoothing and BlurPool": ("fast", {}),
    "mixup and cutmix": ("small", {"train__mixup_alpha": 0.2, "train__cutmix_alpha": 1.0}),
    "binary cross-entropy": ("small", {"train__loss": "bce", "train__bce_threshold": 0.2}),
    "binary cross-entropy, mixed": ("small", {"train__loss": "bce", "train__mixup_alpha": 0.2}),
    "erasing, drop-path, average, clipping": (
        "small",
        {"data__random_erase": 0.5, "model__drop_path": 0.1, "ema__every_steps": 1, "train__clip_grad_norm": 1.0},
    ),
    "AdamW": ("small", {"optimizer__name": "adamw", "optimizer__nesterov": False}),
}


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=["bf16", "fp16 with its scaler"])
@pytest.mark.parametrize("case", RECIPES)
def test_a_step_never_looks_at_a_value(case, precision):
    """Each look would wait until a GPU has done all its work; a mask as an index has to be counted first."""
    name, values = RECIPES[case]
    made = trainer(name, precision, **values)
    given = batches(32, erased=bool(made.recipe.data.random_erase))
    made.step(0, given, 1, 0.01)
    with Operations() as seen:
        made.step(1, given, 2, 0.01)
        made.update_average(0.9)
    assert seen.counts().keys() & WAITS == set()
    assert [index.dtype for index in seen.indices() if index.dtype in (torch.bool, torch.uint8)] == []


def test_a_look_at_a_value_would_be_seen():
    made = trainer("small")
    made.step(0, batches(32), 1, 0.01)
    with Operations() as seen:
        made.take(made.loss_sum, 1)
    assert "aten::_local_scalar_dense" in seen.counts()


# --- graphs ---------------------------------------------------------------------------------------------------------


def count_graphs(arch: str, ranks: str) -> None:
    """Print how many graphs there are after a start at 64 px, and after steps at 32 and 64; and what broke them."""
    torch.compile = partial(torch.compile, backend="aot_eager")
    sizes = {"data__train_size_start": 32, "data__train_size": 64}
    made = trainer("fast", model__arch=arch, **sizes)
    if ranks == "one of several":
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        made._parallel = ALONE.wrap_ddp(made._plain, CPU)
    made.compile()
    graphs = []
    made.rehearse(BATCH, 64, 2)
    for size in (64, 32, 32, 64, 32):
        graphs.append(counters["stats"]["unique_graphs"])
        made.step(0, batches(size), 1, 0.01)
    graphs.append(counters["stats"]["unique_graphs"])
    print(json.dumps([graphs, dict(counters["graph_break"])]))


@pytest.mark.parametrize(
    ("arch", "ranks"),
    [
        ("resnet50", "alone"),
        ("resnet18", "one of several"),
        pytest.param("resnet50", "one of several", marks=pytest.mark.slow),
    ],
)
def test_fast_is_one_graph_a_size_and_none_later(arch, ranks):
    done = call(count_graphs, arch, ranks)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[1, 1, 2, 2, 2, 2], {}]


def test_another_mix_is_no_other_graph(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    made = trainer("small", train__mixup_alpha=0.2, train__cutmix_alpha=1.0, data__train_size=32)
    torch._dynamo.reset()
    counters.clear()
    made.compile()
    made.rehearse(BATCH, 32)
    for number in range(6):
        made.step(number, batches(32), 1, 0.01)
    assert counters["stats"]["unique_graphs"] == 1


# --- the rehearsal --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["smoothing and BlurPool", "erasing, drop-path, average, clipping"])
def test_a_rehearsal_leaves_every_bit_as_it_was(case):
    name, values = RECIPES[case]
    rehearsed, plain = (trainer(name, **values) for _ in range(2))
    torch.manual_seed(5)
    rehearsed.rehearse(BATCH, 64, 2)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1)), "nothing was drawn from the generator"
    assert all(p.grad is None for p in rehearsed.model.parameters())
    for made in (rehearsed, plain):
        given = batches(32, erased=bool(made.recipe.data.random_erase))
        for number in range(2):
            made.step(number, given, 1, 0.01)
            made.update_average(0.9)
    one, other = rehearsed.tensors(), plain.tensors()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_a_rehearsal_is_a_whole_step_with_all_that_the_recipe_adds():
    """Its gradients lie in memory during the second pass, as they do where a step has several micro-batches."""
    made = trainer("small", train__mixup_alpha=0.2, data__random_erase=0.5)
    seen = []
    loss = made.loss

    def look(batch, mix):
        seen.append((batch.images.shape[-1], len(batch.erased), mix is None, made.model.fc.weight.grad is None))
        return loss(batch, mix)

    made.loss = look
    made.rehearse(BATCH, 64, 8)
    assert seen == [(64, BATCH, False, True), (64, BATCH, False, False)]
