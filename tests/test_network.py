"""The layers of the model, and networks that put them together in another way."""

import copy
import pickle

import numpy as np
import pytest

from numpy_vae import VAE
from numpy_vae.bounds import BOUNDS
from numpy_vae.layers import ACTIVATIONS
from numpy_vae.likelihood import LearnedGaussian
from numpy_vae.modelcheck import check_model
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


@pytest.mark.gradient
def test_the_gradient_is_assigned_and_the_inputs_get_theirs(rng):
    vae = VAE(D, (H,), Z, dtype=np.float64, rng=rng)
    trace = vae.forward(rng.random((B, D)), rng.standard_normal((K, B, Z)))
    dterms = BOUNDS["iwae"].backward(vae.network.terms(trace), 0.7)
    grads = [vae.params.zeros_like() for _ in range(2)]
    for grad in grads:
        grad.flat[:] = np.nan
    dh, deps = vae.network.backward(trace, dterms, vae.network.over(grads[0]))
    dx, same = vae.network.backward_inputs(trace, dterms, vae.network.over(grads[1]))
    np.testing.assert_array_equal(grads[0].flat, grads[1].flat)
    np.testing.assert_array_equal(deps, same)
    assert (dh.shape, dx.shape, deps.shape) == ((B, H), (B, D), (K, B, Z))
    assert np.isfinite(grads[0].flat).all()


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


@pytest.mark.gradient
def test_the_gradient_of_other_heads_is_checked_like_any(rng):
    checks = list(check_model(VAE(D, (H,), Z, "tanh", rng=rng, network_type=Tied)))
    assert checks and all(check.report.ok for check in checks)


def test_other_heads_are_not_saved_as_what_they_are_not(rng, tmp_path):
    with pytest.raises(ValueError, match=r"^the network to save is 'Tied', must be one of Network"):
        VAE(D, (H,), Z, rng=rng, network_type=Tied).save(tmp_path / "vae.npz")
    assert not list(tmp_path.iterdir())
