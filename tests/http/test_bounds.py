"""Header values are believed within bounds; one warning is logged for others."""

from __future__ import annotations

import json
import logging
from math import inf
from typing import Any

import anyio
import httpx
import pytest

from finetuning_async import (
    APIResponseError,
    APIStatusError,
    AsyncClient,
    InternalServerError,
    LocalRateLimiter,
    QueueFullError,
    RateLimitError,
)
from finetuning_async._api._messages import Response, ResponseFacts
from finetuning_async._http._header_warnings import HeaderWarnings

KEY = "ft_live_" + "0" * 32
HOUR = 3600.0
FAR = [
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Friday, 31-Dec-68 23:59:59 GMT",
    "Fri Dec 31 23:59:59 9999",
    "99999999999999999999",
    "3601",
    "1e400",
]
DATE = "Sat, 28 Nov 2026 12:00:00 GMT"
ME = {"data": {"id": "u", "email": "e@example.org", "tier": "pro", "limits": {}}}


class Service:
    """Sends `responses` in order, and repeats the last one."""

    def __init__(self, *responses: tuple[int, dict[str, str], Any]) -> None:
        self.responses, self.requested_at = list(responses), list[float]()

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        self.requested_at.append(anyio.current_time())
        await anyio.sleep(0.01)
        last = len(self.responses) == 1
        status, headers, body = self.responses[0] if last else self.responses.pop(0)
        return httpx.Response(status, headers={"Date": DATE} | headers, json=body)


def refusal(code: str | None = "RATE_LIMITED", **error: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": "slow down", **error}}


def client_of(service: Service, **options: Any) -> AsyncClient:
    http = httpx.AsyncClient(transport=httpx.MockTransport(service))
    return AsyncClient(KEY, http_client=http, **options)


def warnings(log: pytest.LogCaptureFixture, part: str) -> list[str]:
    return [
        record.getMessage()
        for record in log.records
        if record.levelno >= logging.WARNING and part in record.getMessage()
    ]


@pytest.mark.parametrize("far", FAR)
async def test_a_far_retry_after_counts_as_an_hour(far: str) -> None:
    service = Service((429, {"Retry-After": far}, refusal()), (200, {}, ME))
    client = client_of(service, max_retry_wait=inf)
    await client.me(timeout=None)
    first, second = service.requested_at
    assert HOUR <= second - first <= HOUR + 1


@pytest.mark.parametrize("far", [1e12, 10**400, "1e30", "9" * 40])
async def test_a_far_retry_after_in_the_body_counts_as_an_hour(far: Any) -> None:
    service = Service((429, {}, refusal(retryAfter=far)), (200, {}, ME))
    client = client_of(service, max_retry_wait=inf)
    await client.me(timeout=None)
    first, second = service.requested_at
    assert HOUR <= second - first <= HOUR + 1


async def test_a_far_retry_after_above_max_retry_wait_is_raised_as_an_hour() -> None:
    service = Service((429, {"Retry-After": FAR[0]}, refusal()))
    client = client_of(service)
    for _ in range(3):
        with pytest.raises(RateLimitError) as caught:
            await client.me()
        assert caught.value.retry_after == pytest.approx(HOUR, abs=1)
    assert client.rate_limit_status().reads.closed_for == pytest.approx(HOUR, abs=1)
    assert len(service.requested_at) == 1


async def test_a_far_retry_after_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service((429, {"Retry-After": FAR[0]}, refusal()))
    client = client_of(service, max_retry_wait=inf, max_retries=3)
    with pytest.raises(RateLimitError):
        await client.me(timeout=None)
    assert len(service.requested_at) == 4
    assert len(warnings(caplog, "waits 3600 s at most")) == 1


@pytest.mark.parametrize(
    "near", ["-5", "nan", "-inf", "inf", "Sat, 28 Nov 1970 12:00:00 GMT", "soon", ""]
)
async def test_a_retry_after_that_is_no_future_time_is_ignored(near: str) -> None:
    service = Service((429, {"Retry-After": near}, refusal()), (200, {}, ME))
    await client_of(service).me()
    first, second = service.requested_at
    assert 5 <= second - first <= 6


async def test_queue_full_and_503_ask_for_an_hour_at_most(
    caplog: pytest.LogCaptureFixture,
) -> None:
    far = {"Retry-After": FAR[0]}
    full = client_of(Service((429, far, refusal("QUEUE_FULL"))))
    with pytest.raises(QueueFullError) as caught:
        await full.generations.create("rain")
    assert caught.value.retry_after == HOUR
    unavailable = client_of(Service((503, far, {})))
    with pytest.raises(InternalServerError) as error:
        await unavailable.me()
    assert error.value.retry_after == HOUR
    assert (
        len(warnings(caplog, "waits 3600 s at most")) == 1
    )  # both clients are of one account


async def test_a_create_behind_a_full_queue_waits_an_hour_at_most() -> None:
    created = {"data": {"id": "gen_1", "status": "processing", "prompt": "rain"}}
    full = (429, {"Retry-After": FAR[0]}, refusal("QUEUE_FULL"))
    service = Service(full, (202, {}, created))
    client = client_of(service, max_retry_wait=inf)
    assert (await client.generations.create("rain")).id == "gen_1"
    assert HOUR <= service.requested_at[-1] - service.requested_at[0] <= HOUR + 1


@pytest.mark.parametrize("limit", ["0", "-1", "0.5", "00"])
@pytest.mark.parametrize("remaining", ["0", None])
async def test_a_limit_of_zero_is_ignored(
    limit: str, remaining: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"X-RateLimit-Limit": limit}
    if remaining is not None:
        headers["X-RateLimit-Remaining"] = remaining
    service = Service((200, headers, ME))
    client = client_of(service)
    for _ in range(20):
        await client.me(timeout=5)
    assert service.requested_at[-1] - service.requested_at[0] < 1
    assert len(warnings(caplog, "X-RateLimit-Limit")) == 1
    assert client.rate_limit_status().reads.limit == 60


async def test_facts_that_a_program_passes_have_the_same_bounds() -> None:
    facts = ResponseFacts(
        status=429, code="RATE_LIMITED", limit=0, remaining=-1, retry_after=1e300
    )
    assert (facts.limit, facts.remaining, facts.retry_after) == (None, None, HOUR)
    limiter = LocalRateLimiter()
    permit = limiter.try_acquire("reads")
    assert permit is not None
    permit.answered(facts)
    assert limiter.status().reads.closed_for == pytest.approx(HOUR, abs=1)


TOO_LONG = b" " * 17 * 2**20


async def test_a_body_that_a_transport_read_is_bounded() -> None:
    http = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, content=TOO_LONG))
    )
    with pytest.raises(APIResponseError, match="expected at most 16 MiB"):
        await AsyncClient(KEY, http_client=http).me()


