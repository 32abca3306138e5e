"""The directory of a run."""

import csv
import json
from pathlib import Path

import pytest

from numpy_vae import VAE, Adam
from numpy_vae.runs.checkpoint import save_checkpoint
from numpy_vae.runs.directory import (
    Place,
    begin_run,
    check_usable,
    create_run,
    history_text,
    open_run,
)
from numpy_vae.runs.owned import OwnFiles
from numpy_vae.seeds import spawn_streams
from numpy_vae.training.state import Best, Record, State


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


SETTINGS = {
    "data": "digits", "data_dir": None, "image_shape": [1, 5], "fingerprint": "ab",
    "likelihood": "bernoulli", "validation": 7, "seed": 3, "epochs": 4, "batch_size": 9,
    "schedule": "constant", "beta": 1.0, "warmup": 0, "bound": "elbo", "samples": 1,
    "binarize": "dynamic", "evaluate_every": 1, "patience": 2, "threads": 1,
}  # fmt: skip


def create(out, overwrite=False, data=None):
    return create_run(out, "digits", overwrite=overwrite, data=data)


def save_state(folder, seed=0):
    """Save the checkpoint of a run in a folder; return its state."""
    vae = VAE(5, (), 1, rng=seed)
    state = State(vae, Adam(vae.params), spawn_streams(0), [], None, Best(vae.params),
                       SETTINGS)  # fmt: skip
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_checkpoint(Path(folder) / "checkpoint.npz", state)
    return state


