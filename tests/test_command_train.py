"""``numpy-vae train``, run in a folder of its own: files, messages, exit statuses."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import PNG, listing, metrics_of, rows_of, train

from numpy_vae import VAE, Average, Gaussian, evaluate_elbo, fit, load_array
from numpy_vae.__main__ import main
from numpy_vae.data import binarize, split_validation
from numpy_vae.likelihood import LIKELIHOODS
from numpy_vae.network import Network
from numpy_vae.runs.checkpoint import load_checkpoint
from numpy_vae.runs.owned import OwnFiles
from numpy_vae.seeds import spawn_streams
from numpy_vae.training.loop import prepare, start_output_bias
from numpy_vae.training.recipe import Recipe
from numpy_vae.training.state import Best

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.slow
@pytest.mark.figures
def test_a_run_writes_its_directory(folder, capsys):
    assert train("--epochs", "3", "--out", "out", "--seed", "5", "--beta", "0.5") == 0
    assert listing(folder / "out") == [
        "checkpoint.npz", "config.json", "figures/interpolations.png", "figures/kl.png",
        "figures/latent.png", "figures/manifold.png", "figures/reconstructions.png",
        "figures/samples.png", "figures/training.png", "figures/traversals.png", "files.json",
        "history.csv", "metrics.json",
    ]  # fmt: skip
    for figure in (folder / "out/figures").iterdir():
        assert figure.read_bytes().startswith(PNG)

    config = json.loads((folder / "out/config.json").read_text())
    assert config["hidden"] == [7] and config["beta"] == 0.5 and config["seed"] == 5
    assert config["binarize"] == "dynamic" and config["training_images"] == 50

    with open("out/history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]

    metrics = json.loads((folder / "out/metrics.json").read_text())
    assert metrics["test_elbo"] == -(metrics["test_reconstruction"] + metrics["test_kl"]) < 0
    assert metrics["test_elbo"] == pytest.approx(float(rows[-1]["test_elbo"]), abs=1e-5)
    assert (metrics["binarize"], metrics["epochs"], metrics["seed"]) == ("dynamic", 3, 5)
    assert metrics["seconds"] > 0 and metrics["interrupted"] is False
    assert metrics["units"] == "nats per image"
    assert (metrics["kept_epoch"], metrics["stopped_early"]) == (3, False)

    checkpoint = load_checkpoint("out/checkpoint.npz")
    assert len(checkpoint.history) == 3 and checkpoint.adam.t == 3
    assert VAE.load("out/checkpoint.npz").latent_dim == 2

    out = capsys.readouterr().out
    assert "50 training, 10 test images, binarize dynamic" in out
    lines = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3
    assert all("reconstruction" in line and "KL" in line and "nats" in line for line in lines)


def test_the_same_seed_gives_the_same_bits(folder):
    for name, seed in [("a", "1"), ("b", "1"), ("c", "2")]:
        assert train("--epochs", "2", "--out", name, "--seed", seed) == 0
    a, b, c = (load_checkpoint(f"{name}/checkpoint.npz") for name in "abc")
    for one, two in [(a.vae.params, b.vae.params), (a.adam.M, b.adam.M), (a.adam.V, b.adam.V)]:
        assert one.flat.tobytes() == two.flat.tobytes()
    assert a.vae.params.flat.tobytes() != c.vae.params.flat.tobytes()
    results = [json.loads((folder / name / "metrics.json").read_text()) for name in "ab"]
    assert results[0]["test_elbo"] == results[1]["test_elbo"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_with_all_threads(folder):
    # The other tests run the BLAS in one thread (see conftest.py); users do not.
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    np.save("wide.npy", np.random.default_rng(0).random((1200, 784), np.float32))
    code = """if True:
        import sys
        from numpy_vae.__main__ import main
        from numpy_vae.commands import train
        train.draw_figures = lambda *args: []  # no figures, which take longer than the training
        sys.exit(main(sys.argv[1:]))
    """
    for name in "ab":
        words = ["--data", "wide.npy", "--epochs", "2", "--out", name, "--seed", "3"]
        subprocess.run([sys.executable, "-c", code, "train", *words], env=env, check=True)
    a, b = (load_checkpoint(f"{name}/checkpoint.npz") for name in "ab")
    assert a.adam.t == 2 * 8
    assert a.vae.params.flat.tobytes() == b.vae.params.flat.tobytes()


def test_a_fresh_directory_each_time(folder):
    assert train("--epochs", "1") == train("--epochs", "1") == 0
    assert sorted(p.name for p in (folder / "runs").iterdir()) == ["small-1", "small-2"]


def test_a_run_is_replaced_only_when_asked(folder, capsys):
    assert train("--epochs", "1", "--out", "out") == 0
    before = (folder / "out/checkpoint.npz").read_bytes()
    assert train("--epochs", "1", "--out", "out", "--seed", "9") == 2
    error = capsys.readouterr().err
    assert "out already holds a run: continue it with --resume" in error
    assert (folder / "out/checkpoint.npz").read_bytes() == before
    # Neither is it lost to arguments that cannot work.
    assert train("--out", "out", "--overwrite", "--batch-size", "9999") == 2
    assert (folder / "out/checkpoint.npz").read_bytes() == before
    (folder / "out/mine.txt").write_text("keep")
    with OwnFiles(folder / "out").write(folder / "out/figures/manifold.png", "old") as stream:
        stream.write(b"of the old model")
    assert train("--out", "out", "--overwrite", "--epochs", "1", "--latent", "3") == 0
    assert (folder / "out/checkpoint.npz").read_bytes() != before
    assert not (folder / "out/figures/manifold.png").exists()
    assert (folder / "out/mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    "words",
    [
        ("--hidden", "6,5", "--activation", "tanh"),
        ("--hidden", "none", "--likelihood", "gaussian", "--variance", "0.5"),
        ("--binarize", "none"),
        ("--binarize", "threshold"),
        ("--binarize", "static", "--beta", "0"),
        ("--batch-size", "50", "--lr", "0.01", "--latent", "1"),
        ("--likelihood", "continuous_bernoulli", "--output-bias", "data"),
        ("--likelihood", "learned_gaussian", "--variance", "0.5", "--output-bias", "data"),
        ("--bound", "iwae", "--samples", "3", "--warmup", "1", "--schedule", "cosine"),
        ("--samples", "2", "--schedule", "burda", "--average", "--output-bias", "data"),
        ("--validation", "10", "--evaluate-every", "2"),
    ],
    ids=" ".join,
)
def test_every_setting_trains(folder, words):
    assert train("--epochs", "1", "--out", "out", *words) == 0
    config = json.loads((folder / "out/config.json").read_text())
    result = json.loads((folder / "out/metrics.json").read_text())
    assert result["binarize"] == config["binarize"]
    assert np.isfinite(result["test_elbo"])


@pytest.mark.parametrize("variance", [0.1, 0.4, None])
def test_a_variance_that_is_given_is_where_training_starts(folder, variance):
    words = [] if variance is None else ["--variance", str(variance)]
    assert train("--epochs", "1", "--likelihood", "learned_gaussian", "--out", "out", *words) == 0
    expected = load_array("small.npy").train.var(axis=0).mean() if variance is None else variance
    config = json.loads((folder / "out" / "config.json").read_text())
    assert config["variance"] == pytest.approx(expected, rel=1e-5)


def test_the_default_of_binarize_is_a_true_likelihood(folder):
    for likelihood in LIKELIHOODS:
        if likelihood == "poisson":
            np.save("small.npy", np.arange(240.0).reshape(60, 4))  # counts
        expected = "dynamic" if likelihood == "bernoulli" else "none"
        assert train("--epochs", "1", "--likelihood", likelihood, "--out", likelihood) == 0
        config = json.loads((folder / likelihood / "config.json").read_text())
        assert config["binarize"] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", ""], "argument --out: '' must not be empty"),
        (["--data", ""], "argument --data: '' must not be empty"),
        (["--epoch", "1"], "unrecognized arguments: --epoch 1"),
        (["--epochs", "0"], "argument --epochs: '0' must be a whole number from 1 to 1000000"),
        (["--epochs", "-3"], "argument --epochs: '-3' must be a whole number"),
        (["--epochs", "1e9"], "argument --epochs: '1e9' must be a whole number"),
        (["--batch-size", "0"], "argument --batch-size: '0' must be a whole number"),
        (["--hidden", "400,0"], "argument --hidden: '0' must be a whole number from 1 to 65536"),
        (["--hidden", "9999999999"], "argument --hidden: '9999999999' must be a whole number"),
        (["--hidden", ""], "argument --hidden: '' must be a whole number"),
        (["--latent", "2.5"], "argument --latent: '2.5' must be a whole number"),
        (["--lr", "0"], "argument --lr: '0' must be a number greater than 0 and at most 1"),
        (["--lr", "nan"], "argument --lr: 'nan' must be a number"),
        (["--lr", "inf"], "argument --lr: 'inf' must be a number"),
        (["--lr", "1e9"], "argument --lr: '1e9' must be a number"),
        (["--beta", "-1"], "argument --beta: '-1' must be a number at least 0"),
        (["--beta", "nan"], "argument --beta: 'nan' must be a number"),
        (["--variance", "0"], "argument --variance: '0' must be a number at least 1e-06"),
        (["--seed", "-1"], "argument --seed: '-1' must be a whole number from 0"),
        (["--samples", "0"], "argument --samples: '0' must be a whole number from 1 to 10000"),
        (["--warmup", "-1"], "argument --warmup: '-1' must be a whole number from 0"),
        (["--validation", "x"], "argument --validation: 'x' must be a whole number from 0"),
        (["--evaluate-every", "0"], "argument --evaluate-every: '0' must be a whole number from 1"),
        (["--bound", "evidence"], "argument --bound: invalid choice: 'evidence'"),
        (["--schedule", "linear"], "argument --schedule: invalid choice: 'linear'"),
        (["--output-bias", "1"], "argument --output-bias: invalid choice: '1'"),
        (["--resume", ""], "argument --resume: '' must not be empty"),
        (["--patience", "0"], "argument --patience: '0' must be a whole number from 1 to"),
        (["--threads", "0"], "argument --threads: '0' must be a whole number from 1 to 256"),
        (["--image-shape", "4"], "argument --image-shape: '4' must be a height and a width in"),
        (["--image-shape", "4x0"], "argument --image-shape: '4x0' must be a height and a width"),
        (["--activation", "gelu"], "argument --activation: invalid choice: 'gelu'"),
        (["--likelihood", "laplace"], "argument --likelihood: invalid choice: 'laplace'"),
        (["--binarize", "yes"], "argument --binarize: invalid choice: 'yes'"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
    ],
    ids=lambda value: "=".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_an_argument_out_of_range_is_refused_in_one_line(folder, capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        train("--out", "out", *words)
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()
    assert error[0].startswith("usage: numpy-vae") and message in error[-1]
    assert not (folder / "out").exists()


def save(name, array):
    np.save(name, array, allow_pickle=True)


@pytest.mark.parametrize(
    ("make", "words", "message"),
    [
        (None, ["--data", "none.npy"], "--data is 'none.npy', must be digits, mnist or an exist"),
        (None, ["--batch-size", "51"], "batch_size is 51, must be a whole number from 1 to 50"),
        (None, ["--validation", "9", "--batch-size", "42"], "batch_size is 42, must be a whole"),
        (None, ["--hidden", "65536,65536"], "the number of parameters is"),
        (None, ["--variance", "0.5"], "--variance applies to a gaussian --likelihood, not to bern"),
        (None, ["--validation", "50"], "validation images is 50, must be a whole number from 0"),
        (None, ["--warmup", "9", "--epochs", "8"], "warmup is 9, must be a whole number from 0"),
        (None, ["--resume", "none"], "--resume does not go with --hidden, --latent, --out: a r"),
        (None, ["--patience", "2"], "patience is 2, must be None where validation is 0: no image"),
        (None, ["--image-shape", "5x4"], "the image shape is 5x4, must be 4x5, that of the"),
        (lambda: save("small.npy", np.zeros((9, 5), np.float32)), ["--image-shape", "2x3"],
         "the image shape is 2x3, 6 pixels, must have 5, those of a row"),
        (None, ["--data-dir", "."], "--data-dir applies to --data mnist, not to --data small"),
        (None, ["--data", "mnist", "--data-dir", "void"], "void"),
        (lambda: Path("small.npy").write_text(""), [], "small.npy: "),
        (lambda: Path("small.npy").write_text("hello"), [], "small.npy: "),
        (lambda: save("small.npy", np.array([{}, {}])), [], "pickle"),
        (lambda: save("small.npy", np.zeros((0, 5))), [], "small.npy: "),
        (lambda: save("small.npy", np.zeros(5)), [], "small.npy: "),
        (lambda: save("small.npy", np.zeros((9, 5), complex)), [], "complex128"),
        (lambda: save("small.npy", np.full((9, 5), np.nan)), [], "small.npy"),
        (lambda: save("small.npy", np.full((9, 5), np.inf)), [], "small.npy"),
        (lambda: save("small.npy", np.full((9, 5), 1.5)), [], "within [0, 1]"),
        (lambda: save("small.npy", np.full((9, 5), -7.0)),
         ["--likelihood", "gaussian", "--binarize", "static"], "static"),
    ],
    ids=["missing", "batch-size", "batch-size-left", "parameters", "variance", "validation",
         "warmup", "resume", "patience", "image-shape", "pixels", "data-dir", "mnist-dir",
         "empty-file", "text", "pickle", "empty-array", "one-dimensional", "complex", "nan", "inf",
         "range", "binarize-range"],
)  # fmt: skip
def test_data_that_cannot_be_used_are_refused_in_one_line(folder, capsys, make, words, message):
    if make is not None:
        make()
    assert train("--out", "out", *words) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and message in captured.err
    assert captured.err.startswith("numpy-vae train: error: ")
    assert not (folder / "out").exists() and not (folder / "runs").exists()


def test_overwrite_without_out_is_refused(folder, capsys):
    assert train("--overwrite") == 2
    assert "error: --overwrite needs --out" in capsys.readouterr().err


def test_an_out_that_cannot_be_written_is_refused(folder, capsys):
    (folder / "file").write_text("in the way")
    for out in ("file", "file/below", *(["/proc/nowhere"] if Path("/proc").is_dir() else [])):
        assert train("--out", out) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and out.split("/")[0] in error
    assert (folder / "file").read_text() == "in the way"


def test_a_full_disk_at_the_start_leaves_the_run_that_was_to_be_replaced(
    folder, capsys, monkeypatch
):
    assert train("--epochs", "1", "--out", "out") == 0
    before = {name: (folder / "out" / name).read_bytes() for name in listing(folder / "out")}

    def full(stream, arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy_vae.files.save_arrays", full)
    assert train("--epochs", "2", "--out", "out", "--overwrite", "--seed", "4") == 1
    assert capsys.readouterr().err.count("\n") == 1
    after = {name: (folder / "out" / name).read_bytes() for name in listing(folder / "out")}
    assert after == before


def test_a_file_in_the_way_of_the_figures_is_found_before_training(folder, capsys):
    assert train("--epochs", "1", "--out", "out") == 0
    before = (folder / "out/checkpoint.npz").read_bytes()
    shutil.rmtree("out/figures")
    (folder / "out/figures").write_text("in the way")
    assert train("--out", "out", "--overwrite") == 2
    assert "out/figures: Not a directory" in capsys.readouterr().err
    assert (folder / "out/checkpoint.npz").read_bytes() == before


# What else training can do --------------------------------------------------------------------


def test_the_flags_of_the_objective_do_what_the_library_does(folder):
    words = "--epochs 4 --batch-size 20 --seed 8 --bound iwae --samples 3 --warmup 2 --beta 0.9"
    words += " --schedule cosine --average --output-bias data --validation 10 --evaluate-every 3"
    assert train(*words.split(), "--out", "out") == 0
    streams = spawn_streams(8)
    data = split_validation(load_array("small.npy"), 10)
    vae = VAE(20, (7,), 2, rng=streams.initialisation)
    start_output_bias(vae, data.train)
    average, best = Average(vae.params), Best(vae.params)
    history = fit(
        vae, data, epochs=4, batch_size=20, bound="iwae", samples=3, warmup=2, beta=0.9,
        schedule="cosine", binarize="dynamic", evaluate_every=3, rng=streams, average=average,
        best=best,
    )  # fmt: skip
    found = load_checkpoint("out/checkpoint.npz")
    np.testing.assert_array_equal(found.vae.params.flat, vae.params.flat)
    np.testing.assert_array_equal(found.average.mean.flat, average.mean.flat)
    np.testing.assert_array_equal(VAE.load("out/checkpoint.npz").params.flat, best.params.flat)
    rows = rows_of("out")
    assert [row["validation_elbo"] != "" for row in rows] == [False, False, True, True]
    assert all(row["test_elbo"] == "" for row in rows)
    result = metrics_of()
    config = json.loads((folder / "out/config.json").read_text())
    assert (config["training_images"], config["validation"], config["batch_size"]) == (40, 10, 20)
    expected = evaluate_elbo(vae.over(best.params), data.test, draw=True, rng=8)
    assert result["test_elbo"] == expected.elbo and result["kept_epoch"] == best.epoch
    assert result["validation_elbo"] == history[best.epoch - 1].validation_elbo == best.elbo
    assert (result["bound"], result["samples"]) == ("iwae", 3)


def test_the_output_biases_start_at_the_training_images(folder):
    assert train("--epochs", "1", "--output-bias", "data", "--lr", "1e-12", "--out", "out") == 0
    means = (load_array("small.npy").train.sum(axis=0) + 0.5) / 51
    found = VAE.load("out/checkpoint.npz").params["output.b"]
    np.testing.assert_allclose(found, np.log(means / (1 - means)), rtol=1e-4, atol=1e-5)


def test_a_static_draw_is_the_same_whatever_is_set_aside(folder):
    whole = load_array("small.npy")
    static = binarize(whole, "static")
    parts = prepare(VAE(20, (), 1), whole, Recipe(binarize="static", validation=20))
    for part, of in ("validation", "train"), ("train", "train"):
        rows = getattr(parts, part)
        assert all((row == getattr(static, of)).all(axis=1).any() for row in rows)


def test_the_learned_variance_is_reported(folder, capsys):
    assert train("--epochs", "2", "--likelihood", "learned_gaussian", "--out", "out") == 0
    logvar = VAE.load("out/checkpoint.npz").params["likelihood.logvar"]
    assert metrics_of()["likelihood.logvar"] == pytest.approx(logvar.tolist())
    assert logvar[0] != np.log(np.float32(0.1))
    assert f"learned variance {np.exp(logvar[0]):.4g}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there are no POSIX pipes and devices")
@pytest.mark.parametrize("where", ["closed pipe", "full device"])
def test_a_training_that_nobody_reads_goes_on(folder, where):
    command = [sys.executable, "-m", "numpy_vae", "train", "--data", "small.npy"]
    command += ["--epochs", "2", "--out", "out"]
    if where == "closed pipe":
        read, write = os.pipe()
        os.close(read)
    elif Path("/dev/full").exists():
        write = os.open("/dev/full", os.O_WRONLY)
    else:
        pytest.skip("this system has no /dev/full")
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads((folder / "out/metrics.json").read_text())["epochs"] == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to whole consoles only")
def test_ctrl_c_during_the_figures_lets_them_be_finished(folder, monkeypatch):
    before, finished = signal.signal(signal.SIGINT, signal.default_int_handler), []

    def interrupted(state, data, path, *args):
        os.kill(os.getpid(), signal.SIGINT)
        finished.append(path)
        return []

    monkeypatch.setattr("numpy_vae.runs.run.draw_figures", interrupted)
    assert train("--epochs", "1", "--out", "out") == 130
    assert metrics_of()["interrupted"] is False and finished == [Path("out/figures")]
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


@pytest.mark.parametrize("dangling", [True, False])
def test_a_runs_that_is_no_folder_is_refused(folder, capsys, dangling):
    if dangling:
        (folder / "runs").symlink_to("nowhere")
    else:
        (folder / "runs").write_text("in the way")
    assert train() == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_every_flag_reaches_what_it_sets(folder):
    words = "--epochs 2 --batch-size 20 --lr 0.003 --beta 3 --seed 8 --hidden 6,5 --latent 3"
    words += (
        " --activation tanh --likelihood gaussian --variance 0.4 --binarize threshold --out out"
    )
    assert train(*words.split()) == 0
    checkpoint = load_checkpoint("out/checkpoint.npz")
    assert (checkpoint.adam.lr, checkpoint.adam.t) == (0.003, 2 * 3)
    assert checkpoint.vae.settings == {
        "data_dim": 20, "hidden": (6, 5), "latent_dim": 3, "activation": "tanh",
        "likelihood": Gaussian(0.4), "network_type": Network, "scaling": None,
    }  # fmt: skip
    # And the command does what the library does when it is told the same.
    streams = spawn_streams(8)
    vae = VAE(20, (6, 5), 3, "tanh", Gaussian(0.4), rng=streams.initialisation)
    history = fit(
        vae, load_array("small.npy"), epochs=2, batch_size=20, lr=0.003, beta=3,
        binarize="threshold", rng=streams,
    )  # fmt: skip
    np.testing.assert_array_equal(checkpoint.vae.params.flat, vae.params.flat)
    result = json.loads((folder / "out/metrics.json").read_text())
    assert result["test_elbo"] == history[-1].test_elbo


def test_files_of_the_form_of_mnist_are_called_after_their_folder(folder, capsys, monkeypatch):
    Path("fashion").mkdir()
    for part, n in ("train", 12), ("t10k", 4):
        for kind, shape in ("images", (n, 4, 5)), ("labels", (n,)):
            header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
            path = Path("fashion", f"{part}-{kind}-idx{len(shape)}-ubyte")
            path.write_bytes(header + np.zeros(shape, np.uint8).tobytes())
    assert main(["train", "--data", "mnist", "--data-dir", "fashion/", "--epochs", "1"]) == 0
    assert "\nfashion: 12 training, 4 test images" in capsys.readouterr().out
    names = []
    for place in "figures.of_a_run.save_samples", "commands.explore.explorer_page":
        monkeypatch.setattr(f"numpy_vae.{place}", lambda *_, name, **__: names.append(name) or "")
    assert main(["sample", "runs/fashion-1"]) == 0
    assert main(["explore", "runs/fashion-1", "--no-points"]) == 0
    assert names == ["fashion"] * 2


def test_files_of_an_older_model_are_named_even_if_training_fails(folder, capsys, monkeypatch):
    assert train("--epochs", "1", "--out", "out") == 0

    def explodes(*args, **settings):
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr("numpy_vae.training.loop.train_step", explodes)
    capsys.readouterr()
    assert train("--epochs", "1", "--out", "out", "--overwrite", "--seed", "1") == 1
    assert "removed, since they show an older model: metrics.json" in capsys.readouterr().out


def test_a_run_that_another_process_takes_over_before_the_end_is_one_line(
    folder, capsys, monkeypatch
):
    def taken(self):
        raise ValueError("out is being written by another process")

    monkeypatch.setattr("numpy_vae.runs.run.Run.finish", taken)
    assert train("--epochs", "1", "--out", "out") == 2
    error = capsys.readouterr().err
    assert error == "numpy-vae train: error: out is being written by another process\n"


def test_no_network_is_one_line(folder, capsys, monkeypatch):
    monkeypatch.setattr("numpy_vae.data.mnist.MNIST_MIRRORS", ((folder / "gone").as_uri() + "/",))
    assert main(["train", "--data", "mnist", "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--data-dir" in error and "NUMPY_VAE_DATA" in error


def test_a_value_that_is_not_finite_ends_with_1_and_the_last_good_checkpoint(
    folder, capsys, monkeypatch
):
    steps = []
    from numpy_vae.training import loop as module

    def fails_at_the_fourth(*args, **kwargs):
        steps.append(1)
        if len(steps) == 4:
            raise FloatingPointError("the gradient is not finite")
        return step(*args, **kwargs)

    step = module.train_step
    monkeypatch.setattr(module, "train_step", fails_at_the_fourth)
    assert train("--epochs", "5", "--batch-size", "25", "--out", "out") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "training stopped at step 4: the gradient is not finite" in error
    checkpoint = load_checkpoint("out/checkpoint.npz")
    assert len(checkpoint.history) == 1 and checkpoint.adam.t == 2
    assert np.isfinite(checkpoint.vae.params.flat).all()


def test_help_names_every_flag_and_default(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for flag in ("data", "data-dir", "epochs", "batch-size", "hidden", "latent", "activation",
                 "likelihood", "lr", "beta", "binarize", "seed", "out"):  # fmt: skip
        assert f"--{flag}" in text
    assert "nats per image" in text
