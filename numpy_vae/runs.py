"""The directory of a run: what is in it, and how it comes into being.

    checkpoint.npz    the run itself: all it takes to go on with it, or to use its model
    config.json       the settings                     history.csv       a row for each epoch
    metrics.json      the result                       figures/          pictures

Each file is written whole or not at all. The checkpoint is the one file that is ever read: the
others are written from it, for people, and come back when the run is resumed. Of an older run
nothing is touched before the checkpoint of the new one is on the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .files import write_text
from .train import Record

CHECKPOINT = "checkpoint.npz"
FILES = ("config.json", "history.csv", "metrics.json", CHECKPOINT)
LOOP = (  # of the settings, what `train_epochs` takes as it is
    "epochs", "batch_size", "schedule", "beta", "warmup", "bound", "samples", "binarize",
    "evaluate_every", "patience",
)  # fmt: skip
NEEDED = ("data", "data_dir", "image_shape", "fingerprint", "validation", "seed", *LOOP)
# Of the figures; here too, since `figures` loads matplotlib. A test compares.
FORMATS = ("png", "pdf", "svg")
FIGURES = (
    "training", "reconstructions", "samples", "latent", "manifold", "interpolations", "kl",
    "traversals", "factors", "latent_factors",
)  # fmt: skip


def create_run(out: str | os.PathLike[str] | None, name: str, *, overwrite: bool) -> Path:
    """Make the directory of a new run, with one for figures, and see that it can be written to.

    Parameters
    ----------
    out : path or None
        The directory; None is a fresh one, runs/NAME-1, runs/NAME-2, ...
    name : str
        NAME of a fresh one.
    overwrite : bool
        Whether a run that `out` already holds may be replaced. It is not touched yet.

    Raises
    ------
    ValueError
        If `out` holds a run that may not be replaced.
    OSError
        If it cannot be written.
    """
    folder = _fresh(name) if out is None else Path(out)
    held = [file for file in (*FILES, *_figures()) if (folder / file).exists()]
    if held and not overwrite:
        raise ValueError(f"--out {out} already holds a run ({held[0]}); --overwrite replaces it")
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    probe = folder / ".numpy-vae"
    write_text(probe, "this folder can be written to\n")
    probe.unlink()
    return folder


def _fresh(name: str) -> Path:
    runs = Path("runs")
    runs.mkdir(exist_ok=True)
    number = 1
    while True:
        try:
            (runs / f"{name}-{number}").mkdir()
            return runs / f"{name}-{number}"
        except FileExistsError:
            number += 1


def _figures() -> list[str]:
    return [f"figures/{name}.{format}" for format in FORMATS for name in FIGURES]


def save_run(folder: Path, state: Checkpoint) -> None:
    """Write the checkpoint, and then the history, which follows from it (OSError)."""
    save_checkpoint(folder / CHECKPOINT, state)
    write_history(folder / "history.csv", state.history)


def begin_run(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write config.json, and remove what is left of the results of an older run.

    Also removed are the temporary files (`.NAME.*`, see `files.atomic_write`) of a killed one.
    """
    write_json(folder / "config.json", settings)
    for stale in ("metrics.json", *_figures()):
        (folder / stale).unlink(missing_ok=True)
    for name in (*FILES, *_figures()):
        of_file = folder / name
        for torn in of_file.parent.glob(f".{of_file.name}.*"):
            torn.unlink(missing_ok=True)


def open_run(folder: Path) -> Checkpoint:
    """Read the checkpoint of a run, whose settings name its data.

    Raises
    ------
    ValueError
        If `folder` holds no run, or its checkpoint is damaged, of another version, or not that of
        a run.
    OSError
        If it cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise ValueError(f"{folder} is no run, must be a directory with {CHECKPOINT}")
    found = load_checkpoint(path)
    if missing := [name for name in NEEDED if name not in found.settings]:
        raise ValueError(f"{path}: not a checkpoint of a run (its settings have no {missing[0]})")
    return found


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as JSON that people can read."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_history(path: Path, history: Sequence[Record]) -> None:
    """Write the records as CSV; what was not evaluated is an empty cell."""
    rows = [",".join(Record._fields)]
    rows += [
        ",".join("" if value is None else str(round(value, 6)) for value in record)
        for record in history
    ]
    write_text(path, "\n".join(rows) + "\n")
