"""ELBO, importance-weighted bound (IWAE) and log p(x), in models where log p(x) is known.

Letters of this module: N images, D pixels, Z latent dimensions, S draws of z for each image, K of
them in a group. The gap of the ELBO, and its least value over all diagonal q, the approximation
gap, where the true posterior p(z | x) is normal with precision P:

    log p(x) - ELBO = KL(q(z | x) || p(z | x)) >= (Σ_j log P_jj - log det P) / 2

The gap of the bound with K draws, for large K; where q has c times the right σ:

    χ² / (2K)       χ² = Var[w / p(x)] = (c² / √(2c² - 1))^Z - 1 for c² > 1/2, else infinite
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..bounds import log_weights
from ..data.binarize import binarize, to_float
from ..data.dataset import Dataset
from ..likelihood import Gaussian
from ..params import Array
from ..training.evaluate import standard_error
from ..vae import VAE
from .linear import cubature, linear_log_p, linear_optimum, linear_posterior
from .report import Claim, Column, Setting, Study, Table, columns
from .training import train_and_test

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LATENT, VARIANCE = 8, 0.05  # Z and τ² of the linear model
OPTIMUM, TRAINED, CURVED = "linear, optimum", "linear, trained", "nonlinear, Z=1"
DOUBLED, NARROWED, HALVED = "linear, 2σ", "linear, 0.8σ", "linear, 0.5σ"  # at the optimum, but σ
COUNTS = 1, 10, 100, 1000  # K
EDGE, STEP = 10.0, 0.02  # of the grid over z: prior mass beyond 10 is 1e-23


class Exact(NamedTuple):
    """What is known of one model without drawing z, for each image, (N,), in nats."""

    log_p: Array
    elbo: Array
    kl: Array  # KL(q(z|x) || p(z|x)), by its own formula

    @property
    def gap(self) -> Array:
        """log p(x) - ELBO, (N,)."""
        return self.log_p - self.elbo


class Drawn(NamedTuple):
    """Estimates from S draws of z for each image."""

    gaps: Array  # (len(COUNTS),) log p(x) - bound, mean over images and groups
    errors: Array  # (len(COUNTS),) standard error of that, over draws
    least_rise: float  # the smallest rise of the bound of any image from one K to the next
    wrong: Array  # (len(COUNTS), N) the bound with the closed-form KL, minus log p(x)
    scatter: float  # standard deviation of one draw of log w, mean over images
    closed_scatter: float  # of one draw of log p(x|z) - KL


class Found(NamedTuple):
    """The numbers of the page."""

    exact: dict[str, Exact]
    drawn: dict[str, Drawn]
    approximation: float  # approximation gap of the trained linear model, of every image
    chi2: float  # of the linear optimum with 2σ
    excess: float  # of the mistake at the optimum over log p(x), mean over images, K -> infinity
    halved: float  # largest change of log p(x) of an image when the grid step is halved


def run(setting: Setting) -> Found:
    """Build and train the models, and compare exact numbers with estimates by draws."""
    data = setting.data if setting.quick else setting.images(20_000, 10_000)
    exactly, n, samples = (200, 30, 3000) if setting.quick else (500, 80, 10_000)
    optimum = linear_optimum(to_float(data.train, np.float64), LATENT, VARIANCE)
    linear = {
        OPTIMUM: optimum, DOUBLED: scaled(optimum, 2),
        NARROWED: scaled(optimum, 0.8), HALVED: scaled(optimum, 0.5),
    }  # fmt: skip
    setting.say("training a linear model and one with Z = 1")
    linear[TRAINED] = trained_linear(data, 30 if setting.quick else 12, setting.seed)
    grey = to_float(data.test[:exactly], np.float64)
    binary = to_float(binarize(data, "static").test[:exactly], np.float64)
    curved = trained_curved(data, setting)
    exact = {name: exact_linear(vae, grey) for name, vae in linear.items()}
    exact[CURVED] = exact_curved(curved, binary, STEP)
    finer = grid_joint(curved, binary, grid(STEP / 2))
    halved = np.abs(log_integral(finer, STEP / 2) - exact[CURVED].log_p).max()
    setting.say(f"drawing z {samples} times for each of {n} images, in 6 models")
    drawn = {}
    for name, vae in (linear | {CURVED: curved}).items():
        x = (binary if vae is curved else grey)[:n]
        rng = np.random.default_rng(setting.seed)
        drawn[name] = by_draws(vae, x, exact[name].log_p[:n], samples, rng)
    chi2 = (4 / math.sqrt(7)) ** LATENT - 1
    excess = float(excess_at_optimum(optimum, grey[:n]).mean())
    approximation = approximation_gap(linear[TRAINED], grey)
    return Found(exact, drawn, approximation, chi2, excess, float(halved))


def scaled(vae: VAE, factor: float) -> VAE:
    """Return a copy of the model whose q has `factor` times the standard deviation."""
    copy = vae.astype(np.float64)
    copy.params["logvar.b"][:] += 2 * math.log(factor)
    return copy


def trained_linear(data: Dataset, epochs: int, seed: int) -> VAE:
    """Train the linear model on grey pixels, from the initial weights of the package."""
    sizes = data.train.shape[1], (), LATENT
    vae = VAE(*sizes, likelihood=Gaussian(VARIANCE), dtype=np.float64, rng=seed)
    train_and_test(
        vae, data, epochs=epochs, lr=2e-3, seed=seed, binarize="none", output_bias="data"
    )
    return vae


def trained_curved(data: Dataset, setting: Setting) -> VAE:
    """Train the nonlinear Bernoulli model with one latent dimension on binary pixels."""
    width, epochs = (80, 8) if setting.quick else (200, 6)
    vae = VAE(data.train.shape[1], (width,), 1, "tanh", dtype=np.float64, rng=setting.seed)
    train_and_test(vae, data, epochs=epochs, lr=3e-3, seed=setting.seed, output_bias="data")
    return vae


def exact_elbo(vae: VAE, x: Array, points: Array, weights: Array) -> Array:
    """E_q[log p(x | z)] - KL of each image, (N,), by the package.

    The mean over eps is taken over points, (P, Z), with weights, (P,).
    """
    elbos = []
    for rows in np.array_split(x, max(1, len(x) // 25)):  # in arrays of a few megabytes
        eps = np.broadcast_to(points[:, np.newaxis], (len(points), len(rows), vae.latent_dim))
        reconstruction, kl = vae.loss(vae.forward(rows, eps))
        elbos.append(-(weights @ reconstruction + kl))
    return np.concatenate(elbos)


def exact_linear(vae: VAE, x: Array) -> Exact:
    """log p(x), the ELBO and the KL between two normal distributions, in closed form."""
    z, points = vae.latent_dim, cubature(vae.latent_dim)
    elbo = exact_elbo(vae, x, points, np.full(len(points), 0.5 / z))
    mean, precision = linear_posterior(vae, x)
    mu, logvar = vae.encode(x)
    off = mean - mu  # (N, Z)
    trace = np.exp(logvar) @ np.diag(precision)
    square = ((off @ precision) * off).sum(axis=1)
    kl = (trace + square - z - np.linalg.slogdet(precision)[1] - logvar.sum(axis=1)) / 2
    return Exact(linear_log_p(vae, x), elbo, kl)


def approximation_gap(vae: VAE, x: Array) -> float:
    """KL of the best diagonal q of the linear model from p(z | x), the same for every image."""
    precision = linear_posterior(vae, x)[1]
    return float(np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1]) / 2


def grid(step: float) -> Array:
    """Return values of z from -EDGE to EDGE, (G, 1)."""
    return np.linspace(-EDGE, EDGE, round(2 * EDGE / step) + 1)[:, np.newaxis]


def grid_joint(vae: VAE, x: Array, z: Array) -> Array:
    """log p(x, z) of each z and image, (G, N). Bernoulli's log p(x | z) is affine in x."""
    logits = vae.network.output.forward(vae.network.decoder.forward(z)[-1])  # (G, D)
    log_black = -vae.likelihood.nll(np.zeros(vae.data_dim), logits)[:, np.newaxis]
    return log_black + logits @ x.T - z * z / 2 - math.log(2 * math.pi) / 2


