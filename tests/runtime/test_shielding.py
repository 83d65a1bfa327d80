"""`ShieldedCall`: the call outlives every kind of cancellation; nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import weakref
from functools import partial
from math import inf

import anyio
import pytest

from finetuning_async._runtime._shielding import GRACE, ShieldedCall, run_to_completion
from tests._cancellations import MEANS, STEPS, Means, play, strike


class Deed:
    """Work of 3 s, the middle second of which is held."""

    def __init__(self, *, held_for: float = 1.0) -> None:
        self.held_for = held_for
        self.log: list[str] = []
        self.ended_at = inf

    async def __call__(self, guarded: ShieldedCall[str]) -> str:
        await anyio.sleep(1)
        self.log.append("begun")
        try:
            with guarded.shielded():
                await anyio.sleep(self.held_for)
                self.log.append("held part done")
        finally:
            self.ended_at = anyio.current_time()
        await anyio.sleep(1)
        self.log.append("all done")
        return "result"


@pytest.mark.parametrize("means", MEANS, ids=str)
def test_what_is_held_is_carried_to_its_end(means: Means) -> None:
    deed = Deed()

    async def main() -> None:
        assert await means.run(ShieldedCall(deed).run, 1.5)

    play(means.loop, main)
    assert deed.log == ["begun", "held part done"]
    assert deed.ended_at == pytest.approx(2.0, abs=0.001)


@pytest.mark.parametrize("means", MEANS, ids=str)
def test_what_is_not_held_is_cancelled_at_once(means: Means) -> None:
    deed = Deed()

    async def main() -> None:
        assert await means.run(ShieldedCall(deed).run, 0.5)
        assert anyio.current_time() < 0.6

    play(means.loop, main)
    assert deed.log == []


@pytest.mark.parametrize("means", MEANS, ids=str)
def test_the_grace_is_five_seconds(means: Means) -> None:
    deed = Deed(held_for=1000)

    async def main() -> None:
        assert await means.run(ShieldedCall(deed).run, 1.5)

    play(means.loop, main)
    assert deed.log == ["begun"]
    assert deed.ended_at == pytest.approx(1.5 + GRACE, abs=0.1)


@pytest.mark.parametrize("means", MEANS, ids=str)
def test_work_without_a_bound_is_carried_to_its_end(means: Means) -> None:
    done: list[str] = []

    async def work() -> None:
        await anyio.sleep(100)
        done.append("done")

    async def main() -> None:
        assert await means.run(lambda: run_to_completion(work), 1)
        assert done == ["done"]

    play(means.loop, main)


@pytest.mark.parametrize("means", STEPS)
def test_no_step_is_without_guard(means: str) -> None:
    step, reached = 0, True
    while reached:
        step += 1
        deed = Deed()

        async def main(struck: object, deed: Deed = deed) -> None:
            before = _tasks()
            outcome = await struck(ShieldedCall(deed).run)  # type: ignore[operator] # typed loosely
            assert outcome.cancelled or deed.log[-1:] == ["all done"]
            assert _tasks() == before

        reached = strike(means, step, main)  # type: ignore[arg-type] # a literal
        if "begun" in deed.log:
            assert "held part done" in deed.log
    assert step > 5


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


async def test_a_result_and_an_error_come_as_they_are() -> None:
    async def fail(_: ShieldedCall[None]) -> None:
        raise KeyError("as it is")

    assert await ShieldedCall(Deed()).run() == "result"
    with pytest.raises(KeyError, match="as it is") as caught:
        await ShieldedCall(fail).run()
    assert caught.value.__context__ is None


async def test_a_caller_that_was_cancelled_before_begins_nothing() -> None:
    deed = Deed()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await ShieldedCall(deed).run()
    assert scope.cancelled_caught
    await anyio.sleep(10)
    assert deed.log == []


async def test_a_call_ends_when_the_work_and_what_is_beside_it_have_ended() -> None:
    async def shorter(guarded: ShieldedCall[str]) -> None:
        await anyio.sleep(1)
        assert not guarded.is_done

    async def longer(guarded: ShieldedCall[str]) -> None:
        await anyio.sleep(5)
        assert guarded.is_done

    for beside, seconds in ((shorter, 3), (longer, 5)):
        began = anyio.current_time()
        assert await ShieldedCall(Deed()).run(beside) == "result"
        assert anyio.current_time() - began == pytest.approx(seconds, abs=0.001)


async def test_an_error_beside_it_cuts_off_what_is_not_held_and_comes_out() -> None:
    async def fail(_: ShieldedCall[str]) -> None:
        await anyio.sleep(1.5)
        raise KeyError("beside it")

    deed = Deed()
    with pytest.raises(KeyError, match="beside it"):
        await ShieldedCall(deed).run(fail)
    assert deed.log == ["begun", "held part done"]
    assert anyio.current_time() == pytest.approx(2.0, abs=0.001)


@pytest.mark.parametrize("seconds", [0, 2], ids=["earlier", "later"])
async def test_of_two_errors_that_of_the_work_comes_out(seconds: float) -> None:
    async def work(guarded: ShieldedCall[None]) -> None:
        with guarded.shielded():
            await anyio.sleep(seconds)
            raise ValueError("the work's")

    async def fail(_: ShieldedCall[None]) -> None:
        await anyio.sleep(1)
        raise KeyError("beside it")

    with pytest.raises(ValueError, match="the work's"):
        await ShieldedCall(work).run(fail)


@pytest.mark.parametrize("means", MEANS, ids=str)
def test_who_only_waits_for_the_end_any_more_is_heard_too(means: Means) -> None:
    deed = Deed(held_for=1000)

    async def beside(_: ShieldedCall[str]) -> None:
        await anyio.sleep(1.2)

    async def main() -> None:
        assert await means.run(lambda: ShieldedCall(deed).run(beside), 1.5)

    play(means.loop, main)
    assert deed.ended_at == pytest.approx(1.5 + GRACE, abs=0.1)


async def test_what_is_carried_to_its_end_begins_in_a_cancelled_scope_too() -> None:
    done: list[str] = []

    async def work() -> None:
        await anyio.sleep(1)
        done.append("done")

    with anyio.CancelScope() as scope:
        scope.cancel()
        await run_to_completion(work)
    assert done == ["done"]


@pytest.mark.parametrize("native", [False, True], ids=["scope", "task"])
def test_a_caller_cancelled_in_the_tick_of_its_turn_begins_nothing(
    *, native: bool
) -> None:
    """The child has its step first, and the caller none before it."""
    begun: list[str] = []

    async def main() -> None:
        turn, scope = asyncio.Event(), anyio.CancelScope()

        async def work(guarded: ShieldedCall[None]) -> None:
            await turn.wait()
            await guarded.checkpoint()
            with guarded.shielded():
                begun.append("begun")

        async def call() -> None:
            with scope:
                await ShieldedCall(work).run()

        task = asyncio.ensure_future(call())
        await asyncio.sleep(1)
        turn.set()
        task.cancel() if native else scope.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or scope.cancelled_caught

    play("asyncio", main)
    assert begun == []


def test_a_cancellation_of_the_task_goes_before_that_of_a_scope() -> None:
    async def main() -> None:
        async def call() -> None:
            with anyio.move_on_after(1.2):
                await ShieldedCall(Deed()).run()
            pytest.fail("the scope took the task's cancellation for its own")

        task = asyncio.ensure_future(call())
        await asyncio.sleep(1.5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    play("asyncio", main)


def test_an_error_that_nobody_is_told_of_is_not_kept() -> None:
    class Gone(Exception):  # noqa: N818 - the name of a test
        pass

    kept: list[weakref.ref[Gone]] = []

    async def work(guarded: ShieldedCall[None]) -> None:
        with guarded.shielded():
            await anyio.sleep(1)
            error = Gone()
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
        play("asyncio", main)
        assert kept[0]() is None
    finally:
        gc.enable()


async def test_released_work_may_be_cancelled_at_once() -> None:
    async def work(guarded: ShieldedCall[None]) -> None:
        with guarded.shielded():
            await anyio.sleep(1)
            guarded.unshield()
            await anyio.sleep_forever()

    with anyio.move_on_after(2):
        await ShieldedCall(work).run()
    assert anyio.current_time() == pytest.approx(2, abs=0.001)


async def test_a_caller_that_left_before_the_release_is_heard_at_the_release() -> None:
    async def work(guarded: ShieldedCall[None]) -> None:
        with guarded.shielded():
            await anyio.sleep(1)
            assert guarded.caller_cancelled
            guarded.unshield()
            await anyio.sleep_forever()

    with anyio.move_on_after(0.5):
        await ShieldedCall(work).run()
    assert anyio.current_time() == pytest.approx(1, abs=0.001)


def test_a_stranger_that_cancels_the_child_ends_the_call_and_not_the_loop() -> None:
    async def main(after: float) -> None:
        call = asyncio.ensure_future(ShieldedCall(Deed()).run())
        await asyncio.sleep(after)
        mine = {call, asyncio.current_task()}
        for task in asyncio.all_tasks() - mine:
            task.cancel()
        await asyncio.wait([call])
        assert call.cancelled()

    for after in (0.0, 0.5, 1.5):
        play("asyncio", partial(main, after))
    gc.collect()
