"""Why logits; binary cross-entropy on grey pixels; squared error and blur.

Letters of this module: B examples, D pixels; l a logit, m = sigmoid(l) = 1 / (1 + e⁻ˡ).

**Logits.** In float32 m is exactly 1 from l = 17 on, and log(1 - m) is log 0. Two repairs are
common: log(m + 1e-8), and clipping m to [1e-7, 1 - 1e-7]. Automatic differentiation multiplies
either by ∂m/∂l = m (1 - m), which has been rounded to 0: the pixel that is most wrong gets no
gradient. From the logit itself nothing is lost:

    -x log m - (1 - x) log(1 - m) = softplus(l) - x l       ∂/∂l = m - x

**Binary cross-entropy of a grey pixel** g has its minimum at m = g. There it is not 0 but the
entropy -g log g - (1 - g) log(1 - g), a floor for every model. Its density would need

    ∫ e^-(softplus(l) - g l) dg = (1 - m) (eˡ - 1) / l = tanh(l / 2) / l <= 1/2

over [0, 1] to be 1. Dividing by that integral makes it the continuous Bernoulli.

**Squared error** is a Gaussian likelihood whose variance τ² is the weight of the KL:

    τ² (nll + kl) = SSE / 2 + τ² kl + constant
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

LOGITS = -100, -17, -10, 0, 10, 17, 100
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
    """What pixels cost, in nats, and the derivative with respect to their logits."""

    cost: Array
    slope: Array


def plus_small(x: Array, l: Array, small: np.float32 = SMALL) -> Priced:
    """-x log(m + small) - (1 - x) log(1 - m + small), and the chain rule through m."""
    with np.errstate(all="ignore"):
        m = 1 / (1 + np.exp(-l))
        cost = -(x * np.log(m + small) + (1 - x) * np.log(1 - m + small))
        dm = -(x / (m + small) - (1 - x) / (1 - m + small))
        return Priced(cost, dm * (m * (1 - m)))


def clipped(x: Array, l: Array, edge: np.float32 = EDGE) -> Priced:
    """-x log c - (1 - x) log(1 - c) with c = clip(m); outside, the derivative of the clip is 0."""
    with np.errstate(over="ignore"):
        m = 1 / (1 + np.exp(-l))
    c = np.clip(m, edge, 1 - edge)
    cost = -(x * np.log(c) + (1 - x) * np.log(1 - c))
    dm = -(x / c - (1 - x) / (1 - c)) * (c == m)
    return Priced(cost, dm * (m * (1 - m)))


def from_logits(x: Array, l: Array) -> Priced:
    """softplus(l) - x l and m - x, by the package, pixel by pixel."""
    x, l = x[..., np.newaxis], l[..., np.newaxis]  # each pixel an example
    slope = Bernoulli().nll_backward(x, l, np.ones(l.shape[:-1], l.dtype))
    return Priced(Bernoulli().nll(x, l), slope[..., 0])


CODES: dict[str, Callable[[Array, Array], Priced]] = {
    "log m": lambda x, l: plus_small(x, l, NOTHING),
    "log(m + 1e-8)": plus_small,
    "clip m": clipped,
    "from logits": from_logits,
}


class Density(NamedTuple):
    """Integrals over grey values g from 0 to 1, at one logit."""

    logit: float
    cross_entropy: float  # ∫ e^-cross-entropy dg
    continuous: float  # ∫ of the continuous Bernoulli dg
    mean: float  # ∫ g times that dg
    stated: float  # its mean, by the package
    sigmoid: float


class Trained(NamedTuple):
    """A Gaussian model of grey images, on test images."""

    name: str
    variance: float
    test: Elbo  # nats per image, of a density
    active: int  # latent dimensions
    error: float  # mean squared error of a pixel, z drawn from q
    sharpness: float  # squared difference of neighbours in reconstructions, over that in images
    pictures: Array  # (SHOWN, D) reconstructions


class Found(NamedTuple):
    """The numbers of the page."""

    priced: dict[str, tuple[Priced, Priced]]  # of each code, at x = 0 and x = 1, (LOGITS,)
    curves: dict[str, Priced]  # at x = 0, (L,)
    line: Array  # (L,) logits of the curves
    worst: tuple[float, float]  # error from logits up to ±10 000: of cost / (1 + |l|), of slope
    entropy: float  # of the grey values of a test image, mean, nats per image
    floor: float  # cross-entropy at m = g, mean, nats per image
    beside: float  # the smaller one with every logit moved up, or down, by 1/2
    densities: list[Density]
    models: list[Trained]
    images: Array  # (SHOWN, D)
    shape: tuple[int, ...]

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
    setting.say(f"training {len(GAUSSIANS)} Gaussian models")
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
    """Cross-entropy at m = g, and the smaller one with all logits moved by ±1/2, nats per image.

    For black and white pixels that logit is infinite: 1e-12 short of it, 784 of them cost 1e-8.
    """
    bernoulli = Bernoulli()
    l = bernoulli.link(np.clip(x, 1e-12, 1 - 1e-12))
    at = [float(bernoulli.nll(x, l + move).mean()) for move in (0.0, -0.5, 0.5)]
    return at[0], min(at[1:])


def density(logit: float) -> Density:
    """Integrate e^-nll over g from 0 to 1, by Gauss-Legendre quadrature with 60 nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    g, weights = (nodes[:, np.newaxis] + 1) / 2, weights / 2  # (60, 1), (60,)
    l = np.full_like(g, logit)
    p = np.exp(-ContinuousBernoulli().nll(g, l))
    stated, sigmoid = ContinuousBernoulli().mean(l)[0, 0], Bernoulli().mean(l)[0, 0]
    return Density(
        logit, cross_entropy=float(weights @ np.exp(-Bernoulli().nll(g, l))),
        continuous=float(weights @ p), mean=float(weights @ (p * g[:, 0])),
        stated=float(stated), sigmoid=float(sigmoid),
    )  # fmt: skip


