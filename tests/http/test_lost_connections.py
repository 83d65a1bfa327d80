"""A call that is cancelled at any step loses no connection of the library's pool."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from finetuning_async._api._messages import Call
from finetuning_async._http._http_clients import ClientPool
from finetuning_async._http._timeouts import as_timeout
from finetuning_async._http._transport import Transport
from tests._cancellations import STEPS, StepMeans, strike
from tests._in_memory_network import Net
from tests.downloads.test_connections import idle_connections

READ = Call(method="GET", path="/v1/me")
CREATE = Call(
    method="POST", path="/v1/generations", body={"prompt": "x"}, repeatable=False
)


@pytest.mark.parametrize("means", STEPS)
@pytest.mark.parametrize("call", [READ, CREATE], ids=["read", "create"])
def test_cancelled_at_every_step_a_call_loses_no_connection(
    call: Call, means: StepMeans, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    net = Net()
    monkeypatch.setattr("httpcore._async.connection_pool.AutoBackend", net)

    async def main(struck: Any) -> None:
        net.opened.clear()
        transport = Transport(
            pool=ClientPool(None),
            base_url="https://service.example",
            key=None,
            timeout=as_timeout(30.0),
        )
        await struck(partial(transport.send, call))
        left = idle_connections(transport.pool)
        assert all(connection.is_idle() for connection in left)
        assert len(net.open()) == len(left)
        await transport.pool.aclose()
        assert not net.open()

    step = 1
    while strike(means, step, main):
        step += 1
    assert step > 5
