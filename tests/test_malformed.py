"""200 damaged variants of each format: read, or refused in one line, in bounded memory."""

import gzip
import io
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from malformed import variants
from PIL import Image
from scipy.io import savemat

from numpy_vae.data.arrays import FewLevelsWarning, read_images

X = np.random.default_rng(0).integers(64, 256, (12, 7, 7), np.uint8)


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def packed_npz():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w") as member:
            np.save(member, X)
        with archive.open("meta.npy", "w") as member:
            np.save(member, np.array({"a": 1}, object), allow_pickle=True)
    return stream.getvalue()


def mat(**settings):
    stream = io.BytesIO()
    savemat(stream, {"x": X.reshape(12, 49), "y": np.arange(12), "s": {"a": 1.0}}, **settings)
    return stream.getvalue()


def text(comma, header):
    rows = X.reshape(12, 49)
    lines = [comma.join(map(str, row)) for row in rows]
    return "\n".join([comma.join(f"c{i}" for i in range(49))] * header + lines).encode()


def picture(kind):
    stream = io.BytesIO()
    Image.fromarray(np.repeat(np.repeat(X[0], 3, 0), 3, 1)).save(stream, kind)
    return stream.getvalue()


IDX = bytes([0, 0, 8, 3]) + np.array(X.shape, ">u4").tobytes() + X.tobytes()
FORMATS = {
    "x.npz": npz(x_train=X, x_test=X[:3], y_train=np.arange(12)),
    "packed.npz": packed_npz(),
    "x-idx3-ubyte": IDX,
    "x.gz": gzip.compress(IDX, mtime=0),
    "x.mat": mat(),
    "packed.mat": mat(do_compression=True),
    "x.csv": text(",", True),
    "x.csv.gz": gzip.compress(text(",", True), mtime=0),
    "x.tsv": text("\t", False),
    "x.amat": text(" ", False),
    "png": picture("PNG"),
    "jpg": picture("JPEG"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, name):
    path, content = tmp_path / name, FORMATS[name]
    if name in ("png", "jpg"):
        path.mkdir()
        (path / f"0.{name}").write_bytes(content)
    file = path / f"1.{name}" if name in ("png", "jpg") else path
    file.write_bytes(content)
    read_images(path)  # imports what it needs, and is right
    refused = 0
    tracemalloc.start()
    for damaged in variants(content):
        file.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", FewLevelsWarning)
            try:
                found = read_images(path)
                assert all(np.asarray(x).ndim == 2 for x in found.parts.values())
            except (ValueError, OSError) as error:
                refused += 1
                assert "\n" not in str(error) and str(error).startswith(str(path))
                assert len(str(error)) < 600
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
    assert refused >= 20
