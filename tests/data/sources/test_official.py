"""The official archives, in their exact shapes, against torchvision's reading of them."""

import hashlib
import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from resnetctl.data import imagenet
from resnetctl.data.dataset import load_dataset
from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError
from tests.conftest import Cli
from tests.fixtures.imagenet_archives import (
    DEVKIT,
    TRAIN,
    VAL,
    jpeg,
    meta_mat,
    official,
    tar_of,
    val_wnids,
    write_devkit,
)
from tests.process import call

WNIDS = imagenet.wnids()[::83]


def test_records_point_at_the_images_and_nothing_else_is_written(tmp_path: Path) -> None:
    made = official(WNIDS)
    root = made.write(tmp_path / "in")
    before = {p.name: p.stat().st_mtime_ns for p in root.iterdir()}
    done = prepare(tmp_path / "data", root)
    train, val = done.dataset.train(), done.dataset.val()
    images = {f"{wnid}/{name}": data for wnid, files in made.train.items() for name, data in files}
    assert {train.name(i): train.read(i) for i in range(len(train))} == images
    labels = val_wnids(WNIDS, made)
    assert {val.name(i): val.read(i) for i in range(len(val))} == {f"{labels[n]}/{n}": d for n, d in made.val}
    for index in (train, val):
        for i in range(len(index)):
            assert index.info.classes[index.label[i]] == index.name(i).split("/")[0]
    assert train.info.classes == tuple(sorted(WNIDS))
    assert train.info.class_names[0] == f"name of {WNIDS[0]}"
    assert {p.name: p.stat().st_mtime_ns for p in root.iterdir()} == before
    assert {p.name for p in (tmp_path / "data").iterdir()} == {
        ".lock",
        "dataset.json",
        "train.index.safetensors",
        "val.index.safetensors",
    }


def test_the_same_pictures_from_folders_have_the_same_fingerprint(tmp_path: Path) -> None:
    made = official(WNIDS)
    a = prepare(tmp_path / "a", made.write(tmp_path / "archives")).dataset
    b = prepare(tmp_path / "b", made.write_folders(tmp_path / "tree", val_wnids(WNIDS, made))).dataset
    assert a.fingerprints == b.fingerprints
    for one, other in ((a.train(), b.train()), (a.val(), b.val())):
        assert [one.name(i) for i in range(len(one))] == [other.name(i) for i in range(len(other))]
        assert (one.label == other.label).all()
        assert (one.height == other.height).all()
        assert (one.width == other.width).all()


