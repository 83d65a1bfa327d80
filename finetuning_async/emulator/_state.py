"""The state of a service as rows of text, to be kept through restarts.

A row is (table, id) and a JSON object. Times are wall time in seconds since 1970: the
loop's clock of the next run begins elsewhere. Rate windows and the logs of requests
and deliveries are not kept: they begin anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from finetuning_async.emulator import _fields
from finetuning_async.emulator._clock import WallClock
from finetuning_async.emulator._faults import Fault
from finetuning_async.emulator._records import Account, Job, LedgerEntry, Playlist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from finetuning_async.emulator._service import Service

    Table = Callable[[str], Iterator[tuple[str, str]]]

SMALL = ("account", "key", "playlist", "fault")
Row = tuple[str, str, str]
_ACCOUNT = (
    *("api_key", "tier", "monthly", "pack", "email", "name", "used"),
    *("month", "effects_on", "effects_today"),
)
_JOB = (
    *("kind", "prompt", "parameters", "webhook", "webhook_sent", "fails", "media"),
    *("paid_from", "reads_left", "is_public", "plays", "downloads", "settled"),
)
_JOB_TIMES = ("created_at", "starts_at", "ends_at", "listed_from")
_JOB_DEFAULTS = {field.name: field.default for field in attrs.fields(Job)}
_PLAYLIST = ["name", "description", "is_public"]
_PLAYLIST_TIMES = ["created_at", "updated_at"]


@attrs.frozen
class Saved:
    """What an earlier run left. It is read when it is used: it may be large.

    Attributes:
        table: The ids and texts of a table, in the order in which they were first kept.
        clock: The row of the table ``clock``.
    """

    table: Table
    clock: Mapping[str, Any]

    @property
    def run(self) -> int:
        """The number of this run, so that it does not make the ids of the last one."""
        return int(self.clock["run"]) + 1

    def rows(self, table: str) -> Iterator[tuple[str, Any]]:
        """The ids and objects of a table."""
        return ((key, json.loads(text)) for key, text in self.table(table))


class Recorder:
    """Says what has changed since it was last asked."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._kept: dict[tuple[str, str], str] = {}
        self._jobs: set[str] = set()
        self._ledger = 0

    def adopt(self, service: Service, found: Saved) -> None:
        """Go on from what an earlier run kept, of which ``service`` was made just now.

        Jobs and ledger are not written again: there may be ten thousand of them.
        """
        self._service = service
        self._kept = {
            (table, key): text for table in SMALL for key, text in found.table(table)
        }
        self._jobs, self._ledger = set(service.jobs), len(service.ledger)
        for job in service.jobs.values():
            job.changed = False

    def changes(
        self, service: Service, run: int, real: float
    ) -> tuple[bool, list[Row], list[tuple[str, str]]]:
        """What to write.

        Args:
            service: The service; another one than last time after a reset.
            run: The number of this run.
            real: The real time, in seconds since 1970.

        Returns:
            Whether to delete all before, the new or changed rows, and the rows that are
            gone.
        """
        anew = service is not self._service
        if anew:
            self._service, self._kept = service, {}
            self._jobs, self._ledger = set(), 0
        small = {(table, key): text for table, key, text in _small_rows(service)}
        rows = [
            (*key, text) for key, text in small.items() if self._kept.get(key) != text
        ]
        gone = [key for key in self._kept if key not in small]
        self._kept = small
        rows += self._changed_jobs(service)
        gone += [("job", job_id) for job_id in self._jobs - service.jobs.keys()]
        self._jobs = set(service.jobs)
        rows += self._new_entries(service)
        now = service.wall.at(service.clock.now()).timestamp()
        clock = {"real": real, "emulated": now, "run": run}
        return anew, [("clock", "", json.dumps(clock)), *rows], gone

    def _changed_jobs(self, service: Service) -> Iterator[Row]:
        for job in service.jobs.values():
            if job.changed or job.id not in self._jobs:
                job.changed = False
                yield ("job", job.id, json.dumps(_job(service, job)))

    def _new_entries(self, service: Service) -> Iterator[Row]:
        for number, entry in enumerate(service.ledger[self._ledger :], self._ledger):
            body = attrs.asdict(entry) | {"at": _stamp(service, entry.at)}
            yield ("ledger", str(number), json.dumps(body))
        self._ledger = len(service.ledger)


def saved(table: Table) -> Saved | None:
    """What an earlier run left; ``None`` if there was none."""
    for _, clock in table("clock"):
        return Saved(table, json.loads(clock))
    return None


