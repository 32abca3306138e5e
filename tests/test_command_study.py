"""``numpy-vae study``: the list, the experiments, and its exit status."""

import numpy as np
import pytest
from command_line import PNG, refusal

from numpy_vae import load_digits
from numpy_vae.__main__ import main
from numpy_vae.commands import study as command
from numpy_vae.study import STUDIES, Claim, Column, Study, Table

FOUND = {"one": 2.5, "two": 7.25}


def small(name, holds=True, images=True, error=None):
    """Return an experiment that costs nothing, and remembers what it was run on."""

    def run(setting):
        ran.append((name, setting.quick, setting.seed, setting.data.name))
        setting.say("training 7 models")
        if error is not None:
            raise error
        return FOUND[name]

    ran = small.ran
    return Study(
        name,
        f"Question {name}?",
        "It is so.",
        run,
        (Table("Nats", (Column("what"), Column("value", ".2f")), lambda found: [(name, found)],
               images=images),),
        (Claim("Above zero.", lambda found: found > 0), Claim("Right.", lambda found: holds)),
        lambda figure, found: figure.subplots().plot([found]),
    )  # fmt: skip


@pytest.fixture
def studies(monkeypatch, tmp_path):
    """Replace the studies by two small ones, and MNIST by nothing."""
    small.ran = []
    made = {name: small(name) for name in FOUND}
    monkeypatch.setattr("numpy_vae.study.STUDIES", made)
    monkeypatch.setattr("numpy_vae.data.mnist.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("NUMPY_VAE_DATA", raising=False)
    monkeypatch.setattr("numpy_vae.data.mnist.MNIST_MIRRORS", ())
    monkeypatch.chdir(tmp_path)
    return made


def test_without_a_name_the_questions_are_listed(capsys):
    assert main(["study"]) == 0
    *lines, blank, last = capsys.readouterr().out.splitlines()
    assert len(lines) == len(STUDIES) and blank == ""
    assert last == "numpy-vae study NAME runs one; its page is docs/study/NUMBER-NAME.md"
    for number, (line, study) in enumerate(zip(lines, STUDIES.values(), strict=True), start=1):
        assert line.split(maxsplit=2) == [f"{number}.", study.name, study.question]


def test_a_study_prints_its_tables_and_its_claims_and_writes_its_figure(studies, tmp_path, capsys):
    assert main(["study", "two", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert small.ran == [("two", True, 3, "digits")]
    head = "Question two?\nsynthetic digits, seed 3; docs/study/02-two.md\n\n"
    assert out.startswith(head + "training 7 models ...\n\nNats\n")
    assert "two    7.25\n\n1. holds  Above zero.\n2. holds  Right.\n\nIt is so.\n\n" in out
    assert "\n2 of 2 claims hold; written: study/two.png; " in out
    assert (tmp_path / "study" / "two.png").read_bytes().startswith(PNG)


def test_all_are_run_once_each_in_the_order_of_the_pages(studies, tmp_path, capsys):
    assert main(["study", "two", "one", "two", "--out", "here/there"]) == 0
    assert main(["study", "all", "one"]) == 0
    assert [name for name, *_ in small.ran] == ["one", "two", "one", "two"]
    assert sorted(p.name for p in (tmp_path / "here/there").iterdir()) == ["one.png", "two.png"]


def test_a_claim_that_fails_ends_the_command_with_1_after_all_have_run(studies, capsys):
    studies["one"] = small("one", holds=False)
    assert main(["study", "all"]) == 1
    out = capsys.readouterr().out
    assert (
        "1. holds  Above zero.\n2. FAILS  Right.\n\n1 of 2 claims hold; written: study/one" in out
    )
    assert "It is so.\n\n2 of 2 claims hold; written: study/two.png" in out


def test_a_long_claim_is_wrapped_at_the_width_of_the_terminal(studies, monkeypatch, capsys):
    claim = Claim("This is a sentence of the page that goes on and on and on.", lambda found: True)
    studies["one"] = small("one")._replace(claims=(claim,))
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["study", "one"]) == 0
    wrapped = "1. holds  This is a sentence of the page\n          that goes on and on and on.\n"
    assert wrapped in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["three"], "NAME is 'three', must be one of one, two, or all"),
        (["tow"], "must be one of one, two, or all (did you mean two?)"),
        (["one", "--out", "file"], "--out file is a file, must be a folder"),
        (["one", "--out", "taken"], "taken/one.png is a folder, must be free for a figure"),
        (["one", "--data-dir", "x"], "--data-dir applies to --data mnist, not to --data digits"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(studies, tmp_path, capsys, words, message):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "taken" / "one.png").mkdir(parents=True)
    assert message in refusal(capsys, "study", *words)
    assert small.ran == [] and sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken"]


def test_a_study_without_a_figure_says_so_and_writes_nothing(studies, tmp_path, capsys):
    studies["one"] = studies["one"]._replace(draw=None)
    assert main(["study", "one"]) == 0
    out = capsys.readouterr().out
    assert "\n2 of 2 claims hold; 0" in out and "written" not in out
    assert list(tmp_path.iterdir()) == []


def test_mnist_is_the_full_size(studies, monkeypatch, capsys):
    asked = []

    def load_mnist(folder):
        asked.append(folder)
        return load_digits(60)

    monkeypatch.setattr(command, "load_mnist", load_mnist)
    assert main(["study", "one", "--data", "mnist", "--data-dir", "there"]) == 0
    assert small.ran == [("one", False, 0, "digits")] and asked == ["there"]
    assert "\nMNIST, seed 0;" in capsys.readouterr().out


def test_what_looks_at_no_images_needs_none(studies, capsys):
    studies["one"] = small("one", images=False)
    assert main(["study", "one", "--data", "mnist"]) == 0  # which is not there
    assert "\nno images, seed 0;" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FloatingPointError("the loss is not finite"), "one: the loss is not finite"),
        (OSError(28, "No space left on device", "study/one.png"), "one: study/one.png: No space"),
        (MemoryError(), "one: out of memory"),
    ],
)
def test_where_one_comes_to_no_end_the_others_still_run(studies, tmp_path, capsys, error, line):
    studies["one"] = small("one", error=error)
    assert main(["study", "all"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"numpy-vae study: error: {line}") and err.count("\n") == 1
    assert "written: study/two.png" in out
    assert [p.name for p in (tmp_path / "study").iterdir()] == ["two.png"]


def test_a_full_disk_costs_no_figure_that_was_there(studies, tmp_path, capsys, monkeypatch):
    assert main(["study", "one"]) == 0
    before = (tmp_path / "study/one.png").read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["study", "one", "--overwrite"]) == 1
    assert (tmp_path / "study/one.png").read_bytes() == before
    assert [p.name for p in (tmp_path / "study").iterdir()] == ["one.png"]


