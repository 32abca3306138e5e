"""Adam against the printed algorithm, and what the machine does to it; schedules; the average."""

import itertools
import math

import numpy as np
import pytest
from scipy import special

from numpy_vae import Adam, Params, optim
from numpy_vae.optim import AVERAGE_EVERY, SCHEDULES, Average, burda, cosine


def literal_adam(theta, gradients, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Algorithm 1 of Kingma and Ba, as it is printed."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        theta = theta - lr * m_hat / (np.sqrt(v_hat) + eps)
    return theta


def vector(values, dtype=np.float64):
    values = np.array(values, dtype)
    return Params({"w": values.shape}, flat=values)


@pytest.mark.parametrize("size", [3, optim.BLOCK, 2 * optim.BLOCK + 5], ids=["3", "one", "three"])
@pytest.mark.mathematics
def test_adam_is_the_printed_algorithm(rng, size):
    settings = {"lr": 3e-3, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6}
    theta = rng.standard_normal(size)
    gradients = [rng.standard_normal(size) * 10.0 ** rng.integers(-6, 3) for _ in range(7)]
    params = vector(theta)
    adam = Adam(params, **settings)
    for g in gradients:
        adam.step(vector(g))
    expected = literal_adam(theta, gradients, **settings)
    np.testing.assert_allclose(params.flat, expected, rtol=1e-12, atol=1e-15)
    assert adam.t == 7


@pytest.mark.mathematics
@pytest.mark.parametrize("shares", [1, 2, 3])
def test_the_step_is_the_same_in_shares(rng, monkeypatch, shares):
    monkeypatch.setattr(optim, "BLOCK", 5)
    theta, gradients = rng.standard_normal(37), rng.standard_normal((4, 37))
    params = vector(theta)
    adam = Adam(params)
    ends = np.linspace(0, 37, shares + 1).astype(int).tolist()
    for t, g in enumerate(gradients):
        for start, stop in itertools.pairwise(ends):
            adam.update(slice(start, stop), vector(g), 0.5)
        assert adam.t == t  # it is for the caller to count
        adam.t += 1
    expected = literal_adam(theta, gradients, lr=0.5e-3)
    np.testing.assert_allclose(params.flat, expected, rtol=1e-12)


@pytest.mark.parametrize("entry", [0, 19])
def test_a_square_that_overflows_is_raised_from_whichever_block(monkeypatch, entry):
    monkeypatch.setattr(optim, "BLOCK", 5)
    g = np.zeros(20)
    g[entry] = 3e19
    params = vector(np.ones(20), np.float32)
    adam = Adam(params)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
        adam.step(vector(g, np.float32))
    assert adam.t == 0 and np.isfinite(params.flat).all()


@pytest.mark.mathematics
def test_the_first_step_has_the_size_lr_whatever_the_gradient():
    params = vector([1.0, 1.0, 1.0])
    Adam(params, lr=0.1).step(vector([1e-3, -5.0, 1e6]))
    np.testing.assert_allclose(params.flat, [0.9, 1.1, 0.9], rtol=1e-4)


@pytest.mark.purity
def test_steps_are_taken_in_place_in_the_dtype_of_the_parameters(rng):
    params = vector(rng.standard_normal(8), np.float32)
    memory, grads = params.flat, vector(rng.standard_normal(8), np.float32)
    before = grads.flat.copy()
    adam = Adam(params, lr=np.float64(1e-3))
    adam.step(grads)
    assert params.flat is memory
    assert {a.dtype for a in (params.flat, adam.M.flat, adam.V.flat)} == {np.dtype(np.float32)}
    assert all(a.dtype == np.float32 for a in vars(adam).values() if isinstance(a, np.ndarray))
    np.testing.assert_array_equal(grads.flat, before)


def test_adam_finds_the_bottom_of_a_bowl():
    params = vector([5.0, -3.0, 2.0])
    adam = Adam(params, lr=0.05)
    for _ in range(2000):
        adam.step(vector(params.flat * [1.0, 100.0, 0.01]))
    np.testing.assert_allclose(params.flat, 0, atol=1e-3)


@pytest.mark.purity
def test_moments_whose_gradient_has_died_never_become_denormal():
    params = vector(np.ones(4), np.float32)
    adam = Adam(params)
    adam.step(vector([1.0, 1e-3, 1e-15, 1.0], np.float32))
    tiny = np.finfo(np.float32).tiny
    for _ in range(3000):
        adam.step(vector(np.zeros(4), np.float32))
        for moment in (adam.M.flat, adam.V.flat):
            assert not np.any((moment != 0) & (np.abs(moment) < tiny))
    assert not adam.M.flat.any()  # without the flush they would lie at 0.9^3000, denormal, for ever


@pytest.mark.slow
@pytest.mark.purity
def test_the_flush_reaches_every_block_and_both_moments():
    size = 2 * optim.BLOCK + 5
    params = Params({"w": (size,)}, np.float32)
    adam = Adam(params, beta2=0.9)
    adam.step(vector(np.full(size, 1e-6), np.float32))
    zeros = vector(np.zeros(size), np.float32)
    for _ in range(600):
        adam.step(zeros)
    assert not adam.M.flat.any() and not adam.V.flat.any()


@pytest.mark.mathematics
def test_small_gradients_are_not_flushed():
    rng = np.random.default_rng(1)
    theta = rng.standard_normal(50)
    gradients = [1e-7 * rng.standard_normal(50) for _ in range(300)]
    params = vector(theta, np.float32)
    adam = Adam(params)
    for g in gradients:
        adam.step(vector(g, np.float32))
    np.testing.assert_allclose(params.flat, literal_adam(theta, gradients), atol=2e-5)


def test_the_flush_does_not_move_the_parameters(monkeypatch):
    ends = []
    for every in (optim.FLUSH_EVERY, 10**9):
        monkeypatch.setattr(optim, "FLUSH_EVERY", every)
        params = vector(np.ones(64), np.float32)
        adam = Adam(params)
        gradients = np.random.default_rng(0)
        for t in range(1200):
            g = gradients.standard_normal(64).astype(np.float32)
            g[32:] *= t < 100  # half of the gradient dies
            adam.step(vector(g, np.float32))
        ends.append(params.flat)
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "lr is 0.0, must be a number greater than 0 and at most 1"),
        ({"lr": -1e-3}, "lr is -0.001, must be a number greater than 0"),
        ({"lr": float("nan")}, "lr is nan, must be"),
        ({"lr": float("inf")}, "lr is inf, must be"),
        ({"lr": 1e9}, "lr is 1000000000.0, must be"),
        ({"beta1": 1.0}, "beta1 is 1.0, must be a number at least 0"),
        ({"beta2": -0.1}, "beta2 is -0.1, must be a number at least 0"),
        ({"beta2": 1.0}, "beta2 is 1.0, must be .* at most 0.999999"),
        ({"eps": 0.0}, "eps is 0.0, must be a number at least 1e-12"),
        ({"eps": 1.5}, "eps is 1.5, must be .* at most 1$"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Adam(vector([1.0]), **settings)


def test_complex_parameters_are_refused():
    with pytest.raises(ValueError, match="params has dtype complex128, must be a real floating"):
        Adam(vector([1.0], np.complex128))


def test_the_flush_comes_when_it_is_due_and_not_before():
    params = vector([1.0], np.float32)
    adam = Adam(params)
    adam.M.flat[:] = 1e-30  # not denormal, and too small to matter
    for _ in range(optim.FLUSH_EVERY):
        assert adam.M.flat.any()
        adam.step(vector([0.0], np.float32))
    assert not adam.M.flat.any()


def test_a_block_fits_the_cache_and_outweighs_the_loop():
    # Five blocks of float32 in 12 MiB, of a last cache of 16 or more; ten calls of NumPy for each
    # of them take as long as some thousand entries.
    assert 50_000 < optim.BLOCK <= (12 << 20) / (5 * 4)


# Schedules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("constant", 1, 1), ("cosine", 1, 0), ("burda", 1, 0.1)],
)
@pytest.mark.mathematics
def test_a_schedule_runs_from_its_start_to_its_end_and_never_rises(name, first, last):
    factor = SCHEDULES[name]
    assert factor(0.0) == first
    assert factor(1.0) == pytest.approx(last, abs=1e-15)
    factors = [factor(step / 1000) for step in range(1001)]
    assert all(type(value) is float for value in factors)  # not NumPy's, which is float64
    assert all(a >= b for a, b in itertools.pairwise(factors))
    assert (len(set(factors)) > 1) == (name != "constant")


