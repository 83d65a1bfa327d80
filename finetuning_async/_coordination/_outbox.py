"""What a process has yet to report to the ledger, and what a new ledger would need.

A report stays in the outbox until the store has certainly received it, because a reply
may get lost. The ledger applies each once, by its serial.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

from finetuning_async._coordination._exchange_messages import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async._api import Route
    from finetuning_async._coordination._exchange_messages import RequestEvent


class Outbox:
    """The reports of one event loop. Times are seconds of the loop's clock.

    Args:
        timeout: As `ExchangeRequest.timeout`.
        per: Seconds of the longest period of the limits.
    """

    def __init__(self, timeout: float, per: float) -> None:
        self._timeout = timeout
        self._per = per
        self._serial = 0
        self._pending: deque[tuple[float, Report]] = deque()
        # Requests in flight and recently ended: what to report to a new ledger.
        self._in_flight: dict[str, tuple[Route, float]] = {}
        self._ended: deque[tuple[str, Route, float]] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def add(
        self,
        now: float,
        event: RequestEvent,
        request_id: str,
        budget: Route,
        **facts: object,
    ) -> None:
        """Add a report of what happens now.

        Args:
            now: Seconds.
            event: What happens.
            request_id: The id of the request.
            budget: ``creates`` or ``reads``.
            facts: Further fields of the `Report`.
        """
        report = self._new_report(event, request_id, budget, **facts)
        self._pending.append((now, report))
        self._remember(event, request_id, budget, now)
        # A store can be unavailable for days. Older reports no longer matter: the lease
        # has expired, and the service counts the request in no window any more.
        too_old = now - self._timeout - 2 * self._per
        while self._pending[0][0] < too_old:
            self._pending.popleft()

    def on_granted(self, request_id: str, budget: Route, now: float) -> None:
        """Remember a request that goes out with a permit of the ledger."""
        self._in_flight[request_id] = budget, now

    def _remember(
        self, event: RequestEvent, request_id: str, budget: Route, now: float
    ) -> None:
        if event == "sent":
            self._in_flight[request_id] = budget, now
        elif event != "refused":
            known = self._in_flight.pop(request_id, None)
            if known is not None and event != "unsent":
                self._ended.append((request_id, budget, now))
        while self._ended and self._ended[0][2] < now - 2 * self._per:
            self._ended.popleft()

    def reports(self, now: float) -> tuple[Report, ...]:
        """Return all reports that the store may not have received."""
        return tuple(attrs.evolve(r, ago=now - at) for at, r in self._pending)

    def on_received(self, reports: Sequence[Report]) -> None:
        """Remove reports that the store has received; later ones stay."""
        last = reports[-1].serial if reports else 0
        while self._pending and self._pending[0][1].serial <= last:
            self._pending.popleft()

    def add_everything_again(self) -> None:
        """Add reports of all that this process has sent lately, for a new ledger.

        The old one was lost with what it knew. Without these reports the new one would
        grant a full limit beside requests that the service still counts (P1). Reports
        that were not received yet follow under new serials, so that the order holds.
        """
        pending, self._pending = self._pending, deque()
        for request_id, budget, at in self._ended:
            report = self._new_report("answered", request_id, budget)
            self._pending.append((at, report))
        for request_id, (budget, at) in self._in_flight.items():
            self._pending.append((at, self._new_report("sent", request_id, budget)))
        for at, report in pending:
            renumbered = attrs.evolve(report, serial=self._next_serial())
            self._pending.append((at, renumbered))

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

    def _new_report(
        self, event: RequestEvent, request_id: str, budget: Route, **facts: object
    ) -> Report:
        return Report(
            serial=self._next_serial(),
            id=request_id,
            budget=budget,
            event=event,
            **facts,  # type: ignore[arg-type]  # named by the callers
        )
