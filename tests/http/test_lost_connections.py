"""A call that is cancelled at any step loses no connection of httpcore's pool."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from finetuning_async._api._messages import Call
from finetuning_async._http._http_clients import ClientPool
from finetuning_async._http._timeouts import as_timeout
from finetuning_async._http._transport import Transport
from tests._cancellations import STEP_CANCELLERS, StepCanceller, cancel_at_step
from tests._in_memory_network import Net
from tests.downloads.test_connections import idle_connections

READ = Call(method="GET", path="/v1/me")
CREATE = Call(
    method="POST", path="/v1/generations", body={"prompt": "x"}, repeatable=False
)


@pytest.mark.parametrize("canceller", STEP_CANCELLERS)
@pytest.mark.parametrize("call", [READ, CREATE], ids=["read", "create"])
def test_a_call_cancelled_at_any_step_loses_no_connection(
    call: Call, canceller: StepCanceller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    net = Net()
    monkeypatch.setattr("httpcore._async.connection_pool.AutoBackend", net)

    async def main(run_cancelled: Any) -> None:
        net.streams.clear()
        transport = Transport(
            pool=ClientPool(None),
            base_url="https://service.example",
            key=None,
            timeout=as_timeout(30.0),
        )
        await run_cancelled(partial(transport.send, call))
        connections = idle_connections(transport.pool)
        assert all(connection.is_idle() for connection in connections)
        assert len(net.open()) == len(connections)
        await transport.pool.aclose()
        assert not net.open()

    step = 1
    while cancel_at_step(canceller, step, main):
        step += 1
    assert step > 5
