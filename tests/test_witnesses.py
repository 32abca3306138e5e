"""Witnesses: PyTorch and JAX, where installed, give the same losses and the same gradients.

The model is written twice more, from the definitions: the densities and the divergence are the
framework's own or an integral, so is the logarithm of a sum of weights, and the gradients are its
automatic ones. From the same weights and noise, in float64, every number must agree to 1e-10 of the
largest in its array. A gradient check shows that backward is the derivative of forward; a witness,
that forward is the model.

To add a likelihood, add log p(x | l) of each pixel to `log_pixels` of both witnesses, and its
settings, if the default ones hide a mistake, to `SETTINGS`. Its parameters are leaves of the
witness, `p`, by the names of their blocks.
"""

import importlib
import importlib.util
import math
import warnings

import numpy as np
import pytest

from numpy_vae import VAE, posterior
from numpy_vae.bounds import BOUNDS
from numpy_vae.layers import ACTIVATIONS
from numpy_vae.likelihood import LIKELIHOODS, Gaussian, make_likelihood

B, D, H, Z, K = 5, 11, 6, 3, 2  # all different, B > 1: at B = 1 a missing 1/B is invisible
TOLERANCE = 1e-10
SETTINGS = {
    "gaussian": {"variance": 0.3},
    "learned_gaussian": {"logvar": np.array([-0.7])},
    "diagonal_gaussian": {"logvar": np.linspace(-1, 0.5, D)},
}
LEADS = pytest.mark.parametrize("lead", [(B,), (K, B)], ids=["one-sample", "K-samples"])


