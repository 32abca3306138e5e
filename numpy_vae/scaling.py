"""Columns of a table in the model's units: mean 0 and standard deviation 1.

Axes: N rows, D columns.

Measurements come in units of their own, such as metres beside years. The model reads and decodes

    x~ = (x - m) / s        x = m + s x~        m, s (D,): mean and standard deviation of a column

and its density in the units of the data follows by the change of variables,

    log p(x) = log p(x~) - Σ_d log s_d

The sum is a constant, so no gradient changes, but values of log p(x) do: see `VAE.terms`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from .params import Array

if TYPE_CHECKING:
    from .data.mapped import Images

ROWS = 500  # read at once
CONSTANT = 1e-13  # a column whose standard deviation is less than this times its mean is constant


@dataclass(frozen=True, eq=False)
class Scaling:
    """The mean and the scale of each column. ValueError if they are not usable."""

    mean: Array  # (D,) float64, in the units of the data
    scale: Array  # (D,) float64, > 0

    def __post_init__(self) -> None:
        for name in "mean", "scale":
            object.__setattr__(self, name, np.array(getattr(self, name), np.float64))
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape:
            raise ValueError(
                f"mean has shape {self.mean.shape} and scale {self.scale.shape}, both must be (D,)"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scale).all()):
            raise ValueError("the mean or the scale of a column is not finite, all must be")
        if not (self.scale > 0).all():
            raise ValueError(f"the smallest scale is {self.scale.min():g}, must be greater than 0")

    @classmethod
    def of(cls, images: Images) -> Self:
        """Return the mean and the standard deviation of each column of floats (N, D).

        A constant column gets the scale 1.
        """
        if images.dtype.kind != "f" or images.ndim != 2 or len(images) == 0:
            raise ValueError(
                f"the rows to scale are {images.dtype} {images.shape}, must be floats (N, D) with N"
                " at least 1"
            )
        n = len(images)
        blocks = [slice(start, start + ROWS) for start in range(0, n, ROWS)]
        mean = sum(images[rows].sum(axis=0, dtype=np.float64) for rows in blocks) / n
        scale = np.sqrt(sum(((images[rows] - mean) ** 2).sum(axis=0) for rows in blocks) / n)
        return cls(mean, np.where(scale > CONSTANT * np.abs(mean), scale, 1.0))

    def forward(self, x: Array) -> Array:
        """(x - m) / s, shaped like x."""
        return (x - self.mean) / self.scale

    def back(self, x: Array) -> Array:
        """m + s x, shaped like x."""
        return self.mean + self.scale * x

    @property
    def log_volume(self) -> float:
        """Σ_d log s_d, in nats."""
        return float(np.log(self.scale).sum())
