import math

import pytest
import torch
import torchvision
from torch.nn import functional

from resnetctl.model.network import ResNet
from resnetctl.model.resnet import (
    BlurConv2d,
    BlurMaxPool2d,
    _kernel,
    blurred,
    build_model,
    parameter_groups,
    sum_of_shifted,
)
from resnetctl.recipe import ARCHITECTURES, ModelRecipe


def drawn(recipe: ModelRecipe, classes: int = 10) -> torch.nn.Module:
    torch.manual_seed(3)
    return build_model(recipe, classes)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("blurpool", [False, True])
def test_tensors_load_into_torchvisions_model_of_the_same_name(arch: str, blurpool: bool) -> None:
    ours = build_model(ModelRecipe(arch=arch, blurpool=blurpool), 7)
    theirs = getattr(torchvision.models, arch)(num_classes=7)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_a_plain_model_computes_what_torchvisions_does() -> None:
    ours = drawn(ModelRecipe(zero_init_residual=False)).eval()
    torch.manual_seed(3)
    theirs = torchvision.models.resnet50(num_classes=10).eval()
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_weights_and_outputs_have_torchvisions_bits(arch: str, zeros: bool) -> None:
    torch.manual_seed(3)
    theirs = getattr(torchvision.models, arch)(num_classes=7, zero_init_residual=zeros)
    torch.manual_seed(3)
    ours = ResNet(arch, 7, zero_init_residual=zeros)
    expected, found = theirs.state_dict(), ours.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    images = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    assert torch.equal(ours(images), theirs(images))


def test_blurpool_draws_the_same_initial_weights() -> None:
    plain, blurred = drawn(ModelRecipe()), drawn(ModelRecipe(blurpool=True))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), blurred.parameters(), strict=True))
    images = torch.rand(2, 3, 64, 64)
    assert not torch.allclose(plain.eval()(images), blurred.eval()(images))


