"""The likelihood p(x | z): what the decoder's last layer means.

Axes: B examples, K samples, D pixels.

The decoder ends in an affine map with output l, (..., D). A likelihood turns l into a distribution
over x: the negative log-likelihood -log p(x | z) of each example with all its constants, its
gradient, the mean, a sampler, and the range of x. It knows nothing of the network.

**Bernoulli**, l the logits, p = sigmoid(l) = 1 / (1 + e⁻ˡ) [1, appendix C.1]:

    -log p(x|z) = -Σ_d [x log p + (1 - x) log(1 - p)] = Σ_d [softplus(l) - x l]
        as log p = l - softplus(l) and log(1 - p) = -softplus(l), with softplus(l) = log(1 + eˡ)
    ∂/∂l = p - x                                            as softplus' = sigmoid
    ∂/∂x = -l

No logarithm of a probability is taken, so no 1e-8 is added and nothing is clipped. At |l| = 10 000
value and gradient are still right, to the rounding of 1. No exponent is positive:

    softplus(l) = max(l, 0) + log(1 + e^-|l|)       sigmoid(l) = (1 + tanh(l / 2)) / 2

**Continuous Bernoulli**, for pixels in [0, 1]. Bernoulli's formula becomes a density of grey pixels
only when e^xl is divided by its integral over [0, 1] [2]:

    -log p(x|z) = Σ_d [A(l) - x l],     A(l) = log ∫ e^xl dx = log((eˡ - 1) / l)
                                             = l/2 + log(sinh h / h)        with h = l/2
    ∂/∂l = A'(l) - x                    A'(l) = (1 + coth h - 1/h) / 2, which is the mean E[x|z]
    ∂/∂x = -l

It differs from Bernoulli in the normaliser, A for softplus, and in the mean, with Langevin's
function coth h - 1/h for tanh h. Both lose digits near l = 0, where the density is flat and the
mean is 1/2; there the series of sinh and the continued fraction of coth are used,

    sinh h / h = 1 + h²/6 (1 + h²/20 (1 + ...))
    coth h - 1/h = h / (3 + h² / (5 + h² / (7 + ...)))

and for large |l| no power of e overflows: A(l) = max(l, 0) + log((1 - e^-|l|) / |l|).

**Gaussian** of a given variance v, l the mean [1, appendix C.2]:

    -log p(x|z) = Σ_d ((x - l)² / v + log(2πv)) / 2
    ∂/∂l = (l - x) / v
    ∂/∂x = (x - l) / v

**Gaussian of one learned variance** [3]. v = e^s, one number for all pixels and images; s is a
parameter like any weight, the block ``likelihood.logvar``:

    ∂/∂s = Σ_d (1 - (x - l)² / v) / 2

Its mean over images is zero if and only if v is the mean of (x - l)² over pixels and images. So
under the ELBO the best v of any decoder is its mean squared error (under the importance-weighted
bound, the weighted one), and there is no weight to choose between the two terms.

**Diagonal Gaussian**: the same with a variance v_d = e^(s_d) for each column, so s is (D,):

    -log p(x|z) = Σ_d ((x_d - l_d)² / v_d + log(2π v_d)) / 2
    ∂/∂s_d = (1 - (x_d - l_d)² / v_d) / 2

It suits tables, whose columns differ in what can be predicted of them. The density has no largest
value: as a column's residuals go to 0, so does v_d, and log p(x) grows without bound. So a column
that is constant, or a function of others, adds as much as training lets it.

**Poisson**, for counts x = 0, 1, 2, ...; l is the logarithm of the rate, λ = eˡ > 0:

    -log p(x|z) = -Σ_d log(λ^x e^-λ / x!) = Σ_d [eˡ - x l + log x!]
    ∂/∂l = eˡ - x                                           the mean E[x|z] is λ = eˡ

The sum is over whole numbers, so there is no derivative with respect to x.

To add a likelihood, derive a frozen dataclass from `Likelihood` and hand an instance to
`VAE(likelihood=...)`: docs/likelihoods.md does it in 30 lines, with the check of its gradient.

References
----------
[1] D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes", arXiv:1312.6114, 2013.
[2] G. Loaiza-Ganem and J. P. Cunningham, "The continuous Bernoulli: fixing a pervasive error in
    variational autoencoders", arXiv:1907.06845, 2019.
[3] O. Rybkin, K. Daniilidis and S. Levine, "Simple and Effective VAE Training with Calibrated
    Decoders", arXiv:2006.13202, 2020.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from .checks import check_choice, check_real
from .params import Array, Params

if TYPE_CHECKING:
    from .data.mapped import Images


class Likelihood(ABC):
    """The interface of p(x | z). x is (B, D), l is (B, D) or (K, B, D).

    Subclasses are frozen dataclasses. An array field is a parameter, with its initial value: the
    model trains it as the block ``likelihood.NAME``. The other fields are settings.
    """

    name: ClassVar[str]
    support: ClassVar[tuple[float, float]]  # the smallest and the largest valid x
    # False if x is a count or a class label: `nll` has no derivative with respect to it.
    differentiable_in_x: ClassVar[bool] = True
    whole: ClassVar[bool] = False  # True if x must be whole numbers

    @abstractmethod
    def nll(self, x: Array, l: Array) -> Array:
        """-log p(x | z), summed over D: (B,) or (K, B), in nats per example."""

    @abstractmethod
    def nll_backward(self, x: Array, l: Array, dnll: Array) -> Array:
        """dl, shaped like l, from dnll, shaped like `nll`."""

    def nll_backward_x(self, x: Array, l: Array, dnll: Array) -> Array:
        """dx of x as the target, without the encoder's part; shaped like l.

        Only the gradient check asks for it. Leave it out where `differentiable_in_x` is False.
        """
        raise NotImplementedError(f"{self.name} has no nll_backward_x")

    @abstractmethod
    def mean(self, l: Array) -> Array:
        """E[x | z], shaped like l: what pictures show."""

    @abstractmethod
    def sample(self, l: Array, rng: np.random.Generator) -> Array:
        """x ~ p(x | z), shaped like l."""

    def nll_backward_params(self, x: Array, l: Array, dnll: Array, grad: Self) -> None:  # noqa: B027
        """Assign the gradient of each parameter to its array in `grad`; most have none."""

    def link(self, mean: Array) -> Array:
        """The l within ±1000 with this mean, by bisection; the mean must increase with l."""
        low, high = np.full_like(mean, -1e3), np.full_like(mean, 1e3)
        for _ in range(70):
            l = (low + high) / 2
            with np.errstate(over="ignore"):  # inf is not below
                below = self.mean(l) < mean
            low, high = np.where(below, l, low), np.where(below, high, l)
        return l

    def for_width(self, d: int) -> Self:
        """The same likelihood for x of D values; those with a parameter for each set its size."""
        return self

    def parameters(self) -> dict[str, Array]:
        """The array fields, by block name."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return {f"likelihood.{name}": v for name, v in pairs if isinstance(v, np.ndarray)}

    def settings(self) -> dict[str, Any]:
        """The name and the other fields, from which `make_likelihood` builds it."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return {"name": self.name} | {n: v for n, v in pairs if not isinstance(v, np.ndarray)}

    def over(self, params: Params) -> Self:
        """The same likelihood with views into `params`, or into a gradient, as its arrays."""
        views = {block.split(".")[-1]: params[block] for block in self.parameters()}
        return replace(self, **views) if views else self  # type: ignore[type-var]


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Independent pixels, x = 1 with probability sigmoid(l).

    For grey pixels, x between 0 and 1, the same formula is a cross-entropy: a common training
    objective, but not a likelihood.
    """

    name: ClassVar[str] = "bernoulli"
    support: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def nll(self, x: Array, l: Array) -> Array:
        """Σ_d [softplus(l) - x l]."""
        positive = l * (l.real > 0)  # max(l, 0), so that l - 2 positive = -|l|
        softplus = positive + np.log1p(np.exp(l - 2 * positive))
        return (softplus - x * l).sum(axis=-1)

    def nll_backward(self, x: Array, l: Array, dnll: Array) -> Array:
        """dl = dnll (p - x)."""
        return dnll[..., np.newaxis] * (self.mean(l) - x)

    def nll_backward_x(self, x: Array, l: Array, dnll: Array) -> Array:
        """dx = -dnll l."""
        return -dnll[..., np.newaxis] * l

    def mean(self, l: Array) -> Array:
        """p = sigmoid(l) = (1 + tanh(l / 2)) / 2."""
        return (1 + np.tanh(l / 2)) / 2

    def sample(self, l: Array, rng: np.random.Generator) -> Array:
        """1 with probability p, else 0, in the dtype of l."""
        return (rng.random(l.shape) < self.mean(l)).astype(l.dtype)

    def link(self, mean: Array) -> Array:
        """The log-odds log(p / (1 - p))."""
        return np.log(mean) - np.log1p(-mean)


