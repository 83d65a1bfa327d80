"""A create that waits for a request slot: cancelled there, or there for too long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import AsyncClient, GenerationRequest
from finetuning_async._http._concurrency import Slots
from tests._raw_server import KEY, Asked, created, response, row, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    Held = tuple[AsyncClient, list[str], anyio.Event]
    Cancel = Callable[[Awaitable[object]], Awaitable[None]]

pytestmark = [pytest.mark.real_time, pytest.mark.sampled(2)]
BURST = ("X-RateLimit-Limit: 10", "X-RateLimit-Remaining: 9")


@pytest.fixture
async def client_and_prompts() -> AsyncGenerator[Held]:
    """A client whose only slot is held by a create, the prompts sent, and its end."""
    hangs, ends = anyio.Event(), anyio.Event()
    prompts: list[str] = []

    async def answer(asked: Asked) -> bytes:
        prompts.append(asked.body["tags"])
        track = created(row(asked, len(prompts)))
        if asked.body["tags"] == "first":
            return response(202, {"data": row(asked, 1)}, *BURST)
        hangs.set()
        await ends.wait()
        return track

    async with serving(answer) as server:
        async with AsyncClient(KEY, base_url=server.url) as client:
            await client.generations.create("first")  # its headers allow a burst
            client._session().account.concurrency.creates = Slots(1)
            async with anyio.create_task_group() as group:
                group.start_soon(client.generations.create, "hangs")
                with anyio.fail_after(5):
                    await hangs.wait()
                yield client, prompts, ends
                ends.set()


async def by_scope(call: Awaitable[object]) -> None:
    with anyio.move_on_after(0.2):
        await call


async def by_asyncio_timeout(call: Awaitable[object]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await call


async def by_task_cancel(call: Awaitable[object]) -> None:
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("cancel", [by_scope, by_asyncio_timeout, by_task_cancel])
async def test_it_ends_at_once_unsent_and_its_permit_comes_back(
    client_and_prompts: Held,
    cancel: Cancel,
    anyio_backend_name: str,
) -> None:
    if cancel is not by_scope and anyio_backend_name != "asyncio":
        pytest.skip("trio has no cancellation but its scopes")
    client, prompts, _ = client_and_prompts
    before = client.rate_limit_status().creates.available
    began = anyio.current_time()
    await cancel(client.generations.create("late"))
    assert anyio.current_time() - began < 2  # a create that was sent has 5 s of grace
    assert prompts == ["first", "hangs"]
    assert client.rate_limit_status().creates.available == before


async def test_one_that_waited_too_long_asks_again_before_its_first_byte(
    client_and_prompts: Held,
) -> None:
    client, prompts, ends = client_and_prompts
    session = client._session()
    asked: list[list[str]] = []

    async def before_send() -> None:
        asked.append(prompts.copy())
        late.send_by = anyio.current_time() + 0.2

    request = GenerationRequest("late")
    late = session.new_submission(request, validate=True, before_send=before_send)

    async def create() -> None:
        await session.submit(late, None)

    async with anyio.create_task_group() as group:
        group.start_soon(create)
        await anyio.sleep(0.5)
        ends.set()
    assert asked == [["first", "hangs"]] * 2
    assert prompts == ["first", "hangs", "late"]
