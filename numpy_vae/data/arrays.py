"""Your own data: images or a table, with or without labels, from a file or an array.

Named arrays come from a reader (`readers`). Here it is decided what they are:

1. which array holds images and which labels, and of which part (`members`);
2. whether rows are images or a table. (N, H, W) are images, and so are (N, H, W, C) and
   (N, C, H, W) with C = 1 or 3. (N, D) are images if they are bytes, or if D is a square of 49 or
   more and all values are whole numbers 0 to 255 or lie in [0, 1]. Otherwise they are a table;
3. what the values mean. In images, whole numbers 0 to 255 of any type are value / 255, and only 0
   and 1 are black and white. Floats, and all values of a table, are used as they are. A scale S,
   if given, means value / S;
4. the labels (`labels`).

`Dataset.summary` says what was decided.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..seeds import split_order
from .dataset import Dataset, Shape, guess_image_shape
from .labels import code_labels
from .mapped import Images, MappedFile, Rows, chunks, subset
from .members import Member, find_members
from .readers import Contents, read_file

SMALLEST = 7  # a side; fewer than 49 values are a table
PIXEL = re.compile(r"(pixel|px)[ _.]?\d+|\d+x\d+", re.IGNORECASE)  # names of a column of pixels
FEW = 64  # grey levels: bytes that are all less are probably not 0 to 255


class FewLevelsWarning(UserWarning):
    """Bytes that are all far below 255, which would be nearly black."""


@dataclass(frozen=True)
class Reading:
    """How to read a file, where it does not say so itself; see `load_array`."""

    key: str | None = None
    label_key: str | None = None
    label_column: str | int | None = None
    scale: float | None = None
    transpose: bool = False
    image_shape: Shape | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale is {self.scale!r}, must be a positive number")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Reading:
        """Return how a run's data were read, from its settings; older runs do not say."""
        given = dict(settings.get("reading") or {})
        if "image_shape" in given:
            given["image_shape"] = tuple(given["image_shape"])
        return cls(**given)

    def given(self) -> dict[str, Any]:
        """The fields that are not at their defaults."""
        fields = asdict(self).items()  # a column may be 0, which equals False
        return {name: value for name, value in fields if value is not None and value is not False}


class Found(NamedTuple):
    """The rows of a file by part, "" or "train", "test" and "validation", and their meaning."""

    parts: dict[str, Images]
    labels: dict[str, NDArray[Any]]  # of the parts that have them, integers (N,)
    image_shape: Shape | None  # None: a table
    columns: tuple[str, ...]
    label_names: tuple[str, ...]
    reading: Reading  # with the scale that was chosen
    words: tuple[str, ...]  # for the summary


def load_array(
    path: str | os.PathLike[str], *, key: str | None = None, label_key: str | None = None,
    label_column: str | int | None = None, scale: float | None = None, transpose: bool = False,
    image_shape: Shape | None = None,
) -> Dataset:  # fmt: skip
    """Load images or a table from a file, or pictures from a folder.

    Parameters
    ----------
    path : path
        What `readers.READABLE` lists. A `.npz` or `.mat` may hold a split, ``x_train`` and
        ``x_test`` (``train_images``, ``X_train``, ...), with ``x_val`` if it likes, and labels. A
        given split is kept. A single array is shuffled in the same way for every run, and its last
        N // 6 rows (at least 1) are the test set.
    key, label_key : str, optional
        The names of the arrays of images and of labels, where several could be meant.
    label_column : str or int, optional
        The column of a text table that holds labels: its name, or its number from 0.
    scale : float, optional
        Values mean value / scale. By default bytes in images mean value / 255, and all others
        themselves.
    transpose : bool
        The last axis counts the rows, as MATLAB users store images.
    image_shape : (height, width) or (height, width, 3), optional
        Rows (N, D) are images of this shape.

    A `.npy` file of `MAPPED` bytes or more in C order is checked completely, then stays on disk:
    the images are `Rows` of it, and it must not change while they are used. Results are the same to
    the bit as with an array in memory, but static binarisation refuses `Rows`.

    ValueError if the file is damaged, or what it holds would have to be guessed.
    `FewLevelsWarning` if bytes are all less than 64, so that 255 is hardly white.
    """
    reading = Reading(key, label_key, label_column, scale, transpose, image_shape)
    found = read_images(path, reading)
    name, source = Path(path).stem or Path(path).name, os.path.abspath(path)
    try:
        return make_dataset(found, name, source)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def dataset_from_array(
    x: ArrayLike, labels: ArrayLike | None = None, *, scale: float | None = None,
    image_shape: Shape | None = None, name: str = "array",
) -> Dataset:  # fmt: skip
    """Return a data set of an array in memory, read and split as `load_array` does a file's.

    `x` is (N, D), (N, H, W) or has a channel axis, `labels` (N,) if given.
    """
    arrays = {"x": np.asarray(x)} | ({} if labels is None else {"labels": np.asarray(labels)})
    found = find_images(Contents(arrays), Reading(scale=scale, image_shape=image_shape))
    return make_dataset(found, name, None)


