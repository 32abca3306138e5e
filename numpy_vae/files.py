"""Files that are whole or absent.

A file is written under a temporary name in the same folder, flushed to disk and then renamed. An
interrupt, a crash or a full disk leaves the old file as it was. The writer locks its temporary
file; one without a lock was left by a killed process.

Reading refuses a damaged file, a foreign one, a pickle (it would run code) and a pipe, with one
line that names the file. The size in a header is compared with that of the file before any memory
is allocated. A large array may stay in its file.
"""

from __future__ import annotations

import errno
import io
import math
import os
import re
import stat
import tokenize
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .checks import shorten

CHECKPOINT = "checkpoint.npz"  # in the folder of a run

# What NumPy and zipfile raise on malformed bytes. OSError is a seek to before the start;
# MemoryError and TokenError are headers that Python cannot parse.
_DAMAGED = (
    ValueError, TypeError, SyntaxError, KeyError, EOFError, OverflowError, NotImplementedError,
    RuntimeError, OSError, MemoryError, tokenize.TokenError, zlib.error,
)  # fmt: skip

# Without the target's name, which may already be as long as a name can be.
TEMPORARY = re.compile(r"\.numpy-vae-[a-z0-9_]{8}\.tmp")


@contextmanager
def atomic_write(
    path: str | os.PathLike[str], seal: Callable[[str], None] | None = None
) -> Iterator[IO[bytes]]:
    """Open a binary file that is renamed to `path` when the block ends without an exception.

    Before that, `seal` is called with the SHA-256 of the contents, in hexadecimal. If it raises,
    the folder is not writable or the disk is full (OSError), `path` stays as it was.
    """
    path = Path(path)
    temporary = None
    try:
        handle, temporary = _temporary(path.parent)
        with os.fdopen(handle, "w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(handle)
            os.chmod(temporary, _mode(path))  # mkstemp's are readable by their owner only
            if seal is not None:
                stream.seek(0)
                seal(sha256(stream))
            if os.name != "nt":  # while it is locked; Windows cannot rename an open file
                os.replace(temporary, path)
        if os.name == "nt":
            os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        # The error of a full disk names no file; others name the temporary one.
        named = error.filename if isinstance(error, OSError) else None
        ours = named is None or TEMPORARY.fullmatch(os.path.basename(os.fsdecode(named)))
        if isinstance(error, OSError) and error.errno and ours:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def check_absent(path: Path) -> None:
    """Raise FileExistsError if `path` exists."""
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "exists already; --overwrite replaces it", str(path))


def _mode(path: Path) -> int:
    """Return the permissions of the file at `path`, or of a new file if there is none."""
    with suppress(OSError):
        if stat.S_ISREG(mode := path.lstat().st_mode):
            return stat.S_IMODE(mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _temporary(folder: Path) -> tuple[int, str]:
    """Create a temporary file and lock it; return its descriptor and its name."""
    import tempfile

    while True:
        handle, name = tempfile.mkstemp(prefix=".numpy-vae-", suffix=".tmp", dir=folder)
        if not lock(handle, wait=True) or os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # `remove_torn` removed it before it was locked


def lock(handle: int, *, wait: bool) -> bool:
    """Lock an open file or raise BlockingIOError; return False where locks do not work."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:  # another process holds it
        raise
    except (ImportError, OSError):  # Windows; or some network file systems
        return False
    return True


def unlock(handle: int) -> None:
    """Unlock an open file, even if a forked child has it open."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_UN)


def check_writable(folder: Path) -> None:
    """Raise OSError unless files can be written to a folder, which need not exist yet."""
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))


def remove_torn(folder: Path) -> None:
    """Remove the temporary files of killed processes, but none that is being written."""
    names = os.listdir(folder) if folder.is_dir() else []
    for path in [folder / name for name in names if TEMPORARY.fullmatch(name)]:
        with suppress(OSError):
            if os.name == "nt":  # has no such lock, but does not remove an open file
                path.unlink()
            elif path.is_file():
                with open(path, "rb") as stream:
                    if lock(stream.fileno(), wait=False):
                        path.unlink()


def sha256(stream: Any) -> str:
    """Return the SHA-256 of the rest of a binary stream, in hexadecimal."""
    import hashlib

    return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_write(path) as stream:
        stream.write(text.encode())


