"""Rows from JSONL and CSV, and their problems."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finetuning_async import (
    GenerationRequest,
    InstrumentalRequest,
    InvalidRequestError,
    SoundEffectRequest,
)
from finetuning_async.batch import BatchInputError, Row, read_rows
from finetuning_async.batch._input import check_rows
from finetuning_async.journal import ItemFactory
from finetuning_async.journal._errors import MAX_SHOWN

if TYPE_CHECKING:
    from pathlib import Path


def problems(text: str, **options: str) -> list[str]:
    with pytest.raises(BatchInputError) as caught:
        list(read_rows(text.splitlines(keepends=True), **options))  # type: ignore[arg-type]  # the formats are literals
    return list(caught.value.problems)


def test_jsonl_rows_keep_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "songs.jsonl"
    path.write_text(
        '\ufeff{"tags": "waltz", "bpm": 90, "custom_id": "one"}\n\n'
        '{"type": "instrumental", "prompt": "rain", "enhance": false, "seed": null}\n',
        encoding="utf-8",
    )
    assert list(read_rows(path)) == [
        Row(request=GenerationRequest("waltz", bpm=90), custom_id="one", line=1),
        Row(request=InstrumentalRequest("rain", enhance=False), line=3),
    ]


def test_csv_cells_become_parameters(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_text(
        "\ufefftags,duration,bpm,key,lyrics,custom_id\r\n"
        '"a, b",30,90.5,F#,"one\r\ntwo",x\r\n'
        "waltz,,,,,\r\n",
        encoding="utf-8",
        newline="",
    )
    first, second = read_rows(path)
    assert first.request == GenerationRequest(
        "a, b", duration=30, bpm=90.5, key="F#", lyrics="one\r\ntwo"
    )
    assert first.custom_id == "x"
    assert second.request == GenerationRequest("waltz")
    assert second.custom_id is None


@pytest.mark.parametrize(
    "text",
    [
        '{"tags": "rain", "priority": "high", "share": "7"}\n',
        "tags,priority,share\nrain,high,7\n",
    ],
)
def test_a_row_may_name_its_priority_and_share(text: str) -> None:
    (row,) = read_rows(text.splitlines(keepends=True))
    assert row.request == GenerationRequest("rain", priority="high", share="7")


def test_a_wrong_priority_or_share_is_a_problem_of_its_row() -> None:
    lines = ['{"tags": "rain", "priority": "urgent"}', '{"tags": "rain", "share": 7}']
    with pytest.raises(BatchInputError) as caught:
        list(read_rows(lines))
    first, second = caught.value.problems
    assert first == "line 1: priority must be 'high', 'normal' or 'low', got 'urgent'"
    assert second.startswith("line 2: share must be a text of 1 to 255 characters")


@pytest.mark.parametrize(
    "text",
    [
        '{"tags": "rain", "idempotency_key": "a b"}\n',
        '{"tags": "rain", "idempotency_key": "a b", "custom_id": "a b"}\n',
        "tags,idempotency_key\nrain,a b\n",
        "tags,idempotency_key,custom_id\nrain,a b,\n",
        "tags,idempotency_key,custom_id\nrain,,a b\n",
    ],
)
def test_a_custom_id_may_be_called_idempotency_key(text: str) -> None:
    (row,) = read_rows(text.splitlines(keepends=True))
    item = ItemFactory().item(row)
    assert item.custom_id == "a b"
    assert item.key == "id:a b"
    assert "a b" not in item.body


def test_a_custom_id_and_an_idempotency_key_must_be_the_same() -> None:
    text = '{"tags": "rain", "idempotency_key": "a", "custom_id": "b"}\n'
    (problem,) = problems(text)
    assert problem.startswith("line 1: custom_id and idempotency_key must be the same")
    assert problem.endswith("got 'b' and 'a'; give one of them")


def test_wrong_and_repeated_idempotency_keys_are_problems_of_their_rows() -> None:
    rows = [
        '{"tags": "rain", "idempotency_key": ""}',
        '{"tags": "rain", "idempotency_key": 5}',
        '{"tags": "rain", "idempotency_key": "' + 256 * "x" + '"}',
        '{"tags": "rain", "idempotency_key": "a\\nb"}',
        '{"tags": "rain", "custom_id": "k"}',
        '{"tags": "rain", "idempotency_key": "k"}',
        '{"tags": "rain", "idempotency_key": "' + 255 * "x" + '"}',
    ]
    found = problems("\n".join(rows))
    assert [problem.partition(":")[0] for problem in found] == [
        "line 1",
        "line 2",
        "line 3",
        "line 4",
        "line 6",
    ]
    assert all("idempotency_key" in problem for problem in found)


def test_a_batch_holds_no_sound_effects() -> None:
    text = '{"type": "sound_effect", "prompt": "a door"}\n'
    assert "must be music or instrumental" in problems(text)[0]
    row = Row(request=SoundEffectRequest("a door"))  # type: ignore[arg-type] # wrong
    with pytest.raises(BatchInputError, match="sound effect"):
        list(check_rows([row]))


def test_rows_may_be_prompts_and_mappings_as_lines_are() -> None:
    rows = check_rows(
        ["rain", {"type": "instrumental", "prompt": "wind", "custom_id": "w"}]
    )
    assert list(rows) == [
        Row(request=GenerationRequest("rain")),
        Row(request=InstrumentalRequest("wind"), custom_id="w"),
    ]


def test_wrong_prompts_and_mappings_are_problems_of_their_rows() -> None:
    wrong: list[Any] = [
        {"tags": "rain", "mood": "sad"},
        {"type": "song", "prompt": "rain"},
        {"type": "music", "kind": "instrumental", "prompt": "rain"},
        {"type": "sound_effect", "prompt": "a door"},
        5,
        "rain",
    ]
    with pytest.raises(BatchInputError) as caught:
        list(check_rows(wrong))
    parts = ["mood", "'song'", "must be the same", "sound effect", "got 5"]
    for number, (part, problem) in enumerate(
        zip(parts, caught.value.problems, strict=True), 1
    ):
        assert problem.startswith(f"row {number}: ")
        assert part in problem


@pytest.mark.parametrize("one", ["rain", {"tags": "rain"}, GenerationRequest("rain")])
def test_one_request_is_not_taken_for_many(one: Any) -> None:
    with pytest.raises(InvalidRequestError, match="put it in a list"):
        list(check_rows(one))


def test_a_csv_may_hold_instrumentals() -> None:
    text = "type,prompt,enhance\ninstrumental,rain,FALSE\ninstrumental,sun,\n"
    rows = list(read_rows(text.splitlines(keepends=True)))
    assert [row.request for row in rows] == [
        InstrumentalRequest("rain", enhance=False),
        InstrumentalRequest("sun"),
    ]


def test_the_format_is_detected_from_the_first_line() -> None:
    assert len(list(read_rows(['{"tags": "x"}\n']))) == 1
    assert len(list(read_rows(["tags\n", "x\n"]))) == 1
    assert list(read_rows([])) == []


def test_all_problems_are_reported_at_once_with_their_lines() -> None:
    text = (
        '{"tags": "ok"}\n'
        '{"tags": "x", "bpm": 300, "key": "H"}\n'
        '{"tags": "x", "tempo": 3}\n'
        "{nonsense\n"
        "[1]\n"
        '{"tags": "x", "duration": NaN}\n'
        '{"type": "sfx", "prompt": "x"}\n'
        '{"bpm": 90}\n'
        '{"tags": "x", "lyric": "la"}\n'
    )
    found = problems(text)
    where = [problem.partition(":")[0] for problem in found]
    assert where == [f"line {n}" for n in (2, 2, 3, 4, 5, 6, 7, 8, 9)]
    assert "did you mean 'lyrics'" in found[-1]
    assert found[3].endswith("in double quotes (column 2)")


def test_what_is_called_otherwise_in_another_kind_is_named() -> None:
    found = problems(
        '{"prompt": "rain"}\n{"text": "x"}\n{"type": "instrumental", "tags": "x"}\n'
    )
    ours = [problem.rpartition(";")[2] for problem in found]
    music, instrumental = " did you mean 'tags'?", " did you mean 'prompt'?"
    assert ours == [music, music, instrumental]


def test_custom_ids_must_be_unique_and_printable() -> None:
    text = (
        '{"tags": "x", "custom_id": "a"}\n'
        '{"tags": "y", "custom_id": "a"}\n'
        '{"tags": "z", "custom_id": ""}\n'
        '{"tags": "z", "custom_id": 7}\n'
        '{"tags": "z", "custom_id": "a\\nb"}\n'
    )
    found = problems(text)
    assert "is already used in line 1" in found[0]
    assert len(found) == 4


def test_equal_rows_are_allowed() -> None:
    assert len(list(read_rows(['{"tags": "x"}\n'] * 3))) == 3


def test_an_invalid_csv_is_reported() -> None:
    assert "a row has 2 cells, the header 1" in problems("tags\nx,y\n", format="csv")[0]
    assert "same name" in problems("tags,tags\nx,y\n", format="csv")[0]
    assert "invalid CSV" in problems('tags\n"x\n', format="csv")[0]
    assert "got 'fast'" in problems("tags,bpm\nx,fast\n")[0]


@pytest.mark.parametrize("rest", ["", "y\n"])
def test_a_text_that_is_no_table_of_tracks_is_refused(rest: str) -> None:
    (problem,) = problems(f"some notes\n{rest}")
    expected = "line 1: must name the columns, such as tags, got 'some notes'"
    assert problem == expected


def test_problems_are_collected_up_to_a_limit() -> None:
    assert len(problems('{"tags": ""}\n' * 5000)) == 1000


def test_a_webhook_secret_is_in_no_problem() -> None:
    (found,) = problems('{"tags": "x", "webhook": "ftp://me.example/?token=s3cret"}\n')
    assert "s3cret" not in found


def test_a_missing_or_binary_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BatchInputError) as caught:
        list(read_rows(tmp_path / "nothing.jsonl"))
    message = f"{tmp_path / 'nothing.jsonl'} cannot be read: No such file or directory"
    assert caught.value.problems == (message,)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00tags")
    with pytest.raises(BatchInputError, match=r"binary\.csv is not UTF-8: .* byte 0"):
        list(read_rows(tmp_path / "binary.csv"))


@given(st.text())
def test_no_input_raises_an_unexpected_error(text: str) -> None:
    with contextlib.suppress(BatchInputError):
        list(read_rows(text.splitlines(keepends=True)))


def test_of_many_problems_the_first_are_shown_and_the_others_counted() -> None:
    problems = [f"line {number}: no" for number in range(1, MAX_SHOWN + 3)]
    *shown, last = str(BatchInputError(problems)).splitlines()
    assert shown == problems[:MAX_SHOWN]
    assert last == "and 2 more"
    assert str(BatchInputError(shown)).splitlines() == shown
