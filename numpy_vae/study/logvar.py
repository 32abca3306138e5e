"""Why the logarithm of the variance? Six meanings of what the second head gives.

Letters of this module: M meanings of s, S values of sigma, R learning rates.

The head gives any real number s, and the rest of the model reads logvar = g(s):

    s is          g(s)              g'(s)                     must s be positive?
    sigma²        log s             1/s                       yes
    sigma         2 log s           2/s                       yes
    ±sigma        log s²            2/s                       it must not be 0
    softplus⁻¹    2 log softplus s  2 (1 - e^-sigma) / sigma  no
    log sigma     2 s               2                         no
    log sigma²    s                 1                         no

`Head` is the VAE with such a g: ds = dlogvar g'(s), and all else as it was.

**Curvature.** At mu = 0 one dimension has KL = (v - 1 - logvar) / 2 with v = sigma² = e^logvar. So

    dKL/ds   = (v - 1) g' / 2
    d²KL/ds² = (v g'² + (v - 1) g'') / 2

**Two meanings at once.** p(z) = N(0, 1), x | z ~ N(w z, u), lambda = w²/u: the posterior has the
variance 1 / (1 + lambda), and q = N(mu, sigma²) has the loss, exact in z,

    -log p(x | z) + KL = log(2πu)/2 + ((x - w mu)² + w² sigma²) / 2u + (mu² + v - 1 - log v) / 2

With sigma² = v its minimum is -log p(x). Where the sampler takes e^a for sigma and the KL takes e^a
for v, the minimum is where r = e^a solves 2 lambda r² + r - 1 = 0, and lies below -log p(x), by

    log(1 + lambda) / 2 + (1 - r) / 4 + log(r) / 2
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from .. import posterior
from ..data.dataset import Dataset
from ..network import Network
from ..params import Array
from ..vae import VAE
from .report import Claim, Column, Setting, Study, Table, columns
from .training import train_and_test

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEARNING_RATES = (1e-3, 3e-3, 1e-2)
TRAININGS = 2  # with each meaning and learning rate
SIGMAS = np.logspace(-2, 1, 61)
SHOWN = slice(None, None, 20)  # of them: 0.01, 0.1, 1, 10
LAMBDAS = (0.1, 1.0, 10.0, 100.0)


class Meaning(NamedTuple):
    """What s is: logvar = g(s)."""

    name: str
    s: Callable[[Array], Array]  # of sigma
    g: Callable[[Array], Array]
    slope: Callable[[Array], Array]  # g'
    curvature: Callable[[Array], Array]  # g''


def softplus(s: Array) -> Array:
    """log(1 + eˢ), without overflow."""
    positive = s * (s.real > 0)
    return positive + np.log1p(np.exp(s - 2 * positive))


def softplus_slope(s: Array) -> Array:
    """2 p / sigma with p = softplus' = 1 - e^-sigma, which has digits where s is far below 0."""
    sigma = softplus(s)
    return -2 * np.expm1(-sigma) / sigma


def softplus_curvature(s: Array) -> Array:
    """2 (p (1 - p) / sigma - p² / sigma²), as p' = p (1 - p)."""
    sigma = softplus(s)
    p = -np.expm1(-sigma)
    return 2 * p * ((1 - p) * sigma - p) / (sigma * sigma)


MEANINGS = (
    Meaning("σ²", lambda sigma: sigma**2, np.log, lambda s: 1 / s, lambda s: -1 / s**2),
    Meaning("σ", np.copy, lambda s: 2 * np.log(s), lambda s: 2 / s, lambda s: -2 / s**2),
    Meaning("±σ", np.copy, lambda s: np.log(s * s), lambda s: 2 / s, lambda s: -2 / s**2),
    Meaning(
        "softplus⁻¹(σ)",
        lambda sigma: sigma + np.log(-np.expm1(-sigma)),
        lambda s: 2 * np.log(softplus(s)),
        softplus_slope,
        softplus_curvature,
    ),
    Meaning("log σ", np.log, lambda s: 2 * s, lambda s: np.full_like(s, 2), np.zeros_like),
    Meaning("log σ²", lambda sigma: 2 * np.log(sigma), np.copy, np.ones_like, np.zeros_like),
)
ANY_SIGN = tuple(meaning.name for meaning in MEANINGS[2:])


