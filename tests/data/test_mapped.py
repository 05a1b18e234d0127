"""A safetensors file of numbers, mapped; more in test_index.py, whose files these are."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from resnetctl.data.mapped import map_safetensors, pack_strings
from resnetctl.errors import DataError


def test_the_arrays_that_the_library_wrote(tmp_path: Path) -> None:
    wanted = {"a": np.arange(5, dtype=np.int32), "b": np.arange(7, dtype=np.int64) << 40, **pack_strings("s", [b"xy"])}
    save_file(wanted, tmp_path / "x", {"key": "value"})
    arrays, metadata = map_safetensors(tmp_path / "x")
    assert metadata == {"key": "value"}
    assert {k: (v.dtype, v.tolist()) for k, v in arrays.items()} == {
        k: (v.dtype, v.tolist()) for k, v in wanted.items()
    }
    with pytest.raises(ValueError, match="read-only"):
        arrays["a"][0] = 1


@pytest.mark.parametrize("array", [np.zeros((2, 2), np.int32), np.zeros(3, np.float32)], ids=["matrix", "float"])
def test_other_shapes_and_types_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    save_file({"a": array}, tmp_path / "x")
    with pytest.raises(DataError, match="not a readable index"):
        map_safetensors(tmp_path / "x")


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xff" * 8, (2).to_bytes(8, "little") + b"[]"])
def test_what_is_no_safetensors_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DataError, match="not a readable index"):
        map_safetensors(tmp_path / "x")
