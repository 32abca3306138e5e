"""``numpy-vae reconstruct``: images beside their reconstructions."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from ..data.binarize import batch
from ..data.mapped import chunks, subset
from ..figures import FORMATS
from ..files import save_arrays
from ..runs.directory import open_run
from ..runs.images import shape_of
from ..runs.owned import OwnFiles
from ..runs.progress import say
from ..seeds import spawn_streams
from .arguments import (
    Subparsers,
    add_command,
    add_image_shape,
    add_new_data,
    add_out,
    add_run,
    add_seed,
)
from .inputs import (
    arithmetic_of,
    check_drawing,
    check_not_read,
    free_path,
    load_new,
    refusals,
    say_if_gone_on,
)

RECONSTRUCT = """\
Write the images of a file and their reconstructions, the means of p(x|z) at the posterior mean of
z: arrays x and reconstruction, or a picture of the first images.

  numpy-vae reconstruct runs/mnist-1 --data new.npy --out again.npz
  numpy-vae reconstruct runs/mnist-1 --data new.npy --out again.png
"""
MOST = 36  # images in a picture


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae reconstruct``."""
    command = add_command(
        commands, "reconstruct", run, "write images and their reconstructions", RECONSTRUCT
    )
    add_run(command)
    add_new_data(
        command, "images to reconstruct (default: the data of the run, without its validation set)"
    )
    add_out(command, f"FILE.npz|{'|'.join(FORMATS)}", "reconstructions.npz")
    add_image_shape(command)
    add_seed(command, "seed of the pixels drawn at random")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae reconstruct``; return its exit status."""
    with refusals():
        own = OwnFiles(Path(args.run), overwrite=args.overwrite)
        suffixes = [f".{kind}" for kind in ("npz", *FORMATS)]
        out = free_path(own, args.out, "reconstructions.npz", suffixes)
        if out.suffix != ".npz":
            check_drawing()
        state = open_run(own.folder)
        shape = shape_of(state, args.image_shape)
        check_not_read(out, args.data or state.settings["data"] or "")
        new = load_new(args, state)
    if new.summary:
        say(new.summary)
    vae, images = state.kept, new.all_rows()
    if out.suffix != ".npz":
        images = subset(images, np.arange(min(len(images), MOST)))
    pixels = spawn_streams(args.seed).held_out()[1] if new.draw else None
    x = np.concatenate(
        [batch(images, rows, pixels=pixels, dtype=vae.input_dtype) for rows in chunks(images)]
    )
    with arithmetic_of(args.run):
        again = np.concatenate([vae.reconstruct(x[rows]) for rows in chunks(x)])
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        arrays = {"x": x, "reconstruction": again}
        with own.write(out, state.model_id) as stream:
            save_arrays(
                stream, {k: a.reshape(-1, *(shape or a.shape[1:])) for k, a in arrays.items()}
            )
    else:
        from ..figures.of_a_run import save_reconstructions

        save_reconstructions(
            out, x, again, shape, name=Path(new.name).stem, scaling=vae.scaling,
            columns=state.settings.get("columns", ()),
            write=partial(own.write, model=state.model_id),
        )  # fmt: skip
    say_if_gone_on(state, own, out)
    say(f"written: {out} ({len(x)} of {len(new.all_rows())} images)")
    return 0
