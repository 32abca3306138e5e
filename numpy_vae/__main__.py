"""The command line: arguments, seeds, printing and files. Everything else is in the library.

Exit status: 0 done, 1 training or a check failed or a file could not be written on the way, 2
unusable arguments or data, 130 interrupted.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import TextIOWrapper
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from . import __version__
from .checkpoint import save_checkpoint
from .checks import check_real, check_whole
from .data import BINARIZE, Dataset, batch, binarized, load_array, load_mnist
from .digits import load_digits
from .evaluate import Elbo, evaluate_elbo
from .layers import ACTIVATIONS
from .likelihood import LIKELIHOODS, Gaussian, Likelihood, check_values, make_likelihood
from .modelcheck import EXAMPLES, Check, check_model, point_table, summary
from .network import MAX_WIDTH
from .optim import MAX_LR, Adam
from .progress import Progress, epoch_line, say
from .runs import CHECKPOINT, begin_run, create_run, write_history, write_json
from .train import (
    MAX_BATCH_SIZE,
    MAX_BETA,
    MAX_EPOCHS,
    Record,
    Streams,
    spawn_streams,
    train_epochs,
)
from .vae import VAE

MOST_IMAGES_IN_FIGURES = 5_000
SMALL_MODEL = 5_000  # parameters, of which the gradient check looks at every one

DESCRIPTION = """\
Train a variational autoencoder on images and write the results to a directory: the parameters, the
numbers, and figures. With no options at all it draws a set of synthetic digits and trains on
those, in about a minute.

  numpy-vae train                                    synthetic digits, nothing to download
  numpy-vae train --data mnist                       real MNIST, downloaded once (11 MB)
  numpy-vae train --data mnist --latent 2            with pictures of the latent plane
  numpy-vae train --data faces.npy --likelihood gaussian
"""

GRADCHECK = """\
Compare the hand-written gradient of the model with numeric ones, block by block: at its initial
point, after some steps of training, and where it is saturated (logits of 10000 with log-variances
up to 80, and down to -80, where no difference can be taken), for each term of the objective alone
and together.

  numpy-vae gradcheck                                            every entry, in seconds
  numpy-vae gradcheck --data-dim 784 --hidden 400 --latent 20    a sample of the entries of each
                                                                 block, and random directions:
                                                                 less than half a minute

One run checks one activation and one likelihood; with --beta 1 a forgotten beta is not seen. On a
busy machine OPENBLAS_NUM_THREADS=1 makes it many times faster.

Exit status 1 means that some gradient is wrong, or could not be checked.
"""

LEGEND = """\
centr, compl: error of central differences and of the complex step, relative to
the largest entry of the block; tayl: order of the Taylor remainder (2 where the
gradient is right, 1 where it is wrong, inf where the function is linear)"""

FOREIGN = """\
A function of your own is checked from Python: any scalar function of named arrays.

  import numpy as np
  from numpy_vae import gradcheck

  def f(a):
      return np.sum(np.tanh(a["x"] @ a["W"]) ** 2)

  rng = np.random.default_rng(0)
  x, W = rng.standard_normal((5, 3)), rng.standard_normal((3, 2))
  y = np.tanh(x @ W)
  da = 2 * y * (1 - y * y)                        # your backward pass
  gradient = {"x": da @ W.T, "W": x.T @ da}

  for method in "central", "complex", "taylor":
      report = gradcheck(f, gradient, {"x": x, "W": W}, method=method)
      print(report)
      assert report.ok
