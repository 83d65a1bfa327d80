"""Creates that are refused, wait and fail, for tests of what is reported of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from finetuning_async import GenerationFailedError
from finetuning_async.emulator import Fault

if TYPE_CHECKING:
    from finetuning_async import AsyncClient
    from finetuning_async.emulator import Emulator

CREATE: Final = "/v1/generations"

REFUSAL: Final = Fault(
    "status", CREATE, status=429, code="GENERATION_RATE_LIMITED", retry_after=7
)
"""Seven seconds, after which the same create is accepted."""


async def complete_one_and_fail_one(emulator: Emulator, client: AsyncClient) -> None:
    """Make a track whose create is refused at first, and one that fails."""
    emulator.add_fault(REFUSAL)
    await client.generate("x")
    emulator.add_fault(Fault("fail", CREATE))
    with pytest.raises(GenerationFailedError):
        await client.generate("y")
