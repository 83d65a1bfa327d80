"""The one event loop that a client may be used in.

A client's poll loop, locks and cancel scopes belong to the loop that they were made in:
from another loop they would hang or corrupt each other. So a client is bound to the
loop of its first call and refuses a second one while the first is alive. Once that loop
has ended, as after each `asyncio.run`, the client may be bound anew.
"""

from __future__ import annotations

import os
from typing import Any

from anyio.lowlevel import EventLoopToken, current_token

from finetuning_async._errors import FinetuningError


class BoundLoop:
    """The event loop that a client is bound to."""

    def __init__(self) -> None:
        self._token: EventLoopToken | None = None
        self._process = 0

    def is_new(self) -> bool:
        """Bind to the running loop; whether it differs from the last one.

        Raises:
            FinetuningError: The last one is still alive.
        """
        token = current_token()
        # Tokens are made anew at each call; only the loop behind them is the same.
        if self._token is None or token.native_token is not self._token.native_token:
            # A forked child lacks the thread of its parent's loop.
            is_ours = self._process == os.getpid()
            if self._token is not None and is_ours and _is_alive(self._token):
                raise FinetuningError(
                    "this AsyncClient is bound to another event loop, which is still"
                    " open; create one client per event loop"
                )
            self._token, self._process = token, os.getpid()
            return True
        return False


def _is_alive(token: EventLoopToken) -> bool:
    native: Any = token.native_token
    if hasattr(native, "is_closed"):  # asyncio's loop
        return not native.is_closed()
    # trio has no such method, but its token refuses work once the run has ended.
    try:
        native.run_sync_soon(lambda: None)
    except RuntimeError:  # `trio.RunFinishedError` is a RuntimeError
        return False
    return True
