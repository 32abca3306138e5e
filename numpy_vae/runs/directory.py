"""The directory of a run.

    checkpoint.npz    the run itself: resume it, or load its model
    config.json       the settings                     history.csv       a row for each epoch
    metrics.json      the result                       figures/          pictures
    files.json        the other files that commands wrote: see `owned`

and what other commands write: samples.png, latents.npz, explorer.html.

Each file is written whole or not at all. Commands read only checkpoint.npz and files.json. The
other files are made from the checkpoint, for people, and are rewritten when the run is resumed. A
run that replaces an older one writes its checkpoint first, then removes the older run's other
files. If it is killed in between, the next training removes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..checks import check_choice, check_whole, shorten
from ..data.arrays import Reading
from ..files import CHECKPOINT, TEMPORARY, check_writable, lock, remove_torn, unlock
from ..training.recipe import MAX_EPOCHS, Recipe
from ..training.state import Record, State
from .checkpoint import load_checkpoint, save_checkpoint
from .owned import CONFIG, HISTORY, LIST, METRICS, OwnFiles

FILES = (CONFIG, HISTORY, METRICS, CHECKPOINT, LIST)
NEEDED = ("data", "data_dir", "image_shape", "fingerprint", "likelihood", "seed", "epochs")
MAX_SEED = 2**32 - 1


def create_run(
    out: str | os.PathLike[str] | None, name: str, *, overwrite: bool, data: str | None = None
) -> Path:
    """Make the directory of a new run: `out`, or the first free runs/NAME-1, runs/NAME-2, ...

    ValueError or OSError if it cannot be used. With `overwrite`, `out` may hold a run, which is not
    touched yet. `data` is the file with the training images.
    """
    folder = _fresh(name) if out is None else Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{out} is a file, must be a folder or the name of a new one")
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        content = sorted(n for n in os.listdir(folder) if not TEMPORARY.fullmatch(n))
        if content and CHECKPOINT not in content:
            raise ValueError(f"{out} holds {content[0]!r} but no run, must be new, empty or a run")
        if content:
            open_run(folder)  # raises if it is not a run's checkpoint
            if not overwrite:
                raise ValueError(
                    f"{out} already holds a run: continue it with --resume (Run.resume), or "
                    "replace it with --overwrite (overwrite=True)"
                )
            if mine := OwnFiles(folder).not_own():
                raise ValueError(f"{out} holds {mine[0]}, not the run's own: move or delete it")
            if data is not None and OwnFiles(folder).is_own(Path(data)):
                raise ValueError(f"{data} belongs to the run to be replaced, must be outside it")
            check_usable(folder)
    return folder


def check_usable(folder: Path) -> None:
    """Raise OSError if the folder of a run is not writable or its files.json is damaged."""
    check_writable(folder)
    check_writable(folder / "figures")
    OwnFiles(folder).read_list()


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


def save_run(own: OwnFiles, state: State) -> None:
    """Write the checkpoint, then history.csv; raise OSError if either fails."""
    save_checkpoint(own.folder / CHECKPOINT, state)
    write_history(own, state.history)


def write_history(own: OwnFiles, history: Sequence[Record]) -> None:
    """Write history.csv, a row for each record."""
    with own.write_or_keep(own.folder / HISTORY, None) as stream:
        stream.write(history_text(history).encode())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the run against other processes; ValueError if one of them holds the lock.

    A killed process leaves no lock.
    """
    if os.name == "nt":  # Windows cannot lock folders
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            lock(handle, wait=False)
        except BlockingIOError:
            raise ValueError(f"{folder} is being written by another process") from None
        yield
    finally:
        unlock(handle)
        os.close(handle)


def begin_run(own: OwnFiles, state: State) -> list[str]:
    """Write history.csv and config.json, and remove temporary files that a killed process left.

    Also remove the run's files that show an older model (see `owned`), and return their names.
    """
    write_history(own, state.history)
    with own.write_or_keep(own.folder / CONFIG, None) as stream:
        stream.write(json_text(state.settings).encode())
    (own.folder / "figures").mkdir(exist_ok=True)
    remove_torn(own.folder / "figures")  # `own` has done so in the folder itself
    return own.remove_stale(state.model_id)


class Place:
    """The identity of a folder, to notice when it is replaced during training."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._seen = folder, os.stat(folder)

    def is_same(self) -> bool:
        """Return whether the folder is still there, and the same one."""
        with suppress(OSError):
            return os.path.samestat(os.stat(self.folder), self._seen)
        return False

    def check(self) -> None:
        """Raise OSError if it is not."""
        if not self.is_same():
            raise OSError(f"{self.folder} was removed or replaced")


def open_run(folder: Path) -> State:
    """Read the checkpoint of a run; ValueError if the folder does not hold one."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise ValueError(f"{folder} is not a run directory: it has no {CHECKPOINT}")
    found = load_checkpoint(path)
    try:
        _check_settings(found)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a checkpoint of a run ({shorten(str(error))})") from None
    return found


def _check_settings(state: State) -> None:
    """Raise ValueError or TypeError if the settings are not those of a run in this state."""
    settings = state.settings
    if missing := [name for name in NEEDED if name not in settings]:
        raise ValueError(f"its settings have no {missing[0]}")
    recipe = Recipe.of(settings)
    check_whole("epochs", recipe.epochs, max(1, len(state.history)), MAX_EPOCHS)
    if (recipe.validation > 0) != (state.best is not None):
        raise ValueError("it has a validation set without a best epoch, or the reverse")
    for name in "fingerprint", "data", "data_dir", "name":
        if not isinstance(settings.get(name), str if name == "fingerprint" else str | None):
            raise ValueError(f"{name} is {settings.get(name)!r}, must be text")
    check_choice("likelihood", settings["likelihood"], [state.vae.likelihood.name])
    check_whole("seed", settings["seed"], 0, MAX_SEED)
    if settings["image_shape"] is not None:
        for side in settings["image_shape"]:
            check_whole("a side of image_shape", side, 1, state.vae.data_dim)
        if len(settings["image_shape"]) not in (2, 3):
            raise ValueError(f"image_shape is {settings['image_shape']}, must have two sides")
    Reading.of(settings)
    for name in "columns", "label_names":
        names = settings.get(name, [])
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise ValueError(f"{name} is {names!r}, must be a list of names")


def json_text(content: Mapping[str, Any]) -> str:
    """Return `content` as indented JSON."""
    import json

    return json.dumps(content, indent=2) + "\n"


def history_text(history: Sequence[Record]) -> str:
    """Return the records as CSV, with an empty cell for None."""
    rows = [",".join(Record._fields)]
    rows += [
        ",".join("" if value is None else str(round(value, 6)) for value in record)
        for record in history
    ]
    return "\n".join(rows) + "\n"
