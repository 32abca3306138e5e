"""The step as a script: NumPy's calls one after the other, and nothing around them.

What the package's step can gain at most in NumPy. All arrays are there before the first step and
every operation writes into one of them; no function of its own, no trace, no check, nothing that
another model, likelihood or bound could use. With two threads each has half of the rows of the
minibatch, then half of the rows of each weight gradient, then half of the parameters: one gradient
vector, where the package has one for each thread. The formulas are those of `numpy_vae.layers`,
`posterior`, `likelihood` and `optim`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numpy_vae.optim import BLOCK, FLUSH_EVERY
from numpy_vae.team import Team

Array = np.ndarray[Any, Any]
TINY = np.finfo(np.float32).tiny * 1e8


class Script:
    """The model of `contestants`, its arrays, and a step in place."""

    def __init__(self, first: dict[str, Array], size: int, lr: float, team: Team) -> None:
        self.team, self.size, self.lr, self.t = team, size, lr, 0
        self.shapes = {name: value.shape for name, value in first.items()}
        self.theta = np.concatenate([value.ravel() for value in first.values()])
        self.g, self.m, self.v, self.scratch = np.zeros((4, self.theta.size), np.float32)
        self.p, self.dp = self.blocks(self.theta), self.blocks(self.g)
        (d, h), (_, z) = self.shapes["encoder.0.W"], self.shapes["mu.W"]
        widths = {"h": h, "mu": z, "logvar": z, "sigma": z, "z": z, "hidden": h, "l": d}
        widths |= {"dl": d, "dhidden": h, "dmu": z, "dlogvar": z, "dh": h, "of_logvar": h, "t": d}
        self.whole = {name: np.empty((size, width), np.float32) for name, width in widths.items()}
        shares = [team.share(size, member) for member in range(team.size)]
        self.parts = [{n: array[share] for n, array in self.whole.items()} for share in shares]

    def blocks(self, flat: Array) -> dict[str, Array]:
        """Return the parts of a vector by their names."""
        ends = np.cumsum([0, *(np.prod(shape) for shape in self.shapes.values())])
        parts = zip(self.shapes.items(), ends, ends[1:], strict=False)
        return {name: flat[start:end].reshape(shape) for (name, shape), start, end in parts}

    def step(self, x: Array, eps: Array) -> float:
        """Take a step; the team must be at work. Returns the loss, in nats per image."""
        self.t += 1
        n1, n2 = (1 - 0.9**self.t) / 0.1, (1 - 0.999**self.t) / 0.001
        step_size, small = self.lr * n2**0.5 / n1, 1e-8 * n2**0.5

        def deltas(member: int) -> float:
            rows, a = self.team.share(self.size, member), self.parts[member]
            loss = self.forward(x[rows], eps[rows], a)
            self.backward(x[rows], eps[rows], a)
            return loss

        losses = self.team.run(deltas)
        self.team.run(lambda member: self.weights(x, member))
        self.team.run(lambda member: self.adam(member, step_size, small))
        return float(sum(losses)) / self.size

    def forward(self, x: Array, eps: Array, a: dict[str, Array]) -> float:
        """Fill the arrays of the forward pass of some rows; return the sum of their losses."""
        p = self.p
        h, mu, logvar, sigma, z = a["h"], a["mu"], a["logvar"], a["sigma"], a["z"]
        np.matmul(x, p["encoder.0.W"], out=h)
        h += p["encoder.0.b"]
        np.maximum(h, 0, out=h)
        np.matmul(h, p["mu.W"], out=mu)
        mu += p["mu.b"]
        np.matmul(h, p["logvar.W"], out=logvar)
        logvar += p["logvar.b"]
        np.multiply(logvar, 0.5, out=sigma)
        np.exp(sigma, out=sigma)
        np.multiply(sigma, eps, out=z)
        z += mu
        hidden, l, t, u = a["hidden"], a["l"], a["t"], a["dl"]
        np.matmul(z, p["decoder.0.W"], out=hidden)
        hidden += p["decoder.0.b"]
        np.maximum(hidden, 0, out=hidden)
        np.matmul(hidden, p["output.W"], out=l)
        l += p["output.b"]
        np.abs(l, out=t)  # t = softplus(l) - x l
        np.negative(t, out=t)
        np.exp(t, out=t)
        np.log1p(t, out=t)
        np.maximum(l, 0, out=u)
        t += u
        np.multiply(x, l, out=u)
        t -= u
        kl = np.vdot(mu, mu) + np.vdot(sigma, sigma) - sigma.size - logvar.sum()
        return float(t.sum() + kl / 2)

    def backward(self, x: Array, eps: Array, a: dict[str, Array]) -> None:
        """Fill the gradient by the output of every layer, of some rows."""
        p, n = self.p, 1 / self.size
        dl, dhidden, dmu, dlogvar, dh = (a[f"d{of}"] for of in ("l", "hidden", "mu", "logvar", "h"))
        np.multiply(a["l"], 0.5, out=dl)
        np.tanh(dl, out=dl)
        dl += 1
        dl *= 0.5
        dl -= x
        dl *= n
        np.matmul(dl, p["output.W"].T, out=dhidden)
        dhidden *= a["hidden"] > 0
        np.matmul(dhidden, p["decoder.0.W"].T, out=dmu)
        np.multiply(dmu, eps, out=dlogvar)
        sigma, mu = a["sigma"], a["mu"]  # not read again
        dlogvar *= sigma
        sigma *= sigma
        sigma -= 1
        sigma *= n
        dlogvar += sigma
        dlogvar *= 0.5
        mu *= n
        dmu += mu
        np.matmul(dmu, p["mu.W"].T, out=dh)
        np.matmul(dlogvar, p["logvar.W"].T, out=a["of_logvar"])
        dh += a["of_logvar"]
        dh *= a["h"] > 0

    def weights(self, x: Array, member: int) -> None:
        """Fill a member's share of the gradient: some rows of each dW, some columns of each db."""
        a = self.whole
        for name, inputs, dy in (
            ("output", a["hidden"], a["dl"]),
            ("decoder.0", a["z"], a["dhidden"]),
            ("mu", a["h"], a["dmu"]),
            ("logvar", a["h"], a["dlogvar"]),
            ("encoder.0", x, a["dh"]),
        ):
            dw, db = self.dp[f"{name}.W"], self.dp[f"{name}.b"]
            rows, columns = (self.team.share(len(array), member) for array in (dw, db))
            np.matmul(inputs[:, rows].T, dy, out=dw[rows])
            np.sum(dy[:, columns], axis=0, out=db[columns])

    def adam(self, member: int, step_size: float, small: float) -> None:
        """Move a member's share of the parameters."""
        share = self.team.share(self.theta.size, member)
        for start in range(share.start, share.stop, BLOCK):
            block = slice(start, min(start + BLOCK, share.stop))
            theta, g, m, v, u = (
                vector[block] for vector in (self.theta, self.g, self.m, self.v, self.scratch)
            )
            m *= 0.9
            m += g
            v *= 0.999
            np.multiply(g, g, out=u)
            v += u
            np.sqrt(v, out=u)
            u += small
            np.divide(m, u, out=u)
            u *= step_size
            theta -= u
            if self.t % FLUSH_EVERY == 0:
                for total in m, v:
                    np.abs(total, out=u)
                    total[u < TINY] = 0
