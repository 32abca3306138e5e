"""The small script: small, and it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "train_mnist.py"


def test_the_small_script_is_small():
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 80


@pytest.mark.slow
def test_the_small_script_trains_and_draws(tmp_path):
    result = subprocess.run(
        [sys.executable, SCRIPT, "--epochs", "2", "--picture", "out.png"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    first, second = result.stdout.splitlines()
    assert first.startswith("epoch 1: train ELBO -") and "nats per image" in second
    elbos = [float(line.split("test ELBO ")[1].split()[0]) for line in (first, second)]
    assert -250 < elbos[0] < elbos[1] < -60
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
