"""``numpy-vae study``: the questions that readers ask, each answered by an experiment."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..data import load_mnist
from ..digits import load_digits
from ..progress import say
from ..study import STUDIES, Setting, Study, page_of
from .arguments import Subparsers, add_command, add_data_dir, add_seed, path
from .inputs import NAMED, refusals

DIGITS = 3_000  # drawn, of the quick size

STUDY = """\
Run the experiment of a page of docs/study/: print its tables, ask whether the claims of the page
hold, and write its figure. Without a name: which there are.

  numpy-vae study                         the questions
  numpy-vae study tied                    Is log sigma = mu? In seconds, on drawn digits
  numpy-vae study tied --data mnist       on the real MNIST, in up to a minute
  numpy-vae study all                     all of them

Exit status 1 means that a claim does not hold.
"""


def add_arguments(commands: Subparsers) -> None:
    """Add ``numpy-vae study``."""
    command = add_command(
        commands, "study", run, "answer a question by an experiment, or list them", STUDY
    )
    command.add_argument(
        "names",
        nargs="*",
        type=path,
        metavar="NAME",
        help="which experiments; all of them: all (default: list them)",
    )
    command.add_argument(
        "--data",
        choices=NAMED,
        default="digits",
        help="drawn digits, in a quick size (default), or the real MNIST",
    )
    add_data_dir(command)
    command.add_argument(
        "--out",
        type=path,
        default="study",
        metavar="DIR",
        help="the folder that the figures NAME.png go to, which are replaced (default: study)",
    )
    add_seed(command, "seed of all that is drawn")


def run(args: argparse.Namespace) -> int:
    """``numpy-vae study``; return its exit status."""
    if not args.names:
        width = max(map(len, STUDIES))
        for number, study in enumerate(STUDIES.values(), start=1):
            say(f"{number:2}. {study.name:{width}}  {study.question}")
        return 0
    with refusals():
        studies = chosen(args.names)
        setting = setting_of(args.data, args.seed, args.data_dir)
        folder = Path(args.out)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--out {args.out} is a file, must be a folder")
        from .. import figures  # noqa: F401  # what is wrong with matplotlib shows now

        folder.mkdir(parents=True, exist_ok=True)
    held = [answer(study, setting, args.data, folder / f"{study.name}.png") for study in studies]
    return 0 if all(held) else 1


def answer(study: Study, setting: Setting, data: str, figure: Path) -> bool:
    """Run one experiment and say what it found; return whether all its claims hold."""
    from ..figures import save_study

    start = time.perf_counter()
    say(f"{study.question}\n{data}, seed {setting.seed}; docs/study/{page_of(study)}\n")
    found = study.run(setting)
    for table in study.tables(found):
        say(table.text() + "\n")
    held = [claim.holds(found) for claim in study.claims]
    for claim, holds in zip(study.claims, held, strict=True):
        say(f"{'holds' if holds else 'FAILS'}  {claim.text}")
    save_study(figure, study, found)
    say(f"\nwritten: {figure}; {time.perf_counter() - start:.1f} s\n")
    return all(held)


def chosen(names: list[str]) -> list[Study]:
    """Return the studies of these names, each once, in the order of the pages."""
    for name in names:
        if name not in STUDIES and name != "all":
            raise ValueError(f"NAME is {name!r}, must be one of {', '.join(STUDIES)}, or all")
    return [study for study in STUDIES.values() if study.name in names or "all" in names]


def setting_of(name: str, seed: int, data_dir: str | None = None) -> Setting:
    """Return the quick setting, on drawn digits, or that on MNIST."""
    if name == "mnist":
        return Setting(load_mnist(data_dir), quick=False, seed=seed)
    if data_dir is not None:
        raise ValueError(f"--data-dir applies to --data mnist, not to --data {name}")
    return Setting(load_digits(DIGITS), quick=True, seed=seed)
