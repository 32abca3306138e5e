"""How to check a gradient: the error of a difference against its step, kinks, and planted bugs.

f is the objective along a line, t -> L(θ + t v) with v of length 1, and u the rounding unit:

    forward    (f(h) - f(0)) / h      = f' + h f''/2   + O(u |f| / h)     best near h = u^(1/2)
    central    (f(h) - f(-h)) / 2h    = f' + h² f'''/6 + O(u |f| / h)     best near h = u^(1/3)
    complex    Im f(ih) / h           = f' - h² f'''/6 + O(u |f'|)        any small h

With a kink at t = -delta, 0 < delta < h, the central difference is off by (1 - delta/h) / 2 of the
jump of the slope; the complex step is right.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike

from .. import posterior
from ..bounds import elbo_loss
from ..gradcheck.check import gradcheck
from ..gradcheck.differences import central_difference
from ..gradcheck.line import Arrays, Block, Function, Probe
from ..gradcheck.model import clearance, function_of, gradient_of, randomise
from ..likelihood import Bernoulli
from ..network import Network
from ..params import Array, Params
from ..seeds import spawn
from ..vae import VAE
from .report import Claim, Column, Setting, Study, Table, columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Verdict = tuple[str, ...]  # of central, complex, Taylor, and PyTorch's rule

PIXELS, HIDDEN, LATENT, IMAGES = 30, 12, 3, 5
DIRECTIONS = 10  # over which an error is averaged
STEPS = 10.0 ** -np.arange(0, 30.1, 0.5)
METHODS = ("forward", "central", "complex")
DTYPES = {"float64": "complex128", "float32": "complex64"}
DELTA = 1e-9  # from the kink
CLEARANCE = 0.002  # of all other units from theirs: more than the largest step there moves them
LEAST_JUMP = 0.05  # of the slope, beside which the curvature is small
TINY = 0.001  # weights
DRAWS = 20000  # of z, for the Monte Carlo KL
BIAS = "encoder.0.b"  # its first entry moves the unit at the kink
BLOCKS = (BIAS, "mu.W", "logvar.W", "decoder.0.W", "output.b")  # checked at the kink
HEADS = ("mu.b", "logvar.W", "logvar.b")  # checked for bugs


class Curve(NamedTuple):
    """The error of one method in one dtype against the step."""

    method: str
    dtype: str
    steps: Array  # (S,)
    errors: Array  # (S,) root mean square over directions, over that of the derivative

    @property
    def best(self) -> tuple[float, float]:
        """The step of the smallest error, and that error."""
        i = int(np.argmin(self.errors))
        return float(self.steps[i]), float(self.errors[i])

    def at(self, h: float) -> float:
        """The error at the step nearest to h."""
        return float(self.errors[np.argmin(np.abs(np.log10(self.steps / h)))])

    def worst(self, h: float) -> float:
        """The largest error at steps of at most h."""
        return float(self.errors[self.steps <= h].max())

    def slope(self, high: float, low: float) -> float:
        """Powers of ten of the error for one of the step, between two steps."""
        inside = (self.steps <= high * 1.001) & (self.steps >= low / 1.001)
        steps, errors = np.log10(self.steps[inside]), np.log10(self.errors[inside])
        return float(np.polyfit(steps, errors, 1)[0])


class Kink(NamedTuple):
    """What `gradcheck` says at a kink."""

    gradient: str
    verdict: str
    kinks: int
    entries: int


class MonteCarlo(NamedTuple):
    """A KL and its Monte Carlo estimate from the model's own samples."""

    model: str
    kl: float  # nats
    estimate: float
    error: float  # standard error of the estimate

    @property
    def apart(self) -> float:
        """Standard errors between the two."""
        return abs(self.kl - self.estimate) / self.error


class Found(NamedTuple):
    """The numbers of the page."""

    curves: list[Curve]
    at_kink: Curve  # central: its error over the jump of the slope
    complex_at_kink: float
    kinks: list[Kink]
    verdicts: dict[str, Verdict]  # of each bug
    estimates: list[MonteCarlo]

    def curve(self, method: str, dtype: str) -> Curve:
        """The error of one method in one dtype."""
        return next(c for c in self.curves if (c.method, c.dtype) == (method, dtype))


