"""The gradient check of this model: four points, each term of its objective alone and together.

- *initial*: the initial weights. The log-variance head starts at zero, which would hide the branch
  from it into h, so it is drawn; so are the biases, since a relu unit whose inputs are all zero
  would lie at its kink.
- *trained*: some steps of Adam later, with activations and gradients of the sizes of training.
- *saturated*: logits from 10⁴ to -10⁴, and log-variances from 70 to 80, or from -80 to -70. There a
  KL of e⁸⁰ / 2 drowns every difference, and the complex step alone can tell. The two ends are two
  points, for an error is relative to the largest entry of its block.

The gradient is that of every block, and of x and eps. A term alone has a weight of its own for each
example (with equal ones a gradient in the row of another example is right); both together are the
objective, a bound of `bounds`. With the ELBO the trained point has three samples of each example,
the others one; with the importance-weighted bound all have three, as a single one has the weight 1.

With that bound the saturated points are milder, so that no single weight w is all that counts.
log w is known to u |log w| (u the rounding of 1), so the logits run from 40 to -40, where sigmoid
is 0 or 1 as well; a Gaussian's logits, which cannot saturate, are left alone. eps is shrunk so that
z stays where the prior is: otherwise log w would differ by e⁸⁰ / 2. The weights that read z shrink
too, until the samples explain x about equally well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..bounds import BOUNDS, Terms
from ..checks import check_choice
from ..optim import Adam
from ..params import Array
from ..vae import VAE
from .check import gradcheck
from .difference import Arrays, Function
from .report import Report

EXAMPLES, SAMPLES = 4, 3
STEPS = 50  # of Adam, to the trained point
CLEARANCE = 5e-5  # of a relu unit from its kink: more than a difference moves it
TERMS = {
    "elbo": ("reconstruction", "KL", "objective"),
    "iwae": ("reconstruction", "log ratio", "objective"),
}  # by bound
LOGITS = {"elbo": 1e4, "iwae": 40.0}  # the largest at the saturated points, by bound
METHODS = {
    "initial": ("central", "complex", "taylor"),
    "trained": ("central", "complex", "taylor"),
    "saturated, +80": ("complex",),
    "saturated, -80": ("complex",),
}  # by point


class Check(NamedTuple):
    """The report of one method on one term of the objective at one point."""

    point: str
    term: str
    method: str
    report: Report


def check_model(
    vae: VAE,
    beta: float = 1.0,
    *,
    bound: str = "elbo",
    max_entries: int = 256,
    rng: np.random.Generator | int | None = 0,
) -> Iterator[Check]:
    """Check the gradient of a freshly made model: each term at each point by each method.

    Parameters
    ----------
    vae : VAE
        It is not written to.
    beta : float
        Coefficient of the KL, or of the log ratio.
    bound : {"elbo", "iwae"}
        What the objective is: see `numpy_vae.bounds`.
    max_entries : int
        Larger blocks are checked in a sample of as many entries, and along directions.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        Draws images, noise, and what the points need.
    """
    check_choice("bound", bound, BOUNDS)
    rng = np.random.default_rng(rng)
    ask = partial(gradcheck, max_entries=max_entries, rng=rng)
    for point, model, x, eps in points(vae.astype(np.float64), beta, bound, rng):
        arrays = {**model.params, "x": x, "eps": eps}
        for term in TERMS[bound]:
            f = function_of(model, term, beta, bound)
            gradient = gradient_of(model, x, eps, term, beta, bound)
            for method in METHODS[point]:
                yield Check(point, term, method, ask(f, gradient, arrays, method=method))


def points(
    vae: VAE, beta: float, bound: str, rng: np.random.Generator
) -> Iterator[tuple[str, VAE, Array, Array]]:
    """Move the model to the four points in turn; yield their names, the model, x and eps."""
    one, several = (EXAMPLES, vae.latent_dim), (SAMPLES, EXAMPLES, vae.latent_dim)
    shape = one if bound == "elbo" else several
    randomise(vae, rng)
    yield "initial", vae, *draw(vae, shape, rng)
    train(vae, *draw(vae, several, rng), beta, bound, rng)
    yield "trained", vae, *draw(vae, several, rng)
    for most in 80.0, -80.0:
        saturated = copy(vae)
        x, eps = draw(vae, shape, rng)
        saturate(saturated, x, eps, most, bound)
        yield f"saturated, {most:+.0f}", saturated, x, eps


def draw(vae: VAE, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw images that the likelihood accepts, and noise of this shape, off the kinks of relu."""
    low, high = vae.likelihood.support
    for _ in range(100):  # a very large model has some unit close to its kink, whatever is drawn
        size = EXAMPLES, vae.data_dim
        x = rng.uniform(low, high, size) if is_bounded(vae) else rng.standard_normal(size)
        if math.isfinite(low) != math.isfinite(high):  # counts, and what has one sign
            x = low + np.abs(x) if math.isfinite(low) else high - np.abs(x)
        eps = rng.standard_normal(shape)
        if vae.activation != "relu" or clearance(vae, x, eps) > CLEARANCE:
            break
    return x, eps


