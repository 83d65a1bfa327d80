"""What the engine needs of a client's session, and the reads that it makes through it.

The session is in a wing above this one, so it is known by a protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import attrs

from finetuning_async._api import Call, parsing
from finetuning_async._constants import READ_TIMEOUT
from finetuning_async._submission import PAGE_SIZE
from finetuning_async.journal._matching import SETTLE

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from finetuning_async._api import Account, AnyRequest, Generation, Page, Response
    from finetuning_async._pacing import InFlight
    from finetuning_async._submission import Submission

OnDoubt: TypeAlias = Literal["hold", "resubmit"]


class ServiceAccount(Protocol):
    """What a session knows of its account."""

    @property
    def inflight(self) -> InFlight:
        """The register of the account's tracks."""

    def service_time(self) -> float | None:
        """The service's time in seconds since 1970; `None` if not known."""


class ServiceSettings(Protocol):
    """A client's options."""

    @property
    def base_url(self) -> str:
        """The service."""


class Service(Protocol):
    """A client's session; see `Session`."""

    @property
    def account(self) -> ServiceAccount:
        """Its account."""

    @property
    def settings(self) -> ServiceSettings:
        """Its client's options."""

    async def request(
        self, call: Call, timeout: float | None, max_retries: int | None = None
    ) -> Response:
        """Make a request that may be repeated."""

    def new_submission(
        self, request: AnyRequest, *, validate: bool, **options: Any
    ) -> Submission:
        """Prepare a create; nothing is sent."""

    def submit(self, submission: Submission, timeout: float | None) -> Awaitable[Any]:
        """Send a create."""

    def wait(self, track: Any, **options: Any) -> Awaitable[Any]:
        """Wait for a track's final state."""

    def observe(self, track: Any) -> None:
        """Take note of a track's state."""


@attrs.frozen(kw_only=True)
class EngineOptions:
    """Options of an engine.

    Attributes:
        on_unknown: What to do with a create that is not listed: ``hold`` it if it is
            not proved absent; with ``resubmit`` the credits may be missing from the
            proof.
        wait_timeout: Seconds to wait for a track at a time.
        settle: Seconds after which a create that was given up can no longer be
            accepted.
        look_every: Seconds between listings while a create is in doubt.
    """

    on_unknown: OnDoubt = "hold"
    wait_timeout: float = 3600.0
    settle: float = SETTLE
    look_every: float = 30.0


async def read_account(service: Service) -> Account:
    """The account, with its remaining credits.

    Raises:
        FinetuningError: It could not be read.
    """
    call = Call(method="GET", path="/v1/me")
    return parsing.account(await service.request(call, READ_TIMEOUT))


async def read_page(service: Service, offset: int) -> Page[Generation]:
    """A page of the account's tracks, newest first.

    Raises:
        FinetuningError: It could not be read.
    """
    query: dict[str, str | int] = {"limit": PAGE_SIZE, "offset": offset}
    call = Call(method="GET", path="/v1/generations", query=query)
    page = parsing.generation_page(
        await service.request(call, READ_TIMEOUT), offset=offset
    )
    service.account.inflight.mark_listed(track.id for track in page.items)
    for track in page.items:
        service.observe(track)
    return page
