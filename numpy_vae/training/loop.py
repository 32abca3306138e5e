"""Training: minibatches, noise, forward, backward, an Adam step; one record for each epoch.

    for each epoch:
        for each minibatch x of the shuffled training set:
            eps ~ N(0, I)                       K draws of it for each image
            trace = vae.forward(x, eps)
            grads = vae.terms_backward(trace, bound.backward(vae.terms(trace), beta))
            adam.step(grads, factor)            of the learning rate, by its schedule

Four streams of random numbers, spawned from one seed, serve the four things that are drawn: the
initial weights, the order of the images, the noise eps and the binarised pixels. A draw added to
one of them never shifts another. On the way, beta may rise from 0 (warm-up), lr may fall (a
schedule), and the output biases may start at the mean image.

A held-out set is evaluated every so many epochs, always with the same draws, and never trained on:
the test set, or, where images are set aside for validation, those. The test set is then left alone,
so that nothing can be chosen by it; what may be chosen, by the validation set, is the epoch whose
parameters are kept (`Best`), and when to stop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..bounds import BOUNDS, Terms
from ..checks import check_choice, check_real, check_whole, overflow_raises
from ..data.binarize import batch, binarize, minibatches, to_float
from ..data.dataset import Dataset
from ..data.mapped import Images, chunks
from ..likelihood import check_values
from ..memory import keep_freed_memory
from ..optim import SCHEDULES, Adam, Average
from ..params import Array, Params
from ..vae import VAE
from .evaluate import Elbo, elbo_of, evaluate_elbo
from .team import ALONE, Team, suitable_threads

MAX_EPOCHS = 1_000_000
MAX_BATCH_SIZE = 1 << 30
MAX_BETA = 1e6
MAX_SAMPLES = 10_000

Columns = tuple[float | None, float | None, float | None]  # of a Record: an Elbo, if there is one
NOT_EVALUATED: Columns = (None, None, None)


class Streams(NamedTuple):
    """The random numbers of a run, by what they are for."""

    initialisation: np.random.Generator
    order: np.random.Generator
    noise: np.random.Generator
    pixels: np.random.Generator
    test_seed: int  # every evaluation starts from it anew


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


class BatchSums(NamedTuple):
    """Sums over the images of a minibatch, in nats; the K samples of an image are averaged."""

    reconstruction: float
    kl: float
    loss: float  # minus the bound


def spawn_streams(rng: np.random.Generator | int | None) -> Streams:
    """Return the streams of the run with this seed (or spawned from this generator)."""
    parent = np.random.default_rng(rng)
    initialisation, order, noise, pixels = parent.spawn(4)
    return Streams(initialisation, order, noise, pixels, int(parent.integers(1 << 63)))


def start_output_bias(vae: VAE, images: Images) -> None:
    """Start the output biases where, by themselves, they make the decoder give the mean image.

    For the Bernoulli likelihood those are the log-odds of each pixel. The mean of pixels in [0, 1]
    is taken with half an image of zeros and half an image of ones more (Krichevsky and Trofimov's
    rule), so that a pixel that never lights, or always does, has finite log-odds.

    Parameters
    ----------
    images : ndarray or Rows, shape (N, D), uint8 or float
    """
    total = np.zeros(images.shape[1])
    for rows in chunks(images):
        total += to_float(images[rows], np.float64).sum(axis=0)
    low, high = vae.likelihood.support
    if math.isfinite(high - low):
        mean = (total + (low + high) / 2) / (len(images) + 1)
    else:
        mean = total / len(images)
    vae.params["output.b"][:] = vae.likelihood.link(mean)


def train_step(
    vae: VAE,
    adam: Adam,
    x: Array,
    eps: Array,
    grads: Sequence[Params],
    beta: float = 1.0,
    *,
    bound: str = "elbo",
    factor: float = 1.0,
    team: Team = ALONE,
) -> BatchSums:
    """Take one Adam step on one minibatch.

    Parameters
    ----------
    x : ndarray, shape (B, D)
    eps : ndarray, shape (B, Z) or (K, B, Z)
    grads : sequence of Params
        Memory for the gradient of each member of the team; the first holds their sum afterwards.
    beta : float
        Coefficient of the KL, or of the log ratio.
    bound : {"elbo", "iwae"}
        What is maximised: see `numpy_vae.bounds`.
    factor : float
        Of Adam's learning rate.
    team : Team
        Threads, each of which takes a share of the images, and then of the parameters.

    Raises
    ------
    ValueError
        If there are not as many gradients as members, or x and eps do not belong together.
    FloatingPointError
        If a value overflows or is not a number. The parameters are then as they were, unless it
        was the step itself that overflowed.
    """
    if len(grads) != team.size:
        raise ValueError(
            f"grads has length {len(grads)}, must have {team.size}: one for each thread"
        )
    if x.ndim != 2 or len(x) == 0 or eps.ndim not in (2, 3) or eps.shape[-2] != len(x):
        raise ValueError(  # before a share of one is taken, which could fit by accident
            f"x has shape {x.shape} and eps {eps.shape}, must be (B, D) and (B, Z) or (K, B, Z)"
        )

    def gradient(member: int) -> BatchSums:
        rows = team.share(len(x), member)
        return _gradient(vae, x[rows], eps[..., rows, :], grads[member], beta, bound, len(x))

    def update(member: int) -> None:
        share = team.share(vae.params.flat.size, member)
        total = grads[0].flat[share]
        for part in grads[1:]:
            total += part.flat[share]
        adam.update(share, grads[0], factor)

    with overflow_raises():
        sums = team.run(gradient)
        team.run(update)
    adam.t += 1
    return BatchSums(*map(sum, zip(*sums, strict=True)))


def _gradient(
    vae: VAE, x: Array, eps: Array, grads: Params, beta: float, bound: str, n: int
) -> BatchSums:
    """The gradient of the mean loss of n images, as far as it comes from these, into `grads`.

    x is (B, D) and eps (B, Z) or (K, B, Z), with B <= n; returns the sums over these, in nats.
    """
    if len(x) == 0:  # fewer images than threads
        grads.flat[:] = 0
        return BatchSums(0.0, 0.0, 0.0)
    weight = len(x) / n
    trace = vae.forward(x, eps)
    terms = vae.terms(trace)
    loss = float(BOUNDS[bound].forward(terms, beta))
    dnll, dkl, dratio = BOUNDS[bound].backward(terms, beta)  # of the mean loss of these alone
    dratio = None if dratio is None else weight * dratio
    vae.terms_backward(trace, Terms(weight * dnll, weight * dkl, dratio), out=grads)
    # A NaN that comes in raises no flag, and flags of BLAS threads may be lost. With a finite Σ g²
    # no g² overflows; what overflows in a sum of parts, or of steps, Adam raises.
    if not math.isfinite(loss):
        raise FloatingPointError("the loss is not finite")
    if not math.isfinite(np.dot(grads.flat, grads.flat)):
        raise FloatingPointError("the gradient is not finite")
    samples = terms.reconstruction.size / len(x)
    reconstruction, kl = float(terms.reconstruction.sum()) / samples, float(terms.kl.sum())
    return BatchSums(reconstruction, kl, loss * len(x))


def train_epochs(
    vae: VAE,
    data: Dataset,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 1e-3,
    schedule: str = "constant",
    beta: float = 1.0,
    warmup: int = 0,
    bound: str = "elbo",
    samples: int = 1,
    binarize: str = "none",
    evaluate_every: int = 1,
    rng: Streams | np.random.Generator | int | None = None,
    adam: Adam | None = None,
    average: Average | None = None,
    best: Best | None = None,
    patience: int | None = None,
    done: int = 0,
    threads: int | None = None,
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
    schedule : {"constant", "cosine", "burda"}
        What becomes of the step size on the way to the last epoch (see `numpy_vae.optim`).
    beta : float
        Coefficient of the KL in the objective.
    warmup : int
        Epochs in which beta rises from 0 to its value, in a straight line.
    bound : {"elbo", "iwae"}
        What is maximised (see `numpy_vae.bounds`).
    samples : int
        K, draws of z for each image in each step.
    binarize : {"none", "threshold", "static", "dynamic"}
        What is done to grey pixels (see `numpy_vae.data`). "none" by default; the command line
        takes "dynamic" for the Bernoulli likelihood.
    evaluate_every : int
        Evaluate the held-out set, validation if there is one, else test, every so many epochs, and
        after the last.
    rng : numpy.random.Generator, or what `numpy.random.default_rng` accepts, or Streams
    adam : Adam, optional
        An optimiser of `vae.params`, to go on with its moments.
    average : Average, optional
        An average of `vae.params`; what is evaluated is then the model over it.
    best : Best, optional
        Where the parameters with the highest validation ELBO are kept (of the average, if any).
    patience : int, optional
        Stop when the best epoch lies this many epochs back. Needs `best`.
    done : int
        Epochs that this training has behind it, to go on with a run that was stopped.
    threads : int, optional
        Threads that share each minibatch (see `training.team`). By default as many as are known to
        gain by it, `suitable_threads`. Rounding apart, the result is the same for any number; each
        has a gradient vector of its own.
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
    check_whole("done", done, 0, epochs)
    check_whole("evaluate_every", evaluate_every, 1, MAX_EPOCHS)
    check_whole("samples", samples, 1, MAX_SAMPLES)
    check_choice("bound", bound, BOUNDS)
    factor_of = SCHEDULES[check_choice("schedule", schedule, SCHEDULES)]
    batch_size = min(check_whole("batch_size", batch_size, 1, MAX_BATCH_SIZE), len(data.train))
    # A Python float: a NumPy float64 would make float64 of the gradient.
    beta = check_real("beta", beta, 0, MAX_BETA, open_below=False)
    check_whole("warmup", warmup, 0, epochs)
    if best is not None and data.validation is None:
        raise ValueError(
            "best is chosen by the validation set, and the data have none: see split_validation"
        )
    if patience is not None:
        check_whole("patience", patience, 1, MAX_EPOCHS)
        if best is None:
            raise ValueError(f"patience is {patience}, must be None without best=Best(vae.params)")
    data = _prepared(vae, data, binarize)
    streams = rng if isinstance(rng, Streams) else spawn_streams(rng)
    pixels = streams.pixels if binarize == "dynamic" else None
    adam = Adam(vae.params, lr) if adam is None else adam
    evaluated = vae if average is None else vae.over(average.mean)
    team = Team(suitable_threads(batch_size, samples) if threads is None else threads)
    grads = [vae.params.zeros_like() for _ in range(team.size)]
    n, dtype = len(data.train), vae.params.dtype
    batches = math.ceil(n / batch_size)
    keep_freed_memory()

    for epoch in range(done + 1, epochs + 1):
        # Before an epoch, and by what a checkpoint holds: a resumed run stops where this one does.
        behind = epoch - 1
        waited = behind - best.epoch if best is not None and best.epoch else 0
        if patience is not None and waited >= patience and behind % evaluate_every == 0:
            return
        start = time.perf_counter()
        sums, seen = np.zeros(3), 0
        with team:
            for i, rows in enumerate(minibatches(n, batch_size, streams.order), start=1):
                x = batch(data.train, rows, pixels=pixels, dtype=dtype)
                lead = (samples, len(x)) if samples > 1 else (len(x),)
                eps = streams.noise.standard_normal((*lead, vae.latent_dim), dtype)
                elapsed = epoch - 1 + (i - 1) / batches  # epochs, with a fraction
                beta_now = beta * min(1.0, elapsed / warmup) if warmup else beta
                factor = factor_of(elapsed / epochs)
                step = adam.t + 1
                try:
                    sums += train_step(
                        vae, adam, x, eps, grads, beta_now, bound=bound, factor=factor, team=team
                    )
                except FloatingPointError as error:
                    raise FloatingPointError(f"step {step}: {error}") from None
                if average is not None:
                    average.update(adam.t)
                seen += len(x)
                if on_step is not None:
                    reconstruction, kl, loss = (sums / seen).tolist()
                    on_step(Step(epoch, epochs, i, batches, -loss, reconstruction, kl))
        trained = time.perf_counter()
        test = validation = NOT_EVALUATED
        if epoch == epochs or epoch % evaluate_every == 0:
            held_out = data.test if data.validation is None else data.validation
            try:
                draw = pixels is not None
                found = evaluate_elbo(evaluated, held_out, draw=draw, rng=streams.test_seed)
            except FloatingPointError as error:
                raise FloatingPointError(f"the evaluation after step {adam.t}: {error}") from None
            if data.validation is None:
                test = found
            else:
                validation = found
            if best is not None:
                best.update(epoch, found.elbo, evaluated.params)
        reconstruction, kl, loss = (sums / n).tolist()
        train = elbo_of(reconstruction, kl)
        seconds, test_seconds = trained - start, time.perf_counter() - trained
        yield Record(epoch, *train, *test, seconds, test_seconds, -loss, *validation)


def _prepared(vae: VAE, data: Dataset, mode: str) -> Dataset:
    """Return the data as they are binarised, or refuse what does not fit the model."""
    if data.train.shape[1] != vae.data_dim:
        raise ValueError(f"images have {data.train.shape[1]} pixels, must have {vae.data_dim}")
    data = binarize(data, mode)
    sets = {"training": data.train, "test": data.test, "validation": data.validation}
    for what, images in sets.items():
        if images is not None:
            check_values(vae.likelihood, images, f"the {what} images")
    return data


def fit(
    vae: VAE,
    data: Dataset,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 1e-3,
    schedule: str = "constant",
    beta: float = 1.0,
    warmup: int = 0,
    bound: str = "elbo",
    samples: int = 1,
    binarize: str = "none",
    evaluate_every: int = 1,
    rng: Streams | np.random.Generator | int | None = None,
    average: Average | None = None,
    best: Best | None = None,
    patience: int | None = None,
    threads: int | None = None,
    report: Callable[[Step | Record], None] | None = None,
) -> list[Record]:
    """Train in place to the end, and return the records: `train_epochs`, drained.

    `report` is called after each step with a `Step`, and after each epoch with its `Record`: such
    as a `numpy_vae.Progress`.
    """
    history = []
    for record in train_epochs(
        vae, data, epochs=epochs, batch_size=batch_size, lr=lr, schedule=schedule, beta=beta,
        warmup=warmup, bound=bound, samples=samples, binarize=binarize,
        evaluate_every=evaluate_every, rng=rng, average=average, best=best, patience=patience,
        threads=threads, on_step=report,
    ):  # fmt: skip
        history.append(record)
        if report is not None:
            report(record)
    return history
