"""Measure the prose of Markdown files: words, and how long its sentences are.

    python docs/make/prose.py README.md docs/study/*.md

`words` counts the whole file as ``wc -w`` does. Sentences are those of paragraphs, list items and
quotations: code blocks, tables, headings and comments are left out, a formula or a piece of code is
one word, and a sentence ends with a full stop, a question mark or the end of its paragraph. With
``--long N`` each sentence above N words is printed, too.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

LEFT_OUT = re.compile(
    r"```.*?```|<!--.*?-->|^\*Tolerance[^\n]*$|^\$\$.*?\$\$$|</?(?:details|summary|sub|br)>|^\|[^\n]*$|^#[^\n]*$|^---$",
    re.DOTALL | re.MULTILINE,
)
FULL_STOP = re.compile(r"(?<=[.?!])[)*\"]*\s+(?=[\"(*`$]*[A-Z0-9`$(\[])")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|et al|cf|vs|Eq|Fig|[A-Z])\.")


class Prose(NamedTuple):
    """What a file is made of."""

    words: int
    sentences: list[str]

    def lengths(self) -> list[int]:
        """Words in each sentence."""
        return [len(sentence.split()) for sentence in self.sentences]


def measure(text: str) -> Prose:
    """Split Markdown into sentences."""
    bare = LEFT_OUT.sub("\n\n", text)
    bare = re.sub(r"!\[.*?\]\([^)]*\)", "\n\n", bare, flags=re.DOTALL)  # a picture
    bare = re.sub(r"\]\([^)]*\)", "", bare).replace("[", "")  # a link is its text
    bare = re.sub(r"`[^`]*`|\$[^$]*\$", "Code", bare)
    bare = re.sub(r"^>|\*\*|\*", "", bare, flags=re.MULTILINE)
    bare = ABBREVIATION.sub(r"\1", bare)
    blocks = re.split(r"\n\s*(?:[-+]|\d+\.)\s|\n\s*\n", "\n" + bare)
    parts = [part for block in blocks for part in FULL_STOP.split(" ".join(block.split()))]
    return Prose(len(text.split()), [part for part in parts if len(part.split()) > 1])


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each file, and one for all of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--long", type=int, metavar="N", help="print sentences above N words")
    args = parser.parse_args(argv)
    of_files = [(str(path), measure(path.read_text(encoding="utf-8"))) for path in args.files]
    together = Prose(
        sum(p.words for _, p in of_files), [s for _, p in of_files for s in p.sentences]
    )
    print(f"{'words':>7} {'sentences':>9} {'average':>7} {'longest':>7} {'above 40':>8}  file")
    for name, prose in [*of_files, ("together", together)]:
        n = prose.lengths() or [0]
        above = sum(length > 40 for length in n)
        print(f"{prose.words:7} {len(n):9} {sum(n) / len(n):7.1f} {max(n):7} {above:8}  {name}")
        if args.long and name != "together":
            for sentence in prose.sentences:
                if len(sentence.split()) > args.long:
                    print(f"    {len(sentence.split())}: {sentence}")


if __name__ == "__main__":
    main()
