"""Figures.

    plots     the ``plot_`` functions, which draw on your Axes: curves, points and bars
    mosaics   those that show images side by side
    tables    those of rows that are not images
    style     the colours and names that they share
    of_a_run  the figure files that `numpy-vae plot` writes
    explorer  an HTML page that decodes the z under the pointer

All but `explorer` import matplotlib; outside this folder only `study.drawing` does. The names and
formats of the figures are defined here so that reading them does not import it.
"""

FORMATS = ("png", "pdf", "svg")
FIGURES = (
    "training", "reconstructions", "samples", "latent", "manifold", "interpolations", "kl",
    "traversals", "factors", "latent_factors",
)  # fmt: skip
