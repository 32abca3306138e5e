"""The linear model with a Gaussian likelihood is probabilistic PCA, where log p(x) is known [1].

With hidden=() the decoder is x = W z + b + noise of variance v, so x ~ N(b, W W' + v I). The bound
is below that everywhere. Its optimum is known, too: the maximum-likelihood W has the first Z
eigenvectors u of the sample covariance as its columns, of length sqrt(lambda - v), and v is the
mean of the other eigenvalues. Orthogonal columns make the true posterior diagonal and affine in x,
so that q(z|x) can be equal to it, and the bound is tight. All of this holds for a variance that is
given, and for one that is learned.

[1] M. Tipping and C. Bishop, "Probabilistic Principal Component Analysis", JRSS B 61(3), 1999.
"""

import numpy as np
import pytest
from scipy import stats

from numpy_vae import VAE
from numpy_vae.likelihood import Gaussian, LearnedGaussian

N, D, Z = 60, 11, 3
each_kind = pytest.mark.parametrize("learned", [False, True], ids=["given", "learned"])


def cubature(n):
    """Return 2 Z points that stand for eps ~ N(0, I): exact for every polynomial of degree 3.

    The ELBO of the linear model is quadratic in eps, and so is its gradient: no Monte Carlo noise.
    """
    points = np.sqrt(Z) * np.vstack([np.eye(Z), -np.eye(Z)])  # (2Z, Z)
    return np.broadcast_to(points[:, np.newaxis], (2 * Z, n, Z))


def elbo(vae, x):
    reconstruction, kl = vae.loss(vae.forward(x, cubature(len(x))))
    return -(reconstruction.mean(axis=0) + kl)


def variance_of(vae):
    if "likelihood.logvar" in vae.params:
        return np.exp(vae.params["likelihood.logvar"][0])
    return vae.likelihood.variance


def log_likelihood(vae, x):
    W, variance = vae.params["output.W"], variance_of(vae)  # (Z, D), v
    return stats.multivariate_normal(vae.params["output.b"], W.T @ W + variance * np.eye(D)).logpdf(
        x
    )


@pytest.fixture
def x(rng):
    """Return correlated data, in more directions than the model has."""
    return rng.standard_normal((N, D)) @ rng.standard_normal((D, D)) + rng.standard_normal(D)


def maximum_likelihood(x, rotation=None, learned=False, factor=1.0):
    """Return the linear model at the optimum; `rotation` turns z, which changes no likelihood.

    With a factor of the best variance, it is the optimum for this variance.
    """
    rotation = np.eye(Z) if rotation is None else rotation
    b = x.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))  # ascending
    variance = factor * float(values[:-Z].mean())
    rows = (vectors[:, -Z:] * np.sqrt(values[-Z:] - variance)).T  # W', orthogonal rows (Z, D)
    likelihood = LearnedGaussian(np.log([variance])) if learned else Gaussian(variance)
    vae = VAE(D, (), Z, likelihood=likelihood, dtype=np.float64, rng=0)
    p = vae.params
    p["output.W"][:], p["output.b"][:] = rotation @ rows, b
    # p(z|x) = N(M W' (x - b), v M) with M = (W'W + v I)^-1, diagonal for orthogonal columns
    M = np.linalg.inv(p["output.W"] @ p["output.W"].T + variance * np.eye(Z))
    p["mu.W"][:] = p["output.W"].T @ M
    p["mu.b"][:] = -b @ p["mu.W"]
    p["logvar.W"][:] = 0
    p["logvar.b"][:] = np.log(variance * np.diag(M))
    return vae


@each_kind
@pytest.mark.mathematics
def test_the_bound_is_tight_for_every_x_at_the_maximum_likelihood_solution(x, rng, learned):
    vae = maximum_likelihood(x, learned=learned)
    np.testing.assert_allclose(elbo(vae, x), log_likelihood(vae, x), rtol=1e-11)
    elsewhere = 5 * rng.standard_normal((N, D))  # also for x that it has not been fitted to
    np.testing.assert_allclose(elbo(vae, elsewhere), log_likelihood(vae, elsewhere), rtol=1e-11)


