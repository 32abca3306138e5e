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
    DRAWS,
    FORMS,
    LOGVAR,
    MU,
    TABLES,
    Found,
    Noise,
    Point,
    Training,
    by_quadrature,
    closed_form,
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
    (3, "study/kl", "[nll + kl, nll + r, nll + r]", "[nll + r, nll + kl, nll + r]"),
    (3, "study/linear", "np.log(beta * v / c)", "np.log(beta * v * c)"),
    (4, "study/kl", "+= 2 * math.log(c)", "-= 2 * math.log(c)"),
    (5, "study/kl", "dmu + drawn[0], ", "dmu - drawn[0], "),
    (6, "study/kl", "score = eps / sigma, (eps * eps - 1) / 2", "score = eps / sigma, eps * eps"),
    (6, "posterior", "(z * sigma * eps - 1) / 2", "(z * sigma * eps - 1)"),
    (7, "study/kl", "sign * each), out=grads", "each), out=grads"),
]


@pytest.fixture
def digits():
    return load_digits(130, rng=0)


def found(shift=0.0, slope=0.0, floor=0.0, mean=0.12, negative=0.4, linear=1e-13, exact=1.2,
          half=2.3, below=1.1, above=0.9, trained=0.8, by_mu=1.1, of_linear=1.1, of_half=1.1,
          landing=1e-15, landing_logvar=1e-15, right=20.0, flipped=1e8, steps=100):  # fmt: skip
    """Return what the experiment could have found."""
    closed = closed_form(MU, LOGVAR)
    value, one = np.ones(4), np.ones((4, 3))

    def noise(values, by_mu, by_logvar=(1, 1, 1)):
        scaled = tuple(k * value for k in values)
        return Noise("", scaled, tuple(k * one for k in by_mu), tuple(k * one for k in by_logvar),
                     (0, 0))  # fmt: skip

    return Found(
        [
            Point(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
            Point(0.5, 0.0, 0.125, 0.125, mean, 0.0016, negative),
        ],
        closed - floor,
        closed - floor + shift,
        slope,
        {},
        {
            0.5: noise((1, half, half), (1, of_half, 1)),
            0.7: noise((1, below, below), (1, 1.1, 1)),
            0.72: noise((1, above, above), (1, 1.1, 1)),
            1.0: noise((exact, linear, linear), (1, of_linear, landing), (1, 1, landing_logvar)),
        },
        noise((1, trained, trained), (1, by_mu, 1)),
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
        (4, {"half": 1.9}),
        (4, {"below": 0.9}),
        (4, {"above": 1.1}),
        (5, {"by_mu": 0.9}),
        (5, {"of_linear": 0.9}),
        (5, {"of_half": 0.9}),
        (6, {"landing": 0.1}),
        (6, {"landing_logvar": 0.1}),
        (7, {"right": 200.0}),
        (7, {"flipped": 1e5}),
        (7, {"steps": 50}),
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
def test_the_variance_of_one_log_ratio_is_what_the_page_derives(rng):
    eps, weights = np.polynomial.hermite_e.hermegauss(8)  # exact for r², of degree 4
    weights = weights / weights.sum()
    for mu, logvar in (0.0, 0.0), (1.0, -1.0), (-2.0, 0.7):
        r = ((mu + np.exp(logvar / 2) * eps) ** 2 - eps**2 - logvar) / 2
        variance = (weights * r * r).sum() - (weights * r).sum() ** 2
        square = np.exp(logvar)
        assert (square - 1) ** 2 / 2 + mu**2 * square == pytest.approx(variance, abs=1e-12)
        error = point(mu, logvar, rng).error
        assert error == pytest.approx(np.sqrt(variance / DRAWS), rel=0.02, abs=1e-12)


@pytest.mark.mathematics
def test_with_sigma_1_the_share_below_zero_is_that_of_a_normal(rng):
    # r = mu eps + mu² / 2 < 0 where eps < -mu / 2
    found = point(0.5, 0.0, rng)
    assert found.negative == pytest.approx(stats.norm.cdf(-0.25), abs=0.01)
    assert found.closed == 0.125 and found.quadrature == pytest.approx(0.125)


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


@pytest.mark.parametrize("c", [1.0, 0.5**0.5, 0.5, 1.5])
@pytest.mark.mathematics
def test_in_the_linear_model_the_noise_is_what_the_page_derives(rng, c):
    x = rng.standard_normal((20, 7)) @ rng.standard_normal((7, 7))
    vae = linear_optimum(x, 2)
    mu, logvar = vae.encode(x)
    sigma = np.exp(logvar / 2)
    square = sigma**2
    vae.params["logvar.b"][:] += 2 * np.log(c)  # sigma times c
    found = noise("", vae, x, rng)
    near = {"rtol": 0.2, "atol": 1e-9}  # of 500 draws
    np.testing.assert_allclose(found.by_mu[0], c * (1 / sigma - sigma), **near)
    np.testing.assert_allclose(found.by_mu[1], np.broadcast_to(c / sigma, mu.shape), **near)
    without = np.broadcast_to(abs(c - 1 / c) / sigma, mu.shape)
    np.testing.assert_allclose(found.by_mu[2], without, **near)
    exact = np.sqrt(c**4 * (1 - square) ** 2 / 2 + c**2 * mu**2 * square / 4)
    np.testing.assert_allclose(found.by_logvar[0], exact, **near)
    np.testing.assert_allclose(found.by_logvar[1], np.full_like(mu, c**2 * 0.5**0.5), **near)
    without = np.full_like(mu, abs(c**2 - 1) * 0.5**0.5)
    np.testing.assert_allclose(found.by_logvar[2], without, **near)
    # -log p(x | z) + KL has in each dimension the noise of (c² eps² - z²) / 2
    exact = (c**4 * (1 - square) ** 2 / 2 + c**2 * mu**2 * square).sum(axis=-1)
    np.testing.assert_allclose(found.value[0], np.sqrt(exact), **near)
    drawn = np.full(len(x), abs(c**2 - 1))
    np.testing.assert_allclose(found.value[1], drawn, **near)
    if c == 0.5**0.5:  # equal but for sigma²: the mean of mu² over the images is 1 - sigma²
        np.testing.assert_allclose(drawn**2, 2 / 8)
        assert exact.mean() == pytest.approx(((1 - square) * (1 + 3 * square))[0].sum() / 8)


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


@pytest.mark.mathematics
def test_the_variance_that_is_not_given_is_that_of_the_highest_likelihood(rng):
    x = rng.standard_normal((40, 7)) @ rng.standard_normal((7, 7)) + 3
    v = linear_optimum(x, 3).likelihood.variance
    best, *others = (
        linear_log_p(linear_optimum(x, 3, v * factor), x).mean() for factor in (1, 0.99, 1.01)
    )
    assert best > max(others)
