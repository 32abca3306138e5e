"""Threads that share a step: the same numbers, nothing left behind, errors that arrive."""

import os
import signal
import sys
import threading
import time
import types
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from queue import SimpleQueue

import numpy as np
import pytest

from numpy_vae import VAE, Adam, fit, load_digits, train_epochs
from numpy_vae.likelihood import LIKELIHOODS
from numpy_vae.training import team
from numpy_vae.training.loop import BatchSums, train_step
from numpy_vae.training.recipe import Recipe
from numpy_vae.training.team import ALONE, Team, suitable_threads


def gradient_and_step(likelihood="bernoulli", bound="elbo", samples=1, rows=7, threads=1, **kinds):
    """One step in float64: the sum of the members' gradients, the parameters after it, the sums."""
    rng = np.random.default_rng(0)
    vae = VAE(6, (5,), 3, likelihood=likelihood, dtype=np.float64, rng=1, **kinds)
    vae.params.flat[:] += 0.3 * rng.standard_normal(vae.params.flat.size)
    x = (rng.random((rows, 6)) < 0.4).astype(float)
    eps = rng.standard_normal((samples, rows, 3) if samples > 1 else (rows, 3))
    grads = [vae.params.zeros_like() for _ in range(threads)]
    for part in grads:
        part.flat[:] = 7.0  # a gradient is assigned, never added
    adam = Adam(vae.params, 0.05)
    with Team(threads) as members:
        sums = train_step(vae, adam, x, eps, grads, 0.7, bound=bound, team=members)
    return grads[0].flat, vae.params.flat, sums


@pytest.mark.gradient
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(("bound", "samples"), [("elbo", 1), ("elbo", 3), ("iwae", 3)])
@pytest.mark.parametrize("threads", [2, 3, 8])
def test_a_step_does_not_depend_on_the_number_of_threads(likelihood, bound, samples, threads):
    one = gradient_and_step(likelihood, bound, samples)
    many = gradient_and_step(likelihood, bound, samples, threads=threads)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.gradient
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_fewer_images_than_threads(rows):
    for a, b in zip(gradient_and_step(rows=rows), gradient_and_step(rows=rows, threads=4)):  # noqa: B905
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_an_epoch_gives_the_same_records_in_two_threads():
    data = load_digits(120, rng=0)
    records = []
    for threads in 1, 2:
        vae = VAE(784, (8,), 2, dtype=np.float64, rng=0)
        records += train_epochs(vae, data, Recipe(epochs=1, batch_size=33, threads=threads), rng=0)
    numbers = [
        [value for name, value in record._asdict().items() if value and "seconds" not in name]
        for record in records
    ]
    assert len(numbers[0]) == 8
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-9)


def test_training_asks_how_many_threads_are_suitable(monkeypatch):
    asked = []

    def suitable(images, samples):
        asked.append((images, samples))
        return 2

    sizes = []

    class Spy(Team):
        def __init__(self, size):
            sizes.append(size)
            super().__init__(size)

    monkeypatch.setattr("numpy_vae.training.loop.suitable_threads", suitable)
    monkeypatch.setattr("numpy_vae.training.loop.Team", Spy)
    data = load_digits(60, rng=0)
    for threads in None, 1:
        vae = VAE(784, (4,), 2, rng=0)
        fit(vae, data, epochs=1, batch_size=10, bound="iwae", samples=3, rng=0, threads=threads)
    assert asked == [(10, 3)] and sizes == [2, 1]


def test_members_work_at_the_same_time_each_with_its_number():
    barrier = threading.Barrier(3, timeout=10)  # passes only when all three are there

    def work(member):
        barrier.wait()
        return member, threading.get_ident()

    with Team(3) as members:
        for _ in range(3):
            found = members.run(work)
            assert [member for member, _ in found] == [0, 1, 2]
            assert len({thread for _, thread in found}) == 3
            assert found[0][1] == threading.get_ident()


