"""``numpy-vae explore``: a page on which a pointer moves through the latent space of a run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import Subparsers, add_image_shape, add_moved_data, add_out, add_run, whole
from ..checkpoint import Checkpoint
from ..data import Dataset, batch, value_range
from ..evaluate import kl_per_dimension
from ..explorer import explorer_page
from ..files import write_text
from ..network import MAX_WIDTH
from ..progress import say
from ..runs import open_run
from .inputs import REFUSALS, UsageError, data_of, free_path, one_line, shape_of

MOST_POINTS = 5_000

EXPLORE = """\
Write one HTML file with the decoder of a run inside, which needs no network and nothing else:
moving the pointer over the plane of two latent dimensions decodes the image there at once. The
other dimensions have sliders, and the training images are shown as points, by label.

  numpy-vae explore runs/digits-1                      RUN/explorer.html
  numpy-vae explore runs/mnist-1 --dims 3,7            the plane of z_3 and z_7
"""


def dimensions(text: str) -> tuple[int, int]:
    """Read the numbers of two different latent dimensions, from 1; return them from 0."""
    try:
        first, second = map(whole(1, MAX_WIDTH), text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        first = second = 0
    if first == second:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be the numbers of two latent dimensions, such as 1,2"
        )
    return first - 1, second - 1


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae explore``."""
    command = commands.add_parser(
        "explore",
        allow_abbrev=False,
        help="write a page to walk through the latent space of a run",
        description=EXPLORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run(command)
    command.add_argument(
        "--dims",
        type=dimensions,
        metavar="I,J",
        help="the dimensions of the plane, from 1; the page can change them (default: the two most "
        "active)",
    )
    add_out(command, "FILE.html", "explorer.html")
    command.add_argument(
        "--no-points",
        action="store_true",
        help="leave the training images out; the data are then not needed",
    )
    add_image_shape(command)
    add_moved_data(command)
    command.set_defaults(execute=run)


def run(args: argparse.Namespace) -> int:
    """``numpy-vae explore``; return its exit status."""
    try:
        out = free_path(args.out, Path(args.run, "explorer.html"), overwrite=args.overwrite)
        state = open_run(Path(args.run))
        vae, settings = state.kept, state.settings
        if args.dims is not None and max(args.dims) >= vae.latent_dim:
            raise ValueError(
                f"--dims is {args.dims[0] + 1},{args.dims[1] + 1}, must be from 1 to "
                f"{vae.latent_dim}"
            )
        shape = shape_of(state, args.image_shape)
        shown: dict[str, Any] = {"name": Path(settings["data"]).stem}
        if not args.no_points:
            shown = points(state, data_of(state, args.data, args.data_dir))
        if args.dims is not None:
            shown["dimensions"] = args.dims
        page = explorer_page(vae, shape, **shown)
    except REFUSALS as error:
        raise UsageError(one_line(error)) from None
    try:
        write_text(out, page)
    except OSError as error:
        print(f"numpy-vae explore: error: {one_line(error)}", file=sys.stderr)
        return 1
    say(f"written: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0


def points(state: Checkpoint, data: Dataset) -> dict[str, Any]:
    """Return where training images lie, and what else of them `explorer_page` shows."""
    # Evenly taken: a file may be sorted by label.
    rows = np.arange(0, len(data.train), -(-len(data.train) // MOST_POINTS))
    x = batch(
        data.train,
        rows,
        binarize=state.settings["binarize"],
        rng=np.random.default_rng(state.streams.test_seed),
        dtype=state.vae.params.dtype,
    )
    mu, logvar = state.kept.encode(x)
    active = np.argsort(-kl_per_dimension(mu, logvar).mean(axis=0)).tolist()
    return {
        "name": data.name,
        "mu": mu,
        "labels": None if data.train_labels is None else data.train_labels[rows],
        "value_range": value_range(x),
        "dimensions": tuple(active[:2]) if len(active) > 2 else None,  # as in the figure latent
    }
