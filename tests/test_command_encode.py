"""``numpy-vae encode``: mu and logvar of images, in their order."""

from pathlib import Path

import numpy as np
import pytest
from command_line import assert_a_full_disk_keeps, listing, refusal, train, train_with_kept

from numpy_vae import VAE, load_array, split_validation
from numpy_vae.__main__ import main
from numpy_vae.data import binarize
from numpy_vae.seeds import spawn_streams

pytestmark = pytest.mark.usefixtures("folder")


def encoded(*words, run="run"):
    assert main(["encode", run, *words, "--out", "latents.npz", "--overwrite"]) == 0
    with np.load("latents.npz") as found:
        return dict(found)


@pytest.fixture
def run(folder):
    assert train("--epochs", "2", "--binarize", "none", "--out", "run") == 0
    return VAE.load("run/checkpoint.npz")


def test_one_array_is_encoded_in_its_order(run, capsys):
    images = np.random.default_rng(2).random((2345, 4, 5))  # more than one block of them
    np.savez("mine.npz", faces=images, labels=np.arange(2345))
    found = encoded("--data", "mine.npz")
    assert set(found) == {"mu", "logvar", "labels"}
    mu, logvar = run.encode(images.reshape(-1, 20))
    np.testing.assert_allclose(found["mu"], mu, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["logvar"], logvar, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["labels"], np.arange(2345))
    assert found["mu"].dtype == np.float32
    out = capsys.readouterr().out
    assert "written: latents.npz (mu (2345, 2), logvar (2345, 2), labels (2345,))\n" in out


def test_a_file_in_two_parts_gives_two(run):
    x = np.random.default_rng(2).random((30, 20), np.float32)
    np.savez("mine.npz", x_train=x[:25], x_test=x[25:], y_test=np.arange(5))
    found = encoded("--data", "mine.npz")
    assert set(found) == {"train_mu", "train_logvar", "test_mu", "test_logvar", "test_labels"}
    np.testing.assert_allclose(found["test_mu"], run.encode(x[25:])[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["train_mu"], run.encode(x[:25])[0], rtol=1e-5, atol=1e-6)


def test_without_data_those_of_the_run_are_encoded(run):
    data = load_array("small.npy")
    found = encoded()
    assert set(found) == {"train_mu", "train_logvar", "test_mu", "test_logvar"}
    np.testing.assert_allclose(found["train_mu"], run.encode(data.train)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["test_mu"], run.encode(data.test)[0], rtol=1e-5, atol=1e-6)


def test_the_model_that_is_kept_encodes_and_labels_stay_with_their_images(folder):
    x = np.random.default_rng(0).random((60, 4, 5))
    labels = np.arange(100, 160)
    np.savez("small.npz", x_train=x[:50], y_train=labels[:50], x_test=x[50:], y_test=labels[50:])
    vae = train_with_kept("--data", "small.npz", "--binarize", "none", "--out", "run")
    found, data = encoded(), split_validation(load_array("small.npz"), 15)
    for part in "train", "test":
        mu, logvar = vae.encode(getattr(data, part))
        np.testing.assert_allclose(found[f"{part}_mu"], mu, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[f"{part}_logvar"], logvar, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found[f"{part}_labels"], getattr(data, f"{part}_labels"))


@pytest.mark.slow
def test_a_named_data_set_is_encoded(folder):
    assert main(["train", "--hidden", "5", "--latent", "2", "--epochs", "1", "--out", "run"]) == 0
    found = encoded("--data", "digits")
    assert found["train_mu"].shape == (10_000, 2) and found["test_labels"].shape == (2_000,)


def test_one_image_is_enough(run):
    np.save("one.npy", np.zeros((1, 20), np.float32))
    assert encoded("--data", "one.npy")["mu"].shape == (1, 2)


@pytest.mark.parametrize("mode", ["threshold", "static", "dynamic"])
def test_the_images_are_encoded_as_the_model_was_trained_on_them(folder, mode):
    assert train("--epochs", "1", "--binarize", mode, "--out", "run") == 0
    vae, data = VAE.load("run/checkpoint.npz"), binarize(load_array("small.npy"), mode)
    grey = np.random.default_rng(5).random((7, 20), np.float32)
    np.save("mine.npy", grey)
    found = encoded("--data", "mine.npy", "--seed", "4")
    drawn = spawn_streams(4).held_out_pixels.random((7, 20), dtype=np.float32) < grey
    expected = grey > 0.5 if mode == "threshold" else drawn
    np.testing.assert_allclose(
        found["mu"], vae.encode(expected.astype(np.float32))[0], rtol=1e-5, atol=1e-6
    )
    own = encoded()["test_mu"]
    if mode != "dynamic":
        seen = data.test / np.float32(255)
        np.testing.assert_allclose(own, vae.encode(seen)[0], rtol=1e-5, atol=1e-6)
    other = encoded("--seed", "9")["test_mu"]
    assert np.array_equal(own, other) == (mode != "dynamic")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none is not a run directory: it has no checkpoint.npz"),
        (["run", "--data", "gone.npy"], "gone.npy: No such file or directory"),
        (["run", "--data", "wide.npy"], "--data wide.npy has 30 values in a row, must have 20"),
        (["run", "--data", "high.npy"], "--data high.npy"),
        (["run", "--data", "odd.npz"], "odd.npz: holds 'a' (1,) int64, 'b' (1,) int64"),
        (["run", "--data", "text.npy"], "text.npy: cannot be read (it starts with b'"),
        (["run", "--out", "l.npy"], "--out is l.npy, must end in .npz"),
        (["run", "--out", "run/checkpoint.npz", "--overwrite"], "is part of the run, must be an"),
        (["run", "--data", "odd.npz", "--out", "odd.npz", "--overwrite"], "is the file with the"),
        (["run", "--out", "odd.npz"], "error: odd.npz: exists already; --overwrite replaces it"),
        (["run", "--data", "wide.npy", "--data-dir", "x"], "--data-dir applies to --data mnist, n"),
        (["run", "--data", ""], "argument --data: '' must not be empty"),
    ],
    ids=["missing", "gone", "width", "range", "arrays", "text", "suffix", "part", "itself",
         "exists", "data-dir", "empty"],
)  # fmt: skip
def test_encode_refuses_what_it_cannot_use_in_one_line(run, capsys, words, message):
    np.save("wide.npy", np.zeros((9, 30), np.float32))
    np.save("high.npy", np.full((9, 20), 7.0, np.float32))
    np.savez("odd.npz", a=[1], b=[2], c=[3])
    Path("text.npy").write_text("hello")
    before = listing(".")
    assert message in refusal(capsys, "encode", *words)
    assert listing(".") == before


def test_a_folder_is_made_and_a_full_disk_ends_with_1(run, capsys, monkeypatch):
    assert_a_full_disk_keeps("deep/down/l.npz", "encode", capsys, monkeypatch)
