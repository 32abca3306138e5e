"""IDX, the format of the MNIST files: two zeros, a type, the number of axes, their lengths, values.

All numbers are big-endian. The specification is in LeCun's page of MNIST.
"""

from __future__ import annotations

import io
import math
import os
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import open_file

# gzip takes long to import: where used.

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
GZIP = b"\x1f\x8b"
MAX_AXES = 4


def is_idx(start: bytes) -> bool:
    """Return whether a file that starts so can be an IDX file."""
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in TYPES and 0 < start[3] < 8


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file, plain or gzipped, of any type, of 1 to 4 axes.

    Memory grows with the size of the file, not with the size in its header. ValueError if it is
    damaged.
    """
    import gzip

    with open_file(path) as raw:
        gzipped = raw.read(2) == GZIP
        raw.seek(0)
        try:
            return _parse(gzip.GzipFile(fileobj=raw) if gzipped else raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: damaged ({error}), must be a complete gzip file") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def _parse(stream: io.BufferedIOBase) -> NDArray[Any]:
    magic = stream.read(4)
    if not magic:
        raise ValueError("empty, must be an IDX file")
    if not is_idx(magic) or magic[3] > MAX_AXES:
        raise ValueError(
            f"starts with 0x{magic.hex()}, must be an IDX file of 1 to {MAX_AXES} axes, such as"
            " 0x00000803 (images) or 0x00000801 (labels)"
        )
    dtype, axes = np.dtype(TYPES[magic[2]]), magic[3]
    header = stream.read(4 * axes)
    if len(header) < 4 * axes:
        raise ValueError(f"its header ends at byte {4 + len(header)}, must be {4 + 4 * axes}")
    shape = tuple(np.frombuffer(header, ">u4").tolist())
    if 0 in shape:
        raise ValueError(f"holds {shape}, must not be empty")
    promised, data = math.prod(shape) * dtype.itemsize, bytearray()
    # One byte more than promised detects excess data, and lets gzip compare its checksum.
    while chunk := stream.read(min(promised + 1 - len(data), 1 << 20)):
        data += chunk
    if len(data) != promised:
        held = len(data) if len(data) < promised else "more"
        raise ValueError(f"its header promises {promised} bytes, {shape}, but it holds {held}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
