"""What README.md says is what the package does, and what the other pages say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from numpy_vae import VAE
from numpy_vae.study import STUDIES, page_of

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def cells(text, name):
    """Return the other cells of the table row whose first cell is `name`."""
    (row,) = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", text, re.MULTILINE)
    return [cell.strip(" *") for cell in row.split("|")]


def test_the_two_commands_are_one_line_each_and_do_the_set_up():
    commands = blocks("sh")
    assert len(commands) == 2 and all(command.count("\n") == 1 for command in commands)
    for command in commands:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert commands[0].endswith("&& .venv/bin/numpy-vae train\n")
    assert commands[1].endswith("&& .venv/bin/pytest -n auto --dist loadfile\n")


@pytest.mark.slow
def test_the_python_example_runs(tmp_path):
    code = next(block for block in blocks("python") if "load_digits" in block)
    assert len([line for line in code.splitlines() if line]) <= 20
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    *epochs, last = result.stdout.splitlines()
    assert [line[:9] for line in epochs] == [f"epoch {epoch}/5" for epoch in range(1, 6)]
    assert re.fullmatch(r"-\d+\.\d+ nats per image", last)
    assert VAE.load(tmp_path / "vae.npz").latent_dim == 8


def test_the_cost_of_the_tie_is_that_of_the_page():
    page = (ROOT / "docs" / "study" / page_of(STUDIES["tied"])).read_text(encoding="utf-8")
    of_mnist = page.split("<!-- mnist -->")[1].split("<!-- end -->")[0]
    elbos = re.findall(r"^\| (free|tied) \| \d \| (-[\d.]+) \|", of_mnist, re.MULTILINE)
    free, tied = ([float(e) for head, e in elbos if head == kind] for kind in ("free", "tied"))
    costs = " and ".join(f"{a - b:.1f}" for a, b in zip(free, tied, strict=True))
    assert f"It costs {costs} nats per image" in " ".join(README.split())


def test_the_results_are_those_of_the_page():
    label = "784-400-20 on grey pixels, 10 epochs, mean of 3 seeds"
    _, mean, published, seconds = cells(README, label)
    grey = [cells(RESULTS, f"grey-{seed}") for seed in range(3)]
    assert f"Mean of the 3: {mean}." in RESULTS
    assert mean == f"{sum(float(loss) for _, loss, *_ in grey) / 3:.2f}"  # of what is shown
    assert {row[2] for row in grey} == {published}
    times = sorted(int(row[3].removesuffix(" s")) for row in grey)
    assert seconds == f"{times[0]} to {times[-1]} s"
    for start, name in {
        "784-200-200-50, dynamic binarisation, 1100 epochs": "dynamic-k1",
        "the same, IWAE with 5 samples, 100 epochs": "dynamic-k5-100",
    }.items():
        what, _, nll, *_, theirs, training, _ = cells(RESULTS, name)
        assert cells(README, start)[1:] == [nll, theirs, training]
        assert re.search(r"\d+ epochs", what)[0] in start


def test_there_is_no_formula_that_a_package_index_would_show_raw():
    assert "$" not in README
