"""Seconds per epoch of MNIST, data handling included: this package and PyTorch's example.

    python benchmarks/epoch.py [--epochs 5] [--data-dir FOLDER] [--json FILE]

This package: `numpy_vae.train_epochs`, on grey pixels like the example, and on pixels drawn anew
for every minibatch like the command line. The time is `Record.seconds`: training only.

PyTorch's example [1]: the model and the `train` loop of its ``main.py``, on the CPU. It reads the
images through `torchvision.datasets.MNIST`, `transforms.ToTensor` and a `DataLoader`, one image at
a time: in the same process, as the example does without an accelerator, or in a worker process
(num_workers=1), as it does with one (there with pinned memory, which is of no use to a CPU). The
printing and the moves to a device are left out. It starts from our initial weights, but shuffles
the images and draws the noise itself.

Each contestant has its own process, and they take turns of one epoch (benchmarks/harness.py). The
fastest epoch is printed beside the median: if they lie far apart, something else was running, and
neither is worth quoting. The loss is reconstruction + KL in nats per image, averaged over the last
epoch while the weights change. On grey pixels all losses must agree to 1 % from the fifth epoch on;
earlier, the order and the noise alone may move them further. Without PyTorch and torchvision
(``pip install -e '.[bench]'``) this package runs alone.

References
----------
[1] https://github.com/pytorch/examples, vae/main.py
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from contestants import LR, D, H, Z, copy_parameters, initial
from harness import (
    Worker,
    agree,
    heading,
    installed,
    machine,
    paired,
    settings_of,
    started,
    take_turns,
    with_medians,
    write_json,
)

from numpy_vae import VAE, Dataset, load_mnist, train_epochs
from numpy_vae.training.recipe import Recipe

BATCH_SIZE = 128
TOLERANCE, SETTLED = 0.01, 5  # of the loss, from this epoch on
GREY, DRAWN = "numpy_vae, grey pixels", "numpy_vae, pixels drawn"
EXAMPLE = "PyTorch's example"
WORKERS = {EXAMPLE: 0, "the same, num_workers=1": 1}


class NumpyVAE:
    """Our training, as in `fit` and the command line."""

    def __init__(self, data_dir: str | None, binarize: str, epochs: int, seed: int) -> None:
        self.records = train_epochs(
            VAE(D, (H,), Z, rng=seed), load_mnist(data_dir),
            Recipe(epochs, BATCH_SIZE, LR, binarize=binarize, evaluate_every=epochs), rng=seed,
        )  # fmt: skip

    def epoch(self) -> tuple[float, float]:
        """Train an epoch; return its seconds and its mean loss, in nats per image."""
        record = next(self.records)
        return record.seconds, -record.train_elbo


class Example:
    """PyTorch's example; `root` is the folder that holds MNIST/raw."""

    def __init__(self, root: str, num_workers: int, seed: int) -> None:
        import torch
        from torch import nn, optim
        from torch.nn import functional as F
        from torchvision import datasets, transforms

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc1 = nn.Linear(D, H)
                self.fc21 = nn.Linear(H, Z)
                self.fc22 = nn.Linear(H, Z)
                self.fc3 = nn.Linear(Z, H)
                self.fc4 = nn.Linear(H, D)

            def encode(self, x: Any) -> Any:
                h1 = F.relu(self.fc1(x))
                return self.fc21(h1), self.fc22(h1)

            def reparameterize(self, mu: Any, logvar: Any) -> Any:
                std = torch.exp(0.5 * logvar)
                eps = torch.randn_like(std)
                return mu + eps * std

            def decode(self, z: Any) -> Any:
                h3 = F.relu(self.fc3(z))
                return torch.sigmoid(self.fc4(h3))

            def forward(self, x: Any) -> Any:
                mu, logvar = self.encode(x.view(-1, D))
                z = self.reparameterize(mu, logvar)
                return self.decode(z), mu, logvar

        def loss_function(recon_x: Any, x: Any, mu: Any, logvar: Any) -> Any:
            bce = F.binary_cross_entropy(recon_x, x.view(-1, D), reduction="sum")
            kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            return bce + kld

        torch.manual_seed(seed)
        if num_workers:
            # Allow child processes, started in the platform's default way, as in a script. By
            # default this daemon may have none, and "spawn" would import PyTorch in each.
            multiprocessing.current_process().daemon = False
            multiprocessing.set_start_method(None, force=True)
        self.versions = {**installed("torch", "torchvision"), "threads": torch.get_num_threads()}
        self.loader = torch.utils.data.DataLoader(
            datasets.MNIST(root, train=True, transform=transforms.ToTensor()),
            batch_size=BATCH_SIZE, shuffle=True, num_workers=num_workers,
        )  # fmt: skip
        self.model, self.loss_function = Model(), loss_function
        copy_parameters(initial(seed), list(self.model.children()))
        self.optimizer = optim.Adam(self.model.parameters(), lr=LR)

    def facts(self) -> dict[str, Any]:
        """Return the versions of the packages, and PyTorch's number of threads."""
        return self.versions

    def epoch(self) -> tuple[float, float]:
        """Train an epoch; return its seconds and its mean loss, in nats per image."""
        start = time.perf_counter()
        self.model.train()
        train_loss = 0.0
        for data, _ in self.loader:
            self.optimizer.zero_grad()
            recon_batch, mu, logvar = self.model(data)
            loss = self.loss_function(recon_batch, data, mu, logvar)
            loss.backward()
            train_loss += loss.item()
            self.optimizer.step()
        return time.perf_counter() - start, train_loss / len(self.loader.dataset)


