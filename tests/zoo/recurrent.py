"""Recurrent cells, and a recurrent network through time."""

import numpy as np

from zoo.case import Case


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def lstm(x, h, c, Wx, Wh, b):
    i, f, o, g = np.split(x @ Wx + h @ Wh + b, 4, axis=1)
    i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
    c_next = f * c + i * g
    h_next = o * np.tanh(c_next)
    return [h_next, c_next], (x, h, c, Wx, Wh, i, f, o, g, c_next)


def lstm_backward(upstream, cache):
    dh_next, dc_next = upstream
    x, h, c, Wx, Wh, i, f, o, g, c_next = cache
    t = np.tanh(c_next)
    do = dh_next * t
    dc = dc_next + dh_next * o * (1 - t**2)  # c_next goes out itself, and into h_next
    di = dc * g
    df = dc * c
    dg = dc * i
    da = np.hstack([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)])
    return da @ Wx.T, da @ Wh.T, dc * f, x.T @ da, h.T @ da, da.sum(axis=0)


LSTM = Case(
    "LSTM cell",
    lstm,
    lstm_backward,
    lambda rng: tuple(map(rng.standard_normal, ((3, 4), (3, 2), (3, 2), (4, 8), (2, 8), 8))),
    {
        "sign": ("(1 - t**2)", "(1 + t**2)"),
        "factor": ("df * f * (1 - f)", "df * f * (1 - f) / 2"),
        "transposed": ("Wh.T", "Wh.reshape(Wh.T.shape)"),
        "missing term": ("dc_next + dh_next", "dh_next"),
        "missing derivative": ("dg * (1 - g**2)", "dg"),
        "stale cache": ("np.tanh(c_next)", "np.tanh(c)"),
        "wrong state": ("df = dc * c", "df = dc * c_next"),
        "wrong gate": ("dc * f", "dc * i"),
        "1 % off": ("h.T @ da", "1.01 * h.T @ da"),
    },
)


def gru(x, h, Wx, Wh, b):
    az, ar, an = np.split(x @ Wx + b, 3, axis=1)
    Uz, Ur, Un = np.split(Wh, 3, axis=1)
    z = sigmoid(az + h @ Uz)
    r = sigmoid(ar + h @ Ur)
    n = np.tanh(an + (r * h) @ Un)
    return (1 - z) * n + z * h, (x, h, Wx, Uz, Ur, Un, z, r, n)


def gru_backward(dy, cache):
    x, h, Wx, Uz, Ur, Un, z, r, n = cache
    dn = dy * (1 - z) * (1 - n**2)
    dz = dy * (h - n) * z * (1 - z)
    drh = dn @ Un.T
    dr = drh * h * r * (1 - r)
    dh = dy * z + drh * r + dz @ Uz.T + dr @ Ur.T
    dWh = np.hstack([h.T @ dz, h.T @ dr, (r * h).T @ dn])
    da = np.hstack([dz, dr, dn])
    return da @ Wx.T, dh, x.T @ da, dWh, da.sum(axis=0)


GRU = Case(
    "GRU cell",
    gru,
    gru_backward,
    lambda rng: tuple(map(rng.standard_normal, ((2, 3), (2, 4), (3, 12), (4, 12), 12))),
    {
        "sign": ("(h - n)", "(n - h)"),
        "factor": ("(1 - n**2)", "2 * (1 - n**2)"),
        "transposed": ("dn @ Un.T", "dn @ Un"),
        "missing term": ("dy * z + ", ""),
        "missing path": (" + dr @ Ur.T", ""),
        "stale cache": ("(r * h).T", "h.T"),
        "wrong gate": ("drh * r", "drh * z"),
        "1 % off": ("x.T @ da", "1.01 * x.T @ da"),
    },
)


def rnn(x, h0, Wx, Wh, b):
    h = [h0]
    for xt in x:
        h.append(np.tanh(xt @ Wx + h[-1] @ Wh + b))
    return np.array(h[1:]), (x, Wx, Wh, h)


def rnn_backward(dy, cache):
    x, Wx, Wh, h = cache
    dx, dWx, dWh, db = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), 0
    dh = 0
    for t in reversed(range(len(x))):
        da = (dy[t] + dh) * (1 - h[t + 1] ** 2)
        dx[t] = da @ Wx.T
        dWx += x[t].T @ da
        dWh += h[t].T @ da
        db += da.sum(axis=0)
        dh = da @ Wh.T  # to the step before
    return dx, dh, dWx, dWh, db


RNN = Case(
    "RNN over three steps",
    rnn,
    rnn_backward,
    lambda rng: tuple(map(rng.standard_normal, ((3, 2, 4), (2, 5), (4, 5), (5, 5), 5))),
    {
        "sign": ("(1 - h[t + 1] ** 2)", "(h[t + 1] ** 2 - 1)"),
        "factor": ("(dy[t] + dh)", "(dy[t] + dh / 2)"),
        "transposed": ("da @ Wh.T", "da @ Wh"),
        "missing term": ("(dy[t] + dh)", "dy[t]"),
        "missing sum": ("dWx += x[t]", "dWx = x[t]"),
        "wrong axis": ("reversed(range(len(x)))", "range(len(x))"),
        "stale cache": ("h[t + 1] ** 2", "h[t] ** 2"),
        "wrong state": ("h[t].T", "h[t + 1].T"),
        "1 % off": ("h[t].T @ da", "1.01 * h[t].T @ da"),
    },
)

CASES = (LSTM, GRU, RNN)
