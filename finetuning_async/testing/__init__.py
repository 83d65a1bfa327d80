"""What a suite of your own needs: the clock that jumps, on both event loops.

Give one of `jumping_backend("asyncio")` and `jumping_backend("trio")` to anyio's
``anyio_backend`` fixture, and every ``anyio.sleep`` of a test ends at once: hours of
traffic take seconds. Only in-process tests can use it; a clock that jumps does not wait
for a socket, a thread or another process.
"""

from finetuning_async.testing._clock import JumpingEventLoop, jumping_backend

__all__ = ["JumpingEventLoop", "jumping_backend"]
