"""The service's error responses: code, status, message (section 4).

The messages are this project's own, except the fixed texts of single bulk items.
"""

from __future__ import annotations

from typing import Any

import attrs

MESSAGES = {
    "MISSING_API_KEY": (401, "No X-API-Key header on the request"),
    "INVALID_API_KEY": (401, "This API key is not accepted"),
    "MONTHLY_LIMIT_REACHED": (402, "This month's generations are used up"),
    "PRO_PLAN_REQUIRED": (403, "API access needs a Pro or Lifetime plan"),
    "NOT_FOUND": (404, "Nothing with that id"),
    "RATE_LIMITED": (429, "Request quota for this minute is spent"),
    "GENERATION_RATE_LIMITED": (429, "Create quota for this minute is spent"),
    "QUEUE_FULL": (429, "Your queue already holds the maximum number of jobs"),
    "DAILY_LIMIT_REACHED": (429, "Today's sound effects are used up"),
    "GENERATION_FAILED": (500, "The job could not be queued"),
    "INTERNAL_ERROR": (500, "Something broke on the server"),
}

LONGEST_PATH = 200
"""Characters of a path that a message repeats."""


@attrs.define
class ApiError(Exception):
    """A response other than 2xx; raised by checks, rendered by the app."""

    status: int
    code: str
    message: str
    details: Any = None
    retry_after: int | None = None
    headers: dict[str, str] = attrs.field(factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The error envelope."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        if self.retry_after is not None:
            error["retryAfter"] = self.retry_after
        return {"error": error}


def refusal(code: str) -> ApiError:
    """The standard response for a code in `MESSAGES`."""
    status, message = MESSAGES[code]
    return ApiError(status, code, message)


def invalid(message: str) -> ApiError:
    """A ``VALIDATION_ERROR`` of a body that has no fields."""
    return ApiError(400, "VALIDATION_ERROR", message)


def unacceptable(field: str, problem: str, **more: Any) -> ApiError:
    """A ``VALIDATION_ERROR`` of one field, in its message and in ``details.field``."""
    details = {"field": field} | more
    return ApiError(400, "VALIDATION_ERROR", f"{field} {problem}", details)


def no_endpoint(method: str, path: str) -> ApiError:
    """The response to a wrong path or method (U34): it is no track that is missing."""
    shown = path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}..."
    return ApiError(404, "NOT_FOUND", f"There is no endpoint {method} {shown}")
