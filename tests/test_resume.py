"""Runs that are stopped: by Ctrl-C, by SIGKILL, by a full disk; and gone on with."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_line import change_settings, listing, metrics_of, rows_of, train

from numpy_vae.__main__ import main
from numpy_vae.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("folder")
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither these signals nor limits")

KEPT = r"the run is saved as of epoch (\d+); continue with: numpy-vae train --resume {}"
EVERYTHING = [
    "--epochs", "4", "--schedule", "cosine", "--warmup", "3", "--average", "--bound", "iwae",
    "--samples", "2", "--validation", "10",
]  # fmt: skip


def members(name):
    """Return the members of the checkpoint of a run, but for what the clock showed."""
    with zipfile.ZipFile(Path(name) / "checkpoint.npz") as archive:
        return {m: archive.read(m) for m in archive.namelist() if m != "clock.npy"}


def assert_same_run(one, two):
    """Two runs agree in every byte but for the clock, and so do the files made from them."""
    assert members(one) == members(two)
    for path in "config.json", "figures":
        assert (Path(one) / path).exists() and (Path(two) / path).exists()
    assert (Path(one) / "config.json").read_bytes() == (Path(two) / "config.json").read_bytes()
    assert listing(one) == listing(two)  # nor is anything torn left behind
    columns = [column for column in rows_of(one)[0] if "seconds" not in column]
    for a, b in zip(rows_of(one), rows_of(two), strict=True):
        assert [a[column] for column in columns] == [b[column] for column in columns]
    results = [metrics_of(name) for name in (one, two)]
    timed = [column for column in results[0] if "seconds" in column or "memory" in column]
    for result in results:
        for column in timed:
            del result[column]
    assert results[0] == results[1]


def test_a_run_that_was_stopped_goes_on_to_the_same_end(folder, dies_after, capsys):
    assert train(*EVERYTHING, "--out", "whole") == 0
    with dies_after(2):
        train(*EVERYTHING, "--out", "stopped")
    assert not (folder / "stopped/metrics.json").exists()
    capsys.readouterr()
    assert main(["train", "--resume", "stopped"]) == 0
    assert "resumed after epoch 2" in capsys.readouterr().out
    assert_same_run("whole", "stopped")
    assert metrics_of("stopped")["seconds"] > sum(
        float(row["seconds"]) + float(row["test_seconds"]) for row in rows_of("stopped")
    )
    # One that has come to its end has nothing left to do, and stays as it is.
    before = (folder / "stopped/checkpoint.npz").read_bytes()
    mine = [Path("stopped/figures/kl.pdf"), Path("stopped/.config.json.swp")]
    for path in mine:
        path.write_text("mine")
    assert main(["train", "--resume", "stopped"]) == 0
    assert "resumed after epoch 4, nothing left to train" in capsys.readouterr().out
    assert (folder / "stopped/checkpoint.npz").read_bytes() == before
    for path in mine:
        assert path.read_text() == "mine"
        path.unlink()
    assert_same_run("whole", "stopped")


@pytest.mark.slow
@pytest.mark.figures
def test_the_checkpoint_alone_brings_back_the_rest(folder, dies_after):
    assert train(*EVERYTHING, "--out", "whole") == 0
    with dies_after(3):
        train(*EVERYTHING, "--out", "stopped")
    checkpoint = Path("stopped/checkpoint.npz").read_bytes()
    shutil.rmtree("stopped")
    Path("stopped").mkdir()
    Path("stopped/checkpoint.npz").write_bytes(checkpoint)
    assert main(["train", "--resume", "stopped"]) == 0
    assert_same_run("whole", "stopped")


@pytest.mark.slow
def test_a_run_goes_on_with_its_threads_or_with_others_if_told(folder, capsys, dies_after):
    assert train("--threads", "2", "--batch-size", "15", "--out", "whole") == 0
    assert "threads 2; seed" in capsys.readouterr().out
    assert json.loads(Path("whole/config.json").read_text())["threads"] == 2
    with dies_after(1):
        train("--threads", "2", "--batch-size", "15", "--out", "stopped")
    assert main(["train", "--resume", "stopped"]) == 0
    assert_same_run("whole", "stopped")
    assert train("--threads", "1", "--batch-size", "15", "--out", "alone") == 0
    capsys.readouterr()
    longer = str(metrics_of("alone")["epochs"] + 1)
    assert main(["train", "--resume", "alone", "--epochs", longer, "--threads", "3"]) == 0
    assert load_checkpoint("alone/checkpoint.npz").settings["threads"] == 3
    assert "threads 3; seed" in capsys.readouterr().out
    elbos = metrics_of("whole")["test_elbo"], float(rows_of("alone")[-2]["test_elbo"])
    assert elbos[0] == pytest.approx(elbos[1], rel=1e-4)  # rounding apart, of the same training


def test_a_run_can_be_made_longer(folder, capsys):
    assert train("--epochs", "5", "--out", "long") == 0
    assert train("--epochs", "2", "--out", "short") == 0
    assert main(["train", "--resume", "short", "--epochs", "5"]) == 0
    assert_same_run("long", "short")
    # 40 is the default of a new run, and here a number like any other.
    assert main(["train", "--resume", "short", "--epochs", "40", "--quiet"]) == 0
    assert metrics_of("short")["epochs"] == 40
    assert load_checkpoint("short/checkpoint.npz").settings["epochs"] == 40
    capsys.readouterr()
    assert main(["train", "--resume", "short", "--epochs", "39"]) == 2
    assert "epochs is 39, must be at least 40, already trained" in capsys.readouterr().err


def test_early_stopping_keeps_the_best_epoch_and_says_so(folder, capsys):
    # One image to learn by heart: the validation ELBO soon falls.
    np.savez("few.npz", x_train=np.load("small.npy")[:30], x_test=np.load("small.npy")[30:])
    words = ["train", "--data", "few.npz", "--hidden", "50", "--latent", "5", "--lr", "0.03"]
    words += ["--batch-size", "5", "--epochs", "200", "--validation", "20", "--binarize", "static"]
    assert main([*words, "--patience", "4", "--out", "out"]) == 0
    out, result = capsys.readouterr().out, metrics_of()
    elbos = [float(row["validation_elbo"]) for row in rows_of()]
    best = 1 + int(np.argmax(elbos))
    assert (result["kept_epoch"], result["epochs"]) == (best, best + 4) and best < 190
    assert result["stopped_early"] is True and result["interrupted"] is False
    assert result["validation_elbo"] == pytest.approx(max(elbos), abs=1e-5)
    assert "stopped: no higher validation ELBO for 4 epochs" in out
    assert f"; epoch {best}, the best on the validation set)" in out
    assert "patience 4" in out.splitlines()[1]
    # It is at its end, and only with more patience would it go on.
    before = members("out")
    assert main(["train", "--resume", "out"]) == 0
    assert members("out") == before and metrics_of()["stopped_early"] is True
    shutil.copytree("out", "patient")
    assert main(["train", "--resume", "patient", "--patience", "7"]) == 0
    assert metrics_of("patient")["epochs"] >= best + 7
    assert main([*words, "--patience", "7", "--out", "other"]) == 0
    assert_same_run("patient", "other")
    # The parameters that are kept are those of the best epoch, not the last.
    shorter = [*words, "--out", "shorter", "--epochs", str(best)]
    assert main(shorter) == 0
    kept, last = (load_checkpoint(f"{name}/checkpoint.npz") for name in ("out", "shorter"))
    np.testing.assert_array_equal(kept.kept.params.flat, last.vae.params.flat)
    assert metrics_of("shorter")["test_elbo"] == result["test_elbo"]
    assert metrics_of("shorter")["stopped_early"] is False


def test_images_that_have_moved_are_found_and_others_refused(folder, dies_after, capsys):
    assert train("--epochs", "3", "--out", "whole") == 0
    with dies_after(1):
        train("--epochs", "3", "--out", "stopped")
    Path("small.npy").rename("moved.npy")
    np.save("small.npy", np.random.default_rng(1).random((60, 4, 5)).astype(np.float32))
    assert main(["train", "--resume", "stopped"]) == 2
    error = capsys.readouterr().err
    assert "small.npy does not hold the images that the run was trained on, those" in error
    assert main(["train", "--resume", "stopped", "--data", "moved.npy"]) == 0
    assert members("whole")["adam.m.npy"] == members("stopped")["adam.m.npy"]
    assert metrics_of("whole")["test_elbo"] == metrics_of("stopped")["test_elbo"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is not a run directory: it has no checkpoint.npz"),
        (["out", "--beta", "0.1"], "does not go with --beta: a run keeps its settings"),
        (["out", "--latent", "20"], "does not go with --latent: a run keeps its settings"),
        (["out", "--epochs", "1"], "epochs is 1, must be at least 2, already trained"),
        (["warm", "--epochs", "3"], "epochs is 3, must be at least 9, the warmup"),
        (["out", "--patience", "3"], "patience is 3, must be None where validation is 0"),
        (["cosine", "--epochs", "9"], "epochs is 9, must be 2: the cosine schedule of cosine"),
        (["damaged"], "damaged/checkpoint.npz: not a readable .npy or .npz file"),
        (["foreign"], "foreign/checkpoint.npz: holds no model settings"),
        (["newer"], "newer/checkpoint.npz: not a checkpoint (its version is 5, must be 3 or 4)"),
        (["bare"], "bare/checkpoint.npz: not a checkpoint of a run (its settings have no data)"),
        (["gone"], "the run was trained on gone.npy, which does not exist: if it has moved,"),
        (["out", "--data-dir", "x"], "--data-dir applies to --data mnist, not to --data /"),
    ],
    ids=["missing", "settings", "default", "fewer", "warm", "patience", "schedule", "damaged",
         "foreign", "newer", "bare", "gone", "data-dir"],
)  # fmt: skip
def test_a_run_that_cannot_be_resumed_is_refused_in_one_line(folder, capsys, words, message):
    assert train("--epochs", "2", "--out", "out") == 0
    for name in "damaged", "foreign", "newer", "bare", "gone", "cosine", "warm":
        shutil.copytree("out", name)
    whole = Path("out/checkpoint.npz").read_bytes()
    Path("damaged/checkpoint.npz").write_bytes(whole[: len(whole) // 2])
    np.savez("foreign/checkpoint.npz", weights=np.zeros(3))
    with np.load("out/checkpoint.npz") as arrays:
        content = dict(arrays)
    newer = str(content["training"]).replace('"version": 4', '"version": 5')
    np.savez("newer/checkpoint.npz", **content | {"training": np.array(newer)})
    bare = re.sub(r'"run": {.*?}, "adam"', '"run": {}, "adam"', str(content["training"]))
    np.savez("bare/checkpoint.npz", **content | {"training": np.array(bare)})
    change_settings("gone", data="gone.npy")
    change_settings("cosine", schedule="cosine")
    change_settings("warm", warmup=9, epochs=20)
    before = {name: Path(name).read_bytes() for name in listing(".")}
    capsys.readouterr()
    assert main(["train", "--resume", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert {name: Path(name).read_bytes() for name in listing(".")} == before


def test_before_the_first_evaluation_no_epoch_is_called_the_best(folder, dies_after, capsys):
    words = ["--epochs", "9", "--validation", "10", "--evaluate-every", "5", "--patience", "3"]
    with dies_after(2):
        train(*words, "--out", "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numpy_vae.runs.progress.Progress.__call__", interrupt)
        capsys.readouterr()
        train_status = main(["train", "--resume", "out"])
    assert "best" not in capsys.readouterr().out and train_status == 130
    assert metrics_of()["kept_epoch"] == 2 and "validation_elbo" not in metrics_of()


def interrupt(*args):
    raise KeyboardInterrupt


# Ctrl-C -----------------------------------------------------------------------------------------


def start(*words, **settings):
    """Start a run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "numpy_vae", "train", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell ignores Ctrl-C for what it runs in the background, and children inherit that.
        **{"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **settings},
    )  # fmt: skip


