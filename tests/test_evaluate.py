"""The held-out ELBO and log p(x): which numbers they are."""

import dataclasses
import inspect
import json
import tracemalloc

import numpy as np
import pytest
from scipy import special, stats

from numpy_vae import VAE
from numpy_vae.bounds import log_weights
from numpy_vae.data import batch, mapped
from numpy_vae.data.mapped import ROWS_AT_ONCE
from numpy_vae.likelihood import Gaussian
from numpy_vae.seeds import spawn_streams
from numpy_vae.training import evaluate
from numpy_vae.training.evaluate import (
    ACTIVE,
    Evaluation,
    bits_per_dimension,
    encode_images,
    evaluate_elbo,
    evaluate_likelihood,
    standard_error,
)


@pytest.fixture
def vae():
    vae = VAE(12, (7,), 3, rng=0, dtype=np.float64)
    rng = np.random.default_rng(1)
    vae.params.flat[:] += 0.3 * rng.standard_normal(vae.params.flat.size)
    return vae


@pytest.mark.parametrize(("seed", "dtype"), [(None, np.float64), (3, np.float32)])
def test_images_are_encoded_some_at_a_time_as_all_at_once(vae, rng, monkeypatch, seed, dtype):
    def pixels():
        return None if seed is None else np.random.default_rng(seed)

    vae, images = vae.astype(dtype), rng.random((30, 12))
    monkeypatch.setattr(mapped, "ROWS_AT_ONCE", 7)
    mu, logvar = encode_images(vae, images, pixels=pixels())
    x = batch(images, slice(None), pixels=pixels(), dtype=dtype)
    assert mu.dtype == logvar.dtype == dtype
    rtol = 1e3 * np.finfo(dtype).eps
    np.testing.assert_allclose((mu, logvar), vae.encode(x), rtol=rtol, atol=rtol)


@pytest.mark.mathematics
def test_the_elbo_is_the_mean_over_all_images_whatever_the_batches(vae, rng):
    images = rng.random((2 * ROWS_AT_ONCE + 7, 12))
    noise = np.random.default_rng(4).spawn(6)[4]
    reconstruction, kl = vae.loss(vae.forward(images, noise.standard_normal((len(images), 3))))
    result = evaluate_elbo(vae, images, rng=4)
    assert result.reconstruction == pytest.approx(reconstruction.mean(), rel=1e-12)
    assert result.kl == pytest.approx(kl.mean(), rel=1e-12)
    assert result.elbo == -(result.reconstruction + result.kl)


@pytest.mark.mathematics
def test_the_noise_is_drawn(vae, rng):
    # At eps = 0 the number is better and is not a bound.
    images = rng.random((ROWS_AT_ONCE, 12))
    at_the_mean, kl = vae.loss(vae.forward(images, np.zeros((ROWS_AT_ONCE, 3))))
    result = evaluate_elbo(vae, images, rng=0)
    assert result.elbo < -(at_the_mean + kl).mean() - 1e-3
    assert evaluate_elbo(vae, images, rng=0) == result
    assert evaluate_elbo(vae, images, rng=1) != result


def test_dynamic_pixels_are_drawn_from_the_seed(vae):
    images = np.random.default_rng(0).integers(0, 256, (50, 12)).astype(np.uint8)
    grey = evaluate_elbo(vae, images, rng=0)
    dynamic = evaluate_elbo(vae, images, draw=True, rng=0)
    assert dynamic != grey and dynamic == evaluate_elbo(vae, images, draw=True, rng=0)


def test_one_image_is_enough(vae):
    x = np.full((1, 12), 0.5)
    noise = np.random.default_rng(4).spawn(6)[4]
    reconstruction, kl = vae.loss(vae.forward(x, noise.standard_normal((1, 3))))
    result = evaluate_elbo(vae, x, rng=4)
    assert result[1:] == pytest.approx((reconstruction[0], kl[0]), rel=1e-12)


def test_the_sums_over_a_set_are_python_floats(vae, rng):
    # In float32 a sum over many batches would lose digits.
    result = evaluate_elbo(vae.astype(np.float32), rng.random((9, 12), np.float32), rng=0)
    assert [type(value) for value in result] == [float] * 3


FLAGS = [(np.exp, 1000.0, "overflow"), (np.log, 0.0, "divide by zero"), (np.log, -1.0, "invalid")]


