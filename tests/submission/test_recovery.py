"""A create whose response is lost is found by its seed, and adopted only once."""

from __future__ import annotations

import itertools
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    AsyncClient,
    Generation,
    InternalServerError,
    SubmissionUnknownError,
)
from finetuning_async._api._requests import InstrumentalRequest, SoundEffectRequest
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from finetuning_async._session._session import Session

CREATE = "/v1/generations"


def post(action: Any, **settings: Any) -> Fault:
    return Fault(action, CREATE, method="POST", **settings)


def listing(action: Any, **settings: Any) -> Fault:
    return Fault(action, CREATE, method="GET", **settings)


def posts(emulator: Emulator, path: str = CREATE) -> int:
    return emulator.count(method="POST", path=path)


@pytest.mark.parametrize("seconds", [1, 10, 29])
async def test_a_late_commit_is_found_within_the_settle_time(seconds: float) -> None:
    async with emulated(request_timeout=0.5) as (emulator, client):
        emulator.add_fault(post("late_commit", seconds=seconds))
        track = await client.generations.create("x")
        assert list(emulator.tracks) == [track.id]


@pytest.mark.parametrize("lag", [1, 10, 29])
async def test_a_stale_list_is_waited_for(lag: float) -> None:
    async with emulated(short(latency=(0.2, 0.2))) as (emulator, client):
        emulator.add_fault(post("lost_after_commit"))
        made: list[Generation] = []

        async def create() -> None:
            made.append(await client.generations.create("x"))

        async with anyio.create_task_group() as group:
            group.start_soon(create)
            await anyio.sleep(0.3)  # committed by now, and not yet looked up
            (job,) = emulator.tracks.values()
            job.listed_from = job.created_at + lag
        assert list(emulator.tracks) == [made[0].id]


@pytest.mark.parametrize("failures", [0, 2])
async def test_absence_takes_thirty_seconds_and_three_complete_listings(
    failures: int,
) -> None:
    async with emulated(max_retries=0) as (emulator, client):
        emulator.add_fault(post("lost_before_commit"))
        fails = listing("status", times=failures, status=503, code=None)
        emulator.add_fault(fails)
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("x")
        assert 30 <= anyio.current_time() < 35
        assert emulator.count(method="GET", status=200) >= 3


async def test_the_third_complete_listing_proves_absence_after_thirty_seconds() -> None:
    async with emulated(max_retries=0) as (emulator, client):
        emulator.add_fault(post("lost_before_commit"))
        emulator.add_fault(listing("status", times=3, status=503, code=None))
        async with anyio.create_task_group() as group:
            group.start_soon(
                partial(client.generations.create, "x", on_unknown="resubmit")
            )
            await anyio.sleep(5)
            await client.generations.create("later")
        # The first three fail; those after 14, 30 and 39 s are complete.
        assert anyio.current_time() == pytest.approx(39, abs=0.5)
        assert [job.prompt for job in emulator.tracks.values()] == ["later", "x"]


async def test_failed_listings_do_not_count() -> None:
    async with emulated(max_retries=0) as (emulator, client):
        emulator.add_fault(post("lost_after_commit"))
        emulator.add_fault(listing("status", times=4, status=503, code=None))
        emulator.add_fault(listing("lost_after_commit", times=2))
        emulator.add_fault(listing("html", times=1))
        track = await client.generations.create("x")
        assert list(emulator.tracks) == [track.id]
        assert anyio.current_time() > 60


async def test_a_list_that_always_fails_ends_in_unknown() -> None:
    async with emulated(max_retries=0) as (emulator, client):
        emulator.add_fault(post("lost_after_commit"))
        emulator.add_fault(listing("status", times=None, status=503, code=None))
        with pytest.raises(SubmissionUnknownError, match="could not be read"):
            await client.generations.create("x", on_unknown="resubmit")
        assert posts(emulator) == 1
        assert 290 < anyio.current_time() < 340


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refused_list_ends_in_unknown_at_once(status: int) -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(post("lost_after_commit"))
        emulator.add_fault(listing("status", times=None, status=status, code="NO"))
        with pytest.raises(SubmissionUnknownError, match="could not be read"):
            await client.generations.create("x", on_unknown="resubmit")
        assert posts(emulator) == 1
        assert anyio.current_time() < 1


