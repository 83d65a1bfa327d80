"""The settings on disk, where the vendor's program has them, and the service they name.

``config.json`` may hold ``baseUrl``; its other keys are the vendor's program's own.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from finetuning_async.cli._error_exit import Refused

if TYPE_CHECKING:
    from finetuning_async.cli._options import Common

URL_VARIABLE: Final = "FINETUNING_BASE_URL"
FOLDER_VARIABLE: Final = "FINETUNING_CONFIG_HOME"
SERVICE: Final = "https://pub.finetuning.ai"

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A service, and who named it."""

    url: str
    origin: str


def config_folder() -> Path:
    """The folder of the settings; it need not exist.

    ``FINETUNING_CONFIG_HOME`` is the whole of it. Else it is ``finetuning`` in the
    folder that the system has for settings.
    """
    told = os.environ.get(FOLDER_VARIABLE)
    try:
        return Path(told).expanduser() if told else _system_folder() / "finetuning"
    except RuntimeError:  # nobody has said where home is, as in some containers
        return Path(os.devnull)


def _system_folder() -> Path:
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    # The XDG specification: a relative path is to be ignored.
    told = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(told) if os.path.isabs(told) else home / ".config"  # noqa: PTH117 - "" is no path


def config_file(common: Common) -> Path:
    """The file: the option, else ``config.json`` in the folder."""
    return Path(common.config) if common.config else config_folder() / "config.json"


def base_url(common: Common) -> ConfigSource:
    """The service to ask: the option, the environment, the file, or the real one.

    Raises:
        Refused: The file is needed and cannot be read.
    """
    if common.base_url:
        return ConfigSource(common.base_url, "--base-url")
    from_environment = os.environ.get(URL_VARIABLE)
    if from_environment:
        return ConfigSource(from_environment, URL_VARIABLE)
    file = config_file(common)
    from_file = _read(file, must_exist=bool(common.config)).get("baseUrl")
    if not from_file:
        return ConfigSource(SERVICE, "default")
    if not isinstance(from_file, str):
        raise Refused(f"{file}: baseUrl is not text")
    return ConfigSource(from_file, str(file))


def _read(file: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError, PermissionError) as problem:
        if must_exist:
            reason = problem.strerror
            raise Refused(f"--config {file} cannot be read: {reason}") from None
        return {}  # it is not there, or it is somebody else's
    except (OSError, ValueError, RecursionError) as problem:
        raise Refused(f"the settings in {file} cannot be read: {problem}") from None
    if not isinstance(settings, dict):
        raise Refused(f"the settings in {file} are no JSON object")
    return settings


def on_loopback(url: str) -> bool:
    """Whether a service is on this machine."""
    try:
        return urlsplit(url).hostname in _LOOPBACK
    except ValueError:  # the client will say what is wrong with it
        return False
