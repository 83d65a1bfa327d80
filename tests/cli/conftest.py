"""The program on a jumping clock, with a scripted service or an emulator behind it.

Emulator and clock outlive a run of the program: one command can read what an earlier
one created.
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx
import pytest
from click.testing import CliRunner, Result

import finetuning_async
from finetuning_async.cli import _connect, _event_loop
from finetuning_async.cli._program import program
from finetuning_async.emulator import Emulator
from finetuning_async.testing import JumpingEventLoop
from tests._emulated_client import Cookieless

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from finetuning_async._secrets import ApiKey
    from finetuning_async.cli._options import CommonOptions

EXAMPLES = Path(__file__).parents[1] / "api_examples"
KEY = "ft_live_0123456789abcdef0123456789abcdef"
AUDIO = b"ID3" + bytes(240_000 - 3)


def example(name: str) -> Any:
    """The body of an example, parsed."""
    return json.loads((EXAMPLES / f"{name}.json").read_text())


class FakeService:
    """Responds by method and path; the last response to a request is repeated.

    Attributes:
        responses: The next responses, by request: ``"GET /v1/me"``.
        requests: The requests received.
        hosts_with_key: The hosts that received a key.
        keys: The keys received, one for each request that had one.
        on_request: Is called with each request.
    """

    def __init__(self) -> None:
        self.responses: dict[str, list[httpx.Response]] = {}
        self.requests: list[httpx.Request] = []
        self.hosts_with_key: set[str] = set()
        self.keys: list[str] = []
        self.on_request: Callable[[httpx.Request], object] = lambda _: None

    def respond(self, request: str, *bodies: Any, status: int = 200) -> None:
        """Set the bodies of the responses: names of examples, bytes or JSON."""
        self.responses[request] = [_response(status, body) for body in bodies]

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if "X-API-Key" in request.headers:
            self.hosts_with_key.add(request.url.host)
            self.keys.append(request.headers["X-API-Key"])
        self.on_request(request)
        queue = self.responses.get(f"{request.method} {request.url.path}")
        if queue is not None:
            made = queue.pop(0) if len(queue) > 1 else queue[0]
            return httpx.Response(made.status_code, content=made.content)
        if request.method == "POST":
            return _response(202, _created(json.loads(request.content)))
        return _response(404, "error_not_found")

    def sent(self, request: str) -> list[Any]:
        """The JSON bodies of the requests of this kind."""
        return [
            json.loads(sent.content)
            for sent in self.requests
            if f"{sent.method} {sent.url.path}" == request
        ]


def _created(body: dict[str, Any]) -> Any:
    """Accept a request without changing its parameters."""
    created = example("generation_created_no_webhook")
    created["data"]["prompt"] = body.pop("tags")
    created["data"]["webhook"] = body.pop("webhook", None)
    created["data"]["parameters"] = body
    return created


def _response(status: int, body: Any) -> httpx.Response:
    if isinstance(body, str):
        body = example(body)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.Response(status, content=content)


class LastingClock:
    """Makes event loops; each one's time starts where that of the last one ended."""

    def __init__(self) -> None:
        self._last = JumpingEventLoop()
        self._last.close()

    def __call__(self) -> JumpingEventLoop:
        loop = JumpingEventLoop()
        loop._jumping_selector.now = self._last.time()
        self._last = loop
        return loop


class LastingEmulator(Emulator):
    """An emulator that keeps its state when it is exited and entered again."""

    async def __aenter__(self) -> Self:
        kept = self._service, self._front
        await super().__aenter__()
        if kept[0] is not None:
            self._service, self._front = kept
        return self

    def with_playlist(self, name: str, *, public: bool = False) -> str:
        """Create a playlist between two runs, and return its id."""

        async def main() -> str:
            async with self:
                return self.add_playlist(name, public=public)

        return anyio.run(main, **_event_loop.BACKEND)


@pytest.fixture
def finetuning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., Result]]:
    """Runs the program in an empty folder, without a key, a keyring or settings."""
    loop_log = logging.getLogger("asyncio")
    level = loop_log.level
    options = {"loop_factory": LastingClock()}
    monkeypatch.setitem(_event_loop.BACKEND, "backend_options", options)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("FINETUNING_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setitem(sys.modules, "keyring", None)
    monkeypatch.delenv("FINETUNING_BASE_URL", raising=False)
    monkeypatch.delenv("FINETUNING_API_KEY", raising=False)
    yield partial(CliRunner().invoke, program)
    loop_log.setLevel(level)  # an interrupted program changes it


@pytest.fixture
def service(
    monkeypatch: pytest.MonkeyPatch, finetuning: Callable[..., Result]
) -> FakeService:
    """A scripted service that makes one track; the program has its key."""
    del finetuning  # it must run first: it deletes the key
    fake = FakeService()
    made = example("generation_completed")["data"]
    fake.respond(
        f"GET /v1/generations/{made['id']}",
        "generation_processing",
        "generation_completed",
    )
    fake.respond(f"GET {httpx.URL(made['audioUrl']).path}", AUDIO)
    fake.respond("GET /v1/generations", "generations_list")
    fake.respond("GET /v1/me", "me")
    fake.respond("GET /health", "health")
    http = Cookieless(transport=httpx.MockTransport(fake.handle))
    client = partial(finetuning_async.AsyncClient, http_client=http)
    monkeypatch.setattr(finetuning_async, "AsyncClient", client)
    monkeypatch.setenv("FINETUNING_API_KEY", KEY)
    return fake


@pytest.fixture
def emulator(
    monkeypatch: pytest.MonkeyPatch, finetuning: Callable[..., Result]
) -> LastingEmulator:
    """An emulator of the whole service; the program has its key."""
    del finetuning  # it must run first: it deletes the key
    service = LastingEmulator(audio=AUDIO)

    @asynccontextmanager
    async def service_client(
        common: CommonOptions, url: str, key: ApiKey, retries: int
    ) -> AsyncGenerator[finetuning_async.AsyncClient]:
        del common
        async with (
            service,
            Cookieless(transport=service.transport()) as http,
            finetuning_async.AsyncClient(
                key.reveal(), base_url=url, http_client=http, max_retries=retries
            ) as client,
        ):
            yield client

    monkeypatch.setattr(_connect, "service_client", service_client)
    monkeypatch.setenv("FINETUNING_API_KEY", service.api_key)
    return service
