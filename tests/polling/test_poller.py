"""The reads of the poll loop: which are sent, when, and what they lead to."""

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
from finetuning_async._polling._waiters import OVERTIME, Waiter
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated
from tests._scripted_service import (
    assert_nothing_left,
    poller_of,
    refusal,
    reply,
    scripted_service,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async import AsyncClient

pytestmark = pytest.mark.sampled(2)

KEY = "ft_live_" + "7" * 32
FIRST_PAGE = "/v1/generations?limit=99&offset=0"
COMPLETED = f"{FIRST_PAGE}&status=completed"


async def wait_for_all(client: AsyncClient, *ids: str, **options: Any) -> list[Any]:
    """Wait for several at once; return states or errors, in the order of the ids."""
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
    async with scripted_service() as (service, client):
        service.add("a", 20.0)
        await client.wait_for_completion("a")
        assert not service.pages
        assert set(service.singles) == {"a"}


async def test_many_waiters_of_one_track_share_each_read() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0)
        states = await wait_for_all(client, *["a"] * 50)
        assert {state.status for state in states} == {"completed"}
        assert not service.pages
        assert len(service.singles) < 17


async def test_several_tracks_are_read_by_one_page() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 20.0).id for n in range(50)]
        await wait_for_all(client, *ids)
        assert len(service.singles) <= 1  # the first one waits alone
        assert set(service.pages) == {"/v1/generations?limit=99&offset=0"}
        assert len(service.pages) < 17


async def test_a_row_beyond_the_first_page_gets_its_own_get() -> None:
    async with scripted_service() as (service, client):
        service.add("deep", 20.0)
        for n in range(150):
            service.add(f"old{n}", 0.0)
        for n in range(5):
            service.add(f"t{n}", 20.0)
        states = await wait_for_all(client, "deep", *[f"t{n}" for n in range(5)])
        assert {state.status for state in states} == {"completed"}
        assert "deep" in service.singles
        assert set(service.pages) <= {FIRST_PAGE, COMPLETED}
        assert service.pages.count(COMPLETED) <= 1  # it does not go back so far


async def test_many_rows_on_the_second_page_are_read_by_that_page() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 30.0).id for n in range(150)]
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert len(service.singles) <= 2
        assert len(service.pages) < 24


async def test_a_row_that_is_missing_from_the_list_gets_its_own_get() -> None:
    async with scripted_service() as (service, client):
        service.add("hidden", 20.0, is_listed=False)
        ids = ["hidden", *[service.add(f"t{n}", 20.0).id for n in range(5)]]
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert "hidden" in service.singles


async def test_rows_shifted_by_new_tracks_are_found() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 60.0).id for n in range(20)]

        async def others() -> None:
            for n in range(200):
                service.add(f"new{n}", 1.0)
                await anyio.sleep(0.25)

        async with anyio.create_task_group() as group:
            group.start_soon(others)
            states = await wait_for_all(client, *ids)
            assert anyio.current_time() < 60.0 + 5.0
        assert {state.status for state in states} == {"completed"}


async def test_no_track_is_read_twice_in_one_round() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 60.0).id for n in range(30)]
        hidden = [service.add(f"h{n}", 60.0, is_listed=False).id for n in range(5)]
        with anyio.move_on_after(30):
            await wait_for_all(client, *ids, *hidden)
        rounds = max(Counter(service.singles).values())
        assert abs(len(service.pages) - rounds) <= 1
        assert all(abs(service.singles.count(name) - rounds) <= 1 for name in hidden)


async def test_a_failed_row_gets_one_get_for_its_message() -> None:
    async with scripted_service() as (service, client):
        for n in range(5):
            service.add(f"t{n}", 20.0, end="failed")
        states = await wait_for_all(client, *[f"t{n}" for n in range(5)])
        assert {state.error_message for state in states} == {"out of time"}
        reads = Counter(path for at, path in service.log if at > 20 and "?" not in path)
        assert set(reads.values()) == {1}
        assert len(reads) == 5


async def test_a_failed_row_whose_get_fails_is_delivered_as_it_is() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0, end="failed")
        service.add("b", 40.0)

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            is_single = "limit" not in request.url.params
            is_down = anyio.current_time() > 20 and is_single
            return refusal(503, "INTERNAL_ERROR") if is_down else None

        service.intercept = intercept
        with anyio.move_on_after(30):
            a, _ = await wait_for_all(client, "a", "b", timeout=27)
        assert (a.status, a.error_message) == ("failed", None)


async def test_a_row_of_a_foreign_track_is_ignored() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0)
        for n in range(3):
            service.add(f"other{n}", 5.0, end="failed")
        await client.wait_for_completion("a")
        assert set(service.singles) == {"a"}


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
    raise httpx.ReadTimeout("no response within 20 s")


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("count", [1, 5])
async def test_a_passing_failure_ends_no_wait(name: str, count: int) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 40.0).id for n in range(count)]
        calls = 0

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            nonlocal calls
            calls += 1
            return await FAULTS[name]() if calls % 3 else None

        service.intercept = intercept
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert_nothing_left(client)


