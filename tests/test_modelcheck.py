"""The check of the model itself: right at its four points, and wrong when it is made wrong."""

import math
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import pytest

from numpy_vae import VAE, bounds, gradcheck, posterior
from numpy_vae.commands.gradcheck import point_table, summary
from numpy_vae.gradcheck import model as modelcheck
from numpy_vae.gradcheck.model import (
    TERMS,
    check_model,
    clearance,
    draw,
    function_of,
    gradient_of,
    randomise,
    saturate,
    weights_of,
)
from numpy_vae.likelihood import LIKELIHOODS, Gaussian

pytestmark = pytest.mark.slow

D, HIDDEN, Z = 8, (5,), 3


def small(activation="relu", likelihood="bernoulli", hidden=HIDDEN):
    return VAE(D, hidden, Z, activation, likelihood, dtype=np.float64, rng=0)


@pytest.mark.gradient
@pytest.mark.parametrize(
    ("activation", "hidden", "likelihood"),
    [
        *(("tanh", (5,), likelihood) for likelihood in LIKELIHOODS),
        *(("relu", (6, 5), likelihood) for likelihood in ("bernoulli", "learned_gaussian")),
    ],
)
@pytest.mark.parametrize("bound", bounds.BOUNDS)
def test_the_model_is_right_at_every_point_for_every_term_by_every_method(
    activation, hidden, likelihood, bound
):
    vae = small(activation, likelihood, hidden)
    blocks = 2 * (2 * len(hidden) + 3) + len(vae.likelihood.parameters())
    blocks += 1 + vae.likelihood.differentiable_in_x  # eps and x
    checks = list(check_model(vae, 0.3, bound=bound))
    assert len(checks) == 2 * 3 * 3 + 2 * 3  # points x terms x methods
    assert {check.term for check in checks} == set(TERMS[bound])
    for point, term, method, report in checks:
        where = f"{point}, {term}, {method}\n{report}"
        assert report.ok, where
        assert len(report.rows) == blocks, where
        for row in report:
            if method == "complex":
                assert row.error <= 1e-12, where
            elif method == "taylor":
                assert row.order >= 1.95, where


@pytest.mark.parametrize("seed", range(5))
def test_no_false_alarm_at_random_settings(seed):
    # benchmarks/gradcheck.py does the same for two hundred.
    rng = np.random.default_rng(seed)
    vae = VAE(
        int(rng.integers(1, 12)),
        rng.integers(1, 8, size=rng.integers(0, 4)).tolist(),
        int(rng.integers(1, 5)),
        str(rng.choice(["relu", "tanh"])),
        str(rng.choice(list(LIKELIHOODS))),
        rng=rng,
    )
    beta = float(rng.choice([0, 1, 10.0 ** rng.uniform(-2, 2)]))
    bound = str(rng.choice(list(bounds.BOUNDS)))
    for point, term, method, report in check_model(vae, beta, bound=bound, max_entries=8, rng=seed):
        where = f"{vae.settings}, {beta}, {bound}, {point}, {term}, {method}"
        assert report.ok, f"{where}\n{report}"


def points(vae, bound="elbo"):
    """Return the model and its trace at each point that the check of `vae` visits."""
    visited = modelcheck.points(vae.astype(np.float64), 1.0, bound, np.random.default_rng(0))
    return [(copy(model), model.forward(x, eps)) for _, model, x, eps in visited]


