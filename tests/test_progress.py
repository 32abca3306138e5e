"""What a person sees of a training: on a terminal, in a pipe, in a notebook, and quiet."""

import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from command_line import train

from numpy_vae import VAE, Progress, fit
from numpy_vae.data import Dataset
from numpy_vae.runs.progress import duration, epoch_line, step_line
from numpy_vae.training.state import Record, Step

STEP = Step(2, 30, 7, 469, -105.5, 80.25, 25.25)
RECORD = Record(2, -105.5, 80.25, 25.25, -99.5, 75.0, 24.5, 1.25, 0.5, -105.5)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes standard error a terminal of 200 columns, and returns it."""

    def install():  # in the test itself, since pytest sets standard error before it
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    return install


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_live_line_says_epoch_batch_time_left_and_the_terms():
    assert step_line(STEP, 75.0) == (
        "epoch 2/30  batch   7/469  1:15 min left  reconstruction 80.25 + KL 25.25 nats"
    )
    assert step_line(STEP, None) == step_line(STEP, 75.0).replace("  1:15 min left", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (3599, "59:59 min"), (3600, "1:00 h"),
     (90_061, "25:01 h")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_line_about_an_epoch_names_the_set_that_was_evaluated():
    line = epoch_line(RECORD, 30)
    assert line.startswith("epoch  2/30  -ELBO train  105.500  test   99.500 = reconstruction")
    assert line.endswith("  1.2 s") and "loss" not in line and "validation" not in line
    other = RECORD._replace(train_bound=-100.0, validation_elbo=-98.0,
                            validation_reconstruction=70.0, validation_kl=28.0)  # fmt: skip
    assert "loss train  100.000" in epoch_line(other, 30)
    assert "validation   98.000 = reconstruction   70.000 + KL  28.000" in epoch_line(other, 30)


def test_the_time_left_is_that_of_the_steps_so_far(terminal, clock):
    terminal = terminal()
    show = Progress()
    for batch in range(1, 11):  # 0.5 s a step: 9 steps in 4.5 s, 90 are left
        show(Step(1, 2, batch, 50, -3.0, 2.0, 1.0))
        clock[0] += 0.5
    assert "batch 10/50  45 s left" in terminal.getvalue().split("\r")[-1]
    # Gone on with after epoch 1, it counts from there.
    show = Progress()
    show(Step(2, 2, 1, 50, -3.0, 2.0, 1.0))
    assert "left" not in terminal.getvalue().split("\r")[-1]
    clock[0] += 2
    show(Step(2, 2, 2, 50, -3.0, 2.0, 1.0))
    assert "batch  2/50  1:36 min left" in terminal.getvalue().split("\r")[-1]


def test_a_second_training_has_a_time_of_its_own(terminal, clock):
    terminal = terminal()
    show = Progress()
    for batch in range(1, 11):
        show(Step(1, 1, batch, 10, -3.0, 2.0, 1.0))
        clock[0] += 60
    for batch in range(1, 6):
        show(Step(1, 1, batch, 10, -3.0, 2.0, 1.0))
        clock[0] += 1
    assert "batch  5/10  5 s left" in terminal.getvalue().split("\r")[-1]


def test_the_live_line_is_not_drawn_more_often_than_one_can_read(terminal, clock):
    terminal = terminal()
    show = Progress()
    for batch in range(1, 101):
        show(STEP._replace(batch=batch))
        clock[0] += 0.01
    assert 9 <= terminal.getvalue().count("\r") <= 11


def test_the_live_line_is_replaced_whole_and_cut_to_the_terminal(terminal, clock, monkeypatch):
    terminal = terminal()
    show = Progress()
    show.show("a long line")
    show.show("too fresh")
    clock[0] += 1
    show.show("short")
    assert terminal.getvalue() == "\ra long line\rshort      "
    show.clear()
    assert terminal.getvalue().endswith("\r     \r")
    monkeypatch.setenv("COLUMNS", "60")
    clock[0] += 1
    show.show("x" * 200)
    assert terminal.getvalue().split("\r")[-1] == "x" * 59


def test_an_epoch_takes_the_place_of_the_live_line(terminal, capsys):
    terminal = terminal()
    show = Progress()
    show(STEP)
    show(RECORD)
    assert terminal.getvalue().endswith(f"\r{' ' * len(step_line(STEP, None))}\r")
    assert capsys.readouterr().out == epoch_line(RECORD, 30) + "\n"


def test_a_dumb_terminal_has_no_live_line(terminal, monkeypatch):
    terminal = terminal()
    monkeypatch.setenv("TERM", "dumb")
    Progress()(STEP)
    assert terminal.getvalue() == ""


def test_quiet_is_quiet(terminal, capsys):
    terminal = terminal()
    show = Progress(quiet=True)
    for event in STEP, RECORD:
        show(event)
    show.say("a word")
    assert terminal.getvalue() == "" and capsys.readouterr().out == ""


def test_a_notebook_has_its_live_line_on_standard_output(monkeypatch, clock):
    # As ipykernel has them: no terminals, and standard error is shown on a red ground.
    class OutStream(io.StringIO):
        pass

    OutStream.__module__ = "ipykernel.iostream"
    out, error = OutStream(), OutStream()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", error)
    monkeypatch.setenv("COLUMNS", "20")  # of no terminal
    show = Progress()
    for batch in range(1, 101):
        show(STEP._replace(batch=batch))
        clock[0] += 0.1
    show(RECORD)
    assert error.getvalue() == ""
    *live, last = out.getvalue().split("\r")
    assert (
        15 <= len(live) <= 25
        and any(part.endswith(" nats") for part in live)
        and last == epoch_line(RECORD, 30) + "\n"
    )


def test_fit_reports(capsys):
    images = np.random.default_rng(0).random((12, 6)).astype(np.float32)
    vae = VAE(6, (3,), 1, rng=0)
    history = fit(
        vae, Dataset("random", images[2:], images[:2]), epochs=2, rng=0, report=Progress()
    )
    out = capsys.readouterr().out.splitlines()
    assert out == [epoch_line(record, 2) for record in history]


@pytest.mark.usefixtures("folder")
def test_without_a_terminal_there_is_no_live_line(capsys):
    assert train("--epochs", "2", "--out", "out") == 0
    captured = capsys.readouterr()
    assert captured.err == "" and "\r" not in captured.out
    assert sum(line.startswith("epoch ") for line in captured.out.splitlines()) == 2


@pytest.mark.usefixtures("folder")
def test_a_quiet_training_prints_only_errors(capsys, monkeypatch):
    assert train("--epochs", "2", "--out", "out", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert train("--epochs", "2", "--out", "out", "--quiet") == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("numpy-vae train: error: out already")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("quiet", [False, True])
def test_on_a_real_terminal(quiet):
    import pty

    controller, terminal = pty.openpty()
    words = ["--data", "small.npy", "--batch-size", "1", "--epochs", "40", "--out", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "numpy_vae", "train", *words, *["--quiet"] * quiet],
        stdout=terminal, stderr=terminal, env=os.environ | {"TERM": "xterm", "COLUMNS": "70"},
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    while True:
        try:
            read = os.read(controller, 1 << 16)
        except OSError:  # on Linux, what the end of a terminal is
            read = b""
        if not read:
            break
        shown += read
    os.close(controller)
    assert process.wait() == 0
    if quiet:
        assert shown == b""
        return
    lines = [line.decode() for line in shown.split(b"\r\n")]
    live = [part for line in lines for part in line.split("\r")[:-1] if part.strip()]
    assert live and all(len(part) < 70 and part.startswith("epoch ") for part in live)
    assert any(" left  reconstruction " in part for part in live)
    # What stays on the screen is what follows the last return of each line.
    stays = [line.split("\r")[-1] for line in lines]
    assert sum(line.startswith("epoch ") and line.endswith(" s") for line in stays) == 40


def test_an_interrupt_takes_effect_at_the_next_step():
    show = Progress()
    show.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        show(STEP)


@pytest.fixture
def default_interrupt():
    """Let Ctrl-C do what it does by default, also where pytest runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)  # in which Python calls the handler


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to whole consoles only")
def test_the_first_interrupt_waits_for_the_step_and_the_second_does_not(default_interrupt):
    show, reached = Progress(quiet=True), []
    with pytest.raises(KeyboardInterrupt), show.catch_interrupt():
        assert not show.interrupted
        interrupt()
        reached.append(show.interrupted)
        interrupt()
        reached.append("beyond")
    assert reached == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to whole consoles only")
def test_what_others_have_decided_about_interrupts_holds(default_interrupt):
    heard = []
    signal.signal(signal.SIGINT, lambda *args: heard.append(args))
    show = Progress(quiet=True)
    with show.catch_interrupt():
        interrupt()
    assert len(heard) == 1 and not show.interrupted
    # Nor is anything decided from another thread, which may not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with ThreadPoolExecutor() as pool:
        assert pool.submit(lambda: show.catch_interrupt().__enter__()).result() is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_same_bound_is_not_said_twice():
    assert "loss" not in epoch_line(RECORD._replace(train_bound=-105.5005), 30)
    assert "loss" in epoch_line(RECORD._replace(train_bound=-105.49), 30)
