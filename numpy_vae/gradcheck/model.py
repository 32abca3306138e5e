"""The gradient check of this package's model: four points, each term alone and the objective.

- *initial*: the initial weights. The log-variance head starts at zero, which would hide its branch
  into h, so it is drawn. So are the biases: a relu unit whose inputs are all zero would be at its
  kink.
- *trained*: some steps of Adam later, with activations and gradients as in training.
- *saturated*: logits from 10⁴ to -10⁴, and log-variances from 70 to 80 or from -80 to -70. A KL of
  e⁸⁰ / 2 drowns every difference there, so only the complex step is used. The weights that read z
  shrink as sigma grows, which keeps the logits in place. The two ends are two points, because
  errors are relative to the largest entry of a block.

The gradient covers every block, eps and, if the likelihood has a derivative with respect to it, x.
If f refuses complex numbers in x, the complex step leaves x out, which is listed as not checked. If
it refuses them altogether, the complex step is left out, with a warning. A term alone weighs each
example differently: with equal weights a gradient in the wrong example's row would pass. The
objective is a bound of `bounds`. With the ELBO the trained point has three samples of each example
and the others one; with the importance-weighted bound all have three, since a single sample always
has weight 1.

With that bound the saturated points are milder, so that no weight w dominates. The rounding of
log w is u |log w| (u the rounding of 1), so the logits run from 40 to -40, where sigmoid is 0 or 1
too; a Gaussian's logits, which cannot saturate, are left alone. eps shrinks so that z stays within
the prior: otherwise log w would differ by e⁸⁰ / 2. The weights that read z shrink only until the
samples explain x about equally well.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
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
from .differences import NotComplexError
from .line import Arrays, Function
from .report import Report

EXAMPLES, SAMPLES = 4, 3
STEPS = 50  # of Adam, to the trained point
CLEARANCE = 5e-5  # of a relu unit from its kink: more than a difference can move it
TERMS = {
    "elbo": ("reconstruction", "KL", "objective"),
    "iwae": ("reconstruction", "log ratio", "objective"),
}  # by bound
LOGITS = {"elbo": 1e4, "iwae": 40.0}  # the largest at the saturated points, by bound
RATE = 9.0  # the largest logit of counts there, as their rate is its exponential
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
    vae: VAE, beta: float = 1.0, *, bound: str = "elbo", max_entries: int = 256,
    rng: np.random.Generator | int | None = 0,
) -> Iterator[Check]:  # fmt: skip
    """Check the gradient of a new model, which is not written to: each term, point and method.

    `beta` weighs the KL, or the log ratio. `max_entries` and `rng` are those of `gradcheck`; `rng`
    also draws images, noise, and what the points need.
    """
    check_choice("bound", bound, BOUNDS)
    rng = np.random.default_rng(rng)
    ask = partial(gradcheck, max_entries=max_entries, rng=rng)
    for point, model, x, eps in points(vae.astype(np.float64), beta, bound, rng):
        arrays = {**model.params, "x": x, "eps": eps}
        for term in TERMS[bound]:
            f = function_of(model, term, beta, bound)
            gradient = gradient_of(model, x, eps, term, beta, bound)
            alone = {name: block for name, block in gradient.items() if name != "x"}
            for method in METHODS[point]:
                for blocks in gradient, alone:
                    try:
                        report = ask(f, blocks, arrays, method=method)
                    except NotComplexError as error:
                        why = error
                        continue
                    yield Check(point, term, method, report)
                    break
                else:
                    warnings.warn(f"{point}, {term}: no complex step, as {why}", stacklevel=2)


def points(
    vae: VAE, beta: float, bound: str, rng: np.random.Generator
) -> Iterator[tuple[str, VAE, Array, Array]]:
    """Move the model to the four points in turn; yield name, model, x and eps."""
    one, several = (EXAMPLES, vae.latent_dim), (SAMPLES, EXAMPLES, vae.latent_dim)
    shape = one if bound == "elbo" else several
    randomise(vae, rng)
    yield "initial", vae, *draw(vae, shape, rng)
    (x, _), adam = draw(vae, several, rng), Adam(vae.params)
    for _ in range(STEPS):
        trace = vae.forward(x, rng.standard_normal(several))
        adam.step(vae.terms_backward(trace, BOUNDS[bound].backward(vae.terms(trace), beta)))
    yield "trained", vae, *draw(vae, several, rng)
    for most in 80.0, -80.0:
        saturated = copy(vae)
        x, eps = draw(vae, shape, rng)
        saturate(saturated, x, eps, most, bound)
        yield f"saturated, {most:+.0f}", saturated, x, eps


def draw(vae: VAE, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw images that the likelihood accepts, and noise of this shape, away from relu's kinks."""
    low, high = vae.likelihood.support
    for _ in range(100):  # in a very large model some unit is always near its kink
        size = EXAMPLES, vae.data_dim
        x = rng.uniform(low, high, size) if math.isfinite(high - low) else rng.standard_normal(size)
        if not vae.likelihood.differentiable_in_x:  # counts, or classes
            x = vae.likelihood.sample(rng.standard_normal(size), rng).astype(np.float64)
        elif math.isfinite(low) != math.isfinite(high):  # values of one sign
            x = low + np.abs(x) if math.isfinite(low) else high - np.abs(x)
        eps = rng.standard_normal(shape)
        if vae.activation != "relu" or clearance(vae, x, eps) > CLEARANCE:
            break
    return x, eps


