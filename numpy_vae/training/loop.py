"""Training: minibatches, noise, forward, backward, an Adam step; one record for each epoch.

    for each epoch:
        for each minibatch x of the shuffled training set:
            eps ~ N(0, I)                       K draws for each image
            trace = vae.forward(x, eps)
            grads = vae.terms_backward(trace, bound.backward(vae.terms(trace), beta))
            adam.step(grads, factor)            the schedule's factor of the learning rate

Each random quantity has its own stream (`numpy_vae.seeds`). beta may rise from 0 (warm-up), lr may
fall (a schedule), and the output biases may start at the mean image.

A held-out set is evaluated at regular epochs, always with the same draws: the test set, or the
validation set if there is one. In that case the test set is not touched during training, and the
validation set alone decides which epoch is kept (`Best`) and when to stop.

References
----------
[1] R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural
    networks", ICML 2013: clipping by the norm of the whole gradient.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeAlias

import numpy as np

from ..bounds import BOUNDS, Terms
from ..checks import check_whole, overflow_raises
from ..data.binarize import batch, binarize, minibatches, to_float
from ..data.dataset import Dataset, split_validation
from ..data.mapped import Images, chunks, gather
from ..likelihood import check_values
from ..memory import keep_freed_memory
from ..optim import SCHEDULES, Adam, Average
from ..params import Array, Params
from ..seeds import Streams, spawn_streams
from ..vae import VAE
from .evaluate import elbo_of, mean_elbo
from .overflow import check_start
from .recipe import BATCH_SIZE, Recipe
from .state import NOT_EVALUATED, Best, Record, State, Step
from .team import ALONE, Team, suitable_threads

DEFAULTS = Recipe()
MOST_ROWS = 10_000  # from which the initial variance is computed
ROUNDING = 1e-20  # of a mean square, relative
Seed: TypeAlias = "Streams | np.random.Generator | int | None"


class BatchSums(NamedTuple):
    """Sums over the images of a minibatch, in nats; the K samples per image are averaged."""

    reconstruction: float
    kl: float
    loss: float  # minus the bound


def start_variance(vae: VAE, images: Images) -> None:
    """Set learned variances that are at their default to those of the images, (N, D).

    One for all columns is the mean over the columns. They are in the model's units (`VAE.scaling`).
    A column that is constant keeps the default.
    """
    block = vae.params.views.get("likelihood.logvar")
    if block is None or (block != np.log(0.1).astype(block.dtype)).any():
        return
    n = len(images)
    rows = np.linspace(0, n - 1, min(n, MOST_ROWS)).astype(int)
    x = to_float(gather(images, rows), np.float64)
    x = x if vae.scaling is None else vae.scaling.forward(x)
    variance, squares = x.var(axis=0), (x * x).mean(axis=0)
    if len(block) == 1:
        variance, squares = variance.mean(keepdims=True), squares.mean(keepdims=True)
    positive = variance > ROUNDING * squares  # that of a constant column is its rounding
    block[positive] = np.log(variance[positive])


def start_output_bias(vae: VAE, images: Images) -> None:
    """Set the output biases so that on their own they decode to the mean of the images, (N, D).

    For the Bernoulli likelihood they are the log-odds of each pixel. The mean of pixels in [0, 1]
    includes half an image of zeros and half an image of ones (Krichevsky and Trofimov's rule), so
    that a pixel that is always off or always on has finite log-odds. That of counts includes half a
    count.
    """
    total = np.zeros(images.shape[1])
    for rows in chunks(images):
        total += to_float(images[rows], np.float64).sum(axis=0)
    low, high = vae.likelihood.support
    if math.isfinite(high - low):
        mean = (total + (low + high) / 2) / (len(images) + 1)
    elif vae.likelihood.whole:
        mean = (total + 1 / 2) / (len(images) + 1)
    else:
        mean = total / len(images)
    if vae.scaling is not None:
        mean = vae.scaling.forward(mean)
    vae.params["output.b"][:] = vae.likelihood.link(mean)


def train_step(
    vae: VAE, adam: Adam, x: Array, eps: Array, grads: Sequence[Params], beta: float = 1.0, *,
    bound: str = "elbo", factor: float = 1.0, clip: float | None = None, team: Team = ALONE,
) -> BatchSums:  # fmt: skip
    """Take one Adam step on a minibatch x, (B, D), with noise eps, (B, Z) or (K, B, Z).

    `grads` is memory for the gradient of each thread of the team; the first receives their sum.
    `beta` weighs the KL, or the log ratio (see `numpy_vae.bounds`). `factor` multiplies Adam's
    learning rate. With `clip`, Adam gets g min(1, clip / |g|), where |g| is the norm of the
    gradient over all parameters [1]. The threads share first the images, then the parameters.

    ValueError if the number of gradients or a shape does not match. FloatingPointError if a value
    is not finite; the parameters are then unchanged, unless the step itself overflowed.
    """
    if len(grads) != team.size:
        raise ValueError(
            f"grads has length {len(grads)}, must have {team.size}: one for each thread"
        )
    if x.ndim != 2 or len(x) == 0 or eps.ndim not in (2, 3) or eps.shape[-2] != len(x):
        raise ValueError(  # before they are split: shares could fit by accident
            f"x has shape {x.shape} and eps {eps.shape}, must be (B, D) and (B, Z) or (K, B, Z)"
        )

    def gradient(member: int) -> BatchSums:
        rows = team.share(len(x), member)
        return _gradient(vae, x[rows], eps[..., rows, :], grads[member], beta, bound, len(x))

    def add(member: int) -> Array:
        """Sum a share of the gradients into the first; return it."""
        share = team.share(vae.params.flat.size, member)
        total = grads[0].flat[share]
        for part in grads[1:]:
            total += part.flat[share]
        return total

    def update(member: int) -> None:
        if clip is None:
            add(member)
        adam.update(team.share(vae.params.flat.size, member), grads[0], factor)

    with overflow_raises():
        sums = team.run(gradient)
        if clip is not None:
            squares = [np.square(g, dtype=np.float64).sum() for g in team.run(add)]
            norm = math.sqrt(sum(squares))
            if norm > clip:
                grads[0].flat[:] *= clip / norm
        team.run(update)
    adam.t += 1
    return BatchSums(*map(sum, zip(*sums, strict=True)))


def _gradient(
    vae: VAE, x: Array, eps: Array, grads: Params, beta: float, bound: str, n: int
) -> BatchSums:
    """Assign these images' part of the gradient of the mean loss of n images to `grads`.

    x is (B, D) and eps (B, Z) or (K, B, Z), with B <= n. Return the sums over these images.
    """
    if len(x) == 0:  # fewer images than threads
        grads.flat[:] = 0
        return BatchSums(0.0, 0.0, 0.0)
    weight = len(x) / n
    trace = vae.forward(x, eps)
    terms = vae.terms(trace)
    loss = float(BOUNDS[bound].forward(terms, beta))
    dnll, dkl, dratio = BOUNDS[bound].backward(terms, beta)  # of the mean loss of these images
    dratio = None if dratio is None else weight * dratio
    vae.terms_backward(trace, Terms(weight * dnll, weight * dkl, dratio), out=grads)
    # A NaN in the inputs raises no flag, and flags of BLAS threads may be lost. If Σ g² is finite,
    # no g² overflows; Adam raises if a sum of parts or of steps does.
    if not math.isfinite(loss):
        raise FloatingPointError("the loss is not finite")
    if not math.isfinite(np.dot(grads.flat, grads.flat)):
        raise FloatingPointError("the gradient is not finite")
    samples = terms.reconstruction.size / len(x)
    reconstruction, kl = float(terms.reconstruction.sum()) / samples, float(terms.kl.sum())
    return BatchSums(reconstruction, kl, loss * len(x))


def prepare(vae: VAE, data: Dataset, recipe: Recipe, *, tested: bool = True) -> Dataset:
    """Return the data binarized and with a validation set; ValueError if they do not fit.

    Only without `tested` may the test set be empty.
    """
    sets = {"training": data.train, "test": data.test, "validation": data.validation}
    for what, images in sets.items():
        if images is None or (images is data.test and not tested):
            continue
        pixels = images.dtype == np.uint8 or images.dtype.kind == "f"
        if not pixels or images.ndim != 2 or len(images) == 0:
            raise ValueError(
                f"the {what} images are {images.dtype} {images.shape}, must be uint8 or floats, "
                "(N, D) with N at least 1: dataset_from_array reads other arrays"
            )
        if images.shape[1] != vae.data_dim:
            raise ValueError(f"images have {images.shape[1]} pixels, must have {vae.data_dim}")
        check_values(vae.likelihood, images, f"the {what} images")
    # In this order, so that a training image has the same draw whatever is set aside.
    data = binarize(data, recipe.binarize)
    data = split_validation(data, recipe.validation)
    if recipe.batch_size is not None:
        check_whole("batch_size", recipe.batch_size, 1, len(data.train))
    return data


def start_training(
    vae: VAE, data: Dataset, recipe: Recipe, rng: Seed = None, *,
    average: Average | None = None, best: Best | None = None, tested: bool = True,
) -> tuple[State, Dataset]:  # fmt: skip
    """Return the state before the first epoch, and the prepared data; `tested` as in `prepare`."""
    data = prepare(vae, data, recipe, tested=tested)
    return new_state(vae, data, recipe, rng, average=average, best=best), data


def new_state(
    vae: VAE, data: Dataset, recipe: Recipe, rng: Seed = None, *,
    average: Average | None = None, best: Best | None = None,
) -> State:  # fmt: skip
    """Return the state before the first epoch, for prepared data; set the output biases.

    `average` and `best`, if given, must be new and made from these parameters.
    """
    if average is not None and getattr(average, "params", None) is not vae.params:
        raise ValueError(f"average is {average!r}, must be an Average(vae.params)")
    if best is not None and (best.epoch or best.params.shapes != vae.params.shapes):
        raise ValueError("best is used or does not match the model, must be a new Best(vae.params)")
    start_variance(vae, data.train)
    if recipe.output_bias == "data":
        start_output_bias(vae, data.train)
    check_start(vae, data)
    streams = rng if isinstance(rng, Streams) else spawn_streams(rng)
    average = Average(vae.params) if average is None and recipe.average else average
    best = Best(vae.params) if best is None and recipe.validation else best
    return State(vae, Adam(vae.params, recipe.lr), streams, [], average, best)


def continue_training(
    state: State, data: Dataset, recipe: Recipe, on_step: Callable[[Step], None] | None = None
) -> Iterator[Record]:
    """Train in place until the recipe's number of epochs; yield each epoch's record.

    `state` comes from `start_training` or a checkpoint, and its history grows. `data` come from
    `prepare`. `on_step` is as in `train_epochs`.
    """
    vae, adam, streams, history, average, best, _ = state
    epochs, every, patience = recipe.epochs, recipe.evaluate_every, recipe.patience
    beta, warmup, samples = recipe.beta, recipe.warmup, recipe.samples
    factor_of = SCHEDULES[recipe.schedule]
    draw = recipe.binarize == "dynamic"
    pixels = streams.pixels if draw else None
    evaluated = vae if average is None else vae.over(average.mean)
    n, dtype = len(data.train), vae.input_dtype
    batch_size = recipe.batch_size or min(BATCH_SIZE, n)
    batches = math.ceil(n / batch_size)
    team = Team(recipe.threads or suitable_threads(batch_size, samples))
    grads = [vae.params.zeros_like() for _ in range(team.size)]
    keep_freed_memory()

    for epoch in range(len(history) + 1, epochs + 1):
        # From checkpointed values only, so that a resumed run stops at the same epoch.
        behind = epoch - 1
        waited = behind - best.epoch if best is not None and best.epoch else 0
        if patience is not None and waited >= patience and behind % every == 0:
            return
        start = time.perf_counter()
        sums, seen = np.zeros(3), 0
        with team:
            for i, rows in enumerate(minibatches(n, batch_size, streams.order), start=1):
                x = batch(data.train, rows, pixels=pixels, dtype=dtype)
                lead = (samples, len(x)) if samples > 1 else (len(x),)
                eps = streams.noise.standard_normal((*lead, vae.latent_dim), vae.params.dtype)
                elapsed = epoch - 1 + (i - 1) / batches  # epochs, with a fraction
                beta_now = beta * min(1.0, elapsed / warmup) if warmup else beta
                factor = factor_of(elapsed / epochs)
                step = adam.t + 1
                try:
                    sums += train_step(
                        vae, adam, x, eps, grads, beta_now, bound=recipe.bound, factor=factor,
                        clip=recipe.grad_clip, team=team,
                    )  # fmt: skip
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
        if epoch == epochs or epoch % every == 0:
            held_out = data.test if data.validation is None else data.validation
            try:
                found = None
                if len(held_out):
                    found = mean_elbo(evaluated, held_out, *streams.held_out(), draw=draw)
            except FloatingPointError as error:
                raise FloatingPointError(f"the evaluation after step {adam.t}: {error}") from None
            if found is not None and data.validation is None:
                test = found
            elif found is not None:
                validation = found
            if best is not None and found is not None:
                best.update(epoch, found.elbo, evaluated.params)
        reconstruction, kl, loss = (sums / n).tolist()
        train = elbo_of(reconstruction, kl)
        seconds, test_seconds = trained - start, time.perf_counter() - trained
        record = Record(epoch, *train, *test, seconds, test_seconds, -loss, *validation)
        history.append(record)
        yield record


def train_epochs(
    vae: VAE, data: Dataset, recipe: Recipe = DEFAULTS, *, average: Average | None = None,
    best: Best | None = None, rng: Seed = None, on_step: Callable[[Step], None] | None = None,
) -> Iterator[Record]:  # fmt: skip
    """Train in place, and return an iterator that trains an epoch and yields its record.

    Parameters
    ----------
    vae, data, recipe : VAE, Dataset, Recipe
    average, best : Average, Best, optional
        A new ``Average(vae.params)`` and ``Best(vae.params)``, which then hold the average and the
        parameters of the best epoch. With `recipe.average` an average must be given.
    rng : numpy.random.Generator, or what `numpy.random.default_rng` accepts, or Streams
    on_step : callable, optional
        Called after each step, in a consistent state; may raise to stop the training.

    Raises
    ------
    ValueError
        If the data do not fit the model or the recipe.
    FloatingPointError
        While iterating, if a value is not finite; it names the step. The epoch yields no record, so
        the caller's last checkpoint stays valid.
    """
    if recipe.average != (average is not None):
        must = "an Average(vae.params)" if recipe.average else "None, as recipe.average is False"
        raise ValueError(f"average is {average!r}, must be {must}")
    _check_best(best, data, recipe)
    state, data = start_training(vae, data, recipe, rng, average=average, best=best)
    return continue_training(state, data, recipe, on_step)


def _check_best(best: Best | None, data: Dataset, recipe: Recipe) -> None:
    if best is not None and not (recipe.validation or data.validation is not None):
        raise ValueError("best is given, must be None without a validation set")


def fit(
    vae: VAE, data: Dataset | Array, *, epochs: int = Recipe.epochs,
    batch_size: int | None = Recipe.batch_size, lr: float = Recipe.lr,
    schedule: str = Recipe.schedule, grad_clip: float | None = Recipe.grad_clip,
    bound: str = Recipe.bound, samples: int = Recipe.samples, beta: float = Recipe.beta,
    warmup: int = Recipe.warmup, output_bias: str = Recipe.output_bias,
    binarize: str = Recipe.binarize, validation: int = Recipe.validation,
    patience: int | None = Recipe.patience, evaluate_every: int = Recipe.evaluate_every,
    threads: int | None = Recipe.threads,
    average: Average | None = None, best: Best | None = None, rng: Seed = None,
    report: Callable[[Step | Record], None] | None = None,
) -> list[Record]:  # fmt: skip
    """Train in place to the end, and return the records of `train_epochs`.

    `data` may also be an array (N, D), floats or uint8: all rows are then trained on, and nothing
    is tested. Ctrl-C ends the training, and `fit` returns the records of the whole epochs.

    The settings are those of `Recipe`; `average` and `best` are as in `train_epochs`. `report`
    (`numpy_vae.Progress`) is called with a `Step` after each step, a `Record` after each epoch.
    """
    tested = isinstance(data, Dataset)
    if not isinstance(data, Dataset):
        rows = np.asarray(data)
        data = Dataset("array", rows, rows[:0])
    if data.validation is not None and not validation:
        validation = len(data.validation)
    recipe = Recipe(
        epochs=epochs, batch_size=batch_size, lr=lr, schedule=schedule, average=average is not None,
        grad_clip=grad_clip, bound=bound, samples=samples, beta=beta, warmup=warmup,
        output_bias=output_bias, binarize=binarize, validation=validation, patience=patience,
        evaluate_every=evaluate_every, threads=threads,
    )  # fmt: skip
    _check_best(best, data, recipe)
    state, data = start_training(
        vae, data, recipe, rng, average=average, best=best, tested=tested
    )  # fmt: skip
    with suppress(KeyboardInterrupt):
        for record in continue_training(state, data, recipe, report):
            if report is not None:
                report(record)
    return state.history
