"""Plant every bug of the museum, run the tests on it, and write docs/museum.md.

    python docs/make/museum.py

Nothing is written unless each bug is caught by exactly those kinds of tests that bugs.py names. The
text is made from that file and the sources alone, so that a test can compare it with the page.
"""

import ast
import difflib
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "museum"))

import planting
from bugs import BUGS, CLASSES, GRADIENT, KINDS, Bug

PAGE = planting.ROOT / "docs" / "museum.md"
JURY = "tests/museum/jury.py"

# The test files that test a module, or what it is a part of.
TESTS = {
    "params": ("params", "vae", "checkpoint"),
    "layers": ("layers", "vae", "linear", "evaluate"),
    "posterior": ("posterior", "bounds", "vae", "linear", "evaluate"),
    "likelihood": ("likelihood", "vae", "linear", "evaluate"),
    "bounds": ("bounds", "vae", "evaluate"),
    "blocks": ("blocks", "vae", "linear", "evaluate"),
    "network": ("network", "vae", "linear", "evaluate"),
    "vae": ("vae", "network", "linear", "evaluate", "checkpoint"),
    "optim": ("optim", "loop"),
    "training.evaluate": ("evaluate", "loop"),
    "training.loop": ("loop",),
    "data.arrays": ("arrays", "evaluate", "loop"),
    "data.binarize": ("binarize", "evaluate", "loop"),
    "runs.checkpoint": ("checkpoint",),
}


class Verdict(NamedTuple):
    """What the tests said of one bug."""

    caught: bool  # by the test that is named
    seen_by: frozenset[str]
    places: dict[str, bool]
    crash: str
    failed: tuple[str, ...]

    def confirms(self, bug: Bug) -> bool:
        expected = True, bug.seen_by, dict(bug.places), ""
        return (self.caught, self.seen_by, self.places, self.crash) == expected


# The trial ------------------------------------------------------------------------------------


MODULES = {
    ".".join(path.relative_to(planting.ROOT / "numpy_vae").with_suffix("").parts)
    for path in (planting.ROOT / "numpy_vae").rglob("*.py")
}


def imported_by(*modules: str) -> set[str]:
    """Return these modules of the package and all that they import of it."""
    found, left = set(), list(modules)
    while left:
        found.add(module := left.pop())
        for node in ast.walk(ast.parse(planting.source(module))):
            if isinstance(node, ast.ImportFrom) and node.level:
                above = [*module.split(".")[: -node.level], *filter(None, [node.module])]
                names = [] if node.module else [alias.name for alias in node.names]
                called = {".".join([*above, *filter(None, [name])]) for name in names or [""]}
                left += (called & MODULES) - found
    return found


# A gradient check runs none of the other modules, so it cannot see what is wrong there.
CHECKED = imported_by("vae", "gradcheck.check")


def job(bug: Bug, kinds: Iterable[str] = KINDS) -> planting.Job:
    """Return what to run for a bug: the jury, and the tests of the modules it is in."""
    sources = {module: planting.edited(module, *edits) for module, edits in bug.edits.items()}
    files = {f"tests/test_{name}.py": 0 for module in bug.edits for name in TESTS[module]}
    jury = (JURY,) if CHECKED & bug.edits.keys() else ()
    places = tuple(f"{JURY}::test_place[{place}]" for place in bug.places)
    return planting.Job(sources, (*jury, *files), select=(*kinds, *places, f"tests/{bug.test}"))


def clean_job() -> planting.Job:
    """Return everything that is run for any bug, on the unchanged package."""
    files = {f"tests/test_{name}.py": 0 for names in TESTS.values() for name in names}
    return planting.Job({}, (JURY, *files), select=(*KINDS, "place"))


def judge(bug: Bug, outcome: planting.Outcome) -> Verdict:
    """Sum up what the tests said."""
    failed = set(outcome.failed)
    marks = {mark for node in failed for mark in outcome.marks.get(node, ())}
    return Verdict(
        any(f"tests/{bug.test}" in (node, node.partition("[")[0]) for node in failed),
        frozenset(KINDS) & marks,
        {place: f"{JURY}::test_place[{place}]" in failed for place in bug.places},
        outcome.crash,
        outcome.failed,
    )


