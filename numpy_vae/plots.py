"""Figures of a training run and of what the model has learnt.

Every ``plot_`` function draws on the Axes `ax` and returns it; without one it makes a new pyplot
figure. `save_figures` writes the figures of a run to files and touches neither pyplot nor a
display. No other module of the package imports matplotlib.

Letters of this module: N images, D = height * width pixels of each, one flattened image a row. In a
picture small values are dark and large ones bright; anything else is blank.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from .checks import check_choice
from .data import Dataset
from .files import atomic_write
from .vae import VAE

DPI = 150  # dots per inch of the files
WIDEST = 1130  # dots of the longer side of a picture; twice that where its pixels are that many

# Told apart with each kind of colour vision: the "muted" scheme of P. Tol, "Colour Schemes",
# SRON/EPS/TN/09-002, 2021, and black.
COLOURS = (
    "#332288", "#88ccee", "#44aa99", "#117733", "#999933",
    "#ddcc77", "#cc6677", "#882255", "#aa4499", "#000000",
)  # fmt: skip

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


# The history ----------------------------------------------------------------------------------


def plot_training(history: Sequence[Any], ax: Axes | None = None, term: str = "elbo") -> Axes:
    """Draw one term of the objective against the epoch, for the training and the held-out set.

    That is the validation set, where there is one, else the test set; an epoch after which it was
    not evaluated (None) has no point.

    Where the first tenth of the epochs, or the first, lies far from the rest, the axis is cut so
    that the rest can be read. Arrowheads at its end mark the epochs that are cut, and the legend
    says how far they reach.

    Parameters
    ----------
    history : sequence of records
        One per epoch, with the fields `epoch`, `train_elbo`, `test_elbo`, `train_reconstruction`
        and so on, in nats per image.
    ax : Axes, optional
    term : {"elbo", "reconstruction", "kl"}
        The ELBO is drawn as -ELBO, so that less is better for all three.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If `history` is empty or `term` another.
    """
    check_choice("term", term, TERMS)
    if not history:
        raise ValueError("history is empty, must hold one epoch or more")
    title, sign = TERMS[term]
    epochs = np.array([record.epoch for record in history])
    held_out = "test"
    if any(getattr(record, "validation_elbo", None) is not None for record in history):
        held_out = "validation"
    columns = [[getattr(r, f"{part}_{term}") for r in history] for part in ("train", held_out)]
    values = sign * np.array(columns, np.float64)  # (2, epochs); None is NaN
    ax = _axes(ax)
    marker = "o" if len(epochs) <= 30 else ""
    for column, of_set, style, colour, label in zip(
        columns, values, ("-", "--"), (COLOURS[0], COLOURS[6]), ("train", held_out), strict=True
    ):
        known = [value is not None for value in column]  # a NaN stays, and leaves a gap
        ax.plot(epochs[known], of_set[known], style, marker=marker, ms=4, color=colour, label=label)

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


def guess_image_shape(d: int) -> tuple[int, int]:
    """Return (height, width), height <= width, of the most square image of d pixels."""
    height = next(h for h in range(math.isqrt(d), 0, -1) if d % h == 0)
    return height, d // height


def _tiles(
    images: ArrayLike, image_shape: tuple[int, int], value_range: tuple[float, float]
) -> NDArray[np.float64]:
    """Return images (N, D), clipped, as (N, H, W).

    Small ones are enlarged by a whole number, so that a gap of one pixel is thin beside them. A
    single row of pixels, which is what a prime D gives, becomes a bar code.
    """
    x = np.clip(np.asarray(images, np.float64), *value_range)
    x = x.reshape(len(x), *image_shape)
    if image_shape[0] == 1:
        x = x.repeat(math.ceil(image_shape[1] / 4), axis=1)
    zoom = math.ceil(20 / max(x.shape[1:]))
    return x.repeat(zoom, axis=1).repeat(zoom, axis=2)


def _gap(tiles: NDArray[np.float64]) -> int:
    return math.ceil(max(tiles.shape[1:]) / 40)


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
    ax = _axes(ax)
    low, high = value_range
    ax.imshow(
        picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest", origin="upper",
        aspect="equal",
    )  # fmt: skip
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_frame_on(False)
    return ax


def plot_images(
    images: ArrayLike,
    image_shape: tuple[int, int],
    columns: int,
    ax: Axes | None = None,
    value_range: tuple[float, float] = (0, 1),
) -> Axes:
    """Draw images in rows of `columns`, thin gaps between them.

    Parameters
    ----------
    images : array_like, shape (N, D), N >= 1
    image_shape : (int, int)
        Height and width, in pixels.
    columns : int
    ax : Axes, optional
    value_range : (float, float)
        What is black and what is white; values outside are shown as the nearer of the two.

    Returns
    -------
    Axes
    """
    tiles = _tiles(images, image_shape, value_range)
    return _show(_mosaic(tiles, columns, _gap(tiles)), ax, value_range)


def plot_samples(
    images: ArrayLike,
    image_shape: tuple[int, int],
    ax: Axes | None = None,
    value_range: tuple[float, float] = (0, 1),
) -> Axes:
    """Draw images in as many columns as rows; the arguments are those of `plot_images`."""
    columns = math.ceil(math.sqrt(len(np.asarray(images))))
    return plot_images(images, image_shape, columns, ax, value_range)


def plot_reconstructions(
    originals: ArrayLike,
    reconstructions: ArrayLike,
    image_shape: tuple[int, int],
    ax: Axes | None = None,
    value_range: tuple[float, float] = (0, 1),
) -> Axes:
    """Draw images over their reconstructions, the first 36 at most: three pairs of rows of 12.

    Of wide images fewer fit into a row. The arguments are those of `plot_images`, `originals` and
    `reconstructions` both (N, D).
    """
    above, below = (_tiles(x, image_shape, value_range) for x in (originals, reconstructions))
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


# The latent plane -----------------------------------------------------------------------------


def plot_latent(mu: ArrayLike, labels: ArrayLike | None = None, ax: Axes | None = None) -> Axes:
    """Draw posterior means in the latent plane, and where one and two sd of the prior lie.

    Parameters
    ----------
    mu : array_like, shape (N, 2)
    labels : array_like of int, shape (N,), optional
        Up to ten different ones have a colour and an entry in the legend each, more have a colour
        bar.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax, mu = _axes(ax), np.asarray(mu)
    z_1, z_2 = mu.T
    reach = np.max(np.abs(mu), where=np.isfinite(mu), initial=2.0)
    ax.update_datalim([(-reach, -reach), (reach, reach)])  # the origin is the middle
    size = min(20, max(3, 10_000 / len(mu)))
    style: dict[str, Any] = {"s": size, "linewidths": 0, "alpha": 0.8, "rasterized": True}
    kinds, rank = np.unique([0] if labels is None else labels, return_inverse=True)
    if labels is None:
        ax.scatter(z_1, z_2, color=COLOURS[2], **style)
    elif len(kinds) <= len(COLOURS):
        # One call for all, so that no label lies on top of another for being drawn later.
        ax.scatter(z_1, z_2, c=np.array(COLOURS)[rank], **style)
        dots = [Line2D([], [], ls="", marker="o", color=c) for c in COLOURS[: len(kinds)]]
        ax.legend(dots, [str(k) for k in kinds], title="label", frameon=False,
                  loc="center left", bbox_to_anchor=(1, 0.5))  # fmt: skip
    else:
        points = ax.scatter(z_1, z_2, c=np.asarray(labels), cmap="viridis", **style)
        ax.figure.colorbar(points, ax=ax, label="label", ticks=MaxNLocator(integer=True))
    for sd in (1, 2):
        ax.add_patch(Circle((0, 0), sd, fill=False, color="0.4", lw=0.7))
        ax.annotate(
            f"prior, {sd} sd", (0, sd), (0, 2), textcoords="offset points", ha="center",
            size="x-small", color="0.2", path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="$z_1$ (mean)", ylabel="$z_2$ (mean)")
    return ax


