"""Faults of `prepare`, really injected: each leaves what was there whole. (More in test_official and test_folder.)"""

import contextlib
import io
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from resnetctl.data import imagenet
from resnetctl.data.dataset import load_dataset
from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError, ResnetctlError
from tests.data.test_quarantine import hold_lock
from tests.fixtures.imagenet_archives import TRAIN, VAL, jpeg, official, tar_of
from tests.process import start
from tests.zygote import Zygote

WNIDS = imagenet.wnids()[::250]
WRITTEN = ("train.index.safetensors", "val.index.safetensors", "dataset.json")


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    return official(WNIDS).write(tmp_path / "in")


def state(root: Path) -> dict[str, bytes]:
    """Every file below `root` but the lock."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


@contextlib.contextmanager
def refused(data: Path, match: str) -> Iterator[None]:
    """A DataError, and nothing in `data` changed."""
    before = state(data)
    with pytest.raises(DataError, match=match):
        yield
    assert state(data) == before


@pytest.mark.parametrize("archive", [TRAIN, VAL])
def test_faults_1_and_2_a_tar_cut_at_a_boundary_or_in_a_header(archives: Path, tmp_path: Path, archive: str) -> None:
    data = tmp_path / "data"
    prepare(data, kind="sample")
    whole = (archives / archive).read_bytes()
    with tarfile.open(archives / archive) as tar:
        boundaries = [m.offset for m in tar]
    for place in [*boundaries, *(b + 200 for b in boundaries), *(b + 700 for b in boundaries)]:
        (archives / archive).write_bytes(whole[:place])
        with refused(data, "it was cut short"):
            prepare(data, archives, allow_incomplete=True)


def test_fault_1_an_inner_tar_cut(archives: Path, tmp_path: Path) -> None:
    made = official(WNIDS)
    inner = tar_of(made.train[WNIDS[0]])
    (tmp_path / "data").mkdir()
    for place in (512, 1024, len(inner.rstrip(b"\0")) // 512 * 512):
        members = [(f"{w}.tar", inner[:place] if w == WNIDS[0] else tar_of(f)) for w, f in made.train.items()]
        (archives / TRAIN).write_bytes(tar_of(members))
        with refused(tmp_path / "data", f"{WNIDS[0]}.tar is damaged"):
            prepare(tmp_path / "data", archives, allow_incomplete=True)


def test_fault_3_a_zeroed_header_in_the_middle(archives: Path, tmp_path: Path) -> None:
    whole = (archives / TRAIN).read_bytes()
    with tarfile.open(archives / TRAIN) as tar:
        outer = [m.offset for m in tar]
        first = tar.getmembers()[0].offset_data
    (tmp_path / "data").mkdir()
    for place in (*outer, first, first + 512 * 3):
        at = place if place in outer else whole.index(b"n0", place) // 512 * 512
        wiped = bytearray(whole)
        wiped[at : at + 512] = bytes(512)
        (archives / TRAIN).write_bytes(wiped)
        with refused(tmp_path / "data", "a header is all zero"):
            prepare(tmp_path / "data", archives, allow_incomplete=True)


def test_fault_5_kill_9_at_any_moment_then_prepare_again(archives: Path, zygote: Zygote, tmp_path: Path) -> None:
    """Killed before each of its file operations in turn, over the index of another data set."""
    reference, data = tmp_path / "reference", tmp_path / "data"
    prepare(reference, archives)
    mixed = whole = 0
    while True:
        prepare(data, kind="sample")
        done = zygote.run("prepare", archives, "--data", data, kill=(f"[!o]* {data}*", mixed + whole + 1))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.err
        dataset = load_dataset(data)
        try:  # either is fine, but never the index of another data set
            lengths = len(dataset.train()), len(dataset.val())
        except DataError:
            mixed += 1
        else:
            assert lengths == (dataset.train_images, dataset.val_images)
            whole += 1
        prepare(data, archives)
        assert {k: v for k, v in state(data).items() if not k.startswith("sample/")} == state(reference)
    assert whole >= 15
    assert 1 <= mixed <= 10  # between the first rename and the last


def link(name: str, kind: bytes, target: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)
    return file.getvalue()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_fault_7_links_and_devices(archives: Path, tmp_path: Path, kind: bytes) -> None:
    inner = link(f"{WNIDS[0]}_1.JPEG", kind, "../../../../etc/passwd")
    before = sorted(tmp_path.rglob("*"))
    for tar in (tar_of([(f"{WNIDS[0]}.tar", inner)]), link(f"{WNIDS[0]}.tar", kind, "/etc/passwd")):
        (archives / TRAIN).write_bytes(tar)
        with pytest.raises(DataError, match="where only files belong"):
            prepare(tmp_path / "data", archives, allow_incomplete=True)
    assert sorted(set(tmp_path.rglob("*")) - set(before)) == [tmp_path / "data", tmp_path / "data" / ".lock"]


@pytest.mark.parametrize("name", ["../../evil.JPEG", "/tmp/evil.JPEG", "n01440764/../../evil.JPEG"])
def test_fault_7_names_that_lead_outside(archives: Path, tmp_path: Path, name: str) -> None:
    for members in ([(f"{WNIDS[0]}.tar", tar_of([(name, b"x")]))], [(name, b"x")]):
        (archives / TRAIN).write_bytes(tar_of(members))
        with pytest.raises(DataError, match="unsafe name"):
            prepare(tmp_path / "data", archives, allow_incomplete=True)
    assert not list(tmp_path.rglob("evil*"))


def test_fault_8_duplicate_and_case_colliding_members(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    made = official(WNIDS)
    name, data = made.train[WNIDS[1]][0]
    made.train[WNIDS[1]].append((name, data))
    with refused(tmp_path / "data", f"{WNIDS[1]}/{name} twice"):
        prepare(tmp_path / "data", made.write(tmp_path / "in"), allow_incomplete=True)
    made.train[WNIDS[1]][-1] = (name.replace("JPEG", "jpeg"), data)
    with refused(tmp_path / "data", "are expected"):
        prepare(tmp_path / "data", made.write(tmp_path / "in"), allow_incomplete=True)
    made = official(WNIDS)
    root = made.write(tmp_path / "in")
    (root / TRAIN).write_bytes(tar_of([(f"{w}.tar", tar_of(made.train[w])) for w in (*WNIDS, WNIDS[0])]))
    with refused(tmp_path / "data", rf"{WNIDS[0]}\.tar twice"):
        prepare(tmp_path / "data", root, allow_incomplete=True)
    made.val.append(made.val[0])
    with refused(tmp_path / "data", "ILSVRC2012_val_00000001.JPEG twice"):
        prepare(tmp_path / "data", made.write(tmp_path / "in"), allow_incomplete=True)


def test_fault_9_a_limit_on_file_sizes(archives: Path, tmp_path: Path) -> None:
    """The operating system refuses to write more, as it does on a full quota."""
    data = tmp_path / "data"
    prepare(data, kind="sample")
    before = state(data)
    for limit in (0, 100, 1500):
        done = subprocess.run(
            [sys.executable, "-m", "resnetctl", "prepare", str(archives), "--data", str(data)],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        assert done.returncode == 1, done.stderr
        assert "File too large" in done.stderr
        assert "Traceback" not in done.stderr
        assert state(data) == before


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """An empty folder for a tmpfs; skips where one may not be mounted."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_fault_9_a_full_disk(archives: Path, mount: Path) -> None:
    prepare(mount, archives)
    before = state(mount)
    filler = mount / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    for _ in range(2):
        with pytest.raises(ResnetctlError, match="No space left on device") as caught:
            prepare(mount, archives)
        assert "--data" in str(caught.value.hint)
        assert {k: v for k, v in state(mount).items() if k != "filler"} == before
    filler.unlink()
    prepare(mount, archives)
    assert state(mount) == before
    with pytest.raises(ResnetctlError, match="No space left on device"):
        prepare(mount, kind="sample")  # 2 MB of images
    assert {k: v for k, v in state(mount).items() if not k.startswith("sample/")} == before


