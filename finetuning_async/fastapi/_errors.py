"""What an application answers when a call of ours fails.

The caller of the application is not the caller of the service: a wrong key or an empty
account is the operator's trouble, so its words go to the log and not to the browser.

=========================================  ======  ===================================
Error                                      Answer  Meaning for a browser
=========================================  ======  ===================================
Our limits or queue are used up (429)      503     come back after ``Retry-After``
Time was over before anything was sent     503     likewise
Client closed                              503     the process ends; go on by the id
Invalid request, 400                       422     the words of the error
404                                        404     no such track
401, 402, 403                              500     see the application's log
Not reached, unreadable, 5xx               502     the service has trouble
`SubmissionUnknownError`                   502     it may have been made; do not repeat
`GenerationFailedError`                    502     the service could not make it
`WaitTimeoutError`, other timeouts         504     a track still runs
=========================================  ======  ===================================
"""

from __future__ import annotations

import logging
from math import ceil, isfinite
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse

from finetuning_async._errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    FinetuningError,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from finetuning_async.fastapi._lifespan import client_of

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

logger = logging.getLogger("finetuning_async")

RETRY_AFTER: Final = 10
"""Seconds, where nobody knows better."""

LONGEST_RETRY_AFTER: Final = 3600

GOES_ON: Final = "This server is ending; the track goes on: wait again by its id."

_ANSWERS: Final[tuple[tuple[type[FinetuningError], int, str, str | None], ...]] = (
    (
        RateLimitError,
        503,
        "busy",
        "Many want music just now; try again a little later.",
    ),
    (ClientClosedError, 503, "closing", "This server is ending; try again."),
    (InvalidRequestError, 422, "invalid_request", None),
    (BadRequestError, 422, "invalid_request", None),
    (NotFoundError, 404, "not_found", "There is no such track."),
    (AuthenticationError, 500, "misconfigured", "This server is not set up rightly."),
    (InsufficientCreditsError, 500, "misconfigured", "This server is out of credits."),
    (PermissionDeniedError, 500, "misconfigured", "This server is not set up rightly."),
    (
        SubmissionUnknownError,
        502,
        "submission_unknown",
        "It is not known whether this track is being made; look before trying again.",
    ),
    (GenerationFailedError, 502, "generation_failed", None),
    (WaitTimeoutError, 504, "still_running", "The track is still being made."),
    (APITimeoutError, 504, "timeout", "The music service did not answer in time."),
    (FinetuningError, 502, "service_trouble", "The music service has trouble."),
)
"""The first that fits; `None` for the error's own words."""


def add_exception_handlers(app: FastAPI) -> None:
    """Let an application answer every `FinetuningError` as this module's table says.

    Example:
        from typing import Any
        from fastapi import FastAPI
        from finetuning_async.fastapi import Client, add_exception_handlers
        from finetuning_async.fastapi import client_lifespan, public

        app = FastAPI(lifespan=client_lifespan())
        add_exception_handlers(app)

        @app.get("/tracks/{track_id}")
        async def read(track_id: str, client: Client) -> dict[str, Any]:
            return public(await client.generations.get(track_id))  # or 404
    """
    app.add_exception_handler(FinetuningError, _handle)


async def _handle(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FinetuningError)  # noqa: S101 - it is registered for them
    return answer_to(error, turn_in=_turn_in(request))


def answer_to(error: FinetuningError, *, turn_in: float | None = None) -> JSONResponse:
    """The answer for an error: ``{"error": {"code", "message", ...}}``.

    Args:
        error: What happened.
        turn_in: Seconds until a create could have its turn, if known.

    Example:
        from finetuning_async.fastapi import answer_to

        try:
            await client.generations.get("no-such-track")
        except NotFoundError as error:
            print(answer_to(error).status_code)
    """
    status, code, message = _sort(error)
    if status >= 500:
        logger.warning("answered %d %s: %s", status, code, error)
    told: dict[str, Any] = {"code": code, "message": message}
    told["field"] = getattr(error, "field", None)
    told["generation_id"] = error.generation_id
    headers = {"Cache-Control": "no-store"}
    if code == "busy":
        told["retry_after"] = _retry_after(error, turn_in)
        headers["Retry-After"] = str(told["retry_after"])
    shown = {name: value for name, value in told.items() if value is not None}
    return JSONResponse({"error": shown}, status, headers)


def _sort(error: FinetuningError) -> tuple[int, str, str]:
    if isinstance(error, ClientClosedError) and error.generation_id is not None:
        return 503, "closing", GOES_ON
    if isinstance(error, APITimeoutError) and error.safe_to_retry:
        return _sort(RateLimitError("", status_code=429))
    for kind, status, code, message in _ANSWERS:
        if isinstance(error, kind):
            return status, code, error.message if message is None else message
    raise AssertionError(error)  # the last line of the table takes all


def _retry_after(error: FinetuningError, turn_in: float | None) -> int:
    """Whole seconds, at least 1: of the service, else of our own queue."""
    for seconds in (error.retry_after, turn_in):
        if seconds is not None and isfinite(seconds) and seconds > 0:
            return min(ceil(seconds), LONGEST_RETRY_AFTER)
    return RETRY_AFTER


def _turn_in(request: Request) -> float | None:
    try:
        return client_of(request).rate_limit_status().creates.next_free_in
    except RuntimeError:
        return None
