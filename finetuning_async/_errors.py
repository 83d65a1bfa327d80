"""Everything that can go wrong, as one tree.

    FinetuningError
    ├── InvalidRequestError (ValueError)   refused here, before a credit is spent
    ├── APIConnectionError                 the service could not be asked
    │   └── APITimeoutError (TimeoutError)
    ├── APIResponseError                   an answer that cannot be read
    ├── APIStatusError                     an answer that says no
    │   ├── BadRequestError                400
    │   ├── AuthenticationError            401
    │   ├── InsufficientCreditsError       402
    │   ├── PermissionDeniedError          403
    │   ├── NotFoundError                  404
    │   ├── RateLimitError                 429
    │   │   └── QueueFullError             429 QUEUE_FULL
    │   └── InternalServerError            5xx
    ├── SubmissionUnknownError             a create whose fate could not be learned
    ├── GenerationFailedError              the track ended as failed
    ├── WaitTimeoutError (TimeoutError)    the track still runs
    ├── ClientClosedError                  the client was closed while a call waited
    └── WebhookVerificationError           a delivery that is not what it claims

Every error can be pickled and comes back equal. `safe_to_retry` answers one question
for an outer retry: may this very call be made again without paying twice, and can that
help?
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from finetuning_async._types import Track


class FinetuningError(Exception):
    """Base of all errors of this package.

    Attributes:
        message: What happened, with which value, and what to do.
        generation_id: The track it is about, when known.
        request_id: The service's name for the request, when it sent one.
        code: The service's error code, such as ``RATE_LIMITED``.
        retry_after: Seconds (at least 0) after which the service would be asked again.
        safe_to_retry: Whether the same call may be made again: it cannot pay twice, and
            the cause may have passed.

    Example:
        try:
            await client.generate("rain", duration=500)
        except FinetuningError as error:
            print(error, "- once more?", error.safe_to_retry)
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
        return _rebuild, (type(self), self.args, self._state())

    def _state(self) -> dict[str, Any]:
        # Notes, too; tracebacks, causes and contexts are not part of the value.
        return dict(vars(self))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.args == other.args and self._state() == other._state()

    def __hash__(self) -> int:
        return hash((type(self), self.args))


def _rebuild(
    cls: type[FinetuningError], args: tuple[Any, ...], state: dict[str, Any]
) -> FinetuningError:
    """Make an error again without running its `__init__`, whose arguments vary."""
    error = cls.__new__(cls, *args)
    error.args = args
    vars(error).update(state)
    return error


class InvalidRequestError(FinetuningError, ValueError):
    """A parameter was refused here, before a token or a credit was spent.

    Attributes:
        field: The name of the parameter.
        value: What was given: text, a number, `None`, or the short `repr` of anything
            else; `None` where it must not be shown.
        allowed: The documented range, in words.

    Example:
        try:
            await client.generations.create("rain", bpm=500)
        except InvalidRequestError as error:
            print(error.field, "must be", error.allowed)
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}={_short(value)} is not valid: {allowed}")
        self.field = field
        self.value: object = value if _is_simple(value) else _short(value)
        self.allowed = allowed

    @classmethod
    def hidden(cls, field: str, allowed: str) -> Self:
        """The same for a value that is a secret: it is neither shown nor kept."""
        error = cls(field, None, allowed)
        error.message = f"{field} is not valid: {allowed}"
        error.args = (error.message,)
        return error


def _short(value: object) -> str:
    """`repr` in at most 80 characters; that of a huge integer may itself fail."""
    try:
        text = repr(value)
    except Exception:  # a stranger's repr may raise anything
        return f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def _is_simple(value: object) -> bool:
    """Whether a pickle brings it back equal, which NaN and strangers' types are not."""
    return value is None or (type(value) in (str, bool, int, float) and value == value)


class APIConnectionError(FinetuningError):
    """The service could not be asked, or its answer did not arrive.

    Example:
        try:
            await client.with_options(max_retries=0).me()
        except APIConnectionError as error:
            print("no answer:", error, error.safe_to_retry)
    """


class APITimeoutError(APIConnectionError, TimeoutError):
    """Time was over: of one request, or of the whole call before anything was sent.

    Example:
        try:
            await client.me(timeout=5)
        except APITimeoutError as error:
            print("not within 5 s:", error)
    """


