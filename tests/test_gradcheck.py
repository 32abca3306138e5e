"""Tests of the test: what is right passes, and what is wrong does not, by each method."""

import math

import numpy as np
import pytest

from numpy_vae import gradcheck
from numpy_vae.gradcheck import central_difference, differences

METHODS = ["central", "complex", "taylor"]
each_method = pytest.mark.parametrize("method", METHODS)


def f(a):
    """A function of no VAE: Σ w³ + Σ sin(w) v."""
    return np.sum(a["w"] ** 3) + np.sum(np.sin(a["w"]) * a["v"])


def gradient_at(a):
    return {"w": 3 * a["w"] ** 2 + np.cos(a["w"]) * a["v"], "v": np.sin(a["w"])}


@pytest.fixture
def point(rng):
    return {"w": rng.standard_normal((3, 2)), "v": rng.standard_normal((3, 2))}


def only_row(report):
    (row,) = report
    return row


# --- the idea -------------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [1e-3, 0.5, 3.0])
def test_a_central_difference_of_a_parabola_is_exact_at_any_step(rng, h):
    arrays = {"W": rng.standard_normal((3, 2)), "s": np.array(0.7), "labels": np.array([0, 2])}
    before = {name: array.copy() for name, array in arrays.items()}

    def parabola(a):
        return 5 + np.sum(a["W"] ** 2) + a["s"] * a["W"][2, 1] - 3 * a["s"] ** 2 + a["labels"].sum()

    gradient = {"W": 2 * arrays["W"], "s": arrays["W"][2, 1] - 6 * arrays["s"]}
    gradient["W"][2, 1] += arrays["s"]
    for name, index in ("W", (0, 1)), ("W", (2, 1)), ("W", (2, 0)), ("s", ()):
        slope = central_difference(parabola, arrays, name, index, h)
        assert slope == pytest.approx(gradient[name][index], abs=1e-13 / h)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_the_check_of_an_entry_is_that_difference(point, monkeypatch):
    for row in gradcheck(f, gradient_at(point), point):
        h = differences.STEP * max(1, abs(point[row.name][row.index]))
        assert row.numeric == central_difference(f, point, row.name, row.index, h)

    def wrong(f, arrays, name, index, h):
        return central_difference(f, arrays, name, index, h) * 1.001

    monkeypatch.setattr(differences, "central_difference", wrong)
    report = gradcheck(f, gradient_at(point), point)
    assert not any(row.ok for row in report)


# --- right and wrong ------------------------------------------------------------------------------


@each_method
def test_a_right_gradient_passes_and_every_block_is_named(point, method):
    report = gradcheck(f, gradient_at(point), point, method=method)
    assert report.ok and [row.name for row in report] == ["w", "v"]
    for row in report:
        assert row.ok and row.verdict == "ok" and row.method == method and row.shape == (3, 2)
        assert row.kinks == () and row.note == ""


def test_how_exact_each_method_is(point):
    w, v = gradcheck(f, gradient_at(point), point, method="central")
    assert max(w.error, v.error) < 1e-8 and w.order is None
    w, v = gradcheck(f, gradient_at(point), point, method="complex")
    assert max(w.error, v.error) < 1e-15 and w.order is None
    w, v = gradcheck(f, gradient_at(point), point, method="taylor")
    assert w.order == pytest.approx(2, abs=0.01)
    assert v.order == math.inf  # f is linear in v: there is no remainder


@each_method
@pytest.mark.parametrize("factor", [1.001, 0.999, -1.0, 0.5, 2.0])
@pytest.mark.parametrize("block", ["w", "v"])
def test_a_derivative_that_is_wrong_by_a_thousandth_is_rejected(point, block, factor, method):
    gradient = gradient_at(point)
    gradient[block] = gradient[block] * factor
    report = gradcheck(f, gradient, point, method=method)
    assert not report.ok
    assert [row.name for row in report if not row.ok] == [block]
    if method == "taylor":
        assert next(row for row in report if not row.ok).order == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("method", ["central", "complex"])
def test_one_wrong_entry_is_found_and_both_values_are_shown(point, method):
    gradient = gradient_at(point)
    right = gradient["w"][2, 0]
    gradient["w"][2, 0] += 1e-4
    report = gradcheck(f, gradient, point, method=method)
    row = next(iter(report))
    assert not report.ok and row.index == (2, 0) and row.verdict == "FAIL"
    assert row.numeric == pytest.approx(right) and row.analytic == pytest.approx(right + 1e-4)
    assert "FAIL  w[2, 0]" in str(report)
    assert f"{row.analytic:+.8e} {row.numeric:+.8e}" in str(report)
    assert max(map(len, str(report).splitlines())) <= 80


def test_taylor_shows_the_derivatives_along_its_direction(point):
    gradient = gradient_at(point)
    gradient["w"] = gradient["w"] * 2
    row = next(iter(gradcheck(f, gradient, point, method="taylor")))
    assert row.index is None and row.analytic == pytest.approx(2 * row.numeric, rel=1e-3)
    assert "FAIL  w(direction)" in str(row) and "order 1.00 taylor" in str(row)


