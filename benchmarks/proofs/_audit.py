"""What must balance after any faults: credits, tracks, and what the callers know.

- The credits spent equal the tracks created.
- No create makes two tracks unless its caller chose ``resubmit``.
- No two creates return one track.
- Every track is returned, reported, named in an error, or its seed is in the log.
- No permit, queue slot or waiter is left behind.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, Self

import attrs

from finetuning_async import Generation, SubmissionUnknownError

if TYPE_CHECKING:
    from finetuning_async import AsyncClient
    from finetuning_async.emulator import Emulator


class Log(logging.Handler):
    """What the package logs, from `INFO` on, while the block runs."""

    _entered: ClassVar[int] = 0  # several at once may exit in any order
    _before: ClassVar[tuple[int, bool]]

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self._logger = logging.getLogger("finetuning_async")

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.lines.append(record.getMessage())

    def __enter__(self) -> Self:
        if not Log._entered:
            Log._before = (self._logger.level, self._logger.propagate)
            self._logger.setLevel(logging.INFO)
            self._logger.propagate = False
        Log._entered += 1
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        Log._entered -= 1
        if not Log._entered:
            level, self._logger.propagate = Log._before
            self._logger.setLevel(level)  # also clears the caches of the loggers


@attrs.define(eq=False)
class Create:
    """One create and what its caller learned.

    Attributes:
        prompt: Identifies its tracks at the service.
        resubmits: Whether its caller chose ``resubmit``.
        reported: What `on_submitted` was called with.
        returned: What it returned, if it did.
        error: What it raised, if it did.
    """

    prompt: str
    resubmits: bool = False
    reported: list[Generation] = attrs.field(factory=list)
    returned: Generation | None = None
    error: BaseException | None = None

    @property
    def outcome(self) -> str:
        """The outcome in one word."""
        return "returned" if self.error is None else type(self.error).__name__


def balance(emulator: Emulator, creates: list[Create], log: Log) -> list[str]:
    """What does not balance; empty if everything does."""
    tracks = emulator.tracks
    wrong = []
    if len(emulator.ledger) != len(tracks):
        wrong.append(f"{len(emulator.ledger)} credits for {len(tracks)} tracks")
    returned = [c.returned.id for c in creates if c.returned is not None]
    if len(set(returned)) != len(returned):
        wrong.append(f"one track was returned twice: {returned}")
    wrong += [
        f"{ident} was returned and does not exist"
        for ident in returned
        if ident not in tracks
    ]
    for create in creates:
        wrong += _check(create, tracks, log)
    return wrong


def _check(create: Create, tracks: dict[str, Any], log: Log) -> list[str]:
    made = [job for job in tracks.values() if job.prompt.startswith(create.prompt)]
    wrong = []
    if len(made) > 1 and not create.resubmits:
        wrong.append(f"{create.prompt!r} was made {len(made)} times")
    if create.returned is not None and tracks[create.returned.id] not in made:
        wrong.append(f"{create.prompt!r} returned a track of another create")
    wrong += [
        f"{create.prompt!r}: {job.id} was neither returned nor named"
        for job in made
        if not _is_named(create, job, log)
    ]
    return wrong


def _is_named(create: Create, job: Any, log: Log) -> bool:
    known = [*create.reported, *([create.returned] if create.returned else [])]
    if job.id in {track.id for track in known}:
        return any(f"accepted music {job.id}" in line for line in log.lines)
    seed = job.parameters["seed"]
    error = create.error
    if isinstance(error, SubmissionUnknownError):
        return job.id in error.candidates or error.seed == seed
    mark = f"it may have been charged, its seed is {seed}"
    return any(line.endswith(mark) for line in log.lines)


def leftovers(client: AsyncClient) -> list[str]:
    """What calls that have ended left behind."""
    account = client._session().account  # noqa: SLF001 - a proof looks inside
    register = account.inflight
    status = client.rate_limit_status()
    left = {
        "queue slots": register._capacity.pending,  # noqa: SLF001 - as above
        "creates that wait for a queue slot": len(register._waiting),  # noqa: SLF001 - as above
        "open seeds": len(register._seeds_in_flight),  # noqa: SLF001 - as above
        "waiting look-alikes": len(account.create_lock._waiting),  # noqa: SLF001 - as above
        "creates that wait for a permit": status.creates.waiting,
        "reads that wait for a permit": status.reads.waiting,
    }
    return [f"{number} {what} left" for what, number in left.items() if number]