def content(folder):
    """Return the files below a folder, hidden ones too, with their bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_fresh_directories_are_numbered():
    names = [create(None).as_posix() for _ in range(3)]
    assert names == ["runs/digits-1", "runs/digits-2", "runs/digits-3"]


def test_creating_a_run_leaves_nothing_but_the_folder(folder):
    create("a/b")
    assert list((folder / "a/b").iterdir()) == []
    create("a/b")  # as one that was killed before its first checkpoint


@pytest.mark.parametrize(
    "mine",
    ["latents.npz", "samples.png", ".numpy-vae", ".config.json.20240101", "config.json",
     "history.csv", "figures/kl.png", "data.npy"],
)  # fmt: skip
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_something_and_no_run_is_refused(folder, mine, overwrite):
    (folder / "out/figures").mkdir(parents=True)
    (folder / "out" / mine).write_text("mine")
    with pytest.raises(ValueError, match=r"^out holds '.*' but no run, must be new, empty or"):
        create("out", overwrite)
    assert content(folder / "out") == {mine: b"mine"}


def test_a_checkpoint_of_something_else_makes_no_run(folder):
    (folder / "out").mkdir()
    (folder / "out/checkpoint.npz").write_bytes(b"of another program")
    with pytest.raises(ValueError, match=r"^out/checkpoint.npz: "):
        create("out", overwrite=True)
    VAE(5, (), 1, rng=0).save("out/checkpoint.npz")
    before = content(folder)
    with pytest.raises(ValueError, match=r"^out/checkpoint.npz: not a checkpoint"):
        create("out", overwrite=True)
    assert content(folder) == before


def test_a_run_is_not_replaced_unasked(folder):
    save_state("out")
    before = content(folder)
    with pytest.raises(ValueError, match="out already holds a run: continue it with --resume"):
        create("out")
    create("out", overwrite=True)
    assert content(folder) == before  # not yet


def test_a_run_is_not_replaced_by_one_that_is_trained_on_its_files(folder):
    model = save_state("out").model_id
    with OwnFiles(folder / "out").write(folder / "out/latents.npz", model) as stream:
        stream.write(b"own")
    with pytest.raises(ValueError, match=r"^out/latents.npz belongs to the run to be r"):
        create("out", overwrite=True, data="out/latents.npz")
    (folder / "out/latents.npz").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"holds latents.npz, not the run's own"):
        create("out", overwrite=True)
    assert (folder / "out/latents.npz").read_bytes() == b"mine"


def test_beginning_a_run_removes_its_own_files_of_another_model_and_nothing_else(folder):
    state = save_state("out")
    (folder / "out/figures").mkdir()
    own = OwnFiles(folder / "out")
    stale = ["metrics.json", "samples.png", "latents.npz", "explorer.html", "figures/training.png",
             "figures/latent_factors.svg"]  # fmt: skip
    for name in stale:
        with own.write(folder / "out" / name, "another model") as stream:
            stream.write(b"old")
    with own.write(folder / "out/figures/kl.pdf", state.model_id) as stream:
        stream.write(b"of this model")
    (folder / "out/explorer.html").write_text("edited since")
    # By a SIGKILL: see tempfile.
    torn = [".numpy-vae-x1y2abcd.tmp", "figures/.numpy-vae-abcd3_45.tmp"]
    mine = [
        "figures/mine.png",
        "figures/samples.png",
        "notes.txt",
        ".gitignore",
        ".checkpoint.npz.x1y2abcd",
        ".config.json.20240101",
        ".numpy-vae-mine.tmp",
    ]
    for name in [*torn, *mine]:
        (folder / "out" / name).write_text("old")
    begin_run(own, state)
    assert set(content(folder / "out")) == {
        "checkpoint.npz", "config.json", "files.json", "history.csv", "explorer.html",
        "figures/kl.pdf", *mine
    }  # fmt: skip
    assert json.loads((folder / "out/config.json").read_text()) == SETTINGS
    listed = json.loads((folder / "out/files.json").read_text())
    assert list(listed) == ["figures/kl.pdf", "history.csv", "config.json"]


@pytest.mark.parametrize("name", ["config.json", "history.csv"])
def test_what_the_user_has_made_of_the_files_for_people_is_kept(folder, name):
    state = save_state("out")
    own = OwnFiles(folder / "out")
    begin_run(own, state)
    assert own.kept == set()
    (folder / "out" / name).write_text("mine")
    begin_run(own, state)
    assert own.kept == {folder / "out" / name}
    assert (folder / "out" / name).read_text() == "mine"


def test_a_folder_that_has_become_another_one_is_left_alone(folder):
    (folder / "out").mkdir()
    place = Place(folder / "out")
    place.check()
    (folder / "out").rename("old")
    with pytest.raises(OSError, match="out was removed or replaced"):
        place.check()
    (folder / "out").mkdir()
    with pytest.raises(OSError, match="out was removed or replaced"):
        place.check()


@pytest.mark.parametrize("figures", ["file", "dangling link"])
def test_a_run_that_cannot_be_written_is_found_out_before_the_work(folder, figures):
    save_state("out")
    check_usable(folder / "out")
    if figures == "file":
        (folder / "out/figures").touch()
    else:
        (folder / "out/figures").symlink_to("nowhere")
    with pytest.raises(NotADirectoryError):
        check_usable(folder / "out")
    (folder / "out/figures").unlink()
    (folder / "out/files.json").write_text("{")
    with pytest.raises(OSError, match=r"files.json is damaged: remove it, and"):
        check_usable(folder / "out")


def test_what_is_no_run_is_refused(folder):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^empty is not a run directory: it has no checkpoint"):
        open_run(Path("empty"))
    vae = VAE(5, (), 1, rng=0)
    state = State(vae, Adam(vae.params), spawn_streams(0), [], settings={"data": "digits"})
    save_checkpoint("empty/checkpoint.npz", state)
    with pytest.raises(ValueError, match=r"not a checkpoint of a run \(its settings have no d"):
        open_run(Path("empty"))


def test_the_history_is_a_table_with_named_columns(folder):
    records = [Record(i, *(i + k / 16 for k in range(12))) for i in (1, 2)]
    (folder / "history.csv").write_text(history_text(records))
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
    (folder / "history.csv").write_text(history_text(records))
    with open("history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, record in zip(rows, records, strict=True):
        cells = {name: float(cell) if cell else None for name, cell in row.items()}
        assert cells == record._asdict()
    empty = [name for name, cell in rows[0].items() if cell == ""]
    assert empty == [n for n in Record._fields if n.startswith(("test_", "validation_"))
                     and n != "test_seconds"]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"patience": None, "image_shape": None, "data_dir": "x"}, ""),
        ({"data": 3}, "data is 3, must be text"),
        ({"data_dir": 7}, "data_dir is 7, must be text"),
        ({"name": 7}, "name is 7, must be text"),
        ({"fingerprint": None}, "fingerprint is None, must be text"),
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
        ({"validation": 0, "patience": None}, "a validation set without a best epoch"),
        ({"patience": 0}, "patience is 0, must be a whole number"),
        ({"image_shape": 20}, "not iterable"),
        ({"image_shape": [4.0, 5.0]}, "a side of image_shape is 4.0, must be a whole number"),
        ({"image_shape": [5]}, "image_shape is [5], must have two sides"),
    ],
    ids=str,
)
def test_settings_that_no_run_has_are_refused(folder, changes, message):
    state = save_state("run")
    save_checkpoint("run/checkpoint.npz", state._replace(settings=SETTINGS | changes))
    if not message:
        assert open_run(Path("run")).settings == SETTINGS | changes
        return
    with pytest.raises(
        ValueError, match=r"^run/checkpoint.npz: not a checkpoint of a run"
    ) as error:
        open_run(Path("run"))
    assert message in str(error.value)