@pytest.mark.parametrize("method", ["central", "complex"])
def test_the_error_is_relative_to_the_largest_entry_of_the_block(method):
    x = np.array([1.0, -2.0])
    gradient = {"x": 2 * x + [0.4, 0]}
    row = only_row(gradcheck(lambda a: np.sum(a["x"] ** 2), gradient, {"x": x}, method=method))
    assert row.error == pytest.approx(0.4 / 4, rel=1e-6) and row.index == (0,)


@each_method
def test_a_small_block_is_held_to_its_own_size(point, method):
    # Beside a block of size 1 an error of 1e-7 is invisible; in a block of size 1e-5 it is 1 %.
    def g(a):
        return f(a) + 1e-5 * np.sum(a["u"] ** 2)

    point = point | {"u": np.array([0.5, -0.25])}
    gradient = gradient_at(point) | {"u": 2e-5 * point["u"]}
    assert gradcheck(g, gradient, point, method=method).ok
    gradient["u"] = gradient["u"] * 1.01
    assert not gradcheck(g, gradient, point, method=method).ok


@each_method
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_rejected(point, wrong, method):
    gradient = gradient_at(point)
    gradient["v"][0, 1] = wrong
    report = gradcheck(f, gradient, point, method=method)
    assert [row.name for row in report if not row.ok] == ["v"]
    if method != "taylor":
        assert next(row for row in report if not row.ok).index == (0, 1)


@each_method
def test_a_gradient_of_nothing_but_nan_is_rejected_where_f_is_flat(method):
    x = np.zeros(3)
    row = only_row(
        gradcheck(lambda a: 1 + 0 * a["x"].sum(), {"x": x + np.nan}, {"x": x}, method=method)
    )
    assert not row.ok and math.isnan(row.error)


@each_method
def test_a_scalar_and_an_axis_of_length_one_are_blocks_like_any_other(method):
    arrays = {"s": np.array(0.7), "t": np.ones((1, 2))}

    def g(a):
        return np.sin(a["s"]) * np.sum(a["t"] ** 2)

    gradient = {"s": 2 * np.cos(arrays["s"]), "t": 2 * np.sin(0.7) * arrays["t"]}
    assert gradcheck(g, gradient, arrays, method=method).ok
    gradient["s"] = gradient["s"] * 1.01
    assert not gradcheck(g, gradient, arrays, method=method).ok


def test_only_the_named_blocks_are_checked_and_the_others_are_held(point):
    report = gradcheck(f, {"v": np.sin(point["w"])}, point)
    assert report.ok and only_row(report).name == "v"


def test_a_saturated_point_is_left_to_the_complex_step():
    x = np.array([80.0, -80.0, 0.0])
    e = lambda a: np.sum(np.exp(a["x"])) + np.sum(a["y"] ** 2)  # noqa: E731
    arrays, gradient = {"x": x, "y": np.array([3.0])}, {"x": np.exp(x), "y": np.array([6.0])}
    assert gradcheck(e, gradient, arrays, method="complex").ok
    gradient["y"] = gradient["y"] * (1 + 1e-10)
    assert not gradcheck(e, gradient, arrays, method="complex").ok
    # e⁸⁰ drowns the difference of y: the complex step is asked, within 1e-6.
    for method in "central", "taylor":
        assert gradcheck(e, gradient, arrays, method=method).ok
        assert not gradcheck(e, gradient | {"y": np.array([6.1])}, arrays, method=method).ok


@pytest.mark.parametrize("method", ["central", "taylor"])
def test_what_rounding_hides_from_an_f_of_real_numbers_is_not_right(method):
    def real(a):
        if np.iscomplexobj(a["x"]):
            raise NotImplementedError
        return 1e9 + 1e-6 * np.sum(np.sin(a["x"]))

    x = np.linspace(0, 1, 5)
    for gradient in 1e-6 * np.cos(x), 0 * x:  # a right one, and one that was forgotten
        report = gradcheck(real, {"x": gradient}, {"x": x}, method=method)
        assert not report.ok and "the rounding of f hides this derivative" in str(report)


# --- rounding -------------------------------------------------------------------------------------


def test_the_rounding_of_f_is_allowed_for_and_no_more():
    x = np.linspace(-1, 1, 40)
    f = lambda a: 1e6 + np.sum(a["x"] ** 2)  # noqa: E731
    floor = 4 * 2.2e-16 * 1e6 / 6e-6
    report = gradcheck(f, {"x": 2 * x}, {"x": x})
    assert report.ok and next(iter(report)).error > 1e-6  # more than the tolerance alone
    assert not gradcheck(f, {"x": 2 * x + 4 * floor}, {"x": x}).ok
    # The step grows with the entry, and the floor shrinks with it.
    far = np.array([1e4])
    g = lambda a: 100 + 1e-9 * a["x"].sum()  # noqa: E731
    assert not gradcheck(g, {"x": np.array([5e-9])}, {"x": far}).ok


@pytest.mark.parametrize("method", ["central", "taylor"])
def test_an_f_that_cancels_has_more_rounding_than_its_value(method):
    x = np.linspace(-1, 1, 40)
    f = lambda a: (1e6 + np.sum(a["x"] ** 2)) - 1e6  # noqa: E731
    assert gradcheck(f, {"x": 2 * x}, {"x": x}, method=method).ok
    assert not gradcheck(f, {"x": 2.1 * x}, {"x": x}, method=method).ok


