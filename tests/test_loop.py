"""The loop: what it does, what it reports, and where it stops."""

import inspect
import types
from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from numpy_vae import VAE, Adam, Scaling, fit, load_digits, train_epochs
from numpy_vae.bounds import Terms
from numpy_vae.data import Dataset, binarize, split_validation
from numpy_vae.optim import Average
from numpy_vae.seeds import spawn_streams
from numpy_vae.training import loop as train_module
from numpy_vae.training.evaluate import Elbo, evaluate_elbo, mean_elbo
from numpy_vae.training.loop import (
    BatchSums,
    continue_training,
    start_training,
    start_variance,
    train_step,
)
from numpy_vae.training.recipe import SETTINGS, Recipe
from numpy_vae.training.state import Best, Record, Step
from numpy_vae.training.team import Team


@pytest.fixture(scope="module")
def digits():
    return load_digits(600, rng=3)


def small(rng=0, **settings):
    return VAE(784, **{"hidden": (16,), "latent_dim": 2} | settings, rng=rng)


def test_training_raises_the_elbo_and_says_by_how_much(digits):
    vae = small()
    history = fit(vae, digits, epochs=4, batch_size=50, rng=0)
    assert [record.epoch for record in history] == [1, 2, 3, 4]
    assert history[-1].test_elbo > history[0].test_elbo + 20
    for r in history:
        assert r.train_elbo == -(r.train_reconstruction + r.train_kl)
        assert r.test_elbo == -(r.test_reconstruction + r.test_kl)
        assert r.test_kl > 0 and r.seconds > 0 and r.test_seconds > 0


@pytest.mark.mathematics
def test_an_epoch_is_the_loop_written_out(digits):
    seed, vae, twin = 5, small(), small()
    history = fit(vae, digits, epochs=2, batch_size=64, beta=2.0, lr=3e-3, rng=seed)

    _, order, noise, _ = np.random.default_rng(seed).spawn(4)
    adam = Adam(twin.params, lr=3e-3)
    for record in history:
        terms = np.zeros(2)
        rows = order.permutation(500)
        for start in range(0, 500, 64):
            x = digits.train[rows[start : start + 64]].astype(np.float32) * np.float32(1 / 255)
            eps = noise.standard_normal((len(x), 2), np.float32)
            trace = twin.forward(x, eps)
            terms += [term.sum() for term in twin.loss(trace)]
            adam.step(twin.backward(trace, beta=2.0))
        means = record.train_reconstruction, record.train_kl
        assert means == pytest.approx(tuple(terms / 500), rel=1e-5)
    np.testing.assert_allclose(vae.params.flat, twin.params.flat, rtol=1e-4, atol=1e-6)


