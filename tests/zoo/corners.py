"""Layers exactly at their corners, where any subgradient is right.

Some errors stay between the one-sided slopes there: dy for each of the tied, say. None is planted
that shows at the corners only.
"""

import numpy as np

from zoo.case import Case


def with_zeros(rng, shape):
    x = rng.standard_normal(shape)
    x[rng.random(shape) < 0.3] = 0
    return x


def max_pool(x):
    """The maximum of each window of 2 x 2."""
    n, h, w = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2).max(axis=(2, 4)), x


def max_pool_backward(dy, x):
    dx = np.zeros_like(x)
    for n, i, j in np.ndindex(dy.shape):
        window = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        k, l = divmod(window.argmax(), 2)  # the first, if several are tied
        dx[n, 2 * i + k, 2 * j + l] = dy[n, i, j]
    return (dx,)


MAX_POOL = Case(
    "max pooling with ties",
    max_pool,
    max_pool_backward,
    lambda rng: (rng.integers(4, size=(2, 4, 6)).astype(float),),
    {
        "sign": ("= dy[n", "= -dy[n"),
        "factor": ("dy[n, i, j]", "dy[n, i, j] / 4"),
        "transposed": ("2 * i + k, 2 * j + l]", "2 * i + l, 2 * j + k]"),
        "wrong axis": ("divmod(window.argmax(), 2)", "window.argmax(axis=0)"),
        "min for max": ("argmax", "argmin"),
        "stale cache": ("window = x[n", "window = x[0"),
        "1 % off": ("= dy[n", "= 1.01 * dy[n"),
    },
)


X = np.random.default_rng(1).standard_normal((6, 4))
X[2] = 0  # a blank row: with b1 = 0, all its units are at the corner


def relu_network(W1, b1, W2):
    a = X @ W1 + b1
    h = np.maximum(a, 0)
    return h @ W2, (W2, a, h)


def relu_network_backward(dy, cache):
    W2, a, h = cache
    dW2 = h.T @ dy
    da = dy @ W2.T * (a > 0)
    dW1 = X.T @ da
    db1 = da.sum(axis=0)
    return dW1, db1, dW2


RELU_NETWORK = Case(
    "relu at zero",
    relu_network,
    relu_network_backward,
    lambda rng: (rng.standard_normal((4, 5)), np.zeros(5), rng.standard_normal((5, 3))),
    {
        "sign": ("db1 = da", "db1 = -da"),
        "factor": ("X.T @ da", "X.T @ da / len(X)"),
        "transposed": ("W2.T", "W2.reshape(W2.T.shape)"),
        "missing term": (" * (a > 0)", ""),
        "wrong axis": ("sum(axis=0)", "sum(axis=1)[:5]"),
        "stale cache": ("h.T @ dy", "a.T @ dy"),
        "1 % off": ("h.T @ dy", "1.01 * h.T @ dy"),
    },
)


def weighted_abs(x, w):
    return np.abs(x) @ w, (x, w)


def weighted_abs_backward(dy, cache):
    x, w = cache
    dx = np.outer(dy, w) * np.sign(x)
    dw = np.abs(x).T @ dy
    return dx, dw


WEIGHTED_ABS = Case(
    "abs at zero",
    weighted_abs,
    weighted_abs_backward,
    lambda rng: (with_zeros(rng, (6, 5)), rng.standard_normal(5)),
    {
        "sign": ("np.sign(x)", "-np.sign(x)"),
        "factor": ("np.sign(x)", "np.sign(x) / 2"),
        "transposed": ("np.outer(dy, w)", "np.outer(w, dy).reshape(x.shape)"),
        "missing term": (" * np.sign(x)", ""),
        "stale cache": ("np.abs(x).T", "x.T"),
        "1 % off": ("np.abs(x).T", "1.01 * np.abs(x).T"),
    },
    ("central", "taylor"),  # np.abs drops the imaginary part
)


T = np.array([1, -1, 1, 1, -1, -1, 1, -1, 1])  # the labels


def hinge(x, w):
    slack = 1 - T * (x @ w)
    return np.maximum(0, slack), (x, w, slack)


def hinge_backward(dy, cache):
    x, w, slack = cache
    ds = -dy * T * (slack > 0)
    dx = np.outer(ds, w)
    dw = x.T @ ds
    return dx, dw


def hinge_inputs(rng):
    """The first example has margin 1 exactly: its numbers are eighths."""
    x = rng.standard_normal((9, 4))
    w = rng.choice([-2.0, -1.0, 1.0, 2.0], 4)
    x[0] = rng.integers(-4, 5, 4) / 4
    x[0, -1] = (T[0] - x[0, :-1] @ w[:-1]) / w[-1]
    return x, w


HINGE = Case(
    "hinge at margin 1",
    hinge,
    hinge_backward,
    hinge_inputs,
    {
        "sign": ("-dy * T", "dy * T"),
        "factor": ("x.T @ ds", "x.T @ ds / len(x)"),
        "missing term": (" * (slack > 0)", ""),
        "missing label": ("-dy * T", "-dy"),
        "wrong side": ("slack > 0", "slack < 0"),
        "transposed": ("np.outer(ds, w)", "np.outer(w, ds).reshape(x.shape)"),
        "1 % off": ("-dy * T", "-1.01 * dy * T"),
    },
)


SLOPE = 0.1


def leaky_relu(x):
    return np.where(x > 0, x, SLOPE * x), x


def leaky_relu_backward(dy, x):
    dx = dy * np.where(x > 0, 1, SLOPE)
    return (dx,)


LEAKY_RELU = Case(
    "leaky relu at zero",
    leaky_relu,
    leaky_relu_backward,
    lambda rng: (with_zeros(rng, (5, 7)),),
    {
        "sign": ("SLOPE)", "-SLOPE)"),
        "factor": ("dx = dy", "dx = dy / 2"),
        "missing term": ("SLOPE)", "0)"),
        "wrong side": ("x > 0", "x < 0"),
        "stale cache": ("x > 0", "dy > 0"),
        "1 % off": ("dx = dy", "dx = 1.01 * dy"),
    },
)


def row_max(x):
    y = x.max(axis=1, keepdims=True)
    return y[:, 0], (x, y)


def row_max_backward(dy, cache):
    x, y = cache
    hit = x == y
    dx = dy[:, None] * hit / hit.sum(axis=1, keepdims=True)  # the tied share it
    return (dx,)


def row_max_inputs(rng):
    x = rng.integers(3, size=(5, 7)).astype(float)
    for row, tied in zip(x, (3, 1, 3, 1, 1), strict=True):
        row[rng.permutation(7)[:tied]] = 3
    return (x,)


ROW_MAX = Case(
    "max with three tied",
    row_max,
    row_max_backward,
    row_max_inputs,
    {
        "sign": ("dx = dy", "dx = -dy"),
        "factor": ("hit.sum(axis=1, keepdims=True)", "x.shape[1]"),
        "missing term": ("* hit", "* (1 + hit)"),
        "wrong axis": ("hit.sum(axis=1, keepdims=True)", "hit.sum()"),
        "stale cache": ("dx = dy", "dx = y[:, 0]"),
        "1 % off": ("dx = dy", "dx = 1.01 * dy"),
    },
)

CASES = (MAX_POOL, RELU_NETWORK, WEIGHTED_ABS, HINGE, LEAKY_RELU, ROW_MAX)
