"""``numpy-vae gradcheck``: prove the gradient of the model, or see how to prove yours."""

from __future__ import annotations

import argparse
import time
from itertools import groupby

from ..blocks import MAX_WIDTH
from ..gradcheck.model import EXAMPLES, Check, check_model, point_table, summary
from ..runs.progress import say_result
from ..vae import VAE
from .arguments import Subparsers, add_command, add_model_arguments, add_seed, whole
from .inputs import described, likelihood_of, refusals

SMALL_MODEL = 5_000  # parameters, of which the check looks at every one

GRADCHECK = """\
Compare the hand-written gradient of the model with numeric ones, block by block: at its initial
point, after some steps of training, and where it is saturated (logits of 10000 with log-variances
up to 80, and down to -80, where no difference can be taken), for each term of the objective alone
and together.

  numpy-vae gradcheck                                            every entry, in seconds
  numpy-vae gradcheck --data-dim 784 --hidden 400 --latent 20    a sample of the entries of each
                                                                 block, and random directions:
                                                                 less than half a minute

One run checks one activation, one likelihood and one bound; with --beta 1 a forgotten beta is not
seen. With --bound iwae each example has three samples, and the log ratio is the second term. On a
busy machine OPENBLAS_NUM_THREADS=1 makes it many times faster.

Exit status 1 means that some gradient is wrong, or could not be checked.
"""

FOREIGN = """\
A function of your own is checked from Python: any scalar function of named arrays.

  import numpy as np
  from numpy_vae import gradcheck

  x = np.array([1.0, 2.0])
  for method in "central", "complex", "taylor":
      report = gradcheck(lambda a: np.sum(a["x"] ** 3), {"x": 3 * x**2}, {"x": x}, method=method)
      print(report)
      assert report.ok
"""

LEGEND = """\
centr, compl: error of central differences and of the complex step, relative to
the largest entry of the block; tayl: order of the Taylor remainder (2 where the
gradient is right, 1 where it is wrong, inf where the function is linear)"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae gradcheck``."""
    command = add_command(
        commands,
        "gradcheck",
        run,
        "prove the gradient of the model, or see how to prove yours",
        GRADCHECK,
        FOREIGN,
    )
    model = add_model_arguments(command, "16,12", 3, 0.7)
    model.add_argument(
        "--data-dim",
        type=whole(1, MAX_WIDTH),
        default=30,
        metavar="D",
        help="pixels of an image (default: 30)",
    )
    command.add_argument(
        "--entries",
        type=whole(1, 1 << 28),
        metavar="N",
        help="look at N entries of each larger block one by one, and along random directions "
        f"through all of it (default: all of a model of up to {SMALL_MODEL} parameters, else 20)",
    )
    add_seed(command, "seed of the weights, the images and the noise")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae gradcheck``; return its exit status."""
    with refusals():
        vae = VAE(
            args.data_dim,
            args.hidden,
            args.latent,
            args.activation,
            likelihood_of(args.likelihood, args.variance),
            rng=args.seed,
        )
    entries = args.entries or (vae.params.flat.size if vae.params.flat.size <= SMALL_MODEL else 20)
    say_result(
        f"{described(vae)}, {args.bound}, beta {args.beta:g}, seed {args.seed}; {EXAMPLES} examples"
    )
    say_result(LEGEND)
    start = time.perf_counter()
    checks: list[Check] = []
    found = check_model(vae, args.beta, bound=args.bound, max_entries=entries, rng=args.seed)
    for _, group in groupby(found, lambda check: check.point):
        of_point = list(group)
        checks += of_point
        say_result("\n" + point_table(of_point))
    failed = sum(not check.report.ok for check in checks)
    say_result(f"\n{summary(checks)}; {time.perf_counter() - start:.1f} s")
    if failed:
        say_result(f"FAIL: {failed} of {len(checks)} checks")
        return 1
    say_result(f"ok: all {len(checks)} checks")
    return 0
