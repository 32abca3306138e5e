"""Arrays as people keep them: one, or lists, tuples and mappings of them; and back again.

Inside, each array has one name, its path: ``encoder.0.W``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from copy import copy
from typing import Any

import numpy as np

from ..params import Array

BARE = "array"  # the name of one that is alone
MUST = "must be an array, or a list, tuple or mapping of arrays"


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each array of a tree with its name."""
    parts = parts_of(tree)
    if parts is None:
        yield name or BARE, tree
        return
    for key, part in parts.items():
        yield from leaves(part, below(name, key))


def rebuild(tree: Any, arrays: Mapping[str, Array], name: str = "") -> Any:
    """Return a tree of the same form with these arrays; a read-only mapping becomes a dict."""
    parts = parts_of(tree)
    if parts is None:
        return arrays[name or BARE]
    new = {key: rebuild(part, arrays, below(name, key)) for key, part in parts.items()}
    if isinstance(tree, MutableMapping):
        filled = copy(tree)
        filled.update(new)
        return filled
    if isinstance(tree, Mapping):
        return new
    make = getattr(tree, "_make", list if isinstance(tree, list) else tuple)  # a namedtuple's
    return make(new.values())


def paired(gradient: Any, tree: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, the array and its gradient, None where it is missing, or refuse the form."""
    title = f"the gradient {name}".rstrip()
    parts, given = parts_of(tree), parts_of(gradient)
    if gradient is None or (parts is None and given is None):
        for path, array in leaves(tree, name):
            yield path, array, gradient
        return
    if parts is None and not isinstance(tree, np.ndarray | np.generic | float):
        raise ValueError(f"{name or BARE} is {kind(tree)}, {MUST}")
    if parts is None or given is None or isinstance(tree, Mapping) != isinstance(gradient, Mapping):
        raise ValueError(f"{title} is {kind(gradient)}, must be {kind(tree)}, as the arrays are")
    if isinstance(tree, Mapping):
        for key in given:
            if key not in parts:
                names = ", ".join(map(str, parts))
                path = below(name, key)
                raise ValueError(f"the gradient {path} has no array, must be one of {names}")
    elif len(given) != len(parts):
        must = f"must have {len(parts)}, as the arrays do: None for one that is not checked"
        raise ValueError(f"{title} has {len(given)} parts, {must}")
    for key, part in parts.items():
        yield from paired(given.get(key), part, below(name, key))


def parts_of(tree: Any) -> dict[Any, Any] | None:
    """Return the parts of a mapping, list or tuple by key; None for anything else."""
    if isinstance(tree, Mapping):
        return dict(tree)
    return dict(enumerate(tree)) if isinstance(tree, list | tuple) else None


def below(name: str, key: object) -> str:
    """Return the name of a part."""
    return f"{name}.{key}" if name else str(key)


def kind(tree: Any) -> str:
    """Name the form of a tree, for a refusal."""
    if isinstance(tree, Mapping):
        return "a mapping of names to arrays"
    if isinstance(tree, list | tuple):
        return "a list of arrays"
    return "an array" if isinstance(tree, np.ndarray | np.generic | float) else type(tree).__name__