def wait_for(process, text):
    """Read what a process prints up to a line that starts with `text`."""
    for line in process.stdout:
        if line.startswith(text):
            return
    raise AssertionError(process.communicate()[1])


@pytest.mark.slow
@posix
def test_ctrl_c_ends_cleanly_with_what_has_been_reached(folder):
    process = start("--data", "small.npy", "--batch-size", "1", "--epochs", "99999", "--out", "out")
    try:
        wait_for(process, "epoch")
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    [epoch] = re.fullmatch("interrupted; " + KEPT.format("out") + "\n", error).groups()
    metrics = metrics_of()
    assert metrics["interrupted"] is True and metrics["epochs"] == int(epoch) >= 1
    assert metrics["stopped_early"] is False
    checkpoint = load_checkpoint("out/checkpoint.npz")
    assert checkpoint.adam.t == metrics["steps"] >= 50
    assert len(checkpoint.history) == metrics["epochs"]
    assert metrics["steps"] == 50 * metrics["epochs"]  # no part of an epoch
    assert (folder / "out/figures/samples.png").stat().st_size > 0


@pytest.mark.parametrize("step", [1, 2, 5, 8, 9])
def test_ctrl_c_at_any_step_loses_at_most_an_epoch_and_no_bit(folder, monkeypatch, capsys, step):
    words = ["--epochs", "3", "--batch-size", "17", "--average", "--validation", "5"]  # 3 steps
    assert train(*words, "--out", "whole") == 0
    from numpy_vae.runs.progress import Progress

    def interrupted(self, event):
        steps.append(event)
        if len(steps) == step:
            raise KeyboardInterrupt
        return called(self, event)

    called, steps = Progress.__call__, []
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "__call__", interrupted)
        train(*words, "--out", "stopped")
    found = len(load_checkpoint("stopped/checkpoint.npz").history)
    error = capsys.readouterr().err
    assert error == f"interrupted; {KEPT.format('stopped')}\n".replace(r"(\d+)", str(found))
    assert (folder / "stopped/metrics.json").exists() == (found > 0)
    assert main(["train", "--resume", "stopped"]) == 0
    assert_same_run("whole", "stopped")


