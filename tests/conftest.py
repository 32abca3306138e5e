"""What all tests share."""

import os

# The matrices of the tests are small, and threads that wait for one another on a busy machine make
# them many times slower. Before NumPy is imported, here and in the processes that tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(20_131_220)
