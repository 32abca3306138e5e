"""All that was saved comes back, and nothing else is taken for it."""

import json

import numpy as np
import pytest

from numpy_vae import VAE, Adam, load_digits, train_epochs
from numpy_vae.checkpoint import load_checkpoint, save_checkpoint
from numpy_vae.train import spawn_streams


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "checkpoint.npz"
    streams = spawn_streams(11)
    vae = VAE(784, (9,), 2, "tanh", rng=streams.initialisation)
    adam = Adam(vae.params, lr=2e-3)
    digits = load_digits(300)
    history = list(train_epochs(vae, digits, epochs=2, binarize="dynamic", rng=streams, adam=adam))
    save_checkpoint(path, vae, adam, streams, history)
    return path, digits, vae, adam, streams, history


@pytest.mark.purity
def test_all_that_was_saved_comes_back(run):
    path, _, vae, adam, streams, history = run
    found = load_checkpoint(path)
    assert found.vae.settings == vae.settings and found.history == history
    for one, two in [
        (found.vae.params, vae.params),
        (found.adam.m, adam.m),
        (found.adam.v, adam.v),
    ]:
        np.testing.assert_array_equal(one.flat, two.flat)
        assert one.dtype == two.dtype
    assert found.adam.params is found.vae.params
    assert (found.adam.t, found.adam.lr, found.adam.eps) == (adam.t, adam.lr, adam.eps)
    assert found.streams.test_seed == streams.test_seed
    for name in ("initialisation", "order", "noise", "pixels"):
        one, two = getattr(found.streams, name), getattr(streams, name)
        assert one.bit_generator.state == two.bit_generator.state


@pytest.mark.purity
def test_a_run_goes_on_with_the_same_bits(run):
    path, digits, vae, adam, streams, _ = run
    found = load_checkpoint(path)
    ends = []
    for model, optimiser, numbers in [(vae, adam, streams), found[:3]]:
        history = train_epochs(
            model, digits, epochs=1, binarize="dynamic", rng=numbers, adam=optimiser
        )
        ends.append((next(iter(history))[:7], model.params.flat.tobytes()))
    assert ends[0] == ends[1]


def test_the_model_can_be_loaded_from_it(run):
    path, _, vae, *_ = run
    assert VAE.load(path).settings == vae.settings


def rewrite(path, target, **changes):
    with np.load(path) as arrays:
        content = {name: arrays[name] for name in arrays} | changes
    np.savez(target, **{name: value for name, value in content.items() if value is not None})


@pytest.mark.parametrize(
    "changes",
    [{"training": None}, {"training": np.array("{}")}, {"training": np.array("not json")},
     {"training": np.array(json.dumps({"version": 99}))}, {"adam.m": np.zeros(5)},
     {"adam.m": np.zeros(1)}, {"adam.v": None}],
    ids=["no-training", "empty", "no-json", "newer", "moments-of-another-model", "one-moment",
         "no-moments"],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused_by_name(run, tmp_path, changes):
    rewrite(run[0], tmp_path / "odd.npz", **changes)
    with pytest.raises(ValueError, match=r"odd\.npz: not a checkpoint \([^\n]*\)$"):
        load_checkpoint(tmp_path / "odd.npz")


def test_a_checkpoint_without_a_stream_is_refused(run, tmp_path):
    training = json.loads(str(np.load(run[0])["training"]))
    del training["streams"]["noise"]
    rewrite(run[0], tmp_path / "odd.npz", training=np.array(json.dumps(training)))
    with pytest.raises(ValueError, match=r"odd\.npz: not a checkpoint \('noise'\)$"):
        load_checkpoint(tmp_path / "odd.npz")


def test_a_truncated_checkpoint_is_refused(run, tmp_path):
    (tmp_path / "cut.npz").write_bytes(run[0].read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cut\.npz: "):
        load_checkpoint(tmp_path / "cut.npz")
