"""A user's own arrays: what is read, what is refused, how it is split."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from numpy_vae.data import load_array, mapped, read_images, to_float
from numpy_vae.data.arrays import FewLevelsWarning
from numpy_vae.data.readers import MAPPED


def check_error(caught, *parts):
    """Check that an error is one line and holds these parts."""
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


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
    [("u1", "u1"), ("f2", "f4"), ("f4", "f4"), ("f8", "f8"), (">f8", "f8"), (">f4", "f4")],
)
def test_dtypes_and_shapes(dtype, kept, shape):
    x = grey(*shape).astype(dtype)
    if kept != "u1":
        x += 0.5  # not whole
    if len(shape) == 3 and kept == "f8":
        kept = "f4"  # images; a table keeps all its digits
    data = loaded(np.asfortranarray(x), np.arange(12))
    assert data.train.dtype == data.test.dtype == np.dtype(kept)
    assert data.train.dtype.isnative
    assert data.train.flags.c_contiguous
    rows = (2, 3) if kept == "u1" else None  # floats are a table
    assert data.image_shape == (rows if len(shape) == 2 else (3, 2))
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
    with pytest.warns(FewLevelsWarning, match="the largest value is 2, .*--scale 2"):
        data = loaded(x, np.arange(2))
    assert (
        np.concatenate([data.train, data.test]).tolist()
        == x[np.concatenate([data.train_labels, data.test_labels])].tolist()
    )


def test_a_file_of_256_mib_stays_on_the_disk():
    assert MAPPED == 268_435_456


def test_a_split_is_binary_as_a_whole_or_not_at_all(tmp_path):
    train, test = np.array([[0, 77]], np.uint8), np.array([[0, 1]], np.uint8)
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
    "16 bits": (np.full((9, 4, 4), 999), "run from 999 to 999, must be 0 to 255, or .*--scale 999"),
    "negative": (np.full((9, 4, 4), -1), "images run from -1 to -1, must be 0 to 255, or have a"),
    "complex": (np.zeros((9, 4), complex), "images are complex128, must be integers, bool or"),
    "strings": (np.full((9, 4), "a"), "images are <U1, must be"),
    "objects": (np.full((9, 4), None), "pickled objects"),
    "structured": (np.zeros((9, 4), [("a", "f4")]), r"images are \[.*'a'.*, must be"),
    "dates": (np.zeros((9, 4), "M8[s]"), r"images are datetime64\[s\], must be"),
    "0-D": (np.float32(1), r"images have shape \(\), must be"),
    "1-D": (np.zeros(9, np.uint8), r"images have shape \(9,\), must be"),
    "5-D": (np.zeros((9, 4, 4, 3, 1), np.uint8), r"images have shape \(9, 4, 4, 3, 1\), must be"),
    "alpha": (np.zeros((9, 5, 5, 4), np.uint8), r"must have 1 or 3 channels: drop alpha, as in x"),
    "channels": (np.zeros((9, 5, 5, 2), np.uint8), "must have 1 or 3 channels, first or last"),
    "no images": (np.zeros((0, 4), np.uint8), r"images have shape \(0, 4\), must be"),
    "no width": (np.zeros((9, 4, 0), np.uint8), r"images have shape \(9, 4, 0\), must be"),
    "one image": (np.zeros((1, 4), np.uint8), "holds 1 row, must hold 2 or more"),
    "NaN": (with_values({3: np.nan, 7: np.nan}), r"hold 2 values .* first \(nan\) in row 3"),
    "NaN in a square": (SQUARES, r"hold 1 values .* first \(nan\) in row 4"),
    "infinity": (with_values({5: -np.inf}, np.float16), r"1 values .* first \(-inf\) in row 5"),
    "beyond float32": (np.full((9, 2, 2), 1e39), r"largest value is 1e\+39, must be at most 3.4"),
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
    monkeypatch.setattr(mapped, "PIXELS_AT_ONCE", 8)  # two rows
    x = with_values({3: np.inf, 4: np.nan, 7: np.nan})
    with pytest.raises(
        ValueError, match=r": images hold 3 values .*, the first \(inf\) in row 3, column 2$"
    ):
        loaded(x)


@pytest.mark.parametrize(
    ("labels", "codes", "names"),
    [
        (np.arange(9)[:, None], np.arange(9), ()),
        (np.arange(9.0), np.arange(9), ()),
        (np.arange(9) > 4, np.arange(9) > 4, ()),
        (np.eye(9)[::-1], np.arange(9)[::-1], ()),
        (np.array([*"ccbbaaccb"]), [2, 2, 1, 1, 0, 0, 2, 2, 1], ("a", "b", "c")),
        (np.array([*"ccbbaaccb"], "S"), [2, 2, 1, 1, 0, 0, 2, 2, 1], ("a", "b", "c")),
    ],
    ids=["a column", "floats", "bool", "one-hot", "text", "bytes"],
)
def test_labels_of_every_kind_become_integers(labels, codes, names):
    data = loaded(grey(9, 4), labels)
    order = np.random.default_rng(0).permutation(9)
    found = np.concatenate([data.train_labels, data.test_labels])
    np.testing.assert_array_equal(found, np.asarray(codes)[order])
    assert data.label_names == names


@pytest.mark.parametrize(
    "labels",
    [np.zeros(8, int), np.zeros((9, 2)), np.full(9, 0.5), np.full(9, np.nan), np.zeros(9, "M8[s]")],
    ids=["too few", "not one-hot", "not whole", "NaN", "dates"],
)
def test_labels_that_are_none_are_left_out_and_said(labels):
    data = loaded(grey(9, 4), labels)
    assert data.train_labels is None
    assert f"labels left out: {labels.dtype} {labels.shape}" in data.summary


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
    assert (data.source, data.data_dir) == (str(tmp_path / "mine.npz"), None)
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
    np.savez(tmp_path / "mine.npz", train=np.uint8([[77]]), test=np.uint8([[99]]))
    data = load_array(tmp_path / "mine.npz")
    assert (data.train.tolist(), data.test.tolist()) == ([[77]], [[99]])


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


def test_npy_under_any_suffix(tmp_path, monkeypatch):
    with open(tmp_path / "mine.data", "wb") as stream:
        np.save(stream, grey(12, 6))
    monkeypatch.chdir(tmp_path)
    data = load_array("mine.data")
    assert (data.name, data.source) == ("mine", str(tmp_path / "mine.data"))
    np.testing.assert_array_equal(data.train, loaded(grey(12, 6)).train)


@pytest.mark.parametrize("names", ["", "a b", "a b labels", "a labels y", "labels y", "x data"])
def test_what_would_have_to_be_guessed_is_refused(tmp_path, names):
    np.savez(tmp_path / "mine.npz", **dict.fromkeys(names.split(), SINGLE))
    with pytest.raises(ValueError, match="name them x_train and x_test, or choose one") as caught:
        load_array(tmp_path / "mine.npz")
    check_error(caught, tmp_path / "mine.npz")


def test_a_key_chooses_and_the_rest_is_named(tmp_path):
    a, b, y = grey(12, 6), grey(12, 8), np.arange(12)
    np.savez(tmp_path / "mine.npz", a=a, b=b, kind=y)
    data = load_array(tmp_path / "mine.npz", key="b", label_key="kind")
    np.testing.assert_array_equal(data.train, b[data.train_labels])
    assert "left out: 'a'" in data.summary
    assert data.reading == {"key": "b", "label_key": "kind", "scale": 255.0}
    with pytest.raises(
        ValueError, match=r"key is 'c', must be one of its arrays: 'a' \(12, 6\) uint8"
    ):
        load_array(tmp_path / "mine.npz", key="c")


@pytest.mark.parametrize(
    ("test", "match"),
    [
        (np.zeros((9, 5), np.uint8), r"x_test are uint8 \(5,\), must be uint8 \(4,\) like x_train"),
        (np.zeros((9, 2, 2), np.uint8), r"x_test are uint8 \(2, 2\), must be uint8 \(4,\)"),
        (np.zeros((9, 4), np.float32), r"x_test are float32 \(4,\), must be uint8 \(4,\)"),
        (np.zeros((9, 4), np.int32), r"x_test are int32 .*, must be uint8"),
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


def test_images_are_read_in_their_order_and_not_split(tmp_path, rng):
    x = rng.integers(0, 256, (9, 2, 3), np.uint8)
    np.savez(tmp_path / "one.npz", faces=x, y=np.arange(9))
    found = read_images(tmp_path / "one.npz")
    assert list(found.parts) == [""]
    np.testing.assert_array_equal(found.parts[""], x.reshape(9, 6))
    np.testing.assert_array_equal(found.labels[""], np.arange(9))
    np.savez(tmp_path / "two.npz", train=x[:5], test=x[5:], test_labels=np.arange(4))
    found = read_images(tmp_path / "two.npz")
    assert list(found.parts) == ["train", "test"] and list(found.labels) == ["test"]
    np.testing.assert_array_equal(found.parts["test"], x[5:].reshape(4, 6))
    np.testing.assert_array_equal(found.labels["test"], np.arange(4))
