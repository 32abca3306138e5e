"""Images in, minibatches out: the MNIST files, a user's own arrays, four binarisations.

Axes: N images of a data set, D pixels of an image, B images of a minibatch.

Files. MNIST [1] is four gzipped IDX files, which `load_mnist` finds or downloads. A download gets
its name only after its size and SHA-256 match `MNIST_FILES`. Pixels stay uint8 in memory (55 MB,
not 220) and become floats a minibatch at a time. A large `.npy` file stays on the disk, and only
the images of a minibatch are read: it may be larger than memory (`numpy_vae.data.mapped`).

Binarisation. A Bernoulli likelihood is a probability of pixels that are 0 or 1, and MNIST is grey.
What is done about that belongs to the data, not to the model:

none
    Pixels x / 255 as they are, the cross-entropy with a probability for its target: a usable loss,
    not the likelihood of anything.
threshold
    1 where x / 255 > 0.5. Less noise than in either draw below, hence lower losses.
static
    One draw per pixel with probability x / 255, the same for every run [2, 3].
dynamic
    The same draw made anew for every minibatch [4]: data that never end.

Each is another data set with another entropy, so their nats per image must never be mixed in one
table. A model trained on a static draw overfits it and does about 2 nats worse on test images than
one trained on dynamic draws: as much as 50 importance samples gain in [4].

References
----------
[1] LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, 1998.
[2] Salakhutdinov, Murray, On the quantitative analysis of deep belief networks, ICML 2008.
[3] Larochelle, Murray, The neural autoregressive distribution estimator, AISTATS 2011.
[4] Burda, Grosse, Salakhutdinov, Importance weighted autoencoders, ICLR 2016.
"""

from __future__ import annotations

import io
import math
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..checks import check_choice, check_whole
from ..files import atomic_write, open_file, read_arrays, remove_torn
from .mapped import Convert, MappedFile, Rows, chunks, gathered, rows_of, subset

# gzip, hashlib, http and urllib are imported where they are used: most runs need none of them, and
# together they take longer to import than the package.

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
BINARIZE = ("none", "threshold", "static", "dynamic")
MAPPED = 256 << 20  # bytes; a `.npy` file of as many or more stays on the disk

Part = tuple[NDArray[Any], NDArray[Any] | None]  # images and labels

_SPLIT_SEED = 0
# Far from any seed a user gives: a run spawns its streams from that one, and they must not be these
_STATIC_SEED = int.from_bytes(b"static binarisation")


@dataclass(frozen=True)
class Dataset:
    """Images split into a training and a test set, one flattened image a row.

    uint8 pixels stand for value / 255 (see `to_float`), floats stand for themselves. Images
    of a file that stays on the disk are `mapped.Rows`, which support what is used of an array.
    """

    name: str  # what the data are, for titles and result files
    train: NDArray[Any]  # (N, D), uint8 or float32
    test: NDArray[Any]
    train_labels: NDArray[Any] | None = None  # (N,), integers
    test_labels: NDArray[Any] | None = None
    train_factors: NDArray[Any] | None = None  # (N,), structured: what each image was drawn from,
    test_factors: NDArray[Any] | None = None  # where that is known (`load_digits`)
    image_shape: tuple[int, int] | None = None  # height and width, when the rows are images
    validation: NDArray[Any] | None = None  # what `split_validation` has taken from `train`
    validation_labels: NDArray[Any] | None = None


# The MNIST files: read, find, fetch -----------------------------------------------------------


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, plain or gzipped: images (N, rows, columns) or labels (N,).

    Its content tells which, not its name. Memory grows with what the file holds, never with what
    its header promises. ValueError if it is damaged, or neither images nor labels.
    """
    import gzip

    with open_file(path) as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            return _parse_idx(gzip.GzipFile(fileobj=raw) if gzipped else raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: damaged ({error}), must be a whole gzip file") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def _parse_idx(stream: io.BufferedIOBase) -> NDArray[np.uint8]:
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
        raise ValueError(f"its header is cut at byte {4 + len(header)}, must be {4 + 4 * axes}")
    shape = tuple(np.frombuffer(header, ">u4").tolist())
    if shape[0] == 0 or not all(0 < side < 65536 for side in shape[1:]):
        raise ValueError(f"holds {shape}, must be 1 or more, of 1 to 65535 rows and columns")
    promised, data = math.prod(shape), bytearray()
    # One byte more than promised finds what follows, and lets gzip compare its checksum.
    while chunk := stream.read(min(promised + 1 - len(data), 1 << 20)):
        data += chunk
    if len(data) != promised:
        held = len(data) if len(data) < promised else "more"
        raise ValueError(f"its header promises {promised} bytes, {shape}, and it holds {held}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def cache_folder() -> Path | None:
    """Return the cache folder that MNIST is downloaded into, or None if there is none."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    base = os.path.expanduser(base if os.path.isabs(base) or base[0] == "~" else "~/.cache")
    # Without HOME and a password entry (as in some containers) ~ is not expanded.
    return Path(base, "numpy_vae") if os.path.isabs(base) else None


