"""`Reconciliation`: when it looks for creates in doubt, and for which of them."""

from __future__ import annotations

from functools import partial

import anyio
import attrs
import pytest

from finetuning_async import GenerationRequest, SubmissionUnknownError
from finetuning_async.emulator import Fault
from finetuning_async.journal import (
    Accepted,
    Action,
    Claimed,
    ItemFactory,
    Lost,
    Row,
    Sending,
    step,
)
from finetuning_async.journal._matching import SETTLE
from finetuning_async.journal._reconciliation import (
    BASELINE_EVERY,
    FAILURE_AFTER,
    LAST_LOOK,
    MAX_HELD_AGE,
    STUCK_AFTER,
)
from finetuning_async.journal._state_machine import Ended, Entry
from tests.journal.test_engine import CREATES, world


async def test_a_look_counts_for_what_was_lost_before_it_and_until_the_next() -> None:
    async with world() as here:
        here.store.add([ItemFactory().item(Row(request=GenerationRequest("snow")))])
        reconciliation = here.engine.reconciliation

        async def lose(seq: int, at: float) -> None:
            for event in (Sending(seq, at=at), Lost(at, "no response")):
                item = here.store.get(seq)
                here.store.record(item, step(item.entry, event)[0])

        async def reads(*seqs: int) -> int:
            before = here.service.count(method="GET", path=CREATES)
            await reconciliation.reconcile(*map(here.store.get, seqs))
            return here.service.count(method="GET", path=CREATES) - before

        await lose(1, at=await reconciliation.now())
        await anyio.sleep(1)
        assert await reads(1) > 0
        assert await reads(1) == 0
        looked_at = here.store.read_note(LAST_LOOK)
        assert looked_at is not None
        await lose(2, at=float(looked_at))
        assert await reads(1, 2) > 0
        await anyio.sleep(1)
        assert await reads(1, 2) == 0
        await anyio.sleep(here.engine.options.look_every)
        assert await reads(1) > 0


async def test_where_nothing_is_in_doubt_nothing_is_read() -> None:
    async with world() as here:
        await here.run(Action.WAIT)
        reads = here.service.count(method="GET")
        assert await here.engine.reconciliation.reconcile(here.item, at_once=True)
        assert here.service.count(method="GET") == reads


async def test_a_doubt_that_must_wait_in_any_case_costs_one_page() -> None:
    async with world() as here:
        here.service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        with pytest.raises(SubmissionUnknownError):
            await here.run(Action.WAIT)
        before = here.service.count(method="GET", path=CREATES)
        await here.engine.reconciliation.reconcile(here.item, at_once=True)
        assert here.service.count(method="GET", path=CREATES) == before + 1


@pytest.mark.parametrize(("ago", "looks"), [(-1, True), (1, False), (28, True)])
async def test_a_look_counts_for_a_while_unless_it_was_made_in_the_future(
    ago: float, looks: bool
) -> None:
    """As it was if a clock has been set back since."""
    async with world() as here:
        now = await here.engine.reconciliation.now()
        here.record(Sending(7, now - 100), Lost(now - 100, "no response"))
        here.store.write_note(LAST_LOOK, repr(now - ago))
        before = len(here.service.requests)
        await here.engine.reconciliation.reconcile(here.item)
        assert (len(here.service.requests) > before) == looks


@pytest.mark.parametrize(
    ("age", "state"), [(MAX_HELD_AGE - 60, "accepted"), (MAX_HELD_AGE + 60, "held")]
)
async def test_a_held_create_is_looked_for_during_a_day(age: float, state: str) -> None:
    async with world() as here:
        entry = (await here.run(Action.WAIT)).entry
        now = await here.engine.reconciliation.now()
        held = attrs.evolve(
            entry, state="held", track_id=None, accepts=0, lost_at=now - age
        )
        here.store.record(here.item, held)
        here.store.add([ItemFactory().item(Row(request=GenerationRequest("snow")))])
        lost = Entry(state="unknown", seed=2, sent_at=now, lost_at=now)
        here.store.record(here.store.get(2), lost)
        await here.engine.reconciliation.reconcile(here.store.get(2))
        assert here.item.entry.state == state


async def test_the_list_is_read_back_to_the_first_create_that_is_in_doubt() -> None:
    async with world() as here:
        entry = (await here.run(Action.WAIT)).entry
        lost = attrs.evolve(
            entry, state="unknown", track_id=None, accepts=0, lost_at=entry.sent_at
        )
        here.store.record(here.item, lost)
        here.service.load({"tracks": [{"prompt": "of others"}] * 250})
        await anyio.sleep(7200)
        here.store.add([ItemFactory().item(Row(request=GenerationRequest("snow")))])
        now = await here.engine.reconciliation.now()
        recent = Entry(state="unknown", seed=2, sent_at=now, lost_at=now)
        here.store.record(here.store.get(2), recent)
        before = here.service.count(method="GET", path=CREATES)
        await here.engine.reconciliation.reconcile(here.item, here.store.get(2))
        assert here.item.entry.track_id == entry.track_id
        pages = here.service.count(method="GET", path=CREATES) - before
        assert pages == 3, "at the first reading"


async def test_only_a_create_that_looks_alike_is_in_the_way_of_another() -> None:
    async with world() as here:
        factory = ItemFactory()
        for seed in (7, 8, 7):
            row = Row(request=GenerationRequest("wind", seed=seed))
            here.store.add([factory.item(row)])
        here.store.record(here.store.get(2), Entry(state="unknown", seed=7))

        async def is_blocked(seq: int) -> bool:
            reconciliation = here.engine.reconciliation
            return await reconciliation.lookalike_is_in_doubt(here.store.get(seq))

        assert [await is_blocked(seq) for seq in (1, 2, 3, 4)] == [0, 0, 0, 1]


