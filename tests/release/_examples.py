"""The examples in docstrings, and how one is run.

An example is a section ``Example:``, or an indented block below a paragraph. It sees
every name of `finetuning_async`, `anyio`, and `client`; whatever else it needs it
imports. If it awaits something, every client reaches an emulator.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
import httpx

import finetuning_async
from finetuning_async._transport import Pool
from finetuning_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def compiled(example: str, where: str) -> CodeType:
    """The code of an example, which may await at its top level."""
    code = compile(example, where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(code, CodeType)
    return code


@attrs.frozen
class Condition:
    """What the service must be like for an example to show what it shows.

    Attributes:
        settings: Of the emulator.
        fault: What goes wrong there.
    """

    settings: Mapping[str, Any] = attrs.field(factory=dict)
    fault: Fault | None = None


def awaits(example: CodeType) -> bool:
    """Whether an example needs an event loop."""
    return bool(example.co_flags & inspect.CO_COROUTINE)


def run_plainly(example: CodeType, patch: pytest.MonkeyPatch) -> None:
    """Run an example that awaits nothing, outside any event loop."""
    patch.setenv("FINETUNING_API_KEY", "ft_live_" + 32 * "0")
    exec(example, _namespace(finetuning_async.AsyncClient()))  # noqa: S102 - it is ours


async def run(
    example: CodeType, condition: Condition, patch: pytest.MonkeyPatch
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
        _wire(emulator, patch)
        async with finetuning_async.AsyncClient() as client:
            await eval(example, _namespace(client))  # noqa: S307 - the example is ours


def _namespace(client: finetuning_async.AsyncClient) -> dict[str, Any]:
    names = finetuning_async.__all__
    known = {name: getattr(finetuning_async, name) for name in names}
    return {**known, "anyio": anyio, "client": client, "__name__": "example"}


def _wire(emulator: Emulator, patch: pytest.MonkeyPatch) -> None:
    """Let every client that is given no HTTP client reach the emulator."""
    begin = Pool.__init__

    def wired(pool: Pool, given: httpx.AsyncClient | None, *more: Any) -> None:
        http = given or httpx.AsyncClient(transport=emulator.transport())
        begin(pool, http, *more)

    patch.setattr(Pool, "__init__", wired)
    patch.setenv("FINETUNING_API_KEY", emulator.api_key)
