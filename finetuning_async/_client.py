"""`AsyncClient`: the one object that an application holds.

What a client is made of is imported when the first client is made: not with this
module, so that a program's ``--help`` is fast, and not in the first call, where the
import would block the event loop.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal, Self

from finetuning_async._constants import MAX_RETRIES, MAX_RETRY_WAIT
from finetuning_async._errors import InvalidRequestError
from finetuning_async._http import DEFAULT_TIMEOUT
from finetuning_async._logging import set_up_logging
from finetuning_async._pacing import DEFAULT_LIMITS
from finetuning_async._resources import TrackMethods, known_options_only
from finetuning_async._runtime import run_to_completion
from finetuning_async._types import NOT_GIVEN

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from types import TracebackType

    import httpx

    from finetuning_async._events import Event
    from finetuning_async._http import HTTPClient, HTTPTimeout, Proxy, Verify
    from finetuning_async._pacing import (
        Budget,
        RateLimiter,
        RateLimits,
        SupportsRateLimits,
    )
    from finetuning_async._resources import (
        ClientJournal,
        Generations,
        Instrumentals,
        Playlists,
        SoundEffects,
    )
    from finetuning_async._session import JournalSource, Session, Settings
    from finetuning_async._types import NotGiven, Priority
    from finetuning_async.journal import JournalBackend


class AsyncClient(TrackMethods):
    """A client of the finetuning.ai music API, for one account.

        async with AsyncClient() as client:
            track = await client.generate("lofi chill piano night", duration=120)
            await client.download(track, "night.mp3")

    Without ``async with``, call `aclose` at the end. A client starts no background task
    and is used in one event loop at a time. Clients with the same key and base URL
    share their rate limits across all event loops and threads of the process, and their
    poll loop within one event loop.

    Args:
        api_key: The API key; by default the environment variable
            ``FINETUNING_API_KEY``. ``api_key=stored_key()`` uses the one that
            ``finetuning auth login`` stored. White space around it is removed.
        base_url: The URL of the service, ``https`` unless it is a loopback address; by
            default ``FINETUNING_BASE_URL``, else the real service.
        request_timeout: Seconds for one attempt, from sending to the end of the
            response; or a ``Timeout`` of httpx or httpx2, whose longest part bounds the
            whole attempt; `None` for no limit. The default is 30 s, of which each step
            of connecting may take 5 s. For how all timeouts relate see
            ``guides/timeouts.md`` (``finetuning guide timeouts``).
        max_retries: How often a failed attempt is retried, at least 0; only failures
            that cannot have cost anything are. With 0, a 429 is raised at once as well.
        max_retry_wait: Seconds; the longest pause that a 429 may ask for. If it asks
            for more, the call raises. A pause is cut to 3600 s in any case.
        rate_limits: What the account may send; `None` turns rate limiting off, for
            example in tests that mock HTTP and do not wait for real minutes. Of several
            clients with one key the limits of the first apply, in all event loops of
            the process, while its requests count.
        rate_limiter: Shares the rate limits with other clients: a `LocalRateLimiter`
            for two keys of one account; ``"shared"`` for all programs of one user on
            one machine; `finetuning_async.redis.RedisRateLimiter` for many machines.
        on_event: A plain function, called with each `Event` of this client. It must
            return at once. An exception that it raises is logged once and has no other
            effect.
        headers: Extra headers of each request to the service, for example for a
            gateway; not sent to the media host. Their values are treated as secrets.
        proxy: The URL of a proxy, ``http``, ``https`` or ``socks5``, for all requests;
            by default that of ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.
        verify: How to verify TLS certificates: `True` for the usual authorities, the
            path of certificates in PEM form, an `ssl.SSLContext`, or `False` for no
            verification, which shows the API key to anyone on the network path.
        trust_env: Whether to read proxies, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` from
            the environment.
        http_client: An `AsyncClient` of httpx or httpx2 to send requests with; it is
            never closed here, and its own proxy and certificates apply. Since it may be
            a test's, the account's rate limits then end with the event loop. An httpx
            0.28 client permanently loses a place in its connection pool if a request is
            cancelled while it connects; our own clients are replaced in this case, and
            httpx2 has no such fault.
        priority: Who goes first where creates wait: ``"high"``, ``"normal"`` or
            ``"low"``. Of ten permits in a row at least one goes to a lower priority
            that waits. More ``"low"`` creates than a burst holds go out evenly, so that
            others need not wait for a burst to be over.
        share: For whom the creates are, such as an end user: 1 to 255 characters. Of
            one priority, each share that waits has one turn after another; within a
            share creates are first come, first served. `None` is a share as well.
        max_wait: Seconds that a create may wait for its permit and its place in the
            service's queue, over all tries; `None` for no limit. One that would wait
            longer raises `CapacityError` at once, and nothing is sent.
        budget: The most credits that may be spent, for `share` if that is given, else
            for the account; a create above it raises `BudgetExceededError`, and nothing
            is sent. A view's budget for a share comes on top of the account's.
        journal: Where each create is recorded before it is sent, so that an
            `idempotency_key` holds across restarts and processes: the path of an SQLite
            file, which all processes of one machine may share; a ``postgresql://`` URL;
            or a `finetuning_async.journal.SQLiteJournal` or
            `finetuning_async.postgres.PostgresJournal`, which is not closed here. It is
            opened at the first use. Each account has a part of its own in it.

    Attributes:
        generations: Music: create, get, list, delete.
        instrumentals: Tracks without vocals: create.
        sound_effects: Short clips: create, get, list.
        playlists: list, get, add_tracks, remove_tracks, move_tracks.

    Raises:
        InvalidRequestError: An option is out of its range, or there is no API key. It
            is a `TypeError` as well if there is no such option.
    """

    @known_options_only
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
        priority: Priority = "normal",
        share: str | None = None,
        max_wait: float | None = None,
        budget: Budget | None = None,
        journal: str | os.PathLike[str] | JournalBackend | None = None,
    ) -> None:
        from finetuning_async._http import ClientPool, ConnectionConfig
        from finetuning_async._session import OpenCalls, Settings, read_secrets

        set_up_logging()
        secrets: dict[str, Any] = {
            "api_key": api_key,
            "headers": headers,
            "proxy": proxy,
            "journal": journal,
        }
        # Secrets, and a traceback may show this frame.
        del api_key, headers, proxy, journal
        problem = read_secrets(secrets)
        if problem is not None:
            raise InvalidRequestError.hidden(*problem)
        connection_config = ConnectionConfig(
            proxy=secrets.pop("proxy"), verify=verify, trust_env=trust_env
        )
        self._journal: JournalSource | None = secrets.pop("journal")
        if self._journal is not None:
            # Loaded here, not in the first call: see above.
            from finetuning_async._session import KeyedCreates  # noqa: F401

            self._journal.load()
        self._pool = ClientPool(http_client, connection_config)
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
                priority=priority,
                share=share,
                max_wait=max_wait,
                budget=budget,
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
        if settings is None:  # `__init__` raised, and a traceback shows its frame
            return "<AsyncClient, not initialized>"
        state = "closed" if self.is_closed else "open"
        return f"<AsyncClient {settings.base_url} key={settings.api_key!r} {state}>"

    def _session(self) -> Session:
        """Return this client's session in the running event loop."""
        if self._loop.is_new() or self._bound is None:
            from finetuning_async._session import Session

            self._pool.enter_loop(self._settings.base_url)
            self._bound = Session.bind(
                self._settings, self._pool, self._calls, self._journal
            )
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
    def journal(self) -> ClientJournal:
        """What became of the creates of this account, as its journal knows it.

        Raises:
            InvalidRequestError: The client has no journal.

        Example:
            async with AsyncClient(journal="tracks.db") as client:
                async for entry in client.journal.entries("held"):
                    print(entry.key, entry.error)
        """
        from finetuning_async._resources import ClientJournal
        from finetuning_async._session import no_journal_error

        if self._journal is None:
            raise no_journal_error()
        return ClientJournal(self._session)

    @property
    def is_closed(self) -> bool:
        """Whether `aclose` has been called."""
        return self._calls.is_closing

    async def aclose(self) -> None:
        """Close the client and its views. Another call does nothing.

        Calls that wait raise `ClientClosedError`. A create in flight gets up to 5 s to
        finish, so that its id is not lost. Tracks in progress are not cancelled.
        """
        if self._calls.is_closed:
            return
        await run_to_completion(self._close)

    async def _end_calls(self, patience: float) -> None:
        """Begin to close: refuse new calls, end waits and creates, then reads.

        Args:
            patience: Seconds for which reads in flight may go on.
        """
        self._calls.begin_closing(self._pool, grace=patience)

    async def _close(self) -> None:
        await self._calls.close(self._pool)
        await self._pool.aclose()
        if self._journal is not None:
            await self._journal.aclose()

    @known_options_only
    def with_options(
        self,
        *,
        api_key: str | NotGiven | None = NOT_GIVEN,
        base_url: str | NotGiven | None = NOT_GIVEN,
        request_timeout: (
            float | httpx.Timeout | HTTPTimeout | NotGiven | None
        ) = NOT_GIVEN,
        max_retries: int | NotGiven = NOT_GIVEN,
        max_retry_wait: float | NotGiven = NOT_GIVEN,
        rate_limits: RateLimits | SupportsRateLimits | NotGiven | None = NOT_GIVEN,
        rate_limiter: RateLimiter | Literal["shared"] | NotGiven | None = NOT_GIVEN,
        on_event: Callable[[Event], object] | NotGiven | None = NOT_GIVEN,
        headers: Mapping[str, str] | NotGiven | None = NOT_GIVEN,
        priority: Priority | NotGiven = NOT_GIVEN,
        share: str | NotGiven | None = NOT_GIVEN,
        max_wait: float | NotGiven | None = NOT_GIVEN,
        budget: Budget | NotGiven | None = NOT_GIVEN,
        journal: (
            str | os.PathLike[str] | JournalBackend | NotGiven | None
        ) = NOT_GIVEN,
    ) -> AsyncClient:
        """A lightweight view of this client with other options.

        Each is as for the constructor; one that is not given stays as it is. A view
        shares the connections, the poll loop, the rate limits and the journal; with
        another `api_key` or `base_url` it has rate limits of its own, and with another
        account a part of its own in the journal. Closing the client or any view closes
        them all. So `http_client`, `proxy`, `verify` and `trust_env` cannot be changed.

        Each account takes 16 KiB. With thousands of accounts garbage collection takes a
        fifth of the CPU time; ``gc.set_threshold(10_000)`` at the start of the program
        avoids most of it.

        Args:
            api_key: The API key; `None` for that of the environment.
            base_url: The URL of the service; `None` for that of the environment.
            request_timeout: Seconds for one attempt; `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0.
            max_retry_wait: Seconds; the longest pause that a 429 may ask for.
            rate_limits: What the account may send; `None` turns rate limiting off.
            rate_limiter: Shares the rate limits with other clients or programs.
            on_event: A plain function, called with each `Event` of the view.
            headers: Extra headers of each request, in place of the client's.
            priority: ``high``, ``normal`` or ``low``.
            share: For whom the creates are, 1 to 255 characters.
            max_wait: Seconds that a create may wait; `None` for no limit.
            budget: The most credits that may be spent; for a `share`, on top of the
                account's.
            journal: That of the client, which all its views share.

        Raises:
            InvalidRequestError: A value is out of range. It is a `TypeError` as well if
                there is no such option.
        """
        from finetuning_async._session import read_secrets

        given: dict[str, Any] = {
            "api_key": api_key, "base_url": base_url, "headers": headers,
            "request_timeout": request_timeout, "max_retries": max_retries,
            "max_retry_wait": max_retry_wait, "rate_limits": rate_limits,
            "rate_limiter": rate_limiter, "on_event": on_event, "journal": journal,
            "priority": priority, "share": share, "max_wait": max_wait,
            "budget": budget,
        }  # fmt: skip # one option per line would double the method
        del api_key, headers, journal  # secrets, and a traceback may show this frame
        for name in [name for name, value in given.items() if value is NOT_GIVEN]:
            del given[name]
        problem = read_secrets(given)
        if problem is not None:
            raise InvalidRequestError.hidden(*problem)
        own = given.pop("journal", self._journal)
        if own is not self._journal and (own is None or not own.is_same(self._journal)):
            raise InvalidRequestError.hidden(
                "journal",
                "that of the client, which all its views share; for another journal"
                " make another AsyncClient",
            )
        view = copy.copy(self)  # with the same `_pool` and `_calls`
        view._begin(self._settings.with_overrides(given))  # noqa: SLF001 - of this class
        return view
