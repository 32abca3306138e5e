"""The layers of the model, and networks that put them together in another way."""

import copy
import pickle

import numpy as np
import pytest
from scipy import stats

from numpy_vae import VAE, Params, gradcheck
from numpy_vae.bounds import Terms
from numpy_vae.gradcheck.model import check_model
from numpy_vae.layers import ACTIVATIONS
from numpy_vae.likelihood import LearnedGaussian
from numpy_vae.network import Network

B, D, H, Z, K = 5, 11, 6, 3, 2


class Tied(Network):
    """log sigma = mu, by the weights of mu: other heads than those of the package."""

    def heads(self, h):
        mu = self.mu_head.forward(h)
        return mu, 2 * mu

    def heads_backward(self, h, dmu, dlogvar, grad):
        grad.logvar_head.W[:], grad.logvar_head.b[:] = 0, 0
        return self.mu_head.backward(h, dmu + 2 * dlogvar, grad.mu_head)


@pytest.mark.purity
def test_a_network_lies_over_the_parameters_that_it_is_given(rng):
    vae = VAE(D, (H, H + 1), Z, "tanh", LearnedGaussian(), dtype=np.float64, rng=rng)
    other = vae.params.copy()
    net = vae.network.over(other)
    assert type(net) is Network
    assert net.encoder.activation is net.decoder.activation is ACTIVATIONS["tanh"]
    layers = [*net.encoder.layers, net.mu_head, net.logvar_head, *net.decoder.layers, net.output]
    arrays = [array for layer in layers for array in layer] + [net.likelihood.logvar]
    assert len(arrays) == len(other)
    for array, block in zip(arrays, other.values(), strict=True):
        assert array.shape == block.shape and np.shares_memory(array, block)


@pytest.mark.parametrize("lead", [(B,), (K, B)], ids=["one-sample", "K-samples"])
@pytest.mark.parametrize("hidden", [(H, H + 1), ()], ids=["two-layers", "linear"])
@pytest.mark.gradient
def test_backward_is_the_derivative_of_the_terms(rng, hidden, lead):
    vae = VAE(D, hidden, Z, "tanh", LearnedGaussian(), dtype=np.float64, rng=rng)
    for block in vae.params.values():  # the log-variance head starts at zero
        block += 0.3 * rng.standard_normal(block.shape)
    net, x, eps = vae.network, rng.random((B, D)), rng.standard_normal((*lead, Z))
    dterms = Terms(rng.standard_normal(lead), rng.standard_normal(B), rng.standard_normal(lead))
    trace, grads = net.forward(x, eps), [vae.params.zeros_like() for _ in range(2)]
    for grad in grads:
        grad.flat[:] = np.nan
    dh, deps = net.backward(trace, dterms, net.over(grads[0]))
    dx, same = net.backward_inputs(trace, dterms, net.over(grads[1]))
    np.testing.assert_array_equal(grads[0].flat, grads[1].flat)
    np.testing.assert_array_equal(deps, same)
    assert dh.shape == trace.h.shape

    def f(arrays):
        params = Params(vae.params.shapes, arrays["x"].dtype)
        for name, block in params.items():
            block[...] = arrays[name]
        moved = net.over(params)
        terms = moved.terms(moved.forward(arrays["x"], arrays["eps"]))
        return sum((d * term).sum() for d, term in zip(dterms, terms, strict=True))

    report = gradcheck(
        f,
        {**grads[0], "x": dx, "eps": deps},
        {**vae.params, "x": x, "eps": eps},
        method="complex",
    )
    assert report.ok, f"\n{report}"


@pytest.mark.mathematics
def test_the_terms_are_named_in_their_order(rng):
    vae = VAE(D, (H,), Z, rng=rng, dtype=np.float64)
    trace = vae.network.forward(rng.random((B, D)), rng.standard_normal((K, B, Z)))
    nll, kl, log_ratio = vae.network.terms(trace)
    assert (nll.shape, kl.shape, log_ratio.shape) == ((K, B), (B,), (K, B))
    log_q = stats.norm.logpdf(trace.z, trace.mu, trace.sigma) - stats.norm.logpdf(trace.z)
    np.testing.assert_allclose(log_ratio, log_q.sum(axis=-1), rtol=1e-12)


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v)),
     lambda v: v.astype(np.float32), lambda v: v.over(v.params.copy())],
    ids=["copy", "deepcopy", "pickle", "astype", "over"],
)  # fmt: skip
@pytest.mark.purity
def test_a_model_with_other_heads_uses_them_everywhere_and_stays_itself(rng, duplicate):
    twin = duplicate(VAE(D, (H,), Z, rng=rng, network_type=Tied))
    assert type(twin.network) is Tied
    mu, logvar = twin.encode(rng.random((B, D)))
    np.testing.assert_array_equal(logvar, 2 * mu)
    trace = twin.forward(rng.random((B, D)), rng.standard_normal((B, Z)))
    np.testing.assert_array_equal(trace.logvar, 2 * trace.mu)


@pytest.mark.slow
@pytest.mark.gradient
def test_the_gradient_of_other_heads_is_checked_like_any(rng):
    checks = list(check_model(VAE(D, (H,), Z, "tanh", rng=rng, network_type=Tied)))
    assert checks and all(check.report.ok for check in checks)


def test_other_heads_are_not_saved_as_what_they_are_not(rng, tmp_path):
    with pytest.raises(ValueError, match=r"^network_type is Tied, must be Network to be saved"):
        VAE(D, (H,), Z, rng=rng, network_type=Tied).save(tmp_path / "vae.npz")
    assert not list(tmp_path.iterdir())
