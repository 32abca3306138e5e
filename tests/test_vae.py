"""The whole model: its gradient, its meaning, its purity, and its copies."""

import copy
import pickle
import threading
import tracemalloc
from dataclasses import FrozenInstanceError, dataclass
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

from numpy_vae import VAE, Adam, Params, gradcheck
from numpy_vae.bounds import BOUNDS, Terms
from numpy_vae.files import write_model
from numpy_vae.likelihood import (
    LIKELIHOODS,
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    LearnedGaussian,
    Likelihood,
)
from numpy_vae.network import Trace

B, D, H, Z, K = 5, 11, 6, 3, 2  # all different, B > 1: at B = 1 a missing 1/B is invisible
KINDS = [Bernoulli(), ContinuousBernoulli(), Gaussian(0.3), LearnedGaussian(np.array([-1.5]))]


def make(rng, dtype=np.float64, **settings):
    """Return a model away from its initial point, the log-variance head randomised.

    Where that head is zero the branch from logvar into h is invisible to any check.
    """
    vae = VAE(D, **{"hidden": (H, H + 1), "latent_dim": Z} | settings, dtype=dtype, rng=rng)
    for name, block in vae.params.items():
        scale = 0.5 if name.startswith("logvar") or name.endswith(".b") else 0.1
        block += scale * rng.standard_normal(block.shape)
    return vae


def inputs(rng, dtype=np.float64, lead=(B,)):
    return rng.random((B, D)).astype(dtype), rng.standard_normal((*lead, Z)).astype(dtype)


def clone_at(vae, arrays):
    """Return the model with the parameters, and in the dtype, of `arrays`."""
    clone = vae.astype(arrays["x"].dtype)
    for name in clone.params:
        clone.params[name][:] = arrays[name]
    return clone


def objective_of(vae, beta):
    """Return the objective as a function of named arrays: every block, x and eps."""

    def f(arrays):
        clone = clone_at(vae, arrays)
        return clone.objective(clone.forward(arrays["x"], arrays["eps"]), beta)

    return f


@pytest.mark.parametrize("lead", [(B,), (K, B)], ids=["one-sample", "K-samples"])
@pytest.mark.parametrize("beta", [0, 1, 100])
@pytest.mark.parametrize("likelihood", KINDS, ids=lambda p: p.name)
@pytest.mark.parametrize(
    ("activation", "hidden"),
    [("relu", (H,)), ("relu", (H, H + 1)), ("tanh", (H, H + 1, H + 2)), ("tanh", ())],
    ids=["relu-1", "relu-2", "tanh-3", "linear"],
)
@pytest.mark.gradient
def test_gradient_of_the_objective(rng, activation, hidden, likelihood, beta, lead):
    vae = make(rng, activation=activation, hidden=hidden, likelihood=likelihood)
    x, eps = inputs(rng, lead=lead)
    trace = vae.forward(x, eps)
    grads = vae.backward(trace, beta)
    dx, deps = vae.backward_inputs(trace, BOUNDS["elbo"].backward(vae.terms(trace), beta))
    arrays = {**vae.params, "x": x, "eps": eps}
    report = gradcheck(objective_of(vae, beta), {**grads, "x": dx, "eps": deps}, arrays)
    assert {row.name for row in report} == {*vae.params, "x", "eps"}
    assert report.ok, f"\n{report}"
    assert np.median([row.error for row in report]) < 1e-8, f"\n{report}"


@pytest.mark.parametrize("lead", [(B,), (K, B), (4, B)], ids=["one-sample", "K", "4"])
@pytest.mark.parametrize("likelihood", KINDS, ids=lambda p: p.name)
@pytest.mark.parametrize(
    ("activation", "hidden"),
    [("relu", (H, H + 1)), ("tanh", (H,)), ("tanh", ())],
    ids=["relu-2", "tanh-1", "linear"],
)
@pytest.mark.slow
@pytest.mark.gradient
def test_gradient_of_the_importance_weighted_bound(rng, activation, hidden, likelihood, lead):
    vae = make(rng, activation=activation, hidden=hidden, likelihood=likelihood)
    x, eps = inputs(rng, lead=lead)
    trace, iwae = vae.forward(x, eps), BOUNDS["iwae"]

    def f(arrays):
        clone = clone_at(vae, arrays)
        return iwae.forward(clone.terms(clone.forward(arrays["x"], arrays["eps"])), 0.7)

    weights = iwae.backward(vae.terms(trace), 0.7)
    dx, deps = vae.backward_inputs(trace, weights)
    gradient = {**vae.terms_backward(trace, weights), "x": dx, "eps": deps}
    assert {*gradient} == {*vae.params, "x", "eps"}
    if len(lead) == 2:  # no sample has all the weight of its image
        assert (weights.reconstruction * B).max(axis=0).min() < 0.95
    report = gradcheck(f, gradient, {**vae.params, "x": x, "eps": eps})
    assert report.ok, f"\n{report}"
    report = gradcheck(f, gradient, {**vae.params, "x": x, "eps": eps}, method="complex")
    assert report.ok, f"\n{report}"


