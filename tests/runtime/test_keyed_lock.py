"""`KeyedLock`: one task at a time for each key, in order."""

from __future__ import annotations

import anyio

from finetuning_async._runtime._keyed_lock import KeyedLock


async def test_tasks_with_one_key_run_one_after_another_in_order() -> None:
    locks, done = KeyedLock(), list[str]()

    async def hold(name: str) -> None:
        await locks.acquire((name[0],))
        done.append(name)
        await anyio.sleep(1)
        locks.release((name[0],))

    async with anyio.create_task_group() as group:
        for name in ("a1", "b1", "a2", "a3"):
            group.start_soon(hold, name)
            await anyio.sleep(0.01)
        assert done == ["a1", "b1"]
        assert repr(locks) == "<KeyedLock held=2>"
    assert done == ["a1", "b1", "a2", "a3"]
    assert not locks._waiting


async def test_a_cancelled_waiter_passes_the_lock_on() -> None:
    locks, key = KeyedLock(), ("a",)
    done: list[str] = []

    async def wait_for_it(scope: anyio.CancelScope) -> None:
        with scope:
            await locks.acquire(key)
            locks.release(key)  # it got the lock before its cancellation arrived

    async def follow() -> None:
        await locks.acquire(key)
        done.append("next")
        locks.release(key)

    for is_handed_over in (False, True):
        await locks.acquire(key)
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_it, scope)
            await anyio.sleep(0.01)
            group.start_soon(follow)
            await anyio.sleep(0.01)
            if is_handed_over:  # the waiter has the lock, and has not run yet
                locks.release(key)
            scope.cancel()
            await anyio.sleep(0.01)
            if not is_handed_over:
                locks.release(key)
    assert done == ["next", "next"]
    assert not locks._waiting
