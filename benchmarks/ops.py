"""Time of a training step, line by line of the package's source.

    python benchmarks/ops.py [--batch 128] [--warmup 1000] [--steps 500] [--threads 1] [--json FILE]

Python's trace hook reports when each line of numpy_vae begins. The time until the next is that of
the line, calls into NumPy included. Tracing has a cost of its own, about half of which is charged
to the lines, so the step is also timed without it, in alternating turns. Lines are means over all
turns; the step and its products are medians. With --threads N the lines are of the calling thread.

The matrix products of the step are also timed alone (benchmarks/contestants.py). Lines with a
product take longer than that, because other lines have used the caches in between.
"""

from __future__ import annotations

import argparse
import linecache
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

from contestants import MatrixProducts, NumpyVAE
from harness import heading, machine, settings_of, write_json

import numpy_vae

FOLDER = str(Path(numpy_vae.__file__).parent)
ROUNDS, SETTLE = 20, 5  # turns of each, and untimed steps before a turn
PRODUCTS = ("@ self.W", "np.matmul(")  # found in lines with a matrix product

Lines = dict[tuple[str, int], float]


class Tracer:
    """Seconds spent at each line of the package while it is the trace function."""

    def __init__(self) -> None:
        self.seconds: Lines = {}
        self._open: list[tuple[tuple[str, int], float]] = []  # per frame: its line, and since when

    def __call__(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        now = time.perf_counter()
        if self._open:
            line, since = self._open[-1]
            self.seconds[line] = self.seconds.get(line, 0.0) + now - since
        if event == "return":
            self._open.pop()
            if self._open:  # the caller continues its line
                self._open[-1] = self._open[-1][0], time.perf_counter()
            return self
        if event == "call":
            self._open.append((("", 0), 0.0))
        self._open[-1] = (frame.f_code.co_filename, frame.f_lineno), time.perf_counter()
        return self


def profile(ours: NumpyVAE, floor: MatrixProducts, steps: int) -> tuple[float, float, Lines]:
    """Return the milliseconds of a step, of its products, and of each line of a traced step.

    The three take turns; the first two are medians, the lines are means.
    """
    turn, tracer = max(1, steps // ROUNDS), Tracer()
    times: dict[str, list[float]] = {"step": [], "products": []}
    for _ in range(ROUNDS):
        times["step"].append(ours.run(turn, SETTLE))
        times["products"].append(floor.run(turn, SETTLE))
        with ours.team:
            ours.take(SETTLE)
            sys.settrace(tracer)
            try:
                ours.take(turn)
            finally:
                sys.settrace(None)
    plain, products = (1e3 * median(found) / turn for found in times.values())
    taken = ROUNDS * turn
    lines = {line: 1e3 * seconds / taken for line, seconds in tracer.seconds.items() if line[1]}
    return plain, products, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--warmup", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shown", type=int, default=40, help="number of lines to show")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    facts = machine()
    ours, floor = NumpyVAE(args.batch, args.threads), MatrixProducts(args.batch)
    ours.run(args.warmup)
    plain, products, lines = profile(ours, floor, args.steps)
    source = {line: linecache.getline(*line).strip() for line in lines}
    of_products = sum(ms for line, ms in lines.items() if any(p in source[line] for p in PRODUCTS))
    if not of_products:
        raise SystemExit(f"no line contains any of {PRODUCTS}: where are the matrix products?")
    total = sum(lines.values())
    print(heading(facts))
    print(f"batch {args.batch}, threads {args.threads}: a step {plain:.3f} ms, traced {total:.3f}")
    print(f"the matrix products alone {products:.3f} ms, in the lines below {of_products:.3f}\n")
    files: dict[str, float] = {}
    for (name, _), ms in lines.items():
        files[Path(name).name] = files.get(Path(name).name, 0.0) + ms
    for name, ms in sorted(files.items(), key=lambda item: -item[1]):
        print(f"{ms:8.3f} {ms / total:5.0%}  {name}")
    print()
    ordered = sorted(lines.items(), key=lambda item: -item[1])
    for line, ms in ordered[: args.shown]:
        place = f"{Path(line[0]).name}:{line[1]}"
        print(f"{ms:8.3f} {ms / total:5.0%}  {place:18} {source[line][:90]}")
    rest = sum(ms for _, ms in ordered[args.shown :])
    print(f"{rest:8.3f} {rest / total:5.0%}  {max(0, len(ordered) - args.shown)} other lines")
    if args.json:
        table = [
            {"file": Path(name).name, "line": n, "ms": ms, "source": source[name, n]}
            for (name, n), ms in ordered
        ]
        report = {
            "machine": facts,
            "settings": settings_of(args),
            "step_ms": plain,
            "traced_ms": total,
        }
        write_json(args.json, report | {"products_ms": products, "lines": table})


if __name__ == "__main__":
    main()