def test_a_derivative_that_cancels_has_lost_digits_and_is_no_excuse():
    # The sum of two terms of 1e5 that leave 1: eleven digits are right.
    arrays = {"x": np.array(0.7), "a": np.array(1e5 + 1.1), "b": np.array(1e5 + 0.1)}
    f = lambda p: np.sin(p["x"]) * p["a"] - np.sin(p["x"]) * p["b"]  # noqa: E731
    right = np.cos(0.7) * (arrays["a"] - arrays["b"])
    row = only_row(gradcheck(f, {"x": right}, arrays, method="complex"))
    assert row.ok and 1e-12 < row.error < 1e-10
    assert not gradcheck(f, {"x": right * (1 + 2e-9)}, arrays, method="complex").ok


def test_a_curve_that_the_step_does_not_resolve_is_no_kink():
    x = np.linspace(0.1, 0.2, 7)
    f = lambda a: np.sum(np.sin(1000 * a["x"]))  # noqa: E731
    row = only_row(gradcheck(f, {"x": 1000 * np.cos(1000 * x)}, {"x": x}))
    assert row.ok and not row.kinks and row.error < 1e-7
    assert not gradcheck(f, {"x": 1000.01 * np.cos(1000 * x)}, {"x": x}).ok


# --- blocks that must be zero ---------------------------------------------------------------------


@each_method
def test_the_gradient_of_what_f_does_not_read_must_be_zero(point, method):
    point = point | {"unused": np.ones(3)}
    gradient = gradient_at(point) | {"unused": np.zeros(3)}
    report = gradcheck(f, gradient, point, method=method)
    assert report.ok and report.rows[2].error == 0
    gradient["unused"][1] = 1e-9
    report = gradcheck(f, gradient, point, method=method)
    assert [row.name for row in report if not row.ok] == ["unused"]
    if method != "complex":
        assert "unused: f does not depend on this array: its gradient must be zero" in str(report)


@each_method
def test_a_gradient_of_zeros_is_wrong_where_f_moves(point, method):
    gradient = gradient_at(point) | {"v": np.zeros((3, 2))}
    assert not gradcheck(f, gradient, point, method=method).ok


@pytest.mark.parametrize("method", ["central", "taylor"])
def test_a_block_whose_effect_drowns_is_read_all_the_same(method):
    f = lambda a: 1e25 + np.sum(a["x"])  # noqa: E731
    assert gradcheck(f, {"x": np.ones(3)}, {"x": np.zeros(3)}, method=method).ok
    assert not gradcheck(f, {"x": 1.1 * np.ones(3)}, {"x": np.zeros(3)}, method=method).ok


# --- kinks ----------------------------------------------------------------------------------------


def relu_sum(a):
    return np.sum(a["x"] * (a["x"].real > 0))


def near_kink(count=1):
    x = np.linspace(-1, 1, 201) + 0.003
    x[50 : 50 + count] = 1e-7  # closer to the kink than the step
    return x


def test_an_entry_at_a_kink_is_confirmed_by_the_complex_step_counted_and_named():
    x = near_kink()
    report = gradcheck(relu_sum, {"x": (x > 0).astype(float)}, {"x": x})
    assert report.ok and only_row(report).kinks == ((50,),)
    assert "x: 1 at a kink: [50]" in str(report)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_kink_is_seen_wherever_it_lies_within_the_step(share):
    x = near_kink()
    x[50] = -share * 6e-6
    assert only_row(gradcheck(relu_sum, {"x": (x > 0).astype(float)}, {"x": x})).kinks == ((50,),)


def test_a_wrong_gradient_does_not_pass_as_a_kink():
    x = near_kink()
    row = only_row(gradcheck(relu_sum, {"x": (x > 1e-6).astype(float)}, {"x": x}))
    assert not row.ok and row.index == (50,) and row.kinks == ()


def test_a_wrong_gradient_is_not_confirmed_by_an_f_that_drops_the_imaginary_part():
    # Im f is 0 here, whatever the derivative: so is a gradient that has been forgotten.
    x = near_kink()
    leaky = lambda a: np.sum(np.maximum(3 * a["x"].real, a["x"].real))  # noqa: E731
    gradient = np.where(x > 0, 3.0, 1.0)
    gradient[50] = 0
    assert not gradcheck(leaky, {"x": gradient}, {"x": x}).ok


def test_a_kink_of_an_f_of_real_numbers_is_left_outside_by_a_smaller_step_and_counted():
    def real(a):
        if np.iscomplexobj(a["x"]):
            raise NotImplementedError
        return relu_sum(a)

    x = near_kink()
    assert only_row(gradcheck(real, {"x": (x > 0).astype(float)}, {"x": x})).kinks == ((50,),)
    assert not gradcheck(real, {"x": (x > 1e-6).astype(float)}, {"x": x}).ok


def test_the_order_is_read_along_directions_without_a_kink():
    # One entry lies close to its kink: along half of the directions it is crossed on the way.
    x = np.array([1e-6, 0.5, -0.7, 1.2])

    def f(a):
        positive = a["x"] * (a["x"].real > 0)
        return np.sum(positive) + np.sum(np.cosh(a["x"]))

    gradient = (x > 0) + np.sinh(x)
    for seed in range(20):
        report = gradcheck(f, {"x": gradient}, {"x": x}, method="taylor", rng=seed)
        assert report.ok and 1.95 < only_row(report).order < 2.05, seed
    assert not gradcheck(f, {"x": 1.001 * gradient}, {"x": x}, method="taylor").ok


