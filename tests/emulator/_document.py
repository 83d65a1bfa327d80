"""Responses checked against the OpenAPI document by validators that are not ours."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

from finetuning_async.emulator._admin._openapi import document

if TYPE_CHECKING:
    import httpx

DOCUMENT: dict[str, Any] = json.loads(json.dumps(document()))


def check_document(found: dict[str, Any]) -> None:
    """Raise unless this is a valid OpenAPI document."""
    from openapi_spec_validator import validate  # takes long to load

    validate(found)


async def check_response(response: httpx.Response) -> None:
    """Raise unless the document describes this response; an event hook of httpx."""
    request = response.request
    operation = operation_of(request.method, request.url.path)
    kind = response.headers.get("Content-Type", "")
    if operation is None:
        assert response.status_code == 404, request.url
        schema = {"$ref": "#/components/schemas/Error"}
    else:
        described = operation["responses"].get(str(response.status_code))
        assert described is not None, (request.method, request.url, response)
        content = described.get("content", {})
        if "application/json" not in content:
            assert "application/json" not in kind
            return
        schema = content["application/json"]["schema"]
    if request.method != "HEAD":
        await response.aread()
        check_value(schema, response.json())


def check_value(schema: dict[str, Any], value: Any) -> None:
    """Raise unless a value fits a schema of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    Draft202012Validator(whole).validate(value)


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """The operation of a request; ``None`` if the document has none."""
    if path.startswith("/audio/"):  # the media host of the in-process transport
        path = f"/media{path}"
    method = "get" if method == "HEAD" else method.lower()
    for template, item in DOCUMENT["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and method in item:
            found: dict[str, Any] = item[method]
            return found
    return None
