"""The mutation run: what it changes, what it calls killed, and a sample of its mutants."""

import random

import mutation
import planting
import pytest
from equivalent import EQUIVALENT
from mutation import MODULES, Mutant, faults, mutants, survivors

pytestmark = pytest.mark.slow


def texts(code):
    return {mutant.text for mutant in mutants("sample", code)}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("a + b", {"a - b", "a", "b"}),
        ("a - b", {"a + b", "b - a", "a", "b"}),
        ("a * b", {"a / b", "a", "b"}),
        ("a / 2", {"a * 2", "2 / a", "a", "2", "a / 3", "a / -2"}),
        ("a ** b", {"a * b", "b ** a", "a", "b"}),
        ("a @ b.T", {"b.T @ a", "a", "b.T", "a @ b"}),
        ("a << b", {"a >> b", "b << a", "a", "b"}),
        ("-a", {"a"}),
        ("not a", {"a"}),
        ("a > b", {"a >= b", "a < b"}),
        ("a <= b", {"a < b", "a >= b"}),
        ("a == b", {"a != b"}),
        ("a is not b", {"a is b"}),
        ("a in b", {"a not in b"}),
        ("a and b", {"a or b", "a", "b"}),
        ("b if a else c", {"b if not a else c"}),
        ("True", {"False"}),
        ("0", {"1"}),
        ("1", {"2", "0", "-1"}),
        ("0.25", {"0.5", "-0.25"}),
        ("a[-1]", {"a[1]", "a[-2]", "a[-0]"}),
        ("a.sum(axis=0)", {"a.mean(axis=0)", "a", "a.sum()", "a.sum(axis=1)"}),
        ("np.exp(a)", {"np.expm1(a)"}),
        ("np.zeros(a, b)", {"np.ones(a, b)", "np.zeros(a)"}),
        ("kl(a, b)", {"kl(b, a)"}),
        ("len(a)", set()),
        ("a, b", {"b, a"}),
        ("reversed(a)", {"a"}),
    ],
)
def test_the_mutants_of_a_value(code, expected):
    trees = texts(f"def f(a, b, c):\n    return ({code})")
    assert {text.partition("return ")[2].strip("()") for text in trees} == {
        text.strip("()") for text in expected
    }


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("m += u", {"m -= u", "pass"}),
        ("m *= u", {"m /= u", "pass"}),
        ("m |= u", {"pass"}),
        ("m[a] = b", {"pass"}),
        ("m.a = b", {"pass"}),
        ("m = b", set()),
        ("check(a)", {"pass"}),
        ("raise ValueError('a')", {"pass"}),
        ("if a:\n    b", {"if not a:\n    b"}),
        ("def f(a=0):\n    return a", {"def f(a=1):\n    return a"}),
        ("def f(*, a, b=0):\n    return a", {"def f(*, a, b=1):\n    return a"}),
        ("def f(a: A[1] = b) -> A[2]:\n    '''1 + 1'''", set()),
        ("A = B | None, C[D | None]", {"A = (C[D | None], B | None)"}),
        ("a = (1, 'a')", set()),
        ("a = {'a': (1, 'b')}", set()),
        ("a: A[1] = f'{a + 1} is 2, must be 3', 'a'", set()),
        ("__all__ = [a + b]", set()),
    ],
)
def test_the_mutants_of_a_statement(code, expected):
    assert texts(code) == expected


def test_a_key_says_where_and_what_and_outlives_a_change_elsewhere():
    code = "class A:\n    def f(self, a, b=1, *, c=False):\n        return a + 2 * a, 2 * a"
    found = mutants("sample", code)
    keys = [mutant.key for mutant in found]
    defaults = ["c=False -> c=True", "b=1 -> b=2", "b=1 -> b=0"]
    assert keys[:3] == [f"sample.A.f: {default}" for default in defaults]
    assert {"sample.A.f: 2 * a -> 3 * a", "sample.A.f: 2 * a -> 3 * a (2)"} <= set(keys)
    later = mutants("sample", f"X = A\n\n\n{code}")
    assert [mutant.key for mutant in later] == keys
    assert [mutant.line - 3 for mutant in later] == [mutant.line for mutant in found]


@pytest.fixture(scope="module")
def everything():
    return [mutant for module in MODULES for mutant in mutants(module)]


def test_no_two_mutants_of_the_package_share_a_key(everything):
    assert len({mutant.key for mutant in everything}) == len(everything) > 900
    assert len({(mutant.module, mutant.text) for mutant in everything}) == len(everything)


def test_the_list_of_equivalent_mutants_is_not_out_of_date(everything):
    assert EQUIVALENT.keys() <= {mutant.key for mutant in everything}
    assert all(EQUIVALENT.values())


def test_a_sample_of_the_mutants_is_killed(everything):
    sample = random.Random(0).sample([m for m in everything if m.key not in EQUIVALENT], 10)
    assert not survivors(sample)


def test_what_makes_a_run_fail(monkeypatch):
    one, two = (Mutant(f"optim: {name}", "optim", 1, "") for name in ("a -> b", "c -> d"))
    monkeypatch.setattr(mutation, "EQUIVALENT", {})
    assert not faults([], [one, two], [])
    assert faults([], [one, two], [two]) == ["survives: optim.py:1: optim: c -> d"]
    monkeypatch.setattr(mutation, "EQUIVALENT", {"optim: a -> b": "", "layers: a -> b": ""})
    assert faults(["optim"], [one, two], [two]) == [
        "survives: optim.py:1: optim: c -> d",
        "is killed, and listed as equivalent: optim: a -> b",
        "is listed as equivalent, and no mutant: optim: a -> b",
    ]


def test_the_command_lets_an_equivalent_mutant_live_and_no_other(monkeypatch, capsys):
    monkeypatch.setattr(mutation, "OTHERS", ("params",))
    key = "layers.Trunk.backward_params: i > 0 -> i >= 0"
    command = ["layers", "--only", key]
    assert mutation.main(command) == 0
    out, err = capsys.readouterr()
    assert "layers                    1        0           1         0" in out and key in err
    monkeypatch.setattr(mutation, "EQUIVALENT", {})
    assert mutation.main([*command, "--survivors"]) == 1
    line = planting.source("layers").split("if i > 0")[0].count("\n") + 1
    assert capsys.readouterr() == (f"survives: layers.py:{line}: {key}\n", "")


def test_the_command_refuses_to_judge_by_tests_that_fail(monkeypatch, capsys):
    source = planting.source
    monkeypatch.setattr(planting, "source", lambda module: source(module) + "\n1 / 0\n")
    monkeypatch.setattr(mutation, "OTHERS", ("params",))
    assert mutation.main(["layers", "--only", "i > 0"]) == 2
    assert "without a mutant the tests fail: tests/test_layers.py" in capsys.readouterr().out


def test_the_page_of_the_tests_has_the_numbers(everything):
    page = (planting.ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    text = " ".join(page.split())
    found, alike = len(everything), len(EQUIVALENT)
    assert f"There are {found} mutants; {alike} are known to be equivalent" in text
