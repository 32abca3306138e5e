"""Arrays as people keep them: one, or lists, tuples and mappings of them; and back again.

Inside, each array has one name, its path: ``encoder.0.W``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..params import Array

BARE = "array"  # the name of one that is alone


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each array of a tree with its name."""
    children = branches(tree)
    if children is None:
        yield name or BARE, tree
        return
    for key, child in children.items():
        yield from leaves(child, f"{name}.{key}" if name else str(key))


def rebuild(tree: Any, arrays: Mapping[str, Array], name: str = "") -> Any:
    """Return a tree of the same form with these arrays; a mapping becomes a dict."""
    children = branches(tree)
    if children is None:
        return arrays[name or BARE]
    new = {
        key: rebuild(child, arrays, f"{name}.{key}" if name else str(key))
        for key, child in children.items()
    }
    if isinstance(tree, Mapping):
        return new
    make = getattr(tree, "_make", list if isinstance(tree, list) else tuple)  # a namedtuple's
    return make(new.values())


def paired(gradient: Any, tree: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, the array and its gradient, None where it is missing, or refuse the form."""
    title = f"the gradient {name}".rstrip()
    children, given = branches(tree), branches(gradient)
    if children is None and given is None:
        yield name or BARE, tree, gradient
    elif gradient is None:
        for path, array in leaves(tree, name):
            yield path, array, None
    elif (
        children is None
        or given is None
        or isinstance(tree, Mapping) != isinstance(gradient, Mapping)
    ):
        raise ValueError(f"{title} is {kind(gradient)}, must be {kind(tree)}, as the arrays are")
    else:
        if isinstance(tree, Mapping):
            for key in given:
                if key not in children:
                    path = f"{name}.{key}" if name else str(key)
                    names = ", ".join(map(str, children))
                    raise ValueError(f"the gradient {path} has no array, must be one of {names}")
        elif len(given) != len(children):
            must = f"must have {len(children)}, as the arrays do: None for one that is not checked"
            raise ValueError(f"{title} has {len(given)} parts, {must}")
        for key, child in children.items():
            yield from paired(given.get(key), child, f"{name}.{key}" if name else str(key))


def branches(tree: Any) -> dict[Any, Any] | None:
    """Return the parts of a mapping, list or tuple by key; None for anything else."""
    if isinstance(tree, Mapping):
        return dict(tree)
    return dict(enumerate(tree)) if isinstance(tree, list | tuple) else None


def kind(tree: Any) -> str:
    """Name the form of a tree, for a refusal."""
    if isinstance(tree, Mapping):
        return "a mapping of names to arrays"
    if isinstance(tree, list | tuple):
        return "a list of arrays"
    return "an array" if isinstance(tree, np.ndarray | np.generic) else type(tree).__name__
