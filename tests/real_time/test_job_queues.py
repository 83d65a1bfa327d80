"""The programs for SAQ and for Celery make a batch, also when a worker is killed."""

from __future__ import annotations

import ast
import os
import re
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from finetuning_async.batch import BatchJournal
from finetuning_async.emulator import Emulator, Fault, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import Process

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = ROOT / "tests" / "programs"
GUIDE: Final = ROOT / "finetuning_async" / "guides" / "job-queues.md"
BLOCKS: Final = re.findall(
    r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE
)
OTHER_BLOCKS: Final = [block for block in BLOCKS if not block.startswith('"""')]
CREATES: Final = "/v1/generations"
SONG: Final = b"ID3" + bytes(5000)
ITEMS: Final = 5

SAQ: Final = """
import asyncio, functools, saq_workers as s
from saq import CronJob
from saq.worker import start

s.HEARTBEAT = 2
often = [CronJob(s.queue_jobs, cron="* * * * * */3")]
s.settings |= {"concurrency": 2, "timers": {"sweep": 1}, "cron_jobs": often}
s.queue.sweep = functools.partial(s.queue.sweep, abort=0.2)
"""
"""The program with shorter times."""

SAQ_ORDER: Final = "asyncio.run(s.order())"
SAQ_START: Final = "start('saq_workers.settings')"

CELERY_ORDER: Final = "import celery_workers as c; c.order()"
CELERY: Final = """
import celery_workers as c

c.app.conf.broker_transport_options = {"visibility_timeout": 1}
"""
CELERY_START: Final = "c.app.worker_main(['worker', '--pool=threads', '-c3'])"
CELERY_IN_ONE_PROCESS: Final = """
import time, anyio
from celery.contrib.testing.worker import start_worker

threads = {"pool": "threads", "concurrency": 5, "perform_ping_check": False}
with start_worker(c.app, **threads):
    c.order()
    while anyio.run(c.journal.unfinished):
        time.sleep(0.02)
"""
"""Celery's broker in memory is one of a process, which also queues the jobs."""

ASKS_TO_BE_RUN_AGAIN: Final = """
import time
from pathlib import Path
from finetuning_async.batch import Progress

async def process_item(number, first=m.worker.process_item):
    with Path("calls").open("a") as calls:
        print(number, time.monotonic(), file=calls)
    if Path("calls").read_text().count(f"{number} ") < 2:
        (item, *_) = await m.journal.items()
        return Progress(item=item, again_in=1.3)
    return await first(number)

m.worker.process_item = process_item
"""
"""Lets each item pause once, and writes down when it is processed."""


