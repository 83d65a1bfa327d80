"""The settings on disk, where the vendor's program has them, and the base URL.

``config.json`` may set ``baseUrl``; its other keys belong to the vendor's program.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from finetuning_async._credentials import config_folder
from finetuning_async.cli._error_exit import InvalidInputError

if TYPE_CHECKING:
    from finetuning_async.cli._options import CommonOptions

URL_VARIABLE: Final = "FINETUNING_BASE_URL"
SERVICE: Final = "https://pub.finetuning.ai"

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """The URL of the service, and what set it."""

    url: str
    origin: str


def config_file(common: CommonOptions) -> Path:
    """The settings file: ``--config``, else ``config.json`` in the settings folder."""
    return Path(common.config) if common.config else config_folder() / "config.json"


def base_url(common: CommonOptions) -> ServiceAddress:
    """The service to use: from the option, the environment, the file, or the default.

    Raises:
        InvalidInputError: The settings file is needed and cannot be read.
    """
    if common.base_url:
        return ServiceAddress(common.base_url, "--base-url")
    from_environment = os.environ.get(URL_VARIABLE)
    if from_environment:
        return ServiceAddress(from_environment, URL_VARIABLE)
    file = config_file(common)
    from_file = _read(file, must_exist=bool(common.config)).get("baseUrl")
    if not from_file:
        return ServiceAddress(SERVICE, "default")
    if not isinstance(from_file, str):
        kind = type(from_file).__name__
        raise InvalidInputError(f"baseUrl in {file} must be a string, got {kind}")
    return ServiceAddress(from_file, str(file))


def _read(file: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError, PermissionError) as problem:
        if must_exist:
            raise InvalidInputError(
                f"cannot read --config {file}: {problem.strerror}"
            ) from None
        return {}  # it does not exist, or belongs to another user
    except (OSError, ValueError, RecursionError) as problem:
        raise InvalidInputError(
            f"cannot read the settings in {file}: {problem}"
        ) from None
    if not isinstance(settings, dict):
        kind = type(settings).__name__
        raise InvalidInputError(
            f"the settings in {file} must be a JSON object, got {kind}"
        )
    return settings


def on_loopback(url: str) -> bool:
    """Whether a URL is on this machine."""
    try:
        return urlsplit(url).hostname in _LOOPBACK
    except ValueError:  # the client reports what is wrong with it
        return False
