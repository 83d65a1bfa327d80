"""One suite for all ways to reach the emulator, by a client that is not ours.

In-process on both loops under a clock that jumps; on a port by uvicorn in real time;
in-process again with state that an earlier run left. Every answer fits the OpenAPI
document. Answers are compared with the published examples: same members, same types.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async.emulator import Emulator, Fault, serve
from finetuning_async.testing import jumping_backend
from tests.emulator._document import check_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EXAMPLES = Path(__file__).parents[1] / "api_examples"
GENERATION_TIME = 0.2
PER = 3.0
OTHER_KEY = "ft_live_" + 32 * "b"


@pytest.fixture(
    params=[
        "in-process asyncio",
        "in-process trio",
        pytest.param("port asyncio", marks=pytest.mark.real_time),
        "restarted asyncio",
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    where, loop = request.param.split()
    return loop if where == "port" else jumping_backend(loop)


@pytest.fixture
async def emulator(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Emulator]:
    settings: dict[str, Any] = {
        "speed": 20,
        "window": "log",
        "generation_time": (4, 4),
        "queue_size": 20,
        "credits": 50,
    }
    if "restarted" in request.node.name:
        settings["state_dir"] = tmp_path
        async with Emulator(**settings) as earlier:
            earlier.add_account(OTHER_KEY)
            earlier.add_track("of another account", api_key=OTHER_KEY)
    async with Emulator(**settings) as emulator:
        assert len(emulator.tracks) == ("state_dir" in settings)
        yield emulator


@pytest.fixture
async def http(
    emulator: Emulator, request: pytest.FixtureRequest
) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"X-API-Key": emulator.api_key}
    async with AsyncExitStack() as stack:
        if "port asyncio" in request.node.name:
            url = await stack.enter_async_context(serve(emulator))
            client = httpx.AsyncClient(base_url=url, headers=headers, timeout=5)
        else:
            client = httpx.AsyncClient(
                transport=emulator.transport(),
                base_url=emulator.base_url,
                headers=headers,
            )
        client.event_hooks["response"].append(check_response)
        yield await stack.enter_async_context(client)


def shape(value: Any) -> Any:
    """Members and types, whatever the values."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        shapes = [shape(item) for item in value]
        return [s for i, s in enumerate(shapes) if s not in shapes[:i]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value).__name__


def example(name: str) -> Any:
    return shape(json.loads((EXAMPLES / f"{name}.json").read_text()))


WISH = {
    "tags": "dusty boom bap",
    "duration": 6,
    "bpm": 92,
    "key": "F#",
    "scale": "minor",
    "language": "en",
    "timesignature": "4",
    "seed": 880142,
}


