"""The events of `on_event`: typed, in order, without secrets; free if it is unset."""

from __future__ import annotations

import inspect
import logging
import sys
from typing import TYPE_CHECKING, Any, get_args
from unittest.mock import AsyncMock, Mock

import anyio
import attrs
import httpx
import pytest

import finetuning_async
from finetuning_async import (
    AsyncClient,
    Event,
    FinetuningError,
    GenerationAccepted,
    GenerationEnded,
    InvalidRequestError,
    RateLimited,
    RateLimitWaited,
    RequestFailed,
    RequestSent,
    ResponseReceived,
    RetryScheduled,
    SubmissionUnknown,
    SubmissionUnknownError,
)
from finetuning_async._event_hook import Hook
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated
from tests._secret_canary import HOOK, KEY, assert_clean

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CREATE = "/v1/generations"


def _of(kind: type, seen: list[Event]) -> list[Any]:
    return [event for event in seen if isinstance(event, kind)]


async def test_a_track_has_events_from_its_request_to_its_end() -> None:
    seen: list[Event] = []
    await anyio.sleep(1000)  # so that a time and a duration differ
    async with emulated(on_event=seen.append) as (_, client):
        track = await client.generate("x", webhook="https://me.example/hook")
        left = (await client.me()).total_remaining
    sent, received = seen[0], seen[1]
    assert isinstance(sent, RequestSent)
    assert (sent.method, sent.path, sent.attempt) == ("POST", CREATE, 1)
    # The first create goes alone: its response shows how the service counts.
    assert (sent.budget, sent.available) == ("creates", 0)
    assert isinstance(received, ResponseReceived)
    assert (received.status, received.code, received.remaining) == (202, None, 9)
    assert received.duration == pytest.approx(received.at - sent.at, abs=0.001)
    accepted, ended = _of(GenerationAccepted, seen)[0], _of(GenerationEnded, seen)[0]
    assert seen.index(accepted) == 2
    assert accepted.generation_id == ended.generation_id == track.id
    assert accepted.duration == pytest.approx(accepted.at - sent.at, abs=0.001)
    assert accepted.credits_remaining == left
    assert accepted.request_id == received.request_id
    assert (accepted.kind, accepted.attempts, accepted.adopted) == ("music", 1, False)
    assert (ended.status, ended.kind) == ("completed", "music")
    assert ended.duration == pytest.approx(ended.at - accepted.at)
    assert ended.generation_time == track.generation_time
    assert [event.at for event in seen] == sorted(event.at for event in seen)


async def _poll(client: AsyncClient, track_id: str) -> None:
    await client.wait_for_completion(track_id)


async def _get(client: AsyncClient, track_id: str) -> None:
    await client.generations.get(track_id)


async def _list(client: AsyncClient, track_id: str) -> None:
    del track_id
    await client.generations.list()


async def _crowd(client: AsyncClient, track_id: str) -> None:
    async with anyio.create_task_group() as group:
        for one in (
            track_id,
            track_id,
            *[t.id async for t in client.generations.list()],
        ):
            group.start_soon(client.wait_for_completion, one)


