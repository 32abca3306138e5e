"""The KL divergence: where does the formula come from, and can it be negative?

Letters of this module: B images, Z latent dimensions, T steps.

For q = N(mu, sigma²) and p = N(0, 1), with z = mu + sigma eps and logvar = log sigma²,

    log q(z) - log p(z) = (z² - eps² - logvar) / 2                    the log ratio r
    KL(q || p) = E_q[r] = (mu² + sigma² - 1 - logvar) / 2             its gradient:
                                                                      mu, (sigma² - 1) / 2
    Var(r) = (sigma² - 1)² / 2 + mu² sigma²

-log p(x | z) + KL and -log p(x | z) + r have the same mean, -ELBO. The second is constant if q is
the true posterior, as at the optimum of the linear model (probabilistic PCA), and so is its
derivative without the score term, that of log q at a fixed z ("sticking the landing").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

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
LIMITS = (1e3, 1e6, 1e9)  # nats, of a KL that grows
GRID = MU, LOGVAR = np.meshgrid(np.linspace(-3, 3, 13), np.linspace(-4, 4, 17))  # (17, 13) each
WIDTHS = (0.3, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)  # c, the factor on sigma of the linear model
ESTIMATES = "closed form", "log ratio", "log ratio, no score term"

# The KL as published code has it: the first two are right.
FORMS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "(μ² + σ² - 1 - log σ²) / 2, right": lambda mu, logvar, var: (mu * mu + var - 1 - logvar) / 2,
    "-(1 + log σ² - μ² - σ²) / 2, right": lambda mu, logvar, var: -(1 + logvar - mu * mu - var) / 2,
    "(1 + log σ² - μ² - σ²) / 2": lambda mu, logvar, var: (1 + logvar - mu * mu - var) / 2,
    "-(1 - log σ² - μ² - σ²) / 2": lambda mu, logvar, var: -(1 - logvar - mu * mu - var) / 2,
    "-(1 + log σ² - μ² + σ²) / 2": lambda mu, logvar, var: -(1 + logvar - mu * mu + var) / 2,
    "-(1 + log σ - μ² - σ²) / 2": lambda mu, logvar, var: -(1 + logvar / 2 - mu * mu - var) / 2,
    "-(1 + log σ² - μ² - σ⁴) / 2": lambda mu, logvar, var: -(1 + logvar - mu * mu - var * var) / 2,
}


class Point(NamedTuple):
    """The KL at one mu and logvar, in nats, in three ways."""

    mu: float
    logvar: float
    closed: float
    quadrature: float
    mean: float  # of DRAWS log ratios
    error: float  # its standard error
    negative: float  # share of the log ratios below zero


class Noise(NamedTuple):
    """Standard deviations over draws, for each of ESTIMATES: of -ELBO and of its derivatives."""

    model: str
    value: tuple[Array, ...]  # (B,) each
    by_mu: tuple[Array, ...]  # (B, Z) each
    by_logvar: tuple[Array, ...]  # (B, Z) each
    negative: tuple[float, float]  # share of log ratios below zero: of images, of dimensions

    def of_values(self) -> float:
        """Standard deviation with the log ratio / with the closed form, median over images."""
        return float(np.median(self.value[1] / self.value[0]))


class Training(NamedTuple):
    """The first steps of training on reconstruction + sign KL; means over each minibatch."""

    sign: int
    kls: Array  # (T,)
    losses: Array  # (T,) reconstruction + sign KL


class Found(NamedTuple):
    """The numbers of the page."""

    points: list[Point]
    closed: Array  # (17, 13) the KL on the grid
    quadrature: Array  # (17, 13)
    gradient_error: float  # the largest difference to the complex step on the grid
    forms: dict[str, Array]  # (17, 13) each of FORMS on the grid
    linear: dict[float, Noise]  # by WIDTHS
    trained: Noise
    trainings: list[Training]  # right sign, flipped


def run(setting: Setting) -> Found:
    """Evaluate, integrate and draw; train with the right sign and with the flipped one."""
    data = setting.images(2500 if setting.quick else 60_000, 500)
    hidden, latent, epochs = (100, 8, 15) if setting.quick else (200, 20, 3)
    draws, pixels, plain = spawn(setting.seed, 3)
    vae = VAE(data.train.shape[1], (hidden,), latent, rng=setting.seed)
    setting.say("training a model")
    train_and_test(vae, data, epochs=epochs, lr=2e-3, seed=setting.seed)
    x = batch(data.test, slice(100), pixels=pixels)
    y = plain.standard_normal((60, 11)) @ plain.standard_normal((11, 11))
    setting.say("drawing z, and training with both signs of the KL")
    linear = {}
    for c in WIDTHS:
        model = linear_optimum(y, 3)
        model.params["logvar.b"][:] += 2 * math.log(c)
        linear[c] = noise(f"linear, c = {c:g}", model, y, plain)
    return Found(
        points=[point(mu, logvar, draws) for mu, logvar in POINTS],
        closed=closed_form(*GRID),
        quadrature=np.vectorize(by_quadrature)(*GRID),
        gradient_error=gradient_error(*GRID),
        forms={name: form(*GRID, np.exp(LOGVAR)) for name, form in FORMS.items()},
        linear=linear,
        trained=noise("trained", vae, x, pixels),
        trainings=[first_steps(sign, data, hidden, latent, setting.seed) for sign in (1, -1)],
    )


def closed_form(mu: Array, logvar: Array) -> Array:
    """The KL of the package, entry by entry, of the shape of mu and logvar."""
    return posterior.kl_per_dimension(mu, logvar, posterior.standard_deviation(logvar))


def by_quadrature(mu: float, logvar: float) -> float:
    """∫ q log(q / p) dz, from the two densities alone, in nats."""
    from scipy import integrate

    sigma = math.sqrt(math.exp(logvar))

    def log_density(z: float, mean: float, sd: float) -> float:
        return -0.5 * ((z - mean) / sd) ** 2 - math.log(sd * math.sqrt(2 * math.pi))

    def integrand(z: float) -> float:
        log_q = log_density(z, mu, sigma)
        return math.exp(log_q) * (log_q - log_density(z, 0, 1))

    return float(integrate.quad(integrand, mu - 12 * sigma, mu + 12 * sigma, epsabs=1e-12)[0])


def point(mu: float, logvar: float, rng: np.random.Generator) -> Point:
    """Compute the KL in three ways; z is from the model's own sampler."""
    eps, a = rng.standard_normal((DRAWS, 1)), np.array([logvar])
    z = posterior.sample(np.array([mu]), posterior.standard_deviation(a), eps)
    r = posterior.log_ratio(a, eps, z)
    closed = float(closed_form(np.array([[mu]]), np.array([[logvar]]))[0, 0])
    return Point(
        mu, logvar, closed, by_quadrature(mu, logvar), mean=float(r.mean()),
        error=float(r.std() / math.sqrt(DRAWS)), negative=float((r < 0).mean()),
    )  # fmt: skip