def test_labels_are_those_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import ImageNet
    from torchvision.datasets import imagenet as reference

    made = official(WNIDS)
    root = made.write(tmp_path / "in")
    md5 = {name: hashlib.md5((root / name).read_bytes()).hexdigest() for name in (TRAIN, VAL, DEVKIT)}
    keys = {"train": TRAIN, "val": VAL, "devkit": DEVKIT}
    monkeypatch.setattr(reference, "ARCHIVE_META", {key: (name, md5[name]) for key, name in keys.items()})
    dataset = prepare(tmp_path / "data", root).dataset
    for split in ("train", "val"):
        theirs, ours = ImageNet(str(root), split), dataset.open(split)
        assert tuple(theirs.wnids) == ours.info.classes
        assert tuple(c[0] for c in theirs.classes) == ours.info.class_names
        expected = {"/".join(Path(p).parts[-2:]): label for p, label in theirs.samples}
        assert {ours.name(i): int(ours.label[i]) for i in range(len(ours))} == expected


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 1,000 classes, one train and one val image of each."""
    return official(imagenet.wnids(), 1, 1).write(tmp_path_factory.mktemp("thousand"))


def test_all_thousand_classes(thousand: Path, tmp_path: Path) -> None:
    done = prepare(tmp_path, thousand, allow_incomplete=True)
    assert (done.dataset.name, done.dataset.classes) == ("imagenet-1k", 1000)
    assert done.dataset.train().info.classes == imagenet.wnids()
    assert "not that of the whole ImageNet" in done.notices[0]


def test_all_thousand_classes_with_counts_of_a_devkit_of_their_own(cli: Cli, thousand: Path, tmp_path: Path) -> None:
    """What claims to be ImageNet is held against the published counts, whatever its devkit says."""
    refused = cli("prepare", thousand)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "train has 1,000 of 1,281,167 images" in refused.stderr
    assert "val has 1,000 of 50,000 images" in refused.stderr
    assert "--allow-incomplete" in refused.stderr
    taken = json.loads(cli("prepare", thousand, "--allow-incomplete", "--json").stdout)
    assert "1,281,167" in taken["incomplete"]
    assert load_dataset(tmp_path / "data").incomplete == taken["incomplete"]


def test_without_the_devkits_word_the_published_counts_hold(thousand: Path, tmp_path: Path) -> None:
    (tmp_path / TRAIN).symlink_to(thousand / TRAIN)
    with pytest.raises(DataError, match=r"1,000 of 1,281,167 images") as caught:
        prepare(tmp_path)
    assert f"{VAL} is missing" in caught.value.message
    done = prepare(tmp_path, allow_incomplete=True)
    assert done.dataset.incomplete
    assert "1,281,167" in done.dataset.incomplete
    assert done.dataset.train().info.incomplete == done.dataset.incomplete
    assert done.dataset.train().info.class_names[:2] == ("tench", "goldfish")
    with pytest.raises(DataError, match="no val split"):
        load_dataset(tmp_path).val()


def test_val_without_the_devkit_has_the_labels_of_our_own_table(thousand: Path, tmp_path: Path) -> None:
    """And without the train archive eval can run."""
    (tmp_path / VAL).symlink_to(thousand / VAL)
    with pytest.raises(DataError, match=f"{TRAIN} is missing: evaluation is possible"):
        prepare(tmp_path)
    done = prepare(tmp_path, allow_incomplete=True)
    val = done.dataset.val()
    table = imagenet.val_labels()
    assert len(val) > 100
    assert [val.label[i] for i in range(len(val))] == [table[int(val.name(i)[-13:-5]) - 1] for i in range(len(val))]
    assert any("resnetctl's own table" in note for note in val.info.notes)
    assert done.dataset.train_images == 0
    with pytest.raises(DataError, match="no train split"):
        done.dataset.train()


def test_neither_train_nor_val(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"neither {TRAIN} nor {VAL}"):
        prepare(tmp_path / "data", tmp_path, "official")


def test_fewer_images_than_the_devkit_promises(tmp_path: Path) -> None:
    made = official(WNIDS)
    del made.train[WNIDS[2]][1:]
    root = made.write(tmp_path / "in")
    with pytest.raises(DataError, match=rf"train has 37 of 39 images: {WNIDS[2]} \(1 of 3\)") as caught:
        prepare(tmp_path / "data", root)
    assert "--allow-incomplete" in str(caught.value.hint)
    assert not (tmp_path / "data" / "dataset.json").exists()
    assert "1 of 3" in str(prepare(tmp_path / "data", root, allow_incomplete=True).dataset.incomplete)


def test_fault_6_an_inner_tar_missing_or_extra_is_named(tmp_path: Path) -> None:
    made = official(WNIDS)
    missing = made.train.pop(WNIDS[3])
    root = made.write(tmp_path / "in")
    with pytest.raises(DataError, match=f"lacks {WNIDS[3]}.tar"):
        prepare(tmp_path / "data", root)
    dataset = prepare(tmp_path / "data", root, allow_incomplete=True).dataset
    assert dataset.train().info.classes == tuple(WNIDS)  # a label stays what it was
    made.train |= {WNIDS[3]: missing, "n99999999": [("n99999999_1.JPEG", jpeg(1))]}
    made.write(root)
    with pytest.raises(DataError, match=r"n99999999\.tar"):
        prepare(tmp_path / "data", root, allow_incomplete=True)


@pytest.mark.parametrize("change", [-1, 1])
def test_fault_11_a_ground_truth_of_the_wrong_length(tmp_path: Path, change: int) -> None:
    made = official(WNIDS)
    made.truth = made.truth[:-1] if change < 0 else [*made.truth, made.truth[0]]
    root = made.write(tmp_path / "in")
    with pytest.raises(DataError, match=r"ground truth has 25 lines|val has 26 of 27 images"):
        prepare(tmp_path / "data", root)
    assert [p.name for p in (tmp_path / "data").iterdir()] == [".lock"]


@pytest.mark.parametrize("name", ["n01440764.JPEG", "../n01440764_1.JPEG", "n01440764_1.jpeg", "n01443537_1.JPEG", "x"])
def test_an_unexpected_member_is_refused(tmp_path: Path, name: str) -> None:
    made = official(["n01440764"])
    made.train["n01440764"].append((name, jpeg(9)))
    with pytest.raises(DataError, match=r"unsafe name|where names like n01440764_10026.JPEG are expected"):
        prepare(tmp_path / "data", made.write(tmp_path / "in"), allow_incomplete=True)


def test_a_web_page_called_img_train_tar(tmp_path: Path) -> None:
    root = official(WNIDS).write(tmp_path / "in")
    (root / TRAIN).write_bytes(b"<!DOCTYPE html><title>Please log in</title>" * 200)
    with pytest.raises(DataError, match=f"{TRAIN} is damaged"):
        prepare(tmp_path / "data", root)


def test_an_archive_may_be_named_instead_of_its_folder(tmp_path: Path) -> None:
    root = official(WNIDS).write(tmp_path / "in")
    assert prepare(tmp_path / "data", root / TRAIN).dataset.val_images == 26


def measure(root: str, data: str) -> None:
    """Images indexed a second, and the most memory in MiB; on one core, the archives in the page cache."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for archive in Path(root).glob("*.tar"):
        with archive.open("rb") as file:
            while file.read(1 << 20):
                pass
    start = time.perf_counter()
    done = prepare(Path(data), Path(root))
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()  # ru_maxrss would remember the process that this one was forked from
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print(done.dataset.train_images / seconds, int(peak) / 1024)


