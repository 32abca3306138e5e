"""Figures show what they say: the right pixels in the right place, under the right label."""

import math
import subprocess
import sys
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from scipy.stats import norm, spearmanr

from numpy_vae.figures import plots, style
from numpy_vae.training.state import Record


def history(n, first=None):
    """Return n epochs of a run that converges, the first of them with other values if given."""
    records = []
    for epoch in range(1, n + 1):
        r, kl = (first if first and epoch == 1 else None) or (80 + 20 / epoch, 25 - 2 / epoch)
        records.append(Record(epoch, -r - kl, r, kl, -r - kl - 3, r + 2, kl + 1, 1.0, 0.1, -r - kl))
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
    "reconstructions": lambda ax: plots.plot_reconstructions(IMAGES, 1 - IMAGES, (5, 6), ax),
    "samples": lambda ax: plots.plot_samples(IMAGES, (5, 6), ax),
    "latent": lambda ax: plots.plot_latent(IMAGES[:, :2], range(7), ax),
    "manifold": lambda ax: plots.plot_manifold(lambda z: np.tile(z, 15), (5, 6), ax, 3),
    "interpolations": lambda ax: plots.plot_interpolations(
        lambda z: np.tile(z, 15), IMAGES[:4, :2].reshape(2, 2, 2), IMAGES[:4].reshape(2, 2, 30),
        (5, 6), ax,
    ),
    "traversals": lambda ax: plots.plot_traversals(
        lambda z: np.tile(z, 15), IMAGES[0, :2], [1, 0], (5, 6), [1, 2], ax
    ),
    "kl": lambda ax: plots.plot_kl(IMAGES, IMAGES, ax),
    "factors": lambda ax: plots.plot_factors(IMAGES, {"slant": range(7)}, ax),
}  # fmt: skip


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_the_axes_given_are_drawn_on_and_returned(draw, ax):
    assert draw(ax) is ax
    assert ax.lines or ax.images or ax.collections or ax.patches
    assert plt.get_fignums() == []


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_without_axes_a_new_pyplot_figure_is_made(draw):
    old = plt.subplots()[1]
    new = draw(None)
    assert new is not old
    assert [plt.figure(n) for n in plt.get_fignums()] == [old.figure, new.figure]


