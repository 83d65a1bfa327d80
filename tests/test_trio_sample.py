"""Which tests run on trio as well, whatever the sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests._trio_sample import FILES, FOLDERS, OF_THE_LOOP, runs_on_asyncio_only

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "line",
    [
        "with anyio.CancelScope() as scope:",
        "with pytest.raises(TimeoutError), anyio.fail_after(3):",
        "async with anyio.create_task_group() as tasks:",
        "await anyio.to_thread.run_sync(work)",
        "async with KeyedLock() as lock:",
        "await client.aclose()",
        "            break",
        "now = anyio.current_time()",
    ],
)
def test_what_is_about_the_event_loop_runs_on_both(line: str) -> None:
    assert OF_THE_LOOP.search(line)


def test_all_folders_and_files_of_the_sample_exist(pytestconfig: pytest.Config) -> None:
    tests: Path = pytestconfig.rootpath / "tests"
    assert all((tests / name).is_dir() for name in FOLDERS)
    assert all((tests / name).is_file() for name in FILES)


def test_no_run_on_asyncio_and_no_other_test_is_left_out(
    request: pytest.FixtureRequest,
) -> None:
    left_out = [item for item in request.session.items if runs_on_asyncio_only(item)]
    assert left_out == [] or request.config.getoption("--long")
    assert not runs_on_asyncio_only(request.node)
