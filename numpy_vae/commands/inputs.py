"""What a command was asked for, found and checked before anything is written, or refused."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import check_whole, overflow_raises
from ..data.arrays import load_array
from ..data.binarize import binarize
from ..data.dataset import Dataset, fingerprint, guess_image_shape, split_validation
from ..data.digits import load_digits
from ..data.mapped import Images
from ..data.mnist import load_mnist
from ..files import check_writable
from ..likelihood import Gaussian, LearnedGaussian, Likelihood, make_likelihood
from ..runs.checkpoint import Checkpoint
from ..runs.directory import FILES, open_run
from ..runs.owned import OwnFiles
from ..runs.progress import complain
from ..vae import VAE

NAMED = ("digits", "mnist")  # the data sets that are no files


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line."""


@contextmanager
def refusals() -> Iterator[None]:
    """Refuse in one line what the block finds wrong with what the user asked for (UsageError)."""
    try:
        yield
    except (ValueError, OSError, MemoryError, ImportError) as error:
        raise UsageError(one_line(error)) from None


def one_line(error: Exception) -> str:
    """Return what went wrong as one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, MemoryError):
        text = f"out of memory {error}"
    return " ".join(text.split())


def check_drawing() -> None:
    """Import matplotlib now, so that a broken installation is reported before the work begins.

    Commands open no window, so MPLBACKEND is ignored. Matplotlib's own warnings, such as those
    about its cache or missing fonts, are not shown.
    """
    import logging

    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        from ..figures import of_a_run as figures  # noqa: F401
    except Exception as error:  # for example if matplotlibrc is not a text file
        raise ImportError(f"matplotlib cannot be imported: {error}") from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


@contextmanager
def arithmetic_of(run: str) -> Iterator[None]:
    """If the model overflows in the block, raise FloatingPointError that names the run."""
    try:
        with overflow_raises():
            yield
    except FloatingPointError as error:
        raise FloatingPointError(f"the model of {run} overflows: {error}") from None


def load_images(
    name: str, data_dir: str | None, image_shape: tuple[int, int] | None = None
) -> Dataset:
    """Return the data set of this name, or of this file, its images perhaps of this shape."""
    if data_dir is not None and name != "mnist":
        raise ValueError(f"--data-dir applies to --data mnist, not to --data {name}")
    if name == "digits":
        data = load_digits()
    elif name == "mnist":
        data = load_mnist(data_dir)
    elif Path(name).exists():
        data = load_array(name)
    else:
        raise ValueError(f"--data is {name!r}, must be digits, mnist or an existing file")
    if image_shape is None or image_shape == data.image_shape:
        return data
    check_image_shape(image_shape, data.train.shape[1])
    if data.image_shape is not None:
        raise ValueError(
            f"--image-shape is {times(image_shape)}, must be {times(data.image_shape)}, the shape "
            f"of the images of --data {name}"
        )
    return replace(data, image_shape=image_shape)


def times(image_shape: tuple[int, int]) -> str:
    """Return a shape such as 8x8."""
    return "x".join(map(str, image_shape))


def check_image_shape(image_shape: tuple[int, int], data_dim: int) -> tuple[int, int]:
    """Return the shape, if it has as many pixels as an image; else raise ValueError."""
    height, width = image_shape
    if height * width != data_dim:
        raise ValueError(
            f"--image-shape is {times(image_shape)}, of {height * width} pixels, must be of the "
            f"{data_dim} of an image"
        )
    return image_shape


def shape_of(state: Checkpoint, asked: tuple[int, int] | None) -> tuple[int, int]:
    """Return the shape of an image of a run: the one asked for, its own, or a guess."""
    data_dim, own = state.vae.data_dim, state.settings["image_shape"]
    if asked is not None:
        return check_image_shape(asked, data_dim)
    return guess_image_shape(data_dim) if own is None else check_image_shape(tuple(own), data_dim)


def check_width(images: Images, vae: VAE) -> None:
    """Raise ValueError unless the images, (N, D), have as many pixels as those of the model."""
    if images.shape[1] != vae.data_dim:
        raise ValueError(
            f"the images have {images.shape[1]} pixels, must have {vae.data_dim} as in the run"
        )


def free_path(own: OwnFiles, out: str | None, default: str, suffixes: Sequence[str]) -> Path:
    """Return the file to write: `default` in the run, or `out`, which ends in one of `suffixes`."""
    path = own.folder / default if out is None else Path(out)
    if path.suffix not in suffixes:
        raise ValueError(f"--out is {out}, must end in {', '.join(suffixes)}")
    if path.is_dir():
        raise ValueError(f"--out {path} is a folder, must be a file")
    if path.resolve().parent == own.folder.resolve() and path.name in FILES:
        raise ValueError(f"--out {out} is a part of the run, must be another file")
    own.check_free(path)
    if own.folder.is_dir():  # if not, `open_run` refuses it next
        check_writable(path.parent)
    return path


def say_if_gone_on(state: Checkpoint, own: OwnFiles, out: Path) -> None:
    """Warn if the run has a newer model than the one that `out` shows."""
    with suppress(ValueError, OSError):
        if open_run(own.folder).model_id != state.model_id:
            complain(f"{own.folder} was trained further meanwhile: {out} shows an older model")


def check_not_read(out: Path, source: str) -> None:
    """Raise ValueError if the output file is the file that the images come from."""
    if out.exists() and Path(source).exists() and out.samefile(source):
        raise ValueError(f"--out {out} is the file that the images come from, must be another file")


def data_of(
    state: Checkpoint,
    name: str | None = None,
    data_dir: str | None = None,
    image_shape: tuple[int, int] | None = None,
) -> Dataset:
    """Return the data of a run as it was trained on them; `name` and `data_dir` where they are."""
    settings = state.settings
    name = name or settings["data"]
    if name == settings["data"] and name not in NAMED and not Path(name).exists():
        raise ValueError(
            f"the run was trained on {name}, which is not there; --data FILE says where it is now"
        )
    if name == settings["data"]:
        data_dir = data_dir or settings["data_dir"]
    data = load_images(name, data_dir)
    check_width(data.train, state.vae)
    if fingerprint(data) != settings["fingerprint"]:
        raise ValueError(
            f"--data {name} does not hold the images that the run was trained on, must be those of "
            f"{settings['data']}"
        )
    data = replace(data, image_shape=shape_of(state, image_shape))
    return prepared(data, settings["binarize"], settings["validation"])


def name_of(settings: Mapping[str, Any]) -> str:
    """Return what the data of a run are called, without loading them."""
    return settings.get("name") or Path(settings["data"]).stem


def prepared(data: Dataset, mode: str, validation: int) -> Dataset:
    """Return the data as they are trained on: binarised, and some set aside for validation."""
    check_whole("--validation", validation, 0, len(data.train) - 1)
    # In this order, so that a training image is drawn alike whatever is set aside.
    return split_validation(binarize(data, mode), validation)


def described(vae: VAE) -> str:
    """Return what a model is, such as 784-400-20 relu, bernoulli."""
    sizes = "-".join(map(str, (vae.data_dim, *vae.hidden, vae.latent_dim)))
    return f"{sizes} {vae.activation}, {vae.likelihood.name}"


def likelihood_of(name: str, variance: float | None) -> Likelihood:
    """Return the likelihood of this name and, if it is a Gaussian, this variance."""
    if variance is None:
        return make_likelihood(name)
    if name == "gaussian":
        return Gaussian(variance)
    if name == "learned_gaussian":
        return LearnedGaussian(np.log([variance]))
    raise ValueError(f"--variance applies to a gaussian --likelihood, not to {name}")
