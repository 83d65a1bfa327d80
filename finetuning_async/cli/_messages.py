"""What an error says to a person at a terminal: what happened, and what to do."""

from __future__ import annotations

import errno
import os
from typing import Final

from finetuning_async._errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    CapacityError,
    FinetuningError,
    GenerationFailedError,
    InvalidRequestError,
    NotFoundError,
    QueueFullError,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from finetuning_async._rate_codes import rate_budget_of
from finetuning_async._secrets import shown
from finetuning_async.cli._exit_codes import FAILURE, INVALID_INPUT

FLAGS: Final = {
    "tags": "TAGS",
    "prompt": "PROMPT",
    "timesignature": "--time-sig",
    "path": "-o/--output",
    "base_url": "the base URL",
    "generation_id": "ID",
    "sound_effect_id": "ID",
    "ids": "IDS",
    "track_ids": "IDS",
    "playlist_id": "PLAYLIST",
    "source_id": "SOURCE",
    "target_id": "TARGET",
    "generation_or_id": "ID",
    "generation_or_url": "ID",
    "api_key": "the key",
}
"""What the library's parameters are called here; others are ``--`` and their name."""


_QUOTES_THE_SERVICE: Final = (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    GenerationFailedError,
    SubmissionUnknownError,
    WaitTimeoutError,
)
"""Errors whose message repeats text of the service."""


def describe_error(error: BaseException, resume: str = "") -> tuple[int, str]:
    """The exit code and the message of an error.

    Args:
        error: The error.
        resume: The command that continues from there, if there is one.
    """
    if isinstance(error, InvalidRequestError):
        return INVALID_INPUT, _as_option(error)
    if isinstance(error, APIStatusError) and error.code == "VALIDATION_ERROR":
        return INVALID_INPUT, shown(str(error))
    if isinstance(error, FinetuningError):
        # A track that the service does not know cannot be resumed. A 404 from the host
        # of the audio has no such code: then it can.
        is_missing = error.code == "NOT_FOUND"
        advice = _resume(resume) if resume and not is_missing else _advice(error)
        # What the service says is escaped, line breaks too. Our own messages, such as
        # those of a batch, may have several lines.
        quotes = isinstance(error, _QUOTES_THE_SERVICE)
        return FAILURE, (shown(str(error)) if quotes else str(error)) + advice
    if isinstance(error, OSError):
        # A full disk, say: a paid track must not be lost together with its id.
        return FAILURE, shown(str(error)) + _resume(resume)
    return FAILURE, (
        f"internal error: {type(error).__name__}: {shown(str(error))}\n"
        "To see the traceback, run it again with --debug. Please report this error."
    )


def _resume(command: str) -> str:
    return f"\nTo resume: {command}" if command else ""


def cannot_listen(host: str, port: int, error: BaseException) -> str:
    """Why a server cannot listen on an address, and what to choose instead."""
    is_port = getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES)
    advice = (
        "Choose another port with --port; --port 0 picks a free one."
        if is_port
        else "Choose an IPv4 address of this machine with --host."
    )
    reason = getattr(error, "strerror", None) or error
    return f"cannot listen on {host}:{port}: {reason}.\n{advice}"


def _as_option(error: InvalidRequestError) -> str:
    """The message with the option's name in place of the parameter's.

    A field that is an environment variable is no option, and keeps its name.
    """
    if error.field in os.environ or not error.field.islower():
        return error.message
    flag = FLAGS.get(error.field, "--" + error.field.replace("_", "-"))
    return flag + error.message.removeprefix(error.field)


def _advice(error: FinetuningError) -> str:
    if isinstance(error, SubmissionUnknownError):
        return "\nTo look for it: finetuning list; finetuning get ID shows the seed"
    if isinstance(error, CapacityError):
        return "\nNothing was charged. To wait longer, raise --max-wait or omit it"
    if isinstance(error, QueueFullError) or rate_budget_of(error.code) == "creates":
        return "\nNothing was charged. To wait longer, raise --timeout or omit it"
    if isinstance(error, NotFoundError):
        lists = "finetuning list; finetuning sfx list; finetuning playlists"
        return f"\nTo see the ids that exist: {lists}"
    if isinstance(error, APIResponseError):
        return (
            "\nCheck that --base-url (or FINETUNING_BASE_URL) is the service's address"
        )
    if isinstance(error, APITimeoutError):
        # Where something was sent, the network may be at fault.
        words = "waiting for", "nothing was sent"
        if all(each in error.message for each in words):
            return "\nTo wait longer, raise --timeout or omit it"
        if error.retry_after is not None:
            return ""  # the rate limit came first, and the message says what to do
    if isinstance(error, APIConnectionError):
        return (
            "\nCheck the network, and --base-url (or FINETUNING_BASE_URL) if it is set"
        )
    return ""
