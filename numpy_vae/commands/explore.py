"""``numpy-vae explore``: an HTML page to explore the latent space of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from .. import posterior
from ..blocks import MAX_WIDTH
from ..data.dataset import value_range
from ..data.mapped import Images, subset
from ..figures.explorer import MAX_POINTS, explorer_page
from ..runs.directory import open_run
from ..runs.images import find_data, name_of, shape_of
from ..runs.owned import OwnFiles
from ..runs.progress import say
from ..training.evaluate import encode_images
from .arguments import (
    Subparsers,
    add_command,
    add_image_shape,
    add_moved_data,
    add_out,
    add_run,
    whole,
)
from .inputs import arithmetic_of, free_path, load_moved_data, refusals, say_if_gone_on

EXPLORE = """\
Write one HTML file that contains the decoder of a run and works offline. It decodes the point under
the pointer in the plane of two latent dimensions. The other dimensions have sliders, and training
images are shown as points, coloured by label.

  numpy-vae explore runs/digits-1                      RUN/explorer.html
  numpy-vae explore runs/mnist-1 --dims 3,7            the plane of z_3 and z_7
"""


def dimensions(text: str) -> tuple[int, int]:
    """Read two different latent dimensions, counted from 1; return them counted from 0."""
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
    command = add_command(
        commands, "explore", run, "write an HTML page to explore the latent space of a run", EXPLORE
    )
    add_run(command)
    command.add_argument(
        "--dims", type=dimensions, metavar="I,J",
        help="dimensions of the plane, from 1; the page can change them (default: the two of the "
        "highest KL, or 1,2 with --no-points)",
    )  # fmt: skip
    add_out(command, "FILE.html", "explorer.html")
    command.add_argument(
        "--no-points", action="store_true",
        help="leave out the training images; the data are then not needed",
    )  # fmt: skip
    add_image_shape(command)
    add_moved_data(command)


def run(args: argparse.Namespace) -> int:
    """``numpy-vae explore``; return its exit status."""
    with refusals():
        own = OwnFiles(Path(args.run), overwrite=args.overwrite)
        out = free_path(own, args.out, "explorer.html", [".html"])
        state = open_run(own.folder)
        vae, settings = state.kept, state.settings
        if args.dims is not None and max(args.dims) >= vae.latent_dim:
            asked = ",".join(str(j + 1) for j in args.dims)
            raise ValueError(f"--dims is {asked}, must be from 1 to {vae.latent_dim}")
        shape = shape_of(state, args.image_shape)
        mu = kl = labels = None
        shown: Images
        if args.no_points:
            name, shown = name_of(settings), vae.sample(200, rng=0)
        else:
            data = find_data(state, load_moved_data(args, state))
            n = len(data.train)
            # Evenly spaced, since a file may be sorted by label.
            rows = np.linspace(0, n - 1, min(n, MAX_POINTS)).astype(int)
            name, shown = data.name, subset(data.train, rows)
            labels = None if data.train_labels is None else data.train_labels[rows]
            if labels is not None and data.label_names:
                labels = np.array(data.label_names)[labels]
            pixels = state.streams.held_out()[1] if settings["binarize"] == "dynamic" else None
            with arithmetic_of(args.run):
                mu, logvar = encode_images(vae, shown, pixels=pixels)
                kls = posterior.kl_per_dimension(mu, logvar, posterior.standard_deviation(logvar))
            kl = kls.mean(axis=0)
        page = explorer_page(
            vae, shape, name=name, mu=mu, kl=kl, labels=labels, value_range=value_range(shown),
            dimensions=args.dims, rows=np.asarray(shown), columns=settings.get("columns", ()),
        ).encode()  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    with own.write(out, state.model_id) as stream:
        stream.write(page)
    say_if_gone_on(state, own, out)
    say(f"written: {out} ({len(page) / 1e6:.1f} MB)")
    return 0
