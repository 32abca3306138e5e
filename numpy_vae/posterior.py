"""The approximate posterior q(z | x) = N(mu, diag(sigma²)): the one module that uses logvar.

Axes: B examples, Z latent dimensions, K samples.

Two heads, each with its own weights, read the same hidden layer h and give mu and logvar, the
logarithm of sigma². Any real number is a valid logvar (in float32, any below about 80: sigma² and
z² overflow at 88). sigma is computed in one place,

    sigma = exp(logvar / 2)                      ∂sigma/∂logvar = sigma / 2

**The sample.** With eps ~ N(0, I), z = mu + sigma eps is a draw from N(mu, sigma²): an affine map
of a normal variable is normal, with mean mu + sigma 0 and variance sigma² 1. The randomness is in
eps, which no parameter touches, so z is a smooth function of mu and logvar [1, section 2.4]:

    dmu = dz                                     dlogvar = dz ∂z/∂sigma ∂sigma/∂logvar
                                                         = dz eps sigma / 2

**The divergence.** With p(z) = N(0, I), one dimension at a time [1, appendix B]:

    KL(q || p) = E_q[log q(z) - log p(z)]
               = E[-(log 2π + logvar + eps²) / 2 + (log 2π + z²) / 2]
               = (mu² + sigma² - 1 - logvar) / 2         as E[eps²] = 1, E[z²] = mu² + sigma²

    dmu = dkl mu                                 dlogvar = dkl (sigma² - 1) / 2

**The log ratio** log q(z | x) - log p(z) at one sample. Its expectation is the divergence, and the
importance-weighted bound needs it for each sample. With (z - mu) / sigma = eps,

    r = Σ_z [-(log 2π + logvar + eps²) / 2 + (log 2π + z²) / 2] = Σ_z (z² - eps² - logvar) / 2

where z depends on mu and logvar, as in the sample, and eps does not:

    dmu = dratio z                               dlogvar = dratio (z sigma eps - 1) / 2

The sampler and the divergence share sigma, in one file. Kept apart, one may take exp(logvar) for
the standard deviation and the other for the variance. No gradient check sees this, since each
gradient is the true derivative of a wrong function.

References
----------
[1] D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes", arXiv:1312.6114, 2013.
"""

from __future__ import annotations

import numpy as np

from .params import Array


def standard_deviation(logvar: Array) -> Array:
    """sigma = exp(logvar / 2), shape (B, Z)."""
    return np.exp(logvar / 2)


def sample(mu: Array, sigma: Array, eps: Array) -> Array:
    """z = mu + sigma eps, shape of `eps`: (B, Z), or (K, B, Z) for K samples of each example."""
    return mu + sigma * eps


def sample_backward(eps: Array, sigma: Array, dz: Array) -> tuple[Array, Array, Array]:
    """dmu = dz, dlogvar = dz eps sigma / 2, both (B, Z), summed over K; and deps = dz sigma.

    eps, dz and deps are (B, Z) or (K, B, Z), sigma is (B, Z).
    """
    dmu, dlogvar, deps = dz, dz * eps * (sigma / 2), dz * sigma
    if dz.ndim > sigma.ndim:  # all K samples read the same mu and logvar
        dmu, dlogvar = dmu.sum(axis=0), dlogvar.sum(axis=0)
    return dmu, dlogvar, deps


def kl(mu: Array, logvar: Array, sigma: Array) -> Array:
    """KL(q || N(0, I)) = Σ_z (mu² + sigma² - 1 - logvar) / 2, shape (B,), in nats per example."""
    return (mu * mu + sigma * sigma - 1 - logvar).sum(axis=-1) / 2


def kl_per_dimension(mu: Array, logvar: Array, sigma: Array) -> Array:
    """(mu² + sigma² - 1 - logvar) / 2 of each latent dimension alone, (B, Z), in nats."""
    return kl(mu[..., np.newaxis], logvar[..., np.newaxis], sigma[..., np.newaxis])


def kl_backward(mu: Array, sigma: Array, dkl: Array) -> tuple[Array, Array]:
    """dmu = dkl mu, dlogvar = dkl (sigma² - 1) / 2, both (B, Z), from dkl of shape (B,)."""
    dkl = dkl[..., np.newaxis]
    return dkl * mu, dkl * (sigma * sigma - 1) / 2


def log_ratio(logvar: Array, eps: Array, z: Array) -> Array:
    """log q(z | x) - log p(z) = Σ_z (z² - eps² - logvar) / 2, (B,) or (K, B), nats per example."""
    return (z * z - eps * eps - logvar).sum(axis=-1) / 2


def log_ratio_backward(
    eps: Array, sigma: Array, z: Array, dratio: Array
) -> tuple[Array, Array, Array]:
    """dmu = dratio z, dlogvar = dratio (z sigma eps - 1) / 2, deps = dratio (z sigma - eps).

    dratio is (B,) or (K, B), eps and z are (B, Z) or (K, B, Z), sigma is (B, Z). dmu and dlogvar
    are (B, Z), summed over K, and deps has the shape of eps.
    """
    dratio = dratio[..., np.newaxis]
    dmu, dlogvar = dratio * z, dratio * (z * sigma * eps - 1) / 2
    deps = dratio * (z * sigma - eps)
    if dmu.ndim > sigma.ndim:  # all K samples read the same mu and logvar
        dmu, dlogvar = dmu.sum(axis=0), dlogvar.sum(axis=0)
    return dmu, dlogvar, deps
