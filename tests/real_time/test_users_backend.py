"""The backend with users: killed, redeployed and reloaded, it loses nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import httpx
import pytest

from finetuning_async.emulator import Emulator, serve
from tests._redis_server import RedisServer, program
from tests.fastapi.test_fastapi import events_of
from tests.real_time.test_backend import free_port
from tests.release._guides import ROOT, programs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import Process

pytest.importorskip("fastapi", reason="the extra fastapi is not installed")

pytestmark = pytest.mark.usefixtures("warm_programs")

SESSIONS: Final = {"a1": "ann", "b1": "bob"}
TRACKS: Final = [(session, f"order-{n}") for n in range(3) for session in SESSIONS]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


def test_the_guide_shows_the_program_that_is_tested() -> None:
    source = (ROOT / "tests" / "programs" / "users_backend.py").read_text("utf-8")
    guide = ROOT / "finetuning_async" / "guides" / "backend.md"
    assert programs(guide) == [source]


class Backend:
    """The example on one port, with one worker or more."""

    def __init__(self, folder: Path, workers: int, env: dict[str, str]) -> None:
        self._workers = workers
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.log = folder / "log"
        self._env = {
            **os.environ,
            **env,
            "JOURNAL": str(folder / "tracks.db"),
            "SESSIONS": json.dumps(SESSIONS),
        }
        self._process: Process | None = None

    async def start(self) -> None:
        app = ["tests.programs.users_backend:app", "--port", str(self._port)]
        workers = ["--workers", str(self._workers)] if self._workers > 1 else []
        with self.log.open("ab") as out:
            self._process = await anyio.open_process(
                [sys.executable, "-m", "uvicorn", *app, *workers],
                env=self._env,
                stdout=out,
                stderr=out,
            )
        await self.up()

    async def up(self) -> None:
        with anyio.fail_after(30):
            async with httpx.AsyncClient() as http:
                while True:
                    try:
                        await http.get(f"{self.url}/openapi.json")
                    except httpx.TransportError:
                        await anyio.sleep(0.05)
                    else:
                        return

    def workers(self) -> list[int]:
        """The workers, by the kernel's list of the supervisor's children."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        names = {int(child): Path(f"/proc/{child}/cmdline") for child in children}
        return [
            pid for pid, name in names.items() if b"spawn_main" in name.read_bytes()
        ]

    async def kill_a_worker(self) -> None:
        """With `SIGKILL`; a supervisor starts another one, otherwise this does."""
        if self._workers > 1:
            os.kill(self.workers()[0], signal.SIGKILL)
        else:
            await self.stop(signal.SIGKILL)
            await self.start()

    async def stop(self, number: signal.Signals) -> None:
        assert self._process is not None
        workers = self.workers()
        self._process.send_signal(number)
        if number == signal.SIGKILL:  # the supervisor can no longer end them
            for pid in workers:
                os.kill(pid, number)
        with anyio.CancelScope(shield=True):
            await self._process.wait()
        self._process = None

    async def aclose(self) -> None:
        if self._process is not None:
            await self.stop(signal.SIGKILL)


@asynccontextmanager
async def running(
    folder: Path, workers: int
) -> AsyncGenerator[tuple[Emulator, Backend]]:
    redis = RedisServer()
    redis.start()
    try:
        emulator = Emulator(
            generation_time=(4.0, 4.0), queue_size=20, audio=b"ID3 rain"
        )
        async with emulator, serve(emulator) as service:
            backend = Backend(
                folder,
                workers,
                {
                    "FINETUNING_API_KEY": emulator.api_key,
                    "FINETUNING_BASE_URL": service,
                    "REDIS_URL": redis.url,
                },
            )
            try:
                await backend.start()
                yield emulator, backend
            finally:
                await backend.aclose()
    finally:
        redis.kill()


async def asked(url: str, session: str, key: str) -> int | None:
    """Ask for a track as a page does; the status, `None` if the server was killed."""
    headers = {"Idempotency-Key": key, "cookie": f"session={session}"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as browser:
        body = {"tags": f"{key} of {session}"}
        try:
            return (await browser.post("/tracks", json=body, timeout=20)).status_code
        except httpx.TransportError:
            return None


async def ended(url: str, session: str, key: str) -> dict[str, Any]:
    """The final state of a track, as a page sees it that reconnects."""
    headers = {"cookie": f"session={session}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as browser:
        while True:
            response = await browser.get(f"/tracks/{key}/events")
            assert response.status_code == 200, response.text
            name, state = events_of(response.text)[-1]
            if name == "state" and state["is_final"]:
                assert isinstance(state, dict)
                return state
            await anyio.sleep(0.2)


async def paid(emulator: Emulator, count: int) -> None:
    with anyio.fail_after(30):
        while len(emulator.ledger) < count:  # noqa: ASYNC110 - there is no event
            await anyio.sleep(0.05)


async def all_asked(url: str) -> None:
    async with anyio.create_task_group() as group:
        for session, key in TRACKS:
            group.start_soon(asked, url, session, key)


@pytest.mark.skipif(program() is None, reason="no Redis is installed")
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="it finds workers in /proc")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_what_users_asked_for_survives_kills_redeploys_and_reloads(
    tmp_path: Path, workers: int
) -> None:
    finals: dict[tuple[str, str], str] = {}
    async with running(tmp_path, workers) as (emulator, backend):
        async with anyio.create_task_group() as group:
            group.start_soon(all_asked, backend.url)
            await paid(emulator, len(TRACKS))
            await backend.kill_a_worker()
        await all_asked(backend.url)  # as the pages do when they are loaded again
        await backend.stop(signal.SIGTERM)
        await backend.start()
        async with anyio.create_task_group() as group:

            async def follow(session: str, key: str) -> None:
                state = await ended(backend.url, session, key)
                assert state["status"] == "completed"
                finals[session, key] = state["id"]

            for session, key in TRACKS:
                group.start_soon(follow, session, key)
        assert len(set(finals.values())) == len(TRACKS)
        assert len(emulator.ledger) == len(TRACKS), "each was paid once"
        cookie = {"cookie": "session=a1"}
        async with httpx.AsyncClient(base_url=backend.url, headers=cookie) as ann:
            shown = (await ann.get("/tracks")).json()["items"]
            assert {item["key"] for item in shown} == {f"order-{n}" for n in range(3)}
            audio = await ann.get("/tracks/order-0/audio")
            assert audio.content == b"ID3 rain"
            theirs = await ann.get(f"/tracks/{finals['b1', 'order-0']}")
            assert theirs.status_code == 404
    assert "Traceback" not in backend.log.read_text()
