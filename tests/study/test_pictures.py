"""Rows of images, and the training that most experiments share."""

import numpy as np
from matplotlib.figure import Figure

from numpy_vae import VAE, Dataset, fit, load_digits
from numpy_vae.study.pictures import draw_rows, shape_of
from numpy_vae.study.training import train_and_test


def test_the_rows_stand_under_each_other_beside_their_names(rng):
    rows = {"one": rng.random((3, 6)), "two": rng.random((3, 6))}
    ax = Figure().subplots()
    draw_rows(ax, rows, (2, 3))
    shown = ax.images[0].get_array()
    assert shown.shape == (4, 9)
    np.testing.assert_array_equal(shown[2:, 3:6].ravel(), rows["two"][1])
    assert ax.images[0].get_clim() == (0, 1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two"]
    assert list(ax.get_yticks()) == [1, 3]


def test_the_shape_is_that_of_the_data_or_the_most_square_one():
    images = np.zeros((2, 12), np.uint8)
    assert shape_of(Dataset("", images, images)) == (3, 4)
    assert shape_of(Dataset("", images, images, image_shape=(2, 6))) == (2, 6)


def test_what_is_trained_and_tested_is_what_fit_gives_in_the_end():
    data = load_digits(60, rng=0)
    ours, vae = (VAE(784, (6,), 3, rng=7) for _ in range(2))
    test = train_and_test(ours, data, epochs=2, lr=2e-3, seed=7, batch_size=20, beta=2.0)
    settings = {"epochs": 2, "lr": 2e-3, "batch_size": 20, "beta": 2.0, "binarize": "dynamic"}
    *_, last = fit(vae, data, rng=7, **settings)
    np.testing.assert_array_equal(ours.params.flat, vae.params.flat)
    assert test == last.held_out()["test"]