async def test_credits_are_read_now_and_then_and_soon_after_a_failure() -> None:
    async with world() as here:
        reconciliation, reads = here.engine.reconciliation, []
        soon = FAILURE_AFTER * SETTLE + 1
        for seconds, at_once in [
            (0.0, False),
            (soon, False),
            (0.0, True),
            (BASELINE_EVERY * SETTLE - 10, False),
            (11.0, False),
        ]:
            await anyio.sleep(seconds)
            await reconciliation.advance_baseline(at_once=at_once)
            reads.append(here.service.count(path="/v1/me"))
        assert reads == [1, 1, 2, 2, 3]
        here.record(Sending(7, 0.0), Accepted("gone"), Ended(True, None, "X", "no"))
        await here.engine.journal.refresh_counts()
        await reconciliation.advance_baseline()
        assert here.service.count(path="/v1/me") == 3
        await anyio.sleep(soon)
        await reconciliation.advance_baseline()
        assert here.service.count(path="/v1/me") == 4


async def test_credits_that_cannot_be_read_are_read_again_the_next_time() -> None:
    async with world() as here:
        await here.run(Action.WAIT)
        here.service.add_fault(Fault("status", "/v1/me", status=500, times=None))
        before = here.service.count(path=CREATES)
        await here.engine.reconciliation.advance_baseline(at_once=True)
        assert here.service.count(path=CREATES) == before
        here.service.clear_faults()
        await here.engine.reconciliation.advance_baseline(at_once=True)
        assert here.service.count(path=CREATES) > before


async def test_credits_read_as_a_create_is_lost_are_compared_with_no_listing() -> None:
    async with world() as here:
        await here.run(Action.WAIT)
        here.store.add([ItemFactory().item(Row(request=GenerationRequest("snow")))])
        here.service.add_fault(Fault("delay", "/v1/me", seconds=5))
        before = here.service.count(path=CREATES)
        read = partial(here.engine.reconciliation.advance_baseline, at_once=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.sleep(2)
            for event in (Sending(2, 1.0), Lost(2.0, "no response")):
                item = here.store.get(2)
                here.store.record(item, step(item.entry, event)[0])
        assert here.service.count(path=CREATES) == before


@pytest.mark.parametrize(
    ("ago", "state"), [(10.0, "unknown"), (STUCK_AFTER * SETTLE + 60, "held")]
)
async def test_nothing_is_held_while_a_track_of_ours_is_expected_to_end(
    ago: float, state: str
) -> None:
    """Its end may be what the comparison of the credits waits for."""
    async with world() as here:
        here.store.add([ItemFactory().item(Row(request=GenerationRequest("snow")))])
        now = await here.engine.reconciliation.now()
        running = Entry(state="accepted", seed=2, sent_at=now - ago, track_id="two")
        here.store.record(here.store.get(2), running)
        lost_at = now - SETTLE - 60
        here.record(Sending(7, lost_at), Lost(lost_at, "no response"))
        await here.engine.reconciliation.reconcile()
        assert here.item.entry.state == state


@pytest.mark.parametrize(
    ("flying_since", "state"), [(20.0, "unknown"), (5.0, "accepted")]
)
async def test_a_track_that_may_be_of_a_create_in_flight_is_given_to_no_doubt(
    flying_since: float, state: str
) -> None:
    """Of two that look alike the one that was sent first takes the first track."""
    async with world() as here:
        factory, request = ItemFactory(), GenerationRequest("wind", seed=7)
        here.store.add([factory.item(Row(request=request)) for _ in range(2)])
        service = here.engine.service
        submission = service.new_submission(request, validate=True)
        now = await here.engine.reconciliation.now()
        await service.submit(submission, None)
        lost = Entry(state="unknown", seed=7, sent_at=now - 10, lost_at=now - 1)
        here.store.record(here.store.get(2), lost)
        flying = Entry(state="sending", seed=7, sent_at=now - flying_since)
        here.store.record(here.store.get(3), flying)
        await here.engine.reconciliation.reconcile(here.store.get(2))
        assert here.store.get(2).entry.state == state
        assert here.store.get(3).entry.state == "sending"


@pytest.mark.parametrize("is_alive", [True, False])
async def test_what_a_process_was_sending_is_in_doubt_once_that_has_died(
    *, is_alive: bool
) -> None:
    async with world() as here:
        here.store.add([ItemFactory().item(Row(request=GenerationRequest("snow")))])
        now = await here.engine.reconciliation.now()
        here.record(Claimed("it"), Sending(7, now))
        if is_alive:
            here.store.beat("it", 60.0)
        lost = Entry(state="unknown", seed=2, sent_at=now, lost_at=now)
        here.store.record(here.store.get(2), lost)
        await here.engine.reconciliation.reconcile(here.store.get(2))
        assert here.item.entry.state == ("sending" if is_alive else "unknown")


async def test_the_account_is_asked_for_the_time_if_nothing_has_been_heard() -> None:
    async with world() as here:
        for _ in range(2):
            await here.engine.reconciliation.now()
            assert here.service.count() == 1


async def test_a_look_reads_no_page_that_is_older_than_what_is_in_doubt() -> None:
    async with world() as here:
        for number in range(300):
            here.service.add_track(f"song {number}")
        await anyio.sleep(86_400)
        now = await here.engine.reconciliation.now()
        for event in (Sending(7, at=now), Lost(now, "no response")):
            item = here.store.get(1)
            here.store.record(item, step(item.entry, event)[0])
        await here.engine.reconciliation.reconcile(here.item)
        assert here.service.count(method="GET", path=CREATES) == 1
