"""An unannounced change of the public API fails here."""

from __future__ import annotations

import difflib

from finetuning_async import FinetuningError
from tests.release._names import every_name
from tests.release.public_api import SNAPSHOT, described

RENEW = "python -m tests.release.public_api"


def test_the_public_api_is_the_announced_one() -> None:
    announced = SNAPSHOT.read_text(encoding="utf-8").splitlines()
    changed = difflib.unified_diff(announced, described().splitlines(), lineterm="")
    assert list(changed) == [], f"if it is meant: {RENEW}, and say so in CHANGELOG.md"


def test_every_public_error_is_in_the_one_tree() -> None:
    errors = [
        found.value
        for found in every_name()
        if isinstance(found.value, type) and issubclass(found.value, Exception)
    ]
    assert FinetuningError in errors
    assert [error for error in errors if not issubclass(error, FinetuningError)] == []
