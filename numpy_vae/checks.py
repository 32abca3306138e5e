"""Refusals in one line: the thing, what it was, what it must be.

Called where values enter from outside (a constructor, a reader, the command line), never in the
mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np


def check_whole(name: str, value: object, least: int, most: int) -> int:
    """Return `value` as an int, or raise ValueError unless it is whole and in [least, most]."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (is_whole and least <= value <= most):  # type: ignore[operator]
        raise ValueError(f"{name} is {value!r}, must be a whole number from {least} to {most}")
    return int(value)  # type: ignore[call-overload]


def check_real(name: str, value: float, least: float, most: float, *, open_below: bool) -> float:
    """Return `value` as a Python float, or raise ValueError unless it is in [least, most].

    With `open_below` the lower end itself is refused.
    """
    inside = math.isfinite(value) and least <= value <= most and not (open_below and value == least)
    if not inside:
        bound = f"greater than {least:g}" if open_below else f"at least {least:g}"
        raise ValueError(f"{name} is {value!r}, must be {bound} and at most {most:g}")
    return float(value)


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """Return `value`, or raise ValueError unless it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, must be one of {', '.join(choices)}")
    return value
