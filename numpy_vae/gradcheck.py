"""Is this the gradient of that function? Analytic against numeric, a row for each named block.

The idea is `central_difference`, below. All the rest decides how far its number can be believed.

For a scalar function f of named arrays, an analytic gradient g and a direction v (mostly a unit
vector, which asks for one entry), three methods give the number that g·v is compared with. With
u = 2⁻⁵² the machine epsilon of float64:

**central** differences, of any f,

    (f(θ + h v) - f(θ - h v)) / 2h  =  ∂f/∂v + O(h²) + O(u |f| / h)

with h = u^(1/3) max(1, |θ_i|), where the two errors are of one size. The last is the rounding of f
itself, for which four units are allowed, or what f is seen to scatter over far shorter steps (more
than its value tells, where f cancels).

**complex** step, of an f that accepts complex arrays and is made of analytic functions [1],

    Im f(θ + i h v) / h  =  ∂f/∂v + O(h²)        with h = 1e-30, so exact to rounding

as nothing is subtracted. ``abs``, ``conj``, ``.real`` and their like end the imaginary part without
a word; f is therefore held against differences in each block. A sum that cancels loses digits here,
too: where an entry is off, what rounding θ otherwise makes of it is allowed for, up to a thousand
times the tolerance.

**taylor**: the order in h of the remainder, which needs no step size,

    R(h) = f(θ + h v) - f(θ) - h g·v  =  h (∂f/∂v - g·v) + h² v·∇²f v / 2 + ...

It shrinks like h² when g is right and like h when it is not: log₂ (R(h) / R(h/2)) must be 1.95 or
more, at the smallest h whose remainder is a thousand times its rounding; along three directions
through all of the block, each of them there and back, as the two terms may cancel one way. The
second difference

    f(θ + h v) - 2 f(θ + h v / 2) + f(θ)

knows nothing of g. Where it does not shrink like h² either, there is a kink (relu at 0) on the way,
and another direction is drawn.

An error is measured against the largest entry of its block, so that a block of small gradients is
held to its own size. Where f does not read a block at all, its gradient must be zero to the bit.
Where rounding would hide an error of a hundredth, the complex step is asked instead, and if f knows
no complex numbers the block fails: what cannot be seen is not right.

Between θ - h v and θ + h v there may be a kink, and the central difference is the mean of two
slopes and neither. An entry that is off, or whose slopes on the two sides differ, is therefore
looked at again. If h, 2h and 4h extrapolate to one value, f is smooth, and that value counts. If
the analytic entry is what the complex step gives, which never leaves the point, and near the slope
on one side, it passes at a kink: it is named, and counted, and with more than one such entry in a
hundred the check fails. Else h is made smaller.

A block of more than `max_entries` entries is checked, but for the Taylor remainder, in a seeded
sample of them, its largest among it, and along random directions through all of the block.

References
----------
[1] J. Martins, P. Sturdza and J. Alonso, "The complex-step derivative approximation", ACM TOMS
    29(3), 2003.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .checks import check_choice, check_real, check_whole
from .params import Array

Index = tuple[int, ...]


def central_difference(
    f: Callable[[Mapping[str, Array]], float],
    arrays: Mapping[str, Array],
    name: str,
    index: Index,
    h: float,
) -> float:
    """(f(θ + h) - f(θ - h)) / 2h, where h moves the one entry arrays[name][index].

    Parameters
    ----------
    f : callable
        Scalar function of a mapping of names to arrays.
    arrays : mapping of str to ndarray of float64
        The point θ. It is not written to.
    name, index : str, tuple of int
        Which entry of which array.
    h : float
        The step; 6e-6 is near the best for numbers of size 1.

    Returns
    -------
    float
        ∂f/∂arrays[name][index], up to O(h²) and the rounding of f over h.
    """

    def moved(t: float) -> dict[str, Array]:
        array = np.array(arrays[name])  # a copy
        array[index] += t
        return {**arrays, name: array}

    return (f(moved(h)) - f(moved(-h))) / (2 * h)


ROUNDING = float(np.finfo(np.float64).eps)  # u
STEP = ROUNDING ** (1 / 3)
COMPLEX_STEP = 1e-30
MOST_KINKS = 0.01  # of all entries that are looked at
BLIND = 0.01  # an error of this share of a block must not be hidden by rounding
LEAST_ORDER = 1.95
READABLE = 1000  # a remainder is read where it is this many times its rounding
LEVELS = 18  # the remainder is looked at from h = 1e-7 up to 1e-2, doubled each time
READ, DRAWN = 3, 20  # directions that the order is read along, and most that are drawn for it
TOLERANCE = {"central": 1e-6, "complex": 1e-12, "taylor": 0.0}  # the last is judged by its order

NOT_READ = "f does not read this block: its gradient must be exactly zero"
HIDDEN = (
    "the rounding of f hides this derivative: let f accept complex arrays, or drop its large "
    "constants"
)

Direction = Index | Array  # one entry, or a vector of the block's shape


@dataclass(frozen=True)
class Row:
    """What the check found in one block: where it agrees worst, and the verdict."""

    name: str
    shape: tuple[int, ...]
    index: Index | None  # the worst entry; None where it is a direction through all of the block
    analytic: float  # its analytic derivative
    numeric: float  # and its numeric one
    error: float  # their distance, over the largest entry of the block, analytic or numeric (for
    # None over the root mean square of the block)
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
    blocks = _check_gradient(gradient, arrays)
    line = _Line(f, arrays, blocks)
    generator = np.random.default_rng(rng)
    rows = []
    for name, block in blocks.items():
        if method == "taylor":
            rows.append(_taylor_row(line, name, block, generator))
        else:
            chosen = _choose(block, max_entries, directions, generator)
            if method == "complex":
                _check_complex(line, name, block, generator)
            rows.append(_row(line, name, block, chosen, method, tolerance, step))
        line.ask_again()
    entries = sum(row.entries for row in rows)
    kinks = sum(len(row.kinks) for row in rows)
    if kinks > MOST_KINKS * entries:
        note = f"FAIL  {kinks} of {entries} entries lie at a kink, must be at most {MOST_KINKS:.0%}"
        return Report(tuple(rows), False, note)
    return Report(tuple(rows), all(row.ok for row in rows))


def _check_gradient(gradient: Mapping[str, Array], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the blocks of the gradient as float64, or refuse them."""
    if not gradient:
        raise ValueError("the gradient is empty, must have at least one block")
    blocks = {}
    for name, values in gradient.items():
        if name not in arrays:
            raise ValueError(
                f"the gradient {name} has no array, must be one of {', '.join(arrays)}"
            )
        block, array = np.asarray(values), np.asarray(arrays[name])
        for what, dtype in (f"the gradient {name}", block.dtype), (name, array.dtype):
            if dtype.kind == "f" and dtype.itemsize < 8:
                raise ValueError(
                    f"{what} has dtype {dtype}, must be float64: rounding drowns the difference"
                )
        if block.dtype.kind not in "fiub":
            raise ValueError(f"the gradient {name} has dtype {block.dtype}, must be float64")
        if array.dtype != np.float64:
            raise ValueError(f"{name} has dtype {array.dtype}, must be float64 to be moved")
        if block.shape != array.shape:
            raise ValueError(
                f"the gradient {name} has shape {block.shape}, must be that of its array, "
                f"{array.shape}"
            )
        if block.size == 0:
            raise ValueError(f"the gradient {name} has no entries, must have at least one")
        blocks[name] = block.astype(np.float64)
    return blocks


