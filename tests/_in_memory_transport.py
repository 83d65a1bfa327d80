"""Our transport over an in-memory network, with each kind of HTTP client."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
import httpcore
import httpcore2
import httpx
import httpx2

from finetuning_async._api._messages import Call
from finetuning_async._http._concurrency import FEW_READS, READS, Concurrency
from finetuning_async._http._http_clients import ClientPool
from finetuning_async._http._timeouts import as_timeout
from finetuning_async._http._transport import Transport
from finetuning_async._secrets import ApiKey
from tests._in_memory_network import Net

if TYPE_CHECKING:
    import pytest

Kind: TypeAlias = Literal["our own", "httpx", "httpx2"]
KINDS: Final[tuple[Kind, ...]] = ("our own", "httpx", "httpx2")
"""Whose client sends: our own (of httpx), or a caller's of httpx or httpx2."""

KEY: Final = "ft_live_" + "d" * 32
GET: Final = Call(
    method="GET", path="/v1/me", query={"limit": 5, "status": "a b"}, repeatable=True
)
POST: Final = Call(
    method="POST", path="/v1/generations", body={"a": "ü"}, repeatable=False
)
_TLS: Final = ssl.create_default_context()
_PROXY_VARIABLES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@attrs.define(eq=False)
class Wire:
    """A network, and transports that are connected to it.

    Attributes:
        kind: Whose client sends.
        net: The network.
        callers_clients: Clients that a caller would have made.
    """

    kind: Kind
    net: Net
    callers_clients: list[Any] = attrs.field(factory=list)

    @property
    def reads(self) -> int:
        """How many read slots there are."""
        return FEW_READS if self.kind == "httpx" else READS

    @property
    def is_ours(self) -> bool:
        """Whether the client is our own."""
        return self.kind == "our own"

    def transport(
        self, timeout: float | httpx.Timeout = 30.0, **options: Any
    ) -> Transport:
        """A transport with its own connections and slots."""
        return Transport(
            pool=ClientPool(self._client()),
            base_url="https://service.example/api",
            key=ApiKey(KEY),
            timeout=as_timeout(timeout),
            **{"concurrency": Concurrency(), **options},
        )

    def _client(self) -> Any:
        if self.is_ours:
            return None
        library: Any = httpx if self.kind == "httpx" else httpx2
        self.callers_clients.append(library.AsyncClient(verify=_TLS, trust_env=False))
        return self.callers_clients[-1]

    async def close(self, transport: Transport) -> None:
        """Close a transport, and the clients that its caller would close."""
        await transport.pool.aclose()
        while self.callers_clients:
            await self.callers_clients.pop().aclose()


def wire_in_memory(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Replace the real network by one in memory."""
    for name in _PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    core: Any = httpcore2 if kind == "httpx2" else httpcore
    net = Net(core)
    target = f"{core.__name__}._async.connection_pool.AutoBackend"
    monkeypatch.setattr(target, net)
    return Wire(kind, net)


def has_all_slots(transport: Transport) -> bool:
    """Whether all slots are free."""
    ours, fresh = transport.concurrency, Concurrency()
    return all(
        getattr(ours, name).free == getattr(fresh, name).free
        for name in ("reads", "few_reads", "creates", "downloads")
    )