@dataclass(frozen=True)
class ContinuousBernoulli(Bernoulli):
    """Independent grey pixels with the density e^(xl - A(l)) on [0, 1].

    The gradients are Bernoulli's, with this mean. p(x | z) is a density over [0, 1]^D, so
    -log p(x | z) may be negative.
    """

    name: ClassVar[str] = "continuous_bernoulli"

    def nll(self, x: Array, l: Array) -> Array:
        """Σ_d [A(l) - x l]."""
        return (log_integral(l) - x * l).sum(axis=-1)

    def mean(self, l: Array) -> Array:
        """A'(l) = (1 + coth h - 1/h) / 2 with h = l/2. It is not sigmoid(l)."""
        return (1 + langevin(l / 2)) / 2

    def sample(self, l: Array, rng: np.random.Generator) -> Array:
        """The quantile x of a uniform u, where F(x) = (e^xl - 1) / (e^l - 1) = u.

        For l > 0 it is 1 - x with the x of -l, which has the same distribution.
        """
        u = rng.random(l.shape, np.float32 if l.dtype == np.float32 else np.float64)
        t = np.maximum(np.abs(l), np.finfo(l.dtype).eps)  # nearer to 0 the density is 1
        x = -np.log1p(u * np.expm1(-t)) / t  # of slope -t, so that nothing overflows
        return np.where(l > 0, 1 - x, x)

    def link(self, mean: Array) -> Array:
        """The l with A'(l) = mean, by bisection; a mean below 0.001 would need l < -1000."""
        return Likelihood.link(self, mean)


