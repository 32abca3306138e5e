"""One training step of the same VAE in each framework, written as its users would write it.

    784-400-20-400-784, relu, Bernoulli likelihood, float32; the ELBO with one draw of eps;
    Adam, lr 1e-3, β₁ 0.9, β₂ 0.999, ε 1e-8

All start from the same parameters and see the same minibatches and noise in the same order,
converted to the framework's arrays before the clock starts. `run(n)` takes n steps, each with its
loss, waits for the last one and returns the seconds. `loss(i)` returns the current loss of
minibatch i, in nats per image.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from harness import Results, paired
from script import Script

from numpy_vae import VAE, Adam, load_digits, optim
from numpy_vae.data import batch
from numpy_vae.memory import keep_freed_memory
from numpy_vae.training.evaluate import IMAGES_AT_ONCE, SAMPLES_AT_ONCE, evaluate_likelihood
from numpy_vae.training.loop import train_step
from numpy_vae.training.team import Team, cores, suitable_threads

D, H, Z = 784, 400, 20
LR = 1e-3
POOL = 50  # minibatches, used in a cycle
LAYERS = ("encoder.0", "mu", "logvar", "decoder.0", "output")
MAPS = ((D, H), (H, Z), (H, Z), (Z, H), (H, D))  # of LAYERS
OURS = "numpy_vae"
FLOOR, SPLIT = FLOORS = "matrix products", "matrix products, two threads"
SCRIPTS = "a script in NumPy", "a script in NumPy, two threads"

Array = np.ndarray[Any, Any]


def initial(seed: int = 0) -> dict[str, Array]:
    """Return the initial parameters of all contestants."""
    return dict(VAE(D, (H,), Z, rng=seed).params)


def floor(results: Results) -> str:
    """Return the faster of the two ways to multiply the matrices."""
    return fastest(results, FLOORS)


def fastest(results: Results, names: Sequence[str]) -> str:
    """Return the fastest of the names, or the first of them if none took part.

    Each is compared with the first of the results, like everything by `paired`.
    """
    first = next(iter(results), "")
    taking_part = [name for name in names if name in results]
    return max(taking_part, key=lambda name: paired(results, first, name), default=names[0])


def peers(results: Results) -> list[str]:
    """Return the names of the frameworks: the contestants that need a package."""
    return [name for name in results if CONTESTANTS[name][0] is not None]


def minibatches(size: int) -> tuple[list[Any], list[Any]]:
    """Return POOL minibatches of binarised synthetic digits, and the noise for each."""
    rng = np.random.default_rng(0)
    images = load_digits(rng=0).train
    xs, epss = [], []
    for _ in range(POOL):
        rows = rng.integers(len(images), size=size)
        xs.append(batch(images, rows, pixels=rng))
        epss.append(rng.standard_normal((size, Z), np.float32))
    return xs, epss


class Contestant:
    """The base class: contestants define `setup`, `step` and `loss`.

    Parameters
    ----------
    size : int
        Images in a minibatch.
    threads : int
        Size of the team, which only this package, the script and the floor use.
    """

    def __init__(self, size: int, threads: int = 1) -> None:
        self.size = size
        self.team = Team(threads)
        self.taken = 0
        self.xs, self.epss = minibatches(size)
        self.setup()

    def setup(self) -> None:
        """Prepare parameters, optimiser and the arrays of the minibatches."""
        raise NotImplementedError

    def step(self, x: Any, eps: Any) -> Any:
        """Take one step; return something that `wait` can wait for."""
        raise NotImplementedError

    def loss(self, i: int = 0) -> float:
        """Return the loss of minibatch i, in nats per image."""
        raise NotImplementedError

    def mean_loss(self) -> float:
        """Return the mean loss of all minibatches, in nats per image."""
        return sum(map(self.loss, range(POOL))) / POOL

    def wait(self, result: Any) -> None:
        """Wait until `result` is computed."""

    def threads(self) -> dict[str, Any]:
        """Return the number of threads by package, as far as it is known.

        With a team of one, the BLAS uses its own threads; otherwise one per member.
        """
        return {"team": self.team.size}

    def run(self, n: int, settle: int = 0) -> float:
        """Take n steps and return the seconds, after `settle` untimed steps in the same threads.

        By then the threads have settled on cores and filled the caches.
        """
        with self.team:
            self.take(settle)
            start = time.perf_counter()
            self.take(n)
            return time.perf_counter() - start

    def take(self, n: int) -> None:
        """Take n steps and wait for the last one; the team must be at work."""
        result = None
        for _ in range(n):
            i = self.taken % POOL
            result = self.step(self.xs[i], self.epss[i])
            self.taken += 1
        if result is not None:
            self.wait(result)


class NumpyVAE(Contestant):
    """The package's `train_step`, with the threads that `fit` and the command line use."""

    def __init__(self, size: int, threads: int | None = None) -> None:
        super().__init__(size, suitable_threads(size) if threads is None else threads)

    def setup(self) -> None:
        keep_freed_memory()
        self.vae = VAE(D, (H,), Z, rng=0)
        self.adam = Adam(self.vae.params, LR)
        self.grads = [self.vae.params.zeros_like() for _ in range(self.team.size)]

    def step(self, x: Any, eps: Any) -> Any:
        return train_step(self.vae, self.adam, x, eps, self.grads, team=self.team)

    def loss(self, i: int = 0) -> float:
        return float(self.vae.objective(self.vae.forward(self.xs[i], self.epss[i])))

    def denormals(self) -> dict[str, int]:
        """Return how many entries of Adam's M and V are denormal."""
        return {"M": denormals(self.adam.M.flat), "V": denormals(self.adam.V.flat)}


