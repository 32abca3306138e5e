"""``numpy-vae train``: train a model and write a run directory."""

from __future__ import annotations

import argparse
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from ..checks import check_whole
from ..data.binarize import BINARIZE
from ..data.dataset import Dataset, fingerprint
from ..likelihood import check_values
from ..optim import MAX_LR, SCHEDULES, Adam, Average
from ..runs.checkpoint import Checkpoint, save_checkpoint
from ..runs.directory import (
    CHECKPOINT,
    LOOP,
    Place,
    begin_run,
    check_usable,
    create_run,
    json_text,
    locked,
    open_run,
    save_run,
)
from ..runs.owned import METRICS, OwnFiles
from ..runs.progress import Progress, complain
from ..training.evaluate import evaluate_elbo
from ..training.loop import (
    MAX_BATCH_SIZE,
    MAX_EPOCHS,
    MAX_SAMPLES,
    Best,
    spawn_streams,
    start_output_bias,
    train_epochs,
)
from ..training.team import MAX_THREADS, MIN_ROWS, suitable_threads
from ..vae import VAE
from .arguments import (
    Subparsers,
    add_command,
    add_data_dir,
    add_model_arguments,
    add_seed,
    given,
    image_shape,
    path,
    real,
    whole,
)
from .inputs import (
    NAMED,
    check_drawing,
    data_of,
    described,
    likelihood_of,
    load_images,
    one_line,
    prepared,
    refusals,
)
from .plot import draw_figures

EPOCHS = 40
RESUMED_WITH = ("resume", "epochs", "patience", "threads", "data", "data_dir", "quiet")

DESCRIPTION = """\
Train a variational autoencoder on images and write the results to a directory: the parameters, the
numbers, and figures. With no options at all it draws a set of synthetic digits and trains on
those, in about a minute.

  numpy-vae train                                    synthetic digits, nothing to download
  numpy-vae train --data mnist                       real MNIST, downloaded once (11 MB)
  numpy-vae train --data mnist --latent 2            with pictures of the latent plane
  numpy-vae train --data faces.npy --likelihood learned_gaussian
  numpy-vae train --data mnist --bound iwae --samples 5
  numpy-vae train --data mnist --epochs 200 --validation 5000 --patience 10
  numpy-vae train --resume runs/mnist-1              go on with a run that was stopped or killed
"""

