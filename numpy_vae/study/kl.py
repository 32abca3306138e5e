"""The KL: where does it come from, and what is its sign?

Letters of this module: B images, D pixels, Z latent dimensions, K draws of each, n draws in all.

For q = N(mu, sigma²) and p = N(0, 1), with z = mu + sigma eps and logvar = log sigma²,

    log q(z) - log p(z) = (z² - eps² - logvar) / 2                    the log ratio r
    KL(q || p) = E_q[r] = (mu² + sigma² - 1 - logvar) / 2             as E[eps²] = 1

    gradient: mu and (sigma² - 1) / 2, zero at mu = 0, sigma = 1 alone
    second derivatives: 1 and sigma² / 2, mixed 0: convex, so that this is the least value, 0
    variance of r: ((sigma² - 1) eps² + 2 mu sigma eps) / 2 has (sigma² - 1)² / 2 + mu² sigma²

**Drawn or in closed form.** -log p(x | z) + KL and -log p(x | z) + r have the same mean, -ELBO. The
second is -log p(x) - log p(z | x) + log q(z | x): without any noise where q is the true posterior,
as at the optimum of the linear model with a Gaussian likelihood, which is probabilistic PCA. That
is a fact about values. The gradient by mu is dz + mu or dz + z, dz the derivative of -log p(x | z),
and with Stein's lemma, Cov(dz, eps) = sigma E[∂dz/∂z],

    Var(dz + z) - Var(dz + mu) = sigma² (1 + 2 E[∂dz/∂z])

so the log ratio makes the gradient noisier wherever -log p(x | z) is convex in z on average.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import posterior
from ..bounds import Terms
from ..data.binarize import batch
from ..data.dataset import Dataset
from ..optim import Adam
from ..params import Array
from ..seeds import spawn, spawn_streams
from ..vae import VAE
from .linear import linear_optimum
from .report import Claim, Column, Setting, Study, Table, columns
from .training import train_and_test

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = ((0.0, 0.0), (0.5, 0.0), (1.0, -1.0), (0.0, -4.0), (2.0, 0.5), (-1.0, 2.0))  # mu, logvar
DRAWS = 100_000  # at each of them
SIZES = (10, 100, 1000, 10_000)  # of samples, whose mean is compared with the KL
REPEATS = 300  # samples of each size
PLACE = (1.0, -1.0)  # mu, logvar where they are drawn
LIMITS = (1e3, 1e6, 1e9)  # nats, of a KL that grows
GRID = MU, LOGVAR = np.meshgrid(np.linspace(-3, 3, 13), np.linspace(-4, 4, 17))  # (17, 13) each

# What is read in published code, and what it would be if it were right. s is sigma².
FORMS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "(mu² + s - 1 - logvar) / 2, as derived": lambda mu, logvar, s: (mu * mu + s - 1 - logvar) / 2,
    "-(1 + logvar - mu² - s) / 2, the same": lambda mu, logvar, s: -(1 + logvar - mu * mu - s) / 2,
    "(1 + logvar - mu² - s) / 2, no minus": lambda mu, logvar, s: (1 + logvar - mu * mu - s) / 2,
    "-(1 - logvar - mu² - s) / 2": lambda mu, logvar, s: -(1 - logvar - mu * mu - s) / 2,
    "-(1 + logvar - mu² + s) / 2": lambda mu, logvar, s: -(1 + logvar - mu * mu + s) / 2,
    "-(1 + log sigma - mu² - s) / 2": lambda mu, logvar, s: -(1 + logvar / 2 - mu * mu - s) / 2,
    "-(1 + logvar - mu² - s²) / 2": lambda mu, logvar, s: -(1 + logvar - mu * mu - s * s) / 2,
}


class Point(NamedTuple):
    """The KL at one mu and logvar, in nats, in three ways."""

    mu: float
    logvar: float
    closed: float
    quadrature: float
    mean: float  # of DRAWS log ratios
    error: float  # its standard error
    negative: float  # the share of the log ratios below zero


class Noise(NamedTuple):
    """Deviations over draws, of each image: with the KL in closed form, and with the log ratio."""

    model: str
    value: tuple[Array, Array]  # (B,) each, of -log p(x | z) + either
    by_mu: tuple[Array, Array]  # (B, Z), of its derivative by mu
    by_logvar: tuple[Array, Array]  # (B, Z)
    negative: tuple[float, float]  # the share of log ratios below zero, of images and of dimensions


class Training(NamedTuple):
    """The first steps of a training with a sign before the KL, each a mean over its minibatch."""

    sign: int
    kls: Array  # (T,)
    losses: Array  # (T,) reconstruction + sign KL

    def kl_at(self, step: int) -> float:
        """The KL at this step, from 1; NaN if the training ended before."""
        return float(self.kls[step - 1]) if step <= len(self.kls) else math.nan


class Found(NamedTuple):
    """The numbers of the page."""

    points: list[Point]
    closed: Array  # (17, 13) the KL on the grid
    quadrature: Array  # (17, 13)
    gradient_error: float  # the largest difference to the complex step on the grid
    forms: dict[str, Array]  # (17, 13) each of FORMS on the grid
    errors: Array  # (4,) root mean square errors of the means, for SIZES
    noises: list[Noise]  # linear, trained
    trainings: list[Training]  # right sign, flipped


def run(setting: Setting) -> Found:
    """Evaluate, integrate and draw; train once as it should be, and once with the sign flipped."""
    data = setting.images(2500 if setting.quick else 60_000, 500)
    hidden, latent, epochs = (100, 8, 15) if setting.quick else (200, 20, 3)
    draws, pixels, plain = spawn(setting.seed, 3)
    vae = VAE(data.train.shape[1], (hidden,), latent, rng=setting.seed)
    train_and_test(vae, data, epochs=epochs, lr=2e-3, seed=setting.seed)
    x = batch(data.test, slice(100), pixels=pixels)
    y = plain.standard_normal((60, 11)) @ plain.standard_normal((11, 11))
    linear = noise("linear, at its optimum", linear_optimum(y, 3), y, plain)
    return Found(
        points=[point(mu, logvar, draws) for mu, logvar in POINTS],
        closed=closed_form(*GRID),
        quadrature=np.vectorize(by_quadrature)(*GRID),
        gradient_error=gradient_error(*GRID),
        forms={name: form(*GRID, np.exp(LOGVAR)) for name, form in FORMS.items()},
        errors=errors(*PLACE, draws),
        noises=[linear, noise("trained", vae, x, pixels)],
        trainings=[first_steps(sign, data, hidden, latent, setting.seed) for sign in (1, -1)],
    )


def closed_form(mu: Array, logvar: Array) -> Array:
    """The KL of the package, entry by entry, of the shape of mu and logvar."""
    return posterior.kl_per_dimension(mu, logvar, posterior.standard_deviation(logvar))


def by_quadrature(mu: float, logvar: float) -> float:
    """∫ q log(q / p) dz, from the two densities alone, in nats."""
    from scipy import integrate

    sigma = math.sqrt(math.exp(logvar))

    def log_density(z: float, mean: float, deviation: float) -> float:
        return -0.5 * ((z - mean) / deviation) ** 2 - math.log(deviation * math.sqrt(2 * math.pi))

    def integrand(z: float) -> float:
        log_q = log_density(z, mu, sigma)
        return math.exp(log_q) * (log_q - log_density(z, 0, 1))

    return float(integrate.quad(integrand, mu - 12 * sigma, mu + 12 * sigma, epsabs=1e-12)[0])


def log_ratios(mu: float, logvar: float, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return draws of log q(z) - log p(z), z from the model's own sampler."""
    eps, a = rng.standard_normal((*shape, 1)), np.array([logvar])
    z = posterior.sample(np.array([mu]), posterior.standard_deviation(a), eps)
    return posterior.log_ratio(a, eps, z)


