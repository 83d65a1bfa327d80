"""Tokens: which are valid, and where they are masked."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finetuning_async import APIResponseError, AsyncClient, InvalidRequestError
from finetuning_async.webhooks import (
    TokenFilter,
    WebhookReceiver,
    WebhookVerificationError,
    hide_tokens,
)
from finetuning_async.webhooks._tokens import Tokens, new_hmacs
from tests.webhooks._webhook_calls import BASE, NEW_SECRET, SECRET, UNUSED_KEY, query_of


def receiver(*secrets: str) -> WebhookReceiver:
    return WebhookReceiver(AsyncClient(UNUSED_KEY), secrets=secrets or [SECRET])


def refused(query: bytes) -> bool:
    try:
        receiver().verify(query)
    except WebhookVerificationError:
        return True
    return False


def test_each_url_has_its_own_token_that_any_worker_accepts() -> None:
    urls = {receiver().url(BASE) for _ in range(100)}
    assert len(urls) == 100
    for url in urls:
        receiver().verify(query_of(url))


def test_secrets_can_be_rotated_without_a_gap() -> None:
    old, both, new = (
        receiver(SECRET),
        receiver(NEW_SECRET, SECRET),
        receiver(NEW_SECRET),
    )
    both.verify(query_of(old.url(BASE)))
    new.verify(query_of(both.url(BASE)))
    with pytest.raises(WebhookVerificationError):
        new.verify(query_of(old.url(BASE)))


def test_a_url_keeps_its_query() -> None:
    url = receiver().url(BASE + "?shop=7")
    assert url.startswith(BASE + "?shop=7&token=")
    receiver().verify(query_of(url))


@pytest.mark.parametrize(
    "url",
    [BASE + "?token=1", BASE + "?%74oken", BASE + "#part", BASE + "/" + "x" * 2000],
)
def test_a_url_that_cannot_take_a_token_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="url"):
        receiver().url(url)


@pytest.mark.parametrize("secrets", [[], ["short"], SECRET, [SECRET, b"x" * 31]])
def test_weak_secrets_are_refused_and_not_shown(
    secrets: object,
) -> None:
    with pytest.raises(InvalidRequestError, match="at least 32") as caught:
        WebhookReceiver(AsyncClient(UNUSED_KEY), secrets=secrets)  # type: ignore[arg-type]  # wrong on purpose
    assert SECRET not in str(caught.value)
    trace = caught.tb.tb_next
    while trace is not None:
        assert SECRET not in repr(trace.tb_frame.f_locals)
        trace = trace.tb_next


def test_no_traceback_of_a_bad_body_shows_the_token() -> None:
    query = query_of(receiver().url(BASE))
    with pytest.raises(APIResponseError) as caught:
        receiver().receive(query, b"no json")
    trace = caught.tb.tb_next
    while trace is not None:
        assert query.decode()[6:] not in repr(trace.tb_frame.f_locals)
        trace = trace.tb_next


def test_two_tokens_or_none_are_refused() -> None:
    query = query_of(receiver().url(BASE))
    assert refused(b"")
    assert refused(b"token=")
    assert refused(query + b"&" + query)
    assert refused(query + b"&token=")
    assert refused(query + b"&%74oken=1")
    assert not refused(b"a=1&" + query + b"&b")


def test_a_percent_encoded_token_is_valid() -> None:
    token = query_of(receiver().url(BASE)).partition(b"=")[2]
    encoded = b"".join(b"%%%02x" % byte for byte in token)
    assert not refused(b"token=" + encoded)


@pytest.mark.parametrize(
    "wrong",
    [
        "ключ".encode(),
        "ключ".encode("utf-16"),
        b"%d0%ba",
        b"\xff\xfe.\x00",
        b"." * 66,
        b"x" * 5000,
        b"%",
    ],
)
def test_tokens_in_other_encodings_are_refused(wrong: bytes) -> None:
    assert refused(b"token=" + wrong)


@given(st.binary(max_size=80))
def test_random_bytes_are_not_a_valid_token(token: bytes) -> None:
    assert not Tokens(new_hmacs([SECRET])).is_valid(token)


@given(st.integers(0, 65), st.integers(1, 255))
def test_a_changed_character_makes_a_token_invalid(place: int, change: int) -> None:
    tokens = Tokens(new_hmacs([SECRET]))
    token = bytearray(tokens.new().encode())
    assert tokens.is_valid(bytes(token))
    assert not tokens.is_valid(bytes(token) + b"=")
    token[place] ^= change
    assert not tokens.is_valid(bytes(token))


def test_no_repr_shows_a_secret() -> None:
    made = receiver(NEW_SECRET, SECRET)
    assert repr(made) == "<WebhookReceiver <Tokens secrets=2> used=0>"
    seen = " ".join(repr(keyed) for keyed in made._tokens._hmacs)
    assert "secret of enough" not in seen


def test_the_access_log_hides_tokens_and_nothing_else() -> None:
    def logged(path: str) -> object:
        args = ("127.0.0.1:5", "POST", path, "1.1", 204)
        record = logging.LogRecord("uvicorn.access", 20, "", 0, "%s", args, None)
        assert TokenFilter().filter(record)
        assert isinstance(record.args, tuple)
        assert (len(record.args), record.args[4]) == (5, 204)
        return record.args[2]

    assert logged("/hooks?a=1&token=s3cr3t&b=2") == "/hooks?a=1&token=****&b=2"
    assert logged("/hooks?%74oken=s3cr3t") == "/hooks?%74oken=****"
    assert logged("/hooks?Token=s3cr3t") == "/hooks?Token=****"
    assert logged("/hooks") == "/hooks"
    assert logged("/hooks?a=1") == "/hooks?a=1"


class Atoms(dict[str, str]):
    """Like those of hypercorn and gunicorn: the value of an unknown name is a dash."""

    def __getitem__(self, name: str) -> str:
        return super().get(name.lower(), "-")


@pytest.mark.parametrize(
    ("form", "args"),
    [
        (
            "%(R)s %(q)s %({Nothing}i)s",
            (Atoms(r="POST /a?token=s HTTP/2", q="token=s"),),
        ),
        ("%s?%s from %s", ("/a", "token=s", "https://me.example/a?b=1&token=s&c")),
        ('"GET /a?b=?token=s HTTP/1.1" 204', ()),
        ('{"path": "/a?token=s"}', ()),
    ],
)
def test_log_records_of_any_form_hide_tokens(form: str, args: Any) -> None:
    record = logging.LogRecord("x", 20, "", 0, form, args, None)
    assert TokenFilter().filter(record)
    shown = record.getMessage()
    assert "token=****" in shown
    assert "token=s" not in shown


def test_creating_a_receiver_hides_tokens_in_the_logs_of_servers() -> None:
    names = ("uvicorn.access", "hypercorn.access", "some.new.server.access")
    logs = [logging.getLogger(name) for name in names]
    for log in logs:
        log.filters.clear()
    receiver()
    assert [[type(f) for f in log.filters] for log in logs] == [[TokenFilter]] * 3


def test_other_records_pass_the_filter_unchanged() -> None:
    record = logging.LogRecord("x", 20, "", 0, "nothing", None, None)
    assert TokenFilter().filter(record)
    assert record.getMessage() == "nothing"


def test_hiding_twice_adds_one_filter() -> None:
    hide_tokens("tests.access")
    hide_tokens("tests.access")
    assert len(logging.getLogger("tests.access").filters) == 1


def test_the_webhooks_wing_loads_no_framework() -> None:
    script = (
        "import sys; import finetuning_async.webhooks;"
        "print([n for n in ('starlette', 'fastapi', 'uvicorn') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