def test_shares_are_all_rows_in_order():
    for size in range(1, 6):
        for n in range(12):
            shares = [Team(size).share(n, member) for member in range(size)]
            assert [i for share in shares for i in range(n)[share]] == list(range(n))
            lengths = [len(range(n)[share]) for share in shares]
            assert max(lengths) - min(lengths) <= 1


def test_threads_end_with_the_context(monkeypatch):
    def slow(*arguments):
        serve(*arguments)
        time.sleep(0.05)  # as a thread that the machine gives no time to end

    serve = team._serve
    monkeypatch.setattr(team, "_serve", slow)
    before = set(threading.enumerate())
    with Team(3):
        assert len(set(threading.enumerate()) - before) == 3  # two members, and the keeper
        with Team(2):
            assert len(set(threading.enumerate()) - before) == 4
    assert set(threading.enumerate()) == before


def test_an_interrupt_while_the_context_ends_leaves_nothing_behind(monkeypatch):
    class Interrupted(threading.Thread):
        """A thread for which Ctrl-C arrives when it is first waited for."""

        due = True

        def join(self, timeout=None):
            if self.due:
                self.due = False
                raise KeyboardInterrupt
            super().join(timeout)

    monkeypatch.setattr(team, "Thread", Interrupted)
    before = set(threading.enumerate())
    members = Team(3)
    with pytest.raises(KeyboardInterrupt), members:
        pass
    assert set(threading.enumerate()) == before
    with pytest.raises(KeyboardInterrupt), members:  # and it can be entered again
        assert members.run(lambda member: member) == [0, 1, 2]


def test_a_team_works_only_inside_its_context_and_once():
    members = Team(2)
    with pytest.raises(RuntimeError, match="the team of 2 threads is not running, must be entered"):
        members.run(lambda member: member)
    with members:
        with pytest.raises(RuntimeError, match="is running, must be entered once"):
            members.__enter__()
        assert members.run(lambda member: member) == [0, 1]
    with members:  # and again
        assert members.run(lambda member: member) == [0, 1]


@pytest.mark.parametrize("who", [0, 1])
def test_an_error_arrives_after_all_have_ended(who):
    ended = []

    def work(member):
        if member == who:
            raise FloatingPointError("of a member")
        time.sleep(0.05)
        ended.append(member)

    with Team(3) as members:
        with pytest.raises(FloatingPointError, match="of a member"):
            members.run(work)
        assert sorted(ended) == sorted({0, 1, 2} - {who})
        assert members.run(lambda member: member) == [0, 1, 2]  # and the team is still good


def test_errstate_of_the_caller_holds_in_every_member():
    def work(member):
        np.float32(1e38) * np.array([1e38], np.float32)

    with (
        Team(2) as members,
        np.errstate(over="raise"),
        pytest.raises(FloatingPointError, match="overflow"),
    ):
        members.run(lambda member: work(member) if member else None)


@pytest.mark.purity
def test_a_gradient_that_is_not_finite_leaves_the_parameters_alone():
    vae = VAE(6, (5,), 3, rng=0)
    x, eps = np.zeros((4, 6), np.float32), np.zeros((4, 3), np.float32)
    x[3, 0] = np.nan  # a row of the second member
    before = vae.params.flat.copy()
    adam = Adam(vae.params)
    with Team(2) as members, pytest.raises(FloatingPointError, match="the loss is not finite"):
        train_step(vae, adam, x, eps, [vae.params.zeros_like() for _ in range(2)], team=members)
    np.testing.assert_array_equal(vae.params.flat, before)
    assert adam.t == 0


def test_parts_that_overflow_only_together_are_refused_and_not_trained_on():
    class Steep(VAE):
        """Each share gives a gradient whose square is finite; that of their sum is not."""

        def terms_backward(self, *arguments, out):
            super().terms_backward(*arguments, out=out)
            out.flat[-1] = 1.5e19
            return out

    vae = Steep(6, (5,), 3, rng=0)
    x, eps = np.zeros((4, 6), np.float32), np.zeros((4, 3), np.float32)
    adam, grads = Adam(vae.params), [vae.params.zeros_like() for _ in range(2)]
    with Team(2) as members, pytest.raises(FloatingPointError, match="overflow"):
        train_step(vae, adam, x, eps, grads, team=members)
    assert adam.t == 0 and np.isfinite(vae.params.flat).all()