@pytest.mark.parametrize("lead", [(B,), (K, B)], ids=["one-sample", "K-samples"])
@pytest.mark.parametrize("term", ["reconstruction", "kl", "log-ratio", "all"])
@pytest.mark.parametrize("likelihood", KINDS, ids=lambda p: p.name)
@pytest.mark.gradient
def test_gradient_of_the_terms_of_each_example(rng, likelihood, term, lead):
    # Random weights: with equal ones a gradient that lands in the row of another example is right.
    vae = make(rng, likelihood=likelihood)
    x, eps = inputs(rng, lead=lead)
    dnll = rng.standard_normal(lead) * (term in ("reconstruction", "all"))
    dkl = rng.standard_normal(B) * (term in ("kl", "all"))
    dratio = rng.standard_normal(lead) * (term in ("log-ratio", "all"))
    weights = Terms(dnll, dkl, dratio if term in ("log-ratio", "all") else None)

    def f(arrays):
        clone = clone_at(vae, arrays)
        nll, kl, ratio = clone.terms(clone.forward(arrays["x"], arrays["eps"]))
        return (dnll * nll).sum() + (dkl * kl).sum() + (dratio * ratio).sum()

    trace = vae.forward(x, eps)
    dx, deps = vae.backward_inputs(trace, weights)
    gradient = {**vae.terms_backward(trace, weights), "x": dx, "eps": deps}
    report = gradcheck(f, gradient, {**vae.params, "x": x, "eps": eps})
    assert report.ok, f"\n{report}"
    if term in ("kl", "log-ratio"):
        decoder = [name for name in gradient if name[:3] in ("dec", "out", "lik")]
        assert len(decoder) >= 4 and not any(gradient[name].any() for name in decoder)


@pytest.mark.parametrize(
    ("dnll", "dkl", "dratio", "message"),
    [
        (np.ones(B), np.ones(B), None, r"dnll has shape \(5,\), must be \(2, 5\)"),
        (np.ones((K, B)), np.ones((K, B)), None, r"dkl has shape \(2, 5\), must be \(5,\)"),
        (np.ones((K, B)), np.ones(B), np.ones(B), r"dratio has shape \(5,\), must be \(2, 5\)"),
    ],
)
def test_weights_of_another_shape_are_refused(rng, dnll, dkl, dratio, message):
    vae = make(rng)
    trace = vae.forward(*inputs(rng, lead=(K, B)))
    for backward in vae.terms_backward, vae.backward_inputs:
        with pytest.raises(ValueError, match=message):
            backward(trace, Terms(dnll, dkl, dratio))


@pytest.mark.purity
@pytest.mark.parametrize("likelihood", KINDS, ids=lambda p: p.name)
@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
def test_the_whole_gradient_is_assigned(rng, likelihood, bound):
    vae = make(rng, likelihood=likelihood)
    trace = vae.forward(*inputs(rng, lead=(K, B)))
    weights = bound.backward(vae.terms(trace), 0.7)
    out = vae.params.zeros_like()
    out.flat[:] = np.nan
    assert vae.terms_backward(trace, weights, out=out) is out
    assert np.isfinite(out.flat).all()
    np.testing.assert_array_equal(out.flat, vae.terms_backward(trace, weights).flat)


@pytest.mark.mathematics
def test_the_terms_are_the_losses_and_the_log_ratio_of_the_densities(rng):
    vae = make(rng)
    trace = vae.forward(*inputs(rng, lead=(K, B)))
    nll, kl, ratio = vae.terms(trace)
    for found, expected in zip((nll, kl), vae.loss(trace), strict=True):
        np.testing.assert_array_equal(found, expected)
    log_q = stats.norm.logpdf(trace.z, trace.mu, np.exp(trace.logvar / 2)).sum(axis=-1)
    np.testing.assert_allclose(ratio, log_q - stats.norm.logpdf(trace.z).sum(axis=-1), rtol=1e-10)


@pytest.mark.parametrize("lead", [(B,), (K, B)], ids=["one-sample", "K-samples"])
@pytest.mark.purity
def test_other_noise_of_the_same_images_needs_no_encoder(rng, lead):
    vae = make(rng)
    x, eps = inputs(rng, lead=lead)
    first = vae.forward(x, rng.standard_normal((B, Z)))
    kept = copy.deepcopy(first)
    found, expected = vae.resample(first, eps), vae.forward(x, eps)
    for name, value in vars(expected).items():
        np.testing.assert_equal(getattr(found, name), value, err_msg=name)
    for name in "x", "h", "mu", "logvar", "sigma":
        assert getattr(found, name) is getattr(first, name)
    np.testing.assert_array_equal(vae.backward(found).flat, vae.backward(expected).flat)
    for name, value in vars(kept).items():
        np.testing.assert_equal(getattr(first, name), value, err_msg=name)


