"""Images in, minibatches out.

dataset    a data set, its validation images, and the hash that identifies it
mnist      find, download and read the MNIST files
arrays     your own arrays, from a .npy or .npz file
digits     synthetic digits
binarize   four binarisations; minibatches
load       any of them, by the name or file of --data
mapped     images that stay on disk
"""

from .arrays import load_array, read_images
from .binarize import BINARIZE, batch, binarize, minibatches, to_float
from .dataset import Dataset, fingerprint, split_validation
from .digits import load_digits
from .mapped import Images
from .mnist import load_mnist

__all__ = [
    "BINARIZE", "Dataset", "Images", "batch", "binarize", "fingerprint", "load_array",
    "load_digits", "load_mnist", "minibatches", "read_images", "split_validation", "to_float",
]  # fmt: skip
