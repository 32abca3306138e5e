"""Your own arrays: images, with or without labels, from a `.npy` or `.npz` file."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import read_arrays
from ..seeds import split_order
from .dataset import Dataset
from .mapped import Convert, Images, MappedFile, Rows, chunks, subset

MAPPED = 256 << 20  # bytes; a `.npy` file of this size or more stays on disk

Part = tuple[Images, NDArray[Any] | None]  # images and labels
Shape = tuple[int, int] | None  # height and width of an image


def load_array(path: str | os.PathLike[str]) -> Dataset:
    """Load images from a `.npy` or `.npz` file.

    A `.npz` holds `x_train` and `x_test`, with optional `y_train` and `y_test`; or `train` and
    `test`, with optional `train_labels` and `test_labels`; or one array of images of any name, with
    optional `labels`, `label` or `y`. A given split is kept. A single array is shuffled in the same
    way for every run, and its last N // 6 images (at least 1) are the test set.

    Images are (N, D) or (N, height, width). uint8 pixels mean value / 255; floats of 16, 32 or 64
    bits are kept as float32. Binary images (bool, or uint8 with no value but 0 and 1) are kept as
    uint8 0 and 255, since `to_float` maps a uint8 1 to 1 / 255, nearly black. Labels are integers
    (N,).

    A `.npy` file of `MAPPED` bytes or more in C order is checked completely, then stays on disk:
    the images are `Rows` of it, and it must not change while they are used. Results are the same to
    the bit as with an array in memory, but static binarisation refuses `Rows`.

    ValueError if the file is damaged, has another layout, or holds arrays that are not images.
    """
    parts, image_shape = read_images(path)
    if "" in parts:
        x, y = parts[""]
        if len(x) < 2:
            raise ValueError(
                f"{path}: holds 1 image, must hold 2 or more: one for training, one for testing"
            )
        train, test = np.split(split_order(len(x)), [-max(1, len(x) // 6)])
        x_train, x_test = subset(x, train), subset(x, test)
        y_train, y_test = (None, None) if y is None else (y[train], y[test])
    else:
        (x_train, y_train), (x_test, y_test) = parts.values()
    name, source = Path(path).stem, os.path.abspath(path)
    return Dataset(name, x_train, x_test, y_train, y_test, image_shape=image_shape, source=source)


def read_images(path: str | os.PathLike[str]) -> tuple[dict[str, Part], Shape]:
    """Return the contents of a file of `load_array`, in file order, and the shape of an image.

    Images (N, D) and labels (N,) are under "train" and "test" if the file holds a split, else "".
    """
    arrays = read_arrays(path, mapped=MAPPED)
    try:
        names = _names_of_parts(arrays)
        images, image_shape = _images({x or "images": arrays[x] for x, _ in names.values()})
        parts = {
            part: (rows, _labels(y or "labels", None if y is None else arrays.get(y), len(rows)))
            for rows, (part, (_, y)) in zip(images, names.items(), strict=True)
        }
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return parts, image_shape


def _names_of_parts(arrays: dict[str, NDArray[Any]]) -> dict[str, tuple[str, str | None]]:
    """Return, for each part, which array holds the images and which the labels, if any."""
    for x, x_test, y, y_test in (
        ("x_train", "x_test", "y_train", "y_test"),
        ("train", "test", "train_labels", "test_labels"),
    ):
        if {x, x_test} <= arrays.keys() <= {x, x_test, y, y_test}:
            return {"train": (x, y), "test": (x_test, y_test)}
    images = [key for key in arrays if len(arrays) == 1 or key not in ("labels", "label", "y")]
    if len(images) != 1 or len(arrays) > 2:
        raise ValueError(
            f"holds arrays named {sorted(arrays)}, must be x_train and x_test (y_train, y_test),"
            " train and test (train_labels, test_labels), or one array of images (labels)"
        )
    labels = [key for key in arrays if key != images[0]]
    return {"": (images[0], labels[0] if labels else None)}


def _images(arrays: dict[str, NDArray[Any]]) -> tuple[list[Images], Shape]:
    """Check the images of each part, by name; return them as rows, and the shape of an image.

    The parts are judged together: a blank test set is not binary if the training set is grey.
    """
    first, like = next(iter(arrays.items()))
    for what, x in arrays.items():
        if x.dtype not in (np.uint8, np.bool_) and (x.dtype.kind != "f" or x.dtype.itemsize > 8):
            raise ValueError(
                f"{what} are {x.dtype}, must be uint8, bool or float16, 32 or 64: see astype"
            )
        if x.ndim not in (2, 3) or x.size == 0:
            raise ValueError(
                f"{what} have shape {x.shape}, must be (N, D) or (N, height, width), none of them 0"
            )
        if (x.dtype, x.shape[1:]) != (like.dtype, like.shape[1:]):
            raise ValueError(
                f"{what} are {x.dtype} {x.shape[1:]}, must be {like.dtype} {like.shape[1:]}"
                f" like {first}"
            )
    # `MappedFile` notes the state of the file before the first read.
    parts = {k: MappedFile(x) if isinstance(x, np.memmap) else x for k, x in arrays.items()}
    image_shape = (like.shape[1], like.shape[2]) if like.ndim == 3 else None
    kept: type[np.uint8 | np.float32]
    convert: Convert
    if like.dtype.kind == "f":
        for what, part in parts.items():
            _check_finite(what, part)
        kept, convert = np.float32, partial(np.asarray, dtype=np.float32)
    elif like.dtype == np.bool_ or all(x[b].max() <= 1 for x in parts.values() for b in chunks(x)):
        kept, convert = np.uint8, partial(np.multiply, 255, dtype=np.uint8)
    else:
        kept, convert = np.uint8, np.asarray
    return [
        Rows(x, np.arange(len(x)), np.dtype(kept), convert)
        if isinstance(x, MappedFile)
        else convert(np.ascontiguousarray(x.reshape(len(x), -1)))
        for x in parts.values()
    ], image_shape


def _check_finite(what: str, x: NDArray[Any] | MappedFile) -> None:
    count, first = 0, ""
    for rows in chunks(x):
        part = x[rows]
        part = part.reshape(len(part), -1)
        with np.errstate(over="ignore", invalid="ignore"):
            bad = ~np.isfinite(part.astype(np.float32, copy=False))
        if bad.any() and not count:
            row = bad.any(axis=1).argmax()
            first = f"({part[row][bad[row]][0]:g}) in row {rows.start + row}"
        count += int(np.count_nonzero(bad))
    if count:
        raise ValueError(
            f"{what} hold {count} values that are not finite in float32, the first {first}"
        )


def _labels(what: str, y: NDArray[Any] | None, n: int) -> NDArray[Any] | None:
    if y is not None and (y.dtype.kind not in "iu" or y.shape != (n,)):
        raise ValueError(f"{what} are {y.dtype} {y.shape}, must be integers ({n},), one per image")
    return y
