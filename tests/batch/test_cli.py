"""``finetuning batch`` against an emulator, in virtual time."""

from __future__ import annotations

import json
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from click.testing import CliRunner, Result

from finetuning_async import GenerationRequest, batch
from finetuning_async.batch import BatchItem, _folder
from finetuning_async.batch._folder import Folder
from finetuning_async.cli import _batch_run, _event_loop
from finetuning_async.cli._batch_view import BatchView
from finetuning_async.cli._connect import budget_of
from finetuning_async.cli._exit_codes import PARTIAL
from finetuning_async.cli._program import program
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.testing import JumpingEventLoop
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from finetuning_async import AsyncClient

    Run = Callable[..., Result]

SONG = b"ID3" + bytes(100)


class RunEmulator:
    """The emulator of the next run, and what the last runs have spent."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.faults: list[Fault] = []
        self.account = "the account of all runs"
        self.runs = 0
        self.spent = 0
        self.took = 0.0

    @asynccontextmanager
    async def connected(self, plan: Any) -> AsyncGenerator[AsyncClient]:
        self.runs += 1
        settings = {"audio": SONG, "queue_size": 100, "seed": self.runs}
        service = Emulator(**{**settings, **self.settings})
        options = budget_of(plan.budget, plan.account_journal)
        async with emulated(service, rate_limits=plan.limits, **options) as (
            emulator,
            client,
        ):
            began = anyio.current_time()
            emulator.account.id = self.account
            for fault in self.faults:
                emulator.add_fault(fault)
            yield client
            self.took = anyio.current_time() - began
            self.spent -= sum(entry.amount for entry in emulator.ledger)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunEmulator:
    world = RunEmulator()
    monkeypatch.setattr(_batch_run, "_connected", world.connected)
    backend = {
        "backend": "asyncio",
        "backend_options": {"loop_factory": JumpingEventLoop},
    }
    monkeypatch.setattr(_batch_run, "BACKEND", backend)
    monkeypatch.setattr(_event_loop, "BACKEND", backend)
    monkeypatch.setenv("FINETUNING_API_KEY", "ft_live_" + "0" * 32)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return world


@pytest.fixture
def finetuning(world: RunEmulator) -> Run:
    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(program, ["batch", *arguments], input=stdin)

    return run


@pytest.fixture
def songs(tmp_path: Path) -> str:
    path = tmp_path / "songs.jsonl"
    rows = ({"tags": f"song {n}", "custom_id": f"s{n}"} for n in range(5))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def data(result: Result) -> Any:
    return json.loads(result.stdout)["data"]


def test_a_batch_is_made_and_exits_with_zero(
    finetuning: Run, world: RunEmulator, songs: str, tmp_path: Path
) -> None:
    ran = finetuning("run", songs, "--out", "album", "--json")
    assert ran.exit_code == 0, ran.stderr
    assert data(ran)["downloaded"] == data(ran)["credits_spent"] == world.spent == 5
    assert "5 new rows, 0 known" in ran.stderr
    assert "downloaded s3: s3.mp3" in ran.stderr
    assert (tmp_path / "album" / "s3.mp3").read_bytes() == SONG
    status = finetuning("status", "album", "--json")
    assert (status.exit_code, data(status)) == (0, data(ran))


def test_an_empty_input_is_said_to_be_empty(finetuning: Run) -> None:
    ran = finetuning("run", "-", "--out", "a", stdin="\n")
    assert ran.exit_code == 0, ran.stderr
    assert "0 new rows, 0 known: the input is empty" in ran.stderr


def test_rows_can_come_from_stdin_and_tags_are_written(
    finetuning: Run, tmp_path: Path
) -> None:
    ran = finetuning(
        "run", "-", "--out", "a", "--tags", stdin="tags,custom_id\nn\u00e4chte,x\n"
    )
    assert ran.exit_code == 0, ran.stderr
    content = (tmp_path / "a" / "x.mp3").read_bytes()
    assert b"TIT2" in content
    assert "n\u00e4chte".encode("utf-16") in content


def test_a_batch_writes_what_it_knows_and_reports_what_fails_the_check(
    finetuning: Run,
    world: RunEmulator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    row = json.dumps({"tags": "rain", "lyrics": "lala", "custom_id": "x"})
    ran = finetuning("run", "-", "--out", "a", "--metadata", "--check", stdin=row)
    assert ran.exit_code == 0, ran.stderr
    content = (tmp_path / "a" / "x.mp3").read_bytes()
    for part in (b"TIT2", b"COMM", b"USLT", b"lala", b"TXXX", b"seed"):
        assert part in content
    assert "x.mp3 is not an MP3; it is kept, and was paid for" in caplog.text
    (line,) = (tmp_path / "a" / "results.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["problems"] == ["is not an MP3"]
    assert world.spent == 1


def test_invalid_rows_are_reported_and_nothing_is_sent(
    finetuning: Run, world: RunEmulator
) -> None:
    wrong = '{"tags": "x"}\n{"tags": "x", "bpm": 1}\n{"tag": "x"}\n'
    ran = finetuning("run", "-", "--out", "album", stdin=wrong)
    assert ran.exit_code == 2, (ran.stderr, ran.exception)
    assert "line 2: bpm must be a number" in ran.stderr
    assert "line 3: 'tag'" in ran.stderr
    assert world.spent == 0


def test_a_dry_run_counts_and_creates_nothing(
    finetuning: Run, world: RunEmulator, songs: str, tmp_path: Path
) -> None:
    world.settings = {"credits": 3}
    ran = finetuning("run", songs, "--out", "album", "--dry-run", "--json")
    assert ran.exit_code == 0, ran.stderr
    facts = data(ran)
    assert (facts["rows"], facts["credits_needed"], facts["enough"]) == (5, 5, False)
    assert world.spent == 0
    assert not (tmp_path / "album").exists()


def test_a_dry_run_foretells_how_long_the_queue_makes_it_take(
    finetuning: Run, world: RunEmulator, tmp_path: Path
) -> None:
    world.settings = {"generation_time": (70, 70), "queue_size": 3}
    songs = tmp_path / "many.jsonl"
    songs.write_text("".join(f'{{"tags": "song {n}"}}\n' for n in range(40)))
    dry_run = ("run", str(songs), "--out", "album", "--dry-run")
    told = data(finetuning(*dry_run, "--json", "--queue", "3"))
    assert (told["queue"], told["queue_is_assumed"]) == (3, False)
    assert finetuning("run", str(songs), "--out", "album").exit_code == 0
    assert told["seconds"] == pytest.approx(world.took, rel=0.05)


def test_a_dry_run_that_does_not_know_the_queue_says_what_it_assumes(
    finetuning: Run, tmp_path: Path
) -> None:
    songs = tmp_path / "many.jsonl"
    songs.write_text("".join(f'{{"tags": "song {n}"}}\n' for n in range(200)))
    ran = finetuning("run", str(songs), "--out", "album", "--dry-run")
    assert "takes about     47 min" in ran.stdout
    assert "note: assumes that 5 tracks may be in progress at once" in ran.stderr


def test_a_dry_run_needs_no_network(
    finetuning: Run, world: RunEmulator, songs: str
) -> None:
    world.faults = [Fault("connect_refused", "/v1/me", times=None)]
    ran = finetuning("run", songs, "--out", "album", "--dry-run")
    assert ran.exit_code == 0, ran.stderr
    assert "credits needed  5" in ran.stdout
    assert "takes about     1 min 11 s" in ran.stdout
    assert "note: the credits are not checked: " in ran.stderr


def test_a_dry_run_needs_no_key(
    songs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FINETUNING_API_KEY", raising=False)
    monkeypatch.setenv("FINETUNING_CONFIG_HOME", str(tmp_path))
    run = ["batch", "run", songs, "--out", str(tmp_path / "album")]
    ran = CliRunner().invoke(program, [*run, "--dry-run"])
    assert ran.exit_code == 0, ran.stderr
    assert "credits needed  5" in ran.stdout
    assert "note: the credits are not checked: no API key" in ran.stderr
    ran = CliRunner().invoke(program, run)
    assert (ran.exit_code, "no API key found" in ran.stderr) == (2, True)


def test_a_dry_run_counts_what_earlier_runs_have_left(
    finetuning: Run, songs: str
) -> None:
    finetuning("run", songs, "--out", "album", "--max-credits", "2")
    told = data(finetuning("run", "--out", "album", "--dry-run", "--json"))
    assert (told["rows"], told["credits_needed"]) == (0, 3)
    told = data(finetuning("run", songs, "--out", "album", "--dry-run", "--json"))
    assert (told["rows"], told["known"], told["credits_needed"]) == (5, 2, 3)


def test_a_run_with_a_budget_pauses_above_it(
    finetuning: Run, world: RunEmulator, songs: str
) -> None:
    ran = finetuning("run", songs, "--out", "album", "--budget", "2")
    assert ran.exit_code == PARTIAL
    assert "Paused: nothing was sent: " in ran.stderr
    assert "To resume, raise --budget." in ran.stderr
    assert data(finetuning("status", "album", "--json"))["credits_spent"] == 2


def test_failed_rows_exit_as_partly_done_until_retried(
    finetuning: Run, world: RunEmulator, songs: str
) -> None:
    world.faults = [Fault("fail", "/v1/generations", method="POST", times=2)]
    ran = finetuning("run", songs, "--out", "album")
    assert ran.exit_code == PARTIAL
    assert "failed s" in ran.stderr
    assert finetuning("status", "album", "--json").exit_code == PARTIAL
    world.faults = []
    assert "2 planned again" in finetuning("retry-failed", "album").stderr
    ran = finetuning("run", "--out", "album", "--json")
    assert (ran.exit_code, data(ran)["credits_spent"]) == (0, 7)


def test_held_rows_exit_with_three_until_released(
    finetuning: Run, world: RunEmulator, songs: str
) -> None:
    world.faults = [
        Fault("lost_before_commit", "/v1/generations", method="POST", skip=4),
        # No reading of the credits but the first, so they prove nothing.
        Fault("status", "/v1/me", status=503, skip=2, times=None),
    ]
    ran = finetuning("run", songs, "--out", "album")
    assert ran.exit_code == 3, ran.stderr
    status = finetuning("status", "album")
    assert status.exit_code == 3
    assert "held, possibly charged: s" in status.stderr
    name = status.stderr.partition("charged: ")[2].partition(":")[0]
    assert finetuning("release", "album", name).exit_code == 0
    world.faults = []
    assert finetuning("run", "--out", "album").exit_code == 0


def test_max_credits_exits_as_partly_done(
    finetuning: Run, world: RunEmulator, songs: str
) -> None:
    ran = finetuning("run", songs, "--out", "album", "--max-credits", "2")
    assert ran.exit_code == PARTIAL
    assert "Paused: 2 credits are spent" in ran.stderr
    assert "To resume, raise --max-credits." in ran.stderr
    assert world.spent == 2


def test_a_batch_without_any_download_exits_as_failed(
    finetuning: Run, world: RunEmulator, songs: str
) -> None:
    world.faults = [Fault("fail", "/v1/generations", method="POST", times=99)]
    assert finetuning("run", songs, "--out", "album").exit_code == 1


def test_a_folder_without_a_batch_is_refused(finetuning: Run, songs: str) -> None:
    assert finetuning("run", "--out", "nowhere").exit_code == 2
    assert "contains no batch" in finetuning("status", "nowhere").stderr
    assert finetuning("status", "nowhere").exit_code == 1
    ran = finetuning("run", songs, "--out", "album", "--speed", "60")
    assert (ran.exit_code, "--speed 60 requires an emulator" in ran.stderr) == (2, True)


def test_quiet_prints_nothing(finetuning: Run, songs: str) -> None:
    ran = finetuning("run", songs, "--out", "album", "--quiet")
    assert (ran.exit_code, ran.stderr) == (0, "")


def test_a_second_runner_stops_at_once_with_a_clear_error(
    finetuning: Run, songs: str, tmp_path: Path
) -> None:
    first = Folder(tmp_path / "album")
    first.open()
    try:
        ran = finetuning("run", songs, "--out", "album")
    finally:
        first.close()
    assert ran.exit_code == 1
    assert "another runner is working in album" in ran.stderr


def test_a_network_file_system_is_warned_of(
    finetuning: Run,
    songs: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(_folder, "_mounts", lambda: "server:/x / nfs4 rw 0 0\n")
    assert finetuning("run", songs, "--out", "album").exit_code == 0
    assert "network file system (nfs4)" in caplog.text


def test_a_line_shows_the_progress(
    finetuning: Run, world: RunEmulator, songs: str
) -> None:
    world.settings = {"generation_time": (100.0, 100.0)}
    ran = finetuning("run", songs, "--out", "album")
    assert "0 of 5 done, 5 running, 0 queued, 0 failed, 0 in doubt" in ran.stderr


def test_a_file_in_an_object_store_is_named_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has a name there, but no path."""
    request = GenerationRequest("rain")
    item = BatchItem(
        custom_id="s1", key="k", request=request, file="s1.mp3", state="downloaded"
    )
    unused: Any = None
    BatchView(unused, unused, quiet=False, no_color=True).ended(item)
    assert capsys.readouterr().err == "downloaded s1: s1.mp3\n"


