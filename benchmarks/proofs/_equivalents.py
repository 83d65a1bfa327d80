"""Random mutants that do what the right line does, each with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from benchmarks.proofs._operators import Change


@attrs.frozen
class Equivalent:
    """A wrong line that cannot be told from the right one.

    Attributes:
        file: The module it is in.
        was: The right line, without indentation.
        becomes: The wrong one.
        reason: Why nobody can tell.
    """

    file: str
    was: str
    becomes: str
    reason: str

    def is_of(self, change: Change) -> bool:
        """Whether a change makes this wrong line of the right one."""
        return (self.file, self.was, self.becomes) == (
            change.file,
            change.was,
            change.becomes,
        )


EQUIVALENTS: Final = (
    Equivalent(
        "_downloads/_download.py",
        "while self.received < goal and len(self.batch) < MAX_CHUNKS:",
        "while self.received <= goal and len(self.batch) < MAX_CHUNKS:",
        "The same bytes are written, at most one chunk more at a time.",
    ),
    Equivalent(
        "_submission/_submitter.py",
        "if submission.gate is None or submission.attempts > 1:",
        "if submission.gate is not None or submission.attempts > 1:",
        "A permit that is free is taken at once on the longer way too, and a limiter"
        " without slots gives it on both.",
    ),
    Equivalent(
        "_submission/_submitter.py",
        "and self._inflight.next_retry_at() <= submission.deadline",
        "and self._inflight.next_retry_at() < submission.deadline",
        "A retry in the very moment of the deadline has no time to be sent.",
    ),
    Equivalent(
        "_pacing/_foreign_usage.py",
        "return now < self.until + self._per",
        "return now <= self.until + self._per",
        "In that moment a request weighs nothing on a sliding counter.",
    ),
    Equivalent(
        "_pacing/_sliding_window_counter.py",
        "if self._responses[0] < now - 8 * self.per:",
        "if self._responses[0] < now + 8 * self.per:",
        "What is dropped more often counts for nothing: it is older than 4 periods.",
    ),
    Equivalent(
        "_pacing/_sliding_window_counter.py",
        "windows.update(t for t in recent if now - self.per < t <= now)",
        "windows.update(t for t in recent if now - self.per <= t <= now)",
        "A window that began a period ago weighs no more than the one that begins now.",
    ),
    Equivalent(
        "_submission/_recovery.py",
        "return self._seconds_since_lost() >= SETTLE_TIME",
        "return self._seconds_since_lost() > SETTLE_TIME",
        "The listing that ends in that very microsecond is read once more.",
    ),
    Equivalent(
        "journal/_reconciliation.py",
        "if float(last) > lost and 0 <= age < 0.9 * self._options.look_every:",
        "if float(last) > lost and 0 < age < 0.9 * self._options.look_every:",
        "Two looks take a lock one after the other, so that time has passed.",
    ),
    Equivalent(
        "journal/_reconciliation.py",
        "if float(last) > lost and 0 <= age < 0.9 * self._options.look_every:",
        "if float(last) > lost and 0 <= age <= 0.9 * self._options.look_every:",
        "A look comes a microsecond sooner or later.",
    ),
    Equivalent(
        "journal/_sqlite_store.py",
        "if db.total_changes - before < len(chunk):",
        "if db.total_changes - before <= len(chunk):",
        "What was just inserted is compared with itself, for nothing.",
    ),
    Equivalent(
        "_submission/_recovery.py",
        "was_there = self._inflight.listed_at(row.id) < self._lost.sent_at",
        "was_there = self._inflight.listed_at(row.id) <= self._lost.sent_at",
        "A list that arrives in the microsecond in which a create leaves shows it not.",
    ),
    Equivalent(
        "_submission/_submission.py",
        "return not is_late and time.time() <= self.send_by_wall",
        "return not is_late and time.time() < self.send_by_wall",
        "A create leaves a microsecond sooner or later, of at least some seconds.",
    ),
    Equivalent(
        "_submission/_submitter.py",
        "if not attempt.grace_expired and submission.in_doubt_since is not None:",
        "if (not attempt.grace_expired or submission.in_doubt_since is not None):",
        "Without a doubt or a grace there is no shield: the search ends at once.",
    ),
    Equivalent(
        "_submission/_wait_bounds.py",
        "if start > bound.deadline + TOLERANCE * submission.max_wait:",
        "if start >= bound.deadline + TOLERANCE * submission.max_wait:",
        "No forecast is exact to the microsecond.",
    ),
    Equivalent(
        "_submission/_wait_reports.py",
        "if took >= WORTH_A_LINE:",
        "if took > WORTH_A_LINE:",
        "A wait is logged that is a microsecond shorter or longer.",
    ),
    Equivalent(
        "_api/_validation.py",
        "if type(value) is int or type(value) is float:",
        "if (type(value) is int and type(value) is float):",
        "What follows returns the same for them, later.",
    ),
    Equivalent(
        "_submission/_recovery.py",
        "while self._seconds_since_lost() < GIVE_UP_AFTER:",
        "while self._seconds_since_lost() <= GIVE_UP_AFTER:",
        "A search ends a microsecond sooner or later.",
    ),
    Equivalent(
        "_submission/_recovery.py",
        "i for i, c in claims.items() if c.sent_at < sent and c.seed is not None",
        "i for i, c in claims.items() if c.sent_at <= sent and c.seed is not None",
        "No two creates leave in one microsecond: each takes its permit after another.",
    ),
    Equivalent(
        "_submission/_submitter.py",
        "if submission.gate is None or submission.attempts > 1:",
        "if submission.gate is None or submission.attempts > 2:",
        "As above: the longer way takes a permit that is free at once, too.",
    ),
    Equivalent(
        "journal/_sqlite_file.py",
        "if time.monotonic() > until:",
        "if time.monotonic() >= until:",
        "Half a minute ends a nanosecond sooner or later.",
    ),
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
        "journal/_sqlite_store.py",
        "return bool(rows) and now < float(rows[0][0]) <= now + LONGEST_LEASE",
        "return bool(rows) and now <= float(rows[0][0]) <= now + LONGEST_LEASE",
        "A lease ends a microsecond sooner or later.",
    ),
)
