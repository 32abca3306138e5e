"""``numpy-vae encode``: encode images with the model of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..files import save_arrays
from ..params import Array
from ..runs.directory import open_run
from ..runs.owned import OwnFiles
from ..runs.progress import say
from ..seeds import spawn_streams
from ..training.evaluate import encode_images
from .arguments import Subparsers, add_command, add_new_data, add_out, add_run, add_seed
from .inputs import (
    arithmetic_of,
    check_not_read,
    free_path,
    load_new,
    refusals,
    say_if_gone_on,
)

ENCODE = """\
Write the mean and log-variance of q(z|x) for each image x of a file, in order: arrays mu and
logvar, (N, Z), and labels if there are any. Data with a training and a test set give train_mu,
test_mu and so on; the run's own data are in their order after the split.

  numpy-vae encode runs/faces-1 --data more.npy --out latents.npz
  numpy-vae encode runs/mnist-1                      the images of the run itself

The images are binarised as in training. The pixels of --binarize dynamic, and of a new file with
static, are drawn from the seed.
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae encode``."""
    command = add_command(
        commands, "encode", run, "write the latent means and log-variances of images", ENCODE
    )
    add_run(command)
    add_new_data(
        command, "images to encode (default: the data of the run, without its validation set)"
    )
    add_out(command, "FILE.npz", "latents.npz")
    add_seed(command, "seed of the pixels drawn at random")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae encode``; return its exit status."""
    with refusals():
        own = OwnFiles(Path(args.run), overwrite=args.overwrite)
        out = free_path(own, args.out, "latents.npz", [".npz"])
        state = open_run(own.folder)
        vae = state.kept
        check_not_read(out, args.data or state.settings["data"] or "")
        new = load_new(args, state)
    if new.summary:
        say(new.summary)
    pixels = spawn_streams(args.seed).held_out()[1] if new.draw else None
    arrays: dict[str, Array] = {}
    for part, x in new.parts.items():
        with arithmetic_of(args.run):
            mu, logvar = encode_images(vae, x, pixels=pixels)
        labels = new.labels.get(part)
        found = {"mu": mu, "logvar": logvar} | ({} if labels is None else {"labels": labels})
        arrays |= {f"{part}_{name}" if part else name: a for name, a in found.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with own.write(out, state.model_id) as stream:
        save_arrays(stream, arrays)
    say_if_gone_on(state, own, out)
    say(f"written: {out} ({', '.join(f'{name} {a.shape}' for name, a in arrays.items())})")
    return 0
