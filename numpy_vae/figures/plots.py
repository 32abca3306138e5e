"""Figures of a training run and of what the model has learnt.

Every ``plot_`` function draws on the Axes `ax` and returns it; without one it makes a new pyplot
figure. `figures` puts them together and writes them to files.

Letters of this module: N images, D = height * width pixels of each, one flattened image a row; Z
latent dimensions, which are counted from 0 in the arguments and from 1 in what is drawn. Arguments
that several functions take, and do not explain again:

    image_shape    (height, width) of an image, in pixels
    value_range    the values of black and white; values outside are shown as the nearer of the two
    decode         a function from z, shape (n, Z), to images, shape (n, D)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ..checks import check_choice
from ..training.evaluate import ACTIVE, active_dimensions
from ..training.loop import Record

# Told apart with each kind of colour vision: the "muted" scheme of P. Tol, "Colour Schemes",
# SRON/EPS/TN/09-002, 2021, and black.
COLOURS = (
    "#332288", "#88ccee", "#44aa99", "#117733", "#999933",
    "#ddcc77", "#cc6677", "#882255", "#aa4499", "#000000",
)  # fmt: skip

INACTIVE: dict[str, Any] = {"facecolor": "white", "edgecolor": COLOURS[6], "hatch": "////"}

GAP = "#d9e2ec"  # between images: no grey, so that white pixels at a border can be told from it
MOST = 3000  # pixels of the longer side of a picture, for which `figures` has 2260 dots at most
REACH = 3  # of the traversals, in standard deviations of the prior

TERMS = {  # of the objective, each with a title and its sign in it
    "elbo": ("$-$ELBO", -1),
    "reconstruction": (r"Reconstruction, $-\log\,p(x\,|\,z)$", 1),
    "kl": (r"KL$(q(z\,|\,x)\;\|\;p(z))$", 1),
}


def _axes(ax: Axes | None) -> Axes:
    """Return `ax`, or the Axes of a new pyplot figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def _z(dimension: int) -> str:
    """Return the name of a latent dimension, as the figures have it."""
    return f"$z_{{{dimension + 1}}}$"


def _signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


# The history ----------------------------------------------------------------------------------


def plot_training(
    history: Sequence[Record],
    ax: Axes | None = None,
    term: str = "elbo",
    kept_epoch: int | None = None,
) -> Axes:
    """Draw one term of the objective against the epoch, for the training and the held-out set.

    That is the validation set, where there is one, else the test set; an epoch after which it was
    not evaluated (None) has no point.

    Where the first tenth of the epochs, or the first, lies far from the rest, the axis is cut so
    that the rest can be read. Arrowheads at its end mark the epochs that are cut, and the legend
    says how far they reach.

    Parameters
    ----------
    history : sequence of records
        One per epoch, at least one.
    term : {"elbo", "reconstruction", "kl"}
        The ELBO is drawn as -ELBO, so that less is better for all three.
    kept_epoch : int, optional
        The epoch whose parameters are kept, to be marked.
    """
    ax = _axes(ax)
    check_choice("term", term, TERMS)
    if not history:
        raise ValueError("history is empty, must hold one epoch or more")
    title, sign = TERMS[term]
    epochs = np.array([record.epoch for record in history])
    held_out = "test" if all(r.validation_elbo is None for r in history) else "validation"
    columns = [[getattr(r, f"{part}_{term}") for r in history] for part in ("train", held_out)]
    values = sign * np.array(columns, np.float64)  # (2, epochs); None is NaN
    marker = "o" if len(epochs) <= 30 else ""
    for column, of_set, style, colour, label in zip(
        columns, values, ("-", "--"), (COLOURS[0], COLOURS[6]), ("train", held_out), strict=True
    ):
        known = [value is not None for value in column]  # a NaN stays, and leaves a gap
        ax.plot(epochs[known], of_set[known], style, marker=marker, ms=4, color=colour, label=label)

    if kept_epoch is not None:
        ax.axvline(kept_epoch, color="0.6", lw=1, ls=":", zorder=0, label="kept")
    bottom, top = _readable(values)
    for cut, edge, head, farthest, way in (
        (values > top, 1, "^", np.max, "up"),
        (values < bottom, 0, "v", np.min, "down"),
    ):
        if cut.any():
            ax.set_ylim(bottom, top)
            at = epochs[cut.any(axis=0)]
            label = f"off scale, {way} to {farthest(values[cut]):.4g}"
            ax.plot(at, np.full(len(at), edge), head, ms=5, color="0.4", label=label,
                    transform=ax.get_xaxis_transform(), clip_on=False)  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    ax.set(title=title, xlabel="epoch", ylabel="nats per image")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return ax


