"""Forks programs from a process that has imported their libraries.

    python tests/_warm_parent.py TESTS SHELLS

Two descriptors of sockets: `tests._warm_programs` asks for programs at the first, and
`tests/_warm_client.py` connects to the second. A program is a process of its own, with
its own arguments, environment, folder, descriptors and signals, and it runs under
``__main__`` and ends as it would in a new interpreter. It saves what takes longest: the
imports, and the destruction of all modules at the end.
"""

import ast
import atexit
import contextlib
import fcntl
import gc
import importlib
import importlib.util
import io
import os
import pickle
import pkgutil
import runpy
import select
import signal
import socket
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

FILTERS: Final = warnings.filters[:]
PATH: Final = sys.path[1:]
MOST: Final = 1 << 17
"""Bytes of a request; the environment takes most of it."""

LOW: Final = 200
"""Descriptors below it may be numbers that a program has for its own."""

LIBRARIES: Final = (
    *("anyio._backends._asyncio", "anyio._backends._trio", "httpx", "trio"),
    *("finetuning_async._client", "finetuning_async.emulator"),
    *("uvicorn.protocols.http.h11_impl", "uvicorn.lifespan.on", "fastapi"),
)
PACKAGES: Final = ("finetuning_async.cli", "finetuning_async.emulator")
"""Imported with all of their modules."""

Clients = dict[socket.socket, tuple[int, int]]
"""What stands for a program in a shell; the program's process, and its end."""


class _Forked(Exception):  # noqa: N818 - no error, but the way out of the loop
    """Raised in a fork, which leaves the sockets of its parent."""

    def __init__(self, program: dict[str, Any], descriptors: list[int]) -> None:
        super().__init__()
        self.program, self.descriptors = program, descriptors


def main() -> None:
    """Fork programs until the tests end; return in each program only when it ends."""
    tests, shells = (socket.socket(fileno=int(word)) for word in sys.argv[1:])
    _preload([*LIBRARIES, *(m for p in PACKAGES for m in _modules_of(p))])
    clients: Clients = {}
    try:
        with tests, shells:
            while _answer(tests, shells, clients):
                pass
    except _Forked as forked:
        program = forked.program
        _place(program["descriptors"], forked.descriptors)
    else:
        return
    for client in clients:
        client.detach()
    _run(program)


def _answer(tests: socket.socket, shells: socket.socket, clients: Clients) -> bool:
    """Fork what is asked for; false when the tests have ended."""
    ends = [end for _, end in clients.values()]
    watched: list[socket.socket | int] = [tests, shells, *clients, *ends]
    ready = select.select(watched, [], [])[0]
    for client in [c for c, (_, end) in clients.items() if {c, end} & set(ready)]:
        _end_of(client, *clients.pop(client))
    if shells in ready:
        client = shells.accept()[0]
        number = _fork(client, os.fork)
        clients[client] = number, os.pidfd_open(number)
    return tests not in ready or _fork(tests, _fork_orphan) > 0


def _fork(asked: socket.socket, fork: Callable[[], int]) -> int:
    """Fork what is asked for; return the number of its process, or 0 at the end."""
    message, descriptors, *_ = socket.recv_fds(asked, MOST, 64)
    if not message:
        return 0
    program: dict[str, Any] = pickle.loads(message)  # noqa: S301 - our own
    _preload(_imports(program))
    gc.collect()
    gc.freeze()  # collections of a fork would copy what they only look at
    number = fork()
    if number == 0:
        asked.detach()
        raise _Forked(program, descriptors)
    asked.send(str(number).encode())
    for descriptor in descriptors:
        os.close(descriptor)
    return number