def plot_manifold(
    decode: Callable[[NDArray[np.float64]], ArrayLike],
    image_shape: tuple[int, int],
    ax: Axes | None = None,
    side: int = 20,
    value_range: tuple[float, float] = (0, 1),
) -> Axes:
    """Draw what the latent plane decodes to, each image standing for the same prior probability.

    Column i is at z_1 = Φ⁻¹((i + 1/2) / side), Φ being the distribution function of N(0, 1), and so
    are the rows in z_2, which increases upwards. The axes are in z: a value z lies at Φ(z).

    Parameters
    ----------
    decode : callable
        From z (n, 2) to images (n, D).
    image_shape, ax, value_range
        As in `plot_images`.
    side : int
        The picture has side * side images.

    Returns
    -------
    Axes
    """
    quantiles = ndtri((np.arange(side) + 0.5) / side)
    z_2, z_1 = np.meshgrid(quantiles[::-1], quantiles, indexing="ij")  # the first row is the top
    images = decode(np.column_stack([z_1.ravel(), z_2.ravel()]))
    picture = _mosaic(_tiles(images, image_shape, value_range), side, 0)
    ax = _show(picture, ax, value_range)
    height, width = picture.shape
    ticks = np.arange(-2, 3)
    names = [f"{z}".replace("-", "\N{MINUS SIGN}") for z in ticks]
    ax.set_xticks(ndtr(ticks) * width - 0.5, names)
    ax.set_yticks(ndtr(-ticks) * height - 0.5, names)
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    return ax


