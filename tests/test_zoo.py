"""Layers from the textbooks: a right gradient never fails, a wrong one never passes.

benchmarks/gradcheck_zoo.py plants every error at every seed, and asks other packages as well.
"""

import numpy as np
import pytest
from zoo import ZOO

from numpy_vae import gradcheck_layer

by_each_method = pytest.mark.parametrize(
    ("case", "method"),
    [pytest.param(case, m, id=f"{case.name}-{m}") for case in ZOO for m in case.methods],
)
SEEDS = 20


def check(case, backward, method, seed):
    inputs = case.inputs(np.random.default_rng(seed))
    return gradcheck_layer(case.forward, backward, inputs, method=method, rng=seed)


@pytest.mark.gradient
@by_each_method
def test_a_right_gradient_passes(case, method):
    check(case, case.backward, method, 0).raise_if_wrong()


@pytest.mark.gradient
@pytest.mark.slow
@by_each_method
def test_a_right_gradient_never_fails(case, method):
    for seed in range(1, SEEDS):
        check(case, case.backward, method, seed).raise_if_wrong()


@pytest.mark.gradient
@pytest.mark.slow
@by_each_method
def test_a_wrong_gradient_never_passes(case, method):
    for seed, kind in enumerate(case.errors):
        report = check(case, case.wrong(kind), method, seed)
        assert not report.ok, f"{kind}, seed {seed}\n{report}"


def test_each_layer_has_a_name_of_its_own_and_five_errors():
    assert len({case.name for case in ZOO}) == len(ZOO) >= 30
    for case in ZOO:
        assert len(case.errors) >= 5


def test_what_is_zero_within_rounding_says_so():
    said = {
        case.name: [
            row.name for row in check(case, case.backward, "central", 0) if "0 within" in row.note
        ]
        for case in ZOO
    }
    assert {name: blocks for name, blocks in said.items() if blocks} == {
        "a bias before batch norm": ["b"],
        "the sum of batch norm": ["x"],
        "a shift before softmax": ["shift"],
        "attention": ["bk"],
    }
