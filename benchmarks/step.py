"""Milliseconds per training step in the steady state: this package, its floor, its peers.

    python benchmarks/step.py [--batches 32 128 512] [--warmup 3000] [--rounds 60] [--json FILE]
                              [--only NAME ...]

Contestants (benchmarks/contestants.py): this package; the step as a script, without the package's
structure; the bare matrix products of the step, of which the faster of two ways is the floor; and
PyTorch, JAX and HIPS/autograd, if installed (``pip install -e '.[bench]'``). Package, script and
products run with the BLAS's own threads and in two threads. All but the products train the same
model with the same optimiser on the same minibatches of synthetic digits. Weights of dark pixels
have moments that become denormal after some 800 steps unless they are flushed, so the clock starts
after --warmup steps. Then the contestants take turns of --steps steps, each in its own process
(benchmarks/harness.py).

All must reach the same loss: on the first minibatch after 20 steps, to 1e-5 of it, and on all
minibatches after the last turn, to 25 % of it, since rounding has moved them apart by then.

Two more comparisons follow: of a step after 20 000 steps, with and without the flush of Adam's
moments, with one after 1000; and of log p(x) by importance sampling with its bare matrix products.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from contestants import (
    CONTESTANTS,
    FLOOR,
    FLOORS,
    OURS,
    SPLIT,
    Evaluation,
    EvaluationProducts,
    NumpyVAE,
    Unflushed,
    floor,
)
from harness import (
    Results,
    Worker,
    agree,
    heading,
    installed,
    machine,
    paired,
    settings_of,
    started,
    take_turns,
    with_medians,
    write_json,
)

FIRST = 20  # steps until the losses are compared
TOLERANCE = 1e-5  # of the loss: 238 to 244 nats, which rounding moves by less than 0.001
# Of the mean loss after some thousand steps, in which rounding has moved the parameters: at batch
# 32, whose 1600 images are memorised by then, it fluctuates by 12 % within 100 steps.
TOLERANCE_AT_THE_END = 0.25
SIZE = 128  # images in a minibatch of the trainings below
EARLY, LATE = "after 1000 steps", "after 20 000 steps"
UNFLUSHED = f"{LATE} without the flush"
TRAININGS = {EARLY: (NumpyVAE, 1000), LATE: (NumpyVAE, 20_000), UNFLUSHED: (Unflushed, 20_000)}
EVALUATION = "evaluation"


def measured(
    workers: dict[str, Worker], steps: int, settle: int, args: argparse.Namespace
) -> Results:
    """Return the results of turns of so many steps, each after `settle` untimed ones."""

    def turn(worker: Worker) -> float:
        return 1e3 * float(worker.call("run", steps, settle)) / steps

    return with_medians(take_turns(workers, turn, args.rounds, args.pause))


def compare(size: int, names: list[str], args: argparse.Namespace) -> Results:
    """Return the results of the contestants, with their threads and losses."""
    with started({name: (CONTESTANTS[name][1], size) for name in names}) as workers:
        first = {}
        for name, worker in workers.items():
            worker.call("run", FIRST)
            first[name] = worker.call("loss")
            worker.call("run", max(0, args.warmup - FIRST))
        results = measured(workers, args.steps, args.settle, args)
        for name, worker in workers.items():
            results[name] |= {
                "loss_after_20": first[name],
                "loss": worker.call("mean_loss"),
                "threads": worker.call("threads"),
            }
    return results


def same_loss(results: Results) -> bool:
    """Return whether the losses agree after 20 steps, and nearly agree at the end."""
    return agree(losses(results, "loss_after_20"), TOLERANCE) and agree(
        losses(results, "loss"), TOLERANCE_AT_THE_END
    )


def losses(results: Results, which: str) -> list[float]:
    """Return the losses of the contestants that have one."""
    return [result[which] for name, result in results.items() if name not in FLOORS]


def spread(results: Results, which: str) -> str:
    """Return the range of the losses, as text."""
    found = losses(results, which)
    return f"{min(found):.6g} to {max(found):.6g}"


def early_and_late(args: argparse.Namespace) -> Results:
    """Return the results of the trainings, with the number of denormals in Adam's M and V."""
    with started({name: (make, SIZE) for name, (make, _) in TRAININGS.items()}) as workers:
        for name, worker in workers.items():
            worker.call("run", TRAININGS[name][1])
        results = measured(workers, 30, 10, args)
        for name, worker in workers.items():
            results[name]["denormals"] = worker.call("denormals")
    return results


def evaluation(args: argparse.Namespace) -> Results:
    """Return the results of one sample for each of 100 images, and of its matrix products."""
    products = {FLOOR: (EvaluationProducts,), SPLIT: (partial(EvaluationProducts, 2),)}
    with started({EVALUATION: (Evaluation,), **products}) as workers:
        return measured(workers, 200, 50, args)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--warmup", type=int, default=3000, help="steps before the clock starts")
    parser.add_argument("--rounds", type=int, default=60, help="turns of each contestant")
    parser.add_argument("--steps", type=int, default=20, help="steps of a turn")
    parser.add_argument("--settle", type=int, default=10, help="untimed steps before a turn")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two turns")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contestants (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write all results to this file")
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
        results = report["batches"][size] = compare(size, names, args)
        print(f"\nbatch {size:<24} {'ms':>8} {'x floor':>8} {'ours / it':>10} {'loss':>8}  threads")
        for name, found in results.items():
            threads = ", ".join(f"{package} {n}" for package, n in found["threads"].items())
            print(
                f"{name:30} {found['median']:8.2f} {paired(results, name, floor(results)):8.2f}"
                f" {paired(results, OURS, name):10.2f} {found['loss']:8.2f}  {threads}",
                flush=True,
            )
        if not same_loss(results):
            raise SystemExit(
                f"the losses at batch {size} are {spread(results, 'loss_after_20')} after {FIRST}"
                f" steps and {spread(results, 'loss')} at the end, must agree to"
                f" {100 * TOLERANCE:g} % and {100 * TOLERANCE_AT_THE_END:g} %"
            )
    if not args.only:
        late = report["after"] = early_and_late(args)
        print(
            f"\n{f'a step at batch {SIZE}':40} {'ms':>8} {'ratio':>6} {'denormal M':>11} {'V':>8}"
        )
        for name, found in late.items():
            print(
                f"{name:40} {found['median']:8.2f} {paired(late, name, EARLY):6.2f}"
                f" {found['denormals']['M']:11d} {found['denormals']['V']:8d}",
                flush=True,
            )
        sampling = report["evaluation"] = evaluation(args)
        print(f"\n{'log p(x) of 100 images, a sample of each':40} {'ms':>8} {'x floor':>8}")
        for name, found in sampling.items():
            ratio = paired(sampling, name, floor(sampling))
            print(f"{name:40} {found['median']:8.3f} {ratio:8.2f}")
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
