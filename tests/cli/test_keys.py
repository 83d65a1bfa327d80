"""Where the key and the settings come from: login, logout, stdin, keyring, file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async._credentials import config_folder
from finetuning_async.cli import _keys
from finetuning_async.cli.commands import auth

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

KEY = "ft_live_0123456789abcdef0123456789abcdef"
OTHER = "ft_live_" + 32 * "f"

needs_owners = pytest.mark.skipif(
    not hasattr(os, "geteuid"), reason="files have no owners and no modes here"
)


class Keyring(ModuleType):
    """A keyring with one account; it may be broken."""

    def __init__(self, kept: str | None = None, *, broken: bool = False) -> None:
        super().__init__("keyring")
        self.__spec__ = sys.__spec__
        self.kept = kept
        self.broken = broken

    def get_password(self, service: str, account: str) -> str | None:
        assert (service, account) == ("finetuning", "default")
        if self.broken:
            raise RuntimeError("no recommended backend was available")
        return self.kept

    def set_password(self, service: str, account: str, password: str) -> None:
        self.get_password(service, account)
        self.kept = password

    def delete_password(self, service: str, account: str) -> None:
        self.get_password(service, account)
        self.kept = None


@pytest.fixture
def keyring(finetuning: Run, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    del finetuning  # it must run first: it removes the keyring
    ring = Keyring()
    monkeypatch.setitem(sys.modules, "keyring", ring)
    return ring


@pytest.fixture
def service_without_key(service: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The service, without a key in the environment."""
    monkeypatch.delenv("FINETUNING_API_KEY")
    return service


def _file() -> Path:
    return Path(os.environ["FINETUNING_CONFIG_HOME"], "credentials")


def _store(text: str, mode: int = 0o600) -> Path:
    file = _file()
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def test_login_checks_the_key_and_stores_it_in_a_private_file(
    finetuning: Run, service_without_key: Any
) -> None:
    ran = finetuning(["auth", "login", "--stdin"], input=KEY + "\r\n")
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "Logged in as dev@example.org" in ran.stderr
    assert service_without_key.keys[-1] == KEY
    assert _file().read_text() == KEY + "\n"
    assert _file().stat().st_mode & 0o777 == 0o600
    assert _file().parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in _file().parent.iterdir()] == ["credentials"]
    assert KEY not in ran.output


def test_the_stored_key_is_used(finetuning: Run, service_without_key: Any) -> None:
    finetuning(["auth", "login"], input=KEY)
    assert finetuning(["auth", "whoami"]).exit_code == 0
    assert service_without_key.keys[-1] == KEY
    out = finetuning(["doctor"]).stdout
    assert f"key      ft_live_0123**** ({_file()})" in out


def test_a_key_that_the_service_rejects_is_not_stored(
    finetuning: Run, service_without_key: Any
) -> None:
    service_without_key.respond("GET /v1/me", "error_invalid_api_key", status=401)
    ran = finetuning(["auth", "login"], input=KEY)
    assert ran.exit_code == 1
    assert "401 INVALID_API_KEY" in ran.stderr
    assert ran.stderr.endswith("The key was not stored.\n")
    assert not _file().exists()


def test_login_stores_nothing_if_the_response_is_unreadable(
    finetuning: Run, service_without_key: Any
) -> None:
    service_without_key.respond("GET /v1/me", b"<html>", status=200)
    assert finetuning(["auth", "login"], input=KEY).exit_code == 1
    assert not _file().exists()


@pytest.mark.parametrize("given", ["", "\n", "sk_1", KEY + "0", KEY[:-1] + "ä"])
def test_login_rejects_a_malformed_key_and_does_not_repeat_it(
    finetuning: Run, service_without_key: Any, given: str
) -> None:
    ran = finetuning(["auth", "login"], input=given)
    assert ran.exit_code == 2
    assert not given.strip() or given.strip() not in ran.output
    assert not service_without_key.requests


def test_login_rejects_bytes_that_are_not_utf_8(
    finetuning: Run, service_without_key: Any
) -> None:
    assert finetuning(["auth", "login"], input=b"\xff\xfe\n").exit_code == 2


def test_login_with_a_closed_stdin_is_an_error(
    finetuning: Run, service_without_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_keys, "_read_first_line", lambda: "")
    ran = finetuning(["auth", "login"])
    assert "no API key on stdin" in ran.stderr


def test_login_at_a_terminal_prompts_without_echo(
    finetuning: Run, service_without_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_keys, auth):
        monkeypatch.setattr(module, "is_terminal", lambda _: True)
    ran = finetuning(["auth", "login"], input=KEY + "\n")
    assert ran.exit_code == 0
    assert ran.stderr.startswith("Create a key under Profile > API")
    assert "API key:" in ran.stderr
    assert KEY not in ran.output


