"""How can mu + sigma eps be a sample, and how does a gradient pass a random node?

Letters of this module: B images, Z latent dimensions, K draws of each.

**A sample.** If eps has the density φ(e) of N(0, 1), then z = mu + sigma eps has, by the change of
variables e = (z - mu) / sigma, de = dz / sigma, the density

    φ((z - mu) / sigma) / sigma = exp(-(z - mu)² / (2 sigma²)) / (sigma sqrt(2π))

which is that of N(mu, sigma²). Drawing eps and moving it, or drawing z: it is the same.

**A gradient.** Of E_q[f(z)], q = N(mu, sigma²), by mu and logvar = log sigma², there are two
estimators of one draw. Pathwise, the derivative goes through z, with ∂z/∂mu = 1 and
∂z/∂logvar = sigma eps / 2:

    by mu: f'(z)                         by logvar: f'(z) eps sigma / 2

With the score function the draw stays where it is, and its probability is differentiated:
∇ ∫ q f dz = ∫ q ∇log q f dz, and with log q = -(log 2π + logvar + (z - mu)² / sigma²) / 2

    by mu: f(z) eps / sigma              by logvar: f(z) (eps² - 1) / 2

As E[∇log q] = 0, any baseline that does not know this draw may be subtracted from f: here the mean
of f over the other draws. Both are unbiased; they differ in noise.

**The noise of training.** With eps scaled by a constant c ("epsilon_std"), z is a draw from
N(mu, c² sigma²), while the KL term is still that of sigma. The two belong to different q, and their
sum bounds nothing. c = 0 takes z = mu: no noise, and no bound either.
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
NOISES = (1.0, 0.1, 0.01)  # what eps is multiplied with in training; the first is the honest model


class Law(NamedTuple):
    """A distribution that the draws are held against."""

    name: str
    distance: float  # Kolmogorov and Smirnov's: the largest between two distribution functions
    quantiles: tuple[float, float, float]  # 5, 50 and 95 %


class Estimator(NamedTuple):
    """One estimator of the gradients of E_q[-log p(x | z)], by mu and by logvar: the axis of 2."""

    name: str
    variances: Array  # (2, B, Z) of one draw
    apart: Array  # (2, B, Z) its mean less that of the pathwise one, in standard errors
    errors: Array  # (n,) sizes of one draw less the mean, by mu, for the figure


class Trained(NamedTuple):
    """A model trained with noise c eps, on test images, in nats per image."""

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
    spreads: dict[str, tuple[Array, Array]]  # means and deviations, (Z,), of codes of test images

    def ratios(self, index: int) -> Array:
        """Variance of an estimator over that of the pathwise one, median over images, (2,)."""
        ratios = self.estimators[index].variances / self.estimators[0].variances
        return np.median(ratios, axis=(1, 2))

    def apart(self, index: int) -> Array:
        """Root mean square of the difference to the pathwise one, in standard errors, (2,)."""
        return np.sqrt((self.estimators[index].apart ** 2).mean(axis=(1, 2)))


def run(setting: Setting) -> Found:
    """Draw; train with honest and with too little noise; differentiate the honest model."""
    data = setting.images(2500, 500) if setting.quick else setting.images(60_000, 2000)
    hidden, latent, epochs = (100, 8, 15) if setting.quick else (200, 20, 4)
    z = draws(MU, LOGVAR, DRAWS, setting.seed)
    models = [train(noise, data, hidden, latent, epochs, setting.seed) for noise in NOISES]
    rng = np.random.default_rng(setting.seed)
    x = batch(data.test, slice(None), pixels=rng)
    eps = rng.standard_normal((len(x), latent), np.float32)
    honest, quiet = models[0].forward(x, eps), models[-1].forward(x, NOISES[-1] * eps)
    codes = {"z of the honest model": honest.z, "mu of the honest model": honest.mu}
    codes[f"z of the model with noise {NOISES[-1]:g} eps"] = quiet.z
    spreads = {name: (code.mean(axis=0), code.std(axis=0)) for name, code in codes.items()}
    trained = [measure(vae, x, eps, noise) for vae, noise in zip(models, NOISES, strict=True)]
    return Found(z, laws(z), estimators(models[0], x[:50], 1000, rng), trained, spreads)


def draws(mu: float, logvar: float, n: int, seed: int) -> Array:
    """Return n draws of the model's own sampler, (n,)."""
    eps = np.random.default_rng(seed).standard_normal((n, 1, 1))
    sigma = posterior.standard_deviation(np.array([[logvar]]))
    return posterior.sample(np.array([[mu]]), sigma, eps).ravel()