class Head(Network):
    """A second head that gives s, with logvar = g(s)."""

    meaning: ClassVar[Meaning]

    def heads(self, h: Array) -> tuple[Array, Array]:
        """mu, and logvar = g(s)."""
        return self.mu_head.forward(h), self.meaning.g(self.logvar_head.forward(h))

    def heads_backward(self, h: Array, dmu: Array, dlogvar: Array, grad: Self) -> Array:
        """ds = dlogvar g'(s)."""
        ds = dlogvar * self.meaning.slope(self.logvar_head.forward(h))
        return super().heads_backward(h, dmu, ds, grad)


def head_of(s: Meaning) -> type[Head]:
    """Return the network in which s has this meaning."""

    class HeadOfThis(Head):
        meaning = s

    return HeadOfThis


class Mixture(NamedTuple):
    """The linear Gaussian model of one lambda, at the minimum of the loss."""

    lambda_: float
    posterior: float  # sigma of p(z | x)
    one: float  # sigma of the sampler, where sampler and KL mean the same by the number
    two: float  # and where they do not
    excess_of_one: float  # minus the loss, less log p(x), in nats
    excess_of_two: float


class Found(NamedTuple):
    """The numbers of the page."""

    trained: dict[str, Array]  # (R, TRAININGS) test ELBOs by meaning, in nats; NaN where it failed
    slopes: Array  # (M, S) dKL/ds of each meaning at each of SIGMAS
    curvatures: Array  # (M, S) d²KL/ds²
    mixtures: list[Mixture]

    def failed(self, meaning: str) -> Array:
        """How many trainings failed with each learning rate, (R,)."""
        return np.isnan(self.trained[meaning]).sum(axis=1)

    def elbos(self, meaning: str) -> Array:
        """Mean test ELBO with each learning rate, (R,); NaN where a training failed."""
        return self.trained[meaning].mean(axis=1)

    def steepest(self, name: str) -> float:
        """The largest second derivative at the sigmas that are shown."""
        row = [meaning.name for meaning in MEANINGS].index(name)
        return float(self.curvatures[row, SHOWN].max())


def run(setting: Setting) -> Found:
    """Train with each meaning, learning rate and seed; the rest is computed."""
    data = setting.images(900, 200) if setting.quick else setting.images(20_000, 2000)
    hidden, latent, epochs, batch_size = (50, 5, 5, 20) if setting.quick else (100, 10, 2, 100)
    derivatives = [derivatives_of_the_kl(meaning, SIGMAS) for meaning in MEANINGS]
    slopes, curvatures = zip(*derivatives, strict=True)
    trained = {}
    for meaning in MEANINGS:
        elbos = trained[meaning.name] = np.empty((len(LEARNING_RATES), TRAININGS))
        for i, k in np.ndindex(elbos.shape):
            sizes, seed = (data.train.shape[1], (hidden,), latent), setting.seed + k
            vae = VAE(*sizes, rng=seed, network_type=head_of(meaning))
            vae.params["logvar.b"][:] = meaning.s(np.ones(latent))  # sigma = 1
            elbos[i, k] = train(vae, data, epochs, batch_size, LEARNING_RATES[i], seed)
    return Found(trained, np.array(slopes), np.array(curvatures), [mix(each) for each in LAMBDAS])


def train(vae: VAE, data: Dataset, epochs: int, batch_size: int, rate: float, seed: int) -> float:
    """Return the test ELBO, or NaN if a value was not finite on the way."""
    try:
        return train_and_test(
            vae, data, epochs=epochs, batch_size=batch_size, lr=rate, seed=seed, output_bias="data"
        ).elbo
    except FloatingPointError:
        return math.nan


def derivatives_of_the_kl(meaning: Meaning, sigma: Array) -> tuple[Array, Array]:
    """dKL/ds and d²KL/ds² of one dimension at mu = 0, of the shape of sigma, (S,)."""
    s, column = meaning.s(sigma), sigma[:, np.newaxis]
    _, dlogvar = posterior.kl_backward(0 * column, column, np.ones_like(sigma))  # (v - 1) / 2
    slope, curvature = meaning.slope(s), meaning.curvature(s)
    return dlogvar[:, 0] * slope, sigma**2 / 2 * slope**2 + dlogvar[:, 0] * curvature


