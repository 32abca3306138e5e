"""The study of the KL: its integrals, its linear model and its formulas are right."""

import numpy as np
import pytest
from claims import failing
from scipy import stats

from numpy_vae import VAE, Adam, load_digits
from numpy_vae.data import batch
from numpy_vae.seeds import spawn_streams
from numpy_vae.study.kl import (
    CLAIMS,
    FORMS,
    LOGVAR,
    MU,
    SIZES,
    TABLES,
    Found,
    Noise,
    Point,
    Training,
    by_quadrature,
    closed_form,
    deviation,
    errors,
    first_above,
    first_steps,
    gradient_error,
    noise,
    point,
)
from numpy_vae.study.linear import linear_log_p, linear_optimum
from numpy_vae.training.loop import train_step

SABOTAGE = [
    (1, "posterior", "return (mu * mu + sigma * sigma - 1", "return (mu * mu + sigma - 1"),
    (1, "posterior", "return dkl * mu, dkl * (sigma * sigma - 1) / 2", "return dkl * mu, dkl"),
    (2, "posterior", "return (z * z - eps * eps - logvar)", "return (z * z - eps * eps + logvar)"),
    (2, "posterior", "return np.exp(logvar / 2)", "return np.exp(logvar)"),
    (3, "study/kl", "[nll + kl, nll + r]", "[nll + r, nll + kl]"),
    (3, "study/linear", "np.log(beta * v / c)", "np.log(beta * v * c)"),
    (4, "study/kl", "dmu + drawn[0]", "dmu - drawn[0]"),
    (5, "study/kl", "sign * each), out=grads", "each), out=grads"),
]


@pytest.fixture
def digits():
    return load_digits(130, rng=0)


