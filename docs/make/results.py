"""Train the models of the literature on MNIST, and write the tables of docs/results.md.

    python docs/make/results.py --list            the rows, and how long each takes here
    python docs/make/results.py                   all rows but those that take many hours
    python docs/make/results.py dynamic-k1 ...    these rows
    python docs/make/results.py --write           the tables of docs/results.md, for what is done

A row is a run of ``numpy-vae train`` in a directory of its own (under --out), evaluated on all test
images with 5000 importance samples, as ``numpy-vae evaluate`` does. The pilots, from which the
recipe was chosen, are evaluated on images set aside from the training set, with 100 samples.

Start the command again after it was stopped: finished rows are kept, and an unfinished training
continues after its last whole epoch. MNIST is read from where ``numpy-vae train`` reads it.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numpy_vae import VAE, Adam, evaluate_likelihood, load_mnist
from numpy_vae.__main__ import build_parser, main
from numpy_vae.commands.train import HIDDEN, LATENT, recipe_of
from numpy_vae.data import Dataset, batch, binarize, split_validation
from numpy_vae.files import atomic_write
from numpy_vae.training.evaluate import standard_error
from numpy_vae.training.loop import train_step

PAGE = Path(__file__).resolve().parent.parent / "results.md"
BEGIN, END = "<!-- written by docs/make/results.py -->", "<!-- up to here -->"
SEED = 0  # of the evaluation: the pixels of dynamic binarisation, and the noise

BURDA = "--hidden 200,200 --latent 50 --activation tanh"
RECIPE = f"{BURDA} --output-bias data --lr 2e-3 --schedule cosine"
SHORT = f"{RECIPE} --warmup 10 --epochs 100 --evaluate-every 10"
PAPER = f"{BURDA} --output-bias data --lr 1e-3 --schedule burda --epochs 3280 --batch-size 20"


class Row(NamedTuple):
    """A line of a table."""

    table: str
    what: str
    arguments: str  # of ``numpy-vae train --data mnist``
    theirs: str  # what was published, nats, and where
    by_default: bool = True

    @property
    def command(self) -> str:
        """What to type."""
        return f"numpy-vae train --data mnist {self.arguments}"


GREY, DYNAMIC, STATIC, PILOT = "grey", "dynamic", "static", "pilot"
PILOT_SAMPLES = 100
TRIED = f"{BURDA} --epochs 40 --evaluate-every 40 --validation 5000"
PYTORCH = "105.59"  # of PyTorch's own example, as the README of a project that runs it has it
ROWS = {
    **{
        f"grey-{seed}": Row(
            GREY,
            f"784-400-20 relu, 10 epochs, seed {seed}",
            f"--binarize none --epochs 10 --seed {seed}",
            PYTORCH,
        )
        for seed in range(3)
    },
    "dynamic-k1": Row(
        DYNAMIC,
        "k = 1, 1100 epochs",
        f"{RECIPE} --warmup 110 --epochs 1100 --evaluate-every 20",
        "86.76",
    ),
    "dynamic-k1-100": Row(DYNAMIC, "k = 1, 100 epochs", SHORT, "86.76"),
    "dynamic-k5-100": Row(
        DYNAMIC,
        "IWAE k = 5, 100 epochs",
        f"{SHORT} --bound iwae --samples 5",
        "85.54",
    ),
    "static-k1-100": Row(
        STATIC,
        "k = 1, 100 epochs",
        f"{SHORT} --binarize static",
        "88.71",
    ),
    "static-k5-100": Row(
        STATIC,
        "IWAE k = 5, 100 epochs",
        f"{SHORT} --binarize static --bound iwae --samples 5",
        "87.63",
    ),
    **{
        f"pilot-{name}": Row(PILOT, "", f"{TRIED} {arguments}", "")
        for name, arguments in {
            "constant": "--lr 1e-3",
            "cosine": "--lr 2e-3 --schedule cosine",
            "bias": "--lr 2e-3 --schedule cosine --output-bias data",
            "warmup": "--lr 2e-3 --schedule cosine --output-bias data --warmup 4",
            "settled": "--lr 1e-3 --output-bias data",
            "average": "--lr 1e-3 --output-bias data --average",
            "burda": "--lr 2e-3 --schedule burda --output-bias data",
            "faster": "--lr 4e-3 --schedule cosine --output-bias data --warmup 4",
            "smaller": "--lr 2e-3 --schedule cosine --output-bias data --warmup 4 --batch-size 64",
        }.items()
    },
    "paper-k1": Row(DYNAMIC, "k = 1, the schedule of the paper", PAPER, "86.76", False),
    "paper-k5": Row(
        DYNAMIC,
        "IWAE k = 5, the schedule of the paper",
        f"{PAPER} --bound iwae --samples 5",
        "85.54",
        False,
    ),
    "paper-k50": Row(
        DYNAMIC,
        "IWAE k = 50, the schedule of the paper",
        f"{PAPER} --bound iwae --samples 50",
        "84.78",
        False,
    ),
}
PAIRS = (("dynamic-k5-100", "dynamic-k1-100"), ("static-k5-100", "static-k1-100"))


def settings_of(row: Row) -> argparse.Namespace:
    """Return the settings that the command line makes of the arguments of a row."""
    args = build_parser().parse_args(["train", "--data", "mnist", *row.arguments.split()])
    vars(args).update(asdict(recipe_of(args)))
    args.likelihood, args.seed = args.likelihood or "bernoulli", args.seed or 0
    args.activation, args.latent = args.activation or "relu", args.latent or LATENT
    args.hidden = HIDDEN if args.hidden is None else args.hidden
    return args


# Running a row ------------------------------------------------------------------------------------


def run(row: Row, folder: Path, samples: int) -> int:
    """Train and evaluate what is not done yet; return the exit status."""
    if not is_trained(row, folder):
        (folder / "evaluation.npz").unlink(missing_ok=True)
        if (folder / "config.json").exists() and (folder / "checkpoint.npz").exists():
            arguments = ["train", "--resume", str(folder)]
        else:
            arguments = [*row.command.split()[1:], "--out", str(folder), "--overwrite"]
        print(f"$ numpy-vae {' '.join(arguments)}", flush=True)
        status = main(arguments)
        if status:
            return status
    samples = PILOT_SAMPLES if row.table == PILOT else samples
    if row.table != GREY and evaluation(folder, samples) is None:
        on = "validation" if row.table == PILOT else "test"
        print(
            f"$ numpy-vae evaluate {folder} --on {on} --samples {samples} --seed {SEED}", flush=True
        )
        evaluate(folder, samples, on)
    return 0


def is_trained(row: Row, folder: Path) -> bool:
    """Return whether the run of a row in a folder has come to its end.

    Raises
    ------
    ValueError
        If the folder holds another run.
    """
    if not (folder / "config.json").exists():
        return False
    config, args = json.loads((folder / "config.json").read_text()), settings_of(row)
    args.hidden = list(args.hidden)
    free = {"data_dir", "image_shape", "standardize", "batch_size", "variance", "threads"}
    for name in config.keys() & vars(args).keys() - free:
        if config[name] != getattr(args, name):
            raise ValueError(
                f"{folder}: its {name} is {config[name]!r}, must be {getattr(args, name)!r} as in "
                f"`{row.command}`: move it away"
            )
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
    except FileNotFoundError:
        return False
    return bool(metrics["epochs"] == config["epochs"] and not metrics["interrupted"])


def evaluate(folder: Path, samples: int, on: str) -> None:
    """Estimate log p(x) of every held-out image, and keep each, so that two rows can be paired."""
    vae = VAE.load(folder / "checkpoint.npz")
    config = json.loads((folder / "config.json").read_text())
    data = split_validation(binarize(load_mnist(), config["binarize"]), config["validation"])
    images = data.validation if on == "validation" else data.test
    assert images is not None
    start = time.perf_counter()
    found = evaluate_likelihood(
        vae,
        images,
        samples=samples,
        draw=config["binarize"] == "dynamic",
        rng=SEED,
    )
    seconds = time.perf_counter() - start
    summary = found.summary() | {"seconds": round(seconds, 1)}
    with atomic_write(folder / "evaluation.npz") as stream:
        np.savez(
            stream, log_likelihoods=found.log_likelihoods, summary=np.array(json.dumps(summary))
        )


# How long it will take ----------------------------------------------------------------------------


def estimate(row: Row, data: Dataset, samples: int, steps: int = 30) -> tuple[float, float]:
    """Return the seconds of the training and of the evaluation of a row, from a few steps of it."""
    args = settings_of(row)
    vae = VAE(784, args.hidden, args.latent, args.activation, rng=0)
    adam, grads, rng = Adam(vae.params), [vae.params.zeros_like()], np.random.default_rng(0)
    batch_size = args.batch_size
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        rows = rng.integers(len(data.train), size=batch_size)
        x = batch(data.train, rows, pixels=rng)
        lead = (args.samples, batch_size) if args.samples > 1 else (batch_size,)
        eps = rng.standard_normal((*lead, args.latent), np.float32)
        train_step(vae, adam, x, eps, grads, bound=args.bound)
        times.append(time.perf_counter() - start)
    training = float(np.median(times)) * math.ceil(len(data.train) / batch_size) * args.epochs
    if row.table in (GREY, PILOT):
        return training, 0.0
    few = 20
    start = time.perf_counter()
    evaluate_likelihood(vae, data.test[:100], samples=few, draw=True, rng=0)
    return training, (time.perf_counter() - start) * len(data.test) / 100 * samples / few


def duration(seconds: float) -> str:
    """Return a time that people can read."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


