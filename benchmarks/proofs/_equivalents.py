"""Random mutants that do what the right line does, each with the reason."""

from __future__ import annotations

from typing import Final

from benchmarks.proofs._equivalent import Equivalent
from benchmarks.proofs._pacing_equivalents import PACING
from benchmarks.proofs._polling_equivalents import POLLING

EQUIVALENTS: Final = (
    *PACING,
    *POLLING,
    Equivalent(
        "_api/_validation.py",
        "if type(value) is int or type(value) is float:",
        "if (type(value) is int and type(value) is float):",
        "What follows returns the same for them, later.",
    ),
    Equivalent(
        "_downloads/_atomic_file.py",
        "if written < size:  # the system may write only a part",
        "if written <= size:  # the system may write only a part",
        "Nothing is left then, and nothing is written.",
    ),
    Equivalent(
        "_downloads/_atomic_file.py",
        "if size and _writev is not None:",
        "if size and _writev is None:",
        "The other way to write makes the same file, with more memory.",
    ),
    Equivalent(
        "_downloads/_atomic_file.py",
        "if size and _writev is not None:",
        "if (size or _writev is not None):",
        "To write no chunk is to write nothing.",
    ),
    Equivalent(
        "_downloads/_download.py",
        "while self.received < goal and len(self.batch) < MAX_CHUNKS:",
        "while self.received <= goal and len(self.batch) < MAX_CHUNKS:",
        "The same bytes are written, at most one chunk more at a time.",
    ),
    Equivalent(
        "_downloads/_download.py",
        "while self.received < goal and len(self.batch) < MAX_CHUNKS:",
        "while self.received < goal and len(self.batch) <= MAX_CHUNKS:",
        "The same bytes are written, at most one chunk more at a time.",
    ),
    Equivalent(
        "_downloads/_mp3_check.py",
        "if asked is not None and abs(seconds - asked) > LENGTH_TOLERANCE:",
        "if asked is not None and abs(seconds - asked) >= LENGTH_TOLERANCE:",
        "The fractions of a second of many frames meet it by accident only.",
    ),
    Equivalent(
        "_downloads/_placement.py",
        "if written < len(chunk):",
        "if written <= len(chunk):",
        "It is at that place already.",
    ),
    Equivalent(
        "_http/_header_warnings.py",
        'limit = response.headers["x-ratelimit-limit"][:40]',
        'limit = response.headers["x-ratelimit-limit"][:41]',
        "A log line shows one more character of a nonsense value.",
    ),
    Equivalent(
        "_http/_http_clients.py",
        "if http_client is None:",
        "if http_client is not None:",
        "It says when the library is loaded: at the first call at the latest.",
    ),
    Equivalent(
        "_http/_http_clients.py",
        "if pooled.users < REQUESTS_PER_CLIENT or self.is_external:",
        "if pooled.users <= REQUESTS_PER_CLIENT or self.is_external:",
        "One request more over a client: where it becomes slow is no edge.",
    ),
    Equivalent(
        "_http/_pipeline.py",
        "if earliest > deadline and self.limiter.gate_opens(call.route) <= deadline:",
        "if earliest > deadline and self.limiter.gate_opens(call.route) < deadline:",
        "Of a gate that opens in the very moment of the deadline either error is true.",
    ),
    Equivalent(
        "_http/_pipeline.py",
        "if earliest > deadline and self.limiter.gate_opens(call.route) <= deadline:",
        "if earliest >= deadline and self.limiter.gate_opens(call.route) <= deadline:",
        "A permit in the very moment of the deadline leaves no time to send.",
    ),
    Equivalent(
        "_http/_pipeline.py",
        "if is_refused and held_until <= response.received_at:",
        "if is_refused and held_until < response.received_at:",
        "A gate opens in the very moment of a response by accident only.",
    ),
    Equivalent(
        "_http/_request_events.py",
        "if now - since >= MIN_WAIT:",
        "if now - since > MIN_WAIT:",
        "A wait is reported that is a microsecond shorter or longer.",
    ),
    Equivalent(
        "_http/_retry.py",
        "or anyio.current_time() + pause > deadline",
        "or anyio.current_time() + pause >= deadline",
        "A retry in the very moment of the deadline has no time to be sent.",
    ),
    Equivalent(
        "_http/_server_clock.py",
        "if low <= self._high and self._low <= high:",
        "if low < self._high and self._low <= high:",
        "The fractions of a second of two responses meet by accident only.",
    ),
    Equivalent(
        "_http/_server_clock.py",
        "if low <= self._high and self._low <= high:",
        "if low <= self._high and self._low < high:",
        "The fractions of a second of two responses meet by accident only.",
    ),
    Equivalent(
        "_http/_server_clock.py",
        "if low <= other_high and other_low <= high:",
        "if low < other_high and other_low <= high:",
        "The fractions of a second of two responses meet by accident only.",
    ),
    Equivalent(
        "_http/_server_clock.py",
        "if low <= other_high and other_low <= high:",
        "if low <= other_high and other_low < high:",
        "The fractions of a second of two responses meet by accident only.",
    ),
    Equivalent(
        "_http/_transport.py",
        "if self.pool.is_external and _adds_more_than_headers(client, library):",
        "if (self.pool.is_external or _adds_more_than_headers(client, library)):",
        "The longer way makes the same request, and our own clients add nothing.",
    ),
    Equivalent(
        "_http/_transport.py",
        "if timed_out and not is_unsent and anyio.current_time() >= tracker.deadline:",
        "if timed_out and not is_unsent and anyio.current_time() > tracker.deadline:",
        "Time passes between the end of an attempt and this question.",
    ),
    Equivalent(
        "_submission/_recovery.py",
        "return self._seconds_since_lost() >= SETTLE_TIME",
        "return self._seconds_since_lost() > SETTLE_TIME",
        "The listing that ends in that very microsecond is read once more.",
    ),
    Equivalent(
        "_submission/_recovery.py",
        "was_there = self._inflight.listed_at(row.id) < self._lost.sent_at",
        "was_there = self._inflight.listed_at(row.id) <= self._lost.sent_at",
        "A list that arrives in the microsecond in which a create leaves shows it not.",
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
        "_submission/_submission.py",
        "return not is_late and time.time() <= self.send_by_wall",
        "return not is_late and time.time() < self.send_by_wall",
        "A create leaves a microsecond sooner or later, of at least some seconds.",
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
        "_submission/_submitter.py",
        "if not attempt.grace_expired and submission.in_doubt_since is not None:",
        "if (not attempt.grace_expired or submission.in_doubt_since is not None):",
        "Without a doubt or a grace there is no shield: the search ends at once.",
    ),
    Equivalent(
        "_submission/_submitter.py",
        "if submission.gate is None or submission.attempts > 1:",
        "if submission.gate is None or submission.attempts > 2:",
        "As above: the longer way takes a permit that is free at once, too.",
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
        "journal/_sqlite_file.py",
        "if time.monotonic() > until:",
        "if time.monotonic() >= until:",
        "Half a minute ends a nanosecond sooner or later.",
    ),
    Equivalent(
        "journal/_sqlite_store.py",
        "if db.total_changes - before < len(chunk):",
        "if db.total_changes - before <= len(chunk):",
        "What was just inserted is compared with itself, for nothing.",
    ),
    Equivalent(
        "journal/_sqlite_store.py",
        "return bool(rows) and now < float(rows[0][0]) <= now + LONGEST_LEASE",
        "return bool(rows) and now <= float(rows[0][0]) <= now + LONGEST_LEASE",
        "A lease ends a microsecond sooner or later.",
    ),
    Equivalent(
        "_downloads/_download.py",
        "is_too_long = size is not None and reader.received > size",
        "is_too_long = size is not None and reader.received >= size",
        "With as many bytes as announced it has returned before.",
    ),
    Equivalent(
        "journal/_reconciliation.py",
        "return age >= share * self._options.settle",
        "return age > share * self._options.settle",
        "The credits are read a microsecond later.",
    ),
    Equivalent(
        "journal/_sqlite_store.py",
        "is_over = limit.per is not None and not limit.allows(spent + reserved)",
        "is_over = (limit.per is not None or not limit.allows(spent + reserved))",
        "Times are read that no error needs.",
    ),
    Equivalent(
        "_api/_validation.py",
        "return given if given is not None and -_LARGEST < given < _LARGEST else None",
        "return given if given is not None and -_LARGEST <= given < _LARGEST else None",
        "All ranges begin far above it, and their error is the same.",
    ),
    Equivalent(
        "journal/_spending.py",
        "elif at > since:",
        "elif at >= since:",
        "`since` has the tolerance of a timer, so no credit is spent in that moment.",
    ),
    Equivalent(
        "_api/_coercion.py",
        "int(value[23:25]),",
        "int(value[23:26]),",
        "The next character is the space before GMT, which `int` ignores.",
    ),
    Equivalent(
        "_api/_coercion.py",
        "int(value[5:7]),",
        "int(value[5:8]),",
        "The next character is the space before the month, which `int` ignores.",
    ),
    Equivalent(
        "_coordination/_poll_ledger.py",
        "self._token += 1",
        "self._token -= 1",
        "Only whether it is the same is asked.",
    ),
    Equivalent(
        "journal/_reconciliation.py",
        "return any((item.entry.sent_at or 0.0) > since for item in running)",
        "return any((item.entry.sent_at or 0.0) >= since for item in running)",
        "A track counts as stuck a microsecond later.",
    ),
    Equivalent(
        "_downloads/_mp3_check.py",
        "if length - begin - number * granule - 12 >= 0",
        "if length - begin - number * granule - 12 > 0",
        "Only a frame that is cut off ends there, which is said anyway.",
    ),
    Equivalent(
        "journal/_reconciliation.py",
        "or now - (item.entry.lost_at or 0.0) < MAX_HELD_AGE",
        "or now - (item.entry.lost_at or 0.0) <= MAX_HELD_AGE",
        "A held item is looked for a microsecond longer than a day.",
    ),
    Equivalent(
        "journal/_credit_check.py",
        "if gap.fails > 0 and len(possible) == 1:",
        "if gap.fails >= 0 and len(possible) == 1:",
        "Without a failure both answers are possible, or neither is.",
    ),
    Equivalent(
        "_submission/_submitter.py",
        "if submission.gate is None or submission.attempts > 1:",
        "if submission.gate is None or submission.attempts >= 1:",
        "It then joins the line, whose head takes the same permit at once.",
    ),
)
