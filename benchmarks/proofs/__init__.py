"""The long proofs: ``python -m benchmarks proofs [NAME] ...``; without a name, all.

Each module here whose name has no leading underscore is one proof. Its `main` takes the
other arguments and returns whether the proof holds.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time


def main(arguments: list[str]) -> None:
    """Run the named proofs, or all; exit with status 1 if one fails."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    names = [name for name in names if not name.startswith("_")]
    chosen = names
    if arguments and arguments[0] in names:
        chosen, arguments = arguments[:1], arguments[1:]
    elif arguments and not arguments[0].startswith("-"):
        sys.exit(f"usage: python -m benchmarks proofs [{'|'.join(names)}] ...")
    held = [_run(name, arguments) for name in chosen]
    sys.exit(0 if all(held) else 1)


def _run(name: str, arguments: list[str]) -> bool:
    started = time.perf_counter()
    holds: bool = importlib.import_module(f"{__name__}.{name}").main(arguments)
    seconds = time.perf_counter() - started
    print(f"{name}: {'holds' if holds else 'BROKEN'} ({seconds:.0f} s)\n", flush=True)
    return holds
