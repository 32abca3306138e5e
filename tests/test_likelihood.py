"""p(x | z): against differences, SciPy, extremes and what it accepts."""

import math
from dataclasses import FrozenInstanceError, dataclass, field
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy import special, stats
from scipy.integrate import quad

from numpy_vae import VAE, Adam, gradcheck
from numpy_vae.likelihood import (
    LIKELIHOODS,
    Bernoulli,
    ContinuousBernoulli,
    DiagonalGaussian,
    Gaussian,
    LearnedGaussian,
    Likelihood,
    Poisson,
    check_values,
    langevin,
    log_integral,
    make_likelihood,
)

B, D, K = 5, 7, 3
KINDS = [
    Bernoulli(),
    ContinuousBernoulli(),
    Gaussian(0.1),
    Gaussian(2.5),
    LearnedGaussian(),
    LearnedGaussian(np.log([2.5])),
    DiagonalGaussian(np.linspace(-2, 1, D)),
]
METHODS = ["central", "complex", "taylor"]
each_likelihood = pytest.mark.parametrize("likelihood", KINDS, ids=repr)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def check_gradients(likelihood, x, l, dnll, method):
    arrays = {"x": x, "l": l, **likelihood.parameters()}
    blocks = {name: np.full_like(value, np.nan) for name, value in likelihood.parameters().items()}
    likelihood.nll_backward_params(x, l, dnll, likelihood.over(blocks))
    dl = likelihood.nll_backward(x, l, dnll)
    dx = likelihood.nll_backward_x(x, l, dnll).reshape(-1, *x.shape).sum(axis=0)

    def f(a):
        return (likelihood.over(a).nll(a["x"], a["l"]) * dnll).sum()

    tolerance = 1e-7 if method == "central" else None
    report = gradcheck(f, {"x": dx, "l": dl, **blocks}, arrays, method=method, tolerance=tolerance)
    assert report.ok, f"\n{report}"