@pytest.mark.parametrize("entry", [0, -1])
def test_a_sum_of_parts_that_overflows_raises_in_whichever_share(monkeypatch, entry):
    vae = VAE(6, (5,), 3, rng=0)
    adam, grads = Adam(vae.params), [vae.params.zeros_like() for _ in range(2)]

    def gradient(vae, x, eps, grads, *_):
        grads.flat[entry] = 3e38
        return BatchSums(0.0, 0.0, 0.0)

    monkeypatch.setattr("numpy_vae.training.loop._gradient", gradient)
    x, eps = np.zeros((4, 6), np.float32), np.zeros((4, 3), np.float32)
    with Team(2) as members, pytest.raises(FloatingPointError, match="overflow"):
        train_step(vae, adam, x, eps, grads, team=members)
    assert adam.t == 0 and np.isfinite(vae.params.flat).all()


def test_a_team_needs_a_gradient_for_each_member():
    vae = VAE(6, (5,), 3, rng=0)
    x, eps = np.zeros((4, 6), np.float32), np.zeros((4, 3), np.float32)
    with (
        Team(2) as members,
        pytest.raises(ValueError, match="grads has length 1, must have 2: one for each thread"),
    ):
        train_step(vae, Adam(vae.params), x, eps, [vae.params.zeros_like()], team=members)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("x", "eps"), [((4, 6), (9, 3)), ((4, 6), (3,)), ((4, 6), (2, 9, 3)), ((0, 6), (0, 3))]
)
def test_noise_of_another_length_is_refused_before_it_is_shared(threads, x, eps):
    vae = VAE(6, (5,), 3, rng=0)
    adam, grads = Adam(vae.params), [vae.params.zeros_like() for _ in range(threads)]
    with (
        Team(threads) as members,
        pytest.raises(ValueError, match=r"must be \(B, D\) and \(B, Z\) or"),
    ):
        train_step(vae, adam, np.zeros(x), np.zeros(eps), grads, team=members)
    assert adam.t == 0


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_an_interrupt_waits_for_all_and_leaves_the_team_good(monkeypatch, lost):
    ended = []

    class Bell(SimpleQueue):
        """A queue at which Ctrl-C arrives once, after `lost` of what it held has been taken."""

        due = True

        def get(self):
            if Bell.due:
                Bell.due = False
                for _ in range(lost):
                    super().get()
                raise KeyboardInterrupt
            return super().get()

    def slow(member):
        time.sleep(0.05 * member)
        ended.append(member)
        return "old"

    with Team(3) as members:
        monkeypatch.setattr(team, "SimpleQueue", Bell)
        with pytest.raises(KeyboardInterrupt):
            members.run(slow)
        monkeypatch.undo()
        assert sorted(ended) == [0, 1, 2]
        assert members.run(lambda member: member) == [0, 1, 2]  # nothing of the old call is left


def test_a_team_that_cannot_start_leaves_nothing_behind(monkeypatch, interval):
    before = set(threading.enumerate())

    class Last(threading.Thread):
        started = 0

        def start(self):
            Last.started += 1
            if Last.started == 3:
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(team, "Thread", Last)
    members = Team(4)
    for _ in range(2):  # nor is the team taken for one at work
        Last.started = 0
        with pytest.raises(OSError, match=r"cannot start . threads: can't start new thread"):
            members.__enter__()
        assert set(threading.enumerate()) == before
        assert sys.getswitchinterval() == interval


