"""What a wrong command line is answered, and what other programs' words lead to."""

import pytest


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (["trian"], "unknown command 'trian'", "did you mean train?"),
        (["train", "--epochs", "x"], "--epochs: 'x' is not a whole number", "resnetctl train --help"),
        (["train", "--epochs", "0"], "--epochs: 0 is too small: at least 1", "resnetctl train --help"),
        (["train", "--lr", "fast"], "--lr: 'fast' is not a number", "resnetctl train --help"),
        (["prepare", "--val-fraction", "0.9"], "0.9 is not between 0.0 and 0.5", "resnetctl prepare --help"),
        (["info", "--jsn"], "unknown option --jsn", "did you mean --json?"),
        (["info", "--quiet=yes"], "--quiet takes no value", "resnetctl --help"),
        (["train", "--lr"], "--lr needs a value", "resnetctl --help"),
        (["recipe", "shwo", "small"], "unknown command 'shwo'", "did you mean show?"),
        (["completion"], "missing argument SHELL", "resnetctl completion --help"),
        (["info", "what"], "unexpected argument 'what'", "resnetctl info --help"),
        (["train", "--workers", "-1"], "--workers: -1 is too small: at least 0", "resnetctl train --help"),
        (["export", "-f", "onxn"], "--format: 'onxn' is not one of 'safetensors'", "resnetctl export --help"),
        (["\x1b[31mred"], "unknown command", "resnetctl --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_command_lines(cli, args, error, hint):
    done = cli(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    first, empty, last = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert empty == ""
    assert last.startswith("hint: ")
    assert hint in last
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("args", "ours"),
    [
        ("train --bs 32", "--batch-size?"),
        ("train --batch 32", "--batch-size?"),
        ("train --model resnet50", "--arch?"),
        ("train --learning-rate 1", "--lr?"),
        ("train --image-size 160", "--set data.train_size=…?"),
        ("train --wd 1e-4", "--set optimizer.weight_decay=…?"),
        ("train --weight-decay 1e-4", "--set optimizer.weight_decay=…?"),
        ("train --warmup-epochs 5", "--set schedule.warmup_epochs=…?"),
        ("train --epoch 3", "--epochs?"),
        ("bench --bs 32", "--batch-size?"),
        ("test", "eval?"),
        ("resume", "train --resume?"),
        ("help", "resnetctl --help"),
        ("recipe help", "resnetctl recipe --help"),
        ("-V", "resnetctl --version?"),
    ],
)
def test_words_of_other_programs_lead_to_ours(cli, args, ours):
    done = cli(*args.split())
    assert done.returncode == 2
    assert ours in done.stderr.partition("hint: ")[2]


@pytest.mark.parametrize("option", ["--pretrained", "--weights"])
def test_weights_of_other_programs_lead_to_ours(cli, option):
    """On a command that has not the option itself."""
    assert "weights" in cli("bench", option, "x").stderr.partition("hint: ")[2]


def test_nothing_is_suggested_that_the_command_does_not_take(cli):
    assert cli("verify", "--bs", "3").stderr == "error: unknown option --bs\n\nhint: run: resnetctl verify --help\n"
