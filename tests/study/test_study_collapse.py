"""The study of collapse: its closed form is the optimum, and its claims can be false."""

import numpy as np
import pytest
from claims import failing

from numpy_vae import VAE, posterior
from numpy_vae.likelihood import Gaussian
from numpy_vae.study.collapse import (
    CLAIMS,
    LEARNED,
    Curved,
    Found,
    Linear,
    data_of_spectrum,
    draws,
    kl_of,
)
from numpy_vae.study.linear import linear_optimum
from numpy_vae.training.evaluate import elbo_of

SABOTAGE = [
    (1, "posterior", "dkl * mu, dkl * (sigma * sigma - 1) / 2", "dkl * mu, dkl * (sigma - 1)"),
    (1, "study/linear", "np.sqrt(c - beta * v)", "np.sqrt(c)"),
    (1, "study/collapse", "vae.forward(x, eps), beta, out", "vae.forward(x, eps), beta**0.5, out"),
    (2, "study/collapse", "beta=IMAGE_BETA,", "beta=1.0,"),
    (2, "study/collapse", "likelihood=Gaussian(IMAGE_VARIANCE)", "likelihood=Gaussian(0.2)"),
    (3, "study/collapse", "epochs // 2 if warmup else 0", "0"),
    (4, "study/collapse", "epochs // 2 if warmup else 0", "0"),
    (
        4,
        "training.loop",
        "beta_now = beta * min(1.0, elapsed / warmup) if warmup else beta",
        "beta_now = 1",
    ),
    (5, "study/collapse", "(200.0, False, one)", "(2.0, False, one)"),
    (5, "study/collapse", "(LOW, 100.0)", "(LOW, 30.0)"),
]
VALUES = np.array([4.0, 2.0, 1.0, 0.5])


def small(v, beta, threshold, shift=0.0, active=None, gradient=1e-12, variance=None):
    """Return a small model that ends where the closed form says, or a shift beside it."""
    kl = np.log(np.maximum(VALUES / threshold, 1)) / 2 + shift
    count = int((VALUES / threshold > 1).sum()) if active is None else active
    variance = threshold / beta if variance is None else variance
    return Linear(v, beta, threshold, VALUES, kl, count, gradient, variance)


def curved(beta, warmup, seed, elbo, used, active=3, idle=0.005, kl=0.0):
    """Return a nonlinear model of eight dimensions."""
    costs = np.where(np.arange(8) < used, 1.0, 0.0)
    return Curved(beta, warmup, seed, elbo_of(-elbo - kl, kl), costs, active, idle)


def found(
    first=None,
    learned=None,
    strong=None,
    image_values=None,
    image_kl=None,
    warm=-100.0,
    warm_used=3,
    killed=None,
    revived=None,
    collapsed=None,
    idle=0.005,
):
    """Return what the experiment could have found."""
    values = np.array([7.0, 6, 5, 4, 3, 2.5, 1.5, 1]) if image_values is None else image_values
    kl = np.log(np.maximum(values / 2, 1)) / 2 - 0.01
    images = Linear("", 20, 2.0, values, kl if image_kl is None else image_kl, 6, 0.0, 0.1)
    models = [
        first or small("0.177", 1.0, 0.2),
        small("0.707", 1.0, 0.8),
        small("0.177", 4.0, 0.8),
        strong or small("0.177", 100.0, 20.0),
        learned or small(LEARNED, 1.0, 0.1),
    ]
    runs = [curved(1, False, s, -110.0, 2, idle=idle) for s in (0, 1)]
    runs += [curved(1, True, 0, -100.0, 3), curved(1, True, 1, warm, warm_used)]
    runs.append(killed or curved(5, False, 0, -200.0, 0, 0))
    runs.append(revived or curved(5, True, 0, -160.0, 6, kl=5.0))
    runs += collapsed or [curved(200, False, 0, -200.0, 0, 0)]
    return Found(models, images, runs, 200.5)


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, found()) == []


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        (1, {"first": small("0.177", 1.0, 0.2, shift=0.06)}),
        (1, {"first": small("0.177", 1.0, 0.2, shift=-0.06)}),
        (1, {"first": small("0.177", 1.0, 0.2, active=3)}),
        (1, {"first": small("0.177", 1.0, 0.2, gradient=1e-3)}),
        (1, {"learned": small(LEARNED, 1.0, 0.1, active=3)}),
        (1, {"learned": small(LEARNED, 1.0, 0.1, variance=0.102)}),
        (2, {"image_kl": np.array([0.61, 0.54, 0.31, 0.34, 0.2, 0.1, 0, 0])}),
        (2, {"image_kl": np.array([0.61, 0.54, 0.45, 0.34, 0.2, 0.13, 0, 0])}),
        (2, {"image_values": np.array([7.0, 6, 5, 4, 3, 2.5, 2.1, 1])}),
        (2, {"image_kl": np.array([0.6, 0.5, 0.5, 0.3, 0.2, 0.1, 0.05, 0])}),
        (2, {"image_kl": np.array([0.5, 0.4, 0.35, 0.2, 0, 0, 0, 0])}),
        (2, {"image_kl": np.array([0.8, 0.7, 0.58, 0.4, 0.2, 0.1, 0, 0])}),
        (3, {"warm": -109.0}),
        (3, {"warm": -120.0}),
        (3, {"warm_used": 1}),
        (4, {"killed": curved(5, False, 0, -200.0, 0, 1)}),
        (4, {"killed": curved(5, False, 0, -170.0, 0, 0)}),
        (4, {"revived": curved(5, True, 0, -160.0, 4)}),
        (4, {"revived": curved(5, True, 0, -180.0, 6, kl=5.0)}),
        (5, {"strong": small("0.177", 100.0, 3.0)}),
        (5, {"collapsed": [curved(200, False, 0, -200.0, 0, 1)]}),
        (5, {"collapsed": [curved(200, False, 0, -190.0, 0, 0)]}),
        (5, {"collapsed": [curved(200, False, 0, -210.0, 0, 0)]}),
        (5, {"collapsed": [curved(100, False, 0, -200.0, 0, 0)]}),
        (5, {"idle": 0.1}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert failing(CLAIMS, found(**numbers)) == [number]


@pytest.fixture
def x(rng):
    return data_of_spectrum(np.array([5.0, 3.0, 1.5, 0.7, 0.3, 0.1]), 25, rng)


@pytest.mark.mathematics
def test_the_data_have_their_spectrum(x):
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    np.testing.assert_allclose(values, [0.1, 0.3, 0.7, 1.5, 3.0, 5.0], rtol=1e-12)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-14)


