"""Figures show what they say: the right pixels in the right place, under the right label."""

import math
import re
import struct
import subprocess
import sys
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from scipy.stats import norm

from numpy_vae import VAE, plots
from numpy_vae.data import Dataset
from numpy_vae.train import Record as TrainRecord


class Record(NamedTuple):
    epoch: int
    train_elbo: float
    train_reconstruction: float
    train_kl: float
    test_elbo: float
    test_reconstruction: float
    test_kl: float
    seconds: float
    test_seconds: float


def history(n, first=None):
    """Return n epochs of a run that converges, the first of them with other values if given."""
    records = []
    for epoch in range(1, n + 1):
        r, kl = (first if first and epoch == 1 else None) or (80 + 20 / epoch, 25 - 2 / epoch)
        records.append(Record(epoch, -r - kl, r, kl, -r - kl - 3, r + 2, kl + 1, 1.0, 0.1))
    return records


@pytest.fixture(autouse=True)
def _no_figure_is_left_open():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


IMAGES = np.random.default_rng(0).random((7, 30))  # of 5 x 6 pixels
DRAW = {
    "training": lambda ax: plots.plot_training(history(4), ax),
    "images": lambda ax: plots.plot_images(IMAGES, (5, 6), 3, ax),
    "reconstructions": lambda ax: plots.plot_reconstructions(IMAGES, 1 - IMAGES, (5, 6), ax),
    "samples": lambda ax: plots.plot_samples(IMAGES, (5, 6), ax),
    "latent": lambda ax: plots.plot_latent(IMAGES[:, :2], range(7), ax),
    "manifold": lambda ax: plots.plot_manifold(lambda z: np.tile(z, 15), (5, 6), ax, 3),
}


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_the_axes_given_are_drawn_on_and_returned(draw, ax):
    assert draw(ax) is ax
    assert ax.lines or ax.images or ax.collections
    assert plt.get_fignums() == []


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_without_axes_a_new_pyplot_figure_is_made(draw):
    old = plt.subplots()[1]
    new = draw(None)
    assert new is not old
    assert [plt.figure(n) for n in plt.get_fignums()] == [old.figure, new.figure]


@pytest.mark.parametrize(
    ("module", "absent"),
    [("numpy_vae", "matplotlib"), ("numpy_vae.plots", "matplotlib.pyplot")],
)
def test_an_import_loads_no_more_of_matplotlib_than_it_needs(module, absent):
    code = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# The history ------------------------------------------------------------------------------------


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


@pytest.mark.parametrize(("term", "sign"), [("elbo", -1), ("reconstruction", 1), ("kl", 1)])
def test_training_draws_the_term_of_both_sets_in_nats(ax, term, sign):
    records = history(6)
    plots.plot_training(records, ax, term)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "nats per image")
    assert term in ax.get_title().lower()
    assert [text.get_text() for text in ax.get_legend().texts] == ["train", "test"]
    for part in "train", "test":
        x, y = lines(ax)[part].get_data()
        assert list(x) == [1, 2, 3, 4, 5, 6]
        assert list(y) == [sign * getattr(r, f"{part}_{term}") for r in records]
        assert (np.array(y) > 0).all()


def held_out(n, every=1, *, validation=True):
    """Return `history(n)` with a validation set, or without, evaluated every so many epochs."""
    records = []
    for r in history(n):
        due, last = r.epoch % every == 0 or r.epoch == n, r.epoch == n
        tested = due if not validation else last
        test = r[4:7] if tested else (None,) * 3
        aside = (r.test_elbo - 1, r.test_reconstruction + 1, r.test_kl) if due else (None,) * 3
        aside = aside if validation else (None,) * 3
        records.append(TrainRecord(*r[:4], *test, 1.0, 0.1, r.train_elbo, *aside))
    return records


