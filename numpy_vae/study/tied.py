"""Is log sigma = mu? Two heads on one h, and the model in which they are tied.

Letters of this module: N images, Z latent dimensions, A active ones among them, S seeds.

Each head is an affine map of the same h, with its own weights:

    mu = h W_mu + b_mu                           logvar = h W_logvar + b_logvar

In `Tied` log sigma = mu: one map for both, and q(z | x) = N(mu, e^2mu). Then logvar = 2 mu, and the
gradients of the two uses of mu add:

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
    """log sigma = mu; the log-variance head is never read."""

    def heads(self, h: Array) -> tuple[Array, Array]:
        """logvar = 2 mu, since log sigma² = 2 log sigma."""
        mu = self.mu_head.forward(h)
        return mu, 2 * mu

    def heads_backward(self, h: Array, dmu: Array, dlogvar: Array, grad: Self) -> Array:
        """mu is read twice, as the mean and as log sigma: the gradients add."""
        grad.logvar_head.W[:], grad.logvar_head.b[:] = 0, 0
        return self.mu_head.backward(h, dmu + 2 * dlogvar, grad.mu_head)


KINDS: dict[str, type[Network]] = {"free": Network, "tied": Tied}


class Run(NamedTuple):
    """One training, and its ELBO on the test images."""

    model: str
    seed: int
    elbo: Elbo
    active: int  # latent dimensions


class Found(NamedTuple):
    """The numbers of the page."""

    angles: Array  # (S,) degrees between the gradients of the two heads, before training
    runs: list[Run]
    mu: Array  # (N, Z) of the first free model, on test images
    log_sigma: Array  # (N, Z)
    tied_mu: Array  # (N, Z) of the first tied one
    tied_log_sigma: Array  # (N, Z)
    correlations: Array  # (A,) of mu and log sigma over the images, per active dimension

    def seeds(self) -> list[int]:
        """The seeds, in the order of the angles."""
        return [run.seed for run in self.runs if run.model == "free"]

    def costs(self) -> Array:
        """What the tie costs, in nats per image, (S,)."""
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
    setting.say(f"training {len(models)} models of {epochs} epochs each")
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
    """Correlations of mu and log sigma, (N, Z), over the images, per active dimension, (A,)."""
    active = np.flatnonzero(active_dimensions(mu))
    return np.array([np.corrcoef(mu[:, j], log_sigma[:, j])[0, 1] for j in active])


def angle_of_the_heads(vae: VAE, x: Array, seed: int) -> float:
    """Degrees between the gradients of mu.W and logvar.W, each as one long vector."""
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
    Table("Test images, nats per image; a seed fixes the initial weights, the order and the noise",
          (Column("model"), Column("seed", "d"), Column("ELBO", ".2f", within=1.5),
           Column("reconstruction", ".2f", within=2.0), Column("KL", ".2f", within=1.5),
           Column("active dimensions", "d", within=1)),
          lambda found: [(run.model, run.seed, *run.elbo, run.active)
                         for run in found.runs]),
    Table("Test images, models of the first seed",
          (Column("what"), Column("min", ".2f", within=0.3), Column("mean", ".2f", within=0.1),
           Column("max", ".2f", within=0.3)),
          lambda found: [
              ("free: correlation of mu, log sigma over dimensions", *spread(found.correlations)),
              ("tied: mu, over images and dimensions", *spread(found.tied_mu)),
          ]),
    Table("Before the first step",
          (Column("seed", "d"),
           Column("angle of the gradients of mu.W and logvar.W, degrees", ".1f", within=2)),
          lambda found: list(zip(found.seeds(), found.angles, strict=True))),
)  # fmt: skip

CLAIMS = (
    Claim("With every seed the tied model is worse by more than 8 nats per image.",
          lambda found: (found.costs() > 8).all()),
    Claim("In no active dimension of the first free model is the correlation of mu and log sigma "
          "above 0.9 in absolute value.",
          lambda found: found.correlations.size > 0 and np.abs(found.correlations).max() < 0.9),
    Claim("Before the first step the gradients of the two heads are 20 to 160 degrees apart: they "
          "point neither in the same direction nor in opposite ones.",
          lambda found: ((found.angles > 20) & (found.angles < 160)).all()),
    Claim("The first tied model has log sigma = mu for every image, and keeps mu mostly below "
          "zero, where sigma is small: its mean is below -0.3.",
          lambda found: ((found.tied_log_sigma == found.tied_mu).all()
                         and found.tied_mu.mean() < -0.3)),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """mu against log sigma in one dimension, free and tied; and what the tie costs."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(2, 2, 1.3))
    shown = {
        left: ("free: two heads", "C0", found.mu, found.log_sigma),
        middle: ("tied: log σ = μ", "C6", found.tied_mu, found.tied_log_sigma),
    }
    for ax, (title, colour, mu, log_sigma) in shown.items():
        j = np.argmax(mu.var(axis=0))
        x, y = mu[:SHOWN, j], log_sigma[:SHOWN, j]
        ax.axline((0, 0), slope=1, color="k", ls="--", lw=0.8)
        ax.text(-3.1, -2.8, "log σ = μ", rotation=45, ha="center", rotation_mode="anchor")
        ax.plot(x, y, "o", ms=3, mew=0, alpha=0.5, color=colour, rasterized=True)
        ax.set(title=title, xlabel="μ", xlim=(-4.7, 3.7), ylim=(-4.7, 1.5), aspect="equal")
    left.set_ylabel("log σ")
    elbos = [[run.elbo.elbo for run in found.runs if run.model == kind] for kind in KINDS]
    for i, values in enumerate(elbos):
        at = np.linspace(-0.1, 0.1, len(values)) + i
        right.plot(at, values, "o", color=f"C{6 * i}", ms=5, mfc="none")
    free, tied = map(np.mean, elbos)
    right.annotate("", (1, tied), (1, free), arrowprops={"arrowstyle": "->", "shrinkA": 0})
    right.plot([0, 1], [free, free], "k:", lw=0.8)
    right.text(0.93, (free + tied) / 2, f"−{free - tied:.0f} nats", ha="right", va="center")
    right.set(title="test ELBO", ylabel="nats per image, higher is better", xlim=(-0.4, 1.4))
    right.set_xticks((0, 1), ("free", "tied"))


CONCLUSION = (
    "No: log sigma is not mu, because each Dense(latent_dim) builds a new layer with its own "
    "random weights."
)
STUDY = Study("tied", "Is log sigma = mu?", CONCLUSION, run, TABLES, CLAIMS, draw, 2.8)
