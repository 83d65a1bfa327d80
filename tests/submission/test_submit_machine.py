"""A state machine: creates, faults, cancellations and the close, in any order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from benchmarks.proofs._audit import Create, Log, balance, leftovers
from benchmarks.proofs._schedule import CREATE, GET_FAULTS, POST_FAULTS, START
from finetuning_async import AsyncClient, FinetuningError, Generation
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.testing import JumpingEventLoop
from tests._emulated_client import Cookieless

if TYPE_CHECKING:
    import random


class Creates(RuleBasedStateMachine):
    """A client of the emulator, in an asyncio loop that the test drives."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=JumpingEventLoop)
        self.creates: list[Create] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.log = Log()

    @initialize(
        queue_size=st.sampled_from([1, 2, 5]),
        latency=st.sampled_from([(0.0, 0.0), (0.1, 0.4)]),
        rewrite=st.booleans(),
    )
    def begin(
        self, queue_size: int, latency: tuple[float, float], *, rewrite: bool
    ) -> None:
        self.emulator = Emulator(
            queue_size=queue_size,
            latency=latency,
            rewrite_prompts=rewrite,
            start_time=START,
            generation_time=(20, 60),
            audio=b"mp3",
        )
        self.log.__enter__()
        self.runner.run(self._begin())

    async def _begin(self) -> None:
        self.up, self.stop = asyncio.Event(), asyncio.Event()
        self.host = asyncio.ensure_future(self._host())
        await self.up.wait()

    async def _host(self) -> None:
        """Keeps open what must be entered and left in one task."""
        async with (
            self.emulator,
            Cookieless(transport=self.emulator.transport()) as http,
            AsyncClient(
                self.emulator.api_key,
                base_url=self.emulator.base_url,
                http_client=http,
                rate_limits=self.emulator.rate_limits,
            ) as client,
        ):
            self.client = client
            self.up.set()
            await self.stop.wait()

    @rule(
        seed=st.sampled_from([None, None, 7]),
        resubmits=st.booleans(),
        timeout=st.sampled_from([None, None, 0.3, 20.0]),
    )
    def create(
        self, seed: int | None, timeout: float | None, *, resubmits: bool
    ) -> None:
        create = Create(f"song {len(self.creates)}.", resubmits)
        self.creates.append(create)
        on_unknown = "resubmit" if resubmits else "raise"
        call = self._create(create, seed=seed, timeout=timeout, on_unknown=on_unknown)
        self.tasks.append(self.runner.get_loop().create_task(call))

    async def _create(self, create: Create, **options: Any) -> None:
        async def on_submitted(track: Generation) -> None:
            create.reported.append(track)
            await asyncio.sleep(0.1)

        try:
            create.returned = await self.client.generations.create(
                create.prompt, on_submitted=on_submitted, **options
            )
        except FinetuningError as error:
            create.error = error
        except BaseException as error:
            create.error = error
            raise

    @rule(fault=st.sampled_from(POST_FAULTS), skip=st.integers(0, 2))
    def break_a_create(self, fault: dict[str, Any], skip: int) -> None:
        self.emulator.add_fault(Fault(path=CREATE, method="POST", skip=skip, **fault))

    @rule(fault=st.sampled_from(GET_FAULTS), times=st.integers(1, 5))
    def break_lists(self, fault: dict[str, Any], times: int) -> None:
        self.emulator.add_fault(Fault(path=CREATE, method="GET", times=times, **fault))

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.2, 1.0, 10.0, 45.0]))
    def wait(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @rule(choice=st.randoms(use_true_random=False), twice=st.booleans())
    def cancel(self, choice: random.Random, *, twice: bool) -> None:
        under_way = [task for task in self.tasks if not task.done()]
        if under_way:
            task = choice.choice(under_way)
            task.cancel()
            if twice:
                self.runner.run(asyncio.sleep(0.05))
                task.cancel()

    @invariant()
    def credits_are_tracks(self) -> None:
        if hasattr(self, "emulator"):
            self.runner.run(self._count())

    async def _count(self) -> None:
        assert len(self.emulator.ledger) == len(self.emulator.tracks)

    def teardown(self) -> None:
        if not hasattr(self, "emulator"):
            return
        try:
            self.runner.run(self._end())
        finally:
            self.log.__exit__()
            self.runner.close()

    async def _end(self) -> None:
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=900)
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        await asyncio.sleep(100)  # let everything that is late arrive
        wrong = balance(self.emulator, self.creates, self.log)
        wrong += leftovers(self.client)
        self.stop.set()
        await self.host
        assert wrong == []


TestCreates = Creates.TestCase
TestCreates.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
