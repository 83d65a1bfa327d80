"""The emulator's main job, seen by a plain HTTP client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    import httpx

    from finetuning_async.emulator import Emulator


async def test_a_track_is_created_read_and_downloaded(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    answer = await http.post("/v1/generations", json={"tags": "lofi", "duration": 5})
    assert answer.status_code == 202
    path = f"/v1/generations/{answer.json()['data']['id']}"
    assert (await http.get(path)).json()["data"]["status"] == "pending"
    await anyio.sleep(1)
    assert (await http.get(path)).json()["data"]["status"] == "processing"
    await anyio.sleep(19)
    track = (await http.get(path)).json()["data"]
    assert track["status"] == "completed"
    assert track["generationTime"] == 19
    audio = await http.get(track["audioUrl"])
    assert audio.headers["Content-Type"] == "audio/mpeg"
    assert len(audio.content) == int(audio.headers["Content-Length"])
    assert [entry.amount for entry in emulator.ledger] == [-1]
