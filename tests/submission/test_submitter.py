"""A create is paid once: not sent, refused, accepted, or of unknown outcome."""

from __future__ import annotations

import json
import logging
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import httpx
import pytest

from finetuning_async import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    BadRequestError,
    FinetuningError,
    Generation,
    GenerationRequest,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    QueueFullError,
    RateLimitError,
    SubmissionUnknownError,
)
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from collections.abc import Callable


CREATE = "/v1/generations"


def post(action: Any, **settings: Any) -> Fault:
    return Fault(action, CREATE, method="POST", **settings)


def posts(emulator: Emulator) -> int:
    return emulator.count(method="POST", path=CREATE)


# Not sent.


async def test_a_create_that_was_not_sent_is_sent_again() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(post("connect_refused", times=3))
        track = await client.generations.create("x")
        assert list(emulator.tracks) == [track.id]
        assert posts(emulator) == 1
        assert client.rate_limit_status().creates.available == 9


async def test_a_create_that_was_never_sent_says_so() -> None:
    async with emulated(max_retries=2) as (emulator, client):
        fault = emulator.add_fault(post("connect_refused", times=None))
        with pytest.raises(APIConnectionError, match="was not sent") as caught:
            await client.generations.create("x")
        assert caught.value.safe_to_retry
        assert fault.hits == 3
        assert client.rate_limit_status().creates.available == 10


async def test_a_timeout_while_connecting_costs_nothing() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(post("connect_hangs", times=None))
        with pytest.raises(APITimeoutError) as caught:
            await client.generations.create("x", timeout=7)
        assert caught.value.safe_to_retry
        assert not emulator.tracks
        assert client.rate_limit_status().creates.available == 10


async def test_a_timeout_of_a_slow_connect_costs_nothing() -> None:
    async with emulated(request_timeout=20) as (emulator, client):
        emulator.add_fault(post("connect_hangs", times=None))
        with pytest.raises(APITimeoutError) as caught:
            await client.generations.create("x", timeout=1)
        assert caught.value.safe_to_retry
        assert not emulator.tracks
        assert client.rate_limit_status().creates.available == 10


@pytest.mark.parametrize("timeout", [0, 0.01, 2])
async def test_a_timeout_before_the_permit_costs_nothing(timeout: float) -> None:
    async with emulated(Emulator(creates_per_minute=1)) as (emulator, client):
        await client.generations.create("first")
        with pytest.raises(APITimeoutError) as caught:
            await client.generations.create("second", timeout=timeout)
        assert caught.value.safe_to_retry
        assert anyio.current_time() < 2.1
        assert len(emulator.tracks) == 1


# Refused.


async def test_a_rate_refusal_waits_and_is_sent_again() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(
            post("status", status=429, code="GENERATION_RATE_LIMITED", retry_after=7)
        )
        track = await client.generations.create("x")
        assert anyio.current_time() >= 7
        assert list(emulator.tracks) == [track.id]


async def test_a_refusal_is_raised_and_costs_nothing() -> None:
    async with emulated(Emulator(credits=0)) as (emulator, client):
        with pytest.raises(InsufficientCreditsError) as caught:
            await client.generations.create("x")
        assert not caught.value.safe_to_retry
        assert posts(emulator) == 1


@pytest.mark.parametrize("status", [400, 429])
async def test_a_4xx_of_the_service_with_any_code_is_raised_at_once(
    status: int,
) -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(post("status", status=status, code="OTHER_LIMIT"))
        with pytest.raises(BadRequestError if status == 400 else RateLimitError):
            await client.generations.create("x")
        assert len(emulator.requests) == 1
        assert anyio.current_time() < 1


@pytest.mark.parametrize("status", [400, 403, 404, 408, 409, 422, 429, 499])
async def test_a_4xx_that_is_not_the_services_own_is_looked_up(status: int) -> None:
    """A proxy may send this after the service has done its work."""
    async with emulated() as (emulator, client):
        emulator.add_fault(post("status", status=status, code=None, commit=True))
        track = await client.generations.create("x")
        assert list(emulator.tracks) == [track.id]
        assert posts(emulator) == 1


async def test_a_4xx_of_a_proxy_is_raised_if_nothing_was_created() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(post("status", status=400, code=None))
        with pytest.raises(BadRequestError):
            await client.generations.create("x")
        assert anyio.current_time() >= 30
        assert posts(emulator) == 1


