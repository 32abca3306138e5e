"""What an experiment of the study is made of: its setting, its tables, its claims.

A page under docs/study/ asks one question, and the module of the same name answers it. The tests
run each experiment in its quick size, compare its tables with the page and check each claim.
``numpy-vae study NAME`` prints the same.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..data.dataset import Dataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Setting(NamedTuple):
    """What an experiment is run on, and how large."""

    data: Dataset  # synthetic digits or MNIST; some experiments need no images
    quick: bool  # seconds on the synthetic digits, or up to a minute on MNIST
    seed: int = 0  # of every random number
    # Told what is computed next, in a line without a full stop; prints nothing by default.
    say: Callable[[str], object] = lambda line: None

    def images(self, train: int, test: int) -> Dataset:
        """Return the first so many training and test images, without their labels."""
        d = self.data
        return Dataset(d.name, d.train[:train], d.test[:test], image_shape=d.image_shape)


class Column(NamedTuple):
    """A column of a table, and how much its numbers may differ on another machine.

    Training amplifies the rounding of the matrix products, which differs between processors.
    Two numbers agree if they are `within` of each other, or differ by at most `factor`.
    """

    name: str
    form: str = ""  # format of a number, such as ".2f"; empty for text
    within: float = 0.0
    factor: float = 1.0

    def cell(self, value: Any) -> str:
        """Return a value as the table shows it."""
        return format(value, self.form)


def columns(
    *names: str, form: str = "", within: float = 0.0, factor: float = 1.0
) -> tuple[Column, ...]:
    """Return columns that differ in their names alone."""
    return tuple(Column(name, form, within, factor) for name in names)


class Table(NamedTuple):
    """A table of numbers."""

    title: str  # what it shows, with the unit
    columns: tuple[Column, ...]
    rows: Callable[[Any], Sequence[tuple[Any, ...]]]  # of the numbers: a value for each column
    images: bool = True  # False where no image enters: the same for all data and sizes

    def cells(self, found: Any) -> list[list[str]]:
        """Return the rows as text."""
        pairs = (zip(self.columns, row, strict=True) for row in self.rows(found))
        return [[column.cell(value) for column, value in row] for row in pairs]

    def text(self, found: Any, width: int = 100) -> str:
        """Return the table for a terminal, its heads and texts wrapped to fit `width` columns."""
        rows = [[column.name for column in self.columns], *self.cells(found)]
        numeric = [bool(column.form) for column in self.columns]
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        least = [  # the longest word; a number is never wrapped
            max(len(word) for cell in cells for word in cell.split() or [""])
            for cells in zip(*rows, strict=True)
        ]
        while sum(widths) + 2 * len(widths) - 2 > width and widths != least:
            widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
            widths[widest] -= 1
        looks = [f"{'>' if n else '<'}{w}" for n, w in zip(numeric, widths, strict=True)]
        lines = textwrap.wrap(self.title, width)
        for number, row in enumerate(rows):
            wrapped = [
                textwrap.wrap(cell, w, break_long_words=False, break_on_hyphens=False)
                for cell, w in zip(row, widths, strict=True)
            ]
            height = max(map(len, wrapped))
            for i in range(height):
                # Heads end on the line above the numbers; texts begin on the line of theirs.
                at = [i - (height - len(cell) if number == 0 else 0) for cell in wrapped]
                parts = [c[k] if 0 <= k < len(c) else "" for c, k in zip(wrapped, at, strict=True)]
                lines.append("  ".join(map(format, parts, looks)).rstrip())
        return "\n".join(lines)


class Claim(NamedTuple):
    """A sentence of the page, and whether it is true of the numbers."""

    text: str
    holds: Callable[[Any], bool]


class Study(NamedTuple):
    """One question, and the experiment that answers it."""

    name: str  # of the module, of the page, and after ``numpy-vae study``
    question: str  # the title of the page
    conclusion: str  # the answer in one sentence: the first of the page's "In short"
    run: Callable[[Setting], Any]  # the numbers that the others read, as a named tuple
    tables: tuple[Table, ...]
    claims: tuple[Claim, ...]  # the sentences of the page that must be true of the numbers
    # Draws the figure of the page; None where the page shows a diagram that no number changes.
    draw: Callable[[Figure, Any], None] | None = None
    height: float = 3.0  # of the figure, in inches; its width is 8

    @property
    def images(self) -> bool:
        """Whether the experiment reads images."""
        return any(table.images for table in self.tables)
