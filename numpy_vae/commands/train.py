"""``numpy-vae train``: train a model and write a run directory."""

from __future__ import annotations

import argparse
import math
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from ..arguments import (
    Subparsers,
    add_data_dir,
    add_model_arguments,
    add_seed,
    path,
    real,
    whole,
)
from ..checkpoint import load_checkpoint, save_checkpoint
from ..checks import check_whole
from ..data import BINARIZE, Dataset, batch, left_to_draw
from ..evaluate import Elbo, evaluate_elbo
from ..likelihood import check_values
from ..optim import MAX_LR, SCHEDULES, Adam, Average
from ..progress import Progress, epoch_line, say
from ..runs import (
    CHECKPOINT,
    LOOP,
    begin_run,
    create_run,
    read_config,
    write_history,
    write_json,
)
from ..train import (
    MAX_BATCH_SIZE,
    MAX_EPOCHS,
    MAX_SAMPLES,
    Record,
    Streams,
    spawn_streams,
    start_output_bias,
    train_epochs,
)
from ..vae import VAE
from .inputs import UsageError, divided, likelihood_of, load_images, one_line, sizes

MOST_IMAGES_IN_FIGURES = 5_000

DESCRIPTION = """\
Train a variational autoencoder on images and write the results to a directory: the parameters, the
numbers, and figures. With no options at all it draws a set of synthetic digits and trains on
those, in about a minute.

  numpy-vae train                                    synthetic digits, nothing to download
  numpy-vae train --data mnist                       real MNIST, downloaded once (11 MB)
  numpy-vae train --data mnist --latent 2            with pictures of the latent plane
  numpy-vae train --data faces.npy --likelihood learned_gaussian
  numpy-vae train --data mnist --bound iwae --samples 5
"""

