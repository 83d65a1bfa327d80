"""The folder of the settings, where the vendor's program has them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

FOLDER_VARIABLE: Final = "FINETUNING_CONFIG_HOME"


def config_folder() -> Path:
    """The settings folder; it need not exist.

    It is ``FINETUNING_CONFIG_HOME`` if that is set, else ``finetuning`` in the system's
    folder for settings.
    """
    value = os.environ.get(FOLDER_VARIABLE)
    try:
        return Path(value).expanduser() if value else _system_folder() / "finetuning"
    except RuntimeError:  # there is no home folder, as in some containers
        return Path(os.devnull)


def _system_folder() -> Path:
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    # The XDG specification says to ignore a relative path.
    value = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(value) if os.path.isabs(value) else home / ".config"  # noqa: PTH117 - "" is no path
