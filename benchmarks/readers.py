"""How long does it take to read a table in text and a folder of pictures?

    python benchmarks/readers.py                 60 000 rows and 10 000 pictures: three minutes

Each reader takes turns with the bare library, which is asked for the same arrays: `numpy.loadtxt`
for a table, with one call of the right columns, and a loop of Pillow's `Image.open` for pictures.
The ratio is the median over the rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from numpy_vae.data.readers import read_file


def write_table(path: Path, rows: int, kind: str) -> None:
    """Write a table: digits with their label (Kaggle's), measurements, or these with a word."""
    rng = np.random.default_rng(0)
    if kind == "digits":
        head = ",".join(["label", *(f"pixel{i}" for i in range(784))])
        pixels = rng.integers(0, 256, (rows, 785))
        np.savetxt(path, pixels, "%d", ",", header=head, comments="")
        return
    x = rng.standard_normal((rows, 30))
    words = rng.choice(["setosa", "versicolor", "virginica"], rows)
    with open(path, "w") as file:
        file.write(",".join(f"c{i}" for i in range(30)) + ",species" * (kind == "words") + "\n")
        for row, word in zip(x, words, strict=True):
            end = f",{word}" if kind == "words" else ""
            file.write(",".join(f"{v:.6g}" for v in row) + end + "\n")


def pair(title: str, ours: Callable[[], object], bare: Callable[[], object], rounds: int) -> None:
    """Print the times of two functions that take turns, and their ratio."""
    times: tuple[list[float], list[float]] = [], []
    for i in range(rounds + 1):
        for which in (0, 1) if i % 2 else (1, 0):
            start = time.perf_counter()
            (ours, bare)[which]()
            if i:  # the first round warms up
                times[which].append(time.perf_counter() - start)
    ratio = median(a / b for a, b in zip(*times, strict=True))
    ours_s, bare_s = map(median, times)
    print(f"{title:42} {ours_s:6.2f} s  bare {bare_s:6.2f} s  ratio {ratio:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of the readers of text and pictures.")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, NumPy {np.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for kind, what in (
            ("digits", "784 whole numbers and a label"),
            ("floats", "30 measurements"),
            ("words", "30 measurements and a word"),
        ):
            path = Path(folder, f"{kind}.csv")
            write_table(path, args.rows, kind)

            def bare(path: Path = path, kind: str = kind) -> None:
                columns = range(30) if kind == "words" else None
                np.loadtxt(path, delimiter=",", skiprows=1, usecols=columns)
                if kind == "words":
                    np.loadtxt(path, str, delimiter=",", skiprows=1, usecols=[30])

            pair(f"{args.rows} rows, {what}", partial(read_file, path), bare, args.rounds)
        for kind, channels in ("grey", 1), ("colour", 3):
            place = Path(folder, kind)
            place.mkdir()
            rng = np.random.default_rng(0)
            for i in range(args.pictures):
                x = rng.integers(0, 256, (28, 28, channels), np.uint8)
                Image.fromarray(x[..., 0] if channels == 1 else x).save(place / f"{i}.png")

            def loop(place: Path = place) -> None:
                np.stack([np.asarray(Image.open(p)) for p in sorted(place.iterdir())])

            title = f"{args.pictures} PNG files, 28x28 {kind}"
            pair(title, partial(read_file, place), loop, args.rounds)


if __name__ == "__main__":
    main()
