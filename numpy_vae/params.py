"""All parameters of a model in one vector, with names for its parts.

θ is one contiguous vector `flat` of P numbers. A *block* such as ``"mu.W"`` is a view into it with
a shape of its own. An operation on all parameters is one line on the vector: an Adam step, a
checkpoint, a finite difference in coordinate i, the norm of a gradient. The layers read their
weights by name. A gradient, and each of Adam's moments, is another vector of the same layout.

If the views lost the vector, a model would train one copy and evaluate the other, and NumPy's copy
of a view *does* lose its base. So the mapping is read-only, and copying, pickling and casting a
`Params` rebuild the views on the new vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


class Params(Mapping[str, Array]):
    """One vector with a read-only mapping of named views into it.

    `shapes` has the name and shape of each block, in the order of the vector. The dtype is float32
    for training, float64 for checks, complex128 for the complex step; every other array takes it
    from the parameters. `flat`, (P,), is the vector, used without a copy; zeros by default.

    Examples
    --------
    >>> p = Params({"W": (2, 3), "b": (3,)})
    >>> p["W"][0, 1] = 7
    >>> p.flat
    array([0., 7., 0., 0., 0., 0., 0., 0., 0.], dtype=float32)
    """

    __slots__ = ("_flat", "_views")

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike = np.float32,
        flat: Array | None = None,
    ) -> None:  # fmt: skip
        ends = np.cumsum([0, *(math.prod(shape) for shape in shapes.values())]).tolist()
        if flat is None:
            flat = np.zeros(ends[-1], dtype)
        if flat.shape != (ends[-1],) or not flat.flags.c_contiguous:
            raise ValueError(f"flat has shape {flat.shape}, must be contiguous ({ends[-1]},)")
        self._flat = flat
        self._views: Mapping[str, Array] = MappingProxyType(
            {
                name: flat[start:end].reshape(shape)
                for (name, shape), start, end in zip(shapes.items(), ends, ends[1:], strict=False)
            }
        )

    @property
    def flat(self) -> Array:
        """The vector θ, shape (P,). Write into it (``flat[:] = ...``); it cannot be replaced."""
        return self._flat

    @property
    def views(self) -> Mapping[str, Array]:
        """The read-only mapping of names to views of `flat`."""
        return self._views

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of every block."""
        return self._flat.dtype

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each block, in the order of the vector."""
        return {name: view.shape for name, view in self._views.items()}

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    # Compare by numpy.array_equal(p.flat, q.flat): a mapping's == takes the truth value of arrays.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        blocks = ", ".join(f"{name} {shape}" for name, shape in self.shapes.items())
        return f"Params({self._flat.size} {self.dtype}: {blocks})"

    def zeros_like(self) -> Params:
        """Return a vector of zeros of the same layout: a gradient, or one of Adam's moments."""
        return Params(self.shapes, flat=np.zeros_like(self._flat))

    def copy(self) -> Params:
        """Return a copy with its own memory."""
        return Params(self.shapes, flat=self._flat.copy())

    def astype(self, dtype: DTypeLike) -> Params:
        """Return a copy as `dtype`, with its own memory."""
        return Params(self.shapes, flat=self._flat.astype(dtype))

    # copy, deepcopy and pickle use this.
    def __reduce__(self) -> tuple[Any, ...]:
        return Params, (self.shapes, self.dtype, self._flat)
