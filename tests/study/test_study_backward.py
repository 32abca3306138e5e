"""The study of one backward pass: right by hand for all sizes; and its claims can be false."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from claims import failing

from numpy_vae import VAE, load_digits
from numpy_vae.gradcheck.report import Report
from numpy_vae.study.backward import (
    BACKWARD,
    CLAIMS,
    EXAMPLE,
    FORWARD,
    SHAPES,
    SUMMANDS,
    backward_by_hand,
    backward_of_the_package,
    forward_by_hand,
    forward_of_the_package,
    model,
    run,
    shown,
)
from numpy_vae.study.report import Setting

SABOTAGE = [
    (1, "layers", "return dy * (y.real > 0)", "return dy * (y.real >= 0)"),
    (1, "likelihood", "(softplus - x * l)", "(softplus - x * l + 1e-9)"),
    (1, "study/backward", "dW_mu = [[sum(h[b][i] * dmu[b][j]", "dW_mu = [[sum(h[b][i] * dz[b][j]"),
    (1, "network", "dmu = dmu_sample + dmu_kl", "dmu = dmu_sample - dmu_kl"),
    (2, "posterior", "dz * eps * (sigma / 2)", "dz * eps * sigma"),
    (2, "bounds", "beta / shape[-1], dtype)", "beta, dtype)"),
    (3, "study/backward", '"decoder.0.b": [0.5, 1.0]', '"decoder.0.b": [5.0, 1.0]'),
    (3, "study/backward", '"encoder.0.b": [0.5, 0.5]', '"encoder.0.b": [0.5, 0.7]'),
    (4, "study/backward", "value * (name != without)", "value * (name != '')"),
]


@cache
def sound():
    return run(Setting(load_digits(60), quick=True))


def changed(values, name, value):
    """Return the arrays with another one."""
    return {**values, name: np.asarray(value)}


def everywhere(f, name, value):
    """The package says the same as what is computed by hand, so that claim 1 still holds."""
    return {"by_hand": changed(f.by_hand, name, value), "package": changed(f.package, name, value)}


def refusing(report):
    return Report((replace(report.rows[0], status="wrong"), *report.rows[1:]))


def inexact(report):
    return Report((replace(report.rows[0], error=1e-12), *report.rows[1:]))


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, sound()) == []


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (1, lambda f: {"package": changed(f.package, "z", f.package["z"] + 1e-13)}),
        (1, lambda f: {"gradients": changed(f.gradients, "dz", f.gradients["dz"] + 1e-13)}),
        (1, lambda f: {"whole": changed(f.whole, "mu.b", f.whole["mu.b"] - 1e-13)}),
        (2, lambda f: {"central": refusing(f.central)}),
        (2, lambda f: {"complex_step": refusing(f.complex_step)}),
        (2, lambda f: {"complex_step": inexact(f.complex_step)}),
        (2, lambda f: {"complex_step": Report(f.complex_step.rows[1:])}),
        (3, lambda f: everywhere(f, "a", [[1.0, -0.3], [0.5, 1.0]])),
        (3, lambda f: everywhere(f, "a", [[1.0, 0.5], [0.5, 1.0]])),
        (3, lambda f: everywhere(f, "a_dec", [[1.0, -0.5], [-0.5, 1.0]])),
        (4, lambda f: {"refused": f.refused | {"dh_mu": []}}),
        (4, lambda f: {"refused": {"dh_mu": ["encoder.0.W"]}}),
        (4, lambda f: {"refused": f.refused | {"nothing": ["mu.b"]}}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, change):
    assert failing(CLAIMS, sound()._replace(**change(sound()))) == [number]


def test_a_claim_fails_when_a_derivative_is_nearly_zero():
    numbers = sound()
    small = {"output.b": np.array([0.005, 0.2])}
    numbers = numbers._replace(
        whole=numbers.whole | small,
        gradients_by_hand=numbers.gradients_by_hand | small,
        gradients=numbers.gradients | small,
    )
    assert failing(CLAIMS, numbers) == [3]


@pytest.fixture
def larger(rng):
    """Return what is given for other sizes, B = 4, D = 5, H = 3, Z = 2: all of them different."""
    vae = VAE(5, (3,), 2, dtype="float64", rng=rng)
    vae.params.flat[:] += rng.normal(0, 0.5, vae.params.flat.size)
    x, eps = rng.random((4, 5)), rng.standard_normal((4, 2))
    arrays = {"x": x, "eps": eps, **vae.params}
    return vae, vae.forward(x, eps), {name: array.tolist() for name, array in arrays.items()}


@pytest.mark.gradient
def test_by_hand_is_the_package_for_other_sizes_too(larger):
    vae, trace, given = larger
    forward = forward_by_hand(given)
    backward = backward_by_hand(given, forward)
    for by_hand, package in (
        (forward, forward_of_the_package(vae, trace)),
        (backward, backward_of_the_package(vae, trace)),
        ({name: backward[name] for name in vae.params}, vae.backward(trace)),
    ):
        assert by_hand.keys() == package.keys()
        for name, value in by_hand.items():
            np.testing.assert_allclose(value, package[name], rtol=1e-12, atol=1e-13, err_msg=name)


def test_each_array_has_the_shape_that_its_table_says(larger):
    given = larger[2]
    forward = forward_by_hand(given)
    backward = backward_by_hand(given, forward)
    said = [*SHAPES.items(), *((n, s) for n, s, _ in FORWARD), *((n, s) for n, s, _ in BACKWARD)]
    sizes = {"B": 4, "D": 5, "H": 3, "Z": 2}
    for name, shape in said:
        values = given | forward if name in given or name in forward else backward
        assert np.shape(values[name]) == eval(shape, sizes), name
    for name, shape, _ in BACKWARD:
        assert np.shape(backward[name]) == eval(shape, sizes), name


def floats(value):
    if isinstance(value, list):
        return all(map(floats, value))
    return type(value) is float


def test_by_hand_means_python_floats():
    forward = forward_by_hand(EXAMPLE)
    assert all(map(floats, forward.values()))
    assert all(map(floats, backward_by_hand(EXAMPLE, forward).values()))


@pytest.mark.gradient
def test_the_lines_of_the_package_end_where_its_backward_pass_ends(larger):
    vae, trace, _ = larger
    found, grads = backward_of_the_package(vae, trace), vae.backward(trace)
    for name, block in grads.items():
        np.testing.assert_array_equal(found[name], block)


def test_the_model_holds_the_numbers_of_the_example():
    vae = model(EXAMPLE)
    assert list(vae.params) == [name for name in EXAMPLE if name not in ("x", "eps")]
    for name, block in vae.params.items():
        np.testing.assert_array_equal(block, EXAMPLE[name])
    assert vae.params.flat.size == 22 and vae.params.dtype == np.float64


@pytest.mark.parametrize("name", SUMMANDS)
def test_what_is_left_out_is_zero_and_nothing_before_it_changes(larger, name):
    vae, trace, _ = larger
    whole = backward_of_the_package(vae, trace)
    less = backward_of_the_package(vae, trace, without=name)
    assert whole[name].any() and not less[name].any()
    before = list(whole)[: list(whole).index(name)]
    early = [n for n in before if n.startswith(("output", "decoder", "dz", "dlogits", "dh_dec"))]
    assert early
    for line in early:
        np.testing.assert_array_equal(less[line], whole[line])


def test_no_digit_that_is_shown_hangs_on_rounding():
    numbers = sound()
    values = [*numbers.by_hand.values(), *numbers.gradients_by_hand.values()]
    digits = np.concatenate([1e4 * value.ravel() for value in values])
    assert np.abs(np.abs(digits % 1) - 0.5).min() > 1e-6


def test_numbers_are_shown_row_by_row():
    assert shown("(B, H)", np.array([[1.0, -2.0], [0.5, -1e-9]])) == (
        "1.0000, -2.0000",
        "0.5000, 0.0000",
    )
    assert shown("(B,)", np.array([1.0, 2.0])) == ("1.0000", "2.0000")
    assert shown("(H,)", np.array([1.0, 2.0])) == ("1.0000, 2.0000", "–")
    assert shown("(Z, H)", np.array([[1.0, 2.0]])) == ("1.0000, 2.0000", "–")
    assert shown("()", np.array(1.5)) == ("1.5000", "–")