@pytest.mark.parametrize(
    ("module", "absent"),
    [("numpy_vae", "matplotlib"), ("numpy_vae.figures.of_a_run", "matplotlib.pyplot")],
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
        records.append(Record(*r[:4], *test, 1.0, 0.1, r.train_elbo, *aside))
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


def test_images_are_laid_out_in_rows_with_thin_gaps_and_a_blank_rest(ax):
    h, w = 30, 20  # not square
    images = np.linspace(0, 1, 5 * h * w).reshape(5, h * w)
    plots.plot_samples(images, (h, w), ax)
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
    plots.plot_samples(image.reshape(1, -1), shape, ax)
    picture = shown(ax)
    zoom = picture.shape[0] // shape[0]
    assert picture.shape == (zoom * shape[0], zoom * shape[1])
    np.testing.assert_array_equal(picture, np.kron(image, np.ones((zoom, zoom))))


def test_gaps_are_no_grey(ax):
    plots.plot_samples(np.ones((3, 4)), (2, 2), ax)
    red, _, blue, _ = ax.images[0].cmap.get_bad()
    assert red != blue


def test_a_vector_is_shown_as_a_bar_code(ax):
    plots.plot_samples(np.linspace(0, 1, 13).reshape(1, 13), (1, 13), ax)
    picture = shown(ax)
    assert picture.shape[0] * 4 >= picture.shape[1]
    assert np.ptp(picture, axis=0).max() == 0
    assert list(np.unique(picture)) == list(np.linspace(0, 1, 13))


def test_values_outside_the_range_are_clipped(ax):
    plots.plot_samples([[-9, -1, 0, 2, 9, np.inf]], (2, 3), ax, value_range=(-1, 2))
    assert ax.images[0].get_clim() == (-1, 2)
    assert list(np.unique(shown(ax))) == [-1, 0, 2]


def test_images_have_no_ticks_and_are_not_smoothed(ax):
    plots.plot_samples(IMAGES, (5, 6), ax)
    assert (len(ax.get_xticks()), len(ax.get_yticks())) == (0, 0)
    assert ax.images[0].get_interpolation() == "none"
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


def blocks(height, width):
    """Return a decoder: an image has Z blocks of rows, each as grey as its coordinate of z."""

    def decode(z):
        assert z.ndim == 2 and height % z.shape[1] == 0
        return z.repeat(height // z.shape[1] * width, axis=1)

    return decode


def z_of(tile, latent_dim):
    """Return the z from which `blocks` has decoded an image (H, W)."""
    rows = tile.reshape(latent_dim, -1)
    assert np.ptp(rows, axis=1).max() == 0
    return rows[:, 0]


@pytest.mark.parametrize("steps", [2, 5, 9])
def test_interpolations_run_from_one_mean_to_the_other(ax, rng, steps):
    h, w, gap, apart = 30, 24, 1, 8
    mu, originals = rng.normal(size=(3, 2, 2)), rng.normal(size=(3, 2, h * w))
    plots.plot_interpolations(blocks(h, w), mu, originals, (h, w), ax, steps, (-9, 9))
    picture = shown(ax)
    first = w + apart
    width = steps * (w + gap) - gap
    assert picture.shape == (3 * (h + gap) - gap, first + width + apart + w)
    for row in range(3):
        strip = picture[row * (h + gap) :][:h]
        np.testing.assert_array_equal(strip[:, :w].ravel(), originals[row, 0])
        np.testing.assert_array_equal(strip[:, -w:].ravel(), originals[row, 1])
        assert np.isnan(strip[:, w:first]).all() and np.isnan(strip[:, -w - apart : -w]).all()
        for k in range(steps):
            t = k / (steps - 1)
            z = z_of(strip[:, first + k * (w + gap) :][:, :w], 2)
            np.testing.assert_allclose(z, (1 - t) * mu[row, 0] + t * mu[row, 1], atol=1e-12)


def test_interpolations_say_where_t_is_and_what_is_original(ax, rng):
    h, w = 30, 24
    plots.plot_interpolations(
        blocks(h, w), rng.normal(size=(2, 2, 2)), rng.normal(size=(2, 2, h * w)), (h, w), ax, 5
    )
    assert ax.get_xlabel().startswith("$t$, 5 images")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.5", "1"]
    middle = (w - 1) / 2
    starts = [32 + k * (w + 1) for k in (0, 2, 4)]  # of the first, the third and the last decoded
    np.testing.assert_allclose(ax.get_xticks(), np.add(starts, middle))
    assert [(t.get_text(), t.xy) for t in ax.texts] == [
        ("original", (middle, 1)),
        ("original", (shown(ax).shape[1] - 1 - middle, 1)),
    ]


def traversal(ax, mu, dimensions, columns=13, kl=(0, 0, 0, 0)):
    """Draw traversals of `blocks` of 20 x 24 pixels; return the z (R, columns, Z) that are seen."""
    h, w, gap, room = 20, 24, 1, 4
    plots.plot_traversals(
        blocks(h, w), mu, dimensions, (h, w), kl, ax, columns, value_range=(-9, 9)
    )
    picture = shown(ax)
    assert picture.shape == (len(dimensions) * (h + room + gap) - gap, columns * (w + gap) - gap)
    return np.array([
        [
            z_of(picture[r * (h + room + gap) :, c * (w + gap) :][:h, :w], len(mu))
            for c in range(columns)
        ]
        for r in range(len(dimensions))
    ])  # fmt: skip


@pytest.mark.parametrize(("dimensions", "columns"), [([2, 0], 13), ([1], 7), ([3, 1, 2, 0], 3)])
def test_a_traversal_changes_its_own_dimension_and_no_other(ax, rng, dimensions, columns):
    mu = rng.normal(size=4)
    seen = traversal(ax, mu, dimensions, columns)
    for z, j in zip(seen, dimensions, strict=True):
        np.testing.assert_allclose(z[:, j], np.linspace(-3, 3, columns), atol=1e-12)
        others = [k for k in range(4) if k != j]
        np.testing.assert_array_equal(z[:, others], np.tile(mu[others], (columns, 1)))


def test_traversals_name_their_dimension_and_its_kl(ax):
    traversal(ax, np.zeros(4), [2, 0], kl=[1.234, 9, 5.678, 9])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["$z_{3}$, KL 5.68 nats", "$z_{1}$, KL 1.23 nats"]
    np.testing.assert_allclose(ax.get_yticks(), [9.5, 34.5])  # the middles of rows of 20 pixels


def test_traversals_mark_the_values_that_they_start_from(ax):
    traversal(ax, np.array([0.25, -3.5, 1, 3.5]), [3, 2, 1, 0])
    marks = {
        (line.get_marker(), x, y)
        for line in ax.lines
        for x, y in zip(*line.get_data(), strict=True)
    }
    step = 25 / 0.5  # pixels in one of z
    below = [k * 25 + 21.5 for k in range(4)]  # in the gaps of four pixels under each row
    assert marks == {
        (">", 11.5 + 6 * step, below[0]),
        ("^", 11.5 + 4 * step, below[1]),
        ("<", 11.5, below[2]),
        ("^", 11.5 + 3.25 * step, below[3]),
    }
    assert "▲" in ax.get_xlabel()
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == ["−3", "−2", "−1", "0", "1", "2", "3"]
    np.testing.assert_allclose(ax.get_xticks(), 11.5 + step * np.arange(7))


# The latent plane -------------------------------------------------------------------------------


def test_latent_axes(ax, rng):
    mu = rng.normal(3, 2, (200, 2))
    mu[7] = -19, 2
    plots.plot_latent(mu, None, ax)
    ax.figure.draw_without_rendering()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_{1}$ (mean)", "$z_{2}$ (mean)")
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
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "label"
    assert bar.get_ylim() == (-30, 29)
    np.testing.assert_array_equal(ax.collections[0].get_array(), labels)
    assert ax.get_legend() is None


@pytest.mark.parametrize("dimensions", [(6, 2), (1, 11)])
def test_latent_draws_the_dimensions_that_it_names(ax, rng, dimensions):
    mu = rng.normal(size=(50, 12))
    plots.plot_latent(mu, None, ax, dimensions)
    i, j = dimensions
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), mu[:, [i, j]])
    assert ax.get_xlabel() == f"$z_{{{i + 1}}}$ (mean)"
    assert ax.get_ylabel() == f"$z_{{{j + 1}}}$ (mean)"


