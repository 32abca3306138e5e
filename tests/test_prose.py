"""The pages can be read: no sentence above 40 words, 18 on average, a short README."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs" / "make"))

from prose import measure

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("docs", "docs/study")
PAGES = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md",
    *(str(path.relative_to(ROOT)) for f in FOLDERS for path in sorted((ROOT / f).glob("*.md"))),
]  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_the_sentences_are_short(name):
    prose = measure((ROOT / name).read_text(encoding="utf-8"))
    lengths = prose.lengths()
    assert not [sentence for sentence in prose.sentences if len(sentence.split()) > 40]
    assert sum(lengths) <= 18 * len(lengths)


def test_readme_is_short_and_begins_with_a_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert measure(readme).words <= 1200
    assert "```sh" in readme.splitlines()[:24]
    assert ".venv/bin/numpy-vae train" in "".join(readme.splitlines()[:25])


def test_what_counts_as_a_sentence():
    prose = measure(
        "# Title\n\nOne two, e.g. three. Is `a b` four?\n\n| a | b. C d |\n\n"
        "```\nNo. None.\n```\n\n"
        "- An item of a list\n- [A link](there.md) with $x + y$ in it\n"
    )
    assert prose.lengths() == [4, 3, 5, 6] and prose.words == 36
