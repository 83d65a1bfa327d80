"""What the service answers, as frozen values.

    Generation            a track, music or instrumental
      GenerationParameters  what it is made with
    SoundEffect           a short clip
    Page                  some rows of a list, and how to fetch the next
    Playlist              with its PlaylistTracks when read by id
    Account               who the key belongs to, and what is left
    Health                whether the service is up
    BulkResult            what one call did to many ids, with its BulkFailures
    Outcome               one request of many, and how it ended

Models are tolerant: what the service left out, or wrote in a way nobody published, is
`None`, and `raw` holds the JSON as received. They can be hashed, and pickled; equality
looks at the fields, not at `raw`. The query of a webhook URL is a secret: it is neither
in a `repr` nor in a pickle nor looked at by ``==``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Self, TypeVar

import attrs

from finetuning_async._api._requests import (
    GenerationRequest,
    InstrumentalRequest,
    SoundEffectRequest,
)
from finetuning_async._errors import FinetuningError
from finetuning_async._secrets import mask_query, masked_repr
from finetuning_async._types import FINAL_STATUSES, Kind, Status

T_co = TypeVar("T_co", covariant=True)


def _raw() -> Any:
    return attrs.field(factory=dict, repr=False, eq=False)


def _webhook() -> Any:
    return attrs.field(default=None, repr=masked_repr, eq=mask_query)


class _NotForBrowsers:
    """A model that FastAPI does not send: it may hold what a browser must not see."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> NoReturn:
        """Be clearer than pydantic, which would call it no valid field type."""
        raise TypeError(
            f"{cls.__name__} is not for browsers, it may hold what they must not see:"
            " let FastAPI return finetuning_async.fastapi.public(track) of a track, or"
            " a dict of what you choose, annotated as dict[str, Any]"
        )


class _HasWebhook(_NotForBrowsers):
    """Keeps the query of a webhook URL out of pickles; copies keep it."""

    __slots__ = ()

    if not TYPE_CHECKING:  # a type checker shall go on to say that it has none

        def __iter__(self) -> NoReturn:
            """Be clear to FastAPI, which tries `dict` on what a route returns."""
            self.__get_pydantic_core_schema__(type(self), None)

    def __reduce__(self) -> tuple[Any, ...]:
        cls: Any = type(self)
        names = (field.name for field in attrs.fields(cls))
        state = {name: getattr(self, name) for name in names}
        state["webhook"] = mask_query(state["webhook"])
        if isinstance(state["raw"].get("webhook"), str):
            hidden = {"webhook": mask_query(state["raw"]["webhook"])}
            state["raw"] = {**state["raw"], **hidden}
        return _build, (type(self), state)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def _build(cls: type[Any], state: dict[str, Any]) -> Any:
    return cls(**state)


@attrs.frozen(kw_only=True)
class GenerationParameters(_NotForBrowsers):
    """What a track is made with, as the service reports it.

    Attributes:
        bpm: Beats per minute; `int` where the service sent a whole number.
        duration: The length asked for, in seconds, after any change by the service.
        timesignature: Beats per bar; always a number, whichever way it came.
        language: Of the vocals, such as ``en``.
        keyscale: Key and scale, such as ``F# minor``.
        seed: The seed really used.

    Example:
        track = await client.generate("lofi chill", key="F#", scale="minor")
        print(track.parameters.keyscale, track.parameters.bpm, track.parameters.seed)
    """

    bpm: float | None = None
    duration: float | None = None
    timesignature: int | None = None
    language: str | None = None
    keyscale: str | None = None
    seed: int | None = None


@attrs.frozen(kw_only=True)
class Generation(_HasWebhook):
    """A track, music or instrumental, in one of its states.

    Attributes:
        id: Opaque; no pattern holds for it.
        status: ``pending``, ``processing``, ``completed`` or ``failed``; another word
            is kept as received and counts as under way; ``unknown`` if none came.
        kind: ``music`` or ``instrumental``.
        prompt: The words it is made from; they may differ from those sent.
        title: What the service calls it; `None` in the answer to a create.
        parameters: What it is made with.
        audio_url: Where the MP3 is, once completed.
        duration: Real length in seconds, once completed.
        file_size: Bytes; `None` even for some completed tracks.
        error_message: Why it failed.
        generation_time: Seconds the service spent rendering.
        webhook: The URL given at creation; its query is hidden in `repr`.
        credits_remaining: The balance after this create; `None` in other answers.
        created_at: When the service accepted it (aware, UTC).
        completed_at: When it ended (aware, UTC).
        changed_by_service: What the service made of the request otherwise than asked,
            by parameter: ``{"duration": (100, 105.0)}`` is (asked, got). Only the
            answer to a create has it; equality does not look at it.
        raw: The JSON as received.

    Example:
        track = await client.generations.create("lofi chill", duration=30)
        print(track.id, track.status, track.credits_remaining)
        client.mark_changed(track.id)  # if something else than a poll tells of it
        track = await client.wait_for_completion(track)
        print(track.audio_url, f"{track.duration} s")
    """

    id: str
    status: Status
    kind: Kind | str = "music"
    prompt: str = ""
    title: str | None = None
    parameters: GenerationParameters = GenerationParameters()
    audio_url: str | None = None
    duration: float | None = None
    file_size: int | None = None
    error_message: str | None = None
    generation_time: float | None = None
    webhook: str | None = _webhook()
    credits_remaining: int | None = None
    created_at: dt.datetime | None = None
    completed_at: dt.datetime | None = None
    changed_by_service: Mapping[str, tuple[Any, Any]] = attrs.field(
        factory=dict, eq=False
    )
    raw: Mapping[str, Any] = _raw()

    @property
    def is_final(self) -> bool:
        """Whether it is completed or failed."""
        return self.status in FINAL_STATUSES


