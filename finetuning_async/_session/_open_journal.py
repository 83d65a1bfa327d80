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
import attrs

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


@attrs.define(eq=False)
class _LetGo:
    """The work that lets go of the entry of a call that has failed.

    Attributes:
        work: Says whether it could.
        is_done: Whether it has.
    """

    work: Callable[[], bool]
    is_done: bool = False

    def run(self) -> None:
        """Do it; in the journal's thread."""
        is_done = True  # also if it raises what no store should raise
        try:
            is_done = self.work()
        finally:
            self.is_done = is_done


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
    """

    def __init__(self, journal: Journal) -> None:
        self.journal: Journal = journal
        self.holder: str = f"{os.getpid()}-{secrets.token_hex(8)}"
        self.locks: KeyedLock = KeyedLock()
        self.credits_read_at: float = -inf
        self.first_reading: anyio.Lock = anyio.Lock()
        # By key. Only the loop changes it, never the thread: what the thread would add
        # after its key was asked for again would let go of the next call's entry.
        self._to_let_go: dict[str, _LetGo] = {}
        self._beater = anyio.Lock()
        self._beaten_at = -inf

    async def find(self, key: str) -> Item | None:
        """The entry of a key as it is now."""
        return await self.journal.call(self.journal.store.find_key, key)

    async def is_alive(self, holder: str) -> bool:
        """Whether a holder was heard of within the last `LEASE` seconds."""
        return await self.journal.call(self.journal.store.is_alive, holder)

    async def let_go(self, key: str, work: Callable[[], bool]) -> None:
        """Let go of the entry of a call that has failed.

        Work that could not, as on a full disk, is done again with each beat, until
        `keep`. What does not respond is waited for only briefly: see `Job.linger`.

        Args:
            key: The key.
            work: Called in the journal's thread; says whether it could.
        """
        self._to_let_go[key] = one = _LetGo(work)
        await self.journal.start(one.run).linger()
        self._drop_done()

    def keep(self, key: str) -> None:
        """A call asks for a key again: what it starts from here on stays."""
        self._to_let_go.pop(key, None)

    def _drop_done(self) -> None:
        left = {key: one for key, one in self._to_let_go.items() if not one.is_done}
        self._to_let_go = left

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
        self._drop_done()

    def _beat_here(self) -> None:
        self.journal.store.beat(self.holder, LEASE)
        self._let_go_again()

    def _let_go_again(self) -> None:
        for one in list(self._to_let_go.values()):
            if not one.is_done:
                one.run()

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
