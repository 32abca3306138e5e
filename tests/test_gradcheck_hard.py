"""Right gradients at awkward points, and wrong ones there: what hostile readers tried."""

import math

import numpy as np
import pytest

from numpy_vae import gradcheck

METHODS = ["central", "complex", "taylor"]
each_method = pytest.mark.parametrize("method", METHODS)
by_differences = pytest.mark.parametrize("method", ["central", "taylor"])


def assert_right_and_no_other(f, gradient, x, method, *, off=1.01, undecided=False):
    """Assert that the gradient passes, and that one that is off does not."""
    report = gradcheck(f, gradient, x, method=method)
    assert report.ok, f"\n{report}"
    wrong = gradcheck(f, gradient * off if off else gradient + 1e-3, x, method=method)
    assert wrong.status in (("wrong", "undecided") if undecided else ("wrong",)), f"\n{wrong}"


def real_only(f):
    def g(x):
        if np.iscomplexobj(x):
            raise TypeError("real numbers only")
        return float(f(x))

    return g


@by_differences
@pytest.mark.parametrize("weight", [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1])
def test_weights_of_zero_under_an_l1_penalty(weight, method):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X, y, w = rng.standard_normal((20, 6)), rng.standard_normal(20), rng.standard_normal(6)
        w[::2] = 0

        def lasso(w):
            r = X @ w - y  # noqa: B023
            return (r * r).mean() + weight * np.abs(w).sum()

        gradient = X.T @ (X @ w - y) / 10 + weight * np.sign(w)
        assert_right_and_no_other(lasso, gradient, w, method, undecided=True)


@each_method
@pytest.mark.parametrize("eps", [1e-4, 1e-6, 1e-8])
def test_a_smooth_even_function_at_its_middle(eps, method):
    zero = np.zeros(4)
    assert_right_and_no_other(lambda x: np.sqrt(x * x + eps).sum(), zero, zero, method, off=0)
    assert_right_and_no_other(lambda x: (x**4).sum(), zero, zero, method, off=0)


@each_method
def test_a_perfect_fit(method):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        A, w = rng.standard_normal((20, 5)), rng.standard_normal(5)
        y = A @ w
        gradient = 2 * A.T @ (A @ w - y)
        assert_right_and_no_other(lambda w: ((A @ w - y) ** 2).sum(), gradient, w, method, off=0)  # noqa: B023


@by_differences
@pytest.mark.parametrize("scale", [1e-2, 1, 1e2])
@pytest.mark.parametrize("wrap", [real_only, lambda f: f])
def test_a_bias_before_batch_normalisation_at_any_scale(scale, wrap, method):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, W, b = scale * rng.standard_normal((8, 3)), rng.standard_normal((3, 4)), rng.random(4)
        up = rng.standard_normal((8, 4))

        def f(a):
            W, b = a
            z = x @ W + b  # noqa: B023
            c = z - z.mean(axis=0)
            return (up * c / np.sqrt((c * c).mean(axis=0))).sum()  # noqa: B023

        c = x @ W - (x @ W).mean(axis=0)
        s = np.sqrt((c * c).mean(axis=0))
        dz = (up - up.mean(axis=0) - c / s**2 * (up * c).mean(axis=0)) / s
        g = wrap(lambda a: f(a)) if wrap is not real_only else (lambda a: float(f(a)))
        report = gradcheck(g, [x.T @ dz, dz.sum(axis=0)], [W, b], method=method)
        assert report.ok, f"seed {seed}\n{report}"
        wrong = [x.T @ dz, dz.sum(axis=0) + 1e-6 * np.abs(x.T @ dz).max()]
        assert not gradcheck(g, wrong, [W, b], method=method)


@each_method
@pytest.mark.parametrize("size", [1, 10, 30])
def test_a_classifier_that_is_sure(size, method):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        logits = size * rng.standard_normal((4, 3))
        labels = logits.argmax(axis=1)

        def loss(l):
            l = l - l.max(axis=1, keepdims=True)
            return (np.log(np.exp(l).sum(axis=1)) - l[np.arange(4), labels]).sum()  # noqa: B023

        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(4), labels] = 0
        p[np.arange(4), labels] = -p.sum(axis=1)  # p - 1 would cancel
        report = gradcheck(loss, p, logits, method=method)
        assert report.ok, f"seed {seed}\n{report}"
        assert not gradcheck(loss, p + 1e-3, logits, method=method)


def test_a_loss_of_a_few_bits_is_not_taken_for_float32():
    x = np.array([30.0, 1.0, -2.0])  # the loss is one or two units in the last place of 30
    f = lambda x: np.log(np.exp(x - 30).sum()) + 30 - x[0]  # noqa: E731
    gradcheck(f, np.exp(x - 30) - [1, 0, 0], x)


@by_differences
@pytest.mark.parametrize("smallest", [1e-3, 1e-6, 1e-9])
def test_beside_the_edge_of_the_domain(smallest, method):
    p = np.array([smallest, 0.3, 0.7])
    entropy = lambda p: -sum(v * math.log(v) for v in p)  # noqa: E731
    assert_right_and_no_other(entropy, -(1 + np.log(p)), p, method)


def test_on_the_edge_of_the_domain_nothing_is_decided():
    report = gradcheck(lambda x: sum(map(math.sqrt, x)), np.zeros(2), np.array([0.0, 1.0]))
    assert report.status == "wrong"  # x[1]
    report = gradcheck(lambda x: sum(map(math.sqrt, x)), np.array([0, 0.5]), np.array([0.0, 1.0]))
    assert report.status == "undecided" and "the edge of its domain" in str(report)


@each_method
@pytest.mark.parametrize("size", [5.0, 10.0])
def test_a_gradient_that_has_cancelled_itself(size, method):
    x = np.array([size, 0.9 * size])
    assert_right_and_no_other(lambda x: np.tanh(x).sum(), 1 - np.tanh(x) ** 2, x, method)


@by_differences
@pytest.mark.parametrize("wrap", [real_only, lambda f: f])
def test_a_sum_that_cancels_in_few_bits(wrap, method):
    v, x = np.array([1, 2, -3.0]), np.full(3, 20.0)
    slope = v * np.exp(-x) / (1 + np.exp(-x)) ** 2
    f = wrap(lambda x: (v / (1 + np.exp(-x))).sum())
    assert gradcheck(f, slope, x, method=method)
    assert not gradcheck(f, 0 * slope, x, method=method)
    assert not gradcheck(f, 1.5 * slope, x, method=method)


@by_differences
@pytest.mark.parametrize("distance", [1e-12, 1e-11, 1e-9, 1e-7, 1e-6])
def test_beside_a_corner(distance, method):
    x = np.array([distance, -distance, 1.0, -2.0])
    f = lambda x: np.abs(x).sum() + np.sin(x).sum()  # noqa: E731
    right = np.sign(x) + np.cos(x)
    assert gradcheck(f, right, x, method=method)
    other = right.copy()
    other[0] = 0  # of the other side
    report = gradcheck(f, other, x, method=method)
    assert report.ok == (distance < 1e-11), f"\n{report}"  # no nearer can differences see
    other[0] = 3
    assert not gradcheck(f, other, x, method=method)


@by_differences
def test_beside_the_knee_of_huber(method):
    for off in -1e-7, 0, 1e-7, 1e-3:
        x = np.array([1 + off, 0.3, -2.0])
        huber = lambda x: np.where(np.abs(x) < 1, x * x / 2, np.abs(x) - 0.5).sum()  # noqa: E731
        assert_right_and_no_other(huber, np.clip(x, -1, 1), x, method, undecided=True)