@pytest.mark.slow
@posix
def test_two_processes_do_not_write_the_same_run(folder, capsys):
    words = ["--data", "small.npy", "--batch-size", "1", "--epochs", "3000", "--out", "out"]
    process = start(*words)
    try:
        wait_for(process, "epoch")
        for others in [*words, "--overwrite"], words, ["--resume", "out"]:
            capsys.readouterr()
            assert main(["train", *others]) == 2
            error = capsys.readouterr().err
            assert error == "numpy-vae train: error: out is being written by another process\n"
        assert main(["sample", "out"]) == 0  # it can be read
    finally:
        process.kill()
        process.communicate()
    done = len(load_checkpoint("out/checkpoint.npz").history)  # and a killed one leaves no lock
    assert main(["train", "--resume", "out", "--epochs", str(done + 1), "--quiet"]) == 0


# SIGKILL ----------------------------------------------------------------------------------------

KILLS = 12  # of each of the two runs


@pytest.mark.slow
@posix
@pytest.mark.parametrize(
    ("seed", "words"),
    [
        (0, ["--batch-size", "1", "--epochs", "400"]),
        (1, ["--batch-size", "2", "--epochs", "300", "--average", "--validation", "10",
             "--patience", "290", "--bound", "iwae", "--samples", "2", "--schedule", "cosine",
             "--likelihood", "learned_gaussian"]),
    ],
    ids=["plain", "everything"],
)  # fmt: skip
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(folder, seed, words):
    words = ["--data", "small.npy", "--hidden", "7", "--latent", "2", *words]
    assert main(["train", *words, "--out", "whole", "--quiet"]) == 0

    moments, reached = random.Random(seed), []
    for kill in range(KILLS):
        begun = Path("killed/checkpoint.npz").exists()
        process = start(*(["--resume", "killed"] if begun else [*words, "--out", "killed"]))
        if kill % 4 == 0:  # while Python starts, reads, and writes its first checkpoint
            time.sleep(moments.uniform(0.3, 0.6))
        else:
            wait_for(process, "small: ")
            time.sleep(moments.uniform(0, 0.15))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it came to its end before it was killed"
        if Path("killed/checkpoint.npz").exists():
            reached.append(len(load_checkpoint("killed/checkpoint.npz").history))
    assert reached == sorted(reached) and reached[0] < reached[-1]
    assert main(["train", "--resume", "killed", "--quiet"]) == 0
    assert_same_run("whole", "killed")


