"""Every setting of the emulator, with its default.

Where the service's behaviour is not documented, the default is what section 10 of the
API specification assumes (``U4`` and so on are its rows).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import attrs
from attrs.validators import ge, gt, in_, le, optional

from finetuning_async.emulator._keys import API_KEY, is_key
from finetuning_async.emulator._records import RateLimit, RateLimits

if TYPE_CHECKING:
    import os

    from finetuning_async.emulator._rate_limiters import WindowKind
    from finetuning_async.emulator._records import RequestRecord

RetryAfterPlace = Literal["both", "header", "body", "none"]
RequestListener = Callable[["RequestRecord"], None]
WebhookSender = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]

RESET_ONLY = (
    "speed",
    "api_key",
    "seed",
    "window",
    "window_phase",
    "creates_per_minute",
    "reads_per_minute",
    "other_creates",
    "credits",
    "pack_credits",
    "tier",
    "base_url",
    "media_url",
    "start_time",
)
"""Settings that are used once, when the service starts; a change waits for a reset."""

_WINDOWS = ("fixed", "first", "log", "counter", "rounded_counter", "bucket")


def _is_range(
    _: object, attribute: attrs.Attribute[Any], value: tuple[float, float]
) -> None:
    low, high = value
    if not 0 <= low <= high:
        message = f"{attribute.name} must be 0 <= low <= high, got {value!r}"
        raise ValueError(message)


def _host_patterns(value: str | Iterable[str]) -> tuple[str, ...]:
    """Host names in lower case, from a list or from text with commas."""
    names = value.split(",") if isinstance(value, str) else value
    return tuple(name.strip().lower() for name in names)


def _are_hosts(
    _: object, attribute: attrs.Attribute[Any], value: tuple[str, ...]
) -> None:
    for name in value:
        if not name or set(name) & set("/:@ "):
            message = f"{attribute.name} must be host names such as app, got {name!r}"
            raise ValueError(message)


@attrs.define(kw_only=True, eq=False, slots=False, on_setattr=attrs.setters.frozen)
class EmulatorSettings:
    """The settings of an `Emulator`. Times are seconds at speed 1.

    All but ``webhook_sender`` and ``on_request``, which are functions, ``audio`` and
    ``state_dir`` can be read and changed over HTTP and be in a seed file.

    Attributes:
        speed: The service's own times (generation, rate windows) are divided by it.
            ``Retry-After`` stays in whole real seconds, 1 at least.
        api_key: The first account's key: ``ft_live_`` and 32 visible ASCII characters.
        seed: Any whole number, from which ids, seeds that the service chooses, times
            and probabilities follow.
        window: How requests are counted: by ``fixed`` windows, from the ``first``
            request on, as a ``log``, with a sliding ``counter`` or a
            ``rounded_counter``, or as a token ``bucket``.
        window_phase: Where fixed windows begin, in seconds of the loop's clock after
            the start; ``None`` draws it from ``seed``.
        creates_per_minute: Limit of ``POST /v1/generations``, at least 1.
        reads_per_minute: Limit of all other requests, at least 1.
        count_rejected: Whether a refused request counts too.
        rate_limit_headers: Whether ``X-RateLimit-*`` are sent.
        retry_after_in: Where a rate limit 429 states how long to wait: ``header``,
            ``body``, ``both`` or ``none``.
        other_creates: The limit of instrumentals and sound effects: that of
            ``creates`` or that of ``reads``.
        queue_size: Tracks of one account in progress before ``QUEUE_FULL``, at least
            1.
        queue_full_retry_after: Whole seconds that ``QUEUE_FULL`` names; ``None`` names
            none.
        generation_time: The fewest and the most seconds that a track takes.
        effect_time: The fewest and the most seconds that a sound effect takes.
        pending_time: The fewest and the most seconds that a track is ``pending``
            before it is ``processing``; part of neither range above. ``None``: the
            first tenth of the time it takes, 1 s at most.
        failure_rate: Share of tracks that fail, 0 to 1.
        refund_failed: Whether the credit of a failed track is refunded.
        credits: Credits of the first account each month, at least 0.
        pack_credits: Bought credits, at least 0, used after the monthly ones.
        tier: Plan of the first account; only ``pro`` and ``lifetime`` may use the API.
        daily_effects: Sound effects per UTC day and account, at least 0.
        daily_limit_status: Status of the response above that: 402 or 429.
        clamp_out_of_range: Clamp numbers to their range instead of refusing them.
        rewrite_prompts: Echo a different prompt from the one sent.
        ignore_seeds: Use and echo a seed that the service chose.
        loopback_webhooks: Whether a webhook may point to this machine.
        webhook_hosts: Further hosts to which a webhook may point, by http too, such as
            the names of containers; ``*`` stands for any characters. A list, or text
            with commas.
        webhook_timeout: Seconds for one delivery, not divided by ``speed``.
        webhook_sender: Called with URL, headers and body instead of a POST by httpx;
            returns the status.
        on_request: Called with the record of each request once it was answered, or its
            connection was broken.
        latency: The fewest and the most seconds of the network's delay, each way; not
            divided by ``speed``.
        base_url: The URL at which the in-process transport serves the API.
        media_url: The URL at which the in-process transport serves audio.
        start_time: Wall time at the start; ``None`` is now. It advances with the
            loop's clock.
        audio: Bytes to serve as every track's MP3 instead of rendering one.
        state_dir: A folder that keeps accounts, tracks, playlists, faults, ledger and
            clock through restarts; rate windows and logs begin anew, and settings are
            those of each start. A process that is killed loses at most the last second.
            One emulator at a time uses it.

    Example:
        from finetuning_async.emulator import Emulator

        slow = Emulator(generation_time=(200, 300), queue_size=2, failure_rate=0.1)
    """

    speed: float = attrs.field(default=1.0, validator=gt(0))
    api_key: str = attrs.field(default=API_KEY, validator=is_key)
    seed: int = 1
    window: WindowKind = attrs.field(default="fixed", validator=in_(_WINDOWS))
    window_phase: float | None = None
    creates_per_minute: int = attrs.field(default=10, validator=ge(1))
    reads_per_minute: int = attrs.field(default=60, validator=ge(1))
    count_rejected: bool = False
    rate_limit_headers: bool = True
    retry_after_in: RetryAfterPlace = attrs.field(
        default="both", validator=in_(("both", "header", "body", "none"))
    )
    other_creates: Literal["creates", "reads"] = attrs.field(
        default="reads", validator=in_(("creates", "reads"))
    )
    queue_size: int = attrs.field(default=5, validator=ge(1))
    queue_full_retry_after: int | None = None
    generation_time: tuple[float, float] = attrs.field(
        default=(20.0, 120.0), validator=_is_range
    )
    effect_time: tuple[float, float] = attrs.field(
        default=(3.0, 8.0), validator=_is_range
    )
    pending_time: tuple[float, float] | None = attrs.field(
        default=None, validator=optional(_is_range)
    )
    failure_rate: float = attrs.field(default=0.0, validator=[ge(0), le(1)])
    refund_failed: bool = False
    credits: int = attrs.field(default=2000, validator=ge(0))
    pack_credits: int = attrs.field(default=0, validator=ge(0))
    tier: str = "pro"
    daily_effects: int = attrs.field(default=100, validator=ge(0))
    daily_limit_status: Literal[402, 429] = attrs.field(
        default=429, validator=in_((402, 429))
    )
    clamp_out_of_range: bool = False
    rewrite_prompts: bool = False
    ignore_seeds: bool = False
    loopback_webhooks: bool = True
    webhook_hosts: tuple[str, ...] = attrs.field(
        default=(), converter=_host_patterns, validator=_are_hosts
    )
    webhook_timeout: float = attrs.field(default=10.0, validator=gt(0))
    webhook_sender: WebhookSender | None = None
    on_request: RequestListener | None = None
    latency: tuple[float, float] = attrs.field(default=(0.0, 0.0), validator=_is_range)
    base_url: str = "https://pub.finetuning.ai"
    media_url: str = "https://media.finetuning.ai"
    start_time: datetime | None = None
    audio: bytes | None = None
    state_dir: str | os.PathLike[str] | None = None

    def wall_start(self) -> datetime:
        """The wall time at the start, aware, in UTC."""
        if self.start_time is None:
            return datetime.now(UTC)
        return self.start_time.astimezone(UTC)

    @property
    def rate_limits(self) -> RateLimits:
        """What to give a client: ``.creates`` and ``.reads`` with ``.limit, .per``."""
        per = 60.0 / self.speed
        return RateLimits(
            RateLimit(self.creates_per_minute, per),
            RateLimit(self.reads_per_minute, per),
        )
