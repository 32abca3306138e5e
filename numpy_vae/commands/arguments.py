"""Readers of option values, and the options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..blocks import MAX_WIDTH
from ..checks import check_real, check_whole
from ..data.arrays import Reading
from ..layers import ACTIVATIONS
from ..likelihood import LIKELIHOODS
from ..runs.directory import MAX_SEED
from ..training.recipe import SETTINGS, explain

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: Subparsers, name: str, execute: Callable[[argparse.Namespace], int], help: str,
    description: str, epilog: str | None = None,
) -> argparse.ArgumentParser:  # fmt: skip
    """Add a command; `execute` runs it and returns its exit status."""
    command = commands.add_parser(
        name, allow_abbrev=False, help=help, description=description, epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.set_defaults(execute=execute)
    return command


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return an argparse type: whole numbers from `least` to `most`."""

    def read(text: str) -> int:
        try:
            return check_whole("the value", int(text), least, most)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} must be a whole number from {least} to {most}"
            ) from None

    return read


def real(least: float, most: float, *, open_below: bool) -> Callable[[str], float]:
    """Return an argparse type: real numbers from `least` to `most`."""

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


def image_shape(text: str) -> tuple[int, ...]:
    """Read a height and a width, such as "8x8", or "8x8x3" for colour."""
    sides = text.split("x")
    try:
        shape = tuple(map(whole(1, MAX_WIDTH), sides))
        if len(shape) != 2 and shape[2:] != (3,):
            raise ValueError
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a height and a width in pixels, such as 28x28 (28x28x3 in colour)"
        ) from None
    return shape


def column(text: str) -> str | int:
    """Read the name or the number of a column."""
    return int(text) if text.removeprefix("-").isdecimal() else path(text)


def path(text: str) -> str:
    """Read a path or a name."""
    if not text:
        raise argparse.ArgumentTypeError("'' must not be empty")
    return text


def add_model_arguments(
    command: argparse.ArgumentParser, hidden: Sequence[int], latent: int
) -> argparse._ArgumentGroup:
    """Add the settings of the model, which `make_model` reads; return their group."""
    model = command.add_argument_group("model")
    model.add_argument(
        "--hidden", type=widths, metavar="400|200,200|none",
        help="widths of the encoder's hidden layers, mirrored in the decoder; none makes a linear "
        f"model (default: {','.join(map(str, hidden))})",
    )  # fmt: skip
    model.add_argument(
        "--latent", type=whole(1, MAX_WIDTH), metavar="Z",
        help=f"number of latent dimensions; 2 can be shown as a plane (default: {latent})",
    )  # fmt: skip
    model.add_argument(
        "--activation", choices=tuple(ACTIVATIONS), help="of the hidden layers (default: relu)"
    )
    model.add_argument(
        "--likelihood", choices=tuple(LIKELIHOODS), metavar="NAME",
        help="p(x|z) of a pixel: bernoulli for binary pixels (default), continuous_bernoulli for "
        "greys in [0, 1] (learns much faster with --output-bias data), gaussian for any value, "
        "learned_gaussian with a learned variance, diagonal_gaussian with one for each column, "
        "poisson for counts",
    )  # fmt: skip
    model.add_argument(
        "--variance", type=real(1e-6, 1e6, open_below=False), metavar="V",
        help="variance of gaussian (default: 0.1), initial variance of the learned ones (default: "
        "that of the training data)",
    )  # fmt: skip
    return model


def add_setting(group: argparse._ArgumentGroup, name: str, default: str = "") -> None:
    """Add the option of a training setting; it is None if not given."""
    setting, option = SETTINGS[name], f"--{name.replace('_', '-')}"
    help = f"{setting.help} (default: {default})" if default else explain(name)
    if setting.kind is bool:
        group.add_argument(option, action="store_true", default=None, help=help)
    elif setting.choices:
        group.add_argument(option, choices=setting.choices, help=help)
    else:
        read: Callable[[str], float] = whole(int(setting.least), int(setting.most))
        if setting.kind is float:
            read = real(setting.least, setting.most, open_below=setting.open_below)
        group.add_argument(option, type=read, metavar=setting.unit, help=help)


def add_seed(command: argparse._ActionsContainer, help: str, default: int | None = 0) -> None:
    """Add --seed; `help` says what it seeds."""
    command.add_argument(
        "--seed", type=whole(0, MAX_SEED), default=default, metavar="S", help=f"{help} (default: 0)"
    )


def add_data_dir(command: argparse._ActionsContainer) -> None:
    """Add the folder of the MNIST files."""
    command.add_argument(
        "--data-dir", type=path, metavar="DIR",
        help="folder of the four MNIST files (default: $NUMPY_VAE_DATA, else a cache folder, which "
        "a download fills)",
    )  # fmt: skip


def add_reading(group: argparse._ActionsContainer) -> None:
    """Add the options that say how to read a file, which `reading_of` reads."""
    group.add_argument("--key", metavar="NAME", help="the array of images in a .npz or .mat file")
    group.add_argument("--label-key", metavar="NAME", help="the array of labels")
    group.add_argument(
        "--label-column", type=column, metavar="NAME|N",
        help="the column of labels in a text table: its name, or its number from 0 (-1: the last)",
    )  # fmt: skip
    group.add_argument(
        "--scale", type=real(0, 1e30, open_below=True), metavar="S",
        help="values mean value / S (default: 255 for bytes in images, else 1)",
    )  # fmt: skip
    group.add_argument(
        "--transpose", action="store_true", default=None,
        help="the last axis counts the images, as in many .mat files",
    )  # fmt: skip


def reading_of(args: argparse.Namespace, image_shape: tuple[int, ...] | None = None) -> Reading:
    """Return how to read the file of --data."""
    return Reading(
        args.key, args.label_key, args.label_column, args.scale, bool(args.transpose), image_shape
    )


def add_run(command: argparse.ArgumentParser) -> None:
    """Add the run to read."""
    command.add_argument("run", type=path, metavar="RUN", help="a run directory")


def add_moved_data(command: argparse.ArgumentParser) -> None:
    """Add the options that say where the images of the run are now."""
    command.add_argument(
        "--data", type=path, metavar="FILE",
        help="the file that the run was trained on, if it has moved",
    )  # fmt: skip
    add_data_dir(command)


def add_new_data(command: argparse.ArgumentParser, help: str) -> None:
    """Add the options that name data for a trained model, which `load_new` reads."""
    data = command.add_argument_group("data")
    data.add_argument("--data", type=path, metavar="digits|mnist|FILE|FOLDER", help=help)
    add_data_dir(data)
    add_reading(data)


def add_image_shape(command: argparse.ArgumentParser) -> None:
    """Add the shape of the images in figures."""
    command.add_argument(
        "--image-shape", type=image_shape, metavar="HxW",
        help="height and width of the images shown, such as 8x8 (default: as in the run, else as "
        "square as possible)",
    )  # fmt: skip


def add_out(command: argparse.ArgumentParser, metavar: str, default: str) -> None:
    """Add the file to write, by default the file `default` of the run."""
    command.add_argument(
        "--out", type=path, metavar=metavar,
        help=f"the file to write (default: RUN/{default}, which is replaced unless you edited it)",
    )  # fmt: skip
    command.add_argument(
        "--overwrite", action="store_true",
        help="replace an existing file, even one that the run did not write",
    )  # fmt: skip
