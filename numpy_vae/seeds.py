"""What a seed means: the named streams of random numbers that are derived from it.

A run spawns six streams from its seed, one per random quantity, so a new draw from one never shifts
another. The held-out streams restart at each evaluation: two models, or two epochs, are compared on
the same numbers.

Two things are the same for every seed: the choice of images for testing or validation, so that no
test image of one run is a training image of another; and the pixels of static binarisation, which
are a data set like any other.
"""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SPLIT = 0
# Far from any seed that a user gives, so that no run has these streams.
_STATIC = int.from_bytes(b"static binarisation")


class Streams(NamedTuple):
    """The random streams of a run, by their use."""

    initialisation: np.random.Generator  # of the weights
    order: np.random.Generator  # of the training images, in each epoch
    noise: np.random.Generator  # eps
    pixels: np.random.Generator  # of dynamic binarisation
    held_out_noise: np.random.Generator  # these two are only copied: see `held_out`
    held_out_pixels: np.random.Generator

    def held_out(self) -> tuple[np.random.Generator, np.random.Generator]:
        """Return the streams of noise and pixels for a held-out set: the same at each call."""
        return deepcopy(self.held_out_noise), deepcopy(self.held_out_pixels)


def spawn_streams(rng: np.random.Generator | int | None) -> Streams:
    """Return the streams of a run with this seed, or spawned from this generator."""
    return Streams(*spawn(rng, len(Streams._fields)))


def spawn(rng: np.random.Generator | int | None, n: int) -> list[np.random.Generator]:
    """Return n independent streams, for an experiment with its own random quantities."""
    return np.random.default_rng(rng).spawn(n)


def split_order(n: int) -> NDArray[np.intp]:
    """Return a fixed permutation of n images, (n,), which determines what is held out."""
    return np.random.default_rng(_SPLIT).permutation(n)


def static_pixels() -> list[np.random.Generator]:
    """Return the streams of static binarisation: of the training, test and validation images."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(_STATIC).spawn(3)]
