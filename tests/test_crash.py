"""A crash, or an error, at each system call that changes files, one after another.

`TABLES` holds these calls for each command, in order. Before each call the test records what the
folder holds, which is what a kill there would leave (see `crash`), and checks that

- a file that the command must not replace is unchanged;
- a file that it replaces is the old one or the new one, whole; when a run is replaced or resumed,
  its checkpoint is replaced first;
- nothing else is there but hidden temporary files;
- training that goes on from there ends as it does undisturbed.

Then one of the calls fails in each run, and so do later calls of that name on the same file, since
Python writes its buffer again when it closes a file. The command must report that in a line or two,
and leave not even a temporary file. Of many similar calls three are tried (see `chosen`).
"""

import csv
import errno
import functools
import io
import json
import os
import re
import tempfile
import zipfile
from contextlib import contextmanager, nullcontext, suppress
from fnmatch import fnmatch
from itertools import chain, groupby
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import crash
import numpy as np
import pytest
from command_line import PNG

import numpy_vae.figures.of_a_run
import numpy_vae.figures.plots
from numpy_vae.__main__ import main
from numpy_vae.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

TRAIN = ["train", "--data", "small.npy", "--hidden", "7", "--latent", "2", "--epochs", "2"]
MINE = ("small.npy", "x.npz", "run/notes.txt", "run/figures/mine.png")
DERIVED = ("run/samples.png", "run/latents.npz", "run/explorer.html")
EVERYTHING = ("run/*",)
LIST = "run/files.json"
WHOLE = "open write fsync chmod rename"


class Case(NamedTuple):
    """A command, and what it may do to the files that are there before; paths are patterns."""

    words: list[str]
    replaces: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()  # even so
    removes: tuple[str, ...] = ()  # before it writes the new one, or for good
    start: str = "run"  # a state of `Place`


CASES = {
    "train": Case([*TRAIN, "--out", "run"], start="data"),
    "overwrite": Case(
        [*TRAIN, "--out", "run", "--overwrite"],
        EVERYTHING, MINE, (*DERIVED, "run/metrics.json", "run/figures/*"),
    ),
    "resume": Case(
        ["train", "--resume", "run", "--epochs", "3"],
        EVERYTHING, MINE, (*DERIVED, "run/metrics.json", "run/figures/*"),
    ),
    "plot": Case(["plot", "run"], ("run/figures/*", LIST), MINE),
    "plot out": Case(["plot", "run", "--out", "paper"]),
    "sample": Case(["sample", "run"], ("run/samples.png", LIST)),
    "sample out": Case(["sample", "run", "--out", "x.npz", "--overwrite"], ("x.npz",)),
    "encode": Case(["encode", "run"], ("run/latents.npz", LIST)),
    "explore": Case(["explore", "run"], ("run/explorer.html", LIST)),
    "evaluate": Case(["evaluate", "run", "--samples", "50", "--json"]),
}  # fmt: skip

# A line for each file that is written; a temporary file stands under the name that it takes.
# Repeated writes count once: how many there are depends on the buffer. LIST stands for the calls
# that write files.json, which is created empty. Figures in a row are counted. To change a table,
# paste the one that the failure prints.
TABLES = {
    "train": """
        run: mkdir
        run/checkpoint.npz: open write fsync chmod rename
        run/history.csv: open write fsync chmod LIST rename
        run/config.json: open write fsync chmod LIST rename
        run/figures: mkdir
        run/checkpoint.npz: open write fsync chmod rename
        run/history.csv: open write fsync chmod LIST rename
        run/checkpoint.npz: open write fsync chmod rename
        run/history.csv: open write fsync chmod LIST rename
        run/metrics.json: open write fsync chmod LIST rename
        8 of run/figures: open write fsync chmod LIST rename
        run/metrics.json: open write fsync chmod LIST rename
    """,
    "overwrite": """
        run/checkpoint.npz: open write fsync chmod rename
        run/history.csv: open write fsync chmod LIST rename
        run/config.json: open write fsync chmod LIST rename
        run/metrics.json: unlink
        8 of run/figures: unlink
        run/explorer.html: unlink
        run/samples.png: unlink
        run/latents.npz: unlink
        run/files.json: open write fsync chmod rename
        run/checkpoint.npz: open write fsync chmod rename
        run/history.csv: open write fsync chmod LIST rename
        run/checkpoint.npz: open write fsync chmod rename
        run/history.csv: open write fsync chmod LIST rename
        run/metrics.json: open write fsync chmod LIST rename
        8 of run/figures: open write fsync chmod LIST rename
        run/metrics.json: open write fsync chmod LIST rename
    """,
    "resume": """
        run/checkpoint.npz: open write fsync chmod rename
        run/history.csv: open write fsync chmod LIST rename
        run/config.json: open write fsync chmod LIST rename
        run/checkpoint.npz: open write fsync chmod rename
        run/history.csv: open write fsync chmod LIST rename
        run/metrics.json: unlink
        8 of run/figures: unlink
        run/explorer.html: unlink
        run/samples.png: unlink
        run/latents.npz: unlink
        run/files.json: open write fsync chmod rename
        run/metrics.json: open write fsync chmod LIST rename
        8 of run/figures: open write fsync chmod LIST rename
        run/metrics.json: open write fsync chmod LIST rename
    """,
    "plot": """
        8 of run/figures: open write fsync chmod LIST rename
    """,
    "plot out": """
        paper: mkdir
        8 of paper: open write fsync chmod rename
    """,
    "sample": """
        run/samples.png: open write fsync chmod LIST rename
    """,
    "sample out": """
        x.npz: open write fsync chmod rename
    """,
    "encode": """
        run/latents.npz: open write fsync chmod LIST rename
    """,
    "explore": """
        run/explorer.html: open write fsync chmod LIST rename
    """,
    "evaluate": """
    """,
}


