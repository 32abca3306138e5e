"""``numpy-vae plot``: draw the figures of a run."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..arguments import Subparsers, add_image_shape, add_moved_data, add_run, path
from ..checkpoint import Checkpoint
from ..data import Dataset, batch
from ..progress import say
from ..runs import FORMATS, open_run
from .inputs import REFUSALS, UsageError, data_of, one_line

MOST_IMAGES = 5_000  # of the test set, in the figures

PLOT = """\
Draw the figures of a run: the training curves, reconstruction and KL apart; reconstructions of test
images; samples from the prior; interpolations between test images; the KL of each latent dimension
and which are active; traversals of the most active ones; the latent plane by label (of more than
two dimensions, the two most active); with two dimensions the manifold by quantiles of the prior;
and for the synthetic digits the latent dimensions against the factors that they were drawn from.

  numpy-vae plot runs/digits-1                            figures/*.png of the run
  numpy-vae plot runs/digits-1 --format pdf --out paper   paper/*.pdf
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae plot``."""
    command = commands.add_parser(
        "plot",
        allow_abbrev=False,
        help="draw the figures of a run",
        description=PLOT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run(command)
    command.add_argument(
        "--format", choices=FORMATS, default="png", help="of the files (default: png, at 150 dpi)"
    )
    command.add_argument(
        "--out",
        type=path,
        metavar="DIR",
        help="where the files go, and replace those of their names (default: figures of the run)",
    )
    add_image_shape(command)
    add_moved_data(command)
    command.set_defaults(execute=run)


def run(args: argparse.Namespace) -> int:
    """``numpy-vae plot``; return its exit status."""
    try:
        from .. import figures  # noqa: F401  # what is wrong with matplotlib shows now

        state = open_run(Path(args.run))
        data = data_of(state, args.data, args.data_dir, args.image_shape)
        folder = Path(args.run, "figures") if args.out is None else Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
    except REFUSALS as error:
        raise UsageError(one_line(error)) from None
    try:
        written = draw_figures(state, data, folder, args.format)
    except (OSError, MemoryError, FloatingPointError) as error:
        print(f"numpy-vae plot: error: {one_line(error)}", file=sys.stderr)
        return 1
    say("written: " + ", ".join(map(str, written)))
    return 0


def draw_figures(state: Checkpoint, data: Dataset, folder: Path, format: str = "png") -> list[Path]:
    """Write the figures of a run; the same run gives the same pictures each time."""
    from ..figures import save_figures  # matplotlib takes longer to import than all the rest

    vae, binarize = state.kept, state.settings["binarize"]
    rng = np.random.default_rng(state.streams.test_seed)
    rows = slice(0, MOST_IMAGES)
    x = batch(data.test, rows, binarize=binarize, rng=rng, dtype=vae.params.dtype)
    titled = replace(data, name=f"{data.name}, binarize {binarize}")
    return save_figures(folder, vae, titled, x, state.history, rng=rng, format=format)