@pytest.mark.parametrize("hidden", [(), (6, 5)], ids=["linear", "deep"])
def test_the_points_are_what_they_are_called(hidden):
    vae = VAE(D, hidden, Z, dtype=np.float64, rng=0)
    (first, initial), (later, trained), (_, wide), (_, narrow) = points(vae)
    assert initial.logvar.std(axis=0).min() > 0.01  # the head is drawn, so it depends on x
    np.testing.assert_array_equal(first.params["mu.W"], vae.params["mu.W"])
    assert not np.allclose(later.params["mu.W"], vae.params["mu.W"], atol=1e-3)
    assert initial.eps.ndim == 2 and trained.eps.ndim == 3  # one sample, and several
    assert 70 <= wide.logvar.min() < 71 < 79 < wide.logvar.max() <= 80
    assert -80 <= narrow.logvar.min() < -79 < -71 < narrow.logvar.max() <= -70
    for trace in wide, narrow:
        assert 9900 < trace.logits.max() <= 1e4 + 1e-6 and -1e4 - 1e-6 <= trace.logits.min() < -9900


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_importance_weights_say_something_at_every_point(activation, likelihood):
    # Where one sample has all the weight its gradient is that of one sample, whatever the others.
    visited = points(small(activation, likelihood, (6, 5)), "iwae")
    for vae, trace in visited:
        assert trace.eps.shape == (3, 4, Z)
        terms = vae.terms(trace)
        log_w = bounds.log_weights(terms)
        assert np.abs(log_w).max() < 1000  # so that a weight is known to 1e-13
        v = bounds.iwae_loss_backward(terms, 1.0).reconstruction * 4
        assert (np.sort(v, axis=0)[1] > 0.02).sum() >= 2 and v.std(axis=0).min() > 1e-3
    for (_, trace), sign in zip(visited[2:], (1, -1), strict=True):
        assert (sign * trace.logvar).min() >= 70 and (sign * trace.logvar).max() <= 80
        assert np.abs(trace.z).max() < 10
        if small(likelihood=likelihood).likelihood.support == (0, 1):
            assert 35 < trace.logits.max() <= 40 and -40 <= trace.logits.min() < -35


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_importance_weights_say_something_in_a_wide_model(likelihood):
    # Hundreds of pixels, each of which tells the samples apart: without a bound on what they say
    # together one sample has all the weight.
    vae = VAE(400, (30,), Z, likelihood=likelihood, dtype=np.float64, rng=0)
    for _, trace in points(vae, "iwae")[2:]:
        terms = vae.terms(trace)
        reconstruction = vae.likelihood.nll(trace.x, trace.logits)
        assert np.ptp(reconstruction, axis=0).max() < 3 and terms.log_ratio.shape == (3, 4)


def test_images_and_noise_are_drawn_off_the_kinks(rng):
    vae = VAE(20, (30,), 3, dtype=np.float64, rng=rng)
    randomise(vae, rng)
    for _ in range(50):
        assert clearance(vae, *draw(vae, (4, 3), rng)) > modelcheck.CLEARANCE


def test_the_weights_of_the_examples_differ_and_one_term_has_none():
    for term, k in ("reconstruction", 0), ("KL", 1), ("log ratio", 2):
        weights = weights_of(term, (2, 4))
        assert [w.shape for w in weights] == [(2, 4), (4,), (2, 4)]
        assert np.unique(weights[k]).size == weights[k].size
        assert not any(weights[other].any() for other in range(3) if other != k)


def test_the_model_that_is_checked_is_not_written_to():
    vae = VAE(D, HIDDEN, Z, rng=0)  # float32
    before = vae.params.flat.copy()
    next(check_model(vae))
    np.testing.assert_array_equal(vae.params.flat, before)
    assert vae.params.dtype == np.float32


def test_a_wrong_term_fails_alone_and_together_at_every_point_by_every_method(monkeypatch):
    right = posterior.kl_backward
    monkeypatch.setattr(
        posterior, "kl_backward", lambda *args: (right(*args)[0], 1.001 * right(*args)[1])
    )
    checks = list(check_model(small()))
    for check in checks:
        assert check.report.ok == (check.term == "reconstruction"), f"{check}"
        if not check.report.ok:
            failed = {row.name for row in check.report if not row.ok}
            assert {"logvar.W", "logvar.b"} <= failed
            assert not failed & {"mu.W", "mu.b", "output.W", "eps"}
    table = point_table(checks[:9])
    assert max(map(len, table.splitlines())) <= 80
    assert table.split()[:4] == ["initial", "reconstruction", "KL", "objective"]
    assert sum(line.endswith(" FAIL") for line in table.splitlines()) >= 2
    below = table[table.index("initial, KL, central:\n") :].splitlines()
    assert "analytic" in below[1] and any(line.startswith("FAIL  logvar.W[") for line in below)


