"""The guides: their fragments run, their links lead somewhere, each can be found."""

from __future__ import annotations

import re
import shlex
import sys
from typing import TYPE_CHECKING, Final

import anyio
import click
import pytest
from click.testing import CliRunner

from finetuning_async.cli._program import program
from finetuning_async.cli.commands.guide import ORDER, print_guide
from finetuning_async.testing import jumping_backend
from tests.release._examples import Condition, Example, run
from tests.release._guides import GUIDES, ROOT, fragments
from tests.release._names import Name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXTS: Final = [ROOT / "README.md", *GUIDES]
LINK: Final = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")
ANY_BLOCK: Final = re.compile(r"^```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
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


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_code_fits_a_terminal_of_80_columns(guide: Path) -> None:
    lines = "".join(ANY_BLOCK.findall(guide.read_text("utf-8"))).splitlines()
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_each_command_that_is_shown_has_these_options_and_arguments(text: Path) -> None:
    for line in commands_in(text.read_text("utf-8")):
        words = shlex.split(line, comments=True)[1:]
        command: click.Command = program
        context = click.Context(command, **program.context_settings)
        while isinstance(command, click.Group) and not words[0].startswith("-"):
            inner = command.get_command(context, words.pop(0))
            assert inner is not None, line
            command, context = inner, click.Context(inner, context)
        parser = command.make_parser(context)
        values, rest, _ = parser.parse_args(args=list(words))
        assert rest == [], line
        required = [p.name for p in command.params if p.required]
        assert words == [] or all(values.get(name) for name in required), line


def commands_in(text: str) -> Iterator[str]:
    """The calls of ``finetuning`` in shell blocks, and those in the text."""
    for block in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", "").splitlines():
            found = re.search(r"(?<![\w-])finetuning [a-z].*", line)
            if found and not line.startswith(("pip ", "mkdir ")):
                yield re.split(r" (?:[>|&])", found[0])[0]
    yield from re.findall(r"`(finetuning [a-z][^`…]*)`", text)


def test_the_command_lists_the_guides_and_prints_one() -> None:
    listed = CliRunner().invoke(program, ["guide"]).output.splitlines()
    assert [line.split()[0] for line in listed] == list(ORDER)
    assert sorted(ORDER) == [guide.stem for guide in GUIDES]
    faq = (ROOT / "finetuning_async/guides/faq.md").read_text("utf-8")
    for name in ("faq", "fa"):
        assert CliRunner().invoke(program, ["guide", name]).output == faq


def test_an_unknown_guide_is_refused_with_what_to_type_instead() -> None:
    refused = CliRunner().invoke(program, ["guide", "fqa"])
    assert refused.exit_code == 2
    assert refused.output == (
        "Error: There is no guide 'fqa'. Did you mean 'faq'?"
        " To list them: finetuning guide\n"
    )
    assert CliRunner().invoke(program, ["guide", "many"]).exit_code == 2  # two of them


def test_on_a_terminal_code_can_be_copied_and_links_name_the_guide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_guide((ROOT / "finetuning_async/guides/first-steps.md").read_text("utf-8"))
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    lines = [line.rstrip() for line in shown.splitlines()]
    code = 'track = await client.generate("calm piano", duration=30, bpm=85)'
    assert f"        {code}" in lines
    assert "(finetuning guide rate-limits)" in " ".join(shown.split())
    assert "service and plays real audio." in lines  # prose is wrapped
