"""What the pages of docs/ say is so: their code runs, their lines and links are there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from numpy_vae.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md")),
]  # fmt: skip


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text):
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def rows(text):
    """Return the rows of the first table of a text, without its heading."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [line.strip("|").split("|") for line in lines][1:]


SOURCE = " ".join(
    " ".join(path.read_text(encoding="utf-8").split()) for path in (ROOT / "numpy_vae").glob("*.py")
)
LINES = [
    line
    for row in rows(page("docs/equations.md"))
    for line in re.findall(r"`([^`]*)`", "|".join(row))
]


@pytest.mark.parametrize("line", LINES)
def test_each_line_beside_an_equation_is_in_the_package(line):
    assert line in SOURCE


def test_the_equations_have_their_lines():
    assert len(LINES) >= 20


def test_every_module_is_listed():
    modules = page("docs/README.md").split("## The modules, in reading order\n")[1]
    named = "".join(row[0] for row in rows(modules.split("\n## ")[0]))
    there = {path.name for path in (ROOT / "numpy_vae").glob("*.py")}
    assert set(re.findall(r"`(\w+\.py)`", named)) == there - {"__init__.py"}
    folders = {path.parent.name for path in (ROOT / "numpy_vae").glob("*/__init__.py")}
    assert set(re.findall(r"`(\w+)/`", named)) == folders


def test_every_page_and_every_script_is_listed():
    index = page("docs/README.md")
    for path in PAGES[4:]:
        assert path.name == "README.md" or f"]({path.name})" in index
    for path in (ROOT / "benchmarks").glob("*.py"):
        assert f"[{path.name}]({path.name})" in page("benchmarks/README.md")
    for path in (ROOT / "docs" / "make").glob("*.py"):
        assert f"| `docs/make/{path.name}` |" in page("CONTRIBUTING.md")


def test_every_command_is_named():
    for command in COMMANDS:
        name = command.__name__.split(".")[-1]
        assert f".venv/bin/numpy-vae {name} " in page("docs/training.md")


@pytest.mark.slow
def test_the_run_from_python_is_one(tmp_path):
    (code,) = blocks(page("docs/training.md"))
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    *epochs, elbo = result.stdout.splitlines()
    assert len(epochs) == 3 and -250 < float(elbo) < -60
    assert (tmp_path / "runs/mine/metrics.json").exists()


def test_the_foreign_function_fails_as_printed_and_passes_when_mended():
    text = page("docs/gradcheck.md")
    code, layer = blocks(text)
    subprocess.run([sys.executable, "-c", layer], check=True)
    expected = text[text.index("      worst entry") :].split("```")[0].splitlines()
    mended = code.replace("(1 - y)  ", "(1 - y * y)  ")
    (call,) = re.findall(r"`(central_difference\(.*)`", text)
    plain = f"\nfrom numpy_vae.gradcheck import central_difference\nprint({call})"
    for script, verdict in (code, "FAIL"), (mended, "ok"):
        result = subprocess.run(
            [sys.executable, "-c", script + plain], capture_output=True, text=True, check=True
        )
        *shown, slope = result.stdout.splitlines()
        assert [line.split()[0] for line in shown[1:]] == [verdict, verdict]
        if verdict == "FAIL":
            assert shown == expected and f"{float(slope):+.8e}" in expected[2]


def anchors(path):
    """Return what a link may name after #: headings as GitHub spells them, and ids."""
    text = path.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    spelled = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
    return {*spelled, *re.findall(r'<a id="([^"]*)">', text)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    text = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        name, _, anchor = link.partition("#")
        there = path.parent / name if name else path
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link
