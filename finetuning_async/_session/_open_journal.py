"""A journal that is open in an event loop: who holds its leases, and that it lives.

A lease says who alone may send the create of an entry. Its holder is one client in one
event loop. It *beats*: every `BEAT_EVERY` seconds it records that it lives, as long as
one of its calls may have a create that is not accepted yet. A holder that was not heard
of for `LEASE` seconds is taken for dead, and others take over.

No task of its own beats, since nothing would end it: each such call has a child task
that waits for one lock, and the one that has the lock beats for all.
"""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async._errors import FinetuningError
from finetuning_async._runtime import KeyedLock, ShieldedCall, ShieldedGroup, Wakeup

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from finetuning_async.journal import Item, Journal

logger = logging.getLogger("finetuning_async")

BEAT_EVERY: Final = 1.5
"""Seconds between two beats of a holder."""

LEASE: Final = 6.0
"""Seconds after its last beat for which a holder counts as alive."""


class OpenJournal:
    """The journal of one account in one event loop, shared by a client's views.

    Args:
        journal: The account's part of the journal.

    Attributes:
        journal: As given.
        holder: The name under which this loop holds leases.
        locks: Calls with the same key go one after another, each by what the one before
            it left in the journal.
        credits_read_at: When the credits were read last, on the loop's clock.
        first_reading: Held while they are read first.
        let_go: By key, the work in the journal's thread that could not let go of the
            entry of a call that has failed, as on a full disk: it is tried again, until
            the key is asked for again.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal: Journal = journal
        self.holder: str = f"{os.getpid()}-{secrets.token_hex(8)}"
        self.locks: KeyedLock = KeyedLock()
        self.credits_read_at: float = -inf
        self.first_reading: anyio.Lock = anyio.Lock()
        self.let_go: dict[str, Callable[[], None]] = {}
        self._beater = anyio.Lock()
        self._beaten_at = -inf

    async def find(self, key: str) -> Item | None:
        """The entry of a key as it is now."""
        return await self.journal.call(self.journal.store.find_key, key)

    async def is_alive(self, holder: str) -> bool:
        """Whether a holder was heard of within the last `LEASE` seconds."""
        return await self.journal.call(self.journal.store.is_alive, holder)

    @asynccontextmanager
    async def alive(self) -> AsyncGenerator[None]:
        """Keep this loop's leases while the block runs.

        Raises:
            JournalError: The journal cannot be written.
        """
        if anyio.current_time() - self._beaten_at >= BEAT_EVERY:
            await self._beat()
        wakeup = Wakeup()
        beating = ShieldedCall(self._keep_beating, grace=0.0, wakeup=wakeup)
        async with ShieldedGroup(wakeup) as group:
            # Most creates are accepted long before the next beat.
            group.start_at(beating, self._beaten_at + BEAT_EVERY)
            try:
                yield
            finally:
                for call in group:
                    call.cancel_after_grace()

    async def _keep_beating(self, call: ShieldedCall[None]) -> None:
        # Shielded from the scopes of the caller: a create in flight may go on for some
        # seconds after they were cancelled, and its lease must last.
        with call.shielded():
            async with self._beater:
                while True:
                    pause = self._beaten_at + BEAT_EVERY - anyio.current_time()
                    await anyio.sleep(max(pause, 0.0))
                    await self._beat_if_possible()

    async def _beat_if_possible(self) -> None:
        try:
            await self._beat()
        except FinetuningError as error:
            # Others may take over meanwhile; fencing makes that harmless.
            logger.warning(
                "this process could not renew its leases in the journal: %s", error
            )
            await anyio.sleep(BEAT_EVERY)

    async def _beat(self) -> None:
        now = anyio.current_time()
        await self.journal.call(self._beat_here)
        self._beaten_at = now

    def _beat_here(self) -> None:
        self.journal.store.beat(self.holder, LEASE)
        self._let_go_again()

    def _let_go_again(self) -> None:
        for key in list(self.let_go):
            work = self.let_go.pop(key, None)
            if work is not None:  # nobody has just asked for it again
                work()

    async def leave(self) -> None:
        """Give up all leases, as when the client closes, and end the journal's thread.

        A journal that does not respond is not waited for: others take over once the
        leases are over.
        """

        def remove() -> None:
            self._let_go_again()
            self.journal.store.remove_holder(self.holder)

        await self.journal.start(remove).linger()
        self.journal.close()
