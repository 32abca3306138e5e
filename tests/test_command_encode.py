"""``numpy-vae encode``: mu and logvar of images, in their order."""

from pathlib import Path

import numpy as np
import pytest
from command_line import listing, train

from numpy_vae import VAE, load_array
from numpy_vae.__main__ import main
from numpy_vae.data import binarized

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


def test_one_image_is_enough(run):
    np.save("one.npy", np.zeros((1, 20), np.float32))
    assert encoded("--data", "one.npy")["mu"].shape == (1, 2)


@pytest.mark.parametrize("mode", ["threshold", "static", "dynamic"])
def test_the_images_are_encoded_as_the_model_was_trained_on_them(folder, mode):
    assert train("--epochs", "1", "--binarize", mode, "--out", "run") == 0
    vae, data = VAE.load("run/checkpoint.npz"), binarized(load_array("small.npy"), mode)
    grey = np.random.default_rng(5).random((7, 20), np.float32)
    np.save("mine.npy", grey)
    found = encoded("--data", "mine.npy", "--seed", "4")
    drawn = np.random.default_rng(4).random((7, 20), dtype=np.float32) < grey
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
        (["none"], "none is no run, must be a directory with checkpoint.npz"),
        (["run", "--data", "gone.npy"], "gone.npy: No such file or directory"),
        (["run", "--data", "wide.npy"], "images have 30 pixels, must have 20"),
        (["run", "--data", "high.npy"], "--data high.npy"),
        (["run", "--data", "odd.npz"], "odd.npz: holds arrays named ['a', 'b', 'c'], must be x_tr"),
        (["run", "--data", "text.npy"], "text.npy: neither a .npy nor a .npz file"),
        (["run", "--out", "l.npy"], "--out is l.npy, must end in .npz"),
        (["run", "--out", "odd.npz"], "--out odd.npz exists already; --overwrite replaces it"),
        (["run", "--data", "wide.npy", "--data-dir", "x"], "--data-dir applies to the data of a"),
        (["run", "--data", ""], "argument --data: '' must not be empty"),
    ],
    ids=["missing", "gone", "width", "range", "arrays", "text", "suffix", "exists", "data-dir",
         "empty"],
)  # fmt: skip
def test_encode_refuses_what_it_cannot_use_in_one_line(run, capsys, words, message):
    np.save("wide.npy", np.zeros((9, 30), np.float32))
    np.save("high.npy", np.full((9, 20), 7.0, np.float32))
    np.savez("odd.npz", a=[1], b=[2], c=[3])
    Path("text.npy").write_text("hello")
    before = listing(".")
    capsys.readouterr()
    try:
        status = main(["encode", *words])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last.startswith("numpy-vae encode: error: ") and message in last
    assert listing(".") == before


def test_a_folder_that_cannot_be_written_ends_with_1(run, capsys):
    capsys.readouterr()
    assert main(["encode", "run", "--out", "nowhere/l.npz"]) == 1
    error = capsys.readouterr().err
    assert error == "numpy-vae encode: error: nowhere/l.npz: No such file or directory\n"
