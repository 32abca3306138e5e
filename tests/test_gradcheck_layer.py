"""Layers before `gradcheck_layer`: of every form, right and wrong."""

import numpy as np
import pytest

from numpy_vae import gradcheck_layer

rng = np.random.default_rng(0)
x, W, b = rng.standard_normal((5, 3)), rng.standard_normal((3, 2)), rng.standard_normal(2)
METHODS = ["central", "complex", "taylor"]
each_method = pytest.mark.parametrize("method", METHODS)


def forward(x, W, b):
    y = np.tanh(x @ W + b)
    return y, (x, W, y)


def backward(dy, cache):
    x, W, y = cache
    da = dy * (1 - y * y)
    return da @ W.T, x.T @ da, da.sum(axis=0)


def wrong(dy, cache):
    dx, dW, db = backward(dy, cache)
    return dx, 1.01 * dW, db


@each_method
def test_a_layer_with_a_cache_is_checked_and_its_inputs_are_named(method):
    report = gradcheck_layer(forward, backward, (x, W, b), method=method)
    assert report.ok and [row.name for row in report] == ["x", "W", "b"]
    report = gradcheck_layer(forward, wrong, (x, W, b), method=method)
    assert [row.name for row in report if not row.ok] == ["W"]


@each_method
@pytest.mark.parametrize("backward", [backward, wrong])
def test_a_layer_with_inputs_by_name(method, backward):
    by_name = lambda dy, cache: dict(zip("xWb", backward(dy, cache), strict=True))  # noqa: E731
    report = gradcheck_layer(forward, by_name, {"W": W, "b": b, "x": x}, method=method)
    assert report.ok == (backward is not wrong) and [row.name for row in report] == ["W", "b", "x"]


@each_method
def test_a_layer_that_keeps_its_cache_to_itself(method):
    class Dense:  # in the style of books that build a framework
        def __init__(self, W, b):
            self.W, self.b = W, b

        def forward(self, x):
            self.x = x
            return x @ self.W + self.b

        def backward(self, dy):
            self.dW, self.db = self.x.T @ dy, dy.sum(axis=0)
            return dy @ self.W.T

    layer = Dense(W, b)
    assert gradcheck_layer(layer.forward, layer.backward, x, method=method)

    def with_weights(x, W, b):
        layer.W, layer.b = W, b
        return layer.forward(x)

    def of_weights(dy):
        return layer.backward(dy), layer.dW, layer.db

    assert gradcheck_layer(with_weights, of_weights, (x, W, b), method=method)
    layer.backward = lambda dy: dy @ layer.W.T * 0.99
    assert not gradcheck_layer(layer.forward, layer.backward, x, method=method)


@each_method
def test_several_outputs_have_an_upstream_gradient_each(method):
    def split(a):
        return [np.sin(a), (a * a).sum()], a

    def back(upstream, a):
        d_sin, d_sum = upstream
        return d_sin * np.cos(a) + d_sum * 2 * a

    assert gradcheck_layer(split, back, x, method=method)
    forgets = lambda upstream, a: upstream[0] * np.cos(a)  # noqa: E731
    assert not gradcheck_layer(split, forgets, x, method=method)


def test_an_input_without_a_gradient_is_held():
    rows = np.array([0, 2, 2, 1])

    def embed(table, rows):
        return table[rows], (table.shape, rows)

    def back(dy, cache):
        shape, rows = cache
        dtable = np.zeros(shape)
        np.add.at(dtable, rows, dy)
        return dtable, None

    assert gradcheck_layer(embed, back, (W, rows))
    assert gradcheck_layer(embed, lambda dy, cache: back(dy, cache)[0], (W, rows))

    def overwrites(dy, cache):  # instead of adding up
        dtable = np.zeros(cache[0])
        dtable[cache[1]] = dy
        return dtable, None

    assert not gradcheck_layer(embed, overwrites, (W, rows))


def test_none_and_a_name_among_the_inputs_stay_what_they_are():
    def forward(x, mask, how):
        assert how == "same"
        return x if mask is None else x * mask

    assert gradcheck_layer(forward, lambda dy: dy, (x, None, "same"))