def read_images(
    path: str | os.PathLike[str], reading: Reading | None = None, *, like: float | None = None
) -> Found:
    """Return the contents of a file of `load_array`, in its order and not split.

    `like` is the scale of the data of a model that is to read these; it is used if none is given.
    """
    reading = Reading() if reading is None else reading
    contents = read_file(path, reading.label_column)
    try:
        found = find_images(contents, reading, like)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return found._replace(words=(str(Path(path).name), *found.words))


def find_images(contents: Contents, reading: Reading, like: float | None = None) -> Found:
    """Decide what the arrays of a file are, as at the top; `like` as in `read_images`."""
    arrays, columns, said = contents
    members = find_members(arrays, reading.key, reading.label_key)
    images = {part: arrays[member.images] for part, member in members.items()}
    if reading.transpose:
        images = {
            p: np.ascontiguousarray(np.moveaxis(x, -1, 0)) for p, x in images.items() if x.ndim
        }
    names = {part: member.images or "images" for part, member in members.items()}
    _check_alike(images, names)
    rows, shape, scale, words = _read_values(images, names, columns, reading, like)
    given = {p: arrays[m.labels] for p, m in members.items() if m.labels in arrays and m.labels}
    labels, label_names, of_labels = code_labels(given, {p: len(x) for p, x in rows.items()})
    used = {name for member in members.values() for name in member}
    unused = [repr(name) for name in arrays if name not in used]
    words = (_describe(images, members), *words, of_labels)
    if unused:
        words += (f"left out: {', '.join(unused[:5])}{', ...' if len(unused) > 5 else ''}",)
    return Found(
        rows, labels, shape, columns if shape is None else (), label_names,
        replace(reading, scale=scale), words + ((said,) if said else ()),
    )  # fmt: skip


