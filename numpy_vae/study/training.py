"""Train to the end, and then ask the test images: what most experiments do with a model."""

from __future__ import annotations

from ..data.dataset import Dataset
from ..training.evaluate import Elbo
from ..training.loop import fit
from ..vae import VAE


def train_and_test(
    vae: VAE, data: Dataset, *, epochs: int, lr: float, seed: int, batch_size: int = 128,
    schedule: str = "constant", beta: float = 1.0, warmup: int = 0, binarize: str = "dynamic",
) -> Elbo:  # fmt: skip
    """Train in place, and return the ELBO of the test images, in nats per image."""
    *_, last = fit(
        vae, data, epochs=epochs, batch_size=batch_size, lr=lr, schedule=schedule, beta=beta,
        warmup=warmup, binarize=binarize, evaluate_every=epochs, rng=seed,
    )  # fmt: skip
    return last.held_out()["test"]
