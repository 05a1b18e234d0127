"""A run's events as plain lines and as a live bar; names from outside are shown and never obeyed."""

import io
import math
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from resnetctl.cli import live
from resnetctl.cli.render import renderer
from resnetctl.engine.events import (
    Evaluated,
    Evaluating,
    Finished,
    Notice,
    RunningLoss,
    Saved,
    Started,
    Stepped,
)
from tests.process import call

EVIL = "n01440764/img[/][bold]:smile:\x1b[31m\n.JPEG"
SHOWN = "n01440764/img[/][bold]:smile:\\x1b[31m\\n.JPEG"

STARTED = Started(
    run=Path("runs/a"),
    recipe="small",
    arch="resnet50",
    device="cpu",
    precision="fp32",
    compiled=False,
    workers=1,
    world_size=1,
    global_batch=64,
    micro_batch=64,
    train_images=2000,
    val_images=500,
    classes=10,
    epochs=10,
    steps=312,
    first_step=0,
)
STEPPED = Stepped(
    step=50,
    steps=312,
    epoch=1.6,
    epochs=10,
    epoch_step=18,
    epoch_steps=31,
    loss=2.34567,
    lr=0.0123,
    size=64,
    images_per_second=1234.5,
    waiting=0.034,
    eta_seconds=3725.0,
)
EVALUATED = Evaluated(step=312, epoch=10, top1=84.5, top5=99.2, loss=0.6, images=500, seconds=1.5)
FINISHED = Finished(
    run=Path("runs/a"),
    first_step=0,
    step=312,
    steps=312,
    steps_planned=312,
    top1=84.5,
    top5=99.2,
    seconds=119.6,
    images_per_second=167.0,
    waiting=0.01,
    checkpoint=Path("runs/a/checkpoints/step-00000312.safetensors"),
    unreadable=(),
)


@pytest.fixture(autouse=True)
def every_drawing(monkeypatch):
    monkeypatch.setattr(live, "REDRAW_SECONDS", 0.0)


def plain(*events, verbose=False, quiet=False, seconds=0.0) -> list[str]:
    """Lines in a log; the console's own settings are Rich's, which read markup."""
    file = io.StringIO()
    with renderer(Console(file=file, width=60), quiet=quiet, verbose=verbose, seconds=seconds) as show:
        for event in events:
            show(event)
    return file.getvalue().splitlines()


