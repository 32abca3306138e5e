"""A data set by its name or from a file, as ``--data`` takes it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from .arrays import Reading, load_array
from .dataset import Dataset
from .digits import load_digits
from .mnist import load_mnist

NAMED = ("digits", "mnist")  # the built-in data sets


def load_data(name: str, data_dir: str | None = None, reading: Reading | None = None) -> Dataset:
    """Return the data set of this name, file or folder; `data_dir` is that of `load_mnist`."""
    reading = Reading() if reading is None else reading
    if data_dir is not None and name != "mnist":
        raise ValueError(f"--data-dir applies to --data mnist, not to --data {name}")
    possible = {"image_shape", "scale"} if name == "mnist" else {"image_shape"}
    if name in NAMED and (other := sorted(reading.given().keys() - possible)):
        raise ValueError(f"--{other[0].replace('_', '-')} does not apply to --data {name}")
    if name == "digits":
        return load_digits()
    if name == "mnist":
        return load_mnist(data_dir, scale=reading.scale)
    if Path(name).exists():
        return load_array(name, **asdict(reading))
    raise ValueError(f"--data is {name!r}, must be digits, mnist or an existing file or folder")
