"""What pyproject.toml says of the package, and what holds."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import finetuning_async

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads(
    (ROOT / "pyproject.toml").read_text(encoding="utf-8")
)["project"]
SOURCES: Final = sorted(Path(finetuning_async.__file__).parent.rglob("*.py"))
POSIX_METHODS: Final = {
    "add_signal_handler": (),
    "open_signal_receiver": ("cli/_run.py",),
    "rename": (),
}
"""What a lint rule cannot see by its name, and the modules that guard it."""


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
    assert pythons == ["Programming Language :: Python :: 3.11"]
    assert sys.version_info >= (3, 11)


def test_the_reference_needs_no_other_extra_than_its_own() -> None:
    named = {
        name.partition(">")[0] for name in PROJECT["optional-dependencies"]["docs"]
    }
    assert named >= {"pdoc", "pytest", "trio"}  # finetuning_async.testing


def test_no_call_that_windows_lacks_is_unguarded() -> None:
    root = Path(finetuning_async.__file__).parent
    used = {
        (node.attr, file.relative_to(root).as_posix())
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in POSIX_METHODS
    }
    assert used == {
        (name, file) for name, where in POSIX_METHODS.items() for file in where
    }


def test_text_files_are_opened_with_their_encoding() -> None:
    """Elsewhere the default is not UTF-8."""
    calls = [
        (file.name, node.lineno)
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("read_text", "write_text")
        and not node.args[node.func.attr == "write_text" :]
        and "encoding" not in {keyword.arg for keyword in node.keywords}
    ]
    assert calls == []
