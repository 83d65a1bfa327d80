"""What the service returns, as frozen values.

    Generation            a track, music or instrumental
      GenerationParameters  what it is made with
    SoundEffect           a short clip
    Page                  one page of a list, which can fetch the next
    Playlist              with its PlaylistTracks if read by id
    Account               the account of the key, and its remaining credits
    Health                whether the service is up
    BulkResult            which ids of a bulk call succeeded, and its BulkFailures

Models are tolerant: what the service omits, or writes in an undocumented way, is
`None`, and `raw` holds the JSON as received. They can be hashed and pickled; ``==``
ignores `raw`. The query of a webhook URL is a secret: `repr`, pickles and ``==`` leave
it out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    NoReturn,
    Self,
    TypeVar,
)

import attrs

from finetuning_async._errors import FinetuningError
from finetuning_async._secrets import mask_query, masked_repr
from finetuning_async._types import FINAL_STATUSES, Kind, Status

T_co = TypeVar("T_co", covariant=True)


def _raw() -> Any:
    return attrs.field(factory=dict, repr=False, eq=False)


def _webhook() -> Any:
    return attrs.field(default=None, repr=masked_repr, eq=mask_query)


class NotForBrowsers:
    """A model that FastAPI must not send, as it may hold what browsers must not see."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> NoReturn:
        """Raise a clearer error than pydantic's "not a valid field type"."""
        raise TypeError(
            f"{cls.__name__} cannot be returned from a route, as it may hold secrets:"
            " return finetuning_async.fastapi.public(track) of a track, or a dict with"
            " the fields that browsers may see, annotated as dict[str, Any]"
        )


class _HasWebhook(NotForBrowsers):
    """Leaves the query of a webhook URL out of pickles, but not out of copies."""

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers must still reject iterating over a model

        def __iter__(self) -> NoReturn:
            """Raise the clear error to FastAPI, which tries `dict` on a result."""
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

    # A frozen value is its own copy. By way of `__reduce__` it would lose the query.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def _build(cls: type[Any], state: dict[str, Any]) -> Any:
    return cls(**state)


@attrs.frozen(kw_only=True)
class GenerationParameters(NotForBrowsers):
    """The parameters of a track, as the service reports them.

    Attributes:
        bpm: Beats per minute; an `int` if the service sent a whole number.
        duration: The requested length in seconds, after any change by the service.
        timesignature: Beats per bar, always as a number.
        language: The language of the vocals, such as ``en``.
        keyscale: Key and scale, such as ``F# minor``.
        seed: The seed that was used.

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
        id: The service's id; opaque.
        status: ``pending``, ``processing``, ``completed`` or ``failed``; any other is
            kept as received and counts as in progress; ``unknown`` if absent.
        kind: ``music`` or ``instrumental``.
        prompt: The prompt it is made from; it may differ from the one sent.
        title: The title that the service gave it; `None` in the response to a create.
        parameters: The parameters it is made with.
        audio_url: The URL of the MP3, once completed.
        duration: The actual length in seconds, once completed.
        file_size: Bytes; `None` even for some completed tracks.
        error_message: Why it failed.
        generation_time: Seconds that the service took to make it.
        webhook: The webhook URL of the request; `repr` masks its query.
        credits_remaining: The account's credits after this create; `None` in other
            responses.
        created_at: When the service accepted it (aware, UTC).
        completed_at: When it ended (aware, UTC).
        changed_by_service: The parameters that the service changed, as (requested,
            got): ``{"duration": (100, 105.0)}``. Only in the response to a create; not
            compared by ``==``.
        raw: The JSON as received.

    Example:
        track = await client.generations.create("lofi chill", duration=30)
        print(track.id, track.status, track.credits_remaining)
        client.mark_changed(track.id)  # if you learn of a change in another way
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
        prompt: The prompt it is made from.
        requested_duration: The requested length in seconds, as the service rounded it.
        audio_url: The URL of the MP3, once completed.
        duration: The actual length in seconds, once completed.
        webhook: The webhook URL of the request; `repr` masks its query.
        daily_remaining: How many more the account may make today (UTC); `None` except
            in the response to a create.
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

    kind: ClassVar[Literal["sound_effect"]] = "sound_effect"

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
class Page(NotForBrowsers, Generic[T_co]):
    """One page of a list, newest first.

    Attributes:
        items: The rows.
        has_more: Whether there may be another page; never after an empty page.
        next_offset: The offset of the next page.
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
        """Fetch the next page; `None` at the end of the list.

        Raises:
            FinetuningError: This page was unpickled and no longer has a client.
        """
        if not self.has_more:
            return None
        if self._fetch_next is None:
            raise FinetuningError(
                "an unpickled page cannot fetch the next one:"
                f" list again with offset={self.next_offset}"
            )
        return await self._fetch_next()

    def __reduce__(self) -> tuple[Any, ...]:
        names = ("items", "has_more", "next_offset", "raw")
        return _build, (type(self), {name: getattr(self, name) for name in names})


