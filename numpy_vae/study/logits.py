"""Why logits, and what is cross-entropy on grey pixels? Three ways to get p(x | z) wrong.

Letters of this module: B examples, D pixels; l a logit, p = sigmoid(l) = 1 / (1 + e⁻ˡ).

**Logarithms of a rounded probability.** In float32 p is exactly 1 from l = 17 on, so log(1 - p) is
log 0. Two repairs are common, a small number under the logarithm and clipping:

    -x log(p + a) - (1 - x) log(1 - p + a)       a = 1e-8
    -x log c - (1 - x) log(1 - c)                c = clip(p, a, 1 - a), a = 1e-7

Automatic differentiation multiplies the derivative by p with ∂p/∂l = p (1 - p), which has been
rounded to 0: the pixel that is most wrong learns nothing. From the logit itself nothing is lost,

    -x log p - (1 - x) log(1 - p) = softplus(l) - x l       ∂/∂l = p - x

**Cross-entropy of a grey pixel**, 0 < x < 1. Its derivative p - x is zero at p = x, where it is not
zero but the entropy H(x) = -x log x - (1 - x) log(1 - x): a floor that no model gets below. And

    ∫ e^-(softplus(l) - x l) dx = (1 - p) (eˡ - 1) / l = (2p - 1) / l = tanh(l / 2) / l <= 1/2

over [0, 1] is not 1: it is no density of x, until it is divided by that, which makes it the
continuous Bernoulli.

**Squared error** is a Gaussian with a variance v, whether one is named or not:

    v nll = SSE / 2 + v D log(2πv) / 2       so v (nll + kl) = SSE / 2 + v kl + constant

v is the weight of the KL. With v = 1 and pixels in [0, 1] that is a large one: q(z | x) is broad,
the decoder sees the same z for many images and answers with their average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..data.binarize import to_float
from ..data.dataset import Dataset
from ..likelihood import Bernoulli, ContinuousBernoulli, Gaussian, LearnedGaussian, Likelihood
from ..params import Array
from ..training.evaluate import Elbo, active_dimensions
from ..vae import VAE
from .linear import variance_of
from .pictures import draw_rows, shape_of
from .report import Claim, Column, Setting, Study, Table, columns
from .training import train_and_test

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOGITS = -100, -30, -17, -10, 0, 10, 17, 30, 100
DENSITIES = -10, -5, -1, 0, 1, 5, 10, 40
GAUSSIANS: dict[str, Likelihood] = {
    "given, 1": Gaussian(1.0),
    "given, 0.1": Gaussian(0.1),
    "given, 0.01": Gaussian(0.01),
    "learned": LearnedGaussian(),
}
NOTHING, SMALL, EDGE = np.float32(0), np.float32(1e-8), np.float32(1e-7)
SHOWN = 5  # test images


class Priced(NamedTuple):
    """What pixels cost, in nats, and the derivative of that by their logits, both float32."""

    cost: Array
    slope: Array


def plus_small(x: Array, l: Array, a: np.float32 = SMALL) -> Priced:
    """-x log(p + a) - (1 - x) log(1 - p + a), and the chain rule through p."""
    with np.errstate(all="ignore"):
        p = 1 / (1 + np.exp(-l))
        cost = -(x * np.log(p + a) + (1 - x) * np.log(1 - p + a))
        dp = -(x / (p + a) - (1 - x) / (1 - p + a))
        return Priced(cost, dp * (p * (1 - p)))


def clipped(x: Array, l: Array, a: np.float32 = EDGE) -> Priced:
    """The same without a, but with p clipped: outside, the derivative of the clip is 0."""
    with np.errstate(over="ignore"):
        p = 1 / (1 + np.exp(-l))
    c = np.clip(p, a, 1 - a)
    cost = -(x * np.log(c) + (1 - x) * np.log(1 - c))
    dp = -(x / c - (1 - x) / (1 - c)) * (c == p)
    return Priced(cost, dp * (p * (1 - p)))


def from_logits(x: Array, l: Array) -> Priced:
    """softplus(l) - x l and p - x, as the package has them, pixel by pixel."""
    x, l = x[..., np.newaxis], l[..., np.newaxis]  # each pixel an example
    slope = Bernoulli().nll_backward(x, l, np.ones(l.shape[:-1], l.dtype))
    return Priced(Bernoulli().nll(x, l), slope[..., 0])


CODES: dict[str, Callable[[Array, Array], Priced]] = {
    "log p": lambda x, l: plus_small(x, l, NOTHING),
    "log(p + 1e-8)": plus_small,
    "clip p": clipped,
    "from logits": from_logits,
}


class Density(NamedTuple):
    """Integrals over grey values x from 0 to 1, at one logit."""

    logit: float
    cross_entropy: float  # ∫ e^-cross-entropy dx
    continuous: float  # the same with the normaliser of the continuous Bernoulli
    mean: float  # ∫ x of that density dx
    stated: float  # its mean, as the package has it
    sigmoid: float


class Trained(NamedTuple):
    """A Gaussian model of grey images, on test images."""

    name: str
    variance: float
    test: Elbo  # nats per image, of a density
    active: int  # latent dimensions
    error: float  # mean squared error of a pixel, z drawn from q
    sharpness: float  # neighbours' squared difference in reconstructions, over that in the images
    pictures: Array  # (SHOWN, D) reconstructions


class Found(NamedTuple):
    """The numbers of the page."""

    priced: dict[str, tuple[Priced, Priced]]  # of each code, at x = 0 and x = 1, (LOGITS,)
    curves: dict[str, Priced]  # at x = 0, (L,)
    line: Array  # (L,) logits of the curves
    worst: tuple[float, float]  # error from logits up to ±10 000: of cost / (1 + |l|), of slope
    entropy: float  # Σ_d H(x_d), mean over test images, nats per image
    floor: float  # cross-entropy at p = x, the same
    beside: float  # the least cross-entropy with every logit moved up, or down, by 1/2
    densities: list[Density]
    models: list[Trained]
    images: Array  # (SHOWN, D)
    shape: tuple[int, int]

    def model(self, name: str) -> Trained:
        """The model of this name."""
        return next(model for model in self.models if model.name == name)


def run(setting: Setting) -> Found:
    """Price pixels by four codes, integrate two densities, and train Gaussian models."""
    from scipy.special import entr

    data = setting.data if setting.quick else setting.images(20_000, 2000)
    hidden, latent, epochs, size = (64, 8, 12, 32) if setting.quick else (200, 20, 10, 128)
    logits = np.array(LOGITS, np.float32)
    zero, one = np.zeros_like(logits), np.ones_like(logits)
    line = np.linspace(-5, 40, 451, dtype=np.float32)
    grey = to_float(setting.data.test, np.float64)
    models = []
    for name, likelihood in GAUSSIANS.items():
        sizes = data.train.shape[1], (hidden,), latent
        vae = VAE(*sizes, likelihood=likelihood, rng=setting.seed)
        models.append(train(name, vae, data, epochs, size, setting.seed))
    priced = {name: (code(zero, logits), code(one, logits)) for name, code in CODES.items()}
    curves = {name: code(np.zeros_like(line), line) for name, code in CODES.items()}
    entropy = float((entr(grey) + entr(1 - grey)).sum(axis=1).mean())
    return Found(
        priced, curves, line, error_from_logits(), entropy, *cross_entropy_floor(grey),
        densities=[density(l) for l in DENSITIES], models=models,
        images=to_float(data.test[:SHOWN]), shape=shape_of(data),
    )  # fmt: skip


def error_from_logits() -> tuple[float, float]:
    """Largest error in float32 for |l| to 10 000, against float64: of cost / (1 + |l|), of slope.

    At x = 0 the cost is softplus(l), at x = 1 it is softplus(-l).
    """
    size = np.geomspace(1e-3, 1e4, 2001, dtype=np.float32)
    l = np.concatenate([-size, size])
    exact_l = l.astype(np.float64)
    errors = []
    for x, sign in (0, 1), (1, -1):
        cost, slope = from_logits(np.full_like(l, x), l)
        exact = np.logaddexp(0, sign * exact_l)
        exact_slope = sign * np.exp(-np.logaddexp(0, -sign * exact_l))  # ± sigmoid(±l)
        of_cost = np.abs(cost - exact) / (1 + np.abs(exact_l))
        errors.append((of_cost.max(), np.abs(slope - exact_slope).max()))
    cost, slope = np.max(errors, axis=0)  # NaN, if there is one
    return float(cost), float(slope)


def cross_entropy_floor(x: Array) -> tuple[float, float]:
    """Cross-entropy of images at p = x, and the least of it 1/2 of a logit beside, nats per image.

    At black and white pixels p = x lies at infinity: 1e-12 nearer, 784 of them cost 1e-8.
    """
    bernoulli = Bernoulli()
    l = bernoulli.link(np.clip(x, 1e-12, 1 - 1e-12))
    at = [float(bernoulli.nll(x, l + move).mean()) for move in (0.0, -0.5, 0.5)]
    return at[0], min(at[1:])


def density(logit: float) -> Density:
    """Integrate e^-nll over x from 0 to 1, by Gauss and Legendre's rule of 60 nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    x, weights = (nodes[:, np.newaxis] + 1) / 2, weights / 2  # (60, 1), (60,)
    l = np.full_like(x, logit)
    p = np.exp(-ContinuousBernoulli().nll(x, l))
    stated, sigmoid = ContinuousBernoulli().mean(l)[0, 0], Bernoulli().mean(l)[0, 0]
    return Density(
        logit, cross_entropy=float(weights @ np.exp(-Bernoulli().nll(x, l))),
        continuous=float(weights @ p), mean=float(weights @ (p * x[:, 0])),
        stated=float(stated), sigmoid=float(sigmoid),
    )  # fmt: skip


