"""``numpy-vae gradcheck``: check the gradient of the model, or see how to check your own."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from ..blocks import MAX_WIDTH
from ..gradcheck.model import EXAMPLES, METHODS, Check, check_model
from ..runs.progress import say_result
from .arguments import Subparsers, add_command, add_model_arguments, add_seed, add_setting, whole
from .inputs import make_model, refusals

SMALL_MODEL = 5_000  # parameters; up to so many, every one is checked

GRADCHECK = """\
Compare the hand-written gradient of the model with numerical gradients, block by block, for the
objective and for each of its terms. The points are the initial weights, the weights after some
training, and two saturated points (logits of 10000 with log-variances up to 80, and down to -80),
where only the complex step works.

  numpy-vae gradcheck                                            every entry, in seconds
  numpy-vae gradcheck --data-dim 784 --hidden 400 --latent 20    sampled entries and random
                                                                 directions, in under 30 s

One run checks one activation, one likelihood and one bound. With --beta 1 a missing beta goes
unnoticed. With --bound iwae each example has three samples, and the second term is the log ratio.
On a busy machine OPENBLAS_NUM_THREADS=1 makes it many times faster.

Exit status 1 means that a gradient is wrong, or could not be checked.
"""

FOREIGN = """\
From Python you can check a gradient of your own, of any scalar function of named arrays:

  import numpy as np
  from numpy_vae import gradcheck

  x = np.array([1.0, 2.0])
  for method in "central", "complex", "taylor":
      report = gradcheck(lambda a: np.sum(a["x"] ** 3), {"x": 3 * x**2}, {"x": x}, method=method)
      print(report)
      assert report.ok
"""

HIDDEN, LATENT, BETA = (16, 12), 3, 0.7

LEGEND = """\
centr, compl: error of central differences and of the complex step, relative to
the largest entry of the block; tayl: order of the Taylor remainder (2 if the
gradient is right, 1 if it is wrong, inf if the function is linear)"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae gradcheck``."""
    summary = "check the gradient of the model, or see how to check your own"
    command = add_command(commands, "gradcheck", run, summary, GRADCHECK, FOREIGN)
    model = add_model_arguments(command, HIDDEN, LATENT)
    add_setting(model, "beta", f"{BETA:g}")
    add_setting(model, "bound")
    model.add_argument(
        "--data-dim", type=whole(1, MAX_WIDTH), default=30, metavar="D",
        help="pixels of an image (default: 30)",
    )  # fmt: skip
    command.add_argument(
        "--entries", type=whole(1, 1 << 28), metavar="N",
        help="of a block with more than N entries, check N one by one and all along random "
        f"directions (default: every entry of up to {SMALL_MODEL} parameters, else 20)",
    )  # fmt: skip
    add_seed(command, "seed of the weights, the images and the noise")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae gradcheck``; return its exit status."""
    with refusals():
        vae = make_model(args, args.data_dim, HIDDEN, LATENT, args.seed)
    beta = BETA if args.beta is None else args.beta
    bound = args.bound or "elbo"
    entries = args.entries or (vae.params.flat.size if vae.params.flat.size <= SMALL_MODEL else 20)
    say_result(f"{vae}, {bound}, beta {beta:g}, seed {args.seed}; {EXAMPLES} examples")
    say_result(LEGEND)
    start = time.perf_counter()
    checks: list[Check] = []
    found = check_model(vae, beta, bound=bound, max_entries=entries, rng=args.seed)
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


def point_table(checks: Sequence[Check]) -> str:
    """Return the checks of one point as a table of 80 columns, one row per block.

    Each term has the errors of central differences and of the complex step, and the order of the
    Taylor remainder. Failures are listed below the table, with both values.
    """
    point, methods = checks[0].point, METHODS[checks[0].point]
    columns = {"central": 5, "complex": 5, "taylor": 4}  # their widths
    group = max(16, sum(columns[method] + 1 for method in methods))
    terms = [f"{term:{group + 1}}" for term in dict.fromkeys(check.term for check in checks)]
    heads = "".join(f" {method[: columns[method]]:>{columns[method]}}" for method in methods)
    heads = f" {heads:{group}}" * len(terms)
    lines = [f"{point:20}{''.join(terms).rstrip()}", f"{'block':11} {'shape':>7}{heads.rstrip()}"]
    for rows in zip(*(check.report for check in checks), strict=True):  # of one block
        name, shape = rows[0].name, "x".join(map(str, rows[0].shape))
        line = f"{name} {shape:>{18 - len(name)}}"
        for i in range(0, len(rows), len(methods)):  # term by term
            of_term = rows[i : i + len(methods)]
            values = [f"{r.error:.0e}" if r.order is None else f"{r.order:.2f}" for r in of_term]
            cells = zip(values, methods, strict=True)
            text = "".join(f" {value:>{columns[method]}}" for value, method in cells)
            line += f" {text:{group}}"
        lines.append(f"{line} {'ok' if all(row.ok for row in rows) else 'FAIL'}")
    for check in checks:
        where = f"{point}, {check.term}, {check.method}"
        lines += [f"{where}: {row.name}: {row.kinks_named}" for row in check.report if row.kinks]
        failed = tuple(row for row in check.report if not row.ok)
        if failed:
            lines += [f"{where}:", *str(replace(check.report, rows=failed)).splitlines()]
    return "\n".join(lines)


def summary(checks: Sequence[Check]) -> str:
    """Return the worst result of each method, in one line."""
    rows = [row for check in checks for row in check.report]
    worst = {m: max(row.error for row in rows if row.method == m) for m in ("central", "complex")}
    order = min(row.order for row in rows if row.order is not None)
    return (
        f"worst error: central {worst['central']:.1e}, complex step {worst['complex']:.1e}; "
        f"least order {order:.2f}"
    )
