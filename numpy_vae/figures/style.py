"""What all plots share: their colours, their axes, the names of latent dimensions."""

from __future__ import annotations

from matplotlib.axes import Axes

# Safe for colour-blind readers: the "muted" scheme of P. Tol, "Colour Schemes",
# SRON/EPS/TN/09-002, 2021, and black.
COLOURS = (
    "#332288", "#88ccee", "#44aa99", "#117733", "#999933",
    "#ddcc77", "#cc6677", "#882255", "#aa4499", "#000000",
)  # fmt: skip


def axes_or_new(ax: Axes | None) -> Axes:
    """Return `ax`, or the Axes of a new pyplot figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def z_name(dimension: int) -> str:
    """Return the label of a latent dimension: z_1 for 0."""
    return f"$z_{{{dimension + 1}}}$"


def signed(number: float, form: str = "") -> str:
    """Return a number as text, with a true minus sign instead of a hyphen."""
    return f"{number:{form}}".replace("-", "\N{MINUS SIGN}")
