"""What the tests of creates with a key share."""

from __future__ import annotations

from typing import Any

import pytest

from finetuning_async import (
    AsyncClient,
    GenerationRequest,
    SubmissionUnknownError,
)
from finetuning_async.emulator import Emulator, Fault
from tests._client_journals import open_journal

CREATE = "/v1/generations"


RAIN = GenerationRequest("rain", idempotency_key="k")


def posts(emulator: Emulator) -> int:
    return sum(request.method == "POST" for request in emulator.requests)


async def in_doubt(
    emulator: Emulator, client: AsyncClient, fault: Any, **options: Any
) -> SubmissionUnknownError:
    """Create with a key so that its response is lost and no list shows its fate."""
    await open_journal(client)
    emulator.add_fault(Fault(fault, CREATE, method="POST"))
    emulator.add_fault(Fault("status", CREATE, method="GET", times=None))
    with pytest.raises(SubmissionUnknownError) as caught:
        await client.generate("rain", idempotency_key="k", **options)
    emulator.clear_faults()
    return caught.value
