"""The sampler and the divergence, against differences, SciPy and each other."""

import numpy as np
import pytest
from scipy import integrate, stats

from numpy_vae import gradcheck, posterior

B, Z, K = 5, 3, 4


@pytest.fixture
def q(rng):
    mu, logvar = rng.standard_normal((B, Z)), 1.5 * rng.standard_normal((B, Z))
    return mu, logvar, posterior.standard_deviation(logvar)


@pytest.mark.parametrize("shape", [(B, Z), (K, B, Z)], ids=["one-sample", "K-samples"])
@pytest.mark.gradient
def test_sample_gradients(rng, q, shape):
    mu, logvar, sigma = q
    eps, dz = rng.standard_normal(shape), rng.standard_normal(shape)

    def f(a):
        sigma = posterior.standard_deviation(a["logvar"])
        return (posterior.sample(a["mu"], sigma, a["eps"]) * dz).sum()

    dmu, dlogvar, deps = posterior.sample_backward(eps, sigma, dz)
    gradient = {"mu": dmu, "logvar": dlogvar, "eps": deps}
    report = gradcheck(f, gradient, {"mu": mu, "logvar": logvar, "eps": eps}, tolerance=1e-8)
    assert report.ok, f"\n{report}"


@pytest.mark.gradient
def test_kl_gradients(rng, q):
    mu, logvar, sigma = q
    dkl = rng.standard_normal(B)

    def f(a):
        sigma = posterior.standard_deviation(a["logvar"])
        return (posterior.kl(a["mu"], a["logvar"], sigma) * dkl).sum()

    dmu, dlogvar = posterior.kl_backward(mu, sigma, dkl)
    arrays = {"mu": mu, "logvar": logvar}
    report = gradcheck(f, {"mu": dmu, "logvar": dlogvar}, arrays, tolerance=1e-8)
    assert report.ok, f"\n{report}"


@pytest.mark.parametrize("method", ["central", "complex", "taylor"])
@pytest.mark.parametrize("shape", [(B, Z), (K, B, Z)], ids=["one-sample", "K-samples"])
@pytest.mark.gradient
def test_log_ratio_gradients(rng, q, shape, method):
    mu, logvar, sigma = q
    eps, dratio = rng.standard_normal(shape), rng.standard_normal(shape[:-1])

    def f(a):
        z = posterior.sample(a["mu"], posterior.standard_deviation(a["logvar"]), a["eps"])
        return (posterior.log_ratio(a["logvar"], a["eps"], z) * dratio).sum()

    z = posterior.sample(mu, sigma, eps)
    dmu, dlogvar, deps = posterior.log_ratio_backward(eps, sigma, z, dratio)
    gradient = {"mu": dmu, "logvar": dlogvar, "eps": deps}
    report = gradcheck(f, gradient, {"mu": mu, "logvar": logvar, "eps": eps}, method=method)
    assert report.ok, f"\n{report}"


