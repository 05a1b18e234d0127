"""Trees of class folders made of an archive."""

from pathlib import Path

import pytest

from resnetctl.data.copies.from_source import Copying
from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError
from tests.fixtures.holdings import Holding, contents
from tests.fixtures.imagenet_archives import jpeg


def test_the_extracted_tree_is_what_torchvision_reads(official_root: Path, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    copying = Copying(extract=True, workers=2)
    done = prepare(tmp_path / "data", official_root, allow_incomplete=True, copying=copying)
    assert done.dataset.source == "folder"
    assert contents(done.dataset) == Holding().contents()
    for split in ("train", "val"):
        index = done.dataset.open(split)
        folder = ImageFolder(str(tmp_path / "data" / split), allow_empty=True)
        theirs = {str(Path(p).relative_to(tmp_path / "data" / split)): label for p, label in folder.samples}
        assert theirs == {r.name: r.label for r in index}
    again = prepare(tmp_path / "data", allow_incomplete=True)
    assert again.dataset.fingerprints == done.dataset.fingerprints


def extract(data: Path, source: Path) -> None:
    prepare(data, source, allow_incomplete=True, copying=Copying(extract=True))


def test_nothing_is_written_through_a_link(official_root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="not a folder that resnetctl made"):
        extract(tmp_path / "data", official_root)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_file_that_is_there_is_not_replaced(official_root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "data/train/n01440764/n01440764_18.JPEG"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match="already exists"):
        extract(tmp_path / "data", official_root)
    assert mine.read_bytes() == b"mine"


def test_class_folders_of_something_else_are_told(official_root: Path, tmp_path: Path) -> None:
    (tmp_path / "data/train/zebra").mkdir(parents=True)
    (tmp_path / "data/train/zebra/1.jpg").write_bytes(jpeg(1))
    with pytest.raises(DataError, match="not from this source"):
        extract(tmp_path / "data", official_root)
