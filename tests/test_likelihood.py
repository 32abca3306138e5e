"""p(x | z): against differences, SciPy, extremes and what it accepts."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from scipy import stats

from numpy_vae import gradcheck
from numpy_vae.likelihood import Bernoulli, Gaussian, check_values, make_likelihood

B, D, K = 5, 7, 3
KINDS = [Bernoulli(), Gaussian(0.1), Gaussian(2.5)]
each_likelihood = pytest.mark.parametrize("likelihood", KINDS, ids=repr)


@each_likelihood
@pytest.mark.parametrize("lead", [(B,), (K, B)], ids=["one-sample", "K-samples"])
@pytest.mark.gradient
def test_gradients(rng, likelihood, lead):
    x, l = rng.random((B, D)), 2 * rng.standard_normal((*lead, D))
    dnll = rng.standard_normal(lead)

    def f(a):
        return (likelihood.nll(a["x"], a["l"]) * dnll).sum()

    dl = likelihood.nll_backward(x, l, dnll)
    dx = likelihood.nll_backward_x(x, l, dnll).reshape(-1, B, D).sum(axis=0)
    report = gradcheck(f, {"l": dl, "x": dx}, {"l": l, "x": x}, tolerance=1e-7)
    assert report.ok, f"\n{report}"


@pytest.mark.mathematics
def test_bernoulli_is_scipys(rng):
    x, l = rng.integers(0, 2, (B, D)).astype(float), 3 * rng.standard_normal((B, D))
    expected = -stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-l))).sum(axis=-1)
    np.testing.assert_allclose(Bernoulli().nll(x, l), expected, rtol=1e-12)


@pytest.mark.parametrize("variance", [0.1, 1.0, 2.5])
@pytest.mark.mathematics
def test_gaussian_is_scipys_with_every_constant(rng, variance):
    x, l = rng.standard_normal((B, D)), rng.standard_normal((B, D))
    expected = -stats.norm.logpdf(x, l, np.sqrt(variance)).sum(axis=-1)
    np.testing.assert_allclose(Gaussian(variance).nll(x, l), expected, rtol=1e-12)


@pytest.mark.mathematics
def test_small_probabilities_keep_their_digits():
    x, l = np.zeros((1, 1)), np.array([[-20.0]])
    np.testing.assert_allclose(Bernoulli().nll(x, l), np.log1p(np.exp(-20)), rtol=1e-12)


def test_the_variance_by_default():
    assert Gaussian() == Gaussian(0.1)


@each_likelihood
@pytest.mark.gradient
def test_gradient_is_zero_where_the_mean_is_the_data(rng, likelihood):
    l = rng.standard_normal((B, D))
    assert not likelihood.nll_backward(likelihood.mean(l), l, np.ones(B)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.mathematics
def test_extreme_logits_are_exact_in_value_and_gradient(dtype):
    l = np.array([[-1e4], [-50.0], [0.0], [50.0], [1e4]], dtype)
    ones, x = np.ones(5, dtype), np.ones((5, 1), dtype)
    bernoulli = Bernoulli()
    value, gradient = bernoulli.nll(x, l), bernoulli.nll_backward(x, l, ones)
    assert value.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(value, [1e4, 50, math.log(2), 0, 0], atol=1e-20)
    np.testing.assert_allclose(gradient[:, 0], [-1, -1, -0.5, 0, 0], atol=1e-20)
    np.testing.assert_allclose(bernoulli.nll(x * 0, l), value[::-1], atol=1e-20)


@each_likelihood
@pytest.mark.mathematics
def test_samples_have_the_mean_and_the_dtype(likelihood):
    l = np.linspace(-2, 2, D, dtype=np.float32)
    draws = likelihood.sample(np.tile(l, (20_000, 1)), np.random.default_rng(0))
    assert draws.dtype == np.float32
    standard_error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - likelihood.mean(l)) < 4.5 * standard_error).all()
    if likelihood.name == "bernoulli":
        assert set(np.unique(draws)) == {0, 1}
    else:
        np.testing.assert_allclose(draws.var(axis=0), likelihood.variance, rtol=0.05)


@pytest.mark.purity
@each_likelihood
def test_no_argument_is_written_to(rng, likelihood):
    x, l, dnll = rng.random((B, D)), rng.standard_normal((K, B, D)), rng.standard_normal((K, B))
    for array in (x, l, dnll):
        array.flags.writeable = False  # from here on it is an error to write to it
    assert np.isfinite(likelihood.nll(x, l)).all()
    assert np.isfinite(likelihood.nll_backward(x, l, dnll)).all()
    assert np.isfinite(likelihood.nll_backward_x(x, l, dnll)).all()
    assert np.isfinite(likelihood.mean(l)).all()
    assert np.isfinite(likelihood.sample(l, rng)).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.array([[0.0, 1.5]]), r"of pixels run from 0 to 1.5, must be within \[0, 1\] for"),
        (np.array([[-0.1, 1.0]]), r"run from -0.1 to 1, must be within \[0, 1\] for the bern"),
        (np.array([[0.5, np.nan]]), "the values of pixels must be finite"),
        (np.array([[0.5, np.inf]]), "the values of pixels must be finite"),
    ],
)
def test_values_outside_the_support_are_refused_by_name(images, message):
    with pytest.raises(ValueError, match=message):
        check_values(Bernoulli(), images, "pixels")


def test_values_inside_the_support_are_accepted():
    check_values(Bernoulli(), np.array([[0.0, 1.0]]), "pixels")
    check_values(Bernoulli(), np.array([[0, 255]], np.uint8), "pixels")
    check_values(Gaussian(), np.array([[-700.0, 1e6]]), "pixels")


def test_a_likelihood_is_made_from_name_settings_or_itself():
    assert make_likelihood("bernoulli") == Bernoulli()
    assert make_likelihood({"name": "gaussian", "variance": 0.5}) == Gaussian(0.5)
    own = Gaussian(3.0)
    assert make_likelihood(own) is own
    with pytest.raises(ValueError, match="likelihood is 'poisson', must be one of bernoulli, gau"):
        make_likelihood("poisson")


@pytest.mark.parametrize("variance", [0, -1, math.nan, math.inf])
def test_a_variance_out_of_range_is_refused(variance):
    with pytest.raises(ValueError, match=r"variance is .*, must be a number at least 1e-06"):
        Gaussian(variance)


@each_likelihood
@pytest.mark.gradient
def test_k_samples_are_k_times_one_sample(rng, likelihood):
    x, l, dnll = rng.random((B, D)), rng.standard_normal((K, B, D)), rng.standard_normal((K, B))
    for k in range(K):
        one = likelihood.nll(x, l[k])
        np.testing.assert_allclose(likelihood.nll(x, l)[k], one, rtol=1e-13)
        one = likelihood.nll_backward(x, l[k], dnll[k])
        np.testing.assert_array_equal(likelihood.nll_backward(x, l, dnll)[k], one)


class Lowest:
    """A generator whose uniform numbers are all the smallest that there is, which is 0."""

    def random(self, shape):
        return np.zeros(shape)


@pytest.mark.mathematics
def test_a_pixel_of_probability_zero_is_never_drawn():
    l = np.array([[-1e4, 1e4]])
    np.testing.assert_array_equal(Bernoulli().sample(l, Lowest()), [[0, 1]])


@pytest.mark.mathematics
def test_a_gaussian_sample_is_the_mean_plus_the_noise_of_the_generator(rng):
    l = rng.standard_normal((B, D))
    noise = np.random.default_rng(7).standard_normal((B, D))
    draw = Gaussian(0.25).sample(l, np.random.default_rng(7))
    np.testing.assert_allclose(draw, l + 0.5 * noise, rtol=1e-13)


@each_likelihood
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_likelihood_accepts_what_is_not_finite(likelihood, value):
    with pytest.raises(ValueError, match="the values of pixels must be finite, and some are not"):
        check_values(likelihood, np.array([[0.25, value, 0.5]]), "pixels")


@each_likelihood
def test_a_likelihood_is_frozen(likelihood):
    with pytest.raises(FrozenInstanceError):
        likelihood.variance = 1.0


@pytest.mark.parametrize("variance", [1e-6, 1e6])
def test_the_range_of_a_variance_has_its_ends(variance):
    assert Gaussian(variance).variance == variance
    with pytest.raises(ValueError, match=r"must be a number at least 1e-06 and at most 1e\+06"):
        Gaussian(variance**1.1)