CORNERS = {  # f, the slopes on its two sides at 0, and whether Im f survives
    "relu": (lambda x: np.maximum(x, 0), 0.0, 1.0),
    "relu, by its mask": (lambda x: x * (x.real > 0), 0.0, 1.0),
    "abs": (np.abs, -1.0, 1.0),
    "leaky": (lambda x: np.where(x.real > 0, x, 0.1 * x), 0.1, 1.0),
    "concave": (lambda x: -np.maximum(3 * x, -x), 1.0, -3.0),
}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("method", METHODS)
def test_at_a_corner_what_lies_between_the_slopes_passes_and_nothing_else(corner, method):
    shape, left, right = CORNERS[corner]
    x = np.array([0.3, 0.0, -0.7, 0.0])
    f = lambda a: np.sum(shape(a["x"])) + np.sum(np.sin(a["x"]))  # noqa: E731
    if corner == "abs" and method == "complex":
        return  # abs ends the imaginary part
    slope = np.where(x > 0, right, left) + np.cos(x)
    for share, ok in (0, True), (0.5, True), (1, True), (1.01, False), (-0.01, False), (-9, False):
        slope[3] = left + share * (right - left) + 1
        report = gradcheck(f, {"x": slope}, {"x": x}, method=method)
        row = only_row(report)
        assert report.ok == ok, f"{share}\n{report}"
        assert report.status == row.status == ("ok" if ok else "undecided")
        if method != "complex":  # which may agree with one of the two, and ask no further
            assert row.kinks == (((1,), (3,)) if ok else ((1,),))
        if not ok:
            assert row.index == (3,) and row.verdict == "?"
            assert row.numeric == pytest.approx(1 + (left if share < 0 else right), abs=1e-9)
            assert "x: at a corner: cannot be decided here. Move x[3] off it (biases to 0" in str(
                report
            )


def test_any_number_of_entries_may_lie_at_a_corner_and_all_are_counted():
    x = np.zeros(50)
    report = gradcheck(lambda a: np.sum(np.abs(a["x"])), {"x": x}, {"x": x})
    assert report.ok and len(only_row(report).kinks) == 50
    assert "x: 50 at a kink: [0], [1], [2], [3], [4], [5], [6], [7] and 42 more" in str(report)


def test_a_wrong_entry_beside_a_corner_is_wrong_and_not_undecided():
    x = np.array([0.0, 0.0, 0.5])
    gradient = np.array([0.0, 1.5, 1.1])
    report = gradcheck(lambda a: np.sum(np.maximum(a["x"], 0)), {"x": gradient}, {"x": x})
    assert report.status == "wrong" and only_row(report).index == (2,)
    gradient[2] = 1
    report = gradcheck(lambda a: np.sum(np.maximum(a["x"], 0)), {"x": gradient}, {"x": x})
    assert report.status == "undecided" and only_row(report).index == (1,)


@pytest.mark.parametrize("method", METHODS)
def test_where_corners_meet_a_gradient_by_the_usual_masks_is_undecided(method):
    # Each relu has slope 0 at 0 by its mask, but f has the slopes 2 and 3 on its sides.
    f = lambda a: np.sum(3 * np.maximum(a["b"], 0) - 2 * np.maximum(-a["b"], 0))  # noqa: E731
    report = gradcheck(f, {"b": np.zeros(2)}, {"b": np.zeros(2)}, method=method)
    assert report.status == "undecided" and "Move b[0], b[1] off it" in str(report)


@pytest.mark.parametrize("method", METHODS)
def test_a_small_corner_on_a_steep_slope_is_seen(method):
    # Of a thousandth of the block and less, down to what the tolerance passes.
    for jump in 1e-2, 1e-3, 1e-4, 1e-5:
        f = lambda a, jump=jump: np.sum(np.exp(a["x"])) + jump * np.maximum(a["x"][0], 0)  # noqa: E731
        x = np.array([0.0, 1.0])
        for share, ok in (0, True), (1, True), (3, False):
            gradient = np.array([1 + share * jump, math.e])
            report = gradcheck(f, {"x": gradient}, {"x": x}, method=method)
            assert report.ok == ok, f"{jump}, {share}\n{report}"


def test_directions_through_corners_are_left_out():
    rng = np.random.default_rng(0)
    weights, x = rng.standard_normal(400), np.zeros(400)
    f = lambda a: np.sum(weights * np.maximum(a["b"], 0)) + np.sum(a["b"])  # noqa: E731
    report = gradcheck(f, {"b": np.ones(400)}, {"b": x}, max_entries=20)
    assert report.ok and len(only_row(report).kinks) == 20
    assert not gradcheck(f, {"b": np.full(400, 9.0)}, {"b": x}, max_entries=20).ok


@pytest.mark.parametrize("method", METHODS)
def test_at_a_jump_nothing_can_be_decided(method):
    x = np.array([0.5, 1.0])
    f = lambda a: np.sum(a["x"] ** 2) + float(a["x"][0].real >= 0.5)  # noqa: E731
    for gradient in 2 * x, 2 * x + [7, 0], 2 * x + [1e5, 0]:
        report = gradcheck(f, {"x": gradient}, {"x": x}, method=method)
        # On one side there is a slope: the complex step and the Taylor remainder read it there.
        assert report.ok == (method != "central" and gradient[0] == 1), f"\n{report}"


