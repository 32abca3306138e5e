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
        if all(os.path.dirname(file) != str(parts[part]) for file in some):
            labels = [os.path.relpath(file, parts[part]).split(os.sep)[0] for file in some]
            arrays[f"y_{part}" if part else "labels"] = np.array(labels)
    return arrays, (), ""


def _pictures_in(folder: Path) -> list[str]:
    """Return the pictures in a folder and in its subfolders, in natural order."""
    found = []
    for place, _, names in os.walk(folder):
        below = _natural(os.path.relpath(place, folder))
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                found.append((below, _natural(name), os.path.join(place, name)))
    return [file for *_, file in sorted(found)]


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts picture2 before picture10."""
    return [
        (0, int(w), "") if w.isdecimal() else (1, 0, w) for w in re.split(r"([0-9]{1,18})", name)
    ]


def _read_all(files: list[str]) -> NDArray[np.uint8]:
    """Return all pictures in one array, grey if all of them are."""
    first = _read(files[0])
    result: NDArray[Any] = np.empty((len(files), *first.shape[:2]), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns of pictures too large to trust
        for i, file in enumerate(files):
            x = _read(file)
            if x.shape[:2] != result.shape[1:3]:
                height, width = result.shape[1:3]
                raise ValueError(
                    f"{file}: is {x.shape[0]}x{x.shape[1]}, must be {height}x{width} like"
                    f" {files[0]}: resize the pictures"
                )
            if x.ndim == 3 and result.ndim == 3:  # so far all were grey
                if (x == x[..., :1]).all():
                    x = x[..., 0]
                else:
                    result = np.repeat(result[..., np.newaxis], 3, axis=-1)
            result[i] = x if x.ndim == result.ndim - 1 else x[..., np.newaxis]
    return result


def _read(file: str) -> NDArray[Any]:
    """Return a picture, (H, W) or (H, W, 3); ValueError of one line if it is damaged."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"its values are {image.mode}, must have 8 bits")
            mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
            return np.asarray(image if image.mode == mode else image.convert(mode))
    except Exception as error:  # Pillow raises of every kind on damaged bytes
        reason = shorten(str(error)) or type(error).__name__
        raise ValueError(f"{file}: not a readable picture ({reason})") from None