def loss(point: Array, x: float, w: float, two_meanings: bool) -> float:
    """-E[log p(x | z)] + KL, in nats, at the point (mu, a) with logvar = a and x | z ~ N(w z, 1).

    With two meanings the sampler has sigma = eᵃ, as if a were log sigma.
    """
    mu, a = point[:1], point[1:]
    sigma = np.exp(a) if two_meanings else posterior.standard_deviation(a)
    nll = (math.log(2 * math.pi) + (x - w * mu) ** 2 + (w * sigma) ** 2) / 2
    return float(nll[0] + posterior.kl(mu, a, posterior.standard_deviation(a)))


def mix(lambda_: float, x: float = 1.0) -> Mixture:
    """Minimise the loss with one meaning and with two."""
    from scipy.optimize import minimize

    w, variance = math.sqrt(lambda_), 1 + lambda_  # of x
    log_p = -(math.log(2 * math.pi * variance) + x * x / variance) / 2
    settings = {"method": "Nelder-Mead", "tol": 1e-9}
    one = minimize(loss, np.zeros(2), (x, w, False), **settings)
    two = minimize(loss, np.zeros(2), (x, w, True), **settings)
    sigmas = 1 / math.sqrt(variance), math.exp(one.x[1] / 2), math.exp(two.x[1])
    return Mixture(lambda_, *sigmas, float(-one.fun - log_p), float(-two.fun - log_p))


AT_SIGMAS = columns(*(f"σ = {s:g}" for s in SIGMAS[SHOWN]), form="z.3g", factor=1.01)


def derivatives_shown(of_each: Array) -> list[tuple[Any, ...]]:
    """The rows for derivatives of the KL of each meaning at each of SIGMAS, (M, S)."""
    return [(m.name, *values[SHOWN]) for m, values in zip(MEANINGS, of_each, strict=True)]


TABLES = (
    Table(f"Trainings that failed, of {TRAININGS} with each learning rate",
          (Column("s is"), Column(f"lr {LEARNING_RATES[0]:g}", "d", within=1),
           *columns(*(f"lr {rate:g}" for rate in LEARNING_RATES[1:]), form="d")),
          lambda found: [(meaning.name, *found.failed(meaning.name)) for meaning in MEANINGS]),
    Table("Mean ELBO of the test images, nats per image, where s may have either sign",
          (Column("lr", "g"),
           Column(f"s is {ANY_SIGN[0]}", ".1f", within=25),  # a jump over 0 is chance
           *columns(*ANY_SIGN[1:], form=".1f", within=2)),
          lambda found: list(zip(LEARNING_RATES, *map(found.elbos, ANY_SIGN), strict=True))),
    Table("First derivative by s of the KL of one dimension, at μ = 0, in nats",
          (Column("s is"), *AT_SIGMAS), lambda found: derivatives_shown(found.slopes),
          images=False),
    Table("Second derivative by s of the KL of one dimension, at μ = 0, in nats",
          (Column("s is"), *AT_SIGMAS), lambda found: derivatives_shown(found.curvatures),
          images=False),
    Table("Linear Gaussian model at its optimum: σ, and minus the loss less log p(x) in nats",
          (Column("λ", "g"),
           Column("σ of the posterior", ".4f", within=2e-4),
           *columns("σ, one meaning", "σ, two meanings", form=".4f", within=2e-4),
           *columns("excess, one meaning", "excess, two meanings", form="z.4f", within=2e-4)),
          lambda found: found.mixtures, images=False),
)  # fmt: skip

