"""Single values: which numbers are whole, and which dates a header names."""

from __future__ import annotations

import datetime as dt
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finetuning_async._api._coercion import http_date, number, whole

NOVEMBER = dt.datetime(1994, 11, 6, 8, 49, 37, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (2**63 - 1, 2**63 - 1),
        (1 - 2**63, 1 - 2**63),
        (2**63, None),
        (-(2**63), None),
        (41.0, 41),
        ("41", 41),
        ("41.0", 41),
        ("4.1e1", 41),
        (41.5, None),
        ("41.5", None),
        (True, None),
        (float("nan"), None),
        ("1" * 18, int("1" * 18)),
        ("1" * 19, None),
    ],
    ids=repr,
)
def test_a_whole_number_is_one_below_two_to_the_63rd(value: Any, read: Any) -> None:
    assert whole(value) == read


@pytest.mark.parametrize(
    ("value", "read"), [("7", int), ("7.0", float), ("7e0", float)]
)
def test_a_number_without_point_and_exponent_stays_whole(
    value: str, read: type
) -> None:
    assert number(value) == 7
    assert type(number(value)) is read


@given(st.integers(min_value=-25 * 10**9, max_value=25 * 10**10))
def test_any_second_is_read_from_a_header_as_it_is_written(seconds: int) -> None:
    moment = NOVEMBER + dt.timedelta(seconds=seconds)
    assert http_date(format_datetime(moment, usegmt=True)) == moment


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("Sun, 06 Nov 1994 03:49:37 EST", NOVEMBER),
        ("Sun, 06 Nov 1994  08:49:37 GMT", NOVEMBER),
        ("06 Nov 1994 09:49:37 +0100", NOVEMBER),
        ("Sun, 06 ovD 1994 08:49:37 GMT", None),
        ("Sun, 06 Nox 1994 08:49:37 GMT", None),
        ("Sun, 31 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT" + " " * 36, None),
        (None, None),
    ],
)
def test_a_date_in_another_form_is_read_or_is_none(
    value: str | None, read: dt.datetime | None
) -> None:
    assert http_date(value) == read
