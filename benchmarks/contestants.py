"""One training step of the same VAE, written for each of the frameworks as its users write it.

    784-400-20-400-784, relu, Bernoulli likelihood, float32; the ELBO with one draw of eps;
    Adam, lr 1e-3, β₁ 0.9, β₂ 0.999, ε 1e-8

All start from the same parameters and see the same minibatches and the same noise in the same
order, which are handed over before the clock starts, as arrays of their own. `run(n)` takes n steps
and returns the seconds; each step computes the loss, and the last one is waited for. `loss()`
returns the loss, in nats per image, of the first minibatch under the parameters as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numpy_vae import VAE, Adam, load_digits
from numpy_vae.data import batch
from numpy_vae.evaluate import IMAGES_AT_ONCE, evaluate_likelihood
from numpy_vae.team import Team, suitable_threads
from numpy_vae.train import train_step

D, H, Z = 784, 400, 20
LR = 1e-3
POOL = 50  # minibatches, taken in turn
LAYERS = ("encoder.0", "mu", "logvar", "decoder.0", "output")
MAPS = ((D, H), (H, Z), (H, Z), (Z, H), (H, D))  # of LAYERS

Arrays = dict[str, np.ndarray[Any, Any]]


def initial() -> Arrays:
    """The parameters that all start from."""
    return dict(VAE(D, (H,), Z, rng=0).params)


def minibatches(size: int) -> tuple[list[Any], list[Any]]:
    """POOL minibatches of binarised synthetic digits, and the noise for each."""
    rng = np.random.default_rng(0)
    images = load_digits(rng=0).train
    xs, epss = [], []
    for _ in range(POOL):
        rows = rng.integers(len(images), size=size)
        xs.append(batch(images, rows, binarize="dynamic", rng=rng))
        epss.append(rng.standard_normal((size, Z), np.float32))
    return xs, epss


class Contestant:
    """What all have in common; one that is derived defines `setup`, `step` and `loss`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self.xs, self.epss = minibatches(size)
        self.setup()

    def setup(self) -> None:
        """Prepare parameters, optimiser and the arrays of the minibatches."""
        raise NotImplementedError

    def step(self, x: Any, eps: Any) -> Any:
        """Take one step; return something that `wait` can wait for."""
        raise NotImplementedError

    def loss(self) -> float:
        """Return the loss of the first minibatch, in nats per image."""
        raise NotImplementedError

    def wait(self, result: Any) -> None:
        """Wait until `result` is there."""

    def run(self, n: int) -> float:
        """Take n steps and return the seconds."""
        start = time.perf_counter()
        result = None
        for _ in range(n):
            i = self.taken % POOL
            result = self.step(self.xs[i], self.epss[i])
            self.taken += 1
        self.wait(result)
        return time.perf_counter() - start


class NumpyVAE(Contestant):
    """The package's `train_step`, as `fit` and the command line run it, in as many threads."""

    def __init__(self, size: int, threads: int | None = None) -> None:
        self.team = Team(suitable_threads(size) if threads is None else threads)
        super().__init__(size)

    def setup(self) -> None:
        self.vae = VAE(D, (H,), Z, rng=0)
        self.adam = Adam(self.vae.params, LR)
        self.grads = [self.vae.params.zeros_like() for _ in range(self.team.size)]

    def run(self, n: int) -> float:
        with self.team:
            return super().run(n)

    def step(self, x: Any, eps: Any) -> Any:
        return train_step(self.vae, self.adam, x, eps, self.grads, team=self.team)

    def loss(self) -> float:
        return float(self.vae.objective(self.vae.forward(self.xs[0], self.epss[0])))


class OneThread(NumpyVAE):
    """The same without threads of its own: the BLAS has its, where it is not told otherwise."""

    def __init__(self, size: int) -> None:
        super().__init__(size, 1)


class TwoThreads(NumpyVAE):
    """The same with the minibatch split over two threads, and one of the BLAS for each."""

    def __init__(self, size: int) -> None:
        super().__init__(size, 2)


