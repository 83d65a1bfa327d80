"""`AsyncClient` as an application uses it, against the emulator."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    ClientClosedError,
    FinetuningError,
    Generation,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimit,
    RateLimitError,
    RateLimits,
    WaitTimeoutError,
)
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.testing import JumpingEventLoop
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

KEY = "ft_live_" + "0" * 32


async def test_the_main_job_creates_waits_and_downloads(tmp_path: Path) -> None:
    async with emulated() as (emulator, client):
        track = await client.generate("lofi chill piano night", duration=30, bpm=85)
        assert track.status == "completed"
        path = await client.download(track, tmp_path / "deep" / "night.mp3")
        assert path.read_bytes().startswith((b"ID3", b"\xff"))
        assert len(emulator.ledger) == 1


async def test_create_sends_only_the_parameters_that_were_set_and_a_seed() -> None:
    bodies: list[bytes] = []

    def service(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        row = {"id": f"gen_{len(bodies)}", "status": "pending"}
        return httpx.Response(202, json={"data": row})

    async with httpx.AsyncClient(transport=httpx.MockTransport(service)) as http:
        client = AsyncClient(KEY, http_client=http)
        await client.generations.create("waltz", seed=7)
        await client.generations.create("waltz")
    first, second = (httpx.Response(200, content=b).json() for b in bodies)
    assert first == {"tags": "waltz", "seed": 7}
    assert set(second) == {"tags", "seed"}
    assert 1 <= second["seed"] <= 2**31 - 1


async def test_headers_added_to_a_callers_client_go_with_the_next_call() -> None:
    seen: list[httpx.Headers] = []

    def service(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        row = {"id": f"gen_{len(seen)}", "status": "pending"}
        return httpx.Response(202, json={"data": row})

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(service), headers={"Host": "front.example"}
    ) as http:
        client = AsyncClient(KEY, http_client=http)
        await client.generations.create("waltz", seed=7)
        http.headers["X-Team"] = "blue"
        await client.generations.create("a longer waltz", seed=7)
    assert [each["Host"] for each in seen] == ["front.example"] * 2
    assert [each.get("X-Team") for each in seen] == [None, "blue"]
    assert [each["Content-Length"] for each in seen] == ["28", "37"]


async def test_me_health_get_and_list_read_the_service() -> None:
    async with emulated() as (_, client):
        assert (await client.health()).status == "ok"
        assert (await client.me()).total_remaining == 2000
        created = [await client.generations.create(f"song {n}") for n in range(5)]
        assert (await client.generations.get(created[0].id)).prompt == "song 0"
        page = await client.generations.list(limit=2)
        assert [row.prompt for row in page.items] == ["song 4", "song 3"]
        following = await page.next_page()
        assert following is not None
        assert [row.prompt for row in following.items] == ["song 2", "song 1"]
        rows = [row.prompt async for row in client.generations.list(limit=2)]
        assert rows == [f"song {n}" for n in (4, 3, 2, 1, 0)]


async def test_a_list_yields_each_row_once_while_new_tracks_shift_its_pages() -> None:
    async with emulated() as (_, client):
        for number in range(4):
            await client.generations.create(f"song {number}")
        seen: list[str] = []
        async for row in client.generations.list(limit=2):
            seen.append(row.prompt)
            if len(seen) == 2:
                await client.generations.create("late")
        assert sorted(seen) == [f"song {number}" for number in range(4)]


async def test_a_failed_track_raises_with_its_final_state() -> None:
    async with emulated(short(failure_rate=1.0)) as (_, client):
        with pytest.raises(GenerationFailedError) as caught:
            await client.generate("doomed")
        assert caught.value.generation.status == "failed"
        assert caught.value.generation.error_message
        final = await client.wait_for_completion(caught.value.generation.id)
        assert final.status == "failed"


async def test_a_track_that_outlasts_the_wait_can_be_waited_for_again() -> None:
    async with emulated(Emulator(generation_time=(100, 100))) as (emulator, client):
        with pytest.raises(WaitTimeoutError) as caught:
            await client.generate("slow", wait_timeout=50)
        assert not caught.value.safe_to_retry
        assert caught.value.generation_id is not None
        final = await client.wait_for_completion(caught.value.generation_id)
        assert final.status == "completed"
        assert len(emulator.ledger) == 1


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"duration": 4}, "duration"),
        ({"duration": 211}, "duration"),
        ({"bpm": 59}, "bpm"),
        ({"key": "H"}, "key"),
        ({"scale": "dorian"}, "scale"),
        ({"timesignature": 8}, "timesignature"),
        ({"language": "xx"}, "language"),
        ({"webhook": "http://me.example/hook"}, "webhook"),
        ({"seed": -1}, "seed"),
    ],
)
async def test_a_parameter_out_of_range_is_rejected_before_anything_is_sent(
    options: dict[str, Any], field: str
) -> None:
    async with emulated() as (emulator, client):
        with pytest.raises(InvalidRequestError) as caught:
            await client.generations.create("x", **options)
        assert caught.value.field == field
        assert emulator.requests == [] or len(emulator.requests) == 0


async def test_validate_false_lets_the_service_decide() -> None:
    async with emulated() as (emulator, client):
        with pytest.raises(FinetuningError) as caught:
            await client.generations.create("x", bpm=300, validate=False)
        assert not isinstance(caught.value, InvalidRequestError)
        assert len(emulator.requests) == 1


def test_no_key_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FINETUNING_API_KEY", raising=False)
    with pytest.raises(InvalidRequestError, match="FINETUNING_API_KEY"):
        AsyncClient()


def test_key_and_base_url_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FINETUNING_API_KEY", f" {KEY}\n")
    monkeypatch.setenv("FINETUNING_BASE_URL", "http://127.0.0.1:8787/")
    assert "http://127.0.0.1:8787 key=ft_live_****" in repr(AsyncClient())


def test_a_key_of_another_form_is_logged_without_showing_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    AsyncClient("sk-other")
    assert "ft_live_" in caplog.text
    assert "sk-other" not in caplog.text


@pytest.mark.parametrize("key", ["ft_live_a b", "ft_live_ä" + "0" * 31, "a\nb"])
def test_a_key_that_cannot_be_sent_is_rejected_without_showing_it(key: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        AsyncClient(key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://pub.finetuning.ai", "ftp://x.example", "pub.finetuning.ai", "https://"],
)
def test_plain_http_is_rejected_except_on_loopback(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="https://"):
        AsyncClient(KEY, base_url=url)


@pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
def test_max_retries_must_be_a_whole_number(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match="max_retries"):
        AsyncClient(KEY, max_retries=value)


async def test_errors_of_the_service_have_their_classes() -> None:
    async with emulated(Emulator(credits=0)) as (emulator, client):
        with pytest.raises(InsufficientCreditsError):
            await client.generations.create("x")
        with pytest.raises(NotFoundError):
            await client.generations.get("gen_none")
        stranger = client.with_options(api_key="ft_live_" + "f" * 32)
        with pytest.raises(AuthenticationError, match="Profile > API"):
            await stranger.me()
        assert emulator.ledger == [] or len(emulator.ledger) == 0
    async with emulated(short(tier="free")) as (_, client):
        with pytest.raises(PermissionDeniedError):
            await client.me()


async def test_an_html_response_is_named_in_the_error() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(Fault("html", status=200, times=None))
        with pytest.raises(APIResponseError, match="expected JSON"):
            await client.me()


async def test_a_read_is_retried_after_temporary_failures() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(Fault("status", status=502, code=None))
        emulator.add_fault(Fault("lost_before_commit"))
        emulator.add_fault(Fault("connect_refused"))
        assert (await client.me()).tier == "pro"


async def test_a_read_gives_up_at_its_timeout() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(Fault("slow_answer", seconds=100, times=None))
        started = anyio.current_time()
        with pytest.raises(APITimeoutError) as caught:
            await client.me(timeout=20)
        assert caught.value.safe_to_retry
        assert anyio.current_time() - started <= 20.001


async def test_an_error_about_a_track_names_it() -> None:
    async with emulated(max_retries=0) as (emulator, client):
        for read in (client.generations.get, client.sound_effects.get):
            with pytest.raises(NotFoundError) as missing:
                await read("nothing")
            emulator.add_fault(Fault("lost_before_commit"))
            with pytest.raises(APIConnectionError) as lost:
                await read("nothing")
            emulator.add_fault(Fault("slow_answer", seconds=100))
            with pytest.raises(APITimeoutError) as late:
                await read("nothing", timeout=20)
            for caught in (missing, lost, late):
                assert caught.value.generation_id == "nothing"


async def test_retry_after_stops_the_whole_budget() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(
            Fault("status", "/v1/me", status=429, code="RATE_LIMITED", retry_after=40)
        )
        started = anyio.current_time()
        ends: list[float] = []

        async def read() -> None:
            await client.me()
            ends.append(anyio.current_time() - started)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.sleep(1)
            for _ in range(5):
                group.start_soon(read)
        assert len(ends) == 6
        assert min(ends) >= 40
        assert len(emulator.requests) == 7


async def test_a_pause_longer_than_max_retry_wait_raises_at_once() -> None:
    async with emulated(max_retry_wait=60) as (emulator, client):
        fault = Fault("status", status=429, code="RATE_LIMITED", retry_after=3000)
        emulator.add_fault(fault)
        started = anyio.current_time()
        for _ in range(2):  # the one refused, and one that meets the closed gate
            with pytest.raises(RateLimitError) as caught:
                await client.me()
            assert caught.value.retry_after is not None
            assert caught.value.retry_after > 2900
            assert (caught.value.code, caught.value.budget) == ("RATE_LIMITED", "reads")
        assert anyio.current_time() - started < 1
        assert len(emulator.requests) == 1


async def test_two_clients_with_one_key_share_their_rate_limits() -> None:
    async with emulated(short(queue_size=20)) as (emulator, client):
        async with httpx.AsyncClient(transport=emulator.transport()) as http:
            other = AsyncClient(
                emulator.api_key, base_url=emulator.base_url, http_client=http
            )
            started = anyio.current_time()
            for number in range(12):
                await (client, other)[number % 2].generations.create(f"n {number}")
            assert 60 < anyio.current_time() - started < 70
            assert emulator.count(status=429) == 0


async def test_with_options_shares_the_pool_and_changes_the_rest() -> None:
    async with emulated() as (emulator, client):
        view = client.with_options(max_retries=0)
        emulator.add_fault(Fault("status", status=503, code=None))
        with pytest.raises(FinetuningError):
            await view.me()
        assert (await client.me()).tier == "pro"
        with pytest.raises(InvalidRequestError, match="max_retry"):
            client.with_options(max_retry=1)  # type: ignore[call-arg]  # refused


async def test_rate_limiting_can_be_turned_off() -> None:
    async with emulated(short(queue_size=20), rate_limits=None, max_retries=0) as (
        emulator,
        client,
    ):
        for number in range(10):
            await client.generations.create(f"n {number}")
        with pytest.raises(RateLimitError):
            await client.generations.create("one too many")
        assert emulator.count(status=429) == 1


async def test_scaled_limits_are_kept() -> None:
    limits = RateLimits(creates=RateLimit(2, per=10), reads=RateLimit(12, per=10))
    async with emulated(rate_limits=limits) as (_, client):
        started = anyio.current_time()
        for number in range(5):
            await client.generations.create(f"n {number}")
        assert 20 <= anyio.current_time() - started < 22


async def test_closing_ends_waiting_calls_and_rejects_new_ones() -> None:
    async with emulated(Emulator(generation_time=(500, 500))) as (_, client):
        track = await client.generations.create("x")
        ends: list[BaseException] = []

        async def wait() -> None:
            try:
                await client.wait_for_completion(track, timeout=None)
            except ClientClosedError as error:
                ends.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            await anyio.sleep(10)
            await client.aclose()
        assert len(ends) == 3
        assert client.is_closed
        for call in (client.me(), client.generations.create("x")):
            with pytest.raises(ClientClosedError):
                await call
        await client.aclose()


async def test_closing_a_client_ends_the_waits_of_its_views_too() -> None:
    async with emulated(Emulator(generation_time=(500, 500))) as (emulator, client):
        key = "ft_live_" + "a" * 32
        emulator.add_account(key)
        view = client.with_options(api_key=key)
        track = await view.generations.create("x")
        async with anyio.create_task_group() as group:
            group.start_soon(_after, 10, client.aclose)
            with pytest.raises(ClientClosedError):
                await view.wait_for_completion(track, timeout=None)


async def _after(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    await anyio.sleep(seconds)
    await work()


async def test_a_client_whose_block_is_cancelled_is_closed() -> None:
    async with emulated() as (_, client):
        track = await client.generations.create("x")
        ends: list[Exception] = []

        async def wait() -> None:
            try:
                await client.wait_for_completion(track)
            except ClientClosedError as error:
                ends.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(1)
            with anyio.CancelScope() as scope:
                async with client:
                    scope.cancel()
            assert client.is_closed
        assert len(ends) == 1


async def test_a_given_http_client_is_not_closed() -> None:
    async with short() as emulator:
        async with httpx.AsyncClient(transport=emulator.transport()) as http:
            async with AsyncClient(KEY, http_client=http):
                pass
            assert not http.is_closed


def test_a_client_can_be_used_after_its_loop_has_ended() -> None:
    client = AsyncClient(KEY, http_client=httpx.AsyncClient(transport=_always_well()))
    for _ in range(50):
        with asyncio.Runner(loop_factory=JumpingEventLoop) as runner:
            assert runner.run(client.health()).status == "ok"


def test_a_view_can_be_used_after_its_loop_has_ended() -> None:
    client = AsyncClient(KEY, http_client=httpx.AsyncClient(transport=_always_well()))
    view = client.with_options(max_retries=1)

    async def both() -> None:
        await client.health()
        await view.health()
        assert view.rate_limit_status().reads.waiting == 0

    for _ in range(3):
        with asyncio.Runner(loop_factory=JumpingEventLoop) as runner:
            runner.run(both())


def test_a_rejected_key_of_a_view_is_in_no_local_of_our_frames() -> None:
    client = AsyncClient(KEY)
    try:
        client.with_options(api_key="not a key")
    except InvalidRequestError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        ours = [frame for frame in shown.stack if frame.filename != __file__]
        assert ours
        assert not any("not a key" in str(frame.locals) for frame in ours)


def test_a_client_in_a_second_live_loop_raises() -> None:
    client = AsyncClient(KEY, http_client=httpx.AsyncClient(transport=_always_well()))
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(client.health())
        with pytest.raises(FinetuningError, match="one client per event loop"):
            second.run(client.health())


def _always_well() -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(200, json={"status": "ok"}))


async def test_the_rate_limit_status_shows_what_is_free() -> None:
    async with emulated() as (_, client):
        await client.generations.create("x")
        status = client.rate_limit_status()
        assert status.creates.limit == 10
        assert status.creates.available is not None
        assert status.creates.available <= 9
        assert status.creates.waiting == 0


async def test_changes_by_the_service_are_logged_and_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def service(request: httpx.Request) -> httpx.Response:
        body = httpx.Response(200, content=request.content).json()
        data = {
            "id": "gen_1",
            "status": "processing",
            "parameters": {"duration": 60, "seed": body["seed"]},
        }
        return httpx.Response(202, json={"data": data})

    async with httpx.AsyncClient(transport=httpx.MockTransport(service)) as http:
        client = AsyncClient(KEY, http_client=http)
        with caplog.at_level(logging.WARNING):
            track: Generation = await client.generations.create("x", duration=100)
    assert track.changed_by_service == {"duration": (100, 60.0)}
    assert "duration" in caplog.text


@pytest.mark.parametrize("generation_id", ["", "  ", "."])
async def test_an_empty_id_is_rejected(generation_id: str) -> None:
    with pytest.raises(InvalidRequestError, match="generation_id"):
        await AsyncClient(KEY).generations.get(generation_id)


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (100, 0), (5, -1), (True, 0)])
async def test_a_list_checks_its_page(limit: int, offset: int) -> None:
    with pytest.raises(InvalidRequestError):
        AsyncClient(KEY).generations.list(limit=limit, offset=offset)
