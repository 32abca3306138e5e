"""Find and check what a command was asked for, before anything is written."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import overflow_raises
from ..data.arrays import FewLevelsWarning, Reading, read_images
from ..data.binarize import binarize
from ..data.dataset import Dataset, split_validation
from ..data.load import NAMED, load_data
from ..data.mapped import Images
from ..files import check_writable
from ..likelihood import (
    DiagonalGaussian,
    Gaussian,
    LearnedGaussian,
    Likelihood,
    check_values,
    make_likelihood,
)
from ..runs.directory import FILES, open_run
from ..runs.images import find_data
from ..runs.owned import OwnFiles
from ..runs.progress import complain
from ..scaling import Scaling
from ..training.state import State
from ..vae import VAE
from .arguments import reading_of

# Likelihoods for which the columns of a table are standardised by default.
STANDARDIZED = ("learned_gaussian", "diagonal_gaussian")


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turn an error in the block, about what the user asked for, into a UsageError."""
    try:
        yield
    except (ValueError, OSError, MemoryError, ImportError) as error:
        raise UsageError(one_line(error)) from None


def one_line(error: Exception) -> str:
    """Return an error message as one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, MemoryError):
        text = f"out of memory {error}"
    return " ".join(text.split())


def check_drawing() -> None:
    """Import matplotlib now, so that a broken installation is reported before the work begins.

    Commands open no window, so MPLBACKEND is ignored, and matplotlib's own warnings are silenced.
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
    """If the model overflows in the block, raise a FloatingPointError that names the run."""
    try:
        with overflow_raises():
            yield
    except FloatingPointError as error:
        raise FloatingPointError(f"the model of {run} overflows: {error}") from None


def free_path(own: OwnFiles, out: str | None, default: str, suffixes: Sequence[str]) -> Path:
    """Return the file to write: `default` in the run, or `out`, which ends in one of `suffixes`."""
    path = own.folder / default if out is None else Path(out)
    if path.suffix not in suffixes:
        raise ValueError(f"--out is {out}, must end in {', '.join(suffixes)}")
    if path.is_dir():
        raise ValueError(f"--out {path} is a folder, must be a file")
    if path.resolve().parent == own.folder.resolve() and path.name in FILES:
        raise ValueError(f"--out {out} is part of the run, must be another file")
    own.check_free(path)
    if own.folder.is_dir():  # if not, `open_run` refuses it next
        check_writable(path.parent)
    return path


def say_if_gone_on(state: State, own: OwnFiles, out: Path) -> None:
    """Warn if the run now has a newer model than `out` shows."""
    with suppress(ValueError, OSError):
        if open_run(own.folder).model_id != state.model_id:
            complain(f"{own.folder} has been trained further: {out} shows an older model")


def check_not_read(out: Path, source: str) -> None:
    """Raise ValueError if the output file is the file with the images."""
    if source and out.exists() and Path(source).exists() and out.samefile(source):
        raise ValueError(f"--out {out} is the file with the images, must be another file")


def load_training_data(args: argparse.Namespace, reading: Reading) -> Dataset:
    """Return the data of --data; ValueError if few grey levels make them nearly black."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FewLevelsWarning)
        try:
            return load_data(args.data or "digits", args.data_dir, reading)
        except FewLevelsWarning as warning:
            raise ValueError(f"{args.data_dir or args.data}: {warning}") from None


def load_moved_data(args: argparse.Namespace, state: State) -> Dataset | None:
    """Return the data of a run from --data or --data-dir, or None if neither is given."""
    if args.data is None and args.data_dir is None:
        return None
    settings = state.settings
    name = args.data or settings["data"]
    own = settings["data_dir"] if name == settings["data"] else None
    return load_data(name, args.data_dir or own, Reading.of(settings))


class NewData(NamedTuple):
    """Data for a trained model, binarised as it was trained."""

    name: str
    parts: dict[str, Images]  # (N, D), by "" or train, test, ...
    labels: dict[str, NDArray[Any]]
    label_names: tuple[str, ...]
    draw: bool  # whether pixels are to be drawn
    summary: str = ""  # how a file was understood

    def all_rows(self) -> Images:
        """Return the rows of all parts, (N, D)."""
        parts = [*self.parts.values()]
        return parts[0] if len(parts) == 1 else np.concatenate([np.asarray(x) for x in parts])


def find_own(args: argparse.Namespace, state: State) -> Dataset | None:
    """Return the run's own data, or None if --data names others."""
    if args.data is None:
        return find_data(state, load_moved_data(args, state))
    with suppress(ValueError):
        return find_data(state, load_moved_data(args, state))
    return None


