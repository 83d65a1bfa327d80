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
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable


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
        run("-m", "benchmarks._start")
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
    row: dict[str, Any] = json.loads(run("-m", "benchmarks._start")[0])
    row["help"] = run("-m", "finetuning_async", "--help")[1]
    row["bare"] = run("-c", "pass")[1]
    return row
