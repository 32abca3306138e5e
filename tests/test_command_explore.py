"""``numpy-vae explore``: the page that it writes, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from command_line import assert_a_full_disk_keeps, listing, refusal, train, train_with_kept

from numpy_vae import VAE
from numpy_vae.__main__ import main
from numpy_vae.commands import explore
from numpy_vae.runs.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("folder")
encode = VAE.encode


@pytest.fixture
def run(folder):
    assert train("--epochs", "2", "--latent", "3", "--out", "run") == 0
    return folder / "run"


@pytest.fixture
def shown(monkeypatch):
    """Return what `explorer_page` is called with, once it has been."""
    found = {}

    def spy(vae, image_shape, **rest):
        found.update(vae=vae, image_shape=image_shape, **rest)
        return explorer_page(vae, image_shape, **rest)

    explorer_page = explore.explorer_page
    monkeypatch.setattr(explore, "explorer_page", spy)
    return found


def test_the_page_is_of_the_model_and_its_training_images(run, shown, capsys):
    assert main(["explore", "run"]) == 0
    page = (run / "explorer.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("written: run/explorer.html (0.")
    kept = load_checkpoint("run/checkpoint.npz").kept
    np.testing.assert_array_equal(shown["vae"].params.flat, kept.params.flat)
    assert shown["mu"].shape == (50, 3) and shown["labels"] is None
    assert (shown["image_shape"], shown["name"]) == ((4, 5), "small")
    assert shown["value_range"] == (0, 1)
    assert main(["explore", "run"]) == 0  # again: the same page
    assert (run / "explorer.html").read_text(encoding="utf-8") == page


def test_the_plane_is_that_of_the_two_most_active_dimensions(run, shown):
    path = run / "checkpoint.npz"
    found = load_checkpoint(path)
    for j, variance in enumerate([0.5, 0.01, 0.2]):  # of q: a KL of 0.1, 1.8 and 0.4 nats
        found.vae.params["logvar.b"][j] = np.log(variance)
    for block in "mu.W", "mu.b", "logvar.W":
        found.vae.params[block][:] = 0
    save_checkpoint(path, found)
    assert main(["explore", "run"]) == 0
    np.testing.assert_allclose(
        shown["kl"], [(v - 1 - np.log(v)) / 2 for v in (0.5, 0.01, 0.2)], atol=1e-3
    )
    assert shown["dimensions"] is None  # the page takes the two highest


def test_labels_go_with_their_points(folder, shown, monkeypatch):
    x = np.random.default_rng(0).random((60, 4, 5))
    np.savez("labelled.npz", x_train=x[:50], y_train=np.arange(50), x_test=x[50:])
    words = ["--hidden", "7", "--latent", "2", "--epochs", "1", "--binarize", "none"]
    assert main(["train", "--data", "labelled.npz", *words, "--out", "run"]) == 0
    assert main(["explore", "run"]) == 0
    vae = shown["vae"]
    np.testing.assert_allclose(shown["mu"], vae.encode(x[:50].reshape(50, 20))[0], atol=1e-6)
    np.testing.assert_array_equal(shown["labels"], np.arange(50))
    monkeypatch.setattr(explore, "MAX_POINTS", 7)
    assert main(["explore", "run"]) == 0
    rows = np.linspace(0, 49, 7).astype(int)
    np.testing.assert_array_equal(shown["labels"], rows)
    np.testing.assert_allclose(shown["mu"], vae.encode(x[rows].reshape(7, 20))[0], atol=1e-6)


def test_the_page_shows_the_model_that_is_kept_and_binary_images(folder, shown, monkeypatch):
    vae = train_with_kept("--latent", "3", "--out", "run")
    seen = []
    monkeypatch.setattr(VAE, "encode", lambda self, x: seen.append((self, x)) or encode(self, x))
    assert main(["explore", "run"]) == 0
    np.testing.assert_array_equal(shown["vae"].params.flat, vae.params.flat)
    [(encoder, x)] = [(encoder, x) for encoder, x in seen if len(x) > 1]  # loading checks one
    np.testing.assert_array_equal(encoder.params.flat, vae.params.flat)
    assert set(np.unique(x)) == {0, 1}  # drawn, as in training


def test_of_many_images_some_are_taken_evenly(folder, shown, monkeypatch):
    assert train("--epochs", "2", "--binarize", "none", "--out", "run") == 0
    assert main(["explore", "run"]) == 0
    everyone = shown["mu"]
    for most in 50, 49, 7:
        monkeypatch.setattr(explore, "MAX_POINTS", most)
        assert main(["explore", "run"]) == 0
        rows = np.linspace(0, 49, most).astype(int)
        assert rows[-1] == 49
        np.testing.assert_allclose(shown["mu"], everyone[rows], rtol=1e-5, atol=1e-6)


def test_without_points_the_data_are_not_needed(run, shown):
    Path("small.npy").unlink()
    assert main(["explore", "run"]) == 2
    assert main(["explore", "run", "--no-points"]) == 0
    assert shown["mu"] is shown["kl"] is shown["labels"] is None
    assert shown["image_shape"] == (4, 5) and shown["name"] == "small"


def test_dimensions_are_counted_from_1(run, shown):
    assert main(["explore", "run", "--dims", "3,1", "--out", "page.html"]) == 0
    assert shown["dimensions"] == (2, 0) and Path("page.html").stat().st_size > 1000


def test_grey_values_beyond_0_and_1_are_shown_between_their_own(folder, shown):
    np.save("small.npy", 10 * np.load("small.npy") - 3)
    assert train("--epochs", "1", "--likelihood", "gaussian", "--out", "run") == 0
    assert main(["explore", "run"]) == 0
    low, high = shown["value_range"]
    assert -3 <= low < -2.9 and 6.9 < high <= 7
    assert main(["explore", "run", "--no-points"]) == 0
    low, high = shown["value_range"]
    assert low < 0 or high > 1  # of what the model makes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none is not a run directory: it has no checkpoint.npz"),
        (["run", "--dims", "1,4"], "--dims is 1,4, must be from 1 to 3"),
        (["run", "--dims", "2,2"], "argument --dims: '2,2' must be the numbers of two latent dim"),
        (["run", "--dims", "0,1"], "argument --dims: '0,1' must be the numbers of two latent dim"),
        (["run", "--dims", "1"], "argument --dims: '1' must be the numbers of two latent dimensi"),
        (
            ["run", "--out", "page.html"],
            "error: page.html: exists already; --overwrite replaces it",
        ),
        (
            ["run", "--image-shape", "3x5"],
            "the image shape is 3x5, 15 pixels, must be a height and",
        ),
        (["run", "--data", "gone.npy"], "--data is 'gone.npy', must be digits, mnist or an exist"),
    ],
    ids=["missing", "dims", "twice", "from-0", "one", "exists", "shape", "gone"],
)
def test_explore_refuses_what_it_cannot_do_in_one_line(run, capsys, words, message):
    Path("page.html").write_text("mine")
    before = listing(".")
    assert message in refusal(capsys, "explore", *words)
    assert listing(".") == before


def test_a_folder_is_made_and_a_full_disk_ends_with_1(run, capsys, monkeypatch):
    assert_a_full_disk_keeps("deep/down/page.html", "explore", capsys, monkeypatch)
