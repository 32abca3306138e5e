"""How much memory a whole training takes, in a process of its own."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import metrics_of

from numpy_vae import VAE, Adam, evaluate_elbo, evaluate_likelihood, fit
from numpy_vae.data import Dataset

pytestmark = pytest.mark.slow

MIB = 1 << 20
KNOWN = Path("/proc/self/status").exists()

# The limit holds for what a process allocates, not for the pages of a file that it reads. What is
# allocated once for all, by the BLAS and for threads, is there when it is set.
LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from numpy_vae import VAE, evaluate_likelihood, fit, load_array, split_validation
from numpy_vae.data import Dataset, fingerprint, readers
from numpy_vae.training.loop import start_output_bias

path, binarize, room = sys.argv[1], sys.argv[2], int(sys.argv[3])

def use(images):
    fingerprint(images)
    images = split_validation(images, 100)
    vae = VAE(images.train.shape[1], (8,), 2, rng=0)
    start_output_bias(vae, images.train)
    fit(vae, images, epochs=1, binarize=binarize, rng=0, threads=2)
    evaluate_likelihood(vae, images.test, samples=1, draw=binarize == "dynamic", rng=0)

few = np.zeros((400, 1024), np.uint8)
use(Dataset("few", few, few))
used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + room, used + room))
try:
    np.ones(Path(path).stat().st_size, np.uint8)
    sys.exit("there is room for the file")
except MemoryError:
    pass
readers.MAPPED = 0
use(load_array(path))
"""


@pytest.mark.skipif(not KNOWN, reason="no /proc: what a process has allocated is not known")
@pytest.mark.parametrize(
    ("dtype", "binarize"), [("f8", "dynamic"), ("u1", "none"), ("?", "threshold")]
)
def test_training_needs_no_memory_for_a_file_that_stays_on_the_disk(tmp_path, dtype, binarize):
    room, d = 40 * MIB, 1024  # the room is for 10 000 images at a time, as float32
    path = tmp_path / "large.npy"
    n = 9 * room // (4 * d * np.dtype(dtype).itemsize)
    images = np.lib.format.open_memmap(path, "w+", dtype, (n, d))
    images[::100, ::3] = 1 if dtype != "u1" else 200  # the rest is a hole in the file, and zero
    del images
    assert path.stat().st_size > 2 * room
    command = [sys.executable, "-c", LIMITED, str(path), binarize, str(room)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not KNOWN, reason="no /proc: what a process has allocated is not known")
def test_training_on_as_many_images_as_mnist_takes_less_than_300_mb(tmp_path):
    rng = np.random.default_rng(0)
    path, out = tmp_path / "large.npz", tmp_path / "run"
    x = rng.integers(0, 256, (70_000, 28, 28), np.uint8)
    y = rng.integers(0, 10, 70_000, np.uint8)
    np.savez(path, x_train=x[10_000:], y_train=y[10_000:], x_test=x[:10_000], y_test=y[:10_000])
    command = [sys.executable, "-m", "numpy_vae", "train", "--data", str(path), "--out", str(out)]
    # Each thread has a gradient, and buffers of the BLAS: two, on a machine of any number of cores.
    # Minibatches of 1000 take less time, and more memory, than those of 128.
    options = ["--epochs", "1", "--batch-size", "1000", "--threads", "2", "--quiet"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    subprocess.run(command + options, check=True, env=environment)
    assert len(list((out / "figures").iterdir())) == 7
    assert metrics_of(out)["peak_memory_mib"] < 300e6 / MIB


@pytest.mark.skipif(not KNOWN, reason="no /proc: what a process has allocated is not known")
def test_the_peak_is_that_of_the_training_and_not_of_the_process_that_started_it(folder):
    held = np.ones(400 * MIB, np.uint8)  # more than such a training takes
    command = [sys.executable, "-m", "numpy_vae", "train", "--data", "small.npy", "--out", "run"]
    subprocess.run([*command, "--epochs", "1", "--quiet"], check=True)
    assert metrics_of("run")["peak_memory_mib"] < held.nbytes / MIB


FAULTS = """
import resource
import numpy as np
from numpy_vae import VAE, Adam
from numpy_vae.memory import keep_freed_memory
from numpy_vae.training.loop import train_step
keep_freed_memory()
vae = VAE(784, (40,), 4, rng=0)
x, eps = np.zeros((1500, 784), np.float32), np.zeros((1500, 4), np.float32)
adam, grads = Adam(vae.params), [vae.params.zeros_like()]
for _ in range(5):
    train_step(vae, adam, x, eps, grads)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    train_step(vae, adam, x, eps, grads)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 5)
"""


@pytest.mark.purity
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_step_uses_the_memory_that_the_one_before_has_freed():
    # A step of 1500 images has arrays of 4.7 MB, 1150 pages each: with fewer than 100 faults none
    # of them is memory that is new to the process.
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100


def test_training_and_evaluation_let_the_process_keep_freed_memory(monkeypatch):
    calls = []
    for name in "training.loop", "training.evaluate", "optim":
        monkeypatch.setattr(f"numpy_vae.{name}.keep_freed_memory", lambda n=name: calls.append(n))
    images = np.zeros((4, 5), np.float32)
    vae = VAE(5, (), 1, rng=0)
    adam = Adam(vae.params)
    assert calls == []
    for _ in range(2):
        adam.step(vae.params.zeros_like())
    assert calls == ["optim"]  # in the first step
    calls.clear()
    evaluate_elbo(vae, images, rng=0)
    evaluate_likelihood(vae, images, samples=1, rng=0)
    assert calls == ["training.evaluate"] * 2
    fit(vae, Dataset("few", images, images), epochs=1, rng=0)
    assert calls == ["training.evaluate"] * 2 + ["training.loop", "training.evaluate"]