def raises_a_flag(monkeypatch, vae, method, function, value):
    """Let each pass of the model compute something that raises a flag, and is not looked at."""
    terms = getattr(vae, method)

    def flagged(trace):
        function(np.array([value]))
        return terms(trace)

    monkeypatch.setattr(vae, method, flagged)


@pytest.mark.parametrize(("function", "value", "error"), FLAGS)
def test_the_elbo_looks_at_every_flag(vae, monkeypatch, function, value, error):
    raises_a_flag(monkeypatch, vae, "loss", function, value)
    with pytest.raises(FloatingPointError, match=error):
        evaluate_elbo(vae, np.zeros((3, 12)), rng=0)


@pytest.mark.parametrize("terms", [(np.nan, 1.0), (1.0, np.nan), (1e308, 1e308)], ids=str)
def test_either_term_alone_makes_an_elbo_that_is_not_finite(vae, monkeypatch, terms):
    monkeypatch.setattr(vae, "loss", lambda trace: tuple(np.array([term]) for term in terms))
    with pytest.raises(FloatingPointError, match="the ELBO is not finite"):
        evaluate_elbo(vae, np.zeros((1, 12)), rng=0)


def test_an_elbo_that_is_not_finite_is_no_result(vae, rng):
    vae.params["output.b"][3] = np.nan
    with pytest.raises(FloatingPointError):
        evaluate_elbo(vae, rng.random((9, 12)), rng=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 12)), "there are no images, must be at least one"),
        (np.full((2, 12), 7.0), r"the images run from 7 to 7, must be within \[0, 1\]"),
    ],
    ids=["empty", "range"],
)
def test_what_cannot_be_evaluated_is_refused(vae, images, message):
    with pytest.raises(ValueError, match=message):
        evaluate_elbo(vae, images, rng=0)


@pytest.mark.mathematics
def test_dynamic_pixels_are_drawn_once_from_a_stream_of_their_own(vae):
    images = np.random.default_rng(0).random((ROWS_AT_ONCE + 30, 12))
    noise, pixels = np.random.default_rng(4).spawn(6)[4:]
    x = (pixels.random(images.shape, np.float32) < images.astype(np.float32)).astype(float)
    reconstruction, _ = vae.loss(vae.forward(x, noise.standard_normal((len(x), 3))))
    result = evaluate_elbo(vae, images, draw=True, rng=4)
    assert result.reconstruction == pytest.approx(reconstruction.mean(), rel=1e-12)


@pytest.mark.purity
def test_nothing_is_written_to(vae, rng):
    images, before = rng.random((9, 12)), vae.params.flat.copy()
    kept = images.copy()
    evaluate_elbo(vae, images, rng=0)
    np.testing.assert_array_equal(images, kept)
    np.testing.assert_array_equal(vae.params.flat, before)


# log p(x), where it is known --------------------------------------------------------------------

D, Z, V = 7, 3, 0.3


def linear():
    """Return the linear Gaussian model with the exact posterior for its q, and log p(x) [1].

    x ~ N(b, W W' + v I), and p(z | x) = N(M W' (x - b), v M) with M = (W'W + v I)^-1, which is
    diagonal as the columns of W are orthogonal.

    [1] M. Tipping and C. Bishop, "Probabilistic Principal Component Analysis", JRSS B 61(3), 1999.
    """
    rng = np.random.default_rng(3)
    vae = VAE(D, (), Z, likelihood=Gaussian(V), dtype=np.float64, rng=0)
    W = np.linalg.qr(rng.standard_normal((D, Z)))[0].T * [[2.0], [1.0], [0.5]]  # (Z, D)
    b, M = rng.standard_normal(D), 1 / ((W * W).sum(axis=1) + V)
    p = vae.params
    p["output.W"][:], p["output.b"][:] = W, b
    p["mu.W"][:] = W.T * M
    p["mu.b"][:] = -b @ p["mu.W"]
    p["logvar.b"][:] = np.log(V * M)
    return vae, stats.multivariate_normal(b, W.T @ W + V * np.eye(D)).logpdf


@pytest.mark.parametrize("samples", [1, 2, 7])
@pytest.mark.mathematics
def test_with_the_exact_posterior_one_draw_is_as_good_as_many(rng, samples):
    vae, log_p = linear()
    x = 3 * rng.standard_normal((40, D))
    result = evaluate_likelihood(vae, x, samples=samples, rng=0)
    np.testing.assert_allclose(result.log_likelihoods, log_p(x), rtol=0, atol=1e-10)