def test_a_figure_that_is_there_is_replaced_only_when_asked(studies, tmp_path, capsys):
    (tmp_path / "study").mkdir()
    (tmp_path / "study/one.png").write_text("mine")
    assert main(["study", "one"]) == 2
    assert "study/one.png: exists already; --overwrite replaces it" in capsys.readouterr().err
    assert small.ran == [] and (tmp_path / "study/one.png").read_text() == "mine"
    assert main(["study", "one", "--overwrite"]) == 0
    assert (tmp_path / "study/one.png").read_bytes().startswith(PNG)


def test_a_figure_that_appears_meanwhile_is_kept(studies, tmp_path, capsys, monkeypatch):
    def run(setting):
        (tmp_path / "study/one.png").write_text("mine")
        return 2.5

    monkeypatch.setitem(studies, "one", studies["one"]._replace(run=run))
    assert main(["study", "one"]) == 1
    assert "study/one.png: exists already; --overwrite" in capsys.readouterr().err
    assert (tmp_path / "study/one.png").read_text() == "mine"


def test_the_synthetic_digits_of_the_quick_size_are_always_the_same():
    first, second = command.setting_of("digits", 0), command.setting_of("digits", 5)
    np.testing.assert_array_equal(first.data.train, second.data.train)
    assert (len(first.data.train), len(first.data.test)) == (2500, 500)
    part = first.images(7, 5)
    assert (len(part.train), len(part.test)) == (7, 5)
    assert (part.name, part.image_shape) == ("digits", (28, 28))
    np.testing.assert_array_equal(part.train, first.data.train[:7])
