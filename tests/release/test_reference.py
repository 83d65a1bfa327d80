"""No name and no link in the reference leads nowhere; `.ci/release` builds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import finetuning_async
from finetuning_async import AsyncClient
from tests.release._guide_pages import summary
from tests.release._guides import GUIDES
from tests.release._tasks import METHODS, TASKS
from tests.release.reference import broken_links, wrong_names

if TYPE_CHECKING:
    from pathlib import Path


def test_every_name_in_backticks_is_one() -> None:
    assert wrong_names() == []


def test_a_name_that_is_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncClient, "__doc__", "See `no_such_name` and `AsyncClient`.")
    assert wrong_names() == ["finetuning_async.AsyncClient: `no_such_name`"]


@pytest.mark.parametrize("link", ["#nothing", "other.html", "page.html#nothing"])
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, link: str) -> None:
    page = f'<h1 id="top">x</h1><a href="#top">x</a><a href="{link}">x</a>'
    (tmp_path / "page.html").write_text(page)
    assert broken_links(tmp_path) == [f"page.html: {link}"]


def test_every_public_name_belongs_to_one_task() -> None:
    listed = [name for names in TASKS.values() for name in names]
    assert sorted(listed) == sorted(finetuning_async.__all__)


def test_the_methods_that_come_first_are_there() -> None:
    made_by_init = {"generations", "instrumentals", "sound_effects", "playlists"}
    assert set(METHODS) <= {*dir(AsyncClient), *made_by_init}


def test_the_text_for_language_models_lists_each_guide() -> None:
    assert all(f"guides/{guide.stem}.html" in summary() for guide in GUIDES)
