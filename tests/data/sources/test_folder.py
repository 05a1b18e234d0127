"""Class folders, against torchvision's ImageFolder."""

import os
import shutil
from pathlib import Path

import pytest

from resnetctl.data import imagenet
from resnetctl.data.prepare import prepare
from resnetctl.data.sources.class_folders import SUFFIXES
from resnetctl.data.verify import verify
from resnetctl.errors import DataError
from tests.fixtures.imagenet_archives import jpeg


def tree(root: Path, classes: tuple[str, ...] = ("cat", "dog"), train: int = 3, val: int = 2) -> Path:
    seed = 0
    for split, count in (("train", train), ("val", val)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                (root / split / name / f"{n}.jpg").write_bytes(jpeg(seed))
                seed += 1
    return root


def test_classes_files_and_labels_of_image_folder(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert SUFFIXES == IMG_EXTENSIONS
    root = tree(tmp_path / "in", ("b", "B", "a b", "é", "Z", "10", "9", "[bold]"))
    deep = root / "train" / "Z" / "one" / "two"
    deep.mkdir(parents=True)
    for n, suffix in enumerate((".PNG", ".Jpeg", ".webp", ".ppm", ".txt", ".tiff", ".gif")):
        (deep / f"f{suffix}").write_bytes(jpeg(n))
    (root / "train" / "elsewhere").symlink_to(root / "train" / "b")
    (root / "val" / "elsewhere").symlink_to(root / "val" / "b")
    dataset = prepare(tmp_path / "data", root).dataset
    for split in ("train", "val"):
        ours, theirs = dataset.open(split), ImageFolder(str(root / split))
        assert list(ours.info.classes) == theirs.classes
        expected = {os.path.relpath(path, root / split): label for path, label in theirs.samples}
        assert {ours.name(i): int(ours.label[i]) for i in range(len(ours))} == expected
        for i in range(len(ours)):
            assert ours.read(i) == (root / split / ours.name(i)).read_bytes()


def test_fault_16_hidden_folders_and_files_never_count(tmp_path: Path) -> None:
    root = tree(tmp_path / "in")
    for split in ("train", "val"):
        for folder in (root / split / ".ipynb_checkpoints", root / split / "cat" / ".ipynb_checkpoints"):
            folder.mkdir()
            (folder / "0-checkpoint.jpg").write_bytes(jpeg(1))
        (root / split / "cat" / "._0.jpg").write_bytes(b"Mac OS X")
        (root / split / "cat" / "Thumbs.db").write_bytes(b"")
    done = prepare(tmp_path / "data", root)
    index = done.dataset.train()
    assert index.info.classes == ("cat", "dog")
    assert [index.name(i) for i in range(len(index))] == [f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(3)]
    assert any("train/.ipynb_checkpoints" in text for text in done.notices)
    assert "1 hidden file skipped: train/cat/._0.jpg" in done.notices
    assert "1 file skipped: not a supported image type: train/cat/Thumbs.db" in done.notices
    assert index.info.notes


def test_fault_17_an_empty_class_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "in")
    (root / "train" / "emu").mkdir()
    with pytest.raises(DataError, match="train has no images of emu; val has no images of emu"):
        prepare(tmp_path / "data", root)
    (root / "train" / "emu" / "a.jpg").write_bytes(jpeg(0))
    with pytest.raises(DataError, match="is incomplete: val has no images of emu"):
        prepare(tmp_path / "data", root)
    assert prepare(tmp_path / "data", root, allow_incomplete=True).dataset.incomplete == "val has no images of emu"


def test_fault_17_999_classes_of_imagenet(tmp_path: Path) -> None:
    for wnid in imagenet.wnids():
        if wnid != "n02012849":
            (tmp_path / "train" / wnid).mkdir(parents=True)
            (tmp_path / "train" / wnid / f"{wnid}_1.JPEG").write_bytes(b"")
    with pytest.raises(DataError, match=r"train lacks n02012849; train has 999 of 1,281,167 images"):
        prepare(tmp_path)
    (tmp_path / "train" / "n02012849").mkdir()
    with pytest.raises(DataError, match=r"n02012849 \(0\)|1,281,167"):
        prepare(tmp_path)


def test_a_part_of_imagenet_is_a_data_set_of_its_own(tmp_path: Path) -> None:
    root = tree(tmp_path / "imagenette", ("n01440764", "n02102040"))
    done = prepare(tmp_path / "data", root)
    assert done.dataset.name == "imagenette"
    assert done.dataset.train().info.class_names == ("tench", "English springer")


def test_no_val_is_said(tmp_path: Path) -> None:
    root = tree(tmp_path / "in")
    (root / "val").rename(root / "later")
    done = prepare(tmp_path / "data", root)
    assert (done.dataset.val_images, len(done.splits)) == (0, 1)
    assert any("no val split" in text for text in done.notices)
    with pytest.raises(DataError, match="no val split"):
        done.dataset.val()


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_val(tmp_path: Path, name: str) -> None:
    plain = prepare(tmp_path / "plain", tree(tmp_path / "in")).dataset
    (tmp_path / "in/val").rename(tmp_path / "in" / name)
    done = prepare(tmp_path / "data", tmp_path / "in")
    assert done.dataset.fingerprints == plain.fingerprints
    assert done.dataset.val().container_name(0) == f"{name}/cat/0.jpg"
    assert verify(tmp_path / "data", workers=0).ok
    (tmp_path / "in" / name / "cat/new.jpg").write_bytes(jpeg(99))
    assert f"{name}/cat/new.jpg" in str([c.detail for c in verify(tmp_path / "data", workers=0).checks if not c.ok])


def test_val_under_two_names(tmp_path: Path) -> None:
    root = tree(tmp_path / "in")
    shutil.copytree(root / "val", root / "validation")
    with pytest.raises(DataError, match="has both val/ and validation/"):
        prepare(tmp_path / "data", root)


def test_test_is_left_alone_and_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "in")
    (root / "test").mkdir()
    (root / "test/1.jpg").write_bytes(jpeg(1))
    done = prepare(tmp_path / "data", root)
    assert (done.dataset.train_images, done.dataset.val_images) == (6, 4)
    assert "test/ is ignored: train/ is trained on, val/ is evaluated on" in done.notices


