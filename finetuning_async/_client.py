"""`AsyncClient`: the one object that an application holds."""

from __future__ import annotations

import copy
import logging
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast, overload

import anyio

from finetuning_async import _parsing
from finetuning_async._download import Download, audio_url
from finetuning_async._errors import (
    ClientClosedError,
    GenerationFailedError,
    InvalidRequestError,
    WaitTimeoutError,
)
from finetuning_async._file_names import target_of
from finetuning_async._generate_many import Outcomes
from finetuning_async._requests import GenerationRequest
from finetuning_async._resources import (
    READ_TIMEOUT,
    Generations,
    Instrumentals,
    Playlists,
    SoundEffects,
)
from finetuning_async._session import Loop, OpenCalls, Session
from finetuning_async._settings import (
    DEFAULT_LIMITS,
    MAX_RETRIES,
    MAX_RETRY_WAIT,
    Settings,
    read_key,
)
from finetuning_async._shield import carried_to_its_end
from finetuning_async._transport import (
    DEFAULT_TIMEOUT,
    Pool,
)
from finetuning_async._waiting import check_timeout
from finetuning_async._wire import Call

if TYPE_CHECKING:
    import os
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        Awaitable,
        Callable,
        Iterable,
    )
    from types import TracebackType

    import httpx

    from finetuning_async._limiter import Limiter
    from finetuning_async._models import Account, Generation, Health, SoundEffect
    from finetuning_async._rate_limits import RateLimitStatus, SupportsRateLimits
    from finetuning_async._requests import AnyRequest
    from finetuning_async._types import OnUnknown, UpdateCallback

logger = logging.getLogger("finetuning_async")

WAIT_TIMEOUT: Final = 300.0
"""Seconds; a longer `processing` may be a failure that the service did not record."""


