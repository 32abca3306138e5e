"""Check a layer, whose output is an array and whose backward pass takes an upstream gradient.

With a fixed random u in the shape of the output y(x), the scalar function

    f(x) = Σ u y(x)    has the gradient    ∂f/∂x = backward(u)

which `gradcheck` compares. An error that leaves Σ u y as it is for one random u is as unlikely as a
random number that is 0.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..params import Array
from .check import gradcheck
from .line import DROWNS, copied
from .nested import leaves, rebuild
from .report import Report


def gradcheck_layer(
    forward: Callable[..., Any], backward: Callable[..., Any], inputs: Any,
    *, rng: np.random.Generator | int | None = 0, **settings: Any,
) -> Report:  # fmt: skip
    """Check the backward pass of a layer.

    Parameters
    ----------
    forward : callable
        Called with the inputs: ``forward(*inputs)``, ``forward(**inputs)`` if they are a mapping,
        ``forward(x)`` if they are one array. Returns the output, or the pair (output, cache).
        Several outputs are a list or a mapping.
    backward : callable
        ``backward(upstream, cache)``, or ``backward(upstream)`` for a layer that keeps its cache to
        itself. The upstream gradient has the form of the output. Returns the gradients in the form
        of the inputs, None for an input that has none.
    inputs : array, or tuple, list or mapping of arrays
        The point: float64, and labels or indices of any dtype.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        Draws the upstream gradient, the sample and the directions.
    **settings
        ``method``, ``tolerance`` and others of `gradcheck`.

    Raises
    ------
    ValueError
        As `gradcheck`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, W, b = (rng.standard_normal(shape) for shape in ((5, 3), (3, 2), 2))
    >>> def forward(x, W, b):
    ...     return x @ W + b, (x, W)
    >>> def backward(dy, cache):
    ...     x, W = cache
    ...     return dy @ W.T, x.T @ dy, dy.sum(axis=0)
    >>> assert gradcheck_layer(forward, backward, (x, W, b))
    """
    rng = np.random.default_rng(rng)
    named = _named(forward, inputs)

    def output_and_cache(arrays: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        by_name = isinstance(inputs, Mapping)
        given = forward(**arrays) if by_name else forward(*arrays.values())
        if not isinstance(given, tuple):
            return given, ()
        if len(given) != 2:
            must = "must give the output or (output, cache), and several outputs as a list"
            raise ValueError(f"forward gave a tuple of {len(given)}, {must}")
        return given[0], given[1:]

    def f(arrays: Mapping[str, Any]) -> Any:
        return sum((upstream[name] * y).sum() for name, y in leaves(output_and_cache(arrays)[0]))

    output, cache = output_and_cache(rebuild(named, {n: copied(a) for n, a in leaves(named)}))
    upstream = {name: _drawn(y, rng) for name, y in leaves(output)}
    arguments = rebuild(output, {n: u.copy() for n, u in upstream.items()}), *cache
    _check_takes(backward, len(arguments))
    gradient = _by_name(backward(*arguments), named)
    return gradcheck(f, gradient, named, rng=rng, **settings)


def _named(forward: Callable[..., Any], inputs: Any) -> dict[str, Any]:
    """Return the inputs by name: that of forward's parameter, if they are positional."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    values = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):  # a function that is not written in Python
        parameters = []
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(names) < len(values):
        names = [str(i) for i in range(len(values))]
    return dict(zip(names, values, strict=False))


def _check_takes(backward: Callable[..., Any], arguments: int) -> None:
    """Refuse a backward that does not take the upstream gradient, and the cache if there is one."""
    try:
        inspect.signature(backward).bind(*range(arguments))
    except TypeError:
        what = ("the output", "the pair (output, cache); several outputs must be a list")
        must = ("upstream gradient", "upstream gradient and the cache")
        k = arguments - 1
        raise ValueError(f"backward must take the {must[k]}: forward gave {what[k]}") from None
    except ValueError:  # a function that is not written in Python
        pass


def _by_name(gradient: Any, inputs: Mapping[str, Any]) -> Any:
    """Return the gradients by the names of the inputs: of all of them, or of the float arrays."""
    if isinstance(gradient, Mapping):
        return gradient
    values = gradient if isinstance(gradient, list | tuple) else (gradient,)
    floats = [n for n, x in inputs.items() if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    for names in list(inputs), floats:
        if len(values) == len(names):
            return dict(zip(names, values, strict=True))
    must = f"must give one for each of {', '.join(inputs)}, or None"
    raise ValueError(f"backward gave {len(values)} gradients, {must}")


def _drawn(y: Any, rng: np.random.Generator) -> Array:
    """Return an upstream gradient for an output: of either sign, and none near 0."""
    dtype = np.asarray(y).dtype
    if dtype != np.float64:
        what = type(y).__name__ if dtype.kind == "O" else dtype
        why = f": {DROWNS}" if dtype.kind == "f" else ""
        raise ValueError(f"forward gave {what}, must give arrays of float64{why}")
    return np.array(rng.choice([-1.0, 1.0], np.shape(y)) * rng.uniform(0.5, 1.5, np.shape(y)))
