"""What a folder holds of rows that its journal does not know.

That happens when the journal's folder was left behind, or an older copy of it was put
back. Without this check the rows would be paid for again. A line of ``results.jsonl``
or ``errors.jsonl`` says what became of an item; an MP3 under the item's name, without
such a line, says that it was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async.batch._folder import JOURNAL_FOLDER, OLD_JOURNAL_FOLDER
from finetuning_async.journal import Adopted, BatchError, fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._folder import Folder
    from finetuning_async.journal import Item, NewItem

PAGE_SIZE: Final = 99

_ITEM_FIELDS: Final = frozenset({"custom_id", "key", "line", "state", "id", "seed"})
"""Fields of a line that describe the item; the others describe its track."""


@attrs.frozen
class Existing:
    """The outputs and audio files in a folder.

    Attributes:
        lines: The lines of both outputs, by the key of their item.
        files: Names and sizes in bytes, by the name as `fold` gives it.
        foreign: Outputs with lines that no batch has written.
        known: Keys of items that the journal knows.
    """

    lines: Mapping[str, dict[str, Any]]
    files: Mapping[str, tuple[str, int]]
    foreign: AbstractSet[Path]
    known: AbstractSet[str] = frozenset()

    @classmethod
    def read(cls, folder: Folder) -> Existing:
        """Read a folder."""
        lines: dict[str, dict[str, Any]] = {}
        foreign = set()
        # A line of the results replaces one of the errors: the item was retried.
        for path in (folder.errors, folder.results):
            for line in _lines(path):
                if line is None:
                    foreign.add(path)
                else:
                    lines[line["key"]] = line
        sizes = folder.sizes().items()
        files = {fold(name): (name, size) for name, size in sizes}
        songs = {name: found for name, found in files.items() if name.endswith(".mp3")}
        return cls(lines, songs, foreign)

    def without(self, known: Iterable[Item]) -> Existing:
        """The same without the lines and files of these items."""
        lines, files, keys = dict(self.lines), dict(self.files), set()
        for item in known:
            keys.add(item.key)
            lines.pop(item.key, None)
            for name in (item.file, item.saved_as):
                files.pop(fold(name), None)
        return Existing(lines, files, self.foreign, keys if lines or files else set())

    def outcomes(self, items: Iterable[NewItem]) -> list[tuple[NewItem, Adopted]]:
        """The items whose outcome the folder shows, with that outcome."""
        unknown = (item for item in items if item.key not in self.known)
        found = ((item, self.outcome_of(item)) for item in unknown)
        return [(item, outcome) for item, outcome in found if outcome is not None]

    def outcome_of(self, item: NewItem) -> Adopted | None:
        """The outcome of an item, as far as the folder shows it."""
        line = self.lines.get(item.key)
        if line is not None:
            return self._of_line(line, item)
        name, size = self.files.get(fold(item.file), (item.file, 0))
        if not size:
            return None
        return Adopted("downloaded", result=_json({"file": name, "size": size}))

    def track_outcome_of(self, item: NewItem) -> Adopted | None:
        """The same, but only if a line names the item's track."""
        line = self.lines.get(item.key)
        outcome = None if line is None else self._of_line(line, item)
        return outcome if outcome and outcome.result and outcome.track_id else None

    def _of_line(self, line: dict[str, Any], item: NewItem) -> Adopted:
        track, seed = _text(line.get("id")), line.get("seed")
        seed = seed if isinstance(seed, int) else None
        if line["state"] != "downloaded":
            code, error = _text(line.get("code")), _text(line.get("error"))
            return Adopted(line["state"], track, seed, code=code, error=error)
        result = {
            name: value for name, value in line.items() if name not in _ITEM_FIELDS
        }
        listed = fold(_plain_name(result.get("file"), item.file))
        name, size = self.files.get(listed, ("", 0))
        result["file"] = name or item.file
        expected = result.get("size")
        # A file may have grown, by tags that another program wrote; it is not cut off.
        is_whole = size >= (expected if isinstance(expected, int) else 1)
        state = "downloaded" if is_whole or track is None else "completed"
        return Adopted(state, track, seed, result=_json(result))  # type: ignore[arg-type]  # one of two


def existing_error(
    folder: str, outcomes: Sequence[tuple[NewItem, Adopted]]
) -> BatchError:
    """The error for rows that a folder shows as made, but its journal does not know."""
    item, outcome = outcomes[0]
    file = json.loads(outcome.result or "{}").get("file", "in errors.jsonl")
    return BatchError(
        f"{folder} holds results of {len(outcomes)} of these rows (such as {file} of"
        f" {item.custom_id or item.key}), but no journal that lists them, so they would"
        " be charged again. Nothing was added, and nothing was sent. If the batch was"
        f" moved, move its folder {JOURNAL_FOLDER} ({OLD_JOURNAL_FOLDER} of older"
        " versions) here as well. Otherwise choose: --adopt (in Python"
        ' existing="adopt") counts these rows as done; --anew (existing="anew") makes'
        " them again, under other names"
    )


async def check_tracks(
    client: AsyncClient, folder: str, outcomes: Iterable[Adopted]
) -> None:
    """Check that the tracks to adopt belong to this account, and can be downloaded.

    Raises:
        BatchError: They do not, or cannot.
        FinetuningError: The tracks could not be listed.
    """
    results = f"{folder.rstrip('/')}/results.jsonl"
    tracks = [one for one in outcomes if one.track_id is not None and one.result]
    wanted = {str(one.track_id) for one in tracks}
    if len(wanted) < len(tracks):
        raise BatchError(
            f"{results} has two lines with the same track id, so they cannot be"
            " adopted; remove the wrong line. Nothing was added"
        )
    absent = await _not_listed(client, wanted)
    if wanted and absent == wanted:
        raise BatchError(
            f"none of the {len(wanted)} tracks in {results} is in the account of this"
            " API key; use the key of the account that made them. Nothing was added"
        )
    for one in tracks:
        if one.track_id in absent and one.state == "completed":
            raise BatchError(
                f"track {one.track_id} is no longer in the account, and its file in"
                f" {folder} is missing or truncated; remove its line from results.jsonl"
                " to have it made again. Nothing was added"
            )


async def _not_listed(client: AsyncClient, wanted: set[str]) -> set[str]:
    """Those of some ids that the account does not have."""
    absent = set(wanted)
    page = await client.generations.list(limit=PAGE_SIZE) if absent else None
    while page is not None:
        absent.difference_update(row.id for row in page)
        page = await page.next_page() if absent else None
    return absent


def _lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """The lines of an output; `None` for each that no batch has written.

    The part after the last line break is skipped: a crash may have cut it off.
    """
    if path.is_dir():
        yield None
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    for row in text.split("\n")[:-1]:
        try:
            line = json.loads(row)
        except (ValueError, RecursionError):
            line = None
        yield line if isinstance(line, dict) and _is_ours(line) else None


def _is_ours(line: dict[str, Any]) -> bool:
    if not isinstance(line.get("key"), str):
        return False
    return line.get("state") in ("downloaded", "failed", "held")


def _plain_name(name: object, default: str) -> str:
    """A file name that cannot lead out of the folder."""
    if not isinstance(name, str) or "/" in name or "\\" in name or name in ("", ".."):
        return default
    return name


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _json(result: dict[str, Any]) -> str:
    return json.dumps(result, ensure_ascii=False)