# What a folder holds -----------------------------------------------------------------------------


def snapshot(folder, start=""):
    """Return the bytes of each file in a folder by its path, and None for each folder."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            path = start + entry.name
            if entry.is_dir(follow_symlinks=False):
                found |= {path: None} | snapshot(entry.path, path + "/")
            else:
                with open(entry.path, "rb", 0) as file:
                    found[path] = file.read()
    return found


def restore(folder, state):
    """Let a folder hold what it held before."""
    now = snapshot(folder)
    for path in sorted(now.keys() - state.keys(), reverse=True):  # files before their folders
        (os.rmdir if now[path] is None else os.unlink)(folder / path)
    for path, data in sorted(state.items()):
        if data is None:
            os.makedirs(folder / path, exist_ok=True)
        elif now.get(path) != data:
            (folder / path).write_bytes(data)


@functools.cache
def content(path, data):
    """Return what a file says, the clock apart; raise ValueError if it is not whole."""
    if path.endswith("checkpoint.npz"):
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            load_checkpoint(file.name)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return tuple((m, archive.read(m)) for m in archive.namelist() if m != "clock.npy")
    if path.endswith(".csv"):
        rows = list(csv.reader(io.StringIO(data.decode())))
        if not data.endswith(b"\n") or any(len(row) != len(rows[0]) for row in rows):
            raise ValueError("a row is torn")
        columns = [i for i, name in enumerate(rows[0]) if "seconds" not in name]
        return tuple(row[i] for row in rows for i in columns)
    if path.endswith(".json"):
        found = json.loads(data or (b"{}" if path == LIST else b""))  # the list begins empty
        if path == LIST:  # a digest is also of the clock in metrics.json
            found = {name: entry["model"] for name, entry in found.items()}
        elif isinstance(found, dict):
            found = {k: v for k, v in found.items() if "seconds" not in k and "memory" not in k}
        return repr(found)
    return data


def contents(state):
    """Return what the files of a folder say, by path; of a temporary file only that it is there."""
    found = {}
    for name, data in state.items():
        path = crash.masked(name)
        found[path] = data if path == name else None
        if found[path] is not None:
            with suppress(ValueError):
                found[path] = content(path, data)
    return found


def difference(one, other):
    """Return the paths in which two folders differ, as text."""
    pairs = contents(one).items() ^ contents(other).items()
    return ", ".join(sorted({path for path, _ in pairs}))


def is_hidden(path):
    return os.path.basename(path).startswith(".")


def nothing(path):
    return False


def broken(case, before, after, state, left=nothing):
    """Yield the promises that are broken in a state between `before` and `after` a command.

    ``left(path)`` says of a file that is in neither whether it may be there.
    """
    checkpoint = case.replaces == EVERYTHING and before["run/checkpoint.npz"]
    if checkpoint and state.get("run/checkpoint.npz") == checkpoint:
        touched = [path for path, data in before.items() if state.get(path, b"") != data]
        yield from (f"{path} is touched before the checkpoint is replaced" for path in touched)

    def any_of(patterns, path):
        return any(fnmatch(path, pattern) for pattern in patterns)

    def replaced(path):
        return any_of(case.replaces, path) and not any_of(case.keeps, path)

    for path in before.keys() - state.keys():
        if not replaced(path):
            yield f"{path} was to be left alone and is gone"
        elif path in after and not any_of(case.removes, path):
            yield f"{path} was to be replaced and is gone"
    for path, data in state.items():
        same = [path in held and data == held[path] for held in (before, after)]
        if path in before and not replaced(path):
            if not same[0]:
                yield f"{path} was to be left alone and is changed"
        elif path not in before and path not in after:
            if not left(path):
                yield f"{path} is left behind"
        elif not any(same):
            try:
                if content(path, data) == data:  # it has no versions in between
                    yield f"{path} is neither the old one nor the new one"
            except ValueError as error:
                yield f"{path} is not whole ({error})"


# The commands ------------------------------------------------------------------------------------


class Blank:
    """A figure that takes no time to draw, and is written like any other."""

    axes = (SimpleNamespace(images=()),)
    age = ""

    def __init__(self, *args, **settings):
        pass

    def subplots(self, rows=1, columns=1):
        return [None] * columns

    def suptitle(self, text, **settings):
        self.text = text

    def savefig(self, stream, **settings):
        stream.write(PNG + f"{self.age} {self.text}".encode())


class Place:
    """A folder in which commands are disturbed, and what it held before, by name."""

    def __init__(self, folder, states):
        self.folder, self.states, self.ends = folder, states, {}

    def trace(self, case, at):
        """Run the command of a case on what it starts from."""
        restore(self.folder, self.states[case.start])
        return crash.trace(self.folder, lambda: main(case.words), at)

    def record(self, case):
        """Return the calls of a command, and what there was before each and after the last."""
        calls, states = [], []

        def at(call):
            calls.append(call)
            states.append(snapshot(self.folder))

        assert self.trace(case, at) == (0, "")
        return calls, [*states, snapshot(self.folder)]

    @functools.cache  # noqa: B019
    def undisturbed(self, name):
        """Return what `record` finds."""
        return self.record(CASES[name])

    def astray(self, name, state):
        """Yield how a training that goes on from a state does not end as it does undisturbed."""
        case, (_, states) = CASES[name], self.undisturbed(name)
        if case.words[0] != "train":
            return
        old, now = (contents(s).get("run/checkpoint.npz") for s in (states[0], state))
        words = case.words if now in (None, old) else ["train", "--resume", "run"]
        key = name, frozenset(contents(state).items())
        if key not in self.ends:
            restore(self.folder, state)
            self.ends[key] = main([*words, "--quiet"]), snapshot(self.folder)
        status, end = self.ends[key]
        if status or (differing := difference(end, states[-1])):
            yield f"then {' '.join(words)}: " + (f"status {status}" if status else differing)


@pytest.fixture(scope="module")
def place():
    """Make a folder with images, an older run, and files of the user."""
    if reason := crash.unavailable():
        pytest.skip(reason)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where files take no time
    with tempfile.TemporaryDirectory(dir=memory) as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        # What takes its time and writes nothing.
        patch.setattr("matplotlib.rc_context", lambda *args: nullcontext())
        patch.setattr(numpy_vae.figures.of_a_run, "Figure", Blank)
        for name in list(vars(numpy_vae.figures.plots)):
            if name.startswith("plot_"):
                patch.setattr(numpy_vae.figures.plots, name, lambda *args: None)
        patch.chdir(folder)
        np.save("small.npy", np.random.default_rng(0).random((60, 4, 5)).astype(np.float32))
        states = {"data": snapshot(folder)}
        patch.setattr(Blank, "age", "old")
        for words in (
            [*TRAIN, "--out", "run", "--seed", "1"], ["explore", "run", "--no-points"],
            ["sample", "run"], ["encode", "run", "--seed", "1"],
            ["sample", "run", "--seed", "1", "--out", "x.npz"],
        ):  # fmt: skip
            assert main(words) == 0
        for path in MINE[2:]:
            Path(path).write_text("mine")
        states["run"] = snapshot(folder)
        patch.setattr(Blank, "age", "new")
        yield Place(folder, states)


def table(calls):
    """Return the lines of a table."""
    lines, last = [], None
    for call, path in zip(calls, meant(calls), strict=True):
        if path != last:
            lines.append([path])
        last = path
        if lines[-1][-1] != call.name:
            lines[-1].append(call.name)
        if call.name == "rename":
            last = None
    text = "\n".join(f"{path}: {' '.join(words)}" for path, *words in lines)
    # The list is written between a file and its new name.
    listed = rf"^(.*): (open write fsync chmod)\n{LIST}: (?:open )?{WHOLE}\n\1: "
    lines = re.sub(listed, r"\1: \2 LIST ", text, flags=re.MULTILINE).splitlines()
    found = []
    figures = re.compile(r"(run/figures|paper)/\w+\.png: (.*)")
    for match, group in groupby(lines, lambda line: (m := figures.match(line)) and m.groups()):
        alike = list(group)
        found += [f"{len(alike)} of {': '.join(match)}"] if match else alike
    return found


def meant(calls):
    """Return the file that each call is about: of a temporary one, the one that it becomes."""
    names = {call.paths[0]: call.paths[1] for call in calls if call.name == "rename"}
    return [names.get(call.paths[0], call.paths[0]) for call in calls]


def chosen(calls):
    """Return the numbers of calls: of more than three alike the first two and the last.

    Alike are the same calls on one file, and those on figures.
    """
    alike = {}
    for n, (call, name) in enumerate(zip(calls, meant(calls), strict=True)):
        path = Path(name)
        kind = path.parent if path.parent.name == "figures" else path
        alike.setdefault((call.name, kind), []).append(n)
    return sorted(chain.from_iterable(
        numbers if len(numbers) <= 3 else [*numbers[:2], numbers[-1]] for numbers in alike.values()
    ))  # fmt: skip


every_command = pytest.mark.parametrize("name", CASES)


@every_command
def test_the_calls_are_those_of_the_table(place, name):
    found = table(place.undisturbed(name)[0])
    expected = [line.strip() for line in TABLES[name].strip().splitlines()]
    lines = "".join(f"        {line}\n" for line in found)
    assert found == expected, f'the table is now\n\n    "{name}": """\n{lines}    """,\n'


@every_command
def test_what_is_renamed_is_on_the_disk(place, name):
    # Else a power cut could leave a file under its new name and without its bytes.
    dirty = set()
    for call in place.undisturbed(name)[0]:
        if call.name == "rename":
            assert call.paths[0] not in dirty, str(call)
        elif call.name in ("fsync", "fdatasync"):
            dirty.discard(call.paths[0])
        elif call.name != "chmod":
            dirty.add(call.paths[0])


@every_command
def test_a_kill_at_any_call_leaves_every_file_whole(place, name):
    calls, states = place.undisturbed(name)
    found = []
    for n, (call, state) in enumerate(zip([*calls, "the end"], states, strict=True), 1):
        left = is_hidden if n < len(states) else nothing
        wrong = broken(CASES[name], states[0], states[-1], state, left)
        found += [f"at {n}, {call}: {text}" for text in [*wrong, *place.astray(name, state)]]
    assert not found, "\n".join(found)


@every_command
def test_an_error_of_any_call_is_reported_and_leaves_every_file_whole(place, name):
    case, (calls, states) = CASES[name], place.undisturbed(name)
    found = []
    for n in chosen(calls):
        done = []

        def at(call, n=n, done=done):
            done.append(call)
            if len(done) <= n or str(call) != str(done[n]):
                return None
            return errno.EPERM if call.name in ("unlink", "rmdir", "chmod") else errno.ENOSPC

        ended = place.trace(case, at)
        state = snapshot(place.folder)
        assert str(done[n]) == str(calls[n])
        left = set(done[n].paths if done[n].name in ("unlink", "rmdir") else ()).__contains__
        wrong = list(broken(case, states[0], states[-1], state, left))
        if ended.status == 0:
            wrong += [f"status 0: {text}" for text in [difference(state, states[-1])] if text]
        elif ended.status not in (1, 2) or len(ended.error.splitlines()) not in (1, 2):
            wrong.append(f"status {ended.status}: {ended.error}")
        found += [f"{n + 1}, {calls[n]}: {text}" for text in [*wrong, *place.astray(name, state)]]
    assert not found, "\n".join(found)


# The test itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["overwrite", "sample"])
def test_a_kill_leaves_what_the_folder_holds_before_the_call(place, name):
    calls, states = place.undisturbed(name)
    for n in range(0, len(calls), 1 + len(calls) // 10):
        todo = iter([None] * n + [crash.KILL])
        assert place.trace(CASES[name], lambda call, todo=todo: next(todo)).status == -9
        assert not difference(snapshot(place.folder), states[n])


@pytest.mark.parametrize("name", ["encode", "resume"])
def test_a_file_that_is_written_in_place_is_found_out(place, name, monkeypatch):
    @contextmanager
    def in_place(path, seal=None):
        with open(path, "wb") as stream:
            yield stream

    monkeypatch.setattr("numpy_vae.runs.owned.OwnFiles.check_free", lambda self, path: None)
    monkeypatch.setattr("numpy_vae.files.atomic_write", in_place)
    monkeypatch.setattr("numpy_vae.runs.owned.atomic_write", in_place)
    _, states = place.record(CASES[name])
    found = [text for state in states for text in broken(CASES[name], states[0], states[-1], state)]
    files = ["checkpoint.npz", "config.json", "history.csv", "metrics.json", "figures/kl.png"]
    written = {f"run/{file}" for file in (files if name == "resume" else ["latents.npz"])}
    assert written <= {text.split()[0] for text in found}
