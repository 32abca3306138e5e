"""``numpy-vae train``: train a model and write a run directory."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..runs.directory import open_run
from ..runs.images import shape_images
from ..runs.progress import Progress, complain
from ..runs.run import Run
from ..scaling import CONSTANT
from ..seeds import spawn_streams
from ..training.overflow import first_loss, large_values, remedy
from ..training.recipe import SETTINGS, Recipe
from .arguments import (
    Subparsers,
    add_command,
    add_data_dir,
    add_model_arguments,
    add_reading,
    add_seed,
    add_setting,
    image_shape,
    path,
    reading_of,
)
from .inputs import (
    UsageError,
    check_drawing,
    load_moved_data,
    load_training_data,
    make_model,
    one_line,
    refusals,
    scaling_of,
)

HIDDEN, LATENT = (400,), 20
RESUMED_WITH = (
    "command", "execute", "resume", "epochs", "patience", "threads", "lr", "data", "data_dir",
    "quiet",
)  # fmt: skip

DESCRIPTION = """\
Train a variational autoencoder on images, and write its parameters, metrics and figures to a run
directory. Without options it trains on synthetic digits, in about a minute.

  numpy-vae train                                    synthetic digits, nothing to download
  numpy-vae train --data mnist                       real MNIST, downloaded once (11 MB)
  numpy-vae train --data mnist --latent 2            with pictures of the latent plane
  numpy-vae train --data faces.npy --likelihood learned_gaussian
  numpy-vae train --data mnist --bound iwae --samples 5
  numpy-vae train --data mnist --epochs 200 --validation 5000 --patience 10
  numpy-vae train --resume runs/mnist-1              continue a run that was stopped or killed