def test_the_command_to_go_on_names_the_journal_but_no_password(
    finetuning: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "retry_failed", lambda *_, **__: 2)
    url = "s3://bucket/album/"
    ran = finetuning("retry-failed", url, "--journal", "my notes #1")
    assert ran.stderr == (
        "2 planned again. To run them: finetuning batch run --out s3://bucket/album/"
        " --journal 'my notes #1'\n"
    )
    ran = finetuning("retry-failed", url, "--journal", "postgresql://me:secret@db/x")
    assert "--journal 'postgresql://db/x?****'\n" in ran.stderr
    ran = finetuning("retry-failed", "album")
    assert ran.stderr.endswith(" finetuning batch run --out album\n")


def test_a_full_queue_is_shown_as_what_the_next_create_waits_for(
    finetuning: Run, world: RunEmulator, songs: str
) -> None:
    world.settings = {"generation_time": (100.0, 100.0), "queue_size": 2}
    ran = finetuning("run", songs, "--out", "album")
    assert "3 queued, 0 failed, 0 in doubt, 2 credits, next create when a" in ran.stderr
    assert "next create in 0.0 s" not in ran.stderr


def test_files_without_a_journal_are_reported_then_adopted_or_made_again(
    finetuning: Run, world: RunEmulator, songs: str, tmp_path: Path
) -> None:
    assert finetuning("run", songs, "--out", "album").exit_code == 0
    shutil.rmtree(tmp_path / "album" / "batch-journal")
    ran = finetuning("run", songs, "--out", "album")
    assert ran.exit_code != 0
    for part in ("5 of these rows", "batch-journal", "--adopt", "--anew"):
        assert part in ran.stderr
    assert finetuning("run", songs, "--out", "album", "--dry-run").exit_code != 0
    dry_run = ("run", songs, "--out", "album", "--dry-run", "--json")
    assert data(finetuning(*dry_run, "--adopt"))["credits_needed"] == 0
    assert data(finetuning(*dry_run, "--anew"))["credits_needed"] == 5
    assert world.spent == 5
    (tmp_path / "album" / "results.jsonl").unlink()  # each run has a new emulator
    ran = finetuning("run", songs, "--out", "album", "--adopt")
    assert ran.exit_code == 0, ran.stderr
    assert world.spent == 5
    shutil.rmtree(tmp_path / "album" / "batch-journal")
    ran = finetuning("run", songs, "--out", "album", "--anew")
    assert ran.exit_code == 0, ran.stderr
    assert world.spent == 10
    assert (tmp_path / "album" / "s3.mp3").exists()
    assert len(list((tmp_path / "album").glob("*.mp3"))) == 10


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_the_key_of_another_account_is_refused(
    finetuning: Run, world: RunEmulator, songs: str, more: tuple[str, ...]
) -> None:
    assert finetuning("run", songs, "--out", "album").exit_code == 0
    world.account = "another account"
    ran = finetuning("run", songs, "--out", "album", *more)
    assert ran.exit_code == 1
    assert "was made by account the account of all runs" in ran.stderr
    assert "this API key belongs to account another account" in ran.stderr


def test_a_full_disk_is_reported_and_nothing_is_left_behind(
    finetuning: Run,
    world: RunEmulator,
    songs: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Folder, "free_bytes", lambda _: 20_000)
    ran = finetuning("run", songs, "--out", "album")
    assert ran.exit_code == 1
    assert "only 20 kB are free" in ran.stderr
    assert list((tmp_path / "album").iterdir()) == []
    monkeypatch.setattr(Folder, "free_bytes", lambda _: 20_000_000)
    ran = finetuning("run", songs, "--out", "album")
    assert ran.exit_code == 1
    assert "Paused: only 20.0 MB are free" in ran.stderr
    assert world.spent == 0


def test_on_a_terminal_the_table_stays_below_the_lines(
    finetuning: Run, songs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_batch_run, "is_terminal", lambda _: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich checks by itself too
    ran = finetuning("run", songs, "--out", "album")
    assert ran.exit_code == 0
    assert "downloaded s3: s3.mp3" in ran.stderr
    assert "running" in ran.stderr