@pytest.mark.mathematics
def test_with_another_posterior_it_converges_from_below(rng, monkeypatch):
    # Each dimension of q is too wide by sqrt 1.5 and off by 0.4 of its standard deviations. The
    # variance of w / p(x) is then known: in one dimension, for p = N(m, 1) and q = N(m + d, t),
    # E_q[(p/q)²] = t / sqrt(2t - 1) e^(d² / (2t - 1)).
    vae, log_p = linear()
    t, d = 1.5, 0.4
    vae.params["mu.b"][:] += d * np.exp(vae.params["logvar.b"] / 2)
    vae.params["logvar.b"][:] += np.log(t)
    variance = (t / np.sqrt(2 * t - 1) * np.exp(d**2 / (2 * t - 1))) ** Z - 1
    x = 2 * rng.standard_normal((1000, D)) + vae.params["output.b"]
    means = [
        evaluate_likelihood(vae, x, samples=samples, rng=1).summary()["log_likelihood"]
        for samples in (1, 3, 30)
    ]
    assert means[0] < means[1] < means[2] < log_p(x).mean()
    monkeypatch.setattr(evaluate, "SAMPLES_AT_ONCE", 50)
    result = evaluate_likelihood(vae, x[:100], samples=4000, rng=2)
    scores = (result.log_likelihoods - log_p(x[:100])) / np.sqrt(variance / 4000)
    assert np.abs(scores).max() < 5 and 0.8 < scores.std() < 1.2 and abs(scores.mean()) < 0.5


def log_joint(vae, x, z):
    """log p(x | z) + log p(z) by SciPy, (K, B), of z (K, B, Z)."""
    mean, x = vae.decode(z), x.astype(np.float64)
    if vae.likelihood.name == "bernoulli":
        log_p = stats.bernoulli.logpmf(x, mean)
    else:
        log_p = stats.norm.logpdf(x, mean, np.exp(vae.likelihood.logvar / 2))
    return log_p.sum(axis=-1) + stats.norm.logpdf(z).sum(axis=-1)


@pytest.mark.parametrize("likelihood", ["bernoulli", "learned_gaussian"])
@pytest.mark.mathematics
def test_it_is_the_integral_over_z(rng, likelihood, monkeypatch):
    vae = VAE(6, (5,), 1, "tanh", likelihood, dtype=np.float64, rng=0)
    vae.params.flat[:] += 0.5 * rng.standard_normal(vae.params.flat.size)
    for block, scale in ("mu.W", 0.3), ("logvar.W", 0.3), ("decoder.0.W", 3), ("output.W", 2):
        vae.params[block][:] *= scale
    vae.params["logvar.b"][:] = 0.3  # wider than the prior, for the tails of the posterior
    if likelihood == "learned_gaussian":
        vae.params["likelihood.logvar"][:] = 0.2
    x = rng.integers(0, 2, (4, 6)).astype(np.float64)
    mu, logvar = vae.encode(x)
    z = np.linspace(-12, 12, 8001)[:, np.newaxis, np.newaxis] + np.zeros((4, 1))
    log_p = log_joint(vae, x, z)  # (K, B), of x and z
    log_q = stats.norm.logpdf(z, mu, np.exp(logvar / 2))[..., 0]
    exact = np.trapezoid(np.exp(log_p), z[..., 0], axis=0)
    # The variance of w / p(x) is an integral, too.
    variance = np.trapezoid(np.exp(2 * log_p - log_q), z[..., 0], axis=0) / exact**2 - 1
    monkeypatch.setattr(evaluate, "SAMPLES_AT_ONCE", 500)
    result = evaluate_likelihood(vae, x, samples=20_000, rng=4)
    error = np.sqrt(variance / 20_000)
    assert error.max() < 0.02
    assert (np.abs(result.log_likelihoods - np.log(exact)) < 4 * error).all()
    elbos = -(result.reconstructions + result.kls.sum(axis=1))
    assert (elbos < np.log(exact) - 0.01).all()


# log p(x), written out --------------------------------------------------------------------------