@pytest.mark.mathematics
def test_dynamic_pixels_come_from_a_stream_of_their_own(digits):
    vae, twin = small(), small()
    fit(vae, digits, epochs=2, batch_size=100, binarize="dynamic", rng=5)
    _, order, noise, pixels = np.random.default_rng(5).spawn(4)
    adam = Adam(twin.params)
    for _ in range(2):
        rows = order.permutation(500)
        for start in range(0, 500, 100):
            p = digits.train[rows[start : start + 100]].astype(np.float32) * np.float32(1 / 255)
            x = (pixels.random(p.shape, np.float32) < p).astype(np.float32)
            eps = noise.standard_normal((100, 2), np.float32)
            adam.step(twin.backward(twin.forward(x, eps)))
    np.testing.assert_allclose(vae.params.flat, twin.params.flat, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", ["static", "threshold"])
@pytest.mark.mathematics
def test_other_binarisations_are_done_to_the_data_once(digits, mode):
    vae, twin, grey = small(), small(), small()
    history = fit(vae, digits, epochs=2, binarize=mode, rng=0)
    same = fit(twin, binarize(digits, mode), epochs=2, binarize="none", rng=0)
    fit(grey, digits, epochs=2, rng=0)
    np.testing.assert_array_equal(vae.params.flat, twin.params.flat)
    assert history[-1].test_elbo == same[-1].test_elbo
    assert not np.array_equal(vae.params.flat, grey.params.flat)


@pytest.mark.parametrize("binarize", ["none", "dynamic"])
@pytest.mark.mathematics
def test_the_record_holds_the_evaluation_of_all_test_images(digits, binarize):
    vae, streams = small(), spawn_streams(3)
    record = fit(vae, digits, epochs=1, binarize=binarize, rng=streams)[0]
    result = evaluate_elbo(vae, digits.test, draw=binarize == "dynamic", rng=3)
    assert (record.test_elbo, record.test_reconstruction, record.test_kl) == result


def test_the_clock_keeps_training_and_evaluation_apart(digits, monkeypatch):
    now = [1000.0]

    def slow(*args, **kwargs):
        now[0] += 7.0
        return mean_elbo(*args, **kwargs)

    def on_step(step):
        now[0] += 2.0

    clock = types.SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(train_module, "time", clock)
    monkeypatch.setattr(train_module, "mean_elbo", slow)
    records = train_epochs(
        small(), digits, Recipe(epochs=2, batch_size=200), rng=0, on_step=on_step
    )
    assert [(r.seconds, r.test_seconds) for r in records] == [(6.0, 7.0)] * 2


@pytest.mark.parametrize("binarize", ["none", "dynamic"])
def test_the_same_seed_gives_the_same_bits(digits, binarize):
    ends = []
    for _ in range(2):
        vae = small(rng=1)
        history = fit(vae, digits, epochs=2, binarize=binarize, rng=1)
        ends.append((vae.params.flat.tobytes(), history[-1].test_elbo, history[-1].train_elbo))
    assert ends[0] == ends[1]
    other = small(rng=1)
    fit(other, digits, epochs=2, binarize=binarize, rng=2)
    assert other.params.flat.tobytes() != ends[0][0]


@pytest.mark.purity
def test_draws_added_to_one_stream_do_not_shift_the_others():
    one, two = spawn_streams(7), spawn_streams(7)
    two.pixels.random(1000)
    two.order.permutation(99)
    np.testing.assert_array_equal(one.noise.random(5), two.noise.random(5))
    np.testing.assert_array_equal(one.initialisation.random(5), two.initialisation.random(5))
    first = {g.random() for g in spawn_streams(7)}
    assert len(first) == 6


def test_the_streams_of_the_held_out_images_start_anew_each_time():
    streams = spawn_streams(7)
    for _ in range(2):
        noise, pixels = streams.held_out()
        assert noise.random() == spawn_streams(7).held_out_noise.random()
        assert pixels.random() == spawn_streams(7).held_out_pixels.random()


def test_a_seed_gives_the_same_streams_for_ever():
    # A run that is trained again, years later, draws the same numbers.
    streams = spawn_streams(7)
    parent = np.random.default_rng(7)
    for stream, expected in zip(streams, parent.spawn(6), strict=True):
        assert stream.random() == expected.random()


@pytest.mark.mathematics
def test_the_test_images_are_never_trained_on(digits):
    # Parameters must not depend on the test set; and its evaluation must not depend on training.
    other = Dataset("other", digits.train, 255 - digits.test)
    vae, twin = small(), small()
    a, b = fit(vae, digits, epochs=2, rng=0), fit(twin, other, epochs=2, rng=0)
    np.testing.assert_array_equal(vae.params.flat, twin.params.flat)
    assert a[-1].train_elbo == b[-1].train_elbo and a[-1].test_elbo != b[-1].test_elbo


@pytest.mark.mathematics
def test_evaluation_does_not_change_the_training(digits):
    vae, twin = small(), small()
    for _ in train_epochs(vae, digits, Recipe(epochs=2, binarize="dynamic"), rng=0):
        evaluate_elbo(vae, digits.test, draw=True, rng=8)
    fit(twin, digits, epochs=2, binarize="dynamic", rng=0)
    np.testing.assert_array_equal(vae.params.flat, twin.params.flat)


@pytest.mark.mathematics
def test_every_evaluation_uses_the_same_draws(digits):
    history = fit(small(), digits, epochs=3, lr=1e-12, binarize="dynamic", rng=0)
    assert history[0].test_elbo == pytest.approx(history[2].test_elbo, abs=1e-4)
    other = fit(small(), digits, epochs=1, lr=1e-12, binarize="dynamic", rng=1)
    assert abs(other[0].test_elbo - history[0].test_elbo) > 1e-3


def test_a_batch_is_at_most_all_of_the_data(digits):
    few = Dataset("few", digits.train[:90], digits.test)
    state, data = start_training(small(), few, Recipe(epochs=1), 0)
    list(continue_training(state, data, Recipe(epochs=1)))
    assert state.adam.t == 1
    with pytest.raises(ValueError, match=r"^batch_size is 91, must be a whole number from 1 to 90"):
        fit(small(), few, batch_size=91)


def test_a_seed_is_not_shared_by_the_weights_and_the_noise():
    # VAE(rng=0) and fit(rng=0) in one script must not draw the same numbers.
    streams = spawn_streams(0)
    first = np.random.default_rng(0).standard_normal(4)
    for generator in streams:
        assert not np.allclose(generator.standard_normal(4), first)


def test_on_step_sees_every_step_and_may_stop_the_training(digits):
    seen, losses, terms = [], [], []

    class Enough(Exception):
        pass

    def on_step(step):
        seen.append(step[:4])
        losses.append(step.train_bound)
        assert step.train_bound == pytest.approx(-step.train_reconstruction - step.train_kl)
        terms.append((step.train_reconstruction, step.train_kl))
        if len(seen) == 13:
            raise Enough

    recipe = Recipe(epochs=7, batch_size=50)
    state, data = start_training(small(), digits, recipe, 0)
    with pytest.raises(Enough):
        for _ in continue_training(state, data, recipe, on_step):
            pass
    assert seen[:2] == [(1, 7, 1, 10), (1, 7, 2, 10)] and seen[-1] == (2, 7, 3, 10)
    assert state.adam.t == 13
    whole = fit(small(), digits, epochs=1, batch_size=50, rng=0)[0]
    assert terms[9] == pytest.approx((whole.train_reconstruction, whole.train_kl))
    assert losses[9] == pytest.approx(whole.train_bound)  # the mean over what has been seen
    assert whole.train_bound == pytest.approx(whole.train_elbo, rel=1e-6)  # at beta = 1
    assert losses[0] < losses[9] < losses[10] < -100


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_either_check_alone_stops_the_step(where, bound, monkeypatch):
    vae = small()
    adam, grads = Adam(vae.params), [vae.params.zeros_like()]
    if where == "gradient":

        def terms_backward(*_, out):
            out.flat[-1] = np.nan  # one entry of many

        monkeypatch.setattr(vae, "terms_backward", terms_backward)
    else:
        terms = Terms(np.array([1, np.nan]), np.zeros(2), np.zeros(2))
        monkeypatch.setattr(vae, "terms", lambda trace: terms)
    with pytest.raises(FloatingPointError, match=f"the {where} is not finite"):
        train_step(vae, adam, np.zeros((2, 784)), np.zeros((2, 2)), grads, bound=bound)
    assert adam.t == 0


@pytest.mark.parametrize("where", ["params", "x", "gradient"])
def test_a_value_that_is_not_finite_stops_before_the_step(where):
    vae = small()
    adam, grads = Adam(vae.params), [vae.params.zeros_like()]
    x, eps = np.full((3, 784), 0.5, np.float32), np.ones((3, 2), np.float32)
    if where == "params":
        vae.params["mu.W"][0, 0] = np.nan
    elif where == "x":
        x[1, 5] = np.nan
    else:
        vae.params["logvar.b"][:] = 87.0  # sigma² is finite, beta sigma² is not
    before = vae.params.flat.copy()
    with pytest.raises(FloatingPointError):
        train_step(vae, adam, x, eps, grads, beta=1e6)
    np.testing.assert_array_equal(vae.params.flat, before)
    assert adam.t == 0 and not adam.M.flat.any()


@pytest.mark.parametrize(
    ("function", "value", "error"),
    [(np.exp, 1000.0, "overflow"), (np.log, 0.0, "divide by zero"), (np.log, -1.0, "invalid")],
)
def test_a_step_looks_at_every_flag(monkeypatch, function, value, error):
    vae = small()
    terms = vae.terms

    def flagged(*args):
        function(np.array([value]))
        return terms(*args)

    monkeypatch.setattr(vae, "terms", flagged)
    grads = [vae.params.zeros_like()]
    with pytest.raises(FloatingPointError, match=error):
        train_step(vae, Adam(vae.params), np.zeros((3, 784)), np.zeros((3, 2)), grads)


def test_a_step_refuses_an_image_that_is_no_row():
    vae = small()
    with pytest.raises(
        ValueError, match=r"^x has shape \(784,\) and eps \(784, 2\), must be \(B, D"
    ):
        train_step(
            vae, Adam(vae.params), np.zeros(784), np.zeros((784, 2)), [vae.params.zeros_like()]
        )


@pytest.mark.mathematics
@pytest.mark.parametrize("size", [1, 2])
def test_a_gradient_longer_than_the_clip_is_scaled_down_to_it(size):
    rng = np.random.default_rng(0)
    x, eps = rng.random((9, 20)), rng.standard_normal((9, 2))
    ends, team = [], Team(size)
    for clip in None, 0.5, 1e6:
        vae = VAE(20, (7,), 2, dtype=np.float64, rng=0)
        adam, grads = Adam(vae.params), [vae.params.zeros_like() for _ in range(size)]
        with team:
            train_step(vae, adam, x, eps, grads, clip=clip, team=team)
        ends.append((grads[0].flat.copy(), vae.params.flat.copy()))
    (g, theta), (clipped, moved), (same, stayed) = ends
    norm = np.sqrt((g**2).sum())
    assert norm > 0.5
    np.testing.assert_allclose(clipped, g * 0.5 / norm, rtol=1e-12)
    twin = VAE(20, (7,), 2, dtype=np.float64, rng=0)
    expected, grad = Adam(twin.params), twin.params.zeros_like()
    grad.flat[:] = clipped
    expected.step(grad)
    np.testing.assert_array_equal(moved, twin.params.flat)
    assert not np.array_equal(moved, theta)
    np.testing.assert_array_equal(same, g)  # shorter than the clip, it is left
    np.testing.assert_array_equal(stayed, theta)


def test_the_output_biases_start_where_the_recipe_says(digits):
    for start, zero in ("zero", True), ("data", False):
        state, _ = start_training(small(), digits, Recipe(output_bias=start), 0)
        assert (state.vae.params["output.b"] == 0).all() == zero


def test_the_threads_of_a_recipe_are_those_of_the_team(digits, monkeypatch):
    seen = []
    monkeypatch.setattr(train_module, "Team", lambda size: seen.append(size) or Team(size))
    monkeypatch.setattr(train_module, "suitable_threads", lambda *args: 3)
    for threads in 2, None:
        fit(small(), digits, epochs=1, threads=threads, rng=0)
    assert seen == [2, 3]


def test_the_clip_of_a_recipe_reaches_the_step(digits, monkeypatch):
    seen = []

    def spy(*args, clip, **settings):
        seen.append(clip)
        return train_step(*args, clip=clip, **settings)

    monkeypatch.setattr(train_module, "train_step", spy)
    fit(small(), digits, epochs=1, batch_size=250, grad_clip=0.5, rng=0)
    assert seen == [0.5, 0.5]


def test_a_gradient_whose_square_is_beyond_float32_is_clipped(monkeypatch):
    vae = small()
    adam, grads = Adam(vae.params), [vae.params.zeros_like()]
    monkeypatch.setattr(train_module, "_gradient", lambda *args: BatchSums(0.0, 0.0, 0.0))
    grads[0].flat[:] = 1e25
    x = np.zeros((3, 784), np.float32)
    train_step(vae, adam, x, np.zeros((3, 2), np.float32), grads, clip=1.0)
    assert np.linalg.norm(grads[0].flat) == pytest.approx(1.0, rel=1e-4)


def test_the_sums_over_a_minibatch_are_python_floats():
    # Those of an epoch are taken in float64, whatever the dtype of the model.
    vae = small()
    x, eps = np.zeros((3, 784), np.float32), np.zeros((3, 2), np.float32)
    sums = train_step(vae, Adam(vae.params), x, eps, [vae.params.zeros_like()])
    assert [type(value) for value in sums] == [float] * 3


def test_an_overflow_stops_the_training_with_the_number_of_the_step(digits):
    vae = small()

    def explode(step):
        if step.batch == 3:
            vae.params["logvar.b"][:] = 100.0  # sigma² is beyond float32

    with pytest.raises(FloatingPointError, match=r"^step 4: overflow"):
        list(train_epochs(vae, digits, rng=0, on_step=explode))


def test_an_epoch_that_ends_in_an_overflow_has_no_record(digits):
    vae = small()

    def explode(step):
        if step.batch == step.batches:
            vae.params["logvar.b"][:] = 100.0

    records = train_epochs(vae, digits, rng=0, on_step=explode)
    with pytest.raises(FloatingPointError, match=r"^the evaluation after step 4: overflow"):
        next(records)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0, must be a whole number from 1"),
        ({"batch_size": 0}, "batch_size is 0, must be a whole number from 1 to 1073741824"),
        ({"beta": "1"}, "beta is '1', must be a number at least 0"),
        ({"beta": -1.0}, r"beta is -1\.0, must be a number at least 0 and at most 1e\+06$"),
        ({"beta": float("nan")}, "beta is nan, must be a number at least 0"),
        ({"lr": 0.0}, "lr is 0.0, must be a number greater than 0"),
        ({"binarize": "fixed"}, "binarize is 'fixed', must be one of none, threshold, static, dyn"),
        ({"schedule": "step"}, "^schedule is 'step', must be one of constant, cosine, burda$"),
        ({"bound": "vae"}, "^bound is 'vae', must be one of elbo, iwae$"),
        ({"samples": 0}, "^samples is 0, must be a whole number from 1 to 10000$"),
        ({"samples": 1 << 40}, "^samples is 1099511627776, must be a whole number from 1 to 10"),
        ({"warmup": -1}, "^warmup is -1, must be a whole number from 0 to"),
        ({"warmup": 0.5}, r"^warmup is 0\.5, must be a whole number from 0 to"),
        ({"evaluate_every": 0}, "^evaluate_every is 0, must be a whole number from 1 to 1000000$"),
        ({"output_bias": "one"}, "^output_bias is 'one', must be one of zero, data$"),
        ({"threads": 0}, "^threads is 0, must be a whole number from 1 to"),
        ({"validation": -1}, "^validation is -1, must be a whole number from 0 to"),
        ({"validation": 500}, "^the number of validation images is 500, must be a whole number"),
    ],
)
def test_settings_out_of_range_are_refused(digits, settings, message):
    vae = small()
    before = vae.params.flat.copy()
    with pytest.raises(ValueError, match=message):
        train_epochs(vae, digits, Recipe(**settings))
    with pytest.raises(ValueError, match=message):
        fit(vae, digits, **settings)
    np.testing.assert_array_equal(vae.params.flat, before)


