"""One layer or two for mu and log variance? The same map, gradient and step; where they differ.

Letters of this module: B images, H hidden, Z latent.

`OneHead` has the matrices of the two heads side by side, and their biases end to end:

    W = [W_mu | W_logvar]   (H, 2Z)              y = h W + b = [mu | logvar]
    b = [b_mu | b_logvar]   (2Z,)                dh = dy Wᵀ = dmu W_muᵀ + dlogvar W_logvarᵀ

It is trained beside the model with two heads: from the same weights, on the same images, with the
same noise. dh is summed in another order, so they differ by rounding, until a unit of a relu flips:
its pre-activation is so near to zero that the unit is on in one model and off in the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from ..data.binarize import to_float
from ..data.dataset import Dataset
from ..layers import Activation, Dense
from ..likelihood import Likelihood
from ..network import Network, Trace
from ..optim import Adam
from ..params import Array, Params
from ..training.evaluate import Elbo, evaluate_elbo
from ..vae import VAE
from .pictures import draw_rows, shape_of
from .report import Claim, Column, Setting, Study, Table, columns
from .training import draw_batch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BATCH = 100
LR = 2e-3
MAX_NORM = 1.0  # to which the gradient of each array is clipped
EARLY = 10  # steps
RECORDED = 40  # steps after which the two are compared
HEADS = "mu", "logvar"


class OneHead(Network):
    """One `Dense` (H, 2Z), the block ``heads``; the blocks of the two heads are never read."""

    def __init__(self, params: Params, activation: Activation, likelihood: Likelihood) -> None:
        super().__init__(params, activation, likelihood)
        self.head = Dense.over(params, "heads")

    def heads(self, h: Array) -> tuple[Array, Array]:
        """Split [mu | logvar] = h W + b in halves."""
        y = self.head.forward(h)  # (B, 2Z)
        mu, logvar = np.split(y, 2, axis=-1)
        return mu, logvar

    def heads_backward(self, h: Array, dmu: Array, dlogvar: Array, grad: Self) -> Array:
        """dh = [dmu | dlogvar] Wᵀ: the product adds the two gradients of h."""
        for unread in grad.mu_head, grad.logvar_head:
            unread.W[:], unread.b[:] = 0, 0
        dy = np.hstack([dmu, dlogvar])  # (B, 2Z)
        return self.head.backward(h, dy, grad.head)


def one_head(two: VAE) -> VAE:
    """Return a model with one head and the weights of `two`."""
    blocks = dict(two.params)
    for kind in "Wb":
        blocks[f"heads.{kind}"] = np.hstack([blocks[f"{head}.{kind}"] for head in HEADS])
    params = Params({name: block.shape for name, block in blocks.items()}, two.params.dtype)
    for name, block in blocks.items():
        params[name][:] = 0 if name.startswith(HEADS) else block
    return VAE(**two.settings | {"network_type": OneHead}, params=params)


def as_two(params: Params) -> dict[str, Array]:
    """The blocks under the names of the model with two heads; one head is split in halves."""
    blocks = dict(params)
    if "heads.W" in blocks:
        for kind in "Wb":
            halves = np.split(blocks.pop(f"heads.{kind}"), 2, axis=-1)
            blocks[f"mu.{kind}"], blocks[f"logvar.{kind}"] = halves
    return blocks


def distance(one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """The relative distance |a - b| / |a| of two arrays, the largest over all blocks."""
    apart = []
    for name, block in one.items():
        length, between = (float(np.linalg.norm(a)) for a in (block, block - other[name]))
        apart.append(between / length if length else np.inf if between else 0.0)
    return float(np.max(apart))  # NaN, if there is one


def clip(grads: Params, limit: float) -> None:
    """Shrink each block whose norm is above `limit` to that norm."""
    for block in grads.values():
        block *= min(1.0, limit / float(np.linalg.norm(block)) if block.any() else 1.0)


class Walk(NamedTuple):
    """A model trained beside one with two heads, and the distance of their weights."""

    what: str
    steps: Array  # (S,) steps after which they were compared
    apart: Array  # (S,) relative distance of their weights
    flip: int  # the first step with a relu unit on in one and off in the other; 0 for none
    elbos: tuple[float, float]  # of this model and of the two heads, test, nats per image

    @property
    def before(self) -> Array:
        """The distances before the first flip."""
        return self.apart[self.steps < self.flip] if self.flip else self.apart

    def after(self, steps: int) -> float:
        """The distance after so many steps."""
        return float(self.apart[self.steps == steps][0])


class Same(NamedTuple):
    """Relative distances of results from the same weights, in units of rounding of the dtype."""

    dtype: str
    outputs: float
    gradient: float
    stepped: float  # the weights after one Adam step


class Found(NamedTuple):
    """The numbers of the page."""

    same: list[Same]
    walks: list[Walk]  # float64, float32, the same rounded, tanh
    clipped: Walk
    head: Array  # (H, 2Z) the one head, trained in float64
    readings: dict[str, Elbo]  # on test images, by how the outputs of that head are read
    pictures: dict[str, Array]  # (n, D) images, and their reconstructions by the same
    image_shape: tuple[int, ...]


def take_step(vae: VAE, adam: Adam, trace: Trace, limit: float | None) -> None:
    """Take a step of Adam; with a limit, clip the gradient array by array."""
    grads = vae.backward(trace)
    if limit is not None:
        clip(grads, limit)
    adam.step(grads)


def walk(
    two: VAE, others: Mapping[str, VAE], data: Dataset, steps: int, seed: int,
    limit: float | None = None,
) -> list[Walk]:  # fmt: skip
    """Train all on the same draws, and compare each with `two`, which has two heads."""
    models = [two, *others.values()]
    adams = [Adam(vae.params, LR) for vae in models]
    rng = np.random.default_rng(seed)
    at = np.unique([EARLY, *np.geomspace(1, steps, RECORDED).round()]).astype(int)
    apart_by: list[list[float]] = [[] for _ in others]
    flips = [0] * len(others)
    for t in range(1, steps + 1):
        inputs = draw_batch(two, data, BATCH, rng)
        traces = [vae.forward(*inputs) for vae in models]
        off = [np.hstack([trace.h, trace.decoder[-1]]) == 0 for trace in traces]  # (B, 2H)
        for i, mask in enumerate(off[1:]):
            flipped = two.activation == "relu" and bool((mask != off[0]).any())
            flips[i] = flips[i] or t * flipped
        for vae, adam, trace in zip(models, adams, traces, strict=True):
            take_step(vae, adam, trace, limit)
        if t in at:
            here = as_two(two.params)
            for distances, vae in zip(apart_by, models[1:], strict=True):
                distances.append(distance(here, as_two(vae.params)))
    elbo, *elbos = (evaluate_elbo(vae, data.test, draw=True, rng=seed).elbo for vae in models)
    return [
        Walk(what, at, np.array(distances), flip, (other, elbo))
        for what, distances, flip, other in zip(others, apart_by, flips, elbos, strict=True)
    ]


def from_the_same_weights(two: VAE, data: Dataset, seed: int) -> Same:
    """Compare outputs, gradient and first Adam step of the model and of its copy with one head."""
    inputs = draw_batch(two, data, BATCH, np.random.default_rng(seed))
    outputs, gradients, stepped = [], [], []
    for vae in two.astype(two.params.dtype), one_head(two):
        trace = vae.forward(*inputs)
        outputs.append({"mu": trace.mu, "logvar": trace.logvar})
        gradients.append(as_two(vae.backward(trace)))
        take_step(vae, Adam(vae.params, LR), trace, None)
        stepped.append(as_two(vae.params))
    unit = float(np.finfo(two.params.dtype).eps)
    apart = (distance(*pair) / unit for pair in (outputs, gradients, stepped))
    return Same(two.params.dtype.name, *apart)


def readings(latent: int) -> dict[str, Array]:
    """Which of the 2Z outputs are mu and which are logvar, (2, Z), in three readings."""
    halves = np.arange(2 * latent).reshape(2, latent)
    return {
        "μ first": halves,  # as it was trained
        "log σ² first": halves[::-1],
        "interleaved": np.arange(2 * latent).reshape(latent, 2).T,
    }


def read(one: VAE, columns: Array) -> VAE:
    """Return a model whose two heads are these columns, (2, Z), of the one head."""
    two = VAE(**one.settings | {"network_type": Network}, dtype=one.params.dtype)
    for name, block in two.params.items():
        block[:] = one.params[name]
    for name, which in zip(HEADS, columns, strict=True):
        two.params[f"{name}.W"][:] = one.params["heads.W"][:, which]
        two.params[f"{name}.b"][:] = one.params["heads.b"][which]
    return two


def rounded(vae: VAE, rng: np.random.Generator) -> VAE:
    """Return a copy with each weight moved by one unit of rounding, up or down."""
    other = vae.astype(vae.params.dtype)
    flat = other.params.flat
    flat *= 1 + np.finfo(flat.dtype).eps * rng.choice([-1, 1], flat.size).astype(flat.dtype)
    return other


def run(setting: Setting) -> Found:
    """Train one head beside two: in float64, in float32, with tanh, with clipping."""
    hidden, latent, steps = (100, 8, 150) if setting.quick else (400, 20, 400)
    data, seed = setting.images(60_000, 2000), setting.seed

    def two_heads(dtype: str, activation: str = "relu") -> VAE:
        pixels = data.train.shape[1]
        return VAE(pixels, (hidden,), latent, activation, dtype=dtype, rng=seed)

    two, single = two_heads("float64"), two_heads("float32")
    smooth, held = two_heads("float32", "tanh"), two_heads("float32")
    one = one_head(two)
    setting.say("training one head beside two, in float64")
    walks = walk(two, {"one, float64": one}, data, steps, seed)
    setting.say("the same in float32, and two heads whose initial weights are rounded")
    beside = {
        "one, float32": one_head(single),
        "two, float32, rounded": rounded(single, np.random.default_rng(seed)),
    }
    walks += walk(single, beside, data, steps, seed)
    setting.say("the same with tanh")
    walks += walk(smooth, {"one, float32, tanh": one_head(smooth)}, data, steps, seed)
    setting.say("the same with clipped gradients")
    (clipped,) = walk(held, {"one, float32, clipped": one_head(held)}, data, steps, seed, MAX_NORM)
    x = to_float(data.test[:6], np.float64)
    elbos, pictures = {}, {"image": x}
    for name, which in readings(latent).items():
        reader = read(one, which)
        elbos[name] = evaluate_elbo(reader, data.test, draw=True, rng=seed)
        pictures[name] = reader.reconstruct(x)
    same = [from_the_same_weights(vae, data, seed) for vae in (two, single)]
    return Found(same, walks, clipped, one.params["heads.W"], elbos, pictures, shape_of(data))


ELBOS = columns("its ELBO", "ELBO of the two heads", form=".2f", within=0.6)
TABLES = (
    Table("From the same weights: relative distance between one head and two, the largest over the "
          "arrays, in units of rounding of the dtype",
          (Column("dtype"), *columns("μ, log σ²", "gradient", form=".1f", within=50),
           Column("weights after one Adam step", ".1f", within=200)),
          lambda found: found.same),
    Table("Trained beside two heads: relative distance of the weights, and ELBO of the test images "
          "in nats per image",
          (Column("heads"), Column("after 1 step", ".0e", within=1e-14, factor=100),
           Column(f"after {EARLY} steps", ".0e", within=1e-14, factor=100),
           Column("largest before a unit flips", ".0e", within=1e-14, factor=100), *ELBOS),
          lambda found: [(w.what, w.after(1), w.after(EARLY), w.before.max(initial=0), *w.elbos)
                         for w in found.walks]),
    Table(f"The same with the gradient of each array clipped to norm {MAX_NORM:g}",
          (Column("heads"), Column(f"after {EARLY} steps", ".2f", within=0.15),
           Column("at the end", ".2f", within=0.3),
           *(column._replace(form=".1f", within=1) for column in ELBOS)),
          lambda found: [(w.what, w.after(EARLY), w.apart[-1], *w.elbos)
                         for w in [found.clipped]]),
    Table("The one head trained in float64, its outputs read in three ways: test images, nats per "
          "image",
          (Column("outputs read as"),
           *columns("ELBO", "reconstruction", "KL", form=".1f", within=0.5)),
          lambda found: [(name, *elbo) for name, elbo in found.readings.items()]),
)  # fmt: skip

CLAIMS = (
    Claim("From the same weights, one head and two heads give the same μ, log σ², gradient and "
          "first Adam step, to within 1000 units of rounding, in float64 and in float32.",
          lambda found: max(max(same[1:]) for same in found.same) < 1000),
    Claim("Trained side by side in float64, their weights stay within 1e-12 of each other.",
          lambda found: found.walks[0].apart.max() < 1e-12),
    Claim("In float32 the weights stay within 1e-3 of each other until a relu unit flips, and with "
          "tanh to the end. Flip or no flip, the test ELBOs end within 0.5 nats of each other.",
          lambda found: all(walk.before.size > 0
                            and walk.before.max() < 1e-3
                            and abs(walk.elbos[0] - walk.elbos[1]) < 0.5
                            for walk in found.walks)),
    Claim("If the gradient of each array is clipped to norm 1, the two trainings differ: after 10 "
          "steps the weights are more than 2 % apart.",
          lambda found: found.clipped.after(EARLY) > 0.02),
    Claim("Reading the trained head with log σ² first, or interleaved, costs more than 50 nats per "
          "image.",
          lambda found: all(found.readings["μ first"].elbo - found.readings[wrong].elbo > 50
                            for wrong in ("log σ² first", "interleaved"))),
)  # fmt: skip


def draw(figure: Figure, found: Found) -> None:
    """The distances step by step; the one head; and reconstructions by each reading."""
    grid = figure.add_gridspec(2, 2, width_ratios=(1.2, 1), height_ratios=(1, 1.3))
    draw_walks(figure.add_subplot(grid[:, 0]), found)
    draw_head(figure.add_subplot(grid[0, 1]), found.head)
    draw_rows(figure.add_subplot(grid[1, 1]), found.pictures, found.image_shape)


def draw_walks(ax: Axes, found: Found) -> None:
    """Relative distance against the step; a circle before the first unit flips."""
    walks = [found.clipped, *found.walks[1:], found.walks[0]]  # from the top
    for look, walk in zip(("C7:", "C0-", "C2--", "C3-.", "C6-"), walks, strict=True):
        seen = walk.apart > 0
        ax.loglog(walk.steps[seen], walk.apart[seen], look, label=walk.what)
        if walk.flip and walk is not found.clipped:
            last = max(0, len(walk.before) - 1)
            ax.plot(walk.steps[last], walk.apart[last], "o", mfc="w", color=look[:2])
            if walk is found.walks[1]:
                ax.text(1.1 * walk.steps[last], walk.apart[last] / 30, "a unit flips", fontsize=8)
    ax.set(xlabel="step of Adam", ylabel="relative distance of the weights", ylim=(1e-17, 30))
    ax.legend(loc="center left", bbox_to_anchor=(0, 0.33), fontsize=8)


def draw_head(ax: Axes, head: Array) -> None:
    """The largest rows of the one head; marks at the columns that are mu when interleaved."""
    rows, Z = head[np.argsort(-np.linalg.norm(head, axis=1))[:20]], head.shape[1] // 2
    most = float(np.abs(rows).max())
    colours = ax.imshow(rows, cmap="PuOr", vmin=-most, vmax=most, aspect="auto")
    ax.figure.colorbar(colours, ax=ax, label="weight", pad=0.02)
    ax.axvline(Z - 0.5, color="k")
    ax.plot(np.arange(0, 2 * Z, 2), np.full(Z, len(rows) + 0.7), "k^", ms=3, clip_on=False)
    ax.set(xticks=(), yticks=(), ylim=(len(rows) - 0.5, -0.5), ylabel="rows of W")
    ax.set_xlabel("▲ read as μ when interleaved", labelpad=9)
    ax.spines[:].set_visible(False)
    for x, name in (0.25, "$W_{\\mu}$"), (0.75, "$W_{\\sigma}$"):
        ax.text(x, 1.03, name, ha="center", va="bottom", transform=ax.transAxes)


CONCLUSION = (
    "One layer that is split in two is the same map as two layers, with the same gradient and the "
    "same Adam step, up to rounding."
)
QUESTION = "One layer or two for mu and log variance?"
STUDY = Study("concatenated", QUESTION, CONCLUSION, run, TABLES, CLAIMS, draw, 3.4)
