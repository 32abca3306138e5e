"""The two bounds: against differences, plain exponentials, SciPy, and an exact log p(x)."""

import math

import numpy as np
import pytest
from scipy import special, stats

from numpy_vae import VAE, gradcheck
from numpy_vae.bounds import (
    BOUNDS,
    Terms,
    elbo_loss,
    elbo_loss_backward,
    iwae_loss,
    iwae_loss_backward,
    log_weights,
)
from numpy_vae.likelihood import Gaussian

B, K, D, Z = 5, 4, 11, 3
each_bound = pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
each_lead = pytest.mark.parametrize("lead", [(B,), (K, B)], ids=["one-sample", "K-samples"])


def draw_terms(rng, lead=(K, B), dtype=np.float64):
    """Terms of any size: a bound does not ask where they come from."""
    parts = 2 * rng.standard_normal(lead), rng.standard_normal(B), rng.standard_normal(lead)
    return Terms(*(part.astype(dtype) for part in parts))


@each_bound
@each_lead
@pytest.mark.parametrize("beta", [0, 0.3, 1, 4])
@pytest.mark.parametrize("method", ["central", "complex", "taylor"])
@pytest.mark.gradient
def test_gradients(rng, bound, lead, beta, method):
    terms = draw_terms(rng, lead)
    found = bound.backward(terms, beta)
    gradient = {name: d for name, d in found._asdict().items() if d is not None}
    report = gradcheck(
        lambda arrays: bound.forward(Terms(**arrays), beta),
        gradient,
        terms._asdict(),
        method=method,
    )
    assert report.ok, f"\n{report}"
    unread = {"elbo": {"log_ratio"}, "iwae": {"kl"}}[bound.name]
    assert not any(gradient[name].any() for name in unread & gradient.keys())


@pytest.mark.mathematics
def test_the_elbo_is_the_mean_over_batch_and_samples(rng):
    nll, kl, ratio = terms = draw_terms(rng)
    expected = sum(nll[k, b] for k in range(K) for b in range(B)) / (K * B)
    expected += 0.3 * sum(kl) / B
    assert elbo_loss(terms, 0.3) == pytest.approx(expected, rel=1e-13)
    assert elbo_loss(Terms(nll, kl, None), 0.3) == elbo_loss(Terms(nll, kl, ratio + 1), 0.3)


@pytest.mark.gradient
def test_the_derivatives_of_a_mean_are_equal_shares(rng):
    dnll, dkl, dratio = elbo_loss_backward(draw_terms(rng), 0.3)
    np.testing.assert_allclose(dnll, np.full((K, B), 1 / (K * B)))
    np.testing.assert_allclose(dkl, np.full(B, 0.3 / B))
    assert dratio is None


@pytest.mark.mathematics
def test_iwae_is_its_definition_with_plain_exponentials(rng):
    nll, _, ratio = terms = draw_terms(rng)
    w = np.exp(-nll) * np.exp(-ratio)  # p(x|z) p(z) / q(z|x)
    value = -sum(math.log(sum(w[k, b] for k in range(K)) / K) for b in range(B)) / B
    assert iwae_loss(terms, 1.0) == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(np.exp(log_weights(terms)), w, rtol=1e-13)
    v = w / w.sum(axis=0)  # each example by itself
    dnll, dkl, dratio = iwae_loss_backward(terms, 1.0)
    np.testing.assert_allclose(dnll, v / B, rtol=1e-13)
    np.testing.assert_allclose(dratio, v / B, rtol=1e-13)
    assert dkl.shape == (B,) and not dkl.any()