CLAIMS = (
    Claim("If s is σ², every training fails, at each learning rate; if s is σ, every one does from "
          "0.003 on.",
          lambda found: ((found.failed("σ²") == TRAININGS).all()
                         and (found.failed("σ")[1:] == TRAININGS).all())),
    Claim("With softplus, log σ and log σ² none fails, and at the best learning rate of each their "
          "test ELBOs differ by less than 8 nats.",
          # Of a NaN it is false.
          lambda found: np.ptp([found.elbos(name).max() for name in ANY_SIGN[1:]]) < 8),
    Claim("If s is ±σ, none fails either, but at the best learning rate of each the test ELBO is "
          "lower than with each of those three by more than 4 nats.",
          lambda found: all(found.elbos("±σ").max() < np.nanmax(found.elbos(name)) - 4
                            for name in ("softplus⁻¹(σ)", "log σ", "log σ²"))),
    Claim("The largest second derivative of the table is above ten million with σ², above a "
          "thousand with σ, below 250 with the two logarithms, and below 1.1 with softplus.",
          lambda found: (found.steepest("σ²") > 1e7
                         and found.steepest("σ") > 1e3
                         and max(found.steepest("log σ"), found.steepest("log σ²")) < 250
                         and found.steepest("softplus⁻¹(σ)") < 1.1)),
    Claim("In the linear model one meaning gives the σ of the posterior and the bound log p(x), to "
          "0.0001; two meanings give a σ too small by more than 10 % and a value above log p(x), "
          "at λ = 100 by more than a nat.",
          lambda found: (found.mixtures[-1].excess_of_two > 1
                         and all(abs(m.one - m.posterior) < 1e-4
                                 and abs(m.excess_of_one) < 1e-4
                                 and m.two < 0.9 * m.posterior
                                 and m.excess_of_two > 0
                                 for m in found.mixtures))),
)  # fmt: skip

STYLES = {  # colour, marker, line
    "σ²": ("C6", "X", "-"),
    "σ": ("C7", "P", "--"),
    "±σ": ("C5", "s", ""),  # its curve is that of σ
    "softplus⁻¹(σ)": ("C2", "^", ":"),
    "log σ": ("C1", "D", "-."),
    "log σ²": ("C0", "o", "-"),
}


def draw(figure: Figure, found: Found) -> None:
    """What became of the trainings, the second derivatives, and what two meanings gain."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.4, 1.2, 1))
    elbos = np.array(list(found.trained.values()))
    room = np.nanmax(elbos) - np.nanmin(elbos)
    failed = np.nanmin(elbos) - 0.25 * room
    for i, (name, (colour, marker, _)) in enumerate(STYLES.items()):
        rates = np.repeat(LEARNING_RATES, TRAININGS) * 1.1 ** (i - 2.5)  # side by side
        heights = np.nan_to_num(found.trained[name].ravel(), nan=failed)
        left.plot(rates, heights, marker, color=colour, ms=6, mew=0.5, mec="white")
    left.axhspan(failed - 0.1 * room, failed + 0.1 * room, color="0.92", zorder=0)
    left.text(LEARNING_RATES[0], failed + 0.12 * room, "failed", fontsize=8)
    left.set(xscale="log", xlabel="learning rate", ylabel="test ELBO, nats per image")
    left.set_xticks(LEARNING_RATES, [f"{rate:g}" for rate in LEARNING_RATES])
    left.minorticks_off()
    for meaning, curvatures in zip(MEANINGS, found.curvatures, strict=True):
        colour, marker, line = STYLES[meaning.name]
        middle.loglog(SIGMAS, curvatures, ls=line, color=colour)
        middle.loglog([], [], marker, ls=line, color=colour, mec="white", label=meaning.name)
    middle.set(xlabel="σ", ylabel="d²KL/ds², nats")
    lambdas = [m.lambda_ for m in found.mixtures]
    right.semilogx(lambdas, [m.excess_of_two for m in found.mixtures], "s--", color="C6")
    right.semilogx(lambdas, [m.excess_of_one for m in found.mixtures], "o-", color="C0")
    right.text(0.1, 0.7, "two meanings", color="C6", fontsize=8)
    right.text(3, 0.07, "one meaning", color="C0", fontsize=8)
    right.set(xlabel="λ", ylabel="reported less log p(x), nats")
    figure.legend(title="s is", loc="outside lower center", ncols=len(STYLES))


CONCLUSION = (
    "A linear layer outputs any real number and a variance must be positive, so the head outputs "
    "its logarithm."
)
STUDY = Study(
    "logvar", "Why the logarithm of the variance?", CONCLUSION, run, TABLES, CLAIMS, draw, 3.5
)
