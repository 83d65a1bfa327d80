"""Synchronous code: a portal runs the client in an event loop in its own thread."""

from anyio.from_thread import start_blocking_portal

from finetuning_async import AsyncClient

with start_blocking_portal() as portal:
    with portal.wrap_async_context_manager(AsyncClient()) as client:
        track = portal.call(client.generate, "lofi chill piano night")
        path = portal.call(client.download, track, "track.mp3")
        print(path.stat().st_size, "bytes,", track.duration, "s")