RUN_DIRECTORY = """\
The run directory holds checkpoint.npz (the run: all it takes to go on with it, and the model, read
with VAE.load), and, for people, config.json (the settings), history.csv (a row for each epoch),
metrics.json (the result) and figures/*.png. The result is test_elbo, the evidence lower bound of
the test images in nats per image: higher is better. Compare it only with results of the same
--data, --binarize and --likelihood.

The checkpoint is written before the first step and after every epoch, whole or not at all. Stopped
at any moment and resumed, a run ends with the same bits as one that was never stopped (the clock
apart), on the same machine and with as many threads and BLAS threads.
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae train``."""
    command = add_command(
        commands,
        "train",
        run,
        "train a model and write a run directory",
        DESCRIPTION,
        RUN_DIRECTORY,
    )

    data = command.add_argument_group("data")
    data.add_argument(
        "--data",
        type=path,
        metavar="digits|mnist|FILE",
        help="synthetic digits (default), real MNIST, or your own .npy or .npz array of shape "
        "(N, D) or (N, height, width): uint8, or floats in the range of the likelihood; one array "
        "is split, five parts for training and one for testing; an .npz may hold train and test "
        "(train_labels, test_labels), or x_train and x_test (y_train, y_test)",
    )
    data.add_argument(
        "--image-shape",
        type=image_shape,
        metavar="HxW",
        help="height and width of the images of a FILE of shape (N, D), such as 8x8; without it "
        "figures show them as square as D allows",
    )
    add_data_dir(data)
    data.add_argument(
        "--binarize",
        choices=BINARIZE,
        help="what is done to grey pixels: none (train on the greys: with bernoulli a common "
        "objective, not a likelihood), threshold (at 1/2), static (drawn once, the same for all "
        "seeds) or dynamic (drawn anew in every minibatch); default: dynamic for bernoulli, none "
        "for the others",
    )
    data.add_argument(
        "--validation",
        type=whole(0, 1 << 30),
        default=0,
        metavar="N",
        help="set N training images aside and evaluate them after each epoch, so that settings can "
        "be chosen on them; the parameters of the best epoch are kept, and the test set is "
        "evaluated once, with those, when training ends (default: 0)",
    )

    model = add_model_arguments(command, "400", 20, 1.0)
    model.add_argument(
        "--samples",
        type=whole(1, MAX_SAMPLES),
        default=1,
        metavar="K",
        help="draws of z for each image in each step (default: 1)",
    )
    model.add_argument(
        "--warmup",
        type=whole(0, MAX_EPOCHS),
        default=0,
        metavar="N",
        help="epochs in which beta rises from 0 to its value, at most all (default: 0)",
    )
    model.add_argument(
        "--output-bias",
        choices=("zero", "data"),
        default="zero",
        help="where the output biases start: at zero (default), or where by themselves they give "
        "the mean of the training images, for bernoulli at its log-odds",
    )
    training = command.add_argument_group("training")
    training.add_argument(
        "--epochs",
        type=whole(1, MAX_EPOCHS),
        metavar="N",
        help=f"passes over the training images (default: {EPOCHS}); with --resume, how many there "
        "are to be in all",
    )
    training.add_argument(
        "--patience",
        type=whole(1, MAX_EPOCHS),
        metavar="N",
        help="stop when the validation ELBO has not risen for N epochs; needs --validation",
    )
    training.add_argument(
        "--batch-size",
        type=whole(1, MAX_BATCH_SIZE),
        metavar="B",
        help="images in a minibatch (default: 128, or all where there are fewer)",
    )
    training.add_argument(
        "--lr",
        type=real(0, MAX_LR, open_below=True),
        default=1e-3,
        metavar="LR",
        help="Adam's step size (default: 0.001)",
    )
    training.add_argument(
        "--schedule",
        choices=tuple(SCHEDULES),
        default="constant",
        help="what becomes of the step size: constant (default), cosine (down to 0 at the end), or "
        "burda (down to a tenth in 8 stages, each three times as long as the one before)",
    )
    training.add_argument(
        "--average",
        action="store_true",
        help="keep and evaluate an average of the parameters over their path, the late ones with "
        "more weight; with a constant step size it does the work of a falling one",
    )
    training.add_argument(
        "--evaluate-every",
        type=whole(1, MAX_EPOCHS),
        default=1,
        metavar="N",
        help="epochs from one evaluation of the held-out images to the next (default: 1)",
    )
    training.add_argument(
        "--threads",
        type=whole(1, MAX_THREADS),
        metavar="N",
        help="threads that share each minibatch; threadpoolctl gives each one thread of the BLAS, "
        "and where it is not installed OPENBLAS_NUM_THREADS=1 must. Default: with threadpoolctl "
        f"one for every {MIN_ROWS} images (times samples) of a minibatch, at most one a core; "
        "else 1",
    )
    add_seed(
        training,
        "the same seed on the same machine, with as many threads and BLAS threads, gives the same "
        "parameters, bit for bit",
    )
    training.add_argument(
        "--resume",
        type=path,
        metavar="RUN",
        help="go on with a run that was stopped; its settings are its own, and of the other "
        "options only --epochs, --patience, --threads, --quiet, and --data or --data-dir (where "
        "the images have moved) go with it",
    )

    output = command.add_argument_group("output")
    output.add_argument(
        "--out",
        type=path,
        metavar="DIR",
        help="the run directory, new or empty (default: a fresh one under runs/)",
    )
    output.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the run that --out already holds, and what commands wrote beside it; files "
        "of your own stay",
    )
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")


SHOWN = ("data", "binarize", "likelihood", "bound", "samples", "seed")  # in metrics.json, too


