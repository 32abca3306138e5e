"""How the cost of training scales with batch, width, depth, importance samples and data.

    python benchmarks/scaling.py [--only batch width depth samples data] [--rounds 15] [--json FILE]

Starting from 784-400-20-400-784 at batch 128, one thing at a time is changed. A step is compared
with the matrix products of its shapes, with the BLAS's threads or split over two threads, whichever
is faster. A ratio near 1 means that only the BLAS matters; a large one means that Adam or Python's
call overhead does. The samples are those of the importance-weighted bound, at batch 20 as in its
paper: the encoder runs once for all of them. The data are random pixels in memory and, for the
largest size, also in a memory-mapped `.npy`. Measured are the time per image, which should not
grow, and the process's own memory after the epochs (resident, not backed by a file).

The cases of a sweep take turns, each in its own process, so that all rows see the same machine. A
ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from contestants import FLOOR, SPLIT, D, H, Products, Z, floor
from harness import (
    heading,
    machine,
    paired,
    settings_of,
    started,
    take_turns,
    with_medians,
    write_json,
)

from numpy_vae import VAE, Adam, load_array
from numpy_vae.data import Dataset, readers
from numpy_vae.training.loop import train_epochs, train_step
from numpy_vae.training.recipe import Recipe
from numpy_vae.training.team import Team, suitable_threads

PAUSE = 0.05  # seconds, in which the threads of a BLAS go to sleep
SETTLE = 0.1  # seconds of untimed calls, in which the threads settle on cores
TURN = 0.1  # seconds of timed calls
EPOCHS = 5  # rounds of the data
STEP = "step"


class Case:
    """A step of one model at one batch size, and its matrix products, in one process."""

    def __init__(self, batch: int, hidden: tuple[int, ...], samples: int) -> None:
        rng = np.random.default_rng(0)
        self.vae = VAE(D, hidden, Z, rng=0)
        self.adam = Adam(self.vae.params)
        self.x = (rng.random((batch, D)) < 0.2).astype(np.float32)
        shape = (samples, batch, Z) if samples > 1 else (batch, Z)
        self.eps = rng.standard_normal(shape, np.float32)
        self.bound = "iwae" if samples > 1 else "elbo"
        self.team = Team(suitable_threads(batch, samples))
        self.grads = [self.vae.params.zeros_like() for _ in range(self.team.size)]
        encoder, decoder = (D, *hidden), (Z, *reversed(hidden), D)
        maps = [(batch, n, m) for n, m in pairwise(encoder)]
        maps += 2 * [(batch, encoder[-1], Z)]
        maps += [(batch * samples, n, m) for n, m in pairwise(decoder)]
        self.parts: dict[str, tuple[Team, Callable[[], None]]] = {STEP: (self.team, self.step)}
        for name, team in (FLOOR, Team(1)), (SPLIT, Team(2)):
            self.parts[name] = team, Products(maps, team)
        self.order = list(self.parts)

    def step(self) -> None:
        train_step(
            self.vae, self.adam, self.x, self.eps, self.grads, bound=self.bound, team=self.team
        )

    def parameters(self) -> int:
        return self.vae.params.flat.size

    def measure(self) -> dict[str, float]:
        """Return the milliseconds of a step and of its products; reverse the order each time."""
        found = {}
        for name in self.order:
            team, call = self.parts[name]
            time.sleep(PAUSE)
            with team:
                found[name] = milliseconds(call)
        self.order.reverse()
        return {name: found[name] for name in self.parts}


def milliseconds(call: Callable[[], None]) -> float:
    """Return the mean time of a call over about TURN seconds, after SETTLE untimed seconds."""
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < SETTLE:
        call()
        done += 1
    n = max(1, round(TURN * done / spent))
    start = time.perf_counter()
    for _ in range(n):
        call()
    return 1e3 * (time.perf_counter() - start) / n


class Epoch:
    """Epochs of N random images, uint8, in memory or in a memory-mapped `.npy`."""

    def __init__(self, n: int, mapped: bool, folder: str) -> None:
        rng = np.random.default_rng(0)
        if mapped:
            path = Path(folder, "images.npy")
            shape = n + n // 5 + 1, D  # a sixth becomes the test set
            images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
            for start in range(0, len(images), 10_000):
                part = images[start : start + 10_000]
                part[:] = rng.integers(256, size=part.shape, dtype=np.uint8)
            images.flush()
            del images
            readers.MAPPED = 0  # bytes
            self.data = load_array(path)
        else:
            pixels = rng.integers(256, size=(n, D), dtype=np.uint8)
            self.data = Dataset("random", pixels, pixels[:1000])
        self.vae = VAE(D, (H,), Z, rng=0)

    def microseconds(self) -> tuple[float, float | None]:
        """Return the time per image of an epoch, and the process's own memory in MiB."""
        (record,) = train_epochs(self.vae, self.data, Recipe(1, binarize="dynamic"), rng=0)
        return 1e6 * record.seconds / len(self.data.train), own_memory()