async def create(http: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await http.post("/v1/generations", json=WISH | changes)


async def finished(http: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    track_id = (await create(http, **changes)).json()["data"]["id"]
    await anyio.sleep(GENERATION_TIME)
    answer = await http.get(f"/v1/generations/{track_id}")
    track: dict[str, Any] = answer.json()["data"]
    return track


async def collect(http: httpx.AsyncClient, url: str, got: list[bytes]) -> None:
    async with http.stream("GET", url) as answer:
        async for chunk in answer.aiter_raw():
            got.append(chunk)  # noqa: PERF401 - what came before a break must stay


async def test_health_needs_no_key(http: httpx.AsyncClient) -> None:
    del http.headers["X-API-Key"]
    answer = await http.get("/health")
    assert answer.json() == {"status": "ok"}
    assert answer.headers["X-Emulator"] == "1"
    assert "X-RateLimit-Limit" not in answer.headers


async def test_me_has_the_documented_shape(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/me")
    assert shape(answer.json()) == example("me")
    assert answer.headers["X-RateLimit-Limit"] == "60"
    assert answer.headers["X-RateLimit-Remaining"] == "59"


async def test_a_create_answers_202_in_its_own_shape(http: httpx.AsyncClient) -> None:
    webhook = "http://127.0.0.1:9/hook"
    answer = await create(http, webhook=webhook)
    assert answer.status_code == 202
    assert shape(answer.json()) == example("generation_created")
    body = (await create(http)).json()
    assert shape(body) == example("generation_created_no_webhook")
    assert body["data"]["parameters"] == {
        "bpm": 92,
        "duration": 6,
        "timesignature": "4",
        "language": "en",
        "keyscale": "F# minor",
        "seed": 880142,
    }
    assert body["data"]["creditsRemaining"] == 48


async def test_a_track_runs_and_ends_in_the_documented_shapes(
    http: httpx.AsyncClient,
) -> None:
    track_id = (await create(http)).json()["data"]["id"]
    running = (await http.get(f"/v1/generations/{track_id}")).json()
    assert shape(running) == example("generation_processing")
    await anyio.sleep(GENERATION_TIME)
    done = (await http.get(f"/v1/generations/{track_id}")).json()
    assert shape(done) == example("generation_completed")
    assert done["data"]["status"] == "completed"


async def test_a_failed_track_has_the_documented_shape(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    emulator.add_fault(Fault("fail", "/v1/generations", method="POST"))
    track = await finished(http)
    assert shape({"data": track}) == example("generation_failed")
    assert track["status"] == "failed"


async def test_a_list_is_newest_first_and_comes_in_pages(
    http: httpx.AsyncClient,
) -> None:
    made = [(await finished(http, seed=n))["id"] for n in range(3)]
    page = (await http.get("/v1/generations", params={"limit": 2})).json()
    assert shape(page) == example("generations_list")
    rows, data = page["data"]["generations"], page["data"]
    assert [row["id"] for row in rows] == [made[2], made[1]]
    assert (data["hasMore"], data["nextOffset"]) == (True, 2)
    last = (await http.get("/v1/generations", params={"offset": 2})).json()["data"]
    assert [row["id"] for row in last["generations"]] == [made[0]]
    assert (last["hasMore"], last["nextOffset"]) == (False, 3)


async def test_a_list_is_filtered_by_status_and_type(http: httpx.AsyncClient) -> None:
    await finished(http)
    await create(http)

    async def found(**query: str) -> int:
        answer = await http.get("/v1/generations", params=query)
        return len(answer.json()["data"]["generations"])

    assert await found(status="completed") == 1
    assert await found(type="instrumental") == 0
    assert await found(type="music", status="") == 2


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "100"}, {"offset": "-1"}, {"status": "done"}]
)
async def test_a_bad_list_query_is_refused(
    http: httpx.AsyncClient, query: dict[str, str]
) -> None:
    answer = await http.get("/v1/generations", params=query)
    assert answer.status_code == 400
    assert next(iter(query)) in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("key", "name"),
    [(None, "missing_api_key"), ("ft_live_short", "invalid_api_key")],
)
async def test_a_bad_key_is_refused_and_not_counted(
    emulator: Emulator, http: httpx.AsyncClient, key: str | None, name: str
) -> None:
    del http.headers["X-API-Key"]
    answer = await http.get("/v1/me", headers={"X-API-Key": key} if key else {})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == name.upper()
    assert shape(answer.json()) == example(f"error_{name}")
    assert emulator.requests[-1].counted is False


