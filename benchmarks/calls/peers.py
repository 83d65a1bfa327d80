"""What is compared: the client, and other services' SDKs, each with a read by id.

Each peer has a response of its own kind, which the server gives below its path, and a
function that makes its client and one call with it. Peers come by the extra `bench`;
one that is not installed is left out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from finetuning_async import AsyncClient, RateLimit, RateLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable

    MakeCall: TypeAlias = Callable[[], Awaitable[object]]

TRACK: Final = "5e0c7b1a-93d4-4f26-8a71-2c6f0be4d918"
PROMPT: Final = "slow choir over tape hiss"
KEY: Final = "ft_live_" + "0" * 32
BODY: Final = {"tags": PROMPT, "seed": 7}

OFF_THE_LIMIT: Final = RateLimits(
    creates=RateLimit(10**6, per=60.0), reads=RateLimit(10**6, per=60.0)
)
"""The limiter at work, and never in the way."""


@attrs.frozen
class Peer:
    """One call of one client.

    Attributes:
        name: What the table calls it.
        package: What must be installed.
        path: What it asks; the bare call asks the same.
        response: What the server responds; `None` for the service's own.
        call: Makes the client for a base URL, and returns the call.
        method: What the bare call does.
        library: What the bare call is made with.
        instrumented: Whether OpenTelemetry watches both.
    """

    name: str
    package: str
    path: str
    response: dict[str, Any] | None
    call: Callable[[str], MakeCall]
    method: str = "GET"
    library: str = "httpx"
    instrumented: bool = False

    def bare(self, url: str) -> MakeCall:
        """The call that is the measure: the library as it comes, and `json`."""
        return _bare(url, self.method, self.path, self.library)


def _ours(url: str, library: str | None = None) -> AsyncClient:
    """Our client, over one of its own or over one that the caller brings."""
    given = None if library is None else importlib.import_module(library).AsyncClient()
    return AsyncClient(KEY, base_url=url, rate_limits=OFF_THE_LIMIT, http_client=given)


def _get(url: str, library: str | None = None) -> MakeCall:
    client = _ours(url, library)
    return lambda: client.generations.get(TRACK)


def _create(url: str, library: str | None = None) -> MakeCall:
    client = _ours(url, library)
    return lambda: client.generations.create(PROMPT, seed=7)


def instrument() -> None:
    """Let OpenTelemetry watch httpx, as an application would that exports traces."""
    module: Any = importlib.import_module("opentelemetry.instrumentation.httpx")
    module.HTTPXClientInstrumentor().instrument()


def _bare(url: str, method: str, path: str, library: str) -> MakeCall:
    client = importlib.import_module(library).AsyncClient(
        base_url=url, headers={"X-API-Key": KEY}
    )

    async def get() -> object:
        return (await client.get(path)).json()

    async def post() -> object:
        return (await client.post(path, json=BODY)).json()

    return post if method == "POST" else get


def _replicate(url: str) -> MakeCall:
    client = importlib.import_module("replicate").Client(api_token="r8", base_url=url)  # noqa: S106 - no secret
    return lambda: client.predictions.async_get("p1")


def _fal(url: str) -> MakeCall:
    module: Any = importlib.import_module("fal_client.client")
    module.QUEUE_URL_FORMAT = f"{url}/"
    client = importlib.import_module("fal_client").AsyncClient(key="k")
    return lambda: client.status("fal-ai/music", "r1")


def _openai(url: str) -> MakeCall:
    client = importlib.import_module("openai").AsyncOpenAI(api_key="k", base_url=url)
    return lambda: client.models.retrieve("m1")


def _anthropic(url: str) -> MakeCall:
    anthropic = importlib.import_module("anthropic")
    client = anthropic.AsyncAnthropic(api_key="k", base_url=url)
    return lambda: client.models.retrieve("m1")


def _stripe(url: str) -> MakeCall:
    stripe = importlib.import_module("stripe")
    client = stripe.StripeClient(
        "sk_test_1", base_addresses={"api": url}, http_client=stripe.HTTPXClient()
    )
    return lambda: client.v1.customers.retrieve_async("cus_1")


def _runway(url: str) -> MakeCall:
    runway = importlib.import_module("runwayml")
    client = runway.AsyncRunwayML(api_key="k", base_url=url)
    return lambda: client.tasks.retrieve("17f20503-6c24-4c16-946b-35dbbce2af2f")


def _elevenlabs(url: str) -> MakeCall:
    client = importlib.import_module("elevenlabs.client").AsyncElevenLabs(
        api_key="k", base_url=url
    )
    return lambda: client.voices.get("v1")


GENERATION: Final = "/v1/generations"
READ: Final = f"{GENERATION}/{TRACK}"
WHEN: Final = "2026-03-02T18:05:24.118Z"


def _ours_by(name: str, by: str | None, **options: Any) -> tuple[Peer, Peer]:
    """Our two calls, over a client of ours or over one of the caller's."""
    package, get, create = options.get("library", "httpx"), _get, _create
    where = READ
    if by is not None:
        get, create = partial(_get, library=by), partial(_create, library=by)
    return (
        Peer(f"**`get`**{name}", package, where, None, get, **options),
        Peer(
            f"**`create`**{name}", package, GENERATION, None, create, "POST", **options
        ),
    )


