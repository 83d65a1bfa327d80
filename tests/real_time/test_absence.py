"""The proof of absence over real sockets, on the real clock, thirty times as fast."""

from __future__ import annotations

import anyio
import pytest

from benchmarks.proofs._matrix import scaled_lookup
from finetuning_async import AsyncClient, Generation, SubmissionUnknownError
from finetuning_async.emulator import Emulator, Fault, serve

pytestmark = pytest.mark.sampled(2)

CREATE = "/v1/generations"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on no other loop


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_create_is_sent_again_only_if_a_later_one_is_listed(
    *, hangs: bool
) -> None:
    with scaled_lookup():
        async with (
            Emulator(audio=b"mp3") as emulator,
            serve(emulator) as url,
            AsyncClient(emulator.api_key, base_url=url, request_timeout=0.5) as client,
        ):
            lost = Fault("lost_before_commit", CREATE, method="POST", close=not hangs)
            emulator.add_fault(lost)
            with pytest.raises(SubmissionUnknownError, match="not sent again"):
                await client.generations.create("lone", on_unknown="resubmit")
            assert not emulator.tracks
            emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
            made: list[Generation] = []

            async def create() -> None:
                made.append(await client.generations.create("x", on_unknown="resubmit"))

            async with anyio.create_task_group() as group:
                group.start_soon(create)
                await anyio.sleep(0.3)
                later = await client.generations.create("later")
            assert list(emulator.tracks) == [later.id, made[0].id]