def load_new(args: argparse.Namespace, state: State) -> NewData:
    """Return what --data names, not split, with the scale of the run; or the run's own data."""
    vae, settings = state.kept, state.settings
    mode, name = settings["binarize"], args.data or settings["data"]
    reading = reading_of(args)
    if args.data is None or args.data in NAMED:
        if args.data is None:
            data = find_data(state, load_moved_data(args, state))
        else:
            data = binarize(load_data(args.data, args.data_dir, reading), mode)
        parts: dict[str, Images] = {"train": data.train, "test": data.test}
        of_parts = {"train": data.train_labels, "test": data.test_labels}
        labels = {part: y for part, y in of_parts.items() if y is not None}
        found = NewData(data.name, parts, labels, data.label_names, mode == "dynamic")
    elif args.data_dir is not None:
        raise ValueError(f"--data-dir applies to --data mnist, not to --data {args.data}")
    else:
        # The static draw is of the run's own images; others are drawn like dynamic ones.
        mode = "dynamic" if mode == "static" else mode
        held = read_images(args.data, reading, like=Reading.of(settings).scale)
        parts = {p: binarize(Dataset(args.data, x, x), mode).test for p, x in held.parts.items()}
        said = "; ".join(held.words)
        found = NewData(args.data, parts, held.labels, held.label_names, mode == "dynamic", said)
    for x in found.parts.values():
        if x.shape[1] != vae.data_dim:
            raise ValueError(
                f"--data {name} has {x.shape[1]} values in a row, must have {vae.data_dim}, as"
                f" {args.run}"
            )
        check_values(vae.likelihood, x, f"--data {name}")
    return found


def make_model(
    args: argparse.Namespace, data_dim: int, hidden: Sequence[int], latent: int,
    rng: np.random.Generator | int, scaling: Scaling | None = None,
) -> VAE:  # fmt: skip
    """Return a new model from the options, with these sizes by default."""
    return VAE(
        data_dim, hidden if args.hidden is None else args.hidden, args.latent or latent,
        args.activation or "relu", likelihood_of(args.likelihood or "bernoulli", args.variance),
        rng=rng, scaling=scaling,
    )  # fmt: skip


def scaling_of(args: argparse.Namespace, data: Dataset, validation: int) -> Scaling | None:
    """Return the scaling of --standardize, from the training rows without the validation set.

    It is the default for a table with a learned variance.
    """
    name = args.likelihood or "bernoulli"
    asked = args.standardize
    if asked is None:
        asked = name in STANDARDIZED and data.image_shape is None
    if not asked:
        return None
    if make_likelihood(name).support != (-np.inf, np.inf):
        raise ValueError(f"--standardize applies to a gaussian --likelihood, not to {name}")
    return Scaling.of(split_validation(data, validation).train)


def likelihood_of(name: str, variance: float | None) -> Likelihood:
    """Return the likelihood of this name; `variance` is for a Gaussian only."""
    if variance is None:
        return make_likelihood(name)
    if name == "gaussian":
        return Gaussian(variance)
    if name in ("learned_gaussian", "diagonal_gaussian"):
        kind = LearnedGaussian if name == "learned_gaussian" else DiagonalGaussian
        # In float32 the next to the default, which would be replaced by the variance of the data.
        start = np.float32(np.log(variance))
        start = np.nextafter(start, np.float32(0)) if variance == 0.1 else start
        return kind(np.array([start], np.float64))
    raise ValueError(f"--variance applies to a gaussian --likelihood, not to {name}")
