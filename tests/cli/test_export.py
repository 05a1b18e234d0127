"""`resnetctl export` as users run it, and what they do with the file."""

import json
import os
import subprocess
import sys

import pytest

from resnetctl.data.dataset import load_dataset
from resnetctl.data.prepare import prepare
from resnetctl.model.description import KEY
from tests.fixtures.models import write_run
from tests.fixtures.photos import tile


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("export")
    prepare(root / "data", kind="sample")
    info = load_dataset(root / "data").val().info
    write_run(root / "runs", "first", info.classes, class_names=info.class_names)
    write_run(root / "runs", "odd", ("[/red]", "ü\x1b[31m", "a\nb", "\udcff"))
    write_run(root / "runs", "blurred", info.classes, changes={"model__blurpool": True})
    return root


@pytest.fixture
def run(cli, root):
    def call(*args, **env):
        ours = {"RESNETCTL_DATA": str(root / "data"), "RESNETCTL_RUNS": str(root / "runs"), **env}
        return cli(*args, env=ours)

    return call


def document(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_table(run, tmp_path):
    done = run("export", "first", "--check", "20")
    assert done.returncode == 0, done.stderr
    rows = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert rows["file"].strip() == "first.safetensors"
    assert rows["model"].strip() == "resnet18, 10 classes, first, step 1"
    assert rows["opened by"].strip().startswith("torchvision ")
    assert rows["top-1"].endswith("on 20 val images")
    assert (tmp_path / "first.safetensors").stat().st_mode & 0o777 == 0o644 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_document(run):
    found = document(run("export", "first", "-f", "torch-export", "--normalise", "--check", "20", "--json"))
    assert (found["kind"], found["path"], found["format"]) == ("export", "first.pt2", "torch-export")
    check = found["check"]
    assert (check["images"], check["of_val"], check["same_top1"]) == (20, True, 20)
    assert check["correct1"] == check["correct1_exported"]
    assert 0 <= check["largest_difference"] <= 1e-4


def test_the_exported_file_is_evaluated_and_predicted_without_a_word(run, tmp_path):
    assert run("export", "first", "--out", "m.safetensors").returncode == 0
    tile(1, 60, 60).save(tmp_path / "a.png")
    (ours,) = document(run("eval", "first", "--json"))["results"]
    done = run("eval", "m.safetensors", "--json")
    (theirs,) = document(done)["results"]
    for key in ("correct1", "correct5", "images", "resize", "size", "confusions"):
        assert ours[key] == theirs[key]
    first, second = (
        document(run("predict", "a.png", "--json", *args, RESNETCTL_DATA="nowhere"))
        for args in (("--run", "first"), ("--weights", "m.safetensors"))
    )
    assert [t["class"] for t in first["predictions"][0]["top"]] == [t["class"] for t in second["predictions"][0]["top"]]
    assert second["predictions"][0]["top"][0]["name"] != second["predictions"][0]["top"][0]["class"]


def test_training_starts_from_the_exported_file(run):
    assert run("export", "first", "--out", "m.safetensors").returncode == 0
    args = ("train", "--recipe", "small", "--arch", "resnet18", "--weights", "m.safetensors", "--max-steps", "1")
    done = run(*args, "--set", "data.train_size=32", "--device", "cpu", "--workers", "0", RESNETCTL_RUNS="new")
    assert done.returncode == 0, done.stderr
    assert "the last layer is new" not in done.stderr


def test_odd_names_of_classes(run, tmp_path):
    done = run("export", "odd", "--out", "odd.safetensors")
    assert done.returncode == 0, done.stderr
    assert "compared on 8 synthetic images instead of val images: " in done.stderr
    assert "the same first class for 8 of 8 synthetic images" in done.stdout
    tile(1, 60, 60).save(tmp_path / "a.png")
    top = document(run("predict", "a.png", "--weights", "odd.safetensors", "--json"))["predictions"][0]["top"]
    assert {t["class"] for t in top} == {"[/red]", "ü\x1b[31m", "a\nb", "\udcff"}


def test_odd_names_in_timms_folder(run, tmp_path):
    pytest.importorskip("timm")
    done = run("export", "odd", "--format", "timm", "--out", "odd")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "odd" / "README.md").read_text()
    assert "\\[/red\\]" in card
    assert "\x1b" not in card
    assert json.loads((tmp_path / "odd" / "config.json").read_text())["label_names"][0] == "[/red]"


def test_what_is_there_is_kept_unless_told(run, tmp_path):
    (tmp_path / "first.safetensors").write_text("mine")
    done = run("export", "first")
    assert done.returncode == 2
    assert "first.safetensors already exists" in done.stderr
    assert (tmp_path / "first.safetensors").read_text() == "mine"
    assert run("export", "first", "--overwrite", "--check", "1").returncode == 0
    assert KEY.encode() in (tmp_path / "first.safetensors").read_bytes()[:500]


@pytest.mark.parametrize(
    ("args", "code", "message", "hint"),
    [
        (["nothing"], 1, "no run or checkpoint nothing", "runs in"),
        (["first", "--out", "m.xyz"], 2, "is not that of a format", "--format timm for a folder"),
        (["first", "--format", "onnx", "--out", "m.pt2"], 2, "--format onnx ends in .onnx", "leave one"),
        (["first", "--format", "timm", "--out", "m.onnx"], 2, "--format timm is a folder", "leave one"),
        (["first", "--out", "gone/m.onnx"], 2, "there is no folder gone", "--out"),
        (["first", "--normalise"], 2, "safetensors has none", "--format onnx"),
        (["first", "--weights", "imagenet1k-v2"], 2, "cannot be combined", "choose one"),
        (["first", "--best"], 1, "was evaluated", "without --best"),
        (["blurred", "--format", "timm"], 2, "timm has no network like this resnet18 with BlurPool", "onnx"),
    ],
)
def test_what_cannot_be_is_told(args, code, message, hint, run, tmp_path):
    done = run("export", *args)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert hint in done.stderr.partition("hint:")[2]
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "packages"), [("onnx", ("onnx", "onnxruntime")), ("timm", ("timm",))])
def test_a_missing_package_is_told_before_anything_is_done(kind, packages, root, tmp_path):
    """The packages are hidden from the process, as where they were never installed."""
    hide = f"""
import sys
from importlib.machinery import PathFinder
class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in {packages!r} else super().find_spec(name, path, target)
sys.meta_path[:] = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
from resnetctl.cli.app import run
code = run(['export', 'first', '--format', {kind!r}, '--runs', {str(root / "runs")!r}])
assert 'torch' not in sys.modules
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", hide], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert f"--format {kind} needs the package" in done.stderr
    assert f'hint: pip install "resnetctl[{kind}]"' in done.stderr