"""

RUN_DIRECTORY = """\
The run directory holds config.json (the settings), history.csv (a row for each epoch), metrics.json
(the result), checkpoint.npz (parameters, read with VAE.load) and figures/*.png. The result is
test_elbo, the evidence lower bound of the test images in nats per image: higher is better. Compare
it only with results of the same --binarize.
"""


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line."""


class Run(NamedTuple):
    """All that training works on, checked before anything is written."""

    settings: dict[str, Any]
    data: Dataset
    vae: VAE
    adam: Adam
    streams: Streams
    folder: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: that of the process); return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name that the terminal cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    commands = {"train": train, "gradcheck": check_gradients}
    try:
        return commands[args.command](args)
    except UsageError as error:
        print(f"numpy-vae {args.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


# --- arguments --------------------------------------------------------------------------------


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `least` to `most` for argparse."""

    def read(text: str) -> int:
        try:
            return check_whole("the value", int(text), least, most)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} must be a whole number from {least} to {most}"
            ) from None

    return read


def real(least: float, most: float, *, open_below: bool) -> Callable[[str], float]:
    """Return a reader of real numbers from `least` to `most` for argparse."""

    def read(text: str) -> float:
        try:
            return check_real("the value", float(text), least, most, open_below=open_below)
        except ValueError:
            bound = "greater than" if open_below else "at least"
            raise argparse.ArgumentTypeError(
                f"{text!r} must be a number {bound} {least:g} and at most {most:g}"
            ) from None

    return read


def widths(text: str) -> tuple[int, ...]:
    """Read "400", "200,200" or "none"."""
    if text == "none":
        return ()
    return tuple(map(whole(1, MAX_WIDTH), text.split(",")))


def path(text: str) -> str:
    """Read a path or a name, which is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("'' must not be empty")
    return text


def add_model_arguments(
    command: argparse.ArgumentParser, hidden: str, latent: int, beta: float
) -> argparse._ArgumentGroup:
    """Add the settings of the model, with these defaults, and beta; return their group."""
    model = command.add_argument_group("model")
    model.add_argument(
        "--hidden",
        type=widths,
        default=widths(hidden),
        metavar="400|200,200|none",
        help="widths of the hidden layers of the encoder, mirrored in the decoder; none is the "
        f"linear model (default: {hidden})",
    )
    model.add_argument(
        "--latent",
        type=whole(1, MAX_WIDTH),
        default=latent,
        metavar="Z",
        help=f"latent dimensions; with 2 a picture can show all of them (default: {latent})",
    )
    model.add_argument(
        "--activation", choices=tuple(ACTIVATIONS), default="relu", help="default: relu"
    )
    model.add_argument(
        "--likelihood",
        choices=tuple(LIKELIHOODS),
        default="bernoulli",
        help="of a pixel given z: bernoulli for values in [0, 1] (default), gaussian for any",
    )
    model.add_argument(
        "--variance",
        type=real(1e-6, 1e6, open_below=False),
        metavar="V",
        help="variance of the gaussian likelihood (default: 0.1)",
    )
    model.add_argument(
        "--beta",
        type=real(0, MAX_BETA, open_below=False),
        default=beta,
        metavar="BETA",
        help=f"coefficient of the KL term; 1 gives the ELBO (default: {beta:g})",
    )
    return model


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="numpy-vae",
        description="A variational autoencoder in NumPy, every gradient derived by hand.",
    )
    parser.add_argument("--version", action="version", version=f"numpy-vae {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
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
    data.add_argument(
        "--data-dir",
        type=path,
        metavar="DIR",
        help="a folder with the four MNIST files; looked into before $NUMPY_VAE_DATA, the cache "
        "folder and the download",
    )
    data.add_argument(
        "--binarize",
        choices=BINARIZE,
        help="what is done to grey pixels: none (train on the greys: a common objective, not a "
        "likelihood), threshold (at 1/2), static (drawn once, the same for all seeds) or dynamic "
        "(drawn anew in every minibatch); default: dynamic for bernoulli, none for gaussian",
    )

    add_model_arguments(command, "400", 20, 1.0)
    training = command.add_argument_group("training")
    training.add_argument(
        "--epochs", type=whole(1, MAX_EPOCHS), default=40, metavar="N", help="default: 40"
    )
    training.add_argument(
        "--batch-size",
        type=whole(1, MAX_BATCH_SIZE),
        metavar="B",
        help="default: 128, or all images where there are fewer",
    )
    training.add_argument(
        "--lr",
        type=real(0, MAX_LR, open_below=True),
        default=1e-3,
        metavar="LR",
        help="Adam's step size (default: 0.001)",
    )
    training.add_argument(
        "--seed",
        type=whole(0, 2**32 - 1),
        default=0,
        metavar="S",
        help="the same seed on the same machine, with as many BLAS threads, gives the same "
        "parameters, bit for bit (default: 0)",
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

    command = commands.add_parser(
        "gradcheck",
        allow_abbrev=False,
        help="prove the gradient of the model, or see how to prove yours",
        description=GRADCHECK,
        epilog=FOREIGN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = add_model_arguments(command, "16,12", 3, 0.7)
    model.add_argument(
        "--data-dim",
        type=whole(1, MAX_WIDTH),
        default=30,
        metavar="D",
        help="pixels of an image (default: 30)",
    )
    command.add_argument(
        "--entries",
        type=whole(1, 1 << 28),
        metavar="N",
        help="look at N entries of each larger block one by one, and along random directions "
        f"through all of it (default: all of a model of up to {SMALL_MODEL} parameters, else 20)",
    )
    command.add_argument(
        "--seed",
        type=whole(0, 2**32 - 1),
        default=0,
        metavar="S",
        help="of the weights, the images and the noise (default: 0)",
    )
    return parser


# --- before training: everything that can be refused ---------------------------------------------


def one_line(error: Exception) -> str:
    """Return what went wrong as one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"out of memory {error}".strip()
    return " ".join(str(error).split())


def prepare(args: argparse.Namespace) -> Run:
    """Check the arguments, load the data, build the model and, last of all, make the folder."""
    try:
        from . import plots  # noqa: F401  # what is wrong with matplotlib shows now, not at the end

        if args.overwrite and args.out is None:
            raise ValueError("--overwrite applies to --out, and no --out is given")
        data = load_data(args.data, args.data_dir)
        likelihood = likelihood_of(args.likelihood, args.variance)
        binarize = args.binarize or ("none" if args.likelihood == "gaussian" else "dynamic")
        batch_size = args.batch_size or min(128, len(data.train))
        check_whole("--batch-size", batch_size, 1, len(data.train))
        check_values(likelihood, data.train, f"--data {args.data}")
        check_values(likelihood, data.test, f"--data {args.data}")
        data = binarized(data, binarize)
        streams = spawn_streams(args.seed)
        vae = VAE(
            data.train.shape[1],
            args.hidden,
            args.latent,
            args.activation,
            likelihood,
            rng=streams.initialisation,
        )
        adam = Adam(vae.params, args.lr)
        settings = {
            "data": args.data,
            "training_images": len(data.train),
            "test_images": len(data.test),
            "binarize": binarize,
            "data_dim": vae.data_dim,
            "hidden": vae.hidden,
            "latent": vae.latent_dim,
            "activation": vae.activation,
            "likelihood": likelihood.name,
            "variance": getattr(likelihood, "variance", None),
            "parameters": vae.params.flat.size,
            "epochs": args.epochs,
            "batch_size": batch_size,
            "lr": adam.lr,
            "beta": args.beta,
            "seed": args.seed,
            "numpy_vae": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        folder = create_run(args.out, data.name, overwrite=args.overwrite)
    except (ValueError, OSError, MemoryError, ImportError) as error:
        raise UsageError(one_line(error)) from None
    return Run(settings, data, vae, adam, streams, folder)


def load_data(name: str, data_dir: str | None) -> Dataset:
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


def sizes(vae: VAE) -> str:
    """Return the widths from the image to z, such as 784-400-20."""
    return "-".join(map(str, (vae.data_dim, *vae.hidden, vae.latent_dim)))


def likelihood_of(name: str, variance: float | None) -> Likelihood:
    """Return the likelihood of this name and, if it is Gaussian, this variance."""
    if variance is None:
        return make_likelihood(name)
    if name != "gaussian":
        raise ValueError(f"--variance applies to --likelihood gaussian, not to {name}")
    return Gaussian(variance)


# --- training -------------------------------------------------------------------------------------


def peak_memory() -> int | None:
    """Return the largest resident size of this process so far in MiB, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def train(args: argparse.Namespace) -> int:
    """``numpy-vae train``; return its exit status."""
    run = prepare(args)
    vae, data, folder, binarize = run.vae, run.data, run.folder, run.settings["binarize"]
    say(
        f"{data.name}: {len(data.train)} training and {len(data.test)} test images, "
        f"binarize {binarize}; {sizes(vae)} {vae.activation}, {vae.likelihood.name}; "
        f"seed {args.seed}"
    )
    history: list[Record] = []
    progress = Progress(args.epochs)
    start = time.perf_counter()

    def save() -> None:
        save_checkpoint(folder / CHECKPOINT, vae, run.adam, run.streams, history)
        write_history(folder / "history.csv", history)

    try:
        with progress.catch_interrupt():
            save()
            begin_run(folder, run.settings)
            interrupted = False
            try:
                for record in train_epochs(
                    vae,
                    data,
                    epochs=args.epochs,
                    batch_size=run.settings["batch_size"],
                    beta=args.beta,
                    binarize=binarize,
                    rng=run.streams,
                    adam=run.adam,
                    on_step=progress,
                ):
                    history.append(record)
                    save()
                    progress.clear()
                    say(epoch_line(record, args.epochs))
                test = Elbo(record.test_elbo, record.test_reconstruction, record.test_kl)
            except KeyboardInterrupt:
                interrupted = True
                progress.clear()
                print("interrupted: saving the progress so far", file=sys.stderr)
                draws = "dynamic" if binarize == "dynamic" else "none"
                test = evaluate_elbo(vae, data.test, binarize=draws, rng=run.streams.test_seed)
                save()
            finish(run, history, test, time.perf_counter() - start, interrupted)
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


def finish(
    run: Run, history: Sequence[Record], test: Elbo, seconds: float, interrupted: bool
) -> None:
    """Write the result and the figures of a run, and say what they are."""
    from .plots import save_figures  # matplotlib takes longer to import than all the rest

    vae, data, binarize = run.vae, run.data, run.settings["binarize"]
    metrics = {
        "test_elbo": test.elbo,
        "test_reconstruction": test.reconstruction,
        "test_kl": test.kl,
        "units": "nats per image",
        "data": run.settings["data"],
        "binarize": binarize,
        "likelihood": run.settings["likelihood"],
        "seed": run.settings["seed"],
        "epochs": len(history),
        "steps": run.adam.t,
        "interrupted": interrupted,
        "seconds": round(seconds, 3),
    }
    if history:
        metrics["seconds_per_epoch"] = round(median(record.seconds for record in history), 3)
    write_json(run.folder / "metrics.json", metrics)
    say(f"test ELBO {test.elbo:.3f} nats per image (binarize {binarize}, one draw of the noise)")

    rng = np.random.default_rng(run.streams.test_seed)
    rows = slice(0, MOST_IMAGES_IN_FIGURES)
    x = batch(data.test, rows, binarize=binarize, rng=rng, dtype=vae.params.dtype)
    titled = replace(data, name=f"{data.name}, binarize {binarize}")
    written = save_figures(run.folder / "figures", vae, titled, x, history, rng=rng)
    # Once more, with the memory that the figures took.
    write_json(run.folder / "metrics.json", metrics | {"peak_memory_mib": peak_memory()})
    say(f"written to {run.folder}: {', '.join(f'figures/{path.name}' for path in written)}")


# --- the gradient check ---------------------------------------------------------------------------


def check_gradients(args: argparse.Namespace) -> int:
    """``numpy-vae gradcheck``; return its exit status."""
    try:
        vae = VAE(
            args.data_dim,
            args.hidden,
            args.latent,
            args.activation,
            likelihood_of(args.likelihood, args.variance),
            rng=args.seed,
        )
    except (ValueError, MemoryError) as error:
        raise UsageError(one_line(error)) from None
    entries = args.entries or (vae.params.flat.size if vae.params.flat.size <= SMALL_MODEL else 20)
    say(
        f"{sizes(vae)} {args.activation}, {args.likelihood}, beta {args.beta:g}, seed {args.seed}; "
        f"{EXAMPLES} examples"
    )
    say(LEGEND)
    start = time.perf_counter()
    checks: list[Check] = []
    try:
        found = check_model(vae, args.beta, max_entries=entries, rng=args.seed)
        for _, group in groupby(found, lambda check: check.point):
            of_point = list(group)
            checks += of_point
            say("\n" + point_table(of_point))
    except (ValueError, FloatingPointError, MemoryError) as error:
        print(f"numpy-vae gradcheck: error: {one_line(error)}", file=sys.stderr)
        return 1
    failed = sum(not check.report.ok for check in checks)
    say(f"\n{summary(checks)}; {time.perf_counter() - start:.1f} s")
    if failed:
        say(f"FAIL: {failed} of {len(checks)} checks")
        return 1
    say(f"ok: all {len(checks)} checks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
