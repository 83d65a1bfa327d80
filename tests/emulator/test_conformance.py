"""One suite for all ways to reach the emulator, by a client that is not ours.

In-process on both loops under a clock that jumps; on a port by uvicorn; in-process
again with state that an earlier run left; on the port of a process that was started
again. It is controlled over HTTP only. Every answer fits the OpenAPI document. Answers
are compared with the published examples: same members, same types.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async.emulator import Emulator, serve
from finetuning_async.testing import EmulatorProcess, jumping_backend
from tests.emulator._document import check_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.sampled(3)

EXAMPLES = Path(__file__).parents[1] / "api_examples"
GENERATION_TIME = 0.2
PER = 3.0
OTHER_KEY = "ft_live_" + 32 * "b"
OWN_KEY = "ft_live_" + 32 * "c"
CREATES = {"path": "/v1/generations", "method": "POST"}
SETTINGS: dict[str, Any] = {
    "speed": 20,
    "window": "log",
    "generation_time": (4, 4),
    "queue_size": 20,
}
FLAGS = ("--speed=20", "--window=log", "--generation-time=4", "--queue-size=20")


@pytest.fixture(
    params=[
        "in-process asyncio",
        "in-process trio",
        pytest.param("port asyncio", marks=pytest.mark.real_time),
        "restarted asyncio",
        pytest.param("second-run asyncio", marks=pytest.mark.real_time),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    where, loop = request.param.split()
    return loop if where in ("port", "second-run") else jumping_backend(loop)


@pytest.fixture(scope="module")
def process(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[EmulatorProcess, list[str]]]:
    """A process that was started again, and an account of its first run per test."""
    folder = str(tmp_path_factory.mktemp("state"))
    emulator = EmulatorProcess((*FLAGS, "--state-dir", folder))
    keys = [f"ft_live_of-test-{number:024}" for number in range(30)]
    with emulator, httpx.Client(base_url=emulator.control_url, timeout=30) as control:
        for key in (*keys, OTHER_KEY):
            control.post("/accounts", json={"api_key": key, "credits": 50})
        track = {"prompt": "of another account", "api_key": OTHER_KEY}
        control.post("/tracks", json=track)
    with emulator:
        state = httpx.get(f"{emulator.control_url}/state", timeout=30).json()
        assert len(state["accounts"]) == len(keys) + 2
        assert state["tracks"]["completed"] == 1
        yield emulator, keys


@pytest.fixture
async def http(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the emulator, with the key of an account of its own."""
    where = request.node.name
    async with AsyncExitStack() as stack:
        if "second-run" in where:
            running, keys = request.getfixturevalue("process")
            url, transport, key = running.url, None, keys.pop()
        else:
            folder = (
                await left_by_an_earlier_run(tmp_path) if "restarted" in where else None
            )
            emulator = Emulator(**SETTINGS, state_dir=folder)
            await stack.enter_async_context(emulator)
            if folder is None:
                emulator.add_account(OWN_KEY, credits=50)
            assert len(emulator.tracks) == (folder is not None)
            url, transport, key = emulator.base_url, emulator.transport(), OWN_KEY
            if "port asyncio" in where:
                url = await stack.enter_async_context(serve(emulator))
                transport = None
        client = httpx.AsyncClient(
            transport=transport, base_url=url, headers={"X-API-Key": key}, timeout=5
        )
        client.event_hooks["response"].append(check_response)
        yield await stack.enter_async_context(client)


async def left_by_an_earlier_run(folder: Path) -> Path:
    """A folder with two accounts; one of them has a track."""
    async with Emulator(**SETTINGS, state_dir=folder) as earlier:
        earlier.add_account(OWN_KEY, credits=50)
        earlier.add_account(OTHER_KEY)
        earlier.add_track("of another account", api_key=OTHER_KEY)
    return folder


class Control:
    """The emulator's control API; what other tests left is no part of its logs."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.key: str = http.headers["X-API-Key"]
        self.since: dict[str, int] = {}

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self._http.request(method, f"/_emulator/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def log(self, name: str, **query: Any) -> list[dict[str, Any]]:
        """Rows of a log, of this test only."""
        since = {"since": self.since.get(name, 0), **query}
        answer = await self._http.get(f"/_emulator/{name}", params=since)
        rows: list[dict[str, Any]] = answer.json()[name]
        return rows

    async def fault(self, action: str, **more: Any) -> None:
        await self.ask("POST", "faults", {"action": action, **more})

    async def wait(self, seconds: float) -> None:
        """Let the emulator's time pass; a real port is spared the wait."""
        if self._http.base_url.host == "127.0.0.1":
            await self.ask("POST", "clock/advance", {"seconds": seconds})
        else:
            await anyio.sleep(seconds)


@pytest.fixture
async def control(http: httpx.AsyncClient) -> AsyncIterator[Control]:
    control = Control(http)
    state = await control.ask("GET", "state")
    control.since = {name: state[name] for name in ("requests", "ledger")}
    yield control
    await control.ask("DELETE", "faults")
    await control.ask("PATCH", "settings", {"queue_size": 20})


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


