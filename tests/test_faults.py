"""What goes wrong around a run: streams, terminals, files and folders, threads, the environment.

Each ends with the right exit status and one line, or with nothing at all, and loses no file.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from command_line import change_settings, listing, metrics_of, refusal, train

from numpy_vae import Progress, starting
from numpy_vae.__main__ import main
from numpy_vae.checks import shorten
from numpy_vae.data import arrays, mnist, readers
from numpy_vae.figures import of_a_run as figures
from numpy_vae.runs import run as runs
from numpy_vae.runs.directory import open_run
from numpy_vae.runs.owned import OwnFiles
from numpy_vae.runs.progress import LONGEST, complain

pytestmark = pytest.mark.usefixtures("folder")
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither these signals nor pipes")
EVALUATE = ["evaluate", "run", "--samples", "2", "--json"]


@pytest.fixture
def run(folder):
    assert train("--epochs", "1", "--out", "run", "--quiet") == 0
    return folder / "run"


def one_line(capsys):
    """Return the one line on standard error, without a traceback."""
    captured = capsys.readouterr()
    assert "kl.png" not in captured.out  # of what was written
    assert captured.err.count("\n") == 1 and len(captured.err) <= LONGEST + 1
    return captured.err


# Streams ----------------------------------------------------------------------------------------


class Broken(io.StringIO):
    """A stream that fails as that of a full device or a dead terminal does."""

    def __init__(self, terminal=False):
        super().__init__()
        self.terminal, self.tried = terminal, 0

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.tried += 1
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("words", [EVALUATE, EVALUATE[:-1], ["study"]], ids=" ".join)
@pytest.mark.parametrize("stream", [None, "broken", "closed"])
def test_a_result_that_cannot_be_written_ends_with_1_and_a_line(
    run, capsys, monkeypatch, words, stream
):
    out = None if stream is None else Broken()
    if stream == "closed":
        out.close()
    monkeypatch.setattr(sys, "stdout", out)
    assert main(words) == 1
    assert "error: standard output: closed or full, so the result is lost" in one_line(capsys)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_result_for_a_full_device_ends_with_1_and_a_line(run):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "numpy_vae", *EVALUATE],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith("numpy-vae evaluate: error: standard output: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("terminal", [None, False, True])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_training_goes_on_without_a_stream(folder, monkeypatch, name, terminal):
    stream = None if terminal is None else Broken(terminal)
    monkeypatch.setattr(sys, name, stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("numpy_vae.runs.progress.TERMINAL_EVERY", 1e-9)
    assert train("--epochs", "3", "--batch-size", "5", "--out", "run") == 0
    assert metrics_of("run")["epochs"] == 3
    if stream is not None and name == "stderr":
        assert stream.tried == (1 if stream.terminal else 0)  # and then no more


def test_an_error_is_no_output_where_there_is_no_standard_error(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["evaluate", "nowhere"]) == 2
    assert capsys.readouterr().out == ""
    Progress().show("a live line")
    assert capsys.readouterr().out == ""


def test_help_that_cannot_be_written_ends_with_1(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken())
    assert main(["train", "--help"]) == 1
    assert "standard output: closed or full" in one_line(capsys)


def test_a_line_on_standard_error_is_a_line(folder, capsys):
    complain("x\ny" * 9000)
    one_line(capsys)


@posix
@pytest.mark.parametrize("number", [1, 2])
def test_a_closed_descriptor_is_given_to_no_file(run, number):
    code = (
        "import os, sys; os.close(int(sys.argv[1]))\n"
        "from numpy_vae.__main__ import main\n"
        "status = main(['encode', 'run'])\n"
        "os.write(int(sys.argv[1]), b'from below')\n"
        "sys.exit(status)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(number)], capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
    assert np.load("run/latents.npz")["train_mu"].shape == (50, 2)


# Ctrl-C -----------------------------------------------------------------------------------------


@posix
def test_ctrl_c_during_the_import_is_a_quiet_130(folder):
    Path("numpy").mkdir()
    Path("numpy/__init__.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "numpy_vae", "--version"], capture_output=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"")


@pytest.mark.parametrize(
    ("argv", "orig", "expected"),
    [
        (["-m"], ["python", "-m", "numpy_vae", "train"], True),
        (["-m"], ["python", "-mnumpy_vae", "train"], True),
        (["/bin/numpy-vae", "train"], ["python", "/bin/numpy-vae", "train"], True),
        (["-m"], ["python", "-m", "another"], False),
        (["/lib/pytest/__main__.py"], ["python", "-m", "pytest", "numpy_vae"], False),
        (["mine.py"], ["python", "mine.py"], False),
        ([""], ["python"], False),
        ([], ["python"], False),
    ],
)
def test_only_the_command_line_takes_ctrl_c(monkeypatch, argv, orig, expected):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig)
    assert starting._is_command_line() is expected


@posix
def test_the_command_line_gives_ctrl_c_back(folder):
    before = signal.signal(signal.SIGINT, starting.end)
    try:
        with pytest.raises(SystemExit):
            main([])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_after_the_folder_has_gone_is_one_line(folder, capsys, monkeypatch):
    def interrupted(self, event):
        shutil.rmtree("run")
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", interrupted)
    assert train("--epochs", "2", "--out", "run", "--quiet") == 130
    assert one_line(capsys) == "interrupted; run does not hold a readable run\n"


# Threads and matplotlib -------------------------------------------------------------------------


def test_threads_that_cannot_start_are_reported_in_one_line(folder, capsys, monkeypatch):
    def fails(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fails)
    assert train("--threads", "3", "--out", "run", "--quiet") == 1
    assert "the system cannot start 3 threads: can't start new thread; the" in one_line(capsys)
    assert open_run(Path("run")).history == []


def samples(path, name="small"):
    figures.save_samples(path, np.linspace(0, 1, 40).reshape(2, 20), (4, 5), name=name)
    return Path(path).read_bytes()


@pytest.mark.parametrize(
    "setting",
    [
        {"text.usetex": True},
        {"font.family": "a font that nobody has"},
        {"figure.dpi": 3, "savefig.dpi": 7, "savefig.transparent": True, "image.cmap": "jet"},
    ],
    ids=str,
)
def test_what_the_user_has_set_for_figures_does_not_reach_those_of_a_run(folder, setting):
    plain = samples("plain.png")
    with mpl.rc_context(setting):
        assert samples("set.png") == plain


@pytest.mark.parametrize("name", ["数字", "數\x07", "naïve Σ"])
def test_a_name_that_the_font_cannot_show_is_no_warning(folder, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = samples("named.svg", name).decode()
    shown = "".join(c if c in "naïve Σ" else "?" for c in name)
    assert f"({shown})" in text


def test_warnings_of_matplotlib_are_not_shown(folder):
    Path("matplotlibrc").write_text("backend: nonsense\nno.such.key: 3\n")
    code = "from numpy_vae.commands.inputs import check_drawing; check_drawing()"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "MPLBACKEND": "nonsense"},
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# Messages ---------------------------------------------------------------------------------------


def test_no_message_is_longer_than_some_hundred_characters(run, capsys):
    whole = (run / "checkpoint.npz").read_bytes()
    rng, refused = np.random.default_rng(0), 0
    # The lengths and names of the members are where a bit does the most harm.
    ends = [i for i in range(len(whole)) if whole.startswith((b"PK\1\2", b"PK\3\4"), i)]
    places = [start + offset for start in ends for offset in rng.integers(46, size=6)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        (run / "checkpoint.npz").write_bytes(damaged)
        try:
            open_run(run)
        except ValueError as error:
            refused += 1
            text = str(error)
            assert text.startswith(f"{run}/checkpoint.npz: ") and "\n" not in text
            assert len(text) < len(str(run)) + 300 and text.isprintable()
    assert refused > len(places) / 2


def test_what_is_shortened_keeps_its_ends_and_can_be_printed():
    assert shorten("a\n b\tc\x1b[31m\0") == "a b c?[31m?"
    text = shorten("x" * 90_000 + "end", 100)
    assert len(text) == 100 and text.startswith("x" * 50 + " ... ") and text.endswith("end")
    assert shorten("y" * 200) == "y" * 200


def test_a_name_of_a_file_may_be_long_and_the_message_is_not(folder, capsys):
    error = refusal(capsys, "train", "--data", "/".join(["x" * 200] * 15))
    assert len(error) <= LONGEST


# Files that never end, or that are not a run's --------------------------------------------------


@posix
def test_a_pipe_is_refused_and_not_waited_for(run, capsys):
    os.mkfifo("pipe.npy")
    os.mkfifo("checkpoint.npz")
    assert "pipe.npy: a pipe or a device, must be a file" in refusal(
        capsys, "train", "--data", "pipe.npy"
    )
    assert "pipe.npy: a pipe" in refusal(capsys, "encode", "run", "--data", "pipe.npy")
    assert "is not a run directory" in refusal(capsys, "evaluate", ".")
    with pytest.raises(ValueError, match="a pipe or a device"):
        mnist.read_idx("pipe.npy")


@pytest.mark.parametrize(
    "words",
    [["sample", "run", "--out", "plain/x.npz"], ["encode", "run", "--out", "plain/x.npz"],
     ["explore", "run", "--out", "plain/x.html"], ["plot", "run", "--out", "plain/x"],
     ["train", "--data", "small.npy", "--out", "plain/x"], ["study", "tied", "--out", "plain/x"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_an_out_below_a_file_is_refused_before_the_work(run, capsys, monkeypatch, words):
    Path("plain").write_text("a file")
    monkeypatch.setattr(runs, "continue_training", None)
    assert "plain: Not a directory" in refusal(capsys, *words)
    assert Path("plain").read_text() == "a file"


def test_the_files_that_a_command_reads_are_not_its_out(run, capsys):
    assert main(["encode", "run"]) == 0
    before = Path("run/latents.npz").read_bytes()
    for words in (
        ["encode", "run", "--data", "run/latents.npz", "--overwrite"],
        ["encode", "run", "--out", "small.npz", "--overwrite"],
    ):
        if "--out" in words:
            Path("small.npz").symlink_to("small.npy")
        assert "is the file with the images" in refusal(capsys, *words)
    assert Path("run/latents.npz").read_bytes() == before


@posix
def test_what_is_no_file_is_not_replaced_even_when_told(run, capsys):
    os.mkfifo("pipe.npz")
    Path("null.npz").symlink_to("/dev/null")
    for name in "pipe.npz", "null.npz":
        error = refusal(capsys, "sample", "run", "--out", name, "--overwrite")
        assert f"{name}: is not a file" in error
    assert Path("pipe.npz").is_fifo() and Path("null.npz").is_symlink()


def test_a_run_with_edited_files_is_not_replaced(run, capsys):
    for name in "config.json", "metrics.json":
        before = Path("run", name).read_text()
        Path("run", name).write_text("mine")
        error = refusal(capsys, "train", "--data", "small.npy", "--out", "run", "--overwrite")
        assert f"run holds {name}, not the run's own: move or delete it" in error
        assert Path("run", name).read_text() == "mine"
        Path("run", name).write_text(before)
    assert train("--epochs", "1", "--out", "run", "--overwrite") == 0


def test_data_that_have_moved_stop_no_command_that_does_not_need_them(run, capsys):
    Path("small.npy").rename("elsewhere.npy")
    assert main(["sample", "run"]) == 0
    assert main(["sample", "run", "--out", "x.npz"]) == 0
    assert main(["explore", "run", "--no-points"]) == 0
    assert main(["encode", "run", "--data", "elsewhere.npy"]) == 0
    for words in ["evaluate", "run"], ["plot", "run"], ["encode", "run", "--out", "y.npz"]:
        assert "which does not exist: if it has moved, pass --data FILE" in refusal(capsys, *words)


# One run, one model -----------------------------------------------------------------------------


def test_an_interrupted_overwrite_leaves_no_file_of_the_old_model(run, monkeypatch):
    for name in "sample", "encode", "explore":
        assert main([name, "run"]) == 0
    Path("run/notes.txt").write_text("mine")
    new = ["--out", "run", "--overwrite", "--seed", "4", "--epochs", "2", "--quiet"]

    def dies(*args):
        raise SystemError("killed")

    with monkeypatch.context() as patch, pytest.raises(SystemError):
        patch.setattr(runs, "begin_run", dies)
        train(*new)
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    assert listing("run") == [
        "checkpoint.npz", "config.json", "files.json", "history.csv", "metrics.json", "notes.txt"
    ]  # fmt: skip
    assert train(*new[:1], "other", *new[3:]) == 0
    assert metrics_of("run")["test_elbo"] == metrics_of("other")["test_elbo"]


def test_what_shows_an_earlier_epoch_goes_when_a_run_goes_on(run, capsys, monkeypatch):
    assert main(["sample", "run"]) == 0
    assert main(["encode", "run", "--out", "run/epoch1.npz"]) == 0
    seen = []

    def look(self, event):
        seen.append(listing("run"))
        if len(seen) == 3:
            assert main(["encode", "run"]) == 0  # in the middle of the training
        called(self, event)

    called = Progress.__call__
    monkeypatch.setattr(Progress, "__call__", look)
    assert main(["train", "--resume", "run", "--epochs", "3"]) == 0
    assert "samples.png" in seen[0] and "metrics.json" in seen[0]  # no epoch has ended yet
    assert "samples.png" not in seen[1] and "metrics.json" not in seen[1]
    assert "latents.npz" in seen[3] and "latents.npz" not in listing("run")
    assert "epoch1.npz" in listing("run")  # the user gave it its name
    out = capsys.readouterr().out
    assert (
        "removed, since they show an older model: metrics.json, samples.png, latents.npz\n" in out
    )


def test_an_edited_figure_is_left_and_reported(folder, capsys, monkeypatch):
    def draw(state, data, folder, format, write):
        for name in "kl", "samples":
            with write(folder / f"{name}.png", state.model_id) as stream:
                stream.write(state.model_id.encode())
        return [folder / "kl.png", folder / "samples.png"]

    monkeypatch.setattr(runs, "draw_figures", draw)
    assert train("--epochs", "1", "--out", "run", "--quiet") == 0
    Path("run/figures/kl.png").write_text("edited")
    assert main(["train", "--resume", "run", "--epochs", "2"]) == 0
    assert one_line(capsys) == (
        "numpy-vae train: not replaced in run, since they are not the files that the run wrote "
        "(move or delete them, then --resume): figures/kl.png\n"
    )
    assert Path("run/figures/kl.png").read_text() == "edited"
    state = open_run(Path("run"))
    assert Path("run/figures/samples.png").read_text() == state.model_id
    with OwnFiles(Path("run"), overwrite=True).write(Path("run/figures/kl.png"), "") as stream:
        stream.write(b"as plot --overwrite does")
    assert OwnFiles(Path("run")).is_own(Path("run/figures/kl.png"))


def test_a_training_does_not_write_into_another_run_that_takes_its_name(run, capsys, monkeypatch):
    before = {name: Path("run", name).read_bytes() for name in listing("run")}

    def swapped(self, event):
        if not Path("trained").exists():
            Path("new").rename("trained")
            shutil.copytree("run", "new")

    monkeypatch.setattr(Progress, "__call__", swapped)
    assert train("--epochs", "2", "--out", "new", "--quiet") == 1
    assert "error: new was removed or replaced\n" in one_line(capsys)
    assert {name: Path("new", name).read_bytes() for name in listing("new")} == before
    assert open_run(Path("trained")).history == []


def test_a_file_that_shows_an_older_model_is_reported(run, capsys, monkeypatch):
    def decode(self, z):
        monkeypatch.undo()
        monkeypatch.setattr(runs, "draw_figures", lambda *args: [])
        monkeypatch.chdir(run.parent)
        assert main(["train", "--resume", "run", "--epochs", "2", "--quiet"]) == 0
        return self.decode(z)

    state = open_run(run)
    monkeypatch.setattr("numpy_vae.commands.sample.open_run", lambda folder: state)
    monkeypatch.setattr("numpy_vae.vae.VAE.decode", decode)
    assert main(["sample", "run", "--out", "x.npz"]) == 0
    assert one_line(capsys) == "run has been trained further: x.npz shows an older model\n"


def test_the_files_for_people_may_be_edited_and_are_then_left(run, capsys):
    for name in "config.json", "history.csv", "metrics.json":
        Path("run", name).write_text("mine")
    assert main(["train", "--resume", "run", "--epochs", "2", "--quiet"]) == 0
    names = "config.json, history.csv, metrics.json"
    assert one_line(capsys).endswith(f"then --resume): {names}\n")
    assert all(Path("run", name).read_text() == "mine" for name in names.split(", "))
    assert len(open_run(run).history) == 2


@pytest.mark.parametrize("words", [["--resume", "run"], ["--out", "run", "--overwrite"]])
def test_a_run_that_cannot_be_written_is_left_before_the_work(run, capsys, words):
    shutil.rmtree("run/figures")
    Path("run/figures").symlink_to("nowhere")
    before = Path("run/checkpoint.npz").read_bytes()
    data = [] if "--resume" in words else ["--data", "small.npy"]
    assert "run/figures: Not a directory" in refusal(capsys, "train", *data, *words)
    assert Path("run/checkpoint.npz").read_bytes() == before


@posix
def test_permissions_that_were_changed_are_kept(run):
    os.chmod("run/checkpoint.npz", 0o600)
    assert main(["train", "--resume", "run", "--epochs", "2", "--quiet"]) == 0
    assert os.stat("run/checkpoint.npz").st_mode & 0o777 == 0o600


def test_moved_data_need_not_be_where_the_data_set_was(run, monkeypatch):
    change_settings("run", data="mnist", data_dir="gone")
    assert main(["evaluate", "run", "--samples", "1", "--data", "small.npy"]) == 0
    assert main(["train", "--resume", "run", "--data", "small.npy", "--epochs", "2"]) == 0
    assert open_run(run).settings["data_dir"] is None


# Data that change while they are read -----------------------------------------------------------


@pytest.fixture
def mapped(folder, monkeypatch):
    monkeypatch.setattr(readers, "MAPPED", 0)
    return Path("small.npy")


@posix
@pytest.mark.parametrize("how", ["nan", "cut", "touched"])
def test_a_file_that_changes_while_it_trains_stops_the_training(mapped, monkeypatch, how, capfd):
    def changes(self, event):
        steps.append(event)
        if len(steps) == 30:
            with open(mapped, "r+b") as file:
                if how == "nan":
                    file.seek(128)
                    file.write(np.full(400, np.nan, np.float32).tobytes())
                elif how == "cut":
                    file.truncate(200)
                else:
                    os.utime(mapped)

    steps = []
    monkeypatch.setattr(Progress, "__call__", changes)
    child = os.fork()  # a SIGBUS would be the end of all tests
    if child == 0:
        status = 99
        with contextlib.suppress(BaseException):
            status = train("--epochs", "9", "--batch-size", "5", "--out", "run", "--quiet")
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    error = capfd.readouterr().err
    assert "small.npy: changed while it was in use" in error and error.count("\n") == 1
    assert "the run is saved as of epoch 2; continue with" in error


def test_a_value_that_is_not_finite_any_more_is_noticed_even_at_the_same_time(mapped):
    images = arrays.load_array(mapped)
    seen = os.stat(mapped)
    content = np.load(mapped)
    content[:, 1, 2] = np.inf
    np.save("small.npy", content)
    os.utime(mapped, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with pytest.raises(OSError, match=r"small\.npy: changed .* a value is no longer finite"):
        images.train[:3]


@pytest.mark.parametrize("content", [np.zeros((60, 20), np.uint8), np.ones((60, 20), np.float32)])
def test_a_file_that_changes_while_it_is_looked_through_is_refused(mapped, monkeypatch, content):
    def look_through(images):
        slices = list(found(images))
        yield slices[0]
        os.utime(mapped, ns=(1, 1))
        yield slices[0]

    np.save(mapped, content)
    found = arrays.chunks
    monkeypatch.setattr(arrays, "chunks", look_through)
    with pytest.raises(OSError, match=r"small\.npy: changed while it was in use"):
        arrays.load_array(mapped)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_removed_or_replaced_is_still_read(mapped, how):
    images = arrays.load_array(mapped)
    before = images.train[:5]
    if how == "removed":
        mapped.unlink()
    else:
        np.save("new.npy", np.zeros((60, 4, 5)))
        os.replace("new.npy", mapped)
    np.testing.assert_array_equal(images.train[:5], before)


# Memory -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("width", "count", "hidden"), [(20_011, 60, 5), (500, 4000, 300)])
def test_every_command_takes_a_small_multiple_of_data_and_model(folder, width, count, hidden):
    """The peak is at most 128 MiB and eight times what the images, as floats, and the model take.

    Of 20011 numbers, a prime, a row is a picture of one line.
    """
    x = np.random.default_rng(0).standard_normal((count, width), np.float32)
    np.save("wide.npy", x)
    train = ["train", "--data", "wide.npy", "--likelihood", "gaussian", "--latent", "2"]
    train += ["--hidden", str(hidden), "--epochs", "1", "--out", "run", "--quiet"]
    parameters = 2 * hidden * width + 6 * hidden + width
    most = (128 << 20) + 8 * 4 * (x.size + parameters)
    for words in (
        train, ["plot", "run"], ["evaluate", "run", "--samples", "5"], ["encode", "run"],
        ["sample", "run"], ["sample", "run", "--out", "x.npz"], ["explore", "run"],
    ):  # fmt: skip
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
                before = runs.peak_memory()
                with contextlib.redirect_stdout(io.StringIO()):
                    status = main(words)
                os.write(write, b"%d %d" % (status, runs.peak_memory() - before))
            os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        status, mebibytes = map(int, os.read(read, 100).split())
        os.close(read)
        assert status == 0 or words[0] == "explore"  # the page may be too large, which is said
        assert mebibytes << 20 < most, words
