"""Make `resnetctl/data/sample/{train,val}.zip` from Fashion-MNIST, byte for byte the same on every run.

    python tests/make_sample.py [ORIGIN [TARGET]]

ORIGIN holds the four `*-ubyte.gz` files; Debian's package `dataset-fashion-mnist` puts them where the default says.
The first 200 train and 50 test images of each class are taken, in the order of the original files.
"""

import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLE = Path(__file__).parent.parent / "resnetctl" / "data" / "sample"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
# The first letters order the folders as Fashion-MNIST numbers its labels.
FOLDERS = (
    "0-t-shirt-top",
    "1-trouser",
    "2-pullover",
    "3-dress",
    "4-coat",
    "5-sandal",
    "6-shirt",
    "7-sneaker",
    "8-bag",
    "9-ankle-boot",
)
SPLITS = (("train", "train", 200), ("val", "t10k", 50))


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file of bytes: a magic number of 4 bytes (the last is the rank), big-endian sizes, data."""
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, optimize=True)
    return file.getvalue()


def main(origin: Path = DEBIAN, target: Path = SAMPLE) -> None:
    for split, prefix, per_class in SPLITS:
        images = read_idx(origin / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(origin / f"{prefix}-labels-idx1-ubyte.gz")
        with zipfile.ZipFile(target / f"{split}.zip", "w", zipfile.ZIP_STORED) as archive:
            for label, folder in enumerate(FOLDERS):
                for i in np.flatnonzero(labels == label)[:per_class]:
                    entry = zipfile.ZipInfo(f"{folder}/{prefix}-{i:05d}.jpg", (2017, 8, 25, 0, 0, 0))
                    archive.writestr(entry, jpeg(images[i]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
