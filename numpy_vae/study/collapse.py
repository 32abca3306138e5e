"""Why are some dimensions dead? Where the answer can be worked out, and where training decides.

Letters of this module: N images, D pixels, Z latent dimensions; lambda_1 >= lambda_2 >= ... the
eigenvalues of the covariance of the data.

**The linear model** with a Gaussian likelihood of given variance v. As nll = |x - l|² / 2v + const,

    E[nll] + beta KL = beta (E|x - l|² / 2v' + KL) + const            with v' = beta v

so that beta and v count only by their product. With beta = 1 the best q is the true posterior, if
that is diagonal, and -ELBO is then -log N(x; b, C), C = Wᵀ W + v' I. C has eigenvalues
c_1 ... c_Z >= v', the others are v', and with its axes along those of the data the mean of it is

    (D log 2π + Σ_j log c_j + lambda_j / c_j) / 2

Each c_j by itself: the derivative (c - lambda) / c² is negative up to c = lambda, so the best
c >= v' is max(lambda_j, v'). The row of W has the length √(c_j - v'), and

    lambda_j > v'    sigma² = v' / lambda_j    variance of mu = 1 - v' / lambda_j
                     mean KL = (1 - v'/lambda_j + v'/lambda_j - 1 - log(v'/lambda_j)) / 2
                             = log(lambda_j / v') / 2
    lambda_j <= v'   W = 0    sigma² = 1    mu = 0    KL = 0: the dimension is dead

A learned v becomes the mean of the eigenvalues that are left out. That is less than the smallest
that is kept: then no dimension is dead.

**The nonlinear model** has no such formula. Its KL is measured, with and without warm-up: beta
rises from 0 in the first half of the training. In the second half both minimise the same, so what
differs in the end is not what the objective asks for.
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

SPECTRUM = 2.0 ** (3 - np.arange(20))  # lambda of the small data: 8, 4, 2, ... D = 20
KEPT = 8  # Z of its model
LOW, HIGH = 2**-2.5, 2**-0.5  # two variances v, halfway between eigenvalues
IMAGE_LATENT, IMAGE_VARIANCE, IMAGE_BETA = 20, 0.1, 20.0
LEARNED = "v learned"
USED = 0.1  # nats of KL that a dimension must cost to be counted as used


class Linear(NamedTuple):
    """A linear model after training, beside its closed form."""

    likelihood: str
    beta: float
    threshold: float  # v' = beta v
    values: Array  # (Z,) the largest eigenvalues
    kl: Array  # (Z,) mean KL of each dimension, largest first
    active: int
    gradient: float  # the largest entry at the closed form; NaN if not asked
    variance: float  # v, given or learned

    def predicted(self) -> Array:
        """log(lambda / v') / 2 where that is positive, else 0, (Z,)."""
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
    rng = np.random.default_rng(setting.seed)
    x = data_of_spectrum(SPECTRUM, 40, rng)
    settings = [(LOW, 1.0), (HIGH, 1.0), (LOW, 4.0), (LOW, 16.0), (LOW, 100.0), (None, 1.0)]
    small = [small_linear(x, v, beta, setting.seed) for v, beta in settings]
    images = image_linear(data, 30 if setting.quick else 12, setting.seed)
    hidden, latent, epochs = (40, 20, 10) if setting.quick else (100, 50, 8)
    one, two = setting.seed, setting.seed + 1
    trainings = [(1.0, False, one), (1.0, True, one), (1.0, False, two), (1.0, True, two)]
    trainings += [(5.0, False, one), (5.0, True, one), (200.0, False, one)]
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
    name = f"v = {variance:.3f}" if variance else LEARNED
    v = variance or float(SPECTRUM[KEPT:].mean())
    best = linear_optimum(x, KEPT, v, beta)
    gradient = float(np.abs(best.backward(best.forward(x, eps), beta).flat).max())
    kl, active, _ = kl_of(vae, x)
    return Linear(name, beta, beta * v, SPECTRUM[:KEPT], kl, active, gradient, variance_of(vae))


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
    name, threshold = f"v = {IMAGE_VARIANCE}", IMAGE_BETA * IMAGE_VARIANCE
    return Linear(name, IMAGE_BETA, threshold, values, kl, active, np.nan, IMAGE_VARIANCE)


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
    Table("Linear model with 8 latent dimensions, data with λ = 8, 4, 2, 1, ... 2⁻¹⁶",
          (Column("likelihood"), Column("β", ".0f"), Column("v found", ".4f", factor=1.01),
           Column("βv predicted", ".4f"), *columns("λ > βv", "active", form="d"),
           Column("KL predicted, nats", ".2f"), Column("KL found", ".2f", within=0.05),
           Column("largest error of a dimension", ".3f", within=0.02, factor=3),
           Column("gradient at the closed form", ".0e", within=1e-10)),
          lambda found: [(m.likelihood, m.beta, m.variance, m.threshold,
                          (m.values > m.threshold).sum(), m.active, m.predicted().sum(), m.kl.sum(),
                          np.abs(m.kl - m.predicted()).max(), m.gradient) for m in found.small],
          images=False),
    Table(f"Linear model with {IMAGE_LATENT} latent dimensions on the images, "
          f"v = {IMAGE_VARIANCE}, β = {IMAGE_BETA:.0f}: KL in nats, largest first",
          (Column("dimension", "d"), Column("λ", ".2f", within=0.02),
           Column("predicted", ".3f", within=0.005), Column("found", ".3f", within=0.02)),
          lambda found: [(j + 1, m.values[j], m.predicted()[j], m.kl[j])
                         for m in [found.images] for j in range(10)]),
    Table("Nonlinear Bernoulli model, test images, nats per image",
          (*columns("β", "warm-up", "seed"),
           *columns("ELBO", "reconstruction", form=".2f", within=1),
           Column("KL", "z.2f", within=0.5), Column("reconstruction + β KL", ".2f", within=1),
           Column("active", "d", within=8), Column(f"KL > {USED}", "d", within=4),
           Column("largest KL of an inactive one, 0 if none is", ".4f", within=0.003)),
          nonlinear_rows),
)  # fmt: skip


