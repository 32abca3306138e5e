"""The reparameterization trick: how can mu + sigma eps be a sample?

Letters of this module: B images, Z latent dimensions, K draws of each.

Two estimators of the gradient of E_q[f(z)] from one draw: the pathwise one (the reparameterization
trick) differentiates f through z; the score function (REINFORCE) differentiates log q at a fixed z.

                      by mu                by logvar
    pathwise          f'(z)                f'(z) eps sigma / 2
    score function    f(z) eps / sigma     f(z) (eps² - 1) / 2

As E[∇log q] = 0, a baseline may be subtracted from f: here its mean over the other draws. With eps
scaled by a constant c ("epsilon_std"), z is a draw from N(mu, c² sigma²), but the KL term is still
that of sigma: the two belong to different q, and their sum bounds nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import posterior
from ..bounds import Terms
from ..data.binarize import batch, minibatches
from ..data.dataset import Dataset
from ..optim import Adam
from ..params import Array
from ..seeds import spawn_streams
from ..training.loop import train_step
from ..vae import VAE
from .report import Claim, Column, Setting, Study, Table, columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MU, LOGVAR, DRAWS = 0.7, -1.2, 100_000  # of the first part
NOISES = (1.0, 0.1, 0.01)  # c, by which eps is multiplied in training; 1 is right


class Law(NamedTuple):
    """A distribution with which the draws are compared."""

    name: str
    distance: float  # Kolmogorov-Smirnov: the largest between two distribution functions
    quantiles: tuple[float, float, float]  # 5, 50 and 95 %


class Estimator(NamedTuple):
    """One estimator of the gradients of E_q[-log p(x | z)], by mu and by logvar: the axis of 2."""

    name: str
    variances: Array  # (2, B, Z) of one draw
    apart: Array  # (2, B, Z) its mean minus the pathwise mean, in standard errors
    errors: Array  # (n,) |one draw - mean|, by mu, for the figure


class Trained(NamedTuple):
    """A model trained with z = mu + c sigma eps, on test images, in nats per image."""

    noise: float  # c
    reported: float  # the training objective: z = mu + c sigma eps, the KL that of sigma
    elbo: float  # z = mu + sigma eps, and the same KL
    sampled: float  # z = mu + c sigma eps, and the KL of N(mu, c² sigma²), too
    at_mean: float  # z = mu, the KL that of sigma
    kl: float
    sigma: float  # mean over images and dimensions


class Found(NamedTuple):
    """The numbers of the page."""

    z: Array  # (n,) draws of mu + sigma eps
    laws: list[Law]  # the draws, N(mu, sigma²), and a wrong one
    estimators: list[Estimator]  # pathwise, score, score with baseline
    trained: list[Trained]  # in the order of NOISES
    spreads: dict[str, tuple[Array, Array]]  # mean and standard deviation, (Z,), of test codes

    def ratios(self, index: int) -> Array:
        """Variance of an estimator relative to the pathwise one, median over images, (2,)."""
        ratios = self.estimators[index].variances / self.estimators[0].variances
        return np.median(ratios, axis=(1, 2))

    def apart(self, index: int) -> Array:
        """Root mean square distance from the pathwise mean, in standard errors, (2,)."""
        return np.sqrt((self.estimators[index].apart ** 2).mean(axis=(1, 2)))


def run(setting: Setting) -> Found:
    """Draw; train with full and with reduced noise; estimate gradients of the first model."""
    data = setting.images(2500, 500) if setting.quick else setting.images(60_000, 2000)
    hidden, latent, epochs = (100, 8, 15) if setting.quick else (200, 20, 4)
    z = draws(MU, LOGVAR, DRAWS, setting.seed)
    setting.say(f"training {len(NOISES)} models")
    models = [train(noise, data, hidden, latent, epochs, setting.seed) for noise in NOISES]
    rng = np.random.default_rng(setting.seed)
    x = batch(data.test, slice(None), pixels=rng)
    eps = rng.standard_normal((len(x), latent), np.float32)
    right, quiet = models[0].forward(x, eps), models[-1].forward(x, NOISES[-1] * eps)
    codes = {"z, trained with c = 1": right.z, "μ, trained with c = 1": right.mu}
    codes[f"z, trained with c = {NOISES[-1]:g}"] = quiet.z
    spreads = {name: (code.mean(axis=0), code.std(axis=0)) for name, code in codes.items()}
    trained = [measure(vae, x, eps, noise) for vae, noise in zip(models, NOISES, strict=True)]
    setting.say("estimating gradients from 1000 draws")
    return Found(z, laws(z), estimators(models[0], x[:50], 1000, rng), trained, spreads)


def draws(mu: float, logvar: float, n: int, seed: int) -> Array:
    """Return n draws of the model's own sampler, (n,)."""
    eps = np.random.default_rng(seed).standard_normal((n, 1, 1))
    sigma = posterior.standard_deviation(np.array([[logvar]]))
    return posterior.sample(np.array([[mu]]), sigma, eps).ravel()


