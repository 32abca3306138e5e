"""Shared by the benchmarks: contestants in their own processes, turns, facts of the machine.

The threads of one BLAS disturb another's: some spin for a while after a product before they sleep.
So each contestant has its own process, and they take turns of a few calls. Other load on the
machine comes in bursts, often longer than a turn, which slow all contestants of a round alike. So
contestants are compared by the ratio of their times within a round, and its median over the rounds
(`paired`). Each round has a random order, so that no contestant always follows the same one.

The results are a dict by contestant; each holds the times of its rounds, under the name of their
unit, and their ``"median"``.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np

from numpy_vae.training.team import cores

T = TypeVar("T")
R = TypeVar("R")
Results = dict[str, dict[str, Any]]


class Worker:
    """An object in its own process: `call` runs one of its methods there.

    Parameters
    ----------
    factory : callable
        Makes the object, in the other process; a function or class at the top of a module.
    *args
        Its arguments. They must be picklable, as must the arguments and results of methods.
    """

    def __init__(self, factory: Callable[..., Any], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, factory, args), daemon=True)
        self._process.start()
        other.close()
        self._answer()

    def call(self, name: str, *args: Any) -> Any:
        """Return what the method `name` returns. An exception there is a RuntimeError here."""
        self._pipe.send((name, args))
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(10)

    def _answer(self) -> Any:
        try:
            error, result = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the process has ended") from None
        if error:
            raise RuntimeError(error)
        return result


def _serve(pipe: Connection, factory: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        thing = factory(*args)
        pipe.send((None, None))
        while True:
            name, arguments = pipe.recv()
            pipe.send((None, getattr(thing, name)(*arguments)))
    except EOFError:
        pass
    except Exception as error:
        pipe.send((f"{type(error).__name__}: {error}", None))


@contextmanager
def started(recipes: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Worker]]:
    """Start a worker for each recipe (a factory and its arguments), and finally close them all."""
    workers: dict[str, Worker] = {}
    try:
        for name, recipe in recipes.items():
            workers[name] = Worker(*recipe)
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def take_turns(
    contestants: Mapping[str, T], turn: Callable[[T], R], rounds: int, pause: float = 0.0
) -> dict[str, list[R]]:
    """Return, by name, the results of `turn` for each contestant, one per round.

    Parameters
    ----------
    contestants : mapping
    turn : callable
        Called with a contestant.
    rounds : int
        Turns of each contestant.
    pause : float
        Seconds before each turn, in which the threads of the previous one go to sleep.
    """
    found: dict[str, list[R]] = {name: [] for name in contestants}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(contestants), len(contestants)):
            time.sleep(pause)
            found[name].append(turn(contestants[name]))
    return found


def with_medians(times: Mapping[str, list[float]], unit: str = "milliseconds") -> Results:
    """Return results made of these times and their medians."""
    return {name: {unit: found, "median": median(found)} for name, found in times.items()}


def paired(
    results: Mapping[str, Mapping[str, Any]], name: str, other: str, unit: str = "milliseconds"
) -> float:
    """Return the median over rounds of one contestant's time divided by the other's.

    NaN if one of them did not take part.
    """
    if not {name, other} <= results.keys():
        return math.nan
    times = zip(results[name][unit], results[other][unit], strict=True)
    return median(mine / its for mine, its in times)


def agree(losses: Sequence[float], tolerance: float) -> bool:
    """Return whether all are finite and differ by at most `tolerance` times the largest."""
    return all(map(math.isfinite, losses)) and (
        not losses or max(losses) - min(losses) <= tolerance * max(losses)
    )


def installed(*names: str) -> dict[str, str]:
    """Return the versions of the packages, of those that are installed."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def machine() -> dict[str, Any]:
    """Return what the times depend on: CPU, cores, Python, packages, BLAS and its threads."""
    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": "unknown: threadpoolctl is not installed",
    }
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return facts
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    facts["blas"] = ", ".join(
        f"{library['internal_api']} {library['version']} ({library.get('architecture')}), "
        f"{library['num_threads']} threads"
        for library in libraries
    )
    return facts


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def heading(facts: Mapping[str, Any]) -> str:
    """Return the facts of `machine` as one line."""
    return (
        f"{facts['processor']}, {facts['cores']} cores; Python {facts['python']}, "
        f"NumPy {facts['numpy']}; {facts['blas']}"
    )


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that the times depend on: all but the paths."""
    return {n: value for n, value in vars(args).items() if n not in ("json", "data_dir")}


def write_json(path: str, result: Mapping[str, Any]) -> None:
    """Write `result` to `path`."""
    Path(path).write_text(json.dumps(result, indent=2) + "\n")
