"""An emulator in a process of its own, for suites that only know HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

POLL_EVERY: Final = 0.01
"""Seconds between two looks whether it listens."""

LOG_SIZE: Final = 2000
"""Characters of its stderr that an error repeats."""


@attrs.define(eq=False)
class EmulatorProcess:
    """The emulator as a process: it listens while the block runs, and ends with it.

    Attributes:
        arguments: Options of ``finetuning emulator``, such as
            ``("--speed", "10", "--seed-file", "state.yaml")``. Without ``--port`` a
            free one is chosen.
        start_timeout: Seconds that it has to start.
        environment: Its environment, by default this process's.
        url: Its base URL, such as ``http://127.0.0.1:8000``, once it is started.
        api_key: The key of its first account, once it is started.
        pid: Its process id, once it is started.

    Example:
        import httpx
        from finetuning_async.testing import EmulatorProcess

        with EmulatorProcess(("--speed", "10")) as emulator:
            httpx.post(f"{emulator.control_url}/faults", json={"action": "stick"})
            print(httpx.get(f"{emulator.control_url}/state").json())
            async with AsyncClient(emulator.api_key, base_url=emulator.url) as client:
                print((await client.me()).tier)

            late = EmulatorProcess()
            late.start()  # the same without a block
            late.stop()  # or late.kill(), as a crash does
    """

    arguments: Sequence[str] = ()
    start_timeout: float = attrs.field(default=30.0, kw_only=True)
    environment: Mapping[str, str] | None = attrs.field(
        default=None, kw_only=True, repr=False
    )
    url: str = attrs.field(default="", init=False)
    api_key: str = attrs.field(default="", init=False, repr=False)
    pid: int = attrs.field(default=0, init=False)
    _process: subprocess.Popen[bytes] | None = attrs.field(
        default=None, init=False, repr=False
    )
    _folder: tempfile.TemporaryDirectory[str] | None = attrs.field(
        default=None, init=False, repr=False
    )

    @property
    def control_url(self) -> str:
        """Where it is controlled: ``{url}/_emulator``."""
        return f"{self.url}/_emulator"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it listens.

        Raises:
            RuntimeError: It runs already, it ended instead of listening (the message
                repeats what it said), or it took too long.
        """
        if self._process is not None:
            raise RuntimeError(f"the emulator runs already, as process {self.pid}")
        self._folder = tempfile.TemporaryDirectory(prefix="finetuning-emulator-")
        try:
            self._start(Path(self._folder.name))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it, if it runs: what ``--state-dir`` keeps is complete then."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def kill(self) -> None:
        """End it as a crash does (``SIGKILL``), to test what is left."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.stop()

    def _start(self, folder: Path) -> None:
        ready, log = folder / "ready.json", folder / "stderr.txt"
        port = () if "--port" in self.arguments else ("--port", "0")
        words = (*("--quiet", "--json", "--ready-file", str(ready)), *port)
        program = (sys.executable, "-m", "finetuning_async", "emulator")
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - the caller's own options
                [*program, *words, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=dict(os.environ if self.environment is None else self.environment),
            )
        found = self._wait(self._process, ready, log)
        self.url, self.api_key = found["url"], found["api_key"]
        self.pid = found["pid"]

    def _wait(
        self, process: subprocess.Popen[bytes], ready: Path, log: Path
    ) -> dict[str, Any]:
        deadline = time.monotonic() + self.start_timeout
        while not ready.exists():
            if process.poll() is not None:
                said = log.read_text(encoding="utf-8", errors="replace").strip()
                message = (
                    f"the emulator ended with exit code {process.returncode} instead of"
                    f" listening; it said: {said[-LOG_SIZE:]}"
                )
                raise RuntimeError(message)
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"the emulator did not listen within {self.start_timeout:g} s;"
                    " give it a longer start_timeout"
                )
            time.sleep(POLL_EVERY)
        found: dict[str, Any] = json.loads(ready.read_text(encoding="utf-8"))
        return found
