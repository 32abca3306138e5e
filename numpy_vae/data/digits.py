"""Synthetic handwritten digits: a data set that needs no network and no files.

A digit is a few strokes, smooth curves through control points c (C, 2). An image is computed from
its factors (slant, width, ...) and from noise in four steps:

1. Wobble. c <- c + J A e with A_ij proportional to exp(-|c_i - c_j|² / 2 L²) and rows of unit
   length. e is nearly N(0, I): each entry is a centred sum of twelve uniform numbers. Every point
   moves with standard deviation J, neighbours move together, and points that coincide stay
   together, so corners and junctions hold.
2. Curve. x = S c. The rows of S (P, C) evaluate a cubic Hermite spline, whose slope at a point is
   that of the parabola through the point and its two neighbours (Catmull-Rom with chord lengths as
   knots). S depends on the template alone, so one product draws a whole block of images.
3. Affine map. x <- R(rotation) [[aspect, -tan(slant)], [0, 1]] x. Then, as in MNIST, the digit is
   scaled so that the longer side of its bounding box is `scale`; the box is centred and shifted.
4. Ink. A pixel y at distance d from the curve has the grey level clip((width + 1) / 2 - d, 0, 1),
   with an edge one pixel soft. d is a soft minimum over pieces of the curve, of lengths l_p,

       d² = -T log sum_p l_p / √(πT) exp(-|y - x_p|² / T),

   exact for a straight line, since ∫ exp(-t²/T) dt = √(πT). Ink spreads a little where strokes
   meet and thins out where they end, as on paper. Each exponential is a factor for the row times
   one for the column, so an image is one matrix product, (28, P) by (P, 28).

A seed gives the same images on every machine with IEEE 754 float64 arithmetic, by one rule.
Fractions go only through elementwise + - * / sqrt, rint, rounding to float32, and comparisons,
whose results are fixed to the last bit. All sums, matrix products included, are of integers below
2^53, which float64 holds exactly in any order. np.exp, log, sin, hypot or power would break the
rule. Random numbers are the low halves of raw words of PCG64, whose stream NumPy guarantees.

Axes: B images of a block, C control points, P pieces of the curve.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import check_whole
from .dataset import Dataset

# By class, then by style: strokes of points x,y in percent of the height, y downwards. "|" lifts
# the pen; a next stroke that starts at the same point is a corner.
TEMPLATES: tuple[tuple[str, ...], ...] = (
    # 0: round; begun and ended inside
    ("56,5 37,0 15,14 3,48 11,86 37,100 63,86 73,50 63,16 43,2 28,6",
     "36,22 44,9 34,0 14,12 3,46 10,86 30,100 52,88 62,52 56,20 44,9 30,10"),
    # 1: plain; with a serif; with serif and foot
    ("10,0 9,33 8,66 8,100",
     "0,23 11,14 20,0 | 20,0 20,33 19,66 18,100",
     "2,24 14,15 26,0 | 26,0 26,33 26,66 26,100 | 2,100 26,99 52,99"),
    # 2: pointed; looped; angular like a Z
    ("4,22 14,5 34,0 54,8 57,28 44,56 24,80 3,98 | 3,98 22,96 44,97 66,100",
     "6,22 18,4 38,0 56,10 57,32 44,60 24,88 9,97 3,89 11,80 26,85 44,97 58,99 72,92",
     "4,12 22,4 44,0 60,6 56,24 34,58 4,97 | 4,97 28,97 50,95 74,95"),
    # 3: pointed; with a small loop; with a flat top
    ("6,14 22,1 44,2 55,18 46,36 24,46 | 24,46 50,52 61,72 50,93 26,100 2,90",
     "6,12 26,0 48,5 53,24 40,42 22,51 13,45 23,38 46,49 59,71 48,94 24,100 2,88",
     "8,3 30,1 56,1 | 56,1 44,20 28,40 | 28,40 52,47 61,70 50,92 26,100 2,91"),
    # 4: open; closed; open and round
    ("12,0 7,24 3,48 | 3,48 30,50 66,46 | 56,4 53,36 51,68 50,100",
     "52,0 30,28 2,63 | 2,63 34,64 72,61 | 52,0 51,34 50,66 48,100",
     "14,4 6,26 8,46 26,52 48,42 58,28 | 60,0 57,34 54,66 52,100"),
    # 5: with a bar; in one line like an S
    ("14,2 12,22 9,43 | 9,43 30,36 54,46 60,68 48,92 24,100 2,92 | 14,2 36,2 62,0",
     "62,0 40,2 21,6 12,22 18,38 38,48 54,64 50,86 32,99 4,94"),
    # 6: round; straight with a small loop
    ("48,0 28,16 10,44 4,74 16,98 40,98 55,80 48,60 28,56 8,72",
     "30,0 16,26 4,60 6,88 24,100 44,90 46,70 32,60 16,68 8,82"),
    # 7: plain; with a bar; with a serif; with a round shoulder
    ("2,6 34,4 70,2 | 70,2 54,34 38,68 30,100",
     "2,6 34,4 70,2 | 70,2 54,34 38,68 30,100 | 22,53 44,50 68,49",
     "4,22 5,13 6,3 | 6,3 38,5 72,2 | 72,2 56,34 44,66 36,100",
     "2,14 17,3 44,3 64,8 61,30 46,64 37,100"),
    # 8: in one line; of two rings; in one line that stays open
    ("54,12 36,0 14,8 11,28 30,46 52,64 54,88 32,100 8,90 8,68 30,48 50,32 56,14 48,4",
     "32,46 12,34 12,10 32,0 52,10 52,34 32,46 | 32,46 6,60 5,87 32,100 58,87 57,60 32,46",
     "56,8 38,0 17,6 13,25 32,43 52,60 53,85 32,100 10,89 11,69 31,49 50,32 66,12"),
    # 9: with a straight tail; with a curved tail
    ("56,10 36,0 12,12 4,34 18,50 42,42 56,10 | 56,10 54,40 50,70 46,100",
     "56,14 40,0 14,6 4,30 20,48 44,40 56,14 58,44 54,76 38,98 12,94"),
)  # fmt: skip

# The factors, each drawn as centre + reach * t, where (1 + t) / 2 ~ Beta(3, 3): a bounded bell.
FACTORS = {
    "slant": (0.15, 0.5),  # radians, leaning to the right
    "rotation": (0.0, 0.25),  # radians, clockwise
    "scale": (17.3, 2.0),  # pixels, longer side of the box around the curve
    "aspect": (1.1, 0.4),  # width over the template's, before slant and rotation
    "width": (2.5, 1.4),  # pixels, across the stroke at half the full grey
    "shift_x": (0.0, 1.0),  # pixels, to the right
    "shift_y": (0.0, 1.0),  # pixels, downwards
}

SIDE = 28  # pixels; the largest digit, 19.3 + 3.9 wide and shifted by 1, stays off the border
J, L = 0.06, 0.3  # of the wobble, in heights of the digit
SPACING = 1 / 36  # length of a piece in heights, about half a pixel
# pixels²; the sum over pieces h apart ripples by 2 exp(-π² T / h²): 2e-6 at h = 0.6, 1 % at 1
T = 0.5
BLOCK = 128  # images drawn at once, in about 20 MB
ONE = 2**22  # fixed-point numbers are integers in units of 1 / ONE
CAP = 4  # of the weight of a piece
GRID = 1024  # steps per pixel; pieces of the curve lie at whole steps


class Pen(NamedTuple):
    """The matrices of a template: integers, in units of 1 / ONE."""

    control: NDArray[np.float64]  # (C, 2) in heights
    wobble: NDArray[np.float64]  # (C, C) is J A
    middle: NDArray[np.float64]  # (P, C) is S at the middle of each piece's chord
    piece: NDArray[np.float64]  # (P, C) is S at its end minus S at its start


def decay(u: NDArray[Any]) -> NDArray[Any]:
    """exp(-u), 0 <= u < 100, as (1 - u / 2^24)^(2^24): relative error below u² / 2^25 + 2^-29."""
    power = 1 - u / 2**24
    for _ in range(24):
        power = power * power
    return power


def log(t: NDArray[Any]) -> NDArray[Any]:
    """log t as 2^7 (r - 1 / r), r = t^(1 / 2^8): relative error (log t)² / 2^18, absolute 1e-13."""
    for _ in range(8):
        t = np.sqrt(t)
    return 2**7 * (t - 1 / t)


def sine(x: NDArray[Any]) -> NDArray[Any]:
    """sin x for |x| < 1, by the Taylor series up to x^15 in Horner's form."""
    series = np.ones_like(x)
    for k in range(14, 0, -2):
        series = 1 - x * x * series / (k * (k + 1))
    return x * series


