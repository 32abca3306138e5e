"""numpy_vae: a variational autoencoder in NumPy, every gradient derived by hand and proven."""

from .gradcheck import gradcheck
from .optim import Adam
from .params import Params
from .vae import VAE, Trace

__all__ = ["VAE", "Adam", "Params", "Trace", "gradcheck"]
__version__ = "0.1.0"
