"""The study of logits and grey pixels: its codes are what it says, and its claims can be false."""

import numpy as np
import pytest
from claims import failing
from scipy.special import xlogy

from numpy_vae import VAE, Bernoulli, Gaussian, LearnedGaussian
from numpy_vae.study.linear import variance_of
from numpy_vae.study.logits import (
    CLAIMS,
    CODES,
    DENSITIES,
    LOGITS,
    Density,
    Found,
    Priced,
    Trained,
    clipped,
    cross_entropy_floor,
    density,
    error_from_logits,
    from_logits,
    plus_small,
    roughness,
)
from numpy_vae.training.evaluate import Elbo

SABOTAGE = [
    (
        1,
        "likelihood",
        "softplus = positive + np.log1p(np.exp(l - 2 * positive))",
        "softplus = np.log1p(np.exp(l))",
    ),
    (1, "study/logits", "np.float32(1e-8)", "np.float32(1e-20)"),
    (2, "likelihood", "return np.log(mean) - np.log1p(-mean)", "return np.log(mean)"),
    (3, "likelihood", "return (1 + langevin(l / 2)) / 2", "return Bernoulli().mean(l)"),
    (3, "likelihood", "np.log(-np.expm1(-t) / t)", "np.log(-np.expm1(-t))"),
    (4, "study/logits", '"given, 1": Gaussian(1.0)', '"given, 1": Gaussian(0.02)'),
    (5, "likelihood", "(dnll * of_each).sum() / 2", "(dnll * of_each).sum() * 0"),
]
WORST = {  # at x = 0, l = 100
    "log m": (np.inf, np.nan),
    "log(m + 1e-8)": (18.4, 0.0),
    "clip m": (15.9, 0.0),
    "from logits": (100.0, 1.0),
}
MODELS = {
    "given, 1": (1.0, -740.0, 3.0, 0.046, 0.2),
    "given, 0.1": (0.1, 57.0, 15.0, 0.028, 0.39),
    "given, 0.01": (0.01, 17.0, 30.0, 0.026, 0.42),
    "learned": (0.0265, 295.0, 22.0, 0.026, 0.41),
}