@pytest.mark.parametrize("status", [202, 400, 500])
async def test_a_create_whose_response_is_too_long_is_looked_up(status: int) -> None:
    creates: list[dict[str, Any]] = []

    def respond(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            creates.append(json.loads(request.content))
            return httpx.Response(status, content=TOO_LONG)
        parameters = {"seed": creates[0]["seed"]}
        row = {"id": "gen_1", "prompt": "rain", "parameters": parameters}
        return httpx.Response(200, json={"data": {"generations": [row]}})

    http = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    track = await AsyncClient(KEY, http_client=http).generations.create("rain")
    assert track.id == "gen_1"
    assert len(creates) == 1


async def test_a_far_retry_after_on_a_404_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service((404, {"Retry-After": FAR[0]}, refusal("NOT_FOUND")))
    with pytest.raises(APIStatusError):
        await client_of(service).me()
    assert not warnings(caplog, "asked for a wait")


@pytest.mark.parametrize(
    ("asked", "shown"),
    [("3600", None), ("3601", "of 3601 s"), ("1e400", "without end")],
)
def test_a_pause_of_more_than_an_hour_is_logged_with_its_length(
    asked: str, shown: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"retry-after": asked}
    response = Response(
        status=429, headers=headers, content=b"", sent_at=0.0, received_at=0.0
    )
    HeaderWarnings().check(response)
    logged = warnings(caplog, "the service asked for a wait")
    assert [line.partition(";")[0] for line in logged] == (
        [f"the service asked for a wait {shown}"] if shown else []
    )
