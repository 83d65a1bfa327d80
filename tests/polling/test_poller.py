"""The poll loop's reads: which it makes, when, and what it makes of the answers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    NotFoundError,
    PermissionDeniedError,
    RateLimit,
    RateLimits,
    WaitTimeoutError,
)
from finetuning_async._pacing._in_flight import TrackInProgress
from finetuning_async._polling._watch_list import OVERTIME, Waiter
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated
from tests._scripted_service import (
    assert_nothing_left,
    open_studio,
    poller_of,
    refusal,
    reply,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async import AsyncClient

KEY = "ft_live_" + "7" * 32
FIRST_PAGE = "/v1/generations?limit=99&offset=0"
COMPLETED = f"{FIRST_PAGE}&status=completed"


async def wait_for_all(client: AsyncClient, *ids: str, **options: Any) -> list[Any]:
    """Wait for several at once; the states, or the errors, in the order of the ids."""
    ends: dict[str, Any] = {}

    async def one(track_id: str) -> None:
        try:
            ends[track_id] = await client.wait_for_completion(track_id, **options)
        except Exception as error:
            ends[track_id] = error

    async with anyio.create_task_group() as group:
        for track_id in ids:
            group.start_soon(one, track_id)
    return [ends[track_id] for track_id in ids]


async def test_one_track_is_read_by_its_own_get() -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 20.0)
        await client.wait_for_completion("a")
        assert not studio.pages
        assert set(studio.singles) == {"a"}


async def test_many_waiters_of_one_track_share_each_read() -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 20.0)
        states = await wait_for_all(client, *["a"] * 50)
        assert {state.status for state in states} == {"completed"}
        assert not studio.pages
        assert len(studio.singles) < 17


async def test_several_tracks_are_read_by_one_page() -> None:
    async with open_studio() as (studio, client):
        ids = [studio.add(f"t{n}", 20.0).id for n in range(50)]
        await wait_for_all(client, *ids)
        assert len(studio.singles) <= 1  # the first to ask is alone
        assert set(studio.pages) == {"/v1/generations?limit=99&offset=0"}
        assert len(studio.pages) < 17


async def test_a_row_deeper_than_a_page_gets_its_own_get() -> None:
    async with open_studio() as (studio, client):
        studio.add("deep", 20.0)
        for n in range(150):
            studio.add(f"old{n}", 0.0)
        for n in range(5):
            studio.add(f"t{n}", 20.0)
        states = await wait_for_all(client, "deep", *[f"t{n}" for n in range(5)])
        assert {state.status for state in states} == {"completed"}
        assert "deep" in studio.singles
        assert set(studio.pages) <= {FIRST_PAGE, COMPLETED}
        assert studio.pages.count(COMPLETED) <= 1  # it does not reach so far back


async def test_many_rows_on_the_second_page_are_read_by_that_page() -> None:
    async with open_studio() as (studio, client):
        ids = [studio.add(f"t{n}", 30.0).id for n in range(150)]
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert len(studio.singles) <= 2
        assert len(studio.pages) < 24


async def test_a_row_that_is_missing_from_the_list_gets_its_own_get() -> None:
    async with open_studio() as (studio, client):
        studio.add("hidden", 20.0, is_listed=False)
        ids = ["hidden", *[studio.add(f"t{n}", 20.0).id for n in range(5)]]
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert "hidden" in studio.singles


async def test_rows_shifted_by_new_tracks_are_found() -> None:
    async with open_studio() as (studio, client):
        ids = [studio.add(f"t{n}", 60.0).id for n in range(20)]

        async def others() -> None:
            for n in range(200):
                studio.add(f"new{n}", 1.0)
                await anyio.sleep(0.25)

        async with anyio.create_task_group() as group:
            group.start_soon(others)
            states = await wait_for_all(client, *ids)
            assert anyio.current_time() < 60.0 + 5.0
        assert {state.status for state in states} == {"completed"}


async def test_no_track_is_read_twice_in_one_sweep() -> None:
    async with open_studio() as (studio, client):
        ids = [studio.add(f"t{n}", 60.0).id for n in range(30)]
        hidden = [studio.add(f"h{n}", 60.0, is_listed=False).id for n in range(5)]
        with anyio.move_on_after(30):
            await wait_for_all(client, *ids, *hidden)
        rounds = max(Counter(studio.singles).values())
        assert abs(len(studio.pages) - rounds) <= 1
        assert all(abs(studio.singles.count(name) - rounds) <= 1 for name in hidden)


async def test_a_failed_row_gets_one_get_for_its_message() -> None:
    async with open_studio() as (studio, client):
        for n in range(5):
            studio.add(f"t{n}", 20.0, end="failed")
        states = await wait_for_all(client, *[f"t{n}" for n in range(5)])
        assert {state.error_message for state in states} == {"out of time"}
        reads = Counter(path for at, path in studio.log if at > 20 and "?" not in path)
        assert set(reads.values()) == {1}
        assert len(reads) == 5


async def test_a_failed_row_whose_get_fails_is_told_as_it_is() -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 20.0, end="failed")
        studio.add("b", 40.0)

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            is_single = "limit" not in request.url.params
            gone = anyio.current_time() > 20 and is_single
            return refusal(503, "INTERNAL_ERROR") if gone else None

        studio.meddle = meddle
        with anyio.move_on_after(30):
            a, _ = await wait_for_all(client, "a", "b", timeout=27)
        assert (a.status, a.error_message) == ("failed", None)


async def test_a_stranger_s_row_says_nothing() -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 20.0)
        for n in range(3):
            studio.add(f"other{n}", 5.0, end="failed")
        await client.wait_for_completion("a")
        assert set(studio.singles) == {"a"}


FAULTS: dict[str, Callable[[], Awaitable[httpx.Response]]] = {}


def fault(make: Callable[[], Awaitable[httpx.Response]]) -> None:
    FAULTS[make.__name__] = make


@fault
async def rate_limited() -> httpx.Response:
    return refusal(429, "RATE_LIMITED", {"Retry-After": "3"})


@fault
async def broken_service() -> httpx.Response:
    return refusal(500, "INTERNAL_ERROR")


@fault
async def reset() -> httpx.Response:
    raise httpx.ReadError("connection reset by peer")


@fault
async def html() -> httpx.Response:
    return httpx.Response(200, html="<h1>Bad gateway</h1>")


@fault
async def no_object() -> httpx.Response:
    return httpx.Response(200, json=[1, 2])


@fault
async def late() -> httpx.Response:
    await anyio.sleep(20)
    raise httpx.ReadTimeout("no answer within 20 s")


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("count", [1, 5])
async def test_a_passing_failure_ends_no_wait(name: str, count: int) -> None:
    async with open_studio() as (studio, client):
        ids = [studio.add(f"t{n}", 40.0).id for n in range(count)]
        calls = 0

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            nonlocal calls
            calls += 1
            return await FAULTS[name]() if calls % 3 else None

        studio.meddle = meddle
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert_nothing_left(client)


@pytest.mark.parametrize("count", [1, 5])
async def test_an_outage_is_not_amplified(count: int) -> None:
    async with open_studio() as (studio, client):
        ids = [studio.add(f"t{n}", 400.0).id for n in range(count)]

        async def meddle(request: httpx.Request) -> httpx.Response:
            return refusal(503, "INTERNAL_ERROR")

        studio.meddle = meddle
        errors = await wait_for_all(client, *ids, timeout=300)
        assert {type(error) for error in errors} == {WaitTimeoutError}
        assert {error.generation for error in errors} == {None}
        assert anyio.current_time() == pytest.approx(300, abs=OVERTIME)
        assert len(studio.log) < 35


async def test_one_track_that_cannot_be_read_does_not_hide_the_others() -> None:
    async with open_studio() as (studio, client):
        studio.add("poison", 0.0, is_listed=False)
        ids = [studio.add(f"h{n}", 30.0, is_listed=False).id for n in range(3)]

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            if request.url.path.endswith("/poison"):
                return refusal(500, "INTERNAL_ERROR")
            return None

        studio.meddle = meddle
        poison, *states = await wait_for_all(client, "poison", *ids, timeout=90)
        assert isinstance(poison, WaitTimeoutError)
        assert {state.status for state in states} == {"completed"}


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError)]
)
async def test_a_key_that_does_not_hold_ends_all_waits_at_once(
    status: int, kind: type[Exception]
) -> None:
    async with open_studio() as (studio, client):
        ids = [studio.add(f"t{n}", 500.0).id for n in range(5)]

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            revoked = anyio.current_time() > 10
            return refusal(status, "INVALID_API_KEY") if revoked else None

        studio.meddle = meddle
        errors = await wait_for_all(client, *ids)
        assert {type(error) for error in errors} == {kind}
        assert len({id(error) for error in errors}) == 5  # one each: tracebacks grow
        assert anyio.current_time() < 13
        assert_nothing_left(client)


async def test_an_unknown_id_is_not_found() -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 20.0)
        nothing, state = await wait_for_all(client, "nothing", "a")
        assert isinstance(nothing, NotFoundError)
        assert state.status == "completed"
        assert_nothing_left(client)


async def test_a_404_straight_after_the_create_is_given_a_grace() -> None:
    async with open_studio() as (studio, client):
        accepted = await client.generations.create("x")

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            lags = anyio.current_time() < 8
            return refusal(404, "NOT_FOUND") if lags else None

        studio.meddle = meddle
        assert (await client.wait_for_completion(accepted)).status == "completed"


async def test_a_404_after_a_create_of_another_process_is_given_one_too() -> None:
    service = Emulator(latency=(0.1, 0.1), generation_time=(20, 20))
    async with emulated(service) as (emulator, client):
        accepted = await client.generations.create("x")
        emulator.add_key(KEY, emulator.account)
        elsewhere = client.with_options(api_key=KEY)  # it shares nothing but the pool
        emulator.add_fault(Fault("status", status=404, code="NOT_FOUND", times=3))
        done = await elsewhere.wait_for_completion(accepted)
        assert done.status == "completed"


async def test_a_404_of_the_track_and_of_every_list_ends_no_wait_before_its_time() -> (
    None
):
    async with open_studio() as (studio, client):
        accepted = await client.generations.create("x")

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            return refusal(404, "NOT_FOUND")

        studio.meddle = meddle
        with pytest.raises(WaitTimeoutError, match="no such track"):
            await client.wait_for_completion(accepted)
        assert anyio.current_time() == pytest.approx(300, abs=2)


async def test_a_track_that_is_deleted_meanwhile_is_not_found() -> None:
    async with open_studio() as (studio, client):
        accepted = await client.generations.create("x")

        async def delete() -> None:
            await anyio.sleep(5)
            studio.tracks.clear()

        async with anyio.create_task_group() as group:
            group.start_soon(delete)
            with pytest.raises(NotFoundError):
                await client.wait_for_completion(accepted)
        assert 35 < anyio.current_time() < 40


async def test_an_id_that_is_refused_ends_its_own_wait() -> None:
    async with open_studio() as (studio, client):
        ids = [studio.add(f"t{n}", 20.0).id for n in range(3)]

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            bad = request.url.path.endswith("/bad")
            return refusal(400, "VALIDATION_ERROR") if bad else None

        studio.meddle = meddle
        bad, *states = await wait_for_all(client, "bad", *ids)
        assert isinstance(bad, BadRequestError)
        assert {state.status for state in states} == {"completed"}
        assert len(studio.singles) < 4  # the list was not given up for it


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_a_list_that_is_refused_is_done_without(status: int) -> None:
    async with open_studio() as (studio, client):
        ids = [studio.add(f"t{n}", 20.0).id for n in range(4)]

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            is_page = "limit" in request.url.params
            return refusal(status, "INTERNAL_ERROR") if is_page else None

        studio.meddle = meddle
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert len(studio.pages) <= 3


async def test_a_garbled_row_does_not_hide_the_others() -> None:
    async with open_studio() as (studio, client):
        ids = [studio.add(f"t{n}", 30.0).id for n in range(4)]

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            if "limit" in request.url.params:
                return reply({"generations": [{"id": None}, 7], "hasMore": False})
            return None

        studio.meddle = meddle
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}


async def test_a_client_closed_under_the_loop_ends_only_its_own_waits() -> None:
    async with open_studio() as (studio, first):
        studio.add("a", 30.0)
        async with open_studio() as (other, second):
            other.tracks = studio.tracks
            states: list[Any] = []

            async def wait(client: AsyncClient) -> None:
                states.extend(await wait_for_all(client, "a"))

            async with anyio.create_task_group() as group:
                group.start_soon(wait, first)
                await anyio.sleep(0.01)
                group.start_soon(wait, second)
                await anyio.sleep(1)
                first._pool.is_closed = True  # as if in the middle of `aclose`
        assert isinstance(states[0], ClientClosedError)
        assert states[1].status == "completed"


async def test_a_bug_in_the_transport_leaves_nobody_hanging() -> None:
    async with open_studio() as (studio, client):
        ids = [studio.add(f"t{n}", 20.0).id for n in range(3)]
        calls = 0

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            nonlocal calls
            calls += 1
            if calls == 4:
                raise ZeroDivisionError
            return None

        studio.meddle = meddle
        ends = await wait_for_all(client, *ids)
        kinds = [type(end) for end in ends]
        assert kinds.count(ZeroDivisionError) == 1  # whose turn it was to drive
        assert [end.status for end in ends if not isinstance(end, Exception)] == [
            "completed",
            "completed",
        ]
        assert_nothing_left(client)


async def test_notice_brings_a_look_at_once() -> None:
    async with emulated(Emulator(generation_time=(200.0, 200.0))) as (emulator, client):
        await learn(client, 6)
        accepted = await client.generations.create("x", duration=5)
        began = anyio.current_time()
        ends: list[float] = []

        async def wait() -> None:
            await client.wait_for_completion(accepted)
            ends.append(anyio.current_time() - began)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(30)
            emulator.tracks[accepted.id].ends_at = anyio.current_time()
            client.mark_changed(accepted.id)
            client.mark_changed("nobody waits for this one")
        assert ends == [pytest.approx(30.0, abs=0.01)]


async def test_notice_of_a_track_that_goes_on_costs_one_read() -> None:
    async with emulated(Emulator(generation_time=(200.0, 200.0))) as (emulator, client):
        await learn(client, 6)
        accepted = await client.generations.create("x", duration=5)
        async with anyio.create_task_group() as group:
            group.start_soon(client.wait_for_completion, accepted)
            await anyio.sleep(30)
            before = emulator.count(method="GET")
            client.mark_changed(accepted.id)
            await anyio.sleep(120)
            assert emulator.count(method="GET") == before + 1


async def test_notice_during_a_read_is_not_lost() -> None:
    async with emulated(
        Emulator(generation_time=(200.0, 200.0), latency=(2.0, 2.0))
    ) as (emulator, client):
        await learn(client, 6)
        accepted = await client.generations.create("x", duration=5)
        async with anyio.create_task_group() as group:
            group.start_soon(client.wait_for_completion, accepted)
            await anyio.sleep(30)
            client.mark_changed(accepted.id)
            await anyio.sleep(3)  # the answer is on its way back
            ended = anyio.current_time()
            emulator.tracks[accepted.id].ends_at = ended
            client.mark_changed(accepted.id)
        assert anyio.current_time() - ended == pytest.approx(5.0, abs=0.001)


async def learn(client: AsyncClient, count: int) -> None:
    """Let the client see how long tracks take."""
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(lambda: client.generate("x", duration=5))


async def test_no_read_before_a_track_can_be_done_once_times_are_known() -> None:
    async with emulated(Emulator(generation_time=(44.0, 46.0))) as (emulator, client):
        await learn(client, 24)
        before = emulator.count(method="GET")
        for _ in range(10):
            await client.generate("x", duration=5)
        assert (emulator.count(method="GET") - before) / 10 < 5


async def test_the_loop_leaves_the_caller_a_part_of_the_reads() -> None:
    async with emulated(Emulator(queue_size=50)) as (emulator, client):
        async with anyio.create_task_group() as group:
            for n in range(30):
                group.start_soon(lambda n: client.generate(f"song {n}"), n)
        reads = [r.at for r in emulator.requests if r.method == "GET"]
        busiest = max(sum(at <= x < at + 60 for x in reads) for at in reads)
        assert busiest <= 45
        assert emulator.count(status=429) == 0


async def test_a_lower_limit_that_the_service_names_leaves_the_caller_a_part() -> None:
    limits = RateLimits(creates=RateLimit(100), reads=RateLimit(60))
    async with emulated(
        Emulator(queue_size=50, reads_per_minute=20, creates_per_minute=100),
        rate_limits=limits,
    ) as (emulator, client):
        async with anyio.create_task_group() as group:
            for n in range(30):
                group.start_soon(lambda n: client.generate(f"song {n}"), n)
        reads = [r.at for r in emulator.requests if r.method == "GET"]
        assert max(sum(at <= x < at + 60 for x in reads) for at in reads) <= 14 + 3
        assert emulator.count(status=429) == 0


async def test_deadlines_are_kept_while_the_reads_are_spent() -> None:
    limits = RateLimits(reads=RateLimit(5, per=300.0))
    async with open_studio(rate_limits=limits) as (studio, client):
        studio.add("a", 1000.0)
        for _ in range(5):
            await client.generations.get("a")
        over: list[float] = []

        async def wait(timeout: float) -> None:
            with pytest.raises(WaitTimeoutError):
                await client.wait_for_completion("a", timeout=timeout)
            over.append(anyio.current_time() - began - timeout)

        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for timeout in (50.0, 10.0, 30.0, 0.0, 20.0):
                group.start_soon(wait, timeout)
                await anyio.lowlevel.checkpoint()
        assert over == [pytest.approx(0.0, abs=0.001)] * 5
        assert_nothing_left(client)


async def test_deadlines_are_kept_while_a_read_hangs() -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 1000.0)

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            await anyio.sleep(25)
            return None

        studio.meddle = meddle
        over: list[float] = []

        async def wait(timeout: float) -> None:
            with pytest.raises(WaitTimeoutError):
                await client.wait_for_completion("a", timeout=timeout)
            over.append(anyio.current_time() - timeout)

        async with anyio.create_task_group() as group:
            for timeout in (10.0, 10.5, 11.0, 12.0):
                group.start_soon(wait, timeout)
        # One second for the last look; the driver gives its read two more.
        assert max(over) < 3.1
        assert sorted(over)[2] < 1.1


async def test_a_wait_that_joins_a_sleeping_driver_is_served() -> None:
    async with emulated(Emulator(generation_time=(100.0, 100.0))) as (_, client):
        await learn(client, 6)
        accepted = await client.generations.create("x", duration=5)
        old = await client.generations.create("y", duration=5)
        began = anyio.current_time()
        await anyio.sleep(99)
        fresh = await client.generations.create("z", duration=5)
        ends: list[float] = []

        async def wait(track_id: str) -> None:
            await client.wait_for_completion(track_id)
            ends.append(anyio.current_time() - began)

        async with anyio.create_task_group() as group:
            group.start_soon(wait, fresh.id)  # sleeps for about 100 s
            await anyio.sleep(5)
            group.start_soon(wait, accepted.id)
            group.start_soon(wait, old.id)
        assert sorted(ends)[1] < 110


async def test_parked_creates_drive_the_loop_and_go_out_when_a_track_ends() -> None:
    async with emulated(Emulator(queue_size=2, generation_time=(30.0, 30.0))) as (
        emulator,
        client,
    ):
        async with anyio.create_task_group() as group:
            for n in range(6):
                group.start_soon(lambda n: client.generations.create(f"song {n}"), n)
        assert len(emulator.tracks) == 6
        assert anyio.current_time() < 70
        assert_nothing_left(client)


async def test_a_parked_create_sees_a_track_end_that_was_accepted_after_it() -> None:
    async with open_studio() as (studio, client):
        account = client._session().account
        poller = account.poller
        for seconds in (20.0, 100.0):
            for _ in range(4):
                poller._news._outlook.learn(
                    "music", seconds, shortest=seconds, longest=seconds
                )

        def accept(track_id: str, seconds: float) -> None:
            studio.add(track_id, seconds)
            now = anyio.current_time()
            entry = TrackInProgress(kind="music", accepted_at=now, duration=seconds)
            account.inflight.on_accepted(track_id, entry)

        parked = Waiter(client._session().pipeline)

        async def park() -> None:
            poller.watch_all()
            while "short" not in account.inflight.tracks:
                poller.set_alarm(parked, float("inf"))
                await poller.wait(parked)
                parked.ready = False
            poller.set_alarm(parked, float("inf"))
            with anyio.move_on_after(50):
                await poller.wait(parked)
            poller.unwatch_all(parked)

        async with anyio.create_task_group() as group:
            accept("long", 100.0)
            group.start_soon(client.wait_for_completion, "long")
            await anyio.sleep(1)  # it drives, and sleeps until about 99 s
            group.start_soon(park)
            await anyio.sleep(1)
            accept("short", 20.0)
            parked.make_ready()
            await anyio.sleep(23)
            assert set(account.inflight.tracks) == {"long"}


async def test_a_track_that_nobody_needs_any_more_is_not_read_for_parked_creates() -> (
    None
):
    async with open_studio() as (studio, client):
        studio.add("foreign", 1000.0)
        poller = poller_of(client)
        poller.watch_all()
        with anyio.move_on_after(5):
            await client.wait_for_completion("foreign")
        assert len(poller._list) == 0


async def test_waits_go_on_through_faults_of_every_kind() -> None:
    async with emulated(
        Emulator(latency=(0.02, 0.2), queue_size=20, failure_rate=0.2)
    ) as (emulator, client):
        for action in ("html", "truncated_json", "empty", "lost_after_commit"):
            emulator.add_fault(
                Fault(action, method="GET", times=None, probability=0.05)
            )
        emulator.add_fault(Fault("status", method="GET", times=None, probability=0.1))
        accepted = [(await client.generations.create(f"s {n}")).id for n in range(20)]
        states = await wait_for_all(client, *accepted, timeout=None)
        assert {state.is_final for state in states} == {True}
        assert_nothing_left(client)
