"""Which HTTP library a caller's client belongs to, and what it calls itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from finetuning_async import AsyncClient, InvalidRequestError, __version__
from finetuning_async._http._http_clients import ClientPool
from finetuning_async._http._http_library import HTTPX, Library, library_of

if TYPE_CHECKING:
    from types import ModuleType


class Own(httpx.AsyncClient):
    """A caller's client."""


def transport(library: Any) -> Any:
    return library.MockTransport(lambda _: library.Response(200))


async def test_an_async_client_of_either_library_is_used_as_it_is() -> None:
    async with Own(transport=transport(httpx)) as http:
        assert library_of(http) is HTTPX
        assert ClientPool(http).acquire().client is http
    async with httpx2.AsyncClient(transport=transport(httpx2)) as http2:
        library = library_of(http2)
        assert library is not None
        assert library.Request is httpx2.Request


async def test_a_client_that_is_not_async_or_of_another_library_is_refused() -> None:
    wrong: list[Any] = [AsyncClient("ft_live_" + "0" * 32), "a name", httpx]
    with httpx.Client(transport=transport(httpx)) as blocking:
        for client in (*wrong, blocking):
            with pytest.raises(InvalidRequestError, match=r"^http_client"):
                ClientPool(client)


@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_the_user_agent_has_the_version_of_each_part(module: ModuleType) -> None:
    python = "{}.{}.{}".format(*sys.version_info)
    name = f"{module.__name__}/{module.__version__}"
    expected = f"finetuning-async/{__version__} python/{python} {name}"
    assert Library(module).user_agent == expected
