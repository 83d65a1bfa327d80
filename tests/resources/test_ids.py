"""Values that a request cannot hold are rejected before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from finetuning_async import AsyncClient, Generation, InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    Method = Callable[[AsyncClient, Any], Awaitable[object]]

KEY = "ft_live_" + "0" * 32
NO_ID = [
    "\ud800",
    "a\udfffb",
    "a\x00b",
    "a\nb",
    "",
    " ",
    "..",
    "x" * 2049,
    b"x",
    5,
]


async def _all_of(states: AsyncIterable[object]) -> list[object]:
    return [state async for state in states]


METHODS: dict[str, Method] = {
    "generations.get": lambda c, i: c.generations.get(i),
    "generations.delete": lambda c, i: c.generations.delete(["gen_1", i]),
    "sound_effects.get": lambda c, i: c.sound_effects.get(i),
    "playlists.get": lambda c, i: c.playlists.get(i),
    "playlists.add_tracks to": lambda c, i: c.playlists.add_tracks(i, ["gen_1"]),
    "playlists.add_tracks": lambda c, i: c.playlists.add_tracks("pl_1", [i]),
    "playlists.remove_tracks": lambda c, i: c.playlists.remove_tracks("pl_1", [i]),
    "playlists.move_tracks to": lambda c, i: c.playlists.move_tracks("p", i, ["g"]),
    "playlists.move_tracks": lambda c, i: c.playlists.move_tracks("p", "q", [i]),
    "wait_for_completion": lambda c, i: c.wait_for_completion(i),
    "watch": lambda c, i: _all_of(c.watch(i)),
    "download": lambda c, i: c.download(i, "night.mp3"),
}


@pytest.fixture
def sent() -> list[str]:
    return []


@pytest.fixture
def client(sent: list[str]) -> AsyncClient:
    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(str(request.url))
        return httpx.Response(404)

    http = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    return AsyncClient(KEY, http_client=http)


@pytest.mark.parametrize("method", METHODS)
async def test_a_value_that_cannot_be_an_id_is_rejected(
    client: AsyncClient, sent: list[str], method: str
) -> None:
    for no_id in NO_ID:
        with pytest.raises(InvalidRequestError) as caught:
            await METHODS[method](client, no_id)
        assert not sent
        str(caught.value).encode()  # it can be printed
        assert len(str(caught.value)) < 300


async def test_the_longest_id_is_asked_for(
    client: AsyncClient, sent: list[str]
) -> None:
    with pytest.raises(NotFoundError):
        await client.generations.get("x" * 2048)
    assert sent[0].endswith("x" * 2048)


@pytest.mark.parametrize("method", ["wait_for_completion", "watch"])
async def test_a_track_with_such_an_id_is_rejected_too(
    client: AsyncClient, sent: list[str], method: str
) -> None:
    track = Generation(id="\ud800", status="pending", kind="music", prompt="rain")
    with pytest.raises(InvalidRequestError):
        await METHODS[method](client, track)
    assert not sent


@pytest.mark.parametrize("name", ["status", "type"])
@pytest.mark.parametrize("word", ["\ud800", "x" * 70_000, 5])
async def test_a_filter_that_cannot_be_encoded_is_rejected(
    client: AsyncClient, sent: list[str], name: str, word: Any
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await client.generations.list(**{name: word})
    assert caught.value.field == name
    assert not sent


@pytest.mark.parametrize("huge", [10**400, 1e308, float("inf")])
async def test_a_timeout_that_no_float_holds_is_no_limit(
    client: AsyncClient, sent: list[str], huge: float
) -> None:
    patient = client.with_options(request_timeout=huge, max_retry_wait=huge)
    for _ in range(2):
        with pytest.raises(Exception, match="404"):
            await patient.me(timeout=huge)
    assert len(sent) == 2


@pytest.mark.parametrize("path", ["\ud800", "a\x00b"])
def test_an_impossible_path_of_certificates_is_rejected(path: str) -> None:
    with pytest.raises(InvalidRequestError, match="verify"):
        AsyncClient(KEY, verify=path)