@pytest.mark.mathematics
def test_the_cosine_is_half_a_wave():
    found = [cosine(share) for share in (0, 1 / 3, 1 / 2, 2 / 3, 1)]
    np.testing.assert_allclose(found, [1, 3 / 4, 1 / 2, 1 / 4, 0], atol=1e-15)
    shares = np.linspace(0, 1, 77)
    half = np.cos(np.pi * shares / 2) ** 2
    np.testing.assert_allclose([cosine(s) for s in shares], half, atol=1e-15)


@pytest.mark.parametrize("times", [1, 2, 7, 10])
@pytest.mark.mathematics
def test_burda_is_a_tenth_in_seven_steps_each_thrice_as_long(times):
    # As train_epochs asks: of the epochs behind, of all; here at the start of each.
    epochs = 3280 * times
    found = [burda(behind / epochs) for behind in range(epochs)]
    expected = [10 ** (-i / 7) for i in range(8) for _ in range(times * 3**i)]
    assert found == expected


@pytest.mark.parametrize("batches", [1, 3, 600, 3000])
@pytest.mark.mathematics
def test_the_borders_of_burda_lie_between_two_steps(batches):
    # The last step of a stage and the first of the next, for every border, at epoch and step.
    for i in range(1, 8):
        border = (3**i - 1) // 2
        last = border - 1 + (batches - 1) / batches
        assert burda(last / 3280) == 10 ** (-(i - 1) / 7)
        assert burda(border / 3280) == 10 ** (-i / 7)


