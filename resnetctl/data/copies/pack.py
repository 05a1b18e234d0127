"""Packed shards: tars of `<key>.jpg` and `<key>.cls`, which `webdataset`, DALI and our own index can read.

One process writes a shard: the tar, its `.sha256`, and last its index, which marks the shard complete. So packing can
be killed at any moment and continues with the missing shards. `pack.json` describes all of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from resnetctl.data.batches.order import permutation
from resnetctl.data.images.header import image_size
from resnetctl.data.index import Index, IndexInfo, Record
from resnetctl.data.index_writer import IndexBuilder
from resnetctl.data.sources import Piece, Sample, Source
from resnetctl.data.sources.shards import FOLDER, PACK_FILE, PackFile, index_of_shard, read_pack_file
from resnetctl.errors import DataError, ResnetctlError, printable
from resnetctl.files import atomic_file, sweep_temporary_files, write_all, write_atomically
from resnetctl.parallel import advance, in_parallel
from resnetctl.progress import Progress
from resnetctl.typed_json import encode

_BLOCK = tarfile.BLOCKSIZE
_MB = 1_000_000
_KINDS = (
    (b"\xff\xd8", "jpg"),
    (b"\x89PNG", "png"),
    (b"RIFF", "webp"),
    (b"BM", "bmp"),
    (b"P", "ppm"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How images are packed."""

    max_side: int | None = None
    """Longest side in pixels: larger images are shrunk to it. Both this and `quality` None: the original bytes."""
    quality: int | None = None
    """JPEG quality of re-encoded images."""
    shard_size: int = 5000
    """Images per shard."""

    @property
    def re_encodes(self) -> bool:
        """Whether images are re-encoded, as baseline JPEGs."""
        return self.max_side is not None or self.quality is not None


@dataclass(frozen=True, kw_only=True)
class IndexPiece:
    """The samples `start` to `stop` of an index, in packing order."""

    index: Path
    count: int
    start: int
    stop: int
    bytes: int
    fingerprint: str

    @property
    def origin(self) -> str:
        """The index's fingerprint and the range in it."""
        return f"{self.fingerprint} {self.start}-{self.stop}"

    def samples(self) -> Iterator[Sample]:
        """The images, read from their containers."""
        index = Index(self.index)
        for i in _order(index.info.split, self.count)[self.start : self.stop].tolist():
            yield Sample(index.name(i), int(index.label[i]), index.read(i))


def _order(split: str, count: int) -> np.ndarray:
    """Train images are shuffled, since readers of shards shuffle only nearby ones; val keeps its order."""
    return permutation(0, 0, count) if split == "train" else np.arange(count)


def pieces_of(index: Index, shard_size: int) -> list[IndexPiece]:
    """The pieces of an index, `shard_size` samples each."""
    count = len(index)
    lengths = index.length[_order(index.info.split, count)]
    return [
        IndexPiece(
            index=index.path,
            count=count,
            start=start,
            stop=min(start + shard_size, count),
            bytes=int(lengths[start : start + shard_size].sum()),
            fingerprint=index.info.fingerprint,
        )
        for start in range(0, count, shard_size)
    ]


@dataclass(frozen=True, kw_only=True)
class _Job:
    piece: Piece
    path: Path
    split: str
    classes: tuple[str, ...]
    packing: Packing


