"""Run the experiments of the study, and write their tables and figures into its pages.

    python docs/make/study.py                  all: docs/study/*.md and docs/study/figures/*.png
    python docs/make/study.py tied kl          these
    python docs/make/study.py --quick          on synthetic digits alone

A page has up to three places for tables: `tables` for those that no image enters; `mnist`, with
the command, the date and the machine; and `quick`, folded, which the tests run again and compare.
The figure is that of MNIST where the experiment reads images; the diagram of page 11 is drawn by
hand. If a claim does not hold, the page stays as it is and the exit status is 1. MNIST is found as
``numpy-vae train`` finds it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numpy_vae.commands.inputs import UsageError, refusals
from numpy_vae.commands.study import choose_studies, setting_of
from numpy_vae.files import atomic_write
from numpy_vae.study import Column, Setting, Study, Table, page_of
from numpy_vae.study.drawing import save_study

PAGES = Path(__file__).resolve().parent.parent / "study"
END = "<!-- end -->"


def quick_tables(study: Study, found: Any) -> str:
    """Return the folded block of the quick size, each table with its tolerance."""
    command = f"<code>numpy-vae study {study.name}</code>, seed 0"
    head = f"<details>\n<summary>The quick run on synthetic digits: {command}</summary>\n\n"
    return head + with_tolerances(study, found, images=True) + "\n\n</details>"


def with_tolerances(study: Study, found: Any, *, images: bool) -> str:
    """Return the tables that images enter, or those that none enters."""
    tables = [table for table in study.tables if table.images == images]
    return "\n".join(f"{markdown(table, found)}\n{tolerances(table)}" for table in tables).rstrip()


def markdown(table: Table, found: Any) -> str:
    """Return a table for a page."""
    lines = [[column.name for column in table.columns]]
    lines += [["---:" if column.form else "---" for column in table.columns], *table.cells(found)]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in escaped)
    return f"**{table.title}**\n\n{rows}\n"


def tolerances(table: Table) -> str:
    """Return how much the numbers may differ on another machine, as a line; empty if not at all."""
    named: dict[str, list[str]] = {}
    for column in table.columns:
        if words := tolerance(column):
            named.setdefault(words, []).append(f'"{column.name}"')
    allowed = [f"{together(names)} {words}" for words, names in named.items()]
    return f"*Tolerance: {'; '.join(allowed)}.*\n" if allowed else ""


def tolerance(column: Column) -> str:
    """Return how much a number may differ, in words; empty if not at all."""
    if not column.form or (column.within == 0 and column.factor == 1):
        return ""
    parts = [f"±{column.within:g}"] if column.within else []
    if 1 < column.factor <= 1.5:
        parts.append(f"{100 * (column.factor - 1):.0f} %")
    elif column.factor > 1.5:
        parts.append(f"a factor of {column.factor:g}")
    return " or ".join(parts)


def together(names: Sequence[str]) -> str:
    """Return names as a list in words."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def mnist_tables(study: Study, found: Any, seconds: float) -> str:
    """Return the block of MNIST, with its command, date and machine."""
    command = f"`numpy-vae study {study.name} --data mnist`, seed 0"
    told = f"{command}; {datetime.date.today()}, {seconds:.0f} s on {machine()}."
    tables = [markdown(table, found) for table in study.tables if table.images]
    return "\n".join([f"On MNIST: {told}", "", *tables]).rstrip()


def machine() -> str:
    """Return the machine that computed the numbers."""
    names = re.findall(r"^model name\s*: (.*)$", read(Path("/proc/cpuinfo")), re.MULTILINE)
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    return (
        f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}; BLAS threads: "
        f"{threads}), Python {platform.python_version()}, NumPy {np.__version__}"
    )


def read(path: Path) -> str:
    """Return the text of a file, or nothing where there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def filled(text: str, marker: str, content: str) -> str:
    """Return the text of a page with `content` after this marker.

    Raises
    ------
    ValueError
        If the marker does not occur exactly once, with its end after it.
    """
    begin = f"<!-- {marker} -->"
    if text.count(begin) != 1:
        raise ValueError(f"{begin} occurs {text.count(begin)} times in the page, must occur once")
    before, _, rest = text.partition(begin)
    held, end, after = rest.partition(END)
    if not end or "<!--" in held:
        raise ValueError(f"{begin} has no {END} after it")
    return f"{before}{begin}\n\n{content}\n\n{END}{after}"


def perform(study: Study, setting: Setting) -> tuple[Any, float, bool]:
    """Run one experiment; return its numbers, its seconds, and whether all claims hold."""
    start = time.perf_counter()
    found = study.run(setting)
    seconds = time.perf_counter() - start
    failed = [claim.text for claim in study.claims if not claim.holds(found)]
    size = "quick" if setting.quick else "mnist"
    print(f"{study.name}, {size}: {seconds:.1f} s", *[f"\n  FAILS {c}" for c in failed], flush=True)
    return found, seconds, not failed


def write_page(study: Study, quick: Setting, mnist: Setting | None) -> bool:
    """Write the tables and the figure of one page; return whether all its claims hold."""
    found, _, holds = perform(study, quick)
    written = {}
    if any(not table.images for table in study.tables):
        written["tables"] = with_tolerances(study, found, images=False)
    if study.images:
        written["quick"] = quick_tables(study, found)
    if study.images and mnist is not None:
        found, seconds, also = perform(study, mnist)
        written["mnist"] = mnist_tables(study, found, seconds)
        if with_tolerances(study, found, images=False) != written.get("tables", ""):
            raise ValueError(f"{study.name}: a table that no image enters differs on MNIST")
        holds &= also
    if holds:
        path = PAGES / page_of(study)
        text = path.read_text(encoding="utf-8")  # now: somebody may have edited it meanwhile
        for marker, content in written.items():
            text = filled(text, marker, content)
        with atomic_write(path) as stream:
            stream.write(text.encode())
        if study.draw and (mnist is not None or not study.images):
            save_study(PAGES / "figures" / f"{study.name}.png", study, found)
    return holds


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", default=["all"], metavar="NAME", help="default: all")
    parser.add_argument("--quick", action="store_true", help="on synthetic digits alone")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    try:
        with refusals():
            studies = choose_studies(args.names)
            quick = setting_of("digits", 0)
            mnist = None if args.quick else setting_of("mnist", 0)
    except UsageError as error:
        parser.error(str(error))
    held = [write_page(study, quick, mnist) for study in studies]
    print(f"{sum(held)} of {len(held)} pages written; {time.perf_counter() - start:.0f} s")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
