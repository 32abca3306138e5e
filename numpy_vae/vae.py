"""`VAE`: the parameters of a model, with checks, copies and files. The mathematics: `network`.

Letters of this module: B examples, D pixels, H hidden, Z latent, K samples.
"""

from __future__ import annotations

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

SETTINGS = ("data_dim", "hidden", "latent_dim", "activation", "likelihood")


class VAE:
    """A variational autoencoder with dense layers.

    Parameters
    ----------
    data_dim, latent_dim : int
        D, the number of pixels of an image, and Z, by default 20.
    hidden : sequence of int, default (400,)
        Widths of the encoder's hidden layers; the decoder mirrors them. () is the linear model.
    activation : {"relu", "tanh"}
    likelihood : str or Likelihood
        A name in `LIKELIHOODS`, or an instance. Its array fields become parameters: the model
        keeps a copy whose arrays are views into `params`, and your instance is not changed.
    dtype : dtype, default float32
        float32 or float64, or complex128 for the complex step.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        Draws the initial weights (see `numpy_vae.blocks.initialise`).
    params : Params, or ndarray of shape (P,), optional
        Existing parameters, used in place of drawn ones and not copied; they set the dtype.
    network_type : type of Network
        The layers and their gradients; a subclass may have other heads (`numpy_vae.study.tied`).

    ValueError if a setting is none of the above, or the model would be too large.
    """

    def __init__(
        self, data_dim: int, hidden: Sequence[int] = (400,), latent_dim: int = 20,
        activation: str = "relu", likelihood: str | Likelihood = "bernoulli",
        dtype: DTypeLike = np.float32, rng: np.random.Generator | int | None = None,
        params: Params | Array | None = None, network_type: type[Network] = Network,
    ) -> None:  # fmt: skip
        if not np.iterable(hidden):
            raise ValueError(f"hidden is {hidden!r}, must be a sequence of widths, such as (400,)")
        hidden, likelihood = tuple(hidden), make_likelihood(likelihood)
        shapes = block_shapes(data_dim, hidden, latent_dim)
        shapes |= {block: value.shape for block, value in likelihood.parameters().items()}
        self.data_dim, self.latent_dim = int(data_dim), int(latent_dim)
        self.hidden = tuple(map(int, hidden))
        self.activation = check_choice("activation", activation, ACTIVATIONS)
        if params is not None and not isinstance(params, Params):
            params = Params(shapes, flat=np.asarray(params))
        dtype = dtype if params is None else params.dtype
        with suppress(TypeError):  # what is no dtype is refused in the next line
            dtype = np.dtype(dtype).name
        check_choice("dtype", dtype, ("float32", "float64", "complex128"))
        if params is None:
            params = Params(shapes, dtype)
            initialise(params, activation, np.random.default_rng(rng))
            for block, value in likelihood.parameters().items():
                params[block][:] = value
        # Another network may read blocks of its own, behind the others.
        read = None if network_type is Network else len(shapes)
        if list(params.shapes.items())[:read] != list(shapes.items()):
            raise ValueError(f"params has blocks {params.shapes}, must be {shapes}")
        self._params = params
        self._network = network_type(params, ACTIVATIONS[activation], likelihood)

    @property
    def params(self) -> Params:
        """All parameters; write into them in place, they cannot be replaced."""
        return self._params

    @property
    def network(self) -> Network:
        """The layers over `params`: the mathematics of the model, without its checks."""
        return self._network

    @property
    def likelihood(self) -> Likelihood:
        """p(x | z), with the parameters that it may have."""
        return self._network.likelihood

    def forward(self, x: ArrayLike, eps: ArrayLike) -> Trace:
        """Encode, sample, decode.

        Parameters
        ----------
        x : array_like, shape (B, D)
            Images as floats that the likelihood accepts.
        eps : array_like, shape (B, Z) or (K, B, Z)
            Noise, drawn from N(0, I) by the caller. eps = 0 gives the posterior mean. The trace
            may hold x and eps themselves, not copies: do not overwrite them before `backward`.

        Raises
        ------
        ValueError
            If a shape does not match, or x holds integers (divide uint8 by 255: `to_float`).
        """
        return self._network.forward(*self._inputs(x, eps))

    def resample(self, trace: Trace, eps: ArrayLike) -> Trace:
        """Return the trace of the same images with other noise; the encoder need not run again."""
        net, (_, eps) = self._network, self._inputs(trace.x, eps)
        z = posterior.sample(trace.mu, trace.sigma, eps)
        decoder = net.decoder.forward(z)
        logits = net.output.forward(decoder[-1])
        return replace(trace, eps=eps, z=z, decoder=decoder, logits=logits)

    def terms(self, trace: Trace) -> Terms:
        """What a bound is made of: reconstruction, KL and log ratio, in nats per example."""
        return self._network.terms(trace)

    def loss(self, trace: Trace) -> tuple[Array, Array]:
        """Return -log p(x | z), (B,) or (K, B), and KL(q || p), (B,), in nats per example."""
        return self._network.terms(trace)[:2]

    def objective(self, trace: Trace, beta: float = 1.0) -> Any:
        """Mean over batch and samples of reconstruction + beta KL: `backward` differentiates it."""
        return elbo_loss(self._network.terms(trace), beta)

    def backward(self, trace: Trace, beta: float = 1.0, out: Params | None = None) -> Params:
        """Gradient of `objective` with respect to every parameter.

        Parameters
        ----------
        trace : Trace
            What `forward` returned for the parameters as they are now.
        beta : float
            Coefficient of the KL.
        out : Params, optional
            Where the gradient goes, of the layout of `params`; what it held is overwritten.
        """
        dterms = elbo_weights(trace.logits.shape[:-1], trace.logits.dtype, beta)
        return self.terms_backward(trace, dterms, out)

    def terms_backward(self, trace: Trace, dterms: Terms, out: Params | None = None) -> Params:
        """Gradient of a loss with respect to every parameter, given `dterms`.

        These are the derivatives of the loss with respect to `terms`, in their shapes and dtype, as
        the bounds of `numpy_vae.bounds` return them; dratio may be None.
        """
        grads = self._params.zeros_like() if out is None else out
        self._network.backward(trace, _check_terms(trace, dterms), self._network.over(grads))
        return grads

    def backward_inputs(self, trace: Trace, dterms: Terms) -> tuple[Array, Array]:
        """Like `terms_backward`, with respect to x, (B, D), and eps, in its shape."""
        grad = self._network.over(self._params.zeros_like())
        return self._network.backward_inputs(trace, _check_terms(trace, dterms), grad)

    def encode(self, x: ArrayLike) -> tuple[Array, Array]:
        """Return (mu, logvar) of q(z | x), each of shape (B, Z)."""
        h = self._network.encoder.forward(self._array("x", x, self.data_dim))[-1]
        return self._network.heads(h)

    def decode(self, z: ArrayLike) -> Array:
        """Return the mean of p(x | z), shape (n, D) or (K, n, D), from z, (n, Z) or (K, n, Z)."""
        h = self._network.decoder.forward(self._array("z", z, self.latent_dim))[-1]
        return self.likelihood.mean(self._network.output.forward(h))

    def reconstruct(self, x: ArrayLike) -> Array:
        """Return the mean of p(x | z) at z = mu(x), the posterior mean, shape (B, D)."""
        return self.decode(self.encode(x)[0])

    def sample(self, n: int, rng: np.random.Generator | int | None = None) -> Array:
        """Return the means of p(x | z), shape (n, D), for n draws of z from the prior N(0, I)."""
        return self.decode(np.random.default_rng(rng).standard_normal((n, self.latent_dim)))

    def _inputs(self, x: ArrayLike, eps: ArrayLike) -> tuple[Array, Array]:
        """Return images and noise that belong together, or refuse them."""
        x, eps = self._array("x", x, self.data_dim), self._array("eps", eps, self.latent_dim)
        if x.ndim != 2 or eps.ndim not in (2, 3) or eps.shape[-2] != len(x):
            raise ValueError(
                f"x has shape {x.shape} and eps {eps.shape}, must be (B, D) and (B, Z) or (K, B, Z)"
            )
        return x, eps

    def _array(self, name: str, value: ArrayLike, width: int) -> Array:
        """Return `value` in the dtype of the parameters, or refuse it."""
        array = np.asarray(value)
        if array.ndim < 2 or array.shape[-1] != width:
            raise ValueError(f"{name} has shape {array.shape}, must be (..., {width})")
        if array.dtype.kind not in ("f", self._params.dtype.kind):
            raise ValueError(f"{name} has dtype {array.dtype}, must be a floating type")
        return array.astype(self._params.dtype, copy=False)

    # A VAE is its settings and its vector. Copying, casting, pickling and loading all build a new
    # one from the two, so its layers are always views into its own parameters.

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that build a VAE like this one, parameters and dtype apart."""
        own = {"network_type": type(self._network)}
        return {name: getattr(self, name) for name in SETTINGS} | own

    @classmethod
    def _build(cls, settings: Mapping[str, Any], params: Params | Array) -> Self:
        if missing := set(SETTINGS) - settings.keys():  # of a file, perhaps: no default is its own
            raise ValueError(f"its settings lack {', '.join(sorted(missing))}")
        vae = cls.__new__(cls)
        VAE.__init__(vae, **settings, params=params)  # a subclass may have an __init__ of its own
        return vae

    def __reduce__(self) -> tuple[Any, ...]:
        # The Params itself, so that a model and its optimiser are copied together, not apart.
        return type(self)._build, (self.settings, self._params)

    def __copy__(self) -> Self:
        return self.astype(self._params.dtype)

    def over(self, params: Params) -> Self:
        """Return the same model over other parameters, which it shares."""
        return self._build(self.settings, params)

    def astype(self, dtype: DTypeLike) -> Self:
        """Return the same model in another dtype, in memory of its own."""
        return self._build(self.settings, self._params.astype(dtype))

    def __str__(self) -> str:
        """Such as 784-400-20 relu, bernoulli."""
        sizes = "-".join(map(str, (self.data_dim, *self.hidden, self.latent_dim)))
        return f"{sizes} {self.activation}, {self.likelihood.name}"

    def save(
        self, path: str | os.PathLike[str], extra: Mapping[str, Array] = MappingProxyType({})
    ) -> None:
        """Write the model to a `.npz` file, whole or not at all; `extra` arrays beside it.

        ValueError if the likelihood or the network is not the package's, which `load` would need.
        """
        settings = self.settings | {"likelihood": self.likelihood.settings()}
        if settings.pop("network_type") is not Network:
            name = type(self._network).__name__
            raise ValueError(f"network_type is {name}, must be Network for the model to be saved")
        check_choice("the likelihood to save", self.likelihood.name, LIKELIHOODS)
        write_model(path, settings, {"params": self._params.flat, **extra})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> VAE:
        """Read what `save` or a run of ``numpy-vae train`` has written; ValueError otherwise."""
        settings, arrays = read_model(path)
        try:
            return VAE._build(settings, arrays["params"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a saved VAE ({error})") from None


def _check_terms(trace: Trace, dterms: Terms) -> Terms:
    """Return the derivatives of the terms of this trace, or refuse them."""
    shape = trace.logits.shape[:-1]
    names = "dnll", "dkl", "dratio"
    for name, d, must in zip(names, dterms, (shape, shape[-1:], shape), strict=True):
        if d is not None and d.shape != must:
            raise ValueError(f"{name} has shape {d.shape}, must be {must}")
    return dterms