RUN_DIRECTORY = """\
The run directory holds config.json (the settings), history.csv (a row for each epoch), metrics.json
(the result), checkpoint.npz (parameters, read with VAE.load) and figures/*.png. The result is
test_elbo, the evidence lower bound of the test images in nats per image: higher is better. Compare
it only with results of the same --data, --binarize and --likelihood.
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae train``."""
    command = commands.add_parser(
        "train",
        allow_abbrev=False,
        help="train a model and write a run directory",
        description=DESCRIPTION,
        epilog=RUN_DIRECTORY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    data = command.add_argument_group("data")
    data.add_argument(
        "--data",
        type=path,
        default="digits",
        metavar="digits|mnist|FILE",
        help="synthetic digits (default), real MNIST, or your own .npy or .npz array of shape "
        "(N, D) or (N, height, width): uint8, or floats in the range of the likelihood; one array "
        "is split, five parts for training and one for testing; an .npz may hold train and test "
        "(train_labels, test_labels), or x_train and x_test (y_train, y_test)",
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
        "be chosen on them; the test set is then evaluated once, when training ends (default: 0)",
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
        default=40,
        metavar="N",
        help="passes over the training images (default: 40)",
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
    add_seed(
        training,
        "the same seed on the same machine, with as many BLAS threads, gives the same parameters, "
        "bit for bit",
    )
    training.add_argument(
        "--resume",
        type=path,
        metavar="RUN",
        help="go on with a run that was stopped; its settings are its own, and no other option "
        "goes with this one",
    )

    output = command.add_argument_group("output")
    output.add_argument(
        "--out",
        type=path,
        metavar="DIR",
        help="the run directory (default: a fresh one under runs/)",
    )
    output.add_argument(
        "--overwrite", action="store_true", help="replace the run that --out already holds"
    )
    command.set_defaults(execute=run, parser=command)


class Run(NamedTuple):
    """All that training works on, checked before anything is written."""

    settings: dict[str, Any]
    data: Dataset
    vae: VAE
    adam: Adam
    streams: Streams
    average: Average | None
    history: list[Record]  # of the epochs that are behind, where a run is resumed
    folder: Path

    @property
    def result(self) -> VAE:
        """The model that is evaluated, drawn and kept: over the average, if there is one."""
        return self.vae if self.average is None else self.vae.over(self.average.mean)


def prepare(args: argparse.Namespace) -> Run:
    """Check the arguments, load the data, build the model and, last of all, make the folder."""
    try:
        from .. import plots  # noqa: F401  # what is wrong with matplotlib shows now, not at the end

        if args.resume is not None:
            return resume(args)
        if args.overwrite and args.out is None:
            raise ValueError("--overwrite applies to --out, and no --out is given")
        likelihood = likelihood_of(args.likelihood, args.variance)
        binarize = args.binarize or ("dynamic" if args.likelihood == "bernoulli" else "none")
        data = load_images(args.data, args.data_dir)
        for images in data.train, data.test:
            check_values(likelihood, images, f"--data {args.data}")
        data = divided(data, binarize, args.validation)
        check_whole("--warmup", args.warmup, 0, args.epochs)
        batch_size = args.batch_size or min(128, len(data.train))
        check_whole("--batch-size", batch_size, 1, len(data.train))
        streams = spawn_streams(args.seed)
        vae = VAE(
            data.train.shape[1],
            args.hidden,
            args.latent,
            args.activation,
            likelihood,
            rng=streams.initialisation,
        )
        if args.output_bias == "data":
            start_output_bias(vae, data.train)
        adam = Adam(vae.params, args.lr)
        average = Average(vae.params) if args.average else None
        settings = {
            "data": args.data,
            "data_dir": args.data_dir,
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
            "epochs": args.epochs,
            "batch_size": batch_size,
            "lr": adam.lr,
            "schedule": args.schedule,
            "average": args.average,
            "evaluate_every": args.evaluate_every,
            "seed": args.seed,
            "numpy_vae": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        folder = create_run(args.out, data.name, overwrite=args.overwrite)
    except (ValueError, OSError, MemoryError, ImportError) as error:
        raise UsageError(one_line(error)) from None
    return Run(settings, data, vae, adam, streams, average, [], folder)


def resume(args: argparse.Namespace) -> Run:
    """Return the run of --resume as its last checkpoint has it."""
    folder = Path(args.resume)
    others = [n for n, value in vars(args).items() if value != args.parser.get_default(n)]
    others = [name for name in others if name not in ("command", "parser", "resume")]
    if others:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in others)
        raise ValueError(f"--resume is given with {named}, must be the only option")
    settings = read_config(folder)
    data = load_images(settings["data"], settings["data_dir"])
    data = divided(data, settings["binarize"], settings["validation"])
    found = load_checkpoint(folder / CHECKPOINT)
    return Run(
        settings,
        data,
        found.vae,
        found.adam,
        found.streams,
        found.average,
        found.history,
        folder,
    )


def peak_memory() -> int | None:
    """Return the largest resident size of this process so far in MiB, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def run(args: argparse.Namespace) -> int:
    """``numpy-vae train``; return its exit status."""
    run = prepare(args)
    vae, data, folder, settings = run.vae, run.data, run.folder, run.settings
    history, epochs, binarize = run.history, settings["epochs"], settings["binarize"]
    say(heading(run))
    progress = Progress(epochs)
    before = sum(record.seconds + record.test_seconds for record in history)  # of a resumed run
    start = time.perf_counter() - before

    def save() -> None:
        save_checkpoint(folder / CHECKPOINT, vae, run.adam, run.streams, history, run.average)
        write_history(folder / "history.csv", history)

    try:
        with progress.catch_interrupt():
            save()
            begin_run(folder, settings)
            interrupted = False
            try:
                for record in train_epochs(
                    vae,
                    data,
                    **{name: settings[name] for name in LOOP},
                    rng=run.streams,
                    adam=run.adam,
                    average=run.average,
                    done=len(history),
                    on_step=progress,
                ):
                    history.append(record)
                    save()
                    progress.clear()
                    say(epoch_line(record, epochs))
                test = history[-1].held_out()["test"]
            except KeyboardInterrupt:
                interrupted = True
                progress.clear()
                if history:  # the last whole epoch is a point to go on from with the same bits
                    found = load_checkpoint(folder / CHECKPOINT)
                    run = run._replace(vae=found.vae, adam=found.adam, average=found.average)
                else:
                    save()
                print(
                    f"interrupted: the run is kept as it was after epoch {len(history)}; "
                    f"go on with: numpy-vae train --resume {folder}",
                    file=sys.stderr,
                )
                test = evaluate_elbo(
                    run.result,
                    data.test,
                    binarize=left_to_draw(binarize),
                    rng=run.streams.test_seed,
                )
            finish(run, test, time.perf_counter() - start, interrupted)
    except (FloatingPointError, MemoryError, OSError) as error:
        progress.clear()
        what = one_line(error)
        if isinstance(error, FloatingPointError):
            what = f"training stopped at {what} (a smaller --lr may help)"
        print(
            f"numpy-vae train: error: {what}; {folder / CHECKPOINT} is that of epoch "
            f"{len(history)}, or the last one written whole",
            file=sys.stderr,
        )
        return 1
    return 130 if progress.interrupted else 0


def heading(run: Run) -> str:
    """Return what is trained on what, in one line, or two."""
    vae, data, settings = run.vae, run.data, run.settings
    held_out = "" if data.validation is None else f"{len(data.validation)} validation, "
    named = {
        "elbo": settings["bound"], "1 samples": f"{settings['samples']} samples",
        "warmup 0": f"warmup {settings['warmup']}", "constant": settings["schedule"],
    }  # fmt: skip
    others = "".join(f", {value}" for default, value in named.items() if value != default)
    others += ", average" if run.average is not None else ""
    resumed = f"\nresumed after epoch {len(run.history)}" if run.history else ""
    return (
        f"{data.name}: {len(data.train)} training, {held_out}{len(data.test)} test images, "
        f"binarize {settings['binarize']}; {sizes(vae)} {vae.activation}, {vae.likelihood.name}"
        f"{others}; seed {settings['seed']}{resumed}"
    )


def finish(run: Run, test: Elbo, seconds: float, interrupted: bool) -> None:
    """Write the result and the figures of a run, and say what they are."""
    from ..plots import save_figures  # matplotlib takes longer to import than all the rest

    vae, data, history, binarize = run.result, run.data, run.history, run.settings["binarize"]
    metrics: dict[str, Any] = {
        "test_elbo": test.elbo,
        "test_reconstruction": test.reconstruction,
        "test_kl": test.kl,
        "units": "nats per image",
        "data": run.settings["data"],
        "binarize": binarize,
        "likelihood": run.settings["likelihood"],
        "bound": run.settings["bound"],
        "samples": run.settings["samples"],
        "seed": run.settings["seed"],
        "epochs": len(history),
        "steps": run.adam.t,
        "interrupted": interrupted,
        "seconds": round(seconds, 3),
    }
    if history:
        metrics["seconds_per_epoch"] = round(median(record.seconds for record in history), 3)
        validation = history[-1].held_out().get("validation")
        if validation is not None:
            metrics |= {f"validation_{k}": value for k, value in validation._asdict().items()}
    for block, value in vae.likelihood.parameters().items():
        metrics[block] = value.tolist()
    write_json(run.folder / "metrics.json", metrics)
    if "likelihood.logvar" in vae.params:
        say(f"learned variance {math.exp(vae.params['likelihood.logvar'][0]):.4g}")
    say(f"test ELBO {test.elbo:.3f} nats per image (binarize {binarize}, one draw of the noise)")

    rng = np.random.default_rng(run.streams.test_seed)
    rows = slice(0, MOST_IMAGES_IN_FIGURES)
    x = batch(data.test, rows, binarize=binarize, rng=rng, dtype=vae.params.dtype)
    titled = replace(data, name=f"{data.name}, binarize {binarize}")
    written = save_figures(run.folder / "figures", vae, titled, x, history, rng=rng)
    # Once more, with the memory that the figures took.
    write_json(run.folder / "metrics.json", metrics | {"peak_memory_mib": peak_memory()})
    say(f"written to {run.folder}: {', '.join(f'figures/{path.name}' for path in written)}")
