"""Which track an id means: of any kind, and by its beginning."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len

from finetuning_async.cli import _tables
from finetuning_async.cli._tables import Table, cut, short_ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]


def _create(finetuning: Run, *words: str) -> str:
    made: str = finetuning([*words, "choir", "--no-wait", "-q"]).stdout.strip()
    return made


@pytest.mark.parametrize("maker", [["generate"], ["inst"], ["sfx", "gen"]])
def test_get_wait_and_download_take_an_id_of_any_kind_and_its_beginning(
    finetuning: Run, emulator: Any, maker: list[str]
) -> None:
    made = _create(finetuning, *maker)
    for given_id in (made, made[:8], made[:8].upper()):
        assert finetuning(["wait", given_id]).exit_code == 0
        assert f"{made}\n" in finetuning(["get", given_id]).stdout
        ran = finetuning(["download", given_id, "-o", "a.mp3"])
        assert ran.exit_code == 0, ran.stderr
        Path("a.mp3").unlink()


def test_get_shows_a_playlist_too(finetuning: Run, emulator: Any) -> None:
    made = emulator.with_playlist("beds")
    ran = finetuning(["get", made])
    assert "name     beds\n" in ran.stdout
    assert "It has no tracks. To add some: finetuning playlist add" in ran.stderr


def test_the_commands_of_effects_find_no_tracks(finetuning: Run, emulator: Any) -> None:
    made = _create(finetuning, "generate")
    for command in ("get", "wait", "download"):
        ran = finetuning(["sfx", command, made])
        assert (ran.exit_code, "404 NOT_FOUND" in ran.stderr) == (1, True)


def test_a_beginning_that_several_ids_share_is_an_error_that_names_them(
    finetuning: Run, service: Any
) -> None:
    ids = ["aaaa1111-1", "aaaa1111-2", "aaaa2222-1"]
    rows = [{"id": one, "status": "completed"} for one in ids]
    end = {"hasMore": False, "nextOffset": 0}
    service.respond("GET /v1/generations", {"data": {"generations": rows, **end}})
    service.respond("GET /v1/sound-effects", {"data": {"soundEffects": [], **end}})
    for command in (["get", "aaaa"], ["delete", "-y", "aaaa"]):
        ran = finetuning(command)
        assert ran.exit_code == 1
        assert "3 ids begin with 'aaaa'; give more of it:\n  aaaa1111-1" in ran.stderr
    assert not [one for one in service.requests if one.method == "POST"]


def test_the_short_ids_of_a_table_can_be_deleted_and_put_into_playlists(
    finetuning: Run, emulator: Any
) -> None:
    beds = emulator.with_playlist("beds")
    one, two = _create(finetuning, "generate"), _create(finetuning, "generate")
    ran = finetuning(["playlist", "add", beds[:8], one[:8], two])
    assert ran.stderr == "2 of 2 added\n"
    assert finetuning(["delete", "-y", one[:8]]).stderr == "1 of 1 deleted\n"
    assert one not in finetuning(["list"]).stdout
    assert two in finetuning(["list"]).stdout


def test_an_empty_list_says_so_in_words(finetuning: Run, emulator: Any) -> None:
    for args, words in {
        ("list",): "There is no track yet. To create one: finetuning generate TAGS",
        ("list", "--type", "music"): "There is no track with type music.",
        ("list", "--offset", "7"): "There is no track after the first 7.",
        ("sfx", "list"): "There is no sound effect yet. To create one: finetuning sfx",
        ("playlists",): "There is no playlist yet. To create one: use the web",
    }.items():
        ran = finetuning(args)
        assert (ran.exit_code, ran.stdout) == (0, "")
        assert ran.stderr.startswith(words)
        assert finetuning([*args, "-q"]).output == ""


def test_a_track_that_failed_shows_no_length(finetuning: Run, service: Any) -> None:
    failed = {"id": "aaaa1111", "status": "failed", "parameters": {"duration": 60}}
    rows = {"generations": [failed], "hasMore": False, "nextOffset": 0}
    service.respond("GET /v1/generations", {"data": rows})
    service.respond("GET /v1/generations/aaaa1111", {"data": failed})
    assert "60" not in finetuning(["list"]).stdout
    shown = finetuning(["get", "aaaa1111"]).stdout
    assert "seconds" not in shown
    assert "asked for  60.0" in shown


def test_the_emulator_announces_itself_only_once_the_parameters_are_valid(
    finetuning: Run,
) -> None:
    ran = finetuning(["generate", "choir", "--bpm", "500", "--emulator"])
    assert ran.exit_code == 2
    assert ran.stderr == (
        "Error: --bpm must be a number from 60 to 200 beats per minute, got 500\n"
    )


def test_the_examples_of_the_tables_are_right() -> None:
    assert doctest.testmod(_tables).failed == 0


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=60)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5), st.integers(40, 130))
def test_no_line_of_a_table_is_wider_than_the_terminal(
    rows: list[tuple[str, str]], width: int
) -> None:
    table = Table("ID", "STATUS", "PROMPT", "CREATED", text="PROMPT")
    cells = [("5e0c7b1a", "completed", prompt, when[:16]) for prompt, when in rows]
    lines = table.layout([("ID", "STATUS", "PROMPT", "CREATED"), *cells], width)
    assert len(lines) == len(rows) + 1
    assert max(map(cell_len, lines)) <= width


@given(texts, st.integers(1, 70))
def test_a_cut_text_fits_and_keeps_its_beginning(text: str, width: int) -> None:
    short = cut(text, width)
    assert cell_len(short) <= max(width, 1)
    assert short == text or short.endswith("…")
    assert text.startswith(short.removesuffix("…")) or short == text


@given(st.lists(st.uuids().map(str), max_size=30))
def test_short_ids_tell_their_rows_apart(ids: list[str]) -> None:
    short = short_ids(ids)
    assert len(set(short)) == len(set(ids))
    assert all(len(one) >= 8 for one in short)