# The tables ---------------------------------------------------------------------------------------


class Result(NamedTuple):
    """What a finished row has found."""

    metrics: dict[str, Any]
    seconds: float  # of training, over all the sittings it took
    summary: dict[str, Any]
    log_likelihoods: Any


def evaluation(folder: Path, samples: int) -> tuple[dict[str, Any], Any] | None:
    """Return the summary and the values that `evaluate` kept, if they are of so many samples."""
    try:
        with np.load(folder / "evaluation.npz", allow_pickle=False) as found:
            summary = json.loads(str(found["summary"]))
            return (summary, found["log_likelihoods"]) if summary["samples"] == samples else None
    except FileNotFoundError:
        return None


def result(row: Row, folder: Path, samples: int) -> Result | None:
    """Return what is known of a row, or None while it is not done."""
    if not is_trained(row, folder):
        return None
    metrics = json.loads((folder / "metrics.json").read_text())
    with open(folder / "history.csv", newline="") as stream:
        seconds = sum(float(record["seconds"]) for record in csv.DictReader(stream))
    if row.table == GREY:
        return Result(metrics, seconds, {}, None)
    found = evaluation(folder, PILOT_SAMPLES if row.table == PILOT else samples)
    return None if found is None else Result(metrics, seconds, *found)


def tables(out: Path, samples: int) -> str:
    """Return the tables of what is done, as Markdown."""
    results = {name: result(row, out / name, samples) for name, row in ROWS.items()}
    done = {name: found for name, found in results.items() if found is not None}
    parts = grey_table(done), nll_table(DYNAMIC, done), nll_table(STATIC, done), pilot_table(done)
    return "\n\n".join(part for part in parts if part)