class _Line:
    """f on the lines θ + t v through one point θ, with t real or imaginary."""

    def __init__(
        self,
        f: Callable[[Mapping[str, Array]], Any],
        arrays: Mapping[str, Array],
        names: Iterable[str],
    ) -> None:
        self.f = f
        self.point = {name: np.array(value) for name, value in arrays.items()}
        self.f0 = self._value(self.point)
        self.last = self.f0, self.f0  # the values of the last two calls
        self.trouble = ""  # what f last had to say to complex arrays
        if not math.isfinite(self.f0):
            raise ValueError(f"f is {self.f0} at the point, must be finite")
        for name, value in self.point.items():
            if not np.array_equal(value, arrays[name], equal_nan=value.dtype.kind in "fc"):
                raise ValueError(f"f wrote to {name}, must leave its arrays as they are")
        self.ask_again()
        for name in names:
            self._check_precision(name)
        # Arrays that are not of real numbers (labels, masks) stay what they are.
        self._complex_point = {
            name: value.astype(complex) if value.dtype.kind == "f" else value
            for name, value in self.point.items()
        }

    def __call__(self, arrays: Mapping[str, Array]) -> float:
        """f(arrays); NaN or infinite where f is not defined."""
        with np.errstate(all="ignore"):
            value = self._value(arrays)
        self.last = self.last[1], value
        return value

    def _value(self, arrays: Mapping[str, Array]) -> float:
        value = np.asarray(self.f(arrays))
        if value.shape != () or value.dtype.kind not in "fiu":
            raise ValueError(
                f"f gave {value.dtype} of shape {value.shape}, must be a real number, of shape ()"
            )
        if value.dtype.kind == "f" and value.dtype.itemsize < 8:
            raise ValueError(
                f"f gave {value.dtype}, must compute in float64: rounding drowns the difference"
            )
        return float(value)

    def ask_again(self) -> None:
        """Refuse an f that has another value than before."""
        if self.f0 != self._value(self.point):
            raise ValueError(
                "f gave two values at one point, must be deterministic: pass its noise in"
            )

    def at(self, name: str, v: Direction, t: float) -> float:
        """f(θ + t v), v in the block `name`."""
        block = self.point[name]
        before = block[v] if isinstance(v, tuple) else block.copy()
        try:
            if isinstance(v, tuple):
                block[v] += t
            else:
                block += t * v
            return self(self.point)
        finally:
            block[v if isinstance(v, tuple) else ...] = before

    def complex_derivative(self, name: str, v: Direction) -> float:
        """Im f(θ + i h v) / h; NaN when f does not accept complex arrays."""
        block = self._complex_point[name]
        if isinstance(v, tuple):
            block[v] += 1j * COMPLEX_STEP
        else:
            block += 1j * COMPLEX_STEP * v
        self.trouble = "it is nan on them"
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                return float(np.imag(self.f(self._complex_point))) / COMPLEX_STEP
        except Exception as error:  # whatever an f of real numbers has to say to complex ones
            self.trouble = " ".join(f"{type(error).__name__}: {error}".split())
            return math.nan
        finally:
            block.imag = 0

    def complex_scatter(self, name: str, v: Direction) -> float:
        """Return how much the complex derivative changes when all of θ is rounded otherwise."""
        rng = np.random.default_rng(0)
        here = self.complex_derivative(name, v)
        real = {key: block for key, block in self.point.items() if block.dtype.kind == "f"}
        there = []
        for _ in range(8):
            for key, block in real.items():
                units = rng.choice([-2, 2], block.shape)
                self._complex_point[key].real = block * (1 + ROUNDING * units)
            there.append(self.complex_derivative(name, v))
        for key, block in real.items():
            self._complex_point[key].real = block
        return max(abs(slope - here) for slope in there)

    def rounding(self, *values: float) -> float:
        """Return four units in the last place of the largest of f0 and `values`."""
        return 4 * ROUNDING * max(abs(self.f0), *map(abs, values))

    def scatter(self, name: str, v: Direction, h: float) -> float:
        """Return how much f scatters over steps so short that it must be a straight line.

        Where what is seen shrinks like the square of the steps, it was a curve yet: closer.
        """
        noise = self._bends(name, v, h)
        for _ in range(6):
            h /= 16
            closer = self._bends(name, v, h)
            if not noise / 1000 < closer < noise / 60:
                break
            noise = closer
        return noise

    def _bends(self, name: str, v: Direction, h: float) -> float:
        """Return how far f lies above the straight line through a point's two neighbours.

        The two largest are left out: a jump makes as many, and it is no rounding.
        """
        ts = h / 2000 * np.sort(np.random.default_rng(0).uniform(-1, 1, 13))  # at odd distances
        values = np.array([self.at(name, v, float(t)) for t in ts])
        share = (ts[1:-1] - ts[:-2]) / (ts[2:] - ts[:-2])
        above = values[1:-1] - (1 - share) * values[:-2] - share * values[2:]
        return 2 * float(np.sort(np.abs(above))[-3])

    def _check_precision(self, name: str) -> None:
        """Refuse an f that computes in float32 inside: its values are numbers of float32."""
        block = self.point[name]
        # Towards zero, where f is more likely to be defined than beyond the point.
        nearer = -1e-3 * np.random.default_rng(0).random(block.shape) * block
        values = {self.f0, self.at(name, nearer, 1.0), self.at(name, nearer, 0.7)}
        with np.errstate(all="ignore"):
            single = all(float(np.float32(value)) == value for value in values)
            # Where f has cancelled, a few units of float64 are left, which float32 can hold, too.
            if len(values) == 3 and single and abs(self.f0) > 1e-9:
                raise ValueError(
                    "f has no more digits than float32, must be computed in float64 throughout: "
                    "rounding drowns the difference"
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
    """Return a random direction of length 1 through all of the block."""
    v = rng.standard_normal(block.shape)  # of unequal sizes, so that equal errors do not cancel
    return v / math.sqrt(float((v * v).sum()))


def _slope(gradient: Array, v: Direction) -> float:
    """g·v."""
    if isinstance(v, tuple):
        return float(gradient[v])
    with np.errstate(all="ignore"):  # of a gradient that is not finite
        return float((gradient * v).sum())


def _root_mean_square(block: Array) -> float:
    """Of the finite entries, without overflow."""
    finite = np.abs(block[np.isfinite(block)])
    largest = float(finite.max(initial=0))
    return (
        largest * math.sqrt(float(((finite / largest) ** 2).sum()) / block.size) if largest else 0
    )


def _step_along(line: _Line, name: str, v: Direction) -> float:
    """max(1, |θ_i|), for a direction max(1, root mean square of θ)."""
    block = line.point[name]
    return max(1.0, float(abs(block[v])) if isinstance(v, tuple) else _root_mean_square(block))


# --- central differences and the complex step: a derivative along each direction ------------------


class _Found(NamedTuple):
    """A numeric derivative along one direction."""

    slope: float
    floor: float = 0.0  # what the rounding of f makes of it
    moved: bool = True  # f changed by a bit at least
    kink: bool = False
    sides: tuple[float, float] = (math.nan, math.nan)  # the two one-sided differences

    @property
    def bend(self) -> float:
        """The difference of the two slopes: like h where f is a curve, constant at a kink."""
        return abs(self.sides[0] - self.sides[1])


def _difference(line: _Line, name: str, v: Direction, h: float, noise: float = 0.0) -> _Found:
    """(f(θ + h v) - f(θ - h v)) / 2h."""
    if isinstance(v, tuple):
        slope = central_difference(line, line.point, name, v, h)
    else:
        slope = (line.at(name, v, h) - line.at(name, v, -h)) / (2 * h)
    up, down = line.last
    return _Found(
        slope,
        max(line.rounding(up, down), noise) / h,
        moved=not up == line.f0 == down,
        sides=((up - line.f0) / h, (line.f0 - down) / h),
    )


def _extrapolate(
    line: _Line, name: str, v: Direction, h: float, noise: float, allowed: float
) -> _Found | None:
    """Return the limit of the differences over h, 2h and 4h, or None if they have none in common.

    The difference is c(h) = ∂f/∂v + a h² + O(h⁴) where f is smooth: (4 c(h) - c(2h)) / 3 is free
    of a.
    """
    c1, c2, c4 = (_difference(line, name, v, n * h, noise) for n in (1, 2, 4))
    slope, floor = (4 * c1.slope - c2.slope) / 3, (4 * c1.floor + c2.floor) / 3
    if abs(slope - (4 * c2.slope - c4.slope) / 3) <= allowed + floor:
        return _Found(slope, floor, c1.moved)
    return None


def _central(
    line: _Line,
    name: str,
    v: Direction,
    step: float,
    analytic: float,
    size: float,
    tolerance: float,
) -> _Found:
    """Return the central difference; where it is off, or f bends, look again."""
    h, allowed = step * _step_along(line, name, v), tolerance * size
    first = _difference(line, name, v, h)
    off = not abs(first.slope - analytic) <= allowed + first.floor
    bends = first.bend > 1e-3 * size + 4 * first.floor
    # The bend of a curve grows like h, that of a kink close by does not.
    kinked = bends and not _difference(line, name, v, 2 * h).bend > 1.5 * first.bend
    if not off and not kinked:
        return first
    noise = line.scatter(name, v, h)
    if not kinked:
        smooth = _extrapolate(line, name, v, h, noise, allowed)
        if smooth is not None:
            return smooth
    # A kink. The derivative at θ itself is the slope on the side where the kink is not, as near as
    # that can be seen over h; the complex step tells it exactly. (A direction through all of the
    # block may have kinks on both sides.)
    confirmed = line.complex_derivative(name, v)
    near = min(abs(side - analytic) for side in first.sides) <= 1e-3 * size + 2 * first.floor
    if abs(confirmed - analytic) <= allowed and (near or not isinstance(v, tuple)):
        return _Found(confirmed, kink=True)
    if not off:  # right on the kink, and the mean of its two slopes is the derivative of nothing
        return _Found(confirmed if math.isfinite(confirmed) else first.sides[0], first.floor)
    for narrower in 8, 64, 512:
        smooth = _extrapolate(line, name, v, h / narrower, noise, allowed)
        if smooth is not None:  # a kink is left outside, or a curve resolved
            return smooth._replace(kink=math.isnan(confirmed))
    return first


def _complex(
    line: _Line,
    name: str,
    v: Direction,
    step: float,
    analytic: float,
    size: float,
    tolerance: float,
) -> _Found:
    """Return the complex step; where it is off, with what rounding θ otherwise makes of it."""
    slope, allowed = line.complex_derivative(name, v), tolerance * size
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
    largest = float(np.abs(gradient[np.isfinite(gradient)]).max(initial=0))
    scale = np.where(one, largest, _root_mean_square(gradient))
    analytic = np.array([_slope(gradient, v) for v in chosen])
    measure = _complex if method == "complex" else _central
    found = [
        measure(line, name, v, step, slope, size, tolerance)
        for v, slope, size in zip(chosen, analytic, scale, strict=True)
    ]
    must_be_zero = _must_be_zero(line, name, gradient, any(each.moved for each in found))
    numeric = np.array([each.slope for each in found])
    floor = np.array([each.floor for each in found])
    # The numeric entries count, too: an analytic block of nothing but zeros has no size.
    seen = np.where(np.isfinite(numeric), np.abs(numeric), 0)
    scale = np.where(one, max(largest, seen[one].max(initial=0)), np.maximum(scale, seen))
    blind = np.zeros(len(chosen), bool)
    if method == "central" and not must_be_zero:
        reads = any(each.moved for each in found) or _reads(line, name)
        for k in np.flatnonzero((floor > BLIND * scale) & (reads | (analytic != 0))):
            confirmed = line.complex_derivative(name, chosen[k])
            blind[k] = math.isnan(confirmed)
            if not blind[k]:
                numeric[k], floor[k] = confirmed, 0.0
    with np.errstate(all="ignore"):  # a gradient that is not finite, or too large, fails
        distance = np.abs(numeric - analytic)
        error = np.where(distance == 0, 0, distance / scale)
        allowed = 0 if must_be_zero else tolerance * scale + floor
        excess = np.where(distance == 0, 0, distance / allowed)
    excess[blind] = math.inf
    worst = int(np.argmax(excess))  # a NaN is the largest
    v, tiny = chosen[worst], ""
    if not excess[worst] <= 1 and max(largest, seen.max()) < 1e-13 * max(1.0, abs(line.f0)):
        tiny = "all of this block is as small as rounding: it may be zero"
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
        note=NOT_READ if must_be_zero else HIDDEN if blind.any() else tiny,
    )


