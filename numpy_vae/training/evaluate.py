"""How good is a model on images it was not trained on?

The ELBO of an image x, with z drawn from q(z | x), is

    log p(x | z) - KL(q(z | x) || N(0, I)),

and its expectation is at most log p(x). `evaluate_elbo` averages it over images with one draw of z
each. At the posterior mean (eps = 0) the first term is usually larger, and the result is not a
bound. Models are compared at beta = 1, whatever beta they were trained with.

`evaluate_likelihood` estimates log p(x) by importance sampling from q [1]: with S draws z_s,

    log p(x) ≈ log 1/S Σ_s w_s         log w_s = log p(x | z_s) + log p(z_s) - log q(z_s | x)

The mean weight is an unbiased estimate of p(x), so its logarithm is too low on average: a lower
bound that rises to log p(x) with S. The sum is taken in log space, one draw after another: a draw
that exceeds the largest log w so far, m, rescales the total Σ e^(log w - m). Memory does not grow
with S. The standard error of an image's estimate follows from that of the mean weight, as
d log w = dw / w: with the mean square q of the w and their mean p,

    se = sqrt(variance of w / S) / p = sqrt((q / p² - 1) / (S - 1))

A latent dimension is *active* if the variance of its posterior mean over images exceeds 0.01 [1].
In a trained model the KL of an inactive one is usually near zero.

References
----------
[1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted Autoencoders",
    arXiv:1509.00519, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import posterior
from ..bounds import log_weights
from ..checks import check_whole, overflow_raises
from ..data.binarize import batch
from ..data.mapped import ROWS_AT_ONCE, Images, chunks
from ..likelihood import check_values
from ..memory import keep_freed_memory
from ..params import Array
from ..seeds import spawn_streams
from ..vae import VAE

# 5 samples of 100 images are one product of 500 rows: BLAS threads meet once instead of five times.
# The draws do not depend on the number of samples at once, but on that of images.
SAMPLES_AT_ONCE = 5
IMAGES_AT_ONCE = ROWS_AT_ONCE // SAMPLES_AT_ONCE
MAX_IMPORTANCE_SAMPLES = 10_000_000
ACTIVE = 0.01  # the variance over images of the posterior mean of an active dimension


def encode_images(
    vae: VAE, images: Images, *, pixels: np.random.Generator | None = None
) -> tuple[Array, Array]:
    """Return mu and logvar of q(z | x), both (N, Z), for images (N, D); `pixels` as in `batch`."""
    mu = np.empty((len(images), vae.latent_dim), vae.params.dtype)
    logvar = np.empty_like(mu)
    for rows in chunks(images):
        x = batch(images, rows, pixels=pixels, dtype=vae.input_dtype)
        mu[rows], logvar[rows] = vae.encode(x)
    return mu, logvar


class Elbo(NamedTuple):
    """Means over a set of images, in nats per image: elbo = -(reconstruction + kl)."""

    elbo: float
    reconstruction: float
    kl: float


def elbo_of(reconstruction: float, kl: float) -> Elbo:
    """Return the two terms and their ELBO."""
    return Elbo(-(reconstruction + kl), reconstruction, kl)


def evaluate_elbo(
    vae: VAE, images: Images, *, draw: bool = False, rng: np.random.Generator | int | None = None
) -> Elbo:
    """Return the mean ELBO over `images`, (N, D), uint8 or float, with one draw of the noise.

    With `draw`, each pixel is drawn once too, as in training with ``binarize="dynamic"``. The same
    `rng` (what `numpy.random.default_rng` accepts) gives the same draws for another model.
    ValueError if there are no images or the likelihood refuses their values; FloatingPointError if
    a value is not finite.
    """
    _check(vae, images)
    return mean_elbo(vae, images, *spawn_streams(rng).held_out(), draw=draw)


def _check(vae: VAE, images: Images) -> None:
    if len(images) == 0:
        raise ValueError("there are no images, must be at least one")
    check_values(vae.likelihood, images, "the images")


def mean_elbo(
    vae: VAE, images: Images, noise: np.random.Generator, pixels: np.random.Generator, *, draw: bool
) -> Elbo:
    """`evaluate_elbo` without checks of the images, with these two streams."""
    keep_freed_memory()
    reconstruction = kl = 0.0
    for rows in chunks(images):
        x = batch(images, rows, pixels=pixels if draw else None, dtype=vae.input_dtype)
        eps = noise.standard_normal((len(x), vae.latent_dim))
        with overflow_raises():
            losses = vae.loss(vae.forward(x, eps))
        reconstruction += float(losses[0].sum())
        kl += float(losses[1].sum())
    if not math.isfinite(reconstruction + kl):  # a NaN in the inputs raises no flag
        raise FloatingPointError("the ELBO is not finite")
    return elbo_of(reconstruction / len(images), kl / len(images))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of `evaluate_likelihood`, in nats for each image."""

    samples: int  # S, draws of z for each image
    log_likelihoods: Array  # (N,) log 1/S Σ w: on average over draws a lower bound of log p(x)
    reconstructions: Array  # (N,) -log p(x | z), averaged over the draws
    kls: Array  # (N, Z) KL(q(z | x) || p(z)) of each latent dimension
    mus: Array  # (N, Z) the posterior means
    log_likelihood_ses: Array  # (N,) standard errors over the draws; NaN for S = 1

    @property
    def elbos(self) -> Array:
        """The ELBO of each image, (N,)."""
        return -(self.reconstructions + self.kls.sum(axis=1))

    def summary(self) -> dict[str, Any]:
        """Return the means over the images, for JSON; `_se` are standard errors."""
        elbos = self.elbos
        return {
            "log_likelihood": float(self.log_likelihoods.mean()),
            "log_likelihood_se": standard_error(self.log_likelihoods),
            "elbo": float(elbos.mean()), "elbo_se": standard_error(elbos),
            "reconstruction": float(self.reconstructions.mean()),
            "kl": float(self.kls.sum(axis=1).mean()),
            "kl_per_dimension": self.kls.mean(axis=0).tolist(),
            "active_units": int(active_dimensions(self.mus).sum()) if len(elbos) > 1 else None,
            "images": len(elbos), "samples": self.samples,
        }  # fmt: skip


