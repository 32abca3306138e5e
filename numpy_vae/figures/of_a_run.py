"""The figures of a run, as files ready for a paper. Neither pyplot nor a display is used.

Letters of this module: B test images, D pixels, Z latent dimensions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from .. import posterior
from ..checks import check_choice
from ..data.binarize import to_float
from ..data.dataset import Dataset, Shape, guess_image_shape, value_range
from ..data.mapped import Images
from ..files import atomic_write
from ..params import Array
from ..scaling import Scaling
from ..training.evaluate import encode_images
from ..training.state import Record
from ..vae import VAE
from . import FIGURES, FORMATS, plots, tables

Write: TypeAlias = Callable[[Path], AbstractContextManager[IO[bytes]]]  # opens a file
Draw: TypeAlias = Callable[[Figure], object]
Row: TypeAlias = tuple[str, str, object, tuple[float, float], Draw]  # of the table of figures

DPI = 150  # dots per inch
WIDEST = 1130  # dots of a picture's longer side; up to twice that if it has as many pixels
SIZE = (6.0, 5.5)  # inches
NARROWEST = 4.5  # inches, of the figure around a picture
MOST = 10  # dimensions, those of the highest KL, in the figures that do not show all

# The same figure gives the same bytes: no date, and no random ids in an SVG file. Text stays text.
UNDATED: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
# Matplotlib's defaults: the user's settings, such as text.usetex, have no effect.
OWN: dict[Any, Any] = {
    **{k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith("backend")},
    "pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "numpy_vae",
}  # fmt: skip

UNITS = {  # of the factors of `load_digits`
    "slant": "radians, to the right", "rotation": "radians, clockwise",
    "scale": "pixels", "aspect": "ratio", "width": "pixels",
    "shift_x": "pixels, to the right", "shift_y": "pixels, downwards",
}  # fmt: skip


def save_figures(
    folder: str | os.PathLike[str], vae: VAE, data: Dataset, x: Images, history: Sequence[Record],
    *, rng: np.random.Generator | int | None, format: str = "png", kept_epoch: int | None = None,
    write: Write = atomic_write,
) -> list[Path]:  # fmt: skip
    """Write the figures that apply to a run, each file whole or not at all; return their paths.

    Decoded images are means of p(x | z). Figures of some dimensions show those of the highest KL,
    averaged over the images. A PNG file has 150 dots per inch; the other `FORMATS` are vectors.

    `x`, (B, D), are the first B >= 1 test images as the model sees them: floats, or uint8 for
    value / 255. Rows that are not images are drawn as in `tables`. `data` gives the name in the
    titles, the image shape, the names of columns, the labels and the factors. `rng` draws the
    samples. `kept_epoch`, the best epoch if one was chosen, is the one whose parameters `vae` has;
    the training curves mark it.
    """
    check_choice("format", format, FORMATS)
    n, latent_dim, dtype = len(x), vae.latent_dim, vae.input_dtype
    is_table = data.image_shape is None and x.dtype != np.uint8
    shape = data.image_shape or guess_image_shape(vae.data_dim)
    values = value_range(x)
    labels = None if data.test_labels is None else data.test_labels[:n]
    if labels is not None and data.label_names:
        labels = np.array(data.label_names)[labels]
    what = "rows" if is_table else "images"
    factors = _factors(data, n) if n > 1 else {}
    mu, logvar = encode_images(vae, x)
    kls = posterior.kl_per_dimension(mu, logvar, posterior.standard_deviation(logvar))
    kl = kls.mean(axis=0)
    active = [int(j) for j in np.argsort(-kl, kind="stable")[:MOST]]
    dimensions = min(active[:2]), max(active[:2])
    shown = to_float(x[:36], dtype)
    side = min(20, max(2, WIDEST // max(shape[:2])))
    most, steps = _grid(shape, 8, (9, 5, 3))
    pairs = _pairs(labels, n, most)
    rows, columns = _grid(shape, MOST, (13, 7, 3))
    plane = "latent plane" if latent_dim == 2 else "two dimensions of the highest KL"
    kl_size = min(6.5, max(4.5, 2.5 + 0.2 * latent_dim)), 3.6
    factors_size = 2.7 + 0.45 * max(4, len(active)), 4.0
    table: list[Row] = [
        # name, title, condition, size in inches, drawing
        ("training", "Training", history, (10, 3.4), lambda f: _terms(f, history, kept_epoch)),
        ("reconstructions", "Test images and their reconstructions", True, SIZE,
         lambda f: plots.plot_reconstructions(
             shown, vae.reconstruct(shown), shape, f.subplots(), values)),
        ("samples", "Samples from the prior", True, SIZE,
         lambda f: plots.plot_samples(vae.sample(100, rng=rng), shape, f.subplots(), values)),
        ("latent", f"Test {what} in the {plane}", latent_dim >= 2, SIZE,
         lambda f: plots.plot_latent(mu, labels, f.subplots(), dimensions)),
        ("manifold", "Decoded from quantiles of the prior", latent_dim == 2, SIZE,
         lambda f: plots.plot_manifold(vae.decode, shape, f.subplots(), side, values)),
        ("interpolations", "Interpolations between test images", n > 1, SIZE,
         lambda f: plots.plot_interpolations(
             vae.decode, mu[pairs], to_float(x[pairs], dtype), shape, f.subplots(), steps, values)),
        ("kl", "KL of each latent dimension", True, kl_size,
         lambda f: plots.plot_kl(kls, mu, f.subplots())),
        ("traversals", "Latent traversals of a test image", True, SIZE,
         lambda f: plots.plot_traversals(
             vae.decode, mu[0], active[:rows], shape, kl, f.subplots(), columns, values)),
        ("factors", "Latent dimensions against factors", factors, factors_size,
         lambda f: plots.plot_factors(mu, factors, f.subplots(), active)),
        ("latent_factors", "Test images in the latent plane, coloured by factor",
         factors and latent_dim == 2, (11, 5.2), lambda f: _latent_factors(f, mu, factors)),
    ]  # fmt: skip
    if is_table:
        values = 0.0, 1.0
        table = [row for row in table if row[0] in ("training", "latent", "kl")]
        table += _of_table(vae, data, x, mu[0], active, rng)
        table.sort(key=lambda row: FIGURES.index(row[0]))
    name, paths = _name_range(data.name, values), []
    for stem, title, possible, size, draw in table:
        if possible:
            paths.append(Path(folder) / f"{stem}.{format}")
            _write(paths[-1], title, name, draw, write, size)
    return paths


def _of_table(
    vae: VAE, data: Dataset, images: Images, mu: Array, dimensions: Sequence[int],
    rng: np.random.Generator | int | None,
) -> list[Row]:  # fmt: skip
    """Return the figures of a table in place of pictures; `images`, (B, D), are test rows."""
    size, names, scaling = tables.table_size(vae.data_dim), data.columns, vae.scaling
    few = min(2000, max(50, 2**21 // vae.data_dim))  # rows, to bound the memory
    x = to_float(images[:few], vae.input_dtype)
    drawn = vae.sample(few, rng, noise=True)
    return [
        ("reconstructions", "Test rows and their reconstructions", True, size,
         lambda f: tables.draw_reconstructions(f, x, vae.reconstruct(x), names, scaling)),
        ("samples", "Columns of test rows and of draws from the model", True, size,
         lambda f: tables.draw_samples(f, drawn, x, names, scaling)),
        ("traversals", "Latent traversals of a test row", True, size,
         lambda f: tables.draw_traversals(f, vae.decode, mu, dimensions, names, scaling)),
    ]  # fmt: skip


def save_samples(
    path: str | os.PathLike[str], images: Array, image_shape: Shape | None, *, name: str,
    columns: Sequence[str] = (), scaling: Scaling | None = None, write: Write = atomic_write,
) -> None:  # fmt: skip
    """Write images (N, D) as one square picture, with `name` in its title.

    The suffix of `path`, one of `FORMATS`, is the format. If values lie outside [0, 1], black is
    the least and white the greatest. Without an image shape, draw the distribution of each column.
    """
    path = Path(path)
    check_choice("format", path.suffix.removeprefix("."), FORMATS)
    if image_shape is None:
        _write(
            path, "Samples from the prior", _name_range(name, (0, 1)),
            lambda f: tables.draw_samples(f, images, None, columns, scaling), write,
            tables.table_size(images.shape[1]),
        )  # fmt: skip
        return
    shape = image_shape
    values = value_range(images)
    _write(
        path, "Samples from the prior", _name_range(name, values),
        lambda f: plots.plot_samples(images, shape, f.subplots(), values), write,
    )  # fmt: skip


def save_reconstructions(
    path: str | os.PathLike[str], x: Array, again: Array, image_shape: Shape | None, *, name: str,
    columns: Sequence[str] = (), scaling: Scaling | None = None, write: Write = atomic_write,
) -> None:  # fmt: skip
    """Write images and their reconstructions, both (N, D), as one picture; see `save_samples`."""
    path, values = Path(path), value_range(x)
    check_choice("format", path.suffix.removeprefix("."), FORMATS)
    if image_shape is None:
        _write(
            path, "Rows and their reconstructions", _name_range(name, (0, 1)),
            lambda f: tables.draw_reconstructions(f, x, again, columns, scaling), write,
            tables.table_size(x.shape[1]),
        )  # fmt: skip
        return
    shape = image_shape
    _write(
        path, "Images and their reconstructions", _name_range(name, values),
        lambda f: plots.plot_reconstructions(x, again, shape, f.subplots(), values), write,
    )  # fmt: skip


def _write(
    path: Path, title: str, name: str, draw: Draw, write: Write, size: tuple[float, float] = SIZE
) -> None:
    """Write one figure of `size` inches; one that shows a picture is resized to fit it."""
    with mpl.rc_context(OWN):
        figure = Figure(size, DPI, layout="constrained")
        draw(figure)
        pictures = figure.axes[0].images
        room = 10.6 * (NARROWEST if pictures else size[0])  # characters in a line
        space = " " if len(title + name) < room else "\n"
        figure.suptitle(f"{title}{space}({name})", parse_math=False)
        if pictures:
            _fit(figure, figure.axes[0])
        write_figure(figure, path, write)


def write_figure(figure: Figure, path: Path, write: Write) -> None:
    """Write a figure in the format of the suffix, whole or not at all."""
    format = path.suffix.removeprefix(".")
    with write(path) as stream:
        dpi = DPI if format == "png" else 2 * DPI
        figure.savefig(stream, format=format, dpi=dpi, metadata=UNDATED.get(format))


def _name_range(name: str, values: tuple[float, float]) -> str:
    """Return the data's name for a title, with the values of black and white if not 0 and 1."""
    glyphs = get_font(findfont("DejaVu Sans")).get_charmap()  # matplotlib's own font
    name = "".join(c if ord(c) in glyphs else "?" for c in name)
    name = name if len(name) <= 40 else f"{name[:39]}…"
    return name if values == (0, 1) else f"{name}; black {values[0]:.3g}, white {values[1]:.3g}"