def found(worst=None, error=(1e-7, 6e-8), floor=(45.0, 45.0, 47.0), densities=None, models=None):
    """Return numbers that the experiment could give."""
    priced = {
        name: (Priced(np.array([0.0, cost]), np.array([0.0, slope])),) * 2
        for name, (cost, slope) in (WORST | (worst or {})).items()
    }
    at_5 = Density(5, 0.197, 1.0, 0.8068, 0.8068, 0.9933)
    pictures = np.zeros((5, 784))
    trained = [
        Trained(name, v, Elbo(elbo, 0.0, kl), 8, error_, sharpness, pictures)
        for name, (v, elbo, kl, error_, sharpness) in (MODELS | (models or {})).items()
    ]
    return Found(
        priced, {}, np.zeros(0), error, *floor,
        [at_5._replace(**(densities or {}))], trained, pictures, (28, 28),
    )  # fmt: skip


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, found()) == []


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        (1, {"worst": {"from logits": (99.0, 1.0)}}),
        (1, {"worst": {"from logits": (100.0, 0.9)}}),
        (1, {"worst": {"log m": (100.0, np.nan)}}),
        (1, {"worst": {"log m": (np.inf, 1.0)}}),
        (1, {"worst": {"log(m + 1e-8)": (30.0, 0.0)}}),
        (1, {"worst": {"clip m": (15.9, 1.0)}}),
        (1, {"error": (1e-5, 6e-8)}),
        (1, {"error": (1e-7, 6e-5)}),
        (2, {"floor": (25.0, 25.0, 28.0)}),
        (2, {"floor": (65.0, 65.0, 68.0)}),
        (2, {"floor": (45.0, 45.0, 44.0)}),
        (2, {"floor": (35.0, 45.0, 47.0)}),
        (3, {"densities": {"cross_entropy": 0.51}}),
        (3, {"densities": {"continuous": 1.01}}),
        (3, {"densities": {"continuous": 0.99}}),
        (3, {"densities": {"stated": 0.9933}}),
        (3, {"densities": {"sigmoid": 0.81}}),
        (4, {"models": {"given, 1": (1.0, -740.0, 10.0, 0.046, 0.2)}}),
        (4, {"models": {"given, 1": (1.0, -740.0, 3.0, 0.046, 0.35)}}),
        (5, {"models": {"learned": (0.05, 295.0, 22.0, 0.026, 0.41)}}),
        (5, {"models": {"learned": (0.013, 295.0, 22.0, 0.026, 0.41)}}),
        (5, {"models": {"given, 0.01": (0.01, 290.0, 22.0, 0.026, 0.41)}}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert failing(CLAIMS, found(**numbers)) == [number]


@pytest.mark.parametrize("code", [CODES["log m"], plus_small, clipped, from_logits])
@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
@pytest.mark.gradient
def test_the_slope_of_a_code_is_the_derivative_of_its_cost(code, x):
    l, h = np.linspace(-4, 4, 17) + 0.01, 1e-6
    x = np.full_like(l, x)
    small = {plus_small: (0.02,), clipped: (0.1,)}.get(code, ())  # large enough to be seen
    slope = (code(x, l + h, *small).cost - code(x, l - h, *small).cost) / (2 * h)
    np.testing.assert_allclose(code(x, l, *small).slope, slope, atol=1e-8)
    if small:
        assert np.abs(slope - from_logits(x, l).slope).max() > 0.01


@pytest.mark.mathematics
def test_the_codes_agree_in_float64_where_nothing_is_rounded_away():
    l, x = np.linspace(-3, 3, 13), np.linspace(0, 1, 13)
    for code in CODES.values():
        np.testing.assert_allclose(code(x, l).cost, np.logaddexp(0, l) - x * l, rtol=1e-6)


@pytest.mark.purity
def test_all_codes_stay_in_float32():
    l = np.array(LOGITS, np.float32)
    for code in CODES.values():
        assert {array.dtype for array in code(np.zeros_like(l), l)} == {np.dtype(np.float32)}


@pytest.mark.mathematics
def test_the_error_from_logits_is_seen(monkeypatch):
    assert max(error_from_logits()) < 1e-6
    nll, slope = Bernoulli.nll, Bernoulli.nll_backward
    monkeypatch.setattr(Bernoulli, "nll", lambda *a: nll(*a) * np.float32(1 + 1e-5))
    assert error_from_logits()[0] > 1e-6 > error_from_logits()[1]
    monkeypatch.setattr(Bernoulli, "nll_backward", lambda *a: slope(*a) * np.float32(1 + 1e-5))
    assert error_from_logits()[1] > 1e-6


@pytest.mark.mathematics
def test_the_floor_is_the_entropy_of_the_pixels(rng):
    x = np.round(2 * rng.random((7, 40)) - 0.5, 1).clip(0, 1)  # some are black, some white
    entropy = -(xlogy(x, x) + xlogy(1 - x, 1 - x)).sum(axis=1).mean()
    floor, beside = cross_entropy_floor(x)
    assert floor == pytest.approx(entropy, abs=1e-8) and beside > floor


@pytest.mark.mathematics
def test_what_is_above_the_floor_is_a_divergence(rng):
    x, l = rng.random((2, 5, 7))
    p = Bernoulli().mean(l)
    divergence = x * np.log(x / p) + (1 - x) * np.log((1 - x) / (1 - p))
    entropy = -(xlogy(x, x) + xlogy(1 - x, 1 - x))
    np.testing.assert_allclose(Bernoulli().nll(x, l), (entropy + divergence).sum(axis=1))


@pytest.mark.mathematics
def test_on_grey_pixels_it_is_the_mean_over_black_and_white_ones(rng):
    x, l = rng.random((2, 1, 3))
    pictures = np.array(np.meshgrid(*[[0.0, 1.0]] * 3)).reshape(3, -1).T  # all 8
    weights = np.where(pictures == 1, x, 1 - x).prod(axis=1)
    mean = weights @ Bernoulli().nll(pictures, np.broadcast_to(l, pictures.shape))
    assert Bernoulli().nll(x, l)[0] == pytest.approx(mean)


@pytest.mark.parametrize("l", DENSITIES)
@pytest.mark.mathematics
def test_the_integral_is_that_of_the_page(l):
    expected = np.tanh(l / 2) / l if l else 0.5
    assert density(l).cross_entropy == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("v", [1.0, 0.1])
@pytest.mark.mathematics
def test_the_variance_is_the_weight_of_the_kl(rng, v):
    x, l, kl = rng.random((5, 7)), rng.random((5, 7)), rng.random(5)
    half = np.square(x - l).sum(axis=1) / 2 + v * kl
    constant = v * 7 * np.log(2 * np.pi * v) / 2
    np.testing.assert_allclose(v * (Gaussian(v).nll(x, l) + kl), half + constant)
    given, learned = (VAE(3, (), 1, likelihood=each) for each in (Gaussian(v), LearnedGaussian()))
    learned.params["likelihood.logvar"][:] = np.log(v)
    assert variance_of(given) == v and variance_of(learned) == pytest.approx(v)


@pytest.mark.mathematics
def test_neighbours_are_down_and_across():
    stripes = np.tile([0.0, 1.0, 0.0], (1, 4))  # 4 rows of 3
    assert roughness(stripes, (4, 3)) == 1 and roughness(stripes, (3, 4)) > 1
    assert roughness(stripes / 2, (4, 3)) == 1 / 4 and roughness(0 * stripes + 1, (4, 3)) == 0


@pytest.mark.mathematics
def test_an_average_of_images_is_smoother_than_they_are(rng):
    x = rng.random((20, 12))
    assert roughness(x.mean(axis=0), (3, 4)) < roughness(x, (3, 4))