class Doubled(Network):
    """A network whose second head gives log sigma: logvar = 2 a."""

    def heads(self, h: Array) -> tuple[Array, Array]:
        """logvar = 2 a."""
        mu, a = super().heads(h)
        return mu, 2 * a

    def heads_backward(self, h: Array, dmu: Array, dlogvar: Array, grad: Self) -> Array:
        """da = 2 dlogvar."""
        return super().heads_backward(h, dmu, 2 * dlogvar, grad)


@dataclass(frozen=True)
class Guarded(Bernoulli):
    """Bernoulli with log(p + 1e-8) in its value, and the gradient of log p."""

    def nll(self, x: Array, l: Array) -> Array:
        """-Σ_d [x log(p + 1e-8) + (1 - x) log(1 - p + 1e-8)]."""
        p = self.mean(l)
        return -(x * np.log(p + 1e-8) + (1 - x) * np.log(1 - p + 1e-8)).sum(axis=-1)


def draw_point(rng: np.random.Generator, activation: str) -> tuple[VAE, Array, Array]:
    """Return a model away from its initial weights, images and noise, in numbers of float32."""
    vae = VAE(PIXELS, (HIDDEN,), LATENT, activation, rng=rng)
    randomise(vae, rng)
    x = rng.random((IMAGES, PIXELS), np.float32)
    return vae, x, rng.standard_normal((IMAGES, LATENT), np.float32)


def run(setting: Setting) -> Found:
    """Measure the errors of differences, then ask the checks about kinks and bugs."""
    steps, kinks, bugs, draws = spawn(setting.seed, 4)
    curves, at_kink = errors(steps), straddle(kinks)
    setting.say("planting bugs and checking each by four methods")
    return Found(curves, *at_kink, judge(bugs), monte_carlo(draws))


def errors(rng: np.random.Generator) -> list[Curve]:
    """Three methods in two dtypes, against the gradient of `VAE.backward` in float64."""
    vae, x, eps = draw_point(rng, "tanh")
    exact = vae.astype(np.float64)
    gradient = exact.backward(exact.forward(x, eps)).flat
    vs = rng.standard_normal((DIRECTIONS, len(gradient)))
    vs /= np.linalg.norm(vs, axis=1, keepdims=True)
    slopes, curves = vs @ gradient, []
    for dtype, method in itertools.product(DTYPES, METHODS):
        measured = [[difference(vae, x, eps, v, h, method, dtype) for v in vs] for h in STEPS]
        off = np.sqrt(((np.array(measured) - slopes) ** 2).mean(axis=1))
        curves.append(Curve(method, dtype, STEPS, off / math.sqrt((slopes**2).mean())))
    return curves


def difference(
    vae: VAE, x: Array, eps: Array, v: Array, h: float, method: str, dtype: str
) -> float:
    """The derivative along v by one method; every number is of this dtype, but for the quotient."""

    def f(t: complex, dtype: DTypeLike) -> Any:
        moved = vae.params.astype(dtype)
        moved.flat[:] += (t * v).astype(dtype)
        net = vae.network.over(moved)  # a `VAE` itself has no complex64
        return elbo_loss(net.terms(net.forward(x, eps)), 1.0)

    x, eps = x.astype(dtype), eps.astype(dtype)
    if method == "complex":
        return float(f(1j * h, DTYPES[dtype]).imag) / h
    if method == "central":
        return (float(f(h, dtype)) - float(f(-h, dtype))) / (2 * h)
    return (float(f(h, dtype)) - float(f(0, dtype))) / h


def draw_black(rng: np.random.Generator) -> tuple[VAE, Array, Array, float, float]:
    """Return a point with one unit just above its kink, for a black image; the slopes beside it."""
    while True:
        vae, x, eps = draw_point(rng, "relu")
        vae, x[0] = vae.astype(np.float64), 0
        bias, slopes = vae.params[BIAS], []
        bias[0] = -1.0  # alone moves that unit, and is off: as good as at the kink
        black = clearance(vae, x[:1], eps[:1])
        for bias[0] in -DELTA, DELTA:
            slopes.append(float(vae.backward(vae.forward(x, eps))[BIAS][0]))
        clear = min(black, clearance(vae, x[1:], eps[1:])) > CLEARANCE
        if clear and abs(slopes[0] - slopes[1]) >= LEAST_JUMP:
            return vae, x, eps, slopes[0], slopes[1]  # left and right of the kink


