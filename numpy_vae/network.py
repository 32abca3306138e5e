"""The variational autoencoder on one page: the forward pass, and the backward pass read upwards.

Axes: B examples, D pixels, H hidden, Z latent, K samples. dy is ∂L/∂y.

    forward                                     backward, read upwards
    h      = encoder(x)                (B, H)   dh      = dmu W_muᵀ + dlogvar W_logvarᵀ
    mu     = h W_mu + b_mu             (B, Z)   dmu     = dz               + dkl mu
    logvar = h W_logvar + b_logvar     (B, Z)   dlogvar = dz eps sigma / 2 + dkl (sigma² - 1) / 2
    sigma  = exp(logvar / 2)           (B, Z)
    z      = mu + sigma eps            (B, Z)   dz      = dh_dec back through the decoder
    h_dec  = decoder(z)                (B, H)   dh_dec  = dlogits W_outputᵀ
    logits = h_dec W_output + b_output (B, D)   dlogits = dnll (p - x),   p = sigmoid(logits)
    nll    = Σ_d softplus(logits) - x logits    dnll    = 1/B,      (B,): one for each example
    kl     = Σ_z (mu² + sigma² - 1 - logvar)/2  dkl     = beta/B,   (B,)
    L      = 1/B Σ_b (nll + beta kl)

Each affine map y = x W + b also gives dW = xᵀ dy and db = Σ_b dy. Encoder and decoder are affine
maps, each followed by a relu: h = max(a, 0), da = dh [h > 0] (see `layers`). The nll above is
Bernoulli's; `likelihood` has others. With beta = 1, L is minus the ELBO with one draw of eps per
example (Kingma and Welling, arXiv:1312.6114, equation 10). With K draws it averages over them: dnll
is 1/(K B), (K, B), and dmu, dlogvar, dx sum over K. `bounds` has a second L. A value that is read
twice gets two gradients, which add: h (two heads), mu and logvar (sample, kl), x (encoder, nll).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from . import posterior
from .bounds import Terms
from .layers import Activation, Dense, Trunk
from .likelihood import Likelihood
from .params import Array, Params


@dataclass(frozen=True, eq=False)
class Trace:
    """The values of one forward pass, named as above; backward reads them.

    With K samples of each example, `eps`, `z`, `decoder` and `logits` have a leading axis K.
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


class Network:
    """All layers, as views into the parameters or into their gradient."""

    def __init__(self, params: Params, activation: Activation, likelihood: Likelihood) -> None:
        self.encoder = Trunk.over(params, "encoder", activation)
        self.mu_head = Dense.over(params, "mu")
        self.logvar_head = Dense.over(params, "logvar")
        self.decoder = Trunk.over(params, "decoder", activation)
        self.output = Dense.over(params, "output")
        self.likelihood = likelihood.over(params)  # a copy, if it has parameters of its own

    def over(self, params: Params) -> Self:
        """Return the same layers over other parameters, or over a gradient."""
        return type(self)(params, self.encoder.activation, self.likelihood)

    def forward(self, x: Array, eps: Array) -> Trace:
        """Encode, sample, decode."""
        encoder = self.encoder.forward(x)
        h = encoder[-1]
        mu, logvar = self.heads(h)
        sigma = posterior.standard_deviation(logvar)
        z = posterior.sample(mu, sigma, eps)
        decoder = self.decoder.forward(z)
        logits = self.output.forward(decoder[-1])
        return Trace(x, eps, encoder, h, mu, logvar, sigma, z, decoder, logits)

    def heads(self, h: Array) -> tuple[Array, Array]:
        """Return mu and logvar, both (B, Z)."""
        mu = self.mu_head.forward(h)
        logvar = self.logvar_head.forward(h)  # the same h, other weights
        return mu, logvar

    def heads_backward(self, h: Array, dmu: Array, dlogvar: Array, grad: Self) -> Array:
        """Return dh, (B, H); assign the gradients of the heads to `grad`."""
        # h is read twice, by the two heads: its gradients add.
        dh = self.mu_head.backward(h, dmu, grad.mu_head)
        return dh + self.logvar_head.backward(h, dlogvar, grad.logvar_head)

    def terms(self, trace: Trace) -> Terms:
        """nll, kl, and the log ratio log q(z | x) - log p(z) at each sample: nats per example."""
        t = trace
        nll = self.likelihood.nll(t.x, t.logits)
        kl = posterior.kl(t.mu, t.logvar, t.sigma)
        return Terms(nll, kl, posterior.log_ratio(t.logvar, t.eps, t.z))

    def backward(self, trace: Trace, dterms: Terms, grad: Self) -> tuple[Array, Array]:
        """Assign ∂L/∂θ of all blocks to `grad`, these layers over a gradient; return dh and deps.

        `dterms` holds dnll, dkl and dratio, which is None if L does not read the log ratio.
        """
        t, (dnll, dkl, dratio) = trace, dterms
        self.likelihood.nll_backward_params(t.x, t.logits, dnll, grad.likelihood)
        dlogits = self.likelihood.nll_backward(t.x, t.logits, dnll)
        dh_dec = self.output.backward(t.decoder[-1], dlogits, grad.output)
        dz = self.decoder.backward(t.decoder, dh_dec, grad.decoder)
        # mu and logvar are read twice, by the sample and by the KL: their gradients add.
        dmu_sample, dlogvar_sample, deps = posterior.sample_backward(t.eps, t.sigma, dz)
        dmu_kl, dlogvar_kl = posterior.kl_backward(t.mu, t.sigma, dkl)
        dmu = dmu_sample + dmu_kl
        dlogvar = dlogvar_sample + dlogvar_kl
        if dratio is not None:  # and a third time by the log ratio
            of_ratio = posterior.log_ratio_backward(t.eps, t.sigma, t.z, dratio)
            dmu, dlogvar, deps = dmu + of_ratio[0], dlogvar + of_ratio[1], deps + of_ratio[2]
        dh = self.heads_backward(t.h, dmu, dlogvar, grad)
        self.encoder.backward_params(t.encoder, dh, grad.encoder)
        return dh, deps

    def backward_inputs(
        self, trace: Trace, dterms: Terms, grad: Self
    ) -> tuple[Array | None, Array]:
        """Run `backward`, continue from dh to x; return dx, (B, D), if there is one, and deps."""
        t, (dnll, _, _) = trace, dterms
        dh, deps = self.backward(t, dterms, grad)
        if not self.likelihood.differentiable_in_x:
            return None, deps
        # x is read twice, by the encoder and by the likelihood: its gradients add.
        dx = self.encoder.backward(t.encoder, dh, grad.encoder)
        dtarget = self.likelihood.nll_backward_x(t.x, t.logits, dnll)
        return dx + dtarget.reshape(-1, *t.x.shape).sum(axis=0), deps  # the sum over K samples