def gradient_error(mu: Array, logvar: Array) -> float:
    """Largest difference of the gradient to the complex step Im KL(θ + ih) / h."""
    mu, logvar, h = mu.reshape(-1, 1), logvar.reshape(-1, 1), 1e-30
    ours = posterior.kl_backward(mu, posterior.standard_deviation(logvar), np.ones(len(mu)))
    steps = closed_form(mu + 1j * h, logvar).imag / h, closed_form(mu, logvar + 1j * h).imag / h
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, steps, strict=True))


def noise(model: str, vae: VAE, x: Array, rng: np.random.Generator) -> Noise:
    """Compute -ELBO and its derivatives by each of ESTIMATES, with the same 500 draws."""
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
        score = eps / sigma, (eps * eps - 1) / 2  # of log q at a fixed z
        values.append([nll + kl, nll + r, nll + r])
        by_mu.append([dmu + exact[0], dmu + drawn[0], dmu + drawn[0] - score[0]])
        by_logvar.append([dlogvar + d for d in (exact[1], drawn[1], drawn[1] - score[1])])
        ratios.append((trace.z**2 - eps**2 - trace.logvar) / 2)  # (50, B, Z), by dimension
    each = np.concatenate(ratios)
    negative = float((each.sum(axis=-1) < 0).mean()), float((each < 0).mean())
    return Noise(model, sds(values), sds(by_mu), sds(by_logvar), negative)


