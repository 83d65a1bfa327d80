"""State that an emulator keeps in a folder, through restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async.emulator import Emulator, Fault
from tests.emulator.conftest import connect

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.sampled(2)

OTHER_KEY = "ft_live_" + 32 * "b"


async def status_of(emulator: Emulator, track_id: str) -> str:
    async with connect(emulator) as http:
        answer = await http.get(f"/v1/generations/{track_id}")
    status: str = answer.json()["data"]["status"]
    return status


async def create(emulator: Emulator, **more: Any) -> str:
    async with connect(emulator) as http:
        answer = await http.post("/v1/generations", json={"tags": "rain", **more})
    track_id: str = answer.json()["data"]["id"]
    return track_id


async def seen(emulator: Emulator) -> dict[str, Any]:
    """What clients and people see."""
    found: dict[str, Any] = {}
    async with connect(emulator) as http:
        for path in ("/v1/me", "/v1/generations", "/v1/playlists", "/v1/sound-effects"):
            found[path] = (await http.get(path)).json()
        for path in ("tracks", "playlists", "faults", "ledger"):
            found[path] = (await http.get(f"/_emulator/{path}")).json()
    return found


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with Emulator(state_dir=tmp_path) as emulator:
        emulator.add_key("ft_live_" + 32 * "c")
        emulator.add_account(OTHER_KEY, tier="free", credits=3)
        emulator.add_fault(Fault("stick", "/never", skip=2, headers={"a": "b"}))
        made = await create(emulator, webhook="http://127.0.0.1:9/?token=x")
        await create(emulator, lyrics="la", key="C", scale="minor")
        emulator.add_track("hum", kind="effect")
        stuck = emulator.add_track("stuck", status="stuck", public=True)
        emulator.add_playlist("Both", [stuck.id, made], description="x")
        emulator.change_track(made, after_reads=100)
        emulator.advance(3600)
        before = await seen(emulator)
    async with Emulator(state_dir=tmp_path) as emulator:
        assert emulator.restored
        after = await seen(emulator)
        assert after["tracks"]["tracks"][-1].pop("after_reads") == 98
        assert before["tracks"]["tracks"][-1].pop("after_reads") == 99
        assert after == before
        keys = set(emulator.account.windows), set(_keys(emulator))
        assert "ft_live_" + 32 * "c" in keys[1]
        assert OTHER_KEY in keys[1]


def _keys(emulator: Emulator) -> list[str]:
    return list(emulator._state().accounts)


async def test_ids_of_the_last_run_are_not_made_again(tmp_path: Path) -> None:
    ids = []
    for _ in range(3):
        async with Emulator(state_dir=tmp_path) as emulator:
            ids.append(await create(emulator))
            assert list(emulator.tracks) == ids
            assert len(emulator.ledger) == len(ids)
    assert len(set(ids)) == 3


async def test_a_track_goes_on_and_frees_its_place(tmp_path: Path) -> None:
    times: dict[str, Any] = {"generation_time": (100, 100), "queue_size": 1}
    async with Emulator(state_dir=tmp_path, **times) as emulator:
        track_id = await create(emulator)
        await anyio.sleep(60)
    async with Emulator(state_dir=tmp_path, **times) as emulator:
        assert emulator.account.in_progress == 1
        assert await status_of(emulator, track_id) == "processing"
        await anyio.sleep(41)
        assert await status_of(emulator, track_id) == "completed"
        assert emulator.account.in_progress == 0


async def test_a_webhook_is_sent_by_the_next_run_and_only_once(
    tmp_path: Path,
) -> None:
    sent: list[str] = []

    async def sender(url: str, _headers: Any, _body: bytes) -> int:
        sent.append(url)
        return 204

    options: dict[str, Any] = {"state_dir": tmp_path, "webhook_sender": sender}
    async with Emulator(**options) as emulator:
        await create(emulator, webhook="https://me.example/late")
    for _ in range(2):
        async with Emulator(**options) as emulator:
            await anyio.sleep(200)
        assert sent == ["https://me.example/late"]


async def test_deleted_tracks_stay_deleted(tmp_path: Path) -> None:
    async with Emulator(state_dir=tmp_path) as emulator:
        emulator.load({"tracks": [{"prompt": "x", "id": n} for n in "abc"]})
        await anyio.sleep(1)
        async with connect(emulator) as http:
            body = {"ids": ["b"]}
            await http.post("/v1/generations/bulk-delete", json=body)
    async with Emulator(state_dir=tmp_path) as emulator:
        assert list(emulator.tracks) == ["a", "c"]


async def test_a_reset_begins_anew_there_too(tmp_path: Path) -> None:
    seed = {"tracks": [{"prompt": "x", "id": "seeded"}]}
    async with Emulator(state_dir=tmp_path) as emulator:
        emulator.load(seed)
        await create(emulator)
    async with Emulator(state_dir=tmp_path) as emulator:
        emulator.load(seed)
        assert len(emulator.tracks) == 2
        emulator.reset()
        assert list(emulator.tracks) == ["seeded"]
        assert emulator.ledger == []
    async with Emulator(state_dir=tmp_path) as emulator:
        assert list(emulator.tracks) == ["seeded"]
        assert emulator.ledger == []


async def test_two_emulators_do_not_share_a_folder(tmp_path: Path) -> None:
    async with Emulator(state_dir=tmp_path):
        with pytest.raises(OSError, match="another emulator has"):
            async with Emulator(state_dir=tmp_path):
                pass


async def test_a_file_that_is_no_state_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "emulator.sqlite3").write_text("my diary" * 200)
    with pytest.raises(OSError, match="cannot be used"):
        async with Emulator(state_dir=tmp_path):
            pass
    assert (tmp_path / "emulator.sqlite3").read_text().startswith("my diary")


async def test_what_happened_is_on_disk_within_a_second(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    async with Emulator(state_dir=tmp_path) as emulator:
        track_id = await create(emulator)
        await anyio.sleep(1)
        for name in ("emulator.sqlite3", "emulator.sqlite3-wal"):
            (copy / name).write_bytes((tmp_path / name).read_bytes())
        async with Emulator(state_dir=copy) as other:
            assert list(other.tracks) == [track_id]
