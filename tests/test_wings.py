"""The wings of the package: what type checkers see of them, and what loads them."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import finetuning_async

ROOT = Path(finetuning_async.__file__).parent
LAZY = [
    path for path in ROOT.rglob("__init__.py") if "lazy_exports(" in path.read_text()
]


def name_of(path: Path) -> str:
    return ".".join(path.parent.relative_to(ROOT.parent).parts)


def typed_names(tree: ast.Module) -> dict[str, str]:
    """The names that are imported for type checkers, each with its module."""
    blocks = [
        node.body
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        alias.asname or alias.name: node.module or ""
        for block in blocks
        for node in block
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def lazy_names(tree: ast.Module) -> set[str]:
    """The names that are loaded when they are first used."""
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_exports"
    ]
    return {
        name
        for call in calls
        for names in ast.literal_eval(call.args[1]).values()
        for name in names
    }


@pytest.mark.parametrize("path", LAZY, ids=name_of)
def test_type_checkers_see_what_a_wing_loads_lazily(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed, lazy = typed_names(tree), lazy_names(tree)
    wing = import_module(name_of(path))
    assert [name for name in lazy if getattr(wing, name, None) is None] == []
    assert lazy <= set(typed)
    for name in set(typed) - lazy:  # an alias that exists for type checkers only
        source = inspect.getsource(import_module(typed[name]))
        assert re.search(rf"^(class |def )?{name}\b", source, re.MULTILINE) is None


def test_a_name_that_a_wing_does_not_export_is_an_attribute_error() -> None:
    wing = import_module("finetuning_async._pacing")
    with pytest.raises(AttributeError, match=r"finetuning_async\._pacing.*no_such"):
        _ = wing.no_such_name


@pytest.mark.parametrize("path", LAZY, ids=name_of)
def test_entering_a_wing_loads_none_of_its_files(path: Path) -> None:
    script = (
        f"import sys, {name_of(path)};"
        f"print([m for m in sys.modules if m.startswith('{name_of(path)}._')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(ast.literal_eval(ran.stdout))
    assert loaded <= {"finetuning_async._lazy"}
