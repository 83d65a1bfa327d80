"""A 2xx to a create: whether it counts, who claims its track, and who is notified.

The order is fixed, and each step protects the next from a crash or a cancellation:

    1. claim       the id is registered as ours, without an await after the response
    2. callback    `on_submitted` gets the accepted state
    3. report      log line, event, what the service changed
    4. return      to the caller of `generate`

A claimed id is never adopted by the recovery of another create. The callback comes
before the return, since the caller may be cancelled and then only the callback has the
id. It comes before the report, since it may be what stores the id durably.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import anyio
import attrs

from finetuning_async._api import Call, Generation, SoundEffect, changes, parsing
from finetuning_async._errors import APIResponseError, FinetuningError
from finetuning_async._logging import log_exceptions
from finetuning_async._submission import _create_events
from finetuning_async._submission._foreign_response import SentRequest, foreign_reason

if TYPE_CHECKING:
    from finetuning_async._api import Response
    from finetuning_async._errors import APIStatusError
    from finetuning_async._http import Pipeline
    from finetuning_async._pacing import InFlight, TrackInProgress
    from finetuning_async._submission._submission import Created, Submission

logger = logging.getLogger("finetuning_async")

CHECK_TIMEOUT: Final = 10.0
"""Seconds for one check of the service while a create waits for its verdict, waiting
for a permit included."""

PROXY_STATUSES: Final = frozenset({408, 499})
"""4xx that a proxy sends after the service may have begun to work: its own timeout
(RFC 9110, section 15.5.9), and nginx's "client closed request"."""


class AcceptanceHandler:
    """Registers and reports the accepted tracks of one client.

    Args:
        pipeline: Sends this client's requests.
        inflight: The account's register.
    """

    def __init__(self, pipeline: Pipeline, inflight: InFlight) -> None:
        self._pipeline = pipeline
        self._inflight = inflight

    async def accept(self, submission: Submission, response: Response) -> Created:
        """Take a 2xx as the acceptance of a create, if it is one.

        Raises:
            OutcomeUnknown: It has no id, or belongs to another request.
        """
        try:
            track = read_acceptance(submission, response)
        except APIResponseError as error:
            reason = error.message
        else:
            foreign = self._foreign_reason(submission, track)
            if foreign is None or await self._is_reused_id(submission, track):
                submission.holds_queue_slot = False
                self._pipeline.transport.pool.recent_ids.add(track.id)
                entry = self._entry(submission, response.received_at)
                # No await since the verdict: had another task run in between, its
                # recovery could have adopted this track, or a waiter missed its end.
                self._inflight.on_accepted(track.id, entry)
                await self.publish(submission, track, request_id=response.request_id)
                return accepted_state(submission)
            reason = f"the response belongs to another request: {foreign}"
            # Later responses of this connection would be shifted as well.
            await self._pipeline.transport.retire()
        raise _create_events.response_lost(self._pipeline.hook, submission, reason)

    def claim_found(self, submission: Submission, track: Generation) -> None:
        """Register a track that a recovery found as that of its create."""
        self._inflight.adopt(track.id, self._entry(submission))

    def _entry(
        self, submission: Submission, accepted_at: float | None = None
    ) -> TrackInProgress:
        return submission.to_track_in_progress(
            accepted_at or anyio.current_time(), self._pipeline.hook
        )

    # Whether it is the response to this create.

    def _foreign_reason(self, submission: Submission, track: Created) -> str | None:
        """Why a response is not to this create; `None` if it may be."""
        register, kind = self._inflight, submission.request.kind
        shown = seed_of(track)
        known = SentRequest(
            seed=submission.seed,
            is_claimed=register.is_claimed(track.id),
            is_open_elsewhere=shown != submission.seed
            and register.is_seed_in_flight(kind, shown),
            echoes=kind in register.echoing,
        )
        return foreign_reason(submission.request, track, known)

    async def _is_reused_id(self, submission: Submission, track: Created) -> bool:
        """Whether a claimed id has become that of this create since ids began anew.

        A restarted emulator gives the same ids out again. Then the track itself has the
        seed that was drawn for this create.
        """
        if not (submission.seed_is_ours and seed_of(track) == submission.seed):
            return False
        path = f"{submission.call.path}/{quote(track.id, safe='')}"
        call = Call(method="GET", path=path, shows=track.id)
        with anyio.move_on_after(CHECK_TIMEOUT), suppress(FinetuningError):
            response = await self._pipeline.request(call, max_retries=0)
            return seed_of(parsing.generation(response)) == submission.seed
        return False

    # Who is notified.

    async def publish(
        self,
        submission: Submission,
        track: Created,
        *,
        adopted: bool = False,
        request_id: str | None = None,
    ) -> None:
        """Notify the creator of an accepted track, then log and report it.

        A failure in here cannot undo the acceptance, so it ends no call.
        """
        submission.sent_at, submission.accepted = None, track
        changed: dict[str, tuple[Any, Any]] = {}
        with log_exceptions("comparing what was accepted"):
            changed = changes(submission.request, track, seed=submission.seed)
            if changed:
                submission.accepted = attrs.evolve(track, changed_by_service=changed)
        try:
            await call_on_submitted(submission)
        finally:  # also if the callback is cancelled: the track exists all the same
            with log_exceptions("reporting what was accepted"):
                self._report(
                    submission, changed, adopted=adopted, request_id=request_id
                )

    def _report(
        self,
        submission: Submission,
        changed: dict[str, tuple[Any, Any]],
        *,
        adopted: bool,
        request_id: str | None,
    ) -> None:
        track = accepted_state(submission)
        logger.info("accepted %s %s", track.kind, track.id)
        self._learn_echo(submission, track, changed)
        if self._pipeline.hook is not None:
            _create_events.emit_accepted(
                self._pipeline.hook,
                submission,
                track,
                adopted=adopted,
                request_id=request_id,
            )
        self._inflight.on_change()
        if track.is_final:
            self._inflight.observe_final(track)

    def _learn_echo(
        self,
        submission: Submission,
        track: Created,
        changed: dict[str, tuple[Any, Any]],
    ) -> None:
        """Note what the service changed; a changed seed ends all adoption."""
        if submission.seed is not None and seed_of(track) == submission.seed:
            self._inflight.echoing.add(submission.request.kind)
        # A seed of 0 may mean that the service picks one (Q27), so a change of it does
        # not show that seeds are unreliable.
        seed_is_lost = "seed" in changed and submission.seed != 0
        if seed_is_lost and self._inflight.seeds_are_echoed:
            self._inflight.seeds_are_echoed = False
            logger.warning(
                "the service changed the seed of %s; lost creates of this account can"
                " no longer be recognized by their seed and will not be adopted",
                track.id,
            )
        elif changed:
            logger.warning("the service changed %s of %s", sorted(changed), track.id)


