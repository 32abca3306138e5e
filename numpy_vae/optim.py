"""Adam, in place, on one flat vector.

For each parameter θ with gradient g, at step t = 1, 2, ... [1, algorithm 1]:

    m ← β₁ m + (1 - β₁) g            v ← β₂ v + (1 - β₂) g²
    θ ← θ - lr m̂ / (√v̂ + ε)          m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ)

m and v start at zero, so after t steps of a constant g they are (1 - βᵗ) times g and g²: the
hats divide that out. The optimiser knows vectors, neither layers nor names.

Two facts of the machine shape the loop. The step is memory traffic, a dozen passes over five
vectors, so it goes block by block, each small enough to stay in the cache for all the passes. And
where a gradient has become zero (a dark pixel, a dead unit), m decays by β₁ a step down to the
denormal numbers, on which a processor takes many times longer; moments too small to matter are set
to zero before they get there.

References
----------
[1] D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", arXiv:1412.6980, 2014.
"""

from __future__ import annotations

import math

import numpy as np

from .checks import check_real
from .params import Params

BLOCK = 1 << 16  # entries: 256 KiB of float32, so that the five blocks in use fit a level-2 cache
MAX_LR = 1.0  # Adam moves a parameter by about lr a step, whatever the size of its gradient
MIN_EPS = 1e-12
FLUSH_EVERY = 100  # steps between two flushes of denormals


class Adam:
    """The Adam optimiser over the vector of a `Params`.

    Parameters
    ----------
    params : Params
        What is optimised, in place.
    lr, beta1, beta2, eps : float
        lr, β₁, β₂ and ε of the equations above.

    Attributes
    ----------
    m, v : Params
        The two moments, of the layout of `params`.
    t : int
        Steps taken.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        if params.dtype.kind != "f":
            raise ValueError(f"params has dtype {params.dtype}, must be a real floating type")
        # Python floats: a NumPy float64 scalar would turn the float32 blocks into float64.
        self.lr = check_real("lr", lr, 0, MAX_LR, open_below=True)
        self.beta1 = check_real("beta1", beta1, 0, 0.999_999, open_below=False)
        self.beta2 = check_real("beta2", beta2, 0, 0.999_999, open_below=False)
        self.eps = check_real("eps", eps, MIN_EPS, 1, open_below=False)
        self.params = params
        self.m, self.v = params.zeros_like(), params.zeros_like()
        self.t = 0
        self._scratch = np.empty(min(BLOCK, params.flat.size), params.dtype)
        # A moment above this is not denormal before the next flush if β₁ >= 0.84 (0.84¹⁰⁰ = 3e-8).
        # Below it m moves θ by less than lr 1e-17, and √v is nothing beside ε >= MIN_EPS: at these
        # β₁ and β₂, that is; nearer to 1 the first steps, with their small 1 - βᵗ, may notice.
        self._tiny = np.finfo(params.dtype).tiny * 1e8

    def step(self, grads: Params) -> None:
        """Take one step down the gradient `grads`, a vector of the layout of `params`."""
        self.t += 1
        b1, b2 = self.beta1, self.beta2
        step_size = self.lr / (1 - b1**self.t)
        root_unbias = 1 / math.sqrt(1 - b2**self.t)
        for start in range(0, self.params.flat.size, BLOCK):
            block = slice(start, start + BLOCK)
            theta, g = self.params.flat[block], grads.flat[block]
            m, v = self.m.flat[block], self.v.flat[block]
            u = self._scratch[: len(g)]
            m *= b1  # m ← β₁ m + (1 - β₁) g
            np.multiply(g, 1 - b1, out=u)
            m += u
            v *= b2  # v ← β₂ v + (1 - β₂) g²
            np.multiply(g, g, out=u)
            u *= 1 - b2
            v += u
            np.sqrt(v, out=u)  # u = lr m̂ / (√v̂ + ε)
            u *= root_unbias
            u += self.eps
            np.divide(m, u, out=u)
            u *= step_size
            theta -= u
            if self.t % FLUSH_EVERY == 0:
                for moment in m, v:
                    np.abs(moment, out=u)
                    moment[u < self._tiny] = 0
