"""Adam against the printed algorithm, and what the machine does to it."""

import numpy as np
import pytest

from numpy_vae import Adam, Params, optim


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
    np.testing.assert_allclose(params.flat, literal_adam(theta, gradients, **settings), rtol=1e-12)
    assert adam.t == 7


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
    assert {a.dtype for a in (params.flat, adam.m.flat, adam.v.flat)} == {np.dtype(np.float32)}
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
        for moment in (adam.m.flat, adam.v.flat):
            assert not np.any((moment != 0) & (np.abs(moment) < tiny))
    assert not adam.m.flat.any()  # without the flush they would lie at 0.9^3000, denormal, for ever


@pytest.mark.purity
def test_the_flush_reaches_every_block_and_both_moments():
    size = 2 * optim.BLOCK + 5
    params = Params({"w": (size,)}, np.float32)
    adam = Adam(params, beta2=0.9)
    adam.step(vector(np.full(size, 1e-6), np.float32))
    zeros = vector(np.zeros(size), np.float32)
    for _ in range(600):
        adam.step(zeros)
    assert not adam.m.flat.any() and not adam.v.flat.any()


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
    adam.m.flat[:] = 1e-30  # not denormal, and too small to matter
    for _ in range(optim.FLUSH_EVERY):
        assert adam.m.flat.any()
        adam.step(vector([0.0], np.float32))
    assert not adam.m.flat.any()


def test_a_block_fits_the_cache_and_outweighs_the_loop():
    # Five blocks of float32 in a level-2 cache of 2 MiB; a dozen calls of NumPy for each of them
    # take as long as some thousand entries.
    assert 10_000 < optim.BLOCK <= (2 << 20) / (5 * 4)
