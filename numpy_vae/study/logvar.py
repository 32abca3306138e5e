"""Why the log variance, and not the variance or sigma? Six meanings of the head's output.

Letters of this module: M meanings, S values of sigma, R learning rates.

The second head outputs any real number a. The rest of the model reads it as log sigma²:

    a is          log sigma²        its derivative            must a be positive?
    sigma²        log a             1/a                       yes
    sigma         2 log a           2/a                       yes
    ±sigma        log a²            2/a                       it must not be 0
    softplus⁻¹    2 log softplus a  2 (1 - e^-sigma) / sigma  no
    log sigma     2 a               2                         no
    log sigma²    a                 1                         no

`Head` is the VAE with such a meaning: da = dlogvar logvar'(a), and all else as it was. At mu = 0
one dimension has KL = (sigma² - 1 - logvar) / 2, so

    dKL/da   = (sigma² - 1) logvar' / 2
    d²KL/da² = (sigma² logvar'² + (sigma² - 1) logvar'') / 2

Two meanings at once are tried on p(z) = N(0, 1), x | z ~ N(W z, 1), where log p(x) is known.
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
RATIOS = (0.1, 1.0, 10.0, 100.0)  # W², the ratio of signal to noise in the linear model


class Meaning(NamedTuple):
    """What the output a of the head is."""

    name: str
    a: Callable[[Array], Array]  # of sigma
    logvar: Callable[[Array], Array]  # of a
    slope: Callable[[Array], Array]  # logvar'
    curvature: Callable[[Array], Array]  # logvar''


def softplus(a: Array) -> Array:
    """log(1 + eᵃ), without overflow."""
    positive = a * (a.real > 0)
    return positive + np.log1p(np.exp(a - 2 * positive))


def softplus_slope(a: Array) -> Array:
    """2 sigma' / sigma with sigma' = 1 - e^-sigma, accurate where a is far below 0."""
    sigma = softplus(a)
    return -2 * np.expm1(-sigma) / sigma


def softplus_curvature(a: Array) -> Array:
    """2 (sigma'' / sigma - sigma'² / sigma²), as sigma'' = sigma' (1 - sigma')."""
    sigma = softplus(a)
    slope = -np.expm1(-sigma)
    return 2 * slope * ((1 - slope) * sigma - slope) / (sigma * sigma)


MEANINGS = (
    Meaning("σ²", lambda sigma: sigma**2, np.log, lambda a: 1 / a, lambda a: -1 / a**2),
    Meaning("σ", np.copy, lambda a: 2 * np.log(a), lambda a: 2 / a, lambda a: -2 / a**2),
    # The negative branch; the positive one is that of σ.
    Meaning("±σ", np.negative, lambda a: np.log(a * a), lambda a: 2 / a, lambda a: -2 / a**2),
    Meaning(
        "softplus⁻¹(σ)",
        lambda sigma: sigma + np.log(-np.expm1(-sigma)),
        lambda a: 2 * np.log(softplus(a)),
        softplus_slope,
        softplus_curvature,
    ),
    Meaning("log σ", np.log, lambda a: 2 * a, lambda a: np.full_like(a, 2), np.zeros_like),
    Meaning("log σ²", lambda sigma: 2 * np.log(sigma), np.copy, np.ones_like, np.zeros_like),
)
ANY_SIGN = tuple(meaning.name for meaning in MEANINGS[2:])


class Head(Network):
    """A second head whose output a has another meaning."""

    meaning: ClassVar[Meaning]

    def heads(self, h: Array) -> tuple[Array, Array]:
        """Return mu, and the logvar of a."""
        return self.mu_head.forward(h), self.meaning.logvar(self.logvar_head.forward(h))

    def heads_backward(self, h: Array, dmu: Array, dlogvar: Array, grad: Self) -> Array:
        """da = dlogvar logvar'(a)."""
        da = dlogvar * self.meaning.slope(self.logvar_head.forward(h))
        return super().heads_backward(h, dmu, da, grad)


def head_of(a: Meaning) -> type[Head]:
    """Return the network in which a has this meaning."""

    class HeadOfThis(Head):
        meaning = a

    return HeadOfThis


class Mixture(NamedTuple):
    """The linear Gaussian model at the minimum of the loss."""

    ratio: float  # W²
    posterior: float  # sigma of p(z | x)
    one: float  # sigma of the sampler, if sampler and KL agree on the meaning of a
    two: float  # if they do not
    excess_of_one: float  # reported bound minus log p(x), in nats
    excess_of_two: float


class Found(NamedTuple):
    """The numbers of the page."""

    trained: dict[str, Array]  # (R, TRAININGS) test ELBOs by meaning, in nats; NaN where it failed
    slopes: Array  # (M, S) dKL/da of each meaning at each of SIGMAS
    curvatures: Array  # (M, S) d²KL/da²
    mixtures: list[Mixture]

    def failed(self, meaning: str) -> Array:
        """How many trainings failed with each learning rate, (R,)."""
        return np.isnan(self.trained[meaning]).sum(axis=1)

    def elbos(self, meaning: str) -> Array:
        """Mean test ELBO with each learning rate, (R,); NaN where a training failed."""
        return self.trained[meaning].mean(axis=1)

    def steepest(self, name: str) -> float:
        """The largest second derivative in the table."""
        row = [meaning.name for meaning in MEANINGS].index(name)
        return float(self.curvatures[row, SHOWN].max())


def run(setting: Setting) -> Found:
    """Train with each meaning, learning rate and seed; compute the rest."""
    data = setting.images(900, 200) if setting.quick else setting.images(20_000, 2000)
    hidden, latent, epochs, batch_size = (50, 5, 5, 20) if setting.quick else (100, 10, 2, 100)
    derivatives = [derivatives_of_the_kl(meaning, SIGMAS) for meaning in MEANINGS]
    slopes, curvatures = zip(*derivatives, strict=True)
    trained = {}
    for meaning in MEANINGS:
        elbos = trained[meaning.name] = np.empty((len(LEARNING_RATES), TRAININGS))
        setting.say(f"training {elbos.size} models whose head outputs {meaning.name}")
        for i, k in np.ndindex(elbos.shape):
            sizes, seed = (data.train.shape[1], (hidden,), latent), setting.seed + k
            vae = VAE(*sizes, rng=seed, network_type=head_of(meaning))
            vae.params["logvar.b"][:] = meaning.a(np.ones(latent))  # sigma = 1
            elbos[i, k] = train(vae, data, epochs, batch_size, LEARNING_RATES[i], seed)
    return Found(trained, np.array(slopes), np.array(curvatures), [mix(each) for each in RATIOS])


def train(vae: VAE, data: Dataset, epochs: int, batch_size: int, rate: float, seed: int) -> float:
    """Return the test ELBO, or NaN if a value was not finite."""
    try:
        return train_and_test(
            vae, data, epochs=epochs, batch_size=batch_size, lr=rate, seed=seed, output_bias="data"
        ).elbo
    except FloatingPointError:
        return math.nan


def derivatives_of_the_kl(meaning: Meaning, sigma: Array) -> tuple[Array, Array]:
    """dKL/da and d²KL/da² of one dimension at mu = 0, of the shape of sigma, (S,)."""
    a, column = meaning.a(sigma), sigma[:, np.newaxis]
    _, dlogvar = posterior.kl_backward(0 * column, column, np.ones_like(sigma))  # (sigma² - 1) / 2
    slope, curvature = meaning.slope(a), meaning.curvature(a)
    return dlogvar[:, 0] * slope, sigma**2 / 2 * slope**2 + dlogvar[:, 0] * curvature


def loss(point: Array, x: float, W: float, two_meanings: bool) -> float:
    """-E[log p(x | z)] + KL, in nats, at the point (mu, a) with logvar = a and x | z ~ N(W z, 1).

    With two meanings the sampler has sigma = eᵃ, as if a were log sigma.
    """
    mu, a = point[:1], point[1:]
    sigma = np.exp(a) if two_meanings else posterior.standard_deviation(a)
    nll = (math.log(2 * math.pi) + (x - W * mu) ** 2 + (W * sigma) ** 2) / 2
    return float(nll[0] + posterior.kl(mu, a, posterior.standard_deviation(a)))


def mix(ratio: float, x: float = 1.0) -> Mixture:
    """Minimise the loss with one meaning and with two."""
    from scipy.optimize import minimize

    W, variance = math.sqrt(ratio), 1 + ratio  # of x
    log_p = -(math.log(2 * math.pi * variance) + x * x / variance) / 2
    settings = {"method": "Nelder-Mead", "tol": 1e-9}
    one = minimize(loss, np.zeros(2), (x, W, False), **settings)
    two = minimize(loss, np.zeros(2), (x, W, True), **settings)
    sigmas = 1 / math.sqrt(variance), math.exp(one.x[1] / 2), math.exp(two.x[1])
    return Mixture(ratio, *sigmas, float(-one.fun - log_p), float(-two.fun - log_p))


AT_SIGMAS = columns(*(f"σ = {sigma:g}" for sigma in SIGMAS[SHOWN]), form="z.3g", factor=1.01)


def derivatives_shown(of_each: Array) -> list[tuple[Any, ...]]:
    """The rows for derivatives of the KL of each meaning at each of SIGMAS, (M, S)."""
    return [(m.name, *values[SHOWN]) for m, values in zip(MEANINGS, of_each, strict=True)]


TABLES = (
    Table(f"Trainings that failed, of {TRAININGS} at each learning rate η",
          (Column("the output is"), Column(f"η = {LEARNING_RATES[0]:g}", "d", within=1),
           *columns(*(f"η = {rate:g}" for rate in LEARNING_RATES[1:]), form="d")),
          lambda found: [(meaning.name, *found.failed(meaning.name)) for meaning in MEANINGS]),
    Table("Mean ELBO of the test images by what the output is, nats per image",
          (Column("η", "g"),
           Column(ANY_SIGN[0], ".1f", within=25),  # rounding decides where it jumps
           *columns(*ANY_SIGN[1:], form=".1f", within=2)),
          lambda found: list(zip(LEARNING_RATES, *map(found.elbos, ANY_SIGN), strict=True))),
    Table("First derivative of the KL with respect to the output, at μ = 0 (±σ: the output -σ)",
          (Column("the output is"), *AT_SIGMAS), lambda found: derivatives_shown(found.slopes),
          images=False),
    Table("Second derivative, at the same points",
          (Column("the output is"), *AT_SIGMAS), lambda found: derivatives_shown(found.curvatures),
          images=False),
    Table("Linear Gaussian model at its optimum: σ, and the reported bound minus log p(x) in nats",
          (Column("W²", "g"), Column("σ of the posterior", ".4f", within=2e-4),
           *columns("σ, one meaning", "σ, two meanings", form=".4f", within=2e-4),
           *columns("excess, one meaning", "excess, two meanings", form="z.4f", within=2e-4)),
          lambda found: found.mixtures, images=False),
)  # fmt: skip

CLAIMS = (
    Claim("If the head outputs σ², every training fails, at each learning rate; if it outputs σ, "
          "every one fails from 0.003 on.",
          lambda found: ((found.failed("σ²") == TRAININGS).all()
                         and (found.failed("σ")[1:] == TRAININGS).all())),
    Claim("With softplus, log σ and log σ² none fails, and at the best learning rate of each their "
          "test ELBOs differ by less than 8 nats.",
          # Of a NaN it is false.
          lambda found: np.ptp([found.elbos(name).max() for name in ANY_SIGN[1:]]) < 8),
    Claim("With ±σ none fails either, but at its best learning rate the test ELBO is more than 4 "
          "nats below the best of each of those three.",
          lambda found: all(found.elbos("±σ").max() < np.nanmax(found.elbos(name)) - 4
                            for name in ANY_SIGN[1:])),
    Claim("The largest second derivative in the table is above ten million with σ², above a "
          "thousand with σ, below 250 with the two logarithms, and below 1.1 with softplus.",
          lambda found: (found.steepest("σ²") > 1e7
                         and found.steepest("σ") > 1e3
                         and max(found.steepest("log σ"), found.steepest("log σ²")) < 250
                         and found.steepest("softplus⁻¹(σ)") < 1.1)),
    Claim("In the linear model, one meaning gives the σ of the posterior and a bound equal to "
          "log p(x), to 0.0001. Two meanings give a σ more than 10 % too small and a reported "
          "bound above log p(x), at W² = 100 by more than a nat.",
          lambda found: (found.mixtures[-1].excess_of_two > 1
                         and all(abs(m.one - m.posterior) < 1e-4
                                 and abs(m.excess_of_one) < 1e-4
                                 and m.two < 0.9 * m.posterior
                                 and m.excess_of_two > 0
                                 for m in found.mixtures))),
)  # fmt: skip

STYLES = {  # colour, marker, where the name is written beside the curve
    "σ²": ("C6", "X", (0.016, 4e7)),
    "σ": ("C7", "P", (0.012, 1.5e4)),
    "±σ": ("C5", "s", (0.04, 1.5e3)),
    "softplus⁻¹(σ)": ("C2", "^", (0.011, 0.12)),
    "log σ": ("C1", "D", (0.9, 300)),
    "log σ²": ("C0", "o", (0.03, 4e-5)),
}


def draw(figure: Figure, found: Found) -> None:
    """The trainings, the second derivatives, and the excess of two meanings."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.4, 1.2, 1))
    elbos = np.array(list(found.trained.values()))
    room = np.nanmax(elbos) - np.nanmin(elbos)
    failed = np.nanmin(elbos) - 0.25 * room
    for i, (name, (colour, marker, place)) in enumerate(STYLES.items()):
        rates = np.repeat(LEARNING_RATES, TRAININGS) * 1.1 ** (i - 2.5)  # side by side
        heights = np.nan_to_num(found.trained[name].ravel(), nan=failed)
        left.plot(rates, heights, marker, color=colour, ms=6, mew=0.5, mec="white", label=name)
        line = "--" if name == "±σ" else "-"  # on the curve of σ
        middle.loglog(SIGMAS, found.curvatures[i], line, color=colour)
        middle.text(*place, name, fontsize=8)
    left.axhspan(failed - 0.1 * room, failed + 0.1 * room, color="0.92", zorder=0)
    names = ", ".join(name for name in STYLES if found.failed(name).any())
    left.text(LEARNING_RATES[0], failed + 0.12 * room, f"failed: {names}", fontsize=8)
    left.set(xscale="log", xlabel="learning rate η", ylabel="test ELBO, nats per image")
    left.set_xticks(LEARNING_RATES, [f"{rate:g}" for rate in LEARNING_RATES])
    left.minorticks_off()
    middle.set(xlabel="σ", ylabel="d²KL/da², nats")
    ratios = [m.ratio for m in found.mixtures]
    right.semilogx(ratios, [m.excess_of_two for m in found.mixtures], "s--", color="C6")
    right.semilogx(ratios, [m.excess_of_one for m in found.mixtures], "o-", color="C0")
    right.text(0.1, 0.7, "two meanings", color="C6", fontsize=8)
    right.text(3, 0.07, "one meaning", color="C0", fontsize=8)
    right.set(xlabel="W², signal to noise", ylabel="reported bound − log p(x), nats")
    figure.legend(title="the output of the head is", loc="outside lower center", ncols=6)


CONCLUSION = (
    "A linear layer outputs any real number and a variance must be positive, so the layer outputs "
    "log σ², and the code computes σ = exp(logvar / 2)."
)
QUESTION = "Why the log variance, and not the variance or sigma?"
STUDY = Study("logvar", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw, 3.5)
