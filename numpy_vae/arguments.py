"""The arguments of the command line, and what their help says."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from . import __version__
from .bounds import BOUNDS
from .checks import check_real, check_whole
from .data import BINARIZE
from .evaluate import MAX_IMPORTANCE_SAMPLES
from .layers import ACTIVATIONS
from .likelihood import LIKELIHOODS
from .network import MAX_WIDTH
from .optim import MAX_LR, SCHEDULES
from .train import MAX_BATCH_SIZE, MAX_BETA, MAX_EPOCHS, MAX_SAMPLES

SMALL_MODEL = 5_000  # parameters, of which the gradient check looks at every one

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

EVALUATE = """\
Estimate what the model of a run is worth on images that it was not trained on: log p(x) by
importance sampling, with its standard error over the images, the ELBO, reconstruction and KL apart,
the KL of each latent dimension, and the number of active ones. All in nats per image; log p(x) and
the ELBO: higher is better.

  numpy-vae evaluate runs/mnist-1                     5000 samples for each of the test images
  numpy-vae evaluate runs/mnist-1 --images 1000       a random thousand of them
  numpy-vae evaluate runs/mnist-1 --json              one JSON object on standard output

The pixels of --binarize dynamic are drawn once, from the seed: two runs that are evaluated with the
same seed see the same images. Compare only results of the same --binarize and --likelihood.
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

One run checks one activation, one likelihood and one bound; with --beta 1 a forgotten beta is not
seen. With --bound iwae each example has three samples, and the log ratio is the second term. On a
busy machine OPENBLAS_NUM_THREADS=1 makes it many times faster.

Exit status 1 means that some gradient is wrong, or could not be checked.
"""

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
it only with results of the same --data, --binarize and --likelihood.
"""


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
        "--activation",
        choices=tuple(ACTIVATIONS),
        default="relu",
        help="of the hidden layers (default: relu)",
    )
    model.add_argument(
        "--likelihood",
        choices=tuple(LIKELIHOODS),
        default="bernoulli",
        help="of a pixel given z: bernoulli for 0 and 1 (default), continuous_bernoulli for greys "
        "in [0, 1] (with --output-bias data it learns much faster), gaussian for any value, "
        "learned_gaussian with a variance that is learned",
    )
    model.add_argument(
        "--variance",
        type=real(1e-6, 1e6, open_below=False),
        metavar="V",
        help="variance of the gaussian likelihood; of learned_gaussian, the first (default: 0.1)",
    )
    model.add_argument(
        "--beta",
        type=real(0, MAX_BETA, open_below=False),
        default=beta,
        metavar="BETA",
        help="coefficient of the KL, with iwae of the log ratio; 1 gives a bound of log p(x) "
        f"(default: {beta:g})",
    )
    model.add_argument(
        "--bound",
        choices=tuple(BOUNDS),
        default="elbo",
        help="what is maximised: the ELBO (default), or the importance-weighted bound, which is "
        "tighter the more samples there are of each image; with one it is the ELBO with its KL "
        "estimated from the draw",
    )
    return model


def add_seed(command: argparse._ActionsContainer, help: str) -> None:
    """Add the seed, with what it is of."""
    command.add_argument(
        "--seed", type=whole(0, 2**32 - 1), default=0, metavar="S", help=f"{help} (default: 0)"
    )


def add_data_dir(command: argparse._ActionsContainer) -> None:
    """Add the folder of the MNIST files."""
    command.add_argument(
        "--data-dir",
        type=path,
        metavar="DIR",
        help="a folder with the four MNIST files; looked into before $NUMPY_VAE_DATA, the cache "
        "folder and the download",
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="numpy-vae",
        description="A variational autoencoder in NumPy, every gradient derived by hand.",
    )
    parser.add_argument("--version", action="version", version=f"numpy-vae {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_train(commands)
    add_evaluate(commands)
    add_gradcheck(commands)
    return parser


def add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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


def add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``numpy-vae evaluate``."""
    command = commands.add_parser(
        "evaluate",
        allow_abbrev=False,
        help="estimate log p(x) of held-out images",
        description=EVALUATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("run", type=path, metavar="RUN", help="the directory of a run")
    command.add_argument(
        "--samples",
        type=whole(1, MAX_IMPORTANCE_SAMPLES),
        default=5000,
        metavar="S",
        help="draws of z for each image; more make the bound of log p(x) tighter (default: 5000)",
    )
    command.add_argument(
        "--images",
        type=whole(1, 1 << 30),
        metavar="N",
        help="a random N of the images, chosen by the seed (default: all)",
    )
    command.add_argument(
        "--on",
        choices=("test", "validation"),
        default="test",
        help="which images: the test set (default), or those that train --validation set aside",
    )
    command.add_argument(
        "--data",
        type=path,
        metavar="FILE",
        help="the file that the run was trained on, where it has moved",
    )
    add_data_dir(command)
    add_seed(
        command, "seed of the draws, the pixels of --binarize dynamic, and the choice of --images"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object, nothing else")


def add_gradcheck(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``numpy-vae gradcheck``."""
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
    add_seed(command, "seed of the weights, the images and the noise")
