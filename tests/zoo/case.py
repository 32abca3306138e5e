"""A layer as the textbooks write it, with the errors that people make in its backward pass."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, ...]
Backward = Callable[[Any, Any], Arrays]


@dataclass(frozen=True)
class Case:
    """forward(*inputs) gives (output, cache); backward(upstream, cache) a gradient per input."""

    name: str
    forward: Callable[..., tuple[Any, Any]]
    backward: Backward
    inputs: Callable[[np.random.Generator], Arrays]  # a new point for each seed
    errors: Mapping[str, tuple[str, str]]  # kind to (a text of backward, what is written instead)
    methods: tuple[str, ...] = ("central", "complex", "taylor")  # those that apply

    def wrong(self, kind: str) -> Backward:
        """Return the backward pass with this error planted."""
        text = textwrap.dedent(inspect.getsource(self.backward))
        old, new = self.errors[kind]
        if text.count(old) != 1:
            raise ValueError(
                f"{old!r} occurs {text.count(old)} times in {self.name}, must occur once"
            )
        space = dict(self.backward.__globals__)
        exec(text.replace(old, new), space)
        return space[self.backward.__name__]