def test_values_are_colours_that_the_bar_explains(ax, rng):
    mu, values = rng.normal(size=(60, 2)), rng.normal(size=60)
    plots.plot_latent(mu, values, ax, name="slant (radians)")
    ax.figure.draw_without_rendering()
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "slant (radians)"
    assert bar.get_ylim() == pytest.approx((values.min(), values.max()))
    np.testing.assert_array_equal(ax.collections[0].get_array(), values)
    assert {mesh.get_alpha() for mesh in bar.collections if mesh.get_array() is not None} == {1}
    height = ax.get_window_extent().height
    assert bar.get_window_extent().height == pytest.approx(height)


def test_planes_can_share_their_axes(rng):
    axes = Figure(layout="constrained").subplots(1, 2, sharex=True, sharey=True)
    for ax in axes:
        plots.plot_latent(rng.normal(size=(9, 2)), None, ax)
    axes[0].figure.draw_without_rendering()
    assert axes[0].get_xlim() == axes[1].get_ylim()


def test_points_are_smaller_in_smaller_axes(rng):
    axes = [Figure(size).subplots() for size in ((8, 8), (4, 4))]
    for ax in axes:
        plots.plot_latent(rng.normal(size=(3000, 2)), None, ax)
    large, small = (ax.collections[0].get_sizes()[0] for ax in axes)
    assert large == pytest.approx(4 * small)


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


# The latent dimensions --------------------------------------------------------------------------

KL = np.array([0.5, 0.02, 3.0, 0.0, 1.5])


def kl_arguments():
    """Return the KLs (2, 5) whose means are `KL`, and posterior means (2, 5), three of them active.

    The variance of (a, -a) is a². One that is active has the lowest KL but one.
    """
    spread = np.array([0, 0.01, 1, 0, -1])
    kls = np.array([KL + spread, KL - spread])
    mu = np.array([0.0999, 0.1001, 1, 0, 2])
    return kls, np.array([mu, -mu])


def legend(ax):
    found = ax.get_legend()
    return found.get_title().get_text(), [text.get_text() for text in found.texts]


def test_bars_are_the_mean_kl_from_the_highest_to_the_lowest(ax):
    plots.plot_kl(*kl_arguments(), ax)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], [3, 1.5, 0.5, 0.02, 0])
    centres = [bar.get_x() + bar.get_width() / 2 for bar in ax.patches]
    np.testing.assert_allclose(centres, ax.get_xticks())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["3", "5", "1", "2", "4"]
    assert ax.get_ylabel() == "KL, nats per image"
    assert legend(ax)[0] == "total 5.02 nats per image, 2 images"


def test_active_dimensions_are_told_apart_by_colour_and_hatch(ax):
    plots.plot_kl(*kl_arguments(), ax)
    active = [True, True, False, True, False]  # in the order of the bars
    assert [not bar.get_hatch() for bar in ax.patches] == active
    assert [bar.get_facecolor() == to_rgba(style.COLOURS[0]) for bar in ax.patches] == active
    assert legend(ax)[1] == [r"3 active, Var $\mu_j$ > 0.01", "2 inactive"]
    handles = ax.get_legend().legend_handles
    assert [not handle.get_hatch() for handle in handles] == [True, False]
    assert [h.get_facecolor() for h in handles] == [ax.patches[k].get_facecolor() for k in (0, 2)]