def _readable(values: NDArray[Any]) -> tuple[float, float]:
    """Return y limits for `values`, (2, epochs), in which the later epochs can be read."""
    epochs = values.shape[1]
    late = values[:, max(1, epochs // 10) :] if epochs > 2 else values
    late = late[np.isfinite(late)]
    if late.size == 0:
        return -math.inf, math.inf
    low, high = late.min(), late.max()
    reach = (high - low) or abs(high) or 1.0
    bottom, top = np.nanmin(values), np.nanmax(values)
    bottom = low - reach / 2 if bottom < low - 5 * reach else bottom - reach / 20
    top = high + reach / 2 if top > high + 5 * reach else top + reach / 20
    return float(bottom), float(top)


# Images ---------------------------------------------------------------------------------------


def _tiles(
    images: ArrayLike,
    grid: tuple[int, int],
    image_shape: tuple[int, int],
    value_range: tuple[float, float],
) -> NDArray[np.float64]:
    """Return images (N, D), clipped, as (N, H, W), for a picture of a grid of rows and columns.

    Where the picture would have more than `MOST` pixels in a row or a column, blocks of pixels are
    averaged into one: so its memory is bounded, however large the images are. Small images are
    enlarged by a whole number, so that a gap of one pixel is thin beside them. A single row of
    pixels, which is what a prime D gives, becomes a bar code.
    """
    low, high = value_range
    block = math.ceil(max(np.multiply(grid, image_shape)) / MOST)
    tiles = [_averaged(np.clip(x, low, high), image_shape, block) for x in np.asarray(images)]
    x = np.stack(tiles)
    if image_shape[0] == 1:
        x = x.repeat(min(40, math.ceil(x.shape[2] / 4)), axis=1)
    zoom = math.ceil(20 / max(x.shape[1:]))
    return x.repeat(zoom, axis=1).repeat(zoom, axis=2)


def _averaged(x: NDArray[Any], image_shape: tuple[int, int], block: int) -> NDArray[np.float64]:
    """Average an image (D,) over blocks, as (H, W); a side no longer than a block is kept."""
    image = x.astype(np.float64).reshape(image_shape)
    for axis, side in enumerate(image_shape):
        if 1 < block < side:
            starts = np.arange(0, side, block)  # the last block may be smaller
            sizes = np.diff(starts, append=side)
            image = np.add.reduceat(image, starts, axis) / np.expand_dims(sizes, 1 - axis)
    return image


def _gap(tiles: NDArray[np.float64]) -> int:
    return min(20, math.ceil(max(tiles.shape[1:]) / 40))


def _mosaic(tiles: NDArray[np.float64], columns: int, gap: int) -> NDArray[np.float64]:
    """Return tiles (N, H, W) side by side, row after row, as one picture; NaN is blank."""
    n, height, width = tiles.shape
    rows = math.ceil(n / columns)
    cells = np.full((rows * columns, height + gap, width + gap), np.nan)
    cells[:n, :height, :width] = tiles
    cells = cells.reshape(rows, columns, height + gap, width + gap).swapaxes(1, 2)
    picture = cells.reshape(rows * (height + gap), columns * (width + gap))
    return picture[: len(picture) - gap, : picture.shape[1] - gap]


def _show(picture: NDArray[np.float64], ax: Axes | None, value_range: tuple[float, float]) -> Axes:
    ax, (low, high) = _axes(ax), value_range
    # Enlarged before it is coloured: the same pixels in less memory.
    ax.imshow(
        picture, cmap=colormaps["gray"].with_extremes(bad=GAP), vmin=low, vmax=high,
        interpolation="none", interpolation_stage="data", origin="upper", aspect="equal",
    )  # fmt: skip
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_frame_on(False)
    return ax


def plot_samples(
    images: ArrayLike,
    image_shape: tuple[int, int],
    ax: Axes | None = None,
    value_range: tuple[float, float] = (0, 1),
) -> Axes:
    """Draw images (N, D), N >= 1, in as many columns as rows, thin gaps between them."""
    images = np.asarray(images)
    columns = math.ceil(math.sqrt(len(images)))
    grid = math.ceil(len(images) / columns), columns
    tiles = _tiles(images, grid, image_shape, value_range)
    return _show(_mosaic(tiles, columns, _gap(tiles)), ax, value_range)


def plot_reconstructions(
    originals: ArrayLike,
    reconstructions: ArrayLike,
    image_shape: tuple[int, int],
    ax: Axes | None = None,
    value_range: tuple[float, float] = (0, 1),
) -> Axes:
    """Draw images over their reconstructions, the first 36 at most: three pairs of rows of 12.

    Of wide images fewer fit into a row. `originals` and `reconstructions` are both (N, D).
    """
    above, below = (
        _tiles(x, (6, 12), image_shape, value_range) for x in (originals, reconstructions)
    )
    _, height, width = above.shape
    columns = max(1, min(len(above), 12, 12 * height // width))
    above, below = above[: 3 * columns], below[: 3 * columns]
    gap = _gap(above)
    between = np.full((len(above), gap, width), np.nan)
    pairs = np.concatenate([above, between, below, between, between], axis=1)
    ax = _show(_mosaic(pairs, columns, gap)[: -2 * gap], ax, value_range)
    tops = np.arange(math.ceil(len(pairs) / columns)) * (pairs.shape[1] + gap)
    middles = np.add.outer(tops, [height / 2, height / 2 + gap + height]).ravel() - 0.5
    ax.set_yticks(middles, ["original", "reconstruction"] * len(tops))
    ax.tick_params(axis="y", length=0)
    return ax


def plot_interpolations(
    decode: Callable[[NDArray[np.float64]], ArrayLike],
    mu: ArrayLike,
    originals: ArrayLike,
    image_shape: tuple[int, int],
    ax: Axes | None = None,
    steps: int = 9,
    value_range: tuple[float, float] = (0, 1),
) -> Axes:
    """Draw what lies between two images: a row for each pair of them.

    Between the two originals, set apart, are `steps` decoded images. The k-th, from 0, is decoded
    at z = (1 - t) mu + t mu', where t = k / (steps - 1): the first and the last are the
    reconstructions. The horizontal axis is in t.

    Parameters
    ----------
    mu : array_like, shape (R, 2, Z)
        The posterior means of the left and the right image of R pairs.
    originals : array_like, shape (R, 2, D)
        These images.
    steps : int, at least 2
    """
    t, originals = np.linspace(0, 1, steps)[:, np.newaxis], np.asarray(originals)
    ends = np.asarray(mu, np.float64)[:, :, np.newaxis]  # (R, 2, 1, Z)
    z = (1 - t) * ends[:, 0] + t * ends[:, 1]  # (R, steps, Z)
    left, images, right = (
        _tiles(x, z.shape[:2], image_shape, value_range)
        for x in (originals[:, 0], decode(z.reshape(-1, z.shape[-1])), originals[:, 1])
    )
    width = images.shape[2]
    gap = _gap(images)
    apart = max(math.ceil(width / 3), 3 * gap)
    between = _mosaic(images, steps, gap)
    blank = np.full((len(between), apart), np.nan)
    columns = [_mosaic(left, 1, gap), blank, between, blank, _mosaic(right, 1, gap)]
    ax = _show(np.concatenate(columns, axis=1), ax, value_range)
    first = width + apart + (width - 1) / 2  # the middle of the first that is decoded
    reach = (steps - 1) * (width + gap)
    ax.set_xticks([first, first + reach / 2, first + reach], ["0", "0.5", "1"])
    for middle in (width - 1) / 2, 2 * first + reach - (width - 1) / 2:
        ax.annotate("original", (middle, 1), (0, 4), xycoords=ax.get_xaxis_transform(),
                    textcoords="offset points", ha="center")  # fmt: skip
    ax.set_xlabel(
        f"$t$, {steps} images decoded at "
        r"$(1-t)\,\mu(x_\mathrm{left}) + t\,\mu(x_\mathrm{right})$"
    )
    return ax


def plot_traversals(
    decode: Callable[[NDArray[np.float64]], ArrayLike],
    mu: ArrayLike,
    dimensions: Sequence[int],
    image_shape: tuple[int, int],
    kl: ArrayLike,
    ax: Axes | None = None,
    columns: int = 13,
    value_range: tuple[float, float] = (0, 1),
) -> Axes:
    """Draw what single latent dimensions do: a row for each, in which only that one varies.

    It runs from -3 to 3, three standard deviations of the prior, in steps of equal length; the
    others are held at `mu`. A triangle below a row marks where `mu` itself lies; beyond the ends
    it points outwards.

    Parameters
    ----------
    mu : array_like, shape (Z,)
        The posterior mean of an image, or another point.
    dimensions : sequence of int, R of them
        Those to vary, from the top downwards.
    kl : array_like, shape (Z,)
        KL(q(z_j | x) || p(z_j)) of each dimension, in nats per image, to be named beside its row.
    columns : int, at least 2
        Images in a row.
    """
    mu, rows = np.asarray(mu, np.float64), np.arange(len(dimensions))
    z = np.tile(mu, (len(rows), columns, 1))  # (R, columns, Z)
    z[rows, :, dimensions] = np.linspace(-REACH, REACH, columns)
    tiles = _tiles(decode(z.reshape(-1, len(mu))), z.shape[:2], image_shape, value_range)
    n, height, width = tiles.shape
    gap, room = _gap(tiles), math.ceil(max(height, width) / 7)  # below each, for the mark
    tiles = np.concatenate([tiles, np.full((n, room, width), np.nan)], axis=1)
    ax = _show(_mosaic(tiles, columns, gap), ax, value_range)

    first, last = (width - 1) / 2, (columns - 1) * (width + gap) + (width - 1) / 2
    top = rows * (height + room + gap) - 0.5
    own = mu[list(dimensions)]
    for marker, chosen in ("<", own < -REACH), ("^", np.abs(own) <= REACH), (">", own > REACH):
        at = np.interp(own[chosen], (-REACH, REACH), (first, last))
        ax.plot(at, top[chosen] + height + room / 2, marker, color=COLOURS[6], ms=5, mew=0)
    ticks = np.arange(-REACH, REACH + 1)
    ax.set_xticks(
        np.interp(ticks, (-REACH, REACH), (first, last)), [_signed(f"{z}") for z in ticks]
    )
    names = [f"{_z(j)}, KL {np.asarray(kl)[j]:.2f} nats" for j in dimensions]
    ax.set_yticks(top + height / 2, names)
    ax.tick_params(axis="y", length=0)
    beyond = ", ◄ ► beyond the ends" if (np.abs(own) > REACH).any() else ""
    ax.set_xlabel(f"$z_j$ of the row, all others as encoded\n(▲: $z_j$ as encoded{beyond})")
    return ax


# The latent plane -----------------------------------------------------------------------------


def plot_latent(
    mu: ArrayLike,
    values: ArrayLike | None,
    ax: Axes | None = None,
    dimensions: tuple[int, int] = (0, 1),
    name: str = "label",
) -> Axes:
    """Draw posterior means in a latent plane, and where one and two sd of the prior lie.

    Parameters
    ----------
    mu : array_like, shape (N, Z), Z >= 2
    values : array_like of int or float, shape (N,), or None
        Colours the points. Up to ten different whole numbers have an entry in a legend each; more
        of them, and real numbers, have a colour bar.
    dimensions : (int, int)
        Those along the horizontal and the vertical axis.
    name : str
        Of the values, or their unit.
    """
    ax = _axes(ax)
    mu = np.asarray(mu)[:, dimensions]
    across, up = mu.T
    reach = np.max(np.abs(mu), where=np.isfinite(mu), initial=2.0)
    ax.update_datalim([(-reach, -reach), (reach, reach)])  # the origin is the middle
    box = ax.get_window_extent()
    area = box.width * box.height / ax.figure.dpi**2  # square inches
    size = min(20, max(1.5, 800 * area / len(mu)))
    kinds, rank = np.unique([0] if values is None else values, return_inverse=True)
    whole = kinds.dtype.kind != "f"
    few = whole and len(kinds) <= len(COLOURS)
    colours = COLOURS[2] if values is None else np.array(COLOURS)[rank] if few else values
    # One call for all, so that no label lies on top of another for being drawn later.
    points = ax.scatter(across, up, size, colours, linewidths=0, alpha=0.8, rasterized=True)
    if not few:
        _colour_bar(points, ax, name, MaxNLocator(integer=True) if whole else None)
    elif values is not None:
        dots = [Line2D([], [], ls="", marker="o", color=c) for c in COLOURS[: len(kinds)]]
        ax.legend(dots, [str(k) for k in kinds], title=name, frameon=False,
                  loc="center left", bbox_to_anchor=(1, 0.5))  # fmt: skip
    for sd in (1, 2):
        ax.add_patch(Circle((0, 0), sd, fill=False, color="0.4", lw=0.7))
        ax.annotate(
            f"prior, {sd} sd", (0, sd), (0, 2), textcoords="offset points", ha="center",
            size="x-small", color="0.2", path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
    ax.set_aspect("equal", adjustable="box")  # "datalim" would forbid shared axes
    ax.set(xlabel=f"{_z(dimensions[0])} (mean)", ylabel=f"{_z(dimensions[1])} (mean)")
    return ax


def _colour_bar(mappable: ScalarMappable, ax: Axes, label: str, ticks: Any = None) -> None:
    """Give the Axes a colour bar, as high as they are whatever their aspect."""
    inset = ax.inset_axes((1.03, 0, 0.05, 1))
    bar = ax.figure.colorbar(mappable, cax=inset, label=label, ticks=ticks)
    assert bar.solids is not None
    bar.solids.set_alpha(1)  # the points let others shine through, the bar need not
    bar.outline.set_visible(False)


def plot_manifold(
    decode: Callable[[NDArray[np.float64]], ArrayLike],
    image_shape: tuple[int, int],
    ax: Axes | None = None,
    side: int = 20,
    value_range: tuple[float, float] = (0, 1),
) -> Axes:
    """Draw what the latent plane decodes to, each image standing for the same prior probability.

    Column i is at z_1 = Φ⁻¹((i + 1/2) / side), Φ being the distribution function of N(0, 1), and so
    are the rows in z_2, which increases upwards. The axes are in z: a value z lies at Φ(z). The
    picture has side * side images.
    """
    prior = NormalDist()  # of the standard library: SciPy's would take 20 MB
    quantiles = np.array([prior.inv_cdf((i + 0.5) / side) for i in range(side)])
    z_2, z_1 = np.meshgrid(quantiles[::-1], quantiles, indexing="ij")  # the first row is the top
    images = decode(np.column_stack([z_1.ravel(), z_2.ravel()]))
    picture = _mosaic(_tiles(images, (side, side), image_shape, value_range), side, 0)
    ax = _show(picture, ax, value_range)
    height, width = picture.shape
    ticks = range(-2, 3)
    names = [_signed(f"{z}") for z in ticks]
    ax.set_xticks([prior.cdf(z) * width - 0.5 for z in ticks], names)
    ax.set_yticks([prior.cdf(-z) * height - 0.5 for z in ticks], names)
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    return ax


# The latent dimensions ------------------------------------------------------------------------


def plot_kl(kls: ArrayLike, mus: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw the KL of each latent dimension as a bar, the highest first.

    A dimension is active if the variance of its posterior mean over the images exceeds
    `ACTIVE`; the legend counts them. Of a single image it is not known which
    are. Above 50 dimensions the bars have no names.

    Parameters
    ----------
    kls : array_like, shape (N, Z)
        KL(q(z_j | x) || p(z_j)) of each image, in nats; what is drawn is the mean over images.
    mus : array_like, shape (N, Z)
        The posterior means.
    """
    ax = _axes(ax)
    mus, kl = np.asarray(mus), np.mean(np.asarray(kls, np.float64), axis=0)
    order = np.argsort(-kl, kind="stable")
    ranks = np.arange(1, len(kl) + 1)
    bars = ax.bar(ranks, kl[order], width=0.8, color=COLOURS[0])
    handles: list[Patch] = []
    if len(mus) > 1:
        active = active_dimensions(mus)
        for bar, filled in zip(bars, active[order], strict=True):
            if not filled:
                bar.set(**INACTIVE)
        handles = [
            Patch(color=COLOURS[0], label=rf"{active.sum()} active, Var $\mu_j$ > {ACTIVE}"),
            Patch(**INACTIVE, label=f"{(~active).sum()} inactive"),
        ]
    # Above the bars, where it hides none.
    total = f"total {kl.sum():.4g} nats per image, {len(mus)} images"
    ax.legend(handles=handles, title=total, ncols=2, frameon=False,
              loc="lower center", bbox_to_anchor=(0.5, 1))  # fmt: skip
    xlabel = "latent dimensions, sorted by KL"
    if len(kl) <= 50:
        ax.set_xticks(ranks, [f"{j + 1}" for j in order])
        ax.tick_params(axis="x", length=0)
        if len(kl) > 20:
            ax.tick_params(axis="x", rotation=90, labelsize="x-small")
        xlabel = "latent dimension $j$, sorted by KL"
    spare = max(0, 5 - len(kl)) / 2  # few bars are not as wide as the figure
    ax.set_xlim(0.4 - spare, len(kl) + 0.6 + spare)
    ax.set(xlabel=xlabel, ylabel="KL, nats per image")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_factors(
    mu: ArrayLike,
    factors: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    dimensions: Sequence[int] | None = None,
) -> Axes:
    """Draw how latent dimensions rise and fall with what the images were drawn from.

    Each cell is Spearman's rank correlation, over the images, of a factor and the posterior mean of
    a dimension: 1 or -1 where one is a monotonic function of the other. A cell is blank where one
    of the two is constant.

    Parameters
    ----------
    mu : array_like, shape (N, Z), N >= 2
        The posterior means.
    factors : mapping of str to array_like of shape (N,)
        Real numbers by name; a row each.
    dimensions : sequence of int, optional
        The columns, from the left; by default all.
    """
    ax = _axes(ax)
    mu = np.asarray(mu)
    dimensions = range(mu.shape[1]) if dimensions is None else dimensions
    rows = np.array([_scores(np.asarray(value)) for value in factors.values()])
    columns = np.array([_scores(mu[:, j]) for j in dimensions])
    correlation = rows @ columns.T  # (factors, dimensions)
    # Cells, not an image: drawings keep them sharp, and the white lines part them.
    cells = ax.pcolormesh(correlation, cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="w", lw=1)
    for (row, column), value in np.ndenumerate(correlation):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 else "black"
            ax.text(column + 0.5, row + 0.5, _signed(f"{round(value, 2) + 0.0:.2f}"), color=colour,
                    ha="center", va="center", size="small")  # fmt: skip
    ax.set_xticks(np.arange(len(columns)) + 0.5, [_z(j) for j in dimensions])
    ax.set_yticks(np.arange(len(rows)) + 0.5, [name.replace("_", " ") for name in factors])
    ax.tick_params(length=0)
    ax.set_frame_on(False)
    ax.invert_yaxis()  # the first factor is the top row
    ax.set_xlabel("latent dimension (posterior mean)")
    _colour_bar(cells, ax, f"Spearman's correlation, {len(mu)} images", [-1, -0.5, 0, 0.5, 1])
    return ax


def _scores(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return ranks (N,), ties at their mean, of mean 0 and length 1; NaN for constant values.

    The product of two such is Spearman's correlation; `scipy.stats` takes longer to import than a
    figure to draw.
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2)[inverse]
    ranks -= ranks.mean()
    length = np.linalg.norm(ranks)
    return ranks / length if length > 0 else np.full(len(ranks), np.nan)
