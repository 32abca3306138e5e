"""Which blocks there are, and the values they start from."""

import numpy as np
import pytest

from numpy_vae import VAE
from numpy_vae.blocks import block_shapes


@pytest.mark.mathematics
def test_the_decoder_mirrors_the_encoder():
    assert block_shapes(11, (6, 7), 3) == {
        "encoder.0.W": (11, 6), "encoder.0.b": (6,), "encoder.1.W": (6, 7), "encoder.1.b": (7,),
        "mu.W": (7, 3), "mu.b": (3,), "logvar.W": (7, 3), "logvar.b": (3,),
        "decoder.0.W": (3, 7), "decoder.0.b": (7,), "decoder.1.W": (7, 6), "decoder.1.b": (6,),
        "output.W": (6, 11), "output.b": (11,),
    }  # fmt: skip


def test_the_linear_model_has_three_layers():
    assert list(block_shapes(11, (), 3)) == [
        "mu.W", "mu.b", "logvar.W", "logvar.b", "output.W", "output.b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("activation", "hidden", "gains"),
    [
        ("relu", (400, 300), {"encoder.0": 2, "encoder.1": 2, "decoder.0": 0.1, "decoder.1": 2}),
        ("tanh", (400, 300), {"encoder.0": 1, "encoder.1": 1, "decoder.0": 0.1, "decoder.1": 1}),
        ("relu", (), {"output": 0.1}),
    ],
    ids=["relu", "tanh", "linear"],
)
@pytest.mark.mathematics
def test_the_initial_weights(activation, hidden, gains):
    vae = VAE(784, hidden, 60, activation, rng=3)
    gains = {"mu": 0.1, "logvar": 0, "output": 1} | gains
    found = {
        name.removesuffix(".W"): len(block) * (block**2).mean()
        for name, block in vae.params.items()
        if name.endswith(".W")
    }
    assert found == pytest.approx(gains, rel=0.05)
    assert not any(vae.params[name].any() for name in vae.params if name.endswith(".b"))
    x = np.random.default_rng(0).random((5, 784))
    assert not vae.encode(x)[1].any()  # sigma = 1


def test_the_seed_decides():
    flat = VAE(784, rng=3).params.flat
    assert flat.shape == (652_824,) and flat.dtype == np.float32
    np.testing.assert_array_equal(VAE(784, rng=3).params.flat, flat)
    assert not np.array_equal(VAE(784, rng=4).params.flat, flat)


def test_it_is_the_sum_of_the_blocks_that_is_bounded():
    assert sum(np.prod(shape) for shape in block_shapes(1, (10_000,) * 2, 1).values()) > 2e8
    message = "of parameters is 400110003, must be a whole number from 1 to 268435456"
    with pytest.raises(ValueError, match=message):
        block_shapes(1, (10_000,) * 3, 1)