@pytest.mark.purity
@pytest.mark.parametrize("likelihood", KINDS, ids=lambda p: p.name)
def test_a_model_over_other_parameters_shares_them(rng, likelihood):
    vae = make(rng, likelihood=likelihood)
    x, _ = inputs(rng)
    other = vae.params.copy()
    twin = vae.over(other)
    assert twin.params is other and repr(twin.settings) == repr(vae.settings)
    np.testing.assert_array_equal(twin.reconstruct(x), vae.reconstruct(x))
    before = vae.reconstruct(x)
    other.flat[:] += 0.1
    assert not np.allclose(twin.reconstruct(x), before)
    np.testing.assert_array_equal(vae.reconstruct(x), before)


@pytest.mark.gradient
def test_a_gradient_at_relu_kinks_is_confirmed_and_counted(rng):
    vae = make(rng, hidden=(H,))
    x, eps = inputs(rng)
    # Put one pre-activation closer to its kink than the step of the difference.
    a = vae.forward(x, eps).x @ vae.params["encoder.0.W"] + vae.params["encoder.0.b"]
    vae.params["encoder.0.b"][2] -= a[1, 2] - 1e-7
    trace = vae.forward(x, eps)
    assert 0 < trace.h[1, 2] < 1e-6
    f, gradient = objective_of(vae, 1.0), {**vae.backward(trace)}
    report = gradcheck(f, gradient, {**vae.params, "x": x, "eps": eps})
    kinks = {row.name: len(row.kinks) for row in report if row.kinks}
    # The weights into that unit and its bias straddle the kink, and nothing else does.
    assert set(kinks) <= {"encoder.0.W", "encoder.0.b"} and 0 < sum(kinks.values()) <= D + 1
    assert all(row.ok for row in report), f"\n{report}"


@pytest.mark.mathematics
def test_forward_is_the_derivation_written_out(rng):
    vae = make(rng, hidden=(H,))
    x, eps = inputs(rng)
    p, t = vae.params, vae.forward(x, eps)
    h = np.maximum(x @ p["encoder.0.W"] + p["encoder.0.b"], 0)
    mu, logvar = h @ p["mu.W"] + p["mu.b"], h @ p["logvar.W"] + p["logvar.b"]
    z = mu + np.sqrt(np.exp(logvar)) * eps
    g = np.maximum(z @ p["decoder.0.W"] + p["decoder.0.b"], 0)
    logits = g @ p["output.W"] + p["output.b"]
    for name, value in {"h": h, "mu": mu, "logvar": logvar, "z": z, "logits": logits}.items():
        np.testing.assert_allclose(getattr(t, name), value, rtol=1e-12, err_msg=name)

    reconstruction, kl = vae.loss(t)
    probability = 1 / (1 + np.exp(-logits))
    cross_entropy = -(x * np.log(probability) + (1 - x) * np.log1p(-probability)).sum(axis=1)
    np.testing.assert_allclose(reconstruction, cross_entropy, rtol=1e-12)
    np.testing.assert_allclose(kl, 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=1))
    expected = (cross_entropy + 4 * kl).sum() / B
    np.testing.assert_allclose(vae.objective(t, beta=4), expected, rtol=1e-12)


@pytest.mark.purity
def test_the_heads_have_weights_of_their_own(rng):
    vae = make(rng)
    assert not np.shares_memory(vae.params["mu.W"], vae.params["logvar.W"])
    x, _ = inputs(rng)
    mu, logvar = vae.encode(x)
    vae.params["logvar.W"][:] += 1
    np.testing.assert_array_equal(vae.encode(x)[0], mu)
    assert not np.allclose(vae.encode(x)[1], logvar)


@pytest.mark.gradient
def test_each_term_alone_and_together(rng):
    vae = make(rng)
    trace = vae.forward(*inputs(rng))
    zero, one, three = (vae.backward(trace, beta).flat for beta in (0, 1, 3))
    np.testing.assert_allclose(three - zero, 3 * (one - zero), rtol=1e-9, atol=1e-14)
    only_kl = vae.backward(trace, 1.0)
    only_kl.flat[:] -= zero
    assert not any(only_kl[name].any() for name in only_kl if name.startswith(("dec", "out")))


