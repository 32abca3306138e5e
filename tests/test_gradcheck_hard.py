"""Right and wrong gradients at awkward points: what hostile readers tried."""

import math

import numpy as np
import pytest

from numpy_vae import gradcheck

METHODS = ["central", "complex", "taylor"]
each_method = pytest.mark.parametrize("method", METHODS)
by_differences = pytest.mark.parametrize("method", ["central", "taylor"])


def assert_passes_and_wrong_fails(f, gradient, x, method, *, off=1.01, undecided=False):
    """Assert it for the gradient, and for it times `off`, or plus 1e-3 if `off` is 0."""
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
        assert_passes_and_wrong_fails(lasso, gradient, w, method, undecided=True)


@each_method
@pytest.mark.parametrize("eps", [1e-4, 1e-6, 1e-8])
def test_a_smooth_even_function_at_its_middle(eps, method):
    zero = np.zeros(4)
    assert_passes_and_wrong_fails(lambda x: np.sqrt(x * x + eps).sum(), zero, zero, method, off=0)
    assert_passes_and_wrong_fails(lambda x: (x**4).sum(), zero, zero, method, off=0)


@each_method
def test_a_perfect_fit(method):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        A, w = rng.standard_normal((20, 5)), rng.standard_normal(5)
        y = A @ w
        gradient = 2 * A.T @ (A @ w - y)
        f = lambda w: ((A @ w - y) ** 2).sum()  # noqa: B023, E731
        assert_passes_and_wrong_fails(f, gradient, w, method, off=0)


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
        g = f if wrap is not real_only else (lambda a: float(f(a)))
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
    assert_passes_and_wrong_fails(entropy, -(1 + np.log(p)), p, method)


def test_the_edge_of_the_domain_is_undecided_and_an_error_elsewhere_is_wrong():
    report = gradcheck(lambda x: sum(map(math.sqrt, x)), np.zeros(2), np.array([0.0, 1.0]))
    assert report.status == "wrong"  # x[1]
    report = gradcheck(lambda x: sum(map(math.sqrt, x)), np.array([0, 0.5]), np.array([0.0, 1.0]))
    assert report.status == "undecided" and "the edge of its domain" in str(report)


@each_method
@pytest.mark.parametrize("size", [5.0, 10.0])
def test_a_gradient_that_has_cancelled_itself(size, method):
    x = np.array([size, 0.9 * size])
    assert_passes_and_wrong_fails(lambda x: np.tanh(x).sum(), 1 - np.tanh(x) ** 2, x, method)


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
    assert not gradcheck(f, other, x, method=method)
    other[0] = 3
    assert not gradcheck(f, other, x, method=method)


@by_differences
def test_beside_the_knee_of_huber(method):
    for off in -1e-7, 0, 1e-7, 1e-3:
        x = np.array([1 + off, 0.3, -2.0])
        huber = lambda x: np.where(np.abs(x) < 1, x * x / 2, np.abs(x) - 0.5).sum()  # noqa: E731
        assert_passes_and_wrong_fails(huber, np.clip(x, -1, 1), x, method, undecided=True)


# --- wrong gradients that once passed -------------------------------------------------------------


@each_method
def test_a_minimum_beside_a_steep_wall_has_a_gradient_of_zero(method):
    for f in (
        lambda x: np.cosh(50 * x[0]) + x[1] ** 2,
        lambda x: np.exp(40 * x[0]) - 40 * x[0] + x[1] ** 2,
    ):
        x = np.array([0.0, 0.1])
        assert gradcheck(f, 2 * x, x, method=method)
        assert not gradcheck(f, 2 * x + [0.5, 0], x, method=method)


@by_differences
@pytest.mark.parametrize("size", [1e-4, 1e-2])
def test_noise_is_not_taken_for_rounding(size, method):
    def noisy(x):
        bits = np.float64(x).view(np.int64)
        return 3 + 1e-3 * float(np.sin(x).sum()) + size * float(np.sin(bits % 1000).sum())

    x = np.array([0.3, 0.9])
    for gradient in -1e-3 * np.cos(x), 0 * x:
        assert not gradcheck(noisy, gradient, x, method=method)


@pytest.mark.parametrize("constant", [0, 1e5, 1e6])
def test_a_block_behind_abs_is_refused_beside_a_large_constant(constant):
    a = np.array([0.5, -1.0])
    f = lambda p: constant + (p["a"] ** 2).sum() + np.abs(p["b"]).sum()  # noqa: E731
    with pytest.raises(ValueError, match="f is not analytic in b, must be for the complex step"):
        gradcheck(f, {"a": 2 * a, "b": 0 * a}, {"a": a, "b": a}, method="complex")


