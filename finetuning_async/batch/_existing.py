"""What a folder holds of rows that its journal does not know: they would be paid again.

So it is when the folder of the journal was left behind, or an older copy of it was put
back. A line of ``results.jsonl`` or ``errors.jsonl`` tells what became of an item; an
MP3 under its name, with no such line, that it was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async.batch._folder import FORMER, HOME
from finetuning_async.journal import Adopted, BatchError, fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._folder import Folder
    from finetuning_async.journal import Item, NewItem

PAGE_SIZE: Final = 99

_OWN: Final = frozenset({"custom_id", "key", "line", "state", "id", "seed"})
"""What a line says of the item; the rest is what became of its track."""


@attrs.frozen
class Existing:
    """What is in a folder.

    Attributes:
        lines: Those of both outputs, by the key of their item.
        files: Names and sizes in bytes, by the name as `fold` gives it.
        strange: Outputs with lines that no batch has written.
        known: Keys of items that the journal knows, whatever is here.
    """

    lines: Mapping[str, dict[str, Any]]
    files: Mapping[str, tuple[str, int]]
    strange: AbstractSet[Path]
    known: AbstractSet[str] = frozenset()

    @classmethod
    def read(cls, folder: Folder) -> Existing:
        """Look."""
        lines: dict[str, dict[str, Any]] = {}
        strange = set()
        for path in (folder.errors, folder.results):
            for line in _lines(path):
                if line is None:
                    strange.add(path)
                else:
                    lines[line["key"]] = line
        sizes = folder.sizes().items()
        files = {fold(name): (name, size) for name, size in sizes}
        songs = {name: facts for name, facts in files.items() if name.endswith(".mp3")}
        return cls(lines, songs, strange)

    def beyond(self, known: Iterable[Item]) -> Existing:
        """What of it is none of these items'."""
        lines, files, keys = dict(self.lines), dict(self.files), set()
        for item in known:
            keys.add(item.key)
            lines.pop(item.key, None)
            for name in (item.file, item.saved_as):
                files.pop(fold(name), None)
        return Existing(lines, files, self.strange, keys if lines or files else set())

    def told(self, items: Iterable[NewItem]) -> list[tuple[NewItem, Adopted]]:
        """What became of those items that it knows."""
        unknown = (item for item in items if item.key not in self.known)
        found = ((item, self.of(item)) for item in unknown)
        return [(item, one) for item, one in found if one is not None]

    def of(self, item: NewItem) -> Adopted | None:
        """What became of an item, as far as can be seen here."""
        line = self.lines.get(item.key)
        if line is not None:
            return self._of_line(line, item)
        name, size = self.files.get(fold(item.file), (item.file, 0))
        if not size:
            return None
        return Adopted("downloaded", result=_json({"file": name, "size": size}))

    def result_of(self, item: NewItem) -> Adopted | None:
        """The same, but only for a track that a line names."""
        line = self.lines.get(item.key)
        told = None if line is None else self._of_line(line, item)
        return told if told and told.result and told.track_id else None

    def _of_line(self, line: dict[str, Any], item: NewItem) -> Adopted:
        track, seed = _text(line.get("id")), line.get("seed")
        seed = seed if isinstance(seed, int) else None
        if line["state"] != "downloaded":
            code, error = _text(line.get("code")), _text(line.get("error"))
            return Adopted(line["state"], track, seed, code=code, error=error)
        facts = {name: value for name, value in line.items() if name not in _OWN}
        name, size = self.files.get(fold(_plain(facts.get("file"), item.file)), ("", 0))
        facts["file"] = name or item.file
        expected = facts.get("size")
        is_whole = size >= (expected if isinstance(expected, int) else 1)
        state = "downloaded" if is_whole or track is None else "completed"
        return Adopted(state, track, seed, result=_json(facts))  # type: ignore[arg-type]  # one of two


def refusal(folder: Path, told: Sequence[tuple[NewItem, Adopted]]) -> BatchError:
    """Why nothing goes on before it is said what is there."""
    item, one = told[0]
    file = json.loads(one.result or "{}").get("file", "in errors.jsonl")
    return BatchError(
        f"{folder} holds what became of {len(told)} of these rows (such as {file} of"
        f" {item.custom_id or item.key}), and no journal that knows it: they would be"
        f" paid for again. If the batch was moved, bring its folder {HOME} ({FORMER} of"
        " older versions) here as well. Else say what holds: --adopt (in Python"
        ' existing="adopt") counts them as done; --anew (existing="anew") makes them'
        " again, under other names. Nothing was taken in, and nothing was sent"
    )


async def check_tracks(
    client: AsyncClient, folder: Path, told: Iterable[Adopted]
) -> None:
    """Check that what is read back is this account's, and can be fetched if need be.

    Raises:
        BatchError: It is not.
        FinetuningError: The tracks could not be listed.
    """
    tracks = [one for one in told if one.track_id is not None and one.result]
    wanted = {str(one.track_id) for one in tracks}
    if len(wanted) < len(tracks):
        raise BatchError(f"{folder / 'results.jsonl'} names a track twice")
    lost = await _not_listed(client, wanted)
    if wanted and lost == wanted:
        raise BatchError(
            f"none of the {len(wanted)} tracks that {folder / 'results.jsonl'} names is"
            " in the account of this key; is it another's? Nothing was taken in"
        )
    for one in tracks:
        if one.track_id in lost and one.state == "completed":
            raise BatchError(
                f"{one.track_id} is not in the account any more, and its file in"
                f" {folder} is gone or cut short; remove its line from results.jsonl to"
                " have it made anew. Nothing was taken in"
            )


async def _not_listed(client: AsyncClient, wanted: set[str]) -> set[str]:
    """Which of some ids the account does not have."""
    lost = set(wanted)
    page = await client.generations.list(limit=PAGE_SIZE) if lost else None
    while page is not None:
        lost.difference_update(row.id for row in page)
        page = await page.next_page() if lost else None
    return lost


def _lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """The lines of an output; `None` for one that we have not written.

    The last one may be torn: that is ours.
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


def _plain(name: object, default: str) -> str:
    """A name that is no path."""
    if not isinstance(name, str) or "/" in name or "\\" in name or name in ("", ".."):
        return default
    return name


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False)
