"""Everything that training changes: what a checkpoint must hold."""

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

Columns = tuple[float | None, float | None, float | None]  # of a Record: an Elbo, if there is one
NOT_EVALUATED: Columns = (None, None, None)


class Record(NamedTuple):
    """One epoch, in nats per image: elbo = -(reconstruction + kl), whatever beta was.

    What was not evaluated after this epoch is None.
    """

    epoch: int  # from 1
    train_elbo: float  # mean over the epoch, while the parameters changed
    train_reconstruction: float
    train_kl: float
    test_elbo: float | None  # at the end of the epoch, with one draw of noise and pixels
    test_reconstruction: float | None
    test_kl: float | None
    seconds: float  # of training
    test_seconds: float  # of evaluation, whichever the set
    train_bound: float  # mean over the epoch of what was maximised: minus the loss, beta included
    validation_elbo: float | None = None  # as test_elbo
    validation_reconstruction: float | None = None
    validation_kl: float | None = None

    def held_out(self) -> dict[str, Elbo]:
        """What was evaluated after this epoch, by the name of the set: validation, test."""
        found = {}
        for name in "validation", "test":
            terms = [getattr(self, f"{name}_{term}") for term in Elbo._fields]
            if terms[0] is not None:
                found[name] = Elbo(*terms)
        return found


class Step(NamedTuple):
    """How far an epoch has got; the means are those of it so far, in nats per image."""

    epoch: int  # from 1
    epochs: int
    batch: int  # from 1
    batches: int
    train_bound: float
    train_reconstruction: float
    train_kl: float


class Best:
    """The parameters of the epoch with the highest validation ELBO so far.

    Parameters
    ----------
    params : Params
        Gives the layout, and is what is kept until the first epoch.

    Attributes
    ----------
    params : Params
        A copy, in memory of its own.
    epoch : int
        From 1; 0 before any.
    elbo : float
        Its validation ELBO, in nats per image; -inf before any.
    """

    def __init__(self, params: Params) -> None:
        self.params = params.copy()
        self.epoch, self.elbo = 0, -math.inf

    def update(self, epoch: int, elbo: float, params: Params) -> None:
        """Keep `params` if `elbo` is higher than any before; of equal ones the first stays."""
        if elbo > self.elbo:
            self.params.flat[:] = params.flat
            self.epoch, self.elbo = epoch, elbo


class State(NamedTuple):
    """A training under way."""

    vae: VAE  # with the current parameters
    adam: Adam
    streams: Streams
    history: list[Record]
    average: Average | None = None
    best: Best | None = None
    settings: Mapping[str, Any] = MappingProxyType({})  # of the run, as JSON takes them

    @property
    def vectors(self) -> dict[str, Params]:
        """Those that exist of trained, average and best, in this order; the last is kept."""
        vectors = {"trained": self.vae.params}
        if self.average is not None:
            vectors["average"] = self.average.mean
        if self.best is not None and self.best.epoch:
            vectors["best"] = self.best.params
        return vectors

    @property
    def kept(self) -> VAE:
        """The model that is evaluated, drawn and used: over the last of `vectors`."""
        *_, params = self.vectors.values()
        return self.vae.over(params)

    @property
    def kept_epoch(self) -> int:
        """The epoch that `kept` comes from."""
        best = self.best
        return best.epoch if best is not None and best.epoch else len(self.history)

    @property
    def model_id(self) -> str:
        """A hash of the kept parameters; files.json records it for the files made from them."""
        import hashlib

        return hashlib.sha256(self.kept.params.flat.data).hexdigest()[:16]
