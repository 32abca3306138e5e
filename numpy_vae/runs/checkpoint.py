"""A whole run in one file.

    settings, params         the model to use (`State.kept`), as `VAE.load` reads it; for a table
                             perhaps scaling.mean and scaling.scale
    trained, average, best   the parameter vectors of `State.vectors`, except the last: it is params
    adam.m, adam.v           Adam's moments, as the sums M and V of `optim`
    history                  (epochs, 11) the records; NaN: not evaluated
    clock                    (epochs, 2) their seconds of training and of evaluation
    training                 the rest, as JSON text

Everything is an array or JSON text, so the file loads with ``allow_pickle=False``. It is written
whole or not at all. Apart from `clock`, a resumed run leaves the bytes of an uninterrupted one.
Version 3 stored a seed for the held-out images, from which their two streams are spawned.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import check_real, check_whole, overflow_raises
from ..files import read_model
from ..optim import Adam, Average
from ..params import Array, Params
from ..seeds import Streams, spawn_streams
from ..training.recipe import MAX_EPOCHS
from ..training.state import Best, Record, State
from ..vae import VAE

VERSION = 4
# What reading unexpected arrays or JSON raises.
_MALFORMED = (KeyError, TypeError, AttributeError, OverflowError, RecursionError, ValueError)
ADAM = ("lr", "beta1", "beta2", "eps")
CLOCK = ("seconds", "test_seconds")  # fields of a record that differ from run to run
HISTORY = tuple(name for name in Record._fields if name not in CLOCK)


def save_checkpoint(path: str | os.PathLike[str], state: State) -> None:
    """Write a checkpoint; ValueError for a model that `VAE.save` refuses."""
    import json

    _, adam, streams, history, average, best, settings = state
    training = {
        "version": VERSION,
        "run": dict(settings),
        "adam": {name: getattr(adam, name) for name in ("t", *ADAM)},
        "streams": {k: v.bit_generator.state for k, v in streams._asdict().items()},
        "average": None if average is None else {"eta": average.eta},
        "best": None if best is None else
                {"epoch": best.epoch, "elbo": best.elbo if best.epoch else None},
    }  # fmt: skip
    *others, _ = state.vectors.items()
    state.kept.save(
        path,
        {name: params.flat for name, params in others}
        | {"adam.m": adam.M.flat, "adam.v": adam.V.flat}
        | {"history": _table(history, HISTORY), "clock": _table(history, CLOCK)}
        | {"training": np.array(json.dumps(training))},
    )


def load_checkpoint(path: str | os.PathLike[str]) -> State:
    """Read a checkpoint; ValueError if it is damaged, inconsistent or of an unknown version."""
    import json

    model, arrays = read_model(path)  # once: a training process may replace the file
    try:
        vae = VAE.from_file(model, arrays)
        training = json.loads(str(arrays["training"]))
        if training["version"] not in (3, VERSION):
            raise ValueError(f"its version is {training['version']!r}, must be 3 or {VERSION}")
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
        seed = 0
        if training["version"] == 3:  # the last two streams came from a seed of their own
            seed = check_whole("test_seed", training["test_seed"], 0, (1 << 63) - 1)
        streams = spawn_streams(seed)
        for name in Streams._fields[: 4 if training["version"] == 3 else None]:
            getattr(streams, name).bit_generator.state = training["streams"][name]
        history = _history(arrays["history"], arrays["clock"])
        found = State(vae, adam, streams, history, average, best, dict(training["run"]))
        *others, _ = found.vectors.items()  # the last one was set from params
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
    """Raise ValueError if the layers overflow on the image decoded from z = 0.

    Only the layers: training can leave a log-variance whose exp overflows.
    """
    try:
        with overflow_raises():
            vae.encode(vae.decode(np.zeros((1, vae.latent_dim))))
    except FloatingPointError as error:
        raise ValueError(f"{name} holds values that no training leaves: {error}") from None


def _table(history: Sequence[Record], columns: Sequence[str]) -> Array:
    """Return columns of the records, (epochs, columns), with NaN for None."""
    rows = [[getattr(record, name) for name in columns] for record in history]
    return np.array(rows, np.float64).reshape(-1, len(columns))


def _history(table: Array, clock: Array) -> list[Record]:
    """Return the records from their two tables; ValueError unless the epochs are 1, 2, ..."""
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
    """Copy the array of this name into a vector of the same shape and dtype."""
    if (arrays[name].shape, arrays[name].dtype) != (params.flat.shape, params.dtype):
        raise ValueError(
            f"{name} is {arrays[name].dtype} {arrays[name].shape}, must be {params.dtype}"
            f" {params.flat.shape}"
        )
    params.flat[:] = arrays[name]
