"""The study of the three slips: its gradient, its KLs, and its claims, which can be false."""

import numpy as np
import pytest
from claims import failing
from scipy import integrate, stats

from numpy_vae import VAE, load_digits
from numpy_vae.gradcheck import gradcheck
from numpy_vae.layers import Dense
from numpy_vae.params import Params
from numpy_vae.study.report import Setting
from numpy_vae.study.slips import (
    CLAIMS,
    CODES,
    HONEST,
    LATER,
    MIXED,
    QUIET,
    QUOTED,
    RIGHT,
    Code,
    D,
    Found,
    Layers,
    Run,
    Z,
    glorot,
    kl_of_the_noise,
    terms,
    train,
    vae_loss,
)

SABOTAGE = [
    (1, "study/slips", '"the same code, noise 1", 1, D, Z, 1.0', '"", 1, D, Z, 0.01'),
    (2, "study/slips", 'noise 0.01", 1, D, Z, 0.01', 'noise 0.01", 1, D, Z, 0.5'),
    (2, "study/slips", "dz_mean = dz + dkl", "dz_mean = dz + 100 * dkl"),
    (3, "study/slips", "2 * (v.z_log_sigma + math.log(code.epsilon_std))", "2 * v.z_log_sigma"),
    (4, "study/slips", 'noise 1", 1, 1, 1, 1.0', 'noise 1", 2, 1, 1, 1.0'),
    (4, "study/slips", "math.log(code.epsilon_std))  #", "0)  #"),
    (5, "study/slips", 'noise 1", 2, 1, 1, 1.0', 'noise 1", 1, 1, 1, 1.0'),
    (5, "study/slips", "of_sample = dz *", "of_sample = 0 * dz *"),
]
EVERY_KNOB = [
    Code("", meaning, R_x, R_z, c)
    for meaning in (1, 2)
    for R_x in (1, D)
    for R_z in (1, Z)
    for c in (0.01, 1.0)
]
RUNS = {  # nll, KL as coded, KL of q, standard deviation of z
    QUOTED: (177.6, 0.007, 8.22, 0.08),
    HONEST: (206.2, 0.0, 0.0, 1.0),
    LATER: (187.2, 0.003, 8.21, 0.05),
    MIXED: (161.7, 3.36, 5.84, 1.3),
    QUIET: (160.1, 1.08, 9.32, 1.0),
    RIGHT: (161.1, 5.1, 5.1, 1.4),
}
NO_PICTURES = np.zeros((2, 4, D))


