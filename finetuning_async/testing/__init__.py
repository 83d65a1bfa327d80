"""For your own test suite: a clock that jumps over waits, on both event loops.

    import anyio
    from finetuning_async.testing import jumping_backend

    name, options = jumping_backend("asyncio")
    anyio.run(anyio.sleep, 3600, backend=name, backend_options=options)  # at once

Return `jumping_backend("asyncio")` or `jumping_backend("trio")` from anyio's
``anyio_backend`` fixture, and every ``anyio.sleep`` of a test ends at once: hours of
traffic take seconds. The clock stands still while a worker thread works, as FastAPI's
``def`` routes do. It does not wait for a socket or another process, so only in-process
tests can use it.

`EmulatorProcess` is the emulator in a process of its own, for a suite that reaches it
over HTTP; in the CI of another language, ``finetuning emulator --json`` is the same.

    fixtures   pytest fixtures: `emulator` and a `client` of it
    _clock     the clocks
    _process   the emulator as a process
"""

from finetuning_async.testing._clock import JumpingEventLoop, jumping_backend
from finetuning_async.testing._process import EmulatorProcess

__all__ = ["EmulatorProcess", "JumpingEventLoop", "jumping_backend"]
