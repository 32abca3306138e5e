"""One vector and its names."""

import copy
import pickle

import numpy as np
import pytest

from numpy_vae import Params

SHAPES = {"a.W": (3, 2), "a.b": (2,), "c.W": (2, 5)}


@pytest.fixture
def params():
    p = Params(SHAPES, np.float64)
    p.flat[:] = np.arange(18)
    return p


def test_blocks_lie_in_the_vector_in_their_order(params):
    assert list(params) == ["a.W", "a.b", "c.W"] and len(params) == 3
    assert params.shapes == SHAPES
    np.testing.assert_array_equal(params["a.W"], [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(params["a.b"], [6, 7])
    np.testing.assert_array_equal(params["c.W"], [[8, 9, 10, 11, 12], [13, 14, 15, 16, 17]])


@pytest.mark.purity
def test_views_and_vector_share_memory_both_ways(params):
    params["a.b"][1] = -1
    assert params.flat[7] == -1
    params.flat[8] = -2
    assert params["c.W"][0, 0] == -2
    assert all(np.shares_memory(params.flat, view) for view in params.views.values())


@pytest.mark.purity
def test_a_view_cannot_be_rebound(params):
    with pytest.raises(TypeError):
        params["a.b"] = np.zeros(2)
    with pytest.raises(TypeError):
        params.views["a.b"] = np.zeros(2)
    with pytest.raises(AttributeError):
        params.flat = np.zeros(18)
    with pytest.raises(AttributeError):
        params.extra = 1


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p)), lambda p: p.copy(),
     lambda p: p.astype(np.float64)],
    ids=["deepcopy", "pickle", "copy", "astype"],
)  # fmt: skip
@pytest.mark.purity
def test_a_copy_has_memory_of_its_own_and_its_views_are_attached_to_it(params, duplicate):
    twin = duplicate(params)
    np.testing.assert_array_equal(twin.flat, params.flat)
    assert not np.shares_memory(twin.flat, params.flat)
    for name in params:
        assert np.shares_memory(twin[name], twin.flat)
        assert twin[name].shape == params[name].shape
    twin.flat[:] = 0
    assert not twin["c.W"].any() and params["c.W"].all()


@pytest.mark.purity
def test_a_shallow_copy_shares_the_vector(params):
    twin = copy.copy(params)
    twin["a.b"][0] = 99
    assert params.flat[6] == 99


@pytest.mark.purity
def test_zeros_like_has_the_layout_and_the_dtype(params):
    zeros = params.zeros_like()
    assert zeros.shapes == params.shapes and zeros.dtype == params.dtype and not zeros.flat.any()


@pytest.mark.purity
def test_the_dtype_is_chosen_here():
    assert Params(SHAPES).dtype == np.float32
    assert Params(SHAPES, np.complex128)["a.b"].dtype == np.complex128


@pytest.mark.parametrize("flat", [np.zeros(17), np.zeros((18, 1)), np.zeros(36)[::2]])
def test_a_vector_that_cannot_be_named_is_refused(flat):
    with pytest.raises(ValueError, match=r"flat has shape .* must be contiguous \(18,\)"):
        Params(SHAPES, flat=flat)


def test_a_vector_that_is_not_given_is_zero():
    assert not Params(SHAPES).flat.any()