def laws(z: Array) -> list[Law]:
    """Hold the draws against N(mu, sigma²), and against exp(logvar) taken for the deviation."""
    from scipy import stats

    at = (0.05, 0.5, 0.95)
    variance = math.exp(LOGVAR)
    found = [Law("the draws", 0.0, tuple(np.quantile(z, at)))]
    for name, deviation in ("N(mu, sigma²)", math.sqrt(variance)), ("N(mu, sigma⁴)", variance):
        law = stats.norm(MU, deviation)
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
    """Of each draw the mean of f over the K - 1 others, (K, B)."""
    return (f.sum(axis=0) - f) / (len(f) - 1)


def estimators(vae: VAE, x: Array, k: int, rng: np.random.Generator) -> list[Estimator]:
    """Differentiate the mean of -log p(x | z) over z from q in three ways, with the same draws."""
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
    """Summarise the draws of an estimator, (2, K, B, Z), beside those of the pathwise one."""
    difference = estimates - path
    error = difference.std(axis=1) / math.sqrt(path.shape[1])
    apart = np.divide(difference.mean(axis=1), error, where=error > 0, out=np.zeros_like(error))
    by_mu = estimates[0] - estimates[0].mean(axis=0)
    return Estimator(name, estimates.var(axis=1), apart, np.abs(by_mu).ravel()[:100_000])


def train(noise: float, data: Dataset, hidden: int, latent: int, epochs: int, seed: int) -> VAE:
    """Train as ever, but with z = mu + noise sigma eps; the objective knows nothing of it."""
    vae = VAE(data.train.shape[1], (hidden,), latent, rng=seed)
    adam, grads, streams = Adam(vae.params, lr=2e-3), [vae.params.zeros_like()], spawn_streams(seed)
    for _ in range(epochs):
        for rows in minibatches(len(data.train), 100, streams.order):
            x = batch(data.train, rows, pixels=streams.pixels)
            eps = streams.noise.standard_normal((len(x), latent), np.float32)
            train_step(vae, adam, x, noise * eps, grads)
    return vae


def measure(vae: VAE, x: Array, eps: Array, noise: float) -> Trained:
    """Take the objective with the same images and the same eps, scaled in three ways."""
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
    Table(f"{DRAWS} draws of mu + sigma eps, mu = {MU:g}, logvar = {LOGVAR:g}",
          (Column("law"),
           Column("largest distance to the draws' distribution function", ".4f", within=1e-4),
           *columns("5 % quantile", "median", "95 % quantile", form=".3f", within=1e-3)),
          lambda found: [(law.name, law.distance, *law.quantiles) for law in found.laws],
          images=False),
    Table("Gradients of the mean of -log p(x | z), honest model; medians over images and "
          "dimensions, in the last column the root mean square",
          (*columns("estimator", "by"),
           *columns("variance of one draw", "times the pathwise one", form=".3g", factor=1.4),
           Column("difference to the pathwise mean, standard errors", ".2f", within=0.1)),
          lambda found: [(e.name, ("mu", "logvar")[by], np.median(e.variances[by]),
                          found.ratios(i)[by], found.apart(i)[by])
                         for i, e in enumerate(found.estimators) for by in (0, 1)]),
    Table("Test images, nats per image; z = mu + c sigma eps in training",
          (Column("c", "g"), Column("objective reported", ".2f", within=1),
           Column("ELBO", ".2f", within=2, factor=1.02),
           Column("ELBO of the q that was sampled", ".2f", within=1),
           Column("the objective at eps = 0", ".2f", within=1), Column("KL", ".2f", within=0.5),
           Column("mean sigma", ".3f", within=0.01)),
          lambda found: found.trained),
    Table("Where the codes of all test images lie, by dimension; the prior has mean 0, deviation 1",
          (Column("codes"), Column("largest mean, in size", ".2f", within=0.05),
           Column("least deviation", ".2f", within=0.08),
           Column("mean deviation", ".2f", within=0.03),
           Column("greatest deviation", ".2f", within=0.05)),
          lambda found: [(name, np.abs(mean).max(), sd.min(), sd.mean(), sd.max())
                         for name, (mean, sd) in found.spreads.items()]),
)  # fmt: skip

