"""The files of a run: which there are, what is in them, and that all of it can be read."""

import math
import re
import struct
import tracemalloc
from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from numpy_vae import VAE, Scaling, load_digits
from numpy_vae.data import Dataset
from numpy_vae.data.digits import FACTORS
from numpy_vae.figures import mosaics
from numpy_vae.figures import of_a_run as figures
from numpy_vae.runs.owned import FIGURES
from numpy_vae.training.evaluate import evaluate_likelihood
from numpy_vae.training.state import Record

pytestmark = pytest.mark.slow

HISTORY = [
    Record(n, -105 - 20 / n, 80 + 20 / n, 25.0, -108.0, 82.0, 26.0, 1.0, 0.1, -105 - 20 / n)
    for n in (1, 2, 3)
]


def run(latent_dim=2, n=40, shape=(8, 8), likelihood="bernoulli", seen=20, **fields):
    """Return the arguments of save_figures for an untrained model, 20 of its n test images."""
    d = math.prod(shape)
    x = np.random.default_rng(0).random((n, d), np.float32)
    vae = VAE(d, (16,), latent_dim, likelihood=likelihood, rng=0)
    vae.params["logvar.b"][:] = -np.linspace(0, 4, latent_dim)  # each has a KL of its own
    fields = {"image_shape": shape, "test_labels": np.arange(n) % 10, **fields}
    return vae, Dataset("a set", x, x, **fields), x[:seen], HISTORY


def factors(n):
    """Return the factors of n images, of the names and the dtypes of `load_digits`."""
    table = np.empty(n, [*((name, np.float32) for name in FACTORS), ("style", np.int32)])
    for i, name in enumerate(table.dtype.names):
        table[name] = np.random.default_rng(i).permutation(n)
    return table


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Return a function that saves figures and returns them by the stems of their files.

    It draws all of them, or only those whose stems are given.
    """
    made, write = [], figures._write

    class Recorded(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

        def savefig(self, *args, **kwargs):
            pass  # most tests look at the figure, and none of them needs its dots

    def save(arguments, *stems, rng=0, **options):
        def write_some(path, *rest):
            if not stems or path.stem in stems:
                drawn.append(path.stem)
                write(path, *rest)

        made.clear()
        drawn = []
        monkeypatch.setattr(figures, "_write", write_some)
        figures.save_figures(tmp_path, *arguments, rng=rng, **options)
        return dict(zip(drawn, made, strict=True))

    monkeypatch.setattr(figures, "Figure", Recorded)
    return save


def shown(figure):
    """Return the picture of a figure as it is displayed, rows from the top, NaN where blank."""
    (image,) = figure.axes[0].images
    return image.get_array().filled(np.nan)


# Which files there are --------------------------------------------------------------------------


def png(path):
    """Return width, height and dots per inch of a PNG file."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", data[16:24])
    across, down, unit = struct.unpack_from(">IIB", data, data.index(b"pHYs") + 4)
    assert (across, unit) == (down, 1)  # dots per metre
    return width, height, across * 0.0254


@pytest.mark.parametrize(
    ("latent_dim", "known", "absent"),
    [
        (2, True, []),
        (1, False, ["latent", "manifold", "factors", "latent_factors"]),
        (3, True, ["manifold", "latent_factors"]),
    ],
)
def test_the_files_are_the_ones_expected(tmp_path, latent_dim, known, absent):
    arguments = run(latent_dim, test_factors=factors(40) if known else None)
    paths = figures.save_figures(tmp_path, *arguments, rng=0)
    stems = [stem for stem in FIGURES if stem not in absent]
    assert paths == [tmp_path / f"{stem}.png" for stem in stems]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    for path in paths:
        width, height, dpi = png(path)
        assert dpi == pytest.approx(150, abs=0.1)
        assert 3 * 150 < width < 12 * 150
        assert 1 * 150 < height < 12 * 150
    assert png(paths[0])[:2] == (1500, 510)
    assert plt.get_fignums() == []


