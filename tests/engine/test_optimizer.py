"""Each optimizer against the object that its recipe is taken from, and what a checkpoint keeps of it."""

import copy

import pytest
import torch

from resnetctl.engine.optimizer import build_optimizer, optimizer_tensors, prepare_step
from resnetctl.model.resnet import build_model
from resnetctl.recipe import ModelRecipe, Override, load_recipe

CPU = torch.device("cpu")
LR = (0.1, 0.05, 0.2)


def recipe(**optimizer):
    values = {"lr": 0.2, "lr_batch": 0, "weight_decay": 0.01, "nesterov": False} | optimizer
    return load_recipe("small", overrides=[Override(f"optimizer.{k}", v, "test") for k, v in values.items()])


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(ModelRecipe(arch="resnet18", zero_init_residual=False), 4)


def gradients(model: torch.nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator) * 0.1


def after_steps(model, optimizer, first=0) -> list[torch.Tensor]:
    for number, lr in enumerate(LR[first:], first):
        gradients(model, number)
        prepare_step(optimizer, number, lr)
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def theirs_after_steps(model, optimizer) -> list[torch.Tensor]:
    for number, lr in enumerate(LR):
        gradients(model, number)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(nesterov):
    ours, theirs = network(), network()
    sgd = torch.optim.SGD(theirs.parameters(), lr=1.0, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    expected = theirs_after_steps(theirs, sgd)
    found = after_steps(ours, build_optimizer(ours, recipe(nesterov=nesterov), CPU))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, False), (0.9, True), (0.0, False)])
def test_sgd_has_the_bits_of_torchs_fused_one(momentum, nesterov):
    ours, theirs = network(), network()
    sgd = torch.optim.SGD(
        theirs.parameters(), lr=1.0, momentum=momentum, nesterov=nesterov, weight_decay=0.01, fused=True
    )
    expected = theirs_after_steps(theirs, sgd)
    found = after_steps(ours, build_optimizer(ours, recipe(momentum=momentum, nesterov=nesterov), CPU))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_adamw_is_torchs():
    ours, theirs = network(), network()
    adamw = torch.optim.AdamW(theirs.parameters(), lr=1.0, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.01)
    expected = theirs_after_steps(theirs, adamw)
    values = {"name": "adamw", "betas": (0.8, 0.95), "eps": 1e-6}
    found = after_steps(ours, build_optimizer(ours, recipe(**values), CPU))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_lamb_is_timms():
    lamb = pytest.importorskip("timm.optim.lamb").Lamb
    ours, theirs = network(), network()
    decayed = [p for p in theirs.parameters() if p.ndim > 1]
    spared = [p for p in theirs.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": spared, "weight_decay": 0.0}]
    expected = theirs_after_steps(theirs, lamb(groups, lr=1.0, eps=1e-6))
    found = after_steps(
        ours, build_optimizer(ours, recipe(name="lamb", eps=1e-6, no_decay="norm-and-bias", momentum=0.0), CPU)
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_decoupled_sgd_is_composers_rule():
    """w ← w (1 - lr / peak × decay); m ← 0.9 m + g; w ← w - lr m (composer/optim/decoupled_weight_decay.py)."""
    ours, theirs = network(), network()
    momenta = [torch.zeros_like(p) for p in theirs.parameters()]
    for number, lr in enumerate(LR):
        gradients(theirs, number)
        with torch.no_grad():
            for p, m in zip(theirs.parameters(), momenta, strict=True):
                p.mul_(1 - lr / 0.2 * 0.01)
                m.mul_(0.9).add_(p.grad)
                p.sub_(lr * m)
    found = after_steps(ours, build_optimizer(ours, recipe(name="sgdw"), CPU))
    for a, b in zip(found, theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach())


@pytest.mark.parametrize("name", ["sgd", "sgdw", "adamw", "lamb"])
def test_what_is_kept_goes_on_to_the_same_bits(name):
    if name == "lamb":
        pytest.importorskip("timm")
    wanted = recipe(name=name, momentum=0.9)
    whole = network()
    expected = after_steps(whole, build_optimizer(whole, wanted, CPU))
    first = network()
    optimizer = build_optimizer(first, wanted, CPU)
    for number in (0, 1):
        gradients(first, number)
        prepare_step(optimizer, number, LR[number])
        optimizer.step()
    saved = {k: t.clone() for k, t in optimizer_tensors(optimizer, first).items()}
    second = copy.deepcopy(first)
    resumed = build_optimizer(second, wanted, CPU)
    kept = optimizer_tensors(resumed, second)
    assert kept.keys() == saved.keys()
    for k, tensor in kept.items():
        tensor.copy_(saved[k])
    found = after_steps(second, resumed, first=2)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_skipped_first_step_in_fp16_leaves_momenta_of_zero():
    """GradScaler calls a fused step even where the gradient is infinite; its new memory would stay as it was."""
    model = network()
    optimizer = build_optimizer(model, recipe(), CPU)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.full_like(p, torch.inf)
    scaler.scale(torch.zeros(()))  # makes the scale
    prepare_step(optimizer, 0, 0.1)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 1.0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(not m.any() for m in optimizer_tensors(optimizer, model).values())


def test_the_backbone_has_a_rate_of_its_own():
    model = network()
    optimizer = build_optimizer(model, recipe(backbone_lr=0.1, no_decay="norm"), CPU)
    prepare_step(optimizer, 0, 0.5)
    head = {id(p) for p in model.fc.parameters()}
    for group in optimizer.param_groups:
        for p in group["params"]:
            assert group["lr"] == pytest.approx(0.5 if id(p) in head else 0.05)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))


def test_without_momentum_nothing_is_kept():
    model = network()
    assert optimizer_tensors(build_optimizer(model, recipe(momentum=0.0), CPU), model) == {}
