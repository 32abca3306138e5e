"""Posterior collapse: a linear model where it can be worked out, and a nonlinear one.

Letters of this module: N images, D pixels, Z latent dimensions; gamma_1 >= gamma_2 >= ... the
eigenvalues of the covariance of the data; v the variance of the decoder (τ² on the page).

The optimum of the linear model is that of probabilistic PCA, as the page proves:

    gamma_j > beta v     sigma² = beta v / gamma_j    mean KL = log(gamma_j / (beta v)) / 2
    gamma_j <= beta v    sigma² = 1, mu = 0, KL = 0: the dimension is dead

A learned v becomes the mean of the eigenvalues that are left out. The KL of the nonlinear model is
measured, with and without warm-up, in which beta rises from 0 in the first half of the training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import posterior
from ..data.binarize import to_float
from ..data.dataset import Dataset
from ..likelihood import Gaussian, LearnedGaussian, Likelihood
from ..optim import Adam, cosine
from ..params import Array
from ..training.evaluate import Elbo, active_dimensions
from ..vae import VAE
from .linear import cubature, linear_optimum, variance_of
from .report import Claim, Column, Setting, Study, Table, columns
from .training import train_and_test

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPECTRUM = 2.0 ** (3 - np.arange(20))  # gamma of the small data: 8, 4, 2, ... D = 20
KEPT = 8  # Z of its models
LOW, HIGH = 2**-2.5, 2**-0.5  # two variances v, halfway between eigenvalues
IMAGE_LATENT, IMAGE_VARIANCE, IMAGE_BETA = 20, 0.1, 20.0
LEARNED = "learned"
USED = 0.1  # nats of KL that a dimension must cost to be counted as used


class Linear(NamedTuple):
    """A linear model after training, beside its closed form."""

    given: str  # v, or LEARNED
    beta: float
    threshold: float  # beta v
    values: Array  # (Z,) the largest eigenvalues
    kl: Array  # (Z,) mean KL of each dimension, largest first
    active: int
    gradient: float  # the largest entry at the closed form; NaN if not asked
    variance: float  # v, given or learned

    def predicted(self) -> Array:
        """log(gamma / (beta v)) / 2 where that is positive, else 0, (Z,)."""
        return np.log(np.maximum(self.values / self.threshold, 1)) / 2


class Curved(NamedTuple):
    """A nonlinear model after training."""

    beta: float
    warmup: bool
    seed: int
    test: Elbo  # nats per image
    kl: Array  # (Z,) on test images, largest first
    active: int
    idle: float  # the largest KL of an inactive dimension, 0 if there is none

    @property
    def used(self) -> int:
        """Dimensions with a KL above `USED`."""
        return int((self.kl > USED).sum())

    @property
    def loss(self) -> float:
        """-log p(x | z) + beta KL, what was minimised in the end, on test images."""
        return self.test.reconstruction + self.beta * self.test.kl


class Found(NamedTuple):
    """The numbers of the page."""

    small: list[Linear]
    images: Linear
    curved: list[Curved]
    mean_image: float  # cross-entropy of the test images with the mean training image

    def pairs(self, beta: float) -> list[tuple[Curved, Curved]]:
        """The trainings with this beta, without and with warm-up from the same seed."""
        plain = [run for run in self.curved if run.beta == beta and not run.warmup]
        warm = [run for run in self.curved if run.beta == beta and run.warmup]
        return list(zip(plain, warm, strict=True))


def run(setting: Setting) -> Found:
    """Train linear models on data of a known spectrum and on images, and nonlinear ones."""
    data = setting.data if setting.quick else setting.images(20_000, 2000)
    x = data_of_spectrum(SPECTRUM, 40, np.random.default_rng(setting.seed))
    settings = [(LOW, 1.0), (HIGH, 1.0), (LOW, 4.0), (LOW, 16.0), (LOW, 100.0), (None, 1.0)]
    setting.say(f"training {len(settings)} linear models on data of a known spectrum")
    small = [small_linear(x, v, beta, setting.seed) for v, beta in settings]
    setting.say("training a linear model on the images")
    images = image_linear(data, 30 if setting.quick else 12, setting.seed)
    hidden, latent, epochs = (40, 20, 10) if setting.quick else (100, 50, 8)
    one, two = setting.seed, setting.seed + 1
    trainings = [(1.0, False, one), (1.0, True, one), (1.0, False, two), (1.0, True, two)]
    trainings += [(5.0, False, one), (5.0, True, one), (200.0, False, one)]
    setting.say(f"training {len(trainings)} nonlinear models")
    curved = [train_nonlinear(data, hidden, latent, epochs, *each) for each in trainings]
    mean = (to_float(data.train, np.float64).sum(axis=0) + 0.5) / (len(data.train) + 1)
    test = to_float(data.test, np.float64).mean(axis=0)
    cross = -(test * np.log(mean) + (1 - test) * np.log(1 - mean)).sum()
    return Found(small, images, curved, float(cross))


def data_of_spectrum(values: Array, n: int, rng: np.random.Generator) -> Array:
    """Return x, (N, D), of mean 0, whose covariance has exactly these eigenvalues."""
    a = rng.standard_normal((n, len(values)))
    white = np.linalg.qr(a - a.mean(axis=0))[0] * np.sqrt(n)  # covariance I
    turn = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    return white * np.sqrt(values) @ turn.T


def draws(n: int, latent: int) -> Array:
    """The points of the cubature for each of n images, (2Z, N, Z)."""
    points = cubature(latent)[:, np.newaxis]
    return np.broadcast_to(points, (len(points), n, latent))


def small_linear(x: Array, variance: float | None, beta: float, seed: int) -> Linear:
    """Train on all of x at once, with no noise, from the initial weights of the package."""
    likelihood: Likelihood = LearnedGaussian() if variance is None else Gaussian(variance)
    vae = VAE(x.shape[1], (), KEPT, likelihood=likelihood, dtype=np.float64, rng=seed)
    adam, grads, eps = Adam(vae.params, 0.05), vae.params.zeros_like(), draws(len(x), KEPT)
    for step in range(1000):
        vae.backward(vae.forward(x, eps), beta, out=grads)
        adam.step(grads, cosine(step / 1000))
    given = f"{variance:.3f}" if variance else LEARNED
    v = variance or float(SPECTRUM[KEPT:].mean())
    best = linear_optimum(x, KEPT, v, beta)
    gradient = float(np.abs(best.backward(best.forward(x, eps), beta).flat).max())
    kl, active, _ = kl_of(vae, x)
    return Linear(given, beta, beta * v, SPECTRUM[:KEPT], kl, active, gradient, variance_of(vae))


def image_linear(data: Dataset, epochs: int, seed: int) -> Linear:
    """Train on the grey images, in minibatches, beside the eigenvalues of their covariance."""
    x = to_float(data.train)
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True).astype(np.float64))[::-1][:IMAGE_LATENT]
    vae = VAE(x.shape[1], (), IMAGE_LATENT, likelihood=Gaussian(IMAGE_VARIANCE), rng=seed)
    train_and_test(
        vae, data, epochs=epochs, lr=5e-3, seed=seed, schedule="cosine", beta=IMAGE_BETA,
        binarize="none", output_bias="data",
    )  # fmt: skip
    kl, active, _ = kl_of(vae, x)
    given, threshold = f"{IMAGE_VARIANCE}", IMAGE_BETA * IMAGE_VARIANCE
    return Linear(given, IMAGE_BETA, threshold, values, kl, active, np.nan, IMAGE_VARIANCE)


def train_nonlinear(
    data: Dataset, hidden: int, latent: int, epochs: int, beta: float, warmup: bool, seed: int
) -> Curved:
    """Train a Bernoulli model with more latent dimensions than it needs."""
    vae = VAE(data.train.shape[1], (hidden,), latent, rng=seed)
    size, rising = 64 if len(data.train) < 10_000 else 100, epochs // 2 if warmup else 0
    test = train_and_test(
        vae, data, epochs=epochs, lr=5e-3, seed=seed, batch_size=size, schedule="cosine",
        beta=beta, warmup=rising, output_bias="data",
    )  # fmt: skip
    return Curved(beta, warmup, seed, test, *kl_of(vae, to_float(data.test)))


def kl_of(vae: VAE, x: Array) -> tuple[Array, int, float]:
    """Mean KL of each dimension, largest first; active dimensions; the largest KL of the others."""
    mu, logvar = vae.encode(x)
    kl = posterior.kl_per_dimension(mu, logvar, posterior.standard_deviation(logvar)).mean(axis=0)
    active = active_dimensions(mu)
    return np.sort(kl)[::-1], int(active.sum()), float(np.max(kl[~active], initial=0))


def nonlinear_rows(found: Found) -> list[tuple[Any, ...]]:
    """The nonlinear models, and what the mean image alone is worth."""
    rows: list[tuple[Any, ...]] = []
    for r in found.curved:
        beta, warmup = f"{r.beta:.0f}", "yes" if r.warmup else "no"
        rows.append((beta, warmup, r.seed, *r.test, r.loss, r.active, r.used, r.idle))
    nll = found.mean_image
    return [*rows, ("the mean image", "", "", -nll, nll, 0.0, nll, 0, 0, 0.0)]


TABLES = (
    Table("Linear model with 8 latent dimensions, data with γ = 8, 4, 2, 1, ... 2⁻¹⁶; KL in nats",
          (Column("given τ²"), Column("β", ".0f"), Column("τ² in the end", ".4f", factor=1.01),
           Column("βτ²", ".4f"), *columns("γ > βτ²", "active", form="d"),
           Column("KL, formula", ".2f"), Column("KL, trained", ".2f", within=0.05),
           Column("largest error of a dimension", ".3f", within=0.02, factor=3),
           Column("gradient at the closed form", ".0e", within=1e-10)),
          lambda found: [(m.given, m.beta, m.variance, m.threshold,
                          (m.values > m.threshold).sum(), m.active, m.predicted().sum(), m.kl.sum(),
                          np.abs(m.kl - m.predicted()).max(), m.gradient) for m in found.small],
          images=False),
    Table(f"Linear model with {IMAGE_LATENT} latent dimensions on the images, "
          f"τ² = {IMAGE_VARIANCE}, β = {IMAGE_BETA:.0f}: KL in nats, largest first",
          (Column("dimension", "d"), Column("γ", ".2f", within=0.02),
           Column("KL, formula", ".3f", within=0.005), Column("KL, trained", ".3f", within=0.02)),
          lambda found: [(j + 1, m.values[j], m.predicted()[j], m.kl[j])
                         for m in [found.images] for j in range(10)]),
    Table("Nonlinear Bernoulli model, test images, nats per image",
          (*columns("β", "warm-up", "seed"),
           *columns("ELBO", "reconstruction", form=".2f", within=1),
           Column("KL", "z.2f", within=0.5), Column("reconstruction + β KL", ".2f", within=1),
           Column("active", "d", within=8), Column(f"KL > {USED}", "d", within=4),
           Column("largest KL of an inactive dimension", ".4f", within=0.003)),
          nonlinear_rows),
)  # fmt: skip


def active_as_predicted(found: Found) -> bool:
    """Whether each small model has as many active dimensions, and the KL, of the closed form."""
    return all(
        m.active == (m.values > m.threshold).sum()
        and (m.given == LEARNED or (np.abs(m.kl - m.predicted()) < 0.05).all())
        and m.gradient < 1e-9
        and abs(m.beta * m.variance / m.threshold - 1) < 0.01
        for m in found.small
    )


def images_as_predicted(found: Found) -> bool:
    """Whether the images use the first three dimensions as predicted, and no more than six."""
    m = found.images
    predicted = m.predicted()
    return bool(
        (m.values > m.threshold).sum() == 6
        and (np.abs(m.kl[:3] / predicted[:3] - 1) < 0.3).all()
        and m.kl[5] < predicted[5]
        and (m.kl[6:] < 0.04).all()
        and 0.8 < m.kl.sum() / predicted.sum() < 1.05
    )


def collapsed(found: Found) -> bool:
    """Whether nothing passes through z at a large beta, and little through inactive dimensions."""
    linear = [m for m in found.small if m.beta == 100]
    curved = [run for run in found.curved if run.beta == 200]
    return (
        bool(linear and curved)
        and all(m.active == 0 for m in linear)
        and all(run.active == 0 for run in curved)
        and all(abs(run.test.elbo + found.mean_image) < 2 for run in curved)
        and all(run.idle < 0.02 for run in found.curved)
    )


CLAIMS = (
    Claim("On the data of known spectrum, as many dimensions are active as there are γ > βτ². With "
          "τ² given, each KL is within 0.05 nats of log(γ/βτ²)/2, or of 0 where γ < βτ². A learned "
          "τ² is within 1 % of the mean of the discarded eigenvalues. At the closed form no entry "
          "of the gradient exceeds 1e-9.",
          active_as_predicted),
    Claim("On the images six γ exceed βτ² = 2. The first three KLs are within 30 % of "
          "log(γ/βτ²)/2, the sixth is below it, and no later one exceeds 0.04 nats. The total KL "
          "is 80 to 105 % of the total of the formula.",
          images_as_predicted),
    Claim("With β = 1, warm-up raises the test ELBO of the nonlinear model by more than 2 nats for "
          "each seed. It also raises the number of dimensions with a KL above 0.1 nats, summed "
          "over both seeds.",
          lambda found: (sum(w.used - p.used for p, w in found.pairs(1)) > 0
                         and all(w.test.elbo - p.test.elbo > 2 for p, w in found.pairs(1)))),
    Claim("With β = 5 and no warm-up, no dimension of the nonlinear model is active. With warm-up "
          "at least five have a KL above 0.1 nats, and reconstruction + 5 KL, the final objective "
          "of both, is better by more than 8 nats.",
          lambda found: [p.active == 0 and w.used >= 5 and p.loss - w.loss > 8
                         for p, w in found.pairs(5)] == [True]),
    Claim("With β = 100 (linear) and β = 200 (nonlinear) no dimension is active, and the nonlinear "
          "ELBO is within 2 nats of that of the mean image. For every β, an inactive dimension of "
          "a nonlinear model costs less than 0.02 nats.",
          collapsed),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """KL against gamma / (beta v); and the sorted KL with and without warm-up."""
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    left.set(xscale="log", xlim=(2e-3, 3e4), xlabel="γ / βτ²", ylabel="KL of the dimension, nats")
    near = left.inset_axes((0.66, 0.09, 0.34, 0.34), xlim=(0.4, 3.1), ylim=(-0.04, 0.58))
    near.set(xticks=(1, 2, 3), yticks=(0, 0.2, 0.4))
    near.set_title("enlarged, near γ = βτ²", fontsize=8)
    ratios = np.logspace(-2.6, 3.4, 2000)
    looks = {f"{LOW:.3f}": "C0o", f"{HIGH:.3f}": "C6s", LEARNED: "C2D"}
    for ax in left, near:
        ax.plot(ratios, np.log(np.maximum(ratios, 1)) / 2, "k-", lw=0.8, label="log(γ/βτ²)/2, or 0")
        for m in found.small:
            size, face, more = (4, None, "") if m.beta == 1 else (7, "none", ", larger β")
            label = f"τ² {m.given}{more}" if m.beta < 5 else None  # the others look the same
            ax.plot(m.values / m.threshold, m.kl, looks[m.given], ms=size, mfc=face, label=label)
        m = found.images
        ax.plot(m.values / m.threshold, m.kl, "C7x", ms=4, label=f"images, β = {m.beta:.0f}")
        ax.axvline(1, ymax=0.45, color="k", lw=0.6, ls=":")
    left.legend(fontsize=8, loc="upper left")
    lines = {(1.0, False): "C6--", (1.0, True): "C0-", (5.0, True): "C3-."}
    for (beta, warmup), line in lines.items():
        runs = [run for run in found.curved if (run.beta, run.warmup) == (beta, warmup)]
        for i, run in enumerate(runs):
            label = f"β = {beta:.0f}, {'' if warmup else 'no '}warm-up" if i == 0 else None
            x = np.arange(1, len(run.kl) + 1)
            right.step(x, run.kl, line, where="mid", lw=1.2, label=label)
    right.axhline(USED, color="k", lw=0.6, ls=":")
    right.set(xlabel="latent dimension, largest KL first", ylabel="KL, nats per test image")
    right.legend(fontsize=8)


QUESTION = "Posterior collapse: why are some dimensions dead?"
CONCLUSION = (
    "A dead dimension need not be a failure: the ELBO prefers one whenever the variance it could "
    "explain is smaller than the decoder's noise variance."
)
STUDY = Study("collapse", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw, 3.4)
