"""The directory of a run."""

import csv
import json
from pathlib import Path

import pytest

from numpy_vae import VAE, Adam
from numpy_vae.checkpoint import Checkpoint, save_checkpoint
from numpy_vae.runs import FILES, begin_run, create_run, open_run, write_history
from numpy_vae.train import Record, spawn_streams


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_fresh_directories_are_numbered():
    names = [create_run(None, "digits", overwrite=False).as_posix() for _ in range(3)]
    assert names == ["runs/digits-1", "runs/digits-2", "runs/digits-3"]


def test_creating_a_run_leaves_nothing_but_the_folders(folder):
    create_run("a/b", "digits", overwrite=False)
    assert [path.name for path in (folder / "a/b").iterdir()] == ["figures"]


FIGURES = ["figures/training.png", "figures/kl.pdf", "figures/latent_factors.svg"]


@pytest.mark.parametrize("held", [*FILES, *FIGURES])
def test_a_run_is_not_replaced_unasked(folder, held):
    (folder / "out/figures").mkdir(parents=True)
    (folder / "out" / held).write_text("old")
    with pytest.raises(ValueError, match=f"--out out already holds a run .{held}."):
        create_run("out", "digits", overwrite=False)
    create_run("out", "digits", overwrite=True)
    assert (folder / "out" / held).read_text() == "old"  # not yet


def test_beginning_a_run_removes_the_results_of_the_last_one_and_nothing_else(folder):
    create_run("out", "digits", overwrite=False)
    stale = ["metrics.json", *FIGURES]
    torn = [".checkpoint.npz.x1y2", ".metrics.json.zz", "figures/.kl.pdf.3_4"]  # by a SIGKILL
    mine = ["figures/mine.png", "notes.txt", ".gitignore", "figures/.kl", ".checkpoint.npz"]
    for name in [*stale, *torn, *mine]:
        (folder / "out" / name).write_text("old")
    begin_run(folder / "out", {"seed": 3})
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