def is_bounded(vae: VAE) -> bool:
    """Whether there is a smallest and a largest x."""
    low, high = vae.likelihood.support
    return math.isfinite(high - low)


def clearance(vae: VAE, x: Array, eps: Array) -> float:
    """Return the smallest |a| of all hidden units, a = h W + b."""
    trace = vae.forward(x, eps)
    least = math.inf
    for name, hs in ("encoder", trace.encoder), ("decoder", trace.decoder):
        for i, h in enumerate(hs[:-1]):
            a = h @ vae.params[f"{name}.{i}.W"] + vae.params[f"{name}.{i}.b"]
            least = min(least, float(np.abs(a).min()))
    return least


def point_table(checks: Sequence[Check]) -> str:
    """Return the checks of one point as a table of 80 columns, a row for each block.

    Under each term stand the errors by central differences and by the complex step, and the order
    of the Taylor remainder. What fails is shown below the table, with both of its values.
    """
    point, methods = checks[0].point, METHODS[checks[0].point]
    columns = {"central": 5, "complex": 5, "taylor": 4}  # their widths
    group = max(16, sum(columns[method] + 1 for method in methods))
    terms = [f"{term:{group + 1}}" for term in dict.fromkeys(check.term for check in checks)]
    heads = "".join(f" {method[: columns[method]]:>{columns[method]}}" for method in methods)
    heads = f" {heads:{group}}" * len(terms)
    lines = [f"{point:20}{''.join(terms).rstrip()}", f"{'block':11} {'shape':>7}{heads.rstrip()}"]
    for rows in zip(*(check.report for check in checks), strict=True):  # of one block
        name, shape = rows[0].name, "x".join(map(str, rows[0].shape))
        line = f"{name} {shape:>{18 - len(name)}}"
        for i in range(0, len(rows), len(methods)):  # term by term
            of_term = rows[i : i + len(methods)]
            values = [f"{r.error:.0e}" if r.order is None else f"{r.order:.2f}" for r in of_term]
            cells = zip(values, methods, strict=True)
            text = "".join(f" {value:>{columns[method]}}" for value, method in cells)
            line += f" {text:{group}}"
        lines.append(f"{line} {'ok' if all(row.ok for row in rows) else 'FAIL'}")
    for check in checks:
        where = f"{point}, {check.term}, {check.method}"
        lines += [f"{where}: {row.name}: {row.kinks_named}" for row in check.report if row.kinks]
        failed = tuple(row for row in check.report if not row.ok)
        if failed:
            lines += [f"{where}:", *str(replace(check.report, rows=failed)).splitlines()]
        elif check.report.note:
            lines.append(f"{where}: {check.report.note}")
    return "\n".join(lines)


def summary(checks: Sequence[Check]) -> str:
    """Return the worst of each method in one line."""
    rows = [row for check in checks for row in check.report]
    worst = {m: max(row.error for row in rows if row.method == m) for m in ("central", "complex")}
    order = min(row.order for row in rows if row.order is not None)
    return (
        f"worst error: central {worst['central']:.1e}, complex step {worst['complex']:.1e}; "
        f"least order {order:.2f}"
    )


