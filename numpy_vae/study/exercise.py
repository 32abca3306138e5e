"""Check the backward lines of somebody else, one by one: ``numpy-vae study backward --mine FILE``.

FILE is a copy of examples/backward_blank.py with its lines written: a function `passes` that takes
the images, the noise and the parameters, and returns its local variables. It is called at a random
point where B, D, H and Z all differ, so that a forgotten transpose does not fit, and each line is
compared with that of the package.
"""

from __future__ import annotations

import runpy
import traceback
from typing import Any, NamedTuple

import numpy as np

from ..vae import VAE
from .backward import backward_of_the_package
from .report import Column, Table

SIZES = {"B": 3, "D": 5, "H": 4, "Z": 2}
BLOCKS = {
    "enc": "encoder.0", "mu": "mu", "logvar": "logvar", "dec": "decoder.0", "out": "output",
}  # fmt: skip
LINES = {  # a line of the exercise: what `backward_of_the_package` calls it
    "dl": "dlogits", "dW_out": "output.W", "db_out": "output.b",
    "dh_dec": "dh_dec", "da_dec": "da_dec", "dW_dec": "decoder.0.W", "db_dec": "decoder.0.b",
    "dz": "dz", "dmu": "dmu", "dlogvar": "dlogvar", "dW_mu": "mu.W", "db_mu": "mu.b",
    "dW_logvar": "logvar.W", "db_logvar": "logvar.b", "dh": "dh", "da": "da",
    "dW_enc": "encoder.0.W", "db_enc": "encoder.0.b",
}  # fmt: skip
EXACT = 1e-12  # of the largest entry: rounding, whatever the order of the sums


class Line(NamedTuple):
    """What is said of a line."""

    name: str
    shape: str
    difference: str  # the largest, where the shape is right
    verdict: str


def check(path: str) -> tuple[list[Line], str]:
    """Run the function `passes` of a file; return its lines, and the error it ended with, if any.

    ValueError if the file cannot be run, or has no such function.
    """
    try:
        passes = runpy.run_path(path).get("passes")
    except (Exception, SystemExit) as error:
        raise ValueError(f"--mine {path}: {where(error, path)}") from None
    if not callable(passes):
        raise ValueError(f"--mine {path} has no function passes: copy examples/backward_blank.py")
    rng = np.random.default_rng(0)
    B, D, H, Z = SIZES.values()
    vae = VAE(D, (H,), Z, dtype=np.float64, rng=rng)
    vae.params.flat[:] = rng.standard_normal(vae.params.flat.size)
    x, eps = rng.integers(2, size=(B, D)).astype(float), rng.standard_normal((B, Z))
    right = backward_of_the_package(vae, vae.forward(x, eps))
    given = {f"{kind}_{name}": vae.params[f"{block}.{kind}"].copy()
             for name, block in BLOCKS.items() for kind in "Wb"}  # fmt: skip
    ended = ""
    try:
        mine = passes(x=x.copy(), eps=eps, **given)
    except (Exception, SystemExit) as error:
        ended = where(error, path)
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        mine = next((f.f_locals for f in frames if f.f_code.co_name == "passes"), {})
    mine = mine if isinstance(mine, dict) else {}
    return [judge(name, mine.get(name), right[line]) for name, line in LINES.items()], ended


def where(error: BaseException, path: str) -> str:
    """Return an error in one line, with the line of the file that it arose in."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    line = f"line {frames[-1].lineno}: " if frames else ""
    return f"{line}{type(error).__name__}: {' '.join(str(error).split())}"


def judge(name: str, value: Any, right: np.ndarray) -> Line:
    """Compare a line with the right one."""
    if value is None or value is ...:
        return Line(name, "", "", "not written" if value is ... else "not reached")
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return Line(name, "", "", f"is {type(value).__name__}, must be an array")
    shape = str(array.shape)
    if array.shape != right.shape:
        return Line(name, shape, "", f"wrong shape, must be {right.shape}")
    difference = float(np.abs(array - right).max())
    exact = difference <= EXACT * np.abs(right).max()
    return Line(name, shape, f"{difference:.1e}", "right" if exact else "wrong")


def answer(path: str, width: int = 100) -> tuple[str, bool]:
    """Return what to print of a file, and whether all its lines are right."""
    lines, ended = check(path)
    title = ", ".join(f"{name} = {size}" for name, size in SIZES.items())
    heads = map(Column, ("line", "shape", "largest difference", "verdict"))
    text = Table(f"Your lines at a random point, {title}", tuple(heads), lambda rows: rows)
    wrong = [line.name for line in lines if line.verdict != "right"]
    said = [text.text(lines, width), ""]
    if ended:
        said.append(f"passes ended in {ended}")
    if wrong:
        said.append(f"The first line that is not right is {wrong[0]}: begin there.")
    said.append(f"{len(lines) - len(wrong)} of {len(lines)} lines are right")
    return "\n".join(said), not wrong
