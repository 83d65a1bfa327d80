"""Between a 2xx and the return no failure loses the id."""

from __future__ import annotations

import json
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    AsyncClient,
    ClientClosedError,
    Generation,
    LocalRateLimiter,
    NotFoundError,
    RateLimitError,
    RateLimits,
    _logging,
)
from finetuning_async._submission import _acceptance
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

KEY = "ft_live_" + "b" * 32
OURS = logging.getLogger("finetuning_async")


class Broken(logging.Handler):
    """A log handler, or a filter, that raises."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("the log handler failed")

    def filter(self, record: logging.LogRecord) -> bool:
        return True


def _refuse(record: logging.LogRecord) -> bool:
    raise RuntimeError("no filter today")


@contextmanager
def broken_log(how: str, name: str) -> Generator[None]:
    """A logger with a handler or filter that raises for each record of ours."""
    logger, handler = logging.getLogger(name), Broken()
    before = logger.level
    logger.setLevel(logging.DEBUG)
    if how == "handler":
        logger.addHandler(handler)
    else:
        logger.addFilter(_refuse)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.removeFilter(_refuse)
        logger.setLevel(before)


@pytest.fixture(autouse=True)
def _nothing_said_yet() -> None:
    _logging._reported.clear()


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("handler", "finetuning_async"),
        ("handler", "httpx"),
        ("handler", ""),
        ("filter", "finetuning_async"),
        ("filter", "httpx"),
    ],
)
async def test_a_log_handler_that_raises_does_not_end_a_create(
    how: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reported: list[str] = []
    async with emulated() as (emulator, client):
        with broken_log(how, name):
            track = await client.generate(
                "x", on_submitted=lambda track: reported.append(track.id)
            )
    assert list(emulator.tracks) == reported == [track.id]
    assert emulator.count(method="POST", path="/v1/generations") == 1
    stderr = capsys.readouterr().err
    assert stderr.count("Traceback") == stderr.count("RuntimeError: ") == 1


async def test_a_log_handler_that_raises_does_not_end_a_recovery() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(Fault("lost_after_commit", "/v1/generations", method="POST"))
        with broken_log("handler", "finetuning_async"):
            track = await client.generations.create("x")
    assert list(emulator.tracks) == [track.id]


def test_a_foreign_log_handler_that_raises_is_left_alone() -> None:
    AsyncClient(KEY)
    with broken_log("handler", "httpx"), pytest.raises(RuntimeError):
        logging.getLogger("httpx").info("no request of ours")


async def test_an_event_callback_that_raises_does_not_end_a_create() -> None:
    def break_down(event: object) -> None:
        raise MemoryError(event)

    async with emulated(on_event=break_down) as (emulator, client):
        track = await client.generate("x")
    assert list(emulator.tracks) == [track.id]


async def test_on_submitted_is_called_before_the_log_and_the_events() -> None:
    order: list[str] = []

    def note(label: str) -> Callable[[object], None]:
        return lambda event: order.append(f"{label} {type(event).__name__}")

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            order.append("log")

    handler = Noting(logging.INFO)
    OURS.addHandler(handler)
    before = OURS.level
    OURS.setLevel(logging.INFO)
    try:
        async with emulated(on_event=note("event")) as (_, client):
            await client.generations.create("x", on_submitted=note("callback"))
    finally:
        OURS.removeHandler(handler)
        OURS.setLevel(before)
    after = order[order.index("event ResponseReceived") + 1 :]
    accepted = ["callback Generation", "log", "event GenerationAccepted"]
    assert after == [*accepted, "event LoadChanged"]


async def test_a_limiter_that_raises_does_not_end_a_create(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Frail(LocalRateLimiter):
        async def flush(self) -> None:
            raise OSError("too many open files")

    async with emulated(rate_limiter=Frail(RateLimits())) as (emulator, client):
        track = await client.generations.create("x")
    assert list(emulator.tracks) == [track.id]
    assert "too many open files" in caplog.text


@pytest.mark.parametrize("where", ["changes", "parsing.generation"])
@pytest.mark.parametrize("error", [MemoryError, RecursionError, ValueError])
async def test_an_acceptance_counts_even_if_parts_of_it_cannot_be_parsed(
    where: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: Any, **__: Any) -> Any:
        raise error

    async with emulated() as (emulator, client):
        with monkeypatch.context() as patch:
            patch.setattr(f"{_acceptance.__name__}.{where}", break_down)
            track = await client.generations.create("x")
    assert list(emulator.tracks) == [track.id]
    assert emulator.count(method="GET") == 0


ODD_HEADERS = [
    ("Date", "Sun, 99 Foo 9999 99:99:99 GMT"),
    ("Date", "Thu, 01 Jan 0001 00:00:00 GMT"),
    ("Date", "x" * 99),
    ("X-RateLimit-Limit", "9" * 99),
    ("X-RateLimit-Remaining", "-1"),
    ("Retry-After", "never"),
]


@pytest.mark.parametrize(
    "header", ODD_HEADERS, ids=lambda header: f"{header[0]} {header[1][:9]}"
)
async def test_invalid_headers_lose_no_track(header: tuple[str, str]) -> None:
    def response(request: httpx.Request) -> httpx.Response:
        row = {"id": "gen_1", "status": "processing"}
        return httpx.Response(202, json={"data": row}, headers=[header])

    async with httpx.AsyncClient(transport=httpx.MockTransport(response)) as http:
        async with AsyncClient(KEY, http_client=http) as client:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert (await client.generations.create("x")).id == "gen_1"


ODD_FIELDS: list[dict[str, Any]] = [
    {"parameters": {"seed": 10**30, "duration": [], "bpm": {}}},
    {"createdAt": "9999-12-31T23:59:59-23:59", "creditsRemaining": "many"},
    {"status": ["x"], "prompt": 5, "type": {}},
]


@pytest.mark.parametrize("odd", ODD_FIELDS, ids=lambda odd: next(iter(odd)))
async def test_invalid_fields_lose_no_track(odd: dict[str, Any]) -> None:
    def response(request: httpx.Request) -> httpx.Response:
        return httpx.Response(202, json={"data": {"id": "gen_1", **odd}})

    async with httpx.AsyncClient(transport=httpx.MockTransport(response)) as http:
        async with AsyncClient(KEY, http_client=http) as client:
            assert (await client.generations.create("x")).id == "gen_1"


async def test_a_hook_of_the_callers_client_that_raises_costs_one_recovery() -> None:
    async def break_down(response: httpx.Response) -> None:
        if response.request.method == "POST":
            raise RuntimeError("a hook of httpx")

    async with Emulator() as emulator:
        http = httpx.AsyncClient(
            transport=emulator.transport(), event_hooks={"response": [break_down]}
        )
        async with http, AsyncClient(emulator.api_key, http_client=http) as client:
            track = await client.generations.create("x")
    assert list(emulator.tracks) == [track.id]
    assert emulator.count(method="POST") == 1


async def _raise_for_status(response: httpx.Response) -> None:
    response.raise_for_status()


async def test_a_hook_that_raises_for_errors_hides_no_status() -> None:
    """This hook is the one that httpx's own documentation shows."""
    async with Emulator() as emulator:
        http = httpx.AsyncClient(
            transport=emulator.transport(),
            event_hooks={"response": [_raise_for_status]},
        )
        async with http, AsyncClient(emulator.api_key, http_client=http) as client:
            with pytest.raises(NotFoundError):
                await client.generations.get("gen_0")
            assert emulator.count(method="GET") == 1
            emulator.add_fault(
                Fault("status", "/v1/generations", method="POST", status=429, code="X")
            )
            with pytest.raises(RateLimitError):
                await client.generations.create("x")
    assert not emulator.tracks


async def test_a_client_closed_after_acceptance_reports_the_id() -> None:
    async with emulated() as (emulator, client):
        reported: list[Generation] = []
        async with anyio.create_task_group() as tasks:

            async def generate() -> None:
                with pytest.raises(ClientClosedError) as caught:
                    await client.generate("x", on_submitted=reported.append)
                assert caught.value.generation_id == reported[0].id
                assert json.dumps(caught.value.generation_id)

            tasks.start_soon(generate)
            while not emulator.tracks:  # noqa: ASYNC110 - the clock jumps
                await anyio.sleep(0.01)
            await client.aclose()
