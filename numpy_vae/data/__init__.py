"""Images in, minibatches out.

dataset    a data set, its validation images, and the hash that identifies it
mnist      find, download and read the MNIST files
readers    any file or folder, as named arrays
arrays     your own data: what these arrays are (members, labels), and what values mean
digits     synthetic digits
binarize   four binarisations; minibatches
load       any of them, by the name or file of --data
mapped     images that stay on disk
"""

from .arrays import Reading, dataset_from_array, load_array, read_images
from .binarize import BINARIZE, batch, binarize, minibatches, to_float
from .dataset import Dataset, fingerprint, split_validation
from .digits import load_digits
from .mapped import Images
from .mnist import load_mnist

__all__ = [
    "BINARIZE", "Dataset", "Images", "Reading", "batch", "binarize", "dataset_from_array",
    "fingerprint", "load_array",
    "load_digits", "load_mnist", "minibatches", "read_images", "split_validation", "to_float",
]  # fmt: skip
