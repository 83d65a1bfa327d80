"""One request with its permit: who goes first, and how long it may take.

The time is not 0 when a test begins, so that a time and a duration differ.
"""

from __future__ import annotations

import random
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    APITimeoutError,
    Event,
    LocalRateLimiter,
    NotFoundError,
    RateLimit,
    RateLimited,
    RateLimitError,
    RateLimits,
)
from finetuning_async._api._messages import Call
from finetuning_async._event_hook import Hook
from finetuning_async._http import (
    Pipeline,
    RetryPolicy,
    ServerClock,
    _request_events,
    capture_responses,
)
from finetuning_async._http._http_clients import ClientPool
from finetuning_async._http._retry import RetryableFailure
from finetuning_async._http._timeouts import as_timeout
from finetuning_async._http._transport import Transport
from finetuning_async._secrets import ApiKey

if TYPE_CHECKING:
    from collections.abc import Callable

READ = Call(method="GET", path="/v1/me")
ONE_IN_TEN_SECONDS = RateLimits(reads=RateLimit(1, per=10))


@pytest.fixture(autouse=True)
async def _late() -> None:
    await anyio.sleep(1000)


class Service:
    """Sends statuses in order, then 200; notes the path of each request."""

    def __init__(
        self, *statuses: int, takes: float = 0.0, body: Any = None, **headers: str
    ) -> None:
        self._statuses, self._takes, self._body = list(statuses), takes, body or {}
        self._headers = {name.replace("_", "-"): text for name, text in headers.items()}
        self.paths: list[str] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        await anyio.sleep(self._takes)
        status = self._statuses.pop(0) if self._statuses else 200
        return httpx.Response(status, json=self._body, headers=self._headers)


def pipeline(
    service: Service,
    limits: RateLimits = RateLimits(),  # noqa: B008 - frozen
    *,
    timeout: Any = 30,
    max_retry_wait: float = 60.0,
    on_event: Callable[[Event], object] | None = None,
) -> Pipeline:
    http = httpx.AsyncClient(transport=httpx.MockTransport(service))
    return Pipeline(
        transport=Transport(
            pool=ClientPool(http),
            base_url="https://service.example",
            key=ApiKey("ft_live_" + "e" * 32),
            timeout=as_timeout(timeout),
        ),
        limiter=LocalRateLimiter(limits),
        retry=RetryPolicy(
            max_retries=5, max_retry_wait=max_retry_wait, rng=random.Random(1)
        ),
        clock=ServerClock(),
        hook=None if on_event is None else Hook(on_event),
    )


async def test_a_retry_goes_before_requests_that_wait_for_their_first_permit() -> None:
    service = Service(503)
    made = pipeline(service, ONE_IN_TEN_SECONDS)
    async with anyio.create_task_group() as group:
        for name in ("/first", "/second", "/third"):
            group.start_soon(made.request, Call(method="GET", path=name))
            await anyio.sleep(0.01)
    assert service.paths == ["/first", "/first", "/second", "/third"]


async def test_a_permit_that_comes_after_the_deadline_is_not_waited_for() -> None:
    service = Service()
    made = pipeline(service, ONE_IN_TEN_SECONDS)
    await made.request(READ)
    began = anyio.current_time()
    with pytest.raises(
        APITimeoutError, match=r"in 1\d\.\d s at the earliest, .* leaves 3\.0 s"
    ) as caught:
        await made.request(READ, deadline=began + 3)
    assert anyio.current_time() - began < 0.01
    assert caught.value.retry_after == pytest.approx(10, abs=0.5)
    assert caught.value.safe_to_retry
    await made.request(READ, deadline=began + 11)
    assert len(service.paths) == 2


@pytest.mark.parametrize(
    ("max_retry_wait", "timeout"), [(60.0, 20.0), (20.0, 60.0), (20.0, 20.0)]
)
async def test_a_429_that_asks_for_more_than_may_be_waited_is_raised_at_once(
    max_retry_wait: float, timeout: float
) -> None:
    made = pipeline(Service(429, Retry_After="30"), max_retry_wait=max_retry_wait)
    began = anyio.current_time()
    for _ in range(2):  # by its response, then by the gate that this has closed
        with pytest.raises(RateLimitError):
            await made.request(READ, deadline=began + timeout)
    assert anyio.current_time() - began < 0.01


async def test_a_429_that_asks_for_as_long_as_may_be_waited_is_waited_out() -> None:
    service = Service(429, Retry_After="30")
    made = pipeline(service, max_retry_wait=30.5)
    began = anyio.current_time()
    await made.request(READ, deadline=began + 31)
    assert 30 <= anyio.current_time() - began < 31


