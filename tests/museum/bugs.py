"""Bugs of hand-written variational autoencoders, each as an edit of the real code.

Many bugs change a value together with its gradient. Then the model is wrong, but a gradient check,
which compares the two, has nothing to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

KINDS = ("central", "complex", "taylor", "mathematics", "purity")
GRADIENT = frozenset({"central", "complex", "taylor"})
MATHEMATICS = frozenset({"mathematics"})
PURITY = frozenset({"purity"})
ALL = frozenset(KINDS)

PUBLISHED = "published hand-written code"
COMMON = "a common slip"

Edits = Mapping[str, tuple[tuple[str, str], ...]]


def plant(module: str, *texts: str) -> Edits:
    """Return the edits of one module from old, new, old, new, ..."""
    return {module: tuple(zip(texts[::2], texts[1::2], strict=True))}


@dataclass(frozen=True)
class Bug:
    """One bug, and which tests catch it."""

    name: str
    title: str
    seen: str  # where, in public
    edits: Edits  # module of the package: (old, new), ...
    test: str  # the test of the package that must catch it; without [...], with any parameters
    seen_by: frozenset[str]  # the kinds of test of which at least one fails
    why: str = ""  # why the others miss it, or catch it
    row: int = 0  # of CLASSES
    places: Mapping[str, bool] = field(default_factory=dict)  # of jury.PLACES: caught there?


# The classes of bugs in published code, and whether a gradient check should catch them.
CLASSES = {
    1: ("different noise in forward and backward", "yes"),
    2: ("sigma = exp(logvar) in the sampler, sigma² = exp(logvar) in the KL", "no"),
    3: ("variance used as standard deviation", "no"),
    4: ("sign of the KL gradient", "yes, not at tiny weights with a loose tolerance"),
    5: ("1/B missing on one term", "only at B > 1"),
    6: ("KL averaged, reconstruction summed, or the reverse", "no"),
    7: ("clamp in the value, gradient unmasked", "only outside the clamp"),
    8: ("epsilon inside the log of the value only", "not at 1e-4; yes by complex step"),
    9: ("no gradient through the sampling path", "yes, not at tiny weights with a loose tolerance"),
    10: ("pre-activation where the activation belongs", "yes"),
    11: ("optimiser step inside backward", "no"),
    12: ("Adam without bias correction, per-example moments", "no"),
    13: ("evaluation returns mu + sigma", "no"),
    14: ('"ELBO" at eps = 0', "no"),
    15: ("test images in the training set", "no"),
    16: ("display through softplus instead of sigmoid", "no"),
    17: ("reported KL with the wrong sign", "no"),
}

CONSISTENT = "Backward is the right derivative of the wrong function."
OUTSIDE = "The objective and its gradient are right."
ONLY_GRADIENT = "The value is right, and so is everything computed from values."

BUGS = (
    # The log-variance, the sample and the divergence ------------------------------------------
    Bug(
        "two-meanings-of-logvar",
        "The sampler takes exp(logvar) for sigma, the KL takes it for sigma².",
        f"{PUBLISHED}; the subject of keras #3283, Lasagne/Recipes #90, AntixK/PyTorch-VAE #69",
        plant(
            "posterior",
            "return np.exp(logvar / 2)",
            "return np.exp(logvar)",
            "dz * eps * (sigma / 2)",
            "dz * eps * sigma",
            "sigma * sigma - 1 - logvar)",
            "np.exp(logvar) - 1 - logvar)",
            "dkl * (sigma * sigma - 1) / 2",
            "dkl * (sigma - 1) / 2",
            "dratio * (z * sigma * eps - 1) / 2",
            "dratio * (2 * z * sigma * eps - 1) / 2",
        ),
        "test_posterior.py::test_kl_against_monte_carlo_through_the_sampler",
        MATHEMATICS,
        CONSISTENT + " Each half alone is right, for its own meaning of logvar.",
        row=2,
    ),
    Bug(
        "deviation-for-variance-in-the-kl",
        "The KL has sigma where sigma² belongs.",
        PUBLISHED,
        plant(
            "posterior",
            "(mu * mu + sigma * sigma - 1",
            "(mu * mu + sigma - 1",
            "dkl * (sigma * sigma - 1) / 2",
            "dkl * (sigma / 2 - 1) / 2",
        ),
        "test_posterior.py::test_kl_against_quadrature",
        MATHEMATICS,
        CONSISTENT,
        row=3,
    ),
    Bug(
        "logvar-is-mu",
        "logvar is computed with the weights of mu, so that logvar = mu.",
        "the question that this package started from",
        plant(
            "network",
            "logvar = self.logvar_head.forward(h)",
            "logvar = self.mu_head.forward(h)",
            "dh = self.mu_head.backward(h, dmu, grad.mu_head)\n"
            "        return dh + self.logvar_head.backward(h, dlogvar, grad.logvar_head)\n",
            "grad.logvar_head.W[:], grad.logvar_head.b[:] = 0, 0\n"
            "        return self.mu_head.backward(h, dmu + dlogvar, grad.mu_head)\n",
        ),
        "test_vae.py::test_forward_is_the_derivation_written_out",
        MATHEMATICS | PURITY,
        CONSISTENT + " That the second head is never read is not an error of a derivative.",
    ),
    Bug(
        "no-half-in-dlogvar",
        "Backward lacks the factor 1/2 of d sigma / d logvar.",
        COMMON,
        plant("posterior", "dz * eps * (sigma / 2)", "dz * eps * sigma"),
        "test_posterior.py::test_sample_gradients",
        GRADIENT,
        ONLY_GRADIENT,
    ),
    Bug(
        "no-path-to-logvar",
        "The sample passes no gradient to logvar.",
        PUBLISHED,
        plant(
            "posterior",
            "dmu, dlogvar, deps = dz, dz * eps * (sigma / 2), dz * sigma",
            "dmu, dlogvar, deps = dz, np.zeros_like(dz), dz * sigma",
        ),
        "test_posterior.py::test_sample_gradients",
        GRADIENT,
        ONLY_GRADIENT,
        row=9,
        places={"weights of 0.001, rtol 0.001, atol 1e-5": False},
    ),
    Bug(
        "no-path-to-mu",
        "The sample passes no gradient to mu.",
        PUBLISHED,
        plant(
            "posterior",
            "dmu, dlogvar, deps = dz, dz * eps",
            "dmu, dlogvar, deps = np.zeros_like(dz), dz * eps",
        ),
        "test_posterior.py::test_sample_gradients",
        GRADIENT,
        ONLY_GRADIENT,
        row=9,
        places={"weights of 0.01, rtol 0.1, atol 0.01": False},
    ),
    Bug(
        "noise-drawn-twice",
        "Backward draws new noise instead of using that of the forward pass.",
        PUBLISHED,
        plant(
            "network",
            "from . import posterior\n",
            "import numpy as np\n\nfrom . import posterior\n",
            "sample_backward(t.eps, t.sigma, dz)",
            "sample_backward(np.random.standard_normal(t.eps.shape), t.sigma, dz)",
        ),
        "test_vae.py::test_nothing_is_remembered_and_nothing_is_written_to",
        ALL,
        "The gradient differs from call to call, and so does whatever is trained.",
        row=1,
    ),
    Bug(
        "noise-drawn-in-forward",
        "The forward pass draws its own noise.",
        COMMON,
        plant(
            "vae",
            'self._array("eps", eps, self.latent_dim)',
            'self._array("eps", np.random.standard_normal(np.shape(eps)), self.latent_dim)',
        ),
        "test_vae.py::test_forward_is_the_derivation_written_out",
        ALL,
        "A function with two values at one point has no derivative to check. The check refuses it.",
    ),
    Bug(
        "epsilon-std-0.01",
        "The sample is mu + 0.01 sigma eps, but the KL is that of mu + sigma eps.",
        "keras PR #4211, #8942, #3373",
        plant(
            "posterior",
            "return mu + sigma * eps",
            "return mu + sigma * (0.01 * eps)",
            "dz, dz * eps * (sigma / 2), dz * sigma",
            "dz, dz * (0.01 * eps) * (sigma / 2), dz * (0.01 * sigma)",
            "dratio * (z * sigma * eps - 1) / 2",
            "dratio * (z * sigma * (0.01 * eps) - 1) / 2",
            "dratio * (z * sigma - eps)",
            "dratio * (z * (0.01 * sigma) - eps)",
        ),
        "test_posterior.py::test_the_sample_has_the_distribution_it_claims",
        MATHEMATICS,
        CONSISTENT,
    ),
    Bug(
        "logvar-clamped",
        "The value clamps logvar to ±10, and the gradient ignores the clamp.",
        f"{PUBLISHED}; NaN is the subject of kvfrans/variational-autoencoder #5",
        plant(
            "posterior", "return np.exp(logvar / 2)", "return np.exp(np.clip(logvar, -10, 10) / 2)"
        ),
        "test_posterior.py::test_sigma_squared_is_exp_logvar_as_far_as_float32_goes",
        MATHEMATICS,
        "Inside the clamp, value and gradient are right.",
        row=7,
        places={"log-variances near -14": True},
    ),
    Bug(
        "kl-gradient-negated",
        "The gradient of the KL has the wrong sign.",
        PUBLISHED,
        plant("posterior", "    dkl = dkl[...", "    dkl = -dkl[..."),
        "test_posterior.py::test_kl_gradients",
        GRADIENT,
        ONLY_GRADIENT,
        row=4,
        places={"weights of 0.01, rtol 0.1, atol 0.01": False},
    ),
    Bug(
        "kl-averaged-over-latents",
        "The KL is averaged over latent dimensions, the reconstruction is summed over pixels.",
        "the subject of pytorch/examples #234, #294, wiseodd/generative-models #40",
        plant(
            "posterior",
            "- 1 - logvar).sum(axis=-1) / 2",
            "- 1 - logvar).mean(axis=-1) / 2",
            "    dkl = dkl[..., np.newaxis]",
            "    dkl = dkl[..., np.newaxis] / mu.shape[-1]",
        ),
        "test_posterior.py::test_kl_against_monte_carlo_through_the_sampler",
        MATHEMATICS,
        CONSISTENT + " With one latent dimension there is no difference.",
        row=6,
    ),
    Bug(
        "kl-reversed",
        "KL(p || q) instead of KL(q || p).",
        COMMON,
        plant(
            "posterior",
            "(mu * mu + sigma * sigma - 1 - logvar)",
            "((mu * mu + 1) / (sigma * sigma) - 1 + logvar)",
            "return dkl * mu, dkl * (sigma * sigma - 1) / 2",
            "variance = sigma * sigma\n"
            "    return dkl * mu / variance, dkl * (1 - (mu * mu + 1) / variance) / 2",
        ),
        "test_posterior.py::test_kl_against_quadrature",
        MATHEMATICS,
        CONSISTENT,
    ),
    Bug(
        "divided-by-k-twice",
        "With K samples, the gradient of the sample is averaged over K once too often.",
        COMMON,
        plant(
            "posterior",
            "    if dz.ndim > sigma.ndim:  # all K samples read the same mu and logvar\n"
            "        dmu, dlogvar = dmu.sum(axis=0), dlogvar.sum(axis=0)",
            "    if dz.ndim > sigma.ndim:  # all K samples read the same mu and logvar\n"
            "        dmu, dlogvar = dmu.mean(axis=0), dlogvar.mean(axis=0)",
        ),
        "test_posterior.py::test_sample_gradients",
        GRADIENT,
        ONLY_GRADIENT + " With one sample the gradient is right, too.",
    ),
    Bug(
        "log-ratio-without-sigma",
        "The gradient of the log ratio has z eps in place of z sigma eps.",
        COMMON,
        plant("posterior", "dratio * (z * sigma * eps - 1) / 2", "dratio * (z * eps - 1) / 2"),
        "test_posterior.py::test_log_ratio_gradients",
        GRADIENT,
        ONLY_GRADIENT + " At sigma = 1, where training starts, the gradient is right, too.",
    ),
    Bug(
        "log-ratio-without-its-normaliser-in-dlogvar",
        "The gradient of the log ratio lacks the -1/2 that comes from log sigma in log q.",
        COMMON,
        plant("posterior", "dratio * (z * sigma * eps - 1) / 2", "dratio * (z * sigma * eps) / 2"),
        "test_posterior.py::test_log_ratio_gradients",
        GRADIENT,
        ONLY_GRADIENT + " Training then finds a minimum near sigma = 0.",
    ),
    Bug(
        "log-q-held-fixed",
        "The gradient of log q treats mu and sigma as constants, and flows through z alone.",
        "an estimator for the ELBO (arXiv:1703.09194), biased for K samples (arXiv:1810.04152)",
        plant(
            "posterior",
            "dratio * z, dratio * (z * sigma * eps - 1) / 2",
            "dratio * (z - eps / sigma), dratio * (z * sigma * eps - eps * eps) / 2",
        ),
        "test_posterior.py::test_log_ratio_gradients",
        GRADIENT,
        "The value is right. For one sample the missing part averages to zero over draws. It does "
        "not under the weights of several samples, nor in a single draw.",
    ),
    Bug(
        "log-ratio-takes-logvar-for-log-sigma",
        "log q has log sigma² in place of log sigma, in value and gradient.",
        COMMON,
        plant(
            "posterior",
            "(z * z - eps * eps - logvar).sum(axis=-1) / 2",
            "(z * z - eps * eps - 2 * logvar).sum(axis=-1) / 2",
            "dratio * (z * sigma * eps - 1) / 2",
            "dratio * (z * sigma * eps - 2) / 2",
        ),
        "test_posterior.py::test_the_log_ratio_is_that_of_scipys_densities_at_the_sample",
        MATHEMATICS,
        CONSISTENT,
        row=3,
    ),
    # The likelihood ---------------------------------------------------------------------------
    Bug(
        "epsilon-inside-the-log",
        "The value has log(p + 1e-8), the gradient is that of log p.",
        PUBLISHED,
        plant(
            "likelihood",
            "return (softplus - x * l).sum(axis=-1)",
            "p = self.mean(l)\n"
            "        terms = x * np.log(p + 1e-8) + (1 - x) * np.log(1 - p + 1e-8)\n"
            "        return -terms.sum(axis=-1)",
        ),
        "test_likelihood.py::test_bernoulli_is_scipys",
        frozenset({"complex", "mathematics"}),
        "At moderate logits the two slopes differ by one part in ten million. That is below what "
        "a central difference or a Taylor remainder can see, but not below what the complex step "
        "sees.",
        row=8,
    ),
    Bug(
        "naive-softplus",
        "softplus(l) is computed as log(1 + exp(l)), which overflows.",
        COMMON,
        plant(
            "likelihood",
            "softplus = positive + np.log1p(np.exp(l - 2 * positive))",
            "softplus = np.log(1 + np.exp(l))",
        ),
        "test_likelihood.py::test_extreme_logits_are_exact_in_value_and_gradient",
        MATHEMATICS,
        "At moderate logits, value and gradient are right.",
    ),
    Bug(
        "naive-sigmoid",
        "sigmoid(l) is computed as 1 / (1 + exp(-l)), which overflows.",
        COMMON,
        plant("likelihood", "return (1 + np.tanh(l / 2)) / 2", "return 1 / (1 + np.exp(-l))"),
        "test_likelihood.py::test_extreme_logits_are_exact_in_value_and_gradient",
        MATHEMATICS,
        "At moderate logits, value and gradient are right.",
    ),
    Bug(
        "sigmoid-twice",
        "The output layer ends in a sigmoid, and the likelihood takes its output for logits.",
        COMMON,
        plant(
            "network",
            "from . import posterior\n",
            "import numpy as np\n\nfrom . import posterior\n",
            "logits = self.output.forward(decoder[-1])",
            "logits = 1 / (1 + np.exp(-self.output.forward(decoder[-1])))",
            "dlogits = self.likelihood.nll_backward(t.x, t.logits, dnll)",
            "dlogits = self.likelihood.nll_backward(t.x, t.logits, dnll)\n"
            "        dlogits = dlogits * t.logits * (1 - t.logits)",
        )
        | plant(
            "vae",
            "logits = net.output.forward(decoder[-1])",
            "logits = 1 / (1 + np.exp(-net.output.forward(decoder[-1])))",
        ),
        "test_vae.py::test_forward_is_the_derivation_written_out",
        MATHEMATICS,
        CONSISTENT,
    ),
    Bug(
        "reconstruction-averaged-over-pixels",
        "The reconstruction is averaged over pixels, the KL is summed over latent dimensions.",
        "the subject of pytorch/examples #234, #290, #652",
        plant(
            "likelihood",
            "return (softplus - x * l).sum(axis=-1)",
            "return (softplus - x * l).mean(axis=-1)",
            "return dnll[..., np.newaxis] * (self.mean(l) - x)",
            "return dnll[..., np.newaxis] * (self.mean(l) - x) / l.shape[-1]",
            "return -dnll[..., np.newaxis] * l\n",
            "return -dnll[..., np.newaxis] * l / l.shape[-1]\n",
            "return (log_integral(l) - x * l).sum(axis=-1)",
            "return (log_integral(l) - x * l).mean(axis=-1)",
        ),
        "test_likelihood.py::test_bernoulli_is_scipys",
        MATHEMATICS | PURITY,
        CONSISTENT + " On MNIST this means beta = 784. (The float32 test takes values of hundreds "
        "of nats.)",
        row=6,
    ),
    Bug(
        "mean-over-the-batch-inside-the-likelihood",
        "The gradient of each example is weighted by the mean of all weights.",
        COMMON,
        plant(
            "likelihood",
            "return dnll[..., np.newaxis] * (self.mean(l) - x)",
            "return dnll.mean() * (self.mean(l) - x)",
        ),
        "test_likelihood.py::test_gradients",
        GRADIENT,
        "A check with equal weights is blind to this. Ours draws them at random.",
    ),
    Bug(
        "gaussian-variance-squared",
        "The Gaussian likelihood takes its variance for a standard deviation, and squares it.",
        PUBLISHED,
        plant(
            "likelihood",
            "math.log(2 * math.pi * self.variance) / 2",
            "math.log(2 * math.pi * self.variance**2) / 2",
            ".sum(axis=-1) / (2 * self.variance)",
            ".sum(axis=-1) / (2 * self.variance**2)",
            "(l - x) / self.variance",
            "(l - x) / self.variance**2",
            "* (x - l) / self.variance",
            "* (x - l) / self.variance**2",
        ),
        "test_likelihood.py::test_gaussian_is_scipys_with_every_constant",
        MATHEMATICS,
        CONSISTENT,
        row=3,
    ),
    Bug(
        "gaussian-without-constant",
        "The Gaussian likelihood lacks log(2πv), so the ELBO no longer bounds log p(x).",
        COMMON,
        plant(
            "likelihood",
            " / (2 * self.variance) + constant",
            " / (2 * self.variance)",
            "        constant = l.shape[-1] * math.log(2 * math.pi * self.variance) / 2\n",
            "",
        ),
        "test_likelihood.py::test_gaussian_is_scipys_with_every_constant",
        MATHEMATICS,
        "A constant has no gradient.",
    ),
    Bug(
        "gaussian-without-half",
        "The squared error of the Gaussian likelihood lacks its factor 1/2.",
        "AntixK/PyTorch-VAE, where sigma² is 1/2 and the effective beta 3.07",
        plant(
            "likelihood",
            " / (2 * self.variance) + constant",
            " / self.variance + constant",
            "* (l - x) / self.variance",
            "* (l - x) * 2 / self.variance",
            "* (x - l) / self.variance",
            "* (x - l) * 2 / self.variance",
        ),
        "test_likelihood.py::test_gaussian_is_scipys_with_every_constant",
        MATHEMATICS,
        CONSISTENT,
    ),
    Bug(
        "gaussian-sample-with-the-variance",
        "Pixels are drawn with the variance as the standard deviation.",
        COMMON,
        plant("likelihood", "l + math.sqrt(self.variance) * noise", "l + self.variance * noise"),
        "test_likelihood.py::test_samples_have_the_mean_and_the_dtype",
        MATHEMATICS,
        OUTSIDE,
        row=3,
    ),
    Bug(
        "float32-constant",
        "A constant of the likelihood is rounded to float32.",
        COMMON,
        plant(
            "likelihood",
            "constant = l.shape[-1] * math.log(2 * math.pi * self.variance) / 2",
            "constant = np.float32(l.shape[-1] * math.log(2 * math.pi * self.variance) / 2)",
        ),
        "test_likelihood.py::test_gaussian_is_scipys_with_every_constant",
        MATHEMATICS,
        "The dtype is right, and the constant has no gradient.",
    ),
    Bug(
        "logits-overwritten",
        "The gradient of the Gaussian likelihood is computed in place, in the trace.",
        COMMON,
        plant(
            "likelihood",
            "return dnll[..., np.newaxis] * (l - x) / self.variance",
            "l -= x\n        return dnll[..., np.newaxis] * l / self.variance",
        ),
        "test_likelihood.py::test_no_argument_is_written_to",
        GRADIENT | PURITY,
        "The gradient of the parameters is right the first time. That of x reads the overwritten "
        "logits.",
    ),
    Bug(
        "continuous-bernoulli-without-normaliser",
        "Grey pixels get the cross-entropy of binary pixels, which is not a density of grey ones.",
        "most published VAEs for grey pixels; the subject of arXiv:1907.06845",
        plant(
            "likelihood",
            "return (log_integral(l) - x * l).sum(axis=-1)",
            "return super().nll(x, l)",
            "return (1 + langevin(l / 2)) / 2",
            "return super().mean(l)",
        ),
        "test_likelihood.py::test_continuous_bernoulli_is_scipys_truncated_exponential",
        MATHEMATICS,
        CONSISTENT,
    ),
    Bug(
        "continuous-bernoulli-shown-as-sigmoid",
        "The mean of a continuous Bernoulli is computed as sigmoid(l), as for a Bernoulli.",
        "the subject of arXiv:1907.06845",
        plant(
            "likelihood",
            "        return (1 + langevin(l / 2)) / 2\n",
            "        return super().mean(l)\n\n"
            "    def nll_backward(self, x: Array, l: Array, dnll: Array) -> Array:\n"
            "        return dnll[..., np.newaxis] * ((1 + langevin(l / 2)) / 2 - x)\n",
        ),
        "test_likelihood.py::test_samples_have_the_mean_and_the_dtype",
        MATHEMATICS,
        OUTSIDE,
        row=16,
    ),
    Bug(
        "continuous-bernoulli-without-series",
        "Near l = 0 the constant of a continuous Bernoulli loses its digits, and at 0 it is 0/0.",
        COMMON,
        plant(
            "likelihood",
            "near = np.abs(l.real) < 1\n",
            "near = np.abs(l.real) < 0\n",
            "near = np.abs(h.real) < 0.5\n",
            "near = np.abs(h.real) < 0\n",
        ),
        "test_likelihood.py::test_the_log_integral_and_the_mean_have_all_digits",
        MATHEMATICS,
        "At moderate logits, value and gradient are right.",
    ),
    Bug(
        "learned-variance-without-half",
        "The gradient of a learned log-variance lacks its factor 1/2.",
        COMMON,
        plant("likelihood", "(dnll * of_each).sum() / 2", "(dnll * of_each).sum()"),
        "test_likelihood.py::test_gradients",
        GRADIENT,
        ONLY_GRADIENT + " It is zero at the right place, and Adam hardly depends on its size.",
    ),
    Bug(
        "learned-variance-of-one-pixel",
        "The constant of a learned variance is counted once, not once per pixel.",
        COMMON,
        plant(
            "likelihood",
            "constant = l.shape[-1] * (math.log(2 * math.pi) + self.logvar) / 2",
            "constant = (math.log(2 * math.pi) + self.logvar) / 2",
            "of_each = l.shape[-1] - (",
            "of_each = 1 - (",
        ),
        "test_likelihood.py::test_the_learned_gaussian_is_the_gaussian_of_its_variance",
        MATHEMATICS,
        CONSISTENT + " The best variance is then D times the mean squared error.",
    ),
    Bug(
        "learned-variance-sample-with-the-variance",
        "Pixels are drawn with the learned variance as the standard deviation.",
        COMMON,
        plant("likelihood", "np.exp(self.logvar / 2) * noise", "np.exp(self.logvar) * noise"),
        "test_likelihood.py::test_samples_have_the_mean_and_the_dtype",
        MATHEMATICS,
        OUTSIDE,
        row=3,
    ),
    Bug(
        "one-gradient-for-all-variances",
        "Of a variance for each column, the gradient is summed over the columns.",
        COMMON,
        plant(
            "likelihood",
            "of_each.sum(axis=tuple(range(of_each.ndim - 1))) / 2",
            "of_each.sum() / 2",
        ),
        "test_likelihood.py::test_gradients",
        GRADIENT,
        ONLY_GRADIENT + " The assignment broadcasts, so no shape gives it away.",
    ),
    Bug(
        "poisson-without-the-factorial",
        "-log p(x|z) of counts lacks log x!.",
        "the default of PyTorch's PoissonNLLLoss",
        plant("likelihood", " + gammaln(x.real + 1)", ""),
        "test_likelihood.py::test_poisson_is_scipys_and_so_are_its_draws",
        MATHEMATICS,
        "The term does not depend on l, so every gradient is right. But the value is not the log "
        "of a probability, and the sum over all counts is not 1.",
    ),
    # The layers -------------------------------------------------------------------------------
    Bug(
        "gradient-accumulated",
        "A layer adds its gradient to what is already there.",
        COMMON,
        plant(
            "layers",
            "np.matmul(flatten_samples(x).T, flatten_samples(dy), out=grad.W)  # (n, B) (B, m)\n"
            "        flatten_samples(dy).sum(axis=0, out=grad.b)",
            "grad.W[:] += flatten_samples(x).T @ flatten_samples(dy)\n"
            "        grad.b[:] += flatten_samples(dy).sum(axis=0)",
        ),
        "test_layers.py::test_backward_assigns_and_does_not_accumulate",
        PURITY,
        "A check computes one gradient, into zeros. Only a second one in the same memory shows "
        "the bug, and so does training.",
    ),
    Bug(
        "bias-gradient-averaged",
        "The gradient of a bias is averaged over the rows.",
        COMMON,
        plant(
            "layers",
            "flatten_samples(dy).sum(axis=0, out=grad.b)",
            "flatten_samples(dy).mean(axis=0, out=grad.b)",
        ),
        "test_layers.py::test_dense_gradients",
        GRADIENT,
        ONLY_GRADIENT,
        places={"a batch of one image": False},
    ),
    Bug(
        "weights-not-transposed",
        "dx = dy W, without the transpose.",
        COMMON,
        plant("layers", "flatten_samples(dy) @ self.W.T", "flatten_samples(dy) @ self.W"),
        "test_layers.py::test_dense_gradients",
        ALL,
        "Where all widths differ this product does not exist, and whatever calls backward fails.",
    ),
    Bug(
        "relu-mask-of-dy",
        "relu passes the gradient where the gradient itself is positive.",
        COMMON,
        plant("layers", "return dy * (y.real > 0)", "return dy * (dy.real > 0)"),
        "test_layers.py::test_activation_gradients",
        GRADIENT,
        ONLY_GRADIENT,
    ),
    Bug(
        "relu-mask-always-true",
        "relu passes the gradient where y >= 0, which is everywhere.",
        COMMON,
        plant("layers", "return dy * (y.real > 0)", "return dy * (y.real >= 0)"),
        "test_layers.py::test_activation_gradients",
        GRADIENT,
        ONLY_GRADIENT,
    ),
    Bug(
        "tanh-not-squared",
        "The derivative of tanh is computed as 1 - y.",
        COMMON,
        plant("layers", "return dy * (1 - y * y)", "return dy * (1 - y)"),
        "test_layers.py::test_activation_gradients",
        GRADIENT,
        ONLY_GRADIENT,
    ),
    Bug(
        "pre-activation",
        "The derivative of an activation is computed from the pre-activation.",
        PUBLISHED,
        plant(
            "layers",
            "da = self.activation.backward(hs[i + 1], dh)\n            dh =",
            "da = self.activation.backward(self.layers[i].forward(hs[i]), dh)\n            dh =",
        ),
        "test_layers.py::test_trunk_gradients",
        GRADIENT,
        "With relu this is not a bug, because the signs are the same. So every activation has to "
        "be checked.",
        row=10,
    ),
    Bug(
        "output-in-a-kept-buffer",
        "Each layer writes its output into an array that it keeps between calls.",
        "joelgrus/joelnet, whose layers store their inputs",
        plant(
            "layers",
            "y = flatten_samples(x) @ self.W\n",
            "key = id(self.W), self.W.shape, x.shape, x.dtype\n"
            "        if key not in _OUTPUTS:\n"
            "            _OUTPUTS[key] = flatten_samples(x) @ self.W\n"
            "        y = np.matmul(flatten_samples(x), self.W, out=_OUTPUTS[key])\n",
            "class Activation(NamedTuple):",
            "_OUTPUTS = {}\n\n\nclass Activation(NamedTuple):",
        ),
        "test_vae.py::test_nothing_is_remembered_and_nothing_is_written_to",
        MATHEMATICS | PURITY,
        "All is right as long as each trace is used before the next is made. The evaluation keeps "
        "the posterior means of some images while it computes those of others.",
    ),
    # The wiring -------------------------------------------------------------------------------
    Bug(
        "backward-of-the-last-forward",
        "The model remembers its last trace, and backward reads that one.",
        "joelgrus/joelnet, whose layers store their inputs",
        plant(
            "network",
            "return Trace(x, eps, encoder, h, mu, logvar, sigma, z, decoder, logits)",
            "self._last = Trace(x, eps, encoder, h, mu, logvar, sigma, z, decoder, logits)\n"
            "        return self._last",
            "t, (dnll, dkl, dratio) = trace, dterms",
            "t, (dnll, dkl, dratio) = self._last, dterms",
        ),
        "test_vae.py::test_nothing_is_remembered_and_nothing_is_written_to",
        PURITY,
        "A check alternates between forward and backward.",
    ),
    Bug(
        "kl-gradient-not-over-b",
        "The gradient of the KL lacks the factor 1/B.",
        PUBLISHED,
        plant("bounds", "beta / shape[-1], dtype)", "beta, dtype)"),
        "test_vae.py::test_a_duplicated_batch_has_the_same_loss_and_gradient",
        GRADIENT,
        ONLY_GRADIENT + " With one image the gradient is right, too.",
        row=5,
        places={"a batch of one image": False},
    ),
    Bug(
        "kl-summed-over-the-batch",
        "The KL is summed over the batch, the reconstruction is averaged, in value and gradient.",
        "the subject of pytorch/examples #234, #290",
        plant(
            "bounds",
            "+ beta * terms.kl.mean()",
            "+ beta * terms.kl.sum()",
            "beta / shape[-1], dtype)",
            "beta, dtype)",
        ),
        "test_vae.py::test_forward_is_the_derivation_written_out",
        MATHEMATICS,
        CONSISTENT,
        row=6,
    ),
    Bug(
        "beta-only-in-the-value",
        "The gradient of the KL is that of beta = 1.",
        COMMON,
        plant("bounds", "beta / shape[-1], dtype)", "1 / shape[-1], dtype)"),
        "test_vae.py::test_gradient_of_the_objective[relu-1-bernoulli-100-one-sample]",
        GRADIENT,
        ONLY_GRADIENT + " At beta = 1 the gradient is right, too.",
    ),
    Bug(
        "importance-weights-on-the-analytic-kl-gradient",
        "The gradient uses importance weights that contain the analytic KL.",
        "a known mistake of importance-weighted bounds",
        plant(
            "bounds",
            "    log_w = log_weights(terms, beta)\n    v = np.exp(",
            "    log_w = np.atleast_2d(-(terms.reconstruction + beta * terms.kl))\n    v = np.exp(",
        ),
        "test_bounds.py::test_gradients",
        GRADIENT | MATHEMATICS,
        "The value is right. All samples of an image share one KL, so it cancels in the weights. "
        "A test that compares the weights with their definition sees that they are wrong.",
    ),
    Bug(
        "importance-weights-on-the-analytic-kl",
        "Value and gradient use importance weights with the analytic KL, and bound nothing.",
        "a known mistake of importance-weighted bounds",
        plant(
            "bounds",
            "log_w = -(terms.reconstruction + beta * terms.log_ratio)",
            "log_w = -(terms.reconstruction + beta * terms.kl)",
            "return Terms(dnll, np.zeros_like(terms.kl), beta * dnll)",
            "dkl = beta * dnll.reshape(-1, len(terms.kl)).sum(axis=0)\n"
            "    return Terms(dnll, dkl, np.zeros_like(dnll))",
        ),
        "test_bounds.py::test_with_the_true_posterior_every_single_weight_is_the_likelihood",
        MATHEMATICS,
        CONSISTENT + " With one sample it is the ELBO.",
    ),
    Bug(
        "weights-not-normalised",
        "The weights of the samples are exp(log w - max), and do not sum to 1.",
        COMMON,
        plant("bounds", "    v /= v.sum(axis=0)\n", ""),
        "test_bounds.py::test_gradients",
        GRADIENT | MATHEMATICS,
        "The value is right. With one sample the weight is 1 anyway.",
    ),
    Bug(
        "weights-normalised-over-the-batch",
        "The softmax runs over the examples of the batch instead of the samples of each.",
        COMMON,
        plant("bounds", "v /= v.sum(axis=0)", "v /= v.sum(axis=1, keepdims=True)"),
        "test_bounds.py::test_gradients",
        GRADIENT | MATHEMATICS,
        "The value is right, but each gradient depends on the rest of the batch.",
    ),
    Bug(
        "weights-held-fixed",
        "The value is the weighted mean of log w, and the gradient holds the weights constant.",
        COMMON,
        plant(
            "bounds",
            "    return -(most + np.log(np.exp(log_w - most).mean(axis=0))).mean()",
            "    v = np.exp(log_w - most)\n"
            "    return -((v * log_w).sum(axis=0) / v.sum(axis=0)).mean()",
        ),
        "test_bounds.py::test_iwae_is_its_definition_with_plain_exponentials",
        GRADIENT | MATHEMATICS,
        "The gradient is that of the bound. The value is another function, which lies above the "
        "bound.",
    ),
    Bug(
        "mean-of-the-logarithms",
        "The mean of the logarithms is taken instead of the logarithm of the mean weight.",
        COMMON,
        plant(
            "bounds",
            "    return -(most + np.log(np.exp(log_w - most).mean(axis=0))).mean()",
            "    return -log_w.mean()",
            "    v = np.exp(log_w - log_w.real.max(axis=0))\n    v /= v.sum(axis=0)\n",
            "    v = np.full_like(log_w, 1 / len(log_w))\n",
        ),
        "test_bounds.py::test_iwae_is_its_definition_with_plain_exponentials",
        MATHEMATICS,
        CONSISTENT + " It is the ELBO, which K samples make less noisy but not tighter.",
    ),
    Bug(
        "weights-summed-not-averaged",
        "log K is forgotten: the bound has the sum of the weights, not their mean.",
        COMMON,
        plant("bounds", "np.exp(log_w - most).mean(axis=0)", "np.exp(log_w - most).sum(axis=0)"),
        "test_bounds.py::test_iwae_is_its_definition_with_plain_exponentials",
        MATHEMATICS,
        "A constant has no gradient. With many samples the bound is above log p(x).",
    ),
    Bug(
        "weights-not-in-log-space",
        "The weights are computed as exp(log w), which is zero at -800 nats.",
        COMMON,
        plant(
            "bounds",
            "    return -(most + np.log(np.exp(log_w - most).mean(axis=0))).mean()",
            "    return -np.log(np.exp(log_w).mean(axis=0)).mean()",
            "    v = np.exp(log_w - log_w.real.max(axis=0))\n",
            "    v = np.exp(log_w)\n",
        ),
        "test_bounds.py::test_weights_that_no_float_can_hold_are_exact",
        MATHEMATICS,
        "At moderate weights, value and gradient are right.",
    ),
    Bug(
        "one-head-alone-reaches-h",
        "Two heads read h, but h gets the gradient of only one.",
        COMMON,
        plant(
            "network",
            "return dh + self.logvar_head.backward(h, dlogvar, grad.logvar_head)",
            "self.logvar_head.backward(h, dlogvar, grad.logvar_head)\n        return dh",
        ),
        "test_vae.py::test_gradient_of_the_objective[relu-1-bernoulli-1-one-sample]",
        GRADIENT,
        ONLY_GRADIENT + " At the initial weights the other head passes nothing on anyway.",
        places={"the initial weights": False},
    ),
    Bug(
        "target-forgotten-in-dx",
        "The gradient with respect to x forgets that x is also the target.",
        COMMON,
        plant(
            "network",
            "return dx + dtarget.reshape(-1, *t.x.shape).sum(axis=0), deps",
            "return dx, deps",
        ),
        "test_vae.py::test_gradient_of_the_objective[relu-1-bernoulli-1-one-sample]",
        GRADIENT,
        ONLY_GRADIENT,
    ),
    Bug(
        "parameter-of-the-likelihood-without-gradient",
        "Backward does not write the gradient of the likelihood's parameter.",
        COMMON,
        plant(
            "network",
            "        self.likelihood.nll_backward_params(t.x, t.logits, dnll, grad.likelihood)\n",
            "",
        ),
        "test_vae.py::test_the_whole_gradient_is_assigned",
        GRADIENT | PURITY,
        "In new memory that gradient is zero, so the variance is never learned. In reused memory "
        "it is whatever was there.",
    ),
    Bug(
        "step-inside-backward",
        "Backward takes a step of gradient descent.",
        PUBLISHED,
        plant(
            "vae",
            "self._network.over(grads))\n        return grads",
            "self._network.over(grads))\n"
            "        self._params.flat[:] -= 1e-3 * grads.flat\n        return grads",
        ),
        "test_vae.py::test_nothing_is_remembered_and_nothing_is_written_to",
        MATHEMATICS | PURITY,
        "The gradient is right at the point where it was asked for, but training moves too far.",
        row=11,
    ),
    Bug(
        "float64-weights",
        "The weights of the two terms are float64, and so is every gradient of a float32 model.",
        COMMON,
        plant(
            "bounds",
            "1 / math.prod(shape), dtype)",
            "1 / math.prod(shape))",
            "beta / shape[-1], dtype)",
            "beta / shape[-1])",
        ),
        "test_vae.py::test_one_dtype_from_end_to_end",
        PURITY,
        "A check runs in float64.",
    ),
    Bug(
        "noise-overwritten",
        "The sample is computed in place, in the caller's noise.",
        COMMON,
        plant(
            "posterior", "return mu + sigma * eps", "eps *= sigma\n    eps += mu\n    return eps"
        ),
        "test_vae.py::test_nothing_is_remembered_and_nothing_is_written_to",
        ALL,
        "The trace then holds z under the name of eps, so the gradient is wrong, too.",
    ),
    Bug(
        "reconstruction-at-mu-plus-sigma",
        "A reconstruction is decoded from mu + sigma.",
        PUBLISHED,
        plant(
            "vae",
            "return self.decode(self.encode(x)[0])",
            "mu, logvar = self.encode(x)\n        return self.decode(mu + np.exp(logvar / 2))",
        ),
        "test_vae.py::test_decode_reconstruct_and_sample_are_means",
        MATHEMATICS,
        OUTSIDE,
        row=13,
    ),
    Bug(
        "display-through-softplus",
        "Pictures are drawn through softplus instead of sigmoid.",
        "the display of jax's examples/mnist_vae.py",
        plant(
            "vae",
            "mean = self.likelihood.mean(self._logits(z))",
            "mean = np.log1p(np.exp(self._logits(z)))",
        ),
        "test_vae.py::test_decode_reconstruct_and_sample_are_means",
        MATHEMATICS,
        OUTSIDE,
        row=16,
    ),
    # The network ------------------------------------------------------------------------------
    Bug(
        "decoder-not-mirrored",
        "The decoder has the widths of the encoder in the same order.",
        COMMON,
        plant("blocks", "(latent_dim, *reversed(hidden))", "(latent_dim, *hidden)"),
        "test_blocks.py::test_the_decoder_mirrors_the_encoder",
        MATHEMATICS,
        "It is a valid model, but not the one that was asked for.",
    ),
    Bug(
        "decoder-with-another-activation",
        "The decoder uses tanh, whatever was asked for.",
        COMMON,
        plant(
            "network",
            'Trunk.over(params, "decoder", activation)',
            'Trunk.over(params, "decoder", ACTIVATIONS["tanh"])',
            "from .layers import Activation,",
            "from .layers import ACTIVATIONS, Activation,",
        ),
        "test_vae.py::test_forward_is_the_derivation_written_out",
        MATHEMATICS,
        "It is a valid model, but not the one that was asked for.",
    ),
    Bug(
        "variance-for-deviation-in-the-initial-weights",
        "The initial weights are drawn with the variance gain / n as the standard deviation.",
        COMMON,
        plant(
            "blocks",
            "rng.normal(0, (gain / len(W)) ** 0.5, W.shape)",
            "rng.normal(0, gain / len(W), W.shape)",
        ),
        "test_blocks.py::test_the_initial_weights",
        MATHEMATICS,
        OUTSIDE,
        row=3,
    ),
    # Copies -----------------------------------------------------------------------------------
    Bug(
        "views-detached-by-deepcopy",
        "A model is copied attribute by attribute, so its layers leave the vector.",
        COMMON,
        plant(
            "vae",
            "    def __reduce__(self) -> tuple[Any, ...]:\n"
            "        # The Params itself, so that a model and its optimiser are copied together, "
            "not apart.\n"
            "        return type(self)._build, (self.settings, self._params)\n\n",
            "",
        ),
        "test_vae.py::test_a_copy_is_whole_and_apart",
        PURITY,
        "The copy computes what the original does, until it is trained.",
    ),
    Bug(
        "views-detached-by-params-copy",
        "Params.copy copies the arrays one by one, apart from the vector.",
        COMMON,
        plant(
            "params",
            "return Params(self.shapes, flat=self._flat.copy())",
            "twin = Params(self.shapes, flat=self._flat.copy())\n"
            "        blocks = {name: view.copy() for name, view in self._views.items()}\n"
            "        twin._views = MappingProxyType(blocks)\n"
            "        return twin",
        ),
        "test_params.py::test_a_copy_has_memory_of_its_own_and_its_views_are_attached_to_it",
        PURITY,
        "The copy holds the right values until one of the two is written to.",
    ),
    Bug(
        "views-detached-by-load",
        "A loaded model gets the vector of the file, but its layers keep the old one.",
        COMMON,
        plant(
            "vae",
            'return VAE._build({**settings, "scaling": scaling}, arrays["params"])',
            'vae = VAE(**settings, dtype=arrays["params"].dtype)\n'
            '        vae._params = Params(vae.params.shapes, flat=arrays["params"])\n'
            "        return vae",
        ),
        "test_vae.py::test_save_and_load",
        PURITY,
        "No check loads a file.",
    ),
    Bug(
        "learned-variance-beside-the-vector",
        "A copy of a model reads the learned variance of the original.",
        COMMON,
        plant(
            "vae",
            "        if params is None:\n",
            "        copied = params is not None\n        if params is None:\n",
            "self._network = network_type(params, ACTIVATIONS[activation], likelihood)\n",
            "self._network = network_type(params, ACTIVATIONS[activation], likelihood)\n"
            "        if copied:\n            self._network.likelihood = likelihood\n",
        ),
        "test_vae.py::test_the_parameter_of_a_likelihood_is_that_of_the_copy",
        PURITY,
        "The copy computes what the original does, until it is trained.",
    ),
    Bug(
        "optimiser-of-a-copy",
        "A resumed run gives its optimiser a copy of the parameters, and trains the copy.",
        COMMON,
        plant(
            "runs.checkpoint",
            "adam = Adam(vae.params, *(",
            "adam = Adam(vae.params.copy(), *(",
        ),
        "test_checkpoint.py::test_all_that_was_saved_comes_back",
        PURITY,
        "No check resumes a run.",
    ),
    # The optimiser ----------------------------------------------------------------------------
    Bug(
        "adam-without-bias-correction",
        "Adam uses its moments without bias correction.",
        PUBLISHED,
        plant(
            "optim",
            "n1 = (1 - self.beta1**t) / (1 - self.beta1)",
            "n1 = 1 / (1 - self.beta1)",
            "n2 = (1 - self.beta2**t) / (1 - self.beta2)",
            "n2 = 1 / (1 - self.beta2)",
        ),
        "test_optim.py::test_adam_is_the_printed_algorithm",
        MATHEMATICS,
        "No check takes a step.",
        row=12,
    ),
    Bug(
        "adam-counts-from-two",
        "The exponent of the bias correction is one too large.",
        COMMON,
        plant("optim", "n1 = (1 - self.beta1**t)", "n1 = (1 - self.beta1 ** (t + 1))"),
        "test_optim.py::test_adam_is_the_printed_algorithm",
        MATHEMATICS,
        "No check takes a step.",
    ),
    Bug(
        "adam-epsilon-inside-the-root",
        "Adam adds epsilon inside the root.",
        COMMON,
        plant(
            "optim",
            "np.sqrt(V, out=u)",
            "np.sqrt(V + eps, out=u)",
            "            u += eps\n",
            "",
        ),
        "test_optim.py::test_adam_is_the_printed_algorithm",
        MATHEMATICS,
        "No check takes a step.",
    ),
    Bug(
        "adam-step-for-each-example",
        "Each example of a minibatch updates moments and parameters.",
        PUBLISHED,
        plant(
            "training.loop",
            "        team.run(update)\n    adam.t += 1\n",
            "        for i in range(len(x)):\n"
            "            row = slice(i, i + 1)\n"
            "            one = vae.forward(x[row], eps[..., row, :])\n"
            "            weights = BOUNDS[bound].backward(vae.terms(one), beta)\n"
            "            adam.step(vae.terms_backward(one, weights), factor)\n",
        ),
        "test_loop.py::test_an_epoch_is_the_loop_written_out",
        MATHEMATICS,
        "No check takes a step.",
        row=12,
    ),
    Bug(
        "adam-overwrites-the-gradient",
        "Adam squares the gradient in place.",
        COMMON,
        plant(
            "optim",
            "np.multiply(g, g, out=u)\n            V += u\n",
            "np.multiply(g, g, out=g)\n            V += g\n",
        ),
        "test_optim.py::test_steps_are_taken_in_place_in_the_dtype_of_the_parameters",
        MATHEMATICS | PURITY,
        "The first step is right. A second step with the same gradient is not.",
    ),
    Bug(
        "denormals-in-v",
        "The flush of denormal numbers leaves out the second moment.",
        COMMON,
        plant("optim", "for total in M, V:", "for total in (M,):"),
        "test_optim.py::test_the_flush_reaches_every_block_and_both_moments",
        PURITY,
        "No value is wrong, but steps become slow.",
    ),
    # The evaluation, the loop and the data ----------------------------------------------------
    Bug(
        "elbo-at-the-mean",
        'The "ELBO" is computed at eps = 0.',
        f"{PUBLISHED}; sample or mean is the subject of AntixK/PyTorch-VAE #86, #32",
        plant(
            "training.evaluate",
            "eps = noise.standard_normal((len(x), vae.latent_dim))",
            "eps = np.zeros((len(x), vae.latent_dim))",
        ),
        "test_evaluate.py::test_the_noise_is_drawn",
        MATHEMATICS,
        OUTSIDE,
        row=14,
    ),
    Bug(
        "reported-kl-negated",
        "The KL is reported with the wrong sign.",
        f"{PUBLISHED}; the subject of pytorch/examples #824, keras #4967",
        plant("training.evaluate", "kl += float(losses[1].sum())", "kl -= float(losses[1].sum())"),
        "test_evaluate.py::test_the_elbo_is_the_mean_over_all_images_whatever_the_batches",
        MATHEMATICS,
        OUTSIDE,
        row=17,
    ),
    Bug(
        "evaluated-on-the-training-set",
        "The test ELBO is that of the training images.",
        COMMON,
        plant("training.loop", "held_out = data.test if", "held_out = data.train if"),
        "test_loop.py::test_the_record_holds_the_evaluation_of_all_test_images",
        MATHEMATICS,
        OUTSIDE,
    ),
    Bug(
        "one-noise-for-a-minibatch",
        "All images of a minibatch get the same noise.",
        COMMON,
        plant(
            "training.loop",
            "eps = streams.noise.standard_normal((*lead, vae.latent_dim), vae.params.dtype)",
            "lead = *lead[:-1], 1\n"
            "                eps = streams.noise.standard_normal((*lead, vae.latent_dim))\n"
            "                eps = eps.repeat(len(x), axis=-2)",
        ),
        "test_loop.py::test_an_epoch_is_the_loop_written_out",
        MATHEMATICS,
        OUTSIDE,
    ),
    Bug(
        "binarised-once",
        "Dynamic binarisation draws the pixels once, not anew for every minibatch.",
        "a model overfits a fixed draw (yburda/iwae)",
        plant(
            "training.loop",
            "data = binarize(data, recipe.binarize)",
            'data = binarize(data, "static" if recipe.binarize == "dynamic" else recipe.binarize)',
            "pixels = streams.pixels if draw else None",
            "pixels = None",
        ),
        "test_loop.py::test_dynamic_pixels_come_from_a_stream_of_their_own",
        MATHEMATICS,
        OUTSIDE,
    ),
    Bug(
        "test-images-in-the-training-set",
        "The split keeps the test images in the training set.",
        PUBLISHED,
        plant(
            "data.arrays",
            "of_train, of_test = np.split(split_order(n), [-max(1, n // 6)])",
            "of_train = split_order(n)\n        of_test = of_train[-max(1, n // 6) :]",
        ),
        "test_arrays.py::test_split_is_a_fixed_permutation",
        MATHEMATICS,
        OUTSIDE,
        row=15,
    ),
    Bug(
        "labels-not-shuffled",
        "The images are shuffled, but their labels are not.",
        COMMON,
        plant(
            "data.arrays",
            '{part: labels[""][rows] for part, rows in order.items() if "" in labels}',
            '{part: labels[""][np.sort(rows)] for part, rows in order.items() if "" in labels}',
        ),
        "test_arrays.py::test_split_is_a_fixed_permutation",
        MATHEMATICS,
        OUTSIDE,
    ),
    Bug(
        "last-minibatch-dropped",
        "The last, smaller minibatch of an epoch is dropped.",
        COMMON,
        plant(
            "data.binarize",
            "for start in range(0, n, step))",
            "for start in range(0, n - step + 1, step))",
        ),
        "test_binarize.py::test_minibatches",
        MATHEMATICS,
        OUTSIDE,
    ),
    Bug(
        "images-overwritten-by-their-binarisation",
        "Binarisation draws pixels in place, in the caller's images.",
        COMMON,
        plant("data.binarize", "return np.less(u, p, out=u)", "return np.less(u, p, out=p)"),
        "test_binarize.py::test_a_batch_leaves_float_images_as_they_are",
        MATHEMATICS | PURITY,
        "The first draw is right. Every later draw starts from its result, and is the same.",
    ),
)
