"""A transport of ours over the network in memory, by each client that there may be."""

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
"""Whose client sends: our own, which is httpx's, or one of the caller's."""

KEY: Final = "ft_live_" + "d" * 32
GET: Final = Call(
    method="GET", path="/v1/me", query={"limit": 5, "status": "a b"}, repeatable=True
)
POST: Final = Call(
    method="POST", path="/v1/generations", body={"a": "ü"}, repeatable=False
)
_TLS: Final = ssl.create_default_context()
_NETWORKS: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@attrs.define(eq=False)
class Wire:
    """A network, and clients that are connected with it.

    Attributes:
        kind: Whose they are.
        net: The network.
        given: The clients that were made for callers.
    """

    kind: Kind
    net: Net
    given: list[Any] = attrs.field(factory=list)

    @property
    def reads(self) -> int:
        """How many reads may be on the wire at a time."""
        return FEW_READS if self.kind == "httpx" else READS

    @property
    def is_ours(self) -> bool:
        """Whether clients are our own."""
        return self.kind == "our own"

    def transport(
        self, timeout: float | httpx.Timeout = 30.0, **options: Any
    ) -> Transport:
        """A transport with connections and places of its own."""
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
        self.given.append(library.AsyncClient(verify=_TLS, trust_env=False))
        return self.given[-1]

    async def close(self, transport: Transport) -> None:
        """Close a transport, and what its caller would."""
        await transport.pool.aclose()
        while self.given:
            await self.given.pop().aclose()


def wired(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """A network in memory in the place of the real one."""
    for name in _NETWORKS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    core: Any = httpcore2 if kind == "httpx2" else httpcore
    net = Net(core)
    place = f"{core.__name__}._async.connection_pool.AutoBackend"
    monkeypatch.setattr(place, net)
    return Wire(kind, net)


def is_whole(transport: Transport) -> bool:
    """Whether all places on the wire are free."""
    ours, fresh = transport.concurrency, Concurrency()
    return all(
        getattr(ours, name).free == getattr(fresh, name).free
        for name in ("reads", "few_reads", "creates", "downloads")
    )
