"""Downloads from a real server on the loopback, which breaks off, restarts and lies."""

import hashlib
import http.server
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnetctl.data.prepare import prepare
from resnetctl.download import download
from resnetctl.errors import DataError, ResnetctlError, UsageError
from resnetctl.progress import silent
from tests.fixtures.holdings import IMAGENETTE, Holding


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; each answer is cut after the bytes that `cuts` says next, where it says any."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.cuts: list[int] = []
        self.ranges_allowed = True
        self.asked: list[str | None] = []
        self.status: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Range"])
        data = self.server.files.get(self.path.lstrip("/"))
        if self.server.status:
            self.send_error(self.server.status.pop(0))
            return
        if data is None:
            self.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(wanted[1]) if wanted and self.server.ranges_allowed else 0
        if start >= len(data) and wanted:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.server.gate.wait()
        cut = self.server.cuts.pop(0) if self.server.cuts else len(data)
        self.wfile.write(data[start : start + cut])
        if start + cut < len(data):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


DATA = bytes(range(256)) * 20_000
SUM = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server({"a.tgz": DATA}) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnetctl.download.PAUSE_SECONDS", 0)


def fetch(server: Server, target: Path, checksum: str | None = SUM) -> None:
    download(f"{server.url}/a.tgz", target, checksum, silent)


def test_whole(server: Server, tmp_path: Path) -> None:
    seen = []
    download(f"{server.url}/a.tgz", tmp_path / "a.tgz", SUM, lambda *step: seen.append(step))
    assert (tmp_path / "a.tgz").read_bytes() == DATA
    assert seen[-1] == ("downloading a.tgz (MB)", 5, 5)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tgz"]


def test_cut_connections_are_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 5, 0, 0, 2_000_000]
    fetch(server, tmp_path / "a.tgz")
    assert (tmp_path / "a.tgz").read_bytes() == DATA
    at = [0, 1_000_000, 1_000_005, 1_000_005, 1_000_005, 3_000_005]
    assert server.asked == [None, *(f"bytes={n}-" for n in at[1:])]


def test_a_later_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.cuts = [1_000_000] + [0] * 5
    with pytest.raises(ResnetctlError, match="the connection was lost") as caught:
        fetch(server, tmp_path / "a.tgz")
    assert "run the command again" in str(caught.value.hint)
    assert (tmp_path / "a.tgz.part").stat().st_size == 1_000_000
    assert not (tmp_path / "a.tgz").exists()
    fetch(server, tmp_path / "a.tgz")
    assert server.asked[-1] == "bytes=1000000-"
    assert (tmp_path / "a.tgz").read_bytes() == DATA


def test_a_part_that_is_whole_and_one_that_is_longer(server: Server, tmp_path: Path) -> None:
    for content in (DATA, DATA + b"x"):
        (tmp_path / "a.tgz.part").write_bytes(content)
        fetch(server, tmp_path / "a.tgz")
        assert (tmp_path / "a.tgz").read_bytes() == DATA


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges_allowed = False
    server.cuts = [1_000_000]
    fetch(server, tmp_path / "a.tgz")
    assert (tmp_path / "a.tgz").read_bytes() == DATA


def test_other_bytes_are_thrown_away(server: Server, tmp_path: Path) -> None:
    server.files["a.tgz"] = DATA[:-1] + b"x"
    with pytest.raises(DataError, match="is not the published file"):
        fetch(server, tmp_path / "a.tgz")
    assert list(tmp_path.iterdir()) == []


def test_what_the_server_says(server: Server, tmp_path: Path) -> None:
    server.status = [500, 503]
    fetch(server, tmp_path / "a.tgz")
    del server.files["a.tgz"]
    with pytest.raises(ResnetctlError, match="404"):
        fetch(server, tmp_path / "b.tgz")
    with pytest.raises(UsageError, match="not an http"):
        download("file:///etc/passwd", tmp_path / "x", None, silent)
    server.shutdown()
    server.server_close()
    with pytest.raises(ResnetctlError, match="refused"):
        fetch(server, tmp_path / "c.tgz")


