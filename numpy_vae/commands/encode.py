"""``numpy-vae encode``: encode images with the model of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data.arrays import Reading, read_images
from ..data.binarize import binarize
from ..data.dataset import Dataset
from ..data.load import NAMED, load_data
from ..data.mapped import Images
from ..files import save_arrays
from ..likelihood import check_values
from ..params import Array
from ..runs.directory import open_run
from ..runs.images import find_data
from ..runs.owned import OwnFiles
from ..runs.progress import say
from ..seeds import spawn_streams
from ..training.evaluate import encode_images
from .arguments import Subparsers, add_command, add_data_dir, add_out, add_run, add_seed, path
from .inputs import (
    arithmetic_of,
    check_not_read,
    free_path,
    load_moved_data,
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
    command.add_argument(
        "--data", type=path, metavar="digits|mnist|FILE",
        help="images to encode, as for train (default: the data of the run, without its validation "
        "set)",
    )  # fmt: skip
    add_data_dir(command)
    add_out(command, "FILE.npz", "latents.npz")
    add_seed(command, "seed of the pixels drawn at random")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae encode``; return its exit status."""
    with refusals():
        own = OwnFiles(Path(args.run), overwrite=args.overwrite)
        out = free_path(own, args.out, "latents.npz", [".npz"])
        state = open_run(own.folder)
        vae, mode = state.kept, state.settings["binarize"]
        check_not_read(out, args.data or state.settings["data"] or "")
        if args.data is None:
            parts = parts_of(find_data(state, load_moved_data(args, state)))
        elif args.data in NAMED:
            parts = parts_of(binarize(load_data(args.data, args.data_dir), mode))
        elif args.data_dir is not None:
            raise ValueError(f"--data-dir applies to --data mnist, not to --data {args.data}")
        else:
            # The static draw is of the run's own images; others are drawn like dynamic ones.
            mode = "dynamic" if mode == "static" else mode
            held = read_images(args.data, Reading(scale=Reading.of(state.settings).scale))
            parts = {
                part: (binarize(Dataset(args.data, x, x), mode).test, held.labels.get(part))
                for part, x in held.parts.items()
            }
        for x, _ in parts.values():
            if x.shape[1] != vae.data_dim:
                raise ValueError(f"the images have {x.shape[1]} pixels, must have {vae.data_dim}")
            check_values(vae.likelihood, x, f"--data {args.data or state.settings['data']}")
    pixels = spawn_streams(args.seed).held_out()[1] if mode == "dynamic" else None
    arrays: dict[str, Array] = {}
    for part, (x, labels) in parts.items():
        with arithmetic_of(args.run):
            mu, logvar = encode_images(vae, x, pixels=pixels)
        found = {"mu": mu, "logvar": logvar} | ({} if labels is None else {"labels": labels})
        arrays |= {f"{part}_{name}" if part else name: a for name, a in found.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with own.write(out, state.model_id) as stream:
        save_arrays(stream, arrays)
    say_if_gone_on(state, own, out)
    say(f"written: {out} ({', '.join(f'{name} {a.shape}' for name, a in arrays.items())})")
    return 0


def parts_of(data: Dataset) -> dict[str, tuple[Images, Array | None]]:
    """Return the images and labels of a data set, by part."""
    return {"train": (data.train, data.train_labels), "test": (data.test, data.test_labels)}
