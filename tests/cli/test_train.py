"""`resnetctl train` and `eval` as users run them: processes, signals and files on disk."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from resnetctl.data.prepare import prepare

# a run of 12 steps that saves every 3rd and evaluates at its end
SHORT = (
    *("--arch", "resnet18", "--epochs", "1", "--batch-size", "32", "--max-steps", "12"),
    *("--set", "checkpoint.every_steps=3", "--set", "train.loss_every=4"),
)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sample")
    prepare(root, kind="sample")
    return root


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "RESNETCTL_DATA": str(root), "RESNETCTL_PROGRESS_SECONDS": "0"}


def start(root: Path, cwd: Path, *args: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "resnetctl", "train", *args]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(root), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def run(root: Path, cwd: Path, *args: str) -> subprocess.CompletedProcess:
    process = start(root, cwd, *args)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def wait_for(condition, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


def records(run_folder: Path) -> list[str]:
    return sorted(p.name for p in (run_folder / "checkpoints").glob("*.json"))


def losses(run_folder: Path) -> list[dict]:
    """The metrics less what the clock says."""
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    clock = ("images_per_second", "waiting", "time", "seconds")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


@pytest.fixture(scope="module")
def whole(sample, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run."""
    cwd = tmp_path_factory.mktemp("whole")
    done = run(sample, cwd, *SHORT, "--name", "whole", "--workers", "0")
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "whole"


def test_a_run_leaves_what_the_readme_says(whole, sample):
    assert (whole.parent / "latest").resolve() == whole
    assert "epochs = 1  # from --epochs" in (whole / "recipe.toml").read_text()
    assert [line["step"] for line in losses(whole)] == [4, 8, 12, 12]
    assert records(whole)[-1] == "step-00000012.json"
    newest = whole / "checkpoints" / "step-00000012.safetensors"
    model = {k.removeprefix("model."): t for k, t in load_file(newest).items() if k.startswith("model.")}
    torchvision.models.resnet18(num_classes=10).load_state_dict(model, strict=True)


def test_resnet50_loads_strictly_into_torchvision(sample, tmp_path):
    done = run(sample, tmp_path, "--epochs", "1", "--max-steps", "1", "--batch-size", "4", "--json")
    assert done.returncode == 0, done.stderr
    model = load_file(tmp_path / json.loads(done.stdout)["checkpoint"])
    model = {k.removeprefix("model."): t for k, t in model.items() if k.startswith("model.")}
    torchvision.models.resnet50(num_classes=10).load_state_dict(model, strict=True)