# --- large blocks ---------------------------------------------------------------------------------


def quartic(a):
    return np.sum(a["x"] ** 4)


@pytest.fixture
def large(rng):
    return rng.standard_normal((70, 50))


@pytest.mark.parametrize("method", ["central", "complex"])
def test_a_large_block_is_sampled_with_its_largest_entry(large, method):
    calls = []

    def counted(a):
        calls.append(1)
        return quartic(a)

    gradient = 4 * large**3
    report = gradcheck(counted, {"x": gradient}, {"x": large}, method=method, max_entries=20)
    assert report.ok and only_row(report).entries <= 20 and len(calls) < 100
    largest = np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)
    gradient[largest] *= 1.0001
    row = only_row(gradcheck(quartic, {"x": gradient}, {"x": large}, method=method, max_entries=20))
    assert not row.ok and row.index in (largest, None)


@each_method
def test_one_wrong_entry_among_thousands_is_seen_along_a_direction(large, method):
    gradient = 4 * large**3
    index = np.unravel_index(np.argsort(np.abs(gradient), axis=None)[1000], gradient.shape)
    gradient[index] += 0.1  # of about 250; not an entry that a sample of one would hit
    report = gradcheck(quartic, {"x": gradient}, {"x": large}, method=method, max_entries=1)
    row = only_row(report)
    assert not report.ok and row.index is None
    assert "x(direction)" in str(report)


def test_the_sample_is_the_same_each_time_unless_another_is_asked_for(large):
    gradient = 4 * large**3 * (1 + 1e-9 * large)
    rows = [
        only_row(gradcheck(quartic, {"x": gradient}, {"x": large}, max_entries=5, rng=seed))
        for seed in (0, 0, 1)
    ]
    assert rows[0] == rows[1] != rows[2]


def test_the_directions_see_what_the_sample_does_not(large):
    gradient = 4 * large**3
    index = np.unravel_index(np.argsort(np.abs(gradient), axis=None)[1000], gradient.shape)
    gradient[index] += 0.1
    for directions, ok in (0, True), (8, False):
        settings = {"max_entries": 1, "directions": directions}
        assert gradcheck(quartic, {"x": gradient}, {"x": large}, **settings).ok == ok


# --- what is refused ------------------------------------------------------------------------------


@each_method
def test_the_point_is_not_written_to(point, method):
    before = {name: value.copy() for name, value in point.items()}
    gradcheck(f, gradient_at(point), point, method=method)
    for name in point:
        np.testing.assert_array_equal(point[name], before[name])


def test_f_is_called_at_the_point_after_the_check_as_before(point):
    seen = []

    def spy(a):
        seen.append({name: np.array(value) for name, value in a.items()})
        return f(a)

    gradient = gradient_at(point)
    for method in METHODS:
        gradcheck(spy, gradient, point, method=method)
    for now in seen:  # one block at most is moved at a time, or all of them by rounding alone
        moved = [
            n for n in point if np.abs(now[n] - point[n]).max() > 2e-3 * np.abs(point[n]).max()
        ]
        assert len(moved) <= 1


def test_float32_is_refused(point):
    single = {name: value.astype(np.float32) for name, value in point.items()}
    with pytest.raises(ValueError, match="w has dtype float32, must be float64: rounding drowns"):
        gradcheck(f, gradient_at(single), single)
    with pytest.raises(ValueError, match="the gradient w has dtype float32, must be float64"):
        gradcheck(f, gradient_at(single), point)
    with pytest.raises(ValueError, match="f gave float32, must compute in float64"):
        gradcheck(lambda a: np.float32(f(a)), gradient_at(point), point)
    with pytest.raises(
        ValueError, match="f has no more digits than float32, must be computed in float64"
    ):
        gradcheck(lambda a: float(np.float32(f(a))), gradient_at(point), point)


def test_a_function_that_draws_is_refused(point, rng):
    with pytest.raises(ValueError, match="f gave two values at one point, must be deterministic"):
        gradcheck(lambda a: f(a) + rng.standard_normal(), gradient_at(point), point)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_function_that_is_not_finite_is_refused(point, value):
    with pytest.raises(ValueError, match=f"f is {value} at the point, must be finite"):
        gradcheck(lambda a: f(a) * 0 + value, gradient_at(point), point)


@pytest.mark.parametrize(
    ("value", "gave"),
    [
        (np.ones(3), r"float64 of shape \(3,\)"),
        (1j, r"complex128 of shape \(\)"),
        (None, r"NoneType of shape \(\)"),
        ("1.5", r"<U3 of shape \(\)"),
        ([], r"float64 of shape \(0,\)"),
    ],
)
def test_a_function_that_is_not_one_real_number_is_refused(point, value, gave):
    with pytest.raises(ValueError, match=f"f gave {gave}, must give one real number"):
        gradcheck(lambda a: value, gradient_at(point), point)