# exp(-d² / T) at d = 0, 1, 2, ... steps, in units of 1 / ONE; 0 from 2.83 pixels on.
FALL = np.rint(ONE * decay(np.arange(3 * GRID) * np.arange(3 * GRID) / (GRID * GRID * T)))


def read_template(template: str) -> Pen:
    """Read a template and compute its matrices."""
    strokes = [
        np.array([xy.split(",") for xy in stroke.split()], dtype=float) / 100
        for stroke in template.split("|")
    ]
    control = np.concatenate(strokes)
    x, y = (control[:, None] - control).T
    kernel = np.rint(ONE * decay((x * x + y * y) / (2 * L * L)))
    wobble = J * kernel / np.sqrt((kernel * kernel).sum(1, keepdims=True))
    middles, pieces, first = [], [], 0
    for c in strokes:
        x, y = np.diff(c, axis=0).T
        knots = np.append(0, np.rint(ONE * np.sqrt(x * x + y * y)).cumsum()) / ONE
        P = round(knots[-1] / SPACING)
        S = np.zeros((P + 1, len(control)))
        S[:, first : first + len(c)] = spline(knots, knots[-1] * (np.arange(P + 1) / P))
        middles.append((S[1:] + S[:-1]) / 2)
        pieces.append(S[1:] - S[:-1])
        first += len(c)
    arrays = control, wobble, np.concatenate(middles), np.concatenate(pieces)
    return Pen(*(np.rint(ONE * a) for a in arrays))


