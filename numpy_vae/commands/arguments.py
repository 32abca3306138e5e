"""What the commands take: the readers of values, and the options that several of them share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..blocks import MAX_WIDTH
from ..checks import check_real, check_whole
from ..layers import ACTIVATIONS
from ..likelihood import LIKELIHOODS
from ..runs.directory import MAX_SEED
from ..training.recipe import SETTINGS, explain

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: Subparsers,
    name: str,
    execute: Callable[[argparse.Namespace], int],
    help: str,
    description: str,
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    """Add a command that `execute` does, returning its exit status."""
    command = commands.add_parser(
        name,
        allow_abbrev=False,
        help=help,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(execute=execute)
    return command


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


def image_shape(text: str) -> tuple[int, int]:
    """Read a height and a width, such as "8x8"."""
    try:
        height, width = map(whole(1, MAX_WIDTH), text.split("x"))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a height and a width in pixels, such as 28x28"
        ) from None
    return height, width


def path(text: str) -> str:
    """Read a path or a name, which is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("'' must not be empty")
    return text


def add_model_arguments(
    command: argparse.ArgumentParser, hidden: Sequence[int], latent: int
) -> argparse._ArgumentGroup:
    """Add the settings of the model, which `make_model` reads; return their group."""
    model = command.add_argument_group("model")
    model.add_argument(
        "--hidden",
        type=widths,
        metavar="400|200,200|none",
        help="widths of the hidden layers of the encoder, mirrored in the decoder; none is the "
        f"linear model (default: {','.join(map(str, hidden))})",
    )
    model.add_argument(
        "--latent",
        type=whole(1, MAX_WIDTH),
        metavar="Z",
        help=f"latent dimensions; with 2 a picture can show all of them (default: {latent})",
    )
    model.add_argument(
        "--activation",
        choices=tuple(ACTIVATIONS),
        help="of the hidden layers (default: relu)",
    )
    model.add_argument(
        "--likelihood",
        choices=tuple(LIKELIHOODS),
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
    return model


def add_setting(group: argparse._ArgumentGroup, name: str, default: str = "") -> None:
    """Add the option of a setting of training; not given, it is None."""
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
    """Add the seed, with what it is of."""
    command.add_argument(
        "--seed", type=whole(0, MAX_SEED), default=default, metavar="S", help=f"{help} (default: 0)"
    )


def add_data_dir(command: argparse._ActionsContainer) -> None:
    """Add the folder of the MNIST files."""
    command.add_argument(
        "--data-dir",
        type=path,
        metavar="DIR",
        help="a folder with the four MNIST files (default: $NUMPY_VAE_DATA, else the cache folder, "
        "else a download into that)",
    )


def add_run(command: argparse.ArgumentParser) -> None:
    """Add the run, which is read."""
    command.add_argument("run", type=path, metavar="RUN", help="the directory of a run")


def add_moved_data(command: argparse.ArgumentParser) -> None:
    """Add where the images of the run are now."""
    command.add_argument(
        "--data",
        type=path,
        metavar="FILE",
        help="the file that the run was trained on, where it has moved",
    )
    add_data_dir(command)


def add_image_shape(command: argparse.ArgumentParser) -> None:
    """Add the shape in which images are shown."""
    command.add_argument(
        "--image-shape",
        type=image_shape,
        metavar="HxW",
        help="height and width to show the images in, such as 8x8 (default: those of the run, else "
        "as square as can be)",
    )


def add_out(command: argparse.ArgumentParser, metavar: str, default: str) -> None:
    """Add the file to write, `default` being a name within the run."""
    command.add_argument(
        "--out",
        type=path,
        metavar=metavar,
        help=f"the file to write (default: RUN/{default}, replaced if it is as the run wrote it)",
    )
    command.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an existing file, even one that the run did not write",
    )
