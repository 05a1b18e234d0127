"""Downloads a file: resumed after an interruption, and checked against its checksum."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from resnetctl.errors import DataError, ResnetctlError, UsageError, printable
from resnetctl.progress import Progress

PAUSE_SECONDS = 1.0  # before the second attempt; longer before each later one
_BLOCK = 1 << 18
_TRIES = 5  # in a row without a byte
_TIMEOUT_SECONDS = 30
_MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    url: str
    name: str
    max_bytes: int | None
    hint: str

    def failed(self, why: str) -> ResnetctlError:
        return ResnetctlError(f"cannot download {printable(self.url)}: {why}", hint=self.hint)


def download(
    url: str,
    target: Path,
    checksum: str | None,
    progress: Progress,
    *,
    max_bytes: int | None = None,
    hint: str | None = None,
) -> None:
    """Fetch `url` to `target`, through `<target>.part`, with which a later call continues.

    `checksum`: `md5:…` or `sha256:…`, or the first digits of one. `hint`: what to do if the file is not available.
    If two processes fetch the same file, the second waits for the first. Raises UsageError for an address that is not
    http, DataError if the checksum differs, and ResnetctlError if there are more than `max_bytes`, the server cannot be
    reached, or the connection breaks five times in a row without sending anything.
    """
    default = (
        f"run the command again to continue, or get {target.name} elsewhere and put it into {printable(target.parent)}"
    )
    wanted = _Wanted(url=url, name=target.name, max_bytes=max_bytes, hint=hint or default)
    _check_address(wanted)
    path = target.with_name(target.name + ".part")
    with _part_file(path, target) as part:
        if part is None:
            return
        _fetch_all(wanted, part, progress)
        if checksum is not None and not (found := file_checksum(path, checksum.partition(":")[0])).startswith(checksum):
            part.truncate(0)
            raise DataError(
                f"what {printable(url)} sent is not the published file: it has {found}, not {checksum}; "
                "nothing was kept",
                hint=hint or "try again, and check for a proxy or mirror in between",
            )
        os.fsync(part.fileno())
        path.replace(target)


def _check_address(wanted: _Wanted) -> None:
    try:
        scheme = urllib.parse.urlsplit(wanted.url).scheme
    except ValueError:  # an unfinished [ of IPv6
        scheme = ""
    if scheme not in ("http", "https"):
        raise UsageError(f"cannot download {printable(wanted.url)}: not an http or https address", hint=wanted.hint)


@contextlib.contextmanager
def _part_file(path: Path, target: Path) -> Iterator[BinaryIO | None]:
    """The file at `path`, locked by this process; None if another one has just renamed it to `target`.

    If it is empty in the end, it is removed.
    """
    if path.is_symlink():
        raise DataError(f"{printable(path)} is a link, which is not followed", hint="remove it")
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "r+b") as part:
            fcntl.flock(part, fcntl.LOCK_EX)  # waits
            if _is_at(target, part):
                yield None
                return
            if not _is_at(path, part):  # the other process removed it
                continue
            try:
                yield part
            finally:
                if _is_at(path, part) and not os.fstat(part.fileno()).st_size:
                    path.unlink()
            return


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether `file` is still the file at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _fetch_all(wanted: _Wanted, part: BinaryIO, progress: Progress) -> None:
    """Fetch the rest of `part`, reconnecting if the connection breaks."""
    begin = before = part.seek(0, os.SEEK_END)
    tries = 0
    while True:
        try:
            if _fetch(wanted, part, progress):
                return
            why = "the connection was lost"
        except urllib.error.HTTPError as error:
            why = f"the server says {error.code} {error.reason}"
            if error.code < 500:
                raise wanted.failed(why) from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            why = printable(getattr(error, "reason", None) or error)
            if isinstance(error, urllib.error.URLError) and before == begin:  # offline, or no such server
                raise wanted.failed(why) from error
        part.flush()
        after = part.seek(0, os.SEEK_END)
        tries = 0 if after > before else tries + 1
        if tries >= _TRIES:
            raise wanted.failed(why)
        time.sleep(PAUSE_SECONDS * tries)
        before = after


def _fetch(wanted: _Wanted, part: BinaryIO, progress: Progress) -> bool:
    """Continue `part`; returns whether the file is complete."""
    have = part.seek(0, os.SEEK_END)
    request = urllib.request.Request(wanted.url, headers={"User-Agent": "resnetctl", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if total and int(total[1]) == have:
            return True  # it was complete already
        part.truncate(0)  # the file on the server has changed
        return False
    with response:
        have, total_bytes = _span(response, have)
        part.truncate(have)
        part.seek(have)
        while data := response.read(_BLOCK):
            have += len(data)
            if wanted.max_bytes is not None and have > wanted.max_bytes:
                part.truncate(0)
                raise wanted.failed(f"it has more than {wanted.max_bytes:,} bytes; nothing was kept")
            part.write(data)
            progress(f"downloading {wanted.name} (MB)", have // _MB, total_bytes and total_bytes // _MB)
        part.flush()
    return total_bytes is None or have == total_bytes


def _span(response: Any, have: int) -> tuple[int, int | None]:
    """The first byte that the server sends, and the whole file's size, if given."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            raise http.client.HTTPException("the server sent a different part than requested")
        return have, int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def file_checksum(path: Path, algorithm: str, progress: Progress | None = None) -> str:
    """`<algorithm>:<hex digits>` of the file at `path`, streamed once."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while data := file.read(1 << 22):
            digest.update(data)
            done += len(data)
            if progress:
                progress(f"{algorithm} of {path.name} (MB)", done // _MB, size // _MB)
    return f"{algorithm}:{digest.hexdigest()}"
