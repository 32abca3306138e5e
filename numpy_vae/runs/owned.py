"""Which files of a run's folder are its own: commands may replace or remove them unasked.

`files.json` lists the files that commands wrote there under their default names (`NAMES`): the last
few SHA-256 digests of each, and the model that it shows. A file is the run's own while its digest
is listed. A file that the user created, edited or named is replaced only with `overwrite`, and
never removed. A new digest is listed before the file takes its name, and earlier digests stay
listed: so after a crash at any moment the list knows the file that is there, old or new.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..figures import FIGURES, FORMATS
from ..files import atomic_write, check_absent, lock, open_file, remove_torn, sha256, write_text

LIST = "files.json"
CONFIG, HISTORY, METRICS = "config.json", "history.csv", "metrics.json"
DERIVED = ("samples.png", "latents.npz", "explorer.html")  # of sample, encode, explore
NAMES = (
    *(CONFIG, HISTORY, METRICS, *DERIVED),
    *(f"figures/{name}.{kind}" for kind in FORMATS for name in FIGURES),
)
KNOWN = 4  # digests listed for one file; it must exceed the commands that write it at once


class OwnFiles:
    """The files that commands write into a run's folder.

    With `overwrite`, they may replace the user's files. `kept` are files that were not replaced.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        self.folder, self.overwrite = folder, overwrite
        self.kept: set[Path] = set()

    def read_list(self) -> dict[str, dict[str, Any]]:
        """Return the list, empty if there is no files.json; raise OSError if it is damaged."""
        import json

        path = self.folder / LIST
        try:
            with open_file(path) as stream:
                text = stream.read()
            listed = json.loads(text) if text else {}
            return {n: e for n, e in listed.items() if list(e["sha256"])}
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
            raise OSError(
                f"{path} is damaged: remove it, and the files that it listed will count as yours"
            ) from None

    def is_own(self, path: Path) -> bool:
        """Return whether a file is as a command wrote it; OSError if files.json is damaged."""
        if path.is_symlink() or not path.is_file():
            return False
        try:
            with open(path, "rb") as stream:
                digest = sha256(stream)
        except OSError:  # no permission to read it
            return False
        # Read the list after the file: another command that replaces both writes the list first.
        return digest in self.read_list().get(self._name(path) or "", {}).get("sha256", ())

    def check_free(self, path: Path) -> None:
        """Raise FileExistsError if `path` holds a file that may not be replaced."""
        self.read_list()  # raises if files.json is damaged
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "is not a file", str(path))
        if self.overwrite or not os.path.lexists(path) or self.is_own(path):
            return
        if self._name(path) is not None:
            whose = f"is not the file that the run wrote ({LIST}); --overwrite replaces it"
            raise FileExistsError(errno.EEXIST, whose, str(path))
        check_absent(path)

    @contextmanager
    def write(self, path: Path, model: str | None) -> Iterator[IO[bytes]]:
        """Like `files.atomic_write`, and list the file with the model that it shows, if any.

        FileExistsError if `path` holds a file that may not be replaced when the block ends.
        """

        def seal(digest: str) -> None:
            self.check_free(path)
            if (name := self._name(path)) is None:
                return
            with self._changing() as listed:
                known = [*listed.get(name, {}).get("sha256", ()), digest]
                listed[name] = {"model": model, "sha256": known[-KNOWN:]}

        with atomic_write(path, seal) as stream:
            yield stream
        remove_torn(path.parent)

    @contextmanager
    def write_or_keep(self, path: Path, model: str | None) -> Iterator[IO[bytes]]:
        """Like `write`, but a file that may not be replaced stays, and is noted in `kept`."""
        try:
            self.check_free(path)
        except FileExistsError:
            self.kept.add(path)
            yield io.BytesIO()
        else:
            with self.write(path, model) as stream:
                yield stream

    def not_own(self) -> list[str]:
        """Return the names in `NAMES` whose files are not the run's own."""
        paths = {name: self.folder / name for name in NAMES}
        return [n for n, path in paths.items() if os.path.lexists(path) and not self.is_own(path)]

    def remove_stale(self, model: str) -> list[str]:
        """Remove the run's own files that show a model other than this; return their names."""
        shows = {name: entry.get("model") for name, entry in self.read_list().items()}
        stale = [name for name, shown in shows.items() if shown not in (model, None)]
        if not stale:
            return []
        removed = [name for name in stale if self.is_own(self.folder / name)]
        for name in removed:
            (self.folder / name).unlink(missing_ok=True)
        with self._changing() as listed:
            for name in stale:
                listed.pop(name, None)
        return removed

    def _name(self, path: Path) -> str | None:
        """Return the name of a file in `NAMES`, or None."""
        for prefix, folder in ("", self.folder), ("figures/", self.folder / "figures"):
            if path.parent.resolve() == folder.resolve() and prefix + path.name in NAMES:
                return prefix + path.name
        return None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Lock the list, yield it, and write it back."""
        import json

        path = self.folder / LIST
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                lock(handle, wait=True)
                if _is_at(handle, path):  # else another command replaced the list meanwhile
                    listed = self.read_list()
                    yield listed
                    write_text(path, json.dumps(listed, indent=1) + "\n")
                    return
            finally:
                os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
