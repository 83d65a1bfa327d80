"""What the answer to a create says, and who hears of it first."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final

from finetuning_async._api import Generation, SoundEffect, parsing
from finetuning_async._errors import APIResponseError

if TYPE_CHECKING:
    from finetuning_async._api import Response
    from finetuning_async._errors import APIStatusError
    from finetuning_async._submission._submission import Created, Submission

PROXY_STATUSES: Final = frozenset({408, 499})
"""4xx that a proxy sends after the service may have begun to work: its own timeout
(RFC 9110, section 15.5.9), and nginx's "client closed request"."""


def proves_refusal(response: Response, error: APIStatusError) -> bool:
    """Whether it is a well-formed 4xx: the service's own word that nothing was done."""
    return (
        400 <= response.status < 500
        and response.status not in PROXY_STATUSES
        and error.code != f"HTTP_{response.status}"
    )


def read_acceptance(submission: Submission, response: Response) -> Created:
    """The accepted state: all of it, or at least the id.

    Raises:
        APIResponseError: There is no id to be found in it.
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
        raise parsing.unreadable(response, "no id")
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
    """The seed that an answer shows, if any."""
    return track.parameters.seed if isinstance(track, Generation) else None


def accepted_state(submission: Submission) -> Created:
    """The accepted state of an submission that has one."""
    assert submission.accepted is not None  # noqa: S101 - `_tell` has set it
    return submission.accepted


async def call_on_submitted(submission: Submission) -> None:
    """Call `on_submitted`; what it raises is its caller's to see."""
    if submission.on_submitted is None:
        return
    track = accepted_state(submission)
    try:
        told = submission.on_submitted(track)
        if inspect.isawaitable(told):
            await told
    except Exception as error:  # not to be taken for one of ours
        error.add_note(f"raised by on_submitted; {track.id} was accepted")
        submission.callback_error = error
