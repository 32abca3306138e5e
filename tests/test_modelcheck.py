"""The check of the model itself: right at its three points, and wrong when it is made wrong."""

from dataclasses import replace

import numpy as np
import pytest

from numpy_vae import VAE, gradcheck, modelcheck, posterior
from numpy_vae.likelihood import LIKELIHOODS, Bernoulli
from numpy_vae.modelcheck import check_model, point_table, saturate, summary
from numpy_vae.vae import Trace

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
    assert len(checks) == 3 * 3 + 3 * 3 + 3  # terms x methods at two points, terms at the third
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


@pytest.mark.parametrize("seed", range(12))
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
    """Return the trace at each point that the check of `vae` visits."""
    traces = {}

    def spy(model, x, eps, term, beta):
        traces.setdefault(len(traces), model.forward(x, eps))
        return {**model.backward(traces[len(traces) - 1])}

    monkeypatch.setattr(modelcheck, "gradient_of", spy)
    monkeypatch.setattr(modelcheck, "TERMS", ("objective",))
    monkeypatch.setattr(modelcheck, "gradcheck", lambda *args, **kwargs: None)
    list(check_model(vae))
    return list(traces.values())


@pytest.mark.parametrize("hidden", [(), (6, 5)], ids=["linear", "deep"])
def test_the_three_points_are_what_they_are_called(monkeypatch, hidden):
    vae = VAE(D, hidden, Z, dtype=np.float64, rng=0)
    initial, trained, saturated = points(monkeypatch, vae)
    assert all(isinstance(trace, Trace) for trace in (initial, trained, saturated))
    assert initial.logvar.std(axis=0).min() > 0.01  # the head is drawn, so it depends on x
    assert not np.allclose(trained.logits, initial.logits)
    assert 79 < np.abs(saturated.logvar).max() <= 80 and saturated.logvar.min() < -78
    assert 9900 < np.abs(saturated.logits).max() <= 1e4 + 1e-6 and saturated.logits.min() < -9900


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
        assert check.report.ok == (check.term == "reconstruction"), check
        if not check.report.ok:
            failed = {row.name for row in check.report if not row.ok}
            assert {"logvar.W", "logvar.b"} <= failed
            assert not failed & {"mu.W", "mu.b", "output.W", "eps"}
    table = point_table(checks[:9])
    assert max(map(len, table.splitlines())) <= 80
    assert sum(line.endswith(" FAIL") for line in table.splitlines()) >= 2
    assert "initial, KL:\nFAIL  logvar.W[" in table  # with both of its values


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
    for first, last in ((0, 9), (9, 18), (18, 21)):
        lines = point_table(widest[first:last]).splitlines()
        assert max(map(len, lines)) <= 80 and len(lines) == 2 + 16
        assert all(line.endswith(" ok") for line in lines[2:])
    assert summary(checks).startswith("largest error: central ")


def test_a_likelihood_of_unbounded_support_is_checked_with_images_of_both_signs(monkeypatch):
    initial, *_ = points(monkeypatch, small(likelihood="gaussian"))
    assert initial.x.min() < 0 < initial.x.max()
    initial, *_ = points(monkeypatch, small(likelihood=Bernoulli()))
    assert initial.x.min() >= 0 and initial.x.max() <= 1


def test_where_every_difference_drowns_the_complex_step_still_sees_an_error_of_a_billionth(rng):
    vae = small("tanh")
    x, eps = rng.random((4, D)), rng.standard_normal((2, 4, Z))
    saturate(vae, x, eps, 1.0, rng)
    gradient = modelcheck.gradient_of(vae, x, eps, "objective", 1.0)
    f, arrays = modelcheck.function_of(vae, "objective", 1.0), {**vae.params, "x": x, "eps": eps}
    assert gradcheck(f, gradient, arrays, method="complex").ok
    gradient["output.W"] = gradient["output.W"] * (1 + 1e-9)
    report = gradcheck(f, gradient, arrays, method="complex")
    assert [row.name for row in report if not row.ok] == ["output.W"]
    assert gradcheck(f, gradient, arrays).ok  # a difference of values of e⁸⁰ sees nothing
