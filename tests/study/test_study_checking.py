"""The study of gradient checks: its pieces, its claims, and what its page says of the museum."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from claims import failing

from numpy_vae import VAE, Bernoulli, gradcheck
from numpy_vae.gradcheck.model import draw
from numpy_vae.study.checking import (
    CLAIMS,
    DELTA,
    DTYPES,
    METHODS,
    STEPS,
    TABLES,
    Curve,
    Doubled,
    Found,
    Guarded,
    Kink,
    MonteCarlo,
    difference,
    draw_point,
    monte_carlo,
    problem,
    pytorch_rule,
    straddle,
    word,
)

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "museum"))
from bugs import BUGS, CLASSES, GRADIENT  # noqa: E402

SABOTAGE = [
    (1, "study/checking", "float(f(-h, dtype))) / (2 * h)", "float(f(-h / 2, dtype))) / (1.5 * h)"),
    (2, "study/checking", "exact = vae.astype(np.float64)", "exact = vae.astype(np.float32)"),
    (3, "study/checking", "x, eps = x.astype(dtype)", "x, eps = x.astype(np.float64) * 1.001"),
    (4, "gradcheck.differences", "v, h / 8**k, noise, allowed)", "v, h, noise, allowed)"),
    (5, "gradcheck.report", '"complex": 1e-12', '"complex": 1e-3'),
    (5, "study/checking", "0 if n in plant.without else dnll[n]", "dnll[n]"),
    (6, "study/checking", "sample(mu, of_sampler, eps)", "sample(mu, sigma, eps)"),
]  # fmt: skip

LARGE = {"forward": 0.4, "central": 0.04, "complex": 0.04}  # the error at h = 1
ROUNDED = {"float64": 1e-14, "float32": 1e-5}  # of a difference, times 1 / h
RIGHT = ("none", "1/B missing in the KL, one image")
VERDICTS = {  # 1: the check passes
    "none": "1111",
    "1/B missing in the KL, one image": "1111",
    "1/B missing in the KL, five images": "0000",
    "sign of the KL": "0000",
    "no reconstruction in dlogvar": "0000",
    "no reconstruction in dlogvar, weights of 0.001": "0001",
    "log(p + 1e-8) in the value": "1011",
    "the sampler takes logvar for log σ": "1111",
}


def curve(method, dtype, power, rounded, flat):
    """Return an error that falls like a power of h, and is then rounding."""
    rounding = flat + 0 * STEPS if method == "complex" else rounded / STEPS
    return Curve(method, dtype, STEPS, LARGE[method] * STEPS**power + rounding)


def found(*, powers=(), rounded=(), flat=(), kink=0.5, of_complex=1e-16, kinks=(), verdicts=(),
          apart=(1.0, 100.0)):  # fmt: skip
    """Return what the experiment could have found."""
    powers = {"forward": 1, "central": 2, "complex": 2} | dict(powers)
    rounded = {
        ("forward", "float64"): 1e-14, ("central", "float64"): 1e-14,
        ("forward", "float32"): 1e-5, ("central", "float32"): 1e-5,
    } | dict(rounded)  # fmt: skip
    flat = {"float64": 1e-15, "float32": 1e-7} | dict(flat)
    curves = [
        curve(method, dtype, powers[method], rounded.get((method, dtype)), flat[dtype])
        for dtype in DTYPES
        for method in METHODS
    ]
    steps = STEPS[(STEPS < 0.011) & (STEPS > 0.9e-12)]
    at_kink = Curve("central", "float64", steps, kink * np.maximum(1 - DELTA / steps, 0))
    said = {"right": ("passes", 1), "slope of the other side of the kink": ("caught", 0)} | dict(
        kinks
    )
    asked = [
        *(
            Kink(name, *said[name], 150)
            for name in ("right", "slope of the other side of the kink")
        ),
        Kink("right, and all biases are 0", "passes", 12, 150),
        Kink("wrong sign, and all biases are 0", "undecided", 0, 150),
    ]
    judged = {
        bug: tuple(word(ok == "1", right=bug in RIGHT) for ok in oks)
        for bug, oks in (VERDICTS | dict(verdicts)).items()
    }  # fmt: skip
    estimates = [
        MonteCarlo("right", 1, 1 + apart[0] / 100, 0.01),
        MonteCarlo("wrong", 1, 2, 1 / apart[1]),
    ]
    return Found(curves, at_kink, of_complex, asked, judged, estimates)


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, found()) == []


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        (1, {"powers": {"forward": 1.1}}),
        (1, {"powers": {"forward": 0.9}}),
        (1, {"powers": {"central": 1.9}}),
        (1, {"powers": {"complex": 2.1}}),
        (2, {"rounded": {("forward", "float64"): 1e-9}}),
        (2, {"rounded": {("forward", "float64"): 1e-18}}),
        (2, {"rounded": {("central", "float64"): 1e-11}}),
        (2, {"rounded": {("central", "float64"): 1e-20}}),
        (2, {"flat": {"float64": 1e-12}}),
        (3, {"rounded": {("central", "float32"): 1e-9}}),
        (3, {"rounded": {("forward", "float32"): 1e-10}}),
        (3, {"flat": {"float32": 1e-5}}),
        (4, {"kink": 0.52}),
        (4, {"kink": 0.48}),
        (4, {"of_complex": 1e-9}),
        (4, {"kinks": {"right": ("rejected", 1)}}),
        (4, {"kinks": {"right": ("passes", 0)}}),
        (4, {"kinks": {"slope of the other side of the kink": ("not seen", 0)}}),
        *((5, {"verdicts": {bug: "1001"}}) for bug in VERDICTS),
        (6, {"apart": (6.0, 100.0)}),
        (6, {"apart": (1.0, 10.0)}),
    ],
)  # fmt: skip
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert failing(CLAIMS, found(**numbers)) == [number]


# What the experiment is made of ---------------------------------------------------------------


@pytest.mark.mathematics
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_a_difference_is_the_derivative(method, dtype, rng):
    vae, x, eps = draw_point(rng, "tanh")
    exact = vae.astype(np.float64)
    gradient = exact.backward(exact.forward(x, eps)).flat
    v = rng.standard_normal(len(gradient)) / 30
    h, off = (1e-6, 1e-6) if dtype == "float64" else (1e-2, 2e-2)
    found = difference(vae, x, eps, v, h, method, dtype)
    assert found == pytest.approx(v @ gradient, abs=off)


@pytest.mark.gradient
def test_what_is_planted_is_sound_where_it_should_be(rng):
    doubled = VAE(7, (5,), 3, "tanh", dtype=np.float64, rng=rng, network_type=Doubled)
    x, eps = draw(doubled, (4, 3), rng)
    f, gradient, arrays = problem(doubled, x, eps)
    assert gradcheck(f, gradient, arrays, method="complex").ok
    l = rng.standard_normal((4, 7))
    value, guarded = Bernoulli().nll(x, l), Guarded().nll(x, l)
    np.testing.assert_allclose(guarded, value, rtol=1e-6)
    assert (guarded < value).all()
    x, dnll = rng.random((4, 7)), np.ones(4)
    wrong, right = (k.nll_backward(x, l, dnll) for k in (Guarded(), Bernoulli()))
    np.testing.assert_array_equal(wrong, right)


@pytest.mark.gradient
def test_the_rule_of_pytorch_compares_entry_by_entry():
    x = np.array([0.5, 2.0])

    def cube(arrays):
        return (arrays["x"] ** 3).sum()

    for off, passes in (0, True), (0.9e-3, True), (1.2e-3, False), (-1.2e-3, False):
        gradient = {"x": 3 * x**2 * np.array([1, 1 + off])}
        assert pytorch_rule(cube, gradient, {"x": x}) == passes
    small = {"x": np.array([1e-3, 1e-3])}  # of slope 3e-6: less than atol
    assert pytorch_rule(cube, {"x": np.zeros(2)}, small)


@pytest.mark.gradient
def test_the_image_is_black_and_one_unit_is_at_its_kink(rng):
    at_kink, of_complex, kinks = straddle(rng)
    above = (at_kink.steps > 10 * DELTA) & (at_kink.steps < 1e-3)
    expected = (1 - DELTA / at_kink.steps[above]) / 2
    np.testing.assert_allclose(at_kink.errors[above], expected, atol=0.01)
    assert of_complex < 1e-12
    assert [k.verdict for k in kinks] == ["passes", "caught", "passes", "undecided"]


def test_no_table_says_that_something_fails_where_all_is_well():
    assert not any("FAIL" in table.text(found()) for table in TABLES)
    assert word(True, right=False) == "not seen" and word(False, right=False) == "caught"


@pytest.mark.gradient
def test_gradcheck_refuses_float32(rng):
    vae, x, eps = draw_point(rng, "tanh")
    f, gradient, arrays = problem(vae.astype(np.float64), x, eps)
    with pytest.raises(ValueError, match=r"mu\.b has dtype float32, must be float64"):
        gradcheck(f, {"mu.b": gradient["mu.b"].astype(np.float32)}, arrays)


@pytest.mark.mathematics
def test_the_monte_carlo_estimate_has_its_standard_error():
    off = [monte_carlo(np.random.default_rng(seed))[0] for seed in range(8)]
    assert max(estimate.apart for estimate in off) < 4
    assert min(estimate.error for estimate in off) > 1e-4


# What the page says of the museum -------------------------------------------------------------

PAGE = (ROOT / "docs" / "study" / "10-checking.md").read_text(encoding="utf-8")


def table_after(text, heading):
    """Return the rows of the first table after a line that holds this text."""
    lines = text.split(heading)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_counts_of_the_page_are_those_of_the_museum():
    seen = [bug.seen_by for bug in BUGS]
    mathematics, purity = {"mathematics"}, {"purity"}
    unseen = sum(not kinds & GRADIENT for kinds in seen)
    counts = [
        len(BUGS),
        sum(kinds >= GRADIENT for kinds in seen),
        sum(kinds & GRADIENT == {"complex"} for kinds in seen),
        sum(kinds >= mathematics for kinds in seen),
        sum(kinds >= purity for kinds in seen),
        sum(kinds <= GRADIENT for kinds in seen),
        sum(kinds == mathematics for kinds in seen),
        sum(kinds == purity for kinds in seen),
    ]
    flat = " ".join(PAGE.split())
    of_the_museum = re.search(
        r"(\d+) bugs of hand-written VAEs.* All three gradient checks see (\d+) of them, and the "
        r"complex step alone sees (\d+) more\. The mathematics tests .* see (\d+), and the purity "
        r"tests .* see (\d+)\. Gradient checks alone see (\d+), mathematics alone (\d+), "
        r"purity alone (\d+),",
        flat,
    )
    assert list(map(int, of_the_museum.groups())) == counts
    in_short = re.search(r"of the (\d+) bugs in the \[bug museum\].* it does not see (\d+)\.", flat)
    assert list(map(int, in_short.groups())) == [len(BUGS), unseen]
    assert set(re.findall(r"(\d+) bugs", PAGE)) == {str(len(BUGS))}


def test_the_classes_that_the_page_sends_to_are_those_of_the_museum():
    assert "](../museum.md#seventeen-classes-of-published-bugs)" in PAGE
    museum = table_after((ROOT / "docs" / "museum.md").read_text("utf-8"), "## Seventeen classes")
    assert len(museum) == len(CLASSES) == 17
    for number, title, expected, _ in museum:
        assert (title, expected) == CLASSES[int(number)]