# The page -------------------------------------------------------------------------------------

INTRODUCTION = """
These are {n} bugs of hand-written variational autoencoders. Each was planted alone into the code of
this package, in memory, and the tests were run on it. A tick means that at least one test of that
kind failed.

*Central* differences, the *complex* step and the order of the *Taylor* remainder are three
[gradient checks](gradcheck.md#three-methods) of the whole model (`tests/museum/jury.py`). The
*mathematics* tests compare a value with its definition: SciPy, quadrature, Monte Carlo, a model
whose log p(x) is known, the published Adam, the split of the data. The *purity* tests look at
dtype, aliasing, memory and threads. The entry of each bug also names one test that must catch it.
That may be a test of a single layer, which has no column.

`.venv/bin/python docs/make/museum.py` plants every bug, asserts every tick and every blank, and
writes this page from `tests/museum/bugs.py`. `.ci/run` repeats it. The test suite plants each bug,
too, and asserts its ticks.
"""

SUMMARY = """
All three gradient checks catch {all_three} of the {n} bugs, and the complex step alone catches
{some} more. No gradient check catches the other {none}. In most of these, backward is the right
derivative of the wrong forward, or the bug is in neither.

The mathematics tests catch {mathematics} bugs and the purity tests {purity}. Gradient checks alone
catch {only_gradient}, mathematics alone {only_mathematics}, purity alone {only_purity}, so all
three kinds are needed. (`numpy-vae gradcheck` catches a slightly different set. It checks one
likelihood and one activation per run, but also saturated points.)
"""

PLACES = """
Whether a gradient check catches a bug can depend on the point where it is taken. The first table
uses three images, weights of standard deviation 0.4, a random log-variance head, and beta = 0.7.
Each term is also checked alone, with random weights for the examples. The importance-weighted bound
has five samples per image.
"""


def document() -> str:
    """Return the text of docs/museum.md, from the records in bugs.py."""
    parts = [_introduction(), _table(), _classes(), _places(), "## The bugs, one by one\n"]
    return "\n".join([*parts, *map(_entry, BUGS)])


def _introduction() -> str:
    seen = [bug.seen_by for bug in BUGS]
    summary = SUMMARY.format(
        n=len(BUGS),
        all_three=sum(kinds >= GRADIENT for kinds in seen),
        some=sum(kinds & GRADIENT == {"complex"} for kinds in seen),
        none=sum(not kinds & GRADIENT for kinds in seen),
        mathematics=sum("mathematics" in kinds for kinds in seen),
        purity=sum("purity" in kinds for kinds in seen),
        only_gradient=sum(kinds <= GRADIENT for kinds in seen),
        only_mathematics=sum(kinds == {"mathematics"} for kinds in seen),
        only_purity=sum(kinds == {"purity"} for kinds in seen),
    )
    return f"# The bug museum\n\n{_filled(INTRODUCTION.format(n=len(BUGS)))}\n{_filled(summary)}"


def _table() -> str:
    lines = [
        "| bug | source | central | complex | Taylor | mathematics | purity |",
        "|---|---|:-:|:-:|:-:|:-:|:-:|",
    ]
    for bug in BUGS:
        ticks = " | ".join("✓" if kind in bug.seen_by else " " for kind in KINDS)
        lines.append(f"| {_link(bug)} | {bug.seen} | {ticks} |")
    return "\n".join(lines) + "\n"


def _classes() -> str:
    lines = [
        "## Seventeen classes of published bugs",
        "",
        "Should a gradient check catch them, and does it?",
        "",
        "| # | class | expected | result |",
        "|--:|---|---|---|",
    ]
    for row, (title, expected) in CLASSES.items():
        lines.append(f"| {row} | {title} | {expected} | {found(row)} |")
    return "\n".join(lines) + "\n"


