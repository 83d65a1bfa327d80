"""The journal's key of an end user's track: no two owners ever share one."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from finetuning_async.fastapi._owned_keys import (
    LONGEST,
    check_key,
    journal_key,
    own_key,
    prefix_of,
)

OWNERS = st.text(min_size=1, max_size=200) | st.text("a:%*~/", min_size=1, max_size=4)
KEYS = st.text("ak:*~-_.", min_size=1, max_size=255).filter(
    lambda key: key not in (".", "..")
)


@settings(max_examples=100, deadline=None)
@given(OWNERS, KEYS, OWNERS, KEYS)
def test_two_tracks_have_two_keys(one: str, its: str, other: str, their: str) -> None:
    first, second = journal_key(one, check_key(its)), journal_key(other, their)
    assert (first == second) == ((one, its) == (other, their))
    assert max(len(first), len(second)) <= LONGEST
    assert second.startswith(prefix_of(one)) == (one == other)


@settings(max_examples=100, deadline=None)
@given(OWNERS, st.text("ak:*~-_", min_size=1, max_size=255))
def test_what_is_shown_as_the_key_finds_the_track(owner: str, key: str) -> None:
    known = journal_key(owner, key)
    assert journal_key(owner, check_key(own_key(owner, known))) == known


def test_a_plain_owner_and_key_are_read_as_they_are() -> None:
    assert journal_key("user-42", "order-7") == "user-42:order-7"
    assert journal_key("ann@me.example", "7") == "ann@me.example:7"