def straddle(rng: np.random.Generator) -> tuple[Curve, float, list[Kink]]:
    """Differentiate by the bias of a relu unit just above its kink, and ask `gradcheck`."""
    vae, x, eps, left, right = draw_black(rng)
    f, gradient, arrays = problem(vae, x, eps)
    steps = STEPS[(STEPS <= 0.0011) & (STEPS >= 0.9e-12)]
    slopes = np.array([central_difference(f, arrays, BIAS, (0,), h) for h in steps.tolist()])
    at_kink = Curve("central", "float64", steps, (slopes - right) / (left - right))
    entry = Block(Probe(f, arrays), BIAS, gradient[BIAS]).entry(0)
    of_complex = abs(entry.complex_derivative() - right) / abs(left - right)
    other = {name: block.copy() for name, block in gradient.items()}
    other[BIAS][0] = left
    zero = vae.astype(np.float64)
    zero.params[BIAS][:] = 0  # for the black image every unit is at its corner
    value, at_zero, zeros = problem(zero, x, eps)
    kinks = []
    for name, at, g, point in (
        ("right", f, gradient, arrays),
        ("slope of the other side of the kink", f, other, arrays),
        ("right, and all biases are 0", value, at_zero, zeros),
        ("wrong sign, and all biases are 0", value, at_zero | {BIAS: -at_zero[BIAS]}, zeros),
    ):
        report = gradcheck(at, {block: g[block] for block in BLOCKS}, point)
        said = {"ok": "passes", "wrong": "caught", "undecided": "undecided"}[report.status]
        named, entries = sum(len(row.kinks) for row in report), sum(row.entries for row in report)
        kinks.append(Kink(name, said, named, entries))
    return at_kink, of_complex, kinks


def word(ok: bool, *, right: bool) -> str:
    """Return what a check did with a right gradient, or with a planted bug."""
    return ("passes" if ok else "rejected") if right else ("not seen" if ok else "caught")


def problem(vae: VAE, x: Array, eps: Array) -> tuple[Function, dict[str, Array], dict[str, Array]]:
    """The objective, its gradient and the point, as `gradcheck` takes them."""
    arrays = {**vae.params, "x": x.astype(np.float64), "eps": eps.astype(np.float64)}
    f = function_of(vae, "objective", 1.0)
    return f, gradient_of(vae, arrays["x"], arrays["eps"], "objective", 1.0), arrays


class Plant(NamedTuple):
    """A bug, and what is wrong."""

    bug: str
    model: VAE  # of the reconstruction
    kl: float = 1.0  # times the right gradient of the KL
    images: int = IMAGES
    without: tuple[str, ...] = ()  # blocks of which the gradient of the reconstruction is left out
    right: bool = False  # no bug at all


def judge(rng: np.random.Generator) -> dict[str, Verdict]:
    """Put the right gradient and wrong ones to four checks."""
    vae, x, eps = draw_point(rng, "tanh")
    params = vae.params.astype(np.float64)
    small = params.zeros_like()
    for name, block in small.items():
        if name.endswith(".W"):
            block[:] = TINY * rng.standard_normal(block.shape)
    right, tiny, doubled = model(Network, params), model(Network, small), model(Doubled, params)
    plants = (
        Plant("none", right, right=True),
        Plant("1/B missing in the KL, one image", right, 1, 1, right=True),
        Plant("1/B missing in the KL, five images", right, IMAGES),
        Plant("sign of the KL", right, -1),
        Plant("no reconstruction in dlogvar", right, without=HEADS[1:]),
        Plant("no reconstruction in dlogvar, weights of 0.001", tiny, without=HEADS[1:]),
        Plant("log(p + 1e-8) in the value", model(Network, params, Guarded())),
        Plant("the sampler takes logvar for log σ", doubled),
    )
    return {plant.bug: verdict(plant, x, eps) for plant in plants}


def model(network: type[Network], params: Params, likelihood: str | Bernoulli = "bernoulli") -> VAE:
    """Return the model of this network over these parameters."""
    return VAE(PIXELS, (HIDDEN,), LATENT, "tanh", likelihood, params=params, network_type=network)