@each_likelihood
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lead", [(B,), (K, B)], ids=["one-sample", "K-samples"])
@pytest.mark.gradient
def test_gradients(rng, likelihood, lead, method):
    x, l = rng.random((B, D)), 2 * rng.standard_normal((*lead, D))
    check_gradients(likelihood, x, l, rng.standard_normal(lead), method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "around",
    [
        [0, 1e-12, -1e-9, 1e-6, -1e-4, 1e-3, -1e-2],
        [1 - 1e-9, 1, 1 + 1e-9, -1 + 1e-9, -1, -1 - 1e-9, 1.1],
    ],
    ids=["near-0", "at-the-switch"],
)
@pytest.mark.gradient
def test_gradients_of_the_continuous_bernoulli_where_its_digits_are_at_stake(rng, around, method):
    l = rng.permuted(np.broadcast_to(np.array(around, float), (K, B, D)), axis=-1)
    check_gradients(
        ContinuousBernoulli(), rng.random((B, D)), l, rng.standard_normal((K, B)), method
    )


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
def test_the_diagonal_gaussian_is_scipys(rng):
    x, l, logvar = (
        rng.standard_normal((B, D)),
        rng.standard_normal((K, B, D)),
        np.linspace(-3, 2, D),
    )
    expected = -stats.norm.logpdf(x, l, np.exp(logvar / 2)).sum(axis=-1)
    np.testing.assert_allclose(DiagonalGaussian(logvar).nll(x, l), expected, rtol=1e-12)
    same = np.full(D, -0.7)
    one = LearnedGaussian(np.array([-0.7])).nll(x, l)
    np.testing.assert_allclose(DiagonalGaussian(same).nll(x, l), one, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.gradient
def test_the_gradient_of_poisson(rng, method):
    x, l, dnll = rng.poisson(3.0, (B, D)) * 1.0, rng.standard_normal((K, B, D)), rng.random((K, B))
    dl = Poisson().nll_backward(x, l, dnll)
    f = lambda a: (Poisson().nll(x, a["l"]) * dnll).sum()  # noqa: E731
    assert gradcheck(f, {"l": dl}, {"l": l}, method=method).ok


@each_dtype
@pytest.mark.mathematics
def test_poisson_is_scipys_and_so_are_its_draws(rng, dtype):
    x, l = rng.poisson(3.0, (B, D)).astype(dtype), rng.standard_normal((K, B, D)).astype(dtype)
    expected = -stats.poisson.logpmf(x, np.exp(l.astype(float))).sum(axis=-1)
    found = Poisson().nll(x, l)
    np.testing.assert_allclose(found, expected, rtol=1e-12 if dtype == np.float64 else 1e-5)
    assert found.dtype == Poisson().nll_backward(x, l, found).dtype == dtype
    draws = Poisson().sample(np.full((20_000, 2), [-1, 2], dtype), rng)
    assert draws.dtype == dtype and (draws == np.rint(draws)).all()
    np.testing.assert_allclose(draws.mean(axis=0), np.exp([-1, 2]), rtol=0.05)
    np.testing.assert_allclose(draws.var(axis=0), np.exp([-1, 2]), rtol=0.05)


def test_counts_are_whole_numbers_from_0():
    for x in np.array([[0.0, 7.0]]), np.array([[0, 255]], np.uint8):
        check_values(Poisson(), x, "x")
    for x in np.array([[0.5]]), np.array([[7]], np.uint8):
        with pytest.raises(ValueError, match=r"^x are not whole numbers, must be counts .*scale=1"):
            check_values(Poisson(), x, "x")
    with pytest.raises(ValueError, match=r"must be within \[0, inf\]"):
        check_values(Poisson(), np.array([[-1.0]]), "x")


def test_a_variance_for_each_column_has_as_many():
    assert DiagonalGaussian(np.log([0.5])).for_width(3).logvar.shape == (3,)
    with pytest.raises(ValueError, match=r"^logvar has shape \(2,\), must be \(3,\)"):
        VAE(3, likelihood=DiagonalGaussian(np.zeros(2)))
    with pytest.raises(ValueError, match=r"must be an array of shape \(D,\)"):
        DiagonalGaussian(0.5)


@pytest.mark.parametrize("l", [1e-3, 0.5, 1.0, 3.0, 40.0])
@pytest.mark.mathematics
def test_continuous_bernoulli_is_scipys_truncated_exponential(rng, l):
    x = rng.random((B, 1))
    expected = -stats.truncexpon.logpdf(x[:, 0], b=l, scale=1 / l)  # its slope is -l
    likelihood, ls = ContinuousBernoulli(), np.full((B, 1), l)
    np.testing.assert_allclose(likelihood.nll(x, -ls), expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(likelihood.nll(1 - x, ls), expected, rtol=1e-11, atol=1e-11)
    mean = stats.truncexpon.mean(b=l, scale=1 / l)
    np.testing.assert_allclose(likelihood.mean(-ls), mean, rtol=1e-9)


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


@each_dtype
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


def variance_of(likelihood):
    if isinstance(likelihood, LearnedGaussian):
        return np.exp(likelihood.logvar)
    return likelihood.variance


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
    elif likelihood.name == "continuous_bernoulli":  # A'', the slope of the mean
        slope = (likelihood.mean(l + 0.01) - likelihood.mean(l - 0.01)) / 0.02
        np.testing.assert_allclose(draws.var(axis=0), slope, rtol=0.05)
    else:
        np.testing.assert_allclose(
            draws.var(axis=0), np.broadcast_to(variance_of(likelihood), D), rtol=0.05
        )


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
        (np.array([[0.5, np.nan]]), "some values of pixels are not finite"),
        (np.array([[0.5, np.inf]]), "some values of pixels are not finite"),
    ],
)
def test_values_outside_the_support_are_refused_by_name(images, message):
    with pytest.raises(ValueError, match=message):
        check_values(Bernoulli(), images, "pixels")


@each_likelihood
def test_only_a_bernoulli_refuses_finite_values(likelihood):
    for images in np.array([[0.0, 1 + 1e-9]]), np.array([[-1e-9, 1.0]]):
        if isinstance(likelihood, Bernoulli):
            message = rf"must be within \[0, 1\] for the {likelihood.name} likelihood: rescale them"
            with pytest.raises(ValueError, match=message):
                check_values(likelihood, images, "pixels")
        else:
            check_values(likelihood, images, "pixels")
    check_values(likelihood, np.array([[0.0, 1.0]]), "pixels")
    check_values(likelihood, np.array([[0, 255]], np.uint8), "pixels")


