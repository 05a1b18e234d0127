"""What is exported, opened by other programs as their users would, on the same pictures."""

import json

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from resnetctl.data.dataset import load_dataset
from resnetctl.data.images.decode import decode
from resnetctl.data.prepare import prepare
from resnetctl.engine.export import check_images, compare, describe, export
from resnetctl.engine.models import Asked, find_model
from resnetctl.errors import DataError, ResnetctlError, UsageError
from resnetctl.model.description import KEY, read_description
from resnetctl.model.exported import Opened
from resnetctl.recipe import Override
from resnetctl.runs.metadata import Evaluation
from tests.fixtures.models import network, write_run

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FP32 = Override("train.precision", "fp32", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The sample and a run whose network has its classes."""
    root = tmp_path_factory.mktemp("export")
    prepare(root / "data", kind="sample")
    info = load_dataset(root / "data").val().info
    write_run(root / "runs", "first", info.classes, class_names=info.class_names)
    return root


def find(root, which=None, **asked):
    def no_data():
        raise DataError("no data set")

    return find_model(
        which,
        Asked(runs=root / "runs", device=torch.device("cpu"), classes=no_data, overrides=(FP32,), **asked),
    )


def images_for(root, model, count=40):
    return check_images(model, root / "data", count, lambda text: None)


@pytest.fixture(scope="module")
def first(root):
    """The model, the pictures on which it is compared, and by hand: its outputs, and what it has right of them."""
    model = find(root, "first")
    images = images_for(root, model)
    plain = torchvision.models.resnet18(num_classes=10)
    plain.load_state_dict(network(10).state_dict())
    with torch.inference_mode():
        logits = plain.eval()(normalised(images.pixels))
    return model, images, logits, int((logits.argmax(1) == images.labels).sum())


def normalised(pixels):
    return torchvision.transforms.functional.normalize(pixels.float() / 255, MEAN, STD)


def answers(first, logits):
    """Whether `logits` are those that were computed by hand, and as often right."""
    _, images, wanted, correct = first
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-4)
    return int((logits.argmax(1) == images.labels).sum()) == correct


def test_the_pictures_are_spread_over_the_whole_split(root, first):
    _, images, _, correct = first
    assert images.pixels.shape == (40, 3, 32, 32)
    assert sorted(set(images.labels.tolist())) == list(range(10))
    assert 0 < correct < 40  # else the comparison would say little


def test_torchvision_reads_the_safetensors(first, tmp_path):
    done = export(first[0], "safetensors", tmp_path / "m.safetensors", first[1])
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.load_state_dict(load_file(done.path), strict=True)
    with torch.inference_mode():
        assert answers(first, theirs.eval()(normalised(first[1].pixels)))
    assert (done.check.correct, done.check.correct_exported) == (first[3], first[3])
    assert done.check.runtime.startswith("torchvision ")


def test_the_metadata_say_classes_and_preprocessing(first, tmp_path):
    export(first[0], "safetensors", tmp_path / "m.safetensors", first[1])
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        metadata = file.metadata()
    said = json.loads(metadata[KEY])
    assert said["classes"][:2] == ["0-t-shirt-top", "1-trouser"]
    assert said["class_names"][:2] == ["T-shirt/top", "trouser"]
    look = {"resize": 36, "crop": 32, "interpolation": "bilinear", "mean": list(MEAN), "std": list(STD)}
    assert said["preprocessing"] == look
    assert (said["network"], said["source"], said["recipe"]) == ("resnet18", "first, step 1", "small")


def test_timm_loads_the_folder(first, tmp_path):
    timm = pytest.importorskip("timm")
    done = export(first[0], "timm", tmp_path / "flowers", first[1])
    theirs = timm.create_model(f"local-dir:{done.path}", pretrained=True)
    with torch.inference_mode():
        assert answers(first, theirs.eval()(normalised(first[1].pixels)))
    assert theirs.pretrained_cfg["label_names"][0] == "0-t-shirt-top"
    assert theirs.pretrained_cfg["label_descriptions"]["0-t-shirt-top"] == "T-shirt/top"
    assert done.check.runtime == f"timm {timm.__version__}"


def test_timms_own_transform_shows_the_model_the_same_pictures(root, first, tmp_path):
    timm = pytest.importorskip("timm")
    export(first[0], "timm", tmp_path / "m", first[1])
    theirs = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=theirs), is_training=False)
    index = load_dataset(root / "data").val()
    seen = transform(Image.fromarray(decode(index.read(0)).permute(1, 2, 0).numpy()))
    assert seen.shape == (3, 32, 32)
    ours = normalised(first[1].pixels[:1])[0]
    assert float((seen - ours).abs().mean()) < 0.02  # Pillow and torch round otherwise


@pytest.mark.parametrize("from_pixels", [False, True], ids=["normalised", "pixels"])
def test_onnxruntime_runs_the_graph(from_pixels, first, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    done = export(first[0], "onnx", tmp_path / "m.onnx", first[1], from_pixels=from_pixels)
    session = onnxruntime.InferenceSession(done.path)
    pixels = first[1].pixels if from_pixels else normalised(first[1].pixels)
    found = [session.run(None, {"images": part.contiguous().numpy()})[0] for part in pixels.split([1, 32, 7])]
    assert answers(first, torch.from_numpy(np.concatenate(found)))
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.shape[1:], taken.type) == (
        "images",
        [3, 32, 32],
        "tensor(uint8)" if from_pixels else "tensor(float)",
    )
    assert isinstance(taken.shape[0], str)
    assert (given.name, given.shape[1]) == ("logits", 10)
    metadata = session.get_modelmeta()
    assert read_description(metadata.custom_metadata_map[KEY], done.path) == done.description
    assert ("normalised inside" in metadata.description) == from_pixels
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("from_pixels", [False, True], ids=["normalised", "pixels"])
def test_torch_export_loads_the_program(from_pixels, first, tmp_path):
    done = export(first[0], "torch-export", tmp_path / "m.pt2", first[1], from_pixels=from_pixels)
    files = {KEY: ""}
    program = torch.export.load(done.path, extra_files=files).module()
    pixels = first[1].pixels if from_pixels else normalised(first[1].pixels)
    with torch.inference_mode():
        assert answers(first, torch.cat([program(part) for part in pixels.split([1, 32, 7])]))
    assert read_description(files[KEY], done.path) == done.description


def test_the_moving_average_is_exported_unless_the_raw_weights_are_asked_for(root, tmp_path):
    classes = load_dataset(root / "data").val().info.classes
    history = (Evaluation(step=1, epoch=1.0, top1=50.0, top5=90.0, loss=1.0, images=500, raw_top1=40.0),)
    write_run(tmp_path / "runs", "averaged", classes, average=True, history=history)
    for raw, seed, top1 in ((False, 100, 50.0), (True, 0, 40.0)):
        model = find(tmp_path, "averaged", raw=raw)
        done = export(model, "safetensors", tmp_path / f"{raw}.safetensors", images_for(root, model))
        assert torch.equal(load_file(done.path)["fc.weight"], network(10, seed).state_dict()["fc.weight"])
        assert done.description.moving_average is not raw
        assert done.description.measured.top1 == top1
        assert done.description.source == "averaged, step 1" + ", raw" * raw


# --- BlurPool --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blurred(root, tmp_path_factory):
    """A model with both kinds of blur, the pictures, and its network."""
    folder = tmp_path_factory.mktemp("blurred")
    classes = load_dataset(root / "data").val().info.classes
    changes = {"model__blurpool": True, "model__blurpool_max": True}
    write_run(folder / "runs", "blurred", classes, changes=changes)
    model = find(folder, "blurred")
    return model, images_for(root, model), network(10, **changes)


def test_a_blurred_network_is_never_taken_for_a_plain_one(blurred, tmp_path):
    model, images, _ = blurred
    done = export(model, "safetensors", tmp_path / "m.safetensors", images)
    assert done.description.network == "resnet18-blurpool-max"
    with pytest.raises(RuntimeError, match=r"Unexpected key.*blur"):
        torchvision.models.resnet18(num_classes=10).load_state_dict(load_file(done.path))


def test_timm_has_no_such_network_and_is_refused(blurred, tmp_path):
    with pytest.raises(UsageError, match="timm has no network like this") as caught:
        export(blurred[0], "timm", tmp_path / "m", blurred[1])
    assert "onnx" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_timms_blurred_network_is_another_one(blurred):
    """Why it is refused: the weights fit there, and the outputs are others."""
    timm = pytest.importorskip("timm")
    _, images, ours = blurred
    theirs = timm.create_model("resnet18", num_classes=10, aa_layer=timm.layers.BlurPool2d).eval()
    state = {k.replace("maxpool.0.", "maxpool."): v for k, v in ours.state_dict().items()}
    theirs.load_state_dict(state, strict=False)
    with torch.inference_mode():
        a, b = (net(normalised(images.pixels)) for net in (theirs, ours))
    assert float((a - b).abs().max()) > 0.01


def test_graphs_take_the_blur_along(blurred, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, images, plain = blurred
    pixels = normalised(images.pixels)
    with torch.inference_mode():
        wanted = plain(pixels)
    done = export(model, "onnx", tmp_path / "m.onnx", images)
    (logits,) = onnxruntime.InferenceSession(done.path).run(None, {"images": pixels.contiguous().numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), wanted, rtol=0, atol=1e-4)
    program = torch.export.load(export(model, "torch-export", tmp_path / "m.pt2", images).path).module()
    with torch.inference_mode():
        torch.testing.assert_close(program(pixels), wanted, rtol=0, atol=1e-4)


# --- back again ------------------------------------------------------------------------------------------------------


def test_an_exported_file_is_a_model_of_its_own(root, first, tmp_path):
    done = export(first[0], "safetensors", tmp_path / "m.safetensors", first[1])
    back = find(root, str(done.path))
    assert (back.classes, back.class_names) == (first[0].classes, first[0].class_names)
    assert (back.recipe.model.arch, back.recipe.data.val_size, back.recipe.data.val_resize) == ("resnet18", 32, 36)
    assert torch.equal(back.model.logits(first[1].pixels), first[0].model.logits(first[1].pixels))
    again = export(back, "safetensors", tmp_path / "again.safetensors", first[1])
    assert again.path.read_bytes() == done.path.read_bytes()


def test_a_blurred_network_comes_back_blurred(root, blurred, tmp_path):
    model, images, _ = blurred
    done = export(model, "safetensors", tmp_path / "m.safetensors", images)
    back = find(root, str(done.path))
    assert torch.equal(back.model.logits(images.pixels), model.model.logits(images.pixels))
    assert back.recipe.model.blurpool_max


def test_a_file_that_was_changed_is_refused(root, first, tmp_path):
    done = export(first[0], "safetensors", tmp_path / "m.safetensors", first[1])
    tensors = load_file(done.path)
    tensors["fc.weight"], tensors["fc.bias"] = tensors["fc.weight"][:9], tensors["fc.bias"][:9]
    save_file(tensors, tmp_path / "cut.safetensors", {KEY: done.description.to_text()})
    with pytest.raises(ResnetctlError, match="9 outputs and names 10 classes"):
        find(root, str(tmp_path / "cut.safetensors"))


# --- the comparison --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [lambda x: x + 0.01, lambda x: x * float("nan"), lambda x: x[:, :9]])
def test_other_outputs_are_an_error(wrong, first):
    model, images, logits, _ = first
    parts = iter(logits.split([1, 32, 7]))
    opened = Opened("other", lambda batch: wrong(next(parts)))
    with pytest.raises(ResnetctlError, match=r"other outputs|gives"):
        compare(model, opened, images, from_pixels=False)


def test_an_export_that_fails_leaves_what_was_there(first, tmp_path, monkeypatch):
    """A runtime that computes otherwise: its network's last layer is changed behind our back."""
    path = tmp_path / "m.safetensors"
    path.write_text("mine")
    plain = torchvision.models.resnet18

    class Broken(torchvision.models.ResNet):
        def forward(self, x):
            return super().forward(x) + 1

    def broken(num_classes, **options):
        model = plain(num_classes=num_classes, **options)
        model.__class__ = Broken
        return model

    monkeypatch.setattr(torchvision.models, "resnet18", broken)
    with pytest.raises(ResnetctlError, match="nothing was written"):
        export(first[0], "safetensors", path, first[1])
    assert path.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_without_val_images_pictures_are_made(first, tmp_path):
    images = check_images(first[0], tmp_path, 40, lambda text: None)
    assert images.labels is None
    assert "no data set" in images.why_made
    assert images.pixels.float().std() > 10
    check = export(first[0], "safetensors", tmp_path / "m.safetensors", images).check
    assert (check.of_val, check.correct, check.images, check.same_top1) == (False, None, 8, 8)
    assert check.difference <= 1e-4


def test_a_model_of_other_classes_is_compared_on_made_pictures(root, tmp_path):
    write_run(tmp_path / "runs", "other", ("cat", "dog"))
    model = find(tmp_path, "other")
    images = images_for(root, model)
    assert images.labels is None
    assert "2 classes" in images.why_made


def test_a_model_of_more_classes_counts_its_own_outputs(root, tmp_path):
    classes = load_dataset(root / "data").val().info.classes
    write_run(tmp_path / "runs", "more", ("zebra", *classes))
    images = images_for(root, find(tmp_path, "more"))
    assert sorted(set(images.labels.tolist())) == list(range(1, 11))


def test_a_folder_with_other_files_is_never_replaced(first, tmp_path):
    pytest.importorskip("timm")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"would be lost: thesis\.tex"):
        export(first[0], "timm", tmp_path / "home", first[1])
    assert (tmp_path / "home" / "thesis.tex").read_text() == "mine"


def test_an_exported_folder_is_replaced_as_a_whole(first, tmp_path):
    pytest.importorskip("timm")
    for _ in range(2):
        export(first[0], "timm", tmp_path / "m", first[1])
        assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m" / "model.safetensors").stat().st_mode & 0o600 == 0o600


def test_what_was_measured_of_other_settings_is_not_claimed(root, tmp_path):
    classes = load_dataset(root / "data").val().info.classes
    history = (Evaluation(step=1, epoch=1.0, top1=50.0, top5=90.0, loss=1.0, images=500),)
    write_run(tmp_path / "runs", "first", classes, history=history)
    assert describe(find(tmp_path, "first")).measured.top1 == 50.0
    assert describe(find(tmp_path, "first", size=64)).measured is None
