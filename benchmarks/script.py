"""The step as a script: one NumPy call after another, without the package's structure.

All arrays are allocated before the first step, and every operation of the two passes writes into
one of them. There is no function per formula, no trace, no check, nothing that another model,
likelihood or bound could use. Two threads each take half of the minibatch's rows, then half of the
rows of each weight gradient: there is one gradient vector, where the package has one per thread.
The formulas are those of `numpy_vae.layers`, `posterior` and `likelihood`; the optimiser is the
package's, which works in place except for a block of scratch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numpy_vae import Adam, Params
from numpy_vae.training.team import Team

Array = np.ndarray[Any, Any]


class Script:
    """The model of `contestants`, with an in-place step.

    Parameters
    ----------
    params : Params
        The initial parameters, trained in place: the blocks of a `VAE` with one hidden layer.
    size : int
        B, images in a minibatch.
    lr : float
        Adam's step size.
    team : Team

    Attributes
    ----------
    whole : dict of ndarray, shape (B, width)
        The arrays of the step, by their names in `numpy_vae.vae`.
    parts : list of dict
        Views of each member's rows of them.
    """

    def __init__(self, params: Params, size: int, lr: float, team: Team) -> None:
        self.team, self.size = team, size
        self.p, self.dp = params, params.zeros_like()
        self.optimizer = Adam(params, lr)
        (d, h), (_, z) = params["encoder.0.W"].shape, params["mu.W"].shape
        widths = {"h": h, "mu": z, "logvar": z, "sigma": z, "z": z, "hidden": h, "l": d}
        widths |= {"dl": d, "dhidden": h, "dmu": z, "dlogvar": z, "dh": h, "dh_logvar": h}
        widths |= {"scratch": d}
        self.whole: dict[str, Array] = {
            name: np.empty((size, width), np.float32) for name, width in widths.items()
        }
        self.whole["positive"] = np.empty((size, h), np.bool_)
        shares = [team.share(size, member) for member in range(team.size)]
        self.parts = [{n: array[share] for n, array in self.whole.items()} for share in shares]

    def step(self, x: Array, eps: Array) -> float:
        """Take a step and return the loss, in nats per image; the team must be at work."""

        def passes(member: int) -> float:
            rows, a = self.team.share(self.size, member), self.parts[member]
            loss = self.forward(x[rows], eps[rows], a)
            self.backward(x[rows], eps[rows], a)
            return loss

        losses = self.team.run(passes)
        self.team.run(lambda member: self.weights(x, member))
        self.team.run(self.update)
        self.optimizer.t += 1
        return float(sum(losses)) / self.size

    def update(self, member: int) -> None:
        """Take Adam's step on a member's share of the parameters."""
        self.optimizer.update(self.team.share(self.dp.flat.size, member), self.dp)

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
        hidden, l, t, u = a["hidden"], a["l"], a["scratch"], a["dl"]
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
        """Fill the gradients with respect to the outputs of all layers, for some rows."""
        p, n = self.p, 1 / self.size
        dl, dhidden, dmu, dlogvar, dh = (a[f"d{of}"] for of in ("l", "hidden", "mu", "logvar", "h"))
        np.multiply(a["l"], 0.5, out=dl)
        np.tanh(dl, out=dl)
        dl += 1
        dl *= 0.5
        dl -= x
        dl *= n
        np.matmul(dl, p["output.W"].T, out=dhidden)
        np.greater(a["hidden"], 0, out=a["positive"])
        dhidden *= a["positive"]
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
        np.matmul(dlogvar, p["logvar.W"].T, out=a["dh_logvar"])
        dh += a["dh_logvar"]
        np.greater(a["h"], 0, out=a["positive"])
        dh *= a["positive"]

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
