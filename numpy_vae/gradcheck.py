"""Is this the gradient of that function? Analytic against numeric, a row for each named block.

For a scalar function f of named arrays and each entry θ_i of them, the central difference

    (f(θ + h e_i) - f(θ - h e_i)) / 2h  =  ∂f/∂θ_i + O(h²) + O(u |f| / h),        u = 2⁻⁵²

is compared with the analytic entry. The error is measured against the largest entry of its block,
so that a block of small gradients is held to its own size. The last term is the rounding of f
itself, for which four units are allowed and no more.

Where the two points lie on different sides of a kink (relu at 0), the central difference is the
mean of two slopes and neither. An entry that is off, and whose two one-sided differences disagree,
is therefore put to the complex step, Im f(θ + i h e_i) / h with h = 1e-30, which never leaves the
point [1]. If that agrees with the analytic entry it passes and is counted: more than one in a
hundred, and the check fails.

References
----------
[1] J. Martins, P. Sturdza and J. Alonso, "The complex-step derivative approximation", ACM TOMS
    29(3), 2003.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .params import Array

ROUNDING = float(np.finfo(np.float64).eps)  # u
COMPLEX_STEP = 1e-30
MOST_KINKS = 0.01  # of all entries


@dataclass(frozen=True)
class Row:
    """What the check found in one block: the entry that agrees worst, and the verdict."""

    name: str
    shape: tuple[int, ...]
    index: tuple[int, ...]  # of the worst entry
    analytic: float  # its analytic derivative
    numeric: float  # and its numeric one
    error: float  # their distance, over the largest analytic entry of the block unless that is 0
    kinks: int  # entries at a kink, confirmed by the complex step
    ok: bool

    def __str__(self) -> str:
        entry = f"{self.name}[{', '.join(map(str, self.index))}]"
        kinks = f"  {self.kinks} at a kink" if self.kinks else ""
        return (
            f"{'ok  ' if self.ok else 'FAIL'}  {entry:24} analytic {self.analytic:+.10e}  "
            f"numeric {self.numeric:+.10e}  error {self.error:.1e}{kinks}"
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
        return "\n".join([*map(str, self.rows), self.note]).rstrip()


def gradcheck(
    f: Callable[[Mapping[str, Array]], Any],
    gradient: Mapping[str, Array],
    arrays: Mapping[str, Array],
    *,
    tolerance: float = 1e-6,
    step: float = 1e-5,
) -> Report:
    """Compare an analytic gradient with central differences, entry by entry.

    Parameters
    ----------
    f : callable
        Scalar function of a mapping of names to arrays. It must not draw random numbers. To have
        kinks confirmed it must accept complex128 arrays, too.
    gradient : mapping of str to ndarray
        ∂f/∂(array), of the array's shape, for every array that is to be checked.
    arrays : mapping of str to ndarray of float64
        The point. It is copied, never written to.
    tolerance : float
        Largest error, relative to the largest entry of the analytic block.
    step : float
        h, relative to max(1, |θ_i|).

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If an array is not float64 (at float32 the rounding of f drowns the difference), a name or a
        shape does not match, a block is empty, or f is not finite or gives two values at the point.

    Examples
    --------
    >>> x = np.array([1.0, 2.0])
    >>> report = gradcheck(lambda a: np.sum(a["x"] ** 3), {"x": 3 * x**2}, {"x": x})
    >>> report.ok
    True
    """
    point = {name: np.array(value) for name, value in arrays.items()}
    for name, value in point.items():
        if value.dtype != np.float64:
            raise ValueError(
                f"{name} has dtype {value.dtype}, must be float64: rounding drowns the difference"
            )
    if not gradient:
        raise ValueError("the gradient is empty, must have at least one block")
    for name, block in gradient.items():
        if name not in point or block.shape != point[name].shape or block.size == 0:
            raise ValueError(f"the gradient {name} {block.shape} matches no array of that shape")
    f0 = float(f(point))
    if not math.isfinite(f0):
        raise ValueError(f"f is {f0} at the point, must be finite")
    if f0 != float(f(point)):
        raise ValueError("f gave two values at one point, must be deterministic: pass its noise in")
    rows = [_check_block(f, point, n, block, f0, tolerance, step) for n, block in gradient.items()]
    entries = sum(block.size for block in gradient.values())
    kinks = sum(row.kinks for row in rows)
    if kinks > MOST_KINKS * entries:
        note = f"FAIL  {kinks} of {entries} entries lie at a kink, must be at most {MOST_KINKS:.0%}"
        return Report(tuple(rows), False, note)
    return Report(tuple(rows), all(row.ok for row in rows))


def _check_block(
    f: Callable[[Mapping[str, Array]], Any],
    point: dict[str, Array],
    name: str,
    analytic: Array,
    f0: float,
    tolerance: float,
    step: float,
) -> Row:
    block = point[name]
    numeric = np.empty_like(block)
    scale = float(np.abs(analytic).max())
    allowed = np.empty_like(block)
    kinks = 0
    for index in np.ndindex(block.shape):
        here = float(block[index])
        h = step * max(1.0, abs(here))
        block[index] = here + h
        up = float(f(point))
        block[index] = here - h
        down = float(f(point))
        block[index] = here
        numeric[index] = (up - down) / (2 * h)
        allowed[index] = tolerance * scale + 4 * ROUNDING * abs(f0) / h
        one_sided_gap = abs(up - 2 * f0 + down) / h
        off = abs(numeric[index] - analytic[index]) > allowed[index]
        if off and one_sided_gap > allowed[index]:
            confirmed = _complex_step(f, point, name, index)
            if abs(confirmed - analytic[index]) <= tolerance * scale:
                numeric[index] = confirmed
                kinks += 1
    with np.errstate(invalid="ignore"):  # an infinite entry gives a NaN here and fails below
        distance = np.abs(numeric - analytic)
        error = distance / scale if scale else distance
        worst = np.unravel_index(np.argmax(distance / allowed if scale else distance), block.shape)
    ok = bool(distance[worst] <= allowed[worst] < math.inf)  # False for a NaN and for infinity
    return Row(
        name,
        block.shape,
        tuple(map(int, worst)),
        float(analytic[worst]),
        float(numeric[worst]),
        float(error[worst]),
        kinks,
        ok,
    )


def _complex_step(
    f: Callable[[Mapping[str, Array]], Any],
    point: dict[str, Array],
    name: str,
    index: tuple[int, ...],
) -> float:
    """Im f(θ + i h e_i) / h: the derivative without a difference, so without cancellation."""
    shifted = {key: value.astype(complex) for key, value in point.items()}
    shifted[name][index] += 1j * COMPLEX_STEP
    try:
        return float(np.imag(f(shifted))) / COMPLEX_STEP
    except (TypeError, ValueError):  # f does not know complex numbers: nothing is confirmed
        return math.nan
