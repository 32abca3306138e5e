"""Central differences, the start of every numeric check, and what to do where they fail.

For a scalar function f of named arrays θ and a direction v, usually the unit vector of one entry,

    (f(θ + h v) - f(θ - h v)) / 2h  =  ∂f/∂v + O(h²) + O(u |f| / h)

with u = 2⁻⁵² the machine epsilon of float64. h = u^(1/3) max(1, |θ_i|) balances the two errors. The
last term is the rounding of f. Four units in the last place are allowed or, on a second look, the
scatter of f over far shorter steps, if larger. Where rounding could hide an error of 1 %, the
complex step decides; if f does not accept complex numbers, the block fails.

Across a kink the central difference is the mean of two slopes. So if a line is off, or its slopes
on the two sides differ, it gets a second look. If h, 2h and 4h extrapolate to one value, f is
smooth and that value counts. If the analytic value agrees with the complex step, which never leaves
the point, and is near the slope on one side, the entry passes *at a kink*: it is named and counted.
Otherwise h is reduced.

The **complex step** is derived in `line`. ``abs``, ``conj``, ``.real`` and the like silently drop
the imaginary part, so in each block f is compared with differences. Where a line is off, θ is
rounded differently, and the resulting change is allowed, up to a thousand times the tolerance: a
sum that cancels loses digits here, too.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from .line import ROUNDING, Arrays, Block, Function, Line
from .report import BLIND, HIDDEN, NOT_READ, Index, Row

STEP = ROUNDING ** (1 / 3)


def central_difference(f: Function, arrays: Arrays, name: str, index: Index, h: float) -> float:
    """(f(θ + h) - f(θ - h)) / 2h, where h moves the entry θ = arrays[name][index] alone.

    Arrays are float64; for numbers of size 1 the best step is near h = 6e-6.
    """

    def moved(t: float) -> Arrays:
        array = np.array(arrays[name])  # a copy
        array[index] += t
        return {**arrays, name: array}

    return float(f(moved(h)) - f(moved(-h))) / (2 * h)


class Derivative(NamedTuple):
    """A numeric derivative along one line."""

    v: Line
    slope: float
    floor: float = 0.0  # its error from the rounding of f
    moved: bool = True  # f changed, by a bit at least
    kink: bool = False
    sides: tuple[float, float] = (math.nan, math.nan)  # the two one-sided differences
    order: float = math.nan  # of the Taylor remainder; infinite where f is linear and g right

    @property
    def bend(self) -> float:
        """The difference of the two slopes: shrinks like h on a curve, constant at a kink."""
        return abs(self.sides[0] - self.sides[1])


def difference(v: Line, h: float, noise: float = 0.0) -> Derivative:
    """Return the central difference over h, with its rounding and the slopes on both sides."""
    # On a line f is a function of one number t; the point is t = 0.
    slope = central_difference(v.along, {"t": np.array(0.0)}, "t", (), h)
    f, (up, down) = v.f, v.f.last
    floor, sides = max(f.rounding(up, down), noise) / h, ((up - f.f0) / h, (f.f0 - down) / h)
    return Derivative(v, slope, floor, moved=not up == f.f0 == down, sides=sides)


def extrapolate(v: Line, h: float, noise: float, allowed: float) -> Derivative | None:
    """Return the limit of the differences over h, 2h and 4h, or None if they do not agree on one.

    Where f is smooth, c(h) = ∂f/∂v + a h² + O(h⁴), and (4 c(h) - c(2h)) / 3 cancels a.
    """
    c1, c2, c4 = (difference(v, n * h, noise) for n in (1, 2, 4))
    slope, floor = (4 * c1.slope - c2.slope) / 3, (4 * c1.floor + c2.floor) / 3
    agree = abs(slope - (4 * c2.slope - c4.slope) / 3) <= allowed + floor
    return Derivative(v, slope, floor, c1.moved) if agree else None


def central(v: Line, step: float, tolerance: float) -> Derivative:
    """Return the central difference, after a second look where it is off or f bends."""
    h, allowed = step * v.scale, tolerance * v.size
    first = difference(v, h)
    off = not abs(first.slope - v.slope) <= allowed + first.floor
    bends = first.bend > 1e-3 * v.size + 4 * first.floor
    # The bend of a curve grows like h, that of a nearby kink does not.
    kinked = bends and not difference(v, 2 * h).bend > 1.5 * first.bend
    if not off and not kinked:
        return first
    noise = v.scatter(h)
    if not kinked:
        smooth = extrapolate(v, h, noise, allowed)
        if smooth is not None:
            return smooth
    # A kink. The derivative at θ is the slope on the side without the kink: approximately over h,
    # exactly by the complex step.
    confirmed = v.complex_derivative()
    near = v.follows_a_side(first.sides, 1e-3 * v.size + 2 * first.floor)
    if near and abs(confirmed - v.slope) <= allowed:
        return Derivative(v, confirmed, kink=True)
    if not off:  # exactly at the kink, where the mean of the two slopes is not a derivative
        slope = confirmed if math.isfinite(confirmed) else first.sides[0]
        return Derivative(v, slope, first.floor)
    for narrower in 8, 64, 512:
        smooth = extrapolate(v, h / narrower, noise, allowed)
        if smooth is not None:  # the kink is outside, or the curve is resolved
            return smooth._replace(kink=math.isnan(confirmed))
    return first


def complex_step(v: Line, tolerance: float) -> Derivative:
    """Return the complex step; where it is off, with its scatter as θ is rounded differently."""
    slope, allowed = v.complex_derivative(), tolerance * v.size
    if abs(slope - v.slope) <= allowed:
        return Derivative(v, slope)
    return Derivative(v, slope, min(v.complex_scatter(), 1000 * allowed))


def check_analytic(block: Block, rng: np.random.Generator) -> None:
    """Refuse an f whose imaginary part is not its derivative, because of an abs or a .real."""
    largest = block.entry(int(np.argmax(np.abs(block.gradient))))
    for v in largest, block.draw(rng), block.draw(rng):
        slope = v.complex_derivative()
        if math.isnan(slope):
            trouble = f"f fails on complex arrays ({block.f.trouble})"
            raise ValueError(f"{trouble}, must accept them for the complex step")
        seen: list[float] = []
        for k in range(20):  # ever smaller steps, to pass kinks
            # Terms of size 1 may have cancelled in f, which then has the rounding of 1.
            d = extrapolate(v, STEP * v.scale / 16**k, 4 * ROUNDING, math.inf)
            if d is None:
                break
            if abs(d.slope - slope) <= 1e-5 * abs(d.slope) + 2 * d.floor:
                seen.clear()
                break
            if d.floor > 1e-5 * abs(d.slope):
                break  # rounding takes over
            seen.append(d.slope)
        # f is refused only if two differences agree.
        if len(seen) > 1 and abs(seen[-1] - seen[-2]) <= 1e-3 * abs(seen[-1]):
            raise ValueError(
                f"f is not analytic in {block.name}, must be for the complex step: it gives "
                f"{slope:g} along a direction where differences give {seen[-1]:g} (abs, norm, var, "
                ".real, conj, or a kink at the point?)"
            )


def worst_row(block: Block, found: list[Derivative], method: str, tolerance: float) -> Row:
    """Compare g·v with the numeric derivatives, and keep the worst."""
    reads = any(d.moved for d in found) or block.is_read()
    must_be_zero = bool(block.gradient.any()) and not reads
    columns = np.array([(d.v.slope, d.slope, d.floor, d.v.size) for d in found]).T
    analytic, numeric, floor, size = columns
    # The numeric entries count too: an analytic block of zeros has no size.
    one = np.array([d.v.index is not None for d in found])  # along one entry, not a direction
    seen = np.where(np.isfinite(numeric), np.abs(numeric), 0)
    size = np.maximum(size, np.where(one, seen[one].max(initial=0), seen))
    blind = np.zeros(len(found), bool)
    if method == "central" and not must_be_zero:
        for k in np.flatnonzero((floor > BLIND * size) & (reads | (analytic != 0))):
            confirmed = found[k].v.complex_derivative()
            blind[k] = math.isnan(confirmed)
            if not blind[k]:
                numeric[k], floor[k] = confirmed, 0.0
    distance = np.abs(numeric - analytic)
    error = np.where(distance == 0, 0, distance / size)
    allowed = 0 if must_be_zero else tolerance * size + floor
    excess = np.where(distance == 0, 0, distance / allowed)
    excess[blind] = math.inf
    worst = int(np.argmax(excess))  # a NaN is the largest
    values = [float(column[worst]) for column in (analytic, numeric, error)]
    ok, note = bool(excess[worst] <= 1), NOT_READ if must_be_zero else HIDDEN if blind.any() else ""
    if not (ok or note) and max(block.largest, seen.max()) < 1e-13 * max(1.0, abs(block.f.f0)):
        note = "this block is as small as rounding: it may be zero"
    row = partial(Row, block.name, block.point.shape, found[worst].v.index, method=method, ok=ok)
    kinks = tuple(d.v.index for d in found if d.kink and d.v.index is not None)
    return row(*values, kinks=kinks, entries=int(one.sum()), note=note)
