"""numpy_vae: a variational autoencoder in NumPy, every gradient derived by hand and checked."""

from . import starting  # noqa: F401  # isort: skip  # before NumPy
from .data import (
    Dataset,
    dataset_from_array,
    load_array,
    load_digits,
    load_mnist,
    split_validation,
    to_float,
)
from .gradcheck import gradcheck, gradcheck_layer
from .likelihood import (
    Bernoulli,
    ContinuousBernoulli,
    DiagonalGaussian,
    Gaussian,
    LearnedGaussian,
    Likelihood,
    Poisson,
)
from .network import Trace
from .optim import Adam, Average
from .params import Params
from .runs.progress import Progress
from .runs.run import Run
from .scaling import Scaling
from .training.evaluate import evaluate_elbo, evaluate_likelihood
from .training.loop import fit, train_epochs
from .training.recipe import Recipe
from .training.state import Best
from .vae import VAE

__all__ = [
    "VAE", "Adam", "Average", "Bernoulli", "Best", "ContinuousBernoulli", "Dataset",
    "DiagonalGaussian", "Gaussian", "LearnedGaussian", "Likelihood", "Params", "Poisson",
    "Progress", "Recipe", "Run", "Scaling", "Trace", "dataset_from_array", "evaluate_elbo",
    "evaluate_likelihood", "fit", "gradcheck", "gradcheck_layer", "load_array", "load_digits",
    "load_mnist", "split_validation", "to_float", "train_epochs",
]  # fmt: skip
__version__ = "0.1.0"