class AsyncClient:
    """The finetuning.ai music API, for one account.

        async with AsyncClient() as client:
            track = await client.generate("lofi chill piano night", duration=120)
            await client.download(track, "night.mp3")

    It can be used without ``async with``, too: it starts no background task; call
    `aclose` at the end. Clients with the same key and base URL share their budgets and
    their poll loop within one event loop.

    Args:
        api_key: The key; by default the environment variable ``FINETUNING_API_KEY``.
            White space around it is dropped.
        base_url: The service, ``https`` unless on a loopback address; by default
            ``FINETUNING_BASE_URL``, else the real service.
        request_timeout: Seconds for one attempt on the wire, or an `httpx.Timeout`;
            `None` for no limit. By default 30 s, 5 s of them to connect.
        max_retries: How often a failed attempt is repeated, where that costs nothing;
            at least 0. With 0, a 429 is raised at once, too.
        max_retry_wait: Seconds; the longest single pause that a 429 may ask for. Above
            it the call raises.
        rate_limits: What the account may send; `None` switches pacing off.
        rate_limiter: The turns of another client, to share one account's budgets
            between two of its keys.
        http_client: The HTTP client to use; it is never closed here.

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
        request_timeout: float | httpx.Timeout | None = DEFAULT_TIMEOUT,
        max_retries: int = MAX_RETRIES,
        max_retry_wait: float = MAX_RETRY_WAIT,
        rate_limits: SupportsRateLimits | None = DEFAULT_LIMITS,
        rate_limiter: Limiter | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        key, problem = read_key(api_key)
        del api_key  # a traceback may show the locals of this frame
        if key is None:
            raise InvalidRequestError.hidden("api_key", problem)
        self._pool = Pool(http_client)
        self._calls = OpenCalls()
        self._begin(
            Settings(
                api_key=key,
                base_url=base_url or "",
                request_timeout=request_timeout,
                max_retries=max_retries,
                max_retry_wait=max_retry_wait,
                rate_limits=rate_limits,
                rate_limiter=rate_limiter,
            )
        )

    def _begin(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = Loop()
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
            self._pool.enter_loop()
            self._bound = Session.begin(self._settings, self._pool, self._calls)
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
        if self.is_closed:
            return
        await carried_to_its_end(self._close)

    async def _close(self) -> None:
        await self._calls.close(self._pool)
        await self._pool.aclose()

    def with_options(self, **overrides: Any) -> AsyncClient:
        """A light view of this client with other options.

        It shares the connections, the poll loop and the limits; with another `api_key`
        or `base_url` it has limits of its own. Closing one closes all.

        Args:
            overrides: Any option of the constructor but `http_client`.

        Raises:
            InvalidRequestError: There is no such option, or a value is out of range.
        """
        if "api_key" in overrides:
            key, problem = read_key(overrides.pop("api_key"))
            if key is None:
                raise InvalidRequestError.hidden("api_key", problem)
            overrides["api_key"] = key
        view = copy.copy(self)
        view._begin(self._settings.changed(overrides))  # noqa: SLF001 - it is one of us
        return view

    async def me(self, *, timeout: float | None = READ_TIMEOUT) -> Account:
        """Who the key belongs to, and what is left. Costs nothing.

        Args:
            timeout: Seconds for all of it, waiting for its turn included.

        Raises:
            AuthenticationError: The key does not hold.
            FinetuningError: It could not be read.
        """
        answer = await self._session().ask(Call(method="GET", path="/v1/me"), timeout)
        return _parsing.account(answer)

    async def health(self, *, timeout: float | None = READ_TIMEOUT) -> Health:
        """Whether the service is up. The key does not go with it.

        Args:
            timeout: Seconds for all of it, waiting for its turn included.

        Raises:
            FinetuningError: It is not.
        """
        call = Call(method="GET", path="/health", route="health", needs_key=False)
        return _parsing.health(await self._session().ask(call, timeout))

    async def generate(
        self,
        tags: str,
        *,
        lyrics: str | None = None,
        duration: float | None = None,
        bpm: float | None = None,
        language: str | None = None,
        key: str | None = None,
        scale: str | None = None,
        timesignature: int | str | None = None,
        seed: int | None = None,
        webhook: str | None = None,
        on_unknown: OnUnknown = "raise",
        on_submitted: Callable[[Generation], Awaitable[None] | None] | None = None,
        validate: bool = True,
        timeout: float | None = None,
        wait_timeout: float | None = WAIT_TIMEOUT,
        on_update: UpdateCallback | None = None,
    ) -> Generation:
        """Create a track and wait until it is completed. Costs one credit.

        Args:
            tags: What it shall sound like; this and all up to `validate` as for
                `Generations.create`.
            lyrics: What is sung.
            duration: 5 to 210 seconds.
            bpm: 60 to 200 beats per minute.
            language: Of the vocals.
            key: The tonic.
            scale: ``major`` or ``minor``.
            timesignature: 2 to 7 beats per bar.
            seed: 0 to 2^31-1.
            webhook: Where the end is announced.
            on_unknown: What to do when the fate of the create cannot be learned.
            on_submitted: Called with the accepted state.
            validate: Whether the parameters are checked here first.
            timeout: Seconds for the whole call; `None` for no limit.
            wait_timeout: Seconds from acceptance on; `None` for no limit.
            on_update: Called with each changed state, the final one last.

        Raises:
            GenerationFailedError: The track ended as failed.
            WaitTimeoutError: It still runs; wait for it by its id, do not create it
                again.
            FinetuningError: As `Generations.create`.
        """
        request = GenerationRequest(
            tags,
            lyrics=lyrics,
            duration=duration,
            bpm=bpm,
            language=language,
            key=key,
            scale=scale,
            timesignature=timesignature,
            seed=seed,
            webhook=webhook,
        )
        # Its query is a secret, and a traceback may show the locals of this frame.
        del webhook
        deadline = inf
        if timeout is not None:
            deadline = anyio.current_time() + check_timeout(timeout)
        if wait_timeout is not None:
            check_timeout(wait_timeout, "wait_timeout")
        session = self._session()
        order = session.order(
            request,
            validate=validate,
            on_unknown=on_unknown,
            on_submitted=on_submitted,
        )
        accepted: Generation = await session.submit(order, timeout)
        longest = inf if wait_timeout is None else wait_timeout
        left = min(deadline - anyio.current_time(), longest)
        return await self._until_completed(accepted, left, on_update)

    async def _until_completed(
        self, accepted: Generation, left: float, on_update: UpdateCallback | None
    ) -> Generation:
        try:
            final: Generation = await self._session().wait(
                accepted, timeout=max(left, 0.0), on_update=on_update
            )
        except WaitTimeoutError as error:
            error.safe_to_retry = False  # the same call would create it again
            raise
        if final.status == "failed":
            raise GenerationFailedError(
                f"{final.id} failed: {final.error_message or 'no reason was given'}",
                generation=final,
            )
        return final

    @overload
    async def wait_for_completion(
        self,
        generation_or_id: Generation | str,
        *,
        timeout: float | None = ...,
        on_update: UpdateCallback | None = ...,
    ) -> Generation: ...

    @overload
    async def wait_for_completion(
        self,
        generation_or_id: SoundEffect,
        *,
        timeout: float | None = ...,
        on_update: UpdateCallback | None = ...,
    ) -> SoundEffect: ...

    async def wait_for_completion(
        self,
        generation_or_id: Generation | SoundEffect | str,
        *,
        timeout: float | None = WAIT_TIMEOUT,
        on_update: UpdateCallback | None = None,
    ) -> Generation | SoundEffect:
        """Wait for the final state of a track: ``completed`` or ``failed``.

        All waits of an account share one poll loop. Passing failures of a read end no
        wait.

        Args:
            generation_or_id: The track, or its id; it may come from another process.
            timeout: Seconds; `None` for no limit.
            on_update: Called with each changed state, the final one last; plain or
                async. What it raises ends this wait, and no other.

        Raises:
            WaitTimeoutError: It still runs; `generation` is the last state seen.
            NotFoundError: There is no such track.
            AuthenticationError: The key does not hold.
            ClientClosedError: The client was closed meanwhile.
        """
        final = await self._session().wait(
            generation_or_id, timeout=timeout, on_update=on_update
        )
        return cast("Generation | SoundEffect", final)

    def generate_many(
        self,
        requests: Iterable[AnyRequest] | AsyncIterable[AnyRequest],
        *,
        on_unknown: OnUnknown = "raise",
        on_submitted: Callable[[Any], Awaitable[None] | None] | None = None,
        validate: bool = True,
        wait_timeout: float | None = WAIT_TIMEOUT,
        on_update: UpdateCallback | None = None,
    ) -> Outcomes:
        """Create many tracks, and tell of each as it ends. Costs one credit each.

            async with client.generate_many(requests) as outcomes:
                async for outcome in outcomes:
                    print(outcome.request.prompt, outcome.error or outcome.generation)

        The requests are read as their turns come, a few at a time. One that fails is an
        outcome with an `error` and does not stop the rest. The block can be left early:
        then nothing more is sent, no track is cancelled, and ``outcomes.pending`` holds
        the ids that were accepted and not told of.

        Args:
            requests: What to create; any iterable or async iterable.
            on_unknown: What to do when the fate of a create cannot be learned.
            on_submitted: Called with each accepted state.
            validate: Whether the parameters are checked here first.
            wait_timeout: Seconds from each acceptance on; `None` for no limit.
            on_update: Called with each changed state of each track.

        Raises:
            InvalidRequestError: `wait_timeout` is no number of seconds.
        """
        if wait_timeout is not None:
            check_timeout(wait_timeout, "wait_timeout")
        return Outcomes(
            self._session(),
            requests,
            on_unknown=on_unknown,
            on_submitted=on_submitted,
            validate=validate,
            wait_timeout=wait_timeout,
            on_update=on_update,
        )

    def watch(
        self,
        generation_or_id: Generation | SoundEffect | str,
        *,
        timeout: float | None = WAIT_TIMEOUT,
    ) -> AsyncGenerator[Generation | SoundEffect]:
        """Iterate over the states of a track as they change, the final one last.

        A slow consumer misses states in between, never the last.

        Args:
            generation_or_id: The track, or its id.
            timeout: Seconds; `None` for no limit.

        Raises:
            FinetuningError: As `wait_for_completion`.
        """
        return self._session().states(generation_or_id, timeout=timeout)

    async def download(
        self,
        generation_or_url: Generation | SoundEffect | str,
        path: str | os.PathLike[str],
        *,
        on_progress: Callable[[int, int | None], object] | None = None,
    ) -> Path:
        """Download a track to a file, whole or not at all. Eight run at once.

        Args:
            generation_or_url: A completed track, or its `audio_url`.
            path: The file; its folder is made if need be, an older file is replaced. In
                a folder that is there, the file gets the vendor's default name.
            on_progress: Called with the bytes done and the total, if that is known.

        Returns:
            The path.

        Raises:
            InvalidRequestError: The track has no audio, or nothing can be written
                there.
            APIStatusError: The media host refused.
            APIConnectionError: The stream broke, repeatedly.
        """
        session = self._session()
        download = Download(
            session.pipeline.transport,
            session.pipeline.retry,
            audio_url(generation_or_url),
            on_progress,
        )
        with session.calls.one():
            async with session.account.downloads:
                return await download.to(target_of(generation_or_url, Path(path)))
        raise ClientClosedError("the client was closed while this download ran")

    def notice(self, generation_id: str) -> None:
        """Say that something happened to a track: the poll loop looks at it soon.

        If nobody waits for it yet, that is remembered for a minute, and costs nothing.

        Args:
            generation_id: Its id.
        """
        self._session().account.poller.notice(generation_id)

    def rate_limit_status(self) -> RateLimitStatus:
        """Both budgets now: what is free, who waits, what the service said."""
        return self._session().account.limiter.status()
