"""A gateway refuses a create: the error is raised soon, and nothing is sent again."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from finetuning_async import (
    APIStatusError,
    AsyncClient,
    GenerationRequest,
    RateLimitError,
    SubmissionUnknownError,
)
from finetuning_async._submission import _submitter
from tests._raw_server import (
    KEY,
    Asked,
    Server,
    created,
    listed,
    response,
    row,
    serving,
)

pytestmark = pytest.mark.sampled(2)

PAGE = "<html><body>Too many requests</body></html>"


class Gateway:
    """Responds to the first create itself, and passes the others on.

    Attributes:
        says: Its response to the first create.
        passes_on: Whether the service gets the first create as well.
        lists: The response to a list, if not the tracks.
        rows: The tracks of the service.
    """

    def __init__(
        self, says: bytes, *, passes_on: bool = False, lists: bytes | None = None
    ) -> None:
        self.says = says
        self.passes_on = passes_on
        self.lists = lists
        self.rows: list[dict[str, Any]] = []

    async def answer(self, asked: Asked) -> bytes:
        if not asked.is_create:
            return listed(self.rows) if self.lists is None else self.lists
        reply, self.says = self.says, b""
        if not reply or self.passes_on:
            self.rows.append(row(asked, len(self.rows) + 1))
        return reply or created(self.rows[-1])


def throttled(*headers: str) -> bytes:
    return response(429, None, *headers, html=PAGE)


ON_UNKNOWN = pytest.mark.parametrize("on_unknown", ["raise", "resubmit"])


@pytest.mark.sampled(3)
@ON_UNKNOWN
@pytest.mark.parametrize(
    "says",
    [
        throttled("Retry-After: 1"),
        response(429, {"message": "API rate limit exceeded"}, "Retry-After: 1"),
        response(429, {"error": "slow down"}, "Retry-After: 1"),
    ],
    ids=["html", "json", "error"],
)
async def test_a_429_of_a_gateway_is_raised_after_one_lookup(
    says: bytes, on_unknown: Any
) -> None:
    gateway = Gateway(says)
    async with serving(gateway.answer) as server, _client(server) as client:
        began = time.monotonic()
        with pytest.raises(RateLimitError) as caught:
            await client.generations.create("x", on_unknown=on_unknown)
        assert time.monotonic() - began < 2
        assert caught.value.retry_after == 1
        assert not caught.value.safe_to_retry
        assert [asked.method for asked in server.asked] == ["POST", "GET"]
        await anyio.sleep(1)
        assert (await client.generations.create("x")).id == "gen_1"


async def test_a_create_that_the_gateway_passed_on_is_found() -> None:
    gateway = Gateway(throttled("Retry-After: 1"), passes_on=True)
    async with serving(gateway.answer) as server, _client(server) as client:
        assert (await client.generations.create("x")).id == "gen_1"
        assert len(server.asked) == 2


@pytest.mark.sampled(2)
@pytest.mark.parametrize("lists", [throttled("Retry-After: 1"), b""])
async def test_a_list_that_cannot_be_read_delays_the_error_only_briefly(
    lists: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_submitter, "CHECK_TIMEOUT", 1.0)
    gateway = Gateway(throttled("Retry-After: 1"), lists=lists)
    async with serving(gateway.answer) as server, _client(server) as client:
        with anyio.fail_after(3), pytest.raises(RateLimitError):
            await client.generations.create("x")
        assert len(server.creates) == 1


@ON_UNKNOWN
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirected_create_is_raised_at_once(
    status: int, on_unknown: Any
) -> None:
    gateway = Gateway(response(status, None, "Location: https://b.example/v1", html=""))
    async with serving(gateway.answer) as server, _client(server) as client:
        began = time.monotonic()
        with pytest.raises(APIStatusError, match=r"https://b\.example/v1") as caught:
            await client.generations.create("x", on_unknown=on_unknown)
        assert time.monotonic() - began < 1
        assert caught.value.status_code == status
        assert not caught.value.safe_to_retry
        assert [asked.method for asked in server.asked] == ["POST"]


async def test_a_redirect_without_a_location_is_raised() -> None:
    gateway = Gateway(response(302, None, html="<a href='/'>moved</a>"))
    async with serving(gateway.answer) as server, _client(server) as client:
        with pytest.raises(APIStatusError, match="redirected without a Location"):
            await client.sound_effects.create("x")
        assert len(server.asked) == 1


async def test_secrets_in_a_location_are_not_shown() -> None:
    to = f"Location: https://me:pw@b.example/login?key={KEY}"
    gateway = Gateway(response(302, None, to))
    async with serving(gateway.answer) as server, _client(server) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.generations.create("x")
        assert "b.example/login" in str(caught.value)
        assert not any(word in str(caught.value) for word in ("pw", KEY))


async def test_a_redirected_read_is_raised_at_once() -> None:
    async def answer(asked: Asked) -> bytes:
        return response(307, None, "Location: https://b.example/x", html="")

    async with serving(answer) as server, _client(server) as client:
        for ask in (client.me, client.health, client.playlists.list):
            with pytest.raises(
                APIStatusError, match=r"redirected to https://b\.example/x"
            ):
                await ask()
        with pytest.raises(APIStatusError, match=r"redirected to https://b\.example/x"):
            await client.generations.list()
        assert len(server.asked) == 4


@pytest.mark.sampled(3)
@pytest.mark.parametrize("status", [403, 404, 405, 413, 421, 451, 502, 503, 504, 520])
async def test_other_responses_of_a_gateway_are_looked_up_and_not_sent_again(
    status: int,
) -> None:
    gateway = Gateway(response(status, None, html=PAGE))
    async with serving(gateway.answer) as server, _client(server) as client:
        with pytest.raises(SubmissionUnknownError, match=r"may have been\s+charged"):
            await client.generations.create("x", timeout=0.6)
        assert len(server.creates) == 1
        assert len(server.asked) > 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("status", [401, 403, 404])
async def test_one_refusal_of_a_gateway_ends_no_lookup(status: int) -> None:
    rows: list[dict[str, Any]] = []
    lists: list[int] = []

    async def answer(asked: Asked) -> bytes:
        if asked.is_create:
            rows.append(row(asked, 1))
            return response(502, None, html=PAGE)
        lists.append(1)
        return response(status, None, html=PAGE) if len(lists) == 1 else listed(rows)

    async with serving(answer) as server, _client(server) as client:
        assert (await client.generations.create("x")).id == "gen_1"
        assert len(server.creates) == 1


async def test_a_gateways_refusal_is_an_outcome_of_generate_many() -> None:
    gateway = Gateway(throttled("Retry-After: 1"))
    async with serving(gateway.answer) as server, _client(server) as client:
        async with client.generate_many([GenerationRequest("x")]) as outcomes:
            (outcome,) = [outcome async for outcome in outcomes]
        assert isinstance(outcome.error, RateLimitError)
        assert len(server.creates) == 1


def _client(server: Server) -> AsyncClient:
    return AsyncClient(KEY, base_url=server.url)
