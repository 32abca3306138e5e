"""Files that are whole or absent.

Writing goes to a temporary file beside the target, is flushed to the disk and then renamed, so that
an interrupt, a crash or a full disk leaves the old file as it was. Reading refuses a damaged file,
a foreign one, and one that would run code (a pickle), in one line that names the file; the size
that a header promises is compared with the size of the file before any memory is taken, and a large
array may stay in its file.
"""

from __future__ import annotations

import math
import os
import tokenize
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import zipfile

# What NumPy and zipfile raise on bytes that are not what they should be; OSError is a seek to a
# place before the start, MemoryError and TokenError are headers that Python cannot parse.
_DAMAGED = (
    ValueError, TypeError, SyntaxError, KeyError, EOFError, OverflowError, NotImplementedError,
    RuntimeError, OSError, MemoryError, tokenize.TokenError, zlib.error,
)  # fmt: skip


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file that takes the name `path` only when the block has ended well.

    Raises
    ------
    OSError
        If the folder cannot be written or the disk is full; `path` is then what it was before.
    """
    import tempfile

    path = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp creates files that only their owner may read; give the usual permissions instead.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        # A full disk names no file, and the others the temporary one.
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_write(path) as stream:
        stream.write(text.encode())


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name as an uncompressed `.npz`, whole or not at all."""
    with atomic_write(path) as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def write_model(
    path: str | os.PathLike[str], settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write settings (as JSON text, under the name ``settings``) and arrays as a `.npz`."""
    import json

    write_arrays(path, {"settings": np.array(json.dumps(settings)), **arrays})


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `write_model` has written; raises as `read_arrays`."""
    import json

    arrays = read_arrays(path, packed=False)
    try:
        settings = json.loads(str(arrays.pop("settings")))
        assert isinstance(settings, dict)
    except (KeyError, ValueError, RecursionError, AssertionError):
        raise ValueError(f"{path}: holds no model settings") from None
    return settings, arrays


def read_arrays(
    path: str | os.PathLike[str], *, packed: bool = True, mapped: float = math.inf
) -> dict[str, NDArray[Any]]:
    """Read a `.npy` file (one array, under the name ``""``) or a `.npz` file (arrays by name).

    Memory may grow to a thousand times the size of a packed file; with ``packed=False``, which
    refuses those, not beyond the size of the file. The array of a `.npy` file of ``mapped`` bytes
    or more stays on the disk: it is a `numpy.memmap`, to be read only.

    Raises
    ------
    ValueError
        If the file is neither, is damaged, holds pickled objects, or promises more or less than it
        holds.
    OSError
        If it cannot be opened.
    """
    import zipfile

    path = Path(path)
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(6)
        stream.seek(0)
        try:
            if start.startswith(b"PK"):
                with zipfile.ZipFile(stream) as archive:
                    members = archive.infolist()
                    if not packed and sum(info.file_size for info in members) > size:
                        raise ValueError("it holds packed arrays, must hold plain ones")
                    return {
                        info.filename.removesuffix(".npy"): _read_member(archive, info, size)
                        for info in members
                    }
            if start == b"\x93NUMPY":
                if size < mapped:
                    return {"": _read_array(stream, size)}
                _check_header(stream, size)
                return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
        except (*_DAMAGED, zipfile.BadZipFile) as error:
            # NumPy's own may run over three lines, a MemoryError says nothing.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path}: not a readable .npy or .npz file ({reason})") from None
    if not start:
        raise ValueError(f"{path}: empty, must be a .npy or a .npz file")
    raise ValueError(f"{path}: neither a .npy nor a .npz file (it starts with {start!r})")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> NDArray[Any]:
    """Read one array of an archive of `size` bytes, whose directory may lie about it."""
    import zipfile

    # Deflate packs at most 1032 bytes into one; NumPy writes no other method.
    ratio = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}.get(info.compress_type, 0)
    if info.file_size > ratio * min(info.compress_size, size):
        raise ValueError(
            f"{info.filename} cannot hold {info.file_size} bytes in {info.compress_size}"
            f" packed by method {info.compress_type}"
        )
    with archive.open(info) as stream:
        return _read_array(stream, info.file_size)


def _read_array(stream: IO[bytes], size: int) -> NDArray[Any]:
    """Read one array in NPY format from a stream that holds `size` bytes."""
    _check_header(stream, size)
    stream.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _check_header(stream: IO[bytes], size: int) -> None:
    """Raise ValueError unless a stream of `size` bytes is an array of numbers in NPY format."""
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
    if min(shape, default=0) < 0 or promised != held:
        raise ValueError(f"its header promises {promised} bytes and it holds {held}")
