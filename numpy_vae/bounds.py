"""What training maximises: two lower bounds of log p(x), and their gradients.

Axes: B examples, K samples.

A bound combines three terms of each example, with z_k = mu + sigma eps_k:

    nll_k  = -log p(x | z_k)                             reconstruction, (K, B) or (B,)
    kl     = KL(q(z | x) || p(z))                        analytic, (B,)
    r_k    = log q(z_k | x) - log p(z_k)                 whose expectation is kl, (K, B) or (B,)

The loss is minus its mean over the batch. beta weighs the cost of q against the reconstruction;
with beta = 1 it is a bound of log p(x).

**ELBO** [1]. K samples are averaged, which makes the estimate less noisy but no tighter:

    loss = 1/B Σ_b [1/K Σ_k nll_k + beta kl]             dnll = 1/(K B)     dkl = beta/B

**Importance-weighted bound** (IWAE) [2]. With weights w_k = p(x | z_k) p(z_k) / q(z_k | x),

    log w_k = -nll_k - beta r_k
    loss    = 1/B Σ_b -log(1/K Σ_k w_k)

By Jensen's inequality its expectation rises with K, and it tends to log p(x) if the weights are
bounded. With K = 1 it is the ELBO with r in place of kl. Its derivative is a softmax, the weights
normalised over K:

    d(-log Σ_j w_j) / d log w_k = -w_k / Σ_j w_j = -v_k
    dnll_k = v_k / B                                     dratio_k = beta v_k / B

The analytic kl cannot replace r. It is one number for all K samples and comes out of the logarithm:
-log(1/K Σ p(x | z_k)) + beta kl. The samples are drawn from q but not divided by q, so that is not
a bound.

The weights are exponentials of about -100 nats and differ by orders of magnitude, so the largest is
divided out before they are summed: log Σ w = m + log Σ e^(log w - m), m = max.

References
----------
[1] D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes", arXiv:1312.6114, 2013.
[2] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted Autoencoders",
    arXiv:1509.00519, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .params import Array


class Terms(NamedTuple):
    """The terms of a bound, in nats per example; or a loss's derivatives with respect to them."""

    reconstruction: Array  # -log p(x | z), (B,) or (K, B)
    kl: Array  # KL(q || p), (B,)
    log_ratio: Array | None = None  # log q(z | x) - log p(z), shaped like the first


class Bound(NamedTuple):
    """The loss of a bound (minus its batch mean), and its derivatives with respect to the terms."""

    name: str
    forward: Callable[[Terms, float], Any]
    backward: Callable[[Terms, float], Terms]


def elbo_loss(terms: Terms, beta: float) -> Any:
    """Mean over batch and samples of reconstruction + beta KL."""
    return terms.reconstruction.mean() + beta * terms.kl.mean()


def elbo_loss_backward(terms: Terms, beta: float) -> Terms:
    """dnll = 1/(K B), dkl = beta/B, for any terms."""
    return elbo_weights(terms.reconstruction.shape, terms.reconstruction.dtype, beta)


def elbo_weights(shape: tuple[int, ...], dtype: DTypeLike, beta: float) -> Terms:
    """dnll = 1/(K B), of this shape, (B,) or (K, B), and dkl = beta/B, of shape (B,)."""
    dnll = np.full(shape, 1 / math.prod(shape), dtype)
    dkl = np.full(shape[-1:], beta / shape[-1], dtype)
    return Terms(dnll, dkl)


def iwae_loss(terms: Terms, beta: float) -> Any:
    """Mean over the batch of -log(1/K Σ_k w_k)."""
    log_w = log_weights(terms, beta)
    most = log_w.real.max(axis=0)  # (B,)
    return -(most + np.log(np.exp(log_w - most).mean(axis=0))).mean()


def iwae_loss_backward(terms: Terms, beta: float) -> Terms:
    """dnll_k = v_k / B, dratio_k = beta v_k / B with the normalised weights v; kl is not read."""
    log_w = log_weights(terms, beta)
    v = np.exp(log_w - log_w.real.max(axis=0))
    v /= v.sum(axis=0)
    dnll = (v / v.shape[-1]).reshape(terms.reconstruction.shape)
    return Terms(dnll, np.zeros_like(terms.kl), beta * dnll)


def log_weights(terms: Terms, beta: float = 1.0) -> Array:
    """log w = -reconstruction - beta log_ratio, shape (K, B), in nats."""
    assert terms.log_ratio is not None
    log_w = -(terms.reconstruction + beta * terms.log_ratio)
    return log_w.reshape(-1, log_w.shape[-1])


BOUNDS = {
    "elbo": Bound("elbo", elbo_loss, elbo_loss_backward),
    "iwae": Bound("iwae", iwae_loss, iwae_loss_backward),
}
