"""The directory of a run."""

import csv
import json

import pytest

from numpy_vae.runs import FIGURES, FILES, begin_run, create_run, write_history
from numpy_vae.train import Record


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
    for name in [*stale, "figures/mine.png", "notes.txt"]:
        (folder / "out" / name).write_text("old")
    begin_run(folder / "out", {"seed": 3})
    assert json.loads((folder / "out/config.json").read_text()) == {"seed": 3}
    assert not any((folder / "out" / name).exists() for name in stale)
    assert (folder / "out/figures/mine.png").exists() and (folder / "out/notes.txt").exists()


def test_the_history_is_a_table_with_named_columns(folder):
    records = [Record(i, *(i + k / 8 for k in range(8))) for i in (1, 2)]
    write_history(folder / "history.csv", records)
    with open("history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == Record._fields
    assert [float(row["test_kl"]) for row in rows] == [record.test_kl for record in records]
