"""What the client's journal knows: `client.journal`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetuning_async._resources._other_names import NamesOurs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from finetuning_async._api import AnyRequest
    from finetuning_async._session import Session
    from finetuning_async.journal import JournalEntry, State


class ClientJournal(NamesOurs):
    """What became of the creates of this account: ``client.journal``.

    Example:
        async with AsyncClient(journal="tracks.db") as client:
            await client.generate("rain", idempotency_key="order-42")
            entry = await client.journal.get("order-42")
            assert entry is not None
            print(entry.state, await client.journal.find(str(entry.generation_id)))
            async for entry in client.journal.entries():
                print(entry.key, entry.state, entry.credits)
            print([entry.key for entry in await client.journal.newest("order-")])
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

    async def find(self, generation_id: str) -> JournalEntry | None:
        """The entry whose track has this id; `None` if there is none.

        Args:
            generation_id: The id of a track or a sound effect.

        Raises:
            JournalError: The journal cannot be read.
            FinetuningError: The account could not be read.
        """
        return await self._session().recorder().journal.find(generation_id)

    async def add(
        self, request: AnyRequest, *, share: str | None = None
    ) -> JournalEntry:
        """Record what is to be created, and send nothing.

            request = GenerationRequest("rain", idempotency_key="order-42")
            async with AsyncClient(journal="tracks.db") as client:
                await client.journal.add(request)  # from here on it is not forgotten
                track = await client.resume("order-42")

        `AsyncClient.resume` with its key creates it, as does
        `AsyncClient.resume_all`, in this process or a later one.

        Args:
            request: What to create, with its `idempotency_key`; without a query in its
                webhook.
            share: For whom it is; `None` for the client's.

        Returns:
            Its entry; the one that there is, if the key is known.

        Raises:
            InvalidRequestError: A parameter is out of its range, or there is no key.
            IdempotencyConflictError: The key is known with other content.
            JournalError: The journal cannot be written.
            FinetuningError: The account could not be read.
        """
        return await self._session().recorder().journal.add(request, share)

    async def newest(
        self, prefix: str = "", *, before: str | None = None, limit: int = 50
    ) -> list[JournalEntry]:
        """The entries whose keys begin with `prefix`, the last added first.

        Args:
            prefix: The beginning of their keys, such as an end user's id and a colon.
            before: A key: only entries that were added before its entry.
            limit: The most to return, at least 1.

        Raises:
            InvalidRequestError: `before` is not the key of an entry, or `limit` is out
                of its range.
            JournalError: The journal cannot be read.
            FinetuningError: The account could not be read.
        """
        return await self._session().recorder().journal.newest(prefix, before, limit)

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