async def test_a_full_queue_with_no_retries_is_raised() -> None:
    async with emulated(Emulator(queue_size=1), max_retries=0) as (emulator, client):
        await client.generations.create("first")
        with pytest.raises(QueueFullError) as caught:
            await client.generations.create("second")
        assert caught.value.safe_to_retry
        assert posts(emulator) == 2
        assert client._session().account.inflight._capacity.pending == 0


async def test_a_full_queue_that_asks_for_too_long_a_pause_is_raised() -> None:
    service = Emulator(queue_size=1, queue_full_retry_after=900)
    async with emulated(service) as (_, client):
        await client.generations.create("first")
        with pytest.raises(QueueFullError) as caught:
            await client.generations.create("second")
        assert caught.value.retry_after == 900


async def test_a_full_queue_is_waited_for_as_long_as_the_longest_pause() -> None:
    service = Emulator(queue_size=1, queue_full_retry_after=60)
    async with emulated(service, max_retry_wait=60, max_retries=1) as (
        emulator,
        client,
    ):
        for words in ("first", "second"):
            await client.generations.create(words)
        assert posts(emulator) == 3


# Accepted.


async def test_an_accepted_create_is_reported_logged_and_returned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "finetuning_async")
    reported: list[Generation] = []
    async with emulated() as (emulator, client):
        track = await client.generations.create("x", on_submitted=reported.append)
    assert reported == [track]
    assert f"accepted music {track.id}" in caplog.text
    assert list(emulator.tracks) == [track.id]


@pytest.mark.parametrize(
    "body",
    [
        b'{"success":true,"data":{"id":"gen_1"}}',
        b'{"id":"gen_1","anything":[1,2,{}]}',
        b'{"data":{"id":"gen_1","status":"pendi',
        b'{"data":{"id":"gen_1","parameters":"odd","createdAt":7,"status":null}}',
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202])
async def test_a_2xx_with_an_id_is_accepted_whatever_else_it_says(
    body: bytes, status: int
) -> None:
    sent: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(status, content=body)

    async with _client_of(handler) as client:
        track = await client.generations.create("x")
    assert track.id == "gen_1"
    assert len(sent) == 1


