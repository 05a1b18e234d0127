"""A killed and resumed run has the bits of an uninterrupted one with everything on that draws, averages or cuts."""

import signal

import pytest

from tests.reliability.conftest import OPTIONS, assert_same, left, steps
from tests.reliability.test_faults import SAVE_STEPS, run
from tests.reliability.test_kills import resume_until_done

VALUES = {
    "data.augment": "rand-augment",
    "data.random_erase": "0.3",
    "data.color_jitter": "[0.2, 0.2, 0.2, 0.1]",
    "data.repeated_augmentation": "2",
    "train.mixup_alpha": "0.2",
    "train.cutmix_alpha": "1.0",
    "train.micro_batch": "3",
    "train.clip_grad_norm": "1.0",
    "train.loss": "bce",
    "train.label_smoothing": "0.1",
    "model.drop_path": "0.2",
    "ema.every_steps": "3",
    "ema.decay": "0.7",
}
EVERYTHING = (*OPTIONS, *(word for key, value in VALUES.items() for word in ("--set", f"{key}={value}")))


def uninterrupted(zygote, folder, *options):
    done = run(zygote, folder, *EVERYTHING, *options, "--name", "whole")
    assert done.returncode == 0, done.err
    return left(folder / "whole", folder / "trace")


def killed_and_resumed(zygote, folder, *options, resumed=("--resume",)):
    killed = run(zygote, folder, *EVERYTHING, *options, "--name", "run", kill=SAVE_STEPS["committed"])
    assert killed.returncode == -signal.SIGKILL
    assert steps(folder / "run")[-1] == 8
    return resume_until_done(zygote, folder, "run", args=resumed)


def test_on_one_rank_with_another_number_of_workers(zygote, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = uninterrupted(zygote, tmp_path / "a", "--workers", "0")
    found = killed_and_resumed(zygote, tmp_path / "b", "--workers", "2", resumed=("--resume", "--workers", "0"))
    assert any(name.startswith("ema.") for name in whole.tensors)
    assert_same(whole, found)


@pytest.mark.slow
def test_on_two_ranks(zygote, tmp_path):
    """Stopped by a limit of steps instead of a kill, which the launcher would answer by itself."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    two = ("--cpu-procs", "2", "--workers", "1")
    whole = uninterrupted(zygote, tmp_path / "a", *two)
    stopped = run(zygote, tmp_path / "b", *EVERYTHING, *two, "--name", "run", "--max-steps", "7")
    assert stopped.returncode == 0, stopped.err
    found = resume_until_done(
        zygote, tmp_path / "b", "run", args=("--resume", "--cpu-procs", "2", "--set", "train.max_steps=0")
    )
    assert found.tensors.keys() == whole.tensors.keys()
    assert all(whole.tensors[k].equal(found.tensors[k]) for k in whole.tensors)
    assert found.samples == whole.samples
