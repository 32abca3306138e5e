"""docs/speed.md holds the figures that the benchmarks have written, and no path of a machine."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/speed.md").read_text(encoding="utf-8")


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import page

    yield page
    sys.modules.pop("page")


def test_the_tables_are_those_of_the_reports(page):
    assert page.filled(PAGE) == PAGE
    with pytest.raises(ValueError, match="has 0 places for the table machine, must be 1"):
        page.filled("")


def test_each_report_has_its_command_and_no_path():
    for path in (ROOT / "docs/speed").glob("*.json"):
        report = path.read_text(encoding="utf-8")
        assert f"benchmarks/{path.stem}.py" in PAGE and f"--json docs/speed/{path.name}" in PAGE
        assert not re.search(r'"/\w', report), path.name
        assert json.loads(report)["machine"]["cores"] >= 1


def test_the_readme_has_the_medians_of_the_page(page):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {
        "this package": "numpy_vae", "its matrix products alone": "matrix products",
        "PyTorch eager, default Adam": "PyTorch eager, default Adam",
        "PyTorch eager, fused Adam": "PyTorch eager, fused Adam",
        "`torch.compile`, fused Adam": "torch.compile, fused Adam", "`jax.jit`": "jax.jit",
        "HIPS/autograd": "HIPS/autograd",
    }  # fmt: skip
    batches = page.read("step")["batches"]
    for label, name in rows.items():
        medians = [f"{results[name]['median']:.2f}" for results in batches.values()]
        assert f"| {label} | {' | '.join(medians)} |" in readme