"""

RUN_DIRECTORY = """\
The run directory holds checkpoint.npz (the whole run; VAE.load reads its model), config.json (the
settings), history.csv (one row per epoch), metrics.json (the result) and figures/*.png. The result
is test_elbo, the evidence lower bound on the test images in nats per image; higher is better.
Compare only results with the same --data, --binarize and --likelihood.

The checkpoint is written before the first step and after every epoch, whole or not at all. On the
same machine, with the same number of threads and BLAS threads, a run that was stopped at any moment
and resumed ends with the same bits as an uninterrupted one, except for its times. Ctrl-C stops
after the current step, and writes the result of the last whole epoch.
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae train``; options that are not given are None."""
    summary = "train a model and write a run directory"
    command = add_command(commands, "train", run, summary, DESCRIPTION, RUN_DIRECTORY)
    data = command.add_argument_group("data")
    data.add_argument(
        "--data", type=path, metavar="digits|mnist|FILE|FOLDER",
        help="synthetic digits (default), real MNIST, a file (.npy, .npz, .csv, .tsv, .txt, .amat, "
        ".mat or IDX) or a folder of PNG or JPEG pictures; one array is split, 5/6 for training "
        "and 1/6 for testing; an .npz may hold the split, as x_train and x_test (y_train, y_test)",
    )  # fmt: skip
    data.add_argument(
        "--image-shape", type=image_shape, metavar="HxW",
        help="height and width of the images of a FILE of shape (N, D), such as 8x8, or 8x8x3 in "
        "colour (default: as square as D allows, if they are images)",
    )  # fmt: skip
    add_reading(data)
    add_data_dir(data)
    data.add_argument(
        "--standardize", action=argparse.BooleanOptionalAction, default=None,
        help="subtract the mean of each column of the training rows, and divide by its standard "
        "deviation; results stay in the units of the data (default: for tables with a learned "
        "variance)",
    )  # fmt: skip
    add_model_arguments(command, HIDDEN, LATENT)
    training = command.add_argument_group("training")
    for name in SETTINGS:
        of_data = "dynamic for bernoulli, none for the others" if name == "binarize" else ""
        add_setting(training, name, of_data)
    add_seed(
        training,
        "random seed; on the same machine, with the same number of threads and BLAS threads, it "
        "gives the same parameters, bit for bit",
        None,
    )
    training.add_argument(
        "--resume", type=path, metavar="RUN",
        help="continue a run that was stopped, with its own settings; of the other options it "
        "accepts only --epochs, --patience, --threads, --lr, --quiet, and --data or --data-dir (if "
        "the images have moved)",
    )  # fmt: skip
    output = command.add_argument_group("output")
    output.add_argument(
        "--out", type=path, metavar="DIR",
        help="the run directory, new or empty (default: a new one under runs/)",
    )  # fmt: skip
    output.add_argument(
        "--overwrite", action="store_true", default=None,
        help="replace the run in --out and what commands wrote beside it; your own files stay",
    )  # fmt: skip
    quiet = "print only errors"
    output.add_argument("--quiet", action="store_true", default=None, help=quiet)


def recipe_of(args: argparse.Namespace, validation: int = 0) -> Recipe:
    """Return the recipe that the options ask for; `validation` is the size of a file's own set."""
    given = {name: v for name in SETTINGS if (v := getattr(args, name)) is not None}
    binary = args.likelihood in (None, "bernoulli")
    defaults = {"binarize": "dynamic" if binary else "none", "validation": validation}
    return Recipe(**defaults | given)


def begin(args: argparse.Namespace) -> Run:
    """Return a new run."""
    if args.overwrite and args.out is None:
        raise ValueError("--overwrite needs --out")
    reading, seed = reading_of(args, args.image_shape), args.seed or 0
    if args.likelihood == "poisson" and reading.scale is None:
        reading = replace(reading, scale=1.0)  # counts
    data = shape_images(load_training_data(args, reading), args.image_shape)
    recipe = recipe_of(args, 0 if data.validation is None else len(data.validation))
    vae = make_model(
        args, data.train.shape[1], HIDDEN, LATENT, spawn_streams(seed).initialisation,
        scaling_of(args, data, recipe.validation),
    )  # fmt: skip
    return Run.begin(args.out, vae, data, recipe, seed=seed, overwrite=bool(args.overwrite))


def resume(args: argparse.Namespace) -> Run:
    """Return the run of --resume, as of its last checkpoint."""
    given = [name for name, value in vars(args).items() if value is not None]
    if others := [name for name in given if name not in RESUMED_WITH]:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in others)
        raise ValueError(f"--resume does not go with {named}: a run keeps its settings")
    data = load_moved_data(args, open_run(Path(args.resume)))
    return Run.resume(
        args.resume, data, epochs=args.epochs, patience=args.patience, threads=args.threads,
        lr=args.lr,
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """``numpy-vae train``; return its exit status."""
    with refusals():
        check_drawing()
        run = begin(args) if args.resume is None else resume(args)
    progress = Progress(quiet=bool(args.quiet))
    if run.data.summary:
        progress.say(run.data.summary)
    progress.say(str(run))
    if constant := constant_columns(run):
        progress.say(f"constant, so not divided: {constant}")
    try:
        with progress.catch_interrupt():
            try:
                run.train(report=progress)
            except KeyboardInterrupt:
                progress.clear()
                complain(f"interrupted; {describe_standing(run)}")
            if run.is_kept and run.history:
                report(run, run.finish(), progress)
    except ValueError as error:  # another process writes the run
        raise UsageError(one_line(error)) from None
    except (FloatingPointError, MemoryError, OSError) as error:
        progress.clear()
        what, how = one_line(error), "--resume {}"
        if isinstance(error, FloatingPointError):
            cause, how = explain_overflow(run)
            what = f"training stopped at {what}: {cause}"
        where = f"; {describe_standing(run, how)}" if run.is_kept else ""
        complain(f"numpy-vae train: error: {what}{where}")
        return 1
    finally:
        if run.removed:
            progress.say(f"removed, since they show an older model: {', '.join(run.removed)}")
    return 130 if progress.interrupted or run.interrupted else 0


def constant_columns(run: Run) -> str:
    """Return the names of columns that have one value only, if they are standardised."""
    scaling = run.vae.scaling
    if scaling is None:
        return ""
    apart = np.abs(run.data.train[:1][0] - scaling.mean)
    constant = np.flatnonzero((scaling.scale == 1) & (apart <= CONSTANT * np.abs(scaling.mean)))
    names = [f"column {d + 1}" for d in constant]
    return ", ".join(names[:9] + ["..."] * (len(names) > 9))


def explain_overflow(run: Run) -> tuple[str, str]:
    """Return why a training overflowed, and the options that do go on, or "" if none does."""
    vae, data = run.state.vae, run.data  # of the last whole epoch
    if cause := large_values(vae, data):
        return f"{cause}; train anew: {remedy(vae)}", ""
    if not math.isfinite(first_loss(vae, data.train)):
        return "a step was too large, in an earlier epoch; train anew with a smaller --lr", ""
    return "a step was too large", f"--resume {{}} --lr {run.recipe.lr / 10:g}"


def describe_standing(run: Run, how: str = "--resume {}") -> str:
    """Return what the disk holds of a run that has stopped, and with which options to go on."""
    try:
        kept = f"the run is saved as of epoch {len(open_run(run.folder).history)}"
    except (ValueError, OSError, MemoryError):
        return f"{run.folder} does not hold a readable run"
    folder = shlex.quote(str(run.folder))
    return f"{kept}; continue with: numpy-vae train {how.format(folder)}" if how else kept


def report(run: Run, metrics: Mapping[str, Any], progress: Progress) -> None:
    """Print the result of a run, and which files were written and which were not."""
    if metrics["stopped_early"]:
        progress.say(f"stopped: no higher validation ELBO for {run.recipe.patience} epochs")
    if logvars := metrics.get("likelihood.logvar"):
        ends = [f"{math.exp(end):.4g}" for end in {min(logvars), max(logvars)}]
        progress.say(f"learned variance {' to '.join(sorted(ends, key=float))}")
    best = f"; epoch {metrics['kept_epoch']}, the best on the validation set"
    best = best if "best" in run.state.vectors else ""
    progress.say(
        f"test ELBO {metrics['test_elbo']:.3f} nats per image (binarize {run.recipe.binarize}, one "
        f"draw of the noise{best})"
    )
    if kept := run.own.kept:
        names = ", ".join(sorted(str(file.relative_to(run.folder)) for file in kept))
        why = "since they are not the files that the run wrote (move or delete them, then --resume)"
        complain(f"numpy-vae train: not replaced in {run.folder}, {why}: {names}")
    figures = [f"figures/{file.name}" for file in run.figures if file not in kept]
    progress.say(f"written to {run.folder}: {', '.join(figures) or 'no figures'}")
