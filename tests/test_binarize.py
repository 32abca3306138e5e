"""From pixels to minibatches: floats, four binarisations, draws, order."""

import math
import tracemalloc

import numpy as np
import pytest

from numpy_vae.data import (
    Dataset,
    batch,
    binarize,
    minibatches,
    split_validation,
    to_float,
)
from numpy_vae.data.mapped import chunks

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
    assert binarize(RAMPS, mode) is RAMPS


@pytest.mark.parametrize("mode", ["threshold", "static"])
def test_binarize_replaces_the_images_and_nothing_else(mode):
    before = RAMP.copy()
    result = binarize(RAMPS, mode)
    np.testing.assert_array_equal(RAMP, before)
    for images in (result.train, result.test):
        assert (images.dtype, images.shape) == (np.uint8, RAMP.shape)
        assert np.unique(images).tolist() == [0, 255]
    assert (result.name, result.image_shape) == ("ramps", (16, 16))
    assert result.train_labels is RAMPS.train_labels
    assert result.test_labels is None


@pytest.mark.mathematics
def test_threshold():
    images = binarize(RAMPS, "threshold").train
    np.testing.assert_array_equal(images, np.where(RAMP >= 128, 255, 0))
    x = np.array([[0.0, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 1.0]], np.float32)
    assert binarize(Dataset("x", x, x), "threshold").test.tolist() == [[0, 0, 255, 255]]


@pytest.mark.mathematics
def test_static_is_a_bernoulli_draw_made_once():
    result, again = binarize(RAMPS, "static"), binarize(RAMPS, "static")
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
    result = binarize(half, "static")
    assert np.packbits(result.train).tobytes().hex() == "70ecaedf54675e6c"
    assert np.packbits(result.test).tobytes().hex() == "c095c87cef1f0a40"


def test_static_is_black_where_the_draw_is_the_value_itself():
    # So a pixel of 0 is never white, also where the draw is 0.
    seed = np.random.SeedSequence(int.from_bytes(b"static binarisation")).spawn(1)[0]
    x = np.random.default_rng(seed).random((3, 5), dtype=np.float32)
    assert not binarize(Dataset("draws", x, x), "static").train.any()


def test_static_does_not_depend_on_the_run():
    # The streams of a run are spawned from its seed: the draw must not be one of them.
    half = Dataset("half", np.full((1, 64), 128, np.uint8), np.full((1, 64), 128, np.uint8))
    result = binarize(half, "static")
    p = np.float32(128 / 255)
    for seed in range(100):
        sequence = np.random.SeedSequence(seed)
        for child in [sequence, *sequence.spawn(4)]:
            draw = np.random.default_rng(child).random(64, dtype=np.float32) < p
            assert not np.array_equal(draw, result.train[0] > 0)
            assert not np.array_equal(draw, result.test[0] > 0)


def test_static_is_one_stream_whatever_the_chunks():
    # 499 of these rows are a chunk, of an odd number of pixels.
    wide = np.full((1500, 2101), 128, np.uint8)
    assert next(chunks(wide)) == slice(0, 499)
    whole = binarize(Dataset("wide", wide, wide), "static")
    for n in (1, 498, 499, 500, 999):
        part = binarize(Dataset("wide", wide[:n], wide[:n]), "static")
        np.testing.assert_array_equal(part.train, whole.train[:n])


@pytest.mark.parametrize(
    ("shape", "step"),
    [((1200, 784), 500), ((1200, 2097), 500), ((1200, 2098), 499), ((3, 30, 40), 500),
     ((3, 1 << 20), 1), ((3, 2 << 20), 1)],
)  # fmt: skip
def test_a_chunk_has_at_most_500_rows_and_a_million_pixels(shape, step):
    images = np.empty(shape, np.uint8)
    expected = [slice(start, start + step) for start in range(0, len(images), step)]
    assert list(chunks(images)) == expected


