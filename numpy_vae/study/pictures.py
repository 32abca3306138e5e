"""Rows of images, as three of the figures show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..data.dataset import Dataset, Shape, guess_image_shape
from ..params import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def shape_of(data: Dataset) -> Shape:
    """Height and width of an image, guessed where the data do not say."""
    return data.image_shape or guess_image_shape(data.train.shape[1])


def draw_rows(ax: Axes, rows: Mapping[str, Array], shape: Shape) -> None:
    """Show the images of each row, (n, D) with values in [0, 1], beside its name."""
    height = shape[0]
    strips = [np.hstack([*images.reshape(-1, *shape)]) for images in rows.values()]
    ax.imshow(np.vstack(strips), cmap="gray_r", vmin=0, vmax=1)
    ax.set_xticks(())
    ax.set_yticks([(i + 0.5) * height for i in range(len(rows))], list(rows))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