def test_the_upstream_gradient_is_not_one_and_not_zero():
    seen = []
    identity = lambda x: x  # noqa: E731
    gradcheck_layer(identity, lambda dy: seen.append(dy) or dy, np.ones((100, 3)), rng=3)
    u = seen[0]
    assert np.unique(u).size == 300 and 0.5 <= np.abs(u).min() <= np.abs(u).max() <= 1.5
    assert 100 < (u > 0).sum() < 200
    # A backward pass that works for an upstream gradient of ones alone is wrong.
    assert not gradcheck_layer(lambda x: (x * x).sum(axis=0), lambda dy: 2 * W, W)


def test_a_backward_pass_may_write_to_its_upstream_gradient():
    def in_place(dy, cache):
        dy *= 1 - cache[2] ** 2
        return dy @ cache[1].T, cache[0].T @ dy, dy.sum(axis=0)

    assert gradcheck_layer(forward, in_place, (x, W, b))


def test_a_backward_that_is_not_linear_is_refused_and_one_that_adds_up_is_not():
    def clips(dy, cache):
        return tuple(np.clip(d, -50, 50) for d in backward(dy, cache))

    with pytest.raises(
        ValueError, match=r"backward\(1000 u\) is not 1000 backward\(u\) in x, must be"
    ):
        gradcheck_layer(forward, clips, (x, W, b))

    total = [0.0, 0.0, 0.0]

    def adds_up(dy, cache):
        total[:] = [t + d for t, d in zip(total, backward(dy, cache), strict=True)]
        return tuple(total)

    assert gradcheck_layer(forward, adds_up, (x, W, b))
    buffer = np.zeros((3, 2))

    def same_memory(dy, cache):
        dx, buffer[:], db = backward(dy, cache)
        return dx, buffer, db

    assert gradcheck_layer(forward, same_memory, (x, W, b))


def test_a_layer_that_computes_in_float32_is_refused():
    def single(x, W, b):
        y, cache = forward(x, W.astype(np.float32), b)
        return y.astype(np.float32).astype(float), cache

    with pytest.raises(ValueError, match="forward has no more digits than float32, must have"):
        gradcheck_layer(single, backward, (x, W, b))
    assert gradcheck_layer(lambda x: (2 * x, None), lambda dy, _: 2 * dy, np.ones((3, 3)))


def test_settings_reach_the_check():
    assert gradcheck_layer(forward, wrong, (x, W, b), tolerance=0.1)
    with pytest.raises(ValueError, match="method is 'forward', must be one of central, complex"):
        gradcheck_layer(forward, backward, (x, W, b), method="forward")


@pytest.mark.parametrize(
    ("forward", "backward", "message"),
    [
        (lambda x: (x, x, x), backward, r"forward gave a tuple of 3, must give the output or"),
        (lambda x: None, lambda dy: dy, "forward gave NoneType, must give arrays of float64"),
        (lambda x: x.astype(np.float32), lambda dy: dy, "forward gave float32, must give arrays"),
        (lambda x: x > 0, lambda dy: dy, "forward gave bool, must give arrays of float64"),
        (lambda x: x, lambda dy: (dy, dy), "backward gave 2 gradients, must give one for each"),
        (lambda x: (x, x), lambda dy: dy, "backward must take the upstream gradient and the cache"),
        (lambda x: x, lambda dy, cache: dy, "backward must take the upstream gradient: forw"),
        (lambda x: x, lambda dy: None, "backward gave None, must give the gradients of the inputs"),
        (lambda x: x, lambda dy: (None,), "the gradient is empty, must have at least one block"),
        (lambda x: x + rng.random(), lambda dy: dy, "f gave two values at one point, must be det"),
        (lambda x: np.multiply(x, 2, out=x), lambda dy: 2 * dy, "f wrote to x, must leave its arr"),
        (lambda x: x, lambda dy: dy.sum(), r"the gradient x has shape \(\), must be that of its"),
    ],
)  # fmt: skip
def test_what_is_no_layer_is_refused_in_words(forward, backward, message):
    with pytest.raises(ValueError, match=message):
        gradcheck_layer(forward, backward, x)
