"""Threads that take a step together, each with its share of the rows or of the parameters.

NumPy releases the interpreter's lock (the GIL) inside its loops and matrix products, so that
threads run side by side. A BLAS has threads of its own for a product; two teams of threads on the
same cores wait for each other, so while a team is at work the BLAS has one thread for each member.
That is told to it by threadpoolctl, the field's own tool (``pip install 'numpy-vae[fast]'``);
without it a team is used only where it is asked for, and OPENBLAS_NUM_THREADS=1 must tell it.

Where it wins: a call of NumPy begins and ends with the GIL held, and members that make short calls
wait for it in turn, even where Python is told to hand it over soon (`SWITCH_INTERVAL`). With large
arrays the products, the activations and the optimiser all gain from a second core, and with small
ones a team is slower than the BLAS's own threads.
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
MIN_ROWS = 64  # of a share; with fewer, the calls are too short
# Seconds after which a thread that waits for the GIL asks for it; else one whose calls are short
# often has it again before the other is awake. Python's own 0.005 is a whole step of 128 images.
SWITCH_INTERVAL = 1e-4

# Called in a thread, gives it one thread of the BLAS, until the end of the context.
Limit = Callable[[], AbstractContextManager[Any]]


class Team:
    """Threads that run the same function side by side, each with its own number.

    Use it as a context: ``with Team(2) as team: ...`` starts the threads, gives the BLAS one thread
    for each and Python a shorter switch interval, in the whole process, and ends them and puts
    everything back. Where several teams are at work, the first gives and the last puts back. A team
    of one is the calling thread, and changes nothing. `size` counts the calling thread.

    ValueError if `size` is not a whole number in range. RuntimeError if a team of several is
    entered twice, or works outside of its context. OSError if it is entered and the system cannot
    start that many threads.
    """

    def __init__(self, size: int) -> None:
        self.size = check_whole("threads", size, 1, MAX_THREADS)
        self._threads: list[Thread] = []
        self._inboxes: list[SimpleQueue[Any]] = []
        self._process = 0  # in which they were started
        self._running = False
        self._end = ExitStack()  # what __exit__ has to do

    def __enter__(self) -> Self:
        if self._threads:
            raise RuntimeError(f"the team of {self.size} threads is at work, must be entered once")
        if self.size == 1:
            return self
        try:
            with ExitStack() as end:  # where the system has no thread left, nothing stays behind
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
        """End the threads and wait for all, also where Ctrl-C arrives, which is raised then."""
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
        """Return which of n rows are those of a member: n / size, but for rounding."""
        return slice(n * member // self.size, n * (member + 1) // self.size)

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """Return [work(0), work(1), ...], all at the same time; work(0) in the calling thread.

        `np.errstate` of the caller holds in all of them: NumPy keeps it in the context. All have
        ended when it returns, also where one raises: then the exception of the calling thread is
        raised, or that of the lowest number. A member must not ask the team in its turn.
        """
        if self.size == 1:
            return [work(0)]
        if not self._threads or self._process != os.getpid():  # a child has none of the threads
            raise RuntimeError(
                f"the team of {self.size} threads is not at work, must be entered:"
                f" with Team({self.size}) as team"
            )
        if self._running:
            raise RuntimeError(
                f"the team of {self.size} threads runs something, must not be asked for more by it"
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
        except BaseException as raised:  # Ctrl-C comes anywhere: what has been asked is not known
            answers[0] = None, raised
            while True:
                try:  # a member answers in turn: after this, it has done what it was asked before
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
    """Keeps what is set for the whole process: threads of a BLAS, and Python's switch interval.

    From the first team that begins to the last that ends, in a thread of its own: threadpoolctl 3.8
    lets only the thread that set a limit put it back, and the team of that one may be done first.
    A BLAS that has a number of threads for each of those that call it does not hear of this: for it
    every member, and the calling thread, takes the limit for itself, which elsewhere does nothing.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._teams = 0  # at work
        self._end = ExitStack()  # what the last of them has to do

    @contextmanager
    def keep(self, limit: Limit) -> Iterator[None]:
        """Keep limit and interval as long as this context, or that of another team, lasts."""
        from concurrent.futures import ThreadPoolExecutor  # here: it takes long to import

        with self._lock:
            if self._teams == 0:
                self._end.close()  # what Ctrl-C left, if it came between the last two lines below
                with ExitStack() as end:
                    thread = end.enter_context(ThreadPoolExecutor(1))
                    of_thread = ExitStack()
                    end.callback(lambda: thread.submit(of_thread.close).result())
                    thread.submit(lambda: of_thread.enter_context(limit())).result()
                    before = sys.getswitchinterval()
                    # Python cuts it to whole microseconds, and may lose one.
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
        """In a child that was forked, which has no other thread, leave both as they are."""
        self._lock, self._end = Lock(), ExitStack()


_KEEPER = _Keeper()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_KEEPER.forget)
ALONE = Team(1)


def blas_controls() -> Any:
    """Return threadpoolctl's controls of each BLAS that it can limit; None if there is none."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    controls = ThreadpoolController().select(user_api="blas")
    return controls if len(controls) else None


def blas_limit() -> Limit:
    """Return what gives a thread one thread of the BLAS, as far as threadpoolctl can reach it."""
    controls = blas_controls()
    return nullcontext if controls is None else lambda: controls.limit(limits=1, user_api="blas")


def suitable_threads(images: int, samples: int = 1) -> int:
    """Return how many threads gain by sharing minibatches of so many images, with K samples each.

    One for each core and for `MIN_ROWS` rows, images times samples; no more than images, which are
    what is shared. One, which leaves the BLAS its own threads, where threadpoolctl cannot limit
    them: it is not installed, or the BLAS is one that it does not know (Apple's Accelerate).
    """
    if blas_controls() is None:
        return 1
    return max(1, min(cores(), images * samples // MIN_ROWS, images, MAX_THREADS))


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
