"""Files are whole or absent, and what is read is what was written."""

import hashlib
import io
import os
import stat
import struct
import sys
import tempfile
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from numpy_vae.files import (
    atomic_write,
    check_writable,
    open_file,
    read_arrays,
    remove_torn,
    save_arrays,
    write_text,
)

X = np.arange(60, dtype=np.float32).reshape(6, 10)


def npy(array=X):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(save=np.savez, **arrays):
    stream = io.BytesIO()
    save(stream, **(arrays or {"x": X, "y": np.arange(6)}))
    return stream.getvalue()


def by_hand(shape="(6, 10)", rest="", version=(1, 0)):
    """Make an NPY file whose header says what it likes."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}{rest}\n".encode()
    length = struct.pack("<H" if version[0] == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + X.tobytes()


def zipped(member, method=zipfile.ZIP_DEFLATED, promise=None):
    """Put a member into an archive whose directory promises another size for it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("x.npy", member)
    data = bytearray(stream.getvalue())
    if promise is not None:
        struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, promise)
    return bytes(data)


def moved(data):
    """Let the end of an archive place its directory a byte too far on."""
    data = bytearray(data)
    where = data.rindex(b"PK\x05\x06") + 16
    struct.pack_into("<I", data, where, struct.unpack_from("<I", data, where)[0] + 1)
    return bytes(data)


def flipped(data, where):
    data = bytearray(data)
    data[where] ^= 0x10
    return bytes(data)


# Writing ----------------------------------------------------------------------------------------


def test_the_seal_is_of_what_was_written_and_comes_before_the_name(tmp_path):
    path, seals = tmp_path / "file", []

    def seal(digest):
        seals.append(digest)
        assert not path.exists()

    with atomic_write(path, seal) as stream:
        stream.write(b"hello")
        stream.seek(0)
        stream.write(b"j")
    assert path.read_bytes() == b"jello"
    assert seals == [hashlib.sha256(b"jello").hexdigest()]


def test_a_seal_that_raises_leaves_the_old_file(tmp_path):
    def seal(digest):
        raise OSError(17, "in the way", "another")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="another"), atomic_write(path, seal) as stream:
        stream.write(b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and path.read_bytes() == b"old"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_what_is_being_written_is_not_taken_for_torn(tmp_path):
    torn = tmp_path / ".numpy-vae-0123abc_.tmp"
    mine = [".numpy-vae-mine.tmp", ".checkpoint.npz.x1y2abcd", "numpy-vae-0123abcd.tmp"]
    for path in torn, *(tmp_path / name for name in mine):
        path.write_text("half of it")
    os.mkfifo(tmp_path / ".numpy-vae-apipe000.tmp")
    with atomic_write(tmp_path / "file") as stream:
        stream.write(b"new")
        remove_torn(tmp_path)
        assert len(list(tmp_path.iterdir())) == len(mine) + 2  # with the one that is written
    assert (tmp_path / "file").read_bytes() == b"new" and not torn.exists()
    remove_torn(tmp_path / "nowhere")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_temporary_file_that_is_removed_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    made = []

    def mkstemp(**words):
        made.append(make(**words))
        if len(made) == 1:
            remove_torn(tmp_path)  # by another process
        return made[-1]

    make = tempfile.mkstemp
    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    write_text(tmp_path / "file", "new")
    assert len(made) == 2 and (tmp_path / "file").read_text() == "new"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_temporary_file_is_locked_until_it_has_its_name(tmp_path, monkeypatch):
    def others_come_first(source, target):
        remove_torn(tmp_path)
        replace(source, target)

    replace = os.replace
    monkeypatch.setattr(os, "replace", others_come_first)
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_the_longest_name_can_be_written(tmp_path):
    write_text(tmp_path / ("x" * 255), "new")


@pytest.mark.parametrize("folder", ["", "new", "new/er"])
def test_a_folder_that_need_not_be_there_yet_can_be_written(tmp_path, folder):
    check_writable(tmp_path / folder)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for folder in "file", "file/x/y", "link/x":
        with pytest.raises(NotADirectoryError):
            check_writable(tmp_path / folder)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "new")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt], ids=lambda e: e.__name__)