def test_values_inside_the_support_are_accepted():
    check_values(Bernoulli(), np.array([[0.0, 1.0]]), "pixels")
    check_values(Bernoulli(), np.array([[0, 255]], np.uint8), "pixels")
    check_values(Gaussian(), np.array([[-700.0, 1e6]]), "pixels")


def test_a_likelihood_is_made_from_name_settings_or_itself():
    assert make_likelihood("bernoulli") == Bernoulli()
    assert make_likelihood({"name": "gaussian", "variance": 0.5}) == Gaussian(0.5)
    own = Gaussian(3.0)
    assert make_likelihood(own) is own
    assert make_likelihood("continuous_bernoulli") == ContinuousBernoulli()
    np.testing.assert_array_equal(make_likelihood("learned_gaussian").logvar, np.log([0.1]))
    message = (
        "^likelihood is 'laplace', must be one of bernoulli, continuous_bernoulli, gaussian, "
        "learned_gaussian, diagonal_gaussian, poisson$"
    )
    with pytest.raises(ValueError, match=message):
        make_likelihood("laplace")
    with pytest.raises(ValueError, match=r"^likelihood is None, must be one of bernoulli, "):
        make_likelihood({"variance": 0.5})
    with pytest.raises(ValueError, match=r"is 3, must be a name or a Likelihood: Gaussian\(0.1\)$"):
        make_likelihood(3)


@each_likelihood
def test_a_likelihood_is_made_again_from_its_settings(likelihood):
    settings = likelihood.settings()
    again = make_likelihood(settings)
    assert type(again) is type(likelihood) and again.settings() == settings
    assert all(isinstance(value, str | float) for value in settings.values())
    if not likelihood.parameters():  # which a model keeps among its own
        assert again == likelihood
    assert all(LIKELIHOODS[name]().name == name for name in LIKELIHOODS)


@pytest.mark.purity
@pytest.mark.parametrize("kind", [np.float64, np.float32, int])
def test_a_variance_is_kept_as_a_python_float(rng, kind):
    # np.float64(0.5) times a float32 array is float64.
    likelihood, l = Gaussian(kind(1)), np.ones((B, D), np.float32)
    assert type(likelihood.variance) is float
    assert likelihood.nll(l, l).dtype == np.float32
    assert likelihood.nll_backward(l, l, l[:, 0]).dtype == np.float32


@pytest.mark.purity
@each_likelihood
def test_all_that_float32_gives_is_float32(rng, likelihood):
    x, l, dnll = (rng.random(shape, np.float32) for shape in ((B, D), (K, B, D), (K, B)))
    blocks = {name: v.astype(np.float32) for name, v in likelihood.parameters().items()}
    likelihood = likelihood.over(blocks)
    values = [
        likelihood.nll(x, l),
        likelihood.nll_backward(x, l, dnll),
        likelihood.nll_backward_x(x, l, dnll),
        likelihood.mean(l),
        likelihood.sample(l, rng),
    ]
    assert [value.dtype for value in values] == [np.float32] * 5
    assert [value.shape for value in values] == [(K, B)] + 4 * [(K, B, D)]


@pytest.mark.parametrize("logvar", [0.1, [0.1], np.float64(0.1), np.zeros(2), np.zeros((1, 1))])
def test_a_logvar_that_is_no_array_of_one_number_is_refused(logvar):
    with pytest.raises(ValueError, match=r"^logvar is .*, must be an array of shape \(1,\)"):
        LearnedGaussian(logvar)


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


class Extreme:
    """A generator whose uniform numbers are all the largest that there is, or the smallest."""

    def __init__(self, largest):
        self.largest = largest

    def random(self, shape, dtype=np.float64):
        return np.full(shape, 1 - np.finfo(dtype).epsneg if self.largest else 0, dtype)