@pytest.mark.gradient
def test_a_duplicated_batch_has_the_same_loss_and_gradient(rng):
    vae = make(rng)
    x, eps = inputs(rng)
    once, twice = vae.forward(x, eps), vae.forward(np.vstack([x, x]), np.vstack([eps, eps]))
    np.testing.assert_allclose(vae.objective(twice), vae.objective(once), rtol=1e-13)
    np.testing.assert_allclose(
        vae.backward(twice).flat, vae.backward(once).flat, rtol=1e-10, atol=1e-14
    )


@pytest.mark.gradient
def test_repeated_noise_in_k_samples_is_one_sample(rng):
    vae = make(rng)
    x, eps = inputs(rng)
    one, many = vae.forward(x, eps), vae.forward(x, np.stack([eps] * K))
    np.testing.assert_allclose(many.logits[1], one.logits, rtol=1e-12)
    np.testing.assert_allclose(
        vae.backward(many).flat, vae.backward(one).flat, rtol=1e-10, atol=1e-14
    )


@pytest.mark.mathematics
def test_the_objective_of_k_samples_is_the_mean_of_theirs(rng):
    # An importance-weighted bound would be the logarithm of a mean, and has its own gradient.
    vae = make(rng)
    x, eps = inputs(rng, lead=(K, B))
    each = [vae.objective(vae.forward(x, one), 0.7) for one in eps]
    assert vae.objective(vae.forward(x, eps), 0.7) == pytest.approx(np.mean(each), rel=1e-13)