async def test_a_gateway_that_refuses_the_list_ends_in_unknown_after_three_times() -> (
    None
):
    async with emulated() as (emulator, client):
        emulator.add_fault(post("lost_after_commit"))
        emulator.add_fault(listing("status", times=None, status=403, code=None))
        with pytest.raises(SubmissionUnknownError, match="could not be read"):
            await client.generations.create("x", on_unknown="resubmit")
        assert posts(emulator) == 1
        assert 1 < anyio.current_time() < 10


async def test_responses_that_are_not_a_list_end_in_unknown_soon() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(post("html"))
        emulator.add_fault(listing("html", times=None))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("x", on_unknown="resubmit")
        assert posts(emulator) == 1
        assert anyio.current_time() < 10


async def test_a_track_of_last_week_with_the_same_prompt_and_seed_is_not_adopted() -> (
    None
):
    async with emulated() as (emulator, client):
        old = await client.generations.create("x", seed=42)
        emulator.tracks[old.id].created_at -= 7 * 86400
        _forget_claims(client)
        emulator.add_fault(post("lost_before_commit"))
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("x", seed=42)
        assert caught.value.candidates == ()


async def test_a_recent_track_that_is_claimed_is_not_adopted() -> None:
    async with emulated() as (emulator, client):
        await client.generations.create("x", seed=42)
        emulator.add_fault(post("lost_before_commit"))
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("x", seed=42)
        assert caught.value.candidates == ()


async def test_an_id_is_claimed_before_the_callback_and_the_log() -> None:
    """The callback is slow; meanwhile another create with this seed is lost."""
    async with emulated() as (emulator, client):
        emulator.add_fault(post("lost_before_commit", skip=1))
        errors: list[SubmissionUnknownError] = []

        async def linger(_: Generation) -> None:
            await anyio.sleep(200)

        async def lose() -> None:
            with pytest.raises(SubmissionUnknownError) as caught:
                await client.generations.create("another", seed=7)
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            group.start_soon(
                partial(client.generations.create, "x", seed=7, on_submitted=linger)
            )
            await anyio.sleep(1)
            group.start_soon(lose)
        assert errors[0].candidates == ()


def _forget_claims(client: AsyncClient) -> None:
    client._session().account.inflight._claims.clear()


@pytest.mark.parametrize("lost", list(itertools.product([True, False], repeat=2)))
async def test_two_lost_creates_do_not_adopt_one_track(lost: tuple[bool, bool]) -> None:
    """Each was committed or not; random seeds distinguish them."""
    async with emulated(short(latency=(0.1, 0.1))) as (emulator, client):
        for committed in lost:
            kind = "lost_after_commit" if committed else "lost_before_commit"
            emulator.add_fault(post(kind))
        found, unknown = await _both(client, ("same", None), ("same", None))
        assert len(found) == sum(lost)
        assert len(unknown) == 2 - sum(lost)
        assert {t.id for t in found} == set(emulator.tracks)
        assert posts(emulator) == 2


@pytest.mark.parametrize("lost", list(itertools.product([True, False], repeat=2)))
async def test_look_alikes_with_the_callers_seed_run_one_at_a_time(
    lost: tuple[bool, bool],
) -> None:
    async with emulated(short(latency=(0.1, 0.1))) as (emulator, client):
        for committed in lost:
            kind = "lost_after_commit" if committed else "lost_before_commit"
            emulator.add_fault(post(kind))
        found, unknown = await _both(client, ("look-alike", 7), ("look-alike", 7))
        assert len(found) == sum(lost)
        assert {t.id for t in found} == set(emulator.tracks)
        at = [r.at for r in emulator.requests if r.method == "POST"]
        assert at[1] - at[0] >= 0.2
        assert len(unknown) == 2 - sum(lost)