@pytest.mark.mathematics
def test_a_pixel_of_probability_zero_is_never_drawn():
    l = np.array([[-1e4, 1e4]])
    np.testing.assert_array_equal(Bernoulli().sample(l, Extreme(largest=False)), [[0, 1]])


@pytest.mark.mathematics
def test_a_gaussian_sample_is_the_mean_plus_the_noise_of_the_generator(rng):
    l = rng.standard_normal((B, D))
    noise = np.random.default_rng(7).standard_normal((B, D))
    draw = Gaussian(0.25).sample(l, np.random.default_rng(7))
    np.testing.assert_allclose(draw, l + 0.5 * noise, rtol=1e-13)


@each_likelihood
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_likelihood_accepts_what_is_not_finite(likelihood, value):
    with pytest.raises(ValueError, match="some values of pixels are not finite, all must be"):
        check_values(likelihood, np.array([[0.25, value, 0.5]]), "pixels")


@each_likelihood
def test_a_likelihood_is_frozen(likelihood):
    for name in "variance", "logvar":
        with pytest.raises(FrozenInstanceError):
            setattr(likelihood, name, 1.0)


@pytest.mark.parametrize("variance", [1e-6, 1e6])
def test_the_range_of_a_variance_has_its_ends(variance):
    assert Gaussian(variance).variance == variance
    with pytest.raises(ValueError, match=r"must be a number at least 1e-06 and at most 1e\+06"):
        Gaussian(variance**1.1)


# The continuous Bernoulli.


def exactly(l):
    """Return A(l) = log ∫ e^xl dx and A'(l) in a hundred digits."""
    with localcontext(prec=100):
        l = Decimal(float(l))
        if abs(l) < Decimal("1e-25"):  # A = l/2 + l²/24, and the next term is of l⁴
            return l / 2 + l * l / 24, (1 + l / 6) / 2
        power = l.exp()
        return ((power - 1) / l).ln(), power / (power - 1) - 1 / l


def distance(values, exact):
    """Return |value - exact| for each pair, the values of any precision."""
    with localcontext(prec=100):
        heads = [float(value) for value in values]
        pairs = zip(values, heads, exact, strict=True)
        return np.array([abs(float(Decimal(h) + Decimal(float(v - h)) - e)) for v, h, e in pairs])


def points(dtype):
    """Return l of both signs from 0 to 1e4, with what lies closest to the switch at 1."""
    sizes = [np.logspace(-20, 4, 300), np.linspace(0.5, 2, 101), [0, 1e-300, 5e-324, 0.1]]
    sizes = np.concatenate(sizes).astype(dtype)
    beside = np.nextafter(dtype(1), dtype(0)), dtype(1), np.nextafter(dtype(1), dtype(2))
    sizes = np.concatenate([sizes, beside])
    return np.concatenate([sizes, -sizes])


@each_dtype
@pytest.mark.mathematics
def test_the_log_integral_and_the_mean_have_all_digits(dtype):
    l = points(dtype)
    A, means = zip(*map(exactly, l), strict=True)
    unit = np.finfo(dtype).eps  # 1e4 itself cannot be told from 1e4 + 9e-13
    size = np.maximum(1, np.abs(np.array(A, float)))
    assert (distance(log_integral(l), A) <= 2 * unit * size).all()
    assert (distance(ContinuousBernoulli().mean(l), means) <= 2 * unit).all()
    assert log_integral(l).dtype == ContinuousBernoulli().mean(l).dtype == dtype


@each_dtype
@pytest.mark.mathematics
def test_langevins_function_has_all_digits_and_is_odd(dtype):
    h = points(dtype)
    with localcontext(prec=100):
        expected = [2 * exactly(2 * float(value))[1] - 1 for value in h]
    error = distance(langevin(h), expected)
    assert (error <= 4 * np.finfo(dtype).eps).all()  # 9e-16 for float64
    near = (np.abs(h) < 0.5) & (np.abs(h) > 1e-30)  # where it is small, so is its error
    assert (error <= 2 * np.finfo(dtype).eps * np.abs(np.array(expected, float)))[near].all()
    np.testing.assert_array_equal(langevin(-h), -langevin(h))


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="long double has no more digits than float64"
)
@pytest.mark.mathematics
def test_the_series_are_long_enough():
    # In long double there is no rounding in sight: what is left is the first term left out.
    l = np.linspace(0.05, 1.1, 22, dtype=np.longdouble)
    l = np.concatenate([l, -l]).astype(float).astype(np.longdouble)
    A, means = zip(*map(exactly, l), strict=True)
    assert (distance(log_integral(l), A) < 6e-17).all()
    assert (distance((1 + langevin(l / 2)) / 2, means) < 2e-18).all()


