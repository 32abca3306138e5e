"""``numpy-vae evaluate``: estimate log p(x) of held-out images."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np

from ..checks import check_whole
from ..data.mapped import subset
from ..likelihood import check_values
from ..runs.directory import open_run
from ..runs.images import name_of
from ..runs.progress import Progress, duration, say_result
from ..seeds import spawn_streams
from ..training.evaluate import (
    ACTIVE,
    MAX_IMPORTANCE_SAMPLES,
    evaluate_likelihood,
    is_binary,
)
from .arguments import Subparsers, add_command, add_new_data, add_run, add_seed, whole
from .inputs import arithmetic_of, find_own, load_new, refusals

EVALUATE = """\
Evaluate the model of a run on held-out images: log p(x) by importance sampling, with its standard
error over images, the ELBO, its reconstruction and KL terms, the KL of each latent dimension, and
the number of active ones. In nats per image; for log p(x) and the ELBO, higher is better.

  numpy-vae evaluate runs/mnist-1                     5000 samples per test image
  numpy-vae evaluate runs/mnist-1 --images 1000       a random 1000 of the test images
  numpy-vae evaluate runs/mnist-1 --data new.npy      all images of another file
  numpy-vae evaluate runs/mnist-1 --json              one JSON object on standard output

The pixels of --binarize dynamic are drawn once, from the seed: runs evaluated with the same seed
see the same images. Compare only results with the same --binarize and --likelihood.
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae evaluate``."""
    command = add_command(
        commands, "evaluate", run, "estimate log p(x) of held-out images", EVALUATE
    )
    add_run(command)
    command.add_argument(
        "--samples", type=whole(1, MAX_IMPORTANCE_SAMPLES), default=5000, metavar="S",
        help="draws of z per image; more tighten the bound on log p(x) (default: 5000)",
    )  # fmt: skip
    command.add_argument(
        "--images", type=whole(1, 1 << 30), metavar="N",
        help="evaluate N random images, chosen by the seed (default: all)",
    )  # fmt: skip
    command.add_argument(
        "--on", choices=("test", "validation"), default="test",
        help="the test set (default), or the images that train --validation set aside",
    )  # fmt: skip
    add_new_data(command, "evaluate all rows of other data (default: the held-out images)")
    add_seed(command, "seed of z, of --images, and of the pixels of --binarize dynamic")
    command.add_argument("--json", action="store_true", help="print only one JSON object")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae evaluate``; return its exit status."""
    with refusals():
        state = open_run(Path(args.run))
        settings, vae = state.settings, state.kept
        name = args.data or settings["data"] or name_of(settings)
        data, draw = find_own(args, state), settings["binarize"] == "dynamic"
        if data is None:
            new = load_new(args, state)
            images, on, draw = new.all_rows(), "new", new.draw
            if args.on == "validation":
                raise ValueError("--on validation applies to the images of the run, not to others")
        else:
            held_out = data.test if args.on == "test" else data.validation
            if held_out is None:
                raise ValueError(f"--on validation: {args.run} was trained without --validation")
            images, on = held_out, args.on
        count = args.images or len(images)
        check_whole("--images", count, 1, len(images))
        order = spawn_streams(args.seed).order.permutation(len(images))
        images = subset(images, np.sort(order[:count]))
        check_values(vae.likelihood, images, f"--data {name}")
    if not args.json:
        if data is None and new.summary:
            say_result(new.summary)
        say_result(
            f"{args.run}: {name if data is None else data.name}, binarize {settings['binarize']}; "
            f"{vae}; {count} {on} images, {args.samples} samples, seed {args.seed}"
        )
    progress = Progress()
    start = time.perf_counter()

    def show(done: int) -> None:
        left = (time.perf_counter() - start) * (count / done - 1)
        progress.show(f"{done}/{count} images  {duration(left)} left")

    try:
        with arithmetic_of(args.run):
            found = evaluate_likelihood(
                vae, images, samples=args.samples, draw=draw,
                rng=args.seed, on_images=show,
            )  # fmt: skip
    finally:
        progress.clear()
    result = found.summary() | {
        "units": "nats per image", "data": name, "on": on, "binarize": settings["binarize"],
        "likelihood": vae.likelihood.name, "seed": args.seed,
        "cross_entropy": vae.likelihood.name == "bernoulli" and not draw and not is_binary(images),
        "seconds": round(time.perf_counter() - start, 3),
    }  # fmt: skip
    say_result(json.dumps(result) if args.json else evaluation_text(result))
    return 0


def evaluation_text(result: Mapping[str, Any]) -> str:
    """Return the result of an evaluation as text."""

    def mean(name: str) -> str:
        error = result[f"{name}_se"]
        return f"{result[name]:9.3f}" + ("" if error is None else f"  (standard error {error:.3f})")

    kls = sorted(result["kl_per_dimension"], reverse=True)
    active = "unknown" if result["active_units"] is None else f"{result['active_units']:5d}"
    grey = "grey pixels: log p(x) is computed from a cross-entropy, and is not a log-likelihood"
    lines = [
        *([grey] if result["cross_entropy"] else []),
        f"log p(x)        {mean('log_likelihood')}  nats per image (a lower bound on average)",
        f"ELBO            {mean('elbo')}",
        f"reconstruction  {result['reconstruction']:9.3f}",
        f"KL              {result['kl']:9.3f}",
        f"active units    {active} of {len(kls)} (variance of the posterior mean above {ACTIVE:g})",
        *wrap("KL of each dimension: " + " ".join(f"{kl:.2f}" for kl in kls), 80),
        f"{result['seconds']:.1f} s",
    ]
    return "\n".join(lines)
