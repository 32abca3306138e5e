"""What an experiment of the study is made of: its setting, its tables, its claims.

A page under docs/study/ asks one question, and a module of this package, of the same name, answers
it by an experiment:

    run(setting)          the numbers, as a named tuple: what it trains, draws and counts
    TABLES                the tables of the page, made of them
    CLAIMS                the sentences of the page that the numbers must bear out
    draw(figure, found)   its figure, if it draws one

The tests run each in its quick size, hold the tables against those of the page and ask each claim;
``numpy-vae study`` does the same before a reader's eyes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..data.dataset import Dataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Setting(NamedTuple):
    """What an experiment is run on, and how large.

    Attributes
    ----------
    data : Dataset
        Digits, drawn or real; experiments without images leave them alone.
    quick : bool
        Seconds on the drawn digits, or up to a minute on MNIST.
    seed : int
        Of all that is drawn.
    """

    data: Dataset
    quick: bool
    seed: int = 0

    def images(self, train: int, test: int) -> Dataset:
        """Return the first so many training and test images, without their labels."""
        d = self.data
        return Dataset(d.name, d.train[:train], d.test[:test], image_shape=d.image_shape)


class Column(NamedTuple):
    """A column of a table, and how far its numbers may be off on another machine.

    Training amplifies the rounding of the matrix products, which differs between processors.
    A number agrees with another if they are `within` of each other, or differ by at most `factor`.
    """

    name: str
    form: str = ""  # format of a number, such as ".2f"; none for text
    within: float = 0.0
    factor: float = 1.0

    def cell(self, value: Any) -> str:
        """Return a value as the table shows it."""
        return format(value, self.form)


def columns(
    *names: str, form: str = "", within: float = 0.0, factor: float = 1.0
) -> tuple[Column, ...]:
    """Return columns that have all but their names in common."""
    return tuple(Column(name, form, within, factor) for name in names)


class Table(NamedTuple):
    """A table of numbers.

    Attributes
    ----------
    title : str
        What it shows, with the unit.
    columns : tuple of Column
    rows : callable
        The numbers of the study -> rows, each a tuple with a value for each column.
    """

    title: str
    columns: tuple[Column, ...]
    rows: Callable[[Any], Sequence[tuple[Any, ...]]]

    def cells(self, found: Any) -> list[list[str]]:
        """Return the rows as they are shown."""
        pairs = (zip(self.columns, row, strict=True) for row in self.rows(found))
        return [[column.cell(value) for column, value in row] for row in pairs]

    def text(self, found: Any) -> str:
        """Return the table for a terminal."""
        lines = [[column.name for column in self.columns], *self.cells(found)]
        looks = []  # numbers to the right
        for column, cells in zip(self.columns, zip(*lines, strict=True), strict=True):
            looks.append(f"{'>' if column.form else '<'}{max(map(len, cells))}")
        rows = ["  ".join(map(format, line, looks)).rstrip() for line in lines]
        return "\n".join([self.title, *rows])


class Claim(NamedTuple):
    """A sentence of the page, and what it says of the numbers."""

    text: str
    holds: Callable[[Any], bool]


class Study(NamedTuple):
    """One question, and the experiment that answers it.

    Attributes
    ----------
    name : str
        Of the module, of the page, and after ``numpy-vae study``.
    question : str
    run : callable
        Setting -> the numbers that the others read.
    tables : tuple of Table
    claims : tuple of Claim
    draw : callable, optional
        Draws the figure of the page on an empty matplotlib Figure. None where the page
        shows a diagram that no number changes.
    height : float
        Of the figure, in inches; its width is 8.
    images : bool
        Whether the experiment looks at images at all; if not, one table serves for all data.
    """

    name: str
    question: str
    run: Callable[[Setting], Any]
    tables: tuple[Table, ...]
    claims: tuple[Claim, ...]
    draw: Callable[[Figure, Any], None] | None = None
    height: float = 3.0
    images: bool = True
