"""What people do to the service from outside: ready-made tracks, other ends, a seed.

Like the service, nothing here awaits. Bodies are JSON objects, of the control API or
of a seed file; what is wrong with one raises `ControlError`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from finetuning_async.emulator import _fields, _generations, _validation
from finetuning_async.emulator._errors import ApiError
from finetuning_async.emulator._faults import AT_CONNECT, Fault
from finetuning_async.emulator._keys import check_key
from finetuning_async.emulator._records import Account, Job, Playlist
from finetuning_async.emulator._settings import EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from finetuning_async.emulator._records import Kind
    from finetuning_async.emulator._service import Service

KINDS: tuple[Kind, ...] = ("music", "instrumental", "effect")
ENDS = ("completed", "failed", "stuck")
SEED_NAMES = ("accounts", "tracks", "playlists", "faults")
_MUSIC = ("lyrics", "duration", "bpm", "language", "key", "scale", "timesignature")
_TRACK = ("prompt", "kind", "id", "status", "after_reads", "public", "webhook")
_ACCOUNT = ("tier", "credits", "pack_credits", "used")


@attrs.define
class ControlError(ValueError):
    """A body that cannot be carried out, and the HTTP status that says so."""

    message: str
    status: int = 400

    def __str__(self) -> str:
        return self.message


# Accounts.


def add_account(service: Service, body: Any) -> Account:
    """Add an account; the key is made up if the body has none.

    Args:
        service: The service.
        body: ``api_key``, ``tier``, ``credits``, ``pack_credits``, ``used``.
    """
    fields = read_object(body, ("api_key", *_ACCOUNT))
    key = _new_key(service, fields.get("api_key"))
    changes = _account_changes(fields)
    account = service.add_account(key, "pro", 2000, 0)
    _apply(service, account, changes)
    return account


def change_account(service: Service, key: str, body: Any) -> Account:
    """Change an account, or add a key to it with ``add_key``."""
    account = find_account(service, key)
    fields = read_object(body, ("add_key", *_ACCOUNT))
    changes = _account_changes(fields)
    if "add_key" in fields:
        service.add_key(_new_key(service, fields["add_key"]), account)
    _apply(service, account, changes)
    return account


def find_account(service: Service, key: Any) -> Account:
    """The account of a key; the first one for ``None``."""
    if key is None:
        return service.account
    account = service.accounts.get(key) if isinstance(key, str) else None
    if account is None:
        raise ControlError(f"no account has the api_key {key!r}", 404)
    return account


def _new_key(service: Service, key: Any) -> str:
    if key is None:
        return f"ft_live_{service.new_id('account').replace('-', '')}"
    if not isinstance(key, str):
        raise ControlError(f"api_key must be a string, got {key!r}")
    if key in service.accounts:
        raise ControlError("api_key must be a new one, got one that is known", 409)
    try:
        check_key(key)
    except ValueError as error:
        raise ControlError(str(error)) from None
    return key


def _account_changes(fields: Mapping[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name in _ACCOUNT:
        if name not in fields:
            continue
        value = fields[name]
        if name == "tier":
            changes[name] = _text("tier", value)
        else:
            changes[name] = _whole(name, value)
    return changes


def _apply(service: Service, account: Account, changes: Mapping[str, Any]) -> None:
    # A change of the month that was not noticed yet must not undo this one.
    service.roll_month(account, service.clock.now())
    names = {"credits": "monthly", "pack_credits": "pack"}
    for name, value in changes.items():
        setattr(account, names.get(name, name), value)


# Tracks.


def add_track(service: Service, body: Any) -> Job:
    """Add a ready-made track or sound effect, which costs nothing.

    Args:
        service: The service.
        body: ``prompt``; the parameters of a create; ``kind``; ``status``
            (``completed`` by default, ``processing``, ``failed`` or ``stuck``), or
            ``after_reads``; ``id``, ``public``, ``webhook``, and ``api_key`` of the
            owner.
    """
    fields = read_object(body, (*_TRACK, *_MUSIC, "seed", "api_key"))
    owner = find_account(service, fields.get("api_key"))
    kind: Kind = _one_of("kind", fields.get("kind", "music"), KINDS)
    status = _one_of("status", fields.get("status", "completed"), (*ENDS, "processing"))
    public = _flag("public", fields.get("public", False))
    reads = _reads(fields)
    prompt, parameters, webhook = _checked(service, fields, kind)
    now = service.clock.now()
    job = service.new_job(
        owner, kind, prompt, parameters, webhook, now, service.settings.media_url
    )
    job.id, job.is_public = _new_id(service, fields.get("id"), job.id), public
    if reads is not None:
        service.end_after_reads(job, reads, fails=status == "failed")
    elif status != "processing":
        _end(service, job, status)
    service.keep(job)  # now: until here the end that was drawn has been noted nowhere
    service.settle(service.clock.now())
    return job


def change_track(service: Service, job: Job, body: Any) -> Job:
    """Decide how a track in progress ends, or whether others see it.

    Args:
        service: The service.
        job: The track.
        body: ``status``: ``completed``, ``failed`` or ``stuck``, at once;
            ``after_reads``: after as many gets or lists that show it in progress, as
            ``completed`` or as ``status`` says; ``public``.
    """
    fields = read_object(body, ("status", "after_reads", "public"))
    reads = _reads(fields)
    status = fields.get("status", "completed" if reads is not None else None)
    public = _flag("public", fields.get("public", job.is_public))
    if status is not None:
        _one_of("status", status, ENDS)
        _decide_end(service, job, status, reads)
    job.is_public = public
    return job


def find_track(service: Service, track_id: str) -> Job:
    """The track or sound effect of an id."""
    job = service.jobs.get(track_id)
    if job is None:
        raise ControlError(f"no track has the id {track_id!r}", 404)
    return job


def _decide_end(service: Service, job: Job, status: str, reads: int | None) -> None:
    now = service.clock.now()
    was = job.status_at(now)
    if now >= job.ends_at:
        if was == status and reads is None:
            return
        message = f"status is {was} and stays so: only a track in progress can change"
        raise ControlError(message, 409)
    if reads is None:
        _end(service, job, status)
    elif status == "stuck":
        raise ControlError("after_reads must be with completed or failed, got stuck")
    else:
        service.end_after_reads(job, reads, fails=status == "failed")
    service.settle(service.clock.now())


def _end(service: Service, job: Job, status: str) -> None:
    at = float("inf") if status == "stuck" else service.clock.now()
    service.end(job, at, fails=status == "failed")


def _reads(fields: Mapping[str, Any]) -> int | None:
    if fields.get("after_reads") is None:
        return None
    return _whole("after_reads", fields["after_reads"], least=1)


def _new_id(service: Service, wanted: Any, made_up: str) -> str:
    if wanted is None:
        return made_up
    if not isinstance(wanted, str) or not re.fullmatch(r"[\w.~-]{1,100}", wanted):
        message = f"id must be 1 to 100 letters, digits or -_.~, got {wanted!r}"
        raise ControlError(message)
    if wanted in service.jobs or wanted in service.playlists:
        raise ControlError(f"the id {wanted!r} is taken", 409)
    return wanted


def _checked(
    service: Service, fields: Mapping[str, Any], kind: Kind
) -> tuple[str, dict[str, Any], str | None]:
    """Prompt, parameters and webhook, checked as those of a create are."""
    try:
        prompt = _validation.required_text(fields, "prompt", 700)
        parameters = _generations.parameters_of(service, fields, kind)
        return prompt, parameters, _generations.webhook_of(service, fields)
    except ApiError as error:
        raise ControlError(error.message) from None


# Playlists.


def add_playlist(service: Service, body: Any) -> Playlist:
    """Add a playlist of existing tracks.

    Args:
        service: The service.
        body: ``name``; ``tracks``, a list of ids; ``description``, ``public``, ``id``,
            and ``api_key`` of the owner.
    """
    names = ("name", "tracks", "description", "public", "id", "api_key")
    fields = read_object(body, names)
    name = _text("name", fields.get("name"))
    description = fields.get("description")
    if description is not None:
        _text("description", description)
    tracks = fields.get("tracks", [])
    if not isinstance(tracks, list):
        raise ControlError(f"tracks must be a list of ids, got {tracks!r}")
    now = service.clock.now()
    entry = Playlist(
        id=_new_id(service, fields.get("id"), service.new_id("playlist")),
        owner=find_account(service, fields.get("api_key")),
        name=name,
        description=description,
        is_public=_flag("public", fields.get("public", False)),
        created_at=now,
        updated_at=now,
        tracks=[find_track(service, str(track_id)) for track_id in tracks],
    )
    service.playlists[entry.id] = entry
    return entry


# Faults.


def add_fault(service: Service, body: Any) -> int:
    """Add a fault; returns its number.

    Args:
        service: The service.
        body: The attributes of `Fault`.
    """
    fault = read_fault(body)
    return service.faults.add(fault)


def read_fault(body: Any) -> Fault:
    """A fault from a JSON object."""
    fields = read_object(body, tuple(_fields.hints_of(Fault)))
    if "action" not in fields:
        raise ControlError("action is required")
    if fields["action"] in AT_CONNECT:
        message = (
            f"action must be one that a port can show, got {fields['action']!r};"
            " only the transport of the same process can refuse a connection"
        )
        raise ControlError(message)
    try:
        return Fault(**_fields.read(Fault, fields))
    except ValueError as error:
        raise ControlError(_fields.message_of(error)) from None


# A seed: what is there at the start.


def read_settings(body: Any) -> dict[str, Any]:
    """Settings from a JSON object; no values for ``None``."""
    fields = read_object({} if body is None else body)
    try:
        return _fields.read(EmulatorSettings, fields)
    except ValueError as error:
        raise ControlError(str(error)) from None


def load(service: Service, seed: Any) -> None:
    """Add the accounts, tracks, playlists and faults of a seed, in this order.

    An account whose key exists already is changed instead.
    """
    whole = read_object(seed, SEED_NAMES)
    adders: dict[str, Callable[[Service, Any], Any]] = {
        "accounts": _add_or_change,
        "tracks": add_track,
        "playlists": add_playlist,
        "faults": add_fault,
    }
    for name, add in adders.items():
        entries = whole.get(name) or []
        if not isinstance(entries, list):
            raise ControlError(f"{name} must be a list, got {entries!r}")
        for index, entry in enumerate(entries):
            try:
                add(service, entry)
            except ControlError as error:
                message = f"{name}[{index}]: {error.message}"
                raise ControlError(message, error.status) from None


def _add_or_change(service: Service, body: Any) -> Account:
    fields = read_object(body, ("api_key", *_ACCOUNT))
    key = fields.get("api_key")
    if not isinstance(key, str) or key not in service.accounts:
        return add_account(service, fields)
    return change_account(
        service, key, {k: v for k, v in fields.items() if k != "api_key"}
    )


# Values of a body.


def read_object(body: Any, names: Sequence[str] | None = None) -> Mapping[str, Any]:
    """The body, an object with members of these names, or of any."""
    if not isinstance(body, Mapping):
        raise ControlError(f"the body must be a JSON object, got {body!r}")
    for name in body:
        if names is not None and name not in names:
            message = f"{name!r} is unknown; known are {', '.join(names)}"
            raise ControlError(message)
    return body


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    if value not in allowed:
        message = f"{name} must be one of {', '.join(allowed)}, got {value!r}"
        raise ControlError(message)
    return value


def _whole(name: str, value: Any, *, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        message = f"{name} must be a whole number from {least} up, got {value!r}"
        raise ControlError(message)
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ControlError(f"{name} must be true or false, got {value!r}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ControlError(f"{name} must be a string that is not blank, got {value!r}")
    return value
