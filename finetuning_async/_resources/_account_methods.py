"""The client's methods for its account: credits, rate limits, estimates, changes.

A base class of `TrackMethods`, for the same reasons.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from finetuning_async._constants import READ_TIMEOUT
from finetuning_async._errors import InvalidRequestError
from finetuning_async._resources._other_names import NamesOurs

if TYPE_CHECKING:
    from finetuning_async._api import Account, Generation, Health, SoundEffect
    from finetuning_async._pacing import RateLimitStatus
    from finetuning_async._session import Estimate, Progress, Session
    from finetuning_async._types import Kind, Priority


class AccountMethods(NamesOurs, ABC):
    """Read the account, estimate, report changes; see `AsyncClient`."""

    @abstractmethod
    def _session(self) -> Session:
        """Return the client's session in the running event loop."""

    async def me(
        self, *, timeout: float | None = READ_TIMEOUT, max_retries: int | None = None
    ) -> Account:
        """Read the account of the key, with its remaining credits. Costs nothing.

        Args:
            timeout: Seconds for the whole call, waiting for the rate limit included;
                `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.

        Raises:
            AuthenticationError: The service rejected the API key.
            FinetuningError: The request failed.
        """
        from finetuning_async._api import Call, parsing

        response = await self._session().request(
            Call(method="GET", path="/v1/me"), timeout, max_retries
        )
        return parsing.account(response)

    async def health(
        self, *, timeout: float | None = READ_TIMEOUT, max_retries: int | None = None
    ) -> Health:
        """Check that the service is up. The API key is not sent.

        Args:
            timeout: Seconds for the whole call, waiting for the rate limit included;
                `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.

        Raises:
            FinetuningError: It is not up, or cannot be reached.
        """
        from finetuning_async._api import Call, parsing

        call = Call(method="GET", path="/health", route="health", needs_key=False)
        return parsing.health(await self._session().request(call, timeout, max_retries))

    def mark_changed(self, generation_id: str) -> None:
        """Report that a track has changed, so that the poll loop reads it soon.

        If no call waits for the track yet, the report is kept for a minute; it costs no
        request.

        Args:
            generation_id: The id of the track.
        """
        self._session().account.poller.mark_changed(generation_id)

    async def publish_changes(self) -> None:
        """Publish what `mark_changed` reported here to the account's other processes.

        It has an effect only if they share their polling: with
        ``rate_limiter="shared"``, a `finetuning_async.redis.RedisRateLimiter` or a
        `finetuning_async.postgres.PostgresRateLimiter`. Without this call the reports
        are published as soon as a call in this process waits for a track.

        Example:
            client.mark_changed("5e0c7b1a-93d4-4f26-8a71-2c6f0be4d918")
            await client.publish_changes()
        """
        await self._session().account.poller.publish_changes()

    def estimate(
        self,
        creates: int = 1,
        *,
        kind: Kind = "music",
        priority: Priority | None = None,
        share: str | None = None,
    ) -> Estimate:
        """Estimate when creates would go out and be done, if they were made now.

        It waits for nothing and sends nothing. It counts those that wait before them by
        priority and share, the rate limit, the gate of a 429, the service's queue as
        far as its length is known (`RateLimits.queue`, or learned), and how long tracks
        have taken: 70 s each until four of a kind have ended. Creates of higher
        priority that come later are not foreseen.

            await client.me()
            print(client.estimate(200, priority="low").last_completed / 60, "minutes")

        Args:
            creates: How many, at least 1.
            kind: The kind of their tracks.
            priority: Of the creates; `None` for the client's.
            share: Of the creates; `None` for the client's.

        Raises:
            InvalidRequestError: A value is out of its range.
        """
        from finetuning_async._api import check_priority, check_share, whole_number
        from finetuning_async._pacing import RANKS
        from finetuning_async._session import estimate

        count = whole_number(creates)
        if count is None or count < 1:
            allowed = "a whole number of at least 1"
            raise InvalidRequestError("creates", creates, allowed)
        session = self._session()
        settings = session.settings
        chosen = settings.priority if priority is None else check_priority(priority)
        share = settings.share if share is None else check_share(share)
        return estimate(session.account, count, kind, RANKS[chosen], share)

    def progress(self, generation_or_id: Generation | SoundEffect | str) -> Progress:
        """Say how far a track is, by how long tracks have taken; it reads nothing.

        Args:
            generation_or_id: A track, or the id of one in progress that this client
                created or waits for.

        Raises:
            InvalidRequestError: Nothing is known of the track with this id.
        """
        from finetuning_async._session import progress

        return progress(self._session().account, generation_or_id)

    def rate_limit_status(self) -> RateLimitStatus:
        """The current state of both rate budgets."""
        return self._session().account.limiter.status()