# The files of a run ---------------------------------------------------------------------------


def save_figures(
    folder: str | os.PathLike[str],
    vae: VAE,
    data: Dataset,
    x: NDArray[Any],
    history: Sequence[Any],
    *,
    rng: np.random.Generator | int | None,
) -> list[Path]:
    """Write the figures of a run as PNG files, each whole or not at all.

    They are training.png (unless `history` is empty), reconstructions.png, samples.png and, if the
    latent space is a plane, latent.png and manifold.png. Samples are the means of p(x | z).

    Parameters
    ----------
    folder : path
        Must exist.
    vae : VAE
    data : Dataset
        Names the figures, gives the shape of an image and the labels.
    x : ndarray of float, shape (B, D), B >= 1
        The first B test images as the model saw them.
    history : sequence of records
        As in `plot_training`.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        Draws the samples.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    shape = data.image_shape or guess_image_shape(vae.data_dim)
    values = (0.0, 1.0)
    if vae.likelihood.name != "bernoulli" and (x.min() < 0 or x.max() > 1):
        values = (float(x.min()), float(x.max()))
    name = data.name.encode(errors="replace").decode()  # a file's name may be any bytes
    name = name if len(name) <= 40 else f"{name[:39]}…"
    paths = []

    def save(stem: str, title: str, *draw: Callable[[Axes], Axes]) -> None:
        figure = Figure((6, 5.5) if len(draw) == 1 else (10, 3.4), DPI, layout="constrained")
        space = " " if len(title + name) < 48 else "\n"  # room for one line in the narrowest
        figure.suptitle(f"{title}{space}({name})", parse_math=False)
        panels = figure.subplots(1, len(draw), squeeze=False)[0]
        axes = [on(ax) for on, ax in zip(draw, panels, strict=True)]
        if axes[0].images:
            _fit(figure, axes[0])
        paths.append(Path(folder) / f"{stem}.png")
        with atomic_write(paths[-1]) as stream:
            figure.savefig(stream, format="png", dpi=DPI)

    if history:
        save("training", "Training", *(partial(plot_training, history, term=t) for t in TERMS))
    save(
        "reconstructions",
        "Test images and their reconstructions",
        lambda ax: plot_reconstructions(x[:36], vae.reconstruct(x[:36]), shape, ax, values),
    )
    samples = vae.sample(100, rng=rng)
    save("samples", "Samples from the prior", lambda ax: plot_samples(samples, shape, ax, values))
    if vae.latent_dim == 2:
        mu, _ = vae.encode(x)
        labels = None if data.test_labels is None else data.test_labels[: len(x)]
        save("latent", "Test images in the latent plane", lambda ax: plot_latent(mu, labels, ax))
        side = min(20, max(2, WIDEST // max(shape)))
        save(
            "manifold",
            "Decoded from quantiles of the prior",
            lambda ax: plot_manifold(vae.decode, shape, ax, side, values),
        )
    return paths


def _fit(figure: Figure, ax: Axes) -> None:
    """Resize the figure to its picture, a pixel being a whole number of dots if it can.

    Any other number would make some pixels, and some gaps, larger than others.
    """
    picture = np.array(ax.images[0].get_size())  # height, width
    dots = min(max(1, min(4, WIDEST // max(picture))), 2 * WIDEST / max(picture))
    # The layout takes room left beside a picture for room for its labels, so let there be none.
    ax.set_aspect("auto")
    for _ in range(3):  # how far tick labels jut out depends a little on the size
        figure.draw_without_rendering()
        margins = figure.get_size_inches() * (1 - np.ptp(ax.get_position().get_points(), axis=0))
        figure.set_size_inches(np.maximum(picture[::-1] * dots / figure.dpi + margins, (4.5, 0)))
    ax.set_aspect("equal")
