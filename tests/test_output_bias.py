"""Where the output biases start: the decoder gives the mean image, whatever z is."""

import numpy as np
import pytest

from numpy_vae import VAE, to_float
from numpy_vae.likelihood import Bernoulli, ContinuousBernoulli, Gaussian, LearnedGaussian
from numpy_vae.training.loop import start_output_bias

N, D, Z = 2300, 6, 2  # more images than are read at a time
BOUNDED = [Bernoulli(), ContinuousBernoulli()]
UNBOUNDED = [Gaussian(0.1), LearnedGaussian()]
each_likelihood = pytest.mark.parametrize("likelihood", BOUNDED + UNBOUNDED, ids=repr)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def pixels(rng, dtype):
    """Return images of which one pixel never lights, one always does, and each has its own mean."""
    images = rng.random((N, D)) * np.linspace(0.1, 1, D)
    images[:, 0], images[:, -1] = 0, 1
    return np.round(255 * images).astype(np.uint8) if dtype == np.uint8 else images.astype(dtype)


def start(likelihood, images, dtype=np.float64):
    """Return a model with the biases started, and what its decoder gives without its weights."""
    vae = VAE(D, (4,), Z, likelihood=likelihood, dtype=dtype, rng=0)
    before = vae.params.copy()
    start_output_bias(vae, images)
    changed = [name for name in before if not np.array_equal(before[name], vae.params[name])]
    assert changed == ["output.b"]
    vae.params["output.W"][:] = 0
    decoded = vae.decode(np.random.default_rng(0).standard_normal((3, Z)))
    return vae, decoded


@each_likelihood
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
@pytest.mark.mathematics
def test_the_decoder_gives_the_mean_image(rng, likelihood, kind):
    images = pixels(rng, kind)
    x = to_float(images, np.float64)
    if likelihood in BOUNDED:  # with half an image of zeros and half an image of ones more
        x = np.vstack([x, np.full(D, 0.5)])
    vae, decoded = start(likelihood, images)
    expected = np.tile(x.mean(axis=0), (3, 1))
    inner = slice(1, -1) if likelihood.name == "continuous_bernoulli" else slice(None)
    np.testing.assert_allclose(decoded[:, inner], expected[:, inner], rtol=0, atol=1e-12)
    if inner.start:  # there the density has no bound, and no optimum that one could start from
        np.testing.assert_allclose(vae.params["output.b"][[0, -1]], [-1000, 1000])


@each_likelihood
@each_dtype
@pytest.mark.mathematics
def test_a_pixel_that_never_lights_or_always_does_has_a_finite_bias(rng, likelihood, dtype):
    images = pixels(rng, np.uint8)
    vae, decoded = start(likelihood, images, dtype)
    assert np.isfinite(vae.params["output.b"]).all()
    assert decoded.dtype == dtype
    trace = vae.forward(to_float(images[:5], dtype), np.zeros((5, Z)))
    assert np.isfinite(vae.loss(trace)[0]).all() and np.isfinite(vae.backward(trace).flat).all()


@pytest.mark.mathematics
def test_bernoullis_biases_are_the_log_odds_with_half_a_count_more(rng):
    images = (rng.random((N, D)) < np.linspace(0, 1, D)).astype(np.uint8) * 255
    ones = (images > 0).sum(axis=0)
    vae, _ = start(Bernoulli(), images)
    odds = (ones + 0.5) / (N - ones + 0.5)
    np.testing.assert_allclose(vae.params["output.b"], np.log(odds), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("likelihood", UNBOUNDED, ids=repr)
@pytest.mark.mathematics
def test_any_real_pixels_have_their_mean_itself(rng, likelihood):
    images = 5 * rng.standard_normal((N, D)) - 70
    vae, _ = start(likelihood, images)
    np.testing.assert_allclose(vae.params["output.b"], images.mean(axis=0), rtol=1e-13)


@pytest.mark.mathematics
def test_the_half_images_are_those_of_the_ends_of_the_support(rng):
    class Between(Gaussian):
        support = (2.0, 6.0)

    images = rng.uniform(2, 6, (9, D))
    vae, _ = start(Between(), images)
    expected = np.vstack([images, np.full(D, 4.0)]).mean(axis=0)
    np.testing.assert_allclose(vae.params["output.b"], expected, rtol=1e-13)


@pytest.mark.parametrize("ends", [(0.0, np.inf), (-np.inf, 0.0)], ids=str)
def test_a_support_with_one_end_has_no_half_images(rng, ends):
    class HalfLine(Gaussian):
        support = ends

    images = rng.uniform(2, 6, (9, D)) * (1 if ends[0] == 0 else -1)
    vae, _ = start(HalfLine(), images)
    np.testing.assert_allclose(vae.params["output.b"], images.mean(axis=0), rtol=1e-13)


@pytest.mark.purity
@each_likelihood
def test_the_images_are_not_written_to(rng, likelihood):
    for kind in np.uint8, np.float64:
        images = pixels(rng, kind)
        images.flags.writeable = False  # from here on it is an error to write to it
        start(likelihood, images)


@each_likelihood
@pytest.mark.mathematics
def test_no_constant_reconstruction_is_better(rng, likelihood):
    # What the start is for: the best -log p(x) that a decoder reaches that knows nothing of x.
    images = pixels(rng, np.float64)[:, 1:-1]
    vae = VAE(D - 2, (4,), Z, likelihood=likelihood, dtype=np.float64, rng=0)
    start_output_bias(vae, images)
    vae.params["output.W"][:] = 0

    def value():
        return vae.loss(vae.forward(images, np.zeros((N, Z))))[0].mean()

    best, bias = value(), vae.params["output.b"].copy()
    for pixel in range(D - 2):
        for factor in 0.9, 1.1:
            vae.params["output.b"][:] = bias
            vae.params["output.b"][pixel] *= factor
            assert value() > best


@pytest.mark.mathematics
def test_counts_include_half_a_count(rng):
    x = rng.poisson(3.0, (20, 4)) * 1.0
    x[:, 0] = 0  # its rate would be 0, of which there is no logarithm
    vae = VAE(4, (), 1, likelihood="poisson", dtype=np.float64, rng=0)
    start_output_bias(vae, x)
    np.testing.assert_allclose(vae.params["output.b"], np.log((x.sum(axis=0) + 0.5) / 21))
