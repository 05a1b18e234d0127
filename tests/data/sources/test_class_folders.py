"""Which folders and files count."""

import pytest

from resnetctl.data.sources.class_folders import check_classes, is_hidden, is_image, skipped_notes, split_folders
from resnetctl.errors import DataError


@pytest.mark.parametrize(
    ("name", "hidden", "image"),
    [
        ("1.jpg", False, True),
        ("1.WebP", False, True),
        ("1.gif", False, False),
        ("._1.jpg", True, False),
        (".DS_Store", True, False),
        ("__MACOSX", True, False),
    ],
)
def test_names(name: str, hidden: bool, image: bool) -> None:
    assert (is_hidden(name), is_image(name)) == (hidden, image)


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_names_of_val(val: str) -> None:
    assert split_folders(["train", val, "other"], "x", []) == {"train": "train", "val": val}


def test_test_is_noted() -> None:
    notes: list[str] = []
    assert split_folders(["train", "test"], "x", notes) == {"train": "train"}
    assert notes == ["test/ is ignored: train/ is trained on, val/ is evaluated on"]


def test_classes_are_sorted_as_python_sorts_strings() -> None:
    assert check_classes({"train": ["b", "B", "10", "9"]}, {"train": "train"}, "x") == ("10", "9", "B", "b")


@pytest.mark.parametrize(
    ("train", "val", "match"),
    [
        ([], ["a"], "train/ in x has no class folders"),
        (["a"], [], "val/ in x has no class folders"),
        (["a"], ["a", "b"], "val/ has class folders that are missing from train/: b"),
    ],
)
def test_splits_that_do_not_fit(train: list[str], val: list[str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        check_classes({"train": train, "val": val}, {"train": "train", "val": "val"}, "x")


def test_what_is_skipped() -> None:
    assert skipped_notes([]) == []
    assert skipped_notes(["cat/a.txt", "cat/._1.jpg", "cat/b.gif"]) == [
        "1 hidden file skipped: cat/._1.jpg",
        "2 files skipped: not a supported image type: cat/a.txt, cat/b.gif",
    ]
