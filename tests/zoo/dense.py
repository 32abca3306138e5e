"""The affine layer, and others that are linear: convolution, embedding. Then a small network."""

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


def convolution(x, w, b):
    (N, _, H, W), (F, _, R, S) = x.shape, w.shape
    y = np.zeros((N, F, H - R + 1, W - S + 1), dtype=np.result_type(x, w, b))
    for i in range(H - R + 1):
        for j in range(W - S + 1):
            patch = x[:, :, i : i + R, j : j + S]
            y[:, :, i, j] = np.einsum("ncrs,fcrs->nf", patch, w) + b
    return y, (x, w)


def convolution_backward(dy, cache):
    x, w = cache
    (_, _, H, W), (_, _, R, S) = x.shape, w.shape
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i in range(H - R + 1):
        for j in range(W - S + 1):
            patch = x[:, :, i : i + R, j : j + S]
            dw += np.einsum("nf,ncrs->fcrs", dy[:, :, i, j], patch)
            dx[:, :, i : i + R, j : j + S] += np.einsum("nf,fcrs->ncrs", dy[:, :, i, j], w)
    db = dy.sum(axis=(0, 2, 3))
    return dx, dw, db


CONVOLUTION = Case(
    "convolution",
    convolution,
    convolution_backward,
    lambda rng: tuple(map(rng.standard_normal, ((2, 2, 4, 4), (3, 2, 2, 2), 3))),
    {
        "sign": ("dw +=", "dw -="),
        "transposed": ("fcrs->ncrs", "fcsr->ncrs"),
        "missing term": ("range(H - R + 1)", "range(H - R)"),
        "wrong axis": ("axis=(0, 2, 3)", "axis=(0, 1, 3)"),
        "= for +=": ("j + S] +=", "j + S] ="),
        "1 % off": ("return dx, dw", "return dx, 1.01 * dw"),
    },
)


WORDS = np.array([[0, 2, 2], [5, 2, 0], [6, 1, 5]])  # 3 sentences of 3; 3 and 4 do not occur


def embedding(table):
    return table[WORDS], table


def embedding_backward(dy, table):
    dtable = np.zeros_like(table)
    np.add.at(dtable, WORDS, dy)  # a word that occurs twice gets the sum
    return (dtable,)


EMBEDDING = Case(
    "embedding",
    embedding,
    embedding_backward,
    lambda rng: (rng.standard_normal((7, 5)),),
    {
        "sign": ("np.add.at", "np.subtract.at"),
        "factor": ("WORDS, dy", "WORDS, dy / len(dy)"),
        "transposed": ("WORDS, dy", "WORDS.T, dy"),
        "missing term": ("np.add.at(dtable, WORDS, dy)", "dtable[WORDS] += dy"),
        "off by one": ("WORDS, dy", "WORDS - 1, dy"),
        "1 % off": ("WORDS, dy", "WORDS, 1.01 * dy"),
    },
)


def network(x, W, b, V, c):
    a = x @ W + b
    return np.tanh(a) @ V + c, (x, W, a, V)


def network_backward(dy, cache):
    x, W, a, V = cache
    h = np.tanh(a)
    dc = dy.sum(axis=0)
    dV = h.T @ dy
    dh = dy @ V.T
    da = dh * (1 - h * h)
    db = da.sum(axis=0)
    dW = x.T @ da
    dx = da @ W.T
    return dx, dW, db, dV, dc


NETWORK = Case(
    "two affine layers",
    network,
    network_backward,
    lambda rng: tuple(map(rng.standard_normal, ((4, 3), (3, 5), 5, (5, 2), 2))),
    {
        "sign": ("da = dh", "da = -dh"),
        "factor": ("h * h", "2 * h * h"),
        "transposed": ("x.T @ da", "(da.T @ x).reshape(W.shape)"),
        "missing term": ("dh * (1 - h * h)", "dh"),
        "wrong axis": ("dc = dy.sum(axis=0)", "dc = dy.sum(axis=1)[:2]"),
        "stale cache": ("h = np.tanh(a)", "h = a"),
        "1 % off": ("dV = h", "dV = 1.01 * h"),
    },
)

CASES = (AFFINE, CONVOLUTION, EMBEDDING, NETWORK)
