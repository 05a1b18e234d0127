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
from rich.cells import cell_len
from rich.console import Console

from resnetctl.cli import live
from resnetctl.cli.render import renderer
from resnetctl.engine.events import (
    Evaluated,
    Evaluating,
    Finished,
    Notice,
    Preparing,
    RunningLoss,
    Saved,
    Saving,
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
    epoch_number=2,
    loss=2.34567,
    lr=0.0123,
    size=64,
    images_per_second=1234.5,
    waiting=0.034,
    eta_seconds=3725.0,
)
EVALUATED = Evaluated(
    step=312,
    epoch=10,
    epochs=10,
    train_loss=0.5123,
    is_best=True,
    best_top1=84.5,
    best_epoch=10,
    memory_bytes=None,
    top1=84.5,
    top5=99.2,
    loss=0.6,
    images=500,
    seconds=1.5,
)
FINISHED = Finished(
    run=Path("runs/a"),
    first_step=0,
    step=312,
    steps=312,
    steps_planned=312,
    top1=84.5,
    top5=99.2,
    best_top1=84.5,
    best_epoch=9.0,
    val_images=500,
    seconds=119.6,
    images_per_second=167.0,
    waiting=0.01,
    checkpoint=Path("runs/a/checkpoints/step-00000312.safetensors"),
    unreadable=(),
)


@pytest.fixture(autouse=True)
def every_drawing(monkeypatch):
    monkeypatch.setattr(live, "REDRAW_SECONDS", 0.0)


SAVED = Saved(step=1000, path=Path("x/step-00001000.safetensors"), bytes=200 << 20, seconds=0.5)


def plain(*events, verbose=False, quiet=False, seconds=0.0, options="") -> list[str]:
    """Lines in a log; the console's own settings are Rich's, which read markup."""
    file = io.StringIO()
    console = Console(file=file, width=60)
    with renderer(console, quiet=quiet, verbose=verbose, seconds=seconds, options=options) as show:
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
        "epoch 10/10  loss 0.512  val loss 0.600  top-1 84.50 % (best)  top-5 99.20 %  500 images in 1.5 s",
        "done: 312 steps in 2 min 00 s (167 img/s, 1 % of the time waiting for data)",
        "best top-1: 84.50 % in epoch 9",
        "checkpoint: runs/a/checkpoints/step-00000312.safetensors",
        "next: resnetctl eval a",
    ]


def test_one_of_each_and_several_of_each():
    one = replace(STARTED, workers=1, classes=1, epochs=1, steps=8, compiled=True, first_step=7)
    assert plain(one)[0] == "resnet50 on cpu, fp32, compiled, 1 loader worker; recipe small"
    assert plain(one)[1].endswith("of 1 class")
    assert plain(one)[2] == "1 epoch, 8 steps of 64 images"
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


def test_before_a_rate_is_known_the_loss_is_told():
    (line,) = plain(replace(STEPPED, images_per_second=0.0))
    assert line == "epoch 1.60/10  step 50/312  loss 2.3457  lr 0.0123"


def test_an_unknown_eta_and_an_epoch_beyond_the_last():
    (line,) = plain(replace(STEPPED, eta_seconds=math.inf, epoch=10.03))
    assert line.endswith(" - left")
    assert line.startswith("epoch 10.00/10")


def test_evaluation_tells_how_far_it_is():
    assert plain(Evaluating(images=64, total=500)) == ["evaluating: 64/500 images"]


def test_the_running_loss_is_printed_as_the_page_prints_it():
    assert plain(RunningLoss(epoch=1, mini_batch=2000, loss=2.2046)) == ["[1,  2000] loss: 2.205"]


def test_saves_are_told_where_details_are_wanted():
    assert plain(SAVED) == []
    assert plain(SAVED, verbose=True) == ["saved step 1,000: 200 MiB in 0.50 s, x/step-00001000.safetensors"]


def test_an_evaluation_that_is_not_the_best_names_the_best():
    later = replace(EVALUATED, top1=83.1, is_best=False, best_epoch=8)
    assert "top-1 83.10 %  best 84.50 % (epoch 8)" in plain(STARTED, later)[-1]
    assert plain(STARTED, replace(EVALUATED, epoch=0.32))[-1].startswith("epoch 0.32/10  ")
    assert "loss" not in plain(STARTED, replace(EVALUATED, train_loss=None))[-1].partition("  val")[0]


@pytest.mark.parametrize(("classes", "shown"), [(2, False), (5, False), (6, True)])
def test_top5_is_told_from_six_classes_up(classes, shown):
    assert ("top-5" in plain(replace(STARTED, classes=classes), EVALUATED)[-1]) == shown


def test_memory_is_told_on_a_gpu():
    assert "  12.3 GiB  " in plain(STARTED, replace(EVALUATED, memory_bytes=int(12.3 * 2**30)))[-1]


def test_a_stopped_run_says_how_to_go_on():
    lines = plain(replace(FINISHED, step=99, stopped_by=signal.SIGINT), options=" --data '/my disk' --runs r")
    assert lines[0].startswith("stopped after step 99 of 312, 2 min 00 s (")
    assert lines[-1] == "to continue: resnetctl train --resume a --data '/my disk' --runs r"


def test_without_a_val_split_nobody_is_sent_to_eval():
    lines = plain(replace(FINISHED, val_images=0, best_top1=None, best_epoch=None), options=" --runs r")
    assert lines[-1] == "next: resnetctl predict IMAGE --run a --runs r"
    assert "best" not in "".join(lines)