def pack(
    data_root: Path,
    source: Source,
    pieces: Mapping[str, Sequence[Piece]],
    packing: Packing,
    workers: int,
    progress: Progress,
) -> None:
    """Write the missing shards of all splits of `source` into `data_root`/shards.

    Raises DataError if the folder holds shards of other images or made in another way, or if an image cannot be read;
    the caller holds the data root's lock.
    """
    folder = data_root / FOLDER
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DataError(f"{printable(folder)} is in the way", hint="move it, or choose another data root with --data")
    folder.mkdir(exist_ok=True)
    sweep_temporary_files(folder)
    content = PackFile(
        name=source.name,
        classes=source.classes,
        class_names=source.class_names,
        recipe=source.recipe,
        published=source.published,
        notes=tuple(source.notes),
        packing={"max_side": packing.max_side, "quality": packing.quality},
        shards={split: tuple(piece.origin for piece in each) for split, each in pieces.items()},
    )
    _agree(folder, content)
    jobs = [
        _Job(
            piece=piece, path=folder / f"{split}-{number:05d}.tar", split=split, classes=source.classes, packing=packing
        )
        for split, each in pieces.items()
        for number, piece in enumerate(each)
    ]
    left = [job for job in jobs if not (job.path.is_file() and index_of_shard(job.path).is_file())]
    total = sum(job.piece.bytes for job in jobs) // _MB
    before = sum(job.piece.bytes for job in jobs) - sum(job.piece.bytes for job in left)

    def tell(done: int) -> None:
        progress("packing (MB)", min(total, (before + done) // _MB), total)

    for _ in in_parallel(_write_shard, left, workers=min(workers, len(left)), tell=tell):
        pass
    progress("packing (MB)", total, total)


def _agree(folder: Path, content: PackFile) -> None:
    """Write `pack.json`, or check that the existing one says the same."""
    path = folder / PACK_FILE
    if path.exists():
        if read_pack_file(folder) != content:
            raise DataError(
                f"{printable(folder)} holds shards of other images, or made in another way",
                hint="move or remove that folder, or choose another data root with --data",
            )
        return
    foreign = [entry.name for entry in folder.iterdir()]
    if foreign:
        raise DataError(
            f"{printable(folder)} holds {printable(foreign[0])}, which resnetctl did not write",
            hint="move that folder, or choose another data root with --data",
        )
    write_atomically(path, json.dumps(encode(content), indent=1) + "\n")


def _write_shard(job: _Job) -> None:
    index_of_shard(job.path).unlink(missing_ok=True)
    builder, digest = IndexBuilder(), hashlib.sha256()
    transform = partial(re_encode, max_side=job.packing.max_side, quality=job.packing.quality)
    with atomic_file(job.path) as fd:

        def write(data: bytes) -> None:
            write_all(fd, data)
            digest.update(data)

        at = 0
        for number, sample in enumerate(job.piece.samples()):
            data = transform(sample.data) if job.packing.re_encodes else sample.data
            key = f"{job.path.stem}-{number:06d}"
            at = _add(write, f"{key}.{_suffix(data)}", data, at)
            height, width = image_size(data)
            begin = at - _padded(len(data))
            record = Record(sample.name, job.path.name, begin, len(data), sample.label, height, width)
            builder.add(record._replace(crc32=zlib.crc32(data)))
            at = _add(write, f"{key}.cls", str(sample.label).encode(), at)
            advance(len(sample.data))
        write(bytes(2 * _BLOCK))
    write_atomically(job.path.with_suffix(".tar.sha256"), f"{digest.hexdigest()}  {job.path.name}\n")
    info = IndexInfo(split=job.split, source="shards", root=".", classes=job.classes, class_names=job.classes)
    builder.write(index_of_shard(job.path), info)


def _padded(count: int) -> int:
    return -(-count // _BLOCK) * _BLOCK


def _add(write: Callable[[bytes], None], name: str, data: bytes, at: int) -> int:
    """Append a file without time or owner, so that shards are reproducible; returns the next header's offset."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    header = info.tobuf(tarfile.USTAR_FORMAT)
    write(header + data + bytes(_padded(len(data)) - len(data)))
    return at + len(header) + _padded(len(data))


def _suffix(data: bytes) -> str:
    return next((suffix for start, suffix in _KINDS if data.startswith(start)), "jpg")


def re_encode(data: bytes, *, max_side: int | None, quality: int | None) -> bytes:
    """`data` as a baseline JPEG whose longer side has at most `max_side` pixels; unreadable images stay as they are."""
    from PIL import Image

    from resnetctl.data.images.pillow import open_image, rgb

    try:
        image = open_image(data)
        size, longer = image.size, max(image.size)
        if max_side is not None and longer > max_side:
            size = (max(1, round(image.width * max_side / longer)), max(1, round(image.height * max_side / longer)))
            image.draft("RGB", (2 * size[0], 2 * size[1]))  # a JPEG can be decoded at 1/2, 1/4 or 1/8 of its size
        pixels = Image.fromarray(rgb(image))
        if pixels.size != size:
            pixels = pixels.resize(size, Image.Resampling.BICUBIC, reducing_gap=None)
        file = io.BytesIO()
        pixels.save(file, "JPEG", quality=90 if quality is None else quality)
        return file.getvalue()
    except Exception:  # Pillow raises nearly anything for damaged bytes; verify reports what is wrong
        return data


def check_room(folder: Path, needed: int) -> None:
    """Raise ResnetctlError if the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResnetctlError(
            f"that needs {needed / 1e9:.1f} GB in {printable(folder)}; {free / 1e9:.1f} GB are free",
            hint="free some space, or choose a data root on another disk with --data",
        )
