"""KL and reconstruction loss: sum or mean? The beta that the reductions hide, and what it does.

Letters of this module: B images, D values of an image, Z latent dimensions.

A published loss divides the two sums by R_x (D for a mean over the values, else 1) and R_z (Z for a
mean over the latent dimensions, else 1), and multiplies the KL by a weight:

    loss = 1/B Σ_b [1/R_x Σ_d cost_bd + weight/R_z Σ_z kl_bz]

The sum of the cost is nll for a cross-entropy, and 2 v nll - D v log(2πv) for a squared error, with
a Gaussian of variance v. With 2 v = 1 for a cross-entropy, and in nats per image,

    loss R_x / (2 v) = 1/B Σ_b [nll_b + beta kl_b] + constant,      beta = weight R_x / (2 v R_z)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import posterior
from ..bounds import Terms
from ..data.binarize import to_float
from ..data.dataset import Dataset
from ..likelihood import Bernoulli, Gaussian
from ..network import Trace
from ..optim import Adam
from ..params import Array
from ..training.evaluate import Elbo, active_dimensions, evaluate_elbo
from ..vae import VAE
from .pictures import draw_rows, shape_of
from .report import Claim, Column, Setting, Study, Table, columns
from .training import draw_batch, train_and_test

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REDUCE: dict[str, Callable[..., Any]] = {"sum": np.sum, "mean": np.mean}
SHOWN = 5  # test images
BATCH, STEPS = 128, 50


class Code(NamedTuple):
    """A published loss: how it reduces its two terms, and its weight of the KL."""

    name: str
    values: int  # D
    size: int  # Z
    pixels: str  # sum or mean over D
    latents: str  # sum or mean over Z
    weight: float = 1.0
    variance: float | None = None  # v for a squared error, None for a cross-entropy

    @property
    def factor(self) -> float:
        """R_x / (2 v): the loss times this has the reconstruction in nats per image."""
        values = self.values if self.pixels == "mean" else 1
        return values if self.variance is None else values / (2 * self.variance)

    @property
    def beta(self) -> float:
        """The weight of the KL in nats per image, then."""
        size = self.size if self.latents == "mean" else 1
        return self.weight / size * self.factor

    @property
    def terms(self) -> tuple[str, str]:
        """Names of its two terms, with their reductions."""
        nll = "cross-entropy" if self.variance is None else "squared error"
        kl = f"mean over {self.size}" if self.latents == "mean" else "sum"
        return f"{nll}, {self.pixels}", kl


ANTIXK = Code("AntixK", 3 * 64 * 64, 128, "mean", "sum", 0.00025, 0.5)
CODES = (
    Code("Keras example, 2016", 784, 2, "mean", "sum"),
    Code("Keras blog", 784, 2, "mean", "mean"),
    ANTIXK,
    Code("Flax nnx toy", 784, 32, "mean", "mean", 0.1),
    Code("pytorch/examples, old", 784, 20, "mean", "sum", 1 / 784),
    Code("pytorch/examples, new", 784, 20, "sum", "sum"),
)
SIZES = (1, 28), (3, 64), (3, 256)
LARGER = {f"{c} x {n} x {n}": ANTIXK._replace(values=c * n * n) for c, n in SIZES}
BETAS = 0.1, 1.0, 2.45, 3.07, 30.0, 392.0, 784.0  # those of the codes, and two more


class Run(NamedTuple):
    """A model trained with this beta, and its results on test images."""

    beta: float
    test: Elbo  # at beta = 1, nats per image
    active: int  # latent dimensions
    pictures: Array  # (SHOWN, D) reconstructions

    @property
    def loss(self) -> float:
        """Its training loss: reconstruction + beta KL, nats per image."""
        return self.test.reconstruction + self.beta * self.test.kl

    @property
    def per_pixel(self) -> float:
        """The same, averaged over the pixels."""
        return self.loss / self.pictures.shape[1]


class Walk(NamedTuple):
    """The same steps with the gradient of the mean over the batch, and with that of the sum."""

    optimiser: str
    first: float  # length of the first step, sum / mean
    apart: float  # distance between the two ends / from the start, for the mean
    elbos: tuple[float, float]  # mean and sum, at the end, nats per image


class Found(NamedTuple):
    """The numbers of the page."""

    measured: list[float]  # beta of each of CODES, from the derivative of its loss
    runs: list[Run]  # by beta
    walks: list[Walk]  # Adam, gradient descent
    images: Array  # (SHOWN, D)
    shape: tuple[int, ...]

    def at(self, beta: float) -> Run:
        """The run with this beta."""
        return self.runs[BETAS.index(beta)]


def run(setting: Setting) -> Found:
    """Measure the betas of the codes, train with each, and sum or average over the batch."""
    seed = setting.seed
    data = setting.data if setting.quick else setting.images(20_000, 2000)
    hidden, latent, epochs, size = (64, 8, 8, 64) if setting.quick else (200, 20, 5, 128)
    images = to_float(data.test)
    runs = []
    setting.say(f"training {len(BETAS)} models")
    for beta in BETAS:
        vae = VAE(data.train.shape[1], (hidden,), latent, rng=seed)
        test = train_and_test(
            vae, data, epochs=epochs, lr=2e-3, seed=seed, batch_size=size, beta=beta
        )
        active = int(active_dimensions(vae.encode(images)[0]).sum())
        runs.append(Run(beta, test, active, vae.reconstruct(images[:SHOWN])))
    measured = [measured_beta(code, seed) for code in CODES]
    setting.say(f"{STEPS} steps with the sum over a batch, and with the mean")
    walks = [walk(optimiser, data, seed) for optimiser in ("Adam", "gradient descent")]
    return Found(measured, runs, walks, images[:SHOWN], shape_of(data))


def reduced_loss(code: Code, trace: Trace) -> Any:
    """The loss as the code writes it, with its own reductions."""
    x, l = trace.x, trace.logits
    if code.variance is None:
        pixels = Bernoulli().nll(x[..., np.newaxis], l[..., np.newaxis])  # (B, D)
    else:
        pixels = (x - l) * (x - l)
    latents = posterior.kl_per_dimension(trace.mu, trace.logvar, trace.sigma)  # (B, Z)
    of_image = REDUCE[code.pixels](pixels, axis=1)
    return (of_image + code.weight * REDUCE[code.latents](latents, axis=1)).mean()


def measured_beta(code: Code, seed: int) -> float:
    """beta from the slope of the reduced loss along the gradient g of the KL, by a complex step.

    Times the common factor it is ∇nll·g + beta g·g.
    """
    rng = np.random.default_rng(seed)
    likelihood = Bernoulli() if code.variance is None else Gaussian(code.variance)
    vae = VAE(code.values, (6,), code.size, "tanh", likelihood, np.float64, rng)
    vae.params.flat[:] += 0.01 * rng.standard_normal(vae.params.flat.size)  # sigma is not 1
    x, eps = rng.random((4, code.values)), rng.standard_normal((4, code.size))
    trace = vae.forward(x, eps)
    mean, none = np.full(4, 1 / 4), np.zeros(4)
    of_nll = vae.terms_backward(trace, Terms(mean, none)).flat
    g = vae.terms_backward(trace, Terms(none, mean)).flat
    moved = vae.astype(np.complex128)
    moved.params.flat[:] += 1e-30j * g
    slope = reduced_loss(code, moved.forward(x, eps)).imag / 1e-30
    return float((code.factor * slope - of_nll @ g) / (g @ g))


def walk(optimiser: str, data: Dataset, seed: int) -> Walk:
    """Take the same steps with both gradients, in float64; the sum is B times the mean."""
    ends, firsts = [], []
    for factor in 1, BATCH:
        vae = VAE(data.train.shape[1], (50,), 8, dtype=np.float64, rng=seed)
        start = vae.params.flat.copy()
        adam, rng = Adam(vae.params), np.random.default_rng(seed)
        for t in range(STEPS):
            trace = vae.forward(*draw_batch(vae, data, BATCH, rng))
            weights = np.full(BATCH, factor / BATCH)
            grads = vae.terms_backward(trace, Terms(weights, weights))
            if optimiser == "Adam":
                adam.step(grads)
            else:
                vae.params.flat[:] -= 1e-4 * grads.flat
            if t == 0:
                firsts.append(np.linalg.norm(vae.params.flat - start))
        ends.append(vae)
    mean, total = (vae.params.flat for vae in ends)
    apart = float(np.linalg.norm(total - mean) / np.linalg.norm(mean - start))
    one, other = (evaluate_elbo(vae, data.test[:500], draw=True, rng=seed).elbo for vae in ends)
    return Walk(optimiser, float(firsts[1] / firsts[0]), apart, (one, other))


TABLES = (
    Table("Six published losses, and the β of each in nats per image",
          (Column("code"), Column("values of an image", "d"), *columns("reconstruction", "KL"),
           Column("weight in the code", ".5g"), Column("β", ".2f"),
           Column("β from the derivative", ".2f", within=0.01)),
          lambda found: [(code.name, code.values, *code.terms, code.weight, code.beta, beta)
                         for code, beta in zip(CODES, found.measured, strict=True)], images=False),
    Table(f"Squared error averaged over the values, KL weight {ANTIXK.weight:g}, other image sizes",
          (Column("image"), Column("values", "d"), Column("β", ".2f")),
          lambda _: [(size, code.values, code.beta) for size, code in LARGER.items()],
          images=False),
    Table("One model, trained with each β; test images, nats per image",
          (Column("β", ".2f"), *columns("ELBO", "reconstruction", form=".2f", within=2.0),
           Column("KL", ".3f", within=0.02, factor=1.15),
           Column("active dimensions", "d", within=1), Column("its own loss", ".2f", within=2.0),
           Column("own loss per pixel", ".3f", within=0.005)),
          lambda found: [(run.beta, *run.test, run.active, run.loss, run.per_pixel)
                         for run in found.runs]),
    Table(f"{STEPS} steps with the gradient of the sum over {BATCH} images, and with that of the "
          "mean",
          (Column("optimiser"), Column("length of the first step, sum / mean", ".3f", within=0.001),
           Column("distance between the ends / from the start", ".0e", factor=10),
           Column("ELBO, mean", ".2f", within=1.5), Column("ELBO, sum", ".2f", within=3)),
          lambda found: [(walk.optimiser, walk.first, walk.apart, *walk.elbos)
                         for walk in found.walks]),
)  # fmt: skip


def betas_agree(found: Found) -> bool:
    """Whether the codes have the betas of the claim, by the formula and by the derivative."""
    named = [784, 392, 3.07, 2.45, 1, 1]
    return [round(code.beta, 2) for code in CODES] == named and all(
        abs(measured - code.beta) < 1e-8 * code.beta
        for code, measured in zip(CODES, found.measured, strict=True)
    )


CLAIMS = (
    Claim("By the formula, the six losses have β = 784, 392, 3.07, 2.45, 1 and 1. The derivative "
          "of each loss, with the reductions of its code, gives the same β to 1e-8.",
          betas_agree),
    Claim("At β = 392 and 784, with noise of standard deviation 1, the KL is below 0.1 nats and no "
          "latent dimension is active.",
          lambda found: all(run.test.kl < 0.1 and run.active == 0
                            for run in found.runs if run.beta > 300)),
    Claim("Of the betas tried, 1 has the highest test ELBO, by more than 3 nats. At 392 and 784 it "
          "is lower by more than 20.",
          lambda found: all(found.at(1).test.elbo - run.test.elbo > (20 if run.beta > 300 else 3)
                            for run in found.runs if run.beta != 1)),
    Claim("The model with the lowest own loss is that of β = 0.1, more than 10 nats below β = 1. "
          "Divided by the number of pixels all the losses look alike: between 0.1 and 0.4.",
          lambda found: (found.at(1).loss - found.at(0.1).loss > 10
                         and min(run.loss for run in found.runs) == found.at(0.1).loss
                         and all(0.1 < run.per_pixel < 0.4 for run in found.runs))),
    Claim("Sum or mean over the batch: after 50 steps of Adam the two ends differ by less than 2 % "
          "of the distance from the start, and by less than 1 nat. With gradient descent the first "
          "step is 128 times as long, and the ELBO differs by more than 100 nats.",
          lambda found: (found.walks[0].apart < 0.02
                         and abs(found.walks[0].elbos[0] - found.walks[0].elbos[1]) < 1
                         and abs(found.walks[1].first - 128) < 1e-6
                         and abs(found.walks[1].elbos[0] - found.walks[1].elbos[1]) > 100)),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """The terms of the test ELBO against beta, with the codes; reconstructions for each beta."""
    left, right = figure.subplots(1, 2, width_ratios=(1.75, 1))
    elbos, terms, kls = zip(*(run.test for run in found.runs), strict=True)
    losses = np.negative(elbos)
    for values, look, label, x, y in (
        (losses, "C9o-", "−ELBO, their sum", 0.6, 0.94 * max(losses)),
        (terms, "C0^--", "reconstruction", 3.8, terms[3] - 12),
        (kls, "C6s:", "KL", 1.3, kls[1] + 3),
    ):
        left.plot(BETAS, values, look, ms=4)
        left.text(x, y, label, color=look[:2])
    lowest = BETAS[losses.argmin()], losses.min()
    left.plot(*lowest, "C9o", ms=10, mfc="none")
    left.text(lowest[0], lowest[1] + 11, f"lowest at {lowest[0]:g}", ha="center")
    for beta, name, align in (
        (1, "pytorch/\nexamples", "center"), (2.74, "Flax toy 2.45,\nAntixK 3.07", "left"),
        (392, "Keras\nblog", "right"), (784, "Keras\n2016", "left"),
    ):  # fmt: skip
        left.axvline(beta, color="0.85", lw=0.8, zorder=0)
        left.text(beta, 1.06 * max(terms), name, ha=align, va="bottom", fontsize=8)
    left.text(3, 58, "Trained with z = μ + σε. The Keras example\nhas z = μ + 0.01 σε, and learns.")
    left.set(xlabel="β", ylabel="test images, nats per image", ylim=(-5, 1.05 * max(terms)))
    left.set_xscale("log")
    pictures = {f"{run.beta:.3g}": run.pictures for run in found.runs}
    draw_rows(right, {"data": found.images} | pictures, found.shape)
    right.set_ylabel("β")


QUESTION = "KL and reconstruction loss: sum or mean?"
CONCLUSION = (
    "Sum over pixels and over latent dimensions, and average over images: any other mean changes β."
)
STUDY = Study("reductions", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw, 3.6)