def make_dataset(found: Found, name: str, source: str | None) -> Dataset:
    """Return the data set of what was found, split if it is not yet."""
    parts, labels = found.parts, found.labels
    if "" in parts:
        n = len(parts[""])
        if n < 2:
            raise ValueError("holds 1 row, must hold 2 or more: one for training, one for testing")
        of_train, of_test = np.split(split_order(n), [-max(1, n // 6)])
        order = {"train": of_train, "test": of_test}
        parts = {part: subset(parts[""], rows) for part, rows in order.items()}
        labels = {part: labels[""][rows] for part, rows in order.items() if "" in labels}
    sizes = {"training": "train", "validation": "validation", "test": "test"}
    split = ", ".join(f"{len(parts[p])} {word}" for word, p in sizes.items() if p in parts)
    how = "shuffled and split: " if "" in found.parts else ""
    return Dataset(
        name, parts["train"], parts["test"], labels.get("train"), labels.get("test"),
        image_shape=found.image_shape, validation=parts.get("validation"),
        validation_labels=labels.get("validation"), source=source, columns=found.columns,
        label_names=found.label_names, reading=found.reading.given(),
        summary="; ".join([*found.words, f"{how}{split}"]),
    )  # fmt: skip


def _check_alike(arrays: Mapping[str, NDArray[Any]], names: Mapping[str, str]) -> None:
    """Raise ValueError for arrays that are not rows of real numbers of one shape and type."""
    like, first = next(iter(arrays.values())), next(iter(names.values()))
    for part, x in arrays.items():
        what = names[part]
        if x.dtype.kind not in "buif" or x.dtype.itemsize > 8:
            raise ValueError(
                f"{what} are {x.dtype}, must be integers, bool or float16, 32 or 64: see astype"
            )
        if x.ndim not in (2, 3, 4) or x.size == 0:
            raise ValueError(
                f"{what} have shape {x.shape}, must be (N, D), (N, height, width) or these with a"
                " channel axis, none of them 0"
            )
        if (x.dtype, x.shape[1:]) != (like.dtype, like.shape[1:]):
            raise ValueError(
                f"{what} are {x.dtype} {x.shape[1:]}, must be {like.dtype} {like.shape[1:]}"
                f" like {first}"
            )


class _Values(NamedTuple):
    """The ends of all values, and whether they are whole numbers."""

    low: float
    high: float
    whole: bool


def _read_values(
    arrays: Mapping[str, NDArray[Any]], names: Mapping[str, str], columns: tuple[str, ...],
    reading: Reading, like_scale: float | None,
) -> tuple[dict[str, Images], Shape | None, float, tuple[str, ...]]:  # fmt: skip
    """Return the rows of each part, the shape of an image, the scale, and words.

    The parts are judged together: a blank test set is not binary if the training set is grey.
    """
    like = next(iter(arrays.values()))
    # `MappedFile` notes the state of the file before the first read.
    parts = {p: MappedFile(x) if isinstance(x, np.memmap) else x for p, x in arrays.items()}
    values = _survey(parts, names)
    # Floats in [0, 1] are bytes / 255 already.
    divided = like.dtype.kind == "f" and values.low >= 0 and values.high <= 1
    if reading.scale is None and not (like_scale == 255 and divided):
        reading = replace(reading, scale=like_scale)
    shape, channels_first, of_shape = _shape(like, values, columns, reading)
    kind, scale, of_values = _meaning(like, values, shape, reading.scale)
    wide = like.dtype.itemsize > (4 if like.dtype.kind == "f" else 2)
    kept = np.dtype(
        np.uint8 if kind != "floats" else np.float64 if shape is None and wide else np.float32
    )
    most, limit = max(-values.low, values.high) / scale, float(np.finfo(np.float32).max)
    if kept == np.float32 and most > limit:
        raise ValueError(f"the largest value is {most:g}, must be at most {limit:g}, as float32")
    convert = partial(
        _convert, kind=kind, scale=scale, dtype=kept,
        channels_first=like.shape[1:] if channels_first else None,
    )  # fmt: skip
    rows: dict[str, Images] = {}
    for part, x in parts.items():
        if isinstance(x, MappedFile):
            rows[part] = Rows(x, np.arange(len(x)), kept, convert)
        else:
            rows[part] = convert(np.ascontiguousarray(x.reshape(len(x), -1)))
    return rows, shape, scale, (of_shape, of_values)


def _survey(parts: Mapping[str, NDArray[Any] | MappedFile], names: Mapping[str, str]) -> _Values:
    """Look at all values once; ValueError if one is not finite."""
    low, high, whole = math.inf, -math.inf, True
    for part, x in parts.items():
        count, first = 0, ""
        for rows in chunks(x):
            block = x[rows]
            block = block.reshape(len(block), -1)
            if block.dtype.kind == "f":
                with np.errstate(invalid="ignore"):
                    bad = ~np.isfinite(block)
                    whole = whole and bool((block == np.rint(block)).all())
                if bad.any():
                    row = bad.any(axis=1).argmax()
                    where = f"row {rows.start + row}, column {bad[row].argmax()}"
                    first = first or f"({block[row][bad[row]][0]:g}) in {where}"
                    count += int(np.count_nonzero(bad))
                    continue
            low, high = min(low, float(block.min())), max(high, float(block.max()))
        if count:
            raise ValueError(
                f"{names[part]} hold {count} values that are not finite, the first {first}"
            )
    return _Values(low, high, whole)


def _shape(
    x: NDArray[Any], values: _Values, columns: tuple[str, ...], reading: Reading
) -> tuple[Shape | None, bool, str]:
    """Return the shape of an image, None for a table; whether channels are first; and words."""
    asked, size = reading.image_shape, math.prod(x.shape[1:])
    if x.ndim > 2:
        shape, channels_first, words = _shape_of_axes(x.shape)
        if asked is not None and tuple(asked) != shape:
            raise ValueError(
                f"the image shape is {sides(asked)}, must be {sides(shape)}, that of the images"
            )
        if x.shape[0] == x.shape[1] != x.shape[2] and x.ndim == 3:
            words = " (--transpose if the last axis counts them)"
        return shape, channels_first, f"images {sides(shape[:2])}{words}"
    if asked is not None:
        if math.prod(asked) != size:
            raise ValueError(
                f"the image shape is {sides(asked)}, {math.prod(asked)} pixels, must have"
                f" {size}, those of a row"
            )
        return asked, False, f"images {sides(asked)}"
    side = math.isqrt(size)
    bytes_ = x.dtype.kind in "bu" and x.dtype.itemsize == 1 and not columns
    scale = reading.scale or 1.0
    in_range = values.low >= 0 and values.high <= max(scale, 1.0)
    whole_bytes = values.whole and values.low >= 0 and values.high <= 255
    square = side * side == size and side >= SMALLEST and (in_range or whole_bytes)
    of_bytes = bytes_ and (values.high <= 1 or reading.scale in (None, 255))
    if PIXEL.fullmatch(columns[0]) if columns else of_bytes or square:
        shape = guess_image_shape(size)
        why = "" if shape[0] == shape[1] else " (--image-shape HxW or --transpose if not)"
        return shape, False, f"images {sides(shape)}{why}"
    hint = ""
    if len(x) < size and side * side != size and not columns:
        hint = " (--transpose if its columns are the rows; --image-shape HxW if they are images)"
    return None, False, f"a table of {size} column{'s' * (size > 1)}{hint}"


def _shape_of_axes(axes: tuple[int, ...]) -> tuple[Shape, bool, str]:
    """Return `_shape` of an array with these three or four axes."""
    if len(axes) == 3:
        return axes[1:], False, ""
    first, last = axes[1], axes[3]
    if last not in (1, 3) and first not in (1, 3):
        drop = ": drop alpha, as in x[..., :3]" if last == 4 else ", first or last"
        raise ValueError(f"images have shape {axes}, must have 1 or 3 channels{drop}")
    channels_first = last not in (1, 3)
    shape = axes[2:] if channels_first else axes[1:3]
    if (first if channels_first else last) == 1:
        return shape, False, ""
    words = f", colour, channels {'first' if channels_first else 'last'}"
    return (*shape, 3), channels_first, words


def sides(shape: Shape) -> str:
    """Return a shape as text, such as 8x8."""
    return "x".join(map(str, shape))


def _meaning(
    x: NDArray[Any], values: _Values, shape: Shape | None, scale: float | None
) -> tuple[str, float, str]:
    """Return how values are kept, "binary", "bytes" or "floats"; the scale; and words."""
    low, high, whole = values
    ends = f"{x.dtype}, {low:g} to {high:g}"
    if shape is None or not whole or low < 0:
        integers = shape is not None and x.dtype.kind != "f"
        if integers and scale is None:
            raise ValueError(
                f"images run from {low:g} to {high:g}, must be 0 to 255, or have a --scale"
                " (scale=...)"
            )
        scale = 1.0 if scale is None else scale
        return "floats", scale, ends + (f", read as value / {scale:g}" if scale != 1 else "")
    if high <= 1 and scale in (None, 1):
        if x.dtype.kind == "f":
            return "floats", 1.0, ends
        return "binary", 1.0, f"{ends}, read as black and white"
    if scale is None and high > 255:
        if x.dtype.kind == "f":
            return "floats", 1.0, ends
        raise ValueError(
            f"images run from {low:g} to {high:g}, must be 0 to 255, or have a --scale, such as"
            f" --scale {high:g} (scale={high:g})"
        )
    if scale is None and high < FEW:
        about = f"the largest value is {high:g}, so that value / 255 is nearly black"
        how = f"choose --scale {high:g} (scale={high:g}) if that is white, or --scale 255"
        warnings.warn(FewLevelsWarning(f"{about}: {how}"))  # noqa: B028
    scale = 255.0 if scale is None else scale
    read = f"{ends}, read as value / {scale:g}" if scale != 1 else ends
    return ("bytes" if scale == 255 and high <= 255 else "floats"), scale, read


def _convert(
    x: NDArray[Any], *, kind: str, scale: float, dtype: np.dtype[Any],
    channels_first: tuple[int, ...] | None,
) -> NDArray[Any]:  # fmt: skip
    """Return rows (B, D) as they are kept."""
    if channels_first is not None:
        x = np.moveaxis(x.reshape(-1, *channels_first), 1, -1).reshape(x.shape)
    if kind == "binary":
        return np.multiply(x != 0, 255, dtype=np.uint8)
    x = x / scale if kind == "floats" and scale != 1 else x
    return x.astype(dtype, copy=False)


def _describe(arrays: Mapping[str, NDArray[Any]], members: Mapping[str, Member]) -> str:
    """Return the names and shapes of the arrays that are read."""
    words = []
    for part, member in members.items():
        labels = f" with {member.labels}" if member.labels else ""
        words.append(f"{member.images or 'array'} {arrays[part].shape}{labels}")
    return ", ".join(words)
