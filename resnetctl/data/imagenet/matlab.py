"""Reads the structs of a MATLAB 5 file, the format of the class list in ImageNet's devkit.

MathWorks, "MAT-File Format", version 5 (level 5 MAT-files). scipy reads more of it, but is a large dependency.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

MAX_BYTES = 64 << 20  # of the file, compressed and decompressed
_MAX_DEPTH = 8
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED, _UTF8 = 14, 15, 16
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)


def read_struct(data: bytes, variable: str) -> list[dict[str, Any]]:
    """The elements of the struct array `variable`, each a dict of its fields.

    A field is a str, a flat numpy array of numbers, a list (a cell array), or a list of dicts (a struct).
    Raises ValueError if the bytes are not such a file or have no such struct.
    """
    if len(data) > MAX_BYTES:
        raise ValueError("larger than 64 MiB")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or not data.startswith(b"MATLAB 5.0"):
        raise ValueError("not a MATLAB 5 file")
    for kind, body in _elements(data[128:], order):
        if kind == _COMPRESSED:
            inflate = zlib.decompressobj()
            try:
                body = inflate.decompress(body, MAX_BYTES)
            except zlib.error as error:
                raise ValueError(f"a compressed part is damaged: {error}") from error
            if not inflate.eof:
                raise ValueError("a compressed part is truncated, or larger than 64 MiB")
            kind, body = next(_elements(body, order), (0, b""))
        if kind == _MATRIX:
            name, value = _matrix(body, order, 0)
            if name == variable and isinstance(value, list):
                return value
    raise ValueError(f"no struct called {variable}")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of each data element; elements of up to four bytes may have a short tag."""
    pos = 0
    while pos + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, pos)
        if kind >> 16:  # short: size and type in one word, the data in the other
            kind, size, begin, after = kind & 0xFFFF, kind >> 16, pos + 4, pos + 8
            if size > 4:
                raise ValueError("a short element longer than four bytes")
        else:
            begin = pos + 8
            after = begin + size + (0 if kind == _COMPRESSED else -size % 8)
        if begin + size > len(data):
            raise ValueError("the file is truncated")
        yield kind, data[begin : begin + size]
        pos = after


def _matrix(body: bytes, order: str, depth: int) -> tuple[str, Any]:
    """Name and value of an array element: flags, dimensions, name, then the parts of its class."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    if not body:  # an empty array may consist of its tag alone
        return "", np.empty(0)
    parts = list(_elements(body, order))
    if len(parts) < 3 or len(parts[0][1]) < 8:
        raise ValueError("an array without flags, dimensions and name")
    array_class = struct.unpack_from(order + "I", parts[0][1])[0] & 0xFF
    count = 1
    for n in _numbers(parts[1], order).tolist():
        count *= int(n)
    name, rest = parts[2][1].decode("latin-1"), parts[3:]
    if array_class == _STRUCT:
        return name, _struct(rest, count, order, depth)
    if array_class == _CELL:
        return name, [_matrix(_array(part), order, depth + 1)[1] for part in rest]
    if array_class == _CHAR:
        return name, _text(rest[0], order) if rest else ""
    if array_class in _NUMERIC:
        return name, _numbers(rest[0], order) if rest else np.empty(0)
    return name, None


def _struct(parts: list[tuple[int, bytes]], count: int, order: str, depth: int) -> list[dict[str, Any]]:
    if len(parts) < 2:
        raise ValueError("a struct without fields")
    (width,) = _numbers(parts[0], order).tolist() or (0,)
    blob, values = parts[1][1], parts[2:]
    if width < 1 or len(blob) % width:
        raise ValueError("field names of an impossible length")
    fields = [blob[i : i + width].split(b"\0", 1)[0].decode("latin-1") for i in range(0, len(blob), width)]
    if len(values) != count * len(fields):
        raise ValueError("a struct whose number of values does not match its dimensions")
    found = iter(values)
    return [{field: _matrix(_array(next(found)), order, depth + 1)[1] for field in fields} for _ in range(count)]


def _array(part: tuple[int, bytes]) -> bytes:
    if part[0] != _MATRIX:
        raise ValueError("something else where an array belongs")
    return part[1]


def _numbers(part: tuple[int, bytes], order: str) -> np.ndarray:
    kind, body = part
    if kind not in _NUMBERS or len(body) % np.dtype(_NUMBERS[kind]).itemsize:
        raise ValueError("numbers of an unknown type")
    return np.frombuffer(body, np.dtype(order + _NUMBERS[kind]))


def _text(part: tuple[int, bytes], order: str) -> str:
    kind, body = part
    if kind == _UTF8:
        return body.decode("utf-8", "replace")
    return "".join(map(chr, _numbers(part, order).astype(np.int64).clip(0, 0xFFFF).tolist()))
