"""What a command was asked for, checked before anything is written, and refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..checks import check_whole
from ..data import Dataset, binarized, load_array, load_mnist, split_validation
from ..digits import load_digits
from ..likelihood import Gaussian, LearnedGaussian, Likelihood, make_likelihood
from ..vae import VAE


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line."""


def one_line(error: Exception) -> str:
    """Return what went wrong as one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"out of memory {error}".strip()
    return " ".join(str(error).split())


def load_images(name: str, data_dir: str | None) -> Dataset:
    """Return the data set of this name, or of this file."""
    if data_dir is not None and name != "mnist":
        raise ValueError(f"--data-dir applies to --data mnist, not to --data {name}")
    if name == "digits":
        return load_digits()
    if name == "mnist":
        return load_mnist(data_dir)
    if not Path(name).exists():
        raise ValueError(f"--data is {name!r}, must be digits, mnist or an existing file")
    return load_array(name)


def divided(data: Dataset, binarize: str, validation: int) -> Dataset:
    """Return the data as they are trained on: binarized, and some set aside for validation."""
    check_whole("--validation", validation, 0, len(data.train) - 1)
    # In this order, so that a training image is drawn alike whatever is set aside.
    return split_validation(binarized(data, binarize), validation)


def sizes(vae: VAE) -> str:
    """Return the widths from the image to z, such as 784-400-20."""
    return "-".join(map(str, (vae.data_dim, *vae.hidden, vae.latent_dim)))


def likelihood_of(name: str, variance: float | None) -> Likelihood:
    """Return the likelihood of this name and, if it is a Gaussian, this variance."""
    if variance is None:
        return make_likelihood(name)
    if name == "gaussian":
        return Gaussian(variance)
    if name == "learned_gaussian":
        return LearnedGaussian(np.log([variance]))
    raise ValueError(f"--variance applies to a gaussian --likelihood, not to {name}")
