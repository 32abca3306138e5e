"""The study of one head or two: its model is right, and its claims can fail."""

import copy

import numpy as np
import pytest
from claims import failing

from numpy_vae import VAE, Params, gradcheck, load_digits
from numpy_vae.optim import Adam
from numpy_vae.study.concatenated import (
    BATCH,
    CLAIMS,
    EARLY,
    LR,
    Found,
    Same,
    Walk,
    as_two,
    clip,
    distance,
    from_the_same_weights,
    one_head,
    read,
    readings,
    rounded,
    take_step,
    walk,
)
from numpy_vae.study.training import draw_batch
from numpy_vae.training.evaluate import Elbo

SABOTAGE = [
    (1, "study/concatenated", "np.hstack([dmu, dlogvar])", "np.hstack([dlogvar, dmu])"),
    (1, "study/concatenated", "np.split(y, 2, axis=-1)", "np.split(y + 1e-9, 2, axis=-1)"),
    (2, "study/concatenated", '{"one, float64": one}', '{"one, float64": one_head(single)}'),
    (3, "study/concatenated", 'float32": one_head(single)', 'float32": one_head(smooth)'),
    (4, "study/concatenated", "clip(grads, limit)", "clip(grads.copy(), limit)"),
    (5, "study/concatenated", "reshape(latent, 2).T", "reshape(2, latent)"),
    (5, "study/concatenated", "halves[::-1]", "halves"),
]


def a_walk(apart=(1e-7, 1e-6, 1e-6), flip=0, elbos=(-100.0, -100.1)):
    return Walk("what", np.array([1, EARLY, 100]), np.array(apart), flip, elbos)


