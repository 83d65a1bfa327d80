"""The program as a whole: help, version, file names, sizes, the bar."""

from __future__ import annotations

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import category, normalize

import pytest
from hypothesis import given, strategies as st
from rich.progress import Task

import finetuning_async
from finetuning_async import Generation, SoundEffect
from finetuning_async._downloads import _file_names
from finetuning_async._http import _media_redirects
from finetuning_async.cli import _batch_view, _output, _progress, _progress_bar
from finetuning_async.cli._program import COMMANDS, program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from click.testing import Result

    Run = Callable[..., Result]

HELP_WITHOUT_THE_PACKAGE = """
import sys, types
package = types.ModuleType("finetuning_async")
package.__path__ = [sys.argv.pop(1)]
sys.modules["finetuning_async"] = package
from finetuning_async.cli import main
for args in sys.argv.pop(1).split(","):
    sys.argv[1:] = [*args.split(), "--help"]
    assert main() == 0, args
heavy = {"httpx", "attrs", "rich", "finetuning_async._client"}
sys.exit(f"imported {heavy & set(sys.modules)}" if heavy & set(sys.modules) else 0)
"""


def test_help_lists_the_commands_and_the_exit_codes(finetuning: Run) -> None:
    ran = finetuning(["--help"])
    assert ran.exit_code == 0
    for word in (*COMMANDS, "Exit codes:", "130", "FINETUNING_API_KEY"):
        assert word in ran.stdout


def test_each_command_has_help_that_agrees_with_the_list(finetuning: Run) -> None:
    for name, listed in COMMANDS.items():
        command = import_module(f"finetuning_async.cli.commands.{name}").command
        first = command.help.split("\n\n")[0].replace("\n", " ")
        assert first.startswith(listed.rstrip("."))
        assert finetuning([name, "--help"]).exit_code == 0, name


@pytest.mark.parametrize("args", ["", "generate", "inst", "sfx list"])
def test_the_help_command_prints_what_the_option_prints(
    finetuning: Run, args: str
) -> None:
    ran = finetuning(["help", *args.split()])
    assert ran.exit_code == 0
    assert ran.stdout == finetuning([*args.split(), "--help"]).stdout


def test_help_of_an_unknown_command_is_rejected(finetuning: Run) -> None:
    ran = finetuning(["help", "sfx", "move"])
    assert ran.exit_code == 2
    assert "No such command 'move'" in ran.stderr
    assert finetuning(["help", "get", "x"]).exit_code == 2


def test_a_typo_gets_a_suggestion(finetuning: Run) -> None:
    ran = finetuning(["genrate", "choir"])
    assert ran.exit_code == 2
    assert "No such command 'genrate'. Did you mean 'generate'?" in ran.stderr
    assert "Did you mean" not in finetuning(["xyz"]).stderr


def test_every_module_of_commands_is_a_command() -> None:
    here = Path(import_module("finetuning_async.cli.commands").__file__ or "").parent
    assert {path.stem for path in here.glob("[!_]*.py")} == set(COMMANDS)


def _all() -> Iterator[str]:
    """The words of every command; the program itself is first, without any."""
    yield ""
    for name in COMMANDS:
        yield name
        command = import_module(f"finetuning_async.cli.commands.{name}").command
        for inner in getattr(command, "commands", ()):
            yield f"{name} {inner}"


def test_help_fits_a_terminal(finetuning: Run) -> None:
    for args in _all():
        ran = finetuning([*args.split(), "-h"])
        assert ran.exit_code == 0, args
        assert max(map(len, ran.stdout.splitlines())) <= 80, args
        commands = ran.stdout.partition("\nCommands:\n")[2].partition("\n\n")[0]
        assert "..." not in commands  # click truncates what is too long


def test_help_imports_neither_client_nor_rich() -> None:
    package = finetuning_async.__path__[0]
    args = [sys.executable, "-c", HELP_WITHOUT_THE_PACKAGE, package, ",".join(_all())]
    ran = subprocess.run(args, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_version_is_that_of_the_package(finetuning: Run) -> None:
    ran = finetuning(["--version"])
    assert ran.stdout == f"finetuning {finetuning_async.__version__}\n"


def test_main_returns_the_exit_code_or_exits_with_it() -> None:
    assert program.main(["--version"], standalone_mode=False) == 0
    with pytest.raises(SystemExit) as left:
        program.main(["--version"])
    assert left.value.code == 0


@pytest.mark.parametrize(
    "module", [_batch_view, _progress_bar, _output, _file_names, _media_redirects]
)
def test_the_examples_in_the_docstrings_are_right(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("title", "prompt", "name"),
    [
        ("Night, 2 a.m.", "x", "night-2-a-m-abcdefgh.mp3"),
        (None, "Lofi chill", "lofi-chill-abcdefgh.mp3"),
        (None, "夜のピアノ", "夜のピアノ-abcdefgh.mp3"),
        (None, "?!", "generation-abcdefgh.mp3"),
        ("", "", "generation-abcdefgh.mp3"),
        ("a" * 39 + " b", "", "a" * 39 + "-abcdefgh.mp3"),
    ],
)
def test_the_default_file_name_is_the_vendors(
    title: str | None, prompt: str, name: str
) -> None:
    track = Generation(id="abcdefghij", status="completed", title=title, prompt=prompt)
    assert _file_names.default_file_name(track) == name


def test_the_file_of_an_effect_without_a_prompt_is_named_sound_effect() -> None:
    effect = SoundEffect(id="abcdefghij", status="completed")
    assert _file_names.default_file_name(effect) == "sound-effect-abcdefgh.mp3"


def test_an_id_cannot_escape_the_folder() -> None:
    track = Generation(id="../../etc", status="completed", prompt="x")
    assert "/" not in _file_names.default_file_name(track)


@given(st.text())
def test_a_slug_is_always_a_safe_name(text: str) -> None:
    made = _file_names.slug(text)
    assert len(made) <= 40
    assert len(made.encode()) <= 160
    assert made == made.strip("-") == normalize("NFC", made)
    assert all(c == "-" or c.isalnum() or category(c)[0] == "M" for c in made)
    assert not category(made[:1] or "a").startswith("M")


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.1, 1e3))
def test_a_bar_grows_and_is_never_full(a: float, b: float, expected: float) -> None:
    low, high = sorted((a, b))
    smaller = _progress.fraction(low, expected)
    larger = _progress.fraction(high, expected)
    assert 0 <= smaller <= larger < 1


def test_a_bar_shows_time_first_and_bytes_later() -> None:
    task = Task(0, "x", None, 0, _get_time=lambda: 35.0)  # type: ignore[arg-type]  # ids are ints
    task.start_time = 0.0
    assert _progress_bar._fraction_done(task) is None
    task.fields["expected"] = 70.0
    assert _progress_bar._fraction_done(task) == pytest.approx(0.4)
    task.total, task.completed = 200, 50
    assert _progress_bar._fraction_done(task) == 0.25