def test_one_image_no_labels_no_shape_and_no_history(drawn):
    vae, data, x, _ = run(shape=(3, 4), test_labels=None, image_shape=None, seen=1,
                          test_factors=factors(40))  # fmt: skip
    x = (255 * x).astype(np.uint8)  # floats would be a table
    made = drawn((vae, data, x, []))
    assert list(made) == ["reconstructions", "samples", "latent", "manifold", "kl", "traversals"]
    assert made["latent"].axes[0].get_legend() is None
    assert made["kl"].axes[0].get_legend().texts == []  # no word of activity
    zoom = 5  # of images so small
    assert shown(made["samples"]).shape == (10 * (3 * zoom + 1) - 1, 10 * (4 * zoom + 1) - 1)
    check_text(made)


@pytest.mark.parametrize("format", ["PNG", "jpg", None])
def test_another_format_is_refused(tmp_path, format):
    with pytest.raises(ValueError, match=f"format is {format!r}, must be one of png, pdf, svg"):
        figures.save_figures(tmp_path, *run(), rng=0, format=format)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_figure_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "training.png").write_bytes(b"old")

    def half(figure, stream, **_):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match=re.escape("disk full")):
        figures.save_figures(tmp_path, *run(), rng=0)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("format", ["pdf", "svg"])
def test_drawings_are_text_and_sharp_images_and_the_same_each_time(
    tmp_path, monkeypatch, drawn, format
):
    arguments = *run(3, test_factors=factors(40))[:3], []
    made = drawn(arguments, format=format)
    monkeypatch.undo()
    figures.save_figures(tmp_path, *arguments, rng=0, format=format)
    paths = [tmp_path / f"{stem}.{format}" for stem in made]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    files = {path.stem: path.read_bytes() for path in paths}
    height, width = shown(made["samples"]).shape
    if format == "pdf":
        assert all(data.startswith(b"%PDF") for data in files.values())
        for data in files.values():
            assert b"CreationDate" not in data
            assert b"/CIDFontType2" in data and b"/Type3" not in data
        assert b"/Width %d /Height %d" % (width, height) in files["samples"]  # as it is
        assert b"/Interpolate true" not in files["samples"]
    else:
        texts = {
            stem: re.findall("<text[^>]*>([^<]+)", data.decode()) for stem, data in files.items()
        }
        for stem, figure in made.items():
            assert figure.get_suptitle() in texts[stem]
        assert "original" in texts["interpolations"] and "KL, nats per image" in texts["kl"]
        assert not any(b"<dc:date>" in data for data in files.values())
        assert b"image-rendering:pixelated" in files["samples"]
    assert mpl.rcParams["pdf.fonttype"] == 3 and mpl.rcParams["svg.fonttype"] == "path"
    for path in paths:
        path.unlink()
    figures.save_figures(tmp_path, *arguments, rng=0, format=format)
    assert {path.stem: path.read_bytes() for path in paths} == files


# That they can be read --------------------------------------------------------------------------


