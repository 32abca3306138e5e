"""Run the experiments of the study, and write their tables and figures into its pages.

    python docs/make/study.py                  all: docs/study/*.md and docs/study/figures/*.png
    python docs/make/study.py tied kl          these
    python docs/make/study.py --quick          on the drawn digits alone

Each page has two places for tables: of the quick size, which the tests run again and compare, and
of MNIST, with the command, the date and the machine. The figure is that of MNIST, where the
experiment looks at images; the diagram of page 11 is a file of its own, which nothing writes. A
page of which a claim does not hold is left as it is, and the exit status is 1. MNIST is looked for
where ``numpy-vae train`` looks for it.
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
    """Return what stands on the page for the quick size."""
    told = f"On the drawn digits: `numpy-vae study {study.name}`, seed 0. The tests make these "
    if not study.images:
        told = f"`numpy-vae study {study.name}`, seed 0. The tests make these "
    told += "numbers again; what they may be off on another machine stands below each table."
    tables = [f"{markdown(table, found)}\n{tolerances(table)}\n" for table in study.tables]
    return "\n".join([told, "", *tables]).rstrip()


def markdown(table: Table, found: Any) -> str:
    """Return a table for a page."""
    lines = [[column.name for column in table.columns]]
    lines += [["---:" if column.form else "---" for column in table.columns], *table.cells(found)]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in escaped)
    return f"**{table.title}**\n\n{rows}\n"


def tolerances(table: Table) -> str:
    """Return how far the numbers of a table may be off on another machine, as a line."""
    named: dict[str, list[str]] = {}
    for column in table.columns:
        if words := tolerance(column):
            named.setdefault(words, []).append(f'"{column.name}"')
    allowed = [f"{together(names)} {words}" for words, names in named.items()]
    return f"*Tolerance: {'; '.join(allowed) or 'none, they are the same everywhere'}.*"


def tolerance(column: Column) -> str:
    """Return how far a number may be off, in words; empty if not at all."""
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
    """Return what stands on the page for MNIST."""
    command = f"`numpy-vae study {study.name} --data mnist`, seed 0"
    told = f"{command}; {datetime.date.today()}, {seconds:.0f} s on {machine()}."
    head = f"On MNIST, like the figure: {told}"
    return "\n".join([head, "", *[markdown(table, found) for table in study.tables]]).rstrip()


def machine() -> str:
    """Return what the numbers were made on."""
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
    """Return the text of a page with `content` at the place of this marker.

    Raises
    ------
    ValueError
        If the marker does not stand in the text once, with its end after it.
    """
    begin = f"<!-- {marker} -->"
    if text.count(begin) != 1:
        raise ValueError(f"{begin} stands {text.count(begin)} times in the page, must stand once")
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
    written = {"quick": quick_tables(study, found)}
    if study.images and mnist is not None:
        found, seconds, also = perform(study, mnist)
        written["mnist"] = mnist_tables(study, found, seconds)
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
    parser.add_argument("--quick", action="store_true", help="on the drawn digits alone")
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