@pytest.mark.parametrize("l", [0, 1e-9, -1e-3, 0.99, 1.01, -5, 30, -80])
@pytest.mark.mathematics
def test_the_density_of_the_continuous_bernoulli_by_quadrature(l):
    likelihood, ls = ContinuousBernoulli(), np.array([[float(l)]])

    def density(x):
        return float(np.exp(-likelihood.nll(np.array([[x]]), ls))[0])

    accuracy = {"epsabs": 1e-13, "epsrel": 1e-13}
    assert quad(density, 0, 1, **accuracy)[0] == pytest.approx(1, abs=1e-12)
    mean = quad(lambda x: x * density(x), 0, 1, **accuracy)[0]
    assert likelihood.mean(ls)[0, 0] == pytest.approx(mean, abs=1e-12)
    assert log_integral(ls)[0, 0] == pytest.approx(
        np.log(quad(lambda x: np.exp(x * l), 0, 1, **accuracy)[0]), abs=1e-12
    )


@each_dtype
@pytest.mark.mathematics
def test_the_continuous_bernoulli_is_continuous_and_known_at_its_ends(dtype):
    likelihood, one, unit = ContinuousBernoulli(), dtype(1), np.finfo(dtype).eps
    for sign in 1, -1:
        below, above = (sign * np.array([[np.nextafter(one, one + way)]]) for way in (-one, one))
        for function in log_integral, likelihood.mean:
            assert abs(function(above) - function(below)) <= 3 * unit
    ends = np.array([[0.0], [-0.0], [1e4], [-1e4]], dtype)  # a warning would be an error here
    np.testing.assert_array_equal(log_integral(ends[:2]), 0)
    np.testing.assert_array_equal(likelihood.mean(ends[:2]), 0.5)
    np.testing.assert_allclose(likelihood.mean(ends[2:])[:, 0], [1 - 1e-4, 1e-4], atol=2 * unit)
    value = likelihood.nll(np.ones((4, 1), dtype), ends)
    np.testing.assert_allclose(
        value, [0, 0, -math.log(1e4), 1e4 - math.log(1e4)], rtol=1e-3 if unit > 1e-10 else 1e-12
    )
    gradient = likelihood.nll_backward(np.ones((4, 1), dtype), ends, np.ones(4, dtype))
    np.testing.assert_allclose(gradient[:, 0], [-0.5, -0.5, -1e-4, 1e-4 - 1], atol=2 * unit)
    assert np.isfinite(likelihood.sample(ends, np.random.default_rng(0))).all()


@pytest.mark.parametrize("l", [-30, -1, -1e-9, 0, 1e-3, 2, 50])
@pytest.mark.mathematics
def test_samples_of_the_continuous_bernoulli_have_its_distribution(l):
    draws = ContinuousBernoulli().sample(np.full(20_000, float(l)), np.random.default_rng(0))
    assert draws.min() >= 0 and draws.max() <= 1

    def cdf(x):
        return np.expm1(l * x) / np.expm1(l) if l else x

    assert stats.kstest(draws, cdf).pvalue > 0.01


@each_dtype
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.mathematics
def test_no_sample_of_the_continuous_bernoulli_is_outside_of_its_support(dtype, largest):
    sizes = np.concatenate([[0], np.logspace(-12, 4, 20_001)]).astype(dtype)
    for l in sizes, -sizes:
        draws = ContinuousBernoulli().sample(l, Extreme(largest))
        assert draws.dtype == dtype
        assert ((draws >= 0) & (draws <= 1)).all()


# The learned variance.


