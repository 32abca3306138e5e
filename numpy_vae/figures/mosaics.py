"""Plots of images side by side, also available from `plots`.

Letters of this module: N images, one per row; D = height * width pixels; Z latent dimensions.
Arguments that several functions share:

    image_shape    (height, width) of an image, in pixels; in colour (height, width, 3)
    value_range    the values shown as black and white; values outside are clipped
    decode         a function from z, shape (n, Z), to images, shape (n, D)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from numpy.typing import ArrayLike

from ..params import Array
from .style import COLOURS, axes_or_new, signed, z_name

Decode: TypeAlias = Callable[[Array], ArrayLike]
Shape: TypeAlias = tuple[int, ...]
Range: TypeAlias = tuple[float, float]

GAP = "#d9e2ec"  # between images: bluish, to differ from any grey pixel
MOST = 3000  # pixels of a picture's longer side, which `of_a_run` draws in at most 2260 dots
REACH = 3  # of the traversals, in standard deviations of the prior


def _tiles(images: ArrayLike, grid: Shape, image_shape: Shape, value_range: Range) -> Array:
    """Return images (N, D), clipped, as (N, H, W[, 3]), for a picture of `grid` rows and columns.

    If a side of the picture would exceed `MOST` pixels, blocks of pixels are averaged, which bounds
    its memory. Small images are enlarged by a whole number, so that a gap of one pixel is thin. A
    single row of pixels (D is prime) becomes a bar code.
    """
    block = math.ceil(max(np.multiply(grid, image_shape[:2])) / MOST)
    tiles = [_shrink(np.clip(x, *value_range), image_shape, block) for x in np.asarray(images)]
    x = np.stack(tiles)
    if image_shape[0] == 1:
        x = x.repeat(min(40, math.ceil(x.shape[2] / 4)), axis=1)
    zoom = math.ceil(20 / max(x.shape[1:3]))
    return x.repeat(zoom, axis=1).repeat(zoom, axis=2)


def _shrink(x: Array, image_shape: Shape, block: int) -> Array:
    """Average an image (D,) over blocks, as (H, W[, 3]); a side no longer than a block stays."""
    image = x.astype(np.float64).reshape(image_shape)
    for axis, side in enumerate(image_shape[:2]):
        if 1 < block < side:
            starts = np.arange(0, side, block)  # the last block may be smaller
            sizes = np.diff(starts, append=side)
            sums = np.add.reduceat(image, starts, axis)
            image = sums / sizes.reshape([-1 if i == axis else 1 for i in range(image.ndim)])
    return image


def _gap(tiles: Array) -> int:
    return min(20, math.ceil(max(tiles.shape[1:3]) / 40))


def _blank(tiles: Array, height: int, width: int) -> Array:
    """Return blank tiles of another size."""
    return np.full((len(tiles), height, width, *tiles.shape[3:]), np.nan)


def _mosaic(tiles: Array, columns: int, gap: int) -> Array:
    """Return tiles (N, H, W[, 3]) side by side, row by row, as one picture; NaN is blank."""
    n, height, width, *colour = tiles.shape
    rows = math.ceil(n / columns)
    cells = np.full((rows * columns, height + gap, width + gap, *colour), np.nan)
    cells[:n, :height, :width] = tiles
    cells = cells.reshape(rows, columns, height + gap, width + gap, *colour).swapaxes(1, 2)
    picture = cells.reshape(rows * (height + gap), columns * (width + gap), *colour)
    return picture[: len(picture) - gap, : picture.shape[1] - gap]


def _show(picture: Array, ax: Axes | None, value_range: Range) -> Axes:
    ax, (low, high) = axes_or_new(ax), value_range
    if picture.ndim == 3:
        picture = (picture - low) / (high - low)
        picture = np.where(np.isnan(picture), to_rgb(GAP), picture)
    # The stage "data" enlarges before it colours: the same pixels in less memory.
    ax.imshow(
        picture, cmap=colormaps["gray"].with_extremes(bad=GAP), vmin=low, vmax=high,
        interpolation="none", interpolation_stage="data", origin="upper", aspect="equal",
    )  # fmt: skip
    ax.set(xticks=[], yticks=[], frame_on=False)
    return ax


def plot_samples(
    images: ArrayLike, image_shape: Shape, ax: Axes | None = None, value_range: Range = (0, 1)
) -> Axes:
    """Draw images (N, D), N >= 1, in a square grid with thin gaps."""
    images = np.asarray(images)
    columns = math.ceil(math.sqrt(len(images)))
    grid = math.ceil(len(images) / columns), columns
    tiles = _tiles(images, grid, image_shape, value_range)
    return _show(_mosaic(tiles, columns, _gap(tiles)), ax, value_range)


def plot_reconstructions(
    originals: ArrayLike, reconstructions: ArrayLike, image_shape: Shape, ax: Axes | None = None,
    value_range: Range = (0, 1),
) -> Axes:  # fmt: skip
    """Draw up to 36 images above their reconstructions: three pairs of rows of 12.

    Wide images have fewer per row. `originals` and `reconstructions` are both (N, D).
    """
    both = [_tiles(x, (6, 12), image_shape, value_range) for x in (originals, reconstructions)]
    n, height, width = both[0].shape[:3]
    columns = max(1, min(n, 12, 12 * height // width))
    above, below = (tiles[: 3 * columns] for tiles in both)
    gap = _gap(above)
    between = _blank(above, gap, width)
    pairs = np.concatenate([above, between, below, between, between], axis=1)
    ax = _show(_mosaic(pairs, columns, gap)[: -2 * gap], ax, value_range)
    tops = np.arange(math.ceil(len(pairs) / columns)) * (pairs.shape[1] + gap)
    middles = np.add.outer(tops, [height / 2, height / 2 + gap + height]).ravel() - 0.5
    ax.set_yticks(middles, ["original", "reconstruction"] * len(tops))
    ax.tick_params(axis="y", length=0)
    return ax


def plot_interpolations(
    decode: Decode, mu: ArrayLike, originals: ArrayLike, image_shape: Shape, ax: Axes | None = None,
    steps: int = 9, value_range: Range = (0, 1),
) -> Axes:  # fmt: skip
    """Draw decoded images between two originals: a row for each of R pairs.

    The k-th of `steps` >= 2 images, from 0, is decoded at z = (1 - t) mu + t mu', where
    t = k / (steps - 1): the first and the last are the reconstructions. The horizontal axis is t.
    `originals`, (R, 2, D), are the left and right images, `mu`, (R, 2, Z), their posterior means.
    """
    t, originals = np.linspace(0, 1, steps)[:, np.newaxis], np.asarray(originals)
    ends = np.asarray(mu, np.float64)[:, :, np.newaxis]  # (R, 2, 1, Z)
    z = (1 - t) * ends[:, 0] + t * ends[:, 1]  # (R, steps, Z)
    left, images, right = (
        _tiles(x, z.shape[:2], image_shape, value_range)
        for x in (originals[:, 0], decode(z.reshape(-1, z.shape[-1])), originals[:, 1])
    )
    width, gap = images.shape[2], _gap(images)
    apart = max(math.ceil(width / 3), 3 * gap)
    between = _mosaic(images, steps, gap)
    blank = np.full((len(between), apart, *between.shape[2:]), np.nan)
    columns = [_mosaic(left, 1, gap), blank, between, blank, _mosaic(right, 1, gap)]
    ax = _show(np.concatenate(columns, axis=1), ax, value_range)
    first = width + apart + (width - 1) / 2  # the middle of the first decoded image
    reach = (steps - 1) * (width + gap)
    ax.set_xticks([first, first + reach / 2, first + reach], ["0", "0.5", "1"])
    for middle in (width - 1) / 2, 2 * first + reach - (width - 1) / 2:
        ax.annotate("original", (middle, 1), (0, 4), xycoords=ax.get_xaxis_transform(),
                    textcoords="offset points", ha="center")  # fmt: skip
    at = r"$(1-t)\,\mu(x_\mathrm{left}) + t\,\mu(x_\mathrm{right})$"
    ax.set_xlabel(f"$t$, {steps} images decoded at {at}")
    return ax


def plot_traversals(
    decode: Decode, mu: ArrayLike, dimensions: Sequence[int], image_shape: Shape, kl: ArrayLike,
    ax: Axes | None = None, columns: int = 13, value_range: Range = (0, 1),
) -> Axes:  # fmt: skip
    """Draw latent traversals: in each row one latent dimension varies.

    It takes `columns` >= 2 equally spaced values from -3 to 3 standard deviations of the prior; the
    others stay at `mu`, (Z,), such as the posterior mean of an image. A triangle below the row
    marks `mu` itself, and points outwards if that lies beyond the ends.

    `dimensions`, (R,), are the rows. `kl`, (Z,), is KL(q(z_j | x) || p(z_j)) in nats per image,
    written beside the row.
    """
    mu, rows = np.asarray(mu, np.float64), np.arange(len(dimensions))
    z = np.tile(mu, (len(rows), columns, 1))  # (R, columns, Z)
    z[rows, :, dimensions] = np.linspace(-REACH, REACH, columns)
    tiles = _tiles(decode(z.reshape(-1, len(mu))), z.shape[:2], image_shape, value_range)
    height, width = tiles.shape[1:3]
    gap, room = _gap(tiles), math.ceil(max(height, width) / 7)  # below each, for the mark
    tiles = np.concatenate([tiles, _blank(tiles, room, width)], axis=1)
    ax = _show(_mosaic(tiles, columns, gap), ax, value_range)

    ends = (width - 1) / 2, (columns - 1) * (width + gap) + (width - 1) / 2
    top = rows * (height + room + gap) - 0.5
    own = mu[list(dimensions)]
    for marker, chosen in ("<", own < -REACH), ("^", np.abs(own) <= REACH), (">", own > REACH):
        at = np.interp(own[chosen], (-REACH, REACH), ends)
        ax.plot(at, top[chosen] + height + room / 2, marker, color=COLOURS[6], ms=5, mew=0)
    ticks = range(-REACH, REACH + 1)
    ax.set_xticks(np.interp(ticks, (-REACH, REACH), ends), [*map(signed, ticks)])
    names = [f"{z_name(j)}, KL {np.asarray(kl)[j]:.2f} nats" for j in dimensions]
    ax.set_yticks(top + height / 2, names)
    ax.tick_params(axis="y", length=0)
    beyond = ", ◄ ► beyond the ends" if (np.abs(own) > REACH).any() else ""
    ax.set_xlabel(f"$z_j$ of the row, all others as encoded\n(▲: $z_j$ as encoded{beyond})")
    return ax


def plot_manifold(
    decode: Decode, image_shape: Shape, ax: Axes | None = None, side: int = 20,
    value_range: Range = (0, 1),
) -> Axes:  # fmt: skip
    """Draw side * side images decoded from the latent plane, at equal prior probability.

    Column i is at z_1 = Φ⁻¹((i + 1/2) / side), where Φ is the CDF of N(0, 1); the rows are spaced
    the same way in z_2, which increases upwards. Tick marks are values of z, placed at Φ(z).
    """
    prior = NormalDist()  # standard library: importing SciPy would take 20 MB
    quantiles = np.array([prior.inv_cdf((i + 0.5) / side) for i in range(side)])
    z_2, z_1 = np.meshgrid(quantiles[::-1], quantiles, indexing="ij")  # the first row is the top
    images = decode(np.column_stack([z_1.ravel(), z_2.ravel()]))
    picture = _mosaic(_tiles(images, (side, side), image_shape, value_range), side, 0)
    ax = _show(picture, ax, value_range)
    height, width = picture.shape[:2]
    ticks = range(-2, 3)
    names = [*map(signed, ticks)]
    ax.set_xticks([prior.cdf(z) * width - 0.5 for z in ticks], names)
    ax.set_yticks([prior.cdf(-z) * height - 0.5 for z in ticks], names)
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    return ax