def drawn(*events, verbose=False, width=120) -> str:
    """What stands on a terminal's screen at the end, and before in the lines that scroll."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, color_system="truecolor", legacy_windows=False)
    with renderer(console, quiet=False, verbose=verbose, seconds=0.0) as show:
        for event in events:
            show(event)
    return file.getvalue()


def screen(*events, width=120) -> str:
    """What stands there after the last event."""
    return re.split(r"\r\x1b\[J", drawn(*events, width=width).removesuffix(live.RESTORE))[-1]


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


# --- a log ------------------------------------------------------------------------------------------------------


def test_the_lines_of_a_run():
    assert plain(STARTED, STEPPED, EVALUATED, FINISHED) == [
        "resnet50 on cpu, fp32, 1 loader worker; recipe small",
        "2,000 train and 500 val images of 10 classes",
        "10 epochs, 312 steps of 64 images",
        "run runs/a",
        "epoch 1.60/10  step 50/312  loss 2.3457  lr 0.0123  1,234 img/s  waiting 3 %  1 h 02 min left",
        "epoch  10  step 312  top-1 84.50 %  top-5 99.20 %  val loss 0.6000  (500 images in 1.5 s)",
        "done: 312 steps in 2 min 00 s (167 img/s, 1 % of it waiting for data)",
    ]


def test_one_of_each_and_several_of_each():
    one = replace(STARTED, workers=1, classes=1, epochs=1, steps=8, compiled=True, first_step=7)
    assert plain(one)[0] == "resnet50 on cpu, fp32, compiled, 1 loader worker; recipe small"
    assert plain(one)[1].endswith("of 1 class")
    assert plain(one)[2] == "1 epoch, 8 steps of 64 images"
    assert plain(one)[-1] == "goes on after step 7"
    many = replace(STARTED, device="cuda", world_size=8, micro_batch=64, global_batch=1024, workers=0)
    assert plain(many)[0].startswith("resnet50 on 8 × cuda, fp32, 0 loader workers")
    assert "of 1,024 (in parts of 64) images" in plain(many)[2]


def test_progress_is_a_line_now_and_then():
    later = [replace(STEPPED, step=n) for n in range(51, 300)]
    assert len(plain(STEPPED, *later, seconds=0.0)) == 250
    assert len(plain(STEPPED, *later, seconds=1000.0)) == 1
    # lasting lines do not wait
    assert len(plain(STEPPED, EVALUATED, EVALUATED, *later, seconds=1000.0)) == 3


def test_the_last_known_loss_is_shown_between_readings():
    unknown = replace(STEPPED, loss=None)
    lines = plain(unknown, STEPPED, replace(unknown, step=51))
    assert ["loss -  " in lines[0], "loss 2.3457" in lines[1], "loss 2.3457" in lines[2]] == [True] * 3
    assert "step 51/312" in lines[2]


def test_no_rate_is_said_while_none_is_known():
    assert plain(replace(STEPPED, images_per_second=0.0)) == ["epoch 1.60/10  step 50/312  loss 2.3457  lr 0.0123"]


def test_an_unknown_eta_and_an_epoch_beyond_the_last():
    (line,) = plain(replace(STEPPED, eta_seconds=math.inf, epoch=10.03))
    assert line.endswith(" - left")
    assert line.startswith("epoch 10.00/10")


def test_evaluation_tells_how_far_it_is():
    assert plain(Evaluating(images=64, total=500)) == ["evaluating: 64/500 images"]


def test_the_running_loss_is_printed_as_the_page_prints_it():
    assert plain(RunningLoss(epoch=1, mini_batch=2000, loss=2.2046)) == ["[1,  2000] loss: 2.205"]


def test_saves_are_told_where_details_are_wanted():
    saved = Saved(step=1000, path=Path("x/step-00001000.safetensors"), bytes=200 << 20, seconds=0.5)
    assert plain(saved) == []
    assert plain(saved, verbose=True) == ["saved step 1,000: 200 MiB in 0.50 s, x/step-00001000.safetensors"]


def test_a_stopped_run_says_where_it_goes_on():
    (line,) = plain(replace(FINISHED, step=99, stopped_by=signal.SIGINT, images_per_second=0.0))
    assert line == "stopped after step 99 of 312; saved in runs/a/checkpoints/step-00000312.safetensors"


def test_a_run_that_was_complete_says_so_and_what_to_do():
    lines = plain(replace(STARTED, first_step=312), replace(FINISHED, first_step=312))
    assert "goes on after" not in "".join(lines)
    assert lines[-2] == "the run a is complete: all 312 steps were done before, top-1 84.50 %"
    assert lines[-1].endswith("resnetctl train --resume a --allow-changes --epochs N")
    early = replace(FINISHED, first_step=6, step=6, steps=6, top1=None)
    assert plain(early)[-1] == "to go on to step 312: resnetctl train --resume a --set train.max_steps=0"
    assert "starting" not in screen(replace(STARTED, first_step=312), replace(FINISHED, first_step=312))


def test_a_warning_is_called_one():
    assert plain(Notice(text="x", is_warning=True)) == ["warning: x"]


def test_quiet_says_nothing():
    events = (STARTED, STEPPED, EVALUATED, Notice(text="x"), FINISHED)
    assert plain(*events, quiet=True) == []


def test_unreadable_images_are_listed():
    lines = plain(replace(FINISHED, unreadable=tuple(f"c/{i}.jpg" for i in range(25))))
    assert lines[1] == "25 images could not be read and had substitutes:"
    assert lines[2] == "  c/0.jpg"
    assert lines[-1] == "  and 5 more; resnetctl verify lists them all"
    assert len(lines) == 23
    assert plain(replace(FINISHED, unreadable=("a",)))[1].startswith("1 image could")


def test_a_long_line_stays_one_line():
    (line,) = plain(Notice(text="word " * 100))
    assert len(line) == 500


# --- a terminal -------------------------------------------------------------------------------------------------


def test_the_line_shows_where_the_run_is():
    text = without_colours(drawn(STARTED, STEPPED))
    assert "resnet50 on cpu" in text
    assert "epoch 2/10  step 50/312  ━" in text
    assert "loss 2.346  lr 0.0123  1,234 img/s  wait 3 %  ETA 1 h 02 min\r" in text
    unknown = without_colours(drawn(replace(STEPPED, loss=None, images_per_second=0.0)))
    assert "loss -  lr 0.0123\r" in unknown


def test_an_evaluation_is_shown_until_its_result():
    during = screen(STEPPED, Evaluating(images=64, total=500))
    assert "evaluating 64/500" in during
    assert "step 50/312" in during
    after = screen(STEPPED, Evaluating(images=64, total=500), EVALUATED, STEPPED)
    assert "evaluating" not in after


def test_the_last_line_is_the_result_and_the_bar_is_over():
    text = screen(STARTED, STEPPED, FINISHED)
    assert "epoch 2" not in text
    assert text.rstrip().endswith("done: 312 steps in 2 min 00 s (167 img/s, 1 % of it waiting for data)")
    assert "\x1b[?25h" in drawn(STARTED, STEPPED, FINISHED)  # the cursor is back


def test_an_error_ends_the_bar_and_shows_the_cursor():
    file = io.StringIO()

    def fail() -> None:
        console = Console(file=file, force_terminal=True, width=100)
        with renderer(console, quiet=False, verbose=False, seconds=0.0) as show:
            show(STEPPED)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "\x1b[?25h" in file.getvalue()


@pytest.mark.parametrize("on", ["a log", "a terminal"])
@pytest.mark.parametrize(
    "event",
    [
        Notice(text=f"cannot read {EVIL}: another image took its place"),
        replace(FINISHED, unreadable=(EVIL,)),
        replace(FINISHED, stopped_by=15, checkpoint=Path(EVIL)),
        replace(STARTED, run=Path(EVIL)),
        replace(STARTED, recipe=EVIL),
        Saved(step=1, path=Path(EVIL), bytes=1, seconds=1.0),
    ],
    ids=["notice", "unreadable", "checkpoint", "run", "recipe", "saved"],
)
def test_names_from_outside_are_shown_and_not_obeyed(event, on):
    text = "\n".join(plain(event, verbose=True)) if on == "a log" else drawn(event, verbose=True, width=300)
    assert SHOWN in text
    assert "\x1b[31m" not in text


def print_beside_a_bar() -> None:
    with renderer(Console(stderr=True, force_terminal=True), quiet=False, verbose=False, seconds=0.0):
        print("the result")


def test_standard_output_stays_free_for_the_result():
    """Rich would redirect it to the console of the bar."""
    done = call(print_beside_a_bar)
    assert done.stdout == "the result\n"
    assert "the result" not in done.stderr


def test_rendering_needs_no_torch():
    program = "import sys, resnetctl.cli.render; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'rich')))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