def verdict(plant: Plant, x: Array, eps: Array) -> Verdict:
    """Ask the three methods of `gradcheck`, and PyTorch's rule."""
    x, eps = x[: plant.images].astype(np.float64), eps[: plant.images].astype(np.float64)
    of_kl = model(Network, plant.model.params)
    nll, kl = function_of(plant.model, "reconstruction", 1.0), function_of(of_kl, "KL", 1.0)
    dnll = gradient_of(plant.model, x, eps, "reconstruction", 1.0)
    dkl = gradient_of(of_kl, x, eps, "KL", 1.0)
    gradient = {n: plant.kl * dkl[n] + (0 if n in plant.without else dnll[n]) for n in HEADS}
    arrays = {**plant.model.params, "x": x, "eps": eps}

    def f(moved: Arrays) -> Any:
        return nll(moved) + kl(moved)

    methods = "central", "complex", "taylor"
    passed = [gradcheck(f, gradient, arrays, method=method).ok for method in methods]
    passed.append(pytorch_rule(f, gradient, arrays))
    return tuple(word(ok, right=plant.right) for ok in passed)


def pytorch_rule(f: Function, gradient: Arrays, arrays: Arrays) -> bool:
    """Whether each |a - n| <= atol + rtol |n|, n by central differences."""
    for name, a in gradient.items():
        n = [central_difference(f, arrays, name, index, 1e-6) for index in np.ndindex(a.shape)]
        if not np.allclose(a.ravel(), n, rtol=1e-3, atol=1e-5):
            return False
    return True


def monte_carlo(rng: np.random.Generator) -> list[MonteCarlo]:
    """Estimate the KL from what the sampler draws, of the right model and of the wrong one."""
    vae, x, _ = draw_point(rng, "tanh")
    params = vae.params.astype(np.float64)
    mu, logvar = model(Network, params).encode(x)
    sigma = posterior.standard_deviation(logvar)
    kl = float(posterior.kl(mu, logvar, sigma).mean())
    eps = rng.standard_normal((DRAWS, *mu.shape))
    estimates = []
    for name, kind in ("right", Network), ("the sampler takes logvar for log σ", Doubled):
        of_sampler = posterior.standard_deviation(model(kind, params).encode(x)[1])
        z = posterior.sample(mu, of_sampler, eps)
        ratios = posterior.log_ratio(logvar, (z - mu) / sigma, z).mean(axis=1)  # (DRAWS,)
        error = float(ratios.std(ddof=1)) / math.sqrt(DRAWS)
        estimates.append(MonteCarlo(name, kl, float(ratios.mean()), error))
    return estimates


SHOWN = (1e-1, 1e-3, 1e-5, 1e-8, 1e-12, 1e-30)
SLOPES = {"forward": (1e-1, 1e-4, 1), "central": (1e-1, 1e-3, 2), "complex": (1e-1, 1e-3, 2)}

TABLES = (
    Table("Relative error of a derivative along a line, by step h",
          (*columns("numbers", "method"),
           *columns(*(f"h = {h:.0e}" for h in SHOWN), form=".0e", factor=10)),
          lambda found: [(c.dtype, c.method, *map(c.at, SHOWN)) for c in found.curves],
          images=False),
    Table("What gradcheck says at the kink, by central differences",
          (*columns("gradient", "verdict"),
           Column("entries that pass at a kink", "d", within=4), Column("entries checked", "d")),
          lambda found: found.kinks, images=False),
    Table("Planted bugs and what four checks say",
          columns("bug", "central", "complex", "Taylor", "PyTorch's rule"),
          lambda found: [(bug, *said) for bug, said in found.verdicts.items()], images=False),
    Table("The KL and its Monte Carlo estimate, nats",
          (Column("model"),
           *columns("KL", "estimate", "standard error", form=".4f", within=1e-3),
           Column("standard errors apart", ".1f", within=0.2, factor=1.01)),
          lambda found: [(*m, m.apart) for m in found.estimates], images=False),
)  # fmt: skip


def inside(best: tuple[float, float], h: tuple[float, float], error: tuple[float, float]) -> bool:
    """Whether the best step and its error lie in these ranges."""
    return h[0] <= best[0] <= h[1] and error[0] <= best[1] <= error[1]


