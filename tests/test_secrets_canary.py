"""The API key and the query of a webhook appear in no output.

Logs with httpx and httpcore at level 1, reprs, texts, tracebacks with the locals of
every frame along the whole chain of causes, and pickles; for every way to fail.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import AsyncClient, FinetuningError
from finetuning_async._api._requests import GenerationRequest
from finetuning_async.emulator import Emulator, Fault
from tests._secret_canary import HOOK, KEY, TOKEN, assert_clean, everything_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

CREATE = "/v1/generations"


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Log everything, and check that no record shows a secret."""
    for name in ("", "httpx", "httpcore", "finetuning_async"):
        caplog.set_level(1, name)
    yield
    formatter = logging.Formatter("%(message)s %(args)s")
    records = caplog.get_records("call")
    assert_clean("the log", "", *(formatter.format(record) for record in records))


@asynccontextmanager
async def world(**options: Any) -> AsyncGenerator[tuple[Emulator, AsyncClient]]:
    async with Emulator(webhook_sender=_deliver) as emulator:
        emulator.add_key(KEY)
        async with (
            httpx.AsyncClient(transport=emulator.transport()) as http,
            AsyncClient(
                KEY,
                base_url=emulator.base_url,
                http_client=http,
                rate_limits=emulator.rate_limits,
                **options,
            ) as client,
        ):
            yield emulator, client
            assert_clean("the client", repr(client), str(client), repr(vars(client)))


async def _deliver(_url: str, _headers: object, _body: bytes) -> int:
    return 200


def on(action: Any, method: str = "POST", **settings: Any) -> Fault:
    return Fault(action, CREATE + "*", method=method, times=None, **settings)


FAULTS = [
    on("connect_refused"),
    on("connect_hangs"),
    on("lost_before_commit"),
    on("lost_before_commit", close=True),
    on("slow_answer", seconds=100),
    on("html", status=502),
    on("empty"),
    *(
        on("status", status=status, code=code)
        for status in (400, 401, 402, 403, 404, 408, 429, 500, 502, 503)
        for code in ("SOME_CODE", None)
    ),
]


def _name(fault: Fault) -> str:
    return f"{fault.action}-{fault.status}-{fault.code}-{fault.close}"


async def _fails(call: Callable[[], Any]) -> None:
    with pytest.raises(FinetuningError) as caught:
        await call()
    assert_clean("the error", *everything_of(caught.value))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("fault", FAULTS, ids=_name)
async def test_a_create_that_fails(fault: Fault) -> None:
    async with world(max_retries=1) as (emulator, client):
        emulator.add_fault(fault)
        emulator.add_fault(on("hide", seconds=10_000))
        if fault.action in ("empty", "html", "slow_answer"):  # and not found again
            emulator.add_fault(on("status", "GET", status=503))
        await _fails(lambda: client.generations.create("x", webhook=HOOK))
        await _fails(
            lambda: client.generations.create("x", webhook=HOOK, on_unknown="resubmit")
        )


@pytest.mark.sampled(2)
@pytest.mark.parametrize("fault", FAULTS, ids=_name)
async def test_a_read_that_fails(fault: Fault) -> None:
    async with world(max_retries=1) as (emulator, client):
        fault = Fault(
            fault.action,
            "*",
            method="GET",
            times=None,
            seconds=100,
            status=fault.status,
            code=fault.code,
            close=fault.close,
        )
        emulator.add_fault(fault)
        await _fails(lambda: client.generations.get("some-id"))
        await _fails(client.me)


@pytest.mark.parametrize("after", [0.0, 1.0, 3.0, 40.0])
async def test_a_create_that_runs_out_of_time(after: float) -> None:
    async with world() as (emulator, client):
        emulator.add_fault(on("slow_answer", seconds=100))
        emulator.add_fault(on("slow_answer", "GET", seconds=100))
        await _fails(
            lambda: client.generations.create("x", webhook=HOOK, timeout=after)
        )


async def test_a_create_that_is_cancelled() -> None:
    async with world() as (emulator, client):
        emulator.add_fault(on("slow_answer", seconds=100))
        seen: list[BaseException] = []

        async def create() -> None:
            try:
                await client.generations.create("x", webhook=HOOK)
            except BaseException as error:
                seen.append(error)
                raise

        with anyio.move_on_after(1):
            await create()
        assert_clean("the cancellation", *everything_of(seen[0], pickled=False))


@pytest.mark.parametrize("seconds", [3, 8])
async def test_a_read_that_is_cancelled(seconds: float) -> None:
    async with world() as (emulator, client):
        emulator.add_fault(on("slow_answer", "GET", seconds=100))
        seen: list[BaseException] = []

        async def read() -> None:
            try:
                await client.generations.get("x")
            except BaseException as error:
                seen.append(error)
                raise

        with anyio.move_on_after(seconds):
            await read()
        assert_clean("the cancellation", *everything_of(seen[0], pickled=False))


