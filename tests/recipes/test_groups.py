"""Which parameters each preset decays, against the source's own rule."""

from collections.abc import Callable

import pytest
import torch
import torchvision

from resnetctl.model.resnet import build_model, parameter_groups
from resnetctl.recipe import load_recipe

Rule = Callable[[torch.nn.Module], set[str]]


def everything(model: torch.nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters()}


def without_bn_in_the_name(model: torch.nn.Module) -> set[str]:
    """train_imagenet.py of ffcv-imagenet and optimizers.py of NVIDIA's examples: `"bn" in name` has none."""
    return {name for name, _ in model.named_parameters() if "bn" not in name}


def without_batch_norm(model: torch.nn.Module) -> set[str]:
    """arXiv:1706.02677, 5.1: no weight decay on the learnable coefficients of batch norm."""
    norms = {id(p) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) not in norms}


def by_torchvision(model: torch.nn.Module) -> set[str]:
    """references/classification: set_weight_decay with --norm-weight-decay 0 goes by torchvision's own helper."""
    _, others = torchvision.ops._utils.split_normalization_params(model)
    decayed = {id(parameter) for parameter in others}
    return {name for name, parameter in model.named_parameters() if id(parameter) in decayed}


def by_timm(model: torch.nn.Module) -> set[str]:
    """timm's train.py: biases and all that has one dimension are left out."""
    groups = pytest.importorskip("timm.optim").param_groups_weight_decay(model, weight_decay=0.02)
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in decayed}


SOURCES: dict[str, Rule] = {
    "torchvision-v1": everything,
    "torchvision-v2": by_torchvision,
    "goyal": without_batch_norm,
    "nvidia-90": without_bn_in_the_name,
    "nvidia-250": without_bn_in_the_name,
    "fast": without_bn_in_the_name,
    "composer-mild": everything,
    "rsb-a1": by_timm,
    "rsb-a2": by_timm,
    "rsb-a3": by_timm,
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_groups_are_those_of_the_source(name: str) -> None:
    recipe = load_recipe(name)
    model = build_model(recipe.model, 1000)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    o = recipe.optimizer
    decays = {
        names[id(parameter)]: group["weight_decay"]
        for group in parameter_groups(model, o.weight_decay, o.no_decay, o.backbone_lr)
        for parameter in group["params"]
    }
    decayed = SOURCES[name](torchvision.models.resnet50())
    assert decays == {name: o.weight_decay if name in decayed else 0.0 for name in names.values()}
