"""The output of `resnetctl eval`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resnetctl.cli import console
from resnetctl.errors import printable, some

if TYPE_CHECKING:
    from resnetctl.engine.models import NamedModel
    from resnetctl.suites.outcome import Outcome
    from resnetctl.suites.statistics import Comparison

_CONFUSIONS = 10


class Line(NamedTuple):
    """A model and its result on a suite."""

    model: "NamedModel"
    outcome: "Outcome"


def show(lines: Sequence[Line], rivals: Sequence[Line], *, details: bool, as_json: bool) -> None:
    """Print the result on stdout, and remarks on stderr."""
    every = [*lines, *rivals]
    _warn(every)
    pairs = [(a, b) for a in lines for b in rivals if a.outcome.suite == b.outcome.suite]
    compared = [(a, b, found) for a, b in pairs if (found := _comparison(a, b)) is not None]
    if as_json:
        results = [_document(line) for line in every]
        console.print_document("eval", {"results": results, "comparisons": [_compared(*c) for c in compared]})
        return
    _table(every)
    if compared:
        _comparison_table(compared)
    for line in every:
        if line.outcome.factors:
            _factor_table(line)
        if details and line.outcome.guesses:
            _details(line)


def _warn(lines: Sequence[Line]) -> None:
    from resnetctl.suites.outcome import trouble

    for model, outcome in lines:
        what = f"{printable(model.title)} on {outcome.suite}"
        for note in outcome.notes:
            console.notice(f"{what}: {note}")
        if outcome.caveats:
            console.warn(f"{what} is not comparable with other results: {'; '.join(outcome.caveats)}")
        if outcome.unreadable and outcome.index and outcome.guesses:
            names = [outcome.index.name(int(i)) for i in (outcome.guesses.labels[:, 0] < 0).nonzero()[0]]
            console.warn(f"{what}: {outcome.unreadable:,} images could not be read and count as wrong: {some(names)}")
        wrong = trouble(outcome)
        if wrong:
            console.warn(f"{what}: {wrong}")
        if model.recipe.published and model.metadata and outcome.suite == "val":
            console.notice(f"{what}: its recipe {model.recipe.name} is published with {model.recipe.published}")


def _interval(correct: int, images: int) -> tuple[float, float]:
    from resnetctl.suites.statistics import wilson_interval

    return wilson_interval(correct, images) if images else (0.0, 100.0)


def _to(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"


def _table(lines: Sequence[Line]) -> None:
    columns = ["model", "on", "top-1 %", "95 % interval", "top-5 %", "95 % interval", "loss", "images"]
    published = any(line.outcome.published for line in lines)
    rows = []
    for model, o in lines:
        top5 = ("", "") if o.top5 is None else (f"{o.top5:.2f}", _to(_interval(o.correct5 or 0, o.images)))
        row = [model.title, o.suite, f"{o.top1:.2f}", _to(_interval(o.correct1, o.images)), *top5]
        row += ["" if o.loss is None else f"{o.loss:.4f}", f"{o.images:,}"]
        if published:
            row.append(f"{o.published[0]:.2f} / {o.published[1]:.2f}" if o.published else "")
        rows.append(row)
    if published:
        columns.append("published")
    console.table(columns, rows, spare=("loss", "images", "95 % interval", "top-5 %"))


def _comparison(first: Line, second: Line) -> "Comparison | None":
    from resnetctl.suites.outcome import compared

    if first.outcome.guesses is None:  # ReaL and ImageNet-X use the guesses on val
        return None
    found = compared(first.outcome, second.outcome)
    if found is None:
        names = f"{printable(first.model.title)} and {printable(second.model.title)}"
        console.warn(f"{names} know different classes, and saw different images of {first.outcome.suite}: not compared")
    return found


def _test_name(comparison: "Comparison") -> str:
    return "exact" if comparison.exact else "chi-squared, continuity-corrected"


def _comparison_table(compared: "Sequence[tuple[Line, Line, Comparison]]") -> None:
    columns = ("model", "against", "on", "difference", "95 % interval", "won", "lost", "p", "")
    rows = [
        (
            a.model.title,
            b.model.title,
            a.outcome.suite,
            f"{c.difference:+.2f}",
            f"{c.interval[0]:+.2f} to {c.interval[1]:+.2f}",
            c.only_first,
            c.only_second,
            f"{c.p_value:.2g}",
            _test_name(c),
        )
        for a, b, c in compared
    ]
    console.out().print()
    console.table(
        columns, rows, title="on the same images (McNemar's test); won, lost: images that only one of the two got right"
    )


def _factor_table(line: Line) -> None:
    assert line.outcome.factors
    rows = [
        (
            f.name,
            f"{f.error:.2f}",
            _to(f.interval),
            "" if f.ratio is None else f"{f.ratio:.2f}",
            "" if f.ratio_interval is None else _to(f.ratio_interval),
            f"{f.images:,}",
        )
        for f in line.outcome.factors.factors
    ]
    console.out().print()
    title = f"{line.model.title} on ImageNet-X: the error with a factor over the error on all"
    console.table(("factor", "error %", "95 % interval", "ratio", "95 % interval", "images"), rows, title=title)


def _details(line: Line) -> None:
    from resnetctl.suites.statistics import calibration_error, confusions, reliability
    from resnetctl.suites.tiles import unique_names

    model, o = line
    assert o.index
    assert o.guesses
    bins = reliability(o.guesses.probabilities[:, 0], o.guesses.correct)
    rows = [
        (f"{100 * b.low:.0f} to {100 * b.high:.0f}", f"{100 * b.confidence:.1f}", f"{100 * b.accuracy:.1f}", b.images)
        for b in bins
    ]
    console.out().print()
    title = f"{model.title} on {o.suite}: expected calibration error {100 * calibration_error(bins):.2f} %"
    console.table(("probability %", "mean %", "correct %", "images"), rows, title=title)
    found = confusions(o.guesses.truth, o.guesses.labels[:, 0], _CONFUSIONS)
    if found:
        names = unique_names(o.index)
        console.out().print()
        mistakes = [(names[c.label], names[c.predicted], c.images, c.of) for c in found]
        title = f"{model.title} on {o.suite}: the most frequent mistakes"
        console.table(("class", "mistaken for", "images", "of"), mistakes, title=title)


def _document(line: Line) -> dict[str, Any]:
    model, o = line
    document: dict[str, Any] = {
        "model": model.name,
        "checkpoint": str(model.path) if model.path else None,
        "step": model.step,
        "weights": model.weights,
        "suite": o.suite,
        "images": o.images,
        "correct1": o.correct1,
        "top1": o.top1,
        "top1_interval": _interval(o.correct1, o.images),
        "correct5": o.correct5,
        "top5": o.top5,
        "top5_interval": None if o.correct5 is None else _interval(o.correct5, o.images),
        "loss": o.loss,
        "unreadable": o.unreadable,
        "seconds": o.seconds,
        "resize": model.recipe.data.val_resize,
        "size": model.recipe.data.val_size,
        "flip_average": model.recipe.data.val_flip_average,
        "published": {"top1": o.published[0], "top5": o.published[1]} if o.published else None,
        "notes": list(o.notes),
        "caveats": list(o.caveats),
    }
    if o.guesses and o.index:
        document |= _guessed(o)
    if o.factors:
        document["factors"] = [
            {**f._asdict(), "interval": list(f.interval), "ratio_interval": f.ratio_interval} for f in o.factors.factors
        ]
        document["absent_factors"] = list(o.factors.absent)
    return document


def _guessed(o: "Outcome") -> dict[str, Any]:
    from resnetctl.suites.outcome import trouble
    from resnetctl.suites.statistics import calibration_error, confusions, reliability

    assert o.index
    assert o.guesses
    bins = reliability(o.guesses.probabilities[:, 0], o.guesses.correct)
    classes = o.index.info.classes
    return {
        "label_trouble": trouble(o),
        "quarantined": o.index.quarantined,
        "calibration": {"error": calibration_error(bins), "bins": [b._asdict() for b in bins]},
        "confusions": [
            {"class": classes[c.label], "predicted": classes[c.predicted], "images": c.images, "of": c.of}
            for c in confusions(o.guesses.truth, o.guesses.labels[:, 0], _CONFUSIONS)
        ],
    }


def _compared(first: Line, second: Line, c: "Comparison") -> dict[str, Any]:
    return {
        "model": first.model.name,
        "against": second.model.name,
        "suite": first.outcome.suite,
        **c._asdict(),
        "test": _test_name(c),
    }


def write_per_class(path: Path, lines: Sequence[Line]) -> None:
    """Write a CSV line for each class of each model and suite with its own images."""
    import csv
    import io

    from resnetctl.files import write_atomically
    from resnetctl.suites.statistics import per_class

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    tops = [
        f"{kind}{k}{end}"
        for k in (1, 5)
        for kind, end in (("correct", ""), ("top", ""), ("top", "_low"), ("top", "_high"))
    ]
    writer.writerow(["model", "suite", "class", "name", "images", *tops])
    for model, o in lines:
        if o.guesses is None or o.index is None:
            continue
        info = o.index.info
        for found in per_class(o.guesses.truth, o.guesses.hits, len(info.classes)):
            cells: list[object] = [model.title, o.suite, info.classes[found.label], info.class_names[found.label]]
            cells.append(found.images)
            for correct in (found.correct1, found.correct5):
                low, high = _interval(correct, found.images)
                cells += [correct, *(f"{v:.2f}" for v in (100 * correct / found.images, low, high))]
            writer.writerow(map(printable, cells))
    write_atomically(path, text.getvalue())


def draw_worst(path: Path, lines: Sequence[Line], most: int) -> None:
    """Draw the model's most confident mistakes as a contact sheet."""
    from resnetctl.suites.sheet import write_sheet
    from resnetctl.suites.tiles import guessed_tiles

    ((model, o),) = lines
    if o.guesses is None or o.index is None:
        console.warn(f"{o.suite} has no images: no sheet is drawn")
        return
    worst = o.guesses.worst(most)
    if not worst:
        console.notice(f"{printable(model.title)} made no mistakes on {o.suite}: no sheet is drawn")
        return
    write_sheet(path, guessed_tiles(o, worst))
