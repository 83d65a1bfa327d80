"""Wrong lines in the journal's rules; each must fail the suites of both databases.

The rules are written once, in `journal/_state_machine.py`; a store only keeps their
results.
"""

from __future__ import annotations

from typing import Final

from benchmarks.proofs._mutant import Mutant

JOURNAL: Final = "journal/_state_machine.py"
MACHINE: Final = (
    "tests/journal/test_state_machine.py::test_no_crash_pays_twice_or_loses"
)
CRASHES: Final = "tests/batch/test_worker_crashes.py::test_a_crash_at_any_commit_pays"

WRONG: Final = (
    (
        "sends again what a restart left on the wire",
        "    return _apply(lost, entry)\n",
        '    return attrs.evolve(entry, state="planned")\n',
        f"{CRASHES}_nothing_twice[False-{{}}]",
    ),
    (
        "takes a lost create for one that never left",
        '        state="unknown",\n        lost_at=event.at,\n',
        '        state="planned",\n        lost_at=event.at,\n',
        f"{MACHINE}_an_item[{{}}-10]",
    ),
    (
        "does not count what was paid",
        "        accepts=entry.accepts + 1,\n",
        "        accepts=entry.accepts,\n",
        f"{MACHINE}_an_item[{{}}-10]",
    ),
)

MUTANTS: Final = tuple(
    Mutant(f"{name} ({database})", JOURNAL, old, new, test.format(database))
    for name, old, new, test in WRONG
    for database in ("sqlite", "postgres")
)