class PlainScript(Contestant):
    """The same step as a script, without the package's structure."""

    def setup(self) -> None:
        self.script = Script(VAE(D, (H,), Z, rng=0).params, self.size, LR, self.team)

    def step(self, x: Any, eps: Any) -> Any:
        return self.script.step(x, eps)

    def loss(self, i: int = 0) -> float:
        x, eps, script = self.xs[i], self.epss[i], self.script
        return script.forward(x, eps, script.whole) / len(x)


class Unflushed(NumpyVAE):
    """The same without flushing Adam's denormals: switched off in the whole process."""

    def setup(self) -> None:
        super().setup()
        optim.FLUSH_EVERY = sys.maxsize


def denormals(values: Array) -> int:
    """Return how many values are denormal: not 0, but smaller than any normal number."""
    return int(np.count_nonzero((np.abs(values) < np.finfo(values.dtype).tiny) & (values != 0)))


class Products:
    """Matrix products into preallocated arrays, and nothing else: the floor.

    The members of the team share the rows of every result: of y and dx they are rows of the batch,
    of dW rows of the inputs, summed over the whole batch. Members wait for each other only at the
    end, which no real step could do.

    Parameters
    ----------
    maps : sequence of (rows, n, m)
        Affine maps from n to m, each with its three products.
    team : Team
        Must be at work when the products are called.
    backward : bool
        Without it only y = x W. With it also dW = xᵀ dy and dx = dy Wᵀ, but no dx for the first
        map, whose input is the image.
    """

    def __init__(
        self, maps: Sequence[tuple[int, int, int]], team: Team, backward: bool = True
    ) -> None:
        rng = np.random.default_rng(0)
        self.team = team
        self.results: list[Array] = []
        self.calls: list[list[tuple[Array, Array, Array]]] = [[] for _ in range(team.size)]
        for i, (rows, n, m) in enumerate(maps):
            shapes = (rows, n), (n, m), (rows, m)
            x, w, dy = (rng.standard_normal(shape, np.float32) for shape in shapes)
            dx, dw, y = (np.empty(shape, np.float32) for shape in shapes)
            products = [(x, w, y)]  # factors and result
            if backward:
                products += [(x.T, dy, dw)] + ([(dy, w.T, dx)] if i else [])
            for a, b, result in products:
                self.results.append(result)
                for member, calls in enumerate(self.calls):
                    share = team.share(len(a), member)
                    calls.append((a[share], b, result[share]))

    def __call__(self) -> None:
        self.team.run(self.multiply)

    def multiply(self, member: int) -> None:
        for a, b, result in self.calls[member]:
            np.matmul(a, b, out=result)


class MatrixProducts(Contestant):
    """The fourteen matrix products of a step."""

    def setup(self) -> None:
        self.products = Products([(self.size, n, m) for n, m in MAPS], self.team)

    def step(self, x: Any, eps: Any) -> Any:
        self.products()

    def loss(self, i: int = 0) -> float:
        return float("nan")


def copy_parameters(first: Mapping[str, Array], layers: Sequence[Any]) -> None:
    """Copy the parameters `first` into PyTorch layers, in the order of LAYERS."""
    import torch

    with torch.no_grad():
        for layer, name in zip(layers, LAYERS, strict=True):
            layer.weight.copy_(torch.from_numpy(first[f"{name}.W"].T.copy()))
            layer.bias.copy_(torch.from_numpy(first[f"{name}.b"]))


class Torch(Contestant):
    """PyTorch eager: modules, autograd, torch.optim.Adam with default settings."""

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
        copy_parameters(initial(), list(self.model.children()))
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

    def threads(self) -> dict[str, Any]:
        import torch

        return {"torch": torch.get_num_threads()}

    def loss(self, i: int = 0) -> float:
        return float(self.model(self.xs[i], self.epss[i]).item())


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

    def threads(self) -> dict[str, Any]:
        """Return the devices and cores: XLA uses a thread per core, but does not report it."""
        import jax

        devices = ", ".join(f"{d.platform}:{d.id}" for d in jax.devices())
        return {"jax": f"{devices} on {cores()} cores"}

    def loss(self, i: int = 0) -> float:
        return float(self.objective(self.state[0], self.xs[i], self.epss[i]))