def train(name: str, vae: VAE, data: Dataset, epochs: int, size: int, seed: int) -> Trained:
    """Train a Gaussian model of the grey images, and see what it makes of the test images."""
    test = train_and_test(
        vae, data, epochs=epochs, lr=2e-3, seed=seed, batch_size=size, binarize="none",
        output_bias="data",
    )  # fmt: skip
    x, shape = to_float(data.test), shape_of(data)
    eps = np.random.default_rng(seed).standard_normal((len(x), vae.latent_dim))
    again, active = vae.reconstruct(x), int(active_dimensions(vae.encode(x)[0]).sum())
    error = float(np.square(vae.forward(x, eps).logits - x).mean())
    sharpness = roughness(again, shape) / roughness(x, shape)
    return Trained(name, variance_of(vae), test, active, error, sharpness, again[:SHOWN])


def roughness(images: Array, shape: tuple[int, int]) -> float:
    """Mean squared difference of neighbouring pixels, down and across."""
    tiles = images.reshape(-1, *shape)
    return float(sum(np.square(np.diff(tiles, axis=axis)).mean() for axis in (1, 2)))


NAMES = (f"x = {x}: {name}" for x in (0, 1) for name in CODES)
PRICES = Column("l", "d"), *columns(*NAMES, form="z.3f", within=0.01)