def _end_of(client: socket.socket, number: int, end: int) -> None:
    """A shell's program has ended, or what stands for it in the shell."""
    os.kill(number, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    with client, contextlib.suppress(OSError):
        client.send(str(code if code >= 0 else 128 - code).encode())
    os.close(end)


def _fork_orphan() -> int:
    """Fork a program whose parent has ended; the kernel gives it to the tests."""
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        number = os.fork()
        if number == 0:
            return 0
        os.write(writing, str(number).encode())
        os._exit(0)
    os.close(writing)
    number = int(os.read(reading, 20))
    os.close(reading)
    os.waitpid(middle, 0)
    return number


# What it imports before it forks.


def _modules_of(package: str) -> Iterator[str]:
    yield package
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if not module.name.endswith(".__main__"):
            yield module.name


def _preload(names: "list[str]") -> None:
    """Import modules and attributes; what fails does so again in the program."""
    warnings.simplefilter("error")
    for name in names:
        package, _, attribute = name.rpartition(".")
        with contextlib.suppress(Exception):
            try:
                importlib.import_module(name)
            except ImportError:
                getattr(importlib.import_module(package), attribute)
    if threading.active_count() > 1:
        raise RuntimeError(f"a fork would lose threads that {names} have started")


def _imports(program: dict[str, Any]) -> list[str]:
    """All that the program's text imports, or nothing if it cannot be read."""
    names: list[str] = []
    with contextlib.suppress(Exception):
        for node in ast.walk(ast.parse(_source(program))):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _source(program: dict[str, Any]) -> str:
    name: str = program["name"]
    if program["kind"] == "-c":
        return name
    if program["kind"] == "":
        return Path(program["folder"], name).read_text("utf-8")
    found = importlib.util.find_spec(name)
    if found and found.submodule_search_locations:
        found = importlib.util.find_spec(f"{name}.__main__")
    return Path(found.origin).read_text("utf-8") if found and found.origin else ""


# In the fork.


def _place(numbers: list[int], descriptors: list[int]) -> None:
    """Give each received descriptor its number, and close all others."""
    apart = [_apart(descriptor) for descriptor in descriptors]
    os.closerange(0, LOW)
    for number, descriptor in zip(numbers, apart, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _apart(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LOW)


def _run(program: dict[str, Any]) -> NoReturn:
    """Be the program."""
    if program["session"]:
        os.setsid()
    os.chdir(program["folder"])
    if program["mask"] is not None:
        os.umask(program["mask"])
    os.environ.clear()
    os.environ.update(program["environment"])
    always = bool(os.environ.get("PYTHONUNBUFFERED"))
    _open_streams(unbuffered=program["unbuffered"] or always)
    warnings.resetwarnings()
    warnings.filters.extend(FILTERS)  # type: ignore[attr-defined]
    if program["strict"]:
        sys.warnoptions.append("error")
        warnings.simplefilter("error")
    above = os.environ.get("PYTHONPATH", "")
    sys.path[:] = [_folder_of(program), *filter(None, above.split(os.pathsep)), *PATH]
    sys.argv[:] = program["arguments"]
    _end(_exit_code(program["kind"], program["name"]))


def _folder_of(program: dict[str, Any]) -> str:
    if program["kind"] == "-c":
        return ""
    if program["kind"] == "-m":
        return str(Path.cwd())
    return str(Path(program["name"]).resolve().parent)


def _open_streams(*, unbuffered: bool) -> None:
    before = sys.stdin, sys.stdout, sys.stderr
    for number, (name, old) in enumerate(
        zip(("stdin", "stdout", "stderr"), before, strict=True)
    ):
        if not _is_open(number):
            setattr(sys, name, None)
            continue
        is_input = name == "stdin"
        mode, size = ("rb", -1) if is_input else ("wb", 0 if unbuffered else -1)
        raw = open(number, mode, size, closefd=False)  # noqa: SIM115 - as long as the program
        stream = io.TextIOWrapper(
            raw,
            old.encoding,
            old.errors,
            None if is_input else "\n",
            line_buffering=name == "stderr" or raw.isatty(),
            write_through=unbuffered,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _is_open(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        return os.fstat(descriptor) is not None
    return False


def _exit_code(kind: str, name: str) -> int:
    """Run it under ``__main__``; negative is a signal."""
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        if kind == "-m":
            runpy._run_module_as_main(name)  # type: ignore[attr-defined]
        else:
            _execute(module, name, is_file=not kind)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return (ended.code or 0) & 255
        print(ended.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
        return 1
    except BaseException as error:
        ours = error.__traceback__
        while ours is not None and ours.tb_frame.f_code.co_filename == __file__:
            ours = ours.tb_next
        sys.excepthook(type(error), error.with_traceback(ours), ours)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _execute(module: types.ModuleType, text: str, *, is_file: bool) -> None:
    shown = "<string>"
    if is_file:
        module.__file__ = shown = text
        text = Path(text).read_text("utf-8")
    code = compile(text, shown, "exec", dont_inherit=True)
    exec(code, vars(module))  # noqa: S102 - this is what it is for


def _end(code: int) -> NoReturn:
    """End as an interpreter does, but leave the libraries as they are."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    vars(sys.modules["__main__"]).clear()
    gc.collect()  # what the program has not closed warns
    code = code if _flushed() else 120
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _flushed() -> bool:
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"Exception ignored in: {sys.stdout}\n{error!r}\n")
        return False
    return True


if __name__ == "__main__":
    main()
