"""A stored ledger can be read by every release that has its `VERSION`.

`stored_limits.json` is a ledger as an earlier process wrote it, with a distinct value
in each field. A change to how it is read or written needs a new `VERSION`.
"""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from finetuning_async._coordination._exchange import apply_exchange
from finetuning_async._coordination._exchange_messages import (
    ExchangeRequest,
    PermitRequest,
)
from finetuning_async._coordination._shared_ledger import VERSION, SharedLedger
from finetuning_async._pacing._limits import RateLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

STORED = Path(__file__).with_name("stored_limits.json").read_text(encoding="utf-8")
NOW = 1003.0


def read(text: str) -> SharedLedger:
    return SharedLedger.from_state(json.loads(text), RateLimits(), random.Random(1))


def names_in(state: Any) -> Iterator[str]:
    if isinstance(state, dict):
        for name, each in state.items():
            yield name
            yield from names_in(each)
    elif isinstance(state, list):
        for each in state:
            yield from names_in(each)


def test_a_stored_ledger_is_read_and_written_unchanged() -> None:
    assert json.loads(STORED)["version"] == VERSION
    assert read(STORED).to_state() == json.loads(STORED)


def test_every_field_is_read() -> None:
    known = json.loads(STORED)
    for name in set(names_in(known)) - {"a", "b", "a1", "r1"}:
        with pytest.raises(KeyError):
            read(STORED.replace(f'"{name}":', '"another":'))


def test_a_stored_ledger_decides_what_is_granted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    request = ExchangeRequest(
        process="b",
        number=10,
        limits=RateLimits(),
        timeout=60.0,
        epoch="dcf4bb99f4bea973",
        permit_requests=(
            PermitRequest(id="b1", budget="creates"),
            PermitRequest(id="r1", budget="reads"),
        ),
    )
    text, reply = apply_exchange(STORED, request, now=NOW, rng=random.Random(1))
    assert reply.granted == {"r1"}, "it was granted while its process was away"
    creates = reply.snapshots["creates"].status
    assert (creates.limit, creates.service_remaining, creates.waiting) == (9, 5, 2)
    assert creates.closed_for == 0.5
    assert json.loads(text)["members"]["b"]["number"] == 10
    assert not caplog.records


def test_an_unknown_version_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    later = STORED.replace(f'"version": {VERSION}', '"version": 999')
    request = ExchangeRequest(process="b", number=1, limits=RateLimits(), timeout=60.0)
    text, _ = apply_exchange(later, request, now=NOW, rng=random.Random(1))
    assert json.loads(text)["version"] == VERSION
    assert f"version must be {VERSION}, got 999" in caplog.text


def test_a_waiting_process_without_reports_rarely_writes() -> None:
    request = ExchangeRequest(
        process="b",
        number=1,
        limits=RateLimits(),
        timeout=60.0,
        permit_requests=(PermitRequest(id="b1", budget="creates"),),
    )
    rng = random.Random(1)
    first = attrs.evolve(
        request,
        process="a",
        permit_requests=(PermitRequest(id="a1", budget="creates"),),
    )
    text, _ = apply_exchange(None, first, now=NOW, rng=rng)
    text, _ = apply_exchange(text, request, now=NOW, rng=rng)
    again = attrs.evolve(request, number=2)
    later, reply = apply_exchange(text, again, now=NOW + 0.25, rng=rng)
    assert later == text
    assert not reply.granted
    assert apply_exchange(text, again, now=NOW + 1, rng=rng)[0] != text, (
        "its visit is recorded again"
    )
