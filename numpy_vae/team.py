"""Threads that take a step together, each with its share of the rows or of the parameters.

NumPy releases the interpreter's lock (the GIL) inside its loops and matrix products, so that
threads run side by side. A BLAS has threads of its own for a product; two teams of threads on the
same cores wait for each other, so while a team is at work the BLAS has one thread for each member.
That is told to it by threadpoolctl, the field's own tool (``pip install 'numpy-vae[fast]'``);
without it a team is used only where it is asked for, and OPENBLAS_NUM_THREADS=1 must tell it.

Where it wins: a call of NumPy begins and ends with the GIL held, and members that make short calls
wait for it in turn. With large arrays the products, the activations and the optimiser all gain from
a second core, and with small ones a team is slower than the BLAS's own threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from importlib.util import find_spec
from queue import SimpleQueue
from threading import Thread
from typing import Any, Self

from .checks import check_whole

MAX_THREADS = 256
MIN_ROWS = 64  # of a share; with fewer, the calls are too short


class Team:
    """Threads that run the same function side by side, each with its own number.

    Use it as a context: ``with Team(2) as team: ...`` starts the threads, gives the BLAS one thread
    for each, in the whole process, and puts everything back. A team of one is the calling thread,
    and changes nothing.

    Parameters
    ----------
    size : int
        Members, the calling thread among them.

    Raises
    ------
    ValueError
        If `size` is not a whole number in range.
    RuntimeError
        If a team of several is entered twice, or works outside of its context.
    """

    def __init__(self, size: int) -> None:
        self.size = check_whole("threads", size, 1, MAX_THREADS)
        self._inboxes: list[SimpleQueue[Any]] = []
        self._outbox: SimpleQueue[Any] = SimpleQueue()  # (member, result, error)
        self._limit: AbstractContextManager[Any] = nullcontext()

    def __enter__(self) -> Self:
        if self._inboxes:
            raise RuntimeError(f"the team of {self.size} threads is at work, must be entered once")
        if self.size > 1:
            self._limit = one_blas_thread()
            self._limit.__enter__()
            self._outbox = SimpleQueue()
            try:
                for i in range(1, self.size):
                    inbox: SimpleQueue[Any] = SimpleQueue()
                    Thread(target=_serve, args=(i, inbox, self._outbox), daemon=True).start()
                    self._inboxes.append(inbox)
            except RuntimeError:  # the system has no thread left: nothing may stay behind
                self.__exit__()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
        for inbox in self._inboxes:
            inbox.put(None)
        self._inboxes = []
        self._limit.__exit__(None, None, None)
        self._limit = nullcontext()

    def share(self, n: int, member: int) -> slice:
        """Return which of n rows are those of a member: n / size, but for rounding."""
        return slice(n * member // self.size, n * (member + 1) // self.size)

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """Return [work(0), work(1), ...], all at the same time; work(0) in the calling thread.

        `np.errstate` of the caller holds in all of them: NumPy keeps it in the context. All have
        ended when it returns, also where one raises: then the exception of the calling thread is
        raised, or that of the lowest number.
        """
        if len(self._inboxes) != self.size - 1:
            raise RuntimeError(
                f"the team of {self.size} threads is not at work, must be entered:"
                f" with Team({self.size}) as team"
            )
        results: list[Any] = [None] * self.size
        errors: list[BaseException | None] = [None] * self.size
        for inbox in self._inboxes:
            inbox.put((copy_context(), work))
        waiting = len(self._inboxes)
        try:
            results[0] = work(0)
        except BaseException as raised:
            errors[0] = raised
        while waiting:
            try:
                i, results[i], errors[i] = self._outbox.get()
                waiting -= 1
            except KeyboardInterrupt as raised:  # and goes on when all have ended
                errors[0] = raised
        for error in filter(None, errors):
            raise error
        return results


def _serve(i: int, inbox: SimpleQueue[Any], outbox: SimpleQueue[Any]) -> None:
    while (task := inbox.get()) is not None:
        context, work = task
        try:
            outbox.put((i, context.run(work, i), None))
        except BaseException as error:
            outbox.put((i, None, error))


ALONE = Team(1)


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which a BLAS has one thread, as far as threadpoolctl can reach it."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(1, "blas")


def suitable_threads(rows: int) -> int:
    """Return how many threads gain by sharing minibatches of so many rows, images times samples.

    One for each core and for `MIN_ROWS` rows; without threadpoolctl one, which leaves the BLAS its
    own threads.
    """
    if find_spec("threadpoolctl") is None:
        return 1
    return max(1, min(cores(), rows // MIN_ROWS, MAX_THREADS))


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
