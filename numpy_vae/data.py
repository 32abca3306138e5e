from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Dataset:
    """Images split into a training and a test set, one flattened image a row.

    Attributes
    ----------
    name : str
        What the data are, for titles and result files.
    train, test : ndarray, shape (N, D), uint8 or float32
        uint8 pixels stand for value / 255 (see `to_float`); floats stand for themselves.
    train_labels, test_labels : ndarray of int, shape (N,), optional
    train_factors, test_factors : structured ndarray, shape (N,), optional
        What each image was drawn from, where that is known (`load_digits`).
    image_shape : (int, int), optional
        Height and width of an image, when the rows are images.
    """

    name: str
    train: NDArray[Any]
    test: NDArray[Any]
    train_labels: NDArray[Any] | None = None
    test_labels: NDArray[Any] | None = None
    train_factors: NDArray[Any] | None = None
    test_factors: NDArray[Any] | None = None
    image_shape: tuple[int, int] | None = None
