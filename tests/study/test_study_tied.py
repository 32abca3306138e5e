"""The study of log sigma = mu: its model has a right gradient, and its claims can be false."""

import numpy as np
import pytest

from numpy_vae.evaluate import Elbo
from numpy_vae.modelcheck import check_model
from numpy_vae.study.tied import CLAIMS, Found, Run, Tied, angle_of_the_heads

SABOTAGE = [
    (1, "study/tied", '("tied", Tied)', '("tied", VAE)'),
    (2, "study/tied", 'models["free"].encode', 'models["tied"].encode'),
    (3, "study/tied", 'grads["logvar.W"].ravel()', 'grads["mu.W"].ravel()'),
    (4, "study/tied", 'tied_mu = models["tied"]', 'tied_mu = models["free"]'),
]


def found(free=-100.0, tied=-110.0, correlations=(0.1, -0.5), angles=(80.0, 100.0), tied_mu=-1.0):
    """Return what the experiment could have found."""
    runs = [
        Run(model, seed, Elbo(elbo, 0.0, 0.0), 2)
        for seed in (0, 1)
        for model, elbo in (("free", free), ("tied", tied))
    ]
    mu = np.zeros((4, 2))
    return Found(np.array(angles), runs, mu, mu, mu + tied_mu, np.array(correlations))


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert all(claim.holds(found()) for claim in CLAIMS)


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        (1, {"tied": -101.0}),
        (1, {"tied": -90.0}),
        (2, {"correlations": (0.1, 0.95)}),
        (2, {"correlations": (0.1, -0.95)}),
        (2, {"correlations": ()}),
        (3, {"angles": (80.0, 10.0)}),
        (3, {"angles": (170.0, 80.0)}),
        (4, {"tied_mu": 0.0}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert [claim.holds(found(**numbers)) for claim in CLAIMS].index(False) == number - 1


@pytest.mark.gradient
def test_the_gradient_of_the_tied_model_is_that_of_its_objective(rng):
    checks = list(check_model(Tied(11, (6,), 3, "tanh", rng=rng)))
    assert checks and all(check.report.ok for check in checks)


def test_the_tied_model_has_log_sigma_equal_to_mu(rng):
    vae = Tied(11, (6,), 3, rng=rng)
    trace = vae.forward(rng.random((5, 11)), rng.standard_normal((5, 3)))
    np.testing.assert_allclose(np.log(trace.sigma), trace.mu, rtol=1e-5, atol=1e-7)
