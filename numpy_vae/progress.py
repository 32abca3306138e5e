"""What a person sees while a model trains, and where Ctrl-C takes effect."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .train import Record, Step


class Progress:
    """One live line on a terminal, and the place where Ctrl-C takes effect: between two steps.

    It is called after each step (`on_step` of `train_epochs`).
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.live = sys.stderr.isatty()
        self.width = 0
        self.last = 0.0
        self.interrupted = False

    def __call__(self, step: Step) -> None:
        """Show how far training has got; raise KeyboardInterrupt if it was asked for."""
        if self.interrupted:
            raise KeyboardInterrupt
        now = time.monotonic()
        if self.live and now - self.last > 0.1:
            self.last = now
            self.show(
                f"epoch {step.epoch}/{self.epochs}  batch {step.batch}/{step.batches}  "
                f"train loss {-step.train_bound:.2f} nats"
            )

    def show(self, text: str) -> None:
        """Replace the live line by `text`."""
        if self.live:
            print(f"\r{text:{self.width}}", end="", file=sys.stderr, flush=True)
            self.width = len(text)

    def clear(self) -> None:
        """Remove the live line."""
        self.show("")
        self.show("")  # the first one wrote blanks, this one goes back to the start of the line

    @contextmanager
    def catch_interrupt(self) -> Iterator[None]:
        """Let Ctrl-C stop the training after the step it falls into; a second one, at once."""

        def interrupt(signum: int, frame: FrameType | None) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        # Else someone else has decided what Ctrl-C does, or may not decide here.
        ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if ours:
            signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            if ours:
                signal.signal(signal.SIGINT, signal.default_int_handler)


def say(text: str) -> None:
    """Print a line; that nobody reads any more, or that a log is full, does not stop a training."""
    try:
        print(text, flush=True)
    except OSError:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def epoch_line(record: Record, epochs: int) -> str:
    """Return the one plain line about an epoch."""
    line = f"epoch {record.epoch:{len(str(epochs))}}/{epochs}  "
    if abs(record.train_bound - record.train_elbo) > 1e-3:  # of another bound, or with a beta
        line += f"loss train {-record.train_bound:8.3f}  "
    line += f"-ELBO train {-record.train_elbo:8.3f}  "
    for name, (elbo, reconstruction, kl) in record.held_out().items():
        line += f"{name} {-elbo:8.3f} = reconstruction {reconstruction:8.3f} + KL {kl:7.3f} nats  "
    return f"{line}{record.seconds:.1f} s"
