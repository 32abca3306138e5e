"""A data set: its validation images, its fingerprint, how it is pictured."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from numpy_vae.data import Dataset, fingerprint, split_validation
from numpy_vae.data.dataset import guess_image_shape, value_range


def test_import_is_light():
    code = (
        "import sys, numpy_vae.data;"
        "print(*{'urllib.request', 'http', 'ssl', 'scipy', 'matplotlib'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.split() == []


def test_a_data_set_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        COUNTED.name = "other"


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
    source="counted.npy",
    data_dir="here",
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
    for name in "name", "test", "test_labels", "test_factors", "image_shape", "source", "data_dir":
        assert getattr(found, name) is getattr(COUNTED, name)
    assert len(COUNTED.train) == 200 and COUNTED.validation is None


def test_the_part_set_aside_is_a_random_one_and_always_the_same():
    one, two = split_validation(COUNTED, 60), split_validation(COUNTED, 60)
    np.testing.assert_array_equal(one.validation, two.validation)
    np.testing.assert_array_equal(one.train, two.train)
    aside = one.validation[:, 0].astype(int)
    assert (np.diff(aside) > 1).sum() > 20 and 80 < aside.mean() < 120  # no first, no last ones
    # Results are compared between runs, machines and years: these numbers are part of the data.
    aside = split_validation(COUNTED, 8).validation[:, 0].tolist()
    assert aside == [6, 65, 71, 90, 105, 159, 165, 168]


def test_of_no_labels_none_are_set_aside():
    x = np.zeros((9, 256), np.uint8)
    bare = split_validation(Dataset("bare", x, x[:2]), 4)
    assert bare.train_labels is bare.validation_labels is bare.train_factors is None
    assert (bare.train.shape, bare.validation.shape) == ((5, 256), (4, 256))


def test_without_a_validation_set_the_data_are_what_they_were():
    assert split_validation(COUNTED, 0) is COUNTED


@pytest.mark.parametrize("size", [-1, 200, 1000, 2.0, True, "40", None])
def test_a_validation_set_must_leave_a_training_image(size):
    message = f"the number of validation images is {size!r}, must be a whole number from 0 to 199"
    with pytest.raises(ValueError, match=f"^{message}$"):
        split_validation(COUNTED, size)


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
    one = Dataset("one", x[:8], x[8:])
    named = replace(one, name="b", train_labels=np.arange(8), source="b.npy")
    assert fingerprint(one) == fingerprint(named)
    others = [
        replace(one, train=one.test, test=one.train),
        replace(one, train=one.train.astype(np.float64)),
        replace(one, train=one.train.reshape(-1, 3)),
        replace(one, test=np.nextafter(one.test, np.float32(2))),
    ]
    assert len({fingerprint(data) for data in (one, *others)}) == 5