def found(row: int) -> str:
    """Return whether the gradient checks catch a class of bugs."""
    bugs = [bug for bug in BUGS if bug.row == row]
    seen = [bug.seen_by & GRADIENT for bug in bugs]
    if all(kinds == GRADIENT for kinds in seen):
        answer = "yes"
    elif not any(seen):
        answer = "no"
    else:
        answer = "by " + " and ".join(kind for kind in KINDS if any(kind in s for s in seen))
    places = {place: there for bug in bugs for place, there in bug.places.items()}
    for place, there in places.items():
        answer += f"; {'yes' if there else 'not'} with {place}"
    return answer


def _places() -> str:
    lines = [
        "## Where a gradient check is taken",
        "",
        _filled(PLACES),
        "| bug | place | caught there | caught in the first table |",
        "|---|---|:-:|:-:|",
    ]
    for bug in BUGS:
        for place, there in bug.places.items():
            above = bool(bug.seen_by & GRADIENT)
            answers = " | ".join("yes" if seen else "no" for seen in (there, above))
            lines.append(f"| {_link(bug)} | {place} | {answers} |")
    return "\n".join(lines) + "\n"


def _entry(bug: Bug) -> str:
    kinds = [kind for kind in KINDS if kind in bug.seen_by]
    if bug.seen_by >= GRADIENT:
        kinds = ["all three gradient checks", *kinds[3:]]
    lines = [
        f'### <a id="{bug.name}"></a>{bug.title.rstrip(".")}',
        "",
        "```diff",
        *(line for module, edits in bug.edits.items() for line in _diff(module, edits)),
        "```",
        "",
        f"Caught by {', '.join(kinds[:-1])}{' and ' if kinds[1:] else ''}{kinds[-1]}, and by",
        f"`tests/{bug.test}`.",
    ]
    return "\n".join(lines) + "\n" + _filled(bug.why)


def _link(bug: Bug) -> str:
    title = bug.title.rstrip(".").replace("|", "\\|")  # a bar would end the cell
    return f"[{title}](#{bug.name})"


def _filled(text: str) -> str:
    wrap = partial(textwrap.fill, width=100, break_on_hyphens=False, break_long_words=False)
    return "\n\n".join(wrap(paragraph) for paragraph in text.strip().split("\n\n")) + "\n"


def _diff(module: str, edits: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """Yield the lines that differ, each stretch of them under the name of its function."""
    text = planting.source(module)
    sides = text.splitlines(), planting.edited(module, *edits).splitlines()
    matcher = difflib.SequenceMatcher(None, *sides, autojunk=False)
    header = ""
    for tag, start, end, new_start, new_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        if header != (header := f"@@ {module.replace('.', '/')}.py{_scope(text, start + 1)} @@"):
            yield header
        yield from (f"-{line}" for line in sides[0][start:end] if line)
        yield from (f"+{line}" for line in sides[1][new_start:new_end] if line)


def _scope(text: str, line: int) -> str:
    """Return the name of the function, with its class, that a line lies in."""
    names = []
    nodes = ast.parse(text).body
    while inner := [
        node
        for node in nodes
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and node.lineno <= line <= (node.end_lineno or line)
    ]:
        names.append(inner[0].name)
        nodes = inner[0].body
    return f", {'.'.join(names)}" if names else ""


def main() -> int:
    start = time.perf_counter()
    if (outcome := planting.run(clean_job())).caught:
        print("The package fails as it is:", *outcome.failed, outcome.crash, sep="\n  ")
        return 1
    wrong = 0
    for bug, outcome in zip(BUGS, planting.run_all(map(job, BUGS)), strict=True):
        verdict = judge(bug, outcome)
        ticks = "".join(kind[0] if kind in verdict.seen_by else "." for kind in KINDS)
        right = verdict.confirms(bug)
        wrong += not right
        print(f"{'ok' if right else 'NOT AS RECORDED':15} {ticks} {bug.name}", flush=True)
        if not right:
            print(f"{verdict._replace(failed=())}", *verdict.failed, sep="\n    ", flush=True)
    print(f"{len(BUGS)} bugs in {time.perf_counter() - start:.0f} seconds, {wrong} not as recorded")
    if not wrong:
        PAGE.write_text(document(), encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
