"""The report of a check: a row for each block, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

Index = tuple[int, ...]

# The largest error that passes, by method; Taylor is judged by its order.
TOLERANCE = {"central": 1e-6, "complex": 1e-12, "taylor": 0.0}
BLIND = 0.01  # rounding must not hide an error of this share of a block
MOST_KINKS = 0.01  # share of all checked entries

NOT_READ = "f does not read this block: its gradient must be exactly zero"
HIDDEN = (
    "the rounding of f hides this derivative: let f accept complex arrays, or drop its large "
    "constants"
)


@dataclass(frozen=True)
class Row:
    """The result for one block: where it agrees worst, and the verdict."""

    name: str
    shape: tuple[int, ...]
    index: Index | None  # the worst entry; None for a direction through the whole block
    analytic: float  # its analytic derivative
    numeric: float  # and its numeric one
    error: float  # |analytic - numeric| / largest entry of the block, or / rms for a direction
    method: str
    ok: bool
    order: float | None = None  # of the Taylor remainder; infinite where f is linear
    kinks: tuple[Index, ...] = ()  # the entries at a kink, confirmed by the complex step
    entries: int = 0  # how many were checked one by one
    note: str = ""

    @property
    def verdict(self) -> str:
        """``"ok"`` or ``"FAIL"``."""
        return "ok" if self.ok else "FAIL"

    @property
    def kinks_named(self) -> str:
        """How many entries are at a kink, and which."""
        return f"{len(self.kinks)} at a kink: {', '.join(str(list(i)) for i in self.kinks)}"

    def __str__(self) -> str:
        where = "(a direction)" if self.index is None else f"[{', '.join(map(str, self.index))}]"
        error = f"{self.error:.1e}" if self.order is None else f"order {self.order:.2f}"
        return (
            f"{self.verdict:4}  {self.name + where:23} {self.analytic:+.8e} {self.numeric:+.8e} "
            f"{error:>10} {self.method}"
        )


@dataclass(frozen=True)
class Report:
    """One row for each block; `ok` if the check has passed."""

    rows: tuple[Row, ...]
    ok: bool
    note: str = ""  # why the check failed although every row is ok

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        """Return the report of these rows: ok if all are ok and few entries are at a kink."""
        entries, kinks = sum(row.entries for row in rows), sum(len(row.kinks) for row in rows)
        note = ""
        if kinks > MOST_KINKS * entries:
            most = f"must be at most {MOST_KINKS:.0%}"
            note = f"FAIL  {kinks} of {entries} entries lie at a kink, {most}"
        return cls(tuple(rows), not note and all(row.ok for row in rows), note)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __str__(self) -> str:
        heading = f"      {'worst entry':23} {'analytic':15} {'numeric':15} {'error':>10} method"
        lines = [heading, *map(str, self.rows)]
        for row in self.rows:
            if row.kinks:
                lines.append(f"      {row.name}: {row.kinks_named}")
            if row.note:
                lines.append(f"      {row.name}: {row.note}")
        return "\n".join([*lines, self.note]).rstrip()
