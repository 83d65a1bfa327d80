"""The control API under ``/_emulator/``: the emulator from any language, over HTTP.

_app        the ASGI app around the service: access, routes, errors
_access     who may use it: this machine, or whoever has the token
_handlers   one function per method and path
_page       the page for people; page.html is all of it
_views      accounts, tracks, faults, logs as JSON
_openapi    the description of both APIs; _service_paths, _control_paths and
            _schemas are its parts
"""

from __future__ import annotations

from finetuning_async.emulator._admin._app import ControlApp

__all__ = ["ControlApp"]
