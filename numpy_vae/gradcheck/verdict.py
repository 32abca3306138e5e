"""Right, wrong or undecided: an analytic derivative g·v beside a numeric one.

    the numeric derivative         ok                         wrong         undecided
    a slope                        g·v agrees                 else
    a corner, slopes a and b       g·v between a and b                      else
    hidden by rounding             agrees by wider steps,     else          neither works
                                   or the complex step
    hidden, and f stands still     g·v is as small            else
    no limit (a jump)                                                       always

The entries of a block are judged the worst first. A block is as bad as its worst line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from .differences import BLIND, STEP, Derivative, central, closer, difference, widen
from .line import ROUNDING, Block, Line
from .report import (
    CORNER,
    HIDDEN,
    LOOSE,
    NO_SLOPE,
    NOT_READ,
    OK,
    TIED,
    TOLERANCE,
    UNDECIDED,
    UNREAD,
    VERDICTS,
    WRONG,
    ZERO,
    Index,
    Row,
    entry_name,
    listed,
)

# Below this share of the largest entry of the whole gradient, or of the slopes of f nearby, a slope
# counts as 0.
LEAST = 1e-12
SCATTERS = 100  # below so many times its own scatter a complex step counts as 0
LOST = 1000  # cancellation may raise the tolerance of the complex step by this factor
DOUBTFUL = 100  # the true rounding of f may be so many times the measured one
LENIENT = 100  # times the tolerance: the report says so
PARTS = 64  # of a direction through a corner
ENOUGH = 8  # wrong entries; after them the others of a block get no closer look


class Finding(NamedTuple):
    """The verdict on one line."""

    v: Line
    numeric: float
    size: float  # of the gradient: the unit of errors
    allowed: float  # distance of g·v from the numeric derivative
    status: str
    note: str = ""
    kink: bool = False  # at a corner, or beside one

    @property
    def ok(self) -> bool:
        """Whether it passes."""
        return self.status == OK

    @property
    def error(self) -> float:
        """|numeric - g·v|, relative to the size; 0 if they are equal, or ZERO."""
        if self.note == ZERO or self.numeric == self.v.slope:
            return 0.0
        distance = abs(self.numeric - self.v.slope)
        return distance / self.size if self.size else distance * math.inf

    @property
    def badness(self) -> tuple[int, bool, float]:
        """Orders findings: by verdict, wrong entries before directions, then by how far off."""
        distance = abs(self.numeric - self.v.slope)
        excess = distance / self.allowed if self.allowed else distance and math.inf
        excess = math.inf if math.isnan(excess) else excess
        return VERDICTS.index(self.status), self.v.index is not None and not self.ok, excess


def compare(v: Line, numeric: float, size: float, allowed: float, *, kink: bool = False) -> Finding:
    """Find g·v right if it is within what is allowed of the numeric derivative, else wrong."""
    status = OK if abs(numeric - v.slope) <= allowed else WRONG
    return Finding(v, numeric, size, allowed, status, kink=kink)


def judge(d: Derivative, size: float, tolerance: float) -> Finding:
    """Judge g·v by differences; errors are relative to `size`."""
    if not math.isfinite(d.v.slope):
        return Finding(d.v, d.slope, size, 0.0, WRONG)
    return judge_resolved(closer(d, tolerance), size, tolerance)


def judge_resolved(d: Derivative, size: float, tolerance: float) -> Finding:
    """Judge g·v by differences that were looked at as closely as they need."""
    v, g, allowed = d.v, d.v.slope, tolerance * size + d.floor
    if d.corner:
        nearest = min(max(g, min(d.sides)), max(d.sides))
        between = compare(v, nearest, size, allowed, kink=True)
        return between if between.ok else between._replace(status=UNDECIDED, note=CORNER)
    if not d.resolved or d.floor > BLIND * size:
        return judge_hidden(d, size, tolerance)
    return compare(v, d.slope, size, allowed, kink=d.near and v.index is not None)


def judge_hidden(d: Derivative, size: float, tolerance: float) -> Finding:
    """Judge g·v where rounding may hide an error. The first line that applies decides:

    wide steps read the slope to 1 %, and g agrees or is plainly off    ok, or wrong
    the complex step agrees with them                                   ok, zero, or wrong
    both are 0 beside the whole gradient                                zero
    wide steps read the slope to 1 %                                    wrong
    f does not move over wide steps, and g is as small                  zero
    the differences have no limit                                       undecided (NO_SLOPE)
    g is within the error of the wide steps                             undecided (HIDDEN)
    it is not                                                           wrong
    """
    v, wide = d.v, widen(d if d.resolved else d._replace(floor=math.inf))
    unseen, least = is_unseen(wide)
    if not unseen:
        size = max(size, abs(wide.slope))
    seen = compare(v, wide.slope, size, tolerance * size + wide.floor)
    zero = seen._replace(status=OK, note=ZERO)
    most = max(abs(wide.slope), abs(v.slope))
    readable = wide.floor <= BLIND * size
    if readable and (seen.ok or most > max(DOUBTFUL * wide.floor, least)):
        return seen
    exact = judge_by_complex_step(d, wide, size, tolerance)
    if exact is not None:
        return exact
    if most <= least:
        return zero
    if readable:
        return seen
    still = unseen and (wide.flat or (d.resolved and wide.floor <= max(BLIND * wide.steep, least)))
    if still and abs(v.slope) <= max(2 * wide.floor, least):
        return zero
    if not d.resolved:
        return seen._replace(status=UNDECIDED, note=NO_SLOPE)
    return seen._replace(status=UNDECIDED, note=HIDDEN) if seen.ok else seen


def judge_by_complex_step(
    d: Derivative, wide: Derivative, size: float, tolerance: float
) -> Finding | None:
    """Judge g·v by the complex step; None if f takes none, or it contradicts the differences."""
    v, c = d.v, d.v.complex_derivative()
    agree = abs(c - wide.slope) <= DOUBTFUL * wide.floor + 1e-3 * abs(c)  # not if c is NaN
    if not (d.resolved and agree):
        return None
    unseen, least = is_unseen(wide)
    size = max(size, abs(c))
    lost = min(ROUNDING, max(wide.noise, ROUNDING * abs(v.f.f0)))
    exact = compare(v, c, size, tolerance * size + min(lost, BLIND * size))
    if exact.ok or not unseen:
        return exact
    zero = max(abs(c), abs(v.slope)) <= lost or is_zero(c, d, least)
    return exact._replace(status=OK, note=ZERO) if zero else exact


def judge_complex(d: Derivative, size: float, tolerance: float) -> Finding:
    """Judge g·v by the complex step and, where it is off, by what differences say of the point."""
    v, allowed = d.v, tolerance * size
    # Digits are lost where a sum cancels: in g, as in 1 - tanh², and in c.
    lost = min(ROUNDING * min(1.0, abs(v.f.f0)), BLIND * size)
    exact = compare(v, d.slope, size, allowed + lost)
    if exact.ok:
        return exact
    scatter = v.complex_scatter()
    exact = compare(v, d.slope, size, allowed + max(lost, min(scatter, LOST * allowed)))
    if exact.ok or not math.isfinite(v.slope):
        return exact
    real = central(v, TOLERANCE["central"])
    if real.corner:
        return judge_resolved(real, size, TOLERANCE["central"])
    unseen, least = is_unseen(widen(real))
    if unseen and is_zero(d.slope, real, least):
        return exact._replace(status=OK, note=ZERO)
    return exact


def is_unseen(wide: Derivative) -> tuple[bool, float]:
    """Return whether the slope is 0 as far as differences see, and what else counts as 0."""
    least = LEAST * max(wide.v.whole, wide.nearby)
    return abs(wide.slope) <= max(wide.floor, least), least


def is_zero(c: float, near: Derivative, least: float) -> bool:
    """Whether the complex step c and g·v are both 0, to the rounding of a derivative here."""
    g, rounding = abs(near.v.slope), SCATTERS * near.v.complex_scatter()
    return abs(c) <= rounding and g <= max(least, min(rounding, near.floor))


def sizes_of(found: Sequence[Derivative], tolerance: float) -> list[float]:
    """Return the unit of errors on each line: the largest entry, or along a direction the rms.

    Numeric slopes count too: an analytic block of zeros has no size. Slopes within rounding do not
    count, nor do those at corners: a kink may be far steeper than f beside it.
    """
    seen = [abs(d.slope) if abs(d.slope) > d.floor else 0.0 for d in found]
    entries = [k for k, d in enumerate(found) if d.v.index is not None]
    largest = found[entries[0]].v.size
    for k in sorted(entries, key=seen.__getitem__, reverse=True)[:ENOUGH]:
        if seen[k] <= largest:
            break
        # A complex step has no h: it needs no closer look.
        d = closer(found[k], tolerance) if math.isfinite(found[k].h) else found[k]
        if d.resolved and not d.corner and abs(d.slope) > 2 * d.floor:
            largest = max(largest, abs(d.slope))
            break
    return [max(d.v.size, seen[k]) if d.v.index is None else largest for k, d in enumerate(found)]


def together(block: Block, corners: Sequence[Index], tolerance: float) -> list[Finding]:
    """Judge entries at corners as they move together: ties in a max have one derivative then."""
    shape = block.point.shape
    part = np.array([np.ravel_multi_index(index, shape) for index in corners], int)
    line = block.along(np.ones(shape), part)
    found = judge(difference(line, STEP * line.scale), line.size, tolerance)
    return [] if found.ok else [found._replace(status=UNDECIDED, note=TIED, kink=False)]


def beside_corners(block: Block, v: Line, tolerance: float) -> list[Finding]:
    """Judge the parts of a direction that cross no corner, by halves; there are at most `PARTS`."""
    tolerance = max(tolerance, TOLERANCE["central"])
    parts, findings = [np.arange(block.point.size)], []
    for _ in range(PARTS):
        if not parts:
            break
        part = parts.pop(0)
        line = block.along(v.v, part)
        d = difference(line, STEP * line.scale)
        found = judge(d, max(line.size, abs(d.slope)), tolerance)
        if not found.kink:
            findings.append(found)
        elif part.size > 1:
            parts += np.array_split(part, 2)
    return findings


def findings_of(
    block: Block, found: Sequence[Derivative], method: str, tolerance: float
) -> list[Finding]:
    """Judge all lines of a block, the worst first; and where there are corners, some more."""
    sizes, ask = sizes_of(found, tolerance), judge_complex if method == "complex" else judge
    off = [-abs(d.slope - d.v.slope) for d in found]
    findings: list[Finding] = []
    for k in np.argsort(np.nan_to_num(off, nan=-math.inf), kind="stable"):
        d, size = found[k], sizes[k]
        if sum(f.status == WRONG for f in findings) < ENOUGH:
            findings.append(ask(d, size, tolerance))
        else:
            findings.append(compare(d.v, d.slope, size, tolerance * size + d.floor))
    # A direction through a corner moves many entries at once: it tells nothing about any of them.
    crossing = [f.v for f in findings if f.kink and f.v.index is None]
    findings = [f for f in findings if not (f.kink and f.v.index is None)]
    if crossing:
        findings += beside_corners(block, crossing[0], tolerance)
    corners = at_kinks(findings)
    return findings + (together(block, corners, tolerance) if len(corners) > 1 else [])


def at_kinks(findings: Sequence[Finding]) -> list[Index]:
    """Return the entries that pass at a corner, or beside one."""
    return sorted(f.v.index for f in findings if f.kink and f.ok and f.v.index is not None)


def worst_row(block: Block, found: Sequence[Derivative], method: str, tolerance: float) -> Row:
    """Judge the lines of a block, and keep the worst."""
    reads = any(d.moved for d in found) or block.is_read()
    row = partial(
        Row, block.name, block.point.shape, method=method,
        entries=sum(d.v.index is not None for d in found),
    )  # fmt: skip
    if not reads and not block.gradient.any():
        return row(found[0].v.index, 0.0, 0.0, 0.0, status=OK, note=UNREAD)
    findings = findings_of(block, found, method, tolerance)
    worst, kinks = max(findings, key=lambda f: f.badness), at_kinks(findings)
    note = worst.note
    if worst.status == WRONG and not reads:
        note = NOT_READ
    elif note in (CORNER, TIED):
        outside = sorted(f.v.index or () for f in findings if f.note == CORNER)
        named = outside if note == CORNER else kinks
        note = note.format(listed(entry_name(block.name, index) for index in named))
    elif worst.ok and any(f.note == ZERO for f in findings):
        note = ZERO
    elif worst.ok and worst.size and worst.allowed > LENIENT * tolerance * worst.size:
        note = LOOSE.format(worst.allowed / worst.size)
    v, status = worst.v, worst.status
    return row(
        v.index, v.slope, worst.numeric, worst.error, status=status, kinks=tuple(kinks), note=note
    )
