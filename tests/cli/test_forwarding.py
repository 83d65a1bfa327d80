"""Which tracks ``listen`` forwards, told from one look at the list after another."""

from __future__ import annotations

import datetime as dt

from finetuning_async import Generation
from finetuning_async.cli._forwarding import PAGE, EndFinder, target

START = dt.datetime(2026, 3, 2, 18, tzinfo=dt.UTC)


def track(name: str, status: str = "completed", *, at: int = 0) -> Generation:
    created = START + dt.timedelta(seconds=at)
    return Generation(id=name, status=status, created_at=created)


def look(finder: EndFinder, *rows: Generation) -> list[str]:
    finder.begin()
    found = []
    for row in rows:
        if finder.saw(row):
            found.append(row.id)
        if finder.is_done():
            break
    finder.end()
    return found


def test_what_had_ended_before_is_not_forwarded() -> None:
    finder = EndFinder()
    assert look(finder, track("new"), track("old")) == []
    assert look(finder, track("new"), track("old")) == []


def test_a_track_in_progress_is_forwarded_once_when_it_ends() -> None:
    finder = EndFinder()
    assert look(finder, track("a", "processing"), track("b", "pending")) == []
    assert look(finder, track("a", "failed"), track("b", "processing")) == ["a"]
    assert look(finder, track("a", "failed"), track("b")) == ["b"]
    assert look(finder, track("a", "failed"), track("b")) == []


def test_a_track_that_came_and_ended_between_two_looks_is_forwarded() -> None:
    finder = EndFinder()
    look(finder, track("old", at=5))
    assert look(finder, track("new", at=9), track("old", at=5)) == ["new"]


def test_an_old_track_that_moves_up_is_not_forwarded() -> None:
    finder = EndFinder()
    first = [track(f"t{n}", at=1000 - n) for n in range(PAGE)]
    look(finder, *first)
    older = track("older", at=1)
    assert look(finder, *first[1:], older) == []


def test_the_first_track_of_an_empty_account_is_forwarded() -> None:
    finder = EndFinder()
    assert look(finder) == []
    assert look(finder, track("a")) == ["a"]


def test_a_track_beyond_the_first_page_is_looked_for() -> None:
    finder = EndFinder()
    look(finder, track("slow", "processing"))
    newer = [track(f"t{n}", "processing", at=10 + n) for n in range(PAGE)]
    assert look(finder, *newer, track("slow")) == ["slow"]


def test_one_page_is_enough_where_nothing_is_missing() -> None:
    finder = EndFinder()
    rows = [track(f"t{n}", at=-n) for n in range(PAGE)]
    finder.begin()
    done = []
    for row in rows:
        finder.saw(row)
        done.append(finder.is_done())
    assert done == [False] * (PAGE - 1) + [True]


def test_a_deleted_track_is_looked_for_once() -> None:
    finder = EndFinder()
    look(finder, track("gone", "processing"))
    look(finder, track("other", at=1))
    rows = [track(f"t{n}", at=-n) for n in range(PAGE)]
    finder.begin()
    for row in rows:
        finder.saw(row)
    assert finder.is_done()


def test_an_end_that_a_broken_look_saw_is_told_by_it_alone() -> None:
    finder = EndFinder()
    look(finder, track("a", "processing"))
    finder.begin()
    assert finder.saw(track("a"))  # then the next page fails
    assert look(finder, track("a")) == []


def test_the_url_keeps_its_own_query() -> None:
    webhook = "https://me.example/hook?token=a"
    assert target("http://here/x?token=b", webhook) == "http://here/x?token=b"
    assert target("http://here/x", webhook) == "http://here/x?token=a"
    assert target("http://here/x", None) == "http://here/x"
