"""The central difference, which every numeric check of a gradient starts from.

For a scalar function f of named arrays θ, and v the unit vector of one entry,

    (f(θ + h v) - f(θ - h v)) / 2h  =  ∂f/∂v + O(h²) + O(u |f| / h)

with u = 2⁻⁵² the machine epsilon of float64. h = u^(1/3) max(1, |θ_i|) balances the two errors: the
curvature of f and its rounding. The rest of this package decides how far to trust the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

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