@pytest.mark.mathematics
def test_a_row_does_not_see_the_others(rng):
    vae = make(rng)
    x, eps = inputs(rng)
    reconstruction, kl = vae.loss(vae.forward(x, eps))
    x[1:], eps[1:] = 1 - x[1:], -eps[1:]
    other = vae.loss(vae.forward(x, eps))
    assert other[0][0] == pytest.approx(reconstruction[0], rel=1e-13)
    assert other[1][0] == pytest.approx(kl[0], rel=1e-13)
    assert not np.isclose(other[0][1], reconstruction[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.purity
def test_one_dtype_from_end_to_end(rng, dtype, likelihood):
    vae = make(rng, dtype, likelihood=likelihood)
    trace = vae.forward(rng.random((B, D)), rng.standard_normal((K, B, Z)))
    arrays = [*vars(trace).values(), *vae.terms(trace), *vae.backward(trace, 0.5).values()]
    for bound in BOUNDS.values():
        weights = bound.backward(vae.terms(trace), 0.5)
        arrays += [d for d in weights if d is not None]
        arrays += [*vae.terms_backward(trace, weights).values()]
        arrays += [d for d in vae.backward_inputs(trace, weights) if d is not None]
    arrays += [*vae.encode(trace.x), vae.reconstruct(trace.x)]
    for array in arrays:
        for part in array if isinstance(array, tuple) else [array]:
            assert part.dtype == dtype


@pytest.mark.purity
def test_float32_agrees_with_float64(rng):
    vae = make(rng)
    small = vae.astype(np.float32)
    x, eps = inputs(rng, np.float32)
    expected, found = vae.forward(x, eps), small.forward(x, eps)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(
        small.backward(found).flat, vae.backward(expected).flat, rtol=1e-4, atol=1e-5
    )


@pytest.mark.purity
def test_nothing_is_remembered_and_nothing_is_written_to(rng):
    vae = make(rng)
    x, eps = inputs(rng)
    before = x.copy(), eps.copy(), vae.params.flat.copy()
    trace = vae.forward(x, eps)
    kept, first = copy.deepcopy(trace), vae.backward(trace)
    vae.forward(1 - x, -eps)  # a layer that kept its input would now have another one
    out = vae.params.zeros_like()
    out.flat[:] = np.nan
    second = vae.backward(trace, out=out)
    assert second is out and first is not out
    np.testing.assert_array_equal(first.flat, second.flat)
    vae.backward_inputs(trace, BOUNDS["iwae"].backward(vae.terms(trace), 1.0))
    for array, same in zip((x, eps, vae.params.flat), before, strict=True):
        np.testing.assert_array_equal(array, same)
    for name, value in vars(kept).items():
        np.testing.assert_equal(getattr(trace, name), value, err_msg=name)


@pytest.mark.purity
def test_two_traces_and_two_gradients_are_alive_at_once(rng):
    vae = make(rng)
    batches = [inputs(rng), inputs(rng)]
    alone = [vae.backward(vae.forward(*batch)).flat.copy() for batch in batches]
    traces = [vae.forward(*batch) for batch in batches]
    grads = [vae.backward(trace) for trace in reversed(traces)][::-1]
    for grad, expected in zip(grads, alone, strict=True):
        np.testing.assert_array_equal(grad.flat, expected)
    memory = [vae.params.flat, *(grad.flat for grad in grads)]
    for i, a in enumerate(memory):
        assert not any(np.shares_memory(a, b) for b in memory[i + 1 :])


@pytest.mark.purity
def test_two_threads_share_a_model(rng):
    vae = make(rng)
    batches = [inputs(rng) for _ in range(2)]
    alone = [vae.backward(vae.forward(*batch)).flat for batch in batches]
    results = [[], []]

    def work(i):
        for _ in range(50):
            results[i].append(vae.backward(vae.forward(*batches[i])).flat)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        assert len(results[i]) == 50
        for flat in results[i]:
            np.testing.assert_array_equal(flat, alone[i])


@pytest.mark.parametrize("logvar", [-80, 80])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saturated_model_is_finite_in_value_and_gradient(rng, logvar, dtype):
    vae = make(rng, dtype, activation="tanh")
    vae.params["logvar.b"][:] = logvar
    vae.params["output.b"][:] = np.linspace(-1e4, 1e4, D)
    trace = vae.forward(*inputs(rng, dtype))
    assert np.isfinite(vae.objective(trace))
    assert np.isfinite(vae.backward(trace).flat).all()


@pytest.mark.mathematics
def test_decode_reconstruct_and_sample_are_means(rng):
    vae = make(rng)
    x, _ = inputs(rng)
    trace = vae.forward(x, np.zeros((B, Z)))
    np.testing.assert_allclose(vae.reconstruct(x), 1 / (1 + np.exp(-trace.logits)), rtol=1e-12)
    np.testing.assert_array_equal(vae.decode(trace.z), vae.reconstruct(x))
    z = np.random.default_rng(5).standard_normal((4, Z))
    np.testing.assert_array_equal(vae.sample(4, rng=5), vae.decode(z))


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v)),
     lambda v: v.astype(np.float64)],
    ids=["copy", "deepcopy", "pickle", "astype"],
)  # fmt: skip
@pytest.mark.purity
def test_a_copy_is_whole_and_apart(rng, duplicate):
    vae = make(rng, likelihood=Gaussian(0.7), activation="tanh")
    x, _ = inputs(rng)
    before = vae.reconstruct(x)
    twin = duplicate(vae)
    assert twin.settings == vae.settings
    np.testing.assert_array_equal(twin.reconstruct(x), before)
    twin.params.flat[:] += 1  # an optimiser's step must reach what the twin computes ...
    assert not np.allclose(twin.reconstruct(x), before)
    np.testing.assert_array_equal(vae.reconstruct(x), before)  # ... and not the original


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v)),
     lambda v: v.astype(np.float64), lambda v: v.astype(np.float32),
     lambda v: v.over(v.params.copy())],
    ids=["copy", "deepcopy", "pickle", "astype", "float32", "over"],
)  # fmt: skip
@pytest.mark.purity
def test_the_parameter_of_a_likelihood_is_that_of_the_copy(rng, duplicate):
    start = np.array([-1.5])
    vae = VAE(D, (H,), Z, likelihood=LearnedGaussian(start), dtype=np.float64, rng=rng)
    assert vae.params["likelihood.logvar"][0] == -1.5
    vae.params["likelihood.logvar"][:] = 0.25  # trained
    twin = duplicate(vae)
    for model in vae, twin:
        assert model.likelihood.logvar.dtype == model.params.dtype
        assert model.likelihood.logvar[0] == model.params["likelihood.logvar"][0] == 0.25
        assert np.shares_memory(model.likelihood.logvar, model.params.flat)
        assert not np.shares_memory(model.likelihood.logvar, start)
    assert not np.shares_memory(twin.params.flat, vae.params.flat)
    x, eps = inputs(rng)
    before = twin.loss(twin.forward(x, eps))[0]
    twin.params["likelihood.logvar"][:] += 1
    assert not np.allclose(twin.loss(twin.forward(x, eps))[0], before)
    assert vae.likelihood.logvar[0] == 0.25 and start[0] == -1.5


@pytest.mark.gradient
def test_the_gradient_of_a_learned_variance_is_zero_where_it_is_the_mean_squared_error(rng):
    # Its gradient is zero where v is the mean of (x - l)² over pixels and images.
    vae = make(rng, likelihood="learned_gaussian")
    trace = vae.forward(*inputs(rng, lead=(K, B)))
    errors = (trace.x - trace.logits) ** 2
    vae.params["likelihood.logvar"][:] = np.log(errors.mean())
    assert abs(vae.backward(trace)["likelihood.logvar"][0]) < 1e-12
    at_best = vae.objective(trace)
    for change in -0.1, 0.1:
        vae.params["likelihood.logvar"][:] = np.log(errors.mean()) + change
        assert vae.objective(trace) > at_best
        assert vae.backward(trace)["likelihood.logvar"][0] * change > 0


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))],
    ids=["deepcopy", "pickle"],
)
@pytest.mark.purity
def test_a_model_and_its_optimiser_are_copied_together(rng, duplicate):
    vae = make(rng)
    twin, adam = duplicate((vae, Adam(vae.params)))
    assert adam.params is twin.params
    x, eps = inputs(rng)
    before = twin.reconstruct(x)
    adam.step(twin.backward(twin.forward(x, eps)))
    assert not np.array_equal(twin.reconstruct(x), before)
    assert not np.shares_memory(twin.params.flat, vae.params.flat)


