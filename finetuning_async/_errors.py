"""All errors of this package, as one tree.

    FinetuningError
    ├── InvalidRequestError (ValueError)   rejected here, before a credit is spent
    │   └── IdempotencyConflictError       a key is known with other content
    ├── CapacityError                      it would wait longer than `max_wait`
    ├── BudgetExceededError                the client's `budget` does not allow it
    ├── APIConnectionError                 no response arrived
    │   └── APITimeoutError (TimeoutError)
    ├── APIResponseError                   a response that cannot be parsed
    ├── APIStatusError                     a response with an error status
    │   ├── BadRequestError                400
    │   ├── AuthenticationError            401
    │   ├── InsufficientCreditsError       402
    │   ├── PermissionDeniedError          403
    │   ├── NotFoundError                  404
    │   ├── RateLimitError                 429
    │   │   └── QueueFullError             429 QUEUE_FULL
    │   └── InternalServerError            5xx
    ├── SubmissionUnknownError             a create whose outcome is unknown
    ├── GenerationFailedError              the track ended as failed
    ├── WaitTimeoutError (TimeoutError)    the track is still in progress
    ├── ClientClosedError                  the client was closed while a call waited
    └── WebhookVerificationError           a delivery that fails verification

Every error can be pickled and unpickles equal. `safe_to_retry` is for an outer retry
loop: the same call can be made again without paying twice, and that may succeed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from finetuning_async._secrets import pickles_equal, shortened_repr

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from finetuning_async._types import Track


class FinetuningError(Exception):
    """Base of all errors of this package.

    Attributes:
        message: What happened, with which value, and what to do.
        generation_id: The id of the track concerned, if known.
        request_id: The service's id of the request, if it sent one.
        code: The service's error code, such as ``RATE_LIMITED``.
        retry_after: Seconds to wait before trying again, at least 0, if known.
        safe_to_retry: Whether the same call may be made again: it cannot be
            charged twice, and the cause may be temporary.

    Example:
        try:
            await client.generate("rain", duration=500)
        except FinetuningError as error:
            print(error, "- safe to retry:", error.safe_to_retry)
    """

    def __init__(
        self,
        message: str,
        *,
        generation_id: str | None = None,
        request_id: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        safe_to_retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.generation_id = generation_id
        self.request_id = request_id
        self.code = code
        self.retry_after = retry_after
        self.safe_to_retry = safe_to_retry

    def __reduce__(self) -> tuple[Any, ...]:
        # Includes `__notes__`. Traceback, cause and context are not in `vars`.
        return _rebuild, (type(self), self.args, dict(vars(self)))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.args == other.args and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.args))


def _rebuild(
    cls: type[FinetuningError], args: tuple[Any, ...], state: dict[str, Any]
) -> FinetuningError:
    """Unpickle an error without `__init__`, whose arguments differ by class."""
    error = cls.__new__(cls, *args)
    error.args = args
    vars(error).update(state)
    return error


class InvalidRequestError(FinetuningError, ValueError):
    """A parameter was rejected here; nothing was sent.

    The message reads ``duration must be a number from 5 to 210 seconds, got 4``.

    Attributes:
        field: The name of the parameter.
        value: The value given: a string, a number, a `bool` or `None` as it is, the
            shortened `repr` of anything else; `None` where it may be a secret.
        allowed: What the parameter must be, such as ``a number from 5 to 210 seconds``.
            What to do about it may follow after ``"; "``.

    Example:
        try:
            await client.generations.create("rain", bpm=500)
        except InvalidRequestError as error:
            print(error.field, "must be", error.allowed)
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        rule, semicolon, advice = allowed.partition("; ")
        got = f"got {shortened_repr(value)}"
        super().__init__(f"{field} must be {rule}, {got}{semicolon}{advice}")
        self.field = field
        self.value: object = value if pickles_equal(value) else shortened_repr(value)
        self.allowed = allowed

    @classmethod
    def hidden(cls, field: str, allowed: str) -> Self:
        """Make the error for a value that may be a secret: it is not shown or kept."""
        error = cls(field, None, allowed)
        error.message = f"{field} must be {allowed}"
        error.args = (error.message,)
        return error


