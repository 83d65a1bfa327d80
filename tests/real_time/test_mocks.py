"""Whoever stands in httpx is not passed by: no create reaches the service, no file.

The service is a real port that must hear nothing.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import httpcore
import httpx
import pook
import pytest
import respx
import vcr

from finetuning_async import AsyncClient
from finetuning_async._transport import _untouched
from tests._raw_server import KEY, Asked, Server, created, response, row, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from pathlib import Path

    from pytest_httpx import HTTPXMock

ROW = {"id": "gen_mock", "status": "completed", "prompt": "x"}


@asynccontextmanager
async def paid() -> AsyncGenerator[Server]:
    """The service; a test that does not say otherwise expects nothing there."""

    async def answer(asked: Asked) -> bytes:
        if asked.is_create:
            return created(row(asked, 1))
        return response(200, {"data": ROW | {"id": "gen_1"}})

    async with serving(answer) as server:
        yield server


def _response(request: httpx.Request) -> httpx.Response:
    """What a mock answers: a created track, or a file."""
    if request.url.path.endswith(".mp3"):
        return httpx.Response(200, content=b"music", request=request)
    return httpx.Response(202, json={"data": ROW}, request=request)


@contextmanager
def by_respx(url: str, using: str) -> Generator[None]:
    with respx.mock(using=using, assert_all_called=False) as router:
        router.route(url__startswith=url).mock(side_effect=_response)
        yield


@contextmanager
def by_pook(url: str) -> Generator[None]:
    with pook.use():
        pook.post(f"{url}/v1/generations", reply=202, response_json={"data": ROW})
        pook.get(f"{url}/a.mp3", reply=200, response_body="music")
        yield


@contextmanager
def by_patching(target: Any, name: str) -> Generator[None]:
    async def send(self: Any, request: Any, *_: Any, **__: Any) -> Any:
        return _response(request)

    with mock.patch.object(target, name, send):
        yield


@contextmanager
def by_mock_object(target: Any, name: str) -> Generator[None]:
    async def send(request: Any, *_: Any, **__: Any) -> Any:
        return _response(request)

    with mock.patch.object(target, name, mock.AsyncMock(side_effect=send)):
        yield


@contextmanager
def by_an_attribute_lookup() -> Generator[None]:
    """A new attribute that the class did not have."""
    real = httpx.AsyncClient.__getattribute__

    async def send(request: httpx.Request, *_: Any, **__: Any) -> httpx.Response:
        return _response(request)

    def look_up(self: httpx.AsyncClient, name: str) -> Any:
        return send if name == "send" else real(self, name)

    with mock.patch.object(httpx.AsyncClient, "__getattribute__", look_up, create=True):
        yield


class FakeTransport(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return _response(request)


class FakeClient(httpx.AsyncClient):
    def __init__(self, **options: Any) -> None:
        super().__init__(transport=FakeTransport())


@contextmanager
def by_another_class(module: Any, name: str, fake: type) -> Generator[None]:
    with mock.patch.object(module, name, fake):
        yield


MOCKS: dict[str, Callable[[str], Any]] = {
    "respx over httpx": lambda url: by_respx(url, "httpx"),
    "respx over httpcore": lambda url: by_respx(url, "httpcore"),
    "pook": by_pook,
    "a method of the client": lambda _: by_mock_object(httpx.AsyncClient, "send"),
    "a private method of the client": lambda _: by_patching(
        httpx.AsyncClient, "_send_single_request"
    ),
    "a method of the transport": lambda _: by_patching(
        httpx.AsyncHTTPTransport, "handle_async_request"
    ),
    "an attribute of the client": lambda _: by_an_attribute_lookup(),
    "another client": lambda _: by_another_class(httpx, "AsyncClient", FakeClient),
    "another transport": lambda _: by_another_class(
        sys.modules["httpx._client"], "AsyncHTTPTransport", FakeTransport
    ),
}


@pytest.mark.parametrize("warm", [False, True], ids=["before", "in between"])
@pytest.mark.parametrize("name", MOCKS)
async def test_a_mock_is_not_passed_by(name: str, warm: bool, tmp_path: Path) -> None:
    async with paid() as server, AsyncExitStack() as stack:
        client = AsyncClient(KEY, base_url=server.url)
        if warm:  # it has connections of its own already
            await stack.enter_async_context(client)
            await client.generations.get("gen_1")
        heard = len(server.asked)
        with MOCKS[name](server.url):
            if not warm:
                await stack.enter_async_context(client)
            track = await client.generations.create("x")
            path = await client.download(f"{server.url}/a.mp3", tmp_path / "a.mp3")
        assert track.id == "gen_mock"
        assert path.read_bytes() == b"music"
        assert len(server.asked) == heard
        assert (await client.generations.create("x")).id == "gen_1"  # it is over
        assert len(server.asked) == heard + 1


async def test_the_fixture_of_pytest_httpx_is_not_passed_by(
    httpx_mock: HTTPXMock,
) -> None:
    httpx_mock.add_response(202, json={"data": ROW})
    async with paid() as server, AsyncClient(KEY, base_url=server.url) as client:
        assert (await client.generations.create("x")).id == "gen_mock"
        assert not server.asked


async def test_a_recorder_sees_each_request(tmp_path: Path) -> None:
    cassette = str(tmp_path / "cassette.yaml")
    async with paid() as server:
        for key in (KEY, KEY[::-1]):  # recorded, then played, where no id is known yet
            with vcr.use_cassette(cassette, filter_headers=["x-api-key"]):
                async with AsyncClient(key, base_url=server.url) as client:
                    track = await client.generations.create("x", seed=1)
            assert track.prompt == "x"
            assert len(server.creates) == 1


FIRST = """
import sys, unittest.mock
import anyio, httpx, httpcore, respx
WORLD = sys.argv[2]
ROW = {"id": "gen_mock", "status": "processing"}

def answer(request):
    return httpx.Response(202, json={"data": ROW})

class Transport(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request):
        return answer(request)

async def main():
    from finetuning_async import AsyncClient
    from tests._raw_server import KEY, created, row, serving

    async def say(asked):
        return created(row(asked, 1))

    async with serving(say) as server:
        async with AsyncClient(KEY, base_url=server.url) as client:
            print((await client.generations.create("x")).id, len(server.asked))

if WORLD == "respx":
    router = respx.mock(using="httpx")
    router.start()
    router.route().mock(side_effect=answer)
elif WORLD == "transport":
    sys.modules["httpx._client"].AsyncHTTPTransport = Transport
elif WORLD == "method":
    httpx.AsyncHTTPTransport.handle_async_request = Transport.handle_async_request
anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("world", ["respx", "transport", "method"])
def test_a_mock_that_came_before_the_import_is_not_passed_by(world: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST, "asyncio", world],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "gen_mock 0\n", done.stderr


def test_httpx_as_it_is_counts_as_untouched() -> None:
    """Or all requests would take the slower way, which no other test would notice."""
    assert _untouched.look().is_untouched
    assert _untouched.look() is _untouched.look()


@pytest.mark.parametrize("target", [httpx.AsyncClient, httpcore.AsyncConnectionPool])
def test_every_attribute_is_looked_at(target: Any) -> None:
    for name in [name for name in vars(target) if callable(getattr(target, name))]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target, name, lambda *_: None)
            assert not _untouched.look().is_untouched
    assert _untouched.look().is_untouched
