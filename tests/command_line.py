"""What the tests of the commands share: a small training, and what it leaves."""

import csv
import json
from pathlib import Path

from numpy_vae.__main__ import main
from numpy_vae.runs.checkpoint import load_checkpoint, save_checkpoint

PNG = b"\x89PNG\r\n\x1a\n"


def train(*words):
    """Train a small model on the small images of the fixture `folder`."""
    return main(["train", "--data", "small.npy", "--hidden", "7", "--latent", "2", *words])


def train_with_kept(*words):
    """Train a run, and let the parameters that are kept be others than the average and the last."""
    assert (
        train("--batch-size", "5", "--epochs", "2", "--average", "--validation", "15", *words) == 0
    )
    path = Path(words[words.index("--out") + 1]) / "checkpoint.npz"
    found = load_checkpoint(path)
    found.best.params.flat[:] *= 0.5
    save_checkpoint(path, found)
    ends = [params.flat.tobytes() for params in found.vectors.values()]
    assert len(ends) == len(set(ends)) == 3
    return found.kept


def change_settings(name, **changes):
    """Change the settings in the checkpoint of a run."""
    path = Path(name) / "checkpoint.npz"
    found = load_checkpoint(path)
    save_checkpoint(path, found._replace(settings=found.settings | changes))


def listing(path):
    """Return the files below a folder."""
    return sorted(str(p.relative_to(path)) for p in Path(path).rglob("*") if p.is_file())


def metrics_of(name="out"):
    """Return the result of a run."""
    return json.loads((Path(name) / "metrics.json").read_text())


def rows_of(name="out"):
    """Return the rows of the history of a run."""
    with open(f"{name}/history.csv", newline="") as file:
        return list(csv.DictReader(file))


def refusal(capsys, *words):
    """Return the line with which a command refuses its arguments, having printed nothing else."""
    capsys.readouterr()
    try:
        status = main(list(words))
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last.startswith(f"numpy-vae {words[0]}: error: ")
    return last


def assert_a_full_disk_keeps(out, command, capsys, monkeypatch):
    """A command makes the folder of `out`; where the disk is full, the old file stays."""
    words = [command, "run", "--out", out]
    assert main(words) == 0
    before = Path(out).read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    capsys.readouterr()
    assert main([*words, "--overwrite"]) == 1
    error = capsys.readouterr().err
    assert error == f"numpy-vae {command}: error: {out}: No space left on device\n"
    assert Path(out).read_bytes() == before
