"""``numpy-vae evaluate``: what it prints, and its exit status."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import change_settings, train

from numpy_vae import VAE, evaluate_likelihood, load_array
from numpy_vae.__main__ import main
from numpy_vae.data import split_validation
from numpy_vae.runs.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def run(folder):
    """Train a run with a validation set on 60 images."""
    assert train("--epochs", "2", "--validation", "12", "--out", "run") == 0
    return folder / "run"


def evaluated(capsys, *words):
    capsys.readouterr()
    assert main(["evaluate", "run", "--samples", "30", "--json", *words]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_evaluate_prints_what_the_library_finds(run, capsys):
    result = evaluated(capsys, "--seed", "4")
    data = load_array("small.npy")
    vae = VAE.load(run / "checkpoint.npz")
    found = evaluate_likelihood(vae, data.test, samples=30, draw=True, rng=4)
    expected = found.summary()
    assert {name: result[name] for name in expected} == expected
    assert result["elbo"] == pytest.approx(-(result["reconstruction"] + result["kl"]))
    assert result["log_likelihood"] > result["elbo"] and result["log_likelihood_se"] > 0
    assert len(result["kl_per_dimension"]) == 2 and result["images"] == 10
    assert (result["binarize"], result["seed"], result["on"]) == ("dynamic", 4, "test")
    again = evaluated(capsys, "--seed", "4")
    assert {**again, "seconds": 0} == {**result, "seconds": 0}
    assert evaluated(capsys, "--seed", "5")["log_likelihood"] != result["log_likelihood"]


def test_evaluate_says_it_in_words(run, capsys):
    result = evaluated(capsys)
    assert main(["evaluate", "run", "--samples", "30"]) == 0
    out = capsys.readouterr().out
    assert "run: small, binarize dynamic; 20-7-2 relu, bernoulli; 10 test images, 30 samples" in out
    assert f"log p(x)        {result['log_likelihood']:9.3f}  (standard error " in out
    assert f"active units    {result['active_units']:5d} of 2" in out and "cross-entropy" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_evaluate_takes_some_images_or_the_validation_set(run, capsys):
    some = evaluated(capsys, "--images", "4")
    assert some["images"] == 4 and some == {
        **evaluated(capsys, "--images", "4"),
        "seconds": some["seconds"],
    }
    other = evaluated(capsys, "--on", "validation")
    assert other["images"] == 12 and other["on"] == "validation"
    data = split_validation(load_array("small.npy"), 12)
    vae = VAE.load(run / "checkpoint.npz")
    found = evaluate_likelihood(vae, data.validation, samples=30, draw=True, rng=0)
    assert other["log_likelihood"] == found.summary()["log_likelihood"]


def test_evaluate_of_one_image_knows_no_standard_error(run, capsys):
    result = evaluated(capsys, "--images", "1")
    assert result["log_likelihood_se"] is None and result["active_units"] is None
    assert main(["evaluate", "run", "--samples", "5", "--images", "1"]) == 0
    out = capsys.readouterr().out
    assert "standard error" not in out and "active units    unknown of 2" in out


def test_evaluate_says_that_a_cross_entropy_is_no_likelihood(folder, capsys):
    assert train("--epochs", "1", "--binarize", "none", "--out", "run") == 0
    assert evaluated(capsys)["cross_entropy"] is True
    assert main(["evaluate", "run", "--samples", "5"]) == 0
    assert "grey pixels: log p(x) is computed from a cross-entropy" in capsys.readouterr().out
    train("--epochs", "1", "--binarize", "none", "--likelihood", "gaussian", "--out", "gaussian")
    capsys.readouterr()
    assert main(["evaluate", "gaussian", "--samples", "5"]) == 0
    assert "cross-entropy" not in capsys.readouterr().out


def test_evaluate_finds_data_that_have_moved(run, capsys):
    before = evaluated(capsys)
    Path("small.npy").rename("elsewhere.npy")
    after = evaluated(capsys, "--data", "elsewhere.npy")
    assert after["log_likelihood"] == before["log_likelihood"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none is not a run directory: it has no checkpoint.npz"),
        (["run", "--images", "11"], "--images is 11, must be a whole number from 1 to 10"),
        (["run", "--data-dir", "x"], "--data-dir applies to --data mnist, not to --data /"),
        (
            ["plain", "--on", "validation"],
            "--on validation: plain was trained without --validation",
        ),
        (["moved"], "the run was trained on gone.npy, which does not exist: if it has moved,"),
        (["torn"], "torn/checkpoint.npz"),
    ],
    ids=["missing", "images", "data-dir", "validation", "data", "checkpoint"],
)
def test_evaluate_refuses_what_it_cannot_use_in_one_line(run, folder, capsys, words, message):
    assert train("--epochs", "1", "--out", "plain") == 0
    shutil.copytree(run, folder / "moved")
    change_settings("moved", data="gone.npy")
    shutil.copytree(run, folder / "torn")
    (folder / "torn/checkpoint.npz").write_bytes(b"PK\3\4")
    capsys.readouterr()
    assert main(["evaluate", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert error.startswith("numpy-vae evaluate: error: ")


def test_evaluate_of_a_model_that_overflows_ends_with_1(run, capsys):
    found = load_checkpoint(run / "checkpoint.npz")
    found.kept.params["logvar.b"][:] = 1e4
    save_checkpoint(run / "checkpoint.npz", found)
    capsys.readouterr()
    assert main(["evaluate", "run", "--samples", "5", "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("numpy-vae evaluate: error: the model of run overflows: ")


def test_a_model_that_is_not_finite_is_refused(run, capsys):
    found = load_checkpoint(run / "checkpoint.npz")
    found.kept.params["output.b"][:] = np.nan
    save_checkpoint(run / "checkpoint.npz", found)
    capsys.readouterr()
    assert main(["evaluate", "run", "--samples", "5", "--json"]) == 2
    assert "not a checkpoint (best holds values that no training leaves)" in capsys.readouterr().err
