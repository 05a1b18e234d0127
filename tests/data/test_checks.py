"""Counts, classes and labels of an index, without its images."""

from pathlib import Path

from resnetctl.data import imagenet
from resnetctl.data.prepare import prepare
from resnetctl.data.verify import verify
from tests.fixtures.class_folders import failed, tree, write_index
from tests.fixtures.imagenet_archives import jpeg

ANCHORS = {1: 65, 2: 970, 3: 230, 4: 809, 5: 516, 6: 57, 7: 334, 8: 415, 9: 674, 10: 332}
"""Val image number to label."""


def test_fault_16_a_stray_folder_that_became_a_class(tmp_path: Path) -> None:
    classes = (".ipynb_checkpoints", "cat", "dog")
    write_index(tmp_path, classes, {f"{c}/1.jpg": k for k, c in enumerate(classes)})
    assert "shifts the labels" in failed(verify(tmp_path, workers=0))["train classes"]


def test_fault_16_a_stray_folder_beside_the_classes_is_harmless_and_noted(tmp_path: Path) -> None:
    root = tree(tmp_path, {"train/.ipynb_checkpoints/0-checkpoint.jpg": jpeg(0)})
    report = verify(root, workers=0)
    assert report.ok
    assert "train/.ipynb_checkpoints" in report.remarks[0]


def test_fault_17_an_empty_class_is_named(tmp_path: Path) -> None:
    write_index(tmp_path, ("cat", "dog", "emu"), {"cat/1.jpg": 0, "emu/1.jpg": 2})
    assert failed(verify(tmp_path, workers=0))["train counts"] == "no images of dog"


def test_fault_17_999_classes(tmp_path: Path) -> None:
    classes = tuple(w for w in imagenet.wnids() if w != "n03126707")
    write_index(tmp_path, classes, {f"{w}/{w}_1.JPEG": k for k, w in enumerate(classes)})
    assert (
        "train lacks n03126707; train has 999 of 1,281,167 images"
        in failed(verify(tmp_path, workers=0))["train counts"]
    )


def test_what_allow_incomplete_let_pass_is_told_but_no_fault(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "cat" / "1.jpg").write_bytes(jpeg(1))
    (tmp_path / "train" / "emu").mkdir()
    prepare(tmp_path, allow_incomplete=True)
    report = verify(tmp_path, workers=0)
    assert report.ok
    assert any("allowed by --allow-incomplete: no images of emu" in check.detail for check in report.checks)


def test_unsorted_classes_and_labels_of_another_class(tmp_path: Path) -> None:
    write_index(tmp_path, ("dog", "cat"), {"dog/1.jpg": 0, "cat/1.jpg": 1})
    assert "not sorted" in failed(verify(tmp_path, workers=0))["train classes"]
    write_index(tmp_path, ("cat", "dog"), {"dog/1.jpg": 0, "cat/1.jpg": 1})
    assert (
        "2 images are not labelled with the class of their folder"
        in failed(verify(tmp_path, workers=0))["train labels"]
    )


def test_fault_20_a_wnid_in_another_wnids_folder(tmp_path: Path) -> None:
    wrong = {"train/n01440764/n01443537_7.JPEG": jpeg(1)}
    report = verify(tree(tmp_path, wrong, ("n01440764", "n01443537")), workers=0)
    assert "n01440764/n01443537_7.JPEG" in failed(report)["train labels"]


def val_by(root: Path, label_of: dict[int, int]) -> Path:
    """A tree of all classes, whose val images of known number lie where `label_of` says."""
    wnids = imagenet.wnids()
    for wnid in wnids:
        (root / "train" / wnid).mkdir(parents=True)
        (root / "train" / wnid / f"{wnid}_1.JPEG").write_bytes(TINY)
    for number, label in label_of.items():
        (root / "val" / wnids[label]).mkdir(parents=True, exist_ok=True)
        (root / "val" / wnids[label] / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(TINY)
    prepare(root, allow_incomplete=True)
    return root


TINY = jpeg(0, 2, 2)


def test_fault_18_devkit_ids_used_as_labels(tmp_path: Path) -> None:
    report = verify(val_by(tmp_path, {n: i - 1 for n, i in imagenet.ANCHOR_IDS.items()}), workers=0)
    detail = failed(report)["val label order"]
    assert "ILSVRC2012_val_00000001.JPEG has 489 instead of 65" in detail
    assert "the devkit's ILSVRC2012_IDs were used as labels" in detail
    assert "resnetctl prepare" in detail


def test_known_labels_that_are_right_or_in_another_order(tmp_path: Path) -> None:
    assert verify(val_by(tmp_path / "right", ANCHORS), workers=0).ok
    shuffled = verify(val_by(tmp_path / "wrong", {n: (7 * label) % 1000 for n, label in ANCHORS.items()}), workers=0)
    assert "10 of 10 known labels are wrong" in failed(shuffled)["val label order"]
    assert "ILSVRC2012_ID" not in failed(shuffled)["val label order"]
