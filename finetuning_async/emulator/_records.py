"""The emulator's records: accounts, tracks, playlists, ledger, requests, webhooks."""

from __future__ import annotations

import math
from sys import intern
from typing import TYPE_CHECKING, Any, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from finetuning_async.emulator._faults import Fault
    from finetuning_async.emulator._rate_limiters import Window

Bucket = Literal["creates", "reads"]
Kind = Literal["music", "instrumental", "effect"]


@attrs.frozen
class RateLimit:
    """``limit`` requests per ``per`` seconds.

    Example:
        from finetuning_async.emulator import Emulator

        async with Emulator(speed=10) as emulator:
            print(emulator.rate_limits.creates.limit, emulator.rate_limits.creates.per)
    """

    limit: int
    per: float


@attrs.frozen
class RateLimits:
    """The limits to give a client of this emulator, scaled by its speed.

    Example:
        import httpx
        from finetuning_async.emulator import Emulator

        async with Emulator(speed=10) as emulator:
            async with httpx.AsyncClient(transport=emulator.transport()) as http:
                fast = AsyncClient(rate_limits=emulator.rate_limits, http_client=http)
    """

    creates: RateLimit
    reads: RateLimit


@attrs.define(eq=False)
class Account:
    """One account of the service. All its keys share its limits.

    Example:
        from finetuning_async.emulator import Emulator

        async with Emulator() as emulator:
            other = emulator.add_account("ft_live_" + 32 * "b", tier="free", credits=0)
            print(emulator.account.remaining, other.remaining)
    """

    id: str
    api_key: str = attrs.field(repr=False)
    tier: str
    monthly: int
    pack: int
    windows: dict[Bucket, Window] = attrs.field(repr=False)
    email: str = "dev@example.org"
    name: str = "Emulated Developer"
    used: int = 0
    in_progress: int = 0
    month: tuple[int, int] = (0, 0)
    effects_on: tuple[int, int, int] = (0, 0, 0)
    effects_today: int = 0

    @property
    def remaining(self) -> int:
        """Credits left: the rest of the month's plus the pack."""
        return max(0, self.monthly - self.used) + self.pack


def _shared(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Keep equal texts of many jobs once: their names, and values such as a key."""
    return {
        intern(name): intern(value) if type(value) is str else value
        for name, value in parameters.items()
    }


def _note_change(record: Any, _: attrs.Attribute[Any], value: Any) -> Any:
    record.changed = True
    return value


@attrs.define(eq=False, on_setattr=_note_change)
class Job:
    """A track or a sound effect. Times are on the emulator's clock, in seconds.

    ``ends_at`` is infinite for a job that never ends, and for one that ends after
    ``reads_left`` more reads. Lists show a job from ``listed_from`` on. ``changed`` is
    for the emulator that keeps its state.

    Example:
        import httpx
        from finetuning_async.emulator import Emulator

        async with Emulator() as emulator:
            async with httpx.AsyncClient(transport=emulator.transport()) as http:
                track = await AsyncClient(http_client=http).generations.create("rain")
            job = emulator.tracks[track.id]
            print(job.prompt, job.paid_from, job.ends_at - job.created_at)
    """

    id: str
    kind: Kind
    owner: Account = attrs.field(repr=False)
    prompt: str
    parameters: dict[str, Any] = attrs.field(converter=_shared)
    webhook: str | None
    created_at: float
    starts_at: float
    ends_at: float
    fails: bool
    media: str = attrs.field(converter=intern)
    paid_from: Literal["month", "pack"] = "month"
    listed_from: float = -math.inf
    reads_left: int | None = None
    is_public: bool = False
    plays: int = 0
    downloads: int = 0
    settled: bool = False
    deleted: bool = False
    webhook_sent: bool = False
    changed: bool = attrs.field(
        default=True, repr=False, on_setattr=attrs.setters.NO_OP
    )

    def status_at(self, now: float) -> str:
        """One of the four documented statuses."""
        if now >= self.ends_at:
            return "failed" if self.fails else "completed"
        return "processing" if now >= self.starts_at else "pending"

    @property
    def title(self) -> str:
        """The beginning of the prompt, as the service titles tracks."""
        return self.prompt[:80]

    @property
    def audio_url(self) -> str:
        """The URL of the MP3, once it exists, at the host that accepted the job."""
        return audio_url(self, self.media)


def audio_url(job: Job, media: str) -> str:
    """The URL of a job's MP3 for a client that reaches audio at ``media``."""
    return f"{media}/audio/{job.id}.mp3"


@attrs.define(eq=False)
class Playlist:
    """An ordered list of tracks. A public one holds public tracks only."""

    id: str
    owner: Account = attrs.field(repr=False)
    name: str
    description: str | None
    is_public: bool
    created_at: float
    updated_at: float
    tracks: list[Job] = attrs.field(factory=list)


@attrs.frozen
class LedgerEntry:
    """One change of the balance: -1 for a track, +1 for a refund.

    ``request`` is the number of the request that paid; 0 for a refund.

    Example:
        import httpx
        from finetuning_async.emulator import Emulator

        async with Emulator() as emulator:
            async with httpx.AsyncClient(transport=emulator.transport()) as http:
                await AsyncClient(http_client=http).generate("rain")
            print([(entry.track, entry.amount) for entry in emulator.ledger])
    """

    at: float
    request: int
    track: str
    amount: int
    balance: int


@attrs.define(eq=False)
class RequestRecord:
    """One request as the service saw it.

    Attributes:
        number: 1 for the first request.
        at: When it arrived, in seconds of the emulator's clock.
        method: As sent.
        path: Without the query; media paths begin with ``/audio/``.
        query: As sent, percent-encoded.
        headers: The few that tests need; keys are masked.
        fault: The fault that hit it, if any.
        bucket: The rate limit it counts against, if it was counted.
        counted: Whether it was counted.
        status: Status of the response; 0 until there is one.
        code: Its error code.
        delivered: Whether the whole response was sent.

    Example:
        import httpx
        from finetuning_async.emulator import Emulator

        async with Emulator() as emulator:
            async with httpx.AsyncClient(transport=emulator.transport()) as http:
                await AsyncClient(http_client=http).me()
            for request in emulator.requests:
                print(request.at, request.method, request.path, request.status)
    """

    number: int
    at: float
    method: str
    path: str
    query: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    fault: Fault | None = None
    bucket: Bucket | None = None
    counted: bool = False
    status: int = 0
    code: str | None = None
    delivered: bool = False


@attrs.define(eq=False)
class WebhookRecord:
    """One webhook delivery: URL, body, and the status of the response (0: none).

    Example:
        import httpx
        from finetuning_async.emulator import Emulator

        async def sender(url, headers, body):  # instead of a POST
            return 204

        async with Emulator(webhook_sender=sender) as emulator:
            async with httpx.AsyncClient(transport=emulator.transport()) as http:
                client = AsyncClient(http_client=http)
                await client.generate("rain", webhook="https://me.example/hooks")
                await anyio.sleep(1)
            print([(delivery.status, delivery.at) for delivery in emulator.webhooks])
    """

    at: float
    url: str = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    status: int = 0