def test_a_mask_of_zeros_is_not_moved():
    x, y = np.array([0.0, 1.0, 0.0, 2.0]), np.array([0.3, 0.5, -0.2, 0.1])
    f = lambda p: 1e7 + 1e-3 * ((p["x"] != 0) * (p["y"] - p["x"]) ** 2).sum()  # noqa: E731
    forgot = 2e-3 * (y - x)
    assert not gradcheck(f, {"y": forgot}, {"x": x, "y": y}, method="complex")
    assert gradcheck(f, {"y": forgot * (x != 0)}, {"x": x, "y": y}, method="complex")


@by_differences
def test_a_slope_at_a_corner_does_not_set_the_scale(method):
    x = np.array([0.0, 0.5, -0.7])
    f = lambda x: 1e6 * max(x[0], 0) + (x**2).sum()  # noqa: E731
    assert gradcheck(f, 2 * x, x, method=method)
    assert not gradcheck(f, 2 * x + [0, 0.3, 0], x, method=method)


@by_differences
@pytest.mark.parametrize("width", [1e-9, 1e-6])
def test_a_narrow_curve_is_not_a_corner(width, method):
    f = lambda x: np.sqrt(x * x + width**2).sum()  # noqa: E731
    zero = np.zeros(2)
    assert gradcheck(f, zero, zero, method=method)
    assert not gradcheck(f, zero + 0.5, zero, method=method)


@each_method
def test_a_small_block_beside_a_large_one_is_held_to_itself(method):
    f = lambda p: 1e6 * (p["a"] ** 2).sum() + 1e-5 * p["b"][0]  # noqa: E731
    arrays = {"a": np.array([0.5, -1.0]), "b": np.array([0.1, 0.2])}
    right = {"a": 2e6 * arrays["a"], "b": np.array([1e-5, 0])}
    assert gradcheck(f, right, arrays, method=method)
    assert not gradcheck(f, right | {"b": np.array([1e-5, 1e-5])}, arrays, method=method)


def test_a_wrong_gradient_near_a_minimum_is_seen_by_its_order():
    x = np.array([1e-6, -2e-6])
    f = lambda x: 5 + 1e3 * (x**2).sum()  # noqa: E731
    assert gradcheck(f, 2e3 * x, x, method="taylor")
    assert not gradcheck(f, 2.02e3 * x, x, method="taylor")


@each_method
def test_ties_in_a_max_share_one_derivative(method):
    x = np.array([[1.0, 1.0, 0.0], [3.0, 2.0, 1.0]])
    f = lambda x: (np.array([0.7, -0.4]) * x.max(axis=1)).sum()  # noqa: E731
    up = np.array([[0.7], [-0.4]])
    first = up * [[1, 0, 0], [1, 0, 0]]
    shared = up * [[0.5, 0.5, 0], [1, 0, 0]]
    both = up * (x == x.max(axis=1, keepdims=True))  # the classic mistake
    for right in first, shared:
        assert gradcheck(f, right, x, method=method)
    for wrong in both, 0.3 * shared, 0 * first:
        assert not gradcheck(f, wrong, x, method=method)


def test_a_block_that_the_point_does_not_test_says_so():
    f = lambda p: p["x"].sum() + 0 * p["y"].sum()  # noqa: E731
    x = np.ones(3)
    report = gradcheck(f, {"x": x, "y": 0 * x}, {"x": x, "y": x})
    assert report and "y: f does not depend on this array, and its gradient is zero" in str(report)


def test_what_rounding_allows_beyond_the_tolerance_is_said():
    x = np.array([0.5, 1.0])
    report = gradcheck(lambda x: 1e10 + np.sin(x).sum(), np.cos(x), x)
    assert report and "the rounding of f allows an error of" in str(report)


@each_method
def test_the_sum_of_a_normalised_layer_is_constant(method):
    for seed in range(8):
        x = np.random.default_rng(seed).standard_normal((8, 4))

        def f(x):
            c = x - x.mean(axis=0)
            return (c / np.sqrt((c * c).mean(axis=0) + 1e-5)).sum()

        c = x - x.mean(axis=0)
        s = np.sqrt((c * c).mean(axis=0) + 1e-5)
        n, one = c / s, np.ones_like(x)
        right = (one - one.mean(axis=0) - n * (one * n).mean(axis=0)) / s
        report = gradcheck(f, right, x, method=method)
        assert report.ok, f"seed {seed}\n{report}"
        assert not gradcheck(f, right + 1e-9, x, method=method)


@each_method
def test_one_corner_does_not_hide_a_large_block_from_the_directions(method):
    x = np.linspace(-1, 1, 1000)
    x[300] = 0
    f = lambda x: np.cosh(x).sum() + 3 * np.maximum(x[300], 0)  # noqa: E731
    right = np.sinh(x)
    assert gradcheck(f, right, x, method=method, max_entries=4)
    wrong = right.copy()
    wrong[700] += 0.3
    assert not gradcheck(f, wrong, x, method=method, max_entries=4)
