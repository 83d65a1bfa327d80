"""A batch from its requests to its files, against the emulator in virtual time."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import AsyncClient, AuthenticationError, GenerationRequest
from finetuning_async.batch import (
    Batch,
    BatchError,
    BatchInputError,
    BatchItem,
    BatchLockedError,
    JournalError,
    Options,
    Row,
)
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import SHORT, emulated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.sampled(2)

SONG = b"ID3" + bytes(1000)
CREATES = "/v1/generations"
SLOW: dict[str, Any] = {"creates_per_minute": 2}
"""Sixteen creates take eight minutes: longer than a proof of absence."""

NO_CREDITS_SHOWN = Fault("status", "/v1/me", status=503, skip=2, times=None)
"""The account is bound and the first reading taken, and then there is none."""


def emulator(**settings: Any) -> Emulator:
    return Emulator(
        **{
            "audio": SONG,
            "queue_size": 1000,
            "generation_time": SHORT,
            **settings,
        }
    )


def songs(count: int) -> list[GenerationRequest]:
    return [GenerationRequest(f"song {number}", duration=30) for number in range(count)]


async def finish(batch: Batch) -> list[BatchItem]:
    return [item async for item in batch.run()]


def content(item: BatchItem) -> bytes:
    assert item.path is not None
    return item.path.read_bytes()


def songs_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.mp3")}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@asynccontextmanager
async def opened(
    path: Path, service: Emulator | None = None, **options: Any
) -> AsyncGenerator[tuple[Emulator, AsyncClient, Batch]]:
    async with emulated(service or emulator()) as (service, client):
        async with Batch(client, path, options=Options(**options)) as batch:
            yield service, client, batch


async def test_every_request_becomes_a_file_and_a_result(tmp_path: Path) -> None:
    async with opened(tmp_path) as (service, _, batch):
        added = await batch.add(songs(12))
        ends = await finish(batch)
        assert (added.new, added.known) == (12, 0)
        assert [item.state for item in ends] == ["downloaded"] * 12
        assert {content(item) for item in ends} == {SONG}
        assert len(service.ledger) == batch.summary.accepts == 12
        assert service.count(status=429) == 0
        assert batch.paused is None
    results = lines(tmp_path / "results.jsonl")
    assert [line["prompt"] for line in results] == [f"song {n}" for n in range(12)]
    assert {line["file"] for line in results} == songs_in(tmp_path)
    assert (tmp_path / "errors.jsonl").read_text() == ""


async def test_the_same_rows_again_cost_nothing(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        for expected in (5, 0):
            async with Batch(client, tmp_path) as batch:
                assert (await batch.add(songs(5))).new == expected
                assert len(await finish(batch)) == expected
        assert len(service.ledger) == 5


async def test_equal_rows_are_separate_tracks(tmp_path: Path) -> None:
    async with opened(tmp_path) as (service, _, batch):
        await batch.add([GenerationRequest("waltz", duration=30)] * 3)
        ends = await finish(batch)
        assert len({item.path for item in ends}) == 3
        assert len(service.ledger) == 3


async def test_a_failed_track_is_reported_and_retried_on_request(
    tmp_path: Path,
) -> None:
    async with emulated(emulator()) as (service, client):
        service.add_fault(Fault("fail", CREATES, method="POST"))
        async with Batch(client, tmp_path) as batch:
            await batch.add(songs(3))
            states = Counter(item.state for item in await finish(batch))
            assert states == {"downloaded": 2, "failed": 1}
        (error,) = lines(tmp_path / "errors.jsonl")
        assert error["state"] == "failed"
        assert error["error"]
        async with Batch(client, tmp_path) as batch:
            assert await finish(batch) == []
            assert await batch.retry_failed() == 1
            (again,) = await finish(batch)
            assert again.state == "downloaded"
        assert len(service.ledger) == 4
        assert lines(tmp_path / "errors.jsonl") == []
        assert len(lines(tmp_path / "results.jsonl")) == 3


async def test_a_missing_file_is_downloaded_again(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        async with Batch(client, tmp_path) as batch:
            await batch.add(songs(3))
            ends = await finish(batch)
        assert ends[1].path is not None
        ends[1].path.unlink()
        async with Batch(client, tmp_path) as batch:
            (again,) = await finish(batch)
        assert again.path == ends[1].path
        assert again.path.read_bytes() == SONG
        assert len(service.ledger) == 3


async def test_a_truncated_line_is_repaired_at_the_next_start(tmp_path: Path) -> None:
    async with emulated(emulator()) as (_, client):
        async with Batch(client, tmp_path) as batch:
            await batch.add(songs(3))
            await finish(batch)
        path = tmp_path / "results.jsonl"
        whole = path.read_text()
        path.write_text(whole[:-20])
        async with Batch(client, tmp_path) as batch:
            await finish(batch)
        assert path.read_text() == whole


async def test_creates_with_lost_responses_are_found_and_paid_once(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (service, _, batch):
        fault = Fault("lost_after_commit", CREATES, method="POST", times=4)
        service.add_fault(fault)
        await batch.add(songs(15))
        ends = await finish(batch)
        assert {item.state for item in ends} == {"downloaded"}
        assert len(service.ledger) == 15


async def test_an_absent_create_is_proved_and_sent_again_with_its_seed(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, emulator(**SLOW)) as (service, _, batch):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        await batch.add(songs(16))
        ends = await finish(batch)
        assert Counter(item.state for item in ends) == {"downloaded": 16}
        assert len(service.ledger) == 16
        assert anyio.current_time() > 300


async def test_a_create_accepted_after_four_minutes_is_paid_once(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, emulator(**SLOW)) as (service, _, batch):
        late = Fault("late_commit", CREATES, method="POST", seconds=240)
        service.add_fault(late)
        await batch.add(songs(16))
        ends = await finish(batch)
        assert Counter(item.state for item in ends) == {"downloaded": 16}
        assert len(service.ledger) == 16


async def test_the_last_create_of_all_is_sent_again_after_equal_readings_of_the_credits(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (service, _, batch):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        service.add_fault(NO_CREDITS_SHOWN)
        await batch.add(songs(1))
        before = anyio.current_time()
        results = batch.run()
        await anyio.sleep(200)
        service.clear_faults()
        (done,) = [item async for item in results]
        assert done.state == "downloaded"
        assert len(service.ledger) == 1
        # It may be read from 200 s on, and 300 s lie between the first and the last.
        assert 500 < anyio.current_time() - before < 700


async def test_it_is_held_if_another_program_spends_credits_meanwhile(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (service, client, batch):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        await batch.add(songs(1))
        results = batch.run()
        await anyio.sleep(60)
        await client.generations.create("of another program")
        (held,) = [item async for item in results]
        assert held.state == "held"
        assert len(service.ledger) == 1


async def test_without_proof_the_last_create_of_all_is_held(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        async with Batch(client, tmp_path) as batch:
            service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
            service.add_fault(NO_CREDITS_SHOWN)
            await batch.add([Row(request=songs(1)[0], custom_id="one")])
            (held,) = await finish(batch)
            assert held.state == "held"
            assert batch.summary.spent == 1
        assert lines(tmp_path / "errors.jsonl")[0]["state"] == "held"
        service.clear_faults()
        async with Batch(client, tmp_path) as batch:
            assert [item.state for item in await finish(batch)] == ["held"]
            assert await batch.release("one") == 1
            (done,) = await finish(batch)
        assert done.state == "downloaded"
        assert done.seed == held.seed
        assert len(service.ledger) == 1


async def test_a_held_item_is_adopted_when_its_track_appears(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        service.add_fault(Fault("lost_after_commit", CREATES, method="POST", times=0))
        service.add_fault(Fault("late_commit", CREATES, method="POST", seconds=1800))
        service.add_fault(NO_CREDITS_SHOWN)
        async with Batch(client, tmp_path) as batch:
            await batch.add(songs(1))
            (held,) = await finish(batch)
            assert held.state == "held"
        service.clear_faults()
        await anyio.sleep(1800)
        async with Batch(client, tmp_path) as batch:
            (found,) = await finish(batch)
        assert found.state == "downloaded"
        assert len(service.ledger) == 1


async def test_a_held_item_whose_track_appears_in_the_same_run_is_completed_by_it(
    tmp_path: Path,
) -> None:
    service = emulator(creates_per_minute=2)
    async with opened(tmp_path, service) as (service, client, batch):
        late = Fault("late_commit", CREATES, method="POST", seconds=600)
        service.add_fault(late)
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST", skip=20))
        await batch.add(songs(30))
        results = batch.run()
        await anyio.sleep(100)
        await client.generations.create("of another program, so that credits differ")
        ends = [item async for item in results]
        first = next(item for item in ends if item.state == "held")
        states = [item.state for item in ends if item.key == first.key]
        assert states == ["held", "downloaded"]
        assert batch.summary.states["accepted"] == 0
        made = Counter(job.prompt for job in service.tracks.values())
        assert max(made.values()) == 1


async def test_a_doubt_of_an_earlier_run_is_resolved_by_its_later_creates(
    tmp_path: Path,
) -> None:
    async with emulated(emulator()) as (service, client):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        async with Batch(client, tmp_path) as batch:
            await batch.add(songs(30))
            batch.run()
            await anyio.sleep(270)
            assert batch.summary.states["unknown"] == 1
            assert batch.summary.states["downloaded"] == 29
        await anyio.sleep(200)
        async with Batch(client, tmp_path) as batch:
            before = anyio.current_time()
            (done,) = await finish(batch)
            assert anyio.current_time() - before < 150
        assert done.state == "downloaded"
        assert len(service.ledger) == 30


async def test_resubmit_sends_nothing_again_without_a_later_create(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, on_unknown="resubmit") as (service, _, batch):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        service.add_fault(NO_CREDITS_SHOWN)
        await batch.add(songs(1))
        (end,) = await finish(batch)
        assert end.state == "held"
        assert len(service.ledger) == 0


async def test_resubmit_needs_no_credits_where_they_cannot_be_compared(
    tmp_path: Path,
) -> None:
    service = emulator(creates_per_minute=2)
    async with opened(tmp_path, service, on_unknown="resubmit") as (service, _, batch):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        service.add_fault(Fault("status", "/v1/me", status=503, skip=1, times=None))
        await batch.add(songs(20))
        ends = await finish(batch)
        assert Counter(item.state for item in ends) == {"downloaded": 20}
        assert len(service.ledger) == 20


async def test_nothing_is_sent_twice_to_a_service_that_ignores_seeds(
    tmp_path: Path,
) -> None:
    service = emulator(ignore_seeds=True, **SLOW)
    async with opened(tmp_path, service) as (service, _, batch):
        fault = Fault("lost_before_commit", CREATES, method="POST", skip=2)
        service.add_fault(fault)
        await batch.add(songs(16))
        states = Counter(item.state for item in await finish(batch))
        assert states == {"downloaded": 15, "held": 1}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("refund", [False, True])
async def test_failures_and_refunds_do_not_hide_a_charge(
    tmp_path: Path, refund: bool
) -> None:
    service = emulator(creates_per_minute=5, failure_rate=0.2, refund_failed=refund)
    async with opened(tmp_path, service) as (service, _, batch):
        faults = [
            Fault("lost_before_commit", CREATES, method="POST", skip=10, times=2),
            Fault("hide", CREATES, method="POST", skip=15, seconds=800),
        ]
        for fault in faults:
            service.add_fault(fault)
        await batch.add(songs(22))
        await finish(batch)
        paid = [entry for entry in service.ledger if entry.amount < 0]
        assert len(paid) == batch.summary.accepts == 22 - batch.summary.in_doubt


async def test_a_run_without_credits_pauses_and_a_later_run_resumes(
    tmp_path: Path,
) -> None:
    async with emulated(emulator(credits=7)) as (service, client):
        async with Batch(client, tmp_path) as batch:
            await batch.add(songs(10))
            assert len(await finish(batch)) == 7
            assert batch.paused is not None
            assert batch.paused[0] == "credits"
            assert batch.summary.states["planned"] == 3
        service.account.pack += 10
        async with Batch(client, tmp_path) as batch:
            assert len(await finish(batch)) == 3
            assert batch.summary.is_done
        assert len(service.ledger) == 10


async def test_max_credits_holds_over_all_runs(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        for expected in (4, 0):
            async with Batch(client, tmp_path, max_credits=4) as batch:
                await batch.add(songs(10))
                assert len(await finish(batch)) == expected
                assert batch.paused is not None
                assert batch.paused[0] == "max_credits"
        assert len(service.ledger) == 4


async def test_a_full_disk_stops_before_anything_is_paid(tmp_path: Path) -> None:
    async with opened(tmp_path, free_bytes=10**18) as (service, _, batch):
        await batch.add(songs(3))
        assert await finish(batch) == []
        assert batch.paused is not None
        assert batch.paused[0] == "disk"
        assert service.ledger == []


async def test_an_invalid_key_stops_the_run(tmp_path: Path) -> None:
    async with emulated(emulator()) as (_, client):
        stranger = client.with_options(api_key="ft_live_" + "f" * 32)
        async with Batch(stranger, tmp_path) as batch:
            await batch.add(songs(3))
            with pytest.raises(AuthenticationError):
                await finish(batch)


async def test_stop_completes_running_tracks_and_creates_no_more(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (service, _, batch):
        await batch.add(songs(30))
        ends = []
        async for item in batch.run():
            ends.append(item)
            batch.stop()
        assert len(ends) == len(service.ledger) < 30
        states = batch.summary.states
        assert states["planned"] == 30 - len(ends)
        assert batch.summary.in_doubt == 0


async def test_leaving_during_a_run_loses_nothing(tmp_path: Path) -> None:
    async with emulated(emulator(latency=(0.1, 0.4))) as (service, client):
        for moment in (0.3, 0.9, 1.5, 20.0, 61.0):
            async with Batch(client, tmp_path) as batch:
                await batch.add(songs(25))
                batch.run()
                await anyio.sleep(moment)
        async with Batch(client, tmp_path) as batch:
            await finish(batch)
            assert batch.summary.states["downloaded"] == 25
        assert len(service.ledger) == 25


async def test_a_second_runner_is_refused_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, client, _):
        before = anyio.current_time()
        with pytest.raises(BatchLockedError, match="another runner is working"):
            async with Batch(client, tmp_path):
                pass
        assert anyio.current_time() - before < 1


async def test_a_batch_has_one_run_at_a_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, _, batch):
        batch.run()
        with pytest.raises(BatchError, match="already"):
            batch.run()


async def test_invalid_requests_are_all_reported_and_none_is_added(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (_, _, batch):
        wrong = [*songs(3), GenerationRequest("x", bpm=1), GenerationRequest("")]
        with pytest.raises(BatchInputError) as caught:
            await batch.add(wrong)
        assert [p.split(":")[0] for p in caught.value.problems] == ["row 4", "row 5"]
        assert batch.summary.total == 0


async def test_a_custom_id_has_one_content(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, _, batch):
        first, second = songs(2)
        await batch.add([Row(request=first, custom_id="a")])
        with pytest.raises(JournalError, match="different content"):
            await batch.add([Row(request=second, custom_id="a")])


async def test_a_queue_of_five_is_filled_without_doubts(tmp_path: Path) -> None:
    service = emulator(queue_size=5, latency=(0.02, 0.4))
    async with opened(tmp_path, service) as (service, _, batch):
        await batch.add(songs(24))
        ends = await finish(batch)
        assert {item.state for item in ends} == {"downloaded"}
        assert len(service.ledger) == 24
        assert service.count(status=429, code="QUEUE_FULL") <= 8


async def test_rows_that_share_a_seed_get_their_own_tracks(tmp_path: Path) -> None:
    async with opened(tmp_path) as (service, _, batch):
        fault = Fault(
            "lost_after_commit", CREATES, method="POST", probability=0.3, times=None
        )
        service.add_fault(fault)
        requests = [GenerationRequest(f"song {n % 3}", seed=7) for n in range(12)]
        await batch.add(requests)
        ends = await finish(batch)
        assert {item.state for item in ends} == {"downloaded"}
        prompts = {t.id: t.prompt for t in service.tracks.values()}
        assert all(prompts[str(i.generation_id)] == i.request.prompt for i in ends)
        assert len(service.ledger) == 12
