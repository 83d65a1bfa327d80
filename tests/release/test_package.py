"""What pyproject.toml says of the package, and what holds."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import finetuning_async

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads(
    (ROOT / "pyproject.toml").read_text(encoding="utf-8")
)["project"]
SOURCES: Final = sorted(Path(finetuning_async.__file__).parent.rglob("*.py"))
POSIX_METHODS: Final = {"add_signal_handler", "open_signal_receiver", "rename"}
"""What a lint rule cannot see by its name."""


def test_the_version_is_in_one_place() -> None:
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]
    assert version("finetuning-async") == finetuning_async.__version__
    text = f'"{finetuning_async.__version__}"'
    holders = [file.name for file in SOURCES if text in file.read_text("utf-8")]
    assert holders == ["_version.py"]


def test_the_changelog_knows_the_version_or_what_is_not_released() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = [line for line in changelog.splitlines() if line.startswith("## [")]
    assert headings[0].startswith(
        ("## [Unreleased]", f"## [{finetuning_async.__version__}]")
    )


def test_classifiers_name_only_what_the_suite_runs_on() -> None:
    claimed = [name for name in PROJECT["classifiers"] if name.count("::") >= 2]
    systems = [name for name in claimed if name.startswith("Operating System")]
    pythons = [name for name in claimed if "Python :: 3." in name]
    assert systems == ["Operating System :: POSIX :: Linux"]
    minors = [name.rpartition(".")[2] for name in pythons]
    assert minors == ["11", "12", "13"]
    assert sys.version_info >= (3, 11)


def test_the_reference_needs_no_other_extra_than_its_own() -> None:
    named = {
        name.partition(">")[0] for name in PROJECT["optional-dependencies"]["docs"]
    }
    assert named >= {"pdoc", "pytest", "trio"}  # finetuning_async.testing


LACKING: Final = """
import sys
from importlib import import_module
for pair in sys.argv[1:]:
    module, lacking = pair.split(":")
    sys.modules[lacking] = None
    try:
        loaded = import_module("finetuning_async." + module)
        [getattr(loaded, name) for name in loaded.__all__]  # it is lazy
    except ImportError as error:
        print(error)
    del sys.modules[lacking]
"""
NEEDS: Final = {
    "batch": ("filelock",),
    "emulator": ("lameenc",),
    "fastapi": ("sse_starlette",),
    "otel": ("opentelemetry",),
    "postgres": ("psycopg",),
    "procrastinate": ("filelock", "procrastinate", "psycopg"),
    "redis": ("redis.asyncio",),
    "shared": ("filelock",),
}


def test_a_module_names_what_it_lacks_and_the_one_extra_that_brings_it() -> None:
    pairs = [(module, lack) for module, lacks in NEEDS.items() for lack in lacks]
    words = [f"{module}:{lack}" for module, lack in pairs]
    ran = subprocess.run(
        [sys.executable, "-c", LACKING, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    for line, (module, lack) in zip(ran.stdout.splitlines(), pairs, strict=True):
        name = "the emulator" if module == "emulator" else f"finetuning_async.{module}"
        said, hint = line.split(": ")
        assert said.startswith(f"{name} needs {lack}")  # or a module in it
        assert hint == f"pip install 'finetuning-async[{module}]'"


@cache
def nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text("utf-8"))))


def test_nothing_is_called_that_windows_lacks() -> None:
    root = Path(finetuning_async.__file__).parent
    used = {
        (node.attr, file.relative_to(root).as_posix())
        for file in SOURCES
        for node in nodes(file)
        if isinstance(node, ast.Attribute) and node.attr in POSIX_METHODS
    }
    assert used == set()


def test_text_files_are_opened_with_their_encoding() -> None:
    """Elsewhere the default is not UTF-8."""
    calls = [
        (file.name, node.lineno)
        for file in SOURCES
        for node in nodes(file)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("read_text", "write_text")
        and not node.args[node.func.attr == "write_text" :]
        and "encoding" not in {keyword.arg for keyword in node.keywords}
    ]
    assert calls == []
