"""A run on disk: parameters, Adam's moments, the random streams and the history, in one file.

`VAE.load` reads the model out of the same file: the one that is evaluated, over the average of the
parameters where there is one; the parameters that training goes on from are beside it. Everything
is an array or JSON text, so that the file can be read with ``allow_pickle=False``; and it is
written whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .files import read_arrays
from .optim import Adam, Average
from .params import Array, Params
from .train import Record, Streams, spawn_streams
from .vae import VAE

VERSION = 1
STREAMS = ("initialisation", "order", "noise", "pixels")


class Checkpoint(NamedTuple):
    """What it takes to go on with a run."""

    vae: VAE
    adam: Adam
    streams: Streams
    history: list[Record]
    average: Average | None


def save_checkpoint(
    path: str | os.PathLike[str],
    vae: VAE,
    adam: Adam,
    streams: Streams,
    history: Sequence[Record],
    average: Average | None = None,
) -> None:
    """Write a checkpoint, whole or not at all (OSError)."""
    training = {
        "version": VERSION,
        "adam": {"t": adam.t, "lr": adam.lr, "beta1": adam.beta1, "beta2": adam.beta2,
                 "eps": adam.eps},
        "test_seed": streams.test_seed,
        "streams": {name: getattr(streams, name).bit_generator.state for name in STREAMS},
        "history": [record._asdict() for record in history],
        "eta": None if average is None else average.eta,
    }  # fmt: skip
    arrays = {"adam.m": adam.m.flat, "adam.v": adam.v.flat}
    if average is not None:
        arrays["trained"] = vae.params.flat
        vae = vae.over(average.mean)
    vae.save(path, arrays | {"training": np.array(json.dumps(training))})


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read what `save_checkpoint` has written.

    Raises
    ------
    ValueError
        If the file is damaged, is no checkpoint, or is of a newer version.
    OSError
        If it cannot be read.
    """
    vae = VAE.load(path)
    arrays = read_arrays(path)
    try:
        training = json.loads(str(arrays["training"]))
        if training["version"] != VERSION:
            raise ValueError(f"its version is {training['version']}, must be {VERSION}")
        average = None
        if training.get("eta") is not None:
            average = Average(vae.params, training["eta"])  # of what the file holds: the average
            _fill(vae.params, arrays, "trained")
        settings = training["adam"]
        t = settings.pop("t")
        adam = Adam(vae.params, **settings)
        adam.t = int(t)
        _fill(adam.m, arrays, "adam.m")
        _fill(adam.v, arrays, "adam.v")
        streams = spawn_streams(0)._replace(test_seed=int(training["test_seed"]))
        for name in STREAMS:
            getattr(streams, name).bit_generator.state = training["streams"][name]
        history = [Record(**record) for record in training["history"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a checkpoint ({error})") from None
    return Checkpoint(vae, adam, streams, history, average)


def _fill(params: Params, arrays: Mapping[str, Array], name: str) -> None:
    if arrays[name].shape != params.flat.shape:
        raise ValueError(f"{name} is {arrays[name].shape}, must be {params.flat.shape}")
    params.flat[:] = arrays[name]
