"""Losses, and the functions that they are made of."""

import numpy as np

from zoo.case import Case

LABELS = np.array([1, 4, 0, 2, 4, 3])  # 6 examples, 5 classes


def cross_entropy(logits):
    """Mean over the examples of -log softmax(logits), at the label."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(log_p)), LABELS].mean(), log_p


def cross_entropy_backward(dy, log_p):
    N = len(log_p)
    dlogits = np.exp(log_p)
    dlogits[np.arange(N), LABELS] -= 1
    return (dy * dlogits / N,)


CROSS_ENTROPY = Case(
    "softmax with cross-entropy",
    cross_entropy,
    cross_entropy_backward,
    lambda rng: (rng.standard_normal((6, 5)),),
    {
        "sign": ("-= 1", "+= 1"),
        "factor": ("dlogits / N", "dlogits"),
        "missing term": ("-= 1", "-= 0"),
        "wrong axis": ("dlogits / N", "dlogits / log_p.shape[1]"),
        "stale cache": ("np.exp(log_p)", "log_p.copy()"),
        "off by one": ("LABELS]", "LABELS - 1]"),
        "1 % off": ("(dy *", "(1.01 * dy *"),
    },
)


def shifted_softmax(logits, shift):
    a = logits + shift
    e = np.exp(a - a.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return p, (p, e)


def shifted_softmax_backward(dp, cache):
    p, _ = cache
    da = p * (dp - (p * dp).sum(axis=1, keepdims=True))
    dshift = da.sum(axis=1, keepdims=True)  # 0, up to rounding
    return da, dshift


SHIFTED_SOFTMAX = Case(
    "a shift before softmax",
    shifted_softmax,
    shifted_softmax_backward,
    lambda rng: (rng.standard_normal((6, 5)), rng.standard_normal((6, 1))),
    {
        "sign": ("dp - (", "dp + ("),
        "factor": ("(p * dp).sum", "(p * dp).mean"),
        "missing term": ("(dp - (p * dp).sum(axis=1, keepdims=True))", "dp"),
        "wrong axis": ("(p * dp).sum(axis=1", "(p * dp).sum(axis=0"),
        "stale cache": ("p, _ = cache", "_, p = cache"),  # before the division
        "wrong gradient": ("da.sum", "dp.sum"),
        "1 % off": ("da = p", "da = 1.01 * p"),
    },
)


def log_sum_exp(x):
    m = x.max(axis=1, keepdims=True)
    e = np.exp(x - m)
    return (m + np.log(e.sum(axis=1, keepdims=True)))[:, 0], (x, e)


def log_sum_exp_backward(dy, cache):
    _, e = cache
    p = e / e.sum(axis=1, keepdims=True)
    return (dy[:, None] * p,)  # whatever is subtracted as the max, its derivative cancels


LOG_SUM_EXP = Case(
    "log-sum-exp",
    log_sum_exp,
    log_sum_exp_backward,
    lambda rng: (3 * rng.standard_normal((6, 5)),),
    {
        "sign": ("dy[:, None] * p", "-dy[:, None] * p"),
        "factor": ("e.sum", "e.mean"),
        "missing term": ("e / e.sum(axis=1, keepdims=True)", "e"),
        "wrong axis": ("e.sum(axis=1", "e.sum(axis=0"),
        "term too many": ("* p", "* (p + (e == 1))"),  # the max is differentiated alone
        "stale cache": ("_, e = cache", "e, _ = cache"),
        "1 % off": ("dy[:, None]", "1.01 * dy[:, None]"),
    },
)


def gaussian_kl(mu, logvar):
    """Of N(mu, exp(logvar)) from N(0, 1), for each example."""
    return 0.5 * (np.exp(logvar) + mu * mu - 1 - logvar).sum(axis=1), (mu, logvar)


def gaussian_kl_backward(dy, cache):
    mu, logvar = cache
    dy = dy[:, None]
    dmu = dy * mu
    dlogvar = 0.5 * dy * (np.exp(logvar) - 1)
    return dmu, dlogvar


GAUSSIAN_KL = Case(
    "KL of a Gaussian",
    gaussian_kl,
    gaussian_kl_backward,
    lambda rng: (rng.standard_normal((6, 4)), rng.standard_normal((6, 4))),
    {
        "sign": ("dmu = dy", "dmu = -dy"),
        "factor": ("0.5 * dy", "dy"),
        "missing term": ("(np.exp(logvar) - 1)", "np.exp(logvar)"),
        "wrong axis": ("dy[:, None]", "dy[:4]"),
        "stale cache": ("np.exp(logvar) - 1", "logvar - 1"),
        "sd for variance": ("np.exp(logvar)", "np.exp(0.5 * logvar)"),
        "1 % off": ("dmu = dy", "dmu = 1.01 * dy"),
    },
)


def binary_cross_entropy(l, x):
    """softplus(l) - x l, summed for each example: -log of a Bernoulli with logit l."""
    softplus = np.maximum(l, 0) + np.log1p(np.exp(np.where(l.real > 0, -l, l)))
    return (softplus - x * l).sum(axis=1), (l, x)


def binary_cross_entropy_backward(dy, cache):
    l, x = cache
    dy = dy[:, None]
    p = 1 / (1 + np.exp(-l))
    dl = dy * (p - x)
    dx = dy * -l
    return dl, dx


BINARY_CROSS_ENTROPY = Case(
    "binary cross-entropy",
    binary_cross_entropy,
    binary_cross_entropy_backward,
    lambda rng: (2 * rng.standard_normal((6, 5)), rng.random((6, 5))),
    {
        "sign": ("dy * -l", "dy * l"),
        "factor": ("dy[:, None]", "dy[:, None] / len(l)"),
        "missing term": ("(p - x)", "p"),
        "wrong axis": ("dy[:, None]", "dy[:5]"),
        "stale cache": ("(p - x)", "(l - x)"),
        "derivative twice": ("(p - x)", "(p - x) * p * (1 - p)"),
        "1 % off": ("dl = dy", "dl = 1.01 * dy"),
    },
)


def hinge(x, W):
    """Multi-class SVM: mean over the examples of the sum of max(0, s_j - s_label + 1)."""
    rows = np.arange(len(x))
    s = x @ W
    margins = np.maximum(0, s - s[rows, LABELS][:, None] + 1)
    margins[rows, LABELS] = 0
    return margins.sum() / len(x), (x, W, s, margins)


def hinge_backward(dy, cache):
    x, W, _, margins = cache
    rows = np.arange(len(x))
    ds = (margins > 0) * 1.0
    ds[rows, LABELS] = -ds.sum(axis=1)
    ds *= dy / len(x)
    return ds @ W.T, x.T @ ds


HINGE = Case(
    "hinge",
    hinge,
    hinge_backward,
    lambda rng: (rng.standard_normal((6, 4)), rng.standard_normal((4, 5))),
    {
        "sign": ("-ds.sum", "ds.sum"),
        "factor": ("dy / len(x)", "dy"),
        "transposed": ("x.T @ ds", "(ds.T @ x).reshape(W.shape)"),
        "missing term": ("-ds.sum(axis=1)", "0"),
        "wrong axis": ("-ds.sum(axis=1)", "-ds.sum(axis=0)[LABELS]"),
        "stale cache": ("W, _, margins", "W, margins, _"),  # the scores
        "forgotten margin": ("margins > 0", "margins > 1"),
        "1 % off": ("ds @ W.T", "1.01 * ds @ W.T"),
    },
)


DELTA = 0.8


def huber(y, t):
    r = np.abs(y - t)
    return np.where(r <= DELTA, 0.5 * r * r, DELTA * (r - 0.5 * DELTA)), (y, t)


def huber_backward(upstream, cache):
    y, t = cache
    r = y - t
    dy = upstream * np.where(np.abs(r) <= DELTA, r, DELTA * np.sign(r))
    return dy, -dy


HUBER = Case(
    "Huber",
    huber,
    huber_backward,
    lambda rng: (rng.standard_normal((7, 5)), rng.standard_normal((7, 5))),
    {
        "sign": ("-dy", "dy"),
        "factor": ("DELTA, r,", "DELTA, 0.5 * r,"),
        "missing term": ("DELTA * np.sign(r)", "0"),
        "forgotten sign": ("* np.sign(r)", ""),
        "stale cache": ("r = y - t", "r = y"),
        "1 % off": ("upstream *", "1.01 * upstream *"),
    },
    methods=("central", "taylor"),  # np.abs
)

CASES = (
    CROSS_ENTROPY,
    SHIFTED_SOFTMAX,
    LOG_SUM_EXP,
    GAUSSIAN_KL,
    BINARY_CROSS_ENTROPY,
    HINGE,
    HUBER,
)
