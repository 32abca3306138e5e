"""The linear model with a Gaussian likelihood, probabilistic PCA: its optimum, and log p(x).

Letters of this module: N images, D pixels, Z latent dimensions.

x = z W + b + noise of variance v, with z ~ N(0, I). Let lambda and u be the Z largest eigenvalues
of the covariance of x and their eigenvectors, and v' = beta v. The objective with that beta is
highest where the rows of W are u √(lambda - v'), or 0 where lambda < v', b is the mean of x, and,
with c = max(lambda, v'),

    q(z | x) = N((x - b) Wᵀ / c, v' / c)

With beta = 1 that is the true posterior p(z | x), so that the ELBO is log p(x). The likelihood of v
itself is highest at the mean of the eigenvalues that are left out.

For any W, b and v, with A = W Wᵀ + v I, (Z, Z), and d = x - b (Woodbury; the determinant lemma):

    log p(x) = -((D - Z) log v + D log 2π + log det A + (d dᵀ - d Wᵀ A⁻¹ W dᵀ) / v) / 2
    p(z | x) = N(d Wᵀ A⁻¹, v A⁻¹)

and the objective is quadratic in eps, so that a mean over a few points takes the place of draws.
"""

from __future__ import annotations

import math

import numpy as np

from ..likelihood import Gaussian
from ..params import Array
from ..vae import VAE


def linear_optimum(x: Array, latent: int, variance: float | None = None, beta: float = 1.0) -> VAE:
    """Return the linear model with the highest objective on x, (N, D), in float64.

    `variance` is v of the likelihood; where it is not given, that of the highest likelihood.
    """
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))  # ascending
    v = float(values[:-latent].mean()) if variance is None else variance
    kept, vectors = values[: -latent - 1 : -1], vectors[:, : -latent - 1 : -1]
    vectors = vectors * np.sign(vectors.sum(axis=0))  # of u and -u the same on every machine
    c = np.maximum(kept, beta * v)
    vae = VAE(x.shape[1], (), latent, likelihood=Gaussian(v), dtype=np.float64, rng=0)
    p, W = vae.params, (vectors * np.sqrt(c - beta * v)).T  # (Z, D)
    p["output.W"][:], p["output.b"][:] = W, x.mean(axis=0)
    p["mu.W"][:] = W.T / c
    p["mu.b"][:] = -p["output.b"] @ p["mu.W"]
    p["logvar.W"][:], p["logvar.b"][:] = 0, np.log(beta * v / c)
    return vae


def linear_posterior(vae: VAE, x: Array) -> tuple[Array, Array]:
    """p(z | x) = N(d Wᵀ A⁻¹, v A⁻¹): the means, (N, Z), and the precision A / v, (Z, Z)."""
    W, v = vae.params["output.W"], variance_of(vae)  # (Z, D)
    A = W @ W.T + v * np.eye(len(W))
    return np.linalg.solve(A, W @ (x - vae.params["output.b"]).T).T, A / v


def linear_log_p(vae: VAE, x: Array) -> Array:
    """log N(x; b, Wᵀ W + v I), (N,), by a determinant and an inverse of size Z."""
    W, v = vae.params["output.W"], variance_of(vae)
    d = x - vae.params["output.b"]
    mean, precision = linear_posterior(vae, x)
    square = ((d * d).sum(axis=1) - ((d @ W.T) * mean).sum(axis=1)) / v
    log_det = vae.data_dim * math.log(v) + np.linalg.slogdet(precision)[1]
    return -(vae.data_dim * math.log(2 * math.pi) + log_det + square) / 2


def variance_of(vae: VAE) -> float:
    """Return v of a model with a Gaussian likelihood, given or learned."""
    learned = vae.params.get("likelihood.logvar")
    if learned is not None:
        return float(np.exp(learned[0]))
    assert isinstance(vae.likelihood, Gaussian)
    return vae.likelihood.variance


def cubature(latent: int) -> Array:
    """Points for eps, (2Z, Z), over which the mean of a quadratic is that over N(0, I)."""
    return math.sqrt(latent) * np.vstack([np.eye(latent), -np.eye(latent)])
