"""The options of a client: checked, or read from the environment."""

from __future__ import annotations

import logging
import os
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from finetuning_async._api import (
    check_priority,
    check_retries,
    check_share,
    check_timeout,
)
from finetuning_async._constants import MAX_RETRIES, MAX_RETRY_WAIT
from finetuning_async._credentials import key_places
from finetuning_async._errors import InvalidRequestError
from finetuning_async._event_hook import Hook, as_hook
from finetuning_async._http import (
    DEFAULT_TIMEOUT,
    LOOPBACK,
    Headers,
    Timeout,
    as_timeout,
    check_base_url,
    read_headers,
    read_proxy,
)
from finetuning_async._pacing import (
    DEFAULT_LIMITS,
    RANKS,
    Budget,
    RateLimiter,
    RateLimits,
    SupportsRateLimits,
)
from finetuning_async._secrets import ApiKey, key_problem, looks_documented
from finetuning_async._session._journal_source import read_journal
from finetuning_async._types import Priority

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._api import AnyRequest

logger = logging.getLogger("finetuning_async")

BASE_URL: Final = "https://pub.finetuning.ai"
LIMITER_ALLOWED: Final = "a RateLimiter instance, or 'shared'"


def _checked_wait(value: float) -> float:
    return check_timeout(value, "max_retry_wait")


def _checked_url(value: str) -> str:
    return check_base_url(value or os.environ.get("FINETUNING_BASE_URL") or BASE_URL)


def _checked_limits(value: SupportsRateLimits | None) -> RateLimits | None:
    return None if value is None else RateLimits.of(value)


def _checked_limiter(value: RateLimiter | str | None) -> RateLimiter | None:
    if not isinstance(value, str):
        is_limiter = hasattr(value, "try_acquire") and not isinstance(value, type)
        if value is None or is_limiter:
            return value
        raise InvalidRequestError("rate_limiter", value, LIMITER_ALLOWED)
    if value != "shared":
        raise InvalidRequestError("rate_limiter", value, LIMITER_ALLOWED)
    # By name, because `shared` is a layer above this one and needs an extra.
    limiter: RateLimiter = import_module("finetuning_async.shared").SharedRateLimiter()
    return limiter


def _checked_max_wait(value: float | None) -> float | None:
    return None if value is None else check_timeout(value, "max_wait")


def _checked_budget(value: Budget | None) -> Budget | None:
    if value is None or isinstance(value, Budget):
        return value
    # Not a number: each view that is made with it would have a budget of its own.
    allowed = "a Budget, or None; keep one object for as long as it is to count"
    raise InvalidRequestError("budget", value, allowed)


