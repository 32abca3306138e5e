"""The study of log sigma²: its models have right gradients, and its claims can fail."""

import copy
import math

import numpy as np
import pytest
from claims import failing
from scipy import integrate, stats

from numpy_vae import VAE, Dataset, gradcheck, posterior
from numpy_vae.gradcheck.model import draw, function_of, gradient_of
from numpy_vae.study.logvar import (
    CLAIMS,
    MEANINGS,
    RATIOS,
    SIGMAS,
    Found,
    Mixture,
    derivatives_of_the_kl,
    head_of,
    loss,
    mix,
    train,
)

SABOTAGE = [
    (1, "study/logvar", "sigma**2, np.log,", "sigma**2, lambda a: np.log(abs(a) + 0.1),"),
    (2, "study/logvar", "np.full_like(a, 2)", "np.full_like(a, -2)"),
    (3, "study/logvar", "np.copy, np.ones_like", "np.copy, np.zeros_like"),
    (4, "study/logvar", "slope**2 + dlogvar", "slope**2 - dlogvar"),
    (5, "study/logvar", "else posterior.standard_deviation(a)", "else np.exp(a)"),
    (5, "study/logvar", "np.exp(a) if", "posterior.standard_deviation(a) if"),
]
BY_NAME = {meaning.name: meaning for meaning in MEANINGS}
each_meaning = pytest.mark.parametrize("meaning", MEANINGS, ids=lambda meaning: meaning.name)

ELBOS = {
    "σ²": (math.nan, math.nan, math.nan),
    "σ": (-172.0, math.nan, math.nan),
    "±σ": (-172.0, -165.0, -180.0),
    "softplus⁻¹(σ)": (-172.0, -155.0, -154.0),
    "log σ": (-172.0, -155.0, -154.0),
    "log σ²": (-172.0, -154.0, -152.0),
}
STEEPEST = {
    "σ²": 5e7, "σ": 1e4, "±σ": 1e4, "softplus⁻¹(σ)": 1.0, "log σ": 200.0, "log σ²": 50.0,
}  # fmt: skip


