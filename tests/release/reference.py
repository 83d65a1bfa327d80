"""Builds the reference, and fails on names and links in it that lead nowhere.

    python -m tests.release.reference [FOLDER]

It needs the extra ``docs``. A name in backticks in a docstring of ours must be one: of
the reference, of its own class or call, or of a module that can be imported.
"""

from __future__ import annotations

import builtins
import inspect
import re
import sys
import warnings
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pdoc
import pdoc.doc
import pdoc.render

from tests.release import _guide_pages
from tests.release._names import Name, first_names, modules, names
from tests.release._parameters import with_defaults
from tests.release._tasks import METHODS, TASKS, front_page, ordered

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = Path("site")
EXAMPLE: Final = re.compile(r"^Example:\n+(?=    )", re.MULTILINE)
CODE: Final = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
DOTTED: Final = re.compile(r"[A-Za-z_]\w*(\.\w+)*(\(\))?$")


def build(folder: Path) -> None:
    """Write one page per public module and guide, an index, and a search index.

    Raises:
        Warning: pdoc was not content.
    """
    more = ["finetuning_async.cli", "finetuning_async.testing.fixtures"]
    documented = [*modules(), *more]
    loaded = {name: _module(name) for name in documented}
    pdoc.render.configure(docformat="google", show_source=False, search=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in loaded.items():
        page = folder / f"{name.replace('.', '/')}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(pdoc.render.html_module(module, loaded), encoding="utf-8")
    (folder / "index.html").write_text(pdoc.render.html_index(loaded), encoding="utf-8")
    (folder / "search.js").write_text(
        pdoc.render.search_index(loaded), encoding="utf-8"
    )
    _guide_pages.write(folder)


def _module(name: str) -> pdoc.doc.Module:
    """A module as pdoc sees it, with the docstrings of aliases and of examples."""
    module = pdoc.doc.Module(import_module(name))
    if hasattr(module.obj, "__all__"):
        for found in names(name):  # what is imported when first used
            vars(module.obj).setdefault(found.name, found.value)
        if name == "finetuning_async":
            _put_in_order(module)
        docstrings = {found.name: found.docstring for found in names(name)}
        for member in module.own_members:
            if isinstance(member, pdoc.doc.Variable):
                member.docstring = docstrings[member.name]
    _show_more(module)
    return module


def _put_in_order(package: pdoc.doc.Module) -> None:
    """Let the package's page begin with the client, and show its names by task."""
    package.docstring = front_page(package.docstring) + "\n\n###### Guides\n\n"
    package.docstring += _guide_pages.links("guides/")
    first = [name for names_of_task in TASKS.values() for name in names_of_task]
    package.members = ordered(package.members, first)
    client = package.members["AsyncClient"]
    assert isinstance(client, pdoc.doc.Class)
    client.members = ordered(client.members, METHODS)


class _Class(pdoc.doc.Class):
    """A class on whose page all members are, wherever in the package they come from."""

    def _taken_from(self, member_name: str, obj: object) -> tuple[str, str]:
        module, qualname = super()._taken_from(member_name, obj)
        if module.startswith("finetuning_async"):
            return self.modulename, f"{self.qualname}.{member_name}"
        return module, qualname


pdoc.doc.Class = _Class  # type: ignore[misc]  # pdoc makes its objects by this name


def _show_more(doc: pdoc.doc.Doc[Any]) -> None:
    """Let each option name its default, and let examples be code blocks.

    For Markdown these begin after an empty line.
    """
    doc.docstring = with_defaults(doc.docstring, doc.obj)
    doc.docstring = EXAMPLE.sub("###### Example:\n\n", doc.docstring)
    if isinstance(doc, pdoc.doc.Namespace):
        for member in doc.own_members:
            _show_more(member)


def wrong_names() -> list[str]:
    """The names in backticks that are none, with where they stand."""
    known = _known()
    return sorted(
        f"{name}: `{word}`"
        for name in _described()
        for word in CODE.findall(name.docstring)
        if DOTTED.match(word) and not _is_known(word.removesuffix("()"), name, known)
    )


def _described() -> Iterator[Name]:
    for name in first_names():
        yield name
        yield from name.methods()


def _known() -> set[str]:
    known = set(dir(builtins)) | {"None"}
    for name in first_names():
        known |= {name.name, str(name)}
        known |= _parameters(name)
        if inspect.isclass(name.value):
            members = {*dir(name.value), *getattr(name.value, "__annotations__", {})}
            members |= {member.name for member in _attributes(name.value)}
            known |= {f"{name.name}.{member}" for member in members} | members
    return known


def _attributes(cls: type) -> list[pdoc.doc.Doc[Any]]:
    module = inspect.getmodule(cls)
    assert module is not None
    found = pdoc.doc.Class(module.__name__, cls.__qualname__, cls, ("", ""))
    return list(found.members.values())


def _is_known(word: str, name: Name, known: set[str]) -> bool:
    if word in known or word in _parameters(name):
        return True
    module, _, attribute = word.rpartition(".")
    if not module:
        return _is_importable(word)
    return _is_importable(module) and hasattr(import_module(module), attribute)


def _parameters(name: Name) -> set[str]:
    try:
        return set(inspect.signature(name.value).parameters)
    except (TypeError, ValueError):
        return set()


def _is_importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


class _Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given.get("id") or "", given.get("name") or ""}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")


def broken_links(folder: Path) -> list[str]:
    """The links to pages and anchors that are not there."""
    pages = {path.resolve(): _Page(path) for path in folder.rglob("*.html")}
    broken: list[str] = []
    for path, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            there = pages.get((path.parent / target).resolve() if target else path)
            if there is None or anchor not in there.anchors:
                broken.append(f"{path.name}: {link}")
    return sorted(set(broken))


def main(folder: Path = FOLDER) -> int:
    """Build and check; the number of faults, at most 1."""
    warnings.simplefilter("error")
    build(folder)
    faults = [*wrong_names(), *broken_links(folder)]
    sys.stdout.write("\n".join([*faults, f"{folder}: {len(faults)} faults", ""]))
    return min(len(faults), 1)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
