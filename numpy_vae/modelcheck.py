"""The gradient check of this model: three points, each term of its objective alone and together.

- *initial*: the initial weights. The log-variance head, which starts at zero, is drawn, as the
  branch from it into h would else be invisible; so are the biases, since a relu unit whose inputs
  are all zero would lie at its kink.
- *trained*: some steps of Adam later, where activations and gradients have the sizes of training.
- *saturated*: log-variances from -80 to 80, logits from -10⁴ to 10⁴. There a KL of e⁸⁰ / 2 drowns
  every difference, and the complex step alone can tell.

The gradient is that of every block, and of x and eps, with two samples of each example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .gradcheck import Report, gradcheck
from .optim import Adam
from .params import Array
from .vae import VAE

EXAMPLES, SAMPLES = 4, 2
STEPS = 50  # of Adam, to the trained point
TERMS = ("reconstruction", "kl", "objective")
METHODS = {
    "initial": ("central", "complex", "taylor"),
    "trained": ("central", "complex", "taylor"),
    "saturated": ("complex",),
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
    max_entries: int = 256,
    rng: np.random.Generator | int | None = 0,
) -> Iterator[Check]:
    """Check the gradient of a freshly made model at the three points.

    Parameters
    ----------
    vae : VAE
        Its settings and its weights are read and not written to.
    beta : float
        Coefficient of the KL.
    max_entries : int
        Larger blocks are checked in a sample of as many entries, and along directions.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        Draws images, noise, and what the points need.

    Yields
    ------
    Check
        For each point, term and method that can be used there.
    """
    rng = np.random.default_rng(rng)
    vae = vae.astype(np.float64)
    low, high = vae.likelihood.support
    shape = EXAMPLES, vae.data_dim
    bounded = math.isfinite(high - low)
    x = rng.uniform(low, high, shape) if bounded else rng.standard_normal(shape)
    eps = rng.standard_normal((SAMPLES, EXAMPLES, vae.latent_dim))
    for point, move in {"initial": randomise, "trained": train, "saturated": saturate}.items():
        move(vae, x, eps, beta, rng)
        for term in TERMS:
            gradient = gradient_of(vae, x, eps, term, beta)
            arrays = {**vae.params, "x": x, "eps": eps}
            f = function_of(vae, term, beta)
            for method in METHODS[point]:
                report = gradcheck(f, gradient, arrays, method=method, max_entries=max_entries)
                yield Check(point, term, method, report)


def point_table(checks: Sequence[Check]) -> str:
    """Return the checks of one point as a table of 80 columns, a row for each block.

    Under each term stand its largest error by central differences and by the complex step, and the
    order of its Taylor remainder. What fails is shown below the table, with both of its values.
    """
    point = checks[0].point
    widths = {"central": 5, "complex": 5, "taylor": 4}
    methods = METHODS[point]
    group = sum(widths[method] + 1 for method in methods)
    titles = {"reconstruction": "reconstruction", "kl": "KL", "objective": "together"}
    terms = "".join(f" {titles[term]:{group}}" for term in TERMS)
    heads = " " + "".join(f" {method[: widths[method]]:>{widths[method]}}" for method in methods)
    lines = [f"{point:19}{terms.rstrip()}", f"{'block':11} {'shape':>7}" + heads * len(TERMS)]
    below: list[str] = []
    by_key = {(check.term, check.method): check.report for check in checks}
    for i, block in enumerate(checks[0].report):
        line = f"{block.name:11} {'x'.join(map(str, block.shape)):>7}"
        verdict = "ok"
        for term in TERMS:
            line += " "
            for method in methods:
                row = by_key[term, method].rows[i]
                value = f"{row.error:.0e}" if row.order is None else f"{row.order:.2f}"
                line += f" {value:>{widths[method]}}"
                if not row.ok:
                    verdict = "FAIL"
                    below += [f"{point}, {titles[term]}:", str(row)]
                if row.kinks:
                    below.append(f"{point}, {titles[term]}: {row.name}: {row.kinks_named}")
        lines.append(f"{line} {verdict}")
    below += [f"{point}, {titles[c.term]}: {c.report.note}" for c in checks if c.report.note]
    return "\n".join([*lines, *below])


def summary(checks: Sequence[Check]) -> str:
    """Return the worst of each method in one line."""
    rows = [row for check in checks for row in check.report]
    worst = {
        method: max(row.error for row in rows if row.method == method)
        for method in ("central", "complex")
    }
    order = min(row.order for row in rows if row.order is not None)
    return (
        f"largest error: central {worst['central']:.1e}, complex step {worst['complex']:.1e}; "
        f"least order {order:.2f}"
    )


def function_of(vae: VAE, term: str, beta: float) -> Callable[[Mapping[str, Array]], Any]:
    """Return a term of the objective as a function of named arrays: each block, x and eps."""
    twins: dict[np.dtype[Any], VAE] = {}

    def f(arrays: Mapping[str, Array]) -> Any:
        dtype = arrays["x"].dtype
        if dtype not in twins:
            twins[dtype] = vae.astype(dtype)
        twin = twins[dtype]
        for name, block in twin.params.items():
            block[...] = arrays[name]
        trace = twin.forward(arrays["x"], arrays["eps"])
        if term == "objective":
            return twin.objective(trace, beta)
        reconstruction, kl = twin.loss(trace)
        return reconstruction.mean() if term == "reconstruction" else kl.mean()

    return f


def gradient_of(vae: VAE, x: Array, eps: Array, term: str, beta: float) -> dict[str, Array]:
    """Return the hand-written gradient of `function_of` by the same names."""
    trace = vae.forward(x, eps)
    if term == "objective":
        dx, deps = vae.backward_inputs(trace, beta)
        return {**vae.backward(trace, beta), "x": dx, "eps": deps}
    shape = trace.logits.shape[:-1]
    dnll = np.full(shape, (term == "reconstruction") / math.prod(shape))
    dkl = np.full(shape[-1], (term == "kl") / shape[-1])
    dx, deps = vae.loss_backward_inputs(trace, dnll, dkl)
    return {**vae.loss_backward(trace, dnll, dkl), "x": dx, "eps": deps}


def randomise(vae: VAE, x: Array, eps: Array, beta: float, rng: np.random.Generator) -> None:
    """Draw the log-variance head and the biases."""
    for name, block in vae.params.items():
        if name == "logvar.W":
            block[:] = rng.normal(0, 1 / math.sqrt(len(block)), block.shape)
        elif name.endswith(".b"):
            block[:] = rng.normal(0, 0.1, block.shape)


def train(vae: VAE, x: Array, eps: Array, beta: float, rng: np.random.Generator) -> None:
    """Take some steps of Adam on the images x, with new noise in each."""
    adam = Adam(vae.params)
    for _ in range(STEPS):
        adam.step(vae.backward(vae.forward(x, rng.standard_normal(eps.shape)), beta))


def saturate(vae: VAE, x: Array, eps: Array, beta: float, rng: np.random.Generator) -> None:
    """Stretch the log-variances over [-80, 80] and the logits over [-10⁴, 10⁴].

    Where z is read, the weights shrink as sigma grows, so that the logits stay where they are put.
    """
    params = vae.params
    stretch(params["logvar.b"], vae.encode(x)[1], 80.0)
    sigma = np.exp(np.maximum(vae.encode(x)[1], 0).max(axis=0) / 2)  # (Z,)
    reads_z = params["decoder.0.W" if vae.hidden else "output.W"]  # (Z, H) or (Z, D)
    reads_z /= sigma[:, np.newaxis]
    stretch(params["output.b"], vae.forward(x, eps).logits, 1e4)


def stretch(bias: Array, values: Array, most: float) -> None:
    """Set the bias of a layer with these values so that they run from `most` down to -`most`."""
    spread = float(np.abs(values - bias).max())
    bias[:] = np.linspace(most - spread, spread - most, len(bias))