def written_out(vae, images, samples, seed):
    """Return log w (S, N) of 0-1 images, by SciPy, of the draws that evaluate_likelihood makes."""
    noise = np.random.default_rng(seed).spawn(6)[4]
    found = []
    for start in range(0, len(images), evaluate.IMAGES_AT_ONCE):
        x = images[start : start + evaluate.IMAGES_AT_ONCE]
        eps = noise.standard_normal((samples, len(x), vae.latent_dim), np.float32)
        t = vae.forward(x, eps)
        log_p = (x * t.logits - np.logaddexp(0, t.logits)).sum(axis=-1)
        log_prior = stats.norm.logpdf(t.z).sum(axis=-1)
        found.append(log_p + log_prior - stats.norm.logpdf(t.z, t.mu, t.sigma).sum(axis=-1))
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("images_at_once", [4, 7, 100])
@pytest.mark.parametrize("samples_at_once", [1, 3, 100])
@pytest.mark.parametrize("samples", [1, 10])
@pytest.mark.mathematics
def test_it_is_the_log_of_the_mean_weight_however_it_is_cut(
    vae, rng, monkeypatch, images_at_once, samples_at_once, samples
):
    monkeypatch.setattr(evaluate, "IMAGES_AT_ONCE", images_at_once)
    monkeypatch.setattr(evaluate, "SAMPLES_AT_ONCE", samples_at_once)
    x = rng.integers(0, 2, (15, 12)).astype(np.float64)
    log_w = written_out(vae, x, samples, seed=4)
    expected = special.logsumexp(log_w, axis=0) - np.log(samples)
    result = evaluate_likelihood(vae, x, samples=samples, rng=4)
    np.testing.assert_allclose(result.log_likelihoods, expected, rtol=1e-12)
    if samples == 1:
        np.testing.assert_allclose(result.log_likelihoods, log_w[0], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.mathematics
def test_weights_beyond_any_power_of_e_are_summed(vae, rng, dtype):
    # Logits of some 1000: log w of -10 000 that differ by thousands of nats.
    vae.params["output.W"][:] *= 300
    vae.params["output.b"][:] = 1000
    model = vae.astype(dtype)
    x = np.zeros((9, 12), dtype)
    log_w = written_out(model.astype(np.float64), x, 40, seed=4)
    assert log_w.max() < -2000 and np.ptp(log_w, axis=0).min() > 1000
    assert np.abs(log_w.min()) > 10_000
    result = evaluate_likelihood(model, x, samples=40, rng=4)
    expected = special.logsumexp(log_w, axis=0) - np.log(40)
    rtol = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(result.log_likelihoods, expected, rtol=rtol)


@pytest.mark.purity
def test_float32_is_enough(rng):
    vae = VAE(784, (30, 30), 10, "tanh", rng=0)
    vae.params.flat[:] += 0.05 * rng.standard_normal(vae.params.flat.size, np.float32)
    x = rng.integers(0, 2, (12, 784)).astype(np.float32)
    found = [evaluate_likelihood(v, x, samples=20, rng=3) for v in (vae, vae.astype(np.float64))]
    np.testing.assert_allclose(*(f.log_likelihoods for f in found), rtol=0, atol=1e-3)
    np.testing.assert_allclose(*(f.reconstructions for f in found), rtol=0, atol=1e-3)
    assert found[0].log_likelihoods.mean() < -500


@pytest.mark.purity
def test_memory_does_not_grow_with_the_samples(rng):
    vae, x = VAE(784, (20,), 5, rng=0), rng.random((30, 784), np.float32)
    evaluate_likelihood(vae, x, samples=3, rng=0)
    peaks = []
    for samples in 40, 4000:
        tracemalloc.start()
        evaluate_likelihood(vae, x, samples=samples, rng=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0]


def fields(result):
    return [getattr(result, name) for name in ("log_likelihoods", "reconstructions", "kls", "mus")]


@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.purity
def test_the_same_seed_gives_the_same_bits(vae, draw):
    x = np.random.default_rng(0).random((20, 12))
    one, two, other = (
        evaluate_likelihood(vae, x, samples=5, draw=draw, rng=seed) for seed in (1, 1, 2)
    )
    for a, b in zip(fields(one), fields(two), strict=True):
        assert a.tobytes() == b.tobytes()
    assert (one.log_likelihoods != other.log_likelihoods).all()


@pytest.mark.mathematics
def test_the_pixels_that_are_drawn_do_not_depend_on_the_samples(vae, monkeypatch):
    # mu is a function of the pixels; and evaluate_elbo sees the same.
    monkeypatch.setattr(evaluate, "IMAGES_AT_ONCE", 7)
    x = np.random.default_rng(0).random((20, 12))
    few, many, other = (
        evaluate_likelihood(vae, x, samples=samples, draw=True, rng=seed)
        for samples, seed in ((1, 3), (9, 3), (9, 4))
    )
    np.testing.assert_array_equal(few.mus, many.mus)
    assert (many.mus != other.mus).any()
    pixels = np.random.default_rng(3).spawn(6)[5]
    drawn = (pixels.random(x.shape, np.float32) < x.astype(np.float32)).astype(float)
    np.testing.assert_allclose(many.mus, vae.encode(drawn)[0], rtol=1e-12)
    elbo = evaluate_elbo(vae, x, draw=True, rng=3)
    assert many.summary()["kl"] == pytest.approx(elbo.kl, rel=1e-12)


# What is told of it -----------------------------------------------------------------------------


@pytest.mark.mathematics
def test_the_terms_are_those_of_the_model(vae, rng):
    x = rng.integers(0, 2, (15, 12)).astype(np.float64)
    result = evaluate_likelihood(vae, x, samples=6, rng=4)
    noise = np.random.default_rng(4).spawn(6)[4]
    trace = vae.forward(x, noise.standard_normal((6, 15, 3), np.float32))
    reconstruction, kl = vae.loss(trace)
    np.testing.assert_allclose(result.reconstructions, reconstruction.mean(axis=0), rtol=1e-12)
    assert result.kls.shape == result.mus.shape == (15, 3)
    np.testing.assert_allclose(result.kls.sum(axis=1), kl, rtol=1e-12)
    s2 = trace.sigma**2
    np.testing.assert_allclose(result.kls, (trace.mu**2 + s2 - 1 - np.log(s2)) / 2, rtol=1e-9)
    np.testing.assert_array_equal(result.mus, trace.mu)
    found = result.summary()
    assert found["kl_per_dimension"] == pytest.approx(result.kls.mean(axis=0).tolist())
    assert found["reconstruction"] == pytest.approx(reconstruction.mean())
    assert found["kl"] == pytest.approx(kl.mean()) == pytest.approx(sum(found["kl_per_dimension"]))
    assert found["elbo"] == pytest.approx(-reconstruction.mean() - kl.mean())
    assert (found["images"], found["samples"]) == (15, 6)


@pytest.mark.mathematics
def test_the_elbo_is_that_of_evaluate_elbo(vae, rng):
    x = rng.integers(0, 2, (60, 12)).astype(np.float64)
    found = evaluate_likelihood(vae, x, samples=2000, rng=0).summary()
    elbos = np.array([evaluate_elbo(vae, x, rng=seed).elbo for seed in range(100)])
    error = elbos.std(ddof=1) / 10
    assert abs(elbos.mean() - found["elbo"]) < 4 * error < 0.2
    assert found["elbo"] < found["log_likelihood"]


@pytest.mark.mathematics
def test_a_dimension_is_active_if_its_mean_varies_over_the_images():
    # Half of the images are white, so that the variance of a pixel is 1/4, and that of mu w²/4.
    assert ACTIVE == 0.01
    vae = VAE(1, (), 4, dtype=np.float64, rng=0)
    vae.params["mu.W"][:] = 2 * np.sqrt([[0.02, 0.005, 0.0101, 0.0]])
    vae.params["mu.b"][:] = [5.0, -3.0, 0.0, 7.0]  # where the mean lies has no part in it
    x = np.repeat([[0.0], [1.0]], 130, axis=0)
    result = evaluate_likelihood(vae, x, samples=1, rng=0)
    np.testing.assert_allclose(result.mus.var(axis=0), [0.02, 0.005, 0.0101, 0], atol=1e-12)
    assert result.summary()["active_units"] == 2


@pytest.mark.mathematics
def test_the_summary_of_numbers_by_hand():
    result = Evaluation(
        9,
        np.array([-90.0, -94.0, -98.0]),
        np.array([80.0, 81.0, 82.0]),
        np.array([[10.0, 2.0], [12.0, 4.0], [14.0, 0.0]]),
        np.array([[0.0, 1.0], [1.0, 1.1], [2.0, 1.0]]),
        np.zeros(3),
    )
    assert result.summary() == {
        "log_likelihood": -94.0,
        "log_likelihood_se": pytest.approx(4 / np.sqrt(3)),
        "elbo": pytest.approx(-(92 + 97 + 96) / 3),
        "elbo_se": pytest.approx(stats.sem([92, 97, 96])),
        "reconstruction": 81.0,
        "kl": 14.0,
        "kl_per_dimension": [12.0, 2.0],
        "active_units": 1,
        "images": 3,
        "samples": 9,
    }
    assert standard_error(np.array([1.0, 2.0, 4.0])) == pytest.approx(stats.sem([1, 2, 4]))


def test_of_one_image_no_standard_error_is_known(vae):
    found = evaluate_likelihood(vae, np.zeros((1, 12)), samples=3, rng=0).summary()
    assert found["log_likelihood_se"] is found["elbo_se"] is found["active_units"] is None
    assert json.loads(json.dumps(found)) == found


def two_images(mus=((0.0, 1.0), (0.0, 2.0))):
    """Return the evaluation of two images, with these posterior means."""
    return Evaluation(
        1, np.array([-9.0, -7.0]), np.ones(2), np.ones((2, 2)), np.array(mus), np.zeros(2)
    )


def test_two_images_are_enough_for_a_standard_error_and_for_active_dimensions():
    found = two_images().summary()
    assert found["log_likelihood_se"] == pytest.approx(1)
    assert (found["elbo_se"], found["active_units"]) == (0, 1)


def test_a_dimension_at_the_threshold_is_not_active(monkeypatch):
    monkeypatch.setattr(evaluate, "ACTIVE", 0.25)  # the variance of 1 and 2, to the last bit
    assert two_images().summary()["active_units"] == 0


def test_a_summary_holds_nothing_of_numpy():
    found = two_images().summary()
    values = [*found.values(), *found["kl_per_dimension"]]
    assert {type(value) for value in values} == {float, int, list}


def test_an_evaluation_cannot_be_changed_and_is_equal_only_to_itself():
    one, two = two_images(), two_images()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.samples = 2
    assert len({one, two}) == 2


def test_the_draws_of_a_seed_are_those_of_chunks_of_100_images():
    # With another number the same seed gives another log p(x).
    assert evaluate.IMAGES_AT_ONCE == 100
    assert inspect.signature(evaluate_likelihood).parameters["samples"].default == 5000


def test_the_images_that_are_done_are_counted(vae, monkeypatch):
    monkeypatch.setattr(evaluate, "IMAGES_AT_ONCE", 7)
    counts = []
    result = evaluate_likelihood(vae, np.zeros((17, 12)), samples=2, rng=0, on_images=counts.append)
    assert counts == [7, 14, 17] and len(result.log_likelihoods) == 17


def test_means_over_images_are_taken_in_float64(vae, rng):
    images = rng.random((9, 12), np.float32)
    result = evaluate_likelihood(vae.astype(np.float32), images, samples=3, rng=0)
    assert [array.dtype for array in fields(result)[:3]] == [np.float64] * 3


@pytest.mark.parametrize("place", [0, 1, 2], ids=["log_likelihood", "reconstruction", "kl"])
def test_any_term_alone_makes_a_log_likelihood_that_is_not_finite(vae, monkeypatch, place):
    parts = np.zeros(2), np.zeros(2), np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2)
    parts[place].flat[1] = np.nan
    monkeypatch.setattr(evaluate, "_evaluate_chunk", lambda *args: parts)
    with pytest.raises(FloatingPointError, match="the log-likelihood is not finite"):
        evaluate_likelihood(vae, np.zeros((2, 12)), rng=0)