def test_a_function_that_writes_to_its_arrays_is_refused(point):
    def writes(a):
        a["v"] *= 1.5
        a["v"] /= 1.5
        a["w"][0, 0] = 3
        return f(a)

    with pytest.raises(ValueError, match="f wrote to w, must leave its arrays as they are"):
        gradcheck(writes, gradient_at(point), point)


def test_the_complex_step_refuses_an_f_that_ends_the_imaginary_part(point):
    absolute = lambda a: np.sum(np.abs(a["w"]) ** 3)  # noqa: E731
    gradient = {"w": 3 * point["w"] ** 2 * np.sign(point["w"])}
    assert gradcheck(absolute, gradient, point).ok
    with pytest.raises(ValueError, match="f is not analytic in w, must be for the complex step: "):
        gradcheck(absolute, gradient, point, method="complex")


def test_the_complex_step_refuses_an_f_of_real_numbers_alone(point):
    def g(a):
        if np.iscomplexobj(a["w"]):
            raise TypeError("real numbers only")
        return f(a)

    with pytest.raises(
        ValueError,
        match=r"f fails on complex arrays \(TypeError: real numbers only\), must accept them",
    ):
        gradcheck(g, gradient_at(point), point, method="complex")
    assert gradcheck(g, gradient_at(point), point, method="taylor").ok


def test_an_empty_gradient_is_refused(point):
    with pytest.raises(ValueError, match="the gradient is empty, must have at least one block"):
        gradcheck(f, {}, point)


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        ({"q": np.zeros(2)}, "the gradient q has no array, must be one of w, v"),
        (
            {"w": np.zeros(6)},
            r"the gradient w has shape \(6,\), must be that of its array, \(3, 2\)",
        ),
        ({"empty": np.zeros((0, 2))}, "the gradient empty has no entries, must have at least one"),
        ({"w": np.zeros((3, 2), complex)}, "the gradient w has dtype complex128, must be float64"),
        ({"labels": np.zeros(3)}, "labels has dtype int64, must be float64 to be moved"),
    ],
)
def test_a_gradient_of_nothing_that_can_be_moved_is_refused(point, gradient, message):
    point = point | {"empty": np.zeros((0, 2)), "labels": np.array([0, 2, 1])}
    with pytest.raises(ValueError, match=message):
        gradcheck(f, gradient, point)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "forward"}, "method is 'forward', must be one of central, complex, taylor"),
        ({"step": 0.0}, "step is 0.0, must be a number greater than 0"),
        ({"tolerance": -1.0}, "tolerance is -1.0, must be a number at least 0"),
        ({"max_entries": 0}, "max_entries is 0, must be a whole number from 1"),
        ({"directions": -1}, "directions is -1, must be a whole number from 0"),
    ],
)
def test_settings_out_of_range_are_refused(point, settings, message):
    with pytest.raises(ValueError, match=message):
        gradcheck(f, gradient_at(point), point, **settings)


# --- what a hostile reader tried ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["central", "taylor"])
def test_arrays_that_are_not_checked_are_not_moved(method, rng):
    X, labels = rng.standard_normal((5, 3)), np.array([1.0, 3.0, 2.0, 0.0, 1.0])

    def loss(a):  # softmax cross-entropy; the labels would change when moved by a bit
        l = X @ a["W"]
        log_p = l - np.log(np.exp(l).sum(axis=1, keepdims=True))
        return -log_p[np.arange(5), a["labels"].real.astype(int)].mean()

    W = rng.standard_normal((3, 4))
    p = np.exp(X @ W) / np.exp(X @ W).sum(axis=1, keepdims=True)
    right = X.T @ (p - np.eye(4)[labels.astype(int)]) / 5
    arrays = {"W": W, "labels": labels, "mask": np.array([True, False]), "n": np.array(3)}
    assert gradcheck(loss, {"W": right}, arrays, method=method).ok
    assert not gradcheck(loss, {"W": 2 * right}, arrays, method=method).ok


@pytest.mark.parametrize("method", ["central", "taylor"])
@pytest.mark.parametrize(
    ("jump", "factor"),
    [
        (lambda x: float(x[0] >= 0.5), 100),
        (lambda x: 1e-3 * np.sum(np.floor(2 * x)), 1.5),
        (lambda x: np.maximum(0, 0.5 - x[0]), 1.5),
    ],
    ids=["step", "floor", "kink"],
)
def test_a_jump_at_the_point_is_no_rounding(method, jump, factor):
    x = np.array([0.5, 1.0, 1.5, 2.2])
    f = lambda a: np.sum(a["x"] ** 2) + jump(a["x"])  # noqa: E731
    assert not gradcheck(f, {"x": factor * 2 * x}, {"x": x}, method=method).ok


def test_errors_of_one_size_do_not_cancel_along_a_direction():
    square = lambda a: np.sum(a["x"] ** 2)  # noqa: E731
    x = np.array([0.5, 1.0, 2.0])
    for seed in range(50):
        swapped = {"x": 2 * x[[2, 1, 0]]}
        assert not gradcheck(square, swapped, {"x": x}, method="taylor", rng=seed).ok
        ones = np.ones(4)
        assert not gradcheck(square, {"x": 6 * ones}, {"x": ones}, method="taylor", rng=seed).ok


