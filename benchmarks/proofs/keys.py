"""A backend is killed every few seconds; with idempotency keys each order costs once.

A FastAPI application is served by two processes of uvicorn on one port, with one
journal: first in SQLite, then in PostgreSQL. Its callers ask for each order up to five
times: at once, one after another, and after errors. The service is an emulator on a
real port, with faults on the network. Every few seconds a process gets SIGKILL, and a
new one replaces it; or SIGSTOP for longer than its lease lasts, and then SIGCONT. What
is held at the end is released, as a person would after looking.

    every order costs one credit    the ledger, the tracks and the journal agree
    every order has one id          whoever asks for it, and whenever
    no track is orphaned            each belongs to an entry of the journal
    nothing stays in doubt          and what is held is not listed

``python -m benchmarks proofs keys [--orders N] [--kills N] [--seed N] [--in NAME]``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from benchmarks.proofs._keys_backend import key_of, new_client, prompt_of
from benchmarks.proofs._keys_callers import Caller, Order
from finetuning_async.emulator import Emulator, Fault, serve
from tests._postgres_server import cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.abc import Process

    from finetuning_async import AsyncClient
    from finetuning_async.journal import JournalEntry

WORKERS: Final = 2
SPEED: Final = 20.0
CREATES: Final = "/v1/generations"
HALTED: Final = 7.5
"""Seconds for which a worker is halted; a lease lasts 6."""

FINISH_TIMEOUT: Final = 240.0
"""Seconds for the rest to end, once no worker is killed any more."""

DATABASES: Final = ("sqlite", "postgres")


@attrs.define
class Tally:
    """What happened.

    Attributes:
        kills: Workers that were killed.
        halts: Workers that were halted for longer than a lease, and then continued.
        busy: How many of those left at least one create in doubt.
        asked: Requests of the callers.
        replies: How often each reply without an id came back.
        resumed: Outcomes of what earlier processes had left.
        held: Entries that were held, before they were released.
        refusals: Responses of the service with status 429.
        took: Seconds from the first request for each order until an id came back.
        failures: What did not add up; empty if the proof holds.
    """

    kills: int = 0
    halts: int = 0
    busy: int = 0
    asked: int = 0
    replies: Counter[str] = attrs.field(factory=Counter)
    resumed: int = 0
    held: list[str] = attrs.field(factory=list)
    refusals: int = 0
    took: list[float] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class Plan:
    """What is done in one proof.

    Attributes:
        orders: How many orders there are.
        kills: How many workers are killed or halted, unless all orders end before.
        every: Seconds between those, at least and at most.
        halted: Share of the workers that are halted instead of killed, 0 to 1.
        speed: The emulator's.
        arrivals: New orders in a second. At `SPEED` the service takes 3.3 creates.
        seed: Seed of the faults, of the callers and of the moments of the kills.
        faults: Faults of the network.
    """

    orders: int
    kills: int
    every: tuple[float, float] = (2.0, 4.0)
    halted: float = 0.25
    speed: float = SPEED
    arrivals: float = 1.2
    seed: int = 1
    faults: tuple[Fault, ...] = ()


class Harness:
    """One proof.

    Args:
        folder: Where the journal, the limits and a log of the workers are kept.
        plan: What is done.
        conninfo: How to connect to an empty database; `None` for SQLite.
    """

    def __init__(self, folder: Path, plan: Plan, conninfo: str | None = None) -> None:
        self._folder, self._plan = folder, plan
        self._journal = conninfo or str(folder / "journal.db")
        self._limits = str(folder / "limits") if conninfo is None else None
        self._rng = random.Random(plan.seed)
        self._workers: list[Process] = []
        self._storming = True
        self.orders = [Order(number) for number in range(plan.orders)]
        self.tally = Tally()
        self.emulator = Emulator(
            speed=plan.speed,
            seed=plan.seed,
            audio=b"ID3",
            queue_size=20,
            failure_rate=0.03,
            credits=10 * plan.orders + 100,
        )

    @property
    def log(self) -> Path:
        """What the workers log."""
        return self._folder / "workers.log"

    async def run(self) -> Tally:
        """Ask and kill, let the rest end, and audit."""
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
            self._url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            async with self.emulator, serve(self.emulator) as service:
                for fault in self._plan.faults:
                    self.emulator.add_fault(fault)
                self._env = self._environment(service, listening)
                self._listening = listening
                try:
                    await self._play()
                finally:
                    for worker in self._workers:
                        await _kill(worker)
        return self.tally

    async def _play(self) -> None:
        self._workers = [await self._start() for _ in range(WORKERS)]
        with _variables(self._env):
            client = new_client(self._journal, self._plan.speed, self._limits)
        async with client:
            async with anyio.create_task_group() as group:
                group.start_soon(self._kill_some, client)
                await self._storm()
                self._storming = False
            with anyio.move_on_after(FINISH_TIMEOUT) as scope:
                await self._finish(client)
            if scope.cancelled_caught:
                left = [order.number for order in self.orders if not order.ids]
                self.tally.failures.append(
                    f"no id within {FINISH_TIMEOUT:.0f} s for the orders {left}"
                )
            await self._audit(client)

    def _environment(self, service: str, listening: socket.socket) -> dict[str, str]:
        env = {
            **os.environ,
            "FINETUNING_API_KEY": self.emulator.api_key,
            "FINETUNING_BASE_URL": service,
            "JOURNAL": self._journal,
            "OUTCOMES": str(self._folder / "outcomes.jsonl"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "SOCKET": str(listening.fileno()),
            "SPEED": str(self._plan.speed),
        }
        if self._limits is not None:
            env["LIMITS"] = self._limits
        return env

    async def _start(self) -> Process:
        program = "from benchmarks.proofs import _keys_backend as b; b.run()"
        with self.log.open("ab") as log:
            return await anyio.open_process(
                [sys.executable, "-c", program],
                env=self._env,
                pass_fds=[self._listening.fileno()],
                stdout=log,
                stderr=log,
            )

    # The storm.

    async def _storm(self) -> None:
        async with anyio.create_task_group() as group:
            for order in self.orders:
                caller = Caller(self._url, order, self._rng.randrange(2**32))
                group.start_soon(caller.storm)
                await anyio.sleep(self._rng.expovariate(self._plan.arrivals))

    async def _kill_some(self, client: AsyncClient) -> None:
        # The first create is waited for, so that the first kill hits no mere start.
        while not self.emulator.ledger:  # noqa: ASYNC110 - the emulator has no event
            await anyio.sleep(0.1)
        tally = self.tally
        while self._storming and tally.kills + tally.halts < self._plan.kills:
            await anyio.sleep(self._rng.uniform(*self._plan.every))
            victim = self._rng.randrange(WORKERS)
            is_halted = self._rng.random() < self._plan.halted
            if is_halted:
                tally.halts += 1
                self._workers[victim].send_signal(signal.SIGSTOP)
            else:
                tally.kills += 1
                await _kill(self._workers[victim])
            tally.busy += any([True async for _ in client.journal.entries("sending")])
            if is_halted:
                await anyio.sleep(HALTED)
                self._workers[victim].send_signal(signal.SIGCONT)
            else:
                self._workers[victim] = await self._start()

    # The end.

    async def _finish(self, client: AsyncClient) -> None:
        """Ask for every order once more, and for some until an id comes back."""
        async with anyio.create_task_group() as group:
            slots = anyio.Semaphore(50)
            for order in self.orders:
                group.start_soon(self._insist, order, client, slots)

    async def _insist(
        self, order: Order, client: AsyncClient, slots: anyio.Semaphore
    ) -> None:
        async with slots:
            while not await Caller(self._url, order, order.number).once():
                entry = await client.journal.get(key_of(order.number))
                if entry is not None and entry.state == "held":
                    await self._release(entry, client)
                await anyio.sleep(0.5)

    async def _release(self, entry: JournalEntry, client: AsyncClient) -> None:
        """Do as a person would: look whether the service shows a track, and say no."""
        self.tally.held.append(f"{entry.key}: {entry.error}")
        known = {e.generation_id async for e in client.journal.entries()}
        prompt = entry.request.prompt
        for job in self.emulator.tracks.values():
            if job.prompt == prompt and job.id not in known:
                self.tally.failures.append(f"{entry.key} is held; it may be {job.id}")
        await client.journal.release(entry.key)

    async def _audit(self, client: AsyncClient) -> None:
        tally, emulator = self.tally, self.emulator
        tally.asked = sum(order.asked for order in self.orders)
        tally.replies = sum((order.replies for order in self.orders), Counter())
        tally.refusals = emulator.count(status=429)
        tally.took = [order.took for order in self.orders]
        entries = {e.key: e async for e in client.journal.entries()}
        outcomes = self._outcomes()
        tally.resumed = len(outcomes)
        spent = -sum(entry.amount for entry in emulator.ledger)
        tracks = {job.id: job.prompt for job in emulator.tracks.values()}
        wanted = Counter(prompt_of(order.number) for order in self.orders)
        states = Counter(entry.state for entry in entries.values())
        recorded = sum(entry.credits for entry in entries.values())
        ids = {entry.generation_id for entry in entries.values()}
        facts = {
            f"{spent} credits, {len(tracks)} tracks, {recorded} credits in the journal,"
            f" {len(self.orders)} orders": spent
            == len(tracks)
            == recorded
            == len(self.orders)
            == len(entries),
            f"orphans {set(tracks) - ids}, inventions {ids - set(tracks)}": set(tracks)
            == ids,
            f"some prompts were made too often or never:"
            f" {_difference(wanted, Counter(tracks.values()))}": wanted
            == Counter(tracks.values()),
            f"in doubt at the end: {dict(states)}": not (
                states.keys() - {"accepted", "completed", "failed"}
            ),
        }
        tally.failures += [name for name, holds in facts.items() if not holds]
        for order in self.orders:
            tally.failures += _check(order, entries, outcomes, tracks)

    def _outcomes(self) -> list[dict[str, Any]]:
        path = self._folder / "outcomes.jsonl"
        if not path.exists():
            return []
        # A kill may have cut the last line of a process short.
        lines = [line for line in path.read_text().splitlines() if line[-1:] == "}"]
        return [json.loads(line) for line in lines if line.startswith("{")]


def _check(
    order: Order,
    entries: dict[str, JournalEntry],
    outcomes: list[dict[str, Any]],
    tracks: dict[str, str],
) -> list[str]:
    """What is wrong with one order."""
    key = key_of(order.number)
    entry = entries.get(key)
    told = set(order.ids)
    told |= {o["id"] for o in outcomes if o["key"] == key and o["id"] is not None}
    if entry is None:
        return [f"{key} has no entry; its callers were told {told}"]
    if told != {entry.generation_id}:
        return [f"{key} is {entry.generation_id}; its callers were told {told}"]
    if tracks.get(str(entry.generation_id)) != prompt_of(order.number):
        return [f"{key} has a track of another order"]
    return []


def _difference(wanted: Counter[str], made: Counter[str]) -> dict[str, int]:
    names = wanted.keys() | made.keys()
    return {n: made[n] - wanted[n] for n in names if made[n] != wanted[n]}


async def _kill(process: Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()
    await process.aclose()


@contextlib.contextmanager
def _variables(env: dict[str, str]) -> Iterator[None]:
    """The key and the URL of the emulator as environment variables."""
    names = ("FINETUNING_API_KEY", "FINETUNING_BASE_URL")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: env[name] for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def quick_faults() -> tuple[Fault, ...]:
    """Faults that leave no create in doubt for long."""
    post: dict[str, Any] = {"path": CREATES, "method": "POST", "times": None}
    return (
        Fault("lost_after_commit", probability=0.05, **post),
        Fault("status", CREATES, method="GET", probability=0.03, times=None),
        Fault("slow_answer", probability=0.5, seconds=0.3, **post),
    )


def all_faults() -> tuple[Fault, ...]:
    """The faults of the full proof."""
    post: dict[str, Any] = {"path": CREATES, "method": "POST", "times": None}
    return (
        *quick_faults(),
        Fault("lost_before_commit", probability=0.02, **post),
        Fault("late_commit", probability=0.02, seconds=1, **post),
        Fault("truncated_json", probability=0.02, **post),
    )


def prove(plan: Plan, database: str, log: str | None = None) -> Tally:
    """Run one proof with a journal in SQLite or in PostgreSQL."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        conninfo = stack.enter_context(cluster()) if database == "postgres" else None
        harness = Harness(folder, plan, conninfo)
        tally = anyio.run(harness.run)
        if log is not None:
            with Path(log).open("ab") as file:
                file.write(harness.log.read_bytes())
    return tally


