"""Is this the gradient of that function? Analytic against numeric, a row for each named block.

For a scalar function f of named arrays, an analytic gradient g and a direction v (mostly a unit
vector, which asks for one entry), three methods give the number that g·v is compared with. With
u = 2⁻⁵² the rounding of float64:

**central** differences, of any f,

    (f(θ + h v) - f(θ - h v)) / 2h  =  ∂f/∂v + O(h²) + O(u |f| / h)

with h = u^(1/3) max(1, |θ_i|), where the two errors are of one size. The last is the rounding of f
itself, for which four units are allowed and no more.

**complex** step, of an f that accepts complex arrays and is made of analytic functions [1],

    Im f(θ + i h v) / h  =  ∂f/∂v + O(h²)        with h = 1e-30, so exact to rounding

as nothing is subtracted. ``abs``, ``conj``, ``.real`` and their like end the imaginary part without
a word; f is therefore held against a difference once in each block. A sum that cancels loses digits
here, too: where an entry is off, what rounding θ otherwise makes of it is allowed for, up to a
thousand times the tolerance.

**taylor**: the order in h of the remainder, which needs no step size,

    R(h) = f(θ + h v) - f(θ) - h g·v  =  h (∂f/∂v - g·v) + h² v·∇²f v / 2 + ...

It shrinks like h² when g is right and like h when it is not: log₂ R(h) / R(h/2) must be 1.95 or
more, at the smallest h whose remainder is a thousand times its rounding. The second difference

    f(θ + h v) - 2 f(θ + h v / 2) + f(θ)

knows nothing of g. Where it does not shrink like h² either, there is a kink (relu at 0) on the way,
and another direction is drawn.

An error is measured against the largest entry of its block, so that a block of small gradients is
held to its own size. Where f does not read a block at all, its gradient must be zero to the bit.

At a kink between θ - h v and θ + h v a central difference is the mean of two slopes and neither. An
entry that is off is therefore looked at again. If h, 2h and 4h extrapolate to one value, f is
smooth there, and that value counts. If not, the analytic entry must be what the complex step gives,
which never leaves the point, and near the slope on one side; then it passes, is named, and counted:
more than one in a hundred, and the check fails.

A block of more than `max_entries` entries is checked in a seeded sample of them, its largest among
it, and along random directions through all of the block.

References
----------
[1] J. Martins, P. Sturdza and J. Alonso, "The complex-step derivative approximation", ACM TOMS
    29(3), 2003.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .checks import check_choice, check_real, check_whole
from .params import Array

ROUNDING = float(np.finfo(np.float64).eps)  # u
STEP = ROUNDING ** (1 / 3)
COMPLEX_STEP = 1e-30
MOST_KINKS = 0.01  # of all entries that are looked at
LEAST_ORDER = 1.95
READABLE = 1000  # a remainder is read where it is this many times its rounding
LEVELS = 18  # the remainder is looked at from h = 1e-7 up to 1e-2, doubled each time
READ, DRAWN = 3, 20  # directions that the order is read along, and most that are drawn for it
TOLERANCE = {"central": 1e-6, "complex": 1e-12, "taylor": 0.0}  # the last is judged by its order

Index = tuple[int, ...]
Direction = Index | Array  # one entry, or a vector of the block's shape


@dataclass(frozen=True)
class Row:
    """What the check found in one block: where it agrees worst, and the verdict."""

    name: str
    shape: tuple[int, ...]
    index: Index | None  # the worst entry; None where it is a direction through all of the block
    analytic: float  # its analytic derivative
    numeric: float  # and its numeric one
    error: float  # their distance, over the largest entry of the block (root mean square for None)
    method: str
    ok: bool
    order: float | None = None  # of the Taylor remainder; infinite where f is linear
    kinks: tuple[Index, ...] = ()  # the entries at a kink, confirmed by the complex step
    entries: int = 0  # how many were looked at, one by one
    note: str = ""

    @property
    def verdict(self) -> str:
        """``"ok"`` or ``"FAIL"``."""
        return "ok" if self.ok else "FAIL"

    @property
    def kinks_named(self) -> str:
        """How many entries lie at a kink, and which."""
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
    """One row for each block; the check has passed when `ok`."""

    rows: tuple[Row, ...]
    ok: bool
    note: str = ""  # why the check failed though every row is right

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


def gradcheck(
    f: Callable[[Mapping[str, Array]], Any],
    gradient: Mapping[str, Array],
    arrays: Mapping[str, Array],
    *,
    method: str = "central",
    tolerance: float | None = None,
    step: float = STEP,
    max_entries: int = 256,
    directions: int = 8,
    rng: np.random.Generator | int | None = 0,
) -> Report:
    """Compare an analytic gradient with a numeric one, block by block.

    Parameters
    ----------
    f : callable
        Scalar function of a mapping of names to arrays. It must not draw random numbers. It may
        close over whatever it likes: data, settings, noise.
    gradient : mapping of str to ndarray
        ∂f/∂(array), of the array's shape, for every array that is to be checked.
    arrays : mapping of str to ndarray of float64
        The point. It is copied, never written to.
    method : {"central", "complex", "taylor"}
        Central differences, which also need an f that accepts complex128 where it has kinks; the
        complex step; or the order of the Taylor remainder.
    tolerance : float, optional
        Largest error, relative to the largest entry of the block; 1e-6 for central differences
        (the rounding of f is allowed for besides), 1e-12 for the complex step. The Taylor remainder
        is judged by its order alone.
    step : float
        h of the central difference, relative to max(1, |θ_i|).
    max_entries : int
        Blocks of more entries than this are checked in a sample of as many.
    directions : int
        Random directions through each block that is sampled.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        Draws the sample and the directions; the same at each call by default.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If an array is not float64 (at float32 the rounding of f drowns the difference), a name or a
        shape does not match, a block is empty, or f is no function of its arrays: not finite,
        not a float64 scalar, not the same twice, writing to its arrays, or not analytic where the
        complex step is asked for.

    Examples
    --------
    >>> x = np.array([1.0, 2.0])
    >>> report = gradcheck(lambda a: np.sum(a["x"] ** 3), {"x": 3 * x**2}, {"x": x})
    >>> report.ok
    True
    """
    check_choice("method", method, TOLERANCE)
    check_real("step", step, 0, 1, open_below=True)
    check_whole("max_entries", max_entries, 1, 1 << 40)
    check_whole("directions", directions, 0, 1 << 20)
    tolerance = TOLERANCE[method] if tolerance is None else tolerance
    check_real("tolerance", tolerance, 0, 1, open_below=False)
    line = _Line(f, arrays)
    blocks = {name: np.asarray(block) for name, block in gradient.items()}
    _check_gradient(blocks, line.point)
    generator = np.random.default_rng(rng)
    rows = []
    for name, block in blocks.items():
        if method == "taylor":
            rows.append(_taylor_row(line, name, block, generator))
            continue
        if method == "complex":
            _check_complex(line, name, generator)
        chosen = _choose(block, max_entries, directions, generator)
        rows.append(_row(line, name, block, chosen, method, tolerance, step))
    entries = sum(row.entries for row in rows)
    kinks = sum(len(row.kinks) for row in rows)
    if kinks > MOST_KINKS * entries:
        note = f"FAIL  {kinks} of {entries} entries lie at a kink, must be at most {MOST_KINKS:.0%}"
        return Report(tuple(rows), False, note)
    return Report(tuple(rows), all(row.ok for row in rows))


class _Line:
    """f on the lines θ + t v through one point θ, with t real or imaginary."""

    def __init__(
        self, f: Callable[[Mapping[str, Array]], Any], arrays: Mapping[str, Array]
    ) -> None:
        self.f = f
        self.point = {name: np.array(value) for name, value in arrays.items()}
        for name, value in self.point.items():
            if value.dtype != np.float64:
                raise ValueError(
                    f"{name} has dtype {value.dtype}, must be float64: rounding drowns the "
                    "difference"
                )
        self.f0 = self._value()
        if not math.isfinite(self.f0):
            raise ValueError(f"f is {self.f0} at the point, must be finite")
        if self.f0 != self._value():
            raise ValueError(
                "f gave two values at one point, must be deterministic: pass its noise in"
            )
        for name, value in self.point.items():
            if not np.array_equal(value, arrays[name], equal_nan=True):
                raise ValueError(f"f wrote to {name}, must leave its arrays as they are")
        self._complex_point: dict[str, Array] = {}
        self._check_precision()
        self.noise = self._measure_noise()

    def _value(self) -> float:
        value = np.asarray(self.f(self.point))
        if value.shape != () or value.dtype.kind not in "fiu":
            raise ValueError(
                f"f gave {value.dtype} of shape {value.shape}, must be a real number, of shape ()"
            )
        if value.dtype.kind == "f" and value.dtype.itemsize < 8:
            raise ValueError(
                f"f gave {value.dtype}, must compute in float64: rounding drowns the difference"
            )
        return float(value)

    def at(self, name: str, v: Direction, t: float) -> float:
        """f(θ + t v), v in the block `name`."""
        block = self.point[name]
        if isinstance(v, tuple):
            here = block[v]
            block[v] = here + t
            value = self._value()
            block[v] = here
        else:
            before = block.copy()
            block += t * v
            value = self._value()
            block[...] = before
        return value

    def complex_derivative(self, name: str, v: Direction) -> float:
        """Im f(θ + i h v) / h; NaN when f does not accept complex arrays."""
        if not self._complex_point:
            self._complex_point = {key: value.astype(complex) for key, value in self.point.items()}
        block = self._complex_point[name]
        if isinstance(v, tuple):
            block[v] += 1j * COMPLEX_STEP
        else:
            block += 1j * COMPLEX_STEP * v
        try:
            return float(np.imag(self.f(self._complex_point))) / COMPLEX_STEP
        except (TypeError, ValueError):
            return math.nan
        finally:
            block.imag = 0

    def complex_scatter(self, name: str, v: Direction) -> float:
        """Return how much the complex derivative changes when all entries are rounded otherwise."""
        rng = np.random.default_rng(0)
        here = self.complex_derivative(name, v)
        scatter = 0.0
        for _ in range(4):
            for key, block in self.point.items():
                signs = rng.choice([-2.0, 2.0], block.shape)
                self._complex_point[key].real = block * (1 + ROUNDING * signs)
            scatter = max(scatter, abs(self.complex_derivative(name, v) - here))
        for key, block in self.point.items():
            self._complex_point[key].real = block
        return scatter

    def rounding(self, *values: float) -> float:
        """Return four units in the last place of the largest of f0 and `values`, or the noise."""
        return max(4 * ROUNDING * max(abs(self.f0), *map(abs, values)), self.noise)

    def _beside(self, offsets: Mapping[str, Array]) -> float:
        """f with every array moved at once."""
        before = {name: block.copy() for name, block in self.point.items()}
        for name, block in self.point.items():
            block += offsets[name]
        value = self._value()
        for name, block in self.point.items():
            block[...] = before[name]
        return value

    def _measure_noise(self) -> float:
        """Return how much f scatters over steps so short that it must be a straight line.

        A straight line has no second difference; what is left is rounding. It is more than that of
        the value where f cancels, as a KL divergence near 0 does.
        """
        rng = np.random.default_rng(0)
        signs = {name: rng.choice([-1, 1], block.shape) for name, block in self.point.items()}
        noise = 0.0
        for relative in 16 * ROUNDING, 1e-10:
            step = {name: relative * signs[name] * block for name, block in self.point.items()}
            values = [
                self._beside({name: k * offset for name, offset in step.items()})
                for k in range(-3, 4)
            ]
            noise = max(noise, float(np.abs(np.diff(values, 2)).max()))
        return noise

    def _check_precision(self) -> None:
        """Refuse an f that computes in float32 inside: its values are numbers of float32."""
        rng = np.random.default_rng(0)
        values = {self.f0}
        for _ in range(2):
            # Towards zero, where f is more likely to be defined than beyond the point.
            offsets = {
                name: -1e-3 * rng.random(block.shape) * block for name, block in self.point.items()
            }
            values.add(self._beside(offsets))
        with np.errstate(all="ignore"):
            if len(values) == 3 and all(float(np.float32(value)) == value for value in values):
                raise ValueError(
                    "f computes in float32, must be float64 throughout: rounding drowns the "
                    "difference"
                )


def _check_gradient(gradient: Mapping[str, Array], point: Mapping[str, Array]) -> None:
    if not gradient:
        raise ValueError("the gradient is empty, must have at least one block")
    for name, block in gradient.items():
        if name not in point or block.shape != point[name].shape or block.size == 0:
            raise ValueError(f"the gradient {name} {block.shape} matches no array of that shape")
        if block.dtype.kind == "c" or (block.dtype.kind == "f" and block.dtype.itemsize < 8):
            raise ValueError(
                f"the gradient {name} has dtype {block.dtype}, must be float64, as its array is"
            )


def _choose(
    block: Array, max_entries: int, directions: int, rng: np.random.Generator
) -> list[Direction]:
    """Return all entries of a block; or, of a large one, a sample and some directions."""
    if block.size <= max_entries:
        return list(np.ndindex(block.shape))
    sample = rng.choice(block.size, max_entries, replace=False)
    sample[0] = np.argmax(np.abs(block))  # of a NaN, if there is one
    entries = [tuple(map(int, np.unravel_index(i, block.shape))) for i in np.unique(sample)]
    return [*entries, *(_draw_direction(block, rng) for _ in range(directions))]


def _draw_direction(block: Array, rng: np.random.Generator) -> Array:
    """Return signs over the root of their number: of length 1, and every entry takes part alike."""
    return rng.choice([-1.0, 1.0], block.shape) / math.sqrt(block.size)


def _slope(gradient: Array, v: Direction) -> float:
    """g·v."""
    return float(gradient[v]) if isinstance(v, tuple) else float((gradient * v).sum())


def _size(block: Array, v: Direction) -> float:
    """|θ_i| of an entry, for a direction the root mean square of the block."""
    return float(abs(block[v])) if isinstance(v, tuple) else math.sqrt(float((block**2).mean()))


# --- central differences and the complex step: a derivative along each direction ------------------


class _Found(NamedTuple):
    """A numeric derivative along one direction."""

    slope: float
    floor: float = 0.0  # what the rounding of f makes of it
    moved: bool = True  # f changed by a bit at least
    kink: bool = False
    sides: tuple[float, ...] = ()  # the two one-sided differences


def _difference(line: _Line, name: str, v: Direction, step: float) -> _Found:
    """(f(θ + h v) - f(θ - h v)) / 2h."""
    h = step * max(1.0, _size(line.point[name], v))
    up, down = line.at(name, v, h), line.at(name, v, -h)
    return _Found(
        (up - down) / (2 * h),
        line.rounding(up, down) / h,
        moved=not up == line.f0 == down,
        sides=((up - line.f0) / h, (line.f0 - down) / h),
    )


def _central(
    line: _Line, name: str, v: Direction, step: float, analytic: float, allowed: float
) -> _Found:
    """Return the central difference; where it is off, look again."""
    first = _difference(line, name, v, step)
    if abs(first.slope - analytic) <= allowed + first.floor:
        return first
    # c(h) = ∂f/∂v + a h² + O(h⁴) where f is smooth, so (4 c(h) - c(2h)) / 3 is free of a.
    wide, widest = (_difference(line, name, v, n * step) for n in (2, 4))
    slope = (4 * first.slope - wide.slope) / 3
    floor = (4 * first.floor + wide.floor) / 3
    if abs(slope - (4 * wide.slope - widest.slope) / 3) <= allowed + floor:
        return _Found(slope, floor, first.moved)
    # A kink. The derivative at θ itself is the slope on the side where the kink is not, as near as
    # that can be seen over h; the complex step tells it exactly. (A direction through all of the
    # block may have kinks on both sides.)
    near = min(abs(side - analytic) for side in first.sides) <= 1000 * allowed + 2 * first.floor
    near = near or not isinstance(v, tuple)
    confirmed = line.complex_derivative(name, v)
    if near and abs(confirmed - analytic) <= allowed:
        return _Found(confirmed, kink=True)
    return first


def _complex(
    line: _Line, name: str, v: Direction, step: float, analytic: float, allowed: float
) -> _Found:
    """Return the complex step; where it is off, with what rounding θ otherwise makes of it."""
    slope = line.complex_derivative(name, v)
    if abs(slope - analytic) <= allowed:
        return _Found(slope)
    return _Found(slope, min(line.complex_scatter(name, v), 1000 * allowed))


def _row(
    line: _Line,
    name: str,
    gradient: Array,
    chosen: list[Direction],
    method: str,
    tolerance: float,
    step: float,
) -> Row:
    """Compare g·v with the numeric derivative along each of the chosen directions of one block."""
    one = np.array([isinstance(v, tuple) for v in chosen])  # of one entry, not of all
    finite = gradient[np.isfinite(gradient)]
    largest = float(np.abs(finite).max(initial=0))
    mean = math.sqrt(float((finite**2).sum()) / gradient.size)
    with np.errstate(all="ignore"):  # a gradient that is not finite fails below
        analytic = np.array([_slope(gradient, v) for v in chosen])
        scale = np.where(one, largest, mean)
        measure = _complex if method == "complex" else _central
        found = [
            measure(line, name, v, step, a, tolerance * size)
            for v, a, size in zip(chosen, analytic, scale, strict=True)
        ]
        numeric = np.array([each.slope for each in found])
        # The numeric entries count, too: an analytic block of nothing but zeros has no size.
        size = np.where(np.isfinite(numeric), np.abs(numeric), 0)
        scale = np.where(one, max(largest, size[one].max(initial=0)), np.maximum(mean, size))
        floor = np.array([each.floor for each in found])
        allowed = tolerance * scale + floor
        moved = any(each.moved for each in found)
        must_be_zero = bool(gradient.any()) and not moved and not _reads(line, name)
        if must_be_zero:
            allowed[:] = 0
        distance = np.abs(numeric - analytic)
        error = np.where(distance == 0, 0, distance / scale)
        hidden = float((floor / scale).min()) if largest else 0.0
        excess = np.where(distance == 0, 0, distance / allowed)
    worst = int(np.argmax(excess))  # a NaN is the largest
    v = chosen[worst]
    return Row(
        name=name,
        shape=gradient.shape,
        index=v if isinstance(v, tuple) else None,
        analytic=float(analytic[worst]),
        numeric=float(numeric[worst]),
        error=float(error[worst]),
        method=method,
        ok=bool(excess[worst] <= 1),
        kinks=tuple(
            v for v, each in zip(chosen, found, strict=True) if each.kink and isinstance(v, tuple)
        ),
        entries=int(one.sum()),
        note=_note(must_be_zero, hidden),
    )


def _note(must_be_zero: bool, hidden: float) -> str:
    """Say what no number of the row tells; `hidden` is the error, of 1, that would not be seen."""
    if must_be_zero:
        return "f does not read this block: its gradient must be exactly zero"
    if hidden > 0.01:
        return f"the rounding of f hides errors of {hidden:.0%}: ask for the complex step"
    return ""


def _reads(line: _Line, name: str) -> bool:
    """Whether f depends on a block: it changes by a bit when that is moved far, or has a slope."""
    ones = np.ones(line.point[name].shape)
    if any(line.at(name, ones, t) != line.f0 for t in (-1.0, 0.5, 3.0)):
        return True
    slope = line.complex_derivative(name, _draw_direction(ones, np.random.default_rng(0)))
    return math.isfinite(slope) and slope != 0


def _check_complex(line: _Line, name: str, rng: np.random.Generator) -> None:
    """Refuse an f whose imaginary part is not its derivative, as an abs or a .real makes it."""
    v = _draw_direction(line.point[name], rng)
    slope = line.complex_derivative(name, v)
    if math.isnan(slope):
        raise ValueError("f accepts no complex arrays, must for the complex step")
    seen: list[float] = []
    for n in range(20):  # ever smaller steps, as there may be kinks on the way
        difference = _difference(line, name, v, STEP / 16**n)
        if difference.floor > 1e-3 * abs(difference.slope):
            break  # rounding takes over
        if abs(difference.slope - slope) <= 1e-2 * abs(difference.slope):
            return
        seen.append(difference.slope)
    # With fewer than two differences of one value nothing can be said against f.
    if len(seen) > 1 and abs(seen[-1] - seen[-2]) <= 1e-2 * abs(seen[-1]):
        raise ValueError(
            f"f is not analytic in {name}, must be for the complex step: it gives {slope:g} along "
            f"a direction where a difference gives {seen[-1]:g} (abs, .real, conj?)"
        )


# --- the order of the Taylor remainder ------------------------------------------------------------


def _taylor_row(line: _Line, name: str, gradient: Array, rng: np.random.Generator) -> Row:
    """Read the order of the remainder along three directions; the middle one stands in the row."""
    bent: list[_Reading] = []
    flat: list[_Reading] = []
    for _ in range(DRAWN):
        v = _draw_direction(gradient, rng)
        reading = _read_order(line, name, v, _slope(gradient, v))
        if reading is not None:
            (flat if reading.order == math.inf else bent).append(reading)
        if len(bent) == READ:
            break
    readings = sorted([*bent, *flat][:READ], key=lambda reading: reading.order)
    row = Row(name, gradient.shape, None, math.nan, math.nan, math.nan, "taylor", False, math.nan)
    if not readings:
        return replace(row, note=f"none of {DRAWN} directions is free of kinks")
    order, analytic, numeric, floor, moved = readings[len(readings) // 2]
    must_be_zero = bool(gradient.any()) and not moved and not _reads(line, name)
    scale = max(math.sqrt(float((gradient * gradient).mean())), abs(numeric))
    distance = abs(numeric - analytic)
    hidden = floor / scale if scale and order == math.inf else 0.0
    return replace(
        row,
        analytic=analytic,
        numeric=numeric,
        error=distance / scale if distance else 0.0,
        ok=order >= LEAST_ORDER and not must_be_zero,
        order=order,
        note=_note(must_be_zero, hidden),
    )


class _Reading(NamedTuple):
    """The order of the remainder along one direction, and the derivatives there."""

    order: float  # infinite where no remainder could be read: f is linear there, and so is g
    analytic: float
    numeric: float  # a forward difference, at the h of the reading
    floor: float  # the smallest error of the slope whose remainder could have been read there
    moved: bool


def _read_order(line: _Line, name: str, v: Array, slope: float) -> _Reading | None:
    """Return the order at the smallest h where it can be read; None where a kink comes first."""
    smallest = STEP / 64 * max(1.0, _size(line.point[name], v))
    hs = [smallest * 2**k for k in range(LEVELS)]
    values: list[float] = []
    for k, h in enumerate(hs):
        values.append(line.at(name, v, h))
        # Second differences over h/4, h/2 and h, which know nothing of the slope.
        bends = [abs(values[j] - 2 * values[j - 1] + line.f0) for j in range(max(1, k - 2), k + 1)]
        if k >= 3 and bends[0] > READABLE * line.rounding(values[k]):
            if not (
                all(bends) and all(1.97 <= math.log2(b / a) <= 3.1 for a, b in pairwise(bends))
            ):
                k -= 3  # up to here no bend was to be seen
            break
    else:
        k -= 2
    if k < 1:
        return None
    rounding = line.rounding(*values[: k + 1])
    remainders = [abs(f - line.f0 - h * slope) for f, h in zip(values, hs, strict=False)][: k + 1]
    order, j = math.inf, k
    for j in range(1, k + 1):
        if not remainders[j - 1] <= READABLE * rounding:
            order = math.log2(remainders[j] / remainders[j - 1]) if remainders[j] else -math.inf
            break
    moved = any(value != line.f0 for value in values)
    return _Reading(order, slope, (values[j] - line.f0) / hs[j], READABLE * rounding / hs[j], moved)
