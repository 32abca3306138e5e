"""The blocks of parameters: their names, shapes and initial values.

    encoder.0, encoder.1, ...    the trunk from x to h
    mu, logvar                   two heads on the same h
    decoder.0, decoder.1, ...    the trunk from z, with the encoder's widths in reverse
    output                       the affine map to l, which the likelihood reads

Each is a `Dense` with two blocks, such as ``mu.W`` and ``mu.b``; a likelihood may add its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .checks import check_whole
from .params import Params

MAX_WIDTH = 1 << 16
# 1 GiB of float32; with Adam's sums and a gradient per thread, at least four times that
MAX_PARAMETERS = 1 << 28


def block_shapes(
    data_dim: int, hidden: Sequence[int], latent_dim: int
) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of each block, in the order of the vector.

    ValueError if a width or the number of parameters is out of range.
    """
    for name, width in ("data_dim", data_dim), ("latent_dim", latent_dim):
        check_whole(name, width, 1, MAX_WIDTH)
    for width in hidden:
        check_whole("a width in hidden", width, 1, MAX_WIDTH)
    encoder, decoder = (data_dim, *hidden), (latent_dim, *reversed(hidden))
    maps = {f"encoder.{i}": sizes for i, sizes in enumerate(pairwise(encoder))}
    maps |= {"mu": (encoder[-1], latent_dim), "logvar": (encoder[-1], latent_dim)}
    maps |= {f"decoder.{i}": sizes for i, sizes in enumerate(pairwise(decoder))}
    maps |= {"output": (decoder[-1], data_dim)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (n, m) in maps.items():
        shapes |= {f"{name}.W": (n, m), f"{name}.b": (m,)}
    size = sum(map(math.prod, shapes.values()))
    check_whole("the number of parameters", size, 1, MAX_PARAMETERS)
    return shapes


def initialise(params: Params, activation: str, rng: np.random.Generator) -> None:
    """Draw weights with mean 0 and variance gain / n, for n inputs; biases stay zero.

    The gain is 2 before a relu and 1 elsewhere, which keeps the scale of a signal from layer to
    layer. It is 1/10 in the mean head and in the layer that reads z: at first z is only noise and
    should not drive the decoder. It is 0 in the log-variance head, so q starts at sigma = 1.
    """
    reads_z = "decoder.0" if "decoder.0.W" in params else "output"
    gains = {"mu": 0.1, reads_z: 0.1, "logvar": 0.0}
    for block, W in params.items():
        name, kind = block.rsplit(".", 1)
        if kind == "W":
            in_trunk = name.startswith(("encoder", "decoder"))
            gain = gains.get(name, 2.0 if in_trunk and activation == "relu" else 1.0)
            W[:] = rng.normal(0, (gain / len(W)) ** 0.5, W.shape)
