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
from ..data.mapped import Images, chunks, subset
from ..likelihood import check_values
from ..runs.directory import open_run
from ..runs.images import find_data, name_of
from ..runs.progress import Progress, duration, say_result
from ..seeds import spawn_streams
from ..training.evaluate import ACTIVE, MAX_IMPORTANCE_SAMPLES, evaluate_likelihood
from .arguments import Subparsers, add_command, add_moved_data, add_run, add_seed, whole
from .inputs import arithmetic_of, load_moved_data, refusals

EVALUATE = """\
Evaluate the model of a run on held-out images: log p(x) by importance sampling, with its standard
error over images, the ELBO, its reconstruction and KL terms, the KL of each latent dimension, and
the number of active ones. In nats per image; for log p(x) and the ELBO, higher is better.

  numpy-vae evaluate runs/mnist-1                     5000 samples per test image
  numpy-vae evaluate runs/mnist-1 --images 1000       a random 1000 of the test images
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
    add_moved_data(command)
    add_seed(command, "seed of z, of --images, and of the pixels of --binarize dynamic")
    command.add_argument("--json", action="store_true", help="print only one JSON object")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae evaluate``; return its exit status."""
    with refusals():
        state = open_run(Path(args.run))
        settings, vae = state.settings, state.kept
        name = args.data or settings["data"] or name_of(settings)
        data = find_data(state, load_moved_data(args, state))
        images = data.test if args.on == "test" else data.validation
        if images is None:
            raise ValueError(f"--on validation: {args.run} was trained without --validation")
        count = args.images or len(images)
        check_whole("--images", count, 1, len(images))
        order = spawn_streams(args.seed).order.permutation(len(images))
        images = subset(images, np.sort(order[:count]))
        check_values(vae.likelihood, images, f"--data {name}")
    if not args.json:
        say_result(
            f"{args.run}: {data.name}, binarize {settings['binarize']}; {vae}; "
            f"{count} {args.on} images, {args.samples} samples, seed {args.seed}"
        )
    progress = Progress()
    start = time.perf_counter()

    def show(done: int) -> None:
        left = (time.perf_counter() - start) * (count / done - 1)
        progress.show(f"{done}/{count} images  {duration(left)} left")

    try:
        with arithmetic_of(args.run):
            found = evaluate_likelihood(
                vae, images, samples=args.samples, draw=settings["binarize"] == "dynamic",
                rng=args.seed, on_images=show,
            )  # fmt: skip
    finally:
        progress.clear()
    result = found.summary() | {
        "units": "nats per image", "data": name, "on": args.on, "binarize": settings["binarize"],
        "likelihood": vae.likelihood.name, "seed": args.seed,
        "cross_entropy": vae.likelihood.name == "bernoulli" and not is_binary(images, settings),
        "seconds": round(time.perf_counter() - start, 3),
    }  # fmt: skip
    say_result(json.dumps(result) if args.json else evaluation_text(result))
    return 0


def is_binary(images: Images, settings: Mapping[str, Any]) -> bool:
    """Return whether all pixels are 0 or 1, so that a Bernoulli likelihood applies to them."""
    if settings["binarize"] != "none":
        return True
    white = 255 if images.dtype == np.uint8 else 1
    return all(((x == 0) | (x == white)).all() for x in (images[rows] for rows in chunks(images)))


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