def point(mu: float, logvar: float, rng: np.random.Generator) -> Point:
    """Take the KL in three ways."""
    r = log_ratios(mu, logvar, (DRAWS,), rng)
    closed = float(closed_form(np.array([[mu]]), np.array([[logvar]]))[0, 0])
    return Point(
        mu, logvar, closed, by_quadrature(mu, logvar), mean=float(r.mean()),
        error=float(r.std() / math.sqrt(DRAWS)), negative=float((r < 0).mean()),
    )  # fmt: skip


def deviation(mu: float, logvar: float) -> float:
    """sqrt((sigma² - 1)² / 2 + mu² sigma²), of one draw of the log ratio."""
    variance = math.exp(logvar)
    return math.sqrt((variance - 1) ** 2 / 2 + mu * mu * variance)


def errors(mu: float, logvar: float, rng: np.random.Generator) -> Array:
    """Root mean square error of the mean of n log ratios, for each n in SIZES."""
    true = closed_form(np.array([[mu]]), np.array([[logvar]]))
    means = [log_ratios(mu, logvar, (REPEATS, n), rng).mean(axis=1) for n in SIZES]
    return np.array([np.sqrt(((mean - true) ** 2).mean()) for mean in means])


def gradient_error(mu: Array, logvar: Array) -> float:
    """Largest difference of the gradient to the complex step Im KL(θ + ih) / h."""
    mu, logvar, h = mu.reshape(-1, 1), logvar.reshape(-1, 1), 1e-30
    ours = posterior.kl_backward(mu, posterior.standard_deviation(logvar), np.ones(len(mu)))
    steps = closed_form(mu + 1j * h, logvar).imag / h, closed_form(mu, logvar + 1j * h).imag / h
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, steps, strict=True))