def test_nothing_is_said_of_activity_that_is_not_known(ax):
    kls, mu = kl_arguments()
    plots.plot_kl(kls[:1], mu[:1], ax)
    assert legend(ax)[1] == [] and "total" in legend(ax)[0]
    assert not any(bar.get_hatch() for bar in ax.patches)
    assert len({bar.get_facecolor() for bar in ax.patches}) == 1


@pytest.mark.parametrize("n", [1, 2, 20, 21, 50, 51, 200])
def test_names_of_dimensions_do_not_overlap(rng, n):
    ax = Figure((6.5, 3.6), layout="constrained").subplots()
    plots.plot_kl(rng.random((3, n)), rng.random((3, n)), ax)
    ax.figure.draw_without_rendering()
    low, high = ax.get_xlim()
    assert low + 0.4 < 1 and n < high - 0.4
    labels = [
        label
        for label, at in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)
        if low < at < high
    ]
    assert (len(labels) == n) == (n <= 50)
    boxes = [label.get_window_extent() for label in labels]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
    assert ("$j$" in ax.get_xlabel()) == (n <= 50)
    width = ax.patches[0].get_window_extent().width
    assert width < ax.get_window_extent().width / 5
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1


def correlations(ax):
    """Return the correlations (factors, dimensions) as they are displayed, rows from the top."""
    assert ax.yaxis_inverted() and not ax.xaxis_inverted()
    return ax.collections[0].get_array()


@pytest.mark.parametrize("dimensions", [None, [4, 0, 2]])
def test_factors_are_held_against_dimensions_by_their_ranks(ax, rng, dimensions):
    mu = rng.normal(size=(40, 5))
    mu[5:9, 2] = 0.3  # ties
    factors = {"slant": np.exp(3 * mu[:, 4]), "shift_x": rng.integers(0, 4, 40)}
    plots.plot_factors(mu, factors, ax, dimensions)
    columns = range(5) if dimensions is None else dimensions
    expected = [[spearmanr(f, mu[:, j]).statistic for j in columns] for f in factors.values()]
    np.testing.assert_allclose(correlations(ax), expected, atol=1e-12)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["slant", "shift x"]
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == [f"$z_{{{j + 1}}}$" for j in columns]
    said = {text.get_position(): text.get_text() for text in ax.texts}
    assert len(said) == 2 * len(columns)
    for (row, column), value in np.ndenumerate(expected):
        text = said[column + 0.5, row + 0.5]
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.005001)
        assert text != "−0.00"


def test_colours_of_correlations_are_symmetric_about_zero(ax, rng):
    plots.plot_factors(rng.normal(size=(40, 2)), {"scale": rng.random(40)}, ax)
    cells = ax.collections[0]
    assert cells.get_clim() == (-1, 1)
    left, right = (np.mean(cells.cmap(end)[:3]) for end in (0.0, 1.0))
    assert max(left, right) < 0.6 < 0.9 < np.mean(cells.cmap(0.5)[:3])
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "Spearman's correlation, 40 images"
    assert bar.get_ylim() == (-1, 1)


def test_numbers_can_be_read_on_their_cells(ax):
    x = np.arange(9.0)
    plots.plot_factors(np.column_stack([x, -x, x % 3]), {"scale": x}, ax)
    assert [(t.get_text(), t.get_color()) for t in ax.texts] == [
        ("1.00", "white"), ("−1.00", "white"), ("0.32", "black")
    ]  # fmt: skip


def test_what_is_rounded_to_zero_has_no_sign(ax):
    x = np.arange(-50, 51)
    y = x**2 - 0.01 * x * (abs(x) <= 20)
    plots.plot_factors(y[:, np.newaxis], {"scale": x}, ax)
    assert -0.005 < correlations(ax) < 0
    assert [text.get_text() for text in ax.texts] == ["0.00"]


def test_what_is_constant_has_no_correlation(ax, rng):
    mu = np.column_stack([rng.normal(size=9), np.full(9, 0.1)])
    plots.plot_factors(mu, {"slant": rng.random(9), "width": np.full(9, 2.5)}, ax)
    np.testing.assert_array_equal(np.isnan(correlations(ax).filled(np.nan)), [[0, 1], [1, 1]])
    assert len(ax.texts) == 1