@pytest.mark.parametrize(("arch", "count"), [("resnet18", 6), ("resnet50", 6)])
def test_all_strided_convolutions_but_the_first_are_blurred(arch: str, count: int) -> None:
    network = build_model(ModelRecipe(arch=arch, blurpool=True), 5)
    blurred = {name for name, module in network.named_modules() if isinstance(module, BlurConv2d)}
    # a strided 3×3 and a strided shortcut in each of the stages 2, 3 and 4
    assert len(blurred) == count
    strided = {
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d) and max(module.stride) > 1
    }
    assert strided - blurred == {"conv1"}


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 1)])
@pytest.mark.parametrize("size", [14, 15])
def test_the_blur_is_the_published_one(kernel: int, padding: int, size: int) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(16, 8, kernel, stride=2, padding=padding, bias=False)
    x = torch.randn(2, 16, size, size)
    # arXiv:1904.11486: [1, 2, 1] ⊗ [1, 2, 1] / 16, written out as a sum of shifted images
    padded = functional.pad(x, (1, 1, 1, 1))
    weights = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    expected = sum(weights[i][j] / 16 * padded[:, :, i : i + size, j : j + size] for i in range(3) for j in range(3))
    torch.testing.assert_close(BlurConv2d.of(conv)(x), conv(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sum_of_shifted_images_has_the_values_of_the_convolution(dtype: torch.dtype, stride: int) -> None:
    x = torch.randn(2, 32, 15, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    expected = blurred(x, _kernel(32, x), stride)
    torch.testing.assert_close(sum_of_shifted(x, stride), expected, rtol=1e-6, atol=5e-7)


def test_the_max_pool_is_blurred_where_the_recipe_says_so() -> None:
    network = drawn(ModelRecipe(arch="resnet18", blurpool=True, blurpool_max=True)).eval()
    x = torch.randn(2, 64, 15, 15)
    # as Composer's BlurMaxPool2d: maxima at every pixel, blurred, every second one kept
    maxima = functional.pad(functional.max_pool2d(x, 3, stride=1, padding=1), (1, 1, 1, 1))
    weights = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    expected = sum(weights[i][j] / 16 * maxima[:, :, i : i + 15, j : j + 15] for i in range(3) for j in range(3))
    assert isinstance(network.maxpool, BlurMaxPool2d)
    torch.testing.assert_close(network.maxpool(x), expected[:, :, ::2, ::2], rtol=1e-4, atol=1e-5)
    plain = drawn(ModelRecipe(arch="resnet18"))
    assert list(network.state_dict()) == list(plain.state_dict())


def test_blurpool_is_less_sensitive_to_a_shift_by_one_pixel() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(16, 16, 1, stride=2, bias=False)
    x = torch.randn(4, 16, 32, 32)
    shifted = torch.roll(x, 1, dims=3)

    def change(module: torch.nn.Module) -> float:
        with torch.no_grad():
            inner = (module(shifted) - module(x))[..., 2:-2, 2:-2]
            return float(inner.norm() / module(x)[..., 2:-2, 2:-2].norm())

    assert change(BlurConv2d.of(conv)) < 0.8 * change(conv)


def test_a_blurred_model_trains_in_channels_last_and_bfloat16() -> None:
    network = build_model(ModelRecipe(arch="resnet18", blurpool=True), 4).to(memory_format=torch.channels_last)
    images = torch.rand(4, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        loss = functional.cross_entropy(network(images), torch.arange(4))
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


def test_zero_initialised_residuals_start_as_the_identity() -> None:
    network = drawn(ModelRecipe(zero_init_residual=True))
    x = torch.randn(2, 256, 8, 8).relu()
    assert torch.equal(network.layer1[1](x), x)
    assert not torch.equal(drawn(ModelRecipe(zero_init_residual=False)).layer1[1](x), x)


def test_convolutions_start_with_the_fan_of_their_inputs() -> None:
    network = drawn(ModelRecipe(conv_init="fan-in"))
    convolution = network.layer4[0].conv1  # 1024 channels to 512
    assert float(convolution.weight.detach().std()) == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    assert float(drawn(ModelRecipe()).layer4[0].conv1.weight.detach().std()) == pytest.approx(
        (2 / 512) ** 0.5, rel=0.02
    )


def test_batch_norms_start_uniform_but_for_those_at_zero() -> None:
    network = drawn(ModelRecipe(norm_init="uniform"))
    first, last = network.layer4[0].bn2.weight.detach(), network.layer4[0].bn3.weight
    assert 0 <= float(first.min()) < 0.05
    assert 0.95 < float(first.max()) <= 1
    assert float(first.mean()) == pytest.approx(0.5, abs=0.05)
    assert not last.any()
    assert drawn(ModelRecipe(norm_init="uniform", zero_init_residual=False)).layer4[0].bn3.weight.all()


def test_the_last_layer_starts_as_the_recipe_says() -> None:
    normal = drawn(ModelRecipe(head_init="normal"), 1000).fc
    assert float(normal.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert not normal.bias.any()
    fan_in = drawn(ModelRecipe(head_init="fan-in", head_bias="-log-classes"), 1000).fc
    assert float(fan_in.weight.detach().std()) == pytest.approx((2 / 2048) ** 0.5, rel=0.02)
    assert torch.equal(fan_in.bias, torch.full((1000,), -math.log(1000)))
    plain = drawn(ModelRecipe(head_bias="-log-classes"), 1000).fc
    assert torch.equal(plain.weight, drawn(ModelRecipe(), 1000).fc.weight)


@pytest.mark.parametrize(
    ("no_decay", "spared"),
    # resnet18: 20 batch norms with a weight and a bias each, and the bias of the last layer
    [("nothing", 0), ("norm", 40), ("named-bn", 34), ("norm-and-bias", 41)],
)
def test_weight_decay_leaves_out_what_the_recipe_says(no_decay: str, spared: int) -> None:
    network = build_model(ModelRecipe(arch="resnet18"), 3)
    groups = parameter_groups(network, 0.1, no_decay)
    by_decay = {group["weight_decay"]: group["params"] for group in groups}
    assert len(by_decay.get(0.0, [])) == spared
    assert len(by_decay[0.1]) == 62 - spared
    every = [id(p) for group in groups for p in group["params"]]
    assert sorted(every) == sorted(id(p) for p in network.parameters())
    torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def test_weight_decay_groups_move_parameters_as_sgd_says() -> None:
    network = build_model(ModelRecipe(arch="resnet18"), 3)
    optimizer = torch.optim.SGD(parameter_groups(network, 0.5, "norm"), lr=0.1)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        factor = 1.0 if "bn" in name or "downsample.1" in name else 1 - 0.1 * 0.5
        torch.testing.assert_close(parameter.detach(), before[name] * factor, msg=name)
