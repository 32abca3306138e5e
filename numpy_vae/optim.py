"""Adam, in place on one flat vector; schedules of its step size; the average of its path.

For each parameter θ with gradient g, at step t = 1, 2, ... [1, algorithm 1]:

    m ← β₁ m + (1 - β₁) g            v ← β₂ v + (1 - β₂) g²
    θ ← θ - lr m̂ / (√v̂ + ε)          m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ)

m and v start at zero, so after t steps of a constant g they are (1 - βᵗ) times g and g², which the
hats divide out. Equivalently, m̂ and v̂ are means of all g and g² so far, where one that is i steps
old has weight βⁱ. It suffices to sum with these weights and divide by their sum:

    M ← β₁ M + g                     V ← β₂ V + g²
    m̂ = M / n₁                       v̂ = V / n₂           nᵢ = 1 + βᵢ + ... = (1 - βᵢᵗ) / (1 - βᵢ)

    θ ← θ - lr √n₂/n₁ M / (√V + ε √n₂)

The optimiser sees vectors, not layers or names.

Memory traffic dominates a step: ten passes over five vectors (twelve with m and v in place of the
sums). So it goes block by block, each small enough to stay in the cache for all passes. Where a
gradient has become zero (a dark pixel, a dead unit), M decays by β₁ per step into the denormal
numbers, which are many times slower. Sums too small to matter are set to zero before that.

**Schedules** multiply lr by a factor of the share of the training done, 0 to 1:

    constant    1
    cosine      (1 + cos(π share)) / 2
    burda       10^(-i/7) for 3^i epochs of 3280, i = 0 ... 7 [2, section 5]: the last two thirds
                of the time at a tenth of lr

**The average.** With a fixed step size θ never settles but wanders around the minimum. The mean of
its path is closer, if the distant start is forgotten. With the n-th value of θ,

    θ̄ ← θ̄ + (η + 1) / (n + η) (θ - θ̄)

gives the i-th a weight that grows like i^η [3]. For η = 0 all weights are equal; for η = 30 the
last tenth of a long path, however long, has 96 % of the weight. It starts with the path and takes
every tenth θ, since those between differ little. θ̄ is evaluated; training continues from θ.

References
----------
[1] D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", arXiv:1412.6980, 2014.
[2] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted Autoencoders",
    arXiv:1509.00519, 2015.
[3] O. Shamir and T. Zhang, "Stochastic Gradient Descent for Non-smooth Optimization: Convergence
    Results and Optimal Averaging Schemes", arXiv:1212.1824, 2012.
"""

from __future__ import annotations

import math

import numpy as np

from .checks import check_real
from .memory import keep_freed_memory
from .params import Params

# Entries: 2 MiB of float32. Five blocks fit the last-level cache; smaller ones need more calls, and
# threads wait for each other's calls.
BLOCK = 1 << 19
MAX_LR = 1.0  # Adam moves a parameter by about lr per step, whatever the size of its gradient
MIN_EPS = 1e-12
FLUSH_EVERY = 100  # steps between two flushes of denormals
AVERAGE_EVERY = 10  # steps between two values in the average


