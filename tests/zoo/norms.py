"""Normalisations. Two derivatives here are zero, and only rounding says otherwise."""

import numpy as np

from zoo.case import Case

EPS = 1e-5


def batch_norm(x, gamma, beta):
    c = x - x.mean(axis=0)
    s = np.sqrt((c * c).mean(axis=0) + EPS)
    return gamma * c / s + beta, (c, s, gamma)


def batch_norm_backward(dy, cache):
    """Step by step, as in Ioffe and Szegedy (2015)."""
    c, s, gamma = cache
    N = len(c)
    dz = dy * gamma  # z = c / s
    dvar = -0.5 * (dz * c).sum(axis=0) / s**3
    dmean = -(dz / s).sum(axis=0)  # nothing by way of the variance, since c sums to 0
    dx = dz / s + 2 * c * dvar / N + dmean / N
    dgamma = (dy * c / s).sum(axis=0)
    dbeta = dy.sum(axis=0)
    return dx, dgamma, dbeta


BATCH_NORM = Case(
    "batch norm",
    batch_norm,
    batch_norm_backward,
    lambda rng: tuple(map(rng.standard_normal, ((6, 4), 4, 4))),
    {
        "sign": ("-0.5", "0.5"),
        "factor": ("2 * c * dvar", "c * dvar"),
        "missing term": (" + dmean / N", ""),
        "wrong axis": ("-(dz / s).sum(axis=0)", "-(dz / s).sum(axis=1, keepdims=True)"),
        "stale cache": ("(dy * c / s)", "(dy * c)"),  # c is not divided yet
        "1 % off": ("dbeta = dy", "dbeta = 1.01 * dy"),
    },
)


def layer_norm(x, gamma, beta):
    c = x - x.mean(axis=1, keepdims=True)
    s = np.sqrt((c * c).mean(axis=1, keepdims=True) + EPS)
    z = c / s
    return gamma * z + beta, (z, s, gamma)


def layer_norm_backward(dy, cache):
    z, s, gamma = cache
    dz = dy * gamma
    mean = dz.mean(axis=1, keepdims=True)
    dx = (dz - mean - z * (dz * z).mean(axis=1, keepdims=True)) / s
    dgamma = (dy * z).sum(axis=0)
    dbeta = dy.sum(axis=0)
    return dx, dgamma, dbeta


LAYER_NORM = Case(
    "layer norm",
    layer_norm,
    layer_norm_backward,
    lambda rng: tuple(map(rng.standard_normal, ((4, 6), 6, 6))),
    {
        "sign": ("- z *", "+ z *"),
        "factor": ("(dz * z).mean", "(dz * z).sum"),
        "missing term": ("dz - mean", "dz"),
        "wrong axis": ("dz.mean(axis=1", "dz.mean(axis=0"),
        "stale cache": ("(dy * z)", "(dy * z * s)"),  # z before the division
        "forgotten gamma": ("dz = dy * gamma", "dz = dy"),
        "1 % off": ("dx = (dz", "dx = 1.01 * (dz"),
    },
)


def rms_norm(x, g):
    r = np.sqrt((x * x).mean(axis=1, keepdims=True) + EPS)
    return g * x / r, (x, r, g)


def rms_norm_backward(dy, cache):
    x, r, g = cache
    z = x / r
    dz = dy * g
    dx = (dz - z * (dz * z).mean(axis=1, keepdims=True)) / r
    dg = (dy * z).sum(axis=0)
    return dx, dg


RMS_NORM = Case(
    "RMS norm",
    rms_norm,
    rms_norm_backward,
    lambda rng: tuple(map(rng.standard_normal, ((5, 7), 7))),
    {
        "sign": ("dz - z", "dz + z"),
        "factor": ("mean(axis=1, keepdims=True)", "sum(axis=1, keepdims=True)"),
        "missing term": ("dz - z * (dz * z).mean(axis=1, keepdims=True)", "dz"),
        "wrong axis": ("mean(axis=1", "mean(axis=0"),
        "stale cache": ("z = x / r", "z = x"),
        "1 % off": ("dg = (dy", "dg = (1.01 * dy"),
    },
)


