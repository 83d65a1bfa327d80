"""What a client was given, checked, or read from the environment."""

from __future__ import annotations

import logging
import os
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from finetuning_async._errors import InvalidRequestError
from finetuning_async._limiter import Limiter
from finetuning_async._rate_limits import RateLimits, SupportsRateLimits
from finetuning_async._secrets import ApiKey, key_problem, looks_documented
from finetuning_async._transport import (
    DEFAULT_TIMEOUT,
    LOOPBACK,
    Timeout,
    as_timeout,
    check_base_url,
)
from finetuning_async._waiting import check_timeout

logger = logging.getLogger("finetuning_async")

BASE_URL: Final = "https://pub.finetuning.ai"
MAX_RETRIES: Final = 5
MAX_RETRY_WAIT: Final = 300.0
DEFAULT_LIMITS: Final = RateLimits()


def _checked_retries(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise InvalidRequestError("max_retries", value, "a whole number, at least 0")


def _checked_wait(value: float) -> float:
    return check_timeout(value, "max_retry_wait")


def _checked_url(value: str) -> str:
    return check_base_url(value or os.environ.get("FINETUNING_BASE_URL") or BASE_URL)


def _checked_limits(value: SupportsRateLimits | None) -> RateLimits | None:
    return None if value is None else RateLimits.of(value)


# No repr: one that is half made would raise in the report of the error that ended it.
@attrs.frozen(kw_only=True, eq=False, repr=False)
class Settings:
    """The options of a client.

    Attributes:
        api_key: The API key.
        base_url: Without a trailing slash.
        request_timeout: For one attempt on the wire.
        max_retries: Repetitions after a first attempt that failed.
        max_retry_wait: Seconds; the longest single pause that a 429 may ask for.
        rate_limits: What the account may send; `None` for no pacing.
        rate_limiter: Its turns, if the caller brings them.

    Raises:
        InvalidRequestError: A value is out of its range.
    """

    api_key: ApiKey
    base_url: str = attrs.field(default="", converter=_checked_url)
    request_timeout: Timeout = attrs.field(
        default=DEFAULT_TIMEOUT, converter=as_timeout
    )
    max_retries: int = attrs.field(default=MAX_RETRIES, converter=_checked_retries)
    max_retry_wait: float = attrs.field(default=MAX_RETRY_WAIT, converter=_checked_wait)
    rate_limits: RateLimits | None = attrs.field(
        default=DEFAULT_LIMITS, converter=_checked_limits
    )
    rate_limiter: Limiter | None = None

    @property
    def is_on_loopback(self) -> bool:
        """Whether the service is on this machine: an emulator."""
        return urlsplit(self.base_url).hostname in LOOPBACK

    def changed(self, overrides: dict[str, Any]) -> Settings:
        """The same with other options, by name.

        Raises:
            InvalidRequestError: There is no such option, or a value is out of range.
        """
        names = [field.name for field in attrs.fields(Settings)]
        unknown = sorted(set(overrides) - set(names))
        if unknown:
            raise InvalidRequestError("with_options", unknown, f"of {sorted(names)}")
        return attrs.evolve(self, **overrides)


def read_key(given: str | None) -> tuple[ApiKey | None, str]:
    """The key to use, from the environment if none is given, or what is wrong with it.

    It does not raise: a traceback may show the locals of a frame, and here they are the
    key.
    """
    text = (given or os.environ.get("FINETUNING_API_KEY") or "").strip()
    problem = key_problem(text)
    if problem is not None:
        return None, problem
    if not looks_documented(text):
        logger.warning(
            "the API key has not the documented form, ft_live_ and 32 characters"
        )
    return ApiKey(text), ""