def active_as_predicted(found: Found) -> bool:
    """Whether each small model has as many active dimensions, and the KL, of the closed form."""
    return all(
        m.active == (m.values > m.threshold).sum()
        and (m.likelihood == LEARNED or (np.abs(m.kl - m.predicted()) < 0.05).all())
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
    Claim("On the data of known spectrum each model, of given or learned v, has just as many "
          "active dimensions as there are λ > βv; with a given v each KL is within 0.05 nats of "
          "log(λ/βv)/2, or of 0 where λ < βv; the learned v is within 1 % of the mean of the "
          "eigenvalues left out; and with these v no entry of the gradient exceeds 1e-9 at the "
          "closed form.",
          active_as_predicted),
    Claim("On the images six λ exceed βv = 2; the first three KLs are within 30 % of log(λ/βv)/2, "
          "the sixth is below its own, no later one is above 0.04 nats, and the total KL is 80 to "
          "105 % of the predicted total.",
          images_as_predicted),
    Claim("With β = 1 warm-up raises the nonlinear model's test ELBO by more than 2 nats with each "
          "seed, and the number of dimensions with a KL above 0.1 nats, summed over both seeds.",
          lambda found: (sum(w.used - p.used for p, w in found.pairs(1)) > 0
                         and all(w.test.elbo - p.test.elbo > 2 for p, w in found.pairs(1)))),
    Claim("With β = 5 it has no active dimension without warm-up. After warm-up five or more have "
          "a KL above 0.1 nats, and reconstruction + 5 KL, which both minimise in the end, is "
          "better by more than 8 nats.",
          lambda found: [p.active == 0 and w.used >= 5 and p.loss - w.loss > 8
                         for p, w in found.pairs(5)] == [True]),
    Claim("With β = 100 (linear) and β = 200 (nonlinear) no dimension is active; the nonlinear "
          "ELBO is then within 2 nats of that of the mean image. With every β an inactive "
          "dimension of a nonlinear model costs less than 0.02 nats.",
          collapsed),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """KL against lambda / v'; and the sorted KL with and without warm-up."""
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    ratios = np.logspace(-2.6, 3.4, 200)
    left.plot(ratios, np.log(np.maximum(ratios, 1)) / 2, "k-", lw=0.8, label="log(λ/βv)/2, or 0")
    labels = {("v = 0.177", 4.0): "v = 0.177, larger β"}
    markers = {"v = 0.177": "C0o", "v = 0.707": "C6s", LEARNED: "C2D"}
    for m in found.small:
        size, face = (4, None) if m.beta == 1 else (7, "none")
        name = labels.get((m.likelihood, m.beta), f"{m.likelihood}, β = 1" if size == 4 else None)
        look = markers[m.likelihood]
        left.plot(m.values / m.threshold, m.kl, look, ms=size, mfc=face, label=name)
    m = found.images
    left.plot(m.values / m.threshold, m.kl, "C7x", ms=4, label="images, β = 20")
    left.axvline(1, color="k", lw=0.6, ls=":")
    left.set(xscale="log", xlabel="λ / βv", ylabel="KL of the dimension, nats")
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
STUDY = Study("collapse", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw, 3.2)
