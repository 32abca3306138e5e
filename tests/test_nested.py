"""Arrays as people keep them, handed to `gradcheck`, and what it refuses."""

from typing import NamedTuple

import numpy as np
import pytest

from numpy_vae import Params, gradcheck

rng = np.random.default_rng(0)
X, T = rng.standard_normal((6, 4)), rng.standard_normal((6, 1))
W, B = rng.standard_normal((4, 1)), np.array([0.3])


class Layer(NamedTuple):
    W: np.ndarray
    b: np.ndarray


def loss(W, b):
    r = X @ W + b - T
    return (r * r).sum() / 2


dW, db = X.T @ (X @ W + B - T), (X @ W + B - T).sum(axis=0)

# name: (f, gradient, arrays), and the names of the blocks
FORMS = {
    "one array": (lambda a: loss(a, B), dW, W, ["array"]),
    "a number": (lambda a: a**3, 3 * 0.7**2, 0.7, ["array"]),
    "a list": (lambda a: loss(a[0], a[1]), [dW, db], [W, B], ["0", "1"]),
    "a tuple": (lambda a: loss(*a), (dW, db), (W, B), ["0", "1"]),
    "a tuple and a list": (lambda a: loss(*a), [dW, db], (W, B), ["0", "1"]),
    "a namedtuple": (lambda a: loss(a.W, a.b), Layer(dW, db), Layer(W, B), ["0", "1"]),
    "a mapping": (lambda a: loss(a["W"], a["b"]), {"b": db, "W": dW}, {"W": W, "b": B}, ["W", "b"]),
    "keys that are numbers": (lambda a: loss(a[0], a[7]), {0: dW, 7: db}, {0: W, 7: B}, ["0", "7"]),
    "nested": (
        lambda a: loss(a["layers"][0]["W"], a["layers"][1][0]),
        {"layers": [{"W": dW}, (db,)]},
        {"layers": [{"W": W}, (B,)]},
        ["layers.0.W", "layers.1.0"],
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["central", "complex", "taylor"])
def test_arrays_are_taken_as_people_keep_them(form, method):
    f, gradient, arrays, names = FORMS[form]
    report = gradcheck(f, gradient, arrays, method=method)
    assert report.ok and [row.name for row in report] == names and report.unchecked == ()


@pytest.mark.parametrize("form", FORMS)
def test_f_gets_the_form_that_was_passed(form):
    f, gradient, arrays, _ = FORMS[form]

    def spy(a):
        assert type(a) is (np.ndarray if isinstance(arrays, float) else type(arrays))
        return f(a)

    assert gradcheck(spy, gradient, arrays)


def test_params_become_a_dict_of_float64():
    params = Params({"W": (4, 1), "b": (1,)}, np.float64)
    params["W"][...], params["b"][...] = W, B
    assert gradcheck(lambda a: loss(a["W"], a["b"]), {"W": dW, "b": db}, params)


class Bunch(dict):
    __getattr__ = dict.__getitem__


def test_a_mapping_of_ones_own_stays_what_it_is():
    arrays = Bunch(W=W, b=B)
    assert gradcheck(lambda a: loss(a.W, a.b), {"W": dW, "b": db}, arrays)
    assert arrays.W is W


def test_what_is_no_array_is_passed_on_as_it_is():
    settings = {"name": "relu", "mask": None, "act": np.tanh, "rate": 0.5, "on": True, "rows": [1]}

    def f(a):
        assert (a["name"], a["mask"], a["on"], a["rows"]) == ("relu", None, True, [1])
        assert isinstance(a["rate"], float)
        return a["rate"] * np.sum(a["act"](a["x"]))

    x = np.array([0.3, -1.0])
    for method in "central", "complex", "taylor":
        report = gradcheck(f, {"x": 0.5 / np.cosh(x) ** 2}, {"x": x, **settings}, method=method)
        assert report.ok and report.unchecked == ()


def test_bytes_of_another_order_are_taken():
    assert gradcheck(lambda a: loss(a, B), dW.astype(">f8"), W.astype(">f8"))


def test_a_loss_with_its_gradient_is_refused_by_its_form():
    with pytest.raises(ValueError, match="f gave a tuple of 2, must give one real number"):
        gradcheck(lambda a: (loss(a, B), dW), dW, W)


@pytest.mark.parametrize("form", ["a list", "nested"])
def test_a_wrong_gradient_is_found_by_its_path(form):
    f, _, arrays, names = FORMS[form]
    wrong = [1.01 * dW, db] if form == "a list" else {"layers": [{"W": 1.01 * dW}, (db,)]}
    report = gradcheck(f, wrong, arrays)
    assert [row.name for row in report if not row.ok] == names[:1]
    assert f"FAIL  {names[0]}[" in str(report)


@pytest.mark.parametrize(
    "one",
    [
        float,
        np.float64,
        np.array,
        lambda v: np.array([v]),
        lambda v: np.array([[v]]),
        lambda v: [v],
    ],
)
def test_one_number_is_one_number(one):
    x = np.array([2.0, 3.0])
    assert gradcheck(lambda a: one((a["x"] ** 2).sum()), {"x": 2 * x}, {"x": x})


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_complex_number_is_one_too(shape):
    x = np.array([2.0, 3.0])
    f = lambda a: (a**2).sum().reshape(shape)  # noqa: E731
    assert gradcheck(f, 2 * x, x, method="complex")


def test_gradients_of_whole_numbers_and_of_longer_ones_are_taken():
    x = np.array([2.0, 3.0])
    for dtype in np.int64, np.longdouble:
        assert gradcheck(lambda a: (a**2).sum(), (2 * x).astype(dtype), x)


@pytest.mark.parametrize(
    ("gradient", "unchecked"),
    [({"W": dW}, ("b",)), ({"W": dW, "b": None}, ("b",)), ({"b": db}, ("W",))],
)
def test_a_gradient_that_is_missing_is_named(gradient, unchecked):
    arrays = {"W": W, "b": B, "labels": np.arange(3)}
    report = gradcheck(lambda a: loss(a["W"], a["b"]), gradient, arrays)
    assert report.ok and report.unchecked == unchecked
    assert str(report).endswith(f"not checked, as no gradient was given: {unchecked[0]}")


def test_none_in_a_list_is_a_gradient_that_is_missing():
    report = gradcheck(lambda a: loss(*a), [dW, None], [W, B])
    assert report.ok and report.unchecked == ("1",)


@pytest.mark.parametrize(
    ("gradient", "arrays", "message"),
    [
        ([dW], [W, B], "the gradient has 1 parts, must have 2, as the arrays do: None for o"),
        (dW, [W, B], "the gradient is an array, must be a list of arrays, as the arrays are"),
        ([dW], W, "the gradient is a list of arrays, must be an array, as the arrays are"),
        ([dW, db], {"W": W, "b": B}, "the gradient is a list of arrays, must be a mapping"),
        ({"W": [dW]}, {"W": W}, "the gradient W is a list of arrays, must be an array, as the arr"),
        ({"l": {"V": dW}}, {"l": {"W": W}}, "the gradient l.V has no array, must be one of W"),
        (dW, {1, 2}, "array is set, must be an array, or a list, tuple or mapping of arrays"),
        ([dW, db], [W, object()], "1 is object, must be an array, or a list, tuple or mapping of"),
        (None, W, "the gradient is empty, must have at least one block"),
        ([dW, db], object(), "array is object, must be an array, or a list, tuple or mapping of"),
        ({"a.b": dW}, {"a": {"b": W}, "a.b": W}, r"two arrays are named a\.b, must have names of"),
        ({1: dW}, {1: W, "1": W}, "two arrays are named 1, must have names of their own"),
        ([None, None], [W, B], "the gradient is empty, must have at least one block"),
        ([], [], "the gradient is empty, must have at least one block"),
        (dW.astype(np.float32), W, "the gradient array has dtype float32, must be float64: round"),
        ([dW, db], [W.astype(np.float32), B], "0 has dtype float32, must be float64: rounding dr"),
        (dW, np.ones((4, 1), int), "array has dtype int64, must be float64 to be moved"),
        (["a", db], [W, B], "the gradient 0 has dtype <U1, must be float64"),
        (lambda: dW, W, "the gradient array is a function, must be its values: call"),
        (dW, [[1.0, 2.0], [3.0]], "the gradient is an array, must be a list of arrays"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_in_words(gradient, arrays, message):
    with pytest.raises(ValueError, match=message):
        gradcheck(lambda a: 1.0, gradient, arrays)


def test_an_f_that_writes_to_a_nested_array_is_refused_by_its_path():
    def writes(a):
        a["layers"][0]["W"] *= 2
        return loss(a["layers"][0]["W"], B)

    with pytest.raises(ValueError, match=r"f wrote to layers\.0\.W, must leave its arrays"):
        gradcheck(writes, {"layers": [{"W": dW}]}, {"layers": [{"W": W}]})
