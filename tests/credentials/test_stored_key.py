"""`stored_key`: the key that ``finetuning auth login`` stored, for any program."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from finetuning_async import (
    AsyncClient,
    FinetuningError,
    InvalidRequestError,
    stored_key,
)

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ft_live_0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The empty settings folder of somebody without a keyring."""
    monkeypatch.setenv("FINETUNING_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("FINETUNING_API_KEY", raising=False)
    monkeypatch.setitem(sys.modules, "keyring", None)
    return tmp_path


def _store(folder: Path, mode: int = 0o600) -> None:
    file = folder / "credentials"
    file.write_text(KEY + "\n", "utf-8")
    file.chmod(mode)


def test_a_client_uses_the_stored_key_where_it_is_asked_to(folder: Path) -> None:
    assert stored_key() is None
    _store(folder)
    assert stored_key() == KEY
    assert "ft_live_" in repr(AsyncClient(api_key=stored_key()))
    with pytest.raises(InvalidRequestError):
        AsyncClient()


def test_the_keyring_comes_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _store(folder)
    ring = ModuleType("keyring")
    ring.__spec__ = sys.__spec__  # `find_spec` wants one
    vars(ring)["get_password"] = lambda *_: KEY.replace("0", "1")
    monkeypatch.setitem(sys.modules, "keyring", ring)
    assert stored_key() == KEY.replace("0", "1")
    vars(ring)["get_password"] = lambda *_: 1 / 0  # a keyring that does not work
    assert stored_key() == KEY


@pytest.mark.skipif(sys.platform == "win32", reason="the mode means nothing there")
def test_a_key_that_others_can_read_is_not_used(folder: Path) -> None:
    _store(folder, mode=0o644)
    with pytest.raises(FinetuningError, match="other users can access") as raised:
        stored_key()
    assert "chmod 600" in str(raised.value)


def test_without_a_key_the_error_names_each_place_and_the_command_that_stores_one(
    folder: Path,
) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        AsyncClient(api_key=stored_key())
    for part in (
        "api_key must be given",
        "FINETUNING_API_KEY is not set",
        str(folder / "credentials"),
        "`finetuning auth login`",
        "stored_key()",
    ):
        assert part in str(raised.value)


def test_it_needs_nothing_of_the_command_line() -> None:
    script = (
        "import sys; from finetuning_async import stored_key; stored_key();"
        "print({'click', 'rich', 'httpx', 'finetuning_async.cli'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "set()\n"
