"""Data: what is read, what is refused, where it is looked for, and how it is drawn."""

import gzip
import hashlib
import http.server
import io
import math
import os
import struct
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from dataclasses import FrozenInstanceError, replace
from http.client import BadStatusLine
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from numpy_vae.data import dataset as data_module
from numpy_vae.data import mapped as mapped_module
from numpy_vae.data.dataset import (
    BINARIZE,
    MAPPED,
    MNIST_FILES,
    Dataset,
    batch,
    binarized,
    cache_folder,
    fingerprint,
    guess_image_shape,
    load_array,
    load_mnist,
    minibatches,
    read_idx,
    read_images,
    split_validation,
    to_float,
    value_range,
)

PLACE = Path(os.environ.get("NUMPY_VAE_DATA") or "nowhere")
REAL = [PLACE] if (PLACE / "train-images-idx3-ubyte.gz").is_file() else []
NAMES = list(MNIST_FILES)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data, no cache and no network, unless a test brings its own."""
    home = tmp_path / "home"
    for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.delenv("NUMPY_VAE_DATA", raising=False)
    monkeypatch.setattr(data_module, "MNIST_MIRRORS", ())


def idx(array):
    """Return an array of bytes as the content of an IDX file."""
    array = np.asarray(array, np.uint8)
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def header(*shape):
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)


def four(n=7, *, shape=(3, 2), n_test=4):
    """Return the contents of four small files, by the names of the MNIST files."""
    rng = np.random.default_rng(n)
    arrays = [
        rng.integers(0, 256, (n, *shape)),
        rng.integers(0, 10, n),
        rng.integers(0, 256, (n_test, *shape)),
        rng.integers(0, 10, n_test),
    ]
    return {name: gzip.compress(idx(a), mtime=0) for name, a in zip(NAMES, arrays, strict=True)}


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def check_error(caught, *parts):
    """Check that an error is one line and holds these parts."""
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


def test_import_is_light():
    code = (
        "import sys, numpy_vae.data.dataset;"
        "print(*{'urllib.request', 'http', 'ssl', 'scipy', 'matplotlib'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.split() == []


# IDX files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 1, 1), (9,)], ids=str)
def test_read_idx(tmp_path, rng, shape, pack):
    array = rng.integers(0, 256, shape, np.uint8)
    # The name says the opposite of the content, which decides.
    path = tmp_path / ("file.gz" if pack is bytes else "file")
    path.write_bytes(pack(idx(array)))
    result = read_idx(path)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, array)


IDX = idx(np.arange(60).reshape(5, 4, 3))
PACKED = gzip.compress(IDX, mtime=0)
BAD_IDX = {
    "empty": (b"", "empty, must be an IDX file"),
    "empty gzip": (gzip.compress(b""), "empty, must be an IDX file"),
    "magic cut": (IDX[:3], "starts with 0x000008, must be"),
    "header cut": (IDX[:15], "header is cut at byte 15, must be 16"),
    "header of labels cut": (idx([1, 2])[:6], "header is cut at byte 6, must be 8"),
    "data cut": (IDX[:-1], "promises 60 bytes.*holds 59"),
    "no data": (IDX[:16], "promises 60 bytes.*holds 0"),
    "trailing byte": (IDX + b"\0", "promises 60 bytes.*holds more"),
    "data cut, in gzip": (gzip.compress(IDX[:-1]), "promises 60 bytes.*holds 59"),
    "trailing byte, in gzip": (gzip.compress(IDX + b"\0"), "promises 60 bytes.*holds more"),
    "floats": (b"\0\0\x0d\x03" + IDX[4:], "0x00000d03, must be.*0x00000803.*0x00000801"),
    "two axes": (b"\0\0\x08\x02" + IDX[4:], "0x00000802, must be"),
    "another kind of file": (b"\x89PNG\r\n\x1a\n", "0x89504e47, must be"),
    "gzip with a bad CRC": (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "damaged .CRC"),
    "gzip with a bad length": (PACKED[:-4] + b"\0\0\0\0", "damaged .Incorrect length"),
    "gzip cut in its data": (PACKED[:-20], "damaged .Compressed file ended"),
    "gzip cut in its end": (PACKED[:-3], "damaged .Compressed file ended"),
    "gzip cut in its header": (PACKED[:5], "damaged .Compressed file ended"),
    "gzip that is no deflate": (PACKED[:10] + b"\7" + PACKED[11:], "damaged .Error -3"),
    "gzip of another method": (PACKED[:2] + b"\7" + PACKED[3:], "damaged .Unknown compression"),
    "gzip and then more": (PACKED + b"more", "damaged .Not a gzipped file"),
    "no images": (header(0, 28, 28), r"holds \(0, 28, 28\), must be 1 or more"),
    "no labels": (header(0), r"holds \(0,\), must be 1 or more"),
    "no rows": (header(5, 0, 28), r"holds \(5, 0, 28\), must be 1 or more"),
    "absurd sides": (header(1, 2**32 - 1, 1), "4294967295, 1.*must be.*1 to 65535"),
    "a side too long": (header(1, 65536, 1) + bytes(65536), "65536, 1.*must be.*1 to 65535"),
    "petabytes": (header(2**32 - 1, 65535, 65535), "promises 18446181123756261375.* holds 0"),
    "petabytes, in gzip": (gzip.compress(header(2**32 - 1, 999, 999) + bytes(9)), "holds 9"),
}


@pytest.mark.parametrize(("content", "match"), BAD_IDX.values(), ids=BAD_IDX)
def test_read_idx_refuses(tmp_path, content, match):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    check_error(caught)


@pytest.mark.parametrize(
    "shape", [(70_000,), (70_000, 1, 1), (1, 65535, 1), (1, 1, 65535)], ids=str
)
def test_only_the_sides_of_an_image_have_a_limit(tmp_path, shape):
    (tmp_path / "file").write_bytes(header(*shape) + bytes(math.prod(shape)))
    assert read_idx(tmp_path / "file").shape == shape


def test_one_byte_more_than_promised_is_read():
    stream = io.BytesIO(header(5, 4, 3) + bytes(1000))
    with pytest.raises(ValueError, match="holds more"):
        data_module._parse_idx(stream)
    assert stream.tell() == 16 + 60 + 1


def test_a_file_is_read_a_mebibyte_at_a_time():
    asked = []

    class Stream(io.BytesIO):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    n = 5 << 19
    assert len(data_module._parse_idx(Stream(header(n) + bytes(n)))) == n
    assert asked == [4, 4, 1 << 20, 1 << 20, (1 << 19) + 1, 1]


def test_read_idx_of_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_memory_is_one_copy_of_what_the_file_holds(tmp_path, pack):
    whole, lying = tmp_path / "whole", tmp_path / "lying"
    whole.write_bytes(pack(header(8000, 32, 32) + bytes(8_192_000)))
    lying.write_bytes(pack(header(2**30, 32, 32) + bytes(1000)))
    tracemalloc.start()
    read_idx(whole)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    with pytest.raises(ValueError, match="promises"):
        read_idx(lying)
    lying_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_192_000 * 1.2 + 2_000_000
    assert lying_peak < 3_000_000


# MNIST: lookup ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "n"),
    [("named env cache", 5), ("env cache", 6), ("cache", 7), ("named cache", 5), ("named", 5)],
)
def test_lookup_order(tmp_path, monkeypatch, held, n):
    folders = {"named": tmp_path / "named", "env": tmp_path / "env", "cache": cache_folder()}
    for size, (place, folder) in enumerate(folders.items(), start=5):
        folder.mkdir(parents=True)
        if place in held.split():
            put(folder, four(size))
    if "env" in held:
        monkeypatch.setenv("NUMPY_VAE_DATA", str(folders["env"]))
    assert len(load_mnist(folders["named"] if "named" in held else None).train) == n


@pytest.mark.parametrize("how", ["data_dir", "NUMPY_VAE_DATA"])
@pytest.mark.parametrize("missing", [NAMES[3:], NAMES], ids=["one file", "all files"])
def test_a_folder_that_is_named_is_used_or_refused_by_name(tmp_path, monkeypatch, how, missing):
    put(cache_folder(), four(6))
    named = put(tmp_path / "named", {n: c for n, c in four(5).items() if n not in missing})
    (named / missing[0]).mkdir()  # a folder of that name is none of the files
    monkeypatch.setenv("NUMPY_VAE_DATA", str(named))
    with pytest.raises(OSError, match=f"^{how} is .*, which has no {missing[0]}") as caught:
        load_mnist(named if how == "data_dir" else None)
    check_error(caught, named, *missing)


def test_a_missing_folder_in_the_environment_is_reported(tmp_path, monkeypatch):
    put(cache_folder(), four(6))
    monkeypatch.setenv("NUMPY_VAE_DATA", str(tmp_path / "mnsit"))
    with pytest.raises(OSError, match=r"^NUMPY_VAE_DATA is .*mnsit, must be an existing folder"):
        load_mnist()


def test_files_may_be_gzipped_or_not(tmp_path):
    files = four()
    plain = {name.removesuffix(".gz"): gzip.decompress(files.pop(name)) for name in NAMES[1:3]}
    assert load_mnist(put(tmp_path, files | plain)).train.shape == (7, 6)


def test_of_two_forms_of_a_file_the_gzipped_one_is_read(tmp_path):
    plain = {name.removesuffix(".gz"): gzip.decompress(c) for name, c in four(6).items()}
    assert len(load_mnist(put(tmp_path, four(7) | plain)).train) == 7


def test_mnist_contents(tmp_path):
    files = four(shape=(3, 2))
    data = load_mnist(put(tmp_path, files))
    arrays = [np.frombuffer(gzip.decompress(files[name]), np.uint8) for name in NAMES]
    assert (data.name, data.image_shape) == ("mnist", (3, 2))
    for result, array in zip((data.train, data.test), arrays[::2], strict=True):
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, array[16:].reshape(-1, 6))
    for result, array in zip((data.train_labels, data.test_labels), arrays[1::2], strict=True):
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, array[8:])


@pytest.mark.parametrize("name", ["none", "file"])
def test_data_dir_must_be_a_folder(tmp_path, name):
    (tmp_path / "file").touch()
    put(cache_folder(), four())
    with pytest.raises(OSError, match="must be an existing folder") as caught:
        load_mnist(tmp_path / name)
    check_error(caught, tmp_path / name)


TRAIN, TRAIN_LABELS, TEST, _ = NAMES
MISMATCHED = {
    "labels for images": ({TRAIN: four()[TRAIN_LABELS]}, TRAIN),
    "images for labels": ({TRAIN_LABELS: four()[TRAIN]}, TRAIN_LABELS),
    "a label too many": ({TRAIN_LABELS: four(8)[TRAIN_LABELS]}, TRAIN_LABELS),
    "another size in test": ({TEST: four(shape=(2, 3))[TEST]}, TEST),
    "damaged": ({TEST: four()[TEST][:-9]}, TEST),
}


@pytest.mark.parametrize(("files", "name"), MISMATCHED.values(), ids=MISMATCHED)
def test_files_that_do_not_belong_together(tmp_path, files, name):
    put(tmp_path, four() | files)
    with pytest.raises(ValueError, match="must be") as caught:
        load_mnist(tmp_path)
    check_error(caught, tmp_path, name)


@pytest.mark.parametrize(
    ("platform", "variable", "parts"),
    [
        ("linux", "XDG_CACHE_HOME", ("base", "numpy_vae")),
        ("linux", None, ("home", ".cache", "numpy_vae")),
        ("darwin", None, ("home", "Library", "Caches", "numpy_vae")),
        ("win32", "LOCALAPPDATA", ("base", "numpy_vae")),
        ("win32", None, ("home", "AppData", "Local", "numpy_vae")),
    ],
)
def test_cache_folder(tmp_path, monkeypatch, platform, variable, parts):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("LOCALAPPDATA", "")
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "base"))
    assert cache_folder() == tmp_path.joinpath(*parts)


@pytest.mark.parametrize("cache", [None, "~nobody-of-this-name/cache", "relative"])
def test_without_a_home_no_folder_is_made(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    if cache is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no HOME, no entry of the user
    with pytest.raises(OSError, match="there is no home folder") as caught:
        load_mnist()
    check_error(caught, "--data-dir", "NUMPY_VAE_DATA")
    assert list(tmp_path.iterdir()) == []


# MNIST: download --------------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Put four small files on a mirror, and let them be the ones expected."""
    files = four()
    expected = {n: (len(c), hashlib.sha256(c).hexdigest()) for n, c in files.items()}
    monkeypatch.setattr(data_module, "MNIST_FILES", expected)
    return put(tmp_path / "mirror", files)


