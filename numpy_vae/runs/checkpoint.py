"""A run in one file: parameters, sums of Adam, random streams, history and settings.

    settings, params              the model that is kept, which `VAE.load` reads
    trained, average, best        the parameters that training goes on from, their average, those of
                                  the best epoch; whichever of them is kept is `params` instead
    adam.m, adam.v                the sums of Adam (see `optim`)
    history                       (epochs, 11) the records, NaN where nothing was evaluated
    clock                         (epochs, 2) their seconds of training and of evaluation
    training                      the rest, as JSON text

Kept are the parameters of the best epoch, where one is chosen, else the average, where there is
one, else those that are trained. Everything is an array or JSON text, so that the file can be read
with ``allow_pickle=False``; and it is written whole or not at all. A run that was stopped and
resumed leaves the same bytes as one that was not, the clock apart.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..checks import check_real, check_whole, overflow_raises
from ..files import read_model
from ..optim import Adam, Average
from ..params import Array, Params
from ..training.loop import MAX_EPOCHS, Best, Record, Streams, spawn_streams
from ..vae import VAE

VERSION = 3
STREAMS = tuple(name for name in Streams._fields if name != "test_seed")
# What reading arrays or JSON of another form raises.
_MALFORMED = (KeyError, TypeError, AttributeError, OverflowError, RecursionError, ValueError)
ADAM = ("lr", "beta1", "beta2", "eps")
CLOCK = ("seconds", "test_seconds")  # of a record: where two runs of the same bits may differ
HISTORY = tuple(name for name in Record._fields if name not in CLOCK)


class Checkpoint(NamedTuple):
    """What it takes to go on with a run."""

    vae: VAE  # over the parameters that training goes on from
    adam: Adam
    streams: Streams
    history: list[Record]
    average: Average | None = None
    best: Best | None = None
    settings: Mapping[str, Any] = MappingProxyType({})  # of the run, as JSON takes them

    @property
    def vectors(self) -> dict[str, Params]:
        """The parameters by name: trained, average, best, as far as there are; the last is kept."""
        vectors = {"trained": self.vae.params}
        if self.average is not None:
            vectors["average"] = self.average.mean
        if self.best is not None and self.best.epoch:
            vectors["best"] = self.best.params
        return vectors

    @property
    def model_id(self) -> str:
        """A hash of the kept parameters; files.json records it for the files made from them."""
        import hashlib

        return hashlib.sha256(self.kept.params.flat.data).hexdigest()[:16]

    @property
    def kept(self) -> VAE:
        """The model that is evaluated, drawn and used: over the last of `vectors`."""
        *_, params = self.vectors.values()
        return self.vae.over(params)


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all; ValueError for a model that `VAE.save` refuses."""
    _, adam, streams, history, average, best, settings = checkpoint
    training = {
        "version": VERSION,
        "run": dict(settings),
        "adam": {name: getattr(adam, name) for name in ("t", *ADAM)},
        "test_seed": streams.test_seed,
        "streams": {name: getattr(streams, name).bit_generator.state for name in STREAMS},
        "average": None if average is None else {"eta": average.eta},
        "best": None if best is None else
                {"epoch": best.epoch, "elbo": best.elbo if best.epoch else None},
    }  # fmt: skip
    *others, _ = checkpoint.vectors.items()
    checkpoint.kept.save(
        path,
        {name: params.flat for name, params in others}
        | {"adam.m": adam.M.flat, "adam.v": adam.V.flat}
        | {"history": _table(history, HISTORY), "clock": _table(history, CLOCK)}
        | {"training": np.array(json.dumps(training))},
    )


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read what `save_checkpoint` has written.

    ValueError if the file is damaged, is no checkpoint, does not agree with itself, or is of
    another version.
    """
    model, arrays = read_model(path)  # once: a run that is being trained may replace the file
    try:
        vae = VAE._build(model, arrays["params"])
        training = json.loads(str(arrays["training"]))
        if training["version"] != VERSION:
            raise ValueError(f"its version is {training['version']!r}, must be {VERSION}")
        average = best = None
        if training["average"] is not None:
            average = Average(vae.params, training["average"]["eta"])
        if training["best"] is not None:
            best = Best(vae.params)
            best.epoch = check_whole("the best epoch", training["best"]["epoch"], 0, MAX_EPOCHS)
            if best.epoch:
                elbo = training["best"]["elbo"]
                best.elbo = check_real("its ELBO", elbo, -math.inf, math.inf, open_below=False)
        adam = Adam(vae.params, *(training["adam"][name] for name in ADAM))
        adam.t = check_whole("the number of steps", training["adam"]["t"], 0, 1 << 62)
        streams = spawn_streams(0)._replace(
            test_seed=check_whole("test_seed", training["test_seed"], 0, (1 << 63) - 1)
        )
        for name in STREAMS:
            getattr(streams, name).bit_generator.state = training["streams"][name]
        history = _history(arrays["history"], arrays["clock"])
        found = Checkpoint(vae, adam, streams, history, average, best, dict(training["run"]))
        # The last of them is a copy of what VAE.load has read, or the trained ones themselves.
        *others, _ = found.vectors.items()
        for name, params in [*others, ("adam.m", adam.M), ("adam.v", adam.V)]:
            _fill(name, params, arrays)
        for name, params in {**found.vectors, "adam.m": adam.M, "adam.v": adam.V}.items():
            if not np.isfinite(params.flat).all() or (name == "adam.v" and params.flat.min() < 0):
                raise ValueError(f"{name} holds values that no training leaves")
        for name, params in found.vectors.items():
            _check_pass(name, vae.over(params))
        if best is not None and best.epoch > len(history):
            raise ValueError(f"its best epoch is {best.epoch}, of {len(history)}")
    except _MALFORMED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a checkpoint ({reason})") from None
    return found


def _check_pass(name: str, vae: VAE) -> None:
    """Raise ValueError if the layers overflow on the image that the model decodes from z = 0.

    Only the layers are checked: training can leave a log-variance whose exp overflows.
    """
    try:
        with overflow_raises():
            vae.encode(vae.decode(np.zeros((1, vae.latent_dim))))
    except FloatingPointError as error:
        raise ValueError(f"{name} holds values that no training leaves: {error}") from None


def _table(history: Sequence[Record], columns: Sequence[str]) -> Array:
    """Return columns of the records, (epochs, columns); None is NaN."""
    rows = [[getattr(record, name) for name in columns] for record in history]
    return np.array(rows, np.float64).reshape(-1, len(columns))


def _history(table: Array, clock: Array) -> list[Record]:
    """Return the records of epochs 1, 2, ... from what `_table` made of them."""
    for name, array, columns in ("history", table, HISTORY), ("clock", clock, CLOCK):
        if array.shape != (len(table), len(columns)) or array.dtype != np.float64:
            raise ValueError(
                f"{name} is {array.dtype} {array.shape}, must be float64 (epochs, {len(columns)})"
            )
    if not np.isfinite(clock).all():
        raise ValueError("its clock is not finite")
    epochs = table[:, HISTORY.index("epoch")]
    if not np.array_equal(epochs, np.arange(1, len(table) + 1)):
        raise ValueError(f"its epochs are {epochs}, must be 1, 2, ...")
    history = []
    for row in np.hstack([table, clock]).tolist():
        values: dict[str, Any] = {
            name: None if math.isnan(value) else value
            for name, value in zip(HISTORY + CLOCK, row, strict=True)
        }
        history.append(Record(**values | {"epoch": int(row[0])}))
    return history


def _fill(name: str, params: Params, arrays: Mapping[str, Array]) -> None:
    """Fill a vector with the array of this name, if it is one of its layout."""
    if (arrays[name].shape, arrays[name].dtype) != (params.flat.shape, params.dtype):
        raise ValueError(
            f"{name} is {arrays[name].dtype} {arrays[name].shape}, must be {params.dtype}"
            f" {params.flat.shape}"
        )
    params.flat[:] = arrays[name]
