"""Python programs of tests as forks of a process that has imported their libraries.

A new interpreter takes half a second of work to import them, and a fork a few
milliseconds. Tests ask for the fixture `warm_programs`; `subprocess`, and what is built
on it, then forks each Python program whose options `_warm_parent` knows. All others,
and all where forks cannot be children of the tests, get new interpreters.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

PARENT: Final = Path(__file__).with_name("_warm_parent.py")
CLIENT: Final = PARENT.with_name("_warm_client.py")
PLACES: Final = frozenset({"PYTHONPATH", "PYTHON_KEYRING_BACKEND"})
"""What begins with ``PYTHON`` and is not read by a starting interpreter, or by ours."""

PIPES: Final = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
PR_SET_CHILD_SUBREAPER: Final = 36
USUAL: Final = subprocess.Popen
EXECUTE: Final = USUAL._execute_child  # type: ignore[attr-defined]


def parsed(words: list[str]) -> dict[str, Any] | None:
    """The program that a command starts; `None` if it is no known form of one."""
    found: dict[str, Any] = {"unbuffered": False, "strict": False}
    program, *rest = words
    if program != sys.executable:
        return None
    while rest:
        word, *rest = rest
        if word in {"-u", "-uc"}:
            found["unbuffered"] = True
        if word == "-W" and rest[0] == "error":
            found["strict"], rest = True, rest[1:]
        elif word in {"-c", "-uc", "-m"}:
            kind, (name, *more) = "-" + word[-1], rest
            return {**found, "kind": kind, "name": name, "arguments": [kind, *more]}
        elif not word.startswith("-"):
            return {**found, "kind": "", "name": word, "arguments": [word, *rest]}
        elif word != "-u":
            return None
    return None


def _for_interpreters(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that change how an interpreter starts."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("PYTHON", "LC_", "LANG")) and name not in PLACES
    }


class WarmPopen(subprocess.Popen[Any]):
    """A process, forked where that is possible."""

    def _execute_child(self, *given: Any) -> None:
        wanted = inspect.signature(EXECUTE).bind(self, *given).arguments
        program = _forkable(wanted)
        if program is None:
            EXECUTE(self, *given)
            return
        streams = wanted["p2cread"], wanted["c2pwrite"], wanted["errwrite"]
        try:
            own = [n if fd == -1 else fd for n, fd in enumerate(streams)]
            passed = list(wanted["pass_fds"])
            program["descriptors"] = [0, 1, 2, *passed]
            self.pid = _parent().fork(program, [*own, *passed])
            self._child_created = True
        finally:
            self._close_pipe_fds(*(wanted[name] for name in PIPES))  # type: ignore[attr-defined]


def _forkable(wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    args = wanted["args"]
    if isinstance(args, str | bytes | os.PathLike) or wanted["shell"]:
        return None
    program = parsed([os.fsdecode(word) for word in args])
    environment = os.environ if wanted["env"] is None else wanted["env"]
    same = _for_interpreters(environment) == _for_interpreters(os.environ)
    if program is None or not same or wanted["preexec_fn"] or sys.platform != "linux":
        return None
    return {
        **program,
        "environment": dict(environment),
        "folder": os.fspath(wanted["cwd"] or Path.cwd()),
        "mask": None,
        "session": wanted["start_new_session"],
    }


class Parent:
    """The process that forks."""

    def __init__(self) -> None:
        self._kernel = ctypes.CDLL(None)
        self._one_by_one = threading.Lock()
        self._folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self._folder.name, "shells"))
        self._socket, tests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with tests, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as shells:
            shells.bind(self.path)
            shells.listen()
            passed = [tests.fileno(), shells.fileno()]
            command = [sys.executable, str(PARENT), *map(str, passed)]
            self._process = USUAL(command, pass_fds=passed)

    def fork(self, program: dict[str, Any], descriptors: list[int]) -> int:
        """Start a program; return the number of its process, a child of this one."""
        with self._one_by_one:
            self._kernel.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._socket, [pickle.dumps(program)], descriptors)
                return int(self._socket.recv(20))
            finally:
                self._kernel.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def close(self) -> None:
        """Let it end."""
        self._socket.close()
        self._process.wait()
        self._folder.cleanup()


def python() -> tuple[str, ...]:
    """The words in a shell's command that stand for the interpreter."""
    if sys.platform != "linux":
        return (sys.executable,)
    return sys.executable, "-IS", str(CLIENT), _parent().path


_parents: list[Parent] = []


def _parent() -> Parent:
    if not _parents:
        _parents.append(Parent())
    return _parents[0]


@pytest.fixture(scope="session")
def warm_parent() -> Iterator[None]:
    """The process that forks; it is started for the first program."""
    yield
    while _parents:
        _parents.pop().close()


@pytest.fixture(scope="module")
def warm_programs(warm_parent: None) -> Iterator[None]:
    """Python programs of the module's tests are forks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", WarmPopen)
        yield


@contextmanager
def new_interpreters() -> Generator[None]:
    """Programs of the block are new interpreters, also in a module of forks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", USUAL)
        yield
