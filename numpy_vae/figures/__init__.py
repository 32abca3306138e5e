"""Pictures.

    plots     on axes of yours
    of_a_run  in files, as `numpy-vae plot` writes them
    explorer  a page on which a pointer moves through the latent space

Besides the first two only `study.drawing` imports matplotlib. What figures there are, and in which
formats, stands here: who asks need not wait for it.
"""

FORMATS = ("png", "pdf", "svg")
FIGURES = (
    "training", "reconstructions", "samples", "latent", "manifold", "interpolations", "kl",
    "traversals", "factors", "latent_factors",
)  # fmt: skip