def set_mirrors(monkeypatch, *urls):
    monkeypatch.setattr(data_module, "MNIST_MIRRORS", urls)


@pytest.mark.parametrize("slash", ["", "/"], ids=["bare", "slash"])
def test_download_goes_to_the_cache_and_is_not_repeated(tmp_path, monkeypatch, mirror, slash):
    set_mirrors(monkeypatch, mirror.as_uri() + slash)
    data = load_mnist()
    assert sorted(path.name for path in cache_folder().iterdir()) == sorted(NAMES)
    set_mirrors(monkeypatch)
    np.testing.assert_array_equal(load_mnist().train, data.train)


def wrong_bytes(content):
    return content[:-1] + b"\xff"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (wrong_bytes, "its SHA-256 is"),
        (lambda content: content[:-1], r"its size is \d+, must be"),
        (lambda content: b"", "its size is 0, must be"),
        (lambda content: content + b"\0", "its size is more, must be"),
    ],
    ids=["other bytes", "short", "empty", "long"],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_file_never_takes_its_name(tmp_path, monkeypatch, mirror, name, spoil, reason):
    bad = put(tmp_path / "bad", {n: (mirror / n).read_bytes() for n in NAMES})
    (bad / name).write_bytes(spoil((bad / name).read_bytes()))
    set_mirrors(monkeypatch, bad.as_uri(), (tmp_path / "none").as_uri())
    with pytest.raises(OSError, match=reason) as caught:
        load_mnist()
    check_error(caught, f"{bad.as_uri()} failed at {name}", f"none failed at {name}")
    # What came before it is kept; of the file itself nothing, not even a temporary.
    assert sorted(p.name for p in cache_folder().iterdir()) == sorted(NAMES[: NAMES.index(name)])

    set_mirrors(monkeypatch, bad.as_uri(), mirror.as_uri())
    assert load_mnist().train.shape == (7, 6)