def laws(z: Array) -> list[Law]:
    """Compare the draws with N(mu, sigma²), and with exp(logvar) taken for sigma."""
    from scipy import stats

    at = (0.05, 0.5, 0.95)
    variance = math.exp(LOGVAR)
    found = [Law("the draws", 0.0, tuple(np.quantile(z, at)))]
    for name, sd in ("N(μ, σ²)", math.sqrt(variance)), ("N(μ, σ⁴)", variance):
        law = stats.norm(MU, sd)
        found.append(Law(name, float(stats.kstest(z, law.cdf).statistic), tuple(law.ppf(at))))
    return found


def pathwise(slope: Array, eps: Array, sigma: Array) -> Array:
    """f'(z) and f'(z) eps sigma / 2, shape (2, K, B, Z), from the slope f'(z), (K, B, Z)."""
    return np.stack([slope, slope * eps * sigma / 2])


def score(f: Array, eps: Array, sigma: Array) -> Array:
    """f eps / sigma and f (eps² - 1) / 2, shape (2, K, B, Z), from f(z), (K, B)."""
    f = f[..., np.newaxis]
    return np.stack([f * eps / sigma, f * (eps * eps - 1) / 2])


def mean_of_the_others(f: Array) -> Array:
    """For each draw, the mean of f over the K - 1 others, (K, B)."""
    return (f.sum(axis=0) - f) / (len(f) - 1)


