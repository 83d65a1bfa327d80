"""`generate_many`: requests are read as limits allow, outcomes come as tracks end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import sniffio

from finetuning_async import (
    ClientClosedError,
    GenerationFailedError,
    GenerationRequest,
    InstrumentalRequest,
    InvalidRequestError,
    Outcome,
    SoundEffectRequest,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated, short
from tests._scripted_service import assert_nothing_left

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from finetuning_async import AsyncClient, Progress
    from finetuning_async._api._requests import RequestLike

pytestmark = pytest.mark.sampled(2)


def songs(count: int) -> list[GenerationRequest]:
    return [GenerationRequest(f"song {n}", duration=5) for n in range(count)]


async def all_of(
    client: AsyncClient, requests: Iterable[RequestLike], **more: Any
) -> list[Outcome]:
    async with client.generate_many(requests, **more) as outcomes:
        return [outcome async for outcome in outcomes]


async def test_every_request_gives_one_outcome_as_it_ends() -> None:
    async with emulated() as (emulator, client):
        requests = songs(25)
        ends: list[float] = []
        seen: list[Outcome] = []
        async with client.generate_many(requests, wait_timeout=None) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome)
                track = outcome.generation
                assert track is not None
                ends.append(anyio.current_time() - emulator.tracks[track.id].ends_at)
            assert outcomes.pending == ()
        assert max(ends) < 2.0
        assert sorted(o.request.prompt for o in seen) == sorted(
            r.tags for r in requests
        )
        assert {o.error for o in seen} == {None}
        assert len(emulator.ledger) == 25
        assert_nothing_left(client)


async def test_requests_are_submitted_in_their_order() -> None:
    async with emulated(short(queue_size=50)) as (emulator, client):
        await all_of(client, songs(12))
        prompts = [track.prompt for track in emulator.tracks.values()]
        assert prompts == [f"song {n}" for n in range(12)]


async def test_an_endless_source_is_read_as_the_rate_limit_allows() -> None:
    taken = 0

    def endless() -> Iterator[GenerationRequest]:
        nonlocal taken
        while True:
            taken += 1
            yield GenerationRequest(f"song {taken}", duration=5)

    async with emulated(Emulator(queue_size=3)) as (emulator, client):
        async with client.generate_many(endless()) as outcomes:
            async for _ in outcomes:
                assert taken <= len(emulator.tracks) + 4
                if anyio.current_time() > 300:
                    break
        assert_nothing_left(client)


async def test_an_async_source_is_read_and_closed() -> None:
    closed = False

    async def source() -> AsyncGenerator[GenerationRequest]:
        nonlocal closed
        try:
            for request in songs(100):
                await anyio.sleep(1)
                yield request
        finally:
            closed = True

    async with emulated(short(queue_size=9)) as (_, client):
        async with client.generate_many(source()) as outcomes:
            assert (await anext(outcomes)).error is None
        assert closed
        assert_nothing_left(client)


async def test_requests_of_different_kinds_are_accepted() -> None:
    async with emulated(Emulator(generation_time=(30.0, 30.0))) as (_, client):
        requests: list[RequestLike] = [
            GenerationRequest("a", duration=5),
            InstrumentalRequest("b"),
        ]
        outcomes = await all_of(client, requests)
        kinds = {o.request.prompt: o.generation and o.generation.kind for o in outcomes}
        assert kinds == {"a": "music", "b": "instrumental"}


async def test_one_failure_does_not_stop_the_others() -> None:
    async with emulated(short(queue_size=20)) as (emulator, client):
        emulator.add_fault(Fault("fail", method="POST", skip=1))
        emulator.add_fault(Fault("stick", method="POST", skip=1))
        requests = [*songs(5), GenerationRequest("bad", duration=5000)]
        outcomes = await all_of(client, requests, wait_timeout=200)
        errors = {type(o.error): o for o in outcomes if o.error is not None}
        assert len(outcomes) == 6
        assert set(errors) == {
            GenerationFailedError,
            WaitTimeoutError,
            InvalidRequestError,
        }
        failed = errors[GenerationFailedError].generation
        assert failed is not None
        assert failed.status == "failed"
        late = errors[WaitTimeoutError]
        assert late.generation is not None
        assert late.generation.status == "processing"
        assert late.error is not None
        assert not late.error.safe_to_retry
        assert errors[InvalidRequestError].generation is None


async def test_left_early_it_sends_nothing_more_and_lists_pending_ids() -> None:
    async with emulated(short(queue_size=50)) as (emulator, client):
        async with client.generate_many(songs(40)) as outcomes:
            first = await anext(outcomes)
        assert first.generation is not None
        assert set(outcomes.pending) == set(emulator.tracks) - {first.generation.id}
        assert_nothing_left(client)
        sent = len(emulator.requests)
        await anyio.sleep(300)
        assert len(emulator.requests) == sent
        done = await client.wait_for_completion(outcomes.pending[0])
        assert done.status == "completed"  # no track was cancelled


async def test_left_during_a_create_its_id_is_kept() -> None:
    async with emulated(short(latency=(1.0, 1.0))) as (emulator, client):
        with anyio.move_on_after(2.5):  # a second round trip has begun
            async with client.generate_many(songs(9)) as outcomes:
                await anext(outcomes)
        assert len(emulator.tracks) > 1
        assert set(outcomes.pending) == set(emulator.tracks)
        assert anyio.current_time() == pytest.approx(4.0, abs=0.001)


@pytest.mark.parametrize("how", ["break", "exception", "cancelled"])
@pytest.mark.parametrize("fault", ["lost_before_commit", "delay"])
async def test_left_early_it_lists_creates_in_doubt(how: str, fault: Any) -> None:
    """One create is being looked up, or has no response, when the block is left."""
    async with emulated(Emulator(queue_size=50)) as (emulator, client):
        emulator.add_fault(
            Fault(fault, "/v1/generations", method="POST", skip=1, seconds=45.0)
        )
        with suppress(ZeroDivisionError), anyio.move_on_after(25):
            async with client.generate_many(songs(3)) as outcomes:
                await anyio.sleep(5)
                if how == "exception":
                    raise ZeroDivisionError
                if how == "cancelled":
                    await anyio.sleep_forever()
        (outcome,) = outcomes.in_doubt
        assert isinstance(outcome.error, SubmissionUnknownError)
        assert f"seed={outcome.error.seed}" in str(outcome.error)
        assert outcome.error.prompt == outcome.request.prompt
        assert outcome.generation is None
        assert [o async for o in outcomes if o.error is not None] == [outcome]
        assert len(outcomes.pending) == 2


async def test_a_create_in_doubt_stays_listed_after_its_outcome_was_yielded() -> None:
    async with emulated() as (emulator, client):
        fault = Fault("lost_before_commit", "/v1/generations", method="POST", skip=1)
        emulator.add_fault(fault)
        async with client.generate_many(songs(2)) as outcomes:
            seen = [o async for o in outcomes]
        assert [o for o in seen if o.error is not None] == list(outcomes.in_doubt)
        assert len(outcomes.in_doubt) == 1


async def test_a_timeout_of_asyncio_ends_the_block() -> None:
    if sniffio.current_async_library() != "asyncio":
        pytest.skip("trio has no cancellation but its scopes")
    async with emulated(short(queue_size=50)) as (emulator, client):
        many = client.generate_many(songs(40))
        with pytest.raises(TimeoutError):  # noqa: PT012 - the block is what is tested
            async with asyncio.timeout(10), many as outcomes:
                async for _ in outcomes:
                    pass
        assert set(outcomes.pending) == set(emulator.tracks)
        assert_nothing_left(client)


async def test_an_exception_of_the_body_is_not_wrapped() -> None:
    async with emulated() as (_, client):
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is tested
            async with client.generate_many(songs(3)) as outcomes:
                await anext(outcomes)
                raise ZeroDivisionError


async def test_an_exception_of_the_source_comes_after_earlier_outcomes() -> None:
    def source() -> Iterator[GenerationRequest]:
        yield from songs(3)
        raise ZeroDivisionError

    async with emulated() as (emulator, client):
        seen: list[Outcome] = []
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is tested
            async with client.generate_many(source()) as outcomes:
                async for outcome in outcomes:
                    seen.append(outcome)  # noqa: PERF401 - an exception is to come
        assert len(seen) == len(emulator.tracks) == 3


async def test_an_object_that_is_not_a_request_is_rejected_and_named() -> None:
    async with emulated() as (emulator, client):
        requests: Any = [5.5]
        with pytest.raises(InvalidRequestError, match=r"requests must be .* got 5.5"):
            await all_of(client, requests)
        assert emulator.requests == []


async def test_no_requests_give_no_outcomes() -> None:
    async with emulated() as (_, client):
        assert await all_of(client, []) == []


async def test_callbacks_are_called_for_every_track() -> None:
    async with emulated(short(pending_time=(5.0, 5.0))) as (_, client):
        accepted: list[str] = []
        states: list[str] = []

        async def on_submitted(track: Any) -> None:
            accepted.append(track.id)

        await all_of(
            client,
            songs(3),
            on_submitted=on_submitted,
            on_update=lambda track: states.append(track.status),
        )
        assert len(accepted) == 3
        assert sorted(states) == ["completed"] * 3 + ["processing"] * 3


async def test_a_slow_consumer_does_not_delay_creates() -> None:
    async with emulated(short(queue_size=50)) as (emulator, client):
        async with client.generate_many(songs(30)) as outcomes:
            await anext(outcomes)
            await anyio.sleep(300)
            assert len(emulator.tracks) == 30
            assert len([o async for o in outcomes]) == 29


async def test_closing_the_client_ends_every_request() -> None:
    async with emulated() as (_, client):
        async with client.generate_many(songs(20)) as outcomes:
            await anext(outcomes)
            await client.aclose()
            rest = [outcome async for outcome in outcomes]
        assert len(rest) == 19
        assert {type(o.error) for o in rest} <= {ClientClosedError, type(None)}


async def test_outcomes_need_a_block_which_is_entered_once() -> None:
    async with emulated() as (_, client):
        many = client.generate_many(songs(0))
        with pytest.raises(RuntimeError, match="async with"):
            await anext(many)
        async with many:
            pass
        with pytest.raises(RuntimeError, match="once"):
            await many.__aenter__()


async def test_progress_is_reported_once_a_second_and_reads_nothing() -> None:
    seen: dict[str, list[Progress]] = {}
    states: list[str] = []

    def note(track: Any, progress: Progress) -> None:
        seen.setdefault(track.id, []).append(progress)

    service = Emulator(generation_time=(30, 30))
    async with emulated(service) as (emulator, client):
        await all_of(
            client,
            songs(3),
            on_track_progress=note,
            on_update=lambda track: states.append(track.status),
        )
        # 90 reports, and no more reads than the poll loop's slots in that time.
        assert len(emulator.requests) <= 3 + 30 / 1.43 + 3
        assert states.count("completed") == 3
        for reports in seen.values():
            fractions = [progress.fraction for progress in reports]
            assert fractions == sorted(fractions)
            assert fractions[-1] == 1
            assert fractions[-2] < 1
            assert 25 <= len(reports) <= 33


async def test_an_error_of_the_progress_callback_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(track: Any, progress: Progress) -> None:
        raise RuntimeError("a bug of the caller's")

    async with emulated() as (_, client):
        (outcome,) = await all_of(client, songs(1), on_track_progress=fail)
        assert outcome.error is None
        with pytest.raises(InvalidRequestError, match="on_track_progress"):
            client.generate_many(["x"], on_track_progress=1)  # type: ignore[call-overload]  # refused
    assert "on_track_progress" in caplog.text


async def test_prompts_and_mappings_are_requests_too() -> None:
    song = GenerationRequest("rain", duration=5)
    async with emulated() as (_, client):
        outcomes = await all_of(
            client,
            [
                song,
                "wind",
                {"tags": "snow", "bpm": 70},
                {"prompt": "hail", "lyrics": "la"},
                {"type": "instrumental", "prompt": "strings", "duration": 45},
                {"kind": "sound_effect", "prompt": "a door"},
            ],
        )
    assert {outcome.error for outcome in outcomes} == {None}
    made = {outcome.request for outcome in outcomes}
    assert made == {
        song,
        GenerationRequest("wind"),
        GenerationRequest("snow", bpm=70),
        GenerationRequest("hail", lyrics="la"),
        InstrumentalRequest("strings", duration=45),
        SoundEffectRequest("a door"),
    }


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"tags": "x", "tempo": 3}, r"names in a request for music .* got \['tempo'\]"),
        ({"tags": "x", "type": "song"}, "type of a request must be one of music"),
        ({"prompt": "x", "tags": "y"}, r"got \['prompt'\]"),
    ],
)
async def test_what_is_no_request_ends_the_iteration(wrong: Any, problem: str) -> None:
    async with emulated() as (emulator, client):
        async with client.generate_many([wrong]) as outcomes:
            with pytest.raises(InvalidRequestError, match=problem):
                await anext(outcomes)
        assert emulator.requests == []


async def test_a_mapping_is_checked_as_a_request_is() -> None:
    async with emulated() as (emulator, client):
        wrong: list[Any] = [{"bpm": 500}, {"tags": "x", "bpm": 500}]
        first, second = await all_of(client, wrong)
        assert {getattr(o.error, "field", "") for o in (first, second)} == {
            "tags",
            "bpm",
        }
        assert emulator.requests == []


@pytest.mark.parametrize("one", ["rain", {"tags": "rain"}, GenerationRequest("rain")])
async def test_one_request_in_place_of_several_is_refused_at_the_call(
    one: Any,
) -> None:
    """A text is an iterable of characters, each of which would cost a credit."""
    async with emulated() as (emulator, client):
        with pytest.raises(InvalidRequestError, match="put it in a list"):
            client.generate_many(one)
        assert emulator.requests == []