@pytest.mark.parametrize("shape", [(B, Z), (K, B, Z)], ids=["one-sample", "K-samples"])
@pytest.mark.mathematics
def test_the_log_ratio_is_that_of_scipys_densities_at_the_sample(rng, q, shape):
    mu, logvar, sigma = q
    eps = rng.standard_normal(shape)
    z = posterior.sample(mu, sigma, eps)
    log_q = stats.norm.logpdf(z, mu, np.sqrt(np.exp(logvar))).sum(axis=-1)
    expected = log_q - stats.norm.logpdf(z).sum(axis=-1)
    found = posterior.log_ratio(logvar, eps, z)
    assert found.shape == shape[:-1]
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def quadrature():
    """Return eps, (27, B, Z), and weights: E of any polynomial of degree 5 in each, exactly."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    grid = np.stack(np.meshgrid(*[nodes] * Z), axis=-1).reshape(-1, 1, Z)
    weights = np.prod(np.meshgrid(*[weights / weights.sum()] * Z), axis=0).reshape(-1, 1)
    return np.broadcast_to(grid, (len(grid), B, Z)), weights


@pytest.mark.mathematics
def test_the_kl_is_the_expectation_of_the_log_ratio(q):
    mu, logvar, sigma = q
    eps, weights = quadrature()
    z = posterior.sample(mu, sigma, eps)
    mean = (weights * posterior.log_ratio(logvar, eps, z)).sum(axis=0)
    np.testing.assert_allclose(mean, posterior.kl(mu, logvar, sigma), rtol=1e-12)


@pytest.mark.gradient
def test_the_gradient_of_the_kl_is_the_expectation_of_that_of_the_log_ratio(rng, q):
    mu, _, sigma = q
    eps, weights = quadrature()
    z, dkl = posterior.sample(mu, sigma, eps), rng.standard_normal(B)
    dmu, dlogvar, _ = posterior.log_ratio_backward(eps, sigma, z, weights * dkl)
    expected = posterior.kl_backward(mu, sigma, dkl)
    np.testing.assert_allclose(dmu, expected[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dlogvar, expected[1], rtol=1e-12, atol=1e-14)


@pytest.mark.mathematics
def test_the_log_ratio_of_the_prior_itself_is_zero(rng):
    eps, zero = rng.standard_normal((K, B, Z)), np.zeros((B, Z))
    assert not posterior.log_ratio(zero, eps, eps).any()


@pytest.mark.purity
def test_the_log_ratio_writes_to_no_argument(rng, q):
    mu, logvar, sigma = q
    eps, dratio = rng.standard_normal((K, B, Z)), rng.standard_normal((K, B))
    z = posterior.sample(mu, sigma, eps)
    for array in (logvar, sigma, eps, z, dratio):
        array.flags.writeable = False  # from here on it is an error to write to it
    posterior.log_ratio(logvar, eps, z)
    posterior.log_ratio_backward(eps, sigma, z, dratio)


@pytest.mark.mathematics
def test_kl_of_the_prior_itself_is_zero_and_stationary():
    zero, one = np.zeros((B, Z)), np.ones((B, Z))
    assert not posterior.kl(zero, zero, one).any()
    assert not np.any(posterior.kl_backward(zero, one, np.ones(B)))


@pytest.mark.parametrize("mu", [-1.3, 0.0, 2.0])
@pytest.mark.parametrize("logvar", [-3.0, 0.0, 1.1])
@pytest.mark.mathematics
def test_kl_against_quadrature(mu, logvar):
    q = stats.norm(mu, np.sqrt(np.exp(logvar)))  # scipy takes the standard deviation
    sigma = q.std()
    integrand = lambda z: q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z))  # noqa: E731
    numeric, _ = integrate.quad(integrand, mu - 12 * sigma, mu + 12 * sigma, epsabs=1e-12)
    a = np.array([[mu]]), np.array([[logvar]])
    closed = posterior.kl(*a, posterior.standard_deviation(a[1]))
    np.testing.assert_allclose(closed, [numeric], atol=1e-9)


@pytest.mark.mathematics
def test_kl_against_monte_carlo_through_the_sampler(rng, q):
    # Sees a sampler and a divergence that mean different things by logvar; no gradient check does.
    mu, logvar, sigma = q
    n = 40_000
    z = posterior.sample(mu, sigma, rng.standard_normal((n, B, Z)))
    log_q = stats.norm.logpdf(z, mu, np.exp(logvar / 2)).sum(axis=-1)
    log_ratio = log_q - stats.norm.logpdf(z).sum(axis=-1)
    standard_error = log_ratio.std(axis=0) / np.sqrt(n)
    assert (
        np.abs(log_ratio.mean(axis=0) - posterior.kl(mu, logvar, sigma)) < 4.5 * standard_error
    ).all()


@pytest.mark.mathematics
def test_the_sample_has_the_distribution_it_claims(rng):
    mu, logvar = np.array([[0.7]]), np.array([[-1.2]])
    z = posterior.sample(
        mu, posterior.standard_deviation(logvar), rng.standard_normal((20_000, 1, 1))
    )
    claimed = stats.norm(0.7, np.sqrt(np.exp(-1.2)))
    assert stats.kstest(z.ravel(), claimed.cdf).pvalue > 1e-3
    # The test can fail: the variance taken for the deviation is told apart at once.
    mistaken = stats.norm(0.7, np.exp(-1.2))
    assert stats.kstest(z.ravel(), mistaken.cdf).pvalue < 1e-12


@pytest.mark.mathematics
def test_sigma_squared_is_exp_logvar_as_far_as_float32_goes():
    # A clamp of logvar would show here, and nowhere near the origin.
    logvar = np.linspace(-80, 80, 33)
    sigma = posterior.standard_deviation(logvar)
    np.testing.assert_allclose(sigma**2, np.exp(logvar), rtol=1e-13)


@pytest.mark.mathematics
def test_zero_noise_gives_the_mean(q):
    mu, _, sigma = q
    np.testing.assert_array_equal(posterior.sample(mu, sigma, np.zeros((B, Z))), mu)


@pytest.mark.parametrize("logvar", [-80.0, 80.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_log_variances_are_finite_in_value_and_gradient(logvar, dtype):
    mu, lv = np.ones((1, 1), dtype), np.full((1, 1), logvar, dtype)
    sigma = posterior.standard_deviation(lv)
    value = posterior.kl(mu, lv, sigma)
    gradients = posterior.kl_backward(mu, sigma, np.ones(1, dtype))
    gradients += posterior.sample_backward(mu, sigma, mu)
    z = posterior.sample(mu, sigma, mu)
    ratio = posterior.log_ratio(lv, mu, z)
    gradients += posterior.log_ratio_backward(mu, sigma, z, np.ones(1, dtype))
    for array in (sigma, value, ratio, *gradients):
        assert np.isfinite(array).all() and array.dtype == dtype
    np.testing.assert_allclose(value, (1 + np.exp(logvar) - 1 - logvar) / 2, rtol=1e-5)


@pytest.mark.mathematics
def test_the_kl_of_each_dimension_is_that_of_two_normals(rng):
    mu, logvar = rng.standard_normal((2, 5, 3))
    found = posterior.kl_per_dimension(mu, logvar, np.exp(logvar / 2))
    assert found.shape == (5, 3)
    for m, s, value in zip(mu.ravel(), np.exp(logvar / 2).ravel(), found.ravel(), strict=True):
        q, p = stats.norm(m, s), stats.norm()
        assert value == pytest.approx(q.expect(lambda z, q=q, p=p: q.logpdf(z) - p.logpdf(z)))
    np.testing.assert_allclose(found.sum(axis=1), posterior.kl(mu, logvar, np.exp(logvar / 2)))
