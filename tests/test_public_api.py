"""What `import finetuning_async` exports, and what it does not load."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import finetuning_async

OPTIONAL = (
    "starlette click rich sqlite3 redis procrastinate opentelemetry lameenc uvicorn"
)


def test_every_public_name_is_in_all_and_all_is_sorted() -> None:
    assert finetuning_async.__all__ == sorted(finetuning_async.__all__)
    assert set(finetuning_async.__all__) <= set(dir(finetuning_async))
    for name in finetuning_async.__all__:
        assert getattr(finetuning_async, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        getattr(finetuning_async, "nothing_of_ours")  # noqa: B009 - typed, it has none


def test_type_checkers_see_the_names_that_exist_at_run_time() -> None:
    source = Path(finetuning_async.__file__).read_text()
    imported = re.findall(r"(\w+) as \1\b", source.partition("__all__")[0])
    assert sorted(imported) == finetuning_async.__all__


def test_the_package_is_marked_as_typed() -> None:
    assert files(finetuning_async).joinpath("py.typed").is_file()


def test_importing_it_loads_nothing_optional() -> None:
    # httpx brings click and rich by itself where they are installed.
    script = (
        "import sys, httpx; before = set(sys.modules); import finetuning_async;"
        "new = set(sys.modules) - before;"
        f"print([n for n in '{OPTIONAL}'.split() if n in new])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_class_and_function_has_a_docstring() -> None:
    named = {name: getattr(finetuning_async, name) for name in finetuning_async.__all__}
    silent = [
        name
        for name, value in named.items()
        if isinstance(value, type) and not (value.__doc__ or "").strip()
    ]
    assert silent == []


def test_importing_only_the_client_class_loads_little() -> None:
    script = (
        "import sys, httpx; import finetuning_async; finetuning_async.AsyncClient;"
        "print(sum(name.startswith('finetuning_async') for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) <= 25
