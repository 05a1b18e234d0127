"""`resnetctl predict`."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import complete, console, options
from resnetctl.errors import EXIT_FAILURE, UsageError, printable

if TYPE_CHECKING:
    from resnetctl.engine.models import NamedModel
    from resnetctl.engine.predict import Prediction

_STDIN = "-"


def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|FOLDER|-…",
            show_default=False,
            help="Image files, or folders of them; -: an image on stdin, or file names there, one per line.",
        ),
    ],
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            show_default="the latest run",
            autocompletion=complete.runs,
            help="A run's name or folder, or a checkpoint file.",
        ),
    ] = None,
    best: options.Best = False,
    raw: options.Raw = False,
    weights: options.Weights = None,
    arch: options.WeightsArch = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE.png", help="Draw the first 200 images with their predictions."),
    ] = None,
    data: options.DataRoot = options.DEFAULT_DATA,
    runs: options.RunsRoot = options.DEFAULT_RUNS,
    device: options.Device = "auto",
    workers: options.Workers = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line per image.")] = False,
    as_json: options.Json = False,
) -> None:
    """Name the five most probable classes of images.

    Images are rotated according to their EXIF data, then resized and cropped as in evaluation.

    \b
    Examples:
      resnetctl predict cat.jpg
      resnetctl predict holiday/ --weights imagenet1k-v2 --sheet holiday.png
      find . -name '*.png' | resnetctl predict - --csv > predictions.csv
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json cannot be combined", hint="choose one")
    if run is not None and weights is not None:
        raise UsageError("--run and --weights cannot be combined", hint="choose one")
    with tempfile.TemporaryDirectory(prefix="resnetctl-") as scratch:
        files = _files(images, Path(scratch))
        if sheet is not None:
            from resnetctl.suites.sheet import check_sheet

            check_sheet(sheet)
        model = _model(run, weights, data, runs=runs, device=device, arch=arch, best=best, raw=raw)
        predictions = _predict(model, list(files), workers)
        if sheet is not None:
            _draw(sheet, predictions, files, model)
    predictions = [replace(p, file=files[p.file]) for p in predictions]
    if as_json:
        console.print_document("predict", _document(predictions, model))
    elif as_csv:
        _print_csv(predictions, model)
    else:
        _print_table(predictions, model)
    bad = [p for p in predictions if p.problem]
    for prediction in bad:
        console.warn(f"{printable(prediction.file)}: {prediction.problem}")
    if bad:
        raise typer.Exit(EXIT_FAILURE)


def _files(images: list[str], scratch: Path) -> dict[str, str]:
    """The named files, and those named by or read from stdin, each with its display name."""
    from resnetctl.data.image_files import find_images, read_names

    if images.count(_STDIN) > 1:
        raise UsageError("stdin can be read only once", hint="give one -")
    found: dict[str, str] = {}
    for image in images:
        if image != _STDIN:
            found |= {name: name for name in find_images([image])}
            continue
        came = read_names(sys.stdin.buffer)
        if isinstance(came, bytes):
            (scratch / "stdin").write_bytes(came)
            found[str(scratch / "stdin")] = _STDIN
        else:
            found |= {name: name for name in find_images(came, must_exist=False)}
    return found


def _model(run: str | None, weights: str | None, data: Path, *, device: str, **asked: Any) -> "NamedModel":
    from resnetctl.data.dataset import load_dataset
    from resnetctl.engine.device import choose_device
    from resnetctl.engine.models import Asked, find_model

    def classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
        info = load_dataset(data).train().info
        return info.classes, info.class_names

    request = Asked(device=choose_device(device), classes=classes, notice=console.notice, warn=console.warn, **asked)
    return find_model(weights if run is None else run, request)


def _predict(model: "NamedModel", files: list[str], workers: int | None) -> "list[Prediction]":
    from resnetctl.engine.predict import predict
    from resnetctl.hardware import default_workers, usable_cores

    number = default_workers(model.model.device.type, usable_cores()) if workers is None else workers
    found: list[Prediction] = []
    with console.progress() as progress:
        progress("predicting", 0, len(files))
        for batch in predict(model.model, model.recipe.data, files, workers=number):
            found += batch
            progress("predicting", len(found), len(files))
    return found


def _named(prediction: "Prediction", model: "NamedModel") -> list[tuple[str, str, float]]:
    """Class, name and probability, most probable first."""
    pairs = zip(prediction.labels, prediction.probabilities, strict=True)
    return [(model.classes[label], model.class_names[label], p) for label, p in pairs]


def _draw(path: Path, predictions: "list[Prediction]", names: dict[str, str], model: "NamedModel") -> None:
    from resnetctl.data.batches.files import read_upright
    from resnetctl.suites.sheet import MOST, Line, Tile, write_sheet

    tiles = []
    for p in predictions[:MOST]:
        picture = None if p.problem else read_upright(p.file).permute(1, 2, 0).numpy()
        lines = tuple(Line(f"{100 * share:.1f} %  {name}", share) for _, name, share in _named(p, model))
        tiles.append(Tile(picture, Path(names[p.file]).name, lines))
    write_sheet(path, tiles)
    if len(predictions) > MOST:
        console.notice(f"{printable(path)} shows the first {MOST} of {len(predictions):,} images")


def _document(predictions: "list[Prediction]", model: "NamedModel") -> dict[str, Any]:
    pictures = [
        {
            "file": p.file,
            "problem": p.problem,
            "top": [{"class": c, "name": n, "probability": share} for c, n, share in _named(p, model)],
        }
        for p in predictions
    ]
    return {"model": model.name, "checkpoint": str(model.path) if model.path else None, "predictions": pictures}


def _print_csv(predictions: "list[Prediction]", model: "NamedModel") -> None:
    import csv

    from resnetctl.engine.predict import TOP

    writer = csv.writer(sys.stdout, lineterminator="\n")
    kinds = ("class", "name", "probability")
    writer.writerow(["file", *(f"{kind}{n}" for n in range(1, TOP + 1) for kind in kinds), "error"])
    for p in predictions:
        cells = [cell for c, n, share in _named(p, model) for cell in (printable(c), printable(n), f"{share:.6f}")]
        cells += [""] * (len(kinds) * TOP - len(cells))
        writer.writerow([printable(p.file), *cells, p.problem or ""])


def _print_table(predictions: "list[Prediction]", model: "NamedModel") -> None:
    rows = [
        (p.file if n == 0 else "", name, f"{100 * share:5.1f} %")
        for p in predictions
        for n, (_, name, share) in enumerate(_named(p, model))
    ]
    if rows:
        console.table(("image", "class", "probability"), rows, title=printable(model.title))