def found(*, sigma=(0.7, 0.5), excess=(0.0, 0.5), last=1.2, steepest=(), **elbos):
    """Return what the experiment could have found; σ² is called variance."""
    names = {"variance": "σ²", "deviation": "σ", "signed": "±σ", "softplus": "softplus⁻¹(σ)"}
    elbos = ELBOS | {names[key]: value for key, value in elbos.items()}
    trained = {name: np.stack([values, values], axis=1) for name, values in elbos.items()}
    mixtures = [
        Mixture(each, 0.7, *sigma, excess[0], last if each == RATIOS[-1] else excess[1])
        for each in RATIOS
    ]
    curvatures = np.outer(list((STEEPEST | dict(steepest)).values()), np.ones(len(SIGMAS)))
    return Found(trained, curvatures, curvatures, mixtures)


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, found()) == []


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        (1, {"variance": (-172.0, math.nan, math.nan)}),
        (1, {"deviation": (-172.0, -160.0, math.nan)}),
        (2, {"softplus": (-172.0, math.nan, -154.0)}),
        (2, {"softplus": (-172.0, -161.0, -160.5)}),
        (2, {"softplus": (-172.0, -155.0, -140.0)}),
        (3, {"signed": (-172.0, -165.0, math.nan)}),
        (3, {"signed": (-172.0, -155.0, -180.0)}),
        (4, {"steepest": {"σ²": 9e6}}),
        (4, {"steepest": {"σ": 900.0}}),
        (4, {"steepest": {"log σ": 260.0}}),
        (4, {"steepest": {"log σ²": 260.0}}),
        (4, {"steepest": {"softplus⁻¹(σ)": 1.2}}),
        (5, {"sigma": (0.71, 0.5)}),
        (5, {"excess": (0.01, 0.5)}),
        (5, {"excess": (-0.01, 0.5)}),
        (5, {"sigma": (0.7, 0.65)}),
        (5, {"excess": (0.0, -0.1)}),
        (5, {"last": 0.9}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert failing(CLAIMS, found(**numbers)) == [number]


@pytest.mark.gradient
@pytest.mark.parametrize("method", ["central", "complex", "taylor"])
@each_meaning
def test_the_gradient_is_that_of_the_objective(meaning, method, rng):
    sizes, network = (7, (5,), 3), head_of(meaning)
    vae = VAE(*sizes, "tanh", dtype=np.float64, rng=rng, network_type=network)
    # A head that has to stay positive does: the weights are small beside the bias.
    vae.params["logvar.W"][:] = 0.03 * rng.standard_normal((5, 3))
    vae.params["logvar.b"][:] = meaning.a(np.array([0.5, 1.0, 2.0]))
    x, eps = draw(vae, (4, 3), rng)
    arrays = {**vae.params, "x": x, "eps": eps}
    f, gradient = function_of(vae, "objective", 1.0), gradient_of(vae, x, eps, "objective", 1.0)
    assert gradcheck(f, gradient, arrays, method=method).ok


@pytest.mark.mathematics
@each_meaning
def test_a_is_read_as_log_sigma_squared_with_these_derivatives(meaning):
    a = meaning.a(SIGMAS)
    np.testing.assert_allclose(meaning.logvar(a), 2 * np.log(SIGMAS), atol=1e-12)
    for function, derivative in (meaning.logvar, meaning.slope), (meaning.slope, meaning.curvature):
        found = np.imag(function(a + 1e-30j)) / 1e-30
        np.testing.assert_allclose(derivative(a), found, rtol=1e-10, atol=1e-12)


@pytest.mark.mathematics
@each_meaning
def test_the_derivatives_of_the_kl_are_those_of_its_formula(meaning):
    slope, curvature = derivatives_of_the_kl(meaning, SIGMAS)

    def kl(a):
        logvar = meaning.logvar(a)[:, np.newaxis]
        return posterior.kl(0 * logvar, logvar, posterior.standard_deviation(logvar))

    a = meaning.a(SIGMAS)
    np.testing.assert_allclose(slope, np.imag(kl(a + 1e-30j)) / 1e-30, rtol=1e-9, atol=1e-12)
    h = 1e-4 * np.minimum(1, np.abs(a)) + 1e-5 * (a == 0)
    diagonal = h * np.exp(0.25j * np.pi)
    np.testing.assert_allclose(
        curvature, np.imag(kl(a + diagonal) + kl(a - diagonal)) / h**2, rtol=1e-4, atol=1e-5
    )


@pytest.mark.mathematics
def test_the_derivatives_of_the_kl_are_those_of_the_page():
    sigma, variance = SIGMAS, SIGMAS**2
    slope = 1 - np.exp(-sigma)  # of softplus
    page = {
        "σ²": ((1 - 1 / variance) / 2, 1 / (2 * variance**2)),
        "σ": (sigma - 1 / sigma, 1 + 1 / variance),
        "±σ": (-sigma - 1 / -sigma, 1 + 1 / variance),  # a - 1 / a at a = -sigma
        "softplus⁻¹(σ)": (
            slope * (sigma - 1 / sigma),
            slope**2 * (1 + 1 / variance) + slope * (1 - slope) * (sigma - 1 / sigma),
        ),
        "log σ": (variance - 1, 2 * variance),
        "log σ²": ((variance - 1) / 2, variance / 2),
    }
    for name, expected in page.items():
        derivatives = derivatives_of_the_kl(BY_NAME[name], sigma)
        np.testing.assert_allclose(derivatives, expected, rtol=1e-7, atol=1e-10)


@each_meaning
def test_a_model_starts_at_sigma_one_and_its_copies_mean_the_same(meaning, rng):
    vae = VAE(7, (5,), 3, rng=rng, network_type=head_of(meaning))
    vae.params["logvar.b"][:] = meaning.a(np.ones(3))
    x = rng.random((4, 7)).astype(np.float32)
    for twin in vae, copy.copy(vae), vae.astype(np.float64), vae.over(vae.params.copy()):
        assert twin.network.meaning is meaning
        np.testing.assert_allclose(twin.encode(x)[1], 0, atol=1e-6)
    assert vae.encode(x)[1].dtype == np.float32


def test_a_training_that_leaves_the_positive_numbers_has_no_elbo(rng):
    images = (rng.random((60, 16)) < 0.5).astype(np.float32)
    for name, fails in ("σ²", True), ("log σ²", False):
        vae = VAE(16, (8,), 2, rng=0, network_type=head_of(BY_NAME[name]))
        vae.params["logvar.b"][:] = BY_NAME[name].a(np.ones(2))
        assert math.isnan(train(vae, Dataset("", images, images), 3, 20, 0.5, 0)) == fails


@pytest.mark.mathematics
@pytest.mark.parametrize("two_meanings", [False, True])
def test_the_loss_of_the_linear_model_is_its_integral(two_meanings):
    mu, a, x, w = 0.3, -0.8, 1.2, 1.7
    of_kl = stats.norm(mu, math.exp(a / 2))
    of_sampler = stats.norm(mu, math.exp(a)) if two_meanings else of_kl
    nll = integrate.quad(lambda z: -of_sampler.pdf(z) * stats.norm.logpdf(x, w * z, 1), -9, 9)[0]
    kl = integrate.quad(
        lambda z: of_kl.pdf(z) * (of_kl.logpdf(z) - stats.norm.logpdf(z)), -9, 9, limit=200
    )[0]
    assert loss(np.array([mu, a]), x, w, two_meanings) == pytest.approx(nll + kl, abs=1e-9)


@pytest.mark.mathematics
@pytest.mark.parametrize("x", [0.0, 1.0, -3.0])
@pytest.mark.parametrize("ratio", RATIOS)
def test_the_optima_of_the_linear_model_are_those_of_the_page(ratio, x):
    optimum = mix(ratio, x)
    root = (math.sqrt(1 + 8 * ratio) - 1) / (4 * ratio)  # of 2 W² sigma² + sigma - 1
    excess = math.log(1 + ratio) / 2 + (1 - root) / 4 + math.log(root) / 2
    assert optimum.posterior == pytest.approx((1 + ratio) ** -0.5)
    assert optimum.one == pytest.approx(optimum.posterior, abs=1e-6)
    assert optimum.two == pytest.approx(root, abs=1e-6)
    assert optimum.excess_of_one == pytest.approx(0, abs=1e-9)
    assert optimum.excess_of_two == pytest.approx(excess, abs=1e-9)


@pytest.mark.mathematics
def test_the_exact_log_p_is_scipys():
    optimum = mix(10.0, 2.0)
    w, mu, a = math.sqrt(10), 2 * math.sqrt(10) / 11, -math.log(11)  # of the exact posterior
    bound = -loss(np.array([mu, a]), 2.0, w, False)
    assert bound == pytest.approx(stats.norm.logpdf(2, 0, math.sqrt(11)), abs=1e-12)
    assert optimum.excess_of_one == pytest.approx(0, abs=1e-9)
