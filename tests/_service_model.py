"""A second, smaller model of the service, independent of the emulator.

The suite's main witness is the emulator; this one shares no line with it, so that an
error of reading the specification would have to be made twice. It is a bare httpx
transport: it emits no trace events and, unless told so, no ``Date``.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import httpx

Window = Literal["fixed", "log"]


@dataclass
class Job:
    """One track of the model."""

    number: int
    body: dict[str, Any]
    accepted_at: float
    takes: float
    fails: bool = False

    @property
    def id(self) -> str:
        return f"gen_{self.number:05d}"

    def row(self, now: float) -> dict[str, Any]:
        done = now >= self.accepted_at + self.takes
        status = ("failed" if self.fails else "completed") if done else "processing"
        completed = status == "completed"
        return {
            "id": self.id,
            "title": self.body["tags"],
            "prompt": self.body["tags"],
            "type": "music",
            "status": status,
            "audioUrl": f"https://media.example/{self.id}.mp3" if completed else None,
            "duration": self.body.get("duration", 60) if completed else None,
            "parameters": {"duration": 60, "seed": self.body["seed"]},
            "createdAt": _stamp(self.accepted_at),
            "completedAt": None,
        }


def _stamp(moment: float) -> str:
    minutes, seconds = divmod(int(moment), 60)
    hours, minutes = divmod(minutes, 60)
    return f"2026-03-02 {hours:02d}:{minutes:02d}:{seconds:02d}"


@dataclass
class ServiceModel(httpx.AsyncBaseTransport):
    """The service as in sections 3 and 5 of its specification."""

    seed: int = 1
    window: Window = "fixed"
    queue: int | None = None
    one_way: tuple[float, float] = (0.02, 0.4)
    generation_time: tuple[float, float] = (20.0, 120.0)
    failure_rate: float = 0.0
    headers: bool = True
    jobs: list[Job] = field(default_factory=list)
    seen: list[tuple[str, str, int]] = field(default_factory=list)
    counted: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._phase = self._rng.uniform(0, 60)

    def refusals(self) -> int:
        """The number of 429 responses to requests above the rate limit."""
        return sum(status == 429 for _, _, status in self.seen) - self.queue_full()

    def queue_full(self) -> int:
        return sum(kind == "queue" for kind, _, _ in self.seen)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        await anyio.sleep(self._rng.uniform(*self.one_way))
        response = self._answer(request, body)
        await anyio.sleep(self._rng.uniform(*self.one_way))
        return response

    def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        now = anyio.current_time()
        path = request.url.path
        create = request.method == "POST" and path == "/v1/generations"
        bucket, limit = ("creates", 10) if create else ("reads", 60)
        left = limit - self._used(bucket, now)
        if left <= 0:
            self.seen.append((bucket, path, 429))
            code = "GENERATION_RATE_LIMITED" if create else "RATE_LIMITED"
            wait = self._opens_in(bucket, now)
            return self._reply(
                429,
                {"error": {"code": code, "message": "slow down"}},
                {"Retry-After": str(int(wait) + 1)},
                limit,
                0,
            )
        if create and self.queue is not None and self._running(now) >= self.queue:
            self.seen.append(("queue", path, 429))
            error = {"error": {"code": "QUEUE_FULL", "message": "queue is full"}}
            return self._reply(429, error, {}, limit, left)
        self.counted.setdefault(bucket, []).append(now)
        status, data = self._create(body, now) if create else self._read(request, now)
        self.seen.append((bucket, path, status))
        return self._reply(status, data, {}, limit, left - 1)

    def _reply(
        self,
        status: int,
        data: dict[str, Any],
        headers: dict[str, str],
        limit: int,
        left: int,
    ) -> httpx.Response:
        if self.headers:
            headers["X-RateLimit-Limit"] = str(limit)
            headers["X-RateLimit-Remaining"] = str(left)
        return httpx.Response(status, headers=headers, content=json.dumps(data))

    def _used(self, bucket: str, now: float) -> int:
        times = self.counted.get(bucket, [])
        start = now - 60
        if self.window == "fixed":
            start = now - (now - self._phase) % 60
        return sum(moment >= start for moment in times)

    def _opens_in(self, bucket: str, now: float) -> float:
        if self.window == "fixed":
            return 60 - (now - self._phase) % 60
        limit = 10 if bucket == "creates" else 60
        return self.counted[bucket][-limit] + 60 - now

    def _running(self, now: float) -> int:
        return sum(now < job.accepted_at + job.takes for job in self.jobs)

    def _create(self, body: bytes, now: float) -> tuple[int, dict[str, Any]]:
        job = Job(
            len(self.jobs),
            json.loads(body),
            now,
            self._rng.uniform(*self.generation_time),
            self._rng.random() < self.failure_rate,
        )
        self.jobs.append(job)
        row = job.row(now)
        kept = {key: row[key] for key in ("id", "status", "prompt", "parameters")}
        return 202, {
            "data": {**kept, "creditsRemaining": 9, "createdAt": "2026-03-02T00:00:00Z"}
        }

    def _read(self, request: httpx.Request, now: float) -> tuple[int, dict[str, Any]]:
        match = re.fullmatch(r"/v1/generations/gen_(\d+)", request.url.path)
        if match is not None:
            job = self.jobs[int(match[1])]
            row = job.row(now)
            row["errorMessage"] = (
                "renderer ran out" if row["status"] == "failed" else None
            )
            return 200, {"data": row}
        limit = int(request.url.params["limit"])
        offset = int(request.url.params["offset"])
        newest_first = self.jobs[::-1]
        rows = [job.row(now) for job in newest_first[offset : offset + limit]]
        more = offset + limit < len(self.jobs)
        return 200, {
            "data": {
                "generations": rows,
                "hasMore": more,
                "nextOffset": offset + len(rows),
            }
        }
