import os

import numpy as np
import pytest
import torch

from resnetctl.data.archives import MAX_SAMPLE_BYTES
from resnetctl.data.batches.eval import EvalBatches, EvalView
from resnetctl.data.batches.files import FileBatches, FileView, read_upright
from resnetctl.data.batches.loader import load
from resnetctl.data.images.decode import centre, decode
from resnetctl.data.index import Index
from resnetctl.errors import DataError
from resnetctl.recipe import DataRecipe
from tests.fixtures.imagenet_archives import jpeg
from tests.fixtures.small_index import pictures, write_index

LOOK = {"data": DataRecipe(val_resize=36, val_size=32)}


@pytest.mark.parametrize("workers", [0, 2])
def test_files_look_as_in_evaluation(workers, tmp_path):
    path = write_index(tmp_path, pictures(3, 5), split="val")
    files = [str(tmp_path / "val" / r.name) for r in Index(path)]
    ours = FileBatches(FileView(files=files, batch=4, **LOOK))
    theirs = EvalBatches(EvalView(index=path, batch=4, **LOOK))
    found = list(load(ours, ours.items(), workers=workers, pin=False))
    expected = list(load(theirs, theirs.items(), workers=0, pin=False))
    assert [len(b.labels) for b in found] == [4, 4, 4, 3]
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.images, b.images)


def test_what_cannot_be_read_is_marked(tmp_path):
    (tmp_path / "good.jpg").write_bytes(jpeg(1))
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    names = ["bad.jpg", "good.jpg", "empty.jpg", "folder.jpg", "gone.jpg"]
    batch = FileBatches(FileView(files=[str(tmp_path / n) for n in names], batch=8, **LOOK))[0]
    assert batch.labels.tolist() == [-1, 0, -1, -1, -1]
    assert batch.unreadable.tolist() == [0, 2, 3, 4]
    assert torch.equal(batch.images[1], centre(decode(jpeg(1)), 36, 32, "bilinear"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.mkdir(), "not a file|directory"),
        (lambda p: os.mkfifo(p), "not a file"),
        (lambda p: None, "No such file"),
        (lambda p: (p.touch(), os.truncate(p, MAX_SAMPLE_BYTES + 1)), "which no photograph has"),
    ],
    ids=["folder", "pipe", "gone", "huge"],
)
def test_the_reason_is_told(make, words, tmp_path):
    make(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=words):
        read_upright(tmp_path / "a.jpg")


def test_a_path_that_cannot_be_one():
    with pytest.raises(DataError, match="cannot be read"):
        read_upright("a\0b")


def test_an_empty_list_has_no_batches():
    assert list(FileBatches(FileView(files=[], batch=4, **LOOK)).items()) == []
    assert np.asarray(FileBatches(FileView(files=["x"] * 9, batch=4, **LOOK)).items()).tolist() == [0, 1, 2]
