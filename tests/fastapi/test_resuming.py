"""`client_lifespan(resume=True)`: an application finishes what an earlier one began."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from fastapi import FastAPI

from finetuning_async import (
    AsyncClient,
    GenerationRequest,
    InvalidRequestError,
    Outcome,
    SubmissionUnknownError,
)
from finetuning_async.emulator import Emulator
from finetuning_async.fastapi import client_lifespan
from finetuning_async.journal import Held, Lost, Sending
from tests._client_journals import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

HELD = (Sending(7, 1.0), Lost(2.0, "it was lost"), Held("it may be any of two"))


@asynccontextmanager
async def emulated_maker(
    journal: MemoryJournal | None, **settings: Any
) -> AsyncGenerator[tuple[Emulator, Callable[[], AsyncClient]]]:
    """Yield an emulator, and what makes clients of it that share a journal."""
    async with (
        Emulator(**settings) as emulator,
        httpx.AsyncClient(transport=emulator.transport()) as http,
    ):

        def make() -> AsyncClient:
            return AsyncClient(
                emulator.api_key,
                base_url=emulator.base_url,
                http_client=http,
                rate_limits=emulator.rate_limits,
                journal=journal,
            )

        async with make() as client:
            if journal is not None:
                await client.journal.get("k")
        yield emulator, make


async def test_an_application_hands_over_what_an_earlier_one_left() -> None:
    journal = MemoryJournal()
    async with emulated_maker(journal) as (emulator, make):
        for number in range(3):
            journal.leave(GenerationRequest("rain", idempotency_key=f"{number}"))
        journal.leave(GenerationRequest("rain", idempotency_key="held"), *HELD)
        seen: list[Outcome] = []

        async def deliver(outcome: Outcome) -> None:
            await anyio.sleep(1)
            seen.append(outcome)

        lifespan = client_lifespan(make, resume=True, on_outcome=deliver)
        begun = anyio.current_time()
        async with lifespan(FastAPI()) as state:
            assert anyio.current_time() - begun < 0.1
            assert list(state) == ["finetuning_client"]
            await anyio.sleep(300)
        keys = {o.request.idempotency_key: o.error for o in seen}
        assert set(keys) == {"0", "1", "2", "held"}
        assert isinstance(keys["held"], SubmissionUnknownError)
        assert len(emulator.ledger) == len(seen) - 1 == 3


async def test_the_end_of_the_application_ends_the_resumption_at_once() -> None:
    journal = MemoryJournal()
    async with emulated_maker(journal, creates_per_minute=1) as (emulator, make):
        for number in range(5):
            journal.leave(GenerationRequest("rain", idempotency_key=f"{number}"))
        seen: list[Outcome] = []
        lifespan = client_lifespan(make, resume=True, on_outcome=seen.append)
        async with lifespan(FastAPI()):
            await anyio.sleep(10)
            begun = anyio.current_time()
        assert anyio.current_time() - begun < 0.1
        assert seen == []
        states = list(journal.states().values())
        assert states.count("accepted") == len(emulator.ledger) == 1
        assert states.count("planned") == 4


async def test_what_the_callback_raises_is_logged_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal = MemoryJournal()
    async with emulated_maker(journal) as (_, make):
        for number in range(3):
            journal.leave(GenerationRequest("rain", idempotency_key=f"{number}"))
        seen: list[Outcome] = []

        def fail(outcome: Outcome) -> None:
            seen.append(outcome)
            raise ZeroDivisionError

        async with client_lifespan(make, resume=True, on_outcome=fail)(FastAPI()):
            await anyio.sleep(300)
        assert len(seen) == 3
        assert "on_outcome" in caplog.text


async def test_an_application_starts_although_its_journal_cannot_be_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal = MemoryJournal()
    async with emulated_maker(journal) as (_, make):

        def refuse(*_: object) -> Any:
            raise OSError(28, "no space left on device")

        journal.store.page = refuse  # type: ignore[assignment]
        async with client_lifespan(make, resume=True)(FastAPI()):
            await anyio.sleep(10)
        assert "could not be resumed" in caplog.text


async def test_an_error_of_the_application_comes_out_as_it_is() -> None:
    async with emulated_maker(MemoryJournal()) as (_, make):
        with pytest.raises(ZeroDivisionError):
            async with client_lifespan(make, resume=True)(FastAPI()):
                raise ZeroDivisionError


async def test_without_a_journal_an_application_that_resumes_does_not_start() -> None:
    async with emulated_maker(None) as (_, make):
        with pytest.raises(InvalidRequestError, match=r"AsyncClient\(journal="):
            async with client_lifespan(make, resume=True)(FastAPI()):
                pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_outcome": print}, "resume must be True"),
        ({"on_outcome": 5, "resume": True}, "on_outcome must be"),
    ],
)
def test_wrong_options_are_refused_at_the_call(options: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        client_lifespan(**options)
