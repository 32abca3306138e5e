"""The list of a run's own files: what may be replaced or removed unasked, and nothing else."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from numpy_vae.runs import owned
from numpy_vae.runs.owned import LIST, NAMES, OwnFiles


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run/figures").mkdir(parents=True)
    return Path("run")


def write(path, text, model="a", **options):
    with OwnFiles(Path("run"), **options).write(Path(path), model) as stream:
        stream.write(text.encode())


def listed():
    return json.loads(Path("run", LIST).read_text())


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", [NAMES[0], "samples.png", "figures/kl.pdf"])
def test_what_a_command_wrote_is_listed_and_may_be_replaced(run, name):
    write(run / name, "one")
    assert OwnFiles(run).is_own(run / name)
    assert listed() == {name: {"model": "a", "sha256": [digest("one")]}}
    write(run / name, "two", "b")
    assert (run / name).read_text() == "two"
    assert listed() == {name: {"model": "b", "sha256": [digest("one"), digest("two")]}}
    write(run / name, "three", "c")
    assert listed()[name]["sha256"] == [digest(text) for text in ("one", "two", "three")]
    for text in "four", "five":
        write(run / name, text, "c")
    assert listed()[name]["sha256"] == [digest(t) for t in ("two", "three", "four", "five")]


@pytest.mark.parametrize("mine", ["put there", "edited", "link", "dangling link"])
def test_what_is_not_as_a_command_wrote_it_is_replaced_only_when_told(run, mine):
    path = run / "samples.png"
    if mine != "put there":
        write(path, "own")
    if "link" in mine:
        path.rename("elsewhere")
        path.symlink_to("../elsewhere" if mine == "link" else "../nowhere")
    else:
        path.write_text("mine")
    assert not OwnFiles(run).is_own(path)
    with pytest.raises(FileExistsError, match=r"is not the file that the run wrote \(files.json\)"):
        OwnFiles(run).check_free(path)
    with pytest.raises(FileExistsError):
        write(path, "new")
    assert path.is_symlink() or path.read_text() == "mine"
    assert OwnFiles(run).remove_stale("another") == [] and os.path.lexists(path)
    write(path, "new", overwrite=True)
    assert path.read_text() == "new" and OwnFiles(run).is_own(path)
    if "link" in mine:
        assert Path("elsewhere").read_text() == "own"


@pytest.mark.parametrize("path", ["run/epoch5.npz", "elsewhere.npz", "run/figures/mine.png"])
def test_a_file_that_the_user_named_is_not_listed(run, path):
    write(path, "new")
    assert not Path("run", LIST).exists() and not OwnFiles(run).is_own(Path(path))
    with pytest.raises(FileExistsError, match="exists already; --overwrite replaces it"):
        write(path, "newer")
    assert OwnFiles(run).remove_stale("another") == [] and Path(path).read_text() == "new"


def test_a_file_that_appears_meanwhile_is_kept(run):
    path = run / "latents.npz"
    with pytest.raises(FileExistsError), OwnFiles(run).write(path, "a") as stream:
        stream.write(b"of an hour's work")
        path.write_text("mine")
    assert path.read_text() == "mine" and [p.name for p in run.iterdir() if p.is_file()] == [
        "latents.npz"
    ]


def test_a_crash_between_the_list_and_the_file_leaves_a_file_that_is_own(run, monkeypatch):
    path = run / "samples.png"
    write(path, "one")

    def dies(source, target):
        if Path(target) == path:
            raise SystemError("killed")
        replace(source, target)

    replace = os.replace
    with monkeypatch.context() as patch, pytest.raises(SystemError):
        patch.setattr(os, "replace", dies)
        write(path, "two", "b")
    assert path.read_text() == "one" and OwnFiles(run).is_own(path)
    write(path, "three", "c")
    assert path.read_text() == "three" and OwnFiles(run).is_own(path)


def test_stale_files_are_those_of_another_model(run):
    for name, model in ("samples.png", "a"), ("latents.npz", "b"), ("figures/kl.png", "a"):
        write(run / name, name, model)
    write(run / "history.csv", "shows no model", None)
    (run / "metrics.json").write_text("mine")
    (run / "figures/training.png").write_text("mine")
    assert OwnFiles(run).remove_stale("b") == ["samples.png", "figures/kl.png"]
    assert sorted(p.name for p in run.rglob("*") if p.is_file()) == [
        LIST, "history.csv", "latents.npz", "metrics.json", "training.png"
    ]  # fmt: skip
    assert list(listed()) == ["latents.npz", "history.csv"]
    before = (run / LIST).stat().st_mtime_ns
    assert OwnFiles(run).remove_stale("b") == []
    assert (run / LIST).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "text",
    ["{", "[1]", '{"samples.png": 3}', '{"samples.png": {"sha256": 3}}', "[" * 100_000,
     '{"samples.png": {"model": "x"}}', "\0"],
)  # fmt: skip
def test_a_damaged_list_is_reported_and_not_replaced(run, text):
    (run / LIST).write_text(text)
    (run / "samples.png").write_text("mine")
    own = OwnFiles(run, overwrite=True)
    for use in own.is_own, own.check_free, lambda path: write(path, "new"):
        with pytest.raises(OSError, match=r"files.json is damaged: remove it"):
            use(run / "samples.png")
    with pytest.raises(OSError, match="is damaged"):
        own.remove_stale("another")
    assert (run / LIST).read_text() == text and (run / "samples.png").read_text() == "mine"


@pytest.mark.parametrize(
    "text", ["", '{"../mine": {"model": "x", "sha256": ["%s"]}}', '{"a\\u0000b": {"sha256": []}}']
)
def test_names_that_no_command_chooses_are_not_on_the_list(run, text):
    (run / LIST).write_text(text.replace("%s", digest("mine")))
    Path("mine").write_text("mine")
    assert OwnFiles(run).remove_stale("another") == []
    assert not OwnFiles(run).is_own(Path("mine")) and Path("mine").read_text() == "mine"
    write(run / "latents.npz", "own")
    assert "latents.npz" in listed()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes of this kind")
def test_a_list_that_is_a_pipe_is_not_waited_for(run):
    os.mkfifo(run / LIST)
    with pytest.raises(OSError, match="is damaged"):
        OwnFiles(run).check_free(run / "samples.png")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_writers_at_the_same_time_lose_no_entry(run):
    names = ["samples.png", "latents.npz", "explorer.html", "metrics.json"]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            list(pool.map(lambda name: write(run / name, name), 2 * names))
            assert sorted(listed()) == sorted(names)
    assert all(OwnFiles(run).is_own(run / name) for name in names)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_a_list_that_was_replaced_while_its_lock_was_waited_for_is_locked_anew(run, monkeypatch):
    locks = []

    def waits(handle, wait):
        locks.append(handle)
        if len(locks) == 1:
            write(run / "latents.npz", "of another command")
        return lock(handle, wait=wait)

    write(run / "samples.png", "own")
    lock = owned.lock
    monkeypatch.setattr(owned, "lock", waits)
    write(run / "metrics.json", "own")
    assert len(locks) == 3  # one of the other command, and one that came too late
    assert sorted(listed()) == ["latents.npz", "metrics.json", "samples.png"]


def test_a_file_is_known_however_its_path_is_written(run):
    write(run.resolve() / "samples.png", "own")
    write("run/figures/../figures/kl.png", "own")
    assert sorted(listed()) == ["figures/kl.png", "samples.png"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_what_a_killed_command_left_beside_a_file_goes_when_that_is_written(run):
    Path(".numpy-vae-0123abc_.tmp").write_text("half of it")
    write("elsewhere.npz", "new")
    assert sorted(p.name for p in Path().iterdir()) == ["elsewhere.npz", "run"]


def test_figures_may_lie_behind_a_link(run):
    (run / "figures").rename("elsewhere")
    (run / "figures").symlink_to("../elsewhere")
    write(run / "figures/kl.png", "own")
    assert OwnFiles(run).is_own(run / "figures/kl.png")
    assert OwnFiles(run).remove_stale("b") == ["figures/kl.png"]


def test_a_file_that_may_not_be_read_is_not_own(run, monkeypatch):
    write(run / "samples.png", "own")

    def refuses(stream):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("numpy_vae.runs.owned.sha256", refuses)
    assert not OwnFiles(run).is_own(run / "samples.png")


def test_a_file_that_may_not_be_replaced_can_be_left(run):
    own = OwnFiles(run)
    (run / "samples.png").write_text("mine")
    for name in "samples.png", "latents.npz":
        with own.write_or_keep(run / name, "a") as stream:
            stream.write(b"new")
    assert own.kept == {run / "samples.png"}
    assert (run / "samples.png").read_text() == "mine"
    assert (run / "latents.npz").read_text() == "new"
