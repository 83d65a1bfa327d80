"""Async tests run twice, on asyncio and on trio, under a clock that jumps.

The longest tests, marked ``long``, run with ``pytest --long`` only: each proves with
programs, on the real clock, what others of the suite show in less time. So does what
`_sample` leaves out of many alike.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Each worker, and each program that a test starts, would compile all source again, and
# pytest would rewrite the assertions of hypothesis: so before anything is imported.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest
from hypothesis import Phase, settings

from finetuning_async._coordination import _process_memory
from finetuning_async.testing import jumping_backend
from tests._old_anyio import hand_options_to_trio
from tests._postgres_server import cluster, empty_database, new_database, programs
from tests._redis_server import program as redis_program, running
from tests._sample import of_long_runs_only
from tests._schedule import is_on_the_real_clock, schedule

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

# The phase that explains a failure traces every line of every example, failed or not,
# and takes most of the time. The example that failed is printed without it, too.
settings.register_profile(
    "suite",
    phases=[phase for phase in Phase if phase is not Phase.explain],
    deadline=None,
    max_examples=30,
)
settings.load_profile("suite")

hand_options_to_trio()

# Programs that tests interrupt would inherit it from a shell that runs pytest in the
# background.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

VERSIONS_THAT_MATTER = ("httpx", "httpcore", "anyio", "trio", "tenacity", "attrs")


TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="run the longest tests as well"
    )


def pytest_report_header() -> str:
    versions = (f"{n} {importlib.metadata.version(n)}" for n in VERSIONS_THAT_MATTER)
    return ", ".join(versions)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mark what runs on the real clock; leave out what runs with ``--long`` only."""
    for item in items:
        if is_on_the_real_clock(item.nodeid):
            item.add_marker(pytest.mark.real_time)
    if not config.getoption("--long"):
        long = of_long_runs_only(items)
        config.hook.pytest_deselected(items=list(long))
        items[:] = [item for item in items if item not in long]


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(
    report: object,
) -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """Send no keywords of what passed: a third of a report that nobody reads."""
    data = yield
    if data and isinstance(report, pytest.TestReport) and report.passed:
        data["keywords"] = {}
    return data


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Divide the tests among the workers; see `tests._schedule`."""
    return schedule(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect without collections of garbage: nearly all that is made here stays."""
    gc.disable()
    try:
        _import_in_turn(session.config)
        return (yield)
    finally:
        gc.enable()


def _import_in_turn(config: pytest.Config) -> None:
    """Import the tests before they are collected, each worker from another one on.

    Where nothing is compiled yet, as in a new clone, each worker would otherwise
    compile all of them, at the same time as the others.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None or [Path(arg).resolve() for arg in config.args] != [TESTS]:
        return
    files = sorted(TESTS.rglob("test_*.py"))
    number = int(worker["workerid"].removeprefix("gw"))
    first = len(files) * number // worker["workercount"]
    for file in files[first:] + files[:first]:
        name = ".".join(file.relative_to(TESTS.parent).with_suffix("").parts)
        # What fails or skips itself does so again when pytest imports it.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(name)


def pytest_collection_finish() -> None:
    """Let the garbage collector look at less, and less often.

    Ten thousand tests and all modules live to the end. What a test leaves in cycles is
    found by the next collections, or by those that it asks for.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """What the last tests leave open is the last one's error.

    pytest looks for it once more when all have ended, but where xdist runs them, no one
    hears of that.
    """
    yield
    gc.collect()
    for thread in threading.enumerate():
        # pytest-timeout's, where there are no signals, ends by itself.
        is_timer = isinstance(thread, threading.Timer)
        if thread is threading.main_thread() or thread.daemon or is_timer:
            continue
        thread.join(5)  # the exit of the interpreter would wait for it for ever
        assert not thread.is_alive(), f"{thread.name} was left"


@pytest.fixture(autouse=True)
def _limits_of_no_other_test() -> None:
    """Limits belong to the process, and tests may ask as often as they like."""
    _process_memory._accounts.clear()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return jumping_backend(request.param)


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[str]:
    """How to connect to a PostgreSQL that is started for this session."""
    if programs() is None:
        pytest.skip("no PostgreSQL is installed (Debian: apt-get install postgresql)")
    with cluster() as conninfo:
        yield conninfo


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """How to connect to a Redis that is started for this session."""
    if redis_program() is None:
        pytest.skip("no Redis is installed (Debian: apt-get install redis-server)")
    with running() as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_database(postgres_cluster: str) -> str:
    """How to connect to a database that one test uses at a time."""
    return new_database(postgres_cluster, "tests")


@pytest.fixture
def postgres(postgres_database: str) -> Iterator[str]:
    """How to connect to an empty database."""
    yield postgres_database
    empty_database(postgres_database)