def load_mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load MNIST: from `data_dir`, else `$NUMPY_VAE_DATA`, else the cache, else the network.

    A folder given by `data_dir` or `$NUMPY_VAE_DATA` must hold all four of `MNIST_FILES`, gzipped
    or (without `.gz`) not. Only a download is compared with the checksums: files in a folder must
    be well-formed, but may be another data set of the same form, such as Fashion-MNIST. OSError if
    the files are not there and not to be had, ValueError if they are damaged.

    Returns
    -------
    Dataset
        ``train`` (60000, 784) and ``test`` (10000, 784) uint8, with labels 0 to 9.
    """
    environment = os.environ.get("NUMPY_VAE_DATA")
    if data_dir is not None:
        paths = _held("data_dir", Path(data_dir))
    elif environment:
        paths = _held("NUMPY_VAE_DATA", Path(environment))
    else:
        cache = cache_folder()
        paths = (_find(cache) if cache is not None else []) or _download(cache)
    train, train_labels, image_shape = _read_pair(*paths[:2])
    test, test_labels, other = _read_pair(*paths[2:])
    if other != image_shape:
        raise ValueError(
            f"{paths[2]}: images of {other}, must be {image_shape} like those of the training set"
        )
    return Dataset("mnist", train, test, train_labels, test_labels, image_shape=image_shape)


def _held(what: str, folder: Path) -> list[Path]:
    """Return the paths of the four files in a folder that was named, or refuse it (OSError)."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{what} is {folder}, must be an existing folder")
    paths = _find(folder)
    if not paths:
        there = [path.name.removesuffix(".gz") for path in folder.iterdir() if path.is_file()]
        missing = [name for name in MNIST_FILES if name.removesuffix(".gz") not in there]
        raise FileNotFoundError(
            f"{what} is {folder}, which has no {', '.join(missing)}, must hold all four MNIST files"
        )
    return paths


def _find(folder: Path) -> list[Path]:
    """Return the paths of the four files in the order of `MNIST_FILES`, or none at all."""
    found: list[Path] = []
    for name in MNIST_FILES:
        both = folder / name, folder / name.removesuffix(".gz")
        found += [path for path in both if path.is_file()][:1]
    return found if len(found) == len(MNIST_FILES) else []


def _read_pair(
    images: Path, labels: Path
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[int, int]]:
    """Return images (N, D), their labels (N,), and the shape of an image."""
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or y.shape != x.shape[:1]:
        raise ValueError(
            f"{images} of {x.shape} and {labels.name} of {y.shape} must be images"
            " (N, rows, columns) and as many labels (N,)"
        )
    _, rows, columns = x.shape
    return x.reshape(len(x), -1), y, (rows, columns)


def _download(folder: Path | None) -> list[Path]:
    """Fetch the four files into the cache folder, from the first mirror that works."""
    from http.client import HTTPException

    names = ", ".join(MNIST_FILES)
    advice = f"put {names} in a folder and pass --data-dir or set NUMPY_VAE_DATA"
    if folder is None:
        raise OSError(f"there is no home folder that MNIST could be downloaded to; {advice}")
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
    """Download one of `MNIST_FILES`; it takes its name only if size and SHA-256 are right."""
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


# A user's own arrays --------------------------------------------------------------------------