@pytest.mark.slow
@posix
def test_a_kill_while_the_checkpoint_is_written_leaves_the_last_one(folder):
    # Killed by itself, with half of the new checkpoint written.
    words = ["--data", "small.npy", "--hidden", "7", "--latent", "2", "--epochs", "5"]
    code = """if True:
        import os, signal, sys
        from numpy_vae import files
        from numpy_vae.__main__ import main
        save, saves = files.save_arrays, []
        def half(stream, arrays):
            saves.append(1)
            save(stream, arrays)
            if len(saves) == 4:
                stream.seek(stream.tell() // 2)
                stream.truncate()
                stream.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        files.save_arrays = half
        main(["train", *sys.argv[1:]])
    """
    result = subprocess.run([sys.executable, "-c", code, *words, "--out", "killed"])
    assert result.returncode == -signal.SIGKILL
    assert len(load_checkpoint("killed/checkpoint.npz").history) == 2
    assert len(list(Path("killed").glob(".numpy-vae-*.tmp"))) == 1
    assert main(["train", *words, "--out", "whole"]) == 0
    assert main(["train", "--resume", "killed"]) == 0
    assert_same_run("whole", "killed")


# A full disk ------------------------------------------------------------------------------------


def test_a_full_disk_ends_with_1_and_the_last_good_checkpoint(folder, capsys, monkeypatch):
    saves = []

    def full_at_the_third(stream, arrays):
        saves.append(1)
        if len(saves) == 3:
            stream.write(b"half of it")
            raise OSError(28, "No space left on device")
        save(stream, arrays)

    from numpy_vae import files

    save = files.save_arrays
    with monkeypatch.context() as patch:
        patch.setattr(files, "save_arrays", full_at_the_third)
        assert train("--epochs", "5", "--out", "out") == 1
    error = capsys.readouterr().err
    pattern = "numpy-vae train: error: out/checkpoint.npz: No space left on device; "
    assert re.fullmatch(pattern + KEPT.format("out") + "\n", error).group(1) == "1"
    assert len(load_checkpoint("out/checkpoint.npz").history) == 1
    assert train("--epochs", "5", "--out", "whole") == 0
    assert main(["train", "--resume", "out"]) == 0
    assert_same_run("whole", "out")


