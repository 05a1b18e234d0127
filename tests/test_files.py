"""Files that are old or new but never half, and one writer at a time."""

import os
import signal
import time
from pathlib import Path

import pytest

from resnetctl.errors import ResnetctlError
from resnetctl.files import atomic_file, folder_lock, staged, sweep_temporary_files, write_all, write_atomically
from tests.moments import kill_before
from tests.process import start


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_write_replaces_the_whole(old, tmp_path):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    write_atomically(path, "neu ü")
    assert path.read_bytes() == "neu ü".encode()
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), ValueError()])
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_exception_leaves_what_was_there(old, error, tmp_path):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def write() -> None:
        with atomic_file(path) as fd:
            write_all(fd, b"half of the n")
            raise error

    with pytest.raises(type(error)):
        write()
    assert names(tmp_path) == ([] if old is None else ["file"])
    if old is not None:
        assert path.read_bytes() == old


def made(path: Path, folder: bool) -> None:
    """A file, or a folder with one."""
    if folder:
        path.mkdir()
    (path / "inside" if folder else path).write_text("new")


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_what_was_made_aside_takes_its_place(old, folder, tmp_path):
    path = tmp_path / "it"
    if old:
        made(path, folder)
        (path / "older" if folder else path).write_text("old")
    with staged(path) as aside:
        assert (aside.name, aside.exists()) == ("it", False)
        made(aside, folder)
        (aside / "inside" if folder else aside).chmod(0o600)
        assert path.exists() == old
    assert names(tmp_path) == ["it"]
    assert (names(path) if folder else path.read_text()) == (["inside"] if folder else "new")
    umask = os.umask(0)
    os.umask(umask)
    assert (path / "inside" if folder else path).stat().st_mode & 0o777 == 0o644 & ~umask


@pytest.mark.parametrize("folder", [False, True])
def test_what_fails_aside_changes_nothing(folder, tmp_path):
    path = tmp_path / "it"
    made(path, folder)

    def fail() -> None:
        with staged(path) as aside:
            made(aside, folder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == ["it"]
    assert (path / "inside" if folder else path).read_text() == "new"


def test_a_folder_comes_back_where_its_place_cannot_be_taken(tmp_path, monkeypatch):
    path = tmp_path / "it"
    made(path, True)

    def full(self: Path, target: Path) -> None:
        raise OSError("disk full")

    def fail() -> None:
        with staged(path) as aside:
            aside.mkdir()
            monkeypatch.setattr(Path, "replace", full)

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert names(tmp_path) == ["it"]
    assert names(path) == ["inside"]


def test_nobody_sees_half_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_file(path) as fd:
        write_all(fd, b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_descriptors_are_closed(tmp_path):
    before = len(names(Path("/proc/self/fd")))
    for _ in range(20):
        write_atomically(tmp_path / "file", b"x")
        with pytest.raises(ValueError, match="no"), atomic_file(tmp_path / "file"):
            raise ValueError("no")
        with folder_lock(tmp_path, "testing"):
            pass
    assert len(names(Path("/proc/self/fd"))) == before


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert target.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert link.read_bytes() == b"new"


@pytest.mark.parametrize("data", [b"", b"x" * 3_000_000, memoryview(b"abcd" * 10)])
def test_all_is_written(data, tmp_path):
    write_atomically(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == bytes(data)


def test_all_is_written_to_a_pipe_that_takes_little_at_a_time():
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        write_all(writer, bytes(range(256)) * 1000)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == bytes(range(256)) * 1000
    assert os.wait()[1] == 0


def killed_while_writing(path: Path) -> None:
    kill_before((f"rename {path}", 1))
    with atomic_file(path):
        pass


def test_only_our_own_left_overs_are_swept(tmp_path):
    child = os.fork()
    if not child:
        killed_while_writing(tmp_path / "step-1.safetensors")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (left,) = names(tmp_path)
    others = ["step-1.safetensors", "notes.resnetctl-tmp", ".x.abc.resnetctl-tmp", left + "x", ".hidden"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    link, folder = ".l.abcdefgh.resnetctl-tmp", ".f.abcdefgh.resnetctl-tmp"
    (tmp_path / link).symlink_to(tmp_path / "step-1.safetensors")
    (tmp_path / folder).mkdir()
    sweep_temporary_files(tmp_path)
    assert names(tmp_path) == sorted([*others, link, folder])


def hold(folder: str, mode: str) -> None:
    """Hold the lock until killed; with `fork` leave a child, as a loader worker, which outlives a killed trainer."""
    with folder_lock(Path(folder), "training"):
        child = os.fork() if mode == "fork" else 1
        if child:
            print(child, flush=True)
        time.sleep(100)


@pytest.mark.parametrize("mode", ["alone", "fork"])
def test_one_writer_at_a_time_until_it_is_gone(mode, tmp_path):
    holder = start(hold, tmp_path, mode)
    child = int(holder.stdout.readline())
    try:
        with (
            pytest.raises(ResnetctlError, match="another resnetctl is training in") as caught,
            folder_lock(tmp_path, "training"),
        ):
            pass
        assert "wait" in caught.value.hint
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with folder_lock(tmp_path, "training"):
            pass
    finally:
        holder.kill()
        holder.stdout.close()
        if child != 1:
            os.kill(child, signal.SIGKILL)


def test_a_lock_is_given_back_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), folder_lock(tmp_path, "training"):
            raise KeyError
    assert names(tmp_path) == [".lock"]


def test_a_folder_that_is_gone_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        write_atomically(tmp_path / "gone" / "file", b"")
    with pytest.raises(OSError, match="No such file"), folder_lock(tmp_path / "gone", "training"):
        pass


def test_a_name_as_long_as_a_file_system_allows(tmp_path):
    path = Path(tmp_path / ("n" * 220))
    write_atomically(path, b"x")
    assert path.read_bytes() == b"x"


def write_aside(path: str) -> None:
    """Begin a folder in place of `path` and wait, until killed; for `tests.process.start`."""
    with staged(Path(path)) as aside:
        aside.mkdir()
        (aside / "part").write_bytes(b"x")
        print("begun", flush=True)
        time.sleep(100)


def test_what_a_killed_writer_left_beside_its_path_goes_and_a_living_ones_stays(tmp_path):
    path = tmp_path / "model"
    dead, living = start(write_aside, path), start(write_aside, path)
    assert [process.stdout.readline() for process in (dead, living)] == ["begun\n", "begun\n"]
    other = tmp_path / ".model.abcdefgh.other"
    other.mkdir()
    dead.kill()
    dead.communicate()
    with staged(path) as aside:
        aside.write_bytes(b"new")
        assert len(list(tmp_path.glob(".model.*.resnetctl-tmp"))) == 2
    assert len(list(tmp_path.glob(".model.*.resnetctl-tmp"))) == 1
    living.kill()
    living.communicate()
    with staged(path) as aside:
        aside.write_bytes(b"newer")
    assert names(tmp_path) == [other.name, "model"]
