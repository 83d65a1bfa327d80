"""Which tests the suite runs, whatever the sample."""

from __future__ import annotations

from typing import Any

import pytest

from tests._sample import OF_THE_LOOP, of_long_runs_only, runs_on_asyncio_only


@pytest.mark.parametrize(
    "line",
    [
        "with anyio.CancelScope() as scope:",
        "with pytest.raises(TimeoutError), anyio.fail_after(3):",
        "await anyio.to_thread.run_sync(work)",
        "async with KeyedLock() as lock:",
        "await client.aclose()",
        "            break",
    ],
)
def test_what_is_about_the_event_loop_runs_on_both(line: str) -> None:
    assert OF_THE_LOOP.search(line)


def test_no_run_on_asyncio_and_no_other_test_is_left_out(
    request: pytest.FixtureRequest,
) -> None:
    assert not runs_on_asyncio_only(request.node)
    assert not of_long_runs_only([request.node])


def chosen(request: pytest.FixtureRequest, count: int) -> list[dict[str, Any]]:
    """The parameters of those of the running test's `count` cases that run."""
    name = request.node.originalname
    cases = [i for i in request.session.items if getattr(i, "originalname", "") == name]
    if request.config.getoption("--long"):
        assert len(cases) == count
        cases = [case for case in cases if case not in of_long_runs_only(cases)]
    return [case.callspec.params for case in cases]  # type: ignore[attr-defined]  # of functions


@pytest.mark.sampled(3)
@pytest.mark.parametrize("second", "abcd")
@pytest.mark.parametrize("first", [1, 2, 3])
def test_of_twelve_cases_a_third_runs_with_every_value(
    first: int, second: str, request: pytest.FixtureRequest
) -> None:
    values = chosen(request, 12)
    assert len(values) == 4
    assert {each["first"] for each in values} == {1, 2, 3}
    assert len({each["second"] for each in values}) == 3


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", "abcdefgh")
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_each_of_eight_cases_runs_on_one_of_two_event_loops(
    loop: str, case: str, request: pytest.FixtureRequest
) -> None:
    values = chosen(request, 16)
    assert sorted(each["case"] for each in values) == list("abcdefgh")
    assert {each["loop"] for each in values} == {"asyncio", "trio"}