PEERS: Final = (
    Peer(
        "httpx against itself",
        "httpx",
        READ,
        None,
        lambda url: _bare(url, "GET", READ, "httpx"),
    ),
    *_ours_by("", None),
    *_ours_by(", the caller's client", "httpx"),
    *_ours_by(", the caller's httpx2", "httpx2", library="httpx2"),
    *_ours_by(", OpenTelemetry watching", None, instrumented=True),
    Peer(
        "replicate `predictions.async_get`",
        "replicate",
        "/v1/predictions/p1",
        {
            "id": "p1",
            "model": "owner/music",
            "version": "v1",
            "status": "succeeded",
            "input": {"prompt": PROMPT},
            "output": ["https://media.example/a.mp3"],
            "logs": "",
            "error": None,
            "metrics": {"predict_time": 21.0},
            "created_at": WHEN,
            "started_at": WHEN,
            "completed_at": WHEN,
            "urls": {"get": "https://service.example", "cancel": ""},
        },
        _replicate,
    ),
    Peer(
        "fal-client `status`",
        "fal_client",
        "/fal-ai/music/requests/r1/status",
        {"status": "COMPLETED", "request_id": "r1", "logs": [], "metrics": {}},
        _fal,
    ),
    Peer(
        "openai `models.retrieve`",
        "openai",
        "/models/m1",
        {"id": "m1", "object": "model", "created": 1772474700, "owned_by": "me"},
        _openai,
    ),
    Peer(
        "anthropic `models.retrieve`",
        "anthropic",
        "/v1/models/m1",
        {"id": "m1", "type": "model", "display_name": "M", "created_at": WHEN},
        _anthropic,
    ),
    Peer(
        "stripe `customers.retrieve_async`",
        "stripe",
        "/v1/customers/cus_1",
        {"id": "cus_1", "object": "customer", "created": 1772474700, "name": "A"},
        _stripe,
    ),
    Peer(
        "runwayml `tasks.retrieve`",
        "runwayml",
        "/v1/tasks/17f20503-6c24-4c16-946b-35dbbce2af2f",
        {
            "id": "17f20503-6c24-4c16-946b-35dbbce2af2f",
            "createdAt": WHEN,
            "status": "SUCCEEDED",
            "output": ["https://media.example/a.mp4"],
        },
        _runway,
    ),
    Peer(
        "elevenlabs `voices.get`",
        "elevenlabs",
        "/v1/voices/v1",
        {"voice_id": "v1", "name": "A", "category": "premade", "labels": {}},
        _elevenlabs,
    ),
)
