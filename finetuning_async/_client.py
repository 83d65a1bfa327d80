"""`AsyncClient`: the one object that an application holds.

What a client is made of is imported when the first one is made, here and not at its
first call, which would stand still meanwhile. So a program that only names the class,
or that ends with its own ``--help``, does not wait for it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal, Self

from finetuning_async._constants import MAX_RETRIES, MAX_RETRY_WAIT, READ_TIMEOUT
from finetuning_async._errors import InvalidRequestError
from finetuning_async._http import DEFAULT_TIMEOUT
from finetuning_async._logging import set_up_logging
from finetuning_async._pacing import DEFAULT_LIMITS
from finetuning_async._resources import TrackMethods
from finetuning_async._runtime import run_to_completion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    import httpx

    from finetuning_async._api import Account, Health
    from finetuning_async._events import Event
    from finetuning_async._http import HTTPClient, HTTPTimeout, Proxy, Verify
    from finetuning_async._pacing import (
        RateLimiter,
        RateLimits,
        RateLimitStatus,
        SupportsRateLimits,
    )
    from finetuning_async._resources import (
        Generations,
        Instrumentals,
        Playlists,
        SoundEffects,
    )
    from finetuning_async._session import Session, Settings


class AsyncClient(TrackMethods):
    """The finetuning.ai music API, for one account.

        async with AsyncClient() as client:
            track = await client.generate("lofi chill piano night", duration=120)
            await client.download(track, "night.mp3")

    It can be used without ``async with``, too: it starts no background task; call
    `aclose` at the end. Clients with the same key and base URL share their budgets
    within the process, whichever event loops and threads they are used in, and their
    poll loop within one event loop. A client is used in one event loop.

    Args:
        api_key: The key; by default the environment variable ``FINETUNING_API_KEY``.
            White space around it is dropped.
        base_url: The service, ``https`` unless on a loopback address; by default
            ``FINETUNING_BASE_URL``, else the real service.
        request_timeout: Seconds for one attempt on the wire, from its beginning to the
            end of the response; or a ``Timeout`` of httpx or httpx2, whose longest
            part bounds the whole; `None` for no limit. By default 30 s, 5 s of them for
            each step of connecting.
        max_retries: How often a failed attempt is repeated, where that costs nothing;
            at least 0. With 0, a 429 is raised at once, too.
        max_retry_wait: Seconds; the longest single pause that a 429 may ask for. Above
            it the call raises. No service is believed to ask for more than 3600.
        rate_limits: What the account may send; `None` switches pacing off. Of several
            clients with one key the first one's hold, in all loops of the process, for
            as long as what they sent counts. Tests that mock the HTTP library, and
            wait for no minute to pass, switch it off.
        rate_limiter: Whose turns it takes, if others share them: a `LocalRateLimiter`
            for two keys of one account; ``"shared"`` for all programs of one user on
            one machine; `finetuning_async.redis.RedisRateLimiter` for many machines.
        on_event: Called with each `Event` of this client as it happens: a plain
            function that returns at once. What it raises is logged once and ends
            nothing. Unset, it costs nothing.
        headers: Headers that go with every request to the service, as a gateway may
            want; never to the media host. Their values are treated as secrets.
        proxy: The URL of a proxy, ``http``, ``https`` or ``socks5``, for all requests;
            by default what ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say.
        verify: Who may speak for the service: `True` for the usual authorities, the
            path of certificates in PEM form, an `ssl.SSLContext`, or `False` for
            anybody, which gives the key away to whoever is in between.
        trust_env: Whether the environment is read for proxies, ``SSL_CERT_FILE`` and
            ``SSL_CERT_DIR``.
        http_client: The `AsyncClient` of httpx or httpx2 to use; it is never closed
            here. It has its own proxy and certificates. As it may be a test's, the
            account's budgets end with the event loop then. One of httpx 0.28 loses a
            place in its pool for ever where a call is cancelled at a wrong instant; our
            own are replaced then, and httpx2 loses none.

    Attributes:
        generations: Music: create, get, list, delete.
        instrumentals: Tracks without vocals: create.
        sound_effects: Short clips: create, get, list.
        playlists: list, get, add_tracks, remove_tracks, move_tracks.

    Raises:
        InvalidRequestError: A value is out of its range, or there is no key.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        request_timeout: float | httpx.Timeout | HTTPTimeout | None = DEFAULT_TIMEOUT,
        max_retries: int = MAX_RETRIES,
        max_retry_wait: float = MAX_RETRY_WAIT,
        rate_limits: RateLimits | SupportsRateLimits | None = DEFAULT_LIMITS,
        rate_limiter: RateLimiter | Literal["shared"] | None = None,
        on_event: Callable[[Event], object] | None = None,
        headers: Mapping[str, str] | None = None,
        proxy: Proxy | None = None,
        verify: Verify = True,
        trust_env: bool = True,
        http_client: httpx.AsyncClient | HTTPClient | None = None,
    ) -> None:
        from finetuning_async._http import ClientPool, ConnectionConfig
        from finetuning_async._session import OpenCalls, Settings, read_secrets

        set_up_logging()
        secrets: dict[str, Any] = {
            "api_key": api_key,
            "headers": headers,
            "proxy": proxy,
        }
        del api_key, headers, proxy  # a traceback may show the locals of this frame
        wrong = read_secrets(secrets)
        if wrong is not None:
            raise InvalidRequestError.hidden(*wrong)
        connecting = ConnectionConfig(
            proxy=secrets.pop("proxy"), verify=verify, trust_env=trust_env
        )
        self._pool = ClientPool(http_client, connecting)
        self._calls = OpenCalls()
        self._begin(
            Settings(
                base_url=base_url or "",
                request_timeout=request_timeout,
                max_retries=max_retries,
                max_retry_wait=max_retry_wait,
                rate_limits=rate_limits,
                rate_limiter=rate_limiter,
                on_event=on_event,
                **secrets,
            )
        )

    def _begin(self, settings: Settings) -> None:
        from finetuning_async._resources import (
            Generations,
            Instrumentals,
            Playlists,
            SoundEffects,
        )
        from finetuning_async._session import BoundLoop

        self._settings = settings
        self._loop = BoundLoop()
        self._bound: Session | None = None
        self.generations: Generations = Generations(self._session)
        self.instrumentals: Instrumentals = Instrumentals(self._session)
        self.sound_effects: SoundEffects = SoundEffects(self._session)
        self.playlists: Playlists = Playlists(self._session)

    def __repr__(self) -> str:
        settings = getattr(self, "_settings", None)
        if settings is None:  # `__init__` has raised, and a traceback shows its frame
            return "<AsyncClient, not made>"
        state = "closed" if self.is_closed else "open"
        return f"<AsyncClient {settings.base_url} key={settings.api_key!r} {state}>"

    def _session(self) -> Session:
        """This client in the running event loop."""
        if self._loop.is_new() or self._bound is None:
            from finetuning_async._session import Session

            self._pool.enter_loop(self._settings.base_url)
            self._bound = Session.bind(self._settings, self._pool, self._calls)
        return self._bound

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def is_closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._calls.is_closing

    async def aclose(self) -> None:
        """Close the client and its views. A second call does nothing.

        Calls that wait raise `ClientClosedError`; a create on the wire is let through
        for up to 5 s, so that its id is not lost. Tracks under way go on.
        """
        if self._calls.is_closed:
            return
        await run_to_completion(self._close)

    async def _end_calls(self, patience: float) -> None:
        """Begin to close: no call begins, waits and creates end, and soon the rest.

        Args:
            patience: Seconds that reads under way may still take.
        """
        self._calls.begin_closing(self._pool, grace=patience)

    async def _close(self) -> None:
        await self._calls.close(self._pool)
        await self._pool.aclose()

    def with_options(self, **overrides: Any) -> AsyncClient:
        """A light view of this client with other options.

        It shares the connections, the poll loop and the limits; with another `api_key`
        or `base_url` it has limits of its own. Closing one closes all.

        An account takes 16 KiB. With thousands of them the garbage collector takes a
        fifth of the processor's time; ``gc.set_threshold(10_000)`` at the start of the
        program gets most of it back.

        Args:
            overrides: Any option of the constructor but `http_client`, `proxy`,
                `verify` and `trust_env`, which are of the connections.

        Raises:
            InvalidRequestError: There is no such option, or a value is out of range.
        """
        from finetuning_async._session import read_secrets

        wrong = read_secrets(overrides)
        if wrong is not None:
            raise InvalidRequestError.hidden(*wrong)
        view = copy.copy(self)
        view._begin(self._settings.with_overrides(overrides))  # noqa: SLF001 - it is one of us
        return view

    async def me(
        self, *, timeout: float | None = READ_TIMEOUT, max_retries: int | None = None
    ) -> Account:
        """Who the key belongs to, and what is left. Costs nothing.

        Args:
            timeout: Seconds for all of it, waiting for its turn included.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Raises:
            AuthenticationError: The key does not hold.
            FinetuningError: It could not be read.
        """
        from finetuning_async._api import Call, parsing

        answer = await self._session().request(
            Call(method="GET", path="/v1/me"), timeout, max_retries
        )
        return parsing.account(answer)

    async def health(
        self, *, timeout: float | None = READ_TIMEOUT, max_retries: int | None = None
    ) -> Health:
        """Whether the service is up. The key does not go with it.

        Args:
            timeout: Seconds for all of it, waiting for its turn included.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Raises:
            FinetuningError: It is not.
        """
        from finetuning_async._api import Call, parsing

        call = Call(method="GET", path="/health", route="health", needs_key=False)
        return parsing.health(await self._session().request(call, timeout, max_retries))

    def mark_changed(self, generation_id: str) -> None:
        """Say that something happened to a track: the poll loop looks at it soon.

        If nobody waits for it yet, that is remembered for a minute, and costs nothing.

        Args:
            generation_id: Its id.
        """
        self._session().account.poller.mark_changed(generation_id)

    async def publish_changes(self) -> None:
        """Tell the other processes of the account what `mark_changed` was told here.

        It does nothing unless they share their polling, as they do with
        ``rate_limiter="shared"``, a `finetuning_async.redis.RedisRateLimiter` or a
        `finetuning_async.postgres.PostgresRateLimiter`. Without it they hear of it as
        soon as somebody waits for a track here.

        Example:
            client.mark_changed("5e0c7b1a-93d4-4f26-8a71-2c6f0be4d918")
            await client.publish_changes()
        """
        await self._session().account.poller.publish_changes()

    def rate_limit_status(self) -> RateLimitStatus:
        """Both budgets now: what is free, who waits, what the service said."""
        return self._session().account.limiter.status()