def test_valid_without_class_folders(tmp_path: Path) -> None:
    root = tree(tmp_path / "in")
    shutil.rmtree(root / "val")
    (root / "valid").mkdir()
    (root / "valid/1.jpg").write_bytes(jpeg(1))
    with pytest.raises(DataError, match=r"valid/ in .* has no class folders"):
        prepare(tmp_path / "data", root)


def test_what_macos_leaves_in_a_folder_is_no_class(tmp_path: Path) -> None:
    for name in ("cat", "dog", "__MACOSX"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.jpg").write_bytes(jpeg(1))
    assert prepare(tmp_path / "data", tmp_path / "in").dataset.train().info.classes == ("cat", "dog")


def test_a_val_class_that_train_has_not(tmp_path: Path) -> None:
    root = tree(tmp_path / "in")
    (root / "val" / "emu").mkdir()
    with pytest.raises(DataError, match="val/ has class folders that are missing from train/: emu"):
        prepare(tmp_path / "data", root, allow_incomplete=True)


def test_names_that_are_no_utf_8_survive(tmp_path: Path) -> None:
    root = tree(tmp_path / "in")
    raw = os.fsencode(root / "train" / "cat") + b"/caf\xe9.jpg"
    try:
        with open(raw, "wb") as file:
            file.write(jpeg(5))
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    os.rename(os.fsencode(root / "train" / "dog"), os.fsencode(root / "train") + b"/d\xf6g")  # noqa: PTH104
    os.rename(os.fsencode(root / "val" / "dog"), os.fsencode(root / "val") + b"/d\xf6g")  # noqa: PTH104
    index = prepare(tmp_path / "data", root).dataset.train()
    names = [index.name(i) for i in range(len(index))]
    assert os.fsdecode(b"cat/caf\xe9.jpg") in names
    assert index.info.classes[1] == os.fsdecode(b"d\xf6g")
    assert index.read(names.index(os.fsdecode(b"cat/caf\xe9.jpg"))) == jpeg(5)


def test_a_link_that_leads_back_up_ends(tmp_path: Path) -> None:
    root = tree(tmp_path / "in")
    (root / "train" / "cat" / "loop").symlink_to(root / "train" / "cat")
    assert prepare(tmp_path / "data", root).dataset.train_images == 6


def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "in")
    (root / "train" / "cat" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"cat/gone.jpg: No such file"):
        prepare(tmp_path / "data", root)


def test_class_folders_without_train_are_explained(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
    with pytest.raises(DataError, match="2 folders, but neither train/"):
        prepare(tmp_path / "data", tmp_path / "pets")
    with pytest.raises(DataError, match="neither a train/ folder"):
        prepare(tmp_path / "data", tmp_path / "pets", "folder")