class Products:
    """Matrix products into arrays that are there, and nothing else: the floor.

    Parameters
    ----------
    maps : sequence of (rows, n, m)
        Affine maps from n to m, each of which has its three products.
    backward : bool
        Without it only y = x W; with it also dW = xᵀ dy and, but for the first map, whose input is
        the image, dx = dy Wᵀ.
    """

    def __init__(self, maps: Sequence[tuple[int, int, int]], backward: bool = True) -> None:
        rng = np.random.default_rng(0)
        self.backward = backward
        self.maps = []
        for rows, n, m in maps:
            shapes = (rows, n), (n, m), (rows, m)  # x and dx, W and dW, y and dy
            self.maps.append(
                [rng.standard_normal(shape, np.float32) for shape in shapes]
                + [np.empty(shape, np.float32) for shape in shapes]
            )

    def __call__(self) -> None:
        for i, (x, w, dy, dx, dw, y) in enumerate(self.maps):
            np.matmul(x, w, out=y)
            if self.backward:
                np.matmul(x.T, dy, out=dw)
                if i:
                    np.matmul(dy, w.T, out=dx)


class MatrixProducts(Contestant):
    """The fourteen matrix products of a step."""

    def setup(self) -> None:
        self.products = Products([(self.size, n, m) for n, m in MAPS])

    def step(self, x: Any, eps: Any) -> Any:
        self.products()

    def loss(self) -> float:
        return float("nan")


