"""Tests of the test: what is right passes, and what is wrong does not."""

import numpy as np
import pytest

from numpy_vae import gradcheck


def f(a):
    """A function of no VAE: Σ w³ + Σ sin(w) v."""
    return np.sum(a["w"] ** 3) + np.sum(np.sin(a["w"]) * a["v"])


@pytest.fixture
def point(rng):
    return {"w": rng.standard_normal((3, 2)), "v": rng.standard_normal((3, 2))}


def gradient_at(a):
    return {"w": 3 * a["w"] ** 2 + np.cos(a["w"]) * a["v"], "v": np.sin(a["w"])}


def test_a_right_gradient_passes_and_every_block_is_named(point):
    report = gradcheck(f, gradient_at(point), point, tolerance=1e-8)
    assert report.ok and [row.name for row in report] == ["w", "v"]
    assert all(row.ok and row.kinks == 0 and row.error < 1e-8 for row in report)


@pytest.mark.parametrize("block", ["w", "v"])
def test_a_derivative_that_is_wrong_by_a_thousandth_is_rejected(point, block):
    gradient = gradient_at(point)
    gradient[block] = gradient[block] * 1.001
    report = gradcheck(f, gradient, point)
    assert not report.ok
    assert [row.name for row in report if not row.ok] == [block]


def test_one_wrong_entry_is_found_and_both_values_are_shown(point):
    gradient = gradient_at(point)
    right = gradient["w"][2, 0]
    gradient["w"][2, 0] += 1e-4
    report = gradcheck(f, gradient, point)
    row = next(iter(report))
    assert not report.ok and row.index == (2, 0)
    assert row.numeric == pytest.approx(right) and row.analytic == pytest.approx(right + 1e-4)
    assert "FAIL  w[2, 0]" in str(report)
    assert f"{row.analytic:+.10e}" in str(report) and f"{row.numeric:+.10e}" in str(report)


def test_the_error_is_relative_to_the_largest_entry_of_the_block():
    x = np.array([1.0, -2.0])
    report = gradcheck(lambda a: np.sum(a["x"] ** 2), {"x": 2 * x + [0, 0.4]}, {"x": x})
    row = next(iter(report))
    assert row.error == pytest.approx(0.4 / 3.6, rel=1e-6) and row.index == (1,)


def test_the_rounding_of_f_is_allowed_for_and_no_more():
    x = np.linspace(-1, 1, 40)
    f = lambda a: 1e6 + np.sum(a["x"] ** 2)  # noqa: E731
    floor = 4 * 2.2e-16 * 1e6 / 1e-5
    report = gradcheck(f, {"x": 2 * x}, {"x": x})
    assert report.ok and next(iter(report)).error > 1e-6  # more than the tolerance alone
    assert not gradcheck(f, {"x": 2 * x + 10 * floor}, {"x": x}).ok
    # The step grows with the entry, and the floor shrinks with it.
    far = np.array([1e4])
    g = lambda a: 100 + 1e-9 * a["x"].sum()  # noqa: E731
    assert not gradcheck(g, {"x": np.array([5e-9])}, {"x": far}).ok


def test_an_empty_gradient_is_refused(point):
    with pytest.raises(ValueError, match="the gradient is empty, must have at least one block"):
        gradcheck(f, {}, point)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_rejected(point, wrong):
    gradient = gradient_at(point)
    gradient["v"][0, 1] = wrong
    assert not gradcheck(f, gradient, point).ok


def test_a_small_block_is_held_to_its_own_size(point):
    # Beside a block of size 1 an error of 1e-7 is invisible; in a block of size 1e-5 it is 1 %.
    def g(a):
        return f({"w": a["w"], "v": a["v"]}) + 1e-5 * np.sum(a["u"] ** 2)

    point = point | {"u": np.array([0.5, -0.25])}
    gradient = gradient_at(point) | {"u": 2e-5 * point["u"]}
    assert gradcheck(g, gradient, point).ok
    gradient["u"] = gradient["u"] * 1.01
    assert not gradcheck(g, gradient, point).ok


def test_a_gradient_that_must_be_zero(point):
    point = point | {"unused": np.ones(3)}
    gradient = gradient_at(point) | {"unused": np.zeros(3)}
    assert gradcheck(f, gradient, point).ok
    gradient["unused"][1] = 1e-6
    assert not gradcheck(f, gradient, point).ok


def relu_sum(a):
    return np.sum(a["x"] * (a["x"].real > 0))


def test_an_entry_at_a_kink_is_confirmed_by_the_complex_step_and_counted():
    x = np.linspace(-1, 1, 201) + 0.003
    x[50] = 1e-7  # closer to the kink than the step
    report = gradcheck(relu_sum, {"x": (x > 0).astype(float)}, {"x": x})
    assert report.ok and next(iter(report)).kinks == 1
    assert "1 at a kink" in str(report)


def test_a_wrong_gradient_does_not_pass_as_a_kink():
    x = np.linspace(-1, 1, 201) + 0.003
    x[50] = 1e-7
    report = gradcheck(relu_sum, {"x": (x > 1e-6).astype(float)}, {"x": x})
    row = next(iter(report))
    assert not report.ok and row.index == (50,) and row.kinks == 0


def test_more_kinks_than_one_in_a_hundred_fail_the_check():
    x = np.linspace(-1, 1, 201) + 0.003
    x[50:53] = 1e-7
    report = gradcheck(relu_sum, {"x": (x > 0).astype(float)}, {"x": x})
    assert all(row.ok for row in report) and not report.ok
    assert str(report).endswith("FAIL  3 of 201 entries lie at a kink, must be at most 1%")


def test_a_kink_that_no_complex_step_confirms_fails():
    def no_complex(a):
        if np.iscomplexobj(a["x"]):
            raise TypeError("real numbers only")
        return relu_sum(a)

    x = np.linspace(-1, 1, 201) + 0.003
    x[50] = 1e-7
    assert not gradcheck(no_complex, {"x": (x > 0).astype(float)}, {"x": x}).ok


def test_the_point_is_not_written_to(point):
    before = {name: value.copy() for name, value in point.items()}
    gradcheck(f, gradient_at(point), point)
    for name in point:
        np.testing.assert_array_equal(point[name], before[name])


def test_float32_is_refused(point):
    single = {name: value.astype(np.float32) for name, value in point.items()}
    with pytest.raises(ValueError, match="w has dtype float32, must be float64: rounding drowns"):
        gradcheck(f, gradient_at(single), single)


def test_a_function_that_draws_is_refused(point, rng):
    with pytest.raises(ValueError, match="f gave two values at one point, must be deterministic"):
        gradcheck(lambda a: f(a) + rng.standard_normal(), gradient_at(point), point)


def test_a_function_that_is_not_finite_is_refused(point):
    with pytest.raises(ValueError, match="f is nan at the point, must be finite"):
        gradcheck(lambda a: f(a) * np.nan, gradient_at(point), point)


@pytest.mark.parametrize("gradient", [{"q": np.zeros(2)}, {"w": np.zeros(6)}])
def test_a_gradient_of_nothing_is_refused(point, gradient):
    with pytest.raises(ValueError, match=r"the gradient . .* matches no array of that shape"):
        gradcheck(f, gradient, point)