def test_a_wrong_log_ratio_fails_alone_and_together_at_every_point(monkeypatch):
    right = posterior.log_ratio_backward

    def wrong(*args):
        dmu, dlogvar, deps = right(*args)
        return dmu, 1.001 * dlogvar, deps

    monkeypatch.setattr(posterior, "log_ratio_backward", wrong)
    checks = list(check_model(small(hidden=()), bound="iwae", max_entries=6))
    for check in checks:
        assert check.report.ok == (check.term == "reconstruction"), f"{check}"
    assert all(c.report.ok for c in check_model(small(hidden=()), max_entries=6))  # not the ELBO


def test_a_wrong_weight_of_a_sample_fails_in_the_objective_alone(monkeypatch):
    def equal(terms, beta):
        dnll = np.full_like(terms.reconstruction, 1 / terms.reconstruction.size)
        return bounds.Terms(dnll, np.zeros_like(terms.kl), beta * dnll)

    broken = bounds.BOUNDS["iwae"]._replace(backward=equal)
    monkeypatch.setitem(bounds.BOUNDS, "iwae", broken)
    for check in check_model(small(hidden=()), bound="iwae", max_entries=6):
        assert check.report.ok == (check.term != "objective"), f"{check}"


@pytest.mark.parametrize("bound", bounds.BOUNDS)
def test_the_objective_that_is_checked_is_the_bound(rng, bound):
    vae = small()
    randomise(vae, rng)
    x, eps = draw(vae, (3, 4, Z), rng)
    terms = vae.terms(vae.forward(x, eps))
    found = function_of(vae, "objective", 0.3, bound)({**vae.params, "x": x, "eps": eps})
    assert found == bounds.BOUNDS[bound].forward(terms, 0.3)
    both = [gradient_of(vae, x, eps, "objective", 0.3, name)["mu.W"] for name in bounds.BOUNDS]
    assert not np.allclose(*both)


def test_a_bound_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="bound is 'vimco', must be one of elbo, iwae"):
        next(check_model(small(), bound="vimco"))


@pytest.mark.parametrize("bound", bounds.BOUNDS)
def test_the_table_has_eighty_columns_and_a_row_for_each_block(bound):
    checks = list(check_model(small(likelihood="learned_gaussian"), bound=bound, max_entries=4))
    widest = [  # the names and shapes of 784-400-20 and its like
        check._replace(
            report=replace(
                check.report,
                rows=tuple(
                    row if row.name.startswith("likelihood") else replace(row, shape=(784, 400))
                    for row in check.report
                ),
            )
        )
        for check in checks
    ]
    for first, last in ((0, 9), (9, 18), (18, 21), (21, 24)):
        lines = point_table(widest[first:last]).splitlines()
        assert max(map(len, lines)) <= 80 and len(lines) == 2 + 13
        assert all(line.endswith(" ok") for line in lines[2:])
    assert summary(checks).startswith("worst error: central ")


def test_kinks_are_named_below_the_table():
    checks = list(islice(check_model(small(), max_entries=1), 9))
    first, *others = checks[0].report.rows
    rows = (replace(first, kinks=((3, 1), (2, 0))), *others)
    checks[0] = checks[0]._replace(report=replace(checks[0].report, rows=rows))
    last = point_table(checks).splitlines()[-1]
    assert last == "initial, reconstruction, central: encoder.0.W: 2 at a kink: [3, 1], [2, 0]"