def test_fault_10_a_read_only_source(archives: Path, mount: Path, tmp_path: Path) -> None:
    made = official(WNIDS[:2], 2, 1)
    made.write(mount)
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
    assert prepare(tmp_path / "data", mount).dataset.train_images == 4
    assert load_dataset(tmp_path / "data").train().info.root == str(mount)
    with pytest.raises(ResnetctlError, match="Read-only file system") as caught:
        prepare(mount)
    assert "--data" in str(caught.value.hint)


def test_fault_10_an_unwritable_data_root(archives: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; the read-only mount covers it")
    (tmp_path / "data").mkdir(mode=0o555)
    with pytest.raises(ResnetctlError, match="Permission denied"):
        prepare(tmp_path / "data", archives)


def test_fault_10_a_file_where_the_data_root_should_be(archives: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(ResnetctlError, match="File exists"):
        prepare(tmp_path / "data", archives)
    assert (tmp_path / "data").read_text() == "mine"


def test_fault_12_two_at_once(archives: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    other = start(hold_lock, data)
    assert other.stdout
    assert other.stdout.readline() == "held\n"
    with pytest.raises(ResnetctlError, match="another resnetctl is preparing"):
        prepare(data, archives)
    assert state(data) == {}
    other.kill()
    other.wait()
    prepare(data, archives)  # the lock went with the process


def test_many_at_once_leave_one_whole_result(archives: Path, tmp_path: Path) -> None:
    data, reference = tmp_path / "data", tmp_path / "reference"
    prepare(reference, archives)
    command = [sys.executable, "-m", "resnetctl", "prepare", str(archives), "--data", str(data)]
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    codes = [p.wait() for p in running]
    assert 0 in codes
    for process, code in zip(running, codes, strict=True):
        assert process.stderr
        text = process.stderr.read()
        assert code == 0 or "another resnetctl is preparing" in text
    assert state(data) == state(reference)


def test_what_is_not_ours_is_never_overwritten(archives: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for content in ("[]", '{"info": {"year": 2014}}', '{"created_by": "someone"}', "not json", ""):
        (data / "dataset.json").write_text(content)
        with refused(data, "was not written by resnetctl"):
            prepare(data, archives)
    (data / "dataset.json").unlink()
    target = tmp_path / "precious"
    target.write_text("mine")
    (data / "val.index.safetensors").symlink_to(target)
    with refused(data, "was not written by resnetctl"):
        prepare(data, archives)
    assert target.read_text() == "mine"
    (data / "val.index.safetensors").unlink()
    (data / "sample").mkdir()
    (data / "sample" / "train.zip").write_text("mine")
    with refused(data, "in the way"):
        prepare(data, kind="sample")


def test_a_damaged_index_or_dataset_file_of_ours_is_mended(archives: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(data, archives)
    whole = state(data)
    for name in WRITTEN[:2]:
        (data / name).write_bytes(whole[name][:100])
        with pytest.raises(DataError, match="not a readable index") as caught:
            load_dataset(data).open(name.partition(".")[0])
        assert "resnetctl prepare" in str(caught.value.hint)
        prepare(data, archives)
        assert state(data) == whole
    (data / "dataset.json").write_text('{"created_by": "resnetctl 0.0.1"}')
    with pytest.raises(DataError, match="is damaged"):
        load_dataset(data)
    prepare(data, archives)
    assert state(data) == whole


def test_preparing_again_changes_nothing_and_needs_no_source(archives: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(data, archives)
    whole = state(data)
    for source in (archives, None):
        done = prepare(data, source)
        assert state(data) == whole
        assert not any("replaces" in text for text in done.notices)
        assert done.root == archives


def test_another_source_replaces_the_index_and_says_so(archives: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(data, kind="sample")
    done = prepare(data, archives)
    assert any("replaces the index of fashion-mnist-sample (sample: 2,000 train images" in n for n in done.notices)
    assert load_dataset(data).source == "official"
    tree = tmp_path / "tree"
    (tree / "train" / "cat").mkdir(parents=True)
    (tree / "train" / "cat" / "1.jpg").write_bytes(jpeg(1))
    prepare(data, tree)
    assert not (data / "val.index.safetensors").exists()


def test_where_the_images_lie_is_kept_relative_inside_the_data_root_only(tmp_path: Path) -> None:
    inside = official(WNIDS[:2]).write(tmp_path / "data")
    index = prepare(inside).dataset.train()
    assert index.info.root == "."
    moved = inside.rename(tmp_path / "elsewhere")
    assert load_dataset(moved).train().read(0)
    below = official(WNIDS[:2]).write(tmp_path / "b" / "raw" / "imagenet")
    assert prepare(tmp_path / "b", below).dataset.train().info.root == "raw/imagenet"
    assert prepare(tmp_path / "c", below).dataset.train().info.root == str(below)


def test_an_interrupted_prepare_cannot_pair_two_data_sets(archives: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "a", archives)
    prepare(tmp_path / "b", kind="sample")
    name = "train.index.safetensors"
    (tmp_path / "b" / name).write_bytes((tmp_path / "a" / name).read_bytes())
    with pytest.raises(DataError, match=r"not the index that dataset\.json was written with") as caught:
        load_dataset(tmp_path / "b").train()
    assert "resnetctl prepare" in str(caught.value.hint)


def test_two_kinds_in_one_folder_are_told(archives: Path, tmp_path: Path) -> None:
    (archives / "train" / "cat").mkdir(parents=True)
    (archives / "train" / "cat" / "1.jpg").write_bytes(jpeg(1))
    done = prepare(tmp_path / "data", archives)
    assert done.dataset.source == "official"
    assert "--source can make it folder" in done.notices[0]
    assert prepare(tmp_path / "data", archives, "folder").dataset.source == "folder"


def test_the_sample_takes_a_second(tmp_path: Path) -> None:
    start = time.monotonic()
    done = prepare(tmp_path, kind="sample")
    assert time.monotonic() - start < 1
    assert [(s.images, s.classes) for s in done.splits] == [(2000, 10), (500, 10)]
    assert done.dataset.recipe == "tiny"
    for split, per_class in (("train", 200), ("val", 50)):
        assert np.bincount(done.dataset.open(split).label).tolist() == [per_class] * 10
    assert sum(p.stat().st_size for p in (tmp_path / "sample").iterdir()) < 3_000_000
    assert "Zalando" in (tmp_path / "sample" / "LICENSE").read_text()
