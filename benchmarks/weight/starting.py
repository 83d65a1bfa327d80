"""What starting costs: the import, the first client, a second one, and ``--help``.

Each round is a new interpreter that has imported httpx, attrs, anyio, tenacity and
sniffio already; bytecode is there, as after a first start. Medians over the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONAL: Final = frozenset(
    {
        "click",
        "fastapi",
        "filelock",
        "keyring",
        "opentelemetry",
        "procrastinate",
        "psycopg",
        "redis",
        "rich",
        "sqlite3",
        "starlette",
        "uvicorn",
    }
)
"""What must not be brought; trio is, by httpcore, where it is installed."""


@attrs.frozen
class Starting:
    """Milliseconds and modules.

    Attributes:
        package: ``import finetuning_async``.
        name: ``from finetuning_async import AsyncClient``, after that.
        first: The first client, which loads what clients are made of.
        bound: What its first call adds before it connects: the TLS context, mostly.
        second: Another client with what its first call adds.
        modules: After the package and after its name; after the first client, those
            of the package only.
        optional: What was loaded that should not be.
        help: ``finetuning --help``, the interpreter included; milliseconds.
        bare: The interpreter and nothing else; milliseconds.
    """

    package: float
    name: float
    first: float
    second: float
    bound: float
    modules: tuple[int, int, int]
    optional: tuple[str, ...]
    help: float
    bare: float


def measure(rounds: int = 9) -> Starting:
    """Measure, each time in a new interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        run = _runner(environment)
        run("-m", "benchmarks.weight.starting")
        run("-m", "finetuning_async", "--help")
        rows = [_row(run) for _ in range(rounds)]
    parts = {
        name: statistics.median(row[name] for row in rows)
        for name in ("package", "name", "first", "bound", "second", "help", "bare")
    }
    last = rows[-1]
    return Starting(
        modules=tuple(last["modules"]), optional=tuple(last["optional"]), **parts
    )


def _runner(environment: dict[str, str]) -> Callable[..., tuple[str, float]]:
    def run(*arguments: str) -> tuple[str, float]:
        began = time.perf_counter()
        done = subprocess.run(  # noqa: S603 - our own modules
            [sys.executable, *arguments],
            env=environment,
            capture_output=True,
            check=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        return done.stdout, (time.perf_counter() - began) * 1000

    return run


def _row(run: Callable[..., tuple[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(run("-m", "benchmarks.weight.starting")[0])
    row["help"] = run("-m", "finetuning_async", "--help")[1]
    row["bare"] = run("-c", "pass")[1]
    return row


async def _clients(keys: list[str]) -> list[float]:
    """Milliseconds of each new client, up to where it would connect."""
    from finetuning_async import AsyncClient

    taken = []
    for key in keys:
        began = time.perf_counter()
        client = AsyncClient(key)
        made = time.perf_counter()
        client._session()  # noqa: SLF001 - a call would do this, and then connect
        taken += [made - began, time.perf_counter() - made]
    return [seconds * 1000 for seconds in taken]


def main() -> None:
    """Print one round as JSON; runs in an interpreter of its own."""
    import asyncio

    import anyio.abc
    import anyio.lowlevel
    import anyio.to_thread
    import httpx
    import sniffio
    import tenacity

    del anyio, httpx, sniffio, tenacity
    known = set(sys.modules)
    times, modules = [time.perf_counter()], []
    import finetuning_async

    times.append(time.perf_counter())
    modules.append(len(sys.modules) - len(known))
    _ = finetuning_async.AsyncClient
    times.append(time.perf_counter())
    modules.append(len(sys.modules) - len(known))
    keys = ["ft_live_" + f"{n:032d}" for n in range(2)]
    first, bound, second, again = asyncio.run(_clients(keys))
    modules.append(sum(name.startswith("finetuning_async") for name in sys.modules))
    result = {
        "package": (times[1] - times[0]) * 1000,
        "name": (times[2] - times[1]) * 1000,
        "first": first,
        "bound": bound,
        "second": second + again,
        "modules": modules,
        "optional": sorted(OPTIONAL & set(sys.modules) - known),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
