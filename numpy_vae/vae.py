"""The variational autoencoder: the wiring of its parts, forward and backward.

Letters of this module: B examples, D pixels, H hidden, Z latent, K samples.

    forward                               backward, read upwards
    h      = trunk(x)            (B, H)   dh      = dmu W_muᵀ + dlogvar W_logvarᵀ
    mu     = h W_mu + b_mu       (B, Z)   dmu     = dz               + beta/B mu
    logvar = h W_logvar + b_lv   (B, Z)   dlogvar = dz eps sigma / 2 + beta/B (sigma² - 1) / 2
    sigma  = exp(logvar / 2)     (B, Z)
    z      = mu + sigma eps      (B, Z)   dz      = dlogits back through the decoder
    logits = decoder(z)          (B, D)   dlogits = (p - x) / B

    loss   = 1/B Σ_b [-log p(x | z) + beta KL(q(z | x) || N(0, I))]

(dlogits is that of the Bernoulli likelihood, and the loss one of those in `bounds`.) With beta = 1
this loss is -ELBO in nats per example, estimated with one draw of eps for each [1, equation 10];
its expectation is an upper bound of -log p(x). Two things fork on the way forward, h into two
heads, and (mu, logvar) into the sample and the KL; on the way back their gradients are added.

References
----------
[1] D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes", arXiv:1312.6114, 2013.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import posterior
from .bounds import Terms, elbo_loss, elbo_loss_backward
from .checks import check_choice
from .files import read_model, write_model
from .layers import ACTIVATIONS
from .likelihood import LIKELIHOODS, Likelihood, make_likelihood
from .memory import keep_freed_memory
from .network import Network, block_shapes, initialise
from .params import Array, Params


@dataclass(frozen=True, eq=False)
class Trace:
    """What one forward pass computed, under the names of the derivation; backward reads it.

    With K samples of each example, `eps`, `z`, `decoder` and `logits` have a leading axis K. `x`
    and `eps` may be the caller's own arrays: refill them only after backward.
    """

    x: Array  # (B, D) the images
    eps: Array  # (B, Z) the noise
    encoder: tuple[Array, ...]  # x, then the encoder's hidden layers, (B, H)
    h: Array  # (B, H) the last of them, which both heads read
    mu: Array  # (B, Z)
    logvar: Array  # (B, Z)
    sigma: Array  # (B, Z)
    z: Array  # (B, Z)
    decoder: tuple[Array, ...]  # z, then the decoder's hidden layers, (B, H)
    logits: Array  # (B, D) the output layer, which the likelihood calls l


class VAE:
    """A variational autoencoder with dense layers.

    Parameters
    ----------
    data_dim : int
        D, the number of pixels of an image.
    hidden : sequence of int, default (400,)
        Widths of the encoder's hidden layers; the decoder mirrors them. () is the linear model.
    latent_dim : int, default 20
        Z.
    activation : {"relu", "tanh"}
    likelihood : str or Likelihood
        A name in `LIKELIHOODS`, or an instance. Its array fields become parameters: that of the
        model is a copy whose arrays are views into `params`, and yours is not changed.
    dtype : dtype, default float32
        float32 or float64, or complex128 for the complex step.
    rng : numpy.random.Generator or what `numpy.random.default_rng` accepts
        Draws the initial weights (see `numpy_vae.network.initialise`).

    Raises
    ------
    ValueError
        If a setting is none of the above, or the model would be too large.

    Notes
    -----
    A subclass can have other heads: `heads` and `heads_backward`, of which the second assigns the
    gradient of every block of both. It holds no state of its own, since copies are built from the
    settings and the parameters; `numpy_vae.study` has examples.
    """

    def __init__(
        self,
        data_dim: int,
        hidden: Sequence[int] = (400,),
        latent_dim: int = 20,
        activation: str = "relu",
        likelihood: str | Likelihood = "bernoulli",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self._assemble(data_dim, hidden, latent_dim, activation, likelihood, dtype)
        initialise(self._params, activation, np.random.default_rng(rng))
        for block, value in make_likelihood(likelihood).parameters().items():
            self._params[block][:] = value

    def _assemble(
        self,
        data_dim: int,
        hidden: Sequence[int],
        latent_dim: int,
        activation: str,
        likelihood: str | Mapping[str, Any] | Likelihood,
        dtype: DTypeLike,
        params: Params | Array | None = None,
    ) -> None:
        """Check the settings and lay the layers over `params`, or over zeros."""
        if not np.iterable(hidden):
            raise ValueError(f"hidden is {hidden!r}, must be a sequence of widths, such as (400,)")
        hidden = tuple(hidden)
        likelihood = make_likelihood(likelihood)
        shapes = block_shapes(data_dim, hidden, latent_dim)
        shapes |= {block: value.shape for block, value in likelihood.parameters().items()}
        self.data_dim, self.latent_dim = int(data_dim), int(latent_dim)
        self.hidden = tuple(map(int, hidden))
        self.activation = check_choice("activation", activation, ACTIVATIONS)
        with suppress(TypeError):  # what is no dtype is refused in the next line
            dtype = np.dtype(dtype).name
        check_choice("dtype", dtype, ("float32", "float64", "complex128"))
        self._params = Params(shapes, dtype, params) if not isinstance(params, Params) else params
        self._network = Network.on(self._params, ACTIVATIONS[activation], likelihood)
        self._gradients: WeakKeyDictionary[Params, Network] = WeakKeyDictionary()
        keep_freed_memory()

    def _laid_over(self, grads: Params) -> Network:
        """The layers over a gradient; kept with it, as training hands in the same at each step."""
        net = self._gradients.get(grads)
        if net is None:
            net = Network.on(grads, ACTIVATIONS[self.activation], self.likelihood)
            self._gradients[grads] = net
        return net

    @property
    def likelihood(self) -> Likelihood:
        """p(x | z), with the parameters that it may have."""
        return self._network.likelihood

    @property
    def params(self) -> Params:
        """All parameters; write into them in place, they cannot be replaced."""
        return self._params

    def forward(self, x: ArrayLike, eps: ArrayLike) -> Trace:
        """Encode, sample, decode.

        Parameters
        ----------
        x : array_like, shape (B, D)
            Images as floats that the likelihood accepts.
        eps : array_like, shape (B, Z) or (K, B, Z)
            Noise, drawn from N(0, I) by the caller. eps = 0 gives the posterior mean.

        Raises
        ------
        ValueError
            If a shape does not match, or x holds integers (divide uint8 by 255: `to_float`).
        """
        x, eps = self._inputs(x, eps)
        net = self._network
        encoder = net.encoder.forward(x)
        h = encoder[-1]
        mu, logvar = self.heads(net, h)
        sigma = posterior.standard_deviation(logvar)
        z = posterior.sample(mu, sigma, eps)
        decoder = net.decoder.forward(z)
        logits = net.output.forward(decoder[-1])
        return Trace(x, eps, encoder, h, mu, logvar, sigma, z, decoder, logits)

    def heads(self, net: Network, h: Array) -> tuple[Array, Array]:
        """Return mu and logvar, both (B, Z), from h, (B, H), which both heads read."""
        mu = net.mu_head.forward(h)
        logvar = net.logvar_head.forward(h)  # the same h, other weights
        return mu, logvar

    def heads_backward(
        self, net: Network, grad: Network, h: Array, dmu: Array, dlogvar: Array
    ) -> Array:
        """dh, (B, H), from dmu and dlogvar, (B, Z); the heads' gradients are assigned to `grad`."""
        # h is read twice, by the two heads: its gradients add.
        dh = net.mu_head.backward(h, dmu, grad.mu_head)
        dh = dh + net.logvar_head.backward(h, dlogvar, grad.logvar_head)
        return dh

    def resample(self, trace: Trace, eps: ArrayLike) -> Trace:
        """Return the trace of the same images with other noise; the encoder need not run again.

        Parameters
        ----------
        trace : Trace
            What `forward` returned for the parameters as they are now.
        eps : array_like, shape (B, Z) or (K, B, Z)

        Raises
        ------
        ValueError
            If the shape does not match.
        """
        net = self._network
        _, eps = self._inputs(trace.x, eps)
        z = posterior.sample(trace.mu, trace.sigma, eps)
        decoder = net.decoder.forward(z)
        logits = net.output.forward(decoder[-1])
        return replace(trace, eps=eps, z=z, decoder=decoder, logits=logits)

    def _backward_to_h(
        self, trace: Trace, dnll: Array, dkl: Array, dratio: Array | None, grad: Network
    ) -> tuple[Array, Array]:
        """From the terms back to the encoder's last hidden layer; return dh and deps."""
        t, net = trace, self._network
        shape = t.logits.shape[:-1]
        for name, d, must in (
            ("dnll", dnll, shape),
            ("dkl", dkl, shape[-1:]),
            ("dratio", dratio, shape),
        ):
            if d is not None and d.shape != must:
                raise ValueError(f"{name} has shape {d.shape}, must be {must}")
        net.likelihood.nll_backward_params(t.x, t.logits, dnll, grad.likelihood)
        dlogits = net.likelihood.nll_backward(t.x, t.logits, dnll)
        dh_decoder = net.output.backward(t.decoder[-1], dlogits, grad.output)
        dz = net.decoder.backward(t.decoder, dh_decoder, grad.decoder)
        dmu_sample, dlogvar_sample, deps = posterior.sample_backward(t.eps, t.sigma, dz)
        dmu_kl, dlogvar_kl = posterior.kl_backward(t.mu, t.sigma, dkl)
        # mu and logvar are read twice, by the sample and by the KL: their gradients add.
        dmu = dmu_sample + dmu_kl
        dlogvar = dlogvar_sample + dlogvar_kl
        if dratio is not None:  # and a third time by the log ratio
            of_ratio = posterior.log_ratio_backward(t.eps, t.sigma, t.z, dratio)
            dmu, dlogvar, deps = dmu + of_ratio[0], dlogvar + of_ratio[1], deps + of_ratio[2]
        return self.heads_backward(net, grad, t.h, dmu, dlogvar), deps

    def backward(self, trace: Trace, beta: float = 1.0, out: Params | None = None) -> Params:
        """Gradient of `objective` with respect to every parameter.

        Parameters
        ----------
        trace : Trace
            What `forward` returned for the parameters as they are now.
        beta : float
            Coefficient of the KL.
        out : Params, optional
            Where the gradient goes, of the layout of `params`; whatever it held is overwritten.
        """
        return self.loss_backward(trace, *self._weights(trace, beta), out)

    def loss_backward(
        self,
        trace: Trace,
        dnll: Array,
        dkl: Array,
        dratio: Array | None = None,
        out: Params | None = None,
    ) -> Params:
        """Gradient of Σ dnll nll + Σ dkl kl + Σ dratio log_ratio, `terms` with weights of any kind.

        Parameters
        ----------
        trace, out
            As in `backward`.
        dnll : ndarray, shape (B,) or (K, B), of the dtype of the trace
            Derivative of the loss with respect to the reconstruction terms.
        dkl : ndarray, shape (B,), of the dtype of the trace
            Derivative of the loss with respect to the KL terms.
        dratio : ndarray, shape (B,) or (K, B), optional
            Derivative of the loss with respect to the log ratios; without it they have no part.

        Raises
        ------
        ValueError
            If a shape is another.
        """
        grads = self._params.zeros_like() if out is None else out
        grad = self._laid_over(grads)
        dh, _ = self._backward_to_h(trace, dnll, dkl, dratio, grad)
        self._network.encoder.backward_params(trace.encoder, dh, grad.encoder)
        return grads

    def _weights(self, trace: Trace, beta: float) -> Terms:
        """The derivatives of the two means in `objective`, and of nothing else."""
        # Of the terms the derivative reads only the shapes, (B,) or (K, B), and (B,).
        return elbo_loss_backward(Terms(trace.logits[..., 0], trace.mu[..., 0], None), beta)

    def loss(self, trace: Trace) -> tuple[Array, Array]:
        """Return the reconstruction term and the KL, apart, in nats per example.

        Returns
        -------
        reconstruction : ndarray, shape (B,) or (K, B)
            -log p(x | z), summed over pixels.
        kl : ndarray, shape (B,)
            KL(q(z | x) || N(0, I)), summed over latent dimensions.
        """
        reconstruction = self.likelihood.nll(trace.x, trace.logits)
        return reconstruction, posterior.kl(trace.mu, trace.logvar, trace.sigma)

    def terms(self, trace: Trace, with_log_ratio: bool = True) -> Terms:
        """`loss` and, if asked for, the log ratio log q(z | x) - log p(z) at each sample.

        Parameters
        ----------
        trace : Trace
        with_log_ratio : bool
            Without it the log ratio is None, which is enough for the ELBO.

        Returns
        -------
        Terms
            In nats per example: (B,) or (K, B) and (B,), and the log ratio like the first.
        """
        log_ratio = None
        if with_log_ratio:
            log_ratio = posterior.log_ratio(trace.logvar, trace.eps, trace.z)
        return Terms(*self.loss(trace), log_ratio)

    def objective(self, trace: Trace, beta: float = 1.0) -> Any:
        """Mean over batch and samples of reconstruction + beta KL: `backward` differentiates it."""
        return elbo_loss(self.terms(trace, with_log_ratio=False), beta)

    def encode(self, x: ArrayLike) -> tuple[Array, Array]:
        """Return (mu, logvar) of q(z | x), each of shape (B, Z)."""
        h = self._network.encoder.forward(self._array("x", x, self.data_dim))[-1]
        return self.heads(self._network, h)

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

    def backward_inputs(self, trace: Trace, beta: float = 1.0) -> tuple[Array, Array]:
        """Gradient of `objective` with respect to x, (B, D), and eps, of its shape.

        x is reached twice: as what is encoded, and as what is to be explained.
        """
        return self.loss_backward_inputs(trace, *self._weights(trace, beta))

    def loss_backward_inputs(
        self, trace: Trace, dnll: Array, dkl: Array, dratio: Array | None = None
    ) -> tuple[Array, Array]:
        """`loss_backward` with respect to x, (B, D), and eps, of its shape."""
        grad = self._laid_over(self._params.zeros_like())
        dh, deps = self._backward_to_h(trace, dnll, dkl, dratio, grad)
        dx_encoded = self._network.encoder.backward(trace.encoder, dh, grad.encoder)
        dx_target = self.likelihood.nll_backward_x(trace.x, trace.logits, dnll)
        return dx_encoded + dx_target.reshape(-1, *trace.x.shape).sum(axis=0), deps

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
    # one from the two, so that no copy has layers that are parted from its parameters.

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that build a VAE like this one, dtype and rng apart."""
        names = ("data_dim", "hidden", "latent_dim", "activation", "likelihood")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def _build(cls, settings: dict[str, Any], params: Params | Array) -> Self:
        vae = cls.__new__(cls)
        vae._assemble(**settings, dtype=params.dtype, params=params)
        return vae

    def __reduce__(self) -> tuple[Any, ...]:
        # The Params itself, so that a model and its optimiser are copied together, not apart.
        return type(self)._build, (self.settings, self._params)

    def __copy__(self) -> Self:
        return self.astype(self._params.dtype)

    def over(self, params: Params) -> Self:
        """Return the same model over other parameters of the same layout, which it shares.

        Raises
        ------
        ValueError
            If the layout is another.
        """
        if params.shapes != self._params.shapes:
            raise ValueError(f"params has blocks {params.shapes}, must be {self._params.shapes}")
        return self._build(self.settings, params)

    def astype(self, dtype: DTypeLike) -> Self:
        """Return the same model in another dtype, in memory of its own."""
        return self._build(self.settings, self._params.flat.astype(dtype))

    def save(
        self, path: str | os.PathLike[str], extra: Mapping[str, Array] = MappingProxyType({})
    ) -> None:
        """Write the model to a `.npz` file, whole or not at all; `extra` arrays beside it.

        Raises
        ------
        ValueError
            If the likelihood is not in `LIKELIHOODS`, or the heads are those of a subclass: what is
            loaded would be another model.
        OSError
            If the file cannot be written.
        """
        heads = type(self).heads, type(self).heads_backward
        if heads != (VAE.heads, VAE.heads_backward):
            name = type(self).__name__
            raise ValueError(f"the heads are those of {name}, must be VAE's to be saved")
        check_choice("the likelihood to save", self.likelihood.name, LIKELIHOODS)
        settings = self.settings | {"likelihood": self.likelihood.settings()}
        write_model(path, settings, {"params": self._params.flat, **extra})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> VAE:
        """Read a model that `save`, or a run of ``numpy-vae train``, has written.

        Raises
        ------
        ValueError
            If the file is damaged or is not a VAE's.
        OSError
            If it cannot be read.
        """
        settings, arrays = read_model(path)
        try:
            return VAE._build(settings, arrays["params"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a saved VAE ({error})") from None