SETTINGS_OF_FIT = {
    p.name: p.default
    for p in inspect.signature(fit).parameters.values()
    if p.kind == p.KEYWORD_ONLY
}


def test_fit_has_the_settings_of_the_recipe_at_their_defaults():
    assert SETTINGS_OF_FIT.keys() - SETTINGS.keys() == {"rng", "report", "best"}
    assert SETTINGS_OF_FIT.keys() >= SETTINGS.keys()
    assert SETTINGS_OF_FIT.pop("average") is None  # the object that holds it
    for name in SETTINGS.keys() & SETTINGS_OF_FIT.keys():
        assert SETTINGS_OF_FIT[name] == getattr(Recipe, name), name
    step = inspect.signature(train_step).parameters
    assert (step["beta"].default, step["factor"].default) == (1.0, 1.0)


def test_fit_passes_every_setting_on(digits, monkeypatch):
    seen = []

    def spy(state, data, recipe, report):
        seen.append(recipe)
        return iter(())

    monkeypatch.setattr(train_module, "continue_training", spy)
    vae = small()
    settings = {
        "epochs": 7, "batch_size": 9, "lr": 0.1, "schedule": "cosine", "bound": "iwae",
        "grad_clip": 2.0, "samples": 2, "beta": 0.5, "warmup": 3, "output_bias": "data",
        "binarize": "dynamic", "validation": 40, "patience": 5, "evaluate_every": 2, "threads": 1,
    }  # fmt: skip
    assert settings.keys() == SETTINGS.keys() - {"average"}
    assert fit(vae, digits, **settings, average=Average(vae.params)) == []
    assert seen == [Recipe(**settings, average=True)]
    fit(vae, digits)
    assert seen[1] == Recipe()