def log_integral(log_values: Array, step: float) -> Array:
    """log ∫ of e^log_values over the grid: the sum times the step, as both ends are zero."""
    from scipy.special import logsumexp

    return np.asarray(logsumexp(log_values, axis=0)) + math.log(step)


def exact_curved(vae: VAE, x: Array, step: float) -> Exact:
    """log p(x) and the KL on the grid; the ELBO by the package, at Gauss-Hermite nodes."""
    z = grid(step)
    joint = grid_joint(vae, x, z)
    log_p = log_integral(joint, step)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    elbo = exact_elbo(vae, x, nodes[:, np.newaxis], weights / weights.sum())
    mu, logvar = (head.T for head in vae.encode(x))  # (1, N)
    log_q = -((z - mu) ** 2 / np.exp(logvar) + logvar + math.log(2 * math.pi)) / 2
    kl = (np.exp(log_q) * (log_q - (joint - log_p))).sum(axis=0) * step
    return Exact(log_p, elbo, kl)


def by_draws(vae: VAE, x: Array, log_p: Array, samples: int, rng: np.random.Generator) -> Drawn:
    """Draw z so many times for each image; a bound of K draws is a mean over groups of K."""
    shape = 1, len(x), vae.latent_dim
    trace = vae.forward(x, rng.standard_normal(shape))
    right, wrong = np.empty((2, samples, len(x)))
    for s in range(samples):
        terms = vae.terms(vae.resample(trace, rng.standard_normal(shape)))
        right[s] = log_weights(terms)[0] - log_p
        wrong[s] = -(terms.reconstruction[0] + terms.kl) - log_p
    bounds = [of_groups(right, k) for k in COUNTS]
    rises = np.diff([bound.mean(axis=0) for bound in bounds], axis=0)
    return Drawn(
        np.array([-bound.mean() for bound in bounds]), np.array([*map(error_of, bounds)]),
        least_rise=float(rises.min()),
        wrong=np.array([of_groups(wrong, k).mean(axis=0) for k in COUNTS]),
        scatter=float(right.std(axis=0).mean()), closed_scatter=float(wrong.std(axis=0).mean()),
    )  # fmt: skip