def test_a_failed_block_leaves_the_old_file_and_no_temporary(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as stream:
        stream.write(b"half of the new")
        stream.flush()
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_is_taken_only_at_the_end(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert not path.exists()
        assert len(list(tmp_path.iterdir())) == 1  # beside it, where a rename cannot fail halfway
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_rename_that_fails_leaves_no_temporary(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OSError), atomic_write(path) as stream:
        stream.write(b"new")
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "none" / "file"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077], ids=oct)
def test_permissions_are_those_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file") as stream:
            stream.write(b"new")
        after = os.umask(umask)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask
    assert after == umask


def test_text_is_utf8_with_its_own_line_ends(tmp_path):
    write_text(tmp_path / "file", "σ = exp(½ log σ²)\n")
    assert (tmp_path / "file").read_bytes() == "σ = exp(½ log σ²)\n".encode()


# Reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [X, np.asfortranarray(X), X[:0], np.float64(3), X > 3, X.astype(">f8"), X.astype(np.complex64)],
    ids=["C order", "Fortran order", "empty", "0-D", "bool", "big-endian", "complex"],
)
@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_round_trip(tmp_path, save, array):
    # Written under a name without suffix: the content decides.
    with open(tmp_path / "file", "wb") as stream:
        save(stream, array)
    ((name, result),) = read_arrays(tmp_path / "file").items()
    assert name == ("" if save is np.save else "arr_0")
    assert result.dtype == np.asarray(array).dtype
    np.testing.assert_array_equal(result, array)


def test_an_archive_gives_its_arrays_by_name(tmp_path):
    (tmp_path / "file").write_bytes(npz())
    arrays = read_arrays(tmp_path / "file")
    assert list(arrays) == ["x", "y"]
    np.testing.assert_array_equal(arrays["x"], X)


def test_format_version_2_is_read(tmp_path):
    (tmp_path / "file").write_bytes(by_hand(version=(2, 0)))
    np.testing.assert_array_equal(read_arrays(tmp_path / "file")[""], X)


OBJECTS = np.array([{}, []], dtype=object)
REFUSED = {
    "empty file": (b"", "empty, must be a .npy or a .npz file"),
    "text": (b"1, 2, 3\n", "neither a .npy nor a .npz"),
    "bare pickle": (b"\x80\x04N.", "neither a .npy nor a .npz"),
    "npy of objects": (npy(OBJECTS), "holds pickled objects"),
    "npz of objects": (npz(x=OBJECTS), "holds pickled objects"),
    "npy cut in its data": (npy()[:-1], "promises 240 bytes, but it holds 239"),
    "npy cut in its header": (npy()[:40], "array header"),
    "npy cut in its magic": (npy()[:7], "magic string"),
    "npy with more behind it": (npy() + b"\0", "promises 240 bytes, but it holds 241"),
    "npy of another version": (by_hand(version=(3, 0)), r"version \(3, 0\)"),
    "npz cut in its data": (npz()[:300], "not a zip file"),
    "npz cut at its end": (npz()[:-1], "not a zip file"),
    "npz with a flipped bit": (flipped(npz(), 250), "Bad CRC-32"),
    "npz, compressed, with a flipped bit": (flipped(npz(np.savez_compressed), 100), "x.npy|Error"),
    "npz with a member before its start": (moved(npz()), "not a readable"),
    "npz with a text in it": (zipped(b"1, 2, 3\n"), "magic string"),
    "petabytes in npy": (by_hand("(1000000000000000,)"), "promises 4000000000000000 bytes"),
    "petabytes in npz": (zipped(by_hand("(1000000000000000,)")), "promises 4000000000000000"),
    "2^66 + 240 bytes": (by_hand("(4, 4611686018427387919)"), "promises 73786976294838206704 "),
    "less than none": (by_hand("(-60,)"), "promises -240 bytes"),
    "less than none, twice": (by_hand("(-6, -10)"), "promises 240 bytes"),
    "fewer than it holds": (zipped(by_hand("(5, 10)")), "promises 200 bytes, but it holds 240"),
    "directory that lies, deflated": (
        zipped(by_hand(), promise=2**32 - 2),
        "cannot hold 429496729",
    ),
    "directory that lies, stored": (zipped(by_hand(), 0, 2**32 - 2), "cannot hold 429496729"),
    "foreign compression": (zipped(by_hand(), zipfile.ZIP_LZMA), "compressed by method 14"),
    "header that is no Python": (by_hand("(6, 10"), "not a readable"),
    "header nested too deep": (by_hand("-" * 9000 + "1"), "not a readable"),
    "header too long": (by_hand(rest=" " * 20_000), "Header info length"),
}


