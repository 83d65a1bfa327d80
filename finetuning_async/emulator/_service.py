"""The service itself: its state, and the checks of every request.

Nothing here awaits: a request is checked, counted, charged and stored in one step, so
no other request can come in between. The emulator's clock is passed in as ``now``.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import uuid
from typing import TYPE_CHECKING, Any, Literal

import attrs

from finetuning_async.emulator._clock import Clock, WallClock
from finetuning_async.emulator._errors import ApiError, refusal
from finetuning_async.emulator._faults import FaultBook
from finetuning_async.emulator._keys import check_free
from finetuning_async.emulator._rate_limiters import make_window
from finetuning_async.emulator._records import (
    Account,
    Bucket,
    Job,
    Kind,
    LedgerEntry,
    Playlist,
    RequestRecord,
    WebhookRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from finetuning_async.emulator._rate_limiters import Window
    from finetuning_async.emulator._records import RateLimit
    from finetuning_async.emulator._settings import EmulatorSettings

TIERS_WITH_API = ("pro", "lifetime")
PENDING_SHARE = 0.1
PENDING_LIMIT = 1.0
"""How long a track is pending by default: this share of its time, at most so long."""


IdKind = Literal["account", "track", "effect", "playlist"]
ID_KINDS: tuple[IdKind, ...] = ("account", "track", "effect", "playlist")
Headers = dict[str, str]


@attrs.define(eq=False)
class Call:
    """One API request with its body, as the handlers receive it."""

    record: RequestRecord
    now: float
    body: bytes
    query: Mapping[str, str]
    path: Mapping[str, str]
    key: str | None = attrs.field(repr=False)
    media: str


@attrs.frozen
class Reply:
    """A successful response: its ``data`` and status."""

    data: Any
    status: int = 200


class Service:
    """The state of an emulated service."""

    def __init__(self, settings: EmulatorSettings, clock: Clock, run: int = 0) -> None:
        now = clock.now()
        self.settings: EmulatorSettings = settings
        self.clock: Clock = clock
        self.over: bool = False
        self._run = run
        self.wall: WallClock = WallClock(settings.wall_start(), now)
        self.faults: FaultBook = FaultBook(self._rng("faults"))
        self.network: random.Random = self._rng("network")
        self.choices: random.Random = self._rng("choices")
        self.jobs: dict[str, Job] = {}
        self.playlists: dict[str, Playlist] = {}
        self.ledger: list[LedgerEntry] = []
        self.requests: list[RequestRecord] = []
        self.webhooks: list[WebhookRecord] = []
        self.on_webhook: Callable[[Job], None] = lambda _job: None
        self._ids: dict[IdKind, random.Random] = {
            kind: self._rng(f"ids/{kind}") for kind in ID_KINDS
        }
        self._phase = self._draw_phase(now)
        self._due: list[tuple[float, int, Job]] = []
        self._order = itertools.count()
        self._accounts: dict[str, Account] = {}
        self.account: Account = self.add_account(
            settings.api_key, settings.tier, settings.credits, settings.pack_credits
        )

    def add_account(self, key: str, tier: str, monthly: int, pack: int) -> Account:
        """Add an account with the API key ``key``."""
        check_free(key, None, self._accounts.get(key))
        new_id, windows = self.new_id("account"), self.new_windows()
        account = Account(new_id, key, tier, monthly, pack, windows)
        self._accounts[key] = account
        return account

    def new_windows(self) -> dict[Bucket, Window]:
        """Rate limiters for one account."""
        limits = self.settings.rate_limits
        return {
            "creates": self._window(limits.creates),
            "reads": self._window(limits.reads),
        }

    @property
    def accounts(self) -> dict[str, Account]:
        """Accounts by API key; one with several keys is there several times."""
        return self._accounts

    def add_key(self, key: str, account: Account) -> None:
        """Add an API key to an account."""
        check_free(key, account, self._accounts.get(key))
        self._accounts[key] = account

    def new_id(self, kind: IdKind) -> str:
        """A UUID, determined by the seed.

        Each kind has a series of its own. With one series for all, an id that is a
        track's in one run would be a playlist's in the next one with the same seed.
        """
        return str(uuid.UUID(int=self._ids[kind].getrandbits(128), version=4))

    # The checks of every request (U10: key, plan, rate, then those of the handler).

    def bucket_of(self, method: str, path: str) -> Bucket:
        """The rate limit against which a request counts."""
        if method != "POST":
            return "reads"
        if path in ("/v1/instrumental", "/v1/sound-effects"):
            return self.settings.other_creates
        return "creates" if path == "/v1/generations" else "reads"

    def rate_headers(self, key: str | None, bucket: Bucket, now: float) -> Headers:
        """The rate limit headers of a response to a request that is not counted.

        All of the limit remains for a key that is missing or unknown.
        """
        account = self._accounts.get(key or "")
        limit = getattr(self.settings.rate_limits, bucket).limit
        window = None if account is None else account.windows[bucket]
        return self._budget_headers(bucket, window.remaining(now) if window else limit)

    def headers_of_api(
        self, method: str, path: str, key: str | None, now: float
    ) -> Headers:
        """`rate_headers`, or none on a path that is no endpoint of the API (U33)."""
        if path == "/health" or path.startswith("/audio/"):
            return {}
        return self.rate_headers(key, self.bucket_of(method, path), now)

    def admit(self, call: Call, bucket: Bucket) -> tuple[Account, Headers]:
        """Check key, plan and rate; count the request.

        Returns:
            The account, and the rate limit headers of the response.
        """
        self.settle(call.now)
        account = self.authenticate(call)
        call.record.bucket = bucket
        headers = self._take(account, bucket, call)
        return account, headers

    def authenticate(self, call: Call) -> Account:
        """The account of the request's API key."""
        if not call.key:
            raise refusal("MISSING_API_KEY")
        account = self._accounts.get(call.key)
        if account is None:
            raise refusal("INVALID_API_KEY")
        if account.tier not in TIERS_WITH_API:
            raise refusal("PRO_PLAN_REQUIRED")
        return account

    def _take(self, account: Account, bucket: Bucket, call: Call) -> Headers:
        window = account.windows[bucket]
        wait = window.retry_after(call.now)
        if wait <= 0 or self.settings.count_rejected:
            window.count(call.now)
            call.record.counted = True
        if wait > 0:
            wait = max(wait, window.retry_after(call.now))
            raise self._rate_limited(bucket, math.ceil(wait - 1e-9))
        return self._budget_headers(bucket, window.remaining(call.now))

    def _rate_limited(self, bucket: Bucket, seconds: int) -> ApiError:
        creates = bucket == "creates"
        error = refusal("GENERATION_RATE_LIMITED" if creates else "RATE_LIMITED")
        error.headers = self._budget_headers(bucket, 0)
        place = self.settings.retry_after_in
        if place in ("both", "header"):
            error.headers["Retry-After"] = str(max(1, seconds))
        if place in ("both", "body"):
            error.retry_after = max(1, seconds)
        return error

    def _budget_headers(self, bucket: Bucket, remaining: int) -> Headers:
        if not self.settings.rate_limit_headers:
            return {}
        limit = getattr(self.settings.rate_limits, bucket).limit
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(remaining),
        }

    # Jobs and credits.

    def settle(self, now: float) -> None:
        """Free the queue slots of jobs that ended by ``now``; refund if enabled."""
        while self._due and self._due[0][0] <= now:
            ends_at, _, job = heapq.heappop(self._due)
            if job.settled or ends_at != job.ends_at:
                continue  # deleted, or its end was moved
            self._leave_queue(job)
            if job.fails and self.settings.refund_failed and job.kind != "effect":
                self._refund(job, ends_at)

    def roll_month(self, account: Account, now: float) -> None:
        """Reset the monthly allowance on the first of a month, UTC (U31)."""
        moment = self.wall.at(now)
        if account.month != (moment.year, moment.month):
            account.month, account.used = (moment.year, moment.month), 0

    def check_credits(self, account: Account, now: float) -> None:
        """Refuse the request if no credit is left."""
        self.roll_month(account, now)
        if account.remaining < 1:
            raise refusal("MONTHLY_LIMIT_REACHED")

    def check_queue(self, account: Account) -> None:
        """Refuse the request if the account's queue is full."""
        if account.in_progress < self.settings.queue_size:
            return
        error = refusal("QUEUE_FULL")
        error.retry_after = self.settings.queue_full_retry_after
        if error.retry_after is not None:
            error.headers["Retry-After"] = str(error.retry_after)
        raise error

    def start(
        self,
        call: Call,
        account: Account,
        kind: Kind,
        prompt: str,
        parameters: dict[str, Any],
        webhook: str | None,
    ) -> Job:
        """Store a job that was checked and charged; decide when and how it ends."""
        job = self.new_job(
            account, kind, prompt, parameters, webhook, call.now, call.media
        )
        self._apply_fault(job, call.record)
        self.keep(job)
        return job

    def new_job(
        self,
        account: Account,
        kind: Kind,
        prompt: str,
        parameters: dict[str, Any],
        webhook: str | None,
        now: float,
        media: str,
    ) -> Job:
        """A job that begins now; when and how it ends is drawn."""
        starts_at, ends_at = self._draw_times(kind, now)
        fails = self.choices.random() < self.settings.failure_rate
        return Job(
            id=self.new_id("effect" if kind == "effect" else "track"),
            kind=kind,
            owner=account,
            prompt=prompt,
            parameters=parameters,
            webhook=webhook,
            created_at=now,
            starts_at=starts_at,
            ends_at=ends_at,
            fails=fails,
            media=media,
        )

    def keep(self, job: Job) -> None:
        """Store a new job; it takes a slot of the queue until it ends."""
        self.jobs[job.id] = job
        job.owner.in_progress += 1
        self._await_end(job)
        if job.webhook is not None and not job.webhook_sent:
            self.on_webhook(job)

    def end(self, job: Job, at: float, *, fails: bool) -> None:
        """Decide anew when and how a job in progress ends; infinity is never."""
        job.ends_at, job.fails, job.reads_left = at, fails, None
        job.starts_at = min(job.starts_at, at)
        self._await_end(job)
        self.clock.wake()

    def end_after_reads(self, job: Job, reads: int, *, fails: bool) -> None:
        """Let a job end once so many more reads have shown it in progress."""
        self.end(job, math.inf, fails=fails)
        job.reads_left = reads

    def note_read(self, job: Job, now: float) -> None:
        """A get or a list has shown this job; the last read that it waits for ends it.

        The reads are those that see it in progress: the next one sees the end.
        """
        if job.reads_left is None:
            return
        job.reads_left -= 1
        if job.reads_left <= 0:
            self.end(job, now, fails=job.fails)

    def _await_end(self, job: Job) -> None:
        heapq.heappush(self._due, (job.ends_at, next(self._order), job))

    def charge(self, call: Call, job: Job) -> None:
        """Charge a job's credit: monthly credits first, then the pack (U32)."""
        account = job.owner
        if account.used < account.monthly:
            account.used += 1
        else:
            job.paid_from = "pack"
            account.pack -= 1
        number, left = call.record.number, account.remaining
        self.ledger.append(LedgerEntry(call.now, number, job.id, -1, left))

    def delete(self, job: Job) -> None:
        """Delete a job everywhere; one in progress frees its queue slot (U23)."""
        job.deleted = True
        del self.jobs[job.id]
        for playlist in self.playlists.values():
            if job in playlist.tracks:
                playlist.tracks.remove(job)
        if not job.settled:
            self._leave_queue(job)

    def effects_left(self, account: Account, now: float) -> int:
        """Sound effects left today (UTC)."""
        moment = self.wall.at(now)
        today = (moment.year, moment.month, moment.day)
        if account.effects_on != today:
            account.effects_on, account.effects_today = today, 0
        return self.settings.daily_effects - account.effects_today

    def _leave_queue(self, job: Job) -> None:
        job.settled = True
        job.owner.in_progress -= 1

    def _refund(self, job: Job, now: float) -> None:
        if job.paid_from == "pack":
            job.owner.pack += 1
        else:
            job.owner.used = max(0, job.owner.used - 1)
        self.ledger.append(LedgerEntry(now, 0, job.id, 1, job.owner.remaining))

    def _apply_fault(self, job: Job, record: RequestRecord) -> None:
        fault = record.fault
        if fault is None:
            return
        if fault.action == "stick":
            job.ends_at = math.inf
        elif fault.action == "fail":
            job.fails = True
        elif fault.action == "hide":
            job.listed_from = job.created_at + fault.seconds

    def _draw_times(self, kind: Kind, now: float) -> tuple[float, float]:
        """When a new job begins to be processed, and when it ends."""
        settings = self.settings
        span = settings.effect_time if kind == "effect" else settings.generation_time
        pending = self._duration(settings.pending_time or (0.0, 0.0))
        taken = self._duration(span)
        if settings.pending_time is not None:
            return now + pending, now + pending + taken
        brief = min(PENDING_LIMIT / settings.speed, PENDING_SHARE * taken)
        return now + brief, now + taken

    def _duration(self, span: tuple[float, float]) -> float:
        return self.choices.uniform(*span) / self.settings.speed

    def _window(self, budget: RateLimit) -> Window:
        kind = self.settings.window
        return make_window(kind, budget.limit, budget.per, self._phase)

    def _draw_phase(self, now: float) -> float:
        phase = self.settings.window_phase
        drawn = self._rng("phase").random() * 60.0 / self.settings.speed
        return now + (drawn if phase is None else phase)

    def _rng(self, purpose: str) -> random.Random:
        name = f"{self.settings.seed}/{purpose}"
        if self._run:  # state of an earlier run is there, which has used up its ids
            name += f"/{self._run}"
        return random.Random(name)  # noqa: S311 - must repeat, need not be secret