async def test_a_changed_request_is_a_warning_not_a_lost_track(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with emulated(Emulator(rewrite_prompts=True)) as (emulator, client):
        track = await client.generations.create("x")
    assert list(emulator.tracks) == [track.id]
    assert track.changed_by_service["prompt"] == ("x", "x, studio quality")
    assert "the service changed ['prompt']" in caplog.text


async def test_an_exception_of_on_submitted_is_raised_and_names_the_track() -> None:
    async with emulated() as (emulator, client):

        def fail(_: Generation) -> None:
            raise LookupError("mine")

        with pytest.raises(LookupError, match="mine") as caught:
            await client.generations.create("x", on_submitted=fail)
        (track_id,) = emulator.tracks
        assert track_id in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "error",
    [
        QueueFullError("full", status_code=429, code="QUEUE_FULL"),
        RateLimitError("rate", status_code=429, code="RATE_LIMITED"),
        APIConnectionError("line"),
        InternalServerError("5xx", status_code=500),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_of_ours_raised_by_on_submitted_is_not_retried(
    error: FinetuningError,
) -> None:
    async with emulated() as (emulator, client):

        async def fail(_: Generation) -> None:
            await anyio.sleep(0.1)
            raise error

        with pytest.raises(type(error)):
            await client.generations.create("x", on_submitted=fail)
        assert posts(emulator) == len(emulator.tracks) == 1


async def test_a_timeout_in_on_submitted_returns_the_track() -> None:
    async with emulated() as (emulator, client):

        async def block(_: Generation) -> None:
            await anyio.sleep_forever()

        track = await client.generations.create("x", on_submitted=block, timeout=2)
        assert list(emulator.tracks) == [track.id]
        assert anyio.current_time() == pytest.approx(7, abs=0.1)


async def test_on_submitted_may_create_another() -> None:
    async with emulated() as (emulator, client):

        async def follow(_: Generation) -> None:
            await client.generations.create("second")

        await client.generations.create("first", on_submitted=follow)
        assert [t.prompt for t in emulator.tracks.values()] == ["first", "second"]


# Unknown.

ODD_ANSWERS = [
    post("lost_before_commit"),
    post("lost_before_commit", close=True),
    post("status", status=500, code="INTERNAL_ERROR"),
    post("status", status=502, code=None),
    post("status", status=503, code="UNAVAILABLE", retry_after=2),
    post("status", status=504, code=None),
]
AFTER_COMMIT = [
    post("lost_after_commit"),
    post("lost_after_commit", close=True),
    post("late_commit", seconds=5),
    post("late_commit", seconds=25),
    post("delay", seconds=40),
    post("slow_answer", seconds=40),
    post("html"),
    post("truncated_json"),
    post("empty"),
    post("status", status=500, code="GENERATION_FAILED", commit=True),
    post("status", status=500, code="INTERNAL_ERROR", commit=True),
    post("status", status=502, code=None, commit=True),
    post("status", status=503, code="UNAVAILABLE", retry_after=2, commit=True),
    post("status", status=504, code=None, commit=True),
    post("status", status=200, code=None, commit=True),
]


def _name(fault: Fault) -> str:
    parts = [fault.action, fault.status if fault.action == "status" else fault.seconds]
    return "-".join(map(str, [*parts, fault.code, fault.close]))


@pytest.mark.parametrize("fault", AFTER_COMMIT, ids=_name)
async def test_a_create_whose_response_is_lost_is_found(
    fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "finetuning_async")
    reported: list[Generation] = []
    async with emulated() as (emulator, client):
        emulator.add_fault(fault)
        track = await client.generations.create("x", on_submitted=reported.append)
        assert list(emulator.tracks) == [track.id]
        assert posts(emulator) == 1
        assert [t.id for t in reported] == [track.id]
        assert f"accepted music {track.id}" in caplog.text
        await client.wait_for_completion(track)


@pytest.mark.parametrize("fault", ODD_ANSWERS, ids=_name)
async def test_a_create_of_unknown_outcome_is_not_sent_again(fault: Fault) -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(fault)
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("x", seed=99)
        error = caught.value
        assert (error.prompt, error.seed, error.candidates) == ("x", 99, ())
        assert error.sent_at is not None
        assert "seed=99" in str(error)
        assert not error.safe_to_retry
        assert pickle.loads(pickle.dumps(error)) == error  # noqa: S301 - our own
        assert posts(emulator) == 1
        assert anyio.current_time() >= 30


@pytest.mark.parametrize("fault", ODD_ANSWERS, ids=_name)
@pytest.mark.parametrize("max_retries", [0, 5])
async def test_resubmit_sends_it_again_once_a_later_create_is_listed(
    fault: Fault, max_retries: int
) -> None:
    async with emulated(max_retries=max_retries) as (emulator, client):
        emulator.add_fault(fault)
        made: list[Generation] = []

        async def create() -> None:
            made.append(await client.generations.create("x", on_unknown="resubmit"))

        async with anyio.create_task_group() as group:
            group.start_soon(create)
            await anyio.sleep(5)
            later = await client.generations.create("later")
        assert list(emulator.tracks) == [later.id, made[0].id]
        assert posts(emulator) == 3
        assert anyio.current_time() >= 30


@pytest.mark.parametrize("fault", ODD_ANSWERS, ids=_name)
async def test_a_lone_create_is_not_sent_again_even_with_resubmit(
    fault: Fault,
) -> None:
    async with emulated() as (emulator, client):
        await client.generations.create("earlier")
        emulator.add_fault(fault)
        with pytest.raises(SubmissionUnknownError, match="not sent again"):
            await client.generations.create("x", on_unknown="resubmit")
        assert posts(emulator) == 2
        assert anyio.current_time() >= 30


@pytest.mark.parametrize("seed", [None, 42])
async def test_a_lost_resubmission_is_looked_up_from_the_first_attempt(
    seed: int | None,
) -> None:
    """The first is listed once the second is sent; then both are named."""
    async with emulated(Emulator(latency=(0.2, 0.2))) as (emulator, client):
        emulator.add_fault(post("lost_after_commit"))
        emulator.add_fault(post("late_commit", seconds=5, skip=1))
        errors: list[SubmissionUnknownError] = []

        async def create() -> None:
            with pytest.raises(SubmissionUnknownError) as caught:
                await client.generations.create("x", seed=seed, on_unknown="resubmit")
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            group.start_soon(create)
            await anyio.sleep(0.3)  # committed by now, and not yet looked up
            (job,) = emulator.tracks.values()
            job.listed_from = job.created_at + 34
            await anyio.sleep(1)
            later = await client.generations.create("later")
        assert len(emulator.tracks) == 3
        assert {*errors[0].candidates, later.id} == set(emulator.tracks)


async def test_a_failure_reported_by_the_service_is_looked_up_once() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(post("status", status=500, code="GENERATION_FAILED"))
        with pytest.raises(InternalServerError) as caught:
            await client.generations.create("x")
        assert not caught.value.safe_to_retry
        assert emulator.count(method="GET") == 1
        assert anyio.current_time() < 1


async def test_a_failure_of_a_lone_create_is_not_sent_again() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(post("status", status=500, code="GENERATION_FAILED"))
        with pytest.raises(InternalServerError):
            await client.generations.create("x", on_unknown="resubmit")
        assert posts(emulator) == 1


async def test_a_failure_is_sent_again_with_the_same_proof() -> None:
    async with emulated(Emulator(latency=(0.5, 0.5))) as (emulator, client):
        emulator.add_fault(post("status", status=500, code="GENERATION_FAILED"))
        async with anyio.create_task_group() as group:
            group.start_soon(
                partial(client.generations.create, "x", on_unknown="resubmit")
            )
            await anyio.sleep(0.2)
            await client.generations.create("later")
        assert [t.prompt for t in emulator.tracks.values()] == ["later", "x"]
        assert anyio.current_time() >= 30


async def test_a_timeout_on_the_wire_gives_the_response_five_seconds() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(post("slow_answer", seconds=4))
        track = await client.generations.create("x", timeout=1)
        assert list(emulator.tracks) == [track.id]


async def test_a_timeout_on_the_wire_without_a_response_is_unknown() -> None:
    async with emulated() as (emulator, client):
        await client.me()
        emulator.add_fault(post("slow_answer", seconds=20))
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("x", timeout=1, seed=5)
        assert caught.value.seed == 5
        assert caught.value.sent_at is not None
        assert anyio.current_time() == pytest.approx(6, abs=0.1)


async def test_a_timeout_during_recovery_is_unknown() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(post("lost_before_commit"))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("x", timeout=10)
        assert anyio.current_time() == pytest.approx(10, abs=0.1)


async def test_a_closed_client_reports_the_create_it_abandons() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(post("lost_before_commit"))
        async with anyio.create_task_group() as group:

            async def create() -> None:
                with pytest.raises(SubmissionUnknownError):
                    await client.generations.create("x")

            group.start_soon(create)
            await anyio.sleep(3)
            await client.aclose()


# No permit is taken for what cannot be sent.


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1: object()}])
async def test_a_body_that_json_cannot_encode_is_refused_before_a_permit(
    value: Any,
) -> None:
    async with emulated() as (emulator, client):
        with pytest.raises(InvalidRequestError, match="bpm"):
            await client.generations.create("x", bpm=value, validate=False)
        assert not emulator.requests
        assert client.rate_limit_status().creates.available == 10


