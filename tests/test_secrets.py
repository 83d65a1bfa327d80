"""Secrets are masked: keys, and the queries and logins of URLs."""

from __future__ import annotations

import pickle
import traceback

import pytest

from finetuning_async._secrets import (
    ApiKey,
    key_problem,
    looks_documented,
    mask_query,
    masked_repr,
    scrub,
    scrub_json,
)

CANARY = "c4nary0123456789abcdef0123456789"
KEY = "ft_live_" + CANARY


def test_a_key_is_in_no_output() -> None:
    key = ApiKey(KEY)
    for shown in (repr(key), str(key), f"{key}", f"{key!r}", repr([key]), repr({key})):
        assert CANARY not in shown
    assert repr(key) == "ft_live_****"
    assert key.reveal() == KEY


def test_a_key_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(ApiKey(KEY))


def test_a_traceback_with_locals_does_not_show_a_key() -> None:
    key = ApiKey(KEY)

    def fail() -> None:
        held = [key]
        raise ValueError(held)

    with pytest.raises(ValueError, match="ft_live") as caught:
        fail()
    shown = traceback.TracebackException.from_exception(
        caught.value, capture_locals=True
    )
    assert CANARY not in "".join(shown.format())


def test_keys_are_equal_if_their_text_is() -> None:
    assert ApiKey(KEY) == ApiKey(KEY)
    assert hash(ApiKey(KEY)) == hash(ApiKey(KEY))
    assert ApiKey(KEY) != ApiKey(KEY[:-1])
    assert ApiKey(KEY) != KEY


@pytest.mark.parametrize("text", [None, "", "a b", "a\n", "kéy", "a\x7f", " "])
def test_a_key_that_no_header_can_hold_is_rejected_without_showing_it(
    text: str | None,
) -> None:
    problem = key_problem(text)
    assert problem is not None
    assert "kéy" not in problem


@pytest.mark.parametrize("text", [KEY, "ft_live_short", "another-form"])
def test_q25_the_form_of_a_key_is_not_checked_here(text: str) -> None:
    assert key_problem(text) is None
    assert looks_documented(text) is (text == KEY)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (None, None),
        ("https://me.example/hook", "https://me.example/hook"),
        ("https://me.example/hook?token=x", "https://me.example/hook?****"),
        ("https://me.example/hook#x", "https://me.example/hook?****"),
        ("https://u:pw@me.example/hook", "https://me.example/hook?****"),
        ("https://me.example:8443/?a", "https://me.example:8443/?****"),
        ("hook?token=x", "hook?****"),
        ("https://[broken?token=x", "****"),
    ],
)
def test_the_query_and_login_of_a_url_are_masked(
    url: str | None, shown: str | None
) -> None:
    assert mask_query(url) == shown
    assert masked_repr(url) == repr(shown)


@pytest.mark.parametrize(
    "text",
    [
        f"bad key {KEY}!",
        f"call https://me.example/hook?token={CANARY} failed",
        f'{{"webhook":"https:\\/\\/me.example\\/h?t={CANARY}"}}',
        f'{{"webhook":"https://me.example/h\\u003ft={CANARY}"}}',
        f'{{"webhook":"HTTPS://me.example/h\\u003Ft={CANARY}',
        f"https://me:{CANARY}@me.example/",
        f"see http://me.example#{CANARY}, or not",
    ],
)
def test_secrets_in_quoted_text_are_masked(text: str) -> None:
    assert CANARY not in scrub(text)
    assert "****" in scrub(text)
    assert CANARY not in repr(scrub_json({"a": [text, {"b": text}], text: 1}))


@pytest.mark.parametrize(
    "text", ["", "Is it free? Yes.", "https://me.example/hook", "a?b"]
)
def test_quoted_text_without_secrets_is_unchanged(text: str) -> None:
    assert scrub(text) == text


def test_a_deep_value_does_not_exhaust_the_stack() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert "****" in repr(scrub_json(deep))
