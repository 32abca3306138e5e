"""A folder of PNG or JPEG pictures of one size; subfolders are labels, or a split."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import shorten
from .members import PARTS

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read_pictures(
    folder: str | os.PathLike[str],
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], str]:
    """Return the pictures, (N, H, W) or in colour (N, H, W, 3), uint8, and their labels; and words.

    They are sorted by name, 2 before 10. The subfolders are labels, or, if all have names such as
    train and test, a split, whose own subfolders are labels. Transparency is dropped. Colour with
    equal red, green and blue everywhere is grey. ValueError if a picture is damaged or of another
    size than the first.
    """
    folder = Path(folder)
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    parts = {PARTS[p.name.lower()]: p for p in inside if p.name.lower() in PARTS}
    if not ({"train", "test"} <= parts.keys() and len(parts) == len(inside)):
        parts = {"": folder}
    files = {part: _pictures_in(place) for part, place in parts.items()}
    for part, place in parts.items():
        if not files[part]:
            raise ValueError(
                f"{place}: holds no pictures ({', '.join(SUFFIXES)}); of IDX files, name one file,"
                " or pass --data mnist --data-dir"
            )
    images = _read_all([file for some in files.values() for file in some])
    arrays: dict[str, NDArray[Any]] = {}
    start = 0
    for part, some in files.items():
        arrays[f"x_{part}" if part else "pictures"] = images[start : start + len(some)]
        start += len(some)
        labels = [file.relative_to(parts[part]).parts[0] for file in some]
        if all(file.parent != parts[part] for file in some):
            arrays[f"y_{part}" if part else "labels"] = np.array(labels)
    return arrays, (), ""


def _pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in a folder and in its subfolders, in natural order."""
    found = [
        p for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    ]  # fmt: skip
    return sorted(found, key=lambda p: _natural(p.relative_to(folder)))


def _natural(path: Path) -> list[list[tuple[int, int, str]]]:
    """Return a key that sorts picture2 before picture10."""
    return [
        [(0, int(w), "") if w.isdecimal() else (1, 0, w) for w in re.split(r"(\d+)", part)]
        for part in path.parts
    ]


def _read_all(files: list[Path]) -> NDArray[np.uint8]:
    """Return all pictures in one array, grey if all of them are."""
    first = _read(files[0])
    result: NDArray[Any] = np.empty((len(files), *first.shape), np.uint8)
    colour = first.ndim == 3  # whether `result` has channels
    for i, file in enumerate(files):
        x = _read(file) if i else first
        if x.shape[:2] != result.shape[1:3]:
            raise ValueError(
                f"{file}: is {x.shape[0]}x{x.shape[1]}, must be {result.shape[1]}x{result.shape[2]}"
                f" like {files[0]}: resize the pictures"
            )
        if x.ndim == 3 and not colour:  # the others were grey
            result, colour = np.repeat(result[..., np.newaxis], 3, axis=-1), True
        result[i] = x if x.ndim == 3 or not colour else x[..., np.newaxis]
    return result


def _read(file: Path) -> NDArray[np.uint8]:
    """Return a picture, (H, W) or (H, W, 3); ValueError of one line if it is damaged."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of pictures too large to trust
            with Image.open(file) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"its values are {image.mode}, must have 8 bits")
                mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
                x = np.asarray(image if image.mode == mode else image.convert(mode))
    except Exception as error:  # Pillow raises of every kind on damaged bytes
        reason = shorten(str(error)) or type(error).__name__
        raise ValueError(f"{file}: not a readable picture ({reason})") from None
    if x.ndim == 3 and (x == x[..., :1]).all():
        return np.ascontiguousarray(x[..., 0])
    return x
