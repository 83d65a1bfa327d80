"""A store of turns in Redis or Valkey: an exchange is one run of a script.

The script has the rules and reads the server's clock, so no clocks need agree. All its
keys have one hash tag, so that they lie together in a cluster.
"""

from __future__ import annotations

import json
from importlib.resources import files
from math import inf
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async._rate_limits import BudgetStatus
from finetuning_async._store_words import Reply, Told

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from finetuning_async._store_words import Request

SCRIPT: Final = (
    files("finetuning_async.redis").joinpath("_turns.lua").read_text("utf-8")
)

PARTS: Final = (
    *("book", "leases"),
    *("creates:out", "creates:back"),
    *("reads:out", "reads:back"),
)

VERSION: Final = 1
"""Of what is kept; another one has keys of its own."""


def keys_of(account: str) -> list[str]:
    """The keys of an account.

    Args:
        account: A hash, never the API key.
    """
    return [f"finetuning:{VERSION}:{{{account}}}:{part}" for part in PARTS]


def arguments(request: Request, rng: random.Random) -> list[str]:
    """What the script is called with."""
    epoch = f"{rng.getrandbits(64):016x}"
    return [json.dumps(_as_json(request)), repr(rng.random()), epoch]


def _as_json(request: Request) -> dict[str, Any]:
    """A request without what it does not say: Lua has no null."""
    return attrs.asdict(request, filter=lambda _, value: value is not None)


def read_reply(text: str | bytes) -> Reply:
    """What the script answered.

    Raises:
        LookupError: It is no such answer.
        TypeError: Likewise.
        ValueError: Likewise.
    """
    said = json.loads(text)
    return Reply(
        epoch=said["epoch"],
        granted=frozenset(said["granted"].split()),
        wait=said["wait"],
        budgets={name: _told(told) for name, told in said["budgets"].items()},
        processes=said["processes"],
    )


def _told(said: Mapping[str, Any]) -> Told:
    status = BudgetStatus(
        limit=said.get("limit"),
        per=said.get("per"),
        available=said.get("available"),
        next_free_in=said.get("next_free_in", inf),
        waiting=said["waiting"],
        closed_for=said["closed_for"],
        service_limit=said.get("service_limit"),
        service_remaining=said.get("service_remaining"),
        service_spoke_ago=said.get("service_spoke_ago"),
    )
    return Told(status=status, newcomer_in=said["newcomer_in"])


class RedisStore:
    """A store of one event loop.

    Args:
        client: A `redis.asyncio.Redis`.
        account: A hash, never the API key.
        rng: Where jitter and names come from.
    """

    def __init__(self, client: Any, account: str, rng: random.Random) -> None:
        self._run = client.register_script(SCRIPT)
        self._keys = keys_of(account)
        self._rng = rng

    async def exchange(self, request: Request) -> Reply:
        """As `Store.exchange`.

        Raises:
            redis.exceptions.RedisError: The server did not answer.
        """
        args = arguments(request, self._rng)
        return read_reply(await self._run(keys=self._keys, args=args))