def spline(knots: NDArray[Any], t: NDArray[Any]) -> NDArray[Any]:
    """Weights (P, C) of the values at the knots (C,) in the smooth interpolant at t (P,)."""
    value, h = np.eye(len(knots)), np.diff(knots)[:, None]
    chord = np.diff(value, axis=0) / h
    slope = (h[1:] * chord[:-1] + h[:-1] * chord[1:]) / (h[1:] + h[:-1])
    slope = np.vstack([2 * chord[:1] - slope[:1], slope, 2 * chord[-1:] - slope[-1:]])
    i = np.searchsorted(knots[1:-1], t, side="right")  # knots[i] <= t <= knots[i + 1]
    u = (t - knots[i])[:, None] / h[i]
    v = 1 - u
    left = v * v * ((1 + 2 * u) * value[i] + u * h[i] * slope[i])
    right = u * u * ((1 + 2 * v) * value[i + 1] - v * h[i] * slope[i + 1])
    return left + right


def draw(pen: Pen, factors: NDArray[Any], noise: NDArray[Any]) -> NDArray[np.uint8]:
    """Draw images of one template, (B, 784).

    `factors`, (B,), has the fields of `FACTORS`. `noise`, (B, C, 2), is the wobble's e times 2^16,
    in integers below 2^20; zeros give the template's own shape.
    """
    f = {name: factors[name].astype(np.float64)[:, None] for name in FACTORS}
    x, y = np.moveaxis(pen.control + pen.wobble @ noise.astype(np.float64) / 2**16, 2, 0)
    sin, shear = sine(f["rotation"]), sine(f["slant"])
    cos, tan = np.sqrt(1 - sin * sin), shear / np.sqrt(1 - shear * shear)
    x = f["aspect"] * x - tan * y
    control = np.rint([cos * x - sin * y, sin * x + cos * y])  # (2, B, C)

    x = control @ pen.middle.T  # (2, B, P)
    low, high = x.min(2, keepdims=True), x.max(2, keepdims=True)
    zoom = f["scale"] / (high - low).max(0)  # (B, 1)
    shift = np.stack([f["shift_x"], f["shift_y"]])
    x = np.rint(GRID * (zoom * (x - (low + high) / 2) + shift + (SIDE - 1) / 2))
    dx, dy = control @ pen.piece.T
    length = zoom * np.sqrt(dx * dx + dy * dy)  # (B, P)

    steps = GRID * np.arange(SIDE)[:, None] - x.astype(np.int64)[:, :, None]
    column, row = FALL.take(np.abs(steps, out=steps), mode="clip")  # (B, 28, P)
    # A piece weighs about 0.4. The cap keeps sums below CAP P ONE² < 2^53, however long it is.
    row *= np.minimum(length / math.sqrt(math.pi * T), CAP)[:, None]
    total = np.rint(row, out=row) @ np.swapaxes(column, 1, 2)  # (B, 28, 28)
    square = -T * log(np.maximum(total, 1) / ONE**2)  # far pixels sum to 0
    grey = np.clip((f["width"][:, None] + 1) / 2 - np.sqrt(np.maximum(square, 0)), 0, 1)
    return np.rint(255 * grey).astype(np.uint8).reshape(-1, SIDE * SIDE)


