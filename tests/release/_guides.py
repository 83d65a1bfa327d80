"""The guides, and the pieces of them that can be run.

A block fenced ``python`` is a whole program. One fenced ``py`` is a fragment: it sees
every name of `finetuning_async`, `anyio`, and an open `client`, and may await.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
GUIDES: Final = sorted(ROOT.glob("finetuning_async/guides/*.md"))

PRELUDE: Final = """\
# pyright: reportUnusedVariable=false, reportUnusedFunction=false
import anyio as anyio
from finetuning_async import *


async def main(client: AsyncClient) -> None:
"""
"""What a fragment is put below for a type checker."""


def fragments(text: Path) -> list[str]:
    """The fragments of a guide, as they stand."""
    return _fenced(text, "py")


def programs(text: Path) -> list[str]:
    """The whole programs of a text, as they stand."""
    return _fenced(text, "python")


def as_module(fragment: str) -> str:
    """A fragment as a module that a type checker can read."""
    return PRELUDE + textwrap.indent(fragment, "    ")


def _fenced(text: Path, kind: str) -> list[str]:
    block = re.compile(rf"^```{kind}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return block.findall(text.read_text("utf-8"))
