"""All that was saved comes back, and nothing else is taken for it."""

import json

import numpy as np
import pytest

from numpy_vae import VAE, Adam, load_digits, train_epochs
from numpy_vae.checkpoint import load_checkpoint, save_checkpoint
from numpy_vae.data import split_validation
from numpy_vae.evaluate import evaluate_elbo
from numpy_vae.optim import Average
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
    assert found.adam.params is found.vae.params and found.average is None
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


# With an average --------------------------------------------------------------------------------

SETTINGS = {
    "epochs": 5, "batch_size": 15, "schedule": "cosine", "warmup": 4, "bound": "iwae",
    "samples": 3, "binarize": "dynamic", "evaluate_every": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return split_validation(load_digits(300), 50)


def started(likelihood="bernoulli"):
    """Return a model, its optimiser, its streams and its average before the first step."""
    streams = spawn_streams(11)
    vae = VAE(784, (9,), 2, "tanh", likelihood, rng=streams.initialisation)
    return vae, Adam(vae.params, lr=2e-3), streams, Average(vae.params, eta=5.0)


def train(vae, adam, streams, average, digits, done=0, stop=None):
    """Return the records of the epochs after `done`, up to `stop`, without the times."""
    records = train_epochs(
        vae, digits, rng=streams, adam=adam, average=average, done=done, **SETTINGS
    )
    found = []
    for record in records:
        found.append(record._replace(seconds=0.0, test_seconds=0.0))
        if record.epoch == stop:
            break
    return found


@pytest.mark.parametrize("likelihood", ["bernoulli", "learned_gaussian"])
@pytest.mark.parametrize("stops", [(1,), (2,), (4,), (1, 2, 3, 4)], ids=str)
@pytest.mark.purity
def test_a_run_that_was_stopped_ends_like_one_that_was_not(tmp_path, digits, stops, likelihood):
    whole = started(likelihood)
    expected = train(*whole, digits)

    path = tmp_path / "checkpoint.npz"
    vae, adam, streams, average = started(likelihood)
    history = []
    for stop in stops:
        history += train(vae, adam, streams, average, digits, len(history), stop)
        save_checkpoint(path, vae, adam, streams, history, average)
        vae, adam, streams, history, average = load_checkpoint(path)
        assert (len(history), average.params) == (stop, vae.params)
    history += train(vae, adam, streams, average, digits, len(history))

    assert history == expected
    assert [sorted(r.held_out()) for r in history] == [
        [], ["validation"], [], ["validation"], ["test", "validation"]
    ]  # fmt: skip
    for one, two in [
        (vae.params, whole[0].params),
        (adam.m, whole[1].m),
        (adam.v, whole[1].v),
        (average.mean, whole[3].mean),
    ]:
        np.testing.assert_array_equal(one.flat, two.flat)
    assert (adam.t, average.eta) == (whole[1].t, 5.0)
    for name in ("initialisation", "order", "noise", "pixels"):
        states = [getattr(s, name).bit_generator.state for s in (streams, whole[2])]
        assert states[0] == states[1]


@pytest.fixture(scope="module")
def with_average(tmp_path_factory, digits):
    path = tmp_path_factory.mktemp("average") / "checkpoint.npz"
    vae, adam, streams, average = started()
    history = train(vae, adam, streams, average, digits, stop=2)
    before = vae.params.flat.copy()
    save_checkpoint(path, vae, adam, streams, history, average)
    np.testing.assert_array_equal(vae.params.flat, before)  # saving is no change
    return path, vae, average, history, streams


@pytest.mark.purity
def test_the_model_in_the_file_is_the_one_that_was_evaluated(with_average, digits):
    path, vae, average, history, streams = with_average
    model = VAE.load(path)
    np.testing.assert_array_equal(model.params.flat, average.mean.flat)
    assert not np.array_equal(model.params.flat, vae.params.flat)
    elbo = evaluate_elbo(model, digits.validation, binarize="dynamic", rng=streams.test_seed)
    assert elbo == history[-1].held_out()["validation"]


@pytest.mark.purity
def test_the_trained_parameters_and_the_average_come_back_apart(with_average):
    path, vae, average, *_ = with_average
    found = load_checkpoint(path)
    np.testing.assert_array_equal(found.vae.params.flat, vae.params.flat)
    np.testing.assert_array_equal(found.average.mean.flat, average.mean.flat)
    assert found.average.params is found.vae.params is found.adam.params
    assert not np.shares_memory(found.average.mean.flat, found.vae.params.flat)
    assert found.average.mean.dtype == np.float32 and found.average.eta == average.eta


@pytest.mark.parametrize(
    "trained", [None, np.ones(1), np.ones(5)], ids=["none", "one-number", "another-model"]
)
def test_an_average_without_what_is_trained_is_refused(with_average, tmp_path, trained):
    rewrite(with_average[0], tmp_path / "odd.npz", trained=trained)
    with pytest.raises(ValueError, match=r"odd\.npz: not a checkpoint \([^\n]*trained[^\n]*\)$"):
        load_checkpoint(tmp_path / "odd.npz")
