"""The directory of a run."""

import csv
import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from numpy_vae import VAE, Adam
from numpy_vae.checkpoint import Checkpoint, save_checkpoint
from numpy_vae.runs import FILES, begin_run, create_run, open_run, write_history
from numpy_vae.train import Best, Record, spawn_streams


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def create(out, overwrite=False):
    with ExitStack() as held:
        return create_run(out, "digits", held, overwrite=overwrite)


def test_fresh_directories_are_numbered():
    names = [create(None).as_posix() for _ in range(3)]
    assert names == ["runs/digits-1", "runs/digits-2", "runs/digits-3"]


def test_creating_a_run_leaves_nothing_but_the_folders(folder):
    create("a/b")
    assert [path.name for path in (folder / "a/b").iterdir()] == ["figures"]


FIGURES = ["figures/training.png", "figures/kl.pdf", "figures/latent_factors.svg"]


@pytest.mark.parametrize("held", [*FILES, *FIGURES])
def test_a_run_is_not_replaced_unasked(folder, held):
    (folder / "out/figures").mkdir(parents=True)
    (folder / "out" / held).write_text("old")
    with pytest.raises(ValueError, match=f"--out out already holds a run .{held}."):
        create("out")
    create("out", overwrite=True)
    assert (folder / "out" / held).read_text() == "old"  # not yet


def test_beginning_a_run_removes_the_results_of_the_last_one_and_nothing_else(folder):
    create("out")
    stale = ["metrics.json", "samples.png", "latents.npz", "explorer.html", *FIGURES]
    # By a SIGKILL: see tempfile.
    torn = [".checkpoint.npz.x1y2abcd", ".explorer.html.________", "figures/.kl.pdf.abcd3_45"]
    mine = [
        "figures/mine.png",
        "notes.txt",
        ".gitignore",
        ".checkpoint.npz.mine",
        ".config.json.swp",
    ]
    for name in [*stale, *torn, *mine]:
        (folder / "out" / name).write_text("old")
    begin_run(folder / "out", {"seed": 3}, resumed=True)
    assert all((folder / "out" / name).exists() for name in [*stale, *mine])
    assert not any((folder / "out" / name).exists() for name in torn)
    begin_run(folder / "out", {"seed": 3}, resumed=False)
    assert json.loads((folder / "out/config.json").read_text()) == {"seed": 3}
    assert not any((folder / "out" / name).exists() for name in [*stale, *torn])
    assert all((folder / "out" / name).exists() for name in mine)


def test_what_is_no_run_is_refused(folder):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^empty is no run, must be a directory with checkpoint"):
        open_run(Path("empty"))
    vae = VAE(5, (), 1, rng=0)
    state = Checkpoint(vae, Adam(vae.params), spawn_streams(0), [], settings={"data": "digits"})
    save_checkpoint("empty/checkpoint.npz", state)
    with pytest.raises(ValueError, match=r"not a checkpoint of a run \(its settings have no d"):
        open_run(Path("empty"))


def test_the_history_is_a_table_with_named_columns(folder):
    records = [Record(i, *(i + k / 16 for k in range(12))) for i in (1, 2)]
    write_history(folder / "history.csv", records)
    with open("history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == Record._fields
    for row, record in zip(rows, records, strict=True):
        assert {name: float(cell) for name, cell in row.items()} == record._asdict()


def test_what_was_not_evaluated_is_an_empty_cell(folder):
    records = [
        Record(1, -3.0, 2.0, 1.0, None, None, None, 0.5, 0.25, -3.0),
        Record(2, -3.0, 2.0, 1.0, -0.0, 0.0, 0.0, 0.5, 0.25, -3.0, -7.0, 4.0, 3.0),
    ]
    write_history(folder / "history.csv", records)
    with open("history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, record in zip(rows, records, strict=True):
        cells = {name: float(cell) if cell else None for name, cell in row.items()}
        assert cells == record._asdict()
    empty = [name for name, cell in rows[0].items() if cell == ""]
    assert empty == [n for n in Record._fields if n.startswith(("test_", "validation_"))
                     and n != "test_seconds"]  # fmt: skip


SETTINGS = {
    "data": "digits", "data_dir": None, "image_shape": [1, 5], "fingerprint": "ab",
    "likelihood": "bernoulli", "validation": 7, "seed": 3, "epochs": 4, "batch_size": 9,
    "schedule": "constant", "beta": 1.0, "warmup": 0, "bound": "elbo", "samples": 1,
    "binarize": "dynamic", "evaluate_every": 1, "patience": 2, "threads": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"patience": None, "image_shape": None, "data_dir": "x"}, ""),
        ({"data": 3}, "data is no text"),
        ({"data_dir": 7}, "data_dir is no text"),
        ({"fingerprint": None}, "fingerprint is no text"),
        ({"likelihood": "gaussian"}, "likelihood is 'gaussian', must be one of bernoulli"),
        ({"binarize": "x"}, "binarize is 'x', must be one of"),
        ({"bound": 3}, "bound is 3, must be one of"),
        ({"schedule": []}, "schedule is [], must be one of"),
        ({"beta": None}, "beta is None, must be a number"),
        ({"epochs": "4"}, "epochs is '4', must be a whole number from 1"),
        ({"epochs": 0}, "epochs is 0, must be a whole number from 1"),
        ({"warmup": 5}, "warmup is 5, must be a whole number from 0 to 4"),
        ({"threads": 0}, "threads is 0, must be a whole number from 1 to 256"),
        ({"evaluate_every": 0}, "evaluate_every is 0, must be a whole number"),
        ({"samples": True}, "samples is True, must be a whole number"),
        ({"batch_size": "x"}, "batch_size is 'x', must be a whole number"),
        ({"seed": -1}, "seed is -1, must be a whole number"),
        ({"validation": 0}, "validation is 0, must be a whole number from 1"),
        ({"patience": 0}, "patience is 0, must be a whole number"),
        ({"image_shape": 20}, "not iterable"),
        ({"image_shape": [4.0, 5.0]}, "a side of image_shape is 4.0, must be a whole number"),
        ({"image_shape": [5]}, "image_shape has not two sides"),
    ],
    ids=str,
)
def test_settings_that_no_run_has_are_refused(folder, changes, message):
    vae = VAE(5, (), 1, rng=0)
    state = Checkpoint(vae, Adam(vae.params), spawn_streams(0), [], None, Best(vae.params),
                       SETTINGS | changes)  # fmt: skip
    (folder / "run").mkdir()
    save_checkpoint("run/checkpoint.npz", state)
    if not message:
        assert open_run(Path("run")).settings == SETTINGS | changes
        return
    with pytest.raises(
        ValueError, match=r"^run/checkpoint.npz: not a checkpoint of a run"
    ) as error:
        open_run(Path("run"))
    assert message in str(error.value)
