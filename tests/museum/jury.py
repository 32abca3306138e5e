"""The three gradient checks that are run on every bug of the museum.

Each test is one method of `gradcheck` on a small model, at a moderate point with a random
log-variance head. It checks each term of the objective alone, with random weights for the examples,
and all terms together with beta = 0.7, under both bounds. These tests are not collected with those
of the package, which check more. The museum runs them, by their path, on the code with a bug.

`test_place` does the same at points where a check is known to see less, or more.
"""

import numpy as np
import pytest

from numpy_vae import VAE, Bernoulli, Gaussian, gradcheck
from numpy_vae.bounds import BOUNDS, Terms
from numpy_vae.likelihood import ContinuousBernoulli, DiagonalGaussian, LearnedGaussian, Poisson

B, D, H, Z, K = 3, 6, 4, 2, 5  # all different: a transposed shape cannot pass
SEED = 32  # at which each relu unit is on for some images and off for others
METHODS = ("central", "complex", "taylor")
each_method = pytest.mark.parametrize(
    "method", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in METHODS]
)


@pytest.fixture
def rng():
    return np.random.default_rng(SEED)


def build(arrays, activation="tanh", likelihood="bernoulli"):
    """Return a model of its own with the parameters, and in the dtype, of `arrays`."""
    vae = VAE(D, (H,), Z, activation, likelihood, arrays["x"].dtype, rng=0)
    for name in vae.params:
        vae.params[name][:] = arrays[name]
    return vae


def draw_point(rng, lead=(B,), likelihood="bernoulli"):
    """Return parameters, images and noise by name."""
    shapes = VAE(D, (H,), Z, likelihood=likelihood, dtype=np.float64, rng=0).params.shapes
    point = {name: 0.4 * rng.standard_normal(shape) for name, shape in shapes.items()}
    # Images are 1/2 on average: no relu unit is to be on, or off, for all of them.
    point["encoder.0.W"] *= 3
    point["encoder.0.b"] -= point["encoder.0.W"].sum(axis=0) / 2
    return point | {"x": rng.random((lead[-1], D)), "eps": rng.standard_normal((*lead, Z))}


def put(point, measure, gradient_of, method, **settings):
    """Put to a check: the function `measure(vae, trace)`, and the gradient that the model gives.

    The parameters are taken, and the inputs, from a model of its own in each case, so that nothing
    that one pass leaves behind reaches another.
    """
    models = {}

    def f(arrays):
        dtype = arrays["x"].dtype
        if dtype not in models:
            models[dtype] = build(arrays, **settings)
        params = models[dtype].params
        params.flat[:] = np.concatenate([arrays[name].ravel() for name in params])
        return measure(models[dtype], models[dtype].forward(arrays["x"], arrays["eps"]))

    gradient = {}
    for of_inputs in (False, True):
        mine = {name: value.copy() for name, value in point.items()}
        vae = build(mine, **settings)
        found = gradient_of(vae, vae.forward(mine["x"], mine["eps"]), of_inputs)
        gradient |= dict(zip(("x", "eps"), found, strict=True)) if of_inputs else found
    gradient = {name: d for name, d in gradient.items() if d is not None}  # no dx of counts
    return gradcheck(f, gradient, point, method=method)


def objective(beta, bound="elbo"):
    """Return the objective and its gradient, as `put` takes them."""

    def measure(vae, trace):
        return vae.objective(trace, beta)

    def gradient_of(vae, trace, of_inputs):
        return gradient_of_bound(vae, trace, True) if of_inputs else vae.backward(trace, beta)

    def measure_bound(vae, trace):
        return BOUNDS[bound].forward(vae.terms(trace), beta)

    def gradient_of_bound(vae, trace, of_inputs):
        weights = BOUNDS[bound].backward(vae.terms(trace), beta)
        return (vae.backward_inputs if of_inputs else vae.terms_backward)(trace, weights)

    return (measure, gradient_of) if bound == "elbo" else (measure_bound, gradient_of_bound)


def terms(*weights):
    """Return the terms of the examples, weighed one by one, and their gradient."""

    def measure(vae, trace):
        return sum((d * term).sum() for d, term in zip(weights, vae.terms(trace), strict=True))

    def gradient_of(vae, trace, of_inputs):
        backward = vae.backward_inputs if of_inputs else vae.terms_backward
        return backward(trace, Terms(*weights))

    return measure, gradient_of


