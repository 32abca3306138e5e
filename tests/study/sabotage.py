"""See each claim of the study fail: plant a wrong line in the code, run the experiment, ask again.

    python tests/study/sabotage.py [NAME ...]

Each tests/study/test_study_NAME.py has a list SABOTAGE of (claim, module, old, new): the number of
a claim from 1, and the edit of numpy_vae/MODULE.py that must make it false. An edit is caught if
the claim is false in the quick size, or if the experiment stops with an error. Exit status 1 if a
claim survives, or has no edit. It takes some minutes, so the test suite does not run it.
"""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RUN = """
import importlib, sys
from numpy_vae import load_digits
from numpy_vae.study.report import Setting
study = importlib.import_module("numpy_vae.study." + sys.argv[1]).STUDY
found = study.run(Setting(load_digits(3000), quick=True))
print("holds", *[int(claim.holds(found)) for claim in study.claims])
"""


def run(name: str, package: Path) -> str:
    """Return "holds 1 0 1", a digit a claim, or the error that the experiment ended with."""
    result = subprocess.run(
        [sys.executable, "-c", RUN, name],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(package), "OPENBLAS_NUM_THREADS": "1"},
        cwd=package,
    )
    lines = (result.stdout if result.returncode == 0 else result.stderr).strip().splitlines()
    return lines[-1]


def sabotage(name: str) -> bool:
    """Plant each edit of one study; return whether every claim was seen to fail."""
    edits = importlib.import_module(f"test_study_{name}").SABOTAGE
    seen = set()
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch)
        shutil.copytree(ROOT / "numpy_vae", package / "numpy_vae")
        sound = run(name, package).split()
        print(f"{name}: sound code: {' '.join(sound)}", flush=True)
        if sound[0] != "holds" or "0" in sound:
            return False
        for number, module, old, new in edits:
            path = package.joinpath("numpy_vae", *module.split(".")).with_suffix(".py")
            text = path.read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise ValueError(f"{old!r} stands {text.count(old)} times in {module}.py")
            path.write_text(text.replace(old, new), encoding="utf-8")
            verdict = run(name, package)
            path.write_text(text, encoding="utf-8")
            held = verdict.split()
            caught = held[0] != "holds" or held[number] == "0"
            print(f"  {'caught' if caught else 'SURVIVES'}  claim {number}: {new!r}: {verdict}")
            if caught:
                seen.add(number)
    missing = set(range(1, len(sound))) - seen
    if missing:
        print(f"  not seen to fail: claims {sorted(missing)}")
    return not missing


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    asked = sys.argv[1:] or sorted(p.stem[11:] for p in HERE.glob("test_study_*.py"))
    sys.exit(0 if all([sabotage(name) for name in asked]) else 1)
