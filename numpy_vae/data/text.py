"""Tables in text: .csv, .tsv, .txt and .amat, plain or gzipped, with or without a header.

The values are separated by commas, semicolons, tabs or spaces, whichever the first line has. It is
a header if it has a word where the next line has a number, or if it is 0, 1, 2, ..., as pandas
writes it. A first column without a name that counts the rows is left out. Labels are the column
that is named, or one that is called so (`members.LABELS`); they may be words.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import shorten
from ..files import open_file
from .idx import GZIP
from .members import LABELS

DECIMAL = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
MISSING = ("", "na", "n/a", "null", "none", "-", "?")
LABELLED = "; --label-column if it holds labels"
PARTS = {"train": "train", "valid": "validation", "test": "test"}  # of Larochelle's three files


class Layout(NamedTuple):
    """How the lines of a table are to be read."""

    delimiter: str | None  # None: spaces
    decimal_comma: bool  # 1,5 for 1.5
    header: tuple[str, ...]
    width: int
    labels: int | None  # the column


def read_text(
    path: str | os.PathLike[str], label_column: str | int | None = None
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], str]:
    """Return the rows and the labels of a table, the names of its columns, and words.

    ``NAME_train.amat`` brings ``NAME_valid.amat`` and ``NAME_test.amat``, if they are there.
    ValueError if a value is not a number or a line has more or fewer of them.
    """
    path = Path(path)
    match = re.fullmatch(r"(.*[_.-])train(\.amat(?:\.gz)?)", path.name)
    files = {part: path.with_name(f"{match[1]}{word}{match[2]}") for word, part in PARTS.items()
             } if match else {}  # fmt: skip
    if not files or not files["test"].is_file():
        rows, labels, columns, words = _read_table(path, label_column)
        return {"rows": rows} | ({} if labels is None else {"labels": labels}), columns, words
    arrays = {}
    for part, file in files.items():
        if file.is_file():
            arrays[part], labels, columns, _ = _read_table(file, label_column)
            if labels is not None:
                arrays[f"{part}_labels"] = labels
    others = [file.name for file in files.values() if file.is_file() and file != path]
    return arrays, columns, f"with {' and '.join(others)}"


def _read_table(
    path: Path, label_column: str | int | None
) -> tuple[NDArray[Any], NDArray[Any] | None, tuple[str, ...], str]:
    """Return rows (N, D), labels (N,) if any, the names of the D columns, and words."""
    try:
        layout, whole = _look(path, label_column)
        own = [d for d in range(layout.width) if d != layout.labels]
        if not own:
            raise ValueError("it has a column of labels only, must have one of numbers")
        for dtype in (np.int64, np.float64) if whole else (np.float64,):
            try:
                rows = _load(path, layout, dtype, own if layout.labels is not None else None)
                break
            except ValueError:
                if dtype == np.float64:
                    raise
        labels = None
        if layout.labels is not None:
            words = _load(path, layout, np.str_, [layout.labels])[:, 0]
            labels = _numbers(words)
    except (ValueError, csv.Error, EOFError, OSError, zlib_error()) as error:
        if isinstance(error, OSError) and error.filename:
            raise
        reason = re.sub(r"; use `usecols`.*|\.$", "", " ".join(str(error).split()))
        reason = re.sub(r"column (\d+)", lambda m: _named(layout, int(m[1]) - 1), reason)
        if found := re.search(r"convert string '(.*?)'", reason):
            missing = found[1].strip().lower() in MISSING
            reason += "; fill or leave out what is missing" if missing else LABELLED
        raise ValueError(f"{path}: not a table of numbers ({shorten(reason)})") from None
    named = len(layout.header) == layout.width and not all(map(str.isdecimal, layout.header))
    columns = tuple(layout.header[d] for d in own) if named else ()
    counted = columns and columns[0] in ("", "Unnamed: 0") and rows.shape[1] > 1
    if counted and np.array_equal(rows[:, 0], np.arange(len(rows))):
        return rows[:, 1:], labels, columns[1:], "left out: a first column that counts the rows"
    return rows, labels, columns, "decimal commas" if layout.decimal_comma else ""


def zlib_error() -> type[Exception]:
    """Return what damaged gzip raises, imported late."""
    import zlib

    return zlib.error


def _named(layout: Layout, column: int) -> str:
    """Return a column by its number from 0, and by its name if it has one."""
    name = layout.header[column] if column < len(layout.header) else ""
    return f"column {column}" + (f", {name!r}" if name else "")


@contextmanager
def _lines(path: Path) -> Iterator[IO[str]]:
    """Open a table as lines of text."""
    import gzip

    with open_file(path) as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if packed else raw
        yield io.TextIOWrapper(stream, "utf-8-sig")


def _look(path: Path, label_column: str | int | None) -> tuple[Layout, bool]:
    """Return the layout, from the first two lines, and whether the second has whole numbers."""
    first: list[str] = []
    with _lines(path) as stream:
        for line in stream:
            if line.strip() and not line.startswith("#"):
                first.append(line)
            if len(first) == 2:
                break
    if not first:
        raise ValueError("it is empty")
    delimiter = next((c for c in ";\t," if c in first[0]), None)
    if delimiter is None:
        rows = [line.split() for line in first]
    else:
        rows = [*csv.reader(first, delimiter=delimiter, skipinitialspace=True)]
    comma = delimiter == ";" and any(DECIMAL.fullmatch(cell) for cell in rows[-1])
    if comma:
        rows = [[cell.replace(",", ".") for cell in row] for row in rows]
    top, second = rows[0], rows[-1]
    header: tuple[str, ...] = ()
    counts = len(top) > 2 and top == [str(d) for d in range(len(top))]
    words = any(not _is_number(a) and _is_number(b) for a, b in zip(top, second, strict=False))
    if len(rows) > 1 and (words or counts):
        header = tuple(name.strip() for name in top)
    labels = _label_column(header, len(second), label_column)
    body = [cell for d, cell in enumerate(second) if d != labels]
    whole = all(re.fullmatch(r"\s*[+-]?\d+\s*", cell) for cell in body)
    return Layout(delimiter, comma, header, len(second), labels), whole


def _label_column(header: tuple[str, ...], width: int, asked: str | int | None) -> int | None:
    """Return the column of labels: the one asked for, or the one that is called so."""
    if isinstance(asked, int):
        if not -width <= asked < width:
            raise ValueError(f"label_column is {asked}, must be from {-width} to {width - 1}")
        return asked % width
    if asked is not None:
        if asked not in header:
            raise ValueError(f"label_column is {asked!r}, must be one of {', '.join(header[:9])}")
        return header.index(asked)
    named = [d for d, name in enumerate(header) if name.lower() in LABELS]
    return named[0] if len(named) == 1 else None


def _load(path: Path, layout: Layout, dtype: type[Any], columns: list[int] | None) -> NDArray[Any]:
    """Return some or all columns of the table, (N, D)."""
    with _lines(path) as stream:
        if layout.header:
            for line in stream:
                if line.strip() and not line.startswith("#"):
                    break
        lines = (line.replace(",", ".") for line in stream) if layout.decimal_comma else stream
        return np.loadtxt(
            lines, dtype, delimiter=layout.delimiter, usecols=columns, ndmin=2, quotechar='"'
        )


def _numbers(words: NDArray[np.str_]) -> NDArray[Any]:
    """Return labels as integers if all of them are, else as they are."""
    try:
        return words.astype(np.int64)
    except (ValueError, OverflowError):
        return np.char.strip(words)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
