"""Stop a command before each system call that changes files, and let it pass, fail, or kill.

`trace` runs a command in a fork of this process, which has imported everything, so that a run takes
some 20 ms. A seccomp filter stops the fork before each call of `CALLS`, and ptrace lets this
process decide what happens. Everything a process has written is already in the kernel, so the files
that exist while it is stopped before a call are those that a kill at that call would leave.

Linux on x86_64 and aarch64 only; see `unavailable`.
"""

import ctypes
import gc
import os
import platform
import re
import signal
import struct
import sys
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

# The numbers on x86_64 and aarch64, and what is changed: f0 is the file of the descriptor in
# argument 0; p0 the path in argument 0; a0 the path in argument 1, from the folder in argument 0.
CALLS = {
    "write": (1, 64, "f0"), "writev": (20, 66, "f0"), "pwrite64": (18, 68, "f0"),
    "pwritev": (296, 70, "f0"), "pwritev2": (328, 287, "f0"), "sendfile": (40, 71, "f0"),
    "copy_file_range": (326, 285, "f2"), "truncate": (76, 45, "p0"), "ftruncate": (77, 46, "f0"),
    "fallocate": (285, 47, "f0"), "fsync": (74, 82, "f0"), "fdatasync": (75, 83, "f0"),
    "open": (2, None, "p0"), "openat": (257, 56, "a0"), "creat": (85, None, "p0"),
    "rename": (82, None, "p0 p1"), "renameat": (264, 38, "a0 a2"), "renameat2": (316, 276, "a0 a2"),
    "unlink": (87, None, "p0"), "unlinkat": (263, 35, "a0"), "rmdir": (84, None, "p0"),
    "mkdir": (83, None, "p0"), "mkdirat": (258, 34, "a0"), "link": (86, None, "p0 p1"),
    "linkat": (265, 37, "a0 a2"), "symlink": (88, None, "p1"), "symlinkat": (266, 36, "a1"),
    "chmod": (90, None, "p0"), "fchmod": (91, 52, "f0"), "fchmodat": (268, 53, "a0"),
    "fchmodat2": (452, 452, "a0"),
}  # fmt: skip
FLAGS = {"open": 1, "openat": 2}  # the argument with the flags
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LINUX = sys.platform.startswith("linux")
MACHINE = {"x86_64": 0, "aarch64": 1}.get(platform.machine(), -1)
NAMES = {numbers[MACHINE]: name for name, numbers in CALLS.items() if numbers[MACHINE] is not None}

KILL = -1  # for `trace`, at a call; else None, or the errno with which it fails
TRACEME, CONT, POKEUSER, GETREGSET, SETREGSET, SETOPTIONS, GET_SYSCALL_INFO = (
    0, 7, 6, 0x4204, 0x4205, 0x4200, 0x420E,
)  # fmt: skip
OPTIONS = 0x2 | 0x4 | 0x8 | 0x80 | 0x100000  # follow fork, vfork, clone; seccomp; kill at our end
SECCOMP, WALL, AT_FDCWD = 7, 0x40000000, -100
LIBC = ctypes.CDLL(None, use_errno=True) if LINUX else None


class Call(NamedTuple):
    """A call that would change something below the folder that is watched."""

    name: str  # without at, at2, 64, v: the same on every machine
    paths: tuple[str, ...]  # relative to the folder

    def __str__(self):
        return " ".join([self.name, *map(masked, self.paths)])


class Ended(NamedTuple):
    """How a command ended."""

    status: int  # negative: the signal that killed it
    error: str  # what it wrote to standard error


def masked(path):
    """Return a path in which a star replaces the random part of a temporary file's name."""
    return re.sub(r"((?:^|/)\.numpy-vae-)[a-z0-9_]{8}(?=\.tmp$)", r"\1*", path)


def unavailable():
    """Return why commands cannot be traced here; None if they can."""
    if not LINUX or MACHINE < 0:
        return "commands are traced only by Linux, on x86_64 and aarch64"
    calls = []
    try:
        ended = trace(Path("/dev"), lambda: os.close(os.open("null", os.O_WRONLY)), calls.append)
    except OSError as error:
        return f"ptrace is not permitted ({error})"
    if [str(call) for call in calls] == ["open null"]:
        return None
    said = ended.error.splitlines() or ["no call is seen"]
    return f"commands cannot be traced ({said[-1]})"


