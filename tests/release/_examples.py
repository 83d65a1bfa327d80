"""The examples in docstrings, and how one is run.

An example is a section ``Example:``, or an indented block below a paragraph. It sees
every name of `finetuning_async`, `anyio`, and `client`; whatever else it needs it
imports. If it awaits something, every client reaches an emulator. One that makes an
``app`` is served on a port, see `tests.real_time.test_docstring_apps`; one that is a
test is given to pytest, see `tests.real_time.test_suites`.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

import finetuning_async
from finetuning_async._http._http_clients import ClientPool
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.sync import Client
from tests._emulated_client import Cookieless
from tests.release._names import Name, first_names, modules

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    import pytest

AUDIO: Final = bytes(1000)
"""What tracks sound like; to render them would take most of the time."""

EXAMPLE: Final = "Example:"
SECTIONS: Final = ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:")


def examples_in(docstring: str) -> Iterator[str]:
    """The example sections of a docstring, and the blocks that stand below text."""
    block: list[str] = []
    above, gap = "", False
    for line in [*docstring.splitlines(), "."]:
        if line and not line.startswith(" "):
            if block:
                yield textwrap.dedent("\n".join(block)).rstrip() + "\n"
            block, above = [], line
        elif block or (line and _begins(above, gap=gap)):
            block.append(line)
        gap = not line


def _begins(above: str, *, gap: bool) -> bool:
    return above == EXAMPLE or (gap and above not in SECTIONS)


@attrs.frozen
class Example:
    """One example.

    Attributes:
        name: What it is an example of; a module has no name.
        where: What a test of it is called.
        text: As it stands.
    """

    name: Name
    where: str
    text: str

    @property
    def code(self) -> CodeType:
        """Its code, which may await at its top level."""
        code = compile(self.text, self.where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        assert isinstance(code, CodeType)
        return code

    @property
    def awaits(self) -> bool:
        """Whether it, or what it is about, needs an event loop."""
        return self.listens or bool(self.code.co_flags & inspect.CO_COROUTINE)

    @property
    def listens(self) -> bool:
        """Whether it has a listener for events, which shows something."""
        return "def on_event(" in self.text

    @property
    def blocks(self) -> bool:
        """Whether it is about the blocking client."""
        return self.name.module == "finetuning_async.sync"

    @property
    def makes_an_app(self) -> bool:
        """Whether it makes an application for an ASGI server."""
        return bool(re.search(r"^app = (FastAPI|Starlette)\(", self.text, re.MULTILINE))

    @property
    def is_a_suite(self) -> bool:
        """Whether it is for pytest to run."""
        return "import pytest" in self.text or "def test_" in self.text


def examples() -> list[Example]:
    """Those of all public names, their methods, and the modules."""
    names = first_names()
    methods = [method for name in names for method in name.methods()]
    of_names = [
        Example(name, f"{name}-{number}", text)
        for name in [*names, *methods]
        for number, text in enumerate(examples_in(name.docstring))
    ]
    return [*of_names, *(e for module in WITH_EXAMPLES for e in _of_module(module))]


WITH_EXAMPLES: Final = [
    *modules(),
    "finetuning_async.demo",
    "finetuning_async.testing.fixtures",
]


def _of_module(module: str) -> Iterator[Example]:
    """Blocks of a module that are Python; others are maps of its files."""
    blocks = examples_in(import_module(module).__doc__ or "")
    for number, text in enumerate(blocks):
        if re.search(r"\bimport\b|^async |^await ", text):
            yield Example(Name(module, "", None), f"{module}-{number}", text)


@attrs.frozen
class Condition:
    """What the service must be like for an example to show what it shows.

    Attributes:
        settings: Of the emulator.
        fault: What goes wrong there.
    """

    settings: Mapping[str, Any] = attrs.field(factory=dict)
    fault: Fault | None = None


def run_plainly(example: Example, patch: pytest.MonkeyPatch) -> None:
    """Run an example that awaits nothing, outside any event loop."""
    patch.setenv("FINETUNING_API_KEY", "ft_live_" + 32 * "0")
    names = namespace(finetuning_async.AsyncClient())
    exec(example.code, names)  # noqa: S102 - it is ours


def run_blocking(example: Example, emulator: Emulator) -> None:
    """Run an example of the blocking client, outside any event loop."""
    quick = partial(Client, rate_limits=emulator.rate_limits)
    with quick() as client:
        exec(example.code, {**namespace(client), "Client": quick})  # noqa: S102 - it is ours


async def run(
    example: Example, condition: Condition, patch: pytest.MonkeyPatch
) -> None:
    """Run an example that awaits, against an emulator of its own."""

    async def sender(url: str, headers: Mapping[str, str], body: bytes) -> int:
        del url, headers, body
        return 204

    quick = {"audio": AUDIO, "generation_time": (3.0, 4.0), "webhook_sender": sender}
    async with Emulator(**{**quick, **condition.settings}) as emulator:
        for name in ("Calm", "Loud"):
            emulator.add_playlist(name)
        if condition.fault is not None:
            emulator.add_fault(condition.fault)
        wire(emulator, patch)
        async with finetuning_async.AsyncClient() as client:
            names = namespace(client)
            await evaluate(example, names)
            if "on_event" in names:
                await _eventful(names["client"], emulator)


async def _eventful(client: finetuning_async.AsyncClient, emulator: Emulator) -> None:
    """Let a client see an event of each kind, so that what listens is run, too."""
    emulator.add_fault(Fault("connect_refused", "/v1/me"))
    await client.me()
    emulator.add_fault(Fault("status", "/v1/me", status=429, code="RATE_LIMITED"))
    await client.me()
    for number in range(11):  # the last one waits for the rate limit
        await client.generate(f"track {number}")
    emulator.add_fault(Fault("lost_before_commit", method="POST", times=None))
    with suppress(finetuning_async.SubmissionUnknownError):
        await client.generate("lost")


async def evaluate(example: Example, names: dict[str, Any]) -> None:
    """Run an example in the running loop."""
    running = eval(example.code, names)  # noqa: S307 - the example is ours
    if inspect.isawaitable(running):
        await running


def namespace(client: finetuning_async.AsyncClient | Client) -> dict[str, Any]:
    """What an example sees."""
    names = finetuning_async.__all__
    known = {name: getattr(finetuning_async, name) for name in names}
    return {**known, "anyio": anyio, "client": client, "__name__": "example"}


def wire(emulator: Emulator, patch: pytest.MonkeyPatch) -> None:
    """Let every client that is given no HTTP client reach the emulator."""
    begin = ClientPool.__init__

    def wired(pool: ClientPool, given: httpx.AsyncClient | None, *more: Any) -> None:
        http = given or Cookieless(transport=emulator.transport())
        begin(pool, http, *more)

    patch.setattr(ClientPool, "__init__", wired)
    patch.setenv("FINETUNING_API_KEY", emulator.api_key)
