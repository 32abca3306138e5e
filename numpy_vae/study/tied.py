"""Is log sigma = mu? Two heads on one h, and the model in which they are tied.

Letters of this module: N images, Z latent dimensions, A active ones of them, S seeds.

Both heads of the package are an affine map of the same h, with weights of their own:

    mu = h W_mu + b_mu                           logvar = h W_logvar + b_logvar

`Tied` takes the question at its word: log sigma = mu, one map for both, q(z | x) = N(mu, e^2mu).
Then logvar = 2 mu, and what flows back into mu comes from both of its uses:

    dmu ← dmu + 2 dlogvar
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from ..data.binarize import to_float
from ..network import Network
from ..params import Array
from ..training.evaluate import Elbo, active_dimensions
from ..vae import VAE
from .report import Claim, Column, Setting, Study, Table
from .training import train_and_test

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 500  # test images in the figure


class Tied(Network):
    """log sigma = mu; the log-variance head is there and never read."""

    def heads(self, h: Array) -> tuple[Array, Array]:
        """logvar = 2 mu, since log sigma² = 2 log sigma."""
        mu = self.mu_head.forward(h)
        return mu, 2 * mu

    def heads_backward(self, h: Array, dmu: Array, dlogvar: Array, grad: Self) -> Array:
        """mu is read twice, as the mean and as log sigma: the gradients add."""
        grad.logvar_head.W[:], grad.logvar_head.b[:] = 0, 0
        return self.mu_head.backward(h, dmu + 2 * dlogvar, grad.mu_head)


KINDS: dict[str, type[Network]] = {"free": Network, "tied": Tied}
LOG_SIGMA = {"free": "a head of its own", "tied": "= mu"}


class Run(NamedTuple):
    """One training: which model, from which seed, and how good on the test images."""

    model: str
    seed: int
    elbo: Elbo
    active: int  # latent dimensions


class Found(NamedTuple):
    """The numbers of the page."""

    angles: Array  # (S,) degrees between the gradients of the two heads, before the first step
    runs: list[Run]
    mu: Array  # (N, Z) of the first free model, on test images
    log_sigma: Array  # (N, Z)
    tied_mu: Array  # (N, Z) of the first tied one
    tied_log_sigma: Array  # (N, Z)
    correlations: Array  # (A,) of mu and log sigma over the images, one for each active dimension

    def seeds(self) -> list[int]:
        """Those of the free model, in the order of the angles."""
        return [run.seed for run in self.runs if run.model == "free"]

    def costs(self) -> Array:
        """What the tie costs with each seed, in nats per image, (S,)."""
        elbo = {(run.model, run.seed): run.elbo.elbo for run in self.runs}
        return np.array([elbo["free", seed] - elbo["tied", seed] for seed in self.seeds()])


def run(setting: Setting) -> Found:
    """Train the free and the tied model, from the same weights and with the same noise."""
    hidden, latent, epochs, count = (100, 8, 12, 3) if setting.quick else (400, 20, 3, 2)
    data, seeds = setting.data, range(setting.seed, setting.seed + count)
    models = {
        (name, seed): VAE(data.train.shape[1], (hidden,), latent, rng=seed, network_type=kind)
        for seed in seeds
        for name, kind in KINDS.items()
    }
    first = to_float(data.train[:100])
    angles = [angle_of_the_heads(models["free", seed], first, seed) for seed in seeds]
    x, runs = to_float(data.test), []
    for (name, seed), vae in models.items():
        elbo = train_and_test(vae, data, epochs=epochs, lr=2e-3, seed=seed)
        runs.append(Run(name, seed, elbo, int(active_dimensions(vae.encode(x)[0]).sum())))
    (mu, logvar), (tied_mu, tied_logvar) = (models[name, setting.seed].encode(x) for name in KINDS)
    together = correlations(mu, logvar / 2)
    return Found(np.array(angles), runs, mu, logvar / 2, tied_mu, tied_logvar / 2, together)


def correlations(mu: Array, log_sigma: Array) -> Array:
    """Of mu and log sigma, both (N, Z), over the images, one for each active dimension, (A,)."""
    active = np.flatnonzero(active_dimensions(mu))
    return np.array([np.corrcoef(mu[:, j], log_sigma[:, j])[0, 1] for j in active])


def angle_of_the_heads(vae: VAE, x: Array, seed: int) -> float:
    """Degrees between the gradients of mu.W and of logvar.W, as long vectors."""
    eps = np.random.default_rng(seed).standard_normal((len(x), vae.latent_dim))
    grads = vae.backward(vae.forward(x, eps))
    a, b = grads["mu.W"].ravel(), grads["logvar.W"].ravel()
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))  # 1 may be rounded up


def spread(values: Array) -> tuple[float, float, float]:
    """The least, the mean and the greatest; NaN if there are none."""
    if not values.size:
        return np.nan, np.nan, np.nan
    return float(values.min()), float(values.mean()), float(values.max())


TABLES = (
    Table("Test images, nats per image; the same seed is the same initial weights, order and noise",
          (Column("log sigma"), Column("seed", "d"), Column("ELBO", ".2f", within=1.5),
           Column("reconstruction", ".2f", within=2.0), Column("KL", ".2f", within=1.5),
           Column("active dimensions", "d", within=1)),
          lambda found: [(LOG_SIGMA[run.model], run.seed, *run.elbo, run.active)
                         for run in found.runs]),
    Table("Over the test images, models of the first seed",
          (Column("what"), Column("least", ".2f", within=0.3), Column("mean", ".2f", within=0.1),
           Column("most", ".2f", within=0.3)),
          lambda found: [
              ("free: correlation of mu and log sigma, by dimension", *spread(found.correlations)),
              ("tied: mu", *spread(found.tied_mu)),
          ]),
    Table("Before the first step",
          (Column("seed", "d"),
           Column("angle of the gradients of mu.W and logvar.W, degrees", ".1f", within=2)),
          lambda found: list(zip(found.seeds(), found.angles, strict=True))),
)  # fmt: skip

CLAIMS = (
    Claim("With each seed the tied model is worse by more than 8 nats per image.",
          lambda found: (found.costs() > 8).all()),
    Claim("In no active dimension of the free model do mu and log sigma have a correlation above "
          "0.9 in size.",
          lambda found: found.correlations.size > 0 and np.abs(found.correlations).max() < 0.9),
    Claim("Before the first step the gradients of the two heads stand at 20 to 160 degrees to each "
          "other: they point neither the same way nor opposite ways.",
          lambda found: ((found.angles > 20) & (found.angles < 160)).all()),
    Claim("The tied model has log sigma = mu for every image, and keeps mu below zero, where sigma "
          "is small: on average below -0.3.",
          lambda found: ((found.tied_log_sigma == found.tied_mu).all()
                         and found.tied_mu.mean() < -0.3)),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """mu against log sigma, free and tied; and the ELBO of each training."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(2, 2, 1.2))
    free, tied = (np.argsort(-mu.var(axis=0))[:3] for mu in (found.mu, found.tied_mu))
    dots = {
        left: ("two heads", found.mu[:SHOWN, free], found.log_sigma[:SHOWN, free]),
        middle: ("log σ tied to μ", found.tied_mu[:SHOWN, tied], found.tied_mu[:SHOWN, tied]),
    }
    reach = max(float(np.abs(mu).max()) for _, mu, _ in dots.values())
    for ax, (title, mu, log_sigma) in dots.items():
        for x, y, colour, mark in zip(mu.T, log_sigma.T, ("C0", "C6", "C3"), ".x+", strict=True):
            ax.plot(x, y, mark, ms=2, mew=0.4, alpha=0.5, color=colour, rasterized=True)
        ax.plot([-reach, reach], [-reach, reach], "k--", lw=0.8)
        ax.set(title=title, xlabel="μ", xlim=(-reach, reach), ylim=(-reach, 1.5))
    left.set_ylabel("log σ")
    for i, (model, mark) in enumerate({"free": "o", "tied": "s"}.items()):
        elbos = [run.elbo.elbo for run in found.runs if run.model == model]
        right.plot([i] * len(elbos), elbos, mark, color=f"C{6 * i}", ms=5, mfc="none")
    right.set(title="test ELBO, nats", xlim=(-0.6, 1.6))
    right.set_xticks((0, 1), ("free", "tied"))


CONCLUSION = (
    "No: log sigma is not mu, because each Dense(latent_dim) builds a new layer with its own "
    "random weights."
)
STUDY = Study("tied", "Is log sigma = mu?", CONCLUSION, run, TABLES, CLAIMS, draw)