def _must_be_zero(line: _Line, name: str, gradient: Array, moved: bool) -> bool:
    """Whether a gradient that is not zero belongs to a block that f does not read."""
    return bool(gradient.any()) and not moved and not _reads(line, name)


def _reads(line: _Line, name: str) -> bool:
    """Whether f depends on a block: it changes by a bit when that is moved far, or has a slope."""
    ones = np.ones(line.point[name].shape)
    if any(line.at(name, ones, t) != line.f0 for t in (-1.0, 0.5, 3.0, -30.0, 30.0)):
        return True
    slope = line.complex_derivative(name, _draw_direction(ones, np.random.default_rng(0)))
    return math.isfinite(slope) and slope != 0


def _check_complex(line: _Line, name: str, gradient: Array, rng: np.random.Generator) -> None:
    """Refuse an f whose imaginary part is not its derivative, as an abs or a .real makes it."""
    largest = np.unravel_index(int(np.argmax(np.abs(gradient))), gradient.shape)
    directions: list[Direction] = [tuple(map(int, largest))]
    directions += [_draw_direction(gradient, rng) for _ in range(2)]
    for v in directions:
        slope = line.complex_derivative(name, v)
        if math.isnan(slope):
            raise ValueError(
                f"f fails on complex arrays ({line.trouble}), must accept them for the complex step"
            )
        h = STEP * _step_along(line, name, v)
        seen: list[float] = []
        for _ in range(20):  # ever smaller steps, as there may be kinks on the way
            # Terms of size 1 may have cancelled in f, so that it is rounded as 1 is.
            difference = _extrapolate(line, name, v, h, 4 * ROUNDING, math.inf)
            if difference is None:
                break
            near = 1e-5 * abs(difference.slope) + 2 * difference.floor
            if abs(difference.slope - slope) <= near:
                seen.clear()
                break
            if difference.floor > 1e-5 * abs(difference.slope):
                break  # rounding takes over
            seen.append(difference.slope)
            h /= 16
        # With fewer than two differences of one value nothing can be said against f.
        if len(seen) > 1 and abs(seen[-1] - seen[-2]) <= 1e-3 * abs(seen[-1]):
            raise ValueError(
                f"f is not analytic in {name}, must be for the complex step: it gives {slope:g} "
                f"along a direction where differences give {seen[-1]:g} (abs, norm, var, .real, "
                "conj, or a kink at the point?)"
            )