def prices(found: Found, what: str) -> list[tuple[Any, ...]]:
    """The rows for the cost or the slope of a pixel, by logit and code."""
    columns = [getattr(found.priced[name][x], what) for x in (0, 1) for name in CODES]
    return list(zip(LOGITS, *columns, strict=True))


TABLES = (
    Table("What a pixel costs, nats, in float32", PRICES, lambda found: prices(found, "cost"),
          images=False),
    Table("The derivative of that by its logit", PRICES, lambda found: prices(found, "slope"),
          images=False),
    Table("From logits, |l| up to 10 000: the largest error in float32",
          columns("of cost / (1 + |l|)", "of slope", form=".0e", factor=10),
          lambda found: [found.worst], images=False),
    Table("Cross-entropy of the grey test images, nats per image",
          columns("at p = x, the floor", "the logits 1/2 beside", form=".2f", within=0.01),
          lambda found: [(found.floor, found.beside)]),
    Table("Integrals over x from 0 to 1, by quadrature; the last two columns by formula",
          (Column("l", "d"),
           *columns("of e^-cross-entropy", "of the continuous Bernoulli", form=".5f", within=1e-5),
           *columns("of x times that", "its mean A'(l)", "sigmoid(l)", form=".5f", within=1e-5)),
          lambda found: found.densities, images=False),
    Table("Gaussian models of the grey images; test images, nats (of a density) per image",
          (Column("variance"), Column("v", ".4f", factor=1.05),
           *columns("ELBO", "reconstruction", form=".1f", within=20),
           Column("KL", ".2f", within=2.5), Column("active dimensions", "d", within=2),
           Column("mean squared error", ".4f", factor=1.05),
           Column("sharpness, data = 1", ".3f", within=0.03)),
          lambda found: [(m.name.partition(",")[0], m.variance, *m.test, m.active, m.error,
                          m.sharpness) for m in found.models]),
)  # fmt: skip


