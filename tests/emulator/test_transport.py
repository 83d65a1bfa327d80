"""The in-process network behaves as a socket does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

WISH = {"tags": "lofi", "duration": 5}
CREATES = "/v1/generations"


async def test_a_cancelled_caller_leaves_the_service_working(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    emulator.add_fault(Fault("delay", CREATES, seconds=3))
    with anyio.move_on_after(1):
        await http.post(CREATES, json=WISH)
    assert emulator.ledger == []
    await anyio.sleep(3)
    assert [entry.at for entry in emulator.ledger] == [pytest.approx(3, abs=0.001)]


async def test_a_read_timeout_counts_on_the_loops_clock(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    emulator.add_fault(Fault("late_commit", CREATES, seconds=40))
    begin = anyio.current_time()
    with pytest.raises(httpx.ReadTimeout) as caught:
        await http.post(CREATES, json=WISH, timeout=30)
    assert anyio.current_time() - begin == pytest.approx(30, abs=0.001)
    assert caught.value.request.url.path == CREATES
    await anyio.sleep(11)
    assert [entry.at for entry in emulator.ledger] == [pytest.approx(40, abs=0.001)]


async def test_connections_can_be_refused_or_hang(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    emulator.add_fault(Fault("connect_refused"))
    emulator.add_fault(Fault("connect_hangs"))
    with pytest.raises(httpx.ConnectError):
        await http.get("/v1/me")
    with pytest.raises(httpx.ConnectTimeout):
        await http.get("/v1/me")
    assert emulator.requests == []
    assert (await http.get("/v1/me")).status_code == 200


async def test_a_foreign_host_cannot_be_reached(http: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ConnectError):
        await http.get("https://example.org/")


async def test_the_trace_tells_whether_bytes_began_to_leave(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    seen: list[str] = []

    async def trace(name: str, _info: dict[str, Any]) -> None:
        seen.append(name)

    await http.get("/v1/me", extensions={"trace": trace})
    steps = [
        "connection.connect_tcp",
        "http11.send_request_headers",
        "http11.send_request_body",
        "http11.receive_response_headers",
        "http11.receive_response_body",
    ]
    assert seen == [f"{s}.{end}" for s in steps for end in ("started", "complete")]
    seen.clear()
    emulator.add_fault(Fault("connect_refused"))
    with pytest.raises(httpx.ConnectError):
        await http.get("/v1/me", extensions={"trace": trace})
    assert seen == ["connection.connect_tcp.started", "connection.connect_tcp.failed"]


async def test_latency_delays_arrival_and_answer() -> None:
    async with Emulator(latency=(1.5, 1.5)) as emulator, client(emulator) as http:
        await http.get("/v1/me")
        assert emulator.requests[0].at == pytest.approx(1.5, abs=0.001)
        assert anyio.current_time() == pytest.approx(3, abs=0.001)


async def test_a_close_is_told_from_a_reset(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    emulator.add_fault(Fault("lost_after_commit", close=True))
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post(CREATES, json=WISH)
    assert len(emulator.ledger) == 1


async def test_the_date_and_times_follow_the_loops_clock() -> None:
    import datetime as dt

    start = dt.datetime(2026, 3, 2, 18, 4, 9, tzinfo=dt.UTC)
    async with Emulator(start_time=start) as emulator, client(emulator) as http:
        await anyio.sleep(50.5)
        answer = await http.post(CREATES, json=WISH)
        assert answer.headers["Date"] == "Mon, 02 Mar 2026 18:04:59 GMT"
        assert answer.json()["data"]["createdAt"] == "2026-03-02T18:04:59Z"
        track = await http.get(f"{CREATES}/{answer.json()['data']['id']}")
        assert track.json()["data"]["createdAt"] == "2026-03-02 18:04:59"


async def test_a_slow_reader_gets_everything(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    url = await finished(emulator, http)
    whole = (await http.get(url)).content
    got = b""
    async with http.stream("GET", url) as answer:
        async for chunk in answer.aiter_raw():
            await anyio.sleep(1)
            got += chunk
    assert got == whole


async def test_a_reader_that_leaves_early_frees_the_service(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    url = await finished(emulator, http)
    async with http.stream("GET", url):
        pass
    await anyio.sleep(1)
    assert (await http.get(url)).status_code == 200


async def test_a_read_timeout_holds_for_each_chunk(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    url = await finished(emulator, http)
    emulator.add_fault(Fault("slow_download", "/audio/*", seconds=10))
    with pytest.raises(httpx.ReadTimeout):
        await http.get(url, timeout=5)


SPOILS: list[tuple[Fault, Callable[[httpx.Response], bool]]] = [
    (Fault("html"), lambda a: a.status_code == 202 and a.text.startswith("<!doctype")),
    (Fault("truncated_json"), lambda a: a.text.startswith('{"data"') and not ends(a)),
    (Fault("empty"), lambda a: a.status_code == 202 and a.content == b""),
    (Fault("status", status=503, commit=True), lambda a: a.status_code == 503),
]


def ends(answer: httpx.Response) -> bool:
    return answer.text.endswith("}}")


@pytest.mark.parametrize(
    ("fault", "as_told"), SPOILS, ids=[fault.action for fault, _ in SPOILS]
)
async def test_a_spoiled_answer_is_charged(
    emulator: Emulator,
    http: httpx.AsyncClient,
    fault: Fault,
    as_told: Callable[[httpx.Response], bool],
) -> None:
    emulator.add_fault(fault)
    assert as_told(await http.post(CREATES, json=WISH))
    assert len(emulator.ledger) == 1
    assert ends(await http.post(CREATES, json=WISH))


async def test_a_status_fault_commits_nothing(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    emulator.add_fault(Fault("status", status=429, code="RATE_LIMITED", retry_after=7))
    answer = await http.post(CREATES, json=WISH)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "RATE_LIMITED"
    assert answer.headers["Retry-After"] == "7"
    assert emulator.ledger == []
    assert emulator.count(status=429, code="RATE_LIMITED") == 1


async def test_faults_strike_the_requests_they_name(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    fault = emulator.add_fault(
        Fault("status", "/v1/me", method="GET", skip=1, times=2, status=500)
    )
    statuses = [(await http.get("/v1/me")).status_code for _ in range(4)]
    assert statuses == [200, 500, 500, 200]
    assert fault.hits == 2


async def test_a_probability_follows_the_seed() -> None:
    async def run(seed: int) -> list[int]:
        async with Emulator(seed=seed) as emulator, client(emulator) as http:
            emulator.add_fault(Fault("status", times=None, probability=0.5))
            return [(await http.get("/health")).status_code for _ in range(20)]

    assert await run(1) == await run(1)
    assert await run(1) != await run(2)
    assert set(await run(1)) == {200, 500}


async def test_a_hidden_track_is_listed_late(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    emulator.add_fault(Fault("hide", CREATES, seconds=15))
    await http.post(CREATES, json=WISH)
    assert (await http.get(CREATES)).json()["data"]["generations"] == []
    await anyio.sleep(15)
    assert len((await http.get(CREATES)).json()["data"]["generations"]) == 1


async def test_a_request_to_an_emulator_that_was_not_entered_says_so() -> None:
    emulator = Emulator()
    assert "not entered" in repr(emulator)
    with pytest.raises(RuntimeError, match="async with"):
        await client(emulator).get("/v1/me")


def client(emulator: Emulator) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=emulator.transport(),
        base_url=emulator.base_url,
        headers={"X-API-Key": emulator.api_key},
    )


async def finished(emulator: Emulator, http: httpx.AsyncClient) -> str:
    track_id = (await http.post(CREATES, json=WISH)).json()["data"]["id"]
    await anyio.sleep(20)
    return emulator.tracks[track_id].audio_url