def test_static_of_floats_is_that_of_bytes():
    floats = Dataset("floats", to_float(RAMP), to_float(RAMP))
    result, expected = binarize(floats, "static"), binarize(RAMPS, "static")
    np.testing.assert_array_equal(result.train, expected.train)


@pytest.mark.parametrize("mode", ["threshold", "static"])
def test_binarize_takes_little_more_than_its_result(mode):
    images = np.zeros((30_000, 784), np.uint8)
    data = Dataset("blank", images, images[:1])
    tracemalloc.start()
    binarize(data, mode)
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
    match = rf"^mine: pixels run from .* must lie in \[0, 1\] for binarize='{mode}'$"
    with pytest.raises(ValueError, match=match):
        binarize(data, mode)
    assert binarize(data, "none") is data


@pytest.mark.parametrize("mode", ["gray", "Static", ""])
def test_unknown_modes_are_refused(mode):
    match = f"binarize is '{mode}', must be one of none, threshold, static, dynamic"
    with pytest.raises(ValueError, match=match):
        binarize(RAMPS, mode)


@pytest.mark.parametrize("mode", ["threshold", "static"])
def test_the_validation_images_are_binarised_like_the_others(mode):
    with_it = Dataset("with", RAMP, RAMP, validation=RAMP[:50], validation_labels=np.arange(50))
    found, without = binarize(with_it, mode), binarize(RAMPS, mode)
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
    data = split_validation(RAMPS, 20)
    assert binarize(data, "none") is binarize(data, "dynamic") is data


def test_validation_images_outside_0_and_1_are_not_binarised():
    x = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match="bad: pixels run from 2 to 2, must lie in"):
        binarize(Dataset("bad", x, x, validation=x + 2), "dynamic")


# Minibatches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [np.array([5, 0, 5]), slice(2, 5)], ids=["index", "slice"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("draw", [True, False], ids=["drawn", "grey"])
@pytest.mark.purity
def test_batch(draw, dtype, rows, rng):
    images = rng.integers(0, 256, (9, 40), np.uint8)
    before = images.copy()
    x = batch(images, rows, pixels=rng if draw else None, dtype=dtype)
    assert (x.dtype, x.shape) == (dtype, (3, 40))
    np.testing.assert_array_equal(images, before)
    if draw:
        assert np.unique(x).tolist() == [0, 1]
    else:
        np.testing.assert_array_equal(x, to_float(images[rows], dtype))


@pytest.mark.purity
@pytest.mark.parametrize("draw", [True, False], ids=["drawn", "grey"])
def test_a_batch_leaves_float_images_as_they_are(draw, rng):
    images = rng.random((9, 40), np.float32)
    before = images.copy()
    batch(images, slice(2, 5), pixels=rng if draw else None)  # of float32 a slice is a view
    np.testing.assert_array_equal(images, before)


def test_batch_is_float32_unless_asked():
    assert batch(RAMP, slice(2)).dtype == np.float32
    assert batch(RAMP, slice(2), pixels=np.random.default_rng(0)).dtype == "f4"


@pytest.mark.parametrize("stored", [np.uint8, np.float32])
@pytest.mark.mathematics
def test_dynamic_is_a_bernoulli_draw_made_anew(stored, rng):
    images = RAMP if stored is np.uint8 else to_float(RAMP)
    first, second = (batch(images, slice(None), pixels=rng) for _ in range(2))
    check_draws(first, np.arange(256) / 255)
    check_draws(second, np.arange(256) / 255)
    assert np.mean(first != second) > 0.3
    for x in (first, second):
        assert not x[:, 0].any()
        assert x[:, 255].all()


def test_dynamic_is_the_same_in_every_dtype():
    draws = [
        batch(RAMP, slice(None), pixels=np.random.default_rng(3), dtype=dtype)
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
    x = batch(images, slice(None), pixels=extreme)
    assert x.tolist() == [[0, 0, 1, 1]]


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
