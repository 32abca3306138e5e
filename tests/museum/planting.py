"""Plant a fault in the real code, and run real tests on it.

Nothing on the disk is touched: a child process imports the package with the source of one module
or more replaced in memory, and runs pytest there. The children are forked from a server that has
NumPy, SciPy and pytest loaded already, where the system can fork: one costs less than a second.
"""

import faulthandler
import gc
import importlib.machinery
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

# As in tests/conftest.py, which is too late for a server that has NumPy loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT = 900.0  # seconds; a fault may make a loop that never ends
LONGEST = 120.0  # seconds for one test: twenty times as long as the slowest takes
MEMORY = 4 << 30  # bytes; or an array that no machine can hold


class Job(NamedTuple):
    """What is planted, and which tests are run on it."""

    sources: Mapping[str, str]  # module, such as "posterior", to its whole text
    tests: tuple[str, ...]  # files or node ids as pytest takes them, from the root
    stop_at_first: bool = False  # one failure is enough
    # Of those only the tests with one of these marks or node ids, the latter with parameters or
    # without; and of each until one fails, as that is the answer.
    select: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What the tests said, by node id; with `crash` the tests have not come to an end."""

    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    crash: str = ""  # "", "timeout", or how the process ended
    marks: Mapping[str, frozenset[str]] = MappingProxyType({})  # of each test, by node id

    @property
    def caught(self) -> bool:
        return bool(self.failed or self.crash)


def source(module: str) -> str:
    """Return the text of a module of the package."""
    return (
        ROOT.joinpath("numpy_vae", *module.split("."))
        .with_suffix(".py")
        .read_text(encoding="utf-8")
    )


def edited(module: str, *edits: tuple[str, str]) -> str:
    """Return the text of a module with each (old, new) replaced; old must stand there just once."""
    text = source(module)
    for old, new in edits:
        found = text.count(old)
        if found != 1:
            raise ValueError(f"{old!r} stands {found} times in {module}.py, must stand there once")
        text = text.replace(old, new)
    return text


def run(job: Job, timeout: float = TIMEOUT) -> Outcome:
    """Run the tests of `job` on the package with its faults planted."""
    receiver, sender = _context().Pipe(duplex=False)
    # Of its own: pytests that clean the directory they share up at one time break one another.
    scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    child = _context().Process(target=_child, args=(job, sender, scratch.name))
    child.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return Outcome(crash="timeout")
        *verdicts, marks, status = receiver.recv()
        if status in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise ValueError(f"{job.tests} must name tests, and some of them name none")
        ended = status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or verdicts[1]
        return Outcome(*verdicts, "" if ended else f"pytest ended with {status}", marks)
    except EOFError:
        child.join()
        return Outcome(crash=f"exit status {child.exitcode}")
    finally:
        child.kill()
        child.join()
        receiver.close()
        scratch.cleanup()


def run_all(
    jobs: Iterable[Job], workers: int | None = None, timeout: float = TIMEOUT
) -> Iterator[Outcome]:
    """Yield the outcome of each job in turn, with `workers` at work (default: one a core)."""
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        yield from pool.map(lambda job: run(job, timeout), jobs)


def _context() -> multiprocessing.context.BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["numpy", "scipy.stats", "scipy.integrate", "pytest"])
    return context


class _Planter(importlib.machinery.PathFinder):
    """Finds the modules of the package, with a loader that has the planted text for some."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.sources = sources

    def find_spec(self, fullname, path=None, target=None):
        package, _, module = fullname.partition(".")
        if package != "numpy_vae":
            return None
        # The package's own folder: commands.train is another module than train.
        path = [str(ROOT.joinpath(*fullname.split(".")[:-1]))]
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and module in self.sources:
            spec.loader = _PlantedLoader(fullname, spec.origin, self.sources[module])
        return spec


class _PlantedLoader(importlib.machinery.SourceFileLoader):
    """Compiles a text in place of the file, past the cache of compiled files."""

    def __init__(self, fullname: str, path: str, text: str) -> None:
        super().__init__(fullname, path)
        self.text = text

    def get_code(self, fullname):
        return compile(self.text, self.path, "exec", dont_inherit=True)


class _Recorder:
    """A plugin that keeps the tests selected, and writes down what each of them said."""

    def __init__(self, job: Job) -> None:
        self.stop_at_first = job.stop_at_first
        self.select = frozenset(job.select)
        self.unseen = set(job.select)  # of these no test has failed yet
        self.marks: dict[str, frozenset[str]] = {}
        self.passed: list[str] = []
        self.failed: list[str] = []
        self.skipped: list[str] = []

    def pytest_collection(self) -> None:
        _end_after(LONGEST)

    def pytest_runtest_logstart(self) -> None:
        _end_after(LONGEST)

    def pytest_collection_modifyitems(self, items) -> None:
        for item in items:
            self.marks[item.nodeid] = frozenset(mark.name for mark in item.iter_markers())
        if self.select:
            items[:] = [item for item in items if self.select & self._names(item.nodeid)]
            # First the tests named by their ids: they often answer for a mark as well.
            items.sort(key=lambda item: self.select.isdisjoint(_ids(item.nodeid)))
        if self.stop_at_first:  # the slowest last
            items.sort(key=lambda item: "gradient" in self.marks[item.nodeid])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item) -> None:
        if self.select and self.unseen.isdisjoint(self._names(item.nodeid)):
            pytest.skip("another of its marks or names has failed")

    def _names(self, nodeid: str) -> frozenset[str]:
        return self.marks[nodeid] | _ids(nodeid)

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
            self.unseen -= self._names(report.nodeid)
        elif report.skipped:
            self.skipped.append(report.nodeid)
        elif report.when == "call":
            self.passed.append(report.nodeid)

    def pytest_collectreport(self, report) -> None:
        if report.failed:  # a test file, or the package, cannot be imported
            self.failed.append(report.nodeid or "import")


def _ids(nodeid: str) -> frozenset[str]:
    return frozenset({nodeid, nodeid.partition("[")[0]})


def _end_after(seconds: float) -> None:
    """Kill the process after so many seconds, unless this is called again before then."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)


def _child(job: Job, sender, scratch: str) -> None:
    os.chdir(ROOT)
    with suppress(ImportError, OSError, ValueError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    # What a broken package prints is nobody's business, from Python or from below.
    devnull = os.open(os.devnull, os.O_WRONLY)
    for descriptor in 1, 2:
        os.dup2(devnull, descriptor)
    for name in [name for name in sys.modules if name.partition(".")[0] == "numpy_vae"]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Planter(job.sources))
    gc.freeze()  # pytest collects the garbage as it ends: not among all that the server has loaded
    recorder = _Recorder(job)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", "--assert=plain"]
    options += [f"--basetemp={scratch}/pytest"]
    options += ["-x"] if job.stop_at_first else []
    status = pytest.main([*options, *job.tests], plugins=[recorder])
    verdicts = tuple(recorder.passed), tuple(recorder.failed), tuple(recorder.skipped)
    sender.send((*verdicts, recorder.marks, int(status)))
    sender.close()