def test_data_that_do_not_fit_the_model_are_refused(digits):
    with pytest.raises(ValueError, match="images have 784 pixels, must have 64"):
        fit(VAE(64, (8,), 2), digits)
    bright = Dataset("bright", np.full((9, 784), 3.0, np.float32), np.zeros((3, 784), np.float32))
    with pytest.raises(ValueError, match=r"of the training images run from 3 to 3, must"):
        fit(small(), bright, batch_size=4)
    swapped = Dataset("swapped", bright.test, bright.train)
    with pytest.raises(ValueError, match=r"of the test images run from 3 to 3, must"):
        fit(small(), swapped, batch_size=2)
    aside = Dataset("aside", bright.test, bright.test, validation=bright.train)
    with pytest.raises(ValueError, match=r"of the validation images run from 3 to 3, must"):
        fit(small(), aside, batch_size=2)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 784), np.uint8), r"uint8 \(0, 784\), must be uint8 or floats, \(N, D\)"),
        (np.zeros((3, 28, 28), np.uint8), r"uint8 \(3, 28, 28\), must be"),
        (np.zeros((3, 784), np.int64), r"int64 \(3, 784\), must be"),
        (np.zeros((3, 784), bool), r"bool \(3, 784\), must be"),
    ],
    ids=["empty", "pictures", "integers", "bool"],
)
def test_images_of_another_kind_are_refused_before_the_first_step(digits, images, message):
    with pytest.raises(ValueError, match=f"^the test images are {message}"):
        train_epochs(small(), Dataset("odd", digits.train, images))


