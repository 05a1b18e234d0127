"""`resnetctl export`."""

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetctl.cli import console, early, options
from resnetctl.errors import ResnetctlError, UsageError, printable

if TYPE_CHECKING:
    from resnetctl.engine.export import Check, Exported
    from resnetctl.engine.models import NamedModel


class Format(StrEnum):
    """Export formats."""

    SAFETENSORS = "safetensors"
    TIMM = "timm"
    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"


_SUFFIXES = {Format.SAFETENSORS: ".safetensors", Format.ONNX: ".onnx", Format.TORCH_EXPORT: ".pt2", Format.TIMM: ""}
_GRAPHS = (Format.ONNX, Format.TORCH_EXPORT)
_PACKAGES = {Format.ONNX: ("onnx", "onnxscript", "onnxruntime"), Format.TIMM: ("timm",)}
"""Packages for writing and checking a format, installed by the extra of its name."""


def export(
    which: Annotated[
        str | None, options.run_argument("A run's name or folder, a checkpoint file, or a file exported before.")
    ] = None,
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format",
            "-f",
            show_default="by the ending of --out, else safetensors",
            help="safetensors: weights for torchvision; timm: a folder for timm and the Hugging Face Hub; "
            "onnx; torch-export: a program for PyTorch.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            callback=options.with_home,
            show_default="the run's name, in the folder you are in",
            help="File to write, or for timm the folder.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file or folder.")] = False,
    best: options.Best = False,
    raw: options.Raw = False,
    weights: options.Weights = None,
    arch: options.WeightsArch = None,
    from_pixels: Annotated[
        bool,
        typer.Option("--normalise", help="onnx and torch-export: take uint8 pixels and normalise inside the graph."),
    ] = False,
    check: Annotated[
        int, typer.Option("--check", min=1, metavar="N", help="Number of val images for the comparison.")
    ] = 128,
    data: options.DataRoot = options.DEFAULT_DATA,
    runs: options.RunsRoot = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> None:
    """Write a model for other programs, and check that it computes the same there.

    If the run has a moving average of the weights, that is written. The file includes the class names and the
    preprocessing.

    \b
    Examples:
      resnetctl export
      resnetctl export first --best --out flowers.onnx
      resnetctl export first --format timm --out flowers/
    """
    if which is not None and weights is not None:
        raise UsageError(f"{printable(which)} and --weights cannot be combined", hint="choose one")
    kind = _kind(kind, out, from_pixels)
    if out is not None:
        _check_out(out, kind, overwrite)
    _check_packages(kind)
    early.check_models(runs, [which] if weights is None else [])

    from resnetctl.engine.export import check_images
    from resnetctl.engine.export import export as write

    model = _model(which if weights is None else weights, runs, data, best=best, raw=raw, arch=arch)
    if out is None:
        of_a_file = model.path and model.name in (str(model.path), model.path.name)
        name = model.path.stem if model.path and of_a_file else model.name.rpartition("/")[2].replace(" ", "-")
        out = Path(name + _SUFFIXES[kind])
        _check_out(out, kind, overwrite)
    if model.model.flip_average:
        console.notice("the run averages over mirror images, which an exported model does not: compared without that")
    images = check_images(model, data, check, console.notice)
    with console.progress() as progress:
        done = write(model, kind.value, out, images, from_pixels=from_pixels, progress=progress)
    _show(done, kind, model, images.why_made, as_json)


