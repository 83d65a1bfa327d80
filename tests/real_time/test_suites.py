"""Test suites of users, with anyio's plugin and with pytest-asyncio, in processes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

from tests.release._examples import examples
from tests.release._guides import ROOT, programs

if TYPE_CHECKING:
    from pathlib import Path

SUITES: Final = [example for example in examples() if example.is_a_suite]
FIXTURES: Final = "finetuning_async.testing.fixtures"

OTHERS: Final = (
    *("faker", "hypothesispytest", "pook", "pytest_httpx", "pytest_httpx2", "respx"),
    *("timeout", "xdist"),
)
"""Plugins that are here for other tests; to load them takes as long as the rest."""

USES_THE_FIXTURES: Final = f'pytest_plugins = ["{FIXTURES}"]\n'

WITH_A_BACKEND: Final = """
import pytest
from finetuning_async.testing import jumping_backend

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return jumping_backend(request.param)
"""

TESTS: Final = """
import time
import anyio, pytest
MARK

async def test_a_track_costs_a_credit_and_an_hour_no_time(emulator, client):
    await client.generate("rain", webhook="https://me.example/hook")
    await anyio.sleep(3600)
    assert len(emulator.ledger) == 1

async def test_each_test_has_an_account_of_its_own(emulator, client):
    assert (await client.me()).total_remaining == 2000
    async with client.generate_many([]) as outcomes:
        assert [outcome async for outcome in outcomes] == []

async def test_one_without_them_has_the_usual_clock():
    began = time.monotonic()
    await anyio.sleep(0.3)
    assert time.monotonic() - began > 0.25
"""

ASYNCIO: Final = "pytestmark = pytest.mark.asyncio"
IN_A_MODULES_LOOP: Final = 'pytestmark = pytest.mark.asyncio(loop_scope="module")'
ANYIO: Final = "pytestmark = pytest.mark.anyio"


def run(folder: Path, *options: str, **files: str) -> tuple[dict[str, int], str]:
    """The number of tests by outcome, and the output of pytest."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"),
            *("-o", "asyncio_default_fixture_loop_scope=function"),
            *(word for name in OTHERS for word in ("-p", f"no:{name}")),
            "-rN",  # in CI its summary would repeat each error in full
            *options,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    words = ran.stdout.splitlines()[-1].strip("= ").split(" in ")[0].split(", ")
    counts = {word.split()[1]: int(word.split()[0]) for word in words}
    return counts, ran.stdout + ran.stderr


Outcomes = dict[str, int]


@attrs.frozen
class Ran:
    """Several suites that ran in one process, each in a folder of its own.

    Attributes:
        outcomes: For each of them the number of its tests by outcome.
        said: The output of pytest.
        took: Seconds for all.
    """

    outcomes: dict[str, Outcomes]
    said: str
    took: float


def run_together(folder: Path, mode: str, **suites: tuple[str, str]) -> Ran:
    """Run suites that share pytest-asyncio's mode: for each its conftest and tests."""
    for name, (conftest, test) in suites.items():
        (folder / name).mkdir()
        (folder / name / "conftest.py").write_text(conftest, encoding="utf-8")
        (folder / name / f"test_{name}.py").write_text(test, encoding="utf-8")
    began = time.monotonic()
    options = ("-v", "-o", f"asyncio_mode={mode}")
    _, said = run(folder, *options, conftest=USES_THE_FIXTURES)
    took = time.monotonic() - began
    outcomes: dict[str, Outcomes] = {name: {} for name in suites}
    for name, outcome in re.findall(r"^(\w+)/\S+::\S+ ([A-Z]+) ", said, re.MULTILINE):
        outcomes[name][outcome] = outcomes[name].get(outcome, 0) + 1
    return Ran(outcomes, said, took)


USERS_FIXTURE: Final = """
import pytest_asyncio

@pytest_asyncio.fixture
async def track(client):
    return await client.generate("rain")

async def test_it(client, track):
    assert (await client.generations.get(track.id)).status == "completed"
"""
OF_ANYIO: Final = TESTS.replace("MARK", ANYIO).partition("async def test_one_without")[
    0
]


def written_for_anyio(fixture: str) -> str:
    """A test that anyio's plugin runs, with one fixture."""
    return f"import pytest\n{ANYIO}\nasync def test_it({fixture}): ...\n"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    in_a_loop, by_itself = (
        TESTS.replace("MARK", mark) for mark in (IN_A_MODULES_LOOP, ASYNCIO)
    )
    return run_together(
        tmp_path_factory.mktemp("strict"),
        "strict",
        strict_plain=("", by_itself),
        strict_documented=(WITH_A_BACKEND, by_itself),
        module_plain=("", in_a_loop),
        module_documented=(WITH_A_BACKEND, in_a_loop),
        anyio=(WITH_A_BACKEND, OF_ANYIO),
        clock=("", written_for_anyio("jumping_clock")),
    )