PASSES, CAUGHT = ("passes",) * 4, ("caught",) * 4
VERDICTS: dict[str, Verdict] = {  # as the claim says
    "none": PASSES,
    "1/B missing in the KL, one image": PASSES,
    "1/B missing in the KL, five images": CAUGHT,
    "sign of the KL": CAUGHT,
    "no reconstruction in dlogvar": CAUGHT,
    "no reconstruction in dlogvar, weights of 0.001": (*CAUGHT[:3], "not seen"),
    "log(p + 1e-8) in the value": ("not seen", "caught", "not seen", "not seen"),
    "the sampler takes logvar for log σ": ("not seen",) * 4,
}
CLAIMS = (
    Claim("In float64, for large h, the error of a forward difference falls like h, and that of a "
          "central difference or a complex step like h²: the slopes are 1, 2 and 2, to 0.05.",
          lambda found: all(abs(found.curve(m, "float64").slope(high, low) - slope) < 0.05
                            for m, (high, low, slope) in SLOPES.items())),
    Claim("In float64 the best forward difference is off by 1e-8 to 1e-5, at an h from 1e-8 to "
          "1e-5. The best central difference is off by 1e-12 to 1e-8, at an h from 1e-6 to 1e-3. "
          "The complex step is off by less than 1e-13 at every h from 1e-8 to 1e-30.",
          lambda found: (
              inside(found.curve("forward", "float64").best, (0.9e-8, 1.1e-5), (1e-8, 1e-5))
              and inside(found.curve("central", "float64").best, (0.9e-6, 1.1e-3), (1e-12, 1e-8))
              and found.curve("complex", "float64").worst(1.1e-8) < 1e-13)),
    Claim("In float32 no h makes a central difference better than 1e-5, or a forward difference "
          "better than 1e-4. The complex step is off by less than 3e-6 at every h from 1e-4 to "
          "1e-30.",
          lambda found: (found.curve("central", "float32").best[1] > 1e-5
                         and found.curve("forward", "float32").best[1] > 1e-4
                         and found.curve("complex", "float32").worst(1.1e-4) < 3e-6)),
    Claim("Across a kink the central difference is off by half of the jump of the slope, to 0.01, "
          "at every h from 1e-4 to 1e-6. The complex step is off by less than 1e-10 of it. There "
          "gradcheck passes the right gradient, naming one entry, and catches that of the other "
          "side.",
          lambda found: (
              all(abs(found.at_kink.at(10.0**n) - 0.5) < 0.01 for n in np.arange(-6, -3.9, 0.5))
              and found.complex_at_kink < 1e-10
              and [(k.verdict, k.kinks) for k in found.kinks[:2]]
              == [("passes", 1), ("caught", 0)])),
    Claim("All four checks pass the right gradient, also with 1/B missing at one image. They catch "
          "1/B missing at five images, the wrong sign of the KL, and a dlogvar without "
          "reconstruction; with weights of 0.001 PyTorch's rule misses the last. Only the complex "
          "step catches log(p + 1e-8). None sees the sampler that takes logvar for log σ.",
          lambda found: found.verdicts == VERDICTS),
    Claim("The mathematics sees it: the KL of that model is more than 20 standard errors from its "
          "Monte Carlo estimate. That of the right model is within 5.",
          lambda found: found.estimates[0].apart < 5 and found.estimates[1].apart > 20),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """The error against the step; and across a kink."""
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
    looks = {"forward": "C6o", "central": "C0s", "complex": "C2^"}
    for curve in found.curves:
        line, face = ("-", None) if curve.dtype == "float64" else (":", "white")
        left.loglog(curve.steps, curve.errors, looks[curve.method] + line, lw=1, ms=4, mfc=face)
    for x, y, label, colour in (
        (1e-4, 3e-4, "forward", "C6"),
        (3e-7, 3e-9, "central", "C0"),
        (3e-11, 4e-15, "complex step, complex128", "C2"),
        (3e-11, 1e-6, "complex step, complex64", "C2"),
        (2e-7, 8, "differences, float32", "k"),
    ):
        left.text(x, y, label, ha="right", color=colour)
    left.set(xlabel="step h", ylabel="relative error", xlim=(1e-20, 3), ylim=(1e-16, 1e4))
    steps = np.logspace(-12, -3, 500)
    right.semilogx(found.at_kink.steps, found.at_kink.errors, "s", ms=4, color="C0")
    right.semilogx(steps, np.maximum(1 - DELTA / steps, 0) / 2, lw=1, color="0.4")
    right.text(1e-8, 0.2, "(1 - δ/h) / 2")
    right.axvline(DELTA, color="0.4", lw=1, ls=":")
    right.text(DELTA, 0.4, "h = δ ", ha="right")
    right.set(xlabel="step h", ylabel="error, in jumps of the slope")


QUESTION = "How to check a gradient: finite differences, the complex step, kinks"
CONCLUSION = (
    "Compare in float64, with every term switched on, weights away from zero and more than one "
    "image."
)
STUDY = Study("checking", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw, 3.2)
