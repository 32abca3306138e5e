"""Compare an analytic gradient with a numeric one, with a row for each named block.

For a scalar function f of arrays θ, an analytic gradient g and a direction v (usually the unit
vector of one entry), g·v is compared with central differences or the complex step (`differences`),
or judged by the order in h of its Taylor remainder (`taylor`).

Errors are relative to the largest entry of the block. A block of more than `max_entries` is checked
on a seeded sample, which includes its largest entry, and along random directions through all of it.
A derivative that is 0 within rounding, a corner, and what cannot be decided: see `verdict`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import check_choice, check_real, check_whole
from ..params import Array
from .differences import STEP, Derivative, check_analytic, difference
from .line import DROWNS, Block, Probe, largest
from .nested import MUST, leaves, paired, rebuild
from .report import TOLERANCE, Report
from .taylor import taylor_row
from .verdict import worst_row


def gradcheck(
    f: Callable[[Any], Any], gradient: Any, arrays: Any, *, method: str = "central",
    tolerance: float | None = None, step: float = STEP, max_entries: int = 256,
    directions: int = 8, rng: np.random.Generator | int | None = 0,
) -> Report:  # fmt: skip
    """Compare an analytic gradient with a numeric one, block by block.

    Parameters
    ----------
    f : callable
        Function of the arrays, in the form in which they are passed here: one real number, as a
        float or in an array. Data, settings and noise must be fixed.
    gradient : array, or list, tuple or mapping of arrays
        ∂f/∂(array), in the array's shape, in the form of `arrays`. One that is missing from a
        mapping, or None, is not checked.
    arrays : array, or list, tuple or mapping of arrays, float64
        The point. It is not written to. Lists, tuples and mappings may be nested.
    method : {"central", "complex", "taylor"}
        Where rounding hides a derivative, the first and the last also ask the complex step.
    tolerance : float, optional
        Largest error, relative to the largest entry of the block: 1e-6 for central differences
        (plus the rounding of f), 1e-12 for the complex step. Taylor is judged by its order.
    step : float
        h of the central difference, relative to max(1, |θ_i|).
    max_entries, directions : int
        In a larger block, the number of entries and of directions that are checked.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        Draws the sample and the directions; the same at each call by default.

    Returns
    -------
    Report
        True if the gradient is right; print it to see why not.

    Raises
    ------
    ValueError
        If an array is not float64, a form, name or shape does not match, a block is empty, or f is
        not finite, one float64 number, deterministic, pure and, for the complex step, analytic.

    Examples
    --------
    >>> x = np.array([1.0, 2.0])
    >>> assert gradcheck(lambda x: np.sum(x**3), 3 * x**2, x)
    >>> gradcheck(lambda x: np.sum(x**3), 2 * x**2, x)
    <gradcheck wrong: array wrong>
    """
    check_choice("method", method, TOLERANCE)
    check_real("step", step, 0, 1, open_below=True)
    check_whole("max_entries", max_entries, 1, 1 << 40)
    check_whole("directions", directions, 0, 1 << 20)
    tolerance = TOLERANCE[method] if tolerance is None else tolerance
    check_real("tolerance", tolerance, 0, 1, open_below=False)
    checked, unchecked = _check_gradient(gradient, arrays)
    point = dict(leaves(arrays))
    probe = Probe(
        lambda named: f(rebuild(arrays, named)),
        point | {name: np.asarray(point[name], np.float64) for name in checked},
    )
    whole = max(map(largest, checked.values()))
    blocks = [Block(probe, name, g, whole) for name, g in checked.items()]
    rng = np.random.default_rng(rng)
    rows = []
    with np.errstate(all="ignore"):  # near the point f may be infinite or undefined
        for block in blocks:
            block.check_precision()
        for block in blocks:
            if method == "taylor":
                rows.append(taylor_row(block, max_entries, directions, rng))
            else:
                lines = block.choose(max_entries, directions, rng)
                if method == "central":
                    found = [difference(v, step * v.scale) for v in lines]
                else:
                    check_analytic(block, rng)
                    lines.append(block.along(np.ones(block.point.shape), ...))
                    found = [Derivative(v, v.complex_derivative()) for v in lines]
                rows.append(worst_row(block, found, method, tolerance))
            probe.ask_again()
    return Report(tuple(rows), unchecked)


def _check_gradient(gradient: Any, arrays: Any) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the blocks of the gradient in float64, and the arrays without; or refuse them."""
    blocks, unchecked = {}, []
    names = [name for name, _ in leaves(arrays)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two arrays are named {name}, must have names of their own")
    for name, point, values in paired(gradient, arrays):
        g, array = f"the gradient {name}", np.asarray(point)
        if values is None:
            unchecked += [name] if isinstance(point, np.ndarray) and array.dtype.kind == "f" else []
            continue
        if callable(values):
            raise ValueError(f"{g} is a function, must be its values: call it at the arrays")
        block = np.asarray(values)
        for what, dtype in (g, block.dtype), (name, array.dtype):
            if dtype.kind == "f" and dtype.itemsize < 8:
                raise ValueError(f"{what} has dtype {dtype}, must be float64: {DROWNS}")
        if array.dtype == object:
            raise ValueError(f"{name} is {type(point).__name__}, {MUST}")
        if block.dtype.kind not in "fiub":
            raise ValueError(f"{g} has dtype {block.dtype}, must be float64")
        if array.dtype.kind != "f" or array.dtype.itemsize != 8:
            raise ValueError(f"{name} has dtype {array.dtype}, must be float64 to be moved")
        if block.shape != array.shape:
            must = f"must be that of its array, {array.shape}"
            raise ValueError(f"{g} has shape {block.shape}, {must}")
        if block.size == 0:
            raise ValueError(f"{g} has no entries, must have at least one")
        blocks[name] = block.astype(np.float64)
    if not blocks:
        raise ValueError("the gradient is empty, must have at least one block")
    return blocks, tuple(unchecked)
