"""The affine map, the activations and their trunk, forward and backward."""

from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest

from numpy_vae import Params, gradcheck
from numpy_vae.layers import ACTIVATIONS, Dense, Trunk

B, N, M = 5, 4, 3  # rows, inputs, outputs: all different, so that a transposed shape cannot pass


def draw(rng, shapes):
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def assert_right(report):
    assert report.ok, f"\n{report}"


@pytest.mark.parametrize("lead", [(B,), (2, B)], ids=["rows", "samples-and-rows"])
@pytest.mark.gradient
def test_dense_gradients(rng, lead):
    arrays = draw(rng, {"x": (*lead, N), "W": (N, M), "b": (M,)})
    dy = rng.standard_normal((*lead, M))  # random: all ones would hide mis-paired rows

    def f(a):
        return (Dense(a["W"], a["b"]).forward(a["x"]) * dy).sum()

    grad = Dense(np.empty((N, M)), np.empty(M))
    dx = Dense(arrays["W"], arrays["b"]).backward(arrays["x"], dy, grad)
    report = gradcheck(f, {"x": dx, "W": grad.W, "b": grad.b}, arrays, tolerance=1e-8)
    assert_right(report)


@pytest.mark.mathematics
def test_dense_is_the_affine_map(rng):
    a = draw(rng, {"x": (B, N), "W": (N, M), "b": (M,)})
    y = Dense(a["W"], a["b"]).forward(a["x"])
    by_hand = [
        [sum(a["x"][r, i] * a["W"][i, j] for i in range(N)) + a["b"][j] for j in range(M)]
        for r in range(B)
    ]
    np.testing.assert_allclose(y, by_hand, rtol=1e-13)


class Watched(np.ndarray):
    """An array that notes how many dimensions the factors of its products have."""

    seen: ClassVar[list[int]] = []

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if ufunc is np.matmul:
            self.seen.extend(x.ndim for x in inputs)
        plain = [np.asarray(x) for x in inputs]
        return getattr(ufunc, method)(*plain, **kwargs)


@pytest.mark.purity
def test_the_product_of_all_samples_is_one(rng):
    a = draw(rng, {"x": (4, B, N), "dy": (4, B, M), "W": (N, M), "b": (M,)})
    dense, grad = Dense(a["W"].view(Watched), a["b"]), Dense(np.empty((N, M)), np.empty(M))
    Watched.seen.clear()
    dense.forward(a["x"])
    dense.backward(a["x"], a["dy"], grad)
    assert Watched.seen == [2, 2, 2, 2]  # x W and dy Wᵀ


@pytest.mark.mathematics
def test_samples_are_rows(rng):
    a = draw(rng, {"x": (4, B, N), "W": (N, M), "b": (M,)})
    dense = Dense(a["W"], a["b"])
    y = dense.forward(a["x"])
    assert y.shape == (4, B, M)
    np.testing.assert_array_equal(y.reshape(-1, M), dense.forward(a["x"].reshape(-1, N)))
    assert dense.forward(np.empty((0, B, N))).shape == (0, B, M)  # no sample at all


@pytest.mark.purity
def test_backward_assigns_and_does_not_accumulate(rng):
    a = draw(rng, {"x": (B, N), "W": (N, M), "b": (M,)})
    dy = rng.standard_normal((B, M))
    grad = Dense(np.full((N, M), np.nan), np.full(M, np.nan))
    dense = Dense(a["W"], a["b"])
    first = dense.backward(a["x"], dy, grad).copy(), grad.W.copy(), grad.b.copy()
    second = dense.backward(a["x"], dy, grad), grad.W, grad.b
    for one, two in zip(first, second, strict=True):
        assert np.isfinite(one).all()  # NaN + 1 is NaN, and equal to itself in the next line
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.gradient
def test_activation_gradients(rng, name):
    activation = ACTIVATIONS[name]
    a = rng.standard_normal((B, N))
    dy = rng.standard_normal((B, N))
    da = activation.backward(activation.forward(a), dy)
    report = gradcheck(lambda p: (activation.forward(p["a"]) * dy).sum(), {"a": da}, {"a": a})
    assert_right(report)
    assert not any(row.kinks for row in report)


@pytest.mark.mathematics
def test_activations_are_what_their_names_say():
    a = np.array([-800.0, -1.5, -0.0, 0.0, 0.25, 800.0])
    np.testing.assert_array_equal(ACTIVATIONS["relu"].forward(a), np.maximum(a, 0))
    np.testing.assert_array_equal(ACTIVATIONS["tanh"].forward(a), np.tanh(a))


def test_relu_passes_no_gradient_at_the_kink_and_hides_no_nan():
    relu = ACTIVATIONS["relu"]
    assert relu.backward(relu.forward(np.zeros(1)), np.ones(1)) == 0
    assert np.isnan(relu.forward(np.array([np.nan])))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(N,), (N, 6), (N, 6, 2, 7)], ids=["L0", "L1", "L3"])
@pytest.mark.gradient
def test_trunk_gradients(rng, name, widths):
    shapes = {}
    for i, (n, m) in enumerate(pairwise(widths)):
        shapes |= {f"t.{i}.W": (n, m), f"t.{i}.b": (m,)}
    params = Params(shapes, np.float64)
    params.flat[:] = rng.standard_normal(params.flat.size)
    x, dh = rng.standard_normal((B, N)), rng.standard_normal((B, widths[-1]))

    def f(a):
        p = Params(shapes, dtype=a["x"].dtype)
        for block in shapes:
            p[block][:] = a[block]
        return (Trunk.over(p, "t", ACTIVATIONS[name]).forward(a["x"])[-1] * dh).sum()

    trunk = Trunk.over(params, "t", ACTIVATIONS[name])
    assert len(trunk.layers) == len(widths) - 1 and type(trunk.layers) is tuple
    grads = params.zeros_like()
    hs = trunk.forward(x)
    dx = trunk.backward(hs, dh, Trunk.over(grads, "t", ACTIVATIONS[name]))
    assert_right(gradcheck(f, {**grads, "x": dx}, {**params, "x": x}))

    again = params.zeros_like()
    trunk.backward_params(hs, dh, Trunk.over(again, "t", ACTIVATIONS[name]))
    np.testing.assert_array_equal(again.flat, grads.flat)


def test_a_trunk_of_ten_layers_keeps_their_order():
    shapes = {f"t.{i}.W": (1, 1) for i in range(12)} | {f"t.{i}.b": (1,) for i in range(12)}
    params = Params(shapes)
    for i in range(12):
        params[f"t.{i}.b"][:] = i
    assert [d.b[0] for d in Trunk.over(params, "t", ACTIVATIONS["relu"]).layers] == list(range(12))


@pytest.mark.gradient
def test_relu_takes_the_sign_of_the_real_part():
    # So that at the kink itself the complex step gives the derivative that backward gives, 0.
    relu = ACTIVATIONS["relu"]
    a = np.array([-1, 0, 1]) + 1e-20j
    np.testing.assert_array_equal(relu.forward(a), [0, 0, a[2]])
    np.testing.assert_array_equal(relu.backward(a, np.ones(3)), [0, 0, 1])
