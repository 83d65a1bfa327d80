"""Every public name is described, and its examples run, on both loops."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from finetuning_async.emulator import Emulator, Fault
from finetuning_async.testing import jumping_backend
from tests._served_emulator import served
from tests.release._examples import (
    AUDIO,
    Condition,
    Example,
    examples,
    examples_in,
    run,
    run_blocking,
    run_plainly,
)
from tests.release._names import first_names
from tests.release._parameters import NOTHING, UNIT, is_number, options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES: Final = first_names()
METHODS: Final = [method for name in NAMES for method in name.methods()]
EXAMPLES: Final = [
    example
    for example in examples()
    if not (example.makes_an_app or example.is_a_suite or "demo" in example.where)
]
CALLED_BY_US: Final = {
    "finetuning_async.batch.Results.put",
    "finetuning_async.batch.Results.end",
    "finetuning_async.emulator.Emulator.fault_at_connect",
    "finetuning_async.emulator.Emulator.start_exchange",
    "finetuning_async.emulator.Emulator.wall_start",
    "finetuning_async.emulator.EmulatorSettings.wall_start",
    "finetuning_async.emulator.Fault.strikes",
    "finetuning_async.emulator.Job.status_at",
    "finetuning_async.journal.JournalStore.beat",
    "finetuning_async.journal.JournalStore.book",
    "finetuning_async.journal.JournalStore.claim",
    "finetuning_async.journal.JournalStore.commit",
    "finetuning_async.journal.JournalStore.find",
    "finetuning_async.journal.JournalStore.find_key",
    "finetuning_async.journal.JournalStore.find_track",
    "finetuning_async.journal.JournalStore.is_alive",
    "finetuning_async.journal.JournalStore.newest",
    "finetuning_async.journal.JournalStore.page",
    "finetuning_async.journal.JournalStore.pending",
    "finetuning_async.journal.JournalStore.read_note",
    "finetuning_async.journal.JournalStore.record",
    "finetuning_async.journal.JournalStore.remove_holder",
    "finetuning_async.journal.JournalStore.swap_note",
    "finetuning_async.journal.JournalStore.tracks",
    "finetuning_async.journal.JournalStore.unbook",
    "finetuning_async.journal.JournalStore.usage",
    "finetuning_async.journal.JournalStore.write_note",
    "finetuning_async.postgres.PostgresRateLimiter.bind",
    "finetuning_async.postgres.PostgresRateLimiter.new_coordinator",
    "finetuning_async.redis.RedisRateLimiter.bind",
    "finetuning_async.redis.RedisRateLimiter.new_coordinator",
    "finetuning_async.shared.SharedRateLimiter.bind",
    "finetuning_async.shared.SharedRateLimiter.new_coordinator",
    "finetuning_async.testing.JumpingEventLoop.time",
    "finetuning_async.testing.JumpingEventLoop.run_in_executor",
    "finetuning_async.testing.JumpingEventLoop.shutdown_default_executor",
    "finetuning_async.webhooks.TokenFilter.filter",
}
"""Public methods that a caller has no need of."""

FOR_EVER: Final[Any] = None
CONDITIONS: Final = {
    "APIConnectionError": Condition(fault=Fault("connect_refused", times=FOR_EVER)),
    "APIResponseError": Condition(fault=Fault("html", times=FOR_EVER)),
    "APITimeoutError": Condition(fault=Fault("delay", seconds=60, times=FOR_EVER)),
    "GenerationFailedError": Condition({"failure_rate": 1.0}),
    "InsufficientCreditsError": Condition({"credits": 0}),
    "InternalServerError": Condition(fault=Fault("status", times=FOR_EVER)),
    "PermissionDeniedError": Condition({"tier": "free"}),
    "QueueFullError": Condition({"queue_size": 1}),
    "RateLimitError": Condition({"daily_effects": 0}),
    "SubmissionUnknownError": Condition(
        fault=Fault("lost_before_commit", method="POST", times=FOR_EVER)
    ),
    "WaitTimeoutError": Condition({"generation_time": (20.0, 30.0)}),
}


def test_every_public_name_is_described_and_has_an_example() -> None:
    assert [str(name) for name in NAMES if not name.docstring] == []
    assert [str(name) for name in NAMES if not list(examples_in(name.docstring))] == []


def test_every_parameter_of_a_public_call_is_described() -> None:
    silent = [
        f"{call}({parameter})"
        for call in (*NAMES, *METHODS)
        if inspect.isfunction(call.value) and str(call) not in CALLED_BY_US
        for parameter in set(inspect.signature(call.value).parameters) - {"self"}
        if not re.search(rf"\b{parameter}\b", call.docstring)
    ]
    assert silent == []


def test_every_number_has_a_unit_or_a_range_and_what_none_means() -> None:
    numbers = [one for one in options() if is_number(one[1])]
    assert len(numbers) > 150
    unclear = [
        f"{call}({parameter.name}): {text}"
        for call, parameter, text in numbers
        if not UNIT.search(text)
        or (parameter.default is None and not NOTHING.search(text))
    ]
    assert unclear == []


def test_every_public_method_is_called_in_an_example() -> None:
    documents = [name.docstring for name in (*NAMES, *METHODS)]
    text = "\n".join(example for doc in documents for example in examples_in(doc))
    unseen = [
        str(method)
        for method in METHODS
        if f".{method.name.rpartition('.')[2]}(" not in text
    ]
    assert [name for name in unseen if name not in CALLED_BY_US] == []


def those(*, that_await: bool = False, that_block: bool = False) -> list[Any]:
    return [
        pytest.param(example, id=example.where)
        for example in EXAMPLES
        if (example.awaits, example.blocks) == (that_await, that_block)
    ]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOOK_SECRET", "a_secret_of_thirty_two_characters")


@pytest.mark.parametrize("example", those())
def test_an_example_that_awaits_nothing_runs(
    example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_plainly(example, monkeypatch)


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Emulator, str]]:
    quick: dict[str, Any] = {"audio": AUDIO, "generation_time": (3.0, 4.0)}
    with served("Calm", "Loud", **quick) as (emulator, url):
        yield emulator, url


@pytest.mark.parametrize("example", those(that_block=True))
def test_an_example_of_the_blocking_client_runs(
    example: Example, service: tuple[Emulator, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, url = service
    monkeypatch.setenv("FINETUNING_API_KEY", emulator.api_key)
    monkeypatch.setenv("FINETUNING_BASE_URL", url)
    run_blocking(example, emulator)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("example", those(that_await=True))
def test_an_example_runs(
    example: Example,
    backend: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = example.name
    loop, options = jumping_backend(backend)
    if name.name == "serve":  # a port needs the real clock, and uvicorn needs asyncio
        loop, options = "asyncio", {}
    condition = CONDITIONS.get(name.name, Condition())
    anyio.run(
        run,
        example,
        condition,
        monkeypatch,
        backend=loop,
        backend_options=dict(options),
    )
    if name.is_error or example.listens:
        assert capsys.readouterr().out, "what it is about did not come, or is not shown"