# --- the order of the Taylor remainder ------------------------------------------------------------


class _Reading(NamedTuple):
    """The order of the remainder along one direction, and the derivatives there."""

    order: float  # infinite where no remainder could be read: f is linear there, and so is g
    v: Array
    analytic: float
    numeric: float  # a forward difference, at the h of the reading
    floor: float  # the smallest error of the slope whose remainder could have been read there
    moved: bool


def _taylor_row(line: _Line, name: str, gradient: Array, rng: np.random.Generator) -> Row:
    """Read the order along three directions and back; the worst of them stands in the row."""
    both: list[_Reading] = []
    one_way: list[_Reading] = []  # there is a kink on the other
    v = _draw_direction(gradient, rng)
    noise = line.scatter(name, v, STEP * _step_along(line, name, v))
    for _ in range(DRAWN):
        v = _draw_direction(gradient, rng)
        ways = [_read_order(line, name, way, _slope(gradient, way), noise) for way in (v, -v)]
        readings = [way for way in ways if way is not None]
        if readings:
            found = both if len(readings) == 2 else one_way
            found.append(min(readings, key=lambda reading: reading.order))
        if len(both) == READ:
            break
    row = Row(name, gradient.shape, None, math.nan, math.nan, math.nan, "taylor", False, math.nan)
    if not both and not one_way:
        return replace(row, note=f"none of {DRAWN} directions is free of kinks")
    worst = min([*both, *one_way][:READ], key=lambda reading: reading.order)
    must_be_zero = _must_be_zero(line, name, gradient, worst.moved)
    scale = max(_root_mean_square(gradient), abs(worst.numeric))
    ok, note = worst.order >= LEAST_ORDER and not must_be_zero, NOT_READ if must_be_zero else ""
    hidden = worst.order == math.inf and worst.floor > BLIND * scale
    if ok and hidden and (worst.moved or _reads(line, name)):
        confirmed = line.complex_derivative(name, worst.v)
        ok, note = abs(confirmed - worst.analytic) <= TOLERANCE["central"] * scale, ""
        if math.isnan(confirmed):
            note = HIDDEN
    distance = abs(worst.numeric - worst.analytic)
    return replace(
        row,
        analytic=worst.analytic,
        numeric=worst.numeric,
        error=distance / scale if distance else 0.0,
        ok=ok,
        order=worst.order,
        note=note,
    )


