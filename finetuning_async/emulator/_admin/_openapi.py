"""The OpenAPI document of the service and of the control API."""

from __future__ import annotations

from functools import cache
from typing import Any

from finetuning_async.emulator._admin import (
    _control_paths,
    _schemas,
    _service_paths,
)

_ABOUT = (
    "An emulator of the finetuning.ai API, made from its published documentation: not"
    " the service. Paths under /_emulator/ control the emulator and do not exist there."
)


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1; the same for every emulator."""
    whole: dict[str, Any] = {
        **_service_paths.paths(),
        **_control_paths.paths(),
    }
    for path, item in whole.items():
        parameters = _service_paths.path_parameters(path)
        if parameters:
            item["parameters"] = parameters
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "finetuning.ai, emulated",
            "version": "1.2",
            "description": _ABOUT,
        },
        "servers": [{"url": "/"}],
        "paths": whole,
        "components": {
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "adminToken": {"type": "http", "scheme": "bearer"},
            },
            "schemas": {**_schemas.SERVICE, **_schemas.control()},
        },
    }
