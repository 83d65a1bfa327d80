"""Music: `client.generations`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from finetuning_async._api import Call, GenerationRequest, parsing
from finetuning_async._resources._common import (
    DEFAULT_PAGE,
    READ_TIMEOUT,
    Bulk,
    Listing,
    list_query,
    path_segment,
    unique_ids,
)
from finetuning_async._resources._other_names import NamesOurs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from finetuning_async._api import BulkResult, Generation, Page
    from finetuning_async._events import CreateWaiting
    from finetuning_async._session import Session
    from finetuning_async._types import (
        GenerationKind,
        Language,
        MusicalKey,
        OnUnknown,
        Priority,
        Scale,
        Status,
        TimeSignature,
    )


class Generations(NamesOurs):
    """Music: ``client.generations``.

    **A create whose response is lost** is not sent again. It is looked up by its seed
    in the list of tracks, and `create` returns the track if it is there. If it is not,
    `on_unknown` decides:

    - ``"raise"`` (the default) raises `SubmissionUnknownError`.
    - ``"resubmit"`` sends the same request with the same seed again, but only if it is
      proved that the lost create made no track: at least 30 s later a complete list
      must show, with its seed, a create of this client that was sent after the lost
      one. Without that proof it raises `SubmissionUnknownError` as well; so a create
      without a later one is never sent again.

    **A create with an** `idempotency_key`, of a client with a `journal`, is made once,
    whoever asks for it and whenever: calls at the same time get the one track, also in
    other processes; after a crash the next call goes on where the last one stood; a
    track that was made is given back. One that is in doubt raises
    `SubmissionUnknownError` until a list shows its track, or until its absence is
    proved, whatever `on_unknown`: then the call with its key sends it again. A call
    that fails before anything was sent leaves nothing behind.

    Example:
        track = await client.generations.create("lofi chill", duration=30)
        track = await client.generations.get(track.id)
        async for other in client.generations.list(type="music"):
            print(other.id, other.status)
        await client.generations.delete([track.id])
    """

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session

    async def create(
        self,
        tags: str,
        *,
        lyrics: str | None = None,
        duration: float | None = None,
        bpm: float | None = None,
        language: Language | str | None = None,
        key: MusicalKey | str | None = None,
        scale: Scale | str | None = None,
        timesignature: TimeSignature | int | str | None = None,
        seed: int | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_unknown: OnUnknown = "raise",
        on_submitted: Callable[[Generation], Awaitable[None] | None] | None = None,
        validate: bool = True,
        timeout: float | None = None,
        max_retries: int | None = None,
        priority: Priority | None = None,
        share: str | None = None,
        max_wait: float | None = None,
        on_waiting: Callable[[CreateWaiting], object] | None = None,
    ) -> Generation:
        """Start one track of music. Costs one credit.

        It waits for the rate limit and a queue slot. The track has `credits_remaining`.

        Args:
            tags: What it should sound like, 1 to 700 characters.
            lyrics: What is sung, at most 2000 characters.
            duration: 5 to 210 seconds; the service's default is 60.
            bpm: 60 to 200 beats per minute; the service's default is 120.
            language: Of the vocals: ``en ja de fr es zh ko pt it ru``.
            key: ``C C# D D# E F F# G G# A A# B``, or a flat.
            scale: ``major`` or ``minor``.
            timesignature: 2 to 7 beats per bar; the service's default is 4.
            seed: 0 to 2^31-1; random by default.
            webhook: An ``https`` URL that the service calls when the track ends.
            idempotency_key: Calls with the same key get one track; 1 to 255 characters;
                needs a `journal`; see `Generations`.
            on_unknown: ``raise`` or ``resubmit`` a lost create; see `Generations`.
            on_submitted: Called with the accepted track, even in a cancelled call.
            validate: Whether to check the parameters before sending them.
            timeout: Seconds for the whole call; `None` for no limit.
            max_retries: Retries, at least 0; `None` for the client's number.
            priority: ``high``, ``normal`` or ``low``; `None` for the client's.
            share: For whom it is; `None` for the client's.
            max_wait: Seconds to wait for the rate limit and the queue, or
                `CapacityError`; `None` for the client's.
            on_waiting: A plain function, called with `CreateWaiting` while it waits.

        Raises:
            InvalidRequestError: A parameter is out of its range; nothing was sent.
            IdempotencyConflictError: The key is known with other content.
            InsufficientCreditsError: No credits are left.
            SubmissionUnknownError: The response was lost; it may have been charged.
            BudgetExceededError: A `budget` of the client does not allow it.
            CapacityError: It would wait longer than `max_wait`.
            APITimeoutError: The call timed out before anything was sent.
            APIStatusError: The service rejected it.
            APIConnectionError: It could not be sent.
            finetuning_async.journal.JournalError: The journal cannot be used.
            ClientClosedError: The client was closed before anything was sent.
        """
        request = GenerationRequest(
            tags, lyrics=lyrics, duration=duration, bpm=bpm, language=language, key=key,
            scale=scale, timesignature=timesignature, seed=seed, webhook=webhook,
            idempotency_key=idempotency_key,
        )  # fmt: skip # one argument per line would double the method
        del webhook  # its query is a secret, and a traceback may show this frame
        session = self._session()
        submission = session.new_submission(
            request, validate=validate, on_unknown=on_unknown,
            on_submitted=on_submitted, max_retries=max_retries,
            priority=priority, share=share, max_wait=max_wait, on_waiting=on_waiting,
        )  # fmt: skip
        return cast("Generation", await session.create(submission, timeout))

    async def get(
        self,
        generation_id: str,
        *,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> Generation:
        """Read one track, music or instrumental.

        Args:
            generation_id: Its id.
            timeout: Seconds for the whole call, waiting for the rate limit included;
                `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.

        Raises:
            NotFoundError: The account has no such track.
            FinetuningError: The request failed.
        """
        path = f"/v1/generations/{path_segment(generation_id, 'generation_id')}"
        session = self._session()
        call = Call(
            method="GET", path=path, track_id=generation_id, shows=generation_id
        )
        track = parsing.generation(await session.request(call, timeout, max_retries))
        session.observe(track)
        if session.keyed is not None and track.is_final:
            await session.keyed.journal.record_final(track)
        return track

    def list(
        self,
        *,
        status: Status | None = None,
        type: GenerationKind | str | None = None,
        limit: int = DEFAULT_PAGE,
        offset: int = 0,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> Listing[Generation]:
        """List tracks, newest first.

        ``await client.generations.list()`` returns the first `Page`;
        ``async for track in client.generations.list()`` iterates over all tracks.

        Args:
            status: Only those with this status, such as ``completed``.
            type: Only ``music`` or ``instrumental``.
            limit: Rows per page, 1 to 99.
            offset: How many rows to skip, at least 0.
            timeout: Seconds for each page, waiting for the rate limit included; `None`
                for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.

        Raises:
            InvalidRequestError: A parameter is out of its range.
        """
        query = list_query(limit, offset, status=status, type=type)

        async def fetch(start: int) -> Page[Generation]:
            call = Call(
                method="GET", path="/v1/generations", query={**query, "offset": start}
            )
            session = self._session()
            response = await session.request(call, timeout, max_retries)
            page = parsing.generation_page(response, offset=start)
            session.account.inflight.mark_listed(track.id for track in page.items)
            for track in page.items:
                session.observe(track)
            return page

        return Listing(fetch, offset)

    async def delete(
        self,
        ids: Iterable[str],
        *,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> BulkResult:
        """Delete tracks permanently.

        Args:
            ids: Any number of ids; up to 100 go into one request.
            timeout: Seconds for each request, waiting for the rate limit included;
                `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.

        Returns:
            The ids that were deleted, and those that were not and why.

        Raises:
            InvalidRequestError: It is not a list of ids.
            FinetuningError: The first request failed.
        """
        bulk = Bulk(path="/v1/generations/bulk-delete", field="ids", done="deleted")
        return await bulk.run(
            self._session(), unique_ids(ids, "ids"), timeout, max_retries
        )
