"""How often a right gradient is called wrong: the model check at random sizes and settings.

Every method at every point for each term, as ``numpy-vae gradcheck`` does it, for models of random
sizes, depth, activation, likelihood, beta and seed. Prints each false alarm, and the worst that was
seen of each method at each point. Exit status 1 when there was a false alarm.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from numpy_vae import VAE, Gaussian
from numpy_vae.modelcheck import Check, check_model


def random_model(seed: int) -> tuple[VAE, float]:
    """Return a model of random settings, and a random beta."""
    rng = np.random.default_rng(seed)
    vae = VAE(
        data_dim=int(rng.integers(1, 21)),
        hidden=rng.integers(1, 13, size=rng.integers(0, 4)).tolist(),
        latent_dim=int(rng.integers(1, 7)),
        activation=str(rng.choice(["relu", "tanh"])),
        likelihood=("bernoulli", Gaussian(10.0 ** rng.uniform(-2, 1)))[rng.integers(2)],
        rng=rng,
    )
    return vae, float(rng.choice([0, 1, 10.0 ** rng.uniform(-2, 2)]))


def checks_of(seed: int, max_entries: int) -> Iterator[Check]:
    """Yield the checks of one random model."""
    vae, beta = random_model(seed)
    yield from check_model(vae, beta, max_entries=max_entries, rng=seed)


def main() -> int:
    """Check the models and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument("--first-seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument(
        "--entries", type=int, default=40, metavar="N", help="of each block (default: 40)"
    )
    args = parser.parse_args()
    start = time.perf_counter()
    alarms = checks = 0
    worst: dict[tuple[str, str], float] = {}
    for seed in range(args.first_seed, args.first_seed + args.models):
        for check in checks_of(seed, args.entries):
            checks += 1
            if not check.report.ok:
                alarms += 1
                vae, beta = random_model(seed)
                print(f"seed {seed}, {vae.settings}, beta {beta:g}: {check.point}, {check.term}")
                print(check.report)
            key = check.point, check.method
            if check.method == "taylor":
                order = min(row.order for row in check.report if row.order is not None)
                worst[key] = min(worst.get(key, np.inf), order)
            else:
                error = max(row.error for row in check.report)
                worst[key] = max(worst.get(key, 0.0), error)
    for (point, method), value in worst.items():
        print(
            f"{point:10} {method:8} {'least order' if method == 'taylor' else 'worst'} {value:.3g}"
        )
    print(
        f"{alarms} false alarms in {checks} checks of {args.models} models, "
        f"{time.perf_counter() - start:.0f} s"
    )
    return 1 if alarms else 0


if __name__ == "__main__":
    raise SystemExit(main())
