"""The report of a gradient check: what it says, and how short it is in a test suite."""

import numpy as np
import pytest

from numpy_vae import gradcheck

x = np.array([1.0, -2.0, 0.5])


def f(a):
    return np.sum(np.maximum(a["b"], 0)) + np.sum(a["x"] ** 2)


def report_of(dx=2.0, db=0.0):
    return gradcheck(f, {"x": dx * x, "b": np.full(2, db)}, {"x": x, "b": np.zeros(2)})


def test_the_report_is_true_if_and_only_if_the_gradient_is_right():
    for report, status in (
        (report_of(), "ok"),
        (report_of(dx=2.1), "wrong"),
        (report_of(db=1.5), "undecided"),
        (report_of(dx=2.1, db=1.5), "wrong"),
    ):
        assert report.status == status
        assert bool(report) == report.ok == (status == "ok")


def test_an_assertion_of_it_is_short_and_names_what_is_wrong():
    with pytest.raises(AssertionError) as failure:
        assert report_of(dx=2.1, db=1.5)
    assert "<gradcheck wrong: x wrong, b undecided>" in str(failure.value)
    assert len(str(failure.value)) < 150
    assert repr(report_of()) == "<gradcheck ok: 2 blocks>"


@pytest.mark.parametrize(("settings", "status"), [({"dx": 2.1}, "wrong"), ({"db": 9}, "undecided")])
def test_raise_if_wrong_raises_with_the_whole_report(settings, status):
    report_of().raise_if_wrong()
    report = report_of(**settings)
    with pytest.raises(AssertionError) as failure:
        report.raise_if_wrong()
    assert str(failure.value) == f"the gradient is {status}\n{report}"
    assert max(map(len, str(failure.value).splitlines())) <= 130


def test_a_long_list_of_names_ends_with_a_number():
    wrong = {f"W{i}": 3 * x for i in range(20)}
    report = gradcheck(
        lambda a: sum((v**2).sum() for v in a.values()), wrong, dict.fromkeys(wrong, x)
    )
    assert "W6 wrong, W7 wrong and 12 more>" in repr(report)
