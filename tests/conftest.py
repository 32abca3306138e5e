"""What all tests share."""

import contextlib
import os

# The matrices of the tests are small, and threads that wait for one another on a busy machine make
# them many times slower. Before NumPy is imported, here and in the processes that tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        # They run the experiments, and a browser.
        if item.path.name in ("test_study.py", "test_explorer.py"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def rng():
    return np.random.default_rng(20_131_220)


@pytest.fixture
def folder(request, tmp_path, monkeypatch):
    """Work in an empty folder, with 60 small images in it and no MNIST in reach.

    ``numpy-vae train`` draws no figures there, which takes a second, but for tests marked so.
    """
    if request.node.get_closest_marker("figures") is None:
        monkeypatch.setattr("numpy_vae.runs.run.draw_figures", lambda *args: [])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NUMPY_VAE_DATA", raising=False)
    monkeypatch.setattr("numpy_vae.data.mnist.cache_folder", lambda: tmp_path / "cache")
    np.save("small.npy", np.random.default_rng(0).random((60, 4, 5)).astype(np.float32))
    return tmp_path


@pytest.fixture
def dies_after(monkeypatch):
    """Return a context in which a training of the command line dies after so many epochs."""
    from numpy_vae.runs import directory as runs

    write = runs.write_history

    @contextlib.contextmanager
    def dies_after(epochs):
        def dies(own, history):
            write(own, history)
            if len(history) == epochs:
                raise SystemError("killed")

        with monkeypatch.context() as patch, pytest.raises(SystemError):
            patch.setattr(runs, "write_history", dies)
            yield

    return dies_after
