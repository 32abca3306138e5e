"""What each page of the study says is true: its claims, its tables, its code, its links.

The experiments run once each, in their quick size, on the synthetic digits.
"""

import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from numpy_vae.commands.study import setting_of
from numpy_vae.study import STUDIES, Column, Table, page_of
from numpy_vae.study.drawing import save_study

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ROOT / "docs" / "study"
SECTIONS = [  # of every page, in this order; a page may have others between them
    "The derivation", "The experiment", "The lines that do it", "With a pencil",
    "What to try next", "References",
]  # fmt: skip
SOURCE = " ".join(
    " ".join(path.read_text(encoding="utf-8").split())
    for path in (ROOT / "numpy_vae").rglob("*.py")
)
each = pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
each_claim = pytest.mark.parametrize(
    ("study", "number"),
    [(study, i) for study in STUDIES.values() for i in range(len(study.claims))],
    ids=[f"{name}-{i + 1}" for name in STUDIES for i in range(len(STUDIES[name].claims))],
)


@cache
def found(name):
    """Return the numbers of an experiment in its quick size."""
    return STUDIES[name].run(setting_of("digits", 0))


def page(study):
    return (PAGES / page_of(study)).read_text(encoding="utf-8")


def between(text, marker):
    """Return the block of a page that begins with a marker; empty if there is none."""
    return (text + f"<!-- {marker} -->").split(f"<!-- {marker} -->")[1].split("<!-- end -->")[0]


def section(study, heading):
    """Return the text of a section of a page."""
    return page(study).split(f"## {heading}\n")[1].split("\n## ")[0]


def tables_of(text):
    """Return the tables of a text, each a list of rows of cells, the heads first."""
    tables, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            rows.append([cell.strip().replace("\\|", "|") for cell in cells])
        elif rows:
            tables.append([rows[0], *rows[2:]])
            rows = []
    return tables


def agrees(column, shown, value):
    """Whether `value` could be what another machine has shown as `shown`."""
    mine = column.cell(value)
    if mine == shown or not column.form:
        return mine == shown
    a, b = float(mine), float(shown)
    near = abs(a - b) <= column.within * (1 + 1e-9)
    return near or (a * b > 0 and max(a / b, b / a) <= column.factor)


@each_claim
def test_the_claim_holds(study, number):
    claim = study.claims[number]
    assert claim.holds(found(study.name)), claim.text


@each
def test_the_experiment_gives_the_tables_of_the_page_again(study):
    for marker, images in ("tables", False), ("quick", True):
        tables = [table for table in study.tables if table.images == images]
        shown = tables_of(between(page(study), marker))
        assert len(shown) == len(tables)
        for table, (head, *rows) in zip(tables, shown, strict=True):
            assert head == [column.name for column in table.columns]
            for values, row in zip(table.rows(found(study.name)), rows, strict=True):
                for column, value, cell in zip(table.columns, values, row, strict=True):
                    assert agrees(column, cell, value), (table.title, column.name, row, value)


@each
def test_the_tables_fit_a_terminal_of_100_columns(study):
    for table in study.tables:
        text = table.text(found(study.name), 100)
        assert max(map(len, text.splitlines())) <= 100, text


@pytest.mark.parametrize(
    "study", [s for s in STUDIES.values() if s.draw], ids=lambda study: study.name
)
def test_the_figure_can_be_drawn(study, tmp_path):
    drawn = []

    def draw(figure, numbers):
        study.draw(figure, numbers)
        drawn.extend(figure.axes)

    save_study(tmp_path / "figure.png", study._replace(draw=draw), found(study.name))
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert drawn and all(ax.has_data() or ax.texts or ax.patches for ax in drawn)


@each
def test_the_page_has_its_parts(study):
    text = page(study)
    number = page_of(study).split("-")[0].lstrip("0")
    assert text.startswith(f"# {number}. {study.question}\n\n> ")
    headings = re.findall("^## (.*)$", text, re.MULTILINE)
    assert [heading for heading in headings if heading in SECTIONS] == SECTIONS
    assert "*Asked at:*" in section(study, "References")
    flat = " ".join(text.split())
    assert f"**In short.** {study.conclusion}" in flat
    for number, claim in enumerate(study.claims, start=1):
        assert f" {number}. **{claim.text}**" in flat
    kind = "png" if study.draw else "svg"  # a diagram that no number changes
    assert f"](figures/{study.name}.{kind})" in text
    assert f"numpy-vae study {study.name}" in text
    assert re.findall("<!-- (?!end)(.*) -->", text) == [
        *(["tables"] if any(not table.images for table in study.tables) else []),
        *(["mnist", "quick"] if study.images else []),
    ]