def train(name: str, vae: VAE, data: Dataset, epochs: int, size: int, seed: int) -> Trained:
    """Train a Gaussian model of the grey images, and test it."""
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


def roughness(images: Array, shape: tuple[int, ...]) -> float:
    """Mean squared difference of neighbouring pixels, down and across."""
    tiles = images.reshape(-1, *shape)
    return float(sum(np.square(np.diff(tiles, axis=axis)).mean() for axis in (1, 2)))


NAMES = (f"x={x}: {name}" for x in (0, 1) for name in CODES)
PRICES = Column("l", "d"), *columns(*NAMES, form="z.3f", within=0.01)


def prices(found: Found, what: str) -> list[tuple[Any, ...]]:
    """The rows for the cost or the slope of a pixel, by logit and code."""
    columns = [getattr(found.priced[name][x], what) for x in (0, 1) for name in CODES]
    return list(zip(LOGITS, *columns, strict=True))


TABLES = (
    Table("Cost of a pixel with logit l, nats", PRICES, lambda found: prices(found, "cost"),
          images=False),
    Table("Its derivative with respect to l", PRICES, lambda found: prices(found, "slope"),
          images=False),
    Table("Largest error from logits in float32, |l| up to 10 000",
          columns("of cost / (1 + |l|)", "of slope", form=".0e", factor=10),
          lambda found: [found.worst], images=False),
    Table("Binary cross-entropy of the grey test images, nats per image",
          columns("at m = g, the floor", "logits off by 1/2", form=".2f", within=0.01),
          lambda found: [(found.floor, found.beside)]),
    Table("Integrals over g from 0 to 1, by quadrature; the last two columns by formula",
          (Column("l", "d"),
           *columns("of e^-cross-entropy", "of the continuous Bernoulli", form=".5f", within=1e-5),
           *columns("of g times that", "its mean A'(l)", "sigmoid(l)", form=".5f", within=1e-5)),
          lambda found: found.densities, images=False),
    Table("Gaussian models of the grey images: log densities of test images, nats per image",
          (Column("variance"), Column("τ²", ".4f", factor=1.05),
           *columns("ELBO", "reconstruction", form=".1f", within=20),
           Column("KL", ".2f", within=2.5), Column("active dimensions", "d", within=2),
           Column("mean squared error", ".4f", factor=1.05),
           Column("sharpness (data: 1)", ".3f", within=0.03)),
          lambda found: [(m.name.partition(",")[0], m.variance, *m.test, m.active, m.error,
                          m.sharpness) for m in found.models]),
)  # fmt: skip


def only_the_logits_learn(found: Found) -> bool:
    """Whether only from logits the black pixel with l = 100 has the right cost and slope."""
    at = {name: (found.priced[name][0].cost[-1], found.priced[name][0].slope[-1]) for name in CODES}
    return bool(
        abs(at["from logits"][0] - 100) < 1e-3
        and abs(at["from logits"][1] - 1) < 1e-6
        and max(found.worst) < 1e-6
        and np.isinf(at["log m"][0])
        and np.isnan(at["log m"][1])
        and all(at[name][0] < 20 and at[name][1] == 0 for name in ("log(m + 1e-8)", "clip m"))
    )