def log_integral(l: Array) -> Array:
    """A(l) = log ∫ e^xl dx over [0, 1]."""
    near = np.abs(l.real) < 1
    s = np.where(near, l * l, 0) / 4  # h²
    series = s / 6 * (1 + s / 20 * (1 + s / 42 * (1 + s / 72 * (1 + s / 110 * (1 + s / 156)))))
    t = np.where(near, 1, np.where(l.real > 0, l, -l))  # |l|
    far = l * (l.real > 0) + np.log(-np.expm1(-t) / t)
    return np.where(near, l / 2 + np.log1p(series), far)


def langevin(h: Array) -> Array:
    """coth h - 1/h."""
    near = np.abs(h.real) < 0.5
    s, t = np.where(near, h * h, 0), np.where(near, 1, h)
    fraction = h / (3 + s / (5 + s / (7 + s / (9 + s / (11 + s / (13 + s / 15))))))
    return np.where(near, fraction, 1 / np.tanh(t) - 1 / t)


@dataclass(frozen=True)
class Gaussian(Likelihood):
    """Independent pixels, x ~ N(l, v) with a given variance v, in squared pixel values.

    0.1 is about the variance of MNIST's pixels. A smaller v demands sharper reconstructions and
    gives the divergence less weight.
    """

    variance: float = 0.1
    name: ClassVar[str] = "gaussian"
    support: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        variance = check_real("variance", self.variance, 1e-6, 1e6, open_below=False)
        object.__setattr__(self, "variance", variance)  # np.float64 would widen float32 arrays

    def nll(self, x: Array, l: Array) -> Array:
        """Σ_d ((x - l)² / v + log(2πv)) / 2."""
        constant = l.shape[-1] * math.log(2 * math.pi * self.variance) / 2
        return ((x - l) * (x - l)).sum(axis=-1) / (2 * self.variance) + constant

    def nll_backward(self, x: Array, l: Array, dnll: Array) -> Array:
        """dl = dnll (l - x) / v."""
        return dnll[..., np.newaxis] * (l - x) / self.variance

    def nll_backward_x(self, x: Array, l: Array, dnll: Array) -> Array:
        """dx = dnll (x - l) / v."""
        return dnll[..., np.newaxis] * (x - l) / self.variance

    def mean(self, l: Array) -> Array:
        """l itself."""
        return l

    def sample(self, l: Array, rng: np.random.Generator) -> Array:
        """l + sqrt(v) n with n ~ N(0, I), in the dtype of l."""
        noise = rng.standard_normal(l.shape).astype(l.dtype)
        return l + math.sqrt(self.variance) * noise

    def link(self, mean: Array) -> Array:
        """`mean` itself."""
        return mean


