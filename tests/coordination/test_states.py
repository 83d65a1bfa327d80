"""What every store does with the states that it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

if TYPE_CHECKING:
    from tests.coordination._store_setups import Processes


def added(state: str | None, now: float) -> tuple[str, int]:
    """Add a dot, and return how many there are."""
    after = f"{state or ''}."
    return after, len(after)


def unchanged(state: str | None, now: float) -> tuple[str, float]:
    return state or "", now


async def test_a_state_is_none_at_first_and_then_the_last_one_written(
    processes: Processes,
) -> None:
    first, second = processes.connect(), processes.connect()
    assert await first.update("limits", lambda state, _: ("one", state)) is None
    assert await second.update("limits", lambda state, _: ("two", state)) == "one"
    assert await first.update("limits", lambda state, _: ("two", state)) == "two"


async def test_states_of_two_names_are_independent(processes: Processes) -> None:
    store = processes.connect()
    await store.update("limits", added)
    assert await store.update("polling", added) == 1
    assert await store.update("limits", added) == 2


async def test_no_concurrent_write_is_lost(processes: Processes) -> None:
    stores = [processes.connect() for _ in range(8)]
    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(stores[number % 8].update, "limits", added)
    assert await stores[0].update("limits", added) == 41


async def test_a_step_that_raises_changes_nothing(processes: Processes) -> None:
    def failing(state: str | None, now: float) -> tuple[str, None]:
        raise ValueError(state)

    store = processes.connect()
    await store.update("limits", added)
    with pytest.raises(ValueError, match=r"^\.$"):
        await store.update("limits", failing)
    with anyio.fail_after(1):
        assert await store.update("limits", added) == 2


async def test_steps_are_given_the_stores_clock(processes: Processes) -> None:
    first, second = processes.connect(), processes.connect()
    begun = await first.update("limits", unchanged)
    await anyio.sleep(10)
    assert await second.update("limits", unchanged) - begun == pytest.approx(
        10, abs=0.1
    )
