"""The held-out ELBO: which number it is."""

import numpy as np
import pytest

from numpy_vae import VAE
from numpy_vae.evaluate import BATCH_SIZE, evaluate_elbo


@pytest.fixture
def vae():
    vae = VAE(12, (7,), 3, rng=0, dtype=np.float64)
    rng = np.random.default_rng(1)
    vae.params.flat[:] += 0.3 * rng.standard_normal(vae.params.flat.size)
    return vae


@pytest.mark.mathematics
def test_the_elbo_is_the_mean_over_all_images_whatever_the_batches(vae, rng):
    images = rng.random((2 * BATCH_SIZE + 7, 12))
    noise = np.random.default_rng(4).spawn(6)[4]
    reconstruction, kl = vae.loss(vae.forward(images, noise.standard_normal((len(images), 3))))
    result = evaluate_elbo(vae, images, rng=4)
    assert result.reconstruction == pytest.approx(reconstruction.mean(), rel=1e-12)
    assert result.kl == pytest.approx(kl.mean(), rel=1e-12)
    assert result.elbo == -(result.reconstruction + result.kl)


@pytest.mark.mathematics
def test_the_noise_is_drawn(vae, rng):
    # At eps = 0 the number is better and is not a bound.
    images = rng.random((BATCH_SIZE, 12))
    at_the_mean, kl = vae.loss(vae.forward(images, np.zeros((BATCH_SIZE, 3))))
    result = evaluate_elbo(vae, images, rng=0)
    assert result.elbo < -(at_the_mean + kl).mean() - 1e-3
    assert evaluate_elbo(vae, images, rng=0) == result
    assert evaluate_elbo(vae, images, rng=1) != result


def test_dynamic_pixels_are_drawn_from_the_seed(vae):
    images = np.random.default_rng(0).integers(0, 256, (50, 12)).astype(np.uint8)
    grey = evaluate_elbo(vae, images, rng=0)
    dynamic = evaluate_elbo(vae, images, binarize="dynamic", rng=0)
    assert dynamic != grey and dynamic == evaluate_elbo(vae, images, binarize="dynamic", rng=0)


def test_an_elbo_that_is_not_finite_is_no_result(vae, rng):
    vae.params["output.b"][3] = np.nan
    with pytest.raises(FloatingPointError):
        evaluate_elbo(vae, rng.random((9, 12)), rng=0)


@pytest.mark.parametrize(
    ("images", "binarize", "message"),
    [
        (np.zeros((0, 12)), "none", "images are empty, must be at least one"),
        (np.full((2, 12), 7.0), "none", r"the images run from 7 to 7, must be within \[0, 1\]"),
        (np.zeros((2, 12)), "static", "binarize is 'static', must be one of none, dynamic"),
    ],
    ids=["empty", "range", "static"],
)
def test_what_cannot_be_evaluated_is_refused(vae, images, binarize, message):
    with pytest.raises(ValueError, match=message):
        evaluate_elbo(vae, images, binarize=binarize, rng=0)


@pytest.mark.mathematics
def test_dynamic_pixels_are_drawn_once_from_a_stream_of_their_own(vae):
    images = np.random.default_rng(0).random((BATCH_SIZE + 30, 12))
    noise, pixels = np.random.default_rng(4).spawn(6)[4:]
    x = (pixels.random(images.shape, np.float32) < images.astype(np.float32)).astype(float)
    reconstruction, _ = vae.loss(vae.forward(x, noise.standard_normal((len(x), 3))))
    result = evaluate_elbo(vae, images, binarize="dynamic", rng=4)
    assert result.reconstruction == pytest.approx(reconstruction.mean(), rel=1e-12)


@pytest.mark.purity
def test_nothing_is_written_to(vae, rng):
    images, before = rng.random((9, 12)), vae.params.flat.copy()
    kept = images.copy()
    evaluate_elbo(vae, images, rng=0)
    np.testing.assert_array_equal(images, kept)
    np.testing.assert_array_equal(vae.params.flat, before)