@pytest.mark.parametrize(("term", "sign"), [("elbo", -1), ("reconstruction", 1), ("kl", 1)])
@pytest.mark.parametrize("every", [1, 3, 100])
def test_training_draws_the_validation_set_where_there_is_one(ax, term, sign, every):
    records = held_out(10, every)
    plots.plot_training(records, ax, term)
    assert [text.get_text() for text in ax.get_legend().texts] == ["train", "validation"]
    x, y = lines(ax)["validation"].get_data()
    epochs = {1: list(range(1, 11)), 3: [3, 6, 9, 10], 100: [10]}[every]
    assert list(x) == epochs
    expected = [sign * getattr(records[i - 1], f"validation_{term}") for i in epochs]
    assert list(y) == expected and (np.array(y) > 0).all()
    assert len(lines(ax)["train"].get_xdata()) == 10


@pytest.mark.parametrize("every", [2, 100])
def test_an_epoch_that_was_not_evaluated_has_no_point(ax, every):
    plots.plot_training(held_out(10, every, validation=False), ax)
    assert [text.get_text() for text in ax.get_legend().texts] == ["train", "test"]
    assert list(lines(ax)["test"].get_xdata()) == ([2, 4, 6, 8, 10] if every == 2 else [10])
    low, high = ax.get_ylim()
    assert all(low < value < high for line in ax.lines for value in line.get_ydata())


def test_a_run_that_was_stopped_before_its_first_evaluation_has_one_line(ax):
    records = held_out(20, 100, validation=False)[:4]
    records[0] = records[0]._replace(train_elbo=-9000.0)
    plots.plot_training(records, ax)
    assert len(lines(ax)["train"].get_xdata()) == 4 and len(lines(ax)["test"].get_xdata()) == 0
    assert list(lines(ax)["off scale, up to 9000"].get_xdata()) == [1]
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize("n", [1, 2, 3, 11, 300])
def test_epoch_ticks_are_whole_numbers(ax, n):
    plots.plot_training(history(n), ax)
    ax.figure.draw_without_rendering()
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == round(tick) for tick in ticks)


def test_one_epoch_is_a_visible_point(ax):
    plots.plot_training(history(1), ax)
    assert lines(ax)["train"].get_marker() == lines(ax)["test"].get_marker() == "o"


@pytest.mark.parametrize(
    ("term", "first", "where"),
    [
        ("elbo", (9_000.0, 25.0), "up to 9028"),
        ("reconstruction", (math.inf, 25.0), "up to inf"),
        ("kl", (100.0, 0.0), "down to 0"),
        ("kl", (100.0, 3e3), "up to 3001"),
    ],
)
def test_a_bad_first_epoch_is_cut_and_said_to_be(ax, term, first, where):
    plots.plot_training(history(20, first), ax, term)
    late = np.concatenate([lines(ax)[part].get_ydata()[2:] for part in ("train", "test")])
    low, high = ax.get_ylim()
    assert low < late.min() < late.max() < high
    assert np.ptp(late) > 0.4 * (high - low)
    mark = lines(ax)[f"off scale, {where}"]
    assert list(mark.get_xdata()) == [1]
    assert list(mark.get_ydata()) == [1 if "up" in where else 0]  # the edge, in axes coordinates
    assert mark.get_label() in [text.get_text() for text in ax.get_legend().texts]


@pytest.mark.parametrize(
    "records",
    [history(1), history(2, (900.0, 25.0)), history(20), history(100), [history(1)[0]] * 5],
    ids=["one", "two", "20", "100", "constant"],
)
def test_other_curves_are_drawn_whole(ax, records):
    plots.plot_training(records, ax)
    values = np.concatenate([line.get_ydata() for line in ax.lines])
    assert len(ax.lines) == 2
    assert ax.get_ylim()[0] < values.min() <= values.max() < ax.get_ylim()[1]


def test_a_bad_first_epoch_is_cut_though_all_others_are_equal(ax):
    good = history(2)[1]
    good = good._replace(test_elbo=good.train_elbo)
    plots.plot_training([*history(1, (9_000.0, 1.0)), *[good] * 4], ax)
    assert ax.get_ylim()[0] < -good.train_elbo < ax.get_ylim()[1] < 1_000


