"""``numpy-vae score``: log p(x) of each image of a file."""

from __future__ import annotations

import argparse
import csv
import io
import time
from pathlib import Path

import numpy as np

from ..files import save_arrays
from ..params import Array
from ..runs.directory import open_run
from ..runs.owned import OwnFiles
from ..runs.progress import Progress, duration, say
from ..training.evaluate import (
    MAX_IMPORTANCE_SAMPLES,
    bits_per_dimension,
    evaluate_likelihood,
)
from .arguments import Subparsers, add_command, add_new_data, add_out, add_run, add_seed, whole
from .inputs import arithmetic_of, check_not_read, free_path, load_new, refusals, say_if_gone_on

SCORE = """\
Write, for each image x of a file, log p(x) by importance sampling with the standard error of the
estimate, the ELBO, and its reconstruction and KL terms, in nats; where it has a meaning, also
-log2 p(x) per dimension, in bits. Images that are unlike the training images have a low log p(x).

  numpy-vae score runs/mnist-1 --data new.npy --out scores.csv
  numpy-vae score runs/wine-1 --data new.csv --samples 1000

A row for each image, in the order of the file; data with a split have a column part. All images
share their draws of z, so a score does not depend on the other images.
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae score``."""
    command = add_command(commands, "score", run, "write log p(x) of each image of a file", SCORE)
    add_run(command)
    add_new_data(
        command, "images to score (default: the data of the run, without its validation set)"
    )
    command.add_argument(
        "--samples", type=whole(1, MAX_IMPORTANCE_SAMPLES), default=200, metavar="S",
        help="draws of z per image; more tighten the bound on log p(x) (default: 200)",
    )  # fmt: skip
    add_out(command, "FILE.csv|FILE.npz", "scores.csv")
    add_seed(command, "seed of z, and of the pixels of --binarize dynamic")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae score``; return its exit status."""
    with refusals():
        own = OwnFiles(Path(args.run), overwrite=args.overwrite)
        out = free_path(own, args.out, "scores.csv", [".csv", ".npz"])
        state = open_run(own.folder)
        check_not_read(out, args.data or state.settings["data"] or "")
        new = load_new(args, state)
    if new.summary:
        say(new.summary)
    vae, x, progress = state.kept, new.all_rows(), Progress()
    start = time.perf_counter()

    def show(done: int) -> None:
        left = (time.perf_counter() - start) * (len(x) / done - 1)
        progress.show(f"{done}/{len(x)} images  {duration(left)} left")

    try:
        with arithmetic_of(args.run):
            found = evaluate_likelihood(
                vae, x, samples=args.samples, draw=new.draw, rng=args.seed, on_images=show,
                same_noise=True,
            )  # fmt: skip
    finally:
        progress.clear()
    columns: dict[str, Array] = {
        "row": np.concatenate([np.arange(len(p)) for p in new.parts.values()])
    }
    if len(new.parts) > 1:
        columns["part"] = np.repeat([*new.parts], [len(p) for p in new.parts.values()])
    if new.labels.keys() == new.parts.keys():
        codes = np.concatenate([new.labels[part] for part in new.parts])
        columns["label"] = np.array(new.label_names)[codes] if new.label_names else codes
    columns |= {
        "log_likelihood": found.log_likelihoods, "log_likelihood_se": found.log_likelihood_ses,
        "elbo": found.elbos, "reconstruction": found.reconstructions, "kl": found.kls.sum(axis=1),
    }  # fmt: skip
    bits = bits_per_dimension(found.log_likelihoods, vae, x, draw=new.draw)
    if bits is not None:
        columns["bits_per_dimension"] = bits
    out.parent.mkdir(parents=True, exist_ok=True)
    with own.write(out, state.model_id) as stream:
        if out.suffix == ".npz":
            save_arrays(stream, columns)
        else:
            stream.write(table_text(columns).encode())
    say_if_gone_on(state, own, out)
    say(f"written: {out} ({len(x)} rows: {', '.join(columns)})")
    return 0


def table_text(columns: dict[str, Array]) -> str:
    """Return columns as CSV, floats with 9 digits and NaN as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    cells = [
        ["" if v != v else f"{v:.9g}" for v in values.tolist()]
        if values.dtype.kind == "f"
        else values
        for values in columns.values()
    ]
    writer.writerows(zip(*cells, strict=True))
    return text.getvalue()
