"""The study of the bounds: its exact numbers are exact, and its claims can be false."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from claims import failing
from scipy import integrate, optimize, stats

from numpy_vae import VAE, evaluate_likelihood
from numpy_vae.bounds import iwae_loss, log_weights
from numpy_vae.likelihood import Gaussian
from numpy_vae.study.bounds import (
    CLAIMS,
    COUNTS,
    CURVED,
    DOUBLED,
    HALVED,
    NARROWED,
    OPTIMUM,
    TRAINED,
    Drawn,
    Exact,
    Found,
    approximation_gap,
    by_draws,
    error_of,
    exact_curved,
    exact_linear,
    excess_at_optimum,
    grid,
    grid_joint,
    log_integral,
    of_groups,
    scaled,
)
from numpy_vae.study.linear import linear_log_p, linear_optimum, linear_posterior

SABOTAGE = [
    (1, "posterior", "return (mu * mu + sigma * sigma - 1 - logvar)", "return (mu - 1 - logvar)"),
    (1, "study/bounds", "trace + square - z -", "trace - square - z -"),
    (1, "study/bounds", "/ 2 - math.log(2 * math.pi) / 2", "/ 2"),
    (2, "study/bounds", "- np.linalg.slogdet(precision)[1]) / 2", ") / 2"),
    (2, "study/linear", ".T).T, A / v", ".T).T, np.diag(np.diag(A)) / v"),
    (3, "bounds", "log_w = -(terms.reconstruction + beta", "log_w = -(terms.reconstruction - beta"),
    (3, "study/bounds", "logsumexp(groups, axis=1)) -", "groups.mean(axis=1)) + 0 *"),
    (4, "study/bounds", "scaled(optimum, 2)", "scaled(optimum, 3)"),
    (4, "study/bounds", "scaled(optimum, 0.5)", "scaled(optimum, 1.5)"),
    (5, "study/bounds", "scaled(optimum, 0.8)", "scaled(optimum, 0.4)"),
    (5, "study/bounds", "scaled(optimum, 0.5)", "scaled(optimum, 0.7)"),
    (6, "study/bounds", "reconstruction[0] + terms.kl)", "reconstruction[0] + terms.log_ratio[0])"),
    (6, "study/bounds", "mu * mu * s2 / (2 - s2)", "mu * mu / (2 - s2)"),
    (7, "posterior", "return (z * z - eps * eps - logvar)", "return (z * z - logvar)"),
]


def drawn(gaps, wrong=0.0, scatter=1.0, rise=0.01, error=0.01):
    """Return estimates by draws, of two images."""
    n = len(COUNTS)
    wrongs = np.full((n, 2), wrong) + np.zeros(2)
    return Drawn(np.array(gaps), np.full(n, error), rise, wrongs, scatter, 2.0)


def found(
    kl=1.0,
    optimum_kl=0.0,
    approximation=0.05,
    halved=1e-12,
    rise=0.01,
    last=0.01,
    doubled=(6.4, 1.0, 0.13, 0.01),
    narrow=(2.5, 1.4, 0.8, 0.4),
    finite=(0.34, 0.08, 0.01, 0.0),
    wrong=1.2,
    wrong_narrow=-2.4,
    excess=1.21,
    scatter=1e-13,
    closed=2.0,
):
    """Return numbers that the experiment could give."""
    others = {
        name: Exact(np.zeros(2), -np.ones(2), np.array([1, kl])) for name in (TRAINED, CURVED)
    }
    exact = {OPTIMUM: Exact(np.zeros(2), np.full(2, -optimum_kl), np.full(2, optimum_kl)), **others}
    runs = {
        OPTIMUM: drawn([0.0] * 4, wrong, scatter, 0.0)._replace(closed_scatter=closed),
        DOUBLED: drawn(doubled),
        NARROWED: drawn(finite),
        HALVED: drawn(narrow, wrong_narrow),
        CURVED: drawn([0.5, 0.1, 0.05, last], rise=rise),
    }
    return Found(exact, runs, approximation, (4 / math.sqrt(7)) ** 8 - 1, excess, halved)


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, found()) == []


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        (1, {"kl": 1.001}),
        (1, {"kl": 0.999}),
        (1, {"optimum_kl": 1e-6}),
        (1, {"halved": 1e-5}),
        (2, {"approximation": 0.11}),
        (2, {"approximation": 0.0}),
        (3, {"rise": -1e-9}),
        (3, {"last": -0.05}),
        (4, {"doubled": (2.0, 1.0, 0.13, 0.01)}),
        (4, {"narrow": (2.5, 0.5, 0.3, 0.2)}),
        (4, {"doubled": (6.4, 1.0, 0.06, 0.01)}),
        (4, {"doubled": (6.4, 1.0, 0.2, 0.01)}),
        (5, {"finite": (0.34, 0.08, 0.03, 0.01)}),
        (5, {"narrow": (2.5, 1.4, 0.6, 0.4)}),
        (6, {"wrong": np.array([2.6, -0.2])}),
        (6, {"wrong": 0.9, "excess": 0.9}),
        (6, {"excess": 1.3}),
        (6, {"excess": 1.1}),
        (6, {"wrong_narrow": np.array([-2.4, 0.1])}),
        (7, {"scatter": 1e-3}),
        (7, {"closed": 0.5}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert failing(CLAIMS, found(**numbers)) == [number]


@pytest.fixture
def linear(rng):
    """Return a linear model like no other, and images."""
    vae = VAE(11, (), 3, likelihood=Gaussian(0.4), dtype=np.float64, rng=rng)
    vae.params.flat[:] += 0.5 * rng.standard_normal(vae.params.flat.size)
    return vae, 2 * rng.standard_normal((5, 11))


@pytest.mark.mathematics
def test_log_p_of_the_linear_model_is_scipys(linear):
    vae, x = linear
    W = vae.params["output.W"]
    covariance = W.T @ W + 0.4 * np.eye(11)
    expected = stats.multivariate_normal(vae.params["output.b"], covariance).logpdf(x)
    np.testing.assert_allclose(linear_log_p(vae, x), expected, rtol=1e-11)


@pytest.mark.mathematics
def test_the_posterior_of_the_linear_model_is_the_joint_over_p(linear, rng):
    vae, x = linear
    mean, precision = linear_posterior(vae, x)
    for z in rng.standard_normal((4, 3)):
        l = z @ vae.params["output.W"] + vae.params["output.b"]
        joint = -vae.likelihood.nll(x, l) + stats.norm.logpdf(z).sum()
        posterior = [stats.multivariate_normal(m, np.linalg.inv(precision)).logpdf(z) for m in mean]
        np.testing.assert_allclose(posterior, joint - linear_log_p(vae, x), rtol=1e-9)


def test_the_gap_that_the_page_names_is_that_of_the_results():
    # In nats, of the networks trained on the ELBO; rows are NAME | ... | **NLL** | error | -ELBO |
    docs = Path(__file__).resolve().parents[2] / "docs"
    row = r"^\| \w+-k1[-\w]* \|.*\*\*([\d.]+)\*\* \| [\d.]+ \| ([\d.]+) \|"
    rows = re.findall(row, (docs / "results.md").read_text(encoding="utf-8"), re.MULTILINE)
    gaps = sorted(float(elbo) - float(nll) for nll, elbo in rows)
    page = " ".join((docs / "study/08-bounds.md").read_text(encoding="utf-8").split())
    assert len(gaps) == 3 and f"{gaps[0]:.1f} to {gaps[-1]:.1f} nats" in page


@pytest.mark.mathematics
def test_the_gap_of_the_linear_model_is_its_kl(linear):
    exact = exact_linear(*linear)
    np.testing.assert_allclose(exact.log_p - exact.elbo, exact.kl, rtol=1e-10)
    assert (exact.kl > 0.1).all()


@pytest.mark.mathematics
def test_the_approximation_gap_is_that_of_the_best_diagonal_q(linear):
    vae, x = linear
    mean, precision = linear_posterior(vae, x)

    def kl(q):  # of N(q[:3], diag(exp(q[3:]))) from the posterior of the first image
        off, var = q[:3] - mean[0], np.exp(q[3:])
        square = np.diag(precision) @ var + off @ precision @ off
        return (square - 3 - np.linalg.slogdet(precision)[1] - q[3:].sum()) / 2

    best = optimize.minimize(kl, np.zeros(6), tol=1e-12)
    assert approximation_gap(vae, x) == pytest.approx(best.fun, rel=1e-6)
    assert best.fun > 0.01 and (exact_linear(vae, x).kl > best.fun).all()


@pytest.mark.mathematics
def test_at_the_optimum_the_gap_is_zero_and_beside_it_what_sigma_makes_it(rng):
    x = rng.standard_normal((60, 11)) @ rng.standard_normal((11, 11))
    optimum = linear_optimum(x, 3, 0.4)
    np.testing.assert_allclose(exact_linear(optimum, x).kl, 0, atol=1e-12)
    for c in 0.5, 2:
        kl = exact_linear(scaled(optimum, c), x).kl
        np.testing.assert_allclose(kl, 3 * (c * c - 1 - math.log(c * c)) / 2, rtol=1e-10)


@pytest.mark.mathematics
def test_log_p_on_the_grid_is_the_integral(rng):
    vae = VAE(7, (5,), 1, "tanh", dtype=np.float64, rng=rng)
    vae.params.flat[:] += 0.2 * rng.standard_normal(vae.params.flat.size)
    x = (rng.random((3, 7)) < 0.5).astype(float)

    def joint(z, row):
        p = vae.decode(np.array([[z]]))[0]
        return stats.bernoulli.pmf(row, p).prod() * stats.norm.pdf(z)

    expected = [integrate.quad(joint, -10, 10, (row.astype(int),), epsabs=1e-12)[0] for row in x]
    found_p = log_integral(grid_joint(vae, x, grid(0.02)), 0.02)
    np.testing.assert_allclose(found_p, np.log(expected), rtol=1e-8)
    exact = exact_curved(vae, x, 0.02)
    np.testing.assert_allclose(exact.log_p - exact.elbo, exact.kl, rtol=1e-8)


@pytest.mark.parametrize("c", [0.8, 1.5, 2.0])
@pytest.mark.mathematics
def test_chi2_of_a_wrong_sigma(c):
    def square(z):
        return np.exp(2 * stats.norm.logpdf(z) - stats.norm.logpdf(z, scale=c))

    chi2 = integrate.quad(square, -40, 40)[0] - 1
    assert c * c / math.sqrt(2 * c * c - 1) - 1 == pytest.approx(chi2, rel=1e-8)


@pytest.mark.parametrize(("m", "s"), [(0.0, 0.3), (1.5, 0.6), (-2.0, 0.9)])
@pytest.mark.mathematics
def test_the_excess_of_the_mistake_is_its_integral(m, s):
    # log p(x|z) = log p(x) + log p(z|x) - log p(z), and log p(x) cancels.
    def likelihood(z):
        return np.exp(stats.norm.logpdf(z, m, s) - stats.norm.logpdf(z))

    q = stats.norm(m, s)
    mean = integrate.quad(lambda z: likelihood(z) * q.pdf(z), m - 12 * s, m + 12 * s)[0]
    kl = (m * m + s * s - 1 - math.log(s * s)) / 2
    encoder = SimpleNamespace(encode=lambda x: (np.array([[m]]), np.log(np.array([[s * s]]))))
    assert excess_at_optimum(encoder, None)[0] == pytest.approx(math.log(mean) - kl, rel=1e-8)


def test_the_bound_of_all_draws_is_that_of_the_package(linear):
    vae, x = linear
    found_all = evaluate_likelihood(vae, x, samples=20, rng=3)
    noise = np.random.default_rng(3).spawn(6)[4]
    eps = np.stack([noise.standard_normal((5, 3), np.float32) for _ in range(20)])
    log_w = log_weights(vae.terms(vae.forward(x, eps)))
    np.testing.assert_allclose(of_groups(log_w, 20)[0], found_all.log_likelihoods, rtol=1e-12)
    pairs = [np.logaddexp(log_w[2 * g], log_w[2 * g + 1]) - math.log(2) for g in range(10)]
    np.testing.assert_allclose(of_groups(log_w, 2), pairs, rtol=1e-12)


def test_one_draw_has_the_gap_of_the_elbo_on_average(linear, rng):
    vae, x = linear
    exact = exact_linear(vae, x)
    d = by_draws(vae, x, exact.log_p, 2000, rng)
    assert d.gaps[0] == pytest.approx(exact.kl.mean(), abs=4.5 * d.errors[0])
    assert d.errors[0] < 0.05 * d.gaps[0] and d.least_rise > 0
    assert d.wrong[0].mean() == pytest.approx(-exact.kl.mean(), abs=4.5 * d.errors[0])


@pytest.mark.mathematics
def test_the_standard_error_is_that_of_the_draws(rng):
    # Images that differ by 100 nats do not widen it.
    values = rng.standard_normal((400, 50, 8)) + 100 * np.arange(8)
    assert np.mean([error_of(v) for v in values]) == pytest.approx(1 / 20, rel=0.02)
    assert values.mean(axis=(1, 2)).std() == pytest.approx(1 / 20, rel=0.15)


@pytest.mark.mathematics
def test_the_bound_of_groups_is_that_of_the_package(rng):
    vae = VAE(11, (6,), 3, "tanh", dtype=np.float64, rng=rng)
    x, eps = rng.integers(0, 2, (5, 11)).astype(float), rng.standard_normal((10, 5, 3))
    terms = vae.terms(vae.forward(x, eps))
    (bound,) = of_groups(log_weights(terms), 10)
    np.testing.assert_allclose(bound.mean(), -iwae_loss(terms, 1.0), rtol=1e-13)