@each_kind
@pytest.mark.mathematics
def test_the_maximum_likelihood_solution_has_the_value_of_the_closed_form(x, learned):
    vae = maximum_likelihood(x, learned=learned)
    values = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1]
    v = variance_of(vae)
    closed = -(D * np.log(2 * np.pi) + np.log(values[:Z]).sum() + (D - Z) * np.log(v) + D) / 2
    np.testing.assert_allclose(elbo(vae, x).mean(), closed, rtol=1e-12)


@each_kind
@pytest.mark.gradient
def test_the_gradient_of_the_bound_is_zero_at_the_maximum_likelihood_solution(x, rng, learned):
    vae = maximum_likelihood(x, learned=learned)
    assert ("likelihood.logvar" in vae.params) is learned
    eps = cubature(N)
    at_optimum = vae.backward(vae.forward(x, eps))
    vae.params.flat[:] += 0.1 * rng.standard_normal(vae.params.flat.size)
    beside = vae.backward(vae.forward(x, eps))
    for name, block in at_optimum.items():
        assert np.abs(block).max() < 1e-10 * np.abs(beside[name]).max(), name


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 1.5])
@pytest.mark.gradient
def test_with_another_variance_its_gradient_alone_is_not_zero(x, factor):
    # W is the best for this v. In each discarded direction the covariance has v, the data lambda:
    # the derivative of -log p by log v is the sum of (1 - lambda / v) / 2 over them.
    at_optimum = maximum_likelihood(x, learned=True)
    vae = maximum_likelihood(x, learned=True, factor=factor)
    assert elbo(vae, x).mean() < elbo(at_optimum, x).mean()
    gradient = vae.backward(vae.forward(x, cubature(N)))
    expected = (D - Z) * (1 - 1 / factor) / 2
    np.testing.assert_allclose(gradient["likelihood.logvar"], expected, rtol=1e-10)
    for name, block in gradient.items():
        assert name == "likelihood.logvar" or np.abs(block).max() < 1e-10, name


@pytest.mark.mathematics
def test_beside_the_best_variance_the_bound_is_lower_and_no_longer_tight(x):
    vae = maximum_likelihood(x, learned=True)
    best, optimum = elbo(vae, x).mean(), vae.params["likelihood.logvar"].copy()
    for step in -1, -1e-2, -1e-3, 1e-3, 1e-2, 1:
        vae.params["likelihood.logvar"][:] = optimum + step  # q stays that of the optimum
        assert elbo(vae, x).mean() < log_likelihood(vae, x).mean() < best
        assert (elbo(vae, x) < log_likelihood(vae, x)).all()


@each_kind
@pytest.mark.mathematics
def test_no_other_model_has_a_higher_bound(x, rng, learned):
    vae = maximum_likelihood(x, learned=learned)
    best, optimum = elbo(vae, x).mean(), vae.params.flat.copy()
    for size in 1e-3, 1e-2, 1e-1, 1:
        for _ in range(5):
            vae.params.flat[:] = optimum + size * rng.standard_normal(optimum.size)
            assert elbo(vae, x).mean() < best
            # Below the exact likelihood for every x, not in the mean alone.
            assert (elbo(vae, x) < log_likelihood(vae, x)).all()


@pytest.mark.mathematics
def test_a_diagonal_posterior_is_not_enough_when_the_columns_are_not_orthogonal(x, rng):
    # Turned latents have the same likelihood, but a posterior with correlations, which q has not.
    rotation = np.linalg.qr(rng.standard_normal((Z, Z)))[0]
    vae, turned = maximum_likelihood(x), maximum_likelihood(x, rotation)
    np.testing.assert_allclose(log_likelihood(turned, x), log_likelihood(vae, x), rtol=1e-9)
    assert (elbo(turned, x) < log_likelihood(turned, x) - 0.01).all()


@pytest.mark.mathematics
def test_the_cubature_is_exact_for_what_it_is_used_for(x):
    # Against Monte Carlo, within its standard error.
    vae = maximum_likelihood(x)
    rng = np.random.default_rng(0)
    draws, kl = vae.loss(vae.forward(x[:2], rng.standard_normal((40_000, 2, Z))))
    error = draws.std(axis=0) / 200
    assert (np.abs(-(draws.mean(axis=0) + kl) - elbo(vae, x[:2])) < 4.5 * error).all()
