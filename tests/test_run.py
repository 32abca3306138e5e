"""A run from Python: begun, stopped, gone on with, finished."""

import contextlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import listing, metrics_of

from numpy_vae import VAE, Run, load_array
from numpy_vae.__main__ import main
from numpy_vae.data import split_validation
from numpy_vae.runs.checkpoint import load_checkpoint
from numpy_vae.runs.directory import open_run
from numpy_vae.seeds import spawn_streams
from numpy_vae.training.recipe import Recipe
from numpy_vae.training.state import Record

pytestmark = pytest.mark.usefixtures("folder")

RECIPE = Recipe(
    epochs=6, batch_size=7, bound="iwae", samples=2, average=True, warmup=2, binarize="dynamic",
    validation=10, schedule="cosine", evaluate_every=2, threads=1,
)  # fmt: skip


def begin(folder, recipe=RECIPE, data=None, **settings):
    vae = VAE(20, (7,), 2, rng=spawn_streams(3).initialisation)
    return Run.begin(folder, vae, data or load_array("small.npy"), recipe, seed=3, **settings)


def bits(folder):
    """Return what a checkpoint holds, the clock and the settings apart."""
    with np.load(Path(folder) / "checkpoint.npz") as arrays:
        training = json.loads(str(arrays["training"]))
        del training["run"]
        held = {n: arrays[n].tobytes() for n in arrays if n not in ("clock", "training")}
    return held, training


def assert_same_bits(one, two):
    (held, training), (held_too, training_too) = bits(one), bits(two)
    training["streams"].pop("initialisation")  # of the command: it has drawn the weights from it
    training_too["streams"].pop("initialisation")
    assert held == held_too and training == training_too


def test_a_run_from_python_is_that_of_the_command():
    run = begin("python")
    assert listing("python") == []  # nothing is written before the first step
    run.train()
    metrics = run.finish()
    words = (
        "--data small.npy --hidden 7 --latent 2 --seed 3 --epochs 6 --batch-size 7 --bound iwae "
        "--samples 2 --average --warmup 2 --validation 10 --schedule cosine --evaluate-every 2 "
        "--threads 1 --out command"
    )
    assert main(["train", *words.split()]) == 0
    assert_same_bits("python", "command")
    clock = {"seconds", "seconds_per_epoch", "peak_memory_mib"}
    one, two = (
        {k: v for k, v in m.items() if k not in clock} for m in (metrics, metrics_of("command"))
    )
    assert one == two and len(run.history) == 6
    assert json.loads(Path("python/config.json").read_text())["data"] == os.path.abspath(
        "small.npy"
    )
    np.testing.assert_array_equal(VAE.load("python").params.flat, run.vae.params.flat)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_ten_kills_leave_the_bits_of_a_run_that_was_never_killed():
    begin("whole").train()
    kills, rng = 0, np.random.default_rng(0)
    while kills < 10:
        left = int(rng.integers(1, 12))  # steps; an epoch has six

        def report(event, left=[left]):  # noqa: B006
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                saved = Path("killed/checkpoint.npz").exists()
                (Run.resume("killed") if saved else begin("killed")).train(report)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:  # it came to its end: once more from the start
            assert_same_bits("killed", "whole")
            Path("killed").rename(f"ended-{kills}")
            continue
        assert status == -signal.SIGKILL
        kills += 1
    run = Run.resume("killed")
    run.train()
    assert_same_bits("killed", "whole")


def test_an_interrupt_leaves_the_last_whole_epoch_and_training_goes_on_from_it():
    begin("whole").train()
    run, steps = begin("stopped"), []

    def report(event):
        steps.append(event)
        if len(steps) == 17:  # six steps and a record an epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.train(report)
    assert run.interrupted and len(run.history) == 2
    np.testing.assert_array_equal(
        run.state.vae.params.flat, load_checkpoint("stopped/checkpoint.npz").vae.params.flat
    )
    assert run.finish()["interrupted"] is True
    run.train()
    assert_same_bits("stopped", "whole")
    assert run.finish()["interrupted"] is False and metrics_of("stopped")["epochs"] == 6


def test_arrays_that_are_no_file_are_given_again():
    data = replace(load_array("small.npy"), name="mine", source=None)
    begin("whole", data=data).train()
    run = begin("stopped", replace(RECIPE, epochs=2, warmup=2, schedule="constant"), data)
    run.train()
    with pytest.raises(ValueError, match=r"^the run was trained on arrays in memory, called mine:"):
        Run.resume("stopped")
    other = replace(data, test=data.test[:5])
    with pytest.raises(ValueError, match=r"mine does not hold the images that the run was train"):
        Run.resume("stopped", other)
    assert Run.resume("stopped", data, epochs=3, threads=2).recipe.threads == 2
    assert open_run(Path("stopped")).settings["threads"] == 1  # not before it trains


def test_a_name_is_not_taken_for_a_source():
    data = replace(load_array("small.npy"), name="mnist", source=None)
    begin("run", data=data).train()
    assert json.loads(Path("run/config.json").read_text())["data"] is None
    with pytest.raises(ValueError, match=r"^the run was trained on arrays in memory, called mnist"):
        Run.resume("run")
    assert main(["evaluate", "run", "--samples", "1", "--data", "small.npy"]) == 0
    assert main(["sample", "run"]) == main(["encode", "run", "--data", "small.npy"]) == 0