@dataclass(frozen=True)
class Laplace(Likelihood):
    """A likelihood of a reader's own: pixels of unit scale around l."""

    name: ClassVar[str] = "laplace"
    support: ClassVar[tuple[float, float]] = (-np.inf, np.inf)

    def nll(self, x, l):
        return (np.sqrt((x - l) ** 2) + np.log(2)).sum(axis=-1)

    def nll_backward(self, x, l, dnll):
        return dnll[..., np.newaxis] * np.sign((l - x).real)

    def nll_backward_x(self, x, l, dnll):
        return -self.nll_backward(x, l, dnll)

    def mean(self, l):
        return l

    def sample(self, l, rng):
        return rng.laplace(l)


def test_a_likelihood_of_ones_own(rng, tmp_path, monkeypatch):
    vae = make(rng, likelihood=Laplace())
    x, eps = inputs(rng)
    trace = vae.forward(x, eps)
    arrays = {**vae.params, "x": x, "eps": eps}
    report = gradcheck(objective_of(vae, 1.0), vae.backward(trace), arrays)
    assert report.ok, f"\n{report}"
    monkeypatch.setitem(LIKELIHOODS, "laplace", Laplace)
    vae.save(tmp_path / "vae.npz")
    assert VAE.load(tmp_path / "vae.npz").likelihood == Laplace()


@pytest.mark.mathematics
def test_large_noise_is_noise_like_any_other(rng):
    vae = make(rng)
    x, eps = inputs(rng)
    trace = vae.forward(x, 10 * eps)
    np.testing.assert_allclose(trace.z, trace.mu + 10 * trace.sigma * eps, rtol=1e-12)


def test_without_a_seed_the_weights_differ():
    assert not np.array_equal(VAE(4).params.flat, VAE(4).params.flat)


def test_complex_images_are_refused_by_a_real_model(rng):
    with pytest.raises(ValueError, match="x has dtype complex128, must be a floating type"):
        make(rng).encode(rng.random((B, D)) + 1j)


def test_parameters_cannot_be_replaced(rng):
    vae = make(rng)
    with pytest.raises(AttributeError):
        vae.params = vae.params.copy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("likelihood", KINDS, ids=lambda p: p.name)
@pytest.mark.purity
def test_save_and_load(rng, tmp_path, likelihood, dtype):
    vae = make(rng, dtype, hidden=np.array([6, 7]), likelihood=likelihood, activation="tanh")
    vae.save(tmp_path / "vae.npz")
    twin = VAE.load(tmp_path / "vae.npz")
    settings = [
        model.settings | {"likelihood": model.likelihood.settings()} for model in (vae, twin)
    ]
    assert settings[0] == settings[1] and twin.params.dtype == dtype
    np.testing.assert_array_equal(twin.params.flat, vae.params.flat)
    for name, values in twin.likelihood.parameters().items():  # as trained, in the twin's vector
        np.testing.assert_array_equal(values, vae.params[name])
        assert np.shares_memory(values, twin.params.flat) and values[0] != -1.5
    x = rng.random((B, D))
    np.testing.assert_array_equal(twin.reconstruct(x), vae.reconstruct(x))
    twin.params.flat[:] += 1  # it can be trained on
    assert not np.allclose(twin.reconstruct(x), vae.reconstruct(x))


def test_a_likelihood_that_could_not_be_loaded_is_not_saved(tmp_path):
    class Mine(Gaussian):
        name = "mine"

    vae = VAE(D, (H,), Z, likelihood=Mine(0.5), rng=0)
    assert copy.deepcopy(vae).likelihood == vae.likelihood
    with pytest.raises(ValueError, match="the likelihood to save is 'mine', must be one of bern"):
        vae.save(tmp_path / "vae.npz")
    assert not list(tmp_path.iterdir())


