"""Arrays that stay on the disk: what comes of them is what comes of arrays in memory."""

import hashlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from command_line import metrics_of, refusal, train

from numpy_vae import VAE, evaluate_elbo, evaluate_likelihood, fit, load_array
from numpy_vae.__main__ import main
from numpy_vae.data import (
    Dataset,
    batch,
    binarize,
    fingerprint,
    read_images,
    readers,
    split_validation,
    to_float,
)
from numpy_vae.data import (
    mapped as mapped_module,
)
from numpy_vae.data.mapped import Rows, subset
from numpy_vae.data.readers import MAPPED
from numpy_vae.runs.checkpoint import load_checkpoint
from numpy_vae.training.evaluate import is_binary
from numpy_vae.training.loop import start_output_bias

GREY = np.random.default_rng(1).integers(0, 256, (61, 5, 7), np.uint8)  # an odd number of pixels
KINDS = {
    "uint8": GREY,
    "zeros and ones": GREY // 128,
    "bool": GREY > 127,
    "float16": (GREY / 255).astype(np.float16),
    "float32": to_float(GREY),
    "float64": GREY / 255,
    "big-endian": (GREY / 255).astype(">f4"),
    "rows": to_float(GREY).reshape(61, 35),
    "int32": GREY.astype(np.int32),
    "a channel": GREY[..., np.newaxis],
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Let some images be too many for one chunk."""
    monkeypatch.setattr(mapped_module, "PIXELS_AT_ONCE", 300)


@pytest.fixture
def mapped(monkeypatch):
    """Return a function that calls another with all `.npy` files left on the disk."""

    def call(function, *args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(readers, "MAPPED", 0)
            return function(*args, **kwargs)

    return call


@pytest.fixture
def both(tmp_path, mapped):
    """Return a function that gives the data set of an array in memory and on the disk."""

    def load(x):
        return load_array_of(x, tmp_path / "x.npy"), mapped(load_array, tmp_path / "x.npy")

    return load


def load_array_of(x, path):
    """Return the data set of an array, by way of a file that is read."""
    np.save(path, x)
    return load_array(path)


def assert_same(one, other):
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    np.testing.assert_array_equal(one, other)


def test_only_a_large_file_stays_on_the_disk(both, tmp_path):
    assert 70_000 * 28 * 28 < MAPPED < 1 << 30  # MNIST is in memory, what may not fit is not
    in_memory, on_disk = both(GREY)
    for images in in_memory.train, in_memory.test:
        assert type(images) is np.ndarray
    for images in on_disk.train, on_disk.test:
        assert isinstance(images, Rows)
    size = (tmp_path / "x.npy").stat().st_size
    for most, kind in (size, Rows), (size + 1, np.ndarray):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(readers, "MAPPED", most)
            assert type(load_array(tmp_path / "x.npy").train) is kind


@pytest.mark.parametrize("x", KINDS.values(), ids=KINDS)
def test_the_rows_are_those_of_memory(both, x):
    in_memory, on_disk = both(x)
    digest = hashlib.sha256()
    for part in in_memory.train, in_memory.test:
        digest.update(f"{part.dtype.str} {part.shape} ".encode() + part.tobytes())
    assert fingerprint(on_disk) == fingerprint(in_memory) == digest.hexdigest()
    assert on_disk.image_shape == in_memory.image_shape
    assert on_disk.train_labels is on_disk.test_labels is None
    for one, other in (in_memory.train, on_disk.train), (in_memory.test, on_disk.test):
        assert (other.shape, other.dtype, other.ndim) == (one.shape, one.dtype, one.ndim)
        assert len(other) == len(one)
        assert (other.min(), other.max()) == (one.min(), one.max())
        for which in (
            slice(None),
            slice(2, 7),
            slice(0),
            slice(None, None, -2),
            np.array([3, 0, 3]),
            np.array([[3, 0], [1, 2]]),
            np.arange(len(one)) % 3 == 1,
            0,
            -1,
        ):
            assert type(other[which]) is np.ndarray
            assert other[which].flags.c_contiguous and other[which].dtype.isnative
            assert_same(one[which], other[which])
        with pytest.raises(IndexError):
            other[len(one)]


def test_numpy_takes_rows_for_an_array(both):
    in_memory, on_disk = both(to_float(GREY))
    assert np.mean(on_disk.train) == np.mean(in_memory.train)
    assert_same(np.asarray(on_disk.test), in_memory.test)
    assert_same(np.asarray(on_disk.test, np.float64), in_memory.test.astype(np.float64))
    assert_same(to_float(on_disk.test), in_memory.test)
    assert on_disk.test.__array__(np.float64).dtype == np.float64
    assert_same(np.asarray(on_disk.test[:0]), in_memory.test[:0])
    assert np.asarray(subset(on_disk.test, slice(0))).shape == (0, 35)
    with pytest.raises(ValueError, match="copy is False, must be True or None: rows"):
        np.array(on_disk.test, copy=False)


BY_COLUMN = {
    "rows": np.asfortranarray(GREY.reshape(61, 35)),
    "images": np.asfortranarray(GREY),
    "float64": np.asfortranarray(GREY / 255),
    "big-endian": np.asfortranarray((GREY / 255).astype(">f4")),
    "bool": np.asfortranarray(GREY > 127),
}


@pytest.mark.parametrize("x", BY_COLUMN.values(), ids=BY_COLUMN)
def test_a_large_file_in_fortran_order_is_read_whole(both, tmp_path, mapped, x):
    # A row of it on the disk would be a page for each of its pixels, in every minibatch.
    by_row = load_array_of(np.ascontiguousarray(x), tmp_path / "x.npy")
    for images in both(x):
        for one, other in (by_row.train, images.train), (by_row.test, images.test):
            assert type(other) is np.ndarray
            assert other.flags.c_contiguous and other.dtype.isnative
            assert_same(one, other)
        assert images.image_shape == by_row.image_shape
    with pytest.raises(ValueError, match="hold 1 values that are not finite"):
        np.save(tmp_path / "x.npy", np.asfortranarray(spoilt("f8", r40=np.nan)))
        mapped(load_array, tmp_path / "x.npy")


def test_a_file_in_fortran_order_must_fit_in_memory(tmp_path, mapped, monkeypatch):
    def fails(stream, **words):
        raise MemoryError("Unable to allocate 3.00 TiB")

    np.save(tmp_path / "x.npy", BY_COLUMN["images"])
    monkeypatch.setattr(np.lib.format, "read_array", fails)
    with pytest.raises(ValueError, match=r"x\.npy: not a .* \(in Fortran order, and too large"):
        mapped(load_array, tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", x=GREY)  # is never mapped
    with pytest.raises(ValueError, match=r"x\.npz: not a .* \(Unable to allocate 3\.00 TiB\)$"):
        mapped(load_array, tmp_path / "x.npz")


def test_an_array_of_rows_takes_no_memory_but_its_own(monkeypatch):
    monkeypatch.setattr(mapped_module, "PIXELS_AT_ONCE", 1 << 16)
    images = Rows(np.zeros((20_000, 100)), np.arange(20_000), np.dtype(np.uint8), np.uint8)
    tracemalloc.start()
    result = np.asarray(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.nbytes < peak < 1.5 * result.nbytes  # the rows themselves are 8 times as many


def test_what_is_read_can_be_written_and_the_file_stays_as_it_is(both, tmp_path):
    _, on_disk = both(GREY)
    assert not on_disk.train.source.array.flags.writeable
    before = (tmp_path / "x.npy").read_bytes()
    on_disk.train[:5][:] = 0
    assert (tmp_path / "x.npy").read_bytes() == before


@pytest.mark.parametrize("x", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("mode", ["none", "threshold", "dynamic"])
def test_binarisation_draws_what_it_draws_in_memory(both, x, mode):
    (in_memory, on_disk), found = both(x), []
    for images in in_memory, on_disk:
        images = split_validation(binarize(images, mode), 7)
        parts = images.train, images.validation, images.test
        rng = np.random.default_rng(3)
        rows = np.random.default_rng(4).permutation(len(images.train))[:20]
        pixels = rng if mode == "dynamic" else None
        drawn = [batch(part, slice(1, 6), pixels=pixels) for part in parts]
        drawn.append(batch(images.train, rows, pixels=pixels, dtype=np.float64))
        found.append((parts, drawn))
    assert all(isinstance(part, Rows) for part in found[1][0])
    for which in range(2):
        for one, other in zip(found[0][which], found[1][which], strict=True):
            assert_same(one, other[:])


@pytest.mark.parametrize("x", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("mode", ["dynamic", "threshold", "none"])
def test_training_and_evaluation_give_the_same_bits(both, x, mode):
    found = []
    for images in both(x):
        images = split_validation(images, 9)
        vae = VAE(35, (6,), 3, rng=0)
        start_output_bias(vae, images.train)
        history = fit(vae, images, epochs=1, batch_size=8, binarize=mode, rng=1)
        draw = mode == "dynamic"
        elbo = evaluate_elbo(vae, images.test, draw=draw, rng=2)
        bound = evaluate_likelihood(vae, images.test, samples=3, draw=draw, rng=2)
        terms = [history[0]._replace(seconds=0, test_seconds=0), elbo, bound.summary()]
        found.append((vae.params.flat.tobytes(), terms))
    assert found[0] == found[1]


@pytest.mark.parametrize("mode", ["threshold", "dynamic"])
def test_pixels_outside_0_1_are_refused_in_the_same_words(both, mode):
    messages = []
    for images in both(4 * (GREY / 255) - 1):
        with pytest.raises(ValueError, match=r"x: pixels run from -1 to 3, must lie in") as caught:
            binarize(images, mode)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def spoilt(dtype, **values):
    x = np.zeros((61, 35), dtype)
    for row, value in values.items():
        x[int(row[1:]), 4] = value
    return x


BAD = {
    "NaN": (spoilt("f8", r40=np.nan, r9=np.nan), r"2 values .*, the first \(nan\) in row 9"),
    "infinity": (spoilt("f2", r0=-np.inf), r"1 values .*, the first \(-inf\) in row 0"),
    "complex": (spoilt("c16"), "images are complex128, must be integers, bool or float16, 32 or"),
    "objects": (spoilt("O"), "it holds pickled objects, must hold numbers"),
    "1-D": (np.zeros(9, np.uint8), r"images have shape \(9,\), must be"),
    "one image": (np.zeros((1, 9), np.uint8), "holds 1 row, must hold 2 or more"),
    "no images": (np.zeros((0, 9), np.uint8), r"images have shape \(0, 9\), must be"),
}


@pytest.mark.parametrize(("x", "match"), BAD.values(), ids=BAD)
def test_bad_arrays_are_refused_in_the_same_words(tmp_path, mapped, x, match):
    path = tmp_path / "bad.npy"
    np.save(path, x)
    messages = []
    for load in load_array, lambda path: mapped(load_array, path):
        with pytest.raises(ValueError, match=match) as caught:
            load(path)
        messages.append(str(caught.value))
        assert messages[-1].startswith(f"{path}: ") and "\n" not in messages[-1]
    assert messages[0] == messages[1]


@pytest.mark.parametrize("change", [1, -1, -2000, 135 - 2263, 20 - 2263, 7 - 2263], ids=str)
def test_a_file_that_is_cut_or_too_long_is_refused_in_one_line(tmp_path, mapped, change):
    np.save(tmp_path / "whole.npy", GREY)
    whole, path = (tmp_path / "whole.npy").read_bytes(), tmp_path / "cut.npy"
    assert len(whole) == 2263
    path.write_bytes((whole + b"0")[: len(whole) + change])
    with pytest.raises(ValueError, match=r"not a readable \.npy or \.npz file") as caught:
        mapped(load_array, path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_one_grey_pixel_in_the_last_chunk_makes_the_images_grey(both):
    x = np.zeros((61, 35), np.uint8)
    x[:, 3] = 1
    assert both(x)[1].train.max() == 255
    x[60, 34] = 99
    on_disk = both(x)[1]
    assert max(part.max() for part in (on_disk.train, on_disk.test)) == 99


def test_images_are_read_in_their_order(tmp_path, mapped):
    np.save(tmp_path / "x.npy", GREY)
    found = mapped(read_images, tmp_path / "x.npy")
    images = found.parts[""]
    assert not found.labels and isinstance(images, Rows)
    assert_same(images[:], GREY.reshape(61, 35))


@pytest.mark.parametrize("axis", [1, 3])
def test_colour_on_the_disk_is_as_in_memory(both, axis):
    x = np.stack([GREY, GREY // 2, 255 - GREY], axis=axis)
    memory, disk = both(x)
    assert memory.image_shape == disk.image_shape == (5, 7, 3)
    assert_same(disk.train[:], memory.train)
    assert_same(disk.test[:0], memory.test[:0])


def test_an_npz_is_read(tmp_path, mapped):
    np.savez(tmp_path / "x.npz", train=GREY, test=GREY[:9], train_labels=np.arange(61))
    assert type(mapped(load_array, tmp_path / "x.npz").train) is np.ndarray


# The commands -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["dynamic", "threshold", "none"])
def test_every_command_gives_what_it_gives_of_an_array_in_memory(folder, monkeypatch, capsys, mode):
    found = []
    for name, most in ("memory", np.inf), ("disk", 0):
        monkeypatch.setattr(readers, "MAPPED", most)
        assert train("--binarize", mode, "--epochs", "2", "--validation", "7",
                     "--output-bias", "data", "--out", name) == 0  # fmt: skip
        assert main(["train", "--resume", name, "--epochs", "3", "--quiet"]) == 0
        assert main(["plot", name]) == 0
        assert main(["explore", name]) == 0
        assert main(["encode", name]) == 0
        assert main(["encode", name, "--data", "small.npy", "--out", f"{name}.npz"]) == 0
        results = []
        for on in "test", "validation":
            capsys.readouterr()
            words = ["--json", "--samples", "3", "--images", "6", "--on", on]
            assert main(["evaluate", name, *words]) == 0
            results.append(json.loads(capsys.readouterr().out) | {"seconds": 0})
        state = load_checkpoint(f"{name}/checkpoint.npz")
        results += [value.flat.tobytes() for value in state.vectors.values()]
        results += [metrics_of(name)[f"test_{term}"] for term in ("elbo", "reconstruction", "kl")]
        results += [Path(name, "figures", f"{f}.png").read_bytes() for f in ("kl", "samples")]
        results += [Path(name, "explorer.html").read_bytes()]
        for path in Path(name, "latents.npz"), Path(f"{name}.npz"):
            with np.load(path) as latents:
                results += [(key, latents[key].tobytes()) for key in latents]
        found.append(results)
    assert found[0] == found[1]


def test_a_static_draw_of_a_file_on_the_disk_is_refused_before_anything_is_written(
    folder, monkeypatch, capsys
):
    monkeypatch.setattr(readers, "MAPPED", 0)
    words = ["train", "--data", "small.npy", "--binarize", "static", "--out", "run"]
    assert refusal(capsys, *words) == (
        "numpy-vae train: error: small: binarize is 'static', must be none, threshold or dynamic"
        " for a .npy of 256 MiB or more, which stays on disk (or save it as .npz)"
    )
    assert not Path("run").exists()
    np.savez("small.npz", np.load("small.npy"))
    assert train("--data", "small.npz", "--binarize", "static", "--epochs", "1") == 0


def test_only_the_images_that_are_evaluated_are_read(folder, monkeypatch, capsys):
    monkeypatch.setattr(readers, "MAPPED", 0)
    assert train("--binarize", "none", "--epochs", "1", "--out", "run") == 0
    seen = []

    def spy(vae, images, **kwargs):
        seen.append(images)
        return evaluate_likelihood(vae, images, **kwargs)

    monkeypatch.setattr("numpy_vae.commands.evaluate.evaluate_likelihood", spy)
    assert main(["evaluate", "run", "--samples", "1", "--images", "4", "--json"]) == 0
    assert isinstance(seen[0], Rows) and len(seen[0]) == 4


@pytest.mark.parametrize("x", [GREY // 128 * 255, (GREY > 127).astype(np.float32)])
def test_one_grey_pixel_in_the_last_chunk_makes_a_cross_entropy(x):
    x = x.reshape(61, 35)
    assert is_binary(x)
    x[60, 34] = 0.5 if x.dtype == np.float32 else 1
    assert not is_binary(x)


def test_a_cut_file_is_a_usage_error(folder, monkeypatch, capsys):
    monkeypatch.setattr(readers, "MAPPED", 0)
    Path("cut.npy").write_bytes(Path("small.npy").read_bytes()[:-1])
    assert "cut.npy: not a readable" in refusal(capsys, "train", "--data", "cut.npy")


def test_a_data_set_of_rows_needs_no_file(mapped, tmp_path):
    # Rows of an array in memory are rows as well: what they stand for is theirs to say.
    rows = Rows(GREY, np.array([5, 1]), np.dtype(np.float32), to_float)
    images = Dataset("mine", rows, rows)
    assert_same(images.train[:], to_float(GREY[[5, 1]].reshape(2, 35)))
