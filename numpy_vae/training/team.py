"""Threads that take a step together, each with its share of the rows or of the parameters.

NumPy releases the interpreter's lock (the GIL) in its loops and matrix products, so threads run in
parallel. But a BLAS has its own threads, and two teams of threads on the same cores wait for each
other. So while a team works, threadpoolctl (``pip install 'numpy-vae[fast]'``) limits the BLAS to
one thread per member. Without it a team is used only on request, with OPENBLAS_NUM_THREADS=1.

A NumPy call begins and ends with the GIL held, so members that make short calls wait for it in
turn, even with a short `SWITCH_INTERVAL`. With large arrays the products, the activations and the
optimiser all gain from a second core; with small ones the BLAS's own threads are faster.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import copy_context
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Self

from ..checks import check_whole

MAX_THREADS = 256
MIN_ROWS = 64  # per share; with fewer, the calls are too short
# Seconds after which a thread that waits for the GIL asks for it; otherwise one with short calls
# often takes it again before the other wakes. Python's 0.005 is a whole step of 128 images.
SWITCH_INTERVAL = 1e-4

# Called in a thread, limits it to one BLAS thread until the end of the context.
Limit = Callable[[], AbstractContextManager[Any]]


class Team:
    """Threads that run the same function in parallel, each with its own number.

    ``with Team(2) as team: ...`` starts the threads, limits the BLAS to one thread for each and
    shortens Python's switch interval in the whole process; at the end it undoes all this. With
    several teams the first sets the limits and the last undoes them. `size` counts the calling
    thread, so a team of one changes nothing.

    RuntimeError if a team of several is entered twice or works outside its context. OSError if the
    system cannot start that many threads.
    """

    def __init__(self, size: int) -> None:
        self.size = check_whole("threads", size, 1, MAX_THREADS)
        self._threads: list[Thread] = []
        self._inboxes: list[SimpleQueue[Any]] = []
        self._process = 0  # that started them
        self._running = False
        self._end = ExitStack()  # for __exit__

    def __enter__(self) -> Self:
        if self._threads:
            raise RuntimeError(f"the team of {self.size} threads is running, must be entered once")
        if self.size == 1:
            return self
        try:
            with ExitStack() as end:  # cleans up if the system cannot start a thread
                self._process, limit = os.getpid(), blas_limit()
                end.enter_context(_KEEPER.keep(limit))
                end.enter_context(limit())
                end.callback(self._dismiss)
                for i in range(1, self.size):
                    inbox: SimpleQueue[Any] = SimpleQueue()
                    thread = Thread(target=_serve, args=(i, inbox, limit), daemon=True)
                    self._inboxes.append(inbox)
                    self._threads.append(thread)
                    thread.start()
                self._end = end.pop_all()
        except RuntimeError as error:  # can't start new thread
            raise OSError(f"the system cannot start {self.size} threads: {error}") from None
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.close()

    def _dismiss(self) -> None:
        """End the threads and wait for all of them, even on Ctrl-C, which is raised afterwards."""
        threads, self._threads = self._threads, []
        inboxes, self._inboxes = self._inboxes, []
        for inbox in inboxes:
            inbox.put(None)
        interrupt = None
        for thread in threads:
            while thread.is_alive():
                try:
                    thread.join()
                except KeyboardInterrupt as raised:
                    interrupt = raised
        if interrupt is not None:
            raise interrupt

    def share(self, n: int, member: int) -> slice:
        """Return a member's share of n rows: n / size, up to rounding."""
        return slice(n * member // self.size, n * (member + 1) // self.size)

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """Return [work(0), work(1), ...], run in parallel; work(0) in the calling thread.

        The caller's `np.errstate` holds in all: NumPy keeps it in the context. All have ended when
        this returns or raises the exception of the lowest number. `work` must not call `run`.
        """
        if self.size == 1:
            return [work(0)]
        if not self._threads or self._process != os.getpid():  # a child process has no threads
            raise RuntimeError(
                f"the team of {self.size} threads is not running, must be entered:"
                f" with Team({self.size}) as team"
            )
        if self._running:
            raise RuntimeError(
                f"the team of {self.size} threads is working, must not be run by its own work"
            )
        self._running = True
        try:
            return self._run(work)
        finally:
            self._running = False

    def _run(self, work: Callable[[int], Any]) -> list[Any]:
        answers: dict[int, tuple[Any, BaseException | None]] = {}  # result, error of a member
        try:
            bell = self._ask(work, answers)
            answers[0] = work(0), None
            for _ in self._threads:
                bell.get()
        except BaseException as raised:  # Ctrl-C comes anywhere: who has been asked is unknown
            answers[0] = None, raised
            while True:
                try:  # a member answers in turn: after this it has done all that was asked before
                    bell = self._ask(lambda member: None, {})
                    for _ in self._threads:
                        bell.get()
                    break
                except KeyboardInterrupt as again:
                    answers[0] = None, again
        found = [answers[i] for i in sorted(answers)]
        for _, error in found:
            if error is not None:
                raise error
        return [result for result, _ in found]

    def _ask(self, work: Callable[[int], Any], answers: dict[int, Any]) -> SimpleQueue[None]:
        """Give the work to the other threads; return the bell that rings after each answer."""
        bell: SimpleQueue[None] = SimpleQueue()
        for inbox in self._inboxes:
            inbox.put((copy_context(), work, answers, bell))
        return bell


def _serve(i: int, inbox: SimpleQueue[Any], limit: Limit) -> None:
    with limit():
        while (task := inbox.get()) is not None:
            context, work, answers, bell = task
            try:
                answers[i] = context.run(work, i), None
            except BaseException as error:
                answers[i] = None, error
            bell.put(None)


class _Keeper:
    """Keeps the settings of the whole process: the limit of the BLAS, Python's switch interval.

    It keeps them from the start of the first team to the end of the last, in a thread of its own:
    in threadpoolctl 3.8 only the thread that set a limit can undo it, and its team may end first. A
    BLAS with a limit for each calling thread ignores this, so every member and the calling thread
    also set the limit themselves, which has no effect on another BLAS.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._teams = 0  # entered now
        self._end = ExitStack()  # for the last of them

    @contextmanager
    def keep(self, limit: Limit) -> Iterator[None]:
        """Keep limit and interval until the end of this context and those of other teams."""
        from concurrent.futures import ThreadPoolExecutor  # here: its import is slow

        with self._lock:
            if self._teams == 0:
                self._end.close()  # what Ctrl-C left, if it came between the last two lines below
                with ExitStack() as end:
                    thread = end.enter_context(ThreadPoolExecutor(1))
                    of_thread = ExitStack()
                    end.callback(lambda: thread.submit(of_thread.close).result())
                    thread.submit(lambda: of_thread.enter_context(limit())).result()
                    before = sys.getswitchinterval()
                    # Python truncates it to whole microseconds, and may lose one.
                    end.callback(sys.setswitchinterval, before + 5e-7)
                    sys.setswitchinterval(min(before, SWITCH_INTERVAL))
                    self._end = end.pop_all()
            self._teams += 1
        try:
            yield
        finally:
            with self._lock:
                self._teams -= 1
                if self._teams == 0:
                    self._end.close()

    def forget(self) -> None:
        """Leave both as they are in a forked child, which has no other thread."""
        self._lock, self._end = Lock(), ExitStack()


_KEEPER = _Keeper()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_KEEPER.forget)
ALONE = Team(1)


def blas_controls() -> Any:
    """Return threadpoolctl's controls of every BLAS that it can limit; None if there is none."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    controls = ThreadpoolController().select(user_api="blas")
    return controls if len(controls) else None


def blas_limit() -> Limit:
    """Return a context that limits the calling thread to one BLAS thread, if threadpoolctl can."""
    controls = blas_controls()
    return nullcontext if controls is None else lambda: controls.limit(limits=1, user_api="blas")


def suitable_threads(images: int, samples: int = 1) -> int:
    """Return how many threads are worthwhile for minibatches of this size, with K samples each.

    At most one per core, per image and per `MIN_ROWS` rows, images times samples. One, which leaves
    the BLAS its own threads, if threadpoolctl is not installed or does not know the BLAS (Apple's
    Accelerate).
    """
    if blas_controls() is None:
        return 1
    return max(1, min(cores(), images * samples // MIN_ROWS, images, MAX_THREADS))


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
