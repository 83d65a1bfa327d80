"""Where processes that share a Redis meet, so that one of them polls for all.

A meeting is one run of a script. Whoever comes first, or first after a leader that did
not come back, leads for `LEAD` seconds at a time, with a token that is higher than any
before: what a process read under an older one is not taken.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async._poll_words import Heard, Seen, Wanted
from finetuning_async.redis._store import VERSION

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from finetuning_async._poll_words import Words

_PACKAGE: Final = files("finetuning_async.redis")
SCRIPT: Final = _PACKAGE.joinpath("_meeting.lua").read_text("utf-8")

PARTS: Final = ("count", "lead", "wanted", "processes", "news")

LEAD: Final = 3.0
"""Seconds without a word from the leader after which another one leads."""

MARGIN: Final = 0.5
"""Seconds by which a leader ends its lead earlier than the server does."""

GONE_AFTER: Final = 30
"""Seconds without a word after which a process waits for nothing any more."""


def keys_of(account: str) -> list[str]:
    """The keys of an account.

    Args:
        account: A hash, never the API key.
    """
    return [f"finetuning:{VERSION}:{{{account}}}:poll:{part}" for part in PARTS]


class RedisCoordinator:
    """A `PollCoordinator` of one event loop.

    Args:
        client: A `redis.asyncio.Redis`.
        account: A hash, never the API key.
        rng: Where the name of the process comes from.
    """

    def __init__(self, client: Any, account: str, rng: random.Random) -> None:
        self._run = client.register_script(SCRIPT)
        self._keys = keys_of(account)
        self._process = f"{rng.getrandbits(80):020x}"
        self._token = 0
        self._news = -1
        self._version = -1

    async def meet(self, words: Words) -> Heard:
        """As `PollCoordinator.meet`.

        Raises:
            redis.exceptions.RedisError: The server did not answer.
        """
        said = {
            "process": self._process,
            "token": self._token,
            "news": self._news,
            "version": self._version,
            "lead_ms": round(LEAD * 1000),
            "gone_after": GONE_AFTER,
            **attrs.asdict(words, filter=lambda _, value: value is not None),
            # As text: Lua would make objects of empty lists.
            "seen": [{"kind": s.kind, "row": json.dumps(s.row)} for s in words.seen],
        }
        return self._heard(await self._run(keys=self._keys, args=[json.dumps(said)]))

    def _heard(self, answer: Sequence[Any]) -> Heard:
        is_new, leads, self._token, self._news, version, news, told, wanted, at = answer
        others = None
        if told:
            self._version = version
            others = list(self._others(wanted, float(at)))
        entries = [json.loads(entry) for entry in news]
        entries = [entry for entry in entries if entry["by"] != self._process]
        return Heard(
            leads_for=LEAD - MARGIN if leads else 0.0,
            seen=[
                Seen(kind=e["kind"], row=json.loads(e["row"]))
                for e in entries
                if "row" in e
            ],
            refused=[e["refused"] for e in entries if "refused" in e],
            hints=[e["hint"] for e in entries if "hint" in e],
            others=others,
            is_new=bool(is_new),
        )

    def _others(self, pairs: Sequence[bytes], now: float) -> Iterable[Wanted]:
        """What others want, of what all want: names and values in turn."""
        for field, value in zip(pairs[::2], pairs[1::2], strict=True):
            process, _, track_id = field.decode().partition(":")
            if process != self._process:
                row = json.loads(value)
                accepted = row.get("accepted")
                age = None if accepted is None else max(now - float(accepted), 0.0)
                yield Wanted(
                    id=track_id, kind=row["kind"], age=age, length=row.get("length")
                )