def grey_table(done: dict[str, Result]) -> str:
    """Return the table of the protocol of PyTorch's example."""
    found = {name: r for name, r in done.items() if ROWS[name].table == GREY}
    if not found:
        return ""
    losses = {name: round(-r.metrics["test_elbo"], 2) for name, r in found.items()}  # as shown
    lines = [
        "### Grey pixels, 784-400-20, 10 epochs (a cross-entropy, not a likelihood)",
        "",
        "| row | command | -ELBO, one sample | published | training |",
        "|---|---|---|---|---|",
    ]
    for name, r in found.items():
        lines.append(
            f"| {name} | `{ROWS[name].command}` | {losses[name]:.2f} "
            f"| {ROWS[name].theirs} | {duration(r.seconds)} |"
        )
    lines += ["", f"Mean of the {len(found)}: {np.mean(list(losses.values())):.2f}."]
    return "\n".join(lines)


def nll_table(table: str, done: dict[str, Result]) -> str:
    """Return the table of a binarisation, and the paired differences in it."""
    found = {name: r for name, r in done.items() if ROWS[name].table == table}
    if not found:
        return ""
    title = {
        DYNAMIC: "Dynamic binarisation, 784-200-200-50 tanh",
        STATIC: "Static binarisation, 784-200-200-50 tanh (our own draw, not Larochelle's)",
    }[table]
    lines = [
        f"### {title}",
        "",
        "| row | | command | NLL | standard error | -ELBO | active units | published NLL "
        "| training | evaluation |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, r in found.items():
        s = r.summary
        lines.append(
            f"| {name} | {ROWS[name].what}, seed {r.metrics['seed']} | `{ROWS[name].command}` "
            f"| **{-s['log_likelihood']:.2f}** | {s['log_likelihood_se']:.2f} | {-s['elbo']:.2f} "
            f"| {s['active_units']} of {len(s['kl_per_dimension'])} | {ROWS[name].theirs} "
            f"| {duration(r.seconds)} | {duration(s['seconds'])} |"
        )
    for one, two in PAIRS:
        if one in found and two in found:
            gain = found[one].log_likelihoods - found[two].log_likelihoods
            error = standard_error(gain)
            assert error is not None
            lines += [
                "",
                f"Image by image, log p(x) of {one} is {gain.mean():.3f} nats above that of {two}. "
                f"The standard error is {error:.3f}, so that is {gain.mean() / error:.0f} standard "
                "errors.",
            ]
    return "\n".join(lines)


def pilot_table(done: dict[str, Result]) -> str:
    """Return the table of the runs among which the recipe was chosen."""
    found = {name: r for name, r in done.items() if ROWS[name].table == PILOT}
    if not found:
        return ""
    lines = [
        "### How the recipe was chosen",
        "",
        "The NLL is that of 5000 images set aside from the training set, with "
        f"{PILOT_SAMPLES} samples each. Every command begins with "
        f"`numpy-vae train --data mnist {TRIED}`.",
        "",
        "| row | the rest of the command | NLL | -ELBO | active units | training |",
        "|---|---|---|---|---|---|",
    ]
    for name, r in found.items():
        s = r.summary
        lines.append(
            f"| {name} | `{ROWS[name].arguments.removeprefix(TRIED).strip()}` "
            f"| {-s['log_likelihood']:.2f} | {-s['elbo']:.2f} "
            f"| {s['active_units']} of {len(s['kl_per_dimension'])} | {duration(r.seconds)} |"
        )
    return "\n".join(lines)


def page(text: str, out: Path, samples: int) -> str:
    """Return the page with its tables replaced by those of what is done."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables(out, samples)}\n\n{END}{rest.split(END)[1]}"


def command(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    try:
        return _command(argv)
    except (ValueError, OSError) as error:
        print(f"results.py: error: {error}", file=sys.stderr)
        return 2


def _command(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument(
        "--list", action="store_true", help="say what there is, and how long it takes"
    )
    parser.add_argument(
        "--write", action="store_true", help="write the tables into docs/results.md"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/literature"), metavar="DIR")
    parser.add_argument("--samples", type=int, default=5000, metavar="S", help="default: 5000")
    args = parser.parse_args(argv)
    for name in args.rows:
        if name not in ROWS:
            parser.error(f"row is {name!r}, must be one of {', '.join(ROWS)}")
    if args.write:
        text = page(PAGE.read_text(encoding="utf-8"), args.out, args.samples)
        PAGE.write_text(text, encoding="utf-8")
        return 0
    chosen = args.rows or [name for name, row in ROWS.items() if row.by_default]
    data = load_mnist()
    print(f"Python {platform.python_version()}, NumPy {np.__version__}")
    for name in ROWS if args.list else chosen:
        row = ROWS[name]
        if result(row, args.out / name, args.samples) is not None:
            print(f"{name}: done")
        else:
            training, evaluation = estimate(row, data, args.samples)
            print(f"{name}: {duration(training)} of training, {duration(evaluation)} of evaluation")
        if args.list:
            print(f"    {row.command}")
    if args.list:
        return 0
    for name in chosen:
        status = run(ROWS[name], args.out / name, args.samples)
        if status:
            return status
    print(f"\n{tables(args.out, args.samples)}")
    return 0


if __name__ == "__main__":
    sys.exit(command())