@pytest.mark.parametrize("look", [_poll, _get, _list, _crowd])
async def test_an_end_is_one_event_however_it_is_seen(
    look: Callable[[AsyncClient, str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "finetuning_async")
    seen: list[Event] = []
    async with emulated(on_event=seen.append) as (_, client):
        track = await client.generations.create("x")
        other = await client.generations.create("y")
        await anyio.sleep(100)
        await look(client, track.id)
        for each in (_poll, _get, _list, _poll):
            await each(client, track.id)
    ended = [event.generation_id for event in _of(GenerationEnded, seen)]
    assert ended.count(track.id) == 1
    assert set(ended) <= {track.id, other.id}
    records = [r for r in caplog.records if r.name == "finetuning_async"]
    lines = [record.getMessage() for record in records]
    assert sorted(lines[:2]) == sorted(f"accepted music {t.id}" for t in (track, other))
    ends = [line for line in lines if track.id in line][1:]
    assert len(ends) == 1
    assert ends[0].startswith(f"completed music {track.id} ")


async def test_a_waiting_client_gets_the_end_as_well_as_the_creating_one() -> None:
    mine: list[Event] = []
    yours: list[Event] = []
    async with emulated(on_event=mine.append) as (_, client):
        track = await client.generations.create("x")
        view = client.with_options(on_event=yours.append)
        await view.wait_for_completion(track.id)
        quiet = client.with_options(on_event=None)
        await quiet.generate("y")
    for seen in (mine, yours):
        assert [e.generation_id for e in _of(GenerationEnded, seen)] == [track.id]
    assert _of(GenerationAccepted, yours) == []
    assert len(_of(GenerationAccepted, mine)) == 1


async def test_the_events_of_attempts_and_retries() -> None:
    seen: list[Event] = []
    async with emulated(on_event=seen.append) as (emulator, client):
        emulator.add_fault(Fault("connect_refused", "/v1/me"))
        emulator.add_fault(Fault("status", "/v1/me", status=503, code="OVERLOADED"))
        await client.me()
    assert [type(event) for event in seen] == [
        RequestSent,
        RequestFailed,
        RetryScheduled,
        RequestSent,
        ResponseReceived,
        RetryScheduled,
        RequestSent,
        ResponseReceived,
    ]
    assert [event.attempt for event in _of(RequestSent, seen)] == [1, 2, 3]
    failed, received = seen[1], seen[4]
    assert isinstance(failed, RequestFailed)
    assert failed.not_sent
    assert "ConnectError" in failed.reason
    assert isinstance(received, ResponseReceived)
    assert (received.attempt, received.status, received.code) == (2, 503, "OVERLOADED")
    first, second = _of(RetryScheduled, seen)
    assert (first.attempt, first.reason) == (2, "APIConnectionError")
    assert (second.attempt, second.reason) == (3, "InternalServerError")
    assert _of(RequestSent, seen)[1].at - first.at >= first.pause > 0


async def test_the_retry_event_of_a_download_has_the_host_only(
    tmp_path: Path,
) -> None:
    seen: list[Event] = []
    async with emulated(on_event=seen.append) as (emulator, client):
        track = await client.generate("x")
        seen.clear()
        emulator.add_fault(Fault("broken_download", "/audio/*", after_bytes=1000))
        await client.download(track, tmp_path / "x.mp3")
    (retry,) = seen
    assert isinstance(retry, RetryScheduled)
    assert (retry.method, retry.attempt) == ("GET", 2)
    assert retry.path == httpx.URL(str(track.audio_url)).host


async def test_the_events_of_waiting_for_a_rate_limit_a_429_and_the_queue() -> None:
    await anyio.sleep(1000)  # so that a time and a duration differ
    seen: list[Event] = []
    async with emulated(Emulator(queue_size=1), on_event=seen.append) as (
        emulator,
        client,
    ):
        code = "GENERATION_RATE_LIMITED"
        emulator.add_fault(
            Fault("status", CREATE, method="POST", status=429, code=code, retry_after=7)
        )
        await client.generations.create("x")
        await client.generations.create("y")
    limited, waited = _of(RateLimited, seen), _of(RateLimitWaited, seen)
    assert [(gate.budget, gate.code) for gate in limited] == [
        ("creates", code),
        ("queue", "QUEUE_FULL"),
    ]
    assert 7 <= limited[0].duration < 8
    assert [event.budget for event in waited] == ["creates", "queue"]
    assert waited[0].duration == pytest.approx(limited[0].duration, abs=0.1)
    assert waited[1].duration > 1
    assert [event.attempt for event in waited] == [2, 2]


async def test_a_create_in_doubt_has_an_event_at_its_begin_and_end() -> None:
    seen: list[Event] = []
    async with emulated(on_event=seen.append) as (emulator, client):
        emulator.add_fault(Fault("lost_after_commit", CREATE))
        found = await client.generations.create("x")
        emulator.add_fault(Fault("lost_before_commit", CREATE))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("y", seed=7)
        emulator.add_fault(Fault("lost_before_commit", CREATE))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("z", timeout=3)
    doubts, accepted = _of(SubmissionUnknown, seen), _of(GenerationAccepted, seen)
    assert [doubt.given_up for doubt in doubts] == [False, False, True, False, True]
    assert doubts[1].seed == doubts[2].seed == 7
    assert [(event.generation_id, event.adopted) for event in accepted] == [
        (found.id, True)
    ]


async def test_every_request_that_is_sent_is_followed_by_its_outcome() -> None:
    await anyio.sleep(1000)  # so that a time and a duration differ
    seen: list[Event] = []
    async with emulated(on_event=seen.append) as (emulator, client):
        emulator.add_fault(Fault("slow_answer", seconds=100, times=None))
        with anyio.move_on_after(2):
            await client.me()
        with anyio.move_on_after(2):
            await client.generations.create("x")
    outcomes = _of(ResponseReceived, seen) + _of(RequestFailed, seen)
    assert len(outcomes) == len(_of(RequestSent, seen)) == 2
    failed = _of(RequestFailed, seen)
    assert not any(event.not_sent for event in failed)
    # The response to a create that was sent is waited for a little longer.
    assert [event.duration for event in failed] == pytest.approx([2, 7], abs=0.01)


async def test_an_exception_of_the_callback_is_logged_once_and_ends_no_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = 0

    def fail(event: Event) -> None:
        nonlocal calls
        calls += 1
        raise ValueError(f"mine, at {event.at}")

    async with emulated(on_event=fail) as (_, client):
        track = await client.generate("x")
        assert track.status == "completed"
    assert calls > 4
    logged = [record for record in caplog.records if "on_event" in record.getMessage()]
    assert [record.levelname for record in logged] == ["ERROR"]
    assert "ValueError: mine" in caplog.text
    assert "Traceback" in caplog.text


async def test_a_mock_is_an_ordinary_callback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    callback = Mock()
    async with emulated(on_event=callback) as (_, client):
        await client.generate("x")
    assert callback.call_count > 4
    assert callback.method_calls == []
    assert "on_event" not in caplog.text


async def _async(event: Event) -> None:
    del event


class _Callable:
    async def __call__(self, event: Event) -> None:
        del event


@pytest.mark.parametrize("callback", [_async, _Callable(), AsyncMock(), 7, "print"])
def test_an_invalid_callback_is_rejected(callback: Any) -> None:
    with pytest.raises(InvalidRequestError, match="on_event must be"):
        AsyncClient(KEY, on_event=callback)
    with pytest.raises(InvalidRequestError, match="on_event must be"):
        AsyncClient(KEY).with_options(on_event=callback)


def test_a_coroutine_from_a_plain_callback_is_closed_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hook = Hook(lambda event: _async(event))
    for _ in range(2):
        hook(RequestSent.__new__(RequestSent))
    assert caplog.text.count("coroutine") == 1


async def test_events_hold_no_secret_and_no_prompt() -> None:
    seen: list[Event] = []
    async with Emulator() as emulator:
        emulator.add_key(KEY)
        http = httpx.AsyncClient(transport=emulator.transport())
        async with (
            http,
            AsyncClient(
                KEY,
                base_url=emulator.base_url,
                http_client=http,
                rate_limits=emulator.rate_limits,
                on_event=seen.append,
            ) as client,
        ):
            emulator.add_fault(Fault("lost_before_commit", CREATE))
            with pytest.raises(FinetuningError):
                await client.generations.create("hidden words", webhook=HOOK)
            emulator.add_fault(
                Fault("status", status=429, code="RATE_LIMITED", retry_after=1)
            )
            await client.generate("hidden words", webhook=HOOK)
    assert {type(event) for event in seen} == set(get_args(Event))
    shown = [repr(event) for event in seen]
    assert_clean("an event", *shown)
    assert not any("hidden words" in text for text in shown)


def test_events_are_frozen_and_public() -> None:
    for kind in get_args(Event):
        assert getattr(finetuning_async, kind.__name__) is kind
        assert kind.__setattr__ is not object.__setattr__
        assert all(field.kw_only for field in attrs.fields(kind))


async def test_no_event_is_made_without_a_callback() -> None:
    """Counts the calls of all that makes or passes on an event, except one no-op."""
    made: list[str] = []
    ours = tuple(
        sys.modules[f"finetuning_async.{name}"].__file__
        for name in (
            "_http._request_events",
            "_submission._create_events",
            "_event_hook",
        )
    )
    kinds = {kind.__init__.__code__: kind.__name__ for kind in get_args(Event)}

    def note(frame: Any, event: str, _: object) -> None:
        code = frame.f_code
        is_event_code = code.co_filename in ours and code.co_name != "_ignore"
        if event == "call" and (code in kinds or is_event_code):
            made.append(code.co_name)

    async with emulated(Emulator(queue_size=1)) as (_, client):
        sys.setprofile(note)
        try:
            await client.generate("x")
            await client.me()
        finally:
            sys.setprofile(None)
        assert made == []
        seen: list[Event] = []
        sys.setprofile(note)
        try:
            await client.with_options(on_event=seen.append).me()
        finally:
            sys.setprofile(None)
        assert len(seen) == 2
        assert made


def test_the_examples_of_events_name_their_class() -> None:
    for kind in get_args(Event):
        assert kind.__name__ in (inspect.getdoc(kind) or "").partition("Example:")[2]