def test_an_average_and_a_best_of_another_training_are_refused(digits):
    vae, other = small(), small()
    with pytest.raises(
        ValueError, match=r"^average is <.*Average object.*>, must be an Average\(vae"
    ):
        fit(vae, digits, average=Average(other.params))
    with pytest.raises(ValueError, match=r"^average is True, must be an Average\(vae.params\)"):
        fit(vae, digits, average=True)
    with pytest.raises(ValueError, match=r"^average is None, must be an Average\(vae.params\)"):
        train_epochs(vae, digits, Recipe(average=True))
    with pytest.raises(ValueError, match=r"^best is used or does not match the model"):
        fit(vae, digits, validation=100, best=Best(small(hidden=(5,)).params))
    best = Best(vae.params)
    split = split_validation(digits, 100)  # already, of which the recipe need not know
    list(train_epochs(vae, split, Recipe(epochs=1), best=best, rng=0))
    assert best.epoch == 1
    with pytest.raises(ValueError, match=r"^best is used or does not match the model"):
        fit(vae, digits, epochs=1, validation=100, best=best, rng=0)


def test_the_record_names_its_columns():
    assert Record._fields[:4] == ("epoch", "train_elbo", "train_reconstruction", "train_kl")


def test_a_record_tells_what_was_evaluated_also_where_it_is_zero():
    record = Record(1, -3.0, 2.0, 1.0, None, None, None, 0.5, 0.25, -3.0)
    assert record.held_out() == {}
    assert record._replace(test_elbo=0.0, test_reconstruction=-1.0, test_kl=1.0).held_out() == {
        "test": Elbo(0.0, -1.0, 1.0)
    }


# The bound, K samples, warm-up, a schedule -------------------------------------------------------


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
@pytest.mark.mathematics
def test_an_epoch_of_either_bound_is_the_loop_written_out(digits, bound):
    # K = 3 draws, beta from 0 to 1.5 over two epochs, half a wave of the learning rate over three.
    epochs, warmup, beta, lr, seed = 3, 2, 1.5, 3e-3, 5
    vae, twin = small(), small()
    history = fit(
        vae, digits, epochs=epochs, batch_size=128, lr=lr, schedule="cosine", beta=beta,
        warmup=warmup, bound=bound, samples=3, rng=seed,
    )  # fmt: skip
    _, order, noise, _ = np.random.default_rng(seed).spawn(4)
    adam, betas = Adam(twin.params), []
    for epoch, record in enumerate(history):
        rows, sums = order.permutation(500), np.zeros(3)
        for i, n in enumerate((128, 128, 128, 116)):
            behind = epoch + i / 4
            betas.append(beta * min(behind / warmup, 1))
            x = digits.train[rows[128 * i : 128 * i + n]].astype(np.float32) * np.float32(1 / 255)
            t = twin.forward(x, noise.standard_normal((3, n, 2), np.float32))
            nll, kl = twin.loss(t)
            if bound == "elbo":
                loss = (nll + betas[-1] * kl).mean(axis=0)
                weights = np.full((3, n), 1 / 3), None, np.ones(n)
            else:  # by SciPy, from what the two distributions are
                ratio = stats.norm.logpdf(t.z, t.mu, t.sigma) - stats.norm.logpdf(t.z)
                log_w = -nll - betas[-1] * ratio.sum(axis=-1)
                loss = np.log(3) - special.logsumexp(log_w, axis=0)
                v = special.softmax(log_w, axis=0)
                weights = v, v, np.zeros(n)
            dnll, dratio, dkl = (None if w is None else w.astype(np.float32) / n for w in weights)
            dratio = None if dratio is None else betas[-1] * dratio
            adam.lr = lr * (1 + np.cos(np.pi * behind / epochs)) / 2
            adam.step(twin.terms_backward(t, Terms(dnll, betas[-1] * dkl, dratio)))
            sums += nll.mean(axis=0).sum(), kl.sum(), loss.sum()
        means = record.train_reconstruction, record.train_kl, -record.train_bound
        assert means == pytest.approx(tuple(sums / 500), rel=1e-5)
        assert record.train_elbo == -(record.train_reconstruction + record.train_kl)
    assert betas[0] == 0 and betas[8:] == [1.5] * 4 and betas[:9] == sorted(betas[:9])
    np.testing.assert_allclose(vae.params.flat, twin.params.flat, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("samples", "lead"), [(1, ()), (2, (2,)), (3, (3,))])
