"""The check of the model itself: right at its four points, and wrong when it is made wrong."""

from copy import copy
from dataclasses import replace

import numpy as np
import pytest

from numpy_vae import VAE, gradcheck, modelcheck, posterior
from numpy_vae.likelihood import LIKELIHOODS
from numpy_vae.modelcheck import (
    check_model,
    clearance,
    draw,
    point_table,
    randomise,
    saturate,
    summary,
    weights_of,
)

D, HIDDEN, Z = 8, (6, 5), 3


def small(activation="relu", likelihood="bernoulli", seed=0):
    return VAE(D, HIDDEN, Z, activation, likelihood, dtype=np.float64, rng=seed)


@pytest.mark.gradient
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_model_is_right_at_every_point_for_every_term_by_every_method(
    activation, likelihood, beta
):
    checks = list(check_model(small(activation, likelihood), beta))
    assert len(checks) == 2 * 3 * 3 + 2 * 3  # points x terms x methods
    for point, term, method, report in checks:
        where = f"{point}, {term}, {method}\n{report}"
        assert report.ok, where
        assert len(report.rows) == 2 * (2 * len(HIDDEN) + 3) + 2, (
            where
        )  # two blocks a layer, x, eps
        for row in report:
            if method == "complex":
                assert row.error <= 1e-12, where
            elif method == "taylor":
                assert row.order >= 1.95, where


@pytest.mark.parametrize("seed", range(8))
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
    for point, term, method, report in check_model(vae, beta, max_entries=8, rng=seed):
        assert report.ok, f"{vae.settings}, {beta}, {point}, {term}, {method}\n{report}"


def points(monkeypatch, vae):
    """Return the model and its trace at each point that the check of `vae` visits."""
    seen = []

    def spy(point, model, x, eps, beta, max_entries, rng):
        seen.append((copy(model), model.forward(x, eps)))
        return iter(())

    monkeypatch.setattr(modelcheck, "_check_point", spy)
    list(check_model(vae))
    return seen


@pytest.mark.parametrize("hidden", [(), (6, 5)], ids=["linear", "deep"])
def test_the_points_are_what_they_are_called(monkeypatch, hidden):
    vae = VAE(D, hidden, Z, dtype=np.float64, rng=0)
    (first, initial), (later, trained), (_, wide), (_, narrow) = points(monkeypatch, vae)
    assert initial.logvar.std(axis=0).min() > 0.01  # the head is drawn, so it depends on x
    np.testing.assert_array_equal(first.params["mu.W"], vae.params["mu.W"])
    assert not np.allclose(later.params["mu.W"], vae.params["mu.W"], atol=1e-3)
    assert initial.eps.ndim == 2 and trained.eps.ndim == 3  # one sample, and several
    assert 70 <= wide.logvar.min() < 71 < 79 < wide.logvar.max() <= 80
    assert -80 <= narrow.logvar.min() < -79 < -71 < narrow.logvar.max() <= -70
    for trace in wide, narrow:
        assert 9900 < trace.logits.max() <= 1e4 + 1e-6 and -1e4 - 1e-6 <= trace.logits.min() < -9900


def test_images_and_noise_are_drawn_off_the_kinks(rng):
    vae = VAE(20, (30,), 3, dtype=np.float64, rng=rng)
    randomise(vae, rng)
    for _ in range(50):
        assert clearance(vae, *draw(vae, (4, 3), rng)) > modelcheck.CLEARANCE


def test_the_weights_of_the_examples_differ_and_one_term_has_none():
    for term, k in ("reconstruction", 0), ("kl", 1):
        weights = weights_of(term, (2, 4))
        assert [w.shape for w in weights] == [(2, 4), (4,)]
        assert np.unique(weights[k]).size == weights[k].size and not weights[1 - k].any()


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
    assert sum(line.endswith(" FAIL") for line in table.splitlines()) >= 2
    below = table[table.index("initial, KL, central:\n") :].splitlines()
    assert "analytic" in below[1] and any(line.startswith("FAIL  logvar.W[") for line in below)


def test_the_table_has_eighty_columns_and_a_row_for_each_block():
    checks = list(check_model(small(), max_entries=4))
    widest = [  # the names and shapes of 784-400-20 and its like
        check._replace(
            report=replace(
                check.report,
                rows=tuple(replace(row, shape=(784, 400)) for row in check.report),
            )
        )
        for check in checks
    ]
    for first, last in ((0, 9), (9, 18), (18, 21), (21, 24)):
        lines = point_table(widest[first:last]).splitlines()
        assert max(map(len, lines)) <= 80 and len(lines) == 2 + 16
        assert all(line.endswith(" ok") for line in lines[2:])
    assert summary(checks).startswith("worst error: central ")


def test_kinks_are_named_below_the_table():
    checks = list(check_model(small(), max_entries=1))[:9]
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


def test_errors_at_either_end_of_the_log_variances_are_seen(monkeypatch):
    # Relative to an entry of e⁸⁰ nothing would be seen of the others: hence the two points.
    right = posterior.kl_backward

    def wrong_where(condition):
        def kl_backward(mu, sigma, dkl):
            dmu, dlogvar = right(mu, sigma, dkl)
            return dmu, np.where(condition(2 * np.log(sigma)), 0, dlogvar)

        monkeypatch.setattr(posterior, "kl_backward", kl_backward)
        return {c.point for c in check_model(small(), max_entries=6) if not c.report.ok}

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
        failed = {c.point for c in check_model(small(), max_entries=6) if not c.report.ok}
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