@pytest.mark.parametrize("rewrite", [False, True])
@pytest.mark.parametrize("apart", [0.01, 5.0], ids=["at once", "during the lookup"])
async def test_two_prompts_with_one_seed_are_distinguished_or_not_adopted(
    *, rewrite: bool, apart: float
) -> None:
    service = short(latency=(0.1, 0.1), rewrite_prompts=rewrite)
    async with emulated(service) as (emulator, client):
        emulator.add_fault(post("lost_before_commit"))
        emulator.add_fault(post("lost_after_commit"))
        found, unknown = await _both(client, ("a", 7), ("b", 7), apart=apart)
        (track_id,) = emulator.tracks
        named = {t.id for t in found} | {c for e in unknown for c in e.candidates}
        assert named == {track_id}
        if rewrite:
            assert not found
        else:
            assert found[0].prompt == "b"


async def test_a_prompt_that_is_a_prefix_of_anothers_is_distinguished() -> None:
    async with emulated(short(latency=(0.1, 0.1))) as (emulator, client):
        emulator.add_fault(post("lost_before_commit"))
        emulator.add_fault(post("lost_after_commit"))
        found, unknown = await _both(client, ("rain", 7), ("rain and wind", 7))
        (track_id,) = emulator.tracks
        assert [(t.id, t.prompt) for t in found] == [(track_id, "rain and wind")]
        assert [error.prompt for error in unknown] == ["rain"]


async def _both(
    client: AsyncClient, *creates: tuple[str, int | None], apart: float = 0.01
) -> tuple[list[Generation], list[SubmissionUnknownError]]:
    found: list[Generation] = []
    unknown: list[SubmissionUnknownError] = []

    async def one(prompt: str, seed: int | None) -> None:
        try:
            found.append(await client.generations.create(prompt, seed=seed))
        except SubmissionUnknownError as error:
            unknown.append(error)

    async with anyio.create_task_group() as group:
        for prompt, seed in creates:
            group.start_soon(one, prompt, seed)
            await anyio.sleep(apart)
    return found, unknown


@pytest.mark.parametrize("seed", [None, 7])
async def test_a_rewritten_prompt_does_not_hide_a_track(seed: int | None) -> None:
    async with emulated(short(rewrite_prompts=True)) as (emulator, client):
        emulator.add_fault(post("lost_after_commit"))
        track = await client.generations.create("x", seed=seed)
        assert list(emulator.tracks) == [track.id]
        assert "prompt" in track.changed_by_service


async def test_without_echoed_seeds_nothing_is_adopted_and_one_warning_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with emulated(short(ignore_seeds=True)) as (emulator, client):
        await client.generations.create("first")
        await client.generations.create("second")
        emulator.add_fault(post("lost_after_commit"))
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("third", on_unknown="resubmit")
        third = list(emulator.tracks)[2]
        assert caught.value.candidates == (third,)
        assert posts(emulator) == 3
    warnings = [
        r for r in caplog.records if "the service changed the seed" in r.message
    ]
    assert len(warnings) == 1


async def test_without_echoed_seeds_absence_is_not_proved() -> None:
    async with emulated(short(ignore_seeds=True)) as (emulator, client):
        await client.generations.create("first")
        emulator.add_fault(post("lost_before_commit"))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("second", on_unknown="resubmit")
        assert posts(emulator) == 2


@pytest.mark.parametrize(
    "fault",
    [
        post("lost_after_commit"),
        post("status", status=429, code=None, commit=True),
    ],
    ids=["no response", "429 of a proxy"],
)
async def test_several_matches_are_candidates(fault: Fault) -> None:
    """Another process created the same at the same time."""
    async with emulated() as (emulator, client):
        await client.me()
        await client.generations.create("x", seed=5)
        _forget_claims(client)
        emulator.add_fault(fault)
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("x", seed=5)
        assert set(caught.value.candidates) == set(emulator.tracks)
        assert all(track_id in str(caught.value) for track_id in emulator.tracks)


async def test_a_lost_instrumental_is_found_among_its_kind() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(Fault("lost_after_commit", "/v1/instrumental"))
        track = await _submit(client, InstrumentalRequest("calm"))
        assert list(emulator.tracks) == [track.id]
        assert track.kind == "instrumental"


