"""`Options`: the options of a batch."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import attrs

from finetuning_async._pacing import CreditLimit
from finetuning_async.journal import (
    EngineOptions,
    OnDoubt as OnDoubt,  # for readers of annotations
)

OnExisting: TypeAlias = Literal["refuse", "adopt", "anew"]

FREE_BYTES: Final = 100_000_000
"""Room for the longest tracks of a full queue, ten of 8.4 MB (210 s at 320 kbit/s)."""


@attrs.frozen(kw_only=True)
class Options(EngineOptions):
    """Options of a batch.

    Attributes:
        on_unknown: What to do with a create that is not listed. One that is not proved
            absent is held; with ``resubmit`` the credits may be missing from the proof
            where they cannot be compared.
        max_credits: The most credits of all runs together, creates in doubt
            included; `None` for no limit.
        metadata: Whether the MP3s say what they are, in ID3 tags: title, prompt, tempo,
            key, lyrics, seed, id.
        tags: The same; what `metadata` was called before.
        check: Whether to check that each file is whole, as long as was asked for, and
            not silent. One that is not is kept, and a warning is logged: whether it is
            worth another credit is for you to say.
        existing: What to do if the folder holds files or results of rows that its
            journal does not know: ``refuse`` to start; ``adopt`` them as done; or make
            the rows ``anew``, for further credits and under other names.
        downloads: How many tracks are downloaded at a time.
        wait_timeout: Seconds to wait for a track; after that it is left to the next
            run.
        settle: Seconds after which a create that was given up can no longer be
            accepted.
        look_every: Seconds between listings while a create is in doubt.
        free_bytes: Nothing is created while fewer bytes are free on the disk.

    Example:
        from finetuning_async.batch import Batch, Options

        options = Options(max_credits=100, metadata=True, downloads=2)
        async with Batch(client, "album", options=options) as batch:
            await batch.add([GenerationRequest("rain")])
            async for item in batch.run():
                batch.stop()  # one is enough
            print(await batch.retry_failed(), "planned again")
    """

    max_credits: int | None = None
    metadata: bool = False
    tags: bool = False
    check: bool = False
    existing: OnExisting = "refuse"
    downloads: int = 4
    free_bytes: int = FREE_BYTES


def limits_of(options: Options) -> tuple[CreditLimit, ...]:
    """What the journal of a batch may cost."""
    most = options.max_credits
    return () if most is None else (CreditLimit(most, name="max_credits"),)
