"""`RedisRateLimiter`: the permits of an account for processes on many machines."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any, Final, Self

from anyio.lowlevel import current_token
from sniffio import current_async_library

from finetuning_async._coordination import TIMEOUT, StoreLimiter
from finetuning_async._errors import FinetuningError, InvalidRequestError
from finetuning_async.redis._store import RedisStore

try:
    from redis.asyncio import Redis
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
except ImportError as _missing:
    _HINT = (
        f"finetuning_async.redis needs {_missing.name}:"
        " pip install 'finetuning-async[redis]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

if TYPE_CHECKING:
    from types import TracebackType

READABLE: Final = "a URL that begins with redis://, rediss:// or unix://"


class RedisRateLimiter(StoreLimiter):
    """The permits of an account, kept in Redis (6 or newer) or Valkey.

    If the server is unavailable or does not respond within a second, each process
    continues with its share of the limits and logs a warning; calls do not fail.

    Example:
        from finetuning_async.redis import RedisRateLimiter

        limiter = RedisRateLimiter("redis://127.0.0.1:6379/0")
        try:
            client = AsyncClient(rate_limiter=limiter)
        finally:
            await limiter.aclose()

    Args:
        url: The URL of the server: ``redis://``, ``rediss://`` or ``unix://``, as
            `redis` reads it. It may contain a password and is never shown.
        account: The name whose hash names the keys in Redis; by default the base URL
            and the key of the first client. Two keys of one account share its limits if
            they pass the same name.
        timeout: Seconds after which a request of a process that died counts as ended;
            longer than any request takes.

    Raises:
        InvalidRequestError: The URL cannot be parsed; it is not shown.
        FinetuningError: It is used on another event loop than asyncio's.
    """

    def __init__(
        self, url: str, *, account: str | None = None, timeout: float = TIMEOUT
    ) -> None:
        if not _is_readable(url):
            raise InvalidRequestError.hidden("url", READABLE)
        self._url = url
        self._client: Any = None
        self._connected_in: object = None
        rng = random.SystemRandom()
        super().__init__(
            lambda name: RedisStore(self._connected(), _hashed(name), rng),
            account=account,
            timeout=timeout,
            rng=rng,
        )

    def _connected(self) -> Any:
        """Return the connections of the running event loop."""
        loop = current_token()
        if self._client is None or self._connected_in != loop:
            self._client, self._connected_in = self._new_client(), loop
        return self._client

    def _new_client(self) -> Any:
        if current_async_library() != "asyncio":
            raise FinetuningError(
                "RedisRateLimiter runs on asyncio only, like the redis library; on trio"
                ' use rate_limiter="shared" (one machine) or PostgresRateLimiter'
            )
        # One retry: that the server closed an idle connection shows only on use.
        return Redis.from_url(self._url, retry=Retry(NoBackoff(), 1))

    async def aclose(self) -> None:
        """Send the remaining reports and close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await self.flush()
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _is_readable(url: str) -> bool:
    try:
        parse_url(url)
    except ValueError:
        return False
    return True


def _hashed(account: str) -> str:
    return hashlib.sha256(account.encode()).hexdigest()[:32]