def test_a_run_cut_short_is_not_called_stopped_early():
    recipe = replace(RECIPE, evaluate_every=1, patience=1, epochs=50, schedule="constant")

    def report(event):
        if isinstance(event, Record):
            raise KeyboardInterrupt

    run = begin("run", recipe)
    with pytest.raises(ValueError, match=r"^run has no whole epoch yet: train it first"):
        run.finish()
    with pytest.raises(KeyboardInterrupt):
        run.train(report)
    assert [run.finish()[name] for name in ("interrupted", "stopped_early")] == [True, False]
    run = Run.resume("run")  # and now from another process
    assert [run.finish()[name] for name in ("interrupted", "stopped_early")] == [True, False]
    run.train()
    assert len(run.history) < 50
    assert [run.finish()[name] for name in ("interrupted", "stopped_early")] == [False, True]


def test_numbers_of_numpy_are_numbers():
    data = replace(load_array("small.npy"), image_shape=tuple(np.array([4, 5])))
    vae = VAE(20, (7,), 2, rng=0)
    run = Run.begin("run", vae, data, Recipe(epochs=np.int64(1)), seed=np.int64(3))
    run.train()
    assert Run.resume("run").state.settings["seed"] == 3


def test_a_run_that_is_refused_leaves_the_model_as_it_was():
    begin("run", replace(RECIPE, epochs=2)).train()
    vae = VAE(20, (7,), 2, rng=0)
    before = vae.params.flat.copy()
    with pytest.raises(ValueError, match=r"^run already holds a run"):
        Run.begin("run", vae, load_array("small.npy"), Recipe(output_bias="data"))
    np.testing.assert_array_equal(vae.params.flat, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_an_epoch_that_was_broken_off_is_never_gone_on_with(monkeypatch, error):
    # Not even if the checkpoint could not be read at once, as after a second Ctrl-C.
    begin("whole").train()
    run, steps = begin("stopped"), []

    def report(event):
        steps.append(event)
        if len(steps) == 17:
            raise KeyboardInterrupt

    def fails(folder):
        raise error

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("numpy_vae.runs.run.open_run", fails)
        run.train(report)
    assert run.is_kept
    assert run.finish()["steps"] == load_checkpoint("stopped/checkpoint.npz").adam.t == 12
    run.train()
    assert_same_bits("stopped", "whole")


def test_what_a_run_is_resumed_with_outlives_a_disk_that_is_full(monkeypatch):
    begin("run", replace(RECIPE, epochs=2, schedule="constant")).train()
    run = Run.resume("run", epochs=4)

    def full(path, state):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("numpy_vae.runs.run.save_checkpoint", full)
        run.train()
    run.train()
    assert len(run.history) == 4 and run.recipe.epochs == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_child_that_was_forked_meanwhile_does_not_keep_the_lock():
    children = []

    def report(event):
        if not children:
            children.append(os.fork())
            if children == [0]:
                signal.pause()

    run = begin("run")
    try:
        run.train(report)
        assert run.finish()["epochs"] == 6
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_a_run_that_another_has_written_is_not_written_over():
    begin("run", replace(RECIPE, epochs=2)).train()
    one, two = (Run.resume("run", epochs=2) for _ in range(2))
    one.train()
    with pytest.raises(ValueError, match=r"^run has changed since it was read"):
        two.train()
    three = begin("new")
    begin("new").train()
    with pytest.raises(ValueError, match=r"^new has changed since it was read"):
        three.train()
    three = begin("new", overwrite=True)
    three.train()


def test_what_does_not_go_together_is_refused():
    small = load_array("small.npy")
    with pytest.raises(ValueError, match=r"^data has a validation set, must have none"):
        begin("run", data=split_validation(small, 10))
    with pytest.raises(ValueError, match=r"^batch_size is 41, must be a whole number from 1 to 40"):
        begin("run", replace(RECIPE, batch_size=41))
    assert begin("run", replace(RECIPE, batch_size=None)).recipe.batch_size == 40
    for shape in (28, 28), (2, 10, 1):
        with pytest.raises(
            ValueError, match=r"^the image shape is 2.*, must be a height and a wid"
        ):
            begin("run", data=replace(small, image_shape=shape))
    with pytest.raises(ValueError, match=r"^seed is -1, must be a whole number from 0 to"):
        Run.begin("run", VAE(20, (7,), 2), small, seed=-1)
    begin("run").train()
    with pytest.raises(ValueError, match=r"^epochs is 7, must be 6: the cosine schedule of run"):
        Run.resume("run", epochs=7)
    with pytest.raises(ValueError, match=r"already holds a run: continue it with --resume"):
        begin("run")


def test_a_run_says_what_it_trains():
    run = begin("run")
    assert str(run) == (
        "small: 40 training, 10 validation, 10 test images, binarize dynamic; 20-7-2 relu, "
        "bernoulli, epochs 6, batch_size 7, schedule cosine, average, bound iwae, samples 2, "
        "warmup 2, evaluate_every 2, threads 1; seed 3"
    )
    run.train()
    assert str(Run.resume("run")).endswith("resumed after epoch 6, nothing left to train")
