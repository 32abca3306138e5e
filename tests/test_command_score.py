"""A trained model on new data: score, reconstruct, decode, evaluate, draws."""

import csv
from pathlib import Path

import numpy as np
import pytest
from command_line import PNG, refusal, train

from numpy_vae import VAE, evaluate_likelihood
from numpy_vae.__main__ import main
from numpy_vae.training.evaluate import bits_per_dimension


@pytest.fixture
def run(folder):
    assert train("--epochs", "1", "--binarize", "none", "--out", "run") == 0
    np.save("new.npy", np.random.default_rng(3).random((7, 4, 5)))
    return VAE.load("run")


@pytest.fixture
def table(folder):
    rng = np.random.default_rng(0)
    np.savetxt("t.csv", 50 + rng.standard_normal((40, 3)), "%.4f", ",", header="a,b,c", comments="")
    lines = ["a,b,c,species", *(f"50,{49 + i},51,{'xy'[i % 2]}" for i in range(5))]
    Path("new.csv").write_text("\n".join(lines))
    words = ["train", "--data", "t.csv", "--likelihood", "diagonal_gaussian", "--epochs", "2"]
    assert main([*words, "--hidden", "none", "--latent", "2", "--out", "run"]) == 0
    return VAE.load("run")


def scores(path="scores.csv"):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_score_for_each_image(run):
    words = ["score", "run", "--data", "new.npy", "--out", "scores.csv"]
    assert main([*words, "--samples", "30", "--seed", "5"]) == 0
    x = np.load("new.npy").reshape(7, 20).astype(np.float32)
    expected = evaluate_likelihood(run, x, samples=30, rng=5, same_noise=True)
    rows = scores()
    assert [row["row"] for row in rows] == [*"0123456"]
    for name, values in {
        "log_likelihood": expected.log_likelihoods, "elbo": expected.elbos,
        "log_likelihood_se": expected.log_likelihood_ses, "kl": expected.kls.sum(axis=1),
        "reconstruction": expected.reconstructions,
    }.items():  # fmt: skip
        np.testing.assert_allclose([float(row[name]) for row in rows], values, rtol=1e-8)
    assert "bits_per_dimension" not in rows[0]  # a cross-entropy


def test_a_score_has_the_label_and_the_bits_where_they_have_a_meaning(folder):
    x = np.random.default_rng(0).integers(99, 256, (30, 4, 5), np.uint8)
    np.savez("small.npy", x_train=x[:20], x_test=x[20:], y_train=np.repeat(["a", "b"], 10),
             y_test=np.repeat("b", 10))  # fmt: skip
    Path("small.npy.npz").rename("small.npy")
    assert train("--epochs", "1", "--likelihood", "gaussian", "--out", "run") == 0
    assert main(["score", "run", "--samples", "1", "--out", "scores.npz"]) == 0
    with np.load("scores.npz") as found:
        assert found["part"].tolist() == ["train"] * 20 + ["test"] * 10
        assert found["label"].tolist() == ["a"] * 10 + ["b"] * 20
        bits = bits_per_dimension(found["log_likelihood"], VAE.load("run"), x.reshape(30, 20))
        np.testing.assert_allclose(found["bits_per_dimension"], bits, rtol=1e-6)


def test_a_table_is_scored_and_reconstructed_in_its_units(table):
    assert main(["score", "run", "--data", "new.csv", "--out", "scores.csv"]) == 0
    rows = scores()
    assert [row["label"] for row in rows] == [*"xyxyx"]
    assert main(["reconstruct", "run", "--data", "new.csv", "--out", "again.npz"]) == 0
    with np.load("again.npz") as found:
        assert found["x"].shape == found["reconstruction"].shape == (5, 3)
        np.testing.assert_array_equal(found["x"][:, 1], 49 + np.arange(5))
        assert abs(found["reconstruction"] - 50).max() < 5


def test_the_label_column_of_a_table_is_asked_for(table, capsys):
    Path("new.csv").write_text(Path("new.csv").read_text().replace("species", "sort"))
    error = refusal(capsys, "score", "run", "--data", "new.csv", "--out", "scores.csv")
    assert "could not convert string 'x'" in error and "'sort'" in error
    words = ["score", "run", "--data", "new.csv", "--label-column", "sort", "--out", "scores.csv"]
    assert main(words) == 0
    assert scores()[0]["label"] == "x"


