"""The SDKs that are compared: how each creates one thing, and waits for one."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from benchmarks.calls.peers import KEY
from benchmarks.promises.service import ALLOWED, PER
from finetuning_async import AsyncClient, RateLimit, RateLimits

if TYPE_CHECKING:
    Create: TypeAlias = Callable[[], Awaitable[object]]
    Wait: TypeAlias = Callable[[str], Coroutine[Any, Any, object]]
    Progress: TypeAlias = Callable[[str, str], dict[str, Any]]

RUNNING: Final = {"created_at": 1, "progress": 5, "input": {}, "model": "a/b"}
WHEN: Final = "2026-03-02T18:05:24.118Z"


@attrs.frozen
class Client:
    """One SDK.

    Attributes:
        name: What the table calls it.
        package: What must be installed; empty for ours.
        create: Makes the client for a base URL, and the call that creates.
        wait: The same, and the call that waits for an id.
        progress: What its service responds, for a base URL and a path.
    """

    name: str
    package: str
    create: Callable[[str], Create]
    wait: Callable[[str], Wait]
    progress: Progress


def _ours(url: str, *, scaled: bool = True) -> AsyncClient:
    limit = RateLimit(ALLOWED, per=PER)
    limits = RateLimits(creates=limit, reads=RateLimit(60, per=60.0))
    return AsyncClient(
        KEY, base_url=url, rate_limits=limits if scaled else RateLimits()
    )


def _ours_create(url: str) -> Create:
    client = _ours(url)
    return lambda: client.generations.create("rain")


def _ours_wait(url: str) -> Wait:
    client = _ours(url, scaled=False)
    return lambda track: client.wait_for_completion(track, timeout=None)


def _openai(url: str) -> Any:
    return importlib.import_module("openai").AsyncOpenAI(api_key="k", base_url=url)


def _openai_create(url: str) -> Create:
    client = _openai(url)
    return lambda: client.videos.create(prompt="rain")


def _openai_wait(url: str) -> Wait:
    client = _openai(url)
    return lambda video: client.videos.poll(video)


def _replicate(url: str) -> Any:
    return importlib.import_module("replicate").Client(api_token="k", base_url=url)  # noqa: S106 - none


def _replicate_create(url: str) -> Create:
    client = _replicate(url)
    return lambda: client.predictions.async_create(model="a/b", input={})


def _replicate_wait(url: str) -> Wait:
    client = _replicate(url)

    async def wait(prediction: str) -> None:
        await (await client.predictions.async_get(prediction)).async_wait()

    return wait


def _fal(url: str) -> Any:
    fal: Any = importlib.import_module("fal_client.client")
    fal.QUEUE_URL_FORMAT = f"{url}/"  # it is https otherwise
    return fal.AsyncClient(key="k")


def _fal_create(url: str) -> Create:
    client = _fal(url)
    return lambda: client.submit("a/b", {})


def _fal_wait(url: str) -> Wait:
    client = _fal(url)

    async def wait(_: str) -> None:
        await (await client.submit("a/b", {})).get()

    return wait


def _runway(url: str) -> Any:
    runway = importlib.import_module("runwayml")
    return runway.AsyncRunwayML(api_key="k", base_url=url)


def _runway_create(url: str) -> Create:
    client = _runway(url)
    return lambda: client.text_to_image.create(
        model="gen4_image", prompt_text="rain", ratio="1024:1024"
    )


def _runway_wait(url: str) -> Wait:
    client = _runway(url)

    async def wait(_: str) -> None:
        task = await client.text_to_image.create(
            model="gen4_image", prompt_text="rain", ratio="1024:1024"
        )
        await task.wait_for_task_output()

    return wait


def _openai_video(url: str, path: str) -> dict[str, Any]:
    del url
    return {
        "id": path.rpartition("/")[2],
        "object": "video",
        "status": "in_progress",
        **RUNNING,
    }


def _prediction(url: str, path: str) -> dict[str, Any]:
    name = path.rpartition("/")[2]
    urls = {"get": f"{url}/v1/predictions/{name}", "cancel": url}
    return {"id": name, "version": "v", "status": "processing", "urls": urls, **RUNNING}


def _fal_request(url: str, path: str) -> dict[str, Any]:
    here = f"{url}/requests/{path.rpartition('/')[2]}"
    return {
        "request_id": "r",
        "status": "IN_PROGRESS",
        "logs": [],
        "response_url": here,
        "status_url": f"{here}/status",
        "cancel_url": here,
    }


def _runway_task(url: str, path: str) -> dict[str, Any]:
    del url
    return {
        "id": path.rpartition("/")[2],
        "status": "RUNNING",
        "createdAt": WHEN,
        "progress": 0.1,
    }


ALL: Final = (
    Client("**ours**", "", _ours_create, _ours_wait, lambda *_: {}),
    Client("openai", "openai", _openai_create, _openai_wait, _openai_video),
    Client("replicate", "replicate", _replicate_create, _replicate_wait, _prediction),
    Client("fal-client", "fal-client", _fal_create, _fal_wait, _fal_request),
    Client("runwayml", "runwayml", _runway_create, _runway_wait, _runway_task),
)


def installed() -> list[Client]:
    """Those that are there; ours always."""
    return [client for client in ALL if not client.package or _is_there(client.package)]


def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package.replace("-", "_")) is not None