@pytest.mark.parametrize("block", ["output.b", "mu.b", "logvar.b"])
def test_a_log_likelihood_that_is_not_finite_is_no_result(vae, rng, block):
    vae.params[block][2] = np.nan
    with pytest.raises(FloatingPointError):
        evaluate_likelihood(vae, rng.random((9, 12)), samples=3, rng=0)


@pytest.mark.parametrize(("function", "value", "error"), FLAGS)
def test_the_log_likelihood_looks_at_every_flag(vae, monkeypatch, function, value, error):
    raises_a_flag(monkeypatch, vae, "terms", function, value)
    with pytest.raises(FloatingPointError, match=error):
        evaluate_likelihood(vae, np.zeros((3, 12)), samples=2, rng=0)


def test_an_overflow_is_no_result(vae, rng):
    vae = vae.astype(np.float32)
    vae.params["logvar.b"][:] = 100  # sigma² is beyond float32
    with pytest.raises(FloatingPointError, match="overflow"):
        evaluate_likelihood(vae, rng.random((9, 12)), samples=3, rng=0)


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        (np.zeros((0, 12)), {}, "^there are no images, must be at least one$"),
        (np.full((2, 12), 7.0), {}, r"^the values of the images run from 7 to 7, must be within"),
        (np.zeros((2, 12)), {"samples": 0}, "^samples is 0, must be .* from 1 to 10000000$"),
        (np.zeros((2, 12)), {"samples": 2.5}, r"^samples is 2\.5, must be a whole number from 1"),
        (np.zeros((2, 5)), {}, r"^x has shape \(2, 5\), must be \(\.\.\., 12\)$"),
    ],
    ids=["empty", "range", "none", "half", "shape"],
)
def test_what_has_no_log_likelihood_is_refused(vae, images, settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        evaluate_likelihood(vae, images, rng=0, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.purity
def test_the_log_likelihood_writes_to_nothing(vae, rng):
    images, before = rng.random((9, 12)), vae.params.flat.copy()
    kept = images.copy()
    images.flags.writeable = False
    vae.params.flat.flags.writeable = False
    evaluate_likelihood(vae, images, samples=5, rng=0)
    np.testing.assert_array_equal(images, kept)
    np.testing.assert_array_equal(vae.params.flat, before)


@pytest.mark.mathematics
def test_the_error_of_each_estimate_is_that_of_the_mean_weight(rng):
    vae, x = VAE(5, (), 2, rng=0, dtype=np.float64), rng.integers(0, 2, (3, 5)) * 1.0
    vae.params.flat[:] = rng.standard_normal(vae.params.flat.size)
    found = evaluate_likelihood(vae, x, samples=12, rng=4, same_noise=True)
    noise, _ = spawn_streams(4).held_out()
    draws = [noise.standard_normal((k, 1, 2), np.float32) for k in (5, 5, 2)]
    eps = np.broadcast_to(np.concatenate(draws), (12, 3, 2))
    w = np.exp(log_weights(vae.terms(vae.forward(x, eps))))
    np.testing.assert_allclose(found.log_likelihoods, np.log(w.mean(axis=0)), rtol=1e-12)
    ses = w.std(axis=0, ddof=1) / np.sqrt(12) / w.mean(axis=0)
    np.testing.assert_allclose(found.log_likelihood_ses, ses, rtol=1e-9)
    assert np.isnan(evaluate_likelihood(vae, x, samples=1).log_likelihood_ses).all()


def test_with_the_same_noise_an_image_does_not_see_the_others(rng, monkeypatch):
    monkeypatch.setattr(evaluate, "IMAGES_AT_ONCE", 3)
    vae, x = VAE(5, (4,), 2, rng=0, dtype=np.float64), rng.random((8, 5))
    every, some = (
        evaluate_likelihood(vae, part, samples=7, rng=1, same_noise=True).log_likelihoods
        for part in (x, x[4:6])
    )
    np.testing.assert_allclose(every[4:6], some, rtol=1e-12)
    other = evaluate_likelihood(vae, x[4:6], samples=7, rng=1).log_likelihoods
    assert abs(other - some).max() > 1e-6


@pytest.mark.mathematics
def test_bits_per_dimension_are_those_of_a_probability_of_bytes():
    # Of all 256 bytes, the probabilities that the bits stand for add up to 1, as a Riemann sum.
    every = np.arange(256, dtype=np.uint8)[:, None]
    vae = VAE(1, (), 1, likelihood=Gaussian(0.005), rng=0)
    log_p = stats.norm(0.5, np.sqrt(0.005)).logpdf(every[:, 0] / 255)
    bits = bits_per_dimension(log_p, vae, every)
    assert (2.0**-bits).sum() == pytest.approx(1, abs=1e-6)
    assert bits_per_dimension(log_p, vae, every / 255) is None  # floats: in which steps?
    counts = VAE(2, (), 1, likelihood="poisson")
    assert bits_per_dimension(np.log([0.25]), counts, np.zeros((1, 2)))[0] == 1
    pixels, grey = np.array([[0, 255]], np.uint8), np.array([[0, 7]], np.uint8)
    model = VAE(2, (), 1)
    assert bits_per_dimension(np.log([0.25]), model, pixels)[0] == 1
    assert bits_per_dimension(np.log([0.25]), model, grey, draw=True)[0] == 1
    assert bits_per_dimension(np.log([0.25]), model, grey) is None  # a cross-entropy
