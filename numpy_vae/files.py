"""Files that are whole or absent.

Writing goes to a temporary file beside the target, is flushed to the disk and then renamed, so that
an interrupt, a crash or a full disk leaves the old file as it was. Reading refuses a damaged file,
a foreign one, and one that would run code (a pickle), in one line that names the file; the size
that a header promises is compared with the size of the file before any memory is taken.
"""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

# What NumPy and zipfile raise on bytes that are not what they should be.
_DAMAGED = (
    ValueError, TypeError, SyntaxError, KeyError, EOFError, OverflowError, NotImplementedError,
    RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file that takes the name `path` only when the block has ended well.

    Raises
    ------
    OSError
        If the folder cannot be written or the disk is full; `path` is then what it was before.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp creates files that only their owner may read; give the usual permissions instead.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_write(path) as stream:
        stream.write(text.encode())


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read a `.npy` file (one array, under the name ``""``) or a `.npz` file (arrays by name).

    Raises
    ------
    ValueError
        If the file is neither, is damaged, holds pickled objects, or promises more than it holds.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as stream:
        start = stream.read(6)
        stream.seek(0)
        try:
            if start.startswith(b"PK"):
                with zipfile.ZipFile(stream) as archive:
                    return {
                        info.filename.removesuffix(".npy"): _read_member(archive, info)
                        for info in archive.infolist()
                    }
            if start == b"\x93NUMPY":
                return {"": _read_array(stream, os.fstat(stream.fileno()).st_size)}
        except _DAMAGED as error:
            raise ValueError(f"{path}: not a readable .npy or .npz file ({error})") from None
    raise ValueError(f"{path}: neither a .npy nor a .npz file (it starts with {start!r})")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as stream:
        return _read_array(stream, info.file_size)


def _read_array(stream: IO[bytes], size: int) -> NDArray[Any]:
    """Read one array in NPY format from a stream that holds `size` bytes."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"NPY format version {version}, must be (1, 0) or (2, 0)")
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, must hold numbers")
    promised, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or promised > held:
        raise ValueError(f"its header promises {promised} bytes and it holds {held}")
    stream.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array
