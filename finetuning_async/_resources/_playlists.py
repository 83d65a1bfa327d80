"""Playlists and their tracks: `client.playlists`.

The API cannot create, rename or delete a playlist; the web application can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetuning_async._api import BulkResult, Call, Page, Playlist, parsing
from finetuning_async._errors import InvalidRequestError
from finetuning_async._resources._common import (
    READ_TIMEOUT,
    Bulk,
    Listing,
    path_segment,
    unique_ids,
)
from finetuning_async._resources._other_names import NamesOurs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from finetuning_async._session import Session


class Playlists(NamesOurs):
    """Playlists: ``client.playlists``.

    Adding, removing and moving succeeds or fails for each track on its own. Failures
    are in the result, not raised, even if no track succeeded.

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
            timeout: Seconds for the whole call, waiting for the rate limit included;
                `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.
        """

        async def fetch(offset: int) -> Page[Playlist]:
            call = Call(method="GET", path="/v1/playlists")
            found = parsing.playlists(
                await self._session().request(call, timeout, max_retries)
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
        """Read one playlist with its tracks: the account's own, or a public one.

        Args:
            playlist_id: Its id.
            timeout: Seconds for the whole call, waiting for the rate limit included;
                `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.

        Raises:
            NotFoundError: There is no such playlist, or it is private and belongs to
                another account.
            FinetuningError: The request failed.
        """
        path = f"/v1/playlists/{path_segment(playlist_id, 'playlist_id')}"
        response = await self._session().request(
            Call(method="GET", path=path, shows=playlist_id), timeout, max_retries
        )
        return parsing.playlist(response)

    async def add_tracks(
        self,
        playlist_id: str,
        track_ids: Iterable[str],
        *,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> BulkResult:
        """Add tracks. A public playlist accepts public tracks only.

        Args:
            playlist_id: The playlist to add to.
            track_ids: Any number of ids; up to 100 go into one request.
            timeout: Seconds for each request, waiting for the rate limit included;
                `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.

        Raises:
            FinetuningError: The first request failed.
        """
        bulk = Bulk(
            path=f"/v1/playlists/{path_segment(playlist_id, 'playlist_id')}/tracks",
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
        """Remove tracks from a playlist; they stay in the library.

        Args:
            playlist_id: The playlist to remove from.
            track_ids: Any number of ids; up to 100 go into one request.
            timeout: Seconds for each request, waiting for the rate limit included;
                `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.

        Raises:
            FinetuningError: The first request failed.
        """
        segment = path_segment(playlist_id, "playlist_id")
        bulk = Bulk(
            path=f"/v1/playlists/{segment}/tracks/bulk-remove",
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
        """Move tracks; one that the target does not accept stays where it was.

        Args:
            source_id: The playlist to move from.
            target_id: The playlist to move to, different from `source_id`.
            track_ids: Any number of ids; up to 100 go into one request.
            timeout: Seconds for each request, waiting for the rate limit included;
                `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.

        Raises:
            InvalidRequestError: Source and target are the same.
            FinetuningError: The first request failed.
        """
        source = path_segment(source_id, "source_id")
        if path_segment(target_id, "target_id") == source:
            raise InvalidRequestError(
                "target_id", target_id, "a different playlist from source_id"
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
