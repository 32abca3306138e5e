"""MATLAB's .mat files up to version 7, by SciPy."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import shorten

KINDS = (
    "double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "logical", "char",
)  # fmt: skip
PACKED = 1032  # at most so many bytes from one of Deflate's


def read_mat(
    path: str | os.PathLike[str],
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], str]:
    """Return the arrays of numbers and text in a file; words say what was left out.

    Cells and structures are not read. A row vector (1, N) becomes (N,). ValueError if the file is
    damaged or of version 7.3, which is HDF5.
    """
    import warnings

    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadWarning

    path = Path(path)
    with open(path, "rb") as stream:
        start = stream.read(20)
    if start.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise ValueError(
            f"{path}: MATLAB's version 7.3, must be version 7 or older: save it with -v7, or"
            " convert it with h5py"
        )
    size = path.stat().st_size
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", MatReadWarning)
            held = whosmat(path)
            names = []
            for name, shape, kind in held:
                if kind in KINDS and math.prod(shape) > 1:
                    if math.prod(shape) > PACKED * size:
                        raise ValueError(f"{name!r} cannot hold {shape} in {size} bytes")
                    names.append(name)
            found = loadmat(path, variable_names=names) if names else {}
    except Exception as error:  # SciPy's reader raises of every kind on damaged bytes
        reason = shorten(str(error)) or type(error).__name__
        raise ValueError(f"{path}: not a readable .mat file ({reason})") from None
    arrays = {}
    for name in names:
        x = found.get(name)
        if isinstance(x, np.ndarray) and x.dtype.kind in "buifU":
            arrays[name] = x[0] if x.ndim == 2 and len(x) == 1 else x
    if not arrays:
        raise ValueError(f"{path}: holds no array of numbers")
    left = [name for name, *_ in held if name not in arrays]
    return arrays, (), f"not read: {', '.join(left[:5])}" if left else ""
