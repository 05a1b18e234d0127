"""Whether a prepared data set is what it should be: counts, classes, label order, and every image decodes."""

from __future__ import annotations

import io
import multiprocessing
import signal
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnetctl.data import imagenet
from resnetctl.data.dataset import Dataset, load_dataset
from resnetctl.data.index import UNKNOWN_CRC, Index, index_path
from resnetctl.errors import DataError, ResnetctlError, printable, some
from resnetctl.progress import Progress, silent

_CHUNK = 64  # images that a worker checks before it reports
_JPEG_SUFFIXES = (".jpg", ".jpeg")


class Check(NamedTuple):
    """One thing that was looked at: `ok`, and in `detail` what was found."""

    name: str
    ok: bool
    detail: str


class BadImage(NamedTuple):
    """An image that cannot be trained on, and why."""

    split: str
    name: str
    container: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `verify` found."""

    dataset: Dataset
    checks: tuple[Check, ...]
    bad: tuple[BadImage, ...]
    """Sorted by split and place in the index."""
    notes: dict[str, int]
    """What is unusual but fine, and how many images are so."""
    remarks: tuple[str, ...]
    """What prepare noted of the data set."""
    images: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether everything is in order."""
        return not self.bad and all(check.ok for check in self.checks)


def verify(data_root: Path, *, workers: int, progress: Progress = silent) -> Report:
    """Check the data set in `data_root`, decoding every image in `workers` processes (0: in this one).

    Raises DataError where there is no prepared data set, or its index cannot be read.
    """
    start = time.monotonic()
    dataset = load_dataset(data_root)
    indexes = {split: dataset.open(split) for split in dataset.fingerprints}
    checks: list[Check] = []
    for split, index in indexes.items():
        checks += [_counts(index), _classes(index), *_labels(index)]
        progress(f"checking {split}", len(index), len(index))
    checks.append(_same_classes(indexes))
    bad: list[BadImage] = []
    notes: Counter[str] = Counter()
    for split, index in indexes.items():
        found, unusual = _decode_all(index, workers, progress)
        bad += found
        notes += unusual
        wrong = f"{len(found):,} of {len(index):,} are bad: {some([b.name for b in found], 3)}"
        checks.append(Check(f"{split} images", not found, wrong if found else f"{len(index):,} decode"))
    return Report(
        dataset=dataset,
        checks=tuple(checks),
        bad=tuple(bad),
        notes=dict(notes),
        remarks=tuple(dict.fromkeys(note for index in indexes.values() for note in index.info.notes)),
        images=sum(map(len, indexes.values())),
        seconds=time.monotonic() - start,
    )


def _counts(index: Index) -> Check:
    """Images of each class, against the published numbers where this is ImageNet."""
    info = index.info
    counts = np.bincount(index.label, minlength=len(info.classes))
    detail = f"{len(index):,} images, {counts.min():,} to {counts.max():,} a class"
    if imagenet.meant_to_be_imagenet(info.classes):
        problems = imagenet.differences(info.split, info.classes, counts)
    else:
        empty = [info.classes[i] for i in np.flatnonzero(counts == 0)]
        problems = [f"no image of {some(empty)}"] if empty else []
    if not problems:
        return Check(f"{info.split} counts", True, detail)
    if info.incomplete:
        return Check(f"{info.split} counts", True, f"{detail}; allowed by --allow-incomplete: {'; '.join(problems)}")
    return Check(f"{info.split} counts", False, "; ".join(problems))


def _classes(index: Index) -> Check:
    """Classes sorted, each once, and none that a stray hidden folder made."""
    name, classes = f"{index.info.split} classes", index.info.classes
    if list(classes) != sorted(set(classes)):
        return Check(name, False, "not sorted, or one of them twice: labels are not positions in the sorted list")
    stray = [c for c in classes if c.startswith(".")]
    if stray:
        return Check(name, False, f"{some(stray)} is a hidden folder, no class; it shifts the labels after it")
    return Check(name, True, f"{len(classes):,}, sorted")


def _labels(index: Index) -> Iterator[Check]:
    """Each name's folder is its label's class, and so is the wnid that the file name starts with, where it has one."""
    split, classes = index.info.split, index.info.classes
    strangers = []
    for i in range(len(index)):
        folder, _, file = index.name(i).partition("/")
        wnid = imagenet.TRAIN_FILE.fullmatch(file)
        expected = classes[index.label[i]]
        if folder != expected or (wnid and imagenet.WNID.fullmatch(expected) and wnid[1] != expected):
            strangers.append(index.name(i))
    detail = f"{len(strangers):,} images are not of the class of their folder: {some(strangers)}"
    yield Check(f"{split} labels", not strangers, detail if strangers else "each image lies with its class")
    if split == "val" and classes == imagenet.wnids():
        yield _anchors(index)


