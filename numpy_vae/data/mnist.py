"""MNIST (LeCun, Bottou, Bengio, Haffner, 1998): four IDX files, local or downloaded.

A download gets its name only if its size and SHA-256 match `MNIST_FILES`.
"""

from __future__ import annotations

import os
import re
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import atomic_write, remove_torn
from .arrays import Reading, find_images, make_dataset
from .dataset import Dataset
from .idx import read_idx
from .readers import Contents

# hashlib, http and urllib take longer to import than the package: import where used.

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
PARTS = ("x", "train"), ("y", "train"), ("x", "test"), ("y", "test")  # of `MNIST_FILES`
# Such as t10k-images.idx3-ubyte.gz, emnist-letters-train-images-idx3-ubyte
NAME = re.compile(r"(.*[-_.])?(train|t10k|test)[-_.](images|labels)[-_.]idx[1-4][-_.]\w+(\.gz)?")


def load_mnist(
    data_dir: str | os.PathLike[str] | None = None, *, scale: float | None = None
) -> Dataset:
    """Load MNIST from `data_dir`, else `$NUMPY_VAE_DATA`, else the cache, else the network.

    ``train`` is (60000, 784) and ``test`` (10000, 784), uint8, with labels 0 to 9.

    A folder given by `data_dir` or `$NUMPY_VAE_DATA` must hold the IDX files of a training and a
    test set, of MNIST or of any other data set, which is then named after the folder. They may be
    gzipped or plain, have dots for hyphens, lie in subfolders (torchvision's ``MNIST/raw``, or one
    for each file), and come without labels. The images of EMNIST lie on their side and are turned.
    `scale` is that of `load_array`. OSError if the files are neither there nor downloadable,
    ValueError if they are damaged, or if the folder holds several data sets.
    """
    given = os.environ.get("NUMPY_VAE_DATA") or None if data_dir is None else data_dir
    folder = cache_folder() if given is None else Path(given)
    if given is None:
        named = {} if folder is None else _find_named(folder)
        missing = [name for name in MNIST_FILES if name not in named]
        named = _download(folder) if missing else named
        files = dict(zip(PARTS, named.values(), strict=True))
    else:
        what = f"{'NUMPY_VAE_DATA' if data_dir is None else 'data_dir'} is {given}"
        files = _find(Path(given), what)
    arrays: dict[str, NDArray[Any]] = {}
    for part in "train", "test":
        images = read_idx(files["x", part])
        if images.ndim != 3:
            raise ValueError(f"{files['x', part]}: holds {images.shape}, must be images (N, H, W)")
        if files["x", part].name.lower().startswith("emnist"):
            images = np.ascontiguousarray(images.swapaxes(1, 2))
        if part == "test" and images.shape[1:] != arrays["x_train"].shape[1:]:
            raise ValueError(
                f"{files['x', part]}: images are {images.shape[1:]}, must be"
                f" {arrays['x_train'].shape[1:]} like the training images"
            )
        arrays[f"x_{part}"] = images
        if ("y", part) in files:
            labels = read_idx(files["y", part])
            labels = labels[:, 0] if labels.ndim == 2 else labels  # QMNIST has more columns
            if labels.shape != images.shape[:1]:
                raise ValueError(
                    f"{files['y', part]}: holds {labels.shape}, must be labels of the"
                    f" {len(images)} images of {files['x', part].name}"
                )
            arrays[f"y_{part}"] = labels
    try:
        found = find_images(Contents(arrays), Reading(scale=scale))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    name = "mnist"
    if given is not None and zlib.crc32(found.parts["test"]) != MNIST_CRC:  # type: ignore[arg-type]
        name = Path(given).resolve().name or name  # "/" has none
    # Not $NUMPY_VAE_DATA, which is read again: it says where the files are on this machine.
    place = None if data_dir is None else os.path.abspath(data_dir)
    turned = ("turned upright",) if files["x", "test"].name.lower().startswith("emnist") else ()
    found = found._replace(words=(str(folder), *found.words, *turned))
    return replace(make_dataset(found, name, "mnist"), data_dir=place)


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


def _find_named(folder: Path) -> dict[str, Path]:
    """Return the paths of the `MNIST_FILES` that are in a folder, by name, in their order."""
    found: dict[str, Path] = {}
    for name in MNIST_FILES:
        for path in folder / name.removesuffix(".gz"), folder / name:  # if both, the gzipped one
            if path.is_file():
                found[name] = path
    return found


def _find(folder: Path, what: str) -> dict[tuple[str, str], Path]:
    """Return the files of images and labels in a folder, by "x" or "y" and "train" or "test"."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{what}, must be an existing folder")
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(p for depth in ("*", "*/*", "*/raw/*") for p in folder.glob(depth)):
        match = NAME.fullmatch(path.name.lower())
        if match is None or not path.is_file():
            continue
        role = "x" if match[3] == "images" else "y", "train" if match[2] == "train" else "test"
        other = found.setdefault(role, path)  # of a plain and a gzipped file, the gzipped one
        if other.name.lower().removesuffix(".gz") != path.name.lower().removesuffix(".gz") or (
            other.parent != path.parent
        ):
            raise ValueError(
                f"{what}, which holds {other.relative_to(folder)} and {path.relative_to(folder)},"
                " must hold one data set: name its own folder"
            )
        found[role] = path
    for part, name in ("train", "train-images-idx3-ubyte"), ("test", "t10k-images-idx3-ubyte"):
        if ("x", part) not in found:
            raise FileNotFoundError(
                f"{what}, which has no {name}, must hold the images of a training and a test set"
                " as IDX files"
            )
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
            return _find_named(folder)
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