def active_dimensions(mus: Array) -> Array:
    """Return which dimensions are active, bool (Z,), from the posterior means, (N, Z)."""
    return mus.var(axis=0) > ACTIVE


def standard_error(values: Array) -> float | None:
    """Return the standard error of the mean of independent values; None for a single one."""
    if len(values) < 2:
        return None
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def evaluate_likelihood(
    vae: VAE, images: Images, *, samples: int = 5000, draw: bool = False,
    rng: np.random.Generator | int | None = None, on_images: Callable[[int], None] | None = None,
    same_noise: bool = False,
) -> Evaluation:  # fmt: skip
    """Return the ELBO and the importance-weighted log p(x) of each image, with S = `samples`.

    `images`, `draw`, `rng` and errors are as in `evaluate_elbo`. Pixels are drawn once and do not
    depend on `samples`: with one seed two models see the same images, so their difference can be
    paired. `on_images` is called with the number of images done, after each chunk. With
    `same_noise` all images share their draws of eps, so that the value of an image does not depend
    on the others; then their errors are not independent.
    """
    check_whole("samples", samples, 1, MAX_IMPORTANCE_SAMPLES)
    _check(vae, images)
    keep_freed_memory()
    noise, pixels = spawn_streams(rng).held_out()
    chunks = []
    for start in range(0, len(images), IMAGES_AT_ONCE):
        rows = slice(start, start + IMAGES_AT_ONCE)
        x = batch(images, rows, pixels=pixels if draw else None, dtype=vae.input_dtype)
        with overflow_raises():
            of_chunk = deepcopy(noise) if same_noise else noise
            chunks.append(_evaluate_chunk(vae, x, samples, of_chunk, 1 if same_noise else len(x)))
        if on_images is not None:
            on_images(start + len(x))
    found = map(np.concatenate, zip(*chunks, strict=True))
    log_likelihoods, reconstructions, kls, mus, ses = found
    # A NaN in the inputs raises no flag.
    if not np.isfinite(log_likelihoods + reconstructions + kls.sum(axis=1)).all():
        raise FloatingPointError("the log-likelihood is not finite")
    return Evaluation(samples, log_likelihoods, reconstructions, kls, mus, ses)


def bits_per_dimension(
    log_likelihoods: Array, vae: VAE, images: Images, *, draw: bool = False
) -> Array | None:
    """Return -log2 p(x) / D of each image, (N,), or None where that has no meaning.

    It has one for probabilities: of counts, or of pixels that are 0 or 1 (or drawn so, with
    `draw`). And for densities of bytes x = b / 255, per grey level: a change of variables adds
    log2 255 to each dimension. (For dequantised bytes, (b + u) / 256 with u uniform in [0, 1), one
    would add log2 256; this package does not dequantise.)
    """
    d, name = vae.data_dim, vae.likelihood.name
    bits = -log_likelihoods / (d * math.log(2))
    if name == "poisson" or (name == "bernoulli" and (draw or is_binary(images))):
        return bits
    if name != "bernoulli" and images.dtype == np.uint8:
        return bits + math.log2(255)
    return None


def is_binary(images: Images) -> bool:
    """Return whether all pixels are 0 or 1."""
    white = 255 if images.dtype == np.uint8 else 1
    return all(((x == 0) | (x == white)).all() for x in (images[rows] for rows in chunks(images)))


def _evaluate_chunk(
    vae: VAE, x: Array, samples: int, noise: np.random.Generator, draws: int
) -> tuple[Array, Array, Array, Array, Array]:
    """Return the arrays of an `Evaluation` for some images, in constant memory.

    `draws` of eps are made for each sample: as many as images, or 1 for all of them.
    """
    trace = None
    most = np.full(len(x), -np.inf)  # the largest log w so far
    total, squares = np.zeros(len(x)), np.zeros(len(x))  # Σ e^(log w - most), and of its square
    reconstruction = np.zeros(len(x))  # Σ nll
    for first in range(0, samples, SAMPLES_AT_ONCE):
        shape = min(SAMPLES_AT_ONCE, samples - first), len(x), vae.latent_dim
        eps = noise.standard_normal((shape[0], draws, shape[2]), np.float32)
        eps = np.broadcast_to(eps, shape)
        trace = vae.forward(x, eps) if trace is None else vae.resample(trace, eps)
        terms = vae.terms(trace)
        log_w = log_weights(terms)  # (S', B)
        higher = np.maximum(most, log_w.max(axis=0))
        w = np.exp(log_w - higher)
        total = total * np.exp(most - higher) + w.sum(axis=0)
        squares = squares * np.exp(2 * (most - higher)) + (w * w).sum(axis=0)
        most = higher
        reconstruction += terms.reconstruction.sum(axis=0)
    assert trace is not None
    kls = posterior.kl_per_dimension(trace.mu, trace.logvar, trace.sigma)
    log_likelihood = most + np.log(total) - math.log(samples)
    se = np.full(len(x), np.nan)
    if samples > 1:
        excess = samples * squares / (total * total) - 1
        se = np.sqrt(np.maximum(excess, 0) / (samples - 1))
    return log_likelihood, reconstruction / samples, kls.astype(np.float64), trace.mu, se