def write_raw(data: Dataset, root: Path) -> None:
    """Write the four files, unzipped, where `torchvision.datasets.MNIST` looks for them."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    shape = data.image_shape or ()
    for name, images, labels in (
        ("train", data.train, data.train_labels),
        ("t10k", data.test, data.test_labels),
    ):
        assert labels is not None
        for kind, array in ("images", np.asarray(images).reshape(-1, *shape)), ("labels", labels):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            path = folder / f"{name}-{kind}-idx{array.ndim}-ubyte"
            path.write_bytes(header + array.astype(np.uint8).tobytes())


def start_example(root: Path, seed: int, stack: ExitStack) -> dict[str, Worker]:
    """Start the processes of the example; if that fails, say why on standard error."""
    absent = [name for name in ("torch", "torchvision") if name not in installed(name)]
    if absent:
        print(
            f"PyTorch's example is left out: {' and '.join(absent)} not installed "
            "(pip install -e '.[bench]')",
            file=sys.stderr,
        )
        return {}
    try:
        recipes = {name: (Example, str(root), n, seed) for name, n in WORKERS.items()}
        return stack.enter_context(started(recipes))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        print(f"PyTorch's example is left out: it cannot be started: {reason}", file=sys.stderr)
        return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each contestant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", metavar="FOLDER", help="folder of the MNIST files")
    parser.add_argument("--json", metavar="FILE", help="write all results to this file")
    args = parser.parse_args()
    if args.epochs < 1:
        parser.error(f"--epochs is {args.epochs}, must be 1 or more")
    try:
        data = load_mnist(args.data_dir)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    facts = machine()
    print(heading(facts))
    recipes = {
        name: (NumpyVAE, args.data_dir, binarize, args.epochs, args.seed)
        for name, binarize in ((GREY, "none"), (DRAWN, "dynamic"))
    }
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        write_raw(data, Path(folder))
        workers = stack.enter_context(started(recipes))
        peers = start_example(Path(folder), args.seed, stack)
        for peer in list(peers.values())[:1]:
            facts["example"] = peer.call("facts")
            print("torch {torch}, torchvision {torchvision}, {threads} threads".format_map(
                facts["example"]))  # fmt: skip
        print(f"medians of {args.epochs} epochs of {len(data.train)} images, in turn")
        found = take_turns(workers | peers, lambda worker: worker.call("epoch"), args.epochs)
    results = with_medians(
        {name: [s for s, _ in turns] for name, turns in found.items()}, "seconds"
    )
    print(f"{'':26} {'seconds':>8} {'fastest':>8} {'ours / it':>10} {'loss':>8}")
    for name, result in results.items():
        result["fastest"] = min(result["seconds"])
        result["ratio"] = paired(results, GREY, name, "seconds")
        result["loss"] = [loss for _, loss in found[name]]
        print(
            f"{name:26} {result['median']:8.2f} {result['fastest']:8.2f} {result['ratio']:10.2f}"
            f" {result['loss'][-1]:8.2f}"
        )
    losses = [result["loss"][-1] for name, result in results.items() if name != DRAWN]
    if not agree(losses, TOLERANCE if args.epochs >= SETTLED else math.inf):
        raise SystemExit(
            f"the losses on grey pixels are {min(losses):.2f} to {max(losses):.2f}, must agree to"
            f" {100 * TOLERANCE:g} %"
        )
    if args.json:
        training = {"batch_size": BATCH_SIZE, "lr": LR, "model": f"{D}-{H}-{Z}-{H}-{D}"}
        report = {"machine": facts, "settings": settings_of(args), "training": training}
        write_json(args.json, report | {"contestants": results})


if __name__ == "__main__":
    main()