def biased(x, W, b):
    a = x @ W + b
    c = a - a.mean(axis=0)  # the bias is gone
    s = np.sqrt((c * c).mean(axis=0) + EPS)
    z = c / s
    return z, (x, W, z, s)


def biased_backward(dz, cache):
    x, W, z, s = cache
    da = (dz - dz.mean(axis=0) - z * (dz * z).mean(axis=0)) / s
    dx = da @ W.T
    dW = x.T @ da
    db = da.sum(axis=0)  # 0, up to rounding
    return dx, dW, db


BIASED = Case(
    "a bias before batch norm",
    biased,
    biased_backward,
    lambda rng: tuple(map(rng.standard_normal, ((6, 3), (3, 4), 4))),
    {
        "sign": ("dz - dz", "dz + dz"),
        "factor": ("dz.mean", "dz.sum"),
        "transposed": ("x.T @ da", "(da.T @ x).reshape(W.shape)"),
        "missing term": (" - dz.mean(axis=0)", ""),
        "wrong axis": ("db = da.sum(axis=0)", "db = da.sum(axis=1)[:4]"),
        "stale cache": ("db = da.sum", "db = dz.sum"),  # past the normalisation
        "1 % off": ("da @ W.T", "1.01 * da @ W.T"),
    },
)


def summed(x):
    c = x - x.mean(axis=0)
    s = np.sqrt((c * c).mean(axis=0) + EPS)
    return (c / s).sum(), (x, c, s)  # 0, up to rounding


def summed_backward(dy, cache):
    x, c, s = cache
    N = len(x)
    dz = dy * np.ones_like(x)
    dvar = -0.5 * (dz * c).sum(axis=0) / s**3
    dmean = -(dz / s).sum(axis=0)
    return (dz / s + 2 * c * dvar / N + dmean / N,)  # 0, up to rounding


SUMMED = Case(
    "the sum of batch norm",
    summed,
    summed_backward,
    lambda rng: (1 + 0.1 * rng.standard_normal((7, 5)),),
    {
        "sign": ("-(dz / s)", "(dz / s)"),
        "factor": ("dmean / N", "dmean"),
        "missing term": (" + dmean / N", ""),
        "wrong axis": ("(dz / s).sum(axis=0)", "(dz / s).sum(axis=1, keepdims=True)"),
        "stale cache": ("dz * c", "dz * x"),
    },
)


def weight_norm(x, v, g):
    norm = np.sqrt((v * v).sum(axis=0))
    W = g * v / norm  # a column has length g
    return x @ W, (x, v, g, norm)


def weight_norm_backward(dy, cache):
    x, v, g, norm = cache
    u = v / norm
    dx = dy @ (g * u).T
    dW = x.T @ dy
    dg = (dW * u).sum(axis=0)
    dv = g / norm * (dW - u * dg)  # the part of dW that does not point along v
    return dx, dv, dg


WEIGHT_NORM = Case(
    "weight norm",
    weight_norm,
    weight_norm_backward,
    lambda rng: tuple(map(rng.standard_normal, ((4, 3), (3, 5), 5))),
    {
        "sign": ("dW - u", "dW + u"),
        "factor": ("g / norm", "1 / norm"),
        "transposed": ("x.T @ dy", "(dy.T @ x).reshape(v.shape)"),
        "missing term": ("(dW - u * dg)", "dW"),
        "wrong axis": ("(dW * u).sum(axis=0)", "np.resize((dW * u).sum(axis=1), 5)"),
        "stale cache": ("(dW - u", "(dW - v"),
        "1 % off": ("dx = dy", "dx = 1.01 * dy"),
    },
)

CASES = (BATCH_NORM, LAYER_NORM, RMS_NORM, BIASED, SUMMED, WEIGHT_NORM)
