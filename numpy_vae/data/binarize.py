"""From pixels to minibatches, by one of four binarisations.

Axes: N images of a data set, D pixels of an image, B images of a minibatch.

Pixels stay uint8 in memory (MNIST takes 55 MB instead of 220) and become floats one minibatch at a
time. A Bernoulli likelihood needs pixels that are 0 or 1, but MNIST is grey. Binarisation is part
of the data, not of the model:

none       Pixels x / 255 as they are. The cross-entropy with a probability as its target is a
           usable loss, but not a likelihood.
threshold  1 where x / 255 > 0.5. Less noise than in the draws below, hence lower losses.
static     One draw per pixel with probability x / 255, the same for every run [1, 2].
dynamic    A new draw for every minibatch [3]: unlimited data.

Each is a different data set with a different entropy, so their nats per image must not be mixed in
one table. A model trained on a static draw overfits it and does about 2 nats worse on test images
than one trained on dynamic draws: as much as 50 importance samples gain in [3].

References
----------
[1] Salakhutdinov, Murray, On the quantitative analysis of deep belief networks, ICML 2008.
[2] Larochelle, Murray, The neural autoregressive distribution estimator, AISTATS 2011.
[3] Burda, Grosse, Salakhutdinov, Importance weighted autoencoders, ICLR 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..checks import check_choice, check_whole
from ..seeds import static_pixels
from .dataset import Dataset
from .mapped import Images, Rows, chunks, gather
from .readers import MAPPED

BINARIZE = ("none", "threshold", "static", "dynamic")


def to_float(images: Images, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Return pixels as floats: uint8 as value / 255, floats as they are (copied only if needed).

    0 is exactly 0.0 and 255 exactly 1.0. A uint8 1 is 1 / 255, nearly black, even among only 0 and
    1: `load_array` recognises binary images. ValueError for any other dtype.
    """
    images = np.asarray(images)
    if images.dtype.kind == "f":
        return images.astype(dtype, copy=False)
    if images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype}, must be uint8 or floats")
    x = images.astype(dtype)
    x *= np.asarray(1 / 255, dtype)  # faster than a product of two dtypes
    return x


def binarize(data: Dataset, mode: str) -> Dataset:
    """Return the data as 0 and 255 if `mode` is "threshold" or "static", else unchanged.

    `batch` makes the draws of "dynamic". The "static" draw is like Larochelle's static MNIST [2],
    but has other bits. ValueError if `mode` is not in `BINARIZE`, if it is not "none" and pixels
    lie outside [0, 1], or if it is "static" and the images stay on disk.
    """
    check_choice("binarize", mode, BINARIZE)
    if mode == "none":
        return data
    for x in data.train, data.test, data.validation:
        if x is None:
            continue
        if mode == "static" and isinstance(x, Rows):
            raise ValueError(
                f"{data.name}: binarize is 'static', must be none, threshold or dynamic for a .npy"
                f" of {MAPPED >> 20} MiB or more, which stays on disk (or save it as .npz)"
            )
        if x.dtype != np.uint8 and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                f"{data.name}: pixels run from {x.min():g} to {x.max():g},"
                f" must lie in [0, 1] for binarize={mode!r}"
            )
    if mode == "dynamic":
        return data
    of_train, of_test, of_validation = static_pixels() if mode == "static" else [None] * 3
    return replace(
        data, train=_keep(data.train, of_train), test=_keep(data.test, of_test),
        validation=None if data.validation is None else _keep(data.validation, of_validation),
    )  # fmt: skip


def _keep(images: Images, pixels: np.random.Generator | None) -> Images:
    if isinstance(images, Rows):  # never with a static draw
        return Rows(images, np.arange(len(images)), np.dtype(np.uint8), black_or_white)
    return black_or_white(images, pixels)


def black_or_white(images: Images, pixels: np.random.Generator | None = None) -> NDArray[np.uint8]:
    """Return 255 where a uniform draw, or 1/2 without `pixels`, is less than the pixel, else 0."""
    result = np.empty(images.shape, np.uint8)
    # NumPy's stream is the same in parts and at once, even for an odd number of float32.
    for rows in chunks(images):
        x = to_float(images[rows])
        white = (0.5 if pixels is None else pixels.random(x.shape, dtype=np.float32)) < x
        np.multiply(white, 255, out=result[rows], dtype=np.uint8)
    return result


def batch(
    images: Images, index: NDArray[np.intp] | slice, *,
    pixels: np.random.Generator | None = None, dtype: DTypeLike = np.float32,
) -> NDArray[Any]:  # fmt: skip
    """Return some of the images, (B, D), as floats for the model.

    With `pixels`, for "dynamic", each pixel of value p is drawn as x ~ Bernoulli(p): always 1 for
    p = 1, always 0 for p = 0. The draw is in float32 for any `dtype`, so a run in float64 sees the
    same images. Do not write to the result: it may be a view of `images`.
    """
    x = gather(images, index)
    if pixels is None:
        return to_float(x, dtype)
    p = to_float(x)
    u = pixels.random(p.shape, dtype=np.float32)
    return np.less(u, p, out=u).astype(dtype, copy=False)


def minibatches(n: int, batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Return one epoch of N images in random order, as index arrays (B,); the last may be smaller.

    Each index occurs once. The order is drawn at the call, not at the first batch.
    """
    step = check_whole("batch_size", batch_size, 1, 2**31 - 1)
    order = rng.permutation(n).astype(np.intp, copy=False)
    return (order[start : start + step] for start in range(0, n, step))