def restore(service: Service, found: Saved, real: float) -> None:
    """Fill a service that has just begun with what an earlier run left.

    Time has gone on meanwhile: a track that was in progress may have ended.
    """
    clock = found.clock
    start = datetime.fromtimestamp(clock["emulated"] + real - clock["real"], UTC)
    service.wall = WallClock(start, service.clock.now())
    accounts = {
        key: _read_account(service, key, body) for key, body in found.rows("account")
    }
    service.accounts.clear()
    for key, body in found.rows("key"):
        service.accounts[key] = accounts[body["account"]]
    service.account = next(iter(accounts.values()))
    for key, body in found.rows("job"):
        _restore_job(service, accounts[body["owner"]], key, body)
    for key, body in found.rows("playlist"):
        service.playlists[key] = _read_playlist(service, accounts, key, body)
    for _, body in found.rows("ledger"):
        at = _moment(service, body["at"])
        service.ledger.append(LedgerEntry(**{**body, "at": at}))
    for _, body in found.rows("fault"):
        fault = Fault(**_fields.read(Fault, body["fault"]))
        fault.hits = body["hits"]
        service.faults.add(fault)


def _small_rows(service: Service) -> Iterator[Row]:
    """Rows of all but jobs and ledger: few, so they are compared as text."""
    seen: set[str] = set()
    for key, account in service.accounts.items():
        if account.id not in seen:
            seen.add(account.id)
            yield ("account", account.id, json.dumps(_picked(account, _ACCOUNT)))
        yield ("key", key, json.dumps({"account": account.id}))
    for entry in service.playlists.values():
        yield ("playlist", entry.id, json.dumps(_playlist(service, entry)))
    for number, fault in service.faults.numbered.items():
        body = {"fault": _fields.write(fault), "hits": fault.hits}
        yield ("fault", str(number), json.dumps(body))


def _picked(record: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _times(service: Service, record: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: _stamp(service, getattr(record, name)) for name in names}


def _job(service: Service, job: Job) -> dict[str, Any]:
    """A job without what is as it is for most: there may be ten thousand of them."""
    values = [name for name in _JOB if getattr(job, name) != _JOB_DEFAULTS[name]]
    times = [name for name in _JOB_TIMES if getattr(job, name) != _JOB_DEFAULTS[name]]
    body = _picked(job, values) | _times(service, job, times)
    return body | {"owner": job.owner.id}


def _playlist(service: Service, entry: Playlist) -> dict[str, Any]:
    body = _picked(entry, _PLAYLIST) | _times(service, entry, _PLAYLIST_TIMES)
    tracks = [job.id for job in entry.tracks]
    return body | {"owner": entry.owner.id, "tracks": tracks}


def _read_account(service: Service, key: str, body: Mapping[str, Any]) -> Account:
    dates = {name: tuple(body[name]) for name in ("month", "effects_on")}
    return Account(id=key, windows=service.new_windows(), **{**body, **dates})


def _restore_job(
    service: Service, owner: Account, key: str, body: Mapping[str, Any]
) -> None:
    values: dict[str, Any] = {name: body[name] for name in _JOB if name in body}
    times = {name: body[name] for name in _JOB_TIMES if name in body}
    values |= {name: _moment(service, stamp) for name, stamp in times.items()}
    job = Job(id=key, owner=owner, **values)
    settled, job.settled = job.settled, False
    service.keep(job)
    if settled:
        owner.in_progress -= 1
        job.settled = True


def _read_playlist(
    service: Service,
    accounts: Mapping[str, Account],
    key: str,
    body: Mapping[str, Any],
) -> Playlist:
    values: dict[str, Any] = {name: body[name] for name in _PLAYLIST}
    values |= {name: _moment(service, body[name]) for name in _PLAYLIST_TIMES}
    tracks = [service.jobs[track] for track in body["tracks"] if track in service.jobs]
    owner = accounts[body["owner"]]
    return Playlist(id=key, owner=owner, tracks=tracks, **values)


def _stamp(service: Service, moment: float) -> float | str:
    """Wall time of a moment of the emulator's clock; JSON has no infinity."""
    if math.isinf(moment):
        return "never" if moment > 0 else "always"
    return service.wall.at(moment).timestamp()


def _moment(service: Service, stamp: Any) -> float:
    if isinstance(stamp, str):
        return math.inf if stamp == "never" else -math.inf
    seconds: float = stamp - service.wall.start.timestamp()
    return service.wall.zero + seconds
