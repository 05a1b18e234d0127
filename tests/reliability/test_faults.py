"""Faults 21 to 34 and 36 to 37, each injected for real; the table is in README.md beside this file."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from resnetctl.data.prepare import prepare
from resnetctl.runs.checkpoint import Checkpoint, load_file, save_checkpoint
from tests.reliability.conftest import OPTIONS, assert_same, left, steps
from tests.reliability.test_kills import SAVE_STEPS, resume_until_done
from tests.reliability.test_ranks import workers_of

EIGHT = ("--set", "train.max_steps=8")
SEVERAL = 6
PATIENT = ("--set", "data.timeout_seconds=300")


def start(zygote, folder, *args, **how):
    return zygote.start("train", *args, "--runs", folder, RESNETCTL_TRACE=str(folder / "trace"), **how)


def run(zygote, folder, *args, **how):
    done = start(zygote, folder, *args, **how)
    done.wait()
    return done


def killed_after(zygote, folder):
    """A run that was killed right after its fourth save, that of step 8, had been committed."""
    killed = run(zygote, folder, *OPTIONS, "--name", "run", kill=SAVE_STEPS["committed"])
    assert killed.returncode == -signal.SIGKILL
    assert steps(folder / "run")[-1] == 8
    return folder / "run"


def spoil(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


# --- train --------------------------------------------------------------------------------------------------------


def test_21_a_corrupt_image_has_a_substitute_and_is_told(zygote, broken, tmp_path):
    root, images = broken
    spoil(images[5])
    results = []
    for name, workers in (("one", 0), ("two", 2)):
        done = run(zygote, tmp_path, *OPTIONS, "--name", name, "--data", root, "--workers", workers)
        assert done.returncode == 0, done.err
        assert done.err.count(f"{images[5].name}: another image took its place") == 1
        assert "1 image could not be read and had substitutes" in done.err
        results.append(left(tmp_path / name))
    assert_same(*results)


def test_21_too_many_corrupt_images_end_the_run(zygote, broken, tmp_path):
    root, images = broken
    for path in images[:20]:
        spoil(path)
    done = run(zygote, tmp_path, *OPTIONS, "--name", "run", "--data", root)
    assert done.returncode == 3
    assert "of 70 images cannot be read" in done.err


def test_22_a_killed_worker_is_an_error_and_the_run_goes_on_later(zygote, whole, tmp_path):
    command = start(zygote, tmp_path, *OPTIONS, "--name", "run")
    command.until(lambda: steps(tmp_path / "run"))
    os.kill(workers_of(command.pid)[0], signal.SIGKILL)
    assert command.wait() == 1
    assert "error: a loader worker died" in command.err
    assert "hint:" in command.err
    assert_same(whole, resume_until_done(zygote, tmp_path, "run"))


def test_23_a_worker_that_hangs_is_an_error_after_the_timeout(zygote, whole, broken, tmp_path):
    """As where a network's storage does not answer: opening a pipe that nobody writes to never returns."""
    root, images = broken
    data = images[5].read_bytes()
    images[5].unlink()
    os.mkfifo(images[5])
    done = run(zygote, tmp_path, *OPTIONS, "--name", "run", "--data", root, "--set", "data.timeout_seconds=2")
    assert done.returncode == 1
    assert "error: no batch came from the loader workers for 2 seconds" in done.err
    images[5].unlink()
    images[5].write_bytes(data)
    assert_same(whole, resume_until_done(zygote, tmp_path, "run", ("--resume", "--data", root, *PATIENT)))


def test_24_a_loss_that_is_not_finite_ends_the_run_and_is_never_saved(zygote, tmp_path):
    settings = ("--lr", "1000", "--set", "schedule.warmup_epochs=0", "--set", "train.loss_every=100")
    done = run(zygote, tmp_path, *OPTIONS, *settings, "--name", "run", "--set", "checkpoint.every_steps=1")
    assert done.returncode == 1
    assert "the run has diverged (the checkpoint of step" in done.err
    kept = steps(tmp_path / "run")[-1]
    assert f"the checkpoint of step {kept} is kept" in done.err
    tensors = load_file(tmp_path / "run" / "checkpoints" / f"step-{kept:08d}.safetensors").tensors
    assert all(tensors[k].isfinite().all() for k in tensors if k.startswith("progress."))


