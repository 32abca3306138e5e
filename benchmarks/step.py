"""Milliseconds of one training step in the steady state: this package, its floor, its peers.

    python benchmarks/step.py [--batches 32 128 512] [--warmup 3000] [--rounds 25] [--json FILE]
                              [--only NAME ...]

Contestants (benchmarks/contestants.py): this package; the matrix products of the same step on the
same shapes and nothing else, which are the floor; and of PyTorch, JAX and HIPS/autograd what is
installed (``pip install -e '.[bench]'``). They train the same model with the same optimiser on the
same minibatches of synthetic digits, which have dark pixels: the moments of their weights become
denormal after some 800 steps unless something is done about it, so the clock starts after --warmup
steps. Then they take turns of --steps steps, in an order that is drawn anew for each round, each in
a process of its own. Noise comes in bursts longer than a turn, so what counts is the ratio of two
contestants within a round, and its median over the rounds (`paired`).

All must reach the same loss: after 20 steps to 1e-5 of it. The last loss is only printed: by then
rounding has moved it.

Two more comparisons follow. A step after 1000 steps beside one after 20 000, of two trainings that
take turns: is it as fast? And log p(x) by importance sampling beside its bare matrix products.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from statistics import median
from typing import Any

from contestants import CONTESTANTS, Evaluation, EvaluationProducts, NumpyVAE
from harness import Worker, heading, installed, machine, settings_of, write_json

FIRST = 20  # steps until the losses are compared
TOLERANCE = 1e-5  # of the loss: 150 nats, which rounding moves by less than 0.001


def compare(size: int, names: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Return, by contestant, the milliseconds of each round and the losses."""
    workers = {name: Worker(CONTESTANTS[name][1], size) for name in names}
    results: dict[str, Any] = {}
    for name, worker in workers.items():
        worker.call("run", FIRST)
        results[name] = {"loss_after_20": worker.call("loss")}
        worker.call("run", max(0, args.warmup - FIRST))
    for name, ms in take_turns(workers, args.steps, args.settle, args).items():
        results[name]["milliseconds"] = ms
    for name, worker in workers.items():
        results[name]["loss"] = worker.call("loss")
        results[name]["median"] = median(results[name]["milliseconds"])
        worker.close()
    return results


def same_loss(results: dict[str, Any]) -> bool:
    """Whether all contestants have the same loss after 20 steps, to TOLERANCE of it."""
    losses = [r["loss_after_20"] for n, r in results.items() if n != "matrix products"]
    return all(map(math.isfinite, losses)) and (
        not losses or max(losses) - min(losses) <= TOLERANCE * max(losses)
    )


def take_turns(
    workers: dict[str, Worker], steps: int, settle: int, args: argparse.Namespace
) -> dict[str, list[float]]:
    """Return, by name, the milliseconds of a step in each round."""
    times: dict[str, list[float]] = {name: [] for name in workers}
    order = random.Random(0)
    for _ in range(args.rounds):
        for name in order.sample(list(workers), len(workers)):  # nobody always follows the same one
            time.sleep(args.pause)  # until the threads of the one before have gone to sleep
            workers[name].call("run", settle)  # until its own have found their cores and caches
            times[name].append(1e3 * workers[name].call("run", steps) / steps)
    return times


def paired(results: dict[str, Any], name: str, other: str) -> float:
    """Return the median over the rounds of the time of one contestant as a multiple of another's.

    NaN where one of them has taken no part.
    """
    if not {name, other} <= results.keys():
        return math.nan
    times = zip(results[name]["milliseconds"], results[other]["milliseconds"], strict=True)
    return median(mine / its for mine, its in times)


def early_and_late(args: argparse.Namespace) -> dict[str, float]:
    """Return the milliseconds of a step at batch 128 after 1000 steps and after 20 000."""
    workers = {str(done): Worker(NumpyVAE, 128) for done in (1000, 20_000)}
    for done, worker in workers.items():
        worker.call("run", int(done))
    times = take_turns(workers, 10, 5, args)
    for worker in workers.values():
        worker.close()
    return {done: median(ms) for done, ms in times.items()}


def evaluation(args: argparse.Namespace) -> dict[str, float]:
    """Return the milliseconds of a sample of 100 images, and of its matrix products."""
    workers = {"evaluation": Worker(Evaluation), "matrix products": Worker(EvaluationProducts)}
    times = take_turns(workers, 200, 50, args)
    for worker in workers.values():
        worker.close()
    return {name: median(ms) for name, ms in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--warmup", type=int, default=3000, help="steps before the clock starts")
    parser.add_argument("--rounds", type=int, default=25, help="turns of each contestant")
    parser.add_argument("--steps", type=int, default=60, help="steps of a turn")
    parser.add_argument("--settle", type=int, default=20, help="steps before them, not timed")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two turns")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contestants; default all")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    args = parser.parse_args()
    packages = installed("torch", "jax", "autograd", "threadpoolctl")
    names = [n for n, (needs, _) in CONTESTANTS.items() if needs is None or needs in packages]
    if args.only:
        names = [name for name in names if any(part in name for part in args.only)]
    facts = machine() | packages
    print(heading(facts))
    print(", ".join(f"{name} {number}" for name, number in packages.items()))
    print(f"medians of {args.rounds} turns of {args.steps} steps after {args.warmup}")
    report: dict[str, Any] = {"machine": facts, "settings": settings_of(args), "batches": {}}
    for size in args.batches:
        results = compare(size, names, args)
        report["batches"][size] = results
        print(f"\nbatch {size:<24} {'ms':>8} {'x floor':>8} {'ours / it':>10} {'loss':>8}")
        for name in names:
            ms = results[name]["median"]
            print(
                f"{name:30} {ms:8.2f} {paired(results, name, 'matrix products'):8.2f}"
                f" {paired(results, 'numpy_vae', name):10.2f} {results[name]['loss']:8.2f}",
                flush=True,
            )
        if not same_loss(results):
            raise SystemExit("the losses after 20 steps differ: not the same computation")
    if not args.only:
        late = report["after"] = early_and_late(args)
        ratio = late["20000"] / late["1000"]
        print(
            f"\na step at batch 128 after 1000 steps: {late['1000']:.2f} ms, after 20 000: "
            f"{late['20000']:.2f} ms, ratio {ratio:.2f}"
        )
        sampling = report["evaluation"] = evaluation(args)
        ratio = sampling["evaluation"] / sampling["matrix products"]
        print(
            f"log p(x), a sample of 100 images: {sampling['evaluation']:.3f} ms, its matrix "
            f"products: {sampling['matrix products']:.3f} ms, ratio {ratio:.2f}"
        )
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