def test_an_error_that_bends_like_the_curve_is_seen_on_the_way_back():
    # R = |h δ - h² c / 2| falls faster than h² along one of v and -v.
    f = lambda a: np.sum(np.sin(1e4 * a["x"]))  # noqa: E731
    x = np.linspace(0.1, 0.2, 5)
    for seed in range(30):
        gradient = {"x": 1e4 * np.cos(1e4 * x) * (1 - 1e-3)}
        assert not gradcheck(f, gradient, {"x": x}, method="taylor", rng=seed).ok
        assert gradcheck(f, {"x": 1e4 * np.cos(1e4 * x)}, {"x": x}, method="taylor", rng=seed).ok


@pytest.mark.parametrize("penalty", [np.abs, lambda x: np.sqrt((x * x.conj()).real)])
def test_a_small_term_that_ends_the_imaginary_part_is_found(penalty):
    x = np.array([0.5, -1.0, 2.0])
    f = lambda a: np.sum(a["x"] ** 2) + 5e-3 * np.sum(penalty(a["x"]))  # noqa: E731
    for gradient in 2 * x, 2 * x + 5e-3 * np.sign(x):
        with pytest.raises(ValueError, match="f is not analytic in x, must be for the complex"):
            gradcheck(f, {"x": gradient}, {"x": x}, method="complex")


def test_an_f_that_changes_its_mind_later_is_refused(point):
    calls = []

    def drifts(a):
        calls.append(1)
        return f(a) + 1e-3 * (len(calls) > 20)

    with pytest.raises(ValueError, match="f gave two values at one point, must be deterministic"):
        gradcheck(drifts, gradient_at(point), point)


@pytest.mark.parametrize("method", ["central", "complex"])
def test_huge_and_tiny_functions_are_held_to_their_size(method, large):
    for size in 1e200, 1e-200:
        f = lambda a, size=size: size * np.sum(np.sin(a["x"]))  # noqa: E731
        right = size * np.cos(large)
        settings = {"method": method, "max_entries": 1}
        assert gradcheck(f, {"x": right}, {"x": large}, **settings).ok
        assert not gradcheck(f, {"x": right * 1.01}, {"x": large}, **settings).ok


@each_method
def test_a_divergence_at_its_minimum_is_right(method):
    # f = 0 and its gradient is 0, but not its rounding.
    z = np.zeros((4, 3))

    def kl(a):
        return (a["mu"] ** 2 + np.exp(a["lv"]) - 1 - a["lv"]).sum() / 2

    assert gradcheck(kl, {"mu": z, "lv": z}, {"mu": z, "lv": z}, method=method).ok
    assert not gradcheck(kl, {"mu": z, "lv": z + 1e-3}, {"mu": z, "lv": z}, method=method).ok


@pytest.mark.parametrize(
    ("function", "derivative", "x"),
    [
        (np.log, lambda x: 1 / x, np.array([1e-4, 1e-3, 1.0])),
        (np.sqrt, lambda x: 0.5 / np.sqrt(x), np.array([1e-5, 2.0])),
        (np.sin, np.cos, np.array([1e4, 3e4])),
        (lambda x: np.sin(1e4 * x), lambda x: 1e4 * np.cos(1e4 * x), np.array([0.3, 0.7])),
    ],
    ids=["log", "sqrt", "sin", "fast"],
)
@pytest.mark.parametrize("method", ["central", "taylor"])
def test_the_step_is_made_smaller_where_f_needs_it(function, derivative, x, method):
    f = lambda a: np.sum(function(a["x"]))  # noqa: E731
    report = gradcheck(f, {"x": derivative(x)}, {"x": x}, method=method)
    assert report.ok, f"\n{report}"
    assert not gradcheck(f, {"x": 1.01 * derivative(x)}, {"x": x}, method=method).ok


def test_the_point_is_where_it_was_when_f_raises(point):
    def fragile(a):
        if not np.array_equal(a["w"], point["w"]):
            raise RuntimeError("no other point than this")
        return f(a)

    with pytest.raises(RuntimeError, match="no other point"):
        gradcheck(fragile, gradient_at(point), point)


def test_the_largest_entry_is_always_in_the_sample(large):
    gradient = 4 * large**3
    index = np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)
    gradient[index] *= 1.00001
    for seed in range(5):
        row = only_row(
            gradcheck(quartic, {"x": gradient}, {"x": large}, max_entries=2, directions=0, rng=seed)
        )
        assert not row.ok and row.index == index


def test_no_warning_is_let_out_by_the_probes():
    # Beyond the edge of the domain, at infinity in an array that is held, in complex arithmetic.
    arrays = {"x": np.array([1e-7, 1.0]), "bound": np.array([np.inf])}
    f = lambda a: np.sum(np.log(a["x"])) + 0 * np.sum(a["bound"] > 1)  # noqa: E731
    for method in METHODS:
        gradcheck(f, {"x": 1 / arrays["x"]}, arrays, method=method)
    with pytest.raises(ValueError, match="f fails on complex arrays"):
        gradcheck(
            lambda a: math.exp(a["x"][0]), {"x": np.array([1.0, 0])}, arrays, method="complex"
        )


def test_a_value_that_has_cancelled_is_not_taken_for_float32(rng):
    x = rng.standard_normal((5, 4))
    f = lambda a: (a["x"] - a["x"].mean()).sum()  # noqa: E731
    for method in METHODS:  # zero but for rounding: right or not, it is not refused
        gradcheck(f, {"x": np.zeros((5, 4))}, {"x": x}, method=method)


