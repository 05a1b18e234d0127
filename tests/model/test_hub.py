"""Weights of timm's form from a server on the loopback, through the Hub's own client."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from resnetctl.model.hub import look
from resnetctl.model.resnet import build_model
from resnetctl.model.weights import fill, read_weights
from resnetctl.recipe import ModelRecipe
from tests.fixtures.hub import Hub, hub_server

timm = pytest.importorskip("timm")
pytest.importorskip("huggingface_hub")

# in a process of its own: the client reads its environment when it is imported
ASK = """
import json, sys
from resnetctl.errors import ResnetctlError
from resnetctl.model.hub import hub_file
said, found = [], hub_file(*sys.argv[1:])
try:
    while True:
        said.append(next(found))
except StopIteration as end:
    print(json.dumps([said, str(end.value), None]))
except ResnetctlError as error:
    print(json.dumps([said, error.message, [error.hint, error.exit_code]]))
"""

Answer = tuple[list[str], str, tuple[str, int] | None]
CFG = {
    "input_size": [3, 224, 224],
    "crop_pct": 0.95,
    "interpolation": "bicubic",
    "mean": [0.5, 0.4, 0.3],
    "std": [1, 1, 1],
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as hub:
        yield hub


@pytest.fixture
def ask(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)

    def run(weights: str, arch: str = "resnet18") -> Answer:
        done = subprocess.run([sys.executable, "-c", ASK, weights, arch], capture_output=True, text=True, check=True)
        assert done.stderr == ""  # the client's advice is not ours
        said, result, error = json.loads(done.stdout)
        return said, result, error and tuple(error)

    return run


def offer(hub: Hub, name: str, architecture: str, weights: bytes | None = b"tensors", **config: object) -> None:
    hub.files[name] = {"config.json": json.dumps({"architecture": architecture, **config}).encode()}
    if weights is not None:
        hub.files[name]["model.safetensors"] = weights


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_timms_names_and_shapes_are_torchvisions(arch: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(arch).state_dict()
        ours = build_model(ModelRecipe(arch=arch), 1000).state_dict()
    assert {name: tensor.shape for name, tensor in theirs.items()} == {n: t.shape for n, t in ours.items()}


def test_weights_are_downloaded_once_and_give_timms_outputs(hub: Hub, ask: Callable[..., Answer]) -> None:
    torch.manual_seed(1)
    theirs = timm.create_model("resnet18", num_classes=7).eval()
    offer(hub, "timm/resnet18.x_in1k", "resnet18", save(theirs.state_dict()))
    said, path, error = ask("hf:timm/resnet18.x_in1k")
    assert error is None
    assert said == ["downloading model.safetensors of timm/resnet18.x_in1k from the Hugging Face Hub"]
    ours = build_model(ModelRecipe(arch="resnet18"), 7)
    assert list(fill(ours, read_weights(Path(path)), Path(path), 7)) == []
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(images), theirs(images))

    bodies = sum(line.startswith("GET") for line in hub.asked)
    assert ask("hf:timm/resnet18.x_in1k") == ([], path, None)
    assert sum(line.startswith("GET") for line in hub.asked) == bodies


def test_what_is_there_needs_no_network(hub: Hub, ask: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    offer(hub, "a/b", "resnet18")
    _, path, _ = ask("hf:a/b")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert ask("hf:a/b") == ([], path, None)


def test_offline_and_not_there(ask: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _, message, error = ask("hf:a/b")
    assert message == "hf:a/b is not on this machine, and HF_HUB_OFFLINE is set"
    assert error == ("unset HF_HUB_OFFLINE", 1)


def test_a_server_that_cannot_be_reached(ask: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    _, message, error = ask("hf:a/b")
    assert message == "hf:a/b is not on this machine, and http://127.0.0.1:9 cannot be reached"
    assert error
    assert "HF_ENDPOINT" in error[0]


def test_a_repository_that_is_not_there_or_private(ask: Callable[..., Answer]) -> None:
    _, message, error = ask("hf:timm/resnet999")
    assert message == "there is no hf:timm/resnet999, or it is private"
    assert error
    assert "HF_TOKEN" in error[0]


def test_a_gated_repository(hub: Hub, ask: Callable[..., Answer]) -> None:
    hub.refused.add("owner/gated")
    _, message, error = ask("hf:owner/gated")
    assert "hf:owner/gated is gated" in message
    assert error
    assert f"{hub.url}/owner/gated" in error[0]
    assert "HF_TOKEN" in error[0]


def test_a_revision_that_is_not_there(hub: Hub, ask: Callable[..., Answer]) -> None:
    offer(hub, "a/b", "resnet18")
    assert ask("hf:a/b@main")[2] is None
    assert ask("hf:a/b@v9")[1] == "hf:a/b has no revision v9"


def test_a_repository_without_safetensors(hub: Hub, ask: Callable[..., Answer]) -> None:
    offer(hub, "a/b", "resnet18", None)
    assert ask("hf:a/b")[1] == "hf:a/b has no model.safetensors"


@pytest.mark.parametrize(
    ("theirs", "words", "hint"),
    [
        ("resnet50d", "hf:timm/x is a resnet50d, not torchvision's resnet50", "hf:timm/resnet50.a1_in1k"),
        ("resnetblur50", "is a resnetblur50", "hf:timm/"),
        ("resnet34", "hf:timm/x is a resnet34, not a resnet50", "--arch resnet34"),
    ],
)
def test_another_network_is_refused_before_its_weights_come(
    hub: Hub, ask: Callable[..., Answer], theirs: str, words: str, hint: str
) -> None:
    offer(hub, "timm/x", theirs)
    said, message, error = ask("hf:timm/x", "resnet50")
    assert words in message
    assert error
    assert hint in error[0]
    assert error[1] == 2
    assert said == []
    assert not any("safetensors" in line for line in hub.asked)


def test_a_model_of_transformers_is_refused(hub: Hub, ask: Callable[..., Answer]) -> None:
    hub.files["microsoft/resnet-50"] = {"config.json": b'{"architectures": ["ResNetForImageClassification"]}'}
    assert "transformers" in ask("hf:microsoft/resnet-50", "resnet50")[1]


@pytest.mark.parametrize("name", ["resnet50", "a/b/c", "../b", "a/b@", "a/ b", "http://a/b"])
def test_names_of_no_repository(ask: Callable[..., Answer], hub: Hub, name: str) -> None:
    _, message, error = ask(f"hf:{name}")
    assert message == f"hf:{name} names no repository"
    assert error == ("such as hf:timm/resnet50.a1_in1k", 2)
    assert hub.asked == []


def test_a_download_that_breaks_off_is_not_taken_for_the_file(hub: Hub, ask: Callable[..., Answer]) -> None:
    offer(hub, "a/b", "resnet18", bytes(100_000))
    hub.cut_after = 30_000
    _, message, error = ask("hf:a/b")
    assert "cannot download model.safetensors of hf:a/b" in message
    assert error
    hub.cut_after = None
    assert Path(ask("hf:a/b")[1]).read_bytes() == bytes(100_000)


def test_a_file_that_was_damaged_later_is_told(hub: Hub, ask: Callable[..., Answer]) -> None:
    offer(hub, "a/b", "resnet18", bytes(1000))
    blob = Path(ask("hf:a/b")[1]).resolve()
    blob.write_bytes(bytes(999) + b"x")
    _, message, error = ask("hf:a/b")
    assert "is damaged" in message
    assert error
    assert str(blob) in error[0]


def test_without_the_package_it_is_named(
    ask: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError")  # as if it were not installed
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    _, message, error = ask("hf:a/b")
    assert "needs the package huggingface_hub" in message
    assert error == ('pip install "resnetctl[hub]"', 1)


def test_how_it_looks_at_images_is_timms_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet50", "pretrained_cfg": CFG}))
    found = look(tmp_path / "model.safetensors")
    theirs = timm.data.create_transform((3, 224, 224), crop_pct=0.95, interpolation="bicubic", mean=CFG["mean"])
    assert found["data.val_resize"] == theirs.transforms[0].size == 235
    assert found["data.val_size"] == 224
    assert found["data.interpolation"] == theirs.transforms[0].interpolation.value
    assert (found["data.mean"], found["data.std"]) == ((0.5, 0.4, 0.3), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pretrained_cfg": {"input_size": [], "crop_pct": 0}}'])
def test_a_repository_that_does_not_say_how_it_looks(tmp_path: Path, text: str) -> None:
    assert look(tmp_path / "model.safetensors") == {}
    (tmp_path / "config.json").write_text(text)
    assert look(tmp_path / "model.safetensors") == {}
