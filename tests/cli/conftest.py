"""The program under a clock that jumps, with a scripted service behind it."""

from __future__ import annotations

import json
import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from click.testing import CliRunner, Result

import finetuning_async
from finetuning_async.cli import _run
from finetuning_async.cli._program import program
from finetuning_async.testing import JumpingEventLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = Path(__file__).parent.parent / "examples"
KEY = "ft_live_0123456789abcdef0123456789abcdef"
AUDIO = b"ID3" + bytes(240_000 - 3)


def example(name: str) -> Any:
    """The body of an example, parsed."""
    return json.loads((EXAMPLES / f"{name}.json").read_text())


class FakeService:
    """Answers by method and path; the last answer to a request is repeated.

    Attributes:
        answers: By ``"GET /v1/me"``: the answers to come.
        requests: What was asked.
        hosts_with_key: Who was sent the key.
        on_request: Called with each request.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[httpx.Response]] = {}
        self.requests: list[httpx.Request] = []
        self.hosts_with_key: set[str] = set()
        self.on_request: Callable[[httpx.Request], object] = lambda _: None

    def answer(self, request: str, *answers: Any, status: int = 200) -> None:
        """Let a request be answered by bodies: an example's name, bytes or JSON."""
        self.answers[request] = [_response(status, body) for body in answers]

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if "X-API-Key" in request.headers:
            self.hosts_with_key.add(request.url.host)
        self.on_request(request)
        queue = self.answers.get(f"{request.method} {request.url.path}")
        if queue is not None:
            made = queue.pop(0) if len(queue) > 1 else queue[0]
            return httpx.Response(made.status_code, content=made.content)
        if request.method == "POST":
            return _response(202, _created(json.loads(request.content)))
        return _response(404, "error_not_found")

    def sent(self, request: str) -> list[Any]:
        """The JSON bodies of such requests."""
        return [
            json.loads(sent.content)
            for sent in self.requests
            if f"{sent.method} {sent.url.path}" == request
        ]


def _created(body: dict[str, Any]) -> Any:
    """Accept what is asked for, as it is asked for."""
    answer = example("generation_created_no_webhook")
    answer["data"]["prompt"] = body.pop("tags")
    answer["data"]["webhook"] = body.pop("webhook", None)
    answer["data"]["parameters"] = body
    return answer


def _response(status: int, body: Any) -> httpx.Response:
    if isinstance(body, str):
        body = example(body)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.Response(status, content=content)


@pytest.fixture
def finetuning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., Result]]:
    """Runs the program in an empty folder, without key, keyring and settings."""
    loop_log = logging.getLogger("asyncio")
    level = loop_log.level
    options = {"loop_factory": JumpingEventLoop}
    monkeypatch.setitem(_run.BACKEND, "backend_options", options)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("FINETUNING_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setitem(sys.modules, "keyring", None)
    monkeypatch.delenv("FINETUNING_BASE_URL", raising=False)
    monkeypatch.delenv("FINETUNING_API_KEY", raising=False)
    yield partial(CliRunner().invoke, program)
    loop_log.setLevel(level)  # an interrupted program silences it


@pytest.fixture
def service(
    monkeypatch: pytest.MonkeyPatch, finetuning: Callable[..., Result]
) -> FakeService:
    """A service that makes one track, and a key; the program's clients reach it."""
    del finetuning  # comes first, since it takes the key away
    fake = FakeService()
    made = example("generation_completed")["data"]
    fake.answer(
        f"GET /v1/generations/{made['id']}",
        "generation_processing",
        "generation_completed",
    )
    fake.answer(f"GET {httpx.URL(made['audioUrl']).path}", AUDIO)
    fake.answer("GET /v1/generations", "generations_list")
    fake.answer("GET /v1/me", "me")
    fake.answer("GET /health", "health")
    http = httpx.AsyncClient(transport=httpx.MockTransport(fake.handle))
    client = partial(finetuning_async.AsyncClient, http_client=http)
    monkeypatch.setattr(finetuning_async, "AsyncClient", client)
    monkeypatch.setenv("FINETUNING_API_KEY", KEY)
    return fake
