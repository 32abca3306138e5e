"""All that was saved comes back, and nothing else is taken for it."""

import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from numpy_vae import VAE, Adam, load_digits
from numpy_vae.data import split_validation
from numpy_vae.optim import Average
from numpy_vae.runs.checkpoint import load_checkpoint, save_checkpoint
from numpy_vae.seeds import spawn_streams
from numpy_vae.training.evaluate import evaluate_elbo
from numpy_vae.training.loop import continue_training, start_training
from numpy_vae.training.recipe import Recipe
from numpy_vae.training.state import Best, State


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "checkpoint.npz"
    streams = spawn_streams(11)
    vae = VAE(784, (9,), 2, "tanh", rng=streams.initialisation)
    recipe = Recipe(epochs=2, lr=2e-3, binarize="dynamic")
    state, digits = start_training(vae, load_digits(300), recipe, streams)
    history = list(continue_training(state, digits, recipe))
    save_checkpoint(path, state._replace(settings={"data": "digits"}))
    return path, digits, vae, state.adam, streams, history


@pytest.mark.purity
def test_all_that_was_saved_comes_back(run):
    path, _, vae, adam, streams, history = run
    found = load_checkpoint(path)
    assert found.vae.settings == vae.settings and found.history == history
    for one, two in [
        (found.vae.params, vae.params),
        (found.adam.M, adam.M),
        (found.adam.V, adam.V),
    ]:
        np.testing.assert_array_equal(one.flat, two.flat)
        assert one.dtype == two.dtype
    assert found.adam.params is found.vae.params and found.average is found.best is None
    assert found.settings == {"data": "digits"} and found.kept.params is found.vae.params
    assert (found.adam.t, found.adam.lr, found.adam.eps) == (adam.t, adam.lr, adam.eps)
    for one, two in zip(found.streams, streams, strict=True):
        assert one.bit_generator.state == two.bit_generator.state


@pytest.mark.purity
def test_a_run_goes_on_with_the_same_bits(run):
    path, digits, vae, adam, streams, history = run
    recipe, ends = Recipe(epochs=3, binarize="dynamic"), []
    for state in State(vae, adam, streams, list(history)), load_checkpoint(path):
        record = next(continue_training(state, digits, recipe))
        ends.append((record[:7], state.vae.params.flat.tobytes()))
    assert ends[0] == ends[1]


def test_a_checkpoint_of_version_3_is_read(run, tmp_path):
    # Its held-out images were drawn from the streams of another seed.
    training = training_of(run[0])
    names = ("initialisation", "order", "noise", "pixels")
    training |= {
        "version": 3,
        "test_seed": 2**62 + 1,
        "streams": {name: training["streams"][name] for name in names},
    }
    rewrite(run[0], tmp_path / "old.npz", training=np.array(json.dumps(training)))
    old, new = (load_checkpoint(path).streams for path in (tmp_path / "old.npz", run[0]))
    for name in names:
        assert getattr(old, name).random() == getattr(new, name).random()
    expected = np.random.default_rng(2**62 + 1).spawn(6)[4:]
    assert [g.random() for g in old.held_out()] == [g.random() for g in expected]
    assert [g.random() for g in new.held_out()] != [g.random() for g in expected]


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
     {"training": np.array(json.dumps({"version": 99}))}, {"training": np.array("[" * 100_000)},
     {"history": None}, {"history": np.zeros((2, 7))}, {"history": np.zeros(3)},
     {"clock": None}, {"clock": np.zeros((3, 2))}, {"clock": np.zeros((2, 2), np.float32)},
     {"adam.m": np.zeros(5)},
     {"adam.m": np.zeros(1)}, {"adam.v": None}],
    ids=["no-training", "empty", "no-json", "newer", "deep", "no-history", "other-columns",
         "no-table", "no-clock", "longer-clock", "clock-of-another-dtype",
         "moments-of-another-model", "one-moment", "no-moments"],
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


