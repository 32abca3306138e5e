"""One head of attention over a sequence, with all four biases."""

import numpy as np

from zoo.case import Case


def attention(x, Wq, bq, Wk, bk, Wv, bv, Wo, bo):
    q = x @ Wq + bq
    k = x @ Wk + bk
    v = x @ Wv + bv
    s = q @ k.T / np.sqrt(k.shape[1])
    e = np.exp(s - s.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    y = p @ v
    return y @ Wo + bo, (x, Wq, Wk, Wv, Wo, q, k, v, p, y)


def attention_backward(do, cache):
    x, Wq, Wk, Wv, Wo, q, k, v, p, y = cache
    dWo = y.T @ do
    dy = do @ Wo.T
    dv = p.T @ dy
    dp = dy @ v.T
    ds = p * (dp - (p * dp).sum(axis=1, keepdims=True)) / np.sqrt(k.shape[1])
    dq = ds @ k
    dk = ds.T @ q
    dx = dq @ Wq.T + dk @ Wk.T + dv @ Wv.T
    dbq = dq.sum(axis=0)
    dbk = dk.sum(axis=0)  # 0: a shift of all keys shifts each row of s
    dbv = dv.sum(axis=0)
    return dx, x.T @ dq, dbq, x.T @ dk, dbk, x.T @ dv, dbv, dWo, do.sum(axis=0)


ATTENTION = Case(
    "attention",
    attention,
    attention_backward,
    lambda rng: tuple(
        map(rng.standard_normal, ((4, 3), (3, 2), 2, (3, 2), 2, (3, 5), 5, (5, 6), 6))
    ),
    {
        "sign": ("dq @ Wq.T + dk", "dq @ Wq.T - dk"),
        "factor": (" / np.sqrt(k.shape[1])", ""),
        "transposed": ("ds.T @ q", "ds @ q"),
        "missing term": ("(dp - (p * dp).sum(axis=1, keepdims=True))", "dp"),
        "missing path": (" + dv @ Wv.T", ""),
        "wrong axis": ("sum(axis=1", "sum(axis=0"),
        "stale cache": ("ds @ k", "ds @ q"),
        "not zero": ("dbk = dk", "dbk = dq"),
        "1 % off": ("p.T @ dy", "1.01 * p.T @ dy"),
    },
)

CASES = (ATTENTION,)
