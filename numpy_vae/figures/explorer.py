"""An HTML page that decodes the point of the latent plane under the pointer.

`explorer_page` fills the template `explorer.html` with one block of JSON: the decoder's weights,
the posterior means and the model's settings. The template holds the style and the script, whose
`decode` is `VAE.decode` in JavaScript. The page makes no network requests, and its
Content-Security-Policy forbids them.

Letters of this module: N images, D pixels, Z latent dimensions, P weights of the decoder;
`image_shape` and `value_range` are those of `mosaics`.
"""

from __future__ import annotations

import html
import json
import math
import re
from base64 import b64encode
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from ..checks import check_choice, check_real, check_whole
from ..data.dataset import Shape, column_names
from ..params import Array
from ..training.evaluate import ACTIVE
from ..vae import VAE

LIMIT = 5_000_000  # bytes: the page is smaller
MEANS = (  # it can compute
    "bernoulli", "continuous_bernoulli", "gaussian", "learned_gaussian", "diagonal_gaussian",
    "poisson",
)  # fmt: skip
BARS = 24  # columns of a table; more are drawn as a line
MAX_POINTS = 5000  # more would hide one another
_COORDINATES = 500_000  # of all points: 1.3 MB of the page


def explorer_page(
    vae: VAE, image_shape: Shape | None, *, name: str, mu: Array | None = None,
    kl: Array | None = None, labels: Array | None = None, value_range: tuple[float, float] = (0, 1),
    dimensions: tuple[int, int] | None = None, rows: Array | None = None,
    columns: Sequence[str] = (),
) -> str:  # fmt: skip
    """Return a self-contained HTML page of less than 5 MB that decodes the z under the pointer.

    It holds the decoder as float32, or as float16 (and says so) if that would be too large. `name`,
    what the model was trained on, is the title. `mu`, (N, Z), are posterior means, shown as points:
    at most 5000 (fewer if Z > 100), evenly spaced, rounded to 16 bits, without rows that are not
    finite. The sliders of dimensions whose `mu` hardly varies (see
    `numpy_vae.training.evaluate.ACTIVE`) are grey. `labels`, (N,), colour the points. Dimensions
    are listed in descending order of `kl`, (Z,), in nats per image. `dimensions` are the columns of
    z, from 0, that are across and up at first (default: the two of the highest KL).

    Without an image shape, a decoded row is shown as bars, or as a line if it has more than 24
    columns, over the range of the `rows`, (N, D), of a table; `columns` are their names.

    ValueError if a shape or setting does not match the model, if the decoder is too large or not
    finite, or if the likelihood is not in `MEANS`.
    """
    check_choice("the likelihood to explore", vae.likelihood.name, MEANS)
    check_choice("the dtype of the model", vae.params.dtype.name, ("float32", "float64"))
    if image_shape is not None:
        for side in image_shape:
            check_whole("a side of image_shape", side, 1, vae.data_dim)
        if math.prod(image_shape) != vae.data_dim:
            shape = " x ".join(map(str, image_shape))
            raise ValueError(f"image_shape is {shape}, must have {vae.data_dim} pixels")
    low, high = (check_real("an end of value_range", v, -1e30, 1e30, open_below=False)
                 for v in value_range)  # fmt: skip
    if low >= high:
        raise ValueError(f"value_range is {low:g} to {high:g}, must increase")

    points, variance = (None, None) if mu is None else _points(mu, labels, vae.latent_dim)
    order = list(range(vae.latent_dim))
    if kl is not None:
        kl = np.asarray(kl, np.float64)
        if kl.shape != (vae.latent_dim,) or not np.isfinite(kl).all():
            raise ValueError(f"kl has shape {kl.shape}, must be ({vae.latent_dim},) and finite")
        order = np.argsort(-kl, kind="stable").tolist()
    blocks = [block for block in vae.params if block.startswith(("decoder.", "output."))]
    weights = np.concatenate([vae.params[block].ravel() for block in blocks])  # (P,)
    data = {
        "likelihood": vae.likelihood.name, "activation": vae.activation,
        "sizes": [vae.latent_dim, *reversed(vae.hidden), vae.data_dim],
        "imageShape": image_shape, "valueRange": [low, high],
        "table": None if image_shape is not None else _table(vae, rows, columns),
        "scaling": None if vae.scaling is None else
                   {k: getattr(vae.scaling, k).tolist() for k in ("mean", "scale")},
        "order": order, "variance": variance, "active": ACTIVE,
        "dimensions": _plane(dimensions, order), "points": points,
    }  # fmt: skip
    rest = len(_fill(name, data).encode()) + len(', "dtype": "float32", "weights": ""')
    for dtype in ("float32", "float16"):
        size = rest + 4 * math.ceil(weights.size * np.dtype(dtype).itemsize / 3)  # of base64
        if size < LIMIT:
            with np.errstate(over="ignore"):  # inf is refused below
                weights = weights.astype(dtype)
            if not np.isfinite(weights).all():
                raise ValueError(f"a weight of the decoder is not finite as {dtype}")
            return _fill(name, data | {"dtype": dtype, "weights": _base64(weights)})
    raise ValueError(
        f"the page would have {size:,} bytes, must have less than {LIMIT:,}: the decoder's "
        f"{weights.size:,} weights are too many, even as float16"
    )


