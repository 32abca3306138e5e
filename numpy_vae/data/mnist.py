"""MNIST (LeCun, Bottou, Bengio, Haffner, 1998): four IDX files, local or downloaded.

A download gets its name only if its size and SHA-256 match `MNIST_FILES`.
"""

from __future__ import annotations

import io
import math
import os
import sys
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import atomic_write, open_file, remove_torn
from .dataset import Dataset

# gzip, hashlib, http and urllib take longer to import than the package: import where used.

# Name: bytes and SHA-256. Training images and labels, test images and labels.
MNIST_FILES = {
    "train-images-idx3-ubyte.gz":
        (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    "train-labels-idx1-ubyte.gz":
        (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    "t10k-images-idx3-ubyte.gz":
        (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    "t10k-labels-idx1-ubyte.gz":
        (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
}  # fmt: skip
MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
MNIST_CRC = 0xE4CA5F57  # CRC-32 of the pixels of the test images, which identifies MNIST
Bytes = NDArray[np.uint8]


def load_mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load MNIST from `data_dir`, else `$NUMPY_VAE_DATA`, else the cache, else the network.

    ``train`` is (60000, 784) and ``test`` (10000, 784), uint8, with labels 0 to 9.

    A folder given by `data_dir` or `$NUMPY_VAE_DATA` must hold all four of `MNIST_FILES`, gzipped
    or, without `.gz`, plain. They may be another data set of this format, such as Fashion-MNIST,
    which is then named after the folder. OSError if the files are neither there nor downloadable,
    ValueError if they are damaged.
    """
    given = os.environ.get("NUMPY_VAE_DATA") or None if data_dir is None else data_dir
    folder = cache_folder() if given is None else Path(given)
    files = {} if folder is None else _find(folder)
    missing = [name for name in MNIST_FILES if name not in files]
    if missing and given is not None:
        what = f"{'NUMPY_VAE_DATA' if data_dir is None else 'data_dir'} is {folder}"
        if not Path(given).is_dir():
            raise NotADirectoryError(f"{what}, must be an existing folder")
        raise FileNotFoundError(
            f"{what}, which has no {', '.join(missing)}, must hold all four MNIST files"
        )
    if missing:
        files = _download(folder)
    images, labels, test_images, test_labels = files.values()
    train, y_train, image_shape = _read_pair(images, labels)
    test, y_test, other = _read_pair(test_images, test_labels)
    if other != image_shape:
        raise ValueError(
            f"{test_images}: images are {other}, must be {image_shape} like the training images"
        )
    name = "mnist"
    if given is not None and zlib.crc32(test.data) != MNIST_CRC:
        name = Path(given).resolve().name or name  # "/" has none
    # Not $NUMPY_VAE_DATA, which is read again: it says where the files are on this machine.
    place = None if data_dir is None else os.path.abspath(data_dir)
    return Dataset(
        name, train, test, y_train, y_test, image_shape=image_shape, source="mnist", data_dir=place
    )


def cache_folder() -> Path | None:
    """Return the cache folder for MNIST, or None if there is none."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    base = os.path.expanduser(base if os.path.isabs(base) or base[0] == "~" else "~/.cache")
    # Without HOME and a password entry, as in some containers, ~ is not expanded.
    return Path(base, "numpy_vae") if os.path.isabs(base) else None


def _find(folder: Path) -> dict[str, Path]:
    """Return the paths of the `MNIST_FILES` that are in a folder, by name, in their order."""
    found: dict[str, Path] = {}
    for name in MNIST_FILES:
        for path in folder / name.removesuffix(".gz"), folder / name:  # if both, the gzipped one
            if path.is_file():
                found[name] = path
    return found


def _download(folder: Path | None) -> dict[str, Path]:
    """Download the four files into the cache folder, from the first mirror that works."""
    from http.client import HTTPException

    names = ", ".join(MNIST_FILES)
    advice = f"put {names} in a folder and pass --data-dir or set NUMPY_VAE_DATA"
    if folder is None:
        raise OSError(f"there is no home folder to download MNIST to; {advice}")
    pending, failures = list(MNIST_FILES), []
    folder.mkdir(parents=True, exist_ok=True)
    remove_torn(folder)
    for mirror in MNIST_MIRRORS:
        try:
            while pending:
                _fetch(f"{mirror.rstrip('/')}/{pending[0]}", folder / pending[0])
                del pending[0]
            return _find(folder)
        except (OSError, HTTPException, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            failures.append(f"{mirror} failed at {pending[0]} ({reason})")
    raise OSError(f"MNIST is not in {folder}; {'; '.join(failures)}; {advice}")


def _fetch(url: str, path: Path) -> None:
    """Download one of `MNIST_FILES`, and keep it only if its size and SHA-256 match."""
    import hashlib
    from urllib.request import urlopen

    size, sha256 = MNIST_FILES[path.name]
    left, digest = size + 1, hashlib.sha256()
    with urlopen(url, timeout=20) as reply, atomic_write(path) as stream:
        while chunk := reply.read(min(left, 1 << 16)):
            stream.write(chunk)
            digest.update(chunk)
            left -= len(chunk)
        if left != 1:
            held = size + 1 - left if left else "more"
            raise ValueError(f"its size is {held}, must be {size} bytes")
        if digest.hexdigest() != sha256:
            raise ValueError(f"its SHA-256 is {digest.hexdigest()}, must be {sha256}")


def _read_pair(images: Path, labels: Path) -> tuple[Bytes, Bytes, tuple[int, int]]:
    """Return images (N, D), their labels (N,), and the shape of an image."""
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or y.shape != x.shape[:1]:
        raise ValueError(
            f"{images} is {x.shape} and {labels.name} {y.shape}, must be images"
            " (N, rows, columns) and as many labels (N,)"
        )
    _, rows, columns = x.shape
    return x.reshape(len(x), -1), y, (rows, columns)


def read_idx(path: str | os.PathLike[str]) -> Bytes:
    """Read an IDX file of bytes, plain or gzipped: images (N, rows, columns) or labels (N,).

    The content decides which, not the name. Memory grows with the size of the file, not with the
    size in its header. ValueError if it is damaged, or neither images nor labels.
    """
    import gzip

    with open_file(path) as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            return _parse_idx(gzip.GzipFile(fileobj=raw) if gzipped else raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: damaged ({error}), must be a complete gzip file") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def _parse_idx(stream: io.BufferedIOBase) -> Bytes:
    magic = stream.read(4)
    if not magic:
        raise ValueError("empty, must be an IDX file")
    axes = {b"\0\0\x08\x03": 3, b"\0\0\x08\x01": 1}.get(magic)
    if axes is None:
        raise ValueError(
            f"starts with 0x{magic.hex()}, must be an IDX file of bytes:"
            " 0x00000803 (images) or 0x00000801 (labels)"
        )
    header = stream.read(4 * axes)
    if len(header) < 4 * axes:
        raise ValueError(f"its header ends at byte {4 + len(header)}, must be {4 + 4 * axes}")
    shape = tuple(np.frombuffer(header, ">u4").tolist())
    if shape[0] == 0 or not all(0 < side < 65536 for side in shape[1:]):
        raise ValueError(f"holds {shape}, must be 1 or more of 1 to 65535 rows and columns")
    promised, data = math.prod(shape), bytearray()
    # One byte more than promised detects excess data, and lets gzip compare its checksum.
    while chunk := stream.read(min(promised + 1 - len(data), 1 << 20)):
        data += chunk
    if len(data) != promised:
        held = len(data) if len(data) < promised else "more"
        raise ValueError(f"its header promises {promised} bytes, {shape}, but it holds {held}")
    return np.frombuffer(data, np.uint8).reshape(shape)