def only_the_logits_learn(found: Found) -> bool:
    """Whether the black pixel with l = 100 has its cost and its slope from logits alone."""
    at = {name: (found.priced[name][0].cost[-1], found.priced[name][0].slope[-1]) for name in CODES}
    return bool(
        abs(at["from logits"][0] - 100) < 1e-3
        and abs(at["from logits"][1] - 1) < 1e-6
        and max(found.worst) < 1e-6
        and np.isinf(at["log p"][0])
        and np.isnan(at["log p"][1])
        and all(at[name][0] < 20 and at[name][1] == 0 for name in ("log(p + 1e-8)", "clip p"))
    )


CLAIMS = (
    Claim("A pixel with x = 0 and l = 100 costs 100 nats with slope 1. From logits it does, and up "
          "to |l| = 10 000 to 1e-6 of 1 + |l|; log p gives infinity and NaN, and both its repairs "
          "less than 20 nats and a slope of 0.",
          only_the_logits_learn),
    Claim("Of the cross-entropy of the grey test images 30 to 60 nats per image are their own "
          "entropy, which no model gets below: with logits 1/2 to either side of p = x it is "
          "higher.",
          lambda found: (30 < found.floor < 60
                         and abs(found.floor - found.entropy) < 1e-6
                         and found.beside > found.floor + 0.1)),
    Claim("e^-cross-entropy integrates over grey values to 1/2 at most, continuous Bernoulli to 1 "
          "within 1e-9; its mean is A'(l) within 1e-9, and more than 0.18 below sigmoid(l) at "
          "l = 5.",
          lambda found: (
              all(d.cross_entropy < 0.5 + 1e-9
                  and abs(d.continuous - 1) < 1e-9
                  and abs(d.mean - d.stated) < 1e-9
                  for d in found.densities)
              and [d.sigmoid - d.mean > 0.18 for d in found.densities if d.logit == 5] == [True])),
    Claim("With v = 1, which is half the squared error, the KL is less than a third of that with "
          "the learned variance, and the sharpness of the reconstructions less than two thirds.",
          lambda found: (
              found.model("given, 1").test.kl < found.model("learned").test.kl / 3
              and found.model("given, 1").sharpness < found.model("learned").sharpness * 2 / 3)),
    Claim("The learned variance is within 25 % of its mean squared error, and its test ELBO is "
          "higher by more than 20 nats than with v = 1, 0.1 or 0.01.",
          lambda found: (
              0.8 < found.model("learned").variance / found.model("learned").error < 1.25
              and all(found.model("learned").test.elbo - model.test.elbo > 20
                      for model in found.models if model.name != "learned"))),
)  # fmt: skip


STYLES = {  # of a code: colour, line, width
    "log p": ("C7", ":", 2.5),
    "log(p + 1e-8)": ("C6", "--", 1.5),
    "clip p": ("C3", "-.", 1.5),
    "from logits": ("C0", "-", 1.2),
}


def draw(figure: Figure, found: Found) -> None:
    """Cost and slope of a black pixel against its logit; images, and what three models make."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1))
    for name, (cost, slope) in found.curves.items():
        seen = np.isfinite(cost) & np.isfinite(slope)
        colour, line, width = STYLES[name]
        ends = (left, cost, "then inf", -12), (middle, slope, "then NaN", 6)
        for ax, values, then, above in ends:
            ax.plot(found.line[seen], values[seen], colour + line, lw=width, label=name)
            if not seen.all():
                end = found.line[seen][-1], values[seen][-1]
                ax.plot(*end, "x", color=colour, ms=7)
                ax.annotate(
                    then, end, (0, above), "data", "offset points", fontsize=8, color=colour
                )
    left.set(xlabel="logit l, x = 0", ylabel="cost, nats")
    left.legend(loc="upper left", handlelength=2.4)
    middle.set(xlabel="logit l, x = 0", ylabel="slope of the cost", ylim=(-0.05, 1.15))
    names = {"given, 1": "v = 1", "given, 0.1": "v = 0.1", "learned": "learned"}
    rows = {label: found.model(name).pictures for name, label in names.items()}
    draw_rows(right, {"data": found.images} | rows, found.shape)


QUESTION = "Why logits, and what is cross-entropy on grey pixels?"
CONCLUSION = (
    "Use logits, because a probability near 1 has no digits left in float32 and its pixel would "
    "get no gradient."
)
STUDY = Study("logits", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw)
