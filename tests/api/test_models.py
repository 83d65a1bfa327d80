"""Models: frozen, hashable, pickled without the secret of a webhook."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
import typing
from typing import Any

import attrs
import pytest

from finetuning_async._api import _models
from finetuning_async._api._models import (
    BulkFailure,
    BulkResult,
    Generation,
    GenerationParameters,
    Page,
    Playlist,
    PlaylistTrack,
    SoundEffect,
)
from finetuning_async._api._outcome import Outcome
from finetuning_async._api._requests import GenerationRequest
from finetuning_async._errors import FinetuningError

CANARY = "s3cr3t-canary"
HOOK = f"https://me.example/hook?token={CANARY}"
TIME = dt.datetime(2026, 3, 2, 18, 5, tzinfo=dt.UTC)
MODELS = [
    Outcome,
    *(
        model
        for model in vars(_models).values()
        if attrs.has(model) and model.__module__ == _models.__name__
    ),
]


def track(**more: Any) -> Generation:
    members: dict[str, Any] = {
        "id": "gen_1",
        "status": "processing",
        "parameters": GenerationParameters(bpm=92, seed=7),
        "webhook": HOOK,
        "created_at": TIME,
        "changed_by_service": {"bpm": (90, 92)},
        "raw": {"id": "gen_1", "webhook": HOOK, "playCount": 3},
    }
    return Generation(**(members | more))


def effect(**more: Any) -> SoundEffect:
    members: dict[str, Any] = {
        "id": "sfx_1",
        "status": "completed",
        "webhook": HOOK,
        "raw": {"webhook": HOOK},
    }
    return SoundEffect(**(members | more))


@pytest.mark.parametrize("made", [track(), effect()])
def test_the_query_of_a_webhook_is_in_no_repr_and_no_pickle(made: Any) -> None:
    assert made.webhook == HOOK
    assert "https://me.example/hook?****" in repr(made)
    for shown in (repr(made), str(made), repr([made]), f"{made}"):
        assert CANARY not in shown
    assert CANARY.encode() not in pickle.dumps(made)
    assert CANARY not in repr(Page(items=(made,), has_more=False, next_offset=1))


@pytest.mark.parametrize("made", [track(), effect(), track(webhook=None, raw={})])
def test_a_track_unpickles_equal(made: Any) -> None:
    back = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own bytes
    assert back == made
    assert hash(back) == hash(made)
    assert back.changed_by_service == made.changed_by_service
    assert back.raw.keys() == made.raw.keys()


def test_a_pickle_keeps_a_webhook_without_a_query() -> None:
    made = track(webhook="https://me.example/hook", raw={"webhook": None})
    back = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own bytes
    assert (back.webhook, back.raw) == (made.webhook, made.raw)


def test_a_copy_keeps_the_query_of_the_webhook() -> None:
    assert copy.copy(track()).webhook == HOOK
    assert copy.deepcopy(effect()).webhook == HOOK
    assert attrs.evolve(track(), status="failed").webhook == HOOK


def test_equality_ignores_raw() -> None:
    assert track() == track(raw={})
    assert track() != track(status="completed")
    assert track() != track(webhook="https://other.example/hook")


@pytest.mark.parametrize(
    ("status", "final"),
    [
        ("pending", False),
        ("processing", False),
        ("completed", True),
        ("failed", True),
        ("cancelled", False),
        ("unknown", False),
    ],
)
def test_only_completed_and_failed_are_final(status: str, final: bool) -> None:
    assert track(status=status).is_final is final
    assert effect(status=status).is_final is final
    assert PlaylistTrack(id="1", status=status).is_final is final


@pytest.mark.parametrize("model", MODELS)
def test_models_are_frozen_and_have_slots_and_keyword_arguments(model: Any) -> None:
    assert "__dict__" not in dir(model)
    assert all(field.kw_only for field in attrs.fields(model))
    assert model.__setattr__ is not object.__setattr__


@pytest.mark.parametrize("model", MODELS)
def test_annotations_can_be_resolved_at_run_time(model: Any) -> None:
    hints = typing.get_type_hints(model)
    assert {field.name for field in attrs.fields(model)} <= set(hints)


def test_assigning_to_a_frozen_model_fails() -> None:
    made = track()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.status = "completed"  # type: ignore[misc]  # the point of the test


async def test_the_last_page_has_no_next() -> None:
    page: Page[str] = Page(items=("a",), has_more=False, next_offset=1)
    assert await page.next_page() is None


async def test_a_page_fetches_the_next_page() -> None:
    last: Page[str] = Page(items=("b",), has_more=False, next_offset=2)

    async def fetch() -> Page[str]:
        return last

    page = Page(items=("a",), has_more=True, next_offset=1, fetch_next=fetch)
    assert await page.next_page() is last
    assert "fetch" not in repr(page)
    assert page == Page(items=("a",), has_more=True, next_offset=1)


async def test_an_unpickled_page_says_how_to_list_again() -> None:
    async def fetch() -> Page[str]:
        raise AssertionError

    page = Page(items=("a",), has_more=True, next_offset=7, fetch_next=fetch)
    back: Page[str] = pickle.loads(pickle.dumps(page))  # noqa: S301 - our own bytes
    assert back == page
    with pytest.raises(FinetuningError, match="offset=7"):
        await back.next_page()


def test_results_of_several_bulk_requests_merge_in_order() -> None:
    lost = BulkFailure(id="c", error="Track not found")
    parts = [
        BulkResult(succeeded=("a", "b")),
        BulkResult(failed=(lost,)),
        BulkResult(succeeded=("d",)),
    ]
    merged = BulkResult.merged(iter(parts))
    assert merged == BulkResult(succeeded=("a", "b", "d"), failed=(lost,))
    assert BulkResult.merged([]) == BulkResult()


def test_other_models_can_be_hashed_and_pickled() -> None:
    row = PlaylistTrack(id="t", status="completed", created_at=TIME, raw={"id": "t"})
    made = [
        Playlist(id="p", tracks=(row,)),
        _models.Account(id="u", total_remaining=5),
        _models.Health(status="ok"),
        BulkResult(failed=(BulkFailure(id="x", error="no"),)),
        Outcome(request=GenerationRequest("lofi"), generation=track()),
    ]
    for model in made:
        assert pickle.loads(pickle.dumps(model)) == model  # noqa: S301 - our own bytes
        assert isinstance(hash(model), int)
