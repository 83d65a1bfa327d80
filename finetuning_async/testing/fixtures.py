"""Fixtures for your own test suite: `emulator`, `client` and `jumping_clock`.

In ``conftest.py``, with anyio's pytest plugin and ``anyio_mode = "auto"``:

    pytest_plugins = ["finetuning_async.testing.fixtures"]

    import pytest
    from finetuning_async.testing import jumping_backend

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        return jumping_backend(request.param)  # a clock that jumps; or a plain name

Then each test has its own account, with 2000 credits:

    async def test_a_track_costs_a_credit(emulator, client):
        await client.generate("lofi chill piano night")
        assert len(emulator.ledger) == 1

With pytest-asyncio 1.4 or newer the first line is enough: a test that uses one of these
fixtures runs in a loop whose clock jumps. The two plugins cannot run the same test.

Override `emulator_settings` to change the service.

`jumping_clock` is for tests that need the clock and nothing else of this package; it
needs no extra. It lets pytest-asyncio run a test in such a loop; under anyio's plugin,
where the fixture `anyio_backend` decides, it makes sure of that. The page
``guides/virtual-time.md`` says what such a clock does, and what it cannot do.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

from finetuning_async.testing._clock import JumpingEventLoop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from finetuning_async._client import AsyncClient
    from finetuning_async.emulator import Emulator

T = TypeVar("T")

NAME: Final = "finetuning_async.testing.fixtures"


OURS: Final = frozenset({"emulator", "client", "jumping_clock"})
"""Fixtures whose tests run under a clock that jumps."""


@pytest.fixture
def jumping_clock(request: pytest.FixtureRequest) -> None:
    """A clock that jumps over waits, for this test; it has no value."""
    if _uses_pytest_asyncio(request.node):
        _check_plugin(request)
    elif "anyio_backend" in _fixtures_of(request.node):
        backend = request.getfixturevalue("anyio_backend")
        _, options = (backend, {}) if isinstance(backend, str) else backend
        if not _jumps(options):
            wrong = "a clock that jumps needs return jumping_backend(...)"
            pytest.fail(
                f"{NAME}: {wrong} from the fixture anyio_backend", pytrace=False
            )


@pytest.fixture
def emulator_settings() -> dict[str, Any]:
    """The keyword arguments of `Emulator`; none by default."""
    return {}


async def _emulator(
    request: pytest.FixtureRequest, emulator_settings: dict[str, Any]
) -> AsyncGenerator[Emulator]:
    """The service, in this process, for one test."""
    from finetuning_async.emulator import Emulator  # needs an extra

    if _uses_pytest_asyncio(request.node):
        _check_plugin(request)
    service = Emulator(**emulator_settings)
    async with _in_one_task(service) if _uses_pytest_asyncio(request.node) else service:
        yield service


async def _client(emulator: Emulator) -> AsyncGenerator[AsyncClient]:
    """A client of the emulator."""
    import httpx

    from finetuning_async._client import AsyncClient

    async with (
        httpx.AsyncClient(transport=emulator.transport()) as http,
        AsyncClient(
            emulator.api_key,
            base_url=emulator.base_url,
            rate_limits=emulator.rate_limits,
            http_client=http,
        ) as client,
    ):
        yield client


emulator: Any = pytest.fixture(name="emulator")(_emulator)
client: Any = pytest.fixture(name="client")(_client)


@asynccontextmanager
async def _in_one_task(manager: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a manager in one task.

    A task group must be left by the task that entered it, but pytest-asyncio sets a
    fixture up in one task and tears it down in another.
    """
    value: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def hold() -> None:
        async with manager as entered:
            value.set_result(entered)
            await leave.wait()

    task = asyncio.create_task(hold())
    either: list[asyncio.Future[Any]] = [task, value]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    try:
        if value.done():
            yield value.result()
    finally:
        leave.set()
        await task


# Hooks for pytest-asyncio.


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let a test that uses these fixtures run in a loop whose clock jumps."""
    if _uses_our_fixtures(item):
        return {"jumping": JumpingEventLoop}
    return {"usual": asyncio.new_event_loop}  # the hook must name a loop for every test


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have the fixtures set up by the plugin that runs the test, in its loop."""
    if not _uses_our_fixtures(item):
        return
    uses_pytest_asyncio = _uses_pytest_asyncio(item)
    if uses_pytest_asyncio:
        _check_plugins(item)
    for fixture in (_emulator, _client):
        # What `pytest_asyncio.fixture` would set, but for this test only.
        vars(fixture)["_force_asyncio_fixture"] = uses_pytest_asyncio
        vars(fixture)["_loop_scope"] = getattr(item, "_loop_scope", None)


def _check_plugin(request: pytest.FixtureRequest) -> None:
    """Fail unless this module is a plugin: only then its hooks are called."""
    if not request.config.pluginmanager.has_plugin(NAME):
        pytest.fail(f'pytest-asyncio needs pytest_plugins = ["{NAME}"]', pytrace=False)


def _jumps(options: Mapping[str, Any]) -> bool:
    """Whether anyio's options for an event loop are of `jumping_backend`."""
    return options.get("loop_factory") is JumpingEventLoop or "clock" in options


def _check_plugins(item: pytest.Item) -> None:
    if "anyio_backend" in _fixtures_of(item):
        wrong = (
            "both pytest-asyncio and anyio's plugin would run this test: set"
            ' asyncio_mode = "strict", or remove its anyio_backend and anyio mark'
        )
    elif not item.config.hook.pytest_asyncio_loop_factories.has_spec():
        wrong = (
            "a clock that jumps needs pytest-asyncio 1.4 or newer: update it, or use"
            ' anyio\'s plugin, with anyio_mode = "auto" instead of asyncio_mode'
        )
    else:
        return
    pytest.fail(f"{NAME}: {wrong}", pytrace=False)


def _uses_pytest_asyncio(item: Any) -> bool:
    """Whether pytest-asyncio runs a test."""
    if not item.config.pluginmanager.has_plugin("asyncio"):
        return False
    from pytest_asyncio import is_async_test

    return bool(is_async_test(item))


def _uses_our_fixtures(item: pytest.Item) -> bool:
    return not OURS.isdisjoint(_fixtures_of(item))


def _fixtures_of(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))