def of_groups(log_w: Array, k: int) -> Array:
    """log 1/K Σ w of each group of K draws, (S / K, N), from log w, (S, N)."""
    from scipy.special import logsumexp

    groups = log_w.reshape(-1, k, log_w.shape[1])
    return np.asarray(logsumexp(groups, axis=1)) - math.log(k)


def error_of(values: Array) -> float:
    """Standard error of the mean over groups and images, (G, N), for these images."""
    return float(np.sqrt(values.var(axis=0, ddof=1).mean() / values.size))


def excess_at_optimum(vae: VAE, x: Array) -> Array:
    """log E_q[p(x | z)] - KL - log p(x) of each image, (N,), if q is the true posterior."""
    mu, logvar = vae.encode(x)
    s2 = np.exp(logvar)
    return (1 - s2 - np.log(2 - s2) + mu * mu * s2 / (2 - s2)).sum(axis=1) / 2


TABLES = (
    Table("Computed without drawing z: means over test images, nats",
          (Column("model"),
           *columns("log p(x)", "standard error", "ELBO", form=".2f", within=0.02),
           *columns("gap", "KL(q(z | x) || p(z | x))", form="z.3f", within=0.003)),
          lambda found: [(name, e.log_p.mean(), standard_error(e.log_p), e.elbo.mean(),
                          e.gap.mean(), e.kl.mean()) for name, e in found.exact.items()]),
    Table("Gap of the trained linear model, nats per test image",
          columns("gap", "approximation gap", "amortization gap", form=".3f", within=0.01),
          lambda found: [(gap := found.exact[TRAINED].gap.mean(), found.approximation,
                          gap - found.approximation)]),
    Table("log p(x) minus the importance-weighted bound of K draws, nats per image",
          (Column("model"), *columns(*(f"K = {k}" for k in COUNTS), form="z.3f", within=0.003),
           Column(f"standard error at K = {COUNTS[-1]}", "z.3f", within=0.003)),
          lambda found: [*((name, *d.gaps, d.errors[-1])
                           for name, d in found.drawn.items() if name != OPTIMUM),
                         ("χ²/(2K) of 2σ", *(found.chi2 / (2 * k) for k in COUNTS), 0.0)]),
    Table("With the closed-form KL in the weights: the number minus log p(x), nats per image",
          (Column("model"), *columns(*(f"K = {k}" for k in COUNTS), form="z.2f", within=0.02),
           Column(f"images above log p(x) at K = {COUNTS[-1]}, %", ".0f", within=4)),
          lambda found: [(name, *d.wrong.mean(axis=1), 100 * (d.wrong[-1] > 0).mean())
                         for name, d in found.drawn.items()]),
    Table("Standard deviation of one draw, nats",
          (Column("model"), Column("log p(x | z) - log ratio", "z.2f", within=0.02),
           Column("log p(x | z) - KL", ".2f", within=0.02)),
          lambda found: [(name, d.scatter, d.closed_scatter) for name, d in found.drawn.items()]),
)  # fmt: skip