def save_arrays(stream: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays of numbers or text to a stream, as a `.npz`.

    Before NumPy 2.2, `numpy.savez` stores ``allow_pickle=False`` as one more array, and reports a
    full disk in several lines.
    """
    import zipfile

    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def write_model(
    path: str | os.PathLike[str], settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write settings (as JSON text, in the array ``settings``) and arrays as a `.npz`."""
    import json

    with atomic_write(path) as stream:
        save_arrays(stream, {"settings": np.array(json.dumps(settings)), **arrays})


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a file of `write_model`, or the checkpoint of a run's folder; ValueError otherwise."""
    import json

    path = Path(path)
    if path.is_dir():
        if not (path / CHECKPOINT).exists():
            raise ValueError(f"{path}: has no {CHECKPOINT}, must be a run directory or a file")
        path = path / CHECKPOINT
    arrays = read_arrays(path, packed=False)
    try:
        settings = json.loads(str(arrays.pop("settings")))
        assert isinstance(settings, dict)
    except (KeyError, ValueError, RecursionError, AssertionError):
        raise ValueError(f"{path}: holds no model settings") from None
    return settings, arrays


def read_arrays(
    path: str | os.PathLike[str], *, packed: bool = True, mapped: float = math.inf,
    skipped: list[str] | None = None,
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """Read a `.npy` file (one array, named ``""``) or a `.npz` file (arrays by name).

    ValueError for any other file, a damaged one, or one that changes while it is read. A compressed
    file may take a thousand times its size in memory; ``packed=False`` refuses those. A `.npy` file
    of ``mapped`` bytes or more in C order stays on disk: its array is a read-only `numpy.memmap`.
    Pickled objects are refused; with a list ``skipped``, those beside other arrays of a `.npz` are
    not read, and their names are appended to it.
    """
    import zipfile

    path = Path(path)
    with open_file(path) as stream:
        before = os.fstat(stream.fileno())
        start = stream.read(6)
        stream.seek(0)
        if not start:
            raise ValueError(f"{path}: empty, must be a .npy or a .npz file")
        if start != b"\x93NUMPY" and not start.startswith(b"PK"):
            raise ValueError(f"{path}: neither a .npy nor a .npz file (it starts with {start!r})")
        try:
            if start.startswith(b"PK"):
                arrays = _read_members(stream, before.st_size, packed=packed, skipped=skipped)
            elif before.st_size >= mapped and _check_header(stream, before.st_size):
                return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
            else:
                arrays = {"": _read_array(stream, before.st_size)}
            after = os.fstat(stream.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise ValueError("it was changed while it was read")
            return arrays
        except (*_DAMAGED, zipfile.BadZipFile) as error:
            # NumPy's message may span three lines; that of a MemoryError is empty.
            reason = shorten(str(error)) or type(error).__name__
            by_column = before.st_size >= mapped and start == b"\x93NUMPY"  # C order is mapped
            if by_column and isinstance(error, MemoryError):
                reason = "in Fortran order, and too large for memory: must be in C order"
            raise ValueError(f"{path}: not a readable .npy or .npz file ({reason})") from None


def open_file(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading; raise ValueError for a pipe, which may never end."""
    if not stat.S_ISREG(mode := os.stat(path).st_mode) and not stat.S_ISDIR(mode):
        raise ValueError(f"{path}: a pipe or a device, must be a file")
    return open(path, "rb")  # for a folder, an OSError that says so


class _ObjectsError(ValueError):
    """An array holds pickled objects."""


def _read_members(
    stream: IO[bytes], size: int, *, packed: bool, skipped: list[str] | None
) -> dict[str, NDArray[Any]]:
    """Read the arrays of an archive of `size` bytes by name."""
    import zipfile

    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if not packed and sum(info.file_size for info in members) > size:
            raise ValueError("its arrays are compressed, must be uncompressed")
        names = [info.filename.removesuffix(".npy") for info in members]
        if twice := [name for name, n in Counter(names).items() if n > 1]:
            raise ValueError(f"it holds {twice[0]!r} more than once")
        arrays = {}
        for name, info in zip(names, members, strict=True):
            # The archive's directory may lie. NumPy uses Deflate only, at most 1032 bytes to one.
            ratio = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}.get(info.compress_type, 0)
            if info.file_size > ratio * min(info.compress_size, size):
                raise ValueError(
                    f"{info.filename} cannot hold {info.file_size} bytes in {info.compress_size}"
                    f" compressed by method {info.compress_type}"
                )
            with archive.open(info) as member:
                try:
                    arrays[name] = _read_array(member, info.file_size)
                except _ObjectsError:
                    if skipped is None or len(members) == 1:
                        raise
                    skipped.append(name)
        return arrays


def _read_array(stream: IO[bytes], size: int) -> NDArray[Any]:
    """Read one array in NPY format from a stream that holds `size` bytes."""
    stream.seek(0)
    _check_header(stream, size)
    stream.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _check_header(stream: IO[bytes], size: int) -> bool:
    """Return whether the array of a `.npy` stream is in C order; ValueError if it is damaged."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"NPY format version {version}, must be (1, 0) or (2, 0)")
    if dtype.hasobject:
        raise _ObjectsError("it holds pickled objects, must hold numbers")
    promised, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or promised != held:
        raise ValueError(f"its header promises {promised} bytes, but it holds {held}")
    return not fortran