@pytest.fixture
def blas():
    """The numbers of threads of each BLAS, as a function; 2 at first, and set by no context."""
    control = pytest.importorskip("threadpoolctl")
    if not team.blas_controls():
        pytest.skip("threadpoolctl cannot limit this BLAS")

    def in_a_thread(*limits):  # one that has ended owns no limit
        thread = threading.Thread(target=control.threadpool_limits, args=limits)
        thread.start()
        thread.join()

    def numbers():
        return [lib.num_threads for lib in team.blas_controls().lib_controllers]

    before = numbers()[0]
    in_a_thread(2, "blas")
    yield numbers
    in_a_thread(before, "blas")


def test_what_an_interrupt_left_behind_is_put_back_by_the_next_team(interval):
    with team._KEEPER._end as left:  # as if Ctrl-C had come before the team was counted
        left.callback(sys.setswitchinterval, interval + 5e-7)
        sys.setswitchinterval(5e-5)
        with Team(2):
            pass
        assert sys.getswitchinterval() == interval


@pytest.mark.parametrize("last", ["first", "second"])
def test_of_two_teams_in_two_threads_the_last_puts_the_blas_back(blas, last):
    before = blas()
    entered, leave = ({name: threading.Event() for name in ("first", "second")} for _ in range(2))
    found = {}

    def work(name):
        with Team(2) as members:
            found[name] = members.run(lambda member: blas())
            entered[name].set()
            assert leave[name].wait(10)

    threads = {name: threading.Thread(target=work, args=(name,)) for name in entered}
    for name, thread in threads.items():
        thread.start()
        assert entered[name].wait(10)
    earlier = "first" if last == "second" else "second"
    ones = [1] * len(before)
    leave[earlier].set()
    threads[earlier].join(10)
    assert blas() == ones
    leave[last].set()
    threads[last].join(10)
    assert blas() == before and found == {name: [ones, ones] for name in entered}


def test_the_first_team_may_end_and_its_thread_go_on(blas):
    before = blas()
    entered, leave = threading.Event(), threading.Event()

    def second():
        with Team(2):
            entered.set()
            assert leave.wait(10)

    thread = threading.Thread(target=second)
    with Team(2):
        thread.start()
        assert entered.wait(10)
    assert set(blas()) == {1}
    leave.set()
    thread.join(10)
    assert blas() == before
    with Team(2):  # and none of them owns the limit
        assert set(blas()) == {1}
    assert blas() == before


def test_a_blas_with_a_number_for_each_thread_has_one_in_every_member(monkeypatch):
    numbers = threading.local()

    class Controls:
        """Of a BLAS like MKL, whose limits are those of the thread that sets them."""

        @contextmanager
        def limit(self, limits, user_api):
            before, numbers.n = getattr(numbers, "n", 8), limits
            yield
            numbers.n = before

    monkeypatch.setattr(team, "blas_controls", Controls)
    with Team(3) as members:
        assert members.run(lambda member: numbers.n) == [1, 1, 1]
        with Team(2):
            pass
        assert numbers.n == 1
    assert numbers.n == 8


@pytest.mark.parametrize("size", [0, -1, 1.5, 10_000])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(ValueError, match=r"threads is .*, must be a whole number from 1 to 256"):
        Team(size)


@pytest.mark.parametrize("owned", [False, True])
def test_one_blas_thread_inside_and_as_before_outside(blas, owned):
    before = blas()
    # A limit of the caller's own, within which no other thread can set one.
    with team.blas_controls().limit(limits=2) if owned else nullcontext():
        with Team(2):
            assert set(blas()) == {1}
        assert blas() == before
        with ALONE:
            assert blas() == before
    assert blas() == before


