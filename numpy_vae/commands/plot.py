"""``numpy-vae plot``: draw the figures of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..figures import FIGURES, FORMATS
from ..files import check_writable
from ..runs.directory import open_run
from ..runs.images import draw_figures, find_data
from ..runs.owned import OwnFiles
from ..runs.progress import say
from .arguments import Subparsers, add_command, add_image_shape, add_moved_data, add_run, path
from .inputs import check_drawing, load_moved_data, refusals, say_if_gone_on

PLOT = """\
Draw the figures of a run:

  training         the ELBO, reconstruction and KL against the epoch
  reconstructions  test images and their reconstructions
  samples          images decoded from draws of the prior
  latent           test images in the latent plane (the two dimensions of the highest KL), by label
  manifold         the decoded latent plane, at quantiles of the prior (two dimensions only)
  interpolations   decoded between pairs of test images
  kl               the KL of each latent dimension, and which dimensions are active
  traversals       one latent dimension varied at a time, those of the highest KL
  factors          correlation of latent dimensions with the factors of the synthetic digits
  latent_factors   the latent plane coloured by these factors (two dimensions only)

  numpy-vae plot runs/digits-1                            RUN/figures/*.png
  numpy-vae plot runs/digits-1 --format pdf --out paper   paper/*.pdf
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae plot``."""
    command = add_command(commands, "plot", run, "draw the figures of a run", PLOT)
    add_run(command)
    command.add_argument(
        "--format", choices=FORMATS, default="png", help="file format (default: png, at 150 dpi)"
    )
    command.add_argument(
        "--out", type=path, metavar="DIR", help="the folder to write to (default: RUN/figures)"
    )
    command.add_argument(
        "--overwrite", action="store_true",
        help="replace existing figures, even those that the run did not write",
    )  # fmt: skip
    add_image_shape(command)
    add_moved_data(command)


def run(args: argparse.Namespace) -> int:
    """``numpy-vae plot``; return its exit status."""
    with refusals():
        check_drawing()
        state = open_run(Path(args.run))
        data = find_data(state, load_moved_data(args, state), args.image_shape)
        folder = Path(args.run, "figures") if args.out is None else Path(args.out)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file, must be a folder")
        own = OwnFiles(Path(args.run), overwrite=args.overwrite)
        for name in FIGURES:
            own.check_free(folder / f"{name}.{args.format}")
        check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
    written = draw_figures(state, data, folder, args.format, own.write)
    say_if_gone_on(state, own, folder)
    say("written: " + ", ".join(map(str, written)))
    return 0
