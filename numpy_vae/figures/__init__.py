"""Pictures.

    plots     every ``plot_`` function, to draw on axes of yours; here curves, points and bars
    mosaics   those of them that show images side by side
    style     the colours and the names that they share
    of_a_run  files, as `numpy-vae plot` writes them
    explorer  a page on which a pointer moves through the latent space

All but `explorer` import matplotlib; outside this folder only `study.drawing` does. The names and
the formats of the figures are here, so that asking for them does not import it.
"""

FORMATS = ("png", "pdf", "svg")
FIGURES = (
    "training", "reconstructions", "samples", "latent", "manifold", "interpolations", "kl",
    "traversals", "factors", "latent_factors",
)  # fmt: skip
