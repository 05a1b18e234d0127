"""What verify keeps: CRCs, the quarantine, accepted archives."""

import hashlib
import json
import resource
import signal
import sys
from pathlib import Path

import pytest

from resnetctl.data import imagenet
from resnetctl.data.dataset import load_dataset, quarantined_samples
from resnetctl.data.index import UNKNOWN_CRC, Index, index_path
from resnetctl.data.prepare import prepare
from resnetctl.data.quarantine import read_quarantine
from resnetctl.data.verify import verify
from resnetctl.errors import DataError, ResnetctlError
from resnetctl.files import folder_lock
from tests.fixtures.holdings import Holding
from tests.fixtures.imagenet_archives import TRAIN, VAL, jpeg
from tests.fixtures.views import eval_view
from tests.process import start
from tests.zygote import Zygote


def tree(root: Path) -> Path:
    for split in ("train", "val"):
        for k, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for n in range(6):
                (root / split / name / f"{n}.jpg").write_bytes(jpeg(10 * k + n, 90, 120))
    prepare(root)
    return root


def names(index: Index) -> list[str]:
    return [index.name(i) for i in range(len(index))]


def test_bad_images_are_left_out_and_come_back_when_mended(tmp_path: Path) -> None:
    root = tree(tmp_path)
    before = load_dataset(root)
    good = (root / "train/cat/2.jpg").read_bytes()
    (root / "train/cat/2.jpg").write_bytes(good[:-300].ljust(len(good), b"\0"))
    (root / "train/dog/5.jpg").write_bytes(b"<html>".ljust(len(jpeg(15, 90, 120))))
    report = verify(root, workers=0)
    assert not report.ok
    assert [(b.split, b.name, b.container) for b in report.bad] == [
        ("train", "cat/2.jpg", "train/cat/2.jpg"),
        ("train", "dog/5.jpg", "train/dog/5.jpg"),
    ]
    assert read_quarantine(root) == list(report.bad)
    line = json.loads((root / "quarantine.jsonl").read_text().splitlines()[1])
    assert line == {
        "split": "train",
        "sample": "dog/5.jpg",
        "file": "train/dog/5.jpg",
        "reason": "it is a web page, not an image",
    }
    dataset = load_dataset(root)
    assert (dataset.train_images, dataset.quarantined) == (10, {"train": 2})
    assert dataset.fingerprints["val"] == before.fingerprints["val"]
    assert dataset.fingerprints["train"] != before.fingerprints["train"]
    train = dataset.train()
    left = [f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(6)]
    left.remove("cat/2.jpg")
    left.remove("dog/5.jpg")
    assert names(train) == left
    assert [train.read(i) for i in range(10)] == [(root / "train" / name).read_bytes() for name in left]
    assert [int(label) for label in train.label] == [0] * 5 + [1] * 5
    assert quarantined_samples(dataset, "train") == ["cat/2.jpg", "dog/5.jpg"]
    assert quarantined_samples(dataset, "val") == []
    assert verify(root, workers=0).bad == report.bad  # they stay there
    assert load_dataset(root) == dataset

    (root / "train/cat/2.jpg").write_bytes(good)
    report = verify(root, workers=2)
    assert [b.name for b in report.bad] == ["dog/5.jpg"]
    assert any("1 image of train sound again" in text for text in report.remarks)
    (root / "train/dog/5.jpg").write_bytes(jpeg(15, 90, 120))
    assert verify(root, workers=0).ok
    assert not (root / "quarantine.jsonl").exists()
    assert load_dataset(root).fingerprints == before.fingerprints


def test_what_verify_found_stays_with_the_images_that_are_the_same(tmp_path: Path) -> None:
    """Other images may come, go or change between two prepares."""
    root = tree(tmp_path)
    for name in ("cat/2", "cat/3", "dog/5"):
        (root / f"train/{name}.jpg").write_bytes(b"<html>")
    prepare(root)
    assert len(verify(root, workers=0).bad) == 3
    before = {r.name: r.crc32 for r in load_dataset(root).open("train", include_quarantined=True)}

    (root / "train/cat/3.jpg").write_bytes(jpeg(3, 90, 120))  # mended, and of another size
    remark = "its file has {:,} bytes now, and had 6: run resnetctl prepare again"
    reasons = {b.name: b.reason for b in verify(root, workers=0).bad}
    assert reasons["cat/3.jpg"] == remark.format((root / "train/cat/3.jpg").stat().st_size)
    (root / "train/cat/0.jpg").unlink()
    (root / "train/cat/1.jpg").write_bytes(jpeg(77, 30, 30))
    (root / "train/cat/10.jpg").write_bytes(jpeg(78, 30, 30))
    done = prepare(root)
    assert done.dataset.quarantined == {"train": 2}
    assert any("2 images of train in quarantine, left out: cat/2.jpg, dog/5.jpg" in text for text in done.notices)
    assert [b.name for b in read_quarantine(root)] == ["cat/2.jpg", "dog/5.jpg"]
    after = {r.name: r.crc32 for r in done.dataset.open("train", include_quarantined=True)}
    new = {"cat/1.jpg", "cat/3.jpg", "cat/10.jpg"}
    assert {name for name, crc in after.items() if crc == UNKNOWN_CRC} == new | {"cat/2.jpg", "dog/5.jpg"}
    assert all(after[name] == before[name] for name in after.keys() - new)
    again = verify(root, workers=0)
    assert [b.name for b in again.bad] == ["cat/2.jpg", "dog/5.jpg"]

    released = prepare(root, release_quarantined=True).dataset
    assert released.quarantined == {}
    assert not (root / "quarantine.jsonl").exists()
    assert len(released.train()) == 12
    index = released.train()
    assert index.info.fingerprint == index.info.whole_fingerprint


