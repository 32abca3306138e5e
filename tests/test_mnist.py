"""MNIST: where it is looked for, what is read, what is refused, how it is downloaded and named."""

import gzip
import hashlib
import http.server
import io
import os
import shutil
import struct
import sys
import threading
import tracemalloc
import zlib
from http.client import BadStatusLine
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from numpy_vae.data import idx as idx_module
from numpy_vae.data import load_mnist, mnist
from numpy_vae.data.idx import read_idx
from numpy_vae.data.mnist import MNIST_FILES, cache_folder

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
    monkeypatch.setattr(mnist, "MNIST_MIRRORS", ())


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
    "header cut": (IDX[:15], "header ends at byte 15, must be 16"),
    "header of labels cut": (idx([1, 2])[:6], "header ends at byte 6, must be 8"),
    "data cut": (IDX[:-1], "promises 60 bytes.*holds 59"),
    "no data": (IDX[:16], "promises 60 bytes.*holds 0"),
    "trailing byte": (IDX + b"\0", "promises 60 bytes.*holds more"),
    "data cut, in gzip": (gzip.compress(IDX[:-1]), "promises 60 bytes.*holds 59"),
    "trailing byte, in gzip": (gzip.compress(IDX + b"\0"), "promises 60 bytes.*holds more"),
    "floats": (b"\0\0\x0d\x03" + IDX[4:], "promises 240 bytes.* holds 60"),
    "two axes": (b"\0\0\x08\x02" + IDX[4:], "promises 20 bytes.* holds more"),
    "five axes": (b"\0\0\x08\x05" + IDX[4:], "0x00000805, must be.*0x00000803.*0x00000801"),
    "an unknown type": (b"\0\0\x0a\x03" + IDX[4:], "0x00000a03, must be"),
    "another kind of file": (b"\x89PNG\r\n\x1a\n", "0x89504e47, must be"),
    "gzip with a bad CRC": (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "damaged .CRC"),
    "gzip with a bad length": (PACKED[:-4] + b"\0\0\0\0", "damaged .Incorrect length"),
    "gzip cut in its data": (PACKED[:-20], "damaged .Compressed file ended"),
    "gzip cut in its end": (PACKED[:-3], "damaged .Compressed file ended"),
    "gzip cut in its header": (PACKED[:5], "damaged .Compressed file ended"),
    "gzip that is no deflate": (PACKED[:10] + b"\7" + PACKED[11:], "damaged .Error -3"),
    "gzip of another method": (PACKED[:2] + b"\7" + PACKED[3:], "damaged .Unknown compression"),
    "gzip and then more": (PACKED + b"more", "damaged .Not a gzipped file"),
    "no images": (header(0, 28, 28), r"holds \(0, 28, 28\), must not be empty"),
    "no labels": (header(0), r"holds \(0,\), must not be empty"),
    "no rows": (header(5, 0, 28), r"holds \(5, 0, 28\), must not be empty"),
    "absurd sides": (header(1, 2**32 - 1, 1), "promises 4294967295 bytes.* holds 0"),
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
    ("code", "dtype"), [(9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_every_type_of_element_is_read(tmp_path, code, dtype):
    array = np.arange(-12, 12).reshape(1, 2, 3, 4).astype(dtype)
    (tmp_path / "file").write_bytes(
        bytes([0, 0, code, 4]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    )
    found = read_idx(tmp_path / "file")
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found, array)


def test_one_byte_more_than_promised_is_read():
    stream = io.BytesIO(header(5, 4, 3) + bytes(1000))
    with pytest.raises(ValueError, match="holds more"):
        idx_module._parse(stream)
    assert stream.tell() == 16 + 60 + 1


def test_a_file_is_read_a_mebibyte_at_a_time():
    asked = []

    class Stream(io.BytesIO):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    n = 5 << 19
    assert len(idx_module._parse(Stream(header(n) + bytes(n)))) == n
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
@pytest.mark.parametrize("missing", [NAMES[2:3], NAMES], ids=["one file", "all files"])
def test_a_folder_that_is_named_is_used_or_refused_by_name(tmp_path, monkeypatch, how, missing):
    put(cache_folder(), four(6))
    named = put(tmp_path / "named", {n: c for n, c in four(5).items() if n not in missing})
    (named / missing[0]).mkdir()  # a folder of that name is none of the files
    monkeypatch.setenv("NUMPY_VAE_DATA", str(named))
    with pytest.raises(OSError, match=f"^{how} is .*, which has no {missing[0][:-3]}") as caught:
        load_mnist(named if how == "data_dir" else None)
    check_error(caught, named)


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
    assert data.image_shape == (3, 2)
    for result, array in zip((data.train, data.test), arrays[::2], strict=True):
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, array[16:].reshape(-1, 6))
    for result, array in zip((data.train_labels, data.test_labels), arrays[1::2], strict=True):
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, array[8:])


@pytest.mark.parametrize("named", ["fashion", "fashion/", "fashion/.", "../{}/fashion", "."])
@pytest.mark.parametrize("how", ["data_dir", "NUMPY_VAE_DATA"])
def test_files_in_a_folder_are_called_after_it(tmp_path, monkeypatch, how, named):
    folder = put(tmp_path / "fashion", four())
    monkeypatch.chdir(folder if named == "." else tmp_path)
    named = named.format(tmp_path.name)
    monkeypatch.setenv("NUMPY_VAE_DATA", named)
    data = load_mnist(named if how == "data_dir" else None)
    assert (data.name, data.source) == ("fashion", "mnist")
    assert data.data_dir == (str(folder) if how == "data_dir" else None)


def test_a_folder_without_a_name_gives_none(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "resolve", lambda path: Path("/"))
    assert load_mnist(put(tmp_path, four())).name == "mnist"


def test_mnist_is_known_by_its_test_images_wherever_it_is(tmp_path, monkeypatch):
    assert mnist.MNIST_CRC == 0xE4CA5F57  # of the real files, which may not be here
    data = load_mnist(put(tmp_path / "elsewhere", four()))
    monkeypatch.setattr(mnist, "MNIST_CRC", zlib.crc32(data.test.tobytes()))
    assert load_mnist(tmp_path / "elsewhere").name == "mnist"
    assert load_mnist(put(tmp_path / "other", four(8))).name == "other"
    put(cache_folder(), four(9))  # what was downloaded is MNIST
    monkeypatch.setenv("NUMPY_VAE_DATA", "")
    data = load_mnist()
    assert (data.name, data.source, data.data_dir) == ("mnist", "mnist", None)


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
    monkeypatch.setattr(mnist, "MNIST_FILES", expected)
    return put(tmp_path / "mirror", files)


def set_mirrors(monkeypatch, *urls):
    monkeypatch.setattr(mnist, "MNIST_MIRRORS", urls)


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
    monkeypatch.setitem(mnist.MNIST_FILES, NAMES[0], (150_000, ""))
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
def test_real_mnist(tmp_path):
    data = load_mnist(shutil.copytree(REAL[0], tmp_path / "elsewhere"))
    assert data.name == "mnist"
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
