"""`resnetctl eval` as users run it: several models, suites, files that it writes."""

import csv
import json

import pytest
import torch
from PIL import Image

from resnetctl.data.dataset import load_dataset
from resnetctl.data.prepare import prepare
from resnetctl.runs.metadata import Evaluation
from tests.engine.test_measure import WNIDS, write_folders
from tests.fixtures.models import network, write_run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The sample, two runs of untrained networks, and weights with ImageNet's outputs."""
    root = tmp_path_factory.mktemp("eval")
    prepare(root / "data", kind="sample")
    classes = load_dataset(root / "data").val().info.classes
    history = tuple(
        Evaluation(step=s, epoch=1.0, top1=t, top5=50.0, loss=2.0, images=500) for s, t in ((1, 20), (2, 9))
    )
    write_run(root / "runs", "first", classes, steps=(1, 2), history=history)
    write_run(root / "runs", "second", classes, seed=5)
    torch.save(network(1000).state_dict(), root / "weights.pth")
    return root


@pytest.fixture
def evaluate(cli, root):
    def run(*args):
        env = {"RESNETCTL_DATA": str(root / "data"), "RESNETCTL_RUNS": str(root / "runs")}
        return cli("eval", *args, "--device", "cpu", env=env)

    return run


def results(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["results"]


def test_several_models_in_one_table(evaluate):
    done = evaluate("first", "second")
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split()[:2] == ["model", "on"]
    assert [row.split("  ")[0] for row in rows] == ["first, step 2", "second, step 1"]
    assert all(" to " in row and row.endswith("500") for row in rows)


def test_the_best_checkpoint_is_another_than_the_newest(evaluate):
    (newest,), (best,) = results(evaluate("first", "--json")), results(evaluate("first", "--best", "--json"))
    assert (newest["step"], best["step"]) == (2, 1)


def test_the_document(evaluate):
    (result,) = results(evaluate("second", "--json", "--tta", "flip", "--size", "64"))
    assert (result["model"], result["suite"], result["images"]) == ("second", "val", 500)
    assert (result["resize"], result["size"], result["flip_average"]) == (72, 64, True)
    low, high = result["top1_interval"]
    assert low <= result["top1"] == result["correct1"] / 5 <= high
    assert sum(b["images"] for b in result["calibration"]["bins"]) == 500
    assert 1 <= len(result["confusions"]) <= 10
    assert "guessing" in result["label_trouble"]


def test_against_another_run_on_the_same_images(evaluate):
    done = evaluate("first", "--against", "second", "--json")
    first, second = results(done)
    (found,) = json.loads(done.stdout)["comparisons"]
    assert (found["model"], found["against"], found["suite"]) == ("first", "second", "val")
    assert found["only_first"] - found["only_second"] == first["correct1"] - second["correct1"]
    assert found["difference"] == pytest.approx(first["top1"] - second["top1"])
    table = evaluate("first", "--against", "second", "--details")
    assert "McNemar's test" in table.stdout
    assert "expected calibration error" in table.stdout
    assert "the most frequent mistakes" in table.stdout


def test_files_of_classes_and_of_the_worst_mistakes(evaluate, tmp_path):
    done = evaluate("first", "--per-class", tmp_path / "c.csv", "--sheet", tmp_path / "w.png", "--worst", "7", "--json")
    (result,) = results(done)
    rows = list(csv.DictReader((tmp_path / "c.csv").open()))
    assert len(rows) == 10
    assert sum(int(row["correct1"]) for row in rows) == result["correct1"]
    assert sum(int(row["correct5"]) for row in rows) == result["correct5"]
    assert all(float(r["top1_low"]) <= float(r["top1"]) <= float(r["top1_high"]) for r in rows)
    with Image.open(tmp_path / "w.png") as image:
        assert image.width == 5 * 238 + 14
    again = evaluate("first", "--per-class", tmp_path / "c.csv")
    assert again.returncode == 2
    assert "already a file" in again.stderr


def test_a_file_that_cannot_be_written_is_refused_before_measuring(evaluate, tmp_path):
    done = evaluate("first", "--per-class", tmp_path / "nowhere" / "c.csv")
    assert done.returncode == 2
    assert f"error: there is no folder {tmp_path / 'nowhere'}" in done.stderr


def test_weights_on_suites_with_images(evaluate, root, tmp_path):
    v2 = write_folders(tmp_path / "v2", [("0", 0), ("10", 10), ("2", 2)])
    a = write_folders(tmp_path / "a", [(WNIDS[3], 3), (WNIDS[30], 30)])
    args = ("--weights", root / "weights.pth", "--arch", "resnet18", "--size", "32")
    done = evaluate(*args, "--suite", f"v2={v2}", "--suite", f"a={a}", "--json")
    first, second = results(done)
    assert (first["suite"], first["images"]) == ("v2", 3)
    assert (second["suite"], second["images"], second["correct5"]) == ("a", 2, 2)
    assert "is not comparable with other results: " in done.stderr


def test_the_same_counts_in_two_processes(evaluate):
    keys = ("correct1", "correct5", "images", "confusions")
    (alone,), (two,) = results(evaluate("first", "--json")), results(evaluate("first", "--json", "--cpu-procs", "2"))
    assert [alone[k] for k in keys] == [two[k] for k in keys]


@pytest.mark.parametrize(
    ("args", "code", "message", "hint"),
    [
        (["nothing"], 1, "no run or checkpoint nothing", "runs in"),
        (["first", "--against", "nothing"], 1, "no run or checkpoint nothing", "runs in"),
        (["--suite", "reall=x"], 2, "unknown suite reall: did you mean real?", "--suite NAME=PATH"),
        (["--suite", "real"], 2, "--suite real needs a path", "real.json"),
        (["--suite", "real=nothing.json"], 3, "cannot read nothing.json", "real=FILE"),
        (["--suite", "a=nothing"], 3, "there is no folder nothing", "ImageNet-A"),
        (["--set", "data.hflip=0.1"], 2, "data.hflip has no effect", "data.val_size"),
        (["--size", "4000"], 2, "data.val_size", ""),
        (["first", "second", "--sheet", "w.png"], 2, "a single model on a single suite", "one RUN"),
        (["--sheet", "w.txt"], 2, "not the name of an image file", "FILE.png"),
    ],
)
def test_what_cannot_be_is_told(args, code, message, hint, evaluate):
    done = evaluate(*args)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert hint in done.stderr.partition("hint:")[2]
    assert done.stdout == ""
