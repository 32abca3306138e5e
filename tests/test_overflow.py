"""What is said of numbers that overflow: the cause, and a remedy that works. Arrays for `fit`."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import refusal

from numpy_vae import VAE, Dataset, Poisson, Run, Scaling, fit
from numpy_vae.__main__ import main
from numpy_vae.training.overflow import check_start, large_values, remedy

WORDS = ["train", "--data", "x.npy", "--hidden", "8", "--latent", "2", "--epochs", "3"]


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.standard_normal((60, 3)) @ rng.standard_normal((3, 6))


def gaussian(**settings):
    return VAE(6, (8,), 2, likelihood="learned_gaussian", rng=0, **settings)


def test_a_hopeless_start_is_refused_and_its_remedy_works(folder, rows, capsys):
    np.save("x.npy", rows * [1, 1, 1e6, 1, 1, 1])
    words = [*WORDS, "--likelihood", "gaussian"]
    error = refusal(capsys, *words, "--out", "a")
    assert "nats per value, must be less than 1000: values of 1" in error
    assert "in 'column 3'; --standardize (scaling=Scaling.of(x)) brings" in error
    assert main([*words, "--standardize", "--out", "b"]) == 0
    with pytest.raises(ValueError, match="nats per value"):
        fit(gaussian(), np.load("x.npy"), epochs=1)
    x = np.load("x.npy")
    assert len(fit(gaussian(scaling=Scaling.of(x)), x, epochs=1)) == 1


def test_counts_in_the_thousands(folder, capsys):
    np.save("x.npy", np.random.default_rng(0).poisson(1e6, (60, 6)))
    error = refusal(capsys, *WORDS, "--likelihood", "poisson", "--out", "a")
    assert "--likelihood diagonal_gaussian standardises the columns" in error
    assert main([*WORDS, "--likelihood", "diagonal_gaussian", "--out", "b"]) == 0


def test_a_step_that_was_too_large_goes_on_with_a_smaller_one(folder, capsys):
    np.save("x.npy", np.random.default_rng(0).poisson(3, (60, 6)))
    words = [*WORDS, "--likelihood", "poisson", "--batch-size", "5", "--out", "run"]
    assert main([*words, "--lr", "1"]) == 1
    error = capsys.readouterr().err
    assert "a step was too large; the run is saved as of epoch" in error
    advice = error.split("continue with: numpy-vae ")[1].split()
    assert advice[:3] == ["train", "--resume", "run"] and advice[3:] == ["--lr", "0.1"]
    done = len(Run.resume("run").history)
    assert main([*advice[:4], "1e-4", "--epochs", str(done + 2)]) == 0
    assert json.loads(Path("run/config.json").read_text())["lr"] == 1e-4
    assert Run.resume("run").state.adam.lr == 1e-4


def test_values_near_1_are_no_cause_and_outliers_are_named(rows):
    assert large_values(gaussian(), Dataset("x", rows, rows)) == ""
    check_start(gaussian(), Dataset("x", rows, rows))
    x = np.vstack([rows] * 50)
    x[7, 4] = 1e9
    vae = gaussian(scaling=Scaling(np.zeros(6), np.ones(6)))
    data = Dataset("x", x[:900], x, columns=("a", "b", "c", "d", "e", "f"))
    assert large_values(vae, data) == "values of 1e+09 in 'e'"
    assert remedy(vae) == "remove the rows with outliers"
    assert "diagonal_gaussian" in remedy(VAE(6, likelihood=Poisson()))


# Arrays, and Ctrl-C -------------------------------------------------------------------------------


def test_fit_takes_an_array_and_trains_on_all_of_it(rows):
    one, two = gaussian(), gaussian()
    history = fit(one, rows, epochs=2, rng=3)
    fit(two, Dataset("x", rows, rows[:9]), epochs=2, rng=3)
    np.testing.assert_array_equal(one.params.flat, two.params.flat)
    assert [record.test_elbo for record in history] == [None, None]
    assert np.isfinite(history[-1].train_elbo)


@pytest.mark.parametrize(
    "x", [np.zeros((9, 2, 3)), np.zeros(6), np.zeros((0, 6)), np.zeros((9, 6), int)]
)
def test_other_arrays_are_refused_in_words(x):
    with pytest.raises(ValueError, match=r"^the training images are .* must be uint8 or floats"):
        fit(gaussian(), x)
    if x.ndim == 2:
        with pytest.raises(ValueError, match=r"^the test images are .*dataset_from_array reads"):
            fit(gaussian(), Dataset("x", np.zeros((9, 6)), x))


def test_ctrl_c_in_fit_returns_the_whole_epochs(rows):
    def stop(event):
        if getattr(event, "batch", None) == 1 and event.epoch == 3:
            raise KeyboardInterrupt

    assert [r.epoch for r in fit(gaussian(), rows, epochs=9, report=stop)] == [1, 2]


def test_a_folder_without_a_run_is_not_a_model(tmp_path):
    with pytest.raises(ValueError, match=r"has no checkpoint\.npz, must be a run directory or a"):
        VAE.load(tmp_path)
