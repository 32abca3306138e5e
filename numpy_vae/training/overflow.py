"""Why numbers overflow in training, and what helps.

Two causes can be told apart. Values far from 1 make the first loss, and its gradient, enormous:
that is a matter of their units, and no step size helps. Otherwise a step was too large.
"""

from __future__ import annotations

import math

import numpy as np

from ..checks import overflow_raises
from ..data.binarize import to_float
from ..data.dataset import Dataset, column_names
from ..data.mapped import Images, gather
from ..vae import VAE

ROWS = 1000  # that are looked at
LARGE = 1000.0  # a value of this size, in the model's units, is far from 1
HOPELESS = 1000.0  # nats per value, in the first loss


def check_start(vae: VAE, data: Dataset) -> None:
    """Raise ValueError if values far from 1 make the first loss thousands of nats per value."""
    cause = large_values(vae, data)
    if not cause:
        return
    loss = first_loss(vae, data.train)
    if not loss < HOPELESS:
        raise ValueError(
            f"the first loss would be {loss:.2g} nats per value, must be less than {HOPELESS:g}:"
            f" {cause}; {remedy(vae)}"
        )


def large_values(vae: VAE, data: Dataset) -> str:
    """Name the column of the largest value in the model's units; "" if it is not far from 1."""
    x = _some(data.train)
    x = x if vae.scaling is None else vae.scaling.forward(x)
    d = int(np.abs(x).max(axis=0).argmax())
    most = float(np.abs(x[:, d]).max())
    if most < LARGE:
        return ""
    return f"values of {most:.2g} in {column_names(data.columns, x.shape[1])[d]!r}"


def remedy(vae: VAE) -> str:
    """Return what helps against large values."""
    if vae.scaling is not None:
        return "remove the rows with outliers"
    if math.isinf(vae.likelihood.support[0]):
        return "--standardize (scaling=Scaling.of(x)) brings the columns to one scale"
    return "--likelihood diagonal_gaussian standardises the columns"


def first_loss(vae: VAE, images: Images) -> float:
    """Return -log p(x | z) at the posterior mean, plus the KL, per value; NaN if it overflows."""
    x = _some(images)
    try:
        with overflow_raises():
            nll, kl = vae.loss(vae.forward(x, np.zeros((len(x), vae.latent_dim))))
        return float(nll.mean() + kl.mean()) / vae.data_dim
    except FloatingPointError:
        return math.nan


def _some(images: Images) -> np.ndarray:
    rows = np.linspace(0, len(images) - 1, min(len(images), ROWS)).astype(int)
    return to_float(gather(images, rows), np.float64)
