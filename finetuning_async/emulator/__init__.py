"""A stand-in for the whole finetuning.ai service."""

from __future__ import annotations

try:
    import lameenc as _lameenc  # noqa: F401 - only to see that it is there
    import starlette as _starlette  # noqa: F401 - only to see that it is there
    import uvicorn as _uvicorn  # noqa: F401 - only to see that it is there
except ImportError as _missing:
    _HINT = (
        f"the emulator needs {_missing.name}: pip install 'finetuning-async[emulator]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

from finetuning_async.emulator._emulator import Emulator
from finetuning_async.emulator._faults import Fault
from finetuning_async.emulator._records import RateLimit, RateLimits
from finetuning_async.emulator._serve import serve
from finetuning_async.emulator._settings import EmulatorSettings

__all__ = ["Emulator", "EmulatorSettings", "Fault", "RateLimit", "RateLimits", "serve"]
