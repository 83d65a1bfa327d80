"""What each method and path of the control API does; nothing here awaits.

A handler takes the emulator, its service and the call, and returns the response's data
and status; rows of the data may be an iterator, which is used at once. It raises
`ControlError` for what cannot be carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from finetuning_async.emulator import _control, _fields
from finetuning_async.emulator._admin import _views
from finetuning_async.emulator._control import ControlError
from finetuning_async.emulator._settings import EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from finetuning_async.emulator._service import Service

MOST_ROWS = 1000
SOME_ROWS = 100
_TRACK_FILTERS = ("status", "kind", "api_key")


class Host(Protocol):
    """The side of an `Emulator` that the control API needs."""

    @property
    def waiting(self) -> Mapping[str, Any]:
        """The settings that wait for a reset."""

    def configure(self, **settings: Any) -> tuple[str, ...]:
        """Change settings."""

    def advance(self, seconds: float) -> None:
        """Put the clock forward."""

    def reset(self, *, seed: int | None = None) -> None:
        """Start anew."""


@attrs.frozen
class Call:
    """A request of the control API: parameters of the path, the query, the body."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any = None


Result = tuple[Any, int]


def get_state(_host: Host, service: Service, _call: Call) -> Result:
    """What there is, in numbers."""
    service.settle(service.clock.now())
    return _views.state(service), 200


def reset(host: Host, _service: Service, call: Call) -> Result:
    """Start anew."""
    body = {} if call.body is None else call.body
    if not isinstance(body, dict) or not set(body) <= {"seed"}:
        raise ControlError(f"the body must be empty or hold a seed, got {body!r}")
    seed = body.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise ControlError(f"seed must be a whole number, got {seed!r}")
    host.reset(seed=seed)
    return {"reset": True}, 200


def advance(host: Host, service: Service, call: Call) -> Result:
    """Put the clock forward."""
    body = _control.read_object(call.body, ("seconds",))
    seconds: Any = body.get("seconds")
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds <= 10 * 366 * 86400:
        message = f"seconds must be a number from 0 to ten years, got {seconds!r}"
        raise ControlError(message)
    host.advance(float(seconds))
    now = service.wall.iso_millis(service.clock.now())
    return {"now": now, "advanced": service.clock.ahead}, 200


def get_settings(host: Host, service: Service, _call: Call) -> Result:
    """Every setting."""
    return _views.settings(service.settings, host.waiting), 200


def patch_settings(host: Host, service: Service, call: Call) -> Result:
    """Change settings; those that wait for a reset are in ``after_reset``."""
    body = _control.read_object(call.body)
    try:
        host.configure(**_fields.read(EmulatorSettings, body))
    except ValueError as error:
        raise ControlError(_fields.message_of(error)) from None
    return get_settings(host, service, call)


# Accounts.


def get_accounts(_host: Host, service: Service, _call: Call) -> Result:
    """Every account."""
    service.settle(service.clock.now())
    found = _views.accounts_of(service)
    return {"accounts": [_views.account(service, entry) for entry in found]}, 200


def post_accounts(_host: Host, service: Service, call: Call) -> Result:
    """Add an account."""
    body = {} if call.body is None else call.body
    return _views.account(service, _control.add_account(service, body)), 201


def patch_account(_host: Host, service: Service, call: Call) -> Result:
    """Change an account."""
    found = _control.change_account(service, call.path["key"], call.body)
    return _views.account(service, found), 200


# Tracks and playlists.


def get_tracks(_host: Host, service: Service, call: Call) -> Result:
    """Tracks and sound effects, newest first."""
    service.settle(service.clock.now())
    query = _query(call, ("limit", "offset", *_TRACK_FILTERS))
    limit, offset = _number(query, "limit", SOME_ROWS), _number(query, "offset", 0)
    if limit > MOST_ROWS:
        raise ControlError(f"limit must be at most {MOST_ROWS}, got {limit}")
    now = service.clock.now()
    found = [
        job
        for job in reversed(service.jobs.values())
        if query.get("status") in (None, job.status_at(now))
        and query.get("kind") in (None, job.kind)
        and query.get("api_key") in (None, job.owner.api_key)
    ]
    rows = (_views.track(service, job) for job in found[offset : offset + limit])
    return {"tracks": rows, "total": len(found)}, 200


def post_tracks(_host: Host, service: Service, call: Call) -> Result:
    """Add a ready-made track, or a list of them."""
    if not isinstance(call.body, list):
        return _views.track(service, _control.add_track(service, call.body)), 201
    made = [_control.add_track(service, body) for body in call.body]
    return {"tracks": (_views.track(service, job) for job in made)}, 201


