"""The directory of a run: what is in it, and how it comes into being.

    config.json       the settings                     metrics.json      the result
    history.csv       a row for each epoch             checkpoint.npz    all it takes to go on
    figures/*.png

Each file is written whole or not at all, and none of an older run is touched before everything
that can be refused has been checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import write_text
from .train import Record

FILES = ("config.json", "history.csv", "metrics.json", "checkpoint.npz")
FIGURES = ("training", "reconstructions", "samples", "latent", "manifold")


def create_run(
    out: str | os.PathLike[str] | None, name: str, config: Mapping[str, Any], *, overwrite: bool
) -> Path:
    """Make the directory of a new run and write its config.json.

    Parameters
    ----------
    out : path or None
        The directory; None is a fresh one, runs/NAME-1, runs/NAME-2, ...
    overwrite : bool
        Whether a run that `out` already holds may be replaced.

    Raises
    ------
    ValueError
        If `out` holds a run that may not be replaced.
    OSError
        If it cannot be written.
    """
    folder = _fresh(name) if out is None else Path(out)
    held = [file for file in FILES if (folder / file).exists()]
    if held and not overwrite:
        raise ValueError(f"--out {out} already holds a run ({held[0]}); --overwrite replaces it")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    for stale in (*FILES[1:], *(f"figures/{figure}.png" for figure in FIGURES)):
        (folder / stale).unlink(missing_ok=True)
    return folder


def _fresh(name: str) -> Path:
    number = 1
    while True:
        folder = Path("runs") / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as JSON that people can read."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_history(path: Path, history: Sequence[Record]) -> None:
    """Write the records as CSV."""
    rows = [",".join(Record._fields)]
    rows += [",".join(str(round(value, 6)) for value in record) for record in history]
    write_text(path, "\n".join(rows) + "\n")