@pytest.mark.parametrize(
    ("variance", "beta"), [(0.2, 1), (0.2, 5), (1.0, 1), (0.2, 50), (2.0, 0.1)]
)
@pytest.mark.mathematics
def test_the_closed_form_is_the_optimum_with_the_kl_of_the_formula(x, rng, variance, beta):
    vae, eps = linear_optimum(x, 4, variance, beta), draws(len(x), 4)
    best = vae.objective(vae.forward(x, eps), beta)
    assert np.abs(vae.backward(vae.forward(x, eps), beta).flat).max() < 1e-10
    kl, active, idle = kl_of(vae, x)
    ratios = np.array([5.0, 3.0, 1.5, 0.7]) / (beta * variance)
    np.testing.assert_allclose(kl, np.log(np.maximum(ratios, 1)) / 2, atol=1e-12)
    assert active == (ratios > 1).sum() and abs(idle) < 1e-12
    optimum = vae.params.flat.copy()
    for size in 1e-2, 1e-1, 1:
        vae.params.flat[:] = optimum + size * rng.standard_normal(optimum.size)
        assert vae.objective(vae.forward(x, eps), beta) > best


@pytest.mark.mathematics
def test_the_variances_are_those_of_the_page(x):
    vae = linear_optimum(x, 4, 0.2, 5)
    mu, logvar = vae.encode(x)
    np.testing.assert_allclose(np.exp(logvar[0]), [1 / 5, 1 / 3, 1 / 1.5, 1], rtol=1e-12)
    np.testing.assert_allclose(mu.var(axis=0), [4 / 5, 2 / 3, 0.5 / 1.5, 0], atol=1e-12)
    rows = np.linalg.norm(vae.params["output.W"], axis=1)
    np.testing.assert_allclose(rows, np.sqrt([4, 2, 0.5, 0]), atol=1e-12)
    # The aggregated posterior has the variance of the prior.
    np.testing.assert_allclose(mu.var(axis=0) + np.exp(logvar[0]), 1, rtol=1e-12)
    # Along each active direction the squared error is beta v.
    eps = draws(len(x), 4)
    left = ((x - vae.decode(mu + np.exp(logvar / 2) * eps)) ** 2).mean(axis=(0, 1)).sum()
    assert left == pytest.approx(3 * 1.0 + 0.7 + 0.3 + 0.1)


@pytest.mark.mathematics
def test_only_the_product_of_beta_and_v_counts(x, rng):
    # The two objectives differ by the factor beta, and a constant.
    eps, losses = draws(len(x), 4), []
    one = VAE(6, (), 4, likelihood=Gaussian(0.2), dtype=np.float64, rng=rng)
    for _ in range(3):
        one.params.flat[:] = rng.standard_normal(one.params.flat.size)
        other = VAE(6, (), 4, likelihood=Gaussian(1.0), dtype=np.float64, rng=0)
        other.params.flat[:] = one.params.flat
        losses.append(
            one.objective(one.forward(x, eps), 5) - 5 * other.objective(other.forward(x, eps), 1)
        )
    np.testing.assert_allclose(losses, losses[0], rtol=1e-9)


def test_the_kl_of_each_dimension_is_sorted_and_told_from_the_inactive(rng):
    vae = VAE(6, (), 3, dtype=np.float64, rng=rng)
    vae.params["mu.W"][:] *= [[0, 10, 0]]
    vae.params["mu.b"][:] = [0.5, 0, 0]  # its mean costs something, and says nothing
    x = rng.random((50, 6))
    kl, active, idle = kl_of(vae, x)
    mu, logvar = vae.encode(x)
    whole = posterior.kl(mu, logvar, np.exp(logvar / 2)).mean()
    assert kl.sum() == pytest.approx(whole) and (np.diff(kl) <= 0).all()
    assert active == 1 and idle == pytest.approx(0.125)