def training_of(path):
    with np.load(path) as arrays:
        return json.loads(str(arrays["training"]))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("version",), 2, "its version is 2, must be 3 or 4"),
        (("version",), 5, "its version is 5, must be 3 or 4"),
        (("version",), 3, "test_seed"),
        (("adam",), {"t": 3, "beta1": 0.9, "beta2": 0.9, "eps": 1e-8}, "lr"),
        (("average",), {}, "eta"),
        (("best",), {"epoch": 3, "elbo": 1.0}, ""),
        (("adam", "t"), -1, "the number of steps is -1, must be a whole number"),
        (("adam", "lr"), "fast", "lr is 'fast', must be a number"),
        (("streams",), {}, "initialisation"),
        (("streams", "noise", "bit_generator"), "MT19937", ""),
        (("streams", "noise", "state", "state"), "x", ""),
        (("best",), {"epoch": -1, "elbo": 1.0}, "the best epoch is -1, must be a whole number"),
        (("best",), {"epoch": 1, "elbo": None}, "its ELBO is None, must be a number"),
        (("average",), {"eta": -3}, "eta is -3, must be a number"),
        (("run",), 3, ""),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_checkpoint_that_does_not_agree_with_itself_is_refused(
    run, tmp_path, place, value, message
):
    training = training_of(run[0])
    at = training
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    rewrite(run[0], tmp_path / "odd.npz", training=np.array(json.dumps(training)))
    with pytest.raises(ValueError, match=r"odd\.npz: not a checkpoint \([^\n]+\)$") as error:
        load_checkpoint(tmp_path / "odd.npz")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("epochs", "message"),
    [([1, 3], r"its epochs are \[1. 3.\], must be 1, 2, ..."), ([0, 1], ""), ([1, np.nan], "")],
    ids=str,
)
def test_a_history_with_a_gap_is_refused(run, tmp_path, epochs, message):
    with np.load(run[0]) as arrays:
        history = arrays["history"]
    history[:, 0] = epochs
    rewrite(run[0], tmp_path / "odd.npz", history=history)
    with pytest.raises(ValueError, match=r"odd\.npz: not a checkpoint \(" + message):
        load_checkpoint(tmp_path / "odd.npz")


def test_moments_of_another_dtype_are_refused(run, tmp_path):
    rewrite(run[0], tmp_path / "odd.npz", **{"adam.m": run[3].M.flat.astype(np.float64)})
    with pytest.raises(ValueError, match=r"adam\.m is float64 \(\d+,\), must be float32 \(\d+,\)"):
        load_checkpoint(tmp_path / "odd.npz")


@pytest.mark.parametrize(
    ("name", "value"), [("params", np.nan), ("adam.m", np.inf), ("adam.v", -1.0), ("clock", np.nan)]
)
def test_numbers_that_no_training_leaves_are_refused(run, tmp_path, name, value):
    with np.load(run[0]) as arrays:
        changed = arrays[name].copy()
    changed.flat[3] = value
    rewrite(run[0], tmp_path / "odd.npz", **{name: changed})
    with pytest.raises(ValueError, match=r"odd\.npz: not a checkpoint \("):
        load_checkpoint(tmp_path / "odd.npz")


@pytest.mark.parametrize("scale", [1e38, 3e38])
def test_parameters_that_overflow_in_the_first_pass_are_refused_by_name(run, tmp_path, scale):
    with np.load(run[0]) as arrays:
        params = np.sign(arrays["params"]) * np.float32(scale)
    rewrite(run[0], tmp_path / "odd.npz", params=params)
    with pytest.raises(ValueError, match=r"odd\.npz: not a checkpoint \(trained holds .* overflow"):
        load_checkpoint(tmp_path / "odd.npz")


@pytest.mark.parametrize(("block", "value"), [("logvar.b", 200), ("mu.W", 1e9), ("output.b", 1e6)])
def test_parameters_that_training_may_leave_are_not_refused(tmp_path, block, value):
    state = started()
    state.vae.params[block][:] = value
    save_checkpoint(tmp_path / "large.npz", state)
    assert load_checkpoint(tmp_path / "large.npz").vae.params[block].max() == np.float32(value)


def test_a_member_that_is_there_twice_is_refused_by_name(run, tmp_path):
    path = tmp_path / "twice.npz"
    path.write_bytes(run[0].read_bytes())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("params.npy", archive.read("params.npy"))
    with pytest.raises(ValueError, match=r"twice\.npz: .*it holds 'params' more than once"):
        load_checkpoint(path)


def test_a_best_epoch_beyond_the_history_is_refused(tmp_path, digits):
    state = started(parts=("best",))
    train(state, digits, 2)
    state.best.epoch = 3
    save_checkpoint(tmp_path / "odd.npz", state)
    with pytest.raises(ValueError, match=r"not a checkpoint \(its best epoch is 3, of 2\)"):
        load_checkpoint(tmp_path / "odd.npz")


