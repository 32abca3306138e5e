"""A data set by its name or from a file, as ``--data`` takes it."""

from __future__ import annotations

from pathlib import Path

from .arrays import load_array
from .dataset import Dataset
from .digits import load_digits
from .mnist import load_mnist

NAMED = ("digits", "mnist")  # the built-in data sets


def load_data(name: str, data_dir: str | None = None) -> Dataset:
    """Return the data set of this name or file; `data_dir` is that of `load_mnist`."""
    if data_dir is not None and name != "mnist":
        raise ValueError(f"--data-dir applies to --data mnist, not to --data {name}")
    if name == "digits":
        return load_digits()
    if name == "mnist":
        return load_mnist(data_dir)
    if Path(name).exists():
        return load_array(name)
    raise ValueError(f"--data is {name!r}, must be digits, mnist or an existing file")