def noise(model: str, vae: VAE, x: Array, rng: np.random.Generator) -> Noise:
    """Take value and gradients of both estimates of -ELBO, with the same 500 draws."""
    values, by_mu, by_logvar, ratios = [], [], [], []
    for _ in range(10):  # fifty draws at once, for the memory
        eps = rng.standard_normal((50, len(x), vae.latent_dim)).astype(vae.params.dtype)
        trace = vae.forward(x, eps)
        nll, kl, r = vae.terms(trace)
        assert r is not None
        one, sigma = np.ones_like(nll), np.broadcast_to(trace.sigma, eps.shape)
        _, deps = vae.backward_inputs(trace, Terms(one, np.zeros_like(kl)))
        # With sigma of each draw, the draws are not summed.
        dmu, dlogvar, _ = posterior.sample_backward(eps, sigma, deps / sigma)
        exact = posterior.kl_backward(trace.mu, trace.sigma, np.ones_like(kl))
        drawn = posterior.log_ratio_backward(eps, sigma, trace.z, one)
        values.append([nll + kl, nll + r])
        by_mu.append([dmu + exact[0], dmu + drawn[0]])
        by_logvar.append([dlogvar + exact[1], dlogvar + drawn[1]])
        ratios.append((trace.z**2 - eps**2 - trace.logvar) / 2)  # (50, B, Z), by dimension
    each = np.concatenate(ratios)
    negative = float((each.sum(axis=-1) < 0).mean()), float((each < 0).mean())
    return Noise(model, deviations(values), deviations(by_mu), deviations(by_logvar), negative)


def deviations(estimates: list[list[Array]]) -> tuple[Array, Array]:
    """Of the two estimates, in parts along the draws, the deviation over all draws."""
    exact, drawn = (np.concatenate(parts) for parts in zip(*estimates, strict=True))
    return exact.std(axis=0, dtype=np.float64), drawn.std(axis=0, dtype=np.float64)