# No generated repr: if a converter raises, a traceback that shows locals asks the
# half-made instance for it, and that would raise in turn.
@attrs.frozen(kw_only=True, eq=False, repr=False)
class Settings:
    """The options of a client.

    Attributes:
        api_key: The API key.
        base_url: Without a trailing slash.
        request_timeout: For one attempt on the wire.
        max_retries: Retries after a first attempt that failed.
        max_retry_wait: Seconds; the longest single pause that a 429 may ask for.
        rate_limits: The account's rate limits; `None` for no pacing.
        rate_limiter: Gives the permits, if the caller brought it.
        headers: The caller's additional headers.
        on_event: The caller's event callback, wrapped; `None` for none.
        priority: Who goes first where creates wait.
        share: For whom the creates are; `None` is a share as well.
        max_wait: Seconds that a create may wait for its permit and its place in the
            service's queue; `None` for no limit.
        budget: What it may spend, as given last.
        budgets: All that apply, by the share that each is for; `None` for all shares.

    Raises:
        InvalidRequestError: A value is out of its range.
    """

    api_key: ApiKey
    base_url: str = attrs.field(default="", converter=_checked_url)
    request_timeout: Timeout = attrs.field(
        default=DEFAULT_TIMEOUT, converter=as_timeout
    )
    max_retries: int = attrs.field(default=MAX_RETRIES, converter=check_retries)
    max_retry_wait: float = attrs.field(default=MAX_RETRY_WAIT, converter=_checked_wait)
    rate_limits: RateLimits | None = attrs.field(
        default=DEFAULT_LIMITS, converter=_checked_limits
    )
    rate_limiter: RateLimiter | None = attrs.field(
        default=None, converter=_checked_limiter
    )
    headers: Headers = attrs.field(factory=lambda: Headers({}))
    on_event: Hook | None = attrs.field(default=None, converter=as_hook)
    priority: Priority = attrs.field(default="normal", converter=check_priority)
    share: str | None = attrs.field(default=None, converter=check_share)
    max_wait: float | None = attrs.field(default=None, converter=_checked_max_wait)
    budget: Budget | None = attrs.field(default=None, converter=_checked_budget)
    budgets: dict[str | None, Budget] = attrs.field()

    @budgets.default
    def _own_budget(self) -> dict[str | None, Budget]:
        return {} if self.budget is None else {self.share: self.budget}

    @property
    def is_on_loopback(self) -> bool:
        """Whether the service is on this machine: an emulator."""
        return urlsplit(self.base_url).hostname in LOOPBACK

    def waiting_options(self, request: AnyRequest, *given: Any) -> dict[str, Any]:
        """How a create waits: what its call gives, else its request, else its client.

        Args:
            request: The request.
            given: `priority`, `share` and `max_wait` of the call; `None` for not given.

        Raises:
            InvalidRequestError: A value is out of its range.
        """
        asked: tuple[Any, ...] = request.priority, request.share, None
        defaults: tuple[Any, ...] = self.priority, self.share, self.max_wait
        priority, share, max_wait = (
            next((value for value in values if value is not None), None)
            for values in zip(given, asked, defaults, strict=True)
        )
        return {
            "rank": RANKS[check_priority(priority)],
            "share": check_share(share),
            "max_wait": inf if max_wait is None else _checked_max_wait(max_wait),
        }

    def with_overrides(self, overrides: dict[str, Any]) -> Settings:
        """A copy with other values for some options, by name.

        Raises:
            InvalidRequestError: A value is out of its range.
        """
        changed = attrs.evolve(self, **overrides)
        if "budget" not in overrides:
            return changed
        # A view's budget for its share comes on top of the account's.
        rest = {s: b for s, b in self.budgets.items() if s != changed.share}
        own = {} if changed.budget is None else {changed.share: changed.budget}
        return attrs.evolve(changed, budgets=rest | own)

    def budgets_for(self, share: str | None) -> list[tuple[str | None, Budget]]:
        """The budgets of a create for a share, each with the share that it is for."""
        return [(s, b) for s, b in self.budgets.items() if s is None or s == share]


def read_secrets(options: dict[str, Any]) -> tuple[str, str] | None:
    """Parse the options that may be secrets, in place.

    It does not raise, and it clears the options if one is wrong: a traceback may show
    the locals of each frame, and these are secrets.

    Returns:
        The name of a wrong option and what is wrong with it; `None` if all are right.
    """
    readers: dict[str, Callable[[Any], tuple[Any, str]]] = {
        "api_key": read_key,
        "headers": read_headers,
        "proxy": read_proxy,
        "journal": read_journal,
    }
    for name, read in readers.items():
        problem = ""
        if name in options:
            options[name], problem = read(options[name])
        if problem:
            options.clear()
            return name, problem
    return None


def _missing_key() -> str:
    """What is wrong where there is no key: where it was looked for, and what to do."""
    passed = "api_key= is empty, and FINETUNING_API_KEY is not set"
    return (
        f"given: {passed}. `finetuning auth login` stores a key in {key_places()};"
        " api_key=finetuning_async.stored_key() reads it there"
    )


def read_key(given: str | None) -> tuple[ApiKey | None, str]:
    """The key to use, from the environment if none is given, or what is wrong with it.

    It does not raise: a traceback may show the locals of each frame, and here the key
    is one of them.
    """
    if given is not None and not isinstance(given, str):
        return None, "a string"
    text = (given or os.environ.get("FINETUNING_API_KEY") or "").strip()
    if not text:
        return None, _missing_key()
    problem = key_problem(text)
    if problem is not None:
        return None, problem
    if not looks_documented(text):
        logger.warning(
            "the API key does not have the documented form: ft_live_ and 32 characters"
        )
    return ApiKey(text), ""