@attrs.frozen(kw_only=True)
class SoundEffect(_HasWebhook):
    """A short clip, in one of its states.

    Attributes:
        id: Opaque; no pattern holds for it.
        status: As for `Generation`.
        prompt: The words it is made from.
        requested_duration: The length asked for, in seconds, after any snapping.
        audio_url: Where the MP3 is, once completed.
        duration: Real length in seconds, once completed.
        webhook: The URL given at creation; its query is hidden in `repr`.
        daily_remaining: How many more the account may make today (UTC); `None` in other
            answers than that to a create.
        error_message: Why it failed.
        created_at: When the service accepted it (aware, UTC).
        completed_at: When it ended (aware, UTC).
        changed_by_service: As for `Generation`.
        raw: The JSON as received.

    Example:
        effect = await client.sound_effects.create("a door creaks", duration=2)
        effect = await client.wait_for_completion(effect)
        await client.download(effect, "door.mp3")
    """

    kind: ClassVar[Kind] = "sound_effect"

    id: str
    status: Status
    prompt: str = ""
    requested_duration: float | None = None
    audio_url: str | None = None
    duration: float | None = None
    webhook: str | None = _webhook()
    daily_remaining: int | None = None
    error_message: str | None = None
    created_at: dt.datetime | None = None
    completed_at: dt.datetime | None = None
    changed_by_service: Mapping[str, tuple[Any, Any]] = attrs.field(
        factory=dict, eq=False
    )
    raw: Mapping[str, Any] = _raw()

    @property
    def is_final(self) -> bool:
        """Whether it is completed or failed."""
        return self.status in FINAL_STATUSES


@attrs.frozen(kw_only=True)
class Page(_NotForBrowsers, Generic[T_co]):
    """Some rows of a list, newest first.

    Attributes:
        items: The rows.
        has_more: Whether a further page may hold something; never after an empty one.
        next_offset: Where that page starts.
        raw: The JSON as received.

    Example:
        page = await client.generations.list(limit=50)
        while page is not None:
            print([track.id for track in page], page.has_more)
            page = await page.next_page()
    """

    items: tuple[T_co, ...]
    has_more: bool
    next_offset: int
    _fetch_next: Callable[[], Awaitable[Page[T_co]]] | None = attrs.field(
        default=None, repr=False, eq=False
    )
    raw: Mapping[str, Any] = _raw()

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    async def next_page(self) -> Page[T_co] | None:
        """Fetch the page after this one; `None` at the end of the list.

        Raises:
            FinetuningError: If this page came out of a pickle, without its client.
        """
        if not self.has_more:
            return None
        if self._fetch_next is None:
            raise FinetuningError(
                "this page has lost its client;"
                f" list again with offset={self.next_offset}"
            )
        return await self._fetch_next()

    def __reduce__(self) -> tuple[Any, ...]:
        names = ("items", "has_more", "next_offset", "raw")
        return _build, (type(self), {name: getattr(self, name) for name in names})


@attrs.frozen(kw_only=True)
class PlaylistTrack(_NotForBrowsers):
    """A track as a playlist shows it.

    Attributes:
        id: The id of the track.
        title: What the service calls it.
        prompt: The words it is made from.
        status: As for `Generation`.
        audio_url: Where the MP3 is, once completed.
        duration: Real length in seconds.
        is_public: Whether others see it.
        created_at: When the service accepted it (aware, UTC).
        raw: The JSON as received.

    Example:
        (first, *_) = await client.playlists.list()
        for track in (await client.playlists.get(first.id)).tracks:
            print(track.title, track.duration, track.is_public)
    """

    id: str
    title: str | None = None
    prompt: str = ""
    status: Status
    audio_url: str | None = None
    duration: float | None = None
    is_public: bool | None = None
    created_at: dt.datetime | None = None
    raw: Mapping[str, Any] = _raw()

    @property
    def is_final(self) -> bool:
        """Whether it is completed or failed."""
        return self.status in FINAL_STATUSES