MEDIA = "https://media.finetuning.ai/a.mp3"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("connect_refused", times=None),
        Fault("lost_before_commit", times=None),
        Fault("status", times=None, status=503, code=None),
        Fault("status", times=None, status=403, code="NO"),
        Fault("html", times=None),
    ],
    ids=_name,
)
async def test_a_download_that_fails(fault: Fault, tmp_path: Path) -> None:
    async with world(max_retries=1) as (emulator, client):
        emulator.add_fault(fault)
        await _fails(lambda: client.download(MEDIA, tmp_path / "x.mp3"))
        await _fails(lambda: client.download(MEDIA, tmp_path / "x.mp3" / "not"))
        await _fails(lambda: client.download("http://far.example", tmp_path / "x"))


@pytest.mark.parametrize("status", [200, 403])
async def test_a_download_by_a_signed_url(status: int, tmp_path: Path) -> None:
    def serve(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=b"mp3")

    url = f"{MEDIA}?signature={TOKEN}#{TOKEN}"
    http = httpx.AsyncClient(transport=httpx.MockTransport(serve))
    async with http, AsyncClient(KEY, http_client=http) as client:
        for level in (logging.DEBUG, logging.INFO):
            logging.getLogger("finetuning_async").setLevel(level)
            if status == 200:
                await client.download(url, tmp_path / "a.mp3")
                continue
            with pytest.raises(FinetuningError) as caught:
                await client.download(url, tmp_path / "a.mp3")
            assert_clean("the error", repr(caught.value), pickle.dumps(caught.value))


async def test_a_callback_that_fails() -> None:
    async with world() as (_, client):

        def fail(_: Any) -> None:
            raise ValueError("mine")

        with pytest.raises(ValueError, match="mine") as caught:
            await client.generations.create("x", webhook=HOOK, on_submitted=fail)
        assert_clean("the error", *everything_of(caught.value))


async def test_a_create_that_succeeds() -> None:
    async with world() as (_, client):
        track = await client.generations.create("x", webhook=HOOK)
        assert_clean("the track", repr(track), str(track))
        assert_clean("the request", repr(GenerationRequest("x", webhook=HOOK)))
        final = await client.wait_for_completion(track)
        assert_clean("the track", repr(final), str(final))


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": KEY + " x"},
        {"api_key": KEY + "é"},
        {"base_url": "http://far.example"},
        {"max_retries": -1},
        {"max_retry_wait": -1},
        {"request_timeout": "soon"},
        {"rate_limits": 7},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_constructor_that_fails(options: dict[str, Any]) -> None:
    try:
        AsyncClient(**{"api_key": KEY, **options})
    except Exception as error:
        shown = everything_of(error, since=_here)
        assert_clean("the error", *shown)


def _here() -> None:
    """Frames of this file hold the key, as the frames of a caller do."""


async def test_a_service_that_echoes_the_request() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        error = {
            "code": "BAD",
            "message": f"key {request.headers.get('x-api-key')} hook {HOOK}",
            "details": {"hook": HOOK, "key": KEY},
        }
        return httpx.Response(400, json={"error": error})

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        async with AsyncClient(KEY, http_client=http) as client:
            await _fails(lambda: client.generations.create("x", webhook=HOOK))


async def test_a_transport_that_shows_the_request() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError(f"lost {request.headers['x-api-key']} {HOOK}")

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        async with AsyncClient(KEY, http_client=http, max_retries=0) as client:
            await _fails(lambda: client.generations.create("x", webhook=HOOK))
            await _fails(client.me)


@pytest.mark.parametrize("name", ["cancelled", "a bug"])
async def test_frames_of_a_transport_that_hold_the_key_are_not_kept(name: str) -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        held = dict(request.headers)
        await anyio.sleep(10 if name == "cancelled" else 0)
        raise ValueError(len(held))

    seen: list[BaseException] = []

    async def read(client: AsyncClient) -> None:
        try:
            await client.me()
        except BaseException as error:
            seen.append(error)
            raise

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        async with AsyncClient(KEY, http_client=http) as client:
            with anyio.move_on_after(1), contextlib.suppress(ValueError):
                await read(client)
    assert_clean("it", *everything_of(seen[0], pickled=False, since=None))


def test_the_canary_is_found_where_it_is() -> None:
    """The check finds a secret in a local, a context, a cause and a pickle."""

    def leak(hidden: str) -> None:
        raise LookupError(len(hidden))

    for bird in (KEY, HOOK):
        with pytest.raises(LookupError) as caught:
            leak(bird)
        with pytest.raises(AssertionError):
            assert_clean("it", *everything_of(caught.value, since=None))
    with pytest.raises(AssertionError):
        assert_clean("it", pickle.dumps({"a": KEY}))