def test_a_likelihood_of_unbounded_support_is_checked_with_images_of_both_signs(rng):
    x, _ = draw(small(likelihood="gaussian"), (4, Z), rng)
    assert x.min() < 0 < x.max()
    x, _ = draw(small(), (4, Z), rng)
    assert x.min() >= 0 and x.max() <= 1


@pytest.mark.parametrize(("support", "sign"), [((3.0, math.inf), 1), ((-math.inf, 3.0), -1)])
def test_images_lie_on_their_side_of_a_support_with_one_end(rng, support, sign):
    @dataclass(frozen=True, eq=False)
    class OneSided(Gaussian):
        b: np.ndarray = field(default_factory=lambda: np.array([3.0]))
        W: np.ndarray = field(default_factory=lambda: np.array([5.0]))
        support = (0.0, 1.0)

    OneSided.support = support
    vae = small(likelihood=OneSided())
    x, _ = draw(vae, (4, Z), rng)
    assert (sign * (x - 3) >= 0).all()
    assert vae.params["likelihood.W"][0] == 5  # no weights of a layer, whatever it is called
    randomise(vae, rng)
    assert vae.params["likelihood.b"][0] == 3


def test_errors_at_either_end_of_the_log_variances_are_seen(monkeypatch):
    # Relative to an entry of e⁸⁰ nothing would be seen of the others: hence the two points.
    right = posterior.kl_backward

    def wrong_where(condition):
        def kl_backward(mu, sigma, dkl):
            dmu, dlogvar = right(mu, sigma, dkl)
            return dmu, np.where(condition(2 * np.log(sigma)), 0, dlogvar)

        monkeypatch.setattr(posterior, "kl_backward", kl_backward)
        return {c.point for c in check_model(small(hidden=()), max_entries=6) if not c.report.ok}

    assert wrong_where(lambda logvar: logvar < -50) == {"saturated, -80"}
    assert wrong_where(lambda logvar: (logvar > 50) & (logvar < 75)) == {"saturated, +80"}


def test_one_sample_and_several_are_checked_alike(monkeypatch):
    right = posterior.sample_backward
    for ndim, point in (2, "initial"), (3, "trained"):
        monkeypatch.setattr(
            posterior,
            "sample_backward",
            lambda eps, sigma, dz, ndim=ndim: tuple(
                part * (1 + 1e-3 * (eps.ndim == ndim)) for part in right(eps, sigma, dz)
            ),
        )
        failed = {c.point for c in check_model(small(hidden=()), max_entries=6) if not c.report.ok}
        assert point in failed and ("trained" in failed) == (point == "trained")


def test_the_seed_chooses_the_entries(monkeypatch):
    looked = []

    def spy(f, gradient, arrays, *, method, max_entries, rng):
        looked.append(rng)
        return gradcheck(f, gradient, arrays, method=method, max_entries=1, rng=rng)

    monkeypatch.setattr(modelcheck, "gradcheck", spy)
    rng = np.random.default_rng(5)
    list(check_model(small(), rng=rng))
    assert all(each is rng for each in looked) and len(looked) == 24


def test_where_every_difference_drowns_the_complex_step_still_sees_an_error_of_a_billionth(rng):
    vae = small("tanh")
    x, eps = rng.random((4, D)), rng.standard_normal((2, 4, Z))
    saturate(vae, x, eps, 80.0)
    gradient = modelcheck.gradient_of(vae, x, eps, "objective", 1.0)
    f, arrays = modelcheck.function_of(vae, "objective", 1.0), {**vae.params, "x": x, "eps": eps}
    assert gradcheck(f, gradient, arrays, method="complex").ok
    gradient["output.W"] = gradient["output.W"] * (1 + 1e-9)
    report = gradcheck(f, gradient, arrays, method="complex")
    assert [row.name for row in report if not row.ok] == ["output.W"]
    assert gradcheck(f, gradient, arrays).ok  # a difference of values of e⁸⁰ sees nothing