def first_steps(sign: int, data: Dataset, hidden: int, latent: int, seed: int) -> Training:
    """Train for 100 steps on reconstruction + sign KL, or until the KL is above 1e9 nats."""
    vae = VAE(data.train.shape[1], (hidden,), latent, rng=seed)
    adam, grads, streams = Adam(vae.params), vae.params.zeros_like(), spawn_streams(seed)
    kls, losses = [], []
    for _ in range(100):
        rows = streams.order.integers(len(data.train), size=100)
        x = batch(data.train, rows, pixels=streams.pixels)
        trace = vae.forward(x, streams.noise.standard_normal((len(x), latent), np.float32))
        nll, kl = vae.loss(trace)
        kls.append(float(kl.mean()))
        losses.append(float(nll.mean()) + sign * kls[-1])
        if kls[-1] > 1e9:  # before anything overflows
            break
        each = np.full_like(nll, 1 / len(x))
        adam.step(vae.terms_backward(trace, Terms(each, sign * each), out=grads))
    return Training(sign, np.array(kls), np.array(losses))


def first_above(kls: Array, limit: float) -> int:
    """Return the first step, from 1, at which the KL is above the limit; 0 if none is."""
    return int(np.argmax(kls > limit)) + 1 if (kls > limit).any() else 0


TABLES = (
    Table(f"The KL in nats; {DRAWS} draws",
          (*columns("mu", "logvar", form="g"),
           *columns("closed form", "quadrature", form=".6f", within=1e-6),
           *columns("mean of log q - log p", "its standard error", form=".4f", within=2e-4),
           Column("draws below zero, %", ".1f", within=0.1)),
          lambda found: [(*each[:-1], 100 * each.negative) for each in found.points],
          images=False),
    Table(f"Error of the mean of n draws at mu = {PLACE[0]:g}, logvar = {PLACE[1]:g}, in nats, "
          f"root mean square of {REPEATS}",
          (Column("n", "d"), Column("error", ".4f", within=2e-4),
           Column("deviation of one draw / sqrt(n)", ".4f", within=1e-4)),
          lambda found: [(n, error, deviation(*PLACE) / math.sqrt(n))
                         for n, error in zip(SIZES, found.errors, strict=True)], images=False),
    Table("What is copied, in nats, s = sigma²; mu from -3 to 3, logvar from -4 to 4",
          (Column("form"),
           *columns("at mu = 1, logvar = 1", "least on the grid", form="z.4f", within=1e-4),
           *columns("mu of the least", "logvar of the least", form="g")),
          lambda found: [(name, *kl[(MU == 1) & (LOGVAR == 1)], kl.min(),
                          *(axis.flat[kl.argmin()] for axis in GRID))
                         for name, kl in found.forms.items()], images=False),
    Table("Deviation over draws of one estimate of -ELBO, median over images (and dimensions)",
          (*columns("model", "KL"), Column("value, nats", ".3g", within=1e-9, factor=1.2),
           *columns("derivative by mu", "derivative by logvar", form=".3g", factor=1.2)),
          lambda found: [(each.model, name, *(np.median(pair[which]) for pair in each[1:4]))
                         for each in found.noises
                         for which, name in enumerate(("closed form", "log ratio"))]),
    Table("Single log ratios below zero, %",
          (Column("model"), Column("of an image", ".2f", within=0.2),
           Column("of one of its dimensions", ".1f", within=2)),
          lambda found: [(each.model, *(100 * share for share in each.negative))
                         for each in found.noises]),
    Table("Training on reconstruction + KL, and on reconstruction - KL; steps from 1, 0 for never",
          (Column("sign of the KL", "+d"), Column("KL at step 20, nats", ".3g", factor=1.3),
           *(Column(f"first step with a KL above {limit:g}", "d", within=3) for limit in LIMITS),
           Column("loss at the last step", ".2g", factor=10)),
          lambda found: [(t.sign, t.kl_at(20), *(first_above(t.kls, limit) for limit in LIMITS),
                          t.losses[-1]) for t in found.trainings]),
)  # fmt: skip

