"""Error rates of the gradient check: false alarms and missed errors.

False alarms: every method checks right gradients, at every point and for each term, as in
``numpy-vae gradcheck``, of models with random sizes, depth, activation, likelihood, beta and seed.
Missed errors, for a tenth of the models: one entry of each block is off by a share of the block's
largest entry, at the initial point. Then the layers of the zoo (tests/zoo), right and wrong.
Exit status 1 if there was a false alarm, or a miss in the zoo.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import numpy as np
from gradcheck_zoo import SLIGHT, all_passes, ours, run

from numpy_vae import VAE, Gaussian, gradcheck
from numpy_vae.gradcheck.model import (
    EXAMPLES,
    METHODS,
    SAMPLES,
    check_model,
    draw,
    function_of,
    gradient_of,
    randomise,
)

SHARES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10)  # of the largest entry of the block


def random_model(seed: int) -> tuple[VAE, float]:
    """Return a model of random settings, and a random beta."""
    rng = np.random.default_rng(seed)
    vae = VAE(
        data_dim=int(rng.integers(1, 21)),
        hidden=rng.integers(1, 13, size=rng.integers(0, 4)).tolist(),
        latent_dim=int(rng.integers(1, 7)),
        activation=str(rng.choice(["relu", "tanh"])),
        likelihood=("bernoulli", Gaussian(10.0 ** rng.uniform(-2, 1)))[rng.integers(2)],
        dtype=np.float64,
        rng=rng,
    )
    return vae, float(rng.choice([0, 1, 10.0 ** rng.uniform(-2, 2)]))


def false_alarms(models: range, max_entries: int) -> int:
    """Check right gradients, print the results and return the number of false alarms."""
    start = time.perf_counter()
    alarms = checks = 0
    worst: dict[tuple[str, str], float] = {}
    for seed in models:
        vae, beta = random_model(seed)
        for check in check_model(vae, beta, max_entries=max_entries, rng=seed):
            checks += 1
            if not check.report.ok:
                alarms += 1
                print(f"seed {seed}, {vae.settings}, beta {beta:g}: {check.point}, {check.term}")
                print(check.report)
            key = check.point, check.method
            if check.method == "taylor":
                order = min(row.order for row in check.report if row.order is not None)
                worst[key] = min(worst.get(key, np.inf), order)
            else:
                error = max(row.error for row in check.report)
                worst[key] = max(worst.get(key, 0.0), error)
    print(f"right gradients of {len(models)} models, seeds {models[0]} to {models[-1]}")
    for (point, method), value in worst.items():
        worst_of = f"least order {value:.3f}" if method == "taylor" else f"worst error {value:.1e}"
        print(f"  {point:14} {method:8} {worst_of}")
    print(f"  {alarms} false alarms in {checks} checks, {time.perf_counter() - start:.0f} s")
    return alarms


def errors_seen(models: range) -> None:
    """Plant an error in one entry of each block, and print how many blocks each method rejects."""
    seen = {(share, method): 0 for share in SHARES for method in METHODS["initial"]}
    planted = 0
    for seed in models:
        vae, _ = random_model(seed)
        rng = np.random.default_rng(seed)
        randomise(vae, rng)
        x, eps = draw(vae, (SAMPLES, EXAMPLES, vae.latent_dim), rng)
        f, arrays = function_of(vae, "objective", 1.0), {**vae.params, "x": x, "eps": eps}
        right = gradient_of(vae, x, eps, "objective", 1.0)
        blocks = [name for name, block in right.items() if block.any()]
        planted += len(blocks)
        for share in SHARES:
            wrong = {name: right[name].copy() for name in blocks}
            for block in wrong.values():
                index = np.unravel_index(rng.integers(block.size), block.shape)
                block[index] += share * np.abs(block).max()
            for method in METHODS["initial"]:
                report = gradcheck(f, wrong, arrays, method=method)
                seen[share, method] += sum(not row.ok for row in report)
    print(f"wrong gradients of {len(models)} models: blocks seen, of {planted} at each share")
    print(f"  {'one entry off by':18}" + "".join(f"{method:>9}" for method in METHODS["initial"]))
    for share in SHARES:
        found = "".join(f"{seen[share, method]:>9}" for method in METHODS["initial"])
        print(f"  {share:<18.0e}{found}")


def zoo(seeds: int) -> int:
    """Check other people's layers, print the errors of each method, and return their number."""
    passes, errors = all_passes(), 0
    print(f"layers of the zoo, seeds 0 to {seeds - 1}")
    for method in METHODS["initial"]:
        mine = [p for p in passes if method in p[0].methods]
        t = run(partial(ours, method=method), mine, seeds)
        errors += t.alarms.total() + t.misses.total() + t.unable.total()
        alarms, misses = f"{t.alarms.total()} of {t.right}", f"{t.misses.total()} of {t.wrong}"
        slight = f"{t.unseen.total()} of {t.slight} that are {SLIGHT}"
        print(f"  {method:8} {alarms} false alarms, {misses} misses, {slight}, {t.seconds:.0f} s")
        print(t.details(), end="")
    return errors


def main() -> int:
    """Check the models and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument("--first-seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument(
        "--entries", type=int, default=40, metavar="N", help="of each block (default: 40)"
    )
    parser.add_argument(
        "--seeds", type=int, default=20, metavar="N", help="of the zoo; default: 20"
    )
    args = parser.parse_args()
    seeds = range(args.first_seed, args.first_seed + args.models)
    alarms = false_alarms(seeds, args.entries)
    errors_seen(seeds[: max(1, len(seeds) // 10)])
    return 1 if alarms + (zoo(args.seeds) if args.seeds else 0) else 0


if __name__ == "__main__":
    raise SystemExit(main())
