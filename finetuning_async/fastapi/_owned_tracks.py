"""What one end user may do with tracks: ask for one, read theirs, follow one.

Every track is found by its owner: the journal's key begins with the owner, so that a
key or an id of another owner's track is one that does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from finetuning_async._client import AsyncClient
from finetuning_async._errors import (
    ClientClosedError,
    FinetuningError,
    NotFoundError,
    SubmissionUnknownError,
)
from finetuning_async.fastapi._errors import error_body
from finetuning_async.fastapi._followers import Followed, Followers
from finetuning_async.fastapi._models import (
    ErrorBody,
    LineResponse,
    OwnedTrackResponse,
    OwnedTracksResponse,
    ProgressResponse,
    fields_of,
)
from finetuning_async.fastapi._owned_keys import (
    journal_key,
    own_key,
    owner_part,
    prefix_of,
)
from finetuning_async.journal import JournalEntry

if TYPE_CHECKING:
    from finetuning_async._api import AnyRequest, Generation, SoundEffect

ENDED: Final = frozenset({"completed", "downloaded", "failed"})
"""States of entries whose track will not change any more."""


@attrs.frozen(kw_only=True)
class OwnedTrack:
    """One track of an end user: what the journal knows, and what has come since.

    Attributes:
        key: The journal's key.
        entry: Its entry; `None` if it was refused, and so deleted.
        followed: What follows it, unless it has ended.
    """

    key: str
    entry: JournalEntry | None
    followed: Followed | None

    @property
    def track(self) -> Generation | SoundEffect | None:
        """Its latest state at the service; `None` until it is accepted."""
        live = None if self.followed is None else self.followed.track
        return live or (None if self.entry is None else self.entry.generation)

    @property
    def error(self) -> FinetuningError | None:
        """Why it is not followed to its end, if it is not."""
        return None if self.followed is None else self.followed.error

    @property
    def status(self) -> str:
        """As `OwnedTrackResponse.status`."""
        if self.track is not None:
            return self.track.status
        # The next process goes on with it.
        if self.error is None or isinstance(self.error, ClientClosedError):
            is_lost = self.entry is not None and self.entry.state in ("unknown", "held")
            return "unknown" if is_lost else "waiting"
        is_lost = isinstance(self.error, SubmissionUnknownError)
        return "unknown" if is_lost else "failed"

    @property
    def is_final(self) -> bool:
        """Whether its status will not change any more."""
        return self.status in ("completed", "failed")


@attrs.frozen
class OwnedTracks:
    """The tracks of one end user.

    Attributes:
        client: Makes them.
        followers: Follow them.
        owner: The end user, as the application's hook names them.
    """

    client: AsyncClient
    followers: Followers
    owner: str

    def journal_key(self, key: str) -> str:
        """The journal's key of one of the owner's."""
        return journal_key(self.owner, key)

    async def create(self, request: AnyRequest, *, wait: float) -> OwnedTrack:
        """Ask for a track; it is made whether or not its owner waits for it.

        Args:
            request: What to create, with the journal's key.
            wait: Seconds to wait until it is accepted.

        Raises:
            IdempotencyConflictError: The key is known with other content.
            FinetuningError: It was refused, or the journal cannot be written.
        """
        share = owner_part(self.owner)
        entry = await self.client.journal.add(request, share=share)
        found = self._owned(entry, again=True)
        if found.followed is not None:
            with anyio.move_on_after(wait):
                await found.followed.until_accepted()
            if found.followed.error is not None:
                raise found.followed.error
        return found

    async def get(self, name: str) -> OwnedTrack:
        """The track with a key of the owner's, or with an id of the service.

        Raises:
            NotFoundError: The owner has none such.
            FinetuningError: The journal cannot be read.
        """
        key = self.journal_key(name)
        entry = await self.client.journal.get(key)
        if entry is None:
            entry = await self.client.journal.find(name)
            if entry is not None and not entry.key.startswith(prefix_of(self.owner)):
                entry = None
        if entry is not None:
            return self._owned(entry)
        refused = self.followers.find(key)
        if refused is None:
            raise NotFoundError("the owner has no such track", status_code=404)
        return OwnedTrack(key=key, entry=None, followed=refused)

    async def newest(self, before: str | None, limit: int) -> OwnedTracksResponse:
        """A page of the owner's tracks, the last one asked for first.

        Raises:
            InvalidRequestError: `before` is no key of a track.
            FinetuningError: The journal cannot be read.
        """
        last = None if before is None else self.journal_key(before)
        entries = await self.client.journal.newest(
            prefix_of(self.owner), before=last, limit=limit + 1
        )
        items = [self.response(self._owned(entry)) for entry in entries[:limit]]
        has_more = len(entries) > limit
        return OwnedTracksResponse(
            items=items, next=items[-1].key if has_more else None
        )

    def _owned(self, entry: JournalEntry, *, again: bool = False) -> OwnedTrack:
        followed = None
        if entry.state not in ENDED:
            followed = self.followers.follow(entry.key, again=again)
        return OwnedTrack(key=entry.key, entry=entry, followed=followed)

    # As browsers get it.

    def response(self, owned: OwnedTrack) -> OwnedTrackResponse:
        """The response for a track."""
        track = owned.track
        fields: dict[str, Any] = {}
        if track is not None:
            fields = fields_of(track)
        elif owned.entry is not None:
            request = owned.entry.request
            fields = {"kind": request.kind, "prompt": request.prompt}
        fields |= {
            "key": own_key(self.owner, owned.key),
            "status": owned.status,
            "is_final": owned.is_final,
            "line": self._line(owned),
            "progress": self._progress(owned),
            "error": _error(owned.error),
        }
        return OwnedTrackResponse(**{"kind": "music", "prompt": "", **fields})

    def _line(self, owned: OwnedTrack) -> LineResponse | None:
        entry = owned.entry
        if owned.status != "waiting" or entry is None:
            return None
        kind = entry.request.kind
        ahead = self.client.estimate(kind=kind, share=owner_part(self.owner))
        event = None if owned.followed is None else owned.followed.waiting
        if event is not None:
            takes = ahead.last_completed - ahead.last_sent
            return LineResponse.of(event, now=anyio.current_time(), takes=takes)
        # It has just begun, or waits in another process: as if it were asked for now.
        return LineResponse(
            position=ahead.position,
            starts_in=round(ahead.first_sent, 1),
            ends_in=round(ahead.last_completed, 1),
        )

    def _progress(self, owned: OwnedTrack) -> ProgressResponse | None:
        track = owned.track
        if track is None or track.is_final:
            return None
        return ProgressResponse.of(self.client.progress(track))


def _error(error: FinetuningError | None) -> ErrorBody | None:
    return None if error is None else ErrorBody(**error_body(error)[1])
