"""The logger `finetuning_async`: what it logs at which level, and nothing twice."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from finetuning_async import AsyncClient
from finetuning_async._logging import filter_httpx_record, set_up_logging
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CREATE = "/v1/generations"
LOGGER = logging.getLogger("finetuning_async")


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    level, handlers = LOGGER.level, list(LOGGER.handlers)
    of_httpx = logging.getLogger("httpx").level
    yield
    logging.getLogger("httpx").setLevel(of_httpx)
    LOGGER.setLevel(level)
    LOGGER.handlers[:] = handlers
    set_up_logging.cache_clear()
    logging.getLogger("httpx").removeFilter(filter_httpx_record)
    set_up_logging()


@pytest.fixture
def start_logging(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Callable[[], list[str]]]:
    """Set the variable as at the start of a process; return the lines of stderr."""

    def start(value: str) -> Callable[[], list[str]]:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest
        monkeypatch.setattr(LOGGER, "handlers", [])
        monkeypatch.setattr(LOGGER, "propagate", True)
        monkeypatch.setenv("FINETUNING_LOG", value)
        set_up_logging.cache_clear()
        return lambda: capsys.readouterr().err.splitlines()

    return start


async def test_info_logs_one_line_per_accepted_and_per_ended_track(
    start_logging: Callable[[str], Callable[[], list[str]]],
) -> None:
    lines = start_logging("INFO")
    async with emulated() as (emulator, client):
        emulator.add_fault(Fault("fail", CREATE))
        emulator.add_fault(Fault("status", "/v1/me", status=503))
        first = await client.generations.create("x")
        await client.me()
        ended = await client.wait_for_completion(first)
        assert ended.status == "failed"
        second = await client.generate("y")
        await client.generations.get(second.id)
    logged = [line.partition(" INFO finetuning_async: ")[2] for line in lines()]
    accepted, failed, again, completed = logged
    assert accepted == f"accepted music {first.id}"
    assert failed.startswith(f"failed music {first.id} ")
    assert failed.endswith(f" s after it was accepted: {ended.error_message}")
    assert again == f"accepted music {second.id}"
    assert completed.startswith(f"completed music {second.id} ")
    assert completed.endswith(" s after it was accepted")


async def test_debug_logs_one_line_per_request_and_silences_httpx(
    start_logging: Callable[[str], Callable[[], list[str]]],
) -> None:
    lines = start_logging("debug")
    logging.getLogger("httpx").setLevel(logging.INFO)
    await anyio.sleep(1000)  # so that a time and a duration differ
    async with emulated() as (emulator, client):
        emulator.add_fault(Fault("connect_refused", "/v1/me"))
        await client.me()
        logged = lines()
    assert len(logged) == 3
    failed = r"GET /v1/me: no response after \d{1,3} ms \(attempt 1\): ConnectError"
    assert re.search(failed, logged[0])
    assert "attempt 2 starts in " in logged[1]
    sent = r"GET /v1/me: 200 in \d{1,3} ms \(attempt 2, 59 reads left\)$"
    assert re.search(sent, logged[2])


async def test_httpx_still_logs_requests_that_are_not_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "httpx")
    LOGGER.setLevel(logging.DEBUG)
    async with emulated() as (emulator, client):
        await client.me()
        async with httpx.AsyncClient(transport=emulator.transport()) as http:
            await http.get(f"{emulator.base_url}/health?mine=1")
        LOGGER.setLevel(logging.WARNING)
        await client.health()
    logged = [r.getMessage() for r in caplog.records if r.name == "httpx"]
    assert len(logged) == 2
    assert "/health?mine=1" in logged[0]
    assert logged[1].startswith("HTTP Request: GET ")


async def test_warnings_are_for_what_may_need_attention(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "finetuning_async")
    async with emulated(Emulator(queue_size=1)) as (emulator, client):
        emulator.add_fault(Fault("lost_after_commit", CREATE))
        await client.generations.create("x")  # adopted
        await client.generations.create("y")  # waits for the queue
        emulator.add_fault(
            Fault("status", "/v1/me", status=429, code="RATE_LIMITED", retry_after=3)
        )
        await client.me()  # waits for the 429 to pass
        await client.instrumentals.create("z", duration=37)  # rounded by the service
    logged = [record.getMessage() for record in caplog.records]
    for part in (
        "a create got no usable response",
        "but its track was found",
        "GET /v1/me was refused (RATE_LIMITED): all reads wait for 3.",
        "the service changed ['duration']",
    ):
        assert sum(part in text for text in logged) == 1, (part, logged)
    assert len(logged) == 4  # a full queue needs no attention


def test_an_invalid_level_is_logged_once(
    start_logging: Callable[[str], Callable[[], list[str]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    start_logging("loud")
    LOGGER.addHandler(caplog.handler)
    AsyncClient("ft_live_" + 32 * "0")
    AsyncClient("ft_live_" + 32 * "0")
    assert (
        caplog.text.count(
            "FINETUNING_LOG must be one of debug, info, warning, error, got 'loud'"
        )
        == 1
    )


def test_nothing_is_logged_twice_beside_a_handler_of_the_application(
    start_logging: Callable[[str], Callable[[], list[str]]],
) -> None:
    lines = start_logging("info")
    set_up_logging()
    root = logging.getLogger()
    before = root.level
    LOGGER.info("once")
    assert [line.split(": ")[-1] for line in lines()] == ["once"]
    taken: list[logging.LogRecord] = []

    class Theirs(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            taken.append(record)

    theirs = Theirs()
    root.addHandler(theirs)
    LOGGER.info("theirs")
    assert lines() == []
    assert [record.getMessage() for record in taken] == ["theirs"]
    theirs.setLevel(logging.WARNING)
    LOGGER.info("not theirs")
    assert [line.split(": ")[-1] for line in lines()] == ["not theirs"]
    assert root.level == before
