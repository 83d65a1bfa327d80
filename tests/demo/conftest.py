"""The demo's tests run on asyncio, like FastAPI's."""

from tests.fastapi.conftest import anyio_backend

__all__ = ["anyio_backend"]
