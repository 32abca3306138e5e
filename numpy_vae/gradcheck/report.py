"""The report of a check: a row for each block, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Index = tuple[int, ...]

# The largest error that passes, by method; Taylor is judged by its order.
TOLERANCE = {"central": 1e-6, "complex": 1e-12, "taylor": 0.0}

# The verdicts on a line or a block, from the best to the worst.
VERDICTS = OK, UNDECIDED, WRONG = "ok", "undecided", "wrong"

ZERO = "0 within rounding"
NOT_READ = "f does not depend on this array: its gradient must be zero"
HIDDEN = (
    "the rounding of f hides this derivative: cannot be decided here. Let f accept complex arrays, "
    "drop large constants from it, or look for float32 inside"
)
UNREAD = "f does not depend on this array, and its gradient is zero"
LOOSE = "the rounding of f allows an error of {:.0e} here"
TIED = (
    "at corners that meet: cannot be decided here. {} pass one by one, but not when they move "
    "together. Move them apart and check there"
)
CORNER = (
    "at a corner: cannot be decided here. Move {} off it (biases to 0.1, for example) and check "
    "there"
)
NO_SLOPE = (
    "f has no slope here (a jump, or the edge of its domain?): cannot be decided here. Move off it "
    "and check there"
)
NAMED = 8  # names are listed; more are counted


@dataclass(frozen=True)
class Row:
    """The result for one block: where it agrees worst, and the verdict."""

    name: str
    shape: tuple[int, ...]
    index: Index | None  # the worst entry; None for a direction through the whole block
    analytic: float  # its analytic derivative
    numeric: float  # and its numeric one; at a corner, the nearest value between the two slopes
    error: float  # |analytic - numeric| / largest entry of the gradient, or / rms for a direction
    method: str
    status: str  # one of `VERDICTS`
    order: float | None = None  # of the Taylor remainder; infinite if none rises above rounding
    kinks: tuple[Index, ...] = ()  # the entries that pass at a kink, or beside one
    entries: int = 0  # how many were checked one by one
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the block has passed."""
        return self.status == OK

    @property
    def verdict(self) -> str:
        """``"ok"``, ``"FAIL"``, or ``"?"`` where nothing can be decided."""
        return {OK: "ok", UNDECIDED: "?", WRONG: "FAIL"}[self.status]

    @property
    def kinks_named(self) -> str:
        """How many entries are at a kink, and which."""
        return f"{len(self.kinks)} at a kink: {listed(map(str, map(list, self.kinks)))}"

    def __str__(self) -> str:
        where = "(direction)" if self.index is None else entry_name("", self.index)
        error = f"{self.error:.1e}" if self.order is None else f"order {self.order:.2f}"
        return (
            f"{self.verdict:4}  {self.name + where:23} {self.analytic:+.8e} {self.numeric:+.8e} "
            f"{error:>10} {self.method}"
        )


@dataclass(frozen=True, repr=False)
class Report:
    """One row for each block. It is true if the check has passed: ``assert gradcheck(...)``.

    Attributes
    ----------
    rows : tuple of Row
        In the order of the gradient.
    unchecked : tuple of str
        The float arrays for which no gradient was given.
    """

    rows: tuple[Row, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """``"wrong"`` if any block is, else ``"undecided"`` if any is, else ``"ok"``."""
        return max((row.status for row in self.rows), key=VERDICTS.index, default=OK)

    @property
    def ok(self) -> bool:
        """Whether every block has passed."""
        return self.status == OK

    def raise_if_wrong(self) -> None:
        """Raise AssertionError, with the report as its text, unless every block has passed."""
        __tracebackhide__ = True  # by pytest
        if not self:
            raise AssertionError(f"the gradient is {self.status}\n{self}")

    def __bool__(self) -> bool:
        return self.ok

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __repr__(self) -> str:
        """One line, for a failing assertion; `str` is the whole report."""
        bad = [row for row in self.rows if not row.ok]
        names = listed(f"{row.name} {row.status}" for row in bad) or f"{len(self.rows)} blocks"
        left = f"; not checked: {listed(self.unchecked)}" if self.unchecked else ""
        return f"<gradcheck {self.status}: {names}{left}>"

    def __str__(self) -> str:
        heading = f"      {'worst entry':23} {'analytic':15} {'numeric':15} {'error':>10} method"
        lines = [heading, *map(str, self.rows)]
        for row in self.rows:
            if row.kinks:
                lines.append(f"      {row.name}: {row.kinks_named}")
            if row.note:
                lines.append(f"      {row.name}: {row.note}")
        if self.unchecked:
            lines.append(f"      not checked, as no gradient was given: {listed(self.unchecked)}")
        return "\n".join(lines)


def entry_name(block: str, index: Index) -> str:
    """W[2, 0], say."""
    return f"{block}[{', '.join(map(str, index))}]"


def listed(names: Iterator[str] | tuple[str, ...]) -> str:
    """Name the first few and count the others."""
    known = list(names)
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return ", ".join(known[:NAMED]) + more