def test_the_epoch_that_is_kept_is_the_best_once_there_is_one(digits):
    state = started(parts=("best",))
    state.history.extend([None, None])
    assert state.kept_epoch == 2 and list(state.vectors) == ["trained"]
    state.best.epoch = 1
    assert state.kept_epoch == 1 and list(state.vectors) == ["trained", "best"]
    assert started().kept_epoch == 0


def test_the_settings_of_adam_come_back(run, tmp_path):
    vae = VAE(5, (), 1, rng=0)
    adam = Adam(vae.params, lr=0.5, beta1=0.25, beta2=0.125, eps=0.0625)
    save_checkpoint(tmp_path / "c.npz", State(vae, adam, spawn_streams(0), []))
    found = load_checkpoint(tmp_path / "c.npz").adam
    assert (found.lr, found.beta1, found.beta2, found.eps) == (0.5, 0.25, 0.125, 0.0625)


def test_a_packed_checkpoint_is_refused_before_memory_is_taken(run, tmp_path):
    with np.load(run[0]) as arrays:
        content = dict(arrays)
    np.savez_compressed(tmp_path / "bomb.npz", **content, more=np.zeros(30_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"its arrays are compressed, must be uncompressed"):
        load_checkpoint(tmp_path / "bomb.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_one_of_the_two(tmp_path, digits):
    # As that of a run in training is. A file that is open stays what it was.
    state, path = started(parts=("best",)), tmp_path / "c.npz"
    train(state, digits, 2)
    save_checkpoint(path, state)
    opened = []
    real = open

    def counting(file, *args, **kwargs):
        opened.append(str(file) == str(path))
        return real(file, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.open", counting)
        load_checkpoint(path)
    assert sum(opened) == 1


def test_any_byte_may_be_damaged(run, tmp_path, rng):
    # Also where an archive has no checksum: in its directory, and in the headers of its members.
    whole, path = run[0].read_bytes(), tmp_path / "damaged.npz"
    intact = load_checkpoint(run[0])
    with zipfile.ZipFile(run[0]) as archive:
        headers = [info.header_offset for info in archive.infolist()]
        directory = archive.start_dir
    near = np.concatenate([np.arange(start, start + 200) for start in headers])
    places = np.concatenate(
        [
            rng.choice(near, 150),
            rng.integers(directory, len(whole), 150),
            rng.integers(len(whole), size=100),
        ]
    )
    refused = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            found = load_checkpoint(path)
            assert found.history == intact.history  # it was a byte that nobody reads
            for one, two in (found.vae.params, intact.vae.params), (found.adam.V, intact.adam.V):
                np.testing.assert_array_equal(one.flat, two.flat)
        except ValueError as error:
            assert "\n" not in str(error) and str(error).startswith(str(path))
            refused += 1
    assert refused > 100


# With an average --------------------------------------------------------------------------------

SETTINGS = {
    "epochs": 5, "batch_size": 15, "schedule": "cosine", "warmup": 4, "bound": "iwae",
    "samples": 3, "binarize": "dynamic", "evaluate_every": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return split_validation(load_digits(300), 50)


def started(likelihood="bernoulli", parts=("average",)):
    """Return a run before its first step."""
    streams = spawn_streams(11)
    vae = VAE(784, (9,), 2, "tanh", likelihood, rng=streams.initialisation)
    adam, average, best = Adam(vae.params, lr=2e-3), Average(vae.params, eta=5.0), Best(vae.params)
    return State(vae, adam, streams, [], average if "average" in parts else None,
                      best if "best" in parts else None)  # fmt: skip


def train(state, digits, stop=None):
    """Go on with a run up to the end of epoch `stop`, and leave the clock at zero."""
    for record in continue_training(state, digits, Recipe(**SETTINGS)):
        state.history[-1] = record._replace(seconds=0.0, test_seconds=0.0)
        if record.epoch == stop:
            break


@pytest.mark.parametrize("likelihood", ["bernoulli", "learned_gaussian"])
@pytest.mark.parametrize("parts", [(), ("average",), ("best",), ("average", "best")], ids=str)
@pytest.mark.parametrize("stops", [(0,), (1,), (2,), (4,), (0, 1, 2, 3, 4)], ids=str)
@pytest.mark.purity
def test_a_run_that_was_stopped_leaves_the_bytes_of_one_that_was_not(
    tmp_path, digits, stops, parts, likelihood
):
    whole, state, path = started(likelihood, parts), started(likelihood, parts), tmp_path / "c.npz"
    train(whole, digits)
    for stop in stops:
        if stop:
            train(state, digits, stop)
        save_checkpoint(path, state)
        state = load_checkpoint(path)
        assert len(state.history) == stop and state.adam.params is state.vae.params
        assert state.average is None or state.average.params is state.vae.params
    train(state, digits)

    assert state.history == whole.history
    assert [sorted(r.held_out()) for r in state.history] == [
        [], ["validation"], [], ["validation"], ["validation"]
    ]  # fmt: skip
    save_checkpoint(path, state)
    save_checkpoint(tmp_path / "whole.npz", whole)
    assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    with np.load(path) as arrays:
        names = set(arrays) - {"settings", "params", "training", "history", "clock"}
    assert names == {"adam.m", "adam.v", *["trained", "average", "best"][: len(parts)]} - (
        {"average"} if parts == ("best",) else set()
    )


def test_only_the_clock_differs_between_two_runs(tmp_path, digits):
    content = []
    for seconds in 1.0, 2.0:
        state = started(parts=("average", "best"))
        train(state, digits, 2)
        state.history[:] = [record._replace(seconds=seconds) for record in state.history]
        save_checkpoint(tmp_path / "c.npz", state)
        with zipfile.ZipFile(tmp_path / "c.npz") as archive:
            content.append({name: archive.read(name) for name in archive.namelist()})
        assert [r.seconds for r in load_checkpoint(tmp_path / "c.npz").history] == [seconds] * 2
    assert [name for name in content[0] if content[0][name] != content[1][name]] == ["clock.npy"]


def test_the_best_epoch_is_kept_once_there_is_one(tmp_path, digits):
    state, path = started(parts=("average", "best")), tmp_path / "c.npz"
    for stop, kept in (1, "average"), (2, "best"), (3, "best"):
        train(state, digits, stop)
        save_checkpoint(path, state)
        found = load_checkpoint(path)
        expected = state.best.params if kept == "best" else state.average.mean
        np.testing.assert_array_equal(VAE.load(path).params.flat, expected.flat)
        np.testing.assert_array_equal(found.kept.params.flat, expected.flat)
        np.testing.assert_array_equal(found.average.mean.flat, state.average.mean.flat)
        np.testing.assert_array_equal(found.vae.params.flat, state.vae.params.flat)
        assert (found.best.epoch, found.best.elbo) == (state.best.epoch, state.best.elbo)
        assert found.best.epoch == (0 if stop == 1 else 2)
    assert not np.array_equal(state.best.params.flat, state.average.mean.flat)  # of epochs 2 and 3


@pytest.fixture(scope="module")
def with_average(tmp_path_factory, digits):
    path, state = tmp_path_factory.mktemp("average") / "checkpoint.npz", started()
    train(state, digits, stop=2)
    before = state.vae.params.flat.copy()
    save_checkpoint(path, state)
    np.testing.assert_array_equal(state.vae.params.flat, before)  # saving is no change
    return path, state


@pytest.mark.purity
def test_the_model_in_the_file_is_the_one_that_was_evaluated(with_average, digits):
    path, state = with_average
    model = VAE.load(path)
    np.testing.assert_array_equal(model.params.flat, state.average.mean.flat)
    assert not np.array_equal(model.params.flat, state.vae.params.flat)
    elbo = evaluate_elbo(model, digits.validation, draw=True, rng=11)
    assert elbo == state.history[-1].held_out()["validation"]


@pytest.mark.purity
def test_the_trained_parameters_and_the_average_come_back_apart(with_average):
    path, state = with_average
    found = load_checkpoint(path)
    np.testing.assert_array_equal(found.vae.params.flat, state.vae.params.flat)
    np.testing.assert_array_equal(found.average.mean.flat, state.average.mean.flat)
    assert found.average.params is found.vae.params is found.adam.params
    assert not np.shares_memory(found.average.mean.flat, found.vae.params.flat)
    assert found.average.mean.dtype == np.float32 and found.average.eta == state.average.eta


@pytest.mark.parametrize(
    "trained", [None, np.ones(1), np.ones(5)], ids=["none", "one-number", "another-model"]
)
def test_an_average_without_what_is_trained_is_refused(with_average, tmp_path, trained):
    rewrite(with_average[0], tmp_path / "odd.npz", trained=trained)
    with pytest.raises(ValueError, match=r"odd\.npz: not a checkpoint \([^\n]*trained[^\n]*\)$"):
        load_checkpoint(tmp_path / "odd.npz")