def words(rng: np.random.Generator, *shape: int) -> NDArray[np.uint32]:
    """Draw integers below 2^32, the low halves of the bit generator's raw words."""
    return rng.bit_generator.random_raw(shape).astype(np.uint32)


def load_digits(n: int = 12_000, *, rng: np.random.Generator | int | None = 0) -> Dataset:
    """Draw n synthetic digits, from 60 to 1 000 000; the last n // 6 are the test set.

    `rng` is a generator, or a seed for `numpy.random.PCG64`. The same seed draws the same images.

    Images (N, 784) and labels (N,) are uint8, shuffled; in each set the classes differ by at most
    one image. The factors have the float32 fields of `FACTORS` and the int32 field style, an index
    into ``TEMPLATES[label]``. Only the wobble is not recorded.
    """
    n = check_whole("n", n, 60, 1_000_000)
    source = "digits" if isinstance(rng, int) and (n, rng) == (12_000, 0) else None
    if not isinstance(rng, np.random.Generator | np.random.BitGenerator):
        rng = np.random.Generator(np.random.PCG64(rng))
    rng = np.random.default_rng(rng)
    test = n // 6
    orders = [np.argsort(words(rng, m), kind="stable") for m in (n - test, test)]
    labels = np.concatenate(orders) % 10
    factors = np.empty(n, dtype=[*((name, np.float32) for name in FACTORS), ("style", np.int32)])
    for name, (centre, reach) in FACTORS.items():
        median = np.sort(words(rng, n, 5), axis=1)[:, 2]  # of five uniform numbers: Beta(3, 3)
        factors[name] = centre + reach * (median / 2**31 - 1)
    factors["style"] = words(rng, n) * np.array([len(styles) for styles in TEMPLATES])[labels] >> 32

    images = np.empty((n, SIDE * SIDE), np.uint8)
    for label, styles in enumerate(TEMPLATES):
        for style, template in enumerate(styles):
            p = read_template(template)
            members = np.flatnonzero((labels == label) & (factors["style"] == style))
            for block in np.split(members, range(BLOCK, len(members), BLOCK)):
                uniform = words(rng, len(block), *p.control.shape, 6).view(np.uint16)  # 12 for an e
                noise = uniform.sum(-1, dtype=np.int64) - 6 * (2**16 - 1)
                images[block] = draw(p, factors[block], noise)
    arrays = images, labels.astype(np.uint8), factors
    (x, x_test), (y, y_test), (f, f_test) = (np.split(array, [-test]) for array in arrays)
    return Dataset("digits", x, x_test, y, y_test, f, f_test, (SIDE, SIDE), source=source)