def test_epochs_without_a_value_leave_a_hole(ax):
    blank = [r._replace(test_elbo=math.nan) for r in history(5, (9_000.0, 25.0))]
    blank[2] = blank[2]._replace(train_elbo=math.nan)
    plots.plot_training(blank, ax)
    assert ax.get_ylim()[1] < 1_000
    plots.plot_training([r._replace(train_elbo=math.nan) for r in blank], ax)
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("records", "term", "message"),
    [([], "elbo", "history is empty"), (history(2), "loss", "term is 'loss'")],
)
def test_training_refuses(ax, records, term, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_training(records, ax, term)


# Images -----------------------------------------------------------------------------------------


def shown(ax):
    """Return the picture as it is displayed, rows from the top, NaN where it is blank."""
    (image,) = ax.images
    assert image.origin == "upper"
    return image.get_array().filled(np.nan)


@pytest.mark.parametrize(
    ("d", "shape"),
    [(784, (28, 28)), (64, (8, 8)), (12, (3, 4)), (15, (3, 5)), (13, (1, 13)), (2, (1, 2)),
     (1, (1, 1)), (800, (25, 32))],
)  # fmt: skip
def test_guess_image_shape(d, shape):
    assert plots.guess_image_shape(d) == shape


def test_images_are_laid_out_in_rows_with_thin_gaps_and_a_blank_rest(ax):
    h, w = 30, 20  # not square
    images = np.linspace(0, 1, 5 * h * w).reshape(5, h * w)
    plots.plot_images(images, (h, w), 3, ax)
    picture = shown(ax)
    assert picture.shape == (2 * h + 1, 3 * w + 2)
    for k, image in enumerate(images):
        top, left = k // 3 * (h + 1), k % 3 * (w + 1)
        np.testing.assert_array_equal(picture[top : top + h, left : left + w].ravel(), image)
    assert np.isnan(picture[h]).all()
    assert np.isnan(picture[:, [w, 2 * w + 1]]).all()
    assert np.isnan(picture[h:, 2 * w + 1 :]).all()
    assert np.isfinite(picture).sum() == images.size


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (8, 8), (40, 25), (25, 40)], ids=str)
def test_a_pixel_is_shown_where_it_is(ax, shape):
    image = np.zeros(shape)
    image[2, 1] = 1
    plots.plot_images(image.reshape(1, -1), shape, 1, ax)
    picture = shown(ax)
    zoom = picture.shape[0] // shape[0]
    assert picture.shape == (zoom * shape[0], zoom * shape[1])
    np.testing.assert_array_equal(picture, np.kron(image, np.ones((zoom, zoom))))


def test_a_vector_is_shown_as_a_bar_code(ax):
    plots.plot_images(np.linspace(0, 1, 13).reshape(1, 13), (1, 13), 1, ax)
    picture = shown(ax)
    assert picture.shape[0] * 4 >= picture.shape[1]
    assert np.ptp(picture, axis=0).max() == 0
    assert list(np.unique(picture)) == list(np.linspace(0, 1, 13))


def test_values_outside_the_range_are_clipped(ax):
    plots.plot_images([[-9, -1, 0, 2, 9, np.inf]], (2, 3), 1, ax, value_range=(-1, 2))
    assert ax.images[0].get_clim() == (-1, 2)
    assert list(np.unique(shown(ax))) == [-1, 0, 2]


def test_images_have_no_ticks_and_are_not_smoothed(ax):
    plots.plot_images(IMAGES, (5, 6), 3, ax)
    assert (len(ax.get_xticks()), len(ax.get_yticks())) == (0, 0)
    assert ax.images[0].get_interpolation() == "nearest"
    assert ax.images[0].get_cmap().name == "gray"
    assert ax.get_aspect() == 1


@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (3, 2, 2), (5, 2, 3), (100, 10, 10)])
def test_samples_are_a_square_grid(ax, n, rows, columns):
    plots.plot_samples(np.ones((n, 600)), (30, 20), ax)
    assert shown(ax).shape == (31 * rows - 1, 21 * columns - 1)


