"""f along a line through the point θ, t -> f(θ + t v), where v moves one entry or a whole block.

The complex step [1], for an f that is analytic and accepts complex arrays, is

    Im f(θ + i h v) / h  =  ∂f/∂v + O(h²)        with h = 1e-30, so exact to rounding

References
----------
[1] J. Martins, P. Sturdza and J. Alonso, "The complex-step derivative approximation", ACM TOMS
    29(3), 2003.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any

import numpy as np

from ..params import Array
from .report import Index

Arrays = Mapping[str, Array]
Function = Callable[[Arrays], Any]

ROUNDING = float(np.finfo(np.float64).eps)  # u
COMPLEX_STEP = 1e-30
DROWNS = "rounding drowns the difference"


class Probe:
    """f near a point θ: its values, real and imaginary, and their rounding."""

    def __init__(self, f: Function, arrays: Arrays) -> None:
        self.f = f
        self.point = {name: copied(value) for name, value in arrays.items()}
        self.last = math.nan, math.nan  # the values of the last two calls
        self.f0 = self(self.point)
        self.trouble = ""  # why f last failed on complex arrays
        if not math.isfinite(self.f0):
            raise ValueError(f"f is {self.f0} at the point, must be finite")
        floats = {}
        for name, value in self.point.items():
            if not isinstance(value, np.ndarray):
                continue
            given = np.asarray(arrays[name])
            if not np.array_equal(value, given, equal_nan=value.dtype.kind in "fc"):
                raise ValueError(f"f wrote to {name}, must leave its arrays as they are")
            if value.dtype.kind == "f":
                floats[name] = value
        self.ask_again()
        # Labels, masks and settings stay as they are.
        self.complex_point = self.point | {n: value.astype(complex) for n, value in floats.items()}

    def __call__(self, arrays: Arrays) -> float:
        """f(arrays), which must be one real number, in an array of any shape or in none."""
        given = self.f(arrays)
        if isinstance(given, tuple):
            raise ValueError(f"f gave a tuple of {len(given)}, must give one real number")
        value = np.asarray(given)
        if value.size != 1 or value.dtype.kind not in "fiu":
            what = type(given).__name__ if value.dtype == object else value.dtype
            raise ValueError(f"f gave {what} of shape {value.shape}, must give one real number")
        if value.dtype.kind == "f" and value.dtype.itemsize < 8:
            raise ValueError(f"f gave {value.dtype}, must compute in float64: {DROWNS}")
        self.last = self.last[1], float(value.item())
        return self.last[1]

    def ask_again(self) -> None:
        """Refuse an f whose value has changed."""
        if self.f0 != self(self.point):
            what = "f gave two values at one point"
            raise ValueError(f"{what}, must be deterministic: pass its noise in")

    def imaginary(self, arrays: Arrays) -> float:
        """Im f(arrays); NaN if f does not accept complex arrays."""
        self.trouble = "it is nan on them"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                return float(np.imag(np.asarray(self.f(arrays))).item())
        except Exception as error:  # an f for real numbers may raise anything
            self.trouble = " ".join(f"{type(error).__name__}: {error}".split())
            return math.nan

    def rounding(self, *values: float) -> float:
        """Return four units in the last place of the largest of f0 and `values`."""
        return 4 * ROUNDING * max(abs(self.f0), *map(abs, values))


class Line:
    """f along a line, t -> f(θ + t v), where v moves a whole block."""

    where: Index | EllipsisType = ...  # the part of the block's array that v moves
    index: Index | None = None  # the same, if it is one entry

    def __init__(self, block: Block, v: Array) -> None:
        self.f, self.name, self.v, self.whole = block.f, block.name, v, block.whole
        self.slope = float((block.gradient * v).sum())  # g·v
        self.scale = max(1.0, root_mean_square(block.point))  # of θ along v
        self.size = block.rms  # of g along such lines: the unit of errors

    def move(self, point: Arrays, t: complex) -> Arrays:
        """θ + t v."""
        array = np.array(point[self.name])
        array[self.where] += t * self.v
        return {**point, self.name: array}

    def at(self, t: float) -> float:
        """f(θ + t v); NaN where f refuses it, as beyond the edge of its domain."""
        try:
            return self.f(self.move(self.f.point, t))
        except (ArithmeticError, AssertionError, ValueError):
            self.f.last = self.f.last[1], math.nan
            return math.nan

    def along(self, arrays: Arrays) -> float:
        """f(θ + t v), as a function of the array t."""
        return self.at(float(arrays["t"]))

    def complex_derivative(self, point: Arrays | None = None, h: float = COMPLEX_STEP) -> float:
        """Im f(θ + i h v) / h; NaN if f does not accept complex arrays."""
        return self.f.imaginary(self.move(point or self.f.complex_point, 1j * h)) / h

    def complex_scatter(self) -> float:
        """Return how much the complex derivative changes when θ moves by its last digits."""
        rng = np.random.default_rng(0)
        here, point, there = self.complex_derivative(), {**self.f.complex_point}, []
        for _ in range(8):
            for name, value in self.f.point.items():
                if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                    units = rng.choice([-2, 2], value.shape)
                    # A bias of 0 is moved by the rounding of the largest entry; the zeros of other
                    # blocks may be a mask.
                    zero = (largest(value) or 1.0) * (name == self.name)
                    size = np.where(value == 0, zero, value)
                    point[name] = np.array(value + ROUNDING * units * size, complex)
            there.append(self.complex_derivative(point, COMPLEX_STEP * rng.uniform(1, 2)))
        return max(abs(slope - here) for slope in there)

    def scatter(self, h: float) -> float:
        """Return how much f scatters over steps so short that it must be a straight line.

        A scatter that shrinks like the steps, or their square, is still a bend: look closer.
        """
        noise = closer = self._bends(h)
        for _ in range(12):
            h /= 16
            closer = self._bends(h)
            if not (math.isnan(noise) or noise / 1000 < closer < noise / 8):
                break
            noise = closer
        return max(noise, closer)  # where the rounding of f is few bits, one may see none

    def quantum(self, h: float) -> float:
        """Return the least step in which f moves, from h up or down; 0 if it never moves."""
        still, moved, least = 0.0, h, abs(self.at(h) - self.f.f0)
        while not least > 0 and moved < 100 * self.scale:
            still, moved = moved, 2 * moved
            least = abs(self.at(moved) - self.f.f0)
        for _ in range(50 if least > 0 else 0):  # bisect to where f first moves
            middle = (still + moved) / 2
            step = abs(self.at(middle) - self.f.f0)
            if step > 0:
                moved, least = middle, min(least, step)
            else:
                still = middle
        return least if math.isfinite(least) else 0.0

    def _bends(self, h: float) -> float:
        """Return how far f lies from the straight line through a point's two neighbours.

        The two largest distances are left out: a jump causes two, and is not rounding.
        """
        ts = h / 2000 * np.sort(np.random.default_rng(0).uniform(-1, 1, 13))  # at odd distances
        values = np.array([self.at(float(t)) for t in ts])
        steps = np.diff(np.unique(values))
        if steps.size < 6:  # f moves in steps: they are its rounding
            return float(steps.sum())
        share = (ts[1:-1] - ts[:-2]) / (ts[2:] - ts[:-2])
        above = values[1:-1] - (1 - share) * values[:-2] - share * values[2:]
        return 2 * float(np.sort(np.abs(above))[-3])


class Entry(Line):
    """The line along one entry: v is its unit vector."""

    def __init__(self, block: Block, index: Index) -> None:
        self.f, self.name, self.v, self.whole = block.f, block.name, np.array(1.0), block.whole
        self.where = self.index = index
        self.slope, self.size = float(block.gradient[index]), block.largest
        self.scale = max(1.0, float(abs(block.point[index])))


class Block:
    """One array of the point and its analytic gradient, with the lines through it."""

    def __init__(self, f: Probe, name: str, gradient: Array, whole: float = 0.0) -> None:
        self.f, self.name, self.point, self.gradient = f, name, f.point[name], gradient
        self.largest, self.whole = largest(gradient), whole  # entry of this gradient; of all
        self.rms = root_mean_square(gradient)

    def entry(self, i: int) -> Entry:
        """Return the line along the i-th entry."""
        return Entry(self, tuple(map(int, np.unravel_index(i, self.point.shape))))

    def draw(self, rng: np.random.Generator) -> Line:
        """Return a random direction of length 1."""
        v = rng.standard_normal(self.point.shape)  # unequal entries: equal errors do not cancel
        return Line(self, v / math.sqrt(float((v * v).sum())))

    def along(self, v: Array, part: Array | EllipsisType) -> Line:
        """Return the direction v in these entries alone, by their flat indices."""
        w = np.zeros(self.point.size)
        w[part] = v.ravel()[part]
        return Line(self, (w / math.sqrt(float((w * w).sum()))).reshape(self.point.shape))

    def choose(self, most: int, directions: int, rng: np.random.Generator) -> list[Line]:
        """Return all entries or, for a large block, a sample of them and random directions."""
        if self.point.size <= most:
            return [self.entry(i) for i in range(self.point.size)]
        sample = rng.choice(self.point.size, most, replace=False)
        sample[0] = np.argmax(np.abs(self.gradient))  # a NaN, if there is one
        entries = [self.entry(i) for i in np.unique(sample)]
        return [*entries, *(self.draw(rng) for _ in range(directions))]

    def check_precision(self) -> None:
        """Refuse an f that computes in float32: all its values are float32 numbers."""
        # Towards zero, where f is more likely to be defined than away from it.
        share = np.random.default_rng(0).random(self.point.shape)
        nearer = Line(self, -1e-3 * share * self.point)
        values = {self.f.f0, nearer.at(1.0), nearer.at(0.7)}
        single = len(values) == 3 and all(float(np.float32(value)) == value for value in values)
        # After cancellation only a few units of float64 remain, which float32 can hold too.
        if single and abs(self.f.f0) > 1e-8 * max(1.0, largest(self.point)):
            what = "f has no more digits than float32, must be computed in float64 throughout"
            raise ValueError(f"{what}: {DROWNS}")

    def is_read(self) -> bool:
        """Whether f changes at all when the block is moved far, or has a slope there."""
        far = self.draw(np.random.default_rng(0))
        length = math.sqrt(self.point.size)  # entries move by 1 each
        if any(far.at(t * length) != self.f.f0 for t in (-1.0, 0.5, 3.0, -30.0, 30.0)):
            return True
        slope = self.draw(np.random.default_rng(0)).complex_derivative()
        return math.isfinite(slope) and slope != 0


def copied(value: Any) -> Any:
    """Return a copy of an array; a setting, a function or None is what it is."""
    return np.array(value) if isinstance(value, np.ndarray | np.generic) else value


def largest(array: Array) -> float:
    """Return the largest finite |entry|."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))


def root_mean_square(array: Array) -> float:
    """Return that of the finite entries, without overflow."""
    unit = largest(array) or 1.0
    finite = array[np.isfinite(array)] / unit
    return unit * math.sqrt(float((finite**2).sum()) / array.size)
