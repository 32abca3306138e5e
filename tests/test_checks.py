"""Refusals: what passes, and the one line that says why something does not."""

import math

import numpy as np
import pytest

from numpy_vae.checks import check_choice, check_real, check_whole


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(7)])
def test_whole_numbers_pass_as_ints(value):
    assert check_whole("n", value, 1, 7) == value
    assert type(check_whole("n", value, 1, 7)) is int


@pytest.mark.parametrize("value", [0, 8, 2.0, True, "3", None, math.nan, np.int64(9)])
def test_other_numbers_are_refused(value):
    with pytest.raises(ValueError, match=r"^n is .*, must be a whole number from 1 to 7$"):
        check_whole("n", value, 1, 7)


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.25), np.float64(1.0)])
def test_real_numbers_pass_as_python_floats(value):
    assert type(check_real("lr", value, 0, 1, open_below=True)) is float


@pytest.mark.parametrize("value", [0, -1, 1.5, math.nan, math.inf, "0.1", None, 1j])
def test_other_reals_are_refused(value):
    message = r"^lr is .*, must be a number greater than 0 and at most 1$"
    with pytest.raises(ValueError, match=message):
        check_real("lr", value, 0, 1, open_below=True)


def test_the_lower_end_may_belong_to_the_range():
    assert check_real("beta", 0, 0, 1, open_below=False) == 0.0
    with pytest.raises(ValueError, match=r"must be a number at least 0 and at most 1$"):
        check_real("beta", -1e-9, 0, 1, open_below=False)


@pytest.mark.parametrize("value", ["blue", None, ["red"], 1])
def test_a_choice(value):
    assert check_choice("colour", "red", {"red": 1, "green": 2}) == "red"
    with pytest.raises(ValueError, match=r"^colour is .*, must be one of red, green$"):
        check_choice("colour", value, {"red": 1, "green": 2})


def test_a_whole_number_beyond_any_float_is_refused():
    with pytest.raises(ValueError, match=r"^beta is 1000.*, must be a number at least 0"):
        check_real("beta", 10**400, 0, 5, open_below=False)