@attrs.frozen
class WithMood(GenerationRequest):
    """A request of the caller's own."""

    mood: Any = None

    def to_body(self, *, seed: int | None = None) -> dict[str, Any]:
        return {**super().to_body(seed=seed), "mood": self.mood}


async def test_a_value_of_the_callers_own_that_json_cannot_encode_is_named() -> None:
    async with emulated() as (emulator, client):
        requests = [WithMood("x", mood={1}), WithMood("x", mood="blue")]
        async with client.generate_many(requests) as outcomes:
            errors = {str(each.request.mood): each.error async for each in outcomes}
        assert errors["blue"] is None
        assert isinstance(errors["{1}"], InvalidRequestError)
        assert errors["{1}"].field == "mood"
        assert posts(emulator) == 1


async def test_every_attempt_carries_the_same_body() -> None:
    bodies: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        if len(bodies) < 3:
            raise httpx.ConnectError("not yet")
        return httpx.Response(202, json={"data": {"id": "gen_1"}})

    async with _client_of(handler) as client:
        await client.generations.create("x")
    assert bodies[0] == bodies[1] == bodies[2]
    assert 1 <= bodies[0]["seed"] <= 2**31 - 1


def _client_of(handler: Callable[[httpx.Request], httpx.Response]) -> AsyncClient:
    return AsyncClient(
        "ft_live_" + "d" * 32,
        http_client=httpx.AsyncClient(transport=httpx.MockTransport(handler)),
    )
