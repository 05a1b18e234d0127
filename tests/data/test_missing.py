"""Images that are gone as a whole, seen from outside and by the function that training and evaluation ask."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from resnetctl.data.dataset import Dataset, load_dataset
from resnetctl.data.missing import missing_source
from resnetctl.data.prepare import prepare
from tests.conftest import Cli
from tests.fixtures.imagenet_archives import VAL, jpeg, official

WNIDS = ("n01440764", "n01443537")


def folders(root: Path) -> Path:
    for split in ("train", "val"):
        for k, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for n in range(4):
                (root / split / name / f"{n}.jpg").write_bytes(jpeg(10 * k + n, 40, 50))
    return root


def archives(root: Path) -> Path:
    return official(WNIDS).write(root)


def prepared(make: Callable[[Path], Path], tmp_path: Path) -> Dataset:
    return prepare(tmp_path / "data", make(tmp_path / "in")).dataset


@pytest.mark.parametrize("make", [folders, archives])
def test_all_there_is_no_error(make: Callable[[Path], Path], tmp_path: Path) -> None:
    dataset = prepared(make, tmp_path)
    assert missing_source(dataset.train()) is None
    assert missing_source(dataset.val()) is None


@pytest.mark.parametrize("make", [folders, archives])
def test_a_folder_that_was_moved(make: Callable[[Path], Path], tmp_path: Path) -> None:
    dataset = prepared(make, tmp_path)
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    error = missing_source(dataset.val())
    assert error is not None
    assert error.exit_code == 3
    assert error.message == f"the val images are gone: {tmp_path / 'in'} no longer exists"
    assert f"resnetctl prepare SOURCE --data {tmp_path / 'data'}" in str(error.hint)
    again = prepare(tmp_path / "data", tmp_path / "elsewhere").dataset
    assert missing_source(again.val()) is None
    assert again.fingerprints == dataset.fingerprints


def test_one_archive_of_two(tmp_path: Path) -> None:
    dataset = prepared(archives, tmp_path)
    (tmp_path / "in" / VAL).unlink()
    error = missing_source(dataset.val())
    assert error is not None
    assert error.message == f"the val images are gone: {tmp_path / 'in'} no longer has {VAL}"
    assert missing_source(dataset.train()) is None


def test_one_class_folder(tmp_path: Path) -> None:
    dataset = prepared(folders, tmp_path)
    shutil.rmtree(tmp_path / "in/train/dog")
    error = missing_source(dataset.train())
    assert error is not None
    assert "no longer has train/dog" in error.message


def test_folders_that_were_emptied(tmp_path: Path) -> None:
    dataset = prepared(folders, tmp_path)
    for path in (tmp_path / "in/val").rglob("*.jpg"):
        path.unlink()
    error = missing_source(dataset.val())
    assert error is not None
    assert "no longer has val/cat/0.jpg, val/cat/1.jpg, val/cat/2.jpg and 5 more" in error.message


def test_a_single_image_is_another_matter(tmp_path: Path) -> None:
    dataset = prepared(folders, tmp_path)
    (tmp_path / "in/val/cat/0.jpg").unlink()
    assert missing_source(dataset.val()) is None


@pytest.mark.parametrize("command", [("verify", "--workers", "0"), ("verify", "--sample", "3"), ("prepare",)])
def test_commands_name_what_is_gone_and_change_nothing(cli: Cli, tmp_path: Path, command: tuple[str, ...]) -> None:
    folders(tmp_path / "pets")
    assert cli("prepare", "pets").returncode == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "data").iterdir()}
    (tmp_path / "pets").rename(tmp_path / "moved")
    done = cli(*command)
    assert (done.returncode, done.stdout) == (3, "")
    assert str(tmp_path / "pets") in done.stderr
    assert "gone" in done.stderr
    assert "resnetctl prepare SOURCE" in done.stderr
    assert "permissions" not in done.stderr
    assert {p.name: p.read_bytes() for p in (tmp_path / "data").iterdir()} == before
    assert load_dataset(tmp_path / "data").quarantined == {}
    assert cli("prepare", "moved").returncode == 0
    assert cli("verify", "--workers", "0").returncode == 0