@pytest.mark.parametrize("count", [1, 5])
async def test_an_outage_is_not_amplified(count: int) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 400.0).id for n in range(count)]

        async def intercept(request: httpx.Request) -> httpx.Response:
            return refusal(503, "INTERNAL_ERROR")

        service.intercept = intercept
        errors = await wait_for_all(client, *ids, timeout=300)
        assert {type(error) for error in errors} == {WaitTimeoutError}
        assert {error.generation for error in errors} == {None}
        assert anyio.current_time() == pytest.approx(300, abs=OVERTIME)
        assert len(service.log) < 35


async def test_one_track_that_cannot_be_read_does_not_hide_the_others() -> None:
    async with scripted_service() as (service, client):
        service.add("poison", 0.0, is_listed=False)
        ids = [service.add(f"h{n}", 30.0, is_listed=False).id for n in range(3)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            if request.url.path.endswith("/poison"):
                return refusal(500, "INTERNAL_ERROR")
            return None

        service.intercept = intercept
        poison, *states = await wait_for_all(client, "poison", *ids, timeout=90)
        assert isinstance(poison, WaitTimeoutError)
        assert {state.status for state in states} == {"completed"}


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError)]
)
async def test_an_invalid_key_ends_all_waits_at_once(
    status: int, kind: type[Exception]
) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 500.0).id for n in range(5)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            revoked = anyio.current_time() > 10
            return refusal(status, "INVALID_API_KEY") if revoked else None

        service.intercept = intercept
        errors = await wait_for_all(client, *ids)
        assert {type(error) for error in errors} == {kind}
        assert (
            len({id(error) for error in errors}) == 5
        )  # a copy each, since tracebacks grow
        assert anyio.current_time() < 13
        assert_nothing_left(client)


async def test_an_unknown_id_is_not_found() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0)
        nothing, state = await wait_for_all(client, "nothing", "a")
        assert isinstance(nothing, NotFoundError)
        assert state.status == "completed"
        assert_nothing_left(client)


async def test_a_404_right_after_the_create_ends_nothing() -> None:
    async with scripted_service() as (service, client):
        accepted = await client.generations.create("x")

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            lags = anyio.current_time() < 8
            return refusal(404, "NOT_FOUND") if lags else None

        service.intercept = intercept
        assert (await client.wait_for_completion(accepted)).status == "completed"


async def test_a_404_right_after_a_create_of_another_process_ends_nothing() -> None:
    service = Emulator(latency=(0.1, 0.1), generation_time=(20, 20))
    async with emulated(service) as (emulator, client):
        accepted = await client.generations.create("x")
        emulator.add_key(KEY, emulator.account)
        elsewhere = client.with_options(api_key=KEY)  # it shares only the pool
        emulator.add_fault(Fault("status", status=404, code="NOT_FOUND", times=3))
        done = await elsewhere.wait_for_completion(accepted)
        assert done.status == "completed"


async def test_a_404_of_the_track_and_of_every_list_ends_no_wait_early() -> None:
    async with scripted_service() as (service, client):
        accepted = await client.generations.create("x")

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            return refusal(404, "NOT_FOUND")

        service.intercept = intercept
        with pytest.raises(WaitTimeoutError, match="no such track"):
            await client.wait_for_completion(accepted)
        assert anyio.current_time() == pytest.approx(300, abs=2)


async def test_a_track_that_is_deleted_meanwhile_is_not_found() -> None:
    async with scripted_service() as (service, client):
        accepted = await client.generations.create("x")

        async def delete() -> None:
            await anyio.sleep(5)
            service.tracks.clear()

        async with anyio.create_task_group() as group:
            group.start_soon(delete)
            with pytest.raises(NotFoundError):
                await client.wait_for_completion(accepted)
        assert 35 < anyio.current_time() < 40


async def test_an_id_that_is_refused_ends_its_own_wait() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 20.0).id for n in range(3)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            bad = request.url.path.endswith("/bad")
            return refusal(400, "VALIDATION_ERROR") if bad else None

        service.intercept = intercept
        bad, *states = await wait_for_all(client, "bad", *ids)
        assert isinstance(bad, BadRequestError)
        assert {state.status for state in states} == {"completed"}
        assert len(service.singles) < 4  # the list was not abandoned for it


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_a_refused_list_is_replaced_by_gets(status: int) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 20.0).id for n in range(4)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            is_page = "limit" in request.url.params
            return refusal(status, "INTERNAL_ERROR") if is_page else None

        service.intercept = intercept
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert len(service.pages) <= 3


async def test_an_invalid_row_does_not_hide_the_others() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 30.0).id for n in range(4)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            if "limit" in request.url.params:
                return reply({"generations": [{"id": None}, 7], "hasMore": False})
            return None

        service.intercept = intercept
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}


async def test_closing_a_client_ends_only_its_own_waits() -> None:
    async with scripted_service() as (service, first):
        service.add("a", 30.0)
        async with scripted_service() as (other, second):
            other.tracks = service.tracks
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


