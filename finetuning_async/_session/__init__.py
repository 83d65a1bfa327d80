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
        session_of as session_of,
    )
    from finetuning_async._session._settings import (
        Settings as Settings,
        read_secrets as read_secrets,
    )
    from finetuning_async._session._waits import (
        check_callback as check_callback,
        check_timeout as check_timeout,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._session": ("BoundLoop", "OpenCalls", "Session", "session_of"),
            "._settings": ("Settings", "read_secrets"),
            "._waits": ("check_callback", "check_timeout"),
        },
    )
