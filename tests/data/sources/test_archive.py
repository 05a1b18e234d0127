"""Zips and tars of class folders, against the same pictures as a folder."""

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from resnetctl.data.dataset import Dataset
from resnetctl.data.prepare import Prepared, prepare
from resnetctl.data.verify import verify
from resnetctl.errors import DataError
from tests.conftest import Cli
from tests.fixtures.imagenet_archives import jpeg

SPLITS = [f"{split}/{name}/{n}.jpg" for split in ("train", "val") for name in ("cat", "dog", "Emu") for n in range(4)]
CLASSES = [f"{name}/{file}" for name in ("b", "B", "a b", "é", "漢字", "10", "9") for file in ("1.jpg", "in/2.PNG")]
JUNK = [
    "__MACOSX/train/cat/._0.jpg",
    "__MACOSX/._x.jpg",
    "train/.ipynb_checkpoints/0.jpg",
    "train/cat/.ipynb_checkpoints/0.jpg",
    "train/cat/._0.jpg",
    "train/cat/.DS_Store",
    "train/cat/notes.txt",
]


def folder(root: Path, names: list[str]) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(seed, 20 + seed % 5, 30))
    return root


def stored(source: Path, path: Path, above: str = "") -> Path:
    return zipped(source, path, above, zipfile.ZIP_STORED)


def deflated(source: Path, path: Path, above: str = "") -> Path:
    return zipped(source, path, above, zipfile.ZIP_DEFLATED)


def zipped(source: Path, path: Path, above: str, method: int) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", method) as archive:
        for file in sorted(source.rglob("*")):
            archive.write(file, f"{above}{file.relative_to(source)}")
    return path.with_suffix(".zip")


def tarred(source: Path, path: Path, above: str = "./") -> Path:
    with tarfile.open(path.with_suffix(".tar"), "w") as archive:
        for file in sorted(source.rglob("*")):
            archive.add(file, f"{above}{file.relative_to(source)}", recursive=False)
    return path.with_suffix(".tar")


FORMS = (stored, deflated, tarred)
Form = Callable[..., Path]


def contents(dataset: Dataset, split: str) -> dict[str, tuple[int, int, int, bytes]]:
    index = dataset.open(split)
    rows = zip(index.label, index.height, index.width, strict=True)
    return {index.name(i): (*map(int, row), index.read(i)) for i, row in enumerate(rows)}


def assert_the_same(done: Prepared, plain: Dataset) -> None:
    assert done.dataset.source == "archive"
    assert done.dataset.fingerprints == plain.fingerprints
    for split in plain.fingerprints:
        assert done.dataset.open(split).info.classes == plain.open(split).info.classes
        assert contents(done.dataset, split) == contents(plain, split)


@pytest.mark.parametrize("above", ["", "pets/"])
@pytest.mark.parametrize("names", [SPLITS, CLASSES], ids=["train and val", "classes"])
@pytest.mark.parametrize("form", FORMS)
def test_classes_names_and_labels_are_those_of_the_folder(
    form: Form, names: list[str], above: str, tmp_path: Path
) -> None:
    source = folder(tmp_path / "pets", names)
    plain = prepare(tmp_path / "plain", source).dataset
    done = prepare(tmp_path / "data", form(source, tmp_path / "pets", above))
    assert_the_same(done, plain)
    assert done.dataset.name == "pets"
    assert {p.name for p in (tmp_path / "data").iterdir()} == {p.name for p in (tmp_path / "plain").iterdir()}
    assert verify(tmp_path / "data", workers=0).ok


@pytest.mark.parametrize("form", FORMS)
def test_hidden_files_and_those_of_macos_are_ignored(form: Form, tmp_path: Path) -> None:
    source = folder(tmp_path / "pets", SPLITS + JUNK)
    plain = prepare(tmp_path / "plain", source)
    done = prepare(tmp_path / "data", form(source, tmp_path / "pets"))
    assert_the_same(done, plain.dataset)
    assert len(done.dataset.train()) == 12
    assert "1 file skipped: not a supported image type: train/cat/notes.txt" in plain.notices
    assert "1 file skipped: not a supported image type: train/cat/notes.txt" in done.notices


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_val_and_a_test_split(form: Form, name: str, tmp_path: Path) -> None:
    plain = prepare(tmp_path / "plain", folder(tmp_path / "plain" / "pets", SPLITS)).dataset
    source = folder(tmp_path / "pets", SPLITS)
    (source / "val").rename(source / name)
    folder(source, ["test/cat/1.jpg", "test/2.jpg"])
    done = prepare(tmp_path / "data", form(source, tmp_path / "pets", "top/"))
    assert_the_same(done, plain)
    assert f"test/ is ignored: train/ is trained on, {name}/ is evaluated on" in done.notices


