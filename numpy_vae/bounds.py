"""What training maximises: two lower bounds of log p(x), and their gradients.

Letters of this module: B examples, K samples.

A bound is made of three terms of each example, with z_k = mu + sigma eps_k:

    nll_k  = -log p(x | z_k)                             reconstruction, (K, B) or (B,)
    kl     = KL(q(z | x) || p(z))                        analytic, (B,)
    r_k    = log q(z_k | x) - log p(z_k)                 whose expectation is kl, (K, B) or (B,)

and knows nothing of where they come from. The loss is minus its mean over the batch; beta weighs
what q costs against what it explains, and the bound of log p(x) is that of beta = 1.

**ELBO** [1]. K samples are an average, which makes the estimate less noisy and no tighter:

    loss = 1/B Σ_b [1/K Σ_k nll_k + beta kl]             dnll = 1/(K B)     dkl = beta/B

**Importance-weighted bound** (IWAE) [2]. With weights w_k = p(x | z_k) p(z_k) / q(z_k | x),

    log w_k = -nll_k - beta r_k
    loss    = 1/B Σ_b -log(1/K Σ_k w_k)

By Jensen's inequality it is, on average over the draws, tighter the larger K is, and tends to
log p(x) if the weights are bounded; with K = 1 it is the ELBO with r in place of kl. Its derivative
is a softmax, the weights normalised to 1 over K:

    d(-log Σ_j w_j) / d log w_k = -w_k / Σ_j w_j = -v_k
    dnll_k = v_k / B                                     dratio_k = beta v_k / B

The analytic kl has no part in it. It is one number for all K samples, and would leave the
logarithm: -log(1/K Σ p(x | z_k)) + beta kl, of samples that are drawn from q and not divided by q,
which is no bound.

The weights are exponentials of some -100 nats and of very different sizes, so all sums are taken
after the largest has been divided out: log Σ w = m + log Σ e^(log w - m), m = max.

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
    log_ratio: Array | None = None  # log q(z | x) - log p(z), like the first; a derivative or none


class Bound(NamedTuple):
    """The loss of a bound (minus its batch mean), and its derivatives with respect to the terms."""

    name: str
    forward: Callable[[Terms, float], Any]
    backward: Callable[[Terms, float], Terms]


def elbo_loss(terms: Terms, beta: float) -> Any:
    """Mean over batch and samples of reconstruction + beta KL."""
    return terms.reconstruction.mean() + beta * terms.kl.mean()


def elbo_loss_backward(terms: Terms, beta: float) -> Terms:
    """dnll = 1/(K B), dkl = beta/B, whatever the terms are."""
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
