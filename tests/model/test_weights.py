import hashlib
import http.server
import io
import json
import os
import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from resnetctl.errors import ResnetctlError, UsageError
from resnetctl.model.export import exported_tensors, write_safetensors
from resnetctl.model.resnet import build_model
from resnetctl.model.weights import load_weights
from resnetctl.recipe import ModelRecipe
from tests.model.test_description import DESCRIPTION


def network(classes: int = 6, seed: int = 0, **changes: bool) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model(ModelRecipe(arch="resnet18", zero_init_residual=False, **changes), classes)


def load(model: torch.nn.Module, weights: object, classes: int = 6) -> list[str]:
    return list(load_weights(model, str(weights), "resnet18", classes))


def same(a: torch.nn.Module, b: torch.nn.Module, but: str = "-") -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(ours[k], theirs[k]) for k in ours if not k.startswith(but))


def as_bytes(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


# --- a server that holds the file, whole or cut --------------------------------------------------------------------


class Mirror:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut_after: int | None = None
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                data = mirror.files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: mirror.cut_after])
                if mirror.cut_after is not None:
                    self.connection.close()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("resnetctl.download.PAUSE_SECONDS", 0)
    found = Mirror()
    yield found
    found.server.shutdown()
    found.server.server_close()


def cached(tmp_path: Path) -> list[str]:
    folder = tmp_path / "hub" / "hub" / "checkpoints"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def offer(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, classes: int = 1000) -> tuple[torch.nn.Module, str]:
    """A file with its own hash in its name, as the published ones have."""
    theirs = network(classes, seed=9)
    data = as_bytes(theirs.state_dict())
    name = f"resnet18-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    mirror.files[f"/models/{name}"] = data
    monkeypatch.setenv("RESNETCTL_WEIGHTS_URL", f"{mirror.url}/models/{name}")
    return theirs, name