def test_a_block_of_rounding_alone_says_so():
    f = lambda a: np.sum(a["b"] - a["b"].mean()) + np.sum(a["x"] ** 2)  # noqa: E731
    arrays = {"b": np.array([0.1, 0.7, 0.3]), "x": np.ones(2)}
    report = gradcheck(f, {"b": np.full(3, 5e-16), "x": 2 * arrays["x"]}, arrays, method="complex")
    assert report.rows[1].ok and (report.rows[0].ok or "as small as rounding" in str(report))


def test_an_f_that_writes_is_told_so_and_not_that_it_draws():
    def centres(a):
        x = a["x"]
        x -= x.mean() + 1
        return np.sum(x**2)

    with pytest.raises(ValueError, match="f wrote to x, must leave its arrays as they are"):
        gradcheck(centres, {"x": np.ones(3)}, {"x": np.arange(3.0)})


def test_an_order_between_one_and_two_is_wrong():
    # The error and the curvature are of one size at the smallest h that can be read.
    orders = []
    for error in np.geomspace(1e-8, 1e-4, 30):
        x = np.array([1.0])
        gradient = {"x": 2 * x * (1 + error)}
        row = only_row(
            gradcheck(lambda a: np.sum(a["x"] ** 2), gradient, {"x": x}, method="taylor")
        )
        assert row.ok == (row.order >= 1.95)
        orders.append(row.order)
    assert any(1.5 < order < 1.9 for order in orders) and orders[0] > 1.95 and orders[-1] < 1.01


def test_digits_that_are_lost_excuse_a_billionth_at_most_and_leave_the_point_alone():
    arrays = {"x": np.array(0.7), "a": np.array(1e8 + 1.1), "b": np.array(1e8 + 0.1)}
    seen = []

    def f(p):
        if np.iscomplexobj(p["x"]):
            seen.append({name: np.real(value).copy() for name, value in p.items()})
        return np.sin(p["x"]) * p["a"] - np.sin(p["x"]) * p["b"]

    wrong = np.cos(0.7) * (arrays["a"] - arrays["b"]) * (1 + 5e-9)
    gradient = {"x": wrong, "a": np.sin(arrays["x"])}
    assert not gradcheck(f, gradient, arrays, method="complex", tolerance=1e-12).rows[0].ok
    for name in arrays:  # after the first block has been nudged, the second is checked where it was
        assert seen[-1][name] == arrays[name]


def test_a_derivative_that_a_short_step_hides_is_read_over_wider_ones():
    def real(a):
        if np.iscomplexobj(a["x"]):
            raise NotImplementedError
        return 1e6 + 3e-3 * np.sum(np.sin(a["x"]))

    x = np.linspace(0, 1, 5)
    for factor, ok in (1, True), (1.01, False), (0, False):
        assert gradcheck(real, {"x": factor * 3e-3 * np.cos(x)}, {"x": x}).ok == ok


def test_a_jump_under_one_entry_does_not_excuse_that_entry():
    x = np.array([0.5, 1.0, 1.5])
    f = lambda a: np.sum(a["x"] ** 2) + float(a["x"][0].real >= 0.5)  # noqa: E731
    assert not gradcheck(f, {"x": 2 * x + [2.0, 0, 0]}, {"x": x}).ok


def test_an_order_is_not_read_where_the_square_and_the_cube_cancel():
    # h² - h³ / a, at the h where the remainder can be read first.
    for a in np.geomspace(1e-5, 1e-1, 25):
        f = lambda x, a=a: 1e-2 * a * (x[0] ** 2 - x[0] ** 3 / a) + 12  # noqa: E731
        for wrong in 0, 1e-4 * a:
            report = gradcheck(f, np.array([wrong]), np.zeros(1), method="taylor")
            assert report.ok == (wrong == 0), f"{a}\n{report}"


def test_the_order_is_read_closer_to_the_point_where_f_needs_it():
    x = np.array([1e-8, 1.0])
    f = lambda a: np.sum(np.log(a["x"]))  # noqa: E731
    assert gradcheck(f, {"x": 1 / x}, {"x": x}, method="taylor").ok
    assert not gradcheck(f, {"x": 1.001 / x}, {"x": x}, method="taylor").ok


@pytest.mark.parametrize("method", ["central", "taylor"])
def test_a_flat_end_is_read_all_the_same(method):
    def real(a):  # a sigmoid of real numbers: 1 to the last bit from 37 on
        return float(sum(1 / (1 + math.exp(-float(x.real))) for x in a["x"]))

    x = np.array([40.0, 50.0, 45.0])
    report = gradcheck(real, {"x": np.exp(-x)}, {"x": x}, method=method)
    assert "does not depend" not in str(report)


def test_what_is_hidden_is_not_right_however_small_it_is():
    def real(a):
        if np.iscomplexobj(a["x"]):
            raise NotImplementedError
        return 1e-20 * (1e9 + 1e-6 * np.sum(np.sin(a["x"])))

    x = np.linspace(0, 1, 5)
    report = gradcheck(real, {"x": 1e-26 * np.cos(x)}, {"x": x})
    assert not report.ok and "the rounding of f hides this derivative" in str(report)
