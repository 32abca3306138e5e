"""Backpropagation through a VAE, line by line: the gradient of the ELBO, by hand.

Letters of this module: B images, D pixels, H hidden, Z latent; n is an image. One hidden relu layer
in the encoder, one in the decoder, Bernoulli pixels with mean m, and the loss
L = 1/B Σ_n (nll_n + kl_n). dy is ∂L/∂y, an array of the shape of y. What is read twice gets the sum
of two gradients.

`FORWARD` and `BACKWARD` are the lines of the two passes. `EXAMPLE`, which fits on a sheet of paper,
is computed by hand, in loops over Python floats, and by the package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import posterior
from ..bounds import elbo_loss_backward
from ..gradcheck.check import gradcheck
from ..gradcheck.model import function_of
from ..gradcheck.report import Report
from ..network import Trace
from ..params import Array
from ..vae import VAE
from .report import Claim, Column, Setting, Study, Table

Numbers = Any  # of Python: a float, or lists of them, or lists of those

EXAMPLE: dict[str, Numbers] = {
    "x": [[1.0, 0.0], [1.0, 1.0]], "eps": [[1.0], [-0.5]],
    "encoder.0.W": [[0.5, -1.0], [-0.5, 1.5]], "encoder.0.b": [0.5, 0.5],
    "mu.W": [[1.0], [-1.0]], "mu.b": [-0.5],
    "logvar.W": [[-2.0], [1.0]], "logvar.b": [1.0],
    "decoder.0.W": [[1.0, -0.5]], "decoder.0.b": [0.5, 1.0],
    "output.W": [[1.0, -1.0], [-0.5, 1.0]], "output.b": [-0.5, 1.0],
}  # fmt: skip
SHAPES = {
    "x": "(B, D)", "eps": "(B, Z)", "encoder.0.W": "(D, H)", "encoder.0.b": "(H,)",
    "mu.W": "(H, Z)", "mu.b": "(Z,)", "logvar.W": "(H, Z)", "logvar.b": "(Z,)",
    "decoder.0.W": "(Z, H)", "decoder.0.b": "(H,)", "output.W": "(H, D)", "output.b": "(D,)",
}  # fmt: skip
Line = tuple[str, str, str]  # name, shape, formula
FORWARD: tuple[Line, ...] = (
    ("a", "(B, H)", "x W + b with encoder.0"),
    ("h", "(B, H)", "max(a, 0)"),
    ("mu", "(B, Z)", "h W + b with mu"),
    ("logvar", "(B, Z)", "h W + b with logvar"),
    ("sigma", "(B, Z)", "exp(logvar / 2)"),
    ("z", "(B, Z)", "mu + sigma eps"),
    ("a_dec", "(B, H)", "z W + b with decoder.0"),
    ("h_dec", "(B, H)", "max(a_dec, 0)"),
    ("logits", "(B, D)", "h_dec W + b with output"),
    ("m", "(B, D)", "1 / (1 + exp(-logits))"),
    ("nll", "(B,)", "Σ_d log(1 + exp(logits)) - x logits"),
    ("kl", "(B,)", "Σ_j (mu² + sigma² - 1 - logvar) / 2"),
    ("loss", "()", "1/B Σ_n (nll + kl)"),
)
BACKWARD: tuple[Line, ...] = (  # a gradient of parameters has the name of their block
    ("dnll", "(B,)", "1 / B"),
    ("dkl", "(B,)", "1 / B"),
    ("dlogits", "(B, D)", "dnll (m - x)"),
    ("output.W", "(H, D)", "h_decᵀ dlogits"),
    ("output.b", "(D,)", "Σ_n dlogits"),
    ("dh_dec", "(B, H)", "dlogits Wᵀ with output"),
    ("da_dec", "(B, H)", "dh_dec [h_dec > 0]"),
    ("decoder.0.W", "(Z, H)", "zᵀ da_dec"),
    ("decoder.0.b", "(H,)", "Σ_n da_dec"),
    ("dz", "(B, Z)", "da_dec Wᵀ with decoder.0"),
    ("dmu_sample", "(B, Z)", "dz"),
    ("dlogvar_sample", "(B, Z)", "dz eps sigma / 2"),
    ("dmu_kl", "(B, Z)", "dkl mu"),
    ("dlogvar_kl", "(B, Z)", "dkl (sigma² - 1) / 2"),
    ("dmu", "(B, Z)", "dmu_sample + dmu_kl"),
    ("dlogvar", "(B, Z)", "dlogvar_sample + dlogvar_kl"),
    ("mu.W", "(H, Z)", "hᵀ dmu"),
    ("mu.b", "(Z,)", "Σ_n dmu"),
    ("dh_mu", "(B, H)", "dmu Wᵀ with mu"),
    ("logvar.W", "(H, Z)", "hᵀ dlogvar"),
    ("logvar.b", "(Z,)", "Σ_n dlogvar"),
    ("dh_logvar", "(B, H)", "dlogvar Wᵀ with logvar"),
    ("dh", "(B, H)", "dh_mu + dh_logvar"),
    ("da", "(B, H)", "dh [h > 0]"),
    ("encoder.0.W", "(D, H)", "xᵀ da"),
    ("encoder.0.b", "(H,)", "Σ_n da"),
)
NOTHING = "nothing"  # left out
SUMMANDS = "dmu_sample", "dmu_kl", "dlogvar_sample", "dlogvar_kl", "dh_mu", "dh_logvar"


def forward_by_hand(given: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """Compute each line of `FORWARD` index by index; `given` has the names of `EXAMPLE`."""
    x, eps = given["x"], given["eps"]
    B, D, H, Z = (range(len(rows)) for rows in (x, x[0], given["mu.W"], eps[0]))
    W, c = given["encoder.0.W"], given["encoder.0.b"]
    a = [[sum(x[b][i] * W[i][j] for i in D) + c[j] for j in H] for b in B]
    h = [[max(a[b][j], 0.0) for j in H] for b in B]
    W, c = given["mu.W"], given["mu.b"]
    mu = [[sum(h[b][i] * W[i][j] for i in H) + c[j] for j in Z] for b in B]
    W, c = given["logvar.W"], given["logvar.b"]
    logvar = [[sum(h[b][i] * W[i][j] for i in H) + c[j] for j in Z] for b in B]
    sigma = [[math.exp(logvar[b][j] / 2) for j in Z] for b in B]
    z = [[mu[b][j] + sigma[b][j] * eps[b][j] for j in Z] for b in B]
    W, c = given["decoder.0.W"], given["decoder.0.b"]
    a_dec = [[sum(z[b][i] * W[i][j] for i in Z) + c[j] for j in H] for b in B]
    h_dec = [[max(a_dec[b][j], 0.0) for j in H] for b in B]
    W, c = given["output.W"], given["output.b"]
    l = [[sum(h_dec[b][i] * W[i][j] for i in H) + c[j] for j in D] for b in B]
    m = [[1 / (1 + math.exp(-l[b][j])) for j in D] for b in B]
    nll = [sum(math.log(1 + math.exp(l[b][j])) - x[b][j] * l[b][j] for j in D) for b in B]
    kl = [sum(mu[b][j] ** 2 + sigma[b][j] ** 2 - 1 - logvar[b][j] for j in Z) / 2 for b in B]
    loss = sum(nll[b] + kl[b] for b in B) / len(B)
    values = a, h, mu, logvar, sigma, z, a_dec, h_dec, l, m, nll, kl, loss
    return dict(zip(names(FORWARD), values, strict=True))


def backward_by_hand(
    given: Mapping[str, Numbers], forward: Mapping[str, Numbers]
) -> dict[str, Numbers]:
    """Compute each line of `BACKWARD` index by index; `forward` is of `forward_by_hand`."""
    x, eps = given["x"], given["eps"]
    B, D, H, Z = (range(len(rows)) for rows in (x, x[0], given["mu.W"], eps[0]))
    _, h, mu, _, sigma, z, _, h_dec, _, m, *_ = forward.values()
    dnll = [1 / len(B) for b in B]
    dkl = [1 / len(B) for b in B]
    dl = [[dnll[b] * (m[b][j] - x[b][j]) for j in D] for b in B]
    W = given["output.W"]
    dW_output = [[sum(h_dec[b][i] * dl[b][j] for b in B) for j in D] for i in H]
    dc_output = [sum(dl[b][j] for b in B) for j in D]
    dh_dec = [[sum(dl[b][j] * W[i][j] for j in D) for i in H] for b in B]
    da_dec = [[dh_dec[b][j] if h_dec[b][j] > 0 else 0.0 for j in H] for b in B]
    W = given["decoder.0.W"]
    dW_decoder = [[sum(z[b][i] * da_dec[b][j] for b in B) for j in H] for i in Z]
    dc_decoder = [sum(da_dec[b][j] for b in B) for j in H]
    dz = [[sum(da_dec[b][j] * W[i][j] for j in H) for i in Z] for b in B]
    dmu_sample = [[dz[b][j] for j in Z] for b in B]
    dlogvar_sample = [[dz[b][j] * eps[b][j] * sigma[b][j] / 2 for j in Z] for b in B]
    dmu_kl = [[dkl[b] * mu[b][j] for j in Z] for b in B]
    dlogvar_kl = [[dkl[b] * (sigma[b][j] ** 2 - 1) / 2 for j in Z] for b in B]
    dmu = [[dmu_sample[b][j] + dmu_kl[b][j] for j in Z] for b in B]
    dlogvar = [[dlogvar_sample[b][j] + dlogvar_kl[b][j] for j in Z] for b in B]
    W = given["mu.W"]
    dW_mu = [[sum(h[b][i] * dmu[b][j] for b in B) for j in Z] for i in H]
    dc_mu = [sum(dmu[b][j] for b in B) for j in Z]
    dh_mu = [[sum(dmu[b][j] * W[i][j] for j in Z) for i in H] for b in B]
    W = given["logvar.W"]
    dW_logvar = [[sum(h[b][i] * dlogvar[b][j] for b in B) for j in Z] for i in H]
    dc_logvar = [sum(dlogvar[b][j] for b in B) for j in Z]
    dh_logvar = [[sum(dlogvar[b][j] * W[i][j] for j in Z) for i in H] for b in B]
    dh = [[dh_mu[b][i] + dh_logvar[b][i] for i in H] for b in B]
    da = [[dh[b][j] if h[b][j] > 0 else 0.0 for j in H] for b in B]
    dW_encoder = [[sum(x[b][i] * da[b][j] for b in B) for j in H] for i in D]
    dc_encoder = [sum(da[b][j] for b in B) for j in H]
    values = (
        *(dnll, dkl, dl, dW_output, dc_output, dh_dec, da_dec, dW_decoder, dc_decoder, dz),
        *(dmu_sample, dlogvar_sample, dmu_kl, dlogvar_kl, dmu, dlogvar, dW_mu, dc_mu, dh_mu),
        *(dW_logvar, dc_logvar, dh_logvar, dh, da, dW_encoder, dc_encoder),
    )
    return dict(zip(names(BACKWARD), values, strict=True))


def names(lines: tuple[Line, ...]) -> list[str]:
    """The names of `FORWARD` or `BACKWARD`, in their order."""
    return [name for name, _, _ in lines]


def model(given: Mapping[str, Numbers]) -> VAE:
    """Return the `VAE` of the example."""
    sizes = len(given["x"][0]), (len(given["mu.W"]),), len(given["eps"][0])
    vae = VAE(*sizes, dtype=np.float64, rng=0)
    for name, block in vae.params.items():
        block[:] = given[name]
    return vae


def forward_of_the_package(vae: VAE, trace: Trace) -> dict[str, Array]:
    """Compute `FORWARD` with the package: the trace, and what that leaves out."""
    t, net = trace, vae.network
    a, a_dec = net.encoder.layers[0].forward(t.x), net.decoder.layers[0].forward(t.z)
    m, (nll, kl) = vae.likelihood.mean(t.logits), vae.loss(t)
    loss = np.asarray(vae.objective(t))
    values = (a, t.h, t.mu, t.logvar, t.sigma, t.z, a_dec, t.decoder[-1], t.logits, m, nll, kl)
    return dict(zip(names(FORWARD), (*values, loss), strict=True))


def backward_of_the_package(vae: VAE, trace: Trace, without: str = "") -> dict[str, Array]:
    """Compute `BACKWARD` as `Network.backward` does; one of `SUMMANDS` may be left out."""

    def kept(name: str, value: Array) -> Array:
        found[name] = value * (name != without)
        return found[name]

    t, net, grads = trace, vae.network, vae.params.zeros_like()
    grad, activation = net.over(grads), net.encoder.activation
    found: dict[str, Array] = dict(grads)  # views, filled as the pass goes on
    dnll, dkl, _ = elbo_loss_backward(vae.terms(t), 1.0)
    dlogits = net.likelihood.nll_backward(t.x, t.logits, dnll)
    dh_dec = net.output.backward(t.decoder[-1], dlogits, grad.output)
    da_dec = activation.backward(t.decoder[-1], dh_dec)
    dz = net.decoder.layers[0].backward(t.z, da_dec, grad.decoder.layers[0])
    dmu_sample, dlogvar_sample, _ = posterior.sample_backward(t.eps, t.sigma, dz)
    dmu_kl, dlogvar_kl = posterior.kl_backward(t.mu, t.sigma, dkl)
    dmu = kept("dmu_sample", dmu_sample) + kept("dmu_kl", dmu_kl)
    dlogvar = kept("dlogvar_sample", dlogvar_sample) + kept("dlogvar_kl", dlogvar_kl)
    dh_mu = net.mu_head.backward(t.h, dmu, grad.mu_head)
    dh_logvar = net.logvar_head.backward(t.h, dlogvar, grad.logvar_head)
    dh = kept("dh_mu", dh_mu) + kept("dh_logvar", dh_logvar)
    da = activation.backward(t.h, dh)
    net.encoder.layers[0].backward_params(t.x, da, grad.encoder.layers[0])
    found |= {"dnll": dnll, "dkl": dkl, "dlogits": dlogits, "dh_dec": dh_dec, "da_dec": da_dec}
    found |= {"dz": dz, "dmu": dmu, "dlogvar": dlogvar, "dh": dh, "da": da}
    return {name: found[name] for name in names(BACKWARD)}


class Found(NamedTuple):
    """The numbers of the page."""

    by_hand: dict[str, Array]  # the forward pass in float lists
    gradients_by_hand: dict[str, Array]  # and the backward pass
    package: dict[str, Array]
    gradients: dict[str, Array]
    whole: dict[str, Array]  # of `VAE.backward`, by block
    central: Report
    complex_step: Report
    refused: dict[str, list[str]]  # the blocks that fail the check, by the summand left out

    def distances(self) -> dict[str, float]:
        """The largest differences from the numbers by hand."""
        return {
            "forward, each line": largest(self.by_hand, self.package),
            "backward, each line": largest(self.gradients_by_hand, self.gradients),
            "what VAE.backward returns": largest(self.whole, self.gradients_by_hand),
        }


def largest(one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """The largest difference between two numbers, over all arrays of the first."""
    if any(array.shape != np.shape(other[name]) for name, array in one.items()):
        return math.inf
    # NumPy's max, unlike Python's, is NaN where one of them is.
    return float(np.max([np.abs(array - other[name]).max() for name, array in one.items()]))


def run(setting: Setting) -> Found:
    """Compute the example by hand and by the package, and check its gradient."""
    by_hand = forward_by_hand(EXAMPLE)
    gradients_by_hand = backward_by_hand(EXAMPLE, by_hand)
    vae = model(EXAMPLE)
    x, eps = np.array(EXAMPLE["x"]), np.array(EXAMPLE["eps"])
    trace = vae.forward(x, eps)
    f, arrays = function_of(vae, "objective", 1.0), {**vae.params, "x": x, "eps": eps}

    def check(gradients: Mapping[str, Array], method: str) -> Report:
        return gradcheck(f, {name: gradients[name] for name in vae.params}, arrays, method=method)

    whole = dict(vae.backward(trace))
    refused = {}
    for name in (NOTHING, *SUMMANDS):
        report = check(backward_of_the_package(vae, trace, without=name), "complex")
        refused[name] = [row.name for row in report if not row.ok]
    return Found(
        {name: np.array(value) for name, value in by_hand.items()},
        {name: np.array(value) for name, value in gradients_by_hand.items()},
        forward_of_the_package(vae, trace), backward_of_the_package(vae, trace), whole,
        central=check(whole, "central"), complex_step=check(whole, "complex"), refused=refused,
    )  # fmt: skip


def shown(shape: str, array: Array) -> tuple[str, str]:
    """Return the two rows of an array to four digits; a shape (B, ...) has a row per image."""
    by_row = shape.startswith("(B") or array.ndim == 2
    rows = array.reshape(len(array) if by_row else 1, -1)
    texts = [", ".join(f"{round(float(v), 4) + 0.0:.4f}" for v in row) for row in rows]  # no -0
    first, second = [*texts, "–"][:2]
    return first, second


def numbers(lines: tuple[Line, ...], values: Mapping[str, Array]) -> list[tuple[str, ...]]:
    """The lines of a pass with their numbers."""
    return [
        (f"d {name}" if name in SHAPES else name, shape, formula, *shown(shape, values[name]))
        for name, shape, formula in lines
    ]


LINE = tuple(map(Column, ("name", "shape", "formula", "row 1", "row 2")))
TABLES = (
    Table("Given: two images of two pixels, the noise, and 22 parameters",
          tuple(map(Column, ("name", "shape", "row 1", "row 2"))),
          lambda _: [(name, shape, *shown(shape, np.array(EXAMPLE[name])))
                     for name, shape in SHAPES.items()], images=False),
    Table("Forward; where the shape begins with B, row n belongs to image n",
          LINE, lambda found: numbers(FORWARD, found.by_hand), images=False),
    Table("Backward, from the loss to the image",
          LINE, lambda found: numbers(BACKWARD, found.gradients_by_hand), images=False),
    Table("By hand in Python floats and by the package: the largest difference between two numbers",
          (Column("of"), Column("difference", ".0e", within=1e-14)),
          lambda found: list(found.distances().items()), images=False),
    Table("The gradient checked: the largest error, relative to the largest entry of the block",
          (Column("block"), Column("derivatives", "d"),
           Column("central differences", ".0e", within=1e-8),
           Column("complex step", ".0e", within=1e-13), Column("verdict")),
          lambda found: [(one.name, one.entries, one.error, other.error, one.verdict)
                         for one, other in zip(found.central, found.complex_step, strict=True)],
          images=False),
    Table("One summand of a fork left out",
          (Column("left out"), Column("gradients that then fail the check")),
          lambda found: [(name, ", ".join(blocks) or "none")
                         for name, blocks in found.refused.items()], images=False),
)  # fmt: skip

CLAIMS = (
    Claim("Every number of the forward pass, the backward pass and the gradient is the same by "
          "hand, index by index in Python floats, and by the package, to within 1e-14.",
          lambda found: bool((np.array(list(found.distances().values())) < 1e-14).all())),
    Claim("Central differences and the complex step confirm all 22 derivatives. The complex step "
          "agrees to 1e-13 of the largest entry in the block.",
          lambda found: (found.central.ok and found.complex_step.ok
                         and sum(row.entries for row in found.complex_step) == 22
                         and all(row.error < 1e-13 for row in found.complex_step))),
    Claim("The example is not a special case. In the encoder and in the decoder the relu stops one "
          "number and passes three, all more than 0.4 from the kink, and every derivative is above "
          "0.01 in absolute value.",
          lambda found: (all((found.by_hand[a] < 0).sum() == 1
                             and np.abs(found.by_hand[a]).min() > 0.4
                             for a in ("a", "a_dec"))
                         and min(np.abs(block).min() for block in found.whole.values()) > 0.01)),
    Claim("At each fork both summands count. With any one of the six left out the gradient fails "
          "the check, and with nothing left out it passes.",
          lambda found: (set(found.refused) == {NOTHING, *SUMMANDS}
                         and not found.refused[NOTHING]
                         and all(found.refused[name] for name in SUMMANDS))),
)  # fmt: skip


CONCLUSION = (
    "The forward pass is twelve lines: go through them from the last to the first and write the "
    "derivative of each."
)
STUDY = Study(
    "backward", "Backpropagation through a VAE, line by line", CONCLUSION, run, TABLES, CLAIMS
)