@pytest.mark.parametrize("size", [1, 100, 1e4, 1e8])
@pytest.mark.mathematics
def test_iwae_is_scipys_logsumexp_however_large_the_weights(rng, size):
    terms = draw_terms(rng)
    terms = Terms(size * terms.reconstruction, terms.kl, size * terms.log_ratio)
    log_w = -terms.reconstruction - 0.3 * terms.log_ratio
    value = -(special.logsumexp(log_w, axis=0) - math.log(K)).mean()
    assert iwae_loss(terms, 0.3) == pytest.approx(value, rel=1e-12)
    dnll, _, dratio = iwae_loss_backward(terms, 0.3)
    np.testing.assert_allclose(dnll, special.softmax(log_w, axis=0) / B, rtol=1e-12)
    np.testing.assert_allclose(dratio, 0.3 * dnll, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "log_w",
    [[-1e4, -1e4 - 1], [1e4, 1e4 - 1], [-1e4, 1e4], [0, -1e6], [-1e8, -2e8], [88.0, 89.0]],
    ids=str,
)
@pytest.mark.mathematics
def test_weights_that_no_float_can_hold_are_exact(dtype, log_w):
    # A warning is an error: nothing overflows, nothing is divided by a zero that has underflowed.
    terms = Terms(
        -np.array(log_w, dtype)[:, np.newaxis], np.zeros(1, dtype), np.zeros((2, 1), dtype)
    )
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        value, (dnll, _, _) = iwae_loss(terms, 1.0), iwae_loss_backward(terms, 1.0)
    high, low = max(log_w), min(log_w)
    expected = -(high + math.log1p(math.exp(low - high)) - math.log(2))
    assert value == pytest.approx(expected, rel=1e-6 if dtype == np.float32 else 1e-15)
    share = 1 / (1 + math.exp(low - high))
    assert dnll.max() == pytest.approx(share, rel=1e-6) and dnll.sum() == pytest.approx(1)


@pytest.mark.mathematics
def test_one_sample_is_the_elbo_with_the_log_ratio_in_place_of_the_kl(rng):
    nll, kl, ratio = terms = draw_terms(rng, (B,))
    expected = (nll + 0.3 * ratio).mean()
    assert iwae_loss(terms, 0.3) == pytest.approx(expected, rel=1e-13)
    assert elbo_loss(Terms(nll, ratio, None), 0.3) == pytest.approx(expected, rel=1e-13)
    np.testing.assert_array_equal(log_weights(terms, 0.3), -(nll + 0.3 * ratio)[np.newaxis])
    dnll, _, dratio = iwae_loss_backward(terms, 0.3)
    np.testing.assert_allclose(dnll, np.full(B, 1 / B), rtol=1e-15)
    np.testing.assert_allclose(dratio, np.full(B, 0.3 / B), rtol=1e-15)
    leading = Terms(nll[np.newaxis], kl, ratio[np.newaxis])  # (1, B) is (B,)
    for bound in BOUNDS.values():
        assert bound.forward(leading, 0.3) == bound.forward(terms, 0.3)
        for one, other in zip(
            bound.backward(leading, 0.3), bound.backward(terms, 0.3), strict=True
        ):
            if one is not None:
                np.testing.assert_array_equal(one.reshape(B), other)


@pytest.mark.mathematics
def test_equal_samples_are_one_sample(rng):
    nll, kl, ratio = one = draw_terms(rng, (B,))
    same = Terms(np.stack([nll] * K), kl, np.stack([ratio] * K))
    assert iwae_loss(same, 1.0) == pytest.approx(iwae_loss(one, 1.0), rel=1e-13)
    np.testing.assert_allclose(
        iwae_loss_backward(same, 1.0).reconstruction, 1 / (K * B), rtol=1e-13
    )


@each_bound
@pytest.mark.mathematics
def test_the_order_of_the_samples_does_not_matter(rng, bound):
    nll, kl, ratio = terms = draw_terms(rng)
    order = rng.permutation(K)
    turned = Terms(nll[order], kl, ratio[order])
    assert bound.forward(turned, 0.3) == pytest.approx(bound.forward(terms, 0.3), rel=1e-13)
    dnll, _, dratio = bound.backward(terms, 0.3)
    found = bound.backward(turned, 0.3)
    np.testing.assert_allclose(found.reconstruction, dnll[order], rtol=1e-13)
    if dratio is not None:
        np.testing.assert_allclose(found.log_ratio, dratio[order], rtol=1e-13)


@each_bound
@pytest.mark.gradient
def test_the_weights_of_an_example_add_up_to_those_of_a_mean(rng, bound):
    # Whatever the terms are: c nats more of each cost c nats more.
    terms = draw_terms(rng)
    dnll, dkl, dratio = bound.backward(terms, 0.3)
    np.testing.assert_allclose(dnll.sum(axis=0), np.full(B, 1 / B), rtol=1e-13)
    of_q = dkl if dratio is None else dratio.sum(axis=0)
    np.testing.assert_allclose(of_q, np.full(B, 0.3 / B), rtol=1e-13)
    more = terms._replace(reconstruction=terms.reconstruction + 7)
    assert bound.forward(more, 0.3) == pytest.approx(bound.forward(terms, 0.3) + 7, rel=1e-13)