CLAIMS = (
    Claim("At all 221 points of the grid the closed form is within 1e-9 nats of the integral of q "
          "log(q / p), and its gradient within 1e-9 of the complex step.",
          lambda found: (np.abs(found.closed - found.quadrature).max() < 1e-9
                         and found.gradient_error < 1e-9)),
    Claim("The KL is 0 at mu = 0, logvar = 0 and above 0.05 at every other point of the grid, and "
          "the means of 100 000 draws are within 5 standard errors of it; single draws are below "
          "zero, though, more than 30 % of them at mu = 0.5, logvar = 0.",
          lambda found: (found.closed[(MU == 0) & (LOGVAR == 0)] == 0
                         and found.closed[(MU != 0) | (LOGVAR != 0)].min() > 0.05
                         and all(abs(each.mean - each.closed) <= 5 * each.error
                                 for each in found.points)
                         and found.points[1].negative > 0.3)),
    Claim("The log ratio makes the value less noisy than the closed form: at the optimum of the "
          "linear model its deviation is below 1e-9 nats instead of above 0.5, and in the trained "
          "model below 0.95 times as large, median over images.",
          lambda found: (
              found.noises[0].value[1].max() < 1e-9
              and np.median(found.noises[0].value[0]) > 0.5
              and np.median(found.noises[1].value[1] / found.noises[1].value[0]) < 0.95)),
    Claim("The log ratio makes the gradient noisier: in both models the deviation of the "
          "derivative by mu is larger with it than with the closed form for more than 95 % of all "
          "images and dimensions.",
          lambda found: all((each.by_mu[1] > each.by_mu[0]).mean() > 0.95
                            for each in found.noises)),
    Claim("With the sign flipped the KL exceeds a million nats within 80 steps of training, and "
          "with the right sign it stays below 100 nats for 100 steps.",
          lambda found: (found.trainings[0].kls.max() < 100
                         and len(found.trainings[0].kls) == 100
                         and 0 < first_above(found.trainings[1].kls, 1e6) <= 80)),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """The KL and its descent; the error of its Monte Carlo estimate; both signs in training."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.4, 1, 1.2))
    levels = [0.1, 0.5, 1, 2, 4, 8, 16]
    fine = np.meshgrid(np.linspace(-3, 3, 121), np.linspace(-4, 4, 161))
    lines = left.contour(*fine, closed_form(*fine), levels, colors="C0", linewidths=0.9)
    left.clabel(lines, fontsize=8, fmt="%g")
    mu, logvar = (axis[1:-1:2, ::2].reshape(-1, 1) for axis in (MU, LOGVAR))
    slope = posterior.kl_backward(mu, posterior.standard_deviation(logvar), np.ones(len(mu)))
    length = np.hypot(*slope)
    left.quiver(mu, logvar, -slope[0] / length, -slope[1] / length, color="C6", scale=16)
    left.plot(0, 0, "k*", ms=8)
    left.set(xlabel="μ", ylabel="log σ²", title="KL, nats, and its descent")
    n = np.array(SIZES)
    middle.loglog(n, found.errors, "o", color="C6", label="mean of n draws")
    middle.loglog(n, deviation(*PLACE) / np.sqrt(n), "k-", lw=1, label="in theory")
    middle.set(xlabel="n", title="error of the mean, nats")
    middle.legend(loc="lower left")
    looks = ("C0-", "right sign"), ("C6--", "flipped")
    for training, (look, label) in zip(found.trainings, looks, strict=True):
        right.semilogy(np.arange(1, len(training.kls) + 1), training.kls, look, label=label)
    right.set(xlabel="step of training", title="KL, nats")
    right.legend(loc="upper right")


QUESTION = "The KL: where does it come from, and what is its sign?"
CONCLUSION = (
    "The KL is the mean of log q - log p under q; for two normal distributions it has a closed "
    "form, it is never negative, and it is added to the loss."
)
STUDY = Study("kl", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw)
