"""What an emulator remembers and reports: requests, keys, ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async.emulator import Emulator, Fault, RequestRecord
from tests.emulator.conftest import connect

if TYPE_CHECKING:
    from finetuning_async.emulator import Action

WISH = {"tags": "rain", "prompt": "rain"}
OTHER = "ft_live_" + "Z" * 32
CANNOT_WORK = [
    "",
    "ft_live_" + "0" * 31,
    "ft_live_" + "0" * 33,
    "FT_LIVE_" + "0" * 32,
    "ft_live_" + "0" * 31 + " ",
    "ft_live_" + "0" * 31 + "\n",
    "ft_live_" + "0" * 31 + "\x7f",
    "ft_live_" + "0" * 31 + "\u00e9",
]


async def test_each_request_is_reported_once_when_it_ends() -> None:
    ended: list[tuple[float, str, int, bool]] = []

    def note(record: RequestRecord) -> None:
        at = round(anyio.current_time() - begin)
        ended.append((at, record.path, record.status, record.delivered))

    async with Emulator(on_request=note) as emulator, connect(emulator) as http:
        begin = anyio.current_time()
        emulator.add_fault(Fault("delay", "/v1/me", seconds=4))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(http.get, "/v1/me")
            await anyio.sleep(1)
            tasks.start_soon(http.get, "/health")
            await anyio.sleep(1)
            tasks.start_soon(http.get, "/v1/playlists")
        assert ended == [
            (1, "/health", 200, True),
            (2, "/v1/playlists", 200, True),
            (4, "/v1/me", 200, True),
        ]


@pytest.mark.parametrize(
    ("action", "status"),
    [("lost_before_commit", 0), ("lost_after_commit", 202), ("late_commit", 202)],
)
async def test_a_request_whose_connection_breaks_is_reported(
    action: Action, status: int
) -> None:
    ended: list[RequestRecord] = []
    async with Emulator(on_request=ended.append) as emulator:
        async with connect(emulator) as http:
            emulator.add_fault(Fault(action, seconds=1))
            with pytest.raises(httpx.ReadError):
                await http.post("/v1/generations", json=WISH)
        assert [(r.status, r.delivered) for r in ended] == [(status, False)]
        assert ended == emulator.requests


@pytest.mark.parametrize("key", [OTHER, "ft_live_" + "!~" * 16])
async def test_any_key_of_the_right_form_authenticates(key: str) -> None:
    """As in the vendor's program: the prefix and 40 characters (quirk Q25)."""
    async with Emulator(api_key=key) as emulator, connect(emulator) as http:
        assert emulator.api_key == key
        assert (await http.get("/v1/me")).status_code == 200
        other = "ft_live_" + "g" * 32
        account = emulator.add_account(other, credits=7)
        emulator.add_key("ft_live_" + "h" * 32, account)
        for used in (other, "ft_live_" + "h" * 32):
            mine = await http.get("/v1/me", headers={"X-API-Key": used})
            assert mine.json()["data"]["limits"]["totalRemaining"] == 7
        for unknown in ("ft_live_" + "i" * 32, "x", emulator.api_key.upper()):
            response = await http.get("/v1/me", headers={"X-API-Key": unknown})
            assert response.json()["error"]["code"] == "INVALID_API_KEY"


@pytest.mark.parametrize("key", CANNOT_WORK)
async def test_a_key_that_cannot_work_is_refused_at_once(key: str) -> None:
    with pytest.raises(ValueError, match="api_key must be ft_live_") as caught:
        Emulator(api_key=key)
    assert not key or key not in str(caught.value)
    async with Emulator() as emulator:
        for add in (emulator.add_account, emulator.add_key):
            with pytest.raises(ValueError, match="api_key must be ft_live_"):
                add(key)


async def test_a_key_is_not_taken_from_another_account() -> None:
    async with Emulator() as emulator:
        emulator.add_key(OTHER)
        emulator.add_key(OTHER)  # of the same account: nothing changes
        with pytest.raises(ValueError, match="key of another account"):
            emulator.add_account(OTHER)
        second = emulator.add_account("ft_live_" + "0" * 32)
        with pytest.raises(ValueError, match="key of another account"):
            emulator.add_key(OTHER, second)


async def made_ids(order: list[str], **settings: Any) -> dict[str, set[str]]:
    """The ids of an emulator that makes these things in this order."""
    ids: dict[str, set[str]] = {name: set() for name in [*order, "account"]}
    async with Emulator(**settings) as emulator, connect(emulator) as http:
        ids["account"].add(emulator.account.id)
        for number, name in enumerate(order):
            if name == "account":
                made = emulator.add_account(f"ft_live_{number:032}").id
            elif name == "playlist":
                made = emulator.add_playlist("Beds")
            else:
                body = (await http.post(f"/v1/{name}", json=WISH)).json()
                made = body["data"]["id"]
            ids[name].add(made)
    return ids


async def test_an_id_is_never_shared_by_two_kinds_of_thing() -> None:
    """Not even by runs with one seed that make things in another order."""
    kinds = ["generations", "sound-effects", "playlist", "account"]
    runs = [await made_ids(kinds[n:] + kinds[:n]) for n in range(4)]
    for kind in kinds:
        assert all(run[kind] == runs[0][kind] for run in runs)
    each = [an_id for kind in kinds for an_id in runs[0][kind]]
    assert len(set(each)) == len(each) == 5
    other = await made_ids(kinds, seed=2)
    assert not set(each) & {an_id for kind in kinds for an_id in other[kind]}


@pytest.mark.parametrize(
    "hosts",
    ["app,*.internal", ["app", "*.internal"], ("APP", "*.internal")],
)
def test_webhook_hosts_are_a_list_or_text_with_commas(hosts: Any) -> None:
    assert Emulator(webhook_hosts=hosts).webhook_hosts == ("app", "*.internal")


@pytest.mark.parametrize("host", ["", "http://backend", "backend:8000", "a b"])
def test_a_webhook_host_that_is_no_name_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="webhook_hosts must be host names"):
        Emulator(webhook_hosts=[host])


async def test_a_pending_time_of_ones_own_comes_before_the_generation_time() -> None:
    settings: dict[str, Any] = {"pending_time": (5, 5), "generation_time": (20, 20)}
    async with Emulator(**settings) as emulator, connect(emulator) as http:
        made = (await http.post("/v1/generations", json=WISH)).json()["data"]
        seen: dict[int, str] = {}
        for at in (0, 4, 6, 24, 26):
            await anyio.sleep(at - max(seen, default=0))
            seen[at] = emulator.status(made["id"])
        assert list(seen.values()) == [
            "pending",
            "pending",
            "processing",
            "processing",
            "completed",
        ]


@pytest.mark.parametrize(("speed", "brief"), [(1, 1.0), (10, 0.1)])
async def test_a_long_track_is_pending_for_1_s_at_most(
    speed: float, brief: float
) -> None:
    settings: dict[str, Any] = {"generation_time": (100, 100), "speed": speed}
    async with Emulator(**settings) as emulator, connect(emulator) as http:
        made = (await http.post("/v1/generations", json=WISH)).json()["data"]
        track = emulator.tracks[made["id"]]
        assert track.starts_at - track.created_at == pytest.approx(brief)
        assert track.ends_at - track.created_at == pytest.approx(100 / speed)
