"""Which files of a run's folder are its own, and may be replaced or removed unasked.

`files.json` lists what commands wrote there under names of their own choice (`NAMES`): of each file
the SHA-256 of its bytes, and the model that it shows. A file is the run's own as long as its bytes
are those listed. What somebody else put there, or has edited since, is theirs, and so is what they
gave a name to: it is replaced only when they say so, and never removed.

A name is listed before its file takes it, with the digest of the file that it replaces beside the
new one. A crash at any moment leaves a list that knows whichever of the two is there.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .files import atomic_write, sha256, write_text

LIST = "files.json"
METRICS = "metrics.json"
DERIVED = ("samples.png", "latents.npz", "explorer.html")  # of sample, encode, explore
# Of the figures; here too, since `figures` loads matplotlib. A test compares.
FORMATS = ("png", "pdf", "svg")
FIGURES = (
    "training", "reconstructions", "samples", "latent", "manifold", "interpolations", "kl",
    "traversals", "factors", "latent_factors",
)  # fmt: skip
NAMES = (METRICS, *DERIVED, *(f"figures/{name}.{kind}" for kind in FORMATS for name in FIGURES))


class OwnFiles:
    """The files that commands write into the folder of a run.

    Parameters
    ----------
    folder : Path
    overwrite : bool
        Whether files that are not the run's own may be replaced.

    Attributes
    ----------
    kept : list of Path
        What `write_or_keep` has left as it was.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        self.folder, self.overwrite = folder, overwrite
        self.kept: list[Path] = []

    def is_own(self, path: Path) -> bool:
        """Return whether a file is as a command wrote it; `metrics.json` always is."""
        name = self._name(path)
        if name is None or path.is_symlink() or not path.is_file():
            return False
        return name == METRICS or _digest(path) in self._listed().get(name, {}).get("sha256", ())

    def check_free(self, path: Path) -> None:
        """Raise FileExistsError where a file may not be written, since another is there."""
        if os.path.lexists(path) and not (self.overwrite or self.is_own(path)):
            whose = "exists already"
            if self._name(path) is not None:
                whose = f"is not as the run wrote it ({LIST})"
            raise FileExistsError(errno.EEXIST, f"{whose}; --overwrite replaces it", str(path))

    @contextmanager
    def write(self, path: Path, model: str) -> Iterator[IO[bytes]]:
        """Open a file as `files.atomic_write`, and list it with the model that it shows.

        Raises
        ------
        FileExistsError
            If a file that may not be replaced is there when it is to take its name.
        OSError
            As `files.atomic_write`.
        """

        def seal(digest: str) -> None:
            self.check_free(path)
            name = self._name(path)
            if name is not None:
                known = [_digest(path), digest] if self.is_own(path) else [digest]
                self._list(self._listed() | {name: {"model": model, "sha256": known}})

        with atomic_write(path, seal) as stream:
            yield stream

    @contextmanager
    def write_or_keep(self, path: Path, model: str) -> Iterator[IO[bytes]]:
        """As `write`, but where the file may not be replaced leave it, and note it in `kept`."""
        try:
            self.check_free(path)
        except FileExistsError:
            self.kept.append(path)
            yield io.BytesIO()
        else:
            with self.write(path, model) as stream:
                yield stream

    def remove_stale(self, model: str) -> list[str]:
        """Remove the run's own files that show another model; return their names."""
        listed = self._listed()
        stale = [name for name in (METRICS, *listed) if listed.get(name, {}).get("model") != model]
        removed = [name for name in dict.fromkeys(stale) if self.is_own(self.folder / name)]
        for name in removed:
            (self.folder / name).unlink(missing_ok=True)
        if listed.keys() & set(stale):
            self._list({name: entry for name, entry in listed.items() if name not in stale})
        return removed

    def _name(self, path: Path) -> str | None:
        """Return the name under which a file is listed, if it is one of `NAMES`."""
        whole = path.parent.resolve() / path.name
        if not whole.is_relative_to(self.folder.resolve()):
            return None
        name = whole.relative_to(self.folder.resolve()).as_posix()
        return name if name in NAMES else None

    def _listed(self) -> dict[str, dict[str, Any]]:
        """Return the list; of one that is not there, or is damaged, nothing."""
        with suppress(OSError, ValueError, RecursionError, AttributeError, TypeError, KeyError):
            listed = json.loads((self.folder / LIST).read_bytes())
            return {n: e for n, e in listed.items() if isinstance(e["sha256"], list)}
        return {}

    def _list(self, listed: dict[str, dict[str, Any]]) -> None:
        # Of two commands that write at once one may lose its entry: its file then counts as yours.
        write_text(self.folder / LIST, json.dumps(listed, indent=1) + "\n")


def _digest(path: Path) -> str:
    with open(path, "rb") as stream:
        return sha256(stream)