@each
def test_the_page_has_questions_for_a_pencil_and_graded_edits(study):
    pencil = section(study, "With a pencil")
    answers = re.findall(
        r"<details>\n<summary>.*?</summary>\n\n(.*?)\n\n</details>", pencil, re.DOTALL
    )
    assert len(answers) == len(re.findall(r"^\d+\. ", pencil, re.MULTILINE)) == 2
    assert not any("$" in answer for answer in answers)  # GitHub does not render it there
    edits = re.findall(r"^\d+\. (.*)$", section(study, "What to try next"), re.MULTILINE)
    grade = r"\*\((1 line|\d+ lines|an evening)\)\* "
    assert len(edits) >= 3 and all(re.match(grade, edit) for edit in edits)


@pytest.mark.parametrize(
    "study", [s for s in STUDIES.values() if s.images], ids=lambda study: study.name
)
def test_numbers_of_mnist_name_their_command_and_date(study):
    text = between(page(study), "mnist")
    command = f"`numpy-vae study {study.name} --data mnist`, seed 0; "
    assert re.search(rf"{re.escape(command)}\d{{4}}-\d\d-\d\d, \d+ s on \S", text)
    heads = [table[0] for table in tables_of(text)]
    assert heads == [table[0] for table in tables_of(between(page(study), "quick"))]


@each
def test_the_lines_of_the_page_are_in_the_package(study):
    table = tables_of(section(study, "The lines that do it"))[0]
    lines = [line for row in table[1:] for line in re.findall(r"`([^`]*)`", row[-1])]
    assert len(lines) >= 2
    for line in lines:
        assert " ".join(line.split()) in SOURCE, line


@each
def test_the_code_of_the_page_runs(study):
    for block in re.findall(r"^```python\n(.*?)^```$", page(study), re.MULTILINE | re.DOTALL):
        exec(block, {"__name__": "page"})


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_every_link_leads_somewhere(path):
    prose = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", prose)
    assert links and all((path.parent / link).exists() for link in links), links


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_the_formulas_survive_markdown(path):
    # A renderer takes a backslash before punctuation for an escape, and | for the end of a cell.
    prose = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    formulas = re.findall(r"\$\$(.*?)\$\$|\$([^$\n]*)\$", prose, re.DOTALL)
    for formula in map("".join, formulas):
        assert not re.search(r"\\[^a-zA-Z\s]", formula), formula
        assert not re.search(r"[)}\]]_", formula), formula  # the start of an emphasis
        assert formula.count("{") == formula.count("}"), formula
    for line in prose.splitlines():
        in_cells = re.findall(r"\$([^$]*)\$", line) if line.startswith("|") else []
        assert not any("|" in formula for formula in in_cells), line
    assert prose.count("$") % 2 == 0


def test_each_page_leads_to_the_next_and_to_the_one_before():
    names = [page_of(study) for study in STUDIES.values()]
    for before, study, after in zip(
        [None, *names[:-1]], STUDIES.values(), [*names[1:], None], strict=True
    ):
        last = page(study).rstrip().splitlines()[-1]
        expected = [name for name in (before, "README.md", after) if name]
        assert re.findall(r"\]\((\S+)\)", last) == expected


def test_the_index_lists_the_pages_in_order():
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\d+)\. (.*?)\]\((\S+)\)", index, re.MULTILINE)
    expected = [
        (str(i), study.question, page_of(study))
        for i, study in enumerate(STUDIES.values(), start=1)
    ]
    assert listed == expected
    others = {"README.md", "notation.md"}
    assert {path.name for path in PAGES.glob("*.md")} == others | {p for *_, p in listed}
    assert {path.stem for path in (PAGES / "figures").iterdir()} == set(STUDIES)


@each
def test_each_claim_has_a_wrong_line_that_can_be_planted(study):
    # tests/study/sabotage.py plants them; here only that they are still there to be planted.
    edits = importlib.import_module(f"test_study_{study.name}").SABOTAGE
    assert {number for number, *_ in edits} == set(range(1, len(study.claims) + 1))
    for _, module, old, new in edits:
        path = ROOT.joinpath("numpy_vae", *module.split(".")).with_suffix(".py")
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1 and old != new, old
        compile(text.replace(old, new), module, "exec")


