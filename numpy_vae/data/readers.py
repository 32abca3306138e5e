"""Any file or folder that can be read, as named arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..files import open_file, read_arrays
from .idx import GZIP, is_idx, read_idx

# The readers of text, .mat and pictures are imported where they are used: it takes milliseconds.

TEXT = (".csv", ".tsv", ".txt", ".amat", ".dat", ".data")
MAPPED = 256 << 20  # bytes; a `.npy` file of this size or more stays on disk
READABLE = (
    "a .npy or .npz file, an IDX file, a .csv, .tsv, .txt or .amat table, a MATLAB .mat file, or a"
    " folder of PNG or JPEG pictures"
)


class Contents(NamedTuple):
    """What a file holds."""

    arrays: dict[str, NDArray[Any]]
    columns: tuple[str, ...] = ()  # names of the columns of a table, if it has them
    words: str = ""  # what was left out, or joined


def read_file(path: str | os.PathLike[str], label_column: str | int | None = None) -> Contents:
    """Return the arrays of a file or folder; ValueError or OSError of one line otherwise."""
    path = Path(path)
    if path.is_dir():
        from .pictures import read_pictures

        contents = Contents(*read_pictures(path))
    else:
        with open_file(path) as stream:
            start = stream.read(128)
        if start.startswith(GZIP):
            start = _unpacked_start(path)
        if start.startswith((b"\x93NUMPY", b"PK")):
            objects: list[str] = []
            arrays = read_arrays(path, mapped=MAPPED, skipped=objects)
            words = f"not read, as pickled objects: {', '.join(objects)}" if objects else ""
            contents = Contents(arrays, words=words)
        elif is_idx(start):
            contents = Contents({"images": read_idx(path)})
        elif start.startswith((b"MATLAB", b"\x89HDF")) or path.suffix == ".mat":
            from .mat import read_mat

            contents = Contents(*read_mat(path))
        elif path.name.lower().removesuffix(".gz").endswith(TEXT):
            from .text import read_text

            return Contents(*read_text(path, label_column))
        else:
            what = f"it starts with {start[:8]!r}" if start else "it is empty"
            raise ValueError(f"{path}: cannot be read ({what}), must be {READABLE}")
    if label_column is not None:
        raise ValueError(f"{path}: label_column applies to a text table, not to this file")
    return contents


def _unpacked_start(path: Path) -> bytes:
    import gzip
    import zlib

    try:
        with gzip.open(path) as stream:
            return stream.read(128)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged ({error}), must be a complete gzip file") from None