def _kind(kind: Format | None, out: Path | None, from_pixels: bool) -> Format:
    """The format, possibly from the suffix of `out`. Raises UsageError if they contradict each other."""
    suffix = out.suffix.lower() if out else ""
    by_suffix = {s: f for f, s in _SUFFIXES.items() if s}.get(suffix)
    if kind is not None and out is not None and suffix != _SUFFIXES[kind] and (_SUFFIXES[kind] or by_suffix):
        wanted = f"ends in {_SUFFIXES[kind]}" if _SUFFIXES[kind] else "is a folder"
        raise UsageError(f"--format {kind.value} {wanted}, and --out is {printable(out)}", hint="leave one of them out")
    if kind is None and out is not None and by_suffix is None:
        raise UsageError(
            f"the suffix of {printable(out)} is not that of a format",
            hint=f"--format timm for a folder, or one of {', '.join(s for s in _SUFFIXES.values() if s)}",
        )
    found = kind or by_suffix or Format.SAFETENSORS
    if from_pixels and found not in _GRAPHS:
        raise UsageError(
            f"--normalise is for a graph, and {found.value} has none", hint="--format onnx or --format torch-export"
        )
    return found


def _check_out(out: Path, kind: Format, overwrite: bool) -> None:
    """Raise UsageError if `out` cannot be written, before anything is computed."""
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {printable(out.parent)}", hint="create it, or choose another --out")
    if out.is_dir() and kind is not Format.TIMM:
        raise UsageError(f"{printable(out)} is a folder", hint="give --out the name of a file")
    if out.exists() and not overwrite:
        raise UsageError(f"{printable(out)} already exists", hint="choose another --out, or add --overwrite")


def _check_packages(kind: Format) -> None:
    missing = [name for name in _PACKAGES.get(kind, ()) if find_spec(name) is None]
    if missing:
        raise ResnetctlError(
            f"--format {kind.value} needs {'the packages' if missing[1:] else 'the package'} {', '.join(missing)}",
            hint=f'pip install "resnetctl[{kind.value}]"',
        )


def _model(which: str | None, runs: Path, data: Path, **asked: Any) -> "NamedModel":
    """The model in float32 on the CPU, for comparison with the export."""
    import torch

    from resnetctl.data.dataset import load_dataset
    from resnetctl.engine.models import Asked, find_model
    from resnetctl.recipe import Override

    def classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
        info = load_dataset(data).train().info
        return info.classes, info.class_names

    request = Asked(
        runs=runs,
        device=torch.device("cpu"),
        classes=classes,
        overrides=(Override("train.precision", "fp32", "export"),),
        notice=console.notice,
        warn=console.warn,
        **asked,
    )
    return find_model(which, request)


def _show(done: "Exported", kind: Format, model: "NamedModel", why_made: str | None, as_json: bool) -> None:
    check = done.check
    if why_made is not None:
        console.notice(f"compared on {check.images} synthetic images instead of val images: {why_made}")
    if as_json:
        console.print_document("export", _document(done, kind, model, why_made))
        return
    rows = [
        ("file" if kind is not Format.TIMM else "folder", str(done.path)),
        ("model", f"{done.description.network}, {len(done.description.classes):,} classes, {model.title}"),
        ("size", console.size(done.bytes)),
        ("opened by", check.runtime),
        ("top-1", _top1(check)),
        ("outputs", f"differ by at most {check.difference:.1e}"),
    ]
    console.table(("", ""), rows)


def _top1(check: "Check") -> str:
    """Both results side by side."""
    if check.correct is None or check.correct_exported is None:
        return f"the same first class for {check.same_top1:,} of {check.images:,} synthetic images"
    run, exported = (f"{100 * n / check.images:.2f} %" for n in (check.correct, check.correct_exported))
    return f"{exported}, and {run} before, on {check.images:,} val images"


def _document(done: "Exported", kind: Format, model: "NamedModel", why_made: str | None) -> dict[str, Any]:
    d, check = done.description, done.check
    return {
        "path": str(done.path),
        "format": kind.value,
        "bytes": done.bytes,
        "model": model.name,
        "checkpoint": str(model.path) if model.path else None,
        "step": model.step,
        "weights": model.weights,
        "network": d.network,
        "classes": len(d.classes),
        "check": {
            "runtime": check.runtime,
            "images": check.images,
            "of_val": check.of_val,
            "why_not_of_val": why_made,
            "correct1": check.correct,
            "correct1_exported": check.correct_exported,
            "same_top1": check.same_top1,
            "largest_difference": check.difference,
        },
    }