class Run(NamedTuple):
    """All that training works on, checked before anything is written."""

    state: Checkpoint
    data: Dataset
    folder: Path


def prepare(args: argparse.Namespace, held: ExitStack) -> Run:
    """Check the arguments, load the data, build the model and, last of all, make the folder.

    It is locked until `held` is closed.
    """
    with refusals():
        check_drawing()
        return begin(args, held) if args.resume is None else resume(args, held)


def absolute(name: str) -> str:
    """Return what a path is called from every folder; the name of a data set is what it is."""
    return name if name in NAMED else os.path.abspath(name)


def begin(args: argparse.Namespace, held: ExitStack) -> Run:
    """Return a new run."""
    if args.overwrite and args.out is None:
        raise ValueError("--overwrite applies to --out, and no --out is given")
    if args.patience is not None and not args.validation:
        raise ValueError("--patience applies to --validation, and no image is set aside")
    name, epochs = args.data or "digits", args.epochs or EPOCHS
    likelihood = likelihood_of(args.likelihood, args.variance)
    binarize = args.binarize or ("dynamic" if args.likelihood == "bernoulli" else "none")
    data = load_images(name, args.data_dir, args.image_shape)
    for images in data.train, data.test:
        check_values(likelihood, images, f"--data {name}")
    seen = fingerprint(data)
    data = prepared(data, binarize, args.validation)
    check_whole("--warmup", args.warmup, 0, epochs)
    batch_size = args.batch_size or min(128, len(data.train))
    check_whole("--batch-size", batch_size, 1, len(data.train))
    streams = spawn_streams(args.seed)
    sizes = data.train.shape[1], args.hidden, args.latent
    vae = VAE(*sizes, args.activation, likelihood, rng=streams.initialisation)
    if args.output_bias == "data":
        start_output_bias(vae, data.train)
    adam = Adam(vae.params, args.lr)
    settings = {
        "data": absolute(name),
        "data_dir": None if args.data_dir is None else absolute(args.data_dir),
        "name": data.name,
        "fingerprint": seen,
        "image_shape": data.image_shape,
        "training_images": len(data.train),
        "test_images": len(data.test),
        "validation": args.validation,
        "binarize": binarize,
        "data_dim": vae.data_dim,
        "hidden": vae.hidden,
        "latent": vae.latent_dim,
        "activation": vae.activation,
        "likelihood": likelihood.name,
        "variance": getattr(likelihood, "variance", args.variance),
        "parameters": vae.params.flat.size,
        "output_bias": args.output_bias,
        "bound": args.bound,
        "samples": args.samples,
        "beta": args.beta,
        "warmup": args.warmup,
        "epochs": epochs,
        "patience": args.patience,
        "batch_size": batch_size,
        "lr": adam.lr,
        "schedule": args.schedule,
        "average": args.average,
        "evaluate_every": args.evaluate_every,
        "threads": args.threads or suitable_threads(batch_size, args.samples),
        "seed": args.seed,
        "numpy_vae": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    average = Average(vae.params) if args.average else None
    best = Best(vae.params) if args.validation else None
    folder = create_run(
        args.out, data.name, held, overwrite=args.overwrite, data=None if name in NAMED else name
    )
    return Run(Checkpoint(vae, adam, streams, [], average, best, settings), data, folder)


def resume(args: argparse.Namespace, held: ExitStack) -> Run:
    """Return the run of --resume as its last checkpoint has it."""
    present = given(args)
    if others := [name for name in present if name not in RESUMED_WITH]:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in others)
        raise ValueError(f"--resume is given with {named}: the settings of a run are its own")
    folder = Path(args.resume)
    if folder.is_dir():
        held.enter_context(locked(folder))
    state = open_run(folder)
    settings, done = dict(state.settings), len(state.history)
    if args.epochs is not None:
        if args.epochs < done:
            raise ValueError(f"--epochs is {args.epochs}, must be at least {done}: they are behind")
        check_whole("--epochs", args.epochs, settings["warmup"], MAX_EPOCHS)
        if settings["schedule"] != "constant" and args.epochs != settings["epochs"]:
            raise ValueError(
                f"--epochs is {args.epochs}, must be {settings['epochs']}: the schedule "
                f"{settings['schedule']} of {args.resume} was laid out for as many"
            )
        settings["epochs"] = args.epochs
    if args.patience is not None:
        if state.best is None:
            raise ValueError(f"--patience applies to --validation, and {args.resume} has none")
        settings["patience"] = args.patience
    if args.threads is not None:
        settings["threads"] = args.threads
    if args.data is not None:
        settings["data"] = absolute(args.data)
        settings["data_dir"] = None
    if args.data_dir is not None:
        settings["data_dir"] = absolute(args.data_dir)
    state = state._replace(settings=settings)
    check_usable(folder)
    return Run(state, data_of(state), folder)