async def finished(
    http: httpx.AsyncClient, control: Control, **changes: Any
) -> dict[str, Any]:
    track_id = (await create(http, **changes)).json()["data"]["id"]
    await control.wait(GENERATION_TIME)
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
    control: Control, http: httpx.AsyncClient
) -> None:
    track_id = (await create(http)).json()["data"]["id"]
    running = (await http.get(f"/v1/generations/{track_id}")).json()
    assert shape(running) == example("generation_processing")
    await control.wait(GENERATION_TIME)
    done = (await http.get(f"/v1/generations/{track_id}")).json()
    assert shape(done) == example("generation_completed")
    assert done["data"]["status"] == "completed"


async def test_a_failed_track_has_the_documented_shape(
    control: Control, http: httpx.AsyncClient
) -> None:
    await control.fault("fail", **CREATES)
    track = await finished(http, control)
    assert shape({"data": track}) == example("generation_failed")
    assert track["status"] == "failed"


async def test_a_list_is_newest_first_and_comes_in_pages(
    control: Control, http: httpx.AsyncClient
) -> None:
    made = [(await finished(http, control, seed=n))["id"] for n in range(3)]
    page = (await http.get("/v1/generations", params={"limit": 2})).json()
    assert shape(page) == example("generations_list")
    rows, data = page["data"]["generations"], page["data"]
    assert [row["id"] for row in rows] == [made[2], made[1]]
    assert (data["hasMore"], data["nextOffset"]) == (True, 2)
    last = (await http.get("/v1/generations", params={"offset": 2})).json()["data"]
    assert [row["id"] for row in last["generations"]] == [made[0]]
    assert (last["hasMore"], last["nextOffset"]) == (False, 3)


async def test_a_list_is_filtered_by_status_and_type(
    control: Control, http: httpx.AsyncClient
) -> None:
    await finished(http, control)
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
    control: Control, http: httpx.AsyncClient, key: str | None, name: str
) -> None:
    del http.headers["X-API-Key"]
    answer = await http.get("/v1/me", headers={"X-API-Key": key} if key else {})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == name.upper()
    assert shape(answer.json()) == example(f"error_{name}")
    (asked,) = await control.log("requests", path="/v1/me")
    assert asked["counted"] is False


async def test_a_plan_without_api_access_is_refused(
    control: Control, http: httpx.AsyncClient
) -> None:
    key = "ft_live_" + "0" * 32
    await control.ask("POST", "accounts", {"api_key": key, "tier": "free"})
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
    control: Control, http: httpx.AsyncClient
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
    await control.wait(PER)
    assert (await create(http)).status_code == 202
    assert len(await control.log("requests", status=429)) == 1
    assert len(await control.log("ledger")) == 11


async def test_a_full_queue_gives_no_hint(
    control: Control, http: httpx.AsyncClient
) -> None:
    await control.fault("stick", method="POST", times=None)
    await control.ask("PATCH", "settings", {"queue_size": 2})
    answers = [await create(http) for _ in range(3)]
    assert [a.status_code for a in answers] == [202, 202, 429]
    assert shape(answers[-1].json()) == example("error_queue_full")
    assert "Retry-After" not in answers[-1].headers
    assert (await http.get("/v1/me")).json()["data"]["limits"]["queueDepth"] == 2


async def test_credits_run_out(control: Control, http: httpx.AsyncClient) -> None:
    await control.ask("PATCH", f"accounts/{control.key}", {"credits": 1})
    answers = [await create(http) for _ in range(2)]
    assert [a.status_code for a in answers] == [202, 402]
    assert shape(answers[-1].json()) == example("error_monthly_limit_reached")


async def test_audio_is_served_whole_and_in_parts(
    control: Control, http: httpx.AsyncClient
) -> None:
    track = await finished(http, control)
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
    control: Control, http: httpx.AsyncClient
) -> None:
    await control.fault("lost_before_commit", **CREATES)
    with pytest.raises(httpx.ReadError):
        await create(http)
    assert await control.log("ledger") == []
    assert (await create(http)).status_code == 202


async def test_a_reset_after_commit_is_charged(
    control: Control, http: httpx.AsyncClient
) -> None:
    await control.fault("lost_after_commit", **CREATES)
    with pytest.raises(httpx.ReadError):
        await create(http)
    assert len(await control.log("ledger")) == 1
    assert (await create(http)).status_code == 202


async def test_a_client_that_gives_up_leaves_the_service_working(
    control: Control, http: httpx.AsyncClient
) -> None:
    await control.fault("delay", **CREATES, seconds=0.3)
    with pytest.raises(httpx.ReadTimeout):
        await http.post("/v1/generations", json=WISH, timeout=0.1)
    assert await control.log("ledger") == []
    await anyio.sleep(0.5)
    assert len(await control.log("ledger")) == 1


async def test_a_download_can_break_in_the_middle(
    control: Control, http: httpx.AsyncClient
) -> None:
    track = await finished(http, control)
    await control.fault("broken_download", path="/audio/*", after_bytes=1000)
    got: list[bytes] = []
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await collect(http, track["audioUrl"], got)
    assert len(b"".join(got)) == 1000
    whole = (await http.get(track["audioUrl"])).content
    assert whole[:1000] == b"".join(got)