@pytest.mark.mathematics
def test_an_example_does_not_see_the_others(rng):
    # A softmax over the batch would.
    nll, kl, ratio = terms = draw_terms(rng)
    dnll = iwae_loss_backward(terms, 1.0).reconstruction
    nll[:, 1:] *= 3
    np.testing.assert_array_equal(iwae_loss_backward(terms, 1.0).reconstruction[:, 0], dnll[:, 0])
    alone = [
        iwae_loss(Terms(nll[:, b : b + 1], kl[:1], ratio[:, b : b + 1]), 1.0) for b in range(B)
    ]
    assert iwae_loss(terms, 1.0) == pytest.approx(np.mean(alone), rel=1e-13)


@pytest.mark.mathematics
def test_iwae_is_no_looser_than_the_mean_of_its_samples(rng):
    # Jensen's inequality, for any terms: the log of a mean is not below the mean of the logs.
    for _ in range(20):
        terms = draw_terms(rng)
        of_each = [
            iwae_loss(Terms(nll, terms.kl, ratio), 1.0)
            for nll, ratio in zip(terms.reconstruction, terms.log_ratio, strict=True)
        ]
        assert iwae_loss(terms, 1.0) < np.mean(of_each)


@each_bound
@each_lead
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.purity
def test_one_dtype_and_the_shapes_of_the_terms(rng, bound, lead, dtype):
    terms = draw_terms(rng, lead, dtype)
    found = bound.backward(terms, 0.3)
    assert bound.forward(terms, 0.3).dtype == dtype
    for d, term in zip(found, terms, strict=True):
        if d is not None:
            assert d.dtype == dtype and d.shape == term.shape
    assert log_weights(terms, 0.3).dtype == dtype


@each_bound
@pytest.mark.purity
def test_nothing_is_written_to(rng, bound):
    terms = draw_terms(rng)
    for array in terms:
        array.flags.writeable = False  # from here on it is an error to write to it
    assert np.isfinite(bound.forward(terms, 0.3))
    memory = [part for part in bound.backward(terms, 0.3) if part is not None]
    for i, part in enumerate(memory):
        part += 1  # the caller's own
        assert not any(np.shares_memory(part, other) for other in (*terms, *memory[i + 1 :]))


def test_a_bound_is_found_by_its_name():
    assert [*BOUNDS] == ["elbo", "iwae"]
    assert all(bound.name == name for name, bound in BOUNDS.items())
    assert BOUNDS["elbo"][1:] == (elbo_loss, elbo_loss_backward)
    assert BOUNDS["iwae"][1:] == (iwae_loss, iwae_loss_backward)


def test_the_weights_by_default_are_those_of_the_bound_of_log_p(rng):
    terms = draw_terms(rng)
    np.testing.assert_array_equal(log_weights(terms), log_weights(terms, 1.0))


# The terms of a model whose log p(x) is known ---------------------------------------------------


def linear(rng, tight):
    """Return a linear model, images, and log p(x) of each; `tight` is q(z|x) = p(z|x).

    As in test_linear.py: orthogonal rows of W make the posterior diagonal and affine in x.
    """
    variance = 0.5
    vae = VAE(D, (), Z, likelihood=Gaussian(variance), dtype=np.float64, rng=rng)
    p = vae.params
    rows = np.linalg.qr(rng.standard_normal((D, Z)))[0].T * np.array([[2.0], [1.0], [0.5]])
    p["output.W"][:], p["output.b"][:] = rows, rng.standard_normal(D)
    M = np.linalg.inv(rows @ rows.T + variance * np.eye(Z))
    p["mu.W"][:] = rows.T @ M
    p["mu.b"][:] = -p["output.b"] @ p["mu.W"]
    p["logvar.b"][:] = np.log(variance * np.diag(M))
    if not tight:
        p["mu.b"][:] += 0.5
        p["logvar.b"][:] += 0.7
    x = 2 * rng.standard_normal((B, D))
    covariance = rows.T @ rows + variance * np.eye(D)
    return vae, x, stats.multivariate_normal(p["output.b"], covariance).logpdf(x)


