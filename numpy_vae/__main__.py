"""The command line: its commands and exit status.

0 success, 1 training or a check failed or a file could not be written, 2 invalid arguments or data,
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from . import __version__, starting
from .commands import (
    decode,
    encode,
    evaluate,
    explore,
    gradcheck,
    plot,
    reconstruct,
    sample,
    score,
    study,
    train,
)
from .commands.inputs import UsageError, one_line
from .runs.progress import complain, say_result

COMMANDS = (
    train, evaluate, score, plot, sample, encode, decode, reconstruct, explore, gradcheck, study,
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="numpy-vae",
        description="A variational autoencoder in NumPy, every gradient derived by hand.",
    )
    parser.add_argument("--version", action="version", version=f"numpy-vae {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_arguments(commands)
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed arguments; raise OSError if the help cannot be written."""
    try:
        return build_parser().parse_args(argv)
    except SystemExit as stop:
        if not stop.code:
            say_result("", end="")  # argparse does not report a full device
        raise


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: that of the process); return its exit status."""
    if signal.getsignal(signal.SIGINT) is starting.end:  # the import is done
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file opened would get its number and its output
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # also print names that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    command = "numpy-vae"
    try:
        args = parse(argv)
        command += f" {args.command}"
        status: int = args.execute(args)
    except UsageError as error:
        complain(f"{command}: error: {error}")
        return 2
    except (FloatingPointError, MemoryError, OSError) as error:  # while it ran
        complain(f"{command}: error: {one_line(error)}")
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
