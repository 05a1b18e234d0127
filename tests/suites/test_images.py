"""Which label an image of a suite gets, and which outputs compete: folders worked out by hand."""

import numpy as np
import pytest

from resnetctl.data import imagenet
from resnetctl.errors import DataError
from resnetctl.suites.images import open_images
from tests.fixtures.imagenet_archives import jpeg

WNIDS = imagenet.wnids()


def folders(root, names, each=1):
    for n, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(each):
            (root / name / f"{i}.jpeg").write_bytes(jpeg(n + i, 24, 24))
    return root


def labels(suite):
    """Folder and label of each image."""
    return sorted((r.name.split("/")[0], r.label) for r in suite.index)


def test_the_label_in_imagenetv2_is_the_number_and_not_the_place_among_strings(tmp_path):
    names = ["0", "1", "2", "9", "10", "11", "100", "999"]
    suite = open_images("v2", folders(tmp_path / "v2", names), WNIDS, tmp_path)
    assert labels(suite) == sorted((name, int(name)) for name in names)
    # what ImageFolder makes of it: "10" would be label 2
    assert sorted(names).index("10") == 2
    assert suite.outputs is None
    assert len(suite.index.info.classes) == 1000


def test_imagenetv2_with_wnids(tmp_path):
    suite = open_images("v2", folders(tmp_path / "v2", [WNIDS[7], WNIDS[10], WNIDS[100]]), WNIDS, tmp_path)
    assert [label for _, label in labels(suite)] == [7, 10, 100]


def test_padded_numbers_are_numbers(tmp_path):
    suite = open_images("v2", folders(tmp_path / "v2", ["000", "010", "100"]), WNIDS, tmp_path)
    assert labels(suite) == [("000", 0), ("010", 10), ("100", 100)]


def test_the_same_number_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="two folders for one class"):
        open_images("v2", folders(tmp_path / "v2", ["7", "007"]), WNIDS, tmp_path)


@pytest.mark.parametrize("names", [["0", "1", WNIDS[2]], ["0", "1", "1000"], ["cats", "dogs"]])
def test_folders_that_are_no_classes_are_refused(names, tmp_path):
    with pytest.raises(DataError, match="not ImageNet classes") as caught:
        open_images("v2", folders(tmp_path / "v2", names), WNIDS, tmp_path)
    assert "0 to 999" in caught.value.hint


@pytest.mark.parametrize("suite", ["a", "r"])
def test_only_the_outputs_of_the_folders_compete(suite, tmp_path):
    chosen = [WNIDS[i] for i in range(3, 1000, 5)]
    found = open_images(suite, folders(tmp_path / "set", chosen), WNIDS, tmp_path)
    assert found.outputs == tuple(range(3, 1000, 5))
    assert len(found.outputs) == 200
    assert labels(found) == [(wnid, label) for label, wnid in enumerate(chosen)]
    assert found.index.info.classes == tuple(chosen)


def test_numbers_are_no_classes_of_imagenet_a(tmp_path):
    with pytest.raises(DataError, match="not ImageNet classes"):
        open_images("a", folders(tmp_path / "a", ["0", "1"]), WNIDS, tmp_path)


def test_another_number_of_images_than_published_is_said(tmp_path):
    (note,) = open_images("a", folders(tmp_path / "a", [WNIDS[1]], each=2), WNIDS, tmp_path).caveats
    assert "2 images in 1 folder" in note
    assert "7,500 in 200" in note


def test_a_model_of_ten_classes_is_measured_on_those(tmp_path):
    known = WNIDS[20:10:-1]
    names = [WNIDS[3], WNIDS[12], WNIDS[20], WNIDS[500]]
    suite = open_images("r", folders(tmp_path / "r", names, each=3), known, tmp_path)
    assert labels(suite) == [(WNIDS[12], 0)] * 3 + [(WNIDS[20], 1)] * 3
    assert suite.outputs == (8, 0)
    assert any("6 of 12 images left out" in note for note in suite.caveats)


def test_imagenetv2_for_a_model_of_ten_classes_has_their_labels(tmp_path):
    suite = open_images("v2", folders(tmp_path / "v2", ["3", "12", "20"]), WNIDS[20:10:-1], tmp_path)
    assert labels(suite) == [("12", 8), ("20", 0)]
    assert suite.outputs is None
    assert any("1 of 3 images left out" in note for note in suite.caveats)


def test_a_model_that_knows_no_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="knows none of the 1 classes") as caught:
        open_images("a", folders(tmp_path / "a", [WNIDS[1]]), ("cat", "dog"), tmp_path)
    assert "imagenet1k-v2" in caught.value.hint


def test_the_folder_that_an_archive_unpacks_to_is_found(tmp_path):
    folders(tmp_path / "here" / "imagenet-a", [WNIDS[1], WNIDS[2]])
    (tmp_path / "here" / "imagenet-a" / "README.txt").write_text("read me")
    suite = open_images("a", tmp_path / "here", WNIDS, tmp_path)
    assert [name for name, _ in labels(suite)] == [WNIDS[1], WNIDS[2]]
    assert suite.index.read(0)[:2] == b"\xff\xd8"


def test_the_pictures_are_read_from_where_they_lie(tmp_path, monkeypatch):
    folders(tmp_path / "set", ["5", "40"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    suite = open_images("v2", (tmp_path / "set").relative_to(tmp_path), WNIDS, tmp_path / "scratch")
    assert np.asarray(suite.index.label).tolist() == [5, 40]
    assert suite.index.read(1) == (tmp_path / "set" / "40" / "0.jpeg").read_bytes()


@pytest.mark.parametrize("make", [lambda p: p.write_bytes(b"tar"), lambda p: p.mkdir(), lambda p: None])
def test_what_is_no_folder_of_classes_is_refused(make, tmp_path):
    make(tmp_path / "imagenet-a.tar")
    with pytest.raises(DataError) as caught:
        open_images("a", tmp_path / "imagenet-a.tar", WNIDS, tmp_path)
    assert caught.value.hint
