"""Wrong lines in what keeps a key's one payment; each must fail on both databases.

Those of a store itself are listed for that store; the others are in lines that both
databases share, and must fail in a test of either.
"""

from __future__ import annotations

from typing import Final

from benchmarks.proofs._mutant import Mutant

ENGINE: Final = "journal/_engine.py"
DOOR: Final = "_session/_keyed_door.py"
CREATES: Final = "_session/_keyed_creates.py"
ACCOUNT: Final = "_session/_account_journal.py"
OPEN: Final = "_session/_open_journal.py"
MACHINE: Final = "journal/_state_machine.py"
SQLITE: Final = "journal/_sqlite_store.py"
POSTGRES: Final = "postgres/_journal_store.py"
POSTGRES_LEASES: Final = "postgres/_leases_and_notes.py"

TAKEOVERS: Final = "tests/journal/test_keyed_takeovers.py::test_"


def _test(name: str) -> str:
    return f"{TAKEOVERS}{name}[{{}}]"


CRASH: Final = f"{TAKEOVERS}a_crash_at_any_commit_is_paid_once[{{}}-False]"
DIED: Final = _test(
    "the_key_of_a_process_that_died_before_it_sent_is_taken_over_at_once"
)
HALTED: Final = _test(
    "a_process_that_was_halted_neither_sends_nor_writes_when_it_wakes"
)
LATE: Final = _test("a_response_that_a_halted_process_reads_late_is_not_lost")
LIVES: Final = _test("a_process_that_takes_over_is_not_taken_over_itself")
UNSHOWN: Final = _test("a_create_that_no_list_shows_is_not_sent_again")
CANCELLED: Final = _test(
    "a_create_that_is_cancelled_after_its_first_byte_is_not_forgotten"
)
MEANWHILE: Final = (
    "tests/session/test_keyed_permits.py"
    "::test_what_a_process_was_sending_that_dies_meanwhile_is_looked_up[asyncio]"
)
AT_ONCE: Final = _test("processes_that_add_a_key_at_the_same_moment_pay_once")
CONTENT: Final = _test("the_key_of_another_content_is_refused_in_any_process")

SHARED: Final = (
    (
        "commits that it sends only after it has sent",
        ENGINE,
        """\
        submission: Submission = self._door.new_submission(
            self.item,
            on_submitted=self._record_accepted,
            before_wait=self._record_not_sent,
            before_send=lambda: self._record_sending(submission),
        )
""",
        """\
        async def late(track: Any) -> None:
            await self._record_sending(submission)
            await self._record_accepted(track)

        submission: Submission = self._door.new_submission(
            self.item,
            on_submitted=late,
            before_wait=self._record_not_sent,
            before_send=None,
        )
""",
        CRASH,
    ),
    (
        "sends with a lease that is over",
        ENGINE,
        "        within = self.send_within\n",
        "        within = 1e9\n",
        HALTED,
    ),
    (
        "takes what a dead process was sending for planned",
        ENGINE,
        "            await self._record(Restarted(",
        "            await self._record(NotSent()) or (Restarted(",
        CRASH,
    ),
    (
        "deletes the entry of a create that was cancelled in flight",
        ENGINE,
        "            if is_in_doubt(submission):\n                at = ",
        "            if False:\n                at = ",
        CANCELLED,
    ),
    (
        "takes a lost create for one that was not sent",
        ENGINE,
        "        if is_in_doubt(submission) or isinstance(error, Submission",
        "        if False and isinstance(error, Submission",
        UNSHOWN,
    ),
    (
        "drops a track whose key was taken over",
        ENGINE,
        'elif entry.state in ("unknown", "held") and is_same:\n',
        "elif False:\n",
        LATE,
    ),
    (
        "takes over without a lease of its own",
        DOOR,
        "        if item.entry.holder != self._opened.holder:\n",
        "        if False:\n",
        LIVES,
    ),
    (
        "knows a key without its content",
        ACCOUNT,
        "    if given.content_key() == known.content_key():\n",
        "    if True:\n",
        CONTENT,
    ),
    (
        "takes the entry of another process for its own",
        CREATES,
        '        call.is_sending = entry.state == "sending" and item.entry == entry\n',
        '        call.is_sending = entry.state == "sending"\n',
        MEANWHILE,
    ),
    (
        "lets no lease expire",
        CREATES,
        "        return await opened.is_alive(holder)\n",
        "        return True\n",
        DIED,
    ),
    (
        "heeds no lease",
        CREATES,
        "        return await opened.is_alive(holder)\n",
        "        return False\n",
        LIVES,
    ),
    (
        "does not say that it lives",
        OPEN,
        "            group.start_at(beating, self._beaten_at + BEAT_EVERY)\n",
        "",
        LIVES,
    ),
    (
        "keeps a journal for each API key",
        ACCOUNT,
        '        return f"{_one_spelling(url)} {account}"\n',
        '        return f"{_one_spelling(url)} {digest}"\n',
        AT_ONCE,
    ),
)

OWN: Final = (
    (
        "sqlite",
        "fences nobody off",
        SQLITE,
        "state = ? AND lost_at IS ? AND accepts = ? AND fence = ?",
        "(state = ? OR lost_at IS ? OR accepts = ? OR fence = ? OR 1)",
        HALTED,
    ),
    (
        "postgres",
        "fences nobody off",
        POSTGRES,
        """AND state = %s"
    " AND lost_at IS NOT DISTINCT FROM %s AND accepts = %s AND fence = %s"
""",
        """AND (state = %s"
    " OR lost_at IS NOT DISTINCT FROM %s OR accepts = %s OR fence = %s OR true)"
""",
        HALTED,
    ),
    (
        "sqlite",
        "lets no lease expire in its file",
        SQLITE,
        "return bool(rows) and now < float(rows[0][0]) <= now + LONGEST_LEASE",
        "return bool(rows)",
        DIED,
    ),
    (
        "postgres",
        "lets no lease expire in its table",
        POSTGRES_LEASES,
        'f" WHERE journal = %s AND name = %s AND until > {schema.NOW}"',
        'f" WHERE journal = %s AND name = %s AND {schema.NOW} > 0"',
        DIED,
    ),
)

MUTANTS: Final = tuple(
    Mutant(f"{name} ({database})", file, old, new, test.format(database))
    for name, file, old, new, test in SHARED
    for database in ("sqlite", "postgres")
) + tuple(
    Mutant(f"{name} ({database})", file, old, new, test.format(database))
    for database, name, file, old, new, test in OWN
)
