"""Images that stay on disk: selected rows of a file, converted when they are read.

Axes: M rows of a file, N rows of a data set, B rows that are read, D pixels.

A mapped file takes no memory, but shuffling, splitting or converting it would. `Rows` only records
this, the rows and their order in `index` and the conversion in `convert`, and applies it to the B
rows that are read. The D pixels of a row are adjacent in the file (C order), so no other rows are
read. Code that uses `Images` need not know where they are: `subset`, `gather` and `chunks` take
either kind, and passes over a whole data set go by `chunks`.

A mapped file may change. So each read checks its size and modification time before and after, and
that the values are finite. A change within the resolution of the file system's clock, or through
another mapping, goes unnoticed. A file that is truncated in the microseconds between check and read
still kills the process (SIGBUS).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Which = slice | NDArray[np.intp] | NDArray[np.bool_]
Convert = Callable[[NDArray[Any]], NDArray[Any]]

# Limits of one chunk. More would only take more memory; 2^20 pixels take about 10 MB.
ROWS_AT_ONCE, PIXELS_AT_ONCE = 500, 1 << 20


class MappedFile:
    """An array, (M, D) or (M, height, width), in a file, which must not change."""

    def __init__(self, array: np.memmap[Any, Any]) -> None:
        assert array.filename is not None
        self.array, self.path = np.asarray(array), os.fspath(array.filename)
        self.shape, self._seen = array.shape, self._look()

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, which: NDArray[np.intp] | slice) -> NDArray[Any]:
        """Return a copy of these rows; raise OSError if the file has changed."""
        self._check()
        rows: NDArray[Any] = self.array[which]
        rows = rows.copy() if isinstance(which, slice) else rows  # an index array copies
        self._check()
        return rows

    def _check(self) -> None:
        now = self._look()
        # If the file was removed or replaced, the mapping keeps the old contents.
        if now and self._seen and now[:2] == self._seen[:2] and now != self._seen:
            raise OSError(f"{self.path}: changed while it was in use, must not change")

    def _look(self) -> tuple[int, ...] | None:
        with suppress(OSError):
            found = os.stat(self.path)
            return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        return None


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of an array on disk, in place of an array of images (N, D).

    They have an array's `shape`, `ndim`, `dtype`, `len`, `min` and `max`. Indexing reads the
    selected rows and takes memory for those only. There is no arithmetic and no indexing of pixels.
    NumPy's functions treat them as an array, and read all of them.
    """

    source: MappedFile | Rows
    index: NDArray[np.intp]  # (N,) which rows of it, in which order
    dtype: np.dtype[Any]  # after conversion
    convert: Convert  # of rows of the source, (B, D) to (B, D)

    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self.index), math.prod(self.source.shape[1:])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, which: Which | int) -> NDArray[Any]:
        index = self.index[which]
        places = np.ravel(index)
        x = self.source[places].reshape(len(places), self.shape[1])
        if isinstance(self.source, MappedFile) and x.dtype.kind == "f" and not np.isfinite(x).all():
            path = self.source.path
            raise OSError(f"{path}: changed while it was in use, a value is no longer finite")
        return self.convert(x).reshape(*index.shape, self.shape[1])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("copy is False, must be True or None: rows of a file are copied")
        result = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for chunk in chunks(self):  # no memory beyond the result
            result[chunk] = self[chunk]
        return result

    def min(self) -> Any:
        """Return the smallest value, of `dtype`."""
        return self._ends[0]

    def max(self) -> Any:
        """Return the largest value, of `dtype`."""
        return self._ends[1]

    @cached_property
    def _ends(self) -> tuple[Any, Any]:
        in_order = subset(self, np.argsort(self.index))  # faster on disk than random order
        ends = [(x.min(), x.max()) for x in (in_order[rows] for rows in chunks(in_order))]
        return min(low for low, _ in ends), max(high for _, high in ends)


Images: TypeAlias = NDArray[Any] | Rows  # (N, D), uint8 or float32


def subset(images: Images, which: Which) -> Images:
    """Return some rows of images, without reading those on disk."""
    if isinstance(images, Rows):
        return replace(images, index=images.index[which])
    return images[which]


def gather(images: Images, which: NDArray[np.intp] | slice) -> NDArray[Any]:
    """Return some rows of images, in memory."""
    if isinstance(images, Rows) or isinstance(which, slice):
        return images[which]
    return images.take(which, axis=0)  # faster than images[which]


def chunks(images: Images | MappedFile) -> Iterator[slice]:
    """Return consecutive slices of rows that are small enough for memory."""
    step = min(ROWS_AT_ONCE, max(1, PIXELS_AT_ONCE // math.prod(images.shape[1:])))
    return (slice(start, start + step) for start in range(0, len(images), step))