def proves_refusal(response: Response, error: APIStatusError) -> bool:
    """Whether a response is a well-formed 4xx of the service: nothing was created."""
    return (
        400 <= response.status < 500
        and response.status not in PROXY_STATUSES
        and error.code != f"HTTP_{response.status}"
    )


def read_acceptance(submission: Submission, response: Response) -> Created:
    """Parse the accepted state: all of it, or at least the id.

    Raises:
        APIResponseError: It contains no id.
    """
    try:
        if submission.request.kind == "sound_effect":
            return parsing.sound_effect(response)
        return parsing.generation(response, kind=submission.request.kind)
    except Exception as error:  # whatever is wrong with the rest, the id counts
        track_id = parsing.accepted_id(response)
        if track_id is None and isinstance(error, APIResponseError):
            raise
    if track_id is None:
        raise parsing.parse_error(response, "an id")
    if submission.request.kind == "sound_effect":
        return SoundEffect(
            id=track_id, status="pending", prompt=submission.request.prompt
        )
    return Generation(
        id=track_id,
        status="pending",
        kind=submission.request.kind,
        prompt=submission.request.prompt,
    )


def seed_of(track: Created) -> int | None:
    """The seed that a track shows, if any."""
    return track.parameters.seed if isinstance(track, Generation) else None


def accepted_state(submission: Submission) -> Created:
    """The accepted state of a submission that has one."""
    assert submission.accepted is not None  # noqa: S101 - `publish` has set it
    return submission.accepted


async def call_on_submitted(submission: Submission) -> None:
    """Call `on_submitted`; what it raises is kept for its caller.

    It is raised at the end of the call and not from here: an exception of the callback
    must not be taken for a failure of the request, which could be sent again.
    """
    if submission.on_submitted is None:
        return
    track = accepted_state(submission)
    try:
        result = submission.on_submitted(track)
        if inspect.isawaitable(result):
            await result
    except Exception as error:
        error.add_note(f"raised by on_submitted; {track.id} was accepted")
        submission.callback_error = error