def test_login_uses_the_base_url_option(
    finetuning: Run, service_without_key: Any
) -> None:
    args = ["auth", "login", "--base-url", "http://127.0.0.1:8787"]
    ran = finetuning(args, input="any-key")
    assert ran.exit_code == 0
    assert service_without_key.requests[0].url.host == "127.0.0.1"
    assert "is used only with --base-url" in ran.stderr


def test_login_and_logout_say_that_the_environment_takes_precedence(
    finetuning: Run, service: Any
) -> None:
    assert (
        "FINETUNING_API_KEY is set" in finetuning(["auth", "login"], input=KEY).stderr
    )
    assert "FINETUNING_API_KEY is set" in finetuning(["auth", "logout"]).stderr


def test_quiet_login_and_logout_print_nothing(finetuning: Run, service: Any) -> None:
    assert finetuning(["auth", "login", "-q"], input=KEY).output == ""
    assert finetuning(["auth", "logout", "-q"]).output == ""


def test_login_replaces_a_symbolic_link_and_keeps_its_target(
    finetuning: Run, service_without_key: Any
) -> None:
    target = Path("precious")
    target.write_text("mine")
    _file().parent.mkdir(mode=0o700)
    _file().symlink_to(target.absolute())
    assert finetuning(["auth", "login"], input=KEY).exit_code == 0
    assert target.read_text() == "mine"
    assert not _file().is_symlink()


def test_a_key_is_not_stored_where_others_can_write(
    finetuning: Run, service_without_key: Any
) -> None:
    _file().parent.mkdir()
    _file().parent.chmod(0o777)
    ran = finetuning(["auth", "login"], input=KEY)
    assert ran.exit_code == 2
    assert f"chmod 700 {_file().parent}" in ran.stderr
    assert not _file().exists()


