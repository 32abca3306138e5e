"""Sum or mean? The beta that the reductions of a loss hide, and what it does.

Letters of this module: B examples, D values of an image, Z latent dimensions.

A published loss reduces the two terms in ways of its own, R of the reconstruction over D values, K
of the KL over Z dimensions, and puts a weight w before the KL:

    loss = 1/B Σ_b [R_d c_bd + w K_z kl_bz]           c the cross-entropy or the squared error

Both reductions are a sum times a number: R = Σ / D or Σ, K = Σ / Z or Σ. A cross-entropy is a
negative log-likelihood as it stands. A squared error is one but for a factor and a constant: with a
Gaussian of variance v, (x - l)² = 2v nll - v log(2πv). So with r = 1/D or 1, k = 1/Z or 1, and
s = 1 or 2v, but for a constant

    loss = 1/B Σ_b [r s nll_b + w k kl_b] = r s 1/B Σ_b [nll_b + beta kl_b]
    beta = w k / (r s)                                 and 1 / (r s) is the common factor

nll_b and kl_b being the sums, in nats per image. Nobody who reads the loss of the first line sees
beta, and it changes with D. Whether the batch is summed or averaged is a factor of both terms,
hence not of beta: it multiplies the gradient by B. A step of gradient descent becomes B times as
long. Adam divides the factor out again, but for its eps.
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
BATCH = 128
STEPS = 50


class Code(NamedTuple):
    """A published loss: how it reduces its two terms, and the weight that it writes down."""

    name: str
    values: int  # D
    size: int  # Z
    pixels: str  # sum or mean over D
    latents: str  # sum or mean over Z
    weight: float = 1.0  # w
    variance: float | None = None  # v for a squared error, None for a cross-entropy

    @property
    def factor(self) -> float:
        """1 / (r s): the loss times this has the reconstruction in nats per image."""
        values = self.values if self.pixels == "mean" else 1
        return values if self.variance is None else values / (2 * self.variance)

    @property
    def beta(self) -> float:
        """w k / (r s): what then stands before the KL in nats per image."""
        size = self.size if self.latents == "mean" else 1
        return self.weight / size * self.factor

    @property
    def terms(self) -> tuple[str, str]:
        """What its two terms are, and how they are reduced."""
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
BETAS = 0.1, 1.0, 2.45, 3.07, 30.0, 392.0, 784.0  # those of the codes, and two beside them


class Run(NamedTuple):
    """One training with its beta, and what it makes of the test images."""

    beta: float
    test: Elbo  # at beta = 1, nats per image
    active: int  # latent dimensions
    pictures: Array  # (SHOWN, D) reconstructions

    @property
    def loss(self) -> float:
        """What it was trained for: reconstruction + beta KL, nats per image."""
        return self.test.reconstruction + self.beta * self.test.kl

    @property
    def per_pixel(self) -> float:
        """The same, averaged over the pixels."""
        return self.loss / self.pictures.shape[1]


class Walk(NamedTuple):
    """The same steps twice, with the gradient of the mean over the batch and of the sum."""

    optimiser: str
    first: float  # length of the first step, sum over mean
    apart: float  # distance of the two ends over the way of the mean
    elbos: tuple[float, float]  # mean and sum, at the end, nats per image


class Found(NamedTuple):
    """The numbers of the page."""

    measured: list[float]  # beta of each of CODES, from the derivative of its loss
    runs: list[Run]  # by beta
    walks: list[Walk]  # Adam, gradient descent
    images: Array  # (SHOWN, D)
    shape: tuple[int, int]

    def at(self, beta: float) -> Run:
        """The run with this beta."""
        return self.runs[BETAS.index(beta)]


def run(setting: Setting) -> Found:
    """Measure the betas of the codes, train with each, and sum the batch or average it."""
    seed = setting.seed
    data = setting.data if setting.quick else setting.images(20_000, 2000)
    hidden, latent, epochs, size = (64, 8, 8, 64) if setting.quick else (200, 20, 5, 128)
    images = to_float(data.test)
    runs = []
    for beta in BETAS:
        vae = VAE(data.train.shape[1], (hidden,), latent, rng=seed)
        test = train_and_test(
            vae, data, epochs=epochs, lr=2e-3, seed=seed, batch_size=size, beta=beta
        )
        active = int(active_dimensions(vae.encode(images)[0]).sum())
        runs.append(Run(beta, test, active, vae.reconstruct(images[:SHOWN])))
    measured = [measured_beta(code, seed) for code in CODES]
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

    With the common factor, slope = ∇nll·g + beta g·g.
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
    """Take the same steps with both gradients, in float64: B times the mean is the sum."""
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
    Table("Six published losses, and the beta that each has in nats per image",
          (Column("code"), Column("values of an image", "d"), *columns("reconstruction", "KL"),
           Column("weight", ".5g"), Column("beta", ".2f"),
           Column("beta, by the derivative of its loss", ".2f", within=0.01)),
          lambda found: [(code.name, code.values, *code.terms, code.weight, code.beta, beta)
                         for code, beta in zip(CODES, found.measured, strict=True)], images=False),
    Table("A squared error averaged over its values, KL weight 0.00025, on images of other sizes",
          (Column("image"), Column("values", "d"), Column("beta", ".2f")),
          lambda _: [(size, code.values, code.beta) for size, code in LARGER.items()],
          images=False),
    Table("One model, trained with each beta; test images, nats per image",
          (Column("beta", ".2f"), *columns("ELBO", "reconstruction", form=".2f", within=2.0),
           Column("KL", ".3f", within=0.02, factor=1.15),
           Column("active dimensions", "d", within=1), Column("its own loss", ".2f", within=2.0),
           Column("the same per pixel", ".3f", within=0.005)),
          lambda found: [(run.beta, *run.test, run.active, run.loss, run.per_pixel)
                         for run in found.runs]),
    Table(f"{STEPS} steps with the gradient of the sum over {BATCH} images, and of the mean",
          (Column("optimiser"), Column("first step, sum / mean", ".3f", within=0.001),
           Column("distance of the ends / way", ".0e", factor=10),
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
    Claim("Multiplied through, the six losses have beta = 784, 392, 3.07, 2.45, 1 and 1; and the "
          "derivative of each loss, with the reductions of its code, has the same beta to 1e-8.",
          betas_agree),
    Claim("At beta = 392 and 784 the KL is below 0.1 nats and no latent dimension is active.",
          lambda found: all(run.test.kl < 0.1 and run.active == 0
                            for run in found.runs if run.beta > 300)),
    Claim("Of the betas tried, 1 has the highest test ELBO, by more than 3 nats; at 392 and 784 it "
          "is lower by more than 20.",
          lambda found: all(found.at(1).test.elbo - run.test.elbo > (20 if run.beta > 300 else 3)
                            for run in found.runs if run.beta != 1)),
    Claim("By its own loss the best is beta = 0.1, lower than that of beta = 1 by more than 10 "
          "nats; and divided by the pixels all the losses look alike, between 0.1 and 0.4.",
          lambda found: (found.at(1).loss - found.at(0.1).loss > 10
                         and min(run.loss for run in found.runs) == found.at(0.1).loss
                         and all(0.1 < run.per_pixel < 0.4 for run in found.runs))),
    Claim("Sum or mean over the batch: with Adam the ends of 50 steps differ by less than 2 % of "
          "the way and 1 nat; with gradient descent the first step is 128 times as long, and the "
          "ELBO differs by more than 100 nats.",
          lambda found: (found.walks[0].apart < 0.02
                         and abs(found.walks[0].elbos[0] - found.walks[0].elbos[1]) < 1
                         and abs(found.walks[1].first - 128) < 1e-6
                         and abs(found.walks[1].elbos[0] - found.walks[1].elbos[1]) > 100)),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """The terms of the test ELBO against beta, with the codes; and what becomes of the images."""
    left, right = figure.subplots(1, 2, width_ratios=(1.75, 1))
    elbos, terms, kls = zip(*(run.test for run in found.runs), strict=True)
    left.plot(BETAS, np.negative(elbos), "C9o-", ms=4, label="-ELBO, their sum")
    left.plot(BETAS, terms, "C0^--", ms=4, label="reconstruction")
    left.plot(BETAS, kls, "C6s:", ms=4, label="KL")
    codes = {code.name: code.beta for code in CODES}
    flax, antixk = codes["Flax nnx toy"], ANTIXK.beta
    marks = (
        (codes["pytorch/examples, new"], "pytorch/\nexamples", "center"),
        (np.sqrt(flax * antixk), f"Flax toy {flax:.2f},\nAntixK {antixk:.2f}", "left"),
        (codes["Keras blog"], "Keras\nblog", "right"),
        (codes["Keras example, 2016"], "Keras\n2016", "left"),
    )
    for beta, name, align in marks:
        left.axvline(beta, color="0.85", lw=0.8, zorder=0)
        left.text(beta, 1.06 * max(terms), name, ha=align, va="bottom", fontsize=8)
    left.set(xlabel="beta", ylabel="test images, nats per image", ylim=(-5, 1.05 * max(terms)))
    left.set_xscale("log")
    left.legend(loc="center left", bbox_to_anchor=(0.55, 0.42))
    pictures = {f"{run.beta:.3g}": run.pictures for run in found.runs}
    draw_rows(right, {"data": found.images} | pictures, found.shape)
    right.set_ylabel("beta")


CONCLUSION = (
    "Sum over pixels and over latent dimensions, and average over images: any other mean changes β."
)
STUDY = Study("reductions", "Sum or mean?", CONCLUSION, run, TABLES, CLAIMS, draw, 3.6)
