"""Compare an analytic gradient with a numeric one, with a row for each named block.

For a scalar function f of named arrays θ, an analytic gradient g and a direction v (usually the
unit vector of one entry), g·v is compared with central differences or the complex step
(`differences`), or judged by the order in h of its Taylor remainder (`taylor`).

Errors are relative to the largest entry of the block. A block of more than `max_entries` is checked
on a seeded sample, which includes its largest entry, and along random directions through all of it.
A block that f does not read must have a gradient of exact zeros. The check fails if more than one
entry in a hundred is at a kink.
"""

from __future__ import annotations

import numpy as np

from ..checks import check_choice, check_real, check_whole
from ..params import Array
from .differences import STEP, central, check_analytic, complex_step, worst_row
from .line import DROWNS, Arrays, Block, Function, Probe
from .report import TOLERANCE, Report
from .taylor import taylor_row


def gradcheck(
    f: Function, gradient: Arrays, arrays: Arrays, *, method: str = "central",
    tolerance: float | None = None, step: float = STEP, max_entries: int = 256,
    directions: int = 8, rng: np.random.Generator | int | None = 0,
) -> Report:  # fmt: skip
    """Compare an analytic gradient with a numeric one, block by block.

    Parameters
    ----------
    f : callable
        Scalar function of a mapping of names to arrays. Data, settings and noise must be fixed.
    gradient : mapping of str to ndarray
        ∂f/∂(array), in the array's shape, for every array to check.
    arrays : mapping of str to ndarray of float64
        The point. It is not written to.
    method : {"central", "complex", "taylor"}
        At kinks, central differences also need an f that accepts complex128.
    tolerance : float, optional
        Largest error, relative to the largest entry of the block: 1e-6 for central differences
        (plus the rounding of f), 1e-12 for the complex step. Taylor is judged by its order.
    step : float
        h of the central difference, relative to max(1, |θ_i|).
    max_entries, directions : int
        In a larger block, the number of entries and of directions that are checked.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        Draws the sample and the directions; the same at each call by default.

    Raises
    ------
    ValueError
        If an array is not float64, a name or shape does not match, a block is empty, or f is not
        finite, a float64 scalar, deterministic, pure and, for the complex step, analytic.

    Examples
    --------
    >>> x = np.array([1.0, 2.0])
    >>> report = gradcheck(lambda a: np.sum(a["x"] ** 3), {"x": 3 * x**2}, {"x": x})
    >>> report.ok
    True
    """
    check_choice("method", method, TOLERANCE)
    check_real("step", step, 0, 1, open_below=True)
    check_whole("max_entries", max_entries, 1, 1 << 40)
    check_whole("directions", directions, 0, 1 << 20)
    tolerance = TOLERANCE[method] if tolerance is None else tolerance
    check_real("tolerance", tolerance, 0, 1, open_below=False)
    gradient = _check_gradient(gradient, arrays)
    probe = Probe(f, arrays)
    blocks = [Block(probe, name, g) for name, g in gradient.items()]
    rng = np.random.default_rng(rng)
    rows = []
    with np.errstate(all="ignore"):  # near the point f may be infinite or undefined
        for block in blocks:
            block.check_precision()
        for block in blocks:
            if method == "taylor":
                rows.append(taylor_row(block, rng))
            else:
                lines = block.choose(max_entries, directions, rng)
                if method == "central":
                    found = [central(v, step, tolerance) for v in lines]
                else:
                    check_analytic(block, rng)
                    found = [complex_step(v, tolerance) for v in lines]
                rows.append(worst_row(block, found, method, tolerance))
            probe.ask_again()
    return Report.of(rows)


def _check_gradient(gradient: Arrays, arrays: Arrays) -> dict[str, Array]:
    """Return the blocks of the gradient in float64, or refuse them."""
    if not gradient:
        raise ValueError("the gradient is empty, must have at least one block")
    blocks = {}
    for name, values in gradient.items():
        g = f"the gradient {name}"
        if name not in arrays:
            raise ValueError(f"{g} has no array, must be one of {', '.join(arrays)}")
        block, array = np.asarray(values), np.asarray(arrays[name])
        for what, dtype in (g, block.dtype), (name, array.dtype):
            if dtype.kind == "f" and dtype.itemsize < 8:
                raise ValueError(f"{what} has dtype {dtype}, must be float64: {DROWNS}")
        if block.dtype.kind not in "fiub":
            raise ValueError(f"{g} has dtype {block.dtype}, must be float64")
        if array.dtype != np.float64:
            raise ValueError(f"{name} has dtype {array.dtype}, must be float64 to be moved")
        if block.shape != array.shape:
            must = f"must be that of its array, {array.shape}"
            raise ValueError(f"{g} has shape {block.shape}, {must}")
        if block.size == 0:
            raise ValueError(f"{g} has no entries, must have at least one")
        blocks[name] = block.astype(np.float64)
    return blocks
