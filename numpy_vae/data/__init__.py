"""Images in, minibatches out.

dataset    a data set, its validation images, and the hash that identifies it
mnist      the MNIST files: found, downloaded, read
arrays     your own arrays, from a .npy or .npz file
digits     synthetic digits, drawn by NumPy
binarize   four binarisations; minibatches
load       any of them, by the name or file that --data takes
mapped     images that stay on the disk
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