def test_a_file_that_promises_a_huge_model_takes_no_memory(tmp_path):
    settings = '{"data_dim": 16000, "hidden": [8000], "latent_dim": 9, "activation": "relu", '
    settings += '"likelihood": "bernoulli"}'
    np.savez(tmp_path / "huge.npz", settings=np.array(settings), params=np.zeros(3, np.float32))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"flat has shape \(3,\), must be contiguous \(256"):
        VAE.load(tmp_path / "huge.npz")
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [b"", b"not a model", {"params": np.zeros(3)}, {"settings": np.array("{}")},
     {"settings": np.array('{"data_dim": 4}'), "params": np.zeros(3)},
     {"settings": np.array('{"data_dim": 4, "colour": 1}'), "params": np.zeros(3)},
     {"settings": np.array('{"data_dim": 4}'), "params": np.zeros(3, np.int8)}],
    ids=["empty", "text", "no-settings", "no-params", "wrong-size", "unknown-setting", "dtype"],
)  # fmt: skip
def test_a_file_that_is_not_a_model_is_refused_by_name(tmp_path, content):
    path = tmp_path / "other.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(ValueError, match=r"other\.npz: [^\n]*$"):
        VAE.load(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data_dim": 0}, "data_dim is 0, must be a whole number from 1 to 65536"),
        ({"data_dim": 2.5}, "data_dim is 2.5, must be a whole number"),
        ({"latent_dim": -1}, "latent_dim is -1, must be a whole number"),
        ({"hidden": (5, 0)}, "a width in hidden is 0, must be a whole number"),
        ({"hidden": (10**9,)}, "hidden is 1000000000, must be a whole number from 1 to 65536"),
        ({"hidden": 400}, r"hidden is 400, must be a sequence of widths, such as \(400,\)"),
        ({"activation": ["relu"]}, r"activation is \['relu'\], must be one of relu, tanh"),
        ({"likelihood": None}, "likelihood is None, must be a name or a Likelihood: Gau"),
        ({"likelihood": Bernoulli}, "likelihood is <class .*>, must be a name or a Likelihood"),
        ({"dtype": "foo"}, "dtype is 'foo', must be one of float32, float64, complex128"),
        ({"hidden": (65536, 65536)}, "the number of parameters is .* to 268435456"),
        ({"activation": "gelu"}, "activation is 'gelu', must be one of relu, tanh"),
        ({"likelihood": "cauchy"}, "likelihood is 'cauchy', must be one of bernoulli, con"),
        ({"dtype": np.int32}, "dtype is 'int32', must be one of float32, float64, complex128"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        VAE(**{"data_dim": D} | settings)


@pytest.mark.parametrize(
    ("x", "eps", "message"),
    [
        (np.zeros((B, D + 1)), np.zeros((B, Z)), r"x has shape \(5, 12\), must be \(..., 11\)"),
        (np.zeros((B, D)), np.zeros((B, Z + 1)), r"eps has shape \(5, 4\), must be \(..., 3\)"),
        (np.zeros((B, D)), np.zeros((1, Z)), r"x has shape \(5, 11\) and eps \(1, 3\), must be"),
        (np.zeros((B, D)), np.zeros((B, 1, Z)), r"and eps \(5, 1, 3\), must be \(B, D\) and"),
        (np.zeros(D), np.zeros(Z), r"x has shape \(11,\), must be"),
        (np.zeros((B, D), np.uint8), np.zeros((B, Z)), "x has dtype uint8, must be a floating"),
        (np.zeros((B, B, D)), np.zeros((B, B, Z)), r"x has shape \(5, 5, 11\) and eps .*, must be"),
        (np.zeros((B, D)), np.zeros((K, 1, B, Z)), r"and eps \(2, 1, 5, 3\), must be \(B, D\) and"),
    ],
    ids=["D", "Z", "one-eps-for-all", "K-axis-last", "one-image", "uint8", "K-images", "K-and-K"],
)
def test_arrays_of_another_shape_or_kind_are_refused(x, eps, message):
    with pytest.raises(ValueError, match=message):
        VAE(D, latent_dim=Z).forward(x, eps)


def test_the_trace_carries_the_names_of_the_derivation():
    names = "x eps encoder h mu logvar sigma z decoder logits"
    assert list(Trace.__dataclass_fields__) == names.split()


@pytest.mark.mathematics
def test_the_weight_of_the_kl_is_one_where_none_is_given(rng):
    vae = make(rng)
    trace = vae.forward(*inputs(rng))
    reconstruction, kl = vae.loss(trace)
    assert vae.objective(trace) == pytest.approx((reconstruction + kl).mean(), rel=1e-13)
    np.testing.assert_array_equal(vae.backward(trace).flat, vae.backward(trace, 1.0).flat)


def test_a_trace_is_frozen(rng):
    trace = make(rng).forward(*inputs(rng))
    with pytest.raises(FrozenInstanceError):
        trace.z = trace.mu


def test_widths_that_can_be_read_only_once_are_read_once():
    vae = VAE(D, iter((H, H + 1)), Z)
    assert vae.hidden == (H, H + 1) and vae.params["mu.W"].shape == (H + 1, Z)


def test_numpys_integers_make_a_model_that_can_be_saved(tmp_path):
    vae = VAE(np.int64(D), np.array([H]), np.int64(Z))
    vae.save(tmp_path / "vae.npz")
    assert VAE.load(tmp_path / "vae.npz").settings == vae.settings


def test_resample_refuses_noise_that_does_not_belong_to_the_images(rng):
    vae = make(rng, np.float32)
    x, eps = inputs(rng)
    trace = vae.forward(x, eps)
    assert vae.resample(trace, eps.astype(np.float64)).logits.dtype == np.float32
    with pytest.raises(ValueError, match=r"x has shape .* and eps \(1, .*\), must be"):
        vae.resample(trace, eps[:1])


def test_another_layout_cannot_be_laid_under_a_model(rng):
    vae, other = make(rng), make(rng, latent_dim=Z + 1)
    with pytest.raises(ValueError, match=r"params has blocks .*, must be"):
        vae.over(other.params)


def test_a_model_of_one_pixel_and_one_latent_dimension_has_a_gradient(rng):
    vae = VAE(1, (), 1, dtype=np.float64, rng=0)
    x, eps = rng.random((B, 1)), rng.standard_normal((B, 1))
    report = gradcheck(
        objective_of(vae, 1.0),
        vae.backward(vae.forward(x, eps)),
        {**vae.params, "x": x, "eps": eps},
    )
    assert report.ok, f"\n{report}"


def test_two_traces_are_not_compared_number_by_number(rng):
    vae = make(rng)
    one, two = vae.forward(*inputs(rng)), vae.forward(*inputs(rng))
    assert one == one and one != two


def test_a_likelihoods_own_gradient_gets_images_and_logits_in_that_order(rng):
    seen = []

    class Watched(LearnedGaussian):
        def nll_backward_params(self, x, l, dnll, grad):
            seen.append((x, l))

    vae = make(rng, likelihood=Watched())
    trace = vae.forward(*inputs(rng))
    vae.backward(trace)
    assert seen[0][0] is trace.x and seen[0][1] is trace.logits


def test_the_gradient_of_terms_may_leave_the_log_ratio_out(rng):
    vae = make(rng)
    trace = vae.forward(*inputs(rng))
    dnll, dkl = rng.standard_normal((2, B))
    zero = vae.terms_backward(trace, Terms(dnll, dkl, np.zeros(B)))
    np.testing.assert_array_equal(vae.terms_backward(trace, Terms(dnll, dkl)).flat, zero.flat)


def test_a_model_takes_parameters_that_are_there_and_shares_them(rng):
    vae = make(rng)
    for params in vae.params, vae.params.flat:
        twin = VAE(D, (H, H + 1), Z, dtype=np.float32, params=params)
        assert twin.params.flat is vae.params.flat
    with pytest.raises(ValueError, match=r"flat has shape .*, must be contiguous"):
        VAE(D, (H,), Z, params=vae.params.flat)


def test_parameters_of_another_model_or_in_another_order_are_refused(rng):
    vae = make(rng, hidden=(H,))
    deeper = make(rng, hidden=(H, H)).params
    sorted_ = Params({name: vae.params.shapes[name] for name in sorted(vae.params)}, np.float64)
    assert sorted_.shapes == vae.params.shapes
    more = Params(vae.params.shapes | {"more": (1,)}, np.float64)
    for params in deeper, sorted_, more:
        for take in vae.over, lambda params: VAE(D, (H,), Z, params=params):
            with pytest.raises(ValueError, match=r"^params has blocks .*, must be"):
                take(params)


@pytest.mark.parametrize("name", ["data_dim", "hidden", "latent_dim", "activation", "likelihood"])
def test_a_file_that_lacks_a_setting_is_no_model(tmp_path, name):
    vae = VAE(784, rng=0)  # whose settings are the defaults
    settings = vae.settings | {"likelihood": vae.likelihood.settings()}
    del settings["network_type"], settings[name]
    write_model(tmp_path / "vae.npz", settings, {"params": vae.params.flat})
    with pytest.raises(ValueError, match=rf"not a saved VAE \(its settings lack {name}\)"):
        VAE.load(tmp_path / "vae.npz")


class Named(VAE):
    """A subclass with an `__init__` of its own."""

    def __init__(self, rng):
        super().__init__(D, (H,), Z, rng=rng)
        self.name = "it is not copied"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda v: v.astype(np.float64)])
def test_a_subclass_with_an_init_of_its_own_is_copied(rng, duplicate):
    vae = Named(rng)
    twin = duplicate(vae)
    assert type(twin) is Named
    np.testing.assert_array_equal(twin.params.flat, vae.params.flat)