CLAIMS = (
    Claim("A pixel with x = 0 and l = 100 costs 100 nats with slope 1. From logits it does, and up "
          "to |l| = 10 000 cost / (1 + |l|) and slope are right within 1e-6. By log m the cost is "
          "infinite and the slope NaN; by both repairs the cost is below 20 nats and the slope 0.",
          only_the_logits_learn),
    Claim("The floor of the cross-entropy of grey test images, the entropy of their pixels, is 30 "
          "to 60 nats per image. With all logits moved by 1/2 in either direction it is higher.",
          lambda found: (30 < found.floor < 60
                         and abs(found.floor - found.entropy) < 1e-6
                         and found.beside > found.floor + 0.1)),
    Claim("e^-cross-entropy integrates over grey values to at most 1/2, the continuous Bernoulli "
          "to 1 within 1e-9. Its mean is A'(l) within 1e-9, and at l = 5 more than 0.18 below "
          "sigmoid(l).",
          lambda found: (
              all(d.cross_entropy < 0.5 + 1e-9
                  and abs(d.continuous - 1) < 1e-9
                  and abs(d.mean - d.stated) < 1e-9
                  for d in found.densities)
              and [d.sigmoid - d.mean > 0.18 for d in found.densities if d.logit == 5] == [True])),
    Claim("With τ² = 1, which is half the squared error, the KL is less than a third of that with "
          "the learned variance, and the sharpness of the reconstructions less than two thirds.",
          lambda found: (
              found.model("given, 1").test.kl < found.model("learned").test.kl / 3
              and found.model("given, 1").sharpness < found.model("learned").sharpness * 2 / 3)),
    Claim("The learned variance is within 25 % of the mean squared error. Its test ELBO is higher "
          "than with τ² = 1, 0.1 or 0.01 by more than 20 nats.",
          lambda found: (
              0.8 < found.model("learned").variance / found.model("learned").error < 1.25
              and all(found.model("learned").test.elbo - model.test.elbo > 20
                      for model in found.models if model.name != "learned"))),
)  # fmt: skip


STYLES = {  # of a code: colour, line, width
    "log m": ("C7", ":", 2.5),
    "log(m + 1e-8)": ("C6", "--", 1.5),
    "clip m": ("C3", "-.", 1.5),
    "from logits": ("C0", "-", 1.2),
}


def draw(figure: Figure, found: Found) -> None:
    """Cost and slope of a black pixel against its logit; images and their reconstructions."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    names = {"from logits": (25, 27), "log(m + 1e-8)": (22, 19.7), "clip m": (26, 13)}
    for name, (cost, slope) in found.curves.items():
        seen = np.isfinite(cost) & np.isfinite(slope)
        colour, line, width = STYLES[name]
        for ax, values in (left, cost), (middle, slope):
            ax.plot(found.line[seen], values[seen], colour + line, lw=width)
            if not seen.all():
                ax.plot(found.line[seen][-1], values[seen][-1], "x", color=colour, ms=7)
        if name in names:
            at, ha = names[name], "right" if name == "from logits" else "left"
            left.text(*at, name, color=colour, fontsize=8, ha=ha)
    left.text(15, 17, "log m: then inf", color="C7", fontsize=8, ha="right")
    middle.text(17, 1.06, "log m: then NaN", color="C7", fontsize=8)
    middle.text(21, 0.05, "both repairs: 0", fontsize=8)
    middle.text(22, 0.92, "from logits", color="C0", fontsize=8)
    left.set(xlabel="logit l, x = 0", ylabel="cost, nats")
    middle.set(xlabel="logit l, x = 0", ylabel="slope of the cost", ylim=(-0.05, 1.15))
    rows = {"learned" if m.name == "learned" else f"τ² = {m.variance:g}": m.pictures
            for m in found.models}  # fmt: skip
    draw_rows(right, {"data": found.images} | rows, found.shape)


QUESTION = "Why logits, and is binary cross-entropy allowed on grey pixels?"
CONCLUSION = (
    "Train on logits: in float32 a sigmoid near 1 has no digits left, and the pixel that is most "
    "wrong gets no gradient."
)
STUDY = Study("logits", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw)