@dataclass(frozen=True, eq=False)
class LearnedGaussian(Likelihood):
    """Independent pixels, x ~ N(l, v) with one variance v = exp(logvar), learned with the weights.

    `logvar` is the initial log v; in a model, it is the block ``likelihood.logvar``. At its default
    it is a placeholder: training starts at the variance of the data (`training.loop`).
    """

    logvar: Array = field(default_factory=lambda: np.log([0.1]))  # (1,)
    name: ClassVar[str] = "learned_gaussian"
    support: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        if not isinstance(self.logvar, np.ndarray) or self.logvar.shape != (1,):
            raise ValueError(
                f"logvar is {self.logvar!r}, must be an array of shape (1,), as np.log([0.1])"
            )

    def nll(self, x: Array, l: Array) -> Array:
        """Σ_d ((x - l)² / v + log(2πv)) / 2."""
        constant = l.shape[-1] * (math.log(2 * math.pi) + self.logvar) / 2
        return ((x - l) * (x - l)).sum(axis=-1) * (np.exp(-self.logvar) / 2) + constant

    def nll_backward(self, x: Array, l: Array, dnll: Array) -> Array:
        """dl = dnll (l - x) / v."""
        return dnll[..., np.newaxis] * ((l - x) * np.exp(-self.logvar))

    def nll_backward_params(self, x: Array, l: Array, dnll: Array, grad: Self) -> None:
        """dlogvar = Σ_b dnll Σ_d (1 - (x - l)² / v) / 2, assigned to `grad`."""
        of_each = l.shape[-1] - ((x - l) * (x - l)).sum(axis=-1) * np.exp(-self.logvar)
        grad.logvar[:] = (dnll * of_each).sum() / 2

    def nll_backward_x(self, x: Array, l: Array, dnll: Array) -> Array:
        """dx = dnll (x - l) / v."""
        return dnll[..., np.newaxis] * ((x - l) * np.exp(-self.logvar))

    def mean(self, l: Array) -> Array:
        """l itself."""
        return l

    def sample(self, l: Array, rng: np.random.Generator) -> Array:
        """l + sqrt(v) n with n ~ N(0, I), in the dtype of l."""
        noise = rng.standard_normal(l.shape)
        return (l + np.exp(self.logvar / 2) * noise).astype(l.dtype)

    def link(self, mean: Array) -> Array:
        """`mean` itself."""
        return mean


