"""The arguments of ``batch run``, resolved: what its runs and dry runs need."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from finetuning_async import RateLimit, RateLimits
from finetuning_async._secrets import ApiKey
from finetuning_async.batch import Format, Options, folder_of, read_rows
from finetuning_async.cli._config import on_loopback
from finetuning_async.cli._options import CommonOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from finetuning_async.batch import Folder, Row


@attrs.frozen(kw_only=True)
class RunSettings:
    """The arguments of ``batch run``, resolved.

    Attributes:
        key: `None` only for a dry run, which can do without one.
        queue: Tracks that may be in progress at once; `None` if that is not known.
        assumed_queue: What a dry run takes for it then.
    """

    common: CommonOptions
    url: str
    key: ApiKey | None
    source: str | None
    out: Path | str
    journal: str | None
    format_: Format | None
    as_json: bool
    speed: float
    shared: bool
    share: str | None
    budget: int | None
    account_journal: str | None
    queue: int | None
    assumed_queue: int
    options: Options

    @property
    def limits(self) -> RateLimits:
        """The rate limits of the service, or those of a faster emulator."""
        per = 60.0 / self.speed
        return RateLimits(
            creates=RateLimit(10, per=per),
            reads=RateLimit(60, per=per),
            queue=self.queue,
        )

    def folder(self) -> Folder:
        """The folder of the batch.

        Raises:
            InvalidRequestError: It cannot be one.
        """
        return folder_of(self.out, self.journal)

    def rows(self) -> Iterator[Row]:
        """The rows of the input.

        Raises:
            BatchInputError: Some rows are invalid; raised after the last row.
        """
        if self.source is None:
            return iter(())
        return read_rows(
            _stdin() if self.source == "-" else Path(self.source),
            format=self.format_,
            allow_http_webhook=on_loopback(self.url),
        )


def _stdin() -> Iterable[str]:
    return io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="")