@attrs.frozen(kw_only=True)
class PlaylistTrack(NotForBrowsers):
    """A track in a playlist.

    Attributes:
        id: The id of the track.
        title: Its title.
        prompt: The prompt it is made from.
        status: As for `Generation`.
        audio_url: The URL of the MP3, once completed.
        duration: The actual length in seconds.
        is_public: Whether other accounts can see it.
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
class Playlist(NotForBrowsers):
    """A playlist; it has its tracks only if it is read by id.

    Attributes:
        id: The service's id; opaque.
        name: The name, as shown in the web application.
        description: The description, as shown in the web application.
        track_count: The number of its tracks.
        total_duration: The length of all its tracks in seconds.
        is_public: Whether other accounts can see it.
        is_owner: Whether it belongs to the account; `None` in a list, where all do.
        created_at: When it was made (aware, UTC).
        updated_at: When it last changed (aware, UTC).
        tracks: Its tracks; empty in a list, whatever `track_count` is.
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
class Account(NotForBrowsers):
    """The account of the key, with its remaining credits.

    Attributes:
        id: The service's id; opaque.
        email: The email address.
        name: The display name; may be absent.
        tier: The plan, such as ``pro``; other plans may be added.
        monthly_generations: The credits of one month.
        generations_used: The credits used this month.
        monthly_remaining: The credits left this month.
        pack_credits: The additional credits that were bought and are left.
        total_remaining: `monthly_remaining` and `pack_credits` together.
        queue_depth: Tracks of the account in the service's queue, as it reports them.
            Sources differ on what it counts, so do not rely on it.
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
class Health(NotForBrowsers):
    """The service is up.

    Attributes:
        status: The status it reports, such as ``ok``; the response is not documented.
        raw: The JSON as received.

    Example:
        health = await client.health(timeout=5)
        print(health.status)
    """

    status: str | None = None
    raw: Mapping[str, Any] = _raw()


@attrs.frozen(kw_only=True)
class BulkFailure(NotForBrowsers):
    """One id of a bulk call that failed.

    Attributes:
        id: The id; empty if the service did not send it.
        error: The service's reason.

    Example:
        result = await client.generations.delete(["no-such-track"])
        for failure in result.failed:
            print(failure.id, failure.error)
    """

    id: str
    error: str


@attrs.frozen(kw_only=True)
class BulkResult(NotForBrowsers):
    """The result of a bulk call.

    Attributes:
        succeeded: The ids that succeeded, in the service's order.
        failed: The ids that failed, and why.

    Example:
        old = [track.id async for track in client.generations.list(status="failed")]
        result = await client.generations.delete(old)
        print(len(result.succeeded), "deleted,", len(result.failed), "not")
    """

    succeeded: tuple[str, ...] = ()
    failed: tuple[BulkFailure, ...] = ()

    @classmethod
    def merged(cls, parts: Iterable[BulkResult]) -> BulkResult:
        """Merge the results of several requests, in their order."""
        results = list(parts)
        return cls(
            succeeded=tuple(i for result in results for i in result.succeeded),
            failed=tuple(failure for result in results for failure in result.failed),
        )
