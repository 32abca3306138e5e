"""The study of log sigma = mu: its model has a right gradient, and its claims can be false."""

import numpy as np
import pytest
from claims import failing

from numpy_vae import VAE
from numpy_vae.gradcheck.model import check_model
from numpy_vae.network import Network
from numpy_vae.study.tied import (
    CLAIMS,
    TABLES,
    Found,
    Run,
    Tied,
    angle_of_the_heads,
    correlations,
)
from numpy_vae.training.evaluate import Elbo

SABOTAGE = [
    (1, "study/tied", '"tied": Tied', '"tied": Network'),
    (2, "study/tied", "correlations(mu, logvar / 2)", "correlations(tied_mu, tied_logvar / 2)"),
    (3, "study/tied", 'grads["logvar.W"].ravel()', 'grads["mu.W"].ravel()'),
    (4, "study/tied", "tied_mu, tied_logvar / 2", "tied_mu, logvar / 2"),
    (4, "study/tied", "return mu, 2 * mu", "return mu, mu"),
]


class TwiceTheSame(Network):
    """Hands the gradient of mu to both heads."""

    def heads_backward(self, h, dmu, dlogvar, grad):
        return super().heads_backward(h, dmu, dmu, grad)


class Opposite(Network):
    """Hands the opposite of it to the second."""

    def heads_backward(self, h, dmu, dlogvar, grad):
        return super().heads_backward(h, dmu, -dmu, grad)


def found(
    free=-100.0, tied=-110.0, correlations=(0.1, -0.5), angles=(80.0, 100.0), tied_mu=-1.0, off=0.0
):
    """Return what the experiment could have found."""
    runs = [
        Run(model, seed, Elbo(elbo, 0.0, 0.0), 2)
        for seed in (0, 1)
        for model, elbo in (("free", free), ("tied", tied))
    ]
    mu = np.zeros((4, 2))
    return Found(
        np.array(angles), runs, mu, mu, mu + tied_mu, mu + tied_mu + off, np.array(correlations)
    )


def test_the_claims_hold_of_numbers_that_bear_them_out():
    assert failing(CLAIMS, found()) == []


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
        (4, {"off": 0.01}),
        (4, {"tied_mu": 0.0}),
    ],
)
def test_a_claim_fails_when_it_is_false(number, numbers):
    assert failing(CLAIMS, found(**numbers)) == [number]


@pytest.mark.slow
@pytest.mark.gradient
def test_the_gradient_of_the_tied_model_is_that_of_its_objective(rng):
    checks = list(check_model(VAE(11, (6,), 3, "tanh", rng=rng, network_type=Tied)))
    assert checks and all(check.report.ok for check in checks)


def test_the_tied_model_has_log_sigma_equal_to_mu(rng):
    vae = VAE(11, (6,), 3, rng=rng, network_type=Tied)
    trace = vae.forward(rng.random((5, 11)), rng.standard_normal((5, 3)))
    np.testing.assert_allclose(np.log(trace.sigma), trace.mu, rtol=1e-5, atol=1e-7)


def test_without_an_active_dimension_there_are_tables_and_the_claim_fails():
    numbers = found(correlations=())
    _, pairs, angles = TABLES
    assert pairs.cells(numbers)[0][1:] == ["nan"] * 3
    assert [row[0] for row in angles.rows(numbers)] == [0, 1]
    assert failing(CLAIMS, numbers) == [2]


@pytest.mark.mathematics
def test_the_heads_go_together_where_they_are_made_to(rng):
    mu = rng.standard_normal((50, 3)) * [1, 1, 0.01]  # the last is not active
    log_sigma = np.stack([2 * mu[:, 0], 1 - mu[:, 1], mu[:, 2]], axis=1)
    np.testing.assert_allclose(correlations(mu, log_sigma), [1, -1], rtol=1e-12)
    assert correlations(0 * mu, log_sigma).shape == (0,)


@pytest.mark.mathematics
def test_two_heads_that_are_asked_for_the_same_have_gradients_at_an_angle_of_zero(rng):
    for network, angle in (TwiceTheSame, 0), (Opposite, 180):
        vae = VAE(11, (6,), 3, "tanh", dtype="float64", rng=rng, network_type=network)
        assert angle_of_the_heads(vae, rng.random((5, 11)), 0) == pytest.approx(angle, abs=1e-5)