def _factors(data: Dataset, n: int) -> dict[str, Array]:
    """Return the real-valued factors of the first n test images, by name."""
    if data.test_factors is None:
        return {}
    table = data.test_factors[:n]
    return {f: table[f] for f in table.dtype.names or () if table[f].dtype.kind == "f"}


def _grid(shape: Shape, rows: int, columns: tuple[int, ...]) -> tuple[int, int]:
    """Return how many rows and columns of images fit into a figure, up to the given numbers."""
    height, width = shape[:2]
    across = next((n for n in columns if n * width <= 2 * WIDEST), columns[-1])
    down = min(2 * WIDEST, 2 * across * width) // height  # at most twice as high as wide
    return max(1, min(rows, down)), across


def _pairs(labels: Array | None, n: int, most: int) -> Array:
    """Return up to `most` pairs, (R, 2), of n images, with different labels where possible."""
    if labels is None or len(np.unique(labels)) == 1:
        labels = np.arange(n)
    left = list(range(n))
    pairs: list[tuple[int, int]] = []
    while left and len(pairs) < most:
        first = left.pop(0)
        other = next((i for i in left if labels[i] != labels[first]), None)
        if other is not None:
            left.remove(other)
            pairs.append((first, other))
    return np.array(pairs)


def _terms(figure: Figure, history: Sequence[Record], kept_epoch: int | None) -> None:
    for ax, term in zip(figure.subplots(1, len(plots.TERMS)), plots.TERMS, strict=True):
        plots.plot_training(history, ax, term, kept_epoch)


