"""Milliseconds of one training step in the steady state, beside its bare matrix products.

    python benchmarks/step.py [--batches 32 128 512] [--warmup 3000] [--steps 300]

The model is 784-400-20-400-784, relu, Bernoulli, float32, Adam. A step is: gather a batch, draw the
noise, forward, the loss, backward, Adam (`numpy_vae.train.train_step`, as the command line runs
it). The images are synthetic digits, which have dark pixels: without a flush Adam's moments of
their weights would become denormal after some 800 steps, and the step slow; so the clock starts
after --warmup steps. The matrix products are those of the same step on the same shapes, and
nothing else: ten of them. Both are timed in turn, a few steps each, and the medians are printed.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from numpy_vae import VAE, Adam, load_digits
from numpy_vae.data import batch
from numpy_vae.train import train_step

CHUNK = 10  # steps of the one before the other has its turn
SIZES = (784, 400, 20)


def training_step(batch_size: int) -> Callable[[], None]:
    """Return a function that takes one step."""
    images = load_digits().train
    rng = np.random.default_rng(0)
    vae = VAE(SIZES[0], SIZES[1:2], SIZES[2], rng=0)
    adam = Adam(vae.params)
    grads = vae.params.zeros_like()

    def step() -> None:
        rows = rng.integers(len(images), size=batch_size)
        x = batch(images, rows, binarize="dynamic", rng=rng)
        eps = rng.standard_normal((batch_size, SIZES[2]), np.float32)
        train_step(vae, adam, x, eps, grads)

    return step


def matrix_products(batch_size: int) -> Callable[[], None]:
    """Return a function that computes the matrix products of one step."""
    rng = np.random.default_rng(0)
    d, h, z = SIZES
    maps = [(d, h), (h, z), (h, z), (z, h), (h, d)]  # encoder, two heads, decoder, output
    xs = [rng.standard_normal((batch_size, n), np.float32) for n, m in maps]
    ws = [rng.standard_normal((n, m), np.float32) for n, m in maps]
    dys = [rng.standard_normal((batch_size, m), np.float32) for n, m in maps]
    ys = [np.empty_like(dy) for dy in dys]
    dws = [np.empty_like(w) for w in ws]
    dxs = [np.empty_like(x) for x in xs]

    def products() -> None:
        for i, (x, w, dy) in enumerate(zip(xs, ws, dys, strict=True)):
            np.matmul(x, w, out=ys[i])
            np.matmul(x.T, dy, out=dws[i])
            if i:  # nobody reads the gradient of the image
                np.matmul(dy, w.T, out=dxs[i])

    return products


def milliseconds(function: Callable[[], None]) -> list[float]:
    """Return the times of CHUNK calls."""
    times = []
    for _ in range(CHUNK):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def blas() -> str:
    """Return the name of the BLAS and its threads, if threadpoolctl (extra `bench`) can tell."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "BLAS unknown (threadpoolctl is not installed)"
    return ", ".join(
        f"{lib['internal_api']} {lib['version']} with {lib['num_threads']} threads"
        for lib in threadpool_info()
        if lib["user_api"] == "blas"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--warmup", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {blas()}")
    print(f"median of {args.steps} steps after {args.warmup}, milliseconds")
    print(f"{'batch':>5} {'step':>8} {'products':>9} {'ratio':>6}")
    for batch_size in args.batches:
        step, products = training_step(batch_size), matrix_products(batch_size)
        for _ in range(args.warmup):
            step()
        steps: list[float] = []
        floor: list[float] = []
        while len(steps) < args.steps:
            steps += milliseconds(step)
            floor += milliseconds(products)
        ratio = median(steps) / median(floor)
        print(f"{batch_size:5d} {median(steps):8.2f} {median(floor):9.2f} {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    main()