@pytest.mark.parametrize(
    ("shape", "n", "pairs", "columns"),
    [((28, 28), 1, 1, 1), ((28, 28), 12, 1, 12), ((28, 28), 13, 2, 12), ((28, 28), 99, 3, 12),
     ((40, 10), 99, 3, 12), ((20, 30), 99, 3, 8), ((1, 97), 99, 3, 3), ((3, 5), 2, 1, 2)],
)  # fmt: skip
def test_originals_stand_above_their_reconstructions(ax, shape, n, pairs, columns):
    d = math.prod(shape)
    originals = np.repeat(np.linspace(0.1, 0.4, n)[:, np.newaxis], d, axis=1)
    plots.plot_reconstructions(originals, originals + 0.5, shape, ax)
    ax.figure.draw_without_rendering()
    ticks, names = ax.get_yticks(), [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["original", "reconstruction"] * pairs
    assert list(ticks) == sorted(ticks)  # downwards, as the rows of the picture
    assert ax.yaxis.get_ticks_position() in ("left", "default")
    picture = shown(ax)
    for row, (tick, name) in enumerate(zip(ticks, names, strict=True)):
        across = picture[round(tick)]
        starts = np.flatnonzero(np.diff(np.isfinite(across), prepend=False, append=False))[::2]
        first = row // 2 * columns
        expected = originals[first : first + columns, 0] + 0.5 * (name == "reconstruction")
        np.testing.assert_allclose(across[starts], expected)
    assert np.isfinite(picture[0]).any()
    assert np.isfinite(picture[-1]).any()


def test_a_reconstruction_is_not_transposed(ax):
    image = np.zeros((30, 20))
    image[2, 1] = 1
    plots.plot_reconstructions(image.reshape(1, -1), 1 - image.reshape(1, -1), (30, 20), ax)
    np.testing.assert_array_equal(shown(ax)[:30], image)
    np.testing.assert_array_equal(shown(ax)[-30:], 1 - image)


# The latent plane -------------------------------------------------------------------------------


def test_latent_axes(ax, rng):
    mu = rng.normal(3, 2, (200, 2))
    mu[7] = -19, 2
    plots.plot_latent(mu, None, ax)
    ax.figure.draw_without_rendering()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$ (mean)", "$z_2$ (mean)")
    assert ax.get_aspect() == 1
    assert ax.get_legend() is None
    (points,) = ax.collections
    np.testing.assert_array_equal(points.get_offsets(), mu)
    assert points.get_rasterized()
    assert len(np.unique(points.get_facecolor(), axis=0)) == 1
    for low, high in ax.get_xlim(), ax.get_ylim():
        assert low < min(mu.min(), -2) < max(mu.max(), 2) < high
        assert low == pytest.approx(-high)


def test_circles_are_one_and_two_standard_deviations_of_the_prior(ax):
    plots.plot_latent(np.full((1, 2), 0.1), None, ax)
    assert [(c.center, c.radius) for c in ax.patches] == [((0, 0), 1), ((0, 0), 2)]
    assert [(t.xy, t.get_text()) for t in ax.texts] == [
        ((0, 1), "prior, 1 sd"),
        ((0, 2), "prior, 2 sd"),
    ]
    ax.figure.draw_without_rendering()
    assert min(ax.get_xlim()[1], ax.get_ylim()[1]) > 2


@pytest.mark.parametrize("kinds", [range(10), (-7, -1, 300), (4,)], ids=str)
def test_each_label_has_the_colour_that_the_legend_says(ax, rng, kinds):
    labels = rng.permutation(np.repeat(kinds, 5))
    plots.plot_latent(rng.normal(size=(len(labels), 2)), labels, ax)
    legend = ax.get_legend()
    assert [text.get_text() for text in legend.texts] == [str(k) for k in kinds]
    colours = [to_rgba(handle.get_color())[:3] for handle in legend.legend_handles]
    assert len(set(colours)) == len(kinds)
    drawn = ax.collections[0].get_facecolor()[:, :3]
    expected = [colours[list(kinds).index(label)] for label in labels]
    np.testing.assert_array_equal(drawn, expected)


def test_many_labels_have_a_colour_bar(ax, rng):
    labels = rng.permutation(np.arange(-30, 30))
    plots.plot_latent(rng.normal(size=(60, 2)), labels, ax)
    ax.figure.draw_without_rendering()
    _, bar = ax.figure.axes
    assert bar.get_ylabel() == "label"
    assert bar.get_ylim() == (-30, 29)
    np.testing.assert_array_equal(ax.collections[0].get_array(), labels)
    assert ax.get_legend() is None


@pytest.mark.parametrize("side", [1, 4, 7, 20])
def test_manifold_quantiles_and_orientation(ax, side):
    def decode(z):
        assert z.shape == (side * side, 2)
        return z.repeat(200, axis=1)  # the upper half of an image is z_1, the lower half z_2

    plots.plot_manifold(decode, (20, 20), ax, side, value_range=(-4, 4))
    tiles = shown(ax).reshape(side, 20, side, 20).swapaxes(1, 2)
    z_1, z_2 = tiles[:, :, 0, 0], tiles[:, :, 19, 0]
    quantiles = norm.ppf((np.arange(side) + 0.5) / side)
    np.testing.assert_allclose(z_1, np.tile(quantiles, (side, 1)), atol=1e-12)  # rightwards
    np.testing.assert_allclose(z_2[::-1].T, np.tile(quantiles, (side, 1)), atol=1e-12)  # upwards


def test_manifold_axes(ax):
    side, h, w = 20, 30, 25
    plots.plot_manifold(lambda z: z.repeat(h * w // 2, axis=1), (h, w), ax, side)
    ax.figure.draw_without_rendering()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$", "$z_2$")
    assert shown(ax).shape == (side * h, side * w)
    edges = norm.ppf(np.arange(side + 1) / side)
    for axis, size in (ax.xaxis, w), (ax.yaxis, h):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        assert labels == ["−2", "−1", "0", "1", "2"]
        for z, tick in zip(range(-2, 3), axis.get_ticklocs(), strict=True):
            cell = int((tick + 0.5) // size)
            cell = cell if axis is ax.xaxis else side - 1 - math.ceil((tick + 0.5) / size - 1)
            assert edges[cell] - 1e-9 <= z < edges[cell + 1]


# The files of a run -----------------------------------------------------------------------------


def run(latent_dim=2, n=40, shape=(8, 8), likelihood="bernoulli", **fields):
    """Return the arguments of save_figures for an untrained model, 20 of its n test images."""
    d = math.prod(shape)
    x = np.random.default_rng(0).random((n, d), np.float32)
    vae = VAE(d, (16,), latent_dim, likelihood=likelihood, rng=0)
    fields = {"image_shape": shape, "test_labels": np.arange(n) % 10, **fields}
    return vae, Dataset("a set", x, x, **fields), x[:20], history(3)


def png(path):
    """Return width, height and dots per inch of a PNG file."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", data[16:24])
    across, down, unit = struct.unpack_from(">IIB", data, data.index(b"pHYs") + 4)
    assert (across, unit) == (down, 1)  # dots per metre
    return width, height, across * 0.0254


@pytest.fixture
def figures(monkeypatch):
    """Return the figures that are made, as they are made."""
    made = []

    class Recorded(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(plots, "Figure", Recorded)
    return made


PLANE = ["training", "reconstructions", "samples", "latent", "manifold"]


@pytest.mark.parametrize(("latent_dim", "names"), [(2, PLANE), (3, PLANE[:3])])
def test_the_files_are_the_ones_expected(tmp_path, latent_dim, names):
    paths = plots.save_figures(tmp_path, *run(latent_dim), rng=0)
    assert paths == [tmp_path / f"{name}.png" for name in names]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    for path in paths:
        width, height, dpi = png(path)
        assert dpi == pytest.approx(150, abs=0.1)
        assert 3 * 150 < width < 12 * 150
        assert 1 * 150 < height < 12 * 150
    assert png(paths[0])[:2] == (1500, 510)
    assert plt.get_fignums() == []


@pytest.mark.parametrize("shape", [(3, 5), (30, 12), (1, 60)], ids=str)
def test_figures_are_titled_unclipped_and_of_even_pixels(tmp_path, figures, shape):
    name = r"$\a set$ with quite a long name, as files at times have one"  # no formula
    vae, data, x, records = run(shape=shape)
    data = Dataset(name, data.train, data.test, test_labels=data.test_labels, image_shape=shape)
    plots.save_figures(tmp_path, vae, data, x, records, rng=0)
    titles = [figure.get_suptitle() for figure in figures]
    assert titles == [
        f"{what}\n({name[:39]}…)"
        for what in (
            "Training",
            "Test images and their reconstructions",
            "Samples from the prior",
            "Test images in the latent plane",
            "Decoded from quantiles of the prior",
        )
    ]
    assert [len(figure.axes) for figure in figures] == [3, 1, 1, 1, 1]
    for figure in figures:
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert -0.01 < box.x0 < box.x1 < width + 0.01
        assert -0.01 < box.y0 < box.y1 < height + 0.01
        for image in figure.axes[0].images:
            dots = figure.axes[0].get_window_extent().size / image.get_size()[::-1]
            np.testing.assert_allclose(dots, max(1, round(dots[0])), rtol=1e-4)


def test_what_is_drawn_is_what_the_model_says(tmp_path, figures):
    vae, data, x, records = run(shape=(24, 20))
    plots.save_figures(tmp_path, vae, data, x, records, rng=5)
    training, reconstructions, samples, latent, manifold = (figure.axes for figure in figures)
    assert [len(lines(ax)) for ax in training] == [2, 2, 2]
    assert len({ax.get_title() for ax in training}) == 3
    picture = shown(reconstructions[0])
    np.testing.assert_array_equal(picture[:24, :20].ravel(), x[0])
    np.testing.assert_array_equal(picture[25:49, :20].ravel(), vae.reconstruct(x)[0])
    drawn = shown(samples[0])[:24, 21:41].ravel()
    np.testing.assert_array_equal(drawn, vae.sample(100, rng=5)[1])
    assert shown(samples[0]).shape == (10 * 25 - 1, 10 * 21 - 1)
    np.testing.assert_allclose(latent[0].collections[0].get_offsets(), vae.encode(x)[0])
    assert len(latent[0].get_legend().texts) == 10
    assert shown(manifold[0]).shape == (20 * 24, 20 * 20)


def test_one_image_no_labels_no_shape_and_no_history(tmp_path, figures):
    vae, data, x, _ = run(shape=(3, 4), test_labels=None, image_shape=None)
    paths = plots.save_figures(tmp_path, vae, data, x[:1], [], rng=0)
    assert [path.stem for path in paths] == PLANE[1:]
    assert figures[2].axes[0].get_legend() is None
    zoom = 5  # of images so small
    assert shown(figures[1].axes[0]).shape == (10 * (3 * zoom + 1) - 1, 10 * (4 * zoom + 1) - 1)


@pytest.mark.parametrize(
    ("likelihood", "scale", "shift", "expected"),
    [
        ("bernoulli", 1, 0, (0, 1)),
        ("bernoulli", 5, -3, (0, 1)),
        ("gaussian", 0.5, 0.2, (0, 1)),
        ("gaussian", 5, -3, (-3, 2)),
    ],
)
def test_grey_values_span_the_values_of_the_images(
    tmp_path, figures, likelihood, scale, shift, expected
):
    vae, data, x, _ = run(likelihood=likelihood)
    x[0, :2] = 0, 1
    plots.save_figures(tmp_path, vae, data, scale * x + shift, [], rng=0)
    ranges = [ax.images[0].get_clim() for figure in figures for ax in figure.axes if ax.images]
    assert ranges == [expected] * 3


def test_a_failed_figure_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "training.png").write_bytes(b"old")

    def half(figure, stream, **_):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match=re.escape("disk full")):
        plots.save_figures(tmp_path, *run(), rng=0)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
