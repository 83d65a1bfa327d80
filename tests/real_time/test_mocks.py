"""Mocks of the HTTP library are not bypassed: no call reaches the service.

The service is a real port that must receive nothing. Mocks are installed before our
client is made, after that, or once it has connections. A create that fails in a mock
counts as sent.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest import mock

import httpx
import httpx2
import pook
import pytest
import respx
import vcr

from benchmarks.proofs._matrix import scaled_lookup
from finetuning_async import AsyncClient, SubmissionUnknownError
from tests._raw_server import KEY, Asked, Server, created, response, row, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from pathlib import Path

    from pytest_httpx import HTTPXMock
    from pytest_httpx2 import HTTPXMock as HTTPX2Mock

pytestmark = [pytest.mark.usefixtures("warm_programs"), pytest.mark.sampled(2)]

ROW = {"id": "gen_mock", "status": "completed", "prompt": "x"}


@asynccontextmanager
async def paid() -> AsyncGenerator[Server]:
    """The real service, where a call would be paid for."""

    async def answer(asked: Asked) -> bytes:
        if asked.is_create:
            return created(row(asked, 1))
        return response(200, {"data": ROW | {"id": "gen_1"}})

    async with serving(answer) as server:
        yield server


def _response(request: httpx.Request) -> httpx.Response:
    """The response of a mock: a created track, or a file."""
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
        pook.get(
            f"{url}/v1/generations/gen_mock", reply=200, response_json={"data": ROW}
        )
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
    """Adds an attribute that the class did not have."""
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
}
CLASSES: dict[str, Callable[[], Any]] = {
    "a client": lambda: by_another_class(httpx, "AsyncClient", FakeClient),
    "a transport": lambda: by_another_class(
        sys.modules["httpx._client"], "AsyncHTTPTransport", FakeTransport
    ),
}


MOMENTS = ("before it is made", "after it was made", "after it was used")


async def _use(client: AsyncClient) -> None:
    """A create and a read."""
    assert (await client.generations.create("x")).id == "gen_mock"
    assert (await client.generations.get("gen_mock")).id == "gen_mock"


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", MOCKS)
async def test_a_mock_is_not_bypassed(name: str, moment: str, tmp_path: Path) -> None:
    early = moment == MOMENTS[0]
    async with paid() as server, AsyncExitStack() as stack:
        with MOCKS[name](server.url) if early else nullcontext():
            client = AsyncClient(KEY, base_url=server.url)
            await stack.enter_async_context(client)
            if moment == MOMENTS[2]:  # it has connections already
                assert (await client.generations.get("gen_1")).id == "gen_1"
            before = len(server.asked)
            with nullcontext() if early else MOCKS[name](server.url):
                await _use(client)
                path = await client.download(f"{server.url}/a.mp3", tmp_path / "a.mp3")
        assert path.read_bytes() == b"music"
        assert len(server.asked) == before
        assert (
            await client.generations.create("x")
        ).id == "gen_1"  # the mock is removed
        assert len(server.asked) == before + 1


@pytest.mark.parametrize("moment", MOMENTS[:2])
@pytest.mark.parametrize("name", CLASSES)
async def test_a_replaced_class_of_httpx_is_used(name: str, moment: str) -> None:
    """As with a plain client of httpx: until the client made with it is closed."""
    async with paid() as server:
        with CLASSES[name]() if moment == MOMENTS[0] else nullcontext():
            client = AsyncClient(KEY, base_url=server.url)
        async with client:
            with CLASSES[name]():
                await _use(client)
        assert not server.asked


@pytest.mark.parametrize("moment", MOMENTS)
async def test_the_fixture_of_pytest_httpx_is_not_bypassed(
    moment: str, request: pytest.FixtureRequest
) -> None:
    def mocked() -> None:
        mock: HTTPXMock = request.getfixturevalue("httpx_mock")
        mock.add_response(202, json={"data": ROW}, method="POST")
        mock.add_response(200, json={"data": ROW}, method="GET")

    async with paid() as server:
        if moment == MOMENTS[0]:
            mocked()
        async with AsyncClient(KEY, base_url=server.url) as client:
            if moment == MOMENTS[2]:
                await client.generations.get("gen_1")
            if moment != MOMENTS[0]:
                mocked()
            before = len(server.asked)
            await _use(client)
        assert len(server.asked) == before


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_mock_of_httpx2_is_not_bypassed(
    moment: str, request: pytest.FixtureRequest
) -> None:
    def mocked() -> None:
        mock: HTTPX2Mock = request.getfixturevalue("httpx2_mock")
        mock.add_response(202, json={"data": ROW}, method="POST")
        mock.add_response(200, json={"data": ROW}, method="GET")

    async with paid() as server:
        if moment == MOMENTS[0]:
            mocked()
        async with (
            httpx2.AsyncClient() as http,
            AsyncClient(KEY, base_url=server.url, http_client=http) as client,
        ):
            if moment == MOMENTS[2]:
                await client.generations.get("gen_1")
            if moment != MOMENTS[0]:
                mocked()
            before = len(server.asked)
            await _use(client)
        assert len(server.asked) == before


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda one: str(one.__name__))
async def test_a_mock_transport_is_used(library: Any) -> None:
    def answer(request: Any) -> Any:
        status = 202 if request.method == "POST" else 200
        return library.Response(status, json={"data": ROW})

    async with paid() as server:
        transport = library.MockTransport(answer)
        async with (
            library.AsyncClient(transport=transport) as http,
            AsyncClient(KEY, base_url=server.url, http_client=http) as client,
        ):
            await _use(client)
        assert not server.asked


TOO_LATE = "the mock's own words"


def _late_by_respx(using: str) -> Any:
    @contextmanager
    def mocked(url: str) -> Generator[tuple[Any, list[str]]]:
        asked: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(f"{request.method} {request.url.path}")
            if request.method == "POST":
                raise httpx.ReadTimeout(TOO_LATE, request=request)
            return httpx.Response(200, json=EMPTY)

        with respx.mock(using=using, assert_all_called=False) as router:
            router.route(url__startswith=url).mock(side_effect=answer)
            yield None, asked

    return mocked


def _late_by_transport(library: Any) -> Any:
    @contextmanager
    def mocked(_: str) -> Generator[tuple[Any, list[str]]]:
        asked: list[str] = []

        def answer(request: Any) -> Any:
            asked.append(f"{request.method} {request.url.path}")
            if request.method == "POST":
                raise library.ReadTimeout(TOO_LATE, request=request)
            return library.Response(200, json=EMPTY)

        yield library.AsyncClient(transport=library.MockTransport(answer)), asked

    return mocked


EMPTY = {"data": {"generations": [], "hasMore": False, "nextOffset": 0}}
LATE = {
    "respx over httpx": _late_by_respx("httpx"),
    "respx over httpcore": _late_by_respx("httpcore"),
    "a transport of httpx": _late_by_transport(httpx),
    "a transport of httpx2": _late_by_transport(httpx2),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", LATE)
async def test_a_create_whose_mock_times_out_is_looked_up_and_never_sent_again(
    name: str,
) -> None:
    async with paid() as server:
        with scaled_lookup(), LATE[name](server.url) as (http, asked):
            async with AsyncClient(
                KEY, base_url=server.url, http_client=http, rate_limits=None
            ) as client:
                with pytest.raises(SubmissionUnknownError, match=TOO_LATE):
                    await client.generations.create("x", on_unknown="resubmit")
            if http is not None:
                await http.aclose()
        assert asked.count("POST /v1/generations") == 1
        assert asked.count("GET /v1/generations") >= 3
        assert not server.asked


@pytest.mark.parametrize("library", [None, httpx, httpx2], ids=["ours", "1", "2"])
async def test_a_recorder_sees_each_request(library: Any, tmp_path: Path) -> None:
    cassette = str(tmp_path / "cassette.yaml")
    async with paid() as server:
        for key in (KEY, KEY[::-1]):  # first recorded, then replayed by a new account
            with vcr.use_cassette(cassette, filter_headers=["x-api-key"]) as tape:
                http = None if library is None else library.AsyncClient()
                client = AsyncClient(key, base_url=server.url, http_client=http)
                async with client, http or nullcontext():
                    track = await client.generations.create("x", seed=1)
                    assert (await client.generations.get("gen_1")).id == "gen_1"
            assert track.prompt == "x"
            assert [r.method for r in tape.requests] == ["POST", "GET"]
            assert len(server.asked) == 2
        assert KEY not in (tmp_path / "cassette.yaml").read_text()


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
def test_a_mock_from_before_the_import_is_not_bypassed(world: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST, "asyncio", world],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "gen_mock 0\n", done.stderr
