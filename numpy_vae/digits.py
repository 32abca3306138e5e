"""Handwriting-like digits drawn by NumPy: a data set that needs no network and no files.

A digit is a few strokes, a stroke is a smooth curve through control points c (C, 2), and an image
is made from its factors (slant, width, ...) and from noise in four steps:

1. Wobble. c <- c + J A e with e ~ N(0, I) and A_ij proportional to exp(-|c_i - c_j|² / 2 L²), its
   rows of unit length. Each point moves by the same standard deviation J, neighbours move
   together and points that coincide stay together: the hand shakes, corners and junctions hold.
2. Curve. x = S c. The rows of S (P, C) evaluate the cubic Hermite spline whose slopes are those of
   the parabolas through three neighbours (Catmull-Rom, with chord lengths for knots). They depend
   on the template alone, so that one product draws a whole block of images.
3. Affine map. x <- R(rotation) [[aspect, -tan(slant)], [0, 1]] x. Then, as in MNIST, the digit
   is enlarged until the longer side of its bounding box is `scale`; the box is centred and shifted.
4. Ink. A pixel y at distance d from the curve has the grey clip((width + 1) / 2 - d, 0, 1), an edge
   one pixel soft. The distance is the soft minimum over the pieces of the curve, of lengths l_p,

       d² = -T log sum_p l_p / √(πT) exp(-|y - x_p|² / T),

   exact for a straight line, since ∫ exp(-t²/T) dt = √(πT). Ink runs a little where strokes meet
   and thins out where they end, as it does on paper. And the exponential is one factor for the row
   times one for the column: all pixels of an image are one matrix product, (28, P) by (P, 28).

Letters of the axes: B images of a block, C control points, P pieces of the curve.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .checks import check_whole
from .data import Dataset

# By class, then by style: strokes of points x,y in percent of the height, y downwards. At "|" the
# pen is lifted; where the next stroke starts at the same point, it turns a corner.
TEMPLATES: tuple[tuple[str, ...], ...] = (
    (  # 0: round; begun and ended inside
        "56,5 37,0 15,14 3,48 11,86 37,100 63,86 73,50 63,16 43,2 28,6",
        "36,22 44,9 34,0 14,12 3,46 10,86 30,100 52,88 62,52 56,20 44,9 30,10",
    ),
    (  # 1: plain; with a serif; with serif and foot
        "10,0 9,33 8,66 8,100",
        "0,23 11,14 20,0 | 20,0 20,33 19,66 18,100",
        "2,24 14,15 26,0 | 26,0 26,33 26,66 26,100 | 2,100 26,99 52,99",
    ),
    (  # 2: pointed; looped; angular like a Z
        "4,22 14,5 34,0 54,8 57,28 44,56 24,80 3,98 | 3,98 22,96 44,97 66,100",
        "6,22 18,4 38,0 56,10 57,32 44,60 24,88 9,97 3,89 11,80 26,85 44,97 58,99 72,92",
        "4,12 22,4 44,0 60,6 56,24 34,58 4,97 | 4,97 28,97 50,95 74,95",
    ),
    (  # 3: pointed; with a small loop; with a flat top
        "6,14 22,1 44,2 55,18 46,36 24,46 | 24,46 50,52 61,72 50,93 26,100 2,90",
        "6,12 26,0 48,5 53,24 40,42 22,51 13,45 23,38 46,49 59,71 48,94 24,100 2,88",
        "8,3 30,1 56,1 | 56,1 44,20 28,40 | 28,40 52,47 61,70 50,92 26,100 2,91",
    ),
    (  # 4: open; closed; open and round
        "12,0 7,24 3,48 | 3,48 30,50 66,46 | 56,4 53,36 51,68 50,100",
        "52,0 30,28 2,63 | 2,63 34,64 72,61 | 52,0 51,34 50,66 48,100",
        "14,4 6,26 8,46 26,52 48,42 58,28 | 60,0 57,34 54,66 52,100",
    ),
    (  # 5: with a bar; in one line like an S
        "14,2 12,22 9,43 | 9,43 30,36 54,46 60,68 48,92 24,100 2,92 | 14,2 36,2 62,0",
        "62,0 40,2 21,6 12,22 18,38 38,48 54,64 50,86 32,99 4,94",
    ),
    (  # 6: round; straight with a small loop
        "48,0 28,16 10,44 4,74 16,98 40,98 55,80 48,60 28,56 8,72",
        "30,0 16,26 4,60 6,88 24,100 44,90 46,70 32,60 16,68 8,82",
    ),
    (  # 7: plain; with a bar; with a serif; with a round shoulder
        "2,6 34,4 70,2 | 70,2 54,34 38,68 30,100",
        "2,6 34,4 70,2 | 70,2 54,34 38,68 30,100 | 22,53 44,50 68,49",
        "4,22 5,13 6,3 | 6,3 38,5 72,2 | 72,2 56,34 44,66 36,100",
        "2,14 17,3 44,3 64,8 61,30 46,64 37,100",
    ),
    (  # 8: in one line; of two rings; in one line that stays open
        "54,12 36,0 14,8 11,28 30,46 52,64 54,88 32,100 8,90 8,68 30,48 50,32 56,14 48,4",
        "32,46 12,34 12,10 32,0 52,10 52,34 32,46 | 32,46 6,60 5,87 32,100 58,87 57,60 32,46",
        "56,8 38,0 17,6 13,25 32,43 52,60 53,85 32,100 10,89 11,69 31,49 50,32 66,12",
    ),
    (  # 9: with a straight tail; with a curved tail
        "56,10 36,0 12,12 4,34 18,50 42,42 56,10 | 56,10 54,40 50,70 46,100",
        "56,14 40,0 14,6 4,30 20,48 44,40 56,14 58,44 54,76 38,98 12,94",
    ),
)

# The factors, each drawn as centre + reach * t, where (1 + t) / 2 ~ Beta(3, 3): a bell with ends.
FACTORS = {
    "slant": (0.15, 0.5),  # radians, leaning to the right
    "rotation": (0.0, 0.25),  # radians, clockwise
    "scale": (17.3, 2.0),  # pixels, longer side of the box around the curve
    "aspect": (1.1, 0.4),  # width of the digit, before slant and rotation, over its template's
    "width": (2.5, 1.4),  # pixels, across the stroke at half the full grey
    "shift_x": (0.0, 1.0),  # pixels, to the right
    "shift_y": (0.0, 1.0),  # pixels, downwards
}

SIDE = 28  # pixels; the largest digit, 19.3 + 3.9 wide and shifted by 1, stays off the border
J, L = 0.06, 0.3  # of the wobble, in heights of the digit
SPACING = 1 / 36  # length of a piece in heights, about half a pixel
T = 0.5  # pixels²; the sum over pieces h apart ripples by 2 exp(-π² T / h²), below 1e-5 at h = 0.6
BLOCK = 256  # images drawn at once, in some 20 MB


class Pen(NamedTuple):
    """What is known of a template before any image is drawn."""

    control: NDArray[np.float32]  # (C, 2) in heights
    wobble: NDArray[np.float32]  # (C, C) is J A
    middle: NDArray[np.float32]  # (P, C) is S at the middle of each piece
    piece: NDArray[np.float32]  # (P, C) is S at its end minus S at its start


def read_template(template: str) -> Pen:
    """Read a template, and work out its matrices."""
    strokes = [
        np.array([xy.split(",") for xy in stroke.split()], dtype=float) / 100
        for stroke in template.split("|")
    ]
    control = np.concatenate(strokes)
    kernel = np.exp(-((control[:, None] - control) ** 2).sum(-1) / (2 * L**2))
    wobble = J * kernel / np.linalg.norm(kernel, axis=1, keepdims=True)
    middles, pieces, first = [], [], 0
    for c in strokes:
        knots = np.append(0, np.hypot(*np.diff(c, axis=0).T).cumsum())
        S = np.zeros((round(knots[-1] / SPACING) + 1, len(control)))
        S[:, first : first + len(c)] = spline(knots, np.linspace(0, knots[-1], len(S)))
        middles.append((S[1:] + S[:-1]) / 2)
        pieces.append(S[1:] - S[:-1])
        first += len(c)
    arrays = control, wobble, np.concatenate(middles), np.concatenate(pieces)
    return Pen(*(a.astype(np.float32) for a in arrays))


def spline(knots: NDArray[Any], t: NDArray[Any]) -> NDArray[Any]:
    """Weights (P, C) of the values at the knots (C,) in the smooth interpolant at t (P,)."""
    value = np.eye(len(knots))
    slope = np.gradient(value, knots, axis=0, edge_order=2)
    i = np.searchsorted(knots[1:-1], t, side="right")  # knots[i] <= t <= knots[i + 1]
    h = (knots[i + 1] - knots[i])[:, None]
    u = (t - knots[i])[:, None] / h
    left = (1 - u) ** 2 * ((1 + 2 * u) * value[i] + u * h * slope[i])
    right = u**2 * ((3 - 2 * u) * value[i + 1] - (1 - u) * h * slope[i + 1])
    return left + right


def draw(pen: Pen, factors: NDArray[Any], noise: NDArray[Any]) -> NDArray[np.uint8]:
    """Draw images of one template.

    Parameters
    ----------
    pen : Pen
        The template, from `read_template`.
    factors : structured ndarray, shape (B,)
        With the fields of `FACTORS`.
    noise : ndarray, shape (B, C, 2)
        The e of the wobble, standard normal; zeros give the template's own shape.

    Returns
    -------
    ndarray of uint8, shape (B, 784)
    """
    cos, sin = np.cos(factors["rotation"]), np.sin(factors["rotation"])
    aspect, tan = factors["aspect"], np.tan(factors["slant"])
    affine = np.array([[aspect * cos, -tan * cos - sin], [aspect * sin, -tan * sin + cos]])
    control = (pen.control + pen.wobble @ noise.astype(np.float32)) @ affine.T  # (B, C, 2)

    x = pen.middle @ control  # (B, P, 2)
    low, high = x.min(1, keepdims=True), x.max(1, keepdims=True)
    zoom = factors["scale"][:, None, None] / (high - low).max(2, keepdims=True)
    shift = np.stack([factors["shift_x"], factors["shift_y"]], axis=1)[:, None]
    x = zoom * (x - (low + high) / 2) + shift + (SIDE - 1) / 2
    length = zoom * np.linalg.norm(pen.piece @ control, axis=2, keepdims=True)  # (B, P, 1)

    pixel = np.arange(SIDE, dtype=np.float32)
    column = np.exp((pixel - x[..., :1]) ** 2 / -T)  # (B, P, 28)
    row = np.exp((pixel - x[..., 1:]) ** 2 / -T) * (length / np.sqrt(np.pi * T))
    total = np.swapaxes(row, 1, 2) @ column  # (B, 28, 28)
    distance = np.sqrt(np.maximum(-T * np.log(np.maximum(total, 1e-30)), 0))  # far pixels sum to 0
    grey = np.clip((factors["width"][:, None, None] + 1) / 2 - distance, 0, 1)
    return np.rint(255 * grey).astype(np.uint8).reshape(-1, SIDE * SIDE)


def load_digits(n: int = 12_000, *, rng: np.random.Generator | int | None = 0) -> Dataset:
    """Draw n digits, the last n // 6 of them for the test set.

    Parameters
    ----------
    n : int
        How many images, from 60 to 1 000 000.
    rng : numpy.random.Generator, int or None
        What `numpy.random.default_rng` accepts. The same seed draws the same images; another
        version of NumPy or another processor may round a grey value differently by one.

    Returns
    -------
    Dataset
        Images (N, 784) and labels (N,) of uint8, shuffled, in each set as many of one class as of
        another or one more. The factors have the float32 fields slant and rotation (radians: to
        the right, clockwise), scale, width, shift_x and shift_y (pixels: longer side of the box
        around the middle of the strokes, thickness of the strokes, to the right, downwards) and
        aspect (a ratio), and the int32 field style, an index into ``TEMPLATES[label]``. Only the
        wobble of the hand is not recorded.

    Raises
    ------
    ValueError
        If n is not such a number.
    """
    n = check_whole("n", n, 60, 1_000_000)
    rng = np.random.default_rng(rng)
    test = n // 6
    labels = np.concatenate([rng.permutation(np.arange(m) % 10) for m in (n - test, test)])
    factors = np.empty(n, dtype=[*((name, np.float32) for name in FACTORS), ("style", np.int32)])
    for name, (centre, reach) in FACTORS.items():
        factors[name] = centre + reach * (2 * rng.beta(3, 3, n) - 1)
    factors["style"] = rng.integers(np.array([len(styles) for styles in TEMPLATES])[labels])

    images = np.empty((n, SIDE * SIDE), np.uint8)
    for label, styles in enumerate(TEMPLATES):
        for style, template in enumerate(styles):
            p = read_template(template)
            members = np.flatnonzero((labels == label) & (factors["style"] == style))
            for block in np.split(members, range(BLOCK, len(members), BLOCK)):
                noise = rng.standard_normal((len(block), *p.control.shape))
                images[block] = draw(p, factors[block], noise)
    labels = labels.astype(np.uint8)
    return Dataset(
        name="digits",
        train=images[:-test],
        test=images[-test:],
        train_labels=labels[:-test],
        test_labels=labels[-test:],
        train_factors=factors[:-test],
        test_factors=factors[-test:],
        image_shape=(SIDE, SIDE),
    )