def test_published_weights_are_downloaded_once_and_checked(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, name = offer(mirror, monkeypatch)
    ours = network(1000)
    said = load(ours, "imagenet1k-v1", 1000)
    assert same(ours, theirs)
    assert any("downloading" in line for line in said)
    assert cached(tmp_path) == [name]
    assert load(network(1000), "imagenet1k-v1", 1000) == []
    assert mirror.asked == [f"/models/{name}"]


def test_a_damaged_file_in_the_cache_is_fetched_again(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, name = offer(mirror, monkeypatch)
    folder = tmp_path / "hub" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(mirror.files[f"/models/{name}"][:-1000])
    ours = network(1000)
    assert "does not match the hash in its name" in load(ours, "imagenet1k-v1", 1000)[0]
    assert same(ours, theirs)


def test_a_mirrors_folder_is_asked_for_the_published_name_and_held_to_its_hash(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.files["/m/resnet18-f37072fd.pth"] = as_bytes(network(1000).state_dict())
    monkeypatch.setenv("RESNETCTL_WEIGHTS_URL", f"{mirror.url}/m/")
    ours, before = network(1000), network(1000)
    with pytest.raises(ResnetctlError, match="not sha256:f37072fd") as raised:
        load(ours, "imagenet1k-v1", 1000)
    assert raised.value.exit_code == 1
    assert mirror.asked == ["/m/resnet18-f37072fd.pth"]
    assert cached(tmp_path) == []
    assert same(ours, before)


@pytest.mark.parametrize("cut_after", [0, 1, 3_000_000])
def test_a_cut_download_is_not_taken_for_the_file(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_after: int
) -> None:
    _, name = offer(mirror, monkeypatch)
    mirror.cut_after = cut_after
    with pytest.raises(ResnetctlError, match="cannot download"):
        load(network(1000), "imagenet1k-v1", 1000)
    assert cached(tmp_path) == ([f"{name}.part"] if cut_after else [])


@pytest.mark.parametrize(
    ("url", "code"),
    [("", 1), ("http://127.0.0.1:9/models", 1), ("no-url", 2), ("gopher://x/y", 2), ("http://[bad/", 2)],
)
def test_no_server_no_file_and_no_such_scheme(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, url: str, code: int
) -> None:
    monkeypatch.setenv("RESNETCTL_WEIGHTS_URL", url or f"{mirror.url}/nothing")
    with pytest.raises(ResnetctlError, match="cannot download") as raised:
        load(network(1000), "imagenet1k-v1", 1000)
    assert "model.weights=none" in str(raised.value.hint)
    assert "RESNETCTL_WEIGHTS_URL" in str(raised.value.hint)
    assert raised.value.exit_code == code


def test_weights_that_an_architecture_does_not_have(mirror: Mirror) -> None:
    with pytest.raises(UsageError, match="no weights imagenet1k-v2") as raised:
        load(network(), "imagenet1k-v2")
    assert "imagenet1k-v1" in str(raised.value.hint)
    assert mirror.asked == []


# --- files ----------------------------------------------------------------------------------------------------------


def test_files_of_every_kind_give_the_same_model(tmp_path: Path) -> None:
    theirs = network(seed=4)
    state = theirs.state_dict()
    torch.save(state, tmp_path / "plain.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "example.pt")
    torch.save({"model": state}, tmp_path / "reference.pth")
    save_file(state, tmp_path / "plain.safetensors")
    ours = {f"model.{k}": v for k, v in state.items()}
    save_file({**ours, "optimizer.0.momentum": torch.zeros(3)}, tmp_path / "checkpoint.safetensors")
    for path in sorted(tmp_path.iterdir()):
        model = network()
        assert not same(model, theirs)
        assert load(model, path) == []
        assert same(model, theirs), path.name


def test_another_number_of_classes_leaves_the_last_layer_new_and_says_so(tmp_path: Path) -> None:
    theirs = network(1000, seed=4)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    model, before = network(6), network(6)
    said = load(model, tmp_path / "w.pth")
    assert len(said) == 1
    assert "1,000 classes" in said[0]
    assert same(model, theirs, but="fc.")
    assert torch.equal(model.fc.weight, before.fc.weight)
    assert torch.equal(model.fc.bias, before.fc.bias)


def test_files_that_do_not_count_batches_load(tmp_path: Path) -> None:
    state = {k: v for k, v in network(seed=4).state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    model = network()
    load(model, tmp_path / "old.pth")
    assert same(model, network(seed=4))


def test_what_does_not_fit_is_named_and_changes_nothing(tmp_path: Path) -> None:
    state = network(seed=4).state_dict()
    del state["layer1.0.conv1.weight"]
    state["layer9.\x1b[31m"] = torch.zeros(1)
    state["bn1.weight"] = torch.zeros(65)
    torch.save(state, tmp_path / "w.pth")
    model = network()
    with pytest.raises(ResnetctlError) as raised:
        load(model, tmp_path / "w.pth")
    message = raised.value.message
    assert "layer1.0.conv1.weight is missing" in message
    assert r"layer9.\x1b[31m is not of this model" in message
    assert "bn1.weight is 65, not 64" in message
    assert same(model, network())


def test_a_larger_model_does_not_fit_and_few_keys_are_named(tmp_path: Path) -> None:
    torch.save(build_model(ModelRecipe(arch="resnet34"), 6).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ResnetctlError, match="and 91 more") as raised:
        load(network(), tmp_path / "w.pth")
    assert len(raised.value.message) < 600
    assert "--arch resnet34" in str(raised.value.hint)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {os.environ['EVIL_MARK']}",)


def test_code_in_a_file_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "ran"
    monkeypatch.setenv("EVIL_MARK", str(mark))
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"conv1.weight": Evil()}, tmp_path / "zip.pth")
    torch.save(network(), tmp_path / "module.pth")
    for name in ("pickle.pth", "zip.pth", "module.pth"):
        with pytest.raises(ResnetctlError, match="more than tensors"):
            load(network(), tmp_path / name)
    assert not mark.exists()
    # the file is a real threat: plain unpickling runs it
    pickle.loads((tmp_path / "pickle.pth").read_bytes())
    assert mark.exists()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"PK\x03\x04" + bytes(100), bytes(8)])
def test_files_that_are_none_are_one_clear_error(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    with pytest.raises(ResnetctlError, match=path.name):
        load(network(), path)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    save_file(network().state_dict(), tmp_path / "w.safetensors")
    torch.save(network().state_dict(), tmp_path / "w.pth")
    for path in list(tmp_path.iterdir()):
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(ResnetctlError, match=path.name):
            load(network(), path)


def test_a_missing_file_and_a_word_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        load(network(), tmp_path / "none.pth")
    with pytest.raises(UsageError, match="neither") as raised:
        load(network(), "imagenet1k-v3")
    assert "imagenet1k-v1" in str(raised.value.hint)


def test_none_leaves_the_model_alone() -> None:
    model = network()
    assert load(model, "none") == []
    assert same(model, network())


def test_a_model_with_blurpool_says_when_the_weights_had_none(tmp_path: Path) -> None:
    save_file(network(seed=4).state_dict(), tmp_path / "plain.safetensors")
    meta = {"resnetctl": '{"recipe": {"model": {"blurpool": true}}}'}
    save_file({f"model.{k}": v for k, v in network(seed=4).state_dict().items()}, tmp_path / "ours.safetensors", meta)
    assert "without BlurPool" in load(network(blurpool=True), tmp_path / "plain.safetensors")[0]
    assert load(network(blurpool=True), tmp_path / "ours.safetensors") == []
    assert "with BlurPool" in load(network(), tmp_path / "ours.safetensors")[0]
    assert load(network(), tmp_path / "plain.safetensors") == []


def test_the_kernels_of_an_exported_file_are_no_weights(tmp_path: Path) -> None:
    theirs = network(seed=4, blurpool=True, blurpool_max=True)
    save_file(exported_tensors(theirs), tmp_path / "w.safetensors")
    assert any(name.endswith(".blur") for name in exported_tensors(theirs))
    ours = network(blurpool=True, blurpool_max=True)
    load(ours, tmp_path / "w.safetensors")
    assert same(ours, theirs)


# --- files that name their classes ----------------------------------------------------------------------------------

NAMES = ("ant", "bee", "cat", "dog", "eel", "fly")


def named(path: Path, classes: tuple[str, ...], kind: str) -> torch.nn.Module:
    """A network's weights at `path` as an exported file or a checkpoint, for `classes`."""
    theirs, description = network(seed=4), replace(DESCRIPTION, classes=classes, class_names=classes)
    if kind == "exported":
        write_safetensors(theirs, description, path)
    else:
        meta = json.dumps({"recipe": {"model": {"blurpool": False}}, "classes": classes})
        save_file({f"model.{k}": t for k, t in theirs.state_dict().items()}, path, {"resnetctl": meta})
    return theirs


@pytest.mark.parametrize("kind", ["exported", "checkpoint"])
def test_the_same_classes_keep_the_last_layer(kind: str, tmp_path: Path) -> None:
    theirs, ours = named(tmp_path / "w.safetensors", NAMES, kind), network()
    assert list(load_weights(ours, str(tmp_path / "w.safetensors"), "resnet18", 6, NAMES)) == []
    assert same(ours, theirs)


@pytest.mark.parametrize("kind", ["exported", "checkpoint"])
def test_as_many_other_classes_leave_the_last_layer_new(kind: str, tmp_path: Path) -> None:
    theirs, ours = named(tmp_path / "w.safetensors", (*NAMES[:5], "[red]"), kind), network()
    (said,) = load_weights(ours, str(tmp_path / "w.safetensors"), "resnet18", 6, NAMES)
    assert said == "the last layer is new: w.safetensors has 6 other classes than the data set, without fly"
    assert same(ours, theirs, but="fc.")
    assert torch.equal(ours.fc.weight, network().fc.weight)


@pytest.mark.parametrize("kind", ["exported", "checkpoint"])
def test_the_same_classes_in_another_order_put_the_last_layer_into_ours(kind: str, tmp_path: Path) -> None:
    order = (3, 0, 5, 1, 2, 4)
    theirs = named(tmp_path / "w.safetensors", tuple(NAMES[i] for i in order), kind)
    ours = network()
    (said,) = load_weights(ours, str(tmp_path / "w.safetensors"), "resnet18", 6, NAMES)
    assert "in another order" in said
    for output, i in enumerate(order):
        assert torch.equal(ours.fc.weight[i], theirs.fc.weight[output])
        assert torch.equal(ours.fc.bias[i], theirs.fc.bias[output])
