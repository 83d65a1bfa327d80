"""What an error means to a person at a terminal: what happened, and what to do."""

from __future__ import annotations

import errno
import os
from typing import Final

from finetuning_async._errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
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
from finetuning_async.cli._exit_codes import FAILED, WRONG

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
"""What the parameters are called here; others are ``--`` and their name."""


_OF_THE_SERVICE: Final = (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    GenerationFailedError,
    SubmissionUnknownError,
    WaitTimeoutError,
)
"""What repeats words of the service, whatever they are."""


def explain(error: BaseException, resume: str = "") -> tuple[int, str]:
    """The exit code of an error, and what to say.

    Args:
        error: What went wrong.
        resume: The command that goes on from there, if there is one.
    """
    if isinstance(error, InvalidRequestError):
        return WRONG, _as_option(error)
    if isinstance(error, APIStatusError) and error.code == "VALIDATION_ERROR":
        return WRONG, shown(str(error))
    if isinstance(error, FinetuningError):
        # A code of the service's: not what the host of the audio says.
        is_lost = error.code == "NOT_FOUND"
        go_on = f"\nTo go on: {resume}" if resume and not is_lost else _advice(error)
        # A batch's errors are not the service's, and may have lines of their own.
        said = shown(str(error)) if isinstance(error, _OF_THE_SERVICE) else str(error)
        return FAILED, said + go_on
    if isinstance(error, OSError):
        # A full disk, say: what is paid must not be lost with its id.
        go_on = f"\nTo go on: {resume}" if resume else ""
        return FAILED, shown(str(error)) + go_on
    return FAILED, (
        f"internal error: {type(error).__name__}: {shown(str(error))}\n"
        "Run it again with --debug for the traceback, and please report it."
    )


def cannot_listen(host: str, port: int, error: BaseException) -> str:
    """Why nothing can be served there, and what to choose instead."""
    is_port = getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES)
    advice = (
        "Choose another with --port, or --port 0 for a free one."
        if is_port
        else "Choose another with --host: an IPv4 address of this machine."
    )
    reason = getattr(error, "strerror", None) or error
    return f"cannot listen on {host}:{port}: {reason}.\n{advice}"


def _as_option(error: InvalidRequestError) -> str:
    """The message with the option's name in place of the parameter's.

    A variable of the environment is no option, and keeps its name.
    """
    if error.field in os.environ or not error.field.islower():
        return error.message
    flag = FLAGS.get(error.field, "--" + error.field.replace("_", "-"))
    return flag + error.message.removeprefix(error.field)


def _advice(error: FinetuningError) -> str:
    if isinstance(error, SubmissionUnknownError):
        return "\nTo look for it: finetuning list; finetuning get ID shows the seed"
    if isinstance(error, QueueFullError) or rate_budget_of(error.code) == "creates":
        return "\nNothing was paid. A longer --timeout, or none, waits for its turn"
    if isinstance(error, NotFoundError):
        lists = "finetuning list; finetuning sfx list; finetuning playlists"
        return f"\nTo see what there is: {lists}"
    if isinstance(error, APIResponseError):
        return "\nIs --base-url (or FINETUNING_BASE_URL) the service's address?"
    if isinstance(error, APIConnectionError):
        return (
            "\nCheck the network, and --base-url (or FINETUNING_BASE_URL) if it is set"
        )
    return ""
