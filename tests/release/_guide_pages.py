"""The guides as pages of the reference, and as text for language models.

guides/NAME.html   one page each, in the look of the reference
llms.txt           what there is to read, in the form of llmstxt.org
llms-full.txt      all of it
"""

from __future__ import annotations

import html
import re
from importlib import import_module
from typing import TYPE_CHECKING, Final

import markdown2

from finetuning_async.cli.commands.guide import ORDER
from tests.release._guides import GUIDES, ROOT
from tests.release._names import modules

if TYPE_CHECKING:
    from pathlib import Path

IN_ORDER: Final = sorted(GUIDES, key=lambda guide: ORDER.index(guide.stem))
README: Final = ROOT / "README.md"
LINK: Final = re.compile(r'href="([a-z-]+)\.md(#[^"]*)?"')
EXTRAS: Final = ("fenced-code-blocks", "tables", "header-ids", "cuddled-lists")

PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} - finetuning_async</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 48rem; margin: 0 auto;
  padding: 1rem; }}
pre {{ overflow-x: auto; padding: .75rem; background: #8882; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ border: 1px solid #8886; padding: .25rem .5rem; text-align: left; }}
</style>
</head>
<body>
<nav><a href="../index.html">Reference</a> {nav}</nav>
<main>
{body}
</main>
</body>
</html>
"""


def title_of(guide: Path) -> str:
    """The first heading of a guide."""
    return guide.read_text("utf-8").partition("\n")[0].removeprefix("# ")


def write(folder: Path) -> None:
    """Write the pages and the texts into the folder of the reference."""
    pages = folder / "guides"
    pages.mkdir(parents=True, exist_ok=True)
    nav = " ".join(
        f'<a href="{guide.stem}.html">{guide.stem}</a>' for guide in IN_ORDER
    )
    for guide in GUIDES:
        body = markdown2.markdown(guide.read_text("utf-8"), extras=list(EXTRAS))
        body = LINK.sub(r'href="\1.html\2"', body)
        page = PAGE.format(title=html.escape(title_of(guide)), nav=nav, body=body)
        (pages / f"{guide.stem}.html").write_text(page, encoding="utf-8")
    (folder / "llms.txt").write_text(summary(), encoding="utf-8")
    texts = [text.read_text("utf-8") for text in (README, *IN_ORDER)]
    (folder / "llms-full.txt").write_text("\n\n".join(texts), encoding="utf-8")


def links(prefix: str) -> str:
    """A list of the guides in Markdown."""
    return "\n".join(f"- [{title_of(g)}]({prefix}{g.stem}.html)" for g in IN_ORDER)


def first_sentence(text: str) -> str:
    """The first sentence of the first paragraph."""
    paragraphs = (part for part in text.split("\n\n") if not part.startswith("#"))
    return re.split(r"(?<=[.?])\s", " ".join(next(paragraphs).split()))[0]


def summary() -> str:
    """The text of ``llms.txt``."""
    _, what, _ = README.read_text("utf-8").split("\n\n", 2)
    guides = [
        f"- [{title_of(guide)}](guides/{guide.stem}.html):"
        f" {first_sentence(guide.read_text('utf-8'))}"
        for guide in IN_ORDER
    ]
    pages = [
        f"- [{name}]({name.replace('.', '/')}.html):"
        f" {(import_module(name).__doc__ or '').partition(chr(10))[0]}"
        for name in modules()
    ]
    return "\n".join(
        (
            f"# finetuning_async\n\n> {' '.join(what.split())}\n",
            "All of the guides, in one file: [llms-full.txt](llms-full.txt)\n",
            "## Guides\n",
            *guides,
            "\n## Reference\n",
            *pages,
            "",
        )
    )
