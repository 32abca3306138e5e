"""A run on disk: parameters, Adam's moments, the random streams and the history, in one file.

`VAE.load` reads the model out of the same file. Everything is an array or JSON text, so that the
file can be read with ``allow_pickle=False``; and it is written whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .files import read_arrays
from .optim import Adam
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


def save_checkpoint(
    path: str | os.PathLike[str],
    vae: VAE,
    adam: Adam,
    streams: Streams,
    history: Sequence[Record],
) -> None:
    """Write a checkpoint, whole or not at all (OSError)."""
    training = {
        "version": VERSION,
        "adam": {"t": adam.t, "lr": adam.lr, "beta1": adam.beta1, "beta2": adam.beta2,
                 "eps": adam.eps},
        "test_seed": streams.test_seed,
        "streams": {name: getattr(streams, name).bit_generator.state for name in STREAMS},
        "history": [record._asdict() for record in history],
    }  # fmt: skip
    moments = {"adam.m": adam.m.flat, "adam.v": adam.v.flat}
    vae.save(path, moments | {"training": np.array(json.dumps(training))})


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
        settings = training["adam"]
        t = settings.pop("t")
        adam = Adam(vae.params, **settings)
        adam.t = int(t)
        for moment, name in (adam.m, "adam.m"), (adam.v, "adam.v"):
            if arrays[name].shape != moment.flat.shape:
                raise ValueError(f"{name} is {arrays[name].shape}, must be {moment.flat.shape}")
            moment.flat[:] = arrays[name]
        streams = spawn_streams(0)._replace(test_seed=int(training["test_seed"]))
        for name in STREAMS:
            getattr(streams, name).bit_generator.state = training["streams"][name]
        history = [Record(**record) for record in training["history"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a checkpoint ({error})") from None
    return Checkpoint(vae, adam, streams, history)
