"""Likelihoods of counts and classes before `check_model`: no derivative with respect to x."""

import math
import warnings
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest
from scipy import special, stats

from numpy_vae import VAE, Likelihood
from numpy_vae.gradcheck.model import check_model


@dataclass(frozen=True)
class Poisson(Likelihood):
    """Counts; l is the log of the rate."""

    off: float = 0.0  # a planted error
    name = "poisson"
    support = (0.0, math.inf)
    differentiable_in_x = False

    def nll(self, x, l):
        return (np.exp(l) - x * l + special.gammaln(x + 1)).sum(axis=-1)

    def nll_backward(self, x, l, dnll):
        return dnll[..., np.newaxis] * (np.exp(l) - x + self.off)

    def mean(self, l):
        return np.exp(l)

    def sample(self, l, rng):
        return rng.poisson(np.exp(l)).astype(l.dtype)


@dataclass(frozen=True)
class Classes(Poisson):
    """One of two classes, by a comparison."""

    name = "classes"
    support = (0.0, 1.0)

    def nll(self, x, l):
        return np.log1p(np.exp(np.where(x == 1, -l, l))).sum(axis=-1)

    def nll_backward(self, x, l, dnll):
        p = special.expit(l)
        return dnll[..., np.newaxis] * (p - (x == 1) + self.off)

    def sample(self, l, rng):
        return (rng.random(l.shape) < special.expit(l)).astype(l.dtype)


@dataclass(frozen=True)
class WithX(Poisson):
    """Poisson's formula over real x: gammaln has a derivative, but takes no complex numbers."""

    name = "with x"
    differentiable_in_x = True

    def nll_backward_x(self, x, l, dnll):
        return dnll[..., np.newaxis] * (special.digamma(x + 1) - l)


@dataclass(frozen=True)
class RealOnly(Classes):
    """logaddexp refuses complex numbers."""

    name = "real only"

    def nll(self, x, l):
        return np.logaddexp(0, np.where(x == 1, -l, l)).sum(axis=-1)


def model(likelihood):
    return VAE(6, (4,), 2, "tanh", likelihood, rng=0)


# At the two saturated points log p overflows where x counts: e^10000.
COUNTS = ("initial", "trained")


def checks_of(likelihood):
    with np.errstate(all="ignore"):
        for check in check_model(model(likelihood), max_entries=6):
            yield check
            if check.point == "trained" and check.term == "objective" and check.method == "taylor":
                return


@pytest.mark.parametrize("likelihood", [Poisson, Classes])
def test_a_likelihood_of_counts_or_classes_is_checked_without_its_x(likelihood):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checks = list(checks_of(likelihood()))
    assert {check.method for check in checks} == {"central", "complex", "taylor"}
    for check in checks:
        assert check.report.ok, f"{check.point}, {check.term}, {check.method}\n{check.report}"
        assert check.report.unchecked == ("x",)
    for check in islice(checks_of(likelihood(off=0.01)), 3):  # of the first term
        assert check.report.status == "wrong"


def test_where_x_takes_no_complex_numbers_the_complex_step_goes_without_it():
    for check in checks_of(WithX()):
        assert check.report.ok, f"{check.point}, {check.term}, {check.method}\n{check.report}"
        assert check.report.unchecked == (("x",) if check.method == "complex" else ())


def test_a_likelihood_of_real_numbers_alone_leaves_the_other_methods_in_place():
    with pytest.warns(UserWarning, match="no complex step, as f fails on complex arrays") as seen:
        checks = list(check_model(model(RealOnly())))
    assert {(c.point, c.method) for c in checks if c.term == "objective"} == {
        (point, method) for point in ("initial", "trained") for method in ("central", "taylor")
    }
    assert all(check.report.ok for check in checks)
    assert len(seen) == 4 * 3  # points and terms


def test_the_density_is_scipys():
    rng = np.random.default_rng(0)
    x, l = rng.poisson(2.0, (5, 6)).astype(float), rng.standard_normal((5, 6))
    expected = -stats.poisson.logpmf(x, np.exp(l)).sum(axis=-1)
    np.testing.assert_allclose(Poisson().nll(x, l), expected)


def test_a_likelihood_that_forgot_its_derivative_by_x_says_so():
    class Forgot(Poisson):
        name = "forgot"
        differentiable_in_x = True

    with pytest.raises(NotImplementedError, match="forgot has no nll_backward_x"):
        next(check_model(model(Forgot())))
