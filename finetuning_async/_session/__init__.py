"""A client bound to its event loop.

_session         the parts of one client in its event loop, and its open calls
_account_state   what all clients of one account share in an event loop
_waits           waits for the end of a track, and for its states
_settings        what a client was given, checked, or read from the environment
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._session._session import (
        BoundLoop as BoundLoop,
        OpenCalls as OpenCalls,
        Session as Session,
    )
    from finetuning_async._session._settings import (
        Settings as Settings,
        read_secrets as read_secrets,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._session": ("BoundLoop", "OpenCalls", "Session"),
            "._settings": ("Settings", "read_secrets"),
        },
    )