def test_reconstructions_are_those_of_the_model_and_keep_their_shape(run):
    assert main(["reconstruct", "run", "--data", "new.npy", "--out", "again.npz"]) == 0
    x = np.load("new.npy").astype(np.float32)
    with np.load("again.npz") as found:
        np.testing.assert_array_equal(found["x"], x)
        expected = run.reconstruct(x.reshape(7, 20)).reshape(7, 4, 5)
        np.testing.assert_allclose(found["reconstruction"], expected, rtol=1e-6)
    assert main(["reconstruct", "run", "--data", "new.npy", "--out", "again.png"]) == 0
    assert Path("again.png").read_bytes().startswith(PNG)


def test_decode_what_encode_wrote_and_draw(run):
    assert main(["encode", "run", "--data", "new.npy", "--out", "latents.npz"]) == 0
    assert main(["decode", "run", "--data", "latents.npz", "--out", "images.npz"]) == 0
    with np.load("latents.npz") as latents, np.load("images.npz") as found:
        expected = run.decode(latents["mu"]).reshape(7, 4, 5)
        np.testing.assert_allclose(found["images"], expected, rtol=1e-6)
    np.save("z.npy", np.zeros((3, 2)))
    assert main(["decode", "run", "--data", "z.npy", "--draw", "--out", "drawn.npz"]) == 0
    with np.load("drawn.npz") as found:
        assert set(np.unique(found["images"])) == {0, 1}
    assert main(["sample", "run", "-n", "9", "--draw", "--out", "sampled.npz"]) == 0
    with np.load("sampled.npz") as found:
        assert found["images"].shape == (9, 4, 5) and set(np.unique(found["images"])) == {0, 1}


@pytest.mark.mathematics
def test_draws_are_distributed_as_the_model_says(table):
    # A linear model: p(x) is Gaussian, of covariance W W^T + V.
    draws = table.sample(40_000, rng=0, noise=True)
    scale = table.scaling.scale
    w = table.params["output.W"] * scale
    covariance = w.T @ w + np.diag(np.exp(table.params["likelihood.logvar"]) * scale**2)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.04)
    mean = table.scaling.back(table.params["output.b"].astype(float))
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.04)


def test_evaluate_takes_another_file_as_a_whole_and_its_own_as_before(run, capsys):
    words = ["evaluate", "run", "--samples", "2", "--data"]
    assert main([*words, "new.npy"]) == 0
    assert "; 7 new images, 2 samples" in capsys.readouterr().out
    Path("small.npy").rename("moved.npy")
    assert main([*words, "moved.npy"]) == 0
    assert "; 10 test images, 2 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score", "--data", "wide.npy"], "--data wide.npy has 30 values in a row, must have 20"),
        (["score", "--data", "none.npy"], "none.npy: No such file"),
        (["score", "--data", "new.npy", "--out", "x.txt"], "--out is x.txt, must end in .csv"),
        (["score", "--data", "high.npy"], "must be within [0, 1]"),
        (["reconstruct", "--data", "new.npy", "--out", "new.npy"], "must end in .npz, .png"),
        (["decode", "--data", "new.npy"], "z is float64 (7, 4, 5), must be numbers (N, 2)"),
        (["decode", "--data", "text.npy"], "text.npy: neither a .npy nor a .npz file"),
        (["evaluate", "--data", "new.npy", "--on", "validation"], "--on validation applies to the"),
        (["evaluate", "--data", "digits"], "--data digits has 784 values in a row, must have 20"),
    ],
)  # fmt: skip
def test_new_data_that_do_not_fit_are_refused_in_one_line(run, capsys, words, message):
    np.save("wide.npy", np.zeros((9, 30), np.float32))
    np.save("high.npy", np.full((9, 4, 5), 7.5, np.float32))
    Path("text.npy").write_text("text")
    assert message in refusal(capsys, words[0], "run", *words[1:])
