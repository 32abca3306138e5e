"""Ctrl-C while the command line is still being imported: exit status 130 and no traceback.

Imported before NumPy, which takes most of the time. In any other program this does nothing.
"""

from __future__ import annotations

import os
import signal
import sys


def end(*_: object) -> None:
    """End the process, in which nothing has started that needs cleaning up."""
    os._exit(130)


def _is_command_line() -> bool:
    # python -m numpy_vae imports the package first, with "-m" in the place of the program.
    program = os.path.basename("".join(sys.argv[:1]))
    as_module = not {"numpy_vae", "-mnumpy_vae"}.isdisjoint(sys.orig_argv)
    return (program == "-m" and as_module) or program.startswith("numpy-vae")


if _is_command_line() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, end)
