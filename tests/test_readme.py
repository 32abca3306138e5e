"""What README.md says is what the package does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from numpy_vae import VAE
from numpy_vae.__main__ import COMMANDS
from numpy_vae.study import STUDIES, page_of

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_two_commands_are_one_line_each_and_do_the_set_up():
    commands = blocks("sh")
    assert len(commands) == 2 and all(command.count("\n") == 1 for command in commands)
    for command in commands:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert commands[0].endswith("&& .venv/bin/numpy-vae train\n")
    assert commands[1].endswith("&& .venv/bin/pytest -n auto --dist loadfile\n")


def table(heading):
    rows = README.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    return [row.strip("|").split("|") for row in rows if row.startswith("| ")][1:]


SOURCE = " ".join(
    " ".join(path.read_text(encoding="utf-8").split()) for path in (ROOT / "numpy_vae").glob("*.py")
)
LINES = [
    line
    for row in table("Equation, forward line, backward line")
    for line in re.findall(r"`([^`]*)`", "|".join(row))
]


@pytest.mark.parametrize("line", LINES)
def test_each_line_of_the_table_stands_in_the_package(line):
    assert line in SOURCE


def test_the_table_has_its_lines():
    assert len(LINES) >= 20


def test_every_module_is_listed():
    named = "".join(row[0] for row in table("The modules, in reading order"))
    modules = {path.name for path in (ROOT / "numpy_vae").glob("*.py")}
    assert set(re.findall(r"`(\w+\.py)`", named)) == modules - {"__init__.py"}
    assert "`commands/`" in named and "`study/`" in named


def test_every_command_is_named():
    for command in COMMANDS:
        name = command.__name__.split(".")[-1]
        assert f".venv/bin/numpy-vae {name} " in README or f"`numpy-vae {name}`" in README


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


def test_the_foreign_function_fails_as_printed_and_passes_when_mended():
    code = next(block for block in blocks("python") if "print(gradcheck(f," in block)
    expected = README[README.index("      worst entry") :].split("```")[0].splitlines()
    mended = code.replace("(1 - y)  ", "(1 - y * y)  ")
    (call,) = re.findall(r"`(central_difference\(.*)`", README)
    plain = f"\nfrom numpy_vae.gradcheck import central_difference\nprint({call})"
    for text, verdict in (code, "FAIL"), (mended, "ok"):
        result = subprocess.run(
            [sys.executable, "-c", text + plain], capture_output=True, text=True, check=True
        )
        *shown, slope = result.stdout.splitlines()
        assert [line.split()[0] for line in shown[1:]] == [verdict, verdict]
        if verdict == "FAIL":
            assert shown == expected and f"{float(slope):+.8e}" in expected[2]


def test_the_questions_of_the_study_are_listed():
    listed = re.findall(r"^\d+\. \[(.*)\]\(docs/study/(.*)\)$", README, re.MULTILINE)
    assert listed == [(study.question, page_of(study)) for study in STUDIES.values()]


def test_the_cost_of_the_tie_is_that_of_the_page():
    page = (ROOT / "docs" / "study" / page_of(STUDIES["tied"])).read_text(encoding="utf-8")
    of_mnist = page.split("<!-- mnist -->")[1]
    elbos = re.findall(r"^\| [^|]*(head|mu)[^|]* \| \d \| (-[\d.]+) \|", of_mnist, re.MULTILINE)
    free, tied = ([float(e) for head, e in elbos if head == kind] for kind in ("head", "mu"))
    costs = " and ".join(f"{a - b:.1f}" for a, b in zip(free, tied, strict=True))
    assert f"It costs {costs} nats per image" in " ".join(README.split())


def test_every_link_into_the_repository_leads_somewhere():
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert links and all((ROOT / link).exists() for link in links)