def test_a_step_has_as_many_samples_as_are_asked_for(digits, monkeypatch, samples, lead, dtype):
    drawn = []

    def spy(vae, adam, x, eps, *args, **settings):
        drawn.append((x, eps))
        return train_step(vae, adam, x, eps, *args, **settings)

    monkeypatch.setattr(train_module, "train_step", spy)
    fit(small(dtype=dtype), digits, epochs=1, batch_size=300, samples=samples, rng=5)
    noise = np.random.default_rng(5).spawn(4)[2]
    assert [len(x) for x, _ in drawn] == [300, 200]
    for x, eps in drawn:
        assert x.dtype == eps.dtype == dtype
        np.testing.assert_array_equal(eps, noise.standard_normal((*lead, len(x), 2), dtype))


@pytest.mark.mathematics
def test_one_sample_of_the_elbo_is_the_step_that_it_was(digits):
    x = digits.train[:50].astype(np.float32) / 255
    eps = np.random.default_rng(0).standard_normal((50, 2), np.float32)
    vae, twin, third = small(), small(), small()
    terms = train_step(vae, Adam(vae.params), x, eps, [vae.params.zeros_like()], 2.0)
    trace = twin.forward(x, eps)
    Adam(twin.params).step(twin.backward(trace, beta=2.0))
    assert vae.params.flat.tobytes() == twin.params.flat.tobytes()
    reconstruction, kl = (float(term.sum()) for term in small().loss(trace))
    assert terms == pytest.approx((reconstruction, kl, reconstruction + 2 * kl), rel=1e-6)
    # With an axis of one sample it is the same, to the rounding of the products.
    train_step(third, Adam(third.params), x, eps[np.newaxis], [third.params.zeros_like()], 2.0)
    np.testing.assert_allclose(third.params.flat, vae.params.flat, rtol=1e-4, atol=1e-6)


@pytest.mark.mathematics
def test_the_importance_weighted_bound_is_tighter(digits):
    found = {}
    for bound in "elbo", "iwae":
        record = fit(small(), digits, epochs=1, bound=bound, samples=20, lr=1e-12, rng=0)[0]
        found[bound] = record.train_bound
        assert record.train_elbo == pytest.approx(found["elbo"], abs=1e-3)  # what is told is told
    assert found["iwae"] > found["elbo"] + 0.1


# What is evaluated, and when ---------------------------------------------------------------------


@pytest.fixture
def evaluations(monkeypatch):
    """Return the images that are evaluated while models train, and the models."""
    seen = []

    def spy(vae, images, *streams, **settings):
        seen.append((vae, images))
        return mean_elbo(vae, images, *streams, **settings)

    monkeypatch.setattr(train_module, "mean_elbo", spy)
    return seen


def without_times(record):
    return record._replace(seconds=0.0, test_seconds=0.0)


@pytest.mark.parametrize(
    ("aside", "every", "expected"),
    [
        (0, 1, ["test"] * 5),
        (0, 2, ["", "test", "", "test", "test"]),
        (0, 9, ["", "", "", "", "test"]),
        (100, 1, ["validation"] * 5),
        (100, 2, ["", "validation", "", "validation", "validation"]),
        (100, 5, ["", "", "", "", "validation"]),
    ],
)
@pytest.mark.mathematics
def test_with_a_validation_set_the_test_set_is_left_alone(
    digits, evaluations, aside, every, expected
):
    data = split_validation(digits, aside)
    history = fit(small(), data, epochs=5, batch_size=100, evaluate_every=every, rng=0)
    assert [" ".join(record.held_out()) for record in history] == expected
    assert [record.test_elbo is not None for record in history] == ["test" in e for e in expected]
    kinds = {id(data.test): "test", id(data.validation): "validation"}
    assert [kinds[id(images)] for _, images in evaluations] == " ".join(expected).split()
    for record in history:
        for name, elbo in record.held_out().items():
            assert elbo == tuple(getattr(record, f"{name}_{term}") for term in Elbo._fields)
            assert elbo.elbo == -(elbo.reconstruction + elbo.kl)


