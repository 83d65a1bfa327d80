"""Recovery without a ``Date``, with a wrong one, and with rows without dates."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from finetuning_async import AsyncClient, SubmissionUnknownError
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from collections.abc import Callable


class Service:
    """A service that loses the response to every create, with a `Date` of choice."""

    def __init__(self, date: Callable[[], str | None]) -> None:
        self.date = date
        self.rows: list[dict[str, Any]] = []
        self.posts = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        date = self.date()
        headers = {} if date is None else {"Date": date}
        if request.method == "POST":
            self.posts += 1
            body = re.sub(r"\s", "", request.content.decode())
            seed = int(re.findall(r'"seed":(\d+)', body)[0])
            self.rows.insert(
                0, self.row(f"gen_{self.posts}", seed, "2026-03-02 10:00:00")
            )
            return httpx.Response(502, headers=headers)
        data = {"generations": self.rows, "hasMore": False, "nextOffset": 0}
        return httpx.Response(200, json={"data": data}, headers=headers)

    @staticmethod
    def row(track_id: str, seed: int, created_at: str | None) -> dict[str, Any]:
        return {
            "id": track_id,
            "prompt": "x",
            "type": "music",
            "status": "processing",
            "parameters": {"seed": seed},
            "createdAt": created_at,
        }

    def client(self) -> AsyncClient:
        return AsyncClient(
            "ft_live_" + "e" * 32,
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(self)),
        )


async def test_without_a_date_a_random_seed_is_enough() -> None:
    service = Service(lambda: None)
    async with service.client() as client:
        track = await client.generations.create("x")
    assert track.id == "gen_1"
    assert service.posts == 1


async def test_without_a_date_the_callers_seed_is_not_enough() -> None:
    service = Service(lambda: None)
    async with service.client() as client:
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("x", seed=3, on_unknown="resubmit")
    assert caught.value.candidates == ("gen_1",)
    assert caught.value.sent_at is None
    assert service.posts == 1


async def test_a_row_without_a_date_proves_nothing_with_the_callers_seed() -> None:
    service = Service(lambda: "Mon, 02 Mar 2026 10:00:00 GMT")
    service.rows.append(service.row("old", 3, None))
    async with service.client() as client:
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("x", seed=3)
    assert set(caught.value.candidates) == {"old", "gen_1"}


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "not a date",
        "",
    ],
)
async def test_an_invalid_date_is_ignored(date: str) -> None:
    service = Service(lambda: date)
    async with service.client() as client:
        assert (await client.generations.create("x")).id == "gen_1"


async def test_a_proxy_whose_clock_is_an_hour_ahead_hides_no_track() -> None:
    dates = iter(["Mon, 02 Mar 2026 11:00:00 GMT"])
    right = "Mon, 02 Mar 2026 10:00:00 GMT"
    service = Service(lambda: next(dates, right))
    async with service.client() as client:
        assert (await client.generations.create("x", seed=3)).id == "gen_1"


async def test_local_wall_time_does_not_matter() -> None:
    start = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
    async with emulated(Emulator(start_time=start)) as (emulator, client):
        emulator.add_fault(Fault("lost_after_commit", "/v1/generations"))
        track = await client.generations.create("x", seed=3)
        assert list(emulator.tracks) == [track.id]
