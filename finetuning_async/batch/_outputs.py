"""``results.jsonl`` and ``errors.jsonl``, which repeat what the journal holds.

Both are rewritten when a run begins and when it ends, under another name and then
renamed; in between they grow line by line. So a line that a crash cut off is repaired
at the next start. Only the journal decides what is done.
"""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from finetuning_async._downloads import place_now

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from pathlib import Path
    from typing import TextIO

    from finetuning_async._api import Generation
    from finetuning_async.batch._folder import Folder
    from finetuning_async.journal import Item

logger = logging.getLogger("finetuning_async")

FEW_LINES: Final = 10
"""New lines of an output, at least, for which it is copied to an object store."""


class Outputs:
    """The two files of a batch.

    Args:
        folder: The batch's.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._open: dict[Path, TextIO] = {}
        self._lines: dict[Path, tuple[int, int]] = {}  # published, and written

    def rewrite(self, items: Iterable[Item]) -> None:
        """Rewrite both from items in their order."""
        self.close()
        with ExitStack() as stack:
            files = {
                target: stack.enter_context(
                    self._unfinished(target).open("w", encoding="utf-8")
                )
                for target in (self._folder.results, self._folder.errors)
            }
            for item in items:
                target = self._target(item)
                if target is not None:
                    files[target].write(line_of(item))
        # Both are complete before one of them is replaced.
        for target in files:
            place_now(self._unfinished(target), target)
            self._folder.publish(target)
        self._lines.clear()

    def set_aside(self) -> None:
        """Rename what has their names and is not empty; it is not of this batch."""
        for target in (self._folder.results, self._folder.errors):
            if target.exists() and (target.is_dir() or target.stat().st_size):
                kept = _free_name(target, self._folder.sizes())
                target.replace(kept)
                self._folder.publish(kept)  # a store renames nothing: so it is copied
                logger.warning(
                    "%s does not belong to this batch; it was renamed to %s",
                    self._folder.location_of(target.name),
                    kept.name,
                )

    def append(self, item: Item) -> None:
        """Append the line of an item that has just ended."""
        target = self._target(item)
        if target is None:
            return
        file = self._open.get(target)
        if file is None:
            file = self._open[target] = target.open("a", encoding="utf-8")
        file.write(line_of(item))
        # Flushed for readers, not synced: after a power cut the next run writes it.
        file.flush()
        self._publish_now_and_then(target)

    def _publish_now_and_then(self, target: Path) -> None:
        """Publish an output that has grown by a tenth, so that all of it is not much.

        What cannot be published now is published with later lines, or at the end.
        """
        published, lines = self._lines.get(target, (0, 0))
        lines += 1
        is_due = lines - published >= max(FEW_LINES, published / 10)
        # Before it is copied, which takes a while: items that end meanwhile, each in a
        # thread of its own, do not copy it as well.
        self._lines[target] = (lines if is_due else published), lines
        if is_due:
            try:
                self._folder.publish(target)
            except OSError as error:
                logger.warning("%s; trying again later", error)

    def close(self) -> None:
        """Close both."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _unfinished(self, target: Path) -> Path:
        return self._folder.unfinished / target.name

    def _target(self, item: Item) -> Path | None:
        if item.entry.state == "downloaded":
            return self._folder.results
        if item.entry.state in ("failed", "held"):
            return self._folder.errors
        return None


def _free_name(path: Path, taken: Container[str]) -> Path:
    """``results-1.jsonl``, or the next number that is free, here and in a store."""
    names = (path.with_stem(f"{path.stem}-{number}") for number in count(1))
    return next(n for n in names if not n.exists() and n.name not in taken)


def line_of(item: Item) -> str:
    """The line of an item, as JSON. Webhook URLs hold secrets and are left out."""
    entry = item.entry
    facts: dict[str, Any] = {
        "custom_id": item.custom_id,
        "key": item.key,
        "line": item.line,
        "state": entry.state,
        "id": entry.track_id,
        "seed": entry.seed,
    }
    if entry.state == "downloaded":
        facts |= {"file": item.file, **item.result}
    else:
        facts |= {"prompt": item.request.prompt, "code": entry.code}
        facts |= {"error": entry.error}
    return json.dumps(facts, ensure_ascii=False) + "\n"


def result_json(track: Generation) -> str:
    """The facts about an ended track that the journal keeps, as JSON."""
    parameters = track.parameters
    return json.dumps(
        {
            "prompt": track.prompt,
            "title": track.title,
            "audio_url": track.audio_url,
            "duration": track.duration,
            "bpm": parameters.bpm,
            "keyscale": parameters.keyscale,
            "timesignature": parameters.timesignature,
            "language": parameters.language,
            "created_at": _iso(track.created_at),
            "completed_at": _iso(track.completed_at),
        },
        ensure_ascii=False,
    )


def _iso(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat()