class Adam:
    """The Adam optimiser over the vector of a `Params`, in place, with the names of the equations.

    `M` and `V` are the sums, in the layout of `params`; `t` is the number of steps taken.
    ValueError if a setting is out of range.
    """

    def __init__(
        self, params: Params, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        if params.dtype.kind != "f":
            raise ValueError(f"params has dtype {params.dtype}, must be a real floating type")
        # Python floats: a NumPy float64 scalar would turn the float32 blocks into float64.
        self.lr = check_real("lr", lr, 0, MAX_LR, open_below=True)
        self.beta1 = check_real("beta1", beta1, 0, 0.999_999, open_below=False)
        self.beta2 = check_real("beta2", beta2, 0, 0.999_999, open_below=False)
        self.eps = check_real("eps", eps, MIN_EPS, 1, open_below=False)
        self.params = params
        self.M, self.V = params.zeros_like(), params.zeros_like()
        self.t = 0
        # A sum above this is not denormal before the next flush if β₁ >= 0.84 (0.84¹⁰⁰ = 3e-8).
        # In float32 it is 1.2e-30. An M below it moves θ by less than lr 2e-18 per step. A V below
        # it has √V < 1.1e-15: at most about a thousandth of ε √n₂ >= MIN_EPS √n₂.
        self._tiny = np.finfo(params.dtype).tiny * 1e8

    def step(self, grads: Params, factor: float = 1.0) -> None:
        """Take one step down the gradient, with step size factor * lr.

        If `np.errstate` raises on an overflow, some parameters have moved, but `t` has not.
        """
        if self.t == 0:
            keep_freed_memory()  # for the steps to come
        self.update(slice(0, self.params.flat.size), grads, factor)
        self.t += 1

    def update(self, share: slice, grads: Params, factor: float = 1.0) -> None:
        """Apply the step to the entries in `share` only, with step size factor * lr.

        After the last entry, count the step: ``adam.t += 1``.
        """
        t = self.t + 1
        n1 = (1 - self.beta1**t) / (1 - self.beta1)
        n2 = (1 - self.beta2**t) / (1 - self.beta2)
        step_size = factor * self.lr * math.sqrt(n2) / n1
        eps = self.eps * math.sqrt(n2)
        scratch = np.empty_like(self.params.flat[share][:BLOCK])
        for start in range(share.start, share.stop, BLOCK):
            block = slice(start, min(start + BLOCK, share.stop))
            theta, g = self.params.flat[block], grads.flat[block]
            M, V = self.M.flat[block], self.V.flat[block]
            u = scratch[: len(g)]
            M *= self.beta1  # M ← β₁ M + g
            M += g
            V *= self.beta2  # V ← β₂ V + g²
            np.multiply(g, g, out=u)
            V += u
            np.sqrt(V, out=u)  # u = lr √n₂/n₁ M / (√V + ε √n₂)
            u += eps
            np.divide(M, u, out=u)
            u *= step_size
            theta -= u
            if t % FLUSH_EVERY == 0:
                for total in M, V:
                    np.abs(total, out=u)
                    total[u < self._tiny] = 0


def constant(share: float) -> float:
    """1 throughout."""
    return 1.0


def cosine(share: float) -> float:
    """(1 + cos(π share)) / 2: from 1 to 0."""
    return (1 + math.cos(math.pi * share)) / 2


def burda(share: float) -> float:
    """10^(-i/7) in stage i = 0 ... 7, each three times as long as the one before."""
    # Of 1 + 3 + 9 + ... + 3^7 = 3280. 1e-6, so that a share rounded down still starts its stage.
    epoch = 3280 * share + 1e-6
    stage = sum(epoch >= (3**i - 1) / 2 for i in range(1, 8))
    return float(10 ** (-stage / 7))


SCHEDULES = {"constant": constant, "cosine": cosine, "burda": burda}


class Average:
    """The average of the parameters over their path, with more weight on late ones.

    `update` reads `params`, θ. `mean` is θ̄, in the same layout; θ itself before the first update.
    ValueError if `eta` is negative.
    """

    def __init__(self, params: Params, eta: float = 30.0) -> None:
        self.params = params
        self.eta = check_real("eta", eta, 0, 1e6, open_below=False)
        self.mean = params.copy()

    def update(self, t: int) -> None:
        """Add the parameters after step t to the average, if t is a multiple of `AVERAGE_EVERY`.

        Before the first multiple the average is θ. n follows from t: a checkpoint keeps only θ̄.
        """
        if t % AVERAGE_EVERY == 0 or t < AVERAGE_EVERY:
            n = max(1, t // AVERAGE_EVERY)
            weight = (self.eta + 1) / (n + self.eta)
            self.mean.flat[:] += weight * (self.params.flat - self.mean.flat)