def found(mean_image=206.0, **changed):
    """Return what the experiment could have found; a key is the name of a constant."""
    named = {globals()[name]: values for name, values in changed.items()}
    runs = {code: Run(code, *values, NO_PICTURES) for code, values in (RUNS | named).items()}
    return Found(runs, mean_image, NO_PICTURES[0])


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, found()) == []


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        (1, {"mean_image": 203.0}),
        (1, {"mean_image": 209.0}),
        (1, {"HONEST": (206.2, 0.0, 0.2, 1.0)}),
        (2, {"QUOTED": (197.0, 0.007, 8.22, 0.08)}),
        (2, {"LATER": (202.0, 0.003, 8.21, 0.05)}),
        (3, {"QUOTED": (177.6, 0.007, 8.30, 0.08)}),
        (3, {"LATER": (187.2, 0.2, 8.21, 0.05)}),
        (3, {"LATER": (187.2, 0.003, 8.21, 0.3)}),
        (4, {"MIXED": (161.7, 5.0, 5.84, 1.3)}),
        (4, {"MIXED": (161.7, 1.0, 5.84, 1.3)}),
        (4, {"QUIET": (160.1, 2.5, 9.32, 1.0)}),
        (5, {"QUIET": (163.5, 1.08, 9.32, 1.0)}),
        (5, {"QUIET": (156.0, 1.08, 9.32, 1.0)}),
        (5, {"MIXED": (157.0, 3.36, 5.84, 1.3)}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert failing(CLAIMS, found(**numbers)) == [number]


@pytest.fixture
def params(rng):
    """Weights in float64, with biases off the kinks of relu and z_log_sigma off 0."""
    params = glorot(5, rng).astype("float64")
    params.flat[:] += 0.1 * rng.standard_normal(params.flat.size)
    return params


def layers_of(arrays):
    return Layers(*(Dense(arrays[f"{name}.W"], arrays[f"{name}.b"]) for name in Layers._fields))


def a_batch(rng, c, n=4):
    return rng.random((n, D)), c * rng.standard_normal((n, Z))


@pytest.mark.parametrize("method", ["central", "complex"])
@pytest.mark.parametrize("code", EVERY_KNOB, ids=str)
@pytest.mark.gradient
def test_the_gradient_is_that_of_the_loss_at_every_knob(rng, params, code, method):
    x, epsilon = a_batch(rng, code.epsilon_std)
    net, grads = Layers.over(params), params.zeros_like()
    net.backward(code, net.forward(x, epsilon), Layers.over(grads))

    def f(arrays):
        return vae_loss(code, layers_of(arrays).forward(x, epsilon))

    report = gradcheck(f, grads, dict(params), method=method, max_entries=40)
    assert report.ok, report


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.mathematics
def test_the_loss_is_that_of_the_keras_lines(rng, params, reduce):
    code = Code("", 1, D, Z, 0.01) if reduce == "mean" else Code("", 1, 1, 1, 0.01)
    v = Layers.over(params).forward(*a_batch(rng, 0.01))
    x, p, z_mean, z_log_sigma = v.x, 1 / (1 + np.exp(-v.logits)), v.z_mean, v.z_log_sigma
    over = {"mean": np.mean, "sum": np.sum}[reduce]
    xent_loss = over(-(x * np.log(p) + (1 - x) * np.log(1 - p)), axis=-1)
    kl_loss = -0.5 * over(1 + z_log_sigma - np.square(z_mean) - np.exp(z_log_sigma), axis=-1)
    assert vae_loss(code, v) == pytest.approx(np.mean(xent_loss + kl_loss), rel=1e-12)


@pytest.mark.gradient
def test_the_right_code_is_the_model_of_the_package(rng, params):
    vae = VAE(D, (5,), Z, dtype="float64", rng=0)
    theirs = dict(
        zip(Layers._fields, ("encoder.0", "mu", "logvar", "decoder.0", "output"), strict=True)
    )
    for name, block in theirs.items():
        for part in ("W", "b"):  # log sigma² = 2 log sigma
            vae.params[f"{block}.{part}"][:] = params[f"{name}.{part}"] * (1 + (block == "logvar"))
    x, eps = a_batch(rng, 1)
    trace, v = vae.forward(x, eps), Layers.over(params).forward(x, eps)
    nll, coded, sampled = terms(RIGHT, v)
    np.testing.assert_allclose((nll, coded), vae.loss(trace), rtol=1e-12)
    np.testing.assert_allclose(sampled, coded, rtol=1e-12)
    assert vae_loss(RIGHT, v) == pytest.approx(vae.objective(trace), rel=1e-12)

    grads, expected = params.zeros_like(), vae.backward(trace)
    Layers.over(params).backward(RIGHT, v, Layers.over(grads))
    for name, block in theirs.items():
        factor = 1 + (block == "logvar")
        for part in ("W", "b"):
            got = grads[f"{name}.{part}"]
            np.testing.assert_allclose(got, factor * expected[f"{block}.{part}"], rtol=1e-10)


@pytest.mark.parametrize("c", [0.01, 1.0])
@pytest.mark.mathematics
def test_the_kl_of_q_is_that_of_the_draws(rng, params, c):
    x = np.repeat(rng.random((1, D)), 20_000, axis=0)
    v = Layers.over(params).forward(x, c * rng.standard_normal((len(x), Z)))
    sigma = c * np.exp(v.z_log_sigma)
    ratios = stats.norm.logpdf(v.z, v.z_mean, sigma) - stats.norm.logpdf(v.z)
    draws = ratios.sum(axis=1)
    error = draws.std() / np.sqrt(len(draws))
    assert terms(QUOTED._replace(epsilon_std=c), v)[2][0] == pytest.approx(
        draws.mean(), abs=4 * error
    )


@pytest.mark.parametrize("c", [0.01, 0.5, 1.0, 2.0])
@pytest.mark.mathematics
def test_the_kl_of_the_noise_is_that_of_quadrature(c):
    def integrand(z):
        return stats.norm.pdf(z, 0, c) * (stats.norm.logpdf(z, 0, c) - stats.norm.logpdf(z))

    one = integrate.quad(integrand, -12 * c, 12 * c, epsabs=1e-12)[0]
    assert kl_of_the_noise(c) == pytest.approx(Z * one, abs=1e-9)


@pytest.mark.mathematics
def test_two_meanings_report_half_of_sigma_squared_less_sigma_less_log_sigma(rng, params):
    v = Layers.over(params).forward(*a_batch(rng, 1))
    _, coded, sampled = terms(MIXED, v)
    sigma = np.exp(v.z_log_sigma)
    expected = (sigma**2 - sigma - np.log(sigma)).sum(axis=1) / 2
    np.testing.assert_allclose(sampled - coded, expected, rtol=1e-10)
    assert (sampled > coded).all()


@pytest.mark.mathematics
def test_the_decoder_can_undo_the_factor_of_the_noise(rng, params):
    """z / c = mu / c + e^a eps, and the penalty of the mean becomes beta c² (mu / c)² / 2."""
    c, x, eps = 0.01, *a_batch(rng, 1)
    scaled = params.copy()
    for block in ("z_mean.W", "z_mean.b"):
        scaled[block][:] /= c
    scaled["decoder_h.W"][:] *= c
    quiet = Layers.over(params).forward(x, c * eps)
    loud = Layers.over(scaled).forward(x, eps)
    np.testing.assert_allclose(loud.logits, quiet.logits, rtol=1e-10)
    assert QUOTED.beta * (quiet.z_mean**2).sum() == pytest.approx(
        QUOTED.beta * c**2 * (loud.z_mean**2).sum(), rel=1e-12
    )


def test_the_six_codes_have_the_weights_of_the_page():
    assert [code.beta for code in CODES] == [392, 392, 784, 1, 1, 1]
    assert [round(code.beta * code.epsilon_std**2, 4) for code in CODES] == [
        0.0392, 392, 0.0784, 1, 0.0001, 1,
    ]  # fmt: skip


def test_each_code_starts_at_the_same_weights_and_sees_the_same_images(monkeypatch):
    seen = []

    def forward(self, x, epsilon, of=Layers.forward):
        seen.append((self.h.W.copy(), x, epsilon))
        raise StopIteration  # at the first step

    monkeypatch.setattr(Layers, "forward", forward)
    data = Setting(load_digits(60), quick=True).data
    for code in (QUOTED, HONEST):
        with pytest.raises(StopIteration):
            train(code, data, True, np.random.default_rng(0))
    (W, x, epsilon), (V, y, noise) = seen
    assert np.array_equal(W, V) and np.array_equal(x, y) and x.dtype == epsilon.dtype == np.float32
    np.testing.assert_allclose(epsilon, 0.01 * noise, rtol=1e-6)


def test_the_weights_are_those_of_glorot(rng):
    params = glorot(50, rng)
    assert isinstance(params, Params) and params.dtype == np.float32
    for name, W in params.items():
        if name.endswith(".b"):
            assert not W.any()
        else:
            limit = np.sqrt(6 / sum(W.shape))
            assert limit * 0.8 < np.abs(W).max() <= limit * (1 + 1e-6)