def sds(parts: list[list[Array]]) -> tuple[Array, ...]:
    """Standard deviation over all draws of each estimate, from its parts along the draws."""
    together = map(np.concatenate, zip(*parts, strict=True))
    return tuple(estimates.std(axis=0, dtype=np.float64) for estimates in together)


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
    """Return the first step, from 1, at which the KL exceeds the limit; 0 if none does."""
    return int(np.argmax(kls > limit)) + 1 if (kls > limit).any() else 0


NOISE_COLUMNS = (
    *columns("model", "KL in the estimate"), Column("value, nats", ".3g", within=1e-9, factor=1.2),
    *columns("∂/∂μ", "∂/∂ log σ²", form=".3g", within=1e-9, factor=1.2),
)  # fmt: skip


def noise_rows(*noises: Noise) -> list[tuple[Any, ...]]:
    """Medians for each model and each of ESTIMATES."""
    return [
        (each.model, name, *map(np.median, estimate))
        for each in noises
        for name, *estimate in zip(ESTIMATES, *each[1:4], strict=True)
    ]


TABLES = (
    Table(f"The KL in nats; {DRAWS} draws",
          (*columns("μ", "log σ²", form="g"),
           *columns("closed form", "quadrature", form=".6f", within=1e-6),
           *columns("mean of log q - log p", "its standard error", form=".4f", within=2e-4),
           Column("draws below zero, %", ".1f", within=0.1)),
          lambda found: [(*each[:-1], 100 * each.negative) for each in found.points],
          images=False),
    Table("Formulas in published code, in nats; grid of μ from -3 to 3, log σ² from -4 to 4",
          (Column("formula"),
           *columns("at μ = 1, log σ² = 1", "minimum on the grid", form="z.4f", within=1e-4),
           *columns("μ there", "log σ² there", form="g")),
          lambda found: [(name, *kl[(MU == 1) & (LOGVAR == 1)], kl.min(),
                          *(axis.flat[kl.argmin()] for axis in GRID))
                         for name, kl in found.forms.items()], images=False),
    Table("Linear model with σ at c times its optimum: standard deviation of one estimate of "
          "-ELBO, nats, median over images",
          (Column("c", "g"), *columns("closed form", "log ratio", form=".3f", within=0.001),
           Column("predicted: |c² - 1| √(Z / 2)", ".3f")),
          lambda found: [(c, *map(np.median, noise.value[:2]), abs(c * c - 1) * math.sqrt(3 / 2))
                         for c, noise in found.linear.items()], images=False),
    Table("Linear model: standard deviation of one estimate of -ELBO and of its derivatives, "
          "median over images and dimensions",
          NOISE_COLUMNS, lambda found: noise_rows(found.linear[1], found.linear[0.5]),
          images=False),
    Table("Trained model: standard deviation of one estimate of -ELBO and of its derivatives, "
          "median over images and dimensions",
          NOISE_COLUMNS, lambda found: noise_rows(found.trained)),
    Table("Trained model: single log ratios below zero, %",
          (Column("of an image", ".2f", within=0.2),
           Column("of one of its dimensions", ".1f", within=2)),
          lambda found: [tuple(100 * share for share in found.trained.negative)]),
    Table("Training on reconstruction + KL and on reconstruction - KL; steps count from 1, 0 means "
          "never",
          (Column("sign of the KL", "+d"), Column("KL at step 20, nats", ".3g", factor=1.3),
           *(Column(f"first step with KL > {limit:g}", "d", within=3) for limit in LIMITS),
           Column("loss at the last step", ".2g", factor=10)),
          lambda found: [(t.sign, *(t.kls[19:20] if len(t.kls) > 19 else [math.nan]),
                          *(first_above(t.kls, limit) for limit in LIMITS), t.losses[-1])
                         for t in found.trainings]),
)  # fmt: skip