def test_the_last_word_says_what_was_tried_and_what_to_do(tmp_path, monkeypatch):
    urls = [(tmp_path / name).as_uri() for name in ("one", "two")]
    set_mirrors(monkeypatch, *urls)
    with pytest.raises(OSError) as caught:
        load_mnist()
    check_error(caught, cache_folder(), *urls, *NAMES)
    check_error(caught, "--data-dir", "NUMPY_VAE_DATA")
    assert not any(cache_folder().iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_download_removes_what_a_killed_one_left(monkeypatch, mirror):
    set_mirrors(monkeypatch, mirror.as_uri())
    cache_folder().mkdir(parents=True)
    (cache_folder() / ".numpy-vae-0123abc_.tmp").write_text("half of it")
    load_mnist()
    assert sorted(path.name for path in cache_folder().iterdir()) == sorted(NAMES)


def test_a_cache_that_cannot_be_made(tmp_path, monkeypatch, mirror):
    (tmp_path / "home").write_text("a file where the cache should be")
    set_mirrors(monkeypatch, mirror.as_uri())
    with pytest.raises(OSError, match="home"):
        load_mnist()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_a_404_hands_over_to_the_next_mirror(monkeypatch, mirror):
    monkeypatch.setenv("no_proxy", "*")
    (mirror / "sub").mkdir()

    def handler(*args):
        return Quiet(*args, directory=str(mirror))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            set_mirrors(monkeypatch, url + "sub/")
            with pytest.raises(OSError, match=f"{url}sub/ failed at {NAMES[0]} .HTTP Error 404"):
                load_mnist()
            set_mirrors(monkeypatch, url + "sub/", url)
            assert load_mnist().train.shape == (7, 6)
        finally:
            server.shutdown()
            thread.join()


class Reply(io.RawIOBase):
    """A reply without end, that notes what is read of it."""

    def __init__(self):
        super().__init__()
        self.asked, self.given = [], 0

    def read(self, size=-1):
        assert 0 <= size <= 1 << 20 > self.given
        self.asked.append(size)
        self.given += size
        return bytes(size)


def test_no_more_is_read_than_expected_and_64_kib_at_a_time(monkeypatch, mirror):
    timeouts, reply = [], Reply()

    def urlopen(url, timeout):
        timeouts.append(timeout)
        return reply

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    set_mirrors(monkeypatch, "https://mirror.invalid/")
    monkeypatch.setitem(data_module.MNIST_FILES, NAMES[0], (150_000, ""))
    with pytest.raises(OSError, match="its size is more"):
        load_mnist()
    assert reply.asked == [1 << 16, 1 << 16, 150_001 - (2 << 16), 0]
    assert 10 <= min(timeouts) <= max(timeouts) <= 30


@pytest.mark.parametrize(
    "error",
    [
        URLError("no network"),
        TimeoutError(),
        BadStatusLine("?"),
        ConnectionResetError(104, "reset"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_mirror_that_fails_hands_over(monkeypatch, mirror, error):
    tried = []

    def urlopen(url, timeout):
        tried.append(url)
        if "first" in url:
            raise error
        return open(mirror / url.rpartition("/")[2], "rb")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    set_mirrors(monkeypatch, "https://first.invalid", "https://second.invalid/")
    assert load_mnist().train.shape == (7, 6)
    assert tried[1:] == [f"https://second.invalid/{name}" for name in NAMES]

    set_mirrors(monkeypatch, "https://first.invalid")
    cached = cache_folder() / NAMES[0]
    cached.unlink()
    with pytest.raises(OSError) as caught:
        load_mnist()
    check_error(caught, f"first.invalid failed at {NAMES[0]} (", str(error) or "TimeoutError")
    assert not cached.exists()


# MNIST: the real files --------------------------------------------------------------------------


@pytest.mark.skipif(not REAL, reason="no MNIST files in $NUMPY_VAE_DATA")
def test_real_mnist():
    data = load_mnist(REAL[0])
    assert (data.train.shape, data.test.shape) == ((60_000, 784), (10_000, 784))
    assert data.image_shape == (28, 28)
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.train_labels).tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(data.test_labels).tolist() == counts
    assert data.train.mean() / 255 == pytest.approx(0.1307, abs=5e-5)


@pytest.mark.skipif(not REAL, reason="no MNIST files in $NUMPY_VAE_DATA")
@pytest.mark.parametrize("name", NAMES)
def test_constants_are_those_of_the_real_files(name):
    content = (REAL[0] / name).read_bytes()
    assert MNIST_FILES[name] == (len(content), hashlib.sha256(content).hexdigest())


# A user's own arrays ----------------------------------------------------------------------------


def grey(*shape):
    return np.random.default_rng(1).integers(2, 256, shape, np.uint8)


def loaded(x, labels=None, name="mine"):
    """Return the data set of a file that holds one array of images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.npz")
        np.savez(path, **{"images": x} | ({} if labels is None else {"labels": labels}))
        return load_array(path)


@pytest.mark.parametrize("n", [2, 5, 6, 12, 100])
@pytest.mark.mathematics
def test_split_is_a_fixed_permutation(n):
    x = np.arange(2, n + 2, dtype=np.float32)[:, None] * [1, 100]
    data = loaded(x, np.arange(n))
    assert data.name == "mine"
    assert len(data.test) == max(1, n // 6)
    order = np.concatenate([data.train_labels, data.test_labels])
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    np.testing.assert_array_equal(np.concatenate([data.train, data.test]), x[order])
    # The same in every version: a test image of one run must never be a training image of another.
    if n == 12:
        assert data.test_labels.tolist() == np.random.default_rng(0).permutation(12)[-2:].tolist()
    if n == 100:
        assert order.tolist() != list(range(100))


@pytest.mark.parametrize("shape", [(12, 6), (12, 3, 2)], ids=str)
@pytest.mark.parametrize(
    ("dtype", "kept"),
    [("u1", "u1"), ("f2", "f4"), ("f4", "f4"), ("f8", "f4"), (">f8", "f4"), (">f4", "f4")],
)
def test_dtypes_and_shapes(dtype, kept, shape):
    x = grey(*shape).astype(dtype)
    data = loaded(np.asfortranarray(x), np.arange(12))
    assert data.train.dtype == data.test.dtype == np.dtype(kept)
    assert data.train.dtype.isnative
    assert data.train.flags.c_contiguous
    assert data.image_shape == (None if len(shape) == 2 else (3, 2))
    np.testing.assert_array_equal(data.train, x.reshape(12, 6)[data.train_labels])


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8])
def test_binary_images_are_kept_as_0_and_255(dtype):
    # The trap: a uint8 1 stands for 1 / 255, and a binary data set would become nearly black.
    x = np.array([[0, 1], [1, 1], [1, 0]], dtype)
    data = loaded(x, np.arange(3))
    assert data.train.dtype == np.uint8
    expected = x[np.concatenate([data.train_labels, data.test_labels])].astype(np.float32)
    np.testing.assert_array_equal(to_float(np.concatenate([data.train, data.test])), expected)
    assert to_float(np.array([1], np.uint8)) == np.float32(1 / 255)


def test_the_darkest_greys_are_not_binary():
    x = np.array([[0, 2], [2, 1]], np.uint8)
    data = loaded(x, np.arange(2))
    assert (
        np.concatenate([data.train, data.test]).tolist()
        == x[np.concatenate([data.train_labels, data.test_labels])].tolist()
    )


def test_a_data_set_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        COUNTED.name = "other"


def test_a_file_of_256_mib_stays_on_the_disk():
    assert MAPPED == 268_435_456


def test_a_split_is_binary_as_a_whole_or_not_at_all(tmp_path):
    train, test = np.array([[0, 7]], np.uint8), np.array([[0, 1]], np.uint8)
    np.savez(tmp_path / "x.npz", train=train, test=test)
    assert load_array(tmp_path / "x.npz").test.tolist() == [[0, 1]]
    np.savez(tmp_path / "x.npz", train=test, test=test)
    assert load_array(tmp_path / "x.npz").test.tolist() == [[0, 255]]


def test_binary_floats_stay_what_they_are():
    data = loaded(np.array([[0.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_array_equal(np.sort(data.train), [[0, 1]])


def with_values(values, dtype=np.float64):
    x = np.zeros((9, 4), dtype)
    for row, value in values.items():
        x[row, 2] = value
    return x


SQUARES = np.zeros((9, 2, 2))
SQUARES[4, 1, 0] = np.nan
SIGNALLING = np.array(0x7FF0000000000001).view(np.float64)[()]  # a conversion of it raises a flag
SINGLE = np.zeros((9, 4), np.uint8)
BAD_ARRAY = {
    "int64": (np.zeros((9, 4), np.int64), "images are int64, must be uint8, bool or float16"),
    "uint16": (np.zeros((9, 4), np.uint16), "images are uint16, must be"),
    "int8": (np.zeros((9, 4), np.int8), "images are int8, must be"),
    "complex": (np.zeros((9, 4), complex), "images are complex128, must be"),
    "strings": (np.full((9, 4), "a"), "images are <U1, must be"),
    "objects": (np.full((9, 4), None), "pickled objects"),
    "structured": (np.zeros((9, 4), [("a", "f4")]), r"images are \[.*'a'.*, must be"),
    "dates": (np.zeros((9, 4), "M8[s]"), r"images are datetime64\[s\], must be"),
    "0-D": (np.float32(1), r"images have shape \(\), must be"),
    "1-D": (np.zeros(9, np.uint8), r"images have shape \(9,\), must be"),
    "4-D": (np.zeros((9, 4, 4, 3), np.uint8), r"images have shape \(9, 4, 4, 3\), must be"),
    "no images": (np.zeros((0, 4), np.uint8), r"images have shape \(0, 4\), must be"),
    "no width": (np.zeros((9, 4, 0), np.uint8), r"images have shape \(9, 4, 0\), must be"),
    "one image": (np.zeros((1, 4), np.uint8), "there is 1 image, must be 2 or more"),
    "NaN": (with_values({3: np.nan, 7: np.nan}), r"hold 2 values .* first \(nan\) in row 3"),
    "NaN in a square": (SQUARES, r"hold 1 values .* first \(nan\) in row 4"),
    "infinity": (with_values({5: -np.inf}, np.float16), r"1 values .* first \(-inf\) in row 5"),
    "beyond float32": (with_values({2: 1.0, 4: 1e39}), r"1 values .* first \(1e\+39\) in row 4"),
    "signalling NaN": (with_values({1: SIGNALLING}), r"hold 1 values .* first \(nan\) in row 1"),
}
if np.dtype(np.longdouble).itemsize > 8:
    BAD_ARRAY["long double"] = (np.zeros((9, 4), np.longdouble), "images are .*float.*must be")


@pytest.mark.parametrize(("x", "match"), BAD_ARRAY.values(), ids=BAD_ARRAY)
def test_images_refused(tmp_path, x, match):
    np.save(tmp_path / "mine.npy", x)
    with pytest.raises(ValueError, match=match) as caught:
        load_array(tmp_path / "mine.npy")
    assert str(caught.value).startswith(f"{tmp_path / 'mine.npy'}: ")
    check_error(caught)


def test_the_first_bad_value_is_the_first_of_all_chunks(monkeypatch):
    monkeypatch.setattr(mapped_module, "_CHUNK", 8)  # two rows
    x = with_values({3: np.inf, 4: np.nan, 7: np.nan})
    with pytest.raises(ValueError, match=r": images hold 3 values .*, the first \(inf\) in row 3$"):
        loaded(x)


@pytest.mark.parametrize(
    "labels",
    [np.zeros(8, int), np.zeros((9, 1), int), np.zeros(9), np.zeros(9, bool), np.full(9, "a")],
    ids=["too few", "2-D", "floats", "bool", "strings"],
)
def test_labels_refused(tmp_path, labels):
    with pytest.raises(ValueError, match=r"labels are .* must be integers \(9,\), one per image"):
        loaded(SINGLE, labels)
    for name, images in (
        ("label", ["images"]),
        ("y_train", ["x_train", "x_test"]),
        ("test_labels", ["train", "test"]),
    ):
        np.savez(tmp_path / "mine.npz", **dict.fromkeys(images, SINGLE), **{name: labels})
        with pytest.raises(ValueError, match=rf" {name} are .* must be integers \(9,\)") as caught:
            load_array(tmp_path / "mine.npz")
        check_error(caught, tmp_path / "mine.npz")


@pytest.mark.parametrize("names", ["x_train x_test y_train y_test", "train test t_l t_l"])
@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
def test_a_given_split_is_kept(tmp_path, names, labelled):
    names = names.replace("t_l t_l", "train_labels test_labels").split()
    arrays = [
        grey(5, 3, 2),
        grey(4, 3, 2),
        np.arange(5),
        np.arange(4, dtype=np.uint8),
    ]
    held = list(zip(names, arrays, strict=True))[: 4 if labelled else 2]
    np.savez(tmp_path / "mine.npz", **dict(held))
    data = load_array(tmp_path / "mine.npz")
    assert (data.name, data.image_shape) == ("mine", (3, 2))
    np.testing.assert_array_equal(data.train, arrays[0].reshape(5, 6))
    np.testing.assert_array_equal(data.test, arrays[1].reshape(4, 6))
    if labelled:
        np.testing.assert_array_equal(data.train_labels, arrays[2])
        np.testing.assert_array_equal(data.test_labels, arrays[3])
    else:
        assert data.train_labels is data.test_labels is None


def test_images_stored_by_column_become_rows(tmp_path):
    np.savez(tmp_path / "mine.npz", train=np.asfortranarray(grey(5, 6)), test=grey(4, 6))
    data = load_array(tmp_path / "mine.npz")
    assert data.train.flags.c_contiguous
    np.testing.assert_array_equal(data.train, grey(5, 6))


def test_a_single_array_is_of_images_whatever_its_name(tmp_path):
    np.savez(tmp_path / "mine.npz", labels=grey(12, 6))
    data, expected = load_array(tmp_path / "mine.npz"), loaded(grey(12, 6))
    np.testing.assert_array_equal(data.train, expected.train)


def test_an_image_may_be_one_pixel_and_a_part_one_image(tmp_path):
    np.savez(tmp_path / "mine.npz", train=np.uint8([[7]]), test=np.uint8([[9]]))
    data = load_array(tmp_path / "mine.npz")
    assert (data.train.tolist(), data.test.tolist()) == ([[7]], [[9]])


@pytest.mark.parametrize("label", [None, "labels", "label", "y"])
@pytest.mark.parametrize("name", ["x", "faces", "train", "arr_0"])
def test_one_array_of_any_name_is_split(tmp_path, name, label):
    x, y = grey(12, 6), np.arange(12)
    np.savez(tmp_path / "mine.npz", **{name: x}, **({label: y} if label else {}))
    data, expected = load_array(tmp_path / "mine.npz"), loaded(x, y)
    np.testing.assert_array_equal(data.train, expected.train)
    np.testing.assert_array_equal(data.test, expected.test)
    if label:
        np.testing.assert_array_equal(data.test_labels, expected.test_labels)
    else:
        assert data.train_labels is data.test_labels is None


def test_npy_under_any_suffix(tmp_path):
    with open(tmp_path / "mine.data", "wb") as stream:
        np.save(stream, grey(12, 6))
    data = load_array(tmp_path / "mine.data")
    assert data.name == "mine"
    np.testing.assert_array_equal(data.train, loaded(grey(12, 6)).train)


@pytest.mark.parametrize(
    "names",
    [
        "",
        "a b",
        "a b labels",
        "a labels y",
        "labels y",
        "x_train x_test labels",
        "x_train test",
        "train test y",
    ],
)
def test_other_layouts_are_refused(tmp_path, names):
    np.savez(tmp_path / "mine.npz", **dict.fromkeys(names.split(), SINGLE))
    with pytest.raises(ValueError, match="must be x_train and x_test") as caught:
        load_array(tmp_path / "mine.npz")
    check_error(caught, tmp_path / "mine.npz", *map(repr, names.split()))


@pytest.mark.parametrize(
    ("test", "match"),
    [
        (np.zeros((9, 5), np.uint8), r"x_test are uint8 \(5,\), must be uint8 \(4,\) like x_train"),
        (np.zeros((9, 2, 2), np.uint8), r"x_test are uint8 \(2, 2\), must be uint8 \(4,\)"),
        (np.zeros((9, 4), np.float32), r"x_test are float32 \(4,\), must be uint8 \(4,\)"),
        (np.zeros((9, 4), np.int32), r"x_test are int32, must be"),
        (np.zeros((0, 4), np.uint8), r"x_test have shape \(0, 4\), must be"),
    ],
    ids=["size", "shape", "dtype", "int32", "empty"],
)
def test_parts_of_a_split_must_be_alike(tmp_path, test, match):
    np.savez(tmp_path / "mine.npz", x_train=SINGLE, x_test=test)
    with pytest.raises(ValueError, match=match):
        load_array(tmp_path / "mine.npz")


def test_a_missing_array_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_array(tmp_path / "none.npy")


# To floats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.mathematics
def test_to_float_of_bytes(dtype):
    x = np.arange(256, dtype=np.uint8)
    result = to_float(x, dtype)
    assert result.dtype == dtype
    assert (result[0], result[255]) == (0.0, 1.0)
    np.testing.assert_allclose(result, np.arange(256) / 255, rtol=np.finfo(dtype).eps)
    np.testing.assert_array_equal(x, np.arange(256))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_a_byte_is_the_same_float_for_ever(dtype):
    # A run that is resumed, or compared with another, sees the same images.
    greys = np.arange(256, dtype=np.uint8).reshape(4, 64)
    expected = [[dtype(v) * dtype(1 / 255) for v in row] for row in greys.tolist()]
    np.testing.assert_array_equal(to_float(greys, dtype), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.purity
def test_to_float_of_floats(dtype):
    x = np.array([[-0.5, 3.25]], np.float32)
    result = to_float(x, dtype)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, x)
    assert np.shares_memory(result, x) == (dtype == np.float32)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.complex64])
def test_to_float_refuses(dtype):
    name = np.dtype(dtype).name
    with pytest.raises(ValueError, match=f"images are {name}, must be uint8 or floats"):
        to_float(np.zeros((2, 2), dtype))


# Validation -------------------------------------------------------------------------------------

COUNTED = Dataset(
    "counted",
    np.arange(200, dtype=np.uint8).repeat(3).reshape(200, 3),  # the number of an image in it
    np.arange(90, dtype=np.uint8).reshape(30, 3),
    np.arange(200) * 10,
    np.arange(30),
    np.array([(i, -i) for i in range(200)], [("angle", float), ("width", float)]),
    np.zeros(30, [("angle", float), ("width", float)]),
    image_shape=(1, 3),
)


@pytest.mark.parametrize("size", [1, 40, 199])
def test_a_part_of_the_training_set_is_set_aside(size):
    found = split_validation(COUNTED, size)
    assert (len(found.train), len(found.validation)) == (200 - size, size)
    kept, aside = found.train[:, 0].tolist(), found.validation[:, 0].tolist()
    assert sorted(kept + aside) == list(range(200))  # disjoint, and together all
    assert kept == sorted(kept) and aside == sorted(aside)  # in the order they had
    assert found.train.dtype == found.validation.dtype == np.uint8
    assert found.train_labels.tolist() == [10 * i for i in kept]
    assert found.validation_labels.tolist() == [10 * i for i in aside]
    assert found.train_factors["angle"].tolist() == kept
    for name in "name", "test", "test_labels", "test_factors", "image_shape":
        assert getattr(found, name) is getattr(COUNTED, name)
    assert len(COUNTED.train) == 200 and COUNTED.validation is None


def test_the_part_set_aside_is_a_random_one_and_always_the_same():
    one, two = split_validation(COUNTED, 60), split_validation(COUNTED, 60)
    np.testing.assert_array_equal(one.validation, two.validation)
    np.testing.assert_array_equal(one.train, two.train)
    aside = one.validation[:, 0].astype(int)
    assert (np.diff(aside) > 1).sum() > 20 and 80 < aside.mean() < 120  # no first, no last ones
    # Results are compared between runs, machines and years: these numbers are part of the data.
    assert split_validation(COUNTED, 8).validation[:, 0].tolist() == [
        6,
        65,
        71,
        90,
        105,
        159,
        165,
        168,
    ]


def test_of_no_labels_none_are_set_aside():
    bare = split_validation(Dataset("bare", RAMP[:9], RAMP[:2]), 4)
    assert bare.train_labels is bare.validation_labels is bare.train_factors is None
    assert (bare.train.shape, bare.validation.shape) == ((5, 256), (4, 256))


def test_without_a_validation_set_the_data_are_what_they_were():
    assert split_validation(COUNTED, 0) is COUNTED


@pytest.mark.parametrize("size", [-1, 200, 1000, 2.0, True, "40", None])
def test_a_validation_set_must_leave_a_training_image(size):
    with pytest.raises(ValueError) as caught:
        split_validation(COUNTED, size)
    check_error(caught, f"the number of validation images is {size!r}, must be a whole number")
    check_error(caught, "from 0 to 199")


@pytest.mark.parametrize("mode", ["threshold", "static"])
def test_the_validation_images_are_binarised_like_the_others(mode):
    with_it = Dataset("with", RAMP, RAMP, validation=RAMP[:50], validation_labels=np.arange(50))
    found, without = binarized(with_it, mode), binarized(RAMPS, mode)
    # What is drawn for the others does not change.
    np.testing.assert_array_equal(found.train, without.train)
    np.testing.assert_array_equal(found.test, without.test)
    assert without.validation is None
    assert (found.validation.dtype, found.validation.shape) == (np.uint8, (50, 256))
    assert np.unique(found.validation).tolist() == [0, 255]
    assert found.validation_labels is with_it.validation_labels
    for other in found.train[:50], found.test[:50]:
        same = np.array_equal(found.validation, other)
        assert same == (mode == "threshold")  # a stream of its own


def test_none_and_dynamic_leave_the_validation_images():
    data = split_validation(COUNTED, 20)
    assert binarized(data, "none") is binarized(data, "dynamic") is data


def test_validation_images_outside_0_and_1_are_not_binarised():
    x = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match="bad: pixels run from 2 to 2, must lie in"):
        binarized(Dataset("bad", x, x, validation=x + 2), "dynamic")


# Binarisation -----------------------------------------------------------------------------------

# Training and test set alike: every row runs through all the greys.
RAMP = np.tile(np.arange(256, dtype=np.uint8), (3000, 1))
RAMPS = Dataset("ramps", RAMP, RAMP, np.arange(3000), image_shape=(16, 16))


def check_draws(draws, p):
    """Check the mean of 0-1 draws (N, D) against their probabilities (D,), by standard errors."""
    error = np.sqrt(p * (1 - p) / len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - p) <= 5 * error)
    # All pixels together, where a bias of half a grey level would show.
    total = math.sqrt((error**2).sum()) / len(p)
    assert abs(draws.mean() - p.mean()) <= 4 * total < 0.5 / 255


@pytest.mark.parametrize("mode", ["none", "dynamic"])
def test_none_and_dynamic_return_the_data(mode):
    assert binarized(RAMPS, mode) is RAMPS


@pytest.mark.parametrize("mode", ["threshold", "static"])
def test_binarized_replaces_the_images_and_nothing_else(mode):
    before = RAMP.copy()
    result = binarized(RAMPS, mode)
    np.testing.assert_array_equal(RAMP, before)
    for images in (result.train, result.test):
        assert (images.dtype, images.shape) == (np.uint8, RAMP.shape)
        assert np.unique(images).tolist() == [0, 255]
    assert (result.name, result.image_shape) == ("ramps", (16, 16))
    assert result.train_labels is RAMPS.train_labels
    assert result.test_labels is None


@pytest.mark.mathematics
def test_threshold():
    images = binarized(RAMPS, "threshold").train
    np.testing.assert_array_equal(images, np.where(RAMP >= 128, 255, 0))
    x = np.array([[0.0, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 1.0]], np.float32)
    assert binarized(Dataset("x", x, x), "threshold").test.tolist() == [[0, 0, 255, 255]]


@pytest.mark.mathematics
def test_static_is_a_bernoulli_draw_made_once():
    result, again = binarized(RAMPS, "static"), binarized(RAMPS, "static")
    np.testing.assert_array_equal(result.train, again.train)
    np.testing.assert_array_equal(result.test, again.test)
    draws = to_float(result.train)
    check_draws(draws, np.arange(256) / 255)
    check_draws(to_float(result.test), np.arange(256) / 255)
    assert np.mean(result.train != result.test) > 0.3  # streams of their own: 1/3 for these greys
    assert np.mean(draws[1:] != draws[:-1]) > 0.3


def test_static_is_the_same_draw_for_ever():
    # Results are compared between runs, machines and years: these bits are part of the data.
    half = Dataset("half", np.full((1, 64), 128, np.uint8), np.full((1, 64), 128, np.uint8))
    result = binarized(half, "static")
    assert np.packbits(result.train).tobytes().hex() == "70ecaedf54675e6c"
    assert np.packbits(result.test).tobytes().hex() == "c095c87cef1f0a40"


def test_static_is_black_where_the_draw_is_the_value_itself():
    # So a pixel of 0 is never white, also where the draw is 0.
    seed = np.random.SeedSequence(int.from_bytes(b"static binarisation")).spawn(1)[0]
    x = np.random.default_rng(seed).random((3, 5), dtype=np.float32)
    assert not binarized(Dataset("draws", x, x), "static").train.any()


def test_static_does_not_depend_on_the_run():
    # The streams of a run are spawned from its seed: the draw must not be one of them.
    half = Dataset("half", np.full((1, 64), 128, np.uint8), np.full((1, 64), 128, np.uint8))
    result = binarized(half, "static")
    p = np.float32(128 / 255)
    for seed in range(100):
        sequence = np.random.SeedSequence(seed)
        for child in [sequence, *sequence.spawn(4)]:
            draw = np.random.default_rng(child).random(64, dtype=np.float32) < p
            assert not np.array_equal(draw, result.train[0] > 0)
            assert not np.array_equal(draw, result.test[0] > 0)


def test_static_is_one_stream_whatever_the_chunks(monkeypatch):
    # 1023 of these rows are a chunk, of an odd number of pixels.
    wide = np.full((3000, 1025), 128, np.uint8)
    whole = binarized(Dataset("wide", wide, wide), "static")
    for n in (1, 1022, 1023, 1024, 2047):
        part = binarized(Dataset("wide", wide[:n], wide[:n]), "static")
        np.testing.assert_array_equal(part.train, whole.train[:n])


def test_static_of_floats_is_that_of_bytes():
    floats = Dataset("floats", to_float(RAMP), to_float(RAMP))
    result, expected = binarized(floats, "static"), binarized(RAMPS, "static")
    np.testing.assert_array_equal(result.train, expected.train)


@pytest.mark.parametrize("mode", ["threshold", "static"])
def test_binarized_takes_little_more_than_its_result(mode):
    images = np.zeros((30_000, 784), np.uint8)
    data = Dataset("blank", images, images[:1])
    tracemalloc.start()
    binarized(data, mode)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes + 20_000_000


@pytest.mark.parametrize("value", [-0.001, 1.001, np.nan], ids=str)
@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("mode", ["threshold", "static", "dynamic"])
def test_pixels_outside_0_1_are_refused(mode, part, value):
    x = np.full((2, 2), 0.5, np.float32)
    bad = np.array([[0.5, value]], np.float32)
    data = Dataset("mine", bad, x) if part == "train" else Dataset("mine", x, bad)
    with pytest.raises(
        ValueError, match=r"mine: pixels run from .* must lie in \[0, 1\]"
    ) as caught:
        binarized(data, mode)
    check_error(caught, f"binarize='{mode}'")
    assert binarized(data, "none") is data


@pytest.mark.parametrize("mode", ["gray", "Static", ""])
def test_unknown_modes_are_refused(mode, rng):
    match = f"binarize is '{mode}', must be one of none, threshold, static, dynamic"
    with pytest.raises(ValueError, match=match):
        binarized(RAMPS, mode)
    with pytest.raises(ValueError, match=match):
        batch(RAMP, slice(2), binarize=mode, rng=rng)


# Minibatches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [np.array([5, 0, 5]), slice(2, 5)], ids=["index", "slice"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("binarize", BINARIZE)
@pytest.mark.purity
def test_batch(binarize, dtype, rows, rng):
    images = rng.integers(0, 256, (9, 40), np.uint8)
    before = images.copy()
    x = batch(images, rows, binarize=binarize, rng=rng, dtype=dtype)
    assert (x.dtype, x.shape) == (dtype, (3, 40))
    np.testing.assert_array_equal(images, before)
    if binarize == "dynamic":
        assert np.unique(x).tolist() == [0, 1]
    else:
        np.testing.assert_array_equal(x, to_float(images[rows], dtype))


@pytest.mark.purity
@pytest.mark.parametrize("binarize", BINARIZE)
def test_a_batch_leaves_float_images_as_they_are(binarize, rng):
    images = rng.random((9, 40), np.float32)
    before = images.copy()
    batch(images, slice(2, 5), binarize=binarize, rng=rng)  # of float32 a slice is a view
    np.testing.assert_array_equal(images, before)


def test_batch_is_float32_unless_asked():
    assert batch(RAMP, slice(2), rng=None).dtype == np.float32
    assert batch(RAMP, slice(2), binarize="dynamic", rng=np.random.default_rng(0)).dtype == "f4"


@pytest.mark.parametrize("binarize", ["none", "threshold", "static"])
def test_only_dynamic_draws(binarize, rng):
    state = rng.bit_generator.state
    x = batch(RAMP, slice(9), binarize=binarize, rng=rng)
    assert rng.bit_generator.state == state
    np.testing.assert_array_equal(batch(RAMP, slice(9), binarize=binarize, rng=None), x)


@pytest.mark.parametrize("stored", [np.uint8, np.float32])
@pytest.mark.mathematics
def test_dynamic_is_a_bernoulli_draw_made_anew(stored, rng):
    images = RAMP if stored is np.uint8 else to_float(RAMP)
    first, second = (batch(images, slice(None), binarize="dynamic", rng=rng) for _ in range(2))
    check_draws(first, np.arange(256) / 255)
    check_draws(second, np.arange(256) / 255)
    assert np.mean(first != second) > 0.3
    for x in (first, second):
        assert not x[:, 0].any()
        assert x[:, 255].all()


def test_dynamic_is_the_same_in_every_dtype():
    draws = [
        batch(RAMP, slice(None), binarize="dynamic", rng=np.random.default_rng(3), dtype=dtype)
        for dtype in (np.float32, np.float64, np.complex128)
    ]
    expected = np.random.default_rng(3).random(RAMP.shape, np.float32) < to_float(RAMP)
    for draw in draws:
        np.testing.assert_array_equal(draw, expected)


@pytest.mark.mathematics
def test_dynamic_at_the_ends_of_the_interval():
    class Extreme(np.random.Generator):
        """Draws the least and the greatest number that a float32 draw can be."""

        def random(self, size, dtype):
            return np.resize(np.array([0, 1 - 2**-24], dtype), size)

    extreme = Extreme(np.random.PCG64(0))
    images = np.array([[0, 0, 255, 255]], np.uint8)
    x = batch(images, slice(None), binarize="dynamic", rng=extreme)
    assert x.tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("rng", [None, 0], ids=str)
def test_dynamic_needs_a_generator(rng):
    with pytest.raises(ValueError, match=f"rng is {rng}, must be a numpy.random.Generator"):
        batch(RAMP, slice(2), binarize="dynamic", rng=rng)


@pytest.mark.parametrize(("n", "size"), [(10, 3), (9, 3), (2, 5), (1, 1), (0, 4)])
@pytest.mark.mathematics
def test_minibatches(n, size, rng):
    batches = list(minibatches(n, size, rng))
    assert [len(rows) for rows in batches] == [min(size, n - i) for i in range(0, n, size)]
    assert all(rows.dtype == np.intp for rows in batches)
    assert sorted(i for rows in batches for i in rows) == list(range(n))


@pytest.mark.mathematics
def test_minibatches_are_one_permutation_of_their_stream():
    batches = minibatches(100, np.int64(32), np.random.default_rng(7))
    np.testing.assert_array_equal(
        np.concatenate(list(batches)), np.random.default_rng(7).permutation(100)
    )


def test_minibatches_draw_at_the_call(rng):
    # Two epochs of one stream, made before either is used, are what they are in sequence.
    first, second = minibatches(50, 8, rng), minibatches(50, 8, rng)
    second, first = list(second), list(first)
    expected = np.random.default_rng(20_131_220).permutation(50)
    np.testing.assert_array_equal(np.concatenate(first), expected)
    assert np.concatenate(second).tolist() != expected.tolist()


@pytest.mark.parametrize("size", [0, -1, 2.0, "8", None, True], ids=str)
def test_batch_size_is_validated_at_the_call(size, rng):
    with pytest.raises(ValueError, match=r"^batch_size is .*, must be .* from 1 to 2147483647$"):
        minibatches(10, size, rng)


def test_a_dynamic_draw_is_the_same_in_every_dtype():
    images = np.random.default_rng(0).integers(0, 256, (50, 40)).astype(np.uint8)
    single, double = (
        batch(images, slice(0, 50), binarize="dynamic", rng=np.random.default_rng(1), dtype=dtype)
        for dtype in (np.float32, np.float64)
    )
    np.testing.assert_array_equal(single, double)


@pytest.mark.parametrize(
    ("d", "shape"),
    [(784, (28, 28)), (64, (8, 8)), (12, (3, 4)), (15, (3, 5)), (13, (1, 13)), (2, (1, 2)),
     (1, (1, 1)), (800, (25, 32))],
)  # fmt: skip
def test_guess_image_shape(d, shape):
    found = guess_image_shape(d)
    assert found == shape and [type(side) for side in found] == [int, int]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.25, 0.75], (0, 1)), ([0, 1], (0, 1)), ([0, 0.5], (0, 1)), ([0.5, 1], (0, 1)),
     ([-0.5, 0.5], (-0.5, 0.5)), ([0.5, 3], (0.5, 3)), ([0.5, 1.5], (0.5, 1.5)), ([3, 3], (3, 4))],
)  # fmt: skip
def test_value_range(values, expected):
    found = value_range(np.array([values], np.float32))
    assert found == expected and [type(end) for end in found] == [float, float]


def test_bytes_run_from_black_to_white_whatever_they_are():
    assert value_range(np.array([[3, 200]], np.uint8)) == (0, 1)


def test_the_fingerprint_tells_images_apart(rng):
    x = rng.random((9, 6), np.float32)
    one = loaded(x)
    assert fingerprint(one) == fingerprint(loaded(x, np.arange(9), name="b"))
    others = [
        replace(one, train=one.test, test=one.train),
        replace(one, train=one.train.astype(np.float64)),
        replace(one, train=one.train.reshape(-1, 3)),
        replace(one, test=np.nextafter(one.test, np.float32(2))),
    ]
    assert len({fingerprint(data) for data in (one, *others)}) == 5


def test_images_are_read_in_their_order_and_not_split(tmp_path, rng):
    x = rng.integers(0, 256, (9, 2, 3), np.uint8)
    np.savez(tmp_path / "one.npz", faces=x, y=np.arange(9))
    [(part, (images, labels))] = read_images(tmp_path / "one.npz")[0].items()
    assert part == ""
    np.testing.assert_array_equal(images, x.reshape(9, 6))
    np.testing.assert_array_equal(labels, np.arange(9))
    np.savez(tmp_path / "two.npz", train=x[:5], test=x[5:], test_labels=np.arange(4))
    found, _ = read_images(tmp_path / "two.npz")
    assert list(found) == ["train", "test"] and found["train"][1] is None
    np.testing.assert_array_equal(found["test"][0], x[5:].reshape(4, 6))
    np.testing.assert_array_equal(found["test"][1], np.arange(4))
