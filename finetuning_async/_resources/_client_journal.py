"""What the client's journal knows: `client.journal`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from finetuning_async._session import Session
    from finetuning_async.journal import JournalEntry, State


class ClientJournal:
    """What became of the creates of this account: ``client.journal``.

    Example:
        async with AsyncClient(journal="tracks.db") as client:
            await client.generate("rain", idempotency_key="order-42")
            entry = await client.journal.get("order-42")
            print(entry and (entry.state, entry.generation_id))
            async for entry in client.journal.entries():
                print(entry.key, entry.state, entry.credits)
            await client.journal.forget("order-42")
    """

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session

    async def get(self, key: str) -> JournalEntry | None:
        """The entry of a key; `None` if there is none.

        Args:
            key: The key, or the generated one of a create without.

        Raises:
            InvalidRequestError: It is not a string of 1 to 255 characters.
            JournalError: The journal cannot be read.
            FinetuningError: The account could not be read.
        """
        return await self._session().recorder().journal.get(key)

    async def entries(self, state: State | None = None) -> AsyncGenerator[JournalEntry]:
        """Iterate over the entries of this account, oldest first.

        They are read a few hundred at a time, however many there are. Entries that are
        added or changed meanwhile may be missing or come in their new state.

        Args:
            state: Only those in this state: ``planned``, ``sending``, ``accepted``,
                ``completed``, ``downloaded``, ``failed``, ``unknown`` or ``held``.

        Raises:
            InvalidRequestError: There is no such state.
            JournalError: The journal cannot be read.
            FinetuningError: The account could not be read.
        """
        async for entry in self._session().recorder().journal.entries(state):
            yield entry

    async def forget(self, key: str) -> bool:
        """Delete the entry of a key, its lyrics included.

        The next create with the key costs another credit, so that a key whose entry is
        in doubt may then be paid twice: look for its track first.

        Args:
            key: The key.

        Returns:
            Whether there was one.

        Raises:
            InvalidRequestError: It is not a string of 1 to 255 characters.
            JournalError: A call is creating it right now, or the journal cannot be
                written.
            FinetuningError: The account could not be read.
        """
        return await self._session().recorder().journal.forget(key)

    async def release(self, key: str) -> None:
        """Declare that a held create made no track: its key may be paid again.

        Nothing is sent by this call. The next create with the key sends it with the
        same seed, and `AsyncClient.resume_all` does. If it did make a track, it is then
        charged twice: check with the service first.

        Args:
            key: The key.

        Raises:
            InvalidRequestError: Its entry is not held, or there is none.
            JournalError: The journal cannot be written.
            FinetuningError: The account could not be read.
        """
        await self._session().recorder().journal.release(key)
