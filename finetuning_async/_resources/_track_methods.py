"""What a client does with tracks from their order to their file: its longest methods.

A base of `AsyncClient`, of which it needs `_session` only. What a method needs, it
imports itself, as `_client` says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import anyio

from finetuning_async._constants import WAIT_TIMEOUT
from finetuning_async._errors import (
    APITimeoutError,
    ClientClosedError,
    GenerationFailedError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    import os
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        Awaitable,
        Callable,
        Iterable,
    )

    from finetuning_async._api import AnyRequest, Generation, SoundEffect
    from finetuning_async._resources._generate_many import Outcomes
    from finetuning_async._session import Session
    from finetuning_async._types import OnUnknown, UpdateCallback


class TrackMethods(ABC):
    """Generate, wait, watch and download; see `AsyncClient`."""

    @abstractmethod
    def _session(self) -> Session:
        """The client in the running event loop."""

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
        max_retries: int | None = None,
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
            on_unknown: What to do when the create is not found: ``raise``, or
                ``resubmit`` it if it is proved that it made no track, which takes a
                later create of this client; so a lone one is never sent again.
            on_submitted: Called with the accepted state.
            validate: Whether the parameters are checked here first.
            timeout: Seconds for the whole call; `None` for no limit.
            max_retries: How often a failed attempt to create it is repeated, at least
                0; `None` for the client's own number.
            wait_timeout: Seconds from acceptance on; `None` for no limit.
            on_update: Called with each changed state, the final one last.

        Raises:
            GenerationFailedError: The track ended as failed.
            WaitTimeoutError: It still runs; wait for it by its id, do not create it
                again.
            FinetuningError: As `Generations.create`.
        """
        from finetuning_async._api import (
            GenerationRequest,
            check_callback,
            check_timeout,
        )

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
        deadline = _deadline(timeout)
        if wait_timeout is not None:
            check_timeout(wait_timeout, "wait_timeout")
        check_callback(on_update, "on_update")
        session = self._session()
        order = session.order(
            request,
            validate=validate,
            on_unknown=on_unknown,
            on_submitted=on_submitted,
            max_retries=max_retries,
        )
        with session.generating(order) as tell:
            accepted: Generation = await session.submit(order, timeout)
            longest = inf if wait_timeout is None else wait_timeout
            left = min(deadline - anyio.current_time(), longest)
            waiting = self._session().wait(
                accepted, timeout=max(left, 0.0), on_update=on_update
            )
            # Of no use while it waits, beside thousands perhaps.
            del accepted, order, request
            final = await self._until_completed(waiting)
            tell(final)
        return final

    async def _until_completed(self, waiting: Awaitable[Generation]) -> Generation:
        try:
            final = await waiting
        except WaitTimeoutError as error:
            error.safe_to_retry = False  # the same call would create it again
            raise
        if final.status == "failed":
            raise GenerationFailedError(
                f"{final.id} failed: {final.error_message or 'no reason was given'}",
                generation=final,
            )
        return final

    # An id does not say what it is of.
    @overload
    async def wait_for_completion(
        self,
        generation_or_id: Generation,
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

    @overload
    async def wait_for_completion(
        self,
        generation_or_id: Generation | SoundEffect | str,
        *,
        timeout: float | None = ...,
        on_update: UpdateCallback | None = ...,
    ) -> Generation | SoundEffect: ...

    async def wait_for_completion(
        self,
        generation_or_id: Generation | SoundEffect | str,
        *,
        timeout: float | None = WAIT_TIMEOUT,
        on_update: UpdateCallback | None = None,
    ) -> Generation | SoundEffect:
        """Wait for the final state of a track: ``completed`` or ``failed``.

        All waits of an account share one poll loop. Passing failures of a read end no
        wait: neither an outage nor a single 404, nor what a gateway says instead of the
        service, until that lasts for 90 s.

        Args:
            generation_or_id: The track, or its id; it may come from another process. An
                id may be a track's or an effect's, so what comes may be either.
            timeout: Seconds; `None` for no limit. The track is looked at once more when
                they are over, and that look is heard for up to 1 s. With 0 it is one
                look, heard for as long as a request may take; none if the reads of the
                minute are used up, which the error says.
            on_update: Called with each changed state, the final one last; plain or
                async. What it raises ends this wait, and no other.

        Raises:
            WaitTimeoutError: It still runs, or could not be looked at: the message says
                which; `generation` is the last state seen.
            NotFoundError: There is no such track: for 30 s neither its own read nor the
                whole list has shown it, three times each.
            AuthenticationError: The key does not hold.
            PermissionDeniedError: The plan has no API access.
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
        timeout: float | None = None,
        max_retries: int | None = None,
        wait_timeout: float | None = WAIT_TIMEOUT,
        on_update: UpdateCallback | None = None,
    ) -> Outcomes:
        """Create many tracks, and tell of each as it ends. Costs one credit each.

            requests = [GenerationRequest("rain"), InstrumentalRequest("wind")]
            async with client.generate_many(requests) as outcomes:
                async for outcome in outcomes:
                    print(outcome.request.prompt, outcome.error or outcome.generation)

        The requests are read as their turns come, a few at a time. One that fails is an
        outcome with an `error` and does not stop the rest. The block can be left early:
        then nothing more is sent, no track is cancelled, ``outcomes.pending`` holds the
        ids that were accepted and not told of, and ``outcomes.in_doubt`` what was sent
        and not answered.

        Args:
            requests: What to create; any iterable or async iterable.
            on_unknown: What to do when a create is not found: ``raise``, or
                ``resubmit`` it if it is proved that it made no track, which takes a
                later create of this client.
            on_submitted: Called with each accepted state.
            validate: Whether the parameters are checked here first.
            timeout: Seconds for each create, from when its turn in the line comes, as
                for `Generations.create`; `None` for no limit.
            max_retries: How often a failed attempt of each is repeated, at least 0;
                `None` for the client's own number.
            wait_timeout: Seconds from each acceptance on; `None` for no limit.
            on_update: Called with each changed state of each track.

        Raises:
            InvalidRequestError: A number is out of its range, or a callback is none.
        """
        from finetuning_async._api import check_callback, check_retries, check_timeout
        from finetuning_async._resources._generate_many import Outcomes

        check_callback(on_submitted, "on_submitted")
        check_callback(on_update, "on_update")
        if timeout is not None:
            check_timeout(timeout)
        if max_retries is not None:
            check_retries(max_retries)
        if wait_timeout is not None:
            check_timeout(wait_timeout, "wait_timeout")
        return Outcomes(
            self._session(),
            requests,
            on_unknown=on_unknown,
            on_submitted=on_submitted,
            validate=validate,
            timeout=timeout,
            max_retries=max_retries,
            wait_timeout=wait_timeout,
            on_update=on_update,
        )

    @overload
    def watch(
        self, generation_or_id: Generation, *, timeout: float | None = ...
    ) -> AsyncGenerator[Generation]: ...

    @overload
    def watch(
        self, generation_or_id: SoundEffect, *, timeout: float | None = ...
    ) -> AsyncGenerator[SoundEffect]: ...

    @overload
    def watch(
        self,
        generation_or_id: Generation | SoundEffect | str,
        *,
        timeout: float | None = ...,
    ) -> AsyncGenerator[Generation | SoundEffect]: ...

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
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> Path:
        """Download a track to a file, whole or not at all. Eight run at once.

        Args:
            generation_or_url: A completed track, or its `audio_url`.
            path: The file; its folder is made if need be. An older file is replaced,
                with its mode and owner kept; behind a symbolic link it is the file that
                is replaced. Into a pipe or a device it is written, once it is whole; a
                pipe waits for its reader. In a folder that is there, the file gets the
                vendor's default name; letters of all scripts stay.
            on_progress: Called with the bytes done and the total, if that is known;
                plain or async.
            timeout: Seconds for all of it, waiting for one of the eight places
                included; `None` for no limit.
            max_retries: How often a broken stream is taken up again, at least 0; `None`
                for the client's own number.

        Returns:
            The path.

        Raises:
            InvalidRequestError: The track has no audio, or its URL is none of a public
                host, or nothing can be written there.
            APIStatusError: The media host refused.
            APIConnectionError: The stream broke, repeatedly, or a redirect led to where
                no URL may lead.
            APIResponseError: What came is no track, but a page, say.
            APITimeoutError: Time was over; no part of the file is left.
            OSError: It could not be written; the disk may be full, or nobody reads the
                pipe any more.
        """
        from finetuning_async._api import check_callback
        from finetuning_async._downloads import Download, audio_url, target_of

        check_callback(on_progress, "on_progress")
        deadline = _deadline(timeout)
        session = self._session()
        download = Download(
            session.pipeline.transport,
            session.pipeline.retry.limited_to(max_retries),
            audio_url(generation_or_url),
            on_progress,
            session.pipeline.hook,
        )
        around = session.downloading(generation_or_url)
        with session.calls.one(deadline), around:
            async with session.account.concurrency.downloads:
                target = target_of(generation_or_url, Path(path))
                return await download.to(target, deadline=deadline)
        if session.calls.is_closing:
            raise ClientClosedError("the client was closed while this download ran")
        raise APITimeoutError(
            f"the download did not end within timeout={timeout:g} s",
            safe_to_retry=True,
        )


def _deadline(timeout: float | None) -> float:
    """When a call that begins now has to end, on the loop's clock.

    Raises:
        InvalidRequestError: The timeout is no number of seconds.
    """
    from finetuning_async._api import check_timeout

    if timeout is None:
        return inf
    return anyio.current_time() + check_timeout(timeout)
