"""docs/make/results.py: its rows are commands that work, and what is done stays done."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from numpy_vae import VAE, evaluate_likelihood, load_mnist
from numpy_vae.data import binarize

ROOT = Path(__file__).resolve().parent.parent
SMALL = "--hidden 6 --latent 2 --epochs 2 --batch-size 20"


@pytest.fixture
def results(monkeypatch):
    """Import the script, which is in no package."""
    spec = importlib.util.spec_from_file_location("results", ROOT / "docs/make/results.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "results", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(results, tmp_path, monkeypatch):
    """Replace MNIST by 60 and 20 images, and the rows by small ones; draw no figures."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, n in ("train", 60), ("t10k", 20):
        images, labels = rng.integers(0, 256, (n, 28, 28)), rng.integers(0, 10, n)
        for name, array, shape in (
            (f"{part}-images-idx3-ubyte", images, (n, 28, 28)),
            (f"{part}-labels-idx1-ubyte", labels, (n,)),
        ):
            head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
            (folder / name).write_bytes(head + array.astype(np.uint8).tobytes())
    monkeypatch.setenv("NUMPY_VAE_DATA", str(folder))
    monkeypatch.setattr("numpy_vae.runs.run.draw_figures", lambda *args: [])
    monkeypatch.chdir(tmp_path)
    Row = results.Row
    rows = {
        "grey-0": Row("grey", "grey", f"--binarize none {SMALL}", "1.0"),
        "dynamic-k5-100": Row("dynamic", "k = 5", f"{SMALL} --bound iwae --samples 5", "2.0"),
        "dynamic-k1-100": Row("dynamic", "k = 1", SMALL, "3.0"),
        "static-k1-100": Row("static", "k = 1", f"{SMALL} --binarize static", "5.0"),
        "pilot-one": Row("pilot", "", f"{SMALL} --validation 15 --lr 0.01", "", False),
        "long": Row("dynamic", "k = 50", f"{SMALL} --samples 50", "4.0", False),
    }
    monkeypatch.setattr(results, "ROWS", rows)
    monkeypatch.setattr(results, "TRIED", f"{SMALL} --validation 15")
    return results


