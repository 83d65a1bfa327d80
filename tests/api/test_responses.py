"""Errors, limits, times and ids of responses; quotes hold no secrets."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finetuning_async import _errors
from finetuning_async._api import _responses
from finetuning_async._api._messages import Response, ResponseFacts
from finetuning_async._api._responses import (
    accepted_id,
    mismatch_error,
    response_facts,
    retry_after,
    server_date,
    status_error,
)
from finetuning_async._errors import APIResponseError, APIStatusError

EXAMPLES = Path(__file__).parents[1] / "api_examples"
CANARY = "c4nary0123456789abcdef0123456789"
SECRETS = [
    f"key ft_live_{CANARY} is wrong",
    f"webhook https://me.example/h?token={CANARY} is wrong",
    f"webhook https://u:{CANARY}@me.example/ is wrong",
]
DATE = "Mon, 02 Mar 2026 18:05:00 GMT"


def response_of(content: Any, status: int = 200, **headers: str) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(
        status=status, headers=names, content=body, sent_at=0.0, received_at=0.1
    )


def error_response(status: int, **error: Any) -> Response:
    return response_of({"error": error}, status)


EXPECTED = [
    ("missing_api_key", 401, "AuthenticationError", False),
    ("invalid_api_key", 401, "AuthenticationError", False),
    ("monthly_limit_reached", 402, "InsufficientCreditsError", False),
    ("pro_plan_required", 403, "PermissionDeniedError", False),
    ("not_found", 404, "NotFoundError", False),
    ("validation", 400, "BadRequestError", False),
    ("validation_details_object", 400, "BadRequestError", False),
    ("validation_details_field", 400, "BadRequestError", False),
    ("add_failed", 400, "BadRequestError", False),
    ("move_failed", 400, "BadRequestError", False),
    ("rate_limited", 429, "RateLimitError", True),
    ("generation_rate_limited", 429, "RateLimitError", True),
    ("queue_full", 429, "QueueFullError", True),
    ("generation_failed", 500, "InternalServerError", False),
    ("internal", 500, "InternalServerError", False),
]


@pytest.mark.parametrize(("name", "status", "cls", "safe"), EXPECTED)
def test_every_error_is_parsed_completely(
    name: str, status: int, cls: str, safe: bool
) -> None:
    content = (EXAMPLES / f"error_{name}.json").read_bytes()
    body = json.loads(content)["error"]
    error = status_error(
        response_of(content, status, x_request_id="r"), idempotent=False
    )
    assert type(error) is getattr(_errors, cls)
    assert (error.status_code, error.request_id) == (status, "r")
    assert (error.code, error.message) == (body["code"], body["message"])
    assert error.details == body.get("details")
    assert error.retry_after == body.get("retryAfter")
    assert error.safe_to_retry is safe
    assert body["message"] in str(error)
    assert body["code"] in str(error)


def test_every_example_of_an_error_is_in_the_table() -> None:
    names = {f"error_{name}" for name, *_ in EXPECTED}
    assert names == {path.stem for path in EXAMPLES.glob("error_*.json")}


@pytest.mark.parametrize(
    ("status", "code", "once", "often"),
    [
        (429, "RATE_LIMITED", True, True),
        (429, "GENERATION_RATE_LIMITED", True, True),
        (429, "QUEUE_FULL", True, True),
        (429, "DAILY_LIMIT_REACHED", False, False),
        (429, None, False, True),
        (500, "INTERNAL_ERROR", False, True),
        (502, None, False, True),
        (503, None, False, True),
        (400, "VALIDATION_ERROR", False, False),
        (400, "RATE_LIMITED", False, False),
        (404, "NOT_FOUND", False, False),
        (302, None, False, False),
    ],
)
def test_safe_to_retry_depends_on_status_code_and_idempotence(
    status: int, code: str | None, once: bool, often: bool
) -> None:
    response = error_response(status, code=code) if code else response_of(b"", status)
    assert status_error(response, idempotent=False).safe_to_retry is once
    assert status_error(response, idempotent=True).safe_to_retry is often


@pytest.mark.parametrize(
    "code", ["RATE_LIMITED", "GENERATION_RATE_LIMITED", "A_NEWER_CODE"]
)
def test_q18_q19_every_429_is_one_class_and_codes_are_an_open_set(code: str) -> None:
    error = status_error(error_response(429, code=code, message="no"), idempotent=False)
    assert type(error) is _errors.RateLimitError
    assert error.code == code


def test_q20_a_full_queue_has_its_own_class_and_may_lack_retry_after() -> None:
    error = status_error(error_response(429, code="QUEUE_FULL"), idempotent=False)
    assert type(error) is _errors.QueueFullError
    assert error.retry_after is None


@pytest.mark.parametrize(
    "details", [{"max": 100}, [{"trackId": "a", "error": "b"}], None]
)
def test_q14_details_are_an_object_or_an_array(details: Any) -> None:
    response = error_response(
        400, code="VALIDATION_ERROR", message="no", details=details
    )
    assert status_error(response, idempotent=False).details == details


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html><h1>502 Bad Gateway</h1></html>", "<html><h1>502 Bad Gateway"),
        (b"  ", "gave no reason"),
        (b"", "gave no reason"),
        (b"\xff\x00oops", "oops"),
        (b'{"message":"flat"}', "flat"),
        (b'{"error":"text"}', "text"),
        (b'{"error":{"message":"no code"}}', "no code"),
        (b"[1]", "[1]"),
        (b"[" * 50_000, "[[["),
    ],
    ids=range(9),
)
def test_a_body_that_is_not_an_error_object_is_quoted_with_a_code_of_its_status(
    body: bytes, said: str
) -> None:
    error = status_error(response_of(body, 502), idempotent=True)
    assert error.code == "HTTP_502"
    assert said in error.message
    assert len(error.message) <= 500
    assert error.message.isprintable()
    assert response_facts(response_of(body, 502)).code is None


@pytest.mark.parametrize("secret", SECRETS)
def test_an_error_masks_a_secret_that_the_response_echoed(secret: str) -> None:
    bodies = [
        {"error": {"code": "X", "message": secret, "details": {"field": secret}}},
        {"error": {"code": secret, "message": 1, "details": [{"error": secret}]}},
        {"oops": secret},
        secret.encode(),
    ]
    for body in bodies:
        error = status_error(response_of(body, 400), idempotent=False)
        shown = repr(error) + str(error) + repr(vars(error))
        assert CANARY not in shown
        assert CANARY.encode() not in pickle.dumps(error)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("cut", [0, 40, 7])
def test_an_excerpt_shows_no_secret_wherever_it_is_cut(secret: str, cut: int) -> None:
    for body in (secret.encode(), json.dumps({"webhook": secret}).encode()):
        response = response_of(body[: len(body) - cut])
        error = _responses.parse_error(response, "an id", "$.data.id")
        assert CANARY[:12] not in str(error) + repr(vars(error))


@pytest.mark.parametrize(
    ("value", "got"),
    [(None, "nothing"), ({}, "an object"), ("x", "a string"), (True, "a boolean")],
)
def test_a_parse_error_names_what_was_expected_and_what_came(
    value: Any, got: str
) -> None:
    response = response_of({"data": {"generations": value}})
    error = _responses.parse_error(response, "a list", "$.data.generations", got=value)
    assert str(error).startswith(
        "cannot parse the response (HTTP 200): expected a list at $.data.generations,"
        f" got {got}; the body begins with "
    )


def test_an_excerpt_is_short_and_printable() -> None:
    response = response_of(b"<!doctype html>\r\n\x1b[31m" + b"x " * 5000)
    with pytest.raises(APIResponseError) as caught:
        _responses.parsed_body(response)
    assert len(str(caught.value)) < 180
    assert str(caught.value).isprintable()
    assert "<!doctype html>" in str(caught.value)


def test_an_excerpt_is_whole_if_it_may_be_as_long_and_says_where_it_is_cut() -> None:
    most = _responses._MAX_EXCERPT
    assert _responses._excerpt(b"x" * most) == "x" * most
    assert _responses._excerpt(b"x" * (most + 1)) == "x" * (most - 3) + "..."


@pytest.mark.parametrize(
    ("body", "headers", "delay"),
    [
        ({"retryAfter": 17}, {"retry_after": "60"}, 17.0),
        ({"retryAfter": "17"}, {}, 17.0),
        ({"retryAfter": 0.5}, {}, 0.5),
        ({"retryAfter": 0}, {"retry_after": "60"}, 60.0),
        ({"retryAfter": -3}, {"retry_after": "60"}, 60.0),
        ({"retryAfter": None}, {"retry_after": "2.5"}, 2.5),
        ({"retryAfter": 10**400}, {}, inf),
        ({"retryAfter": -(10**400)}, {"retry_after": "60"}, 60.0),
        ({}, {"retry_after": "0"}, 0.0),
        ({}, {"retry_after": "86400"}, 86400.0),
        ({}, {"retry_after": "-1"}, None),
        ({}, {"retry_after": "nan"}, None),
        ({}, {"retry_after": "inf"}, None),
        ({}, {"retry_after": "soon"}, None),
        ({}, {"retry_after": "9" * 5000}, inf),
        ({}, {"retry_after": "1_000"}, None),
        ({}, {"retry_after": "Mon, 02 Mar 2026 18:05:30 GMT", "date": DATE}, 30.0),
        ({}, {"retry_after": "Mon, 02 Mar 2026 18:04:30 GMT", "date": DATE}, 0.0),
        ({}, {"retry_after": "Mon, 02 Mar 2026 18:05:30 GMT"}, None),
        ({}, {"retry_after": "Monday, 02-Mar-26 18:05:30 GMT", "date": DATE}, 30.0),
        ({}, {}, None),
    ],
    ids=range(21),
)
def test_q15_the_delay_is_read_from_the_body_then_from_the_header(
    body: dict[str, Any], headers: dict[str, str], delay: float | None
) -> None:
    response = response_of({"error": {"code": "RATE_LIMITED", **body}}, 429, **headers)
    assert retry_after(response) == delay
    believed = None if delay is None else min(delay, 3600.0)
    assert response_facts(response).retry_after == believed
    assert status_error(response, idempotent=False).retry_after == believed


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (199, ""),
        (200, "success"),
        (299, "success"),
        (300, "redirect"),
        (399, "redirect"),
        (400, ""),
    ],
)
def test_a_2xx_is_a_success_and_a_3xx_a_redirect(status: int, kind: str) -> None:
    response = response_of(b"", status)
    assert response.is_success == (kind == "success")
    assert response.is_redirect == (kind == "redirect")


def test_the_facts_of_a_response() -> None:
    response = response_of(b"", 200, x_ratelimit_limit="60", x_ratelimit_remaining="0")
    assert response_facts(response) == ResponseFacts(status=200, limit=60, remaining=0)
    response = response_of({"error": {"code": "QUEUE_FULL"}}, 429, retry_after="5")
    facts = ResponseFacts(status=429, code="QUEUE_FULL", retry_after=5.0)
    assert response_facts(response) == facts
    refused = error_response(400, code="VALIDATION")
    assert response_facts(refused) == ResponseFacts(status=400, code="VALIDATION")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-1",
        "+5",
        "1.5",
        "ten",
        "10, 10",
        " 5",
        "٣",
        "²",
        "1" * 10,
        "9" * 5000,
        "1e3",
    ],
)
def test_a_header_that_is_no_whole_number_of_nine_digits_is_ignored(value: str) -> None:
    response = response_of(
        b"", 200, x_ratelimit_limit=value, x_ratelimit_remaining=value
    )
    assert response_facts(response) == ResponseFacts(status=200)


def test_a_limit_of_zero_and_more_remaining_than_the_limit_are_ignored() -> None:
    response = response_of(b"", 200, x_ratelimit_limit="0", x_ratelimit_remaining="7")
    assert response_facts(response) == ResponseFacts(status=200, remaining=7)
    response = response_of(b"", 200, x_ratelimit_limit="0", x_ratelimit_remaining="0")
    assert response_facts(response) == ResponseFacts(status=200)
    response = response_of(b"", 200, x_ratelimit_remaining="0")
    assert response_facts(response) == ResponseFacts(status=200, remaining=0)
    response = response_of(b"", 200, x_ratelimit_limit="1", x_ratelimit_remaining="0")
    assert response_facts(response) == ResponseFacts(status=200, limit=1, remaining=0)
    response = response_of(b"", 200, x_ratelimit_limit="10", x_ratelimit_remaining="11")
    assert response_facts(response) == ResponseFacts(status=200, limit=10)
    response = response_of(b"", 200, x_ratelimit_limit="10", x_ratelimit_remaining="10")
    assert response_facts(response).remaining == 10


@pytest.mark.parametrize(
    "text",
    [DATE, "Monday, 02-Mar-26 18:05:00 GMT", "Mon Mar  2 18:05:00 2026"],
    ids=["fixed", "rfc850", "asctime"],
)
def test_a_date_is_parsed_in_all_three_formats_of_http(text: str) -> None:
    expected = dt.datetime(2026, 3, 2, 18, 5, tzinfo=dt.UTC)
    assert server_date(response_of(b"", 200, date=text)) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "Mon, 99 Mar 2026 18:05:00 GMT", "x" * 999]
)
def test_a_malformed_date_is_none(text: str) -> None:
    assert server_date(response_of(b"", 200, date=text)) is None
    assert server_date(response_of(b"")) is None


@pytest.mark.parametrize(
    ("body", "status", "ident"),
    [
        (b'{"data":{"id":"gen_1","status":"processing"}}', 202, "gen_1"),
        (b'{"id":"gen_1"}', 201, "gen_1"),
        (b'{"data":{"id":17}}', 200, "17"),
        (b'{"data":null,"id":"gen_1"}', 200, "gen_1"),
        (b'{"data":{"id":"gen_1","status":"proc', 202, "gen_1"),
        (b'{"data":{"id":"gen_1', 202, None),
        (b'{"data":{"user":{"id":"u_1"},"id":"gen', 202, None),
        (b'{"data":{"id":""}}', 202, None),
        (b'{"data":[{"id":"gen_1"}]}', 202, None),
        (b"<html>", 200, None),
        (b"[]", 200, None),
        (b"", 202, None),
        (b'{"data":{"id":"gen_1"}}', 500, None),
        (b'{"data":{"id":"gen_1"}}', 302, None),
    ],
    ids=range(14),
)
def test_an_accepted_id_is_found_in_malformed_responses(
    body: bytes, status: int, ident: str | None
) -> None:
    assert accepted_id(response_of(body, status)) == ident


@given(
    content=st.binary(max_size=80) | st.from_regex(r'\{"error":\{"[a-z]+":.{0,20}\}\}'),
    status=st.integers(100, 599),
    header=st.text(max_size=30),
)
def test_any_response_can_be_classified(content: Any, status: int, header: str) -> None:
    body = content if isinstance(content, bytes) else content.encode()
    names = ("retry_after", "date", "x_ratelimit_limit", "x_ratelimit_remaining")
    response = response_of(body, status, **dict.fromkeys(names, header))
    error = status_error(response, idempotent=True)
    assert isinstance(error, APIStatusError)
    assert pickle.loads(pickle.dumps(error)) == error  # noqa: S301 - our own bytes
    delay = response_facts(response).retry_after
    assert delay is None or 0 <= delay < 1e19
    accepted_id(response)


@pytest.mark.parametrize(
    ("shown", "is_foreign"), [("b", True), ("a", False), ("new", False), (None, False)]
)
def test_only_the_id_of_an_earlier_request_shows_that_a_response_is_anothers(
    shown: str | None, is_foreign: bool
) -> None:
    """Any other may be the same id, spelled in another way."""
    error = mismatch_error(response_of({"data": {"id": shown}}), "a", {"b"})
    assert (error is not None) == is_foreign