def test_25_a_full_disk_ends_the_run_and_the_earlier_checkpoint_is_whole(zygote, whole, tmp_path):
    killed_after(zygote, tmp_path)
    full = run(zygote, tmp_path, "--resume", limits={"RLIMIT_FSIZE": 50 << 20})
    assert full.returncode == 1
    assert "cannot save a checkpoint" in full.err
    assert "the checkpoint of step 8 is intact" in full.err
    assert "Traceback" not in full.err
    assert steps(tmp_path / "run")[-1] == 8
    assert not [p for p in (tmp_path / "run" / "checkpoints").iterdir() if "tmp" in p.name]
    assert_same(whole, resume_until_done(zygote, tmp_path, "run"))


def test_26_too_little_memory_says_which_micro_batch_to_try(zygote, tmp_path):
    large = ("--batch-size", "64", "--set", "data.train_size=448", "--workers", "0")
    limit = {"RLIMIT_AS": zygote.memory() + (1200 << 20)}
    done = run(zygote, tmp_path, *OPTIONS, *large, "--name", "run", limits=limit)
    assert done.returncode == 1, done.err
    assert "too little memory for 64 images of 448 pixels at a time" in done.err
    assert "--set train.micro_batch=32" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
def test_27_a_signal_saves_and_stops(number, code, zygote, whole, tmp_path):
    command = start(zygote, tmp_path, *OPTIONS, "--name", "run", "--set", "checkpoint.every_steps=100")
    command.until(lambda: len(seen(tmp_path)) > 3)
    os.killpg(command.pid, number)  # as a terminal does: the workers get it too
    assert command.wait() == code, command.err
    stopped = steps(tmp_path / "run")
    assert len(stopped) == 1
    assert f"stopped after step {stopped[0]} of 17, " in command.err
    final = resume_until_done(zygote, tmp_path, "run", ("--resume", "--set", "checkpoint.every_steps=2"))
    assert_same(whole, final)


def seen(folder: Path) -> list[str]:
    trace = folder / "trace"
    return trace.read_text().splitlines() if trace.exists() else []


def test_27_a_second_signal_quits_at_once_and_leaves_no_torn_file(zygote, whole, tmp_path):
    command = start(zygote, tmp_path, *OPTIONS, "--name", "run")
    command.until(lambda: len(seen(tmp_path)) > SEVERAL)
    command.send(signal.SIGINT)
    command.send(signal.SIGINT)
    assert command.wait() == 130
    assert "Traceback" not in command.err
    verified = zygote.run("checkpoint", "verify", "run", "--runs", tmp_path, "--json")
    for found in json.loads(verified.out)["checkpoints"]:
        assert found["ok"] or "unfinished" in found["problem"]
    assert_same(whole, resume_until_done(zygote, tmp_path, "run"))


# --- resume -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["flipped", "truncated"])
def test_29_a_damaged_newest_checkpoint_falls_back_and_says_so(harm, zygote, whole, tmp_path):
    folder = killed_after(zygote, tmp_path) / "checkpoints"
    damage(folder / "step-00000008.safetensors", harm)
    final = resume_until_done(zygote, tmp_path, "run")
    assert_same(whole, final)
    assert (folder / "step-00000008.damaged").exists()
    assert [line.split()[1] for line in seen(tmp_path)].count("6") == 2  # it went on after step 6


def damage(path: Path, harm: str) -> None:
    with path.open("r+b") as file:
        if harm == "truncated":
            file.truncate(path.stat().st_size // 2)
        else:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 0x10]))


def test_30_all_damaged_is_refused_and_nothing_is_started_anew(zygote, tmp_path):
    folder = killed_after(zygote, tmp_path) / "checkpoints"
    for path in folder.glob("*.safetensors"):
        damage(path, "flipped")
    before = sorted(p.name for p in folder.iterdir())
    done = run(zygote, tmp_path, "--resume")
    assert done.returncode == 1
    assert "error: all 3 checkpoints in" in done.err
    assert sorted(p.name for p in folder.iterdir()) == before
    assert [p.name for p in tmp_path.iterdir() if p.is_dir() and not p.is_symlink()] == ["run"]


