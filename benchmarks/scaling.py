"""What training costs as it grows: in batch, width, depth, importance samples and data.

    python benchmarks/scaling.py [--only batch width depth samples data] [--rounds 15] [--json FILE]

Around the model 784-400-20-400-784 at batch 128 one thing at a time is changed. A step stands
beside the matrix products of its own shapes, in turn: where the ratio nears 1, the BLAS is all that
counts; where it is large, the parameters (Adam) or Python's overhead of calls do. The samples are
those of the importance-weighted bound, at batch 20 as in its paper: the encoder runs once for all
of them. The data are random pixels in memory and, the largest, in a memory-mapped `.npy`: what
counts is the time of an image, which should not grow, and the memory of its own that the process
takes (resident and not backed by a file, after the epochs).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from contestants import D, H, Products, Z
from harness import Worker, heading, machine, settings_of, write_json

from numpy_vae import VAE, Adam, load_array
from numpy_vae import data as data_module
from numpy_vae.data import Dataset
from numpy_vae.team import Team, suitable_threads
from numpy_vae.train import train_epochs, train_step

PAUSE = 0.05  # seconds, in which the threads of a BLAS go to sleep
SETTLE = 0.2  # seconds of steps before those that are timed


class Case:
    """A step of one model at one batch size, beside its matrix products, in one process."""

    def __init__(self, batch: int, hidden: tuple[int, ...], samples: int) -> None:
        rng = np.random.default_rng(0)
        self.vae = VAE(D, hidden, Z, rng=0)
        self.adam = Adam(self.vae.params)
        self.x = (rng.random((batch, D)) < 0.2).astype(np.float32)
        shape = (samples, batch, Z) if samples > 1 else (batch, Z)
        self.eps = rng.standard_normal(shape, np.float32)
        self.bound = "iwae" if samples > 1 else "elbo"
        self.team = Team(suitable_threads(batch * samples))
        self.grads = [self.vae.params.zeros_like() for _ in range(self.team.size)]
        encoder, decoder = (D, *hidden), (Z, *reversed(hidden), D)
        maps = [(batch, n, m) for n, m in pairwise(encoder)]
        maps += 2 * [(batch, encoder[-1], Z)]
        self.products = Products(maps + [(batch * samples, n, m) for n, m in pairwise(decoder)])

    def step(self) -> None:
        train_step(
            self.vae, self.adam, self.x, self.eps, self.grads, bound=self.bound, team=self.team
        )

    def measure(self, seconds: float) -> tuple[float, float, int]:
        """Milliseconds of a step and of its products in turns of so long, and the parameters."""
        times = []
        with self.team:
            start, done = time.perf_counter(), 0
            while (spent := time.perf_counter() - start) < SETTLE:  # until threads have found cores
                self.step()
                done += 1
            turns = max(1, round(seconds * done / spent))
            start = time.perf_counter()
            for _ in range(turns):
                self.step()
            times.append(1e3 * (time.perf_counter() - start) / turns)
        time.sleep(PAUSE)
        self.products()
        start = time.perf_counter()
        for _ in range(turns):
            self.products()
        times.append(1e3 * (time.perf_counter() - start) / turns)
        time.sleep(PAUSE)
        return times[0], times[1], self.vae.params.flat.size


class Epoch:
    """Epochs of N random images, uint8, in memory or in a `.npy` that is memory-mapped."""

    def __init__(self, n: int, mapped: bool, folder: str) -> None:
        rng = np.random.default_rng(0)
        if mapped:
            path = Path(folder, "images.npy")
            images = np.lib.format.open_memmap(path, "w+", np.uint8, (n + n // 5 + 1, D))
            for start in range(0, len(images), 10_000):
                images[start : start + 10_000] = rng.integers(
                    256, size=images[start : start + 10_000].shape, dtype=np.uint8
                )
            images.flush()
            del images
            data_module.MAPPED = 0  # bytes
            self.data = load_array(path)
        else:
            pixels = rng.integers(256, size=(n, D), dtype=np.uint8)
            self.data = Dataset("random", pixels, pixels[:1000])
        self.vae = VAE(D, (H,), Z, rng=0)

    def microseconds(self) -> tuple[float, float | None]:
        """Of one image in an epoch of training, and the MiB of memory of the process's own."""
        (record,) = train_epochs(self.vae, self.data, epochs=1, binarize="dynamic", rng=0)
        return 1e6 * record.seconds / len(self.data.train), own_memory()


def own_memory() -> float | None:
    """MiB of resident memory that no file backs; None where the system does not say."""
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
    headings = "parameters", "step ms", "products", "ratio", "us/image"
    print("\n{:>8} {:>11} {:>9} {:>9} {:>6} {:>9}".format(name, *headings))
    table = {}
    for label, case in SWEEPS[name].items():
        worker = Worker(Case, *case)
        worker.call("measure", 0.5)
        found = [worker.call("measure", 0.1) for _ in range(rounds)]
        worker.close()
        step, products = median(f[0] for f in found), median(f[1] for f in found)
        table[label] = {"step_ms": step, "products_ms": products, "parameters": found[0][2]}
        print(
            f"{label:>8} {found[0][2]:11d} {step:9.3f} {products:9.3f} {step / products:6.2f}"
            f" {1e3 * step / case[0]:9.2f}",
            flush=True,
        )
    return table


def sizes(epochs: int) -> dict[str, Any]:
    """Print the cost of an image by the size of the data set, and return it."""
    print(f"\n{'data':>16} {'us/image':>9} {'own MiB':>8}")
    table = {}
    for n, mapped in [*((n, False) for n in SIZES), (SIZES[-1], True)]:
        with tempfile.TemporaryDirectory() as folder:
            worker = Worker(Epoch, n, mapped, folder)
            found = [worker.call("microseconds") for _ in range(epochs)]
            worker.close()
        label = f"{n}{' mapped' * mapped}"
        cost, memory = median(f[0] for f in found), found[-1][1]
        table[label] = {"us_per_image": cost, "own_mib": memory}
        print(f"{label:>16} {cost:9.2f} {memory or float('nan'):8.0f}", flush=True)
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
        report[name] = sizes(3) if name == "data" else sweep(name, args.rounds)
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