def _latent_factors(figure: Figure, mu: Array, factors: dict[str, Array]) -> None:
    """Draw the latent plane coloured by each factor, on shared axes."""
    columns = min(4, len(factors))
    rows = -(-len(factors) // columns)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for i, (ax, (name, value)) in enumerate(zip(axes, factors.items(), strict=False)):
        plots.plot_latent(mu, value, ax, name=UNITS.get(name, ""))
        ax.set_title(name.replace("_", " "))
        if i % columns:
            ax.set_ylabel("")
        if i + columns < len(factors):
            ax.set_xlabel("")
        ax.tick_params(labelbottom=i + columns >= len(factors))
    for ax in axes[len(factors) :]:
        ax.remove()


def _fit(figure: Figure, ax: Axes) -> None:
    """Resize the figure to its picture, with a whole number of dots per pixel if possible.

    Otherwise some pixels, and some gaps, would be larger than others.
    """
    picture = np.array(ax.images[0].get_size()[::-1])  # width, height
    dots = min(max(1, min(4, WIDEST // max(picture))), 2 * WIDEST / max(picture))
    inside = picture * dots / figure.dpi
    # Let the Axes fill the layout, which would take space beside the picture for label space.
    ax.set_aspect("auto")
    for _ in range(2):  # how far tick labels reach out depends a little on the size
        figure.draw_without_rendering()
        size, corners = figure.get_size_inches(), ax.get_position().get_points()
        below, above = size * corners[0], size * (1 - corners[1])  # left and bottom, right and top
        size = np.maximum(inside + below + above, (NARROWEST, 0))
        figure.set_size_inches(size)
    figure.set_layout_engine("none")
    ax.set_position((*((below + (size - above - inside)) / 2 / size), *(inside / size)))