def load_array(path: str | os.PathLike[str]) -> Dataset:
    """Load images from a `.npy` or `.npz` file.

    An `.npz` holds `x_train` and `x_test`, with or without `y_train` and `y_test`; or `train` and
    `test`, with or without `train_labels` and `test_labels`; or one array of images of any name,
    with or without one called `labels`, `label` or `y`. A given split is kept. A single array
    is shuffled, and its last N // 6 images (at least 1) are the test set. The shuffle is the same
    for every run, whatever its seed: no test image of one is a training image of another.

    Images are (N, D) or (N, height, width). uint8 pixels stand for value / 255; floats (16, 32, 64
    bits) stand for themselves and are kept as float32. Binary images, which are bool, or uint8 with
    no value but 0 and 1, are kept as uint8 0 and 255, because `to_float` would make 1 / 255, nearly
    black, of a uint8 1. Labels are integers (N,).

    A `.npy` file of `MAPPED` bytes or more in C order is checked from end to end and then stays on
    the disk: the images are `Rows` of it, and it must not be changed while they are used. Results
    are the same to the bit as with an array in memory; static binarisation refuses `Rows`.

    ValueError if the file is damaged, laid out otherwise, or holds arrays that are not images.
    """
    path = Path(path)
    parts, image_shape = read_images(path)
    if "" in parts:
        return _split(path, *parts[""], image_shape)
    (train, train_labels), (test, test_labels) = parts.values()
    return Dataset(path.stem, train, test, train_labels, test_labels, image_shape=image_shape)


def read_images(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Part], tuple[int, int] | None]:
    """Return what a file that `load_array` takes holds, in its order, and the shape of an image.

    Images (N, D), uint8 or float32, perhaps `Rows`, and labels (N,) or None: under "train" and
    "test" where the file holds a split, else under "".
    """
    arrays = read_arrays(path, mapped=MAPPED)
    try:
        names = _names_of_parts(arrays)
        images, image_shape = _images({x or "images": arrays[x] for x, _ in names.values()})
        parts = {
            part: (rows, _labels(y or "labels", None if y is None else arrays.get(y), len(rows)))
            for rows, (part, (_, y)) in zip(images, names.items(), strict=True)
        }
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return parts, image_shape


def _names_of_parts(arrays: dict[str, NDArray[Any]]) -> dict[str, tuple[str, str | None]]:
    """Return, by part, which array holds the images and which the labels, if any."""
    for x, x_test, y, y_test in (
        ("x_train", "x_test", "y_train", "y_test"),
        ("train", "test", "train_labels", "test_labels"),
    ):
        if {x, x_test} <= arrays.keys() <= {x, x_test, y, y_test}:
            return {"train": (x, y), "test": (x_test, y_test)}
    images = [key for key in arrays if len(arrays) == 1 or key not in ("labels", "label", "y")]
    if len(images) != 1 or len(arrays) > 2:
        raise ValueError(
            f"holds arrays named {sorted(arrays)}, must be x_train and x_test (y_train, y_test),"
            " train and test (train_labels, test_labels), or one array of images (labels)"
        )
    labels = [key for key in arrays if key != images[0]]
    return {"": (images[0], labels[0] if labels else None)}


