"""A pytest plugin that takes away what Windows lacks, before anything is imported.

    python -m pytest -p tests._without_posix -k "not postgres" tests/batch tests/cli

It is no Windows: paths, files in use and sockets behave as they do here, and trio needs
what it finds on Linux.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import warnings
from typing import Final

MODULES: Final = ["fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"]
ATTRIBUTES: Final = {
    os: [
        "O_DIRECTORY",
        "O_NONBLOCK",
        "O_NOFOLLOW",
        "geteuid",
        "getegid",
        "fork",
        "mkfifo",
    ],
    select: ["poll"],
    signal: ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "alarm", "setitimer"],
}


def _hide() -> None:
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way
    for module, names in ATTRIBUTES.items():
        for name in names:
            vars(module).pop(name, None)
    asyncio.SelectorEventLoop.add_signal_handler = _no_handler  # type: ignore[assignment,method-assign]  # as on Windows


def _no_handler(*_: object) -> None:
    raise NotImplementedError


_hide()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    import filelock  # noqa: F401 - it warns at import that its locks are soft


def pytest_report_header() -> str:
    return f"without {' '.join(MODULES)}"
