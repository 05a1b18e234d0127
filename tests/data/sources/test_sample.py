import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetctl.data.prepare import prepare
from tests import make_sample


def test_every_image_is_the_one_of_fashion_mnist(tmp_path: Path) -> None:
    if not make_sample.DEBIAN.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    dataset = prepare(tmp_path, kind="sample").dataset
    for split, prefix, per_class in make_sample.SPLITS:
        images = make_sample.read_idx(make_sample.DEBIAN / f"{prefix}-images-idx3-ubyte.gz")
        labels = make_sample.read_idx(make_sample.DEBIAN / f"{prefix}-labels-idx1-ubyte.gz")
        index = dataset.open(split)
        assert np.bincount(index.label).tolist() == [per_class] * 10
        for i in range(0, len(index), 7):
            number = int(index.name(i)[-9:-4])
            assert labels[number] == index.label[i]
            pixels = np.asarray(Image.open(io.BytesIO(index.read(i))))
            assert np.abs(pixels.astype(int) - images[number]).mean() < 3


def test_the_script_makes_the_bundled_files_again(tmp_path: Path) -> None:
    if not make_sample.DEBIAN.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    make_sample.main(target=tmp_path)
    for name in ("train.zip", "val.zip"):
        made, bundled = (tmp_path / name).read_bytes(), (make_sample.SAMPLE / name).read_bytes()
        if made != bundled and len(made) != len(bundled):
            pytest.skip("another JPEG encoder")
        assert made == bundled