@pytest.mark.mathematics
def test_each_set_has_its_own_columns(digits):
    for name, aside in ("validation", 100), ("test", 0):
        vae, data = small(), split_validation(digits, aside)
        record = fit(vae, data, epochs=1, binarize="dynamic", rng=3)[0]
        images = getattr(data, name)
        expected = evaluate_elbo(vae, images, draw=True, rng=3)
        assert record.held_out() == {name: expected}
        assert getattr(record, f"{name}_elbo") == expected.elbo


@pytest.mark.mathematics
def test_what_is_evaluated_and_when_does_not_change_the_training(digits):
    data, ends = split_validation(digits, 100), []
    other = Dataset("other", data.train, digits.train[:7], validation=digits.test[:9])
    for images, every in (data, 1), (data, 3), (other, 2):
        vae = small()
        history = fit(vae, images, epochs=3, evaluate_every=every, binarize="dynamic", rng=0)
        ends.append((vae.params.flat.tobytes(), [record[:4] for record in history]))
    assert ends[0] == ends[1] == ends[2]


# The average -------------------------------------------------------------------------------------


@pytest.mark.mathematics
def test_the_averaged_model_is_evaluated_and_the_other_one_trained(digits, evaluations):
    data, streams = split_validation(digits, 100), spawn_streams(0)
    vae, twin = small(), small()
    average = Average(vae.params, eta=3.0)
    settings = {"epochs": 3, "batch_size": 20, "binarize": "dynamic"}
    recipe, path = Recipe(**settings), []
    state, data = start_training(vae, data, recipe, streams)
    state = state._replace(average=average)
    for record in continue_training(
        state, data, recipe, lambda step: path.append(vae.params.flat.copy())
    ):
        mean = vae.over(average.mean)
        for name, elbo in record.held_out().items():
            images = getattr(data, name)
            args = {"draw": True, "rng": 0}
            assert elbo == evaluate_elbo(mean, images, **args)
            assert elbo != evaluate_elbo(vae, images, **args)
    assert len(evaluations) == 3
    assert {id(model.params) for model, _ in evaluations} == {id(average.mean)}
    # Training is that without an average, to the bit; and the average that of the path.
    fit(twin, data, rng=0, **settings)
    np.testing.assert_array_equal(vae.params.flat, twin.params.flat)
    third = small()
    again = Average(third.params, eta=3.0)
    history = fit(third, data, rng=0, average=again, **settings)
    assert without_times(history[-1]) == without_times(record)
    np.testing.assert_array_equal(again.mean.flat, average.mean.flat)
    members = np.array(path[9::10], np.float64)
    weights = special.poch(np.arange(1.0, len(members) + 1), 3)
    assert len(members) == 6
    np.testing.assert_allclose(
        average.mean.flat, weights @ members / weights.sum(), rtol=1e-4, atol=1e-6
    )


# Going on ----------------------------------------------------------------------------------------


@pytest.mark.mathematics
def test_the_epochs_behind_are_those_of_the_schedule_and_of_the_records(digits):
    settings = {"epochs": 4, "schedule": "cosine", "warmup": 3, "evaluate_every": 2}
    whole, parts, recipe, steps = small(), small(), Recipe(**settings), []
    expected = fit(whole, digits, rng=2, **settings)
    state, data = start_training(parts, digits, recipe, 2)
    for _ in range(4):  # stopped after each epoch
        records = continue_training(state, data, recipe, steps.append)
        next(records)
        records.close()
    assert [without_times(r) for r in state.history] == [without_times(r) for r in expected]
    np.testing.assert_array_equal(parts.params.flat, whole.params.flat)
    assert [step.epoch for step in steps] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert isinstance(steps[0], Step)


def test_a_training_that_is_done_has_nothing_to_do(digits):
    vae, recipe = small(), Recipe(epochs=2)
    state, data = start_training(vae, digits, recipe, 0)
    assert len(list(continue_training(state, data, recipe))) == 2
    before = vae.params.flat.copy()
    assert list(continue_training(state, data, recipe)) == []
    np.testing.assert_array_equal(vae.params.flat, before)


# The best epoch -----------------------------------------------------------------------------------


@pytest.fixture
def scripted(monkeypatch):
    """Return a function that lets the evaluations find these ELBOs, one after the other."""

    def script(*elbos):
        left = iter(elbos)
        monkeypatch.setattr(
            train_module, "mean_elbo", lambda *args, **kwargs: Elbo(next(left), 1.0, 1.0)
        )

    return script


def begun(data, **settings):
    """Return a training before its first epoch."""
    recipe = Recipe(batch_size=100, validation=100, **settings)
    return *start_training(small(), data, recipe, 0), recipe


def followed(state, data, recipe):
    """Return the records of a training, and the parameters at the end of each epoch."""
    records, path = [], []
    for record in continue_training(state, data, recipe):
        records.append(record)
        path.append(state.vae.params.flat.copy())
    return records, path


@pytest.mark.parametrize(
    ("elbos", "kept"),
    [((-5, -3, -4, -6), 2), ((-5, -4, -3, -2), 4), ((-1, -4, -3, -2), 1), ((-9, -3, -3, -4), 2)],
    ids=["a-peak", "rising", "falling-first", "equal-ones"],
)
def test_the_parameters_of_the_best_epoch_are_kept(digits, scripted, elbos, kept):
    scripted(*elbos)
    state, data, recipe = begun(digits, epochs=4)
    best = state.best
    assert best.epoch == 0
    records, path = followed(state, data, recipe)
    assert [record.validation_elbo for record in records] == list(elbos)
    assert (best.epoch, best.elbo) == (kept, elbos[kept - 1])
    np.testing.assert_array_equal(best.params.flat, path[kept - 1])
    assert not np.shares_memory(best.params.flat, state.vae.params.flat)