@dataclass(frozen=True, eq=False)
class DiagonalGaussian(LearnedGaussian):
    """Independent columns, x_d ~ N(l_d, v_d) with v_d = exp(logvar_d), learned with the weights.

    `logvar` is (D,), or (1,) for the same initial value in all columns, and else as in
    `LearnedGaussian`.
    """

    name: ClassVar[str] = "diagonal_gaussian"

    def __post_init__(self) -> None:
        if not isinstance(self.logvar, np.ndarray) or self.logvar.ndim != 1:
            raise ValueError(f"logvar is {self.logvar!r}, must be an array of shape (D,)")

    def for_width(self, d: int) -> Self:
        """The same with a log-variance for each of D columns."""
        if len(self.logvar) not in (1, d):
            raise ValueError(f"logvar has shape {self.logvar.shape}, must be ({d},)")
        return replace(self, logvar=np.broadcast_to(self.logvar, d).copy())

    def nll(self, x: Array, l: Array) -> Array:
        """Σ_d ((x_d - l_d)² / v_d + log(2π v_d)) / 2."""
        squares = (x - l) * (x - l) * np.exp(-self.logvar)
        return (squares + (math.log(2 * math.pi) + self.logvar)).sum(axis=-1) / 2

    def nll_backward_params(self, x: Array, l: Array, dnll: Array, grad: Self) -> None:
        """dlogvar_d = Σ_b dnll (1 - (x_d - l_d)² / v_d) / 2, assigned to `grad`."""
        of_each = dnll[..., np.newaxis] * (1 - (x - l) * (x - l) * np.exp(-self.logvar))
        grad.logvar[:] = of_each.sum(axis=tuple(range(of_each.ndim - 1))) / 2


@dataclass(frozen=True)
class Poisson(Likelihood):
    """Independent counts x = 0, 1, 2, ... of rate e^l."""

    name: ClassVar[str] = "poisson"
    support: ClassVar[tuple[float, float]] = (0.0, math.inf)
    differentiable_in_x: ClassVar[bool] = False
    whole: ClassVar[bool] = True

    def nll(self, x: Array, l: Array) -> Array:
        """Σ_d [e^l - x l + log x!]."""
        from scipy.special import gammaln  # slow to import

        return (np.exp(l) - x * l + gammaln(x.real + 1)).sum(axis=-1)

    def nll_backward(self, x: Array, l: Array, dnll: Array) -> Array:
        """dl = dnll (e^l - x)."""
        return dnll[..., np.newaxis] * (np.exp(l) - x)

    def mean(self, l: Array) -> Array:
        """The rate e^l."""
        return np.exp(l)

    def sample(self, l: Array, rng: np.random.Generator) -> Array:
        """A count of rate e^l, in the dtype of l."""
        return rng.poisson(np.exp(l)).astype(l.dtype)

    def link(self, mean: Array) -> Array:
        """log(mean)."""
        return np.log(mean)


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
    kind.name: kind
    for kind in (
        Bernoulli, ContinuousBernoulli, Gaussian, LearnedGaussian, DiagonalGaussian, Poisson,
    )
}  # fmt: skip


def make_likelihood(kind: str | Mapping[str, Any] | Likelihood) -> Likelihood:
    """Return a likelihood from its name in `LIKELIHOODS`, its name and settings, or itself."""
    if isinstance(kind, str):
        kind = {"name": kind}
    if isinstance(kind, Mapping):
        settings = dict(kind)
        name = check_choice("likelihood", settings.pop("name", None), LIKELIHOODS)
        return LIKELIHOODS[name](**settings)
    if not isinstance(kind, Likelihood):
        raise ValueError(f"likelihood is {kind!r}, must be a name or a Likelihood: Gaussian(0.1)")
    return kind


def check_values(likelihood: Likelihood, images: Images, what: str) -> None:
    """Raise ValueError for images (N, D), called `what`, outside the support of `likelihood`.

    uint8 pixels mean value / 255, so they are always within [0, 1].
    """
    if likelihood.whole:
        for start in range(0, len(images), 500):
            x = images[start : start + 500]
            if (x % 255 != 0 if x.dtype == np.uint8 else x != np.rint(x)).any():
                raise ValueError(
                    f"{what} are not whole numbers, must be counts for the {likelihood.name}"
                    " likelihood (bytes mean value / 255: scale=1 reads them as they are)"
                )
    if images.dtype == np.uint8:
        return
    low, high = likelihood.support
    least, most = images.min(), images.max()
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ValueError(f"some values of {what} are not finite, all must be")
    if least < low or most > high:
        raise ValueError(
            f"the values of {what} run from {least:g} to {most:g}, must be within [{low:g},"
            f" {high:g}] for the {likelihood.name} likelihood: rescale them, or choose another,"
            " such as learned_gaussian"
        )
