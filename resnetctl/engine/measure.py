"""Measures models on val images and other suites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from resnetctl.data.dataset import load_dataset
from resnetctl.data.index import Index
from resnetctl.data.missing import missing_source
from resnetctl.distributed.group import ALONE, Group
from resnetctl.engine.evaluate import Result, eval_batches, evaluate, why_invalid
from resnetctl.engine.models import NamedModel
from resnetctl.errors import DataError, counted, printable
from resnetctl.progress import Progress, silent
from resnetctl.suites import ON_VAL, Chosen
from resnetctl.suites.factors import read_annotations
from resnetctl.suites.images import ImageSuite, open_images
from resnetctl.suites.outcome import Outcome, by_factors, by_real, is_imagenet_val
from resnetctl.suites.real import read_real

_READERS: dict[str, Callable[[Path], object]] = {"real": read_real, "x": read_annotations}


class Images:
    """The suites' images: val's, and those of suites with their own, indexed in the folder `scratch`."""

    def __init__(self, data_root: Path, scratch: Path, *, skip_quarantined: bool = False) -> None:
        self.data_root, self.scratch, self.skip_quarantined = data_root, scratch, skip_quarantined
        self._val: Index | None = None
        self._suites: dict[tuple[Chosen, tuple[str, ...]], ImageSuite] = {}

    @property
    def val(self) -> Index:
        """The val images. Raises DataError if some are in quarantine and not to be skipped."""
        if self._val is None:
            index = load_dataset(self.data_root).val()
            if index.quarantined and not self.skip_quarantined:
                raise DataError(
                    f"{counted(index.quarantined, 'val image')} in quarantine: a result without them is not comparable",
                    hint="repair them and run resnetctl verify, or add --skip-quarantined to evaluate on the other "
                    f"{len(index):,}",
                )
            self._val = index
        return self._val

    def suite(self, chosen: Chosen, classes: tuple[str, ...], progress: Progress) -> ImageSuite:
        """The images of a suite for a model of these classes."""
        if (chosen, classes) not in self._suites:
            assert chosen.path
            folder = self.scratch / str(len(self._suites))
            folder.mkdir()
            self._suites[chosen, classes] = open_images(chosen.name, chosen.path, classes, folder, progress)
        return self._suites[chosen, classes]


def measure(
    model: NamedModel,
    suites: Sequence[Chosen],
    images: Images,
    *,
    workers: int,
    group: Group = ALONE,
    progress: Progress = silent,
    notice: Callable[[str], None] = lambda text: None,
) -> Iterator[Outcome]:
    """The results of `model` on each of `suites`, in order; val is evaluated once.

    Each rank of `group` evaluates its share, and all get everything. Raises DataError if a suite is invalid, has
    classes that the model does not know, or if more than a hundredth of its images are unreadable.
    """
    for chosen in suites:  # an unreadable file is reported before anything is measured
        if chosen.path is not None and chosen.name in _READERS:
            _READERS[chosen.name](chosen.path)
    val: Outcome | None = None
    for chosen in suites:
        what = f"{printable(model.title)} on {chosen.name if chosen.name not in ON_VAL else 'val'}"
        if chosen.name not in ON_VAL:
            suite = images.suite(chosen, model.classes, progress)
            found = _guess(model, suite.index, suite.outputs, what, workers, group, progress)
            yield replace(found, suite=chosen.name, notes=suite.notes, caveats=suite.caveats)
            continue
        if val is None:
            val = _on_val(model, images.val, what, workers, group, progress, notice)
        match chosen.name:
            case "val":
                yield val
            case "real":
                assert chosen.path
                yield by_real(val, chosen.path)
            case "x":
                assert chosen.path
                yield by_factors(val, chosen.path)


def _on_val(
    model: NamedModel,
    index: Index,
    what: str,
    workers: int,
    group: Group,
    progress: Progress,
    notice: Callable[[str], None],
) -> Outcome:
    outputs = outputs_for(model, index, notice)
    if model.val_fingerprint is not None and index.info.fingerprint != model.val_fingerprint:
        notice(f"these are not the val images that {printable(model.title)} was evaluated on in training")
    found = _guess(model, index, outputs, what, workers, group, progress)
    caveats = (f"{counted(index.quarantined, 'val image')} in quarantine left out",) if index.quarantined else ()
    return replace(found, published=model.published if is_imagenet_val(index) else None, caveats=caveats)


def _guess(
    model: NamedModel,
    index: Index,
    outputs: Sequence[int] | None,
    what: str,
    workers: int,
    group: Group,
    progress: Progress,
) -> Outcome:
    used = model.model
    if outputs is not None:
        used = replace(used, outputs=torch.tensor(outputs, dtype=torch.int64, device=used.device))
    if gone := missing_source(index):
        raise gone
    events = evaluate(
        used,
        eval_batches(model.recipe, index, used.device, group),
        workers=workers,
        group=group,
        timeout=model.recipe.data.timeout_seconds,
        guesses=True,
    )
    progress(what, 0, len(index))
    for event in events:
        if not isinstance(event, Result):
            progress(what, event.images, event.total)
            continue
        if why := why_invalid(event, index):
            raise why
        return Outcome(
            model=model.title,
            suite="val",
            images=event.images,
            correct1=event.correct1,
            correct5=event.correct5,
            loss=event.loss,
            seconds=event.seconds,
            unreadable=len(event.unreadable),
            index=index,
            guesses=event.guesses,
        )
    raise AssertionError("an evaluation ends with its result")


def outputs_for(model: NamedModel, index: Index, notice: Callable[[str], None]) -> list[int] | None:
    """The model's output for each class of a data set's `index`, if the model has more classes; None: the same ones.

    Raises DataError if the data set has classes that the model does not know, or the same classes in another order.
    """
    known, classes = model.classes, index.info.classes
    if known == classes:
        return None
    if sorted(known) == sorted(classes):
        raise DataError(
            "the model knows the same classes in another order: every label would be wrong",
            hint="run resnetctl prepare again with this version, then evaluate",
        )
    missing = [c for c in classes if c not in set(known)]
    if missing:
        raise DataError(
            f"{printable(model.title)} was trained on {len(known):,} classes, but this data set has {len(classes):,} "
            f"({len(missing):,} that the model does not know, such as {printable(missing[0])})",
            hint="give the data root that the model was trained on with --data",
        )
    notice(
        f"{printable(model.title)} knows {len(known):,} classes; the data set has {len(classes):,} of them: "
        "only their outputs compete"
    )
    place = {c: n for n, c in enumerate(known)}
    return [place[c] for c in classes]
