"""What an item of a journal says of itself."""

from __future__ import annotations

import json

import pytest

from finetuning_async import InstrumentalRequest
from finetuning_async.journal._records import REMOVED, Item, Summary, body_of
from finetuning_async.journal._state_machine import STATES, Entry


def test_a_default_that_earlier_versions_did_not_store_is_not_stored() -> None:
    """Or the key of an entry of theirs would be known with other content."""
    assert body_of(InstrumentalRequest("rain")) == '{"prompt": "rain"}'
    plain = body_of(InstrumentalRequest("rain", enhance=False))
    assert plain == '{"enhance": false, "prompt": "rain"}'


@pytest.mark.parametrize(
    ("parameters", "is_lost"),
    [
        ({"webhook": f"https://me.example/hook{REMOVED}"}, True),
        ({"webhook": "https://me.example/hook"}, False),
        ({"tags": "rain"}, False),
        ({"tags": 'a "webhook"?'}, False),
        ({"webhook": None}, False),
    ],
)
def test_an_item_knows_whether_a_part_of_its_webhook_was_removed(
    parameters: dict[str, str | None], *, is_lost: bool
) -> None:
    item = Item(
        key="1",
        custom_id=None,
        line=None,
        kind="music",
        body=json.dumps(parameters),
        file="",
        seq=1,
        entry=Entry(),
    )
    assert item.has_lost_webhook is is_lost


def test_a_journal_is_done_once_each_item_is_downloaded_or_failed() -> None:
    ends = {**dict.fromkeys(STATES, 0), "downloaded": 2, "failed": 1}
    assert Summary(states=ends).is_done
    assert not Summary(states={**ends, "completed": 1}).is_done