def _table(vae: VAE, rows: Array | None, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Return the names and the ranges of the columns of a table."""
    if rows is None or rows.ndim != 2 or rows.shape[1] != vae.data_dim:
        raise ValueError(f"rows must be (N, {vae.data_dim}) where image_shape is None")
    low, high = (np.asarray(end, np.float64) for end in (rows.min(axis=0), rows.max(axis=0)))
    if vae.scaling is None and len(low) > BARS:  # in one unit, as a spectrum
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
    high = np.where(high > low, high, low + 1)
    names = column_names(columns, vae.data_dim)
    return {"names": [_text(n) for n in names], "low": low.tolist(), "high": high.tolist()}


def _plane(dimensions: tuple[int, int] | None, order: list[int]) -> list[int]:
    """Return the columns that are across and up at first; only one if Z = 1."""
    if dimensions is None:
        return sorted(order[:2])
    chosen = [check_whole("a dimension of the plane", i, 0, len(order) - 1) for i in dimensions]
    if len(set(chosen)) != 2 or len(chosen) != 2:
        raise ValueError(f"dimensions is {dimensions!r}, must be two different columns of z")
    return chosen


def _points(
    mu: Array, labels: Array | None, latent_dim: int
) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Return the points as the page stores them, and the variance of `mu`, length Z."""
    mu = np.asarray(mu, np.float64)
    if mu.ndim != 2 or mu.shape[1] != latent_dim:
        raise ValueError(f"mu has shape {mu.shape}, must be (N, {latent_dim})")
    if labels is not None and np.shape(labels) != (len(mu),):
        raise ValueError(f"labels has shape {np.shape(labels)}, must be ({len(mu)},)")
    rows = np.flatnonzero(np.isfinite(mu).all(axis=1))
    if len(rows) == 0:
        return None, None
    variance = [float(f"{v:.3g}") for v in mu[rows].var(axis=0)]
    n = min(len(rows), MAX_POINTS, max(1, _COORDINATES // latent_dim))
    rows = rows[np.linspace(0, len(rows) - 1, n).astype(int)]
    steps = np.abs(mu[rows]).max(axis=0) / 32767  # (Z,)
    steps[steps == 0] = 1
    codes = np.rint(mu[rows] / steps).astype("<i2")  # (n, Z), mu = steps codes
    points = {"n": n, "steps": steps.tolist(), "codes": _base64(codes)}
    if labels is not None:
        kinds, rank = np.unique(np.asarray(labels)[rows], return_inverse=True)
        points |= {"kinds": [_text(k) for k in kinds], "rank": _base64(rank.astype("<i2"))}
    return points, variance


def _fill(name: str, data: dict[str, Any]) -> str:
    # "<" could end the script block; in JSON it occurs only inside strings.
    block = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    parts = {"{{name}}": html.escape(_text(name)), "{{data}}": block}
    template = resources.files(__package__).joinpath("explorer.html").read_text("utf-8")
    return re.sub(r"\{\{(name|data)\}\}", lambda match: parts[match[0]], template)


def _text(value: object) -> str:
    """Return `value` as text that UTF-8 can encode: a file name may be any bytes."""
    return str(value).encode(errors="replace").decode()


def _base64(array: Array) -> str:
    """Return the numbers of `array`, row by row, little-endian, as base64."""
    return b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