def test_a_disk_that_fills_while_verify_reads_costs_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path)
    (root / "train/cat/2.jpg").write_bytes(b"<html>")
    prepare(root)
    before = {p.name: p.read_bytes() for p in root.iterdir() if p.is_file()}
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        report = verify(root, workers=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [b.name for b in report.bad] == ["cat/2.jpg"]
    assert any("nothing could be saved" in text for text in report.remarks)
    assert {p.name: p.read_bytes() for p in root.iterdir() if p.is_file()} == before


def test_a_data_set_without_the_bad_ones_is_the_same_data_set(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "train/cat/2.jpg").write_bytes(b"")
    prepare(root)
    verify(root, workers=0)
    fingerprint = load_dataset(root).fingerprints["train"]
    (root / "train/cat/2.jpg").unlink()
    assert prepare(root).dataset.fingerprints["train"] == fingerprint


def test_fault_14_crcs_of_the_first_verify_find_flipped_and_zeroed_bytes_later(tmp_path: Path) -> None:
    """In files and in a tar alike, which keep no CRC of their own; preparing again does not forget them."""
    archives = Holding().official(tmp_path / "in")
    for data, source in ((tmp_path / "a", archives), (tree(tmp_path / "b"), None)):
        prepare(data, source, allow_incomplete=True)
        count = len(load_dataset(data).train())
        assert (load_dataset(data).train().crc32 == UNKNOWN_CRC).all()
        report = verify(data, workers=0)
        assert report.ok
        assert any(f"CRCs of {count} images" in text for text in report.remarks)
        assert (load_dataset(data).train().crc32 != UNKNOWN_CRC).all()
        prepare(data, source, allow_incomplete=True)
        train = load_dataset(data).train()
        assert (train.crc32 != UNKNOWN_CRC).all()
        for i, change in (
            (3, lambda b: b[:-60] + bytes([b[-60] ^ 0x10]) + b[-59:]),
            (7, lambda b: b[:-30] + bytes(28) + b[-2:]),
        ):
            path = train.container_path(int(train.container[i]))
            whole = bytearray(path.read_bytes())
            begin, end = int(train.offset[i]), int(train.offset[i] + train.length[i])
            whole[begin:end] = change(bytes(whole[begin:end]))
            path.write_bytes(whole)
        found = verify(data, workers=0)
        assert {b.name for b in found.bad} == {train.name(3), train.name(7)}
        assert all("CRC" in b.reason for b in found.bad)
        assert len(load_dataset(data).train()) == count - 2
        again = prepare(data, source, allow_incomplete=True)
        assert again.dataset.quarantined == {"train": 2}
        assert any("in quarantine, left out" in text for text in again.notices)
        assert len(read_quarantine(data)) == 2


def test_a_quick_look_keeps_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "train/cat/2.jpg").write_bytes(b"")
    state = {p: p.read_bytes() for p in root.iterdir() if p.is_file()}
    assert verify(root, workers=0, sample=3).images == 6
    assert {b.name for b in verify(root, workers=0, sample=100).bad} == {"cat/2.jpg"}
    assert {p: p.read_bytes() for p in root.iterdir() if p.is_file()} == state


def test_a_read_only_root_is_verified_and_nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path)
    (root / ".lock").unlink()
    (root / ".lock").mkdir()  # stands for a folder that cannot be written, also for root
    report = verify(root, workers=0)
    assert report.ok
    assert any("is not writable" in text for text in report.remarks)


def hold_lock(root: str) -> None:
    """Until stdin is closed."""
    with folder_lock(Path(root), "preparing"):
        print("held", flush=True)
        sys.stdin.read()


def test_prepare_and_verify_exclude_each_other(tmp_path: Path) -> None:
    root = tree(tmp_path)
    with start(hold_lock, root) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ResnetctlError, match="another resnetctl"):
            verify(root, workers=0)
        assert other.stdin
        other.stdin.close()
    with folder_lock(root, "x"):
        pass