@pytest.mark.parametrize(("epochs", "batches", "stage"), [(3, 82, 4), (6, 205, 4), (5, 3280, 7)])
@pytest.mark.mathematics
def test_a_border_of_burda_that_is_a_step_is_not_missed_by_a_rounding(epochs, batches, stage):
    epoch, rest = divmod((3**stage - 1) // 2 * epochs * batches // 3280, batches)
    assert burda((epoch + rest / batches) / epochs) == 10 ** (-stage / 7)


@pytest.mark.mathematics
def test_a_short_burda_has_the_same_shares():
    # Of 328 epochs the first stages are parts of one: at the start of epochs 2 and 3 it is at
    # 10 and 20 of 3280, in the stages from 4 and from 13.
    found = [burda(behind / 328) for behind in range(328)]
    assert found[:3] == [1.0, 10 ** (-2 / 7), 10 ** (-3 / 7)]
    assert found.count(10 ** (-1.0)) == 218  # of 218.7, the last two thirds
    assert found[-218:] == [0.1] * 218


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.mathematics
def test_a_factor_is_another_lr(rng, dtype):
    theta = rng.standard_normal(50)
    params, twin = vector(theta, dtype), vector(theta, dtype)
    adam, other = Adam(params, lr=1e-2), Adam(twin)
    for factor in 1.0, 0.25, 0.3, 1e-3, 0.0:
        g = vector(rng.standard_normal(50), dtype)
        other.lr = factor * 1e-2
        adam.step(g, factor)
        other.step(g)
        assert params.flat.tobytes() == twin.flat.tobytes()
    assert adam.M.flat.tobytes() == other.M.flat.tobytes() and adam.lr == 1e-2
    assert {a.dtype for a in (params.flat, adam.M.flat, adam.V.flat)} == {np.dtype(dtype)}


# The average ------------------------------------------------------------------------------------


def averaged(path, eta, dtype=np.float64):
    """Return the average of a path (n, P), a point of it every AVERAGE_EVERY steps."""
    params = vector(np.full(path.shape[1], 1e6), dtype)  # a start that is to be forgotten
    average = Average(params, eta)
    for t in range(1, len(path) * AVERAGE_EVERY + 1):
        params.flat[:] = path[(t - 1) // AVERAGE_EVERY]
        average.update(t)
    return average.mean.flat


@pytest.mark.mathematics
def test_with_eta_0_it_is_the_plain_mean(rng):
    path = rng.standard_normal((23, 4))
    np.testing.assert_allclose(averaged(path, 0.0), path.mean(axis=0), rtol=1e-8)


@pytest.mark.parametrize("eta", [0.0, 1.0, 2.5, 30.0])
@pytest.mark.mathematics
def test_the_weights_grow_like_a_power_and_sum_to_one(eta):
    n = 200
    weights = averaged(np.eye(n), eta)  # the mean of unit vectors is the weights
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    assert (weights >= 0).all()
    # i (i + 1) ... (i + eta - 1), which tends to i^eta.
    expected = special.poch(np.arange(1.0, n + 1), eta)
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-9, atol=1e-12)
    i = np.array([100, 200])
    growth = weights[199] / weights[99]
    assert growth == pytest.approx(2**eta, rel=0.01 + eta**2 / 300)
    assert growth == pytest.approx(np.divide(*special.poch(i[::-1].astype(float), eta)))


@pytest.mark.mathematics
def test_the_last_tenth_of_the_path_outweighs_the_rest():
    assert Average(vector([1.0])).eta == 30
    for n in 200, 2000:
        assert averaged(np.eye(n), 30.0)[-n // 10 :].sum() == pytest.approx(0.96, abs=0.01)


@pytest.mark.mathematics
def test_a_point_that_is_reached_is_the_average():
    params = vector([1.0, -2.0], np.float32)
    average = Average(params)
    np.testing.assert_array_equal(average.mean.flat, params.flat)  # before the first update
    params.flat[:] = 5, 6
    for t in range(1, 500):
        average.update(t)
        assert average.mean.flat.tolist() == [5.0, 6.0]


@pytest.mark.mathematics
def test_a_training_too_short_for_a_member_is_not_lost(rng):
    # Up to the first member the average is the parameters, not what they were at the start.
    params = vector(np.zeros(4))
    average = Average(params)
    for t, theta in enumerate(rng.standard_normal((3 * AVERAGE_EVERY, 4)), start=1):
        params.flat[:] = theta
        average.update(t)
        if t <= AVERAGE_EVERY:
            np.testing.assert_allclose(average.mean.flat, theta, rtol=1e-9)
        elif t < 2 * AVERAGE_EVERY:
            assert (average.mean.flat != theta).all()


@pytest.mark.purity
def test_the_average_has_memory_of_its_own(rng):
    params = vector(rng.standard_normal(6), np.float32)
    before, average = params.flat.copy(), Average(params)
    memory = average.mean.flat
    assert not np.shares_memory(params.flat, memory)
    params.flat[:] += 1
    np.testing.assert_array_equal(memory, before)
    average.update(AVERAGE_EVERY)
    np.testing.assert_array_equal(params.flat, before + 1)
    assert average.mean.flat is memory and memory.dtype == np.float32
    assert average.mean.shapes == params.shapes


@pytest.mark.purity
def test_the_average_is_a_function_of_the_steps_alone(rng):
    # One that is built anew on the way, from what it was and t, goes on as if nothing had been.
    path = rng.standard_normal((120, 5))
    params = vector(np.zeros(5))
    whole, parts = Average(params, 7.0), Average(params, 7.0)
    for t, theta in enumerate(path, start=1):
        if t % 13 == 0:
            held = parts.mean.flat.copy()
            parts = Average(params, 7.0)
            parts.mean.flat[:] = held
        params.flat[:] = theta
        whole.update(t)
        parts.update(t)
    assert whole.mean.flat.tobytes() == parts.mean.flat.tobytes()
    members = path[AVERAGE_EVERY - 1 :: AVERAGE_EVERY]
    np.testing.assert_allclose(whole.mean.flat, averaged(members, 7.0), rtol=1e-9)


@pytest.mark.mathematics
def test_around_a_minimum_the_average_is_nearer_to_it_than_the_path():
    rng = np.random.default_rng(2)
    params = vector(rng.standard_normal(40) + 3)
    adam, average, distances = Adam(params, lr=0.1), Average(params), []
    for _ in range(3000):
        adam.step(vector(params.flat + rng.standard_normal(40)))
        average.update(adam.t)
        distances.append(math.sqrt((params.flat**2).mean()))
    assert math.sqrt((average.mean.flat**2).mean()) < np.mean(distances[-500:]) / 2


@pytest.mark.parametrize("eta", [-1.0, float("nan"), float("inf"), 1e9, "30", None])
def test_an_eta_out_of_range_is_refused(eta):
    with pytest.raises(ValueError, match=r"^eta is .*, must be a number at least 0 and at most 1e"):
        Average(vector([1.0]), eta)


def test_every_tenth_step_is_a_member_of_the_average():
    assert AVERAGE_EVERY == 10