@pytest.mark.parametrize("connects", [False, True])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_only_the_permit_of_a_request_that_was_not_sent_is_free_again(
    *, connects: bool, cancelled: bool
) -> None:
    class Failing(Service):
        async def __call__(self, request: httpx.Request) -> httpx.Response:
            trace = request.extensions["trace"]
            await trace("connection.connect_tcp.started", {})
            if connects:
                await trace("http11.send_request_headers.started", {})
            await anyio.sleep(10 if cancelled else 1)
            raise httpx.ReadError("reset")

    made = pipeline(Failing(), ONE_IN_TEN_SECONDS)
    with anyio.move_on_after(2) as scope, suppress(RetryableFailure):
        await made.attempt(READ)
    assert scope.cancelled_caught == cancelled
    assert (made.limiter.try_acquire("reads") is None) == connects


@pytest.mark.parametrize(
    ("code", "budget"),
    [
        (None, "reads"),
        ("RATE_LIMITED", "reads"),
        ("GENERATION_RATE_LIMITED", "creates"),
    ],
)
async def test_a_429_is_reported_with_the_budget_that_it_stops(
    code: str | None, budget: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Event] = []
    service = Service(429, body={"error": {"code": code}}, Retry_After="5")
    with pytest.raises(RetryableFailure):
        await pipeline(service, on_event=seen.append).attempt(READ)
    (event,) = [event for event in seen if isinstance(event, RateLimited)]
    assert (event.budget, event.code) == (budget, code)
    assert event.duration == pytest.approx(5, abs=1)
    expected = f"GET /v1/me was refused ({code or 429}): all {budget} wait for 5."
    assert expected in caplog.text


async def test_a_read_that_shows_the_track_of_an_earlier_one_is_made_again() -> None:
    def read(track_id: str) -> Call:
        return Call(method="GET", path=f"/{track_id}", shows=track_id)

    service = Service(body={"data": {"id": "a"}})
    made = pipeline(service)
    await made.attempt(read("b"))  # another spelling of its id, for all that is known
    await made.attempt(read("a"))
    with pytest.raises(RetryableFailure, match="requested b, got a") as caught:
        await made.attempt(read("b"))
    assert caught.value.error.safe_to_retry


async def test_a_refusal_that_names_another_track_is_still_a_refusal() -> None:
    made = pipeline(Service(200, 404, body={"data": {"id": "a"}}))
    await made.attempt(Call(method="GET", path="/a", shows="a"))
    with pytest.raises(NotFoundError):
        await made.attempt(Call(method="GET", path="/b", shows="b"))


@pytest.mark.parametrize(("timeout", "longest"), [(7, 7.0), (None, inf)])
async def test_a_read_has_as_long_as_its_timeout_says(
    timeout: float | None, longest: float
) -> None:
    assert pipeline(Service(), timeout=timeout).transport.max_read_time == longest


async def test_an_attempt_on_the_wire_ends_with_the_deadline_of_its_call() -> None:
    for timeout in (30, httpx.Timeout(30, read=None), None):
        began = anyio.current_time()
        with pytest.raises(RetryableFailure) as caught:
            await pipeline(Service(takes=100), timeout=timeout).attempt(
                READ, deadline=began + 2
            )
        assert anyio.current_time() - began == pytest.approx(2, abs=0.001)
        assert isinstance(caught.value.error, APITimeoutError)


async def test_an_attempt_takes_no_longer_than_a_request_may() -> None:
    for left in (50, inf):
        began = anyio.current_time()
        with pytest.raises(RetryableFailure):
            await pipeline(Service(takes=100), timeout=7).attempt(
                READ, deadline=began + left
            )
        assert anyio.current_time() - began == pytest.approx(7, abs=0.001)
    assert (await pipeline(Service(takes=100), timeout=None).attempt(READ)).is_success


async def test_a_captured_response_says_how_long_it_took() -> None:
    with capture_responses() as responses:
        await pipeline(Service(takes=0.25)).request(READ)
    (response,) = responses
    assert response.elapsed == pytest.approx(0.25, abs=0.001)


async def test_a_request_of_both_budgets_may_go_as_often_as_the_smaller_allows() -> (
    None
):
    limiter = LocalRateLimiter(RateLimits(reads=RateLimit(60)))
    status = limiter.status()
    assert status.creates.available != status.reads.available == 60
    seen: list[Any] = []
    for route in ("creates", "reads", "health"):
        call = Call(method="GET", path="/health", route=route)
        _request_events.request_sent(Hook(seen.append), call, 1, limiter)
    small = status.creates.available
    assert [event.available for event in seen] == [small, 60, small]