@pytest.mark.mathematics
def test_with_the_true_posterior_every_single_weight_is_the_likelihood(rng):
    # log w = log p(x, z) - log p(z | x) = log p(x), wherever z is: an estimate without variance.
    vae, x, log_p = linear(rng, tight=True)
    terms = vae.terms(vae.forward(x, 3 * rng.standard_normal((K, B, Z))))
    np.testing.assert_allclose(log_weights(terms), np.tile(log_p, (K, 1)), rtol=1e-12)
    assert -iwae_loss(terms, 1.0) == pytest.approx(log_p.mean(), rel=1e-13)
    dnll = iwae_loss_backward(terms, 1.0).reconstruction
    np.testing.assert_allclose(dnll, np.full((K, B), 1 / (K * B)), rtol=1e-10)
    # Neither of the two terms alone is so: what one gains the other loses.
    assert terms.log_ratio.std(axis=0).min() > 0.1


@pytest.mark.mathematics
def test_more_samples_make_the_bound_tighter_and_it_stays_a_bound(rng):
    vae, x, log_p = linear(rng, tight=False)
    n, means, errors = 8192, [], []
    terms = vae.terms(vae.forward(x, rng.standard_normal((n, B, Z))))
    log_w = log_weights(terms)
    for samples in 1, 2, 4, 16, 64:
        groups = log_w.reshape(-1, samples, B)
        each = np.array([-iwae_loss(Terms(-g, np.zeros(B), 0 * g), 1.0) for g in groups])
        means.append(each.mean())
        errors.append(each.std() / math.sqrt(len(each)))
    assert (np.diff(means) > 3 * np.array(errors[1:])).all()
    assert means[-1] < log_p.mean() + 3 * errors[-1]
    assert log_p.mean() - means[-1] < 0.1 * (log_p.mean() - means[0])
    # With one sample it is the ELBO on average, which has the analytic KL.
    assert means[0] == pytest.approx(-elbo_loss(terms, 1.0), abs=4 * errors[0])


def with_the_analytic_kl(terms):
    """Return the terms of the known mistake: the KL is one number for all samples."""
    return terms._replace(log_ratio=np.broadcast_to(terms.kl, terms.log_ratio.shape))


@pytest.mark.mathematics
def test_with_the_analytic_kl_in_the_weights_it_is_no_bound(rng):
    vae, x, log_p = linear(rng, tight=True)
    terms = vae.terms(vae.forward(x, rng.standard_normal((64, B, Z))))
    assert -iwae_loss(with_the_analytic_kl(terms), 1.0) > log_p.mean() + 0.1


@pytest.mark.gradient
def test_with_the_analytic_kl_in_the_weights_the_gradient_is_another(rng):
    vae, x, _ = linear(rng, tight=True)
    trace = vae.forward(x, rng.standard_normal((64, B, Z)))
    terms = vae.terms(trace)
    right = vae.terms_backward(trace, iwae_loss_backward(terms, 1.0))
    dnll, _, dratio = iwae_loss_backward(with_the_analytic_kl(terms), 1.0)
    # The KL cancels in the weights: they are those of the reconstruction alone.
    expected = special.softmax(-terms.reconstruction, axis=0) / B
    np.testing.assert_allclose(dnll, expected, rtol=1e-12)
    wrong = vae.terms_backward(trace, Terms(dnll, dratio.sum(axis=0)))
    for block in "mu.W", "mu.b", "logvar.W", "logvar.b", "output.W":
        assert np.abs(wrong[block] - right[block]).max() > 0.1 * np.abs(right[block]).max(), block


@pytest.mark.mathematics
def test_the_log_ratio_of_a_model_is_on_average_its_kl(rng):
    vae, x, _ = linear(rng, tight=False)
    n = 20_000
    terms = vae.terms(vae.forward(x, rng.standard_normal((n, B, Z))))
    standard_error = terms.log_ratio.std(axis=0) / math.sqrt(n)
    assert (np.abs(terms.log_ratio.mean(axis=0) - terms.kl) < 4.5 * standard_error).all()
    assert (standard_error < 0.01 * terms.kl).all()
