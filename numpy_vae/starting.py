"""Ctrl-C while the command line is being imported: exit status 130 and no traceback.

This is imported before NumPy, which takes most of the time. In other programs it does nothing.
"""

from __future__ import annotations

import os
import signal
import sys


def end(*_: object) -> None:
    """End the process; nothing has started yet that needs cleaning up."""
    os._exit(130)


def _is_command_line() -> bool:
    # python -m numpy_vae imports the package first, while sys.argv[0] is still "-m".
    program = os.path.basename("".join(sys.argv[:1]))
    as_module = not {"numpy_vae", "-mnumpy_vae"}.isdisjoint(sys.orig_argv)
    return (program == "-m" and as_module) or program.startswith("numpy-vae")


if _is_command_line() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, end)
