"""MATLAB's .mat files, versions 5 to 7: arrays of numbers and of text.

The file is a header of 128 bytes and then elements: a type, a number of bytes, the bytes. An
element may be compressed. A matrix is an element of elements: flags, dimensions, name, values [1].

SciPy reads these files too, but its reader ends the process on some damaged ones (2 of the 200 in
tests/test_malformed.py), and takes memory on a header's word. So the little that images and tables
need is read here.

References
----------
[1] MathWorks, "MAT-File Format", R2023a, chapter 1.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import open_file

VALUES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
CODES = {2: "u1", 4: "u2", 16: "u1", 17: "u2"}  # of text; 16 is UTF-8, read if it is ASCII
MATRIX, COMPRESSED, CHAR = 14, 15, 4
CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
COMPLEX, LOGICAL = 0x800, 0x200


def read_mat(
    path: str | os.PathLike[str],
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], str]:
    """Return the arrays of numbers and text in a file; words say what was left out.

    Cells, structures, sparse and complex arrays and single numbers are left out. A row vector
    (1, N) becomes (N,), and text (N, L) becomes (N,). ValueError if the file is damaged or of
    version 7.3, which is HDF5.
    """
    path = Path(path)
    with open_file(path) as stream:
        content = stream.read()
    if content.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise ValueError(
            f"{path}: MATLAB's version 7.3, must be version 5 to 7: save it with -v7, or convert it"
            " with h5py"
        )
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise ValueError(f"{path}: not a .mat file of version 5 to 7")
    arrays, left = {}, []
    try:
        for kind, data in _elements(memoryview(content)[128:], order):
            if kind == COMPRESSED:
                [(kind, data)] = _elements(_unpacked(data), order)
            if kind == MATRIX:
                name, x = _matrix(data, order)
                if x is None:
                    left.append(name)
                elif x.size > 1:
                    arrays[name] = x[0] if x.ndim == 2 and len(x) == 1 else x
    except ValueError as error:
        raise ValueError(f"{path}: not a readable .mat file ({error})") from None
    if not arrays:
        raise ValueError(f"{path}: holds no array of numbers, must hold one")
    return arrays, (), f"not read: {', '.join(left[:5])}" if left else ""


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield the type and the bytes of each element."""
    while len(data) >= 8:
        kind, size = struct.unpack(f"{order}II", data[:8])
        start, size = (
            (4, kind >> 16) if kind >> 16 else (8, size)
        )  # a small one has both in 4 bytes
        if size > (4 if start == 4 else len(data) - 8):
            raise ValueError(f"it is cut: {size} bytes promised, {len(data) - start} held")
        yield kind & 0xFFFF, data[start : start + size]
        padded = size if kind == COMPRESSED else -(-size // 8) * 8
        data = data[8 if start == 4 else 8 + padded :]


def _unpacked(data: memoryview) -> memoryview:
    import zlib

    try:
        return memoryview(zlib.decompress(data))
    except zlib.error as error:
        raise ValueError(str(error)) from None


def _matrix(data: memoryview, order: str) -> tuple[str, NDArray[Any] | None]:
    """Return the name and the values of a matrix, None if they are not read."""
    parts = []
    for part in _elements(data, order):
        parts.append(part)
        if len(parts) == 4:
            break
    if len(parts) < 3 or [kind for kind, _ in parts[:3]] != [6, 5, 1] or len(parts[0][1]) != 8:
        raise ValueError("a matrix lacks its flags, dimensions or name")
    flags = int(np.frombuffer(parts[0][1], f"{order}u4")[0])
    if len(parts[1][1]) % 4:
        raise ValueError("the dimensions of a matrix are cut")
    shape = np.frombuffer(parts[1][1], f"{order}i4").tolist()
    name, kind = bytes(parts[2][1]).decode("latin-1"), flags & 0xFF
    name = "".join(c if c.isprintable() else "?" for c in name)[:60]
    known = CODES if kind == CHAR else VALUES
    if (kind != CHAR and kind not in CLASSES) or flags & COMPLEX or len(parts) < 4:
        return name, None
    if parts[3][0] not in known:
        raise ValueError(f"the values of {name!r} are of type {parts[3][0]}, which has no meaning")
    dtype = np.dtype(order + known[parts[3][0]])
    held, rest = divmod(len(parts[3][1]), dtype.itemsize)
    if rest or min(shape, default=-1) < 0 or len(shape) > 8 or math.prod(shape) != held:
        raise ValueError(f"{name!r} has shape {tuple(shape)[:8]}, but {held} values")
    x = np.frombuffer(parts[3][1], dtype).reshape(shape, order="F")
    if kind == CHAR:
        if x.ndim != 2 or x.size == 0 or (x >= 0x80 if parts[3][0] == 16 else x > 0x10FFFF).any():
            return name, None
        return name, np.array(["".join(map(chr, row)).rstrip() for row in x.tolist()])
    with np.errstate(invalid="ignore", over="ignore"):  # MATLAB packs whole doubles as integers
        x = x.astype(np.bool_ if flags & LOGICAL else CLASSES[kind])
    return name, x