class HipsAutograd(Contestant):
    """HIPS/autograd: value_and_grad of NumPy code, and Adam written out.

    Relu is written as a product to stay in float32: the derivative of its `maximum` is float64.
    """

    def setup(self) -> None:
        import autograd.numpy as anp
        from autograd import value_and_grad

        def objective(p: Any, x: Any, eps: Any) -> Any:
            h = relu(anp.dot(x, p["encoder.0.W"]) + p["encoder.0.b"])
            mu = anp.dot(h, p["mu.W"]) + p["mu.b"]
            logvar = anp.dot(h, p["logvar.W"]) + p["logvar.b"]
            z = mu + anp.exp(logvar / 2) * eps
            hidden = relu(anp.dot(z, p["decoder.0.W"]) + p["decoder.0.b"])
            logits = anp.dot(hidden, p["output.W"]) + p["output.b"]
            positive = relu(logits)
            softplus = positive + anp.log1p(anp.exp(logits - 2 * positive))
            nll = anp.sum(softplus - x * logits)
            kl = -0.5 * anp.sum(1 + logvar - mu**2 - anp.exp(logvar))
            return (nll + kl) / len(x)

        def relu(a: Any) -> Any:
            return a * (a > 0)

        self.objective, self.value_and_grad = objective, value_and_grad(objective)
        self.p = initial()
        self.m = {name: np.zeros_like(value) for name, value in self.p.items()}
        self.v = {name: np.zeros_like(value) for name, value in self.p.items()}
        self.t = 0
        _, grads = self.value_and_grad(self.p, self.xs[0], self.epss[0])
        assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}

    def step(self, x: Any, eps: Any) -> Any:
        loss, grads = self.value_and_grad(self.p, x, eps)
        self.t += 1
        for name, g in grads.items():
            self.m[name] = 0.9 * self.m[name] + 0.1 * g
            self.v[name] = 0.999 * self.v[name] + 0.001 * g**2
            m, v = self.m[name] / (1 - 0.9**self.t), self.v[name] / (1 - 0.999**self.t)
            self.p[name] = self.p[name] - LR * m / (np.sqrt(v) + 1e-8)
        return loss

    def loss(self, i: int = 0) -> float:
        return float(self.objective(self.p, self.xs[i], self.epss[i]))


class Evaluation:
    """log p(x) of 100 images by importance sampling: `evaluate_likelihood`."""

    def __init__(self) -> None:
        self.vae = VAE(D, (H,), Z, rng=0)
        self.images = load_digits(rng=0).test[:IMAGES_AT_ONCE]

    def run(self, samples: int, settle: int = 0) -> float:
        """Take so many samples per image and return the seconds, after `settle` untimed ones."""
        if settle:
            self.evaluate(settle)
        start = time.perf_counter()
        self.evaluate(samples)
        return time.perf_counter() - start

    def evaluate(self, samples: int) -> None:
        evaluate_likelihood(self.vae, self.images, samples=samples, draw=True, rng=0)


class EvaluationProducts:
    """Its matrix products: the encoder's once, the decoder's for a few samples at a time."""

    def __init__(self, threads: int = 1) -> None:
        self.team = Team(threads)
        rows, of_samples = IMAGES_AT_ONCE, IMAGES_AT_ONCE * SAMPLES_AT_ONCE
        self.encoder = Products([(rows, n, m) for n, m in MAPS[:3]], self.team, backward=False)
        self.decoder = Products(
            [(of_samples, n, m) for n, m in MAPS[3:]], self.team, backward=False
        )

    def run(self, samples: int, settle: int = 0) -> float:
        """Compute the products for so many samples and return the seconds.

        Both numbers must be multiples of SAMPLES_AT_ONCE; `settle` samples are not timed.
        """
        with self.team:
            if settle:
                self.multiply(settle)
            start = time.perf_counter()
            self.multiply(samples)
            return time.perf_counter() - start

    def multiply(self, samples: int) -> None:
        self.encoder()
        for _ in range(0, samples, SAMPLES_AT_ONCE):
            self.decoder()


# The package needed, and the factory, called with the minibatch size. In "two threads" each has
# half of the rows and a BLAS of one thread; elsewhere the BLAS has its own threads.
CONTESTANTS: dict[str, tuple[str | None, Callable[[int], Contestant]]] = {
    OURS: (None, NumpyVAE),
    f"{OURS}, one thread": (None, partial(NumpyVAE, threads=1)),
    f"{OURS}, two threads": (None, partial(NumpyVAE, threads=2)),
    SCRIPTS[0]: (None, PlainScript),
    SCRIPTS[1]: (None, partial(PlainScript, threads=2)),
    FLOOR: (None, MatrixProducts),
    SPLIT: (None, partial(MatrixProducts, threads=2)),
    "PyTorch eager, default Adam": ("torch", Torch),
    "PyTorch eager, fused Adam": ("torch", TorchFused),
    "torch.compile, fused Adam": ("torch", TorchCompile),
    "jax.jit": ("jax", Jax),
    "HIPS/autograd": ("autograd", HipsAutograd),
}
