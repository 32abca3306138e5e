"""Every bug of the museum is planted, and caught by each kind of test that its record names.

That no other kind catches it takes much longer to show: docs/make/museum.py does.
"""

import sys

import jury
import numpy as np
import planting
import pytest
from bugs import BUGS, CLASSES, GRADIENT, KINDS

sys.path.insert(0, str(planting.ROOT / "docs" / "make"))

from museum import CHECKED, JURY, PAGE, TESTS, document, found, job, judge

pytestmark = pytest.mark.slow


def test_the_package_as_it_is_passes_the_jury():
    # The other kinds are tests of this suite; docs/make/museum.py runs them, too.
    outcome = planting.run(planting.Job({}, (JURY,)))
    assert not outcome.caught, (outcome.failed, outcome.crash)
    run = {mark for node in outcome.passed for mark in outcome.marks[node]}
    assert run >= GRADIENT | {"place"}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_bug_is_seen_by_those_who_are_said_to_see_it(bug):
    verdict = judge(bug, planting.run(job(bug, bug.seen_by)))
    assert not verdict.crash
    assert verdict.caught, f"{bug.test} passes with the bug; these do not: {verdict.failed}"
    assert sorted(verdict.seen_by) == sorted(bug.seen_by), verdict.failed
    assert verdict.places == bug.places


def test_the_page_is_what_the_records_say():
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    assert text == document(), "run python docs/make/museum.py"


def test_there_are_many_bugs_and_each_has_a_name_and_an_edit_of_its_own():
    assert len(BUGS) >= 25
    for value in ("name", "title", "edits"):
        assert len({str(getattr(bug, value)) for bug in BUGS}) == len(BUGS), value
    assert all(bug.seen_by and bug.seen_by <= set(KINDS) and bug.why for bug in BUGS)


def test_the_page_of_the_tests_has_the_number_of_bugs():
    page = (planting.ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    assert f"Each of the {len(BUGS)} bugs" in " ".join(page.split())


def test_every_class_of_published_bugs_has_one():
    assert {bug.row for bug in BUGS} - {0} == set(CLASSES) == set(range(1, 18))


@pytest.mark.parametrize("row", CLASSES)
def test_a_gradient_check_catches_what_it_is_expected_to_catch(row):
    tiny = [place for place in jury.PLACES if place.startswith("weights of")]
    answer, *places = found(row).split("; ")
    expected = {
        "yes": ("yes", set()),
        "no": ("no", set()),
        "yes, not at tiny weights with a loose tolerance": ("yes", {f"not with {p}" for p in tiny}),
        "only at B > 1": ("yes", {"not with a batch of one image"}),
        "only outside the clamp": ("no", {"yes with log-variances near -14"}),
        "not at 1e-4; yes by complex step": ("by complex", set()),
    }[CLASSES[row][1]]
    assert answer == expected[0]
    assert set(places) <= expected[1] and bool(places) == bool(expected[1])


def test_what_no_gradient_check_runs_is_seen_by_none():
    assert set(TESTS) - CHECKED == {
        "optim", "training.evaluate", "training.loop", "data.arrays", "data.binarize",
        "runs.checkpoint",
    }  # fmt: skip
    for bug in BUGS:
        assert not bug.seen_by & GRADIENT or CHECKED & bug.edits.keys()


@pytest.mark.parametrize("lead", [(jury.B,), (jury.K, jury.B)], ids=["one", "K"])
def test_each_relu_unit_of_the_jury_is_on_for_some_images_and_off_for_others(lead):
    point = jury.draw_point(np.random.default_rng(jury.SEED), lead)
    trace = jury.build(point, "relu").forward(point["x"], point["eps"])
    for h in (trace.h, trace.decoder[-1]):
        on = (h > 0).reshape(-1, jury.H).mean(axis=0)
        assert ((on > 0) & (on < 1)).all()
