"""Cost of a checkpoint, as a share of an epoch of MNIST.

    python benchmarks/checkpoint.py              784-400-20, 8 epochs: half a minute

After each epoch, the checkpoint and the history are written five times, as ``numpy-vae train``
writes them, and the medians are compared: with three vectors (the parameters and Adam's moments),
and with five (an average and a best epoch, too).
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from numpy_vae import VAE, load_mnist, split_validation
from numpy_vae.files import CHECKPOINT
from numpy_vae.runs.directory import save_run
from numpy_vae.runs.owned import OwnFiles
from numpy_vae.seeds import spawn_streams
from numpy_vae.training.loop import continue_training, start_training
from numpy_vae.training.recipe import Recipe


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a checkpoint.")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=400)
    parser.add_argument("--data-dir")
    parser.add_argument("--folder", help="parent of the temporary folder (default: the system's)")
    args = parser.parse_args()
    data = split_validation(load_mnist(args.data_dir), 5000)
    print(f"{os.cpu_count()} cores, OPENBLAS_NUM_THREADS={os.getenv('OPENBLAS_NUM_THREADS', '')}")
    for everything in False, True:
        streams = spawn_streams(0)
        vae = VAE(784, (args.hidden,), 20, rng=streams.initialisation)
        kept = 5000 if everything else 0
        recipe = Recipe(args.epochs, binarize="dynamic", average=everything, validation=kept)
        state, split = start_training(vae, data, recipe, streams)
        epochs, saves = [], []
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            for record in continue_training(state, split, recipe):
                epochs.append(record.seconds)
                for _ in range(5):
                    start = time.perf_counter()
                    save_run(OwnFiles(Path(folder)), state)
                    saves.append(time.perf_counter() - start)
            size = Path(folder, CHECKPOINT).stat().st_size
        print(
            f"784-{args.hidden}-20{', average, best' if everything else ''}: "
            f"epoch {median(epochs):.3f} s, checkpoint of {size / 1e6:.1f} MB "
            f"{1e3 * median(saves):.1f} ms (slowest of {len(saves)}: {1e3 * max(saves):.1f} ms), "
            f"{100 * median(saves) / median(epochs):.2f} % of the epoch",
            flush=True,
        )


if __name__ == "__main__":
    main()