@each_method
@pytest.mark.parametrize(
    ("activation", "likelihood", "bound", "lead"),
    [
        ("relu", Bernoulli(), "elbo", (B,)),
        ("relu", Gaussian(0.3), "elbo", (K, B)),
        ("tanh", Bernoulli(), "elbo", (K, B)),
        ("tanh", Gaussian(0.3), "elbo", (B,)),
        ("tanh", ContinuousBernoulli(), "elbo", (K, B)),
        ("tanh", LearnedGaussian(), "elbo", (K, B)),
        ("tanh", DiagonalGaussian(), "elbo", (K, B)),
        ("tanh", Poisson(), "elbo", (B,)),
        ("relu", Bernoulli(), "iwae", (K, B)),
        ("tanh", Gaussian(0.3), "iwae", (B,)),
        ("relu", ContinuousBernoulli(), "iwae", (K, B)),
        ("tanh", LearnedGaussian(), "iwae", (K, B)),
    ],
    ids=lambda value: getattr(value, "name", {(B,): "one", (K, B): "K"}.get(value, value)),
)
def test_objective(rng, activation, likelihood, bound, lead, method):
    settings = {"activation": activation, "likelihood": likelihood}
    point = draw_point(rng, lead, likelihood)
    report = put(point, *objective(0.7, bound), method, **settings)
    assert report.ok, f"\n{report}"


@each_method
@pytest.mark.parametrize(
    ("likelihood", "lead"),
    [
        (Bernoulli(), (K, B)),
        (Gaussian(0.3), (B,)),
        (ContinuousBernoulli(), (B,)),
        (LearnedGaussian(), (K, B)),
    ],
    ids=["bernoulli-K", "gaussian-one", "continuous-bernoulli-one", "learned-gaussian-K"],
)
def test_reconstruction_alone(rng, likelihood, lead, method):
    point = draw_point(rng, lead, likelihood)
    weights = rng.standard_normal(lead), np.zeros(B), np.zeros(lead)
    report = put(point, *terms(*weights), method, likelihood=likelihood)
    assert report.ok, f"\n{report}"


@each_method
def test_kl_alone(rng, method):
    report = put(draw_point(rng), *terms(np.zeros(B), rng.standard_normal(B), np.zeros(B)), method)
    assert report.ok, f"\n{report}"


@each_method
@pytest.mark.parametrize("lead", [(B,), (K, B)], ids=["one", "K"])
def test_log_ratio_alone(rng, lead, method):
    weights = np.zeros(lead), np.zeros(B), rng.standard_normal(lead)
    report = put(draw_point(rng, lead), *terms(*weights), method)
    assert report.ok, f"\n{report}"


# Places ---------------------------------------------------------------------------------------


def one_image(rng):
    """A batch of one image, where 1/B is 1."""
    return all(put(draw_point(rng, (1,)), *objective(0.7), m).ok for m in METHODS)


def large_log_variances(rng):
    """Log-variances around -14, where sigma is below one in a thousand."""
    point = draw_point(rng)
    point["logvar.b"] -= 14
    return all(put(point, *objective(0.7), m).ok for m in METHODS)


def initial_point(rng):
    """The weights that training starts from: those of the log-variance head are zero."""
    point = draw_point(rng) | dict(VAE(D, (H,), Z, "tanh", dtype=np.float64, rng=0).params)
    gradient = complex_and_analytic(point)
    # The log-variance head itself is seen everywhere; here is asked about what lies before it.
    return all(np.allclose(*gradient[name], rtol=1e-9, atol=0) for name in gradient
               if name.startswith("encoder"))  # fmt: skip


def tiny_weights_and(rtol, atol, scale):
    """Small weights and no biases, judged by ``|numeric - analytic| <= atol + rtol |analytic|``."""

    def place(rng):
        point = draw_point(rng)
        for name in point:
            if name.endswith(".W"):
                point[name] = scale * rng.standard_normal(point[name].shape)
            elif name.endswith(".b"):
                point[name][:] = 0
        pairs = complex_and_analytic(point)
        return all(np.allclose(*pair, rtol=rtol, atol=atol) for pair in pairs.values())

    return place


def complex_and_analytic(point):
    """Return the gradient of the objective by the complex step, and that of the model, by block."""
    f, gradient_of = objective(1.0)
    vae = build({name: value.copy() for name, value in point.items()})
    analytic = gradient_of(vae, vae.forward(point["x"], point["eps"]), False)
    pairs = {}
    for name, block in analytic.items():
        numeric = np.empty_like(block)
        for index in np.ndindex(block.shape):
            moved = {key: value.astype(complex) for key, value in point.items()}
            moved[name][index] += 1e-30j
            clone = build(moved)
            numeric[index] = f(clone, clone.forward(moved["x"], moved["eps"])).imag / 1e-30
        pairs[name] = numeric, block
    return pairs


PLACES = {
    "a batch of one image": one_image,
    "log-variances near -14": large_log_variances,
    "the initial weights": initial_point,
    "weights of 0.01, rtol 0.1, atol 0.01": tiny_weights_and(0.1, 1e-2, 0.01),
    "weights of 0.001, rtol 0.001, atol 1e-5": tiny_weights_and(1e-3, 1e-5, 0.001),
}


@pytest.mark.place
@pytest.mark.parametrize("place", PLACES)
def test_place(rng, place):
    assert PLACES[place](rng)
