"""``numpy-vae plot``: which files it writes, and what it refuses."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import PNG, change_settings, listing, refusal, train, train_with_kept

from numpy_vae import VAE, load_array
from numpy_vae.__main__ import main
from numpy_vae.data import Dataset, batch, to_float
from numpy_vae.figures import of_a_run as figures
from numpy_vae.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("folder")

PLANE = [
    "interpolations", "kl", "latent", "manifold", "reconstructions", "samples", "training",
    "traversals",
]  # fmt: skip


@pytest.fixture
def run(folder):
    assert train("--epochs", "2", "--out", "run") == 0
    return folder / "run"


@pytest.mark.slow
def test_the_figures_are_drawn_again_with_the_same_bytes(run, capsys):
    assert main(["plot", "run"]) == 0
    out = capsys.readouterr().out
    assert listing("run/figures") == [f"{name}.png" for name in PLANE]
    first = {name: (run / "figures" / name).read_bytes() for name in listing("run/figures")}
    assert all(content.startswith(PNG) for content in first.values())
    assert all(f"run/figures/{name}.png" in out for name in PLANE)
    assert main(["plot", "run"]) == 0
    assert {n: (run / "figures" / n).read_bytes() for n in listing("run/figures")} == first


@pytest.mark.slow
@pytest.mark.figures
def test_training_draws_what_plot_draws(folder):
    assert train("--epochs", "2", "--out", "run") == 0
    first = {name: Path("run/figures", name).read_bytes() for name in listing("run/figures")}
    assert main(["plot", "run"]) == 0
    again = {name: Path("run/figures", name).read_bytes() for name in listing("run/figures")}
    assert first == again and len(first) == len(PLANE)


@pytest.mark.slow
def test_figures_elsewhere_are_replaced_when_asked(run):
    Path("paper").mkdir()
    Path("paper/kl.png").write_text("old")
    assert main(["plot", "run", "--out", "paper", "--overwrite"]) == 0
    assert Path("paper/kl.png").read_bytes().startswith(PNG)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_other_formats_and_places(run, kind):
    assert main(["plot", "run", "--format", kind, "--out", "paper/figures"]) == 0
    assert listing("paper/figures") == [f"{name}.{kind}" for name in PLANE]
    start = b"%PDF" if kind == "pdf" else b"<?xml"
    for name in listing("paper/figures"):
        assert Path("paper/figures", name).read_bytes().startswith(start)
    assert listing("run/figures") == []


def test_of_many_test_images_some_are_taken_evenly(folder, shown, monkeypatch):
    x = np.random.default_rng(0).random((60, 4, 5), np.float32)
    np.savez("small.npz", x_train=x[:30], x_test=x[30:], y_test=np.arange(30))
    words = ["--data", "small.npz", "--epochs", "1", "--binarize", "none", "--out", "run"]
    assert train(*words) == 0
    for most in 30, 7:
        monkeypatch.setattr("numpy_vae.runs.images.MAX_SHOWN", most)
        assert main(["plot", "run"]) == 0
        rows = np.linspace(0, 29, most).astype(int)
        np.testing.assert_array_equal(shown["data"].test_labels, rows)
        np.testing.assert_array_equal(shown["x"], x[30:][rows].reshape(most, 20))


@pytest.fixture
def shown(monkeypatch):
    """Return what `save_figures` is called with, once it has been; it draws nothing."""
    found = {}

    def spy(path, vae, data, x, history, *, rng, **rest):
        found.update(vae=vae, data=data, x=x, history=history, **rest)
        return []

    monkeypatch.setattr(figures, "save_figures", spy)
    return found


@pytest.mark.figures
@pytest.mark.parametrize("binarize", ["threshold", "dynamic", "static", "none"])
def test_the_figures_show_test_images_as_the_model_sees_them(shown, binarize):
    assert train("--epochs", "1", "--binarize", binarize, "--out", "run") == 0
    drawn = dict(shown)
    assert drawn["data"].name == f"small, binarize {binarize}" and drawn["format"] == "png"
    assert drawn["x"].dtype == (np.float32 if binarize == "none" else np.uint8)
    assert drawn["x"].shape == (10, 20)
    x = to_float(drawn["x"])
    grey = load_array("small.npy").test
    if binarize == "threshold":
        np.testing.assert_array_equal(x, grey > 0.5)
    elif binarize == "none":
        np.testing.assert_array_equal(x, grey)
    elif binarize == "static":
        assert set(np.unique(x)) == {0, 1}
        np.testing.assert_array_equal(x, drawn["data"].test / np.float32(255))
    else:  # as `batch` draws them
        _, pixels = load_checkpoint("run/checkpoint.npz").streams.held_out()
        np.testing.assert_array_equal(x, batch(grey, slice(None), pixels=pixels))
    # And the command draws the same.
    assert main(["plot", "run"]) == 0
    np.testing.assert_array_equal(shown["x"], drawn["x"])
    assert shown["history"] == drawn["history"] == load_checkpoint("run/checkpoint.npz").history


@pytest.mark.slow
def test_bytes_are_drawn_as_the_floats_that_they_stand_for(tmp_path, rng):
    x = rng.integers(0, 256, (30, 20), np.uint8)
    data = Dataset("a set", x, x, test_labels=np.arange(30) % 3, image_shape=(4, 5))
    vae, files = VAE(20, (7,), 3, rng=0), []
    for name, images in ("bytes", x), ("floats", to_float(x)):
        (tmp_path / name).mkdir()
        paths = figures.save_figures(tmp_path / name, vae, data, images, [], rng=0)
        files.append({path.name: path.read_bytes() for path in paths})
    assert len(files[0]) == 6 and files[0] == files[1]


def test_the_figures_are_of_the_model_that_is_kept(shown):
    train_with_kept("--out", "run")
    assert main(["plot", "run"]) == 0
    best = load_checkpoint("run/checkpoint.npz").best
    np.testing.assert_array_equal(shown["vae"].params.flat, best.params.flat)
    assert shown["kept_epoch"] == best.epoch >= 1


def test_the_shape_of_an_image_is_the_one_asked_for_or_the_one_known(folder, shown):
    np.save("rows.npy", np.load("small.npy").reshape(60, 20))
    words = ["train", "--data", "rows.npy", "--hidden", "7", "--latent", "2", "--epochs", "1"]
    assert main([*words, "--out", "guess"]) == 0
    assert main([*words, "--image-shape", "10x2", "--out", "known"]) == 0
    for run, asked, shape in [
        ("guess", [], None),
        ("known", [], (10, 2)),
        ("guess", ["--image-shape", "2x10"], (2, 10)),
        ("known", ["--image-shape", "1x20"], (1, 20)),
    ]:  # fmt: skip
        assert main(["plot", run, *asked]) == 0
        assert shown["data"].image_shape == shape


def test_images_that_have_moved_are_found(run, shown):
    Path("small.npy").rename("moved.npy")
    assert main(["plot", "run", "--data", "moved.npy"]) == 0
    assert len(shown["x"]) == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none is not a run directory: it has no checkpoint.npz"),
        (["torn"], "torn/checkpoint.npz: "),
        (["gone"], "the run was trained on gone.npy, which does not exist: if it has moved,"),
        (
            ["run", "--data", "wide.npy"],
            "wide.npy does not hold the images that the run was trained on",
        ),
        (["run", "--data-dir", "x"], "--data-dir applies to --data mnist, not to --data /"),
        (
            ["run", "--image-shape", "3x5"],
            "the image shape is 3x5, 15 pixels, must be a height and",
        ),
        (["run", "--out", "small.npy"], "small.npy is a file, must be a folder"),
        (["run", "--out", "held"], "held/kl.png: exists already; --overwrite replaces it"),
        (
            ["run", "--data", "other.npy"],
            "other.npy does not hold the images that the run was",
        ),
        (["run", "--format", "gif"], "argument --format: invalid choice: 'gif'"),
        (["run", "--image-shape", "axb"], "argument --image-shape: 'axb' must be a height and a"),
    ],
    ids=[
        "missing",
        "torn",
        "gone",
        "width",
        "data-dir",
        "shape",
        "out",
        "held",
        "other",
        "format",
        "no-shape",
    ],
)
def test_plot_refuses_what_it_cannot_use_in_one_line(run, capsys, words, message):
    for name in "torn", "gone":
        shutil.copytree(run, name)
    Path("torn/checkpoint.npz").write_bytes(b"PK\3\4")
    change_settings("gone", data="gone.npy")
    np.save("wide.npy", np.zeros((9, 30), np.float32))
    np.save("other.npy", np.load("small.npy") / 2)
    Path("held").mkdir()
    Path("held/kl.png").write_text("mine")
    assert message in refusal(capsys, "plot", *words)
    assert listing(run / "figures") == []


def test_a_full_disk_ends_with_1_and_keeps_the_old_figure(run, capsys, monkeypatch):
    (run / "figures/training.png").write_bytes(b"old")
    assert "training.png: is not the file that the run wrote (files.json)" in refusal(
        capsys, "plot", "run"
    )

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "run/figures/training.png")

    monkeypatch.setattr(figures.Figure, "savefig", full)
    capsys.readouterr()
    assert main(["plot", "run", "--overwrite"]) == 1
    error = capsys.readouterr().err
    assert error == "numpy-vae plot: error: run/figures/training.png: No space left on device\n"
    assert (run / "figures/training.png").read_bytes() == b"old"
