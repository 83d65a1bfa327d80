"""`resume_all`: go on with what earlier processes began, yield each outcome as it ends.

Of several processes that resume at once, as the workers of one server do at its start,
one does the work. The others wait, and go on if it dies; a note in the journal names
the one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final

import anyio
import attrs

from finetuning_async._api import AnyRequest, Generation, Outcome, SoundEffect
from finetuning_async._constants import WAIT_TIMEOUT
from finetuning_async._errors import (
    ClientClosedError,
    FinetuningError,
    SubmissionUnknownError,
)
from finetuning_async._resources._common import failed_error
from finetuning_async._resources._generate_many import Outcomes

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from finetuning_async._session import Session
    from finetuning_async.journal import Item

logger = logging.getLogger("finetuning_async")

MAX_RESUMED: Final = 500
"""Entries that are worked on at a time. They share the account's one poll loop."""


class ResumedOutcomes(Outcomes[AnyRequest, Generation | SoundEffect]):
    """The outcomes of what earlier processes began; see `AsyncClient.resume_all`.

    Args:
        session: The client, bound to the running event loop; it has a journal.
    """

    _method: ClassVar[str] = "resume_all"

    def __init__(self, session: Session) -> None:
        super().__init__(
            session,
            (),
            on_unknown="raise",
            on_submitted=None,
            validate=False,
            timeout=None,
            max_retries=None,
            wait_timeout=None,
            on_update=None,
        )
        self._places = anyio.Semaphore(MAX_RESUMED)

    async def _feed(self, tasks: TaskGroup) -> None:
        try:
            async with self._session.recorder().journal.resuming() as items:
                async for item in items:
                    await self._places.acquire()
                    if self._error is not None:
                        break
                    self._running += 1
                    tasks.start_soon(self._resume, item)
                # The right to resume is kept until all have ended.
                for _ in range(MAX_RESUMED):
                    await self._places.acquire()
        except Exception as error:
            self._error = self._error or error
        finally:
            self._task_ended()

    async def _resume(self, item: Item) -> None:
        try:
            outcome = await self._outcome_of(item)
            if outcome is not None:
                track = outcome.generation
                self._ended.append((outcome, None if track is None else track.id))
        except Exception as error:
            self._error = self._error or error
        finally:
            self._places.release()
            self._task_ended()

    async def _outcome_of(self, item: Item) -> Outcome | None:
        request = attrs.evolve(item.request, idempotency_key=item.key)
        error: FinetuningError | None = None
        track: Any = None
        try:
            track = await self._accepted(item)
            if track is None:
                return None
            self._pending[track.id] = None
            # A track that never ends must not keep the right to resume for ever.
            track = await self._session.wait(
                track, timeout=WAIT_TIMEOUT, on_update=None
            )
            if track.status == "failed":
                error = failed_error(track, has_key=True)
        except ClientClosedError:
            raise
        except FinetuningError as raised:
            error = raised
        outcome = Outcome(request=request, generation=track, error=error)
        if isinstance(error, SubmissionUnknownError):
            self._in_doubt.append(outcome)
        return outcome

    async def _accepted(self, item: Item) -> Any:
        """The accepted track; `None` if nothing is to be made of the entry."""
        recorder = self._session.recorder()
        if item.entry.state != "planned":
            return await recorder.carry_on(item)
        # A few at a time, so that new creates do not wait for all that is left over.
        async with self._slots:
            return await recorder.carry_on(item)