def cells(text, name):
    """Return the cells of the row of this name."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_row_is_a_command_that_the_parser_takes(results):
    for row in results.ROWS.values():
        args = results.settings_of(row)
        assert args.data == "mnist" and args.likelihood == "bernoulli"
        expected = {"grey": "none", "static": "static"}.get(row.table, "dynamic")
        assert args.binarize == expected and None not in (args.hidden, args.latent, args.lr)
        assert (args.validation > 0) == (row.table == "pilot")
    published = {
        "dynamic-k1": "86.76", "dynamic-k1-100": "86.76", "dynamic-k5-100": "85.54",
        "static-k1-100": "88.71", "static-k5-100": "87.63",
        "paper-k1": "86.76", "paper-k5": "85.54", "paper-k50": "84.78",
    }  # fmt: skip
    rows = results.ROWS
    assert {name: rows[name].theirs for name in published} == published
    paper = results.settings_of(rows["paper-k50"])
    assert (paper.epochs, paper.batch_size, paper.lr, paper.schedule) == (3280, 20, 1e-3, "burda")
    assert (paper.hidden, paper.latent, paper.activation) == ((200, 200), 50, "tanh")
    assert (paper.bound, paper.samples) == ("iwae", 50)
    twins = [results.settings_of(results.ROWS[f"dynamic-k{k}-100"]) for k in (1, 5)]
    differ = {name for name in vars(twins[0]) if len({str(vars(t)[name]) for t in twins}) > 1}
    assert differ == {"bound", "samples"}  # same everything else


def test_the_commands_of_the_page_are_those_of_the_rows(results):
    page = results.PAGE.read_text(encoding="utf-8")
    tables = page.split(results.BEGIN)[1].split(results.END)[0]
    for line in re.findall(r"^\| (\S+-\S+) \|.*$", tables, re.MULTILINE):
        row = results.ROWS[line]
        of_pilot = row.arguments.removeprefix(results.TRIED).strip()
        assert f"`{of_pilot if row.table == 'pilot' else row.command}`" in tables
    assert set(re.findall(r"^\| (\S+-\S+) \|", tables, re.MULTILINE)) == {
        name for name, row in results.ROWS.items() if row.by_default or row.table == "pilot"
    }


@pytest.mark.slow
def test_rows_are_run_once_and_written_into_the_page(small, tmp_path, capsys, monkeypatch):
    assert small.command(["--list", "--samples", "8"]) == 0
    out = capsys.readouterr().out
    assert "long: " in out and "of training" in out and not (tmp_path / "runs").exists()
    assert small.command(["--samples", "8"]) == 0
    out = capsys.readouterr().out
    assert out.count("$ numpy-vae train") == 4 and out.count("$ numpy-vae evaluate") == 3
    assert "long" not in out and "pilot" not in out
    values = {}
    for name in "dynamic-k1-100", "dynamic-k5-100", "static-k1-100":
        with np.load(f"runs/literature/{name}/evaluation.npz") as found:
            values[name], summary = found["log_likelihoods"], json.loads(str(found["summary"]))
        assert len(values[name]) == 20 and values[name].mean() == summary["log_likelihood"]
        row = cells(out, name)
        error = values[name].std(ddof=1) / np.sqrt(20)
        assert row[3:6] == [
            f"**{-values[name].mean():.2f}**", f"{error:.2f}", f"{-summary['elbo']:.2f}"
        ]  # fmt: skip
        assert row[2] == f"`{small.ROWS[name].command}`" and row[7] == small.ROWS[name].theirs
    metrics = json.loads(Path("runs/literature/grey-0/metrics.json").read_text())
    assert cells(out, "grey-0")[2:4] == [f"{-metrics['test_elbo']:.2f}", "1.0"]
    gain = values["dynamic-k5-100"] - values["dynamic-k1-100"]
    assert (
        f"log p(x) of dynamic-k5-100 is {gain.mean():.3f} nats above that of dynamic-k1-100. "
        f"The standard error is {gain.std(ddof=1) / np.sqrt(20):.3f}, "
    ) in out

    page = tmp_path / "page.md"
    page.write_text(f"before\n{small.BEGIN}\nold\n{small.END}\nafter\n")
    monkeypatch.setattr(small, "PAGE", page)
    assert small.command(["--write", "--samples", "8"]) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert out.strip().endswith(text.split(small.BEGIN)[1].split(small.END)[0].strip())

    assert small.command(["--samples", "8"]) == 0
    again = capsys.readouterr().out
    assert "numpy-vae train --resume" not in again and "$" not in again
    assert "dynamic-k1-100: done" in again


def test_the_evaluation_is_that_of_the_command(small, capsys):
    assert small.command(["dynamic-k1-100", "--samples", "8"]) == 0
    capsys.readouterr()
    from numpy_vae.__main__ import main

    assert main(["evaluate", "runs/literature/dynamic-k1-100", "--samples", "8", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    with np.load("runs/literature/dynamic-k1-100/evaluation.npz") as found:
        assert told["log_likelihood"] == json.loads(str(found["summary"]))["log_likelihood"]


def test_the_static_row_is_evaluated_on_static_images(small, tmp_path):
    assert small.command(["static-k1-100", "--samples", "8"]) == 0
    data = binarize(load_mnist(), "static")
    vae = VAE.load("runs/literature/static-k1-100/checkpoint.npz")
    expected = evaluate_likelihood(vae, data.test, samples=8, rng=0).log_likelihoods
    with np.load("runs/literature/static-k1-100/evaluation.npz") as found:
        np.testing.assert_array_equal(found["log_likelihoods"], expected)


def test_a_pilot_is_evaluated_on_what_was_set_aside(small, capsys):
    assert small.command(["pilot-one", "--samples", "8"]) == 0
    out = capsys.readouterr().out
    row = cells(out, "pilot-one")
    assert row[1] == "`--lr 0.01`"
    with np.load("runs/literature/pilot-one/evaluation.npz") as found:
        values, summary = found["log_likelihoods"], json.loads(str(found["summary"]))
    assert len(values) == 15 and summary["samples"] == small.PILOT_SAMPLES
    assert row[2:4] == [f"{-values.mean():.2f}", f"{-summary['elbo']:.2f}"]


def test_an_evaluation_with_other_samples_is_made_again(small, capsys):
    for samples in "8", "9", "9":
        assert small.command(["dynamic-k1-100", "--samples", samples]) == 0
    out = capsys.readouterr().out
    assert out.count("$ numpy-vae train") == 1 and out.count("$ numpy-vae evaluate") == 2


def test_a_folder_with_another_run_is_refused(small, capsys, monkeypatch):
    assert small.command(["dynamic-k1-100", "--samples", "8"]) == 0
    other = small.ROWS["dynamic-k1-100"]._replace(arguments=f"{SMALL} --lr 0.5")
    monkeypatch.setitem(small.ROWS, "dynamic-k1-100", other)
    capsys.readouterr()
    assert small.command(["dynamic-k1-100", "--samples", "8"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "its lr is 0.001, must be 0.5 as in `numpy-vae" in error


def test_a_training_that_was_stopped_goes_on(small, capsys, dies_after):
    with dies_after(1):
        small.command(["dynamic-k1-100", "--samples", "8"])
    capsys.readouterr()
    assert small.command(["dynamic-k1-100", "--samples", "8"]) == 0
    out = capsys.readouterr().out
    assert "$ numpy-vae train --resume" in out and "resumed after epoch 1" in out


def test_a_row_that_does_not_exist_is_refused(results, capsys):
    with pytest.raises(SystemExit) as stop:
        results.command(["dynamic-k7"])
    assert stop.value.code == 2
    assert "row is 'dynamic-k7', must be one of grey-0" in capsys.readouterr().err
