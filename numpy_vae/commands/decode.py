"""``numpy-vae decode``: the images of given points of the latent space."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..data.mapped import chunks
from ..files import read_arrays, save_arrays
from ..params import Array
from ..runs.directory import open_run
from ..runs.images import shape_of
from ..runs.owned import OwnFiles
from ..runs.progress import say
from .arguments import Subparsers, add_command, add_out, add_run, add_seed, path
from .inputs import arithmetic_of, check_not_read, free_path, refusals, say_if_gone_on

DECODE = """\
Decode given z, (N, Z): write the means of p(x|z), or with --draw draws from it, as images.

  numpy-vae decode runs/mnist-1 --data z.npy --out images.npz
  numpy-vae decode runs/mnist-1 --data latents.npz           the array z or mu, as encode writes it
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae decode``."""
    command = add_command(commands, "decode", run, "decode points of the latent space", DECODE)
    add_run(command)
    command.add_argument(
        "--data", type=path, required=True, metavar="FILE",
        help="a .npy of shape (N, Z), or a .npz with z or mu",
    )  # fmt: skip
    command.add_argument(
        "--draw", action="store_true", help="draw x from p(x|z) in place of its mean"
    )
    add_out(command, "FILE.npz", "decoded.npz")
    add_seed(command, "seed of --draw")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae decode``; return its exit status."""
    with refusals():
        own = OwnFiles(Path(args.run), overwrite=args.overwrite)
        out = free_path(own, args.out, "decoded.npz", [".npz"])
        check_not_read(out, args.data)
        state = open_run(own.folder)
        shape, vae = shape_of(state, None), state.kept
        z = read_latents(args.data, vae.latent_dim)
    rng = np.random.default_rng(args.seed)
    with arithmetic_of(args.run):
        parts = [vae.draw(z[i], rng) if args.draw else vae.decode(z[i]) for i in chunks(z)]
    images = np.concatenate(parts)
    out.parent.mkdir(parents=True, exist_ok=True)
    with own.write(out, state.model_id) as stream:
        save_arrays(stream, {"images": images.reshape(-1, *(shape or images.shape[1:])), "z": z})
    say_if_gone_on(state, own, out)
    say(f"written: {out} ({len(z)} images)")
    return 0


def read_latents(file: str, latent_dim: int) -> Array:
    """Return z, (N, Z), of a file; ValueError if it holds none."""
    arrays = read_arrays(file)
    names = [name for name in ("z", "mu", *arrays) if name in arrays]
    if not names or (len(arrays) > 1 and names[0] not in ("z", "mu")):
        raise ValueError(f"{file}: holds {', '.join(arrays) or 'nothing'}, must hold z or mu")
    z = arrays[names[0]]
    if z.ndim != 2 or z.shape[1] != latent_dim or len(z) == 0 or z.dtype.kind not in "fiu":
        raise ValueError(
            f"{file}: z is {z.dtype} {z.shape}, must be numbers (N, {latent_dim}), N at least 1"
        )
    if not np.isfinite(z).all():
        raise ValueError(f"{file}: some z are not finite, all must be")
    return z.astype(np.float64)