@pytest.mark.parametrize(("before", "after"), [(2, 0), (1, 2)])
def test_killed_in_mid_epoch_and_resumed_gives_the_same_bits(whole, sample, tmp_path, before, after):
    process = start(sample, tmp_path, *SHORT, "--name", "cut", "--workers", str(before))
    folder = tmp_path / "runs" / "cut"
    wait_for(lambda: folder.is_dir() and records(folder), process)
    process.kill()
    process.communicate()
    saved = records(folder)
    assert saved
    assert "step-00000012.json" not in saved
    done = run(sample, tmp_path, "--resume", "--workers", str(after))
    assert done.returncode == 0, done.stderr
    assert "resuming after step" in done.stderr
    name = "checkpoints/step-00000012.safetensors"
    ours, theirs = load_file(folder / name), load_file(whole / name)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert losses(folder) == losses(whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_saves_and_stops(whole, sample, tmp_path, number, code):
    process = start(sample, tmp_path, *SHORT, "--name", "stopped", "--workers", "1")
    folder = tmp_path / "runs" / "stopped"
    wait_for(lambda: folder.is_dir() and records(folder), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "stopped after step" in err
    assert not [p for p in folder.rglob("*") if "tmp" in p.name]
    done = run(sample, tmp_path, "--resume", "stopped")
    assert done.returncode == 0, done.stderr
    assert losses(folder) == losses(whole)


def test_eval_of_the_latest_run_of_a_name_and_of_a_file_agree(whole, sample, cli):
    env = {"RESNETCTL_DATA": str(sample), "RESNETCTL_RUNS": str(whole.parent)}
    file = whole / "checkpoints" / "step-00000012.safetensors"
    documents = [
        json.loads(cli("eval", *which, "--json", env=env).stdout)["results"][0] for which in ([], ["whole"], [file])
    ]
    first = documents[0]
    assert first["images"] == 500
    assert first["top1"] == pytest.approx(first["correct1"] / 5)
    assert first["top5"] == pytest.approx(first["correct5"] / 5)
    assert {"loss", "checkpoint", "seconds"} <= first.keys()
    for document in documents:
        assert [document[k] for k in ("correct1", "correct5", "loss")] == [
            first[k] for k in ("correct1", "correct5", "loss")
        ]
    assert first["top1"] == losses(whole)[-1]["top1"]
    table = cli("eval", env=env)
    assert table.returncode == 0
    assert f"{first['top1']:.2f}" in table.stdout


def test_the_recipe_is_chosen_and_said(sample, tmp_path, cli):
    done = cli(
        *("train", "--data", sample, "--max-steps", 1, "--arch", "resnet18", "--batch-size", 8, "--device", "cpu")
    )
    assert done.returncode == 0, done.stderr
    assert "recipe tiny: the data set fashion-mnist-sample names it" in done.stderr
    assert done.stdout == ""


def test_a_finished_run_resumed_stays_as_it_is(whole, sample, cli):
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    done = cli("train", "--resume", "whole", "--data", sample, "--runs", whole.parent)
    assert done.returncode == 0
    assert {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()} == before


BAD = [
    (["trian"], 2, "unknown command", "did you mean train?"),
    (["train", "--epoch", "3"], 2, "--epoch", "--epochs"),
    (["train", "--recipe", "smal"], 2, "no recipe is called smal", "resnetctl recipe list"),
    (["train", "--device", "cdua"], 2, "unknown device", "one of auto"),
    (["train", "--set", "optimizer.lrr=1"], 2, "did you mean optimizer.lr?", "recipe show"),
    (["train", "--set", "optimizer.lr=fast"], 2, "must be a number", "recipe show"),
    (["train", "--set", "optimizer.lr"], 2, "key=value", "for example"),
    (["train", "--arch", "resnet51"], 2, "model.arch", "recipe show"),
    (["train", "--data", "nowhere"], 3, "no data set is prepared in nowhere", "resnetctl prepare"),
    (["train", "--batch-size", "100000"], 2, "is less than one batch (100000)", "--batch-size"),
    (["train", "--resume", "nothing"], 1, "no run or checkpoint nothing", "runs"),
    (["train", "--resume", "no/step-00000001.safetensors"], 1, "no/step-00000001.safetensors", "resnetctl"),
    (["train", "something"], 2, "something", "--resume something"),
    (["train", "--name", "../out"], 2, "cannot be a run's name", "letters, digits"),
    (["eval", "nothing"], 1, "no run or checkpoint nothing", "runs"),
    (["eval", "--data", "nowhere"], 1, "there is no run", "resnetctl train"),
]


@pytest.mark.parametrize(("args", "code", "message", "hint"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_bad_input_is_one_clear_error(args, code, message, hint, sample, cli, tmp_path):
    done = cli(*args, env={"RESNETCTL_DATA": str(sample)})
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("error:") == 1
    assert message in done.stderr
    assert hint in done.stderr.partition("hint:")[2]
    assert list(tmp_path.iterdir()) == []  # nothing was made


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(sample, cli, tmp_path):
    done = cli("train", "--device", "cuda", "--data", sample)
    assert done.returncode == 2
    assert "torch finds no cuda device" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_overwritten(whole, sample, cli):
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    done = cli("train", "--name", "whole", "--data", sample, "--runs", whole.parent)
    assert done.returncode == 2
    assert "already a run" in done.stderr
    assert {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()} == before


def test_changed_values_need_a_word(whole, sample, cli):
    done = cli("train", "--resume", "whole", "--lr", 3, "--data", sample, "--runs", whole.parent)
    assert done.returncode == 2
    assert "optimizer.lr: 0.1 → 3.0" in done.stderr
    assert "--allow-changes" in done.stderr


def test_another_data_set_is_refused(whole, sample, cli, tmp_path):
    prepare(tmp_path / "other", kind="sample")
    index = tmp_path / "tree"
    for split in ("train", "val"):
        for c in ("cat", "dog"):
            folder = index / split / c
            folder.mkdir(parents=True)
            for i in range(40):
                (folder / f"{i}.png").write_bytes(png())
    prepare(tmp_path / "data", index)
    done = cli("train", "--resume", "whole", "--data", tmp_path / "data", "--runs", whole.parent)
    assert done.returncode == 3
    assert "not the data set that the run was started on" in done.stderr
    done = cli("eval", "whole", "--data", tmp_path / "data", "--runs", whole.parent)
    assert done.returncode == 3
    assert "was trained on 10 classes, but this data set has 2" in done.stderr


def png() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 10, 90)).save(out, "PNG")
    return out.getvalue()


def test_events_of_a_killed_and_resumed_run_have_each_step_once(sample, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "runs" / "seen"
    often = ("--set", "train.loss_every=1", "--set", "train.tensorboard=true")
    process = start(sample, tmp_path, *SHORT, *often, "--name", "seen", "--workers", "0")
    wait_for(lambda: len(records(folder)) >= 1 and len(losses(folder)) >= 5, process)
    process.kill()
    process.communicate()
    done = run(sample, tmp_path, "--resume", "seen", "--workers", "1")
    assert done.returncode == 0, done.stderr
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("train/loss")] == [
        (line["step"], line["loss"]) for line in losses(folder) if line["kind"] == "train"
    ]
    assert [e.step for e in events.Scalars("train/loss")] == list(range(1, 13))
    assert [e.step for e in events.Scalars("val/top1")] == [12]


def test_without_tensorboard_no_training_begins(sample, tmp_path):
    (tmp_path / "tensorboard.py").write_text("raise ImportError")
    done = run(sample, tmp_path, *SHORT, "--set", "train.tensorboard=true")
    assert done.returncode == 1
    assert "hint: pip install 'resnetctl[tensorboard]'" in done.stderr
    assert not (tmp_path / "runs").exists()