async def test_a_plan_without_api_access_is_refused(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    key = "ft_live_" + "0" * 32
    emulator.add_account(key, tier="free")
    answer = await http.get("/v1/me", headers={"X-API-Key": key})
    assert answer.status_code == 403
    assert shape(answer.json()) == example("error_pro_plan_required")


async def test_unknown_ids_paths_and_methods_answer_404(
    http: httpx.AsyncClient,
) -> None:
    for method, path in (
        ("GET", "/v1/generations/nobody"),
        ("GET", "/v1/nothing"),
        ("GET", "/"),
        ("DELETE", "/v1/me"),
        ("GET", "/v1/generations/a%2Fb"),
    ):
        answer = await http.request(method, path)
        assert answer.status_code == 404
        assert shape(answer.json()) == example("error_not_found")


async def test_a_body_beyond_64_kib_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/generations", content=b"x" * 70_000)
    assert answer.status_code == 413


async def test_the_create_budget_says_when_to_come_back(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    answers = [await create(http) for _ in range(11)]
    left = [int(a.headers["X-RateLimit-Remaining"]) for a in answers]
    assert left == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
    refused = answers[-1]
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "GENERATION_RATE_LIMITED"
    assert refused.json()["error"]["retryAfter"] == 3
    assert refused.headers["Retry-After"] == "3"
    assert (await http.get("/v1/me")).status_code == 200
    await anyio.sleep(3)
    assert (await create(http)).status_code == 202
    assert emulator.count(status=429) == 1
    assert len(emulator.ledger) == 11


async def test_a_full_queue_gives_no_hint(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    emulator.add_fault(Fault("stick", method="POST", times=None))
    object.__setattr__(emulator, "queue_size", 2)
    answers = [await create(http) for _ in range(3)]
    assert [a.status_code for a in answers] == [202, 202, 429]
    assert shape(answers[-1].json()) == example("error_queue_full")
    assert "Retry-After" not in answers[-1].headers
    assert (await http.get("/v1/me")).json()["data"]["limits"]["queueDepth"] == 2


async def test_credits_run_out(emulator: Emulator, http: httpx.AsyncClient) -> None:
    emulator.account.monthly = 1
    answers = [await create(http) for _ in range(2)]
    assert [a.status_code for a in answers] == [202, 402]
    assert shape(answers[-1].json()) == example("error_monthly_limit_reached")


async def test_audio_is_served_whole_and_in_parts(http: httpx.AsyncClient) -> None:
    track = await finished(http)
    del http.headers["X-API-Key"]
    whole = await http.get(track["audioUrl"])
    assert whole.headers["Content-Type"] == "audio/mpeg"
    assert int(whole.headers["Content-Length"]) == len(whole.content)
    part = await http.get(track["audioUrl"], headers={"Range": "bytes=1000-1999"})
    assert part.status_code == 206
    assert part.content == whole.content[1000:2000]
    size = len(whole.content)
    assert part.headers["Content-Range"] == f"bytes 1000-1999/{size}"
    rest = await http.get(track["audioUrl"], headers={"Range": f"bytes={size - 5}-"})
    assert rest.content == whole.content[-5:]
    over = await http.get(track["audioUrl"], headers={"Range": f"bytes={size}-"})
    assert over.status_code == 416
    head = await http.head(track["audioUrl"])
    assert int(head.headers["Content-Length"]) == size
    assert head.content == b""


async def test_a_reset_before_commit_costs_nothing(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    emulator.add_fault(Fault("lost_before_commit", "/v1/generations"))
    with pytest.raises(httpx.ReadError):
        await create(http)
    assert emulator.ledger == []
    assert (await create(http)).status_code == 202


async def test_a_reset_after_commit_is_charged(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    emulator.add_fault(Fault("lost_after_commit", "/v1/generations"))
    with pytest.raises(httpx.ReadError):
        await create(http)
    assert len(emulator.ledger) == 1
    assert (await create(http)).status_code == 202


async def test_a_client_that_gives_up_leaves_the_service_working(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    emulator.add_fault(Fault("delay", "/v1/generations", seconds=0.3))
    with pytest.raises(httpx.ReadTimeout):
        await http.post("/v1/generations", json=WISH, timeout=0.1)
    assert emulator.ledger == []
    await anyio.sleep(0.5)
    assert len(emulator.ledger) == 1


async def test_a_download_can_break_in_the_middle(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    track = await finished(http)
    emulator.add_fault(Fault("broken_download", "/audio/*", after_bytes=1000))
    got: list[bytes] = []
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await collect(http, track["audioUrl"], got)
    assert len(b"".join(got)) == 1000
    whole = (await http.get(track["audioUrl"])).content
    assert whole[:1000] == b"".join(got)
