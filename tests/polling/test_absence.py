"""A 404 ends a wait only after three rounds of ``GET`` and the whole list."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import Generation, NotFoundError, Page, WaitTimeoutError
from finetuning_async._polling._absence import ROUND_INTERVAL, Absence, Sweeps
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated
from tests._scripted_service import (
    assert_nothing_left,
    refusal,
    reply,
    scripted_service,
)

if TYPE_CHECKING:
    from tests._scripted_service import ScriptedService

pytestmark = pytest.mark.sampled(2)

GET, LIST = ("get", "generations"), ("list", "generations")


def page(*ids: str, more: bool | None = False) -> Page[Any]:
    rows = tuple(Generation(id=track_id, status="processing") for track_id in ids)
    raw = {} if more is None else {"hasMore": more}
    return Page(items=rows, has_more=bool(more), next_offset=0, raw=raw)


def test_three_rounds_of_get_and_list_over_30_s_are_proof() -> None:
    absence = Absence(100.0, ["generations"])
    for number, at in enumerate((100.0, 115.0, 130.0)):
        absence.on_404("generations", at)
        assert list(absence.steps) == [LIST]
        assert not absence.is_proved
        absence.not_listed("generations")
        assert absence.rounds == number + 1
        absence.begin_round(at)
    assert absence.is_proved


def test_between_rounds_only_the_get_is_repeated() -> None:
    absence = Absence(0.0, ["generations"])
    absence.on_404("generations", 0.0)
    absence.not_listed("generations")
    assert absence.begin_round(0.1) == pytest.approx(5.1)
    absence.on_404("generations", 5.1)
    assert not absence.steps
    assert absence.begin_round(12.0) == ROUND_INTERVAL
    assert absence.rounds == 1


def test_a_round_without_a_usable_list_does_not_count() -> None:
    absence = Absence(0.0, ["generations"])
    for number in range(20):
        absence.on_404("generations", 15.0 * number)
        absence.abandon_round()
        absence.begin_round(15.0 * number)
    assert absence.rounds == 0


def test_a_list_is_whole_once_a_page_says_that_it_is_the_last() -> None:
    sweeps = Sweeps()
    assert (
        sweeps.add_page("generations", 0, page("a", "b", more=True), 1.0)[0] == "more"
    )
    assert sweeps.next_offset("generations") == 2
    again = page("a", "b", more=True)
    assert sweeps.add_page("generations", 0, again, 1.5)[0] == "more", "another's"
    assert sweeps.next_offset("generations") == 2
    assert sweeps.add_page("generations", 99, page("x"), 2.0)[0] == "more", "another's"
    assert sweeps.add_page("generations", 2, page("c"), 3.0) == ("whole", 1.0)
    assert sweeps.next_offset("generations") == 0


@pytest.mark.parametrize("more", [True, None])
def test_a_list_that_repeats_or_never_ends_is_not_whole(
    more: bool | None,
) -> None:
    sweeps = Sweeps()
    assert sweeps.add_page("generations", 0, page("a", more=more), 1.0)[0] == "more"
    assert sweeps.add_page("generations", 1, page("a", more=more), 2.0)[0] == "unusable"
    assert sweeps.next_offset("generations") == 0


async def lag(service: ScriptedService, *spans: tuple[float, float]) -> None:
    """Let the ``GET`` of one track respond 404 within these spans."""

    async def intercept(request: httpx.Request) -> httpx.Response | None:
        now = anyio.current_time()
        is_get = "limit" not in request.url.params
        lags = any(begin <= now < end for begin, end in spans)
        return refusal(404, "NOT_FOUND") if is_get and lags else None

    service.intercept = intercept


async def test_a_single_404_goes_unnoticed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Emulator(generation_time=(20.0, 20.0))
    async with emulated(service) as (emulator, client):
        track = await client.generations.create("x")
        statuses: list[str] = []

        async def watch() -> None:
            statuses.extend([state.status async for state in client.watch(track)])

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await anyio.sleep(12)
            path = f"/v1/generations/{track.id}"
            emulator.add_fault(Fault("status", path, status=404, code="NOT_FOUND"))
        assert statuses[-1] == "completed"
        assert anyio.current_time() < 22
        assert caplog.messages == []
        pages = [r for r in emulator.requests if r.path == "/v1/generations"]
        assert len([r for r in pages if r.method == "GET"]) == 1


@pytest.mark.parametrize("span", [(0.0, 25.0), (5.0, 100.0)])
async def test_a_track_that_only_the_list_shows_exists(
    span: tuple[float, float],
) -> None:
    async with scripted_service() as (service, client):
        service.add("a", 60.0)
        await lag(service, span)
        done = await client.wait_for_completion("a")
        assert done.status == "completed"
        assert anyio.current_time() < 64
        assert_nothing_left(client)


async def test_a_deleted_track_is_not_found_after_30_s() -> None:
    async with scripted_service() as (service, client):
        accepted = await client.generations.create("x")
        for n in range(250):
            service.add(f"old{n}", 0.0)
        await anyio.sleep(5)
        began = anyio.current_time()
        del service.tracks[accepted.id]
        with pytest.raises(NotFoundError, match=accepted.id) as caught:
            await client.wait_for_completion(accepted)
        assert caught.value.generation_id == accepted.id
        assert 30 <= anyio.current_time() - began < 40
        assert service.singles.count(accepted.id) >= 3
        ends = [path for path in service.pages if path.endswith("offset=198")]
        assert len(ends) == 3, "the list was read to its end each time"
        assert_nothing_left(client)


async def test_many_deleted_tracks_share_the_lists() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 200.0)
        errors: list[NotFoundError] = []

        async def wait(name: str) -> None:
            with pytest.raises(NotFoundError) as caught:
                await client.wait_for_completion(name)
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            for n in range(20):
                group.start_soon(wait, f"deleted{n}")
        assert {error.generation_id for error in errors} == {
            f"deleted{n}" for n in range(20)
        }
        assert len(service.log) < 20 * 2 * 4 + 20


async def test_other_tracks_are_noticed_in_time_beside_a_deleted_one() -> None:
    async with scripted_service() as (service, client):
        for n in range(500):
            service.add(f"old{n}", 0.0)
        ends = [service.add(f"t{n}", 20.0 + 3 * n).ends_at for n in range(5)]
        late: list[float] = []

        async def wait(number: int) -> None:
            await client.wait_for_completion(f"t{number}")
            late.append(anyio.current_time() - ends[number])

        async def wait_for_deleted() -> None:
            with pytest.raises(NotFoundError):
                await client.wait_for_completion("deleted")

        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_deleted)
            for number in range(5):
                group.start_soon(wait, number)
        assert max(late) < 5


@pytest.mark.parametrize("wrong", ["500", "no hasMore", "circles", "html"])
async def test_without_a_whole_list_a_404_ends_nothing(wrong: str) -> None:
    async with scripted_service() as (service, client):
        for n in range(5):
            service.add(f"old{n}", 0.0)

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            if "limit" not in request.url.params:
                return None
            rows = [track.row() for track in service.tracks.values()]
            if wrong == "500":
                return refusal(500, "INTERNAL_ERROR")
            if wrong == "html":
                return httpx.Response(200, html="<h1>Log in</h1>")
            more = {"hasMore": True} if wrong == "circles" else {}
            return reply({"generations": rows, "soundEffects": rows, **more})

        service.intercept = intercept
        with pytest.raises(WaitTimeoutError, match="no such track"):
            await client.wait_for_completion("deleted", timeout=250)
        assert len(service.log) < 250
        assert_nothing_left(client)


async def test_without_a_list_a_get_alone_proves_nothing() -> None:
    async with scripted_service() as (service, client):
        service.intercept = lambda _: _not_found()
        with pytest.raises(WaitTimeoutError, match="no such track"):
            await client.wait_for_completion("deleted", timeout=1000)
        assert len(service.log) < 1000


async def _not_found() -> httpx.Response:
    return refusal(404, "NOT_FOUND")


@pytest.mark.parametrize("timeout", [0, 3, 25])
async def test_a_short_wait_for_a_missing_track_reports_the_404(
    timeout: float,
) -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0)
        with pytest.raises(WaitTimeoutError) as caught:
            await client.wait_for_completion("deleted", timeout=timeout)
        assert "there is no such track (404)" in str(caught.value)
        assert "still in progress" not in str(caught.value)
        assert caught.value.generation is None
        assert anyio.current_time() <= timeout + 1.1
        assert len(service.singles) >= 2, "as a track, and as an effect"


async def test_an_effect_that_lags_is_found_by_its_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    async with emulated() as (emulator, client):
        effect = await client.sound_effects.create("a door")
        path = f"/v1/sound-effects/{effect.id}"
        emulator.add_fault(Fault("status", path, status=404, code="NOT_FOUND", times=2))
        elsewhere = effect.id
        done = await client.wait_for_completion(elsewhere)
        assert done.kind == "sound_effect"
        assert caplog.messages == []


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_responses_of_the_effects_end_no_wait_for_a_track(status: int) -> None:
    async with scripted_service() as (service, client):
        service.add("a", 30.0)

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            if "sound-effects" in request.url.path:
                return refusal(status, "PRO_PLAN_REQUIRED")
            lags = anyio.current_time() < 4 and "limit" not in request.url.params
            return refusal(404, "NOT_FOUND") if lags else None

        service.intercept = intercept
        assert (await client.wait_for_completion("a")).status == "completed"
