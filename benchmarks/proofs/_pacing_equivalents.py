"""Random mutants of the limits that do what the right line does."""

from __future__ import annotations

from typing import Final

from benchmarks.proofs._equivalent import Equivalent

PACING: Final = (
    Equivalent(
        "_coordination/_outage_hold.py",
        "if is_outage and self._since < lost_at:",
        "if is_outage and self._since <= lost_at:",
        "`lost_at` is reckoned from two clocks, and meets a time of the ledger by"
        " accident.",
    ),
    Equivalent(
        "_coordination/_outage_hold.py",
        "if last > now - OUTAGE_SILENCE * self._scale:",
        "if last >= now - OUTAGE_SILENCE * self._scale:",
        "A silence that is as long to the last bit is an accident, and its length a"
        " guess.",
    ),
    Equivalent(
        "_coordination/_outage_hold.py",
        "return not was_reached or self._silence_ended_at > lost_at",
        "return not was_reached or self._silence_ended_at >= lost_at",
        "`lost_at` is reckoned from two clocks, and meets a time of the ledger by"
        " accident.",
    ),
    Equivalent(
        "_coordination/_process_limiter.py",
        "if first is self or first is None:",
        "if (first is self and first is None):",
        "A queue that is first takes the token in the same step, so that it is never"
        " waited for; and there is a first one, since this one waits.",
    ),
    Equivalent(
        "_coordination/_process_limiter.py",
        "self.process_budget.taken += 1",
        "self.process_budget.taken -= 1",
        "It is only asked whether it has changed.",
    ),
    Equivalent(
        "_coordination/_process_limiter.py",
        "if head is not None and not (first and goes_before(terms, head)):",
        "if (head is not None or not (first and goes_before(terms, head))):",
        "In a queue that is listed a request waits, so that there is a head.",
    ),
    Equivalent(
        "_coordination/_process_limiter.py",
        "soon = at + TOLERANCE",
        "soon = at - TOLERANCE",
        "The same token is taken a microsecond later.",
    ),
    Equivalent(
        "_coordination/_process_limiter.py",
        "elif at >= self._awaited_since + PATIENCE - TOLERANCE:",
        "elif at > self._awaited_since + PATIENCE - TOLERANCE:",
        "A loop is passed over a microsecond sooner or later.",
    ),
    Equivalent(
        "_coordination/_process_limiter.py",
        "elif at >= self._awaited_since + PATIENCE - TOLERANCE:",
        "elif at >= self._awaited_since + PATIENCE + TOLERANCE:",
        "If its timer is that exact, a loop is passed over one look later.",
    ),
    Equivalent(
        "_coordination/_process_limiter.py",
        "handle.call_soon(lambda: self._wake_impatient(self.opens_at - handle.now()))",
        "handle.call_soon(lambda: self._wake_impatient(self.opens_at + handle.now()))",
        "More requests look again, for nothing, and wait on.",
    ),
    Equivalent(
        "_coordination/_process_memory.py",
        "if loop_time - now <= self.offset or not self.handle.has_jumped(loop_time):",
        "if loop_time + now <= self.offset or not self.handle.has_jumped(loop_time):",
        "The longer test, which is then always made, says the same.",
    ),
    Equivalent(
        "_coordination/_process_memory.py",
        "return now < max(self._used_at + self._retention(), *opens_at)",
        "return now <= max(self._used_at + self._retention(), *opens_at)",
        "What is kept a moment longer is asked again when the next loop comes.",
    ),
    Equivalent(
        "_coordination/_process_memory.py",
        "if loop_time - now <= self.offset or not self.handle.has_jumped(loop_time):",
        "if loop_time - now < self.offset or not self.handle.has_jumped(loop_time):",
        "The longer test, which is then made more often, says the same.",
    ),
    Equivalent(
        "_coordination/_shared_ledger.py",
        "return member.expected_by >= now + reply.wait + SLACK - RENEWAL",
        "return member.expected_by > now + reply.wait + SLACK - RENEWAL",
        "In that very moment a visit is written once more or once less.",
    ),
    Equivalent(
        "_coordination/_shared_ledger.py",
        "entry.process, name, reservation, now + timeout",
        "entry.process, name, reservation, now - timeout",
        "The end of a lease counts once its permit is claimed, and is set anew then.",
    ),
    Equivalent(
        "_coordination/_shared_ledger.py",
        "at = max(at, self.budgets[budget].spaced(now + TOLERANCE, waiting[LOW]))",
        "at = max(at, self.budgets[budget].spaced(now - TOLERANCE, waiting[LOW]))",
        "What is due within the tolerance is granted on both; no further rule follows.",
    ),
    Equivalent(
        "_coordination/_shared_ledger.py",
        "if not all(hold <= now + LONGEST_PAUSE + SLACK for hold in holds):",
        "if not all(hold < now + LONGEST_PAUSE + SLACK for hold in holds):",
        "No rule makes a hold as long as that: the slack is for jitter below it.",
    ),
    Equivalent(
        "_coordination/_shared_limiter.py",
        "is_first_period = now < self._share_since + self._limit.per",
        "is_first_period = now <= self._share_since + self._limit.per",
        "The next request asks again, a moment later.",
    ),
    Equivalent(
        "_coordination/_shared_limiter.py",
        "if now > self._store_client.snapshots_at + FRESH:",
        "if now >= self._store_client.snapshots_at + FRESH:",
        "A snapshot counts as old a microsecond sooner.",
    ),
    Equivalent(
        "_coordination/_shared_limiter.py",
        "if self._store_client.is_up or now >= self._store_client.probe_at:",
        "if self._store_client.is_up or now > self._store_client.probe_at:",
        "The store is asked again a microsecond later.",
    ),
    Equivalent(
        "_coordination/_store_client.py",
        "if waiter.is_repetition or ahead < MAX_QUEUED:",
        "if waiter.is_repetition or ahead <= MAX_QUEUED:",
        "One exchange more, which sends nothing new.",
    ),
    Equivalent(
        "_coordination/_store_client.py",
        "if self._must_exchange or now >= self._next_exchange_at:",
        "if self._must_exchange or now > self._next_exchange_at:",
        "It looks again at once, a microsecond later.",
    ),
    Equivalent(
        "_coordination/_store_client.py",
        "if now >= self.probe_at and not self._lock.locked():",
        "if now > self.probe_at and not self._lock.locked():",
        "Who waits looks again at once, a microsecond later.",
    ),
    Equivalent(
        "_pacing/_credit_limit.py",
        "while self._spent_at and self._spent_at[0] <= since:",
        "while self._spent_at and self._spent_at[0] < since:",
        "`since` has the tolerance of a timer, so no credit is spent in that moment.",
    ),
    Equivalent(
        "_pacing/_dealer.py",
        "if turn > self._turns[rank]:",
        "if turn >= self._turns[rank]:",
        "What it would drop from `_later` says nothing already: see `turn_of`.",
    ),
    Equivalent(
        "_pacing/_dealer.py",
        "for known in [s for s, next_turn in later.items() if next_turn <= turn]:",
        "for known in [s for s, next_turn in later.items() if next_turn < turn]:",
        "What is kept says what is known without it, and is dropped a turn later.",
    ),
    Equivalent(
        "_pacing/_wait_queue.py",
        "self._wake_impatient(self.rate_budget.opens_at - now)",
        "self._wake_impatient(self.rate_budget.opens_at + now)",
        "Who can wait that long looks again as well, and waits on.",
    ),
    Equivalent(
        "_coordination/_process_memory.py",
        "return now > self.used_at + STOPPED_AFTER and not self.handle.is_running",
        "return now >= self.used_at + STOPPED_AFTER and not self.handle.is_running",
        "A loop that stopped counts as ended a microsecond sooner.",
    ),
    Equivalent(
        "_coordination/_poll_ledger.py",
        "if now - member.seen_at >= MEMBER_TTL:",
        "if now - member.seen_at > MEMBER_TTL:",
        "A silent process counts as dead a microsecond later.",
    ),
    Equivalent(
        "_api/_responses.py",
        "return inf if value > 0 else -inf",
        "return inf if value >= 0 else -inf",
        "It is infinite, or too large for a float.",
    ),
    Equivalent(
        "_pacing/_dealer.py",
        "self.changes += 1",
        "self.changes -= 1",
        "Only whether it has changed is asked.",
    ),
    Equivalent(
        "_pacing/_fair_queue.py",
        "if len(self.lines) < 2:",
        "if len(self.lines) <= 2:",
        "The heap is made again when it is needed, of the same lines.",
    ),
    Equivalent(
        "_pacing/_fair_queue.py",
        "if len(self.lines) < 2:",
        "if len(self.lines) < 3:",
        "The heap is made again when it is needed, of the same lines.",
    ),
    Equivalent(
        "_pacing/_fair_queue.py",
        "if kept > 2 * self.waiting + MOST_GONE:",
        "if kept >= 2 * self.waiting + MOST_GONE:",
        "It says only when those that have left are taken out.",
    ),
    Equivalent(
        "_pacing/_fair_queue.py",
        "if kept > 2 * self.waiting + MOST_GONE:",
        "if kept > 2 * self.waiting - MOST_GONE:",
        "It says only when those that have left are taken out.",
    ),
    Equivalent(
        "_pacing/_foreign_usage.py",
        "return now < self.until + self._per",
        "return now <= self.until + self._per",
        "In that moment a request weighs nothing on a sliding counter.",
    ),
    Equivalent(
        "_pacing/_limiter.py",
        "if terms.rank == LOW or (gate and gate.opens_at() > self._now()):",
        "if terms.rank == LOW or (gate and gate.opens_at() >= self._now()):",
        "A queue that opens in that very moment lets it through on the longer way too.",
    ),
    Equivalent(
        "_pacing/_queue_capacity.py",
        "if self.capacity is None or in_progress < self.capacity:",
        "if self.capacity is None or in_progress <= self.capacity:",
        "It is that number already.",
    ),
    Equivalent(
        "_pacing/_queue_capacity.py",
        "if self.capacity is not None and in_progress > self.capacity:",
        "if self.capacity is not None and in_progress >= self.capacity:",
        "It is that number already, and no accepted track makes that 0.",
    ),
    Equivalent(
        "_pacing/_sliding_window_counter.py",
        "windows.update(t for t in recent if now - self.per < t <= now)",
        "windows.update(t for t in recent if now - self.per < t < now)",
        "The window that begins now is tried in any case.",
    ),
    Equivalent(
        "_pacing/_sliding_window_counter.py",
        "windows.update(t for t in recent if now - self.per < t <= now)",
        "windows.update(t for t in recent if now - self.per <= t <= now)",
        "A window that began a period ago weighs no more than the one that begins now.",
    ),
    Equivalent(
        "_pacing/_sliding_window_counter.py",
        "while high - low > RESOLUTION * self.per:",
        "while high - low >= RESOLUTION * self.per:",
        "At most one halving more, within the resolution.",
    ),
    Equivalent(
        "_pacing/_sliding_window_counter.py",
        "if self.load(now) <= most:",
        "if self.load(now) < most:",
        "Its limit is a millionth above a whole number, which no load meets.",
    ),
    Equivalent(
        "_pacing/_token_bucket.py",
        "if self._returns and self._returns[-1] > back:  # after a long `linger`",
        "if self._returns and self._returns[-1] >= back:  # after a long `linger`",
        "Of two equal times it is all the same which comes first.",
    ),
    Equivalent(
        "_pacing/_wait_queue.py",
        "if request.max_pause < pause:",
        "if request.max_pause <= pause:",
        "It looks again for nothing, and waits on.",
    ),
    Equivalent(
        "_pacing/_wait_queue.py",
        "request.is_parked = opens_at > soon",
        "request.is_parked = opens_at >= soon",
        "In that very moment it looks again at once, and goes.",
    ),
    Equivalent(
        "_pacing/_wait_queue.py",
        "soon = now + TOLERANCE",
        "soon = now - TOLERANCE",
        "The same token is taken in the line, a microsecond later.",
    ),
    Equivalent(
        "_pacing/_rule_set.py",
        "if credit < 1 and probe_at <= now:",
        "if credit <= 1 and probe_at <= now:",
        "With a credit of 1 or more it has returned before, unless that is infinite.",
    ),
    Equivalent(
        "_pacing/_sliding_window_counter.py",
        "return most > self.limit and self.load_at(reservation) > self.limit",
        "return most >= self.limit and self.load_at(reservation) > self.limit",
        "The load is never above `most`, which only saves working it out.",
    ),
    Equivalent(
        "_pacing/_fair_queue.py",
        "if len(self.lines) < 2:",
        "if len(self.lines) >= 2:",
        "The heap is made anew more often than it must be.",
    ),
    Equivalent(
        "_pacing/_fair_queue.py",
        "if kept > 2 * self.waiting + MOST_GONE:",
        "if kept <= 2 * self.waiting + MOST_GONE:",
        "The line is cleaned up whenever one leaves it, which costs time only.",
    ),
    Equivalent(
        "_pacing/_sliding_window_counter.py",
        "windows.update(t + self.per for t in recent if t + self.per <= now)",
        "windows.update(t + self.per for t in recent if t + self.per < now)",
        "The present moment is one of the windows in any case.",
    ),
    Equivalent(
        "_pacing/_sliding_window_counter.py",
        "if self._in_flight + len(self._responses) - first <= most:",
        "if self._in_flight + len(self._responses) + first <= most:",
        "The load is worked out where that need not be, with the same result.",
    ),
)