def peak_memory() -> int | None:
    """Return the largest resident size of this process so far in MiB, where the system tells."""
    try:  # Linux, where what getrusage gives may be that of the process that started this one
        return int(Path("/proc/self/status").read_bytes().split(b"VmHWM:")[1].split()[0]) >> 10
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def run(args: argparse.Namespace) -> int:
    """``numpy-vae train``; return its exit status."""
    with ExitStack() as held:
        return train(args, prepare(args, held))


def train(args: argparse.Namespace, run: Run) -> int:
    """Train a run to its end, or go on with it; return the exit status."""
    state, data, folder = run
    history = state.history
    own, place, progress = OwnFiles(folder), Place(folder), Progress(quiet=args.quiet)
    progress.say(heading(state, data))
    before = sum(record.seconds + record.test_seconds for record in history)  # of a resumed run
    start = time.perf_counter() - before
    begun = cut_short = False
    try:
        with progress.catch_interrupt():
            save_checkpoint(folder / CHECKPOINT, state)
            begun = True
            say_removed(progress, "an older model", begin_run(own, state))
            first = len(history) + 1
            try:
                for record in train_epochs(
                    state.vae,
                    data,
                    **{name: state.settings[name] for name in LOOP},
                    rng=state.streams,
                    adam=state.adam,
                    average=state.average,
                    best=state.best,
                    done=len(history),
                    on_step=progress,
                ):
                    history.append(record)
                    place.check()
                    save_run(own, state)
                    if record.epoch == first:  # files made before the resume are stale
                        say_removed(progress, "an older model", own.remove_stale(state.model_id))
                    progress(record)
            except KeyboardInterrupt:
                cut_short = True
                progress.clear()
                complain(f"interrupted; {standing(folder)}")
                try:  # back to the last whole epoch, from which a resumed run has the same bits
                    place.check()
                    state = open_run(folder)
                except (ValueError, OSError):  # the folder was moved, removed or replaced
                    return 130
            if state.history:
                place.check()
                finish(own, state, data, progress, time.perf_counter() - start, cut_short)
    except (FloatingPointError, MemoryError, OSError) as error:
        progress.clear()
        what = one_line(error)
        if isinstance(error, FloatingPointError):
            what = f"training stopped at {what} (a smaller --lr may help)"
        kept = place.is_same() and (begun or args.resume is not None)
        where = f"; {standing(folder)}" if kept else ""
        complain(f"numpy-vae train: error: {what}{where}")
        return 1
    return 130 if progress.interrupted else 0


def standing(folder: Path) -> str:
    """Return where a run that has stopped stands, by what is on the disk."""
    try:
        epoch = len(open_run(folder).history)
    except (ValueError, OSError, MemoryError):
        return f"{folder} holds no run that can be read"
    return (
        f"the run is kept as it was after epoch {epoch}; go on with: "
        f"numpy-vae train --resume {shlex.quote(str(folder))}"
    )