class APIResponseError(FinetuningError):
    """An answer that cannot be read.

    Attributes:
        path: Where in the JSON, such as ``$.data.generations[3].id``; ``$`` is all.
        status_code: The HTTP status it came with, when known.

    Example:
        try:
            await client.me()
        except APIResponseError as error:
            print("cannot read", error.path, error.status_code)
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
        super().__init__(
            message,
            generation_id=generation_id,
            request_id=request_id,
            safe_to_retry=safe_to_retry,
        )
        self.path = path
        self.status_code = status_code


class APIStatusError(FinetuningError):
    """The service answered with an error; `str` adds what can be done about it.

    Attributes:
        message: The service's own words, without secrets that it may have repeated.
        status_code: The HTTP status, 400 to 599 as a rule.
        code: The service's code; ``HTTP_`` and the status where none could be read.
        details: What the service added: an object, an array, or nothing.

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
    """400: the service refused a parameter; its message names it.

    Example:
        try:
            await client.generations.create("rain", bpm=500, validate=False)
        except BadRequestError as error:
            print(error.message, error.details)
    """


class AuthenticationError(APIStatusError):
    """401: the key is missing, malformed, revoked or unknown.

    Example:
        revoked = client.with_options(api_key="ft_live_" + 32 * "0")
        try:
            await revoked.me()
        except AuthenticationError as error:
            print(error)
    """

    _advice = "; keys are made under Profile > API on finetuning.ai"


class InsufficientCreditsError(APIStatusError):
    """402: no generations are left this month.

    Example:
        try:
            await client.generate("rain")
        except InsufficientCreditsError as error:
            print(error)
    """

    _advice = "; wait for the monthly reset, or buy more"


class PermissionDeniedError(APIStatusError):
    """403: the plan has no API access.

    Example:
        try:
            await client.generate("rain")
        except PermissionDeniedError as error:
            print(error)
    """

    _advice = "; API access comes with the Pro and Lifetime plans"


class NotFoundError(APIStatusError):
    """404: no such track, or not yours.

    Example:
        try:
            await client.generations.get("no-such-track")
        except NotFoundError as error:
            print(error)
    """


class RateLimitError(APIStatusError):
    """429: a limit of the account is spent; `retry_after` says for how long.

    Example:
        try:
            await client.sound_effects.create("a door")
        except RateLimitError as error:  # the day's effects are used up
            print(error.code, error.budget, error.retry_after)
    """

    @property
    def budget(self) -> str | None:
        """Whose limit it was: ``creates`` or ``reads``; `None` for another code."""
        # Not before: with the client's name alone few modules come.
        from finetuning_async._rate_codes import rate_budget_of

        return rate_budget_of(self.code)

    def __str__(self) -> str:
        wait = self.retry_after
        return super().__str__() + ("" if wait is None else f"; wait {wait:g} s")


class QueueFullError(RateLimitError):
    """429 ``QUEUE_FULL``: too many tracks of the account are under way.

    Example:
        impatient = client.with_options(max_retries=0)
        try:
            for tags in ("rain", "wind"):
                await impatient.generations.create(tags)
        except QueueFullError as error:
            print(error)
    """

    _advice = "; there is room again when one of them ends"


class InternalServerError(APIStatusError):
    """5xx: the service, or a proxy in front of it, failed.

    Example:
        try:
            await client.me()
        except InternalServerError as error:
            print(error, error.safe_to_retry)
    """


class SubmissionUnknownError(FinetuningError):
    """A create left, and what became of it could not be learned. It may be paid.

    Attributes:
        prompt: The words that were sent.
        seed: The seed that was sent; a track that shows it is the lost one.
        sent_at: When the first byte left, by the service's clock where known (aware).
        candidates: Ids of tracks that may be it.

    Example:
        try:
            await client.generate("rain")
        except SubmissionUnknownError as error:
            print("it may be one of", error.candidates, "and has the seed", error.seed)
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
    """The wait is over, the track is not, or could not be looked at; it stays paid.

    Wait again with the same id; do not create it again.

    Attributes:
        generation: The last state seen; `None` if none was.
        retry_after: Seconds until it can be looked at, if the reads were used up.

    Example:
        try:
            track = await client.generate("rain", wait_timeout=10)
        except WaitTimeoutError as error:
            print("still", error.generation and error.generation.status)
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
        super().__init__(
            message, generation_id=generation_id, safe_to_retry=safe_to_retry
        )
        self.generation = generation


class ClientClosedError(FinetuningError):
    """The client was closed, before or while this call waited.

    Example:
        await client.aclose()
        try:
            await client.me()
        except ClientClosedError as error:
            print(error)
    """


class WebhookVerificationError(FinetuningError):
    """A webhook delivery that is not what it claims to be.

    Example:
        import os
        from finetuning_async.webhooks import WebhookReceiver

        receiver = WebhookReceiver(client, secrets=[os.environ["HOOK_SECRET"]])
        try:
            receiver.verify(b"token=guessed")
        except WebhookVerificationError as error:
            print(error)
    """
