"""Labels as integers, whatever they were: text, floats, one-hot, or a column (N, 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_NAMES = 1000  # more are not classes


def code_labels(
    labels: Mapping[str, NDArray[Any]], sizes: Mapping[str, int]
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], str]:
    """Return integer labels (N,) of each part, the names of text labels, and words about them.

    Labels only colour plots, so those that cannot be coded are left out, and the words say so. The
    parts are coded alike.
    """
    found = {}
    for part, y in labels.items():
        plain = _plain(y)
        if plain is None or plain.shape != (sizes[part],):
            what = f"labels left out: {y.dtype} {y.shape}, must be one whole number or word"
            return {}, (), f"{what} for each of {sizes[part]} rows"
        found[part] = plain
    if not found:
        return {}, (), "no labels"
    texts = [y.dtype.kind == "U" for y in found.values()]
    if not any(texts):
        count = len(np.unique(np.concatenate([*found.values()])))
        return found, (), f"labels of {count} classes"
    words = {part: y.astype(str) for part, y in found.items()}
    names = np.unique(np.concatenate([*words.values()]))
    if len(names) > MAX_NAMES:
        return {}, (), f"labels left out: {len(names)} different words, must be at most {MAX_NAMES}"
    codes = {part: np.searchsorted(names, y) for part, y in words.items()}
    return codes, tuple(names.tolist()), f"labels of {len(names)} classes, as words"


def _plain(y: NDArray[Any]) -> NDArray[Any] | None:
    """Return labels as integers or text, (N,), or None."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "biuf":
        one_hot = ((y == 0) | (y == 1)).all() and (np.count_nonzero(y, axis=1) == 1).all()
        return y.argmax(axis=1) if one_hot else None
    if y.ndim != 1:
        return None
    if y.dtype.kind in "iu":
        return y
    if y.dtype.kind == "b":
        return y.astype(np.int64)
    if y.dtype.kind == "S":
        return np.char.decode(y, "utf-8", "replace")
    if y.dtype.kind == "U":
        return y
    if y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.rint(y)).all():
        return y.astype(np.int64) if np.abs(y).max(initial=0) < 2**62 else None
    return None
