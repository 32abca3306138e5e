"""How good is a model on images it was not trained on?

The ELBO of an image x, with z drawn from q(z | x), is

    log p(x | z) - KL(q(z | x) || N(0, I)),

and its expectation is at most log p(x). `evaluate_elbo` averages it over a set of images with one
draw of z for each. z is drawn: at the posterior mean (eps = 0) the first term is usually larger,
and the result bounds nothing. beta plays no part: whatever a model was trained for, it is compared
at 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .checks import check_choice
from .data import batch
from .likelihood import check_values
from .params import Array
from .vae import VAE

BATCH_SIZE = 500  # images evaluated at once; more would only take more memory


class Elbo(NamedTuple):
    """Means over a set of images, in nats per image: elbo = -(reconstruction + kl)."""

    elbo: float
    reconstruction: float
    kl: float


def elbo_of(reconstruction: float, kl: float) -> Elbo:
    """Return the two terms with the ELBO that they make."""
    return Elbo(-(reconstruction + kl), reconstruction, kl)


def evaluate_elbo(
    vae: VAE,
    images: Array,
    *,
    binarize: str = "none",
    rng: np.random.Generator | int | None = None,
) -> Elbo:
    """Return the mean ELBO over `images`, with one draw of the noise and of the pixels.

    Parameters
    ----------
    vae : VAE
    images : ndarray, shape (N, D), uint8 or float
    binarize : {"none", "dynamic"}
        "dynamic" draws the pixels here. What else there is must be done to the data before, with
        `numpy_vae.data.binarized`.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        The same seed gives the same draws, so two models are compared on the same numbers.

    Raises
    ------
    ValueError
        If there are no images, or the likelihood does not accept their values.
    FloatingPointError
        If a value overflows or is not a number.
    """
    check_choice("binarize", binarize, ("none", "dynamic"))
    if len(images) == 0:
        raise ValueError("images are empty, must be at least one")
    check_values(vae.likelihood, images, "the images")
    # Not the children from which a run of the same seed draws its weights and its order.
    noise, pixels = np.random.default_rng(rng).spawn(6)[4:]
    reconstruction = kl = 0.0
    for start in range(0, len(images), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        x = batch(images, rows, binarize=binarize, rng=pixels, dtype=vae.params.dtype)
        eps = noise.standard_normal((len(x), vae.latent_dim))
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            losses = vae.loss(vae.forward(x, eps))
        reconstruction += float(losses[0].sum())
        kl += float(losses[1].sum())
    if not math.isfinite(reconstruction + kl):  # a NaN that comes in raises no flag
        raise FloatingPointError("the ELBO is not finite")
    return elbo_of(reconstruction / len(images), kl / len(images))
