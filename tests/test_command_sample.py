"""``numpy-vae sample``: images from the prior, as arrays or as a picture."""

from pathlib import Path

import numpy as np
import pytest
from command_line import PNG, assert_a_full_disk_keeps, listing, refusal, train, train_with_kept

from numpy_vae import VAE
from numpy_vae.__main__ import main

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def run(folder):
    assert train("--epochs", "2", "--out", "run") == 0
    return folder / "run"


def test_arrays_are_what_the_model_samples(run, capsys):
    capsys.readouterr()
    assert main(["sample", "run", "-n", "9", "--seed", "3", "--out", "new.npz"]) == 0
    assert capsys.readouterr().out == "written: new.npz\n"
    vae = VAE.load(run / "checkpoint.npz")
    with np.load("new.npz") as found:
        assert set(found) == {"images", "z"} and found["images"].shape == (9, 4, 5)
        np.testing.assert_array_equal(found["images"].reshape(9, 20), vae.sample(9, rng=3))
        np.testing.assert_array_equal(vae.decode(found["z"]), found["images"].reshape(9, 20))
        assert found["z"].dtype == found["images"].dtype == np.float32


def test_many_images_are_decoded_in_blocks(run, monkeypatch):
    monkeypatch.setattr("numpy_vae.data.mapped.ROWS_AT_ONCE", 4)
    assert main(["sample", "run", "-n", "9", "--out", "new.npz"]) == 0
    with np.load("new.npz") as found:
        expected = VAE.load(run / "checkpoint.npz").decode(found["z"])
        np.testing.assert_allclose(found["images"].reshape(9, 20), expected, rtol=1e-6)


def test_another_seed_gives_other_images_and_the_same_one_the_same(run):
    for name, seed in [("a", "1"), ("b", "1"), ("c", "2")]:
        assert main(["sample", "run", "--seed", seed, "--out", f"{name}.npz"]) == 0
    a, b, c = (np.load(f"{name}.npz")["images"] for name in "abc")
    assert len(a) == 64 and (a == b).all() and not (a == c).all()


def test_a_picture_is_written_into_the_run_by_default_and_again(run, capsys):
    for _ in range(2):
        assert main(["sample", "run", "-n", "5"]) == 0
        assert (run / "samples.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(("kind", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_picture_may_be_of_another_format(run, kind, start):
    assert main(["sample", "run", "-n", "5", "--out", f"new.{kind}"]) == 0
    assert Path(f"new.{kind}").read_bytes().startswith(start)


def test_the_samples_are_of_the_model_that_is_kept(folder):
    vae = train_with_kept("--out", "run")
    assert main(["sample", "run", "--out", "new.npz"]) == 0
    kept = vae.sample(64, rng=0)
    np.testing.assert_array_equal(np.load("new.npz")["images"].reshape(64, 20), kept)


def test_a_run_needs_no_data_to_be_sampled_and_any_shape_will_do(run):
    Path("small.npy").unlink()
    assert main(["sample", "run", "--out", "new.npz", "--image-shape", "2x10"]) == 0
    assert np.load("new.npz")["images"].shape == (64, 2, 10)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none is not a run directory: it has no checkpoint.npz"),
        (
            ["none", "--out", "deep/a.npz"],
            "none is not a run directory: it has no checkpoint.npz",
        ),
        (["run", "--out", "new.gif"], "--out is new.gif, must end in .npz, .png, .pdf, .svg"),
        (["run", "--out", "run/checkpoint.npz", "--overwrite"], "is part of the run, must be an"),
        (["run", "--out", "folder.npz", "--overwrite"], "--out folder.npz is a folder, must be a"),
        (["run", "--out", "new"], "--out is new, must end in .npz"),
        (
            ["run", "--out", "small.npz"],
            "error: small.npz: exists already; --overwrite replaces it",
        ),
        (["run", "-n", "2501"], "-n is 2501, must be at most 2500 unless --out is .npz"),
        (["run", "-n", "0"], "argument -n: '0' must be a whole number from 1 to 1000000"),
        (["run", "--seed", "x"], "argument --seed: 'x' must be a whole number"),
        (
            ["run", "--image-shape", "3x5"],
            "the image shape is 3x5, 15 pixels, must be a height and",
        ),
    ],
    ids=[
        "missing",
        "no-folder",
        "gif",
        "part",
        "folder",
        "no-suffix",
        "exists",
        "many",
        "none",
        "seed",
        "shape",
    ],
)
def test_sample_refuses_what_it_cannot_do_in_one_line(run, capsys, words, message):
    Path("small.npz").write_text("mine")
    Path("folder.npz").mkdir()
    before = listing(".")
    assert message in refusal(capsys, "sample", *words)
    assert not Path("deep").exists()
    assert listing(".") == before and Path("small.npz").read_text() == "mine"


def test_an_existing_file_is_replaced_when_asked(run):
    Path("new.npz").write_text("old")
    assert main(["sample", "run", "--out", "new.npz", "--overwrite"]) == 0
    assert np.load("new.npz")["z"].shape == (64, 2)


def test_a_folder_is_made_and_a_full_disk_ends_with_1(run, capsys, monkeypatch):
    assert_a_full_disk_keeps("deep/down/new.npz", "sample", capsys, monkeypatch)
