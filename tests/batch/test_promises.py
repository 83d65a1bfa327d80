"""What a batch promises: intents before first bytes, its pace, no leaked secrets."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import anyio
import httpx

from benchmarks.batch import pace
from finetuning_async import AsyncClient, GenerationRequest
from finetuning_async.batch import Batch, Row
from finetuning_async.batch._folder import JOURNAL_FOLDER
from finetuning_async.emulator import Fault
from finetuning_async.journal._sqlite_store import SQLiteStore
from tests._emulated_client import Cookieless, short

if TYPE_CHECKING:
    from pathlib import Path


class Spy(httpx.AsyncBaseTransport):
    """Reads the journal whenever a create leaves."""

    def __init__(self, inner: httpx.AsyncBaseTransport, journal: Path) -> None:
        self._inner = inner
        self._journal = journal
        self.states: list[str | None] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            seed = json.loads(await request.aread())["seed"]
            store = SQLiteStore(self._journal, read_only=True)
            known = {item.entry.seed: item.entry.state for item in store.rows()}
            self.states.append(known.get(seed))
            store.close()
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_no_create_leaves_without_its_intent(tmp_path: Path) -> None:
    async with short(audio=b"ID3", queue_size=3) as emulator:
        emulator.add_fault(Fault("connect_refused", "/v1/generations", method="POST"))
        emulator.add_fault(
            Fault("status", "/v1/generations", method="POST", status=429, retry_after=9)
        )
        spy = Spy(emulator.transport(), tmp_path / JOURNAL_FOLDER / "journal.db")
        async with (
            Cookieless(transport=spy) as http,
            AsyncClient(
                emulator.api_key, base_url=emulator.base_url, http_client=http
            ) as client,
            Batch(client, tmp_path) as batch,
        ):
            await batch.add([GenerationRequest("x")] * 15)
            async for _ in batch.run():
                pass
            assert batch.summary.accepts == 15
        assert len(spy.states) > 15
        assert set(spy.states) == {"sending"}


async def test_a_create_that_waits_has_no_intent(tmp_path: Path) -> None:
    async with short(audio=b"ID3", queue_size=2) as emulator:
        async with (
            Cookieless(transport=emulator.transport()) as http,
            AsyncClient(
                emulator.api_key, base_url=emulator.base_url, http_client=http
            ) as client,
            Batch(client, tmp_path) as batch,
        ):
            await batch.add([GenerationRequest("x")] * 15)
            batch.run()
            await anyio.sleep(15)
            states = batch.summary.states
            assert (states["accepted"], states["sending"]) == (2, 0)


async def test_a_webhook_secret_is_in_no_output(tmp_path: Path) -> None:
    hook = "https://hooks.example.org/x?token=s3cret"
    async with short(audio=b"ID3", failure_rate=0.5) as emulator:
        async with (
            Cookieless(transport=emulator.transport()) as http,
            AsyncClient(
                emulator.api_key, base_url=emulator.base_url, http_client=http
            ) as client,
            Batch(client, tmp_path) as batch,
        ):
            rows = [GenerationRequest(f"song {n}", webhook=hook) for n in range(6)]
            await batch.add(Row(request=request) for request in rows)
            ends = [item async for item in batch.run()]
            assert {item.state for item in ends} == {"downloaded", "failed"}
            assert all("s3cret" not in repr(item) for item in ends)
    for path in (tmp_path / "results.jsonl", tmp_path / "errors.jsonl"):
        assert "s3cret" not in path.read_text()
    mode = stat.S_IMODE((tmp_path / JOURNAL_FOLDER).stat().st_mode)
    assert mode == 0o700  # the journal holds the URL, in order to send it


def test_a_batch_takes_at_most_1_5_percent_longer_than_the_limits_allow() -> None:
    found = pace(60)
    assert found.refused == 0
    # Its creates go out evenly, for the sake of others, which stretches its last burst.
    last_burst = 9 * 6.0
    assert found.seconds < found.ideal * 1.015 + last_burst
