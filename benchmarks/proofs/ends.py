"""A blocking client ends at once, whatever its threads are doing with it.

Each run follows from its seed, but for the threads. Either some threads make random
calls, and the client is closed meanwhile; or the main thread makes one, and gets one
Ctrl-C or two. Then each call must have ended, with its result or the announced error;
the client must close, and its thread end.

``python -m benchmarks proofs ends [--runs N] [--seed N]``
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
from anyio.from_thread import start_blocking_portal

from benchmarks._machine import describe
from finetuning_async import ClientClosedError, FinetuningError, GenerationRequest
from finetuning_async.emulator import Emulator, serve
from finetuning_async.sync import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE: Final = 30.0
"""Seconds after which a run hangs: what a create in flight gets, and more."""

SWITCHES: Final = (1e-6, 1e-5, 1e-4, 5e-3)
"""Seconds that a thread may run; 5 ms is Python's own."""

ANNOUNCED: Final = (ClientClosedError, KeyboardInterrupt)
"""How a call may end that is cut short."""

SONGS: Final = [GenerationRequest("rain", idempotency_key=str(n)) for n in range(8)]


def _many(client: Client) -> None:
    with client.generate_many(SONGS) as outcomes:
        list(outcomes)


def _first_of_many(client: Client) -> None:
    songs = (GenerationRequest("rain") for _ in range(30))
    with client.generate_many(songs, on_submitted=lambda _: None) as outcomes:
        next(outcomes)


def _resumed(client: Client) -> None:
    with client.resume_all() as outcomes:
        list(outcomes)


def _played(client: Client) -> None:
    with client.open_audio(client.generate("rain")) as audio:
        list(audio)


def _watched(client: Client) -> None:
    list(client.watch(client.generations.create("rain")))


def _listed(client: Client) -> None:
    for _ in range(20):
        list(client.generations.list())


def _generated(client: Client) -> None:
    client.generate("rain", idempotency_key="0", on_update=lambda _: None)


def _alone(client: Client) -> None:
    client.generate("rain")


CALLS: Final[tuple[Callable[[Client], None], ...]] = (
    *(_many, _first_of_many, _resumed, _played, _watched, _listed, _generated, _alone),
)


@attrs.define(eq=False)
class Tally:
    """The results of runs.

    Attributes:
        ends: How often calls ended in each way.
        wrong: What no call may raise.
    """

    ends: Counter[str] = attrs.field(factory=Counter)
    wrong: list[str] = attrs.field(factory=list)

    def attempt(self, call: Callable[[Client], None], client: Client) -> None:
        """Make a call, and count how it ends."""
        end = "whole"
        try:
            call(client)
        except ANNOUNCED as error:
            end = type(error).__name__
        except Exception as error:
            self.wrong.append(f"{call.__name__}: {error!r}")
        self.ends[end] += 1


@contextmanager
def service() -> Iterator[tuple[Emulator, str]]:
    """An emulator on a port, with quick tracks and limits that let calls wait."""
    emulator = Emulator(speed=100, generation_time=(20, 30), audio=bytes(100_000))
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(emulator),
        portal.wrap_async_context_manager(serve(emulator)) as url,
    ):
        yield emulator, url


def play(seed: int, emulator: Emulator, url: str, tally: Tally) -> None:
    """One run; call it in the main thread."""
    rng = random.Random(seed)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(rng.choice(SWITCHES))
    key = f"ft_live_{uuid.uuid4().hex}"
    emulator.add_account(key)
    limits = emulator.rate_limits
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/tracks.db"
            client = Client(key, base_url=url, rate_limits=limits, journal=path)
            (_close if rng.random() < 0.5 else _interrupt)(client, rng, tally)
            client.close()
    finally:
        sys.setswitchinterval(usual)


def _close(client: Client, rng: random.Random, tally: Tally) -> None:
    threads = [
        threading.Thread(target=tally.attempt, args=(rng.choice(CALLS), client))
        for _ in range(rng.randint(1, 3))
    ]
    for thread in threads:
        thread.start()
    time.sleep(rng.random() ** 2 * 0.4)
    client.close()
    for thread in threads:
        thread.join()


class _CtrlC:
    """Raises `KeyboardInterrupt` while it is armed."""

    def __init__(self) -> None:
        self.is_armed = True

    def __call__(self, *_: object) -> None:
        if self.is_armed:
            raise KeyboardInterrupt


def _interrupt(client: Client, rng: random.Random, tally: Tally) -> None:
    pauses = [rng.random() ** 2 * 0.4]
    if rng.random() < 0.5:  # a second one: together with the first, or later
        pauses.append(rng.choice((0.0, rng.random() * 0.1)))
    handler, main, is_over = _CtrlC(), threading.get_ident(), threading.Event()

    def press() -> None:
        for pause in pauses:
            if not is_over.wait(pause):
                signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, handler)
    thread = threading.Thread(target=press)
    try:
        thread.start()
        tally.attempt(rng.choice(CALLS), client)
        handler.is_armed = False
    except KeyboardInterrupt:  # it came between the call and this
        handler.is_armed = False
    is_over.set()
    thread.join()
    signal.signal(signal.SIGINT, before)
    try:
        client.me()  # it can be used again
    except FinetuningError as error:
        tally.wrong.append(f"after a Ctrl-C: {error!r}")


def main(arguments: list[str]) -> bool:
    """Play the runs; returns whether each ended, and as announced."""
    parser = argparse.ArgumentParser(prog="ends")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    options = parser.parse_args(arguments)
    print(describe("httpx", "anyio"))
    logging.disable(logging.CRITICAL)  # what is lost is logged
    tally = Tally()
    with service() as (emulator, url):
        for seed in range(options.seed, options.seed + options.runs):
            # One that hangs ends the proof, and shows where each thread is.
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            play(seed, emulator, url, tally)
            faulthandler.cancel_dump_traceback_later()
    ends = ", ".join(f"{n} {name}" for name, n in tally.ends.most_common())
    print(f"{options.runs} runs from seed {options.seed}: none hung\n  calls: {ends}")
    for line in tally.wrong[:20]:
        print(f"  {line}")
    return not tally.wrong