def found(
    same=(2.0, 3.0, 100.0),
    double=(0.0, 1e-15, 1e-14),
    single=(1e-7, 1e-6, 0.3),
    flip=50,
    smooth=(1e-7, 1e-6, 1e-5),
    elbo=-100.1,
    clipped=(1e-5, 0.1, 0.4),
    readings=(-120.0, -400.0, -300.0),
):
    """Return what the experiment could find."""
    walks = [a_walk(double), a_walk(single, flip, (-100.0, elbo)), a_walk(), a_walk(smooth)]
    names = "μ first", "log σ² first", "interleaved"
    elbos = {name: Elbo(elbo, -elbo, 0.0) for name, elbo in zip(names, readings, strict=True)}
    same = [Same("float64", 0.0, 0.0, 0.0), Same("float32", *same)]
    return Found(same, walks, a_walk(clipped, 3), np.zeros((3, 4)), elbos, {}, (2, 2))


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, found()) == []


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        (1, {"same": (2000.0, 0.0, 0.0)}),
        (1, {"same": (0.0, 2000.0, 0.0)}),
        (1, {"same": (0.0, 0.0, 2000.0)}),
        (2, {"double": (0.0, 1e-11, 1e-15)}),
        (3, {"single": (1e-2, 1e-6, 0.3)}),
        (3, {"flip": 0}),
        (3, {"smooth": (1e-7, 1e-6, 1e-2)}),
        (3, {"elbo": -100.6}),
        (3, {"elbo": -99.4}),
        (4, {"clipped": (1e-5, 0.01, 0.4)}),
        (5, {"readings": (-120.0, -160.0, -300.0)}),
        (5, {"readings": (-120.0, -400.0, -160.0)}),
        (5, {"readings": (-120.0, -60.0, -300.0)}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert failing(CLAIMS, found(**numbers)) == [number]


@pytest.fixture
def pair(rng):
    """Return a model with two heads, none of whose blocks is zero, and the same with one."""
    two = VAE(11, (6,), 3, dtype="float64", rng=rng)
    two.params.flat[:] += rng.normal(0, 0.3, two.params.flat.size)
    return two, one_head(two)


@pytest.fixture
def inputs(rng):
    return rng.random((5, 11)), rng.standard_normal((5, 3))


@pytest.mark.parametrize("method", ["central", "complex"])
@pytest.mark.gradient
def test_the_gradient_of_the_one_head_is_that_of_its_objective(pair, inputs, method):
    _, one = pair
    gradient = one.backward(one.forward(*inputs))

    def f(arrays):
        other = one.astype(arrays["heads.W"].dtype)
        for name, block in other.params.items():
            block[:] = arrays[name]
        return other.objective(other.forward(*inputs))

    report = gradcheck(f, gradient, one.params, method=method)
    assert report.ok, str(report)
    unread = {row.name for row in report if not gradient[row.name].any()}
    assert unread == {"mu.W", "mu.b", "logvar.W", "logvar.b"}


@pytest.mark.gradient
def test_one_head_has_the_outputs_the_gradient_and_the_step_of_two(pair, inputs):
    traces = [vae.forward(*inputs) for vae in pair]
    for name in "mu", "logvar", "logits":
        np.testing.assert_allclose(*(getattr(t, name) for t in traces), rtol=1e-13, atol=1e-14)
    grads = [as_two(vae.backward(t)) for vae, t in zip(pair, traces, strict=True)]
    assert distance(*grads) < 1e-13
    for vae, trace in zip(pair, traces, strict=True):
        take_step(vae, Adam(vae.params), trace, None)
    assert distance(*(as_two(vae.params) for vae in pair)) < 1e-9  # Adam divides by small g


@pytest.mark.purity
def test_the_one_head_leaves_the_two_as_they_are_and_shares_no_memory(pair, inputs):
    two, one = pair
    before = two.params.flat.copy()
    take_step(one, Adam(one.params), one.forward(*inputs), None)
    np.testing.assert_array_equal(two.params.flat, before)
    for block in "mu.W", "mu.b", "logvar.W", "logvar.b":
        assert not one.params[block].any()


@pytest.mark.parametrize(
    "twin_of",
    [copy.copy, copy.deepcopy, lambda one: one.over(one.params.copy())],
    ids=["copy", "deepcopy", "over"],
)
def test_a_copy_has_the_one_head(pair, inputs, twin_of):
    one, twin = pair[1], twin_of(pair[1])
    np.testing.assert_array_equal(twin.forward(*inputs).logvar, one.forward(*inputs).logvar)
    twin.params["heads.W"][:] = 0
    assert not np.array_equal(twin.forward(*inputs).logvar, one.forward(*inputs).logvar)


def test_the_readings_are_those_of_reshape(pair, inputs):
    one, h = pair[1], pair[1].forward(*inputs).h
    y = one.network.head.forward(h)  # (B, 2Z)
    expected = {
        "μ first": y.reshape(5, 2, 3).swapaxes(0, 1),
        "log σ² first": y.reshape(5, 2, 3).swapaxes(0, 1)[::-1],
        "interleaved": np.moveaxis(y.reshape(5, 3, 2), -1, 0),
    }
    found = readings(3)
    assert found.keys() == expected.keys()
    for name, columns in found.items():
        mu, logvar = read(one, columns).encode(inputs[0])
        np.testing.assert_allclose(np.array([mu, logvar]), expected[name], rtol=1e-13)


def test_the_distance_is_relative_and_the_largest_of_all_arrays():
    one = {"a": np.array([3.0, 4.0]), "b": np.array([0.0])}
    assert distance(one, one) == 0
    assert distance(one, {"a": np.array([3.0, 4.5]), "b": np.array([0.0])}) == pytest.approx(0.1)
    assert distance({"a": np.array([1.0])} | one, {"a": np.array([3.0, 4.0])} | one) == 0


def test_clipping_looks_at_each_array_and_at_no_other():
    p = Params({"a": (2,), "b": (2,), "c": (1,)}, "float64", np.array([3.0, 4.0, 0.3, 0.4, 0.0]))
    clip(p, 1.0)
    np.testing.assert_allclose(p.flat, [0.6, 0.8, 0.3, 0.4, 0.0])


def test_clipping_shrinks_one_head_by_its_two_norms_together(pair, inputs):
    two, one = (vae.backward(vae.forward(*inputs)) for vae in pair)
    mu, logvar = (np.linalg.norm(two[f"{name}.W"]) for name in ("mu", "logvar"))
    limit = float(max(mu, logvar))
    for grads in two, one:
        clip(grads, limit)
    together = np.hypot(mu, logvar)
    assert together > limit
    np.testing.assert_allclose(two["mu.W"] * limit / together, as_two(one)["mu.W"])


def test_rounding_moves_each_weight_by_one_unit(rng):
    vae = VAE(11, (6,), 3, rng=rng)
    before, after = vae.params.flat, rounded(vae, rng).params.flat
    moved = before != 0
    steps = np.abs(after - before)[moved] / np.spacing(np.abs(before[moved]))
    assert set(np.unique(steps)) <= {1.0, 2.0} and not after[~moved].any()


def test_a_model_beside_itself_never_parts_and_a_flip_is_seen():
    data, size = load_digits(120, rng=0), (784, (9,), 2)
    two = VAE(*size, rng=0)
    others = {"same": two.astype("float32"), "other": VAE(*size, rng=1)}
    same, other = walk(two, others, data, EARLY, 0)
    assert not same.apart.any() and same.flip == 0 and len(set(same.elbos)) == 1
    assert other.apart.all() and other.flip == 1 and not other.before.size


@pytest.mark.parametrize(("off", "least", "most"), [(0.0, 0.01, 1.0), (1e-3, 0.0, 1e-6)])
def test_a_flipped_unit_changes_its_step_by_percents_of_the_learning_rate(off, least, most):
    data, rng = load_digits(600, rng=0), np.random.default_rng(0)
    pair = [VAE(784, (50,), 4, dtype="float64", rng=0) for _ in range(2)]
    adams = [Adam(vae.params, LR) for vae in pair]
    for _ in range(20):
        inputs = draw_batch(pair[0], data, BATCH, rng)
        for vae, adam in zip(pair, adams, strict=True):
            take_step(vae, adam, vae.forward(*inputs), None)
    x, eps = draw_batch(pair[0], data, BATCH, rng)
    W, b = (pair[0].params[f"encoder.0.{kind}"].copy() for kind in "Wb")
    a = x @ W + b
    nearest = np.take_along_axis(a, np.abs(a).argmin(axis=0)[np.newaxis], 0)[0]  # one each unit
    steps = []
    for vae, adam, sign in zip(pair, adams, (1, -1), strict=True):
        vae.params["encoder.0.b"][:] = b + off - nearest + sign * 1e-8
        take_step(vae, adam, vae.forward(x, eps), None)
        steps.append(vae.params["encoder.0.W"] - W)
    changed = np.abs(steps[0] - steps[1]).max(axis=0) / LR
    assert least <= np.median(changed[changed > 0]) <= most


@pytest.mark.mathematics
def test_differences_are_counted_in_units_of_rounding():
    two = VAE(784, (9,), 2, dtype="float64", rng=0)
    same = from_the_same_weights(two, load_digits(120, rng=0), 0)
    assert same.dtype == "float64" and max(same[1:]) < 1000
