"""What a name stands for, and how the model that it names looks at images."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from resnetctl.data import imagenet
from resnetctl.engine.models import Asked, find_model, is_weights
from resnetctl.errors import CheckpointError, DataError, ResnetctlError, UsageError
from resnetctl.recipe import Override
from resnetctl.runs.metadata import Evaluation
from tests.fixtures.models import network, write_run
from tests.model.test_weights import Mirror, as_bytes

CLASSES = ("cat", "dog", "eel")
CPU = torch.device("cpu")
PICTURES = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)


def no_data_set():
    raise DataError("no data set")


def asked(root, **values) -> Asked:
    return Asked(**{"runs": root, "device": CPU, "classes": no_data_set, **values})


def same(model, net: torch.nn.Module) -> bool:
    return torch.equal(model.model.network.state_dict()["fc.weight"], net.state_dict()["fc.weight"])


def evaluation(step: int, top1: float) -> Evaluation:
    return Evaluation(step=step, epoch=1.0, top1=top1, top5=100.0, loss=1.0, images=10)


def test_a_run_by_name_folder_file_and_as_the_latest(tmp_path):
    folder = write_run(tmp_path, "first", CLASSES)
    file = folder / "checkpoints" / "step-00000001.safetensors"
    for which in (None, "first", str(folder), str(file)):
        model = find_model(which, asked(tmp_path))
        assert same(model, network(3))
        assert (model.classes, model.path) == (CLASSES, file)
        assert not model.changed
        assert not model.model.network.training
        assert (model.name, model.step, model.title) == ("first", 1, "first, step 1")


def test_the_newest_checkpoint_or_the_best(tmp_path):
    history = (evaluation(1, 50.0), evaluation(2, 70.0), evaluation(3, 60.0))
    write_run(tmp_path, "first", CLASSES, steps=(1, 2, 3), history=history)
    assert same(find_model("first", asked(tmp_path)), network(3, seed=2))
    assert same(find_model("first", asked(tmp_path, best=True)), network(3, seed=1))


def test_the_moving_average_or_the_weights_themselves(tmp_path):
    write_run(tmp_path, "first", CLASSES, average=True)
    average, raw = (find_model("first", asked(tmp_path, raw=raw)) for raw in (False, True))
    assert same(average, network(3, seed=100))
    assert same(raw, network(3, seed=0))
    assert (average.title, raw.title) == ("first, step 1", "first, step 1, raw")


def test_without_an_average_nothing_is_raw(tmp_path):
    write_run(tmp_path, "first", CLASSES)
    told = []
    model = find_model("first", asked(tmp_path, raw=True, notice=told.append))
    assert (model.weights, model.title) == ("trained", "first, step 1")
    assert any("no moving average: --raw changes nothing" in text for text in told)


def test_without_a_measurement_there_is_no_best(tmp_path):
    write_run(tmp_path, "first", CLASSES)
    with pytest.raises(CheckpointError, match="was evaluated"):
        find_model("first", asked(tmp_path, best=True))


def test_what_the_user_sets_counts(tmp_path):
    write_run(tmp_path, "first", CLASSES)
    overrides = (Override("data.val_flip_average", True, "--tta"), Override("data.mean", (0.1, 0.2, 0.3), "--set"))
    changed, plain = (find_model("first", asked(tmp_path, overrides=o)) for o in (overrides, ()))
    assert changed.changed
    assert changed.model.flip_average
    assert changed.recipe.data.mean == (0.1, 0.2, 0.3)
    assert not torch.allclose(changed.model.logits(PICTURES), plain.model.logits(PICTURES))


def test_a_checkpoint_says_its_own_network(tmp_path):
    write_run(tmp_path, "first", CLASSES)
    assert same(find_model("first", asked(tmp_path, arch="resnet50")), network(3))


def test_a_size_keeps_its_proportion_to_what_is_resized(tmp_path):
    write_run(tmp_path, "first", CLASSES)  # 32 of 36
    model = find_model("first", asked(tmp_path, size=64))
    assert (model.recipe.data.val_size, model.recipe.data.val_resize) == (64, 72)
    assert model.changed
    both = find_model("first", asked(tmp_path, size=64, overrides=(Override("data.val_resize", 64, "--set"),)))
    assert (both.recipe.data.val_size, both.recipe.data.val_resize) == (64, 64)


def test_what_are_weights_and_what_is_a_run(tmp_path):
    file = write_run(tmp_path, "first", CLASSES) / "checkpoints" / "step-00000001.safetensors"
    save_file({"w": torch.zeros(1)}, tmp_path / "w.safetensors")
    weights = ("imagenet1k-v1", "x.pth", "x.pt", str(tmp_path / "w.safetensors"))
    assert all(map(is_weights, weights))
    assert not any(map(is_weights, ("first", str(file), "imagenet1k", str(tmp_path / "gone.safetensors"))))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_weights_with_a_thousand_outputs_is_imagenets(suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    state = network(1000).state_dict()
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    told = []
    model = find_model(str(path), asked(tmp_path, arch="resnet18", notice=told.append))
    assert told == [f"weights{suffix} does not name its 1,000 classes: using ImageNet's"]
    assert same(model, network(1000))
    assert model.classes == imagenet.wnids()
    assert model.class_names[0] == "tench"
    assert (model.recipe.data.val_resize, model.recipe.data.val_size) == (256, 224)
    assert model.model.precision == torch.float32
    assert model.published is None


def test_other_weights_have_the_classes_of_the_data_set(tmp_path):
    torch.save(network(3).state_dict(), tmp_path / "w.pth")
    told = []
    here = asked(tmp_path, arch="resnet18", classes=lambda: (CLASSES, ("Cat", "Dog", "Eel")), notice=told.append)
    model = find_model(str(tmp_path / "w.pth"), here)
    assert (model.classes, model.class_names) == (CLASSES, ("Cat", "Dog", "Eel"))
    assert told == ["w.pth does not name its 3 classes: using the data set's"]


@pytest.mark.parametrize("classes", [no_data_set, lambda: (("cat", "dog"), ("cat", "dog"))])
def test_outputs_that_nobody_can_name_are_refused(classes, tmp_path):
    torch.save(network(3).state_dict(), tmp_path / "w.pth")
    with pytest.raises(DataError, match="3 outputs and does not name their classes") as caught:
        find_model(str(tmp_path / "w.pth"), asked(tmp_path, arch="resnet18", classes=classes))
    assert "--data" in caught.value.hint


def test_another_network_than_the_files_is_refused(tmp_path):
    torch.save(network(1000).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ResnetctlError, match="does not fit"):
        find_model(str(tmp_path / "w.pth"), asked(tmp_path))


def test_a_file_without_a_last_layer_is_refused(tmp_path):
    torch.save({"w": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ResnetctlError, match=r"has no fc\.weight"):
        find_model(str(tmp_path / "w.pth"), asked(tmp_path))


@pytest.mark.parametrize("name", ["nothing", "nothing.safetensors", "nothing.pth"])
def test_what_is_not_there_is_told(name, tmp_path):
    with pytest.raises(ResnetctlError, match="nothing") as caught:
        find_model(str(tmp_path / name), asked(tmp_path))
    assert caught.value.hint


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match="damaged"):
        find_model(str(tmp_path / "w.safetensors"), asked(tmp_path))


def test_published_weights_come_with_their_preset_and_result(tmp_path, monkeypatch):
    data, mirror = as_bytes(network(1000).state_dict()), Mirror()
    name = f"resnet18-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    mirror.files[f"/{name}"] = data
    monkeypatch.setenv("RESNETCTL_WEIGHTS_URL", f"{mirror.url}/{name}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    told = []
    model = find_model("imagenet1k-v1", asked(tmp_path, arch="resnet18", notice=told.append))
    assert same(model, network(1000))
    assert model.published == (69.758, 89.078)
    assert (model.name, model.classes, model.path) == ("resnet18 imagenet1k-v1", imagenet.wnids(), None)
    look = model.recipe.data
    assert (look.val_resize, look.val_size, look.interpolation) == (256, 224, "bilinear")
    assert any("downloading" in text for text in told)


def test_weights_that_were_never_published_are_refused(tmp_path):
    with pytest.raises(UsageError, match="resnet34 has no weights imagenet1k-v2"):
        find_model("imagenet1k-v2", asked(tmp_path, arch="resnet34"))


@pytest.mark.parametrize(("arch", "resize"), [("resnet50", 232), ("resnet152", 232)])
def test_the_second_weights_are_published_with_another_preset(arch, resize, tmp_path, monkeypatch):
    monkeypatch.setattr("resnetctl.engine.models.load_weights", lambda *_: ())
    monkeypatch.setattr("resnetctl.engine.models.build_model", lambda *_: torch.nn.Identity())
    model = find_model("imagenet1k-v2", asked(tmp_path, arch=arch))
    assert (model.recipe.data.val_resize, model.recipe.data.val_size) == (resize, 224)
    assert model.published[0] == {"resnet50": 80.858, "resnet152": 82.284}[arch]
