"""Everything that training changes, which a checkpoint must hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ..optim import Adam, Average
from ..params import Params
from ..seeds import Streams
from ..vae import VAE
from .evaluate import Elbo

Columns = tuple[float | None, float | None, float | None]  # of a Record: an Elbo, or None
NOT_EVALUATED: Columns = (None, None, None)


class Record(NamedTuple):
    """One epoch, in nats per image: elbo = -(reconstruction + kl) for any beta."""

    epoch: int  # from 1
    train_elbo: float  # mean over the epoch, as the parameters change
    train_reconstruction: float
    train_kl: float
    test_elbo: float | None  # after the epoch, with one draw of noise and pixels; None if not done
    test_reconstruction: float | None
    test_kl: float | None
    seconds: float  # of training
    test_seconds: float  # of evaluation, on either set
    train_bound: float  # mean over the epoch of minus the loss, beta included
    validation_elbo: float | None = None  # as test_elbo
    validation_reconstruction: float | None = None
    validation_kl: float | None = None

    def held_out(self) -> dict[str, Elbo]:
        """The evaluations after this epoch, by the name of the set: validation, test."""
        found = {}
        for name in "validation", "test":
            terms = [getattr(self, f"{name}_{term}") for term in Elbo._fields]
            if terms[0] is not None:
                found[name] = Elbo(*terms)
        return found


class Step(NamedTuple):
    """The progress of an epoch; means over the epoch so far, in nats per image."""

    epoch: int  # from 1
    epochs: int
    batch: int  # from 1
    batches: int
    train_bound: float
    train_reconstruction: float
    train_kl: float


class Best:
    """The parameters of the epoch with the highest validation ELBO so far."""

    def __init__(self, params: Params) -> None:
        self.params = params.copy()  # before the first epoch, of the argument
        self.epoch, self.elbo = 0, -math.inf  # from 1; in nats per image

    def update(self, epoch: int, elbo: float, params: Params) -> None:
        """Keep `params` if `elbo` is higher than all before."""
        if elbo > self.elbo:
            self.params.flat[:] = params.flat
            self.epoch, self.elbo = epoch, elbo


class State(NamedTuple):
    """The state of a training."""

    vae: VAE  # with the current parameters
    adam: Adam
    streams: Streams
    history: list[Record]
    average: Average | None = None
    best: Best | None = None
    settings: Mapping[str, Any] = MappingProxyType({})  # of the run, for JSON

    @property
    def vectors(self) -> dict[str, Params]:
        """The parameters by name, trained, average, best, if they exist; the last one is kept."""
        vectors = {"trained": self.vae.params}
        if self.average is not None:
            vectors["average"] = self.average.mean
        if self.best is not None and self.best.epoch:
            vectors["best"] = self.best.params
        return vectors

    @property
    def kept(self) -> VAE:
        """The model to evaluate and use, over the last of `vectors`."""
        *_, params = self.vectors.values()
        return self.vae.over(params)

    @property
    def kept_epoch(self) -> int:
        """The epoch of `kept`."""
        best = self.best
        return best.epoch if best is not None and best.epoch else len(self.history)

    @property
    def model_id(self) -> str:
        """A hash of the kept parameters; files.json records it for files made from them."""
        import hashlib

        return hashlib.sha256(self.kept.params.flat.data).hexdigest()[:16]
