"""Is this the gradient of that function? Analytic against numeric, a row for each named block.

The idea is `central_difference`, below. The rest decides how far to trust its result.

For a scalar function f of named arrays, an analytic gradient g and a direction v (mostly a unit
vector, which asks for one entry), three methods give the number that g·v is compared with. With
u = 2⁻⁵² the machine epsilon of float64:

**central** differences, of any f,

    (f(θ + h v) - f(θ - h v)) / 2h  =  ∂f/∂v + O(h²) + O(u |f| / h)

with h = u^(1/3) max(1, |θ_i|), which balances the two errors. The last term is the rounding of f:
four units are allowed or, at a second look, the scatter of f over far shorter steps, if larger.

**complex** step, of an f that is made of analytic functions and accepts complex arrays [1],

    Im f(θ + i h v) / h  =  ∂f/∂v + O(h²)        with h = 1e-30, so exact to rounding

``abs``, ``conj``, ``.real`` and their like silently drop the imaginary part, so f is compared with
differences in each block. Where an entry is off, θ is rounded differently, and the resulting change
is allowed, up to a thousand times the tolerance: a sum that cancels loses digits here, too.

**taylor**: the order in h of the remainder, which needs no step size,

    R(h) = f(θ + h v) - f(θ) - h g·v  =  h (∂f/∂v - g·v) + h² v·∇²f v / 2 + ...

It shrinks like h² when g is right and like h when it is not: log₂ (R(h) / R(h/2)) must be 1.95 or
more at the smallest h whose remainder is a thousand times its rounding, along three directions
through all of the block, there and back, as the two terms may cancel one way. Where the second
difference f(θ + h v) - 2 f(θ + h v / 2) + f(θ), which knows nothing of g, does not shrink like h²
either, there is a kink (relu at 0) on the way, and another direction is drawn.

An error is relative to the largest entry of its block; of a larger block than `max_entries` a
seeded sample is checked, its largest entry among it, and random directions through all of it. A
block that f does not read must have a gradient of exact zeros. Where rounding would hide an error
of a hundredth, the complex step decides; if f takes no complex numbers, the block fails.

Across a kink the central difference is the mean of two slopes. An entry that is off, or whose
slopes on the two sides differ, is therefore looked at again. If h, 2h and 4h extrapolate to one
value, f is smooth, and that value counts. If the analytic value is that of the complex step, which
never leaves the point, and near the slope on one side, the entry passes at a kink: it is named and
counted, and more than one in a hundred fail the check. Else h is made smaller.

References
----------
[1] J. Martins, P. Sturdza and J. Alonso, "The complex-step derivative approximation", ACM TOMS
    29(3), 2003.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..checks import check_choice, check_real, check_whole
from ..params import Array

Index = tuple[int, ...]
Arrays = Mapping[str, Array]
Function = Callable[[Arrays], Any]


def central_difference(f: Function, arrays: Arrays, name: str, index: Index, h: float) -> float:
    """(f(θ + h) - f(θ - h)) / 2h, where h moves one entry alone.

    Parameters
    ----------
    f, arrays : callable, mapping of str to ndarray of float64
        A scalar function of named arrays, and the point θ.
    name, index, h : str, tuple of int, float
        The entry arrays[name][index], and its step: 6e-6 is near the best for numbers of size 1.
    """

    def moved(t: float) -> Arrays:
        array = np.array(arrays[name])  # a copy
        array[index] += t
        return {**arrays, name: array}

    return float(f(moved(h)) - f(moved(-h))) / (2 * h)


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

DROWNS = "rounding drowns the difference"
NOT_READ = "f does not read this block: its gradient must be exactly zero"
HIDDEN = (
    "the rounding of f hides this derivative: let f accept complex arrays, or drop its large "
    "constants"
)


@dataclass(frozen=True)
class Row:
    """What the check found in one block: where it agrees worst, and the verdict."""

    name: str
    shape: tuple[int, ...]
    index: Index | None  # the worst entry; None where it is a direction through all of the block
    analytic: float  # its analytic derivative
    numeric: float  # and its numeric one
    # |analytic - numeric| over the largest entry of the block; of a direction, over the rms
    error: float
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
    f: Function,
    gradient: Arrays,
    arrays: Arrays,
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
        Scalar function of a mapping of names to arrays. It must not draw random numbers; it may
        close over data, settings and noise.
    gradient : mapping of str to ndarray
        ∂f/∂(array), of the array's shape, for every array that is to be checked.
    arrays : mapping of str to ndarray of float64
        The point. It is not written to.
    method : {"central", "complex", "taylor"}
        Where f has kinks, central differences also need an f that accepts complex128.
    tolerance : float, optional
        Largest error, relative to the largest entry of the block: 1e-6 for central differences
        (besides the rounding of f), 1e-12 for the complex step. Taylor is judged by its order.
    step : float
        h of the central difference, relative to max(1, |θ_i|).
    max_entries, directions : int
        A larger block is checked in a sample of so many entries, and along so many directions.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        Draws the sample and the directions; the same at each call by default.

    Raises
    ------
    ValueError
        If an array is not float64, a name or a shape does not match, a block is empty, or f is not
        finite, not a float64 scalar, not the same twice, writes to its arrays, or is not analytic
        where the complex step is asked for.

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
    probe = _Probe(f, arrays)
    generator = np.random.default_rng(rng)
    rows = []
    with np.errstate(all="ignore"):  # beside the point f may be infinite, or not defined
        for block in blocks:
            probe.check_precision(block)
        for block in blocks:
            if method == "taylor":
                rows.append(_taylor_row(probe, block, generator))
            else:
                chosen = block.choose(max_entries, directions, generator)
                if method == "complex":
                    _check_complex(probe, block, generator)
                    found = [_complex(probe, v, tolerance) for v in chosen]
                else:
                    found = [_central(probe, v, step, tolerance) for v in chosen]
                rows.append(_row(probe, block, found, method, tolerance))
            probe.ask_again()
    entries, kinks = sum(row.entries for row in rows), sum(len(row.kinks) for row in rows)
    note = ""
    if kinks > MOST_KINKS * entries:
        note = f"FAIL  {kinks} of {entries} entries lie at a kink, must be at most {MOST_KINKS:.0%}"
    return Report(tuple(rows), not note and all(row.ok for row in rows), note)


def _check_gradient(gradient: Arrays, arrays: Arrays) -> list[_Block]:
    """Return the blocks of the gradient, or refuse them."""
    if not gradient:
        raise ValueError("the gradient is empty, must have at least one block")
    blocks = []
    for name, values in gradient.items():
        g = f"the gradient {name}"
        if name not in arrays:
            raise ValueError(f"{g} has no array, must be one of {', '.join(arrays)}")
        block, array = np.asarray(values), np.asarray(arrays[name])
        for what, dtype in (g, block.dtype), (name, array.dtype):
            if dtype.kind == "f" and dtype.itemsize < 8:
                raise ValueError(f"{what} has dtype {dtype}, must be float64: {DROWNS}")
        if block.dtype.kind not in "fiub":
            raise ValueError(f"{g} has dtype {block.dtype}, must be float64")
        if array.dtype != np.float64:
            raise ValueError(f"{name} has dtype {array.dtype}, must be float64 to be moved")
        if block.shape != array.shape:
            must = f"must be that of its array, {array.shape}"
            raise ValueError(f"{g} has shape {block.shape}, {must}")
        if block.size == 0:
            raise ValueError(f"{g} has no entries, must have at least one")
        blocks.append(_Block(name, array, block.astype(np.float64)))
    return blocks


@dataclass(frozen=True)
class _Direction:
    """A direction v in one block: of one entry, or through all of the block."""

    name: str  # of the block
    index: Index | None  # of the entry; None where v goes through all of the block
    v: Array  # 1, for an entry, or of the block's shape
    slope: float  # g·v
    scale: float  # of θ along v, at least 1
    size: float  # of g along such directions, which an error is measured against

    def moved(self, arrays: Arrays, t: complex) -> Arrays:
        """θ + t v."""
        array = np.array(arrays[self.name])
        array[... if self.index is None else self.index] += t * self.v
        return {**arrays, self.name: array}


class _Block:
    """One array of the point and its analytic gradient, with the directions in it."""

    def __init__(self, name: str, point: Array, gradient: Array) -> None:
        self.name, self.point, self.gradient = name, point, gradient
        self.largest = float(np.abs(gradient[np.isfinite(gradient)]).max(initial=0))
        self.rms = _root_mean_square(gradient)

    def entry(self, i: int) -> _Direction:
        """Return the unit vector of the i-th entry."""
        index = tuple(map(int, np.unravel_index(i, self.point.shape)))
        slope, scale = float(self.gradient[index]), max(1.0, float(abs(self.point[index])))
        return _Direction(self.name, index, np.array(1.0), slope, scale, self.largest)

    def vector(self, v: Array) -> _Direction:
        """Return a direction through all of the block."""
        slope, scale = float((self.gradient * v).sum()), max(1.0, _root_mean_square(self.point))
        return _Direction(self.name, None, v, slope, scale, self.rms)

    def draw(self, rng: np.random.Generator) -> _Direction:
        """Return a random direction of length 1."""
        v = rng.standard_normal(self.point.shape)  # of unequal sizes: equal errors do not cancel
        return self.vector(v / math.sqrt(float((v * v).sum())))

    def choose(self, most: int, directions: int, rng: np.random.Generator) -> list[_Direction]:
        """Return all entries; or, of a large block, a sample of them and random directions."""
        if self.point.size <= most:
            return [self.entry(i) for i in range(self.point.size)]
        sample = rng.choice(self.point.size, most, replace=False)
        sample[0] = np.argmax(np.abs(self.gradient))  # of a NaN, if there is one
        entries = [self.entry(i) for i in np.unique(sample)]
        return entries + [self.draw(rng) for _ in range(directions)]


def _root_mean_square(array: Array) -> float:
    """Of the finite entries, without overflow."""
    finite = np.abs(array[np.isfinite(array)])
    largest = float(finite.max(initial=0)) or 1.0
    return largest * math.sqrt(float(((finite / largest) ** 2).sum()) / array.size)


class _Probe:
    """f near one point θ: its values beside it, real and imaginary, and their rounding."""

    def __init__(self, f: Function, arrays: Arrays) -> None:
        self.f = f
        self.point = {name: np.array(value) for name, value in arrays.items()}
        self.last = math.nan, math.nan  # the values of the last two calls
        self.f0 = self(self.point)
        self.trouble = ""  # what f last had to say to complex arrays
        if not math.isfinite(self.f0):
            raise ValueError(f"f is {self.f0} at the point, must be finite")
        for name, value in self.point.items():
            if not np.array_equal(value, arrays[name], equal_nan=value.dtype.kind in "fc"):
                raise ValueError(f"f wrote to {name}, must leave its arrays as they are")
        self.ask_again()
        # Arrays that are not of real numbers (labels, masks) stay what they are.
        self._complex_point = {
            name: value.astype(complex) if value.dtype.kind == "f" else value
            for name, value in self.point.items()
        }

    def __call__(self, arrays: Arrays) -> float:
        """f(arrays), which must be a number of float64."""
        value = np.asarray(self.f(arrays))
        if value.shape != () or value.dtype.kind not in "fiu":
            raise ValueError(
                f"f gave {value.dtype} of shape {value.shape}, must be a real number, of shape ()"
            )
        if value.dtype.kind == "f" and value.dtype.itemsize < 8:
            raise ValueError(f"f gave {value.dtype}, must compute in float64: {DROWNS}")
        self.last = self.last[1], float(value)
        return float(value)

    def ask_again(self) -> None:
        """Refuse an f that has another value than before."""
        if self.f0 != self(self.point):
            raise ValueError(
                "f gave two values at one point, must be deterministic: pass its noise in"
            )

    def at(self, v: _Direction, t: float) -> float:
        """f(θ + t v)."""
        return self(v.moved(self.point, t))

    def complex_derivative(self, v: _Direction, point: Arrays | None = None) -> float:
        """Im f(θ + i h v) / h; NaN when f does not accept complex arrays."""
        self.trouble = "it is nan on them"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                moved = v.moved(point or self._complex_point, 1j * COMPLEX_STEP)
                return float(np.imag(self.f(moved))) / COMPLEX_STEP
        except Exception as error:  # whatever an f of real numbers has to say to complex ones
            self.trouble = " ".join(f"{type(error).__name__}: {error}".split())
            return math.nan

    def complex_scatter(self, v: _Direction) -> float:
        """Return how much the complex derivative changes when all of θ is rounded otherwise."""
        rng = np.random.default_rng(0)
        here, point, there = self.complex_derivative(v), {**self._complex_point}, []
        for _ in range(8):
            for name, value in self.point.items():
                if value.dtype.kind == "f":
                    units = rng.choice([-2, 2], value.shape)
                    point[name] = np.array(value * (1 + ROUNDING * units), complex)
            there.append(self.complex_derivative(v, point))
        return max(abs(slope - here) for slope in there)

    def rounding(self, *values: float) -> float:
        """Return four units in the last place of the largest of f0 and `values`."""
        return 4 * ROUNDING * max(abs(self.f0), *map(abs, values))

    def scatter(self, v: _Direction, h: float) -> float:
        """Return how much f scatters over steps so short that it must be a straight line.

        Where what is seen shrinks like the square of the steps, it was a curve yet: closer.
        """
        noise = self._bends(v, h)
        for _ in range(6):
            h /= 16
            closer = self._bends(v, h)
            if not noise / 1000 < closer < noise / 60:
                break
            noise = closer
        return noise

    def _bends(self, v: _Direction, h: float) -> float:
        """Return how far f lies above the straight line through a point's two neighbours.

        The two largest are left out: a jump makes as many, and it is no rounding.
        """
        ts = h / 2000 * np.sort(np.random.default_rng(0).uniform(-1, 1, 13))  # at odd distances
        values = np.array([self.at(v, float(t)) for t in ts])
        share = (ts[1:-1] - ts[:-2]) / (ts[2:] - ts[:-2])
        above = values[1:-1] - (1 - share) * values[:-2] - share * values[2:]
        return 2 * float(np.sort(np.abs(above))[-3])

    def check_precision(self, block: _Block) -> None:
        """Refuse an f that computes in float32 inside: its values are numbers of float32."""
        # Towards zero, where f is more likely to be defined than beyond the point.
        share = np.random.default_rng(0).random(block.point.shape)
        nearer = block.vector(-1e-3 * share * block.point)
        values = {self.f0, self.at(nearer, 1.0), self.at(nearer, 0.7)}
        single = len(values) == 3 and all(float(np.float32(value)) == value for value in values)
        # Where f has cancelled, a few units of float64 are left, which float32 can hold, too.
        if single and abs(self.f0) > 1e-9:
            what = "f has no more digits than float32, must be computed in float64 throughout"
            raise ValueError(f"{what}: {DROWNS}")

    def reads(self, block: _Block) -> bool:
        """Whether f changes by a bit when a block is moved far, or has a slope there."""
        ones = block.vector(np.ones(block.point.shape))
        if any(self.at(ones, t) != self.f0 for t in (-1.0, 0.5, 3.0, -30.0, 30.0)):
            return True
        slope = self.complex_derivative(block.draw(np.random.default_rng(0)))
        return math.isfinite(slope) and slope != 0


# --- central differences and the complex step: a derivative along each direction ------------------


class _Derivative(NamedTuple):
    """A numeric derivative along one direction."""

    v: _Direction
    slope: float
    floor: float = 0.0  # what the rounding of f makes of it
    moved: bool = True  # f changed by a bit at least
    kink: bool = False
    sides: tuple[float, float] = (math.nan, math.nan)  # the two one-sided differences

    @property
    def bend(self) -> float:
        """The difference of the two slopes: like h where f is a curve, constant at a kink."""
        return abs(self.sides[0] - self.sides[1])


def _difference(f: _Probe, v: _Direction, h: float, noise: float = 0.0) -> _Derivative:
    """(f(θ + h v) - f(θ - h v)) / 2h."""
    if v.index is None:
        slope = (f.at(v, h) - f.at(v, -h)) / (2 * h)
    else:
        slope = central_difference(f, f.point, v.name, v.index, h)
    up, down = f.last
    floor, sides = max(f.rounding(up, down), noise) / h, ((up - f.f0) / h, (f.f0 - down) / h)
    return _Derivative(v, slope, floor, moved=not up == f.f0 == down, sides=sides)


def _extrapolate(
    f: _Probe, v: _Direction, h: float, noise: float, allowed: float
) -> _Derivative | None:
    """Return the limit of the differences over h, 2h and 4h, or None if they have none in common.

    Where f is smooth, c(h) = ∂f/∂v + a h² + O(h⁴), and (4 c(h) - c(2h)) / 3 is free of a.
    """
    c1, c2, c4 = (_difference(f, v, n * h, noise) for n in (1, 2, 4))
    slope, floor = (4 * c1.slope - c2.slope) / 3, (4 * c1.floor + c2.floor) / 3
    agree = abs(slope - (4 * c2.slope - c4.slope) / 3) <= allowed + floor
    return _Derivative(v, slope, floor, c1.moved) if agree else None


def _central(f: _Probe, v: _Direction, step: float, tolerance: float) -> _Derivative:
    """Return the central difference; where it is off, or f bends, look again."""
    h, allowed = step * v.scale, tolerance * v.size
    first = _difference(f, v, h)
    off = not abs(first.slope - v.slope) <= allowed + first.floor
    bends = first.bend > 1e-3 * v.size + 4 * first.floor
    # The bend of a curve grows like h, that of a kink close by does not.
    kinked = bends and not _difference(f, v, 2 * h).bend > 1.5 * first.bend
    if not off and not kinked:
        return first
    noise = f.scatter(v, h)
    if not kinked:
        smooth = _extrapolate(f, v, h, noise, allowed)
        if smooth is not None:
            return smooth
    # A kink. The derivative at θ is the slope on the side where the kink is not: nearly over h, and
    # exactly by the complex step. (Along a vector there may be kinks on both sides.)
    confirmed = f.complex_derivative(v)
    near = min(abs(side - v.slope) for side in first.sides) <= 1e-3 * v.size + 2 * first.floor
    if abs(confirmed - v.slope) <= allowed and (near or v.index is None):
        return _Derivative(v, confirmed, kink=True)
    if not off:  # right on the kink, and the mean of its two slopes is the derivative of nothing
        slope = confirmed if math.isfinite(confirmed) else first.sides[0]
        return _Derivative(v, slope, first.floor)
    for narrower in 8, 64, 512:
        smooth = _extrapolate(f, v, h / narrower, noise, allowed)
        if smooth is not None:  # a kink is left outside, or a curve resolved
            return smooth._replace(kink=math.isnan(confirmed))
    return first


def _complex(f: _Probe, v: _Direction, tolerance: float) -> _Derivative:
    """Return the complex step; where it is off, with what rounding θ otherwise makes of it."""
    slope, allowed = f.complex_derivative(v), tolerance * v.size
    if abs(slope - v.slope) <= allowed:
        return _Derivative(v, slope)
    return _Derivative(v, slope, min(f.complex_scatter(v), 1000 * allowed))


def _row(f: _Probe, block: _Block, found: list[_Derivative], method: str, tolerance: float) -> Row:
    """Compare g·v with the derivatives that were found, and keep the worst."""
    reads = any(d.moved for d in found) or f.reads(block)
    must_be_zero = bool(block.gradient.any()) and not reads
    columns = np.array([(d.v.slope, d.slope, d.floor, d.v.size) for d in found]).T
    analytic, numeric, floor, size = columns
    # The numeric entries count, too: an analytic block of nothing but zeros has no size.
    one = np.array([d.v.index is not None for d in found])  # of one entry, not of all
    seen = np.where(np.isfinite(numeric), np.abs(numeric), 0)
    size = np.maximum(size, np.where(one, seen[one].max(initial=0), seen))
    blind = np.zeros(len(found), bool)
    if method == "central" and not must_be_zero:
        for k in np.flatnonzero((floor > BLIND * size) & (reads | (analytic != 0))):
            confirmed = f.complex_derivative(found[k].v)
            blind[k] = math.isnan(confirmed)
            if not blind[k]:
                numeric[k], floor[k] = confirmed, 0.0
    distance = np.abs(numeric - analytic)
    error = np.where(distance == 0, 0, distance / size)
    allowed = 0 if must_be_zero else tolerance * size + floor
    excess = np.where(distance == 0, 0, distance / allowed)
    excess[blind] = math.inf
    worst = int(np.argmax(excess))  # a NaN is the largest
    ok, tiny = bool(excess[worst] <= 1), ""
    if not ok and max(block.largest, seen.max()) < 1e-13 * max(1.0, abs(f.f0)):
        tiny = "all of this block is as small as rounding: it may be zero"
    return Row(
        name=block.name,
        shape=block.point.shape,
        index=found[worst].v.index,
        analytic=float(analytic[worst]),
        numeric=float(numeric[worst]),
        error=float(error[worst]),
        method=method,
        ok=ok,
        kinks=tuple(d.v.index for d in found if d.kink and d.v.index is not None),
        entries=int(one.sum()),
        note=NOT_READ if must_be_zero else HIDDEN if blind.any() else tiny,
    )


def _check_complex(f: _Probe, block: _Block, rng: np.random.Generator) -> None:
    """Refuse an f whose imaginary part is not its derivative, as an abs or a .real makes it."""
    largest = block.entry(int(np.argmax(np.abs(block.gradient))))
    for v in largest, block.draw(rng), block.draw(rng):
        slope = f.complex_derivative(v)
        if math.isnan(slope):
            raise ValueError(
                f"f fails on complex arrays ({f.trouble}), must accept them for the complex step"
            )
        seen: list[float] = []
        for k in range(20):  # ever smaller steps, as there may be kinks on the way
            # Terms of size 1 may have cancelled in f, so that it is rounded as 1 is.
            d = _extrapolate(f, v, STEP * v.scale / 16**k, 4 * ROUNDING, math.inf)
            if d is None:
                break
            if abs(d.slope - slope) <= 1e-5 * abs(d.slope) + 2 * d.floor:
                seen.clear()
                break
            if d.floor > 1e-5 * abs(d.slope):
                break  # rounding takes over
            seen.append(d.slope)
        # With fewer than two differences of one value nothing can be said against f.
        if len(seen) > 1 and abs(seen[-1] - seen[-2]) <= 1e-3 * abs(seen[-1]):
            raise ValueError(
                f"f is not analytic in {v.name}, must be for the complex step: it gives {slope:g} "
                f"along a direction where differences give {seen[-1]:g} (abs, norm, var, .real, "
                "conj, or a kink at the point?)"
            )


# --- the order of the Taylor remainder ------------------------------------------------------------


class _Remainder(NamedTuple):
    """The order of the remainder along one direction, and the derivative there."""

    order: float  # infinite where no remainder could be read: f is linear there, and so is g
    v: _Direction
    numeric: float  # a forward difference, at the h of the reading
    floor: float  # the smallest error of the slope whose remainder could have been read there
    moved: bool


def _taylor_row(f: _Probe, block: _Block, rng: np.random.Generator) -> Row:
    """Read the order along three directions and back; the worst of them stands in the row."""
    v = block.draw(rng)
    noise = f.scatter(v, STEP * v.scale)
    readings: list[list[_Remainder]] = []  # along each direction: two, or one, or none
    while len(readings) < DRAWN and sum(len(ways) == 2 for ways in readings) < READ:
        v = block.draw(rng)
        ways = [_read_order(f, way, noise) for way in (v, block.vector(-v.v))]
        readings.append([way for way in ways if way is not None])
    readings.sort(key=len, reverse=True)
    best = [way for ways in readings[:READ] for way in ways]
    row = partial(Row, block.name, block.point.shape, None, method="taylor")
    if not best:
        note, nan = f"none of {DRAWN} directions is free of kinks", math.nan
        return row(nan, nan, nan, ok=False, order=nan, note=note)
    worst = min(best, key=lambda way: way.order)
    reads = worst.moved or f.reads(block)
    size = max(block.rms, abs(worst.numeric))
    ok, note = worst.order >= LEAST_ORDER, ""
    if not reads and block.gradient.any():
        ok, note = False, NOT_READ
    elif ok and reads and worst.order == math.inf and worst.floor > BLIND * size:
        confirmed = f.complex_derivative(worst.v)
        ok = abs(confirmed - worst.v.slope) <= TOLERANCE["central"] * size
        note = HIDDEN if math.isnan(confirmed) else ""
    distance = abs(worst.numeric - worst.v.slope)
    error = distance / size if distance else 0.0
    return row(worst.v.slope, worst.numeric, error, ok=ok, order=worst.order, note=note)


def _read_order(
    f: _Probe, v: _Direction, noise: float, smallest: float = STEP / 64
) -> _Remainder | None:
    """Return the order at the smallest h where it can be read; None where a kink comes first."""
    hs = [smallest * v.scale * 2**k for k in range(LEVELS)]
    values: list[float] = []
    last = LEVELS - 3  # beyond this no second difference has been looked at
    for k, h in enumerate(hs):
        values.append(f.at(v, h))
        rounding = max(f.rounding(values[k]), noise)
        if k < 3:
            continue
        # Over h/4, h/2 and h: they know nothing of the slope.
        bends = [abs(values[j] - 2 * values[j - 1] + f.f0) for j in (k - 2, k - 1, k)]
        if not bends[0] <= READABLE * rounding:
            lower, upper = map(_order, bends[1:], bends)
            if lower >= 1.97 and abs(upper - lower) <= 0.05:  # one power of h, and no sum of two
                last = k
            elif k == 3 and smallest > 1e-15:  # the first that could be read: begin lower
                return _read_order(f, v, noise, smallest / 1024)
            else:
                last = k - 3  # up to here no bend was to be seen
            break
    if last < 1:
        return None
    rounding = max(f.rounding(*values[: last + 1]), noise)
    remainders = [abs(ft - f.f0 - h * v.slope) for ft, h in zip(values, hs, strict=False)]
    order, j = math.inf, last
    for j in range(1, last + 1):
        if not remainders[j - 1] <= READABLE * rounding:
            order = _order(remainders[j], remainders[j - 1])
            break
    numeric, floor = (values[j] - f.f0) / hs[j], READABLE * rounding / hs[j]
    return _Remainder(order, v, numeric, floor, any(ft != f.f0 for ft in values))


def _order(coarse: float, fine: float) -> float:
    """log₂ of what is left over h by what is left over h/2."""
    if not (math.isfinite(coarse) and coarse > 0 and math.isfinite(fine) and fine > 0):
        return -math.inf
    return math.log2(coarse) - math.log2(fine)