def test_nobody_there_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(seconds: float) -> None:
        raise AssertionError("waited, though nobody answers")

    monkeypatch.setattr("time.sleep", never)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.tgz"
    with pytest.raises(ResnetctlError, match="refused"):
        download(url, tmp_path / "a.tgz", SUM, silent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_two_at_once_fetch_it_once(server: Server, tmp_path: Path) -> None:
    def opened() -> int:
        return sum(os.path.realpath(fd).endswith("a.tgz.part") for fd in Path("/proc/self/fd").iterdir())

    server.gate.clear()
    both = [threading.Thread(target=fetch, args=(server, tmp_path / "a.tgz")) for _ in range(2)]
    for one in both:
        one.start()
    while opened() < 2:
        assert any(one.is_alive() for one in both)
    server.gate.set()
    for one in both:
        one.join()
    assert (tmp_path / "a.tgz").read_bytes() == DATA
    assert [p.name for p in tmp_path.iterdir()] == ["a.tgz"]
    assert server.asked == [None]


def test_the_first_digits_of_a_checksum_are_enough(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path / "a.tgz", SUM[:15])
    assert (tmp_path / "a.tgz").read_bytes() == DATA
    with pytest.raises(DataError, match="not sha256:00000000"):
        fetch(server, tmp_path / "b.tgz", "sha256:00000000")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tgz"]


def test_too_many_bytes_are_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ResnetctlError, match="more than 1,000,000 bytes"):
        download(f"{server.url}/a.tgz", tmp_path / "a.tgz", SUM, silent, max_bytes=1_000_000)
    assert list(tmp_path.iterdir()) == []


def test_imagenette_from_the_web(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Holding().imagenette(tmp_path / "made" / "imagenette2-160.tgz").read_bytes()
    server.files["imagenette2-160.tgz"] = archive
    server.cuts = [20_000, 30_000]
    monkeypatch.setenv("RESNETCTL_IMAGENETTE_URL", server.url)
    with pytest.raises(DataError, match="md5:e793b78cc4c9e9a4ccc0c1155377a412"):
        prepare(tmp_path / "data", kind="imagenette-160")
    assert [p.name for p in (tmp_path / "data").iterdir()] == [".lock"]
    md5 = hashlib.md5(archive).hexdigest()
    monkeypatch.setattr("resnetctl.data.sources.imagenette._MD5", {"imagenette2-160": md5})
    done = prepare(tmp_path / "data", kind="imagenette-160")
    assert (done.dataset.name, done.dataset.train_images, done.dataset.val_images) == ("imagenette2-160", 160, 40)
    asked = len(server.asked)
    bare = prepare(tmp_path / "data")
    assert bare.dataset.fingerprints == done.dataset.fingerprints
    assert not any("replaces" in text for text in bare.notices)
    again = prepare(tmp_path / "data", kind="imagenette-160").dataset
    assert again.fingerprints == done.dataset.fingerprints
    assert len(server.asked) == asked


def test_imagewoof_has_no_published_sum_and_its_own_is_noted(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Holding().imagenette(tmp_path / "made" / "imagewoof2-320.tgz").read_bytes()
    server.files["imagewoof2-320.tgz"] = archive
    monkeypatch.setenv("RESNETCTL_IMAGENETTE_URL", server.url)
    with pytest.raises(DataError, match="does not belong there"):  # the classes of Imagenette are not its
        prepare(tmp_path / "wrong", kind="imagewoof-320")
    monkeypatch.setattr("resnetctl.data.sources.imagenette._WNIDS", {"imagewoof2": " ".join(IMAGENETTE)})
    done = prepare(tmp_path / "data", kind="imagewoof-320")
    assert done.dataset.source == "imagewoof-320"
    assert done.dataset.train_images == 160
    assert any(hashlib.sha256(archive).hexdigest() in text for text in done.notices)