@pytest.mark.parametrize(("content", "match"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line_that_names_the_file(tmp_path, content, match):
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        read_arrays(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert "()" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [by_hand("(300000000,)"), zipped(by_hand("(300000000,)"), promise=1_200_000_128)],
    ids=["npy", "npz"],
)
def test_no_memory_is_taken_for_a_promise(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"promises|cannot hold"):
        read_arrays(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    "content", [npy(), npz(), npz(np.savez_compressed)], ids=["npy", "npz", "compressed"]
)
def test_every_shorter_file_is_refused(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    for length in range(len(content) - 1, -1, -7):
        os.truncate(path, length)
        with pytest.raises(ValueError, match=r"file"):
            read_arrays(path)


def test_a_missing_file_and_a_folder_are_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npy")
    with pytest.raises(OSError):
        read_arrays(tmp_path)


def test_what_is_written_reaches_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), rename(a, b)))
    write_text(tmp_path / "a.txt", "hello")
    assert events == ["fsync", "replace"]


def test_an_error_names_the_file_that_was_meant(tmp_path):
    def fill_the_disk():
        with atomic_write(tmp_path / "a.txt"):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'$"):
        fill_the_disk()
    (tmp_path / "folder").mkdir()
    for target in ("folder", "nowhere/b.txt"):
        with pytest.raises(OSError, match=f"{target}'$"):
            write_text(tmp_path / target, "a folder is in the way, or missing")


def test_a_member_that_is_there_twice_is_refused_by_name(tmp_path):
    path = tmp_path / "twice.npz"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile's own
        for name in "x.npy", "y.npy", "x.npy":
            archive.writestr(name, npy())
    with pytest.raises(ValueError, match=r"twice\.npz: .* \(it holds 'x' more than once\)"):
        read_arrays(path)


@pytest.mark.parametrize("content", [npy(), npz()], ids=["npy", "npz"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, content):
    def read_array(*args, **words):
        os.utime(tmp_path / "file", ns=(1, 1))
        return read(*args, **words)

    (tmp_path / "file").write_bytes(content)
    assert len(read_arrays(tmp_path / "file")) in (1, 2)
    read = np.lib.format.read_array
    monkeypatch.setattr(np.lib.format, "read_array", read_array)
    with pytest.raises(ValueError, match="it was changed while it was read"):
        read_arrays(tmp_path / "file")


def test_objects_are_not_written(tmp_path):
    with open(tmp_path / "file", "wb") as stream:
        with pytest.raises(ValueError, match="Object arrays cannot be saved"):
            save_arrays(stream, {"x": X, "mine": np.array([None])})
        stream.seek(0)
        save_arrays(stream, {"x": X, "text": np.array("σ")})
    with np.load(tmp_path / "file") as arrays:
        assert sorted(arrays) == ["text", "x"]


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError):
        open_file(tmp_path)
