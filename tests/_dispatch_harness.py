"""The dispatcher of a poll loop without the loop: a test says what was read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio

from finetuning_async import NotFoundError
from finetuning_async._api._messages import Response
from finetuning_async._http._server_clock import ServerClock
from finetuning_async._pacing._in_flight import InFlight, TrackInProgress
from finetuning_async._polling._dispatch import StateDispatcher
from finetuning_async._polling._listing_health import ListingHealth, ListKind
from finetuning_async._polling._read_planner import Read
from finetuning_async._polling._schedule import DurationEstimator
from finetuning_async._polling._waiters import Watcher
from finetuning_async._polling._watch_list import Watched, WatchList

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async import Event
    from finetuning_async._types import Family, Kind

EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
INTERVAL = 1.5
WHOLE: ListKind = ("generations", False)
COMPLETED: ListKind = ("generations", True)


class DispatchHarness:
    """The dispatcher of a poll loop without the loop: a test says what was read."""

    def __init__(self) -> None:
        self.start = anyio.current_time()
        self.inflight = InFlight()
        self.estimator = DurationEstimator()
        self.watch_list = WatchList(self.inflight, self.estimator, scale=1.0)
        self.listings = ListingHealth(scale=1.0)
        self.clock = ServerClock()
        self.dispatcher = StateDispatcher(
            self.watch_list,
            self.listings,
            self.inflight,
            self.estimator,
            self.clock,
            scale=1.0,
            interval=INTERVAL,
        )

    def set_clock(self) -> None:
        """Let the service's clock show `EPOCH` at the start."""
        now = anyio.current_time()
        date = EPOCH + timedelta(seconds=now - self.start)
        self.clock.observe(date, sent_at=now, received_at=now)

    def accept(self, track_id: str, kind: Kind = "music") -> None:
        now = anyio.current_time()
        entry = TrackInProgress(kind=kind, accepted_at=now, duration=None)
        self.inflight.tracks[track_id] = entry

    def watch(
        self, track_id: str, on_event: Callable[[Event], None] | None = None
    ) -> tuple[Watched, Watcher]:
        pipeline = cast("Any", SimpleNamespace(hook=on_event))
        watcher = Watcher(pipeline, track_id, None)
        return self.watch_list.add(watcher, "music", anyio.current_time()), watcher

    def page(
        self,
        tracks: list[Watched],
        *rows: dict[str, Any],
        offset: int = 0,
        is_filtered: bool = False,
        has_more: bool = False,
        family: Family = "generations",
    ) -> None:
        name = "generations" if family == "generations" else "soundEffects"
        data = {name: rows, "hasMore": has_more, "nextOffset": offset + 99}
        read = Read(family, tracks, offset, is_filtered=is_filtered)
        self.dispatcher.dispatch(read, reply(data))

    def refused(self, read: Read, error: Exception) -> None:
        self.dispatcher.read_refused(read, error, anyio.current_time())

    def failed(self, read: Read, error: Exception) -> None:
        self.dispatcher.read_failed(read, error, anyio.current_time())

    def get(self, track: Watched, row: dict[str, Any]) -> None:
        self.dispatcher.dispatch(Read(track.family, [track]), reply(row))


def reply(data: Any) -> Response:
    now = anyio.current_time()
    body = json.dumps({"data": data}).encode()
    return Response(
        status=200, headers={}, content=body, sent_at=now - 0.1, received_at=now
    )


def row(track_id: str, status: str = "processing", **more: Any) -> dict[str, Any]:
    done = "https://media.finetuning.ai/x.mp3" if status == "completed" else None
    return {"id": track_id, "status": status, "audioUrl": done, **more}


def at(seconds: float) -> str:
    return (EPOCH + timedelta(seconds=seconds)).isoformat()


def not_found() -> NotFoundError:
    return NotFoundError("nothing there", status_code=404, code="NOT_FOUND")
