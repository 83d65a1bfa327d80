"""Responses that belong to another request: none is taken for one of ours."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import pytest

from finetuning_async import (
    APIResponseError,
    AsyncClient,
    Generation,
    SoundEffect,
    SubmissionUnknownError,
)
from tests._raw_server import KEY, Asked, created, listed, response, row, serving

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.sampled(2)


class Service:
    """Makes a track for each create, and shows it.

    Attributes:
        rows: The tracks, oldest first.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def make(self, asked: Asked, **more: Any) -> dict[str, Any]:
        self.rows.append(row(asked, len(self.rows) + 1, **more))
        return self.rows[-1]

    def read(self, asked: Asked) -> bytes:
        wanted = asked.path.rpartition("/")[2]
        for one in self.rows:
            if one["id"] == wanted:
                return response(200, {"data": one})
        return listed(self.rows)


@pytest.mark.parametrize("gap", [0.0, 0.02])
async def test_a_response_written_twice_is_taken_once(gap: float) -> None:
    service = Service()

    async def respond(asked: Asked) -> bytes:
        if not asked.is_create:
            return service.read(asked)
        body = created(service.make(asked))
        if gap:
            await asked.stream.send(body)
            await anyio.sleep(gap)
            return body
        return body + body

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        with anyio.fail_after(10):
            tracks = [await client.generations.create(f"song {n}") for n in range(3)]
            assert [t.id for t in tracks] == ["gen_1", "gen_2", "gen_3"]
            assert [t.prompt for t in tracks] == ["song 0", "song 1", "song 2"]
            assert len(server.creates) == 3
            if not gap:  # the second of them is not its create's, so it is looked up
                assert len(server.asked) == 4


async def _shift(service: Service, asked: Asked, held: list[bytes]) -> bytes:
    """From the second on, the responses of a connection come one request late."""
    if not asked.is_create:
        return service.read(asked)
    body = created(service.make(asked))
    held.append(body)
    return held[0] if len(held) == 2 else body


@pytest.mark.parametrize("library", [None, httpx, httpx2], ids=["ours", "1", "2"])
async def test_an_id_that_is_claimed_is_no_acceptance(library: Any) -> None:
    """The second create gets the response to the first one."""
    service = Service()
    held: list[bytes] = []

    async def respond(asked: Asked) -> bytes:
        return await _shift(service, asked, held)

    http = None if library is None else library.AsyncClient()
    async with serving(respond) as server, http or nullcontext():
        async with AsyncClient(KEY, base_url=server.url, http_client=http) as client:
            tracks = [await client.generations.create("song") for _ in range(3)]
        assert [t.id for t in tracks] == ["gen_1", "gen_2", "gen_3"]
        assert len(server.creates) == 3
        after = server.asked.index(server.creates[1]) + 1
        was_kept = server.asked[after].connection == server.creates[1].connection
        assert was_kept == (library is not None)


async def test_two_claimed_ids_of_effects_are_distinguished() -> None:
    """Without a seed the second create is in doubt, not the first one again."""
    service = Service()
    first: list[bytes] = []

    async def respond(asked: Asked) -> bytes:
        if not asked.is_create:
            return response(200, {"data": {"soundEffects": [], "hasMore": False}})
        first.append(created(service.make(asked)))
        return first[0]

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        track = await client.sound_effects.create("rain")
        assert track.id == "gen_1"
        with pytest.raises(SubmissionUnknownError, match="gen_1 is the track"):
            await client.sound_effects.create("rain", timeout=1)
        assert len(server.creates) == 2


FOREIGN = {"prompt": "another client's", "parameters": {"seed": 5}, "id": "gen_99"}


async def test_a_foreign_seed_and_prompt_are_no_acceptance() -> None:
    service = Service()

    async def respond(asked: Asked) -> bytes:
        if not asked.is_create:
            return service.read(asked)
        return created(service.make(asked) | FOREIGN)

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        track = await client.generations.create("song")
        assert (track.id, track.prompt) == ("gen_1", "song")
        assert len(server.creates) == 1
        assert client.rate_limit_status().creates.available == 9


