"""The study of sums and means: its betas are those of the losses, and its claims can be false."""

import numpy as np
import pytest
from claims import failing

from numpy_vae import VAE, Gaussian, Params
from numpy_vae.study.reductions import (
    BETAS,
    CLAIMS,
    CODES,
    LARGER,
    Code,
    Found,
    Run,
    Walk,
    measured_beta,
    reduced_loss,
)
from numpy_vae.training.evaluate import elbo_of

SABOTAGE = [
    (1, "study/reductions", "self.weight / size * self.factor", "self.weight * self.factor"),
    (1, "posterior", "dkl * mu, dkl * (sigma * sigma - 1) / 2", "dkl * mu, dkl * (sigma - 1) / 2"),
    (2, "study/reductions", "batch_size=size, beta=beta", "batch_size=size"),
    (3, "training.evaluate", "Elbo(-(reconstruction + kl),", "Elbo(-reconstruction,"),
    (4, "study/reductions", "self.test.reconstruction + self.beta *", "self.test.reconstruction +"),
    (5, "study/reductions", "np.full(BATCH, factor / BATCH)", "np.full(BATCH, 1 / BATCH)"),
    (5, "optim", "u += eps\n", "u += 30\n"),
]
TERMS = {
    0.1: (130.0, 40.0),
    1.0: (140.0, 13.0),
    2.45: (160.0, 6.0),
    3.07: (164.0, 5.0),
    30.0: (197.0, 0.01),
    392.0: (198.0, 1e-5),
    784.0: (198.0, 1e-6),
}
ADAM = Walk("Adam", 1.0, 1e-4, (-267.0, -267.0))
DESCENT = Walk("gradient descent", 128.0, 90.0, (-546.0, -203.0))


def found(measured=None, terms=None, active=0, adam=ADAM, descent=DESCENT, pixels=784):
    """Return what the experiment could have found."""
    pairs = TERMS | (terms or {})
    pictures = np.zeros((5, pixels))
    runs = [
        Run(beta, elbo_of(*pairs[beta]), 8 if beta < 30 else active, pictures) for beta in BETAS
    ]
    measured = [code.beta for code in CODES] if measured is None else measured
    return Found(measured, runs, [adam, descent], pictures, (28, 28))


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, found()) == []


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        (1, {"measured": [784, 392, 3.072, 2.45, 1, 1.00001]}),
        (1, {"measured": [784, 784, 3.072, 2.45, 1, 1]}),
        (2, {"terms": {784.0: (198.0, 0.11)}}),
        (2, {"terms": {392.0: (198.0, 0.11)}}),
        (2, {"active": 1}),
        (3, {"terms": {2.45: (148.0, 6.0)}}),
        (3, {"terms": {0.1: (130.0, 25.0)}}),
        (3, {"terms": {392.0: (170.0, 0.0)}}),
        (4, {"terms": {0.1: (140.0, 40.0)}}),
        (4, {"pixels": 100}),
        (4, {"pixels": 10_000}),
        (5, {"adam": ADAM._replace(apart=0.1)}),
        (5, {"adam": ADAM._replace(elbos=(-267.0, -260.0))}),
        (5, {"descent": DESCENT._replace(first=1.0)}),
        (5, {"descent": DESCENT._replace(elbos=(-546.0, -500.0))}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert failing(CLAIMS, found(**numbers)) == [number]


def test_claim_1_names_the_betas_of_the_codes(monkeypatch):
    wrong = [code._replace(weight=2.0) for code in CODES]
    monkeypatch.setattr("numpy_vae.study.reductions.CODES", wrong)
    assert not CLAIMS[0].holds(found(measured=[code.beta for code in wrong]))


KINDS = [
    Code("", 12, 3, pixels, latents, weight, variance)
    for pixels in ("sum", "mean")
    for latents in ("sum", "mean")
    for weight, variance in ((1.0, None), (0.3, 0.5), (2.0, 0.1))
]


@pytest.mark.parametrize("code", KINDS, ids=str)
@pytest.mark.mathematics
def test_the_derivative_of_a_reduced_loss_has_the_beta_of_the_formula(code):
    assert measured_beta(code, 0) == pytest.approx(code.beta, rel=1e-9)


@pytest.mark.parametrize("code", KINDS, ids=str)
@pytest.mark.gradient
def test_the_whole_gradient_is_that_of_the_objective_with_this_beta(rng, code):
    likelihood = "bernoulli" if code.variance is None else Gaussian(code.variance)
    vae = VAE(code.values, (5,), code.size, "tanh", likelihood, np.float64, rng)
    x, eps = rng.random((4, code.values)), rng.standard_normal((4, code.size))

    right, wrong = (vae.backward(vae.forward(x, eps), f * code.beta).flat for f in (1, 1.01))
    for v in rng.standard_normal((3, right.size)):
        moved = vae.over(Params(vae.params.shapes, flat=vae.params.flat + 1e-30j * v))
        slope = code.factor * reduced_loss(code, moved.forward(x, eps)).imag / 1e-30
        assert slope == pytest.approx(right @ v, rel=1e-10, abs=1e-10)
        assert slope != pytest.approx(wrong @ v, rel=1e-6)


@pytest.mark.mathematics
def test_the_weight_of_a_squared_error_is_beta_over_twice_the_variance():
    code = Code("", 100, 3, "sum", "sum", 0.3, 0.1)
    assert code.beta == pytest.approx(0.3 / 0.2)
    assert code._replace(variance=0.15).beta == pytest.approx(1)


def test_the_same_code_has_another_beta_on_larger_images():
    assert [code.beta for code in LARGER.values()] == pytest.approx([0.196, 3.072, 49.152])
