"""The study of the sample: both gradients of an expectation are right, and its claims can fail."""

import numpy as np
import pytest
from claims import failing
from scipy import stats

from numpy_vae import VAE, fit, gradcheck, load_digits, posterior
from numpy_vae.bounds import Terms
from numpy_vae.study.sampling import (
    CLAIMS,
    DRAWS,
    LOGVAR,
    MU,
    Estimator,
    Found,
    Law,
    Trained,
    draws,
    laws,
    mean_of_the_others,
    measure,
    pathwise,
    score,
    train,
)

SABOTAGE = [
    (1, "posterior", "return np.exp(logvar / 2)", "return np.exp(logvar)"),
    (2, "study/sampling", "f * (eps * eps - 1) / 2])", "f * (eps * eps - 1)])"),
    (2, "posterior", "dz * eps * (sigma / 2), dz * sigma", "dz * eps * (sigma / 2), dz"),
    (3, "study/sampling", "f - mean_of_the_others(f)", "f"),
    (4, "study/sampling", "adam, x, noise * eps, grads", "adam, x, eps, grads"),
    (5, "study/sampling", "vae.resample(trace, 0 * eps)", "vae.resample(trace, eps)"),
]


def found(right=0.002, wrong=0.14, apart=1.0, score=5e3, baseline=12.0, reported=-75.0,
          elbo=-650.0, at_mean=-99.0):  # fmt: skip
    """Return what the experiment could have found."""
    quantiles = (0.0, 0.0, 0.0)
    shape = (2, 3, 4)
    estimators = [
        Estimator(name, np.full(shape, variance), np.full(shape, each), np.ones(3))
        for name, variance, each in (
            ("pathwise", 1.0, 0.0), ("score function", score, apart), ("with baseline", baseline, 1)
        )
    ]  # fmt: skip
    trained = [
        Trained(1.0, -107.0, -107.0, -107.0, at_mean, 24.0, 0.3),
        Trained(0.01, reported, elbo, -150.0, -74.0, 2.0, 1.0),
    ]
    named = [Law("", 0.0, quantiles), Law("", right, quantiles), Law("", wrong, quantiles)]
    return Found(np.zeros(3), named, estimators, trained, {})


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, found()) == []


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        (1, {"right": 0.01}),
        (1, {"wrong": 0.05}),
        (2, {"apart": 2.0}),
        (2, {"apart": 0.1}),
        (3, {"score": 500.0}),
        (3, {"baseline": 4.0}),
        (3, {"baseline": 200.0}),
        (4, {"reported": -100.0}),
        (4, {"elbo": -120.0}),
        (5, {"at_mean": -106.0}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert failing(CLAIMS, found(**numbers)) == [number]


@pytest.mark.mathematics
def test_both_estimators_have_the_gradient_of_the_expectation_as_their_mean():
    # E[z³] = mu³ + 3 mu sigma²; the quadrature is exact for the polynomials here.
    eps, weights = np.polynomial.hermite_e.hermegauss(6)
    mu, sigma = 0.7, 0.4
    z = (mu + sigma * eps).reshape(-1, 1)  # K = 6, B = 1
    weights = (weights / weights.sum()).reshape(1, -1, 1, 1)
    expected = [3 * mu**2 + 3 * sigma**2, 3 * mu * sigma**2]
    column, sigmas = eps.reshape(-1, 1, 1), np.array([[sigma]])
    for estimates in (
        pathwise(3 * z[..., np.newaxis] ** 2, column, sigmas),
        score(z**3, column, sigmas),
        score(z**3 - 5.0, column, sigmas),  # a baseline changes no mean
    ):
        np.testing.assert_allclose((weights * estimates).sum(axis=1).ravel(), expected, rtol=1e-12)


@pytest.mark.gradient
def test_the_score_is_the_gradient_of_the_log_density_where_the_draw_stays(rng):
    mu, logvar, eps = rng.standard_normal((3, 4, 2))
    sigma = np.exp(logvar / 2)
    z = mu + sigma * eps
    np.testing.assert_allclose(-(eps**2 + logvar + np.log(2 * np.pi)) / 2,
                               stats.norm.logpdf(z, mu, sigma))  # fmt: skip

    def log_q(a):
        return -(a["logvar"] + (z - a["mu"]) ** 2 * np.exp(-a["logvar"])).sum() / 2

    by_mu, by_logvar = score(np.ones((1, 4)), eps[np.newaxis], sigma)[:, 0]
    report = gradcheck(log_q, {"mu": by_mu, "logvar": by_logvar}, {"mu": mu, "logvar": logvar})
    assert report.ok, f"\n{report}"


@pytest.mark.gradient
def test_the_pathwise_draws_add_up_to_what_training_gets(rng):
    vae = VAE(11, (6,), 3, "tanh", dtype=np.float64, rng=rng)
    vae.params.flat[:] += 0.3 * rng.standard_normal(vae.params.flat.size)
    trace = vae.forward(rng.random((5, 11)), rng.standard_normal((4, 5, 3)))
    dnll, dkl = np.ones((4, 5)), np.zeros(5)
    grads = vae.terms_backward(trace, Terms(dnll, dkl))
    slope = vae.backward_inputs(trace, Terms(dnll, dkl))[1] / trace.sigma
    by_mu, by_logvar = pathwise(slope, trace.eps, trace.sigma).sum(axis=(1, 2))
    np.testing.assert_allclose(by_mu, grads["mu.b"], rtol=1e-10)
    np.testing.assert_allclose(by_logvar, grads["logvar.b"], rtol=1e-10)


def test_the_baseline_of_a_draw_is_the_mean_of_the_others(rng):
    f = rng.standard_normal((4, 2))
    expected = [np.delete(f, k, axis=0).mean(axis=0) for k in range(4)]
    np.testing.assert_allclose(mean_of_the_others(f), expected)


@pytest.mark.mathematics
def test_the_quantiles_of_a_law_are_those_of_its_density():
    z = draws(MU, LOGVAR, DRAWS // 100, 0)
    of_z, right, wrong = laws(z)
    for law, deviation in (right, np.exp(LOGVAR / 2)), (wrong, np.exp(LOGVAR)):
        np.testing.assert_allclose(
            law.quantiles, MU + deviation * stats.norm.ppf([0.05, 0.5, 0.95])
        )
    assert (z < of_z.quantiles[0]).mean() == pytest.approx(0.05)


def test_with_all_of_the_noise_it_is_the_training_of_the_package():
    data = load_digits(60, rng=0)
    vae = VAE(784, (6,), 3, rng=7)
    fit(vae, data, epochs=2, batch_size=len(data.train), lr=2e-3, binarize="dynamic", rng=7)
    ours = train(1.0, data, 6, 3, 2, 7)
    np.testing.assert_allclose(ours.params.flat, vae.params.flat, rtol=1e-6, atol=1e-8)
    assert not np.allclose(train(0.01, data, 6, 3, 2, 7).params.flat, vae.params.flat)


@pytest.mark.mathematics
def test_the_q_that_was_sampled_is_the_model_with_its_log_variance_moved(rng):
    vae = VAE(11, (6,), 3, dtype=np.float64, rng=rng)
    x, eps = rng.random((5, 11)), rng.standard_normal((5, 3))
    quiet = measure(vae, x, eps, 0.1)
    vae.params["logvar.b"][:] += 2 * np.log(0.1)
    moved = measure(vae, x, eps, 1.0)
    assert quiet.sampled == pytest.approx(moved.elbo, rel=1e-12)
    assert moved.elbo == moved.reported == moved.sampled
    assert moved.sigma == pytest.approx(0.1 * quiet.sigma)
    kl = posterior.kl(*vae.encode(x), posterior.standard_deviation(vae.encode(x)[1])).mean()
    assert moved.kl == pytest.approx(kl) and quiet.at_mean - moved.at_mean == pytest.approx(
        moved.kl - quiet.kl
    )
