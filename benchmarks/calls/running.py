"""The server of `server`, run in a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def running(*, delay: float = 0.0) -> Iterator[str]:
    """Run the server in a process of its own, and give its URL."""
    command = [sys.executable, "-m", "benchmarks.calls.server", f"--delay={delay}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own module
        try:
            line = server.stdout.readline() if server.stdout else ""
            yield f"http://127.0.0.1:{line.strip()}"
        finally:
            server.terminate()
