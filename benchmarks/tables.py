"""Real tables: log p(x) of held-out rows under a VAE, a Gaussian and a factor analysis.

    pip install -e '.[bench]'
    python benchmarks/tables.py                  four tables of scikit-learn: ten minutes

The tables are wine (13 columns), diabetes (10), breast cancer (30) and digits (64 pixels). Each row
is held out once, in six folds. Every model sees the same training rows, without the columns that
have one value in 98 % of them: there a variance goes to 0, and a row with another value would have
no likelihood left.

    VAE                 diagonal_gaussian, columns standardised; log p(x) of a fifth of the training
                        rows chooses the sizes, their ELBO the number of epochs, and then the model
                        is trained on all of them
    Gaussian            the mean and the covariance of the training rows
    factor analysis     with as many factors as the VAE has latent dimensions

log p(x) is in nats per row, in the units of the table; for the VAE it is estimated with 1000
importance samples, a lower bound on average. The differences are paired by row, with their standard
error over rows. A Gaussian of a singular covariance has no density, and is left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from numpy_vae import VAE, Best, Dataset, Scaling, evaluate_likelihood, fit

FOLDS, SAMPLES = 6, 1000
SIZES = (((), 4), ((), 10), ((32,), 4), ((100,), 10))  # hidden and latent
EPOCHS = {(): 2000, (32,): 800, (100,): 600}  # at most
TABLES = ("wine", "diabetes", "breast_cancer", "digits")


class Fold(NamedTuple):
    """log p(x) of each held-out row, and the ELBO of the VAE, in nats."""

    vae: NDArray[Any]
    elbo: NDArray[Any]
    gaussian: NDArray[Any] | None
    factors: NDArray[Any]
    size: str
    epoch: int


def run_fold(train: NDArray[Any], test: NDArray[Any], pixels: bool, seed: int) -> Fold:
    """Return the held-out log p(x) of each model."""
    from sklearn.decomposition import FactorAnalysis

    scaling, d = Scaling.of(train), train.shape[1]
    aside = len(train) // 5
    data = Dataset("fold", train[aside:], test, validation=train[:aside])

    def model(hidden: tuple[int, ...], latent: int) -> VAE:
        return VAE(d, hidden, latent, likelihood="diagonal_gaussian", rng=seed, scaling=scaling)

    settings: dict[str, Any] = {"lr": 0.002, "batch_size": 64, "rng": seed, "threads": 1}
    found = []
    for hidden, latent in SIZES:
        vae = model(hidden, latent)
        best = Best(vae.params)
        epochs = EPOCHS[hidden] // (4 if pixels else 1)  # there are more rows
        fit(vae, data, epochs=epochs, evaluate_every=10, best=best, **settings)
        kept = evaluate_likelihood(vae.over(best.params), train[:aside], samples=200, rng=seed)
        found.append((kept.log_likelihoods.mean(), best.epoch, hidden, latent))
    _, epoch, hidden, latent = max(found)
    vae = model(hidden, latent)
    fit(vae, train, epochs=epoch, **settings)
    result = evaluate_likelihood(vae, test, samples=SAMPLES, rng=seed)
    try:
        gaussian = multivariate_normal(train.mean(axis=0), np.cov(train.T, bias=True)).logpdf(test)
    except (ValueError, np.linalg.LinAlgError):  # singular
        gaussian = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence, where a variance goes to 0
        factors = FactorAnalysis(latent, max_iter=5000, tol=1e-5).fit(scaling.forward(train))
    of_factors = factors.score_samples(scaling.forward(test)) - scaling.log_volume
    size = f"{'-'.join(map(str, (d, *hidden, latent)))}"
    return Fold(result.log_likelihoods, result.elbos, gaussian, of_factors, size, epoch)


def run_table(name: str, seed: int) -> str:
    """Return a row of the result."""
    from sklearn import datasets

    start = time.perf_counter()
    rows = getattr(datasets, f"load_{name}")().data.astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(rows))
    folds = []
    for held_out in np.array_split(order, FOLDS):
        train, test = rows[np.setdiff1d(order, held_out)], rows[held_out]
        train = train[np.random.default_rng(seed).permutation(len(train))]
        varies = np.array(
            [np.unique(c, return_counts=True)[1].max() < 0.98 * len(c) for c in train.T]
        )
        folds.append(run_fold(train[:, varies], test[:, varies], name == "digits", seed))

    def mean(values: NDArray[Any]) -> str:
        return f"{values.mean():9.2f} ± {values.std(ddof=1) / np.sqrt(len(values)):4.2f}"

    vae, elbo = (np.concatenate([getattr(f, k) for f in folds]) for k in ("vae", "elbo"))
    factors = np.concatenate([f.factors for f in folds])
    columns = [f"{name:14}", mean(vae), f"{elbo.mean():9.2f}"]
    if all(f.gaussian is not None for f in folds):
        gaussian = np.concatenate([f.gaussian for f in folds if f.gaussian is not None])
        columns += [f"{gaussian.mean():9.2f}", mean(vae - gaussian)]
    else:
        columns += [f"{'singular':>9}", " " * 16]
    columns += [f"{factors.mean():9.2f}", mean(vae - factors)]
    sizes = ", ".join(sorted({f.size for f in folds}))
    return "  ".join([*columns, f"{time.perf_counter() - start:4.0f} s  {sizes}"])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if unknown := set(args.tables) - {*TABLES}:
        parser.error(f"table is {min(unknown)!r}, must be one of {', '.join(TABLES)}")
    try:
        import sklearn
    except ImportError:
        print("tables.py: error: scikit-learn is not installed: pip install scikit-learn",
              file=sys.stderr)  # fmt: skip
        return 2
    print(f"{os.cpu_count()} cores, scikit-learn {sklearn.__version__}, seed {args.seed}")
    print(f"{'':14}  {'VAE':>9}         {'ELBO':>9}  {'Gaussian':>9}  {'VAE - it':>9}         "
          f"{'factors':>9}  {'VAE - it':>9}")  # fmt: skip
    for name in args.tables or TABLES:
        print(run_table(name, args.seed), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
