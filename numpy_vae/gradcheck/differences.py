"""Central differences, the start of every numeric check, and what to do where they fail.

For a scalar function f of named arrays θ and a direction v, usually the unit vector of one entry,

    (f(θ + h v) - f(θ - h v)) / 2h  =  ∂f/∂v + O(h²) + O(u |f| / h)

with u = 2⁻⁵² the machine epsilon of float64. h = u^(1/3) max(1, |θ_i|) balances the two errors. The
last term is the rounding of f: four units in the last place or, on a closer look, the scatter of f
over far shorter steps.

**A closer look.** An entry that is off, or whose slopes on the two sides differ, is measured again
with h, 2h and 4h. With c(h) the central difference and s(h) that on one side,

    (4 c(h) - c(2h)) / 3  =  ∂f/∂v + O(h⁴)          2 s(h) - s(2h)  =  ∂f/∂v + O(h²), on its side

If the two sides agree, f is smooth and c counts. If not, h is divided by 8 until they do, and the
kink beside the point is left outside. If they never agree before rounding takes over, the point
itself is at a kink, a *corner*: a gradient between the two slopes passes, as a subgradient. Outside
them the verdict is undecided: several corners may meet here, each of them right alone.

**Zero within rounding.** Where the rounding of f could hide an error of 1 %, h is multiplied by 8,
again and again: rounding weighs less. Where it still could, the complex step decides, if f accepts
complex numbers. If not, and f does not move on the way, a step of the size of θ changes it by less
than its rounding: the derivative is 0 as far as f can tell. A gradient passes there if it is as
small, within that rounding, or 1e-12 of the largest entry of the whole gradient.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .line import ROUNDING, Arrays, Block, Function, Line
from .report import Index

STEP = ROUNDING ** (1 / 3)
BLIND = 0.01  # rounding must not hide an error of this share of a block
LOUD = 1e-9  # of f: no rounding, but float32 or noise
CLOSER, WIDER = 13, 5  # looks, each with an eighth of the step before, or eight times as much


def central_difference(f: Function, arrays: Arrays, name: str, index: Index, h: float) -> float:
    """(f(θ + h) - f(θ - h)) / 2h, where h moves the entry θ = arrays[name][index] alone.

    Arrays are float64; for numbers of size 1 the best step is near h = 6e-6.
    """

    def moved(t: float) -> Arrays:
        array = np.array(arrays[name])  # a copy
        array[index] += t
        return {**arrays, name: array}

    return float(f(moved(h)) - f(moved(-h))) / (2 * h)


class NotComplexError(ValueError):
    """f does not accept complex arrays, which the complex step needs."""


class Derivative(NamedTuple):
    """A numeric derivative along one line."""

    v: Line
    slope: float
    floor: float = 0.0  # a bound on its error; for Taylor, the smallest that shows
    sides: tuple[float, float] = (math.nan, math.nan)  # the slopes on the left and on the right
    moved: bool = True  # f changed, by a bit at least
    corner: bool = False  # the sides differ, at the point itself
    near: bool = False  # they differ beside it
    resolved: bool = True  # the differences have a limit
    noise: float = 0.0  # the rounding of f
    flat: bool = False  # f does not move beyond its rounding, even over wide steps
    nearby: float = 0.0  # the largest slope over steps up to 256 times as wide
    steep: float = 0.0  # the same over the widest steps
    h: float = math.nan  # the step
    order: float = math.nan  # of the Taylor remainder; infinite if none rises above rounding

    @property
    def gap(self) -> float:
        """The difference of the two slopes: shrinks like h on a curve, constant at a kink."""
        return abs(self.sides[1] - self.sides[0])


def difference(v: Line, h: float, noise: float | None = None) -> Derivative:
    """Return the central difference over h, with its rounding and the slopes on both sides."""
    # On a line f is a function of one number t; the point is t = 0.
    slope = central_difference(v.along, {"t": np.array(0.0)}, "t", (), h)
    f, (up, down) = v.f, v.f.last
    largest = max(abs(f.f0), abs(up), abs(down))
    rounding = 4 * ROUNDING * largest if noise is None else max(noise, math.ulp(largest))
    sides = (f.f0 - down) / h, (up - f.f0) / h
    return Derivative(v, slope, rounding / h, sides, moved=not up == f.f0 == down, h=h)


def closer(first: Derivative, tolerance: float) -> Derivative:
    """Return a central difference, after a closer look if it is off or its sides differ."""
    off = not abs(first.slope - first.v.slope) <= tolerance * first.v.size + first.floor
    bent = not first.gap <= 1e-3 * first.v.size + 4 * first.floor
    return look_closer(first, tolerance) if off or bent else first


def look_closer(first: Derivative, tolerance: float) -> Derivative:
    """Return the slope where the two sides agree, with shorter steps if need be; or a corner."""
    v, h, allowed = first.v, first.h, tolerance * first.v.size
    noise = rounding_of(first)
    corner = None
    for k in range(CLOSER):
        seen = look(v, h / 8**k, noise, allowed)
        if not seen.moved and all(first.sides):  # it was too short to move f
            break
        readable = seen.floor <= BLIND * max(v.size, abs(seen.slope), first.gap)
        if seen.resolved and seen.corner:
            corner = corner or seen
        elif seen.resolved and (k == 0 or readable):
            if corner is None or seen.floor < corner.gap / 8:
                return seen._replace(near=k > 0)
            break
    return corner or first._replace(resolved=False)


def central(v: Line, tolerance: float) -> Derivative:
    """Return the central difference along a line, after a closer look where it needs one."""
    return closer(difference(v, STEP * v.scale), tolerance)


class Limit(NamedTuple):
    """The differences over h, 2h and 4h, extrapolated to h = 0, with what tells of their error."""

    slope: float
    spread: float  # distance to the extrapolation from 2h and 4h: O(h⁴)
    sides: tuple[float, float]
    spreads: tuple[float, float]
    over: tuple[Derivative, Derivative, Derivative]  # h, 2h and 4h

    @property
    def floor(self) -> float:
        """The error of the difference over h, from the rounding of f."""
        return self.over[0].floor


def limit(v: Line, h: float, noise: float) -> Limit:
    """Extrapolate the differences to h = 0."""
    c1, c2, c4 = (difference(v, n * h, noise) for n in (1, 2, 4))
    slope, coarse = (4 * c1.slope - c2.slope) / 3, (4 * c2.slope - c4.slope) / 3
    left, right = (2 * fine - far for fine, far in zip(c1.sides, c2.sides, strict=True))
    lefter, righter = (2 * fine - far for fine, far in zip(c2.sides, c4.sides, strict=True))
    spreads = abs(left - lefter), abs(right - righter)
    return Limit(slope, abs(slope - coarse), (left, right), spreads, (c1, c2, c4))


def look(v: Line, h: float, noise: float, allowed: float) -> Derivative:
    """Return the limit of the differences or, at a corner, those on each side."""
    at = limit(v, h, noise)
    seen = Derivative(v, at.slope, sides=at.sides, moved=at.over[0].moved)
    if seen.gap <= allowed + 10 * at.floor:
        agree = at.spread <= allowed + 3 * at.floor
        return seen._replace(floor=1.5 * at.floor + seen.gap / 2, resolved=agree)
    off = max(at.spreads)  # of a corner that is not quite at the point, too
    agree = off <= allowed + 10 * at.floor + 1e-3 * seen.gap
    return seen._replace(floor=5 * at.floor + off, corner=True, resolved=agree)


def rounding_of(d: Derivative) -> float:
    """Return the rounding of f near the point: its scatter, or its least step if it has none."""
    h = STEP * d.v.scale
    return d.v.scatter(h) or d.v.quantum(h)


def widen(near: Derivative) -> Derivative:
    """Return a derivative over wider steps, where rounding weighs less; its floor is all its error.

    It is flat if f moves on none of them beyond its rounding, and else as steep as f gets there. An
    f that scatters by more than rounding can is neither.
    """
    v, h = near.v, STEP * near.v.scale
    noise = max(rounding_of(near), v.scatter(h * 8**WIDER))
    best, nearby, steep, flat = near._replace(h=h), 0.0, 0.0, True
    narrower = [best]
    for k in range(1, WIDER + 1):
        at = limit(v, h * 8**k, noise)
        for c in at.over:
            steepest = max(map(abs, c.sides))
            flat = flat and steepest <= 4 * c.floor
            steep = max(steep, steepest if math.isfinite(steepest) else 0.0)
            nearby = steep if k <= 2 else nearby
        error = 1.5 * at.floor + at.spread + abs(at.sides[1] - at.sides[0]) / 2
        # What the narrower steps are off by is rounding, perhaps more than was measured.
        error = max([error, *(abs(at.slope - d.slope) * d.h / (h * 8**k) for d in narrower)])
        wide = near._replace(slope=at.slope, floor=error, h=h * 8**k)
        if error < best.floor and abs(at.slope - best.slope) <= best.floor + error:
            best = wide
        narrower.append(wide)
    quiet = noise <= LOUD * max(1.0, abs(v.f.f0))
    steep, nearby = steep * quiet, nearby * quiet
    return best._replace(noise=noise, flat=flat and quiet, nearby=nearby, steep=steep)


def check_analytic(block: Block, rng: np.random.Generator) -> None:
    """Refuse an f whose imaginary part is not its derivative, because of an abs or a .real."""
    largest = block.entry(int(np.argmax(np.abs(block.gradient))))
    for v in largest, block.draw(rng), block.draw(rng):
        slope = v.complex_derivative()
        if math.isnan(slope):
            trouble = f"f fails on complex arrays ({block.f.trouble})"
            raise NotComplexError(f"{trouble}, must accept them for the complex step")
        seen: list[float] = []
        for k in range(20):  # ever smaller steps, to pass kinks
            # Terms of size 1 may have cancelled in f, which then has the rounding of 1.
            noise, allowed = 4 * ROUNDING * max(1.0, abs(v.f.f0)), 1e-5 * abs(v.slope)
            d = look(v, STEP * v.scale / 16**k, noise, allowed)
            if d.corner or not d.resolved:
                continue
            if abs(d.slope - slope) <= 1e-5 * abs(d.slope) + 2 * d.floor:
                seen.clear()
                break
            if d.floor > BLIND * abs(d.slope - slope):
                break  # rounding takes over
            seen.append(d.slope)
        # f is refused only if two differences agree.
        if len(seen) > 1 and abs(seen[-1] - seen[-2]) <= 0.1 * abs(seen[-1] - slope):
            raise ValueError(
                f"f is not analytic in {block.name}, must be for the complex step: it gives "
                f"{slope:g} along a direction where differences give {seen[-1]:g} (abs, norm, var, "
                ".real, conj, or a kink at the point?)"
            )