def heading(state: Checkpoint, data: Dataset) -> str:
    """Return what is trained on what, in one line, or two."""
    settings = state.settings
    held_out = "" if data.validation is None else f"{len(data.validation)} validation, "
    words = [described(state.vae)]
    words += [settings["bound"]] * (settings["bound"] != "elbo")
    words += [f"{settings['samples']} samples"] * (settings["samples"] > 1)
    words += [f"warmup {settings['warmup']}"] * (settings["warmup"] > 0)
    words += [settings["schedule"]] * (settings["schedule"] != "constant")
    words += [f"patience {settings['patience']}"] * (settings["patience"] is not None)
    words += ["average"] * (state.average is not None)
    words += [f"{settings['threads']} threads"] * (settings["threads"] > 1)
    resumed = f"\nresumed after epoch {len(state.history)}" if state.history else ""
    resumed += ", with nothing left to train" if len(state.history) == settings["epochs"] else ""
    return (
        f"{data.name}: {len(data.train)} training, {held_out}{len(data.test)} test images, "
        f"binarize {settings['binarize']}; {', '.join(words)}; seed {settings['seed']}{resumed}"
    )


def finish(
    own: OwnFiles,
    state: Checkpoint,
    data: Dataset,
    progress: Progress,
    seconds: float,
    cut_short: bool,
) -> None:
    """Write the result and the figures of a run, and say what they are."""
    vae, history, settings = state.kept, state.history, state.settings
    folder, model = own.folder, state.model_id
    kept_epoch = state.best.epoch if state.best is not None and state.best.epoch else len(history)
    binarize = settings["binarize"]
    test = evaluate_elbo(vae, data.test, draw=binarize == "dynamic", rng=state.streams.test_seed)
    metrics: dict[str, Any] = {
        "test_elbo": test.elbo,
        "test_reconstruction": test.reconstruction,
        "test_kl": test.kl,
        "units": "nats per image",
        **{name: settings[name] for name in SHOWN},
        "epochs": len(history),
        "kept_epoch": kept_epoch,
        "steps": state.adam.t,
        "interrupted": cut_short,
        "stopped_early": not cut_short and len(history) < settings["epochs"],
        "seconds": round(seconds, 3),
        "seconds_per_epoch": round(median(record.seconds for record in history), 3),
    }
    validation = history[kept_epoch - 1].held_out().get("validation")
    if validation is not None:
        metrics |= {f"validation_{k}": value for k, value in validation._asdict().items()}
    for block, value in vae.likelihood.parameters().items():
        metrics[block] = value.tolist()
    write_metrics(own, model, metrics)
    if metrics["stopped_early"]:
        progress.say(f"stopped: no higher validation ELBO for {settings['patience']} epochs")
    if "likelihood.logvar" in vae.params:
        progress.say(f"learned variance {math.exp(vae.params['likelihood.logvar'][0]):.4g}")
    chosen = state.best is not None and state.best.epoch > 0
    best = "" if not chosen else f"; of epoch {kept_epoch}, the best on the validation set"
    progress.say(
        f"test ELBO {test.elbo:.3f} nats per image (binarize {binarize}, one draw of the noise"
        f"{best})"
    )
    written = draw_figures(state, data, folder / "figures", "png", own.write_or_keep)
    # Once more, with the memory that the figures took.
    write_metrics(own, model, metrics | {"peak_memory_mib": peak_memory()})
    say_removed(progress, "an earlier epoch", own.remove_stale(model))
    if own.kept:
        names = ", ".join(sorted(str(path.relative_to(folder)) for path in own.kept))
        why = "since they are not as the run wrote them (move or delete them, then --resume)"
        complain(f"numpy-vae train: not replaced in {folder}, {why}: {names}")
    figures = [f"figures/{file.name}" for file in written if file not in own.kept]
    progress.say(f"written to {folder}: {', '.join(figures) or 'no figures'}")


def say_removed(progress: Progress, shown: str, names: Sequence[str]) -> None:
    """Say which files were removed, since they showed something older, if any."""
    if names:
        progress.say(f"removed, since they show {shown}: {', '.join(names)}")


def write_metrics(own: OwnFiles, model: str, metrics: Mapping[str, Any]) -> None:
    """Write the result of a run, which is that of this model."""
    with own.write_or_keep(own.folder / METRICS, model) as stream:
        stream.write(json_text(metrics).encode())
