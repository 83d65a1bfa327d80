"""Processes that share one journal, in one event loop with a virtual clock.

Each has a client of its own with an API key of its own, all of one account: so nothing
but the journal and the service connects them. A process can die at any commit, just
before or after it, and be halted: its network stands still, and it does not beat.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
import httpx

from finetuning_async import AsyncClient, FinetuningError
from finetuning_async.emulator import Emulator
from finetuning_async.testing import JumpingEventLoop
from tests._emulated_client import Cookieless

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from finetuning_async import GenerationRequest
    from finetuning_async.emulator import Job
    from finetuning_async.journal import JournalEntry, JournalStore

COMMITS: Final = frozenset({"commit"})
"""The methods of a store at which a process can be told to die."""

HEARTBEATS: Final = frozenset({"beat"})


class CrashError(Exception):
    """The process has ended."""


class MortalStore:
    """A store that fails at one of its commits, and ever after.

    Args:
        store: The real one.
        process: Whose it is.
    """

    def __init__(self, store: JournalStore, process: Process) -> None:
        self._store = store
        self._process = process

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            process = self._process
            process.check_alive()
            if name in HEARTBEATS and process.is_halted:
                return None
            if name not in COMMITS or not process.is_last_commit():
                return method(*args, **kwargs)
            if process.dies_after:
                method(*args, **kwargs)
            process.die()
            raise CrashError

        return call


@attrs.define(eq=False)
class MortalJournal:
    """A `JournalBackend` of one process."""

    process: Process
    open_store: Callable[[str], JournalStore]
    settle: float = 300.0
    look_every: float = 30.0

    def open(self, account: str) -> Any:
        self.process.check_alive()
        store = self.open_store(account)
        self.process.stores.append(store)
        return MortalStore(store, self.process)

    async def aclose(self) -> None:
        pass


class MortalTransport(httpx.AsyncBaseTransport):
    """The network of one process: it stands still while the process is halted."""

    def __init__(self, inner: httpx.AsyncBaseTransport, process: Process) -> None:
        self._inner = inner
        self._process = process

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        halts_at = self._process.halts_at if request.method == "POST" else None
        if halts_at == "create":
            self._process.awake.clear()
        await self._process.awake.wait()
        self._process.check_alive()
        response = await self._inner.handle_async_request(request)
        if halts_at == "response":
            self._process.awake.clear()
        await self._process.awake.wait()
        self._process.check_alive()
        return response


class Process:
    """A client with a key of its own, and the calls that it makes.

    Args:
        api_key: The key.
        service: The service.
        open_store: Opens the journal of an account.
        request_timeout: Of its client, in seconds.

    Attributes:
        is_dead: Whether it has ended.
        dies_in: Commits until it dies, the last one included; `None` for never.
        dies_after: Whether that commit is still made.
        halts_at: Where it is halted: before the first byte of a ``create``, or before
            it sees the ``response`` to one; `None` for nowhere.
        stores: What it has open.
        tasks: Its calls.
        awake: Set unless it is halted.
    """

    def __init__(
        self,
        api_key: str,
        service: Emulator,
        open_store: Callable[[str], JournalStore],
        request_timeout: float,
    ) -> None:
        service.add_key(api_key)
        self.is_dead = False
        self.dies_in: int | None = None
        self.dies_after = False
        self.halts_at: Literal["create", "response"] | None = None
        self.stores: list[JournalStore] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.awake = asyncio.Event()
        self.awake.set()
        self.client = AsyncClient(
            api_key,
            base_url=service.base_url,
            rate_limits=None,
            request_timeout=request_timeout,
            http_client=Cookieless(
                transport=MortalTransport(service.transport(), self)
            ),
            journal=MortalJournal(self, open_store),
        )

    @property
    def is_halted(self) -> bool:
        return not self.awake.is_set()

    def check_alive(self) -> None:
        if self.is_dead:
            raise CrashError

    def is_last_commit(self) -> bool:
        if self.dies_in is None:
            return False
        self.dies_in -= 1
        return self.dies_in == 0

    def die(self) -> None:
        """End at once: nothing is written, sent or received any more."""
        self.is_dead = True
        self.awake.set()
        for task in self.tasks:
            task.cancel()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Make a call of this process."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        return task

    async def end(self) -> None:
        """Let no call outlive the test."""
        self.die()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for store in self.stores:
            store.close()


class World:
    """The service, the processes, and what their callers were told.

    Args:
        open_store: Opens the journal of an account, given a clock.
        request_timeout: Of each client, in seconds.
        settings: Of the emulator.

    Attributes:
        told: The ids that were returned for each key.
        errors: What was raised for each key.
        unexpected: What no call should raise.
    """

    def __init__(
        self,
        open_store: Callable[[str, Callable[[], float]], JournalStore],
        request_timeout: float = 30.0,
        **settings: Any,
    ) -> None:
        self._open = open_store
        self._request_timeout = request_timeout
        self._keys = (f"ft_live_{number:032d}" for number in itertools.count(1))
        self._runner = asyncio.Runner(loop_factory=JumpingEventLoop)
        self.told: dict[str, set[str]] = defaultdict(set)
        self.errors: dict[str, list[BaseException]] = defaultdict(list)
        self.unexpected: list[BaseException] = []
        self.service = Emulator(
            **{"audio": b"ID3", "latency": (0.05, 0.2), "queue_size": 100, **settings}
        )
        self._started = self.service.wall_start().timestamp()
        self._closing = asyncio.Event()
        self.run(self._serve())
        self.processes = [self.new_process() for _ in range(2)]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop, while all else in it goes on."""
        # Not the runner's own `run`, which sets a signal handler each time.
        return self._runner.get_loop().run_until_complete(work)

    async def _serve(self) -> None:
        is_open = asyncio.Event()

        async def serve() -> None:
            async with self.service:
                is_open.set()
                await self._closing.wait()

        self._serving = asyncio.create_task(serve())
        await is_open.wait()

    async def _stop(self) -> None:
        self._closing.set()
        await self._serving

    def new_process(self) -> Process:
        async def make() -> Process:
            loop = asyncio.get_running_loop()

            def clock() -> float:
                return self._started + loop.time()

            return Process(
                next(self._keys),
                self.service,
                lambda name: self._open(name, clock),
                self._request_timeout,
            )

        process: Process = self.run(make())
        return process

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.run(asyncio.sleep(seconds))

    def restart(self, number: int) -> None:
        """Replace a process by a new one."""
        self.run(self.processes[number].end())
        self.processes[number] = self.new_process()

    def ask(
        self,
        number: int,
        request: GenerationRequest,
        within: float | None = None,
        *,
        waits: bool = False,
    ) -> asyncio.Task[None]:
        """Start a call of a process; `told` and `errors` say what became of it.

        Args:
            number: The process.
            request: What to create; has a key.
            within: Seconds after which its caller cancels it; `None` for never.
            waits: Whether it waits for the track's end.
        """
        process = self.processes[number]

        async def start() -> asyncio.Task[None]:
            return process.start(self._ask(process, request, within, waits=waits))

        task: asyncio.Task[None] = self.run(start())
        return task

    async def _ask(
        self,
        process: Process,
        request: GenerationRequest,
        within: float | None,
        *,
        waits: bool,
    ) -> None:
        client, key = process.client, str(request.idempotency_key)
        options = attrs.asdict(request)
        tags = options.pop("tags", None) or request.prompt
        make = client.generate if waits else client.generations.create
        try:
            async with asyncio.timeout(within):
                track = await make(tags, **options)
        except (FinetuningError, TimeoutError) as error:
            if not process.is_dead:
                self.errors[key].append(error)
        except (CrashError, asyncio.CancelledError):
            assert process.is_dead, key
        except Exception as error:
            if not process.is_dead:
                self.unexpected.append(error)
        else:
            self.told[key].add(track.id)

    def resume(self, number: int) -> None:
        """Let a process resume all that was left."""
        process = self.processes[number]

        async def resume() -> None:
            try:
                async with process.client.resume_all() as outcomes:
                    async for outcome in outcomes:
                        key = str(outcome.request.idempotency_key)
                        if outcome.generation is not None:
                            self.told[key].add(outcome.generation.id)
            except (CrashError, asyncio.CancelledError):
                assert process.is_dead
            except FinetuningError as error:
                self.errors["resume"].append(error)

        async def start() -> None:
            process.start(resume())

        self.run(start())

    # What is known in the end.

    def entries(self) -> dict[str, JournalEntry]:
        """The journal's entries by key."""
        found: dict[str, JournalEntry] = {}

        async def read() -> None:
            up = [p for p in self.processes if not (p.is_dead or p.is_halted)]
            async for entry in up[0].client.journal.entries():
                found[entry.key] = entry

        self.run(read())
        return found

    def tracks(self, prompt: str) -> list[Job]:
        """The tracks that the service has made for a prompt."""
        jobs = self.service.tracks.values()
        return [job for job in jobs if job.prompt == prompt]

    def spent(self) -> int:
        """The credits that the service has charged."""

        async def read() -> int:  # the ledger is as of now, by the loop's clock
            return -sum(entry.amount for entry in self.service.ledger)

        spent: int = self.run(read())
        return spent

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            self.run(process.end())
        self.run(self._stop())
        self._runner.close()
