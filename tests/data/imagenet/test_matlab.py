import contextlib
import io
import random

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from resnetctl.data.imagenet.matlab import read_struct
from tests.fixtures.imagenet_archives import FIELDS, meta_mat

LEAVES = [(i + 1, f"n{i * 37:08d}", f"wörd {i}, other {i}", 700 + i) for i in range(1000)]


@pytest.mark.parametrize("compressed", [True, False])
def test_reads_synsets_as_scipy_does(compressed: bool) -> None:
    data = meta_mat(LEAVES, 860, compressed)
    reference = loadmat(io.BytesIO(data), squeeze_me=True)["synsets"]
    found = read_struct(data, "synsets")
    assert len(found) == len(reference) == 1860
    for row, expected in zip(found, reference, strict=True):
        assert tuple(row) == FIELDS
        for field in FIELDS:
            want = expected[field]
            if isinstance(want, str):
                assert row[field] == want
            else:
                np.testing.assert_array_equal(row[field], np.atleast_1d(want))


def test_other_variables_cells_and_number_types() -> None:
    inner = np.zeros((1, 2), dtype=[("a", object), ("b", object)])
    cell = np.empty((1, 2), object)
    cell[0] = ["one", np.int16([[7]])]
    inner[0, 0] = (np.uint8([[1, 2, 3]]), cell)
    inner[0, 1] = (np.float32([[0.5]]), "")
    file = io.BytesIO()
    savemat(file, {"before": np.eye(3), "s": inner, "after": "text"})
    first, second = read_struct(file.getvalue(), "s")
    assert first["a"].tolist() == [1, 2, 3]
    assert first["b"][0] == "one"
    assert first["b"][1].tolist() == [7]
    assert second["a"].tolist() == [0.5]
    with pytest.raises(ValueError, match="no struct called nothing"):
        read_struct(file.getvalue(), "nothing")


def test_a_bomb_is_refused() -> None:
    import zlib

    packed = zlib.compress(bytes(80 << 20))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    element = (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed
    with pytest.raises(ValueError, match="larger than 64 MiB"):
        read_struct(header + element, "synsets")


def test_huge_dimensions_allocate_nothing() -> None:
    data = bytearray(meta_mat(LEAVES[:3], 2, compressed=False))
    at = data.index(b"\x05\x00\x00\x00\x08\x00\x00\x00\x05\x00\x00\x00\x01")  # the dimensions, 5 × 1
    data[at + 8 : at + 16] = b"\xff\xff\xff\x7f\xff\xff\xff\x7f"
    with pytest.raises(ValueError, match="number of values does not match"):
        read_struct(bytes(data), "synsets")


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_files_raise_value_error_alone(compressed: bool) -> None:
    whole, rng = meta_mat(LEAVES[:20], 10, compressed), random.Random(2)
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.choice((0, 255, 14, 15, rng.randrange(256)))
        with contextlib.suppress(ValueError):
            read_struct(bytes(data[: rng.choice((len(data), rng.randrange(len(data))))]), "synsets")
