"""Train a variational autoencoder on MNIST with an explicit loop. Copy this file and change it.

python examples/train_mnist.py                  # synthetic digits, nothing to download
python examples/train_mnist.py --data mnist     # real MNIST, downloaded once
"""

import argparse
import time

import numpy as np
from matplotlib.figure import Figure

from numpy_vae import VAE, Adam, load_digits, load_mnist


def to_float(images):
    return images.astype(np.float32) / 255  # grey pixels as probabilities


def test_elbo(vae, images, rng):
    """Mean of log p(x|z) - KL(q || p), in nats per image, with one draw of z for each image."""
    total = 0.0
    for batch in np.array_split(images, 20):
        eps = rng.standard_normal((len(batch), vae.latent_dim))
        reconstruction, kl = vae.loss(vae.forward(to_float(batch), eps))
        total -= reconstruction.sum() + kl.sum()
    return total / len(images)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--latent", type=int, default=20)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", default="samples.png")
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    data = load_mnist() if args.data == "mnist" else load_digits()
    vae = VAE(data_dim=784, hidden=(400,), latent_dim=args.latent, rng=rng)
    adam = Adam(vae.params, lr=args.lr)

    for epoch in range(1, args.epochs + 1):
        start, loss = time.perf_counter(), 0.0
        order = rng.permutation(len(data.train))
        for first in range(0, len(order), args.batch_size):
            x = to_float(data.train[order[first : first + args.batch_size]])
            eps = rng.standard_normal((len(x), args.latent))  # the only randomness in a step

            trace = vae.forward(x, eps)  # x -> h -> (mu, logvar) -> z = mu + sigma eps -> logits
            reconstruction, kl = vae.loss(trace)  # two arrays, nats per image
            grads = vae.backward(trace)  # the same chain, from right to left
            adam.step(grads)

            loss += float(reconstruction.sum() + kl.sum())
        seconds = time.perf_counter() - start
        elbo = test_elbo(vae, data.test, np.random.default_rng([args.seed, 1]))  # same each epoch
        print(f"epoch {epoch}: train ELBO {-loss / len(order):.2f}, test ELBO {elbo:.2f} "
              f"nats per image, {seconds:.1f} s", flush=True)  # fmt: skip

    # Left: test images, each above its reconstruction. Right: images decoded from z ~ N(0, I).
    x = to_float(data.test[:32]).reshape(4, 8, 28, 28)
    x_hat = vae.reconstruct(x.reshape(-1, 784)).reshape(4, 8, 28, 28)
    pairs = np.stack([x, x_hat], axis=1).reshape(8, 8, 28, 28)
    samples = vae.sample(64, rng=rng).reshape(8, 8, 28, 28)
    figure = Figure(figsize=(10, 5), layout="constrained")
    for ax, grid, title in zip(figure.subplots(1, 2), [pairs, samples],
                               ["images and reconstructions", "samples"], strict=True):  # fmt: skip
        ax.imshow(grid.transpose(0, 2, 1, 3).reshape(8 * 28, 8 * 28), cmap="gray")
        ax.set(title=title, xticks=[], yticks=[])
    figure.savefig(args.picture, dpi=150)


if __name__ == "__main__":
    main()
