"""Playlists and what is in them: `client.playlists`.

The service has no call to create, rename or delete one; that is done in its web app.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetuning_async._api import BulkResult, Call, Page, Playlist, parsing
from finetuning_async._errors import InvalidRequestError
from finetuning_async._resources._common import (
    READ_TIMEOUT,
    Bulk,
    Listing,
    segment,
    unique_ids,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from finetuning_async._session import Session


class Playlists:
    """Playlists: ``client.playlists``.

    A bulk call judges each track alone. What did not succeed is in the result, not
    raised, even if nothing succeeded.

    Example:
        calm, loud = await client.playlists.list()
        track = await client.generate("rain")
        result = await client.playlists.add_tracks(calm.id, [track.id])
        print(result.succeeded, (await client.playlists.get(calm.id)).track_count)
        await client.playlists.move_tracks(calm.id, loud.id, [track.id])
        await client.playlists.remove_tracks(loud.id, [track.id])
    """

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session

    def list(
        self, *, timeout: float | None = READ_TIMEOUT, max_retries: int | None = None
    ) -> Listing[Playlist]:
        """List the account's playlists, all in one page; await it or iterate it.

        Args:
            timeout: Seconds for all of it; `None` for no limit.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.
        """

        async def fetch(offset: int) -> Page[Playlist]:
            call = Call(method="GET", path="/v1/playlists")
            found = parsing.playlists(
                await self._session().ask(call, timeout, max_retries)
            )
            return Page(items=found, has_more=False, next_offset=offset + len(found))

        return Listing(fetch, 0)

    async def get(
        self,
        playlist_id: str,
        *,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> Playlist:
        """Read one playlist, with its tracks; one's own, or a public one.

        Args:
            playlist_id: Its id.
            timeout: Seconds for all of it, waiting for its turn included.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Raises:
            NotFoundError: There is no such playlist, or it is another's and private.
            FinetuningError: It could not be read.
        """
        path = f"/v1/playlists/{segment(playlist_id, 'playlist_id')}"
        answer = await self._session().ask(
            Call(method="GET", path=path, shows=playlist_id), timeout, max_retries
        )
        return parsing.playlist(answer)

    async def add_tracks(
        self,
        playlist_id: str,
        track_ids: Iterable[str],
        *,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> BulkResult:
        """Add tracks. A public playlist takes public tracks only.

        Args:
            playlist_id: Where to.
            track_ids: Any number; a hundred go into one request.
            timeout: Seconds for each request; `None` for no limit.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Raises:
            FinetuningError: The first request could not be made.
        """
        bulk = Bulk(
            path=f"/v1/playlists/{segment(playlist_id, 'playlist_id')}/tracks",
            field="trackIds",
            done="added",
        )
        return await bulk.run(
            self._session(), unique_ids(track_ids, "track_ids"), timeout, max_retries
        )

    async def remove_tracks(
        self,
        playlist_id: str,
        track_ids: Iterable[str],
        *,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> BulkResult:
        """Take tracks out; they stay in the library.

        Args:
            playlist_id: Where from.
            track_ids: Any number; a hundred go into one request.
            timeout: Seconds for each request; `None` for no limit.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Raises:
            FinetuningError: The first request could not be made.
        """
        name = segment(playlist_id, "playlist_id")
        bulk = Bulk(
            path=f"/v1/playlists/{name}/tracks/bulk-remove",
            field="trackIds",
            done="removed",
        )
        return await bulk.run(
            self._session(), unique_ids(track_ids, "track_ids"), timeout, max_retries
        )

    async def move_tracks(
        self,
        source_id: str,
        target_id: str,
        track_ids: Iterable[str],
        *,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> BulkResult:
        """Move tracks; one that cannot be added to the target stays where it was.

        Args:
            source_id: Where from.
            target_id: Where to; another than `source_id`.
            track_ids: Any number; a hundred go into one request.
            timeout: Seconds for each request; `None` for no limit.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Raises:
            InvalidRequestError: Source and target are the same.
            FinetuningError: The first request could not be made.
        """
        source = segment(source_id, "source_id")
        if segment(target_id, "target_id") == source:
            raise InvalidRequestError(
                "target_id", target_id, "another playlist than source_id"
            )
        bulk = Bulk(
            path=f"/v1/playlists/{source}/tracks/move",
            field="trackIds",
            done="moved",
            more={"targetPlaylistId": target_id},
        )
        return await bulk.run(
            self._session(), unique_ids(track_ids, "track_ids"), timeout, max_retries
        )
