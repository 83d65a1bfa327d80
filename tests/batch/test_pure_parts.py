"""The pure parts of a batch: matching, names, tags, mounts."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path

import attrs
import mutagen
import pytest
from hypothesis import given, strategies as st
from mutagen.id3 import ID3

from finetuning_async import (
    BadRequestError,
    GenerationRequest,
    InternalServerError,
    NotFoundError,
    RateLimitError,
)
from finetuning_async._downloads import music_frames, with_tags
from finetuning_async.batch import JournalError, Row
from finetuning_async.batch._folder import network_kind
from finetuning_async.journal import Retry
from finetuning_async.journal._create import usual_reply
from finetuning_async.journal._file_names import UsedNames, file_name
from finetuning_async.journal._matching import (
    AbsenceEvidence,
    Doubt,
    ListedRow,
    match,
    verdict,
)
from finetuning_async.journal._records import ItemFactory
from finetuning_async.journal._state_machine import (
    Absent,
    Accepted,
    Action,
    Adopted,
    Entry,
    Event,
    Lost,
    Missing,
    NotSent,
    Rejected,
    Saved,
    Sending,
    step,
)
from finetuning_async.journal._store import MemoryStore


def doubt(seq: int = 1, **values: object) -> Doubt:
    given = {
        "kind": "music",
        "prompt": "waltz",
        "body": "{}",
        "seed": 7,
        "seed_is_ours": True,
        "sent_at": 1000.0,
    }
    return Doubt(seq=seq, **{**given, **values})  # type: ignore[arg-type]  # by name


def seen(id: str = "t", **values: object) -> ListedRow:
    given = {"kind": "music", "prompt": "waltz", "seed": 7, "created_at": 1001.0}
    return ListedRow(id=id, **{**given, **values})  # type: ignore[arg-type]  # by name


def test_our_seed_identifies_a_track_with_a_rewritten_prompt() -> None:
    assert match([doubt()], [seen(prompt="waltz, rewritten")], set()) == {1: "t"}


@pytest.mark.parametrize(
    "row",
    [
        seen(kind="instrumental"),
        seen(kind=None),
        seen(created_at=1.0),
        seen(created_at=None),
        seen(prompt=""),
    ],
)
def test_our_seed_identifies_a_track_with_any_other_fields(row: ListedRow) -> None:
    assert match([doubt()], [row], set()) == {1: "t"}
    callers = doubt(seed_is_ours=False)
    assert match([callers], [row], set()) == {}


@pytest.mark.parametrize("row", [seen(seed=8), seen(seed=None)])
def test_a_track_with_another_seed_is_not_ours(row: ListedRow) -> None:
    assert match([doubt()], [row], set()) == {}


@pytest.mark.parametrize(
    "row",
    [
        seen(kind="instrumental"),
        seen(kind=None),
        seen(created_at=None),
        seen(created_at=1000.0 - 8 * 3600),
        seen(created_at=1000.0 - 7 * 86400),
        seen(prompt="another"),
        seen(seed=None),
        seen(seed=8),
    ],
)
def test_a_row_that_is_only_near_a_callers_seed_is_not_matched(row: ListedRow) -> None:
    assert match([doubt(seed_is_ours=False)], [row], set()) == {}


def test_a_track_of_an_item_is_not_assigned_again() -> None:
    assert match([doubt()], [seen()], {"t"}) == {}


def test_equal_rows_take_equal_tracks_oldest_first() -> None:
    doubts = [doubt(n, seed_is_ours=False, sent_at=1000.0 + n) for n in (1, 2, 3)]
    rows = [seen("b", created_at=1002.0), seen("a", created_at=1001.0)]
    assert match(doubts, rows, set()) == {1: "a", 2: "b"}


def test_equal_rows_sent_far_apart_take_tracks_from_the_first_of_them_on() -> None:
    doubts = [doubt(n, seed_is_ours=False, sent_at=600.0 * n) for n in (2, 1)]
    rows = [seen("a", created_at=601.0), seen("b", created_at=1201.0)]
    assert match(doubts, rows, set()) == {1: "a", 2: "b"}


def test_equal_rows_take_only_tracks_with_their_very_prompt_if_there_are_enough() -> (
    None
):
    doubts = [doubt(n, seed_is_ours=False) for n in (1, 2)]
    rows = [seen("a"), seen("b", prompt="Waltz, live"), seen("c")]
    assert match(doubts, rows, set()) == {1: "a", 2: "c"}
    assert match(doubts, rows[:2], set()) == {1: "a", 2: "b"}


@pytest.mark.parametrize(
    "rows",
    [[seen("a"), seen("b"), seen("c")], [seen("a"), seen("b", created_at=None)]],
    ids=["too many", "one without a date"],
)
def test_equal_rows_take_no_track_if_one_may_be_anothers(
    rows: list[ListedRow],
) -> None:
    doubts = [doubt(n, seed_is_ours=False) for n in (1, 2)]
    assert match(doubts, rows, set()) == {}


def test_tracks_with_a_shared_seed_are_matched_by_prompt_or_not_at_all() -> None:
    doubts = [
        doubt(1, seed_is_ours=False, body="a"),
        doubt(2, seed_is_ours=False, body="b", prompt="polka"),
    ]
    assert match(doubts, [seen("p", prompt="polka")], set()) == {2: "p"}
    assert match(doubts, [seen("r", prompt="rewritten")], set()) == {}


def test_more_tracks_than_creates_with_a_callers_seed_match_nothing() -> None:
    rows = [seen("a"), seen("b")]
    assert match([doubt(seed_is_ours=False)], rows, set()) == {}


def evidence(**values: object) -> AbsenceEvidence:
    given = {
        "age": 400.0,
        "settle": 300.0,
        "later_is_listed": True,
        "seeds_are_echoed": True,
        "no_charge": True,
        "more_to_come": False,
    }
    return AbsenceEvidence(**{**given, **values})  # type: ignore[arg-type]  # by name


def test_absence_needs_all_proofs() -> None:
    assert "t1, t2" in verdict(evidence(candidates=("t1", "t2")))
    assert "completely" in verdict(evidence(is_complete=False))
    assert verdict(evidence(no_charge=None, needs_credits=False)) == "absent"
    assert "charged" in verdict(evidence(no_charge=False, needs_credits=False))
    assert verdict(evidence()) == "absent"
    assert verdict(evidence(age=299.0)) == "wait"
    assert verdict(evidence(age=300.0)) == "absent"
    assert "seeds" in verdict(evidence(seeds_are_echoed=False))
    assert "later" in verdict(evidence(later_is_listed=False))
    assert verdict(evidence(later_is_listed=False, more_to_come=True)) == "wait"
    assert "credits" in verdict(evidence(no_charge=False))
    assert "compared" in verdict(evidence(no_charge=None))
    assert verdict(evidence(no_charge=None, more_to_come=True)) == "wait"


def test_credits_that_stay_the_same_stand_in_for_a_later_create() -> None:
    alone = {"later_is_listed": False, "is_comparable": True}
    assert verdict(evidence(**alone, unchanged_for=300.0)) == "absent"
    assert verdict(evidence(**alone, unchanged_for=299.0)) == "wait"
    assert verdict(evidence(**alone, no_charge=None)) == "wait"
    assert verdict(evidence(**alone, no_charge=None, age=1199.0)) == "wait"
    assert "later" in verdict(evidence(**alone, no_charge=None, age=1200.0))
    assert "later" in verdict(evidence(**alone, no_charge=False, unchanged_for=300.0))
    assert "t1" in verdict(evidence(**alone, unchanged_for=300.0, candidates=("t1",)))
    assert verdict(evidence(**alone, unchanged_for=300.0, age=299.0)) == "wait"


def test_a_look_without_a_reading_that_can_be_compared_decides_nothing() -> None:
    old = {"no_charge": None, "is_comparable": True, "age": 5000.0}
    assert verdict(evidence(**old, read_ago=30.0)) == "wait"
    assert "compared" in verdict(evidence(**old, read_ago=1200.0))
    assert "compared" in verdict(evidence(**old, read_ago=-0.5))  # it was, and is not
    assert "charged" in verdict(evidence(**old | {"no_charge": False}, read_ago=30.0))


@given(st.text(max_size=300), st.none() | st.text(min_size=1, max_size=300))
def test_file_names_are_safe(prompt: str, custom_id: str | None) -> None:
    name = file_name(prompt, "key", custom_id)
    assert name.endswith(".mp3")
    assert all(
        letter.isalnum() or letter in "._-" or is_mark(letter) for letter in name
    )
    assert len(name.encode()) <= 255
    assert name[0] not in ".-"


def is_mark(letter: str) -> bool:
    return unicodedata.category(letter).startswith("M")


@pytest.mark.parametrize("custom_id", ["con", "AUX", "nul.2", "com1"])
def test_no_name_is_a_windows_device(custom_id: str) -> None:
    stem = file_name("x", "key", custom_id).partition(".")[0]
    assert stem.lower() != custom_id.partition(".")[0].lower()


def test_names_that_a_file_system_may_confuse_get_different_names() -> None:
    used = UsedNames(["Caf\u00e9.mp3"])
    names = ["cafe\u0301.mp3", "CAFE\u0301.mp3", "Tee.mp3", "tee.mp3"]
    given = [used.claim(name, name) for name in names]
    assert given[2] == "Tee.mp3"
    assert len({unicodedata.normalize("NFC", n).casefold() for n in given}) == 4
    assert "caf\u00e9.mp3" not in {unicodedata.normalize("NFC", n) for n in given}


def test_a_create_that_did_not_leave_has_no_date_unless_one_was_ever_in_doubt() -> None:
    def after(*events: Event) -> Entry:
        entry = Entry()
        for event in events:
            entry, _ = step(entry, event)
        return entry

    once = Sending(7, at=100.0), NotSent()
    assert after(*once).sent_at is None
    doubted = Sending(7, at=100.0), Lost(130.0, "no response"), Absent()
    again = after(*doubted, Sending(7, at=500.0), NotSent())
    # Had it been accepted after all, its track would be dated that early.
    assert (again.state, again.sent_at) == ("planned", 100.0)


@pytest.mark.parametrize("error", [InternalServerError, NotFoundError])
def test_an_item_is_given_up_with_the_fifth_refusal_that_says_nothing_of_it(
    error: type[InternalServerError | NotFoundError],
) -> None:
    refused = error("no", status_code=500, code="X")
    assert isinstance(usual_reply(refused, 4), Retry)
    assert usual_reply(refused, 5) == Rejected("X", str(refused))
    final = BadRequestError("no", status_code=400, code="X")
    assert usual_reply(final, 1) == Rejected("X", str(final))
    limited = RateLimitError("no", status_code=429, code="X")
    assert usual_reply(limited, 9) is None


def test_a_missing_file_without_a_track_id_is_not_paid_again() -> None:
    known, _ = step(Entry(), Adopted("downloaded"))
    gone, action = step(known, Missing())
    assert (gone.state, gone.code, action) == ("failed", "missing", Action.REPORT)
    assert gone.accepts == 0


def test_rows_that_differ_only_in_when_and_for_whom_have_the_same_content() -> None:
    rows = [
        GenerationRequest("rain"),
        GenerationRequest("rain", priority="high", share="user-7"),
        GenerationRequest("rain", seed=7),
    ]
    plain, urgent, other = (ItemFactory().item(Row(request=row)) for row in rows)
    assert plain.content == urgent.content != other.content
    assert plain.body != urgent.body


@pytest.mark.parametrize(
    ("event", "accepts", "fails"),
    [
        (Adopted("completed", track_id="a"), 1, 0),
        (Adopted("failed", track_id="a"), 1, 1),
        (Adopted("failed"), 0, 0),
    ],
)
def test_what_is_adopted_counts_as_paid_if_its_track_is_known(
    event: Adopted, accepts: int, fails: int
) -> None:
    entry, _ = step(Entry(), event)
    assert (entry.accepts, entry.fails) == (accepts, fails)


def test_a_saved_file_is_added_to_what_is_known_of_its_track() -> None:
    completed = Entry(state="completed", track_id="a", result='{"title": "Rain"}')
    saved, _ = step(completed, Saved(size=3, file="rain.mp3"))
    assert json.loads(saved.result or "") == {
        "title": "Rain",
        "size": 3,
        "file": "rain.mp3",
    }
    first, _ = step(attrs.evolve(completed, result=None), Saved(size=3))
    assert first.result == '{"size": 3}'


def test_messages_name_a_row_by_its_own_id_and_an_entry_by_its_key() -> None:
    request = GenerationRequest("rain")
    store = MemoryStore()
    factory = ItemFactory()
    entry = attrs.evolve(factory.item(Row(request=request)), key="order-42", file="")
    rows = [Row(request=request, custom_id="rain-1"), Row(request=request)]
    store.add([entry, *map(factory.item, rows)])
    names = [store.get(seq).name for seq in (1, 2, 3)]
    assert names[:2] == ["order-42", "rain-1"]
    assert names[2] in store.get(3).key


def test_names_do_not_depend_on_the_row_number() -> None:
    one, two = GenerationRequest("one"), GenerationRequest("two")
    first, second = ItemFactory(), ItemFactory()
    files = [first.item(Row(request=r)).file for r in (one, two, one)]
    again = [second.item(Row(request=r)).file for r in (two, one, one)]
    assert sorted(files) == sorted(again)
    assert len(set(files)) == 3
    assert first.item(Row(request=one, custom_id="Track-01")).file == "Track-01.mp3"
    assert first.item(Row(request=one, custom_id="a/b")).file.startswith("a-b-")


def test_no_custom_id_can_take_the_name_of_another_item() -> None:
    factory = ItemFactory()
    other = factory.item(Row(request=GenerationRequest("one"))).file
    item = factory.item(Row(request=GenerationRequest("x"), custom_id=other[:-4]))
    assert item.file != other


def test_tags_are_readable_and_the_audio_is_unchanged() -> None:
    audio = b"\xff\xf3\x14\xc4" + bytes(20)
    facts = {"title": "N\u00e4chte \U0001f319", "bpm": 84.6, "key": "F# minor"}
    frames = music_frames(
        facts | {"prompt": "rain", "lyrics": "l\u00e4\nlo", "seed": 7}
    )
    once = with_tags(audio * 50, frames)
    tags = ID3(io.BytesIO(once))  # type: ignore[no-untyped-call]  # mutagen has no types
    assert str(tags["TIT2"]) == "N\u00e4chte \U0001f319"
    assert str(tags["TBPM"]) == "85"
    assert str(tags["TKEY"]) == "F#m"
    assert str(tags["COMM::XXX"]) == "rain"
    assert str(tags["USLT::XXX"]) == "l\u00e4\nlo"
    assert str(tags["TXXX:seed"]) == "7"
    assert once.endswith(audio * 50)
    assert with_tags(once, frames) == once
    assert with_tags(once, {}) == audio * 50
    assert mutagen.File(io.BytesIO(once)) is not None


@given(st.text(), st.binary(max_size=30))
def test_any_title_and_any_file_can_be_tagged(title: str, audio: bytes) -> None:
    tagged = with_tags(audio, {"TIT2": title})
    assert tagged.startswith(b"ID3")
    assert with_tags(tagged, {"TIT2": title}) == tagged


def test_an_impossible_event_is_refused() -> None:
    with pytest.raises(JournalError, match="Accepted is not possible"):
        step(Entry(), Accepted("t"))
    intent, _ = step(Entry(), Sending(5, 10.0))
    with pytest.raises(JournalError):
        step(intent, Sending(5, 10.0))


def test_network_file_systems_are_recognised() -> None:
    mounts = (
        "/dev/sda1 / ext4 rw 0 0\n"
        "server:/x /mnt/my\\040music nfs4 rw 0 0\n"
        "tmpfs /mnt/my\\040music/fast tmpfs rw 0 0\n"
    )
    assert network_kind(Path("/mnt/my music/album"), mounts) == "nfs4"
    assert network_kind(Path("/mnt/my music/fast/album"), mounts) is None
    assert network_kind(Path("/mnt/my musical"), mounts) is None
    assert network_kind(Path("/anywhere"), "") is None
