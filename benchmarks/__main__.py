"""``python -m benchmarks NAME``: one benchmark; without a name, the list of them."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main() -> int:
    """Run the benchmark that is named; its `main` takes the other arguments."""
    names = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__))
    names = [name for name in names if not name.startswith("_")]
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print(f"usage: python -m benchmarks {{{','.join(names)}}} ...", file=sys.stderr)
        return 2
    importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
    return 0


sys.exit(main())