@pytest.mark.parametrize("full", ["history.csv", "metrics.json"])
def test_a_disk_that_fills_up_for_another_file_is_no_harm(folder, capsys, monkeypatch, full):
    from numpy_vae import files
    from numpy_vae.runs import owned

    def write(path, *seal):
        if path.name == full:
            raise OSError(28, "No space left on device", str(path))
        return atomic_write(path, *seal)

    atomic_write = files.atomic_write
    with monkeypatch.context() as patch:
        for module in files, owned:
            patch.setattr(module, "atomic_write", write)
        assert train("--epochs", "2", "--out", "out") == 1
    error = capsys.readouterr().err
    pattern = f"numpy-vae train: error: out/{full}: No space left on device; " + KEPT.format("out")
    epoch = "2" if full == "metrics.json" else "0"
    assert re.fullmatch(pattern + "\n", error).group(1) == epoch
    assert train("--epochs", "2", "--out", "whole") == 0
    assert main(["train", "--resume", "out"]) == 0
    assert_same_run("whole", "out")


@pytest.mark.slow
@posix
def test_a_file_that_may_not_grow_is_a_full_disk(folder):
    import resource

    words = ["--data", "small.npy", "--hidden", "7", "--latent", "2"]
    assert main(["train", *words, "--epochs", "4", "--out", "four"]) == 0
    most = Path("four/checkpoint.npz").stat().st_size

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    process = start(*words, "--epochs", "9", "--out", "out", preexec_fn=limited)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    pattern = r"numpy-vae train: error: out/checkpoint.npz: File too large; " + KEPT.format("out")
    assert int(re.fullmatch(pattern + "\n", error).group(1)) == 4
    assert len(load_checkpoint("out/checkpoint.npz").history) == 4
    assert not list(Path("out").glob(".*"))  # it takes no room on the full disk
    assert main(["train", *words, "--epochs", "9", "--out", "whole"]) == 0
    assert main(["train", "--resume", "out"]) == 0
    assert_same_run("whole", "out")


@contextlib.contextmanager
def small_disk(path, size):
    """Mount a file system of `size` KiB at `path`."""
    path.mkdir()
    mount = shutil.which("mount")
    if mount is None or not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount a small file system")
    command = [mount, "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", path]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this container may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.slow
@posix
def test_a_disk_that_runs_full_keeps_the_run(folder):
    words = ["--data", "small.npy", "--hidden", "7", "--latent", "2", "--batch-size", "1"]
    words += ["--epochs", "150"]
    assert main(["train", *words, "--out", "whole", "--quiet"]) == 0
    with small_disk(folder / "disk", 512):
        process = start(*words, "--out", "disk/out")
        wait_for(process, "epoch   7/")
        with open("disk/ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        _, error = process.communicate(timeout=60)
        assert process.returncode == 1
        pattern = r"numpy-vae train: error: disk/out/\S+: No space left on device; "
        [epoch] = re.fullmatch(pattern + KEPT.format("disk/out") + "\n", error).groups()
        assert len(load_checkpoint("disk/out/checkpoint.npz").history) == int(epoch)
        assert 7 <= int(epoch) < 150
        os.unlink("disk/ballast")
        assert main(["train", "--resume", "disk/out", "--quiet"]) == 0
        assert_same_run("whole", "disk/out")
