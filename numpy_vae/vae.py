"""`VAE`: a model's parameters, with checks, copies and files. `network` has the mathematics.

Axes: B examples, D pixels, Z latent, K samples, n codes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import posterior
from .blocks import block_shapes, initialise
from .bounds import Terms, elbo_loss, elbo_weights
from .checks import check_choice
from .files import read_model, write_model
from .layers import ACTIVATIONS
from .likelihood import LIKELIHOODS, Likelihood, make_likelihood
from .network import Network, Trace
from .params import Array, Params
from .scaling import Scaling

SETTINGS = ("data_dim", "hidden", "latent_dim", "activation", "likelihood")


class VAE:
    """A variational autoencoder with dense layers.

    Parameters
    ----------
    data_dim, latent_dim : int
        D and Z.
    hidden : sequence of int
        Widths of the encoder's hidden layers; the decoder mirrors them. () is a linear model.
    activation : {"relu", "tanh"}
    likelihood : str or Likelihood
        A name in `LIKELIHOODS`, or an instance, of which the model keeps a copy: its array fields
        become views into `params`.
    dtype : {float32, float64, complex128}
        complex128 is for the complex step.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        Draws the initial weights (see `numpy_vae.blocks.initialise`).
    params : Params, or ndarray of shape (P,), optional
        Existing parameters, used without a copy; they set the dtype.
    network_type : type of Network
        The layers and their gradients; a subclass may have other heads (`numpy_vae.study.tied`).
    scaling : Scaling, optional
        Mean and scale of each column of a table. All methods still take and return x in the units
        of the data, and -log p(x | z) is that of the data. For a likelihood of any real x.

    ValueError if a setting is invalid or the model too large.
    """

    def __init__(
        self, data_dim: int, hidden: Sequence[int] = (400,), latent_dim: int = 20,
        activation: str = "relu", likelihood: str | Likelihood = "bernoulli",
        dtype: DTypeLike = np.float32, rng: np.random.Generator | int | None = None,
        params: Params | Array | None = None, network_type: type[Network] = Network,
        scaling: Scaling | None = None,
    ) -> None:  # fmt: skip
        if not np.iterable(hidden):
            raise ValueError(f"hidden is {hidden!r}, must be a sequence of widths, such as (400,)")
        hidden, likelihood = tuple(hidden), make_likelihood(likelihood)
        shapes = block_shapes(data_dim, hidden, latent_dim)
        likelihood = likelihood.for_width(int(data_dim))
        shapes |= {block: value.shape for block, value in likelihood.parameters().items()}
        self.data_dim, self.latent_dim = int(data_dim), int(latent_dim)
        self.hidden = tuple(map(int, hidden))
        self.activation = check_choice("activation", activation, ACTIVATIONS)
        self.scaling = _check_scaling(scaling, likelihood, self.data_dim)
        if params is not None and not isinstance(params, Params):
            params = Params(shapes, flat=np.asarray(params))
        dtype = dtype if params is None else params.dtype
        with suppress(TypeError):  # not a dtype: the next line refuses it
            dtype = np.dtype(dtype).name
        check_choice("dtype", dtype, ("float32", "float64", "complex128"))
        if params is None:
            params = Params(shapes, dtype)
            initialise(params, activation, np.random.default_rng(rng))
            for block, value in likelihood.parameters().items():
                params[block][:] = value
        # Another network may have blocks of its own after these.
        read = None if network_type is Network else len(shapes)
        if list(params.shapes.items())[:read] != list(shapes.items()):
            raise ValueError(f"params has blocks {params.shapes}, must be {shapes}")
        self._params = params
        self._network = network_type(params, ACTIVATIONS[activation], likelihood)

    @property
    def params(self) -> Params:
        """All parameters; write into them, they cannot be replaced."""
        return self._params

    @property
    def network(self) -> Network:
        """The layers over `params`: the mathematics of the model, without its checks."""
        return self._network

    @property
    def likelihood(self) -> Likelihood:
        """p(x | z), with its parameters if it has any."""
        return self._network.likelihood

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """What x should come in: float64 where `scaling` subtracts a mean, else as `params`."""
        return self._params.dtype if self.scaling is None else np.dtype(np.float64)

    def forward(self, x: ArrayLike, eps: ArrayLike) -> Trace:
        """Encode, sample, decode.

        `x`, (B, D), are images as floats that the likelihood accepts; `to_float` converts uint8.
        `eps`, (B, Z) or (K, B, Z), is noise from N(0, I); eps = 0 gives the posterior mean. The
        trace may hold both without a copy: do not overwrite them before `backward`. Its x and
        logits are in the model's units (see `scaling`). ValueError if a shape or dtype does not
        match.
        """
        return self._network.forward(*self._inputs(self._scaled(x), eps))

    def resample(self, trace: Trace, eps: ArrayLike) -> Trace:
        """Return the trace of the same images with other noise, without running the encoder."""
        net, (_, eps) = self._network, self._inputs(trace.x, eps)
        z = posterior.sample(trace.mu, trace.sigma, eps)
        decoder = net.decoder.forward(z)
        logits = net.output.forward(decoder[-1])
        return replace(trace, eps=eps, z=z, decoder=decoder, logits=logits)

    def terms(self, trace: Trace) -> Terms:
        """Return the terms of a bound: reconstruction, KL and log ratio, in nats per example."""
        terms = self._network.terms(trace)
        if self.scaling is None:
            return terms
        # log p(x) = log p(x~) - Σ_d log s_d
        return terms._replace(reconstruction=terms.reconstruction + self.scaling.log_volume)

    def loss(self, trace: Trace) -> tuple[Array, Array]:
        """Return the first two terms: -log p(x | z), (B,) or (K, B), and KL(q || p), (B,)."""
        return self.terms(trace)[:2]

    def objective(self, trace: Trace, beta: float = 1.0) -> Any:
        """Mean over batch and samples of reconstruction + beta KL; for its gradient, `backward`."""
        return elbo_loss(self.terms(trace), beta)

    def backward(self, trace: Trace, beta: float = 1.0, out: Params | None = None) -> Params:
        """Gradient of `objective` with respect to every parameter.

        `trace` must come from the current parameters. The gradient overwrites `out`, if given.
        """
        dterms = elbo_weights(trace.logits.shape[:-1], trace.logits.dtype, beta)
        return self.terms_backward(trace, dterms, out)

    def terms_backward(self, trace: Trace, dterms: Terms, out: Params | None = None) -> Params:
        """Like `backward`, for any loss, given its derivatives with respect to `terms`.

        They have the shapes and dtype of the terms (see `numpy_vae.bounds`); dratio may be None.
        """
        grads = self._params.zeros_like() if out is None else out
        self._network.backward(trace, _check_terms(trace, dterms), self._network.over(grads))
        return grads

    def backward_inputs(self, trace: Trace, dterms: Terms) -> tuple[Array | None, Array]:
        """Return dx, None unless the likelihood is `differentiable_in_x`, and deps."""
        grad = self._network.over(self._params.zeros_like())
        dx, deps = self._network.backward_inputs(trace, _check_terms(trace, dterms), grad)
        if dx is not None and self.scaling is not None:
            dx = dx / self.scaling.scale  # as dx~/dx = 1 / s
        return dx, deps

    def encode(self, x: ArrayLike) -> tuple[Array, Array]:
        """Return mu and logvar of q(z | x), each (B, Z)."""
        h = self._network.encoder.forward(self._array("x", self._scaled(x), self.data_dim))[-1]
        return self._network.heads(h)

    def decode(self, z: ArrayLike) -> Array:
        """Return the mean of p(x | z), (n, D) or (K, n, D), from z, (n, Z) or (K, n, Z)."""
        mean = self.likelihood.mean(self._logits(z))
        return mean if self.scaling is None else self.scaling.back(mean)

    def draw(self, z: ArrayLike, rng: np.random.Generator | int | None = None) -> Array:
        """Return a draw of x ~ p(x | z) for each z, shaped like the means of `decode`."""
        x = self.likelihood.sample(self._logits(z), np.random.default_rng(rng))
        return x if self.scaling is None else self.scaling.back(x)

    def _logits(self, z: ArrayLike) -> Array:
        h = self._network.decoder.forward(self._array("z", z, self.latent_dim))[-1]
        return self._network.output.forward(h)

    def reconstruct(self, x: ArrayLike) -> Array:
        """Return the mean of p(x | z), (B, D), at the posterior mean z = mu(x)."""
        return self.decode(self.encode(x)[0])

    def sample(
        self, n: int, rng: np.random.Generator | int | None = None, *, noise: bool = False
    ) -> Array:
        """Return the means of p(x | z), (n, D), for n draws of z from the prior N(0, I).

        With `noise`, return draws of x ~ p(x | z) instead, which are distributed as the model's
        p(x). Their spread is that of the data; the spread of means is smaller.
        """
        rng = np.random.default_rng(rng)
        z = rng.standard_normal((n, self.latent_dim))
        return self.draw(z, rng) if noise else self.decode(z)

    def _scaled(self, x: ArrayLike) -> ArrayLike:
        """Return x in the model's units."""
        if self.scaling is None:
            return x
        # Before the cast: in float32 a time of 1.7e9 seconds is wrong by a minute.
        return self.scaling.forward(_check_array("x", x, self.data_dim, self._params.dtype))

    def _inputs(self, x: ArrayLike, eps: ArrayLike) -> tuple[Array, Array]:
        """Return images and noise of matching shapes, or refuse them."""
        x, eps = self._array("x", x, self.data_dim), self._array("eps", eps, self.latent_dim)
        if x.ndim != 2 or eps.ndim not in (2, 3) or eps.shape[-2] != len(x):
            raise ValueError(
                f"x has shape {x.shape} and eps {eps.shape}, must be (B, D) and (B, Z) or (K, B, Z)"
            )
        return x, eps

    def _array(self, name: str, value: ArrayLike, width: int) -> Array:
        """Return `value` in the dtype of the parameters, or refuse it."""
        dtype = self._params.dtype
        return _check_array(name, value, width, dtype).astype(dtype, copy=False)

    # Copying, casting, pickling and loading all build a new VAE from its settings and its vector,
    # so the layers are always views into its own parameters.

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that build a VAE like this one, except parameters and dtype."""
        own = {"network_type": type(self._network), "scaling": self.scaling}
        return {name: getattr(self, name) for name in SETTINGS} | own

    @classmethod
    def _build(cls, settings: Mapping[str, Any], params: Params | Array) -> Self:
        if missing := set(SETTINGS) - settings.keys():  # a file must hold all
            raise ValueError(f"its settings lack {', '.join(sorted(missing))}")
        vae = cls.__new__(cls)
        VAE.__init__(vae, **settings, params=params)  # a subclass may have its own __init__
        return vae

    @staticmethod
    def from_file(settings: Mapping[str, Any], arrays: Mapping[str, Array]) -> VAE:
        """Return the model of a file's settings and arrays; KeyError, TypeError or ValueError."""
        scaling = None
        if "scaling.mean" in arrays:
            scaling = Scaling(arrays["scaling.mean"], arrays["scaling.scale"])
        return VAE._build({**settings, "scaling": scaling}, arrays["params"])

    def __reduce__(self) -> tuple[Any, ...]:
        # The Params itself, so that a model and its optimiser are copied together, not apart.
        return type(self)._build, (self.settings, self._params)

    def __copy__(self) -> Self:
        return self.astype(self._params.dtype)

    def over(self, params: Params) -> Self:
        """Return the same model over other parameters, without a copy."""
        return self._build(self.settings, params)

    def astype(self, dtype: DTypeLike) -> Self:
        """Return a copy of the model in another dtype."""
        return self._build(self.settings, self._params.astype(dtype))

    def __str__(self) -> str:
        """Such as 784-400-20 relu, bernoulli."""
        sizes = "-".join(map(str, (self.data_dim, *self.hidden, self.latent_dim)))
        scaled = "" if self.scaling is None else ", standardised"
        return f"{sizes} {self.activation}, {self.likelihood.name}{scaled}"

    def save(
        self, path: str | os.PathLike[str], extra: Mapping[str, Array] = MappingProxyType({})
    ) -> None:
        """Write the model, and `extra` arrays, to a `.npz` file, whole or not at all.

        ValueError if the likelihood or the network is not the package's: `load` could not build it.
        """
        settings = self.settings | {"likelihood": self.likelihood.settings()}
        if settings.pop("network_type") is not Network:
            name = type(self._network).__name__
            raise ValueError(f"network_type is {name}, must be Network to be saved")
        check_choice("the likelihood to save", self.likelihood.name, LIKELIHOODS)
        arrays = {"params": self._params.flat}
        if (scaling := settings.pop("scaling")) is not None:
            arrays |= {"scaling.mean": scaling.mean, "scaling.scale": scaling.scale}
        write_model(path, settings, {**arrays, **extra})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> VAE:
        """Read a file of `save`, or a run of ``numpy-vae train``; ValueError otherwise."""
        settings, arrays = read_model(path)
        try:
            return VAE.from_file(settings, arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a saved VAE ({error})") from None


def _check_array(name: str, value: ArrayLike, width: int, dtype: np.dtype[Any]) -> Array:
    """Return `value` as an array, (..., width), of floats or of the kind of `dtype`."""
    array = np.asarray(value)
    if array.ndim < 2 or array.shape[-1] != width:
        raise ValueError(f"{name} has shape {array.shape}, must be (..., {width})")
    if array.dtype.kind not in ("f", dtype.kind):
        raise ValueError(f"{name} has dtype {array.dtype}, must be a floating type")
    return array


def _check_scaling(
    scaling: Scaling | None, likelihood: Likelihood, data_dim: int
) -> Scaling | None:
    """Return `scaling` if the model can have it."""
    if scaling is None:
        return None
    if likelihood.support != (-math.inf, math.inf):
        low, high = likelihood.support
        raise ValueError(
            f"scaling is given, must be None with likelihood {likelihood.name}, whose x lie in"
            f" [{low:g}, {high:g}]"
        )
    if not isinstance(scaling, Scaling) or scaling.mean.shape != (data_dim,):
        what = getattr(getattr(scaling, "mean", scaling), "shape", scaling)
        raise ValueError(f"scaling is {what!r}, must be a Scaling of {data_dim} columns")
    return scaling


def _check_terms(trace: Trace, dterms: Terms) -> Terms:
    """Return `dterms` if their shapes match the trace, or refuse them."""
    shape = trace.logits.shape[:-1]
    names = "dnll", "dkl", "dratio"
    for name, d, must in zip(names, dterms, (shape, shape[-1:], shape), strict=True):
        if d is not None and d.shape != must:
            raise ValueError(f"{name} has shape {d.shape}, must be {must}")
    return dterms