@attrs.frozen(kw_only=True)
class Playlist(_NotForBrowsers):
    """A playlist; its tracks come only when it is read by id.

    Attributes:
        id: Opaque.
        name: As shown in the web application.
        description: As shown there.
        track_count: How many tracks it holds.
        total_duration: Seconds.
        is_public: Whether others see it.
        is_owner: Whether it is the caller's; `None` in a list, where all are.
        created_at: When it was made (aware, UTC).
        updated_at: When it last changed (aware, UTC).
        tracks: What it holds; empty in a list, whatever `track_count` says.
        raw: The JSON as received.

    Example:
        async for listed in client.playlists.list():
            playlist = await client.playlists.get(listed.id)
            print(playlist.name, [track.title for track in playlist.tracks])
    """

    id: str
    name: str = ""
    description: str | None = None
    track_count: int | None = None
    total_duration: float | None = None
    is_public: bool | None = None
    is_owner: bool | None = None
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None
    tracks: tuple[PlaylistTrack, ...] = ()
    raw: Mapping[str, Any] = _raw()


@attrs.frozen(kw_only=True)
class Account(_NotForBrowsers):
    """Who the key belongs to, and what is left this month.

    Attributes:
        id: Opaque.
        email: The address of the account.
        name: The name to show; may be empty.
        tier: The plan, such as ``pro``; an open set.
        monthly_generations: The monthly allowance.
        generations_used: Used this month.
        monthly_remaining: Left this month.
        pack_credits: Bought in addition.
        total_remaining: The two last taken together.
        queue_depth: Tracks of the account in the queue, as the service reports it;
            sources differ on what it means, so derive nothing from it.
        raw: The JSON as received.

    Example:
        account = await client.me()
        print(account.tier, account.total_remaining, "credits left")
    """

    id: str
    email: str | None = None
    name: str | None = None
    tier: str | None = None
    monthly_generations: int | None = None
    generations_used: int | None = None
    monthly_remaining: int | None = None
    pack_credits: int | None = None
    total_remaining: int | None = None
    queue_depth: int | None = None
    raw: Mapping[str, Any] = _raw()


@attrs.frozen(kw_only=True)
class Health(_NotForBrowsers):
    """The service answers.

    Attributes:
        status: What it says of itself, such as ``ok``; no source publishes the body.
        raw: The JSON as received.

    Example:
        health = await client.health(timeout=5)
        print(health.status)
    """

    status: str | None = None
    raw: Mapping[str, Any] = _raw()


@attrs.frozen(kw_only=True)
class BulkFailure(_NotForBrowsers):
    """One id that a call on many could not deal with.

    Attributes:
        id: The id; empty if the service did not name it.
        error: Why, in the service's words.

    Example:
        result = await client.generations.delete(["no-such-track"])
        for failure in result.failed:
            print(failure.id, failure.error)
    """

    id: str
    error: str


@attrs.frozen(kw_only=True)
class BulkResult(_NotForBrowsers):
    """What one call did to many ids.

    Attributes:
        succeeded: The ids done, in the service's order.
        failed: The ids not done, and why.

    Example:
        old = [track.id async for track in client.generations.list(status="failed")]
        result = await client.generations.delete(old)
        print(len(result.succeeded), "deleted,", len(result.failed), "not")
    """

    succeeded: tuple[str, ...] = ()
    failed: tuple[BulkFailure, ...] = ()

    @classmethod
    def merged(cls, parts: Iterable[BulkResult]) -> BulkResult:
        """One result for the chunks of a longer list, in their order."""
        done = list(parts)
        return cls(
            succeeded=tuple(name for part in done for name in part.succeeded),
            failed=tuple(failure for part in done for failure in part.failed),
        )


@attrs.frozen(kw_only=True)
class Outcome(_NotForBrowsers):
    """One request of many, and how it ended.

    Attributes:
        request: What was asked for.
        generation: The last state seen; `None` if it was never accepted.
        error: Why there is no completed track; `None` if there is.

    Example:
        requests = [GenerationRequest("rain"), SoundEffectRequest("a door")]
        async with client.generate_many(requests) as outcomes:
            async for outcome in outcomes:
                print(outcome.request.prompt, outcome.error or outcome.result())
    """

    request: GenerationRequest | InstrumentalRequest | SoundEffectRequest
    generation: Generation | SoundEffect | None = None
    error: FinetuningError | None = None

    def result(self) -> Generation | SoundEffect:
        """The completed track.

        Raises:
            FinetuningError: There is none; it is `error`.
        """
        if self.error is not None:
            raise self.error
        if self.generation is None:
            raise FinetuningError("this outcome has neither a track nor an error")
        return self.generation