@pytest.fixture(params=[0.02, 1.9e-5, 2e-6])
def interval(request):
    """The user's own switch interval: long, one that Python cannot read and set again, short."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(request.param + 5e-7)
    yield sys.getswitchinterval()  # as Python has it, in whole microseconds
    sys.setswitchinterval(before + 5e-7)


def test_a_short_switch_interval_inside_and_that_of_the_user_outside(interval):
    with ALONE:
        assert sys.getswitchinterval() == interval
    with Team(2):
        inside = sys.getswitchinterval()
        with Team(3):
            assert sys.getswitchinterval() == inside
        assert sys.getswitchinterval() == inside
    assert inside == pytest.approx(min(team.SWITCH_INTERVAL, interval), abs=1.1e-6)
    assert sys.getswitchinterval() == interval
    with pytest.raises(KeyError), Team(2):
        raise KeyError
    assert sys.getswitchinterval() == interval


def test_how_many_threads_are_suitable(monkeypatch):
    monkeypatch.setattr(team, "cores", lambda: 4)
    monkeypatch.setattr(team, "blas_controls", object)
    few = team.MIN_ROWS
    assert [suitable_threads(n) for n in (1, few, 2 * few - 1, 2 * few, 3 * few, 100 * few)] == [
        1, 1, 1, 2, 3, 4,
    ]  # fmt: skip
    # The rows are images times samples, and what is shared are the images.
    assert [suitable_threads(few, samples) for samples in (1, 2, 3, 9)] == [1, 2, 3, 4]
    assert [suitable_threads(images, 5000) for images in (1, 2, 3, 9)] == [1, 2, 3, 4]
    assert team.cores() >= 1


def controls_of(*apis):
    """A stand-in of ThreadpoolController that finds libraries of these kinds."""

    class Controls(list):
        def __init__(self, found=apis):
            super().__init__(found)

        def select(self, user_api):
            return Controls([api for api in self if api == user_api])

    return Controls


@pytest.mark.parametrize(
    ("apis", "threads"), [((), 1), (("openmp",), 1), (("blas",), 4), (("openmp", "blas"), 4)]
)
def test_threads_are_suitable_where_the_blas_can_be_limited(monkeypatch, apis, threads):
    module = types.SimpleNamespace(ThreadpoolController=controls_of(*apis))
    monkeypatch.setitem(sys.modules, "threadpoolctl", module)
    monkeypatch.setattr(team, "cores", lambda: 4)
    assert suitable_threads(100 * team.MIN_ROWS) == threads
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)  # as if it were not installed
    assert suitable_threads(100 * team.MIN_ROWS) == 1


def test_without_threadpoolctl_a_team_still_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with Team(2) as members:
        assert members.run(lambda member: member + 1) == [1, 2]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that interrupts")
def test_all_have_ended_wherever_the_interrupt_came():
    at_work, at_run = [False, False], False

    def work(member):
        at_work[member] = True
        time.sleep(0.0002)
        at_work[member] = False

    def interrupt(*_):
        if at_run:  # the signal may come late
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        with Team(2) as members:
            for i in range(300):
                try:
                    at_run = True
                    signal.setitimer(signal.ITIMER_REAL, 1e-5 + 1.5e-6 * i)
                    members.run(work)
                    at_run = False
                except KeyboardInterrupt:
                    at_run = False
                    interrupted += 1
                    assert not at_work[1]
            assert members.run(lambda member: member) == [0, 1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted


def test_a_member_must_not_ask_its_team():
    with Team(2) as members:
        with pytest.raises(RuntimeError, match="is working, must not be run by its own work"):
            members.run(lambda member: members.run(lambda member: None))
        assert members.run(lambda member: member) == [0, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_child_that_is_forked_at_work_leaves_the_context_and_refuses_the_team():
    code = 1
    with Team(2) as members:
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(10)
                with pytest.raises(RuntimeError, match="is not running"):
                    members.run(lambda member: None)
                members.__exit__()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert members.run(lambda member: member) == [0, 1]


def test_an_interrupt_while_the_limit_is_set_puts_it_back(blas, monkeypatch):
    before = blas()

    class Interrupted(Future):
        def result(self, timeout=None):
            value = super().result(timeout)
            if Interrupted.due:
                Interrupted.due = False
                raise KeyboardInterrupt
            return value

    Interrupted.due = True
    monkeypatch.setattr("concurrent.futures.thread._base.Future", Interrupted)
    with pytest.raises(KeyboardInterrupt), Team(2):
        pass
    monkeypatch.undo()
    assert blas() == before
    with Team(2):
        assert set(blas()) == {1}
    assert blas() == before
