"""The likelihood p(x | z): what the decoder's last layer means.

Letters of this module: B examples, K samples, D pixels.

The decoder ends in an affine map, whose value here is l, of shape (..., D). A likelihood says how l
gives a distribution over x: the negative log-likelihood per example -log p(x | z) with all its
constants, its gradient, its mean, a sampler, and the values of x that it accepts. It knows x and l
and nothing of the network.

**Bernoulli**, l the logits, p = sigmoid(l) = 1 / (1 + e⁻ˡ) [1, appendix C.1]:

    -log p(x|z) = -Σ_d [x log p + (1 - x) log(1 - p)] = Σ_d [softplus(l) - x l]
        as log p = l - softplus(l) and log(1 - p) = -softplus(l), with softplus(l) = log(1 + eˡ)
    ∂/∂l = p - x                                            as softplus' = sigmoid
    ∂/∂x = -l

No logarithm of a probability is taken, so no 1e-8 has to be added to one and nothing is clipped;
with |l| = 10 000 value and gradient are still right, to the rounding of 1. e to a positive power
never occurs:

    softplus(l) = max(l, 0) + log(1 + e^-|l|)       sigmoid(l) = (1 + tanh(l / 2)) / 2

**Gaussian** of a given variance v, l the mean [1, appendix C.2]:

    -log p(x|z) = Σ_d ((x - l)² / v + log(2πv)) / 2
    ∂/∂l = (l - x) / v
    ∂/∂x = (x - l) / v

To add a likelihood, write a frozen dataclass with the members of `Likelihood` and hand an instance
to `VAE(likelihood=...)`. Entered in `LIKELIHOODS` under its name, it can be saved and loaded too.

References
----------
[1] D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes", arXiv:1312.6114, 2013.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from .checks import check_choice, check_real
from .params import Array


class Likelihood(Protocol):
    """What the model asks of p(x | z). x has shape (B, D), l has (B, D) or (K, B, D)."""

    name: ClassVar[str]
    support: ClassVar[tuple[float, float]]  # the smallest and the largest x that it accepts

    def nll(self, x: Array, l: Array) -> Array:
        """-log p(x | z), summed over D: shape (B,) or (K, B), in nats per example."""

    def nll_backward(self, x: Array, l: Array, dnll: Array) -> Array:
        """dl, of the shape of l, from dnll of the shape of `nll`."""

    def nll_backward_x(self, x: Array, l: Array, dnll: Array) -> Array:
        """dx as far as x is what is to be explained, of the shape of l."""

    def mean(self, l: Array) -> Array:
        """E[x | z], of the shape of l: what pictures show."""

    def sample(self, l: Array, rng: np.random.Generator) -> Array:
        """x ~ p(x | z), of the shape of l."""


@dataclass(frozen=True)
class Bernoulli:
    """Independent pixels, x = 1 with probability sigmoid(l).

    For x between 0 and 1 (grey pixels) the same formula is a cross-entropy: a common training
    objective, and not the likelihood of anything.
    """

    name: ClassVar[str] = "bernoulli"
    support: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def nll(self, x: Array, l: Array) -> Array:
        """Σ_d [softplus(l) - x l], shape of l without its last axis, nats per example."""
        positive = l * (l.real > 0)  # max(l, 0), so that l - 2 positive = -|l|
        softplus = positive + np.log1p(np.exp(l - 2 * positive))
        return (softplus - x * l).sum(axis=-1)

    def nll_backward(self, x: Array, l: Array, dnll: Array) -> Array:
        """dl = dnll (p - x), shape of l."""
        return dnll[..., np.newaxis] * (self.mean(l) - x)

    def nll_backward_x(self, x: Array, l: Array, dnll: Array) -> Array:
        """dx = -dnll l, shape of l."""
        return -dnll[..., np.newaxis] * l

    def mean(self, l: Array) -> Array:
        """p = sigmoid(l) = (1 + tanh(l / 2)) / 2, shape of l."""
        return (1 + np.tanh(l / 2)) / 2

    def sample(self, l: Array, rng: np.random.Generator) -> Array:
        """1 with probability p, else 0, shape and dtype of l."""
        return (rng.random(l.shape) < self.mean(l)).astype(l.dtype)


@dataclass(frozen=True)
class Gaussian:
    """Independent pixels, x ~ N(l, v) with one given variance v.

    Parameters
    ----------
    variance : float, default 0.1
        v, in squared pixel values. 0.1 is about the variance of the MNIST pixels themselves; a
        smaller v asks for sharper reconstructions and gives the divergence less weight.
    """

    variance: float = 0.1
    name: ClassVar[str] = "gaussian"
    support: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        check_real("variance", self.variance, 1e-6, 1e6, open_below=False)

    def nll(self, x: Array, l: Array) -> Array:
        """Σ_d ((x - l)² / v + log(2πv)) / 2, shape of l without its last axis, nats per example."""
        constant = l.shape[-1] * math.log(2 * math.pi * self.variance) / 2
        return ((x - l) * (x - l)).sum(axis=-1) / (2 * self.variance) + constant

    def nll_backward(self, x: Array, l: Array, dnll: Array) -> Array:
        """dl = dnll (l - x) / v, shape of l."""
        return dnll[..., np.newaxis] * (l - x) / self.variance

    def nll_backward_x(self, x: Array, l: Array, dnll: Array) -> Array:
        """dx = dnll (x - l) / v, shape of l."""
        return dnll[..., np.newaxis] * (x - l) / self.variance

    def mean(self, l: Array) -> Array:
        """l itself."""
        return l

    def sample(self, l: Array, rng: np.random.Generator) -> Array:
        """l + sqrt(v) n with n ~ N(0, I), shape and dtype of l."""
        noise = rng.standard_normal(l.shape).astype(l.dtype)
        return l + math.sqrt(self.variance) * noise


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
}


def make_likelihood(kind: str | Mapping[str, Any] | Likelihood) -> Likelihood:
    """Return a likelihood from its name, from its name and settings, or as it is given.

    Raises
    ------
    ValueError
        If `kind` is a name that is not in `LIKELIHOODS`, or no likelihood.
    """
    if isinstance(kind, str):
        kind = {"name": kind}
    if isinstance(kind, Mapping):
        settings = dict(kind)
        return LIKELIHOODS[check_choice("likelihood", settings.pop("name", None), LIKELIHOODS)](
            **settings
        )
    if isinstance(kind, type) or not hasattr(kind, "nll_backward"):
        raise ValueError(
            f"likelihood is {kind!r}, must be a name or an object such as Gaussian(0.1)"
        )
    return kind


def check_values(likelihood: Likelihood, images: Array, what: str) -> None:
    """Refuse images with values that `likelihood` does not accept.

    Parameters
    ----------
    images : ndarray, shape (N, D)
        uint8 pixels stand for value / 255 and are within [0, 1] whatever they are.
    what : str
        What the images are called in the message.

    Raises
    ------
    ValueError
    """
    if images.dtype == np.uint8:
        return
    low, high = likelihood.support
    least, most = images.min(), images.max()
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ValueError(f"the values of {what} must be finite, and some are not")
    if least < low or most > high:
        raise ValueError(
            f"the values of {what} run from {least:g} to {most:g}, "
            f"must be within [{low:g}, {high:g}] for the {likelihood.name} likelihood: "
            "rescale them, or choose another"
        )