def _anchors(index: Index) -> Check:
    """Val images of ImageNet whose labels are known, to notice labels that follow another order."""
    found = {}
    for i in range(len(index)):
        match = imagenet.VAL_FILE.fullmatch(index.name(i).rpartition("/")[2])
        if match and int(match[1]) in imagenet.ANCHORS:
            found[int(match[1])] = int(index.label[i])
    if not found:
        return Check("val label order", True, "none of the images with a known label is here")
    wrong = {n: label for n, label in found.items() if label != imagenet.ANCHORS[n]}
    if not wrong:
        return Check("val label order", True, f"{len(found)} images of known label are right")
    n, label = min(wrong.items())
    detail = f"{len(wrong)} of {len(found)} images of known label are wrong: ILSVRC2012_val_{n:08d}.JPEG has {label}"
    detail += f" instead of {imagenet.ANCHORS[n]}"
    if any(label - imagenet.ANCHOR_IDS[n] in (-1, 0) for n, label in wrong.items()):
        detail += (
            "; the devkit's ILSVRC2012_IDs were used as labels, but a label is the wnid's position in the sorted list: "
            "sort the val images again by wnid, or let resnetctl prepare read the archives and the devkit themselves"
        )
    return Check("val label order", False, detail)


def _same_classes(indexes: dict[str, Index]) -> Check:
    lists = {index.info.classes for index in indexes.values()}
    if len(lists) == 1:
        return Check("splits", True, f"{' and '.join(indexes)} have the same classes")
    return Check("splits", False, "train and val have different classes: run resnetctl prepare again")


class _Found(NamedTuple):
    bad: list[BadImage]
    unusual: Counter[str]


def _decode_all(index: Index, workers: int, progress: Progress) -> _Found:
    """Decode every image of `index`; results come back in any order and are put into the index's."""
    chunks = iter(range(0, len(index), _CHUNK))
    bad: list[tuple[int, BadImage]] = []
    unusual: Counter[str] = Counter()
    done = 0
    what = f"decoding {index.info.split}"

    def take(result: tuple[int, list[tuple[int, BadImage]], Counter[str]]) -> None:
        nonlocal done
        done += result[0]
        bad.extend(result[1])
        unusual.update(result[2])
        progress(what, done, len(index))

    if workers == 0:
        for first in chunks:
            take(_check_chunk(index, first))
        return _Found([b for _, b in bad], unusual)
    context = multiprocessing.get_context("spawn")  # a fork would copy the thread that draws the bar
    pool = ProcessPoolExecutor(workers, context, _start_worker, (index.path.parent, index.info.split))
    try:
        waiting: set[Future[tuple[int, list[tuple[int, BadImage]], Counter[str]]]] = set()
        while True:
            waiting |= {pool.submit(_check_in_worker, c) for c in islice(chunks, 4 * workers - len(waiting))}
            if not waiting:
                break
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ready:
                take(future.result())
    except BrokenProcessPool as error:
        raise ResnetctlError(
            f"a process that decodes images was killed, after {done:,} of {len(index):,}",
            hint="look for an out-of-memory kill (dmesg), and try fewer --workers",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    return _Found([b for _, b in sorted(bad)], unusual)


_worker_index: Index


def _start_worker(data_root: Path, split: str) -> None:
    global _worker_index
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    _worker_index = Index(index_path(data_root, split))


def _check_in_worker(first: int) -> tuple[int, list[tuple[int, BadImage]], Counter[str]]:
    return _check_chunk(_worker_index, first)


def _check_chunk(index: Index, first: int) -> tuple[int, list[tuple[int, BadImage]], Counter[str]]:
    bad, unusual = [], Counter[str]()
    last = min(first + _CHUNK, len(index))
    for i in range(first, last):
        reason, notes = check_image(index, i)
        unusual.update(notes)
        if reason:
            record = index[i]
            bad.append((i, BadImage(index.info.split, record.name, record.container, reason)))
    return last - first, bad, unusual


def check_image(index: Index, i: int) -> tuple[str | None, list[str]]:
    """Why sample i cannot be trained on (None: it can), and what is unusual about it."""
    import zlib

    from PIL import Image

    try:
        data = index.read(i)
    except DataError as error:
        return error.message, []
    if index.crc32[i] != UNKNOWN_CRC and zlib.crc32(data) != index.crc32[i]:
        return "its bytes are not those that were there at prepare (CRC)", []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # corrupt EXIF and the like, which no decoder here reads
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            form, mode = str(image.format), image.mode
            image.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return f"a decompression bomb: it claims more than {(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels", []
    except Exception as error:  # Pillow raises nearly anything for damaged bytes
        return _reason(data, error), []
    height, width = int(index.height[i]), int(index.width[i])
    if height and (height, width) != (image.height, image.width):
        return f"it is {image.width} × {image.height}, but the index says {width} × {height}", []
    return None, _unusual(index.name(i), form, mode)


def _unusual(name: str, form: str, mode: str) -> list[str]:
    notes = []
    if name.lower().endswith(_JPEG_SUFFIXES) and form not in ("JPEG", "MPO"):
        notes.append(f"{form} in a file called .JPEG")
    if mode not in ("RGB", "YCbCr"):
        notes.append({"L": "grayscale", "P": "palette", "RGBA": "with transparency"}.get(mode, mode))
    return notes


def _reason(data: bytes, error: Exception) -> str:
    if not data:
        return "it is empty"
    if data.count(0) == len(data):
        return "it is all zero bytes"
    start = data[:256].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<body")):
        return "it is a web page, not an image"
    if all(32 <= c < 127 or c in b"\t\r\n" for c in data[:256]):
        return "it is text, not an image"
    return printable(error) or type(error).__name__