def _split(
    path: Path, x: NDArray[Any], y: NDArray[Any] | None, image_shape: tuple[int, int] | None
) -> Dataset:
    if len(x) < 2:
        raise ValueError(
            f"{path}: there is 1 image, must be 2 or more: one for training and one for testing"
        )
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(x))
    train, test = np.split(order, [-max(1, len(x) // 6)])
    y_train, y_test = (None, None) if y is None else (y[train], y[test])
    x_train, x_test = subset(x, train), subset(x, test)
    return Dataset(path.stem, x_train, x_test, y_train, y_test, image_shape=image_shape)


def _images(arrays: dict[str, NDArray[Any]]) -> tuple[list[NDArray[Any]], tuple[int, int] | None]:
    """Check the images of each part, by name; return them as rows, and the shape of an image.

    The parts are judged together: a blank test set is not binary where the training set is grey.
    """
    first, like = next(iter(arrays.items()))
    for what, x in arrays.items():
        if x.dtype not in (np.uint8, np.bool_) and (x.dtype.kind != "f" or x.dtype.itemsize > 8):
            raise ValueError(
                f"{what} are {x.dtype}, must be uint8, bool or float16, 32 or 64: see astype"
            )
        if x.ndim not in (2, 3) or x.size == 0:
            raise ValueError(
                f"{what} have shape {x.shape}, must be (N, D) or (N, height, width), none of them 0"
            )
        if (x.dtype, x.shape[1:]) != (like.dtype, like.shape[1:]):
            raise ValueError(
                f"{what} are {x.dtype} {x.shape[1:]}, must be {like.dtype} {like.shape[1:]}"
                f" like {first}"
            )
    # Mapped files are looked at before they are read for the first time.
    parts = {k: MappedFile(x) if isinstance(x, np.memmap) else x for k, x in arrays.items()}
    image_shape = (like.shape[1], like.shape[2]) if like.ndim == 3 else None
    kept: type[np.uint8 | np.float32]
    convert: Convert
    if like.dtype.kind == "f":
        for what, part in parts.items():
            _check_finite(what, part)
        kept, convert = np.float32, partial(np.asarray, dtype=np.float32)
    elif like.dtype == np.bool_ or all(x[b].max() <= 1 for x in parts.values() for b in chunks(x)):
        kept, convert = np.uint8, partial(np.multiply, 255, dtype=np.uint8)
    else:
        kept, convert = np.uint8, np.asarray
    return [
        rows_of(x, kept, convert)
        if isinstance(x, MappedFile)
        else convert(np.ascontiguousarray(x.reshape(len(x), -1)))
        for x in parts.values()
    ], image_shape


def _check_finite(what: str, x: NDArray[Any] | MappedFile) -> None:
    count, first = 0, ""
    for rows in chunks(x):
        part = x[rows]
        part = part.reshape(len(part), -1)
        with np.errstate(over="ignore", invalid="ignore"):
            bad = ~np.isfinite(part.astype(np.float32, copy=False))
        if bad.any() and not count:
            row = bad.any(axis=1).argmax()
            first = f"({part[row][bad[row]][0]:g}) in row {rows.start + row}"
        count += int(np.count_nonzero(bad))
    if count:
        raise ValueError(
            f"{what} hold {count} values that are not finite in float32, the first {first}"
        )


def _labels(what: str, y: NDArray[Any] | None, n: int) -> NDArray[Any] | None:
    if y is not None and (y.dtype.kind not in "iu" or y.shape != (n,)):
        raise ValueError(f"{what} are {y.dtype} {y.shape}, must be integers ({n},), one per image")
    return y


def guess_image_shape(d: int) -> tuple[int, int]:
    """Return (height, width), height <= width, of the most square image of d pixels."""
    height = next(h for h in range(math.isqrt(d), 0, -1) if d % h == 0)
    return height, d // height


def value_range(x: NDArray[Any]) -> tuple[float, float]:
    """Return what is black and what is white in pictures of x: 0 and 1, if they hold all of it.

    uint8 pixels stand for value / 255, and 0 and 1 hold all of them.
    """
    if x.dtype == np.uint8:
        return 0.0, 1.0
    low, high = float(x.min()), float(x.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1


def fingerprint(data: Dataset) -> str:
    """Return a SHA-256 of the training and the test images, by which a run knows its data.

    It covers pixels, order, dtype and split, before binarisation, but not file names or labels. So
    a run is resumed on the images that it began with, `evaluate` and `plot` never use training
    images as held-out ones, and a file may be moved, renamed or converted (`.npy` to `.npz`).
    """
    import hashlib

    digest = hashlib.sha256()
    for x in data.train, data.test:
        digest.update(f"{x.dtype.str} {x.shape} ".encode())
        for rows in chunks(x):
            digest.update(np.ascontiguousarray(x[rows]).data)
    return digest.hexdigest()


# From pixels to minibatches -------------------------------------------------------------------


def to_float(images: NDArray[Any], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Return pixels as floats: uint8 as value / 255, floats as they are (copied only if need be).

    0 is exactly 0.0 and 255 exactly 1.0, in float32 as in float64. A uint8 1 is a nearly black
    1 / 255, also where only 0 and 1 occur: it is `load_array` that knows binary images. ValueError
    for any other dtype.
    """
    images = np.asarray(images)
    if images.dtype.kind == "f":
        return images.astype(dtype, copy=False)
    if images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype}, must be uint8 or floats")
    x = images.astype(dtype)
    x *= np.asarray(1 / 255, dtype)  # faster than one product of two dtypes
    return x


def split_validation(data: Dataset, size: int) -> Dataset:
    """Set `size` of the training images aside, to compare settings on; the test set is not touched.

    The choice is the same for every run, whatever its seed. The others keep their order. ValueError
    if `size` is not a whole number that leaves a training image.
    """
    check_whole("the number of validation images", size, 0, len(data.train) - 1)
    if size == 0:
        return data
    kept = np.ones(len(data.train), bool)
    kept[np.random.default_rng(_SPLIT_SEED).permutation(len(kept))[:size]] = False
    labels, factors = data.train_labels, data.train_factors
    return replace(
        data,
        train=subset(data.train, kept),
        train_labels=None if labels is None else labels[kept],
        train_factors=None if factors is None else factors[kept],
        validation=subset(data.train, ~kept),
        validation_labels=None if labels is None else labels[~kept],
    )


def binarized(data: Dataset, mode: str) -> Dataset:
    """Return the data as `mode` keeps them: for `threshold` and `static` as 0 and 255.

    For `none`, and for `dynamic`, which `batch` draws, they are returned unchanged. The draw of
    `static` is like Larochelle's static MNIST [3] in kind, not the same bits. It is the same for
    every run, whatever its seed; training and test set have streams of their own. ValueError if
    `mode` is not in `BINARIZE`, is not `none` and pixels lie outside [0, 1], or is `static` and the
    images stay on the disk.
    """
    check_choice("binarize", mode, BINARIZE)
    if mode == "none":
        return data
    sets: dict[str, NDArray[Any] | Rows] = {"train": data.train, "test": data.test}
    if data.validation is not None:
        sets["validation"] = data.validation
    for x in sets.values():
        if mode == "static" and isinstance(x, Rows):
            raise ValueError(
                f"{data.name}: binarize is 'static', must be none, threshold or dynamic for a .npy"
                f" of {MAPPED >> 20} MiB or more, which stays on the disk (or save it as .npz)"
            )
        if x.dtype != np.uint8 and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                f"{data.name}: pixels run from {x.min():g} to {x.max():g},"
                f" must lie in [0, 1] for binarize={mode!r}"
            )
    if mode == "dynamic":
        return data
    seeds = np.random.SeedSequence(_STATIC_SEED).spawn(3)
    for (name, x), seed in zip(sets.items(), seeds, strict=False):
        rng = np.random.default_rng(seed) if mode == "static" else None
        draw = partial(black_or_white, rng=rng)
        sets[name] = rows_of(x, np.uint8, draw) if isinstance(x, Rows) else draw(x)
    return replace(data, **sets)  # type: ignore[arg-type]


def left_to_draw(mode: str) -> str:
    """Return what is left for `batch` to do, once `binarized` has done its part."""
    return "dynamic" if mode == "dynamic" else "none"


def black_or_white(images: NDArray[Any], rng: np.random.Generator | None) -> NDArray[np.uint8]:
    """Return 255 where a uniform draw, or 1/2 without `rng`, is less than the pixel, else 0."""
    result = np.empty(images.shape, np.uint8)
    # One draw a pixel, in their order: NumPy's stream is the same drawn in parts and at once, for
    # an odd number of float32, too. The tests of `static` hold it to that.
    for rows in chunks(images):
        x = to_float(images[rows])
        white = (0.5 if rng is None else rng.random(x.shape, dtype=np.float32)) < x
        np.multiply(white, 255, out=result[rows], dtype=np.uint8)
    return result


def batch(
    images: NDArray[Any],
    rows: NDArray[np.intp] | slice,
    *,
    binarize: str = "none",
    rng: np.random.Generator | None,
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """Return some rows of `binarized` data, (B, D), as the model wants them.

    For `dynamic` they are drawn anew, x ~ Bernoulli(p), p the value of the pixel: always 1 for
    p = 1, always 0 for p = 0. The draw is made in float32 whatever `dtype` (float32, float64, or
    complex128 for the complex step), so that a run in float64 sees the same images. `rng` must
    be a Generator: a seed would draw the same noise for every batch. Do not write to the result:
    for a slice of floats it may be a view of `images`.
    """
    check_choice("binarize", binarize, BINARIZE)
    if binarize != "dynamic":
        return to_float(gathered(images, rows), dtype)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng is {rng!r}, must be a numpy.random.Generator for binarize='dynamic'")
    p = to_float(gathered(images, rows))
    u = rng.random(p.shape, dtype=np.float32)
    return np.less(u, p, out=u).astype(dtype, copy=False)


def minibatches(n: int, batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Return one epoch of N images in random order: index arrays (B,), the last perhaps smaller.

    Every index occurs exactly once. The order is drawn at the call, not at the first batch.
    ValueError if `batch_size` is not a whole number of at least 1.
    """
    step = check_whole("batch_size", batch_size, 1, 2**31 - 1)
    order = rng.permutation(n).astype(np.intp, copy=False)
    return (order[start : start + step] for start in range(0, n, step))