def found(shift=0.0, slope=0.0, floor=0.0, mean=0.12, negative=0.4, linear=1e-13, exact=1.2,
          trained=0.8, by_mu=1.1, of_linear=1.1, right=20.0, flipped=1e8, steps=100):  # fmt: skip
    """Return what the experiment could have found."""
    closed = closed_form(MU, LOGVAR)
    value, one = np.ones(4), np.ones((4, 3))
    return Found(
        [
            Point(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
            Point(0.5, 0.0, 0.125, 0.125, mean, 0.0016, negative),
        ],
        closed - floor,
        closed - floor + shift,
        slope,
        {},
        1 / np.sqrt(SIZES),
        [
            Noise("", (exact * value, linear * value), (one, of_linear * one), (one, one), (0, 0)),
            Noise("", (value, trained * value), (one, by_mu * one), (one, one), (0, 0)),
        ],
        [
            Training(1, np.full(steps, right), np.ones(steps)),
            Training(-1, np.geomspace(1, flipped, 50), np.ones(50)),
        ],
    )


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, found()) == []


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        (1, {"shift": 1e-6}),
        (1, {"shift": -1e-6}),
        (1, {"slope": 1e-3}),
        (2, {"floor": 0.1}),
        (2, {"floor": -0.1}),
        (2, {"mean": 0.2}),
        (2, {"mean": 0.1}),
        (2, {"negative": 0.1}),
        (3, {"linear": 0.1}),
        (3, {"exact": 0.4}),
        (3, {"trained": 1.0}),
        (4, {"by_mu": 0.9}),
        (4, {"of_linear": 0.9}),
        (5, {"right": 200.0}),
        (5, {"flipped": 1e5}),
        (5, {"steps": 50}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert failing(CLAIMS, found(**numbers)) == [number]


@pytest.mark.parametrize(("mu", "logvar"), [(0.0, 0.0), (1.3, -2.0), (-0.4, 1.5)])
@pytest.mark.mathematics
def test_the_quadrature_is_that_of_scipys_densities(mu, logvar):
    q, p = stats.norm(mu, np.sqrt(np.exp(logvar))), stats.norm()
    expected = q.expect(lambda z: q.logpdf(z) - p.logpdf(z))
    assert by_quadrature(mu, logvar) == pytest.approx(expected, abs=1e-9)


@pytest.mark.mathematics
def test_the_deviation_of_one_draw_is_that_of_the_log_ratio():
    eps, weights = np.polynomial.hermite_e.hermegauss(8)  # exact for r², of degree 4
    weights = weights / weights.sum()
    for mu, logvar in (0.0, 0.0), (1.0, -1.0), (-2.0, 0.7):
        r = ((mu + np.exp(logvar / 2) * eps) ** 2 - eps**2 - logvar) / 2
        variance = (weights * r * r).sum() - (weights * r).sum() ** 2
        assert deviation(mu, logvar) ** 2 == pytest.approx(variance, abs=1e-12)


@pytest.mark.mathematics
def test_with_sigma_1_the_share_below_zero_is_that_of_a_normal(rng):
    # r = mu eps + mu² / 2 < 0 where eps < -mu / 2
    found = point(0.5, 0.0, rng)
    assert found.negative == pytest.approx(stats.norm.cdf(-0.25), abs=0.01)
    assert found.closed == 0.125 and found.quadrature == pytest.approx(0.125)


@pytest.mark.mathematics
def test_the_errors_are_those_of_a_mean(rng):
    predicted = deviation(1.0, -1.0) / np.sqrt(SIZES)
    np.testing.assert_allclose(errors(1.0, -1.0, rng), predicted, rtol=0.2)


@pytest.mark.mathematics
def test_the_kl_is_convex_in_mu_and_logvar(rng):
    (a, b), (c, d) = (3 * rng.standard_normal((2, 1000, 1)) for _ in range(2))
    middle = closed_form((a + c) / 2, (b + d) / 2)
    assert (middle <= (closed_form(a, b) + closed_form(c, d)) / 2 + 1e-12).all()


@pytest.mark.gradient
def test_the_gradient_is_the_complex_step():
    assert gradient_error(MU, LOGVAR) < 1e-13


@pytest.mark.mathematics
def test_only_the_first_two_forms_are_the_kl():
    values = [form(MU, LOGVAR, np.exp(LOGVAR)) for form in FORMS.values()]
    right = [np.allclose(each, closed_form(MU, LOGVAR), atol=1e-12) for each in values]
    assert right == [True, True, False, False, False, False, False]
    assert all(each.min() < -0.05 for each in values[2:])


@pytest.mark.mathematics
def test_in_the_linear_model_the_drawn_bound_is_log_p_for_every_draw(rng):
    x = rng.standard_normal((20, 7)) @ rng.standard_normal((7, 7)) + 3
    vae = linear_optimum(x, 2)
    W = vae.params["output.W"]
    p = stats.multivariate_normal(
        vae.params["output.b"], W.T @ W + vae.likelihood.variance * np.eye(7)
    )
    terms = vae.terms(vae.forward(x, rng.standard_normal((5, 20, 2))))
    drawn = terms.reconstruction + terms.log_ratio
    np.testing.assert_allclose(drawn, np.broadcast_to(-p.logpdf(x), (5, 20)), rtol=1e-11)


@pytest.mark.mathematics
def test_in_the_linear_model_the_noise_is_what_the_page_derives(rng):
    x = rng.standard_normal((20, 7)) @ rng.standard_normal((7, 7))
    vae = linear_optimum(x, 2)
    found = noise("", vae, x, rng)
    mu, logvar = vae.encode(x)
    sigma = np.exp(logvar / 2)
    square = sigma**2
    near = {"rtol": 0.2}  # of 500 draws
    np.testing.assert_allclose(found.by_mu[0], 1 / sigma - sigma, **near)
    np.testing.assert_allclose(found.by_mu[1], 1 / sigma, **near)
    exact = np.sqrt((1 - square) ** 2 / 2 + mu**2 * square / 4)
    np.testing.assert_allclose(found.by_logvar[0], exact, **near)
    np.testing.assert_allclose(found.by_logvar[1], np.full_like(mu, 0.5**0.5), **near)
    # -log p(x | z) + KL has in each dimension the noise of (eps² - z²) / 2
    expected = np.sqrt(((1 - square) ** 2 / 2 + mu**2 * square).sum(axis=-1))
    np.testing.assert_allclose(found.value[0], expected, **near)


def test_the_flipped_training_starts_from_the_same_step(digits):
    right, flipped = (first_steps(sign, digits, 6, 3, 0) for sign in (1, -1))
    assert right.kls[0] == flipped.kls[0]
    assert right.losses[0] - flipped.losses[0] == pytest.approx(2 * right.kls[0])
    assert flipped.kls[15] > right.kls[15]


def test_the_right_sign_is_the_training_of_the_package(digits):
    vae, streams = VAE(784, (6,), 3, rng=0), spawn_streams(0)
    adam, grads = Adam(vae.params), [vae.params.zeros_like()]
    expected = []
    for _ in range(3):
        rows = streams.order.integers(len(digits.train), size=100)
        x = batch(digits.train, rows, pixels=streams.pixels)
        eps = streams.noise.standard_normal((100, 3), np.float32)
        expected.append(train_step(vae, adam, x, eps, grads).loss / 100)
    np.testing.assert_allclose(first_steps(1, digits, 6, 3, 0).losses[:3], expected, rtol=1e-5)


def test_the_first_step_above_a_limit_is_counted_from_1():
    assert first_above(np.array([1.0, 5.0, 2.0, 9.0]), 4) == 2
    assert first_above(np.array([1.0, 5.0]), 1) == 2
    assert first_above(np.array([1.0, 5.0]), 5) == 0


def test_a_training_that_explodes_at_once_has_tables_too():
    numbers = found()
    early = Training(-1, np.array([1.0, 2e9]), np.ones(2))
    numbers = numbers._replace(trainings=[numbers.trainings[0], early])
    assert TABLES[-1].cells(numbers)[1] == ["-1", "nan", "2", "2", "2", "1"]
    assert early.kl_at(2) == 2e9


@pytest.mark.mathematics
def test_the_variance_that_is_not_given_is_that_of_the_highest_likelihood(rng):
    x = rng.standard_normal((40, 7)) @ rng.standard_normal((7, 7)) + 3
    v = linear_optimum(x, 3).likelihood.variance
    best, *others = (
        linear_log_p(linear_optimum(x, 3, v * factor), x).mean() for factor in (1, 0.99, 1.01)
    )
    assert best > max(others)
