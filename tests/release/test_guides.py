"""The guides: their fragments run, their links lead somewhere, each can be found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import anyio
import pytest
from click.testing import CliRunner

from finetuning_async.cli._program import program
from finetuning_async.testing import jumping_backend
from tests.release._examples import Condition, Example, run
from tests.release._guides import GUIDES, ROOT, fragments
from tests.release._names import Name

if TYPE_CHECKING:
    from pathlib import Path

TEXTS: Final = [ROOT / "README.md", *GUIDES]
LINK: Final = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")
FRAGMENTS: Final = [
    pytest.param(fragment, id=f"{guide.stem}-{number}")
    for guide in TEXTS
    for number, fragment in enumerate(fragments(guide))
]


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_a_fragment_runs(
    fragment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    example = Example(Name("guides", "", None), "fragment", fragment)
    loop, options = jumping_backend("asyncio")
    settings = Condition({"generation_time": (20.0, 40.0)})
    anyio.run(
        run,
        example,
        settings,
        monkeypatch,
        backend=loop,
        backend_options=dict(options),
    )


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_links_lead_to_files_and_headings_that_are_there(text: Path) -> None:
    for target, anchor in LINK.findall(text.read_text("utf-8")):
        file = text.parent / target if target else text
        assert file.exists(), f"{text.name}: {target}"
        assert not anchor or anchor[1:] in anchors(file), f"{text.name}: {anchor}"


def anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_each_guide_can_be_reached_from_the_readme() -> None:
    seen, new = set[str](), ["README.md"]
    while new:
        text = ROOT / new.pop()
        links = [target for target, _ in LINK.findall(text.read_text("utf-8"))]
        found = {(text.parent / link).resolve() for link in links if link}
        names = {str(path.relative_to(ROOT)) for path in found if path.suffix == ".md"}
        new += names - seen
        seen |= names
    assert {str(guide.relative_to(ROOT)) for guide in GUIDES} <= seen


def test_the_command_lists_the_guides_and_prints_one() -> None:
    listed = CliRunner().invoke(program, ["guide"]).output.splitlines()
    assert [line.split()[0] for line in listed] == [guide.stem for guide in GUIDES]
    shown = CliRunner().invoke(program, ["guide", "faq"]).output
    assert shown == (ROOT / "finetuning_async/guides/faq.md").read_text("utf-8")


def test_an_unknown_guide_is_refused_with_the_names_of_those_there_are() -> None:
    refused = CliRunner().invoke(program, ["guide", "nothing"])
    assert refused.exit_code == 2
    assert "'nothing' is none of: " in refused.output
    assert "faq" in refused.output