@pytest.mark.parametrize("variance", [0.02, 1.0, 3.0])
@pytest.mark.mathematics
def test_the_learned_gaussian_is_the_gaussian_of_its_variance(rng, variance):
    x, l, dnll = rng.random((B, D)), rng.standard_normal((K, B, D)), rng.standard_normal((K, B))
    learned, given = LearnedGaussian(np.log([variance])), Gaussian(variance)
    for name, *arguments in (
        ("nll", x, l),
        ("nll_backward", x, l, dnll),
        ("nll_backward_x", x, l, dnll),
        ("mean", l),
        ("link", l),
    ):
        of_learned, of_given = (getattr(kind, name)(*arguments) for kind in (learned, given))
        np.testing.assert_allclose(of_learned, of_given, rtol=1e-12, err_msg=name)
    draws = [kind.sample(l, np.random.default_rng(3)) for kind in (learned, given)]
    np.testing.assert_allclose(*draws, rtol=1e-12)
    assert given.parameters() == {} and given.over({}) is given


@pytest.mark.mathematics
def test_the_best_variance_is_the_mean_squared_error(rng):
    x, l = rng.random((B, D)), rng.standard_normal((K, B, D))
    mse = ((x - l) ** 2).mean()  # over pixels, images and samples
    dnll = np.full((K, B), 1 / (K * B))

    def at(logvar):
        likelihood, grad = LearnedGaussian(logvar), LearnedGaussian(np.full(1, np.nan))
        likelihood.nll_backward_params(x, l, dnll, grad)
        return likelihood.nll(x, l).mean(), grad.logvar[0]

    best = np.log([mse])
    value, gradient = at(best)
    assert value == pytest.approx(D / 2 * np.log(2 * np.pi * np.e * mse), rel=1e-13)
    assert abs(gradient) < 1e-13
    for step in 1e-4, 0.1, 1, 5:
        assert at(best - step)[0] > value and at(best - step)[1] < 0
        assert at(best + step)[0] > value and at(best + step)[1] > 0


@pytest.mark.mathematics
def test_adam_finds_the_best_variance_of_a_decoder_that_is_held_fixed(rng):
    own = LearnedGaussian(np.log([0.3]))
    vae = VAE(D, (4,), 2, likelihood=own, dtype=np.float64, rng=0)
    block = vae.params["likelihood.logvar"]
    np.testing.assert_array_equal(block, np.log([0.3]))
    assert np.shares_memory(block, vae.params.flat)
    assert np.shares_memory(block, vae.likelihood.logvar)
    trace = vae.forward(rng.random((B, D)), rng.standard_normal((K, B, 2)))
    mse = ((trace.x - trace.logits) ** 2).mean()
    adam, before = Adam(vae.params, lr=0.05), vae.params.copy()
    only = vae.params.zeros_like()
    for _ in range(400):
        only["likelihood.logvar"][:] = vae.backward(trace)["likelihood.logvar"]
        adam.step(only)
    np.testing.assert_allclose(block, np.log(mse), atol=1e-6)
    changed = [name for name in before if not np.array_equal(before[name], vae.params[name])]
    assert changed == ["likelihood.logvar"]
    np.testing.assert_array_equal(own.logvar, np.log([0.3]))  # the model's is a copy


# The link, and a likelihood of the reader's own.


@dataclass(frozen=True, eq=False)
class Rates(Likelihood):
    """Counts of the rate e^(l + bias), with a bias to be learned for each pixel."""

    unit: float = 1.0
    bias: np.ndarray = field(default_factory=lambda: np.zeros(D))
    name = "poisson"
    support = (0.0, math.inf)

    def nll(self, x, l):
        return (self.mean(l) - x * (l + self.bias) + special.loggamma(x + 1)).sum(axis=-1)

    def nll_backward(self, x, l, dnll):
        return dnll[..., np.newaxis] * (self.mean(l) - x)

    def nll_backward_x(self, x, l, dnll):
        return dnll[..., np.newaxis] * (special.digamma(x + 1) - l - self.bias)

    def nll_backward_params(self, x, l, dnll, grad):
        grad.bias[:] = self.nll_backward(x, l, dnll).reshape(-1, D).sum(axis=0)

    def mean(self, l):
        return np.exp(l + self.bias)

    def sample(self, l, rng):
        return rng.poisson(self.mean(l)).astype(l.dtype)


