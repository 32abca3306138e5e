"""Check a layer, whose output is an array and whose backward pass takes an upstream gradient.

With a fixed random u in the shape of the output y(x), the scalar function

    f(x) = Σ u y(x)    has the gradient    ∂f/∂x = backward(u)

which `gradcheck` compares. A wrong backward pass differs from the right one for almost every u, so
one random u is enough.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..params import Array
from .check import gradcheck
from .line import DROWNS, copied, largest
from .nested import leaves, paired, rebuild
from .report import Report

FACTOR = 1e3  # for a second upstream gradient


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

    Returns
    -------
    Report
        As of `gradcheck`, with the names of forward's parameters.

    Raises
    ------
    ValueError
        As `gradcheck`; or if ``backward(1000 u)`` is not 1000 times ``backward(u)``.

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

    def at_the_point() -> tuple[Any, tuple[Any, ...]]:
        return output_and_cache(rebuild(named, {n: copied(a) for n, a in leaves(named)}))

    def gradient_for(upstream: Mapping[str, Array]) -> Any:
        output, cache = at_the_point()
        arguments = rebuild(output, {n: u.copy() for n, u in upstream.items()}), *cache
        _check_takes(backward, len(arguments))
        gradient = _by_name(backward(*arguments), named)
        # A copy: the next call may use the same memory.
        return rebuild(gradient, {n: copied(g) for n, g in leaves(gradient)})

    output, _ = at_the_point()
    upstream = {name: _drawn(y, rng) for name, y in leaves(output)}
    nearby = {n: _moved(a, rng) for n, a in leaves(named)}
    _check_precision(output, output_and_cache(rebuild(named, nearby))[0])
    gradient = gradient_for(upstream)
    report = gradcheck(f, gradient, named, rng=rng, **settings)
    if report:
        again = gradient_for({name: FACTOR * u for name, u in upstream.items()})
        _check_linear(gradient, again, named)
    return report


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
    if gradient is None:
        raise ValueError("backward gave None, must give the gradients of the inputs")
    values = gradient if isinstance(gradient, list | tuple) else (gradient,)
    floats = [n for n, x in inputs.items() if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    for names in list(inputs), floats:
        if len(values) == len(names):
            return dict(zip(names, values, strict=True))
    must = f"must give one for each of {', '.join(inputs)}, None for data"
    raise ValueError(f"backward gave {len(values)} gradients, {must}")


def _check_linear(gradient: Any, again: Any, inputs: Any) -> None:
    """Refuse a backward that clips: FACTOR u must give FACTOR times the gradient.

    A layer that accumulates its gradients (+=) returns FACTOR + 1 times as much.
    """
    for (name, _, one), (_, _, two) in zip(
        paired(gradient, inputs), paired(again, inputs), strict=True
    ):
        if one is None or two is None:
            continue
        least = 1e-9 * FACTOR * max(1.0, largest(np.asarray(one)))
        if not any(np.allclose(two, n * one, 1e-6, least) for n in (FACTOR, FACTOR + 1)):
            what = f"backward({FACTOR:g} u) is not {FACTOR:g} backward(u) in {name}"
            raise ValueError(f"{what}, must be linear in its upstream gradient u: does it clip?")


def _moved(array: Any, rng: np.random.Generator) -> Any:
    """Return an array of floats a thousandth nearer to 0; anything else as it is."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float64:
        return array
    return array * (1 - 1e-3 * rng.random(array.shape))


def _check_precision(here: Any, there: Any) -> None:
    """Refuse a layer that computes in float32: its outputs change, and all are float32 numbers."""
    for (_, one), (_, two) in zip(leaves(here), leaves(there), strict=True):
        changed = np.asarray(two)[np.asarray(one) != two]
        if changed.size > 3 and np.all(changed.astype(np.float32) == changed):
            raise ValueError(
                f"forward has no more digits than float32, must have float64: {DROWNS}"
            )


def _drawn(y: Any, rng: np.random.Generator) -> Array:
    """Return an upstream gradient for an output: of either sign, and none near 0."""
    dtype = np.asarray(y).dtype
    if dtype != np.float64:
        what = type(y).__name__ if dtype.kind == "O" else dtype
        why = f": {DROWNS}" if dtype.kind == "f" else ""
        raise ValueError(f"forward gave {what}, must give arrays of float64{why}")
    return np.array(rng.choice([-1.0, 1.0], np.shape(y)) * rng.uniform(0.5, 1.5, np.shape(y)))
