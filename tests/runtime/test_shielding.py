"""`ShieldedCall`: shielded work survives every kind of cancellation; nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import weakref
from functools import partial
from math import inf

import anyio
import pytest

from finetuning_async._runtime._shielding import GRACE, ShieldedCall, run_to_completion
from tests._cancellations import (
    CANCELLERS,
    STEP_CANCELLERS,
    Canceller,
    cancel_at_step,
    run_loop,
)


class Work:
    """Work of 3 s, the middle second of which is shielded."""

    def __init__(self, *, shielded_for: float = 1.0) -> None:
        self.shielded_for = shielded_for
        self.log: list[str] = []
        self.ended_at = inf

    async def __call__(self, call: ShieldedCall[str]) -> str:
        await anyio.sleep(1)
        self.log.append("begun")
        try:
            with call.shielded():
                await anyio.sleep(self.shielded_for)
                self.log.append("shielded part done")
        finally:
            self.ended_at = anyio.current_time()
        await anyio.sleep(1)
        self.log.append("all done")
        return "result"


@pytest.mark.parametrize("canceller", CANCELLERS, ids=str)
def test_a_shielded_part_runs_to_its_end(canceller: Canceller) -> None:
    work = Work()

    async def main() -> None:
        assert await canceller.run(ShieldedCall(work).run, 1.5)

    run_loop(canceller.loop, main)
    assert work.log == ["begun", "shielded part done"]
    assert work.ended_at == pytest.approx(2.0, abs=0.001)


@pytest.mark.parametrize("canceller", CANCELLERS, ids=str)
def test_an_unshielded_part_is_cancelled_at_once(canceller: Canceller) -> None:
    work = Work()

    async def main() -> None:
        assert await canceller.run(ShieldedCall(work).run, 0.5)
        assert anyio.current_time() < 0.6

    run_loop(canceller.loop, main)
    assert work.log == []


@pytest.mark.parametrize("canceller", CANCELLERS, ids=str)
def test_the_grace_is_five_seconds(canceller: Canceller) -> None:
    work = Work(shielded_for=1000)

    async def main() -> None:
        assert await canceller.run(ShieldedCall(work).run, 1.5)

    run_loop(canceller.loop, main)
    assert work.log == ["begun"]
    assert work.ended_at == pytest.approx(1.5 + GRACE, abs=0.1)


@pytest.mark.parametrize("canceller", CANCELLERS, ids=str)
def test_run_to_completion_has_no_time_limit(canceller: Canceller) -> None:
    done: list[str] = []

    async def work() -> None:
        await anyio.sleep(100)
        done.append("done")

    async def main() -> None:
        assert await canceller.run(lambda: run_to_completion(work), 1)
        assert done == ["done"]

    run_loop(canceller.loop, main)


@pytest.mark.parametrize("canceller", STEP_CANCELLERS)
def test_a_call_cancelled_at_any_step_completes_its_shielded_part(
    canceller: str,
) -> None:
    step, reached = 0, True
    while reached:
        step += 1
        work = Work()

        async def main(run_cancelled: object, work: Work = work) -> None:
            before = _tasks()
            outcome = await run_cancelled(ShieldedCall(work).run)  # type: ignore[operator] # typed loosely
            assert outcome.cancelled or work.log[-1:] == ["all done"]
            assert _tasks() == before

        reached = cancel_at_step(canceller, step, main)  # type: ignore[arg-type] # a literal
        if "begun" in work.log:
            assert "shielded part done" in work.log
    assert step > 5


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


async def test_results_and_errors_are_passed_on_unchanged() -> None:
    async def fail(_: ShieldedCall[None]) -> None:
        raise KeyError("as it is")

    assert await ShieldedCall(Work()).run() == "result"
    with pytest.raises(KeyError, match="as it is") as caught:
        await ShieldedCall(fail).run()
    assert caught.value.__context__ is None


async def test_a_caller_that_is_cancelled_already_starts_nothing() -> None:
    work = Work()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await ShieldedCall(work).run()
    assert scope.cancelled_caught
    await anyio.sleep(10)
    assert work.log == []


async def test_a_call_ends_when_work_and_meanwhile_have_ended() -> None:
    async def shorter(call: ShieldedCall[str]) -> None:
        await anyio.sleep(1)
        assert not call.is_done

    async def longer(call: ShieldedCall[str]) -> None:
        await anyio.sleep(5)
        assert call.is_done

    for meanwhile, seconds in ((shorter, 3), (longer, 5)):
        began = anyio.current_time()
        assert await ShieldedCall(Work()).run(meanwhile) == "result"
        assert anyio.current_time() - began == pytest.approx(seconds, abs=0.001)


async def test_an_error_in_meanwhile_cancels_unshielded_work_and_is_raised() -> None:
    async def fail(_: ShieldedCall[str]) -> None:
        await anyio.sleep(1.5)
        raise KeyError("meanwhile")

    work = Work()
    with pytest.raises(KeyError, match="meanwhile"):
        await ShieldedCall(work).run(fail)
    assert work.log == ["begun", "shielded part done"]
    assert anyio.current_time() == pytest.approx(2.0, abs=0.001)


@pytest.mark.parametrize("seconds", [0, 2], ids=["earlier", "later"])
async def test_an_error_of_the_work_takes_precedence(seconds: float) -> None:
    async def work(call: ShieldedCall[None]) -> None:
        with call.shielded():
            await anyio.sleep(seconds)
            raise ValueError("the work's")

    async def fail(_: ShieldedCall[None]) -> None:
        await anyio.sleep(1)
        raise KeyError("meanwhile")

    with pytest.raises(ValueError, match="the work's"):
        await ShieldedCall(work).run(fail)


@pytest.mark.parametrize("canceller", CANCELLERS, ids=str)
def test_a_cancellation_after_meanwhile_has_ended_starts_the_grace(
    canceller: Canceller,
) -> None:
    work = Work(shielded_for=1000)

    async def meanwhile(_: ShieldedCall[str]) -> None:
        await anyio.sleep(1.2)

    async def main() -> None:
        assert await canceller.run(lambda: ShieldedCall(work).run(meanwhile), 1.5)

    run_loop(canceller.loop, main)
    assert work.ended_at == pytest.approx(1.5 + GRACE, abs=0.1)


async def test_run_to_completion_starts_in_a_cancelled_scope() -> None:
    done: list[str] = []

    async def work() -> None:
        await anyio.sleep(1)
        done.append("done")

    with anyio.CancelScope() as scope:
        scope.cancel()
        await run_to_completion(work)
    assert done == ["done"]


@pytest.mark.parametrize("native", [False, True], ids=["scope", "task"])
def test_a_caller_cancelled_in_the_same_tick_starts_nothing(*, native: bool) -> None:
    """The child runs before the caller does, and must not start anything."""
    begun: list[str] = []

    async def main() -> None:
        permit, scope = asyncio.Event(), anyio.CancelScope()

        async def work(call: ShieldedCall[None]) -> None:
            await permit.wait()
            await call.checkpoint()
            with call.shielded():
                begun.append("begun")

        async def call() -> None:
            with scope:
                await ShieldedCall(work).run()

        task = asyncio.ensure_future(call())
        await asyncio.sleep(1)
        permit.set()
        task.cancel() if native else scope.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or scope.cancelled_caught

    run_loop("asyncio", main)
    assert begun == []


def test_a_cancellation_of_the_task_takes_precedence_over_a_scope() -> None:
    async def main() -> None:
        async def call() -> None:
            with anyio.move_on_after(1.2):
                await ShieldedCall(Work()).run()
            pytest.fail("the scope took the task's cancellation for its own")

        task = asyncio.ensure_future(call())
        await asyncio.sleep(1.5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run_loop("asyncio", main)


def test_an_error_that_is_not_raised_is_not_kept_alive() -> None:
    class Unraised(Exception):  # noqa: N818 - the name of a test
        pass

    kept: list[weakref.ref[Unraised]] = []

    async def work(call: ShieldedCall[None]) -> None:
        with call.shielded():
            await anyio.sleep(1)
            error = Unraised()
            kept.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

    async def main() -> None:
        with anyio.move_on_after(0.5):
            await ShieldedCall(work).run()

    gc.collect()
    gc.disable()
    try:
        run_loop("asyncio", main)
        assert kept[0]() is None
    finally:
        gc.enable()


async def test_unshielded_work_is_cancelled_at_once() -> None:
    async def work(call: ShieldedCall[None]) -> None:
        with call.shielded():
            await anyio.sleep(1)
            call.unshield()
            await anyio.sleep_forever()

    with anyio.move_on_after(2):
        await ShieldedCall(work).run()
    assert anyio.current_time() == pytest.approx(2, abs=0.001)


async def test_an_earlier_cancellation_takes_effect_when_the_work_is_unshielded() -> (
    None
):
    async def work(call: ShieldedCall[None]) -> None:
        with call.shielded():
            await anyio.sleep(1)
            assert call.caller_cancelled
            call.unshield()
            await anyio.sleep_forever()

    with anyio.move_on_after(0.5):
        await ShieldedCall(work).run()
    assert anyio.current_time() == pytest.approx(1, abs=0.001)


def test_a_child_that_is_cancelled_from_outside_ends_the_call() -> None:
    async def main(after: float) -> None:
        call = asyncio.ensure_future(ShieldedCall(Work()).run())
        await asyncio.sleep(after)
        mine = {call, asyncio.current_task()}
        for task in asyncio.all_tasks() - mine:
            task.cancel()
        await asyncio.wait([call])
        assert call.cancelled()

    for after in (0.0, 0.5, 1.5):
        run_loop("asyncio", partial(main, after))
    gc.collect()
