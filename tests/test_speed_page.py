"""docs/speed.md holds the figures that its commands have written, and no path of a machine."""

import argparse
import importlib
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from numpy_vae.team import Team

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
REPORTS = sorted((ROOT / "docs/speed").glob("*.json"))


@pytest.fixture
def script(monkeypatch):
    """The function that imports a benchmark, which is in no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def page(script):
    return script("page")


@pytest.fixture
def settings(script, monkeypatch):
    """The settings that a benchmark would run with, given its options; it ends before it runs."""

    class Parsed(Exception):
        pass

    def settings(name, options):
        parse = argparse.ArgumentParser.parse_args

        def parse_args(parser):
            raise Parsed(parse(parser, options))

        with monkeypatch.context() as patch, pytest.raises(Parsed) as parsed:
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
            runpy.run_path(str(ROOT / f"benchmarks/{name}.py"), run_name="__main__")
        return json.loads(json.dumps(script("harness").settings_of(*parsed.value.args)))

    return settings


def test_the_tables_are_those_of_the_reports(page):
    assert page.filled(PAGE) == PAGE
    with pytest.raises(ValueError, match="has 0 places for the table machine, must be 1"):
        page.filled("")


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_each_report_is_that_of_its_command_and_has_no_path(path, settings):
    (options,) = re.findall(
        rf"^    \.venv/bin/python benchmarks/{path.stem}\.py (.*)$", PAGE, re.MULTILINE
    )
    assert options.split()[-2:] == ["--json", f"docs/speed/{path.name}"]
    report = path.read_text(encoding="utf-8")
    assert json.loads(report)["settings"] == settings(path.stem, options.split())
    assert not re.search(r'"/\w', report)
    assert json.loads(report)["machine"]["cores"] >= 1


def test_the_command_of_the_readme_is_that_of_the_page(page, settings):
    (options,) = re.findall(r"`\.venv/bin/python benchmarks/step\.py ([^`]*)`", README)
    assert page.read("step")["settings"] == settings("step", options.split())


def test_the_readme_has_the_medians_of_the_page(page):
    rows = {
        "this package": "numpy_vae", "its matrix products alone": None,
        "PyTorch eager, default Adam": "PyTorch eager, default Adam",
        "PyTorch eager, fused Adam": "PyTorch eager, fused Adam",
        "`torch.compile`, fused Adam": "torch.compile, fused Adam", "`jax.jit`": "jax.jit",
        "HIPS/autograd": "HIPS/autograd",
    }  # fmt: skip
    batches = page.read("step")["batches"]
    for label, name in rows.items():
        found = [results[name or page.floor(results)] for results in batches.values()]
        medians = [f"{result['median']:.2f}" for result in found]
        assert f"| {label} | {' | '.join(medians)} |" in README


def test_the_floor_is_the_faster_of_its_two_ways(script):
    floor = script("contestants").floor
    slow, fast = {"median": 2.0}, {"median": 1.0}
    ours = {"numpy_vae": {"median": 0.5}}
    alone, split = script("contestants").FLOORS
    for way in alone, split:
        assert floor(ours | {alone: slow, split: slow} | {way: fast}) == way
    assert floor(ours | {split: slow}) == split


def test_two_threads_multiply_the_same_matrices(script):
    maps = [(6, 5, 4), (6, 4, 3)]
    products = [script("contestants").Products(maps, Team(size)) for size in (1, 2)]
    for each in products:
        with each.team:
            each()
    alone, split = (each.results for each in products)
    assert [result.shape for result in alone] == [(6, 4), (5, 4), (6, 3), (4, 3), (6, 4)]
    for one, two in zip(alone, split, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_denormal_numbers_are_counted(script):
    values = np.array([0, 1e-45, -1e-39, 2e-38, 1], np.float32)
    assert script("contestants").denormals(values) == 2


def test_all_take_their_turns_in_every_round_and_ratios_are_paired(script):
    harness, calls = script("harness"), []

    def turn(contestant):
        calls.append(contestant)
        return len(calls)

    found = harness.take_turns({"a": 1, "b": 2, "c": 3}, turn, rounds=20)
    rounds = [calls[i : i + 3] for i in range(0, 60, 3)]
    assert all(sorted(each) == [1, 2, 3] for each in rounds) and len(set(map(tuple, rounds))) > 1
    assert found["b"] == [3 * i + each.index(2) + 1 for i, each in enumerate(rounds)]
    results = harness.with_medians({"a": [1.0, 10.0, 9.0], "b": [2.0, 5.0, 3.0]})
    assert harness.paired(results, "a", "b") == 2.0  # of 1/2, 2 and 3; the medians are 9 and 3
    assert np.isnan(harness.paired(results, "a", "absent"))
