"""The exercise of page 11: right lines pass, and each wrong one is named."""

import re
from pathlib import Path

import numpy as np
import pytest
from command_line import refusal

from numpy_vae.__main__ import main
from numpy_vae.study.exercise import LINES, check, judge

ROOT = Path(__file__).resolve().parent.parent.parent
BLANK = (ROOT / "examples/backward_blank.py").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/study/11-backward.md").read_text(encoding="utf-8")
SOLUTION = {
    "dl": "(1 / (1 + np.exp(-l)) - x) / B",
    "dW_out": "h_dec.T @ dl",
    "db_out": "dl.sum(axis=0)",
    "dh_dec": "dl @ W_out.T",
    "da_dec": "dh_dec * (h_dec > 0)",
    "dW_dec": "z.T @ da_dec",
    "db_dec": "da_dec.sum(axis=0)",
    "dz": "da_dec @ W_dec.T",
    "dmu": "dz + mu / B",
    "dlogvar": "dz * eps * sigma / 2 + (sigma**2 - 1) / 2 / B",
    "dW_mu": "h.T @ dmu",
    "db_mu": "dmu.sum(axis=0)",
    "dW_logvar": "h.T @ dlogvar",
    "db_logvar": "dlogvar.sum(axis=0)",
    "dh": "dmu @ W_mu.T + dlogvar @ W_logvar.T",
    "da": "dh * (h > 0)",
    "dW_enc": "x.T @ da",
    "db_enc": "da.sum(axis=0)",
}


def written(tmp_path, **lines):
    """Return the path of a copy of the blank with the solution, but for these lines."""
    text = BLANK
    for name, line in (SOLUTION | lines).items():
        text = text.replace(f"    {name} = ...", f"    {name} = {line}")
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def verdicts(path):
    return {line.name: line.verdict for line in check(path)[0]}


def test_the_solution_is_right_and_is_that_of_the_page(tmp_path, capsys):
    assert main(["study", "backward", "--mine", written(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.endswith("18 of 18 lines are right\n") and "begin there" not in out
    code = next(b for b in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "dl = " in b)
    for name, line in SOLUTION.items():
        assert f"{name} = {line}" in code, name


def test_the_blank_has_every_line_to_be_written(capsys):
    assert re.findall(r"^    (\w+) = \.\.\.", BLANK, re.MULTILINE) == list(LINES)
    assert main(["study", "backward", "--mine", str(ROOT / "examples/backward_blank.py")]) == 1
    out = capsys.readouterr().out
    assert out.count("not written") == 18
    assert out.endswith("right is dl: begin there.\n0 of 18 lines are right\n")


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_is_off_by_a_thousandth_is_wrong(tmp_path, name):
    seen = verdicts(written(tmp_path, **{name: f"1.001 * ({SOLUTION[name]})"}))
    order = list(LINES)
    assert seen[name] == "wrong"
    assert all(seen[line] == "right" for line in order[: order.index(name)])


@pytest.mark.parametrize("name", ["dW_out", "dW_dec", "dW_mu", "dW_logvar", "dW_enc"])
def test_a_forgotten_transpose_has_the_wrong_shape(tmp_path, name):
    lines = {name: f"({SOLUTION[name]}).T"}
    assert verdicts(written(tmp_path, **lines))[name].startswith("wrong shape, must be (")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("dl", "1 / (1 + np.exp(-l)) - x"),  # the mean over the batch
        ("dmu", "dz"),  # the KL
        ("dmu", "dz + mu"),
        ("dlogvar", "dz * eps * sigma + (sigma**2 - 1) / 2 / B"),  # σ for log σ²
        ("da_dec", "dh_dec"),  # the relu
        ("dh", "dmu @ W_mu.T"),  # one of the heads
    ],
)
def test_the_usual_slips_are_wrong(tmp_path, name, line):
    assert verdicts(written(tmp_path, **{name: line}))[name] == "wrong"


def test_where_the_function_ends_in_an_error_the_lines_before_are_judged(tmp_path, capsys):
    assert main(["study", "backward", "--mine", written(tmp_path, dz="da_dec @ W_dec")]) == 1
    out = capsys.readouterr().out
    assert re.search(r"passes ended in line \d+: ValueError: matmul", out)
    assert out.count("not reached") == 11 and out.endswith("7 of 18 lines are right\n")


def test_what_is_not_an_array_or_not_a_number_is_wrong():
    right = np.ones((2, 3))
    assert judge("dz", {1}, right).verdict == "is set, must be an array"
    assert judge("dz", right * np.nan, right).verdict == "wrong"
    assert judge("dz", right.tolist(), right).verdict == "right"


@pytest.mark.parametrize(
    ("words", "text", "message"),
    [
        (["backward"], None, "mine.py is not a file"),
        (["tied"], "", "--mine applies to numpy-vae study backward alone"),
        ([], "", "--mine applies to numpy-vae study backward alone"),
        (["backward"], "x = 1", "mine.py has no function passes: copy examples/backward_blank.py"),
        (["backward"], "def passes(:", "mine.py: SyntaxError: invalid syntax"),
        (["backward"], "a = 1\na.b", "mine.py: line 2: AttributeError: 'int' object has no"),
    ],
)
def test_a_file_that_cannot_be_checked_is_refused_in_one_line(
    tmp_path, capsys, words, text, message
):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    assert message in refusal(capsys, "study", *words, "--mine", str(path))