def _prompt(change: Callable[[str], str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda track: {"prompt": change(track["prompt"])}


ODD: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "another seed": lambda _: {"parameters": {"seed": 5}},
    "another prompt": _prompt(lambda _: "something else"),
    "a trimmed prompt and another seed": lambda track: {
        "prompt": track["prompt"].strip().upper(),
        "parameters": {"seed": 5},
    },
    "a prompt cut short and another seed": lambda track: {
        "prompt": track["prompt"][:30],
        "parameters": {"seed": 5},
    },
    "no seed and another prompt": lambda _: {"prompt": "x", "parameters": {}},
    "no prompt and another seed": lambda _: {
        "prompt": None,
        "parameters": {"seed": 5},
    },
    "a longer track": lambda _: {"parameters": {"duration": 90}},
}


@pytest.mark.parametrize("odd", ODD)
async def test_changes_of_the_service_are_still_accepted(odd: str) -> None:
    service = Service()

    async def respond(asked: Asked) -> bytes:
        assert asked.is_create, "nothing is looked up"
        track = service.make(asked)
        return created(track | ODD[odd](track))

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        track = await client.generations.create(
            "  Rain on a tin roof, at night, far away"
        )
        assert track.id == "gen_1"


async def test_an_enhanced_prompt_is_accepted() -> None:
    service = Service()

    async def respond(asked: Asked) -> bytes:
        assert asked.is_create, "nothing is looked up"
        odd = {"prompt": "a vast, slow pad", "parameters": {"seed": 5}}
        return created(service.make(asked) | odd)

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        track = await client.instrumentals.create("wind")
        assert track.id == "gen_1"


async def test_an_account_is_not_taken_for_a_track() -> None:
    service = Service()
    me = {"id": "usr_1", "email": "a@b.example", "tier": "pro", "limits": {}}

    async def respond(asked: Asked) -> bytes:
        if not asked.is_create:
            return service.read(asked)
        service.make(asked)
        return response(200, {"data": me})

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        assert (await client.generations.create("song")).id == "gen_1"


async def test_an_id_alone_is_an_acceptance() -> None:
    async def respond(asked: Asked) -> bytes:
        return response(202, {"data": {"id": "gen_1"}})

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        assert (await client.generations.create("song")).id == "gen_1"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("how", ["get", "wait"])
async def test_the_state_of_another_track_is_not_taken(how: str) -> None:
    asked_for = 0
    seen: list[Asked] = []

    async def respond(asked: Asked) -> bytes:
        nonlocal asked_for
        asked_for += 1
        seen.append(asked)
        which = "gen_2" if asked_for <= 2 else "gen_1"
        state = {"id": which, "status": "completed", "prompt": which}
        return response(200, {"data": state})

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        await client.generations.get("gen_2")
        track: Generation | SoundEffect
        if how == "get":
            track = await client.generations.get("gen_1")
        else:
            track = await client.wait_for_completion("gen_1")
        assert (track.id, track.prompt) == ("gen_1", "gen_1")
        assert seen[1].connection != seen[2].connection


async def test_the_state_of_another_track_is_an_error_if_it_persists() -> None:
    async def respond(asked: Asked) -> bytes:
        return response(200, {"data": {"id": "gen_2", "status": "completed"}})

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        await client.generations.get("gen_2")
        with pytest.raises(APIResponseError, match="gen_2") as caught:
            await client.generations.get("gen_1", max_retries=1)
        assert caught.value.generation_id == "gen_1"
        assert len(server.asked) == 3


@pytest.mark.parametrize("spelled", ["GEN_1", "1", "b81f4d36"])
async def test_an_id_may_be_spelled_differently(spelled: str) -> None:
    async def respond(asked: Asked) -> bytes:
        return response(200, {"data": {"id": spelled, "status": "completed"}})

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        assert (await client.generations.get("gen_1")).status == "completed"


async def test_a_connection_that_may_be_about_to_close_is_not_used() -> None:
    """Servers close it after 5 s by their clock, a round trip earlier than here."""
    service = Service()

    async def respond(asked: Asked) -> bytes:
        return created(service.make(asked))

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        await client.generations.create("a")
        await client.generations.create("b")
        await anyio.sleep(4.3)
        await client.generations.create("c")
        assert [asked.connection for asked in server.creates] == [0, 0, 1]


async def test_ids_that_start_over_are_accepted() -> None:
    """As with an emulator that is restarted while the program goes on."""
    service = Service()

    async def respond(asked: Asked) -> bytes:
        return created(service.make(asked)) if asked.is_create else service.read(asked)

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        first = await client.generations.create("song")
        service.rows.clear()
        again = await client.generations.create("another song")
        assert first.id == again.id == "gen_1"
        assert again.prompt == "another song"
        assert len(server.creates) == 2


async def test_an_id_given_twice_is_no_acceptance_even_with_our_seed() -> None:
    service = Service()

    async def respond(asked: Asked) -> bytes:
        if asked.is_create:
            return created(service.make(asked) | {"id": "gen_1"})
        return service.read(asked)

    async with (
        serving(respond) as server,
        AsyncClient(KEY, base_url=server.url) as client,
    ):
        tracks = [await client.generations.create("song") for _ in range(2)]
        assert [track.id for track in tracks] == ["gen_1", "gen_2"]
        assert len(server.creates) == 2
