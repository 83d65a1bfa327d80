"""The blocking client: calls, lists, blocks, callbacks, threads, and its end."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import sqlite3
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from finetuning_async import (
    ClientClosedError,
    FinetuningError,
    GenerationRequest,
    InvalidRequestError,
    NotFoundError,
    Outcome,
    RateLimit,
    RateLimits,
)
from finetuning_async.sync import Client
from tests._secret_canary import HOOK, assert_clean, everything_of
from tests._served_emulator import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from finetuning_async import Progress
    from finetuning_async.emulator import Emulator


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Emulator, str]]:
    with served() as (emulator, url):
        yield emulator, url


def new_key(emulator: Emulator) -> str:
    """The key of a new account."""
    key = f"ft_live_{uuid.uuid4().hex}"
    emulator.add_account(key)
    return key


@pytest.fixture
def make(service: tuple[Emulator, str]) -> Iterator[Any]:
    """Makes clients, which are closed at the end."""
    emulator, url = service
    made: list[Client] = []

    def new(**options: Any) -> Client:
        options = {"rate_limits": emulator.rate_limits, **options}
        made.append(Client(new_key(emulator), base_url=url, **options))
        return made[-1]

    yield new
    for client in made:
        client.close()


@pytest.fixture
def client(make: Any) -> Client:
    return make()  # type: ignore[no-any-return]


def loop_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "finetuning_async.sync"]


def wait_until(true: Any) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# Calls ----------------------------------------------------------------------------


def test_a_track_is_made_and_saved(client: Client, tmp_path: Path) -> None:
    track = client.generate("rain", duration=30)
    path = client.download(track, tmp_path / "rain.mp3")
    assert (track.status, path.stat().st_size) == ("completed", 100_000)
    assert client.wait_for_completion(track.id).id == track.id
    assert client.progress(track).fraction == 1.0
    assert client.rate_limit_status().creates.limit == 10
    client.mark_changed(track.id)
    client.publish_changes()


def test_lists_are_iterated_over_or_read_page_by_page(client: Client) -> None:
    made = [client.generations.create(f"track {n}").id for n in range(5)]
    rows = [row.id for row in client.generations.list(limit=2)]
    assert rows[:5] == made[::-1]
    page = client.generations.list(limit=2).page()
    assert ([row.id for row in page], len(page), page.has_more) == (rows[:2], 2, True)
    after = page.next_page()
    assert after is not None
    assert (page.next_offset, after.items[0].id) == (2, rows[2])
    assert client.generations.delete(made).succeeded == tuple(made)
    assert list(client.playlists.list()) == []


def test_a_page_can_be_pickled_but_then_fetches_no_other(client: Client) -> None:
    for number in range(2):
        client.generations.create(f"track {number}")
    page = client.generations.list(limit=1).page()
    copy = pickle.loads(pickle.dumps(page))  # noqa: S301 - our own
    assert copy == page
    with pytest.raises(FinetuningError, match="offset=1"):
        copy.next_page()


def test_the_states_of_a_track_come_one_by_one(client: Client) -> None:
    states = [state.status for state in client.watch(client.generations.create("rain"))]
    assert states[-1] == "completed"
    with client.watch(client.generations.create("wind")) as watched:
        assert next(watched).status
    assert list(watched) == []
    watched.close()


def test_audio_is_read_piece_by_piece(client: Client) -> None:
    track = client.generate("rain", duration=30)
    with client.open_audio(track, start=20_000, timeout=5) as audio:
        assert (audio.start, audio.end, audio.size) == (20_000, 100_000, 100_000)
        assert (audio.content_type, sum(map(len, audio))) == ("audio/mpeg", 80_000)
    with pytest.raises(InvalidRequestError, match="start must be"):
        client.open_audio(track, start=-1)
    audio = client.open_audio(track, start=200_000)
    with pytest.raises(InvalidRequestError):
        audio.__enter__()
    audio.__exit__(None, None, None)


def test_an_error_is_raised_as_the_async_client_raises_it(client: Client) -> None:
    with pytest.raises(NotFoundError, match="404"):
        client.generations.get("no-such-track")
    with pytest.raises(InvalidRequestError, match="duration must be"):
        client.generate("rain", duration=1000)
    with pytest.raises(InvalidRequestError, match="priority must be"):
        client.with_options(priority="urgent")  # type: ignore[arg-type]  # refused
    with pytest.raises(TypeError, match="duratio"):
        client.generate("rain", duratio=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidRequestError, match="journal must be"):
        _ = client.journal


def test_no_traceback_shows_a_secret(client: Client) -> None:
    calls: list[Any] = [
        lambda: client.generate("rain", webhook=HOOK, duration=1000),
        lambda: client.generate("rain", webhook=HOOK, on_submitted=3),  # type: ignore[arg-type]
        lambda: client.generations.create("rain", webhook=HOOK, wrong=3),  # type: ignore[call-arg]
        lambda: client.with_options(headers={"x": HOOK}, max_retries=-1),
        lambda: Client(HOOK, max_retries=-1),
        lambda: Client(HOOK, wrong=HOOK),  # type: ignore[call-arg]
    ]
    for call in calls:
        with pytest.raises((FinetuningError, TypeError)) as caught:
            call()
        assert_clean("the error", *everything_of(caught.value))


def test_a_journal_is_shared_with_the_views(make: Any, tmp_path: Path) -> None:
    client = make(journal=tmp_path / "tracks.db")
    view = client.with_options(priority="low")
    first = view.generate("rain", idempotency_key="order-1")
    assert client.generate("rain", idempotency_key="order-1").id == first.id
    assert client.resume("order-1").id == first.id
    assert [entry.key for entry in client.journal.entries()] == ["order-1"]
    with client.resume_all() as outcomes:
        assert list(outcomes) == []
    assert client.journal.forget("order-1")
    assert client.journal.get("order-1") is None


# Callbacks ------------------------------------------------------------------------


def test_callbacks_run_in_the_thread_of_the_call(
    client: Client, tmp_path: Path
) -> None:
    database = sqlite3.connect(tmp_path / "states.db")  # belongs to this thread
    database.execute("CREATE TABLE state (id, status)")

    def save(state: Any) -> None:
        row = (state.id, client.generations.get(state.id).status)
        database.execute("INSERT INTO state VALUES (?, ?)", row)

    track = client.generate("rain", on_submitted=save, on_update=save)
    saved = database.execute("SELECT DISTINCT id FROM state").fetchall()
    assert saved == [(track.id,)]
    sizes: list[int] = []
    client.download(track, tmp_path, on_progress=lambda size, _: sizes.append(size))
    assert sizes[-1] == 100_000
    database.close()


def test_an_async_callback_runs_in_the_event_loop(client: Client) -> None:
    threads = []

    async def note(_: Any) -> None:
        await anyio.lowlevel.checkpoint()
        threads.append(threading.current_thread().name)

    client.generate("rain", on_update=note)
    assert set(threads) == {"finetuning_async.sync"}


def test_an_error_of_a_callback_ends_its_call(client: Client) -> None:
    def fail(state: Any) -> None:
        raise StopIteration(state.id)  # which a coroutine cannot raise

    with pytest.raises(RuntimeError) as caught:
        client.generate("rain", on_update=fail)
    assert isinstance(caught.value.__cause__, StopIteration)


def test_what_on_waiting_raises_is_logged(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    threads = []

    def fail(event: Any) -> None:
        threads.append(threading.current_thread())
        raise ValueError(event.kind)

    limits = RateLimits(creates=RateLimit(1, per=0.4), reads=RateLimit(60, per=0.6))
    client = make(rate_limits=limits)
    client.generations.create("rain")
    client.generate("wind", on_waiting=fail)
    assert threads == [threading.current_thread()]
    assert "ValueError: music" in caplog.text


def test_progress_is_reported_in_the_thread_of_the_iteration(client: Client) -> None:
    seen: list[tuple[threading.Thread, float]] = []

    def note(_: Any, progress: Progress) -> None:
        seen.append((threading.current_thread(), progress.fraction))

    songs = [GenerationRequest("rain")]
    with client.generate_many(songs, on_track_progress=note) as outcomes:
        assert [outcome.error for outcome in outcomes] == [None]
    assert {thread for thread, _ in seen} == {threading.current_thread()}
    assert seen[-1][1] == 1.0


def test_a_call_from_the_event_loop_says_what_is_wrong(make: Any) -> None:
    errors: list[FinetuningError] = []

    def on_event(_: Any) -> None:
        for call in (own.me, own.close):
            with pytest.raises(FinetuningError, match="would wait for itself") as error:
                call()
            errors.append(error.value)

    own = make(on_event=on_event)
    own.me()
    assert errors


# Many at once ---------------------------------------------------------------------


def test_many_tracks_are_made_and_each_outcome_comes_as_it_ends(
    client: Client,
) -> None:
    here, read_in, told_in = threading.get_ident(), set(), set()

    def songs() -> Iterator[GenerationRequest]:
        for number in range(5):
            read_in.add(threading.get_ident())
            yield GenerationRequest(f"song {number}")

    def told(*_: Any) -> None:
        told_in.add(threading.get_ident())

    telling: dict[str, Any] = {
        "on_submitted": told,
        "on_track_progress": told,
        "on_update": told,
    }
    with client.generate_many(songs(), **telling) as outcomes:
        done = list(outcomes)
    assert {outcome.request.prompt for outcome in done} == {
        f"song {number}" for number in range(5)
    }
    assert all(outcome.result().status == "completed" for outcome in done)
    assert (outcomes.pending, outcomes.in_doubt) == ((), ())
    assert read_in == told_in == {here}


def test_a_block_that_is_left_early_names_what_goes_on(client: Client) -> None:
    requests = [GenerationRequest(f"song {number}") for number in range(4)]
    with client.generate_many(requests) as outcomes:
        next(outcomes)
    assert "pending=" in repr(outcomes)
    for track_id in outcomes.pending:
        assert client.wait_for_completion(track_id).status == "completed"


def test_a_block_must_be_entered_once(client: Client) -> None:
    outcomes = client.generate_many([])
    with pytest.raises(RuntimeError, match="in a block"):
        next(outcomes)
    with outcomes:
        assert list(outcomes) == []
    with pytest.raises(RuntimeError, match="only once"):
        outcomes.__enter__()


def test_an_error_of_the_source_comes_after_the_outcomes(client: Client) -> None:
    def songs() -> Iterator[GenerationRequest]:
        yield GenerationRequest("song")
        raise KeyError("songs.csv")

    done: list[Outcome] = []
    with client.generate_many(songs()) as outcomes:
        with pytest.raises(KeyError, match=r"songs\.csv"):
            done.extend(outcomes)
    assert len(done) == 1


def test_threads_share_the_outcomes_of_one_block(client: Client) -> None:
    requests = [GenerationRequest(f"song {number}") for number in range(8)]
    with client.generate_many(requests) as outcomes:
        with ThreadPoolExecutor(4) as pool:
            taken = list(pool.map(lambda _: list(outcomes), range(4)))
    assert len([outcome for part in taken for outcome in part]) == 8


def test_fifty_threads_share_one_event_loop_and_its_limits(
    service: tuple[Emulator, str], client: Client
) -> None:
    client.me()
    threads, refused = len(loop_threads()), service[0].count(status=429)
    with ThreadPoolExecutor(50) as pool:
        rows = list(pool.map(lambda _: client.generations.list().page(), range(100)))
    assert len(rows) == 100
    assert len(loop_threads()) == threads
    assert service[0].count(status=429) == refused


# Other kinds of callers -----------------------------------------------------------


def test_it_works_where_an_event_loop_runs_as_in_a_notebook(client: Client) -> None:
    async def cell() -> str:
        return client.generate("rain").status

    assert asyncio.run(cell()) == "completed"
    assert anyio.run(cell, backend="trio") == "completed"


SPAN: ContextVar[str] = ContextVar("SPAN", default="none")


def test_what_is_sent_belongs_to_the_context_of_the_call(make: Any) -> None:
    spans = set()
    client = make(on_event=lambda _: spans.add(SPAN.get()))
    SPAN.set("checkout")
    client.me()
    assert spans == {"checkout"}


# The end --------------------------------------------------------------------------


def test_a_closed_client_says_so_and_can_be_closed_again(client: Client) -> None:
    client.me()
    view, states = client.with_options(share="x"), client.watch("a-track")
    assert not client.is_closed
    view.close()
    client.close()
    assert client.is_closed
    assert repr(client).startswith("<sync.Client http://127.0.0.1")
    assert repr(client).endswith("closed>")
    for call in (client.me, view.generations.list().page, states.__next__):
        with pytest.raises(ClientClosedError, match="make a new Client"):
            call()
    states.close()


def test_a_client_that_was_never_used_has_no_thread(make: Any) -> None:
    before = len(loop_threads())
    with make():
        assert len(loop_threads()) == before


def test_closing_ends_the_waits_of_other_threads(client: Client) -> None:
    track = client.generations.create("rain")
    begun = threading.Barrier(3)

    def wait(call: Any) -> type[BaseException]:
        begun.wait()
        with pytest.raises(FinetuningError) as caught:
            call()
        return caught.type

    waits = [
        lambda: client.wait_for_completion("no-track-yet", timeout=60),
        lambda: list(client.watch("no-track-yet", timeout=60)),
    ]
    with ThreadPoolExecutor() as pool:
        ended = [pool.submit(wait, call) for call in waits]
        begun.wait()
        client.wait_for_completion(track)
        client.close()
    assert [each.result() for each in ended] == [ClientClosedError] * 2


def test_closing_ends_a_block_of_another_thread(
    service: tuple[Emulator, str], client: Client
) -> None:
    posts = service[0].count(method="POST")

    def run() -> list[Any]:
        with client.generate_many([GenerationRequest("rain")] * 30) as outcomes:
            return [outcome.error for outcome in outcomes]

    with ThreadPoolExecutor() as pool:
        running = pool.submit(run)
        wait_until(lambda: service[0].count(method="POST") > posts)
        client.close()
        error = running.exception(timeout=5)
    assert isinstance(error, ClientClosedError)


def test_a_callback_may_close_the_client(client: Client) -> None:
    with pytest.raises(ClientClosedError):
        client.generate("rain", on_update=lambda _: client.close())
    assert client.is_closed


def test_a_client_that_is_dropped_ends_its_thread(
    service: tuple[Emulator, str], caplog: pytest.LogCaptureFixture
) -> None:
    emulator, url = service
    before = loop_threads()
    client = Client(new_key(emulator), base_url=url)
    rows = iter(client.generations.list())
    next(rows, None)
    del client, rows
    gc.collect()
    wait_until(lambda: loop_threads() == before)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
