"""Plots of tables: rows of D values that are not images.

A table of up to `PANELS` columns gets a panel for each. A wider one is drawn as lines over the
number of the column: as it is if its columns have one unit, as spectra do, and in standard
deviations from the mean where the model standardises them.

Letters of this module: N rows, D columns, Z latent dimensions. `names` has the D names, if known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.dataset import column_names
from ..params import Array
from ..scaling import Scaling
from .mosaics import REACH, Decode
from .style import COLOURS, z_name

PANELS = 12
ROWS = 6  # shown as lines
QUANTILES = (0.05, 0.5, 0.95)
DATA, MODEL = COLOURS[1], COLOURS[0]


def table_size(d: int) -> tuple[float, float]:
    """Return the size of a figure of D columns, in inches."""
    if d > PANELS:
        return 8.0, 4.5
    rows = -(-d // 4)
    return 2.3 * min(d, 4) + 0.8, 2.0 * rows + 1.0


def panels(figure: Figure, names: Sequence[str]) -> list[Axes]:
    """Return an Axes for each name, as its title, up to four in a row."""
    across = min(4, len(names))
    down = -(-len(names) // across)
    axes = list(figure.subplots(down, across, squeeze=False).ravel())
    for ax in axes[len(names) :]:
        ax.remove()
    for ax, name in zip(axes, names, strict=False):
        ax.set_title(name, fontsize="medium", parse_math=False)
        ax.tick_params(labelsize="small")
    return axes[: len(names)]


def in_one_unit(x: Array, scaling: Scaling | None) -> tuple[Array, str]:
    """Return rows (N, D) whose columns can share an axis, and the label of the axis."""
    if scaling is None:
        return x, "value"
    return scaling.forward(x), "value, in standard deviations from the mean"


def draw_reconstructions(
    figure: Figure, x: Array, again: Array, names: Sequence[str], scaling: Scaling | None
) -> None:
    """Draw rows against their reconstructions, both (N, D)."""
    d = x.shape[1]
    if d <= PANELS:
        for i, ax in enumerate(panels(figure, column_names(names, d))):
            ends = min(x[:, i].min(), again[:, i].min()), max(x[:, i].max(), again[:, i].max())
            ax.plot(ends, ends, color=COLOURS[9], lw=0.6)
            ax.plot(x[:, i], again[:, i], ".", color=MODEL, ms=4, mew=0, alpha=0.7)
        figure.supxlabel("value", fontsize="medium")
        figure.supylabel("reconstruction", fontsize="medium")
        return
    ax = figure.subplots()
    (rows, unit), (lines, _) = (in_one_unit(values[:ROWS], scaling) for values in (x, again))
    apart = 1.1 * max(float(np.ptp(rows)), float(np.ptp(lines))) if len(rows) > 1 else 0.0
    across = np.arange(1, d + 1)
    for i, (row, line) in enumerate(zip(rows, lines, strict=True)):
        lower = -i * apart
        ax.plot(across, row + lower, color=DATA, lw=2, label=None if i else "test row")
        ax.plot(across, line + lower, color=MODEL, lw=0.9, label=None if i else "reconstruction")
    ax.set(xlabel="column", ylabel=f"{unit}; rows one below another", yticks=[])
    ax.legend(loc="upper right", ncols=2, frameon=False, bbox_to_anchor=(1, 1.09))


def draw_samples(
    figure: Figure, drawn: Array, x: Array | None, names: Sequence[str], scaling: Scaling | None
) -> None:
    """Draw the distribution of each column: of x ~ p(x), (N, D), and of the data, if given."""
    d = drawn.shape[1]
    sets = [("drawn from the model", drawn, MODEL)]
    sets = [*([("data", x, DATA)] if x is not None else []), *sets]
    if d <= PANELS:
        for i, ax in enumerate(panels(figure, column_names(names, d))):
            low, high = np.quantile(np.concatenate([v[:, i] for _, v, _ in sets]), (0.002, 0.998))
            bins = np.linspace(low, high if high > low else low + 1, 25)
            for label, values, colour in sets:
                filled = label == "data"
                ax.hist(
                    np.clip(values[:, i], bins[0], bins[-1]), bins.tolist(), density=True,
                    color=colour, histtype="stepfilled" if filled else "step", lw=1.2,
                    label=label if i == 0 else None,
                )  # fmt: skip
            ax.set_yticks([])
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        return
    ax = figure.subplots()
    across = np.arange(1, d + 1)
    unit = ""
    for label, values, colour in sets:
        shown, unit = in_one_unit(values, scaling)
        low, middle, high = np.quantile(shown, QUANTILES, axis=0)
        if label == "data":
            ax.fill_between(
                across, low, high, color=colour, alpha=0.5, lw=0, label="data, 5 to 95 %"
            )
            ax.plot(across, middle, color=colour, lw=2, label="data, median")
        else:
            ax.plot(across, middle, color=colour, lw=1.2, label=f"{label}, median")
            for edge in low, high:
                ax.plot(across, edge, ":", color=colour, lw=1.2,
                        label=f"{label}, 5 and 95 %" if edge is low else None)  # fmt: skip
    ax.set(xlabel="column", ylabel=unit)
    ax.margins(x=0.01)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)


def draw_traversals(
    figure: Figure, decode: Decode, mu: Array, dimensions: Sequence[int], names: Sequence[str],
    scaling: Scaling | None,
) -> None:  # fmt: skip
    """Draw the decoded row as one latent dimension at a time goes from -3 to 3, the others at mu.

    `mu` is (Z,), such as the posterior mean of a row.
    """
    dimensions = list(dimensions[:ROWS])
    steps = np.linspace(-REACH, REACH, 25)
    rows = []
    for j in dimensions:
        z = np.tile(np.asarray(mu, np.float64), (len(steps), 1))
        z[:, j] = steps
        rows.append(np.asarray(decode(z)))
    d = rows[0].shape[1]
    if d <= PANELS:
        for i, ax in enumerate(panels(figure, column_names(names, d))):
            for j, values in zip(dimensions, rows, strict=True):
                colour = COLOURS[(0, 2, 5, 6, 7, 9)[dimensions.index(j)]]
                ax.plot(steps, values[:, i], color=colour, lw=1.2,
                        label=None if i else z_name(j))  # fmt: skip
        figure.supxlabel("latent dimension, the others as encoded", fontsize="medium")
        figure.legend(loc="outside right upper", frameon=False)
        return
    axes = panels(figure, [z_name(j) for j in dimensions])
    for ax, values in zip(axes, rows, strict=True):
        ax.set_title(ax.get_title(), parse_math=True)
        shown, unit = in_one_unit(values[::6], scaling)
        for k, row in enumerate(shown):
            ax.plot(np.arange(1, d + 1), row, color=COLOURS[(0, 2, 4, 5, 6)[k]], lw=0.9,
                    label=f"{steps[6 * k]:+.1f}" if ax is axes[0] else None)  # fmt: skip
    figure.supxlabel("column", fontsize="medium")
    figure.supylabel(unit, fontsize="medium")
    figure.legend(loc="outside right upper", frameon=False, title="at")
