"""Waits: final states, updates in order, deadlines, and what a wait leaves behind."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import (
    AuthenticationError,
    ClientClosedError,
    Generation,
    GenerationFailedError,
    InvalidRequestError,
    NotFoundError,
    SoundEffect,
    WaitTimeoutError,
)
from finetuning_async.emulator import Emulator
from tests._emulated_client import emulated, short
from tests._scripted_service import (
    assert_nothing_left,
    refusal,
    reply,
    scripted_service,
)

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.sampled(2)


async def test_a_wait_returns_the_final_state() -> None:
    async with scripted_service() as (service, client):
        track = service.add("a", 20.0)
        done = await client.wait_for_completion("a")
        assert done.status == "completed"
        assert done.audio_url == "https://media.finetuning.ai/a.mp3"
        assert anyio.current_time() - track.ends_at < 2.0
        assert_nothing_left(client)


async def test_a_wait_returns_a_failed_track_with_its_message() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0, end="failed")
        done = await client.wait_for_completion("a")
        assert (done.status, done.error_message) == ("failed", "out of time")


async def test_a_wait_raises_for_a_failed_track_if_asked() -> None:
    async with emulated(short(failure_rate=1.0)) as (_, client):
        accepted = await client.generations.create("rain")
        with pytest.raises(GenerationFailedError) as caught:
            await client.wait_for_completion(accepted, raise_on_failure=True)
    assert caught.value.generation_id == accepted.id


async def test_generate_returns_a_failed_track_if_asked() -> None:
    async with emulated(short(failure_rate=1.0)) as (_, client):
        track = await client.generate("rain", raise_on_failure=False)
    assert (track.status, track.audio_url) == ("failed", None)


async def test_generate_raises_for_a_failed_track() -> None:
    async with emulated(short(failure_rate=1.0)) as (_, client):
        with pytest.raises(GenerationFailedError) as caught:
            await client.generate("x", duration=5)
        assert caught.value.generation.error_message == "renderer ran out of time"
        assert_nothing_left(client)


async def test_a_final_track_is_returned_without_a_read() -> None:
    async with scripted_service() as (service, client):
        for status in ("completed", "failed"):
            track = Generation(id="a", status=status)
            assert await client.wait_for_completion(track) is track
            assert [state async for state in client.watch(track)] == [track]
        assert service.log == []


async def test_updates_come_on_change_in_order_and_the_final_one_last() -> None:
    async with emulated(short(pending_time=(10.0, 10.0))) as (_, client):
        accepted = await client.generations.create("x", duration=5)
        updates: list[str] = []
        seen: list[str] = []

        async def on_update(track: Any) -> None:
            await anyio.sleep(0.1)
            updates.append(track.status)

        async def watch() -> None:
            states = client.watch(accepted.id)
            seen.extend([state.status async for state in states])

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await client.wait_for_completion(accepted, on_update=on_update)
        assert updates == ["processing", "completed"]
        assert seen == ["pending", "processing", "completed"]


async def test_on_update_may_be_a_plain_function() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0)
        updates: list[str] = []
        await client.wait_for_completion(
            "a", on_update=lambda t: updates.append(t.status)
        )
        assert updates == ["processing", "completed"]


@pytest.mark.parametrize("name", ["on_update", "on_submitted"])
async def test_a_callback_that_is_not_callable_is_refused_before_anything_is_sent(
    name: str,
) -> None:
    wrong: dict[str, Any] = {name: "print"}
    async with emulated() as (emulator, client):
        with pytest.raises(InvalidRequestError, match=name):
            await client.generate("x", **wrong)
        with pytest.raises(InvalidRequestError, match=name):
            client.generate_many([], **wrong)
        if name == "on_update":
            with pytest.raises(InvalidRequestError, match=name):
                await client.wait_for_completion("a", **wrong)
        else:
            with pytest.raises(InvalidRequestError, match=name):
                await client.generations.create("x", **wrong)
        assert emulator.requests == []


@pytest.mark.parametrize("track", [None, 7, "", b"gen_1"])
async def test_waiting_for_something_that_is_not_a_track_is_refused(track: Any) -> None:
    async with scripted_service() as (service, client):
        with pytest.raises(InvalidRequestError, match="generation_or_id"):
            await client.wait_for_completion(track)
        with pytest.raises(InvalidRequestError, match="generation_or_id"):
            await anext(client.watch(track))
        assert service.log == []


async def test_a_callback_that_raises_ends_its_own_wait_only() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0)
        ended: list[str] = []

        def broken(track: Any) -> None:
            raise ZeroDivisionError

        async def other() -> None:
            ended.append((await client.wait_for_completion("a")).status)

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            with pytest.raises(ZeroDivisionError):
                await client.wait_for_completion("a", on_update=broken)
        assert ended == ["completed"]
        assert_nothing_left(client)


@pytest.mark.parametrize("busy", ["watch", "on_update"])
async def test_a_slow_consumer_does_not_delay_other_waits(busy: str) -> None:
    async with scripted_service() as (service, client):
        ends = {f"t{n}": service.add(f"t{n}", 5.0 * n).ends_at for n in range(1, 9)}
        late: list[float] = []

        async def sleep(_: object = None) -> None:
            await anyio.sleep(60)

        async def slow() -> None:
            if busy == "on_update":
                await client.wait_for_completion("t1", on_update=sleep)
                return
            async for _ in client.watch("t1"):
                await sleep()

        async def quick(track_id: str) -> None:
            await client.wait_for_completion(track_id)
            late.append(anyio.current_time() - ends[track_id])

        async with anyio.create_task_group() as group:
            group.start_soon(slow)
            for track_id in ends:
                group.start_soon(quick, track_id)
        assert max(late) < 2.0
        assert_nothing_left(client)


async def test_a_callback_that_never_returns_does_not_delay_other_waits() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0)

        async def forever(_: object) -> None:
            await anyio.sleep_forever()

        async def stuck() -> None:
            await client.wait_for_completion("a", on_update=forever)

        async with anyio.create_task_group() as group:
            group.start_soon(stuck)
            await anyio.sleep(1)
            assert (await client.wait_for_completion("a")).status == "completed"
            group.cancel_scope.cancel()
        assert_nothing_left(client)


async def test_a_slow_consumer_misses_states_in_between_but_not_the_last() -> None:
    async with scripted_service() as (service, client):
        track = service.add("a", 40.0, running="pending")
        seen: list[str] = []

        async def drive() -> None:
            await client.wait_for_completion("a")

        async with anyio.create_task_group() as group:
            group.start_soon(drive)
            async for state in client.watch("a"):
                seen.append(state.status)
                if state.status == "pending":
                    await anyio.sleep(10)
                    track.running = "processing"
                    await anyio.sleep(40)
        assert seen == ["pending", "completed"]


async def test_a_status_that_changed_and_changed_back_is_not_reported() -> None:
    async with scripted_service() as (service, client):
        track = service.add("a", 60.0)
        seen: list[str] = []

        async def drive() -> None:
            await client.wait_for_completion("a")

        async with anyio.create_task_group() as group:
            group.start_soon(drive)
            async for state in client.watch("a"):
                seen.append(state.status)
                if len(seen) == 1:
                    await anyio.sleep(5)
                    track.running = "polishing"
                    await anyio.sleep(5)
                    track.running = "processing"
                    await anyio.sleep(5)
        assert seen == ["processing", "completed"]


async def test_an_unknown_status_is_not_final() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0, running="polishing")
        states = [state.status async for state in client.watch("a")]
        assert states == ["polishing", "completed"]


async def test_a_wait_timeout_carries_the_last_state() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 500.0)
        with pytest.raises(WaitTimeoutError) as caught:
            await client.wait_for_completion("a", timeout=30)
        assert anyio.current_time() == pytest.approx(30.0, abs=0.3)
        error = caught.value
        assert error.generation is not None
        assert error.generation.status == "processing"
        assert error.generation_id == "a"
        assert error.safe_to_retry
        assert "5 minutes" not in str(error)
        assert_nothing_left(client)


async def test_long_processing_is_reported_with_the_advice_of_the_service() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 5000.0)
        with pytest.raises(WaitTimeoutError, match="More than 5 minutes in processing"):
            await client.wait_for_completion("a", timeout=301)


async def test_the_advice_counts_the_time_of_earlier_waits() -> None:
    async with emulated(Emulator(generation_time=(900.0, 900.0))) as (_, client):
        track = await client.generations.create("x")
        for part in (1, 2):
            with pytest.raises(WaitTimeoutError) as caught:
                await client.wait_for_completion(track.id, timeout=160)
            assert ("contact its support" in str(caught.value)) == (part == 2)


async def test_an_error_that_ends_all_waits_names_the_track_of_each() -> None:
    async with scripted_service() as (service, client):
        ids = {service.add(f"t{n}", 500.0).id for n in range(3)}
        named: set[str | None] = set()

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            return refusal(401, "INVALID_API_KEY")

        async def wait(track_id: str) -> None:
            with pytest.raises(AuthenticationError) as caught:
                await client.wait_for_completion(track_id)
            named.add(caught.value.generation_id)

        service.intercept = intercept
        async with anyio.create_task_group() as group:
            for track_id in ids:
                group.start_soon(wait, track_id)
        assert named == ids


async def test_a_wait_can_be_continued_by_its_id() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 50.0)
        with pytest.raises(WaitTimeoutError) as caught:
            await client.wait_for_completion("a", timeout=5)
    async with scripted_service() as (elsewhere, another):
        elsewhere.tracks = service.tracks
        done = await another.wait_for_completion(str(caught.value.generation_id))
        assert done.status == "completed"


async def test_there_is_one_last_look_at_the_deadline() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 29.4)
        done = await client.wait_for_completion("a", timeout=30)
        assert done.status == "completed"
        assert anyio.current_time() <= 30.2


async def test_a_timeout_of_zero_is_one_look() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 50.0)
        with pytest.raises(WaitTimeoutError) as caught:
            await client.wait_for_completion("a", timeout=0)
        assert caught.value.generation is not None
        await anyio.sleep(60)
        assert (await client.wait_for_completion("a", timeout=0)).is_final
        assert len(service.log) == 2
        assert anyio.current_time() == pytest.approx(60.2, abs=0.001)


@pytest.mark.parametrize("apart", [True, False])
async def test_a_timeout_of_zero_is_one_look_for_each_of_many(apart: bool) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 5.0).id for n in range(12)]
        await anyio.sleep(100)
        seen: list[str] = []

        async def wait(track_id: str) -> None:
            state = await client.wait_for_completion(track_id, timeout=0)
            seen.append(state.status)

        if apart:
            for track_id in ids:
                await wait(track_id)
        else:
            async with anyio.create_task_group() as group:
                for track_id in ids:
                    group.start_soon(wait, track_id)
        assert seen == ["completed"] * 12
        assert len(service.log) == (12 if apart else 1)


async def test_a_timeout_of_none_is_no_limit() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 1000.0)
        done = await client.wait_for_completion("a", timeout=None)
        assert done.is_final


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon", True])
async def test_an_invalid_timeout_is_refused(timeout: Any) -> None:
    async with scripted_service() as (_, client):
        with pytest.raises(InvalidRequestError, match="timeout"):
            await client.wait_for_completion("a", timeout=timeout)


@pytest.mark.parametrize("track_id", ["", " ", ".", "..", "\n"])
async def test_an_invalid_id_is_refused(track_id: str) -> None:
    async with scripted_service() as (service, client):
        with pytest.raises(InvalidRequestError, match="generation_or_id"):
            await client.wait_for_completion(track_id)
        assert service.log == []


async def test_a_sound_effect_is_read_at_its_own_endpoint() -> None:
    async with scripted_service() as (service, client):

        async def effect(request: httpx.Request) -> httpx.Response:
            assert request.url.path == "/v1/sound-effects/fx"
            done = anyio.current_time() > 10
            return reply({"id": "fx", "status": "completed" if done else "processing"})

        service.intercept = effect
        done = await client.wait_for_completion(SoundEffect(id="fx", status="pending"))
        assert isinstance(done, SoundEffect)
        assert done.is_final


@pytest.mark.parametrize("timeout", [0, 300.0])
async def test_the_id_of_a_sound_effect_is_enough_to_wait_for_it(
    timeout: float,
) -> None:
    async with emulated() as (emulator, client):
        effect = await client.sound_effects.create("a door")
        await client.wait_for_completion(effect)
        before = len(emulator.requests)
        done = await client.wait_for_completion(effect.id, timeout=timeout)
        assert isinstance(done, SoundEffect)
        assert done.is_final
        assert (
            len(emulator.requests) == before + 2
        )  # one for a track by this id, one for an effect
        with pytest.raises(NotFoundError if timeout else WaitTimeoutError):
            await client.wait_for_completion("nothing", timeout=timeout)
        assert_nothing_left(client)


async def test_a_watch_closed_half_way_leaves_nothing_behind() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 50.0)
        states = client.watch("a")
        assert (await anext(states)).status == "processing"
        await states.aclose()
        assert_nothing_left(client)
        reads = len(service.log)
        await anyio.sleep(100)
        assert len(service.log) == reads


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
async def test_a_watch_that_is_garbage_collected_leaves_nothing_behind() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 50.0)
        states = client.watch("a")
        await anext(states)
        del states
        gc.collect()
        await anyio.sleep(1)
        assert_nothing_left(client)


async def test_a_watch_that_was_never_started_leaves_nothing_behind() -> None:
    async with scripted_service() as (service, client):
        client.watch("a")
        assert_nothing_left(client)
        assert service.log == []


async def test_closing_the_client_ends_its_waits_at_once() -> None:
    async with scripted_service() as (service, client):
        for name in "abc":
            service.add(name, 500.0)
        ended: list[tuple[str | None, float]] = []

        async def wait(name: str) -> None:
            with pytest.raises(ClientClosedError) as caught:
                await client.wait_for_completion(name)
            ended.append((caught.value.generation_id, anyio.current_time()))

        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(wait, name)
            await anyio.sleep(0.7)  # the driver sleeps until its next read
            await client.aclose()
        assert sorted(name or "" for name, _ in ended) == ["a", "b", "c"]
        assert [at for _, at in ended] == [pytest.approx(0.7, abs=0.001)] * 3
        assert_nothing_left(client)


async def test_a_closed_client_refuses_to_watch_and_wait() -> None:
    async with scripted_service() as (service, client):
        await client.aclose()
        with pytest.raises(ClientClosedError):
            client.watch("a")
        with pytest.raises(ClientClosedError):
            await client.wait_for_completion("a")
        assert service.log == []
