"""Which process leads and what each receives, in every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async._coordination._poll_ledger import EVENT_TTL, LEAD_TTL, MEMBER_TTL
from finetuning_async._coordination._poll_messages import (
    ObservedState,
    PollReport,
    PollUpdate,
    WatchedTrack,
)

if TYPE_CHECKING:
    from finetuning_async._coordination._poll_messages import PollCoordinator
    from tests.coordination._store_setups import Processes

pytestmark = pytest.mark.sampled(2)

TRACK = WatchedTrack(id="t1", kind="music", age=3.0, length=60.0)
ROW = ObservedState(kind="music", row={"id": "t1", "status": "completed", "tags": []})


async def joins(process: PollCoordinator, *wanted: WatchedTrack) -> PollUpdate:
    """What a process hears that comes for the first time, or says all anew."""
    return await process.sync(PollReport(added=wanted, is_complete=True))


@pytest.fixture
async def first(processes: Processes) -> PollCoordinator:
    return processes.process().new_coordinator()


@pytest.fixture
async def second(processes: Processes) -> PollCoordinator:
    return processes.process().new_coordinator()


@pytest.fixture
async def third(processes: Processes) -> PollCoordinator:
    return processes.process().new_coordinator()


async def test_the_first_process_leads_and_learns_what_others_wait_for(
    first: PollCoordinator, second: PollCoordinator
) -> None:
    leads = await joins(first)
    assert leads.is_new_lead
    assert leads.leads_for > 1
    await anyio.sleep(0.5)
    assert (await joins(second, TRACK)).leads_for == 0
    update = await first.sync(PollReport())
    assert not update.is_new_lead
    (track,) = update.others or ()
    assert (track.id, track.kind, track.length) == ("t1", "music", 60.0)
    assert track.age == pytest.approx(3.0, abs=0.2)
    assert track.is_fresh
    assert (await first.sync(PollReport())).others is None, "nothing has changed"


async def test_a_track_is_fresh_when_another_process_begins_to_wait_for_it(
    first: PollCoordinator, second: PollCoordinator, third: PollCoordinator
) -> None:
    await joins(first)
    await joins(second, TRACK)
    await first.sync(PollReport())
    await joins(third, TRACK)
    (track,) = (await first.sync(PollReport())).others or ()
    assert track.is_fresh
    await second.sync(PollReport(dropped=["t1"]))
    (track,) = (await first.sync(PollReport())).others or ()
    assert not track.is_fresh


async def test_an_observed_state_goes_once_to_each_process_that_waits_for_it(
    first: PollCoordinator, second: PollCoordinator
) -> None:
    await joins(first)
    await joins(second, TRACK)
    unknown = ObservedState(kind="music", row={"id": "t2", "status": "completed"})
    report = PollReport(seen=[ROW, unknown], refused=["t1", "t3"])
    assert not (await first.sync(report)).seen
    update = await second.sync(PollReport())
    assert (list(update.seen), list(update.refused)) == ([ROW], ["t1"])
    assert not (await second.sync(PollReport())).seen


async def test_reads_of_a_process_that_lost_the_lead_are_discarded(
    first: PollCoordinator, second: PollCoordinator
) -> None:
    await joins(first)
    await anyio.sleep(LEAD_TTL)
    assert (await joins(second, TRACK)).leads_for > 1
    assert (await first.sync(PollReport(seen=[ROW]))).leads_for == 0
    assert not (await second.sync(PollReport())).seen


async def test_reads_from_before_a_new_lead_are_discarded(
    first: PollCoordinator, second: PollCoordinator
) -> None:
    await joins(first)
    await joins(second, TRACK)
    await anyio.sleep(LEAD_TTL)
    update = await first.sync(PollReport(seen=[ROW]))
    assert update.is_new_lead
    assert not (await second.sync(PollReport())).seen
    assert [track.is_fresh for track in update.others or ()] == [True]


async def test_a_leader_that_syncs_twice_a_second_keeps_the_lead(
    first: PollCoordinator, second: PollCoordinator
) -> None:
    await joins(first)
    await joins(second)
    for _ in range(20):
        await anyio.sleep(0.5)
        assert (await first.sync(PollReport())).leads_for > 1
        assert (await second.sync(PollReport())).leads_for == 0


async def test_hints_of_any_process_go_to_all_others(
    first: PollCoordinator, second: PollCoordinator, third: PollCoordinator
) -> None:
    await joins(first)
    await joins(second)
    update = await third.sync(PollReport(hints=["t9"], may_lead=False))
    assert not update.hints
    assert list((await first.sync(PollReport())).hints) == ["t9"]
    assert list((await second.sync(PollReport())).hints) == ["t9"]


async def test_a_process_that_waits_for_nothing_does_not_lead(
    first: PollCoordinator, second: PollCoordinator
) -> None:
    assert (await first.sync(PollReport(may_lead=False))).leads_for == 0
    assert (await joins(second)).leads_for > 1
    assert (await second.sync(PollReport(may_lead=False))).leads_for == 0
    assert (await first.sync(PollReport())).leads_for > 1, "the lead was given up"


async def test_tracks_of_a_dead_process_are_dropped(
    first: PollCoordinator, second: PollCoordinator
) -> None:
    await joins(first, TRACK)
    assert len((await joins(second)).others or ()) == 0, "the first leads"
    await anyio.sleep(MEMBER_TTL - 11)
    assert len((await second.sync(PollReport())).others or ()) == 1
    await anyio.sleep(11)
    assert (await second.sync(PollReport())).others == []


async def test_a_process_that_was_silent_for_long_declares_again(
    first: PollCoordinator, second: PollCoordinator
) -> None:
    await joins(first, TRACK)
    assert not (await first.sync(PollReport())).must_declare
    await anyio.sleep(MEMBER_TTL)
    await joins(second)
    assert (await first.sync(PollReport())).must_declare
    await joins(first, TRACK)
    assert len((await second.sync(PollReport())).others or ()) == 1


async def test_after_missed_events_a_track_is_fresh_for_the_leader_again(
    first: PollCoordinator, second: PollCoordinator
) -> None:
    await joins(first)
    await joins(second, TRACK)
    await first.sync(PollReport(seen=[ROW]))
    await anyio.sleep(EVENT_TTL)
    assert len((await first.sync(PollReport())).others or ()) == 1
    update = await second.sync(PollReport())
    assert update.must_declare
    assert not update.seen
    await joins(second, TRACK)
    (track,) = (await first.sync(PollReport())).others or ()
    assert track.is_fresh


@pytest.mark.sampled(2)
@pytest.mark.parametrize("left", ["", "garbage", "[]\n{}", '{"format":1}\n{}'])
async def test_an_emptied_or_damaged_store_asks_for_a_complete_report(
    processes: Processes, left: str
) -> None:
    limiter = processes.process()
    process = limiter.new_coordinator()
    await joins(process, TRACK)
    await limiter._store_of_loop().update("polling", lambda _, __: (left, None))
    update = await process.sync(PollReport(seen=[ROW]))
    assert update.must_declare
    assert update.is_new_lead, "what was read before is discarded"
    assert not (await joins(process, TRACK)).must_declare