def test_files_added_after_prepare_are_noticed(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "val/cat/new.jpg").write_bytes(jpeg(3))
    (root / "val/cat/notes.txt").write_bytes(b"")
    failed = [check for check in verify(root, workers=0).checks if not check.ok]
    assert [(c.name, "val/cat/new.jpg" in c.detail) for c in failed] == [("files", True)]
    prepare(root)
    assert verify(root, workers=0).ok


def test_a_loader_notices_that_its_index_was_replaced(tmp_path: Path) -> None:
    """As when verify finds bad images while a run trains: the samples' numbers are other ones now."""
    from resnetctl.data.batches.eval import EvalBatches

    root = tree(tmp_path)
    train = load_dataset(root).train()
    view = eval_view(train.path, batch=4, fingerprint=train.info.fingerprint)
    assert EvalBatches(view)[0].labels.tolist() == [0] * 4
    (root / "train/cat/2.jpg").write_bytes(b"")
    verify(root, workers=0)
    with pytest.raises(DataError, match="was replaced while it was in use"):
        EvalBatches(view)[0]


def test_everything_bad(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for path in (root / "val").rglob("*.jpg"):
        path.write_bytes(b"x" * path.stat().st_size)
    assert len(verify(root, workers=0).bad) == 12
    assert load_dataset(root).val_images == 0
    with pytest.raises(DataError, match="every image of the val split is in quarantine"):
        load_dataset(root).val()
    assert len(verify(root, workers=0).bad) == 12


def test_fault_4_archives_with_another_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Holding().official(tmp_path / "in")
    md5 = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in root.iterdir()}
    mine = tuple(a._replace(md5=md5[a.name]) for a in imagenet.ARCHIVES)
    monkeypatch.setattr(imagenet, "ARCHIVES", mine)
    prepare(tmp_path / "data", root, allow_incomplete=True)
    seen = []
    right = verify(tmp_path / "data", workers=0, archives=True, progress=lambda *a: seen.append(a))
    assert [c.ok for c in right.checks if c.name == "archive"] == [True] * 3
    assert f"md5 of {TRAIN} (MB)" in {what for what, _, _ in seen}

    with (root / VAL).open("ab") as file:
        file.write(bytes(10240))
    wrong = verify(tmp_path / "data", workers=0, archives=True)
    failed = [c for c in wrong.checks if not c.ok]
    assert [c.name for c in failed] == ["archive"]
    assert VAL in failed[0].detail
    assert "--accept-archives" in failed[0].detail
    assert wrong.bad == ()
    assert verify(tmp_path / "data", workers=0).ok  # the images are as they were

    assert verify(tmp_path / "data", workers=0, archives=True, accept_archives=True).ok
    found = hashlib.md5((root / VAL).read_bytes()).hexdigest()
    assert load_dataset(tmp_path / "data").accepted == {VAL: f"md5:{found}"}
    assert verify(tmp_path / "data", workers=0, archives=True).ok
    prepare(tmp_path / "data", root, allow_incomplete=True)
    assert load_dataset(tmp_path / "data").accepted == {VAL: f"md5:{found}"}
    with (root / VAL).open("ab") as file:
        file.write(bytes(10240))
    assert not verify(tmp_path / "data", workers=0, archives=True).ok  # another one than was accepted


def test_kill_9_at_any_moment_of_verify_then_again(zygote: Zygote, tmp_path: Path) -> None:
    """Either nothing was kept, or all; or it is said that it was interrupted, and prepare mends it."""
    root = tree(tmp_path / "data")
    (root / "train/cat/2.jpg").write_bytes(b"x" * 100)
    prepare(root)
    start = {p: p.read_bytes() for p in root.iterdir() if p.is_file()}
    killed = interrupted = 0
    while True:
        for path, data in start.items():
            path.write_bytes(data)
        (root / "quarantine.jsonl").unlink(missing_ok=True)
        done = zygote.run("verify", "--data", root, "--workers", 0, kill=(f"[!o]* {root}*", killed + 1))
        if done.returncode == 3:  # it came to its end, and found the bad image
            break
        assert done.returncode == -signal.SIGKILL, done.err
        killed += 1
        dataset = load_dataset(root)
        try:
            assert len(dataset.train()) == dataset.train_images
        except DataError:
            interrupted += 1
            prepare(root)
        verify(root, workers=0)
        assert load_dataset(root).quarantined == {"train": 1}
    assert killed > 10
    assert interrupted <= 6  # between the first rename and the last
    assert not list(root.glob(".*tmp"))


def test_a_damaged_list_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for text in ("{", '{"split": 1}\n', "[]\n", '{"split": "train", "sample": 3, "file": "", "reason": ""}\n'):
        (root / "quarantine.jsonl").write_text(text)
        with pytest.raises(DataError, match=r"quarantine\.jsonl cannot be read"):
            prepare(root)
    assert index_path(root, "train").is_file()