def test_a_failed_write_keeps_the_older_key_and_leaves_no_temporary_file(
    finetuning: Run, service_without_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    _store(OTHER)
    monkeypatch.setattr(os, "fsync", full)
    ran = finetuning(["auth", "login"], input=KEY)
    assert ran.exit_code == 1
    assert "cannot store the key" in ran.stderr
    assert _file().read_text() == OTHER
    assert len(list(_file().parent.iterdir())) == 1


@needs_owners
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_file_that_others_can_access_is_not_used(
    finetuning: Run, service_without_key: Any, mode: int
) -> None:
    _store(KEY, mode)
    ran = finetuning(["me"])
    assert ran.exit_code == 2
    assert f"chmod 600 {_file()}" in ran.stderr
    assert not service_without_key.requests


@needs_owners
def test_a_folder_or_a_pipe_as_key_file_is_rejected(
    finetuning: Run, service_without_key: Any
) -> None:
    _file().parent.mkdir()
    os.mkfifo(_file(), 0o600)
    assert "is not a regular file" in finetuning(["me"]).stderr
    _file().unlink()
    _file().mkdir()
    assert finetuning(["me"]).exit_code == 2
    assert finetuning(["auth", "logout"]).exit_code == 1


def test_logout_removes_the_file(finetuning: Run, service_without_key: Any) -> None:
    _store(KEY)
    assert finetuning(["auth", "logout"]).stderr == f"Removed: {_file()}\n"
    assert not _file().exists()
    ran = finetuning(["auth", "logout"])
    assert (ran.exit_code, ran.stderr) == (0, "No key was stored.\n")


def test_a_key_on_stdin_takes_precedence(finetuning: Run, service: Any) -> None:
    _store(OTHER)
    for args in (["me", "--api-key-stdin"], ["--api-key-stdin", "doctor"]):
        ran = finetuning(args, input=f"\ufeff {OTHER} \nmore\n")
        assert ran.exit_code == 0
        assert service.keys[-1] == OTHER
    assert "ft_live_ffff**** (--api-key-stdin)" in ran.stdout


def test_the_environment_takes_precedence_over_the_stored_key(
    finetuning: Run, service: Any
) -> None:
    _store(OTHER)
    finetuning(["me"])
    assert service.keys[-1] == KEY


def test_no_option_takes_the_key(finetuning: Run, service: Any) -> None:
    ran = finetuning(["me", "--api-key", KEY])
    assert ran.exit_code == 2
    assert KEY not in ran.output


def test_login_prefers_the_keyring_and_removes_the_file(
    finetuning: Run, service_without_key: Any, keyring: Keyring
) -> None:
    _store(OTHER)
    ran = finetuning(["auth", "login"], input=KEY)
    assert ran.stderr.endswith("Key stored in: OS keyring\n")
    assert keyring.kept == KEY
    assert not _file().exists()
    assert "ft_live_0123**** (OS keyring)" in finetuning(["doctor"]).stdout


def test_logout_clears_both(
    finetuning: Run, service_without_key: Any, keyring: Keyring
) -> None:
    keyring.kept = KEY
    _store(OTHER)
    ran = finetuning(["auth", "logout"])
    assert ran.stderr == f"Removed: OS keyring, {_file()}\n"
    assert keyring.kept is None


def test_a_broken_keyring_is_skipped(
    finetuning: Run, service_without_key: Any, keyring: Keyring
) -> None:
    keyring.broken = True
    ran = finetuning(["auth", "login"], input=KEY)
    assert ran.exit_code == 0
    assert "not used" not in ran.stderr
    assert _file().read_text().strip() == KEY
    ran = finetuning(["me", "-v"])
    assert "keyring not used: RuntimeError: no recommended backend" in ran.stderr
    assert finetuning(["auth", "logout"]).exit_code == 0


def test_a_keyring_that_stores_nothing_is_noticed(
    finetuning: Run,
    service_without_key: Any,
    keyring: Keyring,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyring, "set_password", lambda *_: None)
    finetuning(["auth", "login"], input=KEY)
    assert _file().read_text().strip() == KEY


def test_with_a_key_in_the_environment_the_keyring_is_not_used(
    finetuning: Run, service: Any, keyring: Keyring
) -> None:
    keyring.broken = True
    assert "not used" not in finetuning(["me", "-v"]).stderr


def _settings(**settings: Any) -> Path:
    file = _file().with_name("config.json")
    file.parent.mkdir(exist_ok=True)
    file.write_text("\ufeff" + json.dumps(settings))
    return file


def test_the_settings_set_the_base_url(finetuning: Run, service: Any) -> None:
    file = _settings(baseUrl="http://127.0.0.1:8787/", defaultBpm=120)
    out = finetuning(["doctor"]).stdout
    assert f"service  http://127.0.0.1:8787/ ({file})" in out
    assert f"config   {file}\n" in out
    assert {request.url.port for request in service.requests} == {8787}


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_base_url_in_the_settings_the_default_is_used(
    finetuning: Run, service: Any, value: str | None
) -> None:
    _settings(baseUrl=value)
    assert "https://pub.finetuning.ai (default)" in finetuning(["doctor"]).stdout


def test_option_and_environment_take_precedence_over_the_settings(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _settings(baseUrl="http://127.0.0.1:1")
    monkeypatch.setenv("FINETUNING_BASE_URL", "http://127.0.0.1:2")
    finetuning(["me"])
    finetuning(["me", "--base-url", "http://127.0.0.1:3"])
    assert [request.url.port for request in service.requests] == [2, 3]


def test_config_selects_another_settings_file(finetuning: Run, service: Any) -> None:
    Path("mine.json").write_text('{"baseUrl": "http://127.0.0.1:4"}')
    for args in (["--config", "mine.json", "me"], ["me", "--config", "mine.json"]):
        assert finetuning(args).exit_code == 0
        assert service.requests[-1].url.port == 4


@pytest.mark.parametrize("text", ["{", "[]", '{"baseUrl": 1}', "[" * 100_000])
def test_broken_settings_are_an_error(finetuning: Run, service: Any, text: str) -> None:
    _settings().write_text(text)
    ran = finetuning(["me"])
    assert ran.exit_code == 2
    assert "config.json" in ran.stderr
    assert not service.requests


def test_a_settings_file_given_by_option_must_exist(
    finetuning: Run, service: Any
) -> None:
    ran = finetuning(["me", "--config", "nowhere.json"])
    assert ran.exit_code == 2
    assert "cannot read --config nowhere.json: No such file" in ran.stderr


@pytest.mark.parametrize("folder", [os.devnull, "~nobody-has-this-name"])
def test_an_impossible_settings_folder_is_ignored(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("FINETUNING_CONFIG_HOME", folder)
    assert finetuning(["me"]).exit_code == 0
    monkeypatch.delenv("FINETUNING_API_KEY")
    assert "no API key" in finetuning(["me"]).stderr
    assert finetuning(["auth", "logout"]).exit_code == 0
    ran = finetuning(["auth", "login"], input=KEY)
    assert (ran.exit_code, "cannot store the key" in ran.stderr) == (1, True)


def test_unreadable_settings_are_ignored(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    assert finetuning(["me"]).exit_code == 0


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, "home/.config/finetuning"),
        ("linux", {"XDG_CONFIG_HOME": "/xdg"}, "/xdg/finetuning"),
        ("linux", {"XDG_CONFIG_HOME": "relative"}, "home/.config/finetuning"),
        ("darwin", {}, "home/Library/Application Support/finetuning"),
        ("win32", {"APPDATA": "/roaming"}, "/roaming/finetuning"),
        ("win32", {"APPDATA": ""}, "home/AppData/Roaming/finetuning"),
        ("darwin", {"FINETUNING_CONFIG_HOME": "/mine"}, "/mine"),
    ],
)
def test_the_settings_folder_is_the_vendors(
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    variables: dict[str, str],
    folder: str,
) -> None:
    for name in ("XDG_CONFIG_HOME", "FINETUNING_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", "home")
    monkeypatch.setattr(sys, "platform", platform)
    assert config_folder() == Path(folder)
