"""What training prints, and what Ctrl-C does.

Each epoch prints a line. On a terminal and in a notebook there is also a live line.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

from ..checks import shorten
from ..training.state import Record, Step

LONGEST = 600  # characters of a line on standard error
TERMINAL_EVERY, NOTEBOOK_EVERY = 0.1, 0.5  # seconds between updates of the live line


class Progress:
    """Print the progress of a training: ``fit(vae, data, report=Progress())``.

    Called with a `Step`, it updates a live line: on standard error if that is a terminal, on
    standard output in a notebook, and nowhere else. Called with a `Record`, it prints a line about
    the epoch. If `quiet`, it prints nothing. See `catch_interrupt` for Ctrl-C.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.every = 0.0 if quiet else _every()
        self.width = 0  # of the live line on the screen
        self.last = 0.0  # when it was updated
        self.interrupted = False
        self.epochs = 0  # of the whole training, from the last step
        self.done = 0  # steps
        self.first: tuple[float, int] | None = None  # time and number of the first step

    def __call__(self, event: Step | Record) -> None:
        """Show how far training has got; raise KeyboardInterrupt if Ctrl-C was pressed."""
        if isinstance(event, Record):
            self.clear()
            self.say(epoch_line(event, max(self.epochs, event.epoch)))
            return
        if self.interrupted:
            raise KeyboardInterrupt
        now = time.monotonic()
        self.epochs = event.epochs
        done = (event.epoch - 1) * event.batches + event.batch
        if self.first is None or done <= self.done:  # or a new training has begun
            self.first = now, done
        self.done = done
        start, before = self.first
        left = event.epochs * event.batches - done
        seconds = (now - start) / (done - before) * left if done > before else None
        self.show(step_line(event, seconds))

    def show(self, text: str) -> None:
        """Replace the live line by `text`, unless it was updated less than `every` seconds ago."""
        import shutil

        now = time.monotonic()
        if self.every and now - self.last > self.every:
            self.last = now
            self._write(text if _in_notebook() else text[: shutil.get_terminal_size().columns - 1])

    def _write(self, text: str) -> None:
        # Notebooks show standard error on red, as if it were an error.
        stream = sys.stdout if _in_notebook() else sys.stderr
        if not _print(f"\r{text:{self.width}}", stream, end=""):
            self.every = 0.0  # the stream is gone: no more updates
        self.width = len(text) if self.every else 0

    def clear(self) -> None:
        """Remove the live line."""
        if self.width:
            self._write("")
            self._write("")  # the first call wrote blanks, this one returns to the line's start

    def say(self, text: str) -> None:
        """Print a line, unless quiet."""
        if not self.quiet:
            say(text)

    @contextmanager
    def catch_interrupt(self) -> Iterator[None]:
        """Let Ctrl-C stop the training after the current step, and a second Ctrl-C at once."""

        def interrupt(signum: int, frame: FrameType | None) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        # Only the main thread may set a handler, and a handler of the caller's stays.
        main = threading.current_thread() is threading.main_thread()
        ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if ours:
            signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            if ours:
                signal.signal(signal.SIGINT, signal.default_int_handler)


def _in_notebook() -> bool:
    return type(sys.stdout).__module__.startswith("ipykernel.")


def _every() -> float:
    """Return the seconds between updates of the live line, or 0 for no live line."""
    if _in_notebook():
        return NOTEBOOK_EVERY
    with suppress(AttributeError, ValueError):  # standard error is None or closed
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            return TERMINAL_EVERY
    return 0.0


def say(text: str) -> None:
    """Print a line; if standard output is closed or full, discard it and all that follows."""
    _print(text, sys.stdout)


def complain(text: str) -> None:
    """Print a line on standard error, like `say`; a very long line loses its middle."""
    _print(shorten(text, LONGEST), sys.stderr)


def say_result(text: str, end: str = "\n") -> None:
    """Print the result of a command; raise OSError if it cannot be written."""
    if not _print(text, sys.stdout, end):
        raise OSError(errno.EIO, "closed or full, so the result is lost", "standard output")


def _print(text: str, stream: TextIO | None, end: str = "\n") -> bool:
    """Print on a stream; return False if it is closed or full, or its terminal is gone."""
    if stream is None or getattr(stream, "closed", False):
        return False
    try:
        print(text, end=end, file=stream, flush=True)
    except OSError:
        with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())  # so that later flushes do not fail
        return False
    return True


def duration(seconds: float) -> str:
    """Return a time as text: 42 s, 3:05 min or 2:03 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def step_line(step: Step, seconds: float | None) -> str:
    """Return the live line after a step, with the time left (`seconds`) if known."""
    batch = f"{step.batch:{len(str(step.batches))}}/{step.batches}"
    left = "" if seconds is None else f"  {duration(seconds)} left"
    terms = f"reconstruction {step.train_reconstruction:.2f} + KL {step.train_kl:.2f} nats"
    return f"epoch {step.epoch}/{step.epochs}  batch {batch}{left}  {terms}"


def epoch_line(record: Record, epochs: int) -> str:
    """Return the line about an epoch."""
    line = f"epoch {record.epoch:{len(str(epochs))}}/{epochs}  "
    if abs(record.train_bound - record.train_elbo) > 1e-3:  # iwae, or beta is not 1
        line += f"loss train {-record.train_bound:8.3f}  "
    line += f"-ELBO train {-record.train_elbo:8.3f}  "
    for name, (elbo, reconstruction, kl) in record.held_out().items():
        line += f"{name} {-elbo:8.3f} = reconstruction {reconstruction:8.3f} + KL {kl:7.3f} nats  "
    return f"{line}{record.seconds:.1f} s"
