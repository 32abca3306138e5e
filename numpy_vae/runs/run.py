"""A training run on disk: begin it, kill it at any moment, resume it, finish it.

    run = Run.begin("runs/mine", vae, data, Recipe(epochs=200, validation=5000, patience=20))
    run.train(report=Progress())                                     # killed on the way

    run = Run.resume("runs/mine")
    run.train(report=Progress())
    run.finish()                                                     # metrics.json, figures

The checkpoint is written before the first step and after every epoch, whole or not at all. On the
same machine, with the same number of threads and BLAS threads, a run that was killed and resumed
ends with the same bits as an uninterrupted one, except for its times.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..checks import check_whole
from ..data.dataset import Dataset, fingerprint, guess_image_shape
from ..data.load import NAMED
from ..files import CHECKPOINT
from ..training.evaluate import mean_elbo
from ..training.loop import DEFAULTS, continue_training, new_state, prepare
from ..training.recipe import BATCH_SIZE, MAX_EPOCHS, Recipe
from ..training.state import Record, State, Step
from ..training.team import suitable_threads
from ..vae import VAE
from .checkpoint import save_checkpoint
from .directory import (
    MAX_SEED,
    Place,
    begin_run,
    check_usable,
    create_run,
    json_text,
    locked,
    open_run,
    save_run,
)
from .images import check_image_shape, draw_figures, find_data
from .owned import METRICS, OwnFiles

SHOWN = ("data", "binarize", "likelihood", "bound", "samples", "seed")  # settings in metrics.json


class Run:
    """A training and its folder, made by `Run.begin` or `Run.resume`.

    `data` is binarized and split. `state` has model, optimiser, streams, history and settings;
    after an exception, of the last whole epoch.
    """

    def __init__(self, folder: Path, state: State, data: Dataset) -> None:
        self.folder, self.state, self.data = folder, state, data
        self.own = OwnFiles(folder)  # own.kept: not replaced, since the user has edited them
        self.removed: list[str] = []  # its own files that showed an older model
        self.figures: list[Path] = []  # written by `finish`
        self.interrupted = False
        self._seconds = sum(record.seconds + record.test_seconds for record in state.history)
        self._place, self._seen = Place(folder), _look(folder)
        self._kept = False  # its checkpoint is in the folder
        self._broken = False  # an epoch was cut short: reread the state before use

    @classmethod
    def begin(
        cls, folder: str | os.PathLike[str] | None, vae: VAE, data: Dataset,
        recipe: Recipe = DEFAULTS, *, seed: int = 0, overwrite: bool = False,
    ) -> Self:  # fmt: skip
        """Return a new run and make its folder. `train` writes the first checkpoint.

        Parameters
        ----------
        folder : path or None
            New or empty. None makes a new one under runs/.
        vae : VAE
            Trained in place. After an exception use `run.vae`: the last whole epoch.
        data : Dataset
            The validation set of a file is used; otherwise the recipe says how many images to set
            aside.
        seed : int
            Of everything random in training. The initial weights are those of `vae`, which the
            command builds with ``rng=spawn_streams(seed).initialisation``.
        overwrite : bool
            Replace the run in `folder`, and what commands wrote beside it.

        Raises
        ------
        ValueError, OSError
            If the data do not fit the model or the recipe, or the folder cannot be used.
        """
        from .. import __version__  # undefined while the package is being imported

        seed = check_whole("seed", seed, 0, MAX_SEED)
        if data.set_aside:
            raise ValueError("data has a validation set, must have none: the recipe sets it aside")
        if data.validation is not None:  # of the file
            recipe = replace(recipe, validation=recipe.validation or len(data.validation))
        seen = fingerprint(data)
        shape = data.image_shape
        if shape is not None:
            shape = check_image_shape(shape, vae.data_dim)
        elif data.train.dtype == np.uint8:  # an array of your own; tables are floats
            shape = guess_image_shape(vae.data_dim)
        data = prepare(vae, data, recipe)
        batch_size = recipe.batch_size or min(BATCH_SIZE, len(data.train))
        threads = recipe.threads or suitable_threads(batch_size, recipe.samples)
        recipe = replace(recipe, batch_size=batch_size, threads=threads)
        settings = {
            "data": data.source, "data_dir": data.data_dir, "name": data.name, "fingerprint": seen,
            "image_shape": shape, "training_images": len(data.train), "test_images": len(data.test),
            "data_dim": vae.data_dim, "hidden": vae.hidden, "latent": vae.latent_dim,
            "activation": vae.activation, "likelihood": vae.likelihood.name,
            "variance": vae.likelihood.settings().get("variance"),
            "standardize": vae.scaling is not None, "reading": dict(data.reading),
            "columns": data.columns, "label_names": data.label_names,
            "parameters": vae.params.flat.size, **asdict(recipe), "seed": seed,
            "numpy_vae": __version__, "numpy": np.__version__, "python": platform.python_version(),
        }  # fmt: skip
        file = None if data.source in NAMED else data.source
        made = create_run(folder, data.name, overwrite=overwrite, data=file)
        state = new_state(vae, data, recipe, seed)  # last: it may set biases and variances
        logvar = vae.params.views.get("likelihood.logvar")
        if logvar is not None and len(logvar) == 1:
            settings["variance"] = math.exp(logvar[0])
        return cls(made, state._replace(settings=settings), data)

    @classmethod
    def resume(
        cls, folder: str | os.PathLike[str], data: Dataset | None = None, *,
        epochs: int | None = None, patience: int | None = None, threads: int | None = None,
        lr: float | None = None,
    ) -> Self:  # fmt: skip
        """Return the run in a folder, as of its last checkpoint.

        Parameters
        ----------
        folder : path
        data : Dataset, optional
            The training data. Needed if they were arrays in memory, or their file has moved.
        epochs, patience, threads : int, optional
        lr : float, optional
            Override the run's settings. A smaller `lr` helps where a step was too large.

        Raises
        ------
        ValueError, OSError
            If the folder holds no run, the images differ, or a setting conflicts with the run.
        """
        folder = Path(folder)
        with locked(folder) if folder.is_dir() else nullcontext():
            seen, state = _look(folder), open_run(folder)
        recipe = Recipe.of(state.settings)
        if epochs is not None:
            check_whole("epochs", epochs, 1, MAX_EPOCHS)
            least = max(len(state.history), recipe.warmup)
            if epochs < least:
                why = "already trained" if least == len(state.history) else "the warmup"
                raise ValueError(f"epochs is {epochs}, must be at least {least}, {why}")
            if recipe.schedule != "constant" and epochs != recipe.epochs:
                raise ValueError(
                    f"epochs is {epochs}, must be {recipe.epochs}: the {recipe.schedule} schedule "
                    f"of {folder} depends on the total"
                )
        recipe = replace(
            recipe, epochs=epochs or recipe.epochs,
            patience=recipe.patience if patience is None else patience,
            threads=recipe.threads if threads is None else threads,
            lr=recipe.lr if lr is None else lr,
        )  # fmt: skip
        state.adam.lr = recipe.lr
        settings = {**state.settings, **asdict(recipe)}
        if data is not None:
            settings |= {"data": data.source, "data_dir": data.data_dir}
        data = find_data(state, data)
        check_usable(folder)
        run = cls(folder, state._replace(settings=settings), data)
        run._seen, run._kept = seen, True
        return run

    @property
    def vae(self) -> VAE:
        """The model to use: of the best epoch, else the average, else the current one."""
        return self.state.kept

    @property
    def recipe(self) -> Recipe:
        """The training settings. To change one, pass it to `resume`."""
        return Recipe.of(self.state.settings)

    @property
    def history(self) -> list[Record]:
        """A record for each epoch."""
        return self.state.history

    @property
    def is_kept(self) -> bool:
        """Whether the folder still exists and holds a checkpoint of this run."""
        return self._kept and self._place.is_same()

    def __str__(self) -> str:
        """The data, the model and the settings that differ from their defaults."""
        state, data = self.state, self.data
        held_out = "" if data.validation is None else f"{len(data.validation)} validation, "
        words = [str(state.vae), *self.recipe.words(but=("binarize", "validation"))]
        resumed = f"\nresumed after epoch {len(self.history)}" if self.history else ""
        left = self.recipe.epochs - len(self.history)
        what = "rows" if state.settings["image_shape"] is None else "images"
        return (
            f"{data.name}: {len(data.train)} training, {held_out}{len(data.test)} test {what}, "
            f"binarize {self.recipe.binarize}; {', '.join(words)}; seed {state.settings['seed']}"
            f"{resumed}{'' if left else ', nothing left to train'}"
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the folder; ValueError if another process has written the run since it was read."""
        with locked(self.folder):
            self._place.check()
            if _look(self.folder) != self._seen:
                raise ValueError(f"{self.folder} has changed since it was read: call Run.resume")
            try:
                yield
            finally:
                self._seen = _look(self.folder)

    def train(self, report: Callable[[Step | Record], None] | None = None) -> None:
        """Train up to the recipe's number of epochs, saving the run after each.

        Parameters
        ----------
        report : callable, optional
            Called after each step with a `Step`, and after each epoch with its `Record`, such as
            `numpy_vae.Progress()`. It may raise to stop the training.

        Raises
        ------
        ValueError
            If another process is writing the run, or it has changed since it was read.
        FloatingPointError, OSError, KeyboardInterrupt, ...
            As `train_epochs`, or if a file cannot be written. `train` may be called again.
        """
        start, first = time.perf_counter(), True
        self.interrupted = False
        with self._locked():
            self._reread()
            try:
                save_checkpoint(self.folder / CHECKPOINT, self.state)
                self._kept = True
                self.removed += begin_run(self.own, self.state)
                self._broken = True
                for record in continue_training(self.state, self.data, self.recipe, report):
                    self._place.check()
                    save_run(self.own, self.state)
                    if first:  # files written before this call show an older model
                        self.removed += self.own.remove_stale(self.state.model_id)
                    first = False
                    if report is not None:
                        report(record)
                self._broken = False
            except BaseException as error:
                self.interrupted = isinstance(error, KeyboardInterrupt)
                with suppress(ValueError, OSError, MemoryError):  # else the next use rereads it
                    self._reread()
                raise
            finally:
                self._seconds += time.perf_counter() - start

    def _reread(self) -> None:
        """If an epoch was cut short, reload the state of the last whole one."""
        if self._broken:
            self._place.check()
            self.state = open_run(self.folder)
            self._broken = False

    def finish(self) -> dict[str, Any]:
        """Evaluate on the test set, write metrics.json and the figures, and return the metrics.

        ValueError if there is no whole epoch.
        """
        with self._locked():
            self._reread()
            return self._finish()

    def _finish(self) -> dict[str, Any]:
        state, history, recipe = self.state, self.history, self.recipe
        if not history:
            raise ValueError(f"{self.folder} has no whole epoch yet: train it first")
        left, waited = recipe.epochs - len(history), len(history) - state.kept_epoch
        stopped = left > 0 and recipe.patience is not None and waited >= recipe.patience
        stopped = stopped and len(history) % recipe.evaluate_every == 0  # like the loop
        noise, pixels = state.streams.held_out()
        draw = recipe.binarize == "dynamic"
        test = mean_elbo(self.vae, self.data.test, noise, pixels, draw=draw)
        metrics: dict[str, Any] = {
            **{f"test_{name}": value for name, value in test._asdict().items()},
            "units": "nats per image", **{name: state.settings[name] for name in SHOWN},
            "epochs": len(history), "kept_epoch": state.kept_epoch, "steps": state.adam.t,
            "interrupted": left > 0 and not stopped, "stopped_early": stopped,
            "seconds": round(self._seconds, 3),
            "seconds_per_epoch": round(float(np.median([r.seconds for r in history])), 3),
        }  # fmt: skip
        validation = history[state.kept_epoch - 1].held_out().get("validation")
        if validation is not None:
            metrics |= {f"validation_{k}": value for k, value in validation._asdict().items()}
        for block, value in self.vae.likelihood.parameters().items():
            metrics[block] = value.tolist()
        self._write_metrics(metrics)
        self.figures = draw_figures(
            state, self.data, self.folder / "figures", "png", self.own.write_or_keep
        )
        # Again, now that the figures have taken their memory.
        self._write_metrics(metrics | {"peak_memory_mib": peak_memory()})
        self.removed += self.own.remove_stale(state.model_id)
        return metrics

    def _write_metrics(self, metrics: dict[str, Any]) -> None:
        with self.own.write_or_keep(self.folder / METRICS, self.state.model_id) as stream:
            stream.write(json_text(metrics).encode())


def _look(folder: Path) -> tuple[int, ...] | None:
    """Return inode, size and time of the checkpoint, to notice when it is replaced."""
    try:
        found = os.stat(folder / CHECKPOINT)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def peak_memory() -> int | None:
    """Return the peak resident memory of this process in MiB, or None if unknown."""
    try:  # Linux, where getrusage may report the peak of the parent process
        return int(Path("/proc/self/status").read_bytes().split(b"VmHWM:")[1].split()[0]) >> 10
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)