def own_memory() -> float | None:
    """Return the MiB of resident memory not backed by a file; None if unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


SWEEPS: dict[str, dict[str, tuple[int, tuple[int, ...], int]]] = {
    "batch": {str(b): (b, (H,), 1) for b in (8, 16, 32, 64, 128, 256, 512, 1024, 2048)},
    "width": {str(h): (128, (h,), 1) for h in (50, 100, 200, 400, 800, 1600)},
    "depth": {str(k): (128, k * (H,), 1) for k in (1, 2, 3, 4, 6)},
    "samples": {str(k): (20, (H,), k) for k in (1, 5, 20, 50, 100)},
}
SIZES = (3_000, 12_000, 60_000, 240_000)


def sweep(name: str, rounds: int) -> dict[str, Any]:
    """Print a table of one sweep, and return it."""
    cases = SWEEPS[name]
    with started({label: (Case, *case) for label, case in cases.items()}) as workers:
        parameters = {label: worker.call("parameters") for label, worker in workers.items()}
        take_turns(workers, lambda worker: worker.call("measure"), 1, PAUSE)
        found = take_turns(workers, lambda worker: worker.call("measure"), rounds, PAUSE)
    headings = "parameters", "step ms", "products", "ratio", "us/image"
    print("\n{:>8} {:>11} {:>9} {:>9} {:>6} {:>9}  floor".format(name, *headings))
    table = {}
    for label, turns in found.items():
        results = with_medians({part: [turn[part] for turn in turns] for part in turns[0]})
        table[label] = {"parameters": parameters[label], "results": results}
        step, lowest = results[STEP]["median"], floor(results)
        print(
            f"{label:>8} {parameters[label]:11d} {step:9.3f} {results[lowest]['median']:9.3f}"
            f" {paired(results, STEP, lowest):6.2f} {1e3 * step / cases[label][0]:9.2f}  {lowest}",
            flush=True,
        )
    return table


def sizes() -> dict[str, Any]:
    """Print the cost per image by the size of the data set, and return it."""
    cases = {str(n): (n, False) for n in SIZES} | {f"{SIZES[-1]} mapped": (SIZES[-1], True)}
    with tempfile.TemporaryDirectory() as folder:
        recipes = {label: (Epoch, *case, folder) for label, case in cases.items()}
        with started(recipes) as workers:
            found = take_turns(workers, lambda worker: worker.call("microseconds"), EPOCHS, PAUSE)
    print(f"\n{'data':>16} {'us/image':>9} {'own MiB':>8}")
    table = {}
    for label, turns in found.items():
        costs, memory = [turn[0] for turn in turns], turns[-1][1]
        table[label] = {"microseconds": costs, "median": median(costs), "own_mib": memory}
        print(f"{label:>16} {median(costs):9.2f} {memory or float('nan'):8.0f}", flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names: Iterable[str] = (*SWEEPS, "data")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    facts = machine()
    print(heading(facts))
    report: dict[str, Any] = {"machine": facts, "settings": settings_of(args)}
    for name in args.only:
        report[name] = sizes() if name == "data" else sweep(name, args.rounds)
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
