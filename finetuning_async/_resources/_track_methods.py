"""The client's own methods for tracks: generate, wait, watch.

A base class of `AsyncClient`, of which it uses `_session` only. Methods import what
they need when they are called; `_client` says why. `_api` itself loads lazily.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Unpack, cast, overload

import anyio

from finetuning_async import _api
from finetuning_async._constants import WAIT_TIMEOUT
from finetuning_async._errors import WaitTimeoutError
from finetuning_async._resources._audio_methods import AudioMethods, deadline_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from finetuning_async._api import (
        AnyRequest,
        Generation,
        GenerationRequest,
        RequestLike,
        SoundEffect,
        SoundEffectRequest,
    )
    from finetuning_async._events import CreateWaiting
    from finetuning_async._resources._generate_many import (
        ManyOptions,
        MusicRequestT,
        Outcomes,
        Requests,
    )
    from finetuning_async._session import Progress
    from finetuning_async._submission import Submission
    from finetuning_async._types import (
        Language,
        MusicalKey,
        OnUnknown,
        Priority,
        Scale,
        TimeSignature,
        UpdateCallback,
    )


class TrackMethods(AudioMethods):
    """Generate, wait and watch; see `AsyncClient`."""

    async def generate(
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
        wait_timeout: float | None = WAIT_TIMEOUT,
        raise_on_failure: bool = True,
        on_update: UpdateCallback | None = None,
        priority: Priority | None = None,
        share: str | None = None,
        max_wait: float | None = None,
        on_waiting: Callable[[CreateWaiting], object] | None = None,
    ) -> Generation:
        """Create a track and wait until it is completed. Costs one credit.

        One that ends as failed raises, where `wait_for_completion` returns it.

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
            idempotency_key: Calls with the same key get one track and cost one credit,
                in any process, after any crash; see `Generations`. Needs a `journal`.
            on_unknown: ``raise`` or ``resubmit`` a lost create; see `Generations`.
            on_submitted: Called with the accepted track, even in a cancelled call.
            validate: Whether to check the parameters before sending them.
            timeout: Seconds for the whole call; `None` for no limit. For how the
                timeouts relate see ``guides/timeouts.md``.
            max_retries: Retries of the create, at least 0; `None` for the client's.
            wait_timeout: Seconds from acceptance on; `None` for no limit.
            raise_on_failure: Whether a failed track raises; else it is returned, as
                `wait_for_completion` does.
            on_update: Called with each changed state, the final one last.
            priority: ``high``, ``normal`` or ``low``; `None` for the client's.
            share: For whom it is; `None` for the client's.
            max_wait: Seconds to wait for the rate limit and the queue, or
                `CapacityError`; `None` for the client's.
            on_waiting: A plain function, called with `CreateWaiting` while it waits.

        Raises:
            GenerationFailedError: The track ended as failed; see `raise_on_failure`.
            WaitTimeoutError: It is still in progress; wait for its id.
            FinetuningError: As for `Generations.create`.
        """
        request = _api.GenerationRequest(
            tags, lyrics=lyrics, duration=duration, bpm=bpm, language=language, key=key,
            scale=scale, timesignature=timesignature, seed=seed, webhook=webhook,
            idempotency_key=idempotency_key,
        )  # fmt: skip # one argument per line would double the method
        del webhook  # its query is a secret, and a traceback may show this frame
        submission = self._session().new_submission(
            request, validate=validate, on_unknown=on_unknown,
            on_submitted=on_submitted, max_retries=max_retries,
            priority=priority, share=share, max_wait=max_wait, on_waiting=on_waiting,
        )  # fmt: skip
        call = self._generate(
            submission, timeout, wait_timeout, on_update, raises=raise_on_failure
        )
        del request, submission  # thousands of these calls may wait at once
        return await call

    async def _generate(
        self,
        submission: Submission,
        timeout: float | None,
        wait_timeout: float | None,
        on_update: UpdateCallback | None,
        *,
        raises: bool,
    ) -> Generation:
        from finetuning_async._resources._common import failed_error

        deadline = deadline_of(timeout)
        longest = (
            inf
            if wait_timeout is None
            else _api.check_timeout(wait_timeout, "wait_timeout")
        )
        _api.check_callback(on_update, "on_update")
        session = self._session()
        with session.generate_operation(submission) as on_result:
            accepted: Generation = await session.create(submission, timeout)
            has_key = submission.request.idempotency_key is not None
            left = max(0.0, min(deadline - anyio.current_time(), longest))
            waiting = session.wait(accepted, timeout=left, on_update=on_update)
            del accepted, submission  # not needed during the wait
            try:
                final: Generation = await waiting
            except WaitTimeoutError as error:
                # Without a key, calling `generate` again would pay again.
                error.safe_to_retry = has_key
                raise
            if raises and final.status == "failed":
                raise failed_error(final, has_key=has_key)
            on_result(final)
        return final

    async def resume(
        self,
        key: str,
        *,
        timeout: float | None = WAIT_TIMEOUT,
        on_submitted: Callable[[Any], Awaitable[None] | None] | None = None,
        on_update: UpdateCallback | None = None,
        priority: Priority | None = None,
        share: str | None = None,
        on_waiting: Callable[[CreateWaiting], object] | None = None,
    ) -> Generation | SoundEffect:
        """Go on with what an earlier call or process began; return the final track.

            async with AsyncClient(journal="tracks.db") as client:
                await client.generations.create("rain", idempotency_key="order-42")
                track = await client.resume("order-42")

        What was not sent yet is sent; what is in doubt is looked up, and sent again
        once it is proved that it made no track.

        Args:
            key: The idempotency key, or the generated one of a create without.
            timeout: Seconds for the whole call; `None` for no limit.
            on_submitted: Called with the track if it is accepted in this call.
            on_update: Called with each changed state, the final one last.
            priority: ``high``, ``normal`` or ``low``; `None` for the client's.
            share: For whom it is; `None` for whom its entry says.
            on_waiting: A plain function, called with `CreateWaiting` while it waits.

        Raises:
            InvalidRequestError: The journal has no entry of this key; the client has no
                journal.
            GenerationFailedError: The track ended as failed.
            WaitTimeoutError: It is still in progress.
            SubmissionUnknownError: Its create is in doubt; the same call looks again.
            FinetuningError: As for `Generations.create`.
        """
        from finetuning_async._resources._common import failed_error

        deadline, session = deadline_of(timeout), self._session()
        _api.check_callback(on_update, "on_update")
        options = {
            "on_submitted": on_submitted,
            "priority": priority,
            "share": share,
            "on_waiting": on_waiting,
        }
        given = {name: value for name, value in options.items() if value is not None}
        accepted = await session.recorder().resume(key, timeout, **given)
        left = max(0.0, deadline - anyio.current_time())
        final = await session.wait(accepted, timeout=left, on_update=on_update)
        if final.status == "failed":
            raise failed_error(final, has_key=True)
        return cast("Generation | SoundEffect", final)

    def resume_all(self) -> Outcomes[AnyRequest, Generation | SoundEffect]:
        """Go on with all that earlier processes began and that has not ended.

            async with AsyncClient(journal="tracks.db") as client:
                async with client.resume_all() as outcomes:
                    async for outcome in outcomes:
                        key = outcome.request.idempotency_key
                        print(key, outcome.error or outcome.generation)

        What was not sent yet is sent, unless it had no key: no one can ask for it any
        more. What is in doubt is looked up until it is found, or proved absent and sent
        again, or held; a held one is an outcome with a `SubmissionUnknownError`. What
        other living processes are sending is left to them. Of several processes that
        resume at once, one does it; the others wait, and go on if it dies. A track that
        has not ended after 300 s is an outcome with a `WaitTimeoutError`.

        If the block is left early, the rest stays as it is in the journal.

        Raises:
            InvalidRequestError: The client has no journal.
        """
        from finetuning_async._resources._resume import ResumedOutcomes

        session = self._session()
        session.recorder()
        return ResumedOutcomes(session)

    # The type of an id is not known: it may be a track's or a sound effect's.
    @overload
    async def wait_for_completion(
        self,
        generation_or_id: Generation,
        *,
        timeout: float | None = ...,
        raise_on_failure: bool = ...,
        on_update: UpdateCallback | None = ...,
    ) -> Generation: ...

    @overload
    async def wait_for_completion(
        self,
        generation_or_id: SoundEffect,
        *,
        timeout: float | None = ...,
        raise_on_failure: bool = ...,
        on_update: UpdateCallback | None = ...,
    ) -> SoundEffect: ...

    @overload
    async def wait_for_completion(
        self,
        generation_or_id: Generation | SoundEffect | str,
        *,
        timeout: float | None = ...,
        raise_on_failure: bool = ...,
        on_update: UpdateCallback | None = ...,
    ) -> Generation | SoundEffect: ...

    async def wait_for_completion(
        self,
        generation_or_id: Generation | SoundEffect | str,
        *,
        timeout: float | None = WAIT_TIMEOUT,
        raise_on_failure: bool = False,
        on_update: UpdateCallback | None = None,
    ) -> Generation | SoundEffect:
        """Wait for the final state of a track: ``completed`` or ``failed``.

        One that ends as failed is returned, where `generate` raises; see
        `raise_on_failure`.

        All waits of an account share one poll loop. Temporary read failures do not end
        a wait: an outage, a single 404, or error responses of a gateway, unless those
        last for 90 s.

        Args:
            generation_or_id: The track, or its id, which may come from another process.
                An id may be a track's or a sound effect's, so either may be returned.
            timeout: Seconds; `None` for no limit. At the end the track is read once
                more, for up to 1 s. With 0 the track is read once, for as long as a
                request may take; not at all if the rate limit of reads is used up,
                which the error then says. For how the timeouts relate see
                ``guides/timeouts.md``.
            raise_on_failure: Whether a failed track raises, as `generate` does; else it
                is returned.
            on_update: Called with each changed state, the final one last; plain or
                async. An exception that it raises ends this wait only.

        Raises:
            GenerationFailedError: It ended as failed; only with `raise_on_failure`.
            WaitTimeoutError: It is still in progress, or could not be read; the message
                says which. `generation` is the last state seen.
            NotFoundError: There is no such track: for 30 s neither reading it nor the
                complete list showed it, three times each.
            AuthenticationError: The service rejected the API key.
            PermissionDeniedError: The plan does not include API access.
            ClientClosedError: The client was closed during the wait.
        """
        from finetuning_async._resources._common import failed_error

        final = await self._session().wait(
            generation_or_id, timeout=timeout, on_update=on_update
        )
        if raise_on_failure and final.status == "failed":
            raise failed_error(final)
        return cast("Generation | SoundEffect", final)

    @overload
    def generate_many(
        self, requests: Requests[MusicRequestT], **options: Unpack[ManyOptions]
    ) -> Outcomes[MusicRequestT, Generation]: ...

    @overload
    def generate_many(
        self, requests: Requests[SoundEffectRequest], **options: Unpack[ManyOptions]
    ) -> Outcomes[SoundEffectRequest, SoundEffect]: ...

    @overload
    def generate_many(
        self, requests: Requests[str], **options: Unpack[ManyOptions]
    ) -> Outcomes[GenerationRequest, Generation]: ...

    @overload
    def generate_many(
        self, requests: Requests[RequestLike], **options: Unpack[ManyOptions]
    ) -> Outcomes[AnyRequest, Generation | SoundEffect]: ...

    def generate_many(
        self,
        requests: Requests[RequestLike],
        *,
        on_unknown: OnUnknown = "raise",
        on_submitted: Callable[[Any], Awaitable[None] | None] | None = None,
        validate: bool = True,
        timeout: float | None = None,
        max_retries: int | None = None,
        wait_timeout: float | None = WAIT_TIMEOUT,
        on_update: UpdateCallback | None = None,
        priority: Priority | None = None,
        share: str | None = None,
        max_wait: float | None = None,
        on_waiting: Callable[[CreateWaiting], object] | None = None,
        on_track_progress: Callable[[Any, Progress], object] | None = None,
    ) -> Outcomes[Any, Any]:
        """Create many tracks and yield each as it ends. Costs one credit each.

            requests = [GenerationRequest("rain"), InstrumentalRequest("wind")]
            async with client.generate_many(requests) as outcomes:
                async for outcome in outcomes:
                    if outcome.error is None:
                        print(outcome.request.prompt, outcome.generation.audio_url)
                    else:
                        print(outcome.request.prompt, outcome.error)

        A request may also be written as a prompt, for music, or as a mapping of its
        parameters, as a line of a batch is: ``["rain", {"type": "instrumental",
        "prompt": "wind", "duration": 45}]``. Each outcome has it as a request object.

        The requests are read a few at a time, as the rate limit allows. A request that
        fails is an outcome with an `error` and does not stop the others. If the block
        is left early, nothing more is sent and no track is cancelled:
        ``outcomes.pending`` has the ids of accepted tracks not yet yielded, and
        ``outcomes.in_doubt`` the creates that were sent without a response.

        Args:
            requests: What to create; any iterable or async iterable of requests,
                prompts and mappings.
            on_unknown: ``raise`` or ``resubmit`` a lost create; see `Generations`.
            on_submitted: Called with each track as accepted; plain or async.
            validate: Whether to check the parameters before sending them.
            timeout: Seconds for each create, from when its request is read, waiting for
                the rate limit included; `None` for no limit.
            max_retries: Retries of each create, at least 0; `None` for the client's.
            wait_timeout: Seconds from each acceptance on; `None` for no limit.
            on_update: Called with each changed state of each track.
            priority: ``high``, ``normal`` or ``low``; `None` for that of each request,
                or the client's.
            share: For whom they are; `None` for that of each request, or the client's.
            max_wait: Seconds that each create may wait for the rate limit and the
                queue; one that would wait longer is an outcome with a `CapacityError`.
                `None` for the client's.
            on_waiting: A plain function, called with `CreateWaiting` while one waits.
            on_track_progress: A plain function, called once a second with each track in
                progress and its `Progress`, and once more when it has ended; this reads
                nothing.

        Raises:
            InvalidRequestError: A number is out of its range, a callback is not
                callable, or `requests` is one request.
        """
        from finetuning_async._resources._generate_many import (
            Outcomes,
            check_options,
        )

        _api.check_source(requests)
        check_options(
            timeout=timeout,
            wait_timeout=wait_timeout,
            max_retries=max_retries,
            on_submitted=on_submitted,
            on_update=on_update,
            on_track_progress=on_track_progress,
        )
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
            priority=priority,
            share=share,
            max_wait=max_wait,
            on_waiting=on_waiting,
            on_track_progress=on_track_progress,
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

        A slow consumer may miss intermediate states, but never the final one. How far
        it is in between, `progress` says, at any time and without a read::

            created = await client.generations.create("rain")
            async for track in client.watch(created):
                print(track.status, f"{client.progress(track).fraction:.0%}")

        Args:
            generation_or_id: The track, or its id.
            timeout: Seconds, as for `wait_for_completion`; `None` for no limit.

        Raises:
            FinetuningError: As for `wait_for_completion`.
        """
        return self._session().states(generation_or_id, timeout=timeout)