def report(tally: Tally, plan: Plan, database: str) -> None:
    """Print what happened."""
    replies = ", ".join(f"{n} {name}" for name, n in tally.replies.most_common())
    print(
        f"{database}: {plan.orders} orders asked for {tally.asked} times, seed"
        f" {plan.seed}: {tally.kills} workers killed and {tally.halts} halted,"
        f" {tally.busy} of them with creates in flight; {tally.resumed} outcomes"
        f" resumed; {len(tally.held)} held; {tally.refusals} responses 429; an id after"
        f" {statistics.median(tally.took):.1f} s (median), {max(tally.took):.0f} s"
        f" (longest)\n  replies without an id: {replies}"
    )
    for line in (*tally.held, *tally.failures):
        print(f"  {line}", flush=True)


def main(arguments: list[str]) -> bool:
    """Run the full proof."""
    parser = argparse.ArgumentParser(prog="keys")
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--in", choices=DATABASES, dest="database")
    parser.add_argument("--log", help="a file for what the workers log")
    options = parser.parse_args(arguments)
    plan = Plan(
        orders=options.orders,
        kills=options.kills,
        seed=options.seed,
        faults=all_faults(),
    )
    holds = True
    for database in DATABASES if options.database is None else (options.database,):
        tally = prove(plan, database, options.log)
        report(tally, plan, database)
        holds = holds and not tally.failures
    return holds