def clearance(vae: VAE, x: Array, eps: Array) -> float:
    """Return the smallest |a| of all hidden units, a = h W + b."""
    trace = vae.forward(x, eps)
    least = math.inf
    for name, hs in ("encoder", trace.encoder), ("decoder", trace.decoder):
        for i, h in enumerate(hs[:-1]):
            a = h @ vae.params[f"{name}.{i}.W"] + vae.params[f"{name}.{i}.b"]
            least = min(least, float(np.abs(a).min()))
    return least


def function_of(vae: VAE, term: str, beta: float, bound: str = "elbo") -> Function:
    """Return a term of the objective as a function of named arrays: each block, x and eps."""
    twins = {dtype: vae.astype(dtype) for dtype in map(np.dtype, (np.float64, np.complex128))}

    def f(arrays: Arrays) -> Any:
        twin = twins[arrays["x"].dtype]
        for name, block in twin.params.items():
            block[...] = arrays[name]
        trace = twin.forward(arrays["x"], arrays["eps"])
        if not arrays["x"].imag.any():  # what -log p(x | z) does to x need not be analytic
            trace = replace(trace, x=trace.x.real)
        terms = twin.terms(trace)
        if term == "objective":
            return BOUNDS[bound].forward(terms, beta)
        weights: tuple[Any, ...] = weights_of(term, terms.reconstruction.shape)
        return sum((d * values).sum() for d, values in zip(weights, terms, strict=True))

    return f


def gradient_of(
    vae: VAE, x: Array, eps: Array, term: str, beta: float, bound: str = "elbo"
) -> dict[str, Array]:
    """Return the hand-written gradient of `function_of` by the same names, x if there is one."""
    trace = vae.forward(x, eps)
    alone = weights_of(term, trace.logits.shape[:-1])
    weights = BOUNDS[bound].backward(vae.terms(trace), beta) if term == "objective" else alone
    dx, deps = vae.backward_inputs(trace, weights)
    of_x = {} if dx is None else {"x": dx}
    return {**vae.terms_backward(trace, weights), **of_x, "eps": deps}


def weights_of(term: str, shape: tuple[int, ...]) -> Terms:
    """Return unequal or zero dnll, dkl, (B,), and dratio; `shape` is (B,) or (K, B)."""
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


def saturate(vae: VAE, x: Array, eps: Array, most: float, bound: str = "elbo") -> None:
    """Stretch log-variances to 70...80 or -80...-70, logits to ±`LOGITS`; shrink eps (iwae)."""
    params = vae.params
    params["logvar.W"][:] *= 0.1  # log-variances within 10 of one another
    stretch(params["logvar.b"], vae.encode(x)[1], most, math.copysign(70.0, most))
    sigma = np.exp(np.maximum(vae.encode(x)[1], 0).max(axis=0) / 2)  # (Z,)
    reads_z = params["decoder.0.W" if vae.hidden else "output.W"]  # (Z, H) or (Z, D)
    if bound == "elbo":
        reads_z /= sigma[:, np.newaxis]
    else:
        eps /= sigma
    if bound == "elbo" or all(map(math.isfinite, vae.likelihood.support)):
        most = RATE if vae.likelihood.whole else LOGITS[bound]
        stretch(params["output.b"], vae.forward(x, eps).logits, most, -LOGITS[bound])
    if bound == "iwae":
        reconstruction, _ = vae.loss(vae.forward(x, eps))  # (K, B)
        reads_z /= max(1.0, float(np.ptp(reconstruction, axis=0).max()))


def stretch(bias: Array, values: Array, first: float, last: float) -> None:
    """Set the bias of a layer so that its values run from `first` to `last`."""
    spread = min(float(np.abs(values - bias).max()), abs(first - last) / 2)
    inwards = math.copysign(spread, last - first)
    bias[:] = np.linspace(first + inwards, last - inwards, len(bias))
