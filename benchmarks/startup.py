"""Milliseconds that `import numpy_vae` takes beyond `import numpy`, in fresh interpreters.

    python benchmarks/startup.py [--rounds 31] [--json FILE]

Each round runs one interpreter per command, in random order, and times it from start to end. The
difference of two commands is the median of the differences within a round. The interpreters ignore
``PYTHON*`` variables and the startup files of site-packages (``-I -S``; the finder of an editable
installation would load half of what is to be timed), and get the packages' folders by `sys.path`.
An untimed round fills a temporary folder with byte code; without it, half of the time would be
compilation. For the time per module, run ``python -X importtime -c 'import numpy_vae'``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import heading, machine, settings_of, take_turns, write_json

import numpy_vae

COMMANDS = {
    "python, nothing imported": "",
    "import numpy": "import numpy",
    "import numpy_vae": "import numpy_vae",
    "numpy-vae --help": "from numpy_vae.__main__ import main; main(['--help'])",
}
# The folders of the packages, for `sys.path`
PATHS = [str(Path(path).parents[1]) for path in (str(numpy_vae.__file__), str(np.__file__))]


def milliseconds(code: str, folder: str) -> float:
    """Return the time of a fresh interpreter; `folder` holds the byte code."""
    options = ["-I", "-S", "-X", f"pycache_prefix={folder}"]
    command = [sys.executable, *options, "-c", f"import sys; sys.path += {PATHS!r}; {code}"]
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31, help="interpreters for each command")
    parser.add_argument("--json", metavar="FILE", help="write all results to this file")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds is {args.rounds}, must be 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        for code in COMMANDS.values():
            milliseconds(code, folder)
        times = take_turns(COMMANDS, partial(milliseconds, folder=folder), args.rounds)
    medians = {name: median(found) for name, found in times.items()}
    ours, numpy = times["import numpy_vae"], times["import numpy"]
    difference = median(mine - its for mine, its in zip(ours, numpy, strict=True))
    facts = machine()
    print(heading(facts))
    print(f"medians of {args.rounds} fresh interpreters, milliseconds")
    for name, value in medians.items():
        print(f"{name:36} {value:7.1f}")
    print(f"{'import numpy_vae beyond import numpy':36} {difference:7.1f}")
    if args.json:
        report: dict[str, Any] = {
            "machine": facts,
            "settings": settings_of(args),
            "milliseconds": times,
            "medians": medians,
            "beyond_numpy": difference,
        }
        write_json(args.json, report)


if __name__ == "__main__":
    main()
