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

NOT_OURS: Final = frozenset({408, 499})
"""4xx that a proxy sends after the service may have begun to work: its own timeout
(RFC 9110, section 15.5.9), and nginx's "client closed request"."""


def is_refusal(answer: Response, error: APIStatusError) -> bool:
    """Whether it is a well-formed 4xx: the service's own word that nothing was done."""
    return (
        400 <= answer.status < 500
        and answer.status not in NOT_OURS
        and error.code != f"HTTP_{answer.status}"
    )


def read_acceptance(order: Submission, answer: Response) -> Created:
    """The accepted state: all of it, or at least the id.

    Raises:
        APIResponseError: There is no id to be found in it.
    """
    try:
        if order.request.kind == "sound_effect":
            return parsing.sound_effect(answer)
        return parsing.generation(answer, kind=order.request.kind)
    except Exception as error:  # whatever is wrong with the rest, the id counts
        track_id = parsing.accepted_id(answer)
        if track_id is None and isinstance(error, APIResponseError):
            raise
    if track_id is None:
        raise parsing.parse_error(answer, "an id")
    if order.request.kind == "sound_effect":
        return SoundEffect(id=track_id, status="pending", prompt=order.request.prompt)
    return Generation(
        id=track_id,
        status="pending",
        kind=order.request.kind,
        prompt=order.request.prompt,
    )


def seed_of(track: Created) -> int | None:
    """The seed that an answer shows, if any."""
    return track.parameters.seed if isinstance(track, Generation) else None


def accepted_by(order: Submission) -> Created:
    """The accepted state of an order that has one."""
    assert order.accepted is not None  # noqa: S101 - `_tell` has set it
    return order.accepted


async def hand_over(order: Submission) -> None:
    """Call `on_submitted`; what it raises is its caller's to see."""
    if order.on_submitted is None:
        return
    track = accepted_by(order)
    try:
        told = order.on_submitted(track)
        if inspect.isawaitable(told):
            await told
    except Exception as error:  # not to be taken for one of ours
        error.add_note(f"raised by on_submitted; {track.id} was accepted")
        order.callback_error = error