def test_a_run_that_was_complete_says_so_and_what_to_do():
    lines = plain(replace(FINISHED, first_step=312), options=" --runs r")
    assert lines[0] == "the run a is complete: all 312 steps were done before, top-1 84.50 %"
    assert lines[-1].endswith("resnetctl train --resume a --runs r --allow-changes --epochs N")
    early = replace(FINISHED, first_step=6, step=6, steps=6, top1=None)
    assert plain(early)[-1] == "to continue to step 312: resnetctl train --resume a --set train.max_steps=0"


def test_a_warning_is_called_one():
    assert plain(Notice(text="x", is_warning=True)) == ["warning: x"]


def test_quiet_says_nothing():
    events = (STARTED, STEPPED, EVALUATED, Notice(text="x"), FINISHED)
    assert plain(*events, quiet=True) == []


def test_unreadable_images_are_listed():
    lines = plain(replace(FINISHED, unreadable=tuple(f"c/{i}.jpg" for i in range(25))))
    at = lines.index("25 images could not be read and had substitutes:")
    assert lines[at + 1] == "  c/0.jpg"
    assert lines[at + 21] == "  and 5 more; resnetctl verify lists them all"
    assert len(lines) == at + 23
    assert "1 image could not" in "".join(plain(replace(FINISHED, unreadable=("a",))))


def test_a_long_line_stays_one_line():
    (line,) = plain(Notice(text="word " * 100))
    assert len(line) == 500


# --- a terminal -------------------------------------------------------------------------------------------------


def test_the_line_shows_where_the_run_is():
    text = without_colours(drawn(STARTED, STEPPED))
    assert "resnet50 on cpu" in text
    assert "\nfirst step\r" in text
    assert "epoch 2/10  step 50/312  ━" in text
    assert "loss 2.346  lr 0.0123  1,234 img/s  wait 3 %  ETA 1 h 02 min\r" in text
    unknown = without_colours(drawn(replace(STEPPED, loss=None, images_per_second=0.0)))
    assert "loss -  lr 0.0123\r" in unknown


def test_what_goes_on_is_shown():
    assert without_colours(screen(Preparing(what="importing torch"))) == "importing torch\r"
    during = screen(STEPPED, Evaluating(images=64, total=500))
    assert "evaluating 64/500" in during
    for kept in ("step 50/312", "img/s", "ETA 1 h 02 min"):
        assert kept in during
    after = screen(STEPPED, Evaluating(images=64, total=500), EVALUATED)
    assert "evaluating" not in after
    assert "ETA 1 h 02 min" in after
    saving = screen(STEPPED, Saving(step=50))
    assert "saving" in saving
    assert "saving" not in screen(STEPPED, Saving(step=50), SAVED)


def columns(text: str) -> int:
    return max(map(cell_len, without_colours(text).replace("\r", "\n").splitlines()))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_nothing_is_wider_than_the_terminal(width):
    million = replace(STEPPED, step=1_234_567, steps=2_345_678, epoch_number=300, epochs=600, eta_seconds=3e5)
    worse = replace(EVALUATED, epoch=299, epochs=600, top1=83.1, is_best=False, best_epoch=298)
    worse = replace(worse, memory_bytes=130 << 30, raw_top1=80.0)
    events = (million, Evaluating(images=49_920, total=50_000), Saving(step=1_234_567), worse, EVALUATED)
    assert columns(drawn(*events, width=width)) < width
    if width >= 80:
        assert columns(drawn(STARTED, FINISHED, width=width)) < width


def test_step_and_time_left_stay_longest():
    texts = [without_colours(screen(STEPPED, width=width)).strip() for width in (120, 80, 60, 40, 30, 20)]
    assert texts[-1] == "step 50/312"
    assert texts[-2] == "step 50/312  ETA 1 h 02 min"
    for part, shown in (("ETA", 5), ("loss", 3), ("epoch", 3), ("img/s", 2), ("wait", 1), ("lr", 1)):
        assert [part in text for text in texts].count(True) >= shown, (part, texts)


def test_the_last_line_is_the_result_and_the_bar_is_over():
    text = screen(STARTED, STEPPED, FINISHED)
    assert "epoch 2/" not in text
    assert text.rstrip().endswith("next: resnetctl eval a")
    assert "\x1b[?25h" in drawn(STARTED, STEPPED, FINISHED)  # the cursor is back


def test_a_terminal_that_can_draw_nothing_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in drawn(STARTED, STEPPED, Evaluating(images=64, total=500), EVALUATED, FINISHED)


def test_lines_of_a_terminal_that_can_draw_nothing_do_not_wrap(monkeypatch):
    """Such a one counts as 80 columns wide."""
    monkeypatch.setenv("TERM", "dumb")
    for name in ("LINES", "COLUMNS"):  # libreadline sets them in whichever process has loaded it
        monkeypatch.delenv(name, raising=False)
    text = drawn(STARTED, STEPPED, replace(STEPPED, step=51), EVALUATED, FINISHED)
    of_run = [line for line in text.splitlines() if line.startswith("epoch ")]
    assert len(of_run) == 3
    assert max(map(cell_len, of_run)) < 80
    assert all("step 5" in line and "left" in line for line in of_run[:2])


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
