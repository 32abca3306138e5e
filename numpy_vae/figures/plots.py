"""Plots of a training run and of the trained model, with those of `mosaics`.

Every ``plot_`` function draws on the Axes `ax`, or on a new pyplot figure, and returns the Axes.

Letters of this module: N images; Z latent dimensions (from 0 in arguments, from 1 in the figures).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ..checks import check_choice
from ..params import Array
from ..training.evaluate import ACTIVE, active_dimensions
from ..training.state import Record
from .mosaics import (
    plot_interpolations,
    plot_manifold,
    plot_reconstructions,
    plot_samples,
    plot_traversals,
)
from .style import COLOURS, axes_or_new, signed, z_name

__all__ = [
    "plot_factors", "plot_interpolations", "plot_kl", "plot_latent", "plot_manifold",
    "plot_reconstructions", "plot_samples", "plot_training", "plot_traversals",
]  # fmt: skip

INACTIVE: dict[str, Any] = {"facecolor": "white", "edgecolor": COLOURS[6], "hatch": "////"}
TERMS = {  # of the objective, each with the title of its plot and the sign it is drawn with
    "elbo": ("$-$ELBO", -1),
    "reconstruction": (r"Reconstruction, $-\log\,p(x\,|\,z)$", 1),
    "kl": (r"KL$(q(z\,|\,x)\;\|\;p(z))$", 1),
}


def plot_training(
    history: Sequence[Record], ax: Axes | None = None, term: str = "elbo",
    kept_epoch: int | None = None,
) -> Axes:  # fmt: skip
    """Draw one of the `TERMS` against the epoch, for the training set and the held-out set.

    The held-out set is the validation set if there is one, else the test set. Epochs without an
    evaluation (None) have no point. The ELBO is drawn as -ELBO: lower is better for every term.
    `history` has at least one record. `kept_epoch`, the best epoch if one was chosen, is marked.

    If the first tenth of the epochs, or the first, lies far from the rest, the axis is cut so that
    the rest can be read. Arrowheads mark the cut epochs, and the legend says how far they reach.
    """
    ax = axes_or_new(ax)
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
        known = [value is not None for value in column]  # a NaN stays, as a gap
        ax.plot(epochs[known], of_set[known], style, marker=marker, ms=4, color=colour, label=label)

    if kept_epoch is not None:
        ax.axvline(kept_epoch, color="0.6", lw=1, ls=":", zorder=0, label="best epoch")
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


def _readable(values: Array) -> tuple[float, float]:
    """Return y limits for `values`, (2, epochs), that keep the later epochs readable."""
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


def plot_latent(
    mu: ArrayLike, values: ArrayLike | None, ax: Axes | None = None,
    dimensions: tuple[int, int] = (0, 1), name: str = "label",
) -> Axes:  # fmt: skip
    """Draw posterior means (N, Z), Z >= 2, in a latent plane; circles are 1 and 2 sd of the prior.

    `values`, (N,), colour the points; `name` is their name or unit. Up to ten different whole
    numbers get a legend, others a colour bar. `dimensions` are those across and up.
    """
    ax, mu = axes_or_new(ax), np.asarray(mu)[:, dimensions]
    across, up = mu.T
    reach = np.max(np.abs(mu), where=np.isfinite(mu), initial=2.0)
    ax.update_datalim([(-reach, -reach), (reach, reach)])  # centre the origin
    box = ax.get_window_extent()
    area = box.width * box.height / ax.figure.dpi**2  # square inches
    size = min(20, max(1.5, 800 * area / len(mu)))
    kinds, rank = np.unique([0] if values is None else values, return_inverse=True)
    whole = kinds.dtype.kind != "f"
    few = whole and len(kinds) <= len(COLOURS)
    colours = COLOURS[2] if values is None else np.array(COLOURS)[rank] if few else values
    # One call for all labels, so that none is drawn on top of the others.
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
    ax.set(xlabel=f"{z_name(dimensions[0])} (mean)", ylabel=f"{z_name(dimensions[1])} (mean)")
    return ax


def _colour_bar(mappable: ScalarMappable, ax: Axes, label: str, ticks: Any = None) -> None:
    """Add a colour bar as high as the Axes, whatever their aspect."""
    inset = ax.inset_axes((1.03, 0, 0.05, 1))
    bar = ax.figure.colorbar(mappable, cax=inset, label=label, ticks=ticks)
    assert bar.solids is not None
    bar.solids.set_alpha(1)  # the points are translucent
    bar.outline.set_visible(False)


def plot_kl(kls: ArrayLike, mus: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw the KL of each latent dimension, averaged over images, as bars in descending order.

    A dimension is active if the variance of its posterior mean over images exceeds `ACTIVE`; the
    legend counts them, unless N = 1. More than 50 bars have no names.

    `kls`, (N, Z), is KL(q(z_j | x) || p(z_j)) in nats. `mus`, (N, Z), are the posterior means.
    """
    ax, mus, kl = axes_or_new(ax), np.asarray(mus), np.mean(np.asarray(kls, np.float64), axis=0)
    order = np.argsort(-kl, kind="stable")
    ranks = np.arange(1, len(kl) + 1)
    bars = ax.bar(ranks, kl[order], width=0.8, color=COLOURS[0])
    handles: list[Patch] = []
    if len(mus) > 1:
        active = active_dimensions(mus)
        for i in np.flatnonzero(~active[order]):
            bars[i].set(**INACTIVE)
        handles = [
            Patch(color=COLOURS[0], label=rf"{active.sum()} active, Var $\mu_j$ > {ACTIVE}"),
            Patch(**INACTIVE, label=f"{(~active).sum()} inactive"),
        ]
    # The legend goes above the bars, where it hides none.
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
    mu: ArrayLike, factors: Mapping[str, ArrayLike], ax: Axes | None = None,
    dimensions: Sequence[int] | None = None,
) -> Axes:  # fmt: skip
    """Draw the correlation of latent dimensions with the factors that the images were made from.

    Each cell is Spearman's rank correlation, over images, of a factor and the posterior mean of a
    dimension: 1 or -1 if one is a monotonic function of the other, blank if one is constant.

    `mu` is (N, Z), N >= 2. Rows are `factors`, real numbers (N,) by name; columns are `dimensions`,
    by default all.
    """
    ax, mu = axes_or_new(ax), np.asarray(mu)
    dimensions = range(mu.shape[1]) if dimensions is None else dimensions
    rows = np.array([_scores(np.asarray(value)) for value in factors.values()])
    columns = np.array([_scores(mu[:, j]) for j in dimensions])
    correlation = rows @ columns.T  # (factors, dimensions)
    # Cells, not an image: they stay sharp in vector formats, with white lines between them.
    cells = ax.pcolormesh(correlation, cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="w", lw=1)
    for (row, column), value in np.ndenumerate(correlation):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 else "black"
            ax.text(column + 0.5, row + 0.5, signed(round(value, 2) + 0.0, ".2f"), color=colour,
                    ha="center", va="center", size="small")  # fmt: skip
    ax.set_xticks(np.arange(len(columns)) + 0.5, [z_name(j) for j in dimensions])
    ax.set_yticks(np.arange(len(rows)) + 0.5, [name.replace("_", " ") for name in factors])
    ax.tick_params(length=0)
    ax.set_frame_on(False)
    ax.invert_yaxis()  # the first factor is the top row
    ax.set_xlabel("latent dimension (posterior mean)")
    _colour_bar(cells, ax, f"Spearman's correlation, {len(mu)} images", [-1, -0.5, 0, 0.5, 1])
    return ax


def _scores(values: Array) -> Array:
    """Return ranks (N,), ties averaged, scaled to mean 0 and norm 1; NaN for constant values.

    The product of two of them is Spearman's correlation, without the slow import of `scipy.stats`.
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2)[inverse]
    ranks -= ranks.mean()
    length = np.linalg.norm(ranks)
    return ranks / length if length > 0 else np.full(len(ranks), np.nan)
