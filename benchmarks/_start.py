"""One start of a program that uses the package, taken apart; prints JSON.

``python -m benchmarks._start``, for `benchmarks.weight.starting`. It imports nothing
before it measures but what the package depends on.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

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
    """Print one round."""
    import asyncio

    import anyio.abc
    import anyio.lowlevel
    import anyio.to_thread
    import attrs
    import httpx
    import sniffio
    import tenacity

    del anyio, attrs, httpx, sniffio, tenacity
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
