"""Training: minibatches, noise, forward, backward, an Adam step; one record for each epoch.

    for each epoch:
        for each minibatch x of the shuffled training set:
            eps ~ N(0, I)
            trace = vae.forward(x, eps)
            grads = vae.backward(trace, beta)
            adam.step(grads)

Four streams of random numbers, spawned from one seed, serve the four things that are drawn: the
initial weights, the order of the images, the noise eps and the binarised pixels. A draw added to
one of them never shifts another. The test set is evaluated after each epoch, always with the same
draws, and is never trained on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .checks import check_real, check_whole
from .data import Dataset, batch, binarized, minibatches
from .evaluate import elbo_of, evaluate_elbo
from .likelihood import check_values
from .optim import Adam
from .params import Array, Params
from .vae import VAE

MAX_EPOCHS = 1_000_000
MAX_BATCH_SIZE = 1 << 30
MAX_BETA = 1e6


class Streams(NamedTuple):
    """The random numbers of a run, by what they are for."""

    initialisation: np.random.Generator
    order: np.random.Generator
    noise: np.random.Generator
    pixels: np.random.Generator
    test_seed: int  # every evaluation starts from it anew


class Record(NamedTuple):
    """One epoch, in nats per image: elbo = -(reconstruction + kl), whatever beta was."""

    epoch: int  # from 1
    train_elbo: float  # mean over the epoch, while the parameters changed
    train_reconstruction: float
    train_kl: float
    test_elbo: float  # at the end of the epoch, with one draw of noise and pixels
    test_reconstruction: float
    test_kl: float
    seconds: float  # of training
    test_seconds: float  # of evaluation


class Step(NamedTuple):
    """How far an epoch has got."""

    epoch: int  # from 1
    batch: int  # from 1
    batches: int
    train_elbo: float  # mean so far in this epoch, in nats per image


def spawn_streams(rng: np.random.Generator | int | None) -> Streams:
    """Return the streams of the run with this seed (or spawned from this generator)."""
    parent = np.random.default_rng(rng)
    initialisation, order, noise, pixels = parent.spawn(4)
    return Streams(initialisation, order, noise, pixels, int(parent.integers(1 << 63)))


def train_step(
    vae: VAE, adam: Adam, x: Array, eps: Array, grads: Params, beta: float = 1.0
) -> tuple[float, float]:
    """Take one Adam step on one minibatch.

    Parameters
    ----------
    x : ndarray, shape (B, D)
    eps : ndarray, shape (B, Z)
    grads : Params
        Memory for the gradient.
    beta : float
        Coefficient of the KL.

    Returns
    -------
    reconstruction, kl : float
        Sums over the minibatch, in nats.

    Raises
    ------
    FloatingPointError
        If a value overflows or is not a number. The parameters are then as they were, unless it
        was the step itself that overflowed.
    """
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        trace = vae.forward(x, eps)
        reconstruction, kl = (float(term.sum()) for term in vae.loss(trace))
        vae.backward(trace, beta, out=grads)
        # A NaN that comes in raises no flag, and flags of BLAS threads may be lost. A finite Σ g²
        # also means that no g² overflows in Adam.
        if not math.isfinite(reconstruction + kl):
            raise FloatingPointError("the loss is not finite")
        if not math.isfinite(np.dot(grads.flat, grads.flat)):
            raise FloatingPointError("the gradient is not finite")
        adam.step(grads)
    return reconstruction, kl


def train_epochs(
    vae: VAE,
    data: Dataset,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 1e-3,
    beta: float = 1.0,
    binarize: str = "none",
    rng: Streams | np.random.Generator | int | None = None,
    adam: Adam | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Iterator[Record]:
    """Train in place, and yield a record after each epoch.

    Parameters
    ----------
    vae : VAE
    data : Dataset
    epochs, batch_size : int
        The last minibatch of an epoch may be smaller, and none is larger than the training set.
    lr : float
        Adam's step size; not used where `adam` is given.
    beta : float
        Coefficient of the KL in the objective.
    binarize : {"none", "threshold", "static", "dynamic"}
        What is done to grey pixels (see `numpy_vae.data`). "none" by default; the command line
        takes "dynamic" for the Bernoulli likelihood.
    rng : numpy.random.Generator, or what `numpy.random.default_rng` accepts, or Streams
    adam : Adam, optional
        An optimiser of `vae.params`, to go on with its moments.
    on_step : callable, optional
        Called after each step, where everything is consistent; may raise to stop the training.

    Yields
    ------
    Record

    Raises
    ------
    ValueError
        If a setting is out of range, or the data do not fit the model. Raised at the first record.
    FloatingPointError
        If a value overflows or is not a number, with the number of the step. No record is then
        yielded for the epoch, so what a caller saved at the last one is sound.
    """
    check_whole("epochs", epochs, 1, MAX_EPOCHS)
    batch_size = min(check_whole("batch_size", batch_size, 1, MAX_BATCH_SIZE), len(data.train))
    check_real("beta", beta, 0, MAX_BETA, open_below=False)
    if data.train.shape[1] != vae.data_dim:
        raise ValueError(f"images have {data.train.shape[1]} pixels, must have {vae.data_dim}")
    data = binarized(data, binarize)
    check_values(vae.likelihood, data.train, "the training images")
    check_values(vae.likelihood, data.test, "the test images")
    draws = "dynamic" if binarize == "dynamic" else "none"  # the others are in the data by now
    streams = rng if isinstance(rng, Streams) else spawn_streams(rng)
    adam = Adam(vae.params, lr) if adam is None else adam
    grads = vae.params.zeros_like()
    n, dtype = len(data.train), vae.params.dtype
    batches = math.ceil(n / batch_size)

    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        reconstruction, kl, seen = 0.0, 0.0, 0
        for i, rows in enumerate(minibatches(n, batch_size, streams.order), start=1):
            x = batch(data.train, rows, binarize=draws, rng=streams.pixels, dtype=dtype)
            eps = streams.noise.standard_normal((len(x), vae.latent_dim), dtype)
            step = adam.t + 1
            try:
                terms = train_step(vae, adam, x, eps, grads, beta)
            except FloatingPointError as error:
                raise FloatingPointError(f"step {step}: {error}") from None
            reconstruction += terms[0]
            kl += terms[1]
            seen += len(x)
            if on_step is not None:
                on_step(Step(epoch, i, batches, -(reconstruction + kl) / seen))
        trained = time.perf_counter()
        try:
            test = evaluate_elbo(vae, data.test, binarize=draws, rng=streams.test_seed)
        except FloatingPointError as error:
            raise FloatingPointError(f"the evaluation after step {adam.t}: {error}") from None
        train = elbo_of(reconstruction / n, kl / n)
        yield Record(epoch, *train, *test, trained - start, time.perf_counter() - trained)


def fit(
    vae: VAE,
    data: Dataset,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 1e-3,
    beta: float = 1.0,
    binarize: str = "none",
    rng: Streams | np.random.Generator | int | None = None,
) -> list[Record]:
    """Train in place to the end, and return the records: `train_epochs`, drained."""
    return list(
        train_epochs(
            vae, data, epochs=epochs, batch_size=batch_size, lr=lr, beta=beta, binarize=binarize,
            rng=rng,
        )
    )  # fmt: skip
