"""Ctrl-C while the command line is still being imported: exit status 130 and no traceback.

Imported before NumPy, which takes most of the time. Where the package is imported by another
program this does nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def _is_command_line() -> bool:
    # python -m numpy_vae imports the package first, with "-m" in the place of the program.
    program = next(iter(getattr(sys, "argv", [])), "")
    by_name = not {"numpy_vae", "-mnumpy_vae"}.isdisjoint(sys.orig_argv)
    return (program == "-m" and by_name) or os.path.basename(program).startswith("numpy-vae")


def _end(signum: int, frame: FrameType | None) -> None:
    os._exit(130)  # nothing has started that needs cleaning up


def imported() -> None:
    """Give Ctrl-C back its usual effect once the import is done."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if _is_command_line() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