def test_what_is_written_into_a_page_leaves_the_rest_of_it(benchmark_of_the_study):
    filled = benchmark_of_the_study.filled
    page = "a\n<!-- quick -->\nold\n<!-- end -->\nb\n<!-- mnist -->\n<!-- end -->\nc\n"
    once = filled(page, "quick", "new")
    assert once == page.replace("\nold\n", "\n\nnew\n\n") and filled(once, "quick", "new") == once
    for wrong in ("<!-- end -->\nb\n", "b\n"), ("<!-- quick -->", "<!-- quick --><!-- quick -->"):
        with pytest.raises(ValueError, match="<!-- quick -->"):
            filled(page.replace(*wrong), "quick", "new")
    with pytest.raises(ValueError, match="<!-- mnist --> has no <!-- end -->"):
        filled(page[: page.rindex("<!-- end")], "mnist", "new")


def test_below_each_table_is_its_tolerance(benchmark_of_the_study):
    columns = Column("seed", "d"), Column("ELBO", ".2f", within=1), Column("v", ".1e", factor=10)
    of = benchmark_of_the_study.tolerances
    assert of(Table("", columns, list)) == '*Tolerance: "ELBO" ±1; "v" a factor of 10.*\n'
    alike = Table("", (*columns, Column("KL", ".1f", within=1)), list)
    assert of(alike) == '*Tolerance: "ELBO" and "KL" ±1; "v" a factor of 10.*\n'
    assert of(Table("", (Column("a", ".1f", within=1, factor=1.1),), list)) == (
        '*Tolerance: "a" ±1 or 10 %.*\n'
    )
    exact = Table("", (Column("seed", "d"), Column("name")), list)
    assert of(exact) == ""
    rows = [[["seed", "ELBO", "v"], ["1", "2.00", "3.0e+00"]]]
    table = Table("T", columns, lambda found: [(1, 2, found)])
    study = STUDIES["tied"]._replace(tables=(table, table._replace(images=False)))
    shown = benchmark_of_the_study.quick_tables(study, 3)
    assert tables_of(shown) == rows and shown.endswith("\n\n</details>")
    assert tables_of(benchmark_of_the_study.mnist_tables(study, 3, 1.0)) == rows
    assert tables_of(benchmark_of_the_study.with_tolerances(study, 3, images=False)) == rows


@pytest.fixture
def benchmark_of_the_study():
    """Import the script that writes the pages, which is in no package."""
    spec = importlib.util.spec_from_file_location("study", ROOT / "docs/make/study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_number_may_be_off_as_far_as_its_column_says():
    exact, near = Column("a", ".2f"), Column("b", ".2f", within=0.5)
    rough, text = Column("c", ".1e", factor=10), Column("d")
    assert agrees(exact, "1.23", 1.231) and not agrees(exact, "1.23", 1.24)
    assert agrees(near, "1.00", 1.5) and not agrees(near, "1.00", 1.51)
    assert agrees(rough, "1.0e-09", 9e-9) and not agrees(rough, "1.0e-09", 1.2e-8)
    assert not agrees(rough, "1.0e-09", -1e-9) and not agrees(rough, "1.0e-09", 0.0)
    assert agrees(text, "no", "no") and not agrees(text, "no", "yes")
    assert not agrees(near, "nan", 1.0) and agrees(near, "nan", float("nan"))


def test_a_table_is_shown_on_a_page_and_on_a_terminal(benchmark_of_the_study):
    columns = Column("what"), Column("value", ".1f")
    table = Table("Nats", columns, lambda found: [("a", 1.25), ("long", found)])
    markdown = benchmark_of_the_study.markdown
    assert markdown(table, -20.0) == (
        "**Nats**\n\n| what | value |\n| --- | ---: |\n| a | 1.2 |\n| long | -20.0 |\n"
    )
    odd = Table("", (Column("|l|"),), lambda found: [(found,)])
    assert markdown(odd, "a|b").splitlines()[2:] == ["| \\|l\\| |", "| --- |", "| a\\|b |"]
    assert tables_of(markdown(odd, "a|b")) == [[["|l|"], ["a|b"]]]
    assert table.text(-20.0) == "Nats\nwhat  value\na       1.2\nlong  -20.0"


def test_a_wide_table_wraps_its_heads_and_texts_but_no_number():
    columns = Column("what is trained"), Column("mean of the errors", ".1f")
    table = Table("Nats per image", columns, lambda found: [("two heads on one h", found)])
    assert table.text(-20.0, 30).splitlines() == [
        "Nats per image",
        "what is            mean of the",
        "trained                 errors",
        "two heads on             -20.0",
        "one h",
    ]
    assert table.text(-123456789.0, 8).splitlines()[-4:] == [
        "two      -123456789.0", "heads", "on one", "h",
    ]  # fmt: skip