def _read_order(
    line: _Line, name: str, v: Array, slope: float, noise: float, smallest: float = STEP / 64
) -> _Reading | None:
    """Return the order at the smallest h where it can be read; None where a kink comes first."""
    start = smallest * _step_along(line, name, v)
    hs = [start * 2**k for k in range(LEVELS)]
    values: list[float] = []
    last = LEVELS - 3  # beyond this no second difference has been looked at
    for k, h in enumerate(hs):
        values.append(line.at(name, v, h))
        rounding = max(line.rounding(values[k]), noise)
        if k < 3:
            continue
        # Over h/4, h/2 and h: they know nothing of the slope.
        bends = [abs(values[j] - 2 * values[j - 1] + line.f0) for j in (k - 2, k - 1, k)]
        if not bends[0] <= READABLE * rounding:
            lower, upper = map(_order, bends[1:], bends)
            if lower >= 1.97 and abs(upper - lower) <= 0.05:  # one power of h, and no sum of two
                last = k
            elif k == 3 and smallest > 1e-15:  # the first that could be read: begin lower
                return _read_order(line, name, v, slope, noise, smallest / 1024)
            else:
                last = k - 3  # up to here no bend was to be seen
            break
    if last < 1:
        return None
    rounding = max(line.rounding(*values[: last + 1]), noise)
    remainders = [abs(f - line.f0 - h * slope) for f, h in zip(values, hs, strict=False)]
    order, j = math.inf, last
    for j in range(1, last + 1):
        if not remainders[j - 1] <= READABLE * rounding:
            order = _order(remainders[j], remainders[j - 1])
            break
    numeric, floor = (values[j] - line.f0) / hs[j], READABLE * rounding / hs[j]
    return _Reading(order, v, slope, numeric, floor, any(f != line.f0 for f in values))


def _order(coarse: float, fine: float) -> float:
    """log₂ of what is left over h by what is left over h/2."""
    if not (math.isfinite(coarse) and coarse > 0 and math.isfinite(fine) and fine > 0):
        return -math.inf
    return math.log2(coarse) - math.log2(fine)