def test_a_val_split_is_drawn_as_from_the_folder(cli: Cli, tmp_path: Path) -> None:
    source = folder(tmp_path / "pets", CLASSES)
    deflated(source, tmp_path / "pets")
    drawn = [
        json.loads(cli("prepare", name, "--data", root, "--val-fraction", "0.5", "--json").stdout)["splits"]
        for name, root in (("pets", "a"), ("pets.zip", "b"))
    ]
    assert drawn[0]["val"]["images"] == 7
    assert [s["fingerprint"] for s in drawn[0].values()] == [s["fingerprint"] for s in drawn[1].values()]


def test_names_that_macos_writes_in_utf_8_without_saying_so(tmp_path: Path) -> None:
    source = folder(tmp_path / "pets", ["é/1.jpg", "漢字/1.jpg"])
    plain = prepare(tmp_path / "plain", source).dataset
    data = bytearray(stored(source, tmp_path / "pets").read_bytes())
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := data.find(start, at + 1)) >= 0:
            data[at + flags + 1] &= ~0x08  # bit 11: the name is UTF-8
    (tmp_path / "pets.zip").write_bytes(data)
    assert_the_same(prepare(tmp_path / "data", tmp_path / "pets.zip"), plain)


def test_the_archive_in_the_data_root_is_found_and_found_again(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    stored(folder(tmp_path / "pets", SPLITS), tmp_path / "data" / "photos")
    done = cli("prepare", "--json")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert (first["source"], first["name"], first["splits"]["train"]["images"]) == ("archive", "photos", 12)
    tarred(tmp_path / "pets", tmp_path / "data" / "others")  # now there are two: it stays with the one it has
    again = json.loads(cli("prepare", "--json").stdout)
    assert (again["name"], again["splits"]) == ("photos", first["splits"])
    trained = cli("train", "--max-steps", "1", "--batch-size", "4", "--arch", "resnet18", "--device", "cpu")
    assert trained.returncode == 0, trained.stderr
    (tmp_path / "data/photos.zip").unlink()
    gone = cli("verify")
    assert gone.returncode == 3
    assert "no longer has photos.zip" in gone.stderr


def test_it_can_be_packed_and_extracted(tmp_path: Path) -> None:
    from resnetctl.data.copies.from_source import Copying

    source = folder(tmp_path / "pets", SPLITS)
    plain = prepare(tmp_path / "plain", source).dataset
    archive = deflated(source, tmp_path / "pets")
    extracted = prepare(tmp_path / "data", archive, copying=Copying(extract=True)).dataset
    assert extracted.fingerprints == plain.fingerprints
    assert (tmp_path / "data/train/Emu/3.jpg").read_bytes() == (source / "train/Emu/3.jpg").read_bytes()


def empty(path: Path) -> None:
    with zipfile.ZipFile(path, "w"):
        pass


def of(*names: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, jpeg(1))

    return make


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (empty, "a.zip has no folders with images"),
        (of("1.jpg", "2.jpg"), "a.zip has no folders with images"),
        (of("cat/a.txt"), "a.zip has no folders with images"),
        (of("pets/cat/1.jpg", "pets/cat/2.jpg"), "a.zip has one class folder, cat"),
        (of("train/cat/1.jpg", "val/1.jpg"), "val/ in a.zip has no class folders"),
        (of("train/cat/1.jpg", "val/dog/1.jpg"), "val/ has class folders that are missing from train/: dog"),
        (of("train/cat/1.jpg", "train/emu/x.txt"), "train has no images of emu"),
        (of("train/cat/1.jpg", "val/cat/1.jpg", "valid/cat/1.jpg"), "a.zip has both val/ and valid/"),
        (lambda path: path.write_bytes(b"no zip"), "a.zip is damaged"),
    ],
)
def test_what_is_no_archive_of_class_folders(cli: Cli, tmp_path: Path, make: Callable[[Path], None], text: str) -> None:
    make(tmp_path / "a.zip")
    done = cli("prepare", "a.zip")
    assert (done.returncode, done.stdout) == (3, "")
    assert text in done.stderr
    assert "hint:" in done.stderr


def test_a_cut_tar_is_damaged(tmp_path: Path) -> None:
    archive = tarred(folder(tmp_path / "pets", SPLITS), tmp_path / "pets")
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"pets\.tar is damaged"):
        prepare(tmp_path / "data", archive)


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("train/cat/1.jpg")
        info.size = len(jpeg(1))
        archive.addfile(info, io.BytesIO(jpeg(1)))
        link = tarfile.TarInfo("train/cat/2.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(DataError, match="holds a symbolic link"):
        prepare(tmp_path / "data", tmp_path / "a.tar")


def test_a_name_that_is_no_utf_8_in_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name in (b"caf\xe9/1.jpg", b"dog/1.jpg"):
            info = tarfile.TarInfo(os.fsdecode(name))
            info.size = len(jpeg(1))
            archive.addfile(info, io.BytesIO(jpeg(1)))
    classes = prepare(tmp_path / "data", tmp_path / "a.tar").dataset.train().info.classes
    assert classes == (os.fsdecode(b"caf\xe9"), "dog")
