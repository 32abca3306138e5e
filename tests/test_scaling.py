"""A table in the model's units: the change of variables, its gradients, files, and the command."""

import json
from copy import copy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from numpy_vae import VAE, Dataset, Run, Scaling, evaluate_elbo, fit
from numpy_vae.__main__ import main
from numpy_vae.gradcheck.model import check_model
from numpy_vae.training.evaluate import encode_images, evaluate_likelihood
from numpy_vae.training.loop import start_output_bias

MEAN, SCALE = np.array([1e6, -3.0, 0.0]), np.array([2e3, 1e-4, 7.0])
D, Z = 3, 2


@pytest.fixture
def rows(rng):
    return MEAN + SCALE * rng.standard_normal((40, D))


def linear(rows, likelihood="learned_gaussian", dtype=np.float64, **settings):
    scaling = Scaling.of(rows)
    return VAE(D, (), Z, likelihood=likelihood, dtype=dtype, rng=0, scaling=scaling, **settings)


@pytest.mark.mathematics
def test_the_mean_and_the_scale_are_those_of_the_rows(rows):
    rows = np.column_stack([rows, np.full(len(rows), 0.1)])
    scaling = Scaling.of(rows)
    np.testing.assert_allclose(scaling.mean, rows.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(scaling.scale[:3], rows.std(axis=0)[:3], rtol=1e-9)
    assert scaling.scale[3] == 1  # a constant column is not divided
    np.testing.assert_allclose(scaling.back(scaling.forward(rows)), rows, rtol=1e-14)


@pytest.mark.mathematics
def test_the_density_is_that_of_the_data(rows):
    vae = linear(rows)
    vae.params.flat[:] = np.random.default_rng(1).normal(size=vae.params.flat.size)
    trace = vae.forward(rows, np.zeros((len(rows), Z)))
    nll, _ = vae.loss(trace)
    mean = vae.reconstruct(rows)  # in the units of the data
    std = np.exp(vae.likelihood.logvar / 2) * vae.scaling.scale
    np.testing.assert_allclose(nll, -stats.norm(mean, std).logpdf(rows).sum(axis=1), rtol=1e-9)


@pytest.mark.mathematics
def test_every_number_of_an_evaluation_moves_by_the_volume(rows):
    vae = linear(rows)
    plain = VAE(D, (), Z, likelihood="learned_gaussian", params=vae.params)
    volume = vae.scaling.log_volume
    x = vae.scaling.forward(rows)
    mine, theirs = (evaluate_elbo(v, y, rng=3) for v, y in [(vae, rows), (plain, x)])
    assert mine.elbo == pytest.approx(theirs.elbo - volume, rel=1e-12)
    of_rows, of_x = (
        evaluate_likelihood(v, y, samples=5, rng=3) for v, y in [(vae, rows), (plain, x)]
    )
    moved = of_x.log_likelihoods - volume
    np.testing.assert_allclose(of_rows.log_likelihoods, moved, rtol=1e-9)
    np.testing.assert_allclose(vae.encode(rows)[0], plain.encode(x)[0])
    np.testing.assert_allclose(
        vae.sample(4, rng=0), vae.scaling.back(plain.sample(4, rng=0)), rtol=1e-12
    )


@pytest.mark.gradient
def test_every_gradient_of_a_scaled_model(rows):
    scaling = Scaling([0.5, -1.0, 2.0], [0.3, 2.0, 1.5])
    vae = VAE(D, (), Z, "tanh", "learned_gaussian", np.float64, 0, scaling=scaling)
    for _, term, method, report in check_model(vae, 0.3, max_entries=4):
        assert report.ok, f"{term}, {method}\n{report}"
        assert "x" in {row.name for row in report}


@pytest.mark.purity
def test_float32_keeps_the_digits_of_a_time_stamp(rng):
    rows = 1.7e9 + rng.standard_normal((50, D))  # in float32 all would be equal
    vae = linear(rows, dtype=np.float32)
    trace = vae.forward(rows, np.zeros((50, Z), np.float32))
    assert trace.x.dtype == np.float32
    np.testing.assert_allclose(trace.x.std(axis=0), 1, rtol=1e-5)
    for mu in vae.encode(rows)[0], encode_images(vae, rows)[0]:
        assert np.ptp(mu, axis=0).min() > 0.1
    assert np.abs(vae.reconstruct(rows) - rows).max() < 10
    record = fit(vae, Dataset("times", rows[:40], rows[40:]), epochs=1)[-1]
    assert abs(record.test_elbo) < 50


@pytest.mark.mathematics
def test_the_output_bias_starts_at_the_mean_of_the_rows(rows):
    vae = linear(rows)
    start_output_bias(vae, rows)
    vae.params["output.W"][:] = 0
    np.testing.assert_allclose(vae.decode(np.zeros((1, Z)))[0], rows.mean(axis=0), rtol=1e-12)


@pytest.mark.purity
def test_copies_and_files_keep_it(rows, tmp_path):
    vae = linear(rows)
    vae.save(tmp_path / "vae.npz")
    for twin in VAE.load(tmp_path / "vae.npz"), copy(vae), vae.over(vae.params):
        np.testing.assert_array_equal(twin.reconstruct(rows), vae.reconstruct(rows))
    assert str(vae) == "3-2 relu, learned_gaussian, standardised"


def train(out, *options):
    return main([
        "train", "--data", "rows.npy", "--likelihood", "learned_gaussian", "--hidden", "none",
        "--latent", "2", "--epochs", "2", "--out", out, *options,
    ])  # fmt: skip


def test_the_command_standardises_a_table_on_its_training_rows(folder, rows, capsys):
    np.save("rows.npy", np.column_stack([rows, np.full(len(rows), 0.1)]))
    assert train("run", "--validation", "9") == 0
    said = capsys.readouterr().out
    assert "standardised" in said
    assert "constant, so not divided: column 4" in said
    run = Run.resume("run")
    assert len(run.data.train) == 40 - 6 - 9
    np.testing.assert_array_equal(run.vae.scaling.mean, Scaling.of(run.data.train).mean)
    assert json.loads(Path("run/config.json").read_text())["standardize"] is True
    assert train("other", "--no-standardize", "--epochs", "1") in (1, 2)  # it overflows


def test_images_and_bounded_likelihoods_are_not_standardised(folder, rng, capsys):
    np.save("rows.npy", rng.random((12, 5, 4)))
    assert train("run") == 0
    assert "standardised" not in capsys.readouterr().out
    assert train("other", "--likelihood", "bernoulli", "--standardize") == 2
    must = "--standardize applies to a gaussian --likelihood, not to bernoulli"
    assert must in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Scaling([0, 1], [1]), r"mean has shape \(2,\) and scale \(1,\), both must be"),
        (lambda: Scaling([0], [0]), "the smallest scale is 0, must be greater than 0"),
        (lambda: Scaling([np.nan], [1]), "not finite"),
        (lambda: Scaling.of(np.zeros((3, 2), np.uint8)), r"uint8 \(3, 2\), must be floats"),
        (lambda: Scaling.of(np.zeros((0, 2))), "at least 1"),
        (lambda: VAE(2, scaling=Scaling([0, 0], [1, 1])), "must be None with likelihood bernoulli"),
        (
            lambda: VAE(3, likelihood="gaussian", scaling=Scaling([0, 0], [1, 1])),
            r"scaling is \(2,\), must be a Scaling of 3 columns",
        ),
        (lambda: VAE(3, likelihood="gaussian", scaling=True), "scaling is True, must be a Scaling"),
    ],
)
def test_what_cannot_be_a_scaling_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