async def test_a_bug_in_the_transport_leaves_no_waiter_hanging() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 20.0).id for n in range(3)]
        calls = 0

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            nonlocal calls
            calls += 1
            if calls == 4:
                raise ZeroDivisionError
            return None

        service.intercept = intercept
        ends = await wait_for_all(client, *ids)
        kinds = [type(end) for end in ends]
        assert kinds.count(ZeroDivisionError) == 1  # the driver at that time
        assert [end.status for end in ends if not isinstance(end, Exception)] == [
            "completed",
            "completed",
        ]
        assert_nothing_left(client)


async def test_mark_changed_brings_a_look_at_once() -> None:
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
            client.mark_changed("a track without a watcher")
        assert ends == [pytest.approx(30.0, abs=0.01)]


async def test_mark_changed_of_a_running_track_costs_one_read() -> None:
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


async def test_mark_changed_during_a_read_is_not_lost() -> None:
    async with emulated(
        Emulator(generation_time=(200.0, 200.0), latency=(2.0, 2.0))
    ) as (emulator, client):
        await learn(client, 6)
        accepted = await client.generations.create("x", duration=5)
        async with anyio.create_task_group() as group:
            group.start_soon(client.wait_for_completion, accepted)
            await anyio.sleep(30)
            client.mark_changed(accepted.id)
            await anyio.sleep(3)  # the response is on its way back
            ended = anyio.current_time()
            emulator.tracks[accepted.id].ends_at = ended
            client.mark_changed(accepted.id)
        assert anyio.current_time() - ended == pytest.approx(5.0, abs=0.001)


async def learn(client: AsyncClient, count: int) -> None:
    """Let the client learn how long tracks take."""
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(lambda: client.generate("x", duration=5))


async def test_once_durations_are_known_no_read_comes_before_a_track_can_be_done() -> (
    None
):
    async with emulated(Emulator(generation_time=(44.0, 46.0))) as (emulator, client):
        await learn(client, 24)
        before = emulator.count(method="GET")
        for _ in range(10):
            await client.generate("x", duration=5)
        assert (emulator.count(method="GET") - before) / 10 < 5


async def test_the_loop_leaves_reads_to_the_caller() -> None:
    async with emulated(Emulator(queue_size=50)) as (emulator, client):
        async with anyio.create_task_group() as group:
            for n in range(30):
                group.start_soon(lambda n: client.generate(f"song {n}"), n)
        reads = [r.at for r in emulator.requests if r.method == "GET"]
        busiest = max(sum(at <= x < at + 60 for x in reads) for at in reads)
        assert busiest <= 45
        assert emulator.count(status=429) == 0


async def test_the_loop_leaves_reads_to_the_caller_under_a_lower_limit() -> None:
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


async def test_deadlines_are_kept_while_the_reads_are_used_up() -> None:
    limits = RateLimits(reads=RateLimit(5, per=300.0))
    async with scripted_service(rate_limits=limits) as (service, client):
        service.add("a", 1000.0)
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
    async with scripted_service() as (service, client):
        service.add("a", 1000.0)

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            await anyio.sleep(25)
            return None

        service.intercept = intercept
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


async def test_queued_creates_drive_the_loop_and_are_sent_when_a_track_ends() -> None:
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


async def test_a_queued_create_sees_the_end_of_a_track_accepted_after_it() -> None:
    async with scripted_service() as (service, client):
        account = client._session().account
        poller = account.poller
        for seconds in (20.0, 100.0):
            for _ in range(4):
                poller._dispatcher._estimator.learn(
                    "music", seconds, shortest=seconds, longest=seconds
                )

        def accept(track_id: str, seconds: float) -> None:
            service.add(track_id, seconds)
            now = anyio.current_time()
            entry = TrackInProgress(kind="music", accepted_at=now, duration=seconds)
            account.inflight.on_accepted(track_id, entry)

        queued = Waiter(client._session().pipeline)

        async def wait_for_slot() -> None:
            poller.watch_all()
            while "short" not in account.inflight.tracks:
                poller.set_deadline(queued, float("inf"))
                await poller.wait(queued)
                queued.ready = False
            poller.set_deadline(queued, float("inf"))
            with anyio.move_on_after(50):
                await poller.wait(queued)
            poller.unwatch_all()

        async with anyio.create_task_group() as group:
            accept("long", 100.0)
            group.start_soon(client.wait_for_completion, "long")
            await anyio.sleep(1)  # it drives, and sleeps until about 99 s
            group.start_soon(wait_for_slot)
            await anyio.sleep(1)
            accept("short", 20.0)
            queued.make_ready()
            await anyio.sleep(23)
            assert set(account.inflight.tracks) == {"long"}


async def test_a_track_that_is_not_needed_any_more_is_not_read_for_queued_creates() -> (
    None
):
    async with scripted_service() as (service, client):
        service.add("foreign", 1000.0)
        poller = poller_of(client)
        poller.watch_all()
        with anyio.move_on_after(5):
            await client.wait_for_completion("foreign")
        assert len(poller._watch_list) == 0


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
