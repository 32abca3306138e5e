"""A minibatch, and a training to its end: what most experiments do with a model."""

from __future__ import annotations

import numpy as np

from ..data.binarize import batch
from ..data.dataset import Dataset
from ..params import Array
from ..training.evaluate import Elbo
from ..training.loop import fit
from ..vae import VAE


def draw_batch(vae: VAE, data: Dataset, size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return binarised training images and noise, (B, D) and (B, Z), in the dtype of the model."""
    rows = rng.integers(len(data.train), size=size)
    x = batch(data.train, rows, pixels=rng, dtype=vae.params.dtype)
    return x, rng.standard_normal((size, vae.latent_dim))


def train_and_test(
    vae: VAE, data: Dataset, *, epochs: int, lr: float, seed: int, batch_size: int = 128,
    schedule: str = "constant", beta: float = 1.0, warmup: int = 0, binarize: str = "dynamic",
    output_bias: str = "zero",
) -> Elbo:  # fmt: skip
    """Train in place, and return the ELBO of the test images, in nats per image."""
    *_, last = fit(
        vae, data, epochs=epochs, batch_size=batch_size, lr=lr, schedule=schedule, beta=beta,
        warmup=warmup, output_bias=output_bias, binarize=binarize, evaluate_every=epochs, rng=seed,
    )  # fmt: skip
    return last.held_out()["test"]