def trace(folder, command, at):
    """Run `command` in a fork, in `folder`; return how it ended.

    `command` returns its exit status. Before each call that changes something below the folder,
    ``at(call)`` decides: None lets it pass, an errno makes it fail, KILL kills the process.
    """
    folder = os.path.realpath(folder)
    output = os.memfd_create("output"), os.memfd_create("error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns where there are threads
        pid = os.fork()
    if pid == 0:
        _child(folder, command, output)
    ended = None
    try:
        _, ended = _ended(*os.waitpid(pid, 0), pid)  # else it has stopped itself
        if ended is None:
            os.setpgid(pid, pid)  # to wait for it and its threads, and for no others
            _ptrace(SETOPTIONS, pid, 0, OPTIONS)
            _ptrace(CONT, pid, 0, 0)
        while ended is None:
            thread, found = os.waitpid(-pid, WALL)
            stopped, ended = _ended(thread, found, pid)
            if not stopped:
                continue
            call = _changing(thread, folder) if found >> 16 == SECCOMP else None
            todo = None if call is None else at(call)
            if todo == KILL:
                os.killpg(pid, signal.SIGKILL)
                continue
            if todo is not None:
                _fail(thread, todo)
            signalled = os.WSTOPSIG(found)
            ours = signalled in (signal.SIGTRAP, signal.SIGSTOP)  # an event, a new thread
            _ptrace(CONT, thread, 0, 0 if ours else signalled)
        return Ended(ended, os.pread(output[1], 1 << 20, 0).decode())
    finally:
        if ended is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, WALL)
        for file in output:
            os.close(file)


def _ended(thread, found, pid):
    """Return whether a thread has stopped, and the exit status if it is the process that ended."""
    if os.WIFSTOPPED(found):
        return True, None
    return False, os.waitstatus_to_exitcode(found) if thread == pid else None


def _child(folder, command, output):
    status = 70
    try:
        gc.disable()  # it would touch, and so copy, the memory that is shared with the parent
        signal.alarm(60)
        sys.stdout, sys.stderr = (open(file, "w", closefd=False) for file in output)  # noqa: SIM115
        os.chdir(folder)
        _ptrace(TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        _stop_at_calls()
        status = command() or 0
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _stop_at_calls():
    """Let seccomp stop this process at each of `CALLS`, and where a file is opened for writing."""
    load, equal, any_bit, end, passing, stopping = 0x20, 0x15, 0x45, 0x06, 0x7FFF0000, 0x7FF00000
    opens = [(number, FLAGS[name]) for number, name in NAMES.items() if name in FLAGS]
    others = [number for number, name in NAMES.items() if name not in FLAGS]
    stop = 1 + len(others) + 3 * len(opens) + 1  # this step stops; the one before lets pass
    steps = [(load, 0, 0, 0)]  # the number of the call
    for number in others:
        steps.append((equal, stop - len(steps) - 1, 0, number))
    for number, flags in opens:
        steps += [(equal, 0, 2, number), (load, 0, 0, 16 + 8 * flags)]
        steps.append((any_bit, stop - len(steps) - 1, stop - len(steps) - 2, WRITING))
    steps += [(end, 0, 0, passing), (end, 0, 0, stopping)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    for words in (38, 1, 0), (22, 2, program):  # NO_NEW_PRIVS, SECCOMP
        if LIBC.prctl(*words, 0, 0):
            raise OSError(ctypes.get_errno(), "seccomp is not permitted")


def _changing(thread, folder):
    """Return the call at which a thread is stopped; None if it changes nothing in the folder."""
    info = ctypes.create_string_buffer(88)
    _ptrace(GET_SYSCALL_INFO, thread, len(info), ctypes.addressof(info))
    number, *words = struct.unpack_from("=Q6Q", info, 24)
    kinds = CALLS[NAMES[number]][2].split()
    paths = [_path(thread, kind, words[int(position) :]) for kind, position in kinds]
    below = tuple(path[len(folder) + 1 :] for path in paths if path.startswith(f"{folder}/"))
    name = re.sub(r"(at2?|64|v2?)$", "", NAMES[number])
    needs = {"mkdir": False} | dict.fromkeys(("unlink", "rmdir", "rename", "chmod"), True)
    there = os.path.lexists(paths[0])
    return Call(name, below) if below and needs.get(name, there) == there else None


def _path(thread, kind, words):
    """Return the absolute path that arguments of a call stand for."""
    descriptor = struct.unpack("=i", struct.pack("=Q", words[0])[:4])[0]
    here = kind == "p" or descriptor == AT_FDCWD
    start = os.readlink(f"/proc/{thread}/cwd" if here else f"/proc/{thread}/fd/{descriptor}")
    if kind == "f":
        return start
    with open(f"/proc/{thread}/mem", "rb", 0) as memory:
        memory.seek(words[kind == "a"])
        name = os.fsdecode(memory.read(4096).partition(b"\0")[0])
    return os.path.normpath(os.path.join(start, name))


def _fail(thread, error):
    """Let the call at which a thread is stopped not be made, and return an error."""
    if MACHINE == 0:
        _ptrace(POKEUSER, thread, 8 * 15, -1)  # orig_rax, the number of the call: none
        _ptrace(POKEUSER, thread, 8 * 10, -error)  # rax
        return
    for kind, size, format, value in (0x404, 4, "=i", -1), (1, 8 * 34, "=q", -error):  # call, x0
        registers = ctypes.create_string_buffer(size)
        place = (ctypes.c_size_t * 2)(ctypes.addressof(registers), size)
        _ptrace(GETREGSET, thread, kind, ctypes.addressof(place))
        struct.pack_into(format, registers, 0, value)
        _ptrace(SETREGSET, thread, kind, ctypes.addressof(place))


def _ptrace(*words):
    if LIBC.syscall(*map(ctypes.c_long, ((101, 117)[MACHINE], *words))) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
