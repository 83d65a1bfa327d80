"""Wrong lines in what keeps a budget of credits."""

from __future__ import annotations

from typing import Final

from benchmarks.proofs._mutant import Mutant

LIMIT: Final = "_pacing/_credit_limit.py"
SPENDING: Final = "journal/_spending.py"
CLIENT: Final = "tests/session/test_budgets.py::test_"
JOURNAL: Final = "tests/session/test_journal_budgets.py::test_"
STORE: Final = "tests/journal/test_spending.py::test_"
WORKER: Final = "tests/batch/test_worker.py::test_"
PERIOD: Final = (
    "tests/pacing/test_credit_limit.py::test_no_period_has_more_than_the_budget"
)
WHOLE: Final = (
    "tests/pacing/test_credit_limit.py"
    "::test_a_credit_counts_for_the_whole_period_and_no_longer"
)
WAITS: Final = "what_waits_is_reserved"
SHARE: Final = f"{STORE}the_credits_of_one_share_are_counted_alone"
FORGOTTEN: Final = f"{STORE}what_is_forgotten_stays_spent"
SENT: Final = f"{STORE}what_is_to_be_sent_is_held_up_by_what_is_spent_only"

MUTANTS: Final = tuple(
    Mutant(f"budget: {name}", file, old, new, test)
    for name, file, old, new, test in (
        (
            "reserves nothing",
            LIMIT,
            "        self.reserved += 1\n",
            "        self.reserved += 0\n",
            f"{CLIENT}{WAITS}_and_returned_if_it_gives_up",
        ),
        (
            "allows one credit too many",
            LIMIT,
            "        return used < self.credits\n",
            "        return used <= self.credits\n",
            PERIOD,
        ),
        (
            "ends a period a second early",
            LIMIT,
            "now - self.per + TOLERANCE\n",
            "now - self.per + 1.0\n",
            WHOLE,
        ),
        (
            "counts no create in doubt",
            "_submission/_submission.py",
            "self.accepted is not None or self.in_doubt_since is not None",
            "self.accepted is not None",
            f"{CLIENT}a_create_in_doubt_counts_as_spent",
        ),
        (
            "applies the budget of a share to all",
            "_session/_settings.py",
            "if s is None or s == share]",
            "if s is None or s != 0]",
            f"{CLIENT}the_budget_of_a_share_comes_on_top_of_that_of_the_account",
        ),
        (
            "lets a view replace the budget of the account",
            "_session/_settings.py",
            "if s != changed.share}",
            "if s == 0}",
            f"{CLIENT}the_budget_of_a_share_comes_on_top_of_that_of_the_account",
        ),
        (
            "adds an entry without a look at the budget",
            "_session/_keyed_creates.py",
            "insert(new, entry, call.limits)",
            "insert(new, entry)",
            f"{JOURNAL}{WAITS}_for_others_too_and_returned",
        ),
        (
            "sends without a look at the budget",
            "journal/_engine.py",
            "self._record(Sending(submission.seed, now), self._door.limits)",
            "self._record(Sending(submission.seed, now))",
            "tests/batch/test_worker.py::test_all_workers_together_keep_to_max_credits",
        ),
        (
            "records no share",
            "_session/_account_journal.py",
            "        share=submission.share,\n",
            "",
            f"{JOURNAL}each_share_has_the_budget_that_its_views_are_given",
        ),
        (
            "counts what dead processes have reserved",
            SPENDING,
            "reserved += holder is not None and is_alive(holder)",
            "reserved += holder is not None",
            f"{STORE}what_may_have_been_charged_is_spent_and_what_is_not_is_free[memory]",
        ),
        (
            "forgets late acceptances",
            SPENDING,
            "    return LATE if is_given_up else None\n",
            "    return None\n",
            f"{STORE}stores_count_alike_and_a_credit_counts_for_the_period",
        ),
        (
            "counts all shares (memory)",
            SPENDING,
            "if limit.share not in (None, item.share) or not costs_credits(item):",
            "if not costs_credits(item):",
            f"{SHARE}[memory]",
        ),
        (
            "counts all shares (sqlite)",
            SPENDING,
            """seq <> @seq"
    " AND (CAST(@share AS text) IS NULL OR share = @share)\"""",
            """seq <> @seq"
    " AND (CAST(@share AS text) IS NULL OR 1 = 1)\"""",
            f"{SHARE}[sqlite]",
        ),
        (
            "gives back what is forgotten (sqlite)",
            "journal/_sqlite_store.py",
            "        if kept := booking_of(change.item, self.now()):\n",
            "        if kept := None:\n",
            f"{FORGOTTEN}[sqlite]",
        ),
        (
            "gives back what is forgotten (postgres)",
            "postgres/_journal_store.py",
            "kept = None if row is None else booking_of(change.item, self.now())",
            "kept = None",
            f"{FORGOTTEN}[postgres]",
        ),
        (
            "updates without a look (sqlite)",
            "journal/_sqlite_store.py",
            "        if refused and db.execute(",
            "        if False and db.execute(",
            f"{SENT}[sqlite]",
        ),
        (
            "locks nothing (postgres)",
            "postgres/_journal_store.py",
            "if any(_kind_of(change) is None for change in changes):",
            "if False:",
            f"{STORE}of_two_processes_one_gets_the_last_credit[postgres]",
        ),
    )
)