class IdempotencyConflictError(InvalidRequestError):
    """The idempotency key is known with other content; nothing was sent.

    `field` is ``idempotency_key``, `value` is the key.

    Example:
        async with AsyncClient(journal="tracks.db") as client:
            await client.generate("rain", idempotency_key="order-42")
            try:
                await client.generate("wind", idempotency_key="order-42")
            except IdempotencyConflictError as error:
                print(error)
    """


class CapacityError(FinetuningError):
    """A create would wait longer than `max_wait` for its permit and its place.

    Nothing was sent, or what was sent was refused because the service's queue was full.
    `retry_after` is in how many seconds the same call would be let in, as far as known.

    Example:
        hurried = client.with_options(max_wait=5)
        try:
            for number in range(20):
                await hurried.generations.create(f"rain {number}")
        except CapacityError as error:
            print(f"busy; try again in {error.retry_after:.0f} s")
    """


class BudgetExceededError(FinetuningError):
    """A create would cost more than a `Budget` of the client allows; nothing was sent.

    `retry_after` is in how many seconds it would be allowed, if `per` makes that known.

    Example:
        thrifty = client.with_options(budget=Budget(1))
        try:
            for number in range(2):
                await thrifty.generations.create(f"rain {number}")
        except BudgetExceededError as error:
            print(error, error.retry_after)
    """


class APIConnectionError(FinetuningError):
    """The request could not be sent, or no response arrived.

    Example:
        try:
            await client.with_options(max_retries=0).me()
        except APIConnectionError as error:
            print("no response:", error, error.safe_to_retry)
    """


class APITimeoutError(APIConnectionError, TimeoutError):
    """One request timed out, or the whole call did before anything was sent.

    Example:
        try:
            await client.me(timeout=5)
        except APITimeoutError as error:
            print("timed out after 5 s:", error)
    """


class APIResponseError(FinetuningError):
    """A response that cannot be parsed.

    Attributes:
        path: The JSON path of the problem, such as ``$.data.generations[3].id``; ``$``
            is the whole body.
        status_code: The HTTP status of the response, if known.

    Example:
        try:
            await client.me()
        except APIResponseError as error:
            print("cannot parse", error.path, error.status_code)
    """

    def __init__(
        self,
        message: str,
        *,
        path: str = "$",
        status_code: int | None = None,
        generation_id: str | None = None,
        request_id: str | None = None,
        safe_to_retry: bool = False,
    ) -> None:
        super().__init__(message, request_id=request_id, safe_to_retry=safe_to_retry)
        self.generation_id = generation_id
        self.path = path
        self.status_code = status_code


class APIStatusError(FinetuningError):
    """The service responded with an error status; `str` adds what to do about it.

    Attributes:
        message: The service's own message. API keys and URL queries in it are masked.
        status_code: The HTTP status, usually 400 to 599.
        code: The service's error code; ``HTTP_`` and the status if the response has no
            readable one, such as ``HTTP_502``.
        details: Further details from the service: an object, an array, or `None`.

    Example:
        try:
            await client.playlists.get("no-such-playlist")
        except APIStatusError as error:
            print(error.status_code, error.code, error.message, error.details)
    """

    _advice: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        code: str | None = None,
        details: Mapping[str, Any] | Sequence[Any] | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        generation_id: str | None = None,
        safe_to_retry: bool = False,
    ) -> None:
        super().__init__(
            message,
            generation_id=generation_id,
            request_id=request_id,
            code=code,
            retry_after=retry_after,
            safe_to_retry=safe_to_retry,
        )
        self.status_code = status_code
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} ({self.status_code} {self.code}){self._advice}"


class BadRequestError(APIStatusError):
    """400: the service rejected a parameter; the message names it.

    Example:
        try:
            await client.generations.create("rain", bpm=500, validate=False)
        except BadRequestError as error:
            print(error.message, error.details)
    """


class AuthenticationError(APIStatusError):
    """401: the key is missing, malformed, revoked or unknown.

    Example:
        try:
            await client.with_options(api_key="ft_live_" + 32 * "0").me()
        except AuthenticationError as error:
            print(error)
    """

    _advice = "; create a key under Profile > API on finetuning.ai"


class InsufficientCreditsError(APIStatusError):
    """402: the account has no credits left this month.

    Example:
        try:
            await client.generate("rain")
        except InsufficientCreditsError as error:
            print(error)
    """

    _advice = "; wait for the monthly reset, or buy credits"