def get_track(_host: Host, service: Service, call: Call) -> Result:
    """One track; the look does not count as a read."""
    job = _control.find_track(service, call.path["id"])
    return _views.track(service, job), 200


def patch_track(_host: Host, service: Service, call: Call) -> Result:
    """Decide anew how a track in progress ends."""
    job = _control.find_track(service, call.path["id"])
    return _views.track(service, _control.change_track(service, job, call.body)), 200


def get_playlists(_host: Host, service: Service, _call: Call) -> Result:
    """Every playlist, of all accounts."""
    found = service.playlists.values()
    return {"playlists": [_views.playlist(service, entry) for entry in found]}, 200


def post_playlists(_host: Host, service: Service, call: Call) -> Result:
    """Add a playlist of existing tracks."""
    entry = _control.add_playlist(service, call.body)
    return _views.playlist(service, entry), 201


# Faults.


def get_faults(_host: Host, service: Service, _call: Call) -> Result:
    """Every fault, spent ones too."""
    found = service.faults.numbered.items()
    return {"faults": [_views.fault(number, fault) for number, fault in found]}, 200


def post_faults(_host: Host, service: Service, call: Call) -> Result:
    """Add a fault."""
    number = _control.add_fault(service, call.body)
    return _views.fault(number, service.faults.numbered[number]), 201


def delete_faults(_host: Host, service: Service, _call: Call) -> Result:
    """Remove all faults."""
    removed = len(service.faults.numbered)
    service.faults.clear()
    return {"removed": removed}, 200


def delete_fault(_host: Host, service: Service, call: Call) -> Result:
    """Remove one fault."""
    number = call.path["number"]
    if not number.isdecimal() or not service.faults.remove(int(number)):
        raise ControlError(f"no fault has the number {number!r}", 404)
    return {"removed": 1}, 200


# Logs.


def get_requests(_host: Host, service: Service, call: Call) -> Result:
    """The request log; requests of the control API are not in it."""
    names = ("method", "path", "status", "code", "counted", "delivered", "fault")

    def view(number: int) -> dict[str, Any]:
        return _views.request(service, service.requests[number - 1])

    return {"requests": _filtered(call, names, len(service.requests), view)}, 200


def get_ledger(_host: Host, service: Service, call: Call) -> Result:
    """Every credit charged or refunded."""
    service.settle(service.clock.now())
    names = ("track", "request", "amount")

    def view(number: int) -> dict[str, Any]:
        return _views.ledger_entry(service, number, service.ledger[number - 1])

    return {"ledger": _filtered(call, names, len(service.ledger), view)}, 200


def get_webhooks(_host: Host, service: Service, call: Call) -> Result:
    """Every delivery."""

    def view(number: int) -> dict[str, Any]:
        return _views.webhook(service, number, service.webhooks[number - 1])

    rows = _filtered(call, ("url", "status"), len(service.webhooks), view)
    return {"webhooks": rows}, 200


def _filtered(
    call: Call,
    names: Sequence[str],
    count: int,
    view: Callable[[int], dict[str, Any]],
) -> list[dict[str, Any]]:
    """The rows after number ``since`` that the query asks for; the last ``limit``.

    Rows are numbered from 1 to ``count``. They are made from the end, as far as needed:
    the page asks for the last few of a log that may be long, every second.
    """
    query = _query(call, ("since", "limit", *names))
    since, limit = _number(query, "since", 0), _number(query, "limit", 0) or count
    wanted = {name: query[name] for name in names if name in query}
    found: list[dict[str, Any]] = []
    for number in range(count, since, -1):
        if len(found) >= limit:
            break
        row = view(number)
        if all(_matches(row[name], value) for name, value in wanted.items()):
            found.append(row)
    return found[::-1]


def _matches(value: Any, wanted: str) -> bool:
    """Texts match as patterns; empty is null; the rest as JSON writes it."""
    if isinstance(value, bool):
        return wanted == ("true" if value else "false")
    return fnmatchcase("" if value is None else str(value), wanted)


def _query(call: Call, names: Sequence[str]) -> Mapping[str, str]:
    unknown = [name for name in call.query if name not in names]
    if unknown:
        message = f"the query's {unknown[0]!r} is unknown; known are {', '.join(names)}"
        raise ControlError(message)
    return call.query


def _number(query: Mapping[str, str], name: str, absent: int) -> int:
    raw = query.get(name, "")
    if raw == "":
        return absent
    if not raw.isascii() or not raw.isdigit() or len(raw) > 12:
        raise ControlError(f"{name} must be a whole number from 0 up, got {raw!r}")
    return int(raw)
