"""Checks of values from outside. A refusal is one line: the thing, what it was, what it must be.

Constructors, readers and the command line call these, never the mathematics.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable

import numpy as np

MOST = 200  # characters of a reason, which may quote a file


def shorten(text: str, most: int = MOST) -> str:
    """Return `text` as one line of printable characters, without its middle if it is long."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[5 - most // 2 :]}"


def overflow_raises() -> np.errstate:
    """Return a context: overflow, division by zero, invalid operations raise FloatingPointError."""
    return np.errstate(over="raise", divide="raise", invalid="raise")


def check_whole(name: str, value: object, least: int, most: int) -> int:
    """Return `value` as an int, or raise ValueError unless it is whole and in [least, most]."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if least <= value <= most:
            return int(value)
        value = int(value)
    raise ValueError(f"{name} is {value!r}, must be a whole number from {least} to {most}")


def check_real(name: str, value: object, least: float, most: float, *, open_below: bool) -> float:
    """Return `value` as a float in [least, most] (open_below: above least), or raise ValueError."""
    if isinstance(value, numbers.Real):
        try:
            number = float(value)
        except OverflowError:  # a whole number beyond float64
            number = math.inf
        inside = math.isfinite(number) and least <= number <= most
        if inside and not (open_below and number == least):
            return number
    bound = f"greater than {least:g}" if open_below else f"at least {least:g}"
    raise ValueError(f"{name} is {value!r}, must be a number {bound} and at most {most:g}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value`, or raise ValueError unless it is one of `choices`."""
    names = list(choices)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name} is {value!r}, must be one of {', '.join(names)}")
    return value