class PermissionDeniedError(APIStatusError):
    """403: the account's plan does not include API access.

    Example:
        try:
            await client.generate("rain")
        except PermissionDeniedError as error:
            print(error)
    """

    _advice = "; the Pro and Lifetime plans include API access"


class NotFoundError(APIStatusError):
    """404: no such track or playlist in this account.

    Example:
        try:
            await client.generations.get("no-such-track")
        except NotFoundError as error:
            print(error)
    """


class RateLimitError(APIStatusError):
    """429: a limit of the account is used up; see `retry_after`.

    Example:
        try:
            await client.sound_effects.create("a door")
        except RateLimitError as error:  # the day's effects are used up
            print(error.code, error.budget, error.retry_after)
    """

    @property
    def budget(self) -> str | None:
        """The exhausted rate budget: ``creates``, ``reads``, or `None` for neither."""
        # Imported here, so that importing the package's errors stays cheap.
        from finetuning_async._rate_codes import rate_budget_of

        return rate_budget_of(self.code)

    def __str__(self) -> str:
        wait, text = self.retry_after, super().__str__()
        return text if wait is None else f"{text}; retry in {wait:.{wait < 10:d}f} s"


class QueueFullError(RateLimitError):
    """429 ``QUEUE_FULL``: too many tracks of the account are in progress.

    Example:
        impatient = client.with_options(max_retries=0)
        try:
            for tags in ("rain", "wind"):
                await impatient.generations.create(tags)
        except QueueFullError as error:
            print(error)
    """

    _advice = "; wait until one of the tracks in progress ends"


class InternalServerError(APIStatusError):
    """5xx: the service, or a proxy in front of it, failed.

    Example:
        try:
            await client.me()
        except InternalServerError as error:
            print(error, error.safe_to_retry)
    """


class SubmissionUnknownError(FinetuningError):
    """A create was sent, but its response was lost and no track was found for it.

    It may have been charged.

    Attributes:
        prompt: The prompt that was sent.
        seed: The seed that was sent; a track with this seed is the lost one.
        sent_at: When the first byte was sent (aware), by the service's clock if known.
        candidates: Ids of tracks that may be the lost one.

    Example:
        try:
            await client.generate("rain")
        except SubmissionUnknownError as error:
            print("look for seed", error.seed, "or one of", error.candidates)
    """

    def __init__(
        self,
        message: str,
        *,
        prompt: str,
        seed: int | None,
        sent_at: dt.datetime | None = None,
        candidates: Sequence[str] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.prompt = prompt
        self.seed = seed
        self.sent_at = sent_at
        self.candidates: tuple[str, ...] = tuple(candidates)


class GenerationFailedError(FinetuningError):
    """The track ended as ``failed``; `generation` is its final state.

    Example:
        try:
            await client.generate("rain")
        except GenerationFailedError as error:
            print(error.generation.id, error.generation.error_message)
    """

    def __init__(self, message: str, *, generation: Track) -> None:
        super().__init__(message, generation_id=generation.id)
        self.generation = generation


class WaitTimeoutError(FinetuningError, TimeoutError):
    """The wait timed out; the track is still in progress, or could not be read.

    The track has been charged: wait for its id again. Creating it again costs another
    credit, unless both calls have the same idempotency key.

    Attributes:
        generation: The last state seen, if any.
        retry_after: Seconds until it can be read, if the rate limit of reads is used
            up.

    Example:
        try:
            track = await client.generate("rain", wait_timeout=10)
        except WaitTimeoutError as error:
            print("not yet:", error.generation and error.generation.status)
            track = await client.wait_for_completion(error.generation_id)
    """

    def __init__(
        self,
        message: str,
        *,
        generation_id: str,
        generation: Track | None = None,
        safe_to_retry: bool = False,
    ) -> None:
        super().__init__(message, generation_id=generation_id)
        self.safe_to_retry = safe_to_retry
        self.generation = generation


class ClientClosedError(FinetuningError):
    """The client was closed before this call or while it waited.

    Example:
        await client.aclose()
        try:
            await client.me()
        except ClientClosedError as error:
            print(error)
    """


class WebhookVerificationError(FinetuningError):
    """A webhook delivery whose token cannot be verified.

    Example:
        import os
        from finetuning_async.webhooks import WebhookReceiver

        receiver = WebhookReceiver(client, secrets=[os.environ["HOOK_SECRET"]])
        try:
            receiver.verify(b"token=guessed")
        except WebhookVerificationError as error:
            print(error)
    """