@pytest.mark.parametrize("workers", [0, 3])
def test_31_another_number_of_workers_changes_nothing(workers, zygote, whole, tmp_path):
    killed_after(zygote, tmp_path)
    assert_same(whole, resume_until_done(zygote, tmp_path, "run", ("--resume", "--workers", workers)))


def test_32_another_data_set_is_refused(zygote, broken, tmp_path):
    killed_after(zygote, tmp_path)
    root, images = broken
    images[0].unlink()
    prepare(root, root.parent / "tree")
    done = run(zygote, tmp_path, "--resume", "--data", root)
    assert done.returncode == 3
    assert "this is not the data set that the run was started on: it has 69 train images instead of 70" in done.err


@pytest.mark.parametrize(("flag", "value", "shown"), [
    ("--lr", "0.5", "optimizer.lr: "), ("--batch-size", "24", "train.global_batch: 12 → 24"),
    ("--seed", "7", "train.seed: 0 → 7"),
])  # fmt: skip
def test_33_a_changed_recipe_is_shown_and_needs_a_flag(flag, value, shown, zygote, tmp_path):
    killed_after(zygote, tmp_path)
    refused = run(zygote, tmp_path, "--resume", flag, value)
    assert refused.returncode == 2
    assert shown in refused.err
    assert "--allow-changes" in refused.err
    assert steps(tmp_path / "run")[-1] == 8
    if flag == "--lr":
        taken = run(zygote, tmp_path, "--resume", flag, value, "--allow-changes")
        assert taken.returncode == 0, taken.err


def test_34_at_an_exact_epoch_end_nothing_is_repeated_or_left_out(zygote, tmp_path):
    # the loss is read at a run's last step too, whatever it is: here every epoch ends with a reading
    exact = (*OPTIONS, "--batch-size", "10", "--epochs", "2")
    exact = (*exact, "--set", "checkpoint.every_steps=7", "--set", "train.loss_every=7")
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    assert run(zygote, folders[0], *exact, "--name", "run").returncode == 0
    assert run(zygote, folders[1], *exact, "--name", "run", "--max-steps", "7").returncode == 0
    final = resume_until_done(zygote, folders[1], "run", ("--resume", "--set", "train.max_steps=0"))
    assert_same(left(folders[0] / "run", folders[0] / "trace"), final)
    for epoch in (0, 1):
        epochs = [seen_in(text) for (step, _, _), text in final.samples.items() if step // 7 == epoch]
        assert sorted(s for samples in epochs for s in samples) == list(range(70))


def seen_in(text: str) -> list[int]:
    return json.loads(text.partition("samples ")[2])


def test_34_a_missing_path_to_resume_is_an_error(zygote, tmp_path):
    for which in ("nothing", str(tmp_path / "step-00000008.safetensors")):
        done = run(zygote, tmp_path, "--resume", which)
        assert done.returncode == 1
        assert "error: " in done.err
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


# --- eval ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(zygote, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert run(zygote, folder, *OPTIONS, "--name", "run", "--epochs", "1").returncode == 0
    return folder / "run" / "checkpoints" / "step-00000005.safetensors"


def test_36_a_permuted_label_order_is_refused(trained, zygote, tmp_path):
    known = load_file(trained)
    metadata = replace(known.metadata, classes=known.metadata.classes[::-1])
    save_checkpoint(tmp_path, Checkpoint(known.tensors, metadata))
    done = zygote.run("eval", tmp_path / trained.name)
    assert done.returncode == 3
    assert "the same classes in another order" in done.err


def test_36_fewer_than_five_classes(trained, zygote):
    (result,) = json.loads(zygote.run("eval", trained, "--json").out)["results"]
    assert (result["images"], result["top5"]) == (23, 100.0)


def test_37_an_unreadable_image_counts_as_wrong(trained, zygote, broken):
    root, _ = broken
    images = sorted((root.parent / "tree" / "val").glob("*/*.jpg"))
    spoil(images[0])
    (result,) = json.loads(zygote.run("eval", trained, "--data", root, "--json").out)["results"]
    assert (result["images"], result["unreadable"], result["correct5"]) == (23, 1, 22)
    for path in images[1:3]:
        spoil(path)
    refused = zygote.run("eval", trained, "--data", root)
    assert refused.returncode == 3
    assert "3 of 23 val images cannot be read" in refused.err
