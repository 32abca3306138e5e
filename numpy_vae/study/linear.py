"""The linear model with a Gaussian likelihood (probabilistic PCA): its optimum, and log p(x).

Letters of this module: N images, D pixels, Z latent dimensions.

x = z W + b + noise of variance τ², with z ~ N(0, I). Let γ and u be the Z largest eigenvalues of
the data covariance and their eigenvectors, x̄ the data mean, τ'² = βτ² and c = max(γ, τ'²). The
objective with weight β is highest where b = x̄, the rows of W are u √(c - τ'²), and

    q(z | x) = N((x - x̄) Wᵀ / c, τ'² / c)

With β = 1 that is the true posterior, so the ELBO is log p(x). The likelihood is highest where τ²
is the mean of the eigenvalues that are left out.

For any W, b and τ², log p(x, z) is quadratic in z; completing the square, with
P = I + W Wᵀ / τ², (Z, Z), and μ* = (x - b) Wᵀ P⁻¹ / τ²:

    p(z | x) = N(μ*, P⁻¹)
    log p(x) = -(D log 2πτ² + log det P + |x - b|² / τ² - μ* P μ*ᵀ) / 2

The objective is quadratic in eps, so its mean over N(0, I) is that over a few points.
"""

from __future__ import annotations

import math

import numpy as np

from ..likelihood import Gaussian
from ..params import Array
from ..vae import VAE


def linear_optimum(x: Array, latent: int, variance: float | None = None, beta: float = 1.0) -> VAE:
    """Return the linear model with the highest objective on x, (N, D), in float64.

    `variance` is τ² of the likelihood; by default the one with the highest likelihood.
    """
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))  # ascending
    v = float(values[:-latent].mean()) if variance is None else variance
    kept, vectors = values[: -latent - 1 : -1], vectors[:, : -latent - 1 : -1]
    vectors = vectors * np.sign(vectors.sum(axis=0))  # u or -u: the same on every machine
    c = np.maximum(kept, beta * v)
    vae = VAE(x.shape[1], (), latent, likelihood=Gaussian(v), dtype=np.float64, rng=0)
    p, W = vae.params, (vectors * np.sqrt(c - beta * v)).T  # (Z, D)
    p["output.W"][:], p["output.b"][:] = W, x.mean(axis=0)
    p["mu.W"][:] = W.T / c
    p["mu.b"][:] = -p["output.b"] @ p["mu.W"]
    p["logvar.W"][:], p["logvar.b"][:] = 0, np.log(beta * v / c)
    return vae


def linear_posterior(vae: VAE, x: Array) -> tuple[Array, Array]:
    """Means, (N, Z), and precision P, (Z, Z), of p(z | x)."""
    W, v = vae.params["output.W"], variance_of(vae)  # (Z, D)
    A = W @ W.T + v * np.eye(len(W))
    return np.linalg.solve(A, W @ (x - vae.params["output.b"]).T).T, A / v


def linear_log_p(vae: VAE, x: Array) -> Array:
    """log N(x; b, Wᵀ W + τ² I), (N,), by a determinant and an inverse of size Z."""
    W, v = vae.params["output.W"], variance_of(vae)
    d = x - vae.params["output.b"]
    mean, precision = linear_posterior(vae, x)
    square = ((d * d).sum(axis=1) - ((d @ W.T) * mean).sum(axis=1)) / v
    log_det = vae.data_dim * math.log(v) + np.linalg.slogdet(precision)[1]
    return -(vae.data_dim * math.log(2 * math.pi) + log_det + square) / 2


def variance_of(vae: VAE) -> float:
    """Return τ² of a model with a Gaussian likelihood, given or learned."""
    learned = vae.params.get("likelihood.logvar")
    if learned is not None:
        return float(np.exp(learned[0]))
    assert isinstance(vae.likelihood, Gaussian)
    return vae.likelihood.variance


def cubature(latent: int) -> Array:
    """Points for eps, (2Z, Z), with the same mean of any quadratic as N(0, I)."""
    return math.sqrt(latent) * np.vstack([np.eye(latent), -np.eye(latent)])
