"""The response of an application when a call of ours fails.

The user of the application is not the user of the service: an invalid key or an empty
account is the operator's concern, so the error's own message goes to the log and not to
the browser.

=========================================  ======  ===================================
Error                                      Status  Meaning for a browser
=========================================  ======  ===================================
Rate limit or queue is used up (429)       503     try again after ``Retry-After``
Timed out before anything was sent         503     the same
`CapacityError`                            503     the same
`BudgetExceededError`                      402     the budget for this is spent
Client closed                              503     the server stops; wait by the id
Invalid request, 400                       422     the error's own message
A key that is known with other content     409     the error's own message
`JournalError`                             500     nothing was sent; try again
404                                        404     no such track
401, 402, 403                              500     see the application's log
Unreachable, unreadable, 5xx               502     the service has a problem
`SubmissionUnknownError`                   502     it may be in progress; do not repeat
`GenerationFailedError`                    502     the service could not make it
`WaitTimeoutError`, other timeouts         504     the track is still being made
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
    BudgetExceededError,
    CapacityError,
    ClientClosedError,
    FinetuningError,
    GenerationFailedError,
    IdempotencyConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from finetuning_async.fastapi._lifespan import client_of
from finetuning_async.journal import JournalError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

logger = logging.getLogger("finetuning_async")

RETRY_AFTER: Final = 10
"""Seconds, if neither the service nor our limiter says when."""

LONGEST_RETRY_AFTER: Final = 3600

CLOSING_WITH_TRACK: Final = (
    "This server is stopping; the track is still being made: wait for it by its id."
)

_RESPONSES: Final[tuple[tuple[type[FinetuningError], int, str, str | None], ...]] = (
    (RateLimitError, 503, "busy", "The server is busy; try again in a moment."),
    (CapacityError, 503, "busy", "The server is busy; try again in a moment."),
    (BudgetExceededError, 402, "budget_exceeded", "The budget for this is spent."),
    (ClientClosedError, 503, "closing", "This server is stopping; try again."),
    (IdempotencyConflictError, 409, "idempotency_conflict", None),
    (InvalidRequestError, 422, "invalid_request", None),
    (BadRequestError, 422, "invalid_request", None),
    (NotFoundError, 404, "not_found", "This track does not exist."),
    (
        AuthenticationError,
        500,
        "misconfigured",
        "This server is not configured correctly.",
    ),
    (InsufficientCreditsError, 500, "misconfigured", "This server is out of credits."),
    (
        PermissionDeniedError,
        500,
        "misconfigured",
        "This server is not configured correctly.",
    ),
    (
        SubmissionUnknownError,
        502,
        "submission_unknown",
        "It is unknown whether this track is being made; check before trying again.",
    ),
    (GenerationFailedError, 502, "generation_failed", None),
    (WaitTimeoutError, 504, "still_running", "The track is still being made."),
    (APITimeoutError, 504, "timeout", "The music service did not respond in time."),
    (JournalError, 500, "journal_trouble", "This server cannot record requests now."),
    (FinetuningError, 502, "service_trouble", "The music service has a problem."),
)
"""Class, status, code and message; the first class that matches counts. `None` is the
error's own message."""


def add_exception_handlers(app: FastAPI) -> None:
    """Let an application respond to each `FinetuningError` as this module's table says.

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
    assert isinstance(error, FinetuningError)  # noqa: S101 - it is registered for this class
    return answer_to(error, turn_in=_next_create_in(request))


def answer_to(error: FinetuningError, *, turn_in: float | None = None) -> JSONResponse:
    """The response for an error: ``{"error": {"code", "message", ...}}``.

    Args:
        error: The error.
        turn_in: Seconds until the rate limit allows the next create, if known.

    Example:
        from finetuning_async.fastapi import answer_to

        try:
            await client.generations.get("no-such-track")
        except NotFoundError as error:
            print(answer_to(error).status_code)
    """
    status, body = error_body(error, turn_in)
    if status >= 500:
        logger.warning("responded with %d %s: %s", status, body["code"], error)
    headers = {"Cache-Control": "no-store"}
    if "retry_after" in body:
        headers["Retry-After"] = str(body["retry_after"])
    return JSONResponse({"error": body}, status, headers)


def error_body(
    error: FinetuningError, turn_in: float | None = None
) -> tuple[int, dict[str, Any]]:
    """The status of a response for an error, and what it says; see `answer_to`."""
    status, code, message = _classify(error)
    body: dict[str, Any] = {"code": code, "message": message}
    body["field"] = getattr(error, "field", None)
    body["generation_id"] = error.generation_id
    if code == "busy":
        body["retry_after"] = _retry_after(error, turn_in)
    return status, {name: value for name, value in body.items() if value is not None}


def _classify(error: FinetuningError) -> tuple[int, str, str]:
    if isinstance(error, ClientClosedError) and error.generation_id is not None:
        return 503, "closing", CLOSING_WITH_TRACK
    if isinstance(error, APITimeoutError) and error.safe_to_retry:
        # Nothing was sent: the rate limit did not allow it in time.
        return _classify(RateLimitError("", status_code=429))
    for kind, status, code, message in _RESPONSES:
        if isinstance(error, kind):
            return status, code, error.message if message is None else message
    raise AssertionError(error)  # the last row of the table matches all


def _retry_after(error: FinetuningError, turn_in: float | None) -> int:
    """Whole seconds, at least 1: those of the service, else of our own rate limit."""
    for seconds in (error.retry_after, turn_in):
        if seconds is not None and isfinite(seconds) and seconds > 0:
            return min(ceil(seconds), LONGEST_RETRY_AFTER)
    return RETRY_AFTER


def _next_create_in(request: Request) -> float | None:
    try:
        return client_of(request).rate_limit_status().creates.next_free_in
    except RuntimeError:
        return None