def function_of(vae: VAE, term: str, beta: float, bound: str = "elbo") -> Function:
    """Return a term of the objective as a function of named arrays: each block, x and eps."""
    twins: dict[np.dtype[Any], VAE] = {}

    def f(arrays: Arrays) -> Any:
        dtype = arrays["x"].dtype
        if dtype not in twins:
            twins[dtype] = vae.astype(dtype)
        twin = twins[dtype]
        for name, block in twin.params.items():
            block[...] = arrays[name]
        terms = twin.terms(twin.forward(arrays["x"], arrays["eps"]))
        if term == "objective":
            return BOUNDS[bound].forward(terms, beta)
        weights: tuple[Any, ...] = weights_of(term, terms.reconstruction.shape)
        return sum((d * values).sum() for d, values in zip(weights, terms, strict=True))

    return f


def gradient_of(
    vae: VAE, x: Array, eps: Array, term: str, beta: float, bound: str = "elbo"
) -> dict[str, Array]:
    """Return the hand-written gradient of `function_of` by the same names."""
    trace = vae.forward(x, eps)
    alone = weights_of(term, trace.logits.shape[:-1])
    weights = BOUNDS[bound].backward(vae.terms(trace), beta) if term == "objective" else alone
    dx, deps = vae.backward_inputs(trace, weights)
    return {**vae.terms_backward(trace, weights), "x": dx, "eps": deps}


def weights_of(term: str, shape: tuple[int, ...]) -> Terms:
    """Return dnll, dkl, (B,), and dratio, of this shape (B,) or (K, B): unequal, or zero."""
    rng = np.random.default_rng(0)
    dnll, dratio = rng.uniform(0.5, 1.5, (2, *shape)) / math.prod(shape)
    dkl = rng.uniform(0.5, 1.5, shape[-1]) / shape[-1]
    alone = term == "reconstruction", term == "KL", term == "log ratio"
    return Terms(dnll * alone[0], dkl * alone[1], dratio * alone[2])


def randomise(vae: VAE, rng: np.random.Generator) -> None:
    """Draw the log-variance head and the biases."""
    for name, block in vae.params.items():
        if name == "logvar.W":
            block[:] = rng.normal(0, 1 / math.sqrt(len(block)), block.shape)
        elif name.endswith(".b") and not name.startswith("likelihood."):
            block[:] = rng.normal(0, 0.1, block.shape)


def train(
    vae: VAE, x: Array, eps: Array, beta: float, bound: str, rng: np.random.Generator
) -> None:
    """Take some steps of Adam on the images x, with new noise of the shape of eps in each."""
    adam = Adam(vae.params)
    for _ in range(STEPS):
        trace = vae.forward(x, rng.standard_normal(eps.shape))
        weights = BOUNDS[bound].backward(vae.terms(trace), beta)
        adam.step(vae.terms_backward(trace, weights))


def saturate(vae: VAE, x: Array, eps: Array, most: float, bound: str = "elbo") -> None:
    """Stretch the log-variances over [70, 80], or [-80, -70], and the logits over ±`LOGITS`.

    With the ELBO, the weights shrink where z is read as sigma grows, so that the logits stay where
    they are put. With the importance-weighted bound eps does, in place, so that z stays where the
    prior is; and where z is read the weights shrink as far as the samples differ in explaining x.
    """
    params = vae.params
    params["logvar.W"][:] *= 0.1  # log-variances within 10 of one another
    stretch(params["logvar.b"], vae.encode(x)[1], most, math.copysign(70.0, most))
    sigma = np.exp(np.maximum(vae.encode(x)[1], 0).max(axis=0) / 2)  # (Z,)
    reads_z = params["decoder.0.W" if vae.hidden else "output.W"]  # (Z, H) or (Z, D)
    if bound == "elbo":
        reads_z /= sigma[:, np.newaxis]
    else:
        eps /= sigma
    if bound == "elbo" or is_bounded(vae):
        stretch(params["output.b"], vae.forward(x, eps).logits, LOGITS[bound], -LOGITS[bound])
    if bound == "iwae":
        reconstruction, _ = vae.loss(vae.forward(x, eps))  # (K, B)
        reads_z /= max(1.0, float(np.ptp(reconstruction, axis=0).max()))


def stretch(bias: Array, values: Array, first: float, last: float) -> None:
    """Set the bias of a layer with these values so that they run from `first` to `last`."""
    spread = min(float(np.abs(values - bias).max()), abs(first - last) / 2)
    inwards = math.copysign(spread, last - first)
    bias[:] = np.linspace(first + inwards, last - inwards, len(bias))
