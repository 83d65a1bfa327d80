"""A service that begins its ids anew, as an emulator does that is started again."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from finetuning_async import AsyncClient, SubmissionUnknownError


class Service:
    """A service that gives every track the same id.

    Attributes:
        shows: The seed that the track itself shows; `None` for that of the last create.
    """

    def __init__(self, shows: int | None = None) -> None:
        self.shows = shows
        self.seeds: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.seeds.append(json.loads(request.content)["seed"])
            return httpx.Response(202, json={"data": self.row(self.seeds[-1])})
        if request.url.path.endswith("/gen_1"):
            shown = self.seeds[-1] if self.shows is None else self.shows
            return httpx.Response(200, json={"data": self.row(shown)})
        rows = [self.row(seed) for seed in self.seeds[:1]]
        return httpx.Response(200, json={"data": {"generations": rows}})

    def row(self, seed: int) -> dict[str, Any]:
        fields = {"id": "gen_1", "prompt": "x", "status": "processing"}
        return {**fields, "parameters": {"seed": seed}}

    def client(self) -> AsyncClient:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        return AsyncClient("ft_live_" + "e" * 32, http_client=http)


async def test_an_id_given_out_again_is_accepted_with_the_seed_drawn_for_it() -> None:
    service = Service()
    async with service.client() as client:
        await client.generations.create("x")
        track = await client.generations.create("x")
    assert track.id == "gen_1"
    assert len(set(service.seeds)) == 2


@pytest.mark.parametrize(("shows", "seed"), [(7, None), (None, 7)])
async def test_a_response_with_a_known_id_is_foreign_without_such_a_seed(
    shows: int | None, seed: int | None
) -> None:
    service = Service(shows)
    async with service.client() as client:
        await client.generations.create("x", seed=seed)
        with pytest.raises(SubmissionUnknownError, match="another request"):
            await client.generations.create("x", seed=seed)
    assert len(service.seeds) == 2
