"""``delete``, ``playlists`` and ``playlist``: names, partial success, confirmation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async.cli._exit_codes import FAILURE, PARTIAL
from finetuning_async.cli.commands import delete

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

NOT_FOUND = "Track not found or not owned by you"


def _create(finetuning: Run, count: int = 1) -> list[str]:
    args = ["generate", "choir", "--no-wait", "-q"]
    return [finetuning(args).stdout.strip() for _ in range(count)]


def _pretend_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delete, "is_terminal", lambda _: True)


def test_delete_deletes_tracks(finetuning: Run, emulator: Any) -> None:
    made = _create(finetuning, 2)
    ran = finetuning(["delete", *made, "--yes"])
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "", "2 of 2 deleted\n")
    assert finetuning(["get", made[0]]).exit_code == 1


def test_each_failure_is_a_warning(finetuning: Run, emulator: Any) -> None:
    (made,) = _create(finetuning)
    ran = finetuning(["delete", "-y", made, "lost", "lost"])
    assert ran.exit_code == PARTIAL
    assert ran.stderr == f"warning: lost: {NOT_FOUND}\n1 of 2 deleted\n"


def test_delete_fails_if_it_deletes_nothing(finetuning: Run, emulator: Any) -> None:
    ran = finetuning(["delete", "-y", "lost"])
    assert ran.exit_code == 1
    assert ran.stderr.endswith("Error: nothing was deleted.\n")


def test_json_is_the_merged_result_with_the_same_exit_code(
    finetuning: Run, emulator: Any
) -> None:
    ran = finetuning(["delete", "-y", "lost", "--json"])
    assert (ran.exit_code, ran.stderr) == (FAILURE, "")
    assert ran.stdout.startswith('{\n  "data": {\n    "deleted": []')
    assert json.loads(ran.stdout)["data"]["errors"] == [
        {"id": "lost", "error": NOT_FOUND}
    ]


def test_json_of_a_full_success_has_no_errors(finetuning: Run, emulator: Any) -> None:
    (made,) = _create(finetuning)
    ran = finetuning(["delete", "-y", made, "--json"])
    assert json.loads(ran.stdout) == {"data": {"deleted": [made]}}


def test_long_lists_are_sent_in_hundreds(finetuning: Run, emulator: Any) -> None:
    lost = [f"lost{number}" for number in range(250)]
    ran = finetuning(["delete", "-y", "--json", *lost])
    assert len(json.loads(ran.stdout)["data"]["errors"]) == 250
    assert emulator.count(path="/v1/generations/bulk-delete") == 3


def test_without_a_terminal_deleting_needs_yes(finetuning: Run, service: Any) -> None:
    ran = finetuning(["delete", "a"], input="y\n")
    assert ran.exit_code == 2
    assert "add --yes" in ran.stderr
    assert not service.requests


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_answering_no_is_a_success(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    _pretend_terminal(monkeypatch)
    ran = finetuning(["delete", "a", "b"], input=answer)
    assert ran.exit_code == 0
    assert ran.stdout.strip() in ("", "n")  # before 8.4 click's runner echoes the input
    assert "Permanently delete these 2 tracks? [y/N]:" in ran.stderr
    assert ran.stderr.endswith("Nothing was deleted.\n")
    assert not service.requests


def test_answering_yes_deletes(
    finetuning: Run, emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend_terminal(monkeypatch)
    (made,) = _create(finetuning)
    ran = finetuning(["delete", made], input="y\n")
    assert "Permanently delete this track?" in ran.stderr
    assert ran.stderr.endswith("1 of 1 deleted\n")


def test_playlists_prints_a_table_or_json(finetuning: Run, emulator: Any) -> None:
    made = emulator.with_playlist("Trailer beds")
    heads, row = finetuning(["playlists"]).stdout.splitlines()
    assert heads.split() == ["ID", "TRACKS", "SECONDS", "PUBLIC", "NAME"]
    assert row.split() == [made, "0", "0", "no", "Trailer", "beds"]
    data = json.loads(finetuning(["playlists", "--json"]).stdout)["data"]
    assert [entry["name"] for entry in data["playlists"]] == ["Trailer beds"]


@pytest.mark.parametrize("by_id", [True, False])
def test_a_playlist_is_found_by_its_id_and_by_its_name_in_any_case(
    finetuning: Run, emulator: Any, by_id: bool
) -> None:
    made = emulator.with_playlist("Straße")
    word = made if by_id else " STRASSE"
    assert f"id       {made}\n" in finetuning(["playlist", "show", word]).stdout
    assert emulator.count(path="/v1/playlists") == (0 if by_id else 1)


def test_playlist_show_prints_the_tracks(finetuning: Run, emulator: Any) -> None:
    emulator.with_playlist("beds")
    tracks = _create(finetuning, 2)
    ran = finetuning(["playlist", "add", "beds", *tracks])
    assert (ran.exit_code, ran.stderr) == (0, "2 of 2 added\n")
    out = finetuning(["playlist", "show", "beds"]).stdout
    assert "tracks   2\n" in out
    assert [line.split()[0] for line in out.splitlines()[-2:]] == tracks
    data = json.loads(finetuning(["playlist", "show", "beds", "--json"]).stdout)["data"]
    assert [track["id"] for track in data["tracks"]] == tracks


def test_an_unknown_playlist_name_is_an_error(finetuning: Run, emulator: Any) -> None:
    ran = finetuning(["playlist", "show", "beds"])
    assert ran.exit_code == 1
    assert "no playlist is named 'beds'" in ran.stderr
    assert "finetuning playlists" in ran.stderr


def test_an_ambiguous_playlist_name_is_an_error_with_the_ids(
    finetuning: Run, emulator: Any
) -> None:
    made = [emulator.with_playlist(name) for name in ("beds", "Beds", "other")]
    ran = finetuning(["playlist", "add", "BEDS", "x"])
    assert ran.exit_code == 1
    assert all(one in ran.stderr for one in made[:2])
    assert made[2] not in ran.stderr


def test_an_id_of_an_undocumented_form_is_accepted(
    finetuning: Run, service: Any
) -> None:
    service.respond("GET /v1/playlists", {"data": {"playlists": [{"id": "list-7"}]}})
    service.respond("GET /v1/playlists/list-7", {"data": {"id": "list-7"}})
    assert finetuning(["playlist", "show", "list-7"]).stdout == "id    list-7\nname  \n"


def test_a_duplicate_or_unknown_track_is_a_warning(
    finetuning: Run, emulator: Any
) -> None:
    emulator.with_playlist("beds")
    one, two = _create(finetuning, 2)
    finetuning(["playlist", "add", "beds", one])
    ran = finetuning(["playlist", "add", "beds", one, two, "lost"])
    assert ran.exit_code == PARTIAL
    assert ran.stderr.splitlines() == [
        f"warning: {one}: Track already in playlist",
        "warning: lost: Track not found",
        "1 of 3 added",
    ]


def test_a_private_track_and_an_unknown_playlist_say_what_to_do(
    finetuning: Run, emulator: Any
) -> None:
    emulator.with_playlist("all", public=True)
    made = _create(finetuning, 2)
    ran = finetuning(["playlist", "add", "all", *made])
    assert ran.exit_code == FAILURE
    hint = "Make the track public on finetuning.ai, or choose a private playlist.\n"
    assert ran.stderr.count(hint) == 1
    unknown = "c46a8f02-1b7d-4e35-a9c8-50f2e6d3b714"
    ran = finetuning(["playlist", "add", unknown, made[0]])
    assert "To list your playlists: finetuning playlists\n" in ran.stderr


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_partial_success_has_the_same_exit_code_everywhere(
    finetuning: Run, emulator: Any, form: list[str]
) -> None:
    for name in ("beds", "other"):
        emulator.with_playlist(name)
    made = _create(finetuning)
    for args in (
        ["playlist", "add", "beds"],
        ["playlist", "move", "beds", "other"],
        ["playlist", "remove", "other"],
        ["delete", "-y"],
    ):
        ran = finetuning([*args, *made, "lost", *form])
        assert (args, ran.exit_code) == (args, PARTIAL)


@pytest.mark.parametrize(
    ("args", "done"),
    [
        (["add", "beds"], "added"),
        (["remove", "beds"], "removed"),
        (["move", "beds", "other"], "moved"),
    ],
)
def test_no_success_is_a_failure_with_json_too(
    finetuning: Run, emulator: Any, args: list[str], done: str
) -> None:
    for name in ("beds", "other"):
        emulator.with_playlist(name)
    ran = finetuning(["playlist", *args, "lost"])
    assert ran.exit_code == 1
    assert ran.stderr.endswith(f"Error: nothing was {done}.\n")
    printed = finetuning(["playlist", *args, "lost", "--json"])
    assert printed.exit_code == 1
    data = json.loads(printed.stdout)["data"]
    assert data[done] == []
    assert data["errors"][0]["trackId"] == "lost"


def test_tracks_are_moved_and_removed(finetuning: Run, emulator: Any) -> None:
    emulator.with_playlist("beds")
    other = emulator.with_playlist("other")
    (made,) = _create(finetuning)
    finetuning(["playlist", "add", "beds", made])
    moved = finetuning(["playlist", "move", "beds", other, made])
    assert (moved.exit_code, moved.stderr) == (0, "1 of 1 moved\n")
    removed = finetuning(["playlist", "remove", "other", made])
    assert (removed.exit_code, removed.stderr) == (0, "1 of 1 removed\n")
    assert finetuning(["get", made]).exit_code == 0


def test_moving_to_the_same_playlist_is_rejected(
    finetuning: Run, emulator: Any
) -> None:
    made = emulator.with_playlist("beds")
    ran = finetuning(["playlist", "move", "beds", made, "x"])
    assert ran.exit_code == 2
    assert "the same playlist" in ran.stderr


def test_an_empty_id_is_rejected(finetuning: Run, service: Any) -> None:
    ran = finetuning(["delete", "-y", ""])
    assert ran.exit_code == 2
    assert "IDS must be an id as the service returned it, got ''" in ran.stderr
    assert not service.requests