def texts(figure):
    """Return what is written in a figure, each with its box in inches."""
    for _ in range(2):  # as savefig: the ticks depend on the layout and the layout on the ticks
        figure.draw_without_rendering()
    found = [figure._suptitle]
    bars = [bar for ax in figure.axes for bar in ax.child_axes]
    for ax in figure.axes + bars:
        found += [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
        for axis in ax.xaxis, ax.yaxis:
            low, high = sorted(axis.get_view_interval())
            within = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            found += [tick.label1 for tick in within]
        if legend := ax.get_legend():
            found += [legend.get_title(), *legend.texts]
    scale = figure.dpi_scale_trans.inverted()
    return [
        (text.get_text(), text.get_window_extent().transformed(scale))
        for text in found
        if text.get_text() and text.get_visible()
    ]


def check_text(made):
    """Check that nothing touches the edge of a figure, and no word lies on another."""
    for figure in made.values():
        written, (width, height) = texts(figure), figure.get_size_inches()
        for box in [figure.get_tightbbox(), *(box for _, box in written)]:
            assert 0.03 < box.x0 < box.x1 < width - 0.03
            assert 0.03 < box.y0 < box.y1 < height - 0.03
        for (a, one), (b, other) in combinations(written, 2):
            apart = max(one.x0 - other.x1, other.x0 - one.x1, one.y0 - other.y1, other.y0 - one.y1)
            assert apart > -0.03 or "prior" in a + b, (a, b)  # boxes are larger than letters


@pytest.mark.parametrize(
    ("shape", "latent_dim"),
    [((3, 5), 2), ((30, 12), 20), ((1, 60), 60), ((64, 8), 3), ((28, 14), 4), ((8, 8), 1)],
    ids=str,
)
def test_figures_are_titled_unclipped_and_of_even_pixels(drawn, shape, latent_dim):
    name = r"$\a set$ with quite a long name, as files at times have one"  # no formula
    _, like, x, records = run(shape=shape)
    vae, *_ = run(latent_dim, shape=shape)
    data = Dataset(name, like.train, like.test, test_labels=like.test_labels, image_shape=shape,
                   test_factors=factors(40))  # fmt: skip
    made = drawn((vae, data, x, records))
    plane = "plane" if latent_dim == 2 else "two dimensions of the highest KL"
    expected = {
        "training": "Training",
        "reconstructions": "Test images and their reconstructions",
        "samples": "Samples from the prior",
        "latent": f"Test images in the {'latent ' * (latent_dim == 2)}{plane}",
        "manifold": "Decoded from quantiles of the prior",
        "interpolations": "Interpolations between test images",
        "kl": "KL of each latent dimension",
        "traversals": "Latent traversals of a test image",
        "factors": "Latent dimensions against factors",
        "latent_factors": "Test images in the latent plane, coloured by factor",
    }
    for stem, figure in made.items():
        title = figure.get_suptitle().replace("\n", " ")
        assert title == f"{expected[stem]} ({name[:39]}…)"
        for image in figure.axes[0].images:
            dots = figure.axes[0].get_window_extent().size / image.get_size()[::-1]
            np.testing.assert_allclose(dots, max(1, round(dots[0])), rtol=1e-4)
    check_text(made)
    box = made["samples"].axes[0].get_window_extent()
    assert box.x0 + box.x1 == pytest.approx(made["samples"].get_size_inches()[0] * 150, abs=3)


@pytest.mark.parametrize(
    ("shape", "pairs", "steps", "rows", "columns"),
    [((64, 8), 2, 9, 3, 13), ((800, 1), 1, 9, 1, 13), ((250, 100), 7, 9, 9, 13),
     ((10, 300), 8, 5, 10, 7), ((2, 800), 8, 3, 10, 3)],
)  # fmt: skip
def test_there_are_no_more_images_than_can_be_read(drawn, shape, pairs, steps, rows, columns):
    made = drawn(run(12, shape=shape, test_labels=None), "interpolations", "traversals")
    between, traversals = made["interpolations"].axes[0], made["traversals"].axes[0]
    assert between.get_xlabel().startswith(f"$t$, {steps} images")
    gap = math.ceil(max(shape) / 40)
    assert (shown(made["interpolations"]).shape[0] + gap) / (shape[0] + gap) == pairs
    assert len(traversals.get_yticks()) == rows
    assert (shown(made["traversals"]).shape[1] + gap) / (shape[1] + gap) == columns


@pytest.mark.parametrize(
    ("likelihood", "scale", "shift", "expected"),
    [
        ("bernoulli", 1, 0, (0, 1)),
        ("gaussian", 0.5, 0.2, (0, 1)),
        ("gaussian", 5, -3, (-3, 2)),
    ],
)
def test_grey_values_span_the_values_of_the_images(drawn, likelihood, scale, shift, expected):
    vae, data, x, _ = run(likelihood=likelihood)
    x[0, :2] = 0, 1
    made = drawn((vae, data, scale * x + shift, []))
    pictures = [figure.axes[0].images[0] for figure in made.values() if figure.axes[0].images]
    assert [picture.get_clim() for picture in pictures] == [expected] * 5


@pytest.mark.parametrize(("scale", "shift", "expected"), [(0.5, 0.2, (0, 1)), (5, -3, (-3, 2))])
def test_samples_are_a_picture_by_themselves(tmp_path, monkeypatch, scale, shift, expected):
    made = []
    fit = figures._fit
    monkeypatch.setattr(figures, "_fit", lambda figure, ax: (made.append(figure), fit(figure, ax)))
    images = np.linspace(0, 1, 5 * 600).reshape(5, 600) * scale + shift
    figures.save_samples(tmp_path / "some.png", images, (30, 20), name="a \udcff set")
    assert [path.name for path in tmp_path.iterdir()] == ["some.png"]
    assert png(tmp_path / "some.png")[2] == pytest.approx(150, abs=0.1)
    (figure,) = made
    greys = "" if expected == (0, 1) else "; black -3, white 2"
    assert " ".join(figure.get_suptitle().split()) == f"Samples from the prior (a ? set{greys})"
    np.testing.assert_array_equal(shown(figure)[:30, 21:41].ravel(), images[1])
    assert figure.axes[0].images[0].get_clim() == expected


def test_samples_are_not_written_in_another_format(tmp_path):
    with pytest.raises(ValueError, match="format is 'jpg', must be one of png, pdf, svg"):
        figures.save_samples(tmp_path / "some.jpg", np.zeros((1, 4)), (2, 2), name="a set")
    assert list(tmp_path.iterdir()) == []


# That they show what they say -------------------------------------------------------------------


def test_what_is_drawn_is_what_the_model_says(drawn):
    vae, data, x, records = run(shape=(24, 20))
    made = drawn((vae, data, x, records), rng=5)
    terms = made["training"].axes
    assert [len(ax.lines) for ax in terms] == [2, 2, 2]
    assert len({ax.get_title() for ax in terms}) == 3
    picture = shown(made["reconstructions"])
    np.testing.assert_array_equal(picture[:24, :20].ravel(), x[0])
    np.testing.assert_array_equal(picture[25:49, :20].ravel(), vae.reconstruct(x)[0])
    samples = shown(made["samples"])
    np.testing.assert_array_equal(samples[:24, 21:41].ravel(), vae.sample(100, rng=5)[1])
    assert samples.shape == (10 * 25 - 1, 10 * 21 - 1)
    (latent,) = made["latent"].axes
    np.testing.assert_allclose(latent.collections[0].get_offsets(), vae.encode(x)[0])
    assert len(latent.get_legend().texts) == 10
    assert shown(made["manifold"]).shape == (20 * 24, 20 * 20)


def test_interpolations_are_between_images_of_the_test_set(drawn):
    vae, data, x, _ = run(4, shape=(24, 20), test_labels=np.array([7, 7, 2, 7] + [1] * 36))
    picture = shown(drawn((vae, data, x, []), "interpolations")["interpolations"])
    assert picture.shape[0] == 3 * 25 - 1  # the other images are all alike
    mu, _ = vae.encode(x)
    for row, (i, j) in enumerate([(0, 2), (1, 4), (3, 5)]):  # the next of another label
        strip = picture[25 * row :][:24]
        np.testing.assert_array_equal(strip[:, :20].ravel(), x[i])
        np.testing.assert_array_equal(strip[:, -20:].ravel(), x[j])
        between = strip[:, 27 + 2 * 21 :][:, :20].ravel()  # the third of nine
        expected = vae.decode(0.75 * mu[[i]] + 0.25 * mu[[j]])[0]
        np.testing.assert_allclose(between, expected, rtol=1e-5)


@pytest.mark.parametrize("labels", [None, np.full(40, 3)], ids=["none", "equal"])
def test_interpolations_pair_neighbours_where_labels_do_not_part_them(drawn, labels):
    vae, data, x, _ = run(3, shape=(24, 20), test_labels=labels, seen=5)
    picture = shown(drawn((vae, data, x, []), "interpolations")["interpolations"])
    assert picture.shape[0] == 2 * 25 - 1
    for i in range(4):
        side = slice(None, 20) if i % 2 == 0 else slice(-20, None)
        np.testing.assert_array_equal(picture[i // 2 * 25 :][:24, side].ravel(), x[i])


def test_dimensions_are_in_the_order_of_their_kl(drawn):
    vae, data, x, _ = run(12, shape=(24, 20))
    data = Dataset("a set", data.train, data.test, image_shape=(24, 20), test_factors=factors(40))
    made = drawn((vae, data, x, []), "kl", "traversals", "latent", "factors")
    evaluation = evaluate_likelihood(vae, x, samples=1)
    kl, active = evaluation.kls.mean(axis=0), evaluation.summary()["active_units"]
    order = np.argsort(kl)[::-1]
    bars = made["kl"].axes[0]
    np.testing.assert_allclose([bar.get_height() for bar in bars.patches], kl[order], rtol=1e-5)
    assert [t.get_text().split()[0] for t in bars.get_legend().texts] == [
        str(active), str(12 - active)
    ]  # fmt: skip

    names = [label.get_text() for label in made["traversals"].axes[0].get_yticklabels()]
    assert names == [f"$z_{{{j + 1}}}$, KL {kl[j]:.2f} nats" for j in order[:10]]
    mu, _ = vae.encode(x)
    z = np.tile(mu[0], (13, 1))
    z[:, order[1]] = np.linspace(-3, 3, 13)
    second = shown(made["traversals"])[24 + 4 + 1 :][:24]
    for k, image in enumerate(vae.decode(z)):
        np.testing.assert_allclose(second[:, 21 * k :][:, :20].ravel(), image, rtol=1e-5)

    (latent,) = made["latent"].axes
    np.testing.assert_allclose(latent.collections[0].get_offsets(), mu[:, sorted(order[:2])])

    columns = [label.get_text() for label in made["factors"].axes[0].get_xticklabels()]
    assert columns == [f"$z_{{{j + 1}}}$" for j in order[:10]]
    cells = made["factors"].axes[0].collections[0].get_array()
    expected = [
        [spearmanr(data.test_factors[name][:20], mu[:, j]).statistic for j in order[:10]]
        for name in FACTORS
    ]
    np.testing.assert_allclose(cells, expected, atol=1e-12)


def test_the_plane_is_coloured_by_each_factor(drawn):
    vae, data, x, _ = run(test_factors=factors(40))
    axes = drawn((vae, data, x, []), "latent_factors")["latent_factors"].axes
    assert [ax.get_title() for ax in axes] == [name.replace("_", " ") for name in FACTORS]
    for ax, name in zip(axes, FACTORS, strict=True):
        np.testing.assert_array_equal(
            ax.collections[0].get_array(), data.test_factors[name][: len(x)]
        )
        np.testing.assert_allclose(ax.collections[0].get_offsets(), vae.encode(x)[0])
        unit = ax.child_axes[0].get_ylabel()
        assert unit.startswith("radians") == (name in ("slant", "rotation"))
        assert ax.get_xlim() == axes[0].get_xlim() == ax.get_ylim()
        assert ax.get_shared_x_axes().joined(ax, axes[0])
        assert ax.get_shared_y_axes().joined(ax, axes[0])
    assert [bool(ax.get_xlabel()) for ax in axes] == [False] * 3 + [True] * 4
    numbered = [ax.xaxis.majorTicks[0].label1.get_visible() for ax in axes]
    assert numbered == [False] * 3 + [True] * 4
    assert [bool(ax.get_ylabel()) for ax in axes] == [True, *[False] * 3, True, *[False] * 2]


def test_every_factor_of_the_digits_has_a_unit():
    table = load_digits(60, rng=0).test_factors
    assert [name for name in table.dtype.names if table[name].dtype.kind == "f"] == list(FACTORS)
    assert list(figures.UNITS) == list(FACTORS)


@pytest.mark.parametrize(("d", "most"), [(2003, 0.6e9), (7919, 2e9)])
def test_the_memory_for_long_vectors_is_bounded(tmp_path, d, most):
    images = np.random.default_rng(0).random((64, d), np.float32)
    tracemalloc.start()
    figures.save_samples(tmp_path / "long.png", images, (1, d), name="long")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most


def test_the_training_curves_mark_the_epoch_that_is_kept(drawn, tmp_path):
    vae, data, x, records = run()
    for kept, lines in (2, ["best epoch"]), (None, []):
        made = drawn((vae, data, x, records), "training", kept_epoch=kept)
        for ax in made["training"].axes:
            marks = [line for line in ax.lines if line.get_label() == "best epoch"]
            assert [line.get_label() for line in marks] == lines
            assert all(list(line.get_xdata()) == [2, 2] for line in marks)


# Colour, and tables -------------------------------------------------------------------------------


def test_colour_is_shown_in_colour(drawn):
    vae, data, x, history = run(shape=(4, 4, 3))
    made = drawn((vae, data, x, history))
    (image,) = made["reconstructions"].axes[0].images
    picture = np.asarray(image.get_array())
    assert picture.ndim == 3 and picture.shape[2] == 3
    first = picture[2:18:5, 2:18:5][:4, :4]  # each pixel is enlarged to 5x5 dots
    np.testing.assert_allclose(first, x[0].reshape(4, 4, 3), rtol=1e-6)
    for name in "samples", "manifold", "interpolations", "traversals":
        assert np.asarray(made[name].axes[0].images[0].get_array()).ndim == 3
    mosaics.plot_samples(x, (4, 4, 3), value_range=(-1, 1))
    plt.close("all")


@pytest.mark.parametrize("scaled", [True, False])
def test_a_narrow_table_has_a_panel_for_each_column(drawn, scaled):
    x = 50 + np.random.default_rng(0).standard_normal((40, 3)) * [1, 100, 0.01]
    scaling = Scaling.of(x) if scaled else None
    vae = VAE(3, (8,), 2, likelihood="diagonal_gaussian", rng=0, scaling=scaling)
    names = ("age", "a long name, longer than a panel is wide", "c")
    data = Dataset(
        "t", x, x, columns=names, test_labels=np.arange(40) % 2, label_names=("no", "yes")
    )
    made = drawn((vae, data, x, HISTORY))
    stems = ["training", "reconstructions", "samples", "latent", "kl", "traversals"]
    assert list(made) == stems
    for name in "reconstructions", "samples", "traversals":
        titles = [ax.get_title() for ax in made[name].axes]
        assert titles == ["age", "a long name, longer tha…", "c"]
    points = made["reconstructions"].axes[1].lines[1].get_xydata()
    np.testing.assert_allclose(points, np.c_[x[:, 1], vae.reconstruct(x)[:, 1]], rtol=1e-6)
    legend = made["latent"].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["no", "yes"]


@pytest.mark.parametrize("scaled", [True, False])
def test_a_wide_table_is_drawn_as_lines(drawn, scaled):
    x = 50 + np.random.default_rng(0).standard_normal((40, 30))
    scaling = Scaling.of(x) if scaled else None
    vae = VAE(30, (8,), 2, likelihood="learned_gaussian", rng=0, scaling=scaling)
    made = drawn((vae, Dataset("t", x, x), x, HISTORY))
    ax = made["reconstructions"].axes[0]
    assert len(ax.lines) == 12  # six rows and their reconstructions
    expected = scaling.forward(x[0]) if scaled else x[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), expected, rtol=1e-6)
    assert ("standard deviations" in made["samples"].axes[0].get_ylabel()) == scaled
    median = made["samples"].axes[0].lines[0].get_ydata()
    shown = scaling.forward(x) if scaled else x
    np.testing.assert_allclose(median, np.median(shown, axis=0), rtol=1e-6)
    assert [ax.get_title() for ax in made["traversals"].axes] == ["$z_{1}$", "$z_{2}$"] or [
        ax.get_title() for ax in made["traversals"].axes
    ] == ["$z_{2}$", "$z_{1}$"]