def many(root: Path, per_class: int) -> None:
    """1,000 classes of `per_class` small images."""
    images = [jpeg(seed, 40 + seed % 9, 60 - seed % 7) for seed in range(16)]
    with tarfile.open(root / TRAIN, "w", format=tarfile.GNU_FORMAT) as tar:
        for wnid in imagenet.wnids():
            data = tar_of([(f"{wnid}_{n}.JPEG", images[n % 16]) for n in range(per_class)])
            info = tarfile.TarInfo(f"{wnid}.tar")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    ids = range(1, 1001)
    (root / VAL).write_bytes(tar_of([(f"ILSVRC2012_val_{n:08d}.JPEG", images[n % 16]) for n in ids]))
    leaves = [(i, wnid, "x", per_class) for i, wnid in zip(ids, reversed(imagenet.wnids()), strict=True)]
    write_devkit(root / DEVKIT, meta_mat(leaves, 860), list(ids))


@pytest.mark.slow
def test_indexing_200_000_images_is_fast_and_small(tmp_path: Path) -> None:
    """At least 20,000 images a second and less than 300 MB, on one core, the archive in the page cache."""
    root = tmp_path / "in"
    root.mkdir()
    many(root, 200)
    done = call(measure, root, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    rate, mebibytes = map(float, done.stdout.split())
    print(f"{rate:,.0f} images/s, {mebibytes:.0f} MiB")
    assert rate >= 20_000
    assert mebibytes < 286  # 300 MB
    start = time.perf_counter()
    index = load_dataset(tmp_path / "data").train()
    assert time.perf_counter() - start < 0.5
    assert len(index) == 200_000
