"""A file from the web: resumed where it broke off, and held against its checksum."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from resnetctl.errors import DataError, ResnetctlError, UsageError, printable
from resnetctl.progress import Progress

_BLOCK = 1 << 18
_TRIES = 5  # in a row without a byte
_TIMEOUT_SECONDS = 30
_MB = 1_000_000


def download(url: str, target: Path, checksum: str | None, progress: Progress, *, pause_seconds: float = 1.0) -> None:
    """Fetch `url` to `target`, by way of `<target>.part`, which a later call goes on with.

    `checksum`: `md5:…` or `sha256:…`. Raises DataError where the bytes are not those, and ResnetctlError where the
    server cannot be reached, or breaks off five times in a row without sending anything.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise UsageError(f"{printable(url)} is no http or https address")
    part = target.with_name(target.name + ".part")
    if part.is_symlink():
        raise DataError(f"{printable(part)} is a link, and is left alone", hint="remove it")
    tries = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _fetch(url, part, progress):
                break
            why = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise _failed(url, f"the server says {error.code} {error.reason}", target) from error
            why = f"the server says {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            why = printable(getattr(error, "reason", None) or error)
        after = part.stat().st_size if part.exists() else 0
        tries = 0 if after > before else tries + 1
        if tries >= _TRIES:
            raise _failed(url, why, target)
        time.sleep(pause_seconds * tries)
    if checksum is not None:
        _check(part, checksum, url)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


def _fetch(url: str, part: Path, progress: Progress) -> bool:
    """Go on with `part`; whether the file is whole now."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "resnetctl", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if total and int(total[1]) == have:
            return True  # it was whole before
        part.unlink()  # another file lies there now
        return False
    with response:
        have, total_bytes = _span(response, have)
        with part.open("ab" if have else "wb") as file:
            while data := response.read(_BLOCK):
                file.write(data)
                have += len(data)
                progress(f"downloading {part.stem} (MB)", have // _MB, total_bytes and total_bytes // _MB)
    return total_bytes is None or have == total_bytes


def _span(response: Any, have: int) -> tuple[int, int | None]:
    """From which byte on the server sends, and how many the whole file has, where it says so."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            raise http.client.HTTPException("the server sends another part than was asked for")
        return have, int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _check(part: Path, checksum: str, url: str) -> None:
    found = file_checksum(part, checksum.partition(":")[0])
    if found != checksum:
        part.unlink()
        raise DataError(
            f"what {printable(url)} sent is not the published file: {found} instead of {checksum}",
            hint="try again, and look whether a proxy or a mirror is between",
        )


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


def _failed(url: str, why: str, target: Path) -> ResnetctlError:
    return ResnetctlError(
        f"cannot download {printable(url)}: {why}",
        hint=f"run the same again to go on, or get {target.name} elsewhere and put it into {printable(target.parent)}",
    )
