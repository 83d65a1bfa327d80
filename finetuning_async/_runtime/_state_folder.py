"""The user's own folder for what programs keep, as the XDG specification names it."""

from __future__ import annotations

import os
from pathlib import Path

from finetuning_async._errors import InvalidRequestError


def state_folder(field: str) -> Path:
    """Return the user's own folder: programs started in different folders share it.

    Args:
        field: The parameter that would name another one, for the error.

    Raises:
        InvalidRequestError: The user has none, as in some containers.
    """
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA"):
        given = Path(os.environ.get(name, ""))
        if given.is_absolute():  # else ignored, as the XDG specification demands
            return given / "finetuning"
    try:
        return Path.home() / ".local" / "state" / "finetuning"
    except RuntimeError:
        pass
    allowed = (
        f"given, as the user has no home folder; set XDG_STATE_HOME, or pass {field}="
    )
    raise InvalidRequestError(field, None, allowed)