class Effects:
    """A service whose creates of effects get a 5xx, committed or not."""

    def __init__(self, *, commit: bool, code: str) -> None:
        self.commit = commit
        self.code = code
        self.rows = [self.row("other", "rain"), self.row("old", "door", day=1)]
        self.posts = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        headers = {"Date": "Mon, 02 Mar 2026 10:00:00 GMT"}
        if request.method == "POST":
            self.posts += 1
            if self.commit:
                self.rows.insert(0, self.row(f"sfx_{self.posts}", "door"))
            error = {"code": self.code, "message": "what the service says"}
            return httpx.Response(500, json={"error": error}, headers=headers)
        assert request.url.path == "/v1/sound-effects"
        data = {"soundEffects": self.rows, "hasMore": False, "nextOffset": 0}
        return httpx.Response(200, json={"data": data}, headers=headers)

    @staticmethod
    def row(effect_id: str, prompt: str, day: int = 2) -> dict[str, Any]:
        return {
            "id": effect_id,
            "prompt": prompt,
            "status": "pending",
            "createdAt": f"2026-03-0{day} 10:00:00",
        }

    def client(self) -> AsyncClient:
        return AsyncClient(
            "ft_live_" + "f" * 32,
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(self)),
        )


@pytest.mark.parametrize("code", ["INTERNAL_ERROR", "GENERATION_FAILED"])
async def test_a_lost_sound_effect_is_named_and_neither_adopted_nor_resent(
    code: str,
) -> None:
    service = Effects(commit=True, code=code)
    async with service.client() as client:
        with pytest.raises(SubmissionUnknownError, match="its prompt") as caught:
            await _submit(client, SoundEffectRequest("door"), on_unknown="resubmit")
    assert caught.value.candidates == ("sfx_1",)
    assert caught.value.seed is None
    assert service.posts == 1


async def test_an_absent_sound_effect_is_not_resent_either() -> None:
    service = Effects(commit=False, code="INTERNAL_ERROR")
    async with service.client() as client:
        with pytest.raises(SubmissionUnknownError, match="has its prompt") as caught:
            await _submit(client, SoundEffectRequest("door"), on_unknown="resubmit")
    assert caught.value.candidates == ()
    assert service.posts == 1


async def test_a_sound_effect_that_the_service_reports_as_failed_raises_that() -> None:
    service = Effects(commit=False, code="GENERATION_FAILED")
    async with service.client() as client:
        with pytest.raises(InternalServerError):
            await _submit(client, SoundEffectRequest("door"))
    assert service.posts == 1


async def _submit(client: AsyncClient, request: Any, **options: Any) -> Any:
    session: Session = client._session()
    return await session.submit(
        session.new_submission(request, validate=True, **options), timeout=None
    )


async def test_a_found_track_is_in_flight_like_any_other() -> None:
    async with emulated(short(queue_size=1)) as (emulator, client):
        emulator.add_fault(post("lost_after_commit"))
        track = await client.generations.create("x")
        inflight = client._session().account.inflight
        assert list(inflight.tracks) == [track.id]
        assert inflight.is_claimed(track.id)
        await client.generations.create("y")  # waits until the first has ended
        assert emulator.status(track.id) == "completed"


async def test_a_list_longer_than_a_page_is_read_back_to_the_create() -> None:
    service = short(creates_per_minute=1000, queue_size=1000, reads_per_minute=600)
    async with emulated(service) as (emulator, client):
        emulator.add_fault(post("late_commit", seconds=6, skip=0))
        found: list[Generation] = []

        async def lose() -> None:
            found.append(await client.generations.create("lost"))

        async with anyio.create_task_group() as group:
            group.start_soon(lose)
            await anyio.sleep(7)
            for number in range(150):
                group.start_soon(client.generations.create, f"later {number}")
        assert emulator.tracks[found[0].id].prompt == "lost"


async def test_a_lost_create_is_logged_with_its_seed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "finetuning_async")
    async with emulated() as (emulator, client):
        emulator.add_fault(post("lost_after_commit"))
        track = await client.generations.create("x", seed=77)
    assert "its seed is 77" in caplog.text
    assert f"its track was found: {track.id}" in caplog.text
