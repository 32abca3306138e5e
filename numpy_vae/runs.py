"""The directory of a run: what is in it, and how it comes into being.

    config.json       the settings                     metrics.json      the result
    history.csv       a row for each epoch             checkpoint.npz    all it takes to go on
    figures/*.png

Each file is written whole or not at all. Of an older run nothing is touched before the checkpoint
of the new one is on the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import write_text
from .train import Record

CHECKPOINT = "checkpoint.npz"
FILES = ("config.json", "history.csv", "metrics.json", CHECKPOINT)
LOOP = (  # of config.json, what `train_epochs` takes as it is
    "epochs", "batch_size", "schedule", "beta", "warmup", "bound", "samples", "binarize",
    "evaluate_every",
)  # fmt: skip
NEEDED = ("data", "data_dir", "validation", "seed", *LOOP)  # to resume a run, or to evaluate it
FIGURES = tuple(
    f"figures/{name}.png"
    for name in ("training", "reconstructions", "samples", "latent", "manifold")
)


def create_run(out: str | os.PathLike[str] | None, name: str, *, overwrite: bool) -> Path:
    """Make the directory of a new run, and see that it can be written to.

    Parameters
    ----------
    out : path or None
        The directory; None is a fresh one, runs/NAME-1, runs/NAME-2, ...
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
    held = [file for file in (*FILES, *FIGURES) if (folder / file).exists()]
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


def begin_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.json, and remove the results of the run that was here before."""
    write_json(folder / "config.json", config)
    for stale in ("metrics.json", *FIGURES):
        (folder / stale).unlink(missing_ok=True)


def read_config(folder: Path) -> dict[str, Any]:
    """Read the settings of a run.

    Raises
    ------
    ValueError
        If `folder` holds no run, or its config.json is damaged or lacks what this version reads.
    OSError
        If it cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no run, must be a directory with config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("no JSON object")
        if missing := [name for name in NEEDED if name not in config]:
            raise ValueError(f"no {missing[0]}")
    except ValueError as error:
        raise ValueError(f"{path}: not the settings of a run ({error})") from None
    return config


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