pytestmark = [
    pytest.mark.usefixtures("warm_programs"),
    pytest.mark.timeout(150),  # several processes start one after another
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


@asynccontextmanager
async def service(
    folder: Path, **more: str
) -> AsyncGenerator[tuple[Emulator, dict[str, str]]]:
    """An emulator on a port, and the environment of programs that use it."""
    path = [str(PROGRAMS), str(ROOT), os.environ.get("PYTHONPATH", "")]
    emulator = Emulator(speed=60, generation_time=(20, 30), audio=SONG)
    async with emulator, serve(emulator) as url:
        yield (
            emulator,
            {
                **os.environ,
                "FINETUNING_API_KEY": emulator.api_key,
                "FINETUNING_BASE_URL": url,
                "PYTHONPATH": os.pathsep.join(path),
                "XDG_STATE_HOME": str(folder),
                **more,
            },
        )


@asynccontextmanager
async def opened(folder: Path, location: str) -> AsyncGenerator[BatchJournal]:
    """The programs' journal, for the test to look at."""
    is_file = "://" not in location
    journal = BatchJournal(folder / location if is_file else location)
    try:
        yield journal
    finally:
        await journal.aclose()


@asynccontextmanager
async def running(
    folder: Path, env: dict[str, str], program: str
) -> AsyncGenerator[Process]:
    """A Python program, killed at the end if it has not ended."""
    command = [sys.executable, "-c", program]
    with (folder / "log").open("a") as log:
        process = await anyio.open_process(
            command, cwd=folder, env=env, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await process.aclose()


async def run(folder: Path, env: dict[str, str], program: str) -> None:
    """Run a program that must succeed."""
    async with running(folder, env, program) as process:
        await process.wait()
    assert process.returncode == 0, log_of(folder)


def log_of(folder: Path) -> str:
    return (folder / "log").read_text(encoding="utf-8")


async def kill_in_the_middle(
    folder: Path, env: dict[str, str], program: str, journal: BatchJournal
) -> None:
    """Kill a program with SIGKILL while the response to a create is on its way."""
    async with running(folder, env, program) as worker:
        with anyio.fail_after(40):
            while not (await journal.summary()).in_doubt:  # noqa: ASYNC110 - as below
                await anyio.sleep(0.02)
        await anyio.sleep(0.2)
        worker.kill()
    assert (await journal.summary()).in_doubt


async def end(folder: Path, journal: BatchJournal) -> None:
    """Wait until no item is left that has not ended."""
    with anyio.move_on_after(90) as scope:
        while await journal.unfinished():  # noqa: ASYNC110 - another process works
            await anyio.sleep(0.05)
    assert not scope.cancelled_caught, log_of(folder)


async def check(folder: Path, emulator: Emulator, journal: BatchJournal) -> None:
    """Every item is there, each paid once, and no request was refused."""
    items = await journal.items("album")
    assert [item.state for item in items] == ["downloaded"] * ITEMS, log_of(folder)
    assert {item.generation_id for item in items} == set(emulator.tracks)
    assert -sum(entry.amount for entry in emulator.ledger) == ITEMS
    assert emulator.count(status=429) == 0
    files = sorted((folder / "music" / "album").iterdir())
    assert [path.name for path in files] == sorted(
        Path(item.file).name for item in items
    )
    assert {path.read_bytes() for path in files} == {SONG}


def slow_response() -> Fault:
    """Creates whose worker is killed before it knows of the track."""
    return Fault("slow_answer", CREATES, method="POST", seconds=1.0, times=None)


def pauses(folder: Path) -> list[float]:
    """Seconds between the two times that each item was processed."""
    lines = (folder / "calls").read_text().splitlines()
    moments: dict[str, list[float]] = {}
    for number, moment in (line.split() for line in lines):
        moments.setdefault(number, []).append(float(moment))
    return [second - first for first, second, *_ in moments.values()]


@pytest.mark.long
@pytest.mark.parametrize("jobs", ["postgres", "redis"])
async def test_saq_workers_make_a_batch_while_one_is_killed(
    tmp_path: Path, database_url: str, jobs: str, request: pytest.FixtureRequest
) -> None:
    more = {"DATABASE_URL": database_url}
    if jobs == "redis":
        more["QUEUE_URL"] = request.getfixturevalue("redis_url")
    async with service(tmp_path, **more) as (emulator, env):
        await run(tmp_path, env, SAQ + SAQ_ORDER)
        async with opened(tmp_path, database_url) as journal:
            emulator.add_fault(slow_response())
            await kill_in_the_middle(tmp_path, env, SAQ + SAQ_START, journal)
            async with running(tmp_path, env, SAQ + SAQ_START) as worker:
                await end(tmp_path, journal)
                worker.terminate()
                await worker.wait()
            assert worker.returncode == 0
            await check(tmp_path, emulator, journal)


@pytest.mark.long
async def test_saq_runs_a_job_again_when_its_item_asks_for_it(
    tmp_path: Path, database_url: str
) -> None:
    program = SAQ + "m = s\n" + ASKS_TO_BE_RUN_AGAIN + SAQ_START
    async with service(tmp_path, DATABASE_URL=database_url) as (emulator, env):
        await run(tmp_path, env, SAQ + SAQ_ORDER)
        async with opened(tmp_path, database_url) as journal:
            async with running(tmp_path, env, program):
                await end(tmp_path, journal)
            await check(tmp_path, emulator, journal)
        assert len(pauses(tmp_path)) == ITEMS
        assert min(pauses(tmp_path)) >= 1.3


async def test_celery_makes_a_batch_with_one_client_for_all_threads(
    tmp_path: Path,
) -> None:
    async with service(tmp_path) as (emulator, env):
        await run(tmp_path, env, CELERY + CELERY_IN_ONE_PROCESS)
        async with opened(tmp_path, "tracks.db") as journal:
            await check(tmp_path, emulator, journal)
        reads = emulator.count(path=CREATES, method="GET")
        assert reads < ITEMS  # one listing shows several tracks


async def test_celery_runs_a_job_again_when_its_item_asks_for_it(
    tmp_path: Path,
) -> None:
    program = CELERY + "m = c\n" + ASKS_TO_BE_RUN_AGAIN + CELERY_IN_ONE_PROCESS
    async with service(tmp_path) as (emulator, env):
        await run(tmp_path, env, program)
        async with opened(tmp_path, "tracks.db") as journal:
            await check(tmp_path, emulator, journal)
        assert len(pauses(tmp_path)) == ITEMS
        assert min(pauses(tmp_path)) >= 1.3


@pytest.mark.long
async def test_celery_workers_make_a_batch_while_one_is_killed(
    tmp_path: Path, redis_url: str
) -> None:
    async with service(tmp_path, BROKER_URL=redis_url) as (emulator, env):
        await run(tmp_path, env, CELERY_ORDER)
        async with opened(tmp_path, "tracks.db") as journal:
            emulator.add_fault(slow_response())
            await kill_in_the_middle(tmp_path, env, CELERY + CELERY_START, journal)
            await anyio.sleep(1.5)  # a worker looks for lost jobs as it starts
            async with running(tmp_path, env, CELERY + CELERY_START) as worker:
                await end(tmp_path, journal)
                worker.terminate()
                await worker.wait()
            assert worker.returncode == 0
            await check(tmp_path, emulator, journal)


@pytest.mark.long
async def test_a_batch_whose_broker_is_lost_is_queued_again(tmp_path: Path) -> None:
    program = CELERY + CELERY_IN_ONE_PROCESS
    async with service(tmp_path) as (emulator, env):
        emulator.add_fault(slow_response())
        async with opened(tmp_path, "tracks.db") as journal:
            await kill_in_the_middle(tmp_path, env, program, journal)
            await run(tmp_path, env, program)
            await check(tmp_path, emulator, journal)


@pytest.mark.parametrize("name", ["saq_workers", "celery_workers"])
def test_the_guide_shows_the_program_that_is_tested(name: str) -> None:
    source = (PROGRAMS / f"{name}.py").read_text(encoding="utf-8")
    assert source in BLOCKS
    body = [
        node
        for node in ast.parse(source).body[1:]
        if not isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert sum(len(ast.unparse(node).splitlines()) for node in body) <= 40


@pytest.mark.parametrize("block", OTHER_BLOCKS)
async def test_another_block_of_the_guide_runs(tmp_path: Path, block: str) -> None:
    async with service(tmp_path) as (_, env):
        await run(tmp_path, env, block)


@pytest.fixture
def database_url(postgres: str) -> str:
    """An empty database, as a URL."""
    facts = dict(pair.split("=") for pair in postgres.split())
    return f"postgresql://{facts['user']}@{facts['host']}:{facts['port']}/{facts['dbname']}"