CLAIMS = (
    Claim("The distribution function of 100 000 draws is nowhere more than 0.006 from that of "
          "N(mu, sigma²), and somewhere more than 0.1 from that with exp(logvar) for the "
          "deviation.",
          lambda found: found.laws[1].distance < 0.006 and found.laws[2].distance > 0.1),
    Claim("The estimators agree: the mean of either score-function estimator is 0.8 to 1.2 "
          "standard errors from the pathwise mean, root mean square over images and dimensions, as "
          "chance alone would have it.",
          lambda found: all(0.8 < apart < 1.2 for i in (1, 2) for apart in found.apart(i))),
    Claim("One draw of the score function has more than 1000 times the variance of a pathwise one, "
          "in the median over images and dimensions; the baseline brings it down to 5 to 100 "
          "times.",
          lambda found: ((found.ratios(1) > 1000).all()
                         and (found.ratios(2) > 5).all()
                         and (found.ratios(2) < 100).all())),
    Claim("Trained with 0.01 eps, a model reports an objective more than 10 nats above the ELBO of "
          "the honest model, while its own ELBO is more than 30 nats below that.",
          lambda found: (found.trained[-1].reported > found.trained[0].elbo + 10
                         and found.trained[-1].elbo < found.trained[0].elbo - 30)),
    Claim("At eps = 0 the objective of the honest model comes out more than 2 nats above its ELBO.",
          lambda found: found.trained[0].at_mean > found.trained[0].elbo + 2),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """The draws and their density; the errors of one draw; the loss reported beside the true."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1.4, 1.4))
    left.hist(found.z, 60, density=True, color="C1", label="draws")
    sigma = math.exp(LOGVAR / 2)
    line = MU + sigma * np.linspace(-4, 4, 200)
    density = np.exp(-(((line - MU) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
    left.plot(line, density, "k-", lw=1.2, label="N(μ, σ²)")
    left.set(xlabel="z = μ + σ ε", ylabel="density", ylim=(0, 1.35 * density.max()))
    left.legend(loc="upper left")
    bins = np.logspace(-2, 4, 61)
    for each, look in zip(found.estimators, ("C0-", "C6--", "C3:"), strict=True):
        shares = np.histogram(each.errors, bins)[0] / len(each.errors)
        middle.plot(bins[1:], 100 * shares, look, lw=1.6, label=each.name)
    middle.set(xscale="log", xlabel="error of one draw of ∂/∂μ, nats", ylabel="draws, %")
    middle.set_ylim(0, 1.5 * middle.get_ylim()[1])
    middle.legend(loc="upper right")
    at = np.arange(len(found.trained))
    reported = [-each.reported for each in found.trained]
    true = [-each.elbo for each in found.trained]
    right.bar(at - 0.2, reported, 0.38, color="C1", ec="w", label="loss reported")
    right.bar(at + 0.2, true, 0.38, color="C0", hatch="//", ec="w", label="−ELBO, the true loss")
    right.set(xlabel="c: trained with z = μ + c σ ε", ylabel="test images, nats")
    right.set_xticks(at, [f"{each.noise:g}" for each in found.trained])
    right.set_ylim(0, 1.25 * max(true))
    right.legend(loc="upper left")


QUESTION = "How can mu + sigma eps be a sample, and how does a gradient pass a random node?"
CONCLUSION = (
    "All the randomness is in ε, which no parameter touches, so μ + σε is an exact sample and the "
    "chain rule passes through it."
)
STUDY = Study("sampling", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw)
