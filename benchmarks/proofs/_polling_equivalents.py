"""Random mutants of the poll loop that do what the right line does."""

from __future__ import annotations

from typing import Final

from benchmarks.proofs._equivalent import Equivalent

POLLING: Final = (
    Equivalent(
        "_polling/_failure_tracker.py",
        "is_long = now >= self._unclear_since + BELIEVED_AFTER",
        "is_long = now > self._unclear_since + BELIEVED_AFTER",
        "A wait ends with the refusal after, if it is a microsecond too soon.",
    ),
    Equivalent(
        "_polling/_poller.py",
        "hangs = driver.ready and now > read.sent_at + HANGS_AFTER",
        "hangs = driver.ready and now >= read.sent_at + HANGS_AFTER",
        "A read hangs from one microsecond to the next.",
    ),
    Equivalent(
        "_polling/_poller.py",
        "has_one = permit <= anyio.current_time() + OVERTIME",
        "has_one = permit < anyio.current_time() + OVERTIME",
        "A free permit is free already; none is due in that very microsecond.",
    ),
    Equivalent(
        "_polling/_shared_polling.py",
        "if now < self._reads_until:",
        "if now <= self._reads_until:",
        "A lead ends a microsecond sooner or later, counted from before its lease.",
    ),
    Equivalent(
        "_polling/_shared_polling.py",
        "if anyio.current_time() >= self._standalone_until:",
        "if anyio.current_time() > self._standalone_until:",
        "A sync is due in that very moment in any case.",
    ),
    Equivalent(
        "_polling/_shared_polling.py",
        "is_old = asked_at < self._leads_since",
        "is_old = asked_at <= self._leads_since",
        "The first read of a leader is sent after the reply that lets it lead.",
    ),
    Equivalent(
        "_polling/_shared_polling.py",
        "return now < self._yielding_until",
        "return now <= self._yielding_until",
        "Another process may lead a microsecond longer.",
    ),
    Equivalent(
        "_polling/_dispatch.py",
        "and now >= track.unclear_since + BELIEVED_AFTER",
        "and now > track.unclear_since + BELIEVED_AFTER",
        "A wait ends with the refusal after, if it is a microsecond too soon.",
    ),
    Equivalent(
        "_polling/_watch_list.py",
        "elif again < track.next_look:",
        "elif again <= track.next_look:",
        "It is that moment already.",
    ),
    Equivalent(
        "_polling/_reader.py",
        "if in_flight.read is not None and in_flight.read.offset is not None:",
        "if (in_flight.read is not None or in_flight.read.offset is not None):",
        "What hangs has been sent, and so has been chosen.",
    ),
    Equivalent(
        "_polling/_reads_in_flight.py",
        "if now >= in_flight.sent_at + HANGS_AFTER",
        "if now > in_flight.sent_at + HANGS_AFTER",
        "A read hangs from one microsecond to the next.",
    ),
    Equivalent(
        "_polling/_schedule.py",
        "return now < self._next and len(self._reserved_used) < self._max_reserved",
        "return now <= self._next and len(self._reserved_used) < self._max_reserved",
        "A slot comes free in that very moment, by accident.",
    ),
    Equivalent(
        "_polling/_schedule.py",
        "if age < expectation.earliest:",
        "if age <= expectation.earliest:",
        "In that moment the pause is 0 either way.",
    ),
    Equivalent(
        "_polling/_schedule.py",
        "if age <= expectation.latest:",
        "if age < expectation.latest:",
        "In that moment the pause is 0 either way.",
    ),
    Equivalent(
        "_polling/_schedule.py",
        "if not 0 < left < inf:",
        "if not 0 <= left < inf:",
        "In that moment both pauses are 0.",
    ),
    Equivalent(
        "_polling/_reader.py",
        "if in_flight.sent_at >= self._last_success_at:",
        "if in_flight.sent_at > self._last_success_at:",
        "No read is sent in the microsecond in which another one arrives.",
    ),
    Equivalent(
        "_polling/_poller.py",
        "if look <= now:",
        "if look < now:",
        "The read is sent a microsecond later.",
    ),
    Equivalent(
        "_polling/_poller.py",
        "if self._shared_polling is not None and sync <= now:",
        "if self._shared_polling is not None and sync < now:",
        "The sync begins a microsecond later.",
    ),
    Equivalent(
        "_polling/_poller.py",
        "if self._watch_list.next_deadline() > now:",
        "if self._watch_list.next_deadline() >= now:",
        "A deadline comes a microsecond later.",
    ),
    Equivalent(
        "_polling/_poller.py",
        "can_look=lambda watcher: has_one and slot <= now + watcher.overtime,",
        "can_look=lambda watcher: has_one and slot < now + watcher.overtime,",
        "A look that begins as its wait ends shows nothing.",
    ),
    Equivalent(
        "_polling/_poller.py",
        "if pause > OVERTIME:",
        "if pause >= OVERTIME:",
        "A pause is as long as that to the last bit by accident.",
    ),
    Equivalent(
        "_polling/_missing_tracks.py",
        'if outcome == "whole" and began_at >= absence.last_404_at:',
        'if outcome == "whole" and began_at > absence.last_404_at:',
        "A list is sent after the 404 that asks for it.",
    ),
    Equivalent(
        "_polling/_poller.py",
        "if moment < self._sleeping_until:",
        "if moment <= self._sleeping_until:",
        "The driver is woken at the moment at which it wakes.",
    ),
)
