"""The affine layer, and what is built of it."""

import numpy as np
from zoo.case import Case


def affine(x, W, b):
    return x @ W + b, (x, W)


def affine_backward(dy, cache):
    x, W = cache
    dx = dy @ W.T
    dW = x.T @ dy
    db = dy.sum(axis=0)
    return dx, dW, db


AFFINE = Case(
    "affine",
    affine,
    affine_backward,
    lambda rng: tuple(map(rng.standard_normal, ((4, 3), (3, 3), 3))),
    {
        "sign": ("db = dy", "db = -dy"),
        "transposed": ("dy @ W.T", "dy @ W"),
        "wrong axis": ("sum(axis=0)", "sum(axis=1)[:3]"),
        "mean for sum": ("dy.sum", "dy.mean"),
        "1 % off": ("x.T @ dy", "1.01 * x.T @ dy"),
    },
)

CASES = (AFFINE,)