@pytest.mark.parametrize("method", ["central", "taylor"])
@pytest.mark.gradient
def test_gradients_of_the_readers_own(rng, method):
    likelihood = Rates(bias=rng.standard_normal(D))
    x, l = rng.integers(0, 5, (B, D)).astype(float), rng.standard_normal((K, B, D))
    check_gradients(likelihood, x, l, rng.standard_normal((K, B)), method)


def test_fields_that_are_arrays_are_parameters_and_the_others_are_settings():
    likelihood, block = Rates(2.0), np.ones(D)
    assert list(likelihood.parameters()) == ["likelihood.bias"]
    assert likelihood.parameters()["likelihood.bias"] is likelihood.bias
    assert likelihood.settings() == {"name": "poisson", "unit": 2.0}
    other = likelihood.over({"likelihood.bias": block})
    assert other.bias is block and other.unit == 2.0
    assert not likelihood.bias.any()
    with pytest.raises(
        ValueError, match=r"run from -1 to 2, must be within \[0, inf\] for the poi"
    ):
        check_values(likelihood, np.array([[-1.0, 2.0]]), "counts")


@each_likelihood
@pytest.mark.mathematics
def test_the_link_undoes_the_mean(likelihood):
    means = np.array([[2e-3, 0.01, 0.3, 0.5, 0.75, 1 - 2e-3]])
    np.testing.assert_allclose(likelihood.mean(likelihood.link(means)), means, atol=1e-12, rtol=0)
    by_bisection = Likelihood.link(likelihood, means)
    np.testing.assert_allclose(by_bisection, likelihood.link(means), atol=1e-9)
    assert likelihood.link(means.astype(np.float32)).dtype == np.float32


@pytest.mark.mathematics
def test_the_link_of_the_readers_own_is_found_by_bisection():
    # e^l overflows on the way, which must not warn.
    means = np.array([[1e-3, 0.5, 1, 4, 1000, 1e5, 1e-9]])
    np.testing.assert_allclose(Rates().link(means), np.log(means), rtol=0, atol=1e-9)
    large = np.full((1, D), 1e300)  # e^750 is tried for it
    np.testing.assert_allclose(Rates().link(large), np.log(large), rtol=1e-9)


@pytest.mark.mathematics
def test_the_link_is_finite_where_no_l_has_the_mean():
    ends = np.array([[0.0, 1.0]])
    np.testing.assert_allclose(ContinuousBernoulli().link(ends), [[-1e3, 1e3]], rtol=1e-12)
    # With rounding, sigmoid(l) is 1 from l = 37 on: the least of them.
    np.testing.assert_allclose(Likelihood.link(Bernoulli(), ends), [[-1e3, 37]], rtol=0.02)


@pytest.mark.mathematics
def test_the_link_of_bernoulli_is_the_log_odds():
    p = np.array([[1e-300, 1e-9, 0.1, 0.5, 0.9, 1 - 1e-9]])
    np.testing.assert_allclose(Bernoulli().link(p), special.logit(p), rtol=1e-13, atol=1e-15)


class Quantile:
    """A generator of one uniform number."""

    def __init__(self, u):
        self.u = u

    def random(self, shape, dtype):
        return np.full(shape, self.u, dtype)


@pytest.mark.parametrize("u", [0.05, 0.5, 0.999])
@pytest.mark.mathematics
def test_a_continuous_bernoulli_sample_is_the_quantile(u):
    l = np.array([[-30.0, -1, -0.04, -1e-2, -1e-3, 1e-3, 1e-2, 0.04, 0.3, 2, 30]])
    expected = np.log1p(np.where(l > 0, 1 - u, u) * np.expm1(l)) / l  # of slope l: 1 - x for l > 0
    draw = ContinuousBernoulli().sample(l, Quantile(u))
    np.testing.assert_allclose(draw, expected, rtol=1e-11)


def test_a_likelihood_with_parameters_is_equal_to_none_but_itself():
    # As its arrays have no single truth value; so it can be hashed, too.
    one, two = LearnedGaussian(), LearnedGaussian()
    assert one == one and one != two and len({one, two}) == 2