@pytest.fixture(scope="module")
def auto(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    tests = TESTS.replace("MARK", "")
    return run_together(
        tmp_path_factory.mktemp("auto"),
        "auto",
        auto_plain=("", tests),
        auto_documented=(WITH_A_BACKEND, tests),
        users=("", USERS_FIXTURE),
        both=(WITH_A_BACKEND, written_for_anyio("client")),
    )


@pytest.mark.sampled(6)
@pytest.mark.parametrize("conftest", ["plain", "documented"])
@pytest.mark.parametrize("mode", ["strict", "module", "auto"])
def test_the_fixtures_work_under_pytest_asyncio(
    mode: str, conftest: str, request: pytest.FixtureRequest
) -> None:
    ran: Ran = request.getfixturevalue("auto" if mode == "auto" else "strict")
    assert ran.outcomes[f"{mode}_{conftest}"] == {"PASSED": 3}, ran.said
    assert ran.took < 30


def test_the_fixtures_work_under_anyios_plugin_beside_pytest_asyncio(
    strict: Ran,
) -> None:
    assert strict.outcomes["anyio"] == {"PASSED": 4}, strict.said


def test_a_users_fixture_may_use_them_under_pytest_asyncio(auto: Ran) -> None:
    assert auto.outcomes["users"] == {"PASSED": 1}, auto.said


def test_a_test_that_both_plugins_would_run_is_rejected_with_one_sentence(
    auto: Ran,
) -> None:
    assert auto.outcomes["both"] == {"ERROR": 2}, auto.said
    sentence = 'set asyncio_mode = "strict", or remove its anyio_backend'
    assert auto.said.count(sentence) == 2
    assert "Traceback" not in auto.said


def test_the_fixture_refuses_a_backend_whose_clock_does_not_jump(strict: Ran) -> None:
    assert strict.outcomes["clock"] == {"ERROR": 2}, strict.said
    assert strict.said.count("needs return jumping_backend(...) from the fixture") == 2


def test_fixtures_that_are_only_imported_are_rejected_under_pytest_asyncio(
    tmp_path: Path,
) -> None:
    named = "client, emulator, emulator_settings"
    counts, said = run(
        tmp_path,
        *("-o", "asyncio_mode=auto"),
        test_it=f"from {FIXTURES} import {named}\nasync def test_it(client): ...\n",
    )
    assert counts == {"error": 1}, said
    assert f'pytest-asyncio needs pytest_plugins = ["{FIXTURES}"]' in said


def test_the_test_suites_of_the_docstrings_run(tmp_path: Path) -> None:
    written: dict[str, Any] = {}
    for example in SUITES:
        is_conftest = example.text.startswith("pytest_plugins")
        name = "conftest" if is_conftest else f"test_{len(written)}"
        assert name not in written
        written[name] = example.text
    assert len(written) == 3
    counts, said = run(tmp_path, "-o", "anyio_mode=auto", **written)
    assert counts == {"passed": 4}, said


GUIDE: Final = ROOT / "finetuning_async" / "guides" / "virtual-time.md"
PLAIN, *FILES = programs(GUIDE)
NO_EXTRAS: Final = """
import sys
for name in ("starlette", "lameenc", "uvicorn"):
    sys.modules[name] = None
"""


def test_the_program_of_the_guide_prints_what_it_says() -> None:
    words = [sys.executable, "-W", "error", "-c", PLAIN]
    ran = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
    assert f"```text\n{ran.stdout}```" in GUIDE.read_text("utf-8")


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("plugin", "passed"), [("anyio", 2), ("strict", 1), ("auto", 1)]
)
def test_the_suites_of_the_guide_run_and_need_no_extra(
    plugin: str, passed: int, tmp_path: Path
) -> None:
    """Under anyio's plugin, and under pytest-asyncio in both modes."""
    conftest, test = FILES[:2] if plugin == "anyio" else FILES[2:]
    assert conftest.startswith("# conftest.py")
    mode = "strict" if plugin == "anyio" else plugin
    counts, said = run(
        tmp_path,
        *("-o", f"asyncio_mode={mode}"),
        conftest=NO_EXTRAS + conftest,
        test_it=test,
    )
    assert counts == {"passed": passed}, said
