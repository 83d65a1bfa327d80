"""Real processes that share a journal: one pays, whoever dies or is halted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
import sniffio

from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator, Fault, serve

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = [
    pytest.mark.usefixtures("warm_programs"),
    pytest.mark.real_time,
    pytest.mark.sampled(2),
]

CREATE = "/v1/generations"
ROOT = Path(__file__).parents[2]


@contextmanager
def service() -> Generator[tuple[Emulator, str]]:
    """Run an emulator on a port, in its own thread."""
    emulator = Emulator(
        speed=100, queue_size=1000, audio=b"mp3", creates_per_minute=1000
    )
    urls: list[str] = []
    is_up, is_over = threading.Event(), threading.Event()

    async def main() -> None:
        async with emulator, serve(emulator) as url:
            urls.append(url)
            is_up.set()
            await anyio.to_thread.run_sync(is_over.wait)

    thread = threading.Thread(target=anyio.run, args=(main,))
    thread.start()
    assert is_up.wait(10)
    try:
        yield emulator, urls[0]
    finally:
        is_over.set()
        thread.join(10)


class Program:
    """`_keyed_program` in a process."""

    def __init__(self, url: str, journal: str, api_key: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.real_time._keyed_program",
                url,
                journal,
                api_key,
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def programs(url: str, journal: Path, emulator: Emulator) -> Generator[list[Program]]:
    started = [Program(url, str(journal), emulator.api_key) for _ in range(2)]
    try:
        yield started
    finally:
        for program in started:
            program.end()


def posts(emulator: Emulator) -> int:
    return emulator.count(method="POST", path=CREATE)


def until_posted(emulator: Emulator, number: int = 1) -> None:
    deadline = monotonic() + 30
    while posts(emulator) < number:
        assert monotonic() < deadline
        threading.Event().wait(0.02)


def test_two_processes_with_one_key_at_once_make_one_track(tmp_path: Path) -> None:
    with service() as (emulator, url):
        with programs(url, tmp_path / "tracks.db", emulator) as both:
            for number in range(5):
                for program in both:
                    program.ask(f"k{number}")
            answers = [program.answer() for program in both for _ in range(5)]
        ids: dict[str, set[str]] = {}
        for answer in answers:
            ids.setdefault(answer["key"], set()).add(answer["id"])
        assert [len(found) for found in ids.values()] == [1] * 5
        assert posts(emulator) == 5


def test_when_the_holder_is_killed_the_other_takes_over_and_pays_nothing(
    tmp_path: Path,
) -> None:
    with service() as (emulator, url):
        with programs(url, tmp_path / "tracks.db", emulator) as (first, second):
            emulator.add_fault(Fault("slow_answer", CREATE, method="POST", seconds=20))
            first.ask("k")
            until_posted(emulator)
            second.ask("k")
            first.process.kill()
            begun = monotonic()
            answer = second.answer()
            assert monotonic() - begun < 12
        assert list(emulator.tracks) == [answer["id"]]
        assert posts(emulator) == 1


def test_a_halted_holder_that_wakes_up_gets_the_track_of_its_successor(
    tmp_path: Path,
) -> None:
    with service() as (emulator, url):
        with programs(url, tmp_path / "tracks.db", emulator) as (first, second):
            emulator.add_fault(Fault("slow_answer", CREATE, method="POST", seconds=1))
            first.ask("k")
            until_posted(emulator)
            os.kill(first.process.pid, signal.SIGSTOP)
            second.ask("k")
            found = second.answer()
            os.kill(first.process.pid, signal.SIGCONT)
            assert first.answer() == found
        assert list(emulator.tracks) == [found["id"]]
        assert posts(emulator) == 1


@pytest.mark.long
def test_of_two_processes_that_resume_one_makes_what_a_third_has_left(
    tmp_path: Path,
) -> None:
    with service() as (emulator, url):
        journal = tmp_path / "tracks.db"
        with programs(url, journal, emulator) as (first, _):
            emulator.add_fault(
                Fault("slow_answer", CREATE, method="POST", seconds=20, times=3)
            )
            for number in range(3):
                first.ask(f"k{number}")
            until_posted(emulator, 3)
        with programs(url, journal, emulator) as both:
            for program in both:
                program.ask("*")
            answers: list[dict[str, Any]] = []
            for program in both:
                while not answers or answers[-1]["key"] != "*":
                    answers.append(program.answer())
                answers.append({"key": ""})
        found = {one["key"]: one["id"] for one in answers if one.get("id")}
        assert set(found) == {"k0", "k1", "k2"}
        assert sorted(found.values()) == sorted(emulator.tracks)
        assert [one["key"] for one in answers].count("k0") == 1
        assert posts(emulator) == 3


async def test_creates_cancelled_while_threads_write_the_journal_are_paid_once(
    tmp_path: Path,
) -> None:
    with service() as (emulator, url):
        async with AsyncClient(
            emulator.api_key,
            base_url=url,
            rate_limits=emulator.rate_limits,
            journal=tmp_path / "tracks.db",
        ) as client:

            async def create(key: str) -> None:
                await client.generations.create("rain", idempotency_key=key)

            await create("warm")
            for number in range(40):
                with anyio.move_on_after(number * 0.001):
                    await create(f"scope {number}")
                if sniffio.current_async_library() == "asyncio":
                    task = asyncio.ensure_future(create(f"task {number}"))
                    await asyncio.sleep(number * 0.001)
                    task.cancel()
                    await asyncio.wait([task])
            left = [entry async for entry in client.journal.entries()]
            assert {entry.state for entry in left} <= {"accepted", "unknown"}
            assert len(emulator.ledger) == len(left)
            async with anyio.create_task_group() as group:
                for entry in left:
                    group.start_soon(create, entry.key)
            assert len(emulator.ledger) == len(left)


async def test_a_key_on_the_real_clock_and_socket_costs_once(tmp_path: Path) -> None:
    with service() as (emulator, url):
        for number in range(2):
            async with AsyncClient(
                emulator.api_key,
                base_url=url,
                rate_limits=emulator.rate_limits,
                journal=tmp_path / "tracks.db",
            ) as client:
                ids: set[str] = set()

                async def create(client: AsyncClient, ids: set[str]) -> None:
                    ids.add((await client.generate("rain", idempotency_key="k")).id)

                async with anyio.create_task_group() as group:
                    for _ in range(20):
                        group.start_soon(create, client, ids)
                assert len(ids) == 1
                assert [e.state async for e in client.journal.entries()] == [
                    "completed"
                ], number
        assert posts(emulator) == 1
    assert (tmp_path / "tracks.db").stat().st_mode & 0o777 == 0o600


async def test_a_journal_in_postgres_is_given_by_its_url(postgres: str) -> None:
    facts = dict(word.split("=") for word in postgres.split())
    database = "postgresql://{user}@{host}:{port}/{dbname}".format(**facts)
    with service() as (emulator, url):
        ids: set[str] = set()
        for _ in range(2):
            async with AsyncClient(
                emulator.api_key,
                base_url=url,
                rate_limits=emulator.rate_limits,
                journal=database,
            ) as client:
                ids.add((await client.generate("rain", idempotency_key="k")).id)
                async with client.resume_all() as outcomes:
                    assert [outcome async for outcome in outcomes] == []
        assert len(ids) == posts(emulator) == 1