def load(title, *names):
    """Import the modules of a framework, or skip: it is absent, or there and broken."""
    if importlib.util.find_spec(names[0]) is None:
        pytest.skip(f"{title} is not installed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs, while they are imported: no fault of ours
            return [importlib.import_module(name) for name in names]
    except Exception as error:  # a library that is not found is an OSError
        pytest.skip(f"{title} is installed but cannot be imported: {error!r}")


def look_up(log_pixels, title, likelihood):
    """Return log p(x | l) of each pixel as the framework has it."""
    if likelihood.name not in log_pixels:
        pytest.fail(
            f"the likelihood {likelihood.name!r} has no witness in {title}: "
            "write its log p(x | l) from the definition and add it to log_pixels in this file"
        )
    return log_pixels[likelihood.name]


def pytorch():
    """Return the witness: torch.distributions, and autograd."""
    torch, distributions, functional = load(
        "PyTorch", "torch", "torch.distributions", "torch.nn.functional"
    )
    Normal = distributions.Normal

    def bernoulli(_, p, x, l):
        if ((x == 0) | (x == 1)).all():
            return distributions.Bernoulli(logits=l).log_prob(x)
        # Grey pixels are outside its support: there it is the cross-entropy, not a density.
        return -functional.binary_cross_entropy_with_logits(l, x.expand_as(l), reduction="none")

    def continuous_bernoulli(_, p, x, l):
        # Farther out their constant is made of 1 - sigmoid(l), which has no digits left there.
        log_p, t = distributions.ContinuousBernoulli(logits=l).log_prob(x), l.abs()
        far = x * l - l.clamp(min=0) - torch.log(-torch.expm1(-t) / t)
        return torch.where(t < 8, log_p, far)

    def gaussian(likelihood, p, x, l):
        return Normal(l, math.sqrt(likelihood.variance)).log_prob(x)

    def learned_gaussian(_, p, x, l):
        return Normal(l, p["likelihood.logvar"].exp().sqrt()).log_prob(x)

    def poisson(_, p, x, l):
        return distributions.Poisson(l.exp()).log_prob(x)

    log_pixels = {
        "bernoulli": bernoulli,
        "continuous_bernoulli": continuous_bernoulli,
        "gaussian": gaussian,
        "learned_gaussian": learned_gaussian,
        "diagonal_gaussian": learned_gaussian,  # of p["likelihood.logvar"], (D,)
        "poisson": poisson,
    }

    def witness(vae, x, eps, beta, bound="elbo"):
        log_p = look_up(log_pixels, "PyTorch", vae.likelihood)
        arrays = {**vae.params, "x": x, "eps": eps}
        leaves = {
            name: torch.tensor(array, dtype=torch.float64, requires_grad=True)
            for name, array in arrays.items()
        }

        def dense(name, h):
            return functional.linear(h, leaves[f"{name}.W"].T, leaves[f"{name}.b"])

        def trunk(name, h):
            for i in range(len(vae.hidden)):
                h = getattr(torch, vae.activation)(dense(f"{name}.{i}", h))
            return h

        h = trunk("encoder", leaves["x"])
        variance = dense("logvar", h).exp()
        q = Normal(dense("mu", h), variance.sqrt())  # (B, Z)
        prior = Normal(torch.zeros_like(q.loc), torch.ones_like(q.loc))
        z = q.loc + q.scale * leaves["eps"]
        logits = dense("output", trunk("decoder", z))
        # (B,) or (K, B), but for the divergence, which is (B,)
        reconstruction = -log_p(vae.likelihood, leaves, leaves["x"], logits).sum(-1)
        kl = distributions.kl_divergence(q, prior).sum(-1)
        log_ratio = (q.log_prob(z) - prior.log_prob(z)).sum(-1)
        objective = (reconstruction + beta * kl).mean()
        if bound == "iwae":
            log_w = (-reconstruction - beta * log_ratio).reshape(-1, len(x))  # (K, B)
            objective = -(torch.logsumexp(log_w, 0) - math.log(len(log_w))).mean()
        gradient = torch.autograd.grad(objective, list(leaves.values()))
        terms = {"reconstruction": reconstruction, "kl": kl, "log_ratio": log_ratio}
        terms |= {"objective": objective}
        terms |= {f"d{name}": grad for name, grad in zip(leaves, gradient, strict=True)}
        return {name: term.detach().numpy() for name, term in terms.items()}

    return witness


def jax():
    """Return the witness: log-densities, the divergence as an integral, and jax.grad."""
    jax, jnp, nn, norm, special, experimental = load(
        "JAX",
        "jax",
        "jax.numpy",
        "jax.nn",
        "jax.scipy.stats.norm",
        "jax.scipy.special",
        "jax.experimental",
    )
    enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else experimental.enable_x64

    def bernoulli(_, p, x, l):
        return x * nn.log_sigmoid(l) + (1 - x) * nn.log_sigmoid(-l)

    def continuous_bernoulli(_, p, x, l):
        # e^xl over its integral, (e^l - 1) / l, of which e^l is taken out where l > 0
        return x * l - jnp.maximum(l, 0) - jnp.log(-jnp.expm1(-abs(l)) / abs(l))

    def gaussian(likelihood, p, x, l):
        return norm.logpdf(x, l, math.sqrt(likelihood.variance))

    def learned_gaussian(_, p, x, l):
        return norm.logpdf(x, l, jnp.sqrt(jnp.exp(p["likelihood.logvar"])))

    def poisson(_, p, x, l):
        return x * l - jnp.exp(l) - special.gammaln(x + 1)

    log_pixels = {
        "bernoulli": bernoulli,
        "continuous_bernoulli": continuous_bernoulli,
        "gaussian": gaussian,
        "learned_gaussian": learned_gaussian,
        "diagonal_gaussian": learned_gaussian,  # of p["likelihood.logvar"], (D,)
        "poisson": poisson,
    }
    activations = {"relu": nn.relu, "tanh": jnp.tanh}
    # E[f(n)] of n ~ N(0, 1) as a sum, exact for log q - log p, which is of degree 2 in n.
    nodes, weights = (a[:, None, None] for a in np.polynomial.hermite_e.hermegauss(3))
    weights = weights / weights.sum()

    def loss(p, vae, beta, bound, log_p):
        def dense(name, h):
            return h @ p[f"{name}.W"] + p[f"{name}.b"]

        def trunk(name, h):
            for i in range(len(vae.hidden)):
                h = activations[vae.activation](dense(f"{name}.{i}", h))
            return h

        h = trunk("encoder", p["x"])
        mu, sigma = dense("mu", h), jnp.sqrt(jnp.exp(dense("logvar", h)))
        z = mu + sigma * p["eps"]
        logits = dense("output", trunk("decoder", z))
        # (B,) or (K, B), but for the divergence, which is (B,)
        reconstruction = -log_p(vae.likelihood, p, p["x"], logits).sum(-1)
        log_ratio = (norm.logpdf(z, mu, sigma) - norm.logpdf(z)).sum(-1)
        at = mu + sigma * nodes  # (3, B, Z)
        kl = (weights * (norm.logpdf(at, mu, sigma) - norm.logpdf(at))).sum((0, -1))
        objective = (reconstruction + beta * kl).mean()
        if bound == "iwae":
            log_w = (-reconstruction - beta * log_ratio).reshape(-1, len(mu))  # (K, B)
            objective = -(special.logsumexp(log_w, axis=0) - math.log(len(log_w))).mean()
        return objective, {"reconstruction": reconstruction, "kl": kl, "log_ratio": log_ratio}

    def witness(vae, x, eps, beta, bound="elbo"):
        log_p = look_up(log_pixels, "JAX", vae.likelihood)
        # For this block only: float64 is off by default, and some accelerators have none.
        with enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
            arrays = {**vae.params, "x": x, "eps": eps}
            leaves = {name: jnp.asarray(array) for name, array in arrays.items()}
            value_and_grad = jax.value_and_grad(loss, has_aux=True)
            (objective, terms), grads = value_and_grad(leaves, vae, beta, bound, log_p)
            terms |= {"objective": objective} | {f"d{name}": d for name, d in grads.items()}
            return {name: np.asarray(term) for name, term in terms.items()}

    return witness


@pytest.fixture(scope="module", params=[pytorch, jax], ids=["torch", "jax"])
def witness(request):
    return request.param()


def ours(vae, x, eps, beta, bound="elbo"):
    """Return all that is compared, by name: the terms of the loss, and each gradient."""
    trace = vae.forward(x, eps)
    terms = vae.terms(trace)
    weights = BOUNDS[bound].backward(terms, beta)
    dx, deps = vae.backward_inputs(trace, weights)
    if bound == "elbo":
        objective, gradient = vae.objective(trace, beta), vae.backward(trace, beta)
    else:
        objective = BOUNDS[bound].forward(terms, beta)
        gradient = vae.terms_backward(trace, weights)
    found = {**terms._asdict(), "objective": objective}
    found |= {f"d{name}": grad for name, grad in gradient.items()}
    return {name: np.asarray(term) for name, term in (found | {"dx": dx, "deps": deps}).items()}


def errors(found, expected):
    """Return, by name, the largest distance over the largest entry."""
    assert found.keys() == expected.keys()
    result = {}
    for name, array in expected.items():
        assert found[name].shape == array.shape, name
        assert found[name].dtype == array.dtype == np.float64, name
        distance, largest = float(abs(found[name] - array).max()), float(abs(array).max())
        result[name] = distance / largest if largest > 0 else math.inf  # zeros witness nothing
    return result


def refuted(found, expected):
    """Return the `errors` that are not within the tolerance; a NaN is not."""
    return {name: e for name, e in errors(found, expected).items() if not e <= TOLERANCE}


def make(rng, **settings):
    """Return a model away from its initial point, the log-variance head randomised."""
    vae = VAE(D, **{"hidden": (H,), "latent_dim": Z} | settings, dtype=np.float64, rng=rng)
    for name, block in vae.params.items():
        scale = 0.5 if name.startswith("logvar") or name.endswith(".b") else 0.1
        block += scale * rng.standard_normal(block.shape)
    return vae


def likelihood_of(name):
    return make_likelihood({"name": name, **SETTINGS.get(name, {})})


def check(rng, vae, witness, lead, bound):
    """Compare on images of both kinds and with both betas; neither knows of the other."""
    grey, binary = rng.random((B, D)), rng.integers(0, 2, (B, D)).astype(float)
    eps = rng.standard_normal((*lead, Z))
    if vae.likelihood.whole:
        grey = np.rint(9 * grey)  # counts
    for kind, x, beta in ("grey", grey, 1.0), ("binary", binary, 0.4):
        expected = witness(vae, x, eps, beta, bound)
        own = ours(vae, x, eps, beta, bound)
        if not vae.likelihood.differentiable_in_x:
            del own["dx"], expected["dx"]
        found = refuted(own, expected)
        assert not found, f"{kind} images, beta = {beta}: {found}"


@LEADS
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(
    ("activation", "hidden"),
    [("relu", ()), *((name, hidden) for name in ACTIVATIONS for hidden in ((H,), (H, H + 1)))],
    ids=lambda value: str(len(value)) if isinstance(value, tuple) else value,
)
def test_losses_and_gradients_agree(rng, witness, activation, hidden, likelihood, bound, lead):
    vae = make(rng, activation=activation, hidden=hidden, likelihood=likelihood_of(likelihood))
    check(rng, vae, witness, lead, bound)


# Not tanh: where it saturates its derivative is the rounding of 1, and two roundings differ. And
# log w must not be large, for a weight is known to the rounding of log w.
@pytest.mark.parametrize("logvar", [-20, 20])
@pytest.mark.parametrize(("bound", "largest"), [("elbo", 1e4), ("iwae", 40.0)])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_losses_and_gradients_of_a_saturated_model_agree(
    rng, witness, likelihood, bound, largest, logvar
):
    vae = make(rng, activation="relu", likelihood=likelihood_of(likelihood))
    vae.params["logvar.b"][:] = min(logvar, 0) if vae.likelihood.whole else logvar
    most = 9.0 if vae.likelihood.whole else largest  # a rate e^l must not overflow
    vae.params["output.b"][:] = np.linspace(-largest, most, D)
    check(rng, vae, witness, (K, B), bound)


def test_a_likelihood_without_a_witness_fails(rng, witness):
    class Unwitnessed(Gaussian):
        name = "unwitnessed"

    vae = make(rng, likelihood=Unwitnessed(0.3))
    with pytest.raises(pytest.fail.Exception, match="likelihood 'unwitnessed' has no witness in"):
        witness(vae, rng.random((B, D)), rng.standard_normal((B, Z)), 1.0)


@pytest.mark.parametrize("bound", BOUNDS)
def test_an_error_of_a_billionth_in_any_array_is_seen(rng, witness, bound):
    vae = make(rng, likelihood="learned_gaussian")
    batch = rng.random((B, D)), rng.standard_normal((K, B, Z)), 0.4, bound
    found, expected = ours(vae, *batch), witness(vae, *batch)
    assert {*found} >= {"reconstruction", "kl", "log_ratio", "objective", "dx", "deps"}
    assert {*found} >= {f"d{name}" for name in vae.params}
    for name, array in found.items():
        for wrong in array * (1 + 1e-9), array + np.nan:
            assert {*refuted(found | {name: wrong}, expected)} == {name}


def without_half(backward):
    """Return `backward` with dlogvar, its second result, twice what it should be."""

    def faulty(*args):
        dmu, dlogvar, *others = backward(*args)
        return dmu, 2 * dlogvar, *others

    return faulty


@pytest.mark.parametrize("place", ["sample_backward", "kl_backward"])
def test_a_missing_half_in_dlogvar_is_seen(rng, witness, monkeypatch, place):
    vae = make(rng)
    batch = rng.random((B, D)), rng.standard_normal((K, B, Z)), 0.4
    expected = witness(vae, *batch)
    assert not refuted(ours(vae, *batch), expected)
    monkeypatch.setattr(posterior, place, without_half(getattr(posterior, place)))
    wrong = {"dlogvar.W", "dlogvar.b", "dencoder.0.W", "dencoder.0.b", "dx"}
    assert {*refuted(ours(vae, *batch), expected)} == wrong  # and nothing downstream of the sample


def test_the_variance_taken_for_the_deviation_is_seen(rng, witness, monkeypatch):
    # Forward and backward are wrong together, so that no gradient check sees it.
    def sample_backward(eps, sigma, dz):
        return dz, dz * eps * sigma**2, dz * sigma**2

    monkeypatch.setattr(posterior, "sample", lambda mu, sigma, eps: mu + sigma**2 * eps)
    monkeypatch.setattr(posterior, "sample_backward", sample_backward)
    vae = make(rng)
    batch = rng.random((B, D)), rng.standard_normal((B, Z)), 0.4
    found = refuted(ours(vae, *batch), witness(vae, *batch))
    assert "reconstruction" in found and "objective" in found and "kl" not in found


@pytest.mark.parametrize("factor", [0, 2], ids=["missing", "twice"])
def test_a_wrong_minus_one_in_the_log_ratio_is_seen(rng, witness, monkeypatch, factor):
    right = posterior.log_ratio_backward

    def faulty(eps, sigma, z, dratio):
        dmu, dlogvar, deps = right(eps, sigma, z, dratio)
        return dmu, dlogvar + (1 - factor) * dratio.sum(axis=0)[:, np.newaxis] / 2, deps

    vae = make(rng)
    batch = rng.random((B, D)), rng.standard_normal((K, B, Z)), 0.4, "iwae"
    expected = witness(vae, *batch)
    assert not refuted(ours(vae, *batch), expected)
    monkeypatch.setattr(posterior, "log_ratio_backward", faulty)
    wrong = {"dlogvar.W", "dlogvar.b", "dencoder.0.W", "dencoder.0.b", "dx"}
    assert {*refuted(ours(vae, *batch), expected)} == wrong


def test_the_analytic_kl_in_the_weights_is_seen(rng, witness, monkeypatch):
    vae = make(rng)
    batch = rng.random((B, D)), rng.standard_normal((K, B, Z)), 0.4, "iwae"
    expected = witness(vae, *batch)
    kl = np.broadcast_to(expected["kl"], (K, B))
    monkeypatch.setattr(posterior, "log_ratio", lambda logvar, eps, z: kl)
    found = refuted(ours(vae, *batch), expected)
    assert {"log_ratio", "objective", "doutput.W", "dmu.W"} <= found.keys()
