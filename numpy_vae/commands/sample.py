"""``numpy-vae sample``: sample images from the model of a run."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from ..data.mapped import chunks
from ..figures import FORMATS
from ..files import save_arrays
from ..runs.directory import open_run
from ..runs.images import name_of, shape_of
from ..runs.owned import OwnFiles
from ..runs.progress import say
from .arguments import Subparsers, add_command, add_image_shape, add_out, add_run, add_seed, whole
from .inputs import arithmetic_of, check_drawing, free_path, refusals, say_if_gone_on

MAX_SAMPLED, MAX_PICTURED = 1_000_000, 2_500

SAMPLE = """\
Draw z from the prior N(0, I) and decode it. The images are means of p(x|z), or with --draw draws
from it.

  numpy-vae sample runs/digits-1                            64 images, as one picture
  numpy-vae sample runs/digits-1 -n 1000 --out new.npz      arrays: images and their z
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae sample``."""
    command = add_command(commands, "sample", run, "sample images from the model of a run", SAMPLE)
    add_run(command)
    command.add_argument(
        "-n", type=whole(1, MAX_SAMPLED), default=64, metavar="N",
        help="number of images (default: 64)",
    )  # fmt: skip
    command.add_argument(
        "--draw", action="store_true",
        help="draw x from p(x|z) in place of its mean (the picture of a table always does)",
    )  # fmt: skip
    add_out(command, f"FILE.npz|{'|'.join(FORMATS)}", "samples.png")
    add_image_shape(command)
    add_seed(command, "seed of the draws")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae sample``; return its exit status."""
    with refusals():
        suffixes = [f".{kind}" for kind in ("npz", *FORMATS)]
        own = OwnFiles(Path(args.run), overwrite=args.overwrite)
        out = free_path(own, args.out, "samples.png", suffixes)
        pictured = out.suffix != ".npz"
        if pictured and args.n > MAX_PICTURED:
            raise ValueError(f"-n is {args.n}, must be at most {MAX_PICTURED} unless --out is .npz")
        if pictured:
            check_drawing()
        state = open_run(own.folder)
        shape = shape_of(state, args.image_shape)
    vae = state.kept
    rng = np.random.default_rng(args.seed)
    z = rng.standard_normal((args.n, vae.latent_dim))
    # The distribution of the columns of a table is that of draws.
    draw = args.draw or (pictured and shape is None)
    with arithmetic_of(args.run):
        parts = [vae.draw(z[i], rng) if draw else vae.decode(z[i]) for i in chunks(z)]
    images = np.concatenate(parts)
    out.parent.mkdir(parents=True, exist_ok=True)
    if pictured:
        from ..figures.of_a_run import save_samples

        write = partial(own.write, model=state.model_id)
        save_samples(
            out, images, shape, name=name_of(state.settings), write=write,
            columns=state.settings.get("columns", ()), scaling=vae.scaling,
        )  # fmt: skip
    else:
        with own.write(out, state.model_id) as stream:
            shaped = images.reshape(-1, *(shape or (vae.data_dim,)))
            save_arrays(stream, {"images": shaped, "z": z.astype(vae.params.dtype)})
    say_if_gone_on(state, own, out)
    say(f"written: {out}")
    return 0