CLAIMS = (
    Claim("For every image log p(x) - ELBO equals KL(q(z | x) || p(z | x)), computed separately, "
          "within 1e-5 nats. At the linear optimum both are below 1e-9. Halving the grid step "
          "changes no log p(x) by 1e-6.",
          lambda found: (
              all((np.abs(e.gap - e.kl) < 1e-5).all() for e in found.exact.values())
              and np.abs([found.exact[OPTIMUM].gap, found.exact[OPTIMUM].kl]).max() < 1e-9
              and found.halved < 1e-6)),
    Claim("In the trained linear model the approximation gap is less than a tenth of the gap. The "
          "rest is the amortization gap.",
          lambda found: 0 < found.approximation < found.exact[TRAINED].gap.mean() / 10),
    Claim("The importance-weighted bound of every image rises from each K to the next, except at "
          "the optimum, where there is no gap. Its mean is never above log p(x) by more than four "
          "standard errors.",
          lambda found: all((name == OPTIMUM or d.least_rise > 0)
                            and (d.gaps > -4 * d.errors - 1e-9).all()
                            for name, d in found.drawn.items())),
    Claim("At K = 1 the gap with 2σ is larger than with 0.5σ, at K = 100 less than a third of it. "
          "There it is within 50 % of χ²/(2K) = 0.131 nats.",
          lambda found: (
              found.drawn[DOUBLED].gaps[0] > found.drawn[HALVED].gaps[0]
              and 3 * found.drawn[DOUBLED].gaps[2] < found.drawn[HALVED].gaps[2]
              and 0.5 < found.drawn[DOUBLED].gaps[2] / (found.chi2 / (2 * COUNTS[2])) < 1.5
              and format(found.chi2 / (2 * COUNTS[2]), ".3f") == "0.131")),
    Claim("From K = 10 to K = 100 the gap with 0.8σ, where the importance weights have a finite "
          "variance, falls to less than a third. With 0.5σ, where the variance is infinite, it "
          "does not even halve.",
          lambda found: (
              3 * found.drawn[NARROWED].gaps[2] < found.drawn[NARROWED].gaps[1]
              and 2 * found.drawn[HALVED].gaps[2] > found.drawn[HALVED].gaps[1])),
    Claim("With the closed-form KL in the weights and K = 1000 the number at the optimum is above "
          "log p(x) for every image: by more than 1 nat on average, within 0.05 of its formula. "
          "With 0.5σ it is below log p(x) for every image.",
          lambda found: ((found.drawn[OPTIMUM].wrong[-1] > 0).all()
                         and found.drawn[OPTIMUM].wrong[-1].mean() > 1
                         and abs(found.drawn[OPTIMUM].wrong[-1].mean() - found.excess) < 0.05
                         and (found.drawn[HALVED].wrong[-1] < 0).all())),
    Claim("At the optimum one draw of log p(x | z) - log ratio is log p(x) itself, with a standard "
          "deviation below 1e-9 nats. That of log p(x | z) - KL is above 1 nat.",
          lambda found: (found.drawn[OPTIMUM].scatter < 1e-9
                         and found.drawn[OPTIMUM].closed_scatter > 1)),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """Draw the gap against K, and the gap of each image in descending order."""
    left, right = figure.subplots(1, 2, width_ratios=(1.8, 1))
    styles = {HALVED: "C7s--", TRAINED: "C0D-.", CURVED: "C3^:", DOUBLED: "C4o-", NARROWED: "C6v:"}
    k = np.array(COUNTS)
    line = found.chi2 / (2 * k[1:])
    left.plot(k[1:], line, "k-", lw=0.7)
    labels = [(line[-1], "χ²/(2K) of 2σ", "k")]
    for name, style in styles.items():
        d = found.drawn[name]
        seen = d.gaps > 2 * d.errors  # the rest is noise, and may have no logarithm
        left.errorbar(k[seen], d.gaps[seen], d.errors[seen], fmt=style, ms=4, lw=1.2)
        rest = "" if seen.all() else f" (K ≥ {k[~seen][0]}: noise)"
        labels.append((d.gaps[seen][-1], name + rest, style[:2]))
    height = 0.0
    for end, label, colour in sorted(labels):
        height = max(end, 1.7 * height)  # a line above the label before
        left.text(1.5 * k[-1], height, label, color=colour, fontsize=8, va="center")
    left.set(xscale="log", yscale="log", xlabel="K, draws in a bound", xlim=(0.7, 1e5))
    left.set(ylim=(1e-3, 20), ylabel="log p(x) − bound, nats")
    left.set_xticks(k, list(map(str, k)))
    left.set_xticks((), minor=True)
    for name in TRAINED, CURVED:
        gaps = np.sort(found.exact[name].gap)[::-1]
        share = 100 * np.arange(1, len(gaps) + 1) / len(gaps)
        right.plot(share, gaps, styles[name][3:], color=styles[name][:2], label=name)
    right.set(yscale="log", xlabel="test images, %, largest gap first")
    right.set_ylabel("log p(x) − ELBO, nats")
    right.legend(fontsize=8)


QUESTION = "ELBO, importance-weighted bound (IWAE), log p(x): how far apart?"
CONCLUSION = (
    "The ELBO is below log p(x) by exactly KL(q(z | x) || p(z | x)), and the importance-weighted "
    "bound (IWAE) lies between the two."
)
STUDY = Study("bounds", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw, 3.2)