class Torch(Contestant):
    """PyTorch eager: modules, autograd, torch.optim.Adam with its default settings."""

    fused: bool | None = None
    compiled = False

    def setup(self) -> None:
        import torch
        from torch import nn
        from torch.nn import functional as F

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc1, self.fc21, self.fc22 = nn.Linear(D, H), nn.Linear(H, Z), nn.Linear(H, Z)
                self.fc3, self.fc4 = nn.Linear(Z, H), nn.Linear(H, D)

            def forward(self, x: Any, eps: Any) -> Any:
                h = F.relu(self.fc1(x))
                mu, logvar = self.fc21(h), self.fc22(h)
                z = mu + torch.exp(logvar / 2) * eps
                logits = self.fc4(F.relu(self.fc3(z)))
                nll = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
                kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
                return (nll + kl) / len(x)

        self.model = Model()
        layers = self.model.fc1, self.model.fc21, self.model.fc22, self.model.fc3, self.model.fc4
        first = initial()
        with torch.no_grad():
            for layer, name in zip(layers, LAYERS, strict=True):
                layer.weight.copy_(torch.from_numpy(first[f"{name}.W"].T.copy()))
                layer.bias.copy_(torch.from_numpy(first[f"{name}.b"]))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR, fused=self.fused)
        self.objective = torch.compile(self.model) if self.compiled else self.model
        self.xs = [torch.from_numpy(x) for x in self.xs]
        self.epss = [torch.from_numpy(eps) for eps in self.epss]

    def step(self, x: Any, eps: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.objective(x, eps)
        loss.backward()
        self.optimizer.step()
        return loss

    def wait(self, result: Any) -> None:
        result.item()

    def loss(self) -> float:
        return float(self.model(self.xs[0], self.epss[0]).item())


class TorchFused(Torch):
    """The same with the fused Adam."""

    fused = True


class TorchCompile(Torch):
    """The same under torch.compile, with the fused Adam."""

    fused, compiled = True, True


class Jax(Contestant):
    """jax.jit of a whole step: loss, jax.value_and_grad, Adam; the state is donated."""

    def setup(self) -> None:
        import jax
        import jax.numpy as jnp

        def objective(p: Any, x: Any, eps: Any) -> Any:
            h = jax.nn.relu(x @ p["encoder.0.W"] + p["encoder.0.b"])
            mu, logvar = h @ p["mu.W"] + p["mu.b"], h @ p["logvar.W"] + p["logvar.b"]
            z = mu + jnp.exp(logvar / 2) * eps
            hidden = jax.nn.relu(z @ p["decoder.0.W"] + p["decoder.0.b"])
            logits = hidden @ p["output.W"] + p["output.b"]
            nll = jnp.sum(jax.nn.softplus(logits) - x * logits)
            kl = -0.5 * jnp.sum(1 + logvar - mu**2 - jnp.exp(logvar))
            return (nll + kl) / len(x)

        def step(state: Any, x: Any, eps: Any) -> Any:
            p, m, v, t = state
            loss, g = jax.value_and_grad(objective)(p, x, eps)
            t = t + 1
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
            p = jax.tree.map(
                lambda p, m, v: (
                    p - LR * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
                ), p, m, v,
            )  # fmt: skip
            return (p, m, v, t), loss

        first = {name: jnp.asarray(value) for name, value in initial().items()}
        zeros = {name: jnp.zeros_like(value) for name, value in first.items()}
        also = {name: jnp.zeros_like(value) for name, value in first.items()}
        self.state = first, zeros, also, jnp.float32(0)
        self.compiled, self.objective = jax.jit(step, donate_argnums=0), objective
        self.xs, self.epss = list(map(jnp.asarray, self.xs)), list(map(jnp.asarray, self.epss))

    def step(self, x: Any, eps: Any) -> Any:
        self.state, loss = self.compiled(self.state, x, eps)
        return loss

    def wait(self, result: Any) -> None:
        result.block_until_ready()
        self.state[0]["output.W"].block_until_ready()

    def loss(self) -> float:
        return float(self.objective(self.state[0], self.xs[0], self.epss[0]))


class HipsAutograd(Contestant):
    """HIPS/autograd: value_and_grad of NumPy code, and its own Adam written out."""

    def setup(self) -> None:
        import autograd.numpy as anp
        from autograd import value_and_grad

        def objective(p: Any, x: Any, eps: Any) -> Any:
            h = anp.maximum(anp.dot(x, p["encoder.0.W"]) + p["encoder.0.b"], 0)
            mu = anp.dot(h, p["mu.W"]) + p["mu.b"]
            logvar = anp.dot(h, p["logvar.W"]) + p["logvar.b"]
            z = mu + anp.exp(logvar / 2) * eps
            hidden = anp.maximum(anp.dot(z, p["decoder.0.W"]) + p["decoder.0.b"], 0)
            logits = anp.dot(hidden, p["output.W"]) + p["output.b"]
            softplus = anp.maximum(logits, 0) + anp.log1p(anp.exp(-anp.abs(logits)))
            nll = anp.sum(softplus - x * logits)
            kl = -0.5 * anp.sum(1 + logvar - mu**2 - anp.exp(logvar))
            return (nll + kl) / len(x)

        self.objective, self.value_and_grad = objective, value_and_grad(objective)
        self.p = initial()
        self.m = {name: np.zeros_like(value) for name, value in self.p.items()}
        self.v = {name: np.zeros_like(value) for name, value in self.p.items()}
        self.t = 0

    def step(self, x: Any, eps: Any) -> Any:
        loss, grads = self.value_and_grad(self.p, x, eps)
        self.t += 1
        for name, g in grads.items():
            self.m[name] = 0.9 * self.m[name] + 0.1 * g
            self.v[name] = 0.999 * self.v[name] + 0.001 * g**2
            m, v = self.m[name] / (1 - 0.9**self.t), self.v[name] / (1 - 0.999**self.t)
            self.p[name] = self.p[name] - LR * m / (np.sqrt(v) + 1e-8)
        return loss

    def loss(self) -> float:
        return float(self.objective(self.p, self.xs[0], self.epss[0]))


class Evaluation:
    """log p(x) of 100 images by importance sampling: `numpy_vae.evaluate.evaluate_likelihood`."""

    def __init__(self) -> None:
        self.vae = VAE(D, (H,), Z, rng=0)
        self.images = load_digits(rng=0).test[:IMAGES_AT_ONCE]

    def run(self, samples: int) -> float:
        """Take so many samples for each image and return the seconds."""
        start = time.perf_counter()
        evaluate_likelihood(self.vae, self.images, samples=samples, binarize="dynamic", rng=0)
        return time.perf_counter() - start


class EvaluationProducts:
    """The matrix products of the same: the encoder's once, the decoder's for each sample."""

    def __init__(self) -> None:
        rows = IMAGES_AT_ONCE
        self.encoder = Products([(rows, n, m) for n, m in MAPS[:3]], backward=False)
        self.decoder = Products([(rows, n, m) for n, m in MAPS[3:]], backward=False)

    def run(self, samples: int) -> float:
        """Compute those of so many samples and return the seconds."""
        start = time.perf_counter()
        self.encoder()
        for _ in range(samples):
            self.decoder()
        return time.perf_counter() - start


CONTESTANTS: dict[str, tuple[str | None, Callable[[int], Contestant]]] = {
    "numpy_vae": (None, NumpyVAE),
    "numpy_vae, one thread": (None, OneThread),
    "numpy_vae, two threads": (None, TwoThreads),
    "matrix products": (None, MatrixProducts),
    "PyTorch eager, default Adam": ("torch", Torch),
    "PyTorch eager, fused Adam": ("torch", TorchFused),
    "torch.compile, fused Adam": ("torch", TorchCompile),
    "jax.jit": ("jax", Jax),
    "HIPS/autograd": ("autograd", HipsAutograd),
}