@pytest.mark.parametrize(
    ("patience", "every", "elbos", "epochs", "kept"),
    [
        (1, 1, (-5, -4, -6), 3, 2),
        (2, 1, (-5, -4, -6, -5), 4, 2),
        (2, 1, (-5, -4, -6, -3, -7, -7), 6, 4),
        (9, 1, (-5, -6, -7, -8, -9, -9, -9, -9), 8, 1),  # the end comes first
        (1, 2, (-5, -6), 4, 2),
        (3, 2, (-5, -6, -7), 6, 2),  # only where there is an evaluation
        (1, 5, (-5, -4), 8, 8),  # the last epoch is always evaluated
    ],
)
def test_training_ends_when_patience_does(digits, scripted, patience, every, elbos, epochs, kept):
    scripted(*elbos)
    state, data, recipe = begun(digits, epochs=8, patience=patience, evaluate_every=every)
    records, path = followed(state, data, recipe)
    assert (len(records), state.best.epoch) == (epochs, kept)
    np.testing.assert_array_equal(state.best.params.flat, path[kept - 1])
    # Gone on with, it has nothing left to do.
    assert followed(state, data, recipe) == ([], [])


def test_patience_begins_with_the_first_epoch_that_is_the_best(digits, scripted):
    # Two epochs lie behind, of which this `best` has seen none.
    scripted(-5, -6, -7, -8, -9)
    state, data, recipe = begun(digits, epochs=9, patience=1)
    records = continue_training(state, data, replace(recipe, patience=None))
    assert [next(records).epoch for _ in range(2)] == [1, 2]
    state = state._replace(best=Best(state.vae.params))
    records, _ = followed(state, data, recipe)
    assert ([record.epoch for record in records], state.best.epoch) == ([3, 4], 3)


def test_the_best_of_an_average_is_a_copy_of_the_average(digits, scripted):
    scripted(-5, -3, -4)
    recipe, means = Recipe(epochs=3, batch_size=20, average=True, validation=100), []
    state, data = start_training(small(), digits, recipe, 0)
    for _ in continue_training(state, data, recipe):
        means.append(state.average.mean.flat.copy())
    np.testing.assert_array_equal(state.best.params.flat, means[1])
    assert not np.array_equal(means[1], means[2])


@pytest.mark.parametrize("aside", [0, 100])  # by fit itself, or before
def test_fit_stops_early_and_reports(digits, scripted, aside):
    scripted(-5, -6, -7)
    vae, seen = small(), []
    best = Best(vae.params) if aside else None
    history = fit(
        vae, split_validation(digits, aside), validation=100, epochs=9, batch_size=200, rng=0,
        best=best, patience=1, report=seen.append,
    )  # fmt: skip
    assert len(history) == 2
    assert best is None or (best.epoch, best.elbo) == (1, -5)
    assert [type(event) for event in seen] == [Step, Step, Record] * 2
    assert [event for event in seen if isinstance(event, Record)] == history


def test_a_best_epoch_and_patience_need_a_validation_set(digits):
    vae, data = small(), split_validation(digits, 100)
    with pytest.raises(ValueError, match=r"^best is given, must be None without a validation set"):
        fit(vae, digits, epochs=1, best=Best(vae.params))
    with pytest.raises(ValueError, match=r"^patience is 3, must be None where validation is 0"):
        fit(vae, digits, epochs=1, patience=3)
    with pytest.raises(ValueError, match=r"^validation is 99, must be 100: the data already have"):
        fit(vae, data, epochs=1, validation=99)
    with pytest.raises(ValueError, match=r"^patience is 0, must be a whole number from 1 to"):
        fit(vae, data, epochs=1, patience=0, best=Best(vae.params))


@pytest.mark.mathematics
@pytest.mark.parametrize("kind", ["learned_gaussian", "diagonal_gaussian"])
def test_learned_variances_start_at_those_of_the_data(rng, kind):
    x = 5 + rng.standard_normal((60, 3)) * [0.1, 3, 0]  # the last column is constant
    vae = VAE(3, (), 2, likelihood=kind, dtype=np.float64, rng=0)
    start_variance(vae, x)
    expected = x.var(axis=0)
    found = np.exp(vae.params["likelihood.logvar"])
    if kind == "learned_gaussian":
        np.testing.assert_allclose(found, expected.mean())
    else:
        np.testing.assert_allclose(found, [*expected[:2], 0.1])
    # One that was trained, or chosen, stays.
    start_variance(vae, 9 * x)
    np.testing.assert_allclose(np.exp(vae.params["likelihood.logvar"])[:2], found[:2])
    scaled = VAE(3, (), 2, likelihood=kind, rng=0, scaling=Scaling.of(x))
    fit(scaled, Dataset("x", x[:50], x[50:]), epochs=1, lr=1e-9)
    np.testing.assert_allclose(scaled.params["likelihood.logvar"][0], 0, atol=0.6)
