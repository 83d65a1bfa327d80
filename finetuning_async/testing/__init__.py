"""What a suite of your own needs: the clock that jumps, on both event loops.

    import anyio
    from finetuning_async.testing import jumping_backend

    name, options = jumping_backend("asyncio")
    anyio.run(anyio.sleep, 3600, backend=name, backend_options=options)  # at once

Give one of `jumping_backend("asyncio")` and `jumping_backend("trio")` to anyio's
``anyio_backend`` fixture, and every ``anyio.sleep`` of a test ends at once: hours of
traffic take seconds. It stands still while a worker thread is at work, as FastAPI's
``def`` routes are; but it does not wait for a socket or another process, so only
in-process tests can use it.
"""

from finetuning_async.testing._clock import JumpingEventLoop, jumping_backend

__all__ = ["JumpingEventLoop", "jumping_backend"]