CLAIMS = (
    Claim("At all 221 points of the grid the closed form is within 1e-9 nats of the integral of q "
          "log(q / p), and its gradient within 1e-9 of the complex step.",
          lambda found: (np.abs(found.closed - found.quadrature).max() < 1e-9
                         and found.gradient_error < 1e-9)),
    Claim("The KL is 0 at μ = 0, log σ² = 0 and above 0.05 at every other point of the grid. Means "
          "of 100 000 draws are within 5 standard errors of it. Single draws can be negative: at "
          "μ = 0.5, log σ² = 0 more than 30 % are.",
          lambda found: (found.closed[(MU == 0) & (LOGVAR == 0)] == 0
                         and found.closed[(MU != 0) | (LOGVAR != 0)].min() > 0.05
                         and all(abs(each.mean - each.closed) <= 5 * each.error
                                 for each in found.points)
                         and found.points[1].negative > 0.3)),
    Claim("With q near the posterior, the log ratio makes the value less noisy. At the optimum of "
          "the linear model its standard deviation is below 1e-9 nats, and above 0.5 with the "
          "closed form. In the trained model it is below 0.95 times as large (median over images).",
          lambda found: (found.linear[1].value[1].max() < 1e-9
                         and np.median(found.linear[1].value[0]) > 0.5
                         and found.trained.of_values() < 0.95)),
    Claim("With σ of the linear model at c times its optimum, the log ratio has the less noisy "
          "value for every c tried above 1/√2, and the noisier one for every c below. At c = 0.5 "
          "its standard deviation is more than twice as large.",
          lambda found: (all((each.of_values() < 1) == (c > 0.5**0.5)
                             for c, each in found.linear.items())
                         and found.linear[0.5].of_values() > 2)),
    Claim("The log ratio makes the gradient noisier. With every c and in the trained model, the "
          "derivative with respect to μ has a larger standard deviation than with the closed form "
          "for more than 95 % of all images and dimensions.",
          lambda found: all((each.by_mu[1] > each.by_mu[0]).mean() > 0.95
                            for each in (*found.linear.values(), found.trained))),
    Claim("Without the score term of log q, the gradient at the optimum of the linear model has a "
          "standard deviation below 1e-9.",
          lambda found: max(found.linear[1].by_mu[2].max(),
                            found.linear[1].by_logvar[2].max()) < 1e-9),
    Claim("With the sign flipped the KL exceeds a million nats within 80 steps of training. With "
          "the right sign it stays below 100 nats for 100 steps.",
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
    left.set(xlabel="μ", ylabel="log σ²", title="KL, nats; arrows: down the slope")
    closed, drawn = np.median([each.value[:2] for each in found.linear.values()], axis=2).T
    middle.plot(WIDTHS, closed, "C0o-", ms=4)
    middle.plot(WIDTHS, drawn, "C6s--", ms=4)
    middle.axvline(0.5**0.5, color="0.85", lw=0.8, zorder=0)
    middle.text(0.75, 0.95 * closed.max(), "1/√2")
    middle.text(1.45, 3.0, "closed form", color="C0", ha="right")
    middle.text(2, 0.9, "log ratio", color="C6", ha="right")
    middle.set(xlabel="c: σ / the best σ, linear model", ylabel="noise of one −ELBO, nats")
    for training, name, look in zip(found.trainings, ("+", "−"), ("C0-", "C6--"), strict=True):
        right.semilogy(np.arange(1, len(training.kls) + 1), training.kls, look)
        at = min(60, len(training.kls))
        right.annotate(f"nll {name} KL", (at, training.kls[at - 1]), (6, 4), color=look[:2],
                       textcoords="offset points")  # fmt: skip
    right.set(xlabel="step of training", ylabel="KL, nats")
    right.margins(y=0.1)


QUESTION = "The KL divergence: where does the formula come from, and can it be negative?"
CONCLUSION = (
    "The KL is the mean of log q - log p under q; for two normal distributions it has a closed "
    "form, it is never negative, and it is added to the loss."
)
STUDY = Study("kl", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw)
