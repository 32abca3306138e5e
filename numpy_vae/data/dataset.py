"""A data set: training and test images, one flattened image per row, with or without labels.

Axes: N images of a data set, D pixels of an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..checks import check_whole
from ..seeds import split_order
from .mapped import Images, chunks, subset

Shape: TypeAlias = tuple[int, ...]  # (height, width), or (height, width, 3) in colour


@dataclass(frozen=True)
class Dataset:
    """Images, or rows of a table, split into a training and a test set."""

    name: str  # for titles and result files
    train: Images  # (N, D), uint8, which means value / 255, or floats
    test: Images
    train_labels: NDArray[Any] | None = None  # (N,), integers
    test_labels: NDArray[Any] | None = None
    train_factors: NDArray[Any] | None = None  # (N,), structured: what each image was drawn from,
    test_factors: NDArray[Any] | None = None  # if known (`load_digits`)
    image_shape: Shape | None = None  # if the rows are images; colour values are adjacent
    validation: Images | None = None  # from the file, or by `split_validation`
    validation_labels: NDArray[Any] | None = None
    set_aside: int = 0  # how many of them `split_validation` took from `train`
    source: str | None = None  # loads it again: "digits", "mnist" or the absolute path of a file
    data_dir: str | None = None  # absolute, the argument of `load_mnist` if given
    columns: tuple[str, ...] = ()  # names of the columns of a table, if known
    label_names: tuple[str, ...] = ()  # of text labels, which are indices of these
    reading: Mapping[str, Any] = field(default_factory=dict)  # options of `load_array`, as used
    summary: str = ""  # one line: what was read, and how it was understood


def split_validation(data: Dataset, size: int) -> Dataset:
    """Set `size` of the training images aside for validation; the test set is not touched.

    The choice is the same for every seed, and the other images keep their order. Data that have a
    validation set are returned as they are, if `size` is 0 or its size. ValueError if no training
    image is left.
    """
    if data.validation is not None:
        if size not in (0, len(data.validation)):
            raise ValueError(
                f"validation is {size}, must be {len(data.validation)}: the data already have a"
                " validation set"
            )
        return data
    check_whole("the number of validation images", size, 0, len(data.train) - 1)
    if size == 0:
        return data
    kept = np.ones(len(data.train), bool)
    kept[split_order(len(kept))[:size]] = False
    labels, factors = data.train_labels, data.train_factors
    return replace(
        data, train=subset(data.train, kept), validation=subset(data.train, ~kept), set_aside=size,
        train_labels=None if labels is None else labels[kept],
        validation_labels=None if labels is None else labels[~kept],
        train_factors=None if factors is None else factors[kept],
    )  # fmt: skip


def fingerprint(data: Dataset) -> str:
    """Return a SHA-256 of the training and the test images, by which a run recognises its data.

    It covers pixels, order, dtype and split, before binarisation. So a run is resumed on its own
    images, training images are never used as held-out ones, and the file may be moved, renamed or
    converted (`.npy` to `.npz`).
    """
    import hashlib

    digest = hashlib.sha256()
    for x in data.train, data.test:
        digest.update(f"{x.dtype.str} {x.shape} ".encode())
        for rows in chunks(x):
            digest.update(np.ascontiguousarray(x[rows]).data)
    return digest.hexdigest()


def guess_image_shape(d: int) -> tuple[int, int]:
    """Return (height, width), height <= width, of the most square image of d pixels."""
    height = next(h for h in range(math.isqrt(d), 0, -1) if d % h == 0)
    return height, d // height


def column_names(names: Sequence[str], d: int) -> list[str]:
    """Return the names of D columns, shortened; numbers from 1 where they are not known."""
    found = list(names) if len(names) == d else [f"column {i + 1}" for i in range(d)]
    return [name if len(name) <= 24 else f"{name[:23]}…" for name in found]


def value_range(x: Images) -> tuple[float, float]:
    """Return the values of black and white in pictures of x: 0 and 1 if x is within them."""
    if x.dtype == np.uint8:
        return 0.0, 1.0
    low, high = float(x.min()), float(x.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1