def estimators(vae: VAE, x: Array, k: int, rng: np.random.Generator) -> list[Estimator]:
    """Estimate the gradient of E_q[-log p(x | z)] in three ways, from the same draws."""
    values, slopes, drawn = [], [], []
    for _ in range(k // 100):  # a hundred draws at once, for the memory
        eps = rng.standard_normal((100, len(x), vae.latent_dim), np.float32)
        trace = vae.forward(x, eps)
        nll, kl = vae.loss(trace)
        _, deps = vae.backward_inputs(trace, Terms(np.ones_like(nll), np.zeros_like(kl)))
        values.append(nll.astype(np.float64))
        slopes.append(deps / trace.sigma.astype(np.float64))  # dz = deps / sigma
        drawn.append(eps.astype(np.float64))
    f, slope, noise = map(np.concatenate, (values, slopes, drawn))
    sigma = trace.sigma.astype(np.float64)
    path = pathwise(slope, noise, sigma)
    scores = score(f, noise, sigma), score(f - mean_of_the_others(f), noise, sigma)
    names = "pathwise", "score function", "with baseline"
    return [estimator(*each, path) for each in zip(names, (path, *scores), strict=True)]


def estimator(name: str, estimates: Array, path: Array) -> Estimator:
    """Summarise the draws of an estimator, (2, K, B, Z), and compare them with the pathwise."""
    difference = estimates - path
    error = difference.std(axis=1) / math.sqrt(path.shape[1])
    apart = np.divide(difference.mean(axis=1), error, where=error > 0, out=np.zeros_like(error))
    by_mu = estimates[0] - estimates[0].mean(axis=0)
    return Estimator(name, estimates.var(axis=1), apart, np.abs(by_mu).ravel()[:100_000])


def train(noise: float, data: Dataset, hidden: int, latent: int, epochs: int, seed: int) -> VAE:
    """Train as usual, but with z = mu + noise sigma eps and the KL of sigma."""
    vae = VAE(data.train.shape[1], (hidden,), latent, rng=seed)
    adam, grads, streams = Adam(vae.params, lr=2e-3), [vae.params.zeros_like()], spawn_streams(seed)
    for _ in range(epochs):
        for rows in minibatches(len(data.train), 100, streams.order):
            x = batch(data.train, rows, pixels=streams.pixels)
            eps = streams.noise.standard_normal((len(x), latent), np.float32)
            train_step(vae, adam, x, noise * eps, grads)
    return vae


def measure(vae: VAE, x: Array, eps: Array, noise: float) -> Trained:
    """Evaluate the objective on the same images with the same eps, scaled in three ways."""
    trace = vae.forward(x, eps)
    kl = vae.loss(trace)[1].mean()
    reported = vae.loss(vae.resample(trace, noise * eps))[0].mean()
    exact = vae.loss(trace)[0].mean()
    at_mean = vae.loss(vae.resample(trace, 0 * eps))[0].mean()
    scaled = posterior.kl(trace.mu, trace.logvar + 2 * math.log(noise), noise * trace.sigma).mean()
    return Trained(
        noise, reported=-float(reported + kl), elbo=-float(exact + kl),
        sampled=-float(reported + scaled), at_mean=-float(at_mean + kl), kl=float(kl),
        sigma=float(trace.sigma.mean()),
    )  # fmt: skip


TABLES = (
    Table(f"{DRAWS} draws of μ + σε, μ = {MU:g}, log σ² = {LOGVAR:g}",
          (Column("distribution"),
           Column("largest distance to the draws' distribution function", ".4f", within=1e-4),
           *columns("5 % quantile", "median", "95 % quantile", form=".3f", within=1e-3)),
          lambda found: [(law.name, law.distance, *law.quantiles) for law in found.laws],
          images=False),
    Table("Gradients of E[-log p(x | z)], model trained with c = 1; medians over images and "
          "dimensions (last column: root mean square)",
          (*columns("estimator", "derivative"),
           *columns("variance of one draw", "relative to pathwise", form=".3g", factor=1.4),
           Column("distance from the pathwise mean, standard errors", ".2f", within=0.1)),
          lambda found: [(e.name, ("∂/∂μ", "∂/∂ log σ²")[by], np.median(e.variances[by]),
                          found.ratios(i)[by], found.apart(i)[by])
                         for i, e in enumerate(found.estimators) for by in (0, 1)]),
    Table("Test images, nats per image; trained with z = μ + cσε",
          (Column("c", "g"), Column("reported objective", ".2f", within=1),
           Column("ELBO", ".2f", within=2, factor=1.02),
           Column("ELBO of the q that was sampled", ".2f", within=1),
           Column("objective at ε = 0", ".2f", within=1), Column("KL", ".2f", within=0.5),
           Column("mean σ", ".3f", within=0.01)),
          lambda found: found.trained),
    Table("Codes of all test images, per latent dimension; the prior has mean 0 and standard "
          "deviation (sd) 1",
          (Column("codes"), Column("largest |mean|", ".2f", within=0.05),
           Column("smallest sd", ".2f", within=0.08), Column("mean sd", ".2f", within=0.03),
           Column("largest sd", ".2f", within=0.05)),
          lambda found: [(name, np.abs(mean).max(), sd.min(), sd.mean(), sd.max())
                         for name, (mean, sd) in found.spreads.items()]),
)  # fmt: skip

CLAIMS = (
    Claim("The distribution function of 100 000 draws differs from that of N(μ, σ²) by less than "
          "0.006 everywhere. From that of N(μ, σ⁴) it differs by more than 0.1.",
          lambda found: found.laws[1].distance < 0.006 and found.laws[2].distance > 0.1),
    Claim("The estimators agree: both score-function means are 0.8 to 1.2 standard errors from the "
          "pathwise mean (root mean square over images and dimensions). Unbiased estimators "
          "would give 1.",
          lambda found: all(0.8 < apart < 1.2 for i in (1, 2) for apart in found.apart(i))),
    Claim("One score-function draw has more than 1000 times the variance of a pathwise draw "
          "(median over images and dimensions). The baseline reduces this to between 5 and 100 "
          "times.",
          lambda found: ((found.ratios(1) > 1000).all()
                         and (found.ratios(2) > 5).all()
                         and (found.ratios(2) < 100).all())),
    Claim("Trained with 0.01 ε, a model reports an objective more than 10 nats above the ELBO of "
          "the model trained with ε. Its own ELBO is more than 30 nats below that ELBO.",
          lambda found: (found.trained[-1].reported > found.trained[0].elbo + 10
                         and found.trained[-1].elbo < found.trained[0].elbo - 30)),
    Claim("At ε = 0, the objective of the model trained with ε is more than 2 nats above its ELBO.",
          lambda found: found.trained[0].at_mean > found.trained[0].elbo + 2),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """The draws and their density; the errors of one draw; the reported loss and the true one."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1.4, 1.4))
    left.hist(found.z, 60, density=True, color="C1")
    sigma = math.exp(LOGVAR / 2)
    line = MU + sigma * np.linspace(-4, 4, 200)
    density = np.exp(-(((line - MU) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
    left.plot(line, density, "k-", lw=1.2)
    left.set(xlabel="z = μ + σε", ylabel="density", ylim=(0, 1.3 * density.max()))
    left.text(0.03, 0.97, "blue: draws\nblack: N(μ, σ²)", transform=left.transAxes, va="top")
    bins = np.logspace(-2, 4, 61)
    labels = (
        ("pathwise", "C0-", 0.85, "right"), ("with baseline", "C3:", 1.47, "center"),
        ("score function\n(REINFORCE)", "C6--", 1.03, "center"),
    )  # fmt: skip
    for i, (name, look, up, side) in zip((0, 2, 1), labels, strict=True):
        errors = found.estimators[i].errors
        shares = 100 * np.histogram(errors, bins)[0] / len(errors)
        middle.plot(bins[1:], shares, look, lw=1.6)
        x = bins[shares.argmax()] / (2 if side == "right" else 1)
        middle.text(x, up * shares.max(), name, color=look[:2], ha=side, va="bottom")
    middle.set(xscale="log", xlabel="error of one draw of ∂/∂μ, nats", ylim=(0, 13))
    middle.set_ylabel("draws per tenth of a decade, %")
    at = np.arange(len(found.trained))
    reported = [-each.reported for each in found.trained]
    true = [-each.elbo for each in found.trained]
    right.bar(at - 0.2, reported, 0.38, color="C1", ec="w", label="loss reported")
    right.bar(at + 0.2, true, 0.38, color="C0", hatch="//", ec="w", label="−ELBO, the true loss")
    right.set(xlabel="c: trained with z = μ + cσε", ylabel="test images, nats per image")
    right.set_xticks(at, [f"{each.noise:g}" for each in found.trained])
    right.set_ylim(0, 1.25 * max(true))
    right.legend(loc="upper left")


QUESTION = "The reparameterization trick: how can mu + sigma eps be a sample?"
CONCLUSION = (
    "All the randomness is in ε, which no parameter touches, so μ + σε is an exact sample and the "
    "chain rule passes through it."
)
STUDY = Study("sampling", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw)
