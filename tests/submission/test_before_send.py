"""`before_send`: awaited with the permit held, before the first byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    GenerationRequest,
)
from finetuning_async.emulator import Emulator
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._session._session import Session
    from finetuning_async._submission._submission import Submission


class JournalBrokenError(Exception):
    """An exception of the hook."""


def order_of(
    client: AsyncClient, before_send: Callable[[], Awaitable[None]], **options: Any
) -> tuple[Session, Submission]:
    session = client._session()
    request = GenerationRequest(tags="rain")
    order = session.new_submission(
        request, validate=True, before_send=before_send, **options
    )
    return session, order


def creates_left(client: AsyncClient) -> int | None:
    return client.rate_limit_status().creates.available


async def test_it_is_awaited_with_the_permit_held_before_the_first_byte() -> None:
    async with emulated() as (emulator, client):
        seen: list[tuple[int, float]] = []

        async def before_send() -> None:
            await anyio.sleep(1)
            in_hand = client.rate_limit_status().creates.next_free_in
            seen.append((emulator.count(method="POST"), in_hand))

        session, order = order_of(client, before_send)
        await session.submit(order, None)
        assert len(seen) == 1
        assert seen[0][0] == 0
        assert seen[0][1] > 0  # the first of a fresh account goes alone: it holds it


async def test_it_is_awaited_for_each_attempt() -> None:
    service = Emulator(creates_per_minute=1)
    async with emulated(service, rate_limits=None) as (emulator, client):
        await client.generations.create("uses the minute up")
        posts: list[int] = []

        async def before_send() -> None:
            posts.append(emulator.count(method="POST"))

        session, order = order_of(client, before_send)
        await session.submit(order, None)
        assert posts == [1, 2]


async def test_if_it_raises_nothing_is_sent_and_the_permit_is_returned() -> None:
    async with emulated() as (emulator, client):
        await client.generations.create("the first")
        left = creates_left(client)

        async def before_send() -> None:
            assert creates_left(client) == left - 1 if left else False
            raise JournalBrokenError

        session, order = order_of(client, before_send)
        with pytest.raises(JournalBrokenError):
            await session.submit(order, None)
        assert creates_left(client) == left
        assert emulator.count(method="POST") == 1
        assert order.in_doubt_since is None
        assert list(session.account.inflight.tracks) == list(emulator.tracks)


async def test_cancelled_in_it_nothing_is_sent_and_the_permit_is_returned() -> None:
    async with emulated() as (emulator, client):
        await client.generations.create("the first")
        left = creates_left(client)
        session, order = order_of(client, anyio.sleep_forever)
        with anyio.move_on_after(2) as scope:
            await session.submit(order, None)
        assert scope.cancelled_caught
        assert creates_left(client) == left
        assert emulator.count(method="POST") == 1
        assert session.unknown_error(order, "it was cancelled") is None


async def test_a_timeout_in_it_is_an_error_that_is_safe_to_retry() -> None:
    async with emulated() as (emulator, client):
        await client.generations.create("the first")
        left = creates_left(client)
        session, order = order_of(client, anyio.sleep_forever)
        with pytest.raises(APITimeoutError) as caught:
            await session.submit(order, 3)
        assert caught.value.safe_to_retry
        assert "nothing was sent" in str(caught.value)
        assert creates_left(client) == left
        assert emulator.count(method="POST") == 1


async def test_a_caller_cancelled_while_it_finished_sends_nothing() -> None:
    async with emulated() as (emulator, client):
        scope = anyio.CancelScope()

        async def before_send() -> None:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)

        session, order = order_of(client, before_send)
        with scope:
            await session.submit(order, None)
        assert scope.cancelled_caught
        assert emulator.count(method="POST") == 0
        assert creates_left(client) is not None
        await client.generations.create("the permit is there for the next")


async def test_a_first_byte_that_is_too_late_does_not_leave() -> None:
    async with emulated() as (emulator, client):
        posts: list[int] = []

        async def before_send() -> None:
            # The first attempt is halted for longer than it may take, as by a debugger.
            order.send_by = anyio.current_time() + (1 if posts else -1)
            posts.append(emulator.count(method="POST"))

        session, order = order_of(client, before_send)
        track = await session.submit(order, None)
        assert posts == [0, 0]
        assert list(emulator.tracks) == [track.id]


async def test_one_that_is_always_too_late_is_an_error_that_is_safe_to_retry() -> None:
    async with emulated() as (emulator, client):

        async def before_send() -> None:
            order.send_by = anyio.current_time() - 1

        session, order = order_of(client, before_send)
        with pytest.raises(APIConnectionError, match="given up before its") as caught:
            await session.submit(order, None)
        assert caught.value.safe_to_retry
        assert order.in_doubt_since is None
        assert not emulator.count(method="POST")
