"""``numpy-vae study``: the questions that readers ask, each answered by an experiment."""

from __future__ import annotations

import argparse
import difflib
import shutil
import textwrap
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..data.digits import load_digits
from ..data.load import NAMED
from ..data.mnist import load_mnist
from ..files import atomic_write, check_absent, check_writable
from ..runs.progress import complain, say_result
from .arguments import Subparsers, add_command, add_data_dir, add_seed, path
from .inputs import check_drawing, one_line, refusals

if TYPE_CHECKING:
    from ..study import Setting, Study

DIGITS = 3_000  # synthetic, of the quick size
NAMES = {"digits": "synthetic digits", "mnist": "MNIST"}
WIDTH = 100  # columns, of a wider terminal

STUDY = """\
Run the experiment of a page of docs/study/: print its tables, check the claims of the page and
draw its figure. Without a name, list the questions.

  numpy-vae study                         the questions
  numpy-vae study tied                    Is log sigma = mu? In seconds, on synthetic digits
  numpy-vae study tied --data mnist       on MNIST, in up to a minute
  numpy-vae study all                     all of them
  numpy-vae study backward --mine my.py   check the backward lines that you wrote

Exit status 1: a claim or one of your lines is wrong, or an experiment did not finish.
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae study``."""
    command = add_command(
        commands, "study", run, "answer a question by an experiment, or list them", STUDY
    )
    command.add_argument(
        "names", nargs="*", type=path, metavar="NAME",
        help="which experiments, or all (default: list them)",
    )  # fmt: skip
    command.add_argument(
        "--data", choices=NAMED, default="digits",
        help="digits: synthetic digits and a quick size (default); mnist: the real ones. Some "
        "experiments need no images",
    )  # fmt: skip
    add_data_dir(command)
    command.add_argument(
        "--out", type=path, default="study", metavar="DIR",
        help="the folder of the figures NAME.png (default: study)",
    )  # fmt: skip
    command.add_argument("--overwrite", action="store_true", help="replace existing figures")
    command.add_argument(
        "--mine", type=path, metavar="FILE",
        help="with backward: check your own lines, written in a copy of examples/backward_blank.py",
    )  # fmt: skip
    add_seed(command, "seed of every random number")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae study``; return its exit status."""
    # The experiments take longer to import than other commands to run.
    from ..study import STUDIES, exercise

    if not args.names and args.mine is None:
        width = max(map(len, STUDIES))
        for number, study in enumerate(STUDIES.values(), start=1):
            say_result(f"{number:2}. {study.name:{width}}  {study.question}")
        say_result("\nnumpy-vae study NAME runs one; its page is docs/study/NUMBER-NAME.md")
        return 0
    if args.mine is not None:
        with refusals():
            if args.names != ["backward"]:
                raise ValueError("--mine applies to numpy-vae study backward alone")
            if not Path(args.mine).is_file():
                raise ValueError(f"--mine {args.mine} is not a file")
            text, right = exercise.answer(args.mine, terminal_width())
        say_result(text)
        return 0 if right else 1
    with refusals():
        studies = choose_studies(args.names)
        figures = figure_paths(Path(args.out), studies, overwrite=args.overwrite)
        setting = setting_of(args.data, args.seed, args.data_dir, studies)
        if figures:
            check_drawing()
            Path(args.out).mkdir(parents=True, exist_ok=True)
    held = []
    for study in studies:
        figure = figures.get(study.name)
        try:
            held.append(answer(study, setting, args.data, figure, overwrite=args.overwrite))
        except (FloatingPointError, MemoryError, OSError) as error:  # the others may do better
            complain(f"numpy-vae study: error: {study.name}: {one_line(error)}")
            held.append(False)
    return 0 if all(held) else 1


def answer(
    study: Study, setting: Setting, data: str, figure: Path | None, *, overwrite: bool
) -> bool:
    """Run one experiment and print its tables and claims; return whether all claims hold."""
    from ..study import page_of

    start, width = time.perf_counter(), terminal_width()
    on = NAMES[data] if study.images else "no images"
    say_result(f"{study.question}\n{on}, seed {setting.seed}; docs/study/{page_of(study)}\n")
    found = study.run(setting._replace(say=lambda line: say_result(f"{line} ...")))
    for table in study.tables:
        say_result("\n" + table.text(found, width))
    say_result("")
    held = [claim.holds(found) for claim in study.claims]
    for number, (claim, holds) in enumerate(zip(study.claims, held, strict=True), start=1):
        verdict = f"{number}. {'holds' if holds else 'FAILS'}  "
        say_result(textwrap.fill(verdict + claim.text, width, subsequent_indent=" " * len(verdict)))

    def write(path: Path) -> AbstractContextManager[IO[bytes]]:
        return atomic_write(path, lambda digest: None if overwrite else check_absent(path))

    if figure is not None:
        from ..study.drawing import save_study

        save_study(figure, study, found, write)
    if all(held):
        say_result("\n" + textwrap.fill(study.conclusion, width))
    done = "" if figure is None else f"; written: {figure}"
    seconds = time.perf_counter() - start
    say_result(f"\n{sum(held)} of {len(held)} claims hold{done}; {seconds:.1f} s\n")
    return all(held)


def terminal_width() -> int:
    """Columns to write in."""
    return min(shutil.get_terminal_size().columns, WIDTH)


def choose_studies(names: Sequence[str]) -> list[Study]:
    """Return the studies with these names, each once, in the order of the pages."""
    from ..study import STUDIES

    for name in names:
        if name not in STUDIES and name != "all":
            near = difflib.get_close_matches(name, STUDIES, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ValueError(f"NAME is {name!r}, must be one of {', '.join(STUDIES)}, or all{hint}")
    return [study for study in STUDIES.values() if study.name in names or "all" in names]


def figure_paths(folder: Path, studies: Sequence[Study], *, overwrite: bool) -> dict[str, Path]:
    """Return where each study that draws will write; the folder need not exist yet."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file, must be a folder")
    paths = {study.name: folder / f"{study.name}.png" for study in studies if study.draw}
    for taken in filter(Path.is_dir, paths.values()):
        raise ValueError(f"{taken} is a folder, must be free for a figure")
    for figure in [] if overwrite else paths.values():
        check_absent(figure)
    if paths:
        check_writable(folder)
    return paths


def setting_of(
    name: str, seed: int, data_dir: str | None = None, studies: Sequence[Study] | None = None
) -> Setting:
    """Return the quick setting, or the one on MNIST if any of `studies` needs images."""
    from ..study import Setting

    if data_dir is not None and name != "mnist":
        raise ValueError(f"--data-dir applies to --data mnist, not to --data {name}")
    if name == "mnist" and (studies is None or any(study.images for study in studies)):
        return Setting(load_mnist(data_dir), quick=False, seed=seed)
    return Setting(load_digits(DIGITS), quick=True, seed=seed)
