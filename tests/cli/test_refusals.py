"""What is refused, or said, where a result would be wrong or a run could not go on: the program from outside."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

SMALL = (
    *("--arch", "resnet18", "--workers", "0", "--batch-size", "4", "--epochs", "2", "--device", "cpu"),
    *("--set", "data.train_size=32", "--set", "data.val_size=32", "--set", "data.val_resize=32"),
)


def pictures(root: Path, train: int = 6, val: int = 10) -> Path:
    for split, count in (("train", train), ("val", val)):
        for c in "ab":
            folder = root / split / c
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (40 + i, 36), (20 * i, 90 if c == "a" else 200, 60)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data/, pictures/ and a run called `first`."""
    folder = tmp_path_factory.mktemp("trained")
    pictures(folder / "pictures")
    for arguments in (("prepare", "pictures"), ("train", *SMALL, "--name", "first")):
        subprocess.run([sys.executable, "-m", "resnetctl", *arguments], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def place(trained, tmp_path) -> Path:
    """A copy of it, whose images lie where the index says."""
    shutil.copytree(trained, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def prepared(cli, place: Path) -> None:
    assert cli("prepare", "pictures", cwd=place).returncode == 0


def test_a_val_set_that_is_gone_is_not_measured(cli, place):
    prepared(cli, place)
    (place / "pictures" / "val").rename(place / "elsewhere")
    done = cli("eval", "first", cwd=place)
    assert done.returncode == 3
    assert "val" in done.stderr
    assert "gone" in done.stderr
    assert "resnetctl prepare SOURCE" in done.stderr
    assert done.stdout == ""


def test_a_data_set_that_is_gone_is_not_trained_on_and_leaves_no_run(cli, place):
    prepared(cli, place)
    (place / "pictures").rename(place / "elsewhere")
    done = cli("train", *SMALL, "--name", "second", cwd=place)
    assert done.returncode == 3
    assert "gone" in done.stderr
    assert not (place / "runs" / "second").exists()


def test_many_images_that_cannot_be_read_are_no_wrong_answers(cli, place):
    prepared(cli, place)
    for i in range(3):
        path = place / "pictures" / "val" / "a" / f"{i}.png"
        path.write_bytes(bytes(path.stat().st_size))
    done = cli("eval", "first", cwd=place)
    assert done.returncode == 3
    assert "3 of 20 val images cannot be read" in done.stderr


def test_an_evaluation_of_few_images_does_not_count_while_training(cli, place):
    prepared(cli, place)
    for path in (place / "pictures" / "val" / "a").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    done = cli("train", *SMALL, "--name", "blind", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "this evaluation does not count" in done.stderr
    lines = [json.loads(line) for line in (place / "runs" / "blind" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if line["kind"] == "eval"] == [None, None]
    listed = cli("checkpoint", "list", "blind", cwd=place).stdout
    assert "best" not in listed


def test_fewer_steps_than_a_run_has_done_are_refused(cli, place):
    prepared(cli, place)
    for arguments in (("first",), ("first", "--allow-changes", "--epochs", "1")):
        given = () if "--epochs" in arguments else ("--max-steps", "3")
        done = cli("train", "--resume", *arguments, *given, cwd=place)
        assert done.returncode == 2, done.stderr
        assert "has reached step 6" in done.stderr


def test_one_image_at_a_time_where_batch_norm_has_one_value(cli, place):
    prepared(cli, place)
    done = cli("train", *SMALL, "--batch-size", "1", "--name", "one", cwd=place)
    assert done.returncode == 2
    assert "batch norm" in done.stderr
    assert "--batch-size 2" in done.stderr
    assert not (place / "runs" / "one").exists()


def test_three_images_are_less_than_a_batch(cli, tmp_path):
    pictures(tmp_path / "few", train=2, val=1)
    (tmp_path / "few" / "train" / "a" / "1.png").unlink()
    assert cli("prepare", "few").returncode == 0
    done = cli("train", "--recipe", "small", "--epochs", "1")
    assert done.returncode == 2
    assert "3 images × 1 epoch is less than one batch (64)" in done.stderr
    assert "--batch-size 2" in done.stderr


def test_weights_that_are_no_weights(cli, place):
    prepared(cli, place)
    (place / "empty.pth").touch()
    torch.save({"state_dict": object()}, place / "object.pth")
    (place / "text.pth").write_text("hello")
    wanted = {"empty.pth": "it is empty", "object.pth": "more than tensors", "text.pth": "damaged"}
    for name, why in wanted.items():
        done = cli("train", *SMALL, "--set", f"model.weights={name}", "--name", "new", cwd=place)
        assert done.returncode == 1
        assert why in done.stderr
        assert "weights_only" not in done.stderr
        assert "\\x1b" not in done.stderr
        assert not (place / "runs" / "new").exists()


def test_weights_that_are_not_finite_or_of_another_network(cli, place):
    prepared(cli, place)
    from torchvision.models import resnet34

    state = resnet34(num_classes=2).state_dict()
    save_file(state, place / "other.safetensors")
    done = cli("train", *SMALL, "--set", "model.weights=other.safetensors", cwd=place)
    assert "it looks like a resnet34: --arch resnet34" in done.stderr
    state["fc.bias"][0] = torch.nan
    save_file(state, place / "nan.safetensors")
    done = cli("train", *SMALL, "--arch", "resnet34", "--set", "model.weights=nan.safetensors", cwd=place)
    assert done.returncode == 1
    assert "not finite: fc.bias" in done.stderr


def test_files_whose_records_were_deleted_are_named_with_what_to_do(cli, place):
    prepared(cli, place)
    for record in (place / "runs" / "first" / "checkpoints").glob("*.json"):
        record.unlink()
    done = cli("train", "--resume", "first", cwd=place)
    assert done.returncode == 1
    assert "no commit record" in done.stderr
    newest = "runs/first/checkpoints/step-00000006.safetensors"
    assert newest in done.stderr
    assert cli("eval", newest, cwd=place).returncode == 0


def test_a_newer_file_without_a_record_is_mentioned(cli, place):
    prepared(cli, place)
    folder = place / "runs" / "first" / "checkpoints"
    shutil.copy(folder / "step-00000006.safetensors", folder / "step-00000009.safetensors")
    done = cli("train", "--resume", "first", cwd=place)
    assert done.returncode == 0
    assert "step-00000009.safetensors is newer but has no commit record" in done.stderr


def test_the_recipe_file_says_what_the_run_does_now(cli, place):
    prepared(cli, place)
    done = cli("train", "--resume", "first", "--allow-changes", "--epochs", "3", cwd=place)
    assert done.returncode == 0, done.stderr
    recipe = place / "runs" / "first" / "recipe.toml"
    assert "epochs = 3  # from --epochs" in recipe.read_text()
    recipe.write_text(recipe.read_text().replace("hflip = 0.5", "hflip = 0.1"))
    done = cli("train", "--resume", "first", cwd=place)
    assert "recipe.toml was edited, which has no effect" in done.stderr
    assert "--allow-changes --set data.hflip=0.1" in done.stderr


def test_the_loss_is_shown_from_the_first_step(cli, place):
    prepared(cli, place)
    env = {"RESNETCTL_PROGRESS_SECONDS": "0"}
    done = cli("train", *SMALL, "--name", "shown", cwd=place, env=env)
    steps = [line for line in done.stderr.splitlines() if "step 1/" in line]
    assert steps
    assert "loss -" not in done.stderr
